/**
 * What a transaction says and comes to: MAIL, RCPT and DATA (RFC 5321) one after the other, in groups (RFC 2920), or with
 * the whole message behind them by BDAT (RFC 3030).
 */
import { slices, writesOf } from "../../src/internal/message.ts"
import { fromLatin1, latin1 } from "../fuzz/random.ts"
import { canonical, canonicalSoFar, stuffed, stuffedSoFar } from "./body.ts"
import {
  type Answer,
  type Ask,
  type Call,
  type End,
  type Ending,
  failure,
  isPolite,
  isPositive,
  isRefusal,
  type Known,
  type Mail,
  type Owed,
  refusal,
  type Refused,
  type Reply,
  type State,
  type Where
} from "./client.ts"

type Failed = Extract<Ending, { failed: string }>
type Asking<A> = Generator<Ask, A, Answer>

type Verb = "RSET" | "MAIL" | "RCPT" | "DATA" | "BDAT" | "Final"

interface Step {
  readonly verb: Verb
  readonly line: string
  readonly recipient?: string
}

/** A message up to here goes with its envelope. */
const small = 65_536

/** A stream by BDAT gathers so much before it is worth a chunk. */
const worth = 65_536

/** A final reply decides unless it is a 3yz. */
const isDecisive = (reply: Reply): boolean => isPositive(reply) || isRefusal(reply)

/** To whom BDAT is no command, or not yet, the chunk was commands. */
const isMisread = ({ code }: Reply): boolean => code === 500 || code === 502 || code === 530

const entry = (recipient: string, reply: Reply, where: Where): Refused => {
  const { failed, inDoubt } = refusal(reply, where) as Failed
  return { recipient, failed, reply: reply.id, code: reply.code, inDoubt }
}

/** The reply that speaks for several: the first 4yz, else the first. */
const speaker = (
  refused: ReadonlyArray<Refused>
): { readonly reply: string | undefined; readonly code: number | undefined } => {
  const replied = refused.filter(({ reply }) => reply !== undefined)
  const { code, reply } = replied.find(({ code = 0 }) => code >= 400 && code < 500) ?? replied[0] ??
    { code: undefined, reply: undefined }
  return { reply, code }
}

const rcpt = (recipient: string): Where => ({ command: "RCPT TO", stage: "RCPT", recipient })

/** Octets as they are written, none larger than a write may be. */
const cut = (octets: string): Array<string> => slices(fromLatin1(octets)).map(latin1)

/** Pieces as they are written: small ones together. */
const gather = (pieces: ReadonlyArray<string>): Array<string> =>
  writesOf(pieces.map(fromLatin1)).map((write) => write.map(latin1).join(""))

class Transaction {
  readonly via: "DATA" | "BDAT"
  readonly isGrouped: boolean
  readonly steps: Array<Step> = []
  said = 0
  answered = 0
  mailRefusal: Failed | undefined
  /** DATA was refused, or a chunk. */
  laterRefusal: Ending | undefined
  readonly heard: Array<{ readonly recipient: string; readonly reply: Reply }> = []
  isOpen = false
  isHandedOver = false
  readonly finals: Array<Reply> = []
  readonly mail: Mail
  readonly state: State

  constructor(mail: Mail, state: State) {
    this.mail = mail
    this.state = state
    const { isWhole, text } = mail.message
    this.isGrouped = state.pipelining && state.offers.includes("PIPELINING")
    const isSuited = state.chunking === "always" || (state.chunking && isWhole && text.length <= small)
    this.via = isSuited && state.offers.includes("CHUNKING") ? "BDAT" : "DATA"
    if (state.needsReset) this.steps.push({ verb: "RSET", line: "RSET" })
    this.steps.push({ verb: "MAIL", line: `MAIL FROM:<${mail.from}>` })
    for (const recipient of mail.to) this.steps.push({ verb: "RCPT", line: `RCPT TO:<${recipient}>`, recipient })
  }

  get accepted(): number {
    return this.heard.filter(({ reply }) => isPositive(reply)).length
  }

  get isKnown(): boolean {
    return this.heard.length === this.mail.to.length
  }

  /** How many replies the end of the message has. */
  get count(): number {
    return this.state.isLmtp ? this.accepted : 1
  }

  /** The message may have been taken, and nobody said so. */
  get inDoubt(): boolean {
    const isNobody = this.mailRefusal !== undefined || (this.isKnown && this.accepted === 0)
    return this.isHandedOver && !isNobody && this.finals.length < this.count
  }

