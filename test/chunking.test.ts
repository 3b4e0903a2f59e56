/**
 * CHUNKING and BINARYMIME (RFC 3030), octet by octet: when a message goes with its envelope, how long its chunks are, and
 * what is known of it when something goes wrong.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import type * as Envelope from "../src/Envelope.ts"
import type * as SmtpConnection from "../src/SmtpConnection.ts"
import * as SmtpError from "../src/SmtpError.ts"
import { all, begun, manually, noPipelining } from "./support/raw.ts"
import { talking } from "./support/talker.ts"

const from = "ann@me.test"
const two = { from, to: ["a@mx.test", "b@mx.test"] }
const one = { from, to: "a@mx.test" }
const recipients = "RCPT TO:<a@mx.test>\r\nRCPT TO:<b@mx.test>\r\n"
const text = "hi"
const flight = `MAIL FROM:<ann@me.test> SIZE=4\r\n${recipients}BDAT 4 LAST\r\nhi\r\n`
const always = { chunking: "always" } as const
const envelopeTaken = ["250 sender", "250 a", "250 b"]
const binary = new TextDecoder("latin1")
const octets = (latin1: string): Uint8Array => Uint8Array.from(latin1, (char) => char.charCodeAt(0))

/** Chunks of a body: "size of command/size of octets", with LAST. */
const chunksOf = (
  said: string
): ReadonlyArray<{ readonly size: number; readonly last: boolean; readonly body: string }> => {
  const chunks = []
  let at = said.indexOf("BDAT ")
  while (at >= 0 && at < said.length) {
    const header = /^BDAT (\d+)( LAST)?\r\n/.exec(said.slice(at, at + 40))
    assert.isNotNull(header, said.slice(at, at + 40))
    const size = Number(header![1])
    const start = at + header![0].length
    chunks.push({ size, last: header![2] !== undefined, body: said.slice(start, start + size) })
    at = start + size
  }
  return chunks
}

const lossOf = (exit: Exit.Exit<unknown, unknown>): SmtpError.SmtpError =>
  (Exit.isFailure(exit) ? SmtpError.fromCause(exit.cause) : undefined) ?? assert.fail(String(exit))

describe("a small message", () => {
  it.effect("goes in one write with its envelope, and one round trip is enough", () =>
    talking({}, (connection, { rounds }) =>
      Effect.gen(function*() {
        yield* connection.send(two, text)
        assert.deepStrictEqual(rounds, [[flight]])
        yield* connection.send(two, octets("ho"))
        assert.deepStrictEqual(rounds.slice(1), [[flight.replace("hi", "ho")]])
      })))

  it.effect("has its result when every reply is there, and not before", () =>
    manually({}, (connection, peer, probe) =>
      Effect.gen(function*() {
        const fiber = yield* begun(connection.send(two, text), probe)
        for (const reply of envelopeTaken) {
          peer.say(reply)
          yield* probe.quiet
          assert.isUndefined(fiber.pollUnsafe())
        }
        peer.say("250 taken")
        const { messageSize, response } = yield* Fiber.join(fiber)
        assert.deepStrictEqual([messageSize, response], [4, "taken"])
      })))

  for (const [after, isFlight] of [[0, true], [5_000, true], [5_001, false], [60_000, false]] as const) {
    it.effect(`${isFlight ? "does" : "does not"} so ${after} ms after the last reply`, () =>
      manually({}, (connection, peer, probe) =>
        Effect.gen(function*() {
          yield* probe.advance(after)
          const fiber = yield* begun(connection.send(two, text), probe)
          assert.deepStrictEqual(peer.hear(), [isFlight ? flight : flight.slice(0, flight.indexOf("BDAT"))])
          peer.say(...envelopeTaken)
          yield* probe.quiet
          assert.deepStrictEqual(peer.hear(), isFlight ? [] : ["BDAT 4 LAST\r\nhi\r\n"])
          peer.say("250 taken")
          yield* Fiber.join(fiber)
        })))
  }

  it.effect("does so again once any reply has come", () =>
    manually({}, (connection, peer, probe) =>
      Effect.gen(function*() {
        yield* probe.advance(60_000)
        const noop = yield* begun(connection.noop, probe)
        peer.say("250 ok")
        yield* Fiber.join(noop)
        yield* probe.advance(4_000)
        peer.hear()
        yield* begun(Effect.exit(connection.send(two, text)), probe)
        assert.deepStrictEqual(peer.hear(), [flight])
      })))

  const addresses = (count: number) => Array.from({ length: count }, (_, i) => `r${i}@mx.test`)
  const cases: ReadonlyArray<
    readonly [string, boolean, SmtpConnection.Options, readonly [Envelope.Input, SmtpConnection.Message]]
  > = [
    ["97 recipients", true, {}, [{ from, to: addresses(97) }, text]],
    ["98 recipients, more than may be unread", false, {}, [{ from, to: addresses(98) }, text]],
    ["requireAllRecipients", false, {}, [{ ...two, requireAllRecipients: true }, text]],
    ["LMTP", false, { protocol: "lmtp" }, [two, text]],
    ["pipelining: false", false, { pipelining: false }, [two, text]],
    ["chunking: false", false, { chunking: false }, [two, text]],
    ["64 KiB", true, {}, [two, "x".repeat(65_534) + "\r\n"]],
    ["one octet more than 64 KiB", false, {}, [two, "x".repeat(65_535) + "\r\n"]],
    ["64 KiB that are more once they have their CRs", false, {}, [two, "x\n".repeat(32_768)]],
    ["64 KiB of text that are more in UTF-8", false, {}, [two, "é".repeat(65_534)]],
    ["a stream", false, always, [two, Stream.make("hi")]],
    ["nothing at all", true, {}, [two, ""]]
  ]
  it.effect.each(cases)(
    "%s: in the first write with its envelope %s",
    ([, isFlight, options, [envelope, message]]) =>
      manually({ options }, (connection, peer, probe) =>
        Effect.gen(function*() {
          yield* begun(Effect.exit(connection.send(envelope, message)), probe)
          const said = peer.hear()
          assert.lengthOf(said, 1)
          assert.strictEqual(said[0]!.includes("BDAT"), isFlight)
          if (isFlight) assert.isTrue(chunksOf(said[0]!).every(({ body, last, size }) => last && body.length === size))
        }))
  )

  it.effect("one that grew goes by BDAT still, and a large one by DATA", () =>
    talking({}, (connection, talker) =>
      Effect.gen(function*() {
        yield* connection.send(one, "x\n".repeat(32_768))
        yield* connection.send(one, "é".repeat(65_534))
        yield* connection.send(one, "x".repeat(65_537))
        yield* connection.send(one, Stream.make("x"))
        assert.deepStrictEqual(talker.stored.map(({ chunks }) => chunks), [1, 1, 0, 0])
        assert.deepStrictEqual(
          talker.stored.map(({ body }) => body.length),
          [98_304, 131_070, 65_539, 3]
        )
      })))

  it.effect("chunking decides: false is DATA, \"always\" is BDAT", () =>
    Effect.gen(function*() {
      const table = { DATA: [false, [0, 0, 0]], small: [true, [1, 0, 0]], all: ["always", [1, 1, 1]] } as const
      for (const [chunking, expected] of Object.values(table)) {
        yield* talking({}, (connection, talker) =>
          Effect.gen(function*() {
            for (const message of [text, "x".repeat(70_000), Stream.make(text)]) yield* connection.send(one, message)
            assert.deepStrictEqual<ReadonlyArray<number>>(talker.stored.map(({ chunks }) => chunks), expected)
          }), { chunking })
      }
    }))

  it.effect("is DATA where CHUNKING is not offered, whatever chunking says", () =>
    talking({ offers: ["PIPELINING"] }, (connection, talker) =>
      Effect.gen(function*() {
        yield* connection.send(one, text)
        yield* connection.send(one, Stream.make(text))
        assert.deepStrictEqual(talker.stored.map(({ chunks }) => chunks), [0, 0])
      }), always))
})

