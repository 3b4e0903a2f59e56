/** The processes of a bench: servers and clients, each on its CPU, all ended with the scope or the run. */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { type ChildProcess, spawn } from "node:child_process"
import * as net from "node:net"
import { availableParallelism } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { makeCertificate } from "../../src/node/certificate.ts"
import { find } from "../integration/network/rules.ts"
import { isRoot } from "../integration/servers/requirements.ts"
import { build } from "./build.ts"
import type { Args, Sample } from "./clients/model.ts"
import { BenchError, type Contender, type Server } from "./model.ts"

/** Minutes that one client may take. */
const limit = "4 minutes"

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url))

/** Where processes run: words in front of their command, e.g. to enter a network namespace. */
export interface Place {
  readonly prefix: ReadonlyArray<string>
  /** Maps the port of a server to the one that clients are told. */
  readonly through: (port: number) => Effect.Effect<number, never, Scope.Scope>
}

export const home: Place = { prefix: [], through: Effect.succeed }

const canPin = find("taskset") !== undefined && availableParallelism() > 1

/** What is not as the bench wants it on this machine. */
export const warnings = (): ReadonlyArray<string> => [
  ...canPin ? [] : ["server and clients were not pinned to CPUs of their own (needs taskset and two CPUs)"],
  ...find("smtp-sink") === undefined ? ["smtp-sink is not installed: the bench's own sink stood in"] : []
]

export const hasSmtpSource = (): boolean => find("smtp-source") !== undefined

const start = (cpu: 0 | 1, place: Place, command: ReadonlyArray<string>): ChildProcess => {
  const [program = "", ...args] = [...place.prefix, ...canPin ? ["taskset", "-c", String(cpu)] : [], ...command]
  return spawn(find(program) ?? program, args, { stdio: ["pipe", "pipe", "pipe"] })
}

/** Ends a process and waits until it is gone. */
const end = (child: ChildProcess): Effect.Effect<void> =>
  Effect.callback<void>((done) => {
    if (child.exitCode !== null || child.signalCode !== null) return done(Effect.void)
    child.once("close", () => done(Effect.void))
    child.kill("SIGKILL")
  })

const gather = (child: ChildProcess) => {
  const texts = { stdout: "", stderr: "" }
  child.stdout?.on("data", (part) => texts.stdout += String(part))
  child.stderr?.on("data", (part) => texts.stderr += String(part))
  return texts
}

const failed = (what: string, texts: { readonly stdout: string; readonly stderr: string }): BenchError =>
  new BenchError({ message: `${what}: ${`${texts.stderr}${texts.stdout}`.trim().slice(0, 600)}` })

