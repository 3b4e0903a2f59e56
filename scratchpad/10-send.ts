/** Sending: provide the service once, send from anywhere. Swap the fake server for `NodeConnector.layer` in production. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { Sasl, SmtpClient } from "../src/index.ts"
import { SmtpServer } from "../src/testing/index.ts"

const welcome = Effect.fn("welcome")(function*(user: string) {
  const smtp = yield* SmtpClient.SmtpClient
  const message = `From: App <app@example.test>\nTo: ${user}\nSubject: Welcome\n\nGood to have you.\n`
  return yield* smtp.send({ from: "app@example.test", to: user }, message)
})

const program = Effect.gen(function*() {
  const result = yield* welcome("new.user@example.test")
  yield* Console.log(`accepted: ${result.accepted.join()} (${result.messageSize} octets): ${result.response}`)
})

const smtp = SmtpClient.layer({
  host: "smtp.example.test",
  port: 587,
  auth: Sasl.password({ username: "app", password: Redacted.make("a secret") })
})

program.pipe(Effect.provide(smtp.pipe(Layer.provide(SmtpServer.layer()))), NodeRuntime.runMain)
