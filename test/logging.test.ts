import { assert, describe, it } from "@effect/vitest"
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Inspectable from "effect/Inspectable"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as References from "effect/References"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Tracer from "effect/Tracer"
import { inspect } from "node:util"
import type * as Envelope from "../src/Envelope.ts"
import * as Sasl from "../src/Sasl.ts"
import * as SmtpClient from "../src/SmtpClient.ts"
import * as SmtpConnection from "../src/SmtpConnection.ts"
import type { SmtpConnector } from "../src/SmtpConnector.ts"
import * as SmtpError from "../src/SmtpError.ts"
import { SmtpServer } from "../src/testing/index.ts"
import { modes } from "./support/modes.ts"
import { assertHidden } from "./support/secrets.ts"
import { attributesOf, connected, makeTracer } from "./support/spans.ts"

const options: SmtpConnection.Options = { host: "mx.test", name: "me.test" }
const envelope: Envelope.Input = { from: "ann@me.test", to: "bob@mx.test" }

interface Entry {
  readonly level: string
  readonly text: string
  readonly annotations: Readonly<Record<string, unknown>>
}

/** What a run left behind: its log lines, and its spans in the order of their start. */
interface Traces {
  readonly entries: ReadonlyArray<Entry>
  readonly spans: ReadonlyArray<Tracer.NativeSpan>
}

/** Runs a program against a fake server, collects what it logs and traces, and shows both to the test. */
const collected = Effect.fnUntraced(function*<A, E>(
  script: SmtpServer.Script,
  program: Effect.Effect<A, E, SmtpConnector | SmtpServer.SmtpServer | Scope.Scope>
) {
  const entries: Array<Entry> = []
  const logger = Logger.make<unknown, void>(({ fiber, logLevel, message }) => {
    const text = (Array.isArray(message) ? message : [message]).join(" ")
    entries.push({ level: logLevel, text, annotations: fiber.getRef(References.CurrentLogAnnotations) })
  })
  const { spans, tracer } = makeTracer()
  const exit = yield* program.pipe(
    Effect.scoped,
    Effect.provide(Layer.mergeAll(
      SmtpServer.layer(script),
      Logger.layer([logger]),
      Layer.succeed(Tracer.Tracer, tracer),
      Layer.succeed(References.MinimumLogLevel, "All")
    )),
    Effect.exit
  )
  return { entries, spans, exit } satisfies Traces & { exit: Exit.Exit<A, E> }
})

const send = (given: SmtpConnection.Options, message: SmtpConnection.Message = "Subject: x\n\n.secret text\n") =>
  Effect.flatMap(SmtpConnection.make(given), (connection) => connection.send(envelope, message))

const linesOf = ({ entries }: Traces): ReadonlyArray<string> => entries.map(({ text }) => text)
const spoken = (traces: Traces): ReadonlyArray<string> => linesOf(traces).filter((line) => !line.startsWith("*"))