  where({ recipient, verb }: Step): Where {
    const more = { inDoubt: this.inDoubt, handedOver: this.isHandedOver }
    switch (verb) {
      case "RSET":
        // What stands behind it in its group was said too.
        return { command: "RSET", stage: "OTHER", attempted: this.said > this.answered + 1, ...more }
      case "MAIL":
        return { command: "MAIL FROM", stage: "MAIL", ...more }
      case "RCPT":
        return { ...rcpt(recipient!), ...more }
      case "Final":
        return { command: this.via, stage: "FINAL", ...more }
      default:
        return { command: verb, stage: verb, ...more }
    }
  }

  /** Somebody who leaves draws no conclusion. */
  hasLeft = false
  readonly leave = (): void => {
    this.hasLeft = true
  }
  /** What he knows. */
  readonly known = (): Known => {
    const reply = this.finals.find(isPositive)?.id ?? (this.verdict as Failed | undefined)?.reply ??
      this.finals.at(-1)?.id
    return { inDoubt: this.inDoubt || !this.finals.every(isDecisive), reply }
  }

  /** What was refused before the message counted. */
  get verdict(): Ending | undefined {
    if (this.mailRefusal !== undefined) return this.mailRefusal
    const refused = this.heard.filter(({ reply }) => !isPositive(reply))
    if (this.isKnown && (this.mail.requireAll ? refused.length > 0 : this.accepted === 0)) {
      const entries = refused.map(({ recipient, reply }) => entry(recipient, reply, rcpt(recipient)))
      return failure("EENVELOPE", rcpt(""), { ...speaker(entries), refused: entries })
    }
    return this.laterRefusal
  }

  /** A reply to the oldest question; what ends it there is given back. */
  note(reply: Reply): Ending | undefined {
    const step = this.steps[this.answered]!
    const where = this.where(step)
    this.answered++
    switch (step.verb) {
      case "RSET":
        if (!isPositive(reply)) return refusal(reply, where)
        this.state.needsReset = false
        return undefined
      case "MAIL":
        return this.#noteMail(reply, where)
      case "RCPT":
        return this.#noteRecipient(step.recipient!, reply, where)
      case "DATA":
        return this.#noteData(reply, where)
      case "BDAT":
        if (isPositive(reply)) return undefined
        if (!isPolite(reply) || isMisread(reply)) return refusal(reply, where)
        this.laterRefusal ??= refusal(reply, { ...where, inDoubt: false })
        return undefined
      case "Final":
        this.finals.push(reply)
        // After a refused BDAT nothing is known of the transaction.
        if (this.via === "BDAT" && !isPositive(reply)) this.state.needsReset = true
        return undefined
    }
  }

  #noteMail(reply: Reply, where: Where): Ending | undefined {
    if (isPositive(reply)) this.state.needsReset = this.state.isAdmitted = true
    else if (!isRefusal(reply)) return refusal(reply, where)
    else {
      const certain = { ...where, inDoubt: false, handedOver: false }
      this.mailRefusal = refusal(reply, certain, this.state.isSecure) as Failed
      if (reply.code === 421) return this.mailRefusal
    }
    return undefined
  }

  #noteRecipient(recipient: string, reply: Reply, where: Where): Ending | undefined {
    if (isPositive(reply) || isPolite(reply)) {
      if (isPositive(reply) || this.mailRefusal === undefined) this.heard.push({ recipient, reply })
      return undefined
    }
    if (!isRefusal(reply)) return refusal(reply, where)
    this.heard.push({ recipient, reply })
    return refusal(reply, this.inDoubt ? where : { ...where, inDoubt: false, handedOver: false })
  }

  #noteData(reply: Reply, where: Where): Ending | undefined {
    if (reply.code === 354) this.isOpen = true
    else if (!isPolite(reply)) return refusal(reply, where)
    else this.laterRefusal = this.#refusedData(reply, where)
    return undefined
  }

  /** DATA was refused: to everyone, where RCPT had refused some before. */
  #refusedData(reply: Reply, where: Where): Ending {
    const ending = refusal(reply, where)
    if (this.heard.every((one) => isPositive(one.reply))) return ending
    const refused = this.heard.map((one) =>
      isPositive(one.reply) ? entry(one.recipient, reply, where) : entry(one.recipient, one.reply, rcpt(one.recipient))
    )
    return { ...ending, refused } as Ending
  }

  /** What is told of a connection that is over: what was refused before; but 421 to a recipient is the end itself. */
  told(lost: Ending): Ending {
    const { code, command } = lost as Failed
    return code === 421 && command === "RCPT TO" && this.mailRefusal === undefined ? lost : this.verdict ?? lost
  }

  /** Writes steps in one go. */
  *say(steps: ReadonlyArray<Step>, behind = ""): Asking<Ending | undefined> {
    const owes = steps.map(({ verb }): Owed => ({ verb, deadline: verb === "Final" ? "final" : "command" }))
    const where = this.where(steps[0]!)
    const octets = steps.map(({ line }) => line === "" ? "" : `${line}\r\n`).join("") + behind
    const { failed } = yield { _tag: "Say", octets, owes }
    // Only what was said before counts.
    if (failed !== undefined) return failed({ ...where, attempted: where.stage !== "OTHER" && where.stage !== "MAIL" })
    this.said += steps.length
    return undefined
  }

  /** Reads what is owed. */
  *read(): Asking<Ending | undefined> {
    const leaver = this.isHandedOver ? this : undefined
    while (this.answered < this.said) {
      const where = this.where(this.steps[this.answered]!)
      const { failed, reply } = yield { _tag: "Reply", where, leaver }
      const wrong = reply === undefined ? failed!(where) : this.note(reply)
      if (wrong !== undefined) return wrong
    }
    return undefined
  }

  /** Says and reads, all at once or one after the other, as far as it makes sense. */
  *converse(steps: ReadonlyArray<Step>): Asking<Ending | undefined> {
    for (const group of this.isGrouped ? [steps] : steps.map((step) => [step])) {
      if (this.mailRefusal !== undefined) return undefined
      const wrong = (yield* this.say(group)) ?? (yield* this.read())
      if (wrong !== undefined) return wrong
    }
    return undefined
  }
}

