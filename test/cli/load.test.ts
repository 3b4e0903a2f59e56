import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import { leastSize, type Load, makeMessage, run, Tally } from "../../src/cli/load.ts"
import * as SmtpClient from "../../src/SmtpClient.ts"
import { SmtpServer } from "../../src/testing/index.ts"

const mail = { envelope: { from: "a@me.test", to: "b@mx.test" }, message: makeMessage("a@me.test", "b@mx.test", 200) }
const base: Load = { messages: 10, millis: undefined, concurrency: 2, mode: "send", rate: undefined, mail }

const load = (given: Partial<Load>, script: SmtpServer.Script = {}) =>
  Effect.gen(function*() {
    const tally = new Tally()
    const client = yield* SmtpClient.make({ host: "mx.test" })
    yield* run(client, { ...base, ...given }, tally)
    const { connections, received } = yield* SmtpServer.SmtpServer
    return { tally, received: (yield* received).length, dialled: (yield* connections).length }
  }).pipe(Effect.provide(SmtpServer.layer(script)))

const errorsOf = (tally: Tally) => Object.fromEntries(tally.failures)

for (const mode of ["send", "sendAll"] as const) {
  describe(`load by ${mode}`, () => {
    it.effect("sends as many messages as it was told to, over as many connections", () =>
      Effect.gen(function*() {
        const { dialled, received, tally } = yield* load({ mode })
        assert.strictEqual(received, 10)
        assert.deepStrictEqual([dialled, tally.connections], [2, 2])
        assert.deepStrictEqual([tally.begun, tally.accepted, tally.failed, tally.inDoubt], [10, 10, 0, 0])
        assert.strictEqual(tally.octets, 2000)
        assert.strictEqual(tally.latencies.count, 10)
        assert.isUndefined(tally.worst)
      }))

    it.effect("goes on after a refusal on the same connection, and counts it by tag", () =>
      Effect.gen(function*() {
        const faults = [
          SmtpServer.at("rcpt", SmtpServer.answer(450, "4.2.1 later"), { occurrence: 1 }),
          SmtpServer.at("message", SmtpServer.answer(554, "5.6.0 no"), { occurrence: 2 })
        ]
        const { dialled, received, tally } = yield* load({ mode, concurrency: 1, messages: 5 }, { faults })
        assert.deepStrictEqual([dialled, received, tally.failed], [1, 3, 2])
        assert.deepStrictEqual(errorsOf(tally), { EENVELOPE: 1, EMESSAGE: 1 })
        assert.strictEqual(tally.worst?._tag, "EMESSAGE", "what will not mend itself says more")
      }))

    it.effect("opens another connection when one is lost, and counts what is in doubt", () =>
      Effect.gen(function*() {
        const faults = [SmtpServer.at("message", SmtpServer.drop, { connection: 1 })]
        const { dialled, tally } = yield* load({ mode, concurrency: 1, messages: 200 }, { faults })
        assert.strictEqual(dialled, 2)
        assert.strictEqual(tally.accepted + tally.failed, 200)
        assert.isAtLeast(tally.inDoubt, 1, "several where transactions overlap")
        assert.isTrue((tally.failures.get("ECONNECTION") ?? 0) >= 1)
      }))

    it.effect("gives up after three connections in a row that came to nothing", () =>
      Effect.gen(function*() {
        const faults = [SmtpServer.at("connect", SmtpServer.reset, { occurrence: "every" })]
        const { tally } = yield* load({ mode, concurrency: 2 }, { faults })
        assert.deepStrictEqual(errorsOf(tally), { ESOCKET: 6 })
        assert.deepStrictEqual([tally.begun, tally.connections], [0, 0])
        assert.strictEqual(tally.perSecond, 0)
      }))

    it.effect("begins no message after its time, and measures in it", () =>
      Effect.gen(function*() {
        const faults = [SmtpServer.at("message", SmtpServer.delay("300 millis"), { occurrence: "every" })]
        const given = { mode, concurrency: 1, messages: undefined, millis: 1000 }
        const fiber = yield* Effect.forkChild(load(given, { faults }))
        for (let i = 0; i < 600; i++) yield* TestClock.adjust("100 millis")
        const { tally } = yield* Fiber.join(fiber)
        assert.isAtLeast(tally.accepted, 4)
        assert.strictEqual(tally.accepted, tally.begun)
        assert.isAtLeast(tally.latencies.summary().min, 300)
        assert.isAtLeast(tally.millis, 1200)
        assert.isAtMost(tally.perSecond, 1000 / 300)
      }))
  })
}

describe("load at a rate", () => {
  const at = (given: Partial<Load>, script: SmtpServer.Script = {}) =>
    Effect.gen(function*() {
      const fiber = yield* Effect.forkChild(load({ rate: 10, concurrency: 1, ...given }, script))
      for (let i = 0; i < 100; i++) yield* TestClock.adjust("50 millis")
      return yield* Fiber.join(fiber)
    })

  it.effect("sends each message when it is due", () =>
    Effect.gen(function*() {
      const { tally } = yield* at({ messages: 11 })
      assert.strictEqual(tally.accepted, 11)
      assert.strictEqual(tally.millis, 1000)
    }))

  it.effect("does not begin what is due after the end", () =>
    Effect.gen(function*() {
      const { tally } = yield* at({ messages: undefined, millis: 1000 })
      assert.strictEqual(tally.begun, 10)
    }))

  it.effect("counts from when a message was due: a stall shows in those behind it", () =>
    Effect.gen(function*() {
      const faults = [SmtpServer.at("message", SmtpServer.delay("1 second"), { occurrence: 1 })]
      const { tally } = yield* at({ messages: 5 }, { faults })
      assert.isAtLeast(tally.latencies.percentile(50), 800 * 0.99)
    }))
})

describe("a server that takes a connection and no message", () => {
  it.effect("is left after three connections", () =>
    Effect.gen(function*() {
      const tally = new Tally()
      const closed = { isUsable: false } as never
      yield* run({ use: (f) => f(closed) as never }, { ...base, concurrency: 1 }, tally)
      assert.deepStrictEqual([tally.connections, tally.begun], [3, 0])
    }))
})

describe("the message of a benchmark", () => {
  it("has the size that was asked for, and CRLF alone", () => {
    const least = leastSize("a@me.test", "b@mx.test")
    for (let size = least; size < least + 200; size++) {
      const octets = makeMessage("a@me.test", "b@mx.test", size)
      const text = new TextDecoder().decode(octets)
      assert.strictEqual(octets.length, size)
      assert.notMatch(text, /\r(?!\n)|(?<!\r)\n/)
      assert.isTrue(text.endsWith("\r\n"))
      assert.isAtMost(Math.max(...text.split("\r\n").map((line) => line.length)), 80)
    }
  })

  it("has an address of any script counted in octets", () => {
    assert.strictEqual(makeMessage("\u00e4@me.test", "b@mx.test", 300).length, 300)
  })
})
