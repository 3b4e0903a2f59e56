/**
 * Servers that answered a group of commands out of step. They are remembered as long as the connector through which they
 * were dialled, and talked to one command at a time.
 */
import type { Endpoint } from "../SmtpConnector.ts"

/** Most servers remembered for one connector; the oldest is forgotten first. */
const maxServers = 1_000

const known = new WeakMap<object, Set<string>>()

const keyOf = ({ host, path, port }: Endpoint): string => path ?? `${host.toLowerCase()} ${port}`

export const isKnown = (connector: object, endpoint: Endpoint): boolean =>
  known.get(connector)?.has(keyOf(endpoint)) === true

export const remember = (connector: object, endpoint: Endpoint): void => {
  const servers = known.get(connector) ?? new Set()
  known.set(connector, servers)
  servers.add(keyOf(endpoint))
  for (const oldest of servers) {
    if (servers.size <= maxServers) break
    servers.delete(oldest)
  }
}
