import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { EventEmitter } from "node:events"
import { createRequire } from "node:module"
import { makeCertificate } from "../src/node/certificate.ts"
import * as content from "./bench/clients/content.ts"
import { type Args, defaults, type Sample } from "./bench/clients/model.ts"
import * as nodemailer from "./bench/clients/nodemailer.ts"
import * as ours from "./bench/clients/ours.ts"
import * as raw from "./bench/clients/raw.ts"
import { atLeast, atMost, type Outcome } from "./bench/model.ts"
import { byFile, byFunction, type Profile, show } from "./bench/profile.ts"
import { rows } from "./bench/rows/index.ts"
import { judge, mediansOf, metricsOf, type Pair } from "./bench/statistics.ts"
import { document, figure, render } from "./bench/table.ts"

interface Stats {
  readonly connections: number
  readonly messages: number
  readonly octets: number
}

interface SinkModule {
  readonly Session: new(socket: object, options: object, stats: Stats) => { readonly greet: () => void }
  readonly start: (options: object) => Promise<
    { readonly port: number; readonly stats: Stats; readonly stop: () => void }
  >
}

const sink = createRequire(import.meta.url)("./bench/sink.cjs") as SinkModule

const certificate = makeCertificate({ commonName: "sink.test", altNames: ["IP:127.0.0.1"] })

const serve = (options: object) =>
  Effect.acquireRelease(Effect.promise(() => sink.start(options)), ({ stop }) => Effect.sync(stop))

const everything = ["PIPELINING", "8BITMIME", "SIZE", "CHUNKING", "AUTH PLAIN"]

/** Sends five messages, and gives what the sink saw of them. */
const fiveThrough = (options: object, run: (args: Args) => Effect.Effect<Sample, unknown>, args: Partial<Args>) =>
  Effect.scoped(Effect.gen(function*() {
    const { port, stats } = yield* serve({ offer: everything, ...options })
    const sample = yield* run({ ...defaults, port, messages: 5, ...args })
    assert.strictEqual(sample.messages, args.task === "idle" ? 0 : 5)
    assert.isAbove(sample.wall, 0)
    return stats
  }))

const clients = {
  ours: ours.run,
  nodemailer: (args: Args) => Effect.promise(() => nodemailer.run(args)),
  raw: (args: Args) => Effect.promise(() => raw.run(args))
}

const plain: Partial<Args> = { connections: 2, size: 2000 }
const secure = { tls: "starttls", ...certificate }
const session: Partial<Args> = { task: "sessions", tls: "starttls", ca: certificate.cert, auth: true }

describe("a client of the bench", () => {
  it.live.each(
    [
      ["ours", plain],
      ["ours", { ...plain, task: "sendAll", source: "octets" }],
      ["ours", { source: "stream", size: 200_000, recipients: 3 }],
      ["ours", { ...plain, task: "pool", callers: 3 }],
      ["nodemailer", plain],
      ["nodemailer", { source: "stream", size: 200_000, recipients: 3 }],
      ["nodemailer", { ...plain, task: "pool", callers: 3 }],
      ["raw", { size: 200_000 }],
      ["raw", { size: 200_000, bdat: true }]
    ] as ReadonlyArray<readonly [keyof typeof clients, Partial<Args>]>
  )("delivers five messages to the sink: %s %j", ([client, args]) =>
    Effect.gen(function*() {
      const stats = yield* fiveThrough({}, clients[client], args)
      assert.strictEqual(stats.messages, 5)
      assert.isAbove(stats.octets, 5 * (args.size ?? 1024))
    }))

  it.live.each(["ours", "nodemailer"] as const)(
    "opens a session for each of five messages: %s",
    (client) =>
      Effect.gen(function*() {
        const stats = yield* fiveThrough(secure, clients[client], session)
        assert.strictEqual(stats.messages, 5)
        assert.strictEqual(stats.connections, 5)
      })
  )

  it.live.each(["ours", "nodemailer"] as const)(
    "warms up with messages that are not counted: %s",
    (client) =>
      Effect.gen(function*() {
        const stats = yield* fiveThrough({}, clients[client], { warmup: 3 })
        assert.strictEqual(stats.messages, 8)
        assert.strictEqual(stats.connections, 1)
      })
  )

  it.live.each(["ours", "nodemailer"] as const)("holds five idle connections: %s", (client) =>
    Effect.gen(function*() {
      const stats = yield* fiveThrough({}, clients[client], { task: "idle", connections: 5, messages: 0 })
      assert.strictEqual(stats.connections, 5)
      assert.strictEqual(stats.messages, 0)
    }))
})

describe("a content of the bench", () => {
  it("has exactly the octets asked for, whole and in chunks", () => {
    for (const kind of ["lines", "base64", "dots", "bareLf", "lfOnly"] as const) {
      const whole = content.text(kind, 5000)
      assert.strictEqual(whole.length, 5000, kind)
      assert.match(whole, /\n$/)
      assert.notMatch(whole, /\r(?!\n)/)
      const chunks = [...content.chunks(kind, 300_000)]
      assert.strictEqual(chunks.reduce((sum, chunk) => sum + chunk.length, 0), 300_000, kind)
    }
  })
})

