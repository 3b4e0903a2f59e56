/**
 * A server that refuses BDAT before it looks at the command takes the message behind it for commands, and answers them:
 * Postfix and Dovecot do with 530. Who wrote the message wrote those commands: they are not to be written, and must not
 * speak for other mails.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import * as Sasl from "../src/Sasl.ts"
import type * as SmtpConnection from "../src/SmtpConnection.ts"
import { all as offered, begun, manually, type Peer } from "./support/raw.ts"

const mails: ReadonlyArray<SmtpConnection.Mail> = ["NOOP\r\n".repeat(20), "second", "third"].map((message, i) => ({
  envelope: { from: "ann@me.test", to: `r${i}@mx.test` },
  message
}))

/** What `sendAll` makes of replies to three flights, "sent" or the tag of the error. */
const told = (replies: ReadonlyArray<string>, say: (peer: Peer, replies: ReadonlyArray<string>) => void) =>
  manually({}, (connection, peer, probe) =>
    Effect.gen(function*() {
      const all = Stream.runCollect(connection.sendAll(Stream.fromIterable(mails)))
      const fiber = yield* Effect.forkDetach(all, { startImmediately: true })
      yield* probe.quiet
      assert.lengthOf(peer.writes.join("").match(/^BDAT \d+ LAST/gm) ?? [], 3)
      say(peer, replies)
      const results = yield* Fiber.join(fiber)
      assert.isFalse(peer.isOpen)
      return results.map((result) => Result.isSuccess(result) ? "sent" : result.failure._tag)
    }))

const ways: ReadonlyArray<readonly [string, (peer: Peer, replies: ReadonlyArray<string>) => void]> = [
  ["in one segment", (peer, replies) => peer.say(...replies)],
  ["one by one", (peer, replies) => {
    for (const reply of replies) peer.say(reply)
  }]
]
const cases = [500, 502, 530].flatMap((code) => ways.map(([name, say]) => [code, name, say] as const))

describe("the commands in a message", () => {
  it.effect.each(cases)(
    "forge no reply to another mail behind a BDAT refused by %d, %s",
    ([code, , say]) =>
      Effect.gen(function*() {
        const results = yield* told(
          [`${code} MAIL`, `${code} RCPT`, `${code} BDAT`, ...Array(20).fill("250 NOOP")],
          say
        )
        assert.lengthOf(results, 3)
        assert.notInclude(results, "sent")
      })
  )

  it.effect.each(cases)("nor where the recipient was accepted: %d, %s", ([code, , say]) =>
    Effect.gen(function*() {
      const results = yield* told(["250 MAIL", "250 RCPT", `${code} BDAT`, ...Array(20).fill("250 NOOP")], say)
      assert.deepStrictEqual([results.length, results[0], results.includes("sent")], [3, "EMESSAGE", false])
    }))
})

describe("a refused chunk", () => {
  it.effect.each(["550 BDAT", "451 BDAT"])(
    "is followed by RSET, though MAIL was refused, too: %s",
    (refusal) =>
      manually({}, (connection, peer, probe) =>
        Effect.gen(function*() {
          const { envelope, message } = mails[1]!
          const begun = (effect: Effect.Effect<unknown, unknown>) =>
            Effect.tap(Effect.forkDetach(Effect.exit(effect), { startImmediately: true }), () => probe.quiet)
          const first = yield* begun(connection.send(envelope, message))
          peer.hear()
          peer.say("550 MAIL", "503 RCPT", refusal)
          yield* Fiber.join(first)
          const second = yield* begun(connection.send(envelope, message))
          assert.match(peer.hear().join(""), /^RSET\r\nMAIL /)
          peer.say("250 RSET", "250 MAIL", "250 RCPT", "250 BDAT")
          yield* Fiber.join(second)
          assert.isTrue(connection.isUsable)
        }))
  )
})

describe("replies that lost step", () => {
  it.effect.each(ways)("answer no mail behind the one that they betray, %s", ([, say]) =>
    Effect.gen(function*() {
      const results = yield* told(["354 MAIL", ...Array(20).fill("250 anything")], say)
      assert.deepStrictEqual([results.length, results[0], results.includes("sent")], [3, "EPROTOCOL", false])
    }))

  it.effect.each(ways)(
    "are not those of a server that ends the connection behind them, %s",
    ([, say]) =>
      Effect.gen(function*() {
        const replies = ["250 MAIL", "250 RCPT", "250 first", "250 RSET", "250 MAIL", "250 RCPT", "250 second"]
        const results = yield* told(replies, (peer, lines) => {
          say(peer, lines)
          peer.end()
        })
        assert.deepStrictEqual(results, ["sent", "sent", "ECONNECTION"])
      })
  )
})

/** Answers each line with 530 as Postfix does, the lines of a message too. */
const refuseAll = (peer: Peer): void => {
  peer.onWrite = (text) => {
    const replies = text.split("\r\n").slice(0, -1).map((line) => line === "QUIT" ? "221 bye" : "530 first log in")
    queueMicrotask(() => peer.say(...replies))
  }
}

type Connection = SmtpConnection.SmtpConnection

const sendEach = (connection: Connection, which: ReadonlyArray<SmtpConnection.Mail>) =>
  Effect.forEach(which, ({ envelope, message }) => Effect.result(connection.send(envelope, message)))

const sendAll = (connection: Connection, which: ReadonlyArray<SmtpConnection.Mail>) =>
  Stream.runCollect(connection.sendAll(Stream.fromIterable(which)))

