/**
 * `SmtpConnector` over `node:net`, `node:tls` and the resolver of the operating system.
 *
 * What it is: the layer that a program in production provides, and its variants: a filter over addresses, a socket or
 * a connection of your own. What it is not: it knows nothing of SMTP, keeps no connection and sets no deadline.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { Effect } from "effect"
 * import { SmtpConnector } from "effect-smtp"
 * import { NodeConnector } from "effect-smtp/node"
 *
 * const program = SmtpConnector.SmtpConnector.use((connector) => connector.resolve({ host: "127.0.0.1", port: 25 }))
 * const [target] = await Effect.runPromise(program.pipe(Effect.provide(NodeConnector.layer)))
 * assert.strictEqual(target.address, "127.0.0.1")
 * ```
 *
 * @since 0.1.0
 */
import * as NodeDns from "@effect/platform-node/NodeDns"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Dns from "effect/net/Dns"
import type * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as net from "node:net"
import { hostname } from "node:os"
import type * as stream from "node:stream"
import { codeOf } from "../internal/errorCause.ts"
import { type Duplex, SmtpConnector, type Target, type TlsOptions } from "../SmtpConnector.ts"
import { type ECONFIG, ESOCKET } from "../SmtpError.ts"
import { escapeText } from "../SmtpReply.ts"
import { fullyQualified } from "./hostName.ts"
import { isPublicAddress } from "./ipAddress.ts"
import * as nodeDuplex from "./nodeDuplex.ts"
import * as proxyConnector from "./proxyConnector.ts"
import * as proxyUrl from "./proxyUrl.ts"
import { faultOf, misconfigured, resolveWith } from "./targets.ts"
import * as tlsSessions from "./tlsSessions.ts"

export { isPublicAddress }

/**
 * Options of {@link layerWith}.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /**
   * Whether an IP address may be dialled; asked after resolution, for IP literals too, and what it allows is what is
   * dialled. Default: every address may.
   */
  readonly allowAddress?: ((ip: string) => boolean) | undefined
  /** The fully qualified name of this host; default: `os.hostname()` when it is one. */
  readonly localName?: string | undefined
}

const portOf = (address: string | undefined, port: number | undefined): string | undefined =>
  address === undefined ? undefined : [net.isIPv6(address) ? `[${address}]` : address, port].join(":")

const infoOf = (socket: stream.Duplex, secured: boolean): nodeDuplex.Info => {
  const { localAddress, remoteAddress, remotePort } = socket instanceof net.Socket ? socket : {}
  return { secured, localAddress, remoteAddress: portOf(remoteAddress, remotePort) }
}

const dialOptions = (target: Target): net.SocketConnectOpts | undefined => {
  const { address, localAddress, path, port } = target
  if (path !== undefined) return { path }
  // An address that is none would be a second look-up, past the filter.
  if (address === undefined || net.isIP(address) === 0) return undefined
  return { host: address, port, autoSelectFamily: false, ...(localAddress === undefined ? {} : { localAddress }) }
}

const ignore = () => {}

const dialled = (target: Target): string => escapeText(target.path ?? `${portOf(target.address, target.port)}`, 255)

const opened = (
  socket: net.Socket,
  target: Target,
  options: net.SocketConnectOpts,
  store: tlsSessions.TlsSessions | undefined,
  hold: (duplex: Duplex) => void
) =>
  Effect.callback<Duplex, ESOCKET>((resume) => {
    const fail = (cause?: unknown) =>
      resume(Effect.fail(
        new ESOCKET({
          message: `CONN: cannot connect to ${dialled(target)}: ${codeOf(cause) || "the socket was closed"}`,
          command: "CONN",
          attempted: false,
          ...(cause === undefined ? {} : { cause })
        })
      ))
    const onClose = () => fail()
    const onConnect = () => {
      // From here on the duplex hears them.
      socket.off("error", fail).off("error", ignore).off("close", onClose)
      socket.setNoDelay(true)
      const duplex = nodeDuplex.make(socket, {
        secured: target.path !== undefined,
        localAddress: socket.localAddress,
        remoteAddress: target.path ?? portOf(target.address, target.port),
        sessions: store && { store, server: target }
      })
      hold(duplex)
      resume(Effect.succeed(duplex))
    }
    socket.once("error", fail).once("close", onClose).once("connect", onConnect)
    socket.connect(options)
    return Effect.sync(() => socket.off("connect", onConnect).destroy())
  })

