/**
 * PIPELINING (RFC 2920), write by write: what goes together, what waits for which reply, and what a server may do about it.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import * as Sasl from "../src/Sasl.ts"
import * as SmtpConnection from "../src/SmtpConnection.ts"
import type * as SmtpError from "../src/SmtpError.ts"
import { probed } from "./support/probe.ts"
import { begun, manually, noChunking, noPipelining } from "./support/raw.ts"
import { talking } from "./support/talker.ts"

const from = "ann@me.test"
const two = { from, to: ["a@mx.test", "b@mx.test"] }
const one = { from, to: "a@mx.test" }
const many = (count: number) => ({ from, to: Array.from({ length: count }, (_, i) => `r${i}@mx.test`) })

/** The lines that go before a message to `two`, for a server that is told of octets above 0x7f only if there are any. */
const mail = "MAIL FROM:<ann@me.test> SIZE=4\r\n"
const opening = `${mail}RCPT TO:<a@mx.test>\r\nRCPT TO:<b@mx.test>\r\nDATA\r\n`
const text = "hi"
const body = "hi\r\n.\r\n"

const linesOf = (writes: ReadonlyArray<string>): ReadonlyArray<string> => writes.join("").split("\r\n").slice(0, -1)

const wholeLine = /^[^\r\n]*\r\n$/

/** Every reply is on its own; nothing is known of a connection but by what comes back. */
const usable = (connection: SmtpConnection.SmtpConnection) => Effect.map(connection.noop, () => true)

