import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as TestClock from "effect/testing/TestClock"
import * as SmtpClient from "../../src/SmtpClient.ts"
import { SmtpServer } from "../../src/testing/index.ts"
import { envelope } from "./stub.ts"

const { SmtpClient: Client } = SmtpClient

/** Runs a test with a client from the layer, and the fake server. */
const withLayer = <A, E>(
  options: Parameters<typeof SmtpClient.layer>[0],
  script: SmtpServer.Script,
  test: (smtp: SmtpClient.Client) => Effect.Effect<A, E, SmtpServer.SmtpServer>
) =>
  Effect.flatMap(Client, test).pipe(
    Effect.provide(SmtpClient.layer({ host: "mx.test", ...options }).pipe(Layer.provideMerge(SmtpServer.layer(script))))
  )

const refusing = (...connections: ReadonlyArray<number>) => ({
  faults: connections.map((connection) => SmtpServer.at("connect", SmtpServer.reset, { connection }))
})
const received = Effect.flatMap(SmtpServer.SmtpServer, (server) => server.received)
const connections = Effect.flatMap(SmtpServer.SmtpServer, (server) => server.connections)
const send = (smtp: SmtpClient.Client) => smtp.send(envelope, "Subject: x\n\nx\n")

describe("the policies of the layer", () => {
  /** 200 messages by so many at once over a pool of 5, each of which takes some time; when they came, on which connection. */
  const load = (senders: number, millis: number) =>
    Effect.gen(function*() {
      const clock = yield* Clock.Clock
      const times: Array<number> = []
      const used = new Set<number>()
      const note: SmtpServer.Handler = (_, { connection }) => {
        times.push(clock.currentTimeMillisUnsafe())
        used.add(connection)
        return undefined
      }
      const slow = SmtpServer.at("message", SmtpServer.delay(millis), { occurrence: "every" })
      yield* withLayer(
        { pool: { max: 5, maxMessages: 200 }, rateLimit: { limit: 20, window: "1 second" } },
        { respond: { mail: note }, faults: millis === 0 ? [] : [slow] },
        (smtp) =>
          Effect.gen(function*() {
            const worker = Effect.repeat(send(smtp), { times: 200 / senders - 1 })
            const workers = Effect.all(Array.from({ length: senders }, () => worker), { concurrency: "unbounded" })
            const fiber = yield* Effect.forkChild(workers)
            while (fiber.pollUnsafe() === undefined) yield* TestClock.adjust("20 millis")
            yield* Fiber.join(fiber)
            assert.strictEqual((yield* connections).length, 5)
          })
      )
      assert.deepStrictEqual([times.length, [...used].toSorted()], [200, [1, 2, 3, 4, 5]])
      return times
    })

  it.effect.each<readonly [number, number, number]>([
    [5, 0, 9100],
    [5, 40, 11_000],
    [100, 40, 12_000],
    [100, 0, 9100]
  ])(
    "rateLimit: 20 in a second, %i senders over 5 connections, %i ms a message: never exceeded in any second",
    ([senders, millis, most]) =>
      Effect.gen(function*() {
        const times = yield* load(senders, millis)
        for (const [index, time] of times.entries()) {
          if (index >= 20) assert.isAtLeast(time - times[index - 20]!, 1000)
        }
        assert.isAtMost(times.at(-1)! - times[0]!, most)
      })
  )

  it.effect("circuitBreaker: opens after the failures that were asked for", () =>
    withLayer({ circuitBreaker: { failures: 2 } }, refusing(1, 2, 3), (smtp) =>
      Effect.gen(function*() {
        yield* Effect.flip(send(smtp))
        yield* Effect.flip(send(smtp))
        assert.match((yield* Effect.flip(send(smtp))).message, /the circuit is open/)
        assert.strictEqual((yield* smtp.policies).circuitBreaker?.status, "open")
      })))

  it.effect("adaptiveConcurrency: grows while sends succeed", () =>
    withLayer({ adaptiveConcurrency: { max: 4 } }, {}, (smtp) =>
      Effect.gen(function*() {
        yield* Effect.all(Array.from({ length: 20 }, () => send(smtp)), { concurrency: "unbounded" })
        assert.deepStrictEqual((yield* smtp.policies).adaptiveConcurrency, { limit: 4, running: 0, waiting: 0 })
      })))

  it.effect("fallback: the next server where the first cannot be reached, with policies of its own", () =>
    withLayer(
      { fallback: [{ host: "mx2.test", name: "second.me.test", rateLimit: { limit: 9, window: "1 second" } }] },
      refusing(1),
      (smtp) =>
        Effect.gen(function*() {
          yield* send(smtp)
          assert.deepStrictEqual((yield* connections).map(({ helo }) => helo), ["second.me.test"])
          assert.strictEqual((yield* smtp.policies).clients?.[1]?.rateLimit?.used, 1)
        })
    ))

  it.effect("retry: tries again after a temporary failure", () =>
    withLayer({ retry: Schedule.recurs(2) }, refusing(1, 2), (smtp) =>
      Effect.gen(function*() {
        yield* send(smtp)
        assert.strictEqual((yield* received).length, 1)
      })))

  it.effect("timeout: bounds a call as a whole", () =>
    withLayer(
      { timeout: "5 seconds", retry: Schedule.forever },
      { faults: [SmtpServer.at("greeting", SmtpServer.silence)] },
      (smtp) =>
        Effect.gen(function*() {
          const fiber = yield* Effect.forkChild(Effect.flip(send(smtp)))
          yield* TestClock.adjust("5 seconds")
          assert.deepInclude(yield* Fiber.join(fiber), { _tag: "ETIMEDOUT", timeout: "total" } as never)
        })
    ))

  it.effect("refuses a wrong value before anything is dialled, by its name", () =>
    Effect.forEach(
      [
        [{ rateLimit: { limit: 0, window: 1 } }, "options.rateLimit.limit"],
        [{ fallback: [{ port: 0 }] }, "options.fallback[0].port"]
      ] as const,
      ([options, field]) =>
        Effect.gen(function*() {
          const error = yield* Effect.flip(Effect.provide(SmtpClient.make(options), SmtpServer.layer()))
          assert.deepInclude(error, { _tag: "ECONFIG", field } as never)
          assert.isTrue(error.message.startsWith(`${field}: expected a whole number`))
        })
    ))
})
