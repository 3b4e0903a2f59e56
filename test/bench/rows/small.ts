/** Many small messages, to smtp-sink. */
import { atLeast, atMost, type Comparison, type Contender } from "../model.ts"
import { hasSmtpSource } from "../processes.ts"

const nodemailer: Contender = { program: "nodemailer", args: { task: "send" } }
const ours = (task: "send" | "sendAll"): Contender => ({ program: "ours", label: task, args: { task } })

const base = {
  server: { kind: "smtp-sink" },
  unit: "messages",
  args: { connections: 4, messages: 20_000, warmup: 20_000, size: 1024 },
  load: "20 000 × 1 KiB over 4 connections"
} as const

const one = {
  ...base,
  row: "one connection",
  load: "20 000 × 1 KiB over 1 connection",
  args: { ...base.args, connections: 1 }
}

/** Peers that measure themselves from their start on: in so many messages it does not count. */
const long = { messages: 100_000 }

/** What a process pays until V8 has compiled its code: the first messages of its life. */
const first = { ...base, row: "small, cold", args: { ...base.args, warmup: 0 }, peer: nodemailer, targets: [] }

export const small: ReadonlyArray<Comparison> = [
  {
    ...base,
    id: "small-sequential",
    row: "small, sequential",
    ours: ours("send"),
    peer: nodemailer,
    targets: [atMost("cpu", 0.8), atLeast("speed", 1.5)]
  },
  {
    ...base,
    id: "small-stream",
    row: "small, stream",
    ours: ours("sendAll"),
    peer: nodemailer,
    targets: [atMost("cpu", 0.5), atLeast("speed", 2.5)]
  },
  { ...first, id: "small-sequential-cold", ours: ours("send") },
  { ...first, id: "small-stream-cold", ours: ours("sendAll") },
  {
    ...base,
    id: "small-stream-pipe2",
    row: "small, stream",
    ours: ours("sendAll"),
    peer: { program: "rawnode", label: "pipe2", args: long },
    targets: [atLeast("speed", 0.6)]
  },
  {
    ...base,
    id: "small-stream-source",
    row: "small, stream",
    ours: ours("sendAll"),
    peer: { program: "smtp-source", label: "smtp-source -d -s 4", args: long },
    targets: [atLeast("speed", 1)],
    missing: () => hasSmtpSource() ? undefined : "smtp-source is not installed (Debian package postfix)"
  },
  { ...one, id: "one-connection", ours: ours("send"), peer: nodemailer, targets: [atMost("cpu", 0.8)] },
  { ...one, id: "one-connection-stream", ours: ours("sendAll"), peer: nodemailer, targets: [atMost("cpu", 0.5)] },
  {
    ...base,
    id: "small-limit",
    row: "small, limit",
    ours: ours("send"),
    peer: { program: "rawnode", label: "pipe", args: long },
    targets: []
  }
]