describe("a transaction on a server that offers PIPELINING", () => {
  it.effect("goes in two writes: MAIL, every RCPT and DATA; then the message with its end", () =>
    manually({ offers: noChunking }, (connection, peer, probe) =>
      Effect.gen(function*() {
        const fiber = yield* begun(connection.send(two, text), probe)
        assert.deepStrictEqual(peer.hear(), [opening])
        peer.say("250 sender", "250 a", "250 b")
        yield* probe.quiet
        assert.deepStrictEqual(peer.hear(), [])
        peer.say("354 go")
        yield* probe.quiet
        assert.deepStrictEqual(peer.hear(), [body])
        assert.isUndefined(fiber.pollUnsafe())
        peer.say("250 taken")
        const { accepted, response } = yield* Fiber.join(fiber)
        assert.deepStrictEqual([accepted, response], [two.to, "taken"])
      })))

  it.effect("writes nothing of the message before 354, whatever it is and however the replies are cut", () =>
    Effect.forEach(
      [text, new TextEncoder().encode(text), Stream.make("h", "i")],
      (message) =>
        manually({ offers: noChunking }, (connection, peer, probe) =>
          Effect.gen(function*() {
            const fiber = yield* begun(connection.send(two, message), probe)
            const [group] = peer.hear()
            for (const octet of "250-se\r\n250 nder\r\n250 a\r\n250 b\r\n354 go\r") {
              peer.octets(octet)
              yield* probe.quiet
            }
            assert.match(group!, /^MAIL .*\r\nRCPT .*\r\nRCPT .*\r\nDATA\r\n$/)
            assert.deepStrictEqual(peer.hear(), [])
            peer.octets("\n")
            yield* probe.quiet
            assert.strictEqual(peer.hear().join(""), body)
            peer.say("250 taken")
            yield* Fiber.join(fiber)
          }))
    ))

  it.effect("never sends EHLO, STARTTLS, AUTH or QUIT with anything else", () =>
    probed({ extensions: { chunking: false, authBeforeTls: false } }, (probe) =>
      Effect.gen(function*() {
        for (const mechanism of ["PLAIN", "LOGIN", "CRAM-MD5"]) {
          yield* Effect.scoped(Effect.gen(function*() {
            const auth = Sasl.password({ username: "ann", password: Redacted.make("secret") })
            const connection = yield* SmtpConnection.make({ host: "mx.test", auth, mechanisms: [mechanism] })
            yield* connection.send(two, text)
            yield* connection.send(two, text)
          }))
        }
        const writes = probe.dialled.flatMap((dialled) => dialled.writes)
        const alone = writes.filter((write) => /(^|\r\n)(EHLO|STARTTLS|AUTH|QUIT)/.test(write))
        assert.strictEqual(alone.length, 3 * 5)
        for (const write of alone) assert.match(write, wholeLine)
        // And nothing is written while their reply is owed: each write but the bodies is answered before the next.
        assert.strictEqual(writes.filter((write) => write.startsWith("MAIL")).length, 6)
      })))

  it.effect("takes one command at a time from who asks for it", () =>
    Effect.forEach(
      [{ offers: noChunking, options: { pipelining: false } }, { offers: ["SIZE"] }],
      (given) =>
        manually(given, (connection, peer, probe) =>
          Effect.gen(function*() {
            const fiber = yield* begun(connection.send(two, text), probe)
            for (const reply of ["250 sender", "250 a", "250 b", "354 go", "250 taken"]) {
              const writes = peer.hear()
              assert.lengthOf(writes, 1)
              if (reply !== "250 taken") assert.match(writes[0]!, wholeLine)
              peer.say(reply)
              yield* probe.quiet
            }
            yield* Fiber.join(fiber)
          }))
    ))

  it.effect("says RSET in the same group when the last transaction was left open", () =>
    manually({ offers: noChunking }, (connection, peer, probe) =>
      Effect.gen(function*() {
        const fiber = yield* begun(Effect.flip(connection.send(one, text)), probe)
        peer.hear()
        peer.say("250 sender", "550 no", "503 nobody")
        yield* Fiber.join(fiber)
        assert.deepStrictEqual(peer.hear(), [])
        const again = yield* begun(connection.send(two, text), probe)
        assert.deepStrictEqual(peer.hear(), [`RSET\r\n${opening}`])
        peer.say("250 reset", "250 sender", "250 a", "250 b", "354 go")
        yield* probe.quiet
        peer.hear()
        peer.say("250 taken")
        yield* Fiber.join(again)
      })))

  it.effect("requireAllRecipients groups MAIL and RCPT, and says DATA when all are in", () =>
    manually({ offers: noChunking }, (connection, peer, probe) =>
      Effect.gen(function*() {
        const fiber = yield* begun(connection.send({ ...two, requireAllRecipients: true }, text), probe)
        assert.deepStrictEqual(peer.hear(), [opening.replace("DATA\r\n", "")])
        peer.say("250 sender", "250 a")
        yield* probe.quiet
        assert.deepStrictEqual(peer.hear(), [])
        peer.say("250 b")
        yield* probe.quiet
        assert.deepStrictEqual(peer.hear(), ["DATA\r\n"])
        peer.say("354 go")
        yield* probe.quiet
        assert.deepStrictEqual(peer.hear(), [body])
        peer.say("250 taken")
        yield* Fiber.join(fiber)
      })))

  it.effect("requireAllRecipients and one refused: no DATA, and RSET before the next", () =>
    manually({ offers: noChunking }, (connection, peer, probe) =>
      Effect.gen(function*() {
        const fiber = yield* begun(Effect.flip(connection.send({ ...two, requireAllRecipients: true }, text)), probe)
        peer.hear()
        peer.say("250 sender", "250 a", "550 b")
        const error = yield* Fiber.join(fiber)
        assert.deepInclude(error, { _tag: "EENVELOPE", command: "RCPT TO", inDoubt: false } as never)
        assert.deepStrictEqual(peer.hear(), [])
        yield* begun(Effect.ignore(connection.send(one, text)), probe)
        assert.match(peer.hear().join(""), /^RSET\r\nMAIL /)
      })))

  it.effect("a refused recipient keeps the message from nobody else", () =>
    manually({ offers: noChunking }, (connection, peer, probe) =>
      Effect.gen(function*() {
        const fiber = yield* begun(connection.send({ from, to: ["a@x.test", "b@x.test", "c@x.test"] }, text), probe)
        peer.say("250 sender", "550 a", "250 b", "452 c", "354 go")
        yield* probe.quiet
        peer.say("250 taken")
        yield* probe.quiet
        // The one for whom there was no room gets a transaction of its own.
        assert.match(peer.hear().at(-1)!, /^MAIL .*\r\nRCPT TO:<c@x\.test>\r\nDATA\r\n$/)
        peer.say("250 sender", "451 c is busy", "503 nobody")
        const { accepted, rejected, rejectedErrors } = yield* Fiber.join(fiber)
        assert.deepStrictEqual([accepted, rejected], [["b@x.test"], ["a@x.test", "c@x.test"]])
        assert.deepStrictEqual(rejectedErrors.map(({ responseCode }) => responseCode), [550, 451])
      })))
})