/** Runs a program to its end; what it printed. */
const output = (place: Place, command: ReadonlyArray<string>): Effect.Effect<string, BenchError> =>
  Effect.callback<string, BenchError>((resume) => {
    const child = start(1, place, command)
    const texts = gather(child)
    const what = command.map((word) => word.replace(/^.*\//, "")).join(" ").slice(0, 120)
    child.once("error", (error) => resume(Effect.fail(new BenchError({ message: `${what}: ${error.message}` }))))
    child.once("close", (code) => {
      resume(code === 0 ? Effect.succeed(texts.stdout) : Effect.fail(failed(`${what} ended with ${code}`, texts)))
    })
    return end(child)
  }).pipe(Effect.timeoutOrElse({
    duration: limit,
    orElse: () => Effect.fail(new BenchError({ message: `${command[1] ?? ""} did not end within ${limit}` }))
  }))

/** A process that lives as long as the scope; gives the first line that it prints. */
export const daemon = (place: Place, command: ReadonlyArray<string>): Effect.Effect<string, BenchError, Scope.Scope> =>
  Effect.gen(function*() {
    const child = yield* Effect.acquireRelease(Effect.sync(() => start(0, place, command)), end)
    child.stdin?.on("error", () => {})
    const texts = gather(child)
    return yield* Effect.callback<string, BenchError>((resume) => {
      child.once("error", (error) => resume(Effect.fail(new BenchError({ message: error.message }))))
      child.once("close", () => resume(Effect.fail(failed(`${command[0]} ended`, texts))))
      child.stdout?.on("data", () => {
        if (texts.stdout.includes("\n")) resume(Effect.succeed(texts.stdout.split("\n")[0]!))
      })
    })
  })

const freePort = Effect.callback<number>((resume) => {
  const server = net.createServer()
  server.listen(0, "127.0.0.1", () => {
    const { port } = server.address() as net.AddressInfo
    server.close(() => resume(Effect.succeed(port)))
  })
})

const isListening = (port: number): Effect.Effect<void, BenchError> =>
  Effect.callback<void, BenchError>((resume) => {
    const socket = net.connect(port, "127.0.0.1")
    socket.once("connect", () => {
      socket.destroy()
      resume(Effect.void)
    })
    socket.once("error", (error) => resume(Effect.fail(new BenchError({ message: `smtp-sink: ${error.message}` }))))
    return Effect.sync(() => socket.destroy())
  })

const smtpSink = Effect.gen(function*() {
  const port = yield* freePort
  const privileges = isRoot ? ["-u", "nobody"] : []
  const command = ["smtp-sink", ...privileges, "-m", "2000", "-h", "sink", `127.0.0.1:${port}`, "1024"]
  yield* Effect.acquireRelease(Effect.sync(() => start(0, home, command)), end)
  yield* isListening(port).pipe(Effect.retry({ schedule: Schedule.spaced("20 millis"), times: 250 }))
  return port
})

const certificate = makeCertificate({ commonName: "sink.test", altNames: ["DNS:localhost", "IP:127.0.0.1"] })

export interface Serving {
  readonly port: number
  readonly ca: string | undefined
  /** For the table. */
  readonly name: string
}

const ownSink = Effect.fnUntraced(function*(place: Place, server: Extract<Server, { readonly kind: "sink" }>) {
  const isSecure = server.tls !== undefined && server.tls !== "off"
  const options = { ...server, ...isSecure ? certificate : {} }
  const port = yield* place.through(
    Number(yield* daemon(place, [process.execPath, here("sink.cjs"), JSON.stringify(options)]))
  )
  return { port, ca: isSecure ? certificate.cert : undefined, name: "own sink" }
})

/** Starts a server for the scope's life. Where there is no smtp-sink, or no way to it, ours stands in. */
export const serve = (place: Place, server: Server): Effect.Effect<Serving, BenchError, Scope.Scope> => {
  switch (server.kind) {
    case "none":
      return Effect.succeed({ port: 0, ca: undefined, name: "no server" })
    case "sink":
      return ownSink(place, server)
    case "smtp-sink":
      return find("smtp-sink") === undefined || place !== home
        ? ownSink(place, { kind: "sink", offer: ["PIPELINING", "8BITMIME"] })
        : Effect.map(smtpSink, (port) => ({ port, ca: undefined, name: "smtp-sink" }))
  }
}

const nodeClient = Effect.fnUntraced(function*(place: Place, program: string, args: Partial<Args>) {
  const flags = args.task === "idle" ? ["--expose-gc"] : []
  const script = join(yield* build, `test/bench/clients/${program}.js`)
  const text = yield* output(place, [process.execPath, ...flags, script, JSON.stringify(args)])
  return JSON.parse(text) as Sample
})

/** It measures itself, with its start: CPU seconds since the process began. */
const rawnode = Effect.fnUntraced(function*(place: Place, args: Partial<Args>, mode: string) {
  const { connections = 1, messages = 1, port = 0, size = 1024 } = args
  const words = [port, connections, messages, size].map(String)
  const text = yield* output(place, [process.execPath, here("rawnode.cjs"), ...words, mode])
  const [, wall, cpu] = /: ([\d.]+) s .* cpu ([\d.]+) s/.exec(text) ?? []
  if (wall === undefined) return yield* failed("rawnode", { stdout: text, stderr: "" })
  return { cpu: Number(cpu), wall: Number(wall), messages, octets: messages * size, growth: 0 }
})

/** bash measures it. */
const smtpSource = Effect.fnUntraced(function*(place: Place, args: Partial<Args>) {
  const { connections = 1, messages = 1, port = 0, size = 1024 } = args
  const source = [find("smtp-source") ?? "smtp-source", "-d", "-s", connections, "-m", messages, "-l", size]
  const script = `TIMEFORMAT="%R %U %S"; { time ${source.join(" ")} 127.0.0.1:${port}; } 2>&1`
  const text = yield* output(place, ["bash", "-c", script])
  const [wall = Number.NaN, user = 0, system = 0] = text.trim().split(" ").map(Number)
  if (!Number.isFinite(wall)) return yield* failed("smtp-source", { stdout: text, stderr: "" })
  return { cpu: user + system, wall, messages, octets: messages * size, growth: 0 }
})

/** Runs a contender once. */
export const sample = (
  place: Place,
  { program, label }: Contender,
  args: Partial<Args>
): Effect.Effect<Sample, BenchError> => {
  switch (program) {
    case "rawnode":
      return rawnode(place, args, label ?? "seq")
    case "smtp-source":
      return smtpSource(place, args)
    default:
      return nodeClient(place, program, args)
  }
}