/** A server that may wait for a login or TLS, and take a chunk for commands until then. */
const mayWait = ({ isAdmitted, offers }: State): boolean =>
  !isAdmitted && (offers.includes("AUTH") || offers.includes("STARTTLS"))

export function* send(mail: Mail, state: State, isFresh: () => boolean): Call {
  const tx = new Transaction(mail, state)
  const { isWhole, text } = mail.message
  const isSuited = isWhole && canonical(text).length <= small && !mail.requireAll
  if (tx.isGrouped && tx.via === "BDAT" && isSuited && !state.isLmtp && !mayWait(state) && isFresh()) {
    return yield* sendAtOnce(tx)
  }
  const data: Step = { verb: "DATA", line: "DATA" }
  const isAhead = tx.isGrouped && tx.via === "DATA" && !mail.requireAll
  if (isAhead) tx.steps.push(data)
  const lost = yield* tx.converse(tx.steps)
  if (lost !== undefined) return { ending: tx.told(lost), usable: false }
  if (tx.via === "DATA" && !isAhead && tx.verdict === undefined) {
    tx.steps.push(data)
    const gone = yield* tx.converse([data])
    if (gone !== undefined) return { ending: tx.told(gone), usable: false }
  }
  if (tx.verdict !== undefined) return yield* giveUp(tx, tx.verdict)
  return yield* deliver(tx)
}

/** Refused before the message. An open DATA gets the lone dot, where that is no message to anybody. */
function* giveUp(tx: Transaction, ending: Ending): Call {
  if (!tx.isOpen) return { ending, usable: true }
  if (tx.state.isLmtp || tx.mailRefusal !== undefined) return { ending, usable: false }
  const { failed } = yield { _tag: "Say", octets: ".\r\n", owes: [{ verb: "Final", deadline: "final" }] }
  if (failed !== undefined) return { ending, usable: false }
  const { reply } = yield { _tag: "Reply", where: { command: "DATA", stage: "BODY" }, leaver: undefined }
  if (reply !== undefined && isPositive(reply)) tx.state.needsReset = false
  return { ending, usable: reply !== undefined && (isPositive(reply) || isPolite(reply)) }
}

/** MAIL, RCPT and the whole message in one write. */
function* sendAtOnce(tx: Transaction): Call {
  const octets = canonical(tx.mail.message.text)
  tx.steps.push({ verb: "Final", line: `BDAT ${octets.length} LAST` })
  const failed = yield* tx.say(tx.steps, octets)
  if (failed !== undefined) return { ending: failed, usable: false }
  tx.isHandedOver = true
  return conclude(tx, yield* tx.read())
}

function* deliver(tx: Transaction): Call {
  const where: Where = { command: tx.via, stage: "BODY" }
  yield { _tag: "Begin", where }
  const last = yield* tx.mail.message.isWhole
    ? whole(tx, where)
    : tx.via === "DATA"
    ? dataStream(tx, where)
    : bdatStream(tx, where)
  if (typeof last !== "string") return last
  const finals = Array.from({ length: tx.count }, (): Step => ({ verb: "Final", line: "" }))
  const owes = finals.map(({ verb }): Owed => ({ verb, deadline: "final" }))
  yield { _tag: "Terminate", where, octets: last, owes }
  tx.isHandedOver = true
  tx.steps.push(...finals)
  tx.said += finals.length
  return conclude(tx, yield* tx.read())
}

/** Gives what is left for the last write. */
function* whole({ mail: { message: { text } }, via }: Transaction, where: Where): Asking<string> {
  const octets = via === "DATA" ? stuffed(text) : canonical(text)
  const [first = "", ...rest] = cut(octets)
  const writes = [via === "DATA" ? first : `BDAT ${octets.length} LAST\r\n${first}`, ...rest]
  yield { _tag: "Write", where, writes: writes.slice(0, -1) }
  return writes.at(-1)!
}

