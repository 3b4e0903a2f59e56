/**
 * LIMITS (RFC 9422), and servers that find out later how many recipients they take: who is in which transaction, and what
 * comes of all of them together.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import * as SmtpCapabilities from "../src/SmtpCapabilities.ts"
import * as SmtpConnection from "../src/SmtpConnection.ts"
import * as SmtpError from "../src/SmtpError.ts"
import * as SmtpReply from "../src/SmtpReply.ts"
import { all, begun, manually, noChunking, noPipelining } from "./support/raw.ts"
import { type Script, talking } from "./support/talker.ts"

const from = "ann@me.test"
const text = "hi\r\n"
type List = readonly [string, ...Array<string>]

const addresses = (...names: ReadonlyArray<string>): List =>
  names.map((name) => name.includes("@") ? name : `${name}@mx.test`) as [string, ...Array<string>]
const limited = (limits: string, offers: ReadonlyArray<string> = all) => [...offers, `LIMITS ${limits}`]

const limitsOf = (...lines: ReadonlyArray<string>) =>
  SmtpCapabilities.fromReply(SmtpReply.make(250, "mx.test", ...lines)).limits

describe("LIMITS", () => {
  it("names how much the server takes, in any case and order", () => {
    assert.deepStrictEqual(limitsOf("LIMITS MAILMAX=5 RCPTMAX=20 RCPTDOMAINMAX=1"), {
      mailMax: 5,
      rcptMax: 20,
      rcptDomainMax: 1
    })
    assert.deepStrictEqual(limitsOf("limits rcptmax=999999 FUTURE=3"), {
      mailMax: undefined,
      rcptMax: 999_999,
      rcptDomainMax: undefined
    })
    assert.deepStrictEqual(limitsOf("SIZE 5"), { mailMax: undefined, rcptMax: undefined, rcptDomainMax: undefined })
  })

  it.each([
    "RCPTMAX",
    "RCPTMAX=",
    "RCPTMAX=0",
    "RCPTMAX=-1",
    "RCPTMAX=07",
    "RCPTMAX=1000000",
    "RCPTMAX=1.5",
    "RCPTMAX=1e3",
    "RCPTMAX= 5",
    "XRCPTMAX=5",
    "RCPTMAXX=5",
    "RCPTMAX=٣"
  ])("that is malformed is none: %s", (limits) => {
    assert.isUndefined(limitsOf(`LIMITS ${limits}`).rcptMax)
  })

  it.effect("that is malformed splits nothing", () =>
    talking({ offers: limited("RCPTMAX=0 MAILMAX=x") }, (connection, talker) =>
      Effect.gen(function*() {
        yield* connection.send({ from, to: addresses("a", "b", "c") }, text)
        yield* connection.send({ from, to: addresses("a") }, text)
        assert.deepStrictEqual(talker.stored.map(({ to }) => to.length), [3, 1])
      })))
})

describe("RCPTMAX and RCPTDOMAINMAX", () => {
  const cases: ReadonlyArray<readonly [string, List, ReadonlyArray<ReadonlyArray<string>>]> = [
    ["RCPTMAX=2", addresses("a", "b"), [["a", "b"]]],
    ["RCPTMAX=2", addresses("a", "b", "c"), [["a", "b"], ["c"]]],
    ["RCPTMAX=1", addresses("a", "b", "c"), [["a"], ["b"], ["c"]]],
    ["RCPTMAX=2", addresses("a", "a", "a"), [["a", "a"], ["a"]]],
    ["RCPTDOMAINMAX=1", addresses("a", "b", "c"), [["a", "b", "c"]]],
    ["RCPTDOMAINMAX=1", addresses("a@X.test", "b@x.TEST", "c@y.test", "d@y.test"), [["a", "b"], ["c", "d"]]],
    ["RCPTDOMAINMAX=2", addresses("a@x.test", "b@y.test", "c@x.test", "d@z.test"), [["a", "b", "c"], ["d"]]],
    ["RCPTMAX=3 RCPTDOMAINMAX=2", addresses("a@x.test", "b@y.test", "c@z.test", "d@z.test"), [["a", "b"], ["c", "d"]]],
    ["RCPTMAX=1000", addresses("a", "b"), [["a", "b"]]]
  ]
  const again = SmtpConnection.replayable(Stream.make(text))
  for (const offers of [all, noChunking, noPipelining]) {
    it.effect(`are obeyed, and the result is of all of them (${offers.slice(0, 2).join(", ")})`, () =>
      Effect.forEach(
        cases,
        ([limits, to, groups]) =>
          Effect.forEach(
            [[text, true], [Stream.make(text), false], [again, true]] as const,
            ([message, isReplayable]) =>
              talking({ offers: limited(limits, offers) }, (connection, talker) =>
                Effect.gen(function*() {
                  const { accepted, messageSize, rejected, rejectedErrors } = yield* connection.send(
                    { from, to },
                    message
                  )
                  const stored = talker.stored.map((one) => one.to.map((address) => address.split("@")[0]))
                  assert.strictEqual(messageSize, 4)
                  if (isReplayable || groups.length === 1) {
                    assert.deepStrictEqual(stored, groups.map((group) => [...group]))
                  }
                  assert.deepStrictEqual<unknown>(rejected, rejectedErrors.map((error) => error.recipient))
                  assert.deepStrictEqual([...accepted, ...rejected].toSorted(), [...to].toSorted())
                  assert.deepStrictEqual(accepted, to.slice(0, accepted.length))
                  assert.strictEqual(accepted.length, stored.flat().length)
                }))
          )
      ))
  }

  it.effect("a stream that is read once goes to the first transaction; the others are told so, for a later time", () =>
    talking({ offers: limited("RCPTMAX=2") }, (connection, talker) =>
      Effect.gen(function*() {
        let runs = 0
        const stream = Stream.unwrap(Effect.sync(() => {
          runs++
          return Stream.make(text)
        }))
        const to = addresses("a", "b", "c", "d", "e")
        const { accepted, rejectedErrors } = yield* connection.send({ from, to }, stream)
        assert.deepStrictEqual(accepted, to.slice(0, 2))
        assert.deepStrictEqual(
          rejectedErrors.map((e) => [e._tag, e.recipient, e.attempted, e.isTemporary, e.inDoubt]),
          to.slice(2).map((address) => ["EENVELOPE", address, false, true, false])
        )
        assert.include(rejectedErrors[0]!.message, "SmtpConnection.replayable")
        assert.deepStrictEqual([runs, talker.stored.length], [1, 1])
      })))

  it.effect("a stream that may be read again is, once for each transaction", () =>
    talking({ offers: limited("RCPTMAX=2") }, (connection, talker) =>
      Effect.gen(function*() {
        let runs = 0
        const stream = SmtpConnection.replayable(Stream.unwrap(Effect.sync(() => {
          runs++
          return Stream.make(text)
        })))
        const to = addresses("a", "b", "c", "d", "e")
        const { accepted, rejected } = yield* connection.send({ from, to }, stream)
        assert.deepStrictEqual([accepted, rejected], [to, []])
        assert.deepStrictEqual([runs, talker.stored.length], [3, 3])
      })))

  it.effect("with requireAllRecipients what does not fit is refused on this side, and what fits is sent", () =>
    Effect.forEach(
      ["RCPTMAX=2", "RCPTDOMAINMAX=1"],
      (limits) =>
        talking({ offers: limited(limits) }, (connection, talker) =>
          Effect.gen(function*() {
            const to = addresses("a@x.test", "b@y.test", "c@z.test")
            const error = yield* Effect.flip(connection.send({ from, to, requireAllRecipients: true }, text))
            assert.deepInclude(error, {
              _tag: "EENVELOPE",
              command: "API",
              field: "envelope.to",
              attempted: false,
              isTemporary: false
            } as never)
            assert.match(error.message, /^envelope\.to: .*LIMITS/)
            const [told] = yield* Stream.runCollect(
              connection.sendAll(Stream.make({ envelope: { from, to, requireAllRecipients: true }, message: text }))
            )
            assert.isTrue(told !== undefined && Result.isFailure(told) && told.failure.message === error.message)
            assert.deepStrictEqual(talker.heard, [])
            yield* connection.send({ from, to: addresses("a@x.test", "b@X.test"), requireAllRecipients: true }, text)
          }))
    ))

  it.effect("DSN, SIZE and BODY go with each transaction", () =>
    talking({ offers: [...limited("RCPTMAX=1"), "DSN"] }, (connection, talker) =>
      Effect.gen(function*() {
        const to = addresses("a", "b").map((address) => ({ address, dsn: { notify: ["NEVER" as const] } }))
        yield* connection.send({ from, to, dsn: { envid: "x1" } }, "é")
        const lines = talker.heard.filter(({ verb }) => verb === "MAIL" || verb === "RCPT").map(({ line }) => line)
        const mail = "MAIL FROM:<ann@me.test> SIZE=4 BODY=8BITMIME ENVID=x1"
        assert.deepStrictEqual(lines, [
          mail,
          "RCPT TO:<a@mx.test> NOTIFY=NEVER",
          mail,
          "RCPT TO:<b@mx.test> NOTIFY=NEVER"
        ])
      })))
})

describe("MAILMAX", () => {
  it.effect("counts what was begun; then the connection is used up, and nothing is written", () =>
    Effect.forEach([all, noChunking], (offers) =>
      talking({
        offers: limited("MAILMAX=3", offers),
        answer: ({ nth, verb }) => verb === "MAIL" && nth === 2 ? "451 later" : undefined
      }, (connection, talker) =>
        Effect.gen(function*() {
          const to = addresses("a")
          yield* connection.send({ from, to }, text)
          yield* Effect.flip(connection.send({ from, to: "wrong" }, text))
          yield* Effect.flip(connection.send({ from, to }, text))
          assert.isTrue(connection.isUsable)
          yield* connection.send({ from, to }, text)
          assert.isFalse(connection.isUsable)
          const before = talker.peer.writes.length
          const error = yield* Effect.flip(connection.send({ from, to }, text))
          assert.deepInclude(error, {
            _tag: "ECONNECTION",
            command: "API",
            attempted: false,
            isTemporary: true,
            inDoubt: false
          } as never)
          assert.include(error.message, "LIMITS")
          assert.strictEqual(talker.peer.writes.length, before)
          yield* connection.noop
        }))))

  it.effect("ends sendAll: what was pulled says so, and nothing more is pulled", () =>
    Effect.forEach(
      [all, noChunking, noPipelining],
      (offers) =>
        Effect.forEach([1, 2, 10], (size) =>
          talking({ offers: limited("MAILMAX=3", offers) }, (connection, talker) =>
            Effect.gen(function*() {
              let pulled = 0
              const mails = Stream.fromIterable(Array.from({ length: 1000 }, () => ({
                envelope: { from, to: addresses("a") },
                message: text
              }))).pipe(
                Stream.rechunk(size),
                Stream.mapArray((chunk) => {
                  pulled += chunk.length
                  return chunk
                })
              )
              const results = yield* Stream.runCollect(connection.sendAll(mails))
              assert.strictEqual(results.length, pulled)
              assert.isBelow(pulled, 100)
              assert.deepStrictEqual(results.map(Result.isSuccess).slice(0, 4), [true, true, true, false])
              const failures = results.filter(Result.isFailure).map(({ failure }) =>
                failure as SmtpError.SendError
              )
              assert.isTrue(failures.every((e) => e._tag === "ECONNECTION" && !e.attempted && e.command === "API"))
              assert.lengthOf(talker.stored, 3)
              assert.strictEqual(talker.heard.filter(({ verb }) => verb === "MAIL").length, 3)
            })))
    ))

  it.effect("in the middle of an envelope leaves the rest for another connection", () =>
    talking({ offers: limited("MAILMAX=2 RCPTMAX=1") }, (connection, talker) =>
      Effect.gen(function*() {
        const { accepted, rejectedErrors } = yield* connection.send({ from, to: addresses("a", "b", "c", "d") }, text)
        assert.deepStrictEqual(accepted, addresses("a", "b"))
        assert.deepStrictEqual(
          rejectedErrors.map((e) => [e._tag, e.recipient, e.attempted, e.isTemporary]),
          addresses("c", "d").map((address) => ["ECONNECTION", address, false, true])
        )
        assert.lengthOf(talker.stored, 2)
      })))
})

/** A server that takes so many recipients in a transaction, and says so in these words. */
const roomFor = (count: number, words: string): Script["answer"] => {
  let taken = 0
  return ({ verb }) => {
    if (verb === "MAIL" || verb === "RSET") taken = 0
    if (verb !== "RCPT") return undefined
    return taken++ < count ? undefined : words
  }
}

