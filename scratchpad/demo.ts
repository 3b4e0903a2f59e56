/**
 * The main job, shown: one real message over real sockets, with the dialogue and the proof.
 *
 * `npm run demo` starts the embedded server on a loopback port and sends to it. `npm run demo -- message.eml` sends that
 * file. With SMTP_URL (and SMTP_FROM, SMTP_TO) in the environment the message goes to that server instead.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Config from "effect/Config"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import { createHash } from "node:crypto"
import { existsSync, readFileSync } from "node:fs"
import { DotStuffing, Sasl, SmtpClient } from "../src/index.ts"
import { NodeConnector, NodeSmtpServer } from "../src/node/index.ts"

const awkward = [
  "From: Ann <ann@example.test>\nTo: Bob <bob@example.test>\n",
  "Subject: A message that is easily damaged\nContent-Type: text/plain; charset=utf-8\n\n",
  ".a line that starts with a dot\n..and one with two\r\nbare CR:\rumlaut: ü\nno newline at the end"
].join("")

const file = process.argv[2]
if (file !== undefined && !existsSync(file)) {
  process.stderr.write(`There is no file ${file}.\n`)
  process.exit(66)
}
const message = file === undefined ? new TextEncoder().encode(awkward) : new Uint8Array(readFileSync(file))

/** The transcript as it comes; everything else of a log line is left out. */
const transcript = Logger.make<unknown, void>(({ message }) => {
  process.stdout.write(`  ${String(message)}\n`)
})

const digest = (octets: Uint8Array): string => createHash("sha256").update(octets).digest("hex")

const report = (
  result: { readonly accepted: ReadonlyArray<string>; readonly messageSize: number; readonly response: string }
) => Console.log(`\nAccepted for ${result.accepted.join(", ")}: ${result.messageSize} octets, "${result.response}"`)

const envelope = { from: "ann@example.test", to: "bob@example.test" }

const optionsOf = (server: NodeSmtpServer.NodeSmtpServer["Service"]): SmtpClient.Options => ({
  host: server.host,
  port: server.port,
  servername: "localhost",
  name: "demo.example.test",
  tlsOptions: { ca: server.ca },
  auth: Sasl.password({ username: "ann", password: Redacted.make("correct horse") })
})

/** Many more, of which several are under way at once on each connection of the pool. */
const sendMany = Effect.fn("sendMany")(function*(server: NodeSmtpServer.NodeSmtpServer["Service"], count: number) {
  const before = (yield* server.connections).length
  const smtp = yield* SmtpClient.make({ ...optionsOf(server), pool: { max: 4, maxMessages: Infinity } })
  const mails = Stream.range(1, count).pipe(Stream.map((n) => ({ envelope, message: `Subject: ${n}\n\nHello\n` })))
  const results = yield* Stream.runCollect(smtp.sendAll(mails))
  const connections = (yield* server.connections).length - before
  yield* Console.log(`And ${results.filter(Result.isSuccess).length} more by sendAll, over ${connections} connections.`)
})

/** Sends to the embedded server and compares what it stored with the canonical form of what was given. */
const embedded = Effect.gen(function*() {
  const server = yield* NodeSmtpServer.NodeSmtpServer
  yield* Console.log(`Embedded server on ${server.host}:${server.port}; the dialogue:\n`)
  const once = Effect.flatMap(
    SmtpClient.make({ ...optionsOf(server), transcript: "commands" }),
    (smtp) => smtp.send(envelope, message)
  )
  yield* report(yield* Effect.scoped(once))
  const [stored] = yield* server.awaitReceived(1)
  const canonical = DotStuffing.canonical(message)
  const same = stored !== undefined && Buffer.compare(stored.body, canonical) === 0
  yield* Console.log(
    `sent, canonical form  ${digest(canonical)}\nstored by the server  ${digest(stored?.body ?? new Uint8Array())}`
  )
  yield* Console.log(same ? "The stored octets are the canonical form of the message." : "The octets differ.")
  if (!same) return yield* Effect.die(new Error("the server stored something else than was sent"))
  yield* Effect.scoped(sendMany(server, 1_000))
}).pipe(
  Effect.provide(NodeSmtpServer.layerLoopback({ script: { accounts: { ann: "correct horse" }, requireAuth: true } }))
)

/** Sends to the server that the environment names. */
const remote = Effect.gen(function*() {
  const from = yield* Config.NonEmptyString("SMTP_FROM")
  const to = yield* Config.NonEmptyString("SMTP_TO")
  const smtp = yield* SmtpClient.make({ ...(yield* SmtpClient.config), transcript: "commands" })
  yield* report(yield* smtp.send({ from, to: to.split(",").map((address) => address.trim()) }, message))
})

const main = Effect.gen(function*() {
  const url = yield* Config.option(Config.Redacted("SMTP_URL"))
  yield* Option.isSome(url) ? remote : embedded
}).pipe(Effect.provide(Layer.merge(NodeConnector.layer, Logger.layer([transcript]))))

NodeRuntime.runMain(main)
