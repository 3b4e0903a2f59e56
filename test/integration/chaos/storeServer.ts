/**
 * A server in a process of its own that writes what it accepts to a file before it says so: FILE PORT PROTOCOL TLS.
 * It prints its port, and ends with its standard input. Recipients named reject, defer and late have that fate.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import { openSync, writeSync } from "node:fs"
import * as NodeSmtpServer from "../../../src/node/NodeSmtpServer.ts"
import * as SmtpServer from "../../../src/testing/SmtpServer.ts"

const [, , path = "", port, protocol, withTls] = process.argv
const file = openSync(path, "a")

const rcpt: SmtpServer.Handler = ({ path = "" }) =>
  path.startsWith("reject")
    ? SmtpServer.reply(550, "5.1.1 no such user")
    : path.startsWith("defer")
    ? SmtpServer.reply(450, "4.2.0 not now")
    : undefined

const message: SmtpServer.Handler = ({ message, recipient }) => {
  const recipients = recipient === undefined ? message?.to ?? [] : [recipient]
  if (recipients.some((one) => one.startsWith("late"))) return SmtpServer.reply(451, "4.3.0 later")
  const line = { sender: message?.from, recipients, sha256: message?.sha256 }
  writeSync(file, `${JSON.stringify(line)}\n`)
  return undefined
}

process.stdin.on("end", () => process.exit()).resume()

Effect.gen(function*() {
  const server = yield* NodeSmtpServer.NodeSmtpServer
  process.stdout.write(`${server.port}\n`)
  return yield* Effect.never
}).pipe(
  Effect.provide(NodeSmtpServer.layerLoopback({
    port: Number(port),
    script: {
      protocol: protocol === "lmtp" ? "lmtp" : "smtp",
      digest: true,
      extensions: { startTls: withTls === "tls" },
      respond: { rcpt, message }
    }
  })),
  NodeRuntime.runMain
)
