/**
 * What a connection is, seen from outside: one call at a time, replies in order, deadlines, and an end that is for good.
 * Every octet that the client may write, and how every call ends, follows from the events.
 */
import { slices } from "../../src/internal/message.ts"
import { fromLatin1 } from "../fuzz/random.ts"
import { stuffed, stuffedSoFar } from "./body.ts"
import type { Answer, Ask, Call, End, Ending, Lost, Message, Reply, Where } from "./client.ts"
import { failure, refusal } from "./client.ts"

export type Deadline = "greeting" | "tls" | "command" | "data" | "final" | "idle" | "quit"

export type Deadlines = { readonly [K in Deadline]: number } & { readonly total: number }

/** Why a connection is over. */
type Failure =
  | { readonly _tag: "Deadline" | "Errno" | "Closed" | "Grammar" | "Quit" | "Released" }
  | { readonly _tag: "Unsolicited" | "InBody"; readonly reply: Reply }

export interface Job {
  readonly id: number
  readonly name: string
  readonly start: () => Call
  /** Over which the whole call is interrupted. */
  readonly totalDue: number
  ending: Ending | undefined
  readonly isQuit: boolean
  hasBegun: boolean
  /** By the deadline over the whole call. */
  isExpired: boolean
  /** By its caller; the deadline over the whole call is off then. */
  isInterrupted: boolean
}

interface Running {
  readonly job: Job
  readonly call: Call
  ask: Ask
  /** Final replies so far. */
  replies: Array<Reply>
  /** Interrupted after the terminator: until when it waits. */
  lingerUntil: number
}

const linger = 500

const isTimed = (job: Job): boolean => !job.isExpired && !job.isInterrupted

export class Wire {
  now = 0
  /** All that the client has to have written, from the last dial on. */
  written = ""
  failure: Failure | undefined
  dials = 0
  /** Replies that the server owes; what a reply says it answers. */
  owed = 0
  isPartial = false
  inBody = false
  /** The terminator was handed over, and not all of its replies came. */
  current: Running | undefined
  readonly queue: Array<Job> = []
  isClosed = false
  #arrived: Array<Reply> = []
  #isHeld = false
  #isBodyDue = false
  mustDrain = false
  /** What the next writes meet. */
  hasRoom = true
  #due = Infinity
  #lastOctet = 0
  #bodyAt = 0
  /** The command that was said last. */
  #step = ""
  /** The next call begins only when the one before has ended. */
  isUpgrading = false
  /** Waits for the source of the message, or for the socket. */
  waitsFor: "source" | "drain" | undefined
  readonly #deadlines: Deadlines

  constructor(deadlines: Deadlines) {
    this.#deadlines = deadlines
  }

  get isAlive(): boolean {
    return this.failure === undefined
  }

  /** The next moment at which something happens by itself. */
  get nextDue(): number {
    const own = this.isAlive ? Math.min(this.#due, this.#lastOctet + this.#deadlines.idle) : Infinity
    const totals = [...this.queue, ...(this.current === undefined ? [] : [this.current.job])]
      .filter(isTimed)
      .map((job) => job.totalDue)
    return Math.min(own, this.current?.lingerUntil ?? Infinity, ...totals)
  }

  // What the client does.

  submit(job: Job): void {
    this.queue.push(job)
    this.#next()
  }

  #next(): void {
    while (this.current === undefined) {
      const job = this.queue.shift()
      if (job === undefined) return
      job.hasBegun = true
      const call = job.start()
      const first = call.next()
      if (first.done === true) this.#settle(job, first.value)
      else {
        this.current = { job, call, ask: first.value, replies: [], lingerUntil: Infinity }
        this.#begin()
      }
    }
  }

