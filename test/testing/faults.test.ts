import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import type { SmtpConnector } from "../../src/SmtpConnector.ts"
import { SmtpServer } from "../../src/testing/index.ts"
import { base64, dial, greeted, type RawClient, secured, settle, tls } from "./rawClient.ts"

const utf8 = new TextEncoder()
const server = SmtpServer.SmtpServer

const withFaults = <A, E>(
  faults: ReadonlyArray<SmtpServer.PlacedFault>,
  test: Effect.Effect<A, E, SmtpConnector | SmtpServer.SmtpServer | Scope.Scope>,
  script?: SmtpServer.Script
) => test.pipe(Effect.provide(SmtpServer.layer({ ...script, faults })))

type Act = (client: RawClient) => Effect.Effect<unknown, unknown>
const say = (line: string): Act => (client) => Effect.andThen(Effect.sync(() => client.send(line)), settle)

/** What a client does to come to each step that has a usual reply, from the steps before it. */
const acts: {
  readonly [K in SmtpServer.Step]?: readonly [before: ReadonlyArray<SmtpServer.Step>, act: Act, usual: string]
} = {
  greeting: [[], () => settle, "220 fake.test ESMTP ready"],
  ehlo: [["greeting"], say("EHLO me.test"), "250"],
  starttls: [["ehlo"], say("STARTTLS"), "220 2.0.0 go ahead"],
  tls: [["starttls"], (client) => Effect.andThen(client.duplex.upgrade(tls), settle), ""],
  ehlo2: [["tls"], say("EHLO me.test"), "250"],
  auth: [["ehlo2"], say("AUTH LOGIN"), "334 VXNlcm5hbWU6"],
  authContinue: [["auth"], say(base64("ann")), "334 UGFzc3dvcmQ6"],
  mail: [["ehlo2"], say("MAIL FROM:<a@b.test>"), "250 2.1.0 sender OK"],
  rcpt: [["mail"], say("RCPT TO:<b@b.test>"), "250 2.1.5 recipient OK"],
  data: [["rcpt"], say("DATA"), "354 go ahead"],
  message: [["data"], say("Hello\r\n."), "250 2.0.0 queued as 1"],
  bdat: [["rcpt"], say("BDAT 7\r\nHello"), "250 2.0.0 7 octets"],
  rset: [["ehlo2"], say("RSET"), "250 2.0.0 OK"],
  noop: [["ehlo2"], say("NOOP"), "250 2.0.0 OK"],
  vrfy: [["ehlo2"], say("VRFY ann"), "252 2.1.5 try to send something"],
  expn: [["ehlo2"], say("EXPN all"), "502 5.5.1 EXPN is not implemented"],
  help: [["ehlo2"], say("HELP"), "214 2.0.0 see RFC 5321"],
  quit: [["message"], say("QUIT"), "221 2.0.0 bye"]
}
const replying = SmtpServer.steps.filter((step) => step in acts && step !== "tls")

const reach = (step: SmtpServer.Step): Act =>
  Effect.fnUntraced(function*(client) {
    for (const before of acts[step]?.[0] ?? []) {
      yield* reach(before)(client)
      yield* acts[before]?.[1](client) ?? Effect.void
    }
  })

/** What came because the client did what the step takes: events, and the text of the writes. */
const come = Effect.fnUntraced(function*(step: SmtpServer.Step, port?: number) {
  const client = yield* dial({ silent: step === "greeting", ...(port === undefined ? {} : { port }) })
  if (step === "greeting") client.listen()
  else yield* reach(step)(client)
  const before = client.events.length
  const writes = client.writes.length
  const [, act, usual = ""] = acts[step] ?? [[], () => Effect.void]
  yield* act(client)
  return {
    client,
    usual,
    early: client.events[before - 1],
    events: () => client.events.slice(before),
    writes: () => client.writes.slice(writes)
  }
})

/** The replies as the table knows them: those of EHLO by their code. */
const shown = (events: ReadonlyArray<string>) => events.map((event) => event.startsWith("250 fake") ? "250" : event)