describe("every recipient refused, and 354", () => {
  const refusedTwo = ["250 sender", "550 a", "451 b", "354 go"]

  const refuse = (replies: ReadonlyArray<string>, then: string | undefined) =>
    manually({ offers: noChunking }, (connection, peer, probe) =>
      Effect.gen(function*() {
        const fiber = yield* begun(Effect.flip(connection.send(two, text)), probe)
        peer.hear()
        peer.say(...replies)
        yield* probe.quiet
        assert.deepStrictEqual(peer.hear(), [".\r\n"])
        assert.isUndefined(fiber.pollUnsafe())
        if (then === undefined) peer.end()
        else peer.say(then)
        const error = yield* Fiber.join(fiber)
        assert.deepInclude(error, { _tag: "EENVELOPE", command: "RCPT TO", inDoubt: false, handedOver: false } as never)
        assert.deepStrictEqual(
          (error as SmtpError.EENVELOPE).rejectedErrors?.map(({ responseCode }) => responseCode),
          [550, 451]
        )
        const next = yield* begun(Effect.exit(connection.send(one, text)), probe)
        const said = peer.hear()
        peer.end()
        yield* Fiber.await(next)
        return said
      }))

  it.effect("a lone dot ends it; RSET goes before the next if it was refused", () =>
    Effect.gen(function*() {
      assert.match((yield* refuse(refusedTwo, "554 no valid recipients"))[0]!, /^RSET\r\nMAIL /)
      assert.match((yield* refuse(refusedTwo, "451 no valid recipients"))[0]!, /^RSET\r\nMAIL /)
    }))

  it.effect("and no RSET if it was taken", () =>
    Effect.map(refuse(refusedTwo, "250 taken for nobody"), ([next]) => assert.match(next!, /^MAIL /)))

  it.effect("a connection that is lost, 421, or no refusal at the dot: closed", () =>
    Effect.gen(function*() {
      for (const then of [undefined, "421 bye", "354 what", "garbage"]) {
        assert.deepStrictEqual(yield* refuse(refusedTwo, then), [])
      }
    }))

  it.effect("a stream is not even begun", () =>
    manually({ offers: noChunking }, (connection, peer, probe) =>
      Effect.gen(function*() {
        let pulls = 0
        const message = Stream.fromEffect(Effect.sync(() => `${pulls++}`))
        const fiber = yield* begun(Effect.flip(connection.send(two, message)), probe)
        peer.say(...refusedTwo)
        yield* probe.quiet
        assert.strictEqual(peer.hear().at(-1), ".\r\n")
        peer.say("554 none")
        yield* Fiber.join(fiber)
        assert.strictEqual(pulls, 0)
        const again = yield* begun(usable(connection), probe)
        peer.say("250 ok")
        assert.isTrue(yield* Fiber.join(again))
      })))

  it.effect("a reply that began before the dot answers nothing: closed", () =>
    manually({ offers: noChunking }, (connection, peer, probe) =>
      Effect.gen(function*() {
        const fiber = yield* begun(Effect.flip(connection.send(two, text)), probe)
        peer.hear()
        peer.octets("250 sender\r\n550 a\r\n550 b\r\n354 go\r\n554 none")
        yield* probe.quiet
        peer.octets(" at all\r\n")
        assert.strictEqual((yield* Fiber.join(fiber))._tag, "EENVELOPE")
        assert.deepInclude(yield* Effect.flip(connection.noop), { attempted: false } as never)
        assert.isFalse(connection.isUsable)
      })))

  it.effect("over LMTP a dot has no reply: closed without one", () =>
    manually(
      { offers: noChunking, options: { protocol: "lmtp" } },
      (connection, peer, probe) =>
        Effect.gen(function*() {
          const fiber = yield* begun(Effect.flip(connection.send(two, text)), probe)
          peer.hear()
          peer.say(...refusedTwo)
          assert.strictEqual((yield* Fiber.join(fiber))._tag, "EENVELOPE")
          assert.deepStrictEqual([peer.hear(), peer.destroyed > 0], [[], true])
        })
    ))

  it.effect("DATA refused as well: no dot, the connection is kept, and RSET goes before the next", () =>
    manually({ offers: noChunking }, (connection, peer, probe) =>
      Effect.gen(function*() {
        const fiber = yield* begun(Effect.flip(connection.send(two, text)), probe)
        peer.hear()
        peer.say(...refusedTwo.slice(0, 3), "554 no valid recipients")
        assert.deepInclude(yield* Fiber.join(fiber), { _tag: "EENVELOPE", command: "RCPT TO" } as never)
        assert.deepStrictEqual(peer.hear(), [])
        yield* begun(Effect.ignore(connection.send(one, text)), probe)
        assert.match(peer.hear()[0]!, /^RSET\r\nMAIL /)
      })))

  it.effect("known before DATA was written: no DATA", () =>
    talking({
      offers: noChunking,
      answer: ({ verb }) => verb === "RCPT" ? "550 no" : verb === "DATA" ? "354 go" : undefined
    }, (connection, talker) =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(connection.send(many(99), text))
        assert.deepInclude(error, { _tag: "EENVELOPE", command: "RCPT TO" } as never)
        assert.deepStrictEqual(talker.heard.filter(({ verb }) => verb === "DATA" || verb === "."), [])
        yield* connection.noop
      })))
})