describe("too many recipients", () => {
  const to = addresses("a", "b", "c", "d", "e")

  for (const words of ["452 too many", "452 4.5.3 too many", "552 too many", "552 5.5.3 too many", "552 4.5.3 many"]) {
    it.effect(`"${words}": a new transaction for the rest, and the result is in the envelope's order`, () =>
      Effect.forEach(
        [all, noChunking, noPipelining],
        (offers) =>
          Effect.forEach(
            [text, new TextEncoder().encode(text), SmtpConnection.replayable(Stream.make(text))],
            (message) =>
              talking({ offers, answer: roomFor(2, words) }, (connection, talker) =>
                Effect.gen(function*() {
                  const { accepted, rejected, reply } = yield* connection.send({ from, to }, message)
                  assert.deepStrictEqual([accepted, rejected], [to, []])
                  assert.deepStrictEqual(talker.stored.map((one) => one.to), [
                    to.slice(0, 2),
                    to.slice(2, 4),
                    to.slice(4)
                  ])
                  assert.strictEqual(reply.code, 250)
                  yield* connection.noop
                }))
          )
      ))
  }

  for (
    const words of ["452 4.2.2 mailbox full", "552 5.2.2 over quota", "451 4.5.3 later", "450 too many", "552 5.5.30 x"]
  ) {
    it.effect(`"${words}" is of the recipient alone`, () =>
      talking({ answer: roomFor(2, words) }, (connection, talker) =>
        Effect.gen(function*() {
          const { accepted, rejectedErrors } = yield* connection.send({ from, to }, text)
          assert.deepStrictEqual(accepted, to.slice(0, 2))
          assert.deepStrictEqual(
            rejectedErrors.map((e) => [e.responseCode, e.isTemporary, e.attempted]),
            to.slice(2).map(() => [Number(words.slice(0, 3)), words.startsWith("4"), true])
          )
          assert.lengthOf(talker.stored, 1)
        })))
  }

  it.effect("and nobody accepted is a refusal; it is not tried again", () =>
    talking({ answer: roomFor(0, "452 4.5.3 too many") }, (connection, talker) =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(connection.send({ from, to }, text))
        assert.deepInclude(error, { _tag: "EENVELOPE", command: "RCPT TO", isTemporary: true } as never)
        assert.strictEqual(talker.heard.filter(({ verb }) => verb === "MAIL").length, 1)
      })))

  it.effect("ends when a transaction takes nobody more", () => {
    let transactions = 0
    let taken = 0
    return talking({
      answer: ({ verb }) => {
        if (verb === "MAIL") transactions++
        if (verb !== "RCPT") return undefined
        return taken++ === 0 ? undefined : "452 too many"
      }
    }, (connection, talker) =>
      Effect.gen(function*() {
        const { accepted, rejectedErrors } = yield* connection.send({ from, to }, text)
        assert.deepStrictEqual(accepted, to.slice(0, 1))
        assert.deepStrictEqual(
          rejectedErrors.map((e) => [e.responseCode, e.isTemporary]),
          to.slice(1).map(() => [452, true])
        )
        assert.strictEqual(transactions, 2)
        assert.lengthOf(talker.stored, 1)
      }))
  })

  it.effect("a stream that is read once: the rest is refused for the moment, 552 too", () =>
    Effect.forEach(
      ["452 too many", "552 5.5.3 too many"],
      (words) =>
        talking({ answer: roomFor(2, words) }, (connection, talker) =>
          Effect.gen(function*() {
            const { accepted, rejectedErrors } = yield* connection.send({ from, to }, Stream.make(text))
            assert.deepStrictEqual(accepted, to.slice(0, 2))
            assert.deepStrictEqual(
              rejectedErrors.map((e) => [e._tag, e.recipient, e.isTemporary, e.responseCode]),
              to.slice(2).map((address) => ["EENVELOPE", address, true, Number(words.slice(0, 3))])
            )
            assert.lengthOf(talker.stored, 1)
          }))
    ))

  it.effect("with requireAllRecipients there is no second transaction", () =>
    talking({ answer: roomFor(2, "452 too many") }, (connection, talker) =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(connection.send({ from, to, requireAllRecipients: true }, text))
        assert.deepInclude(error, { _tag: "EENVELOPE", isTemporary: true } as never)
        assert.deepStrictEqual(talker.stored, [])
        yield* connection.noop
      })))

  it.effect("mixed with other refusals, and with the same address twice, in the order of the envelope", () => {
    const names = addresses("a", "no1", "b", "c", "a", "no2", "d")
    let taken = 0
    return talking({
      answer: ({ line, verb }) => {
        if (verb === "MAIL") taken = 0
        if (verb !== "RCPT") return undefined
        if (line.includes("no")) return "550 5.1.1 nobody"
        return taken++ < 2 ? undefined : "452 4.5.3 too many"
      }
    }, (connection, talker) =>
      Effect.gen(function*() {
        const { accepted, rejected, rejectedErrors } = yield* connection.send({ from, to: names }, text)
        assert.deepStrictEqual(accepted, addresses("a", "b", "c", "a", "d"))
        assert.deepStrictEqual(rejected, addresses("no1", "no2"))
        assert.deepStrictEqual<unknown>(rejectedErrors.map(({ recipient }) => recipient), rejected)
        assert.deepStrictEqual(talker.stored.map((one) => one.to), [
          addresses("a", "b"),
          addresses("c", "a"),
          addresses("d")
        ])
      }))
  })

  it.effect("and LIMITS that promised more: the rest of a group goes before the next", () =>
    talking(
      { offers: limited("RCPTMAX=3"), answer: roomFor(2, "452 too many") },
      (connection, talker) =>
        Effect.gen(function*() {
          const names = addresses("a", "b", "c", "d", "e", "f")
          const { accepted } = yield* connection.send({ from, to: names }, text)
          assert.deepStrictEqual<unknown>(accepted, names)
          assert.deepStrictEqual(talker.stored.map((each) => each.to.map((address) => address[0]).join("")), [
            "ab",
            "c",
            "de",
            "f"
          ])
        })
    ))

  it.effect("over LMTP as well, where each has its own final reply", () => {
    const answer = roomFor(2, "452 too many")!
    return talking({
      protocol: "lmtp",
      answer: (heard) => heard.recipient === "d@mx.test" ? "550 full" : answer(heard)
    }, (connection, talker) =>
      Effect.gen(function*() {
        const { accepted, rejectedErrors } = yield* connection.send({ from, to }, text)
        assert.deepStrictEqual(accepted, addresses("a", "b", "c", "e"))
        assert.deepStrictEqual(rejectedErrors.map((e) => [e._tag, e.recipient]), [["EMESSAGE", "d@mx.test"]])
        assert.lengthOf(talker.stored, 3)
      }))
  })

  it.effect("within sendAll: the others keep their results, their order and their messages", () => {
    const answer = roomFor(2, "452 too many")!
    return Effect.forEach(
      [all, noChunking],
      (offers) =>
        talking({ offers, answer }, (connection, talker) =>
          Effect.gen(function*() {
            const mails = [addresses("a"), to, addresses("b"), addresses("c", "d", "e"), addresses("f")].map((
              list,
              i
            ) => ({
              envelope: { from, to: list },
              message: `m${i}\r\n`
            }))
            const results = yield* Stream.runCollect(connection.sendAll(Stream.fromIterable(mails)))
            assert.deepStrictEqual(
              results.map((result) => Result.isSuccess(result) ? result.success.accepted : []),
              mails.map(({ envelope }) => envelope.to)
            )
            const stored = talker.stored.toSorted((one, other) => one.body.localeCompare(other.body))
            assert.deepStrictEqual(
              stored.map(({ body, to: list }) => `${body.trim()} ${list.length}`),
              ["m0 1", "m1 2", "m1 2", "m1 1", "m2 1", "m3 2", "m3 1", "m4 1"]
            )
          }))
    )
  })

  it.effect("within sendAll: the rest is not put off for mails that come later", () =>
    Effect.forEach(
      [all, noChunking],
      (offers) =>
        Effect.forEach([{}, { timeouts: { total: "1 hour" } }] as const, (options) =>
          talking({ offers, answer: roomFor(2, "452 too many") }, (connection, talker) =>
            Effect.gen(function*() {
              const mails = Array.from({ length: 1000 }, (_, i) => ({
                envelope: { from, to: i === 3 ? to : addresses("a") },
                message: `m${i}\r\n`
              }))
              yield* Stream.runDrain(connection.sendAll(Stream.fromIterable(mails)).pipe(Stream.take(4)))
              assert.isAtMost(talker.stored.length, 200)
              assert.lengthOf(
                talker.stored.filter(({ body }) =>
                  body === "m3\r\n"
                ),
                3
              )
            }), options))
    ))

  it.effect("within sendAll with LIMITS: such a mail has the connection for itself", () =>
    Effect.forEach(
      [all, noChunking],
      (offers) =>
        talking({ offers: limited("RCPTMAX=2", offers) }, (connection, talker) =>
          Effect.gen(function*() {
            const mails = [addresses("a"), to, addresses("b"), addresses("f")].map((list, i) => ({
              envelope: { from, to: list },
              message: `m${i}\r\n`
            }))
            const results = yield* Stream.runCollect(connection.sendAll(Stream.fromIterable(mails)))
            assert.deepStrictEqual(
              results.map((result) => Result.isSuccess(result) ? result.success.accepted : []),
              mails.map(({ envelope }) => envelope.to)
            )
            assert.deepStrictEqual(talker.stored.map(({ body }) => body[1]), ["0", "1", "1", "1", "2", "3"])
          }))
    ))
})

