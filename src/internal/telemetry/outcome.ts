/**
 * What became of a send, in few words.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Exit from "effect/Exit"
import * as SmtpError from "../../SmtpError.ts"
import * as SmtpReply from "../../SmtpReply.ts"
import { endedSend } from "../deadline.ts"
import type { Outcome } from "../metrics.ts"
import type { SendResult } from "../outcome.ts"
import { other } from "./errorType.ts"

export interface Seen {
  readonly outcome: Outcome
  readonly errorType: string | undefined
  readonly isInDoubt: boolean
  readonly reply: SmtpReply.SmtpReply | undefined
  /** How many recipients; undefined where the server has not said. */
  readonly accepted: number | undefined
  readonly rejected: number | undefined
  /** Of the message, when it was accepted. */
  readonly size: number | undefined
}

const nothing = {
  errorType: undefined,
  isInDoubt: false,
  reply: undefined,
  accepted: undefined,
  rejected: undefined,
  size: undefined
} as const

const ofResult = ({ accepted, messageSize, rejectedErrors, reply }: SendResult): Seen => ({
  outcome: rejectedErrors.length === 0 ? "sent" : "partial",
  errorType: undefined,
  isInDoubt: rejectedErrors.some(({ inDoubt }) => inDoubt),
  reply,
  accepted: accepted.length,
  rejected: rejectedErrors.length,
  size: messageSize
})

/** What the last reply says of a message whose caller has got no result. */
const spoken = (inDoubt: boolean, reply: SmtpReply.SmtpReply | undefined, unspoken: Outcome): Outcome => {
  if (inDoubt) return "in_doubt"
  if (reply === undefined) return unspoken
  return SmtpReply.isRefusal(reply) ? "refused" : SmtpReply.severity(reply) === 2 ? "sent" : unspoken
}

const ofError = (error: SmtpError.SmtpError): Seen => {
  const { handedOver, inDoubt, reply } = error
  const refused = "rejectedErrors" in error ? error.rejectedErrors?.length ?? 0 : 0
  const isRefusal = reply !== undefined && SmtpReply.isRefusal(reply)
  return {
    ...nothing,
    // A positive reply counts only where it is the final one: the deadline that passed first made an error of it.
    outcome: spoken(inDoubt, isRefusal || handedOver ? reply : undefined, "failed"),
    errorType: error._tag,
    isInDoubt: inDoubt,
    reply,
    ...(refused > 0 ? { accepted: 0, rejected: refused } : {})
  }
}

const ofInterruption = (cause: Cause.Cause<unknown>): Seen => {
  const ended = endedSend(cause)
  if (ended !== undefined) return ofExit(ended)
  const known = Context.getOrUndefined(Cause.annotations(cause), SmtpError.Outcome)
  const isInDoubt = known?.inDoubt ?? false
  return { ...nothing, outcome: spoken(isInDoubt, known?.reply, "interrupted"), isInDoubt, reply: known?.reply }
}

export const ofExit = (exit: Exit.Exit<SendResult, unknown>): Seen => {
  if (Exit.isSuccess(exit)) return ofResult(exit.value)
  const error = SmtpError.fromCause(exit.cause)
  if (error !== undefined) return ofError(error)
  if (Cause.hasInterruptsOnly(exit.cause)) return ofInterruption(exit.cause)
  return { ...nothing, outcome: "failed", errorType: other }
}
