import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"
import { resolve } from "../src/internal/options.ts"
import * as Sasl from "../src/Sasl.ts"
import * as SmtpConnection from "../src/SmtpConnection.ts"
import { SmtpConnector } from "../src/SmtpConnector.ts"
import { isRetryable, type SmtpError } from "../src/SmtpError.ts"
import { SmtpServer } from "../src/testing/index.ts"
import { chunkedInTurn, type Mode, modes, open } from "./support/modes.ts"

const { answer, at, byteAtATime, delay, silence, stall } = SmtpServer

const seconds = 1000
const minute = 60 * seconds

type Services = SmtpConnector | SmtpServer.SmtpServer | Scope.Scope

/** Runs a test against a fake server with this script. */
const withServer = <A, E>(script: SmtpServer.Script, test: Effect.Effect<A, E, Services>) =>
  test.pipe(Effect.provide(SmtpServer.layer(script)))

const make = (options: SmtpConnection.Options = {}) =>
  SmtpConnection.make({ host: "mx.test", name: "me.test", ...options })

const mail = { from: "ann@me.test", to: "bob@mx.test" }
const auth = Sasl.password({ username: "ann", password: Redacted.make("canary-password") })
const big = `${"x".repeat(998)}\r\n`.repeat(1000)
const nothingIsOpen = Effect.flatMap(SmtpServer.SmtpServer, ({ awaitClosed }) => awaitClosed)

/** No name is ever resolved. */
const unresolved = <A, E, R>(self: Effect.Effect<A, E, R | SmtpConnector>) =>
  Effect.flatMap(
    SmtpConnector,
    (connector) => Effect.provideService(self, SmtpConnector, { ...connector, resolve: () => Effect.never })
  )

/** Settles when that much time has passed, and not a millisecond before. */
const settlesAt = Effect.fnUntraced(function*<A, E, R>(millis: number, self: Effect.Effect<A, E, R>) {
  const fiber = yield* Effect.forkChild(self, { startImmediately: true })
  yield* TestClock.adjust(millis - 1)
  assert.strictEqual(fiber.pollUnsafe(), undefined, "it settled too early")
  yield* TestClock.adjust(1)
  assert.notStrictEqual(fiber.pollUnsafe(), undefined, "it has not settled")
  return yield* Fiber.join(fiber)
})

const expires = <R>(millis: number, self: Effect.Effect<unknown, SmtpError, R>) =>
  settlesAt(millis, Effect.flip(self) as Effect.Effect<SmtpError, never, R>)

const facts = (error: SmtpError) => [
  error._tag === "ETIMEDOUT" ? error.timeout : error._tag,
  error.command,
  error.isTemporary,
  error.inDoubt
]

/** One way into each deadline, from where all was well, with the command that is to blame. */
interface Case {
  readonly timeout: keyof SmtpConnection.Timeouts
  readonly command: string
  readonly script: SmtpServer.Script
  readonly options?: SmtpConnection.Options
  readonly act: (connection: SmtpConnection.SmtpConnection) => Effect.Effect<unknown, SmtpError>
  /** The message has been handed over when it strikes. */
  readonly inDoubt?: boolean
}

const silentAt = (step: SmtpServer.Step): SmtpServer.Script => ({ faults: [at(step, silence)] })
const noAct = () => Effect.void
const silentSource = Stream.concat(Stream.make("Subject: x\r\n\r\n"), Stream.never)

