/**
 * One sleep for all deadlines that go by the same clock: a fiber and a timer for each of them would cost more memory than
 * the connection it watches.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"
import * as Scheduler from "effect/Scheduler"

/** Who wants to look at the clock at some time. */
export interface Sleeper {
  /** When to look, in milliseconds of the alarm's clock; Infinity = never. A later time may be set freely. */
  wakeAt: number
  /** It is time: the sleeper acts, or sets a later one. */
  readonly look: (now: number) => void
}

export class Alarm {
  readonly #clock: Clock.Clock
  /** The clock, and the scheduler of whoever asked first. */
  readonly #context: Context.Context<never>
  readonly #sleepers = new Set<Sleeper>()
  #fiber: Fiber.Fiber<void> | undefined
  #ringsAt = Infinity
  /** The earliest time that a sleeper wants since it was settled when to ring. */
  #wanted = Infinity
  #isSettling = false

  constructor(clock: Clock.Clock, context: Context.Context<never>) {
    this.#clock = clock
    this.#context = context
  }

  /** Milliseconds of the clock that no adjustment of the wall clock moves. */
  now(): number {
    return Number(this.#clock.monotonicTimeNanosUnsafe()) / 1e6
  }

  add(sleeper: Sleeper): void {
    this.#sleepers.add(sleeper)
    this.advance(sleeper)
  }

  /** A sleeper wants to look earlier than it said. */
  advance(sleeper: Sleeper): void {
    const { wakeAt } = sleeper
    if (!this.#sleepers.has(sleeper) || wakeAt >= this.#ringsAt) return
    if (this.#fiber === undefined) return this.#ringAt(wakeAt)
    this.#wanted = Math.min(this.#wanted, wakeAt)
    this.#settleSoon()
  }

  remove(sleeper: Sleeper): void {
    this.#sleepers.delete(sleeper)
    if (this.#sleepers.size === 0) this.#settleSoon()
  }

  /** Mostly one deadline makes way for the next at once: what has come of it is looked at when both are done. */
  #settleSoon(): void {
    if (this.#isSettling) return
    this.#isSettling = true
    queueMicrotask(this.#settle)
  }

  readonly #settle = (): void => {
    this.#isSettling = false
    const wanted = this.#wanted
    this.#wanted = Infinity
    if (this.#sleepers.size === 0) this.#silence()
    else this.#ringAt(wanted)
  }

  #silence(): void {
    const fiber = this.#fiber
    this.#fiber = undefined
    this.#ringsAt = Infinity
    fiber?.interruptUnsafe()
  }

  #ringAt(time: number): void {
    // Who is early is let sleep on: the next ring looks who wants to be woken when.
    if (time >= this.#ringsAt) return
    this.#silence()
    this.#ringsAt = time
    const sleep = this.#clock.sleep(Duration.millis(Math.max(0, time - this.now())))
    this.#fiber = Effect.runForkWith(this.#context)(Effect.andThen(sleep, this.#ring))
  }

  readonly #ring = Effect.sync(() => {
    this.#fiber = undefined
    this.#ringsAt = Infinity
    const now = this.now()
    let next = Infinity
    for (const sleeper of this.#sleepers) {
      // The deadlines of the others hold, whatever a duplex does.
      if (sleeper.wakeAt <= now) Result.try(() => sleeper.look(now))
    }
    for (const { wakeAt } of this.#sleepers) next = Math.min(next, wakeAt)
    this.#ringAt(next)
  })
}

const alarms = new WeakMap<Clock.Clock, Alarm>()

/** The alarm of a fiber's clock. */
const alarmOf = (fiber: Fiber.Fiber<unknown, unknown>): Alarm => {
  const clock = fiber.getRef(Clock.Clock)
  let alarm = alarms.get(clock)
  if (alarm === undefined) {
    const scheduler = fiber.getRef(Scheduler.Scheduler)
    const context = Context.add(Context.make(Clock.Clock, clock), Scheduler.Scheduler, scheduler)
    alarms.set(clock, alarm = new Alarm(clock, context))
  }
  return alarm
}

/** The alarm of the current fiber's clock. */
export const alarm: Effect.Effect<Alarm> = Effect.withFiber((fiber) => Effect.succeed(alarmOf(fiber)))
