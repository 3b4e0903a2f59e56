/**
 * The pool itself: places over effect/Pool, and the connections that come and go in them.
 *
 * What effect/Pool does: the place used last is lent first, and no lease is lost to an interruption. What it has not and
 * is here: it would dial in a fiber of its own, retry nothing on a connection made for it, and knows neither health nor
 * age nor drain. So its items are places, and a borrower dials into the one it holds. It is asked for one by those alone
 * whom the line let pass, so that a wait has an end.
 */
import * as Cause from "effect/Cause"
import type * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Pool from "effect/Pool"
import * as Random from "effect/Random"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import type { SmtpConnection } from "../SmtpConnection.ts"
import type * as SmtpConnector from "../SmtpConnector.ts"
import type * as SmtpError from "../SmtpError.ts"
import type { Alarm } from "./alarm.ts"
import { Changes } from "./changes.ts"
import * as poolErrors from "./poolErrors.ts"
import type { Event, Why } from "./poolEvents.ts"
import { Line } from "./poolLine.ts"
import type { Marks } from "./poolLoan.ts"
import type { Resolved } from "./poolOptions.ts"

/** What dialling may end in. */
export type DialError = SmtpError.ConnectError | SmtpError.LoginError

/** An open connection of the pool. */
export interface Member extends Marks {
  readonly connection: SmtpConnection
  readonly scope: Scope.Closeable
  /** When it is too old, in milliseconds of the monotonic clock. */
  readonly retireAt: number
}

/** A place for one connection. */
export interface Place {
  member: Member | undefined
  isBusy: boolean
  idleSince: number
}

/** What a core is made from. */
interface Setup {
  readonly policy: Resolved
  /** Opens a connection in a scope. */
  readonly connect: Effect.Effect<SmtpConnection, DialError, Scope.Scope | SmtpConnector.SmtpConnector>
  /** What connections are made with, whoever asks for them. */
  readonly context: Context.Context<SmtpConnector.SmtpConnector>
  readonly clock: Clock.Clock
  /** The alarm of that clock. */
  readonly alarm: Alarm
  readonly onEvent: ((event: Event) => void) | undefined
}

/** How much of `maxAge` is left to chance. */
const jitter = 0.2

/** Parts of the caller's context that a dial takes over. None of it decides who is connected to, nor who logs in. */
const observed = ["effect/Tracer", "effect/Logger", "effect/References/", "effect/Metric"]

export class Core {
  readonly #setup: Setup
  readonly #sockets: Semaphore.Semaphore
  readonly #scope = Scope.makeUnsafe()
  readonly #fork: <A, E>(effect: Effect.Effect<A, E>) => Fiber.Fiber<A, E>
  /** Fails once the drain is over: nothing is dialled any more. */
  readonly #over = Deferred.makeUnsafe<never, SmtpError.ECONNECTION>()
  readonly #members = new Set<Member>()
  readonly #changes = new Changes()
  /** Who is let pass is owed a place. */
  readonly #line: Line
  #places!: Pool.Pool<Place>
  #isClosed = false
  /** How the scope of the pool ended: after an interruption no answer to QUIT is waited for. */
  #exit: Exit.Exit<unknown, unknown> = Exit.void
  /** Leases out, and sockets that are open or opened. */
  #busy = 0
  #open = 0
  #isFilling = false
  #wakeAt = Infinity
  #reaper: Fiber.Fiber<void> | undefined

  constructor(setup: Setup) {
    this.#setup = setup
    this.#sockets = Semaphore.makeUnsafe(setup.policy.max)
    this.#line = new Line(setup.alarm, setup.policy)
    this.#fork = Effect.runForkWith(setup.context)
  }

