/**
 * The service that a backend provides once: it sends mail and opens the connections for it.
 *
 * What it is: `SmtpClient` with its constructors, layers and configuration, and combinators that wrap a client value.
 * What it is not: a connection; for several commands on one connection there is `use`.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import { type Client, type Options, withSendAll } from "./internal/client/model.ts"
import { noting, withEpilogue } from "./internal/deadline.ts"
import * as options from "./internal/options.ts"
import type { SendResult } from "./internal/outcome.ts"
import * as securityReport from "./internal/securityReport.ts"
import * as url from "./internal/url.ts"
import * as SmtpConnection from "./SmtpConnection.ts"
import * as SmtpConnector from "./SmtpConnector.ts"
import * as SmtpError from "./SmtpError.ts"

export {
  /** @since 0.1.0 */
  config
} from "./internal/client/environment.ts"
export type {
  /** @since 0.1.0 */
  Client,
  /** @since 0.1.0 */
  ClientError,
  /** @since 0.1.0 */
  Options,
  /** @since 0.1.0 */
  Report
} from "./internal/client/model.ts"
export {
  /** @since 0.1.0 */
  retryTemporary
} from "./internal/client/retryTemporary.ts"
export {
  /** @since 0.1.0 */
  withTimeout
} from "./internal/client/withTimeout.ts"

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
  return withSendAll({
    send,
    use,
    verify: use(({ capabilities, greeting, secure, security, securityReport }) => {
      const authenticated = input.auth !== undefined
      return Effect.succeed({ capabilities, greeting, secure, security, securityReport, authenticated })
    })
  })
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
