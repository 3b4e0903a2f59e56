/**
 * The way through a proxy: dial it, TLS where its URL says so, ask for the destination, and hand over what is then a
 * stream to the server.
 *
 * What it is: the driver of `proxyProtocol`'s dialogues, without timers: deadlines are the caller's. What it is not: it
 * looks at nothing behind the proxy's answer; those octets stay in the stream.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as net from "node:net"
import * as tls from "node:tls"
import { codeOf } from "../internal/errorCause.ts"
import type { Duplex, TlsOptions } from "../SmtpConnector.ts"
import { EPROXY, ETLS } from "../SmtpError.ts"
import * as nodeDuplex from "./nodeDuplex.ts"
import * as nodeTls from "./nodeTls.ts"
import { authority, begin, type Destination, destinationOf, type Exchange, type Proxy } from "./proxyProtocol.ts"
import type { Source } from "./tlsSessions.ts"

/**
 * What to open.
 *
 * @category models
 * @since 0.1.0
 */
interface Options {
  readonly proxy: Proxy
  readonly destination: Destination
  readonly port: number
  /** The local address to reach the proxy from. */
  readonly localAddress: string | undefined
  /** For TLS with the proxy. */
  readonly tlsOptions: TlsOptions
  /** For TLS with the server. */
  readonly sessions: Source
}

const nameOf = ({ host, port }: Proxy): string => authority({ text: host, octets: destinationOf(host)?.octets }, port)

const proxyFailure = (message: string, temporary: boolean, cause?: unknown): EPROXY =>
  new EPROXY({
    message: `CONN: ${message}`,
    command: "CONN",
    attempted: false,
    temporary,
    ...(cause === undefined ? {} : { cause })
  })

/** A name that does not exist stays so; every other loss may pass. */
const lost = (message: string, cause: unknown): EPROXY =>
  proxyFailure(
    `${message}: ${codeOf(cause) || "the connection was closed"}`,
    codeOf(cause) !== "ENOTFOUND",
    cause
  )

const tlsFailure = ({ host, port }: Proxy, cause: unknown): ETLS => {
  const { temporary } = nodeTls.failuresOf(host, false).of(cause)
  const code = codeOf(cause)
  const text = code === "ERR_SSL_WRONG_VERSION_NUMBER"
    ? `it does not speak TLS on port ${port}; write http: in its URL`
    : temporary === true
    ? `the connection was lost ${code}`.trimEnd()
    : `the handshake failed: ${code}; check the host of its URL (${host}), and tlsOptions of layerProxy`
  const message = `CONN: TLS with the proxy: ${text}`
  return new ETLS({ message, command: "CONN", attempted: false, temporary, cause })
}

const ignore = () => {}

/** Goes from step to step inside the events of its streams, so that none of them is missed. */
class Tunnel {
  private readonly options: Options
  /** Of TLS with the proxy; undefined: none. */
  private readonly settings: nodeTls.Settings | undefined
  private readonly resume: (result: Effect.Effect<Duplex, EPROXY | ETLS>) => void
  private readonly name: string
  private readonly exchange: Exchange
  /** The streams, each on the one before it. */
  private readonly layers: Array<net.Socket> = []
  private duplex: Duplex | undefined
  private detach: () => void = ignore

  constructor(options: Options, settings: nodeTls.Settings | undefined, resume: Tunnel["resume"]) {
    this.options = options
    this.settings = settings
    this.resume = resume
    this.name = `the proxy ${nameOf(options.proxy)}`
    this.exchange = begin(options.proxy, options.destination, options.port)
  }

  /** Makes it the stream in use: its loss means this from now on. */
  private use(stream: net.Socket, failure: (cause?: unknown) => EPROXY | ETLS): net.Socket {
    this.detach()
    const onError = (cause: unknown) => this.fail(failure(cause))
    const onClose = () => this.fail(failure())
    this.detach = () => stream.off("error", onError).off("close", onClose).off("data", this.onData)
    if (!this.layers.includes(stream)) this.layers.push(stream.on("error", ignore))
    return stream.on("error", onError).on("close", onClose)
  }

  readonly start = (): void => {
    const { localAddress, proxy } = this.options
    const socket = this.use(new net.Socket(), (cause) => lost(`cannot connect to ${this.name}`, cause))
    socket.once("connect", () => {
      socket.setNoDelay(true)
      if (this.settings === undefined) this.ask(socket)
      else this.secure(socket, this.settings)
    }).connect({ host: proxy.host, port: proxy.port, ...(localAddress === undefined ? {} : { localAddress }) })
  }

  /** TLS with the proxy itself: it says nothing of the server. */
  private secure(socket: net.Socket, settings: nodeTls.Settings): void {
    const secure = tls.connect({ ...settings.options, socket })
    this.use(secure, (cause) => tlsFailure(this.options.proxy, cause)).once("secureConnect", () => {
      const judged = nodeTls.judge(secure, settings, undefined)
      if (Result.isSuccess(judged)) this.ask(secure)
      else this.fail(tlsFailure(this.options.proxy, judged.failure))
    })
  }

  private ask(stream: net.Socket): void {
    this.use(stream, (cause) => lost(`${this.name} gave no whole answer`, cause)).on("data", this.onData)
    stream.write(this.exchange.opening)
  }

  private readonly onData = (octets: Uint8Array): void => {
    const progress = this.exchange.push(octets)
    const stream = this.layers.at(-1)!
    const to = authority(this.options.destination, this.options.port)
    switch (progress._tag) {
      case "Waiting":
        return void (progress.write.length > 0 && stream.write(progress.write))
      case "Failed":
        return this.fail(proxyFailure(`${this.name}, asked for ${to}, ${progress.detail}`, progress.temporary))
      case "Connected": {
        this.detach()
        stream.pause()
        if (progress.rest.length > 0) stream.unshift(progress.rest)
        const { localAddress } = stream
        const remoteAddress = `${to} via ${this.name}`
        this.duplex = nodeDuplex.make(stream, {
          secured: false,
          localAddress,
          remoteAddress,
          sessions: this.options.sessions
        })
        return this.resume(Effect.succeed(this.duplex))
      }
    }
  }

  private fail(error: EPROXY | ETLS): void {
    this.destroy()
    this.resume(Effect.fail(error))
  }

  readonly destroy = (): void => {
    this.detach()
    this.duplex?.destroy()
    for (const layer of this.layers.toReversed()) layer.destroy()
  }
}

/**
 * Opens a stream to the destination; the scope owns it, and a failure or an interruption frees it at once.
 *
 * @category constructors
 * @since 0.1.0
 */
export const open = Effect.fnUntraced(function*(
  options: Options
): Effect.fn.Return<Duplex, EPROXY | ETLS, Scope.Scope> {
  const { proxy, tlsOptions } = options
  const upgrade = { servername: proxy.host, verify: true, options: tlsOptions }
  const settings = proxy.secure ? yield* Effect.fromResult(nodeTls.settingsOf(upgrade)) : undefined
  let tunnel: Tunnel | undefined
  yield* Effect.addFinalizer(() => Effect.sync(() => tunnel?.destroy()).pipe(Effect.ignoreCause))
  return yield* Effect.callback<Duplex, EPROXY | ETLS>((resume) => {
    tunnel = new Tunnel(options, settings, resume)
    tunnel.start()
    return Effect.sync(tunnel.destroy)
  })
})
