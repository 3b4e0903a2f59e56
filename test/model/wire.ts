/**
 * What a connection is, seen from outside: one call at a time, replies in order, deadlines, and an end that is for good.
 * Every octet that the client may write, and how every call ends, follows from the events.
 */
import type { Answer, Ask, Call, End, Ending, Leaver, Lost, Owed, Reply, Where } from "./client.ts"
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
  /** What is left of the writes that were asked for. */
  writes: ReadonlyArray<string>
  /** Interrupted after the terminator: until when it waits, and what it knows. */
  lingerUntil: number
  leaver: Leaver | undefined
}

const linger = 500

const isTimed = (job: Job): boolean => !job.isExpired && !job.isInterrupted

export class Wire {
  now = 0
  /** All that the client has to have written, from the last dial on. */
  written = ""
  failure: Failure | undefined
  dials = 0
  /** The questions that the server has not answered, the oldest first. */
  owed: Array<Owed> = []
  isPartial = false
  inBody = false
  current: Running | undefined
  readonly queue: Array<Job> = []
  isClosed = false
  #arrived: Array<Reply> = []
  #isHeld = false
  #isBodyDue = false
  mustDrain = false
  /** What the next writes meet. */
  hasRoom = true
  #replyDue = Infinity
  #dataDue = Infinity
  #lastOctet = 0
  #lastReply = -Infinity
  /** The command that was said last, or whose reply is waited for. */
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

  /** Who waits for replies has handed his message over. */
  get isHandedOver(): boolean {
    const ask = this.current?.ask
    return ask?._tag === "Reply" && ask.leaver !== undefined
  }

  /** The next moment at which something happens by itself. */
  get nextDue(): number {
    const own = this.isAlive ? this.#ownDue : Infinity
    const totals = [...this.queue, ...(this.current === undefined ? [] : [this.current.job])]
      .filter(isTimed)
      .map((job) => job.totalDue)
    return Math.min(own, this.current?.lingerUntil ?? Infinity, ...totals)
  }

  get #ownDue(): number {
    return Math.min(this.#replyDue, this.#dataDue, this.#lastOctet + this.#deadlines.idle)
  }

  /** The server has answered within the last five seconds. */
  readonly isFresh = (): boolean => this.now - this.#lastReply <= 5000

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
        this.current = { job, call, ask: first.value, writes: [], lingerUntil: Infinity, leaver: undefined }
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

