/** A TCP proxy that holds everything back for a while, both ways: the round trip of a distant server. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as net from "node:net"

export interface Place {
  readonly host: string
  readonly port: number
}

/** Octets on the way in one direction before the sender is held up: more than a round trip of a fast line. */
const window = 4 * 1024 * 1024

/** What `from` says, `to` hears after `delay` milliseconds, its end included. */
const carry = (from: net.Socket, to: net.Socket, delay: number): void => {
  let onTheWay = 0
  const later = (act: () => void) => void setTimeout(act, delay)
  from.on("data", (chunk: Buffer) => {
    onTheWay += chunk.length
    if (onTheWay > window) from.pause()
    later(() =>
      to.write(chunk, () => {
        onTheWay -= chunk.length
        from.resume()
      })
    )
  })
  from.on("error", () => {})
  from.on("end", () => later(() => to.end()))
  from.on("close", () => later(() => to.destroy()))
}

const accept = (to: Place, delay: number) => (client: net.Socket): net.Socket => {
  const server = net.connect({ ...to, allowHalfOpen: true, noDelay: true })
  carry(client.setNoDelay(true), server, delay)
  carry(server, client, delay)
  return server
}

/** Listens until the scope closes; gives its place. */
export const make = (to: Place, roundTrip: number): Effect.Effect<Place, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.callback<{ readonly server: net.Server; readonly sockets: Set<net.Socket> }>((resume) => {
        const sockets = new Set<net.Socket>()
        const connect = accept(to, roundTrip / 2)
        const server = net.createServer({ allowHalfOpen: true })
        server.on("connection", (client) => {
          for (const socket of [client, connect(client)]) {
            sockets.add(socket)
            socket.once("close", () => sockets.delete(socket))
          }
        })
        server.listen(0, to.host, () => resume(Effect.succeed({ server, sockets })))
      }),
      ({ server, sockets }) =>
        Effect.callback<void>((resume) => {
          for (const socket of sockets) socket.destroy()
          server.close(() => resume(Effect.void))
        })
    ),
    ({ server }) => ({ host: to.host, port: (server.address() as net.AddressInfo).port })
  )
