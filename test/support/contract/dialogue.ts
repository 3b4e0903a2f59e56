/** The checks of a connection in the long run: many messages, many recipients, the small commands, its end. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import { Buffer } from "node:buffer"
import { Readable } from "node:stream"
import * as DotStuffing from "../../../src/DotStuffing.ts"
import * as NodeMessage from "../../../src/node/NodeMessage.ts"
import * as SmtpClient from "../../../src/SmtpClient.ts"
import {
  check,
  doesLack,
  fails,
  holds,
  instead,
  named,
  offered,
  open,
  ready,
  sender,
  type Service,
  shown,
  viaOf
} from "./subject.ts"

const octets = (text: string): Uint8Array => new TextEncoder().encode(text)
const plain = (subject: string): string => `Subject: ${subject}\r\n\r\nHello\r\n`

const second = check("sends a second message on the same connection", (subject) =>
  Effect.gen(function*() {
    const connection = yield* ready(subject)
    for (const tag of ["one", "two"]) {
      const to = subject.mailbox(tag)
      yield* connection.send({ from: sender, to }, plain(tag))
      yield* holds(subject, to, octets(plain(tag)))
    }
    return shown
  }))

const sequence = check("sends 20 messages in a row, each answered in order", (subject) =>
  Effect.gen(function*() {
    const connection = yield* ready(subject)
    const mails = Array.from({ length: 20 }, (_, i) => ({ to: subject.mailbox("row"), message: plain(`row ${i}`) }))
    const results = yield* Stream.runCollect(connection.sendAll(
      Stream.fromIterable(mails.map(({ message, to }) => ({ envelope: { from: sender, to }, message })))
    ))
    assert.deepStrictEqual(
      results.map((result) => Result.isSuccess(result) ? result.success.accepted : result.failure.message),
      mails.map(({ to }) => [to])
    )
    for (const { message, to } of mails) yield* holds(subject, to, octets(message))
    return shown
  }))

const many = check("sends one message to 100 recipients", (subject) =>
  Effect.gen(function*() {
    const connection = yield* ready(subject)
    const to = Array.from({ length: 100 }, () => subject.mailbox("many"))
    const { recipientLimit } = subject.profile
    const result = yield* connection.send({ from: sender, to }, plain("many"))
    assert.deepStrictEqual(result.accepted, to)
    assert.deepStrictEqual([...result.rejected, ...result.rejectedErrors], [])
    for (const address of [to[0], to[99]]) if (address) yield* holds(subject, address, octets(plain("many")))
    if (recipientLimit === undefined) return shown
    const stream = connection.send({ from: sender, to }, Stream.make(plain("once")))
    const { accepted, rejectedErrors } = yield* stream
    assert.deepStrictEqual(accepted, to.slice(0, recipientLimit))
    assert.isTrue(rejectedErrors.every(({ isTemporary }) => isTemporary), "those too many may be tried later")
    return instead(`${recipientLimit} in a transaction: in several; a stream that is read once, to ${recipientLimit}`)
  }))

const reset = check("reset forgets the transaction", (subject) =>
  Effect.gen(function*() {
    const { refused } = subject.recipients
    const connection = yield* ready(subject, doesLack(refused) ? {} : refused.door)
    const to = [subject.mailbox("reset"), ...(doesLack(refused) ? [] : [refused.address])]
    const send = connection.send({ from: sender, to, requireAllRecipients: true }, plain("reset"))
    if (!doesLack(refused)) yield* fails(send, { tag: "EENVELOPE" })
    yield* connection.reset
    yield* connection.reset
    const hasOwnDoor = !doesLack(refused) && refused.door !== undefined
    if (!hasOwnDoor) yield* connection.send({ from: sender, to: subject.mailbox("reset") }, plain("reset"))
    return shown
  }))

const noop = check("noop is answered", (subject) =>
  Effect.gen(function*() {
    const connection = yield* open(subject.doors.main)
    yield* connection.noop
    yield* connection.noop
    return shown
  }))

const data = check("the replies to vrfy, expn and help are data", (subject) =>
  Effect.gen(function*() {
    const connection = yield* ready(subject)
    const replies = {
      vrfy: (yield* connection.vrfy(subject.mailbox("vrfy"))).code,
      expn: (yield* connection.expn("staff")).code,
      help: (yield* connection.help()).code
    }
    assert.deepStrictEqual(replies, subject.profile.replies)
    yield* connection.noop
    return shown
  }))

const quit = check("quit ends the connection, and later calls say so", (subject) =>
  Effect.gen(function*() {
    const connection = yield* ready(subject)
    yield* connection.quit
    yield* connection.quit
    const send = connection.send({ from: sender, to: subject.mailbox("quit") }, plain("quit"))
    const error = yield* fails(send, { tag: "ECONNECTION", attempted: false })
    assert.strictEqual(error.command, "API")
    return shown
  }))

const lost = check(
  "a server that closes without a word: ECONNECTION, in doubt if the message went with the commands",
  (subject) =>
    Effect.gen(function*() {
      const { closesAtData } = subject.doors
      const envelope = { from: sender, to: subject.mailbox("lost") }
      if (doesLack(closesAtData)) {
        yield* (yield* ready(subject)).send(envelope, plain("not lost"))
        return instead(closesAtData.lacks)
      }
      const connection = yield* open(closesAtData)
      const error = yield* fails(connection.send(envelope, plain("lost")), { tag: "ECONNECTION", attempted: true })
      const via = viaOf(subject)
      assert.deepStrictEqual([error.command, error.isTemporary, error.inDoubt], [via, true, via === "BDAT"])
      yield* fails(connection.noop, { tag: "ECONNECTION", attempted: false })
      return shown
    })
)

const closing = check(
  "a server that says 421 and closes: ECONNECTION, then nothing is attempted",
  (subject) =>
    Effect.gen(function*() {
      const special = subject.recipients.closing
      const connection = yield* ready(subject, doesLack(special) ? {} : special.door)
      if (doesLack(special)) {
        const to = special.address ?? subject.mailbox("closing")
        yield* connection.send({ from: sender, to }, plain("closing"))
        return instead(special.lacks)
      }
      const send = connection.send({ from: sender, to: special.address }, plain("closing"))
      const error = yield* fails(send, { tag: "ECONNECTION", code: special.code })
      assert.deepStrictEqual([error.isTemporary, error.inDoubt], [true, false])
      yield* fails(connection.noop, { tag: "ECONNECTION", attempted: false })
      return shown
    })
)

const refusing = check("a server that refuses in its greeting: ECONNECTION", (subject) =>
  Effect.gen(function*() {
    const { main, refusesInGreeting } = subject.doors
    if (doesLack(refusesInGreeting)) {
      yield* open(main)
      return instead(refusesInGreeting.lacks)
    }
    const error = yield* fails(open(refusesInGreeting), { tag: "ECONNECTION" })
    assert.include([421, 554], error.responseCode)
    return shown
  }))

const service = check("the service verifies, sends, and lends a connection", (subject) =>
  Effect.gen(function*() {
    const { doors, profile } = subject
    const needsLogin = profile.withoutLogin !== "accepted"
    const client = yield* SmtpClient.make(named({ ...doors.main, ...(needsLogin ? { auth: subject.account } : {}) }))
    const report = yield* client.verify
    assert.deepStrictEqual(
      [report.greeting.code, report.secure, report.authenticated],
      [220, profile.offers.secure !== undefined, needsLogin]
    )
    const to = subject.mailbox("service")
    yield* client.send({ from: sender, to }, plain("service"))
    yield* holds(subject, to, octets(plain("service")))
    yield* client.use((connection) => Effect.andThen(connection.reset, connection.noop))
    return shown
  }))

/** What the manual of Nodemailer's SMTPConnection says of envelopes; DSN goes to those who offer it. */
const envelopes = (subject: Service, to: ReadonlyArray<string>) => {
  const hasDsn = offered(subject).includes("DSN")
  const dsn = (wishes: object) => hasDsn ? [{ from: sender, to: to[0]!, dsn: wishes }] : []
  return [
    { from: sender, to: to[0]! },
    { from: sender, to },
    { from: sender, to: [...to], size: 1000 },
    ...(offered(subject).includes("8BITMIME") ? [{ from: sender, to, use8BitMime: true }] : []),
    { from: sender, to, use8BitMime: false },
    ...dsn({ ret: "FULL", envid: "some random id", notify: ["SUCCESS", "FAILURE"], orcpt: sender }),
    ...dsn({ ret: "HDRS", notify: "SUCCESS,FAILURE,DELAY" }),
    ...dsn({ notify: "NEVER" })
  ]
}

