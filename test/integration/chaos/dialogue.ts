/** Reads both directions of an SMTP or LMTP dialogue in the clear: how far each message came, by its sender. */
import { Buffer } from "node:buffer"

/** The body of one message as it passed, dot-stuffed, with its terminator. */
export interface Body {
  octets: number
  /** The last octet of the terminator, or of BDAT LAST, has passed. */
  isComplete: boolean
  /** Octets of the server since then. */
  answered: number
}

const terminator = Buffer.from("\r\n.\r\n")
const empty = Buffer.alloc(0)

/** One connection, as somebody sees it who is fed both directions. */
export class Dialogue {
  client = 0
  server = 0
  /** By the sender's path. */
  readonly bodies = new Map<string, Body>()
  /** The last message begun. */
  body: Body | undefined
  #sender = ""
  #line = empty
  #reply = empty
  #isDataAsked = false
  /** Inside DATA: the last octets, which may be the beginning of the terminator. */
  #tail: Buffer | undefined
  /** Inside BDAT: the octets that are missing. */
  #missing = 0
  #isLast = false

  /** Octets of the client. */
  sent(octets: Uint8Array): void {
    this.client += octets.length
    let rest = Buffer.from(octets.buffer, octets.byteOffset, octets.byteLength)
    while (rest.length > 0) rest = this.#tail !== undefined ? this.#data(rest) : this.#commandOrChunk(rest)
  }

  /** Octets of the server. */
  answered(octets: Uint8Array): void {
    this.server += octets.length
    if (this.body?.isComplete === true) this.body.answered += octets.length
    if (!this.#isDataAsked) return
    this.#reply = Buffer.concat([this.#reply, octets])
    if (!/^354 .*\r\n/m.test(this.#reply.toString("latin1"))) return
    this.#isDataAsked = false
    this.#begin()
    this.#tail = terminator.subarray(0, 2)
  }

  #begin(): Body {
    this.body = { octets: 0, isComplete: false, answered: 0 }
    this.bodies.set(this.#sender, this.body)
    return this.body
  }

  #data(octets: Buffer): Buffer {
    const body = this.body ?? this.#begin()
    const tail = this.#tail ?? empty
    const joined = Buffer.concat([tail, octets])
    const at = joined.indexOf(terminator)
    if (at < 0) {
      body.octets += octets.length
      this.#tail = joined.subarray(-4)
      return empty
    }
    const used = at + terminator.length - tail.length
    body.octets += used
    body.isComplete = true
    this.#tail = undefined
    return octets.subarray(used)
  }

  #commandOrChunk(octets: Buffer): Buffer {
    if (this.#missing === 0) return this.#commands(octets)
    const body = this.body ?? this.#begin()
    const taken = Math.min(this.#missing, octets.length)
    body.octets += taken
    this.#missing -= taken
    body.isComplete = this.#missing === 0 && this.#isLast
    return octets.subarray(taken)
  }

  #commands(octets: Buffer): Buffer {
    const lf = octets.indexOf(0x0a)
    this.#line = Buffer.concat([this.#line, lf < 0 ? octets : octets.subarray(0, lf + 1)])
    if (lf < 0) return empty
    const line = this.#line.toString("latin1").trimEnd()
    this.#line = empty
    this.#isDataAsked = /^DATA$/i.test(line)
    this.#reply = empty
    const sender = /^MAIL FROM:<([^>]*)>/i.exec(line)
    if (sender !== null) {
      this.#sender = sender[1] ?? ""
      this.body = undefined
    }
    const chunk = /^BDAT (\d+)( LAST)?$/i.exec(line)
    if (chunk !== null) {
      const body = this.body ?? this.#begin()
      this.#missing = Number(chunk[1])
      this.#isLast = chunk[2] !== undefined
      body.isComplete = this.#missing === 0 && this.#isLast
    }
    return octets.subarray(lf + 1)
  }
}
