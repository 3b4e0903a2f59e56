/**
 * From an endpoint to the addresses that are dialled.
 *
 * What it is: `resolve` of the connectors of this folder, over a `Dns` service. What it is not: it dials nothing.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Dns from "effect/net/Dns"
import * as NetAddress from "effect/net/NetAddress"
import * as net from "node:net"
import type { Endpoint, SmtpConnector, Target } from "../SmtpConnector.ts"
import { ECONFIG, EDNS } from "../SmtpError.ts"
import { escapeText } from "../SmtpReply.ts"
import { hasUnsafe, unbracket } from "./hostName.ts"

type Targets = readonly [Target, ...ReadonlyArray<Target>]

/**
 * A setting that cannot be.
 *
 * @category constructors
 * @since 0.1.0
 */
export const misconfigured = (field: string, message: string): ECONFIG =>
  new ECONFIG({ message: `API: ${message}`, command: "API", field, attempted: false })

const unresolved = (host: string, message: string, rest: { temporary: boolean; field?: string; cause?: unknown }) =>
  new EDNS({ message: `CONN: ${message}`, command: "CONN", host, attempted: false, ...rest })

const isPort = (port: number): boolean => Number.isInteger(port) && port > 0 && port < 65_536

/**
 * What is wrong with an endpoint, whatever its name means.
 *
 * @category getters
 * @since 0.1.0
 */
export const faultOf = ({ host, localAddress, path, port }: Endpoint): ECONFIG | undefined => {
  if (path !== undefined) {
    return path === "" ? misconfigured("options.path", "path is empty; give the path of a unix socket") : undefined
  }
  if (host === "" || hasUnsafe(host)) {
    return misconfigured(
      "options.host",
      `host is empty or holds spaces or control characters: "${escapeText(host, 255)}"`
    )
  }
  if (!isPort(port)) return misconfigured("options.port", "port must be a whole number from 1 to 65535")
  if (localAddress !== undefined && net.isIP(localAddress) === 0) {
    return misconfigured("options.localAddress", "localAddress must be an IP address of this machine")
  }
  return undefined
}

const lookup = (
  dns: Dns.Dns["Service"],
  host: string,
  family: 4 | 6 | undefined
): Effect.Effect<ReadonlyArray<string>, EDNS> =>
  dns.lookup(host, family === undefined ? {} : { family: `IPv${family}` as const }).pipe(
    Effect.map((addresses) => addresses.map(NetAddress.formatIp)),
    Effect.mapError((cause) =>
      unresolved(host, `cannot resolve ${escapeText(host, 255)}: ${cause.reason}`, {
        temporary: cause.isTemporary,
        cause
      })
    )
  )

const isNonEmpty = (targets: ReadonlyArray<Target>): targets is Targets => targets.length > 0

type Filter = (ip: string) => boolean

/** The addresses that may be dialled, from the local address that is asked for. */
const targetsOf = (
  endpoint: Endpoint,
  host: string,
  addresses: ReadonlyArray<string>,
  allow: Filter
): Exit.Exit<Targets, EDNS | ECONFIG> => {
  const allowed = addresses.filter(allow)
  if (allowed.length === 0) {
    return Exit.fail(unresolved(
      host,
      `allowAddress refuses every address of ${escapeText(host, 255)}: ${addresses.join(", ")}`,
      { temporary: false, field: "options.host" }
    ))
  }
  const { localAddress } = endpoint
  const targets = allowed
    .filter((address) => localAddress === undefined || net.isIP(address) === net.isIP(localAddress))
    .map((address): Target => ({ ...endpoint, host, address }))
  return isNonEmpty(targets) ? Exit.succeed(targets) : Exit.fail(misconfigured(
    "options.localAddress",
    `localAddress ${localAddress} is not of the family of ${escapeText(host, 255)}: ${allowed.join(", ")}`
  ))
}

/**
 * `resolve` of a connector, with a filter of the caller's over addresses.
 *
 * @category constructors
 * @since 0.1.0
 */
export const resolveWith = (dns: Dns.Dns["Service"], filter?: Filter): SmtpConnector["Service"]["resolve"] => {
  const resolve = (endpoint: Endpoint): Effect.Effect<Targets, EDNS | ECONFIG> => {
    const fault = faultOf(endpoint)
    if (fault !== undefined) return Effect.fail(fault)
    if (endpoint.path !== undefined) return Effect.succeed([{ ...endpoint, address: undefined }])
    const host = unbracket(endpoint.host).toLowerCase()
    const { family } = endpoint
    const targets = (addresses: ReadonlyArray<string>) => targetsOf(endpoint, host, addresses, filter ?? (() => true))
    const literal = net.isIP(host)
    if (literal === 0) return Effect.flatMap(lookup(dns, host, family), targets)
    return family === undefined || family === literal
      ? targets([host])
      : Effect.fail(misconfigured("options.family", `family is ${family}, and host is an IPv${literal} address`))
  }
  // Without a filter of the caller's, an address is no work: whoever asks need not run anything.
  return filter === undefined ? resolve : (endpoint) => Effect.suspend(() => resolve(endpoint))
}
