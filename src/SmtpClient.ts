/**
 * The service that a backend provides once: it sends mail over connections that it opens, keeps and ends.
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
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Client, Options } from "./internal/client/model.ts"
import { applyPolicies, type Policies } from "./internal/client/policies.ts"
import { noting, withEpilogue } from "./internal/deadline.ts"
import * as options from "./internal/options.ts"
import * as poolErrors from "./internal/poolErrors.ts"
import * as poolObserved from "./internal/poolObserved.ts"
import * as poolOptions from "./internal/poolOptions.ts"
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
export type {
  /** @since 0.1.0 */
  Policies,
  /** @since 0.1.0 */
  ServerPolicies
} from "./internal/client/policies.ts"
export {
  /** @since 0.1.0 */
  type Preset,
  /** @since 0.1.0 */
  preset,
  /** @since 0.1.0 */
  type PresetName,
  /** @since 0.1.0 */
  presets
} from "./internal/client/presets.ts"
export {
  /** @since 0.1.0 */
  retryTemporary
} from "./internal/client/retryTemporary.ts"
export {
  /** @since 0.1.0 */
  roundRobin
} from "./internal/client/roundRobin.ts"
export type {
  /** @since 0.1.0 */
  CircuitState,
  /** @since 0.1.0 */
  ConcurrencyState,
  /** @since 0.1.0 */
  PolicyState,
  /** @since 0.1.0 */
  RateLimitState
} from "./internal/client/state.ts"
export {
  /** @since 0.1.0 */
  type AdaptiveConcurrencyOptions,
  /** @since 0.1.0 */
  withAdaptiveConcurrency
} from "./internal/client/withAdaptiveConcurrency.ts"
export {
  /** @since 0.1.0 */
  type CircuitBreakerOptions,
  /** @since 0.1.0 */
  withCircuitBreaker
} from "./internal/client/withCircuitBreaker.ts"
export {
  /** @since 0.1.0 */
  withFallback
} from "./internal/client/withFallback.ts"
export {
  /** @since 0.1.0 */
  type Limiter,
  /** @since 0.1.0 */
  type RateLimitOptions,
  /** @since 0.1.0 */
  withRateLimit
} from "./internal/client/withRateLimit.ts"
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

/** A client of one server, without policies, over a pool that the scope owns. */
const pooled = Effect.fnUntraced(function*(
  input: Options
): Effect.fn.Return<Client, SmtpError.ECONFIG, Scope.Scope | SmtpConnector.SmtpConnector> {
  const resolved = yield* Effect.fromResult(options.resolve(input))
  const policy = yield* Effect.fromResult(poolOptions.resolve(input.pool))
  const connector = yield* SmtpConnector.SmtpConnector
  const pool = yield* poolObserved.make(input, resolved, policy)
  return {
    send: pool.send,
    sendAll: pool.sendAll,
    use: pool.use,
    verify: Effect.suspend(() => pool.isClosed() ? Effect.fail(poolErrors.closed()) : verify(pool.connect, input)).pipe(
      Effect.provideService(SmtpConnector.SmtpConnector, connector)
    ),
    policies: Effect.succeed({}),
    concurrency: policy.max
  } satisfies Client
})

/** The same where no scope is around: each call has a pool of its own, and ends with it. */
const unpooled = Effect.fnUntraced(function*(
  input: Options
): Effect.fn.Return<Client, SmtpError.ECONFIG, SmtpConnector.SmtpConnector> {
  yield* Effect.fromResult(options.resolve(input))
  const { max } = yield* Effect.fromResult(poolOptions.resolve(input.pool))
  const connector = yield* SmtpConnector.SmtpConnector
  // The options were found good just now; no connection is kept for a second call.
  const client = Effect.orDie(pooled({ ...input, pool: { ...input.pool, min: 0 } })).pipe(
    Effect.provideService(SmtpConnector.SmtpConnector, connector)
  )
  return {
    send: (envelope, message) =>
      withEpilogue((note) =>
        Effect.scoped(Effect.flatMap(client, ({ send }) => noting(send(envelope, message), note)))
      ),
    sendAll: (mails) => Stream.unwrap(Effect.map(client, ({ sendAll }) => sendAll(mails))),
    use: (f) => Effect.scoped(Effect.flatMap(client, ({ use }) => use(f))),
    verify: Effect.scoped(Effect.flatMap(client, ({ verify }) => verify)),
    policies: Effect.succeed({}),
    concurrency: max
  } satisfies Client
})

const connecting = (input: Options): Effect.Effect<Client, SmtpError.ECONFIG, SmtpConnector.SmtpConnector> =>
  Effect.flatMap(
    Effect.serviceOption(Scope.Scope),
    Option.match({ onNone: () => unpooled(input), onSome: (scope) => Scope.provide(pooled(input), scope) })
  )

/** On a connection of its own, which says QUIT at its end. */
const verify = <E, R>(connect: Effect.Effect<SmtpConnection.SmtpConnection, E, R>, { auth }: Options) =>
  Effect.scoped(Effect.map(connect, ({ capabilities, greeting, secure, security, securityReport }) => ({
    capabilities,
    greeting,
    secure,
    security,
    securityReport,
    authenticated: auth !== undefined
  })))

/**
 * Makes a client. Its connections are those of a pool, which the scope around it owns, as that of a layer: they are opened
 * when they are needed and kept for the sends that follow, as `options.pool` says. With no scope around, each call opens
 * its own connections and closes them.
 *
 * **Details**
 *
 * Options that contradict each other fail with `ECONFIG` here, before anything is dialled. The policies among them are put
 * around the client in the order that `Policies` tells. When the scope closes, sends that wait for a connection fail with
 * `ECONNECTION`, those in flight may end (`pool.drain`), and every connection says QUIT. A connection that the server
 * closed while it was idle costs no message: see the module `SmtpPool`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  input: Options & Policies
): Effect.fn.Return<Client, SmtpError.ECONFIG, SmtpConnector.SmtpConnector> {
  return yield* applyPolicies(yield* connecting(input), input, connecting)
})

/**
 * The service from options.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  input: Options & Policies
): Layer.Layer<SmtpClient, SmtpError.ECONFIG, SmtpConnector.SmtpConnector> => Layer.effect(SmtpClient, make(input))

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
  wrapped: Config.Wrap<Options & Policies>
): Layer.Layer<SmtpClient, SmtpError.ECONFIG | Config.ConfigError, SmtpConnector.SmtpConnector> =>
  Layer.unwrap(Effect.map(Config.unwrap(wrapped), layer))

/**
 * Reads options from a URL: `smtp://`, `smtps://` or `lmtp://`, user and password, host and port, and every other
 * option as a query parameter, by its name (`?tls=opportunistic&timeouts.command=10+seconds&pool.max=8`).
 *
 * **Details**
 *
 * The port is 465 for `smtps:`, 24 for `lmtp:`, 587 (submission) for `smtp:` with credentials, else 25. User and
 * password are percent-decoded. Errors hold no part of the URL. The pool and the policies are options like the others
 * (`rateLimit.limit=20&rateLimit.window=1+second`), but for `retry`, `fallback` and `rateLimit.limiter`, which are no text.
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
): Effect.Effect<Options & Policies, SmtpError.ECONFIG> => Effect.fromResult(url.fromUrl(input))