/** A dialogue as the sink hears it, in pieces of this many octets; what it answered and counted. */
const hear = (dialogue: string, pieceSize: number, scan: "full" | "end") => {
  let heard = ""
  const socket = Object.assign(new EventEmitter(), {
    write: (text: string) => heard += text,
    end: () => {},
    destroy: () => {}
  })
  const stats = { connections: 0, messages: 0, octets: 0 }
  new sink.Session(socket, { offer: ["PIPELINING"], scan }, stats).greet()
  for (let at = 0; at < dialogue.length; at += pieceSize) {
    socket.emit("data", Buffer.from(dialogue.slice(at, at + pieceSize), "latin1"))
  }
  return { codes: heard.split("\r\n").slice(0, -1).map((line) => line.slice(0, 4)), messages: stats.messages }
}

describe("the sink of the bench", () => {
  const envelope = "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n"
  const bodies = [".\r\n", "a\r\n.\r\n", "a\r\n..\r\n.b\r\n\r\n.\r\n", "\r\n\n.\n\r\n.\r\n"]
  const taken = ["250 ", "250 ", "354 ", "250 "]

  it("finds the end of every message, however its octets come, with commands behind it", () => {
    const dialogue = `EHLO x\r\n${bodies.map((body) => `${envelope}DATA\r\n${body}`).join("")}QUIT\r\n`
    for (let size = 1; size <= dialogue.length; size++) {
      const { codes, messages } = hear(dialogue, size, "full")
      assert.strictEqual(messages, bodies.length, `in pieces of ${size}`)
      assert.deepStrictEqual(codes, ["220 ", "250-", "250 ", ...bodies.flatMap(() => taken), "221 "])
    }
  })

  it("finds the end of a message where a read ends, however its octets come", () => {
    for (const body of bodies) {
      const dialogue = `EHLO x\r\n${envelope}DATA\r\n${body}`
      for (let size = 1; size <= dialogue.length; size++) {
        assert.strictEqual(hear(dialogue, size, "end").messages, 1, `${JSON.stringify(body)} in pieces of ${size}`)
      }
    }
  })

  it("counts a message once its last chunk is whole", () => {
    const dialogue = `EHLO x\r\n${envelope}BDAT 7\r\n\r\n.\r\nabBDAT 3 LAST\r\ncd\nBDAT 0 LAST\r\nNOOP\r\n`
    for (let size = 1; size <= dialogue.length; size++) {
      const { codes, messages } = hear(dialogue, size, "full")
      assert.strictEqual(messages, 2, `in pieces of ${size}`)
      assert.deepStrictEqual(codes.slice(3), Array.from({ length: 6 }, () => "250 "))
    }
  })
})

const sampleOf = (cpu: number, wall: number, rest: Partial<Sample> = {}): Sample => ({
  cpu,
  wall,
  messages: 100,
  octets: 102_400,
  growth: 0,
  ...rest
})

const pairOf = (ours: Sample, peer: Sample): Pair => ({ ours, peer, extra: undefined })

const pairs = [
  pairOf(sampleOf(1, 2, { growth: 3e6 }), sampleOf(2, 3)),
  pairOf(sampleOf(1, 1, { growth: 1e6 }), sampleOf(4, 2)),
  pairOf(sampleOf(3, 1, { growth: 2e6 }), sampleOf(4, 5))
]