/** A stream that gives one element at a time. */
const singly = <A>(elements: ReadonlyArray<A>): Stream.Stream<A> => Stream.rechunk(Stream.fromIterable(elements), 1)

const alphabet = ["\r", "\n", ".", "a", "\0"]

const stringsOf = (length: number): ReadonlyArray<string> =>
  length === 0 ? [""] : stringsOf(length - 1).flatMap((rest) => alphabet.map((char) => char + rest))

/** Every way to cut a string. */
const cutsOf = (string: string): ReadonlyArray<ReadonlyArray<string>> => {
  if (string.length < 2) return [[string]]
  return cutsOf(string.slice(1)).flatMap(([head = "", ...tail]) => [
    [string[0]! + head, ...tail],
    [string[0]!, head, ...tail]
  ])
}

const canonical = (string: string): string => {
  const lines = string.replace(/\r\n|\r|\n/g, "\r\n")
  return lines === "" || lines.endsWith("\r\n") ? lines : `${lines}\r\n`
}

/** A server that takes lengths at their word: whatever does not fit is a command that it does not know. */
const strict = <E>(
  options: SmtpConnection.Options,
  test: (
    transfer: (
      message: SmtpConnection.Message,
      expected: string,
      binaryMime?: boolean
    ) => Effect.Effect<number, SmtpError.SendError>
  ) => Effect.Effect<void, E>
) =>
  talking(
    { swift: true },
    (connection, talker) =>
      test((message, expected, binaryMime = false) =>
        Effect.map(connection.send({ ...one, binaryMime }, message), ({ messageSize }) => {
          const stored = talker.stored.pop()
          talker.rounds.length = talker.heard.length = talker.peer.writes.length = 0
          talker.peer.hear()
          assert.strictEqual(stored?.body, expected)
          assert.strictEqual(messageSize, expected.length)
          return stored!.chunks
        })
      ),
    options
  )

