/**
 * A strict limit on how many sends there are in any window of time.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { dual } from "effect/Function"
import * as RateLimiter from "effect/persistence/RateLimiter"
import * as Random from "effect/Random"
import * as Result from "effect/Result"
import type * as SmtpError from "../../SmtpError.ts"
import { held } from "./again.ts"
import { aCount, aDuration, aRecord, type Checked, oneOf, refused } from "./checks.ts"
import { type Client, withSendAll } from "./model.ts"
import * as permits from "./permits.ts"

/**
 * Who keeps the permits: the `RateLimiter` of `effect/persistence` is one.
 *
 * @category models
 * @since 0.1.0
 */
export interface Limiter {
  readonly consume: (options: {
    readonly algorithm: "fixed-window"
    readonly onExceeded: "fail"
    readonly key: string
    readonly limit: number
    readonly window: Duration.Duration
  }) => Effect.Effect<unknown, RateLimiter.RateLimiterError>
}

/**
 * The options of {@link withRateLimit}.
 *
 * @category models
 * @since 0.1.0
 */
export interface RateLimitOptions {
  /** The most sends in any `window`: a whole number from 1 to 100000. */
  readonly limit: number
  readonly window: Duration.Input
  /** "delay" (default): wait for one's turn, first come, first served. "fail": fail at once with `ECONNECTION`. */
  readonly onExceeded?: "delay" | "fail" | undefined
  /**
   * Until when a send counts: one window after its "end" (default), so that no window at the server ever holds more,
   * however long a connection takes to open; or after its "start", which loses no time to slow sends.
   */
  readonly countFrom?: "end" | "start" | undefined
  /** Shares the limit: a `RateLimiter` over Redis with other machines. Default: one in memory, for this client alone. */
  readonly limiter?: Limiter | undefined
  /** The name of the limit within `limiter`. Default "smtp". */
  readonly key?: string | undefined
}

/** The bound keeps the log, and the keys in a store, small. */
const most = 100_000

const example = `{ limit: 20, window: "1 second" }`

const own = RateLimiter.make.pipe(Effect.provide(RateLimiter.layerStoreMemory, { local: true }))

/** A permit is a key of its own that holds one send in a window. */
const claiming = (limiter: Limiter, key: string, window: number) => (index: number) =>
  limiter.consume({
    algorithm: "fixed-window",
    onExceeded: "fail",
    key: `${key}/${index}`,
    limit: 1,
    window: Duration.millis(window)
  }).pipe(
    Effect.as(0),
    Effect.catch(({ reason }) =>
      reason._tag === "RateLimitExceeded"
        ? Effect.succeed(Math.max(1, Duration.toMillis(reason.retryAfter)))
        : Effect.fail(
          held(`the rate limiter cannot be asked, so nothing was sent; see to its store, then send again`, reason)
        )
    )
  )

const shown = (millis: number): string => Duration.format(Duration.millis(Math.ceil(millis)))

const exceeded = (limit: number, window: number) => (millis: number): SmtpError.ECONNECTION =>
  held(`the rate limit of ${limit} in ${shown(window)} is used up; send again in ${shown(millis)}`)

interface Resolved {
  readonly limit: number
  /** Milliseconds. */
  readonly window: number
  readonly onExceeded: "delay" | "fail"
  readonly countFrom: "end" | "start"
  readonly limiter: Limiter | undefined
  readonly key: string
}

/** Checks the options, and puts the defaults in place. */
export const checkRateLimit = (options: RateLimitOptions, at: string): Checked<Resolved> =>
  Result.gen(function*() {
    yield* aRecord(at, options, example)
    const limit = yield* aCount(`${at}.limit`, options.limit, most)
    const window = yield* aDuration(`${at}.window`, options.window, "1 second")
    const { countFrom = "end", key = "smtp", limiter, onExceeded = "delay" } = options
    yield* oneOf(`${at}.onExceeded`, onExceeded, ["delay", "fail"])
    yield* oneOf(`${at}.countFrom`, countFrom, ["end", "start"])
    if (typeof key !== "string" || key === "") return yield* refused(`${at}.key`, "expected a non-empty string")
    if (limiter !== undefined && typeof limiter.consume !== "function") {
      return yield* refused(`${at}.limiter`, "expected a RateLimiter of effect/persistence")
    }
    return { countFrom, key, limit, limiter, onExceeded, window }
  })