describe("the transcript", () => {
  it.effect("is off unless asked for", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual((yield* collected({}, send(options))).entries, [])
      assert.deepStrictEqual((yield* collected({}, send({ ...options, transcript: "off" }))).entries, [])
    }))

  const dialogue = [
    "S: 220 fake.test ESMTP ready",
    "C: EHLO me.test",
    "S: 250 fake.test greets me.test / SIZE 1000 / STARTTLS / ENHANCEDSTATUSCODES",
    "C: STARTTLS",
    "S: 220 2.0.0 go ahead",
    "C: EHLO me.test",
    "S: 250 fake.test greets me.test / SIZE 1000 / ENHANCEDSTATUSCODES",
    "C: MAIL FROM:<ann@me.test> SIZE=28",
    "S: 250 2.1.0 sender OK",
    "C: RCPT TO:<bob@mx.test>",
    "S: 250 2.1.5 recipient OK",
    "C: DATA",
    "S: 354 go ahead"
  ]
  const end = ["S: 250 2.0.0 queued as 1", "C: QUIT", "S: 221 2.0.0 bye"]
  const few: SmtpServer.Script = {
    extensions: {
      pipelining: false,
      size: 1000,
      auth: false,
      eightBitMime: false,
      smtpUtf8: false,
      dsn: false,
      chunking: false,
      requireTls: false,
      help: false
    }
  }

  it.effect("of commands has each command and each reply, and no message content", () =>
    Effect.gen(function*() {
      const traces = yield* collected(few, send({ ...options, transcript: "commands" }))
      assert.deepStrictEqual(spoken(traces), [...dialogue, ...end])
      assert.notInclude(linesOf(traces).join(), "secret text")
    }))

  it.effect("of everything has the message as it goes out too, escaped", () =>
    Effect.gen(function*() {
      const traces = yield* collected(few, send({ ...options, transcript: "full" }))
      const content = "C: Subject: x\\u{d}\\u{a}\\u{d}\\u{a}..secret text\\u{d}\\u{a}.\\u{d}\\u{a}"
      assert.deepStrictEqual(spoken(traces), [...dialogue, content, ...end])
    }))

  it.effect("of everything has each part of a stream, long ones in as many lines as it takes", () =>
    Effect.gen(function*() {
      const message = Stream.rechunk(Stream.make("first\r\n", "x".repeat(50_000)), 1)
      const traces = yield* collected(few, send({ ...options, transcript: "full" }, message))
      const content = spoken(traces).slice(dialogue.length, -end.length)
      assert.strictEqual(
        content.map((line) => line.slice(3)).join(""),
        `first\\u{d}\\u{a}${"x".repeat(50_000)}\\u{d}\\u{a}.\\u{d}\\u{a}`
      )
      assert.isBelow(Math.max(...content.map(({ length }) => length)), 5000)
    }))

  it.effect("carries the connection and the host in its annotations, at level Info", () =>
    Effect.gen(function*() {
      const two = Effect.andThen(
        Effect.scoped(send({ ...options, transcript: "commands" })),
        Effect.scoped(send({ ...options, transcript: "commands" }))
      )
      const { entries } = yield* collected({}, two)
      const ids = entries.map(({ annotations }) => annotations["connection"])
      assert.isTrue(ids.every((id) => typeof id === "string" && /^smtp-\d+$/.test(id)))
      assert.strictEqual(new Set(ids).size, 2)
      assert.isTrue(entries.every(({ annotations, level }) => annotations["host"] === "mx.test" && level === "Info"))
      const socket = { path: "/run/lmtp.sock", protocol: "lmtp", name: "me.test", transcript: "commands" } as const
      const unix = yield* collected({ protocol: "lmtp" }, send(socket))
      assert.isTrue(unix.entries.every(({ annotations }) => annotations["host"] === "/run/lmtp.sock"))
    }))

  it.effect("escapes what the server says, and bounds it", () =>
    Effect.gen(function*() {
      const evil = "\u001b[2J\u009b1m\u202eevil\u2028"
      const script: SmtpServer.Script = {
        greeting: SmtpServer.reply(220, evil),
        respond: { mail: () => SmtpServer.reply(550, ...Array.from({ length: 4 }, () => evil + "x".repeat(10_000))) }
      }
      const traces = yield* collected(script, Effect.exit(send({ ...options, transcript: "full" })))
      // oxlint-disable-next-line no-control-regex -- matching control characters is what this is for
      assert.notMatch(linesOf(traces).join(""), /[\u0000-\u001f\u007f-\u009f\u2028-\u202e]/)
      assert.include(linesOf(traces)[0]!, "S: 220 \\u{1b}[2J\\u{9b}1m\\u{202e}evil\\u{2028}")
      assert.isTrue(linesOf(traces).every((line) => line.length < 2000))
    }))
})

