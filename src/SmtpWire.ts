/**
 * One socket as a dialogue of replies: writes batches, reads replies in order, upgrades to TLS, keeps the deadlines.
 *
 * What it is: the only place that knows which replies are owed. A reply that nobody is owed, octets that are not a
 * reply, a deadline, an end of the stream: each fails the wire for good, frees the socket, and is what every later call
 * ends in. What it is not: it does not judge replies; 4yz and 5yz are values here.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import type { Deadlines } from "./internal/options.ts"
import * as Transcript from "./internal/transcript.ts"
import * as upgradeErrors from "./internal/upgradeErrors.ts"
import * as SmtpCommand from "./SmtpCommand.ts"
import type * as SmtpConnector from "./SmtpConnector.ts"
import * as SmtpError from "./SmtpError.ts"
import * as SmtpReply from "./SmtpReply.ts"

/** Why a wire can no longer be used; `Refused` is a refusal that came in the middle of a body. */
type Failure = SmtpError.Failure

/** Where an effect on the wire stands, for the error it may end in. */
type Where = SmtpError.Where

type Resume<A> = (effect: Effect.Effect<A, SmtpError.SmtpError>) => void

interface Waiter<A> {
  readonly resume: Resume<A>
  readonly where: Where
}

/**
 * What a wire needs beside its socket.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly deadlines: Deadlines
  readonly transcript: "off" | "commands" | "full"
  /** The annotations of each line logged. */
  readonly annotations: Readonly<Record<string, unknown>>
}

/**
 * A wire: everything here is for one fiber at a time.
 *
 * @category models
 * @since 0.1.0
 */
export class SmtpWire implements SmtpConnector.Listener {
  readonly #duplex: SmtpConnector.Duplex
  readonly #deadlines: Deadlines
  readonly #clock: Clock.Clock
  readonly #transcript: Transcript.Transcript
  #decoder = SmtpReply.makeDecoder()
  #failure: Failure | undefined
  /** Replies owed by the server, and those that came but were not asked for yet. */
  #owed = 0
  readonly #arrived: Array<SmtpReply.SmtpReply> = []
  #reader: Waiter<SmtpReply.SmtpReply> | undefined
  #drain: Waiter<void> | undefined
  readonly #watchers = new Set<Waiter<never>>()
  #inBody = false
  /** The last reply was a 3yz: what the server reads next is not taken for a command. */
  #isHeld = false
  /** The last reply was a 354: a refusal behind it is one of the body, in the same segment or not. */
  #isBodyDue = false
  #mustDrain = false
  #step = "CONN"
  /** The deadline in force and its name; the idle deadline runs beside it from the last octet. */
  #due = Infinity
  #timeout: SmtpError.TimeoutName = "command"
  #hint: string | undefined
  #lastOctet: number
  #wakeAt = Infinity
  #poke: () => void = () => {}

  constructor(duplex: SmtpConnector.Duplex, clock: Clock.Clock, options: Options) {
    this.#duplex = duplex
    this.#clock = clock
    this.#deadlines = options.deadlines
    this.#transcript = Transcript.make(options.transcript, options.annotations)
    this.#lastOctet = this.#now()
  }

  /** Why the wire can no longer be used. */
  get failure(): Failure | undefined {
    return this.#failure
  }
  /** Whether nothing is owed, by either side, and nothing is wrong: another command may be written. */
  get isReady(): boolean {
    const isEven = this.#owed === 0 && this.#arrived.length === 0
    return this.#failure === undefined && isEven && !this.#inBody && !this.#isHeld
  }

