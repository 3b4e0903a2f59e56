import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as RateLimiter from "effect/persistence/RateLimiter"
import * as Redis from "effect/persistence/Redis"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as SmtpClient from "../../src/SmtpClient.ts"
import { SmtpServer } from "../../src/testing/index.ts"
import * as stub from "./stub.ts"

const { envelope } = stub
const everything = { concurrency: "unbounded" } as const

interface Mark {
  readonly id: unknown
  readonly start: number
  end: number
}

/** A client that notes when its sends begin and end; a message says how long its send takes. */
const marking = () => {
  const marks: Array<Mark> = []
  const client = stub.make((message) =>
    Effect.gen(function*() {
      const [id, millis] = String(message).split(":")
      const mark = { id, start: yield* Clock.currentTimeMillis, end: Infinity }
      marks.push(mark)
      yield* Effect.ensuring(
        Effect.sleep(Number(millis ?? 0)),
        Effect.map(Clock.currentTimeMillis, (now) => {
          mark.end = now
        })
      )
    })
  )
  return { client, marks, starts: () => marks.map(({ start }) => start) }
}

/** The most sends that a window can hold, wherever it begins and whatever moment of a send is looked at. */
const fullest = (marks: ReadonlyArray<Mark>, window: number): number =>
  Math.max(
    0,
    ...marks.map(({ start }) => marks.filter((other) => other.start <= start && other.end + window > start).length)
  )

/** The most starts in a window. */
const fullestOfStarts = (marks: ReadonlyArray<Mark>, window: number): number =>
  fullest(marks.map((mark) => ({ ...mark, end: mark.start })), window)

const short = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 400 }))
const Traffic = Schema.Array(Schema.Struct({ gap: short, takes: short })).check(Schema.isMaxLength(40))
const Limit = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 6 }))
const Window = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 500 }))

/** Sends that arrive after gaps, each taking its time; all of them end. */
const play = Effect.fnUntraced(function*(
  client: SmtpClient.Client,
  traffic: ReadonlyArray<{ readonly gap: number; readonly takes: number }>
) {
  const arrivals: Array<number> = []
  const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
  let at = 0
  for (const [index, { gap, takes }] of traffic.entries()) {
    yield* TestClock.adjust(gap)
    arrivals.push(at += gap)
    const send = client.send(envelope, `${index}:${takes}`)
    fibers.push(yield* Effect.forkChild(send, { startImmediately: true }))
  }
  yield* TestClock.adjust("1 hour")
  yield* Effect.forEach(fibers, Fiber.join)
  return arrivals
})

