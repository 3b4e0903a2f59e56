/**
 * The options of a connection: their public shape, their defaults, and the contradictions that are refused.
 */
import * as Duration from "effect/Duration"
import * as Result from "effect/Result"
import type { Credentials } from "../Sasl.ts"
import * as SmtpCommand from "../SmtpCommand.ts"
import type { Endpoint, TlsOptions } from "../SmtpConnector.ts"
import * as SmtpError from "../SmtpError.ts"
import type { Recorder } from "../SmtpTranscript.ts"
import { strength } from "./sasl/select.ts"
import { faultOf } from "./tlsOptions.ts"

/**
 * How a connection is secured.
 *
 * **Details**
 *
 * `"implicit"`: TLS from the first octet. `"starttls"`: upgraded after EHLO, required. `"opportunistic"`: upgraded when
 * offered, without verification, else in clear. `"off"`: never.
 *
 * @category models
 * @since 0.1.0
 */
export type TlsMode = "implicit" | "starttls" | "opportunistic" | "off"

/**
 * The deadlines. What is not given keeps its default; `Duration.infinity` turns one off.
 *
 * @category models
 * @since 0.1.0
 */
export interface Timeouts {
  /** Resolving the name. Default 30 seconds. */
  readonly dns?: Duration.Input | undefined
  /** Connecting, all addresses together. Default 2 minutes. */
  readonly connect?: Duration.Input | undefined
  /** From connected to the whole greeting. Default 30 seconds. */
  readonly greeting?: Duration.Input | undefined
  /** The TLS handshake. Default 30 seconds. */
  readonly tls?: Duration.Input | undefined
  /** Each reply, from its command's last octet. Default 5 minutes. */
  readonly command?: Duration.Input | undefined
  /** Each write of the body until it is taken, and each wait on the message's source. Default 3 minutes. */
  readonly data?: Duration.Input | undefined
  /** From the final dot to its reply. Default 10 minutes. */
  readonly final?: Duration.Input | undefined
  /** No octet in either direction. Default 10 minutes. */
  readonly idle?: Duration.Input | undefined
  /** QUIT and its reply. Default 2 seconds. */
  readonly quit?: Duration.Input | undefined
  /** One call of `make` or of `send` as a whole. Default: none. */
  readonly total?: Duration.Input | undefined
}

/**
 * The options of a connection.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** Host name or IP literal. Default "localhost". */
  readonly host?: string | undefined
  /** Default 465 with implicit TLS, 24 for LMTP, else 25. */
  readonly port?: number | undefined
  /** Path of a unix socket, in place of host and port. */
  readonly path?: string | undefined
  /** Default "implicit" on port 465, "off" on a unix socket, else "starttls". */
  readonly tls?: TlsMode | undefined
  readonly tlsOptions?: TlsOptions | undefined
  /** The name that the certificate must hold, and SNI. Default: `host`. */
  readonly servername?: string | undefined
  /** The name to say in EHLO. Default: the fully qualified name of this host, else the address literal of the socket. */
  readonly name?: string | undefined
  readonly localAddress?: string | undefined
  readonly family?: 4 | 6 | undefined
  readonly timeouts?: Timeouts | undefined
  /** Default "smtp". */
  readonly protocol?: "smtp" | "lmtp" | undefined
  /** Log in with these once connected. */
  readonly auth?: Credentials | undefined
  /** The SASL mechanisms that may be used, in order of preference. Default: what is offered, strongest first. */
  readonly mechanisms?: ReadonlyArray<string> | undefined
  /** Use no mechanism weaker than this. */
  readonly minimumMechanism?: string | undefined
  /**
   * "required": log in by a mechanism that binds to the TLS channel (SCRAM-…-PLUS) or not at all: `EAUTH`. Default
   * "preferred": by such a mechanism where both sides can.
   */
  readonly channelBinding?: "preferred" | "required" | undefined
  /** Let credentials go over a connection that is not verified TLS. Default false. */
  readonly allowInsecureAuth?: boolean | undefined
  /**
   * False: say one command at a time, although the server offers PIPELINING (RFC 2920). Default true. A server that
   * answered a group out of step is talked to one command at a time anyway, as long as the connector lives.
   */
  readonly pipelining?: boolean | undefined
  /**
   * Where the server offers CHUNKING (RFC 3030): true, the default, sends messages of up to 64 KiB by BDAT, which saves a
   * round trip, and the others by DATA; "always" sends all by BDAT; false none but those of BINARYMIME. Where AUTH or
   * STARTTLS is offered and was not used, no message goes with its envelope before the server has accepted MAIL once.
   */
  readonly chunking?: boolean | "always" | undefined
  /**
   * Log the dialogue: "commands" without message content, "full" with it; secrets never. A recorder
   * (`SmtpTranscript.make`) takes it as values in place of the log. Default "off".
   */
  readonly transcript?: "off" | "commands" | "full" | Recorder | undefined
}

/** The deadlines in milliseconds; Infinity = none. */
export type Deadlines = { readonly [K in keyof Required<Timeouts>]: number }