describe("MAIL refused", () => {
  const refuse = (replies: ReadonlyArray<string>) =>
    manually({ offers: noChunking }, (connection, peer, probe) =>
      Effect.gen(function*() {
        const fiber = yield* begun(Effect.flip(connection.send(two, text)), probe)
        peer.hear()
        peer.say(...replies)
        const error = yield* Fiber.join(fiber)
        assert.deepInclude(error, { _tag: "EENVELOPE", command: "MAIL FROM", inDoubt: false } as never)
        assert.strictEqual(error.responseCode, 550)
        assert.deepStrictEqual(peer.hear(), [])
        return { connection, isOpen: peer.isOpen }
      }))

  it.effect("and 354: closed without a dot, the recipients refused or not", () =>
    Effect.gen(function*() {
      for (const rcpt of ["503", "250"]) {
        const { isOpen } = yield* refuse(["550 sender", `${rcpt} a`, `${rcpt} b`, "354 go"])
        assert.isFalse(isOpen)
      }
    }))

  it.effect("and DATA: the connection is kept, every reply is read, and no RSET is needed", () =>
    manually({ offers: noChunking }, (connection, peer, probe) =>
      Effect.gen(function*() {
        const fiber = yield* begun(Effect.flip(connection.send(two, text)), probe)
        peer.hear()
        for (const reply of ["550 sender", "503 a", "503 b"]) {
          peer.say(reply)
          yield* probe.quiet
          assert.isUndefined(fiber.pollUnsafe(), "replies are owed")
        }
        peer.say("503 MAIL first")
        assert.strictEqual((yield* Fiber.join(fiber)).responseCode, 550)
        const again = yield* begun(connection.send(two, text), probe)
        assert.deepStrictEqual(peer.hear(), [opening])
        peer.say("250 sender", "250 a", "250 b", "354 go")
        yield* probe.quiet
        peer.say("250 taken")
        yield* Fiber.join(again)
      })))

  it.effect("no further RCPT is written once it is known", () =>
    talking(
      { offers: noChunking, answer: ({ verb }) => verb === "MAIL" ? "550 no" : undefined },
      (connection, talker) =>
        Effect.gen(function*() {
          const error = yield* Effect.flip(connection.send(many(1000), text))
          assert.strictEqual(error.command, "MAIL FROM")
          assert.strictEqual(talker.heard.length, 100)
          yield* connection.noop
        })
    ))
})

