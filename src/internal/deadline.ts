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

const expired = (known: SmtpError.Outcome["Service"] | undefined, attempted: boolean): SmtpError.ETIMEDOUT => {
  const base = {
    command: "API",
    timeout: "total",
    attempted,
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

/** The result of a send that was interrupted when it had one already: in the cause, beside `SmtpError.Outcome`. */
class Completed extends Context.Service<Completed, SendResult>()("effect-smtp/internal/Completed") {}

/** The result that a send had when it was interrupted. */
export const completedSend = (cause: Cause.Cause<unknown>): { readonly value: SendResult } | undefined => {
  const value = Context.getOrUndefined(Cause.annotations(cause), Completed)
  return value && { value }
}

/** Whether an interruption waits for the end of the uninterruptible region. */
const pending = Effect.exit(Effect.interruptible(Effect.void))

/**
 * A send with an epilogue, such as QUIT, that notes its result before that. An interruption in the epilogue is told
 * what the send ended in: it would otherwise look like one before the terminator, and the message be sent again.
 */
export const keepingResult = <E, R>(
  run: (note: (result: SendResult) => void) => Effect.Effect<SendResult, E, R>
): Effect.Effect<SendResult, E, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      let result: SendResult | undefined
      const exit = yield* Effect.exit(restore(run((noted) => {
        result = noted
      })))
      if (result === undefined) return yield* exit
      const last: Exit.Exit<unknown, E> = Exit.isSuccess(exit) ? yield* pending : exit
      if (Exit.isSuccess(last) || !Cause.hasInterruptsOnly(last.cause)) return yield* exit
      const known = Context.make(SmtpError.Outcome, { inDoubt: false, reply: result.reply })
      return yield* Effect.failCause(Cause.annotate(last.cause, Context.add(known, Completed, result)))
    })
  )

export const withTotal = <A, E, R>(
  self: Effect.Effect<A, E, R>,
  millis: number,
  isAttempted: () => boolean = () => true,
  completed: (cause: Cause.Cause<E>) => { readonly value: A } | undefined = () => undefined
): Effect.Effect<A, E | SmtpError.ETIMEDOUT, R> =>
  Number.isFinite(millis)
    ? Effect.uninterruptibleMask((restore) =>
      Effect.gen(function*() {
        const fiber = yield* Effect.forkChild(restore(self), { startImmediately: true })
        const first = yield* Effect.exit(restore(Effect.raceFirst(Fiber.await(fiber), Effect.sleep(millis))))
        if (Exit.isSuccess(first) && first.value !== undefined) return yield* first.value
        yield* Fiber.interrupt(fiber)
        const exit = yield* Fiber.await(fiber)
        if (Exit.isFailure(first) || Exit.isSuccess(exit) || !Cause.hasInterruptsOnly(exit.cause)) return yield* exit
        const done = completed(exit.cause)
        if (done !== undefined) return done.value
        const known = Context.getOrUndefined(Cause.annotations(exit.cause), SmtpError.Outcome)
        return yield* Effect.fail(expired(known, isAttempted()))
      })
    )
    : self
