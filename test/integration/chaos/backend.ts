/** What the proxy stands before: a server that can be stopped and started, and what it stored. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type ChildProcess, spawn } from "node:child_process"
import { createHash } from "node:crypto"
import { once } from "node:events"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { type Daemon, domain, recipients, type Store, type Stored } from "../servers/model.ts"
import { mark } from "./message.ts"

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
  /** Addresses that take mail. */
  readonly mailboxes: readonly [string, ...ReadonlyArray<string>]
  /** Addresses that the server refuses to RCPT or after the message. */
  readonly refused: ReadonlyArray<string>
  /** Whether it may say 421 for a message that it took, when it is stopped at that moment. */
  readonly deniesWhenStopped: boolean
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
    mailboxes: ["ok0@chaos.test", "ok1@chaos.test", "ok2@chaos.test", "ok3@chaos.test"],
    refused: ["reject@chaos.test", "defer@chaos.test", "defer2@chaos.test", "late@chaos.test"],
    deniesWhenStopped: false,
    kill: Effect.promise(() => end(child, "SIGKILL")),
    stop: Effect.promise(() => end(child, "SIGTERM")),
    start,
    kept: Effect.sync(() => parse(readFileSync(file, "utf8")))
  }
})

interface Place {
  readonly name: string
  readonly host: string
  readonly port: number
  readonly protocol?: "smtp" | "lmtp"
}

/** A server of the harness. A message that has no end there is one that smtp-sink was stopped in the middle of. */
const makeReal = (
  server: Daemon & Store,
  { host, name, port, protocol = "smtp" }: Place,
  rest: Pick<Backend, "mailboxes" | "refused" | "deniesWhenStopped">
): Backend => {
  const digests = new Map<string, string>()
  const digestOf = ({ bytes, id }: Stored): string => {
    const known = digests.get(id) ?? createHash("sha256").update(bytes).digest("hex")
    digests.set(id, known)
    return known
  }
  const isWhole = ({ bytes }: Stored): boolean => Buffer.from(bytes.subarray(-mark.length)).toString("latin1") === mark
  // A server that is stopped in the middle of its own delivery delivers again, under the same id.
  const unique = (mails: ReadonlyArray<Stored>) => new Map(mails.map((mail) => [mail.id, mail])).values()
  return {
    name,
    protocol,
    tls: false,
    address: () => ({ host, port }),
    ...rest,
    kill: server.stop,
    stop: server.stop,
    start: server.start,
    kept: Effect.map(server.stored, (mails) =>
      [...unique(mails.filter(isWhole))].map((mail) => ({
        sender: mail.sender,
        recipients: mail.recipients,
        sha256: digestOf(mail)
      })))
  }
}

const four = (name: string) => [0, 1, 2, 3].map((n) => `${name}${n}@${domain}`) as [string, ...Array<string>]

/** smtp-sink takes everything. */
export const makeSink = (server: Daemon & Store, place: Place): Backend =>
  makeReal(server, place, { mailboxes: four("ok"), refused: [], deniesWhenStopped: false })

export const makePostfix = (server: Daemon & Store, place: Place): Backend =>
  makeReal(server, place, {
    mailboxes: four("ok"),
    refused: [recipients.reject, recipients.defer],
    deniesWhenStopped: false
  })

export const makeDovecot = (server: Daemon & Store, place: Place): Backend =>
  makeReal(server, place, {
    mailboxes: [`alice@${domain}`, `bob@${domain}`, `carol@${domain}`, `dave@${domain}`],
    refused: [recipients.reject],
    deniesWhenStopped: true
  })
