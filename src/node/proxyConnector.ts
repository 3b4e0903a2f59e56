/**
 * `resolve` and `connect` of a connector that goes through a proxy.
 *
 * What it is: what the proxy is to be told, name or address, and whether it can be. What it is not: it neither reads the
 * proxy's URL (`proxyUrl`) nor opens a socket (`proxyTunnel`).
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type { Endpoint, SmtpConnector, Target, TlsOptions } from "../SmtpConnector.ts"
import { ECONFIG } from "../SmtpError.ts"
import { escapeText } from "../SmtpReply.ts"
import { type Destination, destinationOf, type Proxy } from "./proxyProtocol.ts"
import * as proxyTunnel from "./proxyTunnel.ts"
import type { TlsSessions } from "./tlsSessions.ts"

type Connector = SmtpConnector["Service"]

/**
 * What the connector is made of, beside the proxy.
 *
 * @category models
 * @since 0.1.0
 */
export interface Parts {
  /** What is wrong with any endpoint. */
  readonly faultOf: (endpoint: Endpoint) => ECONFIG | undefined
  /** Resolves names on this side; undefined: the proxy does. */
  readonly resolveHere: Connector["resolve"] | undefined
  readonly tlsOptions: TlsOptions
  readonly sessions: TlsSessions
}

const misconfigured = (field: string, message: string) =>
  Result.fail(new ECONFIG({ message: `API: ${message}`, command: "API", field, attempted: false }))

/** What the proxy is to be told. */
const destinationFor = (
  { protocol }: Proxy,
  { faultOf }: Parts,
  endpoint: Endpoint,
  host: string
): Result.Result<Destination, ECONFIG> => {
  if (endpoint.path !== undefined) {
    return misconfigured("options.path", "a unix socket cannot be reached through a proxy")
  }
  const fault = faultOf(endpoint)
  if (fault !== undefined) return Result.fail(fault)
  const destination = destinationOf(host)
  if (destination === undefined) {
    return misconfigured("options.host", `host is not a host name or IP address: "${escapeText(host, 255)}"`)
  }
  return protocol === "socks4" && destination.octets?.length === 16
    ? misconfigured("options.host", "SOCKS4 cannot carry an IPv6 address; use socks5:")
    : Result.succeed(destination)
}

/**
 * Makes the two.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (proxy: Proxy, parts: Parts): Pick<Connector, "resolve" | "connect"> => ({
  resolve: Effect.fnUntraced(function*(endpoint) {
    const { text: host } = yield* Effect.fromResult(destinationFor(proxy, parts, endpoint, endpoint.host))
    if (parts.resolveHere === undefined) return [{ ...endpoint, host, address: undefined }] as const
    const { family = proxy.protocol === "socks4" ? 4 : undefined, localAddress } = endpoint
    // The local address is where the proxy is dialled from: it says nothing of the server's family.
    const [first, ...rest] = yield* parts.resolveHere({ ...endpoint, host, family, localAddress: undefined })
    return [{ ...first, localAddress }, ...rest.map((target): Target => ({ ...target, localAddress }))] as const
  }),
  connect: (target) =>
    Effect.flatMap(
      Effect.fromResult(destinationFor(proxy, parts, target, target.address ?? target.host)),
      (destination) => {
        const { localAddress, port } = target
        const sessions = { store: parts.sessions, server: target }
        return proxyTunnel.open({ proxy, destination, port, localAddress, tlsOptions: parts.tlsOptions, sessions })
      }
    )
})
