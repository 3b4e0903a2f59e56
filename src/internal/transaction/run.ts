/**
 * One run, step by step and without effects: what may be written now, and what a reply means.
 */
import * as Result from "effect/Result"
import * as SmtpCommand from "../../SmtpCommand.ts"
import * as SmtpError from "../../SmtpError.ts"
import * as SmtpReply from "../../SmtpReply.ts"
import type { Source } from "../message.ts"
import type { Steps } from "../telemetry/phases.ts"
import type { Dialogue, Plan, Run, Step } from "./model.ts"

export const isPositive = (reply: SmtpReply.SmtpReply): boolean => SmtpReply.severity(reply) === 2

/** Whether a reply decides over a message; a 3yz leaves it in doubt. */
export const isFinal = (reply: SmtpReply.SmtpReply): boolean => isPositive(reply) || SmtpReply.isRefusal(reply)

/** A well-formed 4yz or 5yz other than 421. */
const isPlainRefusal = (reply: SmtpReply.SmtpReply): boolean => SmtpReply.isRefusal(reply) && reply.code !== 421

export const make = <E, R>(
  dialogue: Dialogue,
  plan: Plan,
  source: Source<E, R>,
  requireAllRecipients: boolean,
  tell?: Steps
): Run<E, R> => ({
  dialogue,
  plan,
  source,
  requireAllRecipients,
  steps: [],
  written: 0,
  answered: 0,
  mailRefusal: undefined,
  refusal: undefined,
  outcomes: [],
  accepted: 0,
  isHeld: false,
  isHandedOver: false,
  handedOverAt: undefined,
  tell,
  finals: [],
  isSettled: false
})

/** Plans the opening, once it is known whether RSET goes before it. */
export const begin = <E, R>(run: Run<E, R>, withReset: boolean): void => {
  const { steps } = run
  if (steps.length > 0) return
  run.dialogue.transactions++
  if (withReset) steps.push({ stage: "RSET", command: { _tag: "Rset" } })
  steps.push({ stage: "MAIL", command: run.plan.mail })
  for (const { address, command } of run.plan.recipients) steps.push({ stage: "RCPT", command, recipient: address })
  if (run.plan.via === "DATA") steps.push({ stage: "DATA", command: { _tag: "Data" } })
}

/** Whether a recipient was refused in a way that ends the transaction before its body. */
export const isRefusedByRecipients = <E, R>(run: Run<E, R>): boolean =>
  run.outcomes.length === run.plan.recipients.length &&
  (run.requireAllRecipients ? run.accepted < run.outcomes.length : run.accepted === 0)

/** How many replies may be owed at once. Groups are for servers that offer PIPELINING (RFC 2920). */
export const budgetOf = ({ dialogue }: { readonly dialogue: Dialogue }): number =>
  dialogue.session.capabilities.pipelining ? dialogue.budget : 1

/** Whether a step may be written, as far as what is known goes. */
const mayWrite = <E, R>(run: Run<E, R>, step: Step, budget: number): boolean => {
  if (run.mailRefusal !== undefined) return false
  if (step.stage !== "DATA") return true
  if (run.outcomes.length === run.plan.recipients.length) return !isRefusedByRecipients(run)
  return budget > 1 && !run.requireAllRecipients
}

/** The commands that may be written now: all that the budget allows, but not a few at a time, nor before what is known. */
export const due = <E, R>(run: Run<E, R>): ReadonlyArray<Step> => {
  const budget = budgetOf(run)
  const unread = run.written - run.answered
  if (unread * 2 > budget || (unread > 0 && run.dialogue.session.wire.arrived > 0)) return []
  const steps: Array<Step> = []
  const end = Math.min(run.steps.length, run.answered + budget)
  for (let at = run.written; at < end; at++) {
    const step = run.steps[at]!
    if (!mayWrite(run, step, budget)) break
    steps.push(step)
  }
  return steps
}

/** Notes that steps were written. */
export const wrote = <E, R>(run: Run<E, R>, count: number): void => {
  run.written += count
  if (run.written - run.answered > 1) run.dialogue.hasGrouped = true
  if (!run.isHandedOver) return
  run.handedOverAt = run.dialogue.session.wire.now
  run.tell?.(run.plan.via === "BDAT" ? "bdat" : "data", undefined)
}

/** The octets of commands. They are built from values that were checked before: one that is refused is a defect here. */
export const encode = (steps: ReadonlyArray<Step>): Uint8Array => {
  const commands: Array<SmtpCommand.SmtpCommand> = []
  for (const { command } of steps) {
    if (command !== undefined) commands.push(command)
  }
  return Result.getOrThrow(SmtpCommand.encodeAll(commands))
}

/** Whether the message may be accepted although nobody said so: the design's rule for `inDoubt`. */
export const isInDoubt = <E, R>(run: Run<E, R>): boolean => {
  if (!run.isHandedOver || run.mailRefusal !== undefined) return false
  const isEveryoneRefused = run.outcomes.length === run.plan.recipients.length && run.accepted === 0
  return !isEveryoneRefused && run.finals.length < finalsOf(run)
}

