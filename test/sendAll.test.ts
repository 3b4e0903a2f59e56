/**
 * `sendAll` on one connection: what overlaps on the wire, how much of it, and that each mail has the result it would have
 * had alone.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import type * as SmtpConnection from "../src/SmtpConnection.ts"
import type * as SmtpError from "../src/SmtpError.ts"
import { all, begun, manually, noChunking, noPipelining, type Peer } from "./support/raw.ts"
import { type Script, talking } from "./support/talker.ts"

type Told = Result.Result<SmtpConnection.SendResult, SmtpError.SendError>

const from = "ann@me.test"
const envelope = { from, to: "a@mx.test" }
const bad: SmtpConnection.Mail = { envelope: { from: "no address", to: [] }, message: "" }

const mail = (i: number, to: string | ReadonlyArray<string> = "a@mx.test"): SmtpConnection.Mail => ({
  envelope: { from, to: to as string },
  message: `m${i}\r\n`
})
const mails = (count: number) => Array.from({ length: count }, (_, i) => mail(i))

/** A stream that gives one mail at a time, and counts. */
const counted = (list: ReadonlyArray<SmtpConnection.Mail>, size = 1) => {
  const pulled = { mails: 0 }
  const stream = Stream.fromIterable(list).pipe(
    Stream.rechunk(size),
    Stream.mapArray((chunk) => {
      pulled.mails += chunk.length
      return chunk
    })
  )
  return { pulled, stream }
}

const shown = (result: Told): string =>
  Result.isSuccess(result)
    ? "sent"
    : [
      result.failure._tag,
      result.failure.responseCode,
      ...(result.failure.attempted ? [] : ["not attempted"]),
      ...(result.failure.inDoubt ? ["in doubt"] : [])
    ].filter((part) => part !== undefined).join(" ")

const opening = "MAIL FROM:<ann@me.test> SIZE=4\r\nRCPT TO:<a@mx.test>\r\n"
const flight = (i: number): string => `${opening}BDAT 4 LAST\r\nm${i}\r\n`
const data = (i: number): string => `m${i}\r\n.\r\n`
const again = `RSET\r\n${opening}`

const ways = [
  { name: "by DATA", offers: noChunking, isFlight: false },
  { name: "by BDAT", offers: all, isFlight: true }
] as const

