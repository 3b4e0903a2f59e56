import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"
import { createHash, createVerify, generateKeyPairSync } from "node:crypto"
import { Readable } from "node:stream"
import MailComposer from "nodemailer/lib/mail-composer"
import { makeCompose } from "../src/internal/compose/compose.ts"
import { load, loadWith, type Peer } from "../src/internal/compose/peer.ts"
import * as marks from "../src/internal/message.ts"
import * as Message from "../src/Message.ts"
import * as NodeMessage from "../src/node/NodeMessage.ts"
import * as SmtpClient from "../src/SmtpClient.ts"
import * as SmtpConnection from "../src/SmtpConnection.ts"
import * as SmtpError from "../src/SmtpError.ts"
import * as SmtpServer from "../src/testing/SmtpServer.ts"
import * as mime from "./support/mime.ts"
import { assertHidden } from "./support/secrets.ts"

const basic = { from: "ann@a.test", to: "bob@b.test" }

const collect = <E, R>(message: Stream.Stream<Uint8Array, E, R>): Effect.Effect<Buffer, E, R> =>
  Effect.map(Stream.runCollect(message), (chunks) => Buffer.concat(chunks))

const octets = <E = never, R = never>(fields: Message.Fields<E, R>) =>
  Effect.flatMap(Message.compose(fields), ({ message }) => collect(message))

const read = <E = never, R = never>(fields: Partial<Message.Fields<E, R>>) =>
  Effect.map(octets({ ...basic, ...fields }), (message) => mime.parse(message))

/** What is wrong with a field, by its name; the rest of the message is well. */
const refusal = (fields: object) =>
  Effect.map(Effect.flip(Message.compose({ ...basic, ...fields } as Message.Fields)), (error) => {
    assert.deepStrictEqual([error.command, error.attempted], ["API", false])
    return error
  })

const letters = (count: number): string => "abcdefghij".repeat(Math.ceil(count / 10)).slice(0, count)
const random = (length: number, seed = 1): Uint8Array => {
  let state = seed
  return Uint8Array.from({ length }, () => (state = (state * 1_103_515_245 + 12_345) & 0x7fffffff) >> 16)
}

const headerNames = (part: mime.Part): ReadonlyArray<string> => part.headers.map(([name]) => name)

describe("the text", () => {
  it.effect("alone is one part, with the fields that every message has", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(Date.UTC(2026, 0, 2, 3, 4, 5))
      const { envelope, message, messageId } = yield* Message.compose({ ...basic, subject: "Hi", text: "Hello\nBob" })
      const part = mime.parse(yield* collect(message))
      assert.strictEqual(mime.outline(part), "text/plain")
      assert.strictEqual(mime.text(part), "Hello\r\nBob\r\n")
      assert.strictEqual(mime.header(part, "Date"), "Fri, 02 Jan 2026 03:04:05 +0000")
      assert.strictEqual(mime.header(part, "Message-ID"), messageId)
      assert.match(messageId, /^<[^<>@\s]+@a\.test>$/)
      assert.deepStrictEqual(
        [...headerNames(part)].toSorted(),
        "content-transfer-encoding content-type date from message-id mime-version subject to".split(" ")
      )
      assert.deepStrictEqual(envelope, {
        from: "ann@a.test",
        to: ["bob@b.test"],
        size: (yield* collect(message)).length,
        use8BitMime: false
      })
    }))

  it.effect("may be missing, and is then empty", () =>
    Effect.gen(function*() {
      assert.strictEqual(mime.text(yield* read({})), "")
      assert.strictEqual(mime.outline(yield* read({ text: "" })), "text/plain")
    }))

  it.effect("comes in all its forms, the plainest first", () =>
    Effect.gen(function*() {
      const part = yield* read({
        text: "plain",
        html: "<b>größer</b>",
        amp: "<!doctype html>",
        icalEvent: "BEGIN:VCALENDAR",
        alternatives: [
          { contentType: "text/markdown", content: "**ü**\n" },
          { contentType: "text/csv; charset=us-ascii", content: "a;b" },
          { contentType: "application/json", content: "{\"a\":\"ü\"}" },
          { contentType: "application/cbor", content: Uint8Array.of(0, 255) }
        ]
      })
      assert.strictEqual(
        mime.outline(part),
        "multipart/mixed(multipart/alternative(text/plain text/x-amp-html text/html text/calendar text/markdown " +
          "text/csv application/json application/cbor) application/ics)"
      )
      const [, amp, html, , markdown, csv, json, cbor] = mime.leaves(part)
      assert.strictEqual(mime.text(amp!), "<!doctype html>")
      assert.strictEqual(mime.text(html!), "<b>größer</b>")
      assert.strictEqual(html!.parameters.get("charset"), "utf-8")
      assert.deepStrictEqual([mime.text(markdown!), markdown!.parameters.get("charset")], ["**ü**\r\n", "utf-8"])
      assert.strictEqual(csv!.parameters.get("charset"), "us-ascii")
      assert.strictEqual(mime.text(json!), "{\"a\":\"ü\"}")
      assert.deepStrictEqual([...cbor!.content], [0, 255])
    }))

  it.effect("keeps lines of any length, in lines of at most 78 octets", () =>
    Effect.gen(function*() {
      const text = `${letters(5_000)}\r\n${"ü".repeat(3_000)}\n.\r${letters(77)}`
      const message = yield* octets({ ...basic, text, html: text })
      assert.isBelow(Math.max(...message.toString().split("\r\n").map((line) => line.length)), 79)
      const canonical = text.replace(/\r\n|\r|\n/g, "\r\n")
      for (const part of mime.leaves(mime.parse(message))) assert.strictEqual(mime.text(part), canonical)
    }))

  it.effect.prop(
    "comes back as it was, whatever it holds",
    [Schema.String, Schema.String],
    ([text, html]) =>
      Effect.gen(function*() {
        const part = yield* read({ text: `>${text}`, html: `<${html}` })
        const canonical = (value: string): string => Buffer.from(value.replace(/\r\n|\r|\n/g, "\r\n")).toString()
        assert.deepStrictEqual(mime.leaves(part).map(mime.text), [canonical(`>${text}`), canonical(`<${html}`)])
      })
  )
})

