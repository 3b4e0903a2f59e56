/** A loopback server in a process of its own: digest mode, no TLS; prints its port, then one line of JSON per message. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import * as NodeSmtpServer from "../../src/node/NodeSmtpServer.ts"

const print = (value: unknown) => Effect.sync(() => process.stdout.write(`${JSON.stringify(value)}\n`))

Effect.gen(function*() {
  const server = yield* NodeSmtpServer.NodeSmtpServer
  yield* print({ port: server.port })
  for (let n = 1;; n++) {
    const { sha256, size } = (yield* server.awaitReceived(n))[n - 1]!
    yield* print({ sha256, size })
  }
}).pipe(
  Effect.provide(NodeSmtpServer.layerLoopback({
    script: { digest: true, extensions: { startTls: false, size: false } }
  })),
  NodeRuntime.runMain
)
