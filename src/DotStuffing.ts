/**
 * Message octets to what DATA and BDAT carry, and back: canonical line ends and dot-stuffing (RFC 5321 §4.5.2).
 *
 * What it is: a pure encoder in one pass that copies nothing where nothing changes, and the decoder of a strict
 * receiver. What it is not: it knows nothing of headers, of commands, or of the size limits of a server.
 *
 * **Details**
 *
 * The canonical form of a message: CRLF, a lone CR and a lone LF each become CRLF; CRLF is appended if the message is
 * not empty and lacks it; an empty message stays empty. NUL and octets above 0x7f pass unchanged. So whatever the
 * message holds, no receiver, however lenient with line ends, finds a second message in it (SMTP smuggling).
 *
 * @since 0.1.0
 */
import * as octets from "./internal/octets.ts"
import * as slab from "./internal/slab.ts"

const LF = 0x0a
const CR = 0x0d
const DOT = 0x2e
/** CRLF and the terminator: the longest that can be missing at the end. */
const ending = Uint8Array.of(CR, LF, DOT, CR, LF)
const utf8 = new TextEncoder()

/**
 * Where the last octet taken has left us. After a CR, the CR has been written and an LF is owed. The last two are of
 * the decoder: after a dot that begins a line, and after such a dot and CR.
 */
const MIDDLE = 0
const AFTER_CR = 1
const LINE_START = 2
const AFTER_DOT = 3
const AFTER_DOT_CR = 4
const DONE = 5

/**
 * What is known of a message without sending it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Measure {
  /** Octets of the canonical form, before stuffing: what SIZE declares (RFC 1870). */
  readonly size: number
  /** Whether an octet above 0x7f occurs: the message needs 8BITMIME (RFC 6152). */
  readonly hasEightBit: boolean
}

/**
 * A whole message, ready for DATA.
 *
 * @category models
 * @since 0.1.0
 */
export interface Encoded extends Measure {
  /** The stuffed canonical form with the terminator; without stuffing, the canonical form alone. */
  readonly body: Uint8Array
}

/**
 * How to encode.
 *
 * @category models
 * @since 0.1.0
 */
export interface EncoderOptions {
  /** True, the default: for DATA, with dot-stuffing and the terminator. False: for BDAT (RFC 3030), canonical only. */
  readonly stuffing?: boolean | undefined
}

/**
 * An incremental encoder for one message: push octets in any split, send what comes back, then `end`.
 *
 * **Details**
 *
 * What is sent is the same for every split. `size` and `hasEightBit` speak of the octets pushed so far; after `end`
 * they are final.
 *
 * @category models
 * @since 0.1.0
 */
export interface Encoder extends Measure {
  /**
   * The next octets as they have to be sent. When nothing in them changes, it is `chunk` itself, uncopied: do not
   * write to `chunk` before it is sent. Nothing is held back: of a CRLF that two chunks share, each gives its part.
   */
  readonly push: (chunk: Uint8Array) => Uint8Array
  /**
   * The octets that close the message: the line end it lacks, and the terminator `.\r\n` when stuffing. Empty if there
   * is nothing to add.
   */
  readonly end: () => Uint8Array
}

class CanonicalEncoder implements Encoder {
  size = 0
  hasEightBit = false
  private position = LINE_START
  private ended = false
  private readonly stuffing: boolean

  constructor(stuffing: boolean) {
    this.stuffing = stuffing
  }

  readonly push = (chunk: Uint8Array): Uint8Array => {
    const position = this.position
    const added = this.scan(chunk)
    if (added === 0) return chunk
    const out = new Uint8Array(chunk.length + added)
    fill(out, chunk, position, this.stuffing)
    return out
  }

  readonly end = (): Uint8Array => {
    this.refuseAfterEnd()
    this.ended = true
    const missing = this.position === MIDDLE ? 2 : this.position === AFTER_CR ? 1 : 0
    this.size += missing
    return ending.slice(2 - missing, this.stuffing ? 5 : 2)
  }

  /** The message at once, in one allocation; `message` itself when nothing changes. */
  encode(message: Uint8Array): Uint8Array {
    const added = this.scan(message)
    const tail = this.end()
    if (added + tail.length === 0) return message
    const out = slab.allocate(message.length + added + tail.length)
    if (added === 0) out.set(message)
    else fill(out, message, LINE_START, this.stuffing)
    out.set(tail, message.length + added)
    return out
  }