describe("a thousand recipients", () => {
  for (const pace of ["together", "each"] as const) {
    it.effect(`never owe more than a hundred replies, and are written many at a time (replies ${pace})`, () =>
      talking({ offers: noChunking, pace }, (connection, talker) =>
        Effect.gen(function*() {
          const { peer } = talker
          let most = 0
          let written = 0
          const { onWrite } = peer
          peer.onWrite = (write) => {
            written += /^(MAIL|RCPT|DATA)/.test(write) ? linesOf([write]).length : 1
            most = Math.max(most, written - talker.replies)
            onWrite(write)
          }
          const { accepted } = yield* connection.send(many(1000), text)
          assert.lengthOf(accepted, 1000)
          assert.strictEqual(most, 100)
          const groups = talker.rounds.flat().filter((write) => /^(MAIL|RCPT|DATA)/.test(write)).map((write) =>
            linesOf([write]).length
          )
          assert.strictEqual(groups.reduce((sum, n) => sum + n, 0), 1002)
          assert.deepStrictEqual(groups.slice(0, -1).filter((lines) => lines < 50), [], "a few at a time")
          assert.isAtMost(talker.rounds.length, pace === "together" ? 12 : 22)
        })))
  }

  it.effect("do not deadlock with a server that reads nothing while its reply waits, nor takes more than a window", () =>
    manually({ offers: noChunking }, (connection, peer, probe) =>
      Effect.gen(function*() {
        // Of what is written, the server takes a command when the reply before it is gone.
        const commands: Array<string> = []
        let inBody = false
        let most = 0
        let running = true
        let taken = ""
        const turn = (): void => {
          const heard = peer.hear().join("")
          if (inBody && heard !== "") {
            taken = heard
            peer.say("250 taken")
            running = false
            return
          }
          commands.push(...linesOf([heard]))
          most = Math.max(most, commands.length)
          // The client's buffer is full as long as anything waits here.
          const command = commands.shift()
          if (commands.length === 0 && !peer.accepts) peer.drain()
          if (command === "DATA") inBody = true
          if (command !== undefined) peer.say(command === "DATA" ? "354 go" : `250 ${"x".repeat(400)}`)
          if (running) setImmediate(turn)
        }
        peer.onWrite = () => {
          peer.accepts = false
        }
        const fiber = yield* begun(connection.send(many(1000), text), probe)
        setImmediate(turn)
        const stop = Effect.sync(() => {
          running = false
        })
        const { accepted } = yield* Effect.ensuring(Fiber.join(fiber), stop)
        assert.strictEqual(taken, body)
        assert.lengthOf(accepted, 1000)
        assert.isAtMost(most, 100)
      })))
})