const documented = check(
  "Nodemailer's documented envelopes and messages are taken as they are",
  (subject) =>
    Effect.gen(function*() {
      const connection = yield* ready(subject)
      const to = [subject.mailbox("seed"), subject.mailbox("seed")]
      const text = "Subject: seed\n\n.newlines are converted\nand dots are escaped\n"
      const messages = [
        () => text,
        () => Buffer.from(text),
        () => NodeMessage.fromReadable(() => Readable.from([Buffer.from(text)]))
      ]
      for (const [i, envelope] of envelopes(subject, to).entries()) {
        const result = yield* connection.send(envelope, messages[i % messages.length]!())
        assert.deepStrictEqual(result.accepted, [envelope.to].flat())
        assert.deepStrictEqual([...result.rejected, ...result.rejectedErrors], [])
        assert.strictEqual(typeof result.response, "string")
      }
      for (const address of to) yield* holds(subject, address, DotStuffing.canonical(text))
      const never = connection.send({ from: sender, to, dsn: { notify: "NEVER,SUCCESS" } }, text)
      yield* fails(never, { tag: "EENVELOPE", attempted: false }, "NEVER with another word")
      const nobody = connection.send({ from: sender, to: [] }, text)
      assert.strictEqual((yield* fails(nobody, { tag: "EENVELOPE", attempted: false })).code, "EENVELOPE")
      return offered(subject).includes("DSN") ? shown : instead("all but DSN")
    })
)

export const dialogue = [
  second,
  sequence,
  many,
  reset,
  noop,
  data,
  quit,
  closing,
  lost,
  refusing,
  service,
  documented
]
