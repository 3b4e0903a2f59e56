/**
 * The steady state of a transaction, without effects: as far as the replies at hand go and nothing is out of the ordinary.
 * Whatever is not, a refusal, an odd reply, a stream, is left to `deliver`, which goes on from the same state.
 */
import * as Effect from "effect/Effect"
import * as SmtpCommand from "../../SmtpCommand.ts"
import { type Behind, flight, isFlight, lingering, maxFlight, type Restore } from "./deliver.ts"
import type { Run } from "./model.ts"
import * as state from "./run.ts"

/** Whether a run may go this way at all. */
export const isPlain = <E, R>({ dialogue, source }: Run<E, R>): boolean =>
  dialogue.protocol === "smtp" && !dialogue.session.wire.transcript.isOn && source._tag === "Whole" &&
  source.body.length <= maxFlight

/** Writes what is due. False: the server cannot be asked. */
const say = <E, R>(run: Run<E, R>): boolean => {
  const { wire } = run.dialogue.session
  if (run.written === 0 && isFlight(run)) {
    if (!wire.isQuiet()) return false
    wire.handGroup(flight(run).group)
    return true
  }
  const steps = run.written < run.steps.length ? state.due(run) : []
  if (steps.length === 0) return true
  if (run.written === run.answered && !wire.isQuiet()) return false
  wire.hand([state.encode(steps)], steps.length, "command")
  state.wrote(run, steps.length)
  return true
}

/** The body and its terminator, in one write. */
const sayBody = <E, R>(run: Run<E, R>, behind: Behind): boolean => {
  const { source } = run
  const { wire } = run.dialogue.session
  if (!run.isHeld || source._tag !== "Whole" || !wire.isQuiet()) return false
  const { group } = behind()
  run.isHandedOver = true
  run.steps.push({ stage: "FINAL", command: undefined })
  state.wrote(run, 1)
  wire.endBody([source.body], 1, group)
  return true
}

/** "done": every reply came and was positive. "wait": for a reply. "left": to `deliver`. */
export const advance = <E, R>(run: Run<E, R>, behind: Behind): "done" | "wait" | "left" => {
  const { wire } = run.dialogue.session
  state.begin(run, run.dialogue.needsReset)
  for (;;) {
    if (!say(run)) return "left"
    if (run.answered < run.written) {
      const reply = wire.peek()
      if (reply === undefined) return wire.failure === undefined ? "wait" : "left"
      if (!state.isExpected(run.steps[run.answered]!, reply)) return "left"
      wire.take()
      state.note(run, reply)
    } else if (run.isHandedOver) return "done"
    else if (run.accepted < run.plan.recipients.length || !sayBody(run, behind)) return "left"
  }
}

/** Waits for a reply. What is out of the ordinary is found by whoever goes on with the run. */
export const waiting = <E, R>(run: Run<E, R>, caller?: Restore): Effect.Effect<void> => {
  const { wire } = run.dialogue.session
  const { command } = run.steps[run.answered]!
  wire.step = command === undefined ? run.plan.via : SmtpCommand.verb(command)
  const arrival = wire.arrival(state.whereNext(run))
  if (run.isHandedOver) return lingering(run, arrival, caller)
  return caller === undefined ? Effect.ignore(arrival) : caller(Effect.ignore(arrival))
}
