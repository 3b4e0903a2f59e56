/** Servers on the loopback interface and a recording listener, for the tests of src/node. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type * as net from "node:net"
import { type Duplex, type Ended, type Endpoint, type Listener, SmtpConnector } from "../../src/SmtpConnector.ts"

/** Runs the loop of events until the condition holds; the test's own time limit ends it. */
export const until = (condition: () => boolean): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    let isOver = false
    const look = () => {
      if (isOver) return
      if (condition()) resume(Effect.void)
      else setImmediate(look)
    }
    look()
    return Effect.sync(() => {
      isOver = true
    })
  })

/** Watches a socket: whether its 'close' event was seen (`socket.closed` is true sooner). */
export const watch = (socket: net.Socket): () => boolean => {
  let isClosed = false
  socket.once("close", () => {
    isClosed = true
  })
  return () => isClosed
}

export interface Loopback {
  readonly port: number
  /** The sockets accepted so far. */
  readonly sockets: ReadonlyArray<net.Socket>
}

/** Binds a server until the scope closes; every socket it accepted is destroyed then. */
export const listen = (
  server: net.Server,
  options: net.ListenOptions = { port: 0, host: "127.0.0.1" }
): Effect.Effect<Loopback, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<Loopback>((resume) => {
      const sockets: Array<net.Socket> = []
      server.on("connection", (socket: net.Socket) => {
        sockets.push(socket.on("error", () => {}))
      }).listen(options, () => {
        const address = server.address()
        resume(Effect.succeed({ port: typeof address === "object" && address !== null ? address.port : 0, sockets }))
      })
    }),
    ({ sockets }) =>
      Effect.callback<void>((resume) => {
        for (const socket of sockets) socket.destroy()
        server.close(() => resume(Effect.void))
      })
  )

export class Recorder implements Listener {
  text = ""
  drains = 0
  readonly ends: Array<Ended> = []
  readonly onData = (octets: Uint8Array): void => {
    this.text += Buffer.from(octets).toString("latin1")
  }
  readonly onDrain = (): void => {
    this.drains++
  }
  readonly onEnd = (ended: Ended): void => {
    this.ends.push(ended)
  }
}

/** Resolves and connects to the first target. */
export const open = Effect.fnUntraced(function*(endpoint: Endpoint) {
  const connector = yield* SmtpConnector
  const [target] = yield* connector.resolve(endpoint)
  return yield* connector.connect(target)
})

export const local = (port: number): Endpoint => ({ host: "127.0.0.1", port })

export const bytes = (text: string): Uint8Array => Buffer.from(text, "latin1")

export const record = (duplex: Duplex): Recorder => {
  const recorder = new Recorder()
  duplex.listen(recorder)
  return recorder
}
