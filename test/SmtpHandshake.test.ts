import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import * as Sasl from "../src/Sasl.ts"
import * as SmtpConnection from "../src/SmtpConnection.ts"
import { type Duplex, type Endpoint, SmtpConnector, type Target, type TlsUpgrade } from "../src/SmtpConnector.ts"
import { ECONFIG, ESOCKET, ETLS, type SmtpError } from "../src/SmtpError.ts"
import { SmtpServer } from "../src/testing/index.ts"

const { answer, at, delay, drop, garbage, plaintextAfterStartTls, reply, reset, silence } = SmtpServer

type Connector = SmtpConnector["Service"]

/** Runs a test against a fake server with this script. */
const withServer = <A, E>(
  script: SmtpServer.Script,
  test: Effect.Effect<A, E, SmtpConnector | SmtpServer.SmtpServer | Scope.Scope>
) => test.pipe(Effect.provide(SmtpServer.layer(script)))

/** The connector changed, for one effect. */
const changing =
  (change: (connector: Connector) => Partial<Connector>) => <A, E, R>(self: Effect.Effect<A, E, R | SmtpConnector>) =>
    Effect.flatMap(
      SmtpConnector,
      (connector) => Effect.provideService(self, SmtpConnector, { ...connector, ...change(connector) })
    )

/** Each duplex changed, for one effect. */
const duplexing = (change: (duplex: Duplex, target: Target) => Partial<Duplex>) =>
  changing((connector) => ({
    connect: (target) => Effect.map(connector.connect(target), (duplex) => ({ ...duplex, ...change(duplex, target) }))
  }))

const securing = duplexing(() => ({ secured: true }))

/** The endpoint has n addresses. */
const addressed = (n: number) =>
  changing(() => ({
    resolve: (endpoint) => {
      const target = (i: number): Target => ({ ...endpoint, address: `192.0.2.${i + 1}` })
      return Effect.succeed([target(0), ...Array.from({ length: n - 1 }, (_, i) => target(i + 1))])
    }
  }))

const make = (options: SmtpConnection.Options = {}) =>
  SmtpConnection.make({ host: "mx.test", name: "me.test", ...options })
const refusal = (options?: SmtpConnection.Options) => Effect.flip(make(options))

const server = SmtpServer.SmtpServer
const text = (octets: Uint8Array | undefined): string => Buffer.from(octets ?? []).toString("latin1")

/** What the server got from each connection, in the clear and inside TLS. */
const said = Effect.gen(function*() {
  return (yield* (yield* server).connections).map(({ bytes, bytesInClear }) => {
    const all = text(bytes)
    return { clear: all.slice(0, bytesInClear), inside: all.slice(bytesInClear) }
  })
})
const clear = Effect.map(said, (connections) => connections.map((connection) => connection.clear))
const count = Effect.map(said, (connections) => connections.length)

/** All connections have ended, though the scope of the test is open. */
const nothingIsOpen = Effect.flatMap(server, ({ awaitClosed }) => awaitClosed)

const facts = (error: SmtpError) => [error._tag, error.command, error.responseCode, error.isTemporary]

const credentials = Sasl.password({ username: "ann", password: Redacted.make("canary-password") })
const mail = { from: "ann@me.test", to: "bob@mx.test" }

describe("the greeting", () => {
  const codes: ReadonlyArray<readonly [number, string, boolean]> = [
    [421, "ECONNECTION", true],
    [450, "ECONNECTION", true],
    [554, "ECONNECTION", false],
    [250, "EPROTOCOL", false],
    [334, "EPROTOCOL", false]
  ]
  for (const [code, tag, isTemporary] of codes) {
    it.effect(`is refused when it is ${code}: ${tag}, and nothing was said`, () =>
      withServer(
        { greeting: reply(code, "no") },
        Effect.gen(function*() {
          assert.deepStrictEqual(facts(yield* refusal()), [tag, "CONN", code, isTemporary])
          yield* nothingIsOpen
          assert.deepStrictEqual(yield* clear, [""])
        })
      ))
  }

  for (const banner of ["HTTP/1.1 400 Bad Request\r\n", "* OK IMAP4 ready\r\n", "+OK POP3 ready\r\n"]) {
    it.effect(`is refused when it is another protocol's: ${banner.trim()}`, () =>
      withServer(
        { faults: [at("greeting", garbage(banner))] },
        Effect.gen(function*() {
          assert.deepStrictEqual(facts(yield* refusal()), ["EPROTOCOL", "CONN", undefined, false])
          yield* nothingIsOpen
          assert.deepStrictEqual(yield* clear, [""])
        })
      ))
  }

  it.effect("comes before anything is said, however late it is", () =>
    withServer(
      { faults: [at("greeting", delay("29 seconds"))] },
      Effect.gen(function*() {
        const fiber = yield* Effect.forkChild(make({ tls: "off" }), { startImmediately: true })
        yield* TestClock.adjust("28 seconds")
        assert.deepStrictEqual(yield* clear, [""])
        yield* TestClock.adjust("1 second")
        const connection = yield* Fiber.join(fiber)
        assert.deepStrictEqual(yield* clear, ["EHLO me.test\r\n"])
        assert.strictEqual(connection.greeting.text, "fake.test ESMTP ready")
      })
    ))

  it.effect("that has many lines is taken whole", () =>
    withServer(
      { greeting: reply(220, "fake.test", "no spam") },
      Effect.map(make(), ({ greeting }) => assert.deepStrictEqual(greeting.lines, ["fake.test", "no spam"]))
    ))

  it.effect("that is refused frees the connection at once, without QUIT", () =>
    withServer(
      { greeting: reply(554, "go away") },
      Effect.gen(function*() {
        assert.include((yield* refusal()).message, "554 go away")
        yield* nothingIsOpen
      })
    ))

  it.effect("that does not come names tls: \"implicit\", unless that is set", () =>
    withServer(
      { faults: [at("greeting", silence)] },
      Effect.gen(function*() {
        for (const tls of ["starttls", "opportunistic", "off", "implicit"] as const) {
          const fiber = yield* Effect.forkChild(refusal({ tls }), { startImmediately: true })
          yield* TestClock.adjust("30 seconds")
          const error = yield* Fiber.join(fiber)
          assert.strictEqual(error._tag === "ETIMEDOUT" && error.timeout, "greeting")
          assert.strictEqual(error.message.includes(`set tls: "implicit"`), tls !== "implicit")
        }
      })
    ))
})

