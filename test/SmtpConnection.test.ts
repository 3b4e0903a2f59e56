import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { createHash } from "node:crypto"
import type * as Envelope from "../src/Envelope.ts"
import * as Sasl from "../src/Sasl.ts"
import * as SmtpConnection from "../src/SmtpConnection.ts"
import type { SmtpConnector } from "../src/SmtpConnector.ts"
import * as SmtpError from "../src/SmtpError.ts"
import * as SmtpReply from "../src/SmtpReply.ts"
import { SmtpServer } from "../src/testing/index.ts"
import { bodies, byData, type Mode, modes, open } from "./support/modes.ts"

const utf8 = new TextEncoder()
/** With U+FFFD for each half of a character. */
const wellFormed = (text: string): string => new TextDecoder("utf-8", { ignoreBOM: true }).decode(utf8.encode(text))
const latin1 = new TextDecoder("latin1")
const options: SmtpConnection.Options = { host: "mx.test", name: "me.test" }
const envelope: Envelope.Input = { from: "ann@me.test", to: "bob@mx.test" }
const toThree: Envelope.Input = { from: "ann@me.test", to: ["a@mx.test", "b@mx.test", "c@mx.test"] }
const lmtp: SmtpConnection.Options = { ...options, protocol: "lmtp" }

/** Runs a test on one connection to a fake server with this script; the connection is closed before the server is. */
const connected = <A, E>(
  script: SmtpServer.Script,
  test: (
    connection: SmtpConnection.SmtpConnection,
    server: SmtpServer.SmtpServer["Service"]
  ) => Effect.Effect<A, E, SmtpConnector | Scope.Scope>,
  given: SmtpConnection.Options = script.protocol === "lmtp" ? lmtp : options
) =>
  Effect.gen(function*() {
    const server = yield* SmtpServer.SmtpServer
    return yield* test(yield* SmtpConnection.make(given), server)
  }).pipe(Effect.scoped, Effect.provide(SmtpServer.layer(script)))

const connectedIn =
  (mode: Mode): typeof connected => (script, test, given = script.protocol === "lmtp" ? lmtp : options) =>
    connected(mode.isFlight ? { extensions: open, ...script } : script, test, { ...given, ...mode.options })

/** The commands that the server read after the last EHLO or LHLO, without their arguments. */
const verbs = (server: SmtpServer.SmtpServer["Service"]) =>
  Effect.map(server.transcript, (transcript) => {
    const lines = transcript.filter(({ from }) => from === "client").map(({ text }) => text.split(" ", 1)[0]!)
    return lines.slice(lines.findLastIndex((line) => /^(EH|LH|HE)LO$/.test(line)) + 1)
  })

const sentOctets = (server: SmtpServer.SmtpServer["Service"]) =>
  Effect.map(server.connections, ([info]) => latin1.decode(info?.bytes))

/** Nothing more can be said on it. */
const isClosed = (connection: SmtpConnection.SmtpConnection) =>
  Effect.gen(function*() {
    const error = yield* Effect.flip(connection.send(envelope, "hi"))
    assert.include(["ECONNECTION", "ESOCKET", "ETIMEDOUT", "EPROTOCOL"], error._tag)
    assert.isFalse(error.attempted)
    assert.isFalse(error.inDoubt)
  })

const isUsable = (connection: SmtpConnection.SmtpConnection) =>
  Effect.map(
    connection.send(envelope, "usable\r\n"),
    ({ accepted }) => assert.deepStrictEqual(accepted, ["bob@mx.test"])
  )

const refusing = (replies: Readonly<Record<string, SmtpServer.Answer>>): SmtpServer.Script => ({
  respond: { rcpt: ({ path = "" }) => replies[path] }
})

class Broken extends Schema.TaggedError<Broken>()("Broken", { line: Schema.Int }) {}

class Source extends Context.Service<Source, { readonly chunks: ReadonlyArray<string> }>()("test/Source") {}

describe("make", () => {
  it.effect("gives a greeting, the capabilities of the last EHLO, and what is known of TLS", () =>
    connected({}, (connection) =>
      Effect.sync(() => {
        assert.strictEqual(connection.greeting.code, 220)
        assert.strictEqual(connection.greeting.text, "fake.test ESMTP ready")
        assert.isTrue(connection.secure)
        assert.isFalse(connection.capabilities.startTls)
        assert.isTrue(connection.capabilities.eightBitMime)
        assert.deepInclude(connection.capabilities.auth, "PLAIN")
        assert.deepInclude(Option.getOrThrow(connection.security), {
          protocol: "in-memory",
          cipher: "none",
          authorized: true,
          servername: "mx.test"
        })
      })))

  it.effect("in the clear there is no TLS to know of", () =>
    connected({}, ({ capabilities, secure, security }) =>
      Effect.sync(() => {
        assert.isFalse(secure)
        assert.isTrue(Option.isNone(security))
        assert.deepStrictEqual(capabilities.auth, [])
      }), { ...options, tls: "off" }))

  it.effect("options that contradict each other dial nothing", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Effect.scoped(SmtpConnection.make({ ...options, port: 0 })))
      assert.deepInclude(error, { _tag: "ECONFIG", field: "options.port", attempted: false } as never)
      assert.deepStrictEqual(yield* (yield* SmtpServer.SmtpServer).connections, [])
    }).pipe(Effect.provide(SmtpServer.layer())))

  it.effect("interrupted in the middle of the login frees the socket and says nothing more", () =>
    Effect.gen(function*() {
      const server = yield* SmtpServer.SmtpServer
      const auth = Sasl.password({ username: "ann", password: Redacted.make("secret") })
      const fiber = yield* Effect.forkChild(Effect.scoped(SmtpConnection.make({ ...options, auth })))
      yield* TestClock.adjust(1)
      yield* Fiber.interrupt(fiber)
      yield* server.awaitClosed
      assert.deepStrictEqual(yield* verbs(server), ["AUTH"])
    }).pipe(Effect.provide(SmtpServer.layer({ faults: [SmtpServer.at("auth", SmtpServer.silence)] }))))

  it.effect("with a total deadline ends in ETIMEDOUT", () =>
    Effect.gen(function*() {
      const make = SmtpConnection.make({ ...options, timeouts: { total: "3 seconds" } })
      const fiber = yield* Effect.forkChild(Effect.flip(Effect.scoped(make)))
      yield* TestClock.adjust("3 seconds")
      assert.deepInclude(yield* Fiber.join(fiber), { _tag: "ETIMEDOUT", timeout: "total", inDoubt: false } as never)
      yield* (yield* SmtpServer.SmtpServer).awaitClosed
    }).pipe(Effect.provide(SmtpServer.layer({ faults: [SmtpServer.at("greeting", SmtpServer.silence)] }))))
})

describe.each(modes)("login, $name", (mode) => {
  const connected = connectedIn(mode)
  const script = { requireAuth: true, accounts: { ann: "secret" }, extensions: {} }
  const login = (password: string) => Sasl.password({ username: "ann", password: Redacted.make(password) })

  it.effect("is made by make when credentials are given", () =>
    connected(script, (connection, server) =>
      Effect.gen(function*() {
        yield* isUsable(connection)
        const [message] = yield* server.received
        assert.strictEqual(message?.username, "ann")
      }), { ...options, auth: login("secret") }))

  it.effect("can come later, and a refusal leaves the connection usable", () =>
    connected(script, (connection) =>
      Effect.gen(function*() {
        const unknown = yield* Effect.flip(connection.send(envelope, "hi"))
        assert.deepInclude(unknown, { _tag: "ENOAUTH", command: "MAIL FROM", responseCode: 530 } as never)
        const refused = yield* Effect.flip(connection.login(login("wrong")))
        assert.deepInclude(refused, { _tag: "EAUTH", responseCode: 535 } as never)
        yield* connection.login(login("secret"))
        yield* isUsable(connection)
      })))
})