describe("every step that replies", () => {
  for (const step of replying) {
    const end = step === "quit" ? ["FIN"] : []
    const at = (fault: SmtpServer.Fault) => [SmtpServer.at(step, fault)]

    it.effect(`${step}: the usual reply without a fault`, () =>
      withFaults(
        [],
        Effect.gen(function*() {
          const { events, usual } = yield* come(step)
          assert.deepStrictEqual(shown(events()), [usual, ...end])
        })
      ))

    it.effect(`${step}: 421 closes; 4yz, 5yz and a wrong class are said`, () =>
      Effect.gen(function*() {
        for (const code of [421, 451, 550, 354, 250]) {
          yield* withFaults(
            at(SmtpServer.answer(code, "4.0.0 fault")),
            Effect.gen(function*() {
              const { events } = yield* come(step)
              const closes = code === 421 || (code === 250 && step === "quit")
              assert.deepStrictEqual(events(), [`${code} 4.0.0 fault`, ...closes ? ["FIN"] : []])
            })
          )
        }
      }))

    it.effect(`${step}: FIN and RST come in place of the reply`, () =>
      Effect.gen(function*() {
        for (
          const [fault, ended] of [[SmtpServer.drop, "FIN"], [SmtpServer.reset, "read ECONNRESET"], [
            SmtpServer.tlsFailure,
            "FIN"
          ]] as const
        ) {
          yield* withFaults(
            at(fault),
            Effect.gen(function*() {
              const { events } = yield* come(step)
              assert.deepStrictEqual(events(), [ended])
              yield* (yield* server).awaitClosed
            })
          )
        }
      }))

    it.effect(`${step}: silence says nothing more but takes what comes; stall does not`, () =>
      Effect.gen(function*() {
        for (const fault of [SmtpServer.silence, SmtpServer.stall]) {
          yield* withFaults(
            at(fault),
            Effect.gen(function*() {
              const { client, events } = yield* come(step)
              for (let i = 0; i < 3; i++) yield* say("NOOP")(client)
              assert.deepStrictEqual(events(), [])
              assert.strictEqual(client.send("NOOP"), fault._tag === "Silence")
              client.duplex.destroy()
              yield* (yield* server).awaitClosed
            }),
            { highWaterMark: 20 }
          )
        }
      }))

    it.effect(`${step}: a delay passes, then the usual reply comes`, () =>
      withFaults(
        at(SmtpServer.delay("1 minute")),
        Effect.gen(function*() {
          const { events, usual } = yield* come(step)
          yield* TestClock.adjust("59 seconds")
          assert.deepStrictEqual(events(), [])
          yield* TestClock.adjust("1 second")
          assert.deepStrictEqual(shown(events()), [usual, ...end])
        })
      ))

    it.effect(`${step}: a client that goes away in a delay ends the connection at once`, () =>
      withFaults(
        at(SmtpServer.delay("1 minute")),
        Effect.gen(function*() {
          const { client } = yield* come(step)
          client.duplex.destroy()
          yield* (yield* server).awaitClosed
        })
      ))

    it.effect(`${step}: garbage, a surplus and one octet at a time`, () =>
      Effect.gen(function*() {
        yield* withFaults(
          at(SmtpServer.garbage()),
          Effect.gen(function*() {
            const { events, writes } = yield* come(step)
            assert.deepStrictEqual(events(), end)
            assert.deepStrictEqual(writes(), ["\u0000\u0007 no reply\r\n"])
          })
        )
        yield* withFaults(
          at(SmtpServer.surplus()),
          Effect.gen(function*() {
            const { events, usual, writes } = yield* come(step)
            assert.deepStrictEqual(shown(events()), [usual, "250 2.0.0 surplus", ...end])
            assert.strictEqual(writes().length, 1)
          })
        )
        yield* withFaults(
          at(SmtpServer.byteAtATime()),
          Effect.gen(function*() {
            const { events, usual, writes } = yield* come(step)
            assert.deepStrictEqual(shown(events()), [usual, ...end])
            assert.strictEqual(writes().every((write) => write.length === 1), true)
          })
        )
      }))

    if (step === "greeting") continue
    it.effect(`${step}: an early reply comes in one write with the reply before, and only then`, () =>
      withFaults(
        at(SmtpServer.earlyReply()),
        Effect.gen(function*() {
          const { client, early, events } = yield* come(step)
          const expected = { auth: "235 2.7.0 authenticated", authContinue: "235 2.7.0 authenticated" } as {
            readonly [K in string]?: string
          }
          const code = { starttls: "220", data: "354", quit: "221" } as { readonly [K in string]?: string }
          const usual = step.startsWith("ehlo") ? "250 fake" : "250 2.0.0 OK"
          assert.strictEqual(early?.startsWith(expected[step] ?? code[step] ?? usual), true, early)
          assert.deepStrictEqual(events(), end)
          assert.isAtMost(client.writes.length, client.events.length - (step === "ehlo2" ? 0 : 1))
        })
      ))
  }
})