describe("EHLO", () => {
  it.effect("gives the capabilities", () =>
    withServer(
      {},
      Effect.gen(function*() {
        const { capabilities } = yield* make({ tls: "off" })
        assert.deepInclude(capabilities, { name: "fake.test", extended: true, startTls: true, pipelining: true })
        assert.strictEqual(capabilities.sizeLimit, 52_428_800)
      })
    ))

  for (const [code, tag] of [[250, ""], [220, "EPROTOCOL"], [251, "EPROTOCOL"], [354, "EPROTOCOL"]] as const) {
    it.effect(`answered with ${code} is ${tag || "taken"}`, () =>
      withServer(
        { faults: [at("ehlo", answer(code, "hm"))] },
        Effect.gen(function*() {
          const result = yield* Effect.result(make({ tls: "off" }))
          assert.strictEqual(result._tag === "Failure" ? result.failure._tag : "", tag)
          if (tag !== "") yield* nothingIsOpen
        })
      ))
  }

  it.effect("is LHLO over LMTP, with port 24 by default", () =>
    withServer(
      { protocol: "lmtp", extensions: { startTls: false } },
      Effect.gen(function*() {
        let endpoint: Endpoint | undefined
        yield* make({ protocol: "lmtp", tls: "off" }).pipe(changing((connector) => ({
          resolve: (given) => {
            endpoint = given
            return connector.resolve(given)
          }
        })))
        assert.strictEqual(endpoint?.port, 24)
        assert.deepStrictEqual(yield* clear, ["LHLO me.test\r\n"])
      })
    ))

  for (const code of [500, 501, 502, 504]) {
    it.effect(`is followed by HELO when it is refused with ${code}`, () =>
      withServer(
        { faults: [at("ehlo", answer(code, "what?"))] },
        Effect.gen(function*() {
          const { capabilities } = yield* make({ tls: "off" })
          assert.deepStrictEqual(yield* clear, ["EHLO me.test\r\nHELO me.test\r\n"])
          assert.strictEqual(capabilities.extended, false)
          assert.strictEqual(capabilities.extensions.size, 0)
        })
      ))
  }

  for (const code of [421, 450, 503, 550, 554]) {
    it.effect(`is not followed by HELO when it is refused with ${code}`, () =>
      withServer(
        { faults: [at("ehlo", answer(code, "no"))] },
        Effect.gen(function*() {
          assert.deepStrictEqual(facts(yield* refusal({ tls: "off" })), ["ECONNECTION", "EHLO", code, code < 500])
          yield* nothingIsOpen
          assert.deepStrictEqual(yield* clear, ["EHLO me.test\r\n"])
        })
      ))
  }

  it.effect("that fails as HELO too is ECONNECTION with HELO's reply", () =>
    withServer(
      { faults: [at("ehlo", answer(502, "no")), at("ehlo", answer(550, "nor that"), { occurrence: 2 })] },
      Effect.gen(function*() {
        assert.deepStrictEqual(facts(yield* refusal({ tls: "off" })), ["ECONNECTION", "HELO", 550, false])
        yield* nothingIsOpen
      })
    ))

  it.effect("is never HELO over LMTP", () =>
    withServer(
      { protocol: "lmtp", faults: [at("ehlo", answer(500, "what?"))] },
      Effect.gen(function*() {
        const error = yield* refusal({ protocol: "lmtp", tls: "off" })
        assert.deepStrictEqual(facts(error), ["ECONNECTION", "LHLO", 500, false])
        assert.deepStrictEqual(yield* clear, ["LHLO me.test\r\n"])
      })
    ))

  it.effect("is never HELO after STARTTLS", () =>
    withServer(
      { faults: [at("ehlo2", answer(500, "what?"))] },
      Effect.gen(function*() {
        assert.deepStrictEqual(facts(yield* refusal()), ["ECONNECTION", "EHLO", 500, false])
        yield* nothingIsOpen
        assert.deepStrictEqual(yield* said, [{ clear: "EHLO me.test\r\nSTARTTLS\r\n", inside: "EHLO me.test\r\n" }])
      })
    ))

  it.effect("may be HELO inside implicit TLS: it is the first EHLO", () =>
    withServer(
      { faults: [at("ehlo", answer(502, "what?"))] },
      Effect.gen(function*() {
        const { capabilities, secure } = yield* make({ tls: "implicit" })
        assert.deepStrictEqual([capabilities.extended, secure], [false, true])
        assert.deepStrictEqual(yield* said, [{ clear: "", inside: "EHLO me.test\r\nHELO me.test\r\n" }])
      })
    ))

  const old = { respond: { ehlo: () => reply(502, "5.5.1 what?") } }

  it.effect("that the server does not know is ETLS where STARTTLS is required, and HELO is not said", () =>
    withServer(
      old,
      Effect.gen(function*() {
        assert.deepStrictEqual(facts(yield* refusal()), ["ETLS", "STARTTLS", 502, false])
        yield* nothingIsOpen
        assert.deepStrictEqual(yield* clear, ["EHLO me.test\r\n"])
      })
    ))

  it.effect("that the server does not know is EAUTH with credentials", () =>
    withServer(
      old,
      Effect.gen(function*() {
        const error = yield* refusal({ tls: "off", auth: credentials, allowInsecureAuth: true })
        assert.deepStrictEqual(facts(error), ["EAUTH", "API", undefined, false])
        yield* nothingIsOpen
        assert.deepStrictEqual(yield* clear, ["EHLO me.test\r\nHELO me.test\r\nQUIT\r\n"])
      })
    ))

  it.effect("that the server does not know is EENVELOPE where the envelope needs an extension", () =>
    withServer(
      old,
      Effect.gen(function*() {
        const connection = yield* make({ tls: "opportunistic" })
        const error = yield* Effect.flip(connection.send({ ...mail, dsn: { ret: "HDRS" } }, "x"))
        assert.deepStrictEqual(facts(error), ["EENVELOPE", "API", undefined, false])
        assert.deepStrictEqual((yield* connection.send(mail, "x")).accepted, ["bob@mx.test"])
        assert.include((yield* clear)[0], "HELO me.test\r\nMAIL FROM:<ann@me.test>\r\n")
      })
    ))
})

