/** The wire against a duplex that does what the test says, also what no duplex should. */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import type { Deadlines } from "../src/internal/options.ts"
import type { SmtpCommand } from "../src/SmtpCommand.ts"
import type { Duplex, Ended, Listener, TlsInfo, TlsUpgrade } from "../src/SmtpConnector.ts"
import * as SmtpError from "../src/SmtpError.ts"
import * as SmtpReply from "../src/SmtpReply.ts"
import * as SmtpWire from "../src/SmtpWire.ts"
import { type Probe, watched } from "./support/probe.ts"
import { assertHidden } from "./support/secrets.ts"

const utf8 = new TextEncoder()
const binary = new TextDecoder("latin1")

/** It goes on calling its listener after it was destroyed. */
class Scripted implements Duplex {
  readonly secured = false
  readonly remoteAddress = undefined
  localAddress: string | undefined = "192.0.2.1"
  readonly writes: Array<ReadonlyArray<string>> = []
  destroyed = 0
  /** What `write` gives. */
  takes = true
  /** What comes as soon as there is a listener. */
  early = ""
  tls: Effect.Effect<TlsInfo, SmtpError.ETLS> = Effect.never
  private listener: Listener | undefined

  readonly listen = (listener: Listener): void => {
    this.listener = listener
    if (this.early !== "") this.say(this.early)
  }
  readonly write = (chunks: ReadonlyArray<Uint8Array>): boolean => {
    this.writes.push(chunks.map((chunk) => binary.decode(chunk)))
    return this.takes
  }
  readonly upgrade = (): Effect.Effect<TlsInfo, SmtpError.ETLS> => this.tls
  readonly end = (): void => {}
  readonly destroy = (): void => {
    this.destroyed++
  }

  say(...chunks: ReadonlyArray<string>): void {
    for (const chunk of chunks) this.listener?.onData(utf8.encode(chunk))
  }
  drain(): void {
    this.listener?.onDrain()
  }
  over(ended: Ended = { _tag: "Closed" }): void {
    this.listener?.onEnd(ended)
  }
  get all(): string {
    return this.writes.flat().join("")
  }
}

const minute = 60_000
const deadlines: Deadlines = {
  dns: 30_000,
  connect: 2 * minute,
  greeting: 30_000,
  tls: 30_000,
  command: 5 * minute,
  data: 3 * minute,
  final: 10 * minute,
  idle: 20 * minute,
  quit: 2000,
  total: Infinity
}

interface Bench {
  readonly probe: Probe
  readonly duplex: Scripted
  readonly wire: SmtpWire.SmtpWire
}

interface Setup {
  readonly deadlines?: Partial<Deadlines>
  readonly transcript?: SmtpWire.Options["transcript"]
}

/** A wire whose greeting is still owed. */
const fresh = <A, E>(setup: Setup, test: (bench: Bench) => Effect.Effect<A, E>) =>
  watched((probe) =>
    Effect.gen(function*() {
      const duplex = new Scripted()
      const wire = yield* SmtpWire.make(duplex, {
        deadlines: { ...deadlines, ...setup.deadlines },
        transcript: setup.transcript ?? "off",
        annotations: { connection: "smtp-1" }
      })
      yield* Effect.addFinalizer(() => Effect.sync(() => assert.isAtMost(duplex.destroyed, 1)))
      return yield* test({ probe, duplex, wire })
    })
  )

/** A wire that has been greeted. */
const greeted = <A, E>(test: (bench: Bench) => Effect.Effect<A, E>, setup: Setup = {}) =>
  fresh(setup, (bench) =>
    Effect.gen(function*() {
      bench.duplex.early = "220 hi\r\n"
      yield* bench.wire.greeting(undefined)
      return yield* test(bench)
    }))

const fork = <A, E>(effect: Effect.Effect<A, E>) => Effect.forkDetach(effect, { startImmediately: true })

const mail: SmtpCommand = { _tag: "Mail", from: "a@a.test", parameters: {} }
const rcpt: SmtpCommand = { _tag: "Rcpt", to: "b@b.test", parameters: {} }
const noop: SmtpCommand = { _tag: "Noop" }
const inMail = { stage: "MAIL" } as const
const inRcpt = { stage: "RCPT", attempted: true } as const
const inNoop = { stage: "NOOP" } as const
const inBody = { stage: "BODY" } as const
const inFinal = { stage: "FINAL", inDoubt: true } as const
const octets = (...texts: ReadonlyArray<string>) => texts.map((text) => utf8.encode(text))

