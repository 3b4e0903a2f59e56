/**
 * When a message is in doubt: never said too late, never too early. The oracle is what the server saw and said, and
 * what the client handed to its socket.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import { endedSend, noting, withEpilogue, withTotal } from "../src/internal/deadline.ts"
import * as SmtpClient from "../src/SmtpClient.ts"
import * as SmtpConnection from "../src/SmtpConnection.ts"
import * as SmtpError from "../src/SmtpError.ts"
import * as SmtpReply from "../src/SmtpReply.ts"
import * as SmtpServer from "../src/testing/SmtpServer.ts"
import { byData, chunked, flights, inTurn, type Mode, modes, open } from "./support/modes.ts"
import { type Probe, probed, type Settled, watched } from "./support/probe.ts"

type Protocol = "smtp" | "lmtp"

const recipients: { readonly [P in Protocol]: ReadonlyArray<string> } = {
  smtp: ["bob@mx.test"],
  lmtp: ["bob@mx.test", "cy@mx.test"]
}
const envelope = (protocol: Protocol) => ({ from: "ann@me.test", to: recipients[protocol] })

const utf8 = new TextEncoder()
const text = "Subject: x\r\n\r\n.dot\r\nend\r\n"

const cut = (octets: Uint8Array, size: number): Stream.Stream<Uint8Array> =>
  Stream.fromIterable(
    Array.from({ length: Math.ceil(octets.length / size) }, (_, i) => octets.subarray(i * size, (i + 1) * size)),
    { chunkSize: 1 }
  )

const forms: { readonly [name: string]: SmtpConnection.Message } = {
  "a string": text,
  octets: utf8.encode(text),
  "a stream of single octets": cut(utf8.encode(text), 1),
  "a stream of seven octets": cut(utf8.encode(text), 7),
  "a stream of one chunk": cut(utf8.encode(text), 1000)
}

/** Those that go another way than in the modes before; what a form cannot tell from another is tried in one mode. */
const formsIn = (mode: Mode): ReadonlyArray<readonly [string, SmtpConnection.Message]> => {
  if (mode === inTurn) return Object.entries(forms)
  return Object.entries(forms).filter(([name]) =>
    (name === "a string" && mode !== chunked) || (name === "a stream of seven octets" && mode !== flights)
  )
}

const options = (protocol: Protocol, mode = flights): SmtpConnection.Options => ({
  host: "mx.test",
  protocol,
  tls: "off",
  ...mode.options
})

/** Opens a connection, sends, and closes. */
const sending = (mode: Mode, protocol: Protocol, message: SmtpConnection.Message) =>
  Effect.scoped(Effect.gen(function*() {
    const connection = yield* SmtpConnection.make(options(protocol, mode))
    return yield* connection.send(envelope(protocol), message)
  }))

const handed = (probe: Probe): string => probe.dialled.map(({ writes }) => writes.join("")).join("")
const terminator = "\r\n.\r\n"

/** Whether the last octet of a message was handed over: of the lone dot, or of the last chunk. */
const isWhole = (dialogue: string): boolean => {
  const last = /BDAT (\d+) LAST\r\n/.exec(dialogue)
  return last === null
    ? dialogue.includes(terminator)
    : dialogue.length >= last.index + last[0].length + Number(last[1])
}

/** Final replies that the server said. */
const finals = Effect.fnUntraced(function*(server: SmtpServer.SmtpServer["Service"]) {
  const lines = yield* server.transcript
  const end = lines.findIndex(({ from, text }) => from === "event" && text.startsWith("message of"))
  const rest = end < 0 ? [] : lines.slice(end + 1)
  const quit = rest.findIndex(({ from }) => from === "client")
  return rest.slice(0, quit < 0 ? undefined : quit).filter(({ from }) => from === "server").length
})

type Sent = Exit.Exit<SmtpConnection.SendResult, SmtpError.SmtpError>

