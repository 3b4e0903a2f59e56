import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Envelope from "../src/Envelope.ts"
import * as SmtpCapabilities from "../src/SmtpCapabilities.ts"
import * as SmtpCommand from "../src/SmtpCommand.ts"
import * as SmtpConnection from "../src/SmtpConnection.ts"
import type { SmtpConnector } from "../src/SmtpConnector.ts"
import type * as SmtpError from "../src/SmtpError.ts"
import * as SmtpReply from "../src/SmtpReply.ts"
import * as SmtpTransaction from "../src/SmtpTransaction.ts"
import { SmtpServer } from "../src/testing/index.ts"
import { bodies, flights, modes, open } from "./support/modes.ts"

const utf8 = new TextEncoder()
const options: SmtpConnection.Options = { host: "mx.test", name: "me.test" }
const base: Envelope.Input = { from: "ann@me.test", to: "bob@mx.test" }

/** Runs a test against a fake server with this script; its connections are closed before the server is. */
const withServer = <A, E>(
  script: SmtpServer.Script,
  test: Effect.Effect<A, E, SmtpConnector | SmtpServer.SmtpServer | Scope.Scope>
) => Effect.scoped(test).pipe(Effect.provide(SmtpServer.layer(script)))

/** The commands that the server read, behind the last EHLO. */
const commands = Effect.gen(function*() {
  const { transcript } = yield* SmtpServer.SmtpServer
  const lines = (yield* transcript).filter(({ from }) => from === "client").map(({ text }) => text)
  return lines.slice(lines.findLastIndex((line) => line.startsWith("EHLO")) + 1)
})

/** An EHLO reply of one's own; STARTTLS is in it where it has to be. */
const offers = (...lines: ReadonlyArray<string>): SmtpServer.Script => ({
  respond: {
    ehlo: (_, { secure }) => SmtpServer.reply(250, "fake.test", ...(secure ? [] : ["STARTTLS"]), ...lines)
  }
})

const lacks = (extensions: SmtpServer.Extensions): SmtpServer.Script => ({ extensions })

interface Row {
  readonly name: string
  readonly script?: SmtpServer.Script
  readonly options?: Partial<SmtpConnection.Options>
  readonly envelope?: Partial<Envelope.Input>
  readonly message?: SmtpConnection.Message
}

interface Said extends Row {
  readonly mail: ReadonlyArray<string>
  readonly rcpt?: ReadonlyArray<ReadonlyArray<string>>
  readonly omitted?: ReadonlyArray<string>
  readonly paths?: ReadonlyArray<string>
}

interface Refused extends Row {
  readonly tag: SmtpError.Tag
  readonly field: string
  readonly says: RegExp
}

const send = (row: Row) =>
  Effect.gen(function*() {
    const connection = yield* SmtpConnection.make({ ...options, ...row.options })
    const envelope = { ...base, ...row.envelope }
    return { connection, exit: yield* Effect.result(connection.send(envelope, row.message ?? "hi\r\n")) }
  })

const inBodies = <A extends Row>(rows: ReadonlyArray<A>) =>
  [flights, ...bodies].flatMap((mode) =>
    rows.map((row) => ({ mode, row: { ...row, options: { ...mode.options, ...row.options } } }))
  )

/** What goes out, as the server received it. */
const says = (rows: ReadonlyArray<Said>): void => {
  for (const { mode, row } of inBodies(rows)) {
    it.effect(mode === flights ? row.name : `${row.name}, ${mode.name}`, () =>
      withServer(
        row.script ?? {},
        Effect.gen(function*() {
          const { exit } = yield* send(row)
          const result = yield* Effect.fromResult(exit)
          assert.deepStrictEqual(result.omitted, row.omitted ?? [])
          const [received] = yield* (yield* SmtpServer.SmtpServer).received
          assert.deepStrictEqual(received?.mailParameters, row.mail)
          if (row.rcpt !== undefined) assert.deepStrictEqual(received?.rcptParameters, row.rcpt)
          if (row.paths !== undefined) {
            assert.deepStrictEqual([received?.from ?? "none", ...received?.to ?? []], row.paths)
          }
        })
      ))
  }
}

