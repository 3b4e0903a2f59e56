/**
 * Interruption, turns and ends: whatever is left in the middle leaves no socket, fiber, timer or listener, and never a
 * connection on which somebody could take another's reply.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Sasl from "../src/Sasl.ts"
import * as SmtpConnection from "../src/SmtpConnection.ts"
import * as SmtpError from "../src/SmtpError.ts"
import * as SmtpServer from "../src/testing/SmtpServer.ts"
import { bodies, flights, type Mode, modes, open } from "./support/modes.ts"
import { type Probe, probed } from "./support/probe.ts"

const host = "mx.test"
const auth = Sasl.password({ username: "ann", password: Redacted.make("secret") })
const envelope = { from: "ann@me.test", to: "bob@mx.test" }

const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkDetach(effect, { startImmediately: true })

/** Forks an effect, lets it come to a standstill, interrupts it, and gives what it ends in. */
const interruptAtRest = Effect.fnUntraced(function*<A, E, R>(probe: Probe, effect: Effect.Effect<A, E, R>) {
  const fiber = yield* fork(effect)
  yield* probe.quiet
  assert.isUndefined(fiber.pollUnsafe(), "it ended before it could be interrupted")
  yield* fork(Fiber.interrupt(fiber))
  const { elapsed, exit } = yield* probe.drive(fiber)
  assert.isTrue(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause), String(exit))
  yield* probe.quiet
  return elapsed
})

/** Nothing of the client is left: what `probed` asserts at the end of a test, but now. */
const assertNothingLeft = Effect.fnUntraced(function*(probe: Probe, server: SmtpServer.SmtpServer["Service"]) {
  assert.strictEqual(probe.sleeps(), 0, "pending sleeps")
  assert.strictEqual(probe.fibers(), 0, "fibers alive")
  for (const { destroyed } of probe.dialled) assert.isAbove(destroyed, 0, "the socket was not freed")
  for (const { open } of yield* server.connections) assert.isFalse(open, "the server sees it open")
})

const said = (probe: Probe): string => probe.dialled.map(({ writes }) => writes.join("")).join("")

const assertClosed = Effect.fnUntraced(function*(probe: Probe, connection: SmtpConnection.SmtpConnection) {
  const before = said(probe)
  const error = yield* Effect.flip(connection.send(envelope, "again"))
  assert.deepInclude(error, { attempted: false, inDoubt: false })
  assert.strictEqual(said(probe), before)
  return error
})

const silentAt = (step: SmtpServer.Step, occurrence = 1): SmtpServer.Script => ({
  faults: [SmtpServer.at(step, SmtpServer.silence, { occurrence })]
})

describe("make, interrupted", () => {
  for (const step of ["connect", "greeting", "ehlo", "starttls", "tls", "ehlo2", "auth", "authContinue"] as const) {
    for (const total of [undefined, "1 hour"] as const) {
      it.effect(`at ${step} ${total === undefined ? "" : "with a total deadline "}frees all at once`, () =>
        probed(silentAt(step), (probe, server) =>
          Effect.gen(function*() {
            const mechanisms = step === "authContinue" ? ["LOGIN"] : ["PLAIN"]
            const make = SmtpConnection.make({ host, auth, mechanisms, timeouts: { total } })
            assert.strictEqual(yield* interruptAtRest(probe, make), 0)
            yield* assertNothingLeft(probe, server)
            assert.notInclude(said(probe), "QUIT")
          })))
    }
  }

  it.effect("in an implicit handshake frees all at once", () =>
    probed(silentAt("tls"), (probe, server) =>
      Effect.gen(function*() {
        assert.strictEqual(yield* interruptAtRest(probe, SmtpConnection.make({ host, tls: "implicit" })), 0)
        yield* assertNothingLeft(probe, server)
        assert.strictEqual(said(probe), "")
      })))
})

/** How a message ends on the wire. */
const ending = (mode: Mode, text: string): string =>
  mode.via === "DATA" ? `${text}\r\n.\r\n` : `BDAT ${text.length + 2} LAST\r\n${text}\r\n`

/** A call, and the step at which the server is silent. */
interface Method {
  readonly name: string
  readonly step: SmtpServer.Step
  readonly mode: Mode
  readonly call: (connection: SmtpConnection.SmtpConnection) => Effect.Effect<unknown, unknown>
}

