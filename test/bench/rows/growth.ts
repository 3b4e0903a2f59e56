/** How the cost grows: with the recipients, the size, the connections. */
import type { Args } from "../clients/model.ts"
import type { Comparison } from "../model.ts"

const kibibyte = 1024

const compare = (id: string, load: string, args: Partial<Args>): Comparison => ({
  id,
  row: "growth",
  load,
  server: { kind: "smtp-sink" },
  unit: (args.size ?? 0) >= 1024 * kibibyte ? "octets" : "messages",
  args: { task: "send", connections: 1, size: kibibyte, ...args },
  ours: { program: "ours" },
  peer: { program: "nodemailer" },
  targets: []
})

const recipients = [[1, 4000], [10, 1500], [100, 200], [1000, 20]] as const

const sizes = [
  ["1 KiB", kibibyte, 4000],
  ["16 KiB", 16 * kibibyte, 2000],
  ["256 KiB", 256 * kibibyte, 200],
  ["4 MiB", 4096 * kibibyte, 16],
  ["64 MiB", 65_536 * kibibyte, 2],
  ["256 MiB", 262_144 * kibibyte, 1]
] as const

const connections = [1, 2, 4, 8, 16, 32, 64]

const count = (n: number, noun: string): string => `${n} ${noun}${n === 1 ? "" : "s"}`

export const growth: ReadonlyArray<Comparison> = [
  ...recipients.map(([n, messages]) =>
    compare(`growth-recipients-${n}`, `${messages} × 1 KiB, ${count(n, "recipient")} each`, {
      recipients: n,
      messages,
      warmup: messages
    })
  ),
  ...sizes.map(([name, size, messages]) =>
    compare(`growth-size-${name.replace(" ", "")}`, `${messages} × ${name} as octets`, {
      size,
      messages,
      source: "octets",
      warmup: messages,
      warmupSize: Math.min(size, 16_384 * kibibyte)
    })
  ),
  ...connections.map((n) =>
    compare(`growth-connections-${n}`, `6400 × 1 KiB over ${count(n, "connection")}`, {
      connections: n,
      messages: 6400,
      warmup: 6400
    })
  )
]
