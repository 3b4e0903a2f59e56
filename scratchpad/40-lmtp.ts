/** LMTP: the server answers for each recipient after the message, so one message can have several outcomes. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { SmtpConnection } from "../src/index.ts"
import { SmtpServer } from "../src/testing/index.ts"

const server = SmtpServer.layer({
  protocol: "lmtp",
  respond: {
    message: ({ recipient }) =>
      recipient === "full@example.test" ? SmtpServer.reply(552, "5.2.2 over quota") : undefined
  }
})

Effect.gen(function*() {
  const connection = yield* SmtpConnection.make({ path: "/run/dovecot/lmtp", protocol: "lmtp" })
  const to = ["ann@example.test", "full@example.test", "bob@example.test"]
  const result = yield* connection.send({ from: "", to }, "Subject: Report\n\nDelivered locally.\n")
  yield* Console.log(`accepted: ${result.accepted.join(", ")}`)
  for (const error of result.rejectedErrors) {
    yield* Console.log(`${error.recipient}: ${error._tag} ${error.response} (temporary: ${error.isTemporary})`)
  }
}).pipe(Effect.scoped, Effect.provide(server), NodeRuntime.runMain)