describe.each(modes)("send, $name", (mode) => {
  const connected = connectedIn(mode)
  it.effect("gives exactly this result", () =>
    connected({}, (connection) =>
      Effect.gen(function*() {
        const result = yield* connection.send(toThree, ".a\nb")
        assert.deepStrictEqual(result, {
          accepted: ["a@mx.test", "b@mx.test", "c@mx.test"],
          rejected: [],
          rejectedErrors: [],
          reply: SmtpReply.make(250, "2.0.0 queued as 1"),
          response: "2.0.0 queued as 1",
          messageSize: 7,
          omitted: [],
          security: connection.securityReport
        })
      })))

  it.effect(`says MAIL, RCPT and ${mode.via}, and no more`, () =>
    connected({}, (connection, server) =>
      Effect.gen(function*() {
        yield* connection.send(toThree, "hi\r\n")
        assert.deepStrictEqual(yield* verbs(server), ["MAIL", "RCPT", "RCPT", "RCPT", mode.via])
        const [message] = yield* server.received
        assert.deepInclude(message, {
          from: "ann@me.test",
          to: ["a@mx.test", "b@mx.test", "c@mx.test"],
          text: "hi\r\n",
          via: mode.via,
          secure: true
        })
      })))

  it.effect("takes a string of several writes whole", () =>
    connected({}, (connection, server) =>
      Effect.gen(function*() {
        const text = "0123456789abcdef\r\n.\r\n".repeat(10_000)
        const { messageSize } = yield* connection.send(envelope, text)
        assert.strictEqual(messageSize, text.length)
        const [message] = yield* server.received
        assert.strictEqual(message?.text, text)
      })))

  it.effect("the null sender is <>", () =>
    connected({}, (connection, server) =>
      Effect.gen(function*() {
        yield* connection.send({ ...envelope, from: "" }, "bounce\r\n")
        yield* connection.send({ ...envelope, from: "<>" }, "bounce\r\n")
        assert.deepStrictEqual((yield* server.received).map(({ from }) => from), ["", ""])
        assert.include(yield* sentOctets(server), "\r\nMAIL FROM:<> ")
      })))

  it.effect("takes a thousand recipients, and each as often as it is named", () =>
    connected({}, (connection, server) =>
      Effect.gen(function*() {
        const many = Array.from({ length: 1000 }, (_, i) => `user${i % 900}@mx.test`)
        const { accepted } = yield* connection.send({ ...envelope, to: many }, "hi\r\n")
        assert.deepStrictEqual(accepted, many)
        const [message] = yield* server.received
        assert.deepStrictEqual(message?.to, many)
      })))

  it.effect("shows recipients as the caller wrote them", () =>
    connected({}, (connection) =>
      Effect.gen(function*() {
        const to = ["<a@mx.test>", { address: "\"b\"@bücher.example" }]
        const { accepted } = yield* connection.send({ ...envelope, to }, "hi\r\n")
        assert.deepStrictEqual(accepted, ["<a@mx.test>", "\"b\"@bücher.example"])
      })))

  it.effect("fifty in a row need one connection and no RSET", () =>
    connected({}, (connection, server) =>
      Effect.gen(function*() {
        for (let i = 0; i < 50; i++) yield* connection.send(envelope, `message ${i}\r\n`)
        const received = yield* server.received
        assert.deepStrictEqual(
          received.map(({ text }) => text),
          Array.from({ length: 50 }, (_, i) => `message ${i}\r\n`)
        )
        assert.strictEqual((yield* server.connections).length, 1)
        assert.notInclude(yield* verbs(server), "RSET")
      })))

  it.effect("of several fibers takes turns", () =>
    connected({}, (connection, server) =>
      Effect.gen(function*() {
        const slow = (text: string) =>
          Stream.fromIterable([text, text]).pipe(Stream.rechunk(1), Stream.tap(() => Effect.yieldNow))
        yield* Effect.forEach(["a", "b", "c"], (text) => connection.send(envelope, slow(text)), {
          concurrency: "unbounded"
        })
        assert.deepStrictEqual((yield* server.received).map(({ text }) => text), ["aa\r\n", "bb\r\n", "cc\r\n"])
        const one = ["MAIL", "RCPT", mode.streamVia]
        assert.deepStrictEqual(yield* verbs(server), [...one, ...one, ...one])
      })))
})

describe.each(modes)("a stream, $name", (mode) => {
  const connected = connectedIn(mode)
  it.effect("may need a service, and be read only once", () =>
    connected({}, (connection, server) =>
      Effect.gen(function*() {
        const message = Stream.unwrap(
          Effect.map(Source, ({ chunks }) => Stream.fromAsyncIterable(once(chunks), () => "no"))
        )
        const sending: Effect.Effect<SmtpConnection.SendResult, SmtpError.SendError | string, Source> = connection.send(
          envelope,
          message
        )
        const { messageSize } = yield* Effect.provideService(sending, Source, { chunks: ["one\r\n", "two"] })
        assert.strictEqual(messageSize, 10)
        assert.deepStrictEqual((yield* server.received).map(({ text }) => text), ["one\r\ntwo\r\n"])
      })))

  async function* once(chunks: ReadonlyArray<string>) {
    yield* chunks
  }

  for (
    const [when, chunks] of [["at once", []], ["in the middle", ["one\r\n.two\r\n", "thr"]]] as const
  ) {
    it.effect(`that fails ${when} gives its own error, and the connection is closed without an end`, () =>
      connected({}, (connection, server) =>
        Effect.gen(function*() {
          const broken = new Broken({ line: 3 })
          const message: Stream.Stream<string, Broken> = Stream.concat(Stream.fromIterable(chunks), Stream.fail(broken))
          const sending: Effect.Effect<SmtpConnection.SendResult, SmtpError.SendError | Broken> = connection.send(
            envelope,
            message
          )
          assert.strictEqual(yield* Effect.flip(sending), broken)
          yield* server.awaitClosed
          const sent = yield* sentOctets(server)
          // What is too little for a chunk is held back.
          const told = mode.streamVia === "BDAT" ? "" : `DATA\r\n${chunks.join("").replace(".two", "..two")}`
          assert.isTrue(sent.endsWith(`RCPT TO:<bob@mx.test>\r\n${told}`), sent)
          assert.deepStrictEqual(yield* server.received, [])
          yield* isClosed(connection)
        })))
  }

  it.effect("that dies keeps its defect, and the connection is closed without an end", () =>
    connected({}, (connection, server) =>
      Effect.gen(function*() {
        const exit = yield* Effect.exit(
          connection.send(envelope, Stream.concat(Stream.make("a"), Stream.die("a defect")))
        )
        assert.isTrue(
          Exit.isFailure(exit) && exit.cause.reasons.some((r) => r._tag === "Die" && r.defect === "a defect")
        )
        yield* server.awaitClosed
        assert.isTrue((yield* sentOctets(server)).endsWith(mode.streamVia === "BDAT" ? "mx.test>\r\n" : "DATA\r\na"))
        yield* isClosed(connection)
      })))

  it.effect("that has nothing to give yet is not waited for once the connection is lost", () =>
    connected({ faults: [SmtpServer.at("body", SmtpServer.drop)] }, (connection) =>
      Effect.gen(function*() {
        let isReleased = false
        const message = Stream.concat(Stream.make("a\r\n".repeat(30_000)), Stream.never).pipe(
          Stream.ensuring(Effect.sync(() => {
            isReleased = true
          }))
        )
        const error = yield* Effect.flip(connection.send(envelope, message))
        const command = mode.streamVia
        assert.deepInclude(error, { _tag: "ECONNECTION", command, inDoubt: false, handedOver: false } as never)
        assert.isTrue(isReleased)
      })))

  it.effect("is not begun when the envelope is refused", () =>
    connected(
      { faults: [SmtpServer.at("mail", SmtpServer.answer(550, "5.7.1 no"))] },
      (connection) =>
        Effect.gen(function*() {
          const error = yield* Effect.flip(connection.send(envelope, Stream.die("it was pulled")))
          assert.strictEqual(error._tag, "EENVELOPE")
          yield* isUsable(connection)
        })
    ))
})

