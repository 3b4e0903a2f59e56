import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as CircuitBreaker from "effect/persistence/CircuitBreaker"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import type { ClientError } from "../../src/internal/client/model.ts"
import * as SmtpClient from "../../src/SmtpClient.ts"
import * as SmtpError from "../../src/SmtpError.ts"
import { SmtpServer } from "../../src/testing/index.ts"
import * as stub from "./stub.ts"

const { envelope, errors } = stub

/** What calls end in, and how many reach the client. */
const broken = Effect.fnUntraced(function*(
  options: SmtpClient.CircuitBreakerOptions,
  ...outcomes: ReadonlyArray<ClientError | undefined>
) {
  let reached = 0
  const behaviour = stub.failing(...outcomes)
  const client = stub.make((message) => {
    reached++
    return behaviour(message)
  })
  const smtp = yield* SmtpClient.withCircuitBreaker(client, options)
  const send = Effect.match(smtp.send(envelope, "x"), { onFailure: (e) => e, onSuccess: () => undefined })
  const status = Effect.map(smtp.policies, ({ circuitBreaker }) => circuitBreaker?.status)
  return { send, smtp, status, reached: () => reached }
})

describe("withCircuitBreaker", () => {
  const opening = [
    "EDNS",
    "ECONNECTION",
    "ESOCKET",
    "ETIMEDOUT",
    "EPROXY",
    "ETLS",
    "EPROTOCOL",
    "421 to MAIL",
    "451 4.7.0 to MAIL",
    "a loss in doubt",
    "whatever is in doubt"
  ] as const
  const answers = ["550 to RCPT", "554 to DATA", "552 after the message"] as const
  const silent = Object.keys(errors).filter((name): name is keyof typeof errors =>
    ![...opening, ...answers].includes(name as never)
  )

  for (const name of opening) {
    it.effect(`opens after ${name}, as often in a row as was asked for`, () =>
      Effect.gen(function*() {
        const { reached, send, status } = yield* broken({ failures: 2 }, errors[name], errors[name])
        yield* send
        assert.strictEqual(yield* status, "closed")
        yield* send
        assert.strictEqual(yield* status, "open")
        const error = yield* send
        assert.deepInclude(
          error,
          { _tag: "ECONNECTION", command: "API", attempted: false, inDoubt: false, handedOver: false } as never
        )
        assert.isTrue(SmtpError.isRetryable(error))
        assert.match((error as Error).message, /the circuit is open .* nothing is tried for 30s: send again then/)
        assert.strictEqual(reached(), 2)
      }))
  }

  for (const name of answers) {
    it.effect(`begins to count anew after ${name}: the server answers`, () =>
      Effect.gen(function*() {
        const { send, status } = yield* broken({ failures: 2 }, errors.ESOCKET, errors[name], errors.ESOCKET)
        yield* Effect.repeat(send, { times: 2 })
        assert.strictEqual(yield* status, "closed")
      }))
  }

  for (const name of silent) {
    it.effect(`neither counts ${name} nor begins anew after it`, () =>
      Effect.gen(function*() {
        const { send, status } = yield* broken({ failures: 2 }, errors[name], errors.ESOCKET, errors[name], errors.EDNS)
        yield* Effect.repeat(send, { times: 2 })
        assert.strictEqual(yield* status, "closed")
        yield* send
        assert.strictEqual(yield* status, "open")
      }))
  }

  it.effect("does not count what a policy inside holds back, nor an interruption", () =>
    Effect.gen(function*() {
      const limited = yield* SmtpClient.withRateLimit(
        stub.make(() => Effect.never),
        { limit: 1, window: "1 hour", onExceeded: "fail" }
      )
      const smtp = yield* SmtpClient.withCircuitBreaker(limited, { failures: 1 })
      const fiber = yield* Effect.forkChild(smtp.send(envelope, "x"), { startImmediately: true })
      assert.match((yield* Effect.flip(smtp.send(envelope, "x"))).message, /rate limit/)
      yield* Fiber.interrupt(fiber)
      assert.match((yield* Effect.flip(smtp.send(envelope, "x"))).message, /rate limit/)
    }))

  it.effect("lets one call probe the server when it was open long enough, and closes when that succeeds", () =>
    Effect.gen(function*() {
      const { reached, send, smtp, status } = yield* broken({ failures: 1, openFor: "1 minute" }, errors.ESOCKET)
      yield* send
      yield* TestClock.adjust("59999 millis")
      assert.match(String(yield* send), /nothing is tried for 1ms/)
      assert.deepStrictEqual((yield* smtp.policies).circuitBreaker, { status: "open", retryAfter: Duration.millis(1) })
      yield* TestClock.adjust("1 millis")
      assert.isUndefined(yield* send)
      assert.strictEqual(yield* status, "closed")
      assert.deepStrictEqual((yield* smtp.policies).circuitBreaker, { status: "closed", retryAfter: Duration.zero })
      assert.strictEqual(reached(), 2)
    }))

  it.effect("opens again when the probe fails, and turns others away while it runs", () =>
    Effect.gen(function*() {
      let calls = 0
      const client = stub.make(() =>
        calls++ === 1
          ? Effect.andThen(Effect.sleep("5 seconds"), Effect.fail(errors.ETIMEDOUT))
          : Effect.fail(errors.ESOCKET)
      )
      const smtp = yield* SmtpClient.withCircuitBreaker({ failures: 1, openFor: "10 seconds" })(client)
      const send = Effect.flip(smtp.send(envelope, "x"))
      yield* send
      yield* TestClock.adjust("10 seconds")
      const probe = yield* Effect.forkChild(send, { startImmediately: true })
      assert.strictEqual((yield* smtp.policies).circuitBreaker?.status, "half-open")
      assert.match((yield* send).message, /half open, and another call probes the server; send again shortly/)
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual((yield* Fiber.join(probe))._tag, "ETIMEDOUT")
      assert.deepStrictEqual((yield* smtp.policies).circuitBreaker, {
        status: "open",
        retryAfter: Duration.seconds(10)
      })
      assert.strictEqual(calls, 2)
    }))

  it.effect("an interrupted probe makes room for the next one", () =>
    Effect.gen(function*() {
      let calls = 0
      const client = stub.make(() =>
        Effect.suspend(() => [Effect.fail(errors.ESOCKET), Effect.never][calls++] ?? Effect.void)
      )
      const smtp = yield* SmtpClient.withCircuitBreaker(client, { failures: 1, openFor: 1000 })
      yield* Effect.flip(smtp.send(envelope, "x"))
      yield* TestClock.adjust(1000)
      const probe = yield* Effect.forkChild(smtp.send(envelope, "x"), { startImmediately: true })
      yield* Fiber.interrupt(probe)
      yield* smtp.send(envelope, "x")
      assert.strictEqual((yield* smtp.policies).circuitBreaker?.status, "closed")
    }))

  it.effect("covers use, verify and sendAll as well", () =>
    Effect.gen(function*() {
      const { reached, smtp } = yield* broken({ failures: 3 }, errors.ESOCKET, errors.EDNS, errors.ETLS)
      yield* Effect.flip(smtp.verify)
      yield* Effect.flip(smtp.use(() => Effect.void))
      yield* Stream.runCollect(smtp.sendAll(Stream.make({ envelope, message: "x" })))
      assert.strictEqual((yield* smtp.policies).circuitBreaker?.status, "open")
      assert.match(String(yield* Effect.flip(smtp.verify)), /circuit is open/)
      assert.match(String(yield* Effect.flip(smtp.use(() => Effect.void))), /circuit is open/)
      assert.strictEqual(reached(), 3)
    }))

  it.effect("hands on the error of another breaker that the message's stream failed with", () =>
    Effect.gen(function*() {
      const foreign = new CircuitBreaker.CircuitBreakerError({
        reason: new CircuitBreaker.CircuitHalfOpen({ key: "templates" })
      })
      const client = stub.make((message) => Stream.runDrain(message as Stream.Stream<string, ClientError>))
      const smtp = yield* SmtpClient.withCircuitBreaker(client, { failures: 1 })
      assert.strictEqual(yield* Effect.flip(smtp.send(envelope, Stream.fail(foreign))), foreign)
      assert.strictEqual((yield* smtp.policies).circuitBreaker?.status, "closed")
    }))

  it.effect("logs what the circuit does", () => {
    const logged: Array<string> = []
    const logger = Logger.make(({ logLevel, message }) => {
      logged.push(`${logLevel} ${[message].flat().join(" ")}`)
    })
    return Effect.gen(function*() {
      const { send } = yield* broken({ failures: 1 }, errors.ESOCKET, errors.ESOCKET)
      yield* send
      yield* send
      yield* TestClock.adjust("30 seconds")
      yield* send
      yield* TestClock.adjust("30 seconds")
      yield* Effect.repeat(send, { times: 3 })
      assert.deepStrictEqual(logged, [
        "Warn smtp: the circuit opens for 30s",
        "Warn smtp: the circuit opens for 30s",
        "Info smtp: the circuit is closed again"
      ])
    }).pipe(Effect.provide(Logger.layer([logger])))
  })

  it.effect("counts each try when retryTemporary is outside, and one call when it is inside; so with withTimeout", () =>
    Effect.gen(function*() {
      const again = Schedule.recurs(2)
      let calls = 0
      const down = stub.make(() =>
        Effect.suspend(() => {
          calls++
          return Effect.fail(errors.ESOCKET)
        })
      )
      const outside = SmtpClient.retryTemporary(yield* SmtpClient.withCircuitBreaker(down, { failures: 2 }), again)
      assert.match((yield* Effect.flip(outside.send(envelope, "x"))).message, /circuit is open/)
      assert.deepStrictEqual([calls, (yield* outside.policies).circuitBreaker?.status], [2, "open"])
      const inside = yield* SmtpClient.withCircuitBreaker(SmtpClient.retryTemporary(down, again), { failures: 2 })
      assert.strictEqual(yield* Effect.flip(inside.send(envelope, "x")), errors.ESOCKET)
      assert.deepStrictEqual([calls, (yield* inside.policies).circuitBreaker?.status], [5, "closed"])

      const hanging = stub.make(() => Effect.never)
      const late = yield* SmtpClient.withCircuitBreaker(SmtpClient.withTimeout(hanging, 1000), { failures: 1 })
      const early = SmtpClient.withTimeout(yield* SmtpClient.withCircuitBreaker(hanging, { failures: 1 }), 1000)
      const fibers = yield* Effect.forEach([late, early], (smtp) => Effect.forkChild(smtp.send(envelope, "x")))
      yield* TestClock.adjust(1000)
      for (const fiber of fibers) assert.strictEqual((yield* Effect.flip(Fiber.join(fiber)))._tag, "ETIMEDOUT")
      assert.strictEqual((yield* late.policies).circuitBreaker?.status, "open")
      assert.strictEqual((yield* early.policies).circuitBreaker?.status, "closed")
    }))

  it.effect("spares a server that is down, and finds it when it is back", () =>
    Effect.gen(function*() {
      const faults = [1, 2, 3].map((connection) => SmtpServer.at("connect", SmtpServer.reset, { connection }))
      yield* Effect.gen(function*() {
        const made = yield* SmtpClient.make({ host: "mx.test" })
        const smtp = yield* SmtpClient.withCircuitBreaker(made, { failures: 3, openFor: "1 minute" })
        const send = smtp.send(envelope, "hi\n")
        const again = Effect.retry(send, Schedule.spaced("1 second"))
        const fiber = yield* Effect.forkChild(again)
        yield* TestClock.adjust("2 minutes")
        yield* Fiber.join(fiber)
        assert.strictEqual((yield* (yield* SmtpServer.SmtpServer).connections).length, 1)
        assert.strictEqual((yield* smtp.policies).circuitBreaker?.status, "closed")
      }).pipe(Effect.provide(SmtpServer.layer({ faults })))
      assert.isAbove(yield* Clock.currentTimeMillis, 60_000)
    }))

  const wrong: ReadonlyArray<readonly [string, unknown]> = [
    ["options", null],
    ["options.failures", { failures: 0 }],
    ["options.failures", { failures: 2.5 }],
    ["options.openFor", { openFor: "a while" }],
    ["options.openFor", { openFor: Duration.infinity }]
  ]
  for (const [field, options] of wrong) {
    it.effect(`refuses ${field} of ${JSON.stringify(options)}`, () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(SmtpClient.withCircuitBreaker(stub.make(), options as never))
        assert.deepInclude(error, { _tag: "ECONFIG", field, command: "API" } as never)
      }))
  }
})
