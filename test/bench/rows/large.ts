/** One message that is too large to hold, to a sink that only looks for its end. */
import type { Args, Content } from "../clients/model.ts"
import { atLeast, atMost, type Comparison, type Contender, type Offer, type Server } from "../model.ts"

const mebibyte = 1024 * 1024

const sink = (...offer: ReadonlyArray<Offer>): Server => ({
  kind: "sink",
  offer: ["PIPELINING", "8BITMIME", "SIZE", ...offer],
  scan: "end"
})

const ours: Contender = { program: "ours" }
const nodemailer: Contender = { program: "nodemailer" }
const raw: Contender = { program: "raw", label: "socket.write loop" }

const large = (content: Content, size = 256): Partial<Args> => ({
  task: "send",
  source: "stream",
  messages: 1,
  warmup: 1,
  warmupSize: 64 * mebibyte,
  content,
  size: size * mebibyte
})

const names = { lines: "CRLF lines of 78 octets", base64: "base64" } as const

const data = (content: "lines" | "base64"): ReadonlyArray<Comparison> => {
  const base = {
    row: "large, DATA",
    load: `256 MiB stream of ${names[content]}`,
    server: sink(),
    unit: "octets",
    args: large(content),
    ours
  } as const
  return [
    {
      ...base,
      id: `large-data-${content}`,
      peer: raw,
      targets: [atMost("cpu", 2), atLeast("speed", 0.5), atMost("growth", 40)]
    },
    {
      ...base,
      id: `large-data-${content}-nodemailer`,
      peer: nodemailer,
      targets: [atMost("cpu", 0.71), atLeast("speed", 1.4)]
    }
  ]
}

const bdat: Comparison = {
  id: "large-bdat",
  row: "large, BDAT",
  load: "256 MiB stream as BODY=BINARYMIME",
  server: sink("CHUNKING", "BINARYMIME"),
  unit: "octets",
  args: { ...large("lines"), envelope: { binaryMime: true } },
  ours,
  peer: { ...raw, args: { bdat: true } },
  targets: [atMost("cpu", 1.11), atLeast("speed", 0.9), atMost("growth", 40)]
}

const bdatText: Comparison = {
  ...bdat,
  id: "large-bdat-text",
  load: "256 MiB stream of CRLF lines, chunking: \"always\"",
  args: { ...large("lines"), options: { chunking: "always" } },
  targets: []
}

const secure: Server = { kind: "sink", offer: ["PIPELINING", "8BITMIME", "SIZE"], scan: "end", tls: "implicit" }

const tls = {
  row: "large, TLS",
  load: "256 MiB stream of CRLF lines of 78 octets over TLS",
  server: secure,
  unit: "octets",
  args: { ...large("lines"), tls: "implicit" },
  ours,
  targets: []
} as const

const percent = (share: number): string => `${Math.round(share * 100)} %`

const overTls: ReadonlyArray<Comparison> = [
  {
    ...tls,
    id: "large-tls",
    peer: { ...raw, label: "tls write loop" },
    extra: { contender: { ...raw, args: { tls: "off" } }, server: sink() },
    note: ({ extra, ours, peer }) =>
      extra === undefined ? "" : `the cipher is ${percent((peer.cpu - extra.cpu) / ours.cpu)} of our CPU`
  },
  { ...tls, id: "large-tls-nodemailer", peer: nodemailer }
]

const worst = (content: Content, what: string): Comparison => ({
  id: `worst-${content}`,
  row: "worst-case body",
  load: `64 MiB stream of ${what}`,
  server: sink(),
  unit: "octets",
  args: { ...large(content, 64), warmupSize: 32 * mebibyte },
  ours,
  peer: nodemailer,
  targets: [atMost("cpu", 0.5), atLeast("speed", 2)]
})

export const rows: ReadonlyArray<Comparison> = [
  ...data("lines"),
  ...data("base64"),
  bdat,
  bdatText,
  ...overTls,
  worst("dots", "\".\" and CRLF"),
  worst("bareLf", "bare-LF lines of 78 octets"),
  worst("lfOnly", "bare LF alone")
]
