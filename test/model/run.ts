/**
 * One sequence: calls on a connection, what its server says, losses, interruptions and time, in any order; after every
 * step the connection has to be what the model says.
 */
import { assert } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Sasl from "../../src/Sasl.ts"
import * as SmtpConnection from "../../src/SmtpConnection.ts"
import { SmtpConnector } from "../../src/SmtpConnector.ts"
import * as SmtpError from "../../src/SmtpError.ts"
import { SmtpReply } from "../../src/SmtpReply.ts"
import { type Probe, watched } from "../support/probe.ts"
import { stuffed } from "./body.ts"
import type { Choices } from "./choices.ts"
import * as client from "./client.ts"
import { connectorOf, Link } from "./network.ts"
import { type Deadlines, type Job, Wire } from "./wire.ts"

class SourceFailed extends Data.TaggedError("SourceFailed") {}

/** The stream of a message, pulled by the client and fed by the sequence. */
class Source {
  waiting: ((effect: Effect.Effect<string | undefined, SourceFailed>) => void) | undefined

  readonly #pull = Effect.callback<string | undefined, SourceFailed>((resume) => {
    this.waiting = resume
    return Effect.sync(() => {
      this.waiting = undefined
    })
  })
  readonly stream: Stream.Stream<string, SourceFailed> = Stream.unfold(0, () =>
    Effect.map(this.#pull, (chunk) => chunk === undefined ? undefined : [chunk, 0] as const))

  give(effect: Effect.Effect<string | undefined, SourceFailed>): void {
    const { waiting } = this
    this.waiting = undefined
    waiting?.(effect)
  }
}

interface Task extends Job {
  readonly fiber: Fiber.Fiber<unknown, unknown>
  readonly message: client.Message | undefined
  readonly source: Source | undefined
}

const idOf = (reply: SmtpReply | undefined): string | undefined => reply?.lines[0]?.split(" ")[0]

const refusedOf = (errors: ReadonlyArray<SmtpError.RecipientError> | undefined) =>
  errors?.map(({ _tag, inDoubt, recipient, reply }) => ({ recipient, failed: _tag, reply: idOf(reply), inDoubt }))

/** What the client said in the end, in the model's terms. */
const observed = (exit: Exit.Exit<unknown, unknown>): unknown => {
  if (Exit.isSuccess(exit)) {
    if (exit.value instanceof SmtpReply) return { ok: true, reply: idOf(exit.value) }
    if (typeof exit.value !== "object" || exit.value === null || !("accepted" in exit.value)) return { ok: true }
    const { accepted, rejectedErrors, reply } = exit.value as SmtpConnection.SendResult
    return { ok: true, reply: idOf(reply), accepted, refused: refusedOf(rejectedErrors) }
  }
  if (Cause.hasInterruptsOnly(exit.cause)) {
    const outcome = Context.getOrUndefined(Cause.annotations(exit.cause), SmtpError.Outcome)
    return outcome === undefined
      ? { interrupted: true }
      : { interrupted: true, outcome: { inDoubt: outcome.inDoubt, reply: idOf(outcome.reply) } }
  }
  if (exit.cause.reasons.some((reason) => reason._tag === "Fail" && reason.error instanceof SourceFailed)) {
    return { failed: "source" }
  }
  const error = SmtpError.fromCause(exit.cause)
  if (error === undefined) throw new Error(`a defect: ${Cause.pretty(exit.cause)}`)
  const { _tag, attempted, command, handedOver, inDoubt, reply } = error
  const refused = "rejectedErrors" in error ? refusedOf(error.rejectedErrors) : undefined
  return { failed: _tag, command, reply: idOf(reply), inDoubt, attempted, handedOver, ...(refused && { refused }) }
}

const text = (value: unknown): string =>
  JSON.stringify(value, (key, field: unknown) => {
    if (key === "code") return undefined
    const isSource = typeof field === "object" && field !== null && "failed" in field && field.failed === "source"
    return isSource ? { failed: "source" } : sorted(field)
  })

const sorted = (value: unknown): unknown =>
  typeof value !== "object" || value === null || Array.isArray(value)
    ? value
    : Object.fromEntries(Object.entries(value).sort(([a], [b]) => a < b ? -1 : 1))

interface Setting {
  readonly tls: client.Tls
  readonly protocol: "smtp" | "lmtp"
  readonly allowInsecureAuth: boolean
  readonly deadlines: Deadlines
}

const settingOf = (choices: Choices): Setting => ({
  tls: choices.pick(["off", "off", "starttls", "off", "opportunistic", "implicit", "starttls"]),
  protocol: choices.pick(["smtp", "smtp", "lmtp"]),
  allowInsecureAuth: choices.oneIn(3),
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

/** A reply on its way, and whose question it answers. */
interface Said extends client.Reply {
  readonly owner: number | undefined
  readonly verb: string
}

export class Sequence {
  readonly log: Array<string> = []
  readonly #choices: Choices
  readonly #probe: Probe
  readonly #setting: Setting
  readonly #state: client.State
  readonly #wire: Wire
  readonly #links: Array<Link> = []
  readonly #tasks: Array<Task> = []
  readonly #scope: Scope.Closeable
  /** Replies that arrived whole on a connection that was alive. */
  readonly #heard: Array<Said & { readonly at: number }> = []
  #connection: SmtpConnection.SmtpConnection | undefined
  /** A reply of which only a part went out. */
  #rest: { readonly text: string; readonly reply: Said } | undefined
  #replies = 0
  #calls = 0

  constructor(choices: Choices, probe: Probe, scope: Scope.Closeable, now: number) {
    this.#choices = choices
    this.#probe = probe
    this.#scope = scope
    this.#setting = settingOf(choices)
    const { allowInsecureAuth, deadlines, protocol } = this.#setting
    this.#wire = new Wire(deadlines)
    this.#wire.now = now
    const isLmtp = protocol === "lmtp"
    this.#state = { needsReset: false, isSecure: false, isTrusted: allowInsecureAuth, isLmtp, offers: [] }
  }

  get #link(): Link {
    return this.#links.at(-1)!
  }

  readonly run = Effect.gen({ self: this }, function*() {
    yield* this.#open()
    for (let steps = 5 + this.#choices.below(30); steps > 0; steps--) {
      yield* this.#step()
      yield* this.#judge()
    }
    yield* this.#finish()
  })

  // Calls.

  /** Starts a call on both sides. */
  readonly #call = Effect.fnUntraced(function*(
    this: Sequence,
    name: string,
    start: () => client.Call,
    effect: Effect.Effect<unknown, unknown>,
    more: { readonly isQuit?: boolean; readonly isTimed?: boolean; readonly message?: client.Message; readonly source?: Source } = {}
  ) {
    const id = this.#tasks.length
    this.log.push(`call ${id}: ${name}`)
    const fiber = yield* Effect.forkDetach(effect, { startImmediately: true })
    const { isQuit = false, isTimed = false, message, source } = more
    const totalDue = isTimed ? this.#wire.now + this.#setting.deadlines.total : Infinity
    const flags = { isExpired: false, isInterrupted: false, hasBegun: false, ending: undefined }
    const task: Task = { id, name, start, isQuit, totalDue, message, source, fiber, ...flags }
    this.#tasks.push(task)
    this.#wire.submit(task)
  })

  #open() {
    const { allowInsecureAuth, deadlines: { total, ...deadlines }, protocol, tls } = this.#setting
    const timeouts = Number.isFinite(total) ? { ...deadlines, total } : deadlines
    const options = { host: "mx.test", name: "me.test", tls, protocol, allowInsecureAuth, timeouts }
    this.log.push(text(this.#setting))
    const make = SmtpConnection.make(options).pipe(
      Effect.tap((connection) => Effect.sync(() => this.#connection = connection)),
      Scope.provide(this.#scope),
      Effect.provideService(SmtpConnector, connectorOf(this.#links))
    )
    return this.#call("open", () => client.open(tls, this.#state), make, { isTimed: true })
  }

  #send(connection: SmtpConnection.SmtpConnection, id: number) {
    const to = Array.from({ length: 1 + this.#choices.below(3) }, (_, at) => `r${at}.${id}@mx.test`)
    const requireAll = this.#choices.oneIn(5)
    const isWhole = this.#choices.oneIn(2)
    const whole = this.#choices.pick(["x", "", ".\r\n", "Subject: x\n\n.dot\nend", "a\rb\r\n.\r\nRSET\r\n"])
    const message: client.Message = { text: isWhole ? whole : "", isWhole }
    const source = isWhole ? undefined : new Source()
    const mail: client.Mail = { from: `s${id}@me.test`, to, requireAll, message }
    const envelope = { from: mail.from, to, requireAllRecipients: requireAll }
    const effect = source === undefined ? connection.send(envelope, whole) : connection.send(envelope, source.stream)
    const more = source === undefined ? { message, isTimed: true } : { message, source, isTimed: true }
    return this.#call(`send to ${to.length}${isWhole ? `, ${JSON.stringify(whole)}` : ", a stream"}`, () =>
      client.send(mail, this.#state), effect, more)
  }

  #newCall() {
    const connection = this.#connection!
    const id = this.#tasks.length
    this.#calls++
    const state = this.#state
    switch (this.#choices.pick(["send", "noop", "reset", "login", "vrfy", "send", "login", "send", "quit"])) {
      case "send":
        return this.#send(connection, id)
      case "noop":
        return this.#call("noop", () => client.simple("NOOP", state), connection.noop)
      case "reset":
        return this.#call("reset", () => client.simple("RSET", state), connection.reset)
      case "login": {
        const { password, username } = client
        const credentials = Sasl.password({ username, password: Redacted.make(password) })
        const start = () => client.login(state, this.#wire.failedNow)
        return this.#call("login", start, connection.login(credentials))
      }
      case "vrfy":
        return this.#call("vrfy", () => client.vrfy(`u${id}`), connection.vrfy(`u${id}`))
      default:
        return this.#call("quit", client.quit, connection.quit, { isQuit: true })
    }
  }

  // The server.

  /** What the oldest question of the client is. */
  #verb(): string {
    const ask = this.#wire.current?.ask
    if (this.#wire.owed === 0 || ask === undefined) return "nothing"
    return ask._tag === "Command" ? ask.line.split(" ").slice(0, 1).join("") : ask._tag
  }

  #codes(verb: string): ReadonlyArray<number> {
    const right: { readonly [verb: string]: ReadonlyArray<number> } = {
      Greeting: [220],
      STARTTLS: [220],
      DATA: [354],
      QUIT: [221],
      VRFY: [252],
      AUTH: [235, 334, 334, 504, 535],
      nothing: [250, 354]
    }
    const isExchange = this.#wire.current?.ask._tag === "Command" && this.#wire.current.ask.where.stage === "AUTH"
    const good = (isExchange ? right["AUTH"] : right[verb]) ?? [250]
    return [...good, ...good, ...good, ...good, ...good, 451, 550, 550, 421, 250, 354, 334, 530, 502, 220]
  }

  #offers(): ReadonlyArray<string> {
    const isClear = this.#link.clearUntil === undefined
    const tls = isClear && !this.#choices.oneIn(8) ? ["STARTTLS"] : []
    return [...tls, ...this.#choices.pick([["AUTH PLAIN LOGIN"], ["AUTH LOGIN"], [], ["AUTH PLAIN"]])]
  }

  #newReply(verb: string): { readonly text: string; readonly reply: Said } {
    const code = this.#choices.pick(this.#codes(verb))
    const id = `id${++this.#replies}`
    const offers = (verb === "EHLO" || verb === "LHLO") && code === 250
      ? this.#offers()
      : this.#choices.oneIn(8) ? ["more"] : []
    const lines = [id, ...offers]
    const owner = verb === "nothing" ? undefined : this.#wire.current?.job.id
    const text = lines.map((line, at) => `${code}${at < lines.length - 1 ? "-" : " "}${line}\r\n`).join("")
    return { text, reply: { id, code, offers, owner, verb } }
  }

  /** One segment on the wire and in the model. */
  #deliver(text: string, replies: ReadonlyArray<Said>, rest: "nothing" | "partial" | "malformed"): void {
    this.log.push(`server: ${JSON.stringify(text)}${rest === "nothing" ? "" : ` (${rest})`}`)
    if (this.#wire.isAlive) this.#heard.push(...replies.map((reply) => ({ ...reply, at: this.#link.written.length })))
    this.#link.deliver(text)
    this.#wire.segment(replies, rest)
  }

  #reply(): void {
    if (this.#rest !== undefined) return this.#finishReply()
    const { reply, text } = this.#newReply(this.#verb())
    switch (this.#choices.below(14)) {
      case 13: {
        const cut = 1 + this.#choices.below(text.length - 1)
        this.#rest = { text: text.slice(cut), reply }
        return this.#deliver(text.slice(0, cut), [], "partial")
      }
      case 12:
        for (const octet of text.slice(0, -1)) this.#deliver(octet, [], "partial")
        return this.#deliver(text.slice(-1), [reply], "nothing")
      case 11: {
        const surplus = this.#newReply("nothing")
        return this.#deliver(text + surplus.text, [reply, surplus.reply], "nothing")
      }
      case 10: {
        const surplus = this.#newReply("nothing")
        this.#rest = { text: surplus.text.slice(2), reply: surplus.reply }
        return this.#deliver(text + surplus.text.slice(0, 2), [reply], "partial")
      }
      case 9:
        return this.#deliver(text + this.#garbage(), [reply], "malformed")
      case 8:
        return this.#deliver(this.#garbage(), [], "malformed")
      default:
        return this.#deliver(text, [reply], "nothing")
    }
  }

  #garbage(): string {
    return this.#choices.pick(["250 bare\n", "9", "xyz\r\n", "250-a\r\n251 b\r\n", "2500 x\r\n"])
  }

  #finishReply(): void {
    const { reply, text } = this.#rest!
    this.#rest = undefined
    this.#deliver(text, [reply], "nothing")
  }

  // Steps.

  /** What can happen now; what a healthy dialogue does comes first. */
  #actions(): ReadonlyArray<() => Effect.Effect<void> | void> {
    const wire = this.#wire
    const link = this.#link
    const unsettled = this.#tasks.filter((task) => task.ending === undefined && !task.isExpired && !task.isInterrupted)
    const actions: Array<() => Effect.Effect<void> | void> = []
    const add = (times: number, action: () => Effect.Effect<void> | void): void => {
      for (let i = 0; i < times; i++) actions.push(action)
    }
    const canHear = link.isListening && !wire.isUpgrading
    if (wire.isUpgrading) {
      add(4, () => this.#upgraded(true))
      add(1, () => this.#upgraded(false))
    }
    if (canHear && (wire.owed > 0 || this.#rest !== undefined)) add(12, () => this.#reply())
    if (wire.waitsFor === "source") add(6, () => this.#feed())
    if (link.needsDrain) add(6, () => this.#drain())
    const waiting = this.#tasks.filter((task) => task.ending === undefined).length
    if (this.#connection !== undefined && waiting < 3 && this.#calls < 12) add(waiting === 0 ? 12 : 2, () => this.#newCall())
    add(2, () => this.#advance())
    if (unsettled.length > 0) add(1, () => this.#interrupt(this.#choices.pick(unsettled)))
    if (canHear && wire.owed === 0) add(1, () => this.#reply())
    if (link.hasRoom) add(1, () => this.#clog())
    if (this.#choices.oneIn(4)) add(1, () => this.#lose())
    if (this.#connection !== undefined && !wire.isClosed && this.#choices.oneIn(8)) add(1, () => this.#close())
    return actions
  }

  readonly #step = Effect.fnUntraced(function*(this: Sequence) {
    yield* this.#choices.pick(this.#actions())() ?? Effect.void
    yield* this.#probe.quiet
  })

  #upgraded(isGood: boolean): void {
    this.log.push(`TLS ${isGood ? "succeeds" : "fails"}`)
    this.#link.upgraded(isGood)
    this.#wire.upgraded(isGood)
  }

  #feed(): void {
    const source = this.#wire.current!.job as Task
    const what = this.#choices.pick(["end", "x\n", ".\r\n.", "", "a\r", "\n", "fail"])
    this.log.push(`source: ${JSON.stringify(what)}`)
    if (what === "end") {
      source.source!.give(Effect.succeed(undefined))
      this.#wire.sourceEnds()
    } else if (what === "fail") {
      source.source!.give(Effect.fail(new SourceFailed()))
      this.#wire.sourceFails()
    } else {
      source.source!.give(Effect.succeed(what))
      this.#wire.feed(what)
    }
  }

  #drain(): void {
    this.log.push("drained")
    this.#link.drain()
    this.#wire.drain()
  }

  #clog(): void {
    this.log.push("no room")
    this.#link.hasRoom = this.#wire.hasRoom = false
  }

  readonly #advance = Effect.fnUntraced(function*(this: Sequence) {
    const wire = this.#wire
    const untilDue = Math.min(wire.nextDue - wire.now, 30_000)
    const millis = this.#choices.pick([1, 499, 3000, untilDue, Math.max(untilDue - 1, 1), untilDue + 1000])
    this.log.push(`${millis} ms`)
    const to = wire.now + millis
    yield* this.#probe.advance(millis)
    wire.advance(to)
  })

  #interrupt(task: Task): void {
    this.log.push(`interrupt ${task.id}`)
    task.isInterrupted = true
    task.fiber.interruptUnsafe()
    this.#wire.interrupt(task)
  }

  #lose(): void {
    const how = this.#choices.pick(["Closed", "Errno"] as const)
    this.log.push(how)
    this.#link.end(how === "Closed" ? { _tag: how } : { _tag: how, cause: new Error("ECONNRESET") })
    this.#wire.end(how)
  }

  /** Closes the scope that the connection belongs to. */
  readonly #close = Effect.fnUntraced(function*(this: Sequence) {
    const id = this.#tasks.length
    this.log.push(`call ${id}: the scope closes`)
    const fiber = yield* Effect.forkDetach(Scope.close(this.#scope, Exit.void), { startImmediately: true })
    const flags = { isExpired: true, isInterrupted: true, hasBegun: false, ending: undefined }
    const rest = { message: undefined, source: undefined, totalDue: Infinity }
    const task: Task = { id, name: "close", start: client.quit, isQuit: true, fiber, ...rest, ...flags }
    this.#tasks.push(task)
    this.#wire.close(task)
  })

  /** Nothing more comes from the server: time alone has to settle every call. */
  readonly #finish = Effect.fnUntraced(function*(this: Sequence) {
    for (let isClosed = this.#wire.isClosed;; isClosed = true) {
      while (this.#tasks.some((task) => task.ending === undefined)) {
        const millis = this.#wire.nextDue - this.#wire.now
        assert.isTrue(Number.isFinite(millis), `nothing will ever settle a call\n${this.log.join("\n")}`)
        this.log.push(`${millis} ms`)
        yield* this.#probe.advance(millis)
        this.#wire.advance(this.#wire.now + millis)
        yield* this.#judge()
      }
      if (isClosed) break
      yield* this.#close()
      yield* this.#probe.quiet
      yield* this.#judge()
    }
    for (const link of this.#links) this.#expect(link.destroyed > 0, () => "a socket is left open")
  })

  // The judge.

  #expect(holds: boolean, what: () => string): void {
    if (!holds) throw new Error(`${what()}\n  after\n    ${this.log.join("\n    ")}`)
  }

  readonly #judge = Effect.fnUntraced(function*(this: Sequence) {
    const wire = this.#wire
    const link = this.#link
    this.#expect(wire.dials === this.#links.length, () => `${this.#links.length} connections, not ${wire.dials}`)
    this.#expect(link.written === wire.written, () =>
      `written ${JSON.stringify(link.written)}\nand not  ${JSON.stringify(wire.written)}`)
    this.#expect(link.isOver || wire.isAlive, () => "the connection is alive after doubt")
    this.#expect(link.destroyed > 0 === !wire.isAlive, () => wire.isAlive ? "a good connection is closed" : "the socket is not freed")
    for (const task of this.#tasks) this.#judgeTask(task)
    for (const one of this.#links) this.#judgeOctets(one)
  })

  #judgeTask(task: Task): void {
    const exit = task.fiber.pollUnsafe()
    const seen = exit === undefined ? undefined : observed(exit)
    this.#expect(text(seen) === text(task.ending), () =>
      `call ${task.id} (${task.name}) ends in ${text(seen)}\nand not ${text(task.ending)}`)
    const isPulled = this.#wire.current?.job === task && this.#wire.waitsFor === "source"
    this.#expect((task.source?.waiting !== undefined) === isPulled, () => `the source of ${task.id} is pulled: ${!isPulled}`)
    if (seen !== undefined) this.#judgeReplies(task, text(seen))
  }

  /** Without the model of the client: a reply is told by the call that it answers, and an acceptance is always told. */
  #judgeReplies(task: Task, seen: string): void {
    for (const { id, owner } of this.#heard) {
      if (!seen.includes(`"${id}"`)) continue
      const isOwn = owner === task.id || owner === undefined && !seen.startsWith("{\"ok\"")
      this.#expect(isOwn, () => `${id} answered call ${String(owner)}, and is told by ${task.id}: ${seen}`)
    }
    const accepted = this.#heard.find(({ code, owner, verb }) => owner === task.id && verb === "Final" && code < 300)
    const isTold = seen.includes("\"accepted\"") || accepted === undefined || seen.includes(`"${accepted.id}"`)
    this.#expect(isTold, () => `call ${task.id} was accepted, and says ${seen}`)
  }

  /** Without the model of the client: secrets and bodies, octet by octet. */
  #judgeOctets(link: Link): void {
    const { late, written } = link
    this.#expect(late === "", () => `written after the end: ${JSON.stringify(late)}`)
    const clear = written.slice(0, link.clearUntil)
    const { password, username } = client
    const secrets = ["AUTH", password, btoa(password), btoa(`\0${username}\0${password}`)]
    const isLeaked = secrets.some((secret) => clear.includes(secret))
    this.#expect(!isLeaked || this.#setting.allowInsecureAuth, () => `a secret in ${JSON.stringify(clear)}`)
    if (link !== this.#link) return
    for (const { at, code, owner, verb } of this.#heard) {
      const message = owner === undefined ? undefined : this.#tasks[owner]?.message
      if (verb !== "DATA" || code !== 354 || message === undefined) continue
      const [due, sent] = [stuffed(message.text), written.slice(at)]
      const isOurs = sent.startsWith(due) || due.startsWith(sent) || !message.isWhole && !sent.includes("\r\n.\r\n")
      this.#expect(isOurs, () => `${JSON.stringify(sent)} in the body ${JSON.stringify(due)}`)
    }
  }
}

export const run = (choices: Choices): Effect.Effect<void> =>
  watched((probe) =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const now = yield* Effect.clockWith((clock) => Effect.sync(() => clock.currentTimeMillisUnsafe()))
      const sequence = new Sequence(choices, probe, scope, now)
      yield* sequence.run
    })
  )