/** What the client says about each recipient. */
const claims = (exit: Sent, to: ReadonlyArray<string>): ReadonlyArray<"accepted" | "in doubt" | "not accepted"> => {
  if (exit._tag === "Success") {
    const { accepted, rejectedErrors } = exit.value
    return to.map((address) => {
      const error = rejectedErrors.find(({ recipient }) => recipient === address)
      assert.strictEqual(accepted.includes(address), error === undefined)
      return error === undefined ? "accepted" : error.inDoubt ? "in doubt" : "not accepted"
    })
  }
  const error = SmtpError.fromCause(exit.cause) ?? assert.fail(Cause.pretty(exit.cause))
  return to.map(() => error.inDoubt ? "in doubt" : "not accepted")
}

/** Compares what the client says with what the server saw and with what was handed over. */
const judge = Effect.fnUntraced(function*(
  protocol: Protocol,
  exit: Sent,
  probe: Probe,
  server: SmtpServer.SmtpServer["Service"]
) {
  const to = recipients[protocol]
  const isHanded = isWhole(handed(probe))
  const replies = yield* finals(server)
  const isKnown = (index: number) => replies > (protocol === "lmtp" ? index : 0)
  const truth = to.map((_, i) => !isHanded ? "not accepted" : isKnown(i) ? "accepted" : "in doubt")
  assert.deepStrictEqual<unknown>(claims(exit, to), truth)
  const stored = (yield* server.received).flatMap((message) => message.to)
  for (const [i, address] of to.entries()) {
    assert.isFalse(stored.includes(address) && truth[i] === "not accepted", `${address} has it, and nobody knows`)
  }
  if (exit._tag === "Success") return
  const error = SmtpError.fromCause(exit.cause)!
  assert.strictEqual(error.handedOver, isHanded)
  assert.strictEqual(SmtpError.isRetryable(error), !isHanded)
})

const attempt = (mode: Mode, protocol: Protocol, message: SmtpConnection.Message, script: SmtpServer.Script) =>
  probed({ protocol, extensions: { ...open, startTls: false }, ...script }, (probe, server) =>
    Effect.gen(function*() {
      const { exit } = yield* probe.settle(sending(mode, protocol, message))
      yield* judge(protocol, exit, probe, server)
      return { exit, dialogue: handed(probe) }
    }))

const cuts = { FIN: SmtpServer.dropAfter, RST: SmtpServer.resetAfter }
const ends = { FIN: SmtpServer.drop, RST: SmtpServer.reset }

const replied = (mode: Mode, protocol: Protocol): ReadonlyArray<readonly [SmtpServer.Step, number]> => [
  ["greeting", 1],
  ["ehlo", 1],
  ["mail", 1],
  ...recipients[protocol].map((_, i) => ["rcpt", i + 1] as const),
  [mode.via === "DATA" ? "data" : "bdat", 1],
  ["body", 1],
  ...recipients[protocol].map((_, i) => ["message", i + 1] as const),
  ["quit", 1]
]