describe("attachments", () => {
  it.effect("come back octet by octet, from strings, octets and streams", () =>
    Effect.gen(function*() {
      const data = random(100_000)
      const part = yield* read({
        text: "x",
        attachments: [
          { content: data, filename: "data.bin" },
          { content: Stream.make(data.subarray(0, 7), data.subarray(7)), filename: "again.pdf" },
          { content: Stream.make("sm\ud83d", "\ude00le ", Uint8Array.of(1), "\ud83d"), filename: "text.txt" },
          { content: "ünï", filename: "text.html" },
          { content: "AP8=", encoding: "base64" },
          { content: "00ff", encoding: "hex", contentType: "image/png" },
          { content: "z", encoding: "utf-8", contentType: "text/css; charset=latin1" },
          { content: "" }
        ]
      })
      const [, ...files] = mime.leaves(part)
      assert.deepStrictEqual(files.map((one) => one.type), [
        "application/octet-stream",
        "application/pdf",
        "text/plain",
        "text/html",
        "application/octet-stream",
        "image/png",
        "text/css",
        "application/octet-stream"
      ])
      assert.deepStrictEqual(
        files.map((one) => one.filename),
        [
          "data.bin",
          "again.pdf",
          "text.txt",
          "text.html",
          "attachment-5.bin",
          "attachment-6.png",
          "attachment-7.css",
          "attachment-8.bin"
        ]
      )
      assert.isTrue(files.every((one) => one.disposition === "attachment"))
      assert.isTrue(files[0]!.content.equals(data))
      assert.isTrue(files[1]!.content.equals(data))
      assert.strictEqual(files[2]!.content.toString("latin1"), Buffer.from("sm😀le \u0001\ufffd").toString("latin1"))
      assert.deepStrictEqual([mime.text(files[3]!), files[3]!.parameters.get("charset")], ["ünï", "utf-8"])
      assert.deepStrictEqual(files.slice(4).map((one) => one.content.toString("hex")), ["00ff", "00ff", "7a", ""])
    }))

  it.effect("inside HTML are related to it by their cid", () =>
    Effect.gen(function*() {
      const part = yield* read({
        text: "x",
        html: "<img src=\"cid:logo@a.test\">",
        attachments: [
          { content: Uint8Array.of(1, 2, 3), filename: "logo.png", cid: "logo@a.test" },
          { content: "x", filename: "terms.txt", contentDisposition: "inline" }
        ]
      })
      assert.strictEqual(
        mime.outline(part),
        "multipart/mixed(multipart/alternative(text/plain multipart/related(text/html image/png)) text/plain)"
      )
      const [, , logo, terms] = mime.leaves(part)
      assert.strictEqual(mime.header(logo!, "Content-ID"), "<logo@a.test>")
      assert.deepStrictEqual([logo!.disposition, terms!.disposition], ["inline", "inline"])
      assert.deepStrictEqual([...logo!.content], [1, 2, 3])
    }))

  it.effect("that are messages are not encoded: 7bit if they are, else 8bit, which the envelope says", () =>
    Effect.gen(function*() {
      const attach = (content: Message.Content) =>
        Message.compose({ ...basic, text: "x", attachments: [{ content, filename: "mail.eml" }] })
      const cases: ReadonlyArray<readonly [Message.Content, string, boolean | undefined, string]> = [
        ["Subject: x\n\ny\rz", "7bit", false, "Subject: x\r\n\r\ny\r\nz"],
        ["Subject: x\r\n\r\ny\r", "7bit", false, "Subject: x\r\n\r\ny\r\n"],
        ["Subject: x\r\n\r\nü\r\n", "8bit", true, "Subject: x\r\n\r\nü\r\n"],
        [Buffer.from("Subject: x\r\n\r\n\0"), "8bit", false, "Subject: x\r\n\r\n\0"],
        [letters(999), "8bit", false, letters(999)],
        [Stream.make("Subject: x\r", "\n\nü"), "8bit", undefined, "Subject: x\r\n\r\nü"],
        [Stream.make("a\r"), "8bit", undefined, "a\r\n"]
      ]
      for (const [content, label, use8BitMime, expected] of cases) {
        const { envelope, message } = yield* attach(content)
        const all = yield* collect(message)
        const [, mail] = mime.leaves(mime.parse(all))
        assert.strictEqual(mail!.type, "message/rfc822")
        assert.strictEqual(mail!.disposition, "inline")
        assert.strictEqual(mime.header(mail!, "Content-Transfer-Encoding"), label)
        assert.strictEqual(mime.text(mail!), expected)
        assert.strictEqual(envelope.use8BitMime, use8BitMime)
        assert.strictEqual(
          envelope.size,
          typeof content === "string" || content instanceof Uint8Array ? all.length : undefined
        )
      }
    }))

  it.effect("of a name that the table of types knows as a multipart are plain octets", () =>
    Effect.gen(function*() {
      const part = yield* read({ attachments: [{ content: "x", filename: "logs.gzip" }] })
      assert.strictEqual(mime.outline(part), "application/octet-stream")
      assert.strictEqual(mime.text(part), "x")
    }))

  it.effect("without any text are the message itself", () =>
    Effect.gen(function*() {
      const part = yield* read({ attachments: [{ content: Stream.make(random(200)), filename: "x.pdf" }] })
      assert.strictEqual(mime.outline(part), "application/pdf")
      assert.isTrue(part.content.equals(random(200)))
    }))

  const Chunk = Arbitrary.array(Arbitrary.schema(Schema.Literals([0, 1, 2, 56, 57, 58, 113, 114, 115, 1000])), {
    maxLength: 12
  })
  it.effect.prop(
    "are the same in any split, and as long as the envelope says",
    [Chunk],
    ([sizes]) =>
      Effect.gen(function*() {
        const chunks = sizes.map((size, index) => random(size, index + 1))
        const whole = Buffer.concat(chunks)
        const streamed = yield* read({ attachments: [{ content: Stream.fromIterable(chunks) }] })
        assert.isTrue(streamed.content.equals(whole))
        const { envelope, message } = yield* Message.compose({ ...basic, attachments: [{ content: whole }] })
        const all = yield* collect(message)
        assert.strictEqual(envelope.size, all.length)
        assert.isTrue(mime.parse(all).content.equals(whole))
      })
  )

  it.effect("are laid out as Nodemailer lays them out, to the octet", () =>
    Effect.gen(function*() {
      const date = new Date(Date.UTC(2026, 1, 3))
      const rest = { date, messageId: "<1@a.test>", subject: "Größe", text: "täxt\n.", html: "<p>x</p>" }
      const data = random(10_000)
      const contents = [
        { filename: "größe.bin", content: data },
        { filename: "x.png", cid: "c", content: Buffer.alloc(57) },
        { filename: "y.pdf", content: Buffer.alloc(0) },
        { filename: "mail.eml", content: Buffer.from("Subject: x\r\n\r\nhello\r\n") }
      ]
      const asStream = contents.map((one) =>
        one.filename === "mail.eml"
          ? one
          : { ...one, content: Stream.make(one.content.subarray(0, 5), one.content.subarray(5)) }
      )
      for (const attachments of [contents, asStream]) {
        const ours = (yield* octets({ ...basic, ...rest, icalEvent: "BEGIN:VCALENDAR", attachments })).toString()
        const baseBoundary = /boundary="--_NmP-([^"]+)-Part_1"/.exec(ours)![1]!
        const theirs = new MailComposer({
          ...basic,
          ...rest,
          baseBoundary,
          icalEvent: { content: "BEGIN:VCALENDAR" },
          attachments: contents.map((one) => ({ ...one, content: Buffer.from(one.content) }))
        })
        const built = yield* Effect.promise(() => theirs.compile().build())
        assert.strictEqual(ours, built.toString().replace(/\r?\n/g, "\r\n"))
      }
    }))
})

describe("calendar events", () => {
  const calendar = (method: string): string => `BEGIN:VCALENDAR\r\nMETHOD:${method}\r\nEND:VCALENDAR\r\n`
  it.effect("are an alternative of the text and an attachment, with the method that they name", () =>
    Effect.gen(function*() {
      const methods: ReadonlyArray<readonly [Message.Fields["icalEvent"], string, string]> = [
        [calendar("Request"), "REQUEST", "invite.ics"],
        [{ content: Buffer.from(calendar("REPLY")), filename: "reply.ics" }, "REPLY", "reply.ics"],
        [{ content: calendar("REQUEST"), method: "cancel" }, "CANCEL", "invite.ics"],
        ["BEGIN:VCALENDAR\nEND:VCALENDAR", "PUBLISH", "invite.ics"]
      ]
      for (const [icalEvent, method, filename] of methods) {
        const part = yield* read({ text: "x", icalEvent })
        const [, event, file] = mime.leaves(part)
        assert.deepStrictEqual([event!.type, event!.parameters.get("method")], ["text/calendar", method])
        assert.deepStrictEqual([file!.type, file!.filename], ["application/ics", filename])
        assert.match(mime.text(event!), /^BEGIN:VCALENDAR\r\n/)
        assert.strictEqual(mime.text(event!).trimEnd(), mime.text(file!).trimEnd())
      }
    }))
})

