/**
 * One sequence: calls on a connection, what its server says, losses, interruptions and time, in any order; after every
 * step the connection has to be what the model says.
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as Sasl from "../../src/Sasl.ts"
import * as SmtpConnection from "../../src/SmtpConnection.ts"
import { SmtpConnector } from "../../src/SmtpConnector.ts"
import { type Probe, watched } from "../support/probe.ts"
import { formsOf } from "../support/secrets.ts"
import { canonical, stuffed } from "./body.ts"
import type { Choices } from "./choices.ts"
import * as client from "./client.ts"
import { connectorOf, type Link } from "./network.ts"
import { observed, Source, text } from "./observed.ts"
import { garbage, newReply, type Said, verbsOf, type Written } from "./server.ts"
import { type Setting, settingOf } from "./setting.ts"
import * as transaction from "./transaction.ts"
import { type Job, Wire } from "./wire.ts"

/** More than goes into two writes. */
const long = "RSET\n.\n".repeat(22_000)

/** More than a chunk has to have, and more than goes into one write. */
const large = `${".\nlarge\n".repeat(9000)}z`

const shown = (octets: string): string =>
  octets.length > 2000 ? `${JSON.stringify(octets.slice(0, 2000))}… (${octets.length})` : JSON.stringify(octets)

const credentials = Sasl.password({ username: client.username, password: Redacted.make(client.password) })
/** What no connection in clear may carry. */
const secrets = ["AUTH", ...formsOf(client.password)]

