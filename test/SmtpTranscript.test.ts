import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"
import * as Sasl from "../src/Sasl.ts"
import * as SmtpConnection from "../src/SmtpConnection.ts"
import * as SmtpTranscript from "../src/SmtpTranscript.ts"
import { SmtpServer } from "../src/testing/index.ts"
import { assertHidden } from "./support/secrets.ts"

type Entry = SmtpTranscript.Entry

const options: SmtpConnection.Options = { host: "mx.test", name: "me.test" }
const envelope = { from: "ann@me.test", to: "bob@mx.test" }

/** Sends one message with these options, and ends the connection. */
const send = (given: SmtpConnection.Options, message: SmtpConnection.Message = "Subject: x\n\n.é\n") =>
  Effect.scoped(Effect.flatMap(SmtpConnection.make(given), (connection) => connection.send(envelope, message)))

/** The recording of one message to a server with this script. */
const recorded = (
  script: SmtpServer.Script,
  given: SmtpConnection.Options = {},
  level: SmtpTranscript.Recorder["level"] = "commands",
  message?: SmtpConnection.Message
) =>
  Effect.gen(function*() {
    const transcript = yield* SmtpTranscript.make({ level })
    yield* Effect.exit(send({ ...options, ...given, transcript }, message))
    return yield* transcript.transcript
  }).pipe(Effect.provide(SmtpServer.layer(script)))

const few: SmtpServer.Script = {
  extensions: {
    pipelining: false,
    size: false,
    auth: ["PLAIN"],
    smtpUtf8: false,
    dsn: false,
    chunking: false,
    requireTls: false,
    help: false
  }
}

const shown = (entry: Entry): string =>
  entry.kind === "reply"
    ? `S ${entry.code} ${entry.lines.join(" / ")}`
    : entry.kind === "content"
    ? `C (${entry.size}) ${JSON.stringify(entry.text ?? entry.base64 ?? null)}`
    : `${entry.kind === "event" ? "*" : "C"} ${entry.text}`

const place = { connection: "smtp-1", at: 0 }
const command = (text: string): Entry => ({ kind: "command", from: "client", ...place, text })
const content = (size: number, fields: { readonly text?: string; readonly base64?: string } = {}): Entry => ({
  kind: "content",
  from: "client",
  ...place,
  size,
  ...fields
})

/** What a recorder keeps of entries. */
const kept = Effect.fnUntraced(function*(entries: Iterable<Entry>, level: SmtpTranscript.Recorder["level"] = "full") {
  const { record, transcript } = yield* SmtpTranscript.make({ level })
  for (const entry of entries) yield* record(entry)
  return yield* transcript
})