describe("the length of a chunk is that of its octets", () => {
  it.effect("for every string of up to five of CR, LF, dot, a and NUL, as a string and as octets", () =>
    strict({}, (transfer) =>
      Effect.forEach([0, 1, 2, 3, 4, 5].flatMap(stringsOf), (string) =>
        Effect.gen(function*() {
          yield* transfer(string, canonical(string))
          if (string.length < 5) yield* transfer(octets(string), canonical(string))
        }), { discard: true })))

  it.effect("for every cut of every string of up to four of them, as a stream", () =>
    strict(
      always,
      (transfer) =>
        Effect.forEach([0, 1, 2, 3, 4].flatMap(stringsOf).flatMap(cutsOf), (cut) =>
          transfer(singly(cut), canonical(cut.join(""))), { discard: true })
    ))

  it.effect("and as they are with BODY=BINARYMIME", () =>
    strict({}, (transfer) =>
      Effect.forEach([0, 1, 2, 3, 4].flatMap(stringsOf), (string) =>
        Effect.gen(function*() {
          yield* transfer(string, string, true)
          yield* transfer(octets(string), string, true)
          yield* transfer(singly(string.split("")), string, true)
        }), { discard: true })))

  it.effect("where a chunk ends between any two of them", () =>
    strict(
      always,
      (transfer) =>
        Effect.forEach([0, 1, 2].flatMap(stringsOf), (before) =>
          Effect.forEach(["", ...alphabet, "\r\n", ".\r\n"], (after) =>
            Effect.gen(function*() {
              const head = "x".repeat(65_537 - before.length) + before
              const chunks = yield* transfer(singly([head, after]), canonical(head + after))
              assert.strictEqual(chunks, 2)
            }), { discard: true }), { discard: true })
    ))

  it.effect("with octets of a character on both sides of a cut", () =>
    strict(always, (transfer) =>
      Effect.gen(function*() {
        const smile = "😀"
        const utf8 = binary.decode(new TextEncoder().encode(smile))
        yield* transfer(singly(["a", smile[0]!, smile[1]!, "b"]), `a${utf8}b\r\n`)
        yield* transfer(singly(["a", smile[0]!]), `a${binary.decode(new TextEncoder().encode("\ufffd"))}\r\n`)
      })))
})

/** So many parts that are a chunk each, however fast they come; and how many of them were asked for. */
const partSize = 1_048_576
const parts = (count: number) => {
  const asked = { parts: 0 }
  const part = `${"x".repeat(partSize - 2)}\r\n`
  const stream = singly(Array.from({ length: count }, () => part)).pipe(
    Stream.tap(() =>
      Effect.sync(() => {
        asked.parts++
      })
    )
  )
  return { asked, part, stream }
}

describe("a stream in chunks", () => {
  it.effect("has at most eight that are not answered, and goes on when they are", () =>
    manually({ options: always }, (connection, peer, probe) =>
      Effect.gen(function*() {
        const { asked, part, stream } = parts(10)
        const fiber = yield* begun(connection.send(two, stream), probe)
        assert.deepStrictEqual(peer.hear(), [`MAIL FROM:<ann@me.test> BODY=8BITMIME\r\n${recipients}`])
        peer.say(...envelopeTaken)
        yield* probe.quiet
        const said: Array<string> = []
        const sizes: Array<number> = []
        while (fiber.pollUnsafe() === undefined) {
          const heard = peer.hear().join("")
          said.push(heard)
          const chunks = chunksOf(heard)
          assert.isAbove(chunks.length, 0)
          sizes.push(chunks.length)
          assert.isAtMost(asked.parts, chunksOf(said.join("")).length + 1)
          for (const { last } of chunks) peer.say(last ? "250 taken" : "250 chunk")
          yield* probe.quiet
        }
        assert.deepStrictEqual(sizes, [8, 3])
        const chunks = chunksOf(said.join(""))
        assert.strictEqual(chunks.map(({ body }) => body).join(""), part.repeat(10))
        assert.deepStrictEqual(chunks.map(({ size, last }) => [size, last]), [
          ...Array.from({ length: 10 }, () => [partSize, false]),
          [0, true]
        ])
        const { messageSize } = yield* Fiber.join(fiber)
        assert.strictEqual(messageSize, 10 * partSize)
      })))

  it.effect("has one that is not answered without PIPELINING", () =>
    manually({ offers: noPipelining, options: always }, (connection, peer, probe) =>
      Effect.gen(function*() {
        const { stream } = parts(3)
        const fiber = yield* begun(connection.send(one, stream), probe)
        peer.say("250 sender")
        yield* probe.quiet
        peer.say("250 a")
        yield* probe.quiet
        peer.hear()
        yield* probe.quiet
        const sizes: Array<number> = []
        peer.writes.length = 0
        assert.isUndefined(fiber.pollUnsafe())
        for (let i = 0; i < 4; i++) {
          peer.say(i === 3 ? "250 taken" : "250 chunk")
          yield* probe.quiet
          sizes.push(chunksOf(peer.writes.splice(0).join("")).length)
        }
        assert.deepStrictEqual(sizes, [1, 1, 1, 0])
        yield* Fiber.join(fiber)
      })))

  it.effect("is held back by a transport that takes no more", () =>
    manually({ options: always }, (connection, peer, probe) =>
      Effect.gen(function*() {
        const { asked, stream } = parts(3)
        const fiber = yield* begun(connection.send(one, stream), probe)
        peer.accepts = false
        peer.hear()
        peer.say("250 sender", "250 a")
        let written = 0
        for (let said = ""; !said.includes("LAST");) {
          yield* probe.quiet
          const writes = peer.hear()
          assert.lengthOf(writes, 1)
          said = writes[0]!
          written += said.length
          assert.isAtMost(asked.parts * partSize, written + partSize)
          peer.drain()
        }
        assert.isAbove(written, 3 * partSize)
        yield* probe.quiet
        assert.deepStrictEqual(peer.hear(), [])
        peer.say(...Array.from({ length: 3 }, () => "250 chunk"), "250 taken")
        yield* Fiber.join(fiber)
      })))

  it.effect("gathers what comes in small pieces", () =>
    talking({}, (connection, talker) =>
      Effect.gen(function*() {
        const lines = Array.from({ length: 3000 }, () => `${"y".repeat(76)}\r\n`)
        yield* connection.send(one, singly(lines))
        const sizes = talker.heard.filter(({ verb }) => verb === "BDAT").map(({ body }) => body.length)
        assert.isAtLeast(sizes.length, 2)
        assert.deepStrictEqual(sizes.slice(0, -1).filter((size) => size < 65_536), [])
        assert.strictEqual(talker.stored[0]?.body, lines.join(""))
      }), always))

  it.effect("a piece that is large is one chunk, cut into writes", () =>
    talking({}, (connection, talker) =>
      Effect.gen(function*() {
        const large = `${"z".repeat(1_000_000)}\r\n`
        yield* connection.send(one, singly([large, "end"]))
        const sizes = talker.heard.filter(({ verb }) => verb === "BDAT").map(({ line }) => line)
        // The encoder may hold back what it cannot judge yet.
        assert.lengthOf(sizes, 2)
        assert.match(sizes[0]!, /^BDAT 100000\d$/)
        assert.strictEqual(talker.stored[0]?.body, `${large}end\r\n`)
        assert.isAtMost(Math.max(...talker.peer.writes.map((write) => write.length)), 65_536 + 16)
      }), always))

  it.effect("the deadline of a chunk counts from its last octet", () =>
    manually(
      { options: { ...always, timeouts: { data: "1 hour", idle: "1 hour" } } },
      (connection, peer, probe) =>
        Effect.gen(function*() {
          const fiber = yield* begun(Effect.exit(connection.send(one, singly(["z".repeat(200_000), "end"]))), probe)
          peer.accepts = false
          peer.say("250 sender", "250 a")
          yield* probe.quiet
          for (let i = 0; i < 4; i++) {
            yield* probe.advance(Duration.toMillis("4 minutes"))
            assert.isUndefined(fiber.pollUnsafe(), "the server has not read it yet")
            peer.drain()
            yield* probe.quiet
          }
          peer.say("250 chunk", "250 taken")
          assert.isTrue(Exit.isSuccess(yield* Fiber.join(fiber)))
        })
    ))

  it.effect("a chunk that is never answered ends it after five minutes, and no source is waited for meanwhile", () =>
    manually({ options: always }, (connection, peer, probe) =>
      Effect.gen(function*() {
        const { stream } = parts(10)
        const fiber = yield* begun(Effect.exit(connection.send(one, stream)), probe)
        peer.say("250 sender", "250 a")
        const { elapsed, exit } = yield* probe.drive(fiber)
        assert.strictEqual(elapsed, Duration.toMillis("5 minutes"))
        const expected = { _tag: "ETIMEDOUT", timeout: "command", command: "BDAT", inDoubt: false, handedOver: false }
        assert.deepInclude(lossOf(yield* exit), expected as never)
      })))

  it.effect("of nothing is one empty chunk, which is the last", () =>
    Effect.forEach(
      [Stream.empty, Stream.make(""), "", new Uint8Array(0)],
      (message) =>
        talking({}, (connection, talker) =>
          Effect.gen(function*() {
            const { messageSize } = yield* connection.send(one, message)
            assert.deepStrictEqual(
              talker.heard.filter(({ verb }) => verb === "BDAT").map(({ line }) => line),
              ["BDAT 0 LAST"]
            )
            assert.deepStrictEqual([talker.stored[0]?.body, messageSize], ["", 0])
          }), always)
    ))

  it.effect("that fails says nothing more, and the connection is closed", () =>
    manually({ options: always }, (connection, peer, probe) =>
      Effect.gen(function*() {
        const broken = Stream.concat(Stream.make("x".repeat(70_000)), Stream.fail("broken" as const))
        const fiber = yield* begun(Effect.flip(connection.send(one, broken)), probe)
        peer.hear()
        peer.say("250 sender", "250 a")
        assert.strictEqual(yield* Fiber.join(fiber), "broken")
        assert.notInclude(peer.hear().join(""), "LAST")
        assert.isFalse(peer.isOpen)
      })))
})