describe.each(modes)("the transcript of a transaction, $name", ({ options: given, streamVia, via }) => {
  const clear: SmtpConnection.Options = { ...options, ...given, tls: "off" }
  /** What one side said, of the transaction alone. */
  const saidBy = (traces: Traces, side: "C" | "S"): ReadonlyArray<string> => {
    const lines = spoken(traces).filter((line) => line.startsWith(`${side}: `)).map((line) => line.slice(3))
    return lines.slice(side === "C" ? 1 : 2, -1)
  }
  const envelopeLines = (size: string) => [`MAIL FROM:<ann@me.test>${size}`, "RCPT TO:<bob@mx.test>"]
  const replies = ["250 2.1.0 sender OK", "250 2.1.5 recipient OK"]
  const content = (stuffed: string) => `Subject: x\\u{d}\\u{a}\\u{d}\\u{a}${stuffed}.secret text\\u{d}\\u{a}`

  it.effect("of commands has every command once, and every reply", () =>
    Effect.gen(function*() {
      const traces = yield* collected({}, send({ ...clear, transcript: "commands" }))
      const body = via === "DATA" ? "DATA" : "BDAT 28 LAST"
      assert.deepStrictEqual(saidBy(traces, "C"), [...envelopeLines(" SIZE=28"), body])
      const go = via === "DATA" ? ["354 go ahead"] : []
      assert.deepStrictEqual(saidBy(traces, "S"), [...replies, ...go, "250 2.0.0 queued as 1"])
    }))

  it.effect("of everything has the message too", () =>
    Effect.gen(function*() {
      const traces = yield* collected({}, send({ ...clear, transcript: "full" }))
      const body = via === "DATA" ? ["DATA", `${content(".")}.\\u{d}\\u{a}`] : ["BDAT 28 LAST", content("")]
      assert.deepStrictEqual(saidBy(traces, "C"), [...envelopeLines(" SIZE=28"), ...body])
    }))

  it.effect("over LMTP is the same", () =>
    Effect.gen(function*() {
      const lmtp: SmtpConnection.Options = { ...clear, protocol: "lmtp", transcript: "full" }
      const traces = yield* collected({ protocol: "lmtp" }, send(lmtp))
      const body = via === "DATA" ? ["DATA", `${content(".")}.\\u{d}\\u{a}`] : ["BDAT 28 LAST", content("")]
      assert.deepStrictEqual(saidBy(traces, "C"), [...envelopeLines(" SIZE=28"), ...body])
    }))

  it.effect("of a stream has its chunks, each behind its command", () =>
    Effect.gen(function*() {
      const [first, second] = ["x".repeat(69_998), "tail"]
      const message = Stream.rechunk(Stream.make(`${first}\r\n`, `${second}\r\n`), 1)
      const traces = yield* collected({}, send({ ...clear, transcript: "full" }, message))
      const text = saidBy(traces, "C").slice(2).map((line) => line.startsWith("BDAT") ? `[${line}]` : line).join("")
      assert.strictEqual(
        text,
        streamVia === "DATA"
          ? `DATA${first}\\u{d}\\u{a}${second}\\u{d}\\u{a}.\\u{d}\\u{a}`
          : `[BDAT 70000]${first}\\u{d}\\u{a}[BDAT 6 LAST]${second}\\u{d}\\u{a}`
      )
      const plain = yield* collected({}, send({ ...clear, transcript: "commands" }, message))
      const body = streamVia === "DATA" ? ["DATA"] : ["BDAT 70000", "BDAT 6 LAST"]
      assert.deepStrictEqual(saidBy(plain, "C").slice(2), body)
    }))
})

