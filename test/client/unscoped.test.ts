import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as SmtpClient from "../../src/SmtpClient.ts"
import type { SmtpConnector } from "../../src/SmtpConnector.ts"
import * as SmtpError from "../../src/SmtpError.ts"
import { SmtpServer } from "../../src/testing/index.ts"
import { envelope } from "./stub.ts"

/** As in a program that has no scope where it makes its client. */
const make = (
  options: SmtpClient.Options & SmtpClient.Policies = {}
): Effect.Effect<SmtpClient.Client, SmtpError.ECONFIG, SmtpConnector> =>
  Effect.updateContext(
    SmtpClient.make({ host: "mx.test", name: "me.test", ...options }),
    (context: Context.Context<SmtpConnector>) => Context.omit(Scope.Scope)(context) as typeof context
  )

const on = (script: SmtpServer.Script = {}) => Effect.provide(SmtpServer.layer(script))

const connections = Effect.flatMap(SmtpServer.SmtpServer, (server) => server.connections)

/** How many connections there were, once all are closed; no time passes meanwhile. */
const closed = Effect.gen(function*() {
  yield* (yield* SmtpServer.SmtpServer).awaitClosed
  return (yield* connections).length
})

/** What came over each connection, verb by verb. */
const dialogues = Effect.map(Effect.flatMap(SmtpServer.SmtpServer, (server) => server.transcript), (lines) => {
  const said = new Map<number, Array<string>>()
  for (const { connection, from, text } of lines) {
    if (from === "client") said.set(connection, [...(said.get(connection) ?? []), text.split(" ", 1)[0] ?? ""])
  }
  return [...said.values()]
})

const mail = ["EHLO", "STARTTLS", "EHLO", "MAIL", "RCPT", "BDAT", "QUIT"]
const text = "Subject: x\r\n\r\nx\r\n"

const quitSeen = Effect.gen(function*() {
  while (!(yield* dialogues).some((verbs) => verbs.includes("QUIT"))) yield* Effect.yieldNow
})

describe("a client made without a scope", () => {
  it.effect("has a connection for each send, closed when the send is over", () =>
    Effect.gen(function*() {
      const smtp = yield* make()
      assert.deepStrictEqual(yield* connections, [])
      for (const count of [1, 2, 3]) {
        yield* smtp.send(envelope, text)
        assert.strictEqual(yield* closed, count)
      }
      assert.deepStrictEqual(yield* dialogues, [mail, mail, mail])
    }).pipe(on()))

  it.effect("does so when the send fails, and for use and verify", () =>
    Effect.gen(function*() {
      const smtp = yield* make()
      assert.strictEqual((yield* Effect.flip(smtp.send(envelope, text)))._tag, "EENVELOPE")
      assert.isTrue((yield* smtp.verify).secure)
      const sizes = yield* smtp.use((connection) => Effect.map(connection.noop, () => connection.isUsable))
      assert.isTrue(sizes)
      assert.strictEqual(yield* closed, 3)
      assert.deepStrictEqual((yield* dialogues).map((verbs) => verbs.at(-1)), ["QUIT", "QUIT", "QUIT"])
    }).pipe(on({ respond: { mail: () => SmtpServer.reply(550, "5.1.8 not you") } })))

  it.effect("keeps nothing open for a later call, whatever pool.min says", () =>
    Effect.gen(function*() {
      const smtp = yield* make({ pool: { min: 3 } })
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* connections, [])
      yield* smtp.send(envelope, text)
      assert.strictEqual((yield* connections).length, 1)
      assert.strictEqual(smtp.concurrency, 5)
    }).pipe(on()))

  it.effect("lets several sends run at once, each over its own", () =>
    Effect.gen(function*() {
      const smtp = yield* make({ pool: { max: 1 } })
      yield* Effect.all(Array.from({ length: 8 }, () => smtp.send(envelope, text)), { concurrency: "unbounded" })
      assert.deepStrictEqual(yield* dialogues, Array.from({ length: 8 }, () => mail))
    }).pipe(on()))

  it.effect("refuses bad options at once, before it dials", () =>
    Effect.gen(function*() {
      const wrong: ReadonlyArray<readonly [object, string]> = [
        [{ port: 0 }, "options.port"],
        [{ pool: { max: 0 } }, "options.pool.max"],
        [{ pool: { min: 9, max: 8 } }, "options.pool.min"],
        [{ timeout: "soon" }, "options.timeout"]
      ]
      for (const [options, field] of wrong) assert.strictEqual((yield* Effect.flip(make(options))).field, field)
      assert.deepStrictEqual(yield* connections, [])
    }).pipe(on()))

  it.effect("has the state of its policies in common to all calls", () =>
    Effect.gen(function*() {
      const smtp = yield* make({ rateLimit: { limit: 2, window: "1 minute", onExceeded: "fail" } })
      yield* smtp.send(envelope, text)
      yield* smtp.send(envelope, text)
      assert.match((yield* Effect.flip(smtp.send(envelope, text))).message, /the rate limit of 2/)
      assert.strictEqual((yield* smtp.policies).rateLimit?.used, 2)
      assert.strictEqual((yield* connections).length, 2)
    }).pipe(on()))
})