describe("the handshake", () => {
  const upgraded = Effect.gen(function*() {
    const client = yield* greeted
    yield* client.say("STARTTLS")
    return { client, exit: yield* Effect.exit(client.duplex.upgrade(tls)) }
  })
  const cases: ReadonlyArray<readonly [SmtpServer.Fault, temporary: boolean, code: string | undefined]> = [
    [SmtpServer.drop, true, undefined],
    [SmtpServer.reset, true, "ECONNRESET"],
    [SmtpServer.tlsFailure, false, "ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE"],
    [SmtpServer.garbage(), false, "ERR_SSL_WRONG_VERSION_NUMBER"],
    [SmtpServer.answer(454, "4.7.0 not now"), false, "ERR_SSL_WRONG_VERSION_NUMBER"]
  ]
  for (const [fault, temporary, code] of cases) {
    it.effect(`${fault._tag} fails it`, () =>
      withFaults(
        [SmtpServer.at("tls", fault)],
        Effect.gen(function*() {
          const { exit } = yield* upgraded
          const error = Exit.isFailure(exit)
            ? exit.cause.reasons.map((reason) => reason._tag === "Fail" && reason.error)[0]
            : undefined
          assert.deepInclude(error, { _tag: "ETLS", temporary })
          assert.strictEqual(error && (error.cause as { code?: string } | undefined)?.code, code)
          yield* (yield* server).awaitClosed
        })
      ))
  }

  it.effect("silence and stall never end it, a delay does", () =>
    Effect.gen(function*() {
      for (
        const [fault, isDone] of [[SmtpServer.silence, false], [SmtpServer.stall, false], [
          SmtpServer.delay("1 hour"),
          true
        ]] as const
      ) {
        yield* withFaults(
          [SmtpServer.at("tls", fault)],
          Effect.gen(function*() {
            const fiber = yield* Effect.forkChild(upgraded)
            yield* TestClock.adjust("59 minutes")
            assert.strictEqual(fiber.pollUnsafe(), undefined)
            yield* TestClock.adjust("1 minute")
            assert.strictEqual(fiber.pollUnsafe() !== undefined, isDone)
            yield* Fiber.interrupt(fiber)
          })
        )
      }
    }))

  it.effect("one octet at a time and an occurrence that does not come leave it alone", () =>
    withFaults(
      [SmtpServer.at("tls", SmtpServer.byteAtATime()), SmtpServer.at("tls", SmtpServer.drop, { occurrence: 2 })],
      Effect.gen(function*() {
        assert.strictEqual(Exit.isSuccess((yield* upgraded).exit), true)
      })
    ))

  it.effect("a surplus comes inside, behind it", () =>
    withFaults(
      [SmtpServer.at("tls", SmtpServer.surplus("250 inside"))],
      Effect.gen(function*() {
        const { client, exit } = yield* upgraded
        assert.strictEqual(Exit.isSuccess(exit), true)
        assert.strictEqual(client.events.at(-1), "250 inside")
      })
    ))

  it.effect("plaintext behind the 220, in its write or in one of its own, and an early reply to the handshake", () =>
    Effect.gen(function*() {
      const faults = [
        [SmtpServer.at("starttls", SmtpServer.plaintextAfterStartTls()), 1, "250 2.0.0 injected"],
        [SmtpServer.at("starttls", SmtpServer.plaintextAfterStartTls("250 x\r\n", false)), 2, "250 x"],
        [SmtpServer.at("tls", SmtpServer.earlyReply()), 1, "220 2.0.0 go ahead"]
      ] as const
      for (const [fault, writes, text] of faults) {
        yield* withFaults(
          [fault],
          Effect.gen(function*() {
            const client = yield* greeted
            const before = client.writes.length
            yield* say("STARTTLS")(client)
            assert.deepStrictEqual(client.events.slice(-2), ["220 2.0.0 go ahead", text])
            assert.strictEqual(client.writes.length - before, writes)
          })
        )
      }
    }))

  it.effect("faults strike an implicit one too", () =>
    withFaults(
      [SmtpServer.at("tls", SmtpServer.drop)],
      Effect.gen(function*() {
        const client = yield* dial({ silent: true })
        assert.strictEqual((yield* Effect.flip(client.duplex.upgrade(tls))).temporary, true)
      })
    ))
})