const dial = Effect.fnUntraced(function*(
  socket: net.Socket,
  target: Target,
  sessions?: tlsSessions.TlsSessions
): Effect.fn.Return<Duplex, ESOCKET | ECONFIG, Scope.Scope> {
  const fault = faultOf(target)
  if (fault !== undefined) return yield* fault
  const options = dialOptions(target)
  if (options === undefined) {
    return yield* misconfigured("target.address", "the target has no IP address; take targets from resolve")
  }
  let duplex: Duplex | undefined
  socket.on("error", ignore)
  // Thousands of connections may be open: the scope of each holds one function, and no effect before it is run.
  const free = () =>
    Effect.ignoreCause(Effect.sync(() => {
      duplex?.destroy()
      socket.destroy()
    }))
  yield* Scope.addFinalizerExit(yield* Scope.Scope, free)
  return yield* opened(socket, target, options, sessions, (opened) => {
    duplex = opened
  })
})

const systemName = (): string | undefined => fullyQualified(hostname())

/**
 * The connector with options, over the `Dns` service that you provide.
 *
 * **Details**
 *
 * Names are resolved once, with `Dns.lookup`; exactly the addresses that `allowAddress` let pass are dialled, so that
 * the name cannot mean something else in between. When it lets none pass, `resolve` fails with `EDNS`.
 *
 * TLS sessions of verified connections are resumed, within the layer and for an hour, by connections to the same host and
 * port with the same `servername` and the same `tlsOptions`.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { Effect, Layer } from "effect"
 * import { Dns } from "effect/net"
 * import { SmtpConnector } from "effect-smtp"
 * import { NodeConnector } from "effect-smtp/node"
 *
 * const connector = NodeConnector.layerWith({ allowAddress: NodeConnector.isPublicAddress }).pipe(
 *   Layer.provide(Dns.layerStatic({ hosts: { "inside.test": ["10.0.0.1"] } }))
 * )
 * const program = SmtpConnector.SmtpConnector.use((connector) => connector.resolve({ host: "inside.test", port: 25 }))
 * const error = await Effect.runPromise(program.pipe(Effect.provide(connector), Effect.flip))
 * assert.strictEqual(error._tag, "EDNS")
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (options: Options): Layer.Layer<SmtpConnector, never, Dns.Dns> =>
  Layer.effect(
    SmtpConnector,
    Effect.map(Dns.Dns, (dns) => {
      const sessions = tlsSessions.make()
      return SmtpConnector.of({
        resolve: resolveWith(dns, options.allowAddress),
        connect: (target) => Effect.suspend(() => dial(nodeDuplex.socket(), target, sessions)),
        localName: options.localName ?? systemName()
      })
    })
  )

/**
 * The connector with the resolver of the operating system, its hosts file included.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<SmtpConnector> = layerWith({}).pipe(Layer.provide(NodeDns.layer))

const once = (field: string, what: string, check: () => string | undefined): Effect.Effect<void, ECONFIG> => {
  let isUsed = false
  return Effect.suspend(() => {
    const fault = isUsed ? "was used before" : check()
    isUsed = true
    return fault === undefined ? Effect.void : misconfigured(field, `the ${what} ${fault}; give a fresh one`)
  })
}

/**
 * A connector for one connection over a socket of yours, which is not connected yet.
 *
 * **Details**
 *
 * Names are resolved by the operating system, and the first address is the only target. The socket belongs to the
 * scope of the connection from `connect` on.
 *
 * **Gotchas**
 *
 * A second `connect`, and a socket that is connected, connecting or destroyed, fail with `ECONFIG`.
 *
 * @category layers
 * @since 0.1.0
 */
export const fromSocket = (socket: net.Socket): Layer.Layer<SmtpConnector> =>
  Layer.effect(
    SmtpConnector,
    Effect.map(Dns.Dns, (dns) => {
      const resolve = resolveWith(dns)
      const claim = once("socket", "socket", () =>
        socket.destroyed ? "is destroyed" : socket.connecting || !socket.pending ? "is connected already" : undefined)
      return SmtpConnector.of({
        resolve: (endpoint) =>
          Effect.map(resolve(endpoint), ([first]) => [first]),
        connect: (target) =>
          Effect.andThen(claim, dial(socket, target)),
        localName: systemName()
      })
    })
  ).pipe(Layer.provide(NodeDns.layer))

const connectionFault = (duplex: stream.Duplex): string | undefined => {
  if (duplex.destroyed || !duplex.readable || !duplex.writable) return "is closed"
  if (duplex instanceof net.Socket && duplex.pending) return "is not connected yet"
  return duplex.readableEncoding !== null || duplex.readableObjectMode ? "does not give octets" : undefined
}

/**
 * A connector for one connection that exists already, e.g. one through a tunnel.
 *
 * **Details**
 *
 * `secured` says whether it counts as trusted without TLS of ours. `resolve` gives one target without an address. The
 * stream belongs to the scope of the connection from `connect` on.
 *
 * **Gotchas**
 *
 * A second `connect`, and a stream that is closed, not connected yet, or decodes text, fail with `ECONFIG`.
 *
 * @category layers
 * @since 0.1.0
 */