describe.each(bodies)("a large stream, $name", (mode) => {
  const connected = connectedIn(mode)

  it.effect("of fifty megabytes is held back by a slow server", () =>
    connected({ digest: true, extensions: { size: false } }, (connection, server) =>
      Effect.gen(function*() {
        const chunk = utf8.encode(`${"x".repeat(62)}\r\n`.repeat(1024))
        const count = 800
        let pulled = 0
        let most = 0
        const message = Stream.range(1, count).pipe(
          Stream.rechunk(1),
          Stream.mapEffect(() =>
            Effect.map(server.connections, ([info]) => {
              pulled += chunk.length
              most = Math.max(most, pulled - (info?.bytesReceived ?? 0))
              return chunk
            })
          )
        )
        const { messageSize } = yield* connection.send(envelope, message)
        assert.strictEqual(messageSize, chunk.length * count)
        const [received] = yield* server.received
        const hash = createHash("sha256")
        for (let i = 0; i < count; i++) hash.update(chunk)
        assert.deepInclude(received, { size: messageSize, sha256: hash.digest("hex") })
        // A chunk is gathered before its size can be said: 1 MiB at most.
        assert.isBelow(most, mode.streamVia === "BDAT" ? 1_500_000 : 400_000)
      })))
})

describe.each(bodies)("the canonical form, $name", (mode) => {
  const connected = connectedIn(mode)
  const canonical = (text: string): string => {
    const lines = text.replaceAll(/\r\n|\r|\n/g, "\r\n")
    return lines === "" || lines.endsWith("\r\n") ? lines : `${lines}\r\n`
  }
  /** The same message in every form that `send` takes. */
  const forms = (text: string): ReadonlyArray<SmtpConnection.Message> => [
    text,
    utf8.encode(text),
    Stream.make(text),
    Stream.make(utf8.encode(text)),
    Stream.rechunk(Stream.fromIterable(text.split("")), 1),
    Stream.fromIterable(text.split("")),
    Stream.fromIterable(Array.from(utf8.encode(text), (octet) => Uint8Array.of(octet)))
  ]

  const messages: Readonly<Record<string, string>> = {
    "as it is": "Subject: x\r\n\r\nbody\r\n",
    "leading dots": ".a\r\n..b\r\n.\r\nc\r\n..\r\n",
    "a lone dot": ".",
    "the terminator": "a\r\n.\r\nMAIL FROM:<evil@me.test>\r\n",
    "bare LF": "a\n.\nb\n\n.c\n",
    "bare CR": "a\r.\rb\r\r.c\r",
    "all line ends mixed": "a\n\r\n\r\r\n\n.\r.\n.\r\n\r",
    "no final line end": "a",
    "8 bit": "é\r\n\u0080ÿ",
    "emoji": "a😀\r\n😀.",
    "NUL": "a\u0000\r\n.\u0000",
    "empty": ""
  }
  for (const [name, text] of Object.entries(messages)) {
    it.effect(`of ${name} is the same however the message is given`, () =>
      connected({}, (connection, server) =>
        Effect.gen(function*() {
          const all = forms(text)
          for (const message of all) {
            const { messageSize } = yield* connection.send(envelope, message)
            assert.strictEqual(messageSize, utf8.encode(canonical(text)).length)
          }
          assert.deepStrictEqual((yield* server.received).map((one) => one.text), all.map(() => canonical(text)))
        })))
  }

  it.effect("of strings and octets in turn, with half a character left over", () =>
    connected({}, (connection, server) =>
      Effect.gen(function*() {
        const chunks = ["a\ud83d", "", "\ude00b", utf8.encode("c\r"), "\nd\ud83d", utf8.encode("e"), "f\ud83d"]
        yield* connection.send(envelope, Stream.fromIterable(chunks))
        const [message] = yield* server.received
        assert.strictEqual(message?.text, "a😀bc\r\nd\ufffdef\ufffd\r\n")
      })))

  it.effect("half a character left over is an octet above 0x7f like any other", () =>
    connected({ extensions: { eightBitMime: false, smtpUtf8: false } }, (connection, server) =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(connection.send(envelope, Stream.make("f\ud83d")))
        assert.strictEqual(error._tag, "EMESSAGE")
        assert.deepStrictEqual(yield* server.received, [])
      })))

  it.effect.prop(
    "of any message in any chunks is what the whole message gives",
    [Arbitrary.array(
      Arbitrary.schema(Schema.Literals(["\r", "\n", ".", "a", "\u0000", "é", "\ud83d", "\ude00", "|"])),
      {
        maxLength: 30
      }
    )],
    ([pieces]) =>
      connected({}, (connection, server) =>
        Effect.gen(function*() {
          const text = pieces.join("")
          yield* connection.send(envelope, text.replaceAll("|", ""))
          yield* connection.send(envelope, Stream.rechunk(Stream.fromIterable(text.split("|")), 1))
          const [whole, parts] = yield* server.received
          assert.strictEqual(parts?.text, whole?.text)
          assert.strictEqual(whole?.text, canonical(wellFormed(text.replaceAll("|", ""))))
        })),
    { arbitrary: { runs: 100, size: 30 } }
  )
})

describe.each(modes)("refused recipients, $name", (mode) => {
  const connected = connectedIn(mode)
  const replies = {
    "a@mx.test": SmtpServer.reply(550, "5.1.1 no such user"),
    "c@mx.test": SmtpServer.reply(450, "4.2.1 busy")
  }

  it.effect("some: the others get the message", () =>
    connected(refusing(replies), (connection, server) =>
      Effect.gen(function*() {
        const result = yield* connection.send(toThree, "hi\r\n")
        assert.deepStrictEqual([result.accepted, result.rejected], [["b@mx.test"], ["a@mx.test", "c@mx.test"]])
        assert.deepStrictEqual(
          result.rejectedErrors.map((
            e
          ) => [e._tag, e.recipient, e.command, e.attempted, e.enhancedCode, e.isTemporary]),
          [
            ["EENVELOPE", "a@mx.test", "RCPT TO", true, "5.1.1", false],
            ["EENVELOPE", "c@mx.test", "RCPT TO", true, "4.2.1", true]
          ]
        )
        const [message] = yield* server.received
        assert.deepStrictEqual(message?.to, ["b@mx.test"])
        yield* isUsable(connection)
        assert.notInclude(yield* verbs(server), "RSET")
      })))

  const all = (
    name: string,
    codes: ReadonlyArray<number>,
    expected: { readonly responseCode: number; readonly isTemporary: boolean }
  ) =>
    it.effect(`all, ${name}`, () =>
      connected(
        refusing(
          Object.fromEntries(["a", "b", "c"].map((user, i) => [`${user}@mx.test`, SmtpServer.reply(codes[i]!, user)]))
        ),
        (connection, server) =>
          Effect.gen(function*() {
            const error = yield* Effect.flip(connection.send(toThree, "hi\r\n"))
            assert.deepInclude(
              error,
              { _tag: "EENVELOPE", command: "RCPT TO", inDoubt: false, handedOver: false, ...expected } as never
            )
            assert.include(error.message, "every recipient was refused")
            if (error._tag !== "EENVELOPE") return assert.fail()
            assert.deepStrictEqual(
              error.rejectedErrors?.map((e) => [e.recipient, e.responseCode]),
              [["a@mx.test", codes[0]], ["b@mx.test", codes[1]], ["c@mx.test", codes[2]]]
            )
            const ahead = mode.isGrouped ? [mode.via] : []
            assert.deepStrictEqual(yield* verbs(server), ["MAIL", "RCPT", "RCPT", "RCPT", ...ahead])
            yield* isUsable(connection)
          })
      ))
  all("for good: the first reply speaks", [553, 550, 551], { responseCode: 553, isTemporary: false })
  all("one for now: its reply speaks", [550, 452, 451], { responseCode: 452, isTemporary: true })

  it.effect("none may be, when all are required: nothing is sent, and the next send says RSET first", () =>
    connected(
      refusing({ "c@mx.test": SmtpServer.reply(550, "5.1.1 no") }),
      (connection, server) =>
        Effect.gen(function*() {
          const error = yield* Effect.flip(connection.send({ ...toThree, requireAllRecipients: true }, "hi\r\n"))
          assert.deepInclude(error, { _tag: "EENVELOPE", command: "RCPT TO", responseCode: 550 } as never)
          assert.include(error.message, "1 of 3 recipients were refused: 550 5.1.1 no")
          assert.deepStrictEqual(error._tag === "EENVELOPE" && error.rejectedErrors?.map((e) => e.recipient), [
            "c@mx.test"
          ])
          yield* isUsable(connection)
          assert.deepStrictEqual(yield* verbs(server), [
            "MAIL",
            "RCPT",
            "RCPT",
            "RCPT",
            "RSET",
            "MAIL",
            "RCPT",
            mode.via
          ])
          assert.deepStrictEqual((yield* server.received).map(({ text }) => text), ["usable\r\n"])
        })
    ))

  it.effect("text of the server is escaped in the message", () =>
    connected(
      refusing({ "bob@mx.test": SmtpServer.reply(550, "\u001b[2J\u202eevil") }),
      (connection) =>
        Effect.gen(function*() {
          const error = yield* Effect.flip(connection.send(envelope, "hi\r\n"))
          assert.include(error.message, "550 \\u{1b}[2J\\u{202e}evil")
          assert.strictEqual(error.response, "\u001b[2J\u202eevil")
        })
    ))
})

