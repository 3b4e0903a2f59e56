/** What a sequence keeps to: the options of the connection, and how much goes wrong, and where. */
import type { Choices } from "./choices.ts"
import type * as client from "./client.ts"
import type { Deadlines } from "./wire.ts"

export interface Setting {
  readonly tls: client.Tls
  readonly protocol: "smtp" | "lmtp"
  readonly allowInsecureAuth: boolean
  readonly pipelining: boolean
  readonly chunking: boolean | "always"
  /** Whether opening the connection is also logging in. */
  readonly isLoggingIn: boolean
  /** How much more often all goes well. */
  readonly calm: number
  /** Whether little goes wrong until the connection is open. */
  readonly isWellBegun: boolean
  /** The stage where things go wrong. */
  readonly trouble: string
  readonly deadlines: Deadlines
}

export const settingOf = (choices: Choices): Setting => ({
  tls: choices.pick(["off", "off", "starttls", "off", "opportunistic", "implicit", "starttls"]),
  protocol: choices.pick(["smtp", "smtp", "lmtp"]),
  allowInsecureAuth: choices.oneIn(3),
  pipelining: !choices.oneIn(6),
  chunking: choices.pick([true, "always", true, false]),
  isLoggingIn: choices.oneIn(5),
  calm: choices.pick([20, 60, 8, 4]),
  isWellBegun: !choices.oneIn(4),
  trouble: choices.pick([
    "anywhere",
    "FINAL",
    "BODY",
    "anywhere",
    "AUTH",
    "RCPT",
    "DATA",
    "IDLE",
    "MAIL",
    "BDAT",
    "RCPT"
  ]),
  deadlines: {
    greeting: 3000,
    tls: 5000,
    command: 10_000,
    data: 7000,
    final: 20_000,
    idle: choices.pick([60_000, 15_000, 8500]),
    quit: 2000,
    // Half a millisecond more than anything else can add up to.
    total: choices.pick([Infinity, Infinity, 25_000.5, 9000.5])
  }
})
