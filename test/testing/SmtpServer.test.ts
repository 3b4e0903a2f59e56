import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import { createHash, createHmac } from "node:crypto"
import { SmtpConnector } from "../../src/SmtpConnector.ts"
import * as SmtpReply from "../../src/SmtpReply.ts"
import { SmtpServer } from "../../src/testing/index.ts"
import { base64, dial, greeted, type RawClient, secured, settle, tls } from "./rawClient.ts"

const utf8 = new TextEncoder()

/** Runs a test against a fake server with this script. */
const withServer = <A, E>(
  script: SmtpServer.Script,
  test: Effect.Effect<A, E, SmtpConnector | SmtpServer.SmtpServer | Scope.Scope>
) => test.pipe(Effect.provide(SmtpServer.layer(script)))

const server = SmtpServer.SmtpServer

const dialogue = Effect.fnUntraced(function*(client: RawClient, ...lines: ReadonlyArray<string>) {
  const replies: Array<string> = []
  for (const line of lines) replies.push((yield* client.say(line)).slice(0, 9).trim())
  return replies
})

const mail = ["MAIL FROM:<ann@a.test>", "RCPT TO:<bob@b.test>", "DATA"]

describe("the default server", () => {
  it.effect("takes a message and remembers it", () =>
    withServer(
      {},
      Effect.gen(function*() {
        const client = yield* dial()
        assert.strictEqual(yield* client.next, "220 fake.test ESMTP ready")
        assert.strictEqual(
          yield* client.say("EHLO me.test"),
          "250 fake.test greets me.test / PIPELINING / SIZE 52428800 / STARTTLS / ENHANCEDSTATUSCODES / 8BITMIME / " +
            "SMTPUTF8 / DSN / CHUNKING / HELP"
        )
        assert.strictEqual(yield* client.say("MAIL FROM:<ann@a.test> SIZE=9 BODY=8BITMIME"), "250 2.1.0 sender OK")
        assert.strictEqual(yield* client.say("RCPT TO:<bob@b.test> NOTIFY=NEVER"), "250 2.1.5 recipient OK")
        assert.strictEqual(yield* client.say("RCPT TO:<cy@b.test>"), "250 2.1.5 recipient OK")
        assert.strictEqual(yield* client.say("DATA"), "354 go ahead")
        client.send("Subject: é", "", "..dot", ".")
        assert.strictEqual(yield* client.next, "250 2.0.0 queued as 1")
        assert.deepStrictEqual(yield* client.all(0), [])
        assert.strictEqual(yield* client.say("QUIT"), "221 2.0.0 bye")
        assert.strictEqual(yield* client.next, "FIN")
        const { awaitClosed, connections, received, transcript } = yield* server
        yield* awaitClosed
        const [message] = yield* received
        const text = "Subject: é\r\n\r\n.dot\r\n"
        assert.strictEqual(message?.text, text)
        assert.deepStrictEqual({ ...message, body: [], text: "" }, {
          connection: 1,
          from: "ann@a.test",
          to: ["bob@b.test", "cy@b.test"],
          mailParameters: ["SIZE=9", "BODY=8BITMIME"],
          rcptParameters: [["NOTIFY=NEVER"], []],
          body: [],
          text: "",
          size: utf8.encode(text).length,
          sha256: createHash("sha256").update(text).digest("hex"),
          secure: false,
          username: undefined,
          protocol: "smtp",
          via: "DATA"
        } as never)
        const [info] = yield* connections
        assert.deepInclude(info, { id: 1, open: false, secure: false, helo: "me.test", username: undefined })
        assert.strictEqual(info?.bytesReceived, info?.bytes?.length)
        assert.strictEqual(info?.bytesInClear, info?.bytesReceived)
        const lines = (yield* transcript).map(({ from, text }) => `${from} ${text}`)
        assert.deepStrictEqual(lines.slice(0, 3), [
          "event connected",
          "server 220 fake.test ESMTP ready",
          "client EHLO me.test"
        ])
        assert.deepStrictEqual(lines.slice(-5), [
          `event message of ${utf8.encode(text).length} octets by DATA`,
          "server 250 2.0.0 queued as 1",
          "client QUIT",
          "server 221 2.0.0 bye",
          "event closed"
        ])
      })
    ))

  it.effect("offers AUTH behind STARTTLS, and takes any credentials there", () =>
    withServer(
      {},
      Effect.gen(function*() {
        const client = yield* greeted
        assert.strictEqual(yield* client.say("AUTH PLAIN AGFubgBzM2NyZXQ="), "538 5.7.11 STARTTLS first")
        assert.strictEqual(yield* client.say("STARTTLS"), "220 2.0.0 go ahead")
        assert.deepInclude(yield* client.duplex.upgrade(tls), {
          protocol: "in-memory",
          cipher: "none",
          authorized: true,
          servername: "mx.test"
        })
        assert.deepStrictEqual(yield* dialogue(client, "MAIL FROM:<a@b.test>", "AUTH PLAIN AGFubgBzM2NyZXQ="), [
          "503 5.5.1",
          "503 5.5.1"
        ])
        assert.strictEqual(
          yield* client.say("EHLO me.test"),
          "250 fake.test greets me.test / PIPELINING / SIZE 52428800 / AUTH PLAIN LOGIN CRAM-MD5 XOAUTH2 EXTERNAL / " +
            "ENHANCEDSTATUSCODES / 8BITMIME / SMTPUTF8 / DSN / CHUNKING / REQUIRETLS / HELP"
        )
        assert.strictEqual(yield* client.say("AUTH PLAIN AGFubgBzM2NyZXQ="), "235 2.7.0 authenticated")
        assert.deepStrictEqual(yield* dialogue(client, "AUTH PLAIN AGFubgBzM2NyZXQ=", "STARTTLS", ...mail, "x\r\n."), [
          "503 5.5.1",
          "502 5.5.1",
          "250 2.1.0",
          "250 2.1.5",
          "354 go ah",
          "250 2.0.0"
        ])
        const { connections, received } = yield* server
        assert.deepInclude((yield* received)[0], { secure: true, username: "ann" })
        const [info] = yield* connections
        assert.deepInclude(info, { secure: true, username: "ann", open: true })
        assert.strictEqual(info?.bytesInClear, "EHLO me.test\r\nAUTH PLAIN AGFubgBzM2NyZXQ=\r\nSTARTTLS\r\n".length)
      })
    ))

  it.effect("keeps the order of commands and their syntax", () =>
    withServer(
      {},
      Effect.gen(function*() {
        const client = yield* dial()
        yield* client.next
        const said = Effect.fnUntraced(function*(line: string, reply: string) {
          assert.strictEqual((yield* client.say(line)).slice(0, reply.length), reply, line)
        })
        yield* said("MAIL FROM:<a@b.test>", "503 5.5.1 say EHLO first")
        yield* said("STARTTLS", "503")
        yield* said("EHLO", "501")
        yield* said("LHLO me.test", "500 5.5.1 this is SMTP")
        yield* said("HELO me.test", "250 fake.test")
        yield* said("MAIL FROM:<a@b.test> SIZE=1", "555")
        yield* said("EHLO me.test", "250")
        yield* said("STARTTLS now", "501")
        for (const verb of ["RCPT TO:<a@b.test>", "DATA", "BDAT 0 LAST"]) {
          yield* said(verb, "503 5.5.1 say MAIL first")
        }
        for (
          const path of [
            "FROM: <a@b.test>",
            "FROM:a@b.test",
            "TO:<a@b.test>",
            "FROM:<a b>",
            "FROM:<a>",
            "",
            "FROM:<a@b"
          ]
        ) {
          yield* said(`MAIL ${path}`, "501 5.1.7")
        }
        for (
          const parameters of [
            "SIZE",
            "SIZE=x",
            "SIZE=1 SIZE=1",
            "BODY=9BIT",
            "SMTPUTF8=1",
            "RET=ALL",
            "=1",
            "RET=FULL ",
            "ENVID"
          ]
        ) {
          yield* said(`MAIL FROM:<a@b.test> ${parameters}`, "501 5.5.4")
        }
        yield* said("MAIL FROM:<a@b.test> BODY=BINARYMIME", "555")
        for (const parameters of ["FOO=1", "NOTIFY=NEVER", "REQUIRETLS", "AUTH=<>", "HOLDFOR=9", "BY=1;R"]) {
          yield* said(`MAIL FROM:<a@b.test> ${parameters}`, "555 5.5.4")
        }
        yield* said("MAIL FROM:<ä@b.test>", "553 5.6.7")
        yield* said("MAIL FROM:<> RET=HDRS ENVID=x SMTPUTF8 SIZE=52428800", "250")
        yield* said("MAIL FROM:<>", "503")
        yield* said("DATA", "554 5.5.1 no valid recipients")
        yield* said("RCPT TO:<>", "501")
        yield* said("RCPT TO:<b@b.test> NOTIFY=NEVER,DELAY", "501")
        yield* said("RCPT TO:<b@b.test> ORCPT=x", "501")
        yield* said("RCPT TO:<b@b.test> RET=FULL", "555")
        yield* said(`RCPT TO:<"a> b\\""@b.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b@b.test`, "250")
        yield* said("RCPT TO:<ö@b.test>", "250")
        yield* said("RCPT TO:<Postmaster>", "250")
        yield* said("DATA now", "501")
        yield* said("RSET now", "501")
        yield* said("RSET", "250")
        yield* said("NOOP x", "250")
        yield* said("VRFY x", "252")
        yield* said("EXPN x", "502")
        yield* said("HELP", "214")
        yield* said("TURN", "500 5.5.1")
        yield* said("NOOP \u0007", "500 5.5.2")
        yield* said(`NOOP ${"x".repeat(12_284)}`, "500 5.5.2")
        yield* said(`NOOP ${"x".repeat(12_283)}`, "250")
        yield* said("", "500 5.5.1")
      })
    ))

  it.effect("does not take a bare LF for the end of a line", () =>
    withServer(
      {},
      Effect.gen(function*() {
        const client = yield* greeted
        assert.strictEqual(yield* client.say("NOOP\nNOOP\n\nNOOP"), "500 5.5.2 control character in a command")
        assert.strictEqual(yield* client.say("NOOP"), "250 2.0.0 OK")
      })
    ))

  it.effect("forgets a line that is longer than its limit, whatever its split", () =>
    withServer(
      { commandLimit: 20 },
      Effect.gen(function*() {
        const client = yield* greeted
        for (const octet of `NOOP ${"x".repeat(60)}\r\n`) client.duplex.write([utf8.encode(octet)])
        assert.strictEqual(yield* client.next, "500 5.5.2 line too long")
        assert.strictEqual(yield* client.say(`NOOP ${"x".repeat(15)}`), "250 2.0.0 OK")
        const [info] = yield* (yield* server).connections
        assert.strictEqual(info?.bytesReceived, "EHLO me.test\r\n".length + 67 + 22)
      })
    ))
})

