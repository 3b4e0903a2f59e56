/** Promises: the same client without Effect. Leave `connector` out to reach a real server. */
import { log } from "node:console"
import { Readable } from "node:stream"
import { SmtpError } from "../src/index.ts"
import { createTransport, SendAborted } from "../src/promise.ts"
import { SmtpServer } from "../src/testing/index.ts"

// The caller goes away at the worst moment: when the server has the fourth message, and no answer came yet.
const leaving = new AbortController()
let messages = 0
const server = SmtpServer.layer({
  accounts: { app: "a secret" },
  respond: {
    rcpt: ({ path }) => (path === "gone@example.test" ? SmtpServer.reply(550, "5.1.1 no such user") : undefined),
    message: () => {
      if (++messages === 4) leaving.abort()
      return undefined
    }
  },
  faults: [SmtpServer.at("message", SmtpServer.silence, { occurrence: 4 })]
})

await using transport = createTransport({
  host: "smtp.example.test",
  auth: { username: "app", password: "a secret" },
  connector: server
})
const to = (address: string) => ({ from: "app@example.test", to: address })
const { response } = await transport.send(to("ann@example.test"), Readable.from(["Subject: Hi\n\n", "Hello\n"]))
log(`accepted: ${response}`)

const mails = ["bob@example.test", "gone@example.test", "eve@example.test"]
  .map((address) => ({ envelope: to(address), message: `To: ${address}\nSubject: News\n\nAll is well.\n` }))
for await (const one of transport.sendAll(mails)) {
  if (one.status === "fulfilled") log(`sent: ${one.value.response}`)
  else if (one.reason instanceof SmtpError.EENVELOPE) log(`not sent: ${one.reason.code} ${one.reason.response}`)
}

const late = transport.send(to("ann@example.test"), "Subject: Late\n\n", { signal: leaving.signal })
await late.catch((error) => log(error instanceof SendAborted ? `aborted; in doubt: ${error.inDoubt}` : error))
