/**
 * Many mails over the connections of a pool: results in the order of the mails, whatever connection each went over.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as EffectStream from "effect/Stream"
import type { Mail } from "../SmtpConnection.ts"
import * as SmtpError from "../SmtpError.ts"
import { Changes } from "./changes.ts"
import type { SendResult } from "./outcome.ts"
import type { Core, DialError, Member, Place } from "./poolCore.ts"
import { isLate } from "./poolErrors.ts"
import type { Resolved } from "./poolOptions.ts"
import { mayRenew, type Source, watched } from "./poolRetry.ts"
import type { Each, Observing } from "./telemetry/observe.ts"

/** Mails as they are given. */
export type Stream<E, R, E2, R2> = EffectStream.Stream<Mail<E2, R2>, E, R>

/** What became of one mail. */
type Outcome<E2> = Result.Result<SendResult, DialError | SmtpError.SendError | E2>

export type Results<E, R, E2, R2> = EffectStream.Stream<Outcome<E2>, E, R | R2>

/** Mails begun ahead of the results read, per connection: enough to keep a connection that overlaps them busy. */
const ahead = 16

/** Mails after which a connection goes to somebody else who waits for one. */
const turn = 16

interface Job<E2, R2> {
  readonly envelope: Mail<E2, R2>["envelope"]
  readonly source: Source<E2, R2>
  outcome: Outcome<E2> | undefined
  observing: Observing | undefined
  /** Begun on a connection that was not dialled for it, so that a loss of that may be one of a stale connection. */
  isOnKept: boolean
  /** Was lost with a stale connection, and has its second try. */
  isSecond: boolean
}

const begins = { isOnKept: false, isSecond: false }

/** A queue: an array whose head moves. */
class Fifo<A> {
  #items: Array<A> = []
  #head = 0
  get length(): number {
    return this.#items.length - this.#head
  }
  get first(): A | undefined {
    return this.#items[this.#head]
  }
  push(item: A): void {
    this.#items.push(item)
  }
  shift(): A | undefined {
    if (this.#head === this.#items.length) return undefined
    const item = this.#items[this.#head++]
    if (this.#head === this.#items.length || this.#head > 1024) {
      this.#items = this.#items.slice(this.#head)
      this.#head = 0
    }
    return item
  }
}

class Spread<E, R, E2, R2> {
  readonly #core: Core
  readonly #policy: Resolved
  readonly #each: Each | undefined
  readonly #scope: Scope.Scope
  readonly #fork: <A, E>(effect: Effect.Effect<A, E, R | R2>) => Fiber.Fiber<A, E>
  /** In the order of the source, until their results are given; those of them that nobody took yet. */
  readonly #given = new Fifo<Job<E2, R2>>()
  readonly #pending = new Fifo<Job<E2, R2>>()
  readonly #changes = new Changes()
  /** Results given last: they are read when the next are asked for. */
  #unread = 0
  #sourceEnd: Exit.Exit<void, E> | undefined
  #defect: Cause.Cause<never> | undefined
  /** Workers there may be, there are, and that have a connection at work. */
  #most: number
  #workers = 0
  #working = 0

  constructor(
    core: Core,
    policy: Resolved,
    each: Each | undefined,
    scope: Scope.Scope,
    context: Context.Context<R | R2>
  ) {
    this.#core = core
    this.#policy = policy
    this.#each = each
    this.#scope = scope
    this.#fork = Effect.runForkWith(context)
    this.#most = policy.max
  }

  start(mails: Stream<E, R, E2, R2>): void {
    const feed = EffectStream.runForEachArray(mails, (chunk) => this.#take(chunk))
    this.#run(Effect.onExit(feed, (exit) =>
      Effect.sync(() => {
        this.#sourceEnd = exit
        this.#changes.tell()
      })))
  }

