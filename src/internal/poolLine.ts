/**
 * The line before the places of a pool: who finds none free waits, first come first served, and no longer than
 * `acquireTimeout`. All who wait share one timer.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as SmtpError from "../SmtpError.ts"
import type { Alarm, Sleeper } from "./alarm.ts"
import * as poolErrors from "./poolErrors.ts"
import type { Resolved } from "./poolOptions.ts"

interface Waiter {
  /** When it gives up, in milliseconds of the alarm's clock: no later than those who came after it. */
  readonly due: number
  readonly resume: (effect: Effect.Effect<void, SmtpError.ECONNECTION>) => void
  /** The place is his, although he may not know yet. */
  readonly given: () => void
}

export class Line implements Sleeper {
  readonly #alarm: Alarm
  readonly #acquireTimeout: number
  /** In the order in which they came; who is in it has neither been given a place nor given up. */
  readonly #waiters = new Set<Waiter>()
  #free: number
  wakeAt = Infinity

  constructor(alarm: Alarm, { acquireTimeout, max }: Resolved) {
    this.#alarm = alarm
    this.#acquireTimeout = acquireTimeout
    this.#free = max
  }

  get hasFree(): boolean {
    return this.#free > 0
  }
  get waiting(): number {
    return this.#waiters.size
  }

  /** Takes a place if one is free: then nobody waits. */
  tryTake(): boolean {
    if (this.#free === 0) return false
    this.#free--
    return true
  }

  /**
   * Waits for a place, in an uninterruptible region of which `restore` is; whoever has it gives it back by `release`. One
   * who is interrupted just when it is given to him gives it back himself.
   */
  take(restore: <A, E>(self: Effect.Effect<A, E>) => Effect.Effect<A, E>): Effect.Effect<void, SmtpError.ECONNECTION> {
    return Effect.suspend(() => {
      let isOurs = this.tryTake()
      if (isOurs) return Effect.void
      const wait = this.#wait(() => {
        isOurs = true
      })
      return Effect.onExit(restore(wait), (exit) => {
        if (isOurs && Exit.isFailure(exit)) this.release()
        return Effect.void
      })
    })
  }

  #wait(given: () => void): Effect.Effect<void, SmtpError.ECONNECTION> {
    return Effect.callback((resume) => {
      const waiter: Waiter = { due: this.#alarm.now() + this.#acquireTimeout, resume, given }
      this.#waiters.add(waiter)
      if (this.#waiters.size === 1) this.#watch(waiter.due)
      return Effect.sync(() => this.#leave(waiter))
    })
  }

  #leave(waiter: Waiter): void {
    if (this.#waiters.delete(waiter) && this.#waiters.size === 0) this.#rest()
  }

  /** The place is free, or belongs to him who waited longest. */
  release(): void {
    for (const waiter of this.#waiters) {
      this.#leave(waiter)
      waiter.given()
      // Not at once: a long line of short calls would run on one stack.
      return waiter.resume(Effect.yieldNow)
    }
    this.#free++
  }

  /** There are no places any more. */
  close(): void {
    for (const waiter of this.#waiters) {
      this.#leave(waiter)
      waiter.resume(Effect.fail(poolErrors.closed()))
    }
  }

  #watch(due: number): void {
    if (due === Infinity) return
    this.wakeAt = due
    this.#alarm.add(this)
  }

  #rest(): void {
    if (this.wakeAt === Infinity) return
    this.wakeAt = Infinity
    this.#alarm.remove(this)
  }

  /** Who came first is due first. */
  look(now: number): void {
    for (const waiter of this.#waiters) {
      if (waiter.due > now) {
        this.wakeAt = waiter.due
        return
      }
      this.#leave(waiter)
      waiter.resume(Effect.fail(poolErrors.late(this.#acquireTimeout)))
    }
  }
}