describe.each(modes)("a connection that is cut, $name", (mode) => {
  for (const protocol of ["smtp", "lmtp"] as const) {
    for (const [form, message] of formsIn(mode)) {
      // With one octet on its way at most, the client sees each cut where it happens; else all is handed over before.
      for (const highWaterMark of [1, 65_536]) {
        const how = `${protocol}, ${form}, ${highWaterMark} octets ahead`
        it.effect(`after any octet of the client is in doubt if and only if it has to be: ${how}`, () =>
          Effect.gen(function*() {
            const whole = yield* attempt(mode, protocol, message, { highWaterMark })
            assert.strictEqual(whole.exit._tag, "Success")
            assert.isTrue(whole.dialogue.endsWith("QUIT\r\n"))
            let doubts = 0
            for (let k = 0; k <= whole.dialogue.length; k++) {
              for (const after of Object.values(cuts)) {
                const faults = [SmtpServer.at("greeting", after(k + 1))]
                const { dialogue, exit } = yield* attempt(mode, protocol, message, { highWaterMark, faults })
                assert.isTrue(whole.dialogue.startsWith(dialogue), "not one octet other than without the cut")
                if (exit._tag === "Failure" && SmtpError.fromCause(exit.cause)?.inDoubt === true) doubts++
              }
            }
            assert.isAbove(doubts, 0)
          }))
      }
    }
    it.effect(`before any reply is in doubt if and only if it has to be: ${protocol}`, () =>
      Effect.gen(function*() {
        for (const [step, occurrence] of replied(mode, protocol)) {
          for (const end of Object.values(ends)) {
            for (const [, message] of formsIn(mode)) {
              yield* attempt(mode, protocol, message, { faults: [SmtpServer.at(step, end, { occurrence })] })
            }
          }
        }
      }))
  }

  it.effect("in the middle of a large body, with backpressure, is in doubt only once its end was handed over", () =>
    Effect.gen(function*() {
      const octets = utf8.encode("0123456789abcde\r\n".repeat(12_000))
      for (const message of [octets, cut(octets, 10_000)]) {
        for (const back of [204_000, 131_072, 65_537, 65_536, 10_000, 6, 5, 4, 3, 2, 1, 0]) {
          for (const after of Object.values(cuts)) {
            const end = mode.streamVia === "DATA" ? octets.length + 3 : octets.length
            const faults = [SmtpServer.at("body", after(end - back))]
            yield* attempt(mode, "smtp", message, { faults, highWaterMark: 4096, digest: true })
          }
        }
      }
    }))
})

describe.each(byData)("a body, $name", (mode) => {
  it.effect("of any length around the size of a write is never cut inside its terminator", () =>
    Effect.gen(function*() {
      for (let size = 65_536 - 12; size <= 65_536 + 6; size++) {
        const message = `${"a".repeat(size - 2)}\r\n`
        yield* probed({ digest: true }, (probe) =>
          Effect.gen(function*() {
            const { exit } = yield* probe.settle(sending(mode, "smtp", message))
            assert.strictEqual(exit._tag, "Success")
            const writes = probe.dialled[0]!.writes
            const body = writes.slice(writes.findIndex((write) => write.endsWith("DATA\r\n")) + 1, -1)
            assert.strictEqual(body.join(""), `${message}.\r\n`)
            assert.isTrue(body.at(-1)!.endsWith(terminator), `cut at ${size}`)
          }))
      }
    }))
})

describe.each(modes)("a final reply of the wrong class, $name", (mode) => {
  for (const protocol of ["smtp", "lmtp"] as const) {
    it.effect(`decides nothing: ${protocol}`, () =>
      probed(
        { protocol, faults: [SmtpServer.at("message", SmtpServer.answer(354, "go on"))] },
        (probe) =>
          Effect.gen(function*() {
            const { exit } = yield* probe.settle(sending(mode, protocol, "hello"))
            const all = claims(exit, recipients[protocol])
            assert.deepStrictEqual(all, protocol === "smtp" ? ["in doubt"] : ["in doubt", "accepted"])
            assert.notInclude(handed(probe), "QUIT")
          })
      ))
  }
})

const outcomeOf = (exit: Exit.Exit<unknown, unknown>): SmtpError.Outcome["Service"] | undefined =>
  exit._tag === "Failure" ? Context.getOrUndefined(Cause.annotations(exit.cause), SmtpError.Outcome) : undefined

/** What a test does with a send that runs. */
interface Running {
  readonly probe: Probe
  readonly server: SmtpServer.SmtpServer["Service"]
  readonly connection: SmtpConnection.SmtpConnection
  readonly fiber: Fiber.Fiber<SmtpConnection.SendResult, SmtpError.SmtpError>
}

interface Setup {
  readonly script?: SmtpServer.Script
  readonly protocol?: Protocol
  readonly message?: SmtpConnection.Message
  readonly total?: number
}

