/** One line for each attempt and recipient: what the client said, what passed the proxy, what the server stored. */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Exit from "effect/Exit"
import type { SendResult } from "../../../src/SmtpConnection.ts"
import * as SmtpError from "../../../src/SmtpError.ts"
import * as SmtpReply from "../../../src/SmtpReply.ts"
import type { Kept } from "./backend.ts"
import { broken } from "./message.ts"
import type { Attempt } from "./plan.ts"
import type { Link } from "./proxy.ts"

/** What an attempt ended in. */
export type Ending = Exit.Exit<SendResult, unknown>

export interface Entry {
  readonly attempt: Attempt
  readonly ending: Ending
  readonly link: Link
  /** Whether the terminator was handed to the transport. */
  readonly isHanded: boolean
}

interface Line {
  readonly entry: Entry
  readonly recipient: string
  /** "accepted", the tag of an error, "interrupted", "source", or what it should not be. */
  readonly outcome: string
  readonly claim: "accepted" | "not accepted" | "in doubt"
  /** The code of the server's reply that the claim rests on. */
  readonly code: number | undefined
}

const expected = new Set(["ECONNECTION", "ESOCKET", "ETIMEDOUT", "ETLS", "EENVELOPE", "EMESSAGE"])

/** The last 64 KiB of a message, and the terminator that goes with them in one write; a whole small message by BDAT. */
const window = 65_536 + 5

const isAcceptance = (reply: SmtpReply.SmtpReply | undefined): boolean =>
  reply !== undefined && SmtpReply.severity(reply) === 2

type Said = Pick<Line, "outcome" | "claim" | "code">

/** What is known of a recipient when one final reply speaks for all. */
const known = (
  attempt: Attempt,
  outcome: string,
  recipient: string,
  inDoubt: boolean,
  reply: SmtpReply.SmtpReply | undefined
): Said => ({
  outcome,
  claim: inDoubt ? "in doubt" : isAcceptance(reply) && !attempt.refused.has(recipient) ? "accepted" : "not accepted",
  code: reply?.code
})

const saidOfError = (attempt: Attempt, error: unknown, recipient: string): Said => {
  if (error === broken) return { outcome: "source", claim: "not accepted", code: undefined }
  if (!SmtpError.isSmtpError(error)) return { outcome: `?${String(error)}`, claim: "not accepted", code: undefined }
  const all = "rejectedErrors" in error ? error.rejectedErrors ?? [] : []
  const own = all.find((one) => one.recipient === recipient) ?? error
  const outcome = expected.has(own._tag) ? own._tag : `?${own._tag} ${own.message}`
  return known(attempt, outcome, recipient, own.inDoubt, own.reply)
}

const outcomeOf = <A, E>(exit: Exit.Exit<A, E>): SmtpError.Outcome["Service"] | undefined =>
  Exit.isFailure(exit) ? Context.getOrUndefined(Cause.annotations(exit.cause), SmtpError.Outcome) : undefined

const saidOf = ({ attempt, ending }: Entry, recipient: string): Said => {
  if (Exit.isSuccess(ending)) {
    const at = ending.value.rejected.indexOf(recipient)
    const error = at < 0 ? undefined : ending.value.rejectedErrors[at]
    return error === undefined
      ? { outcome: "accepted", claim: "accepted", code: 250 }
      : saidOfError(attempt, error, recipient)
  }
  if (Cause.hasInterruptsOnly(ending.cause)) {
    const outcome = outcomeOf(ending)
    return known(attempt, "interrupted", recipient, outcome?.inDoubt ?? false, outcome?.reply)
  }
  const [reason] = ending.cause.reasons
  return reason?._tag === "Fail"
    ? saidOfError(attempt, reason.error, recipient)
    : { outcome: `?${Cause.pretty(ending.cause)}`, claim: "not accepted", code: undefined }
}

/** What becomes of the message after this attempt. */
export const next = (ending: Ending): "sent" | "again" | "given up" => {
  if (Exit.isSuccess(ending)) return "sent"
  if (Cause.hasInterruptsOnly(ending.cause)) {
    const outcome = outcomeOf(ending)
    if (outcome === undefined) return "again"
    if (outcome.inDoubt || outcome.reply === undefined) return "given up"
    return isAcceptance(outcome.reply) ? "sent" : SmtpReply.isTransient(outcome.reply) ? "again" : "given up"
  }
  const [reason] = ending.cause.reasons
  if (reason?._tag !== "Fail") return "given up"
  if (reason.error === broken || SmtpError.isRetryable(reason.error)) return "again"
  return SmtpError.isSmtpError(reason.error) && isAcceptance(reason.error.reply) ? "sent" : "given up"
}

export interface Verdict {
  readonly violations: ReadonlyArray<string>
  /** Outcomes by tag, whether in doubt, and how often they were stored. */
  readonly table: string
}

const isDoubtJustified = ({ attempt, isHanded, link }: Entry, isWindowed: boolean): boolean => {
  const reached = link.reached.get(attempt.sender) ?? link.dialogue.bodies.get(attempt.sender)?.octets ?? 0
  return isHanded && (!isWindowed || reached >= attempt.size - window)
}