const two = Stream.make({ envelope, message: "hello" }, { envelope, message: "two" })

const sending = (mode: Mode): ReadonlyArray<Method> => {
  const send: Method["call"] = (connection) => connection.send(envelope, "hello")
  const sendAll: Method["call"] = (connection) => Stream.runCollect(connection.sendAll(two))
  const steps = mode.via === "DATA" ? ["mail", "rcpt", "data"] as const : ["mail", "rcpt"] as const
  return [
    ...steps.map((step) => ({ name: `send, ${mode.name},`, step, mode, call: send })),
    { name: `sendAll, ${mode.name},`, step: "rcpt", mode, call: sendAll }
  ]
}

const others: ReadonlyArray<Method> = [
  { name: "login", step: "auth", mode: flights, call: (connection) => connection.login(auth) },
  { name: "reset", step: "rset", mode: flights, call: (connection) => connection.reset },
  { name: "noop", step: "noop", mode: flights, call: (connection) => connection.noop },
  { name: "vrfy", step: "vrfy", mode: flights, call: (connection) => connection.vrfy("bob") },
  { name: "expn", step: "expn", mode: flights, call: (connection) => connection.expn("all") },
  { name: "help", step: "help", mode: flights, call: (connection) => connection.help() },
  { name: "quit", step: "quit", mode: flights, call: (connection) => connection.quit }
]

describe("a method, interrupted", () => {
  for (const { call, mode, name, step } of [...others, ...modes.flatMap(sending)]) {
    const isFlight = mode.isFlight && name.startsWith("send")
    // What has been handed over whole is waited for.
    const linger = isFlight ? 500 : 0
    const extensions = isFlight ? open : {}
    it.effect(`${name} at ${step} closes the connection after ${linger} ms, and nothing is left`, () =>
      probed({ extensions, ...silentAt(step) }, (probe, server) =>
        Effect.gen(function*() {
          const connection = yield* SmtpConnection.make({ host, mechanisms: ["PLAIN"], ...mode.options })
          assert.strictEqual(yield* interruptAtRest(probe, call(connection)), linger)
          yield* assertNothingLeft(probe, server)
          yield* assertClosed(probe, connection)
        })))

    it.effect(`${name} at ${step} never lets another call take its late reply`, () =>
      probed({ extensions, faults: [SmtpServer.at(step, SmtpServer.delay(1000))] }, (probe) =>
        Effect.gen(function*() {
          const connection = yield* SmtpConnection.make({ host, mechanisms: ["PLAIN"], ...mode.options })
          yield* interruptAtRest(probe, call(connection))
          yield* assertClosed(probe, connection)
          yield* probe.advance(2000)
          yield* assertClosed(probe, connection)
        })))
  }

  it.effect.each(modes)(
    "RSET before a send closes the connection, and the next is not attempted, $name",
    (mode) =>
      probed(
        { faults: [SmtpServer.at("message", SmtpServer.answer(451, "later")), ...silentAt("rset").faults!] },
        (probe) =>
          Effect.gen(function*() {
            const connection = yield* SmtpConnection.make({ host, ...mode.options })
            yield* Effect.flip(connection.send(envelope, "refused"))
            yield* interruptAtRest(probe, connection.send(envelope, "hello"))
            assert.match(probe.dialled[0]!.writes.at(-1)!, mode.isGrouped ? /^RSET\r\nMAIL / : /^RSET\r\n$/)
            yield* assertClosed(probe, connection)
          })
      )
  )

  it.effect("login between a challenge and its response closes the connection: the server waits for the response", () =>
    probed(
      { respond: { auth: () => SmtpServer.reply(334, "") }, extensions: { auth: ["X-SLOW"] } },
      (probe, server) =>
        Effect.gen(function*() {
          const session: Sasl.Session = {
            finish: () => Result.void,
            step: () =>
              Result.succeed({
                _tag: "Derive",
                hash: "SHA-512",
                password: Redacted.make("secret"),
                salt: new Uint8Array(16),
                iterations: 2_000_000,
                length: 64,
                resume: () => Result.succeed({ _tag: "Done" })
              })
          }
          const mechanism: Sasl.Mechanism = {
            name: "X-SLOW",
            kind: "custom",
            isPlaintext: false,
            clientFirst: false,
            start: () => Result.succeed(session)
          }
          const connection = yield* SmtpConnection.make({ host })
          yield* interruptAtRest(probe, connection.login(Sasl.custom({ mechanism, secret: Redacted.make("secret") })))
          yield* assertNothingLeft(probe, server)
          yield* assertClosed(probe, connection)
        })
    ))

  it.effect("login before its first octet leaves the connection usable", () =>
    probed({}, (probe, server) =>
      Effect.gen(function*() {
        const connection = yield* SmtpConnection.make({ host })
        const before = said(probe)
        yield* interruptAtRest(probe, connection.login(Sasl.oauth2({ username: "ann", token: Effect.never })))
        assert.strictEqual(said(probe), before)
        yield* connection.send(envelope, "hello")
        assert.lengthOf(yield* server.received, 1)
      })))
})