/** Options with every default in place. */
export interface Resolved {
  readonly endpoint: Endpoint
  readonly tls: TlsMode
  /** Whether the caller named the TLS mode: a connection that is secured by its maker then keeps to it. */
  readonly tlsIsExplicit: boolean
  readonly tlsOptions: TlsOptions
  readonly servername: string
  readonly name: string | undefined
  readonly deadlines: Deadlines
  readonly protocol: "smtp" | "lmtp"
  readonly auth: Credentials | undefined
  readonly mechanisms: ReadonlyArray<string> | undefined
  readonly minimumMechanism: string | undefined
  readonly channelBinding: "preferred" | "required"
  readonly allowInsecureAuth: boolean
  readonly pipelining: boolean
  readonly chunking: boolean | "always"
  readonly transcript: "off" | "commands" | "full" | Recorder
}

const defaults: { readonly [K in keyof Required<Timeouts>]: Duration.Input } = {
  dns: "30 seconds",
  connect: "2 minutes",
  greeting: "30 seconds",
  tls: "30 seconds",
  command: "5 minutes",
  data: "3 minutes",
  final: "10 minutes",
  idle: "10 minutes",
  quit: "2 seconds",
  total: Duration.infinity
}

/** The deadlines by name. */
export const timeoutNames = Object.keys(defaults) as ReadonlyArray<keyof Timeouts>

const refuse = (key: string, message: string): SmtpError.ECONFIG => {
  const field = key === "" ? "options" : `options.${key}`
  return new SmtpError.ECONFIG({ message: `${field}: ${message}`, command: "API", field, attempted: false })
}

const oneOf = <A>(field: string, value: unknown, allowed: ReadonlyArray<A>): SmtpError.ECONFIG | undefined =>
  value === undefined || allowed.includes(value as A)
    ? undefined
    : refuse(field, `expected one of ${allowed.map((a) => JSON.stringify(a)).join(", ")}`)

const isName = (value: unknown): boolean => typeof value === "string" && value !== ""

const aString = (field: string, value: unknown): SmtpError.ECONFIG | undefined =>
  value === undefined || isName(value) ? undefined : refuse(field, "expected a non-empty string")

const isRecord = (value: unknown): boolean => typeof value === "object" && value !== null && !Array.isArray(value)

const aRecord = (field: string, value: unknown): SmtpError.ECONFIG | undefined =>
  value === undefined || isRecord(value) ? undefined : refuse(field, "expected an object")

const credentials: ReadonlyArray<unknown> = [
  "Password",
  "OAuth2",
  "External",
  "Anonymous",
  "Custom"
] satisfies ReadonlyArray<
  Credentials["_tag"]
>

/** TypeScript holds callers to the shape; a caller in JavaScript may come from a client with other options. */
const checkAuth = (auth: Credentials | undefined): SmtpError.ECONFIG | undefined =>
  auth === undefined || (isRecord(auth) && credentials.includes(auth._tag))
    ? undefined
    : refuse("auth", "expected credentials, e.g. Sasl.password({ username, password: Redacted.make(secret) })")

const isRecorder = (value: unknown): boolean =>
  typeof value === "object" && value !== null && "level" in value && "record" in value &&
  (value.level === "commands" || value.level === "full") && typeof value.record === "function"

const checkTranscript = (value: unknown): SmtpError.ECONFIG | undefined =>
  value === undefined || value === "off" || value === "commands" || value === "full" || isRecorder(value)
    ? undefined
    : refuse("transcript", `expected one of "off", "commands", "full", or a recorder: yield* SmtpTranscript.make()`)

/** What `minimumMechanism` orders are the mechanisms of passwords; one of the caller's own has no place among them. */
const checkMinimum = (name: string | undefined): SmtpError.ECONFIG | undefined =>
  name === undefined || strength.includes(name.toUpperCase())
    ? undefined
    : refuse("minimumMechanism", `expected one of ${strength.join(", ")}`)

const areNames = (value: unknown): boolean => Array.isArray(value) && value.length > 0 && value.every(isName)

const strings = ["host", "path", "servername", "name", "localAddress", "minimumMechanism"] as const

const checkShapes = (o: Options): SmtpError.ECONFIG | undefined => {
  for (const field of strings) {
    const wrong = aString(field, o[field])
    if (wrong !== undefined) return wrong
  }
  if (o.port !== undefined && !(Number.isInteger(o.port) && o.port > 0 && o.port < 65_536)) {
    return refuse("port", "expected a whole number from 1 to 65535")
  }
  if (o.mechanisms !== undefined && !areNames(o.mechanisms)) {
    return refuse(
      "mechanisms",
      "expected a non-empty array of SASL mechanism names; leave it out to allow what is offered"
    )
  }
  return oneOf("tls", o.tls, ["implicit", "starttls", "opportunistic", "off"]) ??
    oneOf("family", o.family, [4, 6]) ??
    oneOf("protocol", o.protocol, ["smtp", "lmtp"]) ??
    oneOf("channelBinding", o.channelBinding, ["preferred", "required"]) ??
    oneOf("allowInsecureAuth", o.allowInsecureAuth, [true, false]) ??
    oneOf("pipelining", o.pipelining, [true, false]) ??
    oneOf("chunking", o.chunking, [true, false, "always"]) ??
    checkTranscript(o.transcript) ??
    checkMinimum(o.minimumMechanism) ??
    aRecord("tlsOptions", o.tlsOptions) ??
    aRecord("timeouts", o.timeouts) ??
    checkAuth(o.auth)
}