describe("the name in EHLO", () => {
  const named = (localName: string | undefined, localAddress: string | undefined) =>
    withServer(
      {},
      Effect.gen(function*() {
        yield* SmtpConnection.make({ host: "mx.test", tls: "off" }).pipe(
          duplexing(() => ({ localAddress })),
          changing(() => ({ localName }))
        )
        return (yield* clear)[0]
      })
    )
  const cases: ReadonlyArray<readonly [string | undefined, string | undefined, string]> = [
    ["host.test", "192.0.2.7", "host.test"],
    [undefined, "192.0.2.7", "[192.0.2.7]"],
    [undefined, "2001:db8::7", "[IPv6:2001:db8::7]"],
    [undefined, "::ffff:192.0.2.7", "[IPv6:::ffff:192.0.2.7]"],
    [undefined, "fe80::1%eth0", "[IPv6:fe80::1]"],
    [undefined, undefined, "[127.0.0.1]"]
  ]
  for (const [localName, localAddress, name] of cases) {
    it.effect(`is ${name} for the host ${localName} at ${localAddress}`, () =>
      Effect.map(named(localName, localAddress), (line) => assert.strictEqual(line, `EHLO ${name}\r\n`)))
  }

  it.effect("that the connector cannot have is ECONFIG before anything is dialled, unless name is set", () =>
    withServer(
      {},
      Effect.gen(function*() {
        const bad = changing(() => ({ localName: "my host\r\nRSET" }))
        const error = yield* Effect.flip(SmtpConnection.make({ host: "mx.test", tls: "off" })).pipe(bad)
        assert.deepStrictEqual(facts(error), ["ECONFIG", "API", undefined, false])
        assert.deepStrictEqual([error.field, error.attempted], ["options.name", false])
        assert.strictEqual(yield* count, 0)
        yield* make({ tls: "off" }).pipe(bad)
        assert.deepStrictEqual(yield* clear, ["EHLO me.test\r\n"])
      })
    ))
})