const errorOf = (exit: Exit.Exit<unknown, unknown>): SmtpError.SmtpError =>
  (Exit.isFailure(exit) ? SmtpError.fromCause(exit.cause) : undefined) ?? assert.fail(String(exit))

/** The next command is refused with this, and nothing is written. */
const assertFailed = Effect.fnUntraced(function*({ duplex, wire }: Bench, tag: SmtpError.WireError["_tag"]) {
  const before = duplex.writes.length
  const error = yield* Effect.flip(wire.command(mail, inMail))
  assert.deepInclude(error, { _tag: tag, command: "MAIL FROM", attempted: false })
  assert.lengthOf(duplex.writes, before)
  assert.strictEqual(duplex.destroyed, 1)
  assert.isFalse(wire.isReady)
  return error
})

describe("deadlines", () => {
  it.effect("greeting: the whole greeting within its time, with the hint", () =>
    fresh({}, ({ duplex, probe, wire }) =>
      Effect.gen(function*() {
        const fiber = yield* fork(wire.greeting("try TLS"))
        yield* probe.advance(20_000)
        duplex.say("220-hel")
        const { elapsed, exit } = yield* probe.drive(fiber)
        assert.strictEqual(elapsed, 10_000)
        const error = errorOf(exit)
        assert.deepInclude(error, { _tag: "ETIMEDOUT", timeout: "greeting", command: "CONN" })
        assert.include(error.message, "try TLS")
      })))

  it.effect("command: one octet a second does not stretch it", () =>
    greeted(({ duplex, probe, wire }) =>
      Effect.gen(function*() {
        const fiber = yield* fork(wire.command(mail, inMail))
        for (let second = 1; second < 300; second++) {
          yield* probe.advance(1000)
          duplex.say(second === 1 ? "2" : second < 4 ? "5" : second === 4 ? "-" : "x")
        }
        assert.isUndefined(fiber.pollUnsafe())
        const { elapsed, exit } = yield* probe.drive(fiber)
        assert.strictEqual(elapsed, 1000)
        assert.deepInclude(errorOf(exit), { _tag: "ETIMEDOUT", timeout: "command", attempted: true })
      })
    ))

  it.effect("quit: two seconds", () =>
    greeted(({ probe, wire }) =>
      Effect.gen(function*() {
        const { elapsed, exit } = yield* probe.settle(wire.command({ _tag: "Quit" }, { stage: "QUIT" }))
        assert.strictEqual(elapsed, 2000)
        assert.deepInclude(errorOf(exit), { _tag: "ETIMEDOUT", timeout: "quit", command: "QUIT" })
      })
    ))

  it.effect("data: a write that is not taken", () =>
    greeted(({ duplex, probe, wire }) =>
      Effect.gen(function*() {
        wire.beginBody()
        yield* probe.advance(2 * minute)
        duplex.takes = false
        const { elapsed, exit } = yield* probe.settle(wire.body(octets("x"), inBody))
        assert.strictEqual(elapsed, 3 * minute)
        assert.deepInclude(errorOf(exit), { _tag: "ETIMEDOUT", timeout: "data", command: "DATA", inDoubt: false })
      })
    ))

  it.effect("data: each wait on the source, from what was written before it", () =>
    greeted(({ duplex, probe, wire }) =>
      Effect.gen(function*() {
        wire.beginBody()
        const lost = yield* fork(wire.failed(inBody))
        for (let i = 0; i < 3; i++) {
          yield* probe.advance(2 * minute)
          duplex.takes = false
          const write = yield* fork(wire.body(octets("x"), inBody))
          yield* probe.advance(2 * minute)
          duplex.drain()
          assert.isTrue(Exit.isSuccess((yield* probe.drive(write)).exit))
        }
        const { elapsed, exit } = yield* probe.drive(lost)
        assert.strictEqual(elapsed, 3 * minute)
        assert.deepInclude(errorOf(exit), { _tag: "ETIMEDOUT", timeout: "data" })
      })
    ))

  it.effect("final: counted anew for each of several replies", () =>
    greeted(({ duplex, probe, wire }) =>
      Effect.gen(function*() {
        wire.beginBody()
        wire.endBody(octets(".\r\n"), 2)
        const replies = Effect.gen(function*() {
          const first = yield* wire.receive(inFinal)
          return [first, yield* wire.receive(inFinal)]
        })
        const fiber = yield* fork(replies)
        yield* probe.advance(9 * minute)
        duplex.say("250 one\r\n")
        const { elapsed, exit } = yield* probe.drive(fiber)
        assert.strictEqual(elapsed, 10 * minute)
        assert.deepInclude(errorOf(exit), { _tag: "ETIMEDOUT", timeout: "final", inDoubt: true, handedOver: true })
      })
    ))

  it.effect("no deadline of a reply is in force when none is owed", () =>
    greeted(({ duplex, probe, wire }) =>
      Effect.gen(function*() {
        const fiber = yield* fork(wire.command(noop, inNoop))
        duplex.say("250 ok\r\n")
        yield* Fiber.join(fiber)
        yield* probe.advance(19 * minute)
        assert.isTrue(wire.isReady)
      })
    ))

  it.effect("idle: octets in either direction count, empty writes do not", () =>
    greeted((bench) =>
      Effect.gen(function*() {
        const { duplex, probe, wire } = bench
        yield* probe.advance(19 * minute)
        const fiber = yield* fork(wire.command(noop, inNoop))
        duplex.say("250 ok\r\n")
        yield* Fiber.join(fiber)
        yield* probe.advance(19 * minute)
        assert.isTrue(wire.isReady)
        duplex.say("2")
        yield* probe.advance(19 * minute)
        assert.isUndefined(wire.failure)
        wire.hand(octets("", ""), 0, "data")
        assert.strictEqual(duplex.all, "NOOP\r\n")
        yield* probe.advance(minute)
        assert.deepInclude(yield* assertFailed(bench, "ETIMEDOUT"), { timeout: "idle" })
      }), { deadlines: { data: Infinity } }))

  it.effect("idle: also in the middle of a wait that has no deadline of its own", () =>
    greeted(({ probe, wire }) =>
      Effect.gen(function*() {
        const { elapsed, exit } = yield* probe.settle(wire.command(noop, inNoop))
        assert.strictEqual(elapsed, 20 * minute)
        assert.deepInclude(errorOf(exit), { _tag: "ETIMEDOUT", timeout: "idle", attempted: true })
      }), { deadlines: { command: Infinity } }))

  it.effect("without any deadline nobody sleeps", () =>
    greeted(({ duplex, probe, wire }) =>
      Effect.gen(function*() {
        const fiber = yield* fork(wire.command(noop, inNoop))
        yield* probe.quiet
        assert.strictEqual(probe.sleeps(), 0)
        yield* probe.advance(1e9)
        duplex.say("250 ok\r\n")
        assert.strictEqual((yield* Fiber.join(fiber)).code, 250)
      }), { deadlines: { greeting: Infinity, command: Infinity, idle: Infinity } }))

  it.effect("all wires share one timer, and each deadline strikes its own", () =>
    watched((probe) =>
      Effect.gen(function*() {
        const wires: Array<SmtpWire.SmtpWire> = []
        for (let n = 0; n < 50; n++) {
          // 1 to 50 seconds, in no order.
          const own = { ...deadlines, greeting: 1000 * (1 + (n * 7) % 50) }
          const wire = yield* SmtpWire.make(new Scripted(), { deadlines: own, transcript: "off", annotations: {} })
          yield* fork(wire.greeting(undefined))
          wires.push(wire)
        }
        for (let second = 1; second <= 50; second++) {
          assert.strictEqual(probe.sleeps(), 1)
          yield* probe.advance(1000)
          const expired = wires.flatMap(({ failure }, n) => failure === undefined ? [] : [1 + (n * 7) % 50])
          assert.deepStrictEqual(expired.toSorted((a, b) => a - b), Array.from({ length: second }, (_, n) => n + 1))
        }
        assert.strictEqual(probe.sleeps(), 0)
      })
    ))

  it.effect("a duplex that throws takes no deadline from the others", () =>
    fresh({}, ({ probe, wire }) =>
      Effect.gen(function*() {
        const broken = new Scripted()
        Object.assign(broken, { destroy: () => assert.fail("destroy") })
        const scope = yield* Scope.make()
        const other = yield* Scope.provide(
          SmtpWire.make(broken, { deadlines: { ...deadlines, greeting: 10 }, transcript: "off", annotations: {} }),
          scope
        )
        other.arm("greeting")
        yield* fork(wire.greeting(undefined))
        yield* probe.advance(10)
        assert.isDefined(other.failure)
        yield* probe.advance(30_000)
        assert.deepInclude(wire.failure, { _tag: "Deadline", timeout: "greeting" })
      })))

  it.effect("put in force again, shorter or longer, there is one timer at most", () =>
    greeted((bench) =>
      Effect.gen(function*() {
        const { probe, wire } = bench
        for (let i = 0; i < 100; i++) {
          for (const name of ["command", "quit", "final", "greeting", "data"] as const) wire.arm(name)
          if (i % 10 === 0) yield* probe.advance(1000)
          assert.isAtMost(probe.sleeps(), 1)
        }
        wire.arm("quit")
        yield* probe.advance(1999)
        assert.isUndefined(wire.failure)
        yield* probe.advance(1)
        assert.deepInclude(yield* assertFailed(bench, "ETIMEDOUT"), { timeout: "quit" })
        yield* probe.quiet
        assert.strictEqual(probe.sleeps(), 0)
        assert.strictEqual(probe.fibers(), 0)
      })
    ))
})

