import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as TestClock from "effect/testing/TestClock"
import * as SmtpClient from "../src/SmtpClient.ts"
import * as SmtpError from "../src/SmtpError.ts"
import { SmtpServer } from "../src/testing/index.ts"

const envelope = { from: "ann@me.test", to: "bob@mx.test" }
const slowFinal: SmtpServer.Script = {
  faults: [SmtpServer.at("message", SmtpServer.delay("5 seconds"), { occurrence: 2, connection: 1 })]
}

/** A warm connection, then a message whose final reply comes after every deadline. */
const late = (given: Partial<SmtpClient.Options & SmtpClient.Policies>) =>
  Effect.gen(function*() {
    const client = yield* SmtpClient.make({ host: "mx.test", name: "me.test", ...given })
    yield* client.send(envelope, "Subject: warm\r\n\r\nx\r\n")
    const fiber = yield* Effect.forkChild(client.send(envelope, "Subject: late\r\n\r\nx\r\n"), {
      startImmediately: true
    })
    return { client, fiber }
  })

const stored = Effect.gen(function*() {
  const { received } = yield* SmtpServer.SmtpServer
  return (yield* received).map(({ text }) => /^Subject: (\w+)/.exec(text ?? "")?.[1])
})

describe("deadlines that pass together", () => {
  const total = { timeouts: { total: "200 millis" } } as const
  const fallback = { fallback: [{ host: "other.test", name: "me.test" }] }
  const rows: { readonly [name: string]: Partial<SmtpClient.Options & SmtpClient.Policies> } = {
    "retry over timeouts.total": { ...total, retry: Schedule.recurs(2) },
    "fallback over timeouts.total": { ...total, ...fallback },
    "retry over timeout over timeouts.total": { ...total, timeout: "200 millis", retry: Schedule.recurs(2) },
    "timeout a moment after timeouts.total": { ...total, timeout: "400 millis", retry: Schedule.recurs(2) },
    "a circuit breaker between them": { ...total, timeout: "300 millis", circuitBreaker: {}, ...fallback }
  }
  for (const chunking of [true, false]) {
    for (const [name, given] of Object.entries(rows)) {
      it.effect(`send the message once, and say that it is in doubt: ${name}, chunking ${chunking}`, () =>
        Effect.gen(function*() {
          const { fiber } = yield* late({ ...given, chunking })
          yield* TestClock.adjust("1 minute")
          const error = yield* Effect.flip(Fiber.join(fiber))
          assert.strictEqual(error._tag, "ETIMEDOUT")
          assert.deepInclude(error, { inDoubt: true, handedOver: true })
          assert.deepStrictEqual(yield* stored, ["warm", "late"])
        }).pipe(Effect.scoped, Effect.provide(SmtpServer.layer(slowFinal))))
    }

    it.effect(`an interruption while a deadline is settled is told the outcome, chunking ${chunking}`, () =>
      Effect.gen(function*() {
        const { fiber } = yield* late({ ...total, chunking })
        yield* TestClock.adjust("300 millis")
        const interrupted = yield* Effect.forkChild(Fiber.interrupt(fiber), { startImmediately: true })
        yield* TestClock.adjust("1 second")
        yield* Fiber.join(interrupted)
        const exit = yield* Fiber.await(fiber)
        assert.isTrue(Exit.isFailure(exit) && Cause.hasInterrupts(exit.cause))
        const outcome = Exit.isFailure(exit)
          ? Context.getOrUndefined(Cause.annotations(exit.cause), SmtpError.Outcome)
          : undefined
        assert.strictEqual(outcome?.inDoubt, true)
      }).pipe(Effect.scoped, Effect.provide(SmtpServer.layer(slowFinal))))
  }
})
