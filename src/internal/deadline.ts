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

export const withTotal = <A, E, R>(
  self: Effect.Effect<A, E, R>,
  millis: number,
  isAttempted: () => boolean = () => true
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
        const known = Context.getOrUndefined(Cause.annotations(exit.cause), SmtpError.Outcome)
        return yield* Effect.fail(expired(known, isAttempted()))
      })
    )
    : self
