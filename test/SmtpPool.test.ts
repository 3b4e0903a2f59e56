import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Metric from "effect/Metric"
import * as Random from "effect/Random"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as Envelope from "../src/Envelope.ts"
import { Changes } from "../src/internal/changes.ts"
import { resolve } from "../src/internal/options.ts"
import * as poolEngine from "../src/internal/poolEngine.ts"
import { keyOf } from "../src/internal/poolKey.ts"
import * as poolOptions from "../src/internal/poolOptions.ts"
import { mayRenew } from "../src/internal/poolRetry.ts"
import * as Sasl from "../src/Sasl.ts"
import * as SmtpClient from "../src/SmtpClient.ts"
import * as SmtpConnection from "../src/SmtpConnection.ts"
import type * as SmtpConnector from "../src/SmtpConnector.ts"
import * as SmtpError from "../src/SmtpError.ts"
import * as SmtpPool from "../src/SmtpPool.ts"
import { SmtpServer } from "../src/testing/index.ts"
import { probed } from "./support/probe.ts"

const envelope: Envelope.Input = { from: "ann@me.test", to: "bob@mx.test" }
/** With DATA the end of a message is not out before the replies to MAIL and RCPT are in. */
const options = (pool: SmtpPool.Options = {}): SmtpPool.PooledOptions => ({
  host: "mx.test",
  name: "me.test",
  tls: "off",
  chunking: false,
  pool
})

type Server = SmtpServer.SmtpServer["Service"]

const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkDetach(effect, { startImmediately: true })

const ids = (server: Server) => Effect.map(server.connections, (all) => all.map(({ id }) => id))
const open = (server: Server) =>
  Effect.map(server.connections, (all) => all.flatMap(({ id, open }) => open ? [id] : []))
const texts = (server: Server) => Effect.map(server.received, (all) => all.map(({ text }) => text.trim()))
const over = (server: Server) => Effect.map(server.received, (all) => all.map(({ connection }) => connection))
const verbs = (server: Server, connection?: number) =>
  Effect.map(
    server.transcript,
    (lines) =>
      lines.filter((line) => line.from === "client" && (connection === undefined || line.connection === connection))
        .map(({ text }) => text.split(" ", 1)[0])
  )

const errorOf = (exit: Exit.Exit<unknown, unknown>): SmtpError.SmtpError =>
  Exit.isFailure(exit)
    ? SmtpError.fromCause(exit.cause) ?? assert.fail(Cause.pretty(exit.cause))
    : assert.fail("it succeeded")

/** A pool of its own scope, to close it in the middle of a test. */
const closable = Effect.fnUntraced(function*(given: SmtpPool.PooledOptions) {
  const scope = yield* Scope.make()
  const pool = yield* Scope.provide(SmtpPool.make(given), scope)
  return { pool, close: (exit: Exit.Exit<unknown, unknown> = Exit.void) => Scope.close(scope, exit) }
})

const mailsOf = (count: number, size = count) =>
  Stream.fromIterable(Array.from({ length: count }, (_, n) => ({ envelope, message: `mail ${n}` })), {
    chunkSize: size
  })

const shown = (results: ReadonlyArray<{ readonly _tag: string; readonly failure?: unknown }>) =>
  results.map((result) => result._tag === "Success" ? "sent" : (result.failure as { readonly _tag: string })._tag)

const names = (count: number) => Array.from({ length: count }, (_, n) => `mail ${n}`)

const slow = (millis: number, connection?: number) => ({
  faults: [SmtpServer.at("message", SmtpServer.delay(millis), { occurrence: "every", connection })]
})

describe("sends one after the other", () => {
  it.effect("go over one connection, and nothing is said between them", () =>
    probed({}, (_, server) =>
      Effect.gen(function*() {
        const pool = yield* SmtpPool.make(options())
        for (const n of [1, 2, 3]) yield* pool.send(envelope, `${n}`)
        assert.deepStrictEqual(yield* over(server), [1, 1, 1])
        const one = ["MAIL", "RCPT", "DATA"]
        assert.deepStrictEqual(yield* verbs(server), ["EHLO", ...one, ...one, ...one])
        assert.deepInclude(yield* pool.stats, { size: 1, idle: 1, waiting: 0, opened: 1, reused: 2 })
      })))

  it.effect("go over the connection used last, so that the others can end", () =>
    probed({}, (probe, server) =>
      Effect.gen(function*() {
        const pool = yield* SmtpPool.make(options({ idleTimeout: "30 seconds" }))
        yield* Effect.all([pool.send(envelope, "a"), pool.send(envelope, "b")], { concurrency: "unbounded" })
        for (let i = 0; i < 4; i++) {
          yield* probe.advance(10_000)
          yield* pool.send(envelope, "c")
        }
        assert.strictEqual(new Set((yield* over(server)).slice(2)).size, 1)
        assert.lengthOf(yield* open(server), 1)
      })))
})

describe("sends at the same time", () => {
  it.effect("have a connection each, up to max; the others wait, first come first served", () =>
    probed(slow(1000), (probe, server) =>
      Effect.gen(function*() {
        const pool = yield* SmtpPool.make(options({ max: 2 }))
        const fibers = yield* Effect.forEach([1, 2, 3, 4, 5, 6], (n) => fork(pool.send(envelope, `${n}`)))
        yield* probe.quiet
        assert.deepInclude(yield* pool.stats, { size: 2, idle: 0, waiting: 4 })
        for (const fiber of fibers) assert.isTrue(Exit.isSuccess((yield* probe.drive(fiber)).exit))
        assert.deepStrictEqual(yield* texts(server), ["1", "2", "3", "4", "5", "6"])
        assert.deepStrictEqual(yield* ids(server), [1, 2])
        assert.deepInclude(yield* pool.stats, { size: 2, idle: 2, waiting: 0, opened: 2, reused: 4 })
      })))

  it.effect("beyond max and maxWaiting fail at once with a typed error that may be tried again", () =>
    probed(slow(1000), (probe) =>
      Effect.gen(function*() {
        const pool = yield* SmtpPool.make(options({ max: 2, maxWaiting: 1 }))
        const fibers = yield* Effect.forEach([1, 2, 3], (n) => fork(pool.send(envelope, `${n}`)))
        yield* probe.quiet
        for (const call of [pool.send(envelope, "4"), pool.use(() => Effect.void)]) {
          const error = yield* Effect.flip(call)
          assert.deepInclude(error, {
            _tag: "ECONNECTION",
            command: "API",
            attempted: false,
            inDoubt: false,
            field: "options.pool.maxWaiting",
            isTemporary: true
          } as never)
          assert.include((error as SmtpError.SmtpError).message, "options.pool.maxWaiting: 1 call waits for one of 2")
        }
        for (const fiber of fibers) assert.isTrue(Exit.isSuccess((yield* probe.drive(fiber)).exit))
        yield* probe.settle(pool.send(envelope, "5"))
        assert.deepInclude(yield* pool.stats, { refused: 2 })
      })))

  it.effect("with no place to wait fail when all connections are lent", () =>
    probed(slow(1000), (probe) =>
      Effect.gen(function*() {
        const pool = yield* SmtpPool.make(options({ max: 2, maxWaiting: 0 }))
        const fibers = yield* Effect.forEach([1, 2], (n) => fork(pool.send(envelope, `${n}`)))
        const error = yield* Effect.flip(pool.send(envelope, "3"))
        assert.include((error as SmtpError.SmtpError).message, "0 calls wait for one of 2")
        const all = yield* Stream.runCollect(pool.sendAll(Stream.make({ envelope, message: "4" })))
        assert.deepStrictEqual(shown(all), ["ECONNECTION"])
        for (const fiber of fibers) assert.isTrue(Exit.isSuccess((yield* probe.drive(fiber)).exit))
      })))

  it.effect("wait no longer than their total deadline", () =>
    probed(slow(5000), (probe, server) =>
      Effect.gen(function*() {
        const pool = yield* SmtpPool.make({ ...options({ max: 1 }), timeouts: { total: 7000 } })
        const first = yield* fork(pool.send(envelope, "1"))
        yield* probe.quiet
        const second = yield* fork(pool.send(envelope, "2"))
        const third = yield* fork(pool.send(envelope, "3"))
        assert.isTrue(Exit.isSuccess((yield* probe.drive(first)).exit))
        const { exit } = yield* probe.drive(second)
        const waiting = errorOf((yield* probe.drive(third)).exit)
        // It got the connection after 5 seconds: its dot was said, and half a second more was waited.
        assert.deepInclude(errorOf(exit), { _tag: "ETIMEDOUT", timeout: "total", inDoubt: true } as never)
        assert.deepInclude(waiting, {
          _tag: "ETIMEDOUT",
          timeout: "total",
          command: "API",
          attempted: false,
          inDoubt: false
        } as never)
        assert.deepStrictEqual(yield* verbs(server), ["EHLO", "MAIL", "RCPT", "DATA", "MAIL", "RCPT", "DATA"])
      })))

  it.effect("time out in the dial, too", () =>
    probed({ faults: [SmtpServer.at("ehlo", SmtpServer.silence)] }, (probe) =>
      Effect.gen(function*() {
        const pool = yield* SmtpPool.make({ ...options({ max: 1 }), timeouts: { total: 7000 } })
        const { elapsed, exit } = yield* probe.settle(pool.send(envelope, "1"))
        assert.strictEqual(elapsed, 7000)
        assert.deepInclude(errorOf(exit), { _tag: "ETIMEDOUT", timeout: "total", command: "CONN" } as never)
      })))
})