describe("the extensions", () => {
  const switches: ReadonlyArray<readonly [SmtpServer.Extensions, string, string, string]> = [
    [{ startTls: false }, "STARTTLS", "STARTTLS", "502"],
    [{ startTls: false }, "STARTTLS", "AUTH PLAIN", "502"],
    [{ size: 5 }, "SIZE 52428800", "MAIL FROM:<a@b.test> SIZE=6", "552 5.3.4"],
    [{ size: false }, "SIZE 52428800", "MAIL FROM:<a@b.test> SIZE=6", "555"],
    [{ eightBitMime: false }, "8BITMIME", "MAIL FROM:<a@b.test> BODY=8BITMIME", "555"],
    [{ smtpUtf8: false }, "SMTPUTF8", "MAIL FROM:<a@b.test> SMTPUTF8", "555"],
    [{ dsn: false }, "DSN", "MAIL FROM:<a@b.test> RET=FULL", "555"],
    [{ chunking: false }, "CHUNKING", "BDAT 1", "502"],
    [{ help: false }, "HELP", "HELP", "214"],
    [{ enhancedStatusCodes: false }, "ENHANCEDSTATUSCODES", "NOOP", "250 OK"],
    [{ pipelining: false }, "PIPELINING", "NOOP", "250"]
  ]
  for (const [extensions, keyword, line, reply] of switches) {
    it.effect(`${JSON.stringify(extensions)} takes ${keyword} off the list`, () =>
      withServer(
        { extensions },
        Effect.gen(function*() {
          const client = yield* dial()
          yield* client.next
          assert.notInclude((yield* client.say("EHLO me.test")).split(" / "), keyword)
          assert.strictEqual((yield* client.say(line)).slice(0, reply.length), reply)
        })
      ))
  }

  it.effect("can be added: BINARYMIME, AUTH in the clear, and lines of one's own", () =>
    withServer(
      {
        extensions: {
          binaryMime: true,
          authBeforeTls: ["PLAIN"],
          auth: false,
          extra: ["MT-PRIORITY MIXER", "FUTURERELEASE 9 9", "DELIVERBY"]
        }
      },
      Effect.gen(function*() {
        const client = yield* dial()
        yield* client.next
        const offers = (yield* client.say("EHLO me.test")).split(" / ")
        assert.includeMembers(offers, ["BINARYMIME", "AUTH PLAIN", "MT-PRIORITY MIXER", "DELIVERBY"])
        assert.strictEqual(yield* client.say("AUTH LOGIN"), "504 5.5.4 mechanism not offered")
        assert.strictEqual(yield* client.say("AUTH plain AGFubgBzM2NyZXQ="), "235 2.7.0 authenticated")
        const parameters = "MT-PRIORITY=3 HOLDFOR=9 BY=120;R BODY=BINARYMIME AUTH=<>"
        assert.deepStrictEqual(
          yield* dialogue(
            client,
            `MAIL FROM:<a@b.test> ${parameters}`,
            "RCPT TO:<b@b.test>",
            "DATA",
            "BDAT 5\r\n\0\nx",
            "BDAT 0 LAST"
          ),
          ["250 2.1.0", "250 2.1.5", "503 5.5.1", "250 2.0.0", "250 2.0.0"]
        )
      })
    ))

  it.effect("are offered by the state of TLS", () =>
    withServer(
      { extensions: { auth: false }, implicitTls: false },
      Effect.gen(function*() {
        const client = yield* secured
        assert.strictEqual(yield* client.say("AUTH PLAIN AGFubgBzM2NyZXQ="), "502 5.5.1 AUTH is not offered")
        assert.strictEqual(yield* client.say("MAIL FROM:<a@b.test> REQUIRETLS"), "250 2.1.0 sender OK")
      })
    ))

  it.effect("a message over the SIZE limit is refused at its end and not kept", () =>
    withServer(
      { extensions: { size: 10 } },
      Effect.gen(function*() {
        const client = yield* greeted
        assert.deepStrictEqual(yield* dialogue(client, ...mail, "123456789\r\n."), [
          "250 2.1.0",
          "250 2.1.5",
          "354 go ah",
          "552 5.3.4"
        ])
        assert.deepStrictEqual((yield* dialogue(client, ...mail, "12345678\r\n.")).at(-1), "250 2.0.0")
        assert.deepStrictEqual((yield* (yield* server).received).map(({ size }) => size), [10])
      })
    ))

  it.effect("a client that speaks ahead where it must not is noted", () =>
    withServer(
      { extensions: { pipelining: false } },
      Effect.gen(function*() {
        const client = yield* greeted
        client.send("MAIL FROM:<a@b.test>", "RCPT TO:<b@b.test>")
        yield* client.all(2)
        const events = (yield* (yield* server).transcript).filter(({ from }) => from === "event")
        assert.strictEqual(events.at(-1)?.text, "octets behind MAIL without PIPELINING")
      })
    ))
})

