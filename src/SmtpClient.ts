/**
 * The service that a backend provides once: it sends mail and opens the connections for it.
 *
 * What it is: `SmtpClient` with its constructors, layers and configuration, and combinators that wrap a client value.
 * What it is not: a connection; for several commands on one connection there is `use`.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import { dual } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import type * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import type * as Envelope from "./Envelope.ts"
import { endedSend, noting, withEpilogue, withTotal } from "./internal/deadline.ts"
import type { Message } from "./internal/message.ts"
import * as options from "./internal/options.ts"
import type { SendResult } from "./internal/outcome.ts"
import * as securityReport from "./internal/securityReport.ts"
import * as url from "./internal/url.ts"
import * as Sasl from "./Sasl.ts"
import type { SmtpCapabilities } from "./SmtpCapabilities.ts"
import * as SmtpConnection from "./SmtpConnection.ts"
import * as SmtpConnector from "./SmtpConnector.ts"
import * as SmtpError from "./SmtpError.ts"
import type { SmtpReply } from "./SmtpReply.ts"

/**
 * The options of a client: those of its connections.
 *
 * @category models
 * @since 0.1.0
 */
export type Options = SmtpConnection.Options

/**
 * What a send through a client can end in, beside the errors of the message's own stream.
 *
 * @category models
 * @since 0.1.0
 */
export type ClientError = SmtpError.ConnectError | SmtpError.LoginError | SmtpError.SendError

/**
 * What `verify` found.
 *
 * @category models
 * @since 0.1.0
 */
export interface Report {
  readonly greeting: SmtpReply
  readonly capabilities: SmtpCapabilities
  readonly secure: boolean
  readonly security: Option.Option<SmtpConnector.TlsInfo>
  readonly securityReport: SmtpConnection.SecurityReport
  /** Whether a login was asked for, and so succeeded. */
  readonly authenticated: boolean
}

/**
 * A client value: what the service {@link SmtpClient} holds, and what the combinators take and give.
 *
 * @category models
 * @since 0.1.0
 */
