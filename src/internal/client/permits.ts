/**
 * The permits of a rate limit: a sliding log, first come first served, on top of a limiter that may be shared.
 *
 * Each permit is a slot of its own that the limiter gives out at most once in a window, so that no window, wherever it
 * begins, holds more than the limit. The limiter's own algorithms do not promise that for a limit above one: a window
 * over the edge of two fixed ones, or over a full bucket and its refill, holds nearly twice as many.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Semaphore from "effect/Semaphore"
import type * as SmtpError from "../../SmtpError.ts"
import { Waiting } from "./waiting.ts"

interface Permit {
  readonly index: number
  /** When it may be used again, in milliseconds of the monotonic clock. */
  freeAt: number
}

interface Permits {
  /** Runs a send with a permit, which is free again one window after the send's end. */
  readonly withPermit: <A, E, R>(
    self: Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | SmtpError.ECONNECTION, R>
  readonly counts: Effect.Effect<{ readonly used: number; readonly waiting: number }>
}

interface Plan {
  readonly limit: number
  readonly window: number
  /** Numbers the permits; processes that share a limiter begin at different ones, and so rarely ask for the same. */
  readonly first: number
  /** Takes a permit from the limiter: the milliseconds until it can be had, or 0. */
  readonly claim: (index: number) => Effect.Effect<number, SmtpError.ECONNECTION>
  /** What a send fails with that would have to wait; undefined = it waits. */
  readonly refuse: ((millis: number) => SmtpError.ECONNECTION) | undefined
}

const now = Effect.map(Clock.monotonicTimeNanos, (nanos) => Number(nanos) / 1e6)

class Log {
  /** What is not under way, the next to be free first. */
  private readonly free: Array<Permit> = []
  private made = 0
  private readonly limit: number
  private readonly first: number
  constructor({ first, limit }: Plan) {
    this.limit = limit
    this.first = first
  }
  /** The permit to be had first; there is one, as no more than the limit are under way. */
  next(at: number): Permit {
    const [oldest] = this.free
    if (oldest !== undefined && (oldest.freeAt <= at || this.made === this.limit)) return oldest
    const permit = { index: (this.first + this.made++) % this.limit, freeAt: at }
    this.free.unshift(permit)
    return permit
  }
  /** Takes what `next` gave. */
  take(): void {
    this.free.shift()
  }
  /** What `next` gave can be had no earlier. */
  defer(permit: Permit, freeAt: number): void {
    permit.freeAt = freeAt
    this.free.sort((a, b) => a.freeAt - b.freeAt)
  }
  /** Later than all that were given back before. */
  giveBack(permit: Permit, freeAt: number): void {
    permit.freeAt = freeAt
    this.free.push(permit)
  }
  used(at: number): number {
    return this.made - this.free.filter(({ freeAt }) => freeAt <= at).length
  }
}

/** The first in line waits for the next permit and takes it. */
const taking = (log: Log, { claim, refuse }: Plan) =>
  Effect.fnUntraced(function*(onTaken: (permit: Permit) => void) {
    for (;;) {
      const at = yield* now
      const permit = log.next(at)
      if (permit.freeAt > at) {
        const millis = Math.ceil(permit.freeAt - at)
        yield* refuse === undefined ? Effect.sleep(millis) : Effect.fail(refuse(millis))
        continue
      }
      const busy = yield* claim(permit.index)
      if (busy > 0) {
        log.defer(permit, (yield* now) + busy)
        continue
      }
      log.take()
      return onTaken(permit)
    }
  })

export const make = Effect.fnUntraced(function*(plan: Plan): Effect.fn.Return<Permits> {
  const { limit, refuse, window } = plan
  const underWay = yield* Semaphore.make(limit)
  const head = yield* Semaphore.make(1)
  const log = new Log(plan)
  const take = taking(log, plan)
  const waiting = new Waiting()

  const withPermit: Permits["withPermit"] = (self) =>
    Effect.suspend(() => {
      let permit: Permit | undefined
      const leave = waiting.enter()
      const begin = head.withPermit(take((taken) => {
        permit = taken
        leave()
      }))
      const giveBack = Effect.map(now, (at) => {
        if (permit !== undefined) log.giveBack(permit, at + window)
      })
      const send = Effect.ensuring(Effect.andThen(begin, self), giveBack)
      const run = refuse === undefined ? underWay.withPermit(send) : Effect.flatMap(
        underWay.withPermitsIfAvailable(1)(send),
        Option.match({ onNone: () => Effect.fail(refuse(window)), onSome: Effect.succeed })
      )
      return Effect.ensuring(run, Effect.sync(leave))
    })

  return { withPermit, counts: Effect.map(now, (at) => ({ used: log.used(at), waiting: waiting.count })) }
})