describe("replies", () => {
  it.effect("one that comes before its command, in the same chunk, fails the command that follows", () =>
    greeted((bench) =>
      Effect.gen(function*() {
        const fiber = yield* fork(bench.wire.command(noop, inNoop))
        bench.duplex.say("250 ok\r\n250 early\r\n")
        assert.strictEqual((yield* Fiber.join(fiber)).text, "ok")
        assert.strictEqual((yield* assertFailed(bench, "EPROTOCOL")).response, "early")
      })
    ))

  it.effect("one that comes before its command, in a chunk of its own, fails the command that follows", () =>
    greeted((bench) =>
      Effect.gen(function*() {
        bench.duplex.say("250 early\r\n")
        yield* assertFailed(bench, "EPROTOCOL")
      })
    ))

  it.effect("one that begins before its command fails the command that follows", () =>
    greeted((bench) =>
      Effect.gen(function*() {
        bench.duplex.say("250 ea")
        yield* assertFailed(bench, "EPROTOCOL")
        bench.duplex.say("rly\r\n")
        yield* assertFailed(bench, "EPROTOCOL")
      })
    ))

  it.effect("one that begins in the body and ends behind the dot is none to the dot", () =>
    greeted(({ duplex, wire }) =>
      Effect.gen(function*() {
        wire.beginBody()
        yield* wire.body(octets("x\r\n"), inBody)
        duplex.say("250 ea")
        assert.isFalse(wire.isQuiet())
        assert.strictEqual(wire.failure?._tag, "Grammar")
        assert.strictEqual(duplex.destroyed, 1)
      })
    ))

  it.effect("a reply that came too late is nobody's (RCPT deadline, then another message)", () =>
    greeted((bench) =>
      Effect.gen(function*() {
        const { duplex, probe, wire } = bench
        const { exit } = yield* probe.settle(wire.command(rcpt, inRcpt))
        assert.deepInclude(errorOf(exit), { _tag: "ETIMEDOUT", timeout: "command", command: "RCPT TO" })
        duplex.say("250 late\r\n")
        yield* assertFailed(bench, "ETIMEDOUT")
        duplex.say("250 later\r\n")
        yield* assertFailed(bench, "ETIMEDOUT")
      })
    ))

  it.effect("a reply that nobody took keeps the wire from being used", () =>
    greeted(({ duplex, wire }) =>
      Effect.gen(function*() {
        wire.hand(octets("NOOP\r\n"), 1, "command")
        assert.isFalse(wire.isReady)
        duplex.say("250 ok\r\n")
        assert.isFalse(wire.isReady)
        assert.strictEqual((yield* wire.receive(inNoop)).code, 250)
        assert.isTrue(wire.isReady)
      })
    ))

  it.effect("a reply that nobody took is not given to a command on a wire that failed", () =>
    greeted((bench) =>
      Effect.gen(function*() {
        bench.wire.hand(octets("NOOP\r\n"), 1, "command")
        bench.duplex.say("250 ok\r\n")
        bench.duplex.over()
        yield* assertFailed(bench, "ECONNECTION")
      })
    ))

  it.effect("whoever was interrupted may receive again", () =>
    greeted(({ duplex, probe, wire }) =>
      Effect.gen(function*() {
        const fiber = yield* fork(wire.command(noop, inNoop))
        yield* Fiber.interrupt(fiber)
        assert.isFalse(wire.isReady)
        const again = yield* fork(wire.receive(inNoop))
        yield* probe.quiet
        duplex.say("250 ok\r\n")
        assert.strictEqual((yield* Fiber.join(again)).code, 250)
      })
    ))

  it.effect("after a 3yz the server does not wait for a command", () =>
    greeted(({ duplex, wire }) =>
      Effect.gen(function*() {
        const fiber = yield* fork(wire.command({ _tag: "Auth", mechanism: "LOGIN" }, { stage: "AUTH" }))
        duplex.say("334 \r\n")
        yield* Fiber.join(fiber)
        assert.isFalse(wire.isReady)
        const cancel = yield* fork(wire.command({ _tag: "AuthCancel" }, { stage: "AUTH" }))
        duplex.say("501 cancelled\r\n")
        yield* Fiber.join(cancel)
        assert.isTrue(wire.isReady)
      })
    ))

  it.effect("several final replies in one chunk are received in their order", () =>
    greeted(({ duplex, wire }) =>
      Effect.gen(function*() {
        wire.beginBody()
        wire.endBody(octets(".\r\n"), 2)
        duplex.say("250 one\r\n550 two\r\n")
        assert.strictEqual((yield* wire.receive(inFinal)).text, "one")
        assert.strictEqual((yield* wire.receive(inFinal)).text, "two")
        assert.isTrue(wire.isReady)
      })
    ))

  it.effect("what came before a violation in the same chunk is still received", () =>
    greeted(({ duplex, wire }) =>
      Effect.gen(function*() {
        wire.beginBody()
        wire.endBody(octets(".\r\n"), 2)
        const first = yield* fork(wire.receive(inFinal))
        duplex.say("250 one\r\nnonsense\r\n250 two\r\n")
        assert.strictEqual((yield* Fiber.join(first)).text, "one")
        const error = yield* Effect.flip(wire.receive(inFinal))
        assert.deepInclude(error, { _tag: "EPROTOCOL", inDoubt: true })
      })
    ))

  it.effect("421 answers its command, and no other can follow", () =>
    greeted((bench) =>
      Effect.gen(function*() {
        const fiber = yield* fork(bench.wire.command(noop, inNoop))
        bench.duplex.say("421 bye\r\n250 and more\r\n")
        assert.strictEqual((yield* Fiber.join(fiber)).code, 421)
        const error = yield* assertFailed(bench, "ECONNECTION")
        assert.strictEqual(error.responseCode, 421)
      })
    ))

  const idle: ReadonlyArray<readonly [string, ReadonlyArray<string>, SmtpError.WireError["_tag"]]> = [
    ["421", ["421 bye\r\n"], "ECONNECTION"],
    ["421 in two chunks", ["421 b", "ye\r\n"], "ECONNECTION"],
    ["250", ["250 hm\r\n"], "EPROTOCOL"],
    ["garbage", ["\u0000\u0007\r\n"], "EPROTOCOL"],
    ["garbage octet by octet", ["2", "x", "\r", "\n"], "EPROTOCOL"],
    ["an endless line", ["2".repeat(20_000)], "EPROTOCOL"]
  ]
  for (const [name, chunks, tag] of idle) {
    it.effect(`${name} while idle ends the wire, and the next call knows it`, () =>
      greeted((bench) =>
        Effect.gen(function*() {
          bench.duplex.say(...chunks)
          yield* assertFailed(bench, tag)
        })
      ))
  }

  it.effect("a refusal in the middle of the body ends it", () =>
    greeted(({ duplex, wire }) =>
      Effect.gen(function*() {
        wire.beginBody()
        assert.isFalse(wire.isReady)
        const lost = yield* fork(wire.failed(inBody))
        duplex.say("552 too much\r\n")
        assert.deepInclude(yield* Effect.flip(Fiber.join(lost)), { _tag: "EMESSAGE", inDoubt: false })
        assert.deepInclude(yield* Effect.flip(wire.body(octets("x"), inBody)), { _tag: "EMESSAGE", responseCode: 552 })
        assert.strictEqual(duplex.all, "")
      })
    ))
})