describe("a recording", () => {
  const auth = Sasl.password({ username: "ann", password: Redacted.make("CANARY") })

  it.effect("has each command, each reply and what TLS says, in order; of the message the size", () =>
    Effect.gen(function*() {
      const transcript = yield* recorded(few, { auth })
      assert.deepStrictEqual(transcript.entries.map(shown), [
        "S 220 fake.test ESMTP ready",
        "C EHLO me.test",
        "S 250 fake.test greets me.test / STARTTLS / ENHANCEDSTATUSCODES / 8BITMIME",
        "C STARTTLS",
        "S 220 2.0.0 go ahead",
        "* in-memory none, certificate verified",
        "C EHLO me.test",
        "S 250 fake.test greets me.test / AUTH PLAIN / ENHANCEDSTATUSCODES / 8BITMIME",
        "C AUTH PLAIN ***",
        "S 235 2.7.0",
        "C MAIL FROM:<ann@me.test> BODY=8BITMIME",
        "S 250 2.1.0 sender OK",
        "C RCPT TO:<bob@mx.test>",
        "S 250 2.1.5 recipient OK",
        "C DATA",
        "S 354 go ahead",
        "C (23) null",
        "S 250 2.0.0 queued as 1",
        "C QUIT",
        "S 221 2.0.0 bye"
      ])
      assert.deepStrictEqual(transcript.omitted, { entries: 0, octets: 0 })
      for (const { from, kind } of transcript.entries) {
        assert.strictEqual(from, kind === "reply" ? "server" : kind === "event" ? "event" : "client")
      }
      assert.strictEqual(new Set(transcript.entries.map(({ connection }) => connection)).size, 1)
      assert.match(transcript.entries[0]?.connection ?? "", /^smtp-\d+$/)
    }))

  it.effect("of level full has the message as it went out", () =>
    Effect.gen(function*() {
      const { entries } = yield* recorded(few, {}, "full")
      const contents = entries.filter(({ kind }) => kind === "content").map(shown)
      assert.deepStrictEqual(contents, [`C (23) ${JSON.stringify("Subject: x\r\n\r\n..é\r\n.\r\n")}`])
    }))

  it.effect.each<readonly [SmtpConnection.Options, ReadonlyArray<string>]>([
    [{ chunking: true }, ["C BDAT 17 LAST", `C (17) "Subject: x\\r\\n\\r\\n.\\r\\n"`]],
    [{ chunking: "always", pipelining: false }, ["C BDAT 17 LAST", `C (17) "Subject: x\\r\\n\\r\\n.\\r\\n"`]],
    [{ chunking: false }, ["C DATA", `C (21) "Subject: x\\r\\n\\r\\n..\\r\\n.\\r\\n"`]]
  ])("has each command and the content behind it: %j", ([given, said]) =>
    Effect.gen(function*() {
      const { entries } = yield* recorded({}, given, "full", "Subject: x\n\n.\n")
      const lines = entries.map(shown).filter((line) => /^C (DATA|BDAT|\()/.test(line))
      assert.deepStrictEqual(lines, said)
    }))

  it.effect("has content in one entry, however it was written", () =>
    Effect.gen(function*() {
      const parts = Stream.make(...Array.from({ length: 40 }, (_, i) => `${i} ${"é".repeat(4000)}\r\n`))
      const { entries } = yield* recorded(few, {}, "full", Stream.rechunk(parts, 1))
      const [whole, ...others] = entries.filter((entry) => entry.kind === "content")
      assert.lengthOf(others, 0)
      assert.strictEqual(whole?.text?.length, 40 * 4003 + 30 + 40 + 3)
      assert.strictEqual(whole?.size, new TextEncoder().encode(whole?.text).length)
    }))

  it.effect("is plain JSON, and the same when it is read back", () =>
    Effect.gen(function*() {
      const message = new Uint8Array([0x41, 0xff, 0xfe, 0x0d, 0x0a])
      const transcript = yield* recorded(few, {}, "full", message)
      const json = JSON.stringify(transcript)
      assert.include(json, Buffer.from([...message, 0x2e, 0x0d, 0x0a]).toString("base64"))
      assert.deepStrictEqual(yield* Schema.decodeUnknownEffect(SmtpTranscript.Transcript)(JSON.parse(json)), transcript)
      const broken = JSON.parse(json.replace("\"code\":220", "\"code\":\"220\""))
      assert.isTrue(Result.isFailure(Schema.decodeUnknownResult(SmtpTranscript.Transcript)(broken)))
    }))

  it.effect("counts milliseconds from when it was made, by the Clock", () =>
    Effect.gen(function*() {
      yield* TestClock.adjust("1 hour")
      const recording = yield* SmtpTranscript.make()
      yield* TestClock.adjust("250 millis")
      const faults = [SmtpServer.at("mail", SmtpServer.delay("3 seconds"))]
      const run = Effect.provide(send({ ...options, transcript: recording }), SmtpServer.layer({ ...few, faults }))
      const fiber = yield* Effect.forkChild(run, { startImmediately: true })
      yield* TestClock.adjust("3 seconds")
      yield* Fiber.join(fiber)
      const { entries } = yield* recording.transcript
      const times = new Map(entries.map((entry) => [shown(entry).slice(0, 8), entry.at]))
      assert.strictEqual(times.get("C EHLO m"), 250)
      assert.strictEqual(times.get("C MAIL F"), 250)
      assert.strictEqual(times.get("S 250 2."), 3250)
      assert.isTrue(entries.every(({ at }, i) => at >= (entries[i - 1]?.at ?? 0)))
    }))

  it.effect("of several connections tells them apart", () =>
    Effect.gen(function*() {
      const transcript = yield* SmtpTranscript.make()
      const all = Effect.all([send({ ...options, transcript }), send({ ...options, transcript })], { concurrency: 2 })
      yield* Effect.provide(all, SmtpServer.layer(few))
      const { entries } = yield* transcript.transcript
      const ids = [...new Set(entries.map(({ connection }) => connection))]
      const [first = [], second = [], ...others] = ids.map((id) =>
        entries.filter(({ connection }) => connection === id)
      )
      assert.lengthOf(others, 0)
      const words = (list: ReadonlyArray<Entry>) => list.map((entry) => shown(entry).replace(/as \d$/, ""))
      assert.deepStrictEqual(words(first), words(second))
      assert.deepStrictEqual(words(first).at(-1), "S 221 2.0.0 bye")
    }))

  it.effect("is what was recorded so far, and stays so", () =>
    Effect.gen(function*() {
      const { record, transcript } = yield* SmtpTranscript.make({ level: "full" })
      yield* record(content(1, { text: "a" }))
      const before = yield* transcript
      yield* record(content(1, { text: "b" }))
      yield* record(command("QUIT"))
      assert.deepStrictEqual(
        before.entries,
        [content(1, { text: "a" })].map((entry) => ({ ...entry, at: before.entries[0]?.at ?? 0 }))
      )
      yield* record(content(1, { text: "c" }))
      assert.deepStrictEqual((yield* transcript).entries.map(shown), [`C (2) "ab"`, "C QUIT", `C (1) "c"`])
    }))
})

describe("secrets", () => {
  const password = Redacted.make("CANARY-password")
  const mechanisms = ["PLAIN", "LOGIN", "CRAM-MD5", "DIGEST-MD5", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "XOAUTH2"]
  const forms = (json: string): boolean =>
    json.includes("CANARY") ||
    json.split(/[^A-Za-z0-9+/=]/).some((word) => Buffer.from(word, "base64").toString().includes("CANARY"))

  it.effect.each(mechanisms)(
    "of %s are in no entry, nor what the server says of them",
    (mechanism) =>
      Effect.gen(function*() {
        const auth = mechanism === "XOAUTH2"
          ? Sasl.oauth2({ username: "ann", token: password })
          : Sasl.password({ username: "ann", password })
        for (const accounts of [{ ann: "CANARY-password" }, { ann: "another" }]) {
          const script: SmtpServer.Script = {
            accounts,
            extensions: { auth: [mechanism] },
            // Some servers repeat what they do not understand.
            respond: {
              auth: ({ argument }) =>
                accounts.ann === "another" ? SmtpServer.reply(535, `5.7.8 no: ${argument}`) : undefined
            }
          }
          const transcript = yield* recorded(script, { auth, mechanisms: [mechanism] }, "full")
          const json = JSON.stringify(transcript)
          assert.include(json, `AUTH ${mechanism}`)
          assert.isFalse(forms(json), json)
          assertHidden(json, "CANARY")
          const replies = transcript.entries.flatMap((entry) => entry.kind === "reply" ? [entry] : [])
          const end = replies.find(({ code }) => code === 535 || code === 235)
          assert.deepStrictEqual(end?.lines, [accounts.ann === "another" ? "5.7.8" : "2.7.0"])
          for (const { code, lines } of replies) if (code === 334) assert.deepStrictEqual(lines, [""])
        }
      })
  )
})

describe("memory", () => {
  const long = "x".repeat(1_000_000)

  it.effect("is bounded: entries are kept up to the limit, and those left out are counted", () =>
    Effect.gen(function*() {
      const lines = Array.from({ length: 6 }, (_, i) => command(`${i}${long}`))
      const { entries, omitted } = yield* kept([...lines, command("short"), content(5, { text: "after" })])
      assert.deepStrictEqual(entries.map((entry) => shown(entry).slice(0, 3)), ["C 0", "C 1", "C 2", "C 3"])
      assert.isAtMost(entries.reduce((sum, entry) => sum + JSON.stringify(entry).length, 0), SmtpTranscript.maxText)
      assert.deepStrictEqual(omitted, { entries: 4, octets: 5 })
    }))

  it.effect("is bounded in the number of entries too", () =>
    Effect.gen(function*() {
      const { entries, omitted } = yield* kept(Array.from({ length: 50_000 }, () => command("")))
      assert.isAtMost(entries.length, SmtpTranscript.maxText / 100)
      assert.strictEqual(entries.length + omitted.entries, 50_000)
    }))

  it.effect("of replies counts their text", () =>
    Effect.gen(function*() {
      const reply: Entry = { kind: "reply", from: "server", ...place, code: 250, lines: [long, long] }
      const { entries, omitted } = yield* kept([reply, reply, reply])
      assert.deepStrictEqual([entries.length, omitted.entries], [2, 1])
    }))

  it.effect("of content is bounded by itself, and the dialogue goes on", () =>
    Effect.gen(function*() {
      const chunks = Array.from({ length: 6 }, () => content(long.length, { text: long }))
      const { entries, omitted } = yield* kept([command("DATA"), ...chunks, command("QUIT")])
      assert.strictEqual(entries.map(({ kind }) => kind).join(), "command,content,command")
      const [, body] = entries
      assert.strictEqual(body?.kind === "content" ? body.size : 0, 6_000_000)
      assert.strictEqual(body?.kind === "content" ? body.text?.length : 0, SmtpTranscript.maxContent)
      assert.deepStrictEqual(omitted, { entries: 0, octets: 6_000_000 - SmtpTranscript.maxContent })
    }))

  it.effect("of content at level commands is that of a number", () =>
    Effect.gen(function*() {
      const { entries, omitted } = yield* kept([content(1e12), content(1, { text: "a" })], "commands")
      assert.deepStrictEqual(entries.map(shown), ["C (1000000000001) null"])
      assert.deepStrictEqual(omitted, { entries: 0, octets: 0 })
    }))

  it.effect("takes content from any recorder: base64 that is none is nothing", () =>
    Effect.gen(function*() {
      const { entries } = yield* kept([content(2, { base64: "/w==" }), content(1, { base64: "!" }), content(0)])
      assert.deepStrictEqual(entries.map(shown), [`C (3) "/w=="`])
    }))
})

describe("a recorder of one's own", () => {
  it.effect("takes each entry at once", () =>
    Effect.gen(function*() {
      const seen: Array<string> = []
      const transcript: SmtpTranscript.Recorder = {
        level: "full",
        record: (entry) => Effect.sync(() => void seen.push(shown(entry)))
      }
      yield* Effect.provide(send({ ...options, transcript }), SmtpServer.layer(few))
      assert.include(seen, "C DATA")
      assert.include(seen, "S 354 go ahead")
      assert.isTrue(seen.some((line) => line.includes("..é\\r\\n")))
    }))

  it.effect("does no harm when it dies", () =>
    Effect.gen(function*() {
      const transcript: SmtpTranscript.Recorder = { level: "commands", record: () => Effect.die("full disk") }
      const { accepted } = yield* Effect.provide(send({ ...options, transcript }), SmtpServer.layer(few))
      assert.deepStrictEqual(accepted, ["bob@mx.test"])
    }))
})

describe("as text", () => {
  it("an entry is a line, and what comes from elsewhere is escaped and bounded", () => {
    const evil = "\u001b[2J\u202e\r\n"
    const transcript: SmtpTranscript.Transcript = {
      entries: [
        { kind: "event", from: "event", connection: `a${evil}`, at: 0.04, text: `TLS${evil}` },
        { kind: "reply", from: "server", ...place, at: 12.34, code: 250, lines: [evil, "x".repeat(5000)] },
        { ...command(evil), at: 1e6 },
        content(4),
        content(4, { text: evil }),
        content(4, { base64: "/w==" })
      ],
      omitted: { entries: 0, octets: 3 }
    }
    const lines = SmtpTranscript.render(transcript).split("\n")
    const escaped = "\\u{1b}[2J\\u{202e}\\u{d}\\u{a}"
    assert.strictEqual(lines[0], `0.0 ms a${escaped} * TLS${escaped}`)
    assert.isTrue(lines[1]?.startsWith(`12.3 ms smtp-1 S: 250 ${escaped} / xxx`))
    assert.isBelow(lines[1]?.length ?? 0, 1200)
    assert.deepStrictEqual(lines.slice(2), [
      `1000000.0 ms smtp-1 C: ${escaped}`,
      "0.0 ms smtp-1 C: (4 octets of content)",
      `0.0 ms smtp-1 C: ${escaped}`,
      "0.0 ms smtp-1 C: (4 octets of content)",
      "(0 entries and 3 octets of content left out)"
    ])
  })
})