const runningIn = (mode: Mode) => <A, E>(setup: Setup, test: (running: Running) => Effect.Effect<A, E>) => {
  const protocol = setup.protocol ?? "smtp"
  return probed(
    { protocol, extensions: { ...open, startTls: false }, ...setup.script },
    (probe, server) =>
      Effect.gen(function*() {
        const connection = yield* SmtpConnection.make({ ...options(protocol, mode), timeouts: { total: setup.total } })
        const fiber = yield* Effect.forkDetach(connection.send(envelope(protocol), setup.message ?? "hello"), {
          startImmediately: true
        })
        yield* probe.quiet
        return yield* test({ probe, server, connection, fiber })
      })
  )
}

/** Interrupts the send and tells how it ended. */
const interrupt = ({ fiber, probe }: Running): Effect.Effect<Settled<unknown, unknown>> =>
  Effect.andThen(Effect.forkDetach(Fiber.interrupt(fiber), { startImmediately: true }), probe.drive(fiber))

/** Nothing more can be sent, and nothing is written in the attempt. */
const assertClosed = ({ connection, probe }: Running) =>
  Effect.gen(function*() {
    const before = handed(probe)
    const error = yield* Effect.flip(connection.send(envelope("smtp"), "again"))
    assert.deepInclude(error, { attempted: false, inDoubt: false })
    assert.strictEqual(handed(probe), before)
  })

const slow = (step: SmtpServer.Step, millis: number, ...more: ReadonlyArray<SmtpServer.Fault>): SmtpServer.Script => ({
  faults: [SmtpServer.delay(millis), ...more].map((fault) => SmtpServer.at(step, fault))
})

const late = (millis: number, ...more: ReadonlyArray<SmtpServer.Fault>) => slow("message", millis, ...more)

