import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as TestClock from "effect/testing/TestClock"
import type { Client, ClientError, Options } from "../../src/internal/client/model.ts"
import { applyPolicies, type Policies } from "../../src/internal/client/policies.ts"
import * as SmtpError from "../../src/SmtpError.ts"
import * as stub from "./stub.ts"

const { envelope, errors } = stub

/** Clients by host, as a constructor of clients would make them; a host of "" is a mistake. */
const making = (clients: Readonly<Record<string, Client>>) => (options: Options) => {
  const client = clients[options.host ?? ""]
  return client === undefined
    ? Effect.fail(
      new SmtpError.ECONFIG({
        command: "API",
        attempted: false,
        field: "options.host",
        message: "options.host: expected a non-empty string"
      })
    )
    : Effect.succeed(client)
}

const apply = (client: Client, policies: Policies, others: Readonly<Record<string, Client>> = {}) =>
  applyPolicies(client, policies, making(others))

const counting = (error: ClientError) => {
  const counted = { calls: 0 }
  const client = stub.make(() =>
    Effect.suspend(() => {
      counted.calls++
      return Effect.fail(error)
    })
  )
  return { client, counted }
}

describe("the policies as options", () => {
  it.effect("leave the client as it is when none is given", () =>
    Effect.gen(function*() {
      const client = stub.make()
      assert.strictEqual(yield* apply(client, {}), client)
    }))

  it.effect("may all be in use, and their state is visible through all of them", () =>
    Effect.gen(function*() {
      const server = {
        rateLimit: { limit: 10, window: "1 second" },
        adaptiveConcurrency: { max: 5 },
        circuitBreaker: { failures: 3 }
      } as const
      const smtp = yield* apply(
        stub.make(),
        {
          ...server,
          fallback: [{ host: "mx2.test", ...server }, { host: "mx3.test" }],
          retry: Schedule.recurs(1),
          timeout: "1 minute"
        },
        { "mx2.test": stub.make(), "mx3.test": stub.make() }
      )
      assert.strictEqual(yield* smtp.send(envelope, "x"), stub.sent)
      const { clients } = yield* smtp.policies
      assert.deepStrictEqual(clients, [
        {
          rateLimit: { limit: 10, window: Duration.seconds(1), used: 1, waiting: 0 },
          adaptiveConcurrency: { limit: 2, running: 0, waiting: 0 },
          circuitBreaker: { status: "closed", retryAfter: Duration.zero }
        },
        {
          rateLimit: { limit: 10, window: Duration.seconds(1), used: 0, waiting: 0 },
          adaptiveConcurrency: { limit: 1, running: 0, waiting: 0 },
          circuitBreaker: { status: "closed", retryAfter: Duration.zero }
        },
        {}
      ])
      assert.strictEqual(smtp.concurrency, 5)
    }))

  it.effect("count each try against the rate limit", () =>
    Effect.gen(function*() {
      const { client, counted } = counting(errors.ECONNECTION)
      const smtp = yield* apply(client, { retry: Schedule.recurs(9), rateLimit: { limit: 2, window: "1 second" } })
      const fiber = yield* Effect.forkChild(Effect.flip(smtp.send(envelope, "x")))
      const calls: Array<number> = []
      for (let second = 0; second < 5; second++) {
        yield* TestClock.adjust(second === 0 ? 0 : "1 second")
        calls.push(counted.calls)
      }
      assert.deepStrictEqual(calls, [2, 4, 6, 8, 10])
      assert.strictEqual(yield* Fiber.join(fiber), errors.ECONNECTION)
    }))

  it.effect("let an open circuit fail before anything waits, and try it again", () =>
    Effect.gen(function*() {
      const { client, counted } = counting(errors.ESOCKET)
      const smtp = yield* apply(client, {
        circuitBreaker: { failures: 1, openFor: "1 hour" },
        rateLimit: { limit: 1, window: "1 hour" },
        retry: Schedule.recurs(3)
      })
      const error = yield* Effect.flip(smtp.send(envelope, "x"))
      assert.match(error.message, /the circuit is open/)
      assert.strictEqual(counted.calls, 1)
    }))

  it.effect("ask another server before they try the same one again", () =>
    Effect.gen(function*() {
      const [first, second] = [counting(errors.ESOCKET), counting(errors["451 to MAIL"])]
      const smtp = yield* apply(
        first.client,
        { fallback: [{ host: "mx2.test" }], retry: Schedule.recurs(2) },
        { "mx2.test": second.client }
      )
      assert.strictEqual(yield* Effect.flip(smtp.send(envelope, "x")), errors["451 to MAIL"])
      assert.deepStrictEqual([first.counted.calls, second.counted.calls], [3, 3])
    }))

  it.effect("bound all of it, waiting among it, by the timeout", () =>
    Effect.gen(function*() {
      const { client, counted } = counting(errors.ESOCKET)
      const smtp = yield* apply(client, {
        rateLimit: { limit: 1, window: "4 seconds" },
        retry: Schedule.forever,
        timeout: "10 seconds"
      })
      const fiber = yield* Effect.forkChild(Effect.flip(smtp.send(envelope, "x")))
      yield* TestClock.adjust("1 minute")
      assert.deepInclude(yield* Fiber.join(fiber), { _tag: "ETIMEDOUT", timeout: "total", inDoubt: false } as never)
      assert.strictEqual(counted.calls, 3)
      assert.strictEqual((yield* smtp.policies).rateLimit?.waiting, 0)
    }))

  const wrong: ReadonlyArray<readonly [string, unknown, RegExp]> = [
    ["options.rateLimit", { rateLimit: 20 }, /expected an object, e.g. \{ limit: 20, window: "1 second" \}/],
    ["options.rateLimit.limit", { rateLimit: { limit: -1, window: 1 } }, /from 1 to 100000/],
    ["options.rateLimit.window", { rateLimit: { limit: 1 } }, /duration/],
    ["options.adaptiveConcurrency.max", { adaptiveConcurrency: {} }, /from 1 to 10000/],
    ["options.adaptiveConcurrency.min", { adaptiveConcurrency: { min: 3, max: 2 } }, /more than .*\.max; lower it/],
    ["options.circuitBreaker.failures", { circuitBreaker: { failures: "5" } }, /a whole number/],
    ["options.fallback", { fallback: { host: "mx2.test" } }, /an array of options/],
    ["options.fallback[1].host", { fallback: [{ host: "mx2.test" }, {}] }, /^options\.fallback\[1\]\.host: expected a/],
    [
      "options.fallback[0].circuitBreaker.openFor",
      { fallback: [{ host: "mx2.test", circuitBreaker: { openFor: 0 } }] },
      /duration/
    ],
    ["options.retry", { retry: 3 }, /expected a Schedule/],
    ["options.timeout", { timeout: "a while" }, /duration, e.g. "1 minute"/]
  ]
  for (const [field, policies, message] of wrong) {
    it.effect(`refuse a wrong ${field}, and say how to mend it`, () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(apply(stub.make(), policies as never, { "mx2.test": stub.make() }))
        assert.deepInclude(error, { _tag: "ECONFIG", field, command: "API", attempted: false } as never)
        assert.match(error.message, message)
        assert.isTrue(error.message.startsWith(`${field}: `))
      }))
  }
})
