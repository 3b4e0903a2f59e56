/**
 * One envelope over several transactions: where the server's LIMITS ask for it (RFC 9422), or where a transaction turns
 * out to hold no more recipients (RFC 5321 §4.5.3.1.10).
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { Envelope, Recipient } from "../../Envelope.ts"
import type { Limits } from "../../SmtpCapabilities.ts"
import * as SmtpError from "../../SmtpError.ts"
import * as SmtpReply from "../../SmtpReply.ts"
import * as outcome from "../outcome.ts"
import type { Sent } from "../outcome.ts"

/** The recipients of one transaction. */
export type Members = Envelope["recipients"]

const domainOf = (path: string): string => path.slice(path.lastIndexOf("@") + 1).toLowerCase()

/** The recipients in groups that one transaction can hold, in the order of the envelope. */
const groupsOf = (
  recipients: Members,
  { rcptDomainMax = Infinity, rcptMax = Infinity }: Limits
): ReadonlyArray<Members> => {
  if (recipients.length <= Math.min(rcptMax, rcptDomainMax)) return [recipients]
  const groups: Array<{ readonly members: Array<Recipient>; readonly domains: Set<string> }> = []
  for (const recipient of recipients) {
    const domain = domainOf(recipient.path)
    let group = groups.at(-1)
    const isFull = group === undefined || group.members.length >= rcptMax ||
      (!group.domains.has(domain) && group.domains.size >= rcptDomainMax)
    if (group === undefined || isFull) {
      group = { members: [], domains: new Set() }
      groups.push(group)
    }
    group.members.push(recipient)
    group.domains.add(domain)
  }
  return groups.map(({ members }) => members as unknown as Members)
}

const isMembers = (recipients: ReadonlyArray<Recipient>): recipients is Members => recipients.length > 0

/** Whether one transaction may hold them all. */
export const fitsOne = (recipients: Members, limits: Limits): boolean =>
  recipients.length <= Math.min(limits.rcptMax ?? Infinity, limits.rcptDomainMax ?? Infinity) ||
  groupsOf(recipients, limits).length === 1

/** Whether a reply to RCPT says that this transaction can hold no more: 452, and 552 that means 452. */
const isTooMany = (reply: SmtpReply.SmtpReply | undefined): boolean =>
  reply !== undefined && (reply.code === 452 || reply.code === 552) &&
  (reply.enhancedCode === undefined || /^[45]\.5\.3$/.test(reply.enhancedCode))

const isFull = (error: SmtpError.RecipientError): boolean => error.command === "RCPT TO" && isTooMany(error.reply)

/** Whether recipients are left for another transaction. */
export const hasRest = (sent: Sent): boolean => sent.rejectedErrors.some(isFull)

type Fate = SmtpError.RecipientError | undefined

/** The fates of a group, from the two lists of a result, each in the order of the envelope. */
const fatesOf = (group: ReadonlyArray<Recipient>, sent: Sent): ReadonlyArray<Fate> => {
  let accepted = 0
  let rejected = 0
  return group.map(({ address }) => {
    if (sent.rejected[rejected] === address && sent.accepted[accepted] !== address) {
      return sent.rejectedErrors[rejected++]
    }
    accepted++
    return undefined
  })
}

/** 552 that means 452 is of the moment too. */
const asTemporary = (error: SmtpError.RecipientError): SmtpError.RecipientError =>
  error._tag === "EENVELOPE" && error.reply?.code === 552
    ? new SmtpError.EENVELOPE({
      command: error.command,
      message: error.message,
      recipient: error.recipient,
      reply: error.reply,
      temporary: true
    })
    : error

/** Why a recipient was not tried: the message cannot be read for another transaction. */
const notAgain = (recipient: string): SmtpError.RecipientError =>
  new SmtpError.EENVELOPE({
    command: "RCPT TO",
    recipient,
    attempted: false,
    temporary: true,
    message:
      "RCPT TO: the server takes fewer recipients in one transaction, and this stream may give its octets only once; send again for the rest, or mark the stream with SmtpConnection.replayable"
  })

/** `requireAllRecipients` cannot be promised over several transactions. */
const tooManyForOne = (limits: Limits): SmtpError.EENVELOPE => {
  const most = limits.rcptMax === undefined ? `${limits.rcptDomainMax} domains` : `${limits.rcptMax} recipients`
  return new SmtpError.EENVELOPE({
    command: "API",
    attempted: false,
    field: "envelope.to",
    message:
      `envelope.to: the server takes ${most} in one transaction (LIMITS), and requireAllRecipients needs one for all; send to fewer at a time`
  })
}

/** What is known so far. */
interface Parts {
  readonly fates: Map<Recipient, Fate>
  last: Sent | undefined
}

const merge = (envelope: Envelope, { fates, last }: Parts): Effect.Effect<Sent, SmtpError.EENVELOPE> => {
  const outcomes = envelope.recipients.map((recipient) => ({
    address: recipient.address,
    error: fates.get(recipient)
  }))
  if (last === undefined) return Effect.fail(outcome.refusedRecipients(outcomes))
  const rejected = outcomes.flatMap(({ error }) => error === undefined ? [] : [error])
  return Effect.succeed({
    ...last,
    accepted: outcomes.filter(({ error }) => error === undefined).map(({ address }) => address),
    rejected: outcomes.filter(({ error }) => error !== undefined).map(({ address }) => address),
    rejectedErrors: rejected
  })
}

/** Whether what an interruption tells keeps everybody from sending again by himself. */
const isWarning = (known: SmtpError.Outcome["Service"] | undefined): boolean =>
  known !== undefined && (known.inDoubt || (known.reply !== undefined && SmtpReply.severity(known.reply) === 2))

