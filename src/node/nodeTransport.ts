/**
 * An accepted socket as the `Transport` of the fake server's session engine.
 *
 * What it is: pulls octets only when the session reads, so that a stalled session pushes back; TLS by wrapping the
 * socket. What it is not: for production.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as net from "node:net"
import * as tls from "node:tls"
import type { ChannelBinding } from "../Sasl.ts"
import type { Transport } from "../testing/transport.ts"
import * as channelBinding from "./channelBinding.ts"

const ignore = () => {}

/** A fatal handshake_failure (RFC 8446 §6): a TLS record of type alert. */
const alert = Uint8Array.of(0x15, 3, 3, 0, 2, 2, 0x28)
const handshakeRecord = 0x16

class NodeTransport implements Transport {
  private readonly raw: net.Socket
  private readonly context: tls.SecureContext
  private stream: net.Socket
  private isOver = false
  private bindings: ReadonlyArray<ChannelBinding> = []
  private wake: () => void = ignore
  readonly opening: Effect.Effect<"plain" | "tls">

  constructor(raw: net.Socket, context: tls.SecureContext, implicitTls: boolean) {
    this.raw = raw
    this.stream = raw
    this.context = context
    this.opening = Effect.succeed(implicitTls ? "tls" : "plain")
    raw.on("error", ignore)
  }

  readonly read: Effect.Effect<Uint8Array | undefined> = Effect.callback((resume) => {
    const { stream } = this
    const off = () => {
      stream.off("readable", look).off("end", look).off("close", look)
      this.wake = ignore
    }
    const look = () => {
      const octets: Uint8Array | null = this.isOver ? null : stream.read()
      if (octets === null && !this.isOver && !stream.readableEnded && !stream.destroyed) return
      off()
      resume(Effect.succeed(octets ?? undefined))
    }
    stream.on("readable", look).on("end", look).on("close", look)
    this.wake = look
    look()
    return Effect.sync(off)
  })

  readonly write = (octets: Uint8Array): Effect.Effect<void> =>
    Effect.callback((resume) => {
      const { stream } = this
      if (this.isOver || stream.destroyed || stream.write(octets)) return resume(Effect.void)
      const off = () => {
        stream.off("drain", done).off("close", done)
      }
      const done = () => {
        off()
        resume(Effect.void)
      }
      stream.on("drain", done).on("close", done)
      return Effect.sync(off)
    })

  readonly hello: Effect.Effect<boolean> = Effect.suspend(() =>
    Effect.map(this.read, (octets) => {
      if (octets === undefined) return false
      this.stream.unshift(octets)
      return octets[0] === handshakeRecord
    })
  )

  readonly startTls = (first: Uint8Array): Effect.Effect<boolean> =>
    Effect.callback((resume) => {
      const secure = new tls.TLSSocket(this.raw, { isServer: true, secureContext: this.context })
      this.stream = secure
      const fail = () => {
        secure.destroy()
        resume(Effect.succeed(false))
      }
      secure.on("error", ignore).once("close", fail).once("end", fail)
      secure.once("secure", () => {
        secure.off("close", fail).off("end", fail)
        this.bindings = channelBinding.make(secure, "server", secure.getX509Certificate()?.raw)
        if (first.length > 0) secure.write(first)
        resume(Effect.succeed(true))
      })
    })

  readonly channelBindings = (): ReadonlyArray<ChannelBinding> => this.bindings

  readonly failTls: Effect.Effect<void> = Effect.suspend(() => this.write(alert))

  readonly end: Effect.Effect<void> = Effect.sync(() => {
    if (this.isOver) return
    this.isOver = true
    // What still comes is dropped: unread octets would turn our FIN into a RST.
    this.stream.end()
    this.stream.resume()
    this.wake()
  })

  readonly reset: Effect.Effect<void> = Effect.sync(() => {
    this.isOver = true
    this.raw.resetAndDestroy()
    this.wake()
  })

  readonly closed: Effect.Effect<void> = Effect.callback((resume) => {
    const done = () => resume(Effect.void)
    if (this.raw.destroyed) return done()
    this.raw.once("close", done)
    return Effect.sync(() => {
      this.raw.off("close", done)
    })
  })
}

/**
 * Wraps an accepted socket.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (socket: net.Socket, context: tls.SecureContext, implicitTls: boolean): Transport =>
  new NodeTransport(socket, context, implicitTls)
