/**
 * Connections that are kept: sends borrow one, and give it back for the next.
 *
 * What it is: the pool behind every `SmtpClient`, for those who want one without the service, or one for each of many
 * tenants ({@link makeKeyed}). What it is not: it limits no rate and retries no refusal; those are combinators of
 * `SmtpClient`.
 *
 * **Details**
 *
 * A pool opens a connection when a send needs one and none is idle, up to `max`; who comes later waits, first come first
 * served and no longer than `acquireTimeout`. The connection used last is used next, so that the others can end. Nothing is said to test an idle connection: a
 * FIN or a 421 that came meanwhile is seen without asking, and that connection is not lent. Where the loss shows only when
 * the message is on its way, the message is sent once more on a connection dialled for it. That happens only if the lost
 * connection was not dialled for this message, the failure is `ECONNECTION` or `ESOCKET`, not in doubt and with nothing of
 * the terminator handed over, and the message can be read again: a string, octets, or a stream that was not pulled or is
 * marked with `SmtpConnection.replayable`.
 *
 * **Gotchas**
 *
 * With CHUNKING a small message goes in one flight with its envelope where a reply was read in the last 5 seconds. Should
 * the connection be lost just then, the message is in doubt, and it is not sent again. `chunking: false` trades the round
 * trip that this saves for that.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Hash from "effect/Hash"
import * as RcMap from "effect/RcMap"
import type * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type * as Envelope from "./Envelope.ts"
import type { Message } from "./internal/message.ts"
import * as options from "./internal/options.ts"
import type { SendResult } from "./internal/outcome.ts"
import type * as poolEngine from "./internal/poolEngine.ts"
import * as poolErrors from "./internal/poolErrors.ts"
import type { Stats } from "./internal/poolEvents.ts"
import { keyOf } from "./internal/poolKey.ts"
import * as poolObserved from "./internal/poolObserved.ts"
import * as poolOptions from "./internal/poolOptions.ts"
import type * as SmtpConnection from "./SmtpConnection.ts"
import type { SmtpConnector } from "./SmtpConnector.ts"
import type * as SmtpError from "./SmtpError.ts"

export type {
  /** @since 0.1.0 */
  Stats
} from "./internal/poolEvents.ts"
export type {
  /** @since 0.1.0 */
  Options,
  /** @since 0.1.0 */
  PooledOptions
} from "./internal/poolOptions.ts"

/**
 * What a send through a pool can end in, beside the errors of the message's own stream.
 *
 * @category models
 * @since 0.1.0
 */
export type PoolError = poolEngine.PoolError

/**
 * A pool of connections of one security context.
 *
 * @category models
 * @since 0.1.0
 */
export interface SmtpPool {
  /** Sends one message. `timeouts.total` counts from the call, the wait for a connection included. */
  readonly send: <E = never, R = never>(
    envelope: Envelope.Input,
    message: Message<E, R>
  ) => Effect.Effect<SendResult, PoolError | E, R>
  /**
   * Sends mails over up to `max` connections; each pulled mail gives exactly one Result, in the order of the mails. At
   * most 16 for each of `max` are sent ahead of the Results that are read.
   */
  readonly sendAll: <E, R, E2 = never, R2 = never>(
    mails: Stream.Stream<SmtpConnection.Mail<E2, R2>, E, R>
  ) => Stream.Stream<Result.Result<SendResult, PoolError | E2>, E, R | R2>
  /**
   * One connection, exclusively, for as long as the effect runs; afterwards it takes no more commands. A call of the pool
   * itself inside needs another one.
   */
  readonly use: <A, E, R>(
    f: (connection: SmtpConnection.SmtpConnection) => Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | SmtpError.ConnectError | SmtpError.LoginError, R>
  /** How the pool stands now. */
  readonly stats: Effect.Effect<Stats>
}

const makeResolved = Effect.fnUntraced(function*(
  input: SmtpConnection.Options,
  policy: poolOptions.Resolved,
  resolved: options.Resolved
) {
  const pool = yield* poolObserved.make(input, resolved, policy)
  return {
    send: pool.send,
    sendAll: pool.sendAll,
    use: pool.use,
    stats: Effect.sync(pool.read)
  } satisfies SmtpPool as SmtpPool
})

/**
 * Makes a pool; the scope owns its connections.
 *
 * **Details**
 *
 * When the scope closes, calls that wait for a connection fail with `ECONNECTION` at once, as does every later call; those
 * in flight may end within `drain`, and lose their connection then; each connection says QUIT.
 *
 * **Gotchas**
 *
 * Connections are dialled with the services and references that `make` was run with, not with those of the send that
 * happens to come first: a connection serves others afterwards. Only tracing and logging are the caller's.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { Effect } from "effect"
 * import { SmtpPool } from "effect-smtp"
 * import { SmtpServer } from "effect-smtp/testing"
 *
 * const program = Effect.gen(function*() {
 *   const pool = yield* SmtpPool.make({ host: "mx.test", pool: { max: 2 } })
 *   const send = pool.send({ from: "ann@me.test", to: "bob@mx.test" }, "Subject: Hi\r\n\r\nHello\r\n")
 *   yield* Effect.all([send, send, send, send], { concurrency: "unbounded" })
 *   return yield* pool.stats
 * })
 * const stats = await Effect.runPromise(Effect.scoped(program).pipe(Effect.provide(SmtpServer.layer())))
 * assert.deepStrictEqual([stats.opened, stats.reused, stats.idle], [2, 2, 2])
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  input: poolOptions.PooledOptions
): Effect.fn.Return<SmtpPool, SmtpError.ECONFIG, Scope.Scope | SmtpConnector> {
  const resolved = yield* Effect.fromResult(options.resolve(input))
  const policy = yield* Effect.fromResult(poolOptions.resolve(input.pool))
  return yield* makeResolved(input, policy, resolved)
})

/**
 * One pool for each security context.
 *
 * @category models
 * @since 0.1.0
 */
export interface Keyed {
  /**
   * The pool of these options, made when it is asked for first; the scope holds it. Once nobody holds it, it lives on for
   * `idleTimeout`.
   */
  readonly get: (
    options: SmtpConnection.Options
  ) => Effect.Effect<SmtpPool, SmtpError.ECONFIG | SmtpError.ECONNECTION, Scope.Scope>
}

/** A key of the map, and what its pool is made from; equal if the keys are. */
class Tenant implements Equal.Equal {
  readonly key: string
  readonly input: SmtpConnection.Options
  readonly resolved: options.Resolved

