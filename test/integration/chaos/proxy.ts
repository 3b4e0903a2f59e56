/**
 * A TCP proxy that does away with connections at an octet that is named beforehand. The client of each connection comes
 * from a loopback address of its own, so that the proxy knows which one it is.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as net from "node:net"
import { type Body, Dialogue } from "./dialogue.ts"

/**
 * When a fault strikes: so many octets of the client or of the server after it was armed, so many octets into the body
 * of the message, or so many octets of the server after its terminator.
 */
export interface Trigger {
  readonly after: "client" | "server" | "body" | "final"
  readonly octets: number
}

export interface Fault {
  readonly trigger: Trigger
  /** FIN or RST to the client, no octet more in either direction, a call to `onInterrupt`, or both of these. */
  readonly act: "FIN" | "RST" | "stall" | "interrupt" | "strand"
  /** How the server's side is cut. */
  readonly server: "FIN" | "RST"
}

const ignore = () => {}

/** After FIN what still comes is dropped, so that unread octets do not turn it into a RST. */
const cut = (socket: net.Socket, how: "FIN" | "RST"): void => {
  if (how === "RST") socket.resetAndDestroy()
  else socket.removeAllListeners("data").end().resume()
}

/** One connection through the proxy, from before it is made. */
export class Link {
  readonly address: string
  readonly dialogue = new Dialogue()
  /** How many octets of a body had come when the connection was cut; by sender. */
  readonly reached = new Map<string, number>()
  onInterrupt: () => void = ignore
  /** Octets of the client have come. */
  onReceived: () => void = ignore
  #fault: Fault | undefined
  #from: { readonly client: number; readonly server: number; readonly body: Body | undefined } = {
    client: 0,
    server: 0,
    body: undefined
  }
  #client: net.Socket | undefined
  #server: net.Socket | undefined
  #isOpen = true

  constructor(address: string) {
    this.address = address
  }

  /** Whether the client has not closed it. */
  get isOpen(): boolean {
    return this.#client !== undefined && !this.#client.destroyed
  }

  /** From now on this fault strikes, in place of the one before. */
  arm(fault: Fault | undefined): void {
    this.#fault = fault
    const { body, client, server } = this.dialogue
    this.#from = { client, server, body }
  }

  connect(client: net.Socket, server: net.Socket): void {
    this.#client = client
    this.#server = server
    client.setNoDelay(true).on("error", ignore).on("data", (octets) => this.#pass("client", octets))
    server.setNoDelay(true).on("error", ignore).on("data", (octets) => this.#pass("server", octets))
    client.on("drain", () => server.resume()).on("end", () => server.end()).on("close", () => this.#lost(server))
    server.on("drain", () => client.resume()).on("end", () => this.#lost(client, "FIN"))
    server.on("close", () => this.#lost(client, server.errored === null ? "FIN" : "RST"))
  }

  /** Everything is let go. */
  close(): void {
    this.#isOpen = false
    this.#client?.destroy()
    this.#server?.destroy()
  }

  #lost(other: net.Socket, how: "FIN" | "RST" = "FIN"): void {
    if (!this.#isOpen) return
    this.#end(0)
    cut(other, how)
  }

  /** `surplus`: octets of the client that came and count as not come. */
  #end(surplus: number): void {
    this.#isOpen = false
    for (const [sender, { octets }] of this.dialogue.bodies) this.reached.set(sender, octets)
    const last = [...this.dialogue.bodies.keys()].at(-1)
    if (last !== undefined && surplus > 0) this.reached.set(last, (this.reached.get(last) ?? 0) - surplus)
  }

  /** How many octets past the trigger it is; undefined: not there yet. */
  #overshoot({ after, octets }: Trigger): number | undefined {
    // The body that was under way when it was armed is that of a mail before.
    const body = this.dialogue.body === this.#from.body ? undefined : this.dialogue.body
    const count = after === "body"
      ? body?.octets
      : after === "final"
      ? body?.isComplete === true ? body.answered : undefined
      : this.dialogue[after] - this.#from[after]
    return count === undefined || count < octets ? undefined : count - octets
  }

  #pass(side: "client" | "server", octets: Buffer): void {
    if (!this.#isOpen) return
    if (side === "client") this.dialogue.sent(octets)
    else this.dialogue.answered(octets)
    const fault = this.#fault
    const over = fault === undefined ? undefined : this.#overshoot(fault.trigger)
    if (fault === undefined || over === undefined) this.#forward(side, octets)
    else this.#strike(fault, side, octets, Math.min(over, octets.length))
    if (this.#isOpen && side === "client") this.onReceived()
  }

  #forward(side: "client" | "server", octets: Buffer): void {
    const [from, to] = side === "client" ? [this.#client, this.#server] : [this.#server, this.#client]
    if (octets.length > 0 && to?.write(octets) === false) from?.pause()
  }

  #strike({ act, server }: Fault, side: "client" | "server", octets: Buffer, over: number): void {
    this.#fault = undefined
    this.#forward(side, octets.subarray(0, octets.length - over))
    if (act === "interrupt") {
      this.onInterrupt()
      return this.#forward(side, octets.subarray(octets.length - over))
    }
    this.#end(side === "client" ? over : 0)
    if (act === "stall" || act === "strand") {
      this.#client?.pause()
      this.#server?.pause()
      return act === "strand" ? this.onInterrupt() : undefined
    }
    if (this.#client !== undefined) cut(this.#client, act)
    if (this.#server !== undefined) cut(this.#server, server)
  }
}

export interface Proxy {
  readonly host: string
  readonly port: number
  /** A connection to be made from its address. */
  readonly link: () => Link
  /** The one made from this address. */
  readonly linkFrom: (address: string | undefined) => Link | undefined
}

const addressOf = (n: number): string => `127.${1 + (n >> 16)}.${(n >> 8) & 255}.${n & 255}`

/** A proxy in front of a port, which is asked for anew at each connection. */
export const make = Effect.fnUntraced(function*(
  backend: () => { readonly host: string; readonly port: number }
): Effect.fn.Return<Proxy, never, Scope.Scope> {
  const links = new Map<string, Link>()
  const accept = (client: net.Socket) => {
    const link = links.get(client.remoteAddress ?? "")
    if (link === undefined) return client.destroy()
    link.connect(client, net.connect({ ...backend(), allowHalfOpen: true }))
  }
  const server = net.createServer({ allowHalfOpen: true }, accept)
  yield* Effect.addFinalizer(() =>
    Effect.callback<void>((resume) => {
      server.close(() => resume(Effect.void))
      for (const link of links.values()) link.close()
    })
  )
  const host = "127.0.0.1"
  yield* Effect.callback<void>((resume) => {
    server.listen(0, host, () => resume(Effect.void))
  })
  const address = server.address()
  return {
    host,
    port: typeof address === "object" && address !== null ? address.port : 0,
    link: () => {
      const link = new Link(addressOf(links.size + 1))
      links.set(link.address, link)
      return link
    },
    linkFrom: (from) => links.get(from ?? "")
  }
})