describe("the middle of a message", () => {
  const inBody = Effect.gen(function*() {
    const client = yield* secured
    for (const line of ["MAIL FROM:<a@b.test>", "RCPT TO:<b@b.test>", "DATA"]) yield* client.say(line)
    yield* say("Hello")(client)
    const before = client.events.length
    return { client, events: () => client.events.slice(before - 1) }
  })
  const ended = Effect.fnUntraced(function*(client: RawClient) {
    yield* say("world\r\n.\r\nNOOP")(client)
    return (yield* (yield* server).received).length
  })

  it.effect("gets a refusal early, and no other", () =>
    withFaults(
      [SmtpServer.at("body", SmtpServer.answer(552, "5.3.4 too much"))],
      Effect.gen(function*() {
        const { client, events } = yield* inBody
        assert.deepStrictEqual(events(), ["552 5.3.4 too much"])
        assert.strictEqual(yield* ended(client), 0)
        assert.deepStrictEqual(events(), ["552 5.3.4 too much", "250 2.0.0 OK"])
      })
    ))

  it.effect("gets its final reply early, and no other", () =>
    withFaults(
      [SmtpServer.at("body", SmtpServer.earlyReply())],
      Effect.gen(function*() {
        const { client, events } = yield* inBody
        assert.deepStrictEqual(events(), ["250 2.0.0 OK"])
        assert.strictEqual(yield* ended(client), 1)
        assert.deepStrictEqual(events(), ["250 2.0.0 OK", "250 2.0.0 OK"])
      })
    ))

  it.effect("gets octets that are nothing, or a surplus, and then its final reply", () =>
    Effect.gen(function*() {
      for (const fault of [SmtpServer.garbage("450 x\r\n"), SmtpServer.surplus("450 x"), SmtpServer.byteAtATime()]) {
        yield* withFaults(
          [SmtpServer.at("body", fault)],
          Effect.gen(function*() {
            const { client, events } = yield* inBody
            assert.strictEqual(yield* ended(client), 1)
            assert.deepStrictEqual(events().slice(-2), ["250 2.0.0 queued as 1", "250 2.0.0 OK"])
            assert.strictEqual(client.events.includes("450 x"), fault._tag !== "ByteAtATime")
          })
        )
      }
    }))

  it.effect("ends the connection by FIN, RST, 421, after n octets of the message, or never", () =>
    Effect.gen(function*() {
      const faults: ReadonlyArray<readonly [SmtpServer.Fault, string]> = [
        [SmtpServer.drop, "FIN"],
        [SmtpServer.reset, "read ECONNRESET"],
        [SmtpServer.answer(421, "bye"), "FIN"],
        [SmtpServer.dropAfter(10), "FIN"],
        [SmtpServer.resetAfter(17), "read ECONNRESET"],
        [SmtpServer.silence, "354 go ahead"],
        [SmtpServer.stall, "354 go ahead"]
      ]
      for (const [fault, event] of faults) {
        yield* withFaults(
          [SmtpServer.at("body", fault)],
          Effect.gen(function*() {
            const { client } = yield* inBody
            assert.strictEqual(yield* ended(client), 0, fault._tag)
            assert.strictEqual(client.events.at(-1), event)
          })
        )
      }
    }))

  it.effect("an octet later than the last is no cut", () =>
    withFaults(
      [SmtpServer.at("body", SmtpServer.dropAfter(18))],
      Effect.gen(function*() {
        const { client } = yield* inBody
        assert.strictEqual(yield* ended(client), 1)
      })
    ))

  it.effect("a delay holds the client's octets up", () =>
    withFaults(
      [SmtpServer.at("body", SmtpServer.delay("1 minute"))],
      Effect.gen(function*() {
        const { client } = yield* inBody
        assert.strictEqual(yield* ended(client), 0)
        assert.strictEqual(client.send("x".repeat(20)), false)
        yield* TestClock.adjust("1 minute")
        assert.strictEqual((yield* (yield* server).received).length, 1)
      }),
      { highWaterMark: 30 }
    ))

  it.effect("strikes in a chunk of BDAT too", () =>
    withFaults(
      [SmtpServer.at("body", SmtpServer.answer(452, "4.3.1 full"))],
      Effect.gen(function*() {
        const client = yield* secured
        for (const line of ["MAIL FROM:<a@b.test>", "RCPT TO:<b@b.test>"]) yield* client.say(line)
        client.duplex.write([utf8.encode("BDAT 4\r\nab")])
        assert.strictEqual(yield* client.next, "452 4.3.1 full")
        client.duplex.write([utf8.encode("cdNOOP\r\nBDAT 1 LAST\r\nx")])
        assert.deepStrictEqual(yield* client.all(2), ["250 2.0.0 OK", "503 5.5.1 say MAIL first"])
      })
    ))
})

