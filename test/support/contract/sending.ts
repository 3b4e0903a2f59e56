/** The checks of one message: its octets, its recipients, its size, and what its envelope asks for. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { Readable } from "node:stream"
import * as DotStuffing from "../../../src/DotStuffing.ts"
import * as NodeMessage from "../../../src/node/NodeMessage.ts"
import type { SmtpConnection } from "../../../src/SmtpConnection.ts"
import * as SmtpError from "../../../src/SmtpError.ts"
import {
  check,
  doesLack,
  fails,
  type Finding,
  holds,
  instead,
  type Needs,
  offered,
  open,
  ready,
  sender,
  type Service,
  shown,
  type Special,
  type specials,
  viaOf
} from "./subject.ts"

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text)

/** Every kind of line end, dots where they matter, no line end at the end. */
const rough = (subject: string): string => `Subject: ${subject}\n\n.\n..two\r\rbare\r\n.\rend.\n.no newline at the end`

const sendsAs = (
  kind: string,
  as: (text: string) => Stream.Stream<Uint8Array | string, SmtpError.ESTREAM> | Uint8Array | string
) =>
  check(`sends ${kind}, and it is stored in canonical form`, (subject) =>
    Effect.gen(function*() {
      const connection = yield* ready(subject)
      const to = subject.mailbox("body")
      const text = rough(kind)
      const expected = DotStuffing.canonical(text)
      const result = yield* connection.send({ from: sender, to }, as(text))
      assert.deepStrictEqual(result.accepted, [to])
      assert.deepStrictEqual([...result.rejected, ...result.rejectedErrors, ...result.omitted], [])
      assert.strictEqual(result.messageSize, expected.length)
      assert.strictEqual(result.reply.code, 250)
      assert.strictEqual(result.response, result.reply.text)
      yield* holds(subject, to, expected)
      return doesLack(subject.stored) ? instead(`sent; ${subject.stored.lacks}`) : shown
    }))

const bodies = [
  sendsAs("a string", (text) => text),
  sendsAs("bytes", bytesOf),
  sendsAs(
    "a stream of single octets",
    (text) => Stream.fromIterable([...bytesOf(text)].map((octet) => Uint8Array.of(octet)))
  ),
  sendsAs("a Node stream", (text) => NodeMessage.fromReadable(() => Readable.from(text.split(/(?<=\r)/))))
]

const plain = (subject: string): string => `Subject: ${subject}\r\n\r\nHello\r\n`

const nullSender = check("sends from the null sender", (subject) =>
  Effect.gen(function*() {
    const connection = yield* ready(subject)
    const to = subject.mailbox("bounce")
    yield* connection.send({ from: "", to }, plain("bounce"))
    yield* holds(subject, to, bytesOf(plain("bounce")))
    return shown
  }))

type Fate = typeof specials[number]

/** A check about a recipient with a fate; on a server that has none such, that the message is accepted. */
const fate = (
  title: string,
  kind: Fate,
  run: (subject: Service, special: Special, connection: SmtpConnection) => Effect.Effect<Finding, unknown, Needs>
) =>
  check(title, (subject) =>
    Effect.gen(function*() {
      const special = subject.recipients[kind]
      if (!doesLack(special)) return yield* run(subject, special, yield* ready(subject, special.door))
      const connection = yield* ready(subject)
      const to = special.address ?? subject.mailbox(kind)
      const result = yield* connection.send({ from: sender, to }, plain(kind))
      assert.deepStrictEqual(result.accepted, [to])
      return instead(special.lacks)
    }))

/** The next message goes through; where nobody gets one, the next command. */
const goesOn = (subject: Service, { door }: Special, connection: SmtpConnection) =>
  door === undefined
    ? Effect.asVoid(connection.send({ from: sender, to: subject.mailbox("next") }, plain("next")))
    : connection.reset

const rejectedOf = (error: SmtpError.SmtpError): ReadonlyArray<string | undefined> | undefined =>
  error._tag === "EENVELOPE" ? error.rejectedErrors?.map(({ recipient }) => recipient) : undefined

const refusesAll = instead("refuses all or none")

const partial = fate(
  "a partial refusal: the others get the message",
  "refused",
  (subject, special, connection) =>
    Effect.gen(function*() {
      const { address, code, door } = special
      const [first, last] = [subject.mailbox("first"), subject.mailbox("last")]
      const send = connection.send({ from: sender, to: [first, address, last] }, plain("partial"))
      if (door !== undefined) {
        const error = yield* fails(send, { tag: "EENVELOPE", code })
        assert.deepStrictEqual(rejectedOf(error), [first, address, last])
        return refusesAll
      }
      const result = yield* send
      assert.deepStrictEqual(result.accepted, [first, last])
      assert.deepStrictEqual(result.rejected, [address])
      assert.deepStrictEqual(
        result.rejectedErrors.map((
          { _tag, isTemporary, recipient, responseCode }
        ) => [_tag, recipient, responseCode, isTemporary]),
        [["EENVELOPE", address, code, false]]
      )
      yield* holds(subject, first, bytesOf(plain("partial")))
      yield* holds(subject, last, bytesOf(plain("partial")))
      return shown
    })
)

