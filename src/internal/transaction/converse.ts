/**
 * Commands out, replies in: what the budget allows is written while replies are read, so neither side can wait for the
 * other for ever (RFC 2920 §3.1).
 */
import * as Effect from "effect/Effect"
import * as SmtpCommand from "../../SmtpCommand.ts"
import type * as SmtpError from "../../SmtpError.ts"
import type { Run, Step } from "./model.ts"
import * as state from "./run.ts"

/** The commands of steps as the transcript tells them, with the message behind the last chunk. */
export const told = <E, R>({ dialogue, source }: Run<E, R>, steps: ReadonlyArray<Step>): Effect.Effect<void> => {
  const { transcript } = dialogue.session.wire
  if (!transcript.isOn) return Effect.void
  const lines = steps.flatMap(({ command }) => command === undefined ? [] : [transcript.client(command)])
  const isWhole = steps.at(-1)?.stage === "FINAL" && source._tag === "Whole"
  return Effect.all(isWhole ? [...lines, transcript.body([source.body])] : lines, { discard: true })
}

/** Writes what is due. */
const say = <E, R>(run: Run<E, R>, steps: ReadonlyArray<Step>): Effect.Effect<void, SmtpError.SendError> => {
  const { wire } = run.dialogue.session
  if (run.written === run.answered && !wire.isQuiet()) {
    const where = state.whereNext(run)
    const hasBegun = where.stage !== "RSET" && where.stage !== "MAIL"
    return Effect.fail(wire.error({ ...where, attempted: hasBegun }) as SmtpError.SendError)
  }
  wire.hand([state.encode(steps)], steps.length, "command")
  state.wrote(run, steps.length)
  return told(run, steps)
}

/**
 * Says what is left to say and reads what is owed, until neither is. It may be called again to go on where it was
 * interrupted. A refusal that leaves the connection usable is noted in the run; what does not is the error.
 */
export const converse = Effect.fnUntraced(function*<E, R>(
  run: Run<E, R>
): Effect.fn.Return<void, SmtpError.SendError> {
  const { wire } = run.dialogue.session
  for (;;) {
    const steps = run.written < run.steps.length ? state.due(run) : []
    if (steps.length > 0) yield* say(run, steps)
    if (run.answered === run.written) return
    const reply = wire.take()
    if (reply === undefined) {
      const { command } = run.steps[run.answered]!
      wire.step = command === undefined ? run.plan.via : SmtpCommand.verb(command)
      yield* wire.arrival(state.whereNext(run))
      continue
    }
    const error = state.note(run, reply)
    if (wire.transcript.isOn) yield* wire.transcript.server(reply, false)
    if (error !== undefined) return yield* error
  }
})

/** Whether a group was answered only in part. A source or a final reply that is late says nothing of groups. */
const isTooLittle = <E, R>({ answered, steps }: Run<E, R>, { timeout }: SmtpError.ETIMEDOUT): boolean =>
  (timeout === "command" || timeout === "final") && answered > 0 && steps[answered]?.command !== undefined

/** Whether an error says that a server lost count of a group: it answers too much, too little, or something else. */
export const isOutOfStep = <E, R>(run: Run<E, R>, error: SmtpError.SmtpError): boolean =>
  run.dialogue.hasGrouped &&
  (error._tag === "EPROTOCOL" || (error._tag === "ETIMEDOUT" && isTooLittle(run, error)))