/** Every reply takes a millisecond. */
const unhurried: SmtpServer.Script = {
  faults: SmtpServer.steps.filter((step) => step !== "connect" && step !== "idle" && step !== "body").map((step) =>
    SmtpServer.at(step, SmtpServer.delay(1), { occurrence: "every" })
  )
}

describe("an interruption at any time", () => {
  it.effect.each(modes)(
    "of make and a send leaves nothing behind, and a connection usable or closed, $name",
    (mode) =>
      Effect.gen(function*() {
        const ended: Array<number> = []
        for (let after = 0; ended.length < 3; after++) {
          yield* probed(unhurried, (probe, server) =>
            Effect.gen(function*() {
              let connection: SmtpConnection.SmtpConnection | undefined
              const program = Effect.gen(function*() {
                connection = yield* SmtpConnection.make({ host, auth, ...mode.options })
                yield* connection.noop
                yield* connection.send(envelope, "one")
              })
              const fiber = yield* fork(program)
              yield* probe.advance(after)
              yield* fork(Fiber.interrupt(fiber))
              const { exit } = yield* probe.drive(fiber)
              if (Exit.isSuccess(exit)) ended.push(after)
              if (connection === undefined) return yield* assertNothingLeft(probe, server)
              const before = said(probe)
              const again = yield* probe.settle(connection.send(envelope, "two"))
              if (Exit.isSuccess(again.exit)) {
                return assert.include(said(probe).slice(before.length), ending(mode, "two"))
              }
              assert.strictEqual(said(probe), before)
              assert.strictEqual(SmtpError.fromCause(again.exit.cause)?.attempted, false)
            }))
        }
        assert.isAbove(ended[0]!, 10)
      })
  )
})

const lines = Effect.fnUntraced(function*(server: SmtpServer.SmtpServer["Service"], from: string) {
  const all = (yield* server.transcript).filter((line) => line.from === "client").map(({ text }) => text)
  return all.slice(all.indexOf(from) + 1)
})

const numbered = (n: number) => ({ from: `a${n}@me.test`, to: `b${n}@mx.test` })