/** `at`: what the options are called where they were given. */
export const rateLimited = Effect.fnUntraced(function*(
  self: Client,
  options: RateLimitOptions,
  at: string
): Effect.fn.Return<Client, SmtpError.ECONFIG> {
  const { countFrom, key, limit, limiter, onExceeded, window } = yield* Effect.fromResult(checkRateLimit(options, at))
  const { counts, withPermit } = yield* permits.make({
    limit,
    window,
    first: limiter === undefined ? 0 : yield* Random.nextIntBetween(0, limit, { halfOpen: true }),
    claim: claiming(limiter ?? (yield* own), key, window),
    refuse: onExceeded === "fail" ? exceeded(limit, window) : undefined
  })
  return withSendAll({
    ...self,
    send: (envelope, message) => {
      const send = self.send(envelope, message)
      return countFrom === "end" ? withPermit(send) : Effect.andThen(withPermit(Effect.void), send)
    },
    policies: Effect.zipWith(self.policies, counts, (inner, now) => ({
      ...inner,
      rateLimit: { limit, window: Duration.millis(window), ...now }
    }))
  })
})

/**
 * A client that never sends more than `limit` mails in any `window`, wherever the window begins.
 *
 * **Details**
 *
 * Permits come from the `RateLimiter` of `effect/persistence`: in memory, or from `limiter`, which several machines
 * share when its store is Redis. Each permit is a key that holds one send in a window: a sliding log, so the whole
 * limit may be used in a burst and still no window holds more; the limiter's own window and bucket would let nearly
 * twice as many through around an edge. A store holds up to `limit` small keys.
 *
 * A send counts from its start until one window after its end. What a server sees of it, be it MAIL or the message, lies
 * between, so the server never counts more than `limit` either. Sends that take a time `d` so pass at a rate of `limit`
 * in `window + d`; `countFrom: "start"` gives that up for the full rate. Between machines permits count from the start.
 *
 * Sends wait first come, first served; with `onExceeded: "fail"` they fail at once with `ECONNECTION` (temporary, not
 * attempted, command "API"), whose message says when to send again. So does a send whose limiter cannot be asked. One
 * that is interrupted while it waits gives its turn back. `use` and `verify` are left alone.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { Effect } from "effect"
 * import { SmtpClient } from "effect-smtp"
 * import { SmtpServer } from "effect-smtp/testing"
 *
 * const program = Effect.gen(function*() {
 *   const smtp = yield* SmtpClient.make({ host: "mx.test" })
 *   const limited = yield* SmtpClient.withRateLimit(smtp, { limit: 1, window: "1 minute", onExceeded: "fail" })
 *   yield* limited.send({ from: "a@me.test", to: "b@mx.test" }, "Subject: 1\n\n1\n")
 *   return yield* Effect.flip(limited.send({ from: "a@me.test", to: "b@mx.test" }, "Subject: 2\n\n2\n"))
 * })
 * const error = await Effect.runPromise(program.pipe(Effect.provide(SmtpServer.layer())))
 * assert.strictEqual(error._tag, "ECONNECTION")
 * assert.ok(error.isTemporary && !error.attempted)
 * assert.match(error.message, /the rate limit of 1 in 1m is used up; send again in /)
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const withRateLimit: {
  (options: RateLimitOptions): (self: Client) => Effect.Effect<Client, SmtpError.ECONFIG>
  (self: Client, options: RateLimitOptions): Effect.Effect<Client, SmtpError.ECONFIG>
} = dual(2, (self: Client, options: RateLimitOptions) => rateLimited(self, options, "options"))
