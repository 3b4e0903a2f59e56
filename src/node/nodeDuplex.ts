/**
 * A connected Node stream as the `Duplex` of `SmtpConnector`, and its upgrade to TLS.
 *
 * What it is: push-based, without timers; every event of the stream ends up in at most one call of the listener. What
 * it is not: it neither dials nor resolves (`NodeConnector`).
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as net from "node:net"
import type { Duplex as NodeStream } from "node:stream"
import * as tls from "node:tls"
import { codeOf } from "../internal/errorCause.ts"
import { sizeOf } from "../internal/octets.ts"
import type { Duplex, Ended, Listener, TlsInfo, TlsUpgrade } from "../SmtpConnector.ts"
import type { ETLS } from "../SmtpError.ts"
import * as nodeTls from "./nodeTls.ts"
import * as tlsSessions from "./tlsSessions.ts"

/**
 * What is known of a stream beside its octets.
 *
 * @category models
 * @since 0.1.0
 */
export interface Info {
  readonly secured: boolean
  readonly localAddress: string | undefined
  readonly remoteAddress: string | undefined
  /** Where TLS sessions come from and go to; without it none is resumed. */
  readonly sessions?: tlsSessions.Source | undefined
}

const ignore = () => {}

/** Up to so many octets are copied into one array: that costs less than a write of several. */
const few = 16_384

/** Octets that are gathered for one call of the system: at first and when it is slow, and at most. */
const smallest = 65_536
const largest = 524_288

const owner = Symbol("owner")

/** A stream that knows who listens to it: so its listeners are the same functions for all. */
type Owned = NodeStream & { [owner]?: NodeDuplex }

function onData(this: Owned, octets: Uint8Array): void {
  this[owner]?.take(octets)
}
function onRead(this: Owned, length: number, buffer: Uint8Array): boolean {
  this[owner]?.take(buffer.subarray(0, length))
  return true
}

const readSize = 16_384

/** Where POSIX puts what was read is looked at before another socket is read; Windows may have reads under way. */
const shared = process.platform === "win32" ? undefined : new Uint8Array(readSize)

/**
 * A socket whose octets come without an allocation for each read. It is paused until a `Duplex` made of it is listened
 * to; what it read is the listener's until that returns.
 *
 * @category constructors
 * @since 0.1.0
 */
export const socket = (): net.Socket =>
  new net.Socket({ onread: { buffer: shared ?? new Uint8Array(readSize), callback: onRead } }).pause()
function onDrain(this: Owned): void {
  this[owner]?.drained()
}
function onClosed(this: Owned): void {
  this[owner]?.finish({ _tag: "Closed" })
}
function onError(this: Owned, cause: unknown): void {
  this[owner]?.finish({ _tag: codeOf(cause).startsWith("ERR_SSL_") ? "Tls" : "Errno", cause })
}

const release = (duplex: NodeDuplex): void => void duplex.release()

class NodeDuplex implements Duplex {
  readonly secured: boolean
  readonly localAddress: string | undefined
  readonly remoteAddress: string | undefined
  failedToResume = false
  private stream: NodeStream
  /** The stream, and those that it lies on. */
  private layers: ReadonlyArray<NodeStream> = []
  private listener: Listener | undefined
  private ended: Ended | undefined
  /** We ended or destroyed it: nothing is reported any more. */
  private isOver = false
  private hasSpoken = false
  /** The stream that holds back what is written, until the end of the tick or until it is so much. */
  private gathering: NodeStream | undefined
  private most = smallest
  private readonly sessions: tlsSessions.Source | undefined

  constructor(stream: NodeStream, info: Info) {
    this.secured = info.secured
    this.localAddress = info.localAddress
    this.remoteAddress = info.remoteAddress
    this.sessions = info.sessions
    this.stream = stream
    this.adopt(stream)
    this.attach()
  }

  /** Takes responsibility: from here on an 'error' event never goes unheard, even after `destroy`. */
  private adopt(stream: NodeStream): void {
    this.layers = this.layers.concat(stream)
    stream.on("error", ignore)
  }

  private attach(): void {
    const stream: Owned = this.stream
    stream[owner] = this
    stream.on("drain", onDrain).on("end", onClosed).on("close", onClosed).on("error", onError)
    if (this.listener !== undefined) this.flow()
  }