describe("several addresses", () => {
  const once = (connection: number, occurrence: number | "every" = 1) => ({ connection, occurrence })

  it.effect("are tried in order: the next after a failed connect", () =>
    withServer(
      { faults: [at("connect", reset)] },
      Effect.gen(function*() {
        const dialled: Array<string | undefined> = []
        yield* make({ tls: "off" }).pipe(
          changing(({ connect }) => ({
            connect: (target) => {
              dialled.push(target.address)
              return connect(target)
            }
          })),
          addressed(3)
        )
        assert.deepStrictEqual(dialled, ["192.0.2.1", "192.0.2.2"])
      })
    ))

  const failures = {
    greeting: at("greeting", answer(450, "busy"), once(1)),
    "a greeting that is none": at("greeting", garbage(), once(1)),
    "a connection that drops": at("greeting", drop, once(1)),
    TLS: at("tls", SmtpServer.tlsFailure, once(1))
  }
  for (const [name, fault] of Object.entries(failures)) {
    it.effect(`are tried in order: the next after ${name}, and nothing of the first stays open`, () =>
      withServer(
        { faults: [fault] },
        Effect.gen(function*() {
          const connection = yield* addressed(2)(make({ tls: "implicit" }))
          assert.strictEqual(connection.secure, true)
          const open = (yield* (yield* server).connections).map((info) => info.open)
          assert.deepStrictEqual(open, [false, true])
        })
      ))
  }

  it.effect("are left once one has greeted: a refused EHLO is the end", () =>
    withServer(
      { faults: [at("ehlo", answer(550, "no"))] },
      Effect.gen(function*() {
        assert.strictEqual((yield* addressed(2)(refusal({ tls: "off" }))).responseCode, 550)
        assert.strictEqual(yield* count, 1)
      })
    ))

  const refused = new ESOCKET({ command: "CONN", message: "refused" })
  const steps: { readonly [name: string]: SmtpServer.PlacedFault | ESOCKET } = {
    connect: refused,
    TLS: at("tls", SmtpServer.tlsFailure),
    TLSDEADLINE: at("tls", silence),
    greeting: at("greeting", answer(450, "busy")),
    refusal: at("greeting", answer(554, "never")),
    greetingReset: at("greeting", reset)
  }
  const orders: ReadonlyArray<readonly [ReadonlyArray<string>, string, string | number]> = [
    [["connect", "TLS"], "ETLS", "CONN"],
    [["TLS", "connect"], "ETLS", "CONN"],
    [["greeting", "TLS", "connect"], "ECONNECTION", 450],
    [["connect", "TLS", "greeting"], "ECONNECTION", 450],
    [["TLSDEADLINE", "greeting"], "ECONNECTION", 450],
    [["greeting", "refusal"], "ECONNECTION", 450],
    [["refusal", "greeting"], "ECONNECTION", 554],
    [["connect", "greetingReset"], "ESOCKET", "ECONNRESET"],
    [["greetingReset", "TLS"], "ESOCKET", "ECONNRESET"]
  ]
  for (const [order, tag, detail] of orders) {
    it.effect(`end in the error of the one that got furthest: ${order.join(", ")}`, () => {
      let dialled = 0
      let connections = 0
      const faults = order.flatMap((name) => {
        const fault = steps[name]
        if (fault === undefined || fault instanceof ESOCKET) return []
        return [{ ...fault, connection: ++connections }]
      })
      return withServer(
        { faults },
        Effect.gen(function*() {
          const fiber = yield* refusal({ tls: "implicit" }).pipe(
            changing(({ connect }) => ({
              connect: (target) => steps[order[dialled++] ?? ""] === refused ? Effect.fail(refused) : connect(target)
            })),
            addressed(order.length),
            Effect.forkChild({ startImmediately: true })
          )
          yield* TestClock.adjust("30 seconds")
          const error = yield* Fiber.join(fiber)
          assert.strictEqual(error._tag, tag)
          assert.include(
            [error.command, error.responseCode, (error.cause as { code?: string } | undefined)?.code],
            detail
          )
          assert.strictEqual(dialled, order.length)
          yield* nothingIsOpen
        })
      )
    })
  }

  it.effect("are dialled a quarter of a second apart, or when the one before has failed; each has the connect deadline", () =>
    withServer(
      { faults: [at("connect", silence, { occurrence: "every" })] },
      Effect.gen(function*() {
        const begun: Array<number> = []
        const clock = yield* TestClock.testClockWith(Effect.succeed)
        const fiber = yield* refusal({ timeouts: { connect: "60 seconds" } }).pipe(
          changing(({ connect }) => ({
            connect: (target) => {
              begun.push(clock.currentTimeMillisUnsafe())
              return begun.length === 2 ? Effect.fail(refused) : connect(target)
            }
          })),
          addressed(4),
          Effect.forkChild({ startImmediately: true })
        )
        yield* TestClock.adjust("59999 millis")
        assert.strictEqual(fiber.pollUnsafe(), undefined)
        yield* TestClock.adjust("1 millis")
        const error = yield* Fiber.join(fiber)
        assert.deepStrictEqual([error._tag, error._tag === "ETIMEDOUT" && error.timeout], ["ETIMEDOUT", "connect"])
        const [start = 0] = begun
        assert.deepStrictEqual(begun.map((time) => time - start), [0, 250, 250, 500])
      })
    ))

  it.effect("are not dialled any more once the connect deadline has passed", () =>
    withServer(
      { faults: [at("greeting", silence)] },
      Effect.gen(function*() {
        const fiber = yield* refusal({ tls: "off", timeouts: { connect: "10 seconds" } }).pipe(
          addressed(3),
          Effect.forkChild({ startImmediately: true })
        )
        yield* TestClock.adjust("30 seconds")
        const error = yield* Fiber.join(fiber)
        assert.strictEqual(error._tag === "ETIMEDOUT" && error.timeout, "greeting")
        assert.strictEqual(yield* count, 1)
      })
    ))
})

const modes = ["starttls", "opportunistic", "off", "implicit"] as const
type End = "TLS" | "clear" | "redial" | readonly [tag: string, responseCode: number | undefined, isTemporary: boolean]

