/** A soak in a process of its own, and what it says about memory, handles and listeners. */
import * as Effect from "effect/Effect"
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import type { Backend } from "./backend.ts"

export type Target = Pick<Backend, "protocol" | "mailboxes"> & { readonly host: string; readonly port: number }

interface State {
  readonly resources: ReadonlyArray<string>
  readonly listeners: ReadonlyArray<string>
}

export interface Report {
  readonly sent: number
  /** Octets of the heap after a collection, at equal distances. */
  readonly heap: ReadonlyArray<number>
  readonly before: State
  readonly after: State
}

/** Code that V8 compiles, optimises and drops as it sees fit lies on the heap too: 3 MB and more in 10 000 messages. */
const flags = [
  "--expose-gc",
  "--no-opt",
  "--no-maglev",
  "--always-sparkplug",
  "--no-flush-bytecode",
  "--no-lazy-feedback-allocation"
]

/** Sends so many messages to the targets in turn. */
export const run = (targets: ReadonlyArray<Target>, messages: number): Effect.Effect<Report> =>
  Effect.callback((resume) => {
    const program = fileURLToPath(new URL("soakClient.ts", import.meta.url))
    const args = [...flags, program, JSON.stringify(targets), String(messages)]
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] })
    let output = ""
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      output += text
    })
    child.once("close", (code) => {
      resume(code === 0 ? Effect.sync(() => JSON.parse(output) as Report) : Effect.die(new Error(`soak: exit ${code}`)))
    })
    return Effect.sync(() => child.kill())
  })

/** The slope of the least-squares line through the last half of the heap's samples, in octets per 10 000 messages. */
export const slopeOf = ({ heap, sent }: Report): number => {
  const half = heap.slice(-Math.floor(heap.length / 2))
  const step = sent / heap.length
  const meanAt = (half.length - 1) / 2
  const mean = half.reduce((sum, octets) => sum + octets, 0) / half.length
  let [covariance, variance] = [0, 0]
  for (const [at, octets] of half.entries()) {
    covariance += (at - meanAt) * (octets - mean)
    variance += (at - meanAt) ** 2
  }
  return covariance / variance / step * 10_000
}