describe("AUTH", () => {
  const accounts = { ann: "s3cret" }
  const cases: ReadonlyArray<readonly [name: string, lines: ReadonlyArray<string>, codes: ReadonlyArray<string>]> = [
    ["PLAIN with an initial response", [`AUTH PLAIN ${base64("\0ann\0s3cret")}`], ["235"]],
    ["PLAIN without one", ["AUTH PLAIN", base64("\0ann\0s3cret")], ["334", "235"]],
    ["PLAIN with a wrong password", [`AUTH PLAIN ${base64("\0ann\0wrong")}`], ["535"]],
    ["PLAIN with an unknown name", [`AUTH PLAIN ${base64("\0toString\0wrong")}`], ["535"]],
    ["LOGIN", ["AUTH LOGIN", base64("ann"), base64("s3cret")], ["334", "334", "235"]],
    ["LOGIN with a wrong password", ["AUTH LOGIN", base64("ann"), base64("wrong")], ["334", "334", "535"]],
    ["XOAUTH2", [`AUTH XOAUTH2 ${base64("user=ann\u0001auth=Bearer s3cret\u0001\u0001")}`], ["235"]],
    ["XOAUTH2 with a bad token", [`AUTH XOAUTH2 ${base64("user=ann\u0001auth=Bearer x\u0001\u0001")}`, ""], [
      "334",
      "535"
    ]],
    ["EXTERNAL", [`AUTH EXTERNAL =`], ["235"]],
    ["EXTERNAL as somebody unknown", [`AUTH EXTERNAL ${base64("toString")}`], ["535"]],
    ["a cancelled exchange", ["AUTH LOGIN", "*", "NOOP"], ["334", "501", "250"]],
    ["what is no base64", ["AUTH PLAIN !"], ["501"]],
    ["no mechanism", ["AUTH"], ["501"]],
    ["too many words", ["AUTH PLAIN x y"], ["501"]],
    ["a mechanism that is not offered", ["AUTH GSSAPI"], ["504"]]
  ]
  for (const [name, lines, codes] of cases) {
    it.effect(`${name}: ${codes.join(" ")}`, () =>
      withServer(
        { accounts },
        Effect.gen(function*() {
          const client = yield* secured
          assert.deepStrictEqual((yield* dialogue(client, ...lines)).map((reply) => reply.slice(0, 3)), codes)
          const isIn = codes.at(-1) === "235"
          const [info] = yield* (yield* server).connections
          assert.strictEqual(info?.username !== undefined, isIn)
        })
      ))
  }

  it.effect("CRAM-MD5 challenges, and checks the digest", () =>
    withServer(
      { accounts },
      Effect.gen(function*() {
        const client = yield* secured
        const challenge = Buffer.from((yield* client.say("AUTH CRAM-MD5")).slice(4), "base64")
        const digest = createHmac("md5", "s3cret").update(challenge).digest("hex")
        assert.strictEqual(yield* client.say(base64(`ann ${digest}`)), "235 2.7.0 authenticated")
        assert.strictEqual((yield* (yield* server).connections)[0]?.username, "ann")
      })
    ))

  it.effect("can be demanded before MAIL", () =>
    withServer(
      { requireAuth: true },
      Effect.gen(function*() {
        const client = yield* secured
        assert.strictEqual(yield* client.say("MAIL FROM:<a@b.test>"), "530 5.7.0 log in first")
        yield* client.say("AUTH EXTERNAL =")
        assert.deepStrictEqual(yield* dialogue(client, "MAIL FROM:<a@b.test>", "AUTH EXTERNAL ="), [
          "250 2.1.0",
          "503 5.5.1"
        ])
      })
    ))

  it.effect("is forgotten by STARTTLS", () =>
    withServer(
      { extensions: { authBeforeTls: ["EXTERNAL"] } },
      Effect.gen(function*() {
        const client = yield* greeted
        assert.deepStrictEqual(yield* dialogue(client, "AUTH EXTERNAL =", "STARTTLS"), ["235 2.7.0", "220 2.0.0"])
        yield* client.duplex.upgrade(tls)
        const [info] = yield* (yield* server).connections
        assert.deepInclude(info, { username: undefined, helo: undefined, secure: true })
      })
    ))
})

