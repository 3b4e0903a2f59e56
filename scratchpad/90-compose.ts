/** Composing: text, HTML with an image in it, and an attachment that is a Stream. Needs the optional peer nodemailer. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { SmtpClient } from "../src/index.ts"
import * as Message from "../src/Message.ts"
import { SmtpServer } from "../src/testing/index.ts"

const rows = Stream.range(1, 1_000).pipe(Stream.map((n) => `${n};${n * n}\r\n`))

const report = Message.compose({
  from: "Reports <reports@example.test>",
  to: { name: "Ann Ärmel", address: "ann@example.test" },
  bcc: "audit@example.test",
  subject: "Squares – in colour",
  html: "<p>Here they are. <img src=\"cid:dot\"></p>",
  attachments: [
    { filename: "dot.png", cid: "dot", content: "iVBORw0KGgo=", encoding: "base64" },
    { filename: "squares.csv", contentType: "text/csv; charset=utf-8", content: rows }
  ]
})

Effect.gen(function*() {
  const smtp = yield* SmtpClient.make({ host: "mx.example.test" })
  const { envelope, message } = yield* report
  yield* Console.log(`accepted: ${(yield* smtp.send(envelope, message)).accepted.join(", ")}`)

  const [stored] = yield* (yield* SmtpServer.SmtpServer).received
  const text = new TextDecoder().decode(stored?.body)
  yield* Console.log(/^Subject:.*/m.exec(text)?.[0])
  yield* Console.log(text.match(/^Content-Type: [^;\r]*(?:; (?:charset|name)=[^;\r]*)*/gm)?.join("; "))
  yield* Console.log(`bcc in the header: ${text.includes("audit@")}`)

  const careless = { from: "a@example.test", to: "b@example.test", attachments: [{ path: "/etc/passwd" }] }
  const refused = yield* Effect.flip(Message.compose(careless as unknown as Message.Fields))
  yield* Console.log(`refused: ${refused.message}`)
}).pipe(Effect.provide(SmtpServer.layer()), NodeRuntime.runMain)
