/** Knot DNS with the zone "test.", on a free loopback port. */
import * as NodeDns from "@effect/platform-node/NodeDns"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Dns from "effect/net/Dns"
import type * as Host from "effect/net/Host"
import type * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import { createSocket } from "node:dgram"
import { mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { makeDaemon, run } from "./daemon.ts"
import type { Daemon, Description } from "./model.ts"
import { makeFolder, makePorts } from "./place.ts"

/**
 * A DNS server with the names below, each of them in "test.".
 *
 * - `mx`: 127.0.0.1; `mx2`: 127.0.0.2; `mx3`: 127.0.0.3
 * - `two`: 127.0.0.1 and 127.0.0.3; `dual`: 127.0.0.1 and ::1; `six`: ::1 alone
 * - `firstdead`: 127.0.0.2, then 127.0.0.3 (Postfix's port `smtp` is open there); `dead`: 127.0.0.2
 * - `alias`: CNAME mx; `loop`: CNAME to itself through loop2; `textonly`: TXT, so no address (NODATA)
 * - `good`: MX 10 mx, 20 mx3, 20 mx2; `nullmx`: MX 0 "."
 * - `*.servfail`: SERVFAIL; everything else: NXDOMAIN
 */
export interface Service extends Daemon {
  readonly describe: Description
  readonly host: string
  readonly port: number
  /** Takes queries and never answers. */
  readonly silentPort: number
  /** `host:port`, as `NodeDns.make({ nameServers })` takes it. */
  readonly nameServer: string
  readonly silentNameServer: string
  /** A Dns service that asks this server for addresses too; see {@link dnsOf}. */
  readonly dns: Dns.Dns["Service"]
}

/** Knot DNS. */
export class DnsServer extends Context.Service<DnsServer, Service>()("test/integration/DnsServer") {}

const host = "127.0.0.1"

const zone = `$ORIGIN test.
$TTL 60
@ SOA ns hostmaster 1 3600 600 86400 5
@ NS ns
ns A 127.0.0.1
mx A 127.0.0.1
mx2 A 127.0.0.2
mx3 A 127.0.0.3
two A 127.0.0.1
two A 127.0.0.3
dual A 127.0.0.1
dual AAAA ::1
six AAAA ::1
firstdead A 127.0.0.2
firstdead A 127.0.0.3
dead A 127.0.0.2
alias CNAME mx
loop CNAME loop2
loop2 CNAME loop
textonly TXT "no address"
good MX 20 mx3
good MX 10 mx
good MX 20 mx2
nullmx MX 0 .
servfail NS ns
`

/** Zone servfail.test has no file, so every question in it is SERVFAIL. */
const configuration = (folder: string, port: number): string =>
  `server:
    rundir: "${folder}"
    listen: ${host}@${port}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
log:
  - target: stdout
    any: info
database:
    storage: "${folder}/db"
template:
  - id: default
    storage: "${folder}/zones"
    semantic-checks: off
    zonefile-sync: -1
    journal-content: none
zone:
  - domain: test
  - domain: servfail.test
`

type Addresses = Result.Result<ReadonlyArray<NetAddress.IpAddress>, Dns.DnsError>

/** Both families; an answer for one is an answer. */
const addressesOf = Effect.fnUntraced(function*(dns: Dns.Dns["Service"], name: Host.DomainName) {
  const ask = (type: "A" | "AAAA"): Effect.Effect<Addresses> =>
    Effect.result(Effect.map(dns.resolve(name, type), (records) => records.map(({ address }) => address)))
  const answers = yield* Effect.all([ask("A"), ask("AAAA")], { concurrency: 2 })
  const found = answers.flatMap((one) => Result.isSuccess(one) ? one.success : [])
  const failures = answers.flatMap((one) => Result.isFailure(one) ? [one.failure] : [])
  const failure = failures.find(({ reason }) => reason !== "NotFound") ?? failures[0]
  if (found.length > 0 || failure === undefined) return found
  return yield* new Dns.DnsError({ reason: failure.reason, method: "lookup", hostname: name, cause: failure.cause })
})

/**
 * The Dns service of Node over these name servers (`host:port`), addresses included: Node's own `lookup` asks the
 * operating system, whatever `nameServers` says.
 */
export const dnsOf = (
  nameServers: ReadonlyArray<string>,
  options: Omit<NodeDns.Options, "nameServers"> = {}
): Effect.Effect<Dns.Dns["Service"], never, Scope.Scope> =>
  Effect.map(
    Effect.orDie(NodeDns.make({ ...options, nameServers })),
    (dns) => Dns.make({ lookup: (name) => addressesOf(dns, name), resolve: dns.resolve, reverse: dns.reverse })
  )

const silence = Effect.acquireRelease(
  Effect.callback<ReturnType<typeof createSocket>>((resume) => {
    const socket = createSocket("udp4")
    socket.bind(0, host, () => resume(Effect.succeed(socket)))
  }),
  (socket) =>
    Effect.callback<void>((resume) => {
      socket.close(() => resume(Effect.void))
    })
)

const versionOf = (): string => /version (\S+)/.exec(run("knotd", ["--version"]))?.[1] ?? "unknown"

const make = Effect.gen(function*() {
  const folder = yield* makeFolder("dns")
  const { dns: port } = yield* makePorts(["dns"], [host])
  yield* Effect.sync(() => {
    for (const name of ["zones", "db"]) mkdirSync(join(folder.path, name))
    writeFileSync(join(folder.path, "zones", "test.zone"), zone)
    writeFileSync(join(folder.path, "knot.conf"), configuration(folder.path, port))
  })
  const daemon = yield* makeDaemon({
    folder,
    command: "knotd",
    args: ["-c", join(folder.path, "knot.conf")],
    host,
    ports: [port],
    log: join(folder.path, "knot.log")
  })
  const silentPort = (yield* silence).address().port
  const nameServer = `${host}:${port}`
  return DnsServer.of({
    describe: { name: "Knot DNS", version: versionOf() },
    host,
    port,
    silentPort,
    nameServer,
    silentNameServer: `${host}:${silentPort}`,
    dns: yield* dnsOf([nameServer]),
    ...daemon
  })
})

/** A DNS server of its own for the layer's life. */
export const layer: Layer.Layer<DnsServer> = Layer.effect(DnsServer, Effect.orDie(Effect.retry(make, { times: 2 })))