describe("LMTP", () => {
  it.effect("takes LHLO and gives one final reply per recipient", () =>
    withServer(
      {
        protocol: "lmtp",
        respond: {
          message: ({ recipient }) => recipient === "cy@b.test" ? SmtpServer.reply(452, "4.2.2 full") : undefined
        }
      },
      Effect.gen(function*() {
        const client = yield* dial({ path: "/run/lmtp" })
        assert.strictEqual(client.duplex.secured, true)
        assert.strictEqual(client.duplex.remoteAddress, "/run/lmtp")
        assert.strictEqual(yield* client.next, "220 fake.test LMTP ready")
        assert.deepStrictEqual(yield* dialogue(client, "EHLO me.test", "HELO me.test", "MAIL FROM:<a@b.test>"), [
          "500 5.5.1",
          "500 5.5.1",
          "503 5.5.1"
        ])
        assert.include(yield* client.say("LHLO me.test"), "PIPELINING")
        client.send(
          "MAIL FROM:<ann@a.test>",
          "RCPT TO:<bob@b.test>",
          "RCPT TO:<cy@b.test>",
          "RCPT TO:<di@b.test>",
          "DATA"
        )
        yield* client.all(5)
        client.send("x", ".")
        assert.deepStrictEqual(yield* client.all(3), [
          "250 2.0.0 queued as 1",
          "452 4.2.2 full",
          "250 2.0.0 queued as 1"
        ])
        client.send("MAIL FROM:<ann@a.test>", "RCPT TO:<cy@b.test>", "BDAT 3 LAST\r\nx", "NOOP")
        assert.deepStrictEqual((yield* client.all(4)).map((reply) => reply.slice(0, 3)), ["250", "250", "452", "250"])
        const received = yield* (yield* server).received
        assert.deepStrictEqual(received.map(({ protocol, to }) => ({ protocol, to })), [
          { protocol: "lmtp", to: ["bob@b.test", "di@b.test"] }
        ])
        assert.deepStrictEqual(received[0]?.rcptParameters, [[], []])
      })
    ))
})