describe("a chunk that is refused", () => {
  const refusing = (reply: string, isLast = false) => ({
    answer: ({ line, verb }: { readonly line: string; readonly verb: string }) =>
      verb === "BDAT" && line.includes("LAST") === isLast ? reply : undefined
  })

  it.effect("in the middle ends the message, not the connection; RSET goes before the next", () =>
    manually({ options: always }, (connection, peer, probe) =>
      Effect.gen(function*() {
        const { asked, stream } = parts(10)
        const fiber = yield* begun(Effect.flip(connection.send(one, stream)), probe)
        peer.say("250 sender", "250 a")
        yield* probe.quiet
        peer.hear()
        peer.say("250 chunk", "552 5.3.4 too much")
        yield* probe.quiet
        assert.isUndefined(fiber.pollUnsafe(), "replies are owed")
        const before = asked.parts
        peer.say(...Array.from({ length: 6 }, () => "503 5.5.1 nothing to add to"))
        const error = yield* Fiber.join(fiber)
        assert.deepInclude(error, { _tag: "EMESSAGE", command: "BDAT", inDoubt: false, handedOver: false } as never)
        assert.deepStrictEqual([(error as SmtpError.EMESSAGE).responseCode, asked.parts], [552, before])
        assert.deepStrictEqual(peer.hear(), [])
        const again = yield* begun(connection.send(one, text), probe)
        assert.match(peer.hear()[0]!, /^RSET\r\nMAIL /)
        peer.say("250 reset", "250 sender", "250 a", "250 taken")
        yield* Fiber.join(again)
      })))

  it.effect("while the source takes its time: the last chunk is not sent when it ends", () =>
    manually({ options: always }, (connection, peer, probe) =>
      Effect.gen(function*() {
        const gate = yield* Deferred.make<void>()
        const source = Stream.concat(
          parts(1).stream,
          Stream.unwrap(Effect.as(Deferred.await(gate), Stream.make("end")))
        )
        const fiber = yield* begun(Effect.flip(connection.send(one, source)), probe)
        peer.say("250 sender", "250 a")
        yield* probe.quiet
        peer.hear()
        peer.say("552 5.3.4 too much")
        yield* Deferred.succeed(gate, undefined)
        assert.deepInclude(yield* Fiber.join(fiber), { _tag: "EMESSAGE", inDoubt: false, handedOver: false } as never)
        assert.deepStrictEqual(peer.hear(), [])
        assert.isTrue(connection.isUsable)
      })))

  it.effect("after the last was handed over: the refusal counts, and the connection is kept", () =>
    talking(refusing("552 5.3.4 too much"), (connection) =>
      Effect.gen(function*() {
        const { stream } = parts(3)
        const error = yield* Effect.flip(connection.send(one, stream))
        assert.deepInclude(error, { _tag: "EMESSAGE", inDoubt: false } as never)
        assert.strictEqual((error as SmtpError.EMESSAGE).responseCode, 552)
        yield* connection.send(one, text)
      }), always))

  it.effect("after the last was handed over, and then a loss: in doubt", () =>
    talking({ ...refusing("552 5.3.4 too much"), cutBefore: 7 }, (connection) =>
      Effect.gen(function*() {
        // Behind the replies to MAIL, RCPT and four chunks.
        const error = yield* Effect.flip(connection.send(one, parts(4).stream))
        assert.deepInclude(error, { inDoubt: true, handedOver: true } as never)
        assert.isFalse(SmtpError.isRetryable(error))
      }), always))

  it.effect("no other reply than a refusal is one: 3yz and 421 close", () =>
    Effect.forEach(
      [["354 go", "EPROTOCOL"], ["421 bye", "ECONNECTION"]] as const,
      ([reply, tag]) =>
        Effect.forEach([true, false], (isLast) =>
          talking(refusing(reply, isLast), (connection, talker) =>
            Effect.gen(function*() {
              const message = isLast ? text : parts(3).stream
              const error = yield* Effect.flip(connection.send(one, message))
              assert.strictEqual(error._tag, tag)
              assert.isFalse(talker.peer.isOpen)
              assert.isFalse(connection.isUsable)
            }), always))
    ))

  it.effect.each([500, 502])(
    "%i says that BDAT is not known: closed, first or last",
    (code) =>
      Effect.forEach(
        [true, false],
        (isLast) =>
          talking(refusing(`${code} 5.5.1 BDAT?`, isLast), (connection, talker) =>
            Effect.gen(function*() {
              const error = yield* Effect.flip(connection.send(one, isLast ? text : parts(10).stream))
              assert.deepInclude(error, { _tag: "EMESSAGE", inDoubt: false, handedOver: isLast } as never)
              assert.strictEqual((error as SmtpError.EMESSAGE).responseCode, code)
              assert.isFalse(connection.isUsable)
              assert.isFalse(talker.peer.isOpen)
            }), always)
      )
  )

  it.effect("500 to the last chunk closes where nobody was accepted, too", () =>
    talking({
      answer: ({ verb }) => verb === "RCPT" ? "550 no" : verb === "BDAT" ? "500 BDAT?" : undefined
    }, (connection) =>
      Effect.gen(function*() {
        assert.deepInclude(yield* Effect.flip(connection.send(one, text)), { _tag: "EENVELOPE" } as never)
        assert.isFalse(connection.isUsable)
      })))

  it.effect("and every other refusal keeps the connection; RSET goes before the next", () =>
    Effect.forEach(
      [451, 452, 503, 550, 552, 554],
      (code) =>
        talking(
          { answer: ({ nth, verb }) => verb === "BDAT" && nth === 1 ? `${code} no` : undefined },
          (connection, talker) =>
            Effect.gen(function*() {
              const error = yield* Effect.flip(connection.send(one, text))
              assert.deepInclude(error, { _tag: "EMESSAGE", inDoubt: false, handedOver: true } as never)
              yield* connection.send(one, text)
              assert.deepStrictEqual(talker.heard.map(({ verb }) => verb).slice(3, 5), ["RSET", "MAIL"])
            })
        )
    ))

  it.effect("of a flight for nobody says nothing of the transaction: RSET goes before the next, MAIL refused or not", () =>
    Effect.forEach(["MAIL", "RCPT"], (refused) =>
      Effect.forEach(["503 no", "250 taken for nobody"], (last) =>
        talking({
          answer: ({ nth, verb }) =>
            nth > 1 ? undefined : verb === refused ? "451 no" : verb === "BDAT" ? last : undefined
        }, (connection, talker) =>
          Effect.gen(function*() {
            assert.strictEqual((yield* Effect.flip(connection.send(one, text)))._tag, "EENVELOPE")
            yield* connection.send(one, text)
            assert.deepStrictEqual(talker.heard.map(({ verb }) => verb).slice(3, 5), ["RSET", "MAIL"])
            assert.lengthOf(talker.stored, 1)
          })))))

  it.effect("a surplus reply to a chunk closes; behind the last one the message is taken still", () =>
    Effect.gen(function*() {
      yield* talking(refusing("250 taken\r\n250 again", true), (connection, talker) =>
        Effect.gen(function*() {
          yield* connection.send(one, text)
          assert.isFalse(connection.isUsable)
          assert.isFalse(talker.peer.isOpen)
        }))
      yield* talking(
        { ...refusing("250 chunk\r\n250 again"), pace: "each" },
        (connection, talker) =>
          Effect.gen(function*() {
            const error = yield* Effect.flip(connection.send(one, Stream.concat(parts(1).stream, Stream.never)))
            assert.strictEqual((error as SmtpError.SmtpError)._tag, "EPROTOCOL")
            assert.isFalse(talker.peer.isOpen)
          }),
        always
      )
    }))
})