describe("header fields", () => {
  const Text = Arbitrary.schema(Schema.String)
  // oxlint-disable-next-line no-control-regex -- what a header field cannot hold
  const unfit = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]|[\ud800-\udfff]/gu
  const clean = (text: string): string => text.replace(unfit, "").trim()

  it.effect.prop(
    "show subject, names and file names as they were written",
    [Text, Text, Text],
    ([one, two, three]) =>
      Effect.gen(function*() {
        const subject = `S${clean(one)}`
        const name = `N${clean(two).replaceAll("=?", "")}`
        const filename = `F${clean(three)}`
        const part = yield* read({
          subject,
          from: { name, address: "ann@a.test" },
          attachments: [{ filename, content: "" }],
          text: "x"
        })
        assert.strictEqual(mime.decodeWords(mime.header(part, "Subject")!), subject)
        const from = mime.header(part, "From")!.replace(/ <ann@a\.test>$/, "")
        const shown = from.startsWith("\"") ? from.slice(1, -1).replace(/\\(.)/g, "$1") : mime.decodeWords(from)
        assert.strictEqual(shown, name)
        assert.strictEqual(mime.leaves(part)[1]!.filename, filename)
      }),
    { arbitrary: { runs: 200 } }
  )

  it.effect("say who, what and in answer to what", () =>
    Effect.gen(function*() {
      const part = yield* read({
        from: ["Ann <ann@a.test>", "al@a.test"],
        sender: "Office <office@a.test>",
        to: ["\"Smith, \\\"Bob\\\"\" <bob@b.test>", { address: "carl@bücher.test", name: "Çarl" }],
        cc: ["<dora@d.test>"],
        replyTo: ["answers@a.test"],
        inReplyTo: "1@b.test",
        references: "<0@b.test> 1@b.test",
        messageId: "2@a.test",
        date: new Date(Date.UTC(2001, 1, 3)),
        priority: "high",
        headers: { "X-Kind": "größer", "X-Tag": ["a", "b"] }
      })
      const shown = Object.fromEntries(part.headers)
      assert.include(shown, {
        from: "Ann <ann@a.test>, al@a.test",
        sender: "Office <office@a.test>",
        to: "\"Smith, \\\"Bob\\\"\" <bob@b.test>, =?UTF-8?Q?=C3=87arl?= <carl@xn--bcher-kva.test>",
        cc: "dora@d.test",
        "reply-to": "answers@a.test",
        "in-reply-to": "<1@b.test>",
        references: "<0@b.test> <1@b.test>",
        "message-id": "<2@a.test>",
        date: "Sat, 03 Feb 2001 00:00:00 +0000",
        importance: "High",
        "x-priority": "1 (Highest)"
      })
      assert.strictEqual(mime.decodeWords(shown["x-kind"]!), "größer")
      assert.deepStrictEqual(part.headers.filter(([name]) => name === "x-tag").map(([, value]) => value), ["a", "b"])
      const [low, normal] = [yield* read({ priority: "low" }), yield* read({ priority: "normal" })]
      assert.deepStrictEqual([mime.header(low, "Importance"), mime.header(normal, "Importance")], ["Low", undefined])
    }))

  it.effect("of mailing lists are URLs in angle brackets", () =>
    Effect.gen(function*() {
      const token = letters(300)
      const part = yield* read({
        list: {
          unsubscribe: ["mailto:leave@l.test?subject=x", `https://l.test/?a=?utf-8&t=${token}`],
          help: "http://l.test/help",
          id: "news.l.test",
          oneClick: true
        }
      })
      assert.strictEqual(
        mime.header(part, "List-Unsubscribe"),
        `<mailto:leave@l.test?subject=x>, <https://l.test/?a=?utf-8&t=${token}>`
      )
      assert.strictEqual(mime.header(part, "List-Unsubscribe-Post"), "List-Unsubscribe=One-Click")
      assert.strictEqual(mime.header(part, "List-Help"), "<http://l.test/help>")
      assert.strictEqual(mime.header(part, "List-ID"), "<news.l.test>")
      assert.isUndefined(mime.header(yield* read({ list: { oneClick: false } }), "List-Unsubscribe-Post"))
    }))

  it.effect("are lines of at most 998 octets, whatever was taken", () =>
    Effect.gen(function*() {
      const word = "\"".repeat(400)
      const message = yield* octets({
        ...basic,
        from: { name: word, address: "ann@a.test" },
        subject: `${word} ${"ü".repeat(2_000)} ${word}`,
        headers: { "X-Long": `${word} ${word}` },
        references: Array.from({ length: 200 }, (_, i) => `<${letters(300)}.${i}@a.test>`),
        attachments: [{ filename: "\\".repeat(255), content: "x", contentType: `a/b; x="${letters(390)}"` }]
      })
      assert.isBelow(Math.max(...message.toString().split("\r\n").map((line) => Buffer.byteLength(line))), 999)
    }))
})