  get #hasRoom(): boolean {
    return this.#given.length + this.#unread < ahead * this.#policy.max
  }

  /** The mails of a chunk, as there is room for them. */
  #take(chunk: ReadonlyArray<Mail<E2, R2>>): Effect.Effect<void> {
    let next = 0
    const some = Effect.sync(() => {
      while (next < chunk.length && this.#hasRoom) {
        const { envelope, message } = chunk[next++]!
        const source = watched(message)
        const job = { envelope, source, outcome: undefined, observing: undefined, ...begins }
        this.#given.push(job)
        this.#pending.push(job)
      }
      this.#hire()
    })
    const room = this.#changes.until(() => this.#hasRoom)
    return Effect.whileLoop({
      while: () => next < chunk.length,
      body: () => Effect.andThen(some, room),
      step: () => {}
    })
  }

  /** In the scope of the stream: who stops reading stops this too. */
  #run<A, E>(effect: Effect.Effect<A, E, R | R2>): void {
    Fiber.runIn(this.#fork(effect), this.#scope)
  }

  /** As many workers as there is work for. */
  #hire(): void {
    while (this.#workers < this.#most && this.#pending.length > this.#workers - this.#working) {
      this.#workers++
      this.#run(Effect.onExit(this.#work, (exit) =>
        Effect.sync(() => {
          this.#workers--
          if (Exit.isFailure(exit)) this.#defect = exit.cause
          this.#changes.tell()
        })))
    }
    this.#changes.tell()
  }

  /** A worker waits without a connection: others may use it. */
  readonly #work: Effect.Effect<void, never, R2> = Effect.gen({ self: this }, function*() {
    while (true) {
      yield* this.#changes.until(() => this.#pending.length > 0 || this.#sourceEnd !== undefined)
      if (this.#pending.length === 0) return
      const result = yield* Effect.result(this.#core.borrow((place) => this.#workOn(place)))
      if (Result.isSuccess(result)) continue
      // A server may take fewer connections than the pool may open, or others keep them: who has one goes on.
      if (this.#working > 0) {
        if (!isLate(result.failure)) this.#most = this.#workers - 1
        return
      }
      const job = this.#pending.shift()
      if (job !== undefined) this.#settle(job, Result.fail(result.failure))
    }
  })

  readonly #workOn = Effect.fnUntraced(function*(this: Spread<E, R, E2, R2>, place: Place) {
    const known = place.member
    let member = yield* this.#core.ensure(place)
    this.#working++
    const free = Effect.sync(() => {
      this.#working--
    })
    yield* Effect.ensuring(
      Effect.gen({ self: this }, function*() {
        let lost = yield* this.#batch(member, [], member === known)
        while (lost.length > 0) {
          const renewed = yield* Effect.result(this.#core.renew(place))
          if (Result.isFailure(renewed)) return lost.forEach((job) => this.#settle(job, Result.fail(renewed.failure)))
          member = renewed.success
          lost = yield* this.#batch(member, lost, false)
        }
      }),
      free
    )
  })

  /** Mails over one connection, while there are any and it may go on. Gives those that a stale connection lost. */
  #batch(
    member: Member,
    second: Array<Job<E2, R2>>,
    isKept: boolean
  ): Effect.Effect<Array<Job<E2, R2>>, never, R2> {
    const begun = new Fifo<Job<E2, R2>>()
    const lost: Array<Job<E2, R2>> = []
    let count = 0
    const take = (): Job<E2, R2> | undefined => {
      // The first always begins, and tells what became of the connection: so each connection settles a mail.
      if (count > 0 && !this.#mayGoOn(member, count)) return undefined
      return second.shift() ?? this.#pending.shift()
    }
    const begin = (job: Job<E2, R2>) => {
      job.isOnKept = isKept || count > 0
      count++
      member.served++
      begun.push(job)
      if (job.observing !== undefined) this.#each?.reached(job.observing, member.connection)
      return [{ envelope: job.envelope, message: job.source.message }] as const
    }
    const pull = Effect.gen({ self: this }, function*() {
      let job = take()
      if (job === undefined && this.#sourceEnd === undefined) {
        yield* Effect.yieldNow
        job = take()
      }
      if (job === undefined) return yield* Cause.done()
      if (this.#each !== undefined) job.observing ??= yield* this.#each.begin
      return begin(job)
    })
    const results = member.connection.sendAll(EffectStream.fromPull(Effect.succeed(pull)))
    return Effect.map(
      EffectStream.runForEachArray(results, (outcomes) =>
        Effect.sync(() => {
          for (const outcome of outcomes) this.#conclude(begun.shift()!, outcome, lost)
        })),
      () => [...lost, ...second]
    )
  }

  #mayGoOn(member: Member, count: number): boolean {
    return member.connection.isUsable && member.served < this.#policy.maxMessages && !this.#core.isClosed &&
      (count < turn || this.#core.waiting === 0)
  }

  #conclude(job: Job<E2, R2>, outcome: Outcome<E2>, lost: Array<Job<E2, R2>>): void {
    if (Result.isSuccess(outcome) || !job.isOnKept || !mayRenew(outcome.failure, job.source)) {
      return this.#settle(job, outcome)
    }
    const { failure } = outcome
    // Pulled, and the connection was gone before it was begun.
    const isUntried = SmtpError.isSmtpError(failure) && !failure.attempted
    if (job.isSecond && !isUntried) return this.#settle(job, outcome)
    if (!isUntried) {
      job.isSecond = true
      this.#core.tell({ _tag: "Retried", error: failure })
    }
    lost.push(job)
  }

  #settle(job: Job<E2, R2>, outcome: Outcome<E2>): void {
    job.outcome = outcome
    if (job.observing !== undefined) this.#each?.end(job.observing, outcome)
    this.#changes.tell()
  }

  /** Who stopped reading has left these without an outcome. */
  abandon(): void {
    for (let job = this.#given.shift(); job !== undefined; job = this.#given.shift()) {
      if (job.outcome === undefined && job.observing !== undefined) this.#each?.end(job.observing, undefined)
    }
  }

  get #isOver(): boolean {
    return this.#sourceEnd !== undefined && this.#given.length === 0
  }

  /** The results that are next, as soon as there is one. */
  readonly pull = Effect.gen({ self: this }, function*() {
    if (this.#unread > 0) {
      this.#unread = 0
      this.#changes.tell()
    }
    yield* this.#changes.until(() =>
      this.#given.first?.outcome !== undefined || this.#defect !== undefined || this.#isOver
    )
    const ready: Array<Outcome<E2>> = []
    while (this.#given.first?.outcome !== undefined) ready.push(this.#given.shift()!.outcome!)
    const [first, ...rest] = ready
    if (first !== undefined) {
      this.#unread = ready.length
      return [first, ...rest] as const
    }
    if (this.#defect !== undefined) return yield* Effect.failCause(this.#defect)
    if (this.#sourceEnd !== undefined && Exit.isFailure(this.#sourceEnd)) {
      return yield* Effect.failCause(this.#sourceEnd.cause)
    }
    return yield* Cause.done()
  })
}

/** Sends mails over up to `max` connections; each pulled mail gives exactly one result, in the order of the mails. */
export const spread = <E, R, E2, R2>(
  core: Core,
  policy: Resolved,
  mails: Stream<E, R, E2, R2>,
  each: Each | undefined
): Results<E, R, E2, R2> =>
  EffectStream.unwrap(Effect.gen(function*() {
    const one = new Spread<E, R, E2, R2>(core, policy, each, yield* Effect.scope, yield* Effect.context<R | R2>())
    yield* Effect.addFinalizer(() => Effect.sync(() => one.abandon()))
    one.start(mails)
    return EffectStream.fromPull(Effect.succeed(one.pull))
  }))