/** What is refused on our side before MAIL; the connection stays usable. */
const refuses = (rows: ReadonlyArray<Refused>): void => {
  for (const row of rows) {
    it.effect(row.name, () =>
      withServer(
        row.script ?? {},
        Effect.gen(function*() {
          const { connection, exit } = yield* send(row)
          const error = yield* Effect.flip(Effect.fromResult(exit))
          assert.strictEqual(error._tag, row.tag)
          assert.deepInclude(error, { command: "API", attempted: false, field: row.field, isTemporary: false })
          assert.isFalse(error.inDoubt)
          assert.match(error.message, row.says)
          assert.deepStrictEqual(yield* commands, [])
          yield* connection.send(base, "hi\r\n")
        })
      ))
  }
}

const eightBit = "é\r\n"
const stream = (...chunks: ReadonlyArray<string | Uint8Array>) => Stream.fromIterable(chunks)
const no8Bit = lacks({ eightBitMime: false })

describe("SIZE (RFC 1870)", () => {
  says([
    { name: "is the size of a string in octets", message: "Grüße\r\n", mail: ["SIZE=9", "BODY=8BITMIME"] },
    { name: "is the size in canonical form, before dot-stuffing", message: ".a\nb\rc", mail: ["SIZE=10"] },
    { name: "is the size of octets", message: utf8.encode("abc\r\n"), mail: ["SIZE=5"] },
    { name: "is 0 for an empty message", message: "", mail: ["SIZE=0"] },
    {
      name: "is what was counted, not what the envelope says, where the message is known",
      envelope: { size: 7777 },
      mail: ["SIZE=4"]
    },
    {
      name: "is what the envelope says for a stream",
      envelope: { size: 7777 },
      message: stream("hi\r\n"),
      mail: ["SIZE=7777", "BODY=8BITMIME"]
    },
    { name: "is not declared for a stream of unknown size", message: stream("hi\r\n"), mail: ["BODY=8BITMIME"] },
    { name: "is not declared where it is not offered", script: lacks({ size: false }), mail: [] },
    { name: "0 in EHLO is no limit", script: offers("SIZE 0"), mail: ["SIZE=4"] },
    { name: "without a number in EHLO is no limit", script: offers("SIZE"), mail: ["SIZE=4"] },
    { name: "may be the limit itself", script: lacks({ size: 9 }), message: "a\nb\nc\n", mail: ["SIZE=9"] }
  ])
  refuses([
    {
      name: "over the limit ends a string before MAIL",
      script: lacks({ size: 8 }),
      message: "a\nb\nc\n",
      tag: "EMESSAGE",
      field: "message",
      says: /9 octets are more than the 8 /
    },
    {
      name: "over the limit ends a stream of known size before MAIL",
      script: lacks({ size: 8 }),
      envelope: { size: 9 },
      message: stream("hi\r\n"),
      tag: "EMESSAGE",
      field: "message",
      says: /SIZE/
    }
  ])
})

describe("8BITMIME (RFC 6152)", () => {
  says([
    { name: "is declared for a string with octets above 0x7f", message: eightBit, mail: ["SIZE=4", "BODY=8BITMIME"] },
    {
      name: "is declared for octets above 0x7f",
      message: Uint8Array.of(0xff, 13, 10),
      mail: ["SIZE=3", "BODY=8BITMIME"]
    },
    { name: "is not declared for a string of ASCII", message: "\u007f\r\n", mail: ["SIZE=3"] },
    {
      name: "is declared for a string of ASCII when asked for",
      envelope: { use8BitMime: true },
      mail: ["SIZE=4", "BODY=8BITMIME"]
    },
    {
      name: "is declared for a string that needs it, whatever the envelope says",
      envelope: { use8BitMime: false },
      message: eightBit,
      mail: ["SIZE=4", "BODY=8BITMIME"]
    },
    { name: "is declared for a stream", message: stream(eightBit), mail: ["BODY=8BITMIME"] },
    {
      name: "is declared for a stream when asked for",
      envelope: { use8BitMime: true },
      message: stream("a\r\n"),
      mail: ["BODY=8BITMIME"]
    },
    {
      name: "is not declared for a stream that is held to 7 bits",
      envelope: { use8BitMime: false },
      message: stream("a\r\n"),
      mail: []
    },
    { name: "is not missed by ASCII", script: no8Bit, envelope: { use8BitMime: true }, mail: ["SIZE=4"] },
    { name: "is not missed by a stream of ASCII", script: no8Bit, message: stream("a\r\n"), mail: [] }
  ])
  refuses([
    {
      name: "needed by a string and not offered ends before MAIL",
      script: no8Bit,
      message: eightBit,
      tag: "EMESSAGE",
      field: "message",
      says: /does not offer 8BITMIME.*quoted-printable/
    },
    {
      name: "needed by octets and not offered ends before MAIL",
      script: no8Bit,
      message: Uint8Array.of(0x80),
      tag: "EMESSAGE",
      field: "message",
      says: /8BITMIME/
    },
    {
      name: "announced for a stream and not offered ends before MAIL",
      script: no8Bit,
      envelope: { use8BitMime: true },
      message: stream("a\r\n"),
      tag: "EMESSAGE",
      field: "message",
      says: /8BITMIME/
    }
  ])

  describe.each(modes)("$name", ({ options, streamVia }) => {
    const breaks = (name: string, script: SmtpServer.Script, envelope: Partial<Envelope.Input>) =>
      it.effect(name, () =>
        withServer(
          script,
          Effect.gen(function*() {
            const message = stream("all well\r\n", "still well\r\n", eightBit, "never\r\n")
            const { connection, exit } = yield* send({ name, envelope, options, message: Stream.rechunk(message, 1) })
            const error = yield* Effect.flip(Effect.fromResult(exit))
            const command = streamVia
            assert.deepInclude(error, { _tag: "EMESSAGE", command, inDoubt: false, handedOver: false } as never)
            const server = yield* SmtpServer.SmtpServer
            yield* server.awaitClosed
            const [info] = yield* server.connections
            const sent = new TextDecoder("latin1").decode(info?.bytes)
            const told = streamVia === "BDAT" ? "RCPT TO:<bob@mx.test>\r\n" : "DATA\r\nall well\r\nstill well\r\n"
            assert.isTrue(sent.endsWith(told), sent)
            assert.deepStrictEqual(yield* server.received, [])
            const after = yield* Effect.flip(connection.send(base, "hi"))
            assert.deepInclude(after, { _tag: "ECONNECTION", attempted: false } as never)
          })
        ))
    breaks("an octet above 0x7f in a stream, not offered: the connection is closed without a dot", no8Bit, {})
    breaks("an octet above 0x7f in a stream held to 7 bits: the same", {}, { use8BitMime: false })
  })
})