describe("what could start a header line, open a file or fetch a URL is refused", () => {
  const rows: ReadonlyArray<readonly [field: string, fields: object, says: string]> = [
    ["subject", { subject: "a\r\nBcc: x@y.test" }, "U+000D"],
    ["subject", { subject: "a\nb" }, "U+000A"],
    ["subject", { subject: 1 }, "must be a string"],
    ["subject", { subject: "x".repeat(401) }, "word of more than 400"],
    ["headers.X-A", { headers: { "X-A": "a\nBcc: x@y.test" } }, "U+000A"],
    ["headers.X-A[1]", { headers: { "X-A": ["a", "b\0"] } }, "U+0000"],
    ["headers.X-A", { headers: { "X-A": { prepared: true, value: "a\r\nb" } } }, "must be a string"],
    ["headers.X-A", { headers: { "X-A": " " } }, "is empty"],
    [String.raw`headers.X\u{d}\u{a}Bcc`, { headers: { "X\r\nBcc": "x@y.test" } }, "no field name"],
    ["headers.Bcc: x (", { headers: { "Bcc: x (": ")" } }, "no field name"],
    ["headers.bcc", { headers: { bcc: "x@y.test" } }, "use the field bcc"],
    ["headers.Resent-Bcc", { headers: { "Resent-Bcc": "x@y.test" } }, "leave it out"],
    ["headers.Subject", { headers: { Subject: "x" } }, "use the field subject"],
    ["headers.Content-Type", { headers: { "Content-Type": "text/html" } }, "MIME's own"],
    ["headers.__proto__[0]", { headers: JSON.parse("{\"__proto__\":[1]}") as object }, "must be a string"],
    ["headers", { headers: [{ key: "X", value: "y" }] }, "must be an object"],
    ["headers", { headers: "X: y" }, "must be an object"],
    ["messageId", { messageId: "a@b>\r\nX: y" }, "U+000D"],
    ["messageId", { messageId: "a b@c" }, "no Message-ID"],
    ["messageId", { messageId: "a@b, c@d" }, "no Message-ID"],
    ["inReplyTo", { inReplyTo: "a@ü.test" }, "no Message-ID"],
    ["references[1]", { references: ["<a@b>", "c"] }, "no Message-ID"],
    ["references[1]", { references: "<a@b> c" }, "no Message-ID"],
    ["references", { references: 1 }, "must be a string"],
    ["date", { date: "tomorrow\r\nX: y" }, "valid Date"],
    ["date", { date: new Date(Number.NaN) }, "valid Date"],
    ["date", { date: new Date(Date.UTC(10_000, 0)) }, "9999"],
    ["date", { date: new Date(Date.UTC(1899, 0)) }, "1900"],
    ["date", { date: Object.create(Date.prototype) as Date }, "valid Date"],
    ["date", { date: new Proxy(new Date(0), {}) }, "valid Date"],
    ["priority", { priority: "high\r\nX: y" }, "high, normal or low"],
    ["priority", { priority: "constructor" }, "high, normal or low"],
    ["list.unsubscribe", { list: { unsubscribe: "https://x.test/>\r\nX: y" } }, "absolute URL"],
    ["list.help[1]", { list: { help: ["https://x.test", "javascript:alert(1)"] } }, "absolute URL"],
    ["list.id", { list: { id: "a b" } }, "dotted name"],
    ["list.Unsubscribe", { list: { Unsubscribe: "https://x.test" } }, "is not a field"],
    ["list.oneClick", { list: { oneClick: "yes" } }, "true or false"],
    ["list.oneClick", { list: { oneClick: true, unsubscribe: "mailto:a@b.test" } }, "https:"],
    ["list", { list: [] }, "must be an object"],
    ["text", { text: { path: "/etc/passwd" } }, "no file is opened"],
    ["html", { html: { href: "http://localhost/" } }, "no file is opened"],
    ["amp", { amp: new Uint8Array(1) }, "must be a string"],
    ["raw", { raw: "Subject: x" }, "no file is opened"],
    ["attachment", { attachment: [] }, "is not a field"],
    ["attachments", { attachments: { content: "x" } }, "must be an array"],
    ["attachments[0]", { attachments: ["x"] }, "must be an object"],
    ["attachments[1].path", { attachments: [{ content: "x" }, { path: "/etc/passwd" }] }, "no file is opened"],
    ["attachments[0].href", { attachments: [{ filename: "x", href: "file:///etc/passwd" }] }, "no file is opened"],
    ["attachments[0].path", { attachments: [{ path: "data:text/plain,x" }] }, "no file is opened"],
    ["attachments[0].raw", { attachments: [{ raw: "X: y" }] }, "no file is opened"],
    [
      "attachments[0].path",
      { attachments: [Object.create({ path: "/etc/passwd", content: "x" })] },
      "no file is opened"
    ],
    ["attachments[0].headers", { attachments: [{ content: "x", headers: {} }] }, "is not a field"],
    ["attachments[0].content", { attachments: [{ content: { path: "/etc/passwd" } }] }, "NodeMessage.fromReadable"],
    ["attachments[0].content", { attachments: [{ content: Readable.from([]) }] }, "NodeMessage.fromReadable"],
    ["attachments[0].content", { attachments: [{}] }, "NodeMessage.fromReadable"],
    ["attachments[0].content", { attachments: [{ content: "@@@@", encoding: "base64" }] }, "is not base64"],
    ["attachments[0].content", { attachments: [{ content: "0", encoding: "hex" }] }, "is not hex"],
    ["attachments[0].encoding", { attachments: [{ content: "0", encoding: "latin1" }] }, "base64 or hex"],
    [
      "attachments[0].encoding",
      { attachments: [{ content: new Uint8Array(1), encoding: "hex" }] },
      "speaks of a string"
    ],
    ["attachments[0].filename", { attachments: [{ content: "x", filename: "a\r\nX: y" }] }, "U+000D"],
    ["attachments[0].filename", { attachments: [{ content: "x", filename: "" }] }, "1 to 255"],
    ["attachments[0].filename", { attachments: [{ content: "x", filename: "x".repeat(256) }] }, "1 to 255"],
    ["attachments[0].contentType", { attachments: [{ content: "x", contentType: "a/b\r\nX: y" }] }, "U+000D"],
    ["attachments[0].contentType", { attachments: [{ content: "x", contentType: "text" }] }, "type/subtype"],
    [
      "attachments[0].contentType",
      { attachments: [{ content: "x", contentType: "multipart/mixed; boundary=b" }] },
      "multipart"
    ],
    ["attachments[0].cid", { attachments: [{ content: "x", cid: "a>\r\nX: y" }] }, "printable ASCII"],
    [
      "attachments[0].contentDisposition",
      { attachments: [{ content: "x", contentDisposition: "a\r\nX: y" }] },
      "inline"
    ],
    [
      "alternatives[0].path",
      { alternatives: [{ contentType: "text/plain", path: "/etc/passwd" }] },
      "no file is opened"
    ],
    ["alternatives[0].contentType", { alternatives: [{ content: "x" }] }, "must be a string"],
    ["icalEvent.path", { icalEvent: { path: "/etc/passwd" } }, "no file is opened"],
    ["icalEvent.href", { icalEvent: { href: "http://localhost/", content: "x" } }, "no file is opened"],
    ["icalEvent.method", { icalEvent: { content: "x", method: "REQUEST\r\nX: y" } }, "iTIP"],
    ["icalEvent.method", { icalEvent: "METHOD:A B" }, "iTIP"],
    ["icalEvent.content", { icalEvent: "" }, "not empty"],
    ["icalEvent.content", { icalEvent: { content: 1 } }, "not empty"],
    ["icalEvent.filename", { icalEvent: { content: "x", filename: "\n" } }, "U+000A"],
    ["icalEvent", { icalEvent: 1 }, "must be an object"]
  ]
  it.effect.each(rows)("%s: %o", ([field, fields, says]) =>
    Effect.gen(function*() {
      const error = yield* refusal(fields)
      assert.deepStrictEqual([error._tag, error.field], ["EMESSAGE", field])
      assert.include(error.message, says)
      assert.isTrue(error.message.startsWith(`${field} `), error.message)
      // oxlint-disable-next-line no-control-regex -- what a message for a person does not hold
      assert.notMatch(error.message, /[\u0000-\u001f]/)
    }))

  it.effect("whatever the fields are", () =>
    Effect.gen(function*() {
      for (const fields of [undefined, null, 1, "x", [], new Uint8Array(1)]) {
        const error = yield* Effect.flip(Message.compose(fields as unknown as Message.Fields))
        assert.deepStrictEqual([error._tag, error.field], ["EMESSAGE", "fields"])
      }
      const { message } = yield* Message.compose({ ...basic, path: undefined } as Message.Fields)
      assert.isAbove((yield* collect(message)).length, 0)
    }))

  const Nasty = Arbitrary.map(
    Arbitrary.array(
      Arbitrary.schema(Schema.Literals([
        ..."\r\n\0\t a:;,<>()@\"\\=?/",
        "\r\nBcc: x@y.test",
        "=?utf-8?q?=0D=0ABcc:_x@y.test?=",
        "--_NmP",
        "ü"
      ])),
      { maxLength: 8 }
    ),
    (pieces) => pieces.join("")
  )
  it.effect.prop(
    "and what is taken never adds a header field or a part",
    [Nasty, Nasty, Nasty],
    ([a, b, c]) =>
      Effect.gen(function*() {
        const fields: Message.Fields = {
          from: { name: a, address: "ann@a.test" },
          to: "bob@b.test",
          subject: b,
          text: "x",
          headers: { "X-A": `.${c}` },
          attachments: [{ content: c, filename: `.${a}`, contentType: `a/b; x="${b}"`, cid: `${c}.` }]
        }
        const composed = yield* Effect.result(octets(fields))
        if (composed._tag === "Failure") return
        const part = mime.parse(composed.success)
        assert.strictEqual(mime.outline(part), "multipart/mixed(text/plain a/b)")
        const names = headerNames(part).filter((name) => name !== "subject")
        assert.deepStrictEqual(
          names,
          "x-a from to date message-id mime-version content-type".split(" ").filter((name) => names.includes(name))
        )
        assert.isFalse(names.includes("bcc"))
      }),
    { arbitrary: { runs: 500 } }
  )
})