describe("BDAT", () => {
  it.effect("takes a message in chunks, octet for octet", () =>
    withServer(
      {},
      Effect.gen(function*() {
        const client = yield* greeted
        client.send("MAIL FROM:<ann@a.test>", "RCPT TO:<bob@b.test>")
        yield* client.all(2)
        assert.strictEqual(yield* client.say("BDAT 2\r"), "500 5.5.2 control character in a command")
        client.duplex.write([utf8.encode("BDAT 4\r\n.\r\nABDAT 3 last\r\n\n\0.")])
        assert.deepStrictEqual(yield* client.all(2), ["250 2.0.0 4 octets", "250 2.0.0 queued as 1"])
        const [message] = yield* (yield* server).received
        assert.deepInclude(message, { text: ".\r\nA\n\0.", via: "BDAT", size: 7 })
      })
    ))

  it.effect("reads a chunk that it refuses, and the transaction is over", () =>
    withServer(
      { respond: { bdat: ({ argument }) => argument === "2" ? SmtpServer.reply(452, "4.3.1 full") : undefined } },
      Effect.gen(function*() {
        const client = yield* greeted
        client.send(
          "BDAT 6\r\nNOOP",
          "MAIL FROM:<a@b.test>",
          "BDAT 3\r\nx",
          "RSET",
          "MAIL FROM:<a@b.test>",
          "RCPT TO:<b@b.test>",
          "BDAT 2",
          "",
          "BDAT 4",
          "ab"
        )
        assert.deepStrictEqual((yield* client.all(8)).map((reply) => reply.slice(0, 9)), [
          "503 5.5.1",
          "250 2.1.0",
          "554 5.5.1",
          "250 2.0.0",
          "250 2.1.0",
          "250 2.1.5",
          "452 4.3.1",
          "503 5.5.1"
        ])
      })
    ))
})

describe("a message of chunks", () => {
  it.effect("takes neither RCPT nor DATA", () =>
    withServer(
      {},
      Effect.gen(function*() {
        const client = yield* greeted
        client.send("MAIL FROM:<a@b.test>", "RCPT TO:<b@b.test>", "BDAT 2", "", "RCPT TO:<c@b.test>", "DATA")
        assert.deepStrictEqual((yield* client.all(5)).slice(3), [
          "503 5.5.1 BDAT has begun",
          "503 5.5.1 this transaction takes BDAT"
        ])
      })
    ))

  it.effect("is not kept over the SIZE limit", () => {
    const kept: Array<unknown> = []
    return withServer(
      {
        extensions: { size: 5 },
        respond: {
          message: ({ message }) => {
            kept.push(message?.size, message?.text)
            return undefined
          }
        }
      },
      Effect.gen(function*() {
        const client = yield* greeted
        client.send("MAIL FROM:<a@b.test>", "RCPT TO:<b@b.test>", "BDAT 4", "ab", "BDAT 4 LAST", "cd")
        assert.strictEqual((yield* client.all(4)).at(-1), "552 5.3.4 the message is too large")
        assert.strictEqual(kept[0], 8)
        assert.isAtMost(String(kept[1]).length, 5)
      })
    )
  })
})

describe("pipelining", () => {
  const lines = [
    "EHLO me.test",
    "MAIL FROM:<ann@a.test>",
    "RCPT TO:<bob@b.test>",
    "DATA",
    "..a",
    "b",
    ".",
    "MAIL FROM:<>",
    "RCPT TO:<bob@b.test>",
    "BDAT 3",
    "xyzBDAT 0 LAST",
    "FOO",
    "RSET",
    "QUIT",
    ""
  ]
  const all = utf8.encode(lines.join("\r\n"))

  const run = (...parts: ReadonlyArray<Uint8Array>) =>
    withServer(
      {},
      Effect.gen(function*() {
        const client = yield* dial()
        yield* client.next
        for (const part of parts) {
          client.duplex.write([part])
          yield* Effect.yieldNow
          yield* Effect.yieldNow
        }
        const { awaitClosed, received, transcript } = yield* server
        yield* awaitClosed
        const said = (yield* transcript).filter(({ from, text }) =>
          from !== "event" || !text.startsWith("octets behind")
        )
        return {
          said,
          received: (yield* received).map(({ from, text }) => ({ from, text })),
          writes: client.writes.length
        }
      })
    )

  it.effect("split at every octet, and octet by octet, gives the same dialogue", () =>
    Effect.gen(function*() {
      const whole = yield* run(all)
      assert.deepStrictEqual(whole.received, [{ from: "ann@a.test", text: ".a\r\nb\r\n" }, { from: "", text: "xyz" }])
      for (let i = 1; i < all.length; i++) {
        const { received, said } = yield* run(all.subarray(0, i), all.subarray(i))
        assert.deepStrictEqual({ received, said }, { received: whole.received, said: whole.said }, `split at ${i}`)
      }
      const single = yield* run(...Array.from(all, (octet) => Uint8Array.of(octet)))
      assert.deepStrictEqual(single.said, whole.said)
    }))

  it.effect("what comes together is answered in one write", () =>
    Effect.gen(function*() {
      assert.strictEqual((yield* run(all)).writes, 2)
    }))

  it.effect("notes what came behind a command that ends a group", () =>
    withServer(
      {},
      Effect.gen(function*() {
        const client = yield* dial()
        yield* client.next
        client.send("EHLO me.test", "NOOP")
        yield* client.all(2)
        const events = (yield* (yield* server).transcript).filter(({ from }) => from === "event")
        assert.strictEqual(events.at(-1)?.text, "octets behind EHLO, which ends a group")
      })
    ))
})

