import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { createInterface, type Interface } from "node:readline"
import { fileURLToPath } from "node:url"

const megabytes = 50

const start = (file: string, ...args: ReadonlyArray<string>) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const path = fileURLToPath(new URL(`process/${file}`, import.meta.url))
      const child = spawn(process.execPath, ["--expose-gc", path, ...args], { stdio: ["ignore", "pipe", "inherit"] })
      return { child, lines: createInterface(child.stdout) }
    }),
    ({ child }) => Effect.promise(() => stop(child))
  )

const stop = (child: ChildProcess): Promise<unknown> => {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve()
  const exited = once(child, "exit")
  child.kill()
  return exited
}

const readLine = (lines: Interface) =>
  Effect.map(Effect.promise(() => once(lines, "line")), ([line]) => JSON.parse(String(line)) as Record<string, unknown>)

describe("memory", () => {
  it.live(
    `${megabytes} MB streamed to a server in another process arrive whole, and the client grows by less than 40 MB`,
    () =>
      Effect.gen(function*() {
        const server = yield* start("digestServer.ts")
        const { port } = yield* readLine(server.lines)
        const stored: Array<string> = []
        server.lines.on("line", (line) => stored.push(line))
        const client = yield* start("streamClient.ts", String(port), String(megabytes))
        const { growth, sha256, size } = yield* readLine(client.lines)
        assert.strictEqual(size, megabytes * 1024 * 1024)
        assert.isBelow(Number(growth), 40 * 1024 * 1024, "growth of the client's resident memory")
        yield* Effect.promise(() => stop(client.child))
        assert.include(stored.join("\n"), JSON.stringify({ sha256, size }))
      }),
    60_000
  )
})
