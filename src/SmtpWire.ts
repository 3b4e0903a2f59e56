/**
 * One socket as a dialogue of replies: writes batches, reads replies in order, upgrades to TLS, keeps the deadlines.
 *
 * What it is: the only place that knows which replies are owed. A reply that nobody is owed, octets that are not a
 * reply, a deadline, an end of the stream: each fails the wire for good, frees the socket, and is what every later call
 * ends in. What it is not: it does not judge replies; 4yz and 5yz are values here.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import { type Alarm, alarm } from "./internal/alarm.ts"
import { literalOf } from "./internal/mailbox.ts"
import type { Deadlines, Resolved } from "./internal/options.ts"
import { timed } from "./internal/telemetry/phases.ts"
import * as Transcript from "./internal/transcript.ts"
import { upgrade } from "./internal/upgrade.ts"
import { Waiters, type Witness } from "./internal/waiter.ts"
import { type Expired, Watchdog } from "./internal/watchdog.ts"
import * as SmtpCommand from "./SmtpCommand.ts"
import type * as SmtpConnector from "./SmtpConnector.ts"
import * as SmtpError from "./SmtpError.ts"
import * as SmtpReply from "./SmtpReply.ts"

/** Why a wire can no longer be used; `Refused` is a refusal that came in the middle of a body. */
type Failure = SmtpError.Failure

const ignore = () => {}

/** Where an effect on the wire stands, for the error it may end in. */
type Where = SmtpError.Where

/**
 * What a wire needs beside its socket.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly deadlines: Deadlines
  readonly transcript: Resolved["transcript"]
  /** The annotations of each line logged. */
  readonly annotations: Readonly<Record<string, unknown>>
}

/**
 * A group of commands (RFC 2920), and for each reply that it will be owed the deadline.
 *
 * @category models
 * @since 0.1.0
 */
export interface Group {
  readonly chunks: ReadonlyArray<Uint8Array>
  readonly owes: ReadonlyArray<SmtpError.TimeoutName>
}

/**
 * A wire: everything here is for one fiber at a time.
 *
 * @category models
 * @since 0.1.0
 */
export class SmtpWire implements SmtpConnector.Listener {
  readonly #duplex: SmtpConnector.Duplex
  readonly #watchdog: Watchdog
  readonly #transcript: Transcript.Transcript
  #decoder = SmtpReply.makeDecoder()
  #failure: Failure | undefined
  /** Replies owed by the server, each by its deadline, and those that came but were not taken yet. */
  readonly #owed: Array<SmtpError.TimeoutName> = []
  readonly #arrived: Array<SmtpReply.SmtpReply> = []
  #lastReply = -Infinity
  /** When octets came last. */
  #heardAt = -Infinity
  readonly #waiters = new Waiters()
  /** Who is told of what becomes of the wire. */
  witness: Witness | undefined
  #inBody = false
  /** The last reply was a 3yz: what the server reads next is not taken for a command. */
  #isHeld = false
  /** The last reply was a 354: a refusal behind it is one of the body, in the same segment or not. */
  #isBodyDue = false
  #mustDrain = false
  /** The command that was said last, or whose reply is waited for, as errors show it. */
  step = "CONN"

  constructor(duplex: SmtpConnector.Duplex, alarm: Alarm, options: Options) {
    this.#duplex = duplex
    this.#watchdog = new Watchdog(alarm, options.deadlines, this)
    this.#transcript = Transcript.make(options.transcript, options.annotations)
  }

  /** Why the wire can no longer be used. */
  get failure(): Failure | undefined {
    return this.#failure
  }
  /** Whether nothing is owed, by either side, and nothing is wrong: another command may be written. */
  get isReady(): boolean {
    const isEven = this.#owed.length === 0 && this.#arrived.length === 0
    return this.#failure === undefined && isEven && !this.#inBody && !this.#isHeld
  }