interface Task extends Job {
  readonly fiber: Fiber.Fiber<unknown, unknown>
  readonly message: client.Message | undefined
  readonly source: Source | undefined
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
  get #deadCalls(): number {
    const isOver = !this.#wire.isAlive && this.#tasks.every((task) => task.ending !== undefined)
    return !isOver ? 0 : this.#connection === undefined ? 2 : this.#tasks.length - this.#aliveCalls
  }
  /** Calls until the connection died. */
  #aliveCalls = 0

  constructor(choices: Choices, probe: Probe, scope: Scope.Closeable, now: number) {
    this.#choices = choices
    this.#probe = probe
    this.#scope = scope
    this.#setting = settingOf(choices)
    const { allowInsecureAuth, chunking, deadlines, pipelining, protocol } = this.#setting
    this.#wire = new Wire(deadlines)
    this.#wire.now = now
    const isLmtp = protocol === "lmtp"
    const said = { needsReset: false, isAdmitted: false, offers: [], pipelining, chunking }
    this.#state = { ...said, isSecure: false, isTrusted: allowInsecureAuth, isLmtp }
  }

  get #link(): Link {
    return this.#links.at(-1)!
  }

  readonly run = Effect.gen({ self: this }, function*() {
    yield* this.#open()
    // Two calls on a dead connection tell what there is to tell.
    while (this.#choices.below(60) > 0 && this.#deadCalls < 2) {
      yield* this.#step()
      yield* this.#judge()
    }
    yield* this.#finish()
  })

  get #calm(): number {
    const { calm, isWellBegun, trouble } = this.#setting
    if (this.#connection === undefined && isWellBegun) return 400
    return trouble === "anywhere" ? calm : trouble === this.#stage ? 3 : 120
  }

  get #stage(): string {
    const ask = this.#wire.current?.ask
    return ask === undefined ? "IDLE" : "where" in ask ? ask.where.stage : ask._tag.toUpperCase()
  }

  // Calls.

  /** Starts a call on both sides. */
  readonly #call = Effect.fnUntraced(function*(
    this: Sequence,
    name: string,
    start: () => client.Call,
    effect: Effect.Effect<unknown, unknown>,
    more: {
      readonly isQuit?: boolean
      readonly isTimed?: boolean
      readonly message?: client.Message
      readonly source?: Source
    } = {}
  ) {
    // Not at the same time as another: which of two deadlines comes first would be anybody's guess.
    if (this.#tasks.some((task) => task.ending === undefined)) yield* this.#pass(1)
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
    const { allowInsecureAuth, chunking, deadlines: { total, ...deadlines }, pipelining, protocol, tls } = this.#setting
    const timeouts = Number.isFinite(total) ? { ...deadlines, total } : deadlines
    // Credentials on a connection that stays in clear are refused before anything is dialled.
    const isLoggingIn = this.#setting.isLoggingIn && (tls !== "off" || allowInsecureAuth)
    const auth = isLoggingIn ? credentials : undefined
    const how = { tls, protocol, allowInsecureAuth, pipelining, chunking, timeouts }
    const options = { auth, host: "mx.test", name: "me.test", ...how }
    this.log.push(text(this.#setting))
    const make = SmtpConnection.make(options).pipe(
      Effect.tap((connection) => Effect.sync(() => this.#connection = connection)),
      Scope.provide(this.#scope),
      Effect.provideService(SmtpConnector, connectorOf(this.#links))
    )
    return this.#call("open", () => client.make(tls, this.#state, isLoggingIn, this.#wire.failedNow), make, {
      isTimed: true
    })
  }

  #send(connection: SmtpConnection.SmtpConnection, id: number) {
    const to = Array.from({ length: 1 + this.#choices.below(3) }, (_, at) => `r${at}.${id}@mx.test`)
    const requireAll = this.#choices.oneIn(5)
    const isWhole = this.#choices.below(3) > 0
    const whole = this.#choices.oneIn(25)
      ? long
      : this.#choices.pick(["x", "", ".\r\n", "Subject: x\n\n.dot\nend", "a\rb\r\n.\r\nRSET\r\n"])
    const message: client.Message = { text: isWhole ? whole : "", isWhole }
    const source = isWhole ? undefined : new Source()
    const mail: client.Mail = { from: `s${id}@me.test`, to, requireAll, message }
    const envelope = { from: mail.from, to, requireAllRecipients: requireAll }
    const effect = source === undefined ? connection.send(envelope, whole) : connection.send(envelope, source.stream)
    const more = source === undefined ? { message, isTimed: true } : { message, source, isTimed: true }
    return this.#call(
      `send to ${to.length}${isWhole ? `, ${shown(whole)}` : ", a stream"}`,
      () => transaction.send(mail, this.#state, this.#wire.isFresh),
      effect,
      more
    )
  }

  #rarely(name: string): ReadonlyArray<string> {
    return this.#choices.oneIn(4) ? [name] : []
  }

  #newCall() {
    const connection = this.#connection!
    const id = this.#tasks.length
    this.#calls++
    const state = this.#state
    switch (
      this.#choices.pick([
        "send",
        "noop",
        "reset",
        "login",
        "vrfy",
        "send",
        "login",
        "send",
        "send",
        "send",
        ...this.#rarely("quit")
      ])
    ) {
      case "send":
        return this.#send(connection, id)
      case "noop":
        return this.#call("noop", () => client.simple("NOOP", state), connection.noop)
      case "reset":
        return this.#call("reset", () => client.simple("RSET", state), connection.reset)
      case "login": {
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

  /** One segment on the wire and in the model. */
  #deliver(text: string, replies: ReadonlyArray<Said>, rest: "nothing" | "partial" | "malformed"): void {
    this.log.push(`server: ${JSON.stringify(text)}${rest === "nothing" ? "" : ` (${rest})`}`)
    const at = this.#link.written.length
    this.#link.deliver(text)
    const heard = this.#wire.segment(replies, rest)
    this.#heard.push(...replies.slice(0, heard).map((reply) => ({ ...reply, at })))
  }

  #newReply(verb: string): Written {
    const isClear = this.#link.clearUntil === undefined
    return newReply(this.#choices, this.#wire, verb, { id: `id${++this.#replies}`, calm: this.#calm, isClear })
  }

  #reply(): void {
    if (this.#rest !== undefined) return this.#finishReply()
    const [verb = "nothing", nextVerb = "nothing", ...others] = verbsOf(this.#wire)
    const { reply, text } = this.#newReply(verb)
    switch (this.#choices.below(14 + 4 * this.#calm)) {
      case 13: {
        const cut = 1 + this.#choices.below(text.length - 1)
        this.#rest = { text: text.slice(cut), reply }
        return this.#deliver(text.slice(0, cut), [], "partial")
      }
      case 12:
        for (const octet of text.slice(0, -1)) this.#deliver(octet, [], "partial")
        return this.#deliver(text.slice(-1), [reply], "nothing")
      case 11: {
        const surplus = this.#newReply(nextVerb)
        return this.#deliver(text + surplus.text, [reply, surplus.reply], "nothing")
      }
      case 10: {
        const surplus = this.#newReply(nextVerb)
        this.#rest = { text: surplus.text.slice(2), reply: surplus.reply }
        return this.#deliver(text + surplus.text.slice(0, 2), [reply], "partial")
      }
      case 9:
        return this.#deliver(text + garbage(this.#choices), [reply], "malformed")
      case 8:
        return this.#deliver(garbage(this.#choices), [], "malformed")
      default:
        return this.#several({ reply, text }, nextVerb === "nothing" ? [] : [nextVerb, ...others])
    }
  }

  /** The first of the replies that are owed, with some or all of the others behind it. */
  #several(first: Written, verbs: ReadonlyArray<string>): void {
    const count = verbs.length === 0 ? 0 : this.#choices.pick([verbs.length, 0, this.#choices.below(verbs.length)])
    const all = [first, ...verbs.slice(0, count).map((verb) => this.#newReply(verb))]
    this.#deliver(all.map(({ text }) => text).join(""), all.map(({ reply }) => reply), "nothing")
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
    const calm = this.#calm
    const unsettled = this.#tasks.filter((task) => task.ending === undefined && !task.isExpired && !task.isInterrupted)
    const actions: Array<() => Effect.Effect<void> | void> = []
    const add = (times: number, action: () => Effect.Effect<void> | void): void => {
      for (let i = 0; i < times; i++) actions.push(action)
    }
    const canHear = link.isListening && !wire.isUpgrading
    if (wire.isUpgrading) {
      add(4 + calm, () => this.#upgraded(true))
      add(1, () => this.#upgraded(false))
    }
    if (canHear && (wire.owed.length > 0 || this.#rest !== undefined)) add(12 + calm, () => this.#reply())
    if (wire.waitsFor === "source") add(6 + calm / 2, () => this.#feed())
    if (link.needsDrain) add(6 + calm / 2, () => this.#drain())
    const waiting = this.#tasks.filter((task) => task.ending === undefined).length
    if (this.#connection !== undefined && waiting < 3 && this.#calls < 12) {
      add(waiting === 0 ? 12 + calm : 2, () => this.#newCall())
    }
    add(2, () => this.#advance())
    if (unsettled.length > 0) {
      add(wire.isHandedOver ? 4 + calm / 8 : 1, () => this.#interrupt(this.#choices.pick(unsettled)))
    }
    if (canHear && wire.owed.length === 0) add(1, () => this.#reply())
    if (link.hasRoom) add(1, () => this.#clog())
    if (wire.isHandedOver || this.#choices.oneIn(4)) add(wire.isHandedOver ? 1 + calm / 30 : 1, () => this.#lose())
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
    const what = this.#choices.pick(["end", "x\n", "a\n.b\n", ".\r\n.", "", "a\r", "\n", "fail", "large", "x", "large"])
    this.log.push(`source: ${JSON.stringify(what)}`)
    if (what === "end") {
      source.source!.give(undefined)
      this.#wire.feed(undefined)
    } else if (what === "fail") {
      source.source!.fail()
      this.#wire.sourceFails()
    } else {
      // One that is worth a chunk, once: how the next is gathered is not laid down.
      const isLarge = what === "large" && source.message!.text.length < large.length
      const piece = isLarge ? large : what === "large" ? "" : what
      source.source!.give(piece)
      this.#wire.feed(piece)
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
    yield* this.#pass(millis)
  })

  readonly #pass = Effect.fnUntraced(function*(this: Sequence, millis: number) {
    this.log.push(`${millis} ms`)
    yield* this.#probe.advance(millis)
    this.#wire.advance(this.#wire.now + millis)
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
        yield* this.#pass(millis)
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
    this.#expect(
      link.written === wire.written,
      () => `written ${shown(link.written)}\nand not  ${shown(wire.written)}`
    )
    this.#expect(link.isOver || wire.isAlive, () => "the connection is alive after doubt")
    this.#expect(
      link.destroyed > 0 === !wire.isAlive,
      () => wire.isAlive ? "a good connection is closed" : "the socket is not freed"
    )
    for (const task of this.#tasks) this.#judgeTask(task)
    if (wire.isAlive) this.#aliveCalls = this.#tasks.length
    for (const one of this.#links) this.#judgeOctets(one)
  })

  #judgeTask(task: Task): void {
    const exit = task.fiber.pollUnsafe()
    const seen = exit === undefined ? undefined : observed(exit)
    this.#expect(
      text(seen) === text(task.ending),
      () => `call ${task.id} (${task.name}) ends in ${text(seen)}\nand not ${text(task.ending)}`
    )
    const isPulled = this.#wire.current?.job === task && this.#wire.waitsFor === "source"
    this.#expect(
      (task.source?.waiting !== undefined) === isPulled,
      () => `the source of ${task.id} is pulled: ${!isPulled}`
    )
    if (seen !== undefined) this.#judgeReplies(task, text(seen))
  }

  /** Without the model of the client: a reply is told by the call that it answers, and an acceptance is always told. */
  #judgeReplies(task: Task, seen: string): void {
    for (const { id, owner } of this.#heard) {
      if (!seen.includes(`"${id}"`)) continue
      const isOwn = owner === task.id || owner === undefined && !seen.startsWith("{\"ok\"")
      this.#expect(isOwn, () => `${id} answered call ${String(owner)}, and is told by ${task.id}: ${seen}`)
    }
    const accepted = this.#isForSomebody(task.id)
      ? this.#heard.filter(({ code, owner, verb }) => owner === task.id && verb === "Final" && code < 300)
      : []
    const isTold = accepted.length === 0 || seen.includes("\"accepted\"") || seen.includes("\"inDoubt\":true") ||
      accepted.some(({ id }) => seen.includes(`"${id}"`))
    this.#expect(isTold, () => `call ${task.id} was accepted, and says ${seen}`)
  }

  /** Whether the sender and a recipient were accepted, and no part of the message refused. */
  #isForSomebody(id: number): boolean {
    const heard = (asked: string) => this.#heard.filter(({ owner, verb }) => owner === id && verb === asked)
    const [isSender, isRecipient] = ["MAIL", "RCPT"].map((verb) => heard(verb).some(({ code }) => code < 300))
    return isSender === true && isRecipient === true && heard("BDAT").every(({ code }) => code < 300)
  }

  /** Without the model of the client: behind the octets that a chunk counts stands a command, and they are a message. */
  #judgeChunks(written: string): void {
    let message = ""
    for (let [rest, found] = [written, chunkLine.exec(written)]; found !== null; found = chunkLine.exec(rest)) {
      // What was begun before was given up.
      if (rest.slice(0, found.index).includes("MAIL FROM:")) message = ""
      const octets = rest.slice(found.index + found[0].length, found.index + found[0].length + Number(found[1]))
      rest = rest.slice(found.index + found[0].length + Number(found[1]))
      this.#expect(/^(|(RSET|MAIL|QUIT|NOOP|VRFY|AUTH|BDAT)[^]*)$/.test(rest), () => `behind a chunk: ${shown(rest)}`)
      message += octets
      if (found[2] === undefined || octets.length < Number(found[1])) continue
      const isOurs = this.#tasks.some((task) => task.message !== undefined && canonical(task.message.text) === message)
      this.#expect(isOurs, () => `chunks that are no message: ${shown(message)}`)
      message = ""
    }
  }

  /** Without the model of the client: secrets and bodies, octet by octet. */
  #judgeOctets(link: Link): void {
    const { late, written } = link
    this.#expect(late === "", () => `written after the end: ${JSON.stringify(late)}`)
    const clear = written.slice(0, link.clearUntil)
    const isLeaked = secrets.some((form) => clear.includes(form))
    this.#expect(!isLeaked || this.#setting.allowInsecureAuth, () => `a secret in ${JSON.stringify(clear)}`)
    if (link !== this.#link) return
    this.#judgeChunks(written)
    for (const { at, code, owner, verb } of this.#heard) {
      const message = owner === undefined ? undefined : this.#tasks[owner]?.message
      if (verb !== "DATA" || code !== 354 || message === undefined) continue
      const [due, sent] = [stuffed(message.text), written.slice(at)]
      const isOurs = !this.#isForSomebody(owner!)
        ? sent === "" || sent.startsWith(".\r\n")
        : sent.startsWith(due) || due.startsWith(sent) || !message.isWhole && !sent.includes("\r\n.\r\n")
      this.#expect(isOurs, () => `${shown(sent)} in the body ${shown(due)}`)
    }
  }
}

const chunkLine = /^BDAT (\d+)( LAST)?\r\n/m

export const run = (choices: Choices): Effect.Effect<void> =>
  watched((probe) =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const now = yield* Effect.clockWith((clock) => Effect.sync(() => clock.currentTimeMillisUnsafe()))
      const sequence = new Sequence(choices, probe, scope, now)
      yield* sequence.run
    })
  )