const opening: { readonly [name: string]: Case } = {
  "a name that is not resolved": { timeout: "dns", command: "CONN", script: {}, act: noAct },
  "an address that does not answer": { timeout: "connect", command: "CONN", script: silentAt("connect"), act: noAct },
  "a greeting that does not come": { timeout: "greeting", command: "CONN", script: silentAt("greeting"), act: noAct },
  "a greeting in implicit TLS": {
    timeout: "greeting",
    command: "CONN",
    script: silentAt("greeting"),
    options: { tls: "implicit" },
    act: noAct
  },
  "a greeting that trickles": {
    timeout: "greeting",
    command: "CONN",
    script: { faults: [at("greeting", byteAtATime("5 seconds"))] },
    act: noAct
  },
  "the handshake of implicit TLS": {
    timeout: "tls",
    command: "CONN",
    script: silentAt("tls"),
    options: { tls: "implicit" },
    act: noAct
  },
  "the handshake of STARTTLS": { timeout: "tls", command: "STARTTLS", script: silentAt("tls"), act: noAct },
  EHLO: { timeout: "command", command: "EHLO", script: silentAt("ehlo"), act: noAct },
  "EHLO whose reply trickles": {
    timeout: "command",
    command: "EHLO",
    script: { faults: [at("ehlo", byteAtATime("10 seconds"))] },
    act: noAct
  },
  LHLO: {
    timeout: "command",
    command: "LHLO",
    script: { protocol: "lmtp", ...silentAt("ehlo") },
    options: { protocol: "lmtp" },
    act: noAct
  },
  HELO: {
    timeout: "command",
    command: "HELO",
    script: { faults: [at("ehlo", answer(502, "no")), at("ehlo", silence, { occurrence: 2 })] },
    options: { tls: "off" },
    act: noAct
  },
  STARTTLS: { timeout: "command", command: "STARTTLS", script: silentAt("starttls"), act: noAct },
  "EHLO after STARTTLS": { timeout: "command", command: "EHLO", script: silentAt("ehlo2"), act: noAct },
  AUTH: { timeout: "command", command: "AUTH PLAIN", script: silentAt("auth"), options: { auth }, act: noAct },
  "a later line of AUTH": {
    timeout: "command",
    command: "AUTH LOGIN",
    script: silentAt("authContinue"),
    options: { auth, mechanisms: ["LOGIN"] },
    act: noAct
  }
}

const commands: { readonly [name: string]: Case } = {
  "AUTH in a later login": {
    timeout: "command",
    command: "AUTH PLAIN",
    script: silentAt("auth"),
    act: (c) => c.login(auth)
  },
  RSET: { timeout: "command", command: "RSET", script: silentAt("rset"), act: (c) => c.reset },
  NOOP: { timeout: "command", command: "NOOP", script: silentAt("noop"), act: (c) => c.noop },
  VRFY: { timeout: "command", command: "VRFY", script: silentAt("vrfy"), act: (c) => c.vrfy("bob") },
  EXPN: { timeout: "command", command: "EXPN", script: silentAt("expn"), act: (c) => c.expn("all") },
  HELP: { timeout: "command", command: "HELP", script: silentAt("help"), act: (c) => c.help() }
}

/** The deadlines of what the envelope is told by. */
const envelopes = ({ isFlight, options, via }: Mode): { readonly [name: string]: Case } => {
  const of = (command: string, script: SmtpServer.Script): Case => ({
    timeout: "command",
    command,
    script: { extensions: open, ...script },
    options,
    act: (c) => c.send(mail, "x"),
    inDoubt: isFlight
  })
  return {
    "MAIL FROM": of("MAIL FROM", silentAt("mail")),
    "RCPT TO": of("RCPT TO", silentAt("rcpt")),
    "RCPT TO whose reply trickles": of("RCPT TO", { faults: [at("rcpt", byteAtATime("59 seconds"))] }),
    ...(via === "DATA" ? { DATA: of("DATA", silentAt("data")) } : {})
  }
}

const finals = ({ options, via }: Mode): { readonly [name: string]: Case } => {
  const of = (script: SmtpServer.Script): Case => ({
    timeout: "final",
    command: via,
    script,
    options: { ...options, protocol: script.protocol },
    act: (c) => c.send(mail, "x"),
    inDoubt: true
  })
  return {
    "the final reply": of(silentAt("message")),
    "a final reply that trickles": of({ faults: [at("message", byteAtATime("59 seconds"))] }),
    "the final reply over LMTP": of({ protocol: "lmtp", ...silentAt("message") })
  }
}

/** More than goes unread on any way. */
const endless = Stream.repeat(Stream.make(big), Schedule.forever)

const bodies = ({ options, streamVia }: Mode): { readonly [name: string]: Case } => {
  const of = (message: SmtpConnection.Message, script: SmtpServer.Script = {}): Case => ({
    timeout: "data",
    command: streamVia,
    script,
    options,
    act: (c) => c.send(mail, message)
  })
  return {
    "a body that is not taken": of(big, { faults: [at("body", stall)] }),
    "a streamed body that is not taken": of(endless, { faults: [at("body", stall)] }),
    "a source that never begins": of(Stream.never),
    "a source that falls silent": of(silentSource)
  }
}

const defaults = {
  dns: 30 * seconds,
  connect: 2 * minute,
  greeting: 30 * seconds,
  tls: 30 * seconds,
  command: 5 * minute,
  data: 3 * minute,
  final: 10 * minute,
  idle: 10 * minute,
  quit: 2 * seconds,
  total: Infinity
}