describe("SMTPUTF8 (RFC 6531)", () => {
  const none = lacks({ smtpUtf8: false })
  const row = { tag: "EENVELOPE", field: "envelope.smtpUtf8", says: /SMTPUTF8/ } as const
  says([
    {
      name: "is declared for a sender that is not ASCII",
      envelope: { from: "é@me.test" },
      mail: ["SIZE=4", "SMTPUTF8"]
    },
    {
      name: "is declared for a recipient that is not ASCII",
      envelope: { to: ["bob@mx.test", "ü@mx.test"] },
      mail: ["SIZE=4", "SMTPUTF8"],
      paths: ["ann@me.test", "bob@mx.test", "ü@mx.test"]
    },
    { name: "is declared when asked for", envelope: { smtpUtf8: true }, mail: ["SIZE=4", "SMTPUTF8"] },
    { name: "does not follow from the content", message: eightBit, mail: ["SIZE=4", "BODY=8BITMIME"] },
    {
      name: "is not needed by a domain: it goes out as its A-labels",
      script: none,
      envelope: { from: "ann@bücher.example", to: "bob@例え.テスト" },
      mail: ["SIZE=4"],
      paths: ["ann@xn--bcher-kva.example", "bob@xn--r8jz45g.xn--zckzah"]
    },
    {
      name: "leaves domains A-labels beside a local part in UTF-8",
      envelope: { from: "é@bücher.example" },
      mail: ["SIZE=4", "SMTPUTF8"],
      paths: ["é@xn--bcher-kva.example", "bob@mx.test"]
    },
    {
      name: "lets the original recipient travel in UTF-8",
      envelope: { smtpUtf8: true, dsn: { orcpt: "ü@mx.test" } },
      mail: ["SIZE=4", "SMTPUTF8"],
      rcpt: [["ORCPT=utf-8;ü@mx.test"]]
    }
  ])
  refuses([
    {
      ...row,
      name: "needed by a sender and not offered ends before MAIL",
      script: none,
      envelope: { from: "é@x.test" }
    },
    {
      ...row,
      name: "needed by a recipient and not offered ends before MAIL",
      script: none,
      envelope: { to: "é@x.test" }
    },
    { ...row, name: "asked for and not offered ends before MAIL", script: none, envelope: { smtpUtf8: true } }
  ])
})

