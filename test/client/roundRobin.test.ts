import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { ClientError } from "../../src/internal/client/model.ts"
import * as SmtpClient from "../../src/SmtpClient.ts"
import * as stub from "./stub.ts"

const { envelope, errors } = stub

describe("roundRobin", () => {
  const three = () => {
    const asked: Array<string> = []
    const client = (name: string) =>
      stub.make((message) => {
        asked.push(`${name}${message}`)
        return Effect.void
      })
    return { asked, clients: [client("a"), client("b"), client("c")] as const }
  }

  it.effect("takes the clients in strict turn, whatever the call", () =>
    Effect.gen(function*() {
      const { asked, clients } = three()
      const smtp = SmtpClient.roundRobin(clients)
      const send = smtp.send(envelope, "1")
      yield* send
      yield* send
      yield* smtp.verify
      yield* smtp.use(() => Effect.void)
      const mails = Stream.fromIterable(["2", "3"]).pipe(Stream.map((message) => ({ envelope, message })))
      yield* Stream.runDrain(smtp.sendAll(mails))
      assert.deepStrictEqual(asked, ["a1", "b1", "cverify", "ause", "b2", "c3"])
    }))

  it.effect("has as many mails under way in sendAll as all its clients together", () =>
    Effect.sync(() => {
      const [a, b, c] = three().clients
      assert.strictEqual(SmtpClient.roundRobin([a, { ...b, concurrency: 5 }, c]).concurrency, 7)
    }))

  it.effect("does not care how they fare, but a fallback around each does", () =>
    Effect.gen(function*() {
      const down = stub.make(() => Effect.fail(errors.ESOCKET))
      const up = stub.make()
      const plain = SmtpClient.roundRobin([down, up])
      assert.strictEqual(yield* Effect.flip(plain.send(envelope, "x")), errors.ESOCKET)
      yield* plain.send(envelope, "x")
      assert.strictEqual(yield* Effect.flip(plain.send(envelope, "x")), errors.ESOCKET)
      const safe = SmtpClient.roundRobin([
        SmtpClient.withFallback([down, up]),
        SmtpClient.withFallback([up, down])
      ])
      yield* Effect.repeat(safe.send(envelope, "x"), { times: 3 })
    }))

  it.effect("shows the policies of each client", () =>
    Effect.gen(function*() {
      const adaptive = yield* SmtpClient.withAdaptiveConcurrency(stub.make(), { max: 2 })
      const { clients } = yield* SmtpClient.roundRobin([adaptive, stub.make()]).policies
      assert.deepStrictEqual(clients, [{ adaptiveConcurrency: { limit: 1, running: 0, waiting: 0 } }, {}])
    }))

  it.effect("refuses a list that is empty, at the first call", () =>
    Effect.gen(function*() {
      const smtp = SmtpClient.roundRobin([] as never)
      const error: ClientError = yield* Effect.flip(smtp.send(envelope, "x"))
      assert.deepInclude(error, { _tag: "ECONFIG", field: "clients" } as never)
      assert.match(error.message, /roundRobin needs at least one client/)
    }))
})