describe("what goes together", () => {
  it.effect("by BDAT: all that there is, whole, RSET between them, and one round trip for it", () =>
    talking({}, (connection, { rounds }) =>
      Effect.gen(function*() {
        const results = yield* Stream.runCollect(connection.sendAll(Stream.fromIterable(mails(4))))
        assert.deepStrictEqual(results.map(shown), ["sent", "sent", "sent", "sent"])
        assert.deepStrictEqual(rounds, [[[flight(0), flight(1), flight(2), flight(3)].join("RSET\r\n")]])
      })))

  it.effect("by DATA: the next envelope behind the body before it, and one round trip a message", () =>
    talking({ offers: noChunking }, (connection, { rounds }) =>
      Effect.gen(function*() {
        yield* Stream.runCollect(connection.sendAll(Stream.fromIterable(mails(3))))
        assert.deepStrictEqual(rounds, [
          [`${opening}DATA\r\n`],
          [`${data(0)}${again}DATA\r\n`],
          [`${data(1)}${again}DATA\r\n`],
          [data(2)]
        ])
      })))

  it.effect("nothing, without PIPELINING", () =>
    Effect.forEach(
      [{ offers: noPipelining }, { pipelining: false }],
      ({ offers, ...options }) =>
        talking({ offers }, (connection, { rounds }) =>
          Effect.gen(function*() {
            yield* Stream.runCollect(connection.sendAll(Stream.fromIterable(mails(2))))
            assert.deepStrictEqual(rounds.map((round) => round.join("|").split(/[ \r]/, 1)[0]), [
              "MAIL",
              "RCPT",
              "BDAT",
              "MAIL",
              "RCPT",
              "BDAT"
            ])
          }), options)
    ))

  it.effect("what a source gives one by one as well", () =>
    talking({}, (connection, { rounds }) =>
      Effect.gen(function*() {
        yield* Stream.runCollect(connection.sendAll(counted(mails(40)).stream))
        assert.isAtMost(rounds.length, 2)
      })))

  it.effect("a stream goes by DATA between others, and its envelope behind what is before it", () =>
    talking({}, (connection, { rounds, stored }) =>
      Effect.gen(function*() {
        const list = [mail(0), { envelope, message: Stream.make("str", "eam") }, mail(2), mail(3)]
        const results = yield* Stream.runCollect(connection.sendAll(Stream.fromIterable(list)))
        assert.deepStrictEqual(results.map(shown), ["sent", "sent", "sent", "sent"])
        assert.deepStrictEqual(stored.map(({ body }) => body), ["m0\r\n", "stream\r\n", "m2\r\n", "m3\r\n"])
        const written = "RSET\r\nMAIL FROM:<ann@me.test> BODY=8BITMIME\r\nRCPT TO:<a@mx.test>\r\nDATA\r\n"
        assert.strictEqual(rounds[0]?.join(""), flight(0) + written)
        assert.strictEqual(rounds[1]?.join(""), `stream\r\n.\r\nRSET\r\n${flight(2)}RSET\r\n${flight(3)}`)
        assert.lengthOf(rounds, 2)
      })))

  it.effect("after five seconds of silence the first envelope goes alone, and the others behind its message", () =>
    manually({}, (connection, peer, probe) =>
      Effect.gen(function*() {
        yield* probe.advance(5_001)
        const fiber = yield* begun(Stream.runCollect(connection.sendAll(Stream.fromIterable(mails(3)))), probe)
        assert.deepStrictEqual(peer.hear(), [opening])
        peer.say("250 sender", "250 a")
        yield* probe.quiet
        assert.deepStrictEqual(peer.hear(), [
          `${flight(0).slice(opening.length)}RSET\r\n${flight(1)}RSET\r\n${flight(2)}`
        ])
        peer.say("250 taken", ...[1, 2].flatMap(() => ["250 reset", "250 sender", "250 a", "250 taken"]))
        assert.deepStrictEqual((yield* Fiber.join(fiber)).map(shown), ["sent", "sent", "sent"])
      })))

  it.effect("over LMTP the envelope behind the body, however many replies the body has", () =>
    talking({ protocol: "lmtp", offers: all }, (connection, { rounds, stored }) =>
      Effect.gen(function*() {
        const list = [0, 1, 2].map((i) => mail(i, ["a@mx.test", "b@mx.test"]))
        const results = yield* Stream.runCollect(connection.sendAll(Stream.fromIterable(list)))
        assert.deepStrictEqual(results.map(shown), ["sent", "sent", "sent"])
        assert.deepStrictEqual(stored.map(({ to }) => to.length), [2, 2, 2])
        assert.lengthOf(rounds, 4)
        assert.match(rounds[1]!.join(""), /^BDAT 4 LAST\r\nm0\r\nRSET\r\nMAIL .*\r\nRCPT .*\r\nRCPT .*\r\n$/)
      })))
})

/** How many replies are owed to what was written. */
const owedBy = (said: string): number => said.split("\r\n").filter((line) => /^(RSET|MAIL|RCPT|BDAT)/.test(line)).length

describe("the window", () => {
  it.effect("is of 64 mails", () =>
    manually({}, (connection, peer, probe) =>
      Effect.gen(function*() {
        const { pulled, stream } = counted(mails(1000))
        const fiber = yield* begun(Stream.runCollect(connection.sendAll(stream)), probe)
        const count = () => peer.writes.join("").split("LAST").length - 1
        assert.isAtMost(count(), 64)
        assert.isAtLeast(count(), 8)
        assert.isAtMost(pulled.mails, 65)
        let most = 0
        for (let i = 0; i < 1000; i++) {
          peer.say(...(i === 0 ? [] : ["250 reset"]), "250 sender", "250 a", "250 taken")
          yield* Effect.yieldNow
          most = Math.max(most, count() - i - 1)
          assert.isAtMost(pulled.mails - i - 1, 66)
        }
        assert.isAtMost(most, 64)
        assert.isAtLeast(most, 32)
        assert.strictEqual((yield* Fiber.join(fiber)).length, 1000)
      })))

  it.effect("is of 128 KiB in one write, and of what the transport takes", () =>
    manually({}, (connection, peer, probe) =>
      Effect.gen(function*() {
        peer.accepts = false
        const large = mails(20).map((each) => ({ ...each, message: "x".repeat(60_000) }))
        const fiber = yield* begun(Stream.runCollect(connection.sendAll(Stream.fromIterable(large))), probe)
        const [first = "", ...others] = peer.hear()
        assert.deepStrictEqual(others, [])
        assert.isAtMost(first.length, 131_072 + 65_536)
        const count = first.split("LAST").length - 1
        assert.isAtLeast(count, 2)
        peer.say("250 sender", "250 a", "250 taken")
        yield* probe.quiet
        assert.deepStrictEqual(peer.hear(), [], "the transport has not taken the first write yet")
        peer.accepts = true
        peer.drain()
        for (let i = 1; i < 20; i++) {
          peer.say("250 reset", "250 sender", "250 a", "250 taken")
          yield* probe.quiet
        }
        assert.strictEqual((yield* Fiber.join(fiber)).length, 20)
      })))

  it.effect("is of 512 replies that are owed and one transaction, however many recipients there are", () =>
    manually({}, (connection, peer, probe) =>
      Effect.gen(function*() {
        const to = Array.from({ length: 90 }, (_, i) => `r${i}@mx.test`)
        const fiber = yield* begun(
          Stream.runCollect(connection.sendAll(Stream.fromIterable(mails(60).map((_, i) => mail(i, to))))),
          probe
        )
        let most = 0
        let said = 0
        const look = () => {
          most = Math.max(most, owedBy(peer.writes.join("")) - said)
        }
        const reply = Effect.fnUntraced(function*(lines: ReadonlyArray<string>) {
          for (const line of lines) {
            peer.say(line)
            said++
            yield* Effect.yieldNow
            look()
          }
        })
        look()
        for (let i = 0; i < 60; i++) {
          yield* reply([...(i === 0 ? [] : ["250 reset"]), "250 sender", ...to.map(() => "250 r"), "250 taken"])
        }
        assert.strictEqual((yield* Fiber.join(fiber)).length, 60)
        assert.isAtMost(most, 512 + 93)
        assert.isAbove(most, 400)
      })))
})

