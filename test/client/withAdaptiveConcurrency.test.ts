import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import type { ClientError } from "../../src/internal/client/model.ts"
import * as SmtpClient from "../../src/SmtpClient.ts"
import { SmtpServer } from "../../src/testing/index.ts"
import * as stub from "./stub.ts"

const { envelope, errors } = stub

/** A client whose sends take a second each and end as the test says. */
const working = () => {
  const script: Array<ClientError | undefined> = []
  const order: Array<unknown> = []
  let running = 0
  let most = 0
  const client = stub.make((message) =>
    Effect.suspend(() => {
      order.push(message)
      most = Math.max(most, ++running)
      return Effect.sleep("1 second")
    }).pipe(
      Effect.andThen(Effect.suspend(() => {
        const error = script.shift()
        return error === undefined ? Effect.void : Effect.fail(error)
      })),
      Effect.ensuring(Effect.sync(() => {
        running--
      }))
    )
  )
  return { client, order, script, most: () => most }
}

const stateOf = (smtp: SmtpClient.Client) => Effect.map(smtp.policies, (all) => all.adaptiveConcurrency)
const limitOf = (smtp: SmtpClient.Client) => Effect.map(stateOf(smtp), (state) => state?.limit)

/** Starts sends; they all wait for their turn or run. */
const start = (smtp: SmtpClient.Client, count: number) =>
  Effect.forEach(
    Array.from({ length: count }, (_, index) => `${index}`),
    (message) => Effect.forkChild(Effect.result(smtp.send(envelope, message)), { startImmediately: true })
  )

