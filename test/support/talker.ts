/**
 * A server over `Peer` that takes octets strictly: a command is a line with CRLF, a chunk is so many octets, and whatever
 * is left over is a command again. It answers when its turn on the event loop comes, so that each answer to all that has
 * been written so far is one round trip.
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as SmtpConnection from "../../src/SmtpConnection.ts"
import { SmtpConnector } from "../../src/SmtpConnector.ts"
import { type Probe, watched } from "./probe.ts"
import { all, greeting, makeConnector, type Peer, plain } from "./raw.ts"

/** What the server has read: a command, a message behind DATA (verb "."), or a chunk (verb "BDAT"). */
export interface Heard {
  readonly verb: string
  readonly line: string
  readonly body: string
  /** The how many-th of its verb on this connection, from 1. */
  readonly nth: number
  /** Number of the connection, from 1. */
  readonly connection: number
  /** The recipient whose reply is due (LMTP). */
  readonly recipient?: string | undefined
}

export interface Stored {
  readonly from: string
  readonly to: ReadonlyArray<string>
  readonly body: string
  /** How many chunks it came in; 0 by DATA. */
  readonly chunks: number
}

export interface Script {
  readonly offers?: ReadonlyArray<string> | undefined
  readonly protocol?: "smtp" | "lmtp" | undefined
  /** Another reply than the usual, as lines without CRLF; "" is none. */
  readonly answer?: ((heard: Heard) => string | undefined) | undefined
  /** The replies to all that was written are said in one segment, one each, or octet by octet. */
  readonly pace?: "together" | "each" | "octets" | undefined
  /** Answer in a microtask: for tests of very many messages. */
  readonly swift?: boolean | undefined
  /** FIN once so many octets of the client have come, behind EHLO. */
  readonly cutAfter?: number | undefined
  /** FIN in place of the n-th reply, behind that to EHLO. */
  readonly cutBefore?: number | undefined
}

const dot = "\r\n.\r\n"

/** One connection of it. */
class Talker {
  readonly stored: Array<Stored> = []
  readonly heard: Array<Heard> = []
  /** What the client wrote between two answers: one round trip each, with the limits of its writes. */
  readonly rounds: Array<ReadonlyArray<string>> = []
  /** Most replies that were due at once. */
  mostDue = 0
  /** Octets read behind EHLO, and replies said. */
  octets = 0
  replies = 0
  readonly peer: Peer
  readonly number: number
  readonly #script: Script
  readonly #counts = new Map<string, number>()
  #input = ""
  #mode: "commands" | "data" = "commands"
  #from: string | undefined
  #to: Array<string> = []
  #chunks: Array<string> = []
  #isDue = false

  constructor(peer: Peer, number: number, script: Script) {
    this.peer = peer
    this.number = number
    this.#script = script
    peer.onWrite = () => this.#onWrite()
  }

  #onWrite(): void {
    if (this.#isDue) return
    this.#isDue = true
    const run = () => {
      this.#isDue = false
      this.#serve()
    }
    if (this.#script.swift === true) queueMicrotask(run)
    else setImmediate(run)
  }

  #serve(): void {
    const writes = this.peer.hear()
    const { cutAfter = Infinity } = this.#script
    this.rounds.push(writes)
    let text = writes.join("")
    const isCut = this.octets + text.length >= cutAfter
    if (isCut) text = text.slice(0, cutAfter - this.octets)
    this.octets += text.length
    this.#input += text
    const replies: Array<string> = []
    for (let reply = this.#next(); reply !== undefined; reply = this.#next()) {
      replies.push(...reply)
      if (reply.some((each) => each.startsWith("421"))) break
    }
    this.mostDue = Math.max(this.mostDue, replies.length)
    this.#say(replies)
    if (isCut) this.peer.end()
  }

