/**
 * The flags of a connection, shared by the commands, and the options that they and the environment make.
 *
 * What it is: SMTP_URL, SMTP_HOST, … (`SmtpClient.config`) with the flags over them. What it is not: a way to give a
 * secret as an argument; secrets come from the environment, a file, or a prompt on the terminal.
 */
import * as Flag from "effect/cli/Flag"
import * as Prompt from "effect/cli/Prompt"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"
import * as Terminal from "effect/Terminal"
import * as Sasl from "../Sasl.ts"
import * as SmtpClient from "../SmtpClient.ts"
import type { TlsOptions } from "../SmtpConnector.ts"
import { escape, ExitCode, Failure } from "./frame.ts"

/** A duration as "10 seconds", "500 millis", or a number of seconds. */
export const durationFlag = (name: string): Flag.Flag<Duration.Duration> =>
  Flag.String(name).pipe(
    Flag.withMetavar("duration"),
    Flag.filterMap(
      (text) => {
        const duration = Duration.fromInput((/^\d+(\.\d+)?$/.test(text) ? `${text} seconds` : text) as Duration.Input)
        return Option.filter(duration, (one) => Duration.toMillis(one) > 0)
      },
      () => `expected a duration such as "10 seconds", or a number of seconds`
    )
  )

const isPort = (port: number): boolean => port > 0 && port < 65_536

/** `--port` */
const portFlag: Flag.Flag<Option.Option<number>> = Flag.Int("port").pipe(
  Flag.withAlias("p"),
  Flag.filter(isPort, () => "expected a port from 1 to 65535"),
  Flag.withDescription("Port (default: 465 with implicit TLS, 587 with a login, 24 for LMTP, else 25)"),
  Flag.optional
)

/** `--json` */
export const jsonFlag: Flag.Flag<boolean> = Flag.Boolean("json").pipe(
  Flag.withDescription("Print the result as one line of JSON"),
  Flag.withDefault(false)
)

const text = (name: string, metavar: string, description: string): Flag.Flag<Option.Option<string>> =>
  Flag.String(name).pipe(Flag.withMetavar(metavar), Flag.withDescription(description), Flag.optional)

const toggle = (name: string, description: string): Flag.Flag<boolean> =>
  Flag.Boolean(name).pipe(Flag.withDescription(description), Flag.withDefault(false))

/** `--host` */
export const hostFlag: Flag.Flag<Option.Option<string>> = text(
  "host",
  "name",
  "The server (default: SMTP_URL or SMTP_HOST, else localhost)"
).pipe(Flag.withAlias("H"))

/** How to reach and secure a server; without the host, which is a flag for some commands and an argument for others. */
export const connectionFlags = {
  port: portFlag,
  tls: Flag.Literals("tls", ["implicit", "starttls", "opportunistic", "off"]).pipe(
    Flag.withDescription("implicit, starttls (required: the default), opportunistic or off"),
    Flag.optional
  ),
  ca: text("ca", "file", "Trust the certificates in this PEM file instead of the system's"),
  pin: Flag.String("pin").pipe(
    Flag.withMetavar("pin"),
    Flag.withDescription("The server must show this: sha256/BASE64 of a key or cert-sha256/HEX; may be repeated"),
    Flag.atLeast(0)
  ),
  servername: text("servername", "name", "The name that the certificate must hold (default: the host)"),
  insecure: toggle("insecure", "Go on with a certificate that does not verify; no login then"),
  cert: text("cert", "file", "Client certificate in PEM"),
  key: text("key", "file", "Private key of the client certificate in PEM"),
  name: text("name", "name", "The name to say in EHLO"),
  lmtp: toggle("lmtp", "Speak LMTP"),
  socket: text("socket", "path", "A unix socket in place of host and port"),
  timeout: durationFlag("timeout").pipe(
    Flag.withDescription("Give up after this long, e.g. \"30 seconds\" (default: none)"),
    Flag.optional
  ),
  transcript: toggle("transcript", "Print the dialogue on standard error, without secrets and message content")
} as const

/** How to log in. */
export const authFlags = {
  user: Flag.String("user").pipe(
    Flag.withAlias("u"),
    Flag.withMetavar("name"),
    Flag.withDescription("Log in as this user; password: SMTP_PASSWORD, --password-file, or a prompt"),
    Flag.optional
  ),
  auth: Flag.String("auth").pipe(
    Flag.withMetavar("mechanism"),
    Flag.withDescription("SASL mechanism to use, e.g. SCRAM-SHA-256; may be repeated (default: the strongest)"),
    Flag.atLeast(0)
  ),
  passwordFile: text("password-file", "file", "Read the password from the first line of this file"),
  tokenFile: text("token-file", "file", "Read an OAuth2 access token from this file; or set SMTP_TOKEN"),
  allowInsecureAuth: toggle("allow-insecure-auth", "Log in without verified TLS")
} as const