describe("withRateLimit", () => {
  it.effect.prop(
    "no window holds more than the limit, whatever moment of a send is looked at",
    [Traffic, Limit, Window],
    ([traffic, limit, window]) =>
      Effect.gen(function*() {
        const { client, marks } = marking()
        yield* play(yield* SmtpClient.withRateLimit(client, { limit, window }), traffic)
        assert.strictEqual(marks.length, traffic.length)
        assert.isAtMost(fullest(marks, window), limit)
        assert.deepStrictEqual(marks.map(({ id }) => Number(id)), [...traffic.keys()], "first come, first served")
      })
  )

  it.effect.prop(
    "counted from the start, sends begin as early as a sliding log allows, and no earlier",
    [Traffic, Limit, Window],
    ([traffic, limit, window]) =>
      Effect.gen(function*() {
        const { client, marks, starts } = marking()
        const options = { limit, window, countFrom: "start" } as const
        const arrivals = yield* play(yield* SmtpClient.withRateLimit(client, options), traffic)
        assert.isAtMost(fullestOfStarts(marks, window), limit)
        const expected: Array<number> = []
        for (const [index, arrival] of arrivals.entries()) {
          const before = expected[index - limit]
          expected.push(Math.max(arrival, expected[index - 1] ?? 0, before === undefined ? 0 : before + window))
        }
        assert.deepStrictEqual(starts(), expected)
      })
  )

  it.effect("of 20 in a second over 5 connections is never exceeded at the server in any second", () =>
    Effect.gen(function*() {
      const clock = yield* Clock.Clock
      const said: Array<Mark> = []
      const note = () => {
        const now = clock.currentTimeMillisUnsafe()
        said.push({ id: said.length, start: now, end: now })
        return undefined
      }
      // The first connections take long to open: what was let through together with them must not arrive with the next.
      const slow = [1, 2, 3, 4, 5].map((connection) => SmtpServer.at("greeting", SmtpServer.delay(900), { connection }))
      const script = { respond: { mail: note }, faults: [...slow, SmtpServer.at("message", SmtpServer.delay(7))] }
      yield* Effect.gen(function*() {
        const made = yield* SmtpClient.make({ host: "mx.test" })
        const smtp = yield* SmtpClient.withRateLimit(made, { limit: 20, window: "1 second" })
        const worker = Effect.repeat(smtp.send(envelope, "hi\n"), { times: 39 })
        const fiber = yield* Effect.forkChild(Effect.all([worker, worker, worker, worker, worker], everything))
        yield* TestClock.adjust("30 seconds")
        yield* Fiber.join(fiber)
      }).pipe(Effect.provide(SmtpServer.layer(script)))
      assert.strictEqual(said.length, 200)
      assert.strictEqual(fullest(said, 1000), 20)
      const took = said[199]!.start - said[0]!.start
      assert.isAtMost(took, 10_500, "and the limit is used")
    }))

  it.effect("lets the whole limit through in a burst, and then one for each that leaves the window", () =>
    Effect.gen(function*() {
      const { client, starts } = marking()
      const smtp = yield* SmtpClient.withRateLimit({ limit: 3, window: "1 second" })(client)
      yield* play(smtp, Array.from({ length: 7 }, (_, index) => ({ gap: index === 1 ? 400 : 0, takes: 0 })))
      assert.deepStrictEqual(starts(), [0, 400, 400, 1000, 1400, 1400, 2000])
    }))

  it.effect("waits for the end of a send before its permit counts down", () =>
    Effect.gen(function*() {
      const { client, starts } = marking()
      const smtp = yield* SmtpClient.withRateLimit(client, { limit: 1, window: 100 })
      yield* play(smtp, [{ gap: 0, takes: 250 }, { gap: 0, takes: 0 }])
      assert.deepStrictEqual(starts(), [0, 350])
    }))

  it.effect("with onExceeded: \"fail\" fails at once, and says when to send again", () =>
    Effect.gen(function*() {
      const { client, marks } = marking()
      const options = { limit: 2, window: "1 minute", onExceeded: "fail" } as const
      const smtp = yield* SmtpClient.withRateLimit(client, options)
      const slow = yield* Effect.forkChild(smtp.send(envelope, "a:20000"), { startImmediately: true })
      const other = yield* Effect.forkChild(smtp.send(envelope, "b:30000"), { startImmediately: true })
      const both = yield* Effect.flip(smtp.send(envelope, "c"))
      assert.include(both.message, "the rate limit of 2 in 1m is used up; send again in 1m")
      yield* TestClock.adjust("45 seconds")
      yield* Fiber.join(slow)
      yield* Fiber.join(other)
      const error = yield* Effect.flip(smtp.send(envelope, "d"))
      assert.deepInclude(
        error,
        { _tag: "ECONNECTION", command: "API", attempted: false, inDoubt: false, handedOver: false } as never
      )
      assert.isTrue(error.isTemporary)
      assert.include(error.message, "send again in 35s")
      yield* TestClock.adjust("34999 millis")
      assert.include((yield* Effect.flip(smtp.send(envelope, "e"))).message, "send again in 1ms")
      yield* TestClock.adjust("1 millis")
      yield* smtp.send(envelope, "f")
      assert.deepStrictEqual(marks.map(({ id }) => id), ["a", "b", "f"])
    }))

  it.effect("gives back the turn of a send that is interrupted while it waits, and shows who waits", () =>
    Effect.gen(function*() {
      const { client, marks, starts } = marking()
      const smtp = yield* SmtpClient.withRateLimit(client, { limit: 2, window: "1 second" })
      const state = Effect.map(smtp.policies, ({ rateLimit }) => [rateLimit?.used, rateLimit?.waiting])
      assert.deepStrictEqual((yield* smtp.policies).rateLimit, {
        limit: 2,
        window: Duration.seconds(1),
        used: 0,
        waiting: 0
      })
      const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
      for (const id of ["a:5000", "b", "c", "d", "e", "f"]) {
        fibers.push(yield* Effect.forkChild(smtp.send(envelope, id), { startImmediately: true }))
      }
      assert.deepStrictEqual(yield* state, [2, 4])
      yield* TestClock.adjust(500)
      // The first in line, one further back, and one that runs.
      yield* Effect.forEach([2, 4], (index) => Fiber.interrupt(fibers[index]!))
      assert.deepStrictEqual(yield* state, [2, 2])
      yield* Fiber.interrupt(fibers[0]!)
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* state, [0, 0])
      assert.deepStrictEqual(marks.map(({ id }) => id), ["a", "b", "d", "f"])
      assert.deepStrictEqual(starts(), [0, 0, 1000, 1500])
    }))

  it.effect("has a sendAll that keeps to it, with as many under way as the client says", () =>
    Effect.gen(function*() {
      for (const concurrency of [undefined, 4]) {
        const { client, marks, starts } = marking()
        const smtp = yield* SmtpClient.withRateLimit({ ...client, concurrency }, { limit: 2, window: 1000 })
        const mails = Stream.fromIterable(["a:10", "b:10", "c:10", "d:10"]).pipe(
          Stream.map((message) => ({ envelope, message }))
        )
        const began = yield* Clock.currentTimeMillis
        const fiber = yield* Effect.forkChild(Stream.runCollect(smtp.sendAll(mails)))
        yield* TestClock.adjust("1 minute")
        assert.isTrue((yield* Fiber.join(fiber)).every(Result.isSuccess))
        assert.deepStrictEqual(marks.map(({ id }) => id), ["a", "b", "c", "d"])
        const expected = concurrency === undefined ? [0, 10, 1010, 1020] : [0, 0, 1010, 1010]
        assert.deepStrictEqual(starts().map((at) => at - began), expected)
      }
    }))

  it.effect("leaves use and verify alone", () =>
    Effect.gen(function*() {
      const smtp = yield* SmtpClient.withRateLimit(stub.make(), { limit: 1, window: "1 hour" })
      yield* smtp.send(envelope, "x")
      yield* Effect.all([smtp.verify, smtp.use(() => Effect.void), smtp.verify])
    }))

  it.effect("composes with retryTemporary and withTimeout in either order", () =>
    Effect.gen(function*() {
      const options = { limit: 1, window: "10 seconds" } as const
      const busy = () => stub.make(stub.failing(stub.errors.ECONNECTION, stub.errors.ECONNECTION))
      const timed = <A, E>(self: Effect.Effect<A, E>) =>
        Effect.gen(function*() {
          const began = yield* Clock.currentTimeMillis
          const fiber = yield* Effect.forkChild(self)
          yield* TestClock.adjust("1 hour")
          yield* Fiber.join(fiber)
          return (yield* Clock.currentTimeMillis) - began
        })
      // Outside, each try is a send of its own; inside, all tries are one.
      const at = Effect.map(Clock.currentTimeMillis, (now) => now % 3_600_000)
      const outside = SmtpClient.retryTemporary(yield* SmtpClient.withRateLimit(busy(), options), Schedule.recurs(2))
      const inside = yield* SmtpClient.withRateLimit(SmtpClient.retryTemporary(busy(), Schedule.recurs(2)), options)
      const ends: Array<number> = []
      const noted = (smtp: SmtpClient.Client) =>
        Effect.flatMap(smtp.send(envelope, "x"), () => Effect.map(at, (now) => ends.push(now)))
      yield* timed(noted(outside))
      yield* timed(noted(inside))
      assert.deepStrictEqual(ends, [20_000, 0])

      const slow = stub.make(() => Effect.sleep("8 seconds"))
      const bounded = SmtpClient.withTimeout(yield* SmtpClient.withRateLimit(slow, options), "15 seconds")
      const each = yield* SmtpClient.withRateLimit(SmtpClient.withTimeout(slow, "15 seconds"), options)
      const twice = (smtp: SmtpClient.Client) =>
        Effect.gen(function*() {
          const send = Effect.result(smtp.send(envelope, "x"))
          const fiber = yield* Effect.forkChild(Effect.all([send, send], everything))
          yield* TestClock.adjust("1 hour")
          return (yield* Fiber.join(fiber)).map((result) => Result.isFailure(result) ? result.failure._tag : "sent")
        })
      assert.deepStrictEqual(yield* twice(bounded), ["sent", "ETIMEDOUT"])
      assert.deepStrictEqual(yield* twice(each), ["sent", "sent"])
      assert.strictEqual((yield* bounded.policies).rateLimit?.waiting, 0)
    }))

  const wrong: ReadonlyArray<readonly [string, unknown, RegExp]> = [
    ["options", undefined, /expected an object/],
    ["options.limit", { limit: 0, window: 1 }, /from 1 to 100000/],
    ["options.limit", { limit: 1.5, window: 1 }, /a whole number/],
    ["options.limit", { limit: 100_001, window: 1 }, /from 1 to 100000/],
    ["options.window", { limit: 1, window: 0 }, /positive duration, e.g. "1 second"/],
    ["options.window", { limit: 1, window: "soon" }, /positive duration/],
    ["options.window", { limit: 1, window: Duration.infinity }, /finite/],
    ["options.onExceeded", { limit: 1, window: 1, onExceeded: "drop" }, /"delay" or "fail"/],
    ["options.countFrom", { limit: 1, window: 1, countFrom: "now" }, /"end" or "start"/],
    ["options.key", { limit: 1, window: 1, key: "" }, /non-empty string/],
    ["options.limiter", { limit: 1, window: 1, limiter: {} }, /a RateLimiter of effect\/persistence/]
  ]
  for (const [field, options, message] of wrong) {
    it.effect(`refuses ${field} of ${JSON.stringify(options)}`, () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(SmtpClient.withRateLimit(stub.make(), options as never))
        assert.deepInclude(error, { _tag: "ECONFIG", field, command: "API" } as never)
        assert.match(error.message, message)
      }))
  }
})