  #say(replies: ReadonlyArray<string>): void {
    const { cutBefore = Infinity, pace = "together" } = this.#script
    const said = replies.filter((reply) => reply !== "")
    const isCut = this.replies + said.length >= cutBefore
    const lines = isCut ? said.slice(0, cutBefore - 1 - this.replies) : said
    this.replies += said.length
    if (pace === "together") {
      if (lines.length > 0) this.peer.say(...lines)
    } else {
      for (const line of lines) {
        if (pace === "each") this.peer.say(line)
        else for (const octet of `${line}\r\n`) this.peer.octets(octet)
      }
    }
    if (isCut || said.some((reply) => reply.startsWith("421"))) this.peer.end()
  }

  /** The replies to what is whole in the input. */
  #next(): ReadonlyArray<string> | undefined {
    if (this.#mode === "data") return this.#nextBody()
    const end = this.#input.indexOf("\r\n")
    if (end < 0) return undefined
    const line = this.#input.slice(0, end)
    const chunk = /^BDAT (\d+)( LAST)?$/i.exec(line)
    const size = chunk === null ? 0 : Number(chunk[1])
    if (this.#input.length < end + 2 + size) return undefined
    const body = this.#input.slice(end + 2, end + 2 + size)
    this.#input = this.#input.slice(end + 2 + size)
    return chunk === null ? [this.#command(line)] : this.#chunk(line, body, chunk[2] !== undefined)
  }

  #nextBody(): ReadonlyArray<string> | undefined {
    const isEmpty = this.#input.startsWith(".\r\n")
    const end = isEmpty ? 0 : this.#input.indexOf(dot)
    if (end < 0) return undefined
    const stuffed = isEmpty ? "" : this.#input.slice(0, end + 2)
    this.#input = this.#input.slice(isEmpty ? 3 : end + dot.length)
    this.#mode = "commands"
    return this.#finals(".", ".", stuffed.replace(/^\./gm, ""), 0)
  }

  #note(
    verb: string,
    line: string,
    body: string,
    recipient?: string
  ): { readonly heard: Heard; readonly given: string | undefined } {
    const nth = (this.#counts.get(verb) ?? 0) + 1
    this.#counts.set(verb, nth)
    const heard = { verb, line, body, nth, connection: this.number, recipient }
    this.heard.push(heard)
    return { heard, given: this.#script.answer?.(heard) }
  }

  #reset(): void {
    this.#from = undefined
    this.#to = []
    this.#chunks = []
  }

  #command(line: string): string {
    const verb = line.split(" ", 1)[0]!.toUpperCase()
    const { given } = this.#note(verb, line, "")
    const isPositive = given === undefined || /^[23]/.test(given)
    switch (verb) {
      case "MAIL":
        if (this.#from !== undefined) return given ?? "503 5.5.1 nested MAIL"
        if (isPositive) this.#from = /<(.*?)>/.exec(line)![1]!
        return given ?? "250 2.1.0 sender"
      case "RCPT":
        if (this.#from === undefined) return given ?? "503 5.5.1 MAIL first"
        if (isPositive) this.#to.push(/<(.*?)>/.exec(line)![1]!)
        return given ?? "250 2.1.5 recipient"
      case "DATA":
        if (given === undefined && this.#to.length === 0) return "554 5.5.1 no recipients"
        if (given === undefined || given.startsWith("354")) this.#mode = "data"
        return given ?? "354 go"
      case "RSET":
        this.#reset()
        return given ?? "250 2.0.0 reset"
      case "NOOP":
        return given ?? "250 2.0.0 ok"
      case "QUIT":
        return given ?? "221 2.0.0 bye"
      default:
        return given ?? "500 5.5.2 what?"
    }
  }

  #chunk(line: string, body: string, isLast: boolean): ReadonlyArray<string> {
    const hasNobody = this.#from === undefined || this.#to.length === 0
    if (hasNobody) this.#chunks = []
    else this.#chunks.push(body)
    if (isLast) {
      const all = this.#chunks
      return hasNobody
        ? [this.#note("BDAT", line, body).given ?? "503 5.5.1 nobody"]
        : this.#finals("BDAT", line, all.join(""), all.length)
    }
    const { given } = this.#note("BDAT", line, body)
    return [given ?? (hasNobody ? "503 5.5.1 nobody" : `250 2.0.0 ${body.length} octets`)]
  }

  #finals(verb: string, line: string, body: string, chunks: number): ReadonlyArray<string> {
    const [from = "", to] = [this.#from, this.#to]
    const isLmtp = this.#script.protocol === "lmtp"
    this.#reset()
    const replies = (isLmtp ? to : [undefined]).map((recipient) => ({
      recipient,
      said: this.#note(verb, line, body, recipient).given ?? "250 2.0.0 taken"
    }))
    const takers = isLmtp
      ? replies.flatMap(({ recipient, said }) => said.startsWith("2") ? [recipient!] : [])
      : replies[0]!.said.startsWith("2")
      ? to
      : []
    if (takers.length > 0) this.stored.push({ from, to: takers, body, chunks })
    return replies.map(({ said }) => said)
  }
}

interface Talk {
  readonly connections: Array<Talker>
  readonly peers: ReadonlyArray<Peer>
  readonly connector: SmtpConnector["Service"]
}

const makeTalk = (script: Script): Talk => {
  const connections: Array<Talker> = []
  const { connector, peers } = makeConnector((peer) =>
    greeting(script.offers ?? all, (open) => connections.push(new Talker(open, connections.length + 1, script)))(peer)
  )
  return { connector, peers, connections }
}

/** A connection to such a server; nothing may be left behind. */
export const talking = <A, E>(
  script: Script,
  test: (
    connection: SmtpConnection.SmtpConnection,
    talker: Talker,
    probe: Probe
  ) => Effect.Effect<A, E, Scope.Scope | SmtpConnector>,
  options: SmtpConnection.Options = {}
): Effect.Effect<A, unknown> =>
  Effect.suspend(() => {
    const { connections, connector, peers } = makeTalk(script)
    const opening = { ...plain, protocol: script.protocol, ...options }
    return Effect.gen(function*() {
      const value = yield* watched((probe) =>
        Effect.gen(function*() {
          const connection = yield* SmtpConnection.make(opening)
          return yield* test(connection, connections[0]!, probe)
        }).pipe(Effect.provideService(SmtpConnector, connector))
      )
      assert.deepStrictEqual(peers.filter(({ destroyed }) => destroyed === 0), [], "sockets that were not freed")
      return value
    })
  })
