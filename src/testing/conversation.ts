/**
 * One connection as lines, octets and replies: buffers what comes, gathers what goes out, and lets the faults strike.
 *
 * What it is: all that knows of faults. What it is not: it knows nothing of what a command means (`session.ts`).
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Answer } from "./answer.ts"
import type { Fault, PlacedFault, Step } from "./faults.ts"
import { concat, type Connection } from "./records.ts"
import type { Resolved } from "./script.ts"
import type { Transport } from "./transport.ts"

/** How a session ends early. */
export type Over = "over"

/** Ends the session. */
export const over: Effect.Effect<never, Over> = Effect.fail("over")

/** A command line. */
interface Line {
  readonly text: string
  readonly isTooLong: boolean
}

/** What is to be sent at a step, and what goes wrong with it. */
export interface Plan {
  readonly step: Step | undefined
  /** undefined: nothing is due. */
  readonly answer: Answer | undefined
  readonly faults: ReadonlyArray<Fault>
  /** The reply went out before its command came. */
  readonly isSent: boolean
}

/** What a conversation has to ask of its session, for early replies. */
export interface Peer {
  /** The reply that a step gets when all is well. */
  readonly usual: (step: Step) => Answer
  /** Whether `step` comes next, now that `behind` was answered. */
  readonly follows: (step: Step, behind: Step) => boolean
}

const LF = 0x0a
const CR = 0x0d
const empty = new Uint8Array(0)
const utf8 = new TextEncoder()
const text = new TextDecoder("utf-8", { ignoreBOM: true })

/** A reply as octets; nothing is checked. */
export const encode = (answer: Answer): Uint8Array =>
  utf8.encode(
    answer.lines.map((line, i) => `${answer.code}${i < answer.lines.length - 1 ? "-" : " "}${line}\r\n`).join("")
  )

const find = <Tag extends Fault["_tag"]>(
  faults: ReadonlyArray<Fault>,
  ...tags: ReadonlyArray<Tag>
): Extract<Fault, { readonly _tag: Tag }> | undefined =>
  faults.find((fault): fault is Extract<Fault, { readonly _tag: Tag }> => tags.some((tag) => tag === fault._tag))

/** One connection as lines, octets and replies. */
export class Conversation {
  readonly transport: Transport
  readonly connection: Connection
  private readonly limit: number
  private readonly faults: ReadonlyArray<PlacedFault>
  private readonly peer: Peer
  private readonly counts = new Map<Step, number>()
  private readonly early = new Set<PlacedFault>()
  private out: Array<Uint8Array> = []
  private buffer: Uint8Array = empty
  private at = 0
  private cut: { readonly allowed: number; readonly how: "Drop" | "Reset" } | undefined
  /** The octet of the cut has come. */
  private cutDue: "Drop" | "Reset" | undefined

  constructor(transport: Transport, connection: Connection, script: Resolved, peer: Peer) {
    this.transport = transport
    this.connection = connection
    this.limit = script.commandLimit
    this.faults = script.faults.filter((placed) => (placed.connection ?? connection.id) === connection.id)
    this.peer = peer
  }

  /** Octets that came and were not read. */
  get buffered(): number {
    return this.buffer.length - this.at
  }

  private get ahead(): string {
    return text.decode(this.buffer.subarray(this.at, this.at + 4)).toUpperCase()
  }

  /** Drops what is buffered. */
  discard(): number {
    const dropped = this.buffered
    this.unread(empty)
    return dropped
  }

  /** Puts back octets; only when nothing is buffered. */
  unread(octets: Uint8Array): void {
    this.buffer = octets
    this.at = 0
  }

  private cutAfter(octets: number, how: "Drop" | "Reset"): void {
    this.cut = { allowed: this.connection.bytesReceived - this.buffered + octets - 1, how }
    this.trim()
  }

  /** The octet at which the connection is cut, and all after it, never come. */
  private trim(): void {
    if (this.cut === undefined) return
    const excess = this.connection.bytesReceived - this.cut.allowed
    if (excess <= 0) return
    this.cutDue = this.cut.how
    this.unread(this.buffer.subarray(this.at, Math.max(this.at, this.buffer.length - excess)))
  }

  private readonly pull: Effect.Effect<void, Over> = Effect.gen({ self: this }, function*() {
    yield* this.flush
    if (this.cutDue !== undefined) return yield* this.stop(this.cutDue)
    const octets = yield* this.take
    if (octets === undefined) return yield* over
    this.unread(this.buffered === 0 ? octets : concat([this.buffer.subarray(this.at), octets]))
    this.trim()
  })

  private readonly take: Effect.Effect<Uint8Array | undefined> = Effect.suspend(() =>
    Effect.tap(this.transport.read, (octets) => {
      if (octets !== undefined) this.connection.took(octets)
      return Effect.void
    })
  )

  /** The next line that ends in CRLF. What has been gathered goes out before it waits. */
  readonly line: Effect.Effect<Line, Over> = Effect.gen({ self: this }, function*() {
    let isTooLong = false
    let from = this.at
    while (true) {
      const lf = this.buffer.indexOf(LF, from)
      if (lf > this.at && this.buffer[lf - 1] === CR) {
        const line = this.buffer.subarray(this.at, lf - 1)
        this.at = lf + 1
        return isTooLong || line.length > this.limit
          ? { text: "", isTooLong: true }
          : { text: text.decode(line), isTooLong }
      }
      if (lf >= 0) {
        from = lf + 1
        continue
      }
      if (this.buffered > this.limit + 1) {
        isTooLong = true
        this.unread(this.buffer.subarray(-1))
      }
      from = this.buffered
      yield* this.pull
    }
  })