describe("DSN (RFC 3461)", () => {
  const none = lacks({ dsn: false })
  const dsn = { ret: "hdrs", envid: "id +1", notify: "success, failure", orcpt: "bob@mx.test" } as const
  says([
    {
      name: "is said as it was wished for",
      envelope: { dsn },
      mail: ["SIZE=4", "RET=HDRS", "ENVID=id+20+2B1"],
      rcpt: [["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;bob@mx.test"]]
    },
    {
      name: "is said per recipient, one wish over the other",
      envelope: {
        to: [
          "a@mx.test",
          { address: "b@mx.test", dsn: { notify: ["NEVER"] } },
          { address: "c@mx.test", dsn: { orcpt: "c@old.test" } }
        ],
        dsn: { notify: "DELAY" }
      },
      mail: ["SIZE=4"],
      rcpt: [["NOTIFY=DELAY"], ["NOTIFY=NEVER"], ["NOTIFY=DELAY", "ORCPT=rfc822;c@old.test"]]
    },
    {
      name: "optional and offered is said",
      envelope: { dsn: { ...dsn, optional: true } },
      mail: ["SIZE=4", "RET=HDRS", "ENVID=id+20+2B1"]
    },
    {
      name: "optional and not offered is omitted",
      script: none,
      envelope: { dsn: { ...dsn, optional: true } },
      mail: ["SIZE=4"],
      rcpt: [[]],
      omitted: ["DSN"]
    },
    {
      name: "optional without any wish omits nothing",
      script: none,
      envelope: { dsn: { optional: true } },
      mail: ["SIZE=4"]
    }
  ])
  const row = { script: none, tag: "EENVELOPE", field: "envelope.dsn", says: /DSN.*dsn\.optional/ } as const
  refuses([
    { ...row, name: "wished for at MAIL and not offered ends before MAIL", envelope: { dsn: { ret: "FULL" } } },
    { ...row, name: "an envid that cannot be said ends before MAIL", envelope: { dsn: { envid: "1" } } },
    {
      ...row,
      name: "wished for one recipient and not offered ends before MAIL",
      envelope: { to: ["a@x.test", { address: "b@x.test", dsn: { notify: "NEVER" } }] }
    }
  ])
})

describe("REQUIRETLS (RFC 8689)", () => {
  const requireTls = { requireTls: true }
  const row = { tag: "EREQUIRETLS", field: "envelope.requireTls", envelope: requireTls } as const
  says([
    { name: "is said over verified TLS", envelope: requireTls, mail: ["SIZE=4", "REQUIRETLS"] },
    { name: "is said over implicit TLS", options: { port: 465 }, envelope: requireTls, mail: ["SIZE=4", "REQUIRETLS"] },
    { name: "is not said unless asked for", mail: ["SIZE=4"] }
  ])
  refuses([
    {
      ...row,
      name: "not offered ends before MAIL",
      script: lacks({ requireTls: false }),
      says: /does not offer REQUIRETLS/
    },
    {
      ...row,
      name: "offered over TLS that does not verify ends before MAIL",
      script: { tls: { authorized: false } },
      options: { tlsOptions: { rejectUnauthorized: false } },
      says: /verified TLS/
    },
    {
      ...row,
      name: "offered over opportunistic TLS that does not verify ends before MAIL",
      script: { tls: { authorized: false } },
      options: { tls: "opportunistic" },
      says: /verified TLS/
    },
    {
      ...row,
      name: "offered in the clear ends before MAIL",
      script: offers("REQUIRETLS"),
      options: { tls: "off" },
      says: /verified TLS/
    }
  ])
})

describe("AUTH= (RFC 4954 section 5)", () => {
  says([
    {
      name: "is said where AUTH is offered",
      envelope: { auth: "=+@me.test" },
      mail: ["SIZE=4", "AUTH=+3D+2B@me.test"]
    },
    { name: "of somebody unknown is empty brackets", envelope: { auth: "<>" }, mail: ["SIZE=4", "AUTH=<>"] }
  ])
  refuses([{
    name: "not offered ends before MAIL",
    script: lacks({ auth: false }),
    envelope: { auth: "ann@me.test" },
    tag: "EENVELOPE",
    field: "envelope.auth",
    says: /does not offer AUTH/
  }])
})