  constructor(input: SmtpConnection.Options, resolved: options.Resolved) {
    this.key = keyOf(resolved)
    this.input = input
    this.resolved = resolved
  }
  [Equal.symbol](that: Equal.Equal): boolean {
    return that instanceof Tenant && that.key === this.key
  }
  [Hash.symbol](): number {
    return Hash.string(this.key)
  }
}

/**
 * Makes pools for many tenants: options that differ in anything share no connection.
 *
 * **Details**
 *
 * What counts is every option with its default in place: host, port or path, TLS mode and all of `tlsOptions`, the name to
 * verify, the name in EHLO, protocol, credentials with their secret, mechanisms, `localAddress`, `family`, deadlines,
 * transcript. The connector is the one that `makeKeyed` was given, for all. Each pool has the same policy, so `max` is for
 * each. Keys are digests that tell nothing of the secrets.
 *
 * **Gotchas**
 *
 * A password or token that an Effect provides is the same only if it is the same Effect: make it once for each tenant and
 * keep it. One made anew for each call gets a pool of its own each time.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { Effect, Redacted } from "effect"
 * import { Sasl, SmtpPool } from "effect-smtp"
 * import { SmtpServer } from "effect-smtp/testing"
 *
 * const of = (username: string) => ({
 *   host: "mx.test",
 *   auth: Sasl.password({ username, password: Redacted.make("secret") })
 * })
 * const program = Effect.gen(function*() {
 *   const pools = yield* SmtpPool.makeKeyed({ max: 3 })
 *   const send = (tenant: string) =>
 *     Effect.scoped(Effect.gen(function*() {
 *       const pool = yield* pools.get(of(tenant))
 *       yield* pool.send({ from: "app@me.test", to: "you@mx.test" }, "Subject: Hi\r\n\r\nHello\r\n")
 *     }))
 *   yield* Effect.forEach(["ann", "bob", "ann", "bob"], send, { discard: true })
 *   return (yield* (yield* SmtpServer.SmtpServer).connections).map(({ username }) => username)
 * })
 * const users = await Effect.runPromise(Effect.scoped(program).pipe(Effect.provide(SmtpServer.layer())))
 * assert.deepStrictEqual(users, ["ann", "bob"])
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeKeyed = Effect.fnUntraced(function*(
  pool?: poolOptions.Options
): Effect.fn.Return<Keyed, SmtpError.ECONFIG, Scope.Scope | SmtpConnector> {
  const policy = yield* Effect.fromResult(poolOptions.resolve(pool))
  const context = yield* Effect.context<SmtpConnector>()
  let isClosed = false
  const pools = yield* RcMap.make({
    idleTimeToLive: policy.idleTimeout,
    // Without the context of who asks first.
    lookup: ({ input, resolved }: Tenant) =>
      Effect.updateContext(
        makeResolved(input, policy, resolved),
        (caller: Context.Context<Scope.Scope>) => Context.add(context, Scope.Scope, Context.get(caller, Scope.Scope))
      )
  })
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      isClosed = true
    })
  )
  return {
    get: (input) =>
      Effect.flatMap(
        Effect.fromResult(options.resolve(input)),
        (resolved): Effect.Effect<SmtpPool, SmtpError.ECONNECTION, Scope.Scope> =>
          isClosed ? Effect.fail(poolErrors.closed()) : RcMap.get(pools, new Tenant(input, resolved))
      )
  }
})