describe("the script", () => {
  it.effect("answers per verb, and knows the session", () => {
    const seen: Array<string> = []
    const note = (reply?: SmtpServer.Answer): SmtpServer.Handler => (command, session) => {
      seen.push(`${command.verb} ${command.path ?? command.argument} ${session.helo} ${session.from} ${session.to}`)
      return reply
    }
    return withServer(
      {
        name: "mx.test",
        greeting: SmtpServer.reply(220, "hi", "there"),
        respond: {
          ehlo: note(SmtpServer.reply(250, "mx.test", "SIZE")),
          mail: note(),
          rcpt: ({ parameters, path }) =>
            path === "no@b.test" ? SmtpServer.reply(550, `5.1.1 ${parameters}`) : undefined,
          data: note(),
          message: ({ message }) => SmtpServer.reply(554, `5.7.1 ${message?.text.trim()} ${message?.to}`),
          noop: note(SmtpServer.reply(299)),
          unknown: () => SmtpReply.make(502, "5.5.1 what?"),
          quit: () => SmtpServer.reply(500, "stay")
        }
      },
      Effect.gen(function*() {
        const client = yield* dial()
        assert.strictEqual(yield* client.next, "220 hi / there")
        assert.strictEqual(yield* client.say("EHLO me.test"), "250 mx.test / SIZE")
        yield* client.say("MAIL FROM:<ann@a.test>")
        assert.strictEqual(yield* client.say("RCPT TO:<no@b.test> NOTIFY=NEVER"), "550 5.1.1 NOTIFY=NEVER")
        yield* client.say("RCPT TO:<bob@b.test>")
        yield* client.say("DATA")
        assert.strictEqual(yield* client.say("spam\r\n."), "554 5.7.1 spam bob@b.test")
        assert.deepStrictEqual(yield* dialogue(client, "NOOP", "FOO", "QUIT", "NOOP"), [
          "299",
          "502 5.5.1",
          "500 stay",
          "299"
        ])
        assert.deepStrictEqual(seen, [
          "EHLO me.test undefined undefined ",
          "MAIL ann@a.test me.test undefined ",
          "DATA  me.test ann@a.test bob@b.test",
          "NOOP  me.test undefined ",
          "NOOP  me.test undefined "
        ])
        assert.deepStrictEqual(yield* (yield* server).received, [])
      })
    )
  })

  it.effect("may take DATA without recipients, and commands whose syntax is wrong", () =>
    withServer(
      {
        respond: {
          mail: () => SmtpServer.reply(250, "fine"),
          rcpt: () => SmtpServer.reply(250, "fine"),
          data: () => SmtpServer.reply(354, "go on"),
          auth: ({ argument }) => argument === "X" ? SmtpServer.reply(334, "eA==") : SmtpServer.reply(235, "in")
        }
      },
      Effect.gen(function*() {
        const client = yield* greeted
        assert.deepStrictEqual(yield* dialogue(client, "DATA", "."), ["354 go on", "554 5.5.1"])
        assert.deepStrictEqual(yield* dialogue(client, "MAIL x", "RCPT y", "DATA", "."), [
          "250 fine",
          "250 fine",
          "354 go on",
          "250 2.0.0"
        ])
        assert.deepStrictEqual(yield* dialogue(client, "AUTH X", "whatever"), ["334 eA==", "235 in"])
        const { connections, received } = yield* server
        assert.deepInclude((yield* received)[0], { from: "x", to: ["y"], size: 0 })
        assert.strictEqual((yield* connections)[0]?.username, "")
      })
    ))

  it.effect("ends the connection when a handler throws, and says so", () =>
    withServer(
      {
        respond: {
          noop: () => {
            throw new Error("boom")
          }
        }
      },
      Effect.gen(function*() {
        const client = yield* greeted
        assert.strictEqual(yield* client.say("NOOP"), "FIN")
        const { awaitClosed, transcript } = yield* server
        yield* awaitClosed
        assert.strictEqual((yield* transcript).at(-2)?.text, "the script threw: Error: boom")
      })
    ).pipe(Effect.provide(Logger.layer([]))))

  it.effect("refuses a client in the greeting, and takes but QUIT then", () =>
    withServer(
      { greeting: SmtpServer.reply(554, "5.7.1 no") },
      Effect.gen(function*() {
        const client = yield* dial()
        assert.strictEqual(yield* client.next, "554 5.7.1 no")
        assert.deepStrictEqual(yield* dialogue(client, "EHLO me.test", "QUIT"), ["503 5.5.1", "221 2.0.0"])
        assert.strictEqual(yield* client.next, "FIN")
      })
    ))
})

