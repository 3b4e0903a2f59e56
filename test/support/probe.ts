/**
 * What a test sees of a client from outside: the calls on each duplex, the sleeps that are pending, the fibers alive.
 * It also drives the virtual clock from one sleep to the next, so that elapsed times are exact.
 */
import { assert } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Metric from "effect/Metric"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { type Duplex, SmtpConnector } from "../../src/SmtpConnector.ts"
import * as SmtpServer from "../../src/testing/SmtpServer.ts"

/** One connection as the client used it. */
interface Dialled {
  /** Each call of `write`, its chunks joined. */
  readonly writes: Array<string>
  destroyed: number
  listened: number
}

export interface Settled<A, E> {
  readonly exit: Exit.Exit<A, E>
  /** Milliseconds of the virtual clock. */
  readonly elapsed: number
}

export interface Probe {
  readonly dialled: Array<Dialled>
  /** Called inside each `write`, before the octets go on. */
  onWrite: (text: string) => void
  /** Octets handed over on all connections. */
  readonly handed: () => number
  readonly sleeps: () => number
  readonly fibers: () => number
  /** Lets all that can happen now happen, without moving the clock. */
  readonly quiet: Effect.Effect<void>
  /** Moves the clock by so much, one sleep at a time. */
  readonly advance: (millis: number) => Effect.Effect<void>
  /** Runs an effect to its end, moving the clock from sleep to sleep. */
  readonly settle: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<Settled<A, E>, never, R>
  /** The same for a fiber that runs already. */
  readonly drive: <A, E>(fiber: Fiber.Fiber<A, E>) => Effect.Effect<Settled<A, E>>
}

const binary = new TextDecoder("latin1")

const recorded = (duplex: Duplex, log: Dialled, onWrite: (text: string) => void): Duplex => ({
  secured: duplex.secured,
  localAddress: duplex.localAddress,
  remoteAddress: duplex.remoteAddress,
  upgrade: duplex.upgrade,
  end: duplex.end,
  listen: (listener) => {
    log.listened++
    duplex.listen(listener)
  },
  write: (chunks) => {
    const text = chunks.map((chunk) => binary.decode(chunk)).join("")
    log.writes.push(text)
    onWrite(text)
    return duplex.write(chunks)
  },
  destroy: () => {
    log.destroyed++
    duplex.destroy()
  }
})

/** Macrotasks, so that every microtask and every fiber that is ready has run. */
const quiet: Effect.Effect<void> = Effect.promise(async () => {
  for (let i = 0; i < 4; i++) await new Promise((resolve) => setImmediate(resolve))
})

const makeProbe = Effect.gen(function*() {
  const clock = yield* Clock.Clock
  const dialled: Array<Dialled> = []
  const due = new Map<symbol, number>()
  let fibers = 0

  const sleep = (duration: Duration.Duration): Effect.Effect<void> =>
    Effect.suspend(() => {
      const id = Symbol("sleep")
      due.set(id, clock.currentTimeMillisUnsafe() + Duration.toMillis(duration))
      return Effect.ensuring(clock.sleep(duration), Effect.sync(() => due.delete(id)))
    })
  const counted: Clock.Clock = Object.assign(Object.create(clock) as Clock.Clock, { sleep })
  const now = () => clock.currentTimeMillisUnsafe()
  const adjust = (millis: number) => Effect.andThen(TestClock.adjust(millis), quiet)

  const advance = Effect.fnUntraced(function*(millis: number) {
    const end = now() + millis
    yield* quiet
    while (now() < end) yield* adjust(Math.min(end, ...due.values()) - now())
  })
  const drive = Effect.fnUntraced(function*<A, E>(fiber: Fiber.Fiber<A, E>) {
    const from = now()
    yield* quiet
    while (fiber.pollUnsafe() === undefined) {
      const next = Math.min(...due.values())
      assert.isTrue(Number.isFinite(next), "nothing will ever wake the fiber")
      yield* adjust(Math.max(next - now(), 0))
    }
    return { exit: yield* Fiber.await(fiber), elapsed: now() - from }
  })
  const probe: Probe = {
    dialled,
    onWrite: () => {},
    handed: () => dialled.reduce((sum, { writes }) => sum + writes.join("").length, 0),
    sleeps: () => due.size,
    fibers: () => fibers,
    quiet,
    advance,
    drive,
    settle: (effect) => Effect.flatMap(Effect.forkDetach(effect, { startImmediately: true }), drive)
  }
  const counter = {
    recordFiberStart: () => {
      fibers++
    },
    recordFiberEnd: () => {
      fibers--
    }
  }
  return { probe, counted, counter }
})

/** What a connector's duplexes are asked to do, in `dialled`. */
const recording = (connector: SmtpConnector["Service"], probe: Probe): SmtpConnector["Service"] => ({
  ...connector,
  connect: (target) =>
    Effect.map(connector.connect(target), (duplex) => {
      const log: Dialled = { writes: [], destroyed: 0, listened: 0 }
      probe.dialled.push(log)
      return recorded(duplex, log, (text) => probe.onWrite(text))
    })
})

/**
 * Runs a test in a scope; then closes it and asserts that nothing is left: no sleep pending, no fiber alive.
 */
export const watched = <A, E, R>(
  test: (probe: Probe) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, Exclude<R, Scope.Scope>> =>
  Effect.gen(function*() {
    const { counted, counter, probe } = yield* makeProbe
    yield* TestClock.adjust(0)
    const scope = yield* Scope.make()
    const provided = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
      effect.pipe(
        Effect.provideService(Metric.FiberRuntimeMetrics, counter),
        Effect.provideService(Clock.Clock, counted)
      )
    const exit = yield* Effect.exit(provided(Scope.provide(test(probe), scope)))
    yield* probe.settle(provided(Scope.close(scope, exit)))
    const value = yield* exit
    yield* quiet
    assert.strictEqual(probe.sleeps(), 0, "pending sleeps")
    assert.strictEqual(probe.fibers(), 0, "fibers alive")
    return value
  })

/**
 * The same against a fake server: every connection has to be closed on both sides, too.
 */
export const probed = <A, E>(
  script: SmtpServer.Script,
  test: (
    probe: Probe,
    server: SmtpServer.SmtpServer["Service"]
  ) => Effect.Effect<A, E, Scope.Scope | SmtpConnector>
): Effect.Effect<A, E> =>
  Effect.gen(function*() {
    const connector = yield* SmtpConnector
    const server = yield* SmtpServer.SmtpServer
    let dialled: ReadonlyArray<Dialled> = []
    const value = yield* watched((probe) => {
      dialled = probe.dialled
      return Effect.provideService(test(probe, server), SmtpConnector, recording(connector, probe))
    })
    const open = (yield* server.connections).filter((connection) => connection.open).map(({ id }) => id)
    assert.deepStrictEqual(open, [], "connections that the server sees open")
    assert.deepStrictEqual(dialled.filter(({ destroyed }) => destroyed === 0), [], "sockets that were not freed")
    return value
  }).pipe(Effect.provide(SmtpServer.layer(script)))