describe.each(modes)("a send that is interrupted, $name", (mode) => {
  const running = runningIn(mode)
  const opening = [["mail", 1], ["rcpt", 1], ["rcpt", 2]] as const
  for (const [step, occurrence] of mode.via === "DATA" ? [...opening, ["data", 1] as const] : opening) {
    it.effect(`while reply ${occurrence} to ${step} is owed ends at once, not in doubt, and closes the connection`, () =>
      running({
        protocol: "lmtp",
        script: { faults: [SmtpServer.at(step, SmtpServer.delay(1000), { occurrence })] }
      }, (send) =>
        Effect.gen(function*() {
          const { elapsed, exit } = yield* interrupt(send)
          assert.strictEqual(elapsed, 0)
          assert.isTrue(exit._tag === "Failure" && Cause.hasInterruptsOnly(exit.cause))
          assert.isUndefined(outcomeOf(exit))
          yield* send.probe.advance(5000)
          assert.isFalse(isWhole(handed(send.probe)))
          assert.notInclude(handed(send.probe), "QUIT")
          yield* assertClosed(send)
        })))
  }

  /** One is refused, the next is not answered. */
  const both = (refused: SmtpServer.Step, silent: SmtpServer.Step): SmtpServer.Script => ({
    faults: [
      ...(slow(refused, 400, SmtpServer.answer(450, "no")).faults ?? []),
      SmtpServer.at(silent, SmtpServer.silence)
    ]
  })
  const opened: ReadonlyArray<readonly [string, SmtpServer.Script, number, boolean, number | undefined]> = [
    ["a reply to MAIL that comes late", slow("mail", 400), 400, false, 250],
    ["a reply to RCPT that comes late", slow("rcpt", 400), 400, false, 250],
    ["a reply to RCPT that comes too late", slow("rcpt", 501), 500, true, undefined],
    ["a refusal of MAIL that comes late", slow("mail", 400, SmtpServer.answer(450, "no")), 400, false, 450],
    ["a refusal of RCPT that comes late", slow("rcpt", 400, SmtpServer.answer(450, "no")), 400, false, 450],
    ["a refusal of MAIL and then silence", both("mail", "rcpt"), 500, false, 450],
    ["a refusal of RCPT and then silence", both("rcpt", "bdat"), 500, false, 450],
    ["FIN in place of the reply to MAIL", slow("mail", 400, SmtpServer.drop), 400, true, undefined],
    ["FIN in place of the reply to RCPT", slow("rcpt", 400, SmtpServer.drop), 400, true, undefined]
  ]
  for (const [name, script, waited, inDoubt, code] of mode.isFlight ? opened : []) {
    it.effect(`behind its flight, ${name}, waits ${waited} ms and ${inDoubt ? "is in doubt" : "knows"}`, () =>
      running({ script }, (send) =>
        Effect.gen(function*() {
          const { elapsed, exit } = yield* interrupt(send)
          assert.strictEqual(elapsed, waited)
          assert.isTrue(exit._tag === "Failure" && Cause.hasInterruptsOnly(exit.cause))
          assert.strictEqual(outcomeOf(exit)?.inDoubt, inDoubt)
          assert.strictEqual(outcomeOf(exit)?.reply?.code, code)
          yield* assertClosed(send)
        })))
  }

  const waiting: { readonly [name: string]: Setup } = {
    source: { message: Stream.concat(Stream.make("one\r\n"), Stream.never) },
    drain: {
      message: cut(utf8.encode("0123456789abcde\r\n".repeat(12_000)), 10_000),
      script: { highWaterMark: 1, faults: [SmtpServer.at("body", SmtpServer.stall)] }
    },
    "drain of a whole body": {
      message: "a".repeat(200_000),
      script: { faults: [SmtpServer.at("body", SmtpServer.stall)] }
    }
  }
  for (const [name, setup] of Object.entries(waiting)) {
    it.effect(`while it waits for the ${name} hands over no end and closes the connection`, () =>
      running(setup, (send) =>
        Effect.gen(function*() {
          const { elapsed, exit } = yield* interrupt(send)
          assert.strictEqual(elapsed, 0)
          assert.isUndefined(outcomeOf(exit))
          assert.isFalse(isWhole(handed(send.probe)))
          assert.deepStrictEqual(yield* send.server.received, [])
          yield* assertClosed(send)
        })))
  }

  it.effect("before its first octet leaves the connection as it was", () =>
    running({ script: { faults: [SmtpServer.at("mail", SmtpServer.delay(1000))] } }, (send) =>
      Effect.gen(function*() {
        const before = handed(send.probe)
        const second = yield* Effect.forkDetach(send.connection.send(envelope("smtp"), "second"), {
          startImmediately: true
        })
        yield* send.probe.quiet
        yield* Fiber.interrupt(second)
        const exit = yield* Fiber.await(second)
        assert.isUndefined(outcomeOf(exit))
        assert.strictEqual(handed(send.probe), before)
        assert.strictEqual((yield* send.probe.drive(send.fiber)).exit._tag, "Success")
        yield* send.connection.send(envelope("smtp"), "third")
        assert.deepStrictEqual((yield* send.server.received).map(({ text }) => text), ["hello\r\n", "third\r\n"])
      })))

  it.effect("in the write of its end learns of a reply that comes at once", () =>
    probed({}, (probe) =>
      Effect.gen(function*() {
        const connection = yield* SmtpConnection.make({ host: "mx.test", ...mode.options })
        let fiber: Fiber.Fiber<unknown, unknown> | undefined
        probe.onWrite = () => {
          if (isWhole(handed(probe))) fiber?.interruptUnsafe()
        }
        const later = Effect.andThen(Effect.sleep(1), connection.send(envelope("smtp"), "hello"))
        fiber = yield* Effect.forkDetach(later, { startImmediately: true })
        const { elapsed, exit } = yield* probe.drive(fiber)
        assert.strictEqual(elapsed, 1)
        const outcome = outcomeOf(exit)
        assert.strictEqual(outcome?.inDoubt, false)
        assert.strictEqual(outcome?.reply?.code, 250)
      })))

  /** The final reply comes so many milliseconds after the interruption, which is 100 after the dot. */
  const lingering: ReadonlyArray<readonly [string, SmtpServer.Script, number, boolean, number | undefined]> = [
    ["250 after 1 ms", late(101), 1, false, 250],
    ["250 after 499 ms", late(599), 499, false, 250],
    ["250 after 501 ms", late(601), 500, true, undefined],
    ["450 after 499 ms", late(599, SmtpServer.answer(450, "later")), 499, false, 450],
    ["550 after 499 ms", late(599, SmtpServer.answer(550, "no")), 499, false, 550],
    ["421 after 499 ms", late(599, SmtpServer.answer(421, "bye")), 499, false, 421],
    ["354 after 499 ms", late(599, SmtpServer.answer(354, "go on")), 499, true, 354],
    ["garbage after 9 ms", late(109, SmtpServer.garbage()), 9, true, undefined],
    ["FIN after 9 ms", late(109, SmtpServer.drop), 9, true, undefined],
    ["RST after 9 ms", late(109, SmtpServer.reset), 9, true, undefined],
    ["nothing", late(0, SmtpServer.silence), 500, true, undefined],
    ["one octet each 100 ms", late(0, SmtpServer.byteAtATime(100)), 500, true, undefined]
  ]
  for (const [name, script, waited, inDoubt, code] of lingering) {
    it.effect(`after the terminator, ${name}, waits ${waited} ms and ${inDoubt ? "is in doubt" : "knows"}`, () =>
      running({ script }, (send) =>
        Effect.gen(function*() {
          yield* send.probe.advance(100)
          const { elapsed, exit } = yield* interrupt(send)
          assert.strictEqual(elapsed, waited)
          assert.isTrue(exit._tag === "Failure" && Cause.hasInterruptsOnly(exit.cause))
          assert.strictEqual(outcomeOf(exit)?.inDoubt, inDoubt)
          assert.strictEqual(outcomeOf(exit)?.reply?.code, code)
          yield* assertClosed(send)
        })))
  }

  const half = { faults: [SmtpServer.at("message", SmtpServer.silence, { occurrence: 2 })] }
  it.effect("after one of two LMTP replies is in doubt and shows the one", () =>
    running({ protocol: "lmtp", script: half }, (send) =>
      Effect.gen(function*() {
        const { elapsed, exit } = yield* interrupt(send)
        assert.strictEqual(elapsed, 500)
        assert.strictEqual(outcomeOf(exit)?.inDoubt, true)
        assert.strictEqual(outcomeOf(exit)?.reply?.code, 250)
        yield* assertClosed(send)
      })))

  it.effect("and has a total deadline keeps what it knows", () =>
    running({ script: late(599), total: 60_000 }, (send) =>
      Effect.gen(function*() {
        yield* send.probe.advance(100)
        const { elapsed, exit } = yield* interrupt(send)
        assert.strictEqual(elapsed, 499)
        assert.isTrue(exit._tag === "Failure" && Cause.hasInterruptsOnly(exit.cause))
        assert.strictEqual(outcomeOf(exit)?.inDoubt, false)
        assert.strictEqual(outcomeOf(exit)?.reply?.code, 250)
      })))
})