describe("values that throw when they are read", () => {
  const fail = () => assert.fail("read")
  const throwing = {
    get: fail,
    has: fail,
    ownKeys: fail,
    getPrototypeOf: fail,
    getOwnPropertyDescriptor: fail
  }
  const revoked = Proxy.revocable([], {})
  revoked.revoke()
  const odd: { readonly [name: string]: unknown } = {
    "a Proxy": new Proxy({}, throwing),
    "a Proxy of an array": new Proxy([], { get: fail }),
    "a revoked Proxy": revoked.proxy,
    "a date that is none": Object.create(Date.prototype),
    "a date that throws": Object.assign(new Date(0), { getTime: fail, valueOf: fail, toJSON: fail }),
    "octets that are none": Object.create(Uint8Array.prototype),
    "an object that is no text": { toString: fail, valueOf: fail, [Symbol.toPrimitive]: fail },
    "an object without a prototype": Object.create(null),
    "a symbol": Symbol("x"),
    "a BigInt": 1n,
    "a function": fail,
    "a string in an object": Object("x"),
    "a number": Number.NaN,
    null: null,
    "an array with holes": Object.assign([], { length: 2 }),
    text: "x"
  }
  const fieldNames = (
    "from sender to cc bcc replyTo subject text html amp attachments alternatives icalEvent headers messageId date " +
    "inReplyTo references priority list envelope dkim"
  ).split(" ")

  /** A value, alone or in objects and arrays, behind getters too. */
  type Step = readonly [kind: "in" | "behind" | "among", key: string]
  const around = (value: unknown, [kind, key]: Step): unknown => {
    if (kind === "among") return ["<a@b.test>", value]
    return kind === "in"
      ? { [key]: value }
      : Object.defineProperty({}, key, { enumerable: true, get: value === "x" ? fail : () => value })
  }
  const Keys = Schema.Literals([
    "X-A",
    "help",
    "unsubscribe",
    "id",
    "oneClick",
    "path",
    "to",
    "address",
    "content",
    "dsn",
    "privateKey"
  ])
  const Step = Arbitrary.schema(Schema.Tuple([Schema.Literals(["in", "behind", "among"]), Keys]))
  const Odd = Arbitrary.schema(Schema.Literals(Object.keys(odd)))

  const never = (field: string, fields: object) =>
    Effect.gen(function*() {
      const exit = yield* Effect.exit(Message.compose(fields as Message.Fields))
      if (Exit.isSuccess(exit)) return
      const error = yield* Effect.fromOption(Exit.findErrorOption(exit))
      assert.include(["EMESSAGE", "EENVELOPE", "ECONFIG"], error._tag)
      assert.isTrue(error.message.startsWith(field), `${field}: ${error.message}`)
    })

  it.effect.prop(
    "are refused by the name of their field, and compose never dies",
    [Arbitrary.schema(Schema.Literals(fieldNames)), Odd, Arbitrary.array(Step, { maxLength: 2 })],
    ([field, name, steps]) => never(field, { ...basic, [field]: steps.reduce(around, odd[name]) }),
    { arbitrary: { runs: 2000 } }
  )

  it.effect.each(fieldNames)("may be behind the field %s itself", (field) =>
    Effect.gen(function*() {
      for (const name of Object.keys(odd)) yield* never(field, { ...basic, [field]: odd[name] })
      const fields = Object.defineProperty({ ...basic }, field, { enumerable: true, get: fail })
      const error = yield* Effect.flip(Message.compose(fields))
      assert.deepStrictEqual([error._tag, error.field], ["EMESSAGE", field])
      assert.strictEqual(
        error.message,
        `${field} cannot be read: a getter, a Proxy or a method of it throws; give plain values`
      )
    }))

  it.effect("do no harm where nothing reads them: a date is taken as it is, whatever its methods say", () =>
    Effect.gen(function*() {
      const date = Object.assign(new Date(Date.UTC(2026, 0, 2)), { getTime: () => Number.NaN, getUTCFullYear: fail })
      assert.strictEqual(mime.header(yield* read({ date }), "Date"), "Fri, 02 Jan 2026 00:00:00 +0000")
    }))
})