  /** Takes a chunk and says how many octets `fill` will add to it. */
  scan(chunk: Uint8Array): number {
    this.refuseAfterEnd()
    const text = octets.textOf(chunk)
    const end = chunk.length
    let { position, hasEightBit } = this
    let lineEnds = 0
    let dots = 0
    let at = 0
    while (at < end) {
      const octet = chunk[at++]!
      if (octet === LF) {
        if (position !== AFTER_CR) lineEnds++
        position = LINE_START
        continue
      }
      if (position === AFTER_CR) {
        lineEnds++
        position = LINE_START
      }
      if (octet === CR) position = AFTER_CR
      else {
        if (octet === DOT && position === LINE_START) dots++
        if (octet > 0x7f) hasEightBit = true
        position = MIDDLE
        at = hasEightBit ? octets.skipText(text, at) : octets.skipAscii(text, at)
        if (at + 1 < end && chunk[at] === CR && chunk[at + 1] === LF) {
          at += 2
          position = LINE_START
        }
      }
    }
    this.position = position
    this.hasEightBit = hasEightBit
    this.size += end + lineEnds
    return this.stuffing ? lineEnds + dots : lineEnds
  }

  private refuseAfterEnd(): void {
    if (this.ended) throw new Error("DotStuffing: the message has ended; make a new encoder for the next one")
  }
}

/** Writes the encoded chunk to `out`, which is as long as `scan` says or longer. */
const fill = (out: Uint8Array, chunk: Uint8Array, start: number, stuffing: boolean): void => {
  const source = octets.textOf(chunk)
  const target = octets.textOf(out)
  const end = chunk.length
  let position = start
  let at = 0
  let to = 0
  while (at < end) {
    const octet = chunk[at++]!
    if (octet === LF) {
      if (position !== AFTER_CR) out[to++] = CR
      out[to++] = LF
      position = LINE_START
      continue
    }
    if (position === AFTER_CR) {
      out[to++] = LF
      position = LINE_START
    }
    if (octet === DOT && position === LINE_START && stuffing) out[to++] = DOT
    out[to++] = octet
    if (octet === CR) position = AFTER_CR
    else {
      position = MIDDLE
      const next = octets.copyText(source, at, target, to)
      to += next - at
      at = next
    }
  }
}

/**
 * Makes the incremental encoder of one message.
 *
 * **Gotchas**
 *
 * Strings have to be encoded first; a surrogate pair must not be split between two of them. `push` and `end` throw
 * after `end`: octets after the terminator would be commands.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { DotStuffing } from "effect-smtp"
 *
 * const encoder = DotStuffing.makeEncoder()
 * const wire = ["one\r", "\n.two\nthree"].map((part) => encoder.push(new TextEncoder().encode(part)))
 * wire.push(encoder.end())
 * assert.strictEqual(Buffer.concat(wire).toString(), "one\r\n..two\r\nthree\r\n.\r\n")
 * assert.strictEqual(encoder.size, "one\r\n.two\r\nthree\r\n".length)
 * ```
 *
 * @category encoding
 * @since 0.1.0
 */
export const makeEncoder = (options?: EncoderOptions): Encoder => new CanonicalEncoder(options?.stuffing ?? true)

const toOctets = (message: string | Uint8Array): Uint8Array =>
  typeof message === "string" ? slab.encode(message) : message

/**
 * Encodes a whole message for DATA into one array, terminator included; or for BDAT, with `stuffing: false`.
 *
 * **Details**
 *
 * A string is encoded as UTF-8; lone surrogates become U+FFFD. For DATA an array is always copied, because of the
 * terminator: for large ones {@link makeEncoder} does without. For BDAT one that is canonical already is not.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { DotStuffing } from "effect-smtp"
 *
 * const { body, size, hasEightBit } = DotStuffing.encodeAll("Subject: x\n\n.hidden")
 * assert.strictEqual(new TextDecoder().decode(body), "Subject: x\r\n\r\n..hidden\r\n.\r\n")
 * assert.strictEqual(size, 23)
 * assert.strictEqual(hasEightBit, false)
 * ```
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeAll = (message: string | Uint8Array, options?: EncoderOptions): Encoded => {
  const encoder = new CanonicalEncoder(options?.stuffing ?? true)
  const body = encoder.encode(toOctets(message))
  return { body, size: encoder.size, hasEightBit: encoder.hasEightBit }
}

/**
 * The canonical form of a whole message, without stuffing: what BDAT carries (RFC 3030).
 *
 * **Details**
 *
 * An array that is canonical already comes back itself, uncopied.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { DotStuffing } from "effect-smtp"
 *
 * assert.strictEqual(new TextDecoder().decode(DotStuffing.canonical("a\n.b\rc")), "a\r\n.b\r\nc\r\n")
 * ```
 *
 * @category encoding
 * @since 0.1.0
 */
export const canonical = (message: string | Uint8Array): Uint8Array =>
  new CanonicalEncoder(false).encode(toOctets(message))

/** Octets of UTF-8 looked at together when a string is measured: they stay in the processor's cache. */
const measureBlock = 16_384