describe.each(modes)("a refusal, $name", (mode) => {
  const connected = connectedIn(mode)
  const steps = [
    // RFC 3030 §2: what follows in a flight is a refused BDAT, after which RSET is due.
    ["mail", "EENVELOPE", "MAIL FROM", mode.isFlight],
    ["rcpt", "EENVELOPE", "RCPT TO", true],
    ...(mode.via === "DATA" ? [["data", "EENVELOPE", "DATA", true]] as const : []),
    ["message", "EMESSAGE", mode.via, true]
  ] as const
  for (const [step, tag, command, needsReset] of steps) {
    for (const code of [451, 554]) {
      it.effect(`${code} at ${step} is ${tag}; the connection is usable, ${needsReset ? "after RSET" : "at once"}`, () =>
        connected(
          { faults: [SmtpServer.at(step, SmtpServer.answer(code, "no"))] },
          (connection, server) =>
            Effect.gen(function*() {
              const error = yield* Effect.flip(connection.send(envelope, "hi\r\n"))
              assert.deepInclude(
                error,
                {
                  _tag: tag,
                  command,
                  responseCode: code,
                  isTemporary: code === 451,
                  inDoubt: false,
                  attempted: true,
                  handedOver: step === "message"
                } as never
              )
              yield* isUsable(connection)
              assert.strictEqual((yield* verbs(server)).includes("RSET"), needsReset)
              assert.strictEqual((yield* server.received).length, 1)
            })
        ))
    }
    it.effect(`421 at ${step} is ECONNECTION and closes`, () =>
      connected(
        { faults: [SmtpServer.at(step, SmtpServer.answer(421, "4.3.2 bye"))] },
        (connection) =>
          Effect.gen(function*() {
            const error = yield* Effect.flip(connection.send(envelope, "hi\r\n"))
            assert.deepInclude(
              error,
              { _tag: "ECONNECTION", responseCode: 421, isTemporary: true, inDoubt: false } as never
            )
            yield* isClosed(connection)
          })
      ))
  }

  for (const [step, , command] of steps) {
    const inDoubt = step === "message" || mode.isFlight
    it.effect(`a loss at ${step} is told with its command, ${inDoubt ? "" : "not "}in doubt`, () =>
      connected({ faults: [SmtpServer.at(step, SmtpServer.drop)] }, (connection) =>
        Effect.gen(function*() {
          const error = yield* Effect.flip(connection.send(envelope, "hi\r\n"))
          assert.deepInclude(
            error,
            { _tag: "ECONNECTION", command, inDoubt, handedOver: inDoubt, attempted: true, isTemporary: true } as never
          )
          yield* isClosed(connection)
        })))
  }

  if (mode.isGrouped) {
    it.effect("of MAIL, and then a loss, is the refusal: nothing is in doubt, and it may be tried again", () =>
      connected(
        { faults: [SmtpServer.at("mail", SmtpServer.answer(450, "later")), SmtpServer.at("rcpt", SmtpServer.drop)] },
        (connection) =>
          Effect.gen(function*() {
            const error = yield* Effect.flip(connection.send(envelope, "hi\r\n"))
            assert.deepInclude(
              error,
              { _tag: "EENVELOPE", command: "MAIL FROM", responseCode: 450, inDoubt: false, handedOver: false } as never
            )
            assert.isTrue(SmtpError.isRetryable(error))
            yield* isClosed(connection)
          })
      ))

    it.effect("of every recipient, and then a loss, is the refusal: nothing is in doubt", () =>
      connected(
        {
          respond: { rcpt: () => SmtpServer.reply(550, "5.1.1 no") },
          faults: [SmtpServer.at(mode.via === "DATA" ? "data" : "bdat", SmtpServer.drop)]
        },
        (connection) =>
          Effect.gen(function*() {
            const error = yield* Effect.flip(connection.send(toThree, "hi\r\n"))
            assert.deepInclude(
              error,
              { _tag: "EENVELOPE", command: "RCPT TO", responseCode: 550, inDoubt: false, handedOver: false } as never
            )
            assert.lengthOf((error._tag === "EENVELOPE" && error.rejectedErrors) || [], 3)
            yield* isClosed(connection)
          })
      ))
  }

  it.effect("421 to one of three recipients is the loss of the connection, in doubt if the message was on its way", () =>
    connected(
      { faults: [SmtpServer.at("rcpt", SmtpServer.answer(421, "4.3.2 bye"), { occurrence: 2 })] },
      (connection) =>
        Effect.gen(function*() {
          const error = yield* Effect.flip(connection.send(toThree, "hi\r\n"))
          const inDoubt = mode.isFlight
          assert.deepInclude(
            error,
            { _tag: "ECONNECTION", command: "RCPT TO", responseCode: 421, inDoubt, handedOver: inDoubt } as never
          )
          yield* isClosed(connection)
        })
    ))

  it.effect("of a message by a server that keeps the transaction, as Postfix does, does not spoil the next", () => {
    let isOpen = false
    const nested = SmtpServer.reply(503, "5.5.1 nested MAIL command")
    const keeping: SmtpServer.Script = {
      faults: [SmtpServer.at("message", SmtpServer.answer(554, "5.7.1 no"))],
      respond: {
        mail: () => {
          if (isOpen) return nested
          isOpen = true
          return undefined
        },
        rset: () => {
          isOpen = false
          return undefined
        }
      }
    }
    return connected(keeping, (connection) =>
      Effect.gen(function*() {
        assert.strictEqual((yield* Effect.flip(connection.send(envelope, "hi")))._tag, "EMESSAGE")
        yield* isUsable(connection)
      }))
  })

  it.effect("of the message after refused recipients names them all", () =>
    connected(
      {
        ...refusing({ "b@mx.test": SmtpServer.reply(450, "4.2.1 busy") }),
        faults: [SmtpServer.at("message", SmtpServer.answer(554, "5.6.0 no"))]
      },
      (connection) =>
        Effect.gen(function*() {
          const error = yield* Effect.flip(connection.send(toThree, "hi\r\n"))
          assert.deepInclude(error, { _tag: "EMESSAGE", responseCode: 450, isTemporary: true } as never)
          assert.include(error.message, "554 5.6.0 no")
          assert.deepStrictEqual(
            error._tag === "EMESSAGE" && error.rejectedErrors?.map((e) => [e._tag, e.recipient, e.responseCode]),
            [["EMESSAGE", "a@mx.test", 554], ["EENVELOPE", "b@mx.test", 450], ["EMESSAGE", "c@mx.test", 554]]
          )
        })
    ))

  it.effect("in the middle of the body ends the sending there, without a dot", () =>
    connected(
      { faults: [SmtpServer.at("body", SmtpServer.answer(552, "5.3.4 too large"))] },
      (connection, server) =>
        Effect.gen(function*() {
          const endless = Stream.forever(Stream.make("more and more\r\n"))
          const error = yield* Effect.flip(connection.send(envelope, endless))
          const command = mode.streamVia
          assert.deepInclude(error, { _tag: "EMESSAGE", command, responseCode: 552, inDoubt: false } as never)
          assert.deepStrictEqual(yield* server.received, [])
          // A chunk is counted: the server knows where the next command begins, and RSET makes all plain.
          yield* mode.streamVia === "BDAT" ? isUsable(connection) : isClosed(connection)
        })
    ))

  it.effect("in the middle of a body that is whole is seen before its end", () =>
    connected(
      { faults: [SmtpServer.at("body", SmtpServer.answer(552, "5.3.4 too large"))] },
      (connection, server) =>
        Effect.gen(function*() {
          const error = yield* Effect.flip(connection.send(envelope, "x".repeat(200_000)))
          assert.deepInclude(error, { _tag: "EMESSAGE", responseCode: 552, handedOver: false } as never)
          yield* server.awaitClosed
          assert.isFalse(/x\r\n(\.\r\n)?$/.test(yield* sentOctets(server)))
          yield* isClosed(connection)
        })
    ))

  it.effect("of RSET before a send is EPROTOCOL, of which nothing was attempted unless it went with it", () =>
    connected(
      {
        faults: [
          SmtpServer.at("message", SmtpServer.answer(554, "no")),
          SmtpServer.at("rset", SmtpServer.answer(502, "no"))
        ]
      },
      (connection) =>
        Effect.gen(function*() {
          yield* Effect.flip(connection.send(envelope, "hi"))
          const error = yield* Effect.flip(connection.send(envelope, "hi"))
          assert.deepInclude(
            error,
            { _tag: "EPROTOCOL", command: "RSET", attempted: mode.isGrouped, inDoubt: mode.isFlight } as never
          )
          yield* isClosed(connection)
        })
    ))
})