describe("the envelope", () => {
  it.effect("has each mailbox of to, cc and bcc once; bcc stands in no header field", () =>
    Effect.gen(function*() {
      const { envelope, message } = yield* Message.compose({
        from: "Ann <ann@a.test>",
        to: ["Bob <bob@b.test>", "carl@c.test"],
        cc: [{ name: "Bob again", address: "bob@B.TEST" }, "\"carl\"@c.test", "BOB@b.test"],
        bcc: ["secret@d.test", "carl@c.test"],
        text: "x"
      })
      assert.strictEqual(envelope.from, "ann@a.test")
      assert.deepStrictEqual(envelope.to, ["bob@b.test", "carl@c.test", "BOB@b.test", "secret@d.test"])
      const all = (yield* collect(message)).toString()
      assert.notInclude(all, "secret")
      assert.notMatch(all, /^(resent-)?bcc:/im)
    }))

  it.effect("comes from the sender where there is one, and is overridden field by field", () =>
    Effect.gen(function*() {
      const fields = { ...basic, sender: "office@a.test" }
      assert.strictEqual((yield* Message.compose(fields)).envelope.from, "office@a.test")
      const { envelope } = yield* Message.compose({
        ...fields,
        envelope: {
          from: "",
          to: [{ address: "x@b.test", dsn: { notify: ["NEVER"] } }, "X@B.test", "x@B.test"],
          size: 7,
          requireTls: true,
          auth: undefined
        }
      })
      assert.deepStrictEqual(envelope, {
        from: "",
        to: [{ address: "x@b.test", dsn: { notify: ["NEVER"] } }, "X@B.test"],
        size: 7,
        use8BitMime: false,
        requireTls: true
      })
      const one = yield* Message.compose({ from: "a@a.test", envelope: { to: { address: "x@b.test" } } })
      assert.deepStrictEqual(one.envelope.to, [{ address: "x@b.test" }])
      assert.deepStrictEqual((yield* Message.compose({ ...basic, envelope: { to: "y@b.test" } })).envelope.to, [
        "y@b.test"
      ])
    }))

  it.effect("says SMTPUTF8 when a header field needs it", () =>
    Effect.gen(function*() {
      const { envelope } = yield* Message.compose({ ...basic, replyTo: "jörg@a.test" })
      assert.deepInclude(envelope, { smtpUtf8: true, use8BitMime: true })
      assert.isUndefined((yield* Message.compose({ ...basic, subject: "jörg" })).envelope.smtpUtf8)
    }))

  const rows: ReadonlyArray<readonly [field: string, fields: object, says: string]> = [
    ["from", { from: undefined }, "is missing"],
    ["from", { from: [] }, "is missing"],
    ["from", { from: "" }, "has no \"@\""],
    ["from", { from: "Ann" }, "has no \"@\""],
    ["sender", { from: ["a@a.test", "b@a.test"] }, "several authors"],
    ["sender", { sender: ["a@a.test"] }, "must be a string"],
    ["to", { to: [] }, "give at least one recipient"],
    ["to", { to: "a@a.test, b@b.test" }, "go into an array"],
    ["to", { to: "Ann <a@a.test>, Bob <b@b.test>" }, "not one mailbox"],
    ["to", { to: "Smith, Ann <a@a.test>" }, "not one mailbox"],
    ["to", { to: "Friends: a@a.test;" }, "give the bare address"],
    ["to", { to: "Friends: Ann <a@a.test>" }, "not one mailbox"],
    ["to", { to: "Ann (the one) <a@a.test>" }, "not one mailbox"],
    ["to", { to: "evil@x.test <a@a.test>" }, "not one mailbox"],
    ["to", { to: "<evil@x.test> <a@a.test>" }, "not one mailbox"],
    ["to", { to: "\"a\" \"b\" <a@a.test>" }, "not one mailbox"],
    ["to", { to: "Ann a@a.test>" }, "in its local part"],
    ["to", { to: "Ann <a@a.test" }, "in its local part"],
    ["to", { to: "Ann <a@[x@evil.test]>" }, "bad address literal"],
    ["to", { to: "Ann <\"user@evil.test\"@a@b.test>" }, "bad domain"],
    ["to", { to: "Ann\r\nBcc: x <a@a.test>" }, "not one mailbox"],
    ["to", { to: "A\tB <a@a.test>" }, "U+0009"],
    ["to", { to: "=?utf-8?q?x?= <a@a.test>" }, "encoded word"],
    ["to[1]", { to: ["a@a.test", "x"] }, "has no \"@\""],
    ["to[0]", { to: [{ name: "A\r\nX: y", address: "a@a.test" }] }, "U+000D"],
    ["to[0]", { to: [{ name: 1, address: "a@a.test" }] }, "must be a string"],
    ["to[0]", { to: [{ address: "Ann <a@a.test>" }] }, "in its local part"],
    ["to[0].address", { to: [{ name: "x" }] }, "local@domain"],
    ["to[0]", { to: [{ name: "x", group: [] }] }, "must be a string"],
    ["to[0]", { to: [["a@a.test"]] }, "must be a string"],
    ["cc", { cc: 1 }, "must be a string"],
    ["bcc", { bcc: "x\ny@b.test" }, "U+000A"],
    ["replyTo", { replyTo: "a@a.test\nX: y" }, "U+000A"],
    ["envelope", { envelope: "a@a.test" }, "must be an object"],
    ["envelope.from", { envelope: { from: "Ann <a@a.test>" } }, "in its local part"],
    ["envelope.to", { envelope: { to: [] } }, "no recipients"],
    ["envelope.dsn.ret", { envelope: { dsn: { ret: "ALL" } } }, "FULL or HDRS"]
  ]
  it.effect.each(rows)(
    "refuses what can be read in two ways: %s: %o",
    ([field, fields, says]) =>
      Effect.gen(function*() {
        const error = yield* refusal(fields)
        assert.deepStrictEqual([error._tag, error.field], ["EENVELOPE", field])
        assert.include(error.message, says)
      })
  )

  /** The mailboxes of a header field, read by its grammar: commas between them, angle brackets, quotes. */
  const mailboxesOf = (value: string): ReadonlyArray<string> =>
    (value.match(/(?:"(?:[^"\\]|\\.)*"|[^",])+/g) ?? []).map((one) =>
      (/<((?:"(?:[^"\\]|\\.)*"|[^"<>])*)>\s*$/.exec(one)?.[1] ?? one).trim()
    )
  const Pieces = Arbitrary.array(
    Arbitrary.schema(Schema.Literals([
      ..."ab.@<>\"\\ ,;:()[]",
      "ann@a.test",
      "<bob@b.test>",
      "\"Smith, Ann\" ",
      "\"x@y\"@c.test",
      "=?utf-8?q?=2C?=",
      "ü",
      "Ann "
    ])),
    { maxLength: 5 }
  )
  it.effect.prop(
    "names the mailboxes that the header field names, whatever the text",
    [Pieces, Pieces],
    ([one, two]) =>
      Effect.gen(function*() {
        const to = [one.join(""), two.join("")]
        const composed = yield* Effect.result(Message.compose({ from: "ann@a.test", to }))
        if (composed._tag === "Failure") return assert.strictEqual(composed.failure._tag, "EENVELOPE")
        const { envelope, message } = composed.success
        const part = mime.parse(yield* collect(message))
        const shown = new Set(mailboxesOf(Buffer.from(mime.header(part, "To")!, "latin1").toString()))
        const recipients = envelope.to as ReadonlyArray<string>
        assert.strictEqual(shown.size, new Set(recipients).size)
        for (const recipient of recipients) assert.isTrue(to.some((text) => text.includes(recipient)), recipient)
      }),
    { arbitrary: { runs: 2_000 } }
  )
})

class Broken extends Schema.TaggedError<Broken>()("Broken", { at: Schema.Int }) {}
class Source extends Context.Service<Source, Stream.Stream<Uint8Array, Broken>>()("test/Source") {}

describe("streams", () => {
  it.effect("fail the message with their own error, and bring their own requirements", () =>
    Effect.gen(function*() {
      const source = Stream.unwrap(Effect.map(Effect.service(Source), (stream) => stream))
      const { message } = yield* Message.compose({ ...basic, attachments: [{ content: source }] })
      const broken: Stream.Stream<Uint8Array, Broken | SmtpError.EMESSAGE, Source> = message
      const stream = Stream.concat(Stream.make(random(10)), Stream.fail(new Broken({ at: 10 })))
      const error = yield* Effect.flip(Effect.provideService(collect(broken), Source, stream))
      assert.deepStrictEqual(error, new Broken({ at: 10 }))
    }))

  it.effect("are opened for each run of the message, one after the other, and closed again", () =>
    Effect.gen(function*() {
      const log: Array<string> = []
      const source = (name: string) =>
        Stream.make("x").pipe(
          Stream.onStart(Effect.sync(() => log.push(`open ${name}`))),
          Stream.ensuring(Effect.sync(() => log.push(`close ${name}`)))
        )
      const { message } = yield* Message.compose({
        ...basic,
        attachments: [{ content: source("a") }, { content: source("b") }]
      })
      assert.deepStrictEqual(log, [])
      const [first, second] = [yield* collect(message), yield* collect(message)]
      assert.isTrue(first.equals(second))
      const once = ["open a", "close a", "open b", "close b"]
      assert.deepStrictEqual(log, [...once, ...once])
    }))

  it.effect("give equal octets in two runs, also when the clock has moved on", () =>
    Effect.gen(function*() {
      const composed: Message.Composed = yield* Message.compose({
        ...basic,
        html: "x",
        text: "y",
        attachments: [{ content: Stream.make(random(500)) }, { content: random(500) }]
      })
      const message: Stream.Stream<Uint8Array, SmtpError.EMESSAGE> = composed.message
      const first = yield* collect(message)
      yield* TestClock.adjust("1 day")
      assert.isTrue((yield* collect(message)).equals(first))
    }))

  const isReplayable = (fields: Partial<Message.Fields<unknown>>) =>
    Effect.map(Message.compose({ ...basic, ...fields }), ({ message }) => marks.isReplayable(message))

  it.effect("decide whether the message may be read again: each of them has to say so", () =>
    Effect.gen(function*() {
      const plain = Stream.make("x")
      const marked = SmtpConnection.replayable(Stream.make("x"))
      const octets = { content: random(500) }
      assert.isTrue(yield* isReplayable({ text: "x", html: "y" }))
      assert.isTrue(yield* isReplayable({ attachments: [octets, { content: "x" }], icalEvent: "BEGIN:VCALENDAR" }))
      assert.isTrue(yield* isReplayable({ attachments: [octets, { content: marked }] }))
      assert.isFalse(yield* isReplayable({ attachments: [octets, { content: plain }] }))
      assert.isFalse(yield* isReplayable({ attachments: [{ content: marked }, { content: plain }] }))
      assert.isFalse(yield* isReplayable({ alternatives: [{ contentType: "text/x", content: plain }] }))
    }))

  it.effect("of Node are taken by NodeMessage; a one-shot one tells of its second run", () =>
    Effect.gen(function*() {
      const content = NodeMessage.fromReadableOnce(Readable.from([Buffer.from("node")]))
      const { message } = yield* Message.compose({ ...basic, attachments: [{ content }] })
      assert.strictEqual(mime.text(mime.parse(yield* collect(message))), "node")
      assert.strictEqual((yield* Effect.flip(collect(message)))._tag, "ESTREAM")
    }))

  it.effect("are pulled no faster than the message is read", () =>
    Effect.gen(function*() {
      let pulled = 0
      const chunk = random(65_536)
      const source = Stream.range(1, 320).pipe(
        Stream.rechunk(1),
        Stream.map(() => {
          pulled += chunk.length
          return chunk
        })
      )
      const { message } = yield* Message.compose({ ...basic, text: "x", attachments: [{ content: source }] })
      let taken = 0
      yield* Stream.runDrain(Stream.takeWhile(message, (part) => (taken += part.length) < 2_000_000))
      assert.isBelow(pulled, 2_000_000)
    }))

  it.effect("that give something else than octets and text fail the message", () =>
    Effect.gen(function*() {
      const content = Stream.make(1) as unknown as Stream.Stream<Uint8Array>
      const error = yield* Effect.flip(octets({ ...basic, attachments: [{ content }] }))
      assert.deepStrictEqual([error._tag, (error as SmtpError.EMESSAGE).field], ["EMESSAGE", "attachments"])
    }))
})

