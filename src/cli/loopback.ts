/**
 * A server of ours on a real port, for the commands that are one: its flags, how it starts, what it tells of itself, and
 * how it ends.
 *
 * What it is: what `serve` and `replay` share. What it is not: a script; the commands bring their own.
 */
import * as Flag from "effect/cli/Flag"
import * as Config from "effect/Config"
import * as Console from "effect/Console"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import { createHash, createPrivateKey, X509Certificate } from "node:crypto"
import * as net from "node:net"
import { codeOf } from "../internal/errorCause.ts"
import * as NodeSmtpServer from "../node/NodeSmtpServer.ts"
import type { TranscriptLine } from "../testing/SmtpServer.ts"
import { Ended, escape, ExitCode, Failure, Output } from "./frame.ts"
import { askSecret, jsonFlag, readFile, readSecret } from "./frameConnection.ts"

/** Where a server of ours listens, and how it is secured. */
export const loopbackFlags = {
  host: Flag.String("host").pipe(
    Flag.withAlias("H"),
    Flag.withMetavar("address"),
    Flag.withDescription("The address to listen on (default: 127.0.0.1)"),
    Flag.withDefault("127.0.0.1")
  ),
  port: Flag.Int("port").pipe(
    Flag.withAlias("p"),
    Flag.filter((port) => port >= 0 && port < 65_536, () => "expected a port from 0 (any free one) to 65535"),
    Flag.withDescription("The port to listen on, 0 for any free one (default: 1025)"),
    Flag.withDefault(1025)
  ),
  cert: Flag.String("cert").pipe(
    Flag.withMetavar("file"),
    Flag.withDescription("Certificate chain in PEM, with --key (default: one is made at the start)"),
    Flag.optional
  ),
  key: Flag.String("key").pipe(Flag.withMetavar("file"), Flag.withDescription("Its private key in PEM"), Flag.optional),
  transcript: Flag.Boolean("transcript").pipe(
    Flag.withDescription("Print the dialogue on standard error, without secrets and message content"),
    Flag.withDefault(false)
  ),
  json: jsonFlag.pipe(Flag.withDescription("Print each event as a line of JSON"))
} as const

/** Who may log in. */
export const accountFlags = {
  user: Flag.String("user").pipe(
    Flag.withAlias("u"),
    Flag.withMetavar("name"),
    Flag.withDescription(
      "Take logins of this user alone; password: SMTP_PASSWORD, --password-file, or a prompt (default: any login, or none)"
    ),
    Flag.optional
  ),
  passwordFile: Flag.String("password-file").pipe(
    Flag.withMetavar("file"),
    Flag.withDescription("Read the password from the first line of this file"),
    Flag.optional
  )
} as const

/** The one account, when there is one. */
export const accountsOf = Effect.fnUntraced(function*({ passwordFile, user }: AccountFlags) {
  if (Option.isNone(user)) {
    return Option.isNone(passwordFile)
      ? undefined
      : yield* new Failure({ code: ExitCode.usage, message: "a password needs a user: give --user" })
  }
  const variable = yield* Config.option(Config.Redacted("SMTP_PASSWORD")).pipe(
    Effect.orElseSucceed(() => Option.none<Redacted.Redacted<string>>())
  )
  const password = Option.isSome(passwordFile)
    ? yield* readSecret(passwordFile.value)
    : Option.isSome(variable)
    ? variable.value
    : yield* askSecret(`Password for ${escape(user.value)}`)
  return { [user.value]: Redacted.value(password) }
})

type Values<F> = { readonly [K in keyof F]: F[K] extends Flag.Flag<infer A> ? A : never }
/** The values of {@link loopbackFlags}. */
export type LoopbackFlags = Values<typeof loopbackFlags>
/** The values of {@link accountFlags}. */
export type AccountFlags = Values<typeof accountFlags>

/** What {@link certificateOf} gives, and the server takes. */
interface Certificate {
  readonly cert: string
  readonly key: Redacted.Redacted<string>
}

/** The certificate that the flags name; undefined when one is to be made. */
export const certificateOf = Effect.fnUntraced(
  function*(flags: LoopbackFlags): Effect.fn.Return<Certificate | undefined, Failure, FileSystem.FileSystem> {
    if (Option.isNone(flags.cert) && Option.isNone(flags.key)) return undefined
    if (Option.isNone(flags.cert) || Option.isNone(flags.key)) {
      return yield* new Failure({ code: ExitCode.usage, message: "--cert and --key go together: give both or neither" })
    }
    const text = new TextDecoder()
    const cert = text.decode(yield* readFile(flags.cert.value))
    const key = text.decode(yield* readFile(flags.key.value))
    return { cert, key: Redacted.make(key) }
  }
)