function* dataStream({ mail: { message } }: Transaction, where: Where): Asking<string> {
  let sent = 0
  for (;;) {
    const { piece } = yield { _tag: "Pull", where }
    const due = piece === undefined ? stuffed(message.text) : stuffedSoFar(message.text += piece)
    const octets = due.slice(sent)
    if (piece === undefined) return octets
    yield { _tag: "Write", where, writes: octets.length > small ? cut(octets) : [octets] }
    sent = due.length
  }
}

const chunk = (octets: string, isLast: boolean): string => `BDAT ${octets.length}${isLast ? " LAST" : ""}\r\n${octets}`

/** What comes in small pieces is gathered; a chunk that is refused ends it. */
function* bdatStream(tx: Transaction, where: Where): Asking<string | End> {
  const { message } = tx.mail
  let sent = 0
  let pieces: Array<string> = []
  for (;;) {
    const { piece } = yield { _tag: "Pull", where }
    const due = piece === undefined ? canonical(message.text) : canonicalSoFar(message.text += piece)
    pieces.push(due.slice(sent))
    sent = due.length
    const gathered = pieces.join("")
    if (piece === undefined) return (yield* settle(tx, where)) ?? chunk(gathered, true)
    if (gathered.length < worth) {
      yield { _tag: "Proceed", where }
      continue
    }
    const [first = "", ...rest] = gather(pieces)
    const writes = [`BDAT ${gathered.length}\r\n${first}`, ...rest]
    pieces = []
    tx.steps.push({ verb: "BDAT", line: "" })
    tx.said++
    yield { _tag: "Write", where, writes, owes: { verb: "BDAT", deadline: "command" } }
    const end = yield* settle(tx, where)
    if (end !== undefined) return end
  }
}

/** Looks at the replies to chunks: those that are there, and those that have to be waited for. */
function* settle(tx: Transaction, where: Where): Asking<End | undefined> {
  for (let { reply } = yield { _tag: "Take" }; reply !== undefined; ({ reply } = yield { _tag: "Take" })) {
    const wrong = tx.note(reply)
    if (wrong !== undefined) return { ending: wrong, usable: false }
  }
  if (!tx.isGrouped && tx.answered < tx.said) {
    yield { _tag: "Pause", where }
    const wrong = yield* tx.read()
    if (wrong !== undefined) return { ending: wrong, usable: false }
    yield { _tag: "Proceed", where }
  }
  if (tx.laterRefusal === undefined) return undefined
  yield { _tag: "Cease", where }
  return { ending: tx.laterRefusal, usable: true }
}

/** Who has the message in the end. */
const conclude = (tx: Transaction, lost: Ending | undefined): End => {
  const { finals, state, via } = tx
  const usable = lost === undefined &&
    finals.every((reply) => (isPositive(reply) || isPolite(reply)) && !(via === "BDAT" && isMisread(reply)))
  const before = lost === undefined || tx.told(lost) !== lost ? tx.verdict : undefined
  // What was taken for nobody may have ended nothing.
  if (!tx.hasLeft && finals.some(isPositive)) state.needsReset = before !== undefined
  if (before !== undefined) return { ending: before, usable }
  if (lost !== undefined && finals.length === 0) return { ending: lost, usable: false }
  return decided(tx, lost, usable)
}

const decided = ({ finals, heard, state, via }: Transaction, lost: Ending | undefined, usable: boolean): End => {
  const final: Where = { command: via, stage: "FINAL" }
  let next = 0
  const refused: Array<Refused> = []
  const accepted: Array<string> = []
  for (const { recipient, reply: before } of heard) {
    const after = isPositive(before) ? finals[state.isLmtp ? next++ : 0] : undefined
    const decisive = isPositive(before) ? after : before
    if (decisive === undefined) {
      const { code, failed, reply } = lost as Failed
      refused.push({ recipient, failed, reply, code, inDoubt: true })
    } else if (isPositive(decisive)) accepted.push(recipient)
    else refused.push(entry(recipient, decisive, isPositive(before) ? final : rcpt(recipient)))
  }
  if (accepted.length > 0) {
    const hasTold = lost !== undefined || finals.some(({ code }) => code === 421)
    return { ending: { ok: true, reply: finals.at(-1)!.id, accepted, refused }, usable, hasTold }
  }
  const [only] = finals
  if (lost === undefined && finals.length === 1 && !isPolite(only!)) return { ending: refusal(only!, final), usable }
  const more = { ...speaker(refused), refused, inDoubt: refused.some(({ inDoubt }) => inDoubt) }
  return { ending: failure("EMESSAGE", final, more), usable }
}
