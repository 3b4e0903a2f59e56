/**
 * One run from its first command to its last reply.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Result from "effect/Result"
import * as SmtpError from "../../SmtpError.ts"
import type { Group, SmtpWire } from "../../SmtpWire.ts"
import * as outcome from "../outcome.ts"
import { body, type Rest } from "./body.ts"
import { header } from "./chunking.ts"
import { converse, isOutOfStep, told } from "./converse.ts"
import type { Run, Step } from "./model.ts"
import * as state from "./run.ts"

/** What goes behind a terminator in the same write: the openings of the transactions that follow. */
export type Behind = () => { readonly group: Group; readonly log: Effect.Effect<void> }

export const nothingBehind: Behind = () => ({ group: { chunks: [], owes: [] }, log: Effect.void })

/** How long an interrupted send waits for the reply to its terminator. */
const linger = "500 millis"

/** Most octets of a message that goes in one write with its envelope: should nobody take it, no more is wasted. */
export const maxFlight = 65_536

/** A server that has answered within this many milliseconds is taken to be there still. */
const freshness = 5_000

const isFresh = (wire: SmtpWire): boolean => wire.now - wire.lastReplyAt <= freshness

/** Whether MAIL, RCPT and the whole message may go at once (RFC 3030 §4.2), as far as the message goes. */
export const isFlight = <E, R>(run: Run<E, R>): boolean => {
  const { dialogue, plan, requireAllRecipients, source } = run
  return plan.via === "BDAT" && source._tag === "Whole" && source.body.length <= maxFlight &&
    dialogue.takesMail && dialogue.protocol === "smtp" && !requireAllRecipients &&
    state.budgetOf(run) > plan.recipients.length + 2 &&
    isFresh(dialogue.session.wire)
}

/** The whole transaction as one group. */
export const flight = <E, R>(run: Run<E, R>): { readonly group: Group; readonly steps: ReadonlyArray<Step> } => {
  const { source } = run
  const octets = source._tag === "Whole" ? source.body : new Uint8Array(0)
  const opening = [...run.steps]
  const chunks = [state.encode(opening), header(octets.length, true), octets]
  const last = { _tag: "Bdat", size: octets.length, last: true } as const
  run.steps.push({ stage: "FINAL", command: last })
  run.isHandedOver = true
  state.wrote(run, run.steps.length)
  return {
    group: { chunks, owes: [...opening.map(() => "command" as const), "final"] },
    steps: run.steps
  }
}

/** What was refused before the message counted. */
const verdict = <E, R>(run: Run<E, R>): SmtpError.SendError | undefined => {
  if (run.mailRefusal !== undefined) return run.mailRefusal
  if (state.isRefusedByRecipients(run)) return outcome.refusedRecipients(run.outcomes)
  // A chunk was refused, but nobody knows what became of the last one.
  if (run.refusal === undefined || state.isInDoubt(run)) return undefined
  return outcome.refusedData(run.refusal, run.outcomes)
}

/** Makes the waits of an uninterruptible region as interruptible as its caller is. */
export type Restore = <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

/** The terminator, and what the replies to it come to. From here on the message may be accepted whatever happens to us. */
const finish = <E, R>(run: Run<E, R>, hand: Effect.Effect<void>, size: number, caller?: Restore) =>
  Effect.uninterruptibleMask((own) =>
    Effect.gen(function*() {
      const restore = caller ?? own
      yield* hand
      const exit = yield* Effect.exit(restore(converse(run)))
      if (Exit.isSuccess(exit)) return conclude(run, size, undefined)
      const error = SmtpError.fromCause(exit.cause)
      if (error !== undefined) return conclude(run, size, error as SmtpError.SendError)
      return yield* left(run, exit.cause as Cause.Cause<never>)
    })
  )