/**
 * The size and the need for 8BITMIME of a message, without building its canonical form.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { DotStuffing } from "effect-smtp"
 *
 * assert.deepStrictEqual(DotStuffing.measure("naïve\n"), { size: 8, hasEightBit: true })
 * ```
 *
 * @category encoding
 * @since 0.1.0
 */
export const measure = (message: string | Uint8Array): Measure => {
  const encoder = new CanonicalEncoder(false)
  if (typeof message === "string") {
    const block = new Uint8Array(Math.min(measureBlock, message.length * 3))
    for (let left = message; left !== "";) {
      const { read, written } = utf8.encodeInto(left, block)
      encoder.scan(block.subarray(0, written))
      left = left.slice(read)
    }
  } else encoder.scan(message)
  encoder.end()
  return { size: encoder.size, hasEightBit: encoder.hasEightBit }
}

/**
 * What a push to the decoder gives.
 *
 * @category models
 * @since 0.1.0
 */
export interface Decoded {
  /** The next octets of the message; a part of the chunk pushed, uncopied, when no dot had to be taken out of it. */
  readonly bytes: Uint8Array
  /** Whether the terminator has been read. */
  readonly done: boolean
  /** The octets of this chunk after the terminator. */
  readonly rest: Uint8Array
}

/**
 * An incremental decoder for one message: push what follows the 354, in any split, until `done`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Decoder {
  /** Takes the next octets. Once the message is done, they all are `rest`. */
  readonly push: (chunk: Uint8Array) => Decoded
}

const step = (position: number, octet: number): number => {
  if (octet === CR) return position === AFTER_DOT ? AFTER_DOT_CR : AFTER_CR
  if (octet === LF) return position === AFTER_DOT_CR ? DONE : position === AFTER_CR ? LINE_START : MIDDLE
  return octet === DOT && position === LINE_START ? AFTER_DOT : MIDDLE
}

class DataDecoder implements Decoder {
  private position = LINE_START

  readonly push = (chunk: Uint8Array): Decoded => {
    const before = this.position
    const text = octets.textOf(chunk)
    const dots: Array<number> = []
    let position = before
    let at = 0
    while (at < chunk.length && position !== DONE) {
      position = step(position, chunk[at++]!)
      if (position === AFTER_DOT) dots.push(at - 1)
      else if (position === MIDDLE) at = octets.skipText(text, at)
    }
    this.position = position
    // The CR after a lone dot is no octet of the message until something other than LF follows it.
    const unsure = position === DONE ? 2 : position === AFTER_DOT_CR ? 1 : 0
    const owesCr = before === AFTER_DOT_CR && at > 0 && chunk[0] !== LF
    return {
      bytes: without(chunk, dots, Math.max(0, at - unsure), owesCr),
      done: position === DONE,
      rest: chunk.subarray(at)
    }
  }
}

/** Below this many octets a loop copies faster than a call of `set`. */
const shortRun = 64

/** The octets of `chunk` before `length`, but those at `dots`; after a CR when one is owed. */
const without = (chunk: Uint8Array, dots: Array<number>, length: number, owesCr: boolean): Uint8Array => {
  const end = dots.at(-1) === length - 1 ? length - 1 : length
  if (end < length) dots.pop()
  if (dots.length === 0 && !owesCr) return end === chunk.length ? chunk : chunk.subarray(0, end)
  const out = new Uint8Array(end - dots.length + (owesCr ? 1 : 0))
  let from = 0
  let to = 0
  if (owesCr) out[to++] = CR
  for (const dot of [...dots, end]) {
    if (dot - from > shortRun) {
      out.set(chunk.subarray(from, dot), to)
      to += dot - from
    } else {
      for (let at = from; at < dot; at++) out[to++] = chunk[at]!
    }
    from = dot + 1
  }
  return out
}

/**
 * Makes the incremental decoder of one message: what a strict receiver does with the octets of DATA.
 *
 * **Details**
 *
 * Only `CRLF . CRLF` ends the message (`. CRLF` at its very start). A dot that begins a line is taken out; lines end in
 * CRLF alone, and a bare CR or LF passes as it is. The CRLF before the final dot belongs to the message.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { DotStuffing } from "effect-smtp"
 *
 * const { bytes, done, rest } = DotStuffing.makeDecoder().push(new TextEncoder().encode("..a\r\n.\r\nQUIT\r\n"))
 * assert.strictEqual(new TextDecoder().decode(bytes), ".a\r\n")
 * assert.strictEqual(done, true)
 * assert.strictEqual(new TextDecoder().decode(rest), "QUIT\r\n")
 * ```
 *
 * @category decoding
 * @since 0.1.0
 */
export const makeDecoder = (): Decoder => new DataDecoder()
