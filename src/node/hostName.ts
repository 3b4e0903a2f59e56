/**
 * Host names as text: the few questions that the connector asks of them before and beside DNS.
 *
 * What it is: syntax alone. What it is not: `effect/net/Host` says what a domain name is.
 *
 * @since 0.1.0
 */
import * as net from "node:net"

/**
 * `[::1]` without its brackets; anything else as it is.
 *
 * @category converting
 * @since 0.1.0
 */
export const unbracket = (host: string): string =>
  host.startsWith("[") && host.endsWith("]") && net.isIPv6(host.slice(1, -1)) ? host.slice(1, -1) : host

/**
 * Whether a host name, which can come from a stranger, holds a control, format or separator character.
 *
 * @category guards
 * @since 0.1.0
 */
export const hasUnsafe = (host: string): boolean => /[\p{Cc}\p{Cf}\p{Z}]/u.test(host)

/**
 * The name, when it is a domain of more than one label: an unqualified one says nothing to a server (RFC 5321
 * §4.1.1.1).
 *
 * @category guards
 * @since 0.1.0
 */
export const fullyQualified = (name: string): string | undefined =>
  name.length <= 253 && /^(?:(?!-)[a-z0-9-]{1,63}(?<!-)\.)+(?!-)(?!\d+$)[a-z0-9-]{1,63}(?<!-)$/i.test(name)
    ? name
    : undefined