/** A Redis that knows the script of a fixed window, and the time. */
const fakeRedis = Effect.gen(function*() {
  const keys = new Map<string, { count: number; until: number }>()
  const asked: Array<string> = []
  const script = (key: string, tokens: number, refill: number, limit: number, now: number) => {
    const held = keys.get(key)
    const current = held !== undefined && held.until > now ? held : { count: 0, until: now }
    const next = current.count + tokens
    if (next > limit) return [String(next), current.until - now]
    const until = current.until + Math.max(1, Math.ceil(refill * tokens))
    keys.set(key, { count: next, until })
    return [String(next), until - now]
  }
  const redis = yield* Redis.make({
    send: <A>(command: string, ...args: ReadonlyArray<string>) =>
      Effect.gen(function*() {
        if (command !== "EVALSHA") return "sha" as A
        const now = yield* Clock.currentTimeMillis
        asked.push(args[2]!)
        const answer = script(args[2]!, Number(args[3]), Number(args[4]), Number(args[5]), now)
        // The way back takes its time.
        yield* Effect.sleep(3)
        return answer as A
      }),
    subscribe: () => Effect.die("not asked for"),
    connect: Effect.die("not asked for")
  })
  return { asked, keys, redis }
})

describe("a rate limit that is shared", () => {
  /** Two machines with a burst each, and then some more. */
  const machines = Effect.fnUntraced(function*(limiter: SmtpClient.Limiter, keys: ReadonlyArray<string | undefined>) {
    const { client, marks } = marking()
    const options = { limit: 5, window: "1 second", limiter } as const
    const sends = yield* Effect.forEach(keys, (key) =>
      Effect.map(
        SmtpClient.withRateLimit(client, { ...options, key }),
        (smtp) => Array.from({ length: 20 }, () => smtp.send(envelope, "x"))
      ))
    const fiber = yield* Effect.forkChild(Effect.all(sends.flat(), everything))
    yield* TestClock.adjust("1 minute")
    yield* Fiber.join(fiber)
    return marks
  })

  it.effect("in memory holds for all clients of one key together", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make
      const marks = yield* machines(limiter, ["bulk", "bulk"])
      assert.strictEqual(marks.length, 40)
      assert.strictEqual(fullestOfStarts(marks, 1000), 5)
      assert.strictEqual(marks.at(-1)!.start, 7000, "and is used")
      assert.strictEqual(fullestOfStarts(yield* machines(limiter, ["a", "b"]), 1000), 10)
      assert.strictEqual(fullestOfStarts(yield* machines(limiter, [undefined, "smtp"]), 1000), 5)
    }).pipe(Effect.provide(RateLimiter.layerStoreMemory)))

  it.effect("over Redis holds for all machines together", () =>
    Effect.gen(function*() {
      const { keys, redis } = yield* fakeRedis
      const limiter = yield* RateLimiter.make.pipe(
        Effect.provide(RateLimiter.layerStoreRedis({ prefix: "mail:" })),
        Effect.provideService(Redis.Redis, redis)
      )
      const marks = yield* machines(limiter, ["ses", "ses"])
      assert.strictEqual(marks.length, 40)
      assert.isAtMost(fullestOfStarts(marks, 1000), 5)
      assert.isAtMost(marks.at(-1)!.start, 9000, "and is used")
      assert.deepStrictEqual(
        [...keys.keys()].toSorted(),
        [0, 1, 2, 3, 4].map((index) => `mail:ses/${index}`)
      )
    }).pipe(Effect.scoped))

  it.effect("asks for one permit after the other, so that a burst on one machine gets different ones", () =>
    Effect.gen(function*() {
      const { asked, redis } = yield* fakeRedis
      const limiter = yield* RateLimiter.make.pipe(
        Effect.provide(RateLimiter.layerStoreRedis()),
        Effect.provideService(Redis.Redis, redis)
      )
      const { client, starts } = marking()
      const smtp = yield* SmtpClient.withRateLimit(client, { limit: 4, window: "1 second", limiter })
      yield* play(smtp, Array.from({ length: 4 }, () => ({ gap: 0, takes: 0 })))
      assert.deepStrictEqual(starts(), [3, 6, 9, 12])
      assert.strictEqual(new Set(asked).size, 4)
      assert.strictEqual(asked.length, 4)
    }).pipe(Effect.scoped))

  it.effect("asks again for a permit that is refused without a time to wait", () =>
    Effect.gen(function*() {
      let asked = 0
      const reason = new RateLimiter.RateLimitExceeded({ key: "x", limit: 1, remaining: 0, retryAfter: Duration.zero })
      const limiter = {
        consume: () =>
          Effect.suspend(() => asked++ === 0 ? Effect.fail(new RateLimiter.RateLimiterError({ reason })) : Effect.void)
      }
      const { client, starts } = marking()
      yield* play(yield* SmtpClient.withRateLimit(client, { limit: 1, window: 1, limiter }), [{ gap: 0, takes: 0 }])
      assert.deepStrictEqual([asked, starts()], [2, [1]])
    }))

  it.effect("whose store fails sends nothing, and says so", () =>
    Effect.gen(function*() {
      const limiter = {
        consume: () =>
          Effect.fail(
            new RateLimiter.RateLimiterError({
              reason: new RateLimiter.RateLimitStoreError({ message: "no route to Redis" })
            })
          )
      }
      const { client, marks } = marking()
      const smtp = yield* SmtpClient.withRateLimit(client, { limit: 1, window: 1, limiter })
      const error = yield* Effect.flip(smtp.send(envelope, "x"))
      assert.deepInclude(error, { _tag: "ECONNECTION", attempted: false, isTemporary: true } as never)
      assert.match(error.message, /see to its store/)
      assert.include((error.cause as Error).message, "no route to Redis")
      assert.strictEqual(marks.length, 0)
      assert.deepInclude((yield* smtp.policies).rateLimit, { waiting: 0 })
    }))
})
