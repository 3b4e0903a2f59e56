/** A server 50 ms away. */
import { atLeast, atMost, type Comparison, type Offer, type Server } from "../model.ts"

const sink = (...offer: ReadonlyArray<Offer>): Server => ({
  kind: "sink",
  offer: ["PIPELINING", "8BITMIME", "SIZE", ...offer]
})

const base = {
  row: "slow link",
  unit: "messages",
  // The first message is not measured: nothing is known of the connection then.
  args: { task: "send", connections: 1, messages: 200, warmup: 1, size: 1024 },
  peer: { program: "nodemailer" },
  roundTrip: 50
} as const

const load = (how: string): string => `200 × 1 KiB over 1 connection, 50 ms round trip, ${how}`

/** What a round trip takes on this network, on this machine, at this time: packets are held back by a program. */
const measured = {
  extra: { contender: { program: "raw", args: { task: "send", messages: 50 } }, server: sink() },
  note: ({ extra }) =>
    extra === undefined ? "" : `a bare round trip took ${(extra.wall / extra.messages / 2 * 1000).toFixed(1)} ms`
} satisfies Partial<Comparison>

export const slowLink: ReadonlyArray<Comparison> = [
  {
    ...base,
    ...measured,
    id: "slow-link-chunking",
    load: load("CHUNKING offered"),
    server: sink("CHUNKING"),
    ours: { program: "ours", label: "send" },
    targets: [atMost("roundTrips", 1.1)]
  },
  {
    ...base,
    ...measured,
    id: "slow-link-pipelining",
    load: load("PIPELINING alone"),
    server: sink(),
    ours: { program: "ours", label: "send" },
    targets: [atMost("roundTrips", 2.1)]
  },
  {
    ...base,
    id: "slow-link-stream",
    load: load("CHUNKING offered"),
    server: sink("CHUNKING"),
    ours: { program: "ours", label: "sendAll", args: { task: "sendAll" } },
    targets: [atLeast("speed", 20)]
  },
  {
    ...base,
    id: "slow-link-stream-pipelining",
    load: load("PIPELINING alone"),
    server: sink(),
    ours: { program: "ours", label: "sendAll", args: { task: "sendAll" } },
    targets: []
  }
]