/** What a server does about STARTTLS, and what each mode makes of it. */
const table: { readonly [server: string]: readonly [SmtpServer.Script, ...ReadonlyArray<End>] } = {
  "offers and does it": [{}, "TLS", "TLS", "clear", "TLS"],
  "does not offer it": [
    { extensions: { startTls: false } },
    ["ETLS", undefined, false],
    "clear",
    "clear",
    "TLS"
  ],
  "answers 454": [
    { faults: [at("starttls", answer(454, "4.7.0 not now"))] },
    ["ETLS", 454, true],
    "clear",
    "clear",
    "TLS"
  ],
  "answers 500": [{ faults: [at("starttls", answer(500, "no"))] }, ["ETLS", 500, false], "clear", "clear", "TLS"],
  "answers 421": [
    { faults: [at("starttls", answer(421, "bye"))] },
    ["ECONNECTION", 421, true],
    ["ECONNECTION", 421, true],
    "clear",
    "TLS"
  ],
  "answers 250": [
    { faults: [at("starttls", answer(250, "OK"))] },
    ["EPROTOCOL", 250, false],
    ["EPROTOCOL", 250, false],
    "clear",
    "TLS"
  ],
  "drops after its 220": [
    { faults: [at("tls", drop)] },
    ["ETLS", undefined, true],
    "redial",
    "clear",
    ["ETLS", undefined, true]
  ],
  "resets after its 220": [
    { faults: [at("tls", reset)] },
    ["ETLS", undefined, true],
    "redial",
    "clear",
    ["ETLS", undefined, true]
  ],
  "drops in place of a 220": [
    { faults: [at("starttls", drop)] },
    ["ECONNECTION", undefined, true],
    ["ECONNECTION", undefined, true],
    "clear",
    "TLS"
  ],
  "fails the handshake": [
    { tls: { fail: true } },
    ["ETLS", undefined, false],
    "redial",
    "clear",
    ["ETLS", undefined, false]
  ],
  "has a certificate that does not verify": [
    { tls: { authorized: false } },
    ["ETLS", undefined, false],
    "TLS",
    "clear",
    ["ETLS", undefined, false]
  ],
  "offers XSTARTTLS": [
    { extensions: { startTls: false, extra: ["XSTARTTLS"] } },
    ["ETLS", undefined, false],
    "clear",
    "clear",
    "TLS"
  ],
  "has the keyword inside prose": [
    {
      respond: {
        ehlo: (_, { secure }) =>
          secure ? undefined : reply(250, "STARTTLS", "we have no STARTTLS", "SIZE STARTTLS", "-STARTTLS", "STARTTLS.")
      }
    },
    ["ETLS", undefined, false],
    "clear",
    "clear",
    "TLS"
  ]
}
for (const sameSegment of [true, false]) {
  for (const octets of ["2", "250 injected\r\n", "250-a\r\n250 b\r\n", "no reply\r\n", "421 bye\r\n"]) {
    Object.assign(table, {
      [`sends ${JSON.stringify(octets)} after its 220 in ${sameSegment ? "the same" : "a further"} segment`]: [
        { faults: [at("starttls", plaintextAfterStartTls(octets, sameSegment))] },
        ["ETLS", undefined, false],
        ["ETLS", undefined, false],
        "clear",
        "TLS"
      ]
    })
  }
}

const inClear: { readonly [K in "TLS" | "clear" | "redial"]: ReadonlyArray<RegExp> } = {
  TLS: [/^EHLO me.test\r\nSTARTTLS\r\n$/],
  clear: [/^EHLO me.test\r\n(STARTTLS\r\n)?MAIL FROM/],
  redial: [/^EHLO me.test\r\nSTARTTLS\r\n$/, /^EHLO me.test\r\nMAIL FROM/]
}

for (const [name, [script, ...ends]] of Object.entries(table)) {
  describe(`a server that ${name}`, () => {
    for (const [index, tls] of modes.entries()) {
      const end = ends[index] ?? "TLS"
      it.effect(`with tls: "${tls}" ends in ${String(end)}`, () =>
        withServer(
          script,
          Effect.gen(function*() {
            const result = yield* Effect.result(
              Effect.flatMap(make({ tls }), (connection) => Effect.as(connection.send(mail, "x"), connection))
            )
            if (typeof end !== "string") {
              const error = Result.getOrThrow(Result.flip(result))
              assert.deepStrictEqual([error._tag, error.responseCode, error.isTemporary], end)
              yield* nothingIsOpen
              for (const octets of yield* clear) assert.match(octets, /^(EHLO me.test\r\n(STARTTLS\r\n)?)?$/)
              return
            }
            const { secure, security } = Result.getOrThrow(result)
            assert.strictEqual(secure, end === "TLS")
            assert.strictEqual(Option.isSome(security), end === "TLS")
            const expected = tls === "implicit" ? [/^$/] : inClear[end]
            const octets = yield* clear
            assert.strictEqual(octets.length, expected.length)
            for (const [i, pattern] of expected.entries()) assert.match(octets[i] ?? "", pattern)
            const events = (yield* (yield* server).transcript).filter(({ from }) => from === "event")
            assert.deepStrictEqual(events.filter(({ text }) => text.includes("behind STARTTLS")), [])
          })
        ))
    }
  })
}