describe("BODY=BINARYMIME", () => {
  const bare = "a\rb\nc\0\u00ff.\n"

  for (
    const [name, message] of [
      ["octets", octets(bare)],
      ["a stream", singly(Array.from(bare, octets))]
    ] as const
  ) {
    it.effect(`sends ${name} as they are, whatever chunking says`, () =>
      Effect.forEach(
        [true, false, "always"] as const,
        (chunking) =>
          talking({}, (connection, talker) =>
            Effect.gen(function*() {
              const { messageSize } = yield* connection.send({ ...one, binaryMime: true }, message)
              assert.strictEqual(messageSize, bare.length)
              assert.strictEqual(talker.stored[0]?.body, bare)
              const size = message instanceof Uint8Array ? ` SIZE=${bare.length}` : ""
              assert.strictEqual(talker.heard[0]?.line, `MAIL FROM:<ann@me.test>${size} BODY=BINARYMIME`)
            }), { chunking })
      ))
  }

  it.effect("sends a string as its UTF-8, with no line end added", () =>
    talking({}, (connection, talker) =>
      Effect.gen(function*() {
        yield* connection.send({ ...one, binaryMime: true }, "é\n")
        assert.strictEqual(talker.stored[0]?.body, "\u00c3\u00a9\n")
      })))

  it.effect.each(
    [
      [["CHUNKING", "8BITMIME"], "BINARYMIME"],
      [["BINARYMIME", "8BITMIME"], "CHUNKING"]
    ] as const
  )(
    "needs %j to have %s too: EMESSAGE before MAIL",
    ([offers, missing]) =>
      talking({ offers }, (connection, talker) =>
        Effect.gen(function*() {
          for (const message of ["x", Stream.make("x")]) {
            const error = yield* Effect.flip(connection.send({ ...one, binaryMime: true }, message))
            assert.deepInclude(error, { _tag: "EMESSAGE", command: "API", attempted: false } as never)
            assert.include(error.message, missing)
            assert.strictEqual((error as SmtpError.EMESSAGE).field, "envelope.binaryMime")
          }
          assert.deepStrictEqual(talker.heard, [])
        }))
  )

  it.effect("counts against SIZE as it is", () =>
    talking(
      { offers: [...all.filter((offer) => offer !== "SIZE"), "SIZE 10"] },
      (connection, talker) =>
        Effect.gen(function*() {
          yield* connection.send({ ...one, binaryMime: true }, "\n".repeat(10))
          const error = yield* Effect.flip(connection.send({ ...one, binaryMime: true }, "\n".repeat(11)))
          assert.deepInclude(error, { _tag: "EMESSAGE", command: "API" } as never)
          assert.deepInclude(yield* Effect.flip(connection.send(one, "\n".repeat(6))), { _tag: "EMESSAGE" } as never)
          assert.lengthOf(talker.stored, 1)
        })
    ))
})