interface Total {
  readonly elapsed: number
  readonly inDoubt: boolean
  readonly handedOver: boolean
  readonly isTemporary: boolean
  readonly code?: number
}

/** The total deadline is 1000 ms from the start of the call; the dot is handed over at once. */
const totalsIn = ({ isFlight }: Mode): ReadonlyArray<readonly [string, Setup, Total]> => [
  ["while the reply to MAIL is owed", { script: { faults: [SmtpServer.at("mail", SmtpServer.silence)] } }, {
    elapsed: isFlight ? 1500 : 1000,
    inDoubt: isFlight,
    handedOver: isFlight,
    isTemporary: true
  }],
  ["while the source is waited for", { message: Stream.concat(Stream.make("one\r\n"), Stream.never) }, {
    elapsed: 1000,
    inDoubt: false,
    handedOver: false,
    isTemporary: true
  }],
  ["and the acceptance comes 499 ms later", { script: late(1499) }, {
    elapsed: 1499,
    inDoubt: false,
    handedOver: true,
    isTemporary: false,
    code: 250
  }],
  ["and the acceptance comes 501 ms later", { script: late(1501) }, {
    elapsed: 1500,
    inDoubt: true,
    handedOver: true,
    isTemporary: true
  }],
  ["and a 4yz comes later", { script: late(1100, SmtpServer.answer(451, "busy")) }, {
    elapsed: 1100,
    inDoubt: false,
    handedOver: true,
    isTemporary: true,
    code: 451
  }],
  ["and a 5yz comes later", { script: late(1100, SmtpServer.answer(554, "no")) }, {
    elapsed: 1100,
    inDoubt: false,
    handedOver: true,
    isTemporary: false,
    code: 554
  }],
  ["after one of two LMTP replies", {
    protocol: "lmtp",
    script: { faults: [SmtpServer.at("message", SmtpServer.silence, { occurrence: 2 })] }
  }, { elapsed: 1500, inDoubt: true, handedOver: true, isTemporary: false, code: 250 }],
  ["and an LMTP acceptance and a 4yz come later", {
    protocol: "lmtp",
    script: {
      faults: [
        SmtpServer.at("message", SmtpServer.delay(1100), { occurrence: 1 }),
        SmtpServer.at("message", SmtpServer.answer(450, "not you"), { occurrence: 2 })
      ]
    }
  }, { elapsed: 1100, inDoubt: false, handedOver: true, isTemporary: false, code: 250 }]
]

