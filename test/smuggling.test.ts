/**
 * A server that refuses BDAT before it looks at the command takes the message behind it for commands, and answers them:
 * Postfix and Dovecot do with 530. Who wrote the message wrote those commands, and must not speak for other mails.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import type * as SmtpConnection from "../src/SmtpConnection.ts"
import { manually, type Peer } from "./support/raw.ts"

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