const everyone = fate(
  "requireAllRecipients sends to nobody if one is refused",
  "refused",
  (subject, special, connection) =>
    Effect.gen(function*() {
      const none = subject.mailbox("none")
      const to = [none, special.address]
      const send = connection.send({ from: sender, to, requireAllRecipients: true }, plain("nobody gets this"))
      const error = yield* fails(send, { tag: "EENVELOPE", code: special.code })
      assert.deepStrictEqual(rejectedOf(error), special.door === undefined ? [special.address] : to)
      if (special.door !== undefined) return refusesAll
      const after = subject.mailbox("after")
      yield* connection.send({ from: sender, to: after }, plain("after"))
      yield* holds(subject, after, bytesOf(plain("after")))
      if (!doesLack(subject.stored)) {
        assert.isFalse(yield* subject.stored.has(none, bytesOf(plain("nobody gets this"))), "it was sent all the same")
      }
      return shown
    })
)

const refused = fate(
  "all refused: EENVELOPE, permanent, usable afterwards",
  "refused",
  (subject, special, connection) =>
    Effect.gen(function*() {
      const { address, code } = special
      const error = yield* fails(connection.send({ from: sender, to: address }, plain("x")), { tag: "EENVELOPE", code })
      assert.deepStrictEqual([error.command, error.isTemporary], ["RCPT TO", false])
      yield* goesOn(subject, special, connection)
      return shown
    })
)

const deferred = fate(
  "deferred: EENVELOPE, temporary, usable afterwards",
  "deferred",
  (subject, special, connection) =>
    Effect.gen(function*() {
      const { address, code } = special
      const error = yield* fails(connection.send({ from: sender, to: address }, plain("x")), { tag: "EENVELOPE", code })
      assert.strictEqual(SmtpError.isRetryable(error), true)
      yield* goesOn(subject, special, connection)
      return shown
    })
)

const atData = fate(
  "refused at DATA or BDAT: EENVELOPE or EMESSAGE, usable afterwards",
  "atData",
  (subject, special, connection) =>
    Effect.gen(function*() {
      const { address, code } = special
      const via = viaOf(subject)
      // BDAT brings the message with it.
      const tag = via === "DATA" ? "EENVELOPE" : "EMESSAGE"
      const error = yield* fails(connection.send({ from: sender, to: address }, plain("x")), { tag, code })
      assert.deepStrictEqual([error.command, error.isTemporary, error.inDoubt], [via, code < 500, false])
      yield* goesOn(subject, special, connection)
      return shown
    })
)

const afterData = fate(
  "refused after the message: EMESSAGE, usable afterwards",
  "afterData",
  (subject, special, connection) =>
    Effect.gen(function*() {
      const { address, code } = special
      const error = yield* fails(connection.send({ from: sender, to: address }, plain("x")), { tag: "EMESSAGE", code })
      assert.deepStrictEqual([error.command, error.inDoubt, error.isTemporary], [viaOf(subject), false, code < 500])
      yield* goesOn(subject, special, connection)
      return shown
    })
)

const perRecipient = check(
  "final replies: one per recipient over LMTP, one for all over SMTP",
  (subject) =>
    Effect.gen(function*() {
      const connection = yield* ready(subject)
      const good = [subject.mailbox("one"), subject.mailbox("two")]
      const special = subject.recipients.afterData
      const isLmtp = subject.profile.protocol === "lmtp"
      const bad = doesLack(special) || special.forAll === true || !isLmtp ? [] : [special]
      const to = [...good, ...bad.map(({ address }) => address)].toReversed()
      const result = yield* connection.send({ from: sender, to }, plain("each"))
      assert.deepStrictEqual(result.accepted, good.toReversed())
      assert.deepStrictEqual(
        result.rejectedErrors.map(({ _tag, recipient, responseCode }) => [_tag, recipient, responseCode]),
        bad.map(({ address, code }) => ["EMESSAGE", address, code])
      )
      for (const address of good) yield* holds(subject, address, bytesOf(plain("each")))
      // A reply too many or too few would show here.
      yield* connection.noop
      if (!isLmtp) return instead("one for all")
      return bad.length === 0 ? instead("one each; all agree") : shown
    })
)

const withoutLimit = (subject: Service, because: string): Finding => {
  assert.isUndefined(subject.profile.sizeLimit, "a server with a limit has to show this")
  return instead(because)
}