describe("its sendAll", () => {
  const mails = (count: number) =>
    Stream.fromIterable(Array.from({ length: count }, () => ({ envelope, message: text })))

  it.effect("goes over connections of its own while the results are read, and then closes them", () =>
    Effect.gen(function*() {
      const smtp = yield* make({ pool: { max: 2 } })
      const open: Array<number> = []
      const results = yield* Stream.runCollect(Stream.tap(
        smtp.sendAll(mails(40)),
        () => Effect.map(connections, (all) => open.push(all.filter((one) => one.open).length))
      ))
      assert.strictEqual(results.filter(Result.isSuccess).length, 40)
      assert.isAtLeast(Math.min(...open), 1)
      assert.strictEqual(yield* closed, 2)
      assert.deepStrictEqual((yield* dialogues).map((verbs) => verbs.at(-1)), ["QUIT", "QUIT"])
    }).pipe(on()))

  it.effect("closes them when nobody reads on, and opens others for the next run", () =>
    Effect.gen(function*() {
      const smtp = yield* make({ pool: { max: 1 } })
      const one = Stream.runCollect(Stream.take(smtp.sendAll(mails(40)), 1))
      for (const count of [1, 2]) {
        assert.isTrue((yield* one).every(Result.isSuccess))
        assert.strictEqual(yield* closed, count)
      }
    }).pipe(on()))
})

describe("its send that is interrupted", () => {
  const silent = { faults: [SmtpServer.at("quit", SmtpServer.silence)] }

  /** What a send ended in that was interrupted at QUIT. */
  const interrupted = (script: SmtpServer.Script) =>
    Effect.gen(function*() {
      const smtp = yield* make()
      const fiber = yield* Effect.forkChild(smtp.send(envelope, text))
      yield* quitSeen
      const interrupting = yield* Effect.forkChild(Fiber.interrupt(fiber))
      yield* TestClock.adjust("3 seconds")
      yield* Fiber.join(interrupting)
      assert.strictEqual(yield* closed, 1)
      const exit = yield* Fiber.await(fiber)
      return Exit.isFailure(exit) ? exit.cause : Cause.empty
    }).pipe(on({ ...script, ...silent }))

  it.effect("while QUIT is said, says in its cause that the message was taken", () =>
    Effect.gen(function*() {
      const cause = yield* interrupted({})
      assert.isTrue(Cause.hasInterruptsOnly(cause))
      const outcome = Context.getOrUndefined(Cause.annotations(cause), SmtpError.Outcome)
      assert.deepStrictEqual([outcome?.inDoubt, outcome?.reply?.code], [false, 250])
    }))

  it.effect("while QUIT is said, fails as it would have when the message was refused", () =>
    Effect.gen(function*() {
      const cause = yield* interrupted({ respond: { message: () => SmtpServer.reply(554, "5.6.0 no") } })
      assert.deepInclude(SmtpError.fromCause(cause), { _tag: "EMESSAGE", responseCode: 554, inDoubt: false } as never)
    }))

  it.effect("while QUIT is said, by withTimeout, gives what it ended in", () =>
    Effect.gen(function*() {
      const smtp = SmtpClient.withTimeout(yield* make(), "1 second")
      const fiber = yield* Effect.forkChild(smtp.send(envelope, text))
      yield* quitSeen
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual((yield* Fiber.join(fiber)).accepted, ["bob@mx.test"])
    }).pipe(on(silent)))

  it.effect("while the message is read, closes its connection", () =>
    Effect.gen(function*() {
      const smtp = yield* make()
      const begun = yield* Deferred.make<void>()
      const source = Stream.fromEffect(Effect.andThen(Deferred.succeed(begun, undefined), Effect.never))
      const fiber = yield* Effect.forkChild(smtp.send(envelope, source))
      yield* Deferred.await(begun)
      yield* Fiber.interrupt(fiber)
      assert.strictEqual(yield* closed, 1)
    }).pipe(on()))
})