describe("a message that was accepted", () => {
  it.effect("is remembered although its reply never comes", () =>
    Effect.gen(function*() {
      for (const fault of [SmtpServer.drop, SmtpServer.reset, SmtpServer.silence]) {
        yield* withFaults(
          [SmtpServer.at("message", fault)],
          Effect.gen(function*() {
            yield* come("message")
            assert.strictEqual((yield* (yield* server).received).length, 1)
          })
        )
      }
      yield* withFaults(
        [SmtpServer.at("message", SmtpServer.answer(451, "4.3.0 later"))],
        Effect.gen(function*() {
          yield* come("message")
          assert.strictEqual((yield* (yield* server).received).length, 0)
        })
      )
    }))

  it.effect("over LMTP has its faults by recipient", () =>
    withFaults(
      [SmtpServer.at("message", SmtpServer.answer(550, "no"), { occurrence: 2 })],
      Effect.gen(function*() {
        const client = yield* dial()
        for (
          const line of [
            "LHLO me.test",
            "MAIL FROM:<a@b.test>",
            "RCPT TO:<b@b.test>",
            "RCPT TO:<c@b.test>",
            "DATA",
            "x\r\n."
          ]
        ) {
          yield* say(line)(client)
        }
        assert.deepStrictEqual(client.events.slice(-2), ["250 2.0.0 queued as 1", "550 no"])
        assert.deepStrictEqual((yield* (yield* server).received)[0]?.to, ["b@b.test"])
      }),
      { protocol: "lmtp" }
    ))
})