/** An interruption behind the terminator: what the server still says within a moment goes with it. */
const left = Effect.fnUntraced(function*<E, R>(run: Run<E, R>, cause: Cause.Cause<never>) {
  yield* Effect.exit(Effect.timeoutOption(Effect.interruptible(converse(run)), linger))
  // Over LMTP one acceptance tells more than a refusal behind it: to send again would deliver twice.
  const reply = run.finals.find(state.isPositive) ?? verdict(run)?.reply ?? run.finals.at(-1)
  const known = { inDoubt: state.isInDoubt(run) || !run.finals.every(state.isFinal), reply }
  return yield* Effect.failCause(Cause.annotate(cause, Context.make(SmtpError.Outcome, known)))
})

/** A wait behind the terminator that keeps to the same; its failure is left to whoever goes on with the run. */
export const lingering = <E, R>(
  run: Run<E, R>,
  wait: Effect.Effect<void, unknown>,
  caller?: Restore
): Effect.Effect<void> =>
  Effect.uninterruptibleMask((own) =>
    Effect.flatMap(Effect.exit((caller ?? own)(wait)), (exit) => {
      if (Exit.isSuccess(exit) || !Cause.hasInterrupts(exit.cause)) return Effect.void
      return Effect.ensuring(
        left(run, exit.cause as Cause.Cause<never>),
        Effect.sync(() => run.dialogue.session.wire.fail({ _tag: "Released" }))
      )
    })
  )

/**
 * All recipients were refused and 354 came: the lone dot (RFC 2920 §3.1). LMTP owes it no reply; with MAIL refused it
 * might be a message to somebody of an earlier transaction: there the connection is closed.
 */
const loneDot = Effect.fnUntraced(function*<E, R>(run: Run<E, R>) {
  const { dialogue } = run
  if (dialogue.protocol === "lmtp" || run.mailRefusal !== undefined || !dialogue.session.wire.isQuiet()) return
  run.steps.push({ stage: "FINAL", command: undefined })
  state.wrote(run, 1)
  const dot = [Uint8Array.of(0x2e, 0x0d, 0x0a)]
  dialogue.session.wire.hand(dot, 1, "final")
  yield* dialogue.session.wire.transcript.body(dot)
  const isOver = yield* Effect.isSuccess(converse(run))
  const [reply] = run.finals
  run.isSettled = isOver && reply !== undefined && state.isFinal(reply) && reply.code !== 421
  if (reply !== undefined && state.isPositive(reply)) dialogue.needsReset = false
})

/** The final replies as outcomes: one for all over SMTP, one for each accepted recipient over LMTP. */
const settle = <E, R>(run: Run<E, R>, lost: SmtpError.SendError | undefined): ReadonlyArray<outcome.Outcome> => {
  let next = 0
  return run.outcomes.map(({ address, error }) => {
    if (error !== undefined) return { address, error }
    const reply = run.finals[run.dialogue.protocol === "lmtp" ? next++ : 0]
    if (reply === undefined) return { address, error: outcome.lost(lost!, address) }
    if (state.isPositive(reply)) return { address, error: undefined }
    const where = { stage: "FINAL", command: run.plan.via, recipient: address, inDoubt: !state.isFinal(reply) } as const
    return { address, error: SmtpError.classify({ _tag: "Refused", reply }, where) as SmtpError.RecipientError }
  })
}

/** What came of a run whose terminator was handed over. */
export const conclude = <E, R>(
  run: Run<E, R>,
  size: number,
  lost: SmtpError.SendError | undefined
): Result.Result<outcome.Sent, SmtpError.SendError> => {
  const { dialogue, finals, plan } = run
  const { wire } = dialogue.session
  const before = lost === undefined ? verdict(run) : outcomeOf(run, lost) === lost ? undefined : verdict(run)
  // RFC 5321 §4.1.1.4 ends a transaction with the final reply, whatever it is; Postfix keeps one that it refused. What was
  // taken for nobody may have ended nothing.
  if (finals.some(state.isPositive)) dialogue.needsReset = before !== undefined
  const isWhole = lost === undefined &&
    finals.every((reply) => state.isFinal(reply) && !state.isBdatUnknown(run, reply))
  // Where the server ended the connection, what it had answered to those behind still counts.
  run.isSettled = isWhole
  if (finals.length > 0) {
    run.tell?.("final", finals.at(-1)!.code)
    if (run.handedOverAt !== undefined) dialogue.onFinal?.(wire.lastReplyAt - run.handedOverAt)
  }
  if (before !== undefined) return Result.fail(before)
  if (lost !== undefined && finals.length === 0) return Result.fail(lost)
  const outcomes = settle(run, lost)
  // Recipients tell of the loss: over LMTP the others may have been accepted, and no later call tells it again.
  if (lost !== undefined || finals.some(({ code }) => code === 421)) wire.retire()
  return outcome.result(outcomes, finals, lost === undefined, { size, omitted: plan.omitted, via: plan.via })
}