describe("STARTTLS", () => {
  it.effect("is never pipelined: each write waits for its reply, and nothing comes between it and the handshake", () =>
    withServer(
      {},
      Effect.gen(function*() {
        const acts: Array<string> = []
        yield* make({ auth: credentials }).pipe(duplexing((duplex) => ({
          write: (chunks) => {
            acts.push(chunks.map(text).join(""))
            return duplex.write(chunks)
          },
          upgrade: (tls) => {
            acts.push(`upgrade for ${tls.servername}`)
            return duplex.upgrade(tls)
          }
        })))
        assert.deepStrictEqual(acts.slice(0, 4), [
          "EHLO me.test\r\n",
          "STARTTLS\r\n",
          "upgrade for mx.test",
          "EHLO me.test\r\n"
        ])
        assert.match(acts[4] ?? "", /^AUTH PLAIN \S+\r\n$/)
        assert.notInclude((yield* clear).join(), "AUTH")
      })
    ))

  it.effect("forgets what the server said in the clear", () =>
    withServer(
      {
        extensions: { authBeforeTls: ["PLAIN"], auth: false, dsn: false },
        respond: { ehlo: (_, { secure }) => secure ? undefined : reply(250, "liar", "STARTTLS", "AUTH PLAIN", "DSN") }
      },
      Effect.gen(function*() {
        const { capabilities } = yield* make()
        assert.deepInclude(capabilities, { name: "fake.test", dsn: false, startTls: false })
        assert.deepStrictEqual(capabilities.auth, [])
        const error = yield* refusal({ auth: credentials })
        assert.deepStrictEqual(facts(error), ["EAUTH", "API", undefined, false])
        for (const { clear, inside } of yield* said) assert.notInclude(clear + inside, "AUTH")
      })
    ))

  it.effect("that is required and missing is told with the option to change", () =>
    withServer(
      { extensions: { startTls: false } },
      Effect.map(refusal(), ({ message }) =>
        assert.strictEqual(message, `STARTTLS: the server does not offer it; tls: "starttls" requires it`))
    ))

  it.effect("that is offered inside TLS is not taken again", () =>
    withServer(
      { respond: { ehlo: () => reply(250, "fake.test", "STARTTLS") } },
      Effect.gen(function*() {
        yield* make({ tls: "implicit" })
        yield* make({ tls: "starttls" })
        assert.deepStrictEqual((yield* said).map(({ inside }) => inside), ["EHLO me.test\r\n", "EHLO me.test\r\n"])
      })
    ))

  it.effect("in which a reply comes before its command inside TLS is EPROTOCOL", () =>
    withServer(
      { faults: [at("tls", SmtpServer.surplus())] },
      Effect.gen(function*() {
        assert.strictEqual((yield* refusal())._tag, "EPROTOCOL")
        yield* nothingIsOpen
      })
    ))

  it.effect("over LMTP says LHLO again", () =>
    withServer(
      { protocol: "lmtp" },
      Effect.gen(function*() {
        yield* make({ protocol: "lmtp" })
        assert.deepStrictEqual(yield* said, [{ clear: "LHLO me.test\r\nSTARTTLS\r\n", inside: "LHLO me.test\r\n" }])
      })
    ))
})

describe("the upgrade", () => {
  const asked = (options: SmtpConnection.Options) =>
    withServer(
      {},
      Effect.gen(function*() {
        const upgrades: Array<TlsUpgrade> = []
        const connection = yield* SmtpConnection.make({ name: "me.test", ...options }).pipe(duplexing((duplex) => ({
          upgrade: (tls) => {
            upgrades.push(tls)
            return duplex.upgrade(tls)
          }
        })))
        return { upgrades, connection }
      })
    )

  it.effect("verifies, except in opportunistic mode and where rejectUnauthorized is false", () =>
    Effect.gen(function*() {
      const verify = (options: SmtpConnection.Options) =>
        Effect.map(asked({ host: "mx.test", ...options }), ({ upgrades }) => upgrades.map((tls) => tls.verify))
      assert.deepStrictEqual(yield* verify({}), [true])
      assert.deepStrictEqual(yield* verify({ tls: "implicit" }), [true])
      assert.deepStrictEqual(yield* verify({ tlsOptions: { rejectUnauthorized: true } }), [true])
      assert.deepStrictEqual(yield* verify({ tlsOptions: { rejectUnauthorized: false } }), [false])
      assert.deepStrictEqual(yield* verify({ tls: "opportunistic" }), [false])
      assert.deepStrictEqual(yield* verify({ tls: "opportunistic", tlsOptions: { rejectUnauthorized: true } }), [false])
      assert.deepStrictEqual(yield* verify({ tls: "off" }), [])
    }))

  it.effect("expects the host, without brackets, unless servername is set", () =>
    Effect.gen(function*() {
      const name = (options: SmtpConnection.Options) =>
        Effect.map(asked(options), ({ upgrades }) => upgrades[0]?.servername)
      assert.strictEqual(yield* name({ host: "mx.test" }), "mx.test")
      assert.strictEqual(yield* name({ host: "[::1]" }), "::1")
      assert.strictEqual(yield* name({}), "localhost")
      assert.strictEqual(yield* name({ host: "10.0.0.1", servername: "mx.test" }), "mx.test")
    }))

  it.effect("is reported in security", () =>
    Effect.gen(function*() {
      const { connection } = yield* asked({ host: "mx.test" })
      assert.deepInclude(Option.getOrUndefined(connection.security), {
        protocol: "in-memory",
        cipher: "none",
        authorized: true,
        servername: "mx.test"
      })
    }))

  it.effect("that does not verify is reported in opportunistic mode, and gets no credentials", () =>
    withServer(
      { tls: { authorized: false, authorizationError: "CERT_HAS_EXPIRED" } },
      Effect.gen(function*() {
        for (const options of [{ tls: "opportunistic" }, { tlsOptions: { rejectUnauthorized: false } }] as const) {
          const { secure, security } = yield* make(options)
          assert.strictEqual(secure, true)
          assert.deepInclude(Option.getOrUndefined(security), {
            authorized: false,
            authorizationError: "CERT_HAS_EXPIRED"
          })
          const error = yield* refusal({ ...options, auth: credentials })
          assert.deepStrictEqual(facts(error), ["EAUTH", "API", undefined, false])
          yield* make({ ...options, auth: credentials, allowInsecureAuth: true })
        }
        assert.strictEqual((yield* said).filter(({ inside }) => inside.includes("AUTH")).length, 2)
      })
    ))
})