/** What is known of the circumstances. */
export interface Setting {
  /** Whether the transport took no more than the proxy received. */
  readonly isWindowed: boolean
  /** Whether the server may say 421 for a message that it took, when it is stopped at that moment. */
  readonly deniesWhenStopped: boolean
}

/** The server's own contradiction: against RFC 5321 section 4.2.5 it says 4yz for what it took responsibility for. */
const isDenied = ({ claim, code }: Line, kept: ReadonlyArray<Kept>, { deniesWhenStopped }: Setting): boolean =>
  deniesWhenStopped && claim === "not accepted" && code === 421 && kept.length === 1

const violationOf = (line: Line, kept: ReadonlyArray<Kept>, setting: Setting): string | undefined => {
  const { claim, code, entry, outcome } = line
  if (outcome.startsWith("?")) return "unexpected"
  if (isDenied(line, kept, setting)) return undefined
  if (kept.length > 1) return `stored ${kept.length} times`
  if (kept.some(({ sha256 }) => sha256 !== entry.attempt.sha256)) return "stored with other content"
  if (claim === "accepted" && kept.length === 0) return "accepted and not stored"
  if (claim === "not accepted" && kept.length > 0) return "stored, and neither accepted nor in doubt"
  if (claim === "not accepted" && code === undefined && entry.isHanded) {
    return "handed over, not answered and not in doubt"
  }
  if (claim === "in doubt" && !isDoubtJustified(entry, setting.isWindowed)) return "in doubt without need"
  return undefined
}

const describe = ({ entry, outcome, claim, recipient }: Line): string => {
  const { attempt, isHanded, link } = entry
  const { fault, sender, timeouts, wire, within } = attempt
  const reached = link.reached.get(sender) ?? link.dialogue.bodies.get(sender)?.octets
  const plan = JSON.stringify({ fault, timeouts, within, wire, reached, isHanded, local: link.address })
  return `${sender} to ${recipient}: ${outcome}, ${claim} ${plan} ${String(entry.ending)}`
}

const render = (rows: ReadonlyMap<string, number>): string => {
  const cells = [
    ["outcome", "inDoubt", "stored", "lines"],
    ...[...rows].toSorted(([a], [b]) => a < b ? -1 : 1).map(([key, count]) => [...key.split("\t"), String(count)])
  ]
  const widths = [0, 1, 2, 3].map((column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)))
  return cells.map((row) =>
    row.map((cell, i) => i < 2 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)).join("  ")
  ).join("\n")
}

/** Messages that were taken over, or may have been, in more than one attempt. */
const repeated = (
  lines: ReadonlyArray<Line>,
  isTaken: (line: Line) => boolean
): ReadonlyArray<string> => {
  const attempts = new Map<number, Set<number>>()
  for (const line of lines) {
    if (!isTaken(line)) continue
    const { attempt, message } = line.entry.attempt
    attempts.set(message, (attempts.get(message) ?? new Set()).add(attempt))
  }
  return [...attempts].filter(([, of]) => of.size > 1).map(([message, of]) =>
    `message ${message}: taken over in attempts ${[...of].join(", ")}`
  )
}

/** By sender and recipient. */
const index = (stored: ReadonlyArray<Kept>): ReadonlyMap<string, ReadonlyArray<Kept>> => {
  const found = new Map<string, Array<Kept>>()
  for (const kept of stored) {
    for (const recipient of kept.recipients) {
      const key = `${kept.sender} ${recipient}`
      found.set(key, [...found.get(key) ?? [], kept])
    }
  }
  return found
}

const keyOf = (line: Line, kept: ReadonlyArray<Kept>, setting: Setting): string => {
  const tag = line.outcome.split(" ", 1)[0] ?? ""
  const outcome = isDenied(line, kept, setting)
    ? `${tag}, 421 of the server, which has it`
    : line.claim === "accepted" && tag !== "accepted"
    ? `${tag}, accepted`
    : tag
  return [outcome, line.claim === "in doubt" ? "yes" : "no", kept.length].join("\t")
}

/** Compares what was said with what is stored. */
export const judge = (entries: ReadonlyArray<Entry>, stored: ReadonlyArray<Kept>, setting: Setting): Verdict => {
  const found = index(stored)
  const keptOf = ({ entry, recipient }: Line) => found.get(`${entry.attempt.sender} ${recipient}`) ?? []
  const lines = entries.flatMap((entry): ReadonlyArray<Line> =>
    entry.attempt.recipients.map((recipient) => ({ entry, recipient, ...saidOf(entry, recipient) }))
  )
  const isTaken = (line: Line): boolean => {
    const kept = keptOf(line)
    return line.claim !== "not accepted" || kept.length > 0 && !isDenied(line, kept, setting)
  }
  const rows = new Map<string, number>()
  const violations: Array<string> = [...repeated(lines, isTaken)]
  for (const line of lines) {
    const kept = keptOf(line)
    const key = keyOf(line, kept, setting)
    rows.set(key, (rows.get(key) ?? 0) + 1)
    const violation = violationOf(line, kept, setting)
    if (violation !== undefined) violations.push(`${violation}: ${describe(line)}`)
  }
  const known = new Set(entries.map(({ attempt }) => attempt.sender))
  for (const { sender } of stored) if (!known.has(sender)) violations.push(`stored, and never sent: ${sender}`)
  return { violations, table: render(rows) }
}
