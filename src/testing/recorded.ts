/**
 * A recorded dialogue as exchanges: which replies answer which command, however they were pipelined. Pure.
 *
 * @since 0.1.0
 */
import type { Entry } from "../SmtpTranscript.ts"
import type { Answer } from "./answer.ts"

/** A command with its replies; a message is one exchange, by DATA or by any number of BDAT. */
export interface Exchange {
  /** In upper case; "BODY" for a message. */
  readonly verb: string
  /** The line as it was recorded; of a message by BDAT that of its first chunk. */
  readonly line: string
  /** Of a message: the reply to DATA, or the first refusal of BDAT, or the reply to its first chunk. */
  readonly replies: Array<Answer>
  /** The final replies of a message. */
  readonly finals: Array<Answer>
  /** What a client says or leaves out as it pipelines: RSET, NOOP, and what follows when all was refused. */
  isOptional: boolean
  /** STARTTLS: the handshake succeeded. */
  isSecured: boolean
  /** All replies came. */
  isAnswered: boolean
}

/** One recorded connection. */
export interface Recorded {
  readonly greeting: Answer | undefined
  readonly exchanges: ReadonlyArray<Exchange>
  readonly isImplicitTls: boolean
  /** TLS was up, and the certificate did not verify. */
  readonly isUnverified: boolean
}

/** A reply that is owed, or several: those of an LMTP message. */
interface Owed {
  readonly exchange: Exchange
  kind: "plain" | "data" | "chunk" | "final"
}

const isPositive = ({ code }: Answer): boolean => code >= 200 && code < 300

/** The verb of a command line. */
const verbOf = (line: string): string => line.split(/[ :]/, 1)[0]!.toUpperCase()

/** Reads the entries of one connection, in order. */
class Reader {
  greeting: Answer | undefined
  readonly exchanges: Array<Exchange> = []
  isImplicitTls = false
  isUnverified = false
  private readonly owed: Array<Owed> = []
  private isLmtp = false
  /** MAIL was refused. */
  private isRefused = false
  private accepted = 0

  command(line: string): void {
    const verb = verbOf(line)
    const last = this.exchanges.at(-1)
    this.isLmtp ||= verb === "LHLO"
    if (last?.verb === "AUTH" && last.replies.at(-1)?.code === 334) {
      this.owed.push({ exchange: last, kind: "plain" })
    } else if (verb === "BDAT") this.chunk(line, last)
    else {
      const isOptional = verb === "RSET" || verb === "NOOP"
      const exchange = this.begin(verb === "DATA" ? "BODY" : verb, line, isOptional)
      this.owed.push({ exchange, kind: verb === "DATA" ? "data" : "plain" })
    }
  }

  private begin(verb: string, line: string, isOptional: boolean): Exchange {
    const exchange: Exchange = { verb, line, replies: [], finals: [], isOptional, isSecured: false, isAnswered: false }
    this.exchanges.push(exchange)
    return exchange
  }

  private chunk(line: string, last: Exchange | undefined): void {
    const exchange = last?.line.startsWith("BDAT") === true ? last : this.begin("BODY", line, false)
    this.owed.push({ exchange, kind: / LAST$/i.test(line) ? "final" : "chunk" })
  }

  reply(answer: Answer): void {
    if (this.greeting === undefined && this.exchanges.length === 0) {
      this.greeting = answer
      return
    }
    const owed = this.owed[0]
    if (owed === undefined) return
    this.settle(owed.exchange, answer)
    if (!this.take(owed, answer)) return
    this.owed.shift()
    owed.exchange.isAnswered = owed.kind === "final" ||
      answer.code !== 334 && !(owed.kind === "chunk" && isPositive(answer))
  }

  /** Puts the reply in its place; whether no more is owed to this command. */
  private take(owed: Owed, answer: Answer): boolean {
    const { exchange } = owed
    if (owed.kind === "plain") exchange.replies.push(answer)
    else if (owed.kind === "final") {
      exchange.finals.push(answer)
      return exchange.finals.length >= (this.isLmtp ? this.accepted : 1)
    } else {
      if (exchange.replies.length === 0 || !isPositive(answer)) exchange.replies.splice(0, 1, answer)
      if (answer.code === 354) owed.kind = "final"
      return answer.code !== 354
    }
    return true
  }

  /** What a reply says of the transaction. */
  private settle(exchange: Exchange, answer: Answer): void {
    switch (exchange.verb) {
      case "MAIL":
        this.isRefused = !isPositive(answer)
        this.accepted = 0
        break
      case "RCPT":
        exchange.isOptional = this.isRefused
        if (isPositive(answer)) this.accepted++
        break
      case "BODY":
        exchange.isOptional = this.accepted === 0
    }
  }

  event(text: string): void {
    const [, not] = /, certificate (not )?verified$/.exec(text) ?? []
    if (!/, certificate (not )?verified$/.test(text)) return
    this.isUnverified ||= not !== undefined
    const last = this.exchanges.at(-1)
    if (last !== undefined) last.isSecured = true
    else this.isImplicitTls ||= this.greeting === undefined
  }
}

/** The connections of a transcript, in the order in which they began. */
export const read = (entries: ReadonlyArray<Entry>): ReadonlyArray<Recorded> => {
  const readers = new Map<string, Reader>()
  for (const entry of entries) {
    const reader = readers.get(entry.connection) ?? new Reader()
    readers.set(entry.connection, reader)
    if (entry.kind === "command") reader.command(entry.text)
    else if (entry.kind === "reply") reader.reply({ code: entry.code, lines: entry.lines })
    else if (entry.kind === "event") reader.event(entry.text)
  }
  return [...readers.values()]
}

/** The refusal before the end of a message, if there was one. */
export const refusalOf = ({ replies: [reply] }: Exchange): Answer | undefined =>
  reply === undefined || reply.code === 354 || isPositive(reply) ? undefined : reply

const mend = (line: string): string => line.replace(/^(?:MAIL FROM|RCPT TO|[^ :]*)/i, (verb) => verb.toUpperCase())

/** What depends on the message, which is not compared. */
const withoutContent = (line: string): string => line.replace(/ (?:SIZE|BODY)=[^ ]*/gi, "")

/** Whether a line is as recorded: SIZE and BODY aside, and with anything where the recording has "***". */
export const isSame = (recorded: string, line: string): boolean => {
  const text = withoutContent(mend(line))
  const [first = "", ...parts] = withoutContent(mend(recorded)).split("***")
  const last = parts.pop()
  if (last === undefined) return text === first
  if (!text.startsWith(first)) return false
  let at = first.length
  for (const part of parts) {
    const found = text.indexOf(part, at)
    if (found < 0) return false
    at = found + part.length
  }
  return text.length - last.length >= at && text.endsWith(last)
}