describe("the deadline of a group", () => {
  const four = Duration.toMillis("4 minutes")

  it.effect("counts for each reply from the one before it", () =>
    manually({ offers: noChunking }, (connection, peer, probe) =>
      Effect.gen(function*() {
        const fiber = yield* begun(connection.send(two, text), probe)
        for (const reply of ["250 sender", "250 a", "250 b", "354 go"]) {
          yield* probe.advance(four)
          assert.isUndefined(fiber.pollUnsafe())
          peer.say(reply)
          yield* probe.quiet
        }
        yield* probe.advance(four * 2)
        peer.say("250 taken")
        yield* Fiber.join(fiber)
      })))

  it.effect("passes five minutes after the last reply, and names the command that was not answered", () =>
    manually({ offers: noChunking }, (connection, peer, probe) =>
      Effect.gen(function*() {
        const fiber = yield* begun(Effect.flip(connection.send(two, text)), probe)
        yield* probe.advance(four)
        peer.say("250 sender")
        const { elapsed, exit } = yield* probe.drive(fiber)
        assert.strictEqual(elapsed, Duration.toMillis("5 minutes"))
        const expected = { _tag: "ETIMEDOUT", timeout: "command", command: "RCPT TO", recipient: "a@mx.test" }
        assert.deepInclude(yield* exit, expected as never)
      })))

  it.effect("is that of the command, not of the message, while recipients are unanswered in a flight", () =>
    manually({}, (connection, peer, probe) =>
      Effect.gen(function*() {
        const fiber = yield* begun(Effect.flip(connection.send(two, text)), probe)
        assert.match(peer.hear()[0]!, /^MAIL [\s\S]*BDAT 4 LAST\r\nhi\r\n$/)
        peer.say("250 sender", "250 a")
        const { elapsed, exit } = yield* probe.drive(fiber)
        assert.strictEqual(elapsed, Duration.toMillis("5 minutes"))
        assert.deepInclude(yield* exit, { _tag: "ETIMEDOUT", timeout: "command", inDoubt: true } as never)
      })))

  it.effect("and that of the message once they are answered", () =>
    manually({}, (connection, peer, probe) =>
      Effect.gen(function*() {
        const fiber = yield* begun(Effect.flip(connection.send(two, text)), probe)
        peer.say("250 sender", "250 a", "250 b")
        const { elapsed, exit } = yield* probe.drive(fiber)
        assert.strictEqual(elapsed, Duration.toMillis("10 minutes"))
        assert.deepInclude(yield* exit, { _tag: "ETIMEDOUT", timeout: "final", inDoubt: true } as never)
      })))
})

describe("without PIPELINING", () => {
  it.effect("BDAT waits for its recipients, and for nothing else", () =>
    manually({ offers: noPipelining }, (connection, peer, probe) =>
      Effect.gen(function*() {
        const fiber = yield* begun(connection.send(two, text), probe)
        for (const reply of ["250 sender", "250 a", "250 b"]) {
          assert.match(peer.hear().join("|"), wholeLine)
          peer.say(reply)
          yield* probe.quiet
        }
        assert.deepStrictEqual(peer.hear(), ["BDAT 4 LAST\r\nhi\r\n"])
        peer.say("250 taken")
        yield* Fiber.join(fiber)
      })))
})

describe("421 in the middle of a group", () => {
  const cases: ReadonlyArray<readonly [string, ReadonlyArray<string>, string, string]> = [
    ["MAIL", ["421 bye"], "ECONNECTION", "MAIL FROM"],
    ["RCPT", ["250 sender", "421 bye"], "ECONNECTION", "RCPT TO"],
    ["RCPT, the others refused", ["250 sender", "550 a", "421 bye"], "ECONNECTION", "RCPT TO"],
    ["DATA", ["250 sender", "250 a", "250 b", "421 bye"], "ECONNECTION", "DATA"],
    ["DATA, all refused", ["250 sender", "550 a", "550 b", "421 bye"], "EENVELOPE", "RCPT TO"]
  ]
  it.effect.each(cases)(
    "at %s ends it, and nothing of the message is written",
    ([, replies, tag, command]) =>
      manually({ offers: noChunking }, (connection, peer, probe) =>
        Effect.gen(function*() {
          const fiber = yield* begun(Effect.flip(connection.send(two, text)), probe)
          peer.hear()
          peer.say(...replies)
          const error = yield* Fiber.join(fiber)
          assert.deepInclude(error, { _tag: tag, command, inDoubt: false, handedOver: false } as never)
          assert.deepStrictEqual(peer.hear(), [])
          assert.isFalse(peer.isOpen)
        }))
  )
})