describe("who waits for a connection", () => {
  const late = {
    _tag: "ECONNECTION",
    command: "API",
    attempted: false,
    inDoubt: false,
    field: "options.pool.acquireTimeout",
    isTemporary: true
  }
  const isLate = (exit: Exit.Exit<unknown, unknown>) =>
    Exit.isFailure(exit) && SmtpError.fromCause(exit.cause)?.field === late.field
  const holdFor = (pool: SmtpPool.SmtpPool, millis: number) => fork(pool.use(() => Effect.sleep(millis)))

  it.effect("gives up after acquireTimeout, to the millisecond, each by its own time", () =>
    probed({}, (probe, server) =>
      Effect.gen(function*() {
        const pool = yield* SmtpPool.make(options({ max: 1, acquireTimeout: "90 seconds" }))
        const holding = yield* holdFor(pool, 1_000_000)
        const one = yield* fork(pool.send(envelope, "1"))
        yield* probe.advance(500)
        const two = yield* fork(pool.use(() => Effect.void))
        yield* probe.advance(7)
        const mails = yield* fork(Stream.runCollect(pool.sendAll(Stream.make({ envelope, message: "3" }))))
        yield* probe.advance(89_492)
        assert.strictEqual(one.pollUnsafe(), undefined)
        assert.deepInclude(yield* pool.stats, { waiting: 3, refused: 0 })
        const first = yield* probe.drive(one)
        assert.strictEqual(first.elapsed, 1)
        assert.deepInclude(errorOf(first.exit), late as never)
        assert.strictEqual(
          errorOf(first.exit).message,
          "options.pool.acquireTimeout: no connection was free for 1m 30s; raise max or acquireTimeout, and call the " +
            "client nowhere inside its own `use`"
        )
        const second = yield* probe.drive(two)
        assert.strictEqual(second.elapsed, 500)
        assert.deepInclude(errorOf(second.exit), late as never)
        const third = yield* probe.drive(mails)
        assert.strictEqual(third.elapsed, 7)
        const results = Exit.isSuccess(third.exit) ? third.exit.value : assert.fail("the stream failed")
        assert.deepInclude(results.map((result) => result._tag === "Failure" && result.failure)[0], late as never)
        assert.deepInclude(yield* pool.stats, { size: 1, idle: 0, waiting: 0, opened: 1 })
        yield* Fiber.interrupt(holding)
        assert.deepStrictEqual(yield* texts(server), [])
      })))

  it.effect("inside its own `use` ends in the error after 5 minutes, and the connection goes on", () =>
    probed({}, (probe, server) =>
      Effect.gen(function*() {
        const client = yield* SmtpClient.make(options({ max: 2 }))
        const nested = (n: number) =>
          client.use((connection) =>
            Effect.andThen(
              Effect.flip(client.send(envelope, "nested")),
              (error) => Effect.as(connection.send(envelope, `${n}`), error)
            )
          )
        const { elapsed, exit } = yield* probe.settle(Effect.all([nested(1), nested(2)], { concurrency: "unbounded" }))
        assert.strictEqual(elapsed, 300_000)
        const errors = Exit.isSuccess(exit) ? exit.value : assert.fail(Cause.pretty(exit.cause))
        for (const error of errors) assert.deepInclude(error, late as never)
        yield* client.send(envelope, "3")
        assert.sameMembers([...yield* texts(server)], ["1", "2", "3"])
        assert.deepStrictEqual(yield* ids(server), [1, 2])
      })))

  it.effect("waits for ever if acquireTimeout is infinite, and takes no timer for it", () =>
    probed({}, (probe, server) =>
      Effect.gen(function*() {
        const pool = yield* SmtpPool.make(options({ max: 1, acquireTimeout: "Infinity", idleTimeout: "Infinity" }))
        const hour = 3_600_000
        const holding = yield* holdFor(pool, 100 * hour)
        yield* probe.quiet
        const before = probe.sleeps()
        const one = yield* fork(pool.send(envelope, "1"))
        yield* probe.quiet
        assert.strictEqual(probe.sleeps(), before)
        assert.strictEqual((yield* probe.drive(one)).elapsed, 100 * hour)
        assert.deepStrictEqual(yield* texts(server), ["1"])
        yield* Fiber.join(holding)
      })))

  it.effect("is let wait for a dial and an answer as long as they take", () =>
    probed({
      faults: [
        SmtpServer.at("greeting", SmtpServer.delay(20_000)),
        SmtpServer.at("message", SmtpServer.delay(30_000), { occurrence: "every" })
      ]
    }, (probe) =>
      Effect.gen(function*() {
        const pool = yield* SmtpPool.make(options({ acquireTimeout: "1 second" }))
        const { elapsed, exit } = yield* probe.settle(pool.send(envelope, "1"))
        assert.deepStrictEqual([elapsed, exit._tag], [50_000, "Success"])
      })))

  it.effect("and gave up is passed over: the others come in their order, and there is room for one more", () =>
    probed({}, (probe, server) =>
      Effect.gen(function*() {
        const pool = yield* SmtpPool.make(options({ max: 1, maxWaiting: 3, acquireTimeout: 1000 }))
        const holding = yield* holdFor(pool, 1500)
        const lost = yield* fork(pool.send(envelope, "lost"))
        yield* probe.advance(600)
        const fibers = yield* Effect.forEach(["1", "2"], (text) => fork(pool.send(envelope, text)))
        yield* probe.quiet
        assert.deepInclude(yield* Effect.flip(pool.send(envelope, "4")), { field: "options.pool.maxWaiting" } as never)
        yield* probe.advance(400)
        assert.isTrue(isLate((yield* probe.drive(lost)).exit))
        const last = yield* fork(pool.send(envelope, "3"))
        for (const fiber of [...fibers, last]) assert.isTrue(Exit.isSuccess((yield* probe.drive(fiber)).exit))
        assert.deepStrictEqual(yield* texts(server), ["1", "2", "3"])
        yield* Fiber.join(holding)
      })))

  /** All of it happens 1000 ms after the waiters came, in this order. */
  const moments: ReadonlyArray<ReadonlyArray<"arrival" | "timeout" | "interruption">> = [
    ["arrival", "timeout"],
    ["timeout", "arrival"],
    ["arrival", "timeout", "interruption"],
    ["arrival", "interruption", "timeout"],
    ["timeout", "arrival", "interruption"],
    ["timeout", "interruption", "arrival"],
    ["interruption", "arrival", "timeout"],
    ["interruption", "timeout", "arrival"]
  ]
  for (const order of moments) {
    for (const waiters of [1, 2, 3]) {
      it.effect(`loses nothing when these meet: ${order.join(", ")}; ${waiters} wait`, () =>
        probed({}, (probe, server) =>
          Effect.gen(function*() {
            const pool = yield* SmtpPool.make(options({ max: 1, acquireTimeout: 1000 }))
            const free = Latch.makeUnsafe(false)
            const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
            const holding = yield* fork(pool.use(() => free.await))
            yield* probe.quiet
            for (const moment of order) {
              if (moment === "timeout") {
                for (let n = 0; n < waiters; n++) fibers.push(yield* fork(pool.send(envelope, `${n}`)))
              } else {
                const then = moment === "arrival" ? free.open : Effect.suspend(() => Fiber.interrupt(fibers[0]!))
                yield* fork(Effect.andThen(Effect.sleep(1000), then))
              }
              yield* probe.quiet
            }
            yield* probe.advance(1000)
            yield* Fiber.join(holding)
            const exits = yield* Effect.forEach(fibers, (fiber) => Effect.map(probe.drive(fiber), ({ exit }) => exit))
            const sent = exits.filter(Exit.isSuccess).length
            assert.lengthOf(yield* server.received, sent)
            for (const exit of exits) {
              const isInterrupted = Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)
              assert.isTrue(Exit.isSuccess(exit) || isLate(exit) || (isInterrupted && order.includes("interruption")))
            }
            assert.deepInclude(yield* pool.stats, { size: 1, idle: 1, waiting: 0, opened: 1 })
            const { elapsed, exit } = yield* probe.settle(pool.send(envelope, "next"))
            assert.deepStrictEqual([elapsed, exit._tag], [0, "Success"])
            assert.deepInclude(yield* pool.stats, { size: 1, idle: 1, opened: 1 })
          })))
    }
  }

  it.effect("passes it on when it is interrupted just as it gets one", () =>
    probed({}, (probe, server) =>
      Effect.gen(function*() {
        const pool = yield* SmtpPool.make(options({ max: 1 }))
        const holding = yield* fork(pool.use(() => Effect.never))
        const [victim, next] = [yield* fork(pool.send(envelope, "1")), yield* fork(pool.send(envelope, "2"))]
        yield* probe.quiet
        yield* Effect.sync(() => {
          holding.interruptUnsafe()
          victim.interruptUnsafe()
        })
        const { exit } = yield* probe.drive(victim)
        assert.isTrue(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
        assert.deepInclude(yield* probe.drive(next), { elapsed: 0 })
        yield* pool.send(envelope, "3")
        assert.deepStrictEqual(yield* texts(server), ["2", "3"])
      })))

  it.effect("is one of many that are done at once", () =>
    probed({}, (probe) =>
      Effect.gen(function*() {
        const pool = yield* SmtpPool.make(options({ max: 1, maxWaiting: Infinity, maxMessages: Infinity }))
        const holding = yield* holdFor(pool, 1000)
        const calls = Effect.forEach(Array.from({ length: 20_000 }), () => pool.use(() => Effect.void), {
          concurrency: "unbounded",
          discard: true
        })
        const calling = yield* fork(calls)
        yield* probe.advance(1000)
        yield* Fiber.join(calling)
        assert.deepInclude(yield* pool.stats, { waiting: 0, idle: 1, opened: 1, reused: 20_000 })
        yield* Fiber.join(holding)
      })))

  it.effect("does so alone: who finds a connection free starts no fiber", () =>
    Effect.gen(function*() {
      let started = 0
      const counter = { recordFiberStart: () => void started++, recordFiberEnd: () => {} }
      yield* probed({}, () =>
        Effect.gen(function*() {
          const pool = yield* SmtpPool.make(options())
          yield* pool.use(() => Effect.void)
          const before = started
          yield* pool.use(() => Effect.void)
          assert.strictEqual(started - before, 0)
          yield* fork(Effect.void)
          assert.strictEqual(started - before, 1)
        }).pipe(Effect.provideService(Metric.FiberRuntimeMetrics, counter)))
    }))

  it.effect("beside the dial of `min` waits for it, and may give up meanwhile", () =>
    probed(
      { faults: [SmtpServer.at("greeting", SmtpServer.delay(10_000), { connection: 1 })] },
      (probe) =>
        Effect.gen(function*() {
          const pool = yield* SmtpPool.make(options({ max: 1, min: 1, acquireTimeout: "6 seconds" }))
          yield* probe.quiet
          const early = yield* fork(pool.send(envelope, "1"))
          yield* probe.advance(5000)
          const next = yield* fork(pool.send(envelope, "2"))
          const gone = yield* probe.drive(early)
          assert.strictEqual(gone.elapsed, 1000)
          assert.isTrue(isLate(gone.exit))
          const { elapsed, exit } = yield* probe.drive(next)
          assert.deepStrictEqual([elapsed, exit._tag], [4000, "Success"])
          assert.deepInclude(yield* pool.stats, { size: 1, idle: 1, opened: 1, reused: 1 })
        })
    ))
})