const opens = ({ options, timeout }: Case, timeouts: SmtpConnection.Timeouts) => {
  const opened = make({ ...options, timeouts })
  return timeout === "dns" ? unresolved(opened) : opened
}

const eternal: SmtpConnection.Timeouts = Object.fromEntries(
  Object.keys(defaults).map((name) => [name, Duration.infinity])
)

/** A deadline strikes by default at its time, and alone when the others are off. */
const strikes = (name: string, one: Case, from: "make" | "act") => {
  const during = (
    timeouts: SmtpConnection.Timeouts,
    check: (self: Effect.Effect<unknown, SmtpError, Services>) => Effect.Effect<void, never, Services>
  ) =>
    withServer(
      one.script,
      Effect.gen(function*() {
        if (from === "make") return yield* check(opens(one, timeouts))
        const connection = yield* Effect.orDie(opens(one, timeouts))
        yield* check(one.act(connection))
      })
    )
  const inDoubt = one.inDoubt === true

  for (
    const [title, timeouts, millis] of [
      ["by default", {}, defaults[one.timeout]],
      ["with the others off", { ...eternal, [one.timeout]: 1500 }, 1500]
    ] as const
  ) {
    it.effect(`end ${name} as "${one.timeout}" after ${millis} ms ${title}`, () =>
      during(timeouts, (self) =>
        Effect.gen(function*() {
          const error = yield* expires(millis, self)
          assert.deepStrictEqual(facts(error), [one.timeout, one.command, true, inDoubt])
          assert.strictEqual(isRetryable(error), !inDoubt)
          assert.include(error.message, `the ${one.timeout} deadline passed`)
          yield* nothingIsOpen
        })))
  }

  if (name.includes("trickle")) return
  it.effect(`never end ${name} when they are off`, () =>
    during(eternal, (self) =>
      Effect.gen(function*() {
        const fiber = yield* Effect.forkChild(self, { startImmediately: true })
        yield* TestClock.adjust("30 days")
        assert.strictEqual(fiber.pollUnsafe(), undefined)
        // A send that is interrupted after its dot waits for the reply a little.
        yield* Effect.forkChild(Fiber.interrupt(fiber), { startImmediately: true })
        yield* TestClock.adjust("500 millis")
        yield* nothingIsOpen
      })))
}

describe("the deadlines", () => {
  it.effect("are by default those of the design", () =>
    Effect.sync(() => assert.deepStrictEqual(Result.getOrThrow(resolve({})).deadlines, defaults)))

  for (const [name, one] of Object.entries(opening)) strikes(name, one, "make")
  for (const [name, one] of Object.entries(commands)) strikes(name, one, "act")
})

describe.each(modes)("the deadlines of a send, $name", (mode) => {
  const all = { ...envelopes(mode), ...finals(mode), ...bodies(mode) }
  for (const [name, one] of Object.entries(all)) strikes(name, one, "act")
})

describe("the deadline of a chunk's reply", () => {
  strikes("a chunk", {
    timeout: "command",
    command: "BDAT",
    script: silentAt("bdat"),
    options: chunkedInTurn.options,
    act: (c) => c.send(mail, endless)
  }, "act")
})

describe("the command deadline", () => {
  it.effect("begins anew with each command", () =>
    withServer(
      { faults: [at("noop", delay("4 minutes"), { occurrence: "every" })] },
      Effect.gen(function*() {
        const connection = yield* make()
        for (const _ of [1, 2, 3]) yield* settlesAt(4 * minute, connection.noop)
      })
    ))

  it.effect("is that of the last octet of the reply, to the millisecond", () =>
    withServer(
      { faults: [at("noop", delay(5 * minute - 1))] },
      Effect.gen(function*() {
        const connection = yield* make()
        yield* settlesAt(5 * minute - 1, connection.noop)
        yield* connection.noop
      })
    ))
})

describe.each(modes)("the data deadline, $name", ({ options }) => {
  it.effect("is that of each wait on the source, not of the whole", () =>
    withServer(
      {},
      Effect.gen(function*() {
        const connection = yield* make(options)
        const lines = Stream.make("a\r\n", "b\r\n", "c\r\n", "d\r\n").pipe(
          Stream.tap(() => Effect.sleep("2 minutes"))
        )
        const result = yield* settlesAt(8 * minute, connection.send(mail, lines))
        assert.strictEqual(result.messageSize, 12)
      })
    ))

  it.effect("is that of each write, not of the whole", () =>
    withServer(
      { faults: [at("body", delay("2 minutes"))] },
      Effect.gen(function*() {
        const connection = yield* make(options)
        const result = yield* settlesAt(2 * minute, connection.send(mail, big))
        assert.strictEqual(result.messageSize, big.length)
      })
    ))
})

