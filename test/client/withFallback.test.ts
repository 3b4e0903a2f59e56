import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import type { ClientError } from "../../src/internal/client/model.ts"
import { isReplayable } from "../../src/internal/message.ts"
import * as SmtpClient from "../../src/SmtpClient.ts"
import * as SmtpConnection from "../../src/SmtpConnection.ts"
import * as SmtpError from "../../src/SmtpError.ts"
import { SmtpServer } from "../../src/testing/index.ts"
import { makeTracer } from "../support/spans.ts"
import * as stub from "./stub.ts"

const { envelope, errors } = stub

/** Two clients, the first of which fails with the error, and whether the second was asked. */
const pair = (first: ClientError) => {
  const asked: Array<string> = []
  const client = (name: string, behaviour: stub.Behaviour) =>
    stub.make((message) => {
      asked.push(name)
      return behaviour(message)
    })
  const smtp = SmtpClient.withFallback([client("first", () => Effect.fail(first)), client("second", () => Effect.void)])
  return { smtp, asked }
}

/** A stream that is read, as far as its first chunk, by whoever sends it. */
const reading = (error: ClientError): stub.Behaviour => (message) =>
  Effect.andThen(
    Stream.runDrain(Stream.take(message as Stream.Stream<string, ClientError>, 1)),
    Effect.fail(error)
  )