describe("a connection", () => {
  it.effect("says QUIT when it was idle for idleTimeout, and not before", () =>
    probed({}, (probe, server) =>
      Effect.gen(function*() {
        const pool = yield* SmtpPool.make(options({ idleTimeout: "30 seconds" }))
        yield* pool.send(envelope, "1")
        yield* probe.advance(20_000)
        yield* pool.send(envelope, "2")
        yield* probe.advance(29_999)
        assert.deepStrictEqual(yield* open(server), [1])
        yield* probe.advance(1)
        assert.deepStrictEqual(yield* open(server), [])
        assert.strictEqual((yield* verbs(server)).at(-1), "QUIT")
        assert.deepInclude(yield* pool.stats, { size: 0, idle: 0, closed: 1 })
        yield* pool.send(envelope, "3")
        assert.deepStrictEqual(yield* over(server), [1, 1, 2])
      })))

  it.effect("is kept for ever with an infinite idleTimeout and maxAge", () =>
    probed({}, (probe, server) =>
      Effect.gen(function*() {
        const pool = yield* SmtpPool.make({
          ...options({ idleTimeout: Infinity, maxAge: Infinity, drain: Infinity }),
          timeouts: { idle: Infinity }
        })
        yield* pool.send(envelope, "1")
        // The deadline of a reply that has come is slept out, and then nobody waits for anything.
        yield* probe.advance(600_000)
        assert.strictEqual(probe.sleeps(), 0)
        yield* probe.advance(1e9)
        yield* pool.send(envelope, "2")
        assert.deepStrictEqual(yield* over(server), [1, 1])
      })))

  it.effect("takes maxMessages messages, refused ones too, and says QUIT beside the next send", () =>
    probed(
      { faults: [SmtpServer.at("rcpt", SmtpServer.answer(550, "no"), { occurrence: 2, connection: 1 })] },
      (probe, server) =>
        Effect.gen(function*() {
          const pool = yield* SmtpPool.make(options({ maxMessages: 3 }))
          for (let n = 1; n <= 7; n++) yield* Effect.exit(pool.send(envelope, `${n}`))
          yield* probe.quiet
          assert.deepStrictEqual(yield* over(server), [1, 1, 2, 2, 2, 3])
          assert.strictEqual((yield* verbs(server, 1)).at(-1), "QUIT")
          assert.deepStrictEqual(yield* open(server), [3])
        })
    ))

  it.effect("that says QUIT counts still: there are never more than max", () =>
    probed({ faults: [SmtpServer.at("quit", SmtpServer.silence)] }, (probe, server) =>
      Effect.gen(function*() {
        const pool = yield* SmtpPool.make(options({ max: 1, maxMessages: 1 }))
        const first = yield* probe.settle(pool.send(envelope, "1"))
        assert.strictEqual(first.elapsed, 0)
        const second = yield* probe.settle(pool.send(envelope, "2"))
        // The deadline of QUIT.
        assert.strictEqual(second.elapsed, 2000)
        assert.deepStrictEqual(yield* ids(server), [1, 2])
      })))

  const chance = (value: number) =>
    Effect.provideService(Random.Random, { nextDoubleUnsafe: () => value, nextIntUnsafe: () => 0 })
  for (const [value, age] of [[0, 600_000], [0.5, 540_000], [1, 480_000]] as const) {
    it.effect(`ends between 80 and 100 % of maxAge: after ${age} ms of 10 minutes`, () =>
      probed({}, (probe, server) =>
        Effect.gen(function*() {
          const pool = yield* SmtpPool.make({
            ...options({ min: 1, maxAge: "10 minutes" }),
            timeouts: { idle: "1 hour" }
          })
          yield* probe.quiet
          yield* pool.send(envelope, "1")
          yield* probe.advance(age - 1)
          assert.deepStrictEqual(yield* open(server), [1])
          yield* probe.advance(1)
          assert.deepStrictEqual(yield* open(server), [2])
          assert.strictEqual((yield* verbs(server, 1)).at(-1), "QUIT")
        }).pipe(chance(value))))
  }

  it.effect("grows older than maxAge only to the end of its message", () =>
    probed(slow(5000), (probe, server) =>
      Effect.gen(function*() {
        const pool = yield* SmtpPool.make(options({ maxAge: "3 seconds" }))
        assert.isTrue(Exit.isSuccess((yield* probe.settle(pool.send(envelope, "1"))).exit))
        yield* probe.quiet
        assert.deepStrictEqual(yield* open(server), [])
        assert.strictEqual((yield* verbs(server)).at(-1), "QUIT")
      }).pipe(chance(0))))

  const ends: { readonly [name: string]: SmtpServer.Fault } = {
    "a 421": SmtpServer.answer(421, "4.4.2 idle for too long"),
    "a FIN": SmtpServer.drop,
    "a reset": SmtpServer.reset
  }
  for (const [name, fault] of Object.entries(ends)) {
    it.effect(`that ${name} came on while it was idle is not lent, and nothing is asked of it`, () =>
      probed({ faults: [SmtpServer.at("idle", fault, { connection: 1 })] }, (probe, server) =>
        Effect.gen(function*() {
          const pool = yield* SmtpPool.make(options())
          yield* pool.send(envelope, "1")
          yield* probe.quiet
          yield* pool.send(envelope, "2")
          assert.deepStrictEqual(yield* over(server), [1, 2])
          assert.deepStrictEqual(yield* verbs(server, 1), ["EHLO", "MAIL", "RCPT", "DATA"])
          assert.deepInclude(yield* pool.stats, { size: 1, opened: 2, closed: 1, retried: 0 })
        })))
  }

  it.effect("that died while idle is passed over for one that lives", () =>
    probed({
      faults: [
        SmtpServer.at("message", SmtpServer.delay(10), { connection: 2 }),
        SmtpServer.at("idle", SmtpServer.delay(1000), { connection: 2 }),
        SmtpServer.at("idle", SmtpServer.drop, { connection: 2 })
      ]
    }, (probe, server) =>
      Effect.gen(function*() {
        const pool = yield* SmtpPool.make(options())
        const both = [pool.send(envelope, "1"), pool.send(envelope, "2")]
        yield* probe.settle(Effect.all(both, { concurrency: "unbounded" }))
        yield* probe.advance(2000)
        assert.deepStrictEqual(yield* open(server), [1])
        yield* pool.send(envelope, "3")
        assert.deepStrictEqual(yield* over(server), [1, 2, 1])
      })))
})

describe("min", () => {
  it.effect("connections are opened at once and kept when they are idle", () =>
    probed({}, (probe, server) =>
      Effect.gen(function*() {
        const pool = yield* SmtpPool.make(options({ min: 2, max: 4, idleTimeout: "10 seconds" }))
        yield* probe.quiet
        assert.deepStrictEqual(yield* open(server), [1, 2])
        yield* Effect.forEach([1, 2, 3, 4], (n) => pool.send(envelope, `${n}`), { concurrency: "unbounded" })
        assert.lengthOf(yield* open(server), 4)
        yield* probe.advance(60_000)
        assert.lengthOf(yield* open(server), 2)
        assert.deepInclude(yield* pool.stats, { size: 2, idle: 2, opened: 4, closed: 2 })
      })))

  it.effect("connections are opened again after a loss, beside those that are lent", () =>
    probed(
      { faults: [SmtpServer.at("message", SmtpServer.drop, { connection: 2 })] },
      (probe, server) =>
        Effect.gen(function*() {
          const pool = yield* SmtpPool.make(options({ min: 2, max: 4 }))
          yield* probe.quiet
          const both = [1, 2].map((n) => Effect.exit(pool.send(envelope, `${n}`)))
          const exits = yield* Effect.all(both, { concurrency: "unbounded" })
          assert.strictEqual(exits.filter(Exit.isFailure).length, 1)
          yield* probe.quiet
          assert.deepStrictEqual(yield* open(server), [1, 3])
          assert.deepInclude(yield* pool.stats, { size: 2, idle: 2 })
        })
    ))

  it.effect("connections that the server does not take are no failure, and a send dials itself", () =>
    probed({ faults: [SmtpServer.at("connect", SmtpServer.reset)] }, (probe, server) =>
      Effect.gen(function*() {
        const pool = yield* SmtpPool.make(options({ min: 1 }))
        yield* probe.quiet
        assert.deepStrictEqual(yield* ids(server), [])
        yield* pool.send(envelope, "1")
        assert.deepStrictEqual(yield* open(server), [1])
      })))

  it.effect("connections that are still dialled when the scope closes are given up", () =>
    probed({ faults: [SmtpServer.at("greeting", SmtpServer.silence)] }, (probe, server) =>
      Effect.gen(function*() {
        const { close } = yield* closable(options({ min: 1 }))
        yield* probe.quiet
        const { elapsed } = yield* probe.settle(close())
        assert.strictEqual(elapsed, 0)
        assert.deepStrictEqual(yield* open(server), [])
      })))
})

