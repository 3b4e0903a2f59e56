import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as HttpRouter from "effect/http/HttpRouter"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { routes } from "../scratchpad/backend.ts"
import { NodeConnector, NodeSmtpServer } from "../src/node/index.ts"
import * as SmtpClient from "../src/SmtpClient.ts"

const requests = 2_000

/** What the backend answered to one request. */
interface Answer {
  readonly id: string
  readonly status: number
  readonly body: { readonly tag?: string; readonly inDoubt?: boolean; readonly response?: string }
}

/** A server that can be restarted on its port; what each of its lives received is kept. */
const restartable = Effect.gen(function*() {
  const outer = yield* Effect.scope
  const subjects: Array<string> = []
  const start = Effect.fnUntraced(function*(port: number) {
    const scope = yield* Scope.fork(outer)
    const server = yield* Layer.buildWithScope(NodeSmtpServer.layerLoopback({ port, script: { extensions } }), scope)
    return { scope, service: NodeSmtpServer.NodeSmtpServer.pipe(Effect.provide(server)) }
  })
  let life = yield* start(0)
  const { ca, port } = yield* life.service
  const restart = Effect.gen(function*() {
    const { received } = yield* life.service
    yield* Scope.close(life.scope, Exit.void)
    for (const { text } of yield* received) subjects.push(/^Subject: (\S+)/.exec(text ?? "")?.[1] ?? "none")
    life = yield* start(port)
  })
  return { ca, port, restart, subjects }
})

const extensions = { startTls: false } as const

const post = (id: string) =>
  HttpClientRequest.post("/mail").pipe(
    HttpClientRequest.bodyJsonUnsafe({ to: "bob@example.test", subject: id, text: "Hello" }),
    HttpClient.execute,
    Effect.flatMap((answer) => Effect.map(answer.json, (body) => ({ id, status: answer.status, body }) as Answer))
  )

const underLoad = Effect.gen(function*() {
  const server = yield* restartable
  const client = SmtpClient.layer({
    host: "127.0.0.1",
    port: server.port,
    name: "backend.test",
    tls: "off",
    pool: { max: 5 }
  }).pipe(Layer.provide(NodeConnector.layer))
  const served = HttpRouter.serve(routes, { disableLogger: true, disableListenLog: true })
  let answered = 0
  const one = (n: number) =>
    Effect.tap(post(`mail-${n}`), () => {
      answered++
      return answered === 700 || answered === 1_400 ? server.restart : Effect.void
    })
  const ids = Array.from({ length: requests }, (_, n) => n)
  const answers = yield* Effect.forEach(ids, one, { concurrency: 50 }).pipe(
    Effect.provide(Layer.provideMerge(served, Layer.provideMerge(client, NodeHttpServer.layerTest)))
  )
  yield* server.restart
  return { answers, subjects: server.subjects }
})

it.live(
  "a backend under load, its server restarted twice: every mail has an outcome, and none is sent twice",
  () =>
    Effect.gen(function*() {
      const { answers, subjects } = yield* Effect.scoped(underLoad)
      assert.lengthOf(answers, requests)
      const counts = new Map<string, number>()
      for (const subject of subjects) counts.set(subject, (counts.get(subject) ?? 0) + 1)
      const sent = answers.filter(({ status }) => status === 202)
      assert.isAbove(sent.length, requests / 2)
      for (const { body, id, status } of answers) {
        const count = counts.get(id) ?? 0
        if (status === 202) assert.strictEqual(count, 1, id)
        else if (body.inDoubt === true) assert.isAtMost(count, 1, id)
        else {
          assert.isString(body.tag, id)
          assert.strictEqual(count, 0, `${id}: ${JSON.stringify(body)}`)
        }
      }
      assert.sameMembers([...counts.keys()].filter((id) => !answers.some((answer) => answer.id === id)), [])
    }),
  60_000
)