describe("secrets", () => {
  const user = "canary-user"
  const secret = "canary-Sup3r~secret/x"

  /** Every way a value can be shown. */
  const showings = (u: unknown): string =>
    [
      inspect(u, { depth: 20, showHidden: true }),
      Inspectable.toStringUnknown(u),
      String(u),
      JSON.stringify(u, (_, value: unknown) => typeof value === "bigint" ? String(value) : value)
    ].join("\n")

  const hidden = (traces: Traces & { readonly exit: Exit.Exit<unknown, unknown> }, more: ReadonlyArray<string>) => {
    const causes: ReadonlyArray<Cause.Reason<unknown>> = Exit.isFailure(traces.exit) ? traces.exit.cause.reasons : []
    const errors = causes.flatMap((reason) => reason._tag === "Fail" ? [reason.error] : [])
    const encoded = errors.filter(SmtpError.isSmtpError).map((e) => Schema.encodeSync(SmtpError.SmtpError)(e))
    const shown = [
      showings(traces.entries),
      ...traces.spans.map((span) => showings([span.name, [...span.attributes], span.events, span.status])),
      ...errors.map(showings),
      showings(traces.exit),
      ...encoded.map(showings)
    ].join("\n")
    assertHidden(shown, secret, ...more)
  }

  const mechanisms: ReadonlyArray<readonly [string, Sasl.Credentials]> = [
    ...["PLAIN", "LOGIN", "CRAM-MD5"].map((name) =>
      [name, Sasl.password({ username: user, password: Redacted.make(secret) })] as const
    ),
    ["XOAUTH2", Sasl.oauth2({ username: user, token: Redacted.make(secret) })],
    ["XOAUTH2", Sasl.oauth2({ username: user, token: Effect.succeed(Redacted.make(secret)) })]
  ]

  for (const [mechanism, auth] of mechanisms) {
    for (
      const [what, script] of Object.entries({
        accepted: {},
        refused: { accounts: { [user]: "other" } },
        lost: { faults: [SmtpServer.at("auth", SmtpServer.drop)] },
        broken: { faults: [SmtpServer.at("auth", SmtpServer.answer(334, "!"))] }
      })
    ) {
      it.effect(`a login by ${mechanism} that is ${what} shows no secret in any sink`, () =>
        Effect.gen(function*() {
          const given: SmtpClient.Options = { ...options, auth, mechanisms: [mechanism], transcript: "full" }
          let octets = ""
          const traces = yield* collected(
            { ...script, extensions: { auth: [mechanism] } },
            Effect.gen(function*() {
              const smtp = yield* SmtpClient.make(given)
              const exit = yield* Effect.exit(smtp.send(envelope, "hi\r\n"))
              for (const info of yield* (yield* SmtpServer.SmtpServer).connections) {
                octets += new TextDecoder("latin1").decode(info.bytes)
              }
              return yield* exit
            })
          )
          // LOGIN takes any prompt, so that one is not broken for it.
          if (what !== "broken") assert.strictEqual(Exit.isSuccess(traces.exit), what === "accepted")
          const lines = octets.split("\r\n")
          const auths = lines.slice(lines.findIndex((line) => line.startsWith("AUTH")))
          // What the client said in the exchange, initial response and continuations: none of it may be shown.
          const said = auths.slice(0, 3).flatMap((line) => line.split(" ")).filter((word) =>
            /^[\w+/=]{12,}$/.test(word)
          )
          if (what === "accepted") assert.isNotEmpty(said)
          const digests = said.flatMap((word) => /[\da-f]{32}$/.exec(Buffer.from(word, "base64").toString()) ?? [])
          if (mechanism === "CRAM-MD5" && what === "accepted") assert.isNotEmpty(digests)
          hidden(traces, [...said, ...digests])
          assert.include(linesOf(traces).join("\n"), `C: AUTH ${mechanism}`)
        }))
    }
  }

  it.effect("a failed layer from a URL shows no secret", () =>
    Effect.gen(function*() {
      const url = `smtp://${user}:${encodeURIComponent(secret)}@mx.test?tls=off`
      const traces = yield* collected({}, Effect.flatMap(SmtpClient.fromUrl(Redacted.make(url)), SmtpClient.make))
      assert.isTrue(Exit.isFailure(traces.exit))
      hidden(traces, [])
    }))
})