describe("octets above 0x7f in chunks", () => {
  const without = all.filter((offer) => offer !== "8BITMIME")

  it.effect("are declared when there are any", () =>
    talking({}, (connection, talker) =>
      Effect.gen(function*() {
        yield* connection.send(one, "e")
        yield* connection.send(one, "é")
        yield* connection.send(one, octets("\u0080"))
        const mails = talker.heard.filter(({ verb }) => verb === "MAIL").map(({ line }) => / BODY=.*/.exec(line)?.[0])
        assert.deepStrictEqual(mails, [undefined, " BODY=8BITMIME", " BODY=8BITMIME"])
      })))

  it.effect("are EMESSAGE before MAIL where 8BITMIME is not offered; in a stream when they come, and closed", () =>
    talking({ offers: without }, (connection, talker) =>
      Effect.gen(function*() {
        assert.strictEqual((yield* Effect.flip(connection.send(one, "é")))._tag, "EMESSAGE")
        assert.deepStrictEqual(talker.heard, [])
        yield* connection.send(one, Stream.make("plain"))
        const wide = singly(["x".repeat(70_000), `é${"y".repeat(200_000)}`, "z"])
        const error = yield* Effect.flip(connection.send(one, wide))
        assert.deepInclude(error, { _tag: "EMESSAGE", command: "BDAT", inDoubt: false, handedOver: false } as never)
        assert.isFalse(talker.peer.isOpen)
        const written = talker.peer.writes.join("")
        assert.strictEqual(written.split("LAST").length - 1, 1)
        assert.notMatch(written, /[\u0080-\u00ff]/)
      }), always))

  it.effect("half a character at the end of a stream is one", () =>
    talking({ offers: without }, (connection, talker) =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(connection.send(one, Stream.make("a", "\ud83d")))
        assert.deepInclude(error, { _tag: "EMESSAGE", command: "BDAT", handedOver: false } as never)
        assert.notInclude(talker.peer.writes.join(""), "BDAT")
      }), always))
})