const doors = ["AUTH PLAIN", "STARTTLS"]
const calls = { send: sendEach, sendAll }
const doorCases = doors.flatMap((door) => (["send", "sendAll"] as const).map((call) => [door, call] as const))

/** One of each kind: in two transactions (LIMITS RCPTMAX), a stream, and octets as they are. */
const kinds: ReadonlyArray<SmtpConnection.Mail> = [
  ...mails,
  { envelope: { from: "ann@me.test", to: ["r1@mx.test", "r2@mx.test"] }, message: "NOOP" },
  { envelope: { from: "ann@me.test", to: "r1@mx.test" }, message: Stream.make("NOOP\r\n".repeat(20_000), "end") },
  { envelope: { from: "ann@me.test", to: "r1@mx.test", binaryMime: true }, message: "NOOP\r\n" }
]

const login = Sasl.password({ username: "ann", password: Redacted.make("secret") })

describe("a server that may wait for a login or TLS", () => {
  it.effect.each(doorCases)("gets no octet of a message while it refuses MAIL: %s, %s", ([door, call]) =>
    manually(
      { offers: [...offered, "LIMITS RCPTMAX=1", door], options: { chunking: "always" } },
      (connection, peer, probe) =>
        Effect.gen(function*() {
          refuseAll(peer)
          const results = yield* Fiber.join(yield* begun(calls[call](connection, kinds), probe))
          const tags = results.map((result) => Result.isSuccess(result) ? "sent" : result.failure._tag)
          assert.deepStrictEqual(tags, kinds.map(() => "ENOAUTH"))
          assert.match(peer.hear().join(""), /^(MAIL FROM:<[^>]*>[^\r]*\r\n(RCPT TO:<[^>]*>\r\n)+){6}$/)
          assert.isTrue(connection.isUsable)
        })
    ))

  it.effect.each(doors)(
    "gets flights once it has accepted MAIL, after RSET too: %s",
    (door) =>
      manually({ offers: [...offered, door] }, (connection, peer, probe) =>
        Effect.gen(function*() {
          const { envelope, message } = mails[1]!
          const send = connection.send(envelope, message)
          const refused = yield* begun(Effect.flip(send), probe)
          assert.match(peer.hear().join(""), /^MAIL [^\r]+\r\nRCPT [^\r]+\r\n$/)
          peer.say("530 first log in", "530 first log in")
          yield* Fiber.join(refused)
          const first = yield* begun(send, probe)
          assert.match(peer.hear().join(""), /^MAIL [^\r]+\r\nRCPT [^\r]+\r\n$/)
          peer.say("250 MAIL", "250 RCPT")
          yield* probe.quiet
          assert.deepStrictEqual(peer.hear(), ["BDAT 8 LAST\r\nsecond\r\n"])
          peer.say("250 BDAT")
          yield* Fiber.join(first)
          const reset = yield* begun(connection.reset, probe)
          peer.hear()
          peer.say("250 RSET")
          yield* Fiber.join(reset)
          const second = yield* begun(send, probe)
          assert.match(peer.hear().join(""), /^MAIL [^\r]+\r\nRCPT [^\r]+\r\nBDAT 8 LAST\r\nsecond\r\n$/)
          peer.say("250 MAIL", "250 RCPT", "250 BDAT")
          yield* Fiber.join(second)
        }))
  )

  it.effect.each(doors)(
    "gets them by sendAll behind the first message: %s",
    (door) =>
      manually({ offers: [...offered, door] }, (connection, peer, probe) =>
        Effect.gen(function*() {
          const all = yield* begun(sendAll(connection, mails.slice(1)), probe)
          assert.match(peer.hear().join(""), /^MAIL [^\r]+\r\nRCPT [^\r]+\r\n$/)
          peer.say("250 MAIL", "250 RCPT")
          yield* probe.quiet
          assert.match(
            peer.hear().join(""),
            /^BDAT 8 LAST\r\nsecond\r\nRSET\r\nMAIL [^\r]+\r\nRCPT [^\r]+\r\nBDAT 7 LAST\r\nthird\r\n$/
          )
          peer.say("250 BDAT", "250 RSET", "250 MAIL", "250 RCPT", "250 BDAT")
          assert.deepStrictEqual((yield* Fiber.join(all)).map(Result.isSuccess), [true, true])
        }))
  )

  it.effect.each([["235 in", true], ["535 out", false]] as const)(
    "gets them at once behind a login that it took: %s",
    ([reply, isTaken]) =>
      manually({ offers: [...offered, "STARTTLS", "AUTH PLAIN"] }, (connection, peer, probe) =>
        Effect.gen(function*() {
          const attempt = yield* begun(Effect.exit(connection.login(login)), probe)
          peer.hear()
          peer.say(reply)
          yield* Fiber.join(attempt)
          const all = yield* begun(Effect.exit(sendAll(connection, mails)), probe)
          assert.lengthOf(peer.hear().join("").match(/^BDAT \d+ LAST/gm) ?? [], isTaken ? 3 : 0)
          peer.end()
          yield* Fiber.join(all)
        }))
  )

  it.effect("is none that offers neither: it gets flights at once", () =>
    manually({}, (connection, peer, probe) =>
      Effect.gen(function*() {
        const { envelope, message } = mails[1]!
        const sent = yield* begun(connection.send(envelope, message), probe)
        assert.match(peer.hear().join(""), /^MAIL [^\r]+\r\nRCPT [^\r]+\r\nBDAT 8 LAST\r\nsecond\r\n$/)
        peer.say("250 MAIL", "250 RCPT", "250 BDAT")
        yield* Fiber.join(sent)
      })))
})
