/**
 * Both ends of a connection in memory: the client's `Duplex` and the server's `Transport`.
 *
 * What it is: octets to the server go through a queue, octets to the client call its listener from the server's fiber;
 * TLS is a change of state. A dialogue of any length settles in microtasks, so before the next step of `TestClock`.
 * What it is not: there is no encryption, and no time passes but that of the Clock.
 *
 * @since 0.1.0
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type { ChannelBinding } from "../Sasl.ts"
import type { Duplex, Ended, Listener, Target, TlsInfo, TlsUpgrade } from "../SmtpConnector.ts"
import { ETLS } from "../SmtpError.ts"
import { concat } from "./records.ts"
import type { Resolved } from "./script.ts"
import type { Transport } from "./transport.ts"

/** What the client sends, in order. */
type Item = { readonly _tag: "Octets"; readonly octets: Uint8Array } | { readonly _tag: "Hello" } | {
  readonly _tag: "End"
}

/** What both ends bind a login to: fixed, for there is no TLS. */
const channelBindings: ReadonlyArray<ChannelBinding> = [{
  type: "tls-exporter",
  data: new TextEncoder().encode("channel binding of effect-smtp's")
}]

interface Upgrade {
  readonly tls: TlsUpgrade
  readonly resume: (effect: Effect.Effect<TlsInfo, ETLS>) => void
}

/** An error like those of the operating system and of OpenSSL. */
export const errno = (code: string, syscall: string): Error =>
  Object.assign(new Error(`${syscall} ${code}`), { code, syscall })

/** An error of the handshake, for the step it belongs to. */
type Failing = (command: "CONN" | "STARTTLS") => ETLS

const etls = (message: string, temporary: boolean, cause?: unknown): Failing => (command) =>
  new ETLS({ message: `${command}: ${message}`, command, temporary, ...(cause === undefined ? {} : { cause }) })

const plainSpoken = () =>
  etls(
    "the fake server speaks plaintext where a TLS handshake is due; use tls: \"starttls\" or set implicitTls in its script",
    false,
    errno("ERR_SSL_WRONG_VERSION_NUMBER", "handshake")
  )

const lost = (ended: Ended) =>
  etls(
    "the connection was lost in the TLS handshake",
    true,
    ended._tag === "Errno" ? ended.cause : undefined
  )

/** What the client sends, in order. An `effect/Queue` would wake its taker by a timer, too late for `TestClock`. */
class Items {
  private readonly items: Array<Item> = []
  private waiting: (() => void) | undefined

  /** In a microtask: the server never runs inside a call of the client, and is done before any timer. */
  offer(item: Item): void {
    queueMicrotask(() => {
      this.items.push(item)
      this.waiting?.()
    })
  }

  readonly take: Effect.Effect<Item> = Effect.callback((resume) => {
    const look = () => {
      const item = this.items.shift()
      this.waiting = item === undefined ? look : undefined
      if (item !== undefined) resume(Effect.succeed(item))
    }
    look()
    return Effect.sync(() => {
      this.waiting = undefined
    })
  })
}

/** One connection; the methods of the two ends are in `duplex` and `transport`. */
export class MemoryConnection {
  private readonly script: Resolved
  private readonly target: Target
  private readonly items = new Items()
  private readonly started = Deferred.makeUnsafe<void>()
  private readonly gone = Latch.makeUnsafe()
  private listener: Listener | undefined
  private held: Array<Uint8Array> = []
  private upgrade: Upgrade | undefined
  private pending = 0
  private needsDrain = false
  /** The client has ended or destroyed its end, or an upgrade has failed. */
  private isClientOver = false
  /** How the server has ended. */
  private ended: Ended | undefined

  constructor(script: Resolved, target: Target) {
    this.script = script
    this.target = target
  }

  private offer(item: Item): void {
    this.items.offer(item)
    this.start()
  }

  private start(): void {
    queueMicrotask(() => Deferred.doneUnsafe(this.started, Effect.void))
  }

  private destroy(): void {
    if (!this.isClientOver) this.offer({ _tag: "End" })
    this.isClientOver = true
    this.gone.openUnsafe()
    this.listener = undefined
    this.upgrade = undefined
  }

  private failUpgrade(failing: Failing): void {
    const { upgrade } = this
    const error = failing(this.listener === undefined ? "CONN" : "STARTTLS")
    this.destroy()
    upgrade?.resume(Effect.fail(error))
  }