describe("writes", () => {
  it.effect("keep their order, one call for each", () =>
    greeted(({ duplex, wire }) =>
      Effect.gen(function*() {
        const fiber = yield* fork(wire.command({ _tag: "Data" }, { stage: "DATA" }))
        duplex.say("354 go\r\n")
        yield* Fiber.join(fiber)
        wire.beginBody()
        yield* wire.body(octets("a", "b"), inBody)
        yield* wire.body(octets("", ""), inBody)
        yield* wire.body(octets("c"), inBody)
        wire.endBody(octets("\r\n", ".\r\n"), 1)
        assert.deepStrictEqual(duplex.writes, [["DATA\r\n"], ["a", "b"], ["c"], ["\r\n", ".\r\n"]])
      })
    ))

  it.effect("of a body wait for the drain, and only for the last one", () =>
    greeted(({ duplex, probe, wire }) =>
      Effect.gen(function*() {
        wire.beginBody()
        duplex.drain()
        duplex.takes = false
        const fiber = yield* fork(wire.body(octets("a"), inBody))
        yield* probe.quiet
        assert.isUndefined(fiber.pollUnsafe())
        duplex.drain()
        duplex.drain()
        yield* Fiber.join(fiber)
        duplex.takes = true
        yield* wire.body(octets("b"), inBody)
        assert.strictEqual(duplex.all, "ab")
      })
    ))

  it.effect("that are interrupted in their wait leave no waiter behind", () =>
    greeted(({ duplex, wire }) =>
      Effect.gen(function*() {
        wire.beginBody()
        duplex.takes = false
        const waiting = yield* fork(wire.body(octets("a"), inBody))
        const watching = yield* fork(wire.failed(inBody))
        yield* Fiber.interruptAll([waiting, watching])
        duplex.drain()
        duplex.over()
        for (const fiber of [waiting, watching]) {
          const exit = yield* Fiber.await(fiber)
          assert.isTrue(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
        }
      })
    ))

  it.effect("that wait for the drain end when the wire does", () =>
    greeted(({ duplex, wire }) =>
      Effect.gen(function*() {
        wire.beginBody()
        duplex.takes = false
        const fiber = yield* fork(wire.body(octets("a"), inBody))
        duplex.over({ _tag: "Errno", cause: Object.assign(new Error("x"), { code: "EPIPE" }) })
        assert.deepInclude(yield* Effect.flip(Fiber.join(fiber)), { _tag: "ESOCKET", command: "DATA" })
        wire.hand(octets("more"), 0, "data")
        assert.strictEqual(duplex.all, "a")
      })
    ))

  it.effect("whose drain comes, or whose wire ends, before they wait for it do not wait", () =>
    greeted(({ duplex, wire }) =>
      Effect.gen(function*() {
        wire.beginBody()
        duplex.takes = false
        const drained = wire.body(octets("a"), inBody)
        const ahead = Logger.make(() => duplex.drain())
        yield* drained.pipe(Effect.provide(Logger.layer([ahead])))
        const over = Logger.make(() => duplex.over())
        const error = yield* Effect.flip(drained.pipe(Effect.provide(Logger.layer([over]))))
        assert.strictEqual(error._tag, "ECONNECTION")
      }), { transcript: "full" }))

  it.effect("never hold a command that the encoder refuses", () =>
    greeted(({ duplex, wire }) =>
      Effect.gen(function*() {
        const exit = yield* Effect.exit(wire.command({ _tag: "Vrfy", text: "a\r\nQUIT" }, { stage: "VRFY" }))
        assert.isTrue(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
        assert.strictEqual(duplex.all, "")
      })
    ))
})

describe("the end", () => {
  it.effect("comes once: what a duplex says after it is ignored", () =>
    greeted((bench) =>
      Effect.gen(function*() {
        const { duplex, wire } = bench
        duplex.over()
        duplex.over({ _tag: "Errno", cause: new Error("late") })
        duplex.say("250 late\r\n", "nonsense\r\n")
        duplex.drain()
        wire.fail({ _tag: "Released" })
        assert.deepStrictEqual(wire.failure, { _tag: "Closed" })
        yield* assertFailed(bench, "ECONNECTION")
      })
    ))

  it.effect("frees who waits for it, and whoever asks later", () =>
    greeted(({ duplex, wire }) =>
      Effect.gen(function*() {
        const first = yield* fork(wire.failed(inBody))
        const second = yield* fork(wire.failed(inNoop))
        duplex.over()
        for (const fiber of [first, second]) {
          assert.strictEqual((yield* Effect.flip(Fiber.join(fiber)))._tag, "ECONNECTION")
        }
        assert.strictEqual((yield* Effect.flip(wire.failed(inBody)))._tag, "ECONNECTION")
        assert.strictEqual((yield* Effect.flip(wire.receive(inNoop)))._tag, "ECONNECTION")
        wire.fail({ _tag: "Quit" })
        assert.strictEqual((yield* Effect.flip(wire.failed(inBody))).command, "API")
        assert.strictEqual(duplex.destroyed, 1)
      })
    ))

  it.effect("of the scope frees the socket", () =>
    Effect.gen(function*() {
      const duplex = yield* greeted(({ duplex }) => Effect.succeed(duplex))
      assert.strictEqual(duplex.destroyed, 1)
    }))
})

const tls: TlsUpgrade = { servername: "mx.test", verify: true, options: {} }
const info: TlsInfo = {
  protocol: "TLSv1.3",
  cipher: "none",
  resumed: false,
  authorized: true,
  servername: "mx.test"
}

/** Says STARTTLS and gives what the upgrade ends in; `after` comes before the upgrade is asked for. */
const startTls = Effect.fnUntraced(function*({ duplex, probe, wire }: Bench, answer: string, ...after: Array<string>) {
  const fiber = yield* fork(wire.command({ _tag: "StartTls" }, { stage: "STARTTLS" }))
  duplex.say(answer)
  yield* Fiber.join(fiber)
  duplex.say(...after)
  return yield* probe.settle(wire.upgrade(tls, "STARTTLS"))
})

describe("the upgrade to TLS", () => {
  const surplus: ReadonlyArray<readonly [string, ReadonlyArray<string>]> = [
    ["a reply in the same chunk", ["220 go\r\n250 injected\r\n"]],
    ["a reply of several lines in the same chunk", ["220 go\r\n250-a\r\n250 b\r\n"]],
    ["421 in the same chunk", ["220 go\r\n421 bye\r\n"]],
    ["a part of a reply in the same chunk", ["220 go\r\n25"]],
    ["a first line in the same chunk", ["220 go\r\n250-a\r\n"]],
    ["garbage in the same chunk", ["220 go\r\n\u0016\u0003\u0001"]],
    ["a reply in the next chunk", ["220 go\r\n", "250 injected\r\n"]],
    ["a reply in two chunks", ["220 go\r\n", "250 inj", "ected\r\n"]],
    ["a part of a reply in the next chunk", ["220 go\r\n", "2"]],
    ["an empty line in the next chunk", ["220 go\r\n", "\r\n"]]
  ]
  for (const [name, [answer = "", ...after]] of surplus) {
    it.effect(`is refused after plaintext behind the 220: ${name}`, () =>
      greeted((bench) =>
        Effect.gen(function*() {
          bench.duplex.tls = Effect.die("the handshake began")
          const { exit } = yield* startTls(bench, answer, ...after)
          assert.isTrue(bench.wire.hasSurplus)
          assert.deepInclude(errorOf(exit), { _tag: "ETLS", command: "STARTTLS", isTemporary: false })
          assert.strictEqual(bench.duplex.destroyed, 1)
        })
      ))
  }

  it.effect("goes on with what the handshake says, and counts no deadline of a command meanwhile", () =>
    greeted((bench) =>
      Effect.gen(function*() {
        bench.duplex.tls = Effect.delay(Effect.succeed(info), 29_999)
        const { elapsed, exit } = yield* startTls(bench, "220 go\r\n")
        assert.strictEqual(elapsed, 29_999)
        assert.deepStrictEqual(yield* exit, info)
        assert.isFalse(bench.wire.hasSurplus)
        assert.isTrue(bench.wire.isReady)
      }), { deadlines: { command: 1000 } }))

  it.effect("has its own deadline", () =>
    greeted((bench) =>
      Effect.gen(function*() {
        const { elapsed, exit } = yield* startTls(bench, "220 go\r\n")
        assert.strictEqual(elapsed, 30_000)
        assert.deepInclude(errorOf(exit), { _tag: "ETIMEDOUT", timeout: "tls", command: "STARTTLS" })
        assert.strictEqual(bench.duplex.destroyed, 1)
      })
    ))

  it.effect("ends with the idle deadline when it has none of its own", () =>
    greeted((bench) =>
      Effect.gen(function*() {
        const { elapsed, exit } = yield* startTls(bench, "220 go\r\n")
        assert.strictEqual(elapsed, 20 * minute)
        assert.deepInclude(errorOf(exit), { _tag: "ETIMEDOUT", timeout: "idle", command: "STARTTLS" })
      }), { deadlines: { tls: Infinity } }))

  it.effect("leaves a failure of the handshake, the socket's included, to the handshake", () =>
    greeted((bench) =>
      Effect.gen(function*() {
        const error = new SmtpError.ETLS({ command: "STARTTLS", message: "alert" })
        bench.duplex.tls = Effect.suspend(() => {
          bench.duplex.over()
          return Effect.delay(Effect.fail(error), 10)
        })
        const { exit } = yield* startTls(bench, "220 go\r\n")
        assert.strictEqual(errorOf(exit), error)
        assert.strictEqual(bench.duplex.destroyed, 1)
      })
    ))

  const ends: ReadonlyArray<readonly [string, Ended, unknown]> = [
    ["FIN", { _tag: "Closed" }, undefined],
    ["RST", { _tag: "Errno", cause: "ECONNRESET" }, "ECONNRESET"]
  ]
  for (const [name, ended, cause] of ends) {
    it.effect(`is a loss, and temporary, after ${name} behind the 220`, () =>
      greeted((bench) =>
        Effect.gen(function*() {
          const fiber = yield* fork(bench.wire.command({ _tag: "StartTls" }, { stage: "STARTTLS" }))
          bench.duplex.say("220 go\r\n")
          yield* Fiber.join(fiber)
          bench.duplex.over(ended)
          const error = yield* Effect.flip(bench.wire.upgrade(tls, "STARTTLS"))
          assert.deepInclude(error, { _tag: "ETLS", isTemporary: true })
          assert.strictEqual(error.cause, cause)
        })
      ))
  }

  it.effect("that is interrupted frees the socket", () =>
    greeted(({ duplex, probe, wire }) =>
      Effect.gen(function*() {
        const fiber = yield* fork(wire.upgrade(tls, "CONN"))
        yield* probe.quiet
        yield* Fiber.interrupt(fiber)
        assert.strictEqual(duplex.destroyed, 1)
      })
    ))
})

/** The lines that a test logs. */
const logged = <A, E>(effect: (lines: ReadonlyArray<string>) => Effect.Effect<A, E>) => {
  const lines: Array<string> = []
  const logger = Logger.make(({ message }) => {
    lines.push(String(message))
  })
  return Effect.provide(Effect.suspend(() => effect(lines)), Logger.layer([logger]))
}

describe("the transcript", () => {
  const talk = ({ duplex, wire }: Bench) =>
    Effect.gen(function*() {
      const auth = yield* fork(wire.command({ _tag: "Auth", mechanism: "LOGIN" }, { stage: "AUTH" }))
      duplex.say("334 c2VjcmV0\r\n")
      yield* Fiber.join(auth)
      const response = Redacted.make(utf8.encode("secret"))
      const answered = yield* fork(wire.command({ _tag: "AuthResponse", response }, { stage: "AUTH" }))
      duplex.say("235 you said c2VjcmV0\r\n")
      yield* Fiber.join(answered)
      wire.beginBody()
      yield* wire.body(octets("Subject: \u00e9\r\n", ""), inBody)
      wire.endBody(octets(".\r\n"), 1)
      yield* wire.transcript.body(octets(".\r\n"))
      duplex.say("250 ok\u001b[2J\r\n")
      yield* wire.receive(inFinal)
    })

  it.effect("is empty when it is off", () =>
    logged((lines) => Effect.andThen(greeted(talk), Effect.sync(() => assert.deepStrictEqual(lines, [])))))

  it.effect("tells what TLS says", () =>
    logged((lines) =>
      greeted((bench) =>
        Effect.gen(function*() {
          bench.duplex.tls = Effect.succeed(info)
          yield* startTls(bench, "220 go\r\n")
          assert.strictEqual(lines.at(-1), "* TLSv1.3 none, certificate verified")
        }), { transcript: "commands" })
    ))

  for (const level of ["commands", "full"] as const) {
    it.effect(`of level ${level} shows ${level === "full" ? "all" : "no message content"}, and never a secret`, () =>
      logged((lines) =>
        Effect.gen(function*() {
          yield* greeted(talk, { transcript: level })
          const content = ["C: Subject: \u00e9\\u{d}\\u{a}", "C: .\\u{d}\\u{a}"]
          assert.deepStrictEqual(lines, [
            "S: 220 hi",
            "C: AUTH LOGIN",
            "S: 334 ***",
            "C: ***",
            "S: 235 ***",
            ...(level === "full" ? content : []),
            "S: 250 ok\\u{1b}[2J"
          ])
          assertHidden(lines.join(), "secret")
        })
      ))
  }
})

describe("the name of a host that has none", () => {
  const literals: ReadonlyArray<readonly [string | undefined, string]> = [
    ["192.0.2.1", "[192.0.2.1]"],
    ["2001:db8::1", "[IPv6:2001:db8::1]"],
    ["fe80::1%eth0", "[IPv6:fe80::1]"],
    [undefined, "[127.0.0.1]"]
  ]
  for (const [address, literal] of literals) {
    it.effect(`is ${literal} on a socket at ${address ?? "no address"}`, () =>
      fresh({}, ({ duplex, wire }) =>
        Effect.sync(() => {
          duplex.localAddress = address
          assert.strictEqual(wire.addressLiteral, literal)
          assert.isFalse(wire.isSecuredByMaker)
        })))
  }
})

it.effect("a greeting that waits on the socket is read, and a reply behind it is early", () =>
  fresh({}, (bench) =>
    Effect.gen(function*() {
      bench.duplex.early = "220 hi\r\n250 early\r\n"
      assert.deepStrictEqual(yield* bench.wire.greeting(undefined), SmtpReply.make(220, "hi"))
      yield* assertFailed(bench, "EPROTOCOL")
    })))