describe("what goes wrong in a later transaction", () => {
  const to = addresses("a", "b", "c")

  /** Those behind the first transaction, as they are told of it. */
  const told = (
    script: Script,
    message: SmtpConnection.Message<unknown> = text,
    options: SmtpConnection.Options = {}
  ) =>
    talking({ offers: limited("RCPTMAX=1"), ...script }, (connection, talker) =>
      Effect.gen(function*() {
        const { accepted, rejected, rejectedErrors } = yield* connection.send({ from, to }, message)
        assert.deepStrictEqual<unknown>(rejectedErrors.map(({ recipient }) => recipient), rejected)
        assert.deepStrictEqual<unknown>([...accepted, ...rejected].toSorted(), to)
        return {
          accepted,
          isUsable: connection.isUsable,
          stored: talker.stored.length,
          errors: rejectedErrors.map((e) => [e._tag, e.attempted, e.inDoubt, e.handedOver, e.isTemporary])
        }
      }), options)

  it.effect("a refused recipient is one of many", () =>
    Effect.gen(function*() {
      const { accepted, errors } = yield* told({
        answer: ({ nth, verb }) => verb === "RCPT" && nth === 2 ? "550 no" : undefined
      })
      assert.deepStrictEqual(accepted, addresses("a", "c"))
      assert.deepStrictEqual(errors, [["EENVELOPE", true, false, false, false]])
    }))

  it.effect("the first may be refused as well, and all of them", () =>
    Effect.gen(function*() {
      const { accepted } = yield* told({
        answer: ({ nth, verb }) => verb === "RCPT" && nth === 1 ? "550 no" : undefined
      })
      assert.deepStrictEqual(accepted, addresses("b", "c"))
      yield* talking({
        offers: limited("RCPTMAX=1"),
        answer: ({ nth, verb }) => verb === "RCPT" ? nth === 2 ? "451 no" : "550 no" : undefined
      }, (connection) =>
        Effect.gen(function*() {
          const error = yield* Effect.flip(connection.send({ from, to }, text))
          assert.deepInclude(error, { _tag: "EENVELOPE", command: "RCPT TO", isTemporary: true } as never)
          const { rejectedErrors } = error as SmtpError.EENVELOPE
          assert.deepStrictEqual(rejectedErrors?.map((e) => [e.recipient, e.responseCode]), [
            ["a@mx.test", 550],
            ["b@mx.test", 451],
            ["c@mx.test", 550]
          ])
        }))
    }))

  it.effect("a message refused in the first ends it for all; in a later one only there, and those behind are not tried", () =>
    Effect.gen(function*() {
      yield* talking({
        offers: limited("RCPTMAX=1"),
        answer: ({ nth, verb }) => verb === "BDAT" && nth === 1 ? "451 no" : undefined
      }, (connection, talker) =>
        Effect.gen(function*() {
          const error = yield* Effect.flip(connection.send({ from, to }, text))
          assert.deepInclude(error, { _tag: "EMESSAGE", inDoubt: false } as never)
          assert.strictEqual(talker.heard.filter(({ verb }) => verb === "MAIL").length, 1)
        }))
      const later = yield* told({ answer: ({ nth, verb }) => verb === "BDAT" && nth === 2 ? "451 no" : undefined })
      assert.deepStrictEqual(later.accepted, addresses("a"))
      assert.deepStrictEqual(later.errors, [
        ["EMESSAGE", true, false, true, true],
        ["EMESSAGE", false, false, false, true]
      ])
      assert.isTrue(later.isUsable)
    }))

  it.effect("a loss: in doubt where it was handed over, and not attempted where it was not begun", () =>
    Effect.gen(function*() {
      // MAIL, RCPT and BDAT of the first; then before each reply of the second.
      for (const cutBefore of [4, 5, 6]) {
        const { accepted, errors, isUsable } = yield* told({ cutBefore })
        assert.deepStrictEqual(accepted, addresses("a"))
        assert.deepStrictEqual(errors, [
          ["ECONNECTION", true, true, true, true],
          ["ECONNECTION", false, false, false, true]
        ])
        assert.isFalse(isUsable)
      }
      const byData = yield* told({ cutBefore: 6, offers: limited("RCPTMAX=1", noChunking) })
      assert.deepStrictEqual(byData.errors, [
        ["ECONNECTION", true, false, false, true],
        ["ECONNECTION", false, false, false, true]
      ])
    }))

  it.effect("a source that fails when it is read again: the first have the message, the rest is told why", () =>
    Effect.gen(function*() {
      let runs = 0
      const source = SmtpConnection.replayable(
        Stream.unwrap(
          Effect.suspend(() => runs++ === 0 ? Effect.succeed(Stream.make(text)) : Effect.fail("broken" as const))
        )
      )
      const { accepted, errors, isUsable } = yield* told({}, source)
      assert.deepStrictEqual(accepted, addresses("a"))
      assert.deepStrictEqual(errors, [
        ["EMESSAGE", true, false, false, true],
        ["EMESSAGE", false, false, false, true]
      ])
      assert.isFalse(isUsable)
    }))

  it.effect("a source that dies then is a defect all the same", () =>
    talking({ offers: limited("RCPTMAX=1") }, (connection) =>
      Effect.gen(function*() {
        let runs = 0
        const source = SmtpConnection.replayable(Stream.unwrap(Effect.suspend(() =>
          runs++ === 0 ? Effect.succeed(Stream.make(text)) : Effect.die(new Error("defect"))
        )))
        const exit = yield* Effect.exit(connection.send({ from, to }, source))
        assert.isTrue(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
      })))

  /** Interrupts a send in its second transaction; gives what the interruption tells. */
  const interrupted = (offers: ReadonlyArray<string>, replies: ReadonlyArray<ReadonlyArray<string>>) =>
    manually({ offers: limited("RCPTMAX=1", offers) }, (connection, peer, probe) =>
      Effect.gen(function*() {
        const fiber = yield* begun(connection.send({ from, to }, text), probe)
        for (const lines of replies) {
          peer.say(...lines)
          yield* probe.quiet
        }
        const stop = yield* begun(Fiber.interrupt(fiber), probe)
        yield* probe.drive(stop)
        const exit = yield* Fiber.await(fiber)
        assert.isTrue(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
        const { cause } = exit as Exit.Failure<unknown, unknown>
        const known = Context.getOrUndefined(Cause.annotations(cause), SmtpError.Outcome)
        return [known?.inDoubt, known?.reply?.code, known?.reply?.text]
      }))

  it.effect("an interruption tells that a part was accepted, or that more may be", () =>
    Effect.gen(function*() {
      const first = ["250 sender", "250 a", "250 taken first"]
      assert.deepStrictEqual(yield* interrupted(all, []), [true, undefined, undefined])
      assert.deepStrictEqual(yield* interrupted(all, [first]), [true, undefined, undefined])
      assert.deepStrictEqual(yield* interrupted(all, [first, ["550 no"]]), [false, 250, "taken first"])
      assert.deepStrictEqual(yield* interrupted(all, [first, ["250 sender", "550 no"]]), [false, 250, "taken first"])
      const byData = [["250 sender", "250 a", "354 go"], ["250 taken first"]]
      assert.deepStrictEqual(yield* interrupted(noChunking, byData), [false, 250, "taken first"])
      assert.deepStrictEqual(
        yield* interrupted(noChunking, [...byData, ["250 sender", "250 b"]]),
        [false, 250, "taken first"]
      )
    }))

  it.effect("timeouts.total in the second is ETIMEDOUT that nobody may repeat", () =>
    manually(
      { offers: limited("RCPTMAX=1", noChunking), options: { timeouts: { total: "1 minute" } } },
      (c, peer, probe) =>
        Effect.gen(function*() {
          const fiber = yield* begun(Effect.flip(c.send({ from, to }, text)), probe)
          peer.say("250 sender", "250 a", "354 go")
          yield* probe.quiet
          peer.say("250 taken first")
          const { exit } = yield* probe.drive(fiber)
          const error = yield* exit
          assert.deepInclude(error, { _tag: "ETIMEDOUT", timeout: "total", inDoubt: false } as never)
          assert.isFalse(SmtpError.isRetryable(error))
          assert.strictEqual(error.responseCode, 250)
        })
    ))
})