describe("a message whose connection goes away under it", () => {
  /** What the message is, and how often it was read. */
  const sources: { readonly [name: string]: () => SmtpConnection.Message } = {
    "a string": () => "hello\r\n",
    octets: () => new TextEncoder().encode("hello\r\n"),
    "a stream": () => Stream.make("hello\r\n")
  }
  const losses: { readonly [name: string]: SmtpServer.Fault } = {
    "a FIN": SmtpServer.drop,
    "a reset": SmtpServer.reset,
    "a 421": SmtpServer.answer(421, "4.3.2 going down")
  }
  /** Where, on which connections a message is sent again: not where the terminator is out, nor where the stream is pulled. */
  const steps: ReadonlyArray<readonly [SmtpServer.Step, (name: string, kind: string) => boolean]> = [
    ["mail", () => true],
    ["rcpt", () => true],
    ["data", () => true],
    ["message", () => false]
  ]
  for (const [step, isAgain] of steps) {
    for (const [how, fault] of Object.entries(losses)) {
      for (const [kind, message] of Object.entries(sources)) {
        const again = isAgain(how, kind)
        it.effect(`by ${how} at ${step} on a kept connection: ${kind} is ${again ? "" : "not "}sent again`, () =>
          probed(
            { faults: [SmtpServer.at(step, fault, { connection: 1, occurrence: 2 })] },
            (probe, server) =>
              Effect.gen(function*() {
                const pool = yield* SmtpPool.make(options())
                yield* pool.send(envelope, "first")
                const exit = yield* Effect.exit(pool.send(envelope, message()))
                yield* probe.quiet
                assert.strictEqual(Exit.isSuccess(exit), again)
                if (again) assert.deepStrictEqual(yield* texts(server), ["first", "hello"])
                assert.deepStrictEqual(yield* ids(server), again ? [1, 2] : [1])
                assert.deepInclude(yield* pool.stats, { retried: again ? 1 : 0 })
              })
          ))

        it.effect(`by ${how} at ${step} on a connection dialled for it: ${kind} is not sent again`, () =>
          probed({ faults: [SmtpServer.at(step, fault, { connection: 1 })] }, (_, server) =>
            Effect.gen(function*() {
              const pool = yield* SmtpPool.make(options())
              const error = errorOf(yield* Effect.exit(pool.send(envelope, message())))
              assert.include(["ECONNECTION", "ESOCKET"], error._tag)
              assert.deepStrictEqual(yield* ids(server), [1])
            })))
      }
    }
  }

  it.effect("in its body is sent again if it is whole, and not if it is a stream", () =>
    probed({
      faults: [
        SmtpServer.at("body", SmtpServer.drop, { occurrence: 2, connection: 1 }),
        SmtpServer.at("body", SmtpServer.drop, { occurrence: 2, connection: 2 })
      ],
      highWaterMark: 4096
    }, (_, server) =>
      Effect.gen(function*() {
        const pool = yield* SmtpPool.make(options())
        const big = "0123456789abcde\r\n".repeat(20_000)
        let reads = 0
        const stream = Stream.suspend(() => {
          reads++
          return Stream.fromIterable(Array.from({ length: 20 }, () => big.slice(0, 17_000)), { chunkSize: 1 })
        })
        yield* pool.send(envelope, "first")
        yield* pool.send(envelope, big)
        assert.deepStrictEqual(yield* over(server), [1, 2])
        const error = errorOf(yield* Effect.exit(pool.send(envelope, stream)))
        assert.deepInclude(error, { _tag: "ECONNECTION", inDoubt: false, handedOver: false } as never)
        assert.deepStrictEqual([reads, (yield* ids(server)).length], [1, 2])
      })))

  it.effect("is sent again on a connection dialled for it, not on another that is idle", () =>
    probed(
      { faults: [SmtpServer.at("mail", SmtpServer.drop, { occurrence: 2 })] },
      (probe, server) =>
        Effect.gen(function*() {
          const pool = yield* SmtpPool.make(options())
          yield* Effect.forEach([1, 2, 3], (n) => pool.send(envelope, `${n}`), { concurrency: "unbounded" })
          assert.deepInclude(yield* pool.stats, { idle: 3 })
          yield* pool.send(envelope, "4")
          assert.deepStrictEqual((yield* over(server)).slice(3), [4])
          yield* probe.quiet
          assert.lengthOf(yield* open(server), 3)
        })
    ))

  it.effect("is sent again once: what the fresh connection says is the end", () =>
    probed({
      faults: [
        SmtpServer.at("mail", SmtpServer.drop, { connection: 1, occurrence: 2 }),
        SmtpServer.at("mail", SmtpServer.reset, { connection: 2 })
      ]
    }, (_, server) =>
      Effect.gen(function*() {
        const pool = yield* SmtpPool.make(options())
        yield* pool.send(envelope, "1")
        const error = errorOf(yield* Effect.exit(pool.send(envelope, "2")))
        assert.strictEqual(error._tag, "ESOCKET")
        assert.deepStrictEqual(yield* ids(server), [1, 2])
        assert.deepInclude(yield* pool.stats, { retried: 1, size: 0 })
      })))

  it.effect("fails as the dial does when there is no fresh connection", () =>
    probed({
      faults: [
        SmtpServer.at("mail", SmtpServer.drop, { connection: 1, occurrence: 2 }),
        SmtpServer.at("connect", SmtpServer.reset, { connection: 2 })
      ]
    }, () =>
      Effect.gen(function*() {
        const pool = yield* SmtpPool.make(options())
        yield* pool.send(envelope, "1")
        const error = errorOf(yield* Effect.exit(pool.send(envelope, "2")))
        assert.deepInclude(error, { _tag: "ESOCKET", command: "CONN", inDoubt: false } as never)
        yield* pool.send(envelope, "3")
      })))

  for (const [idle, again] of [[4000, false], [6000, true]] as const) {
    it.effect(`with BDAT, ${idle} ms after the last reply, is ${again ? "sent again" : "in doubt"}`, () =>
      probed(
        { faults: [SmtpServer.at("mail", SmtpServer.drop, { occurrence: 2 })] },
        (probe, server) =>
          Effect.gen(function*() {
            const pool = yield* SmtpPool.make({ ...options(), chunking: true })
            yield* pool.send(envelope, "1")
            yield* probe.advance(idle)
            const exit = yield* Effect.exit(pool.send(envelope, "2"))
            assert.deepStrictEqual(yield* ids(server), again ? [1, 2] : [1])
            if (again) return assert.isTrue(Exit.isSuccess(exit))
            assert.deepInclude(errorOf(exit), { _tag: "ECONNECTION", inDoubt: true, handedOver: true } as never)
          })
      ))
  }

  it.effect("is sent again although its stream was pulled, if that may be read twice", () =>
    probed(
      { faults: [SmtpServer.at("body", SmtpServer.drop, { connection: 1, occurrence: 2 })], highWaterMark: 4096 },
      (
        _,
        server
      ) =>
        Effect.gen(function*() {
          const pool = yield* SmtpPool.make(options())
          const chunk = "0123456789abcde\r\n".repeat(1000)
          const stream = Stream.fromIterable(Array.from({ length: 20 }, () => chunk), { chunkSize: 1 })
          yield* pool.send(envelope, "first")
          yield* pool.send(envelope, SmtpConnection.replayable(stream))
          assert.deepStrictEqual(yield* over(server), [1, 2])
        })
    ))

  const others: ReadonlyArray<readonly [string, SmtpServer.Step, SmtpServer.Fault, SmtpError.Tag]> = [
    ["a refusal for now", "mail", SmtpServer.answer(451, "busy"), "EENVELOPE"],
    ["a refusal for good", "rcpt", SmtpServer.answer(550, "no"), "EENVELOPE"],
    ["a refusal of the message", "message", SmtpServer.answer(452, "full"), "EMESSAGE"],
    ["a deadline", "mail", SmtpServer.silence, "ETIMEDOUT"],
    ["garbage", "mail", SmtpServer.garbage(), "EPROTOCOL"]
  ]
  for (const [name, step, fault, tag] of others) {
    it.effect(`is not sent again after ${name}`, () =>
      probed({ faults: [SmtpServer.at(step, fault, { occurrence: 2 })] }, (probe, server) =>
        Effect.gen(function*() {
          const pool = yield* SmtpPool.make(options({ idleTimeout: "1 hour" }))
          yield* pool.send(envelope, "1")
          const { exit } = yield* probe.settle(pool.send(envelope, "2"))
          assert.strictEqual(errorOf(exit)._tag, tag)
          assert.deepStrictEqual(yield* ids(server), [1])
          assert.deepInclude(yield* pool.stats, { retried: 0 })
        })))
  }

  const base = { command: "MAIL FROM", message: "x" }
  const pulled = { isPulled: true }
  const rows: ReadonlyArray<readonly [string, unknown, { readonly isPulled: boolean }, boolean]> = [
    ["a FIN", new SmtpError.ECONNECTION(base), { isPulled: false }, true],
    ["a reset", new SmtpError.ESOCKET(base), { isPulled: false }, true],
    ["a pulled stream", new SmtpError.ECONNECTION(base), pulled, false],
    ["in doubt", new SmtpError.ECONNECTION({ ...base, inDoubt: true }), { isPulled: false }, false],
    ["handed over", new SmtpError.ECONNECTION({ ...base, handedOver: true }), { isPulled: false }, false],
    ["an alert", new SmtpError.ESOCKET({ ...base, temporary: false }), { isPulled: false }, false],
    ["a deadline", new SmtpError.ETIMEDOUT({ ...base, timeout: "command" }), { isPulled: false }, false],
    ["bad grammar", new SmtpError.EPROTOCOL(base), { isPulled: false }, false],
    ["a refusal", new SmtpError.EENVELOPE({ ...base, temporary: true }), { isPulled: false }, false],
    ["somebody else's error", { _tag: "ECONNECTION" }, { isPulled: false }, false]
  ]
  for (const [name, error, source, may] of rows) {
    it(`the rule: ${name} ${may ? "may" : "may not"} be sent again`, () => {
      assert.strictEqual(mayRenew(error, source), may)
    })
  }
})

