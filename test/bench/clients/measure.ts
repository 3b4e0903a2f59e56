/** CPU, wall time and memory of this process between two points. */
import { readFileSync, writeFileSync } from "node:fs"
import { Session } from "node:inspector"
import type { Args, Sample } from "./model.ts"

/** A field of /proc/self/status in octets; 0 where there is none. */
const status = (field: "VmRSS" | "VmHWM"): number => {
  try {
    const row = new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(readFileSync("/proc/self/status", "utf8"))
    return Number(row?.[1] ?? 0) * 1024
  } catch {
    return 0
  }
}

/** Forgets the peak of the resident memory. */
const resetPeak = (): void => {
  try {
    writeFileSync("/proc/self/clear_refs", "5")
  } catch {
    // Not Linux: the growth is then 0, and its target not met or missed by it.
  }
}

/** A profile of what this process does until the function is called, which writes it to the file. */
const startProfile = (file: string): () => void => {
  const session = new Session()
  session.connect()
  session.post("Profiler.enable")
  session.post("Profiler.setSamplingInterval", { interval: 200 })
  session.post("Profiler.start")
  return () =>
    session.post("Profiler.stop", (error, result) => {
      if (error === null) writeFileSync(file, JSON.stringify(result.profile))
      session.disconnect()
    })
}

/** Starts to measure; the function it gives ends it, with what was sent. */
export const begin = ({ profile }: Args): (messages: number, octets: number) => Sample => {
  globalThis.gc?.()
  resetPeak()
  const stopProfile = profile === undefined ? undefined : startProfile(profile)
  const resident = status("VmRSS")
  const cpu = process.cpuUsage()
  const start = process.hrtime.bigint()
  return (messages, octets) => {
    const wall = Number(process.hrtime.bigint() - start) / 1e9
    const { system, user } = process.cpuUsage(cpu)
    stopProfile?.()
    const growth = Math.max(0, status("VmHWM") - resident)
    return { cpu: (user + system) / 1e6, wall, messages, octets, growth }
  }
}

interface Memory {
  readonly heap: number
  readonly resident: number
}

/** What is held after a collection. */
export const memory = (): Memory => {
  for (let n = 0; n < 4; n++) globalThis.gc?.()
  const { external, heapUsed } = process.memoryUsage()
  return { heap: heapUsed + external, resident: status("VmRSS") }
}

/** What each of so many holds. */
export const perOne = (before: Memory, after: Memory, count: number): Memory => ({
  heap: (after.heap - before.heap) / count,
  resident: (after.resident - before.resident) / count
})
