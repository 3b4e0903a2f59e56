/** What the proxy stands before: a server that can be stopped and started, and what it stored. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"

/** One message as it was stored, for one recipient or more. */
export interface Kept {
  readonly sender: string
  readonly recipients: ReadonlyArray<string>
  readonly sha256: string
}

export interface Backend {
  readonly name: string
  readonly protocol: "smtp" | "lmtp"
  readonly tls: boolean
  readonly address: () => { readonly host: string; readonly port: number }
  /** An address that takes mail, by its local part; reject@, defer@ and late@ of the same domain have that fate. */
  readonly domain: string
  /** Whether the server has recipients that it refuses after the message. */
  readonly hasLate: boolean
  /** At once: no time for a goodbye. */
  readonly kill: Effect.Effect<void>
  /** In order. */
  readonly stop: Effect.Effect<void>
  readonly start: Effect.Effect<void>
  readonly kept: Effect.Effect<ReadonlyArray<Kept>>
}

const end = (child: ChildProcess | undefined, signal: "SIGTERM" | "SIGKILL"): Promise<unknown> => {
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return Promise.resolve()
  const exited = once(child, "exit")
  child.kill(signal)
  return exited
}

const parse = (text: string): ReadonlyArray<Kept> =>
  text.split("\n").filter((line) => line !== "").map((line) => JSON.parse(line) as Kept)

/** Our own server in a process of its own. */
export const makeOwn = Effect.fnUntraced(function*(
  protocol: "smtp" | "lmtp",
  tls = false
): Effect.fn.Return<Backend, never, Scope.Scope> {
  const folder = mkdtempSync(join(tmpdir(), "effect-smtp-chaos-"))
  const file = join(folder, "kept")
  const program = fileURLToPath(new URL("storeServer.ts", import.meta.url))
  let child: ChildProcess | undefined
  let port = 0
  const start = Effect.promise(async () => {
    const args = [program, file, String(port), protocol, tls ? "tls" : "clear"]
    const started = spawn(process.execPath, args, { stdio: ["pipe", "pipe", "inherit"] })
    child = started
    const [line] = await once(createInterface(started.stdout), "line")
    port = Number(line)
  })
  yield* Effect.addFinalizer(() =>
    Effect.promise(async () => {
      await end(child, "SIGKILL")
      rmSync(folder, { recursive: true, force: true })
    })
  )
  yield* start
  return {
    name: `our server, ${protocol}${tls ? " over TLS" : ""}`,
    protocol,
    tls,
    address: () => ({ host: "127.0.0.1", port }),
    domain: "chaos.test",
    hasLate: true,
    kill: Effect.promise(() => end(child, "SIGKILL")),
    stop: Effect.promise(() => end(child, "SIGTERM")),
    start,
    kept: Effect.sync(() => parse(readFileSync(file, "utf8")))
  }
})