describe.each(byData)("a refusal of DATA, $name", (mode) => {
  const connected = connectedIn(mode)

  it.effect("of DATA after refused recipients names them all, and its own reply decides", () =>
    connected(
      {
        ...refusing({ "b@mx.test": SmtpServer.reply(550, "5.1.1 gone") }),
        faults: [SmtpServer.at("data", SmtpServer.answer(451, "4.3.0 later"))]
      },
      (connection) =>
        Effect.gen(function*() {
          const error = yield* Effect.flip(connection.send(toThree, "hi\r\n"))
          assert.deepInclude(error, { _tag: "EENVELOPE", responseCode: 451, isTemporary: true } as never)
          assert.deepStrictEqual(
            error._tag === "EENVELOPE" && error.rejectedErrors?.map((e) => [e.recipient, e.responseCode]),
            [["a@mx.test", 451], ["b@mx.test", 550], ["c@mx.test", 451]]
          )
        })
    ))

  // As smtp-sink -A 0 does, whose 550 comes in the segment of its 354 or in the next.
  it.effect("behind the 354 is EMESSAGE, and nothing of the message is sent", () =>
    connected(
      { faults: [SmtpServer.at("data", SmtpServer.surplus("552 5.3.4 too large"))] },
      (connection, server) =>
        Effect.gen(function*() {
          const error = yield* Effect.flip(connection.send(envelope, "hi\r\n"))
          assert.deepInclude(
            error,
            { _tag: "EMESSAGE", command: "DATA", responseCode: 552, handedOver: false } as never
          )
          assert.isFalse(error.inDoubt)
          yield* server.awaitClosed
          assert.isTrue((yield* sentOctets(server)).endsWith("\r\nDATA\r\n"))
          yield* isClosed(connection)
        })
    ))

  it.effect("behind the 354 is EPROTOCOL when it is no refusal, and nothing of the message is sent", () =>
    connected(
      { faults: [SmtpServer.at("data", SmtpServer.surplus("250 2.0.0 done already"))] },
      (connection, server) =>
        Effect.gen(function*() {
          const error = yield* Effect.flip(connection.send(envelope, "hi\r\n"))
          assert.deepInclude(error, { _tag: "EPROTOCOL", command: "DATA", inDoubt: false, handedOver: false } as never)
          yield* server.awaitClosed
          assert.isTrue((yield* sentOctets(server)).endsWith("\r\nDATA\r\n"))
        })
    ))
})

describe.each(modes)("LMTP (RFC 2033), $name", (mode) => {
  const connected = connectedIn(mode)
  const finals = (replies: Readonly<Record<string, SmtpServer.Answer>>): SmtpServer.Script => ({
    protocol: "lmtp",
    respond: { message: ({ recipient = "" }) => replies[recipient] }
  })

  it.effect("has a reply for each recipient, some of them refusals", () =>
    connected(
      finals({ "b@mx.test": SmtpServer.reply(452, "4.2.2 over quota") }),
      (connection, server) =>
        Effect.gen(function*() {
          const result = yield* connection.send(toThree, "hi\r\n")
          assert.deepStrictEqual([result.accepted, result.rejected], [["a@mx.test", "c@mx.test"], ["b@mx.test"]])
          assert.deepStrictEqual(
            result.rejectedErrors.map((
              e
            ) => [e._tag, e.recipient, e.command, e.responseCode, e.isTemporary, e.handedOver]),
            [["EMESSAGE", "b@mx.test", mode.via, 452, true, true]]
          )
          assert.strictEqual(result.reply.code, 250)
          const [message] = yield* server.received
          assert.deepStrictEqual(message?.to, ["a@mx.test", "c@mx.test"])
          yield* isUsable(connection)
          assert.notInclude(yield* verbs(server), "RSET")
        })
    ))

  it.effect("keeps replies and recipients together when one was refused before DATA", () =>
    connected(
      {
        ...finals({ "b@mx.test": SmtpServer.reply(550, "5.2.1 b") }),
        faults: [SmtpServer.at("rcpt", SmtpServer.answer(550, "5.1.1 a"))]
      },
      (connection) =>
        Effect.gen(function*() {
          const result = yield* connection.send(toThree, "hi\r\n")
          assert.deepStrictEqual(result.accepted, ["c@mx.test"])
          assert.deepStrictEqual(result.rejectedErrors.map((e) => [e._tag, e.recipient, e.response]), [
            ["EENVELOPE", "a@mx.test", "5.1.1 a"],
            ["EMESSAGE", "b@mx.test", "5.2.1 b"]
          ])
        })
    ))

  it.effect("all refused after the body is EMESSAGE with one error for each", () =>
    connected(
      finals({
        "a@mx.test": SmtpServer.reply(550, "5.2.1 a"),
        "b@mx.test": SmtpServer.reply(452, "4.2.2 b"),
        "c@mx.test": SmtpServer.reply(451, "4.2.2 c")
      }),
      (connection) =>
        Effect.gen(function*() {
          const error = yield* Effect.flip(connection.send(toThree, "hi\r\n"))
          assert.deepInclude(
            error,
            {
              _tag: "EMESSAGE",
              command: mode.via,
              responseCode: 452,
              isTemporary: true,
              inDoubt: false,
              handedOver: true
            } as never
          )
          assert.deepStrictEqual(
            error._tag === "EMESSAGE" && error.rejectedErrors?.map((e) => [e.recipient, e.responseCode]),
            [["a@mx.test", 550], ["b@mx.test", 452], ["c@mx.test", 451]]
          )
          yield* isUsable(connection)
        })
    ))

  const losses = [
    ["FIN", SmtpServer.drop, "ECONNECTION"],
    ["RST", SmtpServer.reset, "ESOCKET"],
    ["octets that are no reply", SmtpServer.garbage(), "EPROTOCOL"],
    ["silence", SmtpServer.silence, "ETIMEDOUT"]
  ] as const
  for (const [name, fault, tag] of losses) {
    it.effect(`after the first of three replies ${name}: accepted stays accepted, the rest is in doubt`, () =>
      connected(
        { protocol: "lmtp", faults: [SmtpServer.at("message", fault, { occurrence: 2 })] },
        (connection) =>
          Effect.gen(function*() {
            const fiber = yield* Effect.forkChild(connection.send(toThree, "hi\r\n"))
            yield* TestClock.adjust("10 minutes")
            const result = yield* Fiber.join(fiber)
            assert.deepStrictEqual([result.accepted, result.rejected], [["a@mx.test"], ["b@mx.test", "c@mx.test"]])
            assert.deepStrictEqual(
              result.rejectedErrors.map((e) => [e._tag, e.recipient, e.inDoubt, e.handedOver, e.attempted]),
              [[tag, "b@mx.test", true, true, true], [tag, "c@mx.test", true, true, true]]
            )
            yield* isClosed(connection)
          })
      ))
  }

  it.effect("a 421 among the replies is told by its recipients, and by no later call", () =>
    connected(finals({ "b@mx.test": SmtpServer.reply(421, "closing") }), (connection) =>
      Effect.gen(function*() {
        const result = yield* connection.send(toThree, "hi\r\n")
        assert.deepStrictEqual(result.accepted, ["a@mx.test"])
        assert.deepStrictEqual(result.rejectedErrors.map((e) => [e._tag, e.responseCode, e.inDoubt]), [
          ["ECONNECTION", 421, false],
          ["ECONNECTION", 421, true]
        ])
        const error = yield* Effect.flip(connection.noop)
        assert.deepStrictEqual([error._tag, error.reply, error.attempted], ["ECONNECTION", undefined, false])
      })))

  it.effect("a refusal and then a loss is a failure in doubt", () =>
    connected(
      {
        ...finals({ "a@mx.test": SmtpServer.reply(550, "5.2.1 a") }),
        faults: [SmtpServer.at("message", SmtpServer.drop, { occurrence: 2 })]
      },
      (connection) =>
        Effect.gen(function*() {
          const error = yield* Effect.flip(connection.send(toThree, "hi\r\n"))
          assert.deepInclude(error, { _tag: "EMESSAGE", inDoubt: true, handedOver: true, isTemporary: true } as never)
          assert.deepStrictEqual(
            error._tag === "EMESSAGE" && error.rejectedErrors?.map((e) => [e._tag, e.inDoubt]),
            [["EMESSAGE", false], ["ECONNECTION", true], ["ECONNECTION", true]]
          )
          yield* isClosed(connection)
        })
    ))

  it.effect("a loss before any reply is that loss, in doubt", () =>
    connected(
      { protocol: "lmtp", faults: [SmtpServer.at("message", SmtpServer.drop)] },
      (connection) =>
        Effect.gen(function*() {
          const error = yield* Effect.flip(connection.send(toThree, "hi\r\n"))
          assert.deepInclude(error, { _tag: "ECONNECTION", inDoubt: true, handedOver: true } as never)
        })
    ))
})