  onData(octets: Uint8Array): void {
    if (this.#failure !== undefined) return
    this.#heardAt = this.#watchdog.now()
    this.#watchdog.touch(this.#heardAt)
    const decoded = this.#decoder.push(octets, (reply) => this.#onReply(reply))
    if (Result.isFailure(decoded)) this.fail({ _tag: "Grammar", detail: decoded.failure.detail })
    this.#deliver()
  }

  #onReply(reply: SmtpReply.SmtpReply): void {
    if (this.#failure !== undefined) return
    if (this.#owed.shift() === undefined) {
      return this.fail({ _tag: this.#inBody || this.#isBodyDue ? "Refused" : "Unsolicited", reply })
    }
    // The server begins with a command of a group once it has answered the one before (RFC 2920).
    const next = this.#owed[0]
    if (next === undefined) this.#watchdog.disarmReply()
    else this.#watchdog.arm(next, undefined, this.#heardAt)
    this.#lastReply = this.#heardAt
    this.#isHeld = SmtpReply.severity(reply) === 3
    this.#isBodyDue = reply.code === 354
    this.#arrived.push(reply)
    // RFC 5321 §3.8: after 421 the server closes; nothing more can be asked of it.
    if (reply.code === 421) this.fail({ _tag: "Unsolicited", reply })
  }

  /**
   * Wakes who waits for a reply. That runs the waiting fiber at once, and it may write the next command: so all octets
   * at hand are decoded first, and a reply that came before its command is seen as what it is.
   */
  #deliver(): void {
    if (this.#arrived.length > 0) this.#waiters.wake("reply")
  }

  onDrain(): void {
    this.#watchdog.touch(this.#watchdog.now())
    this.#mustDrain = false
    // The wait on the source begins now, not when the octets before it were handed over.
    if (this.#inBody) this.#watchdog.arm("data")
    this.#waiters.wake("drain")
  }

  onEnd(ended: SmtpConnector.Ended): void {
    this.fail(ended)
  }

  /** A deadline has passed. */
  expire(expired: Expired): void {
    this.fail({ _tag: "Deadline", ...expired })
  }

  /**
   * Fails the wire for good: the first failure counts, the socket is freed, whoever waits is told. After quit, nobody
   * is told of another: the connection was given up.
   */
  fail(failure: Failure): void {
    const isFirst = this.#failure === undefined
    if (isFirst || failure._tag === "Quit") this.#failure = failure
    if (!isFirst) return
    const isOutOfOrder = failure._tag === "Unsolicited" && failure.reply.code !== 421
    if (isOutOfOrder || failure._tag === "Grammar") this.witness?.onViolation()
    this.#duplex.destroy()
    this.#deliver()
    this.#waiters.end((where) => this.error(where))
    this.#watchdog.stop()
  }

  /** What an effect ends in on a wire that failed. */
  error(where: Where): SmtpError.SmtpError {
    return SmtpError.classify(this.#failure ?? { _tag: "Released" }, where)
  }

  /** Out of step: replies that have come already may answer anything, so nobody is given them. */
  abandon(): void {
    this.fail({ _tag: "Released" })
    this.#arrived.length = 0
  }

  /** A call has told of the failure: to those after it the connection is closed, and no more is said of their mail. */
  retire(): void {
    if (this.#failure !== undefined && this.#failure._tag !== "Quit") this.#failure = { _tag: "Released" }
  }

  /** Puts a deadline in force, counted from now; it replaces the one before of its kind. */
  arm(timeout: SmtpError.TimeoutName, hint?: string): void {
    this.#watchdog.arm(timeout, hint)
  }

  /** No reply is owed, nor the end of a handshake. */
  disarm(): void {
    this.#watchdog.disarmReply()
  }

  /** The body waits for a reply: neither for its source, nor for the transport. */
  disarmData(): void {
    this.#watchdog.disarmData()
  }

  #write(chunks: ReadonlyArray<Uint8Array>, now = this.#watchdog.now()): void {
    if (chunks.every((chunk) => chunk.length === 0)) return
    this.#watchdog.touch(now)
    this.#mustDrain = !this.#duplex.write(chunks)
  }

  #owe(replies: number, timeout: SmtpError.TimeoutName, now: number): void {
    if (replies > 0 && this.#owed.length === 0) this.#watchdog.arm(timeout, undefined, now)
    for (let i = 0; i < replies; i++) this.#owed.push(timeout)
  }

  /** Whether the server can be asked. A reply that has begun before its command answers nothing: the wire fails. */
  isQuiet(): boolean {
    if (this.#owed.length === 0 && this.#decoder.isPartial()) {
      this.fail({ _tag: "Grammar", detail: "a reply began before its command" })
    }
    return this.#failure === undefined
  }

  /** Octets to the server, with the replies they will be owed; nothing is written once the wire has failed. */
  hand(chunks: ReadonlyArray<Uint8Array>, replies: number, timeout: SmtpError.TimeoutName): void {
    if (this.#failure !== undefined) return
    const now = this.#watchdog.now()
    this.#owe(replies, timeout, now)
    this.#write(chunks, now)
  }

  /** A group of commands in one write. */
  handGroup({ chunks, owes }: Group): void {
    if (this.#failure !== undefined) return
    const now = this.#watchdog.now()
    for (const timeout of owes) this.#owe(1, timeout, now)
    this.#write(chunks, now)
  }

  /** The next reply that has come and was not taken yet. */
  take(): SmtpReply.SmtpReply | undefined {
    return this.#arrived.shift()
  }

  /** The reply that is taken next. */
  peek(): SmtpReply.SmtpReply | undefined {
    return this.#arrived[0]
  }

  /** How many replies have still to come. */
  get owed(): number {
    return this.#owed.length
  }

  /** How many replies have come and were not taken yet. */
  get arrived(): number {
    return this.#arrived.length
  }

  /** Waits until there is a reply to take. Whoever interrupts it has to fail the wire, or to wait again. */
  arrival(where: Where): Effect.Effect<void, SmtpError.WireError> {
    return this.#waiters.wait("reply", where, () => this.#arrived.length > 0 ? Effect.void : this.#lost(where))
  }

  #lost(where: Where): Effect.Effect<never, SmtpError.WireError> | undefined {
    return this.#failure && Effect.fail(this.error(where) as SmtpError.WireError)
  }

  /** The next reply. Whoever interrupts it has to fail the wire, or to receive again. */
  receive(where: Where): Effect.Effect<SmtpReply.SmtpReply, SmtpError.WireError> {
    const received = this.#waiters.wait("reply", where, () => {
      const reply = this.take()
      return reply === undefined ? this.#lost(where) : Effect.succeed(reply)
    })
    return this.#transcript.isOn
      ? Effect.tap(received, (reply) => this.#transcript.server(reply, where.stage === "AUTH"))
      : received
  }

  /** What is said and answered, for whoever takes replies himself. */
  get transcript(): Transcript.Transcript {
    return this.#transcript
  }

  /**
   * One command and its reply, within the command deadline.
   *
   * Commands are built from values that were checked before; one that the encoder refuses is a defect here.
   */
  command(
    command: SmtpCommand.SmtpCommand,
    where: Where
  ): Effect.Effect<SmtpReply.SmtpReply, SmtpError.WireError> {
    return Effect.suspend(() => {
      const octets = SmtpCommand.encode(command)
      if (Result.isFailure(octets)) return Effect.die(octets.failure)
      return this.#failure === undefined && this.#transcript.isOn
        ? Effect.flatMap(this.#transcript.client(command), () => this.#say(command, octets.success, where))
        : this.#say(command, octets.success, where)
    })
  }

  #say(
    command: SmtpCommand.SmtpCommand,
    octets: Uint8Array,
    where: Where
  ): Effect.Effect<SmtpReply.SmtpReply, SmtpError.WireError> {
    if (!this.isQuiet()) {
      return Effect.fail(this.error({ ...where, attempted: where.attempted ?? false }) as SmtpError.WireError)
    }
    this.step = SmtpCommand.verb(command)
    this.hand([octets], 1, where.stage === "QUIT" ? "quit" : "command")
    return this.receive(where)
  }

  /** From here on a reply that is not owed is a refusal of the body. */
  beginBody(): void {
    this.#inBody = true
    this.#watchdog.arm("data")
  }

  /** Octets of the body, as the transcript tells them; waits until they are taken. */
  body(
    chunks: ReadonlyArray<Uint8Array>,
    where: Where,
    told = this.#transcript.body(chunks)
  ): Effect.Effect<void, SmtpError.SmtpError> {
    return Effect.suspend(() => {
      if (this.#failure !== undefined) return Effect.fail(this.error(where))
      this.#write(chunks)
      this.#watchdog.arm("data")
      const taken = this.#mustDrain ? this.#drained(where) : Effect.void
      return this.#transcript.isOn ? Effect.andThen(told, taken) : taken
    })
  }

  #drained(where: Where): Effect.Effect<void, SmtpError.SmtpError> {
    return this.#waiters.wait("drain", where, () => this.#lost(where) ?? (this.#mustDrain ? undefined : Effect.void))
  }

  /**
   * The last octets of a body, with the terminator: `replies` final replies are owed from now on. What follows goes in
   * the same write.
   */
  endBody(chunks: ReadonlyArray<Uint8Array>, replies: number, behind: Group = { chunks: [], owes: [] }): void {
    this.#inBody = false
    this.#watchdog.disarmData()
    this.#owe(replies, "final", this.#watchdog.now())
    this.handGroup({ chunks: behind.chunks.length === 0 ? chunks : [...chunks, ...behind.chunks], owes: behind.owes })
  }

  /** Whether what was written last has been taken by the transport. */
  get isDrained(): boolean {
    return !this.#mustDrain
  }
  /** Milliseconds of the clock that the deadlines keep to: now, and when the last reply came. */
  get now(): number {
    return this.#watchdog.now()
  }
  get lastReplyAt(): number {
    return this.#lastReply
  }

  /** The other end of the socket, as text for logs. */
  get peer(): string | undefined {
    return this.#duplex.remoteAddress
  }

  /** Tells of the failure of the wire, until it is told to stop. */
  onFailure(where: Where, told: (error: Effect.Effect<never, SmtpError.SmtpError>) => void): () => void {
    return this.#waiters.add({ kind: "failure", where, resume: told, wake: ignore })
  }

  /** Never succeeds; fails when the wire does. For racing against what the wire cannot see. */
  failed(where: Where): Effect.Effect<never, SmtpError.SmtpError> {
    return this.#waiters.wait("failure", where, () => this.#lost(where))
  }

  /** The greeting: the one reply that answers no command of ours. Reading starts here. */
  greeting(hint: string | undefined): Effect.Effect<SmtpReply.SmtpReply, SmtpError.WireError> {
    return Effect.suspend(() => {
      this.#owed.push("greeting")
      this.#watchdog.arm("greeting", hint)
      this.#duplex.listen(this)
      return this.receive({ stage: "GREETING" })
    })
  }

  /** Whether octets are held that answer nothing: after the reply to STARTTLS they are a violation. */
  get hasSurplus(): boolean {
    const failure = this.#failure?._tag
    return this.#decoder.isPartial() || failure === "Unsolicited" || failure === "Grammar"
  }

  /**
   * TLS on this wire. Octets that came after the reply to STARTTLS and before the handshake are a violation
   * (RFC 3207 §4.2 and the NO STARTTLS attacks): ETLS, and the wire is closed.
   */
  upgrade(
    tls: SmtpConnector.TlsUpgrade,
    command: string
  ): Effect.Effect<SmtpConnector.TlsInfo, SmtpError.ETLS | SmtpError.ETIMEDOUT> {
    return timed("tls", Effect.suspend(() => upgrade(this, this.#duplex.upgrade(tls), command)))
  }

  /** The address literal of the local socket (RFC 5321 §4.1.3), for a host that has no name. */
  get addressLiteral(): string {
    return literalOf(this.#duplex.localAddress ?? "127.0.0.1")
  }

  /** Whether dialling again may do what a lost handshake did not: it offered a session that the server cannot resume. */
  get failedToResume(): boolean {
    return this.#duplex.failedToResume === true
  }

  /** Says QUIT to a server that owes nothing, and does not wait for the answer. */
  leave(): void {
    if (!this.isReady) return
    const quit = SmtpCommand.encode({ _tag: "Quit" })
    if (Result.isSuccess(quit)) this.#write([quit.success])
    this.fail({ _tag: "Released" })
  }

  get isSecuredByMaker(): boolean {
    return this.#duplex.secured
  }

  /** The deadlines count from here on, until the wire fails. */
  watch(): void {
    this.#watchdog.start()
  }
}

/**
 * Puts a wire on a connected duplex, in the duplex's scope. One reply, the greeting, is owed from the start.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  duplex: SmtpConnector.Duplex,
  options: Options
): Effect.fn.Return<SmtpWire, never, Scope.Scope> {
  const wire = new SmtpWire(duplex, yield* alarm, options)
  yield* Scope.addFinalizerExit(yield* Scope.Scope, (exit) => {
    const free = Effect.sync(() => wire.fail({ _tag: "Released" }))
    return wire.witness === undefined ? free : Effect.andThen(wire.witness.onRelease(exit), free)
  })
  wire.watch()
  return wire
})