  readonly start: Effect.Effect<void> = Effect.gen({ self: this }, function*() {
    const acquire = Effect.acquireRelease(
      Effect.sync((): Place => ({ member: undefined, isBusy: false, idleSince: 0 })),
      (place) => Effect.sync(() => this.#empty(place, "drained", this.#exit))
    )
    this.#places = yield* Scope.provide(Pool.make({ acquire, size: this.#setup.policy.max }), this.#scope)
    this.#refill()
  })

  get isClosed(): boolean {
    return this.#isClosed
  }
  get size(): number {
    return this.#members.size
  }
  get idle(): number {
    let idle = 0
    for (const { exit } of this.#places.state.items) {
      if (Exit.isSuccess(exit) && !exit.value.isBusy && exit.value.member !== undefined) idle++
    }
    return idle
  }
  get waiting(): number {
    return this.#line.waiting
  }

  tell(event: Event): void {
    this.#setup.onEvent?.(event)
  }

  #now(): number {
    return Number(this.#setup.clock.monotonicTimeNanosUnsafe()) / 1e6
  }

  /** Runs an effect with a place that is nobody else's meanwhile. */
  borrow<A, E, R>(f: (place: Place) => Effect.Effect<A, E, R>): Effect.Effect<A, E | SmtpError.ECONNECTION, R> {
    return Effect.uninterruptibleMask((restore): Effect.Effect<A, E | SmtpError.ECONNECTION, R> => {
      const { max, maxWaiting } = this.#setup.policy
      if (this.#isClosed) return Effect.fail(poolErrors.closed())
      this.#bury()
      if (!this.#line.hasFree && this.#line.waiting >= maxWaiting) {
        this.tell({ _tag: "Refused" })
        return Effect.fail(poolErrors.full(maxWaiting, max))
      }
      return Effect.flatMap(this.#line.take(restore), () =>
        Effect.onExit(restore(this.#use(f)), () => {
          this.#line.release()
          return Effect.void
        }))
    })
  }

  /** For those whom the line let pass. */
  #use<A, E, R>(f: (place: Place) => Effect.Effect<A, E, R>): Effect.Effect<A, E | SmtpError.ECONNECTION, R> {
    return Effect.withFiber((fiber) => {
      let isLent = false
      const lent = Pool.use(this.#places, (place) => {
        isLent = true
        return this.#lend(place, f)
      })
      // effect/Pool interrupts those who come or wait while it shuts down, in their own name.
      return Effect.catchCauseIf(
        lent,
        (cause) => this.#isClosed && !isLent && isOwnInterruption(cause, fiber.id),
        () => Effect.fail(poolErrors.closed())
      )
    })
  }