describe("a plan", () => {
  /** Every sublist. */
  const subsets = <A>(all: ReadonlyArray<A>): ReadonlyArray<ReadonlyArray<A>> =>
    all.reduce<ReadonlyArray<ReadonlyArray<A>>>((lists, one) => lists.flatMap((list) => [list, [...list, one]]), [[]])

  const wishes: ReadonlyArray<Partial<Envelope.Input>> = [
    { size: 50 },
    { use8BitMime: true },
    { from: "é@me.test" },
    { dsn: { ret: "FULL" } },
    { requireTls: true },
    { auth: "<>" },
    { to: ["a@mx.test", { address: "b@mx.test", dsn: { notify: "NEVER" } }] }
  ]
  const contents = [undefined, { size: 200, hasEightBit: false }, { size: 20, hasEightBit: true }]
  const extensionOf: { readonly [keyword: string]: string } = {
    BODY: "8BITMIME",
    RET: "DSN",
    NOTIFY: "DSN"
  }
  const keywords = (line: string): ReadonlyArray<string> =>
    line.trim().split(">").slice(1).join(">").split(" ").filter((word) => word !== "").map((word) =>
      word.split("=", 1)[0]!
    )
  const text = (command: SmtpCommand.SmtpCommand): string =>
    new TextDecoder().decode(Result.getOrThrow(SmtpCommand.encode(command)))

  const check = (offered: ReadonlyArray<string>, input: Envelope.Input, content: (typeof contents)[number]) => {
    const envelope = Result.getOrThrow(Envelope.parse(input))
    const capabilities = SmtpCapabilities.fromReply(SmtpReply.make(250, "mx", ...offered))
    const plan = SmtpTransaction.plan({ envelope, capabilities, trusted: true, content })
    const has = (name: string) => offered.some((line) => line.split(" ", 1)[0] === name)
    const size = content?.size ?? envelope.size ?? 0
    const hasEightBit = content?.hasEightBit ?? envelope.use8BitMime === true
    const isPossible = (has("SIZE") ? size <= 100 : true) && (!hasEightBit || has("8BITMIME")) &&
      (!envelope.needsSmtpUtf8 || has("SMTPUTF8")) && (!envelope.needsDsn || has("DSN")) &&
      (!envelope.requireTls || has("REQUIRETLS")) && (envelope.auth === undefined || has("AUTH"))
    const about = JSON.stringify({ offered, input, content })
    assert.strictEqual(Result.isSuccess(plan), isPossible, about)
    if (Result.isFailure(plan)) return assert.isFalse(plan.failure.attempted)
    const mail = keywords(text(plan.success.mail))
    const rcpt = plan.success.recipients.flatMap(({ command }) => keywords(text(command)))
    for (const keyword of [...mail, ...rcpt]) assert.isTrue(has(extensionOf[keyword] ?? keyword), `${keyword} ${about}`)
    assert.strictEqual(rcpt.includes("NOTIFY"), Array.isArray(input.to), about)
    assert.deepStrictEqual(
      ["RET", "REQUIRETLS", "SMTPUTF8", "AUTH"].filter((keyword) => mail.includes(keyword)),
      [input.dsn && "RET", input.requireTls && "REQUIRETLS", envelope.needsSmtpUtf8 && "SMTPUTF8", input.auth && "AUTH"]
        .filter((keyword) => typeof keyword === "string"),
      about
    )
    if (hasEightBit) assert.isTrue(mail.includes("BODY") && plan.success.allowsEightBit, about)
  }

  it("for every set of extensions, wishes and contents says only what is offered and drops nothing", () => {
    for (const offered of subsets(["SIZE 100", "8BITMIME", "SMTPUTF8", "DSN", "REQUIRETLS", "AUTH PLAIN"])) {
      for (const some of subsets(wishes)) {
        const input = some.reduce<Envelope.Input>((all, wish) => ({ ...all, ...wish }), base)
        for (const content of contents) check(offered, input, content)
      }
    }
  })
})

describe.each(modes)("a reply of the wrong class, $name", ({ isFlight, options, via }) => {
  const steps = [
    ["mail", 354, "MAIL FROM", isFlight],
    ["rcpt", 354, "RCPT TO", isFlight],
    ...(via === "DATA" ? [["data", 250, "DATA", false]] as const : []),
    ["message", 354, via, true]
  ] as const
  for (const [step, code, command, inDoubt] of steps) {
    it.effect(`${code} at ${step} is EPROTOCOL and closes the connection`, () =>
      withServer(
        { extensions: open, faults: [SmtpServer.at(step, SmtpServer.answer(code, "what?"))] },
        Effect.gen(function*() {
          const { connection, exit } = yield* send({ name: "", options })
          const error = yield* Effect.flip(Effect.fromResult(exit))
          assert.deepInclude(error, { _tag: "EPROTOCOL", command, inDoubt, responseCode: code } as never)
          const after = yield* Effect.flip(connection.noop)
          assert.deepInclude(after, { _tag: "ECONNECTION", attempted: false } as never)
        })
      ))
  }
})
