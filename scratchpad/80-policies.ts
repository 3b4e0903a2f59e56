/** Policies around a client: a circuit that opens, another server, a strict rate; time is the test clock's. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as References from "effect/References"
import * as TestClock from "effect/testing/TestClock"
import { SmtpClient } from "../src/index.ts"
import { SmtpServer } from "../src/testing/index.ts"

const send = (smtp: SmtpClient.Client) =>
  smtp.send({ from: "ann@example.test", to: "bob@example.test" }, "Subject: Hi\n\nHi\n")

// The first three connections are refused.
const faults = [1, 2, 3].map((connection) => SmtpServer.at("connect", SmtpServer.reset, { connection }))

Effect.gen(function*() {
  const relay = yield* SmtpClient.make({ host: "relay.example.test" })

  const guarded = yield* SmtpClient.withCircuitBreaker(relay, { failures: 3, openFor: "1 minute" })
  for (let call = 1; call <= 4; call++) {
    yield* Effect.catch(send(guarded), (e) => Console.log(`${call}: ${e._tag}, attempted: ${e.attempted}`))
  }
  const smtp = SmtpClient.withFallback([guarded, relay])
  yield* Console.log(`by the second server: ${(yield* send(smtp)).response}`)

  const limited = yield* SmtpClient.withRateLimit(smtp, { limit: 20, window: "1 second" })
  yield* Effect.forkChild(Effect.forEach(Array.from({ length: 60 }), () => send(limited)))
  for (const second of [0, 1, 2]) {
    yield* TestClock.adjust(second === 0 ? 0 : "1 second")
    const { received } = yield* SmtpServer.SmtpServer
    yield* Console.log(`after ${second} s: ${(yield* received).length - 1} sent`)
  }
}).pipe(
  Effect.provide([SmtpServer.layer({ faults }), TestClock.layer()]),
  // The circuit and the fallback log what they do, as warnings.
  Effect.provideService(References.MinimumLogLevel, "Error"),
  NodeRuntime.runMain
)
