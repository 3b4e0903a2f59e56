/**
 * The phases of a connection and of a send. Each is an event of the current span at debug level, that is where
 * `References.MinimumLogLevel` is "Debug" or below; at other levels nothing is made for it. The durations of a connection's
 * phases are metrics at every level.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as LogLevel from "effect/LogLevel"
import type * as Tracer from "effect/Tracer"
import * as metrics from "../metrics.ts"
import { errorTypeOf } from "./errorType.ts"

export type AnyFiber = Fiber.Fiber<unknown, unknown>

/** The span that takes events; none unless they are asked for. */
const spanOf = ({ cache: { minimumLogLevel, span, tracer } }: AnyFiber): Tracer.Span | undefined => {
  const isWanted = tracer !== undefined && span?._tag === "Span" && !LogLevel.isGreaterThan(minimumLogLevel, "Debug")
  return isWanted ? span : undefined
}

const millisBetween = (from: bigint, to: bigint): number => Number(to - from) / 1e6

/** What one send tells of its steps, as they happen. */
export type Steps = (step: "mail" | "data" | "bdat" | "final", code: number | undefined) => void

/** None at a level above debug. Each event says how long it was since the one before. */
export const stepsOf = (fiber: AnyFiber): Steps | undefined => {
  const span = spanOf(fiber)
  if (span === undefined) return undefined
  const clock = fiber.getRef(Clock.Clock)
  let last = clock.monotonicTimeNanosUnsafe()
  return (step, code) => {
    const now = clock.monotonicTimeNanosUnsafe()
    span.event(`smtp.${step}`, clock.currentTimeNanosUnsafe(), {
      "smtp.phase.duration": millisBetween(last, now) / 1000,
      ...(code === undefined ? {} : { "smtp.response.code": code })
    })
    last = now
  }
}

/** An effect that is a phase of a connection. */
export const timed = <A, E, R>(
  phase: "dns" | "connect" | "greeting" | "tls" | "auth",
  self: Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.withFiber((fiber) => {
    const clock = fiber.getRef(Clock.Clock)
    const begun = clock.monotonicTimeNanosUnsafe()
    return Effect.onExitPrimitive(self, (exit) => {
      if (Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)) return undefined
      const errorType = Exit.isFailure(exit) ? errorTypeOf(Cause.squash(exit.cause)) : undefined
      const millis = millisBetween(begun, clock.monotonicTimeNanosUnsafe())
      metrics.passed(fiber.context, phase, millis, errorType)
      spanOf(fiber)?.event(`smtp.${phase}`, clock.currentTimeNanosUnsafe(), {
        "smtp.phase.duration": millis / 1000,
        ...(errorType === undefined ? {} : { [metrics.attributes.errorType]: errorType })
      })
      return undefined
    })
  })