describe("withAdaptiveConcurrency", () => {
  it.effect("doubles from the minimum to the maximum while sends succeed and wait", () =>
    Effect.gen(function*() {
      const { client, most } = working()
      const smtp = yield* SmtpClient.withAdaptiveConcurrency({ max: 10 })(client)
      yield* start(smtp, 100)
      const limits: Array<number | undefined> = []
      for (let round = 0; round < 6; round++) {
        limits.push(yield* limitOf(smtp))
        yield* TestClock.adjust("1 second")
      }
      assert.deepStrictEqual(limits, [1, 2, 4, 8, 10, 10])
      assert.strictEqual(most(), 10)
    }))

  for (const name of ["421 to MAIL", "451 4.7.0 to MAIL", "451 4.7.1 to RCPT", "ETIMEDOUT"] as const) {
    it.effect(`is halved by ${name}, once for all that was under way, and then grows by one a round`, () =>
      Effect.gen(function*() {
        const { client, script } = working()
        const smtp = yield* SmtpClient.withAdaptiveConcurrency(client, { max: 64, initial: 16 })
        yield* start(smtp, 200)
        script.push(errors[name], errors[name], errors[name])
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(yield* stateOf(smtp), { limit: 8, running: 8, waiting: 176 })
        const limits: Array<number | undefined> = []
        for (let round = 0; round < 4; round++) {
          limits.push(yield* limitOf(smtp))
          yield* TestClock.adjust("1 second")
        }
        assert.deepStrictEqual(limits, [8, 8, 9, 10])
        script.push(errors[name])
        const before = yield* limitOf(smtp)
        yield* TestClock.adjust("1 second")
        assert.isBelow((yield* limitOf(smtp))!, before!, "a later one is answered again")
      }))
  }

  it.effect("stays within its bounds", () =>
    Effect.gen(function*() {
      const { client, script } = working()
      const smtp = yield* SmtpClient.withAdaptiveConcurrency(client, { min: 3, max: 5 })
      script.push(...Array.from({ length: 9 }, () => errors["421 to MAIL"]))
      yield* start(smtp, 100)
      const limits: Array<number | undefined> = []
      for (let round = 0; round < 12; round++) {
        limits.push(yield* limitOf(smtp))
        yield* TestClock.adjust("1 second")
      }
      assert.deepStrictEqual(limits, [3, 3, 3, 3, 3, 4, 5, 5, 5, 5, 5, 5])
    }))

  it.effect("does not grow while it is not reached", () =>
    Effect.gen(function*() {
      const smtp = yield* SmtpClient.withAdaptiveConcurrency(stub.make(), { max: 100, initial: 4 })
      yield* Effect.repeat(smtp.send(envelope, "x"), { times: 50 })
      assert.strictEqual(yield* limitOf(smtp), 4)
    }))

  const neutral = (Object.keys(errors) as ReadonlyArray<keyof typeof errors>).filter((name) =>
    !["421 to MAIL", "451 4.7.0 to MAIL", "451 4.7.1 to RCPT", "ETIMEDOUT"].includes(name)
  )
  it.effect.each(neutral)("is not moved by %s", (name) =>
    Effect.gen(function*() {
      const smtp = yield* SmtpClient.withAdaptiveConcurrency(stub.make(() => Effect.fail(errors[name])), {
        max: 9,
        initial: 4
      })
      yield* Effect.all(Array.from({ length: 20 }, () => Effect.flip(smtp.send(envelope, "x"))), {
        concurrency: "unbounded"
      })
      assert.strictEqual(yield* limitOf(smtp), 4)
    }))

  it.effect("starts sends first come, first served, and gives back the turn of one that is interrupted", () =>
    Effect.gen(function*() {
      const { client, order } = working()
      const smtp = yield* SmtpClient.withAdaptiveConcurrency(client, { max: 2, initial: 2 })
      const fibers = yield* start(smtp, 8)
      assert.deepStrictEqual(yield* stateOf(smtp), { limit: 2, running: 2, waiting: 6 })
      yield* Fiber.interrupt(fibers[2]!)
      yield* Fiber.interrupt(fibers[5]!)
      assert.deepStrictEqual(yield* stateOf(smtp), { limit: 2, running: 2, waiting: 4 })
      yield* Fiber.interrupt(fibers[0]!)
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(yield* stateOf(smtp), { limit: 2, running: 2, waiting: 3 })
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(order, ["0", "1", "3", "4", "6", "7"])
      assert.deepStrictEqual(yield* stateOf(smtp), { limit: 2, running: 0, waiting: 0 })
    }))

  const Outcome = Schema.Literals(["ok", "421 to MAIL", "ETIMEDOUT", "550 to RCPT", "interrupted"])
  it.effect.prop(
    "whatever sends end in, no more run than its bounds allow, and nothing is left behind",
    [
      Schema.Array(Outcome).check(Schema.isMaxLength(60)),
      Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 6 }))
    ],
    ([outcomes, max]) =>
      Effect.gen(function*() {
        const { client, most, script } = working()
        const smtp = yield* SmtpClient.withAdaptiveConcurrency(client, { max })
        const fibers = yield* start(smtp, outcomes.length)
        for (const [index, outcome] of outcomes.entries()) {
          if (outcome === "interrupted") yield* Fiber.interrupt(fibers[index]!)
          else script.push(outcome === "ok" ? undefined : errors[outcome])
          const state = yield* stateOf(smtp)
          assert.isAtLeast(state!.limit, 1)
          assert.isAtMost(state!.limit, max)
          yield* TestClock.adjust(300)
        }
        yield* TestClock.adjust("10 minutes")
        yield* Effect.forEach(fibers, Fiber.await)
        assert.isAtMost(most(), max)
        assert.deepInclude(yield* stateOf(smtp), { running: 0, waiting: 0 })
      })
  )

  it.effect("has a sendAll with as many under way as the limit allows, in order", () =>
    Effect.gen(function*() {
      const { client, most } = working()
      const smtp = yield* SmtpClient.withAdaptiveConcurrency(client, { max: 4 })
      const messages = Array.from({ length: 30 }, (_, index) => `${index}`)
      const mails = Stream.fromIterable(messages).pipe(Stream.map((message) => ({ envelope, message })))
      const fiber = yield* Effect.forkChild(Stream.runCollect(smtp.sendAll(mails)))
      yield* TestClock.adjust("1 minute")
      const results = yield* Fiber.join(fiber)
      assert.strictEqual(results.filter(Result.isSuccess).length, 30)
      assert.strictEqual(most(), 4)
    }))

  it.effect("leaves use and verify alone", () =>
    Effect.gen(function*() {
      const smtp = yield* SmtpClient.withAdaptiveConcurrency(stub.make(), { max: 1 })
      const nested = smtp.use(() => smtp.use(() => Effect.andThen(smtp.verify, smtp.send(envelope, "x"))))
      assert.strictEqual(yield* nested, stub.sent)
    }))

  it.effect("composes with retryTemporary and withTimeout in either order", () =>
    Effect.gen(function*() {
      const once = Schedule.recurs(1)
      const options = { max: 8, initial: 8 }
      // Outside, each try is heard of; inside, only what all tries end in.
      const busy = () => stub.make(stub.failing(errors["421 to MAIL"]))
      const outside = SmtpClient.retryTemporary(yield* SmtpClient.withAdaptiveConcurrency(busy(), options), once)
      yield* outside.send(envelope, "x")
      assert.strictEqual(yield* limitOf(outside), 4)
      const inside = yield* SmtpClient.withAdaptiveConcurrency(SmtpClient.retryTemporary(busy(), once), options)
      yield* inside.send(envelope, "x")
      assert.strictEqual(yield* limitOf(inside), 8)

      const hanging = stub.make(() => Effect.never)
      const within = yield* SmtpClient.withAdaptiveConcurrency(SmtpClient.withTimeout(hanging, 1000), options)
      const around = SmtpClient.withTimeout(yield* SmtpClient.withAdaptiveConcurrency(hanging, options), 1000)
      for (const smtp of [within, around]) yield* start(smtp, 1)
      yield* TestClock.adjust(1000)
      assert.deepStrictEqual(yield* stateOf(within), { limit: 4, running: 0, waiting: 0 })
      assert.deepStrictEqual(yield* stateOf(around), { limit: 8, running: 0, waiting: 0 })
    }))

  it.effect("finds the number of connections that a server takes", () => {
    let open = 0
    const script: SmtpServer.Script = {
      respond: { mail: () => open > 6 ? SmtpServer.reply(421, "4.7.0 too many connections") : undefined },
      faults: [SmtpServer.at("message", SmtpServer.delay("1 second"), { occurrence: "every" })]
    }
    return Effect.gen(function*() {
      const made = yield* SmtpClient.make({ host: "mx.test", pool: { max: 50 } })
      const send: SmtpClient.Client["send"] = (to, message) =>
        Effect.suspend(() => {
          open++
          return made.send(to, message)
        }).pipe(Effect.ensuring(Effect.sync(() => {
          open--
        })))
      const adaptive = yield* SmtpClient.withAdaptiveConcurrency({ ...made, send }, { max: 50 })
      const smtp = SmtpClient.retryTemporary(adaptive, Schedule.spaced("100 millis"))
      const fibers = yield* start(smtp, 100)
      const limits: Array<number> = []
      for (let second = 0; second < 40; second++) {
        yield* TestClock.adjust("1 second")
        limits.push((yield* limitOf(smtp))!)
      }
      assert.isTrue((yield* Effect.forEach(fibers, Fiber.join)).every(Result.isSuccess))
      assert.strictEqual((yield* (yield* SmtpServer.SmtpServer).received).length, 100)
      assert.isAtMost(Math.max(...limits.slice(4)), 8)
      assert.isAtLeast(Math.max(...limits.slice(4)), 6)
    }).pipe(Effect.provide(SmtpServer.layer(script)))
  })

  const wrong: ReadonlyArray<readonly [string, unknown]> = [
    ["options", "many"],
    ["options.max", {}],
    ["options.max", { max: 0 }],
    ["options.max", { max: 10_001 }],
    ["options.min", { max: 5, min: 0 }],
    ["options.min", { max: 5, min: 6 }],
    ["options.initial", { max: 5, min: 2, initial: 1 }],
    ["options.initial", { max: 5, initial: 6 }]
  ]
  for (const [field, options] of wrong) {
    it.effect(`refuses ${field} of ${JSON.stringify(options)}`, () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(SmtpClient.withAdaptiveConcurrency(stub.make(), options as never))
        assert.deepInclude(error, { _tag: "ECONFIG", field, command: "API" } as never)
      }))
  }
})