describe.each(modes)("the final deadline over LMTP, $name", ({ options }) => {
  it.effect("is that of each recipient's reply", () =>
    withServer(
      { protocol: "lmtp", faults: [at("message", delay("9 minutes"), { occurrence: "every" })] },
      Effect.gen(function*() {
        const connection = yield* make({ ...options, protocol: "lmtp" })
        const send = connection.send({ ...mail, to: ["bob@mx.test", "cy@mx.test"] }, "x")
        const result = yield* settlesAt(18 * minute, send)
        assert.deepStrictEqual(result.accepted, ["bob@mx.test", "cy@mx.test"])
      })
    ))
})

describe.each(modes)("the final deadline of a recipient, $name", ({ options }) => {
  it.effect("ends the wait for a second LMTP reply that does not come, long before the idle deadline", () =>
    withServer(
      { protocol: "lmtp", faults: [at("message", silence, { occurrence: 2 })] },
      Effect.gen(function*() {
        const connection = yield* make({ ...options, protocol: "lmtp", timeouts: { final: "1 minute" } })
        const send = connection.send({ ...mail, to: ["bob@mx.test", "cy@mx.test"] }, "x")
        const { accepted, rejectedErrors } = yield* settlesAt(minute, send)
        assert.deepStrictEqual(accepted, ["bob@mx.test"])
        assert.deepStrictEqual(rejectedErrors.map((e) => e._tag === "ETIMEDOUT" && e.timeout), ["final"])
      })
    ))
})

describe("the idle deadline", () => {
  const isOpen = Effect.flatMap(
    SmtpServer.SmtpServer,
    ({ connections }) => Effect.map(connections, (all) => all.some(({ open }) => open))
  )

  it.effect("closes a connection that nobody uses, and the next call says so, unattempted", () =>
    withServer(
      {},
      Effect.gen(function*() {
        const connection = yield* make()
        yield* TestClock.adjust(10 * minute - 1)
        assert.strictEqual(yield* isOpen, true)
        yield* TestClock.adjust(1)
        yield* nothingIsOpen
        const error = yield* Effect.flip(connection.send(mail, "x"))
        assert.deepStrictEqual(facts(error), ["idle", "MAIL FROM", true, false])
        assert.strictEqual(error.attempted, false)
      })
    ))

  it.effect("begins anew with each octet in either direction", () =>
    withServer(
      {},
      Effect.gen(function*() {
        const connection = yield* make()
        for (const _ of [1, 2, 3]) {
          yield* TestClock.adjust("9 minutes")
          yield* connection.noop
        }
        yield* TestClock.adjust("10 minutes")
        yield* nothingIsOpen
      })
    ))

  it.effect("strikes where a longer deadline waits, and a trickling server puts it off", () =>
    withServer(
      { faults: [at("noop", byteAtATime("50 seconds"), { connection: 1 }), at("noop", silence, { connection: 2 })] },
      Effect.gen(function*() {
        const timeouts = { command: "1 day", idle: "1 minute" } as const
        const first = yield* make({ timeouts })
        yield* settlesAt((`250 2.0.0 OK\r\n`.length - 1) * 50 * seconds, first.noop)
        const second = yield* make({ timeouts })
        assert.deepStrictEqual(facts(yield* expires(minute, second.noop)), ["idle", "NOOP", true, false])
      })
    ))

  it.effect("that is off keeps a connection for ever", () =>
    withServer(
      {},
      Effect.gen(function*() {
        const connection = yield* make({ timeouts: { idle: Duration.infinity } })
        yield* TestClock.adjust("365 days")
        yield* connection.noop
      })
    ))
})

