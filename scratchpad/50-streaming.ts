/** Streaming: 20 MB that never stand in memory; the stream's own errors are errors of the send. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { SmtpClient } from "../src/index.ts"
import { SmtpServer } from "../src/testing/index.ts"

class ReportFailed extends Schema.TaggedError<ReportFailed>()("ReportFailed", { row: Schema.Int }) {}

const row = (n: number): string => `${String(n).padStart(10, "0")};${"x".repeat(88)}\n`
const block = (n: number): string => Array.from({ length: 1_000 }, (_, i) => row(n * 1_000 + i)).join("")
const report = (blocks: number) => Stream.range(1, blocks).pipe(Stream.rechunk(1), Stream.map(block))
const broken = Stream.concat(report(3), Stream.fail(new ReportFailed({ row: 3_001 })))

Effect.gen(function*() {
  const smtp = yield* SmtpClient.make({ host: "mx.example.test" })
  const envelope = { from: "reports@example.test", to: "ann@example.test" }
  const header = Stream.make("Subject: Report\n\n")
  const result = yield* smtp.send(envelope, Stream.concat(header, report(200)))
  yield* Console.log(`sent ${result.messageSize} octets`)

  const failed = yield* smtp.send(envelope, Stream.concat(header, broken)).pipe(
    Effect.catchTag("ReportFailed", (e) => Effect.succeed(`not sent: the report broke at row ${e.row}`))
  )
  yield* Console.log(failed)
  const server = yield* SmtpServer.SmtpServer
  yield* Console.log(`messages at the server: ${(yield* server.received).length}`)
}).pipe(Effect.provide(SmtpServer.layer({ digest: true })), NodeRuntime.runMain)