/** How many replies end the transaction (RFC 2033 §4.2). */
export const finalsOf = <E, R>({ accepted, dialogue }: Run<E, R>): number => dialogue.protocol === "lmtp" ? accepted : 1

/** Where the next reply stands. */
export const whereNext = <E, R>(run: Run<E, R>): SmtpError.Where => {
  const step = run.steps[run.answered]
  if (step === undefined) return { stage: "BODY", command: run.plan.via }
  const { recipient, stage } = step
  const isFinalStep = stage === "FINAL"
  return {
    stage,
    command: isFinalStep ? run.plan.via : undefined,
    attempted: isFinalStep ? undefined : stage !== "RSET" || run.written > run.answered + 1,
    inDoubt: isInDoubt(run),
    handedOver: run.isHandedOver,
    recipient
  }
}

const refused = <E, R>(run: Run<E, R>, reply: SmtpReply.SmtpReply, where: SmtpError.Where): SmtpError.SendError => {
  const { secure } = run.dialogue.session
  return SmtpError.classify({ _tag: "Refused", reply, secure }, where) as SmtpError.SendError
}

/**
 * RFC 3030 §2 has no 500 or 502 to BDAT: to such a server the chunk was a series of commands. Postfix and Dovecot say 530
 * before they look at the command, and take the chunk for more of them too.
 */
export const isBdatUnknown = <E, R>({ plan }: Run<E, R>, reply: SmtpReply.SmtpReply): boolean =>
  plan.via === "BDAT" && [500, 502, 530].includes(reply.code)

/** A refusal that the server has spoken: whatever follows, nothing was accepted by it. */
const certain = { inDoubt: false, handedOver: false } as const

const noteRecipient = <E, R>(
  run: Run<E, R>,
  step: Step,
  reply: SmtpReply.SmtpReply,
  where: SmtpError.Where
): SmtpError.SendError | undefined => {
  const address = step.recipient!
  if (!SmtpReply.isRefusal(reply)) return refused(run, reply, where)
  const error = refused(run, reply, { ...where, ...certain })
  run.outcomes.push({ address, error: error as SmtpError.RecipientError })
  if (reply.code !== 421) return undefined
  // RFC 5321 §3.8: 421 ends the transaction for those who were not answered too.
  return refused(run, reply, isInDoubt(run) ? where : { ...where, ...certain })
}

/** Whether the reply is what the step is said for. */
export const isExpected = ({ stage }: Step, reply: SmtpReply.SmtpReply): boolean =>
  stage === "DATA" ? reply.code === 354 : isPositive(reply)

const noteExpected = <E, R>(run: Run<E, R>, step: Step, reply: SmtpReply.SmtpReply): void => {
  switch (step.stage) {
    case "RSET":
      run.dialogue.needsReset = false
      break
    case "MAIL":
      run.dialogue.needsReset = true
      run.dialogue.takesMail = true
      break
    case "RCPT":
      run.accepted++
      run.outcomes.push({ address: step.recipient!, error: undefined })
      break
    case "DATA":
      run.isHeld = true
      break
    case "FINAL":
      run.finals.push(reply)
  }
}

/**
 * What a reply means to its step. An error given back ends the transaction here, and the connection with it; a refusal
 * that leaves it usable is noted, and the replies that are still owed are read.
 */
export const note = <E, R>(run: Run<E, R>, reply: SmtpReply.SmtpReply): SmtpError.SendError | undefined => {
  const { dialogue } = run
  const step = run.steps[run.answered]!
  if (run.tell !== undefined && step.stage === "MAIL") run.tell("mail", reply.code)
  if (isExpected(step, reply)) {
    run.answered++
    noteExpected(run, step, reply)
    return undefined
  }
  const where = whereNext(run)
  run.answered++
  switch (step.stage) {
    case "RSET":
      return refused(run, reply, where)
    case "MAIL":
      if (!SmtpReply.isRefusal(reply)) return refused(run, reply, where)
      run.mailRefusal = refused(run, reply, { ...where, ...certain })
      return reply.code === 421 ? run.mailRefusal : undefined
    case "RCPT":
      return run.mailRefusal === undefined || !isPlainRefusal(reply)
        ? noteRecipient(run, step, reply, where)
        : undefined
    case "DATA":
      if (!isPlainRefusal(reply)) return refused(run, reply, where)
      run.refusal = refused(run, reply, where)
      return undefined
    case "BDAT":
      if (!isPlainRefusal(reply) || isBdatUnknown(run, reply)) return refused(run, reply, where)
      run.refusal ??= refused(run, reply, { ...where, inDoubt: false })
      return undefined
    case "FINAL":
      run.finals.push(reply)
      // RFC 3030 §2: after a refused BDAT nothing is known of the transaction, not even whether there was one.
      if (run.plan.via === "BDAT") dialogue.needsReset = true
      return undefined
  }
}
