/** Errors: each has its tag, what the server said, and whether trying again can help or could send twice. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { SmtpClient, SmtpError } from "../src/index.ts"
import { SmtpServer } from "../src/testing/index.ts"

const deliver = Effect.gen(function*() {
  const smtp = yield* SmtpClient.make({ host: "mx.example.test" })
  const result = yield* smtp.send({ from: "ann@example.test", to: "bob@example.test" }, "Subject: Hi\n\nHello\n")
  return `sent: ${result.response}`
}).pipe(
  Effect.catchTag("EENVELOPE", (e) => Effect.succeed(`refused: ${e.responseCode} ${e.enhancedCode}`)),
  Effect.catchTag("ETLS", (e) => Effect.succeed(`not sent, because not private: ${e.command}`)),
  Effect.catch((e) =>
    Effect.succeed(
      e.inDoubt ?
        `${e._tag}: in doubt, do not send again blindly`
        : `${e._tag}: ${SmtpError.isRetryable(e) ? "try again later" : "give up"}`
    )
  )
)

const server = {
  "all is well": {},
  "a mailbox that is not there": { faults: [SmtpServer.at("rcpt", SmtpServer.answer(550, "5.1.1 no such user"))] },
  "a server without STARTTLS": { extensions: { startTls: false } },
  "a connection lost before the message": { faults: [SmtpServer.at("ehlo", SmtpServer.reset)] },
  "a connection lost after the message": { faults: [SmtpServer.at("message", SmtpServer.drop)] }
}

Effect.forEach(
  Object.entries(server),
  ([name, script]) =>
    Effect.flatMap(deliver, (said) => Console.log(`${name}: ${said}`)).pipe(Effect.provide(SmtpServer.layer(script))),
  { discard: true }
).pipe(NodeRuntime.runMain)
