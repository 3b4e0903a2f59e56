/**
 * A deadline over one step of a dial. A step that ends without waiting takes no timer; all others share one.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { type Alarm, alarm } from "./alarm.ts"

/** What a fiber ends in; undefined when the time is over before. */
const awaited = <A, E>(
  fiber: Fiber.Fiber<A, E>,
  alarm: Alarm,
  millis: number
): Effect.Effect<Exit.Exit<A, E> | undefined> =>
  Effect.callback((resume) => {
    const end = (exit: Exit.Exit<A, E> | undefined) => {
      alarm.remove(sleeper)
      resume(Effect.succeed(exit))
    }
    const sleeper = { wakeAt: alarm.now() + millis, look: () => end(undefined) }
    alarm.add(sleeper)
    const forget = fiber.addObserver(end)
    return Effect.sync(() => {
      forget()
      alarm.remove(sleeper)
    })
  })

/** An effect that is interrupted, and ends in another, when it takes longer. */
export const within = <A, E, R, E2>(
  self: Effect.Effect<A, E, R>,
  millis: number,
  orElse: Effect.Effect<never, E2>
): Effect.Effect<A, E | E2, R> =>
  Exit.isExit(self) ?
    self :
    Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(Effect.forkChild(restore(self), { startImmediately: true }), (fiber): Effect.Effect<A, E | E2> => {
        const waited = Effect.flatMap(alarm, (alarm) => awaited(fiber, alarm, millis))
        return fiber.pollUnsafe() ?? Effect.matchCauseEffect(restore(waited), {
          onSuccess: (exit): Effect.Effect<A, E | E2> => exit ?? Effect.andThen(Fiber.interrupt(fiber), orElse),
          onFailure: (cause) => Effect.andThen(Fiber.interrupt(fiber), Effect.failCause(cause))
        })
      })
    )