describe("an idle connection", () => {
  const idle = (...faults: ReadonlyArray<SmtpServer.Fault>) => faults.map((fault) => SmtpServer.at("idle", fault))

  it.effect("gets what comes unsolicited behind the final reply", () =>
    Effect.gen(function*() {
      const cases: ReadonlyArray<readonly [SmtpServer.Fault, ReadonlyArray<string>]> = [
        [SmtpServer.answer(421, "4.4.2 idle"), ["421 4.4.2 idle", "FIN"]],
        [SmtpServer.drop, ["FIN"]],
        [SmtpServer.reset, ["read ECONNRESET"]],
        [SmtpServer.surplus("250 more"), ["250 more"]],
        [SmtpServer.garbage(), []],
        [SmtpServer.silence, []],
        [SmtpServer.earlyReply(), ["421 4.4.2 fake.test closing", "FIN"]],
        [SmtpServer.resetAfter(3), ["read ECONNRESET"]]
      ]
      for (const [fault, expected] of cases) {
        yield* withFaults(
          idle(fault),
          Effect.gen(function*() {
            const { client, events } = yield* come("message")
            if (fault._tag === "CutAfter") yield* say("NOOP")(client)
            assert.deepStrictEqual(events(), ["250 2.0.0 queued as 1", ...expected])
          })
        )
      }
    }))

  it.effect("is closed with 421 after a delay", () =>
    withFaults(
      idle(SmtpServer.delay("5 minutes")),
      Effect.gen(function*() {
        const { events } = yield* come("message")
        yield* TestClock.adjust("4 minutes")
        assert.strictEqual(events().length, 1)
        yield* TestClock.adjust("1 minute")
        assert.deepStrictEqual(events().slice(1), ["421 4.4.2 fake.test closing", "FIN"])
        yield* (yield* server).awaitClosed
      })
    ))

  it.effect("is left alone when the client spoke meanwhile", () =>
    withFaults(
      idle(SmtpServer.delay("5 minutes"), SmtpServer.answer(450, "x")),
      Effect.gen(function*() {
        const { client, events } = yield* come("message")
        yield* say("NOOP")(client)
        yield* TestClock.adjust("5 minutes")
        assert.deepStrictEqual(events().slice(1), ["250 2.0.0 OK"])
        client.duplex.destroy()
        yield* (yield* server).awaitClosed
      })
    ))
})

describe("places", () => {
  it.effect("by occurrence, by connection, and every", () =>
    withFaults(
      [
        SmtpServer.at("noop", SmtpServer.answer(450, "second"), { occurrence: 2 }),
        SmtpServer.at("noop", SmtpServer.answer(451, "elsewhere"), { connection: 2 }),
        SmtpServer.at("vrfy", SmtpServer.answer(452, "always"), { occurrence: "every" })
      ],
      Effect.gen(function*() {
        for (const expected of [["250", "450", "452", "452"], ["451", "450", "452", "452"]]) {
          const client = yield* greeted
          client.send("NOOP", "NOOP", "VRFY x", "VRFY x")
          assert.deepStrictEqual((yield* client.all(4)).map((reply) => reply.slice(0, 3)), expected)
        }
      })
    ))

  it.effect("several at one place add up", () =>
    withFaults(
      [
        SmtpServer.at("noop", SmtpServer.delay("1 second")),
        SmtpServer.at("noop", SmtpServer.answer(450, "x")),
        SmtpServer.at("noop", SmtpServer.byteAtATime("1 second"))
      ],
      Effect.gen(function*() {
        const { client, events } = yield* come("noop")
        const before = client.writes.length
        yield* TestClock.adjust("4 seconds")
        assert.deepStrictEqual(client.writes.slice(before), ["4", "5", "0", " "])
        yield* TestClock.adjust("1 minute")
        assert.deepStrictEqual(events(), ["450 x"])
      })
    ))

  it.effect("at the dialling: refused, delayed, never answered", () =>
    withFaults(
      [
        SmtpServer.at("connect", SmtpServer.reset),
        SmtpServer.at("connect", SmtpServer.delay("1 minute"), { occurrence: 2 }),
        SmtpServer.at("connect", SmtpServer.silence, { connection: 3 })
      ],
      Effect.gen(function*() {
        const error = yield* Effect.flip(dial())
        assert.deepInclude(error, { _tag: "ESOCKET", command: "CONN" })
        assert.strictEqual((error.cause as { code?: string }).code, "ECONNREFUSED")
        const delayed = yield* Effect.forkChild(dial())
        yield* TestClock.adjust("59 seconds")
        assert.strictEqual(delayed.pollUnsafe(), undefined)
        yield* TestClock.adjust("1 second")
        assert.strictEqual(yield* (yield* Fiber.join(delayed)).next, "220 fake.test ESMTP ready")
        const never = yield* Effect.forkChild(dial())
        yield* TestClock.adjust("1 hour")
        assert.strictEqual(never.pollUnsafe(), undefined)
        assert.strictEqual((yield* (yield* server).connections).length, 1)
        yield* Fiber.interrupt(never)
      })
    ))
})