describe.each(modes)("turns, $name", (mode) => {
  const body = mode.via === "DATA" ? "DATA" : "BDAT 4 LAST"
  const dialogue = (n: number) => [`MAIL FROM:<a${n}@me.test> SIZE=4`, `RCPT TO:<b${n}@mx.test>`, body]
  const make = SmtpConnection.make({ host, ...mode.options })
  const script = { extensions: open, ...unhurried }

  it.effect("five sends at once are five dialogues, one after the other, in the order of their calls", () =>
    probed(script, (probe, server) =>
      Effect.gen(function*() {
        const connection = yield* Effect.flatMap(probe.settle(make), ({ exit }) => exit)
        const all = [1, 2, 3, 4, 5]
        const sends = all.map((n) => connection.send(numbered(n), `m${n}`))
        const { exit } = yield* probe.settle(Effect.all(sends, { concurrency: "unbounded" }))
        assert.isTrue(Exit.isSuccess(exit))
        const ehlo = (yield* lines(server, "STARTTLS"))[0]!
        assert.deepStrictEqual((yield* lines(server, ehlo)).slice(-15), all.flatMap(dialogue))
        const received = (yield* server.received).map(({ text, to }) => [text, to[0]])
        assert.deepStrictEqual(received, all.map((n) => [`m${n}\r\n`, `b${n}@mx.test`]))
      })))

  it.effect("whoever is interrupted while waiting disturbs neither the one before nor those behind", () =>
    probed(script, (probe, server) =>
      Effect.gen(function*() {
        const connection = yield* Effect.flatMap(probe.settle(make), ({ exit }) => exit)
        const fibers = yield* Effect.forEach([1, 2, 3, 4, 5], (n) => fork(connection.send(numbered(n), `m${n}`)))
        yield* probe.quiet
        for (const waiting of [fibers[1]!, fibers[3]!]) yield* Fiber.interrupt(waiting)
        for (const served of [fibers[0]!, fibers[2]!, fibers[4]!]) {
          assert.isTrue(Exit.isSuccess((yield* probe.drive(served)).exit))
        }
        assert.deepStrictEqual((yield* server.received).map(({ text }) => text), ["m1\r\n", "m3\r\n", "m5\r\n"])
      })))

  it.effect("whoever is interrupted while being served costs those behind the connection, not attempted", () =>
    probed(script, (probe, server) =>
      Effect.gen(function*() {
        const connection = yield* Effect.flatMap(probe.settle(make), ({ exit }) => exit)
        const fibers = yield* Effect.forEach([1, 2, 3], (n) => fork(connection.send(numbered(n), `m${n}`)))
        yield* probe.quiet
        yield* fork(Fiber.interrupt(fibers[0]!))
        yield* probe.drive(fibers[0]!)
        for (const behind of fibers.slice(1)) {
          const { elapsed, exit } = yield* probe.drive(behind)
          assert.strictEqual(elapsed, 0)
          const error = Exit.isFailure(exit) ? SmtpError.fromCause(exit.cause) : undefined
          assert.deepInclude(error, { _tag: "ECONNECTION", attempted: false, inDoubt: false })
        }
        assert.notInclude(said(probe), "a2@me.test")
        assert.lengthOf(yield* server.received, mode.isFlight ? 1 : 0)
      })))
})

describe.each(modes)("the scope of a connection, $name", (mode) => {
  const steps: ReadonlyArray<readonly [SmtpServer.Step, boolean]> = [
    ["mail", mode.isFlight],
    ["rcpt", mode.isFlight],
    ...(mode.via === "DATA" ? [["data", false]] as const : []),
    ["message", true]
  ]
  for (const [step, inDoubt] of steps) {
    it.effect(`closed while a send waits at ${step}, ends the send at once`, () =>
      probed({ extensions: open, ...silentAt(step) }, (probe, server) =>
        Effect.gen(function*() {
          const scope = yield* Scope.make()
          const connection = yield* Scope.provide(SmtpConnection.make({ host, ...mode.options }), scope)
          const fiber = yield* fork(connection.send(envelope, "hello"))
          yield* probe.quiet
          const closed = yield* probe.settle(Scope.close(scope, Exit.void))
          assert.strictEqual(closed.elapsed, 0)
          const { elapsed, exit } = yield* probe.drive(fiber)
          assert.strictEqual(elapsed, 0)
          const error = Exit.isFailure(exit) ? SmtpError.fromCause(exit.cause) : undefined
          assert.deepInclude(error, { _tag: "ECONNECTION", inDoubt, handedOver: inDoubt, attempted: true })
          yield* assertNothingLeft(probe, server)
          assert.notInclude(said(probe), "QUIT")
        })))
  }
})