describe("what is known of a flight that is lost", () => {
  it.effect("at any octet: it was handed over whole, and nobody said what became of it", () =>
    Effect.forEach(
      Array.from({ length: flight.length }, (_, i) => i + 1),
      (cutAfter) =>
        talking({ cutAfter }, (connection, talker) =>
          Effect.gen(function*() {
            const exit = yield* Effect.exit(connection.send(two, text))
            if (Exit.isSuccess(exit)) return assert.strictEqual(cutAfter, flight.length)
            assert.deepInclude(lossOf(exit), {
              _tag: "ECONNECTION",
              inDoubt: true,
              handedOver: true,
              attempted: true
            } as never)
            assert.isFalse(SmtpError.isRetryable(lossOf(exit)))
            assert.deepStrictEqual(talker.stored, [])
          })),
      { discard: true }
    ))

  const table: ReadonlyArray<readonly [string, (verb: string) => string | undefined, ReadonlyArray<boolean>]> = [
    // Before the reply to MAIL, RCPT, RCPT and BDAT.
    ["all is taken", () => undefined, [true, true, true, true]],
    ["MAIL is refused", (verb) => verb === "MAIL" ? "451 later" : undefined, [true, false, false, false]],
    ["every RCPT is refused", (verb) => verb === "RCPT" ? "451 later" : undefined, [true, true, true, false]]
  ]
  it.effect.each(table)(
    "before any reply, %s",
    ([, answer, doubts]) =>
      Effect.forEach(doubts, (inDoubt, i) =>
        talking({
          cutBefore: i + 1,
          answer: ({ verb }) => answer(verb)
        }, (connection) =>
          Effect.gen(function*() {
            const error = lossOf(yield* Effect.exit(connection.send(two, text)))
            assert.strictEqual(error.inDoubt, inDoubt, `before reply ${i + 1}`)
            assert.strictEqual(error._tag, inDoubt ? "ECONNECTION" : "EENVELOPE")
            assert.isTrue(error.isTemporary)
            assert.strictEqual(SmtpError.isRetryable(error), !inDoubt)
            assert.isFalse(connection.isUsable)
          })))
  )

  it.effect("421 to a recipient: in doubt if another was accepted", () =>
    Effect.forEach(
      [1, 2],
      (which) =>
        talking({ answer: ({ nth, verb }) => verb === "RCPT" && nth === which ? "421 bye" : undefined }, (connection) =>
          Effect.gen(function*() {
            const error = lossOf(yield* Effect.exit(connection.send(two, text)))
            assert.deepInclude(error, { _tag: "ECONNECTION", command: "RCPT TO", inDoubt: true } as never)
            const alone = lossOf(yield* Effect.exit(connection.send(one, text)))
            assert.isFalse(alone.attempted)
          }))
    ))

  it.effect("one of two recipients refused leaves it in doubt", () =>
    talking(
      { cutBefore: 4, answer: ({ nth, verb }) => verb === "RCPT" && nth === 1 ? "550 no" : undefined },
      (c) =>
        Effect.gen(function*() {
          assert.isTrue(lossOf(yield* Effect.exit(c.send(two, text))).inDoubt)
        })
    ))
})

describe("a flight that is interrupted", () => {
  const outcomeOf = (exit: Exit.Exit<unknown, unknown>) => {
    assert.isTrue(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause), String(exit))
    return Context.getOrUndefined(Cause.annotations((exit as Exit.Failure<unknown, unknown>).cause), SmtpError.Outcome)
  }
  const replies = [...envelopeTaken, "250 taken"]

  const table = {
    "all is taken": [replies, 5],
    "MAIL is refused": [["550 no", "503", "503", "503"], 1],
    "every RCPT is refused": [["250 sender", "550 no", "550 no", "503"], 3]
  } as const
  // Behind so many replies it is known that nobody was accepted.
  for (const [name, [said, knownBehind]] of Object.entries(table)) {
    for (let count = 0; count < 4; count++) {
      it.effect(`behind ${count} of four replies waits 500 ms for the others, and tells what it knows (${name})`, () =>
        manually({}, (connection, peer, probe) =>
          Effect.gen(function*() {
            const fiber = yield* begun(connection.send(two, text), probe)
            for (const reply of said.slice(0, count)) peer.say(reply)
            yield* probe.quiet
            const stop = yield* begun(Fiber.interrupt(fiber), probe)
            assert.isUndefined(fiber.pollUnsafe())
            const { elapsed } = yield* probe.drive(stop)
            assert.strictEqual(elapsed, 500)
            const known = outcomeOf(yield* Fiber.await(fiber))
            const isRefused = count >= knownBehind
            assert.deepStrictEqual([known?.inDoubt, known?.reply?.code], isRefused ? [false, 550] : [true, undefined])
            assert.isFalse(peer.isOpen)
          })))

      it.effect(`behind ${count} of four replies takes the others if they come (${name})`, () =>
        manually({}, (connection, peer, probe) =>
          Effect.gen(function*() {
            const fiber = yield* begun(connection.send(two, text), probe)
            for (const reply of said.slice(0, count)) peer.say(reply)
            yield* probe.quiet
            yield* begun(Fiber.interrupt(fiber), probe)
            yield* probe.advance(499)
            peer.say(...said.slice(count))
            const known = outcomeOf(yield* Fiber.await(fiber))
            assert.deepStrictEqual([known?.inDoubt, known?.reply?.code], [false, name === "all is taken" ? 250 : 550])
            assert.isFalse(connection.isUsable)
            assert.isFalse(peer.isOpen)
          })))
    }
  }

  it.effect("before its octets: the connection is whole, and nothing was written", () =>
    manually({}, (connection, peer, probe) =>
      Effect.gen(function*() {
        const noop = yield* begun(connection.noop, probe)
        const fiber = yield* begun(connection.send(two, text), probe)
        peer.hear()
        yield* Fiber.interrupt(fiber)
        assert.isUndefined(outcomeOf(yield* Fiber.await(fiber)))
        peer.say("250 ok")
        yield* Fiber.join(noop)
        assert.deepStrictEqual(peer.hear(), [])
        assert.isTrue(connection.isUsable)
      })))
})

