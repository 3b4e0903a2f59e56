/**
 * IP addresses as text: which of them belong to the public internet.
 *
 * What it is: the ready-made filter of `NodeConnector.layerWith({ allowAddress })`. What it is not: it resolves nothing.
 *
 * @since 0.1.0
 */
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as net from "node:net"

const listOf = (family: net.IPVersion, subnets: ReadonlyArray<string>): net.BlockList => {
  const list = new net.BlockList()
  for (const subnet of subnets) {
    const slash = subnet.indexOf("/")
    list.addSubnet(subnet.slice(0, slash), Number(subnet.slice(slash + 1)), family)
  }
  return list
}

/** IANA IPv4 Special-Purpose Address Registry, multicast, and the reserved class E. */
const special4 = listOf("ipv4", [
  "0.0.0.0/8",
  "10.0.0.0/8",
  "100.64.0.0/10",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "172.16.0.0/12",
  "192.0.0.0/24",
  "192.0.2.0/24",
  "192.88.99.0/24",
  "192.168.0.0/16",
  "198.18.0.0/15",
  "198.51.100.0/24",
  "203.0.113.0/24",
  "224.0.0.0/4",
  "240.0.0.0/4"
])

/** All global unicast addresses are in here so far (RFC 4291 §2.4): loopback, ULA, link-local, multicast are not. */
const unicast6 = listOf("ipv6", ["2000::/3"])

/** Inside it: IETF protocol assignments (Teredo, ORCHID, benchmarking) and documentation. */
const special6 = listOf("ipv6", ["2001::/23", "2001:db8::/32", "3fff::/20"])

/** Prefixes that carry an IPv4 address, and the octet it begins at: IPv4-mapped, NAT64 (RFC 6052), 6to4 (RFC 3056). */
const carriers: ReadonlyArray<readonly [net.BlockList, number]> = [
  [listOf("ipv6", ["::ffff:0:0/96"]), 12],
  [listOf("ipv6", ["64:ff9b::/96"]), 12],
  [listOf("ipv6", ["2002::/16"]), 2]
]

/**
 * Whether an IP address is one that hosts on the public internet have.
 *
 * **Details**
 *
 * False for loopback, private, link-local, CGNAT, unique-local, unspecified, multicast, documentation, benchmarking and
 * reserved addresses, for the IPv4-mapped, NAT64 and 6to4 forms of such addresses, for all of Teredo, and for text that
 * is no IP address. As `allowAddress` it keeps a host name that a stranger chose from leading inside your network.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { NodeConnector } from "effect-smtp/node"
 *
 * assert.strictEqual(NodeConnector.isPublicAddress("8.8.8.8"), true)
 * assert.strictEqual(NodeConnector.isPublicAddress("::ffff:127.0.0.1"), false)
 * ```
 *
 * @category guards
 * @since 0.1.0
 */
export const isPublicAddress = (ip: string): boolean => {
  const zone = ip.indexOf("%")
  const parsed = NetAddress.ipFromString(zone < 0 ? ip : ip.slice(0, zone))
  if (Result.isFailure(parsed)) return false
  const address = parsed.success
  const text = NetAddress.formatIp(address)
  if (NetAddress.isIpv4Address(address)) return !special4.check(text, "ipv4")
  const carrier = carriers.find(([list]) => list.check(text, "ipv6"))
  if (carrier === undefined) return unicast6.check(text, "ipv6") && !special6.check(text, "ipv6")
  const embedded = NetAddress.ipv6ToOctets(address).slice(carrier[1], carrier[1] + 4)
  return !special4.check(embedded.join("."), "ipv4")
}
