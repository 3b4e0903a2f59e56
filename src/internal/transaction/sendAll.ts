/**
 * Many mails on one connection: while the replies to one transaction are on their way, the next is said already. By DATA
 * its envelope goes behind the body before it (RFC 2920 §3.1), by BDAT it goes whole (RFC 3030 §4.2), with RSET before it:
 * a transaction that was refused leaves nothing to the next.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import type * as Pull from "effect/Pull"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import type * as SmtpError from "../../SmtpError.ts"
import type { Group, SmtpWire } from "../../SmtpWire.ts"
import type { SendResult } from "../outcome.ts"
import { advance, isPlain, waiting } from "./advance.ts"
import { told } from "./converse.ts"
import { type Behind, flight, isFlight } from "./deliver.ts"
import type { Run } from "./model.ts"
import * as state from "./run.ts"

/** Most mails under way at once: enough for a long way, and so many may be in doubt when the connection is lost. */
const maxUnderWay = 64

/** Most octets handed to the transport in one group of transactions. */
const maxGroup = 131_072

/** Most replies that may be owed, over all that is under way. */
const maxOwed = 512

/** A mail that is ready to be said, one that needs the connection for itself, or one that cannot be sent at all. */
type Prepared<E, R> =
  | { readonly _tag: "Run"; readonly run: Run<E, R> }
  | { readonly _tag: "Alone" }
  | { readonly _tag: "Failed"; readonly error: SmtpError.SendError }

/** What the connection does for the mails. */
export interface Desk<M, E, R> {
  readonly wire: SmtpWire
  readonly prepare: (mail: M) => Prepared<E, R>
  /** The result of a run whose replies were all positive; undefined where a run has to be delivered with effects. */
  readonly conclude: (run: Run<E, R>) => Result.Result<SendResult, SmtpError.SendError>
  /** Whether runs may advance without effects. */
  readonly isPlain: boolean
  readonly deliver: (run: Run<E, R>, behind: Behind) => Effect.Effect<SendResult, SmtpError.SendError | E, R>
  /** What is left to do for a mail whose transaction had no room for all its recipients. */
  readonly rest: (
    mail: M,
    sent: SendResult
  ) => Effect.Effect<SendResult, SmtpError.SendError | E, R> | undefined
  readonly alone: (mail: M) => Effect.Effect<SendResult, SmtpError.SendError | E, R>
  /** Waits for the turn on the connection, and gives it back. */
  readonly take: (restore: <A>(self: Effect.Effect<A>) => Effect.Effect<A>) => Effect.Effect<void>
  readonly release: () => void
  /** Whether another call waits for its turn, and who is told when one begins to. */
  readonly isWanted: () => boolean
  readonly onWanted: (listen: () => void) => void
  /** Whether mails may be under way together. */
  readonly overlaps: () => boolean
}

interface Entry<M, E, R> {
  readonly mail: M
  readonly prepared: Prepared<E, R>
}

type Told<E> = Result.Result<SendResult, SmtpError.SendError | E>

interface Settled<M, E, R> extends Entry<M, E, R> {
  readonly result: Told<E>
}

class Overlap<M, E, R, E2, R2> {
  readonly #desk: Desk<M, E2, R2>
  readonly #pull: Pull.Pull<ReadonlyArray<M>, E, void, R>
  readonly #scope: Scope.Scope
  readonly #entries: Array<Entry<M, E2, R2>> = []
  #buffer: ReadonlyArray<M> = []
  #next = 0
  #isPulling = false
  readonly #pulled = Latch.makeUnsafe(false)
  #ended: Exit.Exit<never, E | Cause.Done<void>> | undefined
  #hasTurn = false
  #isHalted = false
  #isLossTold = false
  /** Whoever takes the results has not asked for more yet. */
  #isAway = false
  readonly #summons = Latch.makeUnsafe(false)
  #isAttended = false
  /** Results that nobody has asked for yet, and what went wrong on the way to them. */
  #done: Array<Told<E2>> = []
  #broken: Exit.Exit<never, never> | undefined
  readonly #finished = Latch.makeUnsafe(true)

  constructor(desk: Desk<M, E2, R2>, pull: Pull.Pull<ReadonlyArray<M>, E, void, R>, scope: Scope.Scope) {
    this.#desk = desk
    this.#pull = pull
    this.#scope = scope
  }

  private get isDry(): boolean {
    return this.#next === this.#buffer.length
  }

