/** A place for a server: a fresh folder, free ports, and a pause in real time. */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { spawn } from "node:child_process"
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import * as net from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"

/** A server did not come up. */
export class StartError extends Data.TaggedError("StartError")<{ readonly message: string }> {}

/** Waits in real time, whatever the clock of the test. */
export const pause = (milliseconds: number): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const timer = setTimeout(() => resume(Effect.void), milliseconds)
    return Effect.sync(() => clearTimeout(timer))
  })

/** Waits in real time until it holds; false when it did not within the limit. */
export const until = Effect.fnUntraced(function*(holds: () => boolean, milliseconds: number) {
  const deadline = performance.now() + milliseconds
  while (!holds()) {
    if (performance.now() > deadline) return false
    yield* pause(10)
  }
  return true
})

/** A fresh folder that is removed with the scope, and by its guard when the test process dies before that. */
export interface Folder {
  readonly path: string
  /** The process groups that the guard has to end. */
  readonly groups: { readonly add: (group: number) => void; readonly delete: (group: number) => void }
}

/** Names of unix sockets are limited to 107 octets; a long TMPDIR leaves no room for Dovecot's. */
const base = tmpdir().length > 40 ? "/tmp" : tmpdir()

/** Lives in a session of its own; "done" or the end of its input, which is the death of the test process, ends it. */
const guard = `
read -r word
[ "$word" = done ] && exit 0
groups=$(cat "$1/.groups" 2>/dev/null)
for group in $groups; do kill -s TERM -- "-$group" 2>/dev/null; done
sleep 1
for group in $groups; do kill -s KILL -- "-$group" 2>/dev/null; done
rm -rf -- "$1"
`

const makeGroups = (path: string): Folder["groups"] => {
  const groups = new Set<number>()
  const save = () => writeFileSync(path, [...groups, ""].join("\n"))
  return {
    add: (group) => {
      groups.add(group)
      save()
    },
    delete: (group) => {
      if (groups.delete(group)) save()
    }
  }
}

export const makeFolder = (name: string): Effect.Effect<Folder, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => {
        const path = mkdtempSync(join(base, `effect-smtp-${name}-`))
        chmodSync(path, 0o755)
        const child = spawn("/bin/sh", ["-c", guard, "sh", path], {
          detached: true,
          stdio: ["pipe", "ignore", "ignore"]
        })
        child.on("error", () => {})
        child.stdin.on("error", () => {})
        return { path, child }
      }),
      ({ child, path }) =>
        Effect.callback<void>((resume) => {
          rmSync(path, { recursive: true, force: true, maxRetries: 5 })
          child.once("close", () => resume(Effect.void))
          child.stdin.end("done\n")
        })
    ),
    ({ path }) => ({ path, groups: makeGroups(join(path, ".groups")) })
  )

/** Below the ports that the kernel hands out to clients, which nobody could keep free. */
const [lowest, highest] = [20_000, 32_000]

const listen = (port: number, host: string): Effect.Effect<net.Server | undefined> =>
  Effect.callback((resume) => {
    const server = net.createServer()
    server.once("error", () => resume(Effect.undefined))
    server.listen({ port, host, exclusive: true }, () => resume(Effect.succeed(server)))
  })

const close = (server: net.Server): Effect.Effect<void> =>
  Effect.callback((resume) => {
    server.close(() => resume(Effect.void))
  })

const freePort = Effect.fnUntraced(function*(hosts: ReadonlyArray<string>, held: Array<net.Server>) {
  for (;;) {
    const port = lowest + Math.floor(Math.random() * (highest - lowest))
    const servers: Array<net.Server> = []
    for (const host of hosts) {
      const server = yield* listen(port, host)
      if (server !== undefined) servers.push(server)
    }
    held.push(...servers)
    if (servers.length === hosts.length) return port
  }
})

/** A free TCP port for each name, the same on all hosts. */
export const makePorts = <const Name extends string>(
  names: ReadonlyArray<Name>,
  hosts: ReadonlyArray<string>
): Effect.Effect<{ readonly [N in Name]: number }> =>
  Effect.gen(function*() {
    const held: Array<net.Server> = []
    const ports: Array<readonly [Name, number]> = []
    for (const name of names) ports.push([name, yield* freePort(hosts, held)])
    yield* Effect.forEach(held, close, { discard: true })
    return Object.fromEntries(ports) as { readonly [N in Name]: number }
  })

/** Whether somebody accepts connections there. */
export const answers = (host: string, port: number): Effect.Effect<boolean> =>
  Effect.callback((resume) => {
    const socket = net.connect({ host, port })
    socket.once("connect", () => resume(Effect.succeed(true)))
    socket.once("error", () => resume(Effect.succeed(false)))
    socket.once("connect", () => socket.destroy())
    return Effect.sync(() => socket.destroy())
  })