describe("a handshake that was lost because the server cannot resume a session", () => {
  /** The first handshakes say that they offered a session. */
  const resuming = (times: number) => {
    let left = times
    return duplexing((duplex) => {
      const failedToResume = left-- > 0
      return { failedToResume, upgrade: duplex.upgrade }
    })
  }

  for (const [tls, steps] of [["starttls", 2], ["implicit", 2]] as const) {
    it.effect(`is followed by one that offers none, with tls: "${tls}"`, () =>
      withServer(
        { faults: [at("tls", reset, { connection: 1 })] },
        Effect.gen(function*() {
          const { security } = yield* make({ tls }).pipe(resuming(1))
          assert.isTrue(Option.isSome(security))
          assert.strictEqual(yield* count, steps)
        })
      ))
  }

  it.effect("is dialled again once, whatever the connector says of the second", () =>
    withServer(
      { faults: [1, 2, 3].map((connection) => at("tls", reset, { connection })) },
      Effect.gen(function*() {
        assert.strictEqual((yield* refusal().pipe(resuming(Infinity)))._tag, "ETLS")
        assert.strictEqual(yield* count, 2)
      })
    ))

  it.effect("is the end where no session was offered", () =>
    withServer(
      { faults: [at("tls", reset, { connection: 1 })] },
      Effect.gen(function*() {
        assert.strictEqual((yield* refusal().pipe(resuming(0)))._tag, "ETLS")
        assert.strictEqual(yield* count, 1)
      })
    ))
})

describe("the redial of opportunistic mode", () => {
  it.effect("happens once: what it fails with is the end", () =>
    withServer(
      { tls: { fail: true }, faults: [at("greeting", answer(554, "not again"), { connection: 2 })] },
      Effect.gen(function*() {
        const error = yield* refusal({ tls: "opportunistic" })
        assert.deepStrictEqual(facts(error), ["ECONNECTION", "CONN", 554, false])
        assert.deepStrictEqual(yield* clear, ["EHLO me.test\r\nSTARTTLS\r\n", ""])
        yield* nothingIsOpen
      })
    ))

  it.effect("closes the first connection", () =>
    withServer(
      { tls: { fail: true } },
      Effect.gen(function*() {
        yield* make({ tls: "opportunistic" })
        const open = (yield* (yield* server).connections).map((info) => info.open)
        assert.deepStrictEqual(open, [false, true])
      })
    ))

  it.effect("follows a handshake that does not end within its deadline", () =>
    withServer(
      { faults: [at("tls", silence)] },
      Effect.gen(function*() {
        const fiber = yield* Effect.forkChild(make({ tls: "opportunistic" }), { startImmediately: true })
        yield* TestClock.adjust("30 seconds")
        assert.strictEqual((yield* Fiber.join(fiber)).secure, false)
      })
    ))

  it.effect("takes what is left of the connect deadline", () =>
    withServer(
      {
        tls: { fail: true },
        faults: [at("ehlo", delay("9 seconds"), { connection: 1 }), at("connect", silence, { occurrence: 2 })]
      },
      Effect.gen(function*() {
        const options = { tls: "opportunistic", timeouts: { connect: "10 seconds" } } as const
        const fiber = yield* Effect.forkChild(refusal(options), { startImmediately: true })
        yield* TestClock.adjust("9999 millis")
        assert.strictEqual(fiber.pollUnsafe(), undefined)
        yield* TestClock.adjust("1 millis")
        const error = yield* Fiber.join(fiber)
        assert.strictEqual(error._tag === "ETIMEDOUT" && error.timeout, "connect")
        assert.strictEqual(yield* count, 1)
      })
    ))

  it.effect("does not happen after the connect deadline", () =>
    withServer(
      { tls: { fail: true }, faults: [at("ehlo", delay("11 seconds"))] },
      Effect.gen(function*() {
        const options = { tls: "opportunistic", timeouts: { connect: "10 seconds" } } as const
        const fiber = yield* Effect.forkChild(refusal(options), { startImmediately: true })
        yield* TestClock.adjust("11 seconds")
        const error = yield* Fiber.join(fiber)
        assert.strictEqual(error._tag === "ETIMEDOUT" && error.timeout, "connect")
        assert.strictEqual(yield* count, 1)
      })
    ))

  it.effect("sends no credentials in the clear", () =>
    withServer(
      { tls: { fail: true }, extensions: { authBeforeTls: ["PLAIN"] } },
      Effect.gen(function*() {
        const error = yield* refusal({ tls: "opportunistic", auth: credentials })
        assert.deepStrictEqual(facts(error), ["EAUTH", "API", undefined, false])
        assert.notInclude((yield* clear).join(), "AUTH")
      })
    ))

  it.effect("does not hide a mistake in tlsOptions", () =>
    withServer(
      {},
      Effect.gen(function*() {
        const mistake = new ETLS({
          command: "API",
          message: "API: tlsOptions",
          temporary: false,
          cause: new Error("x")
        })
        const failing = duplexing(() => ({ upgrade: () => Effect.fail(mistake) }))
        assert.strictEqual(yield* refusal({ tls: "opportunistic" }).pipe(failing), mistake)
        assert.strictEqual(yield* count, 1)
        yield* nothingIsOpen
      })
    ))
})