type Given = SmtpClient.Options & SmtpClient.Policies
type Values<F> = { readonly [K in keyof F]: F[K] extends Flag.Flag<infer A> ? A : never }
/** The values of {@link connectionFlags}. */
type ConnectionFlags = Values<typeof connectionFlags>
/** The values of {@link authFlags}. */
type AuthFlags = Values<typeof authFlags>

/** The octets of a file that the user named. */
export const readFile = (path: string): Effect.Effect<Uint8Array, Failure, FileSystem.FileSystem> =>
  FileSystem.FileSystem.use((fs) => fs.readFile(path)).pipe(
    Effect.mapError(({ reason }) =>
      new Failure({ code: ExitCode.noInput, message: `cannot read ${escape(path)}: ${reason._tag}` })
    )
  )

/** A secret in a file: its first line. */
export const readSecret = (path: string): Effect.Effect<Redacted.Redacted<string>, Failure, FileSystem.FileSystem> =>
  Effect.flatMap(readFile(path), (octets) => {
    const secret = new TextDecoder().decode(octets).replace(/\r?\n[^]*$/, "")
    return secret === ""
      ? Effect.fail(new Failure({ code: ExitCode.noInput, message: `${escape(path)} has an empty first line` }))
      : Effect.succeed(Redacted.make(secret))
  })

/** Asks for a secret on the terminal, on standard error so that a result in a pipe stays clean. */
export const askSecret = Effect.fnUntraced(function*(question: string) {
  const stdio = yield* Stdio.Stdio
  const terminal = yield* Terminal.Terminal
  if (!(yield* stdio.stdinIsTerminal) || !(yield* stdio.stderrIsTerminal)) {
    return yield* new Failure({
      code: ExitCode.config,
      message: `${question}: there is no terminal to ask on; set SMTP_PASSWORD, or give --password-file`
    })
  }
  const onStandardError = Terminal.make({
    ...terminal,
    display: (text) => Stream.run(Stream.make(text), stdio.stderr())
  })
  const prompt = Prompt.run(Prompt.Hidden({ message: question }))
  return yield* Effect.provideService(prompt, Terminal.Terminal, onStandardError)
})

type Variables = { readonly [name: string]: string | undefined }

/** The environment with these SMTP_ variables over it; an empty one hides what is there. */
const withVariables = (variables: Variables, provider: ConfigProvider.ConfigProvider): ConfigProvider.ConfigProvider =>
  ConfigProvider.make((path) => {
    const value = path.length === 2 && path[0] === "SMTP" ? variables[path[1] as string] : undefined
    if (value === undefined) return provider.load(path)
    return Effect.succeed(value === "" ? undefined : ConfigProvider.makeValue(value))
  })

const misconfigured = (message: string): Failure => new Failure({ code: ExitCode.config, message })

const variable = (name: string): Effect.Effect<string | undefined> =>
  Config.option(Config.String(name)).pipe(Effect.map(Option.getOrUndefined), Effect.orElseSucceed(() => undefined))

/** The user, a secret where there is one, and credentials where these are not a password. */
interface Login {
  readonly user: string
  readonly secret: Redacted.Redacted<string>
  readonly credentials: Sasl.Credentials | undefined
}

const filed = (file: Option.Option<string>, name: string) =>
  Option.isSome(file)
    ? readSecret(file.value)
    : Effect.map(variable(name), (value) => value === undefined || value === "" ? undefined : Redacted.make(value))

/** Without a secret of its own; the placeholder only says that there is a login. */
const secretless = (mechanisms: ReadonlyArray<string>, user: string | undefined): Login | undefined => {
  const [only] = mechanisms
  const placeholder = { user: user ?? "-", secret: Redacted.make("-") }
  if (mechanisms.length !== 1) return undefined
  if (only === "EXTERNAL") return { ...placeholder, credentials: Sasl.external({ authorizationId: user }) }
  if (only === "ANONYMOUS") return { ...placeholder, credentials: Sasl.anonymous({ trace: user }) }
  return undefined
}

const loginOf = Effect.fnUntraced(function*(flags: AuthFlags, mechanisms: ReadonlyArray<string>) {
  const user = Option.getOrUndefined(flags.user) ?? (yield* variable("SMTP_USER"))
  const bare = secretless(mechanisms, user)
  if (bare !== undefined) return bare
  const token = yield* filed(flags.tokenFile, "SMTP_TOKEN")
  if (token !== undefined) {
    return user === undefined
      ? yield* misconfigured("an OAuth2 token needs a user: give --user")
      : { user, secret: token, credentials: Sasl.oauth2({ username: user, token }) }
  }
  if (user === undefined) {
    return Option.isSome(flags.passwordFile)
      ? yield* misconfigured("a password needs a user: give --user")
      : undefined
  }
  const password = yield* filed(flags.passwordFile, "SMTP_PASSWORD")
  return { user, secret: password ?? (yield* askSecret(`Password of ${escape(user)}`)), credentials: undefined }
})

