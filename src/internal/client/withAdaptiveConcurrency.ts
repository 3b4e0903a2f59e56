/**
 * A limit on how many sends run at once, which the server's answers move.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { dual } from "effect/Function"
import * as Result from "effect/Result"
import * as Semaphore from "effect/Semaphore"
import * as SmtpError from "../../SmtpError.ts"
import { isThrottled } from "./again.ts"
import { aCount, aRecord, type Checked, refused } from "./checks.ts"
import { type Client, withSendAll } from "./model.ts"
import type { ConcurrencyState } from "./state.ts"
import { Waiting } from "./waiting.ts"

/**
 * The options of {@link withAdaptiveConcurrency}.
 *
 * @category models
 * @since 0.1.0
 */
export interface AdaptiveConcurrencyOptions {
  /**
   * Never more sends at once than this: a whole number from 1 to 10000. The pool is to have as many connections
   * (`pool.max`); in a smaller one sends wait for those, and the limit that is found is too high.
   */
  readonly max: number
  /** Never a limit below this. Default 1. */
  readonly min?: number | undefined
  /** The limit to begin with. Default: `min`. */
  readonly initial?: number | undefined
}

const most = 10_000

/** Whether the failure says that there was too much at once. */
const isCongestion = (exit: Exit.Exit<unknown, unknown>): boolean => {
  const error = Exit.isFailure(exit) ? SmtpError.fromCause(exit.cause) : undefined
  return error !== undefined && error.command !== "API" && (error._tag === "ETIMEDOUT" || isThrottled(error))
}

/** The limit itself: additive increase, multiplicative decrease; doubling until the first decrease. */
class Window {
  private size: number
  private threshold = Infinity
  /** How often it shrank. */
  epoch = 0
  private readonly min: number
  private readonly max: number
  constructor(min: number, max: number, initial: number) {
    this.min = min
    this.max = max
    this.size = initial
  }
  get limit(): number {
    return Math.floor(this.size)
  }
  grow(): void {
    this.size = Math.min(this.max, this.size + (this.size < this.threshold ? 1 : 1 / this.size))
  }
  shrink(): void {
    this.size = this.threshold = Math.max(this.min, Math.floor(this.size / 2))
    this.epoch++
  }
}

const makeGate = Effect.fnUntraced(function*(window: Window) {
  const permits = yield* Semaphore.make(window.limit)
  const waiting = new Waiting()
  let running = 0

  const adjust = (exit: Exit.Exit<unknown, unknown>, epoch: number): Effect.Effect<void> => {
    const isFull = running >= window.limit || waiting.count > 0
    running--
    // What began before the last decrease tells of what is answered already.
    if (epoch === window.epoch) {
      if (isCongestion(exit)) window.shrink()
      else if (Exit.isSuccess(exit) && isFull) window.grow()
    }
    return permits.resize(window.limit)
  }

  const guard = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.suspend(() => {
      const leave = waiting.enter()
      const begin = Effect.sync(() => {
        leave()
        running++
        return window.epoch
      })
      const run = Effect.acquireUseRelease(
        begin,
        () => self,
        (epoch, exit) => Effect.suspend(() => adjust(exit, epoch))
      )
      return Effect.ensuring(permits.withPermit(run), Effect.sync(leave))
    })

  return {
    guard,
    state: Effect.sync((): ConcurrencyState => ({ limit: window.limit, running, waiting: waiting.count }))
  }
})

/** Checks the options, and puts the defaults in place. */
export const checkAdaptive = (
  options: AdaptiveConcurrencyOptions,
  at: string
): Checked<{ readonly max: number; readonly min: number; readonly initial: number }> =>
  Result.gen(function*() {
    yield* aRecord(at, options, "{ max: 20 }")
    const max = yield* aCount(`${at}.max`, options.max, most)
    const min = yield* aCount(`${at}.min`, options.min ?? 1, most)
    const initial = yield* aCount(`${at}.initial`, options.initial ?? min, most)
    if (min > max) return yield* refused(`${at}.min`, `it is more than ${at}.max; lower it, or raise the other`)
    return initial < min || initial > max
      ? yield* refused(`${at}.initial`, `expected a whole number from ${min} to ${max}, that is from min to max`)
      : { max, min, initial }
  })

/** `at`: what the options are called where they were given. */
export const adaptive = Effect.fnUntraced(function*(
  self: Client,
  options: AdaptiveConcurrencyOptions,
  at: string
): Effect.fn.Return<Client, SmtpError.ECONFIG> {
  const { initial, max, min } = yield* Effect.fromResult(checkAdaptive(options, at))
  const { guard, state } = yield* makeGate(new Window(min, max, initial))
  return withSendAll({
    ...self,
    send: (envelope, message) => guard(self.send(envelope, message)),
    policies: Effect.zipWith(self.policies, state, (inner, now) => ({ ...inner, adaptiveConcurrency: now })),
    concurrency: max
  })
})

/**
 * A client that finds out how many sends at once the server likes: the limit grows while sends succeed, and is halved
 * when the server says that it is too much.
 *
 * **Details**
 *
 * It grows only while it is reached: by one for each success until the first halving, then by one for a limit's worth of
 * successes, up to `max`. It is halved, down to `min`, by 421, by 4.7.x and by `ETIMEDOUT`, once for all the sends that
 * were under way. Other failures move nothing. Sends wait first come, first served; one that is interrupted while it
 * waits leaves nothing behind. `use` and `verify` are left alone.
 *
 * `client.policies` shows `{ limit, running, waiting }`. It is a field of every client rather than a second result, so
 * it is still there when other combinators are put around, and in the service that a layer provides.
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
 *   const smtp = yield* SmtpClient.withAdaptiveConcurrency(yield* SmtpClient.make({ host: "mx.test" }), { max: 8 })
 *   const send = smtp.send({ from: "a@me.test", to: "b@mx.test" }, "Subject: x\n\nx\n")
 *   yield* Effect.all(Array.from({ length: 50 }, () => send), { concurrency: "unbounded" })
 *   return (yield* smtp.policies).adaptiveConcurrency
 * })
 * const state = await Effect.runPromise(program.pipe(Effect.provide(SmtpServer.layer())))
 * assert.deepStrictEqual(state, { limit: 8, running: 0, waiting: 0 })
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const withAdaptiveConcurrency: {
  (options: AdaptiveConcurrencyOptions): (self: Client) => Effect.Effect<Client, SmtpError.ECONFIG>
  (self: Client, options: AdaptiveConcurrencyOptions): Effect.Effect<Client, SmtpError.ECONFIG>
} = dual(2, (self: Client, options: AdaptiveConcurrencyOptions) => adaptive(self, options, "options"))