describe("spans", () => {
  const client = <A, E>(
    script: SmtpServer.Script,
    f: (smtp: SmtpClient.Client) => Effect.Effect<A, E>,
    given: SmtpClient.Options = options
  ) => collected(script, Effect.flatMap(SmtpClient.make(given), f))

  it.effect("a send through a client is smtp.send with smtp.connect inside", () =>
    Effect.gen(function*() {
      const { spans } = yield* client(
        { respond: { rcpt: ({ path }) => path === "c@mx.test" ? SmtpServer.reply(550, "5.1.1 no") : undefined } },
        (smtp) => smtp.send({ from: "", to: ["b@mx.test", "c@mx.test", "d@mx.test"] }, "a\nb")
      )
      assert.deepStrictEqual(spans.map(({ kind, name }) => [name, kind]), [
        ["smtp.send", "client"],
        ["smtp.connect", "client"]
      ])
      const [sent, connect] = spans
      assert.strictEqual(connect?.parent._tag === "Some" && connect.parent.value.spanId, sent?.spanId)
      assert.deepStrictEqual(attributesOf(connect), connected)
      assert.deepStrictEqual(attributesOf(sent), {
        ...connected,
        "smtp.outcome": "partial",
        "smtp.in_doubt": false,
        "smtp.response.code": 250,
        "smtp.response.enhanced_code": "2.0.0",
        "smtp.recipients.accepted": 2,
        "smtp.recipients.rejected": 1,
        "smtp.message.size": 6
      })
      for (const { status } of spans) assert.isTrue(status._tag === "Ended" && Exit.isSuccess(status.exit))
    }))

  it.effect("over a unix socket name the path and no port", () =>
    Effect.gen(function*() {
      const given = { path: "/run/lmtp.sock", protocol: "lmtp", name: "me.test" } as const
      const { spans } = yield* client({ protocol: "lmtp" }, (smtp) => smtp.verify, given)
      assert.deepStrictEqual(spans.map((span) => [span.name, attributesOf(span)]), [["smtp.connect", {
        "server.address": "/run/lmtp.sock",
        "network.transport": "unix",
        "network.protocol.name": "lmtp",
        "network.peer.address": "/run/lmtp.sock",
        "tls.established": false,
        "smtp.security.verified_by": "connector",
        "smtp.security.asked_by": "options.path"
      }]])
    }))

  it.effect("of a refused send name the error", () =>
    Effect.gen(function*() {
      const { spans } = yield* client(
        { faults: [SmtpServer.at("mail", SmtpServer.answer(550, "5.7.1 no"))] },
        (smtp) => smtp.send(envelope, "x")
      )
      const [sent, connect] = spans
      assert.deepInclude(attributesOf(sent), {
        "error.type": "EENVELOPE",
        "smtp.in_doubt": false,
        "smtp.response.code": 550,
        "smtp.response.enhanced_code": "5.7.1"
      })
      assert.notProperty(attributesOf(connect), "error.type")
      assert.isTrue(sent?.status._tag === "Ended" && Exit.isFailure(sent.status.exit))
    }))

  it.effect("of a send in doubt say so, without a code that never came", () =>
    Effect.gen(function*() {
      const { spans } = yield* client(
        { faults: [SmtpServer.at("message", SmtpServer.drop)] },
        (smtp) => smtp.send(envelope, "x")
      )
      assert.deepInclude(attributesOf(spans[0]), { "error.type": "ECONNECTION", "smtp.in_doubt": true })
      assert.notProperty(attributesOf(spans[0]), "smtp.response.code")
    }))

  it.effect("of a connection that fails name the error on both", () =>
    Effect.gen(function*() {
      const { spans } = yield* client(
        { greeting: SmtpServer.reply(554, "no service") },
        (smtp) => smtp.send(envelope, "x")
      )
      assert.deepStrictEqual(
        spans.map((span) => [span.name, attributesOf(span)["error.type"], attributesOf(span)["smtp.response.code"]]),
        [["smtp.send", "ECONNECTION", 554], ["smtp.connect", "ECONNECTION", 554]]
      )
    }))

  it.effect("of a stream that fails with its own error bear no tag of ours", () =>
    Effect.gen(function*() {
      const { spans } = yield* client({}, (smtp) => smtp.send(envelope, Stream.fail("mine")))
      assert.strictEqual(spans.length, 2)
      assert.strictEqual(attributesOf(spans[0])["error.type"], "_OTHER")
    }))

  it.effect("of tries again are one smtp.send each", () =>
    Effect.gen(function*() {
      const { spans } = yield* client(
        { faults: [SmtpServer.at("mail", SmtpServer.answer(451, "busy"), { connection: 1 })] },
        (smtp) => SmtpClient.retryTemporary(smtp, Schedule.recurs(1)).send(envelope, "x")
      )
      assert.deepStrictEqual(spans.map(({ name }) => name), ["smtp.send", "smtp.connect", "smtp.send"])
    }))

  it.effect("use and verify are smtp.connect alone, a connection by itself is none", () =>
    Effect.gen(function*() {
      const both = yield* client({}, (smtp) =>
        Effect.andThen(smtp.verify, smtp.use((connection) => connection.send(envelope, "x"))))
      assert.deepStrictEqual(
        both.spans.map(({ name }) =>
          name
        ),
        ["smtp.connect", "smtp.connect"]
      )
      assert.deepStrictEqual((yield* collected({}, send(options))).spans, [])
    }))
})