describe("when the scope closes", () => {
  it.effect("idle connections say QUIT, all at once", () =>
    probed({ faults: [SmtpServer.at("quit", SmtpServer.delay(1000))] }, (probe, server) =>
      Effect.gen(function*() {
        const { close, pool } = yield* closable(options())
        yield* Effect.forEach([1, 2, 3], (n) => pool.send(envelope, `${n}`), { concurrency: "unbounded" })
        const { elapsed } = yield* probe.settle(close())
        assert.strictEqual(elapsed, 1000)
        assert.deepStrictEqual((yield* verbs(server)).slice(-3), ["QUIT", "QUIT", "QUIT"])
        assert.deepStrictEqual(yield* open(server), [])
        assert.deepInclude(yield* pool.stats, { size: 0, idle: 0, opened: 3, closed: 3 })
      })))

  it.effect("after an interruption, answers to QUIT are not waited for", () =>
    probed({ faults: [SmtpServer.at("quit", SmtpServer.delay(1000))] }, (probe, server) =>
      Effect.gen(function*() {
        const { close, pool } = yield* closable(options())
        yield* pool.send(envelope, "1")
        const { elapsed } = yield* probe.settle(close(Exit.interrupt(1)))
        assert.strictEqual(elapsed, 0)
        assert.strictEqual((yield* verbs(server)).at(-1), "QUIT")
      })))

  it.effect("sends in flight end, those that wait fail at once, and so does every later call", () =>
    probed(slow(3000), (probe, server) =>
      Effect.gen(function*() {
        const { close, pool } = yield* closable(options({ max: 1 }))
        const flying = yield* fork(pool.send(envelope, "flying"))
        yield* probe.quiet
        const waiting = yield* fork(pool.send(envelope, "waiting"))
        const using = yield* fork(pool.use(() => Effect.void))
        yield* probe.quiet
        const closing = yield* fork(close())
        yield* probe.quiet
        const closed = { _tag: "ECONNECTION", command: "API", attempted: false, inDoubt: false } as never
        for (const fiber of [waiting, using]) {
          assert.deepInclude(errorOf(fiber.pollUnsafe() ?? assert.fail("it waits still")), closed)
        }
        for (const call of [pool.send(envelope, "late"), pool.use(() => Effect.void)]) {
          assert.deepInclude(yield* Effect.flip(call), closed)
        }
        const late = yield* Stream.runCollect(pool.sendAll(Stream.make({ envelope, message: "late" })))
        assert.deepInclude(late.map((result) => result._tag === "Failure" ? result.failure : undefined)[0], closed)
        const { elapsed, exit } = yield* probe.drive(flying)
        assert.deepStrictEqual([elapsed, exit._tag], [3000, "Success"])
        assert.isTrue(Exit.isSuccess((yield* probe.drive(closing)).exit))
        assert.deepStrictEqual(yield* texts(server), ["flying"])
        assert.strictEqual((yield* verbs(server)).at(-1), "QUIT")
      })))

  it.effect("who was given a connection just before fails at once, too", () =>
    probed({}, (probe) =>
      Effect.gen(function*() {
        const { close, pool } = yield* closable(options({ max: 1 }))
        const holding = yield* fork(pool.use(() => Effect.never))
        const next = yield* fork(pool.send(envelope, "1"))
        yield* probe.quiet
        const closing = yield* fork(Effect.suspend(() => {
          holding.interruptUnsafe()
          return close()
        }))
        const { elapsed, exit } = yield* probe.drive(next)
        assert.strictEqual(elapsed, 0)
        assert.include(errorOf(exit).message, "the pool is closed")
        yield* probe.drive(closing)
      })))

  it.effect("a message in flight may still be sent again, on a connection dialled then", () =>
    probed({
      faults: [
        SmtpServer.at("mail", SmtpServer.delay(1000), { connection: 1, occurrence: 2 }),
        SmtpServer.at("mail", SmtpServer.drop, { connection: 1, occurrence: 2 })
      ]
    }, (probe, server) =>
      Effect.gen(function*() {
        const { close, pool } = yield* closable(options())
        yield* pool.send(envelope, "1")
        const second = yield* fork(pool.send(envelope, "2"))
        yield* probe.quiet
        const closing = yield* fork(close())
        assert.isTrue(Exit.isSuccess((yield* probe.drive(second)).exit))
        yield* probe.drive(closing)
        assert.deepStrictEqual(yield* over(server), [1, 2])
        assert.strictEqual((yield* verbs(server, 2)).at(-1), "QUIT")
      })))

  const stuck: ReadonlyArray<readonly [string, SmtpServer.Script, boolean]> = [
    ["MAIL", { faults: [SmtpServer.at("mail", SmtpServer.silence)] }, false],
    ["the dot", { faults: [SmtpServer.at("message", SmtpServer.silence)] }, true]
  ]
  for (const [name, script, inDoubt] of stuck) {
    it.effect(`what has no answer to ${name} within drain fails with a typed error`, () =>
      probed(script, (probe) =>
        Effect.gen(function*() {
          const { close, pool } = yield* closable(options({ drain: "4 seconds", max: 1, maxWaiting: 0 }))
          const flying = yield* fork(pool.send(envelope, "1"))
          yield* probe.quiet
          const closing = yield* fork(close())
          yield* probe.quiet
          assert.include((yield* Effect.flip(pool.send(envelope, "2"))).message, "the pool is closed")
          assert.strictEqual((yield* probe.drive(closing)).elapsed, 4000)
          assert.deepInclude(errorOf((yield* probe.drive(flying)).exit), { _tag: "ECONNECTION", inDoubt } as never)
        })))
  }

  it.effect("what is still dialled after drain fails with a typed error", () =>
    probed({ faults: [SmtpServer.at("greeting", SmtpServer.silence)] }, (probe) =>
      Effect.gen(function*() {
        const { close, pool } = yield* closable(options({ drain: 0 }))
        const flying = yield* fork(pool.send(envelope, "1"))
        yield* probe.quiet
        assert.strictEqual((yield* probe.settle(close())).elapsed, 0)
        assert.deepInclude(
          errorOf((yield* probe.drive(flying)).exit),
          { _tag: "ECONNECTION", command: "API", attempted: false } as never
        )
      })))

  it.effect("a `use` that goes on without its connection holds nothing up after drain", () =>
    probed({}, (probe) =>
      Effect.gen(function*() {
        const { close, pool } = yield* closable(options())
        const using = yield* fork(pool.use(() => Effect.never))
        yield* probe.quiet
        assert.strictEqual((yield* probe.settle(close())).elapsed, 10_000)
        yield* Fiber.interrupt(using)
      })))
})