describe("the tls option by default", () => {
  const opened = (options: SmtpConnection.Options) =>
    withServer(
      {},
      Effect.gen(function*() {
        const connection = yield* make(options)
        const [octets] = yield* clear
        return [Option.isSome(connection.security), octets === "" ? "implicit" : octets?.includes("STARTTLS")]
      })
    )

  it.effect("is implicit on port 465, and starttls on others", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* opened({ port: 465 }), [true, "implicit"])
      assert.deepStrictEqual(yield* opened({ port: 587 }), [true, true])
      assert.deepStrictEqual(yield* opened({ port: 25 }), [true, true])
      assert.deepStrictEqual(yield* opened({}), [true, true])
    }))

  it.effect("is off on a unix socket, which counts as secure", () =>
    withServer(
      { extensions: { authBeforeTls: ["PLAIN"] } },
      Effect.gen(function*() {
        const connection = yield* SmtpConnection.make({ path: "/run/smtp", name: "me.test", auth: credentials })
        assert.deepStrictEqual([connection.secure, Option.isNone(connection.security)], [true, true])
        assert.match((yield* clear)[0] ?? "", /^EHLO me.test\r\nAUTH PLAIN/)
      })
    ))

  it.effect("gives way to a mode that is named, on a unix socket too", () =>
    withServer(
      {},
      Effect.gen(function*() {
        for (const tls of ["implicit", "starttls", "opportunistic"] as const) {
          const options = { path: "/run/smtp", name: "me.test", servername: "mx.test", tls }
          const { security } = yield* SmtpConnection.make(options)
          assert.strictEqual(Option.isSome(security), true, tls)
        }
      })
    ))
})

describe("a connection that its maker declared secured", () => {
  const plain: SmtpServer.Script = { implicitTls: false, extensions: { authBeforeTls: ["PLAIN"] } }

  it.effect("needs no TLS, and takes credentials", () =>
    withServer(
      plain,
      Effect.gen(function*() {
        for (const port of [25, 465, 587]) {
          const { secure, security } = yield* securing(make({ port, auth: credentials }))
          assert.deepStrictEqual([secure, Option.isNone(security)], [true, true])
        }
        for (const octets of yield* clear) assert.match(octets, /^EHLO me.test\r\nAUTH PLAIN \S+\r\n$/)
      })
    ))

  it.effect("may speak HELO", () =>
    withServer(
      { ...plain, respond: { ehlo: () => reply(502, "no") } },
      Effect.map(securing(make()), ({ capabilities }) => assert.strictEqual(capabilities.extended, false))
    ))

  for (
    const [tls, isTls] of [["starttls", true], ["opportunistic", true], ["off", false], ["implicit", false]] as const
  ) {
    it.effect(`gets ${isTls ? "" : "no "}TLS where tls: "${tls}" is named`, () =>
      withServer(
        { implicitTls: false },
        Effect.gen(function*() {
          const { secure, security } = yield* securing(make({ tls }))
          assert.deepStrictEqual([secure, Option.isSome(security)], [true, isTls])
        })
      ))
  }

  it.effect(`gets TLS on a unix socket where tls: "implicit" is named`, () =>
    withServer(
      { implicitTls: true },
      Effect.gen(function*() {
        const options = { path: "/run/smtp.sock", tls: "implicit", servername: "mx.test", name: "me.test" } as const
        const { security } = yield* securing(SmtpConnection.make(options))
        assert.isTrue(Option.isSome(security))
      })
    ))

  it.effect("keeps to starttls where that is named and not offered", () =>
    withServer(
      { extensions: { startTls: false } },
      Effect.map(securing(refusal({ tls: "starttls" })), (error) => assert.strictEqual(error._tag, "ETLS"))
    ))
})

describe("make", () => {
  it.effect("that is interrupted leaves nothing open", () =>
    withServer(
      { faults: [at("greeting", silence, { connection: 1 }), at("tls", silence, { connection: 2 })] },
      Effect.gen(function*() {
        for (const _ of [1, 2]) {
          const fiber = yield* Effect.forkChild(make(), { startImmediately: true })
          yield* TestClock.adjust("1 second")
          yield* Fiber.interrupt(fiber)
          yield* nothingIsOpen
        }
        assert.strictEqual(yield* count, 2)
      })
    ))

  it.effect("passes the connector's own errors on", () =>
    withServer(
      {},
      Effect.gen(function*() {
        const mistake = new ECONFIG({ command: "API", message: "no" })
        const failing = changing(() => ({ connect: () => Effect.fail(mistake) }))
        assert.strictEqual(yield* refusal().pipe(failing), mistake)
      })
    ))
})
