import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { readdirSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import * as NodeConnector from "../../src/node/NodeConnector.ts"
import * as NodeSmtpServer from "../../src/node/NodeSmtpServer.ts"
import * as Sasl from "../../src/Sasl.ts"
import * as SmtpClient from "../../src/SmtpClient.ts"
import * as SmtpConnection from "../../src/SmtpConnection.ts"
import type { SmtpConnector } from "../../src/SmtpConnector.ts"
import * as SmtpTranscript from "../../src/SmtpTranscript.ts"
import { SmtpServer } from "../../src/testing/index.ts"
import { type Dialogue, type Fixture, placeholder } from "../fixtures/dialogue.ts"
import { captured, written } from "../fixtures/recordings.ts"
import { isScenario, run } from "../fixtures/scenarios.ts"
import { assertHidden } from "../support/secrets.ts"
import { base64, dial, tls } from "./rawClient.ts"

const playing = <A, E>(
  transcript: SmtpTranscript.Transcript,
  test: Effect.Effect<A, E, SmtpConnector | SmtpServer.SmtpServer | Scope.Scope>,
  options?: Parameters<typeof SmtpServer.fromTranscript>[1]
) => Effect.provide(Effect.scoped(test), SmtpServer.layer(SmtpServer.fromTranscript(transcript, options)))

/** What went otherwise than recorded. */
const deviations = Effect.gen(function*() {
  const { transcript } = yield* SmtpServer.SmtpServer
  return (yield* transcript).map(({ text }) => text).filter((text) => text.startsWith("not as recorded"))
})

const opening = ["S: 220 mx.test", "C: EHLO me.test", "S: 250 mx.test / PIPELINING / CHUNKING"]
const envelope = ["C: MAIL FROM:<a@b.test> SIZE=9", "S: 250 sender", "C: RCPT TO:<c@d.test>", "S: 250 rcpt"]
const message = ["C: DATA", "S: 354 go", "S: 250 2.0.0 taken"]
const sent = [...opening, ...envelope, ...message]

/** A raw client behind the greeting and EHLO. */
const begun = Effect.gen(function*() {
  const client = yield* dial()
  assert.strictEqual(yield* client.next, "220 mx.test")
  assert.strictEqual(yield* client.say("EHLO other.test"), "250 mx.test / PIPELINING / CHUNKING")
  return client
})

describe("a dialogue recorded with the option transcript", () => {
  const password = Redacted.make("CANARY")
  const auth = Sasl.password({ username: "ann", password })
  const production: SmtpServer.Script = {
    greeting: SmtpServer.reply(220, "mx.example ESMTP"),
    requireAuth: true,
    respond: {
      rcpt: ({ path }) => path === "eve@mx.test" ? SmtpServer.reply(550, "5.1.1 no Eve", "not here") : undefined,
      message: () => SmtpServer.reply(250, "2.0.0 Ok: queued as 8B3C520C652")
    }
  }
  const mail = { from: "ann@me.test", to: ["bob@mx.test", "eve@mx.test"] }

  const send = Effect.fnUntraced(function*(given: SmtpClient.Options, text: string) {
    const recording = yield* SmtpTranscript.make()
    const smtp = yield* SmtpClient.make({ host: "mx.test", auth, transcript: recording, ...given })
    const { security: _, ...result } = yield* smtp.send(mail, text)
    const transcript = yield* recording.transcript
    return { result, json: JSON.stringify(transcript) }
  })

  const optionSets: ReadonlyArray<readonly [string, SmtpClient.Options]> = [
    ["as it is", {}],
    ["with implicit TLS", { port: 465 }],
    ["in the clear", { tls: "off", allowInsecureAuth: true }],
    ["by DATA", { chunking: false }],
    ["by BDAT, one command at a time", { chunking: "always", pipelining: false }],
    ["by DATA, one command at a time", { chunking: false, pipelining: false }],
    ["with a login in many steps", { mechanisms: ["LOGIN"] }],
    ["with a digest", { mechanisms: ["CRAM-MD5"] }]
  ]
  it.effect.each(optionSets)("is played to the same result %s", ([, given]) =>
    Effect.gen(function*() {
      const clear = { extensions: { authBeforeTls: ["PLAIN"] } }
      const script = { ...production, ...(given.tls === "off" ? clear : {}) }
      const first = yield* Effect.provide(send(given, "Subject: x\n\nx\n"), SmtpServer.layer(script))
      assert.deepStrictEqual(first.result.rejected, ["eve@mx.test"])
      assertHidden(first.json, "CANARY")
      const transcript = yield* Schema.decodeUnknownEffect(SmtpTranscript.Transcript)(JSON.parse(first.json))
      for (const chunking of [true, "always", false] as const) {
        for (const pipelining of [true, false]) {
          yield* playing(
            transcript,
            Effect.gen(function*() {
              const again = yield* send({ ...given, chunking, pipelining }, "Subject: x\n\nx\n")
              assert.deepStrictEqual(again.result, first.result)
              assert.deepStrictEqual(yield* deviations, [])
              const { received } = yield* SmtpServer.SmtpServer
              const [got] = yield* received
              assert.deepStrictEqual([got?.to, got?.username], [["bob@mx.test"], "ann"])
            })
          )
        }
      }
      // The message is not compared, and its SIZE neither.
      yield* playing(
        transcript,
        Effect.gen(function*() {
          const again = yield* send(given, "Subject: another\n\nmuch longer: é\n")
          assert.deepStrictEqual(again.result.rejectedErrors, first.result.rejectedErrors)
          assert.deepStrictEqual(yield* deviations, [])
        })
      )
    }))

  it.effect("of a login by SCRAM needs the account, or is played with another mechanism", () =>
    Effect.gen(function*() {
      const accounts = { ann: "CANARY" }
      const script = { ...production, accounts, extensions: { auth: ["SCRAM-SHA-256"] } }
      const text = "Subject: x\n\nx\n"
      const first = yield* Effect.provide(send({}, text), SmtpServer.layer(script))
      assert.include(first.json, "AUTH SCRAM-SHA-256 ***")
      const transcript = yield* Schema.decodeUnknownEffect(SmtpTranscript.Transcript)(JSON.parse(first.json))
      for (const options of [undefined, { accounts }]) {
        yield* playing(
          transcript,
          Effect.gen(function*() {
            const again = yield* send({}, text)
            assert.deepStrictEqual(again.result, first.result)
            assert.deepStrictEqual(yield* deviations, [])
            assert.include(again.json, options === undefined ? "AUTH PLAIN ***" : "AUTH SCRAM-SHA-256 ***")
          }),
          options
        )
      }
    }))

  it.effect("of several connections is played on as many, and no further", () =>
    Effect.gen(function*() {
      const mails = Array.from({ length: 3 }, (_, i) => ({
        envelope: { from: "ann@me.test", to: [`bob${i}@mx.test`] },
        message: `Subject: ${i}\n\n`
      }))
      const sendEach = Effect.gen(function*() {
        const recording = yield* SmtpTranscript.make()
        const results: Array<string> = []
        for (const one of mails) {
          const options = { host: "mx.test", auth, transcript: recording }
          const connection = SmtpConnection.make(options)
          const sending = Effect.flatMap(connection, (smtp) => smtp.send(one.envelope, one.message))
          results.push((yield* Effect.scoped(sending)).response)
        }
        return { results, transcript: yield* recording.transcript }
      })
      let count = 0
      const respond = { message: () => SmtpServer.reply(250, `2.0.0 queued as ${++count}`) }
      const first = yield* Effect.provide(sendEach, SmtpServer.layer({ respond }))
      assert.deepStrictEqual(first.results, ["2.0.0 queued as 1", "2.0.0 queued as 2", "2.0.0 queued as 3"])
      const again = playing(
        first.transcript,
        Effect.gen(function*() {
          assert.deepStrictEqual((yield* sendEach).results, first.results)
          assert.deepStrictEqual(yield* deviations, [])
          const error = yield* Effect.flip(SmtpConnection.make({ host: "mx.test" }))
          assert.deepStrictEqual([error._tag, error.responseCode], ["ECONNECTION", 421])
          assert.deepStrictEqual(yield* deviations, ["not as recorded: the recording has no further connection"])
        })
      )
      // A script may be used for any number of servers.
      yield* again
      yield* again
    }))

  it.effect("of overlapping messages is played to a client that sends them one by one", () =>
    Effect.gen(function*() {
      const mails = ["a", "b", "c"].map((name) => ({
        envelope: { from: "ann@me.test", to: [`${name}@mx.test`] },
        message: `Subject: ${name}\n\n`
      }))
      const options = { host: "mx.test", name: "me.test" }
      const recording = yield* SmtpTranscript.make()
      const script: SmtpServer.Script = {
        respond: { rcpt: ({ path }) => path === "b@mx.test" ? SmtpServer.reply(550, "5.1.1 no b") : undefined }
      }
      const responses = (results: ReadonlyArray<Result.Result<SmtpConnection.SendResult, { readonly _tag: string }>>) =>
        results.map(Result.match({ onFailure: ({ _tag }) => _tag, onSuccess: ({ response }) => response }))
      const all = Effect.gen(function*() {
        const connection = yield* SmtpConnection.make({ ...options, transcript: recording })
        return responses(yield* Stream.runCollect(connection.sendAll(Stream.fromIterable(mails))))
      }).pipe(Effect.scoped, Effect.provide(SmtpServer.layer(script)))
      const first = yield* all
      assert.deepStrictEqual(first, ["2.0.0 queued as 1", "EENVELOPE", "2.0.0 queued as 2"])
      yield* playing(
        yield* recording.transcript,
        Effect.gen(function*() {
          const connection = yield* SmtpConnection.make(options)
          const results = yield* Effect.forEach(
            mails,
            (mail) => Effect.result(connection.send(mail.envelope, mail.message))
          )
          assert.deepStrictEqual(responses(results), first)
          assert.deepStrictEqual(yield* deviations, [])
        })
      )
    }))

  it.live.each(["off", "implicit"] as const)("is played on a real port, TLS %s", (mode) =>
    Effect.gen(function*() {
      const lines = mode === "implicit" ? ["*: TLSv1.3 none, certificate verified", ...sent] : sent
      const loopback = NodeSmtpServer.layerLoopback({ script: SmtpServer.fromTranscript(written(...lines)) })
      yield* Effect.gen(function*() {
        const { ca, port } = yield* NodeSmtpServer.NodeSmtpServer
        const secured = mode === "implicit" ? { tlsOptions: { ca } } : {}
        const connection = yield* SmtpConnection.make({ host: "127.0.0.1", port, tls: mode, ...secured })
        const { response } = yield* connection.send({ from: "a@b.test", to: "c@d.test" }, "x")
        assert.strictEqual(response, "2.0.0 taken")
      }).pipe(Effect.scoped, Effect.provide([loopback, NodeConnector.layer]))
    }))
})

describe("the replies", () => {
  it.effect("go to the commands, however these are pipelined", () =>
    playing(
      written(
        ...opening,
        "C: MAIL FROM:<a@b.test>",
        "C: RCPT TO:<c@d.test>",
        "C: RCPT TO:<e@f.test>",
        "C: DATA",
        "S: 250 sender",
        "S: 250 first",
        "S: 550 second",
        "S: 354 go",
        "S: 250 taken",
        "C: QUIT",
        "S: 221 bye"
      ),
      Effect.gen(function*() {
        const client = yield* begun
        assert.strictEqual(yield* client.say("MAIL FROM:<a@b.test>"), "250 sender")
        assert.strictEqual(yield* client.say("RCPT TO:<c@d.test>"), "250 first")
        client.send("RCPT TO:<e@f.test>", "DATA")
        assert.deepStrictEqual(yield* client.all(2), ["550 second", "354 go"])
        client.send("x", ".")
        assert.deepStrictEqual(yield* client.all(1), ["250 taken"])
        assert.strictEqual(yield* client.say("QUIT"), "221 bye")
        assert.deepStrictEqual(yield* deviations, [])
      })
    ))

  it.effect("to messages that overlap go to each of them", () =>
    playing(
      written(
        ...opening,
        ...envelope,
        "C: DATA",
        "S: 354 go",
        "C: MAIL FROM:<g@h.test>",
        "C: RCPT TO:<i@j.test>",
        "C: DATA",
        "S: 250 first taken",
        "S: 250 next sender",
        "S: 250 next rcpt",
        "S: 354 next go",
        "S: 250 second taken"
      ),
      Effect.gen(function*() {
        const client = yield* begun
        client.send("MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA")
        assert.deepStrictEqual(yield* client.all(3), ["250 sender", "250 rcpt", "354 go"])
        client.send(".")
        assert.strictEqual(yield* client.next, "250 first taken")
        client.send("MAIL FROM:<g@h.test>", "RCPT TO:<i@j.test>", "DATA")
        assert.deepStrictEqual(yield* client.all(3), ["250 next sender", "250 next rcpt", "354 next go"])
        client.send(".")
        assert.strictEqual(yield* client.next, "250 second taken")
        assert.deepStrictEqual(yield* deviations, [])
      })
    ))

  const lmtp = [
    "S: 220 mx.test",
    "C: LHLO me.test",
    "S: 250 mx.test / PIPELINING / CHUNKING",
    "C: MAIL FROM:<>",
    "S: 250 sender",
    ...["a", "b", "c"].flatMap((name) => [`C: RCPT TO:<${name}@x.test>`, `S: ${name === "b" ? 550 : 250} ${name}`])
  ]
  it.effect.each<readonly [string, ReadonlyArray<string>]>([
    ["DATA", ["C: DATA", "S: 354 go"]],
    ["BDAT", ["C: BDAT 3", "S: 250 3 octets", "C: BDAT 2 LAST"]]
  ])("to a message over LMTP by %s are as many as recipients", ([, how]) =>
    Effect.gen(function*() {
      for (const lines of [["DATA", "x", "."], ["BDAT 0", "BDAT 0 LAST"]]) {
        yield* playing(
          written(...lmtp, ...how, "S: 250 a taken", "S: 452 c full", "C: NOOP", "S: 250 still here"),
          Effect.gen(function*() {
            const client = yield* dial()
            client.send("LHLO me.test", "MAIL FROM:<>", ...["a", "b", "c"].map((name) => `RCPT TO:<${name}@x.test>`))
            assert.deepStrictEqual((yield* client.all(6)).slice(2), ["250 sender", "250 a", "550 b", "250 c"])
            client.send(...lines)
            assert.deepStrictEqual((yield* client.all(3)).slice(1), ["250 a taken", "452 c full"])
            assert.strictEqual(yield* client.say("NOOP"), "250 still here")
            assert.deepStrictEqual(yield* deviations, [])
            assert.deepStrictEqual((yield* (yield* SmtpServer.SmtpServer).received)[0]?.to, ["a@x.test"])
          })
        )
      }
    }))

  const chunked = ["C: BDAT 3", "S: 250 3 octets", "C: BDAT 2 LAST", "S: 250 taken"]
  it.effect("to a message by BDAT answer DATA, and in reverse; chunks may be cut otherwise", () =>
    Effect.gen(function*() {
      for (const how of [chunked, ["C: BDAT 5 LAST", "S: 250 taken"], ["C: DATA", "S: 354 go", "S: 250 taken"]]) {
        const transcript = written(...opening, ...envelope, ...how, "C: RSET", "S: 250 reset")
        for (const chunks of [undefined, ["BDAT 1", "BDAT 1", "BDAT 0 LAST"], ["BDAT 1 LAST"]]) {
          yield* playing(
            transcript,
            Effect.gen(function*() {
              const client = yield* begun
              client.send("MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>")
              assert.deepStrictEqual(yield* client.all(2), ["250 sender", "250 rcpt"])
              if (chunks === undefined) {
                assert.match(yield* client.say("DATA"), /^354 go/)
                client.send("xx", ".")
              }
              for (const chunk of chunks ?? []) {
                client.duplex.write([new TextEncoder().encode(`${chunk}\r\n${/[1-9]/.test(chunk) ? "x" : ""}`)])
                if (!chunk.endsWith("LAST")) assert.match(yield* client.next, /^250 /)
              }
              assert.strictEqual(yield* client.next, "250 taken")
              assert.strictEqual(yield* client.say("RSET"), "250 reset")
              assert.deepStrictEqual(yield* deviations, [])
            })
          )
        }
      }
    }))

  it.effect("to one message by BDAT after the other go to each", () =>
    playing(
      written(
        ...opening,
        ...["1", "2"].flatMap((
          n
        ) => [...envelope, "C: BDAT 3", `S: 250 part ${n}`, "C: BDAT 2 LAST", `S: 250 all ${n}`])
      ),
      Effect.gen(function*() {
        const client = yield* begun
        for (const n of ["1", "2"]) {
          client.send("MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "BDAT 0", "BDAT 0 LAST")
          assert.deepStrictEqual((yield* client.all(4))[3], `250 all ${n}`)
        }
        assert.deepStrictEqual(yield* deviations, [])
      })
    ))

  it.effect("that refuse a message refuse it by DATA and by BDAT", () =>
    Effect.gen(function*() {
      const refused = [["C: DATA", "S: 451 not now"], ["C: BDAT 3", "S: 451 not now"], [
        "C: BDAT 3",
        "S: 250 ok",
        "C: BDAT 3",
        "S: 451 not now"
      ]]
      for (const how of refused) {
        for (const line of ["DATA", "BDAT 1", "BDAT 1 LAST"]) {
          yield* playing(
            written(...opening, ...envelope, ...how, ...envelope, ...message),
            Effect.gen(function*() {
              const client = yield* begun
              client.send("MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>")
              yield* client.all(2)
              client.duplex.write([new TextEncoder().encode(`${line}\r\n${line === "DATA" ? "" : "x"}`)])
              assert.strictEqual(yield* client.next, "451 not now")
              assert.match(yield* client.say("RSET"), /^250/)
              client.send("MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA")
              assert.deepStrictEqual((yield* client.all(3))[2], "354 go")
              client.send(".")
              assert.strictEqual(yield* client.next, "250 2.0.0 taken")
              assert.deepStrictEqual(yield* deviations, [])
            })
          )
        }
      }
    }))

  it.effect("to what follows a refusal come whether it is said or not", () =>
    Effect.gen(function*() {
      const one = [
        "C: MAIL FROM:<bad@b.test>",
        "C: RCPT TO:<c@d.test>",
        "C: DATA",
        "S: 550 no sender",
        "S: 503 no rcpt",
        "S: 503 no data"
      ]
      const shorter = ["C: MAIL FROM:<bad@b.test>", "S: 550 no sender"]
      for (const first of [one, shorter]) {
        for (const isPipelining of [true, false]) {
          yield* playing(
            written(...opening, ...first, ...envelope, ...message),
            Effect.gen(function*() {
              const client = yield* begun
              if (isPipelining) client.send("MAIL FROM:<bad@b.test>", "RCPT TO:<c@d.test>", "DATA")
              else client.send("MAIL FROM:<bad@b.test>")
              const [refusal, ...others] = yield* client.all(isPipelining ? 3 : 1)
              assert.strictEqual(refusal, "550 no sender")
              assert.isTrue(others.every((reply) => reply.startsWith("503 ")))
              client.send("MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA")
              assert.deepStrictEqual(yield* client.all(3), ["250 sender", "250 rcpt", "354 go"])
              assert.deepStrictEqual(yield* deviations, [])
            })
          )
        }
      }
    }))

  const unwanted = ["C: MAIL FROM:<a@b.test>", "S: 250 sender", "C: RCPT TO:<no@d.test>", "S: 550 no"]
  it.effect.each<readonly [string, ReadonlyArray<string>]>([
    ["refused", ["C: DATA", "S: 554 no valid recipients"]],
    ["taken, with a lone dot", ["C: DATA", "S: 354 go", "S: 554 no valid recipients"]],
    ["refused as BDAT", ["C: BDAT 1 LAST", "S: 554 no valid recipients"]],
    ["not said", []]
  ])("to DATA without recipients, in the recording %s", ([, how]) =>
    Effect.gen(function*() {
      for (const line of ["DATA", "BDAT 1 LAST", undefined]) {
        yield* playing(
          written(...opening, ...unwanted, ...how, "C: RSET", "S: 250 reset", ...envelope, ...message),
          Effect.gen(function*() {
            const client = yield* begun
            client.send("MAIL FROM:<a@b.test>", "RCPT TO:<no@d.test>")
            assert.deepStrictEqual(yield* client.all(2), ["250 sender", "550 no"])
            if (line !== undefined) {
              client.duplex.write([new TextEncoder().encode(`${line}\r\n${line === "DATA" ? "" : "x"}`)])
              if ((yield* client.next).startsWith("354")) assert.match(yield* client.say("."), /^554/)
            }
            assert.match(yield* client.say("RSET"), /^250/)
            client.send("MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA")
            assert.deepStrictEqual(yield* client.all(3), ["250 sender", "250 rcpt", "354 go"])
            assert.deepStrictEqual(yield* deviations, [])
          })
        )
      }
    }))
})

describe("a client that does otherwise than recorded", () => {
  it.effect("is told so, the transcript says so, and it may still do what was recorded", () =>
    playing(
      written(...sent, "C: VRFY bob", "S: 252 maybe"),
      Effect.gen(function*() {
        const client = yield* begun
        const expected = "503 5.5.1 not as recorded: expected "
        assert.strictEqual(yield* client.say("VRFY bob"), `${expected}MAIL FROM:<a@b.test> SIZE=9`)
        assert.strictEqual(yield* client.say("MAIL FROM:<x@b.test>"), `${expected}MAIL FROM:<a@b.test> SIZE=9`)
        assert.strictEqual(yield* client.say("MAIL FROM:<a@b.test>"), "250 sender")
        assert.strictEqual(yield* client.say("RCPT TO:<x@d.test>"), `${expected}RCPT TO:<c@d.test>`)
        assert.strictEqual(yield* client.say("rcpt to:<c@d.test>"), "250 rcpt")
        assert.strictEqual(yield* client.say("AUTH PLAIN eA=="), `${expected}DATA`)
        assert.strictEqual(yield* client.say("NONSENSE \u202e"), `${expected}DATA`)
        assert.strictEqual(yield* client.say("DATA"), "354 go")
        assert.strictEqual(yield* client.say("."), "250 2.0.0 taken")
        assert.match(yield* client.say("QUIT"), /^221 /)
        assert.deepStrictEqual(yield* deviations, [
          "not as recorded: VRFY bob in place of MAIL FROM:<a@b.test> SIZE=9",
          "not as recorded: MAIL FROM:<x@b.test> in place of MAIL FROM:<a@b.test> SIZE=9",
          "not as recorded: RCPT TO:<x@d.test> in place of RCPT TO:<c@d.test>",
          "not as recorded: AUTH in place of DATA",
          "not as recorded: NONSENSE \\u{202e} in place of DATA",
          "not as recorded: QUIT in place of VRFY bob"
        ])
      })
    ))

  it.effect("with a message that was not recorded has it refused", () =>
    Effect.gen(function*() {
      for (const line of ["DATA", "BDAT 1", "BDAT 1 LAST"]) {
        yield* playing(
          written(...opening, ...envelope, "C: QUIT", "S: 221 bye"),
          Effect.gen(function*() {
            const client = yield* begun
            client.send("MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>")
            yield* client.all(2)
            client.duplex.write([new TextEncoder().encode(`${line}\r\n${line === "DATA" ? "" : "x"}`)])
            assert.strictEqual(yield* client.next, "503 5.5.1 not as recorded: expected QUIT")
            assert.lengthOf(yield* deviations, 1)
            assert.lengthOf(yield* (yield* SmtpServer.SmtpServer).received, 0)
            assert.strictEqual(yield* client.say("QUIT"), "221 bye")
          })
        )
      }
    }))

  it.effect("may say RSET, NOOP and QUIT at any time, or leave out those that were recorded", () =>
    playing(
      written(...opening, "C: NOOP", "S: 250 awake", ...envelope, "C: RSET", "S: 250 reset", ...envelope, ...message),
      Effect.gen(function*() {
        const client = yield* begun
        client.send("MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "NOOP", "RSET", "RSET")
        assert.deepStrictEqual((yield* client.all(5)).map((reply) => reply.slice(0, 9)), [
          "250 sende",
          "250 rcpt",
          "250 2.0.0",
          "250 reset",
          "250 2.0.0"
        ])
        client.send("MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA")
        assert.deepStrictEqual((yield* client.all(3))[2], "354 go")
        yield* client.say(".")
        assert.match(yield* client.say("QUIT"), /^221/)
        assert.deepStrictEqual(yield* deviations, [])
      })
    ))

  it.effect.each<readonly [string, string, boolean]>([
    ["MAIL FROM:<***@b.test> SIZE=1", "MAIL FROM:<ann@b.test>", true],
    ["MAIL FROM:<***@b.test>", "MAIL FROM:<ann@c.test>", false],
    ["MAIL FROM:<***@b.test> RET=FULL ENVID=***", "MAIL FROM:<ann@b.test> RET=FULL SIZE=4 ENVID=x BODY=8BITMIME", true],
    ["MAIL FROM:<***@***.test> RET=***", "MAIL FROM:<ann@b.test> ENVID=x", false],
    ["MAIL FROM:<***x***y>", "MAIL FROM:<xy>", true],
    ["MAIL FROM:<ab***ba>", "MAIL FROM:<aba>", false],
    ["MAIL ***", "MAIL FROM:<a@b.test> RET=FULL", true],
    ["MAIL FROM:<a.b@c.test>", "MAIL FROM:<axb@c.test>", false],
    ["MAIL FROM:<a\\u{200d}b@c.test> SMTPUTF8", "MAIL FROM:<a\u200db@c.test> SMTPUTF8", true]
  ])("%s in the recording, %s from the client: %s", ([recorded, line, isSame]) =>
    playing(
      written(...opening, `C: ${recorded}`, "S: 250 same"),
      Effect.gen(function*() {
        const client = yield* begun
        const answer = yield* client.say(line)
        assert.strictEqual(answer === "250 same", isSame)
      })
    ))
})

describe("credentials", () => {
  const offer = (names: string) => ["S: 220 mx.test", "C: EHLO me.test", `S: 250 mx.test / AUTH ${names} / AUTH=LOGIN`]
  const hello = Effect.gen(function*() {
    const client = yield* dial()
    yield* client.next
    return { ...client, offered: yield* client.say("EHLO me.test") }
  })

  it.effect.each<readonly [string, string]>([
    ["PLAIN SCRAM-SHA-256 SCRAM-SHA-1-PLUS", "PLAIN"],
    ["SCRAM-SHA-256 DIGEST-MD5", "PLAIN"],
    ["GSSAPI scram-sha-512 XOAUTH2", "GSSAPI XOAUTH2 PLAIN"],
    ["XOAUTH2 GSSAPI", "XOAUTH2 GSSAPI"],
    ["CRAM-MD5 DIGEST-MD5", "CRAM-MD5"]
  ])("are asked for by what can be played: %s becomes %s", ([recorded, played]) =>
    Effect.gen(function*() {
      const transcript = written(...offer(recorded))
      const { offered } = yield* playing(transcript, hello)
      assert.strictEqual(offered, `250 mx.test / AUTH ${played} / AUTH=LOGIN`)
      const all = yield* playing(transcript, hello, { accounts: { ann: "x" } })
      assert.strictEqual(all.offered, `250 mx.test / AUTH ${recorded} / AUTH=LOGIN`)
    }))

  it.effect("are taken or refused as it was recorded, by whatever mechanism", () =>
    playing(
      written(
        ...offer("PLAIN LOGIN X-OWN"),
        "C: AUTH LOGIN",
        "S: 334 ",
        "C: ***",
        "S: 334 ",
        "C: ***",
        "S: 535 5.7.8",
        "C: AUTH PLAIN ***",
        "S: 454 4.7.0",
        "C: AUTH X-OWN ***",
        "S: 235 2.7.0",
        "C: NOOP",
        "S: 250 done"
      ),
      Effect.gen(function*() {
        const client = yield* hello
        assert.strictEqual(yield* client.say(`AUTH PLAIN ${base64("\0ann\0x")}`), "535 5.7.8")
        assert.strictEqual(yield* client.say("AUTH LOGIN"), "454 4.7.0")
        assert.strictEqual(yield* client.say("AUTH X-OWN eA=="), "235 2.7.0")
        assert.strictEqual(yield* client.say("NOOP"), "250 done")
        assert.deepStrictEqual(yield* deviations, [])
      })
    ))

  it.effect("of a login that succeeded in one step are taken in many", () =>
    playing(
      written(...offer("PLAIN LOGIN"), "C: AUTH PLAIN ***", "S: 235 2.7.0", "C: HELP", "S: 214 help"),
      Effect.gen(function*() {
        const client = yield* hello
        assert.match(yield* client.say("AUTH LOGIN"), /^334 /)
        assert.match(yield* client.say(base64("ann")), /^334 /)
        assert.match(yield* client.say(base64("x")), /^235 /)
        assert.strictEqual(yield* client.say("HELP"), "214 help")
        assert.deepStrictEqual(yield* deviations, [])
      })
    ))
})

describe("where the recording ends without a reply", () => {
  const end = (...lines: ReadonlyArray<string>) => written(...lines)
  const rows: ReadonlyArray<readonly [string, SmtpTranscript.Transcript, ReadonlyArray<string>, number]> = [
    ["the greeting", end("*: nothing"), [], 0],
    ["EHLO", end("S: 220 mx.test", "C: EHLO me.test"), ["EHLO me.test"], 1],
    ["NOOP", end(...opening, "C: NOOP"), ["EHLO me.test", "NOOP"], 2],
    ["MAIL", end(...opening, ...envelope.slice(0, 1)), ["EHLO me.test", "MAIL FROM:<a@b.test>"], 2],
    [
      "the second of several that were pipelined",
      end(...opening, "C: MAIL FROM:<a@b.test>", "C: RCPT TO:<c@d.test>", "C: DATA", "S: 250 sender"),
      ["EHLO me.test", "MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>"],
      3
    ],
    [
      "DATA of the second message",
      end(...sent, ...envelope, "C: DATA"),
      [
        "EHLO x",
        "MAIL FROM:<a@b.test>",
        "RCPT TO:<c@d.test>",
        "DATA",
        ".",
        "MAIL FROM:<a@b.test>",
        "RCPT TO:<c@d.test>",
        "DATA"
      ],
      8
    ],
    [
      "the dot of the second message",
      end(...sent, ...envelope, "C: DATA", "S: 354 go"),
      [
        "EHLO x",
        "MAIL FROM:<a@b.test>",
        "RCPT TO:<c@d.test>",
        "DATA",
        ".",
        "MAIL FROM:<a@b.test>",
        "RCPT TO:<c@d.test>",
        "DATA",
        "."
      ],
      9
    ],
    [
      "BDAT LAST",
      end(...opening, ...envelope, "C: BDAT 0 LAST"),
      ["EHLO x", "MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "BDAT 0 LAST"],
      4
    ],
    [
      "BDAT LAST, and the client says DATA",
      end(...opening, ...envelope, "C: BDAT 0 LAST"),
      ["EHLO x", "MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA", "."],
      5
    ],
    ["AUTH", end(...opening, "C: AUTH PLAIN ***"), ["EHLO x", "AUTH PLAIN eA=="], 2],
    ["a step of AUTH", end(...opening, "C: AUTH LOGIN", "S: 334 ", "C: ***"), ["EHLO x", "AUTH LOGIN"], 2],
    ["STARTTLS", end(...opening, "C: STARTTLS"), ["EHLO x", "STARTTLS"], 2]
  ]
  it.effect.each(rows)("to %s the connection drops", ([, transcript, lines, replies]) =>
    playing(
      transcript,
      Effect.gen(function*() {
        const client = yield* dial()
        for (const line of lines) {
          yield* client.next
          client.send(line)
        }
        assert.strictEqual(yield* client.next, "FIN")
        assert.lengthOf(client.events, replies + 1)
      })
    ))

  it.effect("to EHLO over TLS the connection drops there", () =>
    playing(
      written(...opening, "C: STARTTLS", "S: 220 go", "*: TLSv1.3 none, certificate verified", "C: EHLO me.test"),
      Effect.gen(function*() {
        const client = yield* begun
        assert.strictEqual(yield* client.say("STARTTLS"), "220 go")
        yield* client.duplex.upgrade(tls)
        assert.strictEqual(yield* client.say("EHLO me.test"), "FIN")
      })
    ))

  it.effect("and the client comes there by another way, the server says so and closes", () =>
    playing(
      written(
        ...opening,
        "C: MAIL FROM:<bad@b.test>",
        "C: RCPT TO:<c@d.test>",
        "S: 550 no sender",
        "S: 503 no rcpt",
        "C: MAIL FROM:<a@b.test>",
        "S: 250 sender",
        "C: RCPT TO:<c@d.test>"
      ),
      Effect.gen(function*() {
        const client = yield* begun
        assert.strictEqual(yield* client.say("MAIL FROM:<bad@b.test>"), "550 no sender")
        client.send("MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>")
        assert.deepStrictEqual(yield* client.all(3), ["250 sender", "421 4.4.2 the recording ends here", "FIN"])
      })
    ))

  it.effect("a message whose acceptance never came is in doubt again", () =>
    playing(
      written(...opening, ...envelope, "C: DATA", "S: 354 go"),
      Effect.gen(function*() {
        const connection = yield* SmtpConnection.make({ host: "mx.test", tls: "off", name: "me.test" })
        const error = yield* Effect.flip(connection.send({ from: "a@b.test", to: "c@d.test" }, "x"))
        assert.deepStrictEqual([error._tag, error.inDoubt], ["ECONNECTION", true])
      })
    ))

  it.effect("TLS that failed fails again, at the connection where it did", () =>
    Effect.gen(function*() {
      const clear = ["S: 220 mx.test", "C: EHLO me.test", "S: 250 mx.test / STARTTLS"]
      const failed = [...clear, "C: STARTTLS", "S: 220 go"]
      const up = [...failed, "*: TLSv1.3 none, certificate verified", "C: EHLO me.test", "S: 250 secured"]
      const transcript = written(...failed, ...up.map((line) => `2 ${line}`))
      yield* playing(
        transcript,
        Effect.gen(function*() {
          const error = yield* Effect.flip(SmtpConnection.make({ host: "mx.test" }))
          assert.strictEqual(error._tag, "ETLS")
          const connection = yield* SmtpConnection.make({ host: "mx.test" })
          assert.deepStrictEqual([connection.secure, connection.capabilities.name], [true, "secured"])
          assert.deepStrictEqual(yield* deviations, [])
        })
      )
    }))

  it.effect("a certificate that did not verify does not verify again", () =>
    playing(
      written("*: TLSv1.3 none, certificate not verified", "S: 220 mx.test", "C: EHLO me.test", "S: 250 mx.test"),
      Effect.gen(function*() {
        const tlsOptions = { rejectUnauthorized: false }
        const connection = yield* SmtpConnection.make({ host: "mx.test", port: 465, tlsOptions })
        assert.deepInclude(connection.security, { _tag: "Some" } as never)
        assert.strictEqual(connection.securityReport.verifiedBy, "nothing")
      })
    ))

  it.effect("a recording of nothing has no connection", () =>
    playing(
      written(),
      Effect.gen(function*() {
        const client = yield* dial()
        assert.strictEqual(yield* client.next, "421 4.3.2 the recording has no further connection")
      })
    ))

  it.effect("a recording over implicit TLS is played over it", () =>
    playing(
      written("*: TLSv1.3 none, certificate verified", "S: 220 mx.test"),
      Effect.gen(function*() {
        const client = yield* dial({ silent: true })
        yield* client.duplex.upgrade(tls)
        client.listen()
        assert.strictEqual(yield* client.next, "220 mx.test")
      })
    ))
})

const folder = new URL("../fixtures/dialogues/", import.meta.url)
const fixtures = readdirSync(folder).toSorted().map((name) =>
  JSON.parse(readFileSync(fileURLToPath(new URL(name, folder)), "utf8")) as Fixture
)

/** As if the server had not offered these extensions. */
const withdrawn = (value: unknown, names: ReadonlyArray<string>): unknown =>
  JSON.parse(
    JSON.stringify(value, (key, inner: unknown) =>
      (key === "lines" || key === "capabilities") && Array.isArray(inner)
        ? inner.filter((one) => !names.includes(String(one)))
        : key === "protocol" && inner !== undefined
        ? "in-memory"
        : inner)
  )

describe.each(fixtures)("the dialogues of $server.name $server.version, port $server.port", ({ dialogues }) => {
  const played = (
    dialogue: Dialogue,
    name: string,
    names: ReadonlyArray<string>,
    check: (outcome: unknown) => void
  ) => {
    const scenario = name.split(" ", 1)[0]!
    if (!isScenario(scenario)) return assert.fail(scenario)
    const transcript = withdrawn(captured(dialogue), names) as SmtpTranscript.Transcript
    return playing(
      transcript,
      Effect.gen(function*() {
        check(yield* run(scenario, dialogue.setup, { host: "mx.test", port: 25, secret: placeholder }))
        assert.deepStrictEqual(yield* deviations, [])
      }),
      { accounts: { alice: placeholder } }
    )
  }

  it.effect.each(Object.entries(dialogues))(
    "%s: come to the same outcome",
    ([name, dialogue]) =>
      Effect.gen(function*() {
        for (const names of [["CHUNKING"], ["CHUNKING", "PIPELINING"]]) {
          const expected = withdrawn(dialogue.outcome, names)
          yield* played(dialogue, name, names, (outcome) => assert.deepStrictEqual(withdrawn(outcome, names), expected))
        }
      })
  )

  it.effect.each(Object.entries(dialogues))(
    "%s: are played to a client that says BDAT",
    ([name, dialogue]) => played(dialogue, name, [], (outcome) => assert.isDefined(outcome))
  )
})