/** An interruption after a part was accepted is told so, whatever became of the others: nothing may repeat that part. */
const annotated = <A, E, R>(self: Effect.Effect<A, E, R>, parts: Parts): Effect.Effect<A, E, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(Effect.exit(restore(self)), (exit) => {
      if (Exit.isSuccess(exit) || parts.last === undefined || !Cause.hasInterruptsOnly(exit.cause)) return exit
      if (isWarning(Context.getOrUndefined(Cause.annotations(exit.cause), SmtpError.Outcome))) return exit
      const known = Context.make(SmtpError.Outcome, { inDoubt: false, reply: parts.last.reply })
      return Effect.failCause(Cause.annotate(exit.cause, known, { overwrite: true }))
    })
  )

type One<E, R> = (recipients: Members) => Effect.Effect<Sent, SmtpError.SendError | E, R>

/** Whether another transaction may find what this one did not: recipients alone were refused. */
const isOfRecipients = (error: unknown): error is SmtpError.EENVELOPE =>
  error instanceof SmtpError.EENVELOPE && error.command === "RCPT TO"

/** Notes what a group came to, and gives those for whom there was no room. */
const noteSent = (parts: Parts, group: ReadonlyArray<Recipient>, sent: Sent): ReadonlyArray<Recipient> => {
  parts.last = sent
  const fates = fatesOf(group, sent)
  for (const [i, recipient] of group.entries()) {
    const fate = fates[i]
    parts.fates.set(recipient, fate && isFull(fate) ? asTemporary(fate) : fate)
  }
  return group.filter((_, i) => fates[i] !== undefined && isFull(fates[i]))
}

const noteFailed = (parts: Parts, recipients: ReadonlyArray<Recipient>, error: SmtpError.SendError): void => {
  const known = isOfRecipients(error) ? error.rejectedErrors : undefined
  for (const recipient of recipients) {
    const own = known?.find((each) => each.recipient === recipient.address)
    parts.fates.set(recipient, own ?? outcome.lost(error, recipient.address))
  }
}

/** Those whose transaction was never begun, because of what became of another. */
const noteUntouched = (parts: Parts, recipients: ReadonlyArray<Recipient>, error: SmtpError.SendError): void => {
  for (const recipient of recipients) parts.fates.set(recipient, outcome.untouched(error, recipient.address))
}

/** What ended a transaction; a source that failed, once others have the message, is the lot of the rest alone. */
const errorOf = (cause: Cause.Cause<unknown>, parts: Parts): SmtpError.SendError | undefined => {
  const error = SmtpError.fromCause(cause) as SmtpError.SendError | undefined
  if (error !== undefined || parts.last === undefined || Cause.hasDies(cause) || Cause.hasInterrupts(cause)) {
    return error
  }
  return new SmtpError.EMESSAGE({
    command: "DATA",
    field: "message",
    temporary: true,
    cause: Cause.squash(cause),
    message: "message: the stream failed when it was read again for the rest of the recipients"
  })
}

/** Runs the groups one after the other, and others for whom there was no room, as long as somebody gets in. */
const runAll = Effect.fnUntraced(function*<E, R>(
  groups: Array<Members>,
  isReplayable: boolean,
  one: One<E, R>,
  parts: Parts
): Effect.fn.Return<void, SmtpError.SendError | E, R> {
  for (let group = groups.shift(); group !== undefined; group = groups.shift()) {
    const exit = yield* Effect.exit(one(group))
    if (Exit.isSuccess(exit)) {
      const rest = noteSent(parts, group, exit.value)
      if (isReplayable && isMembers(rest)) groups.unshift(rest)
    } else {
      const error = errorOf(exit.cause, parts)
      if (error === undefined || (parts.last === undefined && !isOfRecipients(error))) {
        return void (yield* exit)
      }
      noteFailed(parts, group, error)
      if (!isOfRecipients(error)) noteUntouched(parts, groups.splice(0).flat(), error)
    }
    if (isReplayable) continue
    for (const recipient of groups.splice(0).flat()) parts.fates.set(recipient, notAgain(recipient.address))
  }
})

/** All the groups, and what they come to together. */
const runMerged = <E, R>(
  envelope: Envelope,
  groups: Array<Members>,
  isReplayable: boolean,
  one: One<E, R>,
  parts: Parts
): Effect.Effect<Sent, SmtpError.SendError | E, R> => {
  const all = runAll(groups, isReplayable, one, parts)
  return annotated(Effect.andThen(all, Effect.suspend(() => merge(envelope, parts))), parts)
}

/** Delivers an envelope in as many transactions as the server asks for. */
export const spread = <E, R>(
  envelope: Envelope,
  limits: Limits,
  isReplayable: boolean,
  one: One<E, R>
): Effect.Effect<Sent, SmtpError.SendError | E, R> =>
  Effect.suspend(() => {
    const groups = [...groupsOf(envelope.recipients, limits)]
    if (groups.length > 1 && envelope.requireAllRecipients) return Effect.fail(tooManyForOne(limits))
    return runMerged(envelope, groups, isReplayable, one, { fates: new Map(), last: undefined })
  })

/** The same where a transaction for all has been done: others for whom it had no room. */
export const spreadRest = <E, R>(
  envelope: Envelope,
  sent: Sent,
  isReplayable: boolean,
  one: One<E, R>
): Effect.Effect<Sent, SmtpError.SendError | E, R> =>
  Effect.suspend(() => {
    const parts: Parts = { fates: new Map(), last: undefined }
    const rest = noteSent(parts, envelope.recipients, sent)
    return runMerged(envelope, isReplayable && isMembers(rest) ? [rest] : [], true, one, parts)
  })
