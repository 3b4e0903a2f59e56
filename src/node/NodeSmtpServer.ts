/**
 * The fake server on a real port: the session engine of `SmtpServer` over `node:net` and `node:tls`.
 *
 * What it is: for another program's tests, for demos, and for tests of what memory cannot show (TLS, RST, kernel
 * buffers). What it is not: a mail server.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as net from "node:net"
import * as tls from "node:tls"
import { Recorder, type Records } from "../testing/records.ts"
import { resolve, type Script } from "../testing/script.ts"
import * as Session from "../testing/session.ts"
import { makeCertificate } from "./certificate.ts"
import * as nodeTransport from "./nodeTransport.ts"

/**
 * Where the server listens, and how.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** What the server does; see `SmtpServer.Script`. Its faults at `connect` have no effect here. */
  readonly script?: Script | undefined
  /** Default 0: any free port. */
  readonly port?: number | undefined
  /** Default "127.0.0.1". */
  readonly host?: string | undefined
  /** Certificate chain and key in PEM. Default: made at the start, for localhost, 127.0.0.1, ::1 and the server's name. */
  readonly tls?: { readonly cert: string; readonly key: Redacted.Redacted<string> } | undefined
  /** TLS from the first octet. Default: what the script says, else false. */
  readonly implicitTls?: boolean | undefined
}

/**
 * A running server.
 *
 * @category models
 * @since 0.1.0
 */
export interface Service extends Records {
  readonly host: string
  readonly port: number
  /** The certificate to trust, in PEM: the `ca` of `TlsOptions`. */
  readonly ca: string
}

/**
 * The fake server on a real port: what it received, and where to reach it.
 *
 * @category services
 * @since 0.1.0
 */
export class NodeSmtpServer extends Context.Service<NodeSmtpServer, Service>()("effect-smtp/node/NodeSmtpServer") {}

const certificateFor = (name: string): { readonly cert: string; readonly key: Redacted.Redacted<string> } => {
  const altNames = ["DNS:localhost", `DNS:${name}`, "IP:127.0.0.1", "IP:::1"]
  const { cert, key } = makeCertificate({ commonName: name, altNames })
  return { cert, key: Redacted.make(key) }
}

const listen = (server: net.Server, port: number, host: string): Effect.Effect<void, Error> =>
  Effect.callback((resume) => {
    server.once("error", (error) => resume(Effect.fail(error)))
    server.listen(port, host, () => resume(Effect.void))
  })

const close = (server: net.Server, sockets: ReadonlySet<net.Socket>): Effect.Effect<void> =>
  Effect.callback((resume) => {
    server.close(() => resume(Effect.void))
    for (const socket of sockets) socket.destroy()
  })

const make = Effect.fnUntraced(function*(options: Options): Effect.fn.Return<Service, never, Scope.Scope> {
  const script = resolve(options.script ?? {})
  const host = options.host ?? "127.0.0.1"
  const { cert, key } = options.tls ?? certificateFor(script.name)
  const context = tls.createSecureContext({ cert, key: Redacted.value(key) })
  const implicitTls = options.implicitTls ?? script.implicitTls ?? false
  const recorder = new Recorder(script)
  const sockets = new Set<net.Socket>()
  const server = net.createServer({ allowHalfOpen: true, noDelay: true })
  yield* Effect.addFinalizer(() => close(server, sockets))
  const run = yield* FiberSet.makeRuntime<never>()
  server.on("connection", (socket) => {
    sockets.add(socket)
    socket.once("close", () => sockets.delete(socket))
    run(Session.run(script, recorder, nodeTransport.make(socket, context, implicitTls)))
  })
  yield* Effect.orDie(listen(server, options.port ?? 0, host))
  const address = server.address()
  const port = typeof address === "object" && address !== null ? address.port : 0
  return { ...recorder.records, host, port, ca: cert }
})

/**
 * A fake server that listens on a port of this host as long as the layer lives.
 *
 * **Details**
 *
 * STARTTLS, implicit TLS and the checks of AUTH are real; `script.accounts` are the accounts. A port that is taken is a
 * defect.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import * as net from "node:net"
 * import { Effect } from "effect"
 * import { NodeSmtpServer } from "effect-smtp/node"
 *
 * const program = Effect.gen(function*() {
 *   const server = yield* NodeSmtpServer.NodeSmtpServer
 *   const lines = ["HELO me.test", "MAIL FROM:<ann@a.test>", "RCPT TO:<bob@b.test>", "DATA", "Hello", ".", "QUIT", ""]
 *   net.connect(server.port, server.host).resume().end(lines.join("\r\n"))
 *   return yield* server.awaitReceived(1)
 * })
 *
 * const [message] = await Effect.runPromise(program.pipe(Effect.provide(NodeSmtpServer.layerLoopback())))
 * assert.strictEqual(message?.text, "Hello\r\n")
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerLoopback = (options: Options = {}): Layer.Layer<NodeSmtpServer> =>
  Layer.effect(NodeSmtpServer, make(options))