describe("the quit deadline", () => {
  it.effect("ends quit after 2 seconds, without an error", () =>
    withServer(
      silentAt("quit"),
      Effect.gen(function*() {
        const connection = yield* make()
        yield* settlesAt(2 * seconds, connection.quit)
        yield* nothingIsOpen
      })
    ))

  it.effect("bounds the closing of the scope", () =>
    withServer(
      silentAt("quit"),
      Effect.gen(function*() {
        yield* settlesAt(2 * seconds, Effect.scoped(make()))
        yield* settlesAt(500, Effect.scoped(make({ timeouts: { quit: "500 millis" } })))
        yield* nothingIsOpen
      })
    ))

  it.effect("cannot be stretched by a server that trickles", () =>
    withServer(
      { faults: [at("quit", byteAtATime("1 second"))] },
      Effect.gen(function*() {
        const connection = yield* make()
        yield* settlesAt(2 * seconds, connection.quit)
      })
    ))

  it.effect("that is off waits for the server", () =>
    withServer(
      silentAt("quit"),
      Effect.gen(function*() {
        const connection = yield* make({ timeouts: eternal })
        const fiber = yield* Effect.forkChild(connection.quit, { startImmediately: true })
        yield* TestClock.adjust("30 days")
        assert.strictEqual(fiber.pollUnsafe(), undefined)
        yield* Fiber.interrupt(fiber)
      })
    ))
})

describe("the total deadline", () => {
  const timeouts: SmtpConnection.Timeouts = { total: "5 seconds" }

  for (const step of ["connect", "greeting", "ehlo", "starttls", "tls", "ehlo2", "auth"] as const) {
    it.effect(`of make strikes at ${step}, and nothing stays open`, () =>
      withServer(
        silentAt(step),
        Effect.gen(function*() {
          const error = yield* expires(5 * seconds, make({ timeouts, auth }))
          assert.deepStrictEqual(facts(error), ["total", "CONN", true, false])
          yield* nothingIsOpen
        })
      ))
  }

  it.effect("of make strikes while a name is resolved and while a token is waited for", () =>
    withServer(
      {},
      Effect.gen(function*() {
        assert.strictEqual(facts(yield* expires(5 * seconds, unresolved(make({ timeouts }))))[0], "total")
        const provider = Sasl.oauth2({ username: "bob", token: Effect.never })
        assert.strictEqual(facts(yield* expires(5 * seconds, make({ timeouts, auth: provider })))[0], "total")
        yield* nothingIsOpen
      })
    ))

  it.effect("of make counts all its steps together", () =>
    withServer(
      { faults: [at("greeting", delay("2 seconds")), at("ehlo", delay("2 seconds")), at("ehlo2", delay("2 seconds"))] },
      Effect.map(expires(5 * seconds, make({ timeouts })), (error) => assert.strictEqual(facts(error)[0], "total"))
    ))
})

describe.each(modes)("the total deadline of send, $name", ({ isFlight, options, streamVia, via }) => {
  const given: SmtpConnection.Options = { ...options, timeouts: { total: "5 seconds" } }
  const commands = { mail: "MAIL FROM", rcpt: "RCPT TO", data: "DATA" }
  for (const step of via === "DATA" ? ["mail", "rcpt", "data"] as const : ["mail", "rcpt"] as const) {
    it.effect(`strikes at ${step}: ${isFlight ? "with half a second of grace, " : "not "}in doubt`, () =>
      withServer(
        { extensions: open, ...silentAt(step) },
        Effect.gen(function*() {
          const connection = yield* make(given)
          const error = yield* expires(isFlight ? 5500 : 5 * seconds, connection.send(mail, "x"))
          assert.deepStrictEqual(facts(error), ["total", commands[step], true, isFlight])
          yield* nothingIsOpen
        })
      ))
  }

  it.effect("strikes while the source is silent", () =>
    withServer(
      {},
      Effect.gen(function*() {
        const connection = yield* make(given)
        const error = yield* expires(5 * seconds, connection.send(mail, silentSource))
        assert.deepStrictEqual(facts(error), ["total", streamVia, true, false])
      })
    ))

  it.effect("strikes after the end with half a second of grace: in doubt", () =>
    withServer(
      silentAt("message"),
      Effect.gen(function*() {
        const connection = yield* make(given)
        const error = yield* expires(5500, connection.send(mail, "x"))
        assert.deepStrictEqual(facts(error), ["total", via, true, true])
      })
    ))

  it.effect("begins with each send", () =>
    withServer(
      { faults: [at("mail", delay("4 seconds"), { occurrence: "every" })] },
      Effect.gen(function*() {
        const connection = yield* make(given)
        for (const _ of [1, 2, 3]) yield* settlesAt(4 * seconds, connection.send(mail, "x"))
      })
    ))
})