describe("a signature (DKIM)", () => {
  const { privateKey, publicKey } = generateKeyPairSync("rsa", {
    modulusLength: 1024,
    publicKeyEncoding: { type: "spki", format: "pem" },
    privateKeyEncoding: { type: "pkcs8", format: "pem" }
  })
  const dkim: Message.Dkim = { domainName: "a.test", keySelector: "s1", privateKey: Redacted.make(privateKey) }

  const relaxedLine = (line: string): string =>
    line.replace(/\r\n/g, "").replace(/^([^:]+):/, (_, name: string) => `${name.trim().toLowerCase()}:`)
      .replace(/[ \t]+/g, " ").replace(/^([^:]+): /, "$1:").trimEnd()

  const relaxedBody = (body: string): string => {
    const lines = body.replace(/[ \t]+\r\n/g, "\r\n").replace(/[ \t]+/g, " ").replace(/(\r\n)*$/, "")
    return lines === "" ? "" : `${lines}\r\n`
  }

  /** RFC 6376 for one signature, relaxed/relaxed: the names that it covers, or why it does not hold. */
  const verify = (message: Buffer): ReadonlyArray<string> | string => {
    const all = message.toString("latin1")
    const end = all.indexOf("\r\n\r\n")
    const lines = all.slice(0, end).split(/\r\n(?![ \t])/)
    const signature = lines.find((line) => /^dkim-signature:/i.test(line))
    if (signature === undefined) return "unsigned"
    const tags = new Map(
      signature.slice(signature.indexOf(":") + 1).split(";").map((tag) => {
        const [name = "", ...value] = tag.split("=")
        return [name.trim(), value.join("=").replace(/\s+/g, "")] as const
      })
    )
    const hash = createHash("sha256").update(relaxedBody(all.slice(end + 4)), "latin1").digest("base64")
    if (hash !== tags.get("bh")) return "body hash"
    const left = lines.slice()
    const names = tags.get("h")!.split(":")
    const covered = names.map((name) => {
      const at = left.findLastIndex((line) => line.toLowerCase().startsWith(`${name}:`))
      return at < 0 ? "" : `${relaxedLine(left.splice(at, 1)[0]!)}\r\n`
    })
    const unsigned = relaxedLine(signature.replace(/([;\s]b=)[\s\S]*$/, "$1"))
    const verifier = createVerify("RSA-SHA256").update(covered.join("") + unsigned, "latin1")
    return verifier.verify(publicKey, tags.get("b")!, "base64") ? names : "signature"
  }

  it.effect("holds for a message of any parts, and the envelope counts it", () =>
    Effect.gen(function*() {
      const { envelope, message } = yield* Message.compose({
        ...basic,
        subject: "Größe und   Abstand",
        text: "a \t b \n\n\n",
        attachments: [{ content: random(5_000) }, { content: "Subject: x\n\nü \r", filename: "a.eml" }],
        dkim
      })
      const all = yield* collect(message)
      assert.match(all.toString(), /^DKIM-Signature: v=1; a=rsa-sha256; c=relaxed\/relaxed; d=a\.test;/)
      assert.deepStrictEqual(verify(all), [
        "from",
        "subject",
        "date",
        "message-id",
        "to",
        "mime-version",
        "content-type"
      ])
      assert.strictEqual(envelope.size, all.length)
      assert.isTrue((yield* collect(message)).equals(all))
      assert.strictEqual(
        verify(Buffer.from(all.toString("latin1").replace("Subject:", "Subject: x"), "latin1")),
        "signature"
      )
      assert.strictEqual(verify(Buffer.concat([all, Buffer.from("x")])), "body hash")
    }))

  it.effect("covers the fields that are asked for, also of a message without a body", () =>
    Effect.gen(function*() {
      const some = { ...dkim, headerFieldNames: ["From", "Subject", "X-A"], skipFields: ["Subject"] }
      const all = yield* octets({ ...basic, subject: "x", headers: { "X-A": "y" }, dkim: some })
      assert.deepStrictEqual(verify(all), ["from", "x-a"])
    }))

  it.effect("holds for 8 MB of streams that are read twice and never held", () =>
    Effect.gen(function*() {
      let runs = 0
      let held = 0
      let most = 0
      const chunk = random(65_536)
      const source = Stream.suspend(() => {
        runs++
        return Stream.range(1, 128).pipe(
          Stream.rechunk(1),
          Stream.map(() => {
            held += chunk.length
            return chunk
          })
        )
      })
      const { message } = yield* Message.compose({ ...basic, attachments: [{ content: source }], dkim })
      const chunks: Array<Uint8Array> = []
      yield* Stream.runForEach(message, (part) =>
        Effect.sync(() => {
          if (chunks.length === 0) held = 0
          most = Math.max(most, held - chunks.length * chunk.length)
          chunks.push(part)
        }))
      assert.strictEqual(runs, 2)
      assert.isBelow(most, 4 * chunk.length)
      assert.isArray(verify(Buffer.concat(chunks)))
    }))

  it.effect("fails the message before its end when a stream gives something else the second time", () =>
    Effect.gen(function*() {
      let run = 0
      const { message } = yield* Message.compose({
        ...basic,
        attachments: [{ content: Stream.suspend(() => Stream.make(`run ${run++}`)) }],
        dkim
      })
      const error = yield* Effect.flip(collect(message))
      assert.deepStrictEqual([error._tag, error.field], ["EMESSAGE", "dkim"])
      const once = NodeMessage.fromReadableOnce(Readable.from(["x"]))
      assert.strictEqual(
        (yield* Effect.flip(octets({ ...basic, attachments: [{ content: once }], dkim })))._tag,
        "ESTREAM"
      )
    }))

  const rows: ReadonlyArray<readonly [field: string, change: object, says: string]> = [
    ["dkim.privateKey", { privateKey: "-----BEGIN" }, "Redacted.make(pem)"],
    ["dkim.privateKey", { privateKey: Redacted.make(1) }, "Redacted.make(pem)"],
    ["dkim.privateKey", { privateKey: Redacted.make("no key, but secret") }, "RSA private key"],
    ["dkim.domainName", { domainName: "a.test; l=0" }, "DNS name"],
    ["dkim.keySelector", { keySelector: 1 }, "DNS name"],
    ["dkim.headerFieldNames", { headerFieldNames: ["subject"] }, "must hold From"],
    ["dkim.headerFieldNames", { headerFieldNames: ["from", "a:b"] }, "names of header fields"],
    ["dkim.skipFields", { skipFields: ["FROM"] }, "must not hold From"]
  ]
  it.effect.each(rows)("refuses options that cannot sign: %s %o", ([field, change, says]) =>
    Effect.gen(function*() {
      const error = yield* refusal({ dkim: { ...dkim, ...change } })
      assert.deepStrictEqual([error._tag, error.field], ["ECONFIG", field])
      assert.include(error.message, says)
      assertHidden(JSON.stringify(error), "secret")
    }))

  it.effect("refuses options that it does not know", () =>
    Effect.gen(function*() {
      const error = yield* refusal({ dkim: { ...dkim, cacheDir: "/tmp" } })
      assert.deepStrictEqual([error._tag, error.field], ["EMESSAGE", "dkim.cacheDir"])
      assert.strictEqual(
        (yield* refusal({ dkim: { ...dkim, headerFieldNames: "from" } })).field,
        "dkim.headerFieldNames"
      )
    }))
})