  readonly onData = (octets: Uint8Array): void => {
    if (this.#failure !== undefined) return
    this.#touch()
    const decoded = this.#decoder.push(octets, this.#onReply)
    if (Result.isFailure(decoded)) this.fail({ _tag: "Grammar", detail: decoded.failure.detail })
    this.#deliver()
  }

  readonly #onReply = (reply: SmtpReply.SmtpReply): void => {
    if (this.#failure !== undefined) return
    if (this.#owed === 0) {
      return this.fail({ _tag: this.#inBody || this.#isBodyDue ? "Refused" : "Unsolicited", reply })
    }
    this.#owed--
    this.#due = Infinity
    this.#isHeld = SmtpReply.severity(reply) === 3
    this.#isBodyDue = reply.code === 354
    this.#arrived.push(reply)
    // RFC 5321 §3.8: after 421 the server closes; nothing more can be asked of it.
    if (reply.code === 421) this.fail({ _tag: "Unsolicited", reply })
  }

  /**
   * Gives a reply to who waits for it. Resuming runs the waiting fiber at once, and it may write the next command:
   * so all octets at hand are decoded first, and a reply that came before its command is seen as what it is.
   */
  #deliver(): void {
    const reader = this.#reader
    if (reader === undefined) return
    const reply = this.#arrived.shift()
    if (reply === undefined) return
    this.#reader = undefined
    reader.resume(Effect.succeed(reply))
  }

  readonly onDrain = (): void => {
    this.#touch()
    this.#mustDrain = false
    // The wait on the source begins now, not when the octets before it were handed over.
    if (this.#inBody) this.arm("data")
    const drain = this.#drain
    this.#drain = undefined
    drain?.resume(Effect.void)
  }

  readonly onEnd = (ended: SmtpConnector.Ended): void => this.fail(ended)

  /**
   * Fails the wire for good: the first failure counts, the socket is freed, whoever waits is told. After quit, nobody
   * is told of another: the connection was given up.
   */
  readonly fail = (failure: Failure): void => {
    const isFirst = this.#failure === undefined
    if (isFirst || failure._tag === "Quit") this.#failure = failure
    if (!isFirst) return
    this.#duplex.destroy()
    this.#announce()
  }

  #announce(): void {
    this.#deliver()
    const waiters = [this.#reader, this.#drain, ...this.#watchers]
    this.#reader = this.#drain = undefined
    this.#watchers.clear()
    for (const waiter of waiters) waiter?.resume(Effect.fail(this.error(waiter.where)))
    this.#poke()
  }

  /** What an effect ends in on a wire that failed. */
  error(where: Where): SmtpError.SmtpError {
    return SmtpError.classify(this.#failure ?? { _tag: "Released" }, where)
  }

  /** A call has told of the failure: to those after it the connection is closed, and no more is said of their mail. */
  retire(): void {
    if (this.#failure !== undefined && this.#failure._tag !== "Quit") this.#failure = { _tag: "Released" }
  }

  /** Milliseconds of the clock that no adjustment of the wall clock moves. */
  #now(): number {
    return Number(this.#clock.monotonicTimeNanosUnsafe()) / 1e6
  }

  #touch(): void {
    this.#lastOctet = this.#now()
  }

  /** Puts a deadline in force, counted from now; it replaces the one before. */
  arm(timeout: SmtpError.TimeoutName, hint?: string): void {
    this.#timeout = timeout
    this.#hint = hint
    this.#due = this.#now() + this.#deadlines[timeout]
    if (this.#due < this.#wakeAt) this.#poke()
  }

  #write(chunks: ReadonlyArray<Uint8Array>): void {
    if (chunks.every((chunk) => chunk.length === 0)) return
    this.#touch()
    this.#mustDrain = !this.#duplex.write(chunks)
  }

  /** Whether the server can be asked. A reply that has begun before its command answers nothing: the wire fails. */
  isQuiet(): boolean {
    if (this.#owed === 0 && this.#decoder.isPartial()) {
      this.fail({ _tag: "Grammar", detail: "a reply began before its command" })
    }
    return this.#failure === undefined
  }

  /** Octets to the server, with the replies they will be owed; nothing is written once the wire has failed. */
  hand(chunks: ReadonlyArray<Uint8Array>, replies: number, timeout: SmtpError.TimeoutName): void {
    if (this.#failure !== undefined) return
    this.#owed += replies
    this.#write(chunks)
    this.arm(timeout)
  }

  /** The next reply. Whoever interrupts it has to fail the wire, or to receive again. */
  receive(where: Where): Effect.Effect<SmtpReply.SmtpReply, SmtpError.WireError> {
    const next = this.#next(where) as Effect.Effect<SmtpReply.SmtpReply, SmtpError.WireError>
    return this.#transcript.isOn
      ? Effect.tap(next, (reply) => this.#transcript.server(reply, where.stage === "AUTH"))
      : next
  }

  #next(where: Where): Effect.Effect<SmtpReply.SmtpReply, SmtpError.SmtpError> {
    return Effect.callback((resume) => {
      const reply = this.#arrived.shift()
      if (reply !== undefined) return resume(Effect.succeed(reply))
      if (this.#failure !== undefined) return resume(Effect.fail(this.error(where)))
      const waiter = { resume, where }
      this.#reader = waiter
      return Effect.sync(() => {
        if (this.#reader === waiter) this.#reader = undefined
      })
    })
  }

  /**
   * One command and its reply, within the command deadline.
   *
   * Commands are built from values that were checked before; one that the encoder refuses is a defect here.
   */
  readonly command = Effect.fnUntraced(
    function*(this: SmtpWire, command: SmtpCommand.SmtpCommand, where: Where) {
      const octets = SmtpCommand.encode(command)
      if (Result.isFailure(octets)) return yield* Effect.die(octets.failure)
      if (this.#failure === undefined && this.#transcript.isOn) yield* this.#transcript.client(command)
      if (!this.isQuiet()) {
        const attempted = where.attempted ?? false
        return yield* this.error({ ...where, attempted }) as SmtpError.WireError
      }
      this.#step = SmtpCommand.verb(command)
      this.hand([octets.success], 1, where.stage === "QUIT" ? "quit" : "command")
      return yield* this.receive(where)
    }.bind(this)
  )

  /** From here on a reply that comes is a refusal of the body, not an answer. */
  beginBody(): void {
    this.#inBody = true
    this.arm("data")
  }

  /** Octets of the body; waits until they are taken. */
  body(chunks: ReadonlyArray<Uint8Array>, where: Where): Effect.Effect<void, SmtpError.SmtpError> {
    return Effect.suspend(() => {
      if (this.#failure !== undefined) return Effect.fail(this.error(where))
      this.#write(chunks)
      this.arm("data")
      return Effect.andThen(this.#transcript.body(chunks), this.#mustDrain ? this.#drained(where) : Effect.void)
    })
  }

  #drained(where: Where): Effect.Effect<void, SmtpError.SmtpError> {
    return Effect.callback((resume) => {
      if (this.#failure !== undefined) return resume(Effect.fail(this.error(where)))
      if (!this.#mustDrain) return resume(Effect.void)
      const waiter = { resume, where }
      this.#drain = waiter
      return Effect.sync(() => {
        if (this.#drain === waiter) this.#drain = undefined
      })
    })
  }

  /** The last octets of a body, with the terminator: `replies` final replies are owed from now on. */
  endBody(chunks: ReadonlyArray<Uint8Array>, replies: number): Effect.Effect<void> {
    this.#inBody = false
    this.hand(chunks, replies, "final")
    return this.#transcript.body(chunks)
  }

  /** Puts the deadline of a further final reply in force (LMTP: one per recipient). */
  rearm(timeout: SmtpError.TimeoutName): void {
    if (this.#owed > 0) this.arm(timeout)
  }

  /** Never succeeds; fails when the wire does. For racing against what the wire cannot see. */
  failed(where: Where): Effect.Effect<never, SmtpError.SmtpError> {
    return Effect.callback((resume) => {
      if (this.#failure !== undefined) return resume(Effect.fail(this.error(where)))
      const waiter = { resume, where }
      this.#watchers.add(waiter)
      return Effect.sync(() => {
        this.#watchers.delete(waiter)
      })
    })
  }

  /** Never succeeds; fails when a deadline does away with the wire in the middle of a handshake, and with it the socket. */
  #expired(command: string): Effect.Effect<never, SmtpError.ETIMEDOUT> {
    return Effect.catchIf(
      this.failed({ stage: "TLS", command }) as Effect.Effect<never, SmtpError.WireError>,
      (error): error is Exclude<SmtpError.WireError, SmtpError.ETIMEDOUT> => error._tag !== "ETIMEDOUT",
      () => Effect.never
    )
  }

  /** The greeting: the one reply that answers no command of ours. Reading starts here. */
  greeting(hint: string | undefined): Effect.Effect<SmtpReply.SmtpReply, SmtpError.WireError> {
    return Effect.suspend(() => {
      this.#owed = 1
      this.arm("greeting", hint)
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
    return Effect.suspend(() => {
      if (this.hasSurplus) {
        this.fail({ _tag: "Released" })
        return Effect.fail(upgradeErrors.surplus(command))
      }
      if (this.#failure !== undefined) return Effect.fail(upgradeErrors.lost(this.#failure, command))
      return this.#duplex.upgrade(tls).pipe(
        Effect.raceFirst(this.#expired(command)),
        Effect.timeoutOrElse({
          duration: this.#deadlines.tls,
          orElse: () => Effect.fail(upgradeErrors.deadline(command))
        }),
        Effect.onError(() => Effect.sync(() => this.fail({ _tag: "Released" }))),
        Effect.tap(({ authorized, cipher, protocol }) =>
          this.#transcript.event(`${protocol} ${cipher}, certificate ${authorized ? "verified" : "not verified"}`)
        )
      )
    })
  }

  /** The address literal of the local socket (RFC 5321 §4.1.3), for a host that has no name. */
  get addressLiteral(): string {
    const address = this.#duplex.localAddress
    if (address === undefined) return "[127.0.0.1]"
    return address.includes(":") ? `[IPv6:${address.replace(/%.*$/, "")}]` : `[${address}]`
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

  /** The command that was said last, as errors show it. */
  get step(): string {
    return this.#step
  }

  get isSecuredByMaker(): boolean {
    return this.#duplex.secured
  }

  #nextDue(): number {
    return Math.min(this.#due, this.#lastOctet + this.#deadlines.idle)
  }

  /** The one fiber that watches the deadlines: it sleeps until the next may be due, and looks. */
  readonly watch: Effect.Effect<void> = Effect.gen({ self: this }, function*() {
    while (this.#failure === undefined) {
      const now = this.#now()
      const due = this.#nextDue()
      if (due <= now) return this.#expire()
      this.#wakeAt = due
      yield* Effect.raceFirst(Number.isFinite(due) ? Effect.sleep(due - now) : Effect.never, this.#poked)
    }
  })

  readonly #poked = Effect.callback<void>((resume) => {
    // What happened between the look and here must not be slept over.
    if (this.#failure !== undefined || this.#nextDue() < this.#wakeAt) return resume(Effect.void)
    this.#poke = () => resume(Effect.void)
    return Effect.sync(() => {
      this.#poke = () => {}
    })
  })

  #expire(): void {
    const isOurs = this.#due <= this.#now()
    this.fail({ _tag: "Deadline", timeout: isOurs ? this.#timeout : "idle", hint: isOurs ? this.#hint : undefined })
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
  const clock = yield* Clock.Clock
  const wire = new SmtpWire(duplex, clock, options)
  yield* Effect.addFinalizer(() => Effect.sync(() => wire.fail({ _tag: "Released" })))
  yield* Effect.forkScoped(wire.watch)
  return wire
})