  #lend<A, E, R>(place: Place, f: (place: Place) => Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return Effect.uninterruptibleMask((restore) => {
      place.isBusy = true
      this.#busy++
      return Effect.onExit(restore(Effect.suspend(() => f(place))), () => {
        this.#giveBack(place)
        return Effect.void
      })
    })
  }

  #giveBack(place: Place): void {
    this.#busy--
    place.isBusy = false
    this.#keep(place)
    if (this.#busy === 0) this.#changes.tell()
  }

  /** The connection of a place that is lent no more waits for the next call, or goes. */
  #keep(place: Place): void {
    const why = this.#whyNot(place.member)
    if (why !== undefined) return this.#drop(place, why)
    place.idleSince = this.#now()
    this.#watch(Math.min(place.idleSince + this.#setup.policy.idleTimeout, place.member!.retireAt))
  }

  /** Why a connection is not kept. */
  #whyNot(member: Member | undefined): Why | undefined {
    if (member === undefined || !member.connection.isUsable) return "lost"
    if (member.isSpent) return "spent"
    if (member.served >= this.#setup.policy.maxMessages) return "messages"
    return this.#now() >= member.retireAt ? "age" : undefined
  }

  /** Away with connections that died while idle: the one lent next is noticed without a round trip. */
  #bury(): void {
    while (true) {
      const exit = this.#places.state.availableHead?.exit
      if (exit === undefined || Exit.isFailure(exit)) return
      const { member } = exit.value
      if (member === undefined || member.connection.isUsable) return
      this.#drop(exit.value, "lost")
    }
  }

  /** An empty place goes behind all others: effect/Pool makes a new one for one that is invalid, and empties each at its end. */
  #drop(place: Place, why: Why): void {
    const { member } = place
    place.member = undefined
    if (!this.#isClosed) this.#fork(Pool.invalidate(this.#places, place))
    if (member !== undefined) this.#close(member, why, Exit.void)
  }

  #empty(place: Place, why: Why, exit: Exit.Exit<unknown, unknown>): void {
    const { member } = place
    place.member = undefined
    if (member !== undefined) this.#close(member, why, exit)
  }

  /** QUIT where the connection is healthy, in a fiber of its own: who borrowed it does not wait for that. */
  #close(member: Member, why: Why, exit: Exit.Exit<unknown, unknown>): void {
    if (!this.#members.delete(member)) return
    this.tell({ _tag: "Closed", why })
    this.#fork(Effect.ignoreCause(Scope.close(member.scope, exit)))
    this.#refill()
  }

  /** The connection that a place has, if it is fit for another call. The reaper may be late: what is too old is not. */
  reuse(place: Place): Member | undefined {
    if (this.#whyNot(place.member) !== undefined) return undefined
    this.tell({ _tag: "Reused" })
    return place.member
  }

  /** The connection of a place: the one it has, or a new one. */
  ensure(place: Place): Effect.Effect<Member, DialError> {
    return Effect.suspend(() => {
      const member = this.reuse(place)
      return member === undefined ? this.renew(place) : Effect.succeed(member)
    })
  }

  /** A new connection for a place that is lent, dialled now. */
  renew(place: Place): Effect.Effect<Member, DialError> {
    return Effect.uninterruptibleMask((restore) =>
      Effect.gen({ self: this }, function*() {
        this.#empty(place, this.#whyNot(place.member) ?? "lost", Exit.void)
        yield* restore(this.#sockets.take(1))
        this.#open++
        const scope = Scope.makeUnsafe()
        yield* Scope.addFinalizer(scope, this.#freed)
        const dialled = Effect.updateContext(this.#setup.connect, (caller: Context.Context<never>) =>
          Context.add(this.#contextFor(caller), Scope.Scope, scope))
        const exit = yield* Effect.exit(restore(Effect.raceFirst(dialled, Deferred.await(this.#over))))
        if (Exit.isFailure(exit)) {
          yield* Effect.ignoreCause(Scope.close(scope, exit))
          return yield* Effect.failCause(exit.cause)
        }
        const age = this.#setup.policy.maxAge * (1 - jitter * (yield* Random.next))
        const member = { connection: exit.value, scope, retireAt: this.#now() + age, served: 0, isSpent: false }
        place.member = member
        this.#members.add(member)
        this.tell({ _tag: "Opened" })
        return member
      })
    )
  }

  readonly #freed = Effect.suspend(() => {
    this.#open--
    this.#changes.tell()
    return this.#sockets.release(1)
  })

  /** A connection serves many: what its dialling and its login see is that of the pool, not that of who comes first. */
  #contextFor(caller: Context.Context<never>): Context.Context<SmtpConnector.SmtpConnector> {
    const services = new Map<string, unknown>(this.#setup.context.mapUnsafe)
    for (const [key, service] of caller.mapUnsafe) {
      if (observed.some((prefix) => key.startsWith(prefix))) services.set(key, service)
    }
    return Context.makeUnsafe(services)
  }

  /** At this time some idle connection may have waited or lived too long. */
  #watch(due: number): void {
    if (due >= this.#wakeAt || this.#isClosed) return
    this.#wakeAt = due
    this.#reaper?.interruptUnsafe()
    const sleep = this.#setup.clock.sleep(Duration.millis(Math.max(Math.ceil(due - this.#now()), 0)))
    this.#reaper = this.#fork(Effect.andThen(sleep, Effect.sync(() => this.#reap())))
  }

  /** Closes what is too old, and of those above `min` what waited too long, the longest first. */
  #reap(): void {
    this.#wakeAt = Infinity
    this.#reaper = undefined
    const { idleTimeout, min } = this.#setup.policy
    const now = this.#now()
    let next = Infinity
    for (const place of this.#idlePlaces()) {
      const { retireAt } = place.member!
      const idleUntil = this.#members.size > min ? place.idleSince + idleTimeout : Infinity
      if (retireAt <= now) this.#drop(place, "age")
      else if (idleUntil <= now) this.#drop(place, "idle")
      else next = Math.min(next, retireAt, idleUntil)
    }
    this.#watch(next)
  }

  /** Places with a connection that is lent to nobody, the one that waited longest first. */
  #idlePlaces(): ReadonlyArray<Place> {
    const places: Array<Place> = []
    for (const { exit } of this.#places.state.items) {
      if (Exit.isSuccess(exit) && !exit.value.isBusy && exit.value.member !== undefined) places.push(exit.value)
    }
    return places.toSorted((a, b) => a.idleSince - b.idleSince)
  }

  #refill(): void {
    if (this.#isFilling || this.#members.size >= this.#setup.policy.min || this.#isClosed) return
    this.#isFilling = true
    this.#fork(this.#fill)
  }

  /** Opens connections up to `min`, one after the other; a server that takes none is not asked again until one closes. */
  readonly #fill: Effect.Effect<void> = Effect.gen({ self: this }, function*() {
    while (!this.#isClosed && this.#members.size < this.#setup.policy.min && this.#line.tryTake()) {
      const lease = Scope.makeUnsafe()
      yield* Scope.addFinalizer(lease, Effect.sync(() => this.#line.release()))
      const place = yield* this.#takeEmpty(lease)
      const isOpened = place !== undefined && (yield* this.#openIn(place))
      yield* Scope.close(lease, Exit.void)
      if (!isOpened) return
    }
  }).pipe(
    Effect.ignoreCause,
    Effect.ensuring(Effect.sync(() => {
      this.#isFilling = false
    }))
  )

  readonly #openIn = Effect.fnUntraced(function*(this: Core, place: Place) {
    place.isBusy = true
    const exit = yield* Effect.exit(this.renew(place))
    place.isBusy = false
    this.#keep(place)
    return Exit.isSuccess(exit)
  })

  /** An empty place, if one is free: it stands behind those with a connection, which are passed over and put back. */
  readonly #takeEmpty = Effect.fnUntraced(function*(this: Core, lease: Scope.Scope) {
    const passed: Array<Scope.Closeable> = []
    let found: Place | undefined
    while (found === undefined && this.#places.state.availableHead !== undefined) {
      const scope = Scope.makeUnsafe()
      const place = yield* Scope.provide(Pool.get(this.#places), scope)
      if (place.member === undefined) {
        yield* Scope.addFinalizerExit(lease, (exit) => Scope.close(scope, exit))
        found = place
      } else passed.unshift(scope)
    }
    for (const scope of passed) yield* Scope.close(scope, Exit.void)
    return found
  })

  /**
   * Ends the pool: who waits fails at once, idle connections say QUIT, those in use when their call is over. What still
   * runs after `drain` loses its connection.
   */
  readonly shutdown = (exit: Exit.Exit<unknown, unknown>): Effect.Effect<void> =>
    Effect.suspend(() => {
      this.#isClosed = true
      this.#exit = exit
      this.#reaper?.interruptUnsafe()
      this.#line.close()
      this.#fork(Scope.close(this.#scope, Exit.void))
      const { drain } = this.#setup.policy
      const quiet = Effect.interruptible(this.#changes.until(() => this.#busy === 0))
      return Number.isFinite(drain) ? Effect.asVoid(Effect.timeoutOption(quiet, drain)) : quiet
    }).pipe(
      Effect.exit,
      Effect.andThen(Effect.suspend(() => {
        Deferred.doneUnsafe(this.#over, Exit.fail(poolErrors.closed()))
        for (const member of this.#members) this.#close(member, "drained", exit)
        return this.#changes.until(() => this.#open === 0)
      })),
      Effect.ignoreCause
    )
}

/** Whether nothing but an interruption by the fiber itself is in a cause. */
const isOwnInterruption = (cause: Cause.Cause<unknown>, id: number): boolean =>
  Cause.hasInterruptsOnly(cause) && Cause.interruptors(cause).has(id)
