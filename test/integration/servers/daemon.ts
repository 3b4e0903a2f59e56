/** A program in a session of its own: started, watched until it answers, ended with all its processes. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import { closeSync, openSync, readdirSync, readFileSync } from "node:fs"
import { delimiter } from "node:path"
import type * as model from "./model.ts"
import { answers, type Folder, pause, StartError, until } from "./place.ts"
import { searchPath } from "./requirements.ts"

/** A daemon and where it has to answer. */
export interface Options {
  readonly folder: Folder
  readonly command: string
  readonly args: ReadonlyArray<string>
  readonly env?: Readonly<Record<string, string>> | undefined
  /** Where it answers when it is up. */
  readonly host: string
  readonly ports: ReadonlyArray<number>
  /** Its log; what it prints goes there too. */
  readonly log: string
}

const environment = { PATH: searchPath.join(delimiter), LANG: "C" }

/** Runs a program to its end; gives what it printed. */
export const run = (command: string, args: ReadonlyArray<string>, input = ""): string =>
  execFileSync(command, args, { env: environment, input, encoding: "utf8", stdio: ["pipe", "pipe", "pipe"] })

const tail = (path: string): string => {
  try {
    return readFileSync(path, "utf8").slice(-2000)
  } catch {
    return "(no log)"
  }
}

interface Process {
  readonly id: number
  readonly parent: number
  readonly session: number
}

/** A zombie that nobody has reaped is gone. */
const parseStat = (stat: string): Process | undefined => {
  const [state, parent, , session] = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
  return state === "Z" || state === "X"
    ? undefined
    : { id: Number.parseInt(stat, 10), parent: Number(parent), session: Number(session) }
}

const allProcesses = (): ReadonlyArray<Process> =>
  readdirSync("/proc").filter((name) => /^\d+$/.test(name)).flatMap((id) => {
    try {
      return parseStat(readFileSync(`/proc/${id}/stat`, "latin1")) ?? []
    } catch {
      return []
    }
  })

/** Whether a process runs; one that waits to be reaped does not. */
export const isRunning = (id: number): boolean => {
  try {
    return parseStat(readFileSync(`/proc/${id}/stat`, "latin1")) !== undefined
  } catch {
    return false
  }
}

/** The processes of a session, and the descendants of its leader that left it. */
export const processesOf = (leader: number): ReadonlyArray<number> => {
  const all = allProcesses()
  const found = new Set([leader])
  const isOurs = (one: Process) => one.session === leader || found.has(one.parent)
  for (let size = 0; size !== found.size;) {
    size = found.size
    for (const one of all.filter(isOurs)) found.add(one.id)
  }
  return [...found].filter((id) => all.some((one) => one.id === id))
}

const signal = (id: number, name: NodeJS.Signals): void => {
  try {
    process.kill(id, name)
  } catch {
    // It has ended by itself.
  }
}

const launch = ({ args, command, env, folder, log }: Options): ChildProcess => {
  const output = openSync(log, "a")
  const child = spawn(command, args, {
    cwd: folder.path,
    env: { ...environment, ...env },
    detached: true,
    stdio: ["ignore", output, output]
  })
  closeSync(output)
  child.on("error", () => {})
  return child
}

/** Dovecot forgets a SIGTERM that comes while it starts its processes; nobody else needs more than a second. */
const grace = 2500

const end = Effect.fnUntraced(function*(leader: number) {
  const started = processesOf(leader)
  signal(leader, "SIGTERM")
  const remaining = () => [...new Set([...processesOf(leader), ...started.filter(isRunning)])]
  if (yield* until(() => remaining().length === 0, grace)) return
  for (const id of remaining()) signal(id, "SIGKILL")
  yield* until(() => remaining().length === 0, 5000)
})

const isUp = Effect.fnUntraced(function*(child: ChildProcess, { command, host, log, ports }: Options) {
  const deadline = performance.now() + 20_000
  for (const port of ports) {
    while (!(yield* answers(host, port))) {
      const hasEnded = child.exitCode !== null || child.signalCode !== null || child.pid === undefined
      if (hasEnded || performance.now() > deadline) {
        return yield* new StartError({ message: `${command} did not come up on ${host}:${port}\n${tail(log)}` })
      }
      yield* pause(10)
    }
  }
})

/** Starts the daemon, and ends it with the scope. */
export const makeDaemon = Effect.fnUntraced(function*(
  options: Options
): Effect.fn.Return<model.Daemon, StartError, Scope.Scope> {
  const { groups } = options.folder
  let leader: number | undefined
  const stop = Effect.suspend(() => {
    const id = leader
    leader = undefined
    return id === undefined ? Effect.void : Effect.tap(end(id), () => Effect.sync(() => groups.delete(id)))
  }).pipe(Effect.uninterruptible)
  const start = Effect.suspend(() => {
    const child = launch(options)
    leader = child.pid
    if (leader !== undefined) groups.add(leader)
    return isUp(child, options)
  })
  yield* Effect.addFinalizer(() => Effect.ignoreCause(stop))
  yield* start
  return {
    folder: options.folder.path,
    processes: Effect.sync(() => leader === undefined ? [] : processesOf(leader)),
    stop,
    start: Effect.andThen(stop, Effect.orDie(start))
  }
})