  /** The next octets, at least one. */
  readonly chunk: Effect.Effect<Uint8Array, Over> = Effect.gen({ self: this }, function*() {
    while (this.buffered === 0) yield* this.pull
    const octets = this.at === 0 ? this.buffer : this.buffer.subarray(this.at)
    this.unread(empty)
    return octets
  })

  append(octets: Uint8Array): void {
    if (octets.length === 0) return
    this.connection.sent(octets)
    this.out.push(octets)
  }

  /** Sends what has been gathered, in one write. */
  readonly flush: Effect.Effect<void> = Effect.suspend(() => {
    if (this.out.length === 0) return Effect.void
    const octets = concat(this.out)
    this.out = []
    return this.transport.write(octets)
  })

  /** Waits; ends the session when the client goes away meanwhile. */
  readonly sleep = (duration: Duration.Input): Effect.Effect<void, Over> =>
    Effect.andThen(
      this.flush,
      Effect.raceFirst(Effect.sleep(duration), Effect.andThen(this.transport.closed, over))
    )

  /** Comes to one or more steps: the faults that strike now, and whether the reply is out already. */
  begin(...steps: ReadonlyArray<Step>): { readonly faults: ReadonlyArray<Fault>; readonly isSent: boolean } {
    const faults: Array<Fault> = []
    let isSent = false
    for (const step of steps) {
      const count = (this.counts.get(step) ?? 0) + 1
      this.counts.set(step, count)
      for (const placed of this.faults) {
        if (placed.step !== step || (placed.occurrence !== count && placed.occurrence !== "every")) continue
        isSent ||= this.early.delete(placed)
        faults.push(placed.fault)
        this.connection.line("event", `fault ${placed.fault._tag} at ${step}`)
      }
    }
    return { faults, isSent }
  }

  /** Plans the reply to a step; a fault may put another in its place. */
  plan<A extends Answer | undefined>(
    steps: ReadonlyArray<Step>,
    usual: () => A
  ): Plan & { readonly answer: A | Answer } {
    const { faults, isSent } = this.begin(...steps)
    const byDefault = usual()
    return { step: steps[0], answer: find(faults, "Answer")?.answer ?? byDefault, faults, isSent }
  }

  /** Sends what was planned, as the faults would have it. */
  readonly emit = Effect.fnUntraced(function*(this: Conversation, plan: Plan): Effect.fn.Return<void, Over> {
    const { answer, faults } = plan
    for (const fault of faults) {
      if (fault._tag === "Delay") yield* this.sleep(fault.duration)
      if (fault._tag === "CutAfter") this.cutAfter(fault.octets + (plan.step === "body" ? -1 : 0), fault.how)
    }
    const stop = find(faults, "Silence", "Stall", "Drop", "Reset", "TlsFailure")
    if (stop !== undefined) return yield* this.stop(stop._tag)
    const garbage = find(faults, "Garbage")
    if (!plan.isSent) {
      const octets = garbage?.octets ?? (answer === undefined ? empty : encode(answer))
      const trickle = find(faults, "ByteAtATime")
      if (trickle === undefined) this.append(octets)
      else yield* this.trickle(octets, trickle.interval)
    }
    this.append(find(faults, "Surplus")?.octets ?? empty)
    if (plan.step !== undefined) this.append(this.earlyBehind(plan.step))
    const plaintext = find(faults, "PlaintextAfterStartTls")
    if (plaintext !== undefined) {
      if (!plaintext.sameSegment) yield* this.flush
      this.append(plaintext.octets)
    }
    if (answer?.code === 421 && garbage === undefined) return yield* this.stop("Drop")
  }.bind(this))

  private readonly trickle = Effect.fnUntraced(
    function*(this: Conversation, octets: Uint8Array, interval: Duration.Input) {
      yield* this.flush
      this.connection.sent(octets)
      const hasPause = Duration.toMillis(Duration.fromInputUnsafe(interval)) > 0
      for (let i = 0; i < octets.length; i++) {
        if (i > 0 && hasPause) yield* this.sleep(interval)
        yield* this.transport.write(octets.subarray(i, i + 1))
      }
    }.bind(this)
  )

  /** The replies that come early behind this step. */
  earlyBehind(behind: Step): Uint8Array {
    const replies: Array<Uint8Array> = []
    for (const placed of this.faults) {
      const { fault, step } = placed
      if (fault._tag !== "EarlyReply" || this.early.has(placed)) continue
      const next = (this.counts.get(step) ?? 0) + 1
      if (placed.occurrence !== next && placed.occurrence !== "every") continue
      if (fault.behind === undefined ? !this.peer.follows(step, behind) : fault.behind !== behind) continue
      if ((step === "data" || step === "bdat") && this.ahead === "RCPT") continue
      if (step !== "tls") this.early.add(placed)
      replies.push(encode(this.replacement(step, next) ?? this.peer.usual(step)))
    }
    return concat(replies)
  }

  private replacement(step: Step, occurrence: number): Answer | undefined {
    const here = this.faults.filter((placed) =>
      placed.step === step && (placed.occurrence === occurrence || placed.occurrence === "every")
    )
    return find(here.map((placed) => placed.fault), "Answer")?.answer
  }

  /** Ends the dialogue in one of the ways of a fault; what was gathered goes out first. */
  readonly stop = Effect.fnUntraced(
    function*(
      this: Conversation,
      how: "Silence" | "Stall" | "Drop" | "Reset" | "TlsFailure"
    ): Effect.fn.Return<never, Over> {
      yield* this.flush
      switch (how) {
        case "Silence":
          while ((yield* this.take) !== undefined) this.unread(empty)
          break
        case "Stall":
          yield* this.transport.closed
          break
        case "Reset":
          yield* this.transport.reset
          break
        case "Drop":
        case "TlsFailure":
          yield* this.transport.end
      }
      return yield* over
    }.bind(this)
  )
}