describe.each(modes)("sendAll, $name", (mode) => {
  const connected = connectedIn(mode)
  const mails = (count: number) =>
    Array.from({ length: count }, (_, i): SmtpConnection.Mail => ({ envelope, message: `${i}\r\n` }))
  const outcomes = <E extends { readonly _tag: string }>(
    results: ReadonlyArray<Result.Result<SmtpConnection.SendResult, E>>
  ) => results.map((result) => Result.isSuccess(result) ? "sent" : result.failure._tag)

  /** Those that were begun come first, and only they may be in doubt. */
  const isLoss = <E>(results: ReadonlyArray<Result.Result<SmtpConnection.SendResult, SmtpError.SendError | E>>) => {
    const errors = results.filter(Result.isFailure).map(({ failure }) => failure as SmtpError.SendError)
    const begun = errors.findIndex(({ attempted }) => !attempted)
    const untouched = begun < 0 ? [] : errors.slice(begun)
    assert.isTrue(errors[0]?.attempted)
    assert.deepStrictEqual(untouched.filter((e) => e.attempted || e.inDoubt || e.handedOver), [])
    return errors
  }

  it.effect("gives one result for each mail, in order, and a refusal stops nothing", () =>
    connected(
      { faults: [SmtpServer.at("mail", SmtpServer.answer(550, "no"), { occurrence: 2 })] },
      (connection, server) =>
        Effect.gen(function*() {
          const bad: SmtpConnection.Mail = { envelope: { from: "no address", to: [] }, message: "" }
          const results = yield* Stream.runCollect(
            connection.sendAll(Stream.fromIterable([...mails(3), bad, ...mails(1)]))
          )
          assert.deepStrictEqual(outcomes(results), ["sent", "EENVELOPE", "sent", "EENVELOPE", "sent"])
          assert.deepStrictEqual((yield* server.received).map(({ text }) => text), ["0\r\n", "2\r\n", "0\r\n"])
        })
    ))

  it.effect("takes one chunk of very many mails one by one", () =>
    connected({}, (connection) =>
      Effect.gen(function*() {
        const bad: SmtpConnection.Mail = { envelope: { from: "no address", to: [] }, message: "" }
        let copies = 0
        const chunk = new Proxy(Array.from({ length: 300 }, () => bad), {
          get: (target, key, receiver) => {
            if (key === Symbol.iterator || key === "shift" || key === "slice") copies++
            return Reflect.get(target, key, receiver)
          }
        })
        const source = Stream.fromArray(chunk)
        const before = copies
        assert.strictEqual((yield* Stream.runCollect(connection.sendAll(source))).length, 300)
        assert.isBelow(copies - before, 5)
      })))

  it.effect("of nothing is nothing", () =>
    connected({}, (connection, server) =>
      Effect.gen(function*() {
        assert.deepStrictEqual(yield* Stream.runCollect(connection.sendAll(Stream.empty)), [])
        assert.deepStrictEqual(yield* verbs(server), [])
      })))

  if (!mode.isGrouped) {
    it.effect("sends a mail before it pulls the next", () =>
      connected({}, (connection, server) =>
        Effect.gen(function*() {
          const source = Stream.fromIterable(mails(3)).pipe(
            Stream.rechunk(1),
            Stream.mapEffect((mail, i) =>
              Effect.map(server.received, (received) => {
                assert.strictEqual(received.length, i)
                return mail
              })
            )
          )
          assert.strictEqual((yield* Stream.runCollect(connection.sendAll(source))).length, 3)
        })))
  }

  it.effect("pulls nothing more once the connection is lost", () =>
    connected(
      { faults: [SmtpServer.at(mode.via === "DATA" ? "data" : "bdat", SmtpServer.drop, { occurrence: 2 })] },
      (connection) =>
        Effect.gen(function*() {
          let pulls = 0
          const source = Stream.fromIterable(mails(10)).pipe(
            Stream.rechunk(1),
            Stream.tap(() => Effect.sync(() => pulls++))
          )
          const results = yield* Stream.runCollect(connection.sendAll(source))
          assert.deepStrictEqual(outcomes(results), ["sent", ...Array.from({ length: pulls - 1 }, () => "ECONNECTION")])
          isLoss(results)
          if (!mode.isGrouped) assert.strictEqual(pulls, 2)
        })
    ))

  it.effect("what was pulled with a mail that lost the connection is told that it was not attempted", () =>
    connected(
      { faults: [SmtpServer.at("message", SmtpServer.drop, { occurrence: 2 })] },
      (connection) =>
        Effect.gen(function*() {
          let pulls = 0
          const source = Stream.concat(
            Stream.fromIterable(mails(5)),
            Stream.fromEffect(Effect.sync(() => {
              pulls++
              return mails(1)[0]!
            }))
          )
          const results = yield* Stream.runCollect(connection.sendAll(source))
          const errors = isLoss(results).slice(0, 4)
          assert.deepStrictEqual(
            outcomes(results),
            ["sent", ...Array.from({ length: 4 + pulls }, () => "ECONNECTION")]
          )
          // What is behind the lost one has been handed over whole, or its envelope has, or nothing.
          const second = [mode.isGrouped, mode.isFlight]
          const others = [mode.isFlight, mode.isFlight]
          assert.deepStrictEqual(errors.map((e) => [e.attempted, e.inDoubt]), [[true, true], second, others, others])
          if (!mode.isGrouped) assert.strictEqual(pulls, 0)
        })
    ))

  it.effect("on a connection that was lost meanwhile pulls one mail, whose result tells of it", () =>
    connected({ faults: [SmtpServer.at("idle", SmtpServer.drop)] }, (connection, server) =>
      Effect.gen(function*() {
        yield* connection.send(envelope, "x")
        yield* server.awaitClosed
        let pulls = 0
        const source = Stream.fromIterable(mails(10)).pipe(
          Stream.rechunk(1),
          Stream.tap(() => Effect.sync(() => pulls++))
        )
        const [result, ...others] = yield* Stream.runCollect(connection.sendAll(source))
        assert.isTrue(result !== undefined && Result.isFailure(result) && !result.failure.attempted)
        assert.deepStrictEqual([pulls, others], [1, []])
      })))

  it.effect("after a refusal in mid-body tells the other mails of a closed connection, not of that refusal", () =>
    connected(
      { faults: [SmtpServer.at("body", SmtpServer.answer(552, "5.3.4 too big"))] },
      (connection) =>
        Effect.gen(function*() {
          const big: SmtpConnection.Mail = { envelope, message: Stream.make("x".repeat(1e6), "y".repeat(1e6)) }
          const results = yield* Stream.runCollect(connection.sendAll(Stream.fromIterable([big, ...mails(2)])))
          const errors = results.filter(Result.isFailure).map(({ failure }) => failure)
          if (mode.streamVia === "BDAT") {
            // The chunk was refused like any command.
            return assert.deepStrictEqual(outcomes(results), ["EMESSAGE", "sent", "sent"])
          }
          assert.deepStrictEqual(errors.map((e) => [e._tag, e.responseCode, e.attempted, e.isTemporary]), [
            ["EMESSAGE", 552, true, false],
            ["ECONNECTION", undefined, false, true],
            ["ECONNECTION", undefined, false, true]
          ])
          assert.strictEqual((yield* Effect.flip(connection.noop))._tag, "ECONNECTION")
        })
    ))

  it.effect("the failure of the source passes, and the failure of a message is its result", () =>
    connected({}, (connection) =>
      Effect.gen(function*() {
        const source: Stream.Stream<SmtpConnection.Mail<Broken, Source>, "the end"> = Stream.concat(
          Stream.make<[SmtpConnection.Mail<Broken, Source>]>({
            envelope,
            message: Stream.unwrap(Effect.map(Source, ({ chunks }) => Stream.fromIterable(chunks)))
          }),
          Stream.fail("the end" as const)
        )
        const results: Array<Result.Result<SmtpConnection.SendResult, SmtpError.SendError | Broken>> = []
        const all: Stream.Stream<(typeof results)[number], "the end", Source> = connection.sendAll(source)
        const exit = yield* Stream.runForEach(all, (result) => Effect.sync(() => results.push(result))).pipe(
          Effect.provideService(Source, { chunks: ["a"] }),
          Effect.exit
        )
        assert.deepStrictEqual(exit, Exit.fail("the end"))
        assert.deepStrictEqual(outcomes(results), ["sent"])
        const broken = { envelope, message: Stream.fail(new Broken({ line: 1 })) }
        assert.deepStrictEqual(
          outcomes(yield* Stream.runCollect(connection.sendAll(Stream.make(broken, ...mails(1))))),
          ["Broken", "ECONNECTION"]
        )
      })))
})