describe("the peer", () => {
  it.effect("that is not installed is an ECONFIG that says what to install", () =>
    Effect.gen(function*() {
      const cause = Object.assign(new Error("Cannot find package 'nodemailer'"), { code: "ERR_MODULE_NOT_FOUND" })
      const error = yield* Effect.flip(makeCompose(loadWith(() => Promise.reject(cause)))(basic))
      assert.deepStrictEqual([error._tag, error.field, error.cause], ["ECONFIG", "nodemailer", cause])
      assert.include(error.message, "npm install nodemailer")
    }))

  const withComposer = (compile: () => unknown) =>
    Effect.map(load, (peer): Peer => {
      class Composer extends peer.MailComposer {
        override compile(): never {
          return compile() as never
        }
      }
      return { ...peer, MailComposer: Composer }
    })

  it.effect("that fails is an EMESSAGE", () =>
    Effect.gen(function*() {
      for (const thrown of [new Error("bad\nthing"), "bad\nthing"]) {
        const compose = makeCompose(withComposer(() => {
          throw thrown
        }))
        const error = yield* Effect.flip(compose(basic))
        assert.deepStrictEqual([error._tag, error.field, error.cause], ["EMESSAGE", "fields", thrown])
        assert.include(error.message, String.raw`bad\u{a}thing`)
      }
    }))

  it.effect("that loses a part is an EMESSAGE, never a message without it", () =>
    Effect.gen(function*() {
      const compose = makeCompose(withComposer(() => ({
        messageId: () => "<1@a.test>",
        build: () => Promise.resolve(Buffer.from("Subject: x"))
      })))
      const error = yield* Effect.flip(compose({ ...basic, attachments: [{ content: "x" }] }))
      assert.deepStrictEqual([error._tag, error.field], ["EMESSAGE", "fields"])
      assert.isAbove((yield* collect((yield* compose(basic)).message)).length, 0)
    }))
})

describe("what was composed", () => {
  const connect = SmtpClient.make({ host: "mx.test" })

  it.effect("is sent by send and, as it is, by sendAll", () =>
    Effect.gen(function*() {
      const smtp = yield* connect
      const mail = yield* Message.compose({ ...basic, bcc: "eve@b.test", subject: "One", text: "Hello" })
      const sent = yield* smtp.send(mail.envelope, mail.message)
      assert.deepStrictEqual(sent.accepted, ["bob@b.test", "eve@b.test"])
      assert.strictEqual(sent.messageSize, mail.envelope.size)
      const results = yield* Stream.runCollect(smtp.sendAll(Stream.make(mail, mail)))
      assert.deepStrictEqual(results.map((one) => one._tag), ["Success", "Success"])
      const { received } = yield* SmtpServer.SmtpServer
      const octets = yield* collect(mail.message)
      for (const { body } of yield* received) assert.isTrue(Buffer.from(body).equals(octets))
    }).pipe(Effect.provide(SmtpServer.layer())))

  it.effect("arrives whole with 20 MB of a stream in it", () =>
    Effect.gen(function*() {
      const chunk = random(65_536)
      const source = Stream.range(1, 320).pipe(Stream.rechunk(1), Stream.map(() => chunk))
      const { envelope, message } = yield* Message.compose({ ...basic, text: "x", attachments: [{ content: source }] })
      const hash = createHash("sha256")
      let size = 0
      yield* Stream.runForEach(message, (part) =>
        Effect.sync(() => {
          size += part.length
          hash.update(part)
        }))
      assert.isAbove(size, 20 * 1024 * 1024)
      const sent = yield* (yield* connect).send(envelope, message)
      assert.strictEqual(sent.messageSize, size)
      const [stored] = yield* (yield* SmtpServer.SmtpServer).received
      assert.deepStrictEqual([stored?.size, stored?.sha256], [size, hash.digest("hex")])
    }).pipe(Effect.provide(SmtpServer.layer({ digest: true }))))

  const signing: Message.Dkim = {
    domainName: "a.test",
    keySelector: "s1",
    privateKey: Redacted.make(
      generateKeyPairSync("rsa", {
        modulusLength: 1024,
        publicKeyEncoding: { type: "spki", format: "pem" },
        privateKeyEncoding: { type: "pkcs8", format: "pem" }
      }).privateKey
    )
  }
  it.effect.each([["plain", {}], ["signed", { dkim: signing }]] as const)(
    "of octets alone, %s, is sent again where it has to be: in parts, after a loss, by a second server",
    ([, more]) =>
      Effect.gen(function*() {
        const { envelope, message } = yield* Message.compose({
          ...basic,
          to: ["bob@b.test", "eve@b.test", "cy@b.test"],
          attachments: [{ content: random(300_000) }],
          ...more
        })
        const octets = yield* collect(message)
        const smtp = SmtpClient.retryTemporary(yield* connect, Schedule.recurs(2))
        const sent = yield* smtp.send(envelope, message)
        assert.deepStrictEqual(sent.accepted, ["bob@b.test", "eve@b.test", "cy@b.test"])
        const received = yield* (yield* SmtpServer.SmtpServer).received
        assert.deepStrictEqual(received.map(({ to }) => to.length), [2, 1])
        for (const { body } of received) assert.isTrue(Buffer.from(body).equals(octets))
        assert.strictEqual((yield* (yield* SmtpServer.SmtpServer).connections).length, 2)
      }).pipe(Effect.provide(SmtpServer.layer({
        extensions: { extra: ["LIMITS RCPTMAX=2"] },
        faults: [SmtpServer.at("body", SmtpServer.drop, { connection: 1 })]
      })))
  )

  it.effect("with a source that breaks is not sent, and the error is the source's", () =>
    Effect.gen(function*() {
      const content = Stream.concat(Stream.make(random(100_000)), Stream.fail(new Broken({ at: 1 })))
      const { envelope, message } = yield* Message.compose({ ...basic, attachments: [{ content }] })
      const error = yield* Effect.flip((yield* connect).send(envelope, message))
      assert.strictEqual(error._tag, "Broken")
      assert.deepStrictEqual(yield* (yield* SmtpServer.SmtpServer).received, [])
    }).pipe(Effect.provide(SmtpServer.layer())))
})
