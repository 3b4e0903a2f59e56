/** BDAT against DATA, both ours, where the server takes both: what `chunking: true` chooses by. */
import type { Args } from "../clients/model.ts"
import type { Comparison, Contender } from "../model.ts"

const kibibyte = 1024

const ours = (label: string, chunking: false | "always"): Contender => ({
  program: "ours",
  label,
  args: { options: { chunking } }
})

const compare = (name: string, load: string, args: Partial<Args>): Comparison => ({
  id: `policy-${name}`,
  row: "BDAT or DATA",
  load,
  server: { kind: "sink", offer: ["PIPELINING", "8BITMIME", "SIZE", "CHUNKING"] },
  unit: "octets",
  args: { connections: 1, task: "send", ...args },
  ours: ours("BDAT", "always"),
  peer: ours("effect-smtp DATA", false),
  targets: []
})

export const policy: ReadonlyArray<Comparison> = [
  compare("1KiB", "20 000 × 1 KiB", { size: kibibyte, messages: 20_000, warmup: 20_000 }),
  compare("1KiB-stream", "20 000 × 1 KiB, sendAll", {
    task: "sendAll",
    size: kibibyte,
    messages: 20_000,
    warmup: 20_000
  }),
  compare("64KiB", "3000 × 64 KiB as octets", { source: "octets", size: 64 * kibibyte, messages: 3000, warmup: 3000 }),
  compare("1MiB", "200 × 1 MiB as octets", { source: "octets", size: 1024 * kibibyte, messages: 200, warmup: 200 }),
  compare("256MiB", "256 MiB stream", {
    source: "stream",
    size: 262_144 * kibibyte,
    messages: 1,
    warmup: 1,
    warmupSize: 16_384 * kibibyte
  })
]
