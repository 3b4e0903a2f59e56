/** Postfix's smtp-sink: no TLS, one port for each fault. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { chmodSync, mkdirSync } from "node:fs"
import { join } from "node:path"
import { makeDaemon, run } from "./daemon.ts"
import { accounts, type Daemon, type Server, type Store, type Stored } from "./model.ts"
import { type Folder, makeFolder, makePorts } from "./place.ts"
import { isRoot } from "./requirements.ts"
import { makeStore, readFolders } from "./store.ts"

/** What smtp-sink is told for each port. */
const switches = {
  plain: [],
  lmtp: ["-L"],
  dump: ["-d", "dump/"],
  lmtpDump: ["-L", "-d", "dump/"],
  noPipelining: ["-p"],
  heloOnly: ["-e"],
  pix: ["-P"],
  refuseRcpt: ["-f", "RCPT"],
  deferDot: ["-r", "."],
  abort: ["-A", "0"],
  dropData: ["-q", "DATA"],
  close421: ["-Q", "RCPT"],
  busy: ["-Q", "CONNECT"],
  slowDot: ["-W", ".:1"],
  tarpit: ["-W", "EHLO:3600"]
} as const satisfies Readonly<Record<string, ReadonlyArray<string>>>

/**
 * The ports.
 *
 * - `plain`, `lmtp`: take everything and keep nothing; `dump`, `lmtpDump`: keep it, which `stored` shows
 * - `noPipelining`; `heloOnly`: EHLO is refused; `pix`: so too, after a greeting of stars, like a Cisco PIX
 * - `refuseRcpt`: 500 to RCPT; `deferDot`: 450 to the final dot; `abort`: 550 when the first octets have come, and close
 * - `dropData`: closes at DATA; `close421`: 421 and close at RCPT; `busy`: 421 and close in the greeting
 * - `slowDot`: the reply to the final dot takes a second; `tarpit`: EHLO is answered after an hour
 */
export type Port = keyof typeof switches

/**
 * smtp-sink. It offers AUTH, and answers 250 to it, which is no answer to AUTH: EPROTOCOL. A message is stored once,
 * whatever the number of its recipients, and its line ends are given back as CRLF.
 * The file of a message grows while it comes: await it after its reply.
 */
export interface Service extends Omit<Server<Port>, "ca">, Daemon, Store {}

/** smtp-sink. */
export class SmtpSink extends Context.Service<SmtpSink, Service>()("test/integration/SmtpSink") {}

const host = "127.0.0.1"

const argument = (line: string): string => /<(.*?)>/.exec(line)?.[1] ?? ""

const toCrlf = (octets: Uint8Array): Buffer =>
  Buffer.from(Buffer.from(octets).toString("latin1").replace(/\n/g, "\r\n"), "latin1")

/** X- lines with the envelope, a Received field of three lines, the message, and an empty line. */
const parse = (octets: Buffer, path: string): Stored => {
  const envelope: Array<string> = []
  let at = 0
  const line = (): string => {
    const lf = octets.indexOf(0x0a, at)
    const text = octets.subarray(at, lf).toString("utf8")
    at = lf + 1
    return text
  }
  while (octets.subarray(at, at + 2).toString("latin1") === "X-") envelope.push(line())
  const start = at
  for (let n = 0; n < 3; n++) line()
  const field = (name: string) => envelope.filter((one) => one.startsWith(`${name}: `)).map(argument)
  return {
    id: path.slice(path.lastIndexOf("/") + 1),
    sender: field("X-Mail-Args")[0] ?? "",
    recipients: field("X-Rcpt-Args"),
    username: undefined,
    trace: toCrlf(octets.subarray(start, at)).toString("latin1"),
    bytes: toCrlf(octets.subarray(at, -1))
  }
}

/** smtp-sink wants to be nobody when root starts it. */
const privileges = isRoot ? ["-u", "nobody"] : []

const makeSink = (folder: Folder, name: Port, port: number) =>
  makeDaemon({
    folder,
    command: "smtp-sink",
    args: [...privileges, "-m", "1000", "-h", "sink.mx.test", ...switches[name], `${host}:${port}`, "1024"],
    host,
    ports: [port],
    log: join(folder.path, `${name}.log`)
  })

const names = Object.keys(switches) as ReadonlyArray<Port>

const make = Effect.gen(function*() {
  const folder = yield* makeFolder("sink")
  const dump = join(folder.path, "dump")
  yield* Effect.sync(() => {
    mkdirSync(dump)
    chmodSync(dump, 0o777)
  })
  const ports = yield* makePorts(names, [host])
  const sinks = yield* Effect.forEach(names, (name) => makeSink(folder, name, ports[name]), { concurrency: 4 })
  const all = (act: (sink: Daemon) => Effect.Effect<void>) =>
    Effect.forEach(sinks, act, { concurrency: 4, discard: true })
  return SmtpSink.of({
    describe: { name: "smtp-sink", version: run("postconf", ["-dh", "mail_version"]).trim() },
    host,
    ports,
    accounts,
    folder: folder.path,
    ...makeStore(readFolders(() => [dump], parse)),
    processes: Effect.map(Effect.forEach(sinks, (sink) => sink.processes), (ids) => ids.flat()),
    stop: all((sink) => sink.stop),
    start: all((sink) => sink.start)
  })
})

/** smtp-sinks of its own for the layer's life. */
export const layer: Layer.Layer<SmtpSink> = Layer.effect(SmtpSink, Effect.orDie(Effect.retry(make, { times: 2 })))
