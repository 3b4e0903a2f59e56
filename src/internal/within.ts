/**
 * A deadline over one step of a dial. A step that ends without waiting takes no timer; all others share one.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { alarm } from "./alarm.ts"

/** Watches for what ends a wait; gives what ends the watch. */
type Watch<E> = (end: (instead: Effect.Effect<never, E>) => void) => () => void

const awaited = <A, E, E2>(fiber: Fiber.Fiber<A, E>, watch: Watch<E2>): Effect.Effect<A, E | E2> =>
  Effect.callback((resume) => {
    const end = (effect: Effect.Effect<A, E | E2>) => {
      stop()
      resume(effect)
    }
    const stop = watch(end)
    const forget = fiber.addObserver(end)
    return Effect.sync(() => {
      forget()
      stop()
    })
  })

/** An effect that is interrupted, and ends in another, when that comes first. */
export const unless = <A, E, R, E2>(self: Effect.Effect<A, E, R>, watch: Watch<E2>): Effect.Effect<A, E | E2, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(
      Effect.forkChild(restore(self), { startImmediately: true }),
      (fiber) =>
        fiber.pollUnsafe() ?? Effect.onExit(
          restore(awaited(fiber, watch)),
          () => fiber.pollUnsafe() === undefined ? Fiber.interrupt(fiber) : Effect.void
        )
    )
  )

/** An effect that is interrupted, and ends in another, when it takes longer. */
export const within = <A, E, R, E2>(
  self: Effect.Effect<A, E, R>,
  millis: number,
  orElse: Effect.Effect<never, E2>
): Effect.Effect<A, E | E2, R> =>
  Exit.isExit(self) ? self : Effect.flatMap(alarm, (alarm) =>
    unless(self, (end) => {
      const sleeper = { wakeAt: alarm.now() + millis, look: () => end(orElse) }
      alarm.add(sleeper)
      return () => alarm.remove(sleeper)
    }))