describe("the end of a connection", () => {
  it.effect.each(bodies)(
    "its scope, closed while a source is waited for, ends the send and the source, $name",
    (mode) =>
      probed({}, (probe, server) =>
        Effect.gen(function*() {
          const scope = yield* Scope.make()
          let freed = 0
          const source = Stream.concat(
            Stream.make("one\r\n"),
            Stream.ensuring(Stream.never, Effect.sync(() => freed++))
          )
          const connection = yield* Scope.provide(SmtpConnection.make({ host, ...mode.options }), scope)
          const fiber = yield* fork(connection.send(envelope, source))
          yield* probe.quiet
          yield* Scope.close(scope, Exit.void)
          const error = yield* Effect.flip(Fiber.join(fiber))
          yield* probe.quiet
          assert.deepInclude(error, { _tag: "ECONNECTION", inDoubt: false })
          assert.strictEqual(freed, 1)
          yield* assertNothingLeft(probe, server)
          assert.deepStrictEqual(yield* server.received, [])
        }))
  )

  it.effect("its scope says QUIT when nobody is served, and waits two seconds at most", () =>
    probed(silentAt("quit"), (probe, server) =>
      Effect.gen(function*() {
        const scope = yield* Scope.make()
        yield* Scope.provide(SmtpConnection.make({ host }), scope)
        assert.strictEqual((yield* probe.settle(Scope.close(scope, Exit.void))).elapsed, 2000)
        assert.isTrue(said(probe).endsWith("QUIT\r\n"))
        yield* probe.quiet
        yield* assertNothingLeft(probe, server)
      })))

  it.effect("its scope, closed by an interruption, says QUIT, frees it at once and waits for no answer", () =>
    probed(silentAt("quit"), (probe, server) =>
      Effect.gen(function*() {
        const program = Effect.scoped(Effect.andThen(SmtpConnection.make({ host }), Effect.never))
        assert.strictEqual(yield* interruptAtRest(probe, program), 0)
        assert.isTrue(said(probe).endsWith("QUIT\r\n"))
        yield* assertNothingLeft(probe, server)
      })))

  it.effect.each(modes)(
    "quit waits for the send that runs, $name",
    (mode) =>
      probed({ faults: [SmtpServer.at("message", SmtpServer.delay(1000))] }, (probe, server) =>
        Effect.gen(function*() {
          const connection = yield* SmtpConnection.make({ host, ...mode.options })
          const send = yield* fork(connection.send(envelope, "hello"))
          yield* probe.quiet
          assert.strictEqual((yield* probe.settle(connection.quit)).elapsed, 1000)
          assert.isTrue(Exit.isSuccess(yield* Fiber.await(send)))
          assert.isTrue(said(probe).endsWith(`${ending(mode, "hello")}QUIT\r\n`))
          yield* assertNothingLeft(probe, server)
        }))
  )

  it.effect("quit that is interrupted while it waits for its turn does nothing", () =>
    probed({ faults: [SmtpServer.at("message", SmtpServer.delay(1000))] }, (probe) =>
      Effect.gen(function*() {
        const connection = yield* SmtpConnection.make({ host })
        const send = yield* fork(connection.send(envelope, "hello"))
        yield* interruptAtRest(probe, connection.quit)
        assert.isTrue(Exit.isSuccess((yield* probe.drive(send)).exit))
        yield* connection.send(envelope, "again")
        assert.notInclude(said(probe), "QUIT")
      })))

  it.effect("two quits say QUIT once", () =>
    probed({}, (probe, server) =>
      Effect.gen(function*() {
        const connection = yield* SmtpConnection.make({ host })
        yield* Effect.all([connection.quit, connection.quit], { concurrency: 2 })
        yield* connection.quit
        assert.lengthOf(said(probe).split("QUIT"), 2)
        yield* probe.quiet
        yield* assertNothingLeft(probe, server)
      })))

  for (const { call, name } of [...others, ...sending(flights).slice(0, 1)]) {
    if (name === "quit") continue
    it.effect(`${name} after quit is refused on our side`, () =>
      probed({}, (probe) =>
        Effect.gen(function*() {
          const connection = yield* SmtpConnection.make({ host })
          yield* connection.quit
          const before = said(probe)
          const error = yield* Effect.flip(call(connection))
          assert.deepInclude(error, { _tag: "ECONNECTION", command: "API", attempted: false, inDoubt: false })
          assert.strictEqual(said(probe), before)
        })))
  }

  it.effect("a call after quit is refused as such also when the server had gone before", () =>
    probed({ faults: [SmtpServer.at("idle", SmtpServer.drop)] }, (probe) =>
      Effect.gen(function*() {
        const connection = yield* SmtpConnection.make({ host })
        yield* connection.send(envelope, "hello")
        yield* probe.quiet
        assert.deepInclude(yield* assertClosed(probe, connection), { _tag: "ECONNECTION", command: "MAIL FROM" })
        yield* connection.quit
        assert.deepInclude(yield* assertClosed(probe, connection), { _tag: "ECONNECTION", command: "API" })
        assert.notInclude(said(probe), "QUIT")
      })))
})
