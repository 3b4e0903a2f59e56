/**
 * Outcomes per recipient, and the one outcome of a send that they make.
 */
import * as Result from "effect/Result"
import * as SmtpError from "../SmtpError.ts"
import * as SmtpReply from "../SmtpReply.ts"
import type { SecurityReport } from "./securityReport.ts"

/**
 * What a send gives when at least one recipient was accepted.
 *
 * @category models
 * @since 0.1.0
 */
export interface SendResult {
  /** The recipients that the server took responsibility for, as the caller wrote them, in the envelope's order. */
  readonly accepted: ReadonlyArray<string>
  readonly rejected: ReadonlyArray<string>
  /** Why, in the order of `rejected`. */
  readonly rejectedErrors: ReadonlyArray<SmtpError.RecipientError>
  /** The last reply. */
  readonly reply: SmtpReply.SmtpReply
  /** The text of `reply`; untrusted. */
  readonly response: string
  /** Octets of the message in canonical form, before dot-stuffing. */
  readonly messageSize: number
  /** Optional wishes that the server could not take, e.g. "DSN". */
  readonly omitted: ReadonlyArray<string>
  /** What secured the connection that it went over. */
  readonly security: SecurityReport
}

/** A result before the connection adds what secures it. */
export type Sent = Omit<SendResult, "security">

export interface Outcome {
  readonly address: string
  readonly error: SmtpError.RecipientError | undefined
}

const isRejected = (one: Outcome): one is Outcome & { readonly error: SmtpError.RecipientError } =>
  one.error !== undefined

/** The errors of all who were refused, and the reply that speaks for them: the first 4yz, else the first. */
const merged = (outcomes: ReadonlyArray<Outcome>) => {
  const errors = outcomes.flatMap(({ error }) => error === undefined ? [] : [error])
  const replies = errors.flatMap(({ reply }) => reply === undefined ? [] : [reply])
  const reply = replies.find(SmtpReply.isTransient) ?? replies[0]
  return {
    rejectedErrors: errors,
    temporary: errors.some((error) => error.isTemporary),
    inDoubt: errors.some((error) => error.inDoubt),
    ...(reply === undefined ? {} : { reply })
  }
}

const shown = (reply: SmtpReply.SmtpReply | undefined): string =>
  reply === undefined ? "" : `: ${SmtpReply.render(reply)}`

/** Every recipient, or one too many for `requireAllRecipients`, was refused at RCPT. */
export const refusedRecipients = (outcomes: ReadonlyArray<Outcome>): SmtpError.EENVELOPE => {
  const all = merged(outcomes)
  const count = all.rejectedErrors.length
  const who = count === outcomes.length
    ? "every recipient was refused"
    : `${count} of ${outcomes.length} recipients were refused`
  return new SmtpError.EENVELOPE({ ...all, command: "RCPT TO", message: `RCPT TO: ${who}${shown(all.reply)}` })
}

/** DATA was refused: its error, with one for each recipient where RCPT had refused some before. */
export const refusedData = (error: SmtpError.SendError, outcomes: ReadonlyArray<Outcome>): SmtpError.SendError => {
  if (error._tag !== "EENVELOPE" || outcomes.every(({ error: own }) => own === undefined)) return error
  const { command, message, reply } = error
  const all = outcomes.map(({ address, error: own }) => ({
    address,
    error: own ?? new SmtpError.EENVELOPE({ command, message, reply, recipient: address })
  }))
  return new SmtpError.EENVELOPE({ command, message, reply, rejectedErrors: merged(all).rejectedErrors })
}

/** What ended a transaction, such as the loss of its connection, as it concerns one recipient. */
export const lost = (error: SmtpError.SendError, recipient: string): SmtpError.RecipientError =>
  concerning(error, recipient, error)

/** The same for one whose own transaction was not begun. */
export const untouched = (error: SmtpError.SendError, recipient: string): SmtpError.RecipientError =>
  concerning(error, recipient, { attempted: false, handedOver: false, inDoubt: false })

const concerning = (
  error: SmtpError.SendError,
  recipient: string,
  { attempted, handedOver, inDoubt }: Pick<SmtpError.SendError, "attempted" | "handedOver" | "inDoubt">
): SmtpError.RecipientError => {
  const { cause, command, message, reply, temporary } = error
  const fields = { attempted, cause, command, handedOver, inDoubt, message, recipient, reply, temporary }
  switch (error._tag) {
    case "ETIMEDOUT":
      return new SmtpError.ETIMEDOUT({ ...fields, timeout: error.timeout })
    case "ECONNECTION":
      return new SmtpError.ECONNECTION(fields)
    case "ESOCKET":
      return new SmtpError.ESOCKET(fields)
    case "EPROTOCOL":
      return new SmtpError.EPROTOCOL(fields)
    case "EMESSAGE":
      return new SmtpError.EMESSAGE(fields)
    default:
      return new SmtpError.EENVELOPE({ ...fields, temporary: error.isTemporary })
  }
}

/** Success when anyone was accepted; else the failure that speaks for all. */
export const result = (
  outcomes: ReadonlyArray<Outcome>,
  replies: ReadonlyArray<SmtpReply.SmtpReply>,
  isComplete: boolean,
  message: { readonly size: number; readonly omitted: ReadonlyArray<string>; readonly via: "DATA" | "BDAT" }
): Result.Result<Sent, SmtpError.SendError> => {
  const rejected = outcomes.filter(isRejected)
  if (rejected.length === outcomes.length) return Result.fail(failure(outcomes, isComplete ? replies : [], message.via))
  const reply = replies.at(-1)!
  return Result.succeed({
    accepted: outcomes.filter(({ error }) => error === undefined).map(({ address }) => address),
    rejected: rejected.map(({ address }) => address),
    rejectedErrors: rejected.map(({ error }) => error),
    reply,
    response: reply.text,
    messageSize: message.size,
    omitted: message.omitted
  })
}

/** Refusals decide together; one reply that is none, or 421, decides by itself. */
const failure = (
  outcomes: ReadonlyArray<Outcome>,
  replies: ReadonlyArray<SmtpReply.SmtpReply>,
  command: "DATA" | "BDAT"
): SmtpError.SendError => {
  const [reply] = replies
  if (replies.length === 1 && reply !== undefined) {
    const inDoubt = !SmtpReply.isRefusal(reply)
    const where = { stage: "FINAL", command, inDoubt } as const
    const error = SmtpError.classify({ _tag: "Refused", reply }, where) as SmtpError.SendError
    if (error._tag !== "EMESSAGE") return error
  }
  const all = merged(outcomes)
  const said = replies.length === 1
    ? `the server answered ${shown(reply).slice(2)}`
    : `no recipient was accepted${shown(all.reply)}`
  return new SmtpError.EMESSAGE({ ...all, command, handedOver: true, message: `${command}: ${said}` })
}