describe("use", () => {
  it.effect("borrows a kept connection, exclusively, and gives it back", () =>
    probed({}, (probe, server) =>
      Effect.gen(function*() {
        const pool = yield* SmtpPool.make(options({ max: 1 }))
        yield* pool.send(envelope, "1")
        const using = yield* fork(pool.use((connection) =>
          Effect.gen(function*() {
            assert.deepStrictEqual(
              [connection.greeting.code, connection.secure, connection.security._tag, connection.isUsable],
              [220, false, "None", true]
            )
            assert.isTrue(connection.capabilities.pipelining)
            assert.strictEqual(connection.securityReport.verifiedBy, "nothing")
            yield* connection.noop
            yield* connection.reset
            yield* Effect.sleep(1000)
            for (const ask of [connection.vrfy("bob"), connection.expn("list"), connection.help()]) yield* ask
            yield* connection.send(envelope, "2")
            const all = connection.sendAll(Stream.make({ envelope, message: "3" }, { envelope, message: "4" }))
            return (yield* Stream.runCollect(all)).length
          })
        ))
        const next = yield* fork(pool.send(envelope, "5"))
        assert.deepStrictEqual((yield* probe.drive(using)).exit, Exit.succeed(2))
        yield* probe.drive(next)
        assert.deepStrictEqual(yield* texts(server), ["1", "2", "3", "4", "5"])
        assert.deepStrictEqual(yield* ids(server), [1])
      })))

  it.effect("counts its messages towards maxMessages", () =>
    probed({}, (_, server) =>
      Effect.gen(function*() {
        const pool = yield* SmtpPool.make(options({ maxMessages: 4 }))
        const mail = { envelope, message: "x" }
        for (let i = 0; i < 2; i++) {
          yield* pool.use((connection) =>
            Effect.andThen(connection.send(envelope, "x"), Stream.runDrain(connection.sendAll(Stream.make(mail, mail))))
          )
        }
        yield* pool.send(envelope, "x")
        assert.deepStrictEqual(yield* over(server), [1, 1, 1, 1, 1, 1, 2])
      })))

  const spoiling: {
    readonly [name: string]: (connection: SmtpConnection.SmtpConnection) => Effect.Effect<unknown, SmtpError.SmtpError>
  } = {
    "logs in": (connection) => connection.login(Sasl.password({ username: "eve", password: Redacted.make("x") })),
    "says QUIT": (connection) => connection.quit,
    "leaves a command running": (connection) => fork(Effect.exit(connection.send(envelope, Stream.never))),
    "leaves a stream of mails running": (connection) =>
      fork(Effect.exit(Stream.runDrain(connection.sendAll(Stream.never)))),
    "is interrupted in a command": (connection) => Effect.timeoutOption(connection.send(envelope, Stream.never), 1)
  }
  for (const [name, spoil] of Object.entries(spoiling)) {
    it.effect(`that ${name} leaves the connection to nobody`, () =>
      probed({}, (probe, server) =>
        Effect.gen(function*() {
          const pool = yield* SmtpPool.make({ ...options(), allowInsecureAuth: true })
          const { exit } = yield* probe.settle(pool.use(spoil))
          yield* probe.quiet
          assert.deepStrictEqual(yield* open(server), [])
          yield* pool.send(envelope, "next")
          assert.deepStrictEqual((yield* server.received).map(({ connection, username }) => [connection, username]), [
            [2, undefined]
          ])
          if (Exit.isSuccess(exit) && Fiber.isFiber(exit.value)) yield* Fiber.interrupt(exit.value)
        })))
  }

  it.effect("lends nothing beyond its end", () =>
    probed({}, (_, server) =>
      Effect.gen(function*() {
        const pool = yield* SmtpPool.make(options())
        const kept = yield* pool.use(Effect.succeed)
        yield* pool.use(() => Effect.void)
        const before = yield* verbs(server)
        assert.isFalse(kept.isUsable)
        const calls: ReadonlyArray<Effect.Effect<unknown, SmtpError.SmtpError>> = [
          kept.noop,
          kept.reset,
          kept.vrfy("bob"),
          kept.expn("list"),
          kept.help(),
          kept.send(envelope, "x"),
          kept.login(Sasl.external()),
          Effect.flatMap(
            Stream.runCollect(kept.sendAll(Stream.make({ envelope, message: "1" }, { envelope, message: "2" }))),
            (results) => results.length === 1 ? Effect.fromResult(results[0]!) : Effect.die("more than one")
          )
        ]
        for (const call of calls) {
          assert.deepInclude(yield* Effect.flip(call), {
            _tag: "ECONNECTION",
            command: "API",
            attempted: false,
            isTemporary: false
          } as never)
        }
        yield* kept.quit
        yield* pool.send(envelope, "x")
        assert.deepStrictEqual(yield* verbs(server), [...before, "MAIL", "RCPT", "DATA"])
      })))

  it.effect("that throws ends its loan all the same", () =>
    probed({}, () =>
      Effect.gen(function*() {
        const pool = yield* SmtpPool.make(options({ max: 1 }))
        let kept: SmtpConnection.SmtpConnection | undefined
        const exit = yield* Effect.exit(pool.use((connection): Effect.Effect<void> => {
          kept = connection
          throw new Error("mine")
        }))
        assert.isTrue(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
        assert.isFalse(kept?.isUsable)
        yield* pool.send(envelope, "x")
      })))
})

describe("an interruption", () => {
  const moments: ReadonlyArray<readonly [string, SmtpServer.Script, boolean]> = [
    ["in the dial", { faults: [SmtpServer.at("connect", SmtpServer.silence)] }, false],
    ["in the greeting", { faults: [SmtpServer.at("greeting", SmtpServer.silence, { connection: 1 })] }, false],
    ["in EHLO", { faults: [SmtpServer.at("ehlo", SmtpServer.silence, { connection: 1 })] }, false],
    ["in MAIL", { faults: [SmtpServer.at("mail", SmtpServer.silence, { connection: 1 })] }, false],
    ["behind the dot", { faults: [SmtpServer.at("message", SmtpServer.silence, { connection: 1 })] }, false],
    ["while it waits", { faults: [SmtpServer.at("mail", SmtpServer.delay(60_000), { connection: 1 })] }, true]
  ]
  for (const [name, script, waits] of moments) {
    it.effect(`${name} leaks no connection and no place`, () =>
      probed(script, (probe, server) =>
        Effect.gen(function*() {
          const pool = yield* SmtpPool.make(options({ max: 1, maxWaiting: 2 }))
          const first = yield* fork(pool.send(envelope, "1"))
          yield* probe.quiet
          const victims: ReadonlyArray<Fiber.Fiber<unknown, unknown>> = waits
            ? [yield* fork(pool.send(envelope, "2")), yield* fork(pool.use(Effect.succeed))]
            : [first]
          yield* probe.quiet
          for (const victim of victims) {
            yield* fork(Fiber.interrupt(victim))
            const { elapsed, exit } = yield* probe.drive(victim)
            assert.strictEqual(elapsed, name === "behind the dot" ? 500 : 0)
            assert.isTrue(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
          }
          yield* probe.quiet
          if (!waits) assert.deepStrictEqual(yield* open(server), [])
          else yield* probe.drive(first)
          assert.deepInclude(yield* pool.stats, { waiting: 0, size: waits ? 1 : 0, idle: waits ? 1 : 0 })
          for (let i = 0; i < 3; i++) {
            assert.isTrue(Exit.isSuccess((yield* probe.settle(pool.send(envelope, "x"))).exit))
          }
        })))
  }

  it.effect("at any moment, over and over, leaks no connection and no place", () =>
    probed(
      { faults: [SmtpServer.at("mail", SmtpServer.delay(3), { occurrence: "every" })] },
      (probe, server) =>
        Effect.gen(function*() {
          const pool = yield* SmtpPool.make(options({ max: 2, maxMessages: 3, idleTimeout: 5 }))
          for (let round = 0; round < 40; round++) {
            const fibers = yield* Effect.forEach([1, 2, 3, 4, 5], (n) => fork(pool.send(envelope, `${n}`)))
            yield* probe.advance(round % 8)
            yield* fork(
              Effect.forEach(fibers, (fiber, i) => (i + round) % 2 === 0 ? Fiber.interrupt(fiber) : Effect.void)
            )
            for (const fiber of fibers) yield* probe.drive(fiber)
            assert.isAtMost((yield* open(server)).length, 2)
          }
          yield* probe.advance(10)
          assert.deepInclude(yield* pool.stats, { size: 0, idle: 0, waiting: 0 })
        })
    ))
})

describe("sendAll", () => {
  for (const chunk of [1, 7, 200]) {
    it.effect(`spreads over connections and gives the results in the order of the mails: chunks of ${chunk}`, () =>
      probed({
        respond: {
          rcpt: ({ argument }) => argument.includes("bad") ? SmtpServer.reply(550, "no") : undefined
        },
        faults: [SmtpServer.at("mail", SmtpServer.delay(7), { connection: 2, occurrence: "every" })]
      }, (probe, server) =>
        Effect.gen(function*() {
          const pool = yield* SmtpPool.make(options({ max: 3 }))
          const mails = Stream.fromIterable(
            Array.from({ length: 200 }, (_, n) => ({
              envelope: n % 10 === 0 ? { ...envelope, to: "bad@mx.test" } : envelope,
              message: `mail ${n}`
            })),
            { chunkSize: chunk }
          )
          const { exit } = yield* probe.settle(Stream.runCollect(pool.sendAll(mails)))
          const results = Exit.isSuccess(exit) ? exit.value : assert.fail(Cause.pretty(exit.cause))
          assert.deepStrictEqual(
            shown(results),
            Array.from({ length: 200 }, (_, n) => n % 10 === 0 ? "EENVELOPE" : "sent")
          )
          results.forEach((result, n) => {
            if (result._tag === "Success") assert.strictEqual(result.success.messageSize, `mail ${n}\r\n`.length)
          })
          assert.sameMembers([...yield* texts(server)], names(200).filter((_, n) => n % 10 !== 0))
          assert.deepInclude(yield* pool.stats, { waiting: 0 })
          assert.isAtMost((yield* open(server)).length, 3)
          if (chunk === 200) assert.deepStrictEqual([...new Set(yield* over(server))].toSorted(), [1, 2, 3])
        })))
  }

  it.effect("keeps at most 16 mails for each connection in hand", () =>
    probed(slow(1000), (probe) =>
      Effect.gen(function*() {
        const pool = yield* SmtpPool.make(options({ max: 2 }))
        let pulled = 0
        const mails = Stream.fromEffectRepeat(Effect.sync(() => ({ envelope, message: `${pulled++}` })))
        let read = 0
        const reading = yield* fork(Stream.runForEach(Stream.take(pool.sendAll(mails), 50), () =>
          Effect.sync(() => {
            read++
          })))
        while (reading.pollUnsafe() === undefined) {
          yield* probe.advance(500)
          assert.isAtMost(pulled - read, 32)
        }
        assert.strictEqual(read, 50)
      })))

  for (const chunk of [1, 20, 300]) {
    it.effect(`sends no more than those ahead of a consumer that stops: chunks of ${chunk}`, () =>
      probed({}, (probe, server) =>
        Effect.gen(function*() {
          const pool = yield* SmtpPool.make(options({ max: 2 }))
          const results = pool.sendAll(mailsOf(300, chunk))
          assert.strictEqual((yield* probe.settle(Stream.runDrain(Stream.take(results, 1)))).exit._tag, "Success")
          assert.isAtMost((yield* server.received).length, 32)
        })))

    it.effect(`keeps the rest of a chunk back while a consumer is slow: chunks of ${chunk}`, () =>
      probed({}, (probe, server) =>
        Effect.gen(function*() {
          const pool = yield* SmtpPool.make(options({ max: 2 }))
          let read = 0
          const reading = yield* fork(Stream.runForEach(pool.sendAll(mailsOf(300, chunk)), () =>
            Effect.andThen(
              Effect.sleep(1000),
              Effect.sync(() => {
                read++
              })
            )))
          while (reading.pollUnsafe() === undefined) {
            yield* probe.advance(500)
            assert.isAtMost((yield* server.received).length - read, 32)
          }
          assert.strictEqual(read, 300)
        })))
  }

  it.effect("comes back for a connection that others kept too long", () =>
    probed(slow(100), (probe, server) =>
      Effect.gen(function*() {
        const pool = yield* SmtpPool.make(options({ max: 2, acquireTimeout: "1 second" }))
        const holding = yield* fork(pool.use(() => Effect.sleep(5000)))
        yield* probe.quiet
        const { exit } = yield* probe.settle(Stream.runCollect(pool.sendAll(mailsOf(200))))
        assert.deepStrictEqual(Exit.isSuccess(exit) && [...new Set(shown(exit.value))], ["sent"])
        const used = yield* over(server)
        assert.deepStrictEqual(new Set(used.slice(0, 20)).size, 1)
        assert.deepStrictEqual(new Set(used.slice(-20)).size, 2)
        yield* Fiber.join(holding)
      })))

  it.effect("goes on with a fresh connection after a loss: what was begun is told, what can be is sent again", () =>
    probed({
      faults: [
        // Kept by then: sent again. Behind the dot: in doubt. On the connection dialled for it: told.
        SmtpServer.at("mail", SmtpServer.drop, { connection: 1, occurrence: 3 }),
        SmtpServer.at("message", SmtpServer.drop, { connection: 2, occurrence: 2 }),
        SmtpServer.at("mail", SmtpServer.reset, { connection: 3, occurrence: 1 })
      ]
    }, (probe, server) =>
      Effect.gen(function*() {
        const pool = yield* SmtpPool.make(options({ max: 1 }))
        const { exit } = yield* probe.settle(Stream.runCollect(pool.sendAll(mailsOf(8))))
        const results = Exit.isSuccess(exit) ? exit.value : assert.fail(Cause.pretty(exit.cause))
        assert.lengthOf(results, 8)
        const failed = results.flatMap((result, n) => result._tag === "Failure" ? [{ n, error: result.failure }] : [])
        assert.deepStrictEqual(failed.filter(({ error }) => error.inDoubt).map(({ n }) => n), [3])
        assert.isTrue(failed.every(({ error }) => ["ECONNECTION", "ESOCKET"].includes(error._tag)))
        const received = yield* texts(server)
        // The one in doubt was stored; nothing was stored twice; what failed otherwise was not stored.
        assert.deepStrictEqual([...new Set(received)], received)
        const lost = failed.filter(({ error }) => !error.inDoubt).map(({ n }) => `mail ${n}`)
        assert.isAbove(lost.length, 0)
        assert.sameMembers([...received], names(8).filter((name) => !lost.includes(name)))
        assert.isAbove((yield* pool.stats).retried, 0)
      })))

  it.effect("forgets no mail when the fresh connection is lost at once, too", () =>
    probed({
      faults: [
        SmtpServer.at("message", SmtpServer.drop, { connection: 1, occurrence: 2 }),
        SmtpServer.at("ehlo", SmtpServer.surplus("421 4.3.2 going down"), { connection: 2 })
      ]
    }, (_, server) =>
      Effect.gen(function*() {
        const pool = yield* SmtpPool.make(options({ max: 1 }))
        const results = shown(yield* Stream.runCollect(pool.sendAll(mailsOf(6))))
        assert.lengthOf(results, 6)
        assert.deepStrictEqual([results[0], results.slice(3)], ["sent", ["sent", "sent", "sent"]])
        assert.sameMembers([...yield* texts(server)].slice(2), names(6).slice(3))
      })))

  it.effect("dials once for each mail when every connection is lost at once", () =>
    probed(
      { faults: [SmtpServer.at("ehlo", SmtpServer.surplus("421 4.3.2 going down"))] },
      (_, server) =>
        Effect.gen(function*() {
          const pool = yield* SmtpPool.make(options({ max: 1 }))
          const results = shown(yield* Stream.runCollect(pool.sendAll(mailsOf(4))))
          assert.deepStrictEqual(results, Array.from({ length: 4 }, () => "ECONNECTION"))
          assert.isAtMost((yield* ids(server)).length, 8)
        })
    ))

  it.effect("counts as a try only what was begun, and forgets nothing that was not", () =>
    probed({}, () =>
      Effect.gen(function*() {
        const lost = (attempted: boolean) =>
          Result.fail(new SmtpError.ECONNECTION({ command: "MAIL FROM", message: "lost", attempted }))
        const sent = Result.succeed({ response: "ok" } as never)
        // What each connection says of the mails that it takes together; it is lost with that.
        const script = [
          [sent, lost(true), lost(false), lost(false), lost(false)],
          [lost(true), sent, sent, sent],
          [sent, lost(true), lost(true)],
          [sent, lost(true)]
        ]
        const begun: Array<ReadonlyArray<string>> = []
        const connect = Effect.sync((): SmtpConnection.SmtpConnection => {
          const outcomes = script[begun.length] ?? assert.fail("one connection more")
          const texts: Array<string> = []
          begun.push(texts)
          return {
            // The second is lost before it is used.
            isUsable: begun.length !== 2,
            sendAll: (mails: Stream.Stream<SmtpConnection.Mail>) =>
              Stream.fromArrayEffect(Effect.map(Stream.runCollect(Stream.take(mails, outcomes.length)), (all) => {
                texts.push(...all.map(({ message }) => String(message)))
                return outcomes.slice(0, all.length)
              }))
          } as never
        })
        const policy = Result.getOrThrow(poolOptions.resolve({ max: 1 }))
        const engine = yield* poolEngine.make({ policy, total: Infinity, connect })
        const results = yield* Stream.runCollect(engine.sendAll(mailsOf(5)))
        assert.deepStrictEqual(shown(results), ["sent", "ECONNECTION", "sent", "sent", "ECONNECTION"])
        assert.deepStrictEqual(begun.map((all) => all.map((text) => text.slice(-1)).join("")), [
          "01234",
          "1",
          "234",
          "34"
        ])
      })))

  it.effect("does not read a stream twice that was pulled", () =>
    probed(
      { faults: [SmtpServer.at("message", SmtpServer.drop, { occurrence: 2 })] },
      (probe, server) =>
        Effect.gen(function*() {
          const pool = yield* SmtpPool.make(options({ max: 1 }))
          const reads = [0, 0, 0, 0]
          const mails = Stream.fromIterable(reads.map((_, n) => ({
            envelope,
            message: Stream.suspend(() => {
              reads[n]!++
              return Stream.make(`mail ${n}`)
            })
          })))
          const { exit } = yield* probe.settle(Stream.runCollect(pool.sendAll(mails)))
          const results = Exit.isSuccess(exit) ? shown(exit.value) : assert.fail(Cause.pretty(exit.cause))
          assert.deepStrictEqual(results[1], "ECONNECTION")
          assert.deepStrictEqual(reads, [1, 1, 1, 1])
          const received = yield* texts(server)
          assert.deepStrictEqual([...new Set(received)], received)
        })
    ))

  it.effect("says of each mail why, when no connection can be had", () =>
    probed(
      { faults: [SmtpServer.at("connect", SmtpServer.reset, { occurrence: "every" })] },
      (probe) =>
        Effect.gen(function*() {
          const pool = yield* SmtpPool.make(options({ max: 3 }))
          const { exit } = yield* probe.settle(Stream.runCollect(pool.sendAll(mailsOf(5))))
          assert.deepStrictEqual(Exit.isSuccess(exit) && shown(exit.value), Array.from({ length: 5 }, () => "ESOCKET"))
          assert.deepInclude(yield* pool.stats, { size: 0, waiting: 0 })
        })
    ))

  it.effect("fails the mails of a stale connection as the dial does, when there is no fresh one", () =>
    probed({
      faults: [
        SmtpServer.at("mail", SmtpServer.drop, { connection: 1, occurrence: 2 }),
        SmtpServer.at("connect", SmtpServer.reset, { connection: 2 })
      ]
    }, (probe) =>
      Effect.gen(function*() {
        const pool = yield* SmtpPool.make(options({ max: 1 }))
        yield* pool.send(envelope, "first")
        const { exit } = yield* probe.settle(Stream.runCollect(pool.sendAll(mailsOf(2))))
        const results = Exit.isSuccess(exit) ? shown(exit.value) : assert.fail(Cause.pretty(exit.cause))
        assert.deepStrictEqual(results[0], "ESOCKET")
        assert.lengthOf(results, 2)
      })))

  it.effect("makes do with the connections that a server takes", () =>
    probed({
      faults: [2, 3, 4, 5].map((connection) =>
        SmtpServer.at("greeting", SmtpServer.answer(421, "4.7.0 too many connections"), { connection })
      )
    }, (probe, server) =>
      Effect.gen(function*() {
        const pool = yield* SmtpPool.make(options({ max: 3 }))
        yield* pool.send(envelope, "first")
        const { exit } = yield* probe.settle(Stream.runCollect(pool.sendAll(mailsOf(40))))
        assert.deepStrictEqual(Exit.isSuccess(exit) && [...new Set(shown(exit.value))], ["sent"])
        assert.deepStrictEqual([...new Set(yield* over(server))], [1])
      })))

  it.effect("lets a send in between, and takes maxMessages to each connection", () =>
    probed({}, (probe, server) =>
      Effect.gen(function*() {
        const pool = yield* SmtpPool.make(options({ max: 1, maxMessages: 60 }))
        const all = yield* fork(Stream.runCollect(pool.sendAll(mailsOf(150))))
        const one = yield* fork(pool.send(envelope, "between"))
        yield* probe.drive(one)
        yield* probe.drive(all)
        const received = yield* texts(server)
        assert.lengthOf(received, 151)
        assert.isBelow(received.indexOf("between"), 40)
        const perConnection = [1, 2, 3].map((id) => id)
        const counts = yield* over(server)
        assert.deepStrictEqual(perConnection.map((id) => counts.filter((n) => n === id).length), [60, 60, 31])
      })))

  it.effect("opens as many connections as a server asks for that takes few messages on each", () =>
    probed({ respond: { ehlo: () => SmtpServer.reply(250, "mx.test", "PIPELINING", "LIMITS MAILMAX=3") } }, (
      _,
      server
    ) =>
      Effect.gen(function*() {
        const pool = yield* SmtpPool.make(options({ max: 1 }))
        const results = yield* Stream.runCollect(pool.sendAll(mailsOf(20)))
        assert.deepStrictEqual([...new Set(shown(results))], ["sent"])
        assert.deepStrictEqual(yield* texts(server), names(20))
        assert.lengthOf(yield* ids(server), 7)
      })))

  it.effect("gives what it has, then the failure of its source", () =>
    probed({}, (probe, server) =>
      Effect.gen(function*() {
        const pool = yield* SmtpPool.make(options())
        const results: Array<string> = []
        const mails = Stream.concat(mailsOf(3), Stream.fail("mine"))
        const { exit } = yield* probe.settle(
          Stream.runForEach(pool.sendAll(mails), (result) => Effect.sync(() => results.push(result._tag)))
        )
        assert.deepStrictEqual(exit, Exit.fail("mine"))
        assert.deepStrictEqual(results, ["Success", "Success", "Success"])
        assert.lengthOf(yield* texts(server), 3)
      })))

  it.effect("gives the error of a mail's own stream as its result, and dies with its defect", () =>
    probed({}, (probe) =>
      Effect.gen(function*() {
        const pool = yield* SmtpPool.make(options())
        const failing = Stream.make({ envelope, message: Stream.fail({ _tag: "Mine" } as const) }, {
          envelope,
          message: "2"
        })
        const { exit } = yield* probe.settle(Stream.runCollect(pool.sendAll(failing)))
        assert.deepStrictEqual(Exit.isSuccess(exit) && shown(exit.value), ["Mine", "sent"])
        const dying = Stream.make({ envelope, message: Stream.die("bug") })
        const died = (yield* probe.settle(Stream.runCollect(pool.sendAll(dying)))).exit
        assert.isTrue(Exit.isFailure(died) && Cause.hasDies(died.cause))
        yield* pool.send(envelope, "3")
      })))

  it.effect("that nobody reads on stops, and gives its connections back", () =>
    probed({}, (probe, server) =>
      Effect.gen(function*() {
        const pool = yield* SmtpPool.make(options({ max: 2 }))
        const mails = Stream.fromEffectRepeat(Effect.as(Effect.sleep(10), { envelope, message: "x" }))
        const { exit } = yield* probe.settle(Stream.runCollect(Stream.take(pool.sendAll(mails), 5)))
        assert.deepStrictEqual(Exit.isSuccess(exit) && exit.value.length, 5)
        const count = (yield* server.received).length
        yield* probe.advance(1000)
        assert.lengthOf(yield* server.received, count)
        yield* pool.send(envelope, "x")
        assert.deepInclude(yield* pool.stats, { waiting: 0 })
      })))

  it.effect("of no mails opens nothing", () =>
    probed({}, (_, server) =>
      Effect.gen(function*() {
        const pool = yield* SmtpPool.make(options())
        assert.deepStrictEqual(yield* Stream.runCollect(pool.sendAll(Stream.empty)), [])
        assert.deepStrictEqual(yield* ids(server), [])
      })))
})

describe("waiting for a change", () => {
  it.effect("looks when one is told, and no more once it is over", () =>
    Effect.gen(function*() {
      const changes = new Changes()
      let looked = 0
      let isTrue = false
      const look = () => {
        looked++
        return isTrue
      }
      const [one, other] = [yield* fork(changes.until(look)), yield* fork(changes.until(look))]
      changes.tell()
      assert.strictEqual(looked, 4)
      yield* Fiber.interrupt(other)
      changes.tell()
      assert.strictEqual(looked, 5)
      isTrue = true
      changes.tell()
      yield* Fiber.join(one)
      changes.tell()
      assert.strictEqual(looked, 6)
      yield* changes.until(look)
    }))
})

describe("the policy", () => {
  const wrong: ReadonlyArray<readonly [unknown, string, RegExp]> = [
    [5, "options.pool", /expected an object/],
    [null, "options.pool", /expected an object/],
    [{ max: 0 }, "options.pool.max", /whole number of 1 or more$/],
    [{ max: Infinity }, "options.pool.max", /whole number of 1 or more$/],
    [{ max: 1.5 }, "options.pool.max", /whole number/],
    [{ min: -1 }, "options.pool.min", /whole number of 0 or more$/],
    [{ min: 6 }, "options.pool.min", /6 is more than max, which is 5/],
    [{ min: 3, max: 2 }, "options.pool.min", /raise max, or lower min/],
    [{ maxMessages: 0 }, "options.pool.maxMessages", /1 or more, or Infinity/],
    [{ maxWaiting: "many" }, "options.pool.maxWaiting", /0 or more, or Infinity/],
    [{ idleTimeout: 0 }, "options.pool.idleTimeout", /positive duration/],
    [{ idleTimeout: "soon" }, "options.pool.idleTimeout", /positive duration/],
    [{ maxAge: -1 }, "options.pool.maxAge", /positive duration/],
    [{ drain: "never" }, "options.pool.drain", /positive duration/],
    [{ acquireTimeout: 0 }, "options.pool.acquireTimeout", /positive duration.*Duration.infinity turns it off/],
    [{ acquireTimeout: "soon" }, "options.pool.acquireTimeout", /positive duration/],
    [{ acquireTimeout: -1 }, "options.pool.acquireTimeout", /positive duration/]
  ]
  for (const [pool, field, says] of wrong) {
    it.effect(`${JSON.stringify(pool)} is ECONFIG that names ${field}, and nothing is dialled`, () =>
      probed({}, (_, server) =>
        Effect.gen(function*() {
          const given = { ...options(), pool: pool as SmtpPool.Options }
          const calls: ReadonlyArray<
            Effect.Effect<unknown, SmtpError.SmtpError, Scope.Scope | SmtpConnector.SmtpConnector>
          > = [SmtpPool.make(given), SmtpPool.makeKeyed(given.pool), SmtpClient.make(given)]
          for (const make of pool === null ? [calls[0]!, calls[2]!] : calls) {
            const error = yield* Effect.flip(make)
            assert.deepInclude(error, { _tag: "ECONFIG", field, command: "API", attempted: false } as never)
            assert.match(error.message, says)
          }
          assert.deepStrictEqual(yield* ids(server), [])
        })))
  }

  it.effect("may be unbounded where a bound is not needed", () =>
    probed(
      {},
      () => SmtpPool.make(options({ maxMessages: Infinity, maxWaiting: Infinity, maxAge: Infinity, drain: 0 }))
    ))
})

const Tenant = Context.Reference<string>("test/Tenant", { defaultValue: () => "nobody" })

describe("makeKeyed", () => {
  const password = (username: string, secret: string) => Sasl.password({ username, password: Redacted.make(secret) })
  const base = (): SmtpConnection.Options => ({ host: "mx.test", name: "me.test", auth: password("ann", "canary") })

  const sending = (pools: SmtpPool.Keyed, given: SmtpConnection.Options, to: Envelope.Input = envelope) =>
    Effect.scoped(Effect.flatMap(pools.get(given), (pool) => pool.send(to, "x")))

  it.effect("shares a pool between equal options, however they are written", () =>
    probed({}, (_, server) =>
      Effect.gen(function*() {
        const pools = yield* SmtpPool.makeKeyed()
        yield* sending(pools, base())
        yield* sending(pools, { ...base(), port: 25, family: undefined, tlsOptions: {} })
        assert.deepStrictEqual(yield* over(server), [1, 1])
      })))

  const different: { readonly [name: string]: SmtpConnection.Options } = {
    host: { ...base(), host: "other.test", servername: "mx.test" },
    port: { ...base(), port: 587 },
    localAddress: { ...base(), localAddress: "127.0.0.2" },
    family: { ...base(), family: 4 },
    "TLS mode": { ...base(), tls: "opportunistic" },
    "TLS mode, implicit": { ...base(), port: 25, tls: "implicit" },
    "verification off": { ...base(), tlsOptions: { rejectUnauthorized: false } },
    "an authority": { ...base(), tlsOptions: { ca: "pem" } },
    "an authority in octets": { ...base(), tlsOptions: { ca: new TextEncoder().encode("pem") } },
    pins: { ...base(), tlsOptions: { pins: [`sha256/${"A".repeat(43)}=`] } },
    "client certificate": { ...base(), tlsOptions: { cert: "c", key: Redacted.make("k") } },
    "client key": { ...base(), tlsOptions: { cert: "c", key: Redacted.make("l") } },
    minVersion: { ...base(), tlsOptions: { minVersion: "TLSv1.3" } },
    servername: { ...base(), servername: "x.test" },
    "EHLO name": { ...base(), name: "you.test" },
    protocol: { ...base(), port: 25, protocol: "lmtp" },
    user: { ...base(), auth: password("bob", "canary") },
    secret: { ...base(), auth: password("ann", "other") },
    authorizationId: { ...base(), auth: { ...password("ann", "canary"), authorizationId: "eve" } },
    "no login": { ...base(), auth: undefined },
    "another kind of login": { ...base(), auth: Sasl.oauth2({ username: "ann", token: Redacted.make("canary") }) },
    mechanisms: { ...base(), mechanisms: ["PLAIN"] },
    minimumMechanism: { ...base(), minimumMechanism: "PLAIN" },
    channelBinding: { ...base(), channelBinding: "required" },
    allowInsecureAuth: { ...base(), allowInsecureAuth: true },
    transcript: { ...base(), transcript: "full" },
    timeouts: { ...base(), timeouts: { command: "1 minute" } },
    "a unix socket": { path: "/run/smtp", name: "me.test" }
  }
  it("has a different key for whatever differs, which shows no secret", () => {
    const all: ReadonlyArray<readonly [string, SmtpConnection.Options]> = [
      ["nothing", base()],
      ...Object.entries(different)
    ]
    const keyed = all.map(([name, given]) => {
      const key = keyOf(Result.getOrThrow(resolve(given)))
      assert.match(key, /^[0-9a-f]{64}$/)
      return [key, name] as const
    })
    assert.strictEqual(new Set(keyed.map(([key]) => key)).size, all.length, JSON.stringify(keyed))
    assert.strictEqual(keyOf(Result.getOrThrow(resolve(base()))), keyed[0]![0])
  })

  it("tells secrets that an Effect provides by the Effect alone", () => {
    const token = Effect.succeed(Redacted.make("t"))
    const of = (secret: Sasl.Secret) =>
      keyOf(Result.getOrThrow(resolve({ ...base(), auth: Sasl.oauth2({ username: "ann", token: secret }) })))
    assert.strictEqual(of(token), of(token))
    assert.notStrictEqual(of(token), of(Effect.succeed(Redacted.make("t"))))
    const mechanism = { name: "X", kind: "custom", isPlaintext: true, clientFirst: true } as const
    const start = () => Result.succeed(Sasl.sequence(["x"]))
    const custom = (given: typeof start) =>
      keyOf(Result.getOrThrow(resolve({
        ...base(),
        auth: Sasl.custom({ mechanism: { ...mechanism, start: given }, secret: Redacted.make("s") })
      })))
    assert.strictEqual(custom(start), custom(start))
    assert.notStrictEqual(custom(start), custom(() => start()))
  })

  it.effect("never sends over a connection of another tenant, whoever was there first", () =>
    probed({ accounts: { ann: "canary-ann", bob: "canary-bob" } }, (_, server) =>
      Effect.gen(function*() {
        const pools = yield* SmtpPool.makeKeyed({ max: 2 })
        for (const username of ["ann", "bob", "bob", "ann", "ann"]) {
          const given = { ...base(), name: `${username}.test`, auth: password(username, `canary-${username}`) }
          yield* sending(pools, given, { ...envelope, from: `${username}@me.test` })
        }
        // The right user with the wrong secret gets no connection of the right one.
        const error = yield* Effect.flip(
          sending(pools, { ...base(), name: "ann.test", auth: password("ann", "guess") })
        )
        assert.strictEqual(error._tag, "EAUTH")
        const received = yield* server.received
        assert.deepStrictEqual(received.map(({ connection }) => connection), [1, 2, 2, 1, 1])
        for (const { from, username } of received) assert.strictEqual(from, `${username}@me.test`)
      })))

  it.effect("sends nothing that wants verified TLS over a connection that somebody opened without", () =>
    probed({ tls: { authorized: false } }, (_, server) =>
      Effect.gen(function*() {
        const pools = yield* SmtpPool.makeKeyed()
        const lax: SmtpConnection.Options = { host: "mx.test", tls: "opportunistic" }
        yield* sending(pools, lax)
        assert.strictEqual((yield* Effect.flip(sending(pools, { host: "mx.test" })))._tag, "ETLS")
        const wanting = { ...envelope, requireTls: true }
        assert.strictEqual((yield* Effect.flip(sending(pools, lax, wanting)))._tag, "EREQUIRETLS")
        assert.lengthOf(yield* server.received, 1)
      })))

  it.effect("logs in as its maker would, whoever sends first", () =>
    probed({}, (_, server) =>
      Effect.gen(function*() {
        const token = Effect.map(Effect.service(Tenant), (tenant) => Redacted.make(`token-of-${tenant}`))
        const given = { ...base(), auth: Sasl.oauth2({ username: "shared", token }) }
        const pools = yield* Effect.provideService(SmtpPool.makeKeyed(), Tenant, "maker")
        const client = yield* Effect.provideService(SmtpClient.make(given), Tenant, "maker")
        yield* Effect.provideService(sending(pools, given), Tenant, "eve")
        yield* Effect.provideService(client.send(envelope, "x"), Tenant, "eve")
        const logins = (yield* server.transcript).filter(({ text }) => text.startsWith("AUTH "))
        assert.lengthOf(logins, 2)
        for (const { text } of logins) assert.include(atob(text.split(" ")[2]!), "token-of-maker")
      })))

  it.effect("closes a pool that nobody asked for during idleTimeout", () =>
    probed({}, (probe, server) =>
      Effect.gen(function*() {
        const pools = yield* SmtpPool.makeKeyed({ idleTimeout: "10 seconds", min: 1, max: 1 })
        yield* sending(pools, base())
        yield* probe.advance(9999)
        assert.deepStrictEqual(yield* open(server), [1])
        yield* probe.advance(1)
        assert.deepStrictEqual(yield* open(server), [])
        yield* sending(pools, base())
        assert.deepStrictEqual(yield* over(server), [1, 2])
      })))

  it.effect("refuses options that contradict each other, and everything once its scope has closed", () =>
    probed({}, (probe, server) =>
      Effect.gen(function*() {
        const scope = yield* Scope.make()
        const pools = yield* Scope.provide(SmtpPool.makeKeyed(), scope)
        const error = yield* Effect.flip(sending(pools, { ...base(), tls: "off" }))
        assert.deepInclude(error, { _tag: "ECONFIG", field: "options.auth" } as never)
        yield* sending(pools, base())
        yield* probe.settle(Scope.close(scope, Exit.void))
        assert.deepStrictEqual(yield* open(server), [])
        const late = yield* Effect.flip(sending(pools, base()))
        assert.deepInclude(late, { _tag: "ECONNECTION", command: "API", attempted: false } as never)
      })))
})

describe("what happens", () => {
  it.effect("is told to who counts, at once and in order", () =>
    probed({
      faults: [
        SmtpServer.at("mail", SmtpServer.drop, { connection: 1, occurrence: 3 }),
        SmtpServer.at("message", SmtpServer.delay(1000), { connection: 2, occurrence: 2 })
      ]
    }, (probe) =>
      Effect.gen(function*() {
        const events: Array<string> = []
        const engine = yield* poolEngine.make({
          policy: Result.getOrThrow(poolOptions.resolve({ max: 1, maxWaiting: 0, maxMessages: 3 })),
          total: Infinity,
          connect: SmtpConnection.make(options()),
          onEvent: (event) => events.push(event._tag === "Closed" ? event.why : event._tag)
        })
        const send = engine.send(envelope, "x", () => {})
        for (let n = 0; n < 3; n++) yield* send
        const flying = yield* fork(send)
        yield* Effect.flip(send)
        yield* probe.drive(flying)
        yield* send
        yield* send
        yield* probe.advance(30_000)
        const first = "Opened Reused Reused Retried lost Opened"
        assert.strictEqual(events.join(" "), `${first} Reused Refused Reused messages Opened idle`)
        const counted = { opened: 3, closed: 3, reused: 4, retried: 1, refused: 1 }
        assert.deepStrictEqual(engine.read(), { size: 0, idle: 0, waiting: 0, ...counted })
      })))
})