describe("results", () => {
  for (const { isFlight, name, offers } of ways) {
    it.effect(`are one for each mail, in order, with those that cannot be sent among them, ${name}`, () =>
      talking({ offers }, (connection, { stored }) =>
        Effect.gen(function*() {
          const list = [bad, mail(1), bad, bad, mail(4), mail(5), bad]
          for (const size of [1, 2, 7]) {
            stored.length = 0
            const results = yield* Stream.runCollect(connection.sendAll(counted(list, size).stream))
            const no = "EENVELOPE not attempted"
            assert.deepStrictEqual(results.map(shown), [no, "sent", no, no, "sent", "sent", no])
            assert.deepStrictEqual(stored.map(({ body }) => body), ["m1\r\n", "m4\r\n", "m5\r\n"])
          }
        })))

    const places = ["MAIL", "RCPT", name === "by DATA" ? "DATA" : "BDAT", name === "by DATA" ? "." : "BDAT"] as const
    for (const place of new Set(places)) {
      for (const code of [451, 550]) {
        it.effect(`of a mail refused at ${place} with ${code} is its own, ${name}`, () =>
          talking({
            offers,
            answer: ({ body, nth, verb }) =>
              verb === place && (place === "." || place === "BDAT" ? body.startsWith("m2") : nth === 3)
                ? `${code} no`
                : undefined
          }, (connection, { stored }) =>
            Effect.gen(function*() {
              const results = yield* Stream.runCollect(connection.sendAll(Stream.fromIterable(mails(6))))
              const tag = place === "." || place === "BDAT" ? "EMESSAGE" : "EENVELOPE"
              assert.deepStrictEqual(results.map(shown), ["sent", "sent", `${tag} ${code}`, "sent", "sent", "sent"])
              assert.deepStrictEqual(stored.map(({ body }) => body[1]), ["0", "1", "3", "4", "5"])
              yield* connection.send(envelope, "after")
            })))
      }
    }

    it.effect(`come as soon as they are known, whatever the source does, ${name}`, () =>
      talking({ offers }, (connection) =>
        Effect.gen(function*() {
          const source = yield* Queue.make<SmtpConnection.Mail>()
          const results = yield* Queue.make<Told>()
          const fiber = yield* Effect.forkChild(
            Stream.runForEach(connection.sendAll(Stream.fromQueue(source)), (result) => Queue.offer(results, result))
          )
          for (let i = 0; i < 5; i++) {
            yield* Queue.offer(source, mail(i))
            assert.strictEqual(shown(yield* Queue.take(results)), "sent")
          }
          yield* Queue.offerAll(source, mails(3))
          for (let i = 0; i < 3; i++) assert.strictEqual(shown(yield* Queue.take(results)), "sent")
          yield* Queue.shutdown(source)
          yield* Fiber.interrupt(fiber)
          assert.isTrue(connection.isUsable)
          yield* connection.noop
        })))

    it.effect(`come as soon as their replies do, whatever is under way behind them, ${name}`, () =>
      Effect.forEach(
        [{}, { timeouts: { total: "1 hour" } }] as const,
        (options) =>
          manually({ offers, options }, (connection, peer, probe) =>
            Effect.gen(function*() {
              const results: Array<string> = []
              const fiber = yield* begun(
                Stream.runForEach(
                  connection.sendAll(Stream.fromIterable(mails(3))),
                  (result) => Effect.sync(() => results.push(shown(result)))
                ),
                probe
              )
              for (let i = 0; i < 3; i++) {
                peer.say(...(i > 0 ? ["250 reset"] : []), "250 sender", "250 a", ...(isFlight ? [] : ["354 go"]))
                yield* probe.quiet
                assert.lengthOf(results, i)
                peer.say("250 taken")
                yield* probe.quiet
                assert.lengthOf(results, i + 1)
              }
              yield* Fiber.join(fiber)
            }))
      ))

    it.effect(`come before the failure of the source, ${name}`, () =>
      talking({ offers }, (connection, { stored }) =>
        Effect.gen(function*() {
          for (const size of [1, 5]) {
            stored.length = 0
            const results: Array<Told> = []
            const source = Stream.concat(counted(mails(5), size).stream, Stream.fail("the end" as const))
            const exit = yield* Effect.exit(
              Stream.runForEach(connection.sendAll(source), (result) => Effect.sync(() => results.push(result)))
            )
            assert.deepStrictEqual(exit, Exit.fail("the end"))
            assert.deepStrictEqual(results.map(shown), ["sent", "sent", "sent", "sent", "sent"])
          }
          yield* connection.send(envelope, "after")
        })))

    it.effect(`come before a defect of the source, ${name}`, () =>
      talking({ offers }, (connection) =>
        Effect.gen(function*() {
          const results: Array<Told> = []
          const source = Stream.concat(counted(mails(2)).stream, Stream.die(new Error("defect")))
          const exit = yield* Effect.exit(
            Stream.runForEach(connection.sendAll(source), (result) => Effect.sync(() => results.push(result)))
          )
          assert.isTrue(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
          assert.deepStrictEqual(results.map(shown), ["sent", "sent"])
        })))

    it.effect(`are the same with a total deadline, and with a transcript, ${name}`, () =>
      Effect.gen(function*() {
        const answer: Script["answer"] = ({ body, nth, verb }) =>
          verb === "MAIL" && nth === 2 ? "451 no" : body.startsWith("m3") ? "552 no" : undefined
        const run = (options: SmtpConnection.Options) =>
          talking({ offers, answer }, (connection, talker) =>
            Effect.gen(function*() {
              const list = [mail(0), mail(1), bad, mail(3), { envelope, message: Stream.make("m4") }, mail(5)]
              const results = yield* Stream.runCollect(connection.sendAll(Stream.fromIterable(list)))
              return { results: results.map(shown), writes: talker.peer.writes, stored: talker.stored }
            }), options)
        const expected = yield* run({})
        assert.deepStrictEqual(
          expected.results,
          ["sent", "EENVELOPE 451", "EENVELOPE not attempted", "EMESSAGE 552", "sent", "sent"]
        )
        const recorder = { level: "full" as const, record: () => Effect.void }
        assert.deepStrictEqual(yield* run({ timeouts: { total: "1 minute" } }), expected)
        assert.deepStrictEqual(yield* run({ transcript: recorder }), expected)
      }))
  }
})

/** Whatever is said of each mail has to be true of what the server has read and said. */
const audit = (peer: Peer, results: ReadonlyArray<Told>, stored: ReadonlyArray<string>): void => {
  const written = peer.writes.join("")
  const begun = written.split(/^MAIL /m).length - 1
  let tried = 0
  for (const [i, result] of results.entries()) {
    const has = stored.includes(`m${i}\r\n`)
    const text = `m${i}\r\n`
    const at = written.indexOf(`\n${text}`)
    const isHanded = at >= 0
    if (Result.isSuccess(result)) {
      assert.isTrue(has, `${i} was said to be sent`)
      tried++
      continue
    }
    const { attempted, handedOver, inDoubt } = result.failure
    if (attempted) tried++
    assert.strictEqual(inDoubt, isHanded, `${i}: in doubt if it was handed over`)
    assert.strictEqual(handedOver, isHanded)
    if (!attempted) assert.isFalse(isHanded)
    if (has) assert.isTrue(inDoubt, `${i} is there, and nobody knows`)
  }
  assert.strictEqual(tried, begun, "as many were attempted as were begun")
}

describe("a connection that is lost", () => {
  const total = 5
  for (const { isFlight, name, offers } of ways) {
    const dialogue = isFlight
      ? Array.from({ length: total }, (_, i) => flight(i)).join("RSET\r\n")
      : `${Array.from({ length: total }, (_, i) => `${opening}DATA\r\n${data(i)}`).join("RSET\r\n")}`

    for (const size of [1, total]) {
      it.effect(`at any octet: each mail that was pulled has one result, and it is true, ${name}, in chunks of ${size}`, () =>
        Effect.forEach(
          Array.from({ length: dialogue.length - 1 }, (_, i) => i + 1),
          (cutAfter) =>
            talking({ offers, cutAfter, swift: true }, (connection, talker) =>
              Effect.gen(function*() {
                const { pulled, stream } = counted(mails(total), size)
                const results = yield* Stream.runCollect(connection.sendAll(stream))
                assert.strictEqual(results.length, pulled.mails)
                audit(talker.peer, results, talker.stored.map(({ body }) => body))
                const lost = results.findIndex(Result.isFailure)
                assert.isAtLeast(lost, 0)
                assert.isTrue(results.slice(lost).every(Result.isFailure))
                assert.isFalse(connection.isUsable)
              })),
          { discard: true }
        ))
    }

    it.effect(`before any reply: the same, ${name}`, () =>
      Effect.forEach(
        Array.from({ length: total * 5 - 1 - (isFlight ? total : 0) }, (_, i) => i + 1),
        (cutBefore) =>
          talking({ offers, cutBefore }, (connection, talker) =>
            Effect.gen(function*() {
              const { pulled, stream } = counted(mails(total), total)
              const results = yield* Stream.runCollect(connection.sendAll(stream))
              assert.deepStrictEqual([results.length, pulled.mails], [total, total])
              // What the server has taken without saying so is in doubt.
              const sent = results.filter(Result.isSuccess).length
              assert.strictEqual(sent, Math.floor((cutBefore - 1 + (isFlight ? 1 : 1)) / (isFlight ? 4 : 5)))
              audit(talker.peer, results, talker.stored.map(({ body }) => body))
            })),
        { discard: true }
      ))

    it.effect(`pulls nothing more, ${name}`, () =>
      talking({ offers, cutBefore: 2 }, (connection) =>
        Effect.gen(function*() {
          const { pulled, stream } = counted(mails(1000), 3)
          const results = yield* Stream.runCollect(connection.sendAll(stream))
          assert.strictEqual(results.length, pulled.mails)
          assert.isBelow(pulled.mails, 100)
          assert.isTrue(results.every(Result.isFailure))
          const rest = yield* Stream.runCollect(connection.sendAll(counted(mails(1000), 3).stream))
          assert.deepStrictEqual(rest.map(shown), Array.from({ length: 3 }, () => "ECONNECTION not attempted"))
        })))

    it.effect(`is told by a mail that is sent on it, not by one that is wrong, ${name}`, () =>
      talking({ offers }, (connection, talker) =>
        Effect.gen(function*() {
          talker.peer.end()
          const { pulled, stream } = counted([bad, mail(1), mail(2)])
          const results = yield* Stream.runCollect(connection.sendAll(stream))
          assert.deepStrictEqual(results.map(shown), ["EENVELOPE not attempted", "ECONNECTION not attempted"])
          assert.strictEqual(pulled.mails, 2)
        })))

    it.effect(`is told by a later mail where the one before it was refused, ${name}`, () =>
      manually({ offers }, (connection, peer, probe) =>
        Effect.gen(function*() {
          const fiber = yield* begun(
            Stream.runCollect(connection.sendAll(
              counted([mail(0)], 1).stream.pipe(
                Stream.concat(Stream.unwrap(Effect.sync(() => counted(mails(3)).stream)))
              )
            )),
            probe
          )
          // The refusal and the end come in one breath.
          peer.say("550 no", "503 a", "503 b")
          peer.end()
          const results = (yield* Fiber.join(fiber)).map(shown)
          assert.strictEqual(results[0], "EENVELOPE 550")
          assert.isAbove(results.length, 1, "nobody told of the loss")
          assert.match(results[1]!, /^ECONNECTION/)
        })))

    it.effect(`is told by a later mail where the one before it was refused with a reply too many behind it, ${name}`, () =>
      manually({ offers }, (connection, peer, probe) =>
        Effect.gen(function*() {
          const told = yield* Deferred.make<void>()
          const source = Stream.concat(
            Stream.make(mail(0)),
            Stream.unwrap(Effect.as(Deferred.await(told), counted(mails(3)).stream))
          )
          const fiber = yield* begun(
            connection.sendAll(source).pipe(Stream.tap(() => Deferred.succeed(told, undefined)), Stream.runCollect),
            probe
          )
          if (!isFlight) {
            peer.say("250 sender", "250 a", "354 go")
            yield* probe.quiet
          }
          peer.say(...(isFlight ? ["250 sender", "250 a"] : []), "552 no", "250 too many")
          const results = (yield* Fiber.join(fiber)).map(shown)
          assert.deepStrictEqual(results, ["EMESSAGE 552", "EPROTOCOL 250 not attempted"])
        })))

    it.effect(`by 421 in the middle: those behind it are in doubt if they were handed over, ${name}`, () =>
      talking(
        { offers, answer: ({ nth, verb }) => verb === "RCPT" && nth === 2 ? "421 bye" : undefined },
        (c, talker) =>
          Effect.gen(function*() {
            const results = yield* Stream.runCollect(c.sendAll(Stream.fromIterable(mails(4))))
            assert.deepStrictEqual(
              results.map(shown),
              isFlight
                ? ["sent", "ECONNECTION 421", "ECONNECTION 421 in doubt", "ECONNECTION 421 in doubt"]
                : ["sent", "ECONNECTION 421", "ECONNECTION not attempted", "ECONNECTION not attempted"]
            )
            assert.lengthOf(talker.stored, 1)
          })
      ))
  }

  it.effect("nothing is written behind a reply that began before its command, when more mails come", () =>
    manually({}, (connection, peer, probe) =>
      Effect.gen(function*() {
        const gate = yield* Deferred.make<void>()
        const taken = yield* Deferred.make<void>()
        const source = Stream.concat(
          Stream.make(mail(0), mail(1)),
          Stream.unwrap(Effect.as(Deferred.await(gate), Stream.fromIterable([mail(2), mail(3)])))
        )
        const fiber = yield* begun(
          Stream.runCollect(connection.sendAll(source).pipe(Stream.tap(() => Deferred.await(taken)))),
          probe
        )
        peer.hear()
        // All is answered, and the consumer is busy with the first result.
        peer.octets("250 sender\r\n250 a\r\n250 taken\r\n")
        yield* probe.quiet
        peer.octets("250 reset\r\n250 sender\r\n250 a\r\n250 taken\r\n250 su")
        yield* Deferred.succeed(gate, undefined)
        yield* probe.quiet
        yield* Deferred.succeed(taken, undefined)
        yield* probe.quiet
        assert.deepStrictEqual(peer.hear(), [])
        const results = yield* Fiber.join(fiber)
        assert.deepStrictEqual(results.map(shown).slice(0, 3), ["sent", "sent", "EPROTOCOL not attempted"])
      })))
})

describe("leaving in the middle", () => {
  for (const { name, offers } of ways) {
    it.effect(`a consumer that stops early closes a connection that owes replies, ${name}`, () =>
      talking({ offers }, (connection, talker) =>
        Effect.gen(function*() {
          const results = yield* Stream.runCollect(
            connection.sendAll(Stream.fromIterable(mails(10))).pipe(Stream.take(1))
          )
          assert.deepStrictEqual(results.map(shown), ["sent"])
          assert.strictEqual(connection.isUsable, talker.peer.isOpen)
          const next = yield* Effect.exit(connection.send(envelope, "after"))
          assert.strictEqual(Exit.isSuccess(next), talker.stored.some(({ body }) => body === "after\r\n"))
        })))

    it.effect(`a consumer that stops when nothing is owed leaves the connection whole, ${name}`, () =>
      talking({ offers }, (connection) =>
        Effect.gen(function*() {
          const source = Stream.concat(Stream.make(mail(0)), Stream.never)
          const results = yield* Stream.runCollect(connection.sendAll(source).pipe(Stream.take(1)))
          assert.deepStrictEqual(results.map(shown), ["sent"])
          yield* connection.send(envelope, "after")
        })))

    it.effect(`interrupted behind any reply: nothing is left, and no late reply is taken, ${name}`, () =>
      Effect.forEach(
        Array.from({ length: 12 }, (_, i) => i),
        (count) =>
          manually({ offers }, (connection, peer, probe) =>
            Effect.gen(function*() {
              const fiber = yield* begun(Stream.runCollect(connection.sendAll(Stream.fromIterable(mails(3)))), probe)
              const dialogue = name === "by DATA"
                ? ["250 s", "250 a", "354 go", "250 taken", "250 reset"]
                : ["250 s", "250 a", "250 taken", "250 reset"]
              for (let i = 0; i < count; i++) {
                peer.say(dialogue[i % dialogue.length]!)
                yield* probe.quiet
              }
              const stop = yield* begun(Fiber.interrupt(fiber), probe)
              const { elapsed } = yield* probe.drive(stop)
              assert.isAtMost(elapsed, 500)
              if (fiber.pollUnsafe()?._tag === "Success") return
              peer.hear()
              peer.say("250 late", "250 late", "250 late")
              assert.deepInclude(yield* Effect.flip(connection.noop), { attempted: false } as never)
              assert.deepStrictEqual(peer.hear(), [])
              assert.isFalse(peer.isOpen)
            })),
        { discard: true }
      ))
  }

  it.effect("a source is interrupted with the stream", () =>
    talking({}, (connection) =>
      Effect.gen(function*() {
        const ended = yield* Deferred.make<void>()
        const source = Stream.concat(
          Stream.make(mail(0)),
          Stream.ensuring(Stream.never, Deferred.succeed(ended, undefined))
        )
        yield* Stream.runCollect(connection.sendAll(source).pipe(Stream.take(1)))
        yield* Deferred.await(ended)
      })))
})

describe("others on the same connection", () => {
  for (const { name, offers } of ways) {
    for (const pace of ["together", "each"] as const) {
      const script: Script = { offers, pace }
      const what = `${name}, replies ${pace}`

      it.effect(`have their turn before a long stream ends, ${what}`, () =>
        talking(script, (connection, talker) =>
          Effect.gen(function*() {
            const stream = Stream.fromIterable(mails(1000))
            const fiber = yield* Effect.forkChild(Stream.runCollect(connection.sendAll(stream)), {
              startImmediately: true
            })
            for (let i = 0; i < 3; i++) {
              const before = talker.stored.length
              yield* connection.send(envelope, `guest ${i}`)
              assert.isAtMost(talker.stored.length - before, 130)
            }
            const at = talker.stored.flatMap(({ body }, i) => body.startsWith("guest") ? [i] : [])
            assert.isBelow(at[2]!, 500)
            assert.strictEqual((yield* Fiber.join(fiber)).length, 1000)
            assert.lengthOf(talker.stored, 1003)
          })))

      it.effect(`the consumer of its results may be one of them, ${what}`, () =>
        talking(script, (connection, talker) =>
          Effect.gen(function*() {
            const results = yield* connection.sendAll(Stream.fromIterable(mails(10))).pipe(
              Stream.mapEffect((result, i) => Effect.as(connection.send(envelope, `receipt ${i}`), result)),
              Stream.runCollect
            )
            assert.deepStrictEqual(results.map(shown), Array.from({ length: 10 }, () => "sent"))
            const bodies = talker.stored.map(({ body }) => body)
            assert.lengthOf(bodies.filter((body) => body.startsWith("receipt")), 10)
            assert.deepStrictEqual(
              bodies.filter((body) => body.startsWith("m")),
              mails(10).map((_, i) => `m${i}\r\n`)
            )
          })))

      it.effect(`two streams side by side, their results in pairs, ${what}`, () =>
        talking(script, (connection, talker) =>
          Effect.gen(function*() {
            const other = mails(20).map((each) => ({ ...each, message: "other" }))
            const pairs = yield* Stream.runCollect(Stream.zip(
              connection.sendAll(Stream.fromIterable(mails(20))),
              connection.sendAll(Stream.fromIterable(other))
            ))
            assert.lengthOf(pairs, 20)
            assert.isTrue(pairs.flat().every(Result.isSuccess))
            assert.lengthOf(talker.stored, 40)
          })))

      it.effect(`a guest is not kept waiting by a consumer that is busy, ${what}`, () =>
        talking(script, (connection, talker) =>
          Effect.gen(function*() {
            const go = yield* Deferred.make<void>()
            const list = [...mails(4), bad, { envelope, message: Stream.make("m5") }, ...mails(4)]
            const fiber = yield* Effect.forkChild(
              connection.sendAll(Stream.fromIterable(list)).pipe(
                Stream.tap(() => Deferred.await(go)),
                Stream.runCollect
              ),
              { startImmediately: true }
            )
            yield* connection.send(envelope, "guest")
            yield* connection.noop
            yield* Deferred.succeed(go, undefined)
            const results = (yield* Fiber.join(fiber)).map(shown)
            assert.deepStrictEqual(
              results,
              list.map((each) => each === bad ? "EENVELOPE not attempted" : "sent")
            )
            assert.lengthOf(talker.stored, 10)
          })))

      it.effect(`a guest who is interrupted while he waits takes nothing with him, ${what}`, () =>
        talking(script, (connection, talker) =>
          Effect.gen(function*() {
            const results = yield* connection.sendAll(Stream.fromIterable(mails(10))).pipe(
              Stream.mapEffect((result, i) =>
                Effect.as(
                  i % 2 === 0
                    ? Effect.raceFirst(Effect.exit(connection.send(envelope, "guest")), Effect.yieldNow)
                    : Effect.void,
                  result
                )
              ),
              Stream.runCollect
            )
            const sent = results.filter(Result.isSuccess).length
            assert.isAbove(sent, 0)
            assert.strictEqual(talker.stored.filter(({ body }) => body.startsWith("m")).length, sent)
          })))
    }
  }

  it.effect("a guest who gave up waiting makes nobody send more than was under way", () =>
    manually({}, (connection, peer, probe) =>
      Effect.gen(function*() {
        const total = 200
        const go = yield* Deferred.make<void>()
        const fiber = yield* begun(
          connection.sendAll(Stream.fromIterable(mails(total))).pipe(
            Stream.tap(() => Deferred.await(go)),
            Stream.runCollect
          ),
          probe
        )
        const count = () => peer.writes.join("").split("LAST").length - 1
        let answered = 0
        const answer = () => peer.say(...(answered++ > 0 ? ["250 reset"] : []), "250 sender", "250 a", "250 taken")
        const answerAll = Effect.fnUntraced(function*(end: number) {
          for (let i = answered; i < end; i++) {
            answer()
            yield* probe.quiet
          }
        })
        answer()
        yield* probe.quiet
        const guest = yield* begun(connection.send(envelope, "guest"), probe)
        yield* Fiber.interrupt(guest)
        const underWay = count()
        yield* answerAll(underWay)
        assert.strictEqual(count(), underWay)
        yield* Deferred.succeed(go, undefined)
        yield* probe.quiet
        yield* answerAll(total)
        const results = yield* Fiber.join(fiber)
        assert.lengthOf(results.filter(Result.isSuccess), total)
      })))

  it.effect("a message that dies while a guest waits ends the stream with its defect, and the guest is told", () =>
    manually({ offers: noChunking }, (connection, peer, probe) =>
      Effect.gen(function*() {
        let deaths = 0
        const dying: Stream.Stream<string> = Stream.unwrap(Effect.suspend(() => {
          deaths++
          return Effect.die(new Error("defect"))
        }))
        const list = [mail(0), { envelope, message: dying }]
        const go = yield* Deferred.make<void>()
        const fiber = yield* begun(
          connection.sendAll(Stream.fromIterable(list)).pipe(Stream.tap(() => Deferred.await(go)), Stream.runCollect),
          probe
        )
        peer.say("250 sender", "250 a", "354 go")
        yield* probe.quiet
        peer.say("250 taken")
        yield* probe.quiet
        const guest = yield* begun(Effect.flip(connection.send(envelope, "guest")), probe)
        peer.say("250 reset", "250 sender", "250 a", "354 go")
        assert.deepInclude(yield* Fiber.join(guest), { _tag: "ECONNECTION", attempted: false } as never)
        yield* Deferred.succeed(go, undefined)
        const exit = yield* Fiber.await(fiber)
        assert.isTrue(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
        assert.strictEqual(deaths, 1)
      })))

  it.effect("quit waits for what is under way, and nothing more is begun", () =>
    talking({ pace: "each" }, (connection, talker) =>
      Effect.gen(function*() {
        const results = yield* connection.sendAll(Stream.fromIterable(mails(200))).pipe(
          Stream.mapEffect((result, i) => Effect.as(i === 0 ? connection.quit : Effect.void, result)),
          Stream.runCollect
        )
        const sent = results.filter(Result.isSuccess).length
        assert.strictEqual(talker.stored.length, sent)
        assert.isAtLeast(sent, 1)
        assert.isAtMost(sent, 64)
        assert.isTrue(results.slice(sent).every((result) => shown(result) === "ECONNECTION not attempted"))
        assert.strictEqual(talker.heard.at(-1)?.verb, "QUIT")
      })))
})