describe("what is known of chunks", () => {
  /** MAIL and RCPT; three chunks; the last. */
  const message = () => parts(3).stream

  it.effect("lost behind any write: in doubt if the last was written", () =>
    Effect.gen(function*() {
      let count = Infinity
      for (let at = 1; at <= count; at++) {
        yield* manually({ options: always }, (connection, peer, probe) =>
          Effect.gen(function*() {
            let written = 0
            let hasLast = false
            peer.onWrite = (write) => {
              written++
              hasLast ||= write.includes(" LAST")
              if (written === at) queueMicrotask(() => peer.end())
            }
            const fiber = yield* begun(Effect.exit(connection.send(one, message())), probe)
            peer.say("250 sender", "250 a")
            yield* probe.quiet
            if (written < at) {
              count = written
              peer.end()
            }
            const error = lossOf(yield* Fiber.join(fiber))
            assert.deepInclude(error, { inDoubt: hasLast, handedOver: hasLast, attempted: true } as never)
          }))
      }
      assert.isAbove(count, 6)
    }))

  it.effect("a whole message in one chunk of several writes, lost behind any of them: in doubt if all were written", () =>
    Effect.forEach(
      [1, 2, 3, 4],
      (at) =>
        manually({ options: always }, (connection, peer, probe) =>
          Effect.gen(function*() {
            const fiber = yield* begun(Effect.exit(connection.send(one, "x".repeat(200_000))), probe)
            peer.hear()
            peer.accepts = false
            peer.say("250 sender", "250 a")
            for (let i = 1; i <= at; i++) {
              yield* probe.quiet
              assert.lengthOf(peer.hear(), 1)
              if (i < at) peer.drain()
            }
            peer.end()
            const error = lossOf(yield* Fiber.join(fiber))
            assert.deepInclude(error, { inDoubt: at === 4, handedOver: at === 4, attempted: true } as never)
          }))
    ))

  it.effect("what is held of a stream goes in several writes as well, if it is much", () =>
    talking({}, (connection, talker) =>
      Effect.gen(function*() {
        yield* connection.send(one, singly(["x".repeat(70_000), "y".repeat(60_000), "z".repeat(60_000)]))
        const writes = talker.peer.writes.filter((write) => /[xyz]{9}/.test(write))
        assert.isAtMost(Math.max(...writes.map((write) => write.length)), 65_536 + 16)
        assert.strictEqual(talker.stored[0]?.body.length, 190_002)
      }), always))

  it.effect("interrupted before the last: closed at once, and nothing more is written", () =>
    manually({ options: always }, (connection, peer, probe) =>
      Effect.gen(function*() {
        const fiber = yield* begun(connection.send(one, Stream.concat(message(), Stream.never)), probe)
        peer.say("250 sender", "250 a")
        yield* probe.quiet
        assert.lengthOf(chunksOf(peer.hear().join("")), 3)
        yield* Fiber.interrupt(fiber)
        assert.deepStrictEqual(peer.hear(), [])
        assert.isFalse(peer.isOpen)
        assert.isFalse(connection.isUsable)
      })))
})

describe("chunks over LMTP", () => {
  const lmtp = { offers: all, protocol: "lmtp" } as const

  it.effect("have a reply for each recipient that was accepted", () =>
    Effect.forEach([text, Stream.make(text)], (message) =>
      talking({
        ...lmtp,
        answer: ({ recipient, verb, line }) =>
          verb === "RCPT" && line.includes("b@") ? "550 no" : recipient === "c@mx.test" ? "452 full" : undefined
      }, (connection, talker) =>
        Effect.gen(function*() {
          const to = ["a@mx.test", "b@mx.test", "c@mx.test", "d@mx.test"]
          const { accepted, rejectedErrors } = yield* connection.send({ from, to }, message)
          assert.deepStrictEqual(accepted, ["a@mx.test", "d@mx.test"])
          assert.deepStrictEqual(
            rejectedErrors.map(({ _tag, recipient, responseCode }) => [_tag, recipient, responseCode]),
            [["EENVELOPE", "b@mx.test", 550], ["EMESSAGE", "c@mx.test", 452]]
          )
          assert.lengthOf(talker.rounds, 2)
          yield* connection.noop
        }), always)))

  it.effect("that lose the connection between two replies: the first is accepted, the second in doubt", () =>
    talking({ ...lmtp, cutBefore: 5 }, (connection) =>
      Effect.gen(function*() {
        const { accepted, rejectedErrors } = yield* connection.send(two, text)
        assert.deepStrictEqual(accepted, ["a@mx.test"])
        assert.deepStrictEqual(rejectedErrors.map(({ inDoubt, recipient }) => [recipient, inDoubt]), [[
          "b@mx.test",
          true
        ]])
      })))

  it.effect("refused for everybody before the message: the message is not sent", () =>
    talking(
      { ...lmtp, answer: ({ verb }) => verb === "RCPT" ? "550 no" : undefined },
      (connection, talker) =>
        Effect.gen(function*() {
          assert.strictEqual((yield* Effect.flip(connection.send(two, text)))._tag, "EENVELOPE")
          assert.notInclude(talker.heard.map(({ verb }) => verb), "BDAT")
          yield* connection.noop
        })
    ))
})