  /** The next results, at least one. */
  readonly step: Pull.Pull<readonly [Told<E2>, ...Array<Told<E2>>], E, void, R | R2> = Effect.gen(
    { self: this },
    function*() {
      this.#isAway = false
      if (!this.#finished.isOpen()) yield* this.#finished.await
      if (this.#broken !== undefined) return yield* this.#broken
      if (this.#done.length > 0) return this.#done.splice(0) as [Told<E2>, ...Array<Told<E2>>]
      while (this.#entries.length === 0) {
        if (this.isDry) yield* this.more
        else {
          if (!this.#hasTurn) yield* this.begin
          this.#admit()
        }
      }
      const results = yield* this.next
      if (this.#entries.length === 0) this.release()
      else yield* this.leave
      return results
    }
  )

  /** The next results of what is under way. */
  private readonly next: Effect.Effect<readonly [Told<E2>, ...Array<Told<E2>>], never, R | R2> = Effect.gen(
    { self: this },
    function*() {
      for (;;) {
        const log = this.#refill()
        if (log !== undefined) yield* log
        if (this.mayLookAhead) yield* this.lookAhead
        const advanced = this.#advance()
        if (advanced === undefined) return yield* this.settle
        if (advanced.length > 0) return advanced as [Told<E2>, ...Array<Told<E2>>]
        yield* this.wait
      }
    }
  )

  /** Whoever takes the results is on his own now: he may ask for the turn himself before he asks for more. */
  private readonly leave: Effect.Effect<void, never, R | R2> = Effect.suspend(() => {
    this.#isAway = true
    if (this.#desk.isWanted()) this.#summons.openUnsafe()
    if (this.#isAttended) return Effect.void
    this.#isAttended = true
    return Effect.asVoid(Effect.forkIn(Effect.forever(this.attend), this.#scope))
  })

  /** Somebody waits for the turn, and nobody asks for results: what is under way is brought to its end for both. */
  private readonly attend: Effect.Effect<void, never, R | R2> = Effect.gen({ self: this }, function*() {
    yield* this.#summons.await
    this.#summons.closeUnsafe()
    if (!this.#isAway || this.#entries.length === 0) return
    this.#finished.closeUnsafe()
    this.#isHalted = true
    const exit = yield* Effect.exit(Effect.whileLoop({
      while: () => this.#entries.length > 0,
      body: () => this.next,
      step: (results) => {
        this.#done.push(...results)
      }
    }))
    this.#isHalted = false
    if (Exit.isFailure(exit)) this.#broken = Exit.failCause(exit.cause)
    this.release()
    this.#finished.openUnsafe()
  })

  /** The results that are there without effects; none yet; or undefined: the first wants to be delivered with effects. */
  #advance(): Array<Told<E2>> | undefined {
    const results: Array<Told<E2>> = []
    for (;;) {
      const first = this.#entries[0]?.prepared
      if (first === undefined || first._tag !== "Run" || !this.#desk.isPlain || !isPlain(first.run)) break
      // Who has given nothing to follow yet is waited for, not written behind.
      const far = advance(first.run, this.#behind)
      if (far === "left") break
      if (far === "wait") return results
      results.push(this.#desk.conclude(first.run))
      this.#entries.shift()
    }
    return results.length === 0 ? undefined : results
  }

  /** Waits for replies to the first. What is out of the ordinary is found by whoever goes on. */
  private readonly wait: Effect.Effect<void> = Effect.suspend(() => {
    const first = this.#entries[0]!.prepared
    return first._tag === "Run" ? waiting(first.run) : Effect.void
  })

  /** Waits for more mails; nothing is under way. */
  private readonly more: Pull.Pull<void, E, void, R> = Effect.gen({ self: this }, function*() {
    // A loss that no Result has told of is told by the next mail: a stream that just ended would hide it.
    if (this.#isLossTold) return yield* Cause.done()
    if (this.#ended !== undefined) return yield* this.#ended
    if (this.#isPulling) return yield* this.#pulled.await
    this.#buffer = yield* this.#pull
    this.#next = 0
  })

  private get mayLookAhead(): boolean {
    const { isWanted, overlaps, wire } = this.#desk
    return this.isDry && !this.#isPulling && !this.#isHalted && !this.#isLossTold && this.#ended === undefined &&
      this.#entries.length > 0 && wire.failure === undefined && !isWanted() && overlaps()
  }

  /** Asks for more mails while others are under way: whoever gives them takes his time at nobody's cost. */
  private readonly lookAhead: Effect.Effect<void, never, R> = Effect.suspend(() =>
    Effect.asVoid(Effect.forkIn(this.asking, this.#scope, { startImmediately: true }))
  )

  private readonly asking: Effect.Effect<void, never, R> = Effect.gen({ self: this }, function*() {
    while (this.mayLookAhead) {
      this.#isPulling = true
      this.#pulled.closeUnsafe()
      const exit = yield* Effect.exit(this.#pull)
      this.#isPulling = false
      if (Exit.isSuccess(exit)) {
        this.#buffer = exit.value
        this.#next = 0
      } else this.#ended = exit as Exit.Exit<never, E | Cause.Done<void>>
      this.#pulled.openUnsafe()
      const log = this.#entries.length === 0 ? undefined : this.#refill()
      if (log !== undefined) yield* log
    }
  })

  private readonly begin: Effect.Effect<void> = Effect.uninterruptibleMask((restore) =>
    Effect.map(this.#desk.take(restore), () => {
      this.#hasTurn = true
      this.#desk.onWanted(() => {
        if (this.#isAway) this.#summons.openUnsafe()
      })
    })
  )

  /** Gives the turn back. Who leaves while replies are owed leaves no usable connection. */
  readonly release = (): void => {
    if (!this.#hasTurn) return
    this.#hasTurn = false
    const { wire } = this.#desk
    if (!wire.isReady) wire.fail({ _tag: "Released" })
    if (this.#isLossTold) wire.retire()
    this.#desk.onWanted(() => {})
    this.#desk.release()
  }

  #admit(): Entry<M, E2, R2> {
    const mail = this.#buffer[this.#next++]!
    const entry = { mail, prepared: this.#desk.prepare(mail) }
    this.#entries.push(entry)
    // The connection is used up (MAILMAX): this mail is going to say so.
    if (entry.prepared._tag === "Failed" && entry.prepared.error._tag === "ECONNECTION") this.#isLossTold = true
    return entry
  }

  /** Whether another transaction may be said behind those that are under way. */
  #mayFollow(octets: number, owed: number): boolean {
    if (this.#isHalted || octets >= maxGroup || owed >= maxOwed || this.#entries.length >= maxUnderWay) return false
    const last = this.#entries.at(-1)?.prepared
    const isWhole = last === undefined || last._tag === "Failed" || (last._tag === "Run" && last.run.isHandedOver)
    return isWhole && !this.isDry && !this.#desk.isWanted() && this.#desk.overlaps()
  }

  /** Says whole transactions behind the first, when few are left under way. */
  #refill(): Effect.Effect<void> | undefined {
    const { wire } = this.#desk
    const isEnough = this.#entries.length > maxUnderWay / 2 || wire.owed > maxOwed / 2
    if (isEnough || this.#isHalted || !wire.isDrained || !wire.isQuiet()) return undefined
    const first = this.#entries[0]!.prepared
    if (first._tag !== "Run") return undefined
    const group: Grouped = { chunks: [], owes: [], octets: 0, log: [] }
    if (first.run.written === 0) {
      // Alone on the wire: by DATA it is said in turn.
      if (this.#entries.length > 1) return undefined
      state.begin(first.run, first.run.dialogue.needsReset)
      if (!isFlight(first.run)) return undefined
      append(group, first.run)
    } else if (!first.run.isHandedOver) return undefined
    this.#follow(group)
    if (group.chunks.length === 0) return undefined
    wire.handGroup(group)
    return group.log.length === 0 ? undefined : Effect.all(group.log, { discard: true })
  }

  #follow(group: Grouped): void {
    const { owed } = this.#desk.wire
    while (this.#mayFollow(group.octets, owed + group.owes.length)) {
      const { prepared } = this.#admit()
      if (prepared._tag !== "Run") continue
      state.begin(prepared.run, true)
      append(group, prepared.run)
    }
  }

  /** What goes behind the body of the first. */
  readonly #behind: Behind = () => {
    const group: Grouped = { chunks: [], owes: [], octets: 0, log: [] }
    const [first] = this.#entries
    // Alone under way: its own terminator is in the same write, so what follows finds the connection whole.
    if (this.#entries.length === 1 && first?.prepared._tag === "Run") {
      first.prepared.run.isHandedOver = true
      this.#follow(group)
    }
    return { group, log: group.log.length === 0 ? Effect.void : Effect.all(group.log, { discard: true }) }
  }

  private readonly first: Effect.Effect<Settled<M, E2, R2>, never, R2> = Effect.gen(
    { self: this },
    function*() {
      const { mail, prepared } = this.#entries[0]!
      const result: Told<E2> = prepared._tag === "Failed"
        ? Result.fail(prepared.error)
        : yield* Effect.result(
          prepared._tag === "Run" ? this.#desk.deliver(prepared.run, this.#behind) : this.#desk.alone(mail)
        )
      this.#entries.shift()
      if (Result.isFailure(result) && this.#tellsOfLoss(prepared)) this.#isLossTold = true
      return { mail, prepared, result }
    }
  )

  /** Whether the failure of a mail says that nothing more can be sent; a refusal, or a mail that is wrong, does not. */
  #tellsOfLoss(prepared: Prepared<E2, R2>): boolean {
    if (this.#desk.wire.failure === undefined || prepared._tag === "Failed") return false
    return prepared._tag === "Alone" || !prepared.run.isSettled || prepared.run.finals.at(-1)?.code === 421
  }

  /** Whether all replies to the first have come: its result waits for nothing. */
  get #isAnswered(): boolean {
    const first = this.#entries[0]?.prepared
    if (first === undefined || first._tag !== "Run") return first?._tag === "Failed"
    const { answered, isHandedOver, written } = first.run
    return isHandedOver && this.#desk.wire.arrived >= written - answered
  }

  /** The first result, and those behind it that wait for nothing. */
  private readonly settle: Effect.Effect<readonly [Told<E2>, ...Array<Told<E2>>], never, R2> = Effect.gen(
    { self: this },
    function*() {
      const done = [yield* this.first]
      while (this.#isAnswered) done.push(yield* this.first)
      const isLeft = done.some((one) => this.restOf(one) !== undefined)
      if (isLeft) {
        // Another transaction cannot be said before those that are under way have ended.
        const wasHalted = this.#isHalted
        this.#isHalted = true
        while (this.#entries.length > 0) done.push(yield* this.first)
        this.#isHalted = wasHalted
      }
      const results: Array<Told<E2>> = []
      for (const one of done) {
        const rest = this.restOf(one)
        results.push(rest === undefined ? one.result : yield* Effect.result(rest))
      }
      return results as [Told<E2>, ...Array<Told<E2>>]
    }
  )

  private restOf(
    { mail, prepared, result }: Settled<M, E2, R2>
  ): Effect.Effect<SendResult, SmtpError.SendError | E2, R2> | undefined {
    return prepared._tag === "Run" && Result.isSuccess(result) ? this.#desk.rest(mail, result.success) : undefined
  }
}

interface Grouped extends Group {
  readonly chunks: Array<Uint8Array>
  readonly owes: Array<SmtpError.TimeoutName>
  readonly log: Array<Effect.Effect<void>>
  octets: number
}

/** The whole transaction, or as much of its opening as may be said now. */
const append = <E, R>(group: Grouped, run: Run<E, R>): void => {
  const said = isFlight(run) ? flight(run) : opening(run)
  for (const chunk of said.group.chunks) {
    group.chunks.push(chunk)
    group.octets += chunk.length
  }
  group.owes.push(...said.group.owes)
  if (run.dialogue.session.wire.transcript.isOn) group.log.push(told(run, said.steps))
}

const opening = <E, R>(run: Run<E, R>) => {
  const steps = state.due(run)
  state.wrote(run, steps.length)
  return {
    group: { chunks: steps.length === 0 ? [] : [state.encode(steps)], owes: steps.map(() => "command" as const) },
    steps
  }
}

/** Turns the mails that are pulled into results, one for each, in order. */
export const sendAll = <M, E, R, E2, R2>(
  desk: Desk<M, E2, R2>,
  pull: Pull.Pull<ReadonlyArray<M>, E, void, R>,
  scope: Scope.Scope
): Effect.Effect<Pull.Pull<readonly [Told<E2>, ...Array<Told<E2>>], E, void, R | R2>> =>
  Effect.suspend(() => {
    const overlap = new Overlap(desk, pull, scope)
    return Effect.as(Scope.addFinalizer(scope, Effect.sync(overlap.release)), overlap.step)
  })
