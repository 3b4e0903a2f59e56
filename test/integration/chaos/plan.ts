/** What an attempt is to be: its message, its recipients, and what goes wrong with it. All of it follows from the seed. */
import { createHash } from "node:crypto"
import type { Message, Timeouts } from "../../../src/SmtpConnection.ts"
import type { Backend } from "./backend.ts"
import { type broken, sourceOf, textOf, wireOf } from "./message.ts"
import type { Fault, Trigger } from "./proxy.ts"
import * as Random from "./random.ts"

/** Attempts beyond this one have no faults, and none is made beyond {@link maxAttempts}. */
const calmAfter = 6
export const maxAttempts = 14

export interface Attempt {
  readonly message: number
  readonly attempt: number
  readonly sender: string
  readonly recipients: ReadonlyArray<string>
  /** Who of them the server refuses. */
  readonly refused: ReadonlySet<string>
  readonly source: Message<typeof broken>
  readonly sha256: string
  /** Octets of the text. */
  readonly size: number
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

/** Over TLS the proxy sees octets alone. */
const blindTriggerOf = (random: Random.Random, wire: number): Trigger =>
  random.chance(0.3)
    ? { after: "server", octets: random.int(0, 5000) }
    : { after: "client", octets: random.int(0, wire + 2500) }

const triggerOf = (random: Random.Random, wire: number, isBlind: boolean): Trigger => {
  if (isBlind) return blindTriggerOf(random, wire)
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

const wrongOf = (random: Random.Random, wire: number, isBlind: boolean): Wrong => {
  const none = { fault: undefined, timeouts: undefined, within: undefined, breaks: false }
  const fault = (act: Fault["act"]): Fault => ({
    trigger: triggerOf(random, wire, isBlind),
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
      return { ...none, fault: fault(random.chance(0.5) ? "interrupt" : "strand") }
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

const recipientsOf = (
  random: Random.Random,
  { mailboxes, refused: [refused, ...more] }: Backend,
  isCalm: boolean
): ReadonlyArray<string> => {
  const count = random.chance(0.3) ? random.int(2, mailboxes.length) : 1
  const bad = isCalm ? 0 : count > 1 ? 0.15 : 0.03
  return [
    ...new Set(
      mailboxes.slice(0, count).map((mailbox) =>
        refused !== undefined && random.chance(bad) ? random.pick([refused, ...more]) : mailbox
      )
    )
  ]
}

/** The n-th attempt (from 1) at a message. */
export const make = (seed: string, backend: Backend, message: number, attempt: number): Attempt => {
  const random = Random.make(seed, backend.name, message, attempt)
  const isCalm = attempt > calmAfter
  const sender = `${message}.${attempt}@chaos.test`
  const text = textOf(seed, sender, random)
  const wire = wireOf(text)
  const { breaks, ...wrong } = !isCalm && random.chance(backend.tls ? 0.2 : 0.25)
    ? wrongOf(random, wire, backend.tls)
    : { fault: undefined, timeouts: undefined, within: undefined, breaks: false }
  return {
    message,
    attempt,
    sender,
    recipients: recipientsOf(random, backend, isCalm),
    refused: new Set(backend.refused),
    source: sourceOf(text, random, breaks),
    sha256: createHash("sha256").update(text, "latin1").digest("hex"),
    size: text.length,
    wire,
    ...wrong,
    isReckless: random.chance(0.2)
  }
}