const checkTotal = (settled: Settled<unknown, unknown>, want: Total): void => {
  const error = settled.exit._tag === "Failure" ? SmtpError.fromCause(settled.exit.cause) : undefined
  if (error?._tag !== "ETIMEDOUT") return assert.fail(String(settled.exit))
  assert.strictEqual(error.timeout, "total")
  const { code, elapsed, ...rest } = want
  assert.strictEqual(settled.elapsed, elapsed)
  assert.deepInclude(error, rest)
  assert.strictEqual(error.isTemporary, want.isTemporary)
  assert.strictEqual(error.responseCode, code)
  assert.strictEqual(SmtpError.isRetryable(error), want.isTemporary && !want.inDoubt)
}

describe.each(modes)("the total deadline, $name", (mode) => {
  const running = runningIn(mode)
  for (const [name, setup, want] of totalsIn(mode)) {
    it.effect(`of a connection, ${name}`, () =>
      running({ ...setup, total: 1000 }, (send) =>
        Effect.gen(function*() {
          checkTotal(yield* send.probe.drive(send.fiber), want)
          yield* assertClosed(send)
        })))
    it.effect(`of withTimeout, ${name}`, () => {
      const protocol = setup.protocol ?? "smtp"
      return probed(
        { protocol, extensions: { ...open, startTls: false }, ...setup.script },
        (probe) =>
          Effect.gen(function*() {
            const client = SmtpClient.withTimeout(yield* SmtpClient.make(options(protocol, mode)), 1000)
            checkTotal(yield* probe.settle(client.send(envelope(protocol), setup.message ?? "hello")), want)
          })
      )
    })
  }

  it.effect("that passes while another send has the turn says that nothing was attempted", () =>
    running({ script: late(5000), total: 1000 }, (send) =>
      Effect.gen(function*() {
        const second = yield* send.probe.settle(send.connection.send(envelope("smtp"), "second"))
        checkTotal(second, { elapsed: 1000, inDoubt: false, handedOver: false, isTemporary: true })
        assert.isTrue(second.exit._tag === "Failure" && SmtpError.fromCause(second.exit.cause)?.attempted === false)
        checkTotal(yield* send.probe.drive(send.fiber), {
          elapsed: 500,
          inDoubt: true,
          handedOver: true,
          isTemporary: true
        })
        yield* assertClosed(send)
      })))
})