const checkName = (name: string | undefined): SmtpError.ECONFIG | undefined => {
  if (name === undefined) return undefined
  const encoded = SmtpCommand.encode({ _tag: "Ehlo", name })
  return Result.isSuccess(encoded)
    ? undefined
    : refuse("name", `${encoded.failure.detail}; give a domain name or an address literal such as [192.0.2.1]`)
}

const checkTlsOptions = (tlsOptions: TlsOptions | undefined, tls: TlsMode): SmtpError.ECONFIG | undefined => {
  const fault = tlsOptions && faultOf(tlsOptions)
  if (fault !== undefined) return refuse(`tlsOptions.${fault.field}`, fault.message)
  return tlsOptions?.pins === undefined || tls !== "opportunistic"
    ? undefined
    : refuse("tlsOptions.pins", `tls: "opportunistic" goes on without TLS; choose tls: "starttls", or remove them`)
}

const checkContradictions = (o: Options, tls: TlsMode): SmtpError.ECONFIG | undefined => {
  if (o.path !== undefined && (o.host !== undefined || o.port !== undefined)) {
    return refuse("path", "a unix socket has no host and port; leave them out")
  }
  if (o.path !== undefined && tls !== "off" && o.servername === undefined) {
    return refuse("servername", "TLS over a unix socket needs the name that the certificate must hold")
  }
  if (tls === "off" && o.tlsOptions !== undefined) {
    return refuse("tlsOptions", `they have no effect with tls: "off"; remove them, or choose tls: "starttls"`)
  }
  if (o.auth !== undefined && o.path === undefined && tls === "off" && o.allowInsecureAuth !== true) {
    return refuse(
      "auth",
      `no credential leaves without verified TLS; choose tls: "starttls", or set allowInsecureAuth: true`
    )
  }
  return undefined
}

const resolveTimeouts = (timeouts: Timeouts): Result.Result<Deadlines, SmtpError.ECONFIG> => {
  const deadlines: Record<string, number> = {}
  for (const key of timeoutNames) {
    const duration = Duration.fromInput(timeouts[key] ?? defaults[key])
    if (duration._tag === "None" || !(Duration.toMillis(duration.value) > 0)) {
      return Result.fail(
        refuse(`timeouts.${key}`, "expected a positive duration, e.g. \"30 seconds\"; Duration.infinity turns it off")
      )
    }
    deadlines[key] = Duration.toMillis(duration.value)
  }
  return Result.succeed(deadlines as Deadlines)
}

/** Shared by all connections that have no deadlines of their own. */
const defaultDeadlines = resolveTimeouts({})
const noTlsOptions: TlsOptions = {}

const defaultPort = (o: Options): number => o.tls === "implicit" ? 465 : o.protocol === "lmtp" ? 24 : 25

const defaultTls = (o: Options, port: number): TlsMode =>
  o.path !== undefined ? "off" : port === 465 ? "implicit" : "starttls"

/** Checks the options and puts the defaults in place; pure, so a mistake is known before anything is dialled. */
export const resolve = (o: Options): Result.Result<Resolved, SmtpError.ECONFIG> => {
  if (!isRecord(o)) return Result.fail(refuse("", "expected an object, e.g. { host: \"mx.example.com\" }"))
  const port = o.port ?? defaultPort(o)
  const tls = o.tls ?? defaultTls(o, port)
  const wrong = checkShapes(o) ?? checkName(o.name) ?? checkTlsOptions(o.tlsOptions, tls) ?? checkContradictions(o, tls)
  if (wrong !== undefined) return Result.fail(wrong)
  const host = (o.host ?? "localhost").replace(/^\[(.*)\]$/, "$1")
  const deadlines = o.timeouts === undefined ? defaultDeadlines : resolveTimeouts(o.timeouts)
  return Result.map(deadlines, (deadlines) => ({
    endpoint: { host, port, path: o.path, localAddress: o.localAddress, family: o.family },
    tls,
    tlsIsExplicit: o.tls !== undefined,
    tlsOptions: o.tlsOptions ?? noTlsOptions,
    servername: o.servername ?? host,
    name: o.name,
    deadlines,
    protocol: o.protocol ?? "smtp",
    auth: o.auth,
    mechanisms: o.mechanisms,
    minimumMechanism: o.minimumMechanism,
    channelBinding: o.channelBinding ?? "preferred",
    allowInsecureAuth: o.allowInsecureAuth ?? false,
    pipelining: o.pipelining ?? true,
    chunking: o.chunking ?? true,
    transcript: o.transcript ?? "off"
  }))
}