describe("withFallback", () => {
  const elsewhere: ReadonlyArray<keyof typeof errors> = [
    "EDNS",
    "ECONNECTION",
    "ESOCKET",
    "ETIMEDOUT",
    "EPROXY",
    "ETLS",
    "EPROTOCOL",
    "EAUTH",
    "ENOAUTH",
    "EOAUTH2",
    "421 to MAIL",
    "451 to MAIL",
    "451 4.7.0 to MAIL",
    "451 4.7.1 to RCPT",
    "a wait of ours"
  ]
  for (const name of Object.keys(errors) as ReadonlyArray<keyof typeof errors>) {
    const goesOn = elsewhere.includes(name)
    it.effect(`${goesOn ? "asks the next client" : "does not go on"} after ${name}`, () =>
      Effect.gen(function*() {
        const { asked, smtp } = pair(errors[name])
        const result = yield* Effect.result(smtp.send(envelope, "x"))
        assert.deepStrictEqual(asked, goesOn ? ["first", "second"] : ["first"])
        if (Result.isFailure(result)) assert.strictEqual(result.failure, errors[name])
      }))
  }

  it.effect("asks the next client with a stream that was not pulled, and not with one that was", () =>
    Effect.gen(function*() {
      let runs = 0
      const message = Stream.suspend(() => {
        runs++
        return Stream.make("x")
      })
      const second: Array<unknown> = []
      const keeping = stub.make((given) => {
        second.push(given)
        return Stream.runDrain(given as Stream.Stream<string, ClientError>)
      })
      const refusing = SmtpClient.withFallback([stub.make(() => Effect.fail(errors.ESOCKET)), keeping])
      yield* refusing.send(envelope, message)
      assert.deepStrictEqual([runs, second.length], [1, 1])
      const pulling = SmtpClient.withFallback([stub.make(reading(errors.ESOCKET)), keeping])
      assert.strictEqual(yield* Effect.flip(pulling.send(envelope, message)), errors.ESOCKET)
      assert.deepStrictEqual([runs, second.length], [2, 1])
    }))

  it.effect("asks the next client with a marked stream although it was pulled, and keeps the mark", () =>
    Effect.gen(function*() {
      const given: Array<unknown> = []
      const keeping = (behaviour: stub.Behaviour) =>
        stub.make((message) => {
          given.push(message)
          return behaviour(message)
        })
      const message = SmtpConnection.replayable(Stream.make("x"))
      const smtp = SmtpClient.withFallback([
        keeping(reading(errors.ESOCKET)),
        keeping(reading(errors["451 to MAIL"])),
        keeping(() => Effect.void)
      ])
      yield* smtp.send(envelope, message)
      assert.strictEqual(given.length, 3)
      assert.isTrue(given.every(isReplayable))
      const inDoubt = SmtpClient.withFallback([
        stub.make(reading(errors["a loss in doubt"])),
        keeping(() => Effect.void)
      ])
      assert.strictEqual(yield* Effect.flip(inDoubt.send(envelope, message)), errors["a loss in doubt"])
      assert.strictEqual(given.length, 3)
    }))

  it.effect("hands on an error of the message's own stream", () =>
    Effect.gen(function*() {
      const behaviour: stub.Behaviour = (message) => Stream.runDrain(message as Stream.Stream<string, ClientError>)
      const smtp = SmtpClient.withFallback([stub.make(behaviour), stub.make(behaviour)])
      assert.strictEqual(yield* Effect.flip(smtp.send(envelope, Stream.fail("mine" as const))), "mine")
    }))

  it.effect("fails with the error of the last, and shows those before it in the log and in the span", () => {
    const logged: Array<string> = []
    const logger = Logger.make(({ logLevel, message }) => {
      logged.push(`${logLevel} ${[message].flat().join(" ")}`)
    })
    const { spans, tracer } = makeTracer()
    return Effect.gen(function*() {
      const client = (error: ClientError) => stub.make(() => Effect.fail(error))
      const smtp = SmtpClient.withFallback([
        client(errors.ESOCKET),
        client(errors["451 to MAIL"]),
        client(errors["550 to RCPT"]),
        client(errors.EDNS)
      ])
      const error = yield* Effect.flip(Effect.withSpan(smtp.send(envelope, "x"), "mine"))
      assert.strictEqual(error, errors["550 to RCPT"])
      const said = ["ESOCKET: as the test says", "EENVELOPE: MAIL FROM: the server answered 451 4.3.0"]
      assert.deepStrictEqual(
        logged,
        said.map((text, i) => `Warn smtp: server ${i + 1} of 4 failed, trying the next: ${text}`)
      )
      assert.deepStrictEqual(spans[0]?.attributes.get("smtp.fallback.failures"), said)
    }).pipe(Effect.provide(Logger.layer([logger])), Effect.withTracer(tracer))
  })

  it.effect("uses the next client only while no connection could be had", () =>
    Effect.gen(function*() {
      const { asked, smtp } = pair(errors.ETLS)
      assert.strictEqual(yield* smtp.use(() => Effect.succeed(7)), 7)
      assert.deepStrictEqual(asked, ["first", "second"])
      const healthy = SmtpClient.withFallback([stub.make(), stub.make(() => Effect.die("not asked for"))])
      assert.strictEqual(yield* Effect.flip(healthy.use(() => Effect.fail(errors.ESOCKET))), errors.ESOCKET)
    }))

  it.effect("verifies the first server that can be reached", () =>
    Effect.gen(function*() {
      const { asked, smtp } = pair(errors.ESOCKET)
      assert.isFalse((yield* smtp.verify).authenticated)
      assert.deepStrictEqual(asked, ["first", "second"])
    }))

  it.effect("covers sendAll, mail by mail", () =>
    Effect.gen(function*() {
      const first = stub.make(stub.failing(undefined, errors.ESOCKET, errors["550 to RCPT"]))
      const smtp = SmtpClient.withFallback([first, stub.make()])
      const mails = Stream.fromIterable(["a", "b", "c", "d"]).pipe(Stream.map((message) => ({ envelope, message })))
      const results = yield* Stream.runCollect(smtp.sendAll(mails))
      assert.deepStrictEqual(results.map(Result.isSuccess), [true, true, false, true])
    }))

  it.effect("refuses a list that is empty, at the first call", () =>
    Effect.gen(function*() {
      const smtp = SmtpClient.withFallback([] as never)
      for (const call of [smtp.send(envelope, "x"), smtp.verify, smtp.use(() => Effect.void)]) {
        const error = yield* Effect.flip(call as Effect.Effect<unknown, ClientError>)
        assert.deepInclude(error, { _tag: "ECONFIG", field: "clients" } as never)
      }
    }))

  it.effect("shows the policies of each client, and goes past an open circuit", () =>
    Effect.gen(function*() {
      let calls = 0
      const down = stub.make(() =>
        Effect.suspend(() => {
          calls++
          return Effect.fail(errors.ESOCKET)
        })
      )
      const breaking = yield* SmtpClient.withCircuitBreaker(down, { failures: 2 })
      const smtp = SmtpClient.withFallback([breaking, stub.make()])
      yield* Effect.repeat(smtp.send(envelope, "x"), { times: 4 })
      assert.strictEqual(calls, 2)
      const { clients } = yield* smtp.policies
      assert.deepStrictEqual(clients?.map(({ circuitBreaker }) => circuitBreaker?.status), ["open", undefined])
    }))

  it.effect("composes with retryTemporary and withTimeout in either order", () =>
    Effect.gen(function*() {
      const down = () => stub.make(stub.failing(errors.ESOCKET, errors.ESOCKET))
      // Inside, the first server is tried again before the next one is asked; outside, all are before any is again.
      let asked = 0
      const second = stub.make(() =>
        Effect.suspend(() => {
          asked++
          return Effect.fail(errors.ESOCKET)
        })
      )
      yield* SmtpClient.withFallback([SmtpClient.retryTemporary(down(), Schedule.recurs(2)), second]).send(
        envelope,
        "x"
      )
      assert.strictEqual(asked, 0)
      yield* SmtpClient.retryTemporary(SmtpClient.withFallback([down(), second]), Schedule.recurs(2)).send(
        envelope,
        "x"
      )
      assert.strictEqual(asked, 2)

      const hanging = stub.make(() => Effect.never)
      const each = SmtpClient.withFallback([SmtpClient.withTimeout(hanging, 1000), stub.make()])
      const both = SmtpClient.withTimeout(SmtpClient.withFallback([hanging, stub.make()]), 1000)
      const fibers = yield* Effect.forEach(
        [each, both],
        (smtp) => Effect.forkChild(Effect.result(smtp.send(envelope, "x")))
      )
      yield* TestClock.adjust(1000)
      const results = yield* Effect.forEach(fibers, Fiber.join)
      assert.deepStrictEqual(results.map(Result.isSuccess), [true, false])
    }))

  it.effect("sends by the second server once, and not at all when the first is in doubt", () => {
    const faults = [
      SmtpServer.at("greeting", SmtpServer.drop, { connection: 1 }),
      SmtpServer.at("message", SmtpServer.drop, { connection: 3 })
    ]
    return Effect.gen(function*() {
      const first = yield* SmtpClient.make({ host: "mx1.test", name: "one.me.test" })
      const second = yield* SmtpClient.make({ host: "mx2.test", name: "other.me.test" })
      const smtp = SmtpClient.withFallback([first, second])
      const server = yield* SmtpServer.SmtpServer
      assert.strictEqual((yield* smtp.send(envelope, "one\n")).response, "2.0.0 queued as 1")
      assert.deepStrictEqual((yield* server.connections).map(({ helo }) => helo), [undefined, "other.me.test"])
      assert.strictEqual((yield* server.received).length, 1)
      const error = yield* Effect.flip(smtp.send(envelope, "two\n"))
      assert.isTrue(error.inDoubt)
      assert.isTrue(SmtpError.isSmtpError(error))
      assert.strictEqual((yield* server.connections).length, 3)
    }).pipe(Effect.provide(SmtpServer.layer({ faults, extensions: { chunking: false } })))
  })

  it.effect("takes a send that some recipients accepted for what it is: done", () => {
    const faults = [SmtpServer.at("rcpt", SmtpServer.answer(451, "4.2.2 full"), { occurrence: 2 })]
    return Effect.gen(function*() {
      const first = yield* SmtpClient.make({ host: "mx1.test" })
      const smtp = SmtpClient.withFallback([first, stub.make(() => Effect.die("not asked for"))])
      const { accepted, rejected } = yield* smtp.send({ from: "", to: ["a@mx.test", "b@mx.test"] }, "x")
      assert.deepStrictEqual([accepted, rejected], [["a@mx.test"], ["b@mx.test"]])
    }).pipe(Effect.provide(SmtpServer.layer({ faults, extensions: { chunking: false } })))
  })
})
