/** A connector of your own: wrap another one, here to count connections and to send one host elsewhere. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Ref from "effect/Ref"
import { SmtpClient, SmtpConnector } from "../src/index.ts"
import { SmtpServer } from "../src/testing/index.ts"

const routed = (dialled: Ref.Ref<ReadonlyArray<string>>) =>
  Layer.effect(
    SmtpConnector.SmtpConnector,
    Effect.map(SmtpConnector.SmtpConnector, (inner) =>
      SmtpConnector.SmtpConnector.of({
        ...inner,
        resolve: (endpoint) =>
          inner.resolve(
            endpoint.host === "legacy.example.test" ? { ...endpoint, host: "relay.example.test" } : endpoint
          ),
        connect: (target) =>
          Effect.andThen(Ref.update(dialled, (all) => [...all, `${target.host}:${target.port}`]), inner.connect(target))
      }))
  )

Effect.gen(function*() {
  const dialled = yield* Ref.make<ReadonlyArray<string>>([])
  const connector = routed(dialled).pipe(Layer.provide(SmtpServer.layer()))
  for (const host of ["mx.example.test", "legacy.example.test"]) {
    const smtp = SmtpClient.layer({ host, servername: host }).pipe(Layer.provide(connector))
    const report = yield* SmtpClient.SmtpClient.use((client) => client.verify).pipe(Effect.provide(smtp))
    yield* Console.log(`${host}: ${report.greeting.text}`)
  }
  yield* Console.log(`dialled: ${(yield* Ref.get(dialled)).join(", ")}`)
}).pipe(NodeRuntime.runMain)
