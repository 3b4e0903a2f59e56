import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as SmtpClient from "../../src/SmtpClient.ts"
import { SmtpServer } from "../../src/testing/index.ts"

const mail = { from: "a@me.test", to: ["b@mx.test", "c@mx.test"] }

/** Each connection ends with its message: the tests wait for that. */
const withServer = <A, E>(
  script: SmtpServer.Script,
  body: (smtp: SmtpClient.Client) => Effect.Effect<A, E, SmtpServer.SmtpServer>,
  options: SmtpClient.Options = {}
) =>
  Effect.flatMap(SmtpClient.make({ host: "mx.test", pool: { maxMessages: 1 }, ...options }), body).pipe(
    Effect.provide(SmtpServer.layer(script))
  )

describe("a script that stores", () => {
  it.effect("has each message before it is accepted; the reply waits", () =>
    Effect.gen(function*() {
      const came = yield* Deferred.make<SmtpServer.Received>()
      const stored = yield* Deferred.make<void>()
      const store = (message: SmtpServer.Received) =>
        Effect.as(Effect.andThen(Deferred.succeed(came, message), Deferred.await(stored)), undefined)
      yield* withServer({ store }, (smtp) =>
        Effect.gen(function*() {
          const server = yield* SmtpServer.SmtpServer
          const sending = yield* Effect.forkChild(smtp.send(mail, "Hello\r\n"))
          const { text, to } = yield* Deferred.await(came)
          assert.deepStrictEqual({ text, to }, { text: "Hello\r\n", to: mail.to })
          assert.deepStrictEqual(yield* server.received, [])
          assert.isUndefined(sending.pollUnsafe())
          yield* Deferred.succeed(stored, undefined)
          assert.strictEqual((yield* Fiber.join(sending)).response, "2.0.0 queued as 1")
          assert.strictEqual((yield* server.received).length, 1)
        }))
    }))

  it.effect("may answer, and may refuse after all", () =>
    Effect.gen(function*() {
      const answers = [SmtpServer.reply(250, "2.0.0 stored as 7"), SmtpServer.reply(452, "4.3.1 full")]
      yield* withServer({ store: () => Effect.sync(() => answers.shift()) }, (smtp) =>
        Effect.gen(function*() {
          assert.strictEqual((yield* smtp.send(mail, "x")).response, "2.0.0 stored as 7")
          const error = yield* Effect.flip(smtp.send(mail, "y"))
          assert.deepStrictEqual([error._tag, error.responseCode], ["EMESSAGE", 452])
          const received = yield* (yield* SmtpServer.SmtpServer).received
          assert.deepStrictEqual(received.map(({ text }) => text), ["x\r\n"])
        }))
    }))

  it.effect("refuses for now with 451 when it dies, and goes on", () =>
    Effect.gen(function*() {
      let isFull = true
      const store = () =>
        Effect.sync(() => {
          if (!isFull) return undefined
          isFull = false
          throw new Error("disk full")
        })
      yield* withServer({ store }, (smtp) =>
        Effect.gen(function*() {
          const server = yield* SmtpServer.SmtpServer
          assert.strictEqual((yield* Effect.flip(smtp.send(mail, "x"))).responseCode, 451)
          assert.include((yield* server.transcript).map(({ text }) => text), "store failed: Error: disk full")
          yield* smtp.send(mail, "y")
        }))
    }))

  it.effect("is not asked for what is refused anyhow", () =>
    withServer(
      { store: () => Effect.die("asked"), respond: { message: () => SmtpServer.reply(554, "5.6.0 no") } },
      (smtp) =>
        Effect.gen(function*() {
          assert.strictEqual((yield* Effect.flip(smtp.send(mail, "x"))).responseCode, 554)
        })
    ))

  it.effect("answers over LMTP for those whom the script accepts, once for all", () =>
    Effect.gen(function*() {
      const asked: Array<ReadonlyArray<string>> = []
      const script: SmtpServer.Script = {
        protocol: "lmtp",
        respond: {
          message: ({ recipient }) => recipient === "c@mx.test" ? SmtpServer.reply(552, "5.2.2 full") : undefined
        },
        store: ({ to }) =>
          Effect.sync(() => {
            asked.push(to)
            return SmtpServer.reply(250, "2.0.0 stored")
          })
      }
      yield* withServer(script, (smtp) =>
        Effect.gen(function*() {
          const result = yield* smtp.send(mail, "x")
          assert.deepStrictEqual(asked, [["b@mx.test"]])
          assert.deepStrictEqual([result.accepted, result.rejected], [["b@mx.test"], ["c@mx.test"]])
          assert.strictEqual(result.rejectedErrors[0]?.response, "5.2.2 full")
        }), { protocol: "lmtp" })
    }))
})

describe("a script that watches", () => {
  it.effect("is told each line and event when it comes, as the transcript has them", () =>
    Effect.gen(function*() {
      const seen: Array<SmtpServer.TranscriptLine> = []
      yield* withServer({ watch: (line) => void seen.push(line) }, (smtp) =>
        Effect.gen(function*() {
          const server = yield* SmtpServer.SmtpServer
          yield* smtp.send(mail, "x")
          yield* server.awaitClosed
          assert.deepStrictEqual(seen, yield* server.transcript)
          assert.deepStrictEqual(seen.at(-1), { connection: 1, from: "event", text: "closed" })
        }))
    }))
})

describe("a script that forgets", () => {
  it.effect("holds nothing of what is over, and still counts", () =>
    withServer({ forget: true }, (smtp) =>
      Effect.gen(function*() {
        const server = yield* SmtpServer.SmtpServer
        yield* smtp.use((connection) =>
          Effect.gen(function*() {
            yield* connection.send(mail, "x")
            const [open, ...others] = yield* server.connections
            assert.deepStrictEqual([open?.id, open?.open, open?.bytes, others.length], [1, true, undefined, 0])
            assert.isAbove(open?.bytesReceived ?? 0, 0)
          })
        )
        assert.strictEqual((yield* smtp.send(mail, "y")).response, "2.0.0 queued as 2")
        yield* server.awaitClosed
        assert.deepStrictEqual(yield* server.awaitReceived(2), [])
        assert.deepStrictEqual(yield* server.received, [])
        assert.deepStrictEqual(yield* server.transcript, [])
        assert.deepStrictEqual(yield* server.connections, [])
      })))
})
