/**
 * Servers that lose count of a group of commands: the connection is closed, and the server is talked to one command at a
 * time from then on; others are not.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as outOfStep from "../src/internal/outOfStep.ts"
import * as SmtpConnection from "../src/SmtpConnection.ts"
import { SmtpConnector } from "../src/SmtpConnector.ts"
import * as SmtpError from "../src/SmtpError.ts"
import { type Probe, watched } from "./support/probe.ts"
import { all, greeting, makeConnector, noChunking, type Peer, plain } from "./support/raw.ts"

const envelope = { from: "ann@me.test", to: ["a@mx.test", "b@mx.test"] }
const text = "hi"

/** A network of servers whose other end is the test. */
const onNetwork = <A, E>(
  offers: ReadonlyArray<string>,
  test: (peers: ReadonlyArray<Peer>, probe: Probe) => Effect.Effect<A, E, Scope.Scope | SmtpConnector>
) =>
  Effect.suspend(() => {
    const { connector, peers } = makeConnector(greeting(offers))
    return watched((probe) => Effect.provideService(test(peers, probe), SmtpConnector, connector))
  })

const open = (given: SmtpConnection.Options = {}) => SmtpConnection.make({ ...plain, ...given })

/** How many commands a new connection writes before it reads a reply. */
const groupOf = Effect.fnUntraced(function*(
  peers: ReadonlyArray<Peer>,
  probe: Probe,
  given?: SmtpConnection.Options
) {
  const connection = yield* open(given)
  const peer = peers.at(-1)!
  const fiber = yield* Effect.forkDetach(Effect.exit(connection.send(envelope, text)), { startImmediately: true })
  yield* probe.quiet
  const commands = peer.hear().join("").split(/(?=MAIL|RCPT|DATA|BDAT)/)
  peer.end()
  yield* Fiber.await(fiber)
  return commands.length
})

/** Sends, with these replies to the group, and waits for the end. */
const sendWith = Effect.fnUntraced(function*(
  peers: ReadonlyArray<Peer>,
  probe: Probe,
  replies: ReadonlyArray<string>,
  given?: SmtpConnection.Options
) {
  const connection = yield* open(given)
  const peer = peers.at(-1)!
  const fiber = yield* Effect.forkDetach(Effect.exit(connection.send(envelope, text)), { startImmediately: true })
  yield* probe.quiet
  peer.hear()
  peer.say(...replies)
  const { exit } = yield* probe.drive(fiber)
  return { exit: yield* exit, peer, connection }
})

const tagOf = (exit: Exit.Exit<unknown, unknown>): string =>
  Exit.isSuccess(exit) ? "sent" : SmtpError.fromCause(exit.cause)?._tag ?? "?"

const mail = "250 sender"
const [a, b] = ["250 a", "250 b"]

/** What comes back for MAIL, RCPT, RCPT, DATA in one write, and what the send ends in. */
const deviations: ReadonlyArray<readonly [string, ReadonlyArray<string>, string]> = [
  ["one too many", [mail, a, b, "250 what", "354 go"], "EPROTOCOL"],
  ["one too many at the end", [mail, a, b, "354 go", "250 what"], "EPROTOCOL"],
  ["one too few", [mail, a, "354 go"], "EPROTOCOL"],
  ["one too few at the end", [mail, a, b], "ETIMEDOUT"],
  ["one alone", [mail], "ETIMEDOUT"],
  ["the wrong class", [mail, "334 a", b, "354 go"], "EPROTOCOL"],
  ["swapped", ["354 go", mail, a, b], "EPROTOCOL"],
  ["a positive one to DATA", [mail, a, b, "250 data"], "EPROTOCOL"],
  ["garbage", [mail, "no reply at all"], "EPROTOCOL"],
  ["a code that breaks off", [mail, "250-a", "251 a"], "EPROTOCOL"]
]