  private write(chunks: ReadonlyArray<Uint8Array>): boolean {
    if (this.isClientOver || this.ended !== undefined) return true
    for (const chunk of chunks) {
      if (chunk.length === 0) continue
      this.pending += chunk.length
      // A copy: the writer may use its buffer again.
      this.offer({ _tag: "Octets", octets: new Uint8Array(chunk) })
    }
    this.needsDrain = this.pending > this.script.highWaterMark
    return !this.needsDrain
  }

  private listen(listener: Listener): void {
    if (this.isClientOver) return
    this.listener = listener
    this.start()
    const { held } = this
    this.held = []
    if (held.length > 0) listener.onData(concat(held))
    if (this.ended !== undefined) listener.onEnd(this.ended)
  }

  private handshake(tls: TlsUpgrade): Effect.Effect<TlsInfo, ETLS> {
    return Effect.callback((resume) => {
      this.upgrade = { tls, resume }
      if (this.isClientOver || this.ended !== undefined) return this.failUpgrade(lost(this.ended ?? { _tag: "Closed" }))
      if (this.held.length > 0) return this.failUpgrade(etls("plaintext came before the TLS handshake", false))
      this.offer({ _tag: "Hello" })
      return Effect.sync(() => this.destroy())
    })
  }

  /** The client's end. */
  get duplex(): Duplex {
    const { address, path, port } = this.target
    return {
      secured: path !== undefined,
      localAddress: path === undefined ? "127.0.0.1" : undefined,
      remoteAddress: path ?? `${address}:${port}`,
      listen: (listener) => this.listen(listener),
      write: (chunks) => this.write(chunks),
      upgrade: (tls) => this.handshake(tls),
      end: () => this.destroy(),
      destroy: () => this.destroy()
    }
  }

  private took(octets: Uint8Array): Uint8Array {
    this.pending -= octets.length
    if (this.needsDrain && this.pending === 0) {
      this.needsDrain = false
      this.listener?.onDrain()
    }
    return octets
  }

  private readonly read: Effect.Effect<Uint8Array | undefined> = Effect.suspend(() => {
    if (this.ended !== undefined) return Effect.undefined
    return Effect.map(this.items.take, (item) => {
      if (item._tag === "Octets") return this.took(item.octets)
      if (item._tag === "Hello") this.failUpgrade(plainSpoken())
      return undefined
    })
  })

  /** Octets to the client: to its listener, or held until there is one. In the middle of a handshake they break it. */
  private deliver(octets: Uint8Array): void {
    if (this.isClientOver || this.ended !== undefined || octets.length === 0) return
    if (this.upgrade !== undefined) this.failUpgrade(plainSpoken())
    else if (this.listener === undefined) this.held.push(octets)
    else this.listener.onData(octets)
  }

  private finish(ended: Ended): void {
    if (this.ended !== undefined) return
    this.ended = ended
    this.offer({ _tag: "End" })
    if (this.isClientOver) return
    if (this.upgrade === undefined) this.listener?.onEnd(ended)
    else this.failUpgrade(lost(ended))
  }

  private complete(first: Uint8Array): boolean {
    const { upgrade } = this
    if (upgrade === undefined) return false
    const { authorized, authorizationError } = this.script.tls
    const { servername, verify } = upgrade.tls
    if (!authorized && verify) {
      this.failUpgrade(etls("the certificate does not verify", false, errno(authorizationError, "handshake")))
      return false
    }
    this.upgrade = undefined
    this.deliver(first)
    const info = { protocol: "in-memory", cipher: "none", resumed: false, authorized, servername, channelBindings }
    upgrade.resume(Effect.succeed({ ...info, ...(authorized ? { identity: servername } : { authorizationError }) }))
    return true
  }

  private get opening(): "plain" | "tls" {
    const { implicitTls } = this.script
    return implicitTls ?? (this.upgrade !== undefined || this.target.port === 465) ? "tls" : "plain"
  }

  /** The server's end. */
  get transport(): Transport {
    return {
      opening: Effect.andThen(Deferred.await(this.started), Effect.sync(() => this.opening)),
      read: this.read,
      write: (octets) => Effect.sync(() => this.deliver(octets)),
      hello: Effect.map(this.items.take, ({ _tag }) => _tag === "Hello" && this.upgrade !== undefined),
      startTls: (first) => Effect.sync(() => this.complete(first)),
      channelBindings: () => channelBindings,
      failTls: Effect.sync(() =>
        this.failUpgrade(
          etls(
            "the fake server refused the TLS handshake",
            false,
            errno("ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE", "handshake")
          )
        )
      ),
      end: Effect.sync(() => this.finish({ _tag: "Closed" })),
      reset: Effect.sync(() => this.finish({ _tag: "Errno", cause: errno("ECONNRESET", "read") })),
      closed: this.gone.await
    }
  }
}