describe("the other commands", () => {
  it.effect("reset and noop say RSET and NOOP", () =>
    connected({}, (connection, server) =>
      Effect.gen(function*() {
        yield* connection.reset
        yield* connection.noop
        assert.deepStrictEqual(yield* verbs(server), ["RSET", "NOOP"])
      })))

  it.effect.each(modes)("reset after a refused send spares the next one its RSET, $name", (mode) =>
    connectedIn(mode)(
      { faults: [SmtpServer.at("message", SmtpServer.answer(554, "no"))] },
      (connection, server) =>
        Effect.gen(function*() {
          yield* Effect.flip(connection.send(envelope, "hi"))
          yield* connection.reset
          yield* isUsable(connection)
          assert.deepStrictEqual(yield* verbs(server), ["MAIL", "RCPT", mode.via, "RSET", "MAIL", "RCPT", mode.via])
        })
    ))

  for (const step of ["noop", "rset"] as const) {
    it.effect(`${step} refused is EPROTOCOL and closes the connection`, () =>
      connected(
        { faults: [SmtpServer.at(step, SmtpServer.answer(502, "5.5.1 no"))] },
        (connection, server) =>
          Effect.gen(function*() {
            const error = yield* Effect.flip(step === "noop" ? connection.noop : connection.reset)
            assert.deepInclude(
              error,
              { _tag: "EPROTOCOL", command: step.toUpperCase(), responseCode: 502, attempted: true } as never
            )
            yield* isClosed(connection)
            yield* server.awaitClosed
            assert.notInclude(yield* verbs(server), "QUIT")
          })
      ))
  }

  it.effect("vrfy, expn and help give the reply as data", () =>
    connected({}, (connection, server) =>
      Effect.gen(function*() {
        assert.strictEqual((yield* connection.vrfy("bob")).code, 252)
        assert.strictEqual((yield* connection.expn("staff list")).code, 502)
        assert.strictEqual((yield* connection.help()).code, 214)
        assert.strictEqual((yield* connection.help("MAIL")).code, 214)
        const lines = (yield* server.transcript).filter(({ from }) => from === "client").map(({ text }) => text)
        assert.deepStrictEqual(lines.slice(-4), ["VRFY bob", "EXPN staff list", "HELP", "HELP MAIL"])
        yield* isUsable(connection)
      })))

  it.effect("a multi-line reply comes whole, a refusal too", () =>
    connected(
      {
        respond: {
          expn: () => SmtpServer.reply(250, "Ann <ann@mx.test>", "Bob <bob@mx.test>"),
          vrfy: () => SmtpServer.reply(550, "5.1.1 no such user")
        }
      },
      (connection) =>
        Effect.gen(function*() {
          assert.deepStrictEqual((yield* connection.expn("staff")).lines, ["Ann <ann@mx.test>", "Bob <bob@mx.test>"])
          assert.strictEqual((yield* connection.vrfy("eve")).enhancedCode, "5.1.1")
          yield* isUsable(connection)
        })
    ))

  const asks = {
    vrfy: ["vrfy.mailbox", (c: SmtpConnection.SmtpConnection, text: string) => c.vrfy(text)],
    expn: ["expn.list", (c: SmtpConnection.SmtpConnection, text: string) => c.expn(text)],
    help: ["help.topic", (c: SmtpConnection.SmtpConnection, text: string) => c.help(text)]
  } as const
  for (const [verb, [field, ask]] of Object.entries(asks)) {
    it.effect(`${verb} refuses what cannot be one line, before anything is sent`, () =>
      connected({}, (connection, server) =>
        Effect.gen(function*() {
          const bad = ["", "a\r\nQUIT", "a\u0000", "\u2028", "\ud800", "x".repeat(600), 5, {}, null]
          for (const text of bad) {
            const error = yield* Effect.flip(ask(connection, text as string))
            assert.deepInclude(error, { _tag: "EENVELOPE", command: "API", attempted: false, field } as never)
            assert.match(error.message, new RegExp(`^${field}: `))
          }
          assert.deepStrictEqual(yield* verbs(server), [])
          yield* isUsable(connection)
        })))

    it.effect(`a reply of the wrong class to ${verb} is EPROTOCOL`, () =>
      connected(
        { faults: [SmtpServer.at(verb as "vrfy", SmtpServer.answer(354, "go"))] },
        (connection) =>
          Effect.gen(function*() {
            const error = yield* Effect.flip(ask(connection, "x"))
            assert.deepInclude(error, { _tag: "EPROTOCOL", responseCode: 354, command: verb.toUpperCase() } as never)
            yield* isClosed(connection)
          })
      ))

    it.effect(`421 to ${verb} is ECONNECTION`, () =>
      connected(
        { faults: [SmtpServer.at(verb as "vrfy", SmtpServer.answer(421, "bye"))] },
        (connection) =>
          Effect.gen(function*() {
            const error = yield* Effect.flip(ask(connection, "x"))
            assert.deepInclude(error, { _tag: "ECONNECTION", responseCode: 421, command: verb.toUpperCase() } as never)
            yield* isClosed(connection)
          })
      ))
  }
})