describe("TLS in memory", () => {
  it.effect("is implicit when the client begins with it", () =>
    withServer(
      {},
      Effect.gen(function*() {
        const client = yield* dial({ silent: true })
        yield* client.duplex.upgrade(tls)
        client.listen()
        assert.strictEqual(yield* client.next, "220 fake.test ESMTP ready")
        assert.include(yield* client.say("EHLO me.test"), "AUTH PLAIN")
        assert.deepInclude((yield* (yield* server).connections)[0], { secure: true, bytesInClear: 0 })
      })
    ))

  it.effect("is implicit on port 465 and by script: plaintext ends the connection", () =>
    Effect.gen(function*() {
      for (const [script, port] of [[{}, 465], [{ implicitTls: true }, 25]] as const) {
        yield* withServer(
          script,
          Effect.gen(function*() {
            const client = yield* dial({ port })
            client.send("EHLO me.test")
            assert.strictEqual(yield* client.next, "FIN")
            assert.deepStrictEqual(client.writes, [])
          })
        )
      }
    }))

  it.effect("is refused by a server that speaks plaintext", () =>
    withServer(
      { implicitTls: false },
      Effect.gen(function*() {
        const client = yield* dial({ silent: true, port: 465 })
        const error = yield* Effect.flip(client.duplex.upgrade(tls))
        assert.deepInclude(error, { _tag: "ETLS", temporary: false })
        assert.strictEqual((error.cause as { code?: string }).code, "ERR_SSL_WRONG_VERSION_NUMBER")
        const other = yield* greeted
        assert.strictEqual((yield* Effect.flip(other.duplex.upgrade(tls)))._tag, "ETLS")
        yield* (yield* server).awaitClosed
      })
    ))

  it.effect("fails when the script says so", () =>
    withServer(
      { tls: { fail: true } },
      Effect.gen(function*() {
        const client = yield* greeted
        yield* client.say("STARTTLS")
        const error = yield* Effect.flip(client.duplex.upgrade(tls))
        assert.deepInclude(error, { _tag: "ETLS", temporary: false })
        assert.strictEqual((error.cause as { code?: string }).code, "ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE")
        yield* (yield* server).awaitClosed
      })
    ))

  it.effect("does not verify when the script says so: an error, or reported when nobody verifies", () =>
    withServer(
      { tls: { authorized: false } },
      Effect.gen(function*() {
        const client = yield* greeted
        yield* client.say("STARTTLS")
        const error = yield* Effect.flip(client.duplex.upgrade(tls))
        assert.strictEqual((error.cause as { code?: string }).code, "DEPTH_ZERO_SELF_SIGNED_CERT")
        const other = yield* greeted
        yield* other.say("STARTTLS")
        assert.deepInclude(yield* other.duplex.upgrade({ ...tls, verify: false }), {
          authorized: false,
          authorizationError: "DEPTH_ZERO_SELF_SIGNED_CERT"
        })
      })
    ))

  it.effect("drops octets that a client sent in the clear behind STARTTLS, and says so", () =>
    withServer(
      {},
      Effect.gen(function*() {
        const client = yield* greeted
        client.send("STARTTLS", "RSET")
        assert.strictEqual(yield* client.next, "220 2.0.0 go ahead")
        yield* client.duplex.upgrade(tls)
        assert.include(yield* client.say("EHLO me.test"), "250 fake.test")
        const events = (yield* (yield* server).transcript).filter(({ from }) => from === "event").map(({ text }) =>
          text
        )
        assert.include(events, "6 octets in the clear behind STARTTLS")
      })
    ))

  it.effect("plaintext that the client has not been handed fails the upgrade", () =>
    withServer(
      { implicitTls: false },
      Effect.gen(function*() {
        const client = yield* dial({ silent: true })
        client.send("NOOP")
        yield* Effect.yieldNow
        yield* Effect.yieldNow
        const error = yield* Effect.flip(client.duplex.upgrade(tls))
        assert.strictEqual(error.message, "CONN: plaintext came before the TLS handshake")
      })
    ))

  it.effect("after the end is a loss", () =>
    withServer(
      {},
      Effect.gen(function*() {
        const client = yield* greeted
        yield* client.say("QUIT")
        assert.strictEqual(yield* client.next, "FIN")
        assert.deepInclude(yield* Effect.flip(client.duplex.upgrade(tls)), { _tag: "ETLS", temporary: true })
        assert.deepInclude(yield* Effect.flip(client.duplex.upgrade(tls)), { _tag: "ETLS", temporary: true })
      })
    ))

  it.effect("an interrupted upgrade destroys the stream", () =>
    withServer(
      { faults: [SmtpServer.at("tls", SmtpServer.silence)] },
      Effect.gen(function*() {
        const client = yield* greeted
        yield* client.say("STARTTLS")
        const fiber = yield* Effect.forkChild(client.duplex.upgrade(tls), { startImmediately: true })
        yield* Fiber.interrupt(fiber)
        yield* (yield* server).awaitClosed
      })
    ))
})

