/** A network of the test's own: what the client writes is kept, what it reads is given to it octet by octet. */
import * as Effect from "effect/Effect"
import {
  type Duplex,
  type Ended,
  type Listener,
  SmtpConnector,
  type TlsInfo,
  type TlsUpgrade
} from "../../src/SmtpConnector.ts"
import { ETLS } from "../../src/SmtpError.ts"
import { fromLatin1, latin1 } from "../fuzz/random.ts"

type Resume = (effect: Effect.Effect<TlsInfo, ETLS>) => void

/** One connection, as its server sees it. */
export class Link {
  /** All that was taken from the client, one character for each octet. */
  written = ""
  /** How much of it went out before TLS; undefined when there is none. */
  clearUntil: number | undefined
  /** Octets that were written after the end. */
  late = ""
  destroyed = 0
  /** What the next write says: whether there is room for more. */
  hasRoom = true
  needsDrain = false
  #listener: Listener | undefined
  #ended = false
  #upgrade: { readonly tls: TlsUpgrade; readonly resume: Resume } | undefined

  get isListening(): boolean {
    return this.#listener !== undefined
  }
  get isUpgrading(): boolean {
    return this.#upgrade !== undefined
  }
  get isOver(): boolean {
    return this.destroyed > 0 || this.#ended
  }

  /** Octets to the client, in one segment. */
  deliver(text: string): void {
    if (!this.isOver) this.#listener?.onData(fromLatin1(text))
  }

  end(ended: Ended): void {
    if (this.isOver) return
    this.#ended = true
    if (this.#upgrade === undefined) return this.#listener?.onEnd(ended)
    this.upgraded(false)
  }

  drain(): void {
    this.needsDrain = false
    this.hasRoom = true
    if (!this.isOver) this.#listener?.onDrain()
  }

  /** Ends the handshake. */
  upgraded(isGood: boolean): void {
    const { resume, tls } = this.#upgrade!
    this.#upgrade = undefined
    if (isGood) this.clearUntil = this.written.length
    const { servername, verify } = tls
    const info: TlsInfo = { protocol: "TLSv1.3", cipher: "none", authorized: verify, resumed: false, servername }
    const command = this.isListening ? "STARTTLS" : "CONN"
    const lost = new ETLS({ message: `${command}: the handshake failed`, command, temporary: true })
    resume(isGood ? Effect.succeed(info) : Effect.fail(lost))
  }

  #write(chunks: ReadonlyArray<Uint8Array>): boolean {
    const text = chunks.map(latin1).join("")
    if (this.isOver) {
      this.late += this.destroyed > 0 ? text : ""
      return true
    }
    this.written += text
    this.needsDrain ||= !this.hasRoom
    return this.hasRoom
  }

  readonly duplex: Duplex = {
    secured: false,
    localAddress: "127.0.0.1",
    remoteAddress: "127.0.0.1:25",
    listen: (listener) => {
      this.#listener = listener
    },
    write: (chunks) => this.#write(chunks),
    upgrade: (tls) =>
      Effect.callback((resume) => {
        this.#upgrade = { tls, resume }
        return Effect.sync(() => {
          this.#upgrade = undefined
          this.destroyed++
        })
      }),
    end: () => {},
    destroy: () => {
      this.destroyed++
    }
  }
}

/** A connector whose connections are the links. */
export const connectorOf = (links: Array<Link>): SmtpConnector["Service"] => ({
  localName: undefined,
  resolve: (endpoint) => Effect.succeed([{ ...endpoint, address: "127.0.0.1" }]),
  connect: () =>
    Effect.acquireRelease(
      Effect.sync(() => {
        const link = new Link()
        links.push(link)
        return link.duplex
      }),
      (duplex) => Effect.sync(duplex.destroy)
    )
})