describe("a server that answers a group out of step", () => {
  it.effect.each(deviations)(
    "%s: closed, and the next connection says one command at a time",
    ([, replies, tag]) =>
      onNetwork(noChunking, (peers, probe) =>
        Effect.gen(function*() {
          const { connection, exit, peer } = yield* sendWith(peers, probe, replies)
          assert.strictEqual(tagOf(exit), tag)
          assert.isFalse(peer.isOpen)
          assert.isFalse(connection.isUsable)
          const written = peer.writes.length
          const closed = { _tag: "ECONNECTION", attempted: false }
          assert.deepInclude(yield* Effect.flip(connection.send(envelope, text)), closed as never)
          assert.strictEqual(peer.writes.length, written)
          assert.strictEqual(yield* groupOf(peers, probe), 1)
          assert.strictEqual(yield* groupOf(peers, probe), 1)
          // Only this one is.
          assert.strictEqual(yield* groupOf(peers, probe, { host: "other.test" }), 4)
          assert.strictEqual(yield* groupOf(peers, probe, { port: 587 }), 4)
        }))
  )

  it.effect("is not known to those who dial through another connector", () =>
    Effect.gen(function*() {
      yield* onNetwork(noChunking, (peers, probe) => sendWith(peers, probe, ["354 go"]))
      yield* onNetwork(noChunking, (peers, probe) =>
        Effect.gen(function*() {
          assert.strictEqual(yield* groupOf(peers, probe), 4)
        }))
    }))

  it.effect("is told apart by the path of its unix socket", () =>
    onNetwork(noChunking, (peers, probe) =>
      Effect.gen(function*() {
        const at = (path: string): SmtpConnection.Options => ({ host: undefined, path, tls: "off" })
        yield* sendWith(peers, probe, ["354 go"], at("/run/one"))
        assert.strictEqual(yield* groupOf(peers, probe, at("/run/one")), 1)
        assert.strictEqual(yield* groupOf(peers, probe, at("/run/two")), 4)
        assert.strictEqual(yield* groupOf(peers, probe), 4)
      })))

  it.effect("one reply too many after the last one of a flight, or while idle", () =>
    Effect.forEach([true, false], (together) =>
      onNetwork(all, (peers, probe) =>
        Effect.gen(function*() {
          const taken = [mail, a, b, "250 taken"]
          const { connection, exit, peer } = yield* sendWith(
            peers,
            probe,
            together ? [...taken, "250 what"] : taken
          )
          assert.strictEqual(tagOf(exit), "sent")
          if (!together) peer.say("250 what")
          assert.isFalse(connection.isUsable)
          assert.isFalse(peer.isOpen)
          assert.strictEqual(yield* groupOf(peers, probe), 1)
        }))))

  it.effect("one reply too few to a flight: the last is waited for in vain", () =>
    onNetwork(all, (peers, probe) =>
      Effect.gen(function*() {
        const { exit } = yield* sendWith(peers, probe, [mail, a, b])
        const error = Exit.isFailure(exit) ? SmtpError.fromCause(exit.cause) : undefined
        assert.deepInclude(error, { _tag: "ETIMEDOUT", timeout: "final", inDoubt: true } as never)
        assert.strictEqual(yield* groupOf(peers, probe), 1)
      })))

  it.effect("swapped replies in sendAll", () =>
    onNetwork(all, (peers, probe) =>
      Effect.gen(function*() {
        const connection = yield* open()
        const mails = Stream.fromIterable([1, 2, 3].map(() => ({ envelope, message: text })))
        const fiber = yield* Effect.forkDetach(Stream.runCollect(connection.sendAll(mails)), { startImmediately: true })
        yield* probe.quiet
        peers[0]!.say(mail, a, b, "250 taken", "250 reset", "354 go")
        const results = yield* Fiber.join(fiber)
        assert.deepStrictEqual(
          results.map((result) => Result.isSuccess(result) ? "sent" : result.failure._tag),
          ["sent", "EPROTOCOL", "ECONNECTION"]
        )
        assert.strictEqual(yield* groupOf(peers, probe), 1)
      })))
})