  /** Goes on in the call with an answer. */
  #resume(answer: Answer): void {
    const { call, job } = this.current!
    const step = call.next(answer)
    if (step.done === true) return this.#leave(job, step.value)
    this.current!.ask = step.value
    this.#begin()
  }

  #leave(job: Job, end: End): void {
    this.current = undefined
    this.waitsFor = undefined
    this.#settle(job, end)
    this.#next()
  }

  /** Whatever is owed or open when a call ends leaves no usable connection; who told of a failure has told it for all. */
  #settle(job: Job, { ending, hasTold = !("ok" in ending), usable }: End): void {
    const isEven = this.owed === 0 && this.#arrived.length === 0 && !this.inBody && !this.#isHeld
    if (!usable || !isEven) this.#fail({ _tag: "Released" })
    if (job.isQuit) {
      this.failure = { _tag: "Quit" }
      job.ending = "interrupted" in ending ? ending : { ok: true }
      return
    }
    if (hasTold && this.failure !== undefined && this.failure._tag !== "Quit") this.failure = { _tag: "Released" }
    job.ending = job.isExpired && "interrupted" in ending ? this.#expired(job, ending.outcome) : ending
  }

  #expired(job: Job, outcome: { readonly inDoubt: boolean; readonly reply: string | undefined } | undefined): Ending {
    const { inDoubt = false, reply } = outcome ?? {}
    const attempted = job.hasBegun || outcome !== undefined
    const step = job.id === 0 ? "CONN" : job.hasBegun ? this.#step : "API"
    const command = outcome === undefined ? step : "DATA"
    return failure("ETIMEDOUT", { command, stage: "OTHER", attempted }, {
      inDoubt,
      reply,
      handedOver: outcome !== undefined
    })
  }

  /** Starts what the call asks for. */
  #begin(): void {
    const { ask } = this.current!
    switch (ask._tag) {
      case "Dial":
        return this.#dial()
      case "Greeting":
        this.owed = 1
        this.#arm("greeting")
        return
      case "Upgrade":
        return this.#upgrade()
      case "Command":
        return this.#command(ask)
      case "GiveUp":
        this.#fail({ _tag: "Released" })
        return this.#resume({})
      case "Body":
        this.inBody = true
        this.#arm("data")
        this.#bodyAt = this.written.length
        if (ask.message.isWhole) return this.#whole(ask.message)
        this.waitsFor = "source"
        return this.#checkBody()
      case "Final":
        return this.#terminate(ask.message, ask.count)
    }
  }

  #dial(): void {
    this.dials++
    this.written = ""
    this.failure = undefined
    this.owed = 0
    this.isPartial =
      this.inBody =
      this.#isHeld =
      this.#isBodyDue =
      this.mustDrain =
        false
    this.hasRoom = true
    this.#arrived = []
    this.#due = Infinity
    this.#lastOctet = this.now
    this.#resume({})
  }

  #isQuiet(): boolean {
    if (this.owed === 0 && this.isPartial) this.#fail({ _tag: "Grammar" })
    return this.isAlive
  }

  #write(octets: string): void {
    if (octets === "") return
    this.#lastOctet = this.now
    this.mustDrain = !this.hasRoom
    this.written += octets
  }

  #arm(deadline: Deadline): void {
    this.#due = this.now + this.#deadlines[deadline]
  }

  #command({ isOptional = false, line, where }: Extract<Ask, { _tag: "Command" }>): void {
    if (!this.#isQuiet()) {
      return isOptional ? this.#resume({}) : this.#abandon({ ...where, attempted: where.attempted ?? false })
    }
    this.#step = where.command
    this.owed = 1
    this.#write(`${line}\r\n`)
    this.#arm(line === "QUIT" ? "quit" : "command")
    this.#take()
  }

  #upgrade(): void {
    const surplus = this.isPartial || this.failure?._tag === "Unsolicited" || this.failure?._tag === "Grammar"
    if (surplus || !this.isAlive) {
      this.#fail({ _tag: "Released" })
      return this.#resume({ upgrade: surplus ? "plaintext" : "failed" })
    }
    this.isUpgrading = true
    this.#due = this.now + this.#deadlines.tls
  }

  /** What goes before the last write of a message that is there as a whole. */
  #whole(message: Message): void {
    this.waitsFor = undefined
    const body = stuffed(message.text)
    const writes = slices(fromLatin1(body)).slice(0, -1)
    for (let end = 0; writes.length > 0;) {
      end += writes.shift()!.length
      if (end <= this.written.length - this.#bodyAt) continue
      if (!this.isAlive) return this.#checkBody()
      this.#write(body.slice(this.written.length - this.#bodyAt, end))
      this.#arm("data")
      if (!this.mustDrain) continue
      this.waitsFor = "drain"
      return
    }
    this.#resume({})
  }

  #terminate(message: Message, count: number): void {
    const where: Where = { command: "DATA", stage: "BODY" }
    if (!this.#isQuiet()) return this.#abandon(where)
    this.inBody = false
    this.waitsFor = undefined
    this.#write(stuffed(message.text).slice(this.written.length - this.#bodyAt))
    this.owed = count
    this.#arm("final")
    this.#take()
  }

  /** The call ends in why the connection is over. */
  #abandon(where: Where): void {
    const { job } = this.current!
    this.#leave(job, { ending: this.#failed(where), usable: false })
  }

  #failed(where: Where): Ending {
    const cause = this.failure ?? { _tag: "Released" }
    switch (cause._tag) {
      case "Deadline":
        return failure("ETIMEDOUT", where)
      case "Errno":
        return failure("ESOCKET", where)
      case "Grammar":
        return failure("EPROTOCOL", where)
      case "Quit":
        return failure("ECONNECTION", { ...where, command: "API", attempted: false })
      case "Unsolicited":
        return failure(cause.reply.code === 421 ? "ECONNECTION" : "EPROTOCOL", where, {
          // Inside a login it may echo a secret: its text is not told.
          reply: where.stage === "AUTH" ? "" : cause.reply.id,
          code: cause.reply.code
        })
      case "InBody": {
        const ending = refusal(cause.reply, where) as Extract<Ending, { failed: string }>
        return { ...ending, inDoubt: where.stage === "FINAL" }
      }
      default:
        return failure("ECONNECTION", where)
    }
  }

  /** For a call that looks whether the connection is alive before it says anything. */
  readonly failedNow = (): Lost | undefined => this.isAlive ? undefined : (where) => this.#failed(where)

  #fail(failed: Failure): void {
    this.failure ??= failed
  }

  // What the server and the network do.

  /** One segment: replies that it makes whole, and what is left of it. Gives how many of them count. */
  segment(replies: ReadonlyArray<Reply>, rest: "nothing" | "partial" | "malformed"): number {
    if (!this.isAlive) return 0
    this.#lastOctet = this.now
    const end = replies.findIndex((reply) => {
      this.#reply(reply)
      return !this.isAlive
    })
    this.isPartial = rest === "partial"
    if (rest === "malformed") this.#fail({ _tag: "Grammar" })
    this.#take()
    return end < 0 ? replies.length : end + 1
  }

  #reply(reply: Reply): void {
    if (this.owed === 0) {
      return this.#fail({ _tag: this.inBody || this.#isBodyDue ? "InBody" : "Unsolicited", reply })
    }
    this.owed--
    this.#due = Infinity
    this.#isHeld = Math.floor(reply.code / 100) === 3
    this.#isBodyDue = reply.code === 354
    this.#arrived.push(reply)
    if (reply.code === 421) this.#fail({ _tag: "Unsolicited", reply })
  }

  /** Gives the call what it waits for. */
  #take(): void {
    const { current } = this
    if (current === undefined) return
    const { ask } = current
    if (ask._tag === "Command" || ask._tag === "Greeting") {
      const reply = this.#arrived.shift()
      if (reply !== undefined) return this.#resume({ reply })
      const where: Where = ask._tag === "Command" ? ask.where : { command: "CONN", stage: "CONN" }
      if (this.isAlive) return
      if (ask._tag === "Command" && ask.isOptional === true) return this.#resume({})
      this.#abandon(where)
    } else if (ask._tag === "Final") this.#takeFinal(current, ask.count)
    else if (ask._tag === "Body") this.#checkBody()
  }

  #takeFinal(current: Running, count: number): void {
    while (current.replies.length < count && this.#arrived.length > 0) {
      current.replies.push(this.#arrived.shift()!)
      if (this.owed > 0) this.#arm("final")
    }
    const isWhole = current.replies.length === count
    if (!isWhole && this.isAlive) return
    if (current.lingerUntil < Infinity) return this.#endLinger()
    const { replies } = current
    this.#resume(isWhole ? { replies } : { replies, failed: (where) => this.#failed(where) })
  }

  #checkBody(): void {
    if (!this.isAlive) this.#abandon({ command: "DATA", stage: "BODY" })
  }

  end(how: "Closed" | "Errno"): void {
    if (this.isUpgrading) return this.upgraded(false)
    this.#fail({ _tag: how })
    this.#take()
  }

  upgraded(isGood: boolean): void {
    this.isUpgrading = false
    this.#due = Infinity
    if (!isGood) this.#fail({ _tag: "Released" })
    this.#resume({ upgrade: isGood ? "done" : "failed" })
  }

  drain(): void {
    this.hasRoom = true
    this.mustDrain = false
    if (!this.isAlive) return
    this.#lastOctet = this.now
    if (this.inBody) this.#arm("data")
    if (this.waitsFor !== "drain") return
    const ask = this.current!.ask
    if (ask._tag === "Body" && ask.message.isWhole) return this.#whole(ask.message)
    this.waitsFor = "source"
  }

  /** The message's own stream gives a chunk. */
  feed(chunk: string): void {
    const { ask } = this.current!
    if (ask._tag !== "Body") throw new Error("no body is open")
    ask.message.text += chunk
    this.#write(stuffedSoFar(ask.message.text).slice(this.written.length - this.#bodyAt))
    this.#arm("data")
    this.waitsFor = this.mustDrain ? "drain" : "source"
  }

  sourceEnds(): void {
    this.waitsFor = undefined
    this.#resume({})
  }

  sourceFails(): void {
    this.#leave(this.current!.job, { ending: failure("source", { command: "", stage: "BODY" }), usable: false })
  }

  // Time, and whoever calls.

  /** To the next moment at which something happens, or to this one. */
  advance(to: number): void {
    for (let due = this.nextDue; due <= to; due = this.nextDue) {
      this.now = due
      this.#expire()
    }
    this.now = to
  }

  #expire(): void {
    const { current } = this
    if (this.isAlive && Math.min(this.#due, this.#lastOctet + this.#deadlines.idle) <= this.now) {
      this.#fail({ _tag: "Deadline" })
      if (!this.isUpgrading) return this.#take()
      this.isUpgrading = false
      return this.#resume({ upgrade: "late" })
    }
    if (current !== undefined && current.lingerUntil <= this.now) return this.#endLinger()
    const job = [...this.queue, ...(current === undefined ? [] : [current.job])].find((one) =>
      one.totalDue <= this.now && isTimed(one)
    )
    if (job === undefined) return
    job.isExpired = true
    this.interrupt(job)
  }

  interrupt(job: Job): void {
    if (job.ending !== undefined) return
    const waiting = this.queue.indexOf(job)
    if (waiting >= 0) {
      this.queue.splice(waiting, 1)
      job.ending = job.isExpired ? this.#expired(job, undefined) : { interrupted: true }
      return
    }
    const { current } = this
    if (current?.ask._tag === "Final") {
      if (current.lingerUntil === Infinity) {
        current.lingerUntil = this.now + linger
        if (this.owed > 0) this.#arm("final")
      }
      return this.#take()
    }
    // What a call has ended in already is what it tells.
    if (current?.ask._tag === "Command" && current.ask.isOptional === true) {
      this.#fail({ _tag: "Released" })
      return this.#resume({})
    }
    this.isUpgrading = false
    this.#leave(job, { ending: { interrupted: true }, usable: false })
  }

  /** Who was interrupted after the terminator knows now what can be known. */
  #endLinger(): void {
    const { ask, job, replies } = this.current!
    const count = ask._tag === "Final" ? ask.count : 0
    const isKnown = replies.length === count && replies.every(({ code }) => Math.floor(code / 100) !== 3)
    const reply = replies.find(({ code }) => code < 300) ?? replies.at(-1)
    this.#leave(job, { ending: { interrupted: true, outcome: { inDoubt: !isKnown, reply: reply?.id } }, usable: false })
  }

  /** The scope closes: QUIT when nobody is in the middle of something. */
  close(quit: Job): void {
    this.isClosed = true
    if (this.current === undefined) return this.submit(quit)
    quit.ending = { ok: true }
    this.release()
  }

  /** The socket is freed, whatever is said on it. */
  release(): void {
    this.#fail({ _tag: "Released" })
    if (this.isUpgrading) return
    this.#take()
  }
}
