/**
 * Runs a scenario of inside.ts in a network namespace that has no name: it is made with the process and ends with the
 * last process inside, whatever becomes of this one.
 */
import * as Effect from "effect/Effect"
import { execFileSync, spawn } from "node:child_process"
import { delimiter } from "node:path"
import { fileURLToPath } from "node:url"
import { isRoot, searchPath } from "../servers/requirements.ts"
import { find, namespace, outside } from "./rules.ts"
import type { Report, Scenario } from "./scenarios.ts"

const environment = () => ({ PATH: searchPath.join(delimiter), LANG: "C", [outside]: namespace() })

const programs = [["unshare", "util-linux"], ["ip", "iproute2"], ["iptables", "iptables"]] as const

/** What a scenario does to its namespace, tried out. */
const attempt = `
set -e
ip link set lo up mtu 1500
tables=$(command -v iptables-legacy || command -v iptables)
$tables -w 5 -I INPUT -p tcp -m statistic --mode nth --every 100 --packet 0 -j DROP
`

const refusal = (): string | undefined => {
  try {
    execFileSync("unshare", ["--net", "/bin/sh", "-c", attempt], {
      env: environment(),
      stdio: ["ignore", "ignore", "pipe"]
    })
    return undefined
  } catch (error) {
    const stderr = error instanceof Error && "stderr" in error ? String(error.stderr) : String(error)
    return `needs a kernel and rights for network namespaces with packet loss: ${stderr.trim().split("\n")[0]}`
  }
}

/** What keeps the scenarios from running here, in words; undefined when they can. */
export const missing = (): string | undefined => {
  if (process.platform !== "linux") return "needs Linux"
  if (!isRoot) return "needs root"
  const packages = programs.filter(([program]) => find(program) === undefined).map(([, debianPackage]) => debianPackage)
  return packages.length === 0 ? refusal() : `needs the Debian packages ${packages.join(", ")}`
}

const script = fileURLToPath(new URL("inside.ts", import.meta.url))

/** Runs a scenario to its end. When the scope closes before that, it is ended with all that it started. */
export const run = (scenario: Scenario): Effect.Effect<Report> =>
  Effect.callback<Report>((resume) => {
    const child = spawn("unshare", ["--net", process.execPath, script, scenario], {
      env: environment(),
      stdio: ["pipe", "pipe", "pipe"]
    })
    child.stdin.on("error", () => {})
    const printed: Array<Buffer> = []
    const complaints: Array<Buffer> = []
    child.stdout.on("data", (chunk: Buffer) => printed.push(chunk))
    child.stderr.on("data", (chunk: Buffer) => complaints.push(chunk))
    child.once("error", (error) => resume(Effect.die(error)))
    child.once("close", (code) => {
      const text = Buffer.concat(printed).toString()
      resume(
        code === 0
          ? Effect.sync(() => JSON.parse(text) as Report)
          : Effect.die(new Error(`scenario ${scenario} ended with ${code}: ${text}${Buffer.concat(complaints)}`))
      )
    })
    return Effect.callback<void>((done) => {
      if (child.exitCode !== null || child.signalCode !== null) return done(Effect.void)
      child.once("close", () => done(Effect.void))
      child.kill("SIGTERM")
    })
  })