describe("what is not the fault of groups is not remembered", () => {
  const still = Effect.fnUntraced(function*(peers: ReadonlyArray<Peer>, probe: Probe, size = 4) {
    assert.strictEqual(yield* groupOf(peers, probe), size)
  })

  it.effect("421, a refusal, a loss and silence from the start", () =>
    onNetwork(noChunking, (peers, probe) =>
      Effect.gen(function*() {
        for (const replies of [["421 bye"], [mail, a, "421 bye"], ["550 no", "503 a", "503 b", "503 data"], []]) {
          yield* sendWith(peers, probe, replies)
          yield* still(peers, probe)
        }
      })))

  it.effect("a message whose final reply is late", () =>
    onNetwork(noChunking, (peers, probe) =>
      Effect.gen(function*() {
        const { exit } = yield* sendWith(peers, probe, [mail, a, b, "354 go"])
        assert.strictEqual(tagOf(exit), "ETIMEDOUT")
        yield* still(peers, probe)
      })))

  it.effect.each(["DATA", "BDAT"])(
    "a source that gives nothing, by %s",
    (via) =>
      onNetwork(via === "DATA" ? noChunking : all, (peers, probe) =>
        Effect.gen(function*() {
          const connection = yield* open({ chunking: via === "DATA" ? false : "always" })
          const source = Stream.concat(Stream.make("x".repeat(100_000)), Stream.never)
          const fiber = yield* Effect.forkDetach(Effect.exit(connection.send(envelope, source)), {
            startImmediately: true
          })
          yield* probe.quiet
          peers[0]!.say(mail, a, b, ...(via === "DATA" ? ["354 go"] : []))
          const { exit } = yield* probe.drive(fiber)
          const ended = yield* exit
          const error = Exit.isFailure(ended) ? SmtpError.fromCause(ended.cause) : undefined
          assert.deepInclude(error, { _tag: "ETIMEDOUT", timeout: "data" } as never)
          yield* still(peers, probe)
        }))
  )

  it.effect("a connection on which no two replies were ever owed at once", () =>
    onNetwork(noChunking, (peers, probe) =>
      Effect.gen(function*() {
        yield* sendWith(peers, probe, ["354 go"], { pipelining: false })
        yield* still(peers, probe)
        const connection = yield* open()
        peers.at(-1)!.say("250 what")
        assert.isFalse(connection.isUsable)
        yield* still(peers, probe)
      })))

  it.effect("pipelining that is turned off stays off", () =>
    onNetwork(noChunking, (peers, probe) =>
      Effect.gen(function*() {
        assert.strictEqual(yield* groupOf(peers, probe, { pipelining: false }), 1)
        yield* still(peers, probe)
      })))
})

describe("the memory of a connector", () => {
  it("holds a thousand servers, and forgets the oldest first", () => {
    const connector = {}
    const at = (i: number) => ({ host: `mx${i}.test`, port: 25 })
    for (let i = 0; i < 1001; i++) outOfStep.remember(connector, at(i))
    assert.isFalse(outOfStep.isKnown(connector, at(0)))
    assert.isTrue(outOfStep.isKnown(connector, at(1)))
    assert.isTrue(outOfStep.isKnown(connector, at(1000)))
    outOfStep.remember(connector, at(1000))
    assert.isTrue(outOfStep.isKnown(connector, at(1)))
    assert.isFalse(outOfStep.isKnown({}, at(1)))
  })

  it("knows a host however its name is written", () => {
    const connector = {}
    outOfStep.remember(connector, { host: "MX.test", port: 25 })
    assert.isTrue(outOfStep.isKnown(connector, { host: "mx.Test", port: 25 }))
    assert.isFalse(outOfStep.isKnown(connector, { host: "mx.test", port: 26 }))
  })
})