const reasons: { readonly [code: string]: readonly [number, string] } = {
  EADDRINUSE: [ExitCode.unavailable, "is taken; choose another with --port, or 0 for any free one"],
  EACCES: [ExitCode.noPermission, "needs more rights; choose one from 1024 on with --port"],
  EADDRNOTAVAIL: [ExitCode.unavailable, "is not on an address of this host; choose another with --host"],
  ENOTFOUND: [ExitCode.noHost, "is on no host that is known; choose another with --host"]
}

const notListening = (options: NodeSmtpServer.Options, defect: unknown): Failure => {
  const code = codeOf(defect)
  const [exit, why] = reasons[code] ?? [ExitCode.unavailable, `cannot be listened on: ${escape(code)}`]
  return new Failure({ code: exit, message: `port ${options.port} of ${escape(options.host ?? "")} ${why}` })
}

const isPem = (options: NodeSmtpServer.Options): boolean => {
  const { tls } = options
  if (tls === undefined) return true
  try {
    return new X509Certificate(tls.cert).checkPrivateKey(createPrivateKey(Redacted.value(tls.key)))
  } catch {
    return false
  }
}

/** Starts a server. A port that cannot be had is a failure that says what to do. */
export const start = (
  options: NodeSmtpServer.Options
): Effect.Effect<NodeSmtpServer.Service, Failure, Scope.Scope> =>
  isPem(options)
    ? Layer.build(NodeSmtpServer.layerLoopback(options)).pipe(
      Effect.map((context) => Context.get(context, NodeSmtpServer.NodeSmtpServer)),
      Effect.catchDefect((defect) => Effect.fail(notListening(options, defect)))
    )
    : Effect.fail(
      new Failure({ code: ExitCode.config, message: "--cert and --key: not a certificate in PEM and its private key" })
    )

/** The ways to pin a certificate, as `--pin` and `tlsOptions.pins` take them. */
export const pinsOf = (pem: string): { readonly key: string; readonly certificate: string } => {
  const certificate = new X509Certificate(pem)
  const key = certificate.publicKey.export({ type: "spki", format: "der" })
  return {
    key: `sha256/${createHash("sha256").update(key).digest("base64")}`,
    certificate: `cert-sha256/${certificate.fingerprint256.replaceAll(":", "").toLowerCase()}`
  }
}

/** Whether only programs of this host reach an address. */
export const isLoopback = (host: string): boolean =>
  host === "::1" || host === "localhost" || host.endsWith(".localhost") || (net.isIPv4(host) && host.startsWith("127."))

/** An address and a port as they are written together. */
export const authority = (host: string, port: number): string =>
  net.isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`

/**
 * Ends a server that was interrupted as one that was asked to end: it says its last words, and the process leaves with
 * their code (`main` reads it), not with that of an interruption.
 */
export const endingWell = <A, E, R, R2>(
  self: Effect.Effect<A, E, R>,
  last: Effect.Effect<void, Ended, R2>
): Effect.Effect<void, E | Ended, R | R2> =>
  Effect.onInterrupt(
    Effect.andThen(self, last),
    () =>
      Effect.flatMap(Effect.result(last), (ended) =>
        Effect.sync(() => {
          process.exitCode = Result.isSuccess(ended) ? ExitCode.ok : ended.failure.code
        }))
  )

const known = /^(?:EHLO|HELO|LHLO|STARTTLS|MAIL|RCPT|DATA|BDAT|RSET|NOOP|VRFY|EXPN|HELP|QUIT)\b/i

/** The lines of dialogues without what is secret: what is said in a login, and what is no command after one was tried. */
export const makeMask = (): (line: TranscriptLine) => string => {
  const logins = new Map<number, "open" | "over">()
  const textOf = ({ connection, from, text }: TranscriptLine): string => {
    const login = logins.get(connection)
    if (from === "client") {
      const [, auth] = /^(AUTH(?: [\w-]+)?)\b/i.exec(text) ?? []
      if (auth !== undefined && login !== "open") {
        logins.set(connection, "open")
        return text.length > auth.length ? `${auth} ***` : auth
      }
      return login === "open" || (login === "over" && !known.test(text)) ? "***" : text
    }
    if (from === "event" && text === "closed") logins.delete(connection)
    if (from !== "server" || login !== "open") return text
    if (text.startsWith("334")) return "334 ***"
    if (!/^\d{3}-/.test(text)) logins.set(connection, "over")
    return text
  }
  const marks = { client: "C:", server: "S:", event: "*" }
  return (line) => `[${line.connection}] ${marks[line.from]} ${escape(textOf(line))}`
}

/** Prints dialogues on standard error as they go on. */
export const watch = Effect.gen(function*() {
  const { paintNote } = yield* Output
  const { error } = yield* Console.Console
  const mask = makeMask()
  return (line: TranscriptLine): void => error(paintNote.dim(mask(line)))
})