export interface Client {
  /** Sends one message. */
  readonly send: <E = never, R = never>(
    envelope: Envelope.Input,
    message: Message<E, R>
  ) => Effect.Effect<SendResult, ClientError | E, R>
  /** Sends one mail after the other; each pulled mail gives exactly one Result, in order. */
  readonly sendAll: <E, R, E2 = never, R2 = never>(
    mails: Stream.Stream<SmtpConnection.Mail<E2, R2>, E, R>
  ) => Stream.Stream<Result.Result<SendResult, ClientError | E2>, E, R | R2>
  /** One connection, exclusively, for as long as the effect runs. */
  readonly use: <A, E, R>(
    f: (connection: SmtpConnection.SmtpConnection) => Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | SmtpError.ConnectError | SmtpError.LoginError, R>
  /** Connects and logs in, says QUIT, and tells what it saw; sends nothing. */
  readonly verify: Effect.Effect<Report, SmtpError.ConnectError | SmtpError.LoginError>
}

/**
 * The service.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { Effect } from "effect"
 * import { SmtpClient } from "effect-smtp"
 * import { SmtpServer } from "effect-smtp/testing"
 * import { Layer } from "effect"
 *
 * const welcome = Effect.gen(function*() {
 *   const smtp = yield* SmtpClient.SmtpClient
 *   return yield* smtp.send({ from: "app@me.test", to: "new@user.test" }, "Subject: Welcome\r\n\r\nHello\r\n")
 * }).pipe(
 *   Effect.map((result) => result.accepted.length),
 *   Effect.catchTag("EENVELOPE", () => Effect.succeed(0))
 * )
 *
 * const fake = SmtpClient.layer({ host: "mx.test" }).pipe(Layer.provide(SmtpServer.layer()))
 * assert.strictEqual(await Effect.runPromise(welcome.pipe(Effect.provide(fake))), 1)
 * ```
 *
 * @category services
 * @since 0.1.0
 */
export class SmtpClient extends Context.Service<SmtpClient, Client>()("effect-smtp/SmtpClient") {}

const attributesOf = (resolved: options.Resolved): Record<string, unknown> => ({
  "server.address": resolved.endpoint.path ?? resolved.endpoint.host,
  ...(resolved.endpoint.path === undefined ? { "server.port": resolved.endpoint.port } : {}),
  "network.transport": resolved.endpoint.path === undefined ? "tcp" : "unix",
  "network.protocol.name": resolved.protocol
})

const annotateResult = (result: SendResult): Effect.Effect<void> =>
  Effect.annotateCurrentSpan({
    "smtp.response.code": result.reply.code,
    "smtp.recipients.accepted": result.accepted.length,
    "smtp.recipients.rejected": result.rejected.length,
    "smtp.message.size": result.messageSize,
    ...securityReport.attributesOf(result.security)
  })

const annotateError = (error: unknown): Effect.Effect<void> =>
  SmtpError.isSmtpError(error)
    ? Effect.annotateCurrentSpan({
      "error.type": error._tag,
      "smtp.in_doubt": error.inDoubt,
      ...(error.responseCode === undefined ? {} : { "smtp.response.code": error.responseCode }),
      ...(error.enhancedCode === undefined ? {} : { "smtp.response.enhanced_code": error.enhancedCode })
    })
    : Effect.void

/**
 * Makes a client: every `send`, `use` and `verify` opens a connection of its own and says QUIT at its end.
 *
 * **Details**
 *
 * Options that contradict each other fail with `ECONFIG` here, before anything is dialled.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  input: Options
): Effect.fn.Return<Client, SmtpError.ECONFIG, SmtpConnector.SmtpConnector> {
  const resolved = yield* Effect.fromResult(options.resolve(input))
  const connector = yield* SmtpConnector.SmtpConnector
  const span = { kind: "client", captureStackTrace: false, attributes: attributesOf(resolved) } as const
  const connect = SmtpConnection.make(input).pipe(
    Effect.provideService(SmtpConnector.SmtpConnector, connector),
    Effect.tap((connection) => Effect.annotateCurrentSpan(securityReport.attributesOf(connection.securityReport))),
    Effect.tapError(annotateError),
    Effect.withSpan("smtp.connect", span)
  )
  const use: Client["use"] = (f) => Effect.scoped(Effect.flatMap(connect, f))
  const send: Client["send"] = (envelope, message) =>
    withEpilogue((note) =>
      use((connection) => noting(connection.send(envelope, message), note)).pipe(
        Effect.tap(annotateResult),
        Effect.tapError(annotateError),
        Effect.withSpan("smtp.send", span)
      )
    )
  return make_({
    send,
    use,
    verify: use(({ capabilities, greeting, secure, security, securityReport }) => {
      const authenticated = input.auth !== undefined
      return Effect.succeed({ capabilities, greeting, secure, security, securityReport, authenticated })
    })
  })
})

/** A client whose `sendAll` follows from its `send`. */
const make_ = (client: Omit<Client, "sendAll">): Client => ({
  ...client,
  sendAll: (mails) => Stream.mapEffect(mails, ({ envelope, message }) => Effect.result(client.send(envelope, message)))
})

/**
 * The service from options.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (input: Options): Layer.Layer<SmtpClient, SmtpError.ECONFIG, SmtpConnector.SmtpConnector> =>
  Layer.effect(SmtpClient, make(input))

/**
 * The service from configuration: a `Config` of the options, such as {@link config}, or a record of one `Config` for each.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { Config, ConfigProvider, Effect, Layer } from "effect"
 * import { SmtpClient } from "effect-smtp"
 * import { SmtpServer } from "effect-smtp/testing"
 *
 * const env = ConfigProvider.layer(ConfigProvider.fromEnv({ env: { MAIL_HOST: "mx.test" } }))
 * const layer = SmtpClient.layerConfig({ host: Config.String("MAIL_HOST") }).pipe(
 *   Layer.provide([SmtpServer.layer(), env])
 * )
 * const report = await Effect.runPromise(SmtpClient.SmtpClient.use((smtp) => smtp.verify).pipe(Effect.provide(layer)))
 * assert.strictEqual(report.secure, true)
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  wrapped: Config.Wrap<Options>
): Layer.Layer<SmtpClient, SmtpError.ECONFIG | Config.ConfigError, SmtpConnector.SmtpConnector> =>
  Layer.unwrap(Effect.map(Config.unwrap(wrapped), layer))

/**
 * Reads options from a URL: `smtp://`, `smtps://` or `lmtp://`, user and password, host and port, and every other
 * option as a query parameter (`?tls=opportunistic&name=me.test&timeouts.command=10+seconds`).
 *
 * **Details**
 *
 * The port is 465 for `smtps:`, 24 for `lmtp:`, 587 (submission) for `smtp:` with credentials, else 25. User and
 * password are percent-decoded. Errors hold no part of the URL.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { Effect } from "effect"
 * import { SmtpClient } from "effect-smtp"
 *
 * const options = await Effect.runPromise(SmtpClient.fromUrl("smtp://ann:p%40ss@mx.test?name=me.test"))
 * assert.strictEqual(options.port, 587)
 * assert.strictEqual(options.name, "me.test")
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromUrl = (
  input: string | URL | Redacted.Redacted<string>
): Effect.Effect<Options, SmtpError.ECONFIG> => Effect.fromResult(url.fromUrl(input))

const fromResult = <A>(result: Result.Result<A, SmtpError.ECONFIG>): Config.Config<A> =>
  Result.isSuccess(result)
    ? Config.succeed(result.success)
    : Config.fail(new ConfigProvider.SourceError({ message: `SMTP_*: ${result.failure.message}` }))

const environment = Config.all({
  url: Config.option(Config.Redacted("URL")),
  host: Config.option(Config.NonEmptyString("HOST")),
  port: Config.option(Config.Port("PORT")),
  user: Config.option(Config.NonEmptyString("USER")),
  password: Config.option(Config.Redacted("PASSWORD")),
  tls: Config.option(Config.Literals(["implicit", "starttls", "opportunistic", "off"], "TLS")),
  name: Config.option(Config.NonEmptyString("NAME"))
})

/** User and password, each from its variable or else from the URL. */
const credentials = (
  from: Sasl.Credentials | undefined,
  user: Option.Option<string>,
  password: Option.Option<Redacted.Redacted<string>>
): Result.Result<Sasl.Credentials | undefined, SmtpError.ECONFIG> => {
  const known = from?._tag === "Password" ? from : undefined
  const username = Option.getOrElse(user, () => known?.username)
  const secret = Option.getOrElse(password, () => known?.password)
  if (username !== undefined && secret !== undefined) {
    return Result.succeed(Sasl.password({ username, password: secret }))
  }
  return username === undefined && secret === undefined
    ? Result.succeed(undefined)
    : Result.fail(
      new SmtpError.ECONFIG({
        command: "API",
        attempted: false,
        field: "options.auth",
        message: "options.auth: SMTP_USER and SMTP_PASSWORD go together; set both or neither"
      })
    )
}

/** The single variables over the options of the URL. */
const over = (
  from: Options,
  { host, name, password, port, tls, user }: Omit<Config.Success<typeof environment>, "url">
): Result.Result<Options, SmtpError.ECONFIG> =>
  Result.map(credentials(from.auth, user, password), (auth) => {
    const mode = Option.getOrElse(tls, () => from.tls)
    // RFC 6409: with credentials it is a submission.
    const isSubmission = auth !== undefined && mode !== "implicit" && from.protocol === undefined &&
      from.path === undefined
    return {
      ...from,
      host: Option.getOrElse(host, () => from.host),
      port: Option.getOrElse(port, () => from.port ?? (isSubmission ? 587 : undefined)),
      tls: mode,
      name: Option.getOrElse(name, () => from.name),
      auth
    }
  })

/**
 * The options as the environment gives them: SMTP_URL, or SMTP_HOST, SMTP_PORT, SMTP_USER, SMTP_PASSWORD, SMTP_TLS and
 * SMTP_NAME; the single variables win over the URL.
 *
 * **Details**
 *
 * Without a port it is 465 with implicit TLS, 587 (submission) with credentials, else 25.
 *
 * @category configuration
 * @since 0.1.0
 */
export const config: Config.Config<Options> = environment.pipe(
  Config.nested("SMTP"),
  Config.flatMap((variables) => {
    const base: Result.Result<Options, SmtpError.ECONFIG> = Option.isSome(variables.url)
      ? url.fromUrl(variables.url.value)
      : Result.succeed({})
    return fromResult(Result.flatMap(base, (from) => over(from, variables)))
  })
)

/** Whether a send may be repeated by itself: a temporary failure, no part of the terminator handed over. */
const mayRepeat = (error: unknown): boolean =>
  SmtpError.isRetryable(error) && !(error as SmtpError.SmtpError).handedOver

/**
 * A client whose `send` tries again after temporary failures, as the schedule says.
 *
 * **Details**
 *
 * It tries again only where that cannot send a message twice: the failure is temporary and not in doubt, no part of
 * the terminator was handed to the transport, and the message can be read again: a string, octets, or a stream that was
 * not pulled yet. `use` and `verify` are left alone.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { Effect, Schedule } from "effect"
 * import { SmtpClient } from "effect-smtp"
 * import { SmtpServer } from "effect-smtp/testing"
 *
 * const busyOnce = SmtpServer.layer({
 *   faults: [SmtpServer.at("mail", SmtpServer.answer(451, "4.3.2 busy"), { connection: 1 })]
 * })
 * const program = Effect.gen(function*() {
 *   const smtp = SmtpClient.retryTemporary(yield* SmtpClient.make({ host: "mx.test" }), Schedule.recurs(3))
 *   return yield* smtp.send({ from: "a@me.test", to: "b@mx.test" }, "Subject: x\r\n\r\nx\r\n")
 * })
 * const result = await Effect.runPromise(program.pipe(Effect.provide(busyOnce)))
 * assert.deepStrictEqual(result.accepted, ["b@mx.test"])
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const retryTemporary: {
  <Output>(schedule: Schedule.Schedule<Output, ClientError>): (self: Client) => Client
  <Output>(self: Client, schedule: Schedule.Schedule<Output, ClientError>): Client
} = dual(2, <Output>(self: Client, schedule: Schedule.Schedule<Output, ClientError>): Client =>
  make_({
    ...self,
    send: (envelope, message) =>
      Effect.suspend(() => {
        let isPulled = false
        const source = Stream.isStream(message)
          ? Stream.suspend(() => {
            isPulled = true
            return message
          })
          : message
        return Effect.retry(self.send(envelope, source), {
          schedule: schedule as Schedule.Schedule<Output, unknown>,
          while: (error) => !isPulled && mayRepeat(error)
        })
      })
  }))

/**
 * A client whose calls each end within a deadline: `ETIMEDOUT` with `timeout: "total"`.
 *
 * **Details**
 *
 * Prefer it to `Effect.timeout` around a send: the error says whether the message is in doubt. When the deadline passes
 * after the terminator, the send waits at most 500 ms more for the reply; an acceptance that comes then is in `reply`,
 * and the error is not temporary.
 *
 * @category combinators
 * @since 0.1.0
 */
export const withTimeout: {
  (duration: Duration.Input): (self: Client) => Client
  (self: Client, duration: Duration.Input): Client
} = dual(2, (self: Client, duration: Duration.Input): Client => {
  const millis = Duration.toMillis(Duration.fromInputUnsafe(duration))
  return make_({
    send: (envelope, message) => withTotal(self.send(envelope, message), millis, undefined, endedSend),
    use: <A, E, R>(f: (connection: SmtpConnection.SmtpConnection) => Effect.Effect<A, E, R>) =>
      Effect.suspend(() => {
        let ended: Exit.Exit<A, E> | undefined
        const note = (exit: Exit.Exit<A, E>) => {
          ended = exit
        }
        return withTotal(self.use((connection) => noting(f(connection), note)), millis, undefined, () => ended)
      }),
    verify: withTotal(self.verify, millis)
  })
})