const bounded = check(
  "a message that is announced as too large is EMESSAGE, before MAIL",
  (subject) =>
    Effect.gen(function*() {
      const { limited } = subject.doors
      const to = subject.mailbox("large")
      if (doesLack(limited)) {
        const connection = yield* ready(subject)
        yield* connection.send({ from: sender, to, size: 1e12 }, Stream.make(plain("no limit")))
        return withoutLimit(subject, limited.lacks)
      }
      const connection = yield* open(limited.door)
      const { atLimit, limit } = limited
      assert.strictEqual(connection.capabilities.sizeLimit, limit)
      const send = connection.send({ from: sender, to, size: limit + 1 }, Stream.make("x"))
      yield* fails(send, { tag: "EMESSAGE", attempted: false })
      const largest = connection.send({ from: sender, to, size: limit }, Stream.make(plain("as announced, or less")))
      if (atLimit === undefined) {
        yield* largest
        return shown
      }
      yield* fails(largest, { tag: "EENVELOPE", code: atLimit })
      return instead(`yes; ${atLimit} for its SIZE itself, too`)
    })
)

const chunk = new TextEncoder().encode(`${"a".repeat(998)}\r\n`.repeat(64))

const oversized = check("a message that turns out to be too large is EMESSAGE", (subject) =>
  Effect.gen(function*() {
    const { limited } = subject.doors
    if (doesLack(limited)) return withoutLimit(subject, limited.lacks)
    const connection = yield* open(limited.door)
    const message = Stream.concat(
      Stream.make(plain("too large")),
      Stream.take(Stream.forever(Stream.make(chunk)), Math.ceil(limited.limit / chunk.length) + 1)
    )
    const send = connection.send({ from: sender, to: subject.mailbox("large") }, message)
    const error = yield* fails(send, { tag: "EMESSAGE", code: limited.then })
    assert.strictEqual(error.inDoubt, false)
    yield* connection.noop
    return shown
  }))

const dsn = check("DSN parameters are sent, or EENVELOPE before MAIL", (subject) =>
  Effect.gen(function*() {
    const connection = yield* ready(subject)
    const to = subject.mailbox("dsn")
    const wishes = {
      ret: "HDRS",
      envid: "id+1=2 x",
      notify: ["SUCCESS", "FAILURE", "DELAY"],
      orcpt: "the+one=original@client.test"
    } as const
    const send = (isOptional: boolean) =>
      connection.send({ from: sender, to, dsn: { ...wishes, optional: isOptional } }, plain("dsn"))
    if (offered(subject).includes("DSN")) {
      const result = yield* send(false)
      assert.deepStrictEqual(result.omitted, [])
      return shown
    }
    yield* fails(send(false), { tag: "EENVELOPE", attempted: false })
    const result = yield* send(true)
    assert.deepStrictEqual(result.omitted, ["DSN"])
    return instead("not offered: EENVELOPE")
  }))

const smtpUtf8 = check(
  "SMTPUTF8: addresses that are not ASCII, or EENVELOPE before MAIL",
  (subject) =>
    Effect.gen(function*() {
      const connection = yield* ready(subject)
      const to = subject.mailbox("jörg")
      const message = "Subject: grüße\r\n\r\n用户\r\n"
      const send = connection.send({ from: "用户@client.test", to }, message)
      if (!offered(subject).includes("SMTPUTF8")) {
        yield* fails(send, { tag: "EENVELOPE", attempted: false })
        yield* connection.noop
        return instead("not offered: EENVELOPE")
      }
      assert.deepStrictEqual((yield* send).accepted, [to])
      yield* holds(subject, to, bytesOf(message))
      return shown
    })
)

const eightBit = check("8BITMIME: octets above 0x7f, or EMESSAGE before MAIL", (subject) =>
  Effect.gen(function*() {
    const connection = yield* ready(subject)
    const to = subject.mailbox("eight")
    const message = Uint8Array.from([...bytesOf("Subject: eight\r\n\r\n"), 0x80, 0xe9, 0xff, 0x0d, 0x0a])
    const send = connection.send({ from: sender, to }, message)
    if (!offered(subject).includes("8BITMIME")) {
      yield* fails(send, { tag: "EMESSAGE", attempted: false })
      yield* connection.noop
      return instead("not offered: EMESSAGE")
    }
    yield* send
    yield* holds(subject, to, message)
    return shown
  }))

const requireTls = check("REQUIRETLS is passed on, or EREQUIRETLS before MAIL", (subject) =>
  Effect.gen(function*() {
    const connection = yield* ready(subject)
    const send = connection.send({ from: sender, to: subject.mailbox("tls"), requireTls: true }, plain("tls"))
    if (offered(subject).includes("REQUIRETLS")) {
      yield* send
      return shown
    }
    yield* fails(send, { tag: "EREQUIRETLS", attempted: false })
    yield* connection.noop
    return instead("not offered: EREQUIRETLS")
  }))

export const sending = [
  ...bodies,
  nullSender,
  partial,
  everyone,
  refused,
  deferred,
  atData,
  afterData,
  perRecipient,
  bounded,
  oversized,
  dsn,
  smtpUtf8,
  eightBit,
  requireTls
]
