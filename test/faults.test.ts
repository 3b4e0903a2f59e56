/**
 * The fault table: every stage of a dialogue against every way in which a server can go wrong, for a transaction in
 * every mode. What each cell has to end in is worked out here from the precedence that the design gives, not from the
 * library.
 */
import { afterAll, assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import * as Sasl from "../src/Sasl.ts"
import * as SmtpConnection from "../src/SmtpConnection.ts"
import * as SmtpError from "../src/SmtpError.ts"
import * as SmtpServer from "../src/testing/SmtpServer.ts"
import { flights, type Mode, modes, open } from "./support/modes.ts"
import { type Probe, probed } from "./support/probe.ts"

type Call = "make" | "login" | "send" | "reset" | "noop" | "quit"

interface Stage {
  readonly name: string
  readonly mode: Mode
  readonly step: SmtpServer.Step
  readonly call: Call
  readonly command: string
  /** Rule 7: what a well-formed refusal is called here. */
  readonly refusal: SmtpError.Tag
  readonly deadline: SmtpError.TimeoutName
  /** Its command is the first that the call writes. */
  readonly isFirst: boolean
  /** A refusal leaves the connection usable. */
  readonly survives: boolean
  /** Of the wrong class. */
  readonly wrong: number
  /** The message is a stream that waits in its middle, after what makes a chunk. */
  readonly isStream: boolean
}

const stage = (
  name: string,
  step: SmtpServer.Step,
  call: Call,
  command: string,
  refusal: SmtpError.Tag,
  more: Partial<Stage> = {}
): Stage => ({
  name,
  mode: flights,
  step,
  call,
  command,
  refusal,
  deadline: "command",
  isFirst: false,
  survives: false,
  wrong: 354,
  isStream: false,
  ...more
})

const stages: ReadonlyArray<Stage> = [
  stage("greeting", "greeting", "make", "CONN", "ECONNECTION", { deadline: "greeting" }),
  stage("EHLO", "ehlo", "make", "EHLO", "ECONNECTION"),
  stage("STARTTLS", "starttls", "make", "STARTTLS", "ETLS"),
  stage("handshake", "tls", "make", "STARTTLS", "ETLS", { deadline: "tls" }),
  stage("EHLO again", "ehlo2", "make", "EHLO", "ECONNECTION"),
  stage("AUTH", "auth", "login", "AUTH PLAIN", "EAUTH", { isFirst: true, survives: true }),
  stage("AUTH continuation", "authContinue", "login", "AUTH LOGIN", "EAUTH", { survives: true }),
  stage("RSET", "rset", "reset", "RSET", "EPROTOCOL", { isFirst: true }),
  stage("NOOP", "noop", "noop", "NOOP", "EPROTOCOL", { isFirst: true }),
  stage("QUIT", "quit", "quit", "QUIT", "EPROTOCOL")
]

const byData = (mode: Mode) => stage("DATA", "data", "send", "DATA", "EENVELOPE", { mode, survives: true, wrong: 250 })

const byChunks = (mode: Mode) =>
  stage("chunk", "bdat", "send", "BDAT", "EMESSAGE", { mode, survives: true, isStream: true })

/** A transaction. A chunk is refused like a command; a body that goes by DATA can only be broken off. */
const sending = (mode: Mode): ReadonlyArray<Stage> => {
  const { streamVia, via } = mode
  const inChunks = { deadline: "command", survives: true } as const
  return [
    stage("MAIL", "mail", "send", "MAIL FROM", "EENVELOPE", { mode, isFirst: true, survives: true }),
    stage("RCPT", "rcpt", "send", "RCPT TO", "EENVELOPE", { mode, survives: true }),
    ...(via === "DATA" ? [byData(mode)] : []),
    ...(streamVia === "BDAT" ? [byChunks(mode)] : []),
    stage("mid-body", "body", "send", streamVia, "EMESSAGE", {
      mode,
      isStream: true,
      ...(streamVia === "BDAT" ? inChunks : { deadline: "final" })
    }),
    stage("the end", via === "DATA" ? "message" : "bdat", "send", via, "EMESSAGE", {
      mode,
      deadline: "final",
      survives: true
    }),
    stage("idle", "idle", "send", "MAIL FROM", "EPROTOCOL", { mode, isFirst: true })
  ]
}

const kinds = ["421", "4xx", "5xx", "wrong", "FIN", "RST", "silence", "garbage", "slow", "early"] as const
type Kind = (typeof kinds)[number]

const fault = (kind: Kind, { wrong }: Stage): SmtpServer.Fault => {
  switch (kind) {
    case "421":
      return SmtpServer.answer(421, "4.3.2 going down")
    case "4xx":
      return SmtpServer.answer(454, "4.7.0 later")
    case "5xx":
      return SmtpServer.answer(554, "5.7.0 never")
    case "wrong":
      return SmtpServer.answer(wrong, "beside the point")
    case "FIN":
      return SmtpServer.drop
    case "RST":
      return SmtpServer.reset
    case "silence":
      return SmtpServer.silence
    case "garbage":
      return SmtpServer.garbage()
    case "slow":
      return SmtpServer.byteAtATime(1)
    case "early":
      return SmtpServer.earlyReply()
  }
}

/** The defaults of the deadlines, in milliseconds. */
const millis: { readonly [name: string]: number } = { greeting: 30e3, tls: 30e3, command: 300e3, final: 600e3 }

/** How long the source of the message waits in its middle. */
const pause = 60_000

interface Expected {
  readonly tag: SmtpError.Tag | "ok"
  readonly command?: string
  readonly timeout?: SmtpError.TimeoutName | undefined
  readonly isTemporary?: boolean
  readonly inDoubt?: boolean
  readonly handedOver?: boolean
  readonly attempted?: boolean
  readonly after: "usable" | "closed"
}

/** Which tag: the first match of the design's list. */
const tagOf = ({ name, refusal }: Stage, kind: Kind): SmtpError.Tag => {
  if (kind === "silence") return "ETIMEDOUT"
  if (name === "handshake") return "ETLS"
  if (kind === "RST") return "ESOCKET"
  if (kind === "FIN") return "ECONNECTION"
  // What the fake says unasked is a 421, unless it is told otherwise.
  if (kind === "421" || (name === "idle" && (kind === "slow" || kind === "early"))) return "ECONNECTION"
  if (kind === "garbage" || kind === "early" || kind === "wrong" || name === "idle") return "EPROTOCOL"
  return refusal
}

/** The server's answer decides, else the table of tags. */
const isTemporary = ({ name }: Stage, kind: Kind, tag: SmtpError.Tag): boolean => {
  if (name === "handshake") return kind === "silence" || kind === "FIN" || kind === "RST"
  if (kind === "4xx") return true
  return kind !== "5xx" && ["ECONNECTION", "ESOCKET", "ETIMEDOUT"].includes(tag)
}

/** The whole message goes with its envelope. */
const isFlight = ({ call, isStream, mode }: Stage): boolean => call === "send" && mode.isFlight && !isStream

/** What comes before its command is in order when that is on its way; to a chunk a reply may come in its middle. */
const isInTime = ({ call, mode, name, ...at }: Stage): boolean => {
  if (call !== "send") return false
  if (name === "mid-body") return mode.streamVia === "BDAT"
  if (name === "the end") return isFlight({ call, mode, name, ...at })
  return mode.isGrouped && (name === "RCPT" || name === "DATA")
}

const isRefusal = (kind: Kind): boolean => kind === "4xx" || kind === "5xx"

/** Whether the end of the message may have been handed to the transport by then; a refusal of the envelope undoes it. */
const isHandedOver = (at: Stage, kind: Kind): boolean => {
  if (at.name === "the end") return kind !== "early"
  if (isFlight(at)) return !isRefusal(kind) && kind !== "421"
  // The silent server takes the rest of the body; chunks follow each other without waiting in groups alone.
  return at.isStream && kind === "silence" && (at.mode.streamVia === "DATA" || at.mode.isGrouped)
}

const expected = (at: Stage, kind: Kind): Expected => {
  if (at.call === "quit") return { tag: "ok", after: "closed" }
  // Before a handshake there is no reply that could be slow; in a body none is due.
  if (kind === "slow" && at.name !== "idle") return { tag: "ok", after: "usable" }
  if (kind === "early" && isInTime(at)) return { tag: "ok", after: "usable" }
  const tag = tagOf(at, kind)
  const isSilent = kind === "silence"
  const isUntouched = at.isFirst && (kind === "early" || (at.name === "idle" && !isSilent))
  const handedOver = !isUntouched && isHandedOver(at, kind)
  return {
    tag,
    // A connection that is lost already is not asked for a mechanism.
    command: isUntouched && at.call === "login" ? "AUTH" : at.command,
    timeout: isSilent ? at.deadline : undefined,
    isTemporary: isTemporary(at, kind, tag),
    inDoubt: handedOver && !isRefusal(kind) && kind !== "421",
    handedOver,
    attempted: !isUntouched,
    after: isRefusal(kind) && at.survives ? "usable" : "closed"
  }
}

/** Whether what was said of a chunk is heard after the pause: where others may follow it, it is read with the next. */
const isHeardLater = (at: Stage, kind: Kind): boolean =>
  at.mode.isGrouped && at.command === "BDAT" && (isRefusal(kind) || kind === "wrong")

/** How long the call takes: the deadline where the server is silent, and nothing else but what was asked for. */
const expectedMillis = (at: Stage, kind: Kind, slowOctets: number): number => {
  if (at.isStream && (expected(at, kind).tag === "ok" || isHeardLater(at, kind))) {
    const isWaitedFor = kind === "slow" && at.name === "chunk" && !at.mode.isGrouped
    return isWaitedFor ? pause + slowOctets - 1 : pause
  }
  if (kind === "slow") return at.name === "idle" || at.name === "handshake" ? 0 : slowOctets - 1
  if (kind !== "silence") return 0
  if (at.call === "quit") return 2000
  return millis[at.deadline]! + (at.deadline === "final" && at.isStream ? pause : 0)
}

const envelope = { from: "ann@me.test", to: "bob@mx.test" }
const credentials = Sasl.password({ username: "ann", password: Redacted.make("secret") })

const script = (at: Stage, kind: Kind): SmtpServer.Script => ({
  ...(at.mode.isFlight && at.call === "send" ? { extensions: open } : {}),
  faults: [
    SmtpServer.at(at.step, fault(kind, at)),
    // Silence is no event: it begins with the message's last reply.
    ...(at.name === "idle" && kind !== "silence" ? [SmtpServer.at("idle", SmtpServer.delay(1000))] : [])
  ]
})

const body = (at: Stage) =>
  at.isStream
    ? Stream.concat(
      Stream.make(at.mode.streamVia === "BDAT" ? "one\r\n".repeat(14_000) : "one\r\n"),
      Stream.fromEffect(Effect.delay(Effect.succeed("two\r\n"), pause))
    )
    : "one\r\ntwo\r\n"

const call = (
  at: Stage,
  connection: SmtpConnection.SmtpConnection
): Effect.Effect<unknown, SmtpError.SmtpError> => {
  switch (at.call) {
    case "login":
      return connection.login(credentials)
    case "reset":
      return connection.reset
    case "noop":
      return connection.noop
    case "quit":
      return connection.quit
    default:
      return connection.send(envelope, body(at))
  }
}

const errorOf = (exit: Exit.Exit<unknown, unknown>): SmtpError.SmtpError => {
  const error = exit._tag === "Failure" ? SmtpError.fromCause(exit.cause) : undefined
  return error ?? assert.fail(`expected an error of ours, got ${String(exit)}`)
}

const checkOutcome = (at: Stage, kind: Kind, exit: Exit.Exit<unknown, unknown>): string => {
  const { after, ...want } = expected(at, kind)
  if (want.tag === "ok") {
    assert.strictEqual(exit._tag, "Success", String(exit))
    return after === "usable" ? "ok" : "ok, closed"
  }
  const error = errorOf(exit)
  const got = {
    tag: error._tag,
    command: error.command,
    timeout: error._tag === "ETIMEDOUT" ? error.timeout : undefined,
    isTemporary: error.isTemporary,
    inDoubt: error.inDoubt,
    handedOver: error.handedOver,
    // A connection that is being made carries no message: nothing was or was not attempted.
    attempted: at.call === "make" ? want.attempted : error.attempted
  }
  assert.deepStrictEqual<unknown>(got, want)
  const codes: { readonly [K in Kind]?: number } = { "421": 421, "4xx": 454, "5xx": 554, wrong: at.wrong }
  assert.strictEqual(error.responseCode, at.name === "handshake" ? undefined : codes[kind] ?? error.responseCode)
  return [error._tag, error.inDoubt ? "?" : "", error.isTemporary ? "~" : "", after === "usable" ? " usable" : ""].join(
    ""
  )
}

/** Another message on the same connection: delivered, or refused without an octet. */
const checkAfter = Effect.fnUntraced(function*(
  at: Stage,
  kind: Kind,
  connection: SmtpConnection.SmtpConnection,
  probe: Probe,
  server: SmtpServer.SmtpServer["Service"]
) {
  const before = probe.handed()
  const accepted = (yield* server.received).length
  const { exit } = yield* probe.settle(connection.send(envelope, "again"))
  if (expected(at, kind).after === "usable") {
    assert.strictEqual(exit._tag, "Success", String(exit))
    assert.strictEqual((yield* server.received)[accepted]?.text, "again\r\n")
    return
  }
  const error = errorOf(exit)
  assert.strictEqual(error.attempted, false)
  assert.strictEqual(error.inDoubt, false)
  assert.strictEqual(probe.handed(), before, "octets written to a closed connection")
  if (at.call === "quit") assert.deepInclude(error, { _tag: "ECONNECTION", command: "API" })
})

const rows = new Map<string, Map<Kind, string>>()
const rowOf = ({ call, mode, name }: Stage): string => call === "send" ? `${name}, ${mode.name}` : name

const cell = (at: Stage, kind: Kind) =>
  probed(script(at, kind), (probe, server) =>
    Effect.gen(function*() {
      const mechanisms = at.name === "AUTH continuation" ? ["LOGIN"] : ["PLAIN"]
      const made = yield* probe.settle(SmtpConnection.make({ host: "mx.test", mechanisms, ...at.mode.options }))
      let settled: { readonly exit: Exit.Exit<unknown, unknown>; readonly elapsed: number } = made
      if (at.call !== "make") {
        const connection = yield* made.exit
        if (at.name === "idle") {
          yield* connection.send(envelope, "first")
          yield* probe.advance(2000)
        }
        settled = yield* probe.settle(call(at, connection))
      }
      rows.get(rowOf(at))!.set(kind, checkOutcome(at, kind, settled.exit))
      const events = (yield* server.transcript).filter(({ from }) => from === "event").map(({ text }) => text)
      // A reply that comes early is noted when its command comes, and it may never come.
      assert.isTrue(kind === "early" || events.some((text) => text.startsWith("fault")), "the fault never struck")
      const slow = yield* slowOctets(at, server)
      assert.strictEqual(settled.elapsed, expectedMillis(at, kind, slow), "elapsed")
      if (made.exit._tag === "Success") return yield* checkAfter(at, kind, made.exit.value, probe, server)
      yield* probe.quiet
      assert.deepStrictEqual((yield* server.connections).map(({ open }) => open), [false], "freed at once")
    }))

/** Octets of the reply that comes octet by octet. */
const slowOctets = Effect.fnUntraced(function*(at: Stage, server: SmtpServer.SmtpServer["Service"]) {
  const lines = (yield* server.transcript).map(({ from, text }) => ({ from, text }))
  const from = lines.findIndex(({ text }) => text === `fault ByteAtATime at ${at.step}`)
  const rest = lines.slice(from + 1)
  const end = rest.findIndex(({ from }) => from !== "server")
  return rest.slice(0, end < 0 ? undefined : end).reduce((sum, { text }) => sum + text.length + 2, 0)
})

const table = (): string => {
  const line = ([name = "", ...cells]: ReadonlyArray<string>) =>
    [name.padEnd(34), ...cells.map((text) => text.padEnd(18))].join("").trimEnd()
  const lines = [...rows].map(([name, row]) => line([name, ...kinds.map((kind) => row.get(kind) ?? "-")]))
  return ["", "? in doubt, ~ temporary", line(["", ...kinds]), ...lines, ""].join("\n")
}

/** One test for each cell of the rows. */
const fill = (stages: ReadonlyArray<Stage>): void => {
  for (const at of stages) {
    rows.set(rowOf(at), new Map())
    for (const kind of kinds) {
      // The greeting is the first that is said: it cannot be early.
      if (at.name === "greeting" && kind === "early") continue
      it.effect(`${at.name}: ${kind} settles as the design says, and leaves nothing behind`, () => cell(at, kind))
    }
  }
}

describe("the fault table", () => {
  afterAll(() => {
    process.stdout.write(table())
  })
  fill(stages)
  describe.each(modes)("$name", (mode) => fill(sending(mode)))
})

describe("VRFY, EXPN and HELP", () => {
  const asks: ReadonlyArray<
    readonly ["vrfy" | "expn" | "help", (connection: SmtpConnection.SmtpConnection) => Effect.Effect<unknown, unknown>]
  > = [
    ["vrfy", (connection) => connection.vrfy("bob")],
    ["expn", (connection) => connection.expn("all")],
    ["help", (connection) => connection.help()]
  ]
  for (const [step, ask] of asks) {
    for (const code of [214, 252, 451, 550]) {
      it.effect(`${step} gives ${code} as data, and the connection stays usable`, () =>
        probed({ faults: [SmtpServer.at(step, SmtpServer.answer(code, "so"))] }, () =>
          Effect.gen(function*() {
            const connection = yield* SmtpConnection.make({ host: "mx.test" })
            assert.deepInclude(yield* ask(connection), { code })
            yield* connection.send(envelope, "again")
          })))
    }
    for (const [code, tag] of [[354, "EPROTOCOL"], [421, "ECONNECTION"]] as const) {
      it.effect(`${step} fails after ${code}, which is no data, and closes the connection`, () =>
        probed({ faults: [SmtpServer.at(step, SmtpServer.answer(code, "so"))] }, (probe) =>
          Effect.gen(function*() {
            const connection = yield* SmtpConnection.make({ host: "mx.test" })
            const error = yield* Effect.flip(ask(connection))
            assert.deepInclude(error, { _tag: tag, command: step.toUpperCase(), responseCode: code })
            const before = probe.handed()
            assert.deepInclude(yield* Effect.flip(connection.send(envelope, "again")), { attempted: false })
            assert.strictEqual(probe.handed(), before)
          })))
    }
  }
})