  private detach(): void {
    this.stream.off("drain", onDrain).off("end", onClosed).off("close", onClosed).off("error", onError)
      .off("data", onData)
  }

  private flow(): void {
    this.stream.off("data", onData).on("data", onData).resume()
  }

  take(octets: Uint8Array): void {
    this.hasSpoken = true
    this.listener?.onData(octets)
  }

  drained(): void {
    this.listener?.onDrain()
  }

  finish(ended: Ended): void {
    this.detach()
    this.ended = ended
    this.listener?.onEnd(ended)
  }

  readonly listen = (listener: Listener): void => {
    if (this.isOver) return
    this.listener = listener
    if (this.ended === undefined) this.flow()
    else listener.onEnd(this.ended)
  }

  readonly write = (chunks: ReadonlyArray<Uint8Array>): boolean => {
    if (this.isOver || this.ended !== undefined) return true
    if (sizeOf(chunks) <= few) {
      this.stream.write(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks))
      return !this.stream.writableNeedDrain
    }
    this.gather()
    for (const chunk of chunks) this.stream.write(chunk)
    return this.stream.writableLength < this.most || this.release()
  }

  /** What is written from now until the end of the tick goes to the system in one call. */
  private gather(): void {
    if (this.gathering !== undefined) return
    this.gathering = this.stream
    this.stream.cork()
    process.nextTick(release, this)
  }

  /** False: wait for the drain. As long as the system takes everything at once, the next gathering may be larger. */
  release(): boolean {
    const stream = this.gathering
    if (stream === undefined) return true
    this.gathering = undefined
    stream.uncork()
    this.most = stream.writableLength === 0 ? Math.min(largest, this.most * 2) : smallest
    return !stream.writableNeedDrain
  }

  readonly end = (): void => {
    if (this.isOver) return
    this.close()
    // What still comes is dropped, so that the peer's FIN is seen and the stream can close.
    this.stream.end().resume()
  }

  readonly destroy = (): void => {
    this.close()
    for (const layer of this.layers.toReversed()) layer.destroy()
  }

  private close(): void {
    this.isOver = true
    this.listener = undefined
    this.detach()
  }

  readonly upgrade = (upgrade: TlsUpgrade): Effect.Effect<TlsInfo, ETLS> =>
    Effect.flatMap(Clock.monotonicTimeNanos, (now) => Effect.callback((resume) => this.secure(upgrade, now, resume)))

  private secure(
    upgrade: TlsUpgrade,
    now: bigint,
    resume: (effect: Effect.Effect<TlsInfo, ETLS>) => void
  ): Effect.Effect<void> | void {
    const failures = nodeTls.failuresOf(upgrade.servername, this.hasSpoken)
    const fail = (error: ETLS) => {
      this.destroy()
      resume(Effect.fail(error))
    }
    if (this.isOver || this.ended !== undefined) return fail(failures.lost(this.ended))
    this.stream.pause()
    if (this.stream.readableLength > 0) return fail(failures.surplus())
    const settings = nodeTls.settingsOf(upgrade)
    if (Result.isFailure(settings)) return fail(settings.failure)
    const { bar, keep, kept, watch } = tlsSessions.slotOf(this.sessions, settings.success, now)
    const session = kept && { session: kept.session }
    this.detach()
    const secure = tls.connect({ ...settings.success.options, ...session, socket: this.stream })
    this.adopt(secure)
    watch(secure)
    const lose = (error: ETLS) => {
      this.failedToResume = kept !== undefined && error.temporary === true
      if (this.failedToResume) bar()
      fail(error)
    }
    const onError = (cause: unknown) => lose(failures.of(cause))
    const onClose = () => lose(failures.lost(undefined))
    secure.once("error", onError).once("close", onClose).once("secureConnect", () => {
      secure.off("error", onError).off("close", onClose)
      const judged = nodeTls.judge(secure, settings.success, kept?.peer)
      if (Result.isFailure(judged)) return fail(failures.of(judged.failure))
      const { info, peer } = judged.success
      keep(secure, peer)
      this.stream = secure
      this.attach()
      resume(Effect.succeed(info))
    })
    return Effect.sync(this.destroy)
  }
}

/**
 * Wraps a stream that is connected. Nothing is read from it before `listen`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (stream: NodeStream, info: Info): Duplex => new NodeDuplex(stream, info)
