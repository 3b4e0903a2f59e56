/**
 * A deadline over a whole call that may be a send: it interrupts, waits for what the call still finds out, and fails
 * with an `ETIMEDOUT` that carries it.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as SmtpError from "../SmtpError.ts"
import * as SmtpReply from "../SmtpReply.ts"
import type { SendResult } from "./outcome.ts"

/** `step`: the command that was running; undefined when none was said yet, or when nobody can tell. */
const expired = (known: SmtpError.Outcome["Service"] | undefined, step: string | undefined): SmtpError.ETIMEDOUT => {
  const base = {
    command: step ?? (known === undefined ? "API" : "DATA"),
    timeout: "total",
    attempted: known !== undefined || step !== undefined,
    inDoubt: known?.inDoubt ?? false,
    handedOver: known !== undefined
  } as const
  const reply = known?.reply
  if (reply === undefined) return new SmtpError.ETIMEDOUT({ ...base, message: "the total deadline passed" })
  const message = `the total deadline passed, and then the server answered ${SmtpReply.render(reply)}`
  // Accepted after all: trying again would send it twice.
  return new SmtpError.ETIMEDOUT({
    ...base,
    reply,
    message,
    ...(SmtpReply.isRefusal(reply) ? {} : { temporary: false })
  })
}

/** Notes what an effect ends in, unless it is interrupted. */
export const noting = <A, E, R>(
  self: Effect.Effect<A, E, R>,
  note: (exit: Exit.Exit<A, E>) => void
): Effect.Effect<A, E, R> =>
  Effect.onExit(self, (exit) =>
    Effect.sync(() => {
      if (Exit.isSuccess(exit) || !Cause.hasInterrupts(exit.cause)) note(exit)
    }))

/** What a send ended in that was interrupted afterwards: in the cause, beside `SmtpError.Outcome`. */
class Ended extends Context.Service<Ended, Exit.Exit<SendResult, unknown>>()("effect-smtp/internal/Ended") {}

/** What a send had ended in when it was interrupted. */
export const endedSend = <E>(cause: Cause.Cause<E>): Exit.Exit<SendResult, E> | undefined =>
  Context.getOrUndefined(Cause.annotations(cause), Ended) as Exit.Exit<SendResult, E> | undefined

const outcomeOf = (ended: Exit.Exit<SendResult, unknown>): SmtpError.Outcome["Service"] | undefined => {
  if (Exit.isSuccess(ended)) return { inDoubt: false, reply: ended.value.reply }
  const error = SmtpError.fromCause(ended.cause)
  return error?.handedOver === true ? { inDoubt: error.inDoubt, reply: error.reply } : undefined
}

/** Whether an interruption waits for the end of the uninterruptible region. */
const pending = Effect.exit(Effect.interruptible(Effect.void))

/**
 * A send with an epilogue, such as QUIT. An interruption in the epilogue is told what the send ended in: it would
 * otherwise look like one before the terminator, and the message be sent again.
 */
export const withEpilogue = <E, R>(
  run: (note: (exit: Exit.Exit<SendResult, unknown>) => void) => Effect.Effect<SendResult, E, R>
): Effect.Effect<SendResult, E, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      let ended: Exit.Exit<SendResult, unknown> | undefined
      const exit = yield* Effect.exit(restore(run((noted) => {
        ended = noted
      })))
      if (ended === undefined) return yield* exit
      const last: Exit.Exit<unknown, E> = Exit.isSuccess(exit) ? yield* pending : exit
      if (Exit.isSuccess(last) || !Cause.hasInterruptsOnly(last.cause)) return yield* exit
      const known = outcomeOf(ended)
      const annotations = Context.make(Ended, ended)
      return yield* Effect.failCause(Cause.annotate(
        last.cause,
        known === undefined ? annotations : Context.add(annotations, SmtpError.Outcome, known)
      ))
    })
  )

/**
 * What a call came to while an interruption of its own was pending: leaving the region would drop it, and whoever
 * interrupts would take the message for one that was never sent.
 */
const orInterrupted = <A, E>(exit: Exit.Exit<A, E>): Effect.Effect<A, E> =>
  Effect.flatMap(pending, (own): Effect.Effect<A, E> => {
    if (Exit.isSuccess(own)) return exit
    const ended = exit as Exit.Exit<unknown, unknown>
    const isOfSend = Exit.isFailure(ended) ||
      (typeof ended.value === "object" && ended.value !== null && "accepted" in ended.value)
    if (!isOfSend) return Effect.failCause(own.cause as Cause.Cause<never>)
    const send = ended as Exit.Exit<SendResult, unknown>
    const known = (Exit.isFailure(exit) && Context.getOrUndefined(Cause.annotations(exit.cause), SmtpError.Outcome)) ||
      outcomeOf(send)
    const annotations = Context.make(Ended, send)
    return Effect.failCause(Cause.annotate(
      own.cause as Cause.Cause<never>,
      known === undefined ? annotations : Context.add(annotations, SmtpError.Outcome, known)
    ))
  })

export const withTotal = <A, E, R>(
  self: Effect.Effect<A, E, R>,
  millis: number,
  step: (isHandedOver: boolean) => string | undefined = (isHandedOver) => isHandedOver ? undefined : "CONN",
  ended: (cause: Cause.Cause<E>) => Exit.Exit<A, E> | undefined = () => undefined
): Effect.Effect<A, E | SmtpError.ETIMEDOUT, R> =>
  Number.isFinite(millis)
    ? Effect.uninterruptibleMask((restore) =>
      Effect.gen(function*() {
        const fiber = yield* Effect.forkChild(restore(self), { startImmediately: true })
        const first = yield* Effect.exit(restore(Effect.raceFirst(Fiber.await(fiber), Effect.sleep(millis))))
        if (Exit.isSuccess(first) && first.value !== undefined) return yield* orInterrupted(first.value)
        yield* Fiber.interrupt(fiber)
        const exit = yield* Fiber.await(fiber)
        // Interrupted from outside, or over in the meantime: what it came to is told.
        if (Exit.isFailure(first) || Exit.isSuccess(exit) || !Cause.hasInterruptsOnly(exit.cause)) {
          return yield* orInterrupted(exit)
        }
        const before = ended(exit.cause)
        if (before !== undefined) return yield* orInterrupted(before)
        const known = Context.getOrUndefined(Cause.annotations(exit.cause), SmtpError.Outcome)
        return yield* orInterrupted(Exit.fail(expired(known, step(known !== undefined))))
      })
    )
    : self