describe("a cut", () => {
  const lines = ["EHLO me.test", "MAIL FROM:<a@b.test>", "RCPT TO:<b@b.test>", "DATA", "Hi", ".", "QUIT", ""]
  const octets = utf8.encode(lines.join("\r\n"))

  it.effect("comes at each octet, by FIN and RST: what ended before it is answered, nothing else", () =>
    Effect.gen(function*() {
      const ends = [...lines.join("\r\n").matchAll(/(^|\r\n)(?!Hi|\.|$)[^\r]+\r\n(Hi\r\n\.\r\n)?/g)].length
      assert.isAbove(ends, 0)
      for (let n = 1; n <= octets.length; n++) {
        const isDrop = n % 2 === 0
        const fault = isDrop ? SmtpServer.dropAfter(n) : SmtpServer.resetAfter(n)
        yield* withFaults(
          [SmtpServer.at("greeting", fault)],
          Effect.gen(function*() {
            const client = yield* dial()
            yield* client.next
            client.duplex.write([octets])
            yield* settle
            const seen = new TextDecoder().decode(octets.subarray(0, n - 1)).split("\r\n")
            const whole = seen.slice(0, -1).filter((line) => line !== "Hi").length
            assert.strictEqual(client.events.length, 1 + whole + 1, `cut at ${n}`)
            assert.strictEqual(client.events.at(-1), isDrop ? "FIN" : "read ECONNRESET")
            const { awaitClosed, received } = yield* server
            yield* awaitClosed
            assert.strictEqual((yield* received).length, seen.includes(".") && seen.at(-1) !== "." ? 1 : 0)
          })
        )
      }
    }))

  it.effect("counts the same octet by octet, and from the step it is placed at", () =>
    withFaults(
      [SmtpServer.at("ehlo", SmtpServer.dropAfter(5))],
      Effect.gen(function*() {
        const client = yield* dial()
        yield* client.next
        for (const octet of octets) client.duplex.write([Uint8Array.of(octet)])
        yield* settle
        assert.deepStrictEqual(client.events.slice(2), ["FIN"])
      })
    ))
})

describe("an early reply", () => {
  it.effect("comes behind the step that is named", () =>
    withFaults(
      [SmtpServer.at("mail", SmtpServer.earlyReply("noop")), SmtpServer.at("mail", SmtpServer.answer(550, "no"))],
      Effect.gen(function*() {
        const client = yield* secured
        client.send("NOOP")
        assert.deepStrictEqual(yield* client.all(2), ["250 2.0.0 OK", "550 no"])
        client.send("MAIL FROM:<a@b.test>", "NOOP")
        assert.strictEqual(yield* client.next, "250 2.0.0 OK")
      })
    ))

  it.effect("of MAIL comes behind the login where one is demanded", () =>
    withFaults(
      [SmtpServer.at("mail", SmtpServer.earlyReply())],
      Effect.gen(function*() {
        const client = yield* secured
        client.send("AUTH EXTERNAL =")
        assert.deepStrictEqual(yield* client.all(2), ["235 2.7.0 authenticated", "250 2.0.0 OK"])
      }),
      { requireAuth: true }
    ))

  it.effect("of a second MAIL comes behind the first message", () =>
    withFaults(
      [SmtpServer.at("mail", SmtpServer.earlyReply(), { occurrence: 2 })],
      Effect.gen(function*() {
        const { events } = yield* come("message")
        assert.deepStrictEqual(events(), ["250 2.0.0 queued as 1", "250 2.0.0 OK"])
      })
    ))

  it.effect("is not early for a command that was pipelined, and waits for the last recipient", () =>
    withFaults(
      [
        SmtpServer.at("data", SmtpServer.earlyReply()),
        SmtpServer.at("rcpt", SmtpServer.earlyReply()),
        SmtpServer.at("rcpt", SmtpServer.earlyReply(), { occurrence: 2 })
      ],
      Effect.gen(function*() {
        const client = yield* secured
        client.send("MAIL FROM:<a@b.test>", "RCPT TO:<b@b.test>", "RCPT TO:<c@b.test>", "DATA")
        assert.deepStrictEqual((yield* client.all(4)).map((reply) => reply.slice(0, 3)), [
          "250",
          "250",
          "250",
          "354"
        ])
        yield* settle
        assert.strictEqual(client.events.length, 4 + 4)
      })
    ))
})