describe("the duplex in memory", () => {
  it.effect("hands over what came before listen, the end too", () =>
    withServer(
      { faults: [SmtpServer.at("greeting", SmtpServer.answer(421, "busy"))] },
      Effect.gen(function*() {
        const client = yield* dial({ silent: true })
        client.send("NOOP")
        yield* (yield* server).awaitClosed
        client.listen()
        assert.deepStrictEqual(yield* client.all(2), ["421 busy", "FIN"])
        assert.strictEqual(client.send("NOOP"), true)
      })
    ))

  it.effect("pushes back: write is false over the mark, and onDrain follows", () =>
    withServer(
      { highWaterMark: 10 },
      Effect.gen(function*() {
        const client = yield* greeted
        const before = client.drains()
        assert.strictEqual(client.send("NOOP"), true)
        assert.strictEqual(client.send("NOOP"), false)
        assert.strictEqual(client.drains(), before)
        yield* client.all(2)
        assert.strictEqual(client.drains(), before + 1)
        client.duplex.write([new Uint8Array(0)])
        assert.strictEqual(yield* client.say("NOOP"), "250 2.0.0 OK")
        assert.strictEqual(client.drains(), before + 1)
      })
    ))

  it.effect("calls onDrain when the server has taken everything, not before", () =>
    withServer(
      { highWaterMark: 10, faults: [SmtpServer.at("noop", SmtpServer.delay("1 minute"))] },
      Effect.gen(function*() {
        const client = yield* greeted
        const before = client.drains()
        client.send("NOOP")
        assert.strictEqual(client.send("NOOP"), false)
        yield* settle
        assert.strictEqual(client.drains(), before)
        yield* TestClock.adjust("1 minute")
        yield* client.all(2)
        assert.strictEqual(client.drains(), before + 1)
      })
    ))

  it.effect("keeps its own copy of what was written", () =>
    withServer(
      {},
      Effect.gen(function*() {
        const client = yield* greeted
        yield* dialogue(client, ...mail)
        const octets = Buffer.from("abc\r\n.\r\n")
        client.duplex.write([octets])
        octets.fill(0)
        assert.strictEqual((yield* (yield* server).awaitReceived(1))[0]?.text, "abc\r\n")
      })
    ))

  it.effect("a client that ends or destroys its end closes the connection", () =>
    withServer(
      {},
      Effect.gen(function*() {
        const { awaitClosed, connections } = yield* server
        const first = yield* greeted
        first.send("NOOP")
        first.duplex.end()
        const second = yield* dial({ silent: true })
        second.duplex.destroy()
        second.listen()
        yield* awaitClosed
        assert.deepStrictEqual((yield* connections).map(({ id, open }) => `${id} ${open}`), ["1 false", "2 false"])
        assert.strictEqual(first.writes.length, 2)
      })
    ))

  it.effect("closing the client's scope closes the connection, closing the layer's ends it for the client", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(SmtpServer.layer(), scope)
      const { awaitClosed, connections } = yield* server.pipe(Effect.provideContext(context))
      yield* Effect.scoped(greeted).pipe(Effect.provideContext(context))
      yield* awaitClosed
      const client = yield* greeted.pipe(Effect.provideContext(context))
      const waiting = yield* Effect.forkChild(client.next, { startImmediately: true })
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(yield* Fiber.join(waiting), "FIN")
      assert.deepStrictEqual((yield* connections).map(({ open }) => open), [false, false])
    }))

  it.effect("resolves every endpoint", () =>
    withServer(
      {},
      Effect.gen(function*() {
        const { localName, resolve } = yield* SmtpConnector
        assert.strictEqual(localName, "client.test")
        assert.deepStrictEqual(yield* resolve({ host: "mx.test", port: 25 }), [{
          host: "mx.test",
          port: 25,
          address: "127.0.0.1"
        }])
        assert.deepStrictEqual((yield* resolve({ host: "", port: 0, path: "/s" }))[0].address, undefined)
        const client = yield* dial()
        assert.deepInclude(client.duplex, { secured: false, localAddress: "127.0.0.1", remoteAddress: "127.0.0.1:25" })
      })
    ))
})

describe("digest mode", () => {
  it.effect("keeps length and hash of 50 MB and no octets", () =>
    withServer(
      { digest: true, extensions: { size: false } },
      Effect.gen(function*() {
        const client = yield* greeted
        yield* dialogue(client, ...mail)
        const line = `${"0123456789".repeat(7)}\r\n`
        const chunk = utf8.encode(line.repeat(910))
        const hash = createHash("sha256")
        for (let sent = 0; sent < 800; sent++) {
          client.duplex.write([chunk])
          hash.update(chunk)
          if (sent % 50 === 0) yield* Effect.yieldNow
        }
        assert.strictEqual(yield* client.say("..x\r\n."), "250 2.0.0 queued as 1")
        const [message] = yield* (yield* server).received
        assert.deepInclude(message, {
          text: "",
          size: chunk.length * 800 + 4,
          sha256: hash.update(".x\r\n").digest("hex")
        })
        assert.strictEqual(message?.body.length, 0)
        assert.strictEqual((yield* (yield* server).connections)[0]?.bytes, undefined)
      })
    ))
})
