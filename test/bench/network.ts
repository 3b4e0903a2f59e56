/** A slow network: a namespace whose packets are held back, or, where that cannot be had, a proxy that holds octets back. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { execFileSync } from "node:child_process"
import { fileURLToPath } from "node:url"
import * as delayProxy from "../integration/network/delayProxy.ts"
import { find } from "../integration/network/rules.ts"
import type { BenchError } from "./model.ts"
import { daemon, type Place } from "./processes.ts"

const netem = fileURLToPath(new URL("netem.py", import.meta.url))

/** Brings loopback up with packets as small as those of Ethernet, and sends them through netem.py. */
const script = (python: string, delay: number): string =>
  [
    "set -e",
    "ip link set lo up mtu 1500",
    "tables=$(command -v iptables-legacy || command -v iptables)",
    "$tables -w 5 -A OUTPUT -o lo -p tcp -j NFQUEUE --queue-num 7",
    `echo $$`,
    `exec ${python} ${netem} 7 ${delay}`
  ].join("\n")

const namespaced = (roundTrip: number): Effect.Effect<Place, BenchError, Scope.Scope> =>
  Effect.map(
    // taskset and the shell become netem.py by exec: one process, in the namespace that unshare made for it.
    daemon(home, ["unshare", "--net", "/bin/sh", "-c", script(find("python3") ?? "python3", roundTrip / 2)]),
    (pid) => ({ prefix: ["nsenter", `--net=/proc/${pid.trim()}/ns/net`], through: Effect.succeed })
  )

const proxied = (roundTrip: number): Place => ({
  prefix: [],
  through: (port) => Effect.map(delayProxy.make({ host: "127.0.0.1", port }, roundTrip), (place) => place.port)
})

const home: Place = { prefix: [], through: Effect.succeed }

const attempt = `
set -e
ip link set lo up mtu 1500
tables=$(command -v iptables-legacy || command -v iptables)
$tables -w 5 -A OUTPUT -o lo -p tcp -j NFQUEUE --queue-num 7
timeout 5 python3 ${netem} 7 1 | head -n 1 | grep -q ready
`

/** Whether this machine can make such a namespace, tried out. */
const canNamespace = (): boolean => {
  if (["unshare", "nsenter", "ip", "python3", "timeout"].some((program) => find(program) === undefined)) return false
  try {
    execFileSync("unshare", ["--net", "/bin/sh", "-c", attempt], { stdio: "ignore" })
    return true
  } catch {
    return false
  }
}

export interface Slow {
  readonly place: Place
  /** For the table. */
  readonly name: string
}

/** A place of its own with this round trip, in milliseconds, for the scope's life. */
export const slow = (roundTrip: number): Effect.Effect<Slow, BenchError, Scope.Scope> =>
  Effect.suspend(() =>
    canNamespace()
      ? Effect.map(namespaced(roundTrip), (place) => ({ place, name: "network namespace" }))
      : Effect.succeed({ place: proxied(roundTrip), name: "delaying proxy" })
  )
