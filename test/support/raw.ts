/**
 * The other end of a connection, octet by octet. A test says what comes from it, and when, and sees each write of the
 * client as it was made. What a fake server that behaves cannot show is shown here.
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as SmtpConnection from "../../src/SmtpConnection.ts"
import { type Duplex, type Listener, SmtpConnector } from "../../src/SmtpConnector.ts"
import { type Probe, watched } from "./probe.ts"

const binary = new TextDecoder("latin1")
const toOctets = (text: string): Uint8Array => Uint8Array.from(text, (char) => char.charCodeAt(0))

/** One connection, as the server sees it. */
export class Peer {
  /** Each call of `write`, its chunks joined. */
  readonly writes: Array<string> = []
  destroyed = 0
  /** What `write` returns. */
  accepts = true
  /** Called behind each write. */
  onWrite: (text: string) => void = () => {}
  #heard = 0
  #listener: Listener | undefined
  #isOver = false

  get isOpen(): boolean {
    return !this.#isOver && this.destroyed === 0
  }

  /** The writes since the last look. */
  hear(): ReadonlyArray<string> {
    const from = this.#heard
    this.#heard = this.writes.length
    return this.writes.slice(from)
  }

  /** Replies, in one segment. */
  say(...lines: ReadonlyArray<string>): void {
    this.octets(lines.map((line) => `${line}\r\n`).join(""))
  }

  octets(text: string): void {
    if (this.isOpen) this.#listener?.onData(toOctets(text))
  }

  /** What was written is taken. */
  drain(): void {
    if (this.isOpen) this.#listener?.onDrain()
  }

  /** FIN. */
  end(): void {
    if (!this.isOpen) return
    this.#isOver = true
    this.#listener?.onEnd({ _tag: "Closed" })
  }

  get duplex(): Duplex {
    return {
      secured: true,
      localAddress: "127.0.0.1",
      remoteAddress: "127.0.0.1:25",
      listen: (listener) => {
        this.#listener = listener
        this.onListen()
      },
      write: (chunks) => {
        if (!this.isOpen) return true
        const text = chunks.map((chunk) => binary.decode(chunk)).join("")
        this.writes.push(text)
        this.onWrite(text)
        return this.accepts
      },
      upgrade: () => Effect.die(new Error("there is no TLS here")),
      end: () => {
        this.destroyed++
      },
      destroy: () => {
        this.destroyed++
      }
    }
  }

  onListen: () => void = () => {}
}

/** A network on which each connection is given to `serve`. */
export const makeConnector = (serve: (peer: Peer) => void) => {
  const peers: Array<Peer> = []
  const connector = SmtpConnector.of({
    resolve: (endpoint) => Effect.succeed([{ ...endpoint, address: "127.0.0.1" }]),
    connect: () =>
      Effect.acquireRelease(
        Effect.sync(() => {
          const peer = new Peer()
          peers.push(peer)
          serve(peer)
          return peer.duplex
        }),
        (duplex) => Effect.sync(duplex.destroy)
      ),
    localName: "me.test"
  })
  return { connector, peers }
}

/** Greets, answers EHLO or LHLO in a microtask, and then gives the connection over. QUIT alone is answered. */
export const greeting =
  (offers: ReadonlyArray<string>, then: (peer: Peer) => void = () => {}) => (peer: Peer): void => {
    const lines = ["mx.test", ...offers]
    const ehlo = lines.map((line, i) => `250${i === lines.length - 1 ? " " : "-"}${line}`)
    peer.onListen = () => queueMicrotask(() => peer.say("220 mx.test"))
    peer.onWrite = (text) => {
      if (!/^(EHLO|LHLO) /.test(text)) return
      peer.hear()
      peer.onWrite = (other) => {
        if (other === "QUIT\r\n") queueMicrotask(() => peer.say("221 bye"))
      }
      then(peer)
      queueMicrotask(() => peer.say(...ehlo))
    }
  }

export const all = ["PIPELINING", "CHUNKING", "BINARYMIME", "8BITMIME", "SIZE", "ENHANCEDSTATUSCODES"]
export const noChunking = ["PIPELINING", "8BITMIME", "SIZE", "ENHANCEDSTATUSCODES"]
export const noPipelining = ["CHUNKING", "BINARYMIME", "8BITMIME", "SIZE", "ENHANCEDSTATUSCODES"]

export const plain: SmtpConnection.Options = { host: "mx.test", name: "me.test", tls: "off" }

interface Manual {
  readonly offers?: ReadonlyArray<string> | undefined
  readonly options?: SmtpConnection.Options | undefined
}

/** A connection whose other end is the test; nothing may be left behind. */
export const manually = <A, E>(
  { offers = all, options }: Manual,
  test: (
    connection: SmtpConnection.SmtpConnection,
    peer: Peer,
    probe: Probe
  ) => Effect.Effect<A, E, Scope.Scope | SmtpConnector>
): Effect.Effect<A, unknown> =>
  Effect.suspend(() => {
    const { connector, peers } = makeConnector(greeting(offers))
    return Effect.gen(function*() {
      const value = yield* watched((probe) =>
        Effect.gen(function*() {
          const connection = yield* SmtpConnection.make({ ...plain, ...options })
          return yield* test(connection, peers[0]!, probe)
        }).pipe(Effect.provideService(SmtpConnector, connector))
      )
      assert.deepStrictEqual(peers.filter(({ destroyed }) => destroyed === 0), [], "sockets that were not freed")
      return value
    })
  })

/** Forks an effect and lets it come to a standstill. */
export const begun = <A, E, R>(effect: Effect.Effect<A, E, R>, probe: Probe) =>
  Effect.tap(Effect.forkDetach(effect, { startImmediately: true }), () => probe.quiet)