export const fromConnection = (
  duplex: stream.Duplex,
  options: { readonly secured: boolean }
): Layer.Layer<SmtpConnector> =>
  Layer.sync(SmtpConnector, () => {
    const claim = once("connection", "connection", () => connectionFault(duplex))
    return SmtpConnector.of({
      resolve: (endpoint) => Effect.succeed([{ ...endpoint, address: undefined }]),
      connect: () =>
        Effect.andThen(
          claim,
          Effect.acquireRelease(
            Effect.sync(() => nodeDuplex.make(duplex, infoOf(duplex, options.secured))),
            (opened) => Effect.sync(opened.destroy).pipe(Effect.ignoreCause)
          )
        ),
      localName: systemName()
    })
  })

/**
 * Options of {@link layerProxy}.
 *
 * @category models
 * @since 0.1.0
 */
export interface ProxyOptions extends Options {
  /**
   * As in {@link Options}, asked for the addresses of servers, not for the proxy's. With it, names are resolved here and
   * the proxy is told an address that was allowed.
   */
  readonly allowAddress?: ((ip: string) => boolean) | undefined
  /** TLS with an https: proxy. The TLS of the mail server is the client's own `tlsOptions`, as ever. */
  readonly tlsOptions?: TlsOptions | undefined
}

/**
 * A connector that reaches every server through a proxy.
 *
 * **Details**
 *
 * The URL is `http:` or `https:` (HTTP CONNECT), `socks5:` or `socks5h:` (the same here), `socks4a:` or `socks4:`, with
 * `user:password` percent-encoded in it where the proxy asks for them (Basic, RFC 1929; SOCKS4 has a user alone). Default
 * ports are 80, 443 and 1080. A URL that cannot be is `ECONFIG`, and no error or log holds a part of its credentials.
 *
 * Names go to the proxy as they are: `resolve` gives one target without an address. They are resolved here in two
 * cases: for `socks4:`, whose protocol has no names, and with `allowAddress`, which nobody could be asked otherwise.
 * `family` counts in these two cases alone. The proxy's own name is resolved by the operating system.
 *
 * A proxy that refuses, breaks its protocol or is out of reach is `EPROXY` (temporary for a 5xx answer, a code that may
 * pass, or a loss); the TLS handshake with an https: proxy fails with `ETLS`. Waiting ends with `timeouts.connect`.
 *
 * **Gotchas**
 *
 * The proxy is not trusted: TLS with the server goes end to end through it, verified as on a direct connection. What
 * you put into the URL goes in clear to an `http:` or SOCKS proxy. The answer's head is bounded at 16 KiB.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import * as http from "node:http"
 * import * as net from "node:net"
 * import { Effect } from "effect"
 * import { SmtpConnection } from "effect-smtp"
 * import { NodeConnector, NodeSmtpServer } from "effect-smtp/node"
 *
 * const program = Effect.gen(function*() {
 *   const mail = yield* NodeSmtpServer.NodeSmtpServer
 *   // A proxy for the example: it leads to the fake server, whatever it is asked for.
 *   const proxy = http.createServer().on("connect", (_request, client) => {
 *     const server = net.connect(mail.port, mail.host, () => client.write("HTTP/1.1 200 OK\r\n\r\n"))
 *     server.pipe(client).pipe(server)
 *   })
 *   const url = yield* Effect.callback<string>((resume) => {
 *     proxy.listen(0, "127.0.0.1", () => {
 *       resume(Effect.succeed(`http://127.0.0.1:${(proxy.address() as net.AddressInfo).port}`))
 *     })
 *   })
 *   const connection = yield* SmtpConnection.make({
 *     host: "mail.inside.test",
 *     servername: "localhost",
 *     tlsOptions: { ca: mail.ca }
 *   }).pipe(Effect.provide(NodeConnector.layerProxy(url)))
 *   assert.strictEqual(connection.secure, true)
 *   proxy.close()
 * })
 *
 * await Effect.runPromise(Effect.scoped(program).pipe(Effect.provide(NodeSmtpServer.layerLoopback())))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerProxy = (
  url: string | URL | Redacted.Redacted<string>,
  options: ProxyOptions = {}
): Layer.Layer<SmtpConnector, ECONFIG> =>
  Layer.effect(
    SmtpConnector,
    Effect.gen(function*() {
      const dns = yield* Dns.Dns
      const proxy = yield* Effect.fromResult(proxyUrl.parse(url))
      const { allowAddress, localName = systemName(), tlsOptions = {} } = options
      return SmtpConnector.of({
        ...proxyConnector.make(proxy, {
          faultOf,
          resolveHere: proxy.resolves && allowAddress === undefined
            ? undefined
            : resolveWith(dns, allowAddress),
          tlsOptions,
          sessions: tlsSessions.make()
        }),
        localName
      })
    })
  ).pipe(Layer.provide(NodeDns.layer))