describe("a client whose QUIT is not answered", () => {
  const silent = { faults: [SmtpServer.at("quit", SmtpServer.silence)] }
  // QUIT after each message, beside the send.
  const make = SmtpClient.make({ ...options("smtp"), timeouts: { quit: "1 hour" }, pool: { maxMessages: 1 } })
  const using = (client: SmtpClient.Client): SmtpClient.Client["send"] => (to, message) =>
    client.use((connection) => connection.send(to, message))

  for (const how of ["send", "use"] as const) {
    it.effect(`gives the result of a ${how} at once`, () =>
      probed(silent, (probe, server) =>
        Effect.gen(function*() {
          const client = SmtpClient.withTimeout(yield* make, 1000)
          const call = how === "send" ? client.send : using(client)
          const { elapsed, exit } = yield* probe.settle(call(envelope("smtp"), "hello"))
          assert.strictEqual(elapsed, 0)
          assert.deepStrictEqual(exit._tag === "Success" && exit.value.accepted, ["bob@mx.test"])
          assert.lengthOf(yield* server.received, 1)
          assert.include(handed(probe), "QUIT")
        })))
  }

  const refusals: ReadonlyArray<readonly [string, SmtpServer.Step, number]> = [
    ["of the recipient", "rcpt", 550],
    ["of the message", "message", 451]
  ]
  for (const [name, step, code] of refusals) {
    it.effect(`fails with the refusal ${name} at once`, () =>
      probed(
        { faults: [...silent.faults, SmtpServer.at(step, SmtpServer.answer(code, "no"))] },
        (probe) =>
          Effect.gen(function*() {
            const client = SmtpClient.withTimeout(yield* make, 1000)
            for (const call of [client.send, using(client)]) {
              const { elapsed, exit } = yield* probe.settle(call(envelope("smtp"), "hello"))
              assert.strictEqual(elapsed, 0)
              const error = exit._tag === "Failure" ? SmtpError.fromCause(exit.cause) : undefined
              assert.strictEqual(error?._tag, step === "rcpt" ? "EENVELOPE" : "EMESSAGE")
              assert.strictEqual(error?.responseCode, code)
            }
          })
      ))
  }
})

describe("a send that is over when it is interrupted", () => {
  const refusal = (handedOver: boolean) =>
    new SmtpError.EMESSAGE({
      command: "DATA",
      message: "DATA: later",
      handedOver,
      reply: SmtpReply.make(451, "later")
    })
  const endings: ReadonlyArray<readonly [string, Sent, number | undefined]> = [
    [
      "says in the cause that the message was accepted",
      Exit.succeed({ reply: SmtpReply.make(250, "ok") } as never),
      250
    ],
    ["says in the cause that it was refused", Exit.fail(refusal(true)), 451],
    ["says nothing when it was refused before the terminator", Exit.fail(refusal(false)), undefined]
  ]
  for (const [name, sent, code] of endings) {
    const over = withEpilogue((note) => Effect.andThen(Effect.exit(noting(sent, note)), Effect.never))

    it.effect(name, () =>
      Effect.gen(function*() {
        const fiber = yield* Effect.forkDetach(over, { startImmediately: true })
        yield* Fiber.interrupt(fiber)
        const exit = yield* Fiber.await(fiber)
        assert.isTrue(exit._tag === "Failure" && Cause.hasInterruptsOnly(exit.cause))
        assert.strictEqual(outcomeOf(exit)?.inDoubt, code === undefined ? undefined : false)
        assert.strictEqual(outcomeOf(exit)?.reply?.code, code)
        assert.strictEqual<unknown>(exit._tag === "Failure" && endedSend(exit.cause), sent)
      }))

    it.effect(`${name}, and withTotal ends as it did`, () =>
      watched((probe) =>
        Effect.gen(function*() {
          const { elapsed, exit } = yield* probe.settle(withTotal(over, 1000, undefined, endedSend))
          assert.strictEqual(elapsed, 1000)
          assert.deepStrictEqual(exit, sent)
        })
      ))
  }
})
