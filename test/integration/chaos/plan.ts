/** What an attempt is to be: its message, its recipients, and what goes wrong with it. All of it follows from the seed. */
import * as Stream from "effect/Stream"
import { Buffer } from "node:buffer"
import { createHash } from "node:crypto"
import type { Message, Timeouts } from "../../../src/SmtpConnection.ts"
import type { Backend } from "./backend.ts"
import type { Fault, Trigger } from "./proxy.ts"
import * as Random from "./random.ts"

/** The error of a source that breaks. */
export const broken = "broken"

/** The last line of every message. */
export const mark = "-- the end\r\n"

/** Attempts beyond this one have no faults, and none is made beyond {@link maxAttempts}. */
const calmAfter = 6
export const maxAttempts = 14

export interface Attempt {
  readonly message: number
  readonly attempt: number
  readonly sender: string
  readonly recipients: ReadonlyArray<string>
  readonly source: Message<typeof broken>
  readonly sha256: string
  /** Octets of the body on the wire, with dots stuffed and the terminator. */
  readonly wire: number
  readonly fault: Fault | undefined
  /** Deadlines of its own; it then has a connection of its own too. */
  readonly timeouts: Timeouts | undefined
  /** A deadline over the call of the client, QUIT included, in milliseconds. */
  readonly within: number | undefined
  /** Whether it goes ahead although the server is known to be down. */
  readonly isReckless: boolean
}

/** Text in canonical form, some lines with dots, to cut messages from. */
const makeCorpus = (seed: string): string => {
  const random = Random.make(seed, "corpus")
  const lines: Array<string> = []
  for (let size = 0; size < 400_000;) {
    const dots = random.chance(0.1) ? ".".repeat(random.int(1, 3)) : ""
    const line = dots + "abcdefghij klmnopqrstuvwxyz 0123456789 ".repeat(25).slice(0, random.int(0, 120) ** 1.4)
    lines.push(line)
    size += line.length + 2
  }
  return lines.join("\r\n")
}

const corpora = new Map<string, string>()
const corpusOf = (seed: string): string => {
  const corpus = corpora.get(seed) ?? makeCorpus(seed)
  corpora.set(seed, corpus)
  return corpus
}

/** From 100 octets to 300 kB, small ones as often as large ones. */
const textOf = (seed: string, sender: string, random: Random.Random): string => {
  const size = Math.round(100 * 3000 ** random.real())
  const corpus = corpusOf(seed)
  const from = random.int(0, corpus.length - size)
  const head = `X-Chaos: ${sender}\r\nSubject: chaos\r\n\r\n`
  const room = Math.max(0, size - head.length - mark.length - 2)
  const text = corpus.slice(from, from + room).replace(/^\n|\r$/g, "")
  return `${head}${text}\r\n${mark}`
}

const wireOf = (text: string): number => text.length + text.split("\r\n.").length - 1 + ".\r\n".length

/** The same text as a string, as octets, or as a stream of pieces, which may break. */
const sourceOf = (text: string, random: Random.Random, breaks: boolean): Message<typeof broken> => {
  const kind = breaks ? "stream" : random.pick(["string", "octets", "stream"])
  if (kind === "string") return random.chance(0.3) ? text.replaceAll("\r\n", "\n") : text
  const octets = Buffer.from(text, "latin1")
  if (kind === "octets") return octets
  const size = random.pick([1000, 16_384, 65_536, 200_000])
  const pieces: Array<Uint8Array> = []
  for (let at = 0; at < octets.length; at += size) pieces.push(octets.subarray(at, at + size))
  const end = random.int(0, pieces.length)
  const stream = Stream.fromIterable(breaks ? pieces.slice(0, end) : pieces).pipe(
    Stream.rechunk(random.pick([1, 4]))
  )
  return breaks ? Stream.concat(stream, Stream.fail(broken)) : stream
}

const triggerOf = (random: Random.Random, wire: number): Trigger => {
  switch (random.pick(["early", "command", "reply", "body", "slice", "dot", "final", "final"])) {
    case "early":
      return { after: "client", octets: random.int(0, 20) }
    case "command":
      return { after: "client", octets: random.int(0, 250) }
    case "reply":
      return { after: "server", octets: random.int(0, 500) }
    case "body":
      return { after: "body", octets: random.int(0, wire) }
    case "slice":
      return { after: "body", octets: random.int(Math.max(0, wire - 66_000), wire) }
    case "dot":
      return { after: "body", octets: random.int(Math.max(0, wire - 7), wire) }
    case "final":
      return { after: "final", octets: random.int(0, 60) }
  }
}

const deadline = ["total", "command", "data", "final"] as const

type Wrong = Pick<Attempt, "fault" | "timeouts" | "within"> & { readonly breaks: boolean }

const wrongOf = (random: Random.Random, wire: number): Wrong => {
  const none = { fault: undefined, timeouts: undefined, within: undefined, breaks: false }
  const fault = (act: Fault["act"]): Fault => ({
    trigger: triggerOf(random, wire),
    act,
    server: random.pick(["FIN", "RST"])
  })
  const soon = () => random.int(1, 40)
  switch (
    random.pick(["FIN", "FIN", "RST", "RST", "interrupt", "interrupt", "stall", "stall", "total", "within", "source"])
  ) {
    case "FIN":
      return { ...none, fault: fault("FIN") }
    case "RST":
      return { ...none, fault: fault("RST") }
    case "interrupt":
      return { ...none, fault: fault("interrupt") }
    case "stall": {
      const name = random.pick([...deadline, "within"])
      const stall = { ...none, fault: fault("stall") }
      return name === "within"
        ? { ...stall, within: 20 + soon() }
        : { ...stall, timeouts: { idle: 1000, greeting: 1000, command: 1000, [name]: 20 + soon() } }
    }
    case "total":
      return { ...none, timeouts: { total: soon() } }
    case "within":
      return { ...none, within: soon() }
    case "source":
      return { ...none, breaks: true }
  }
}

const recipientsOf = (random: Random.Random, backend: Backend, isCalm: boolean): ReadonlyArray<string> => {
  const count = random.chance(0.3) ? random.int(2, 4) : 1
  const fate = (n: number): string => {
    if (isCalm || !random.chance(count > 1 ? 0.15 : 0.04)) return `ok${n}`
    return random.pick(["reject", "defer", "defer", backend.hasLate ? "late" : "defer"])
  }
  return [...new Set(Array.from({ length: count }, (_, n) => `${fate(n)}@${backend.domain}`))]
}

/** The n-th attempt (from 1) at a message. */
export const make = (seed: string, backend: Backend, message: number, attempt: number): Attempt => {
  const random = Random.make(seed, backend.name, message, attempt)
  const isCalm = attempt > calmAfter
  const sender = `${message}.${attempt}@${backend.domain}`
  const text = textOf(seed, sender, random)
  const wire = wireOf(text)
  const { breaks, ...wrong } = !isCalm && random.chance(0.4)
    ? wrongOf(random, wire)
    : { fault: undefined, timeouts: undefined, within: undefined, breaks: false }
  return {
    message,
    attempt,
    sender,
    recipients: recipientsOf(random, backend, isCalm),
    source: sourceOf(text, random, breaks),
    sha256: createHash("sha256").update(text, "latin1").digest("hex"),
    wire,
    ...wrong,
    isReckless: random.chance(0.2)
  }
}