describe("the table of the bench", () => {
  it("tells the median of the pairs, and between what they lie", () => {
    const { cpu, growth, roundTrips, speed } = metricsOf({}, pairs)
    assert.deepStrictEqual(cpu, { median: 0.5, min: 0.25, max: 0.75 })
    assert.deepStrictEqual(speed, { median: 2, min: 1.5, max: 5 })
    assert.deepStrictEqual(growth, { median: 2, min: 1, max: 3 })
    assert.isUndefined(roundTrips)
    assert.deepStrictEqual(metricsOf({ roundTrip: 1000 }, pairs).roundTrips, { median: 0.01, min: 0.01, max: 0.02 })
  })

  it("counts round trips by a bare socket's, of which a message takes two, where one was measured", () => {
    const extra = sampleOf(1, 4)
    const { roundTrips } = metricsOf({ roundTrip: 1000 }, [{ ...pairOf(sampleOf(1, 3), sampleOf(1, 1)), extra }])
    assert.strictEqual(roundTrips?.median, 1.5)
  })

  it("compares by the message, so that the loads need not be equal", () => {
    const { cpu, speed } = metricsOf({}, [pairOf(sampleOf(1, 1), sampleOf(1, 1, { messages: 50 }))])
    assert.strictEqual(cpu?.median, 0.5)
    assert.strictEqual(speed?.median, 2)
  })

  it("judges by the medians, on the right side of each bound", () => {
    const targets = [atMost("cpu", 0.5), atMost("cpu", 0.49), atLeast("speed", 2), atLeast("speed", 2.1)]
    const reached = judge([...targets, atMost("heap", 1)], metricsOf({}, pairs)).map((one) => one.reached)
    assert.deepStrictEqual(reached, [true, false, true, false, false])
  })

  const medians = mediansOf(pairs)
  const metrics = metricsOf({}, pairs)
  const outcome: Outcome = {
    id: "x",
    row: "small",
    load: "100 | 1 KiB",
    unit: "messages",
    pairs: 3,
    server: "sink",
    ours: { label: "ours", sample: medians.ours },
    peer: { label: "peer", sample: medians.peer },
    metrics,
    judgements: judge([atMost("cpu", 0.8), atLeast("speed", 2.5), atMost("growth", 40)], metrics),
    note: "",
    skipped: undefined
  }
  const skipped: Outcome = { ...outcome, skipped: "no server", ours: undefined, peer: undefined, metrics: {} }

  it("has a row for each outcome, with what was measured and what was to be reached", () => {
    const [head, rule, first, second, ...rest] = render([outcome, skipped]).split("\n")
    assert.match(head!, /^\| Row +\| Load +\| Ours +\| Peer +\| CPU ratio +\| Speed ratio +\| Target +\| Reached +\|$/)
    assert.match(rule!, /^(\| -+ ){8}\|$/)
    assert.deepStrictEqual(first!.split(/(?<!\\)\|/).slice(1, -1).map((cell) => cell.trim()), [
      "small",
      "100 \\| 1 KiB; sink; 3 pairs",
      "ours: 10.0 ms CPU/msg, 100 msg/s",
      "peer: 40.0 ms CPU/msg, 33.3 msg/s",
      "0.500 (0.250–0.750)",
      "2.00 (1.50–5.00)",
      "CPU ≤ 0.8, speed ≥ 2.5, memory growth ≤ 40 MB",
      "CPU yes, speed no, memory growth 2.00 MB: yes"
    ])
    assert.include(second!, "not measured: no server")
    assert.deepStrictEqual(rest, [])
    assert.deepStrictEqual(new Set([head, rule, first, second].map((line) => line!.length)).size, 1)
  })

  it("shows figures with three digits, and none that is no number", () => {
    assert.deepStrictEqual([0, 0.012_345, 1.2345, 12.345, 123.45, 12_345, Number.NaN].map(figure), [
      "0",
      "0.0123",
      "1.23",
      "12.3",
      "123",
      "12345",
      "–"
    ])
  })

  it("says what it was made of, and what was not as it should be", () => {
    const about = {
      date: "2030-01-02",
      command: "npm run bench",
      machine: "2 CPUs",
      versions: { Node: "24", effect: "4" },
      warnings: ["nothing was pinned"]
    }
    const text = document(about, [outcome])
    assert.match(text, /`npm run bench` on 2030-01-02, 2 CPUs\.\n\nVersions: Node 24, effect 4\.\n/)
    assert.include(text, "\nNote: nothing was pinned.\n")
    assert.isTrue(text.endsWith(`${render([outcome])}\n`))
  })
})

describe("the rows of the bench", () => {
  it("have names of their own, and tell apart what they compare", () => {
    assert.strictEqual(new Set(rows.map(({ id }) => id)).size, rows.length)
    for (const { load, ours, peer } of rows) {
      assert.notDeepEqual(ours, peer, load)
    }
  })
})

describe("the profile of the bench", () => {
  const frame = (functionName: string, url = "", lineNumber = -1) => ({ functionName, url, lineNumber })
  const profile: Profile = {
    nodes: [
      { id: 1, callFrame: frame("(idle)") },
      { id: 2, callFrame: frame("write", "file:///x/src/SmtpWire.ts", 9) },
      { id: 3, callFrame: frame("", "file:///x/node_modules/effect/dist/Effect.js", 0) },
      { id: 4, callFrame: frame("write", "file:///x/src/SmtpWire.ts", 9) },
      { id: 5, callFrame: frame("writeBuffer") }
    ],
    samples: [2, 1, 3, 4, 5],
    timeDeltas: [0, 1000, 5000, 2000, 3000]
  }

  it("sums self time by function, the longest first, without what is idle", () => {
    const shares = byFunction(profile).map(({ name, self }) => [name, self])
    assert.deepStrictEqual(shares, [["write src/SmtpWire.ts:10", 4], ["(anonymous) effect/Effect.js:1", 2], [
      "writeBuffer",
      0
    ]])
    assert.closeTo(byFunction(profile)[0]!.share, 4 / 6, 1e-9)
  })

  it("sums it by file of the project and by package", () => {
    assert.deepStrictEqual(byFile(profile).map(({ name }) => name), ["src/SmtpWire.ts", "effect", "(V8 and native)"])
    assert.include(show(profile), "66.7 %      4.0 ms  write src/SmtpWire.ts:10")
  })
})
