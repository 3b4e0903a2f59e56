/**
 * Streams MEGABYTES of generated text to 127.0.0.1:PORT, after one small message has warmed everything up, and prints
 * one line of JSON: the size, the SHA-256 of the canonical form, and the growth of the resident memory in octets.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { createHash } from "node:crypto"
import * as NodeConnector from "../../src/node/NodeConnector.ts"
import * as SmtpConnection from "../../src/SmtpConnection.ts"

const port = Number(process.argv[2])
const blocks = Number(process.argv[3]) * 16
const line = `${"0123456789".repeat(7)}abcdef\r\n`
const block = new TextEncoder().encode(line.repeat(841).slice(0, 65_536 - 2) + "\r\n")

const rss = Effect.sync(() => {
  globalThis.gc?.()
  return process.memoryUsage().rss
})

Effect.gen(function*() {
  const connection = yield* SmtpConnection.make({ host: "127.0.0.1", port, tls: "off", name: "client.test" })
  const envelope = { from: "a@example.test", to: "b@example.test" }
  const hash = createHash("sha256")
  let peak = 0
  const source = (count: number) =>
    Stream.range(1, count).pipe(
      Stream.rechunk(1),
      Stream.map(() => {
        peak = Math.max(peak, process.memoryUsage().rss)
        hash.update(block)
        return block
      })
    )
  yield* connection.send(envelope, Stream.make(block))
  const before = yield* rss
  peak = before
  const { messageSize } = yield* connection.send(envelope, source(blocks))
  process.stdout.write(`${JSON.stringify({ size: messageSize, sha256: hash.digest("hex"), growth: peak - before })}\n`)
}).pipe(Effect.scoped, Effect.provide(NodeConnector.layer), NodeRuntime.runMain)
