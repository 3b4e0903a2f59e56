/** A backend: mail from an HTTP endpoint, over a pool that the layer holds; each answer says what became of the mail. */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as Layer from "effect/Layer"
import { SmtpClient } from "../src/index.ts"
import { NodeConnector, NodeSmtpServer } from "../src/node/index.ts"
import { SmtpServer } from "../src/testing/index.ts"
import { post, routes } from "./backend.ts"

const script: SmtpServer.Script = {
  respond: {
    rcpt: ({ path }) => path === "gone@example.test" ? SmtpServer.reply(550, "5.1.1 no such user") : undefined
  }
}

const client = NodeSmtpServer.NodeSmtpServer.useSync(({ ca, host, port }) =>
  SmtpClient.layer({ host, port, name: "backend.example.test", tlsOptions: { ca }, pool: { max: 4 } })
)
const smtp = Layer.unwrap(client).pipe(
  Layer.provide(NodeConnector.layer),
  Layer.provideMerge(NodeSmtpServer.layerLoopback({ script }))
)

Effect.gen(function*() {
  for (const to of ["ann@example.test", "gone@example.test", "no address"]) yield* Console.log(yield* post(to))
  yield* Effect.forEach(Array.from({ length: 20 }), () => post("bob@example.test"), { concurrency: 20 })
  const { connections, received } = yield* NodeSmtpServer.NodeSmtpServer
  yield* Console.log(`${(yield* received).length} mails over ${(yield* connections).length} connections`)
}).pipe(
  Effect.provide(
    HttpRouter.serve(routes, { disableLogger: true, disableListenLog: true }).pipe(
      Layer.provideMerge(smtp),
      Layer.provideMerge(NodeHttpServer.layerTest)
    )
  ),
  NodeRuntime.runMain
)
