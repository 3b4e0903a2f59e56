/**
 * The fake server: an SMTP or LMTP server in memory for tests, scripted, with faults on demand.
 *
 * **Details**
 *
 * {@link layer} stands in for `NodeConnector.layer`: the options of production work unchanged, STARTTLS, implicit TLS
 * and AUTH included, and every delay is governed by the Clock, so by `TestClock` in a test. TLS is simulated.
 * `NodeSmtpServer.layerLoopback` runs the same engine on a real port.
 *
 * What it is not: a mail server. It delivers nothing and keeps all in memory.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { type Duplex, SmtpConnector, type Target } from "../SmtpConnector.ts"
import { ESOCKET } from "../SmtpError.ts"
import type { Fault } from "./faults.ts"
import * as Memory from "./memory.ts"
import { Recorder, type Records } from "./records.ts"
import { resolve, type Resolved, type Script } from "./script.ts"
import * as Session from "./session.ts"

export { type Answer, reply } from "./answer.ts"
export {
  answer,
  at,
  byteAtATime,
  delay,
  drop,
  dropAfter,
  earlyReply,
  type Fault,
  garbage,
  type PlacedFault,
  plaintextAfterStartTls,
  reset,
  resetAfter,
  silence,
  stall,
  type Step,
  steps,
  surplus,
  tlsFailure
} from "./faults.ts"
export { fromTranscript } from "./fromTranscript.ts"
export type { ConnectionInfo, Received, Records, TranscriptLine } from "./records.ts"
export {
  type Command,
  type Extensions,
  type Handler,
  type Respond,
  type Script,
  type ScriptedConnection,
  type SessionView,
  type Tls
} from "./script.ts"

/**
 * What a test asks of the fake server: messages, transcript, connections.
 *
 * @category services
 * @since 0.1.0
 */
export class SmtpServer extends Context.Service<SmtpServer, Records>()("effect-smtp/testing/SmtpServer") {}

const refused = (target: Target): ESOCKET =>
  new ESOCKET({
    message: `CONN: the fake server refuses the connection to ${target.path ?? `${target.host}:${target.port}`}`,
    command: "CONN",
    cause: Memory.errno("ECONNREFUSED", "connect")
  })

/** The faults of the n-th dialling; here `connection` and `occurrence` both count those. */
const dialling = (script: Resolved, attempt: number): ReadonlyArray<Fault> =>
  script.faults.filter(({ connection, occurrence, step }) =>
    step === "connect" && (occurrence === "every" || (connection ?? occurrence) === attempt)
  ).map((placed) => placed.fault)

const make = Effect.fnUntraced(function*(script: Resolved) {
  const scope = yield* Scope.Scope
  const recorder = new Recorder(script)
  let attempts = 0

  const dial = Effect.fnUntraced(function*(target: Target): Effect.fn.Return<void, ESOCKET> {
    attempts++
    for (const fault of dialling(script, attempts)) {
      if (fault._tag === "Delay") yield* Effect.sleep(fault.duration)
      if (fault._tag === "Silence" || fault._tag === "Stall") return yield* Effect.never
      if (fault._tag === "Reset" || fault._tag === "Drop") return yield* refused(target)
    }
  })

  const connect = Effect.fnUntraced(function*(target: Target): Effect.fn.Return<Duplex, ESOCKET, Scope.Scope> {
    yield* dial(target)
    const { duplex, transport } = new Memory.MemoryConnection(script, target)
    yield* Effect.addFinalizer(() => Effect.sync(duplex.destroy))
    const session = Effect.interruptible(Session.run(script, recorder, transport))
    yield* Effect.forkIn(session, scope, { startImmediately: true })
    return duplex
  })

  const connector = SmtpConnector.of({
    resolve: (endpoint) =>
      Effect.succeed([{ ...endpoint, address: endpoint.path === undefined ? "127.0.0.1" : undefined }]),
    connect,
    localName: "client.test"
  })
  return Context.make(SmtpServer, recorder.records).pipe(Context.add(SmtpConnector, connector))
})

/**
 * A fake server in memory, and the connector that leads to it whatever the endpoint.
 *
 * **Details**
 *
 * Each connection is a fiber in the layer's scope. The client's first act decides between TLS and plaintext (`upgrade`
 * or `listen`), unless `implicitTls` or port 465 does. The default script is a server named fake.test that offers
 * STARTTLS, then AUTH that takes any credentials, PIPELINING, 8BITMIME, SMTPUTF8, DSN, SIZE, ENHANCEDSTATUSCODES,
 * CHUNKING, REQUIRETLS and HELP.
 *
 * **Gotchas**
 *
 * The transcript and `ConnectionInfo.bytes` hold what the client sent, secrets included.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { Effect } from "effect"
 * import { SmtpConnector } from "effect-smtp"
 * import { SmtpServer } from "effect-smtp/testing"
 *
 * const program = Effect.gen(function*() {
 *   const connector = yield* SmtpConnector.SmtpConnector
 *   const [target] = yield* connector.resolve({ host: "mx.test", port: 25 })
 *   const duplex = yield* connector.connect(target)
 *   duplex.listen({ onData: () => {}, onDrain: () => {}, onEnd: () => {} })
 *   const lines = ["EHLO me.test", "MAIL FROM:<ann@a.test>", "RCPT TO:<bob@b.test>", "DATA", "Hello", ".", ""]
 *   duplex.write([new TextEncoder().encode(lines.join("\r\n"))])
 *   const server = yield* SmtpServer.SmtpServer
 *   return yield* server.awaitReceived(1)
 * })
 *
 * const [message] = await Effect.runPromise(Effect.scoped(program).pipe(Effect.provide(SmtpServer.layer())))
 * assert.deepStrictEqual(message?.to, ["bob@b.test"])
 * assert.strictEqual(message?.text, "Hello\r\n")
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (script: Script = {}): Layer.Layer<SmtpConnector | SmtpServer> =>
  Layer.effectContext(Effect.suspend(() => make(resolve(script))))