const fileOf = (
  path: Option.Option<string>
): Effect.Effect<Uint8Array | undefined, Failure, FileSystem.FileSystem> =>
  Option.match(path, { onNone: () => Effect.void.pipe(Effect.as(undefined)), onSome: readFile })

const tlsOptionsOf = Effect.fnUntraced(function*(flags: ConnectionFlags) {
  const ca = yield* fileOf(flags.ca)
  const cert = yield* fileOf(flags.cert)
  const key = yield* fileOf(flags.key)
  return {
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key: Redacted.make(key) }),
    ...(flags.pin.length === 0 ? {} : { pins: flags.pin }),
    ...(flags.insecure ? { rejectUnauthorized: false } : {})
  } satisfies TlsOptions
})

/** Options over others, those that are given. */
const over = (base: Given, flags: ConnectionFlags, tlsOptions: TlsOptions): Given => {
  const servername = Option.getOrUndefined(flags.servername)
  const name = Option.getOrUndefined(flags.name)
  const total = Option.getOrUndefined(flags.timeout)
  return {
    ...base,
    ...(Object.keys(tlsOptions).length === 0 ? {} : { tlsOptions: { ...base.tlsOptions, ...tlsOptions } }),
    ...(servername === undefined ? {} : { servername }),
    ...(name === undefined ? {} : { name }),
    ...(total === undefined ? {} : { timeouts: { ...base.timeouts, total } }),
    ...(flags.lmtp ? { protocol: "lmtp" as const } : {}),
    ...(flags.transcript ? { transcript: "commands" as const } : {})
  }
}

/** The options with a pool of so many connections, none of them kept for nothing. */
export const overConnections = (options: Given, connections: number): Given => ({
  ...options,
  pool: { ...options.pool, min: 0, max: connections }
})

/** The options of the flags alone: for a command whose host is an argument, and whatever the environment says. */
export const optionsOf = (
  host: string | undefined,
  flags: ConnectionFlags
): Effect.Effect<SmtpClient.Options, Failure, FileSystem.FileSystem> =>
  Effect.map(tlsOptionsOf(flags), (tlsOptions) => {
    const path = Option.getOrUndefined(flags.socket)
    const endpoint = {
      ...(host === undefined ? {} : { host }),
      ...(path === undefined ? {} : { path }),
      ...(Option.isNone(flags.port) ? {} : { port: flags.port.value }),
      ...(Option.isNone(flags.tls) ? {} : { tls: flags.tls.value })
    }
    return over(endpoint, flags, tlsOptions)
  })

/** What the environment is to say: the flags win, and a host that is named sets aside the one of the environment. */
const variablesOf = (
  host: Option.Option<string>,
  flags: ConnectionFlags,
  login: Login | undefined
): Variables => {
  const elsewhere = Option.isSome(host) || Option.isSome(flags.socket)
  return {
    ...(elsewhere ? { URL: flags.lmtp ? "lmtp://" : "", PRESET: "", HOST: "", PORT: "", TLS: "" } : {}),
    ...(login === undefined ? {} : { USER: login.user, PASSWORD: Redacted.value(login.secret) }),
    ...(Option.isNone(host) ? {} : { HOST: host.value }),
    ...(Option.isNone(flags.socket) ? {} : { URL: `smtp:?path=${encodeURIComponent(flags.socket.value)}` }),
    ...(Option.isNone(flags.port) ? {} : { PORT: String(flags.port.value) }),
    ...(Option.isNone(flags.tls) ? {} : { TLS: flags.tls.value })
  }
}

/**
 * The options of the flags over those of the environment, with the login. Asks for a password where a user is named and
 * no password is found.
 */
export const resolveOptions = Effect.fnUntraced(function*(
  host: Option.Option<string>,
  flags: ConnectionFlags,
  auth: AuthFlags
) {
  const mechanisms = auth.auth.map((name) => name.toUpperCase())
  const login = yield* loginOf(auth, mechanisms)
  const provider = withVariables(variablesOf(host, flags, login), yield* ConfigProvider.ConfigProvider)
  const base = yield* SmtpClient.config.parse(provider).pipe(
    Effect.mapError((error) => misconfigured(`the environment: ${escape(error.message)}`))
  )
  const tlsOptions = yield* tlsOptionsOf(flags)
  return {
    ...over(base, flags, tlsOptions),
    ...(login?.credentials === undefined ? {} : { auth: login.credentials }),
    ...(mechanisms.length === 0 ? {} : { mechanisms }),
    ...(auth.allowInsecureAuth ? { allowInsecureAuth: true } : {})
  } satisfies Given
})