describe("what callers in JavaScript give", () => {
  const messages: ReadonlyArray<unknown> = [
    undefined,
    null,
    5,
    {},
    [],
    ["text"],
    Promise.resolve("x"),
    new Date(0),
    () => ""
  ]
  it.effect("a message of no known type is EMESSAGE, before anything is sent", () =>
    connected({}, (connection, server) =>
      Effect.gen(function*() {
        for (const message of messages) {
          const error = yield* Effect.flip(connection.send(envelope, message as string))
          assert.deepInclude(error, { _tag: "EMESSAGE", command: "API", attempted: false, field: "message" } as never)
          assert.match(error.message, /^message: expected a string, a Uint8Array or a Stream/)
        }
        assert.deepStrictEqual(yield* verbs(server), [])
        yield* isUsable(connection)
      })))

  it.effect.each(bodies)(
    "a stream of something else is EMESSAGE, and the connection is closed, $name",
    (mode) =>
      Effect.forEach(
        [5, null, undefined, {}, ["a"]],
        (chunk) =>
          connectedIn(mode)({}, (connection, server) =>
            Effect.gen(function*() {
              const message = Stream.fromIterable(["a\r\n", chunk as string])
              const error = yield* Effect.flip(connection.send(envelope, message))
              assert.deepInclude(error, { _tag: "EMESSAGE", command: mode.streamVia, field: "message" } as never)
              yield* server.awaitClosed
              assert.notMatch(yield* sentOctets(server), /LAST|\r\n\.\r\n/)
            }))
      )
  )

  const envelopes: ReadonlyArray<unknown> = [
    undefined,
    null,
    5,
    "ann@me.test",
    [],
    {},
    { from: "ann@me.test" },
    { to: "bob@mx.test" },
    { from: 1, to: "bob@mx.test" },
    { from: null, to: "bob@mx.test" },
    { from: "ann@me.test", to: [] },
    { from: "ann@me.test", to: [null] },
    { from: "ann@me.test", to: [["bob@mx.test"]] },
    { from: "ann@me.test", to: Array(3) },
    { from: "ann@me.test", to: { address: Symbol("bob") } },
    { from: "ann@me.test", to: "bob@mx.test\r\nRCPT TO:<eve@x.test>" },
    { from: "ann@me.test", to: "a@x.test", size: Number.NaN },
    { from: "ann@me.test", to: "a@x.test", size: "5\r\nQUIT" },
    { from: "ann@me.test", to: "a@x.test", use8BitMime: "yes" },
    { from: "ann@me.test", to: "a@x.test", dsn: null },
    { from: "ann@me.test", to: "a@x.test", dsn: { notify: 5 } },
    { from: "ann@me.test", to: "a@x.test", dsn: { envid: { toString: () => "x" } } },
    { from: "ann@me.test", to: "a@x.test", auth: "a\r\nb@c" }
  ]
  it.effect("an envelope that is none is EENVELOPE that names the field, before anything is sent", () =>
    connected({}, (connection, server) =>
      Effect.gen(function*() {
        for (const input of envelopes) {
          const error = yield* Effect.flip(connection.send(input as Envelope.Input, "hi"))
          assert.deepInclude(error, { _tag: "EENVELOPE", command: "API", attempted: false } as never)
          assert.match(error.field ?? "", /^envelope/)
        }
        assert.deepStrictEqual(yield* verbs(server), [])
        yield* isUsable(connection)
      })))
})

describe("the end", () => {
  it.effect.each(modes)("closing the scope says QUIT, $name", (mode) =>
    Effect.gen(function*() {
      const server = yield* SmtpServer.SmtpServer
      yield* Effect.scoped(Effect.flatMap(SmtpConnection.make({ ...options, ...mode.options }), isUsable))
      yield* server.awaitClosed
      assert.deepStrictEqual(yield* verbs(server), ["MAIL", "RCPT", mode.via, "QUIT"])
    }).pipe(Effect.provide(SmtpServer.layer())))

  it.effect("closing the scope with a failure of the caller's says QUIT too", () =>
    Effect.gen(function*() {
      const server = yield* SmtpServer.SmtpServer
      yield* Effect.exit(Effect.scoped(Effect.andThen(SmtpConnection.make(options), Effect.fail("mine"))))
      yield* server.awaitClosed
      assert.deepStrictEqual(yield* verbs(server), ["QUIT"])
    }).pipe(Effect.provide(SmtpServer.layer())))

  it.effect.each(modes)(
    "closing the scope in the middle of a send says nothing more, $name",
    (mode) =>
      Effect.gen(function*() {
        const server = yield* SmtpServer.SmtpServer
        const scope = yield* Scope.make()
        const connection = yield* Scope.provide(SmtpConnection.make({ ...options, ...mode.options }), scope)
        const fiber = yield* Effect.forkChild(Effect.flip(connection.send(envelope, "hi\r\n")))
        yield* TestClock.adjust(1)
        yield* Scope.close(scope, Exit.void)
        const error = yield* Fiber.join(fiber)
        assert.deepInclude(error, { _tag: "ECONNECTION", command: mode.via, inDoubt: true } as never)
        yield* server.awaitClosed
        assert.notInclude(yield* verbs(server), "QUIT")
      }).pipe(Effect.provide(SmtpServer.layer({ faults: [SmtpServer.at("message", SmtpServer.silence)] })))
  )

  it.effect("closing the scope with an interruption says QUIT when nobody is served", () =>
    Effect.gen(function*() {
      const server = yield* SmtpServer.SmtpServer
      const scope = yield* Scope.make()
      yield* Scope.provide(SmtpConnection.make(options), scope)
      yield* Scope.close(scope, Exit.interrupt())
      yield* server.awaitClosed
      assert.deepStrictEqual(yield* verbs(server), ["QUIT"])
    }).pipe(Effect.provide(SmtpServer.layer())))

  it.effect("closing the scope by interruption says QUIT when nobody is served", () =>
    Effect.gen(function*() {
      const server = yield* SmtpServer.SmtpServer
      const fiber = yield* Effect.forkChild(Effect.scoped(Effect.andThen(SmtpConnection.make(options), Effect.never)))
      yield* TestClock.adjust(1)
      yield* Fiber.interrupt(fiber)
      yield* server.awaitClosed
      assert.deepStrictEqual(yield* verbs(server), ["QUIT"])
    }).pipe(Effect.provide(SmtpServer.layer())))

  it.effect("quit says QUIT once; later calls are refused on this side", () =>
    connected({}, (connection, server) =>
      Effect.gen(function*() {
        yield* connection.quit
        yield* server.awaitClosed
        yield* connection.quit
        for (
          const call of [connection.noop, connection.reset, connection.send(envelope, "hi"), connection.vrfy("bob")]
        ) {
          const error = yield* Effect.flip(call as Effect.Effect<unknown, SmtpError.SmtpError>)
          assert.deepInclude(error, { _tag: "ECONNECTION", command: "API", attempted: false } as never)
        }
        assert.deepStrictEqual(yield* verbs(server), ["QUIT"])
      })))

  it.effect("quit succeeds within its deadline, whatever the server does", () =>
    Effect.forEach(
      [SmtpServer.silence, SmtpServer.drop, SmtpServer.reset, SmtpServer.answer(500, "?")],
      (fault) =>
        connected({ faults: [SmtpServer.at("quit", fault)] }, (connection, server) =>
          Effect.gen(function*() {
            const fiber = yield* Effect.forkChild(connection.quit)
            yield* TestClock.adjust("2 seconds")
            yield* Fiber.join(fiber)
            yield* server.awaitClosed
          }))
    ))

  it.effect.each(modes)(
    "a connection that was lost while idle refuses the next call as not attempted, $name",
    (mode) =>
      connectedIn(mode)({ faults: [SmtpServer.at("idle", SmtpServer.drop)] }, (connection) =>
        Effect.gen(function*() {
          yield* connection.send(envelope, "hi\r\n")
          yield* TestClock.adjust(1)
          yield* isClosed(connection)
        }))
  )

  it.effect.each(modes)(
    "a send that is interrupted before its turn leaves the connection usable, $name",
    (mode) =>
      connectedIn(mode)(
        { faults: [SmtpServer.at("message", SmtpServer.delay("1 minute"))] },
        (connection) =>
          Effect.gen(function*() {
            const first = yield* Effect.forkChild(connection.send(envelope, "hi\r\n"))
            const second = yield* Effect.forkChild(connection.send(envelope, "hi\r\n"))
            yield* TestClock.adjust(1)
            yield* Fiber.interrupt(second)
            const exit = yield* Fiber.await(second)
            assert.isTrue(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
            yield* TestClock.adjust("1 minute")
            yield* Fiber.join(first)
            yield* isUsable(connection)
          })
      )
  )
})