/**
 * What a run ends in whose connection was lost: a refusal decides over the message, and the loss is for the next call. But
 * 421 to a recipient is the loss itself.
 */
const outcomeOf = <E, R>(run: Run<E, R>, lost: SmtpError.SendError): SmtpError.SendError =>
  lost.responseCode === 421 && lost.command === "RCPT TO" && run.mailRefusal === undefined ? lost : verdict(run) ?? lost

const inTurn = Effect.fnUntraced(function*<E, R>(run: Run<E, R>, behind: Behind) {
  const { dialogue, plan } = run
  const { wire } = dialogue.session
  yield* Effect.mapError(converse(run), (lost) => outcomeOf(run, lost))
  const refusal = verdict(run)
  if (refusal !== undefined) {
    run.isSettled = !run.isHeld
    if (run.isHeld) yield* loneDot(run)
    return yield* refusal
  }
  const { last, size }: Rest = yield* body(run)
  if (!wire.isQuiet()) return yield* wire.error({ stage: "BODY", command: plan.via }) as SmtpError.SendError
  const hand = Effect.suspend(() => {
    const count = state.finalsOf(run)
    const after = behind()
    run.isHandedOver = true
    for (let i = 0; i < count; i++) run.steps.push({ stage: "FINAL", command: undefined })
    state.wrote(run, count)
    wire.endBody(last.octets, count, after.group)
    return Effect.andThen(last.told, after.log)
  })
  return yield* Effect.fromResult(yield* finish(run, hand, size))
})

const atOnce = Effect.fnUntraced(function*<E, R>(run: Run<E, R>, caller?: Restore) {
  const { wire } = run.dialogue.session
  if (run.written === 0 && !wire.isQuiet()) {
    return yield* wire.error({ stage: run.steps[0]!.stage, attempted: false }) as SmtpError.SendError
  }
  const hand = Effect.suspend(() => {
    if (run.written > 0) return Effect.void
    const { group, steps } = flight(run)
    wire.handGroup(group)
    return told(run, steps)
  })
  const size = run.source._tag === "Whole" ? run.source.size : 0
  return yield* Effect.fromResult(yield* finish(run, hand, size, caller))
})

/**
 * Runs a transaction. Whatever it ends in, the wire is either usable afterwards or failed: it is left open only after
 * success and after a well-formed refusal. `caller` is that of an uninterruptible region, where the terminator may have
 * been handed over already.
 */
export const deliver = <E, R>(
  run: Run<E, R>,
  behind: Behind = nothingBehind,
  caller?: Restore
): Effect.Effect<outcome.Sent, SmtpError.SendError | E, R> =>
  Effect.suspend(() => {
    const { dialogue } = run
    state.begin(run, dialogue.needsReset)
    if (run.isHandedOver) return atOnce(run, caller)
    const whole = run.written === 0 && isFlight(run) ? atOnce(run) : inTurn(run, behind)
    return caller === undefined ? whole : caller(whole)
  }).pipe(
    Effect.onExit((exit) =>
      Effect.sync(() => {
        const error = Exit.isFailure(exit) ? SmtpError.fromCause(exit.cause) : undefined
        if (error !== undefined && isOutOfStep(run, error)) run.dialogue.onOutOfStep()
        if (!run.isSettled) run.dialogue.session.wire.abandon()
      })
    )
  ) as Effect.Effect<outcome.Sent, SmtpError.SendError | E, R>
