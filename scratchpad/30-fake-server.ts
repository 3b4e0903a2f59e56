/** The fake server: what your backend sent, under scripts and faults, without a network and without waiting. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/testing/TestClock"
import { SmtpClient } from "../src/index.ts"
import { SmtpServer } from "../src/testing/index.ts"

const script: SmtpServer.Script = {
  respond: {
    rcpt: ({ path }) => path === "full@example.test" ? SmtpServer.reply(452, "4.2.2 mailbox full") : undefined
  },
  faults: [SmtpServer.at("message", SmtpServer.delay("20 seconds"))]
}

Effect.gen(function*() {
  const smtp = yield* SmtpClient.make({ host: "any.example.test" })
  const to = ["ann@example.test", "full@example.test"]
  const fiber = yield* Effect.forkChild(smtp.send({ from: "app@example.test", to }, "Subject: Hi\n\n.dots are safe\n"))
  const server = yield* SmtpServer.SmtpServer
  const [received] = yield* server.awaitReceived(1)
  yield* TestClock.adjust("20 seconds")
  const { accepted, rejectedErrors } = yield* Fiber.join(fiber)
  yield* Console.log(`accepted ${accepted.join()}; ${rejectedErrors.map((e) => e.message).join()}`)
  yield* Console.log(
    `stored ${JSON.stringify(received?.text)} for ${received?.to.join()}, over TLS: ${received?.secure}`
  )
}).pipe(
  Effect.provide(Layer.merge(SmtpServer.layer(script), TestClock.layer())),
  NodeRuntime.runMain
)