  #leave(job: Job, given: End): void {
    const { leaver } = this.current!
    const end: End = leaver === undefined
      ? given
      : { ending: { interrupted: true, outcome: leaver.known() }, usable: false }
    this.current = undefined
    this.waitsFor = undefined
    this.#settle(job, end)
    this.#next()
  }

  /** Whatever is owed or open when a call ends leaves no usable connection; who told of a failure has told it for all. */
  #settle(job: Job, { ending, hasTold = !("ok" in ending), usable }: End): void {
    const isEven = this.owed.length === 0 && this.#arrived.length === 0 && !this.inBody && !this.#isHeld
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
    const command = job.id === 0 ? "CONN" : job.hasBegun ? this.#step : "API"
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
        return this.#owe([{ verb: "Greeting", deadline: "greeting" }])
      case "Upgrade":
        return this.#upgrade()
      case "Command":
        return this.#command(ask)
      case "GiveUp":
        this.#fail({ _tag: "Released" })
        return this.#resume({})
      case "Say":
        return this.#say(ask)
      case "Take": {
        const reply = this.#arrived.shift()
        return this.#resume(reply === undefined ? {} : { reply })
      }
      case "Pull":
        this.waitsFor = "source"
        return this.#checkBody()
      case "Write":
        this.current!.writes = ask.writes
        if (ask.owes !== undefined) this.#owe([ask.owes])
        return this.#writeOn(ask.where)
      case "Terminate":
        return this.#terminate(ask)
      case "Reply":
        return this.#take()
      default:
        return this.#turn(ask)
    }
  }

  /** A body begins, goes on, waits for replies alone, or is over. */
  #turn({ _tag, where }: Extract<Ask, { _tag: "Begin" | "Cease" | "Pause" | "Proceed" }>): void {
    if (_tag === "Begin") this.#step = where.command
    this.inBody = _tag !== "Cease"
    this.#dataDue = _tag === "Begin" || _tag === "Proceed" ? this.now + this.#deadlines.data : Infinity
    this.#resume({})
  }

  #dial(): void {
    this.dials++
    this.written = ""
    this.failure = undefined
    this.owed = []
    this.isPartial =
      this.inBody =
      this.#isHeld =
      this.#isBodyDue =
      this.mustDrain =
        false
    this.hasRoom = true
    this.#arrived = []
    this.#replyDue = this.#dataDue = Infinity
    this.#lastOctet = this.now
    this.#resume({})
  }

  #isQuiet(): boolean {
    if (this.owed.length === 0 && this.isPartial) this.#fail({ _tag: "Grammar" })
    return this.isAlive
  }

  #write(octets: string): void {
    if (octets === "") return
    this.#lastOctet = this.now
    this.mustDrain = !this.hasRoom
    this.written += octets
  }

  #owe(owes: ReadonlyArray<Owed>): void {
    if (this.owed.length === 0) this.#await(owes[0])
    this.owed.push(...owes)
  }

  /** The server is about to answer this. */
  #await(owed: Owed | undefined): void {
    this.#replyDue = owed === undefined ? Infinity : this.now + this.#deadlines[owed.deadline]
  }

  #command({ isOptional = false, line, where }: Extract<Ask, { _tag: "Command" }>): void {
    if (!this.#isQuiet()) {
      return isOptional ? this.#resume({}) : this.#abandon({ ...where, attempted: where.attempted ?? false })
    }
    this.#step = where.command
    this.#owe([{ verb: line.replace(/ .*/, ""), deadline: line === "QUIT" ? "quit" : "command" }])
    this.#write(`${line}\r\n`)
    this.#take()
  }

  #say({ octets, owes }: Extract<Ask, { _tag: "Say" }>): void {
    if (!this.#isQuiet()) return this.#resume({ failed: (where) => this.#failed(where) })
    this.#owe(owes)
    this.#write(octets)
    this.#resume({})
  }

  #upgrade(): void {
    const surplus = this.isPartial || this.failure?._tag === "Unsolicited" || this.failure?._tag === "Grammar"
    if (surplus || !this.isAlive) {
      this.#fail({ _tag: "Released" })
      return this.#resume({ upgrade: surplus ? "plaintext" : "failed" })
    }
    this.isUpgrading = true
    this.#replyDue = this.now + this.#deadlines.tls
  }

  /** One write after the other, each when there is room. */
  #writeOn(where: Where): void {
    this.waitsFor = undefined
    const current = this.current!
    for (let [next, ...rest] = current.writes; next !== undefined; [next, ...rest] = rest) {
      if (!this.isAlive) return this.#abandon(where)
      current.writes = rest
      this.#write(next)
      // A chunk is answered after its last octet.
      if (this.owed.length > 0) this.#await(this.owed[0])
      this.#dataDue = this.now + this.#deadlines.data
      if (!this.mustDrain) continue
      this.waitsFor = "drain"
      return
    }
    this.#resume({})
  }

  #terminate({ octets, owes, where }: Extract<Ask, { _tag: "Terminate" }>): void {
    if (!this.#isQuiet()) return this.#abandon(where)
    this.inBody = false
    this.waitsFor = undefined
    this.#dataDue = Infinity
    this.#owe(owes)
    this.#write(octets)
    this.#resume({})
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
        return { ...ending, inDoubt: where.inDoubt ?? where.stage === "FINAL" }
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
    if (this.owed.shift() === undefined) {
      return this.#fail({ _tag: this.inBody || this.#isBodyDue ? "InBody" : "Unsolicited", reply })
    }
    this.#await(this.owed[0])
    this.#lastReply = this.now
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
    switch (ask._tag) {
      case "Command":
      case "Greeting":
        return this.#takeOne(ask)
      case "Reply": {
        const reply = this.#arrived.shift()
        if (reply !== undefined) return this.#resume({ reply })
        if (!this.isAlive) return this.#resume({ failed: (where) => this.#failed(where) })
        this.#step = ask.where.command
        return
      }
      case "Pull":
      case "Write":
        return this.#checkBody()
    }
  }

  #takeOne(ask: Extract<Ask, { _tag: "Command" | "Greeting" }>): void {
    const reply = this.#arrived.shift()
    if (reply !== undefined) return this.#resume({ reply })
    const where: Where = ask._tag === "Command" ? ask.where : { command: "CONN", stage: "CONN" }
    if (this.isAlive) return
    if (ask._tag === "Command" && ask.isOptional === true) return this.#resume({})
    this.#abandon(where)
  }

  #checkBody(): void {
    const { ask } = this.current!
    if (!this.isAlive && (ask._tag === "Pull" || ask._tag === "Write")) this.#abandon(ask.where)
  }

  end(how: "Closed" | "Errno"): void {
    if (this.isUpgrading) return this.upgraded(false)
    this.#fail({ _tag: how })
    this.#take()
  }

  upgraded(isGood: boolean): void {
    this.isUpgrading = false
    this.#replyDue = Infinity
    if (!isGood) this.#fail({ _tag: "Released" })
    this.#resume({ upgrade: isGood ? "done" : "failed" })
  }

  drain(): void {
    this.hasRoom = true
    this.mustDrain = false
    if (!this.isAlive) return
    this.#lastOctet = this.now
    if (this.inBody) this.#dataDue = this.now + this.#deadlines.data
    if (this.waitsFor !== "drain") return
    const { ask } = this.current!
    if (ask._tag === "Write") this.#writeOn(ask.where)
  }

  /** The message's own stream gives a chunk; undefined ends it. */
  feed(piece: string | undefined): void {
    this.waitsFor = undefined
    this.#resume(piece === undefined ? {} : { piece })
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
    if (this.isAlive && this.#ownDue <= this.now) {
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
    if (current?.ask._tag === "Reply" && current.ask.leaver !== undefined) {
      if (current.lingerUntil < Infinity) return
      current.lingerUntil = this.now + linger
      current.leaver = current.ask.leaver
      current.leaver.leave()
      return
    }
    // What a call has ended in already is what it tells; under a deadline of its own, not to whoever interrupts it.
    const isAnswered = job.isExpired || job.totalDue === Infinity
    if (current?.ask._tag === "Command" && current.ask.isOptional === true && isAnswered) {
      this.#fail({ _tag: "Released" })
      return this.#resume({})
    }
    this.isUpgrading = false
    this.#leave(job, { ending: { interrupted: true }, usable: false })
  }

  /** Who was interrupted after the terminator knows now what can be known. */
  #endLinger(): void {
    this.#leave(this.current!.job, { ending: { interrupted: true }, usable: false })
  }

  /** The scope closes: QUIT when nobody is in the middle of something. */
  close(quit: Job): void {
    this.isClosed = true
    if (this.current === undefined && this.isAlive) return this.submit(quit)
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
