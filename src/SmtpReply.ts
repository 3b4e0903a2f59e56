/**
 * The reply of an SMTP or LMTP server: the value, its enhanced status code, and an incremental decoder.
 *
 * What it is: RFC 5321 section 4.2 (replies) and RFC 2034 / RFC 3463 (enhanced status codes), pure, with every size
 * that a server controls bounded. What it is not: it knows nothing of commands; which reply answers which command is
 * the business of `SmtpWire`.
 *
 * @since 0.1.0
 */
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"

/**
 * One whole reply, single-line or multi-line.
 *
 * **Details**
 *
 * `code` is the three-digit reply code, `lines` the text of each line as the server sent it (decoded as UTF-8, without
 * the code). `lines` is untrusted: escape it with {@link escapeText} before a person reads it.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { SmtpReply } from "effect-smtp"
 *
 * const reply = SmtpReply.make(550, "5.1.1 No such user")
 * assert.strictEqual(reply.text, "5.1.1 No such user")
 * assert.strictEqual(reply.enhancedCode, "5.1.1")
 * ```
 *
 * @category models
 * @since 0.1.0
 */
export class SmtpReply extends Schema.Class<SmtpReply>("effect-smtp/SmtpReply")({
  code: Schema.Int,
  lines: Schema.Array(Schema.String)
}) {
  /** The text of all lines, joined with LF, without the reply code. */
  get text(): string {
    return this.lines.length === 1 ? this.lines[0]! : this.lines.join("\n")
  }
  /** The enhanced status code (RFC 3463) of the first line, when its class agrees with the reply code (RFC 2034 §4). */
  get enhancedCode(): string | undefined {
    const text = this.lines[0]
    if (text === undefined) return undefined
    const found = /^([245])\.(\d{1,3})\.(\d{1,3})(?: |$)/.exec(text)
    return found === null || found[1] !== String(Math.trunc(this.code / 100)) ? undefined : found[0].trimEnd()
  }
  /** For loggers that write JSON: the text is escaped. The schema's own JSON form keeps it as it is. */
  toJSON(): { readonly code: number; readonly lines: ReadonlyArray<string> } {
    return { code: this.code, lines: this.lines.map((line) => escapeText(line)) }
  }
  /** For Node's `util.inspect`, and so for `console` and loggers: one line, escaped. */
  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return `SmtpReply(${render(this)})`
  }
}

/**
 * Builds a reply from a code and one or more lines of text.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (code: number, ...lines: ReadonlyArray<string>): SmtpReply => new Bare(code, lines)

/** The class without its schema: a decoder has checked what it holds, and builds one for each command. */
const Bare = function(
  this: { code: number; lines: ReadonlyArray<string> },
  code: number,
  lines: ReadonlyArray<string>
) {
  this.code = code
  this.lines = lines
} as unknown as new(code: number, lines: ReadonlyArray<string>) => SmtpReply
Object.defineProperty(Bare, "prototype", { value: SmtpReply.prototype })

/**
 * The class of a reply: its first digit (RFC 5321 §4.2.1).
 *
 * @category getters
 * @since 0.1.0
 */
export const severity = (reply: SmtpReply): number => Math.trunc(reply.code / 100)

/**
 * Whether the reply is a transient refusal (4yz).
 *
 * @category guards
 * @since 0.1.0
 */
export const isTransient = (reply: SmtpReply): boolean => severity(reply) === 4

/**
 * Whether the reply is a refusal, transient or permanent (4yz or 5yz).
 *
 * @category guards
 * @since 0.1.0
 */
export const isRefusal = (reply: SmtpReply): boolean => severity(reply) === 4 || severity(reply) === 5

/**
 * Server text made safe to show: C0, DEL, C1, bidirectional and line-separator controls are written as `\u{…}`, and
 * the length is bounded.
 *
 * @category rendering
 * @since 0.1.0
 */
export const escapeText = (text: string, limit = 1000): string => {
  const shown = text.length > limit ? `${text.slice(0, limit)}… (${text.length} characters)` : text
  return shown.replace(unsafe, (c) => `\\u{${c.codePointAt(0)!.toString(16)}}`)
}

// oxlint-disable-next-line no-control-regex -- matching control characters is what this is for
const unsafe = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]/gu

/**
 * The reply as one line for a log or an error message: code and escaped text, lines joined with ` / `.
 *
 * @category rendering
 * @since 0.1.0
 */
export const render = (reply: SmtpReply): string => {
  const text = escapeText(reply.lines.join(" / "))
  return text === "" ? String(reply.code) : `${reply.code} ${text}`
}

/**
 * Longest reply line accepted, in octets without CRLF. RFC 5321 §4.5.3.1.5 says 512; a 334 challenge may hold 12288
 * (RFC 4954 §4).
 *
 * @category limits
 * @since 0.1.0
 */
export const maxLineLength = 16_384

/**
 * Most lines in one reply. The longest known EHLO and HELP replies have some dozens.
 *
 * @category limits
 * @since 0.1.0
 */
export const maxLines = 512

/**
 * Most octets in one reply, line ends included.
 *
 * @category limits
 * @since 0.1.0
 */
export const maxReplyLength = 65_536

/**
 * Why a server's octets are not a reply. The decoder stays failed afterwards.
 *
 * @category models
 * @since 0.1.0
 */
export interface DecodeError {
  readonly _tag: "DecodeError"
  /** What is wrong, in words that hold no text of the server. */
  readonly detail: string
}

/**
 * An incremental reply decoder: push octets in any split, get the replies that are whole.
 *
 * @category models
 * @since 0.1.0
 */
export interface Decoder {
  /**
   * Takes the next octets and hands each reply that they complete to `onReply`. Fails at the first octet that breaks
   * the grammar or a limit; replies before it have been handed over, and every later push fails alike.
   */
  readonly push: (octets: Uint8Array, onReply: (reply: SmtpReply) => void) => Result.Result<void, DecodeError>
  /** Whether octets of an unfinished reply are held. */
  readonly isPartial: () => boolean
}

const LF = 0x0a
const CR = 0x0d
const utf8 = new TextDecoder("utf-8", { ignoreBOM: true })

interface Line {
  readonly code: number
  readonly isLast: boolean
  readonly text: string
}

const isDigit = (octet: number | undefined): octet is number => octet !== undefined && octet >= 0x30 && octet <= 0x39

/** Texts that came lately: most replies say what another said before. */
const known: Array<{ readonly octets: Uint8Array; readonly text: string }> = []
const knownTexts = 64
const longestKnown = 64

const isSame = (a: Uint8Array, octets: Uint8Array, from: number): boolean => {
  for (let i = 0; i < a.length; i++) {
    if (a[i] !== octets[from + i]) return false
  }
  return true
}

const decodeText = (octets: Uint8Array, from: number, end: number): string => {
  const length = end - from
  if (length <= 0) return ""
  if (length > longestKnown) return utf8.decode(octets.subarray(from, end))
  const quarter = octets[from + (length >> 2)]!
  const middle = octets[from + (length >> 1)]!
  const place = (length * 7 + quarter * 3 + middle * 5 + octets[end - 1]!) % knownTexts
  const found = known[place]
  if (found?.octets.length === length && isSame(found.octets, octets, from)) return found.text
  // A copy: the octets of a Node Buffer are its owner's, and so is what its slice shows.
  const own = new Uint8Array(octets.subarray(from, end))
  const text = utf8.decode(own)
  known[place] = { octets: own, text }
  return text
}

/** Reply-line = Reply-code ( "-" / SP ) [ textstring ] CRLF; a bare code is accepted too (RFC 5321 §4.2). */
const decodeLine = (octets: Uint8Array, from: number, end: number): Line | string => {
  const length = end - from
  const a = length > 0 ? octets[from] : undefined
  const b = length > 1 ? octets[from + 1] : undefined
  const c = length > 2 ? octets[from + 2] : undefined
  const separator = length > 3 ? octets[from + 3] : undefined
  if (!isDigit(a) || !isDigit(b) || !isDigit(c) || a < 0x32 || a > 0x35) return "a line has no reply code 2yz to 5yz"
  if (separator !== undefined && separator !== 0x20 && separator !== 0x2d) {
    return "the reply code is followed by neither a space nor a hyphen"
  }
  return {
    code: (a - 0x30) * 100 + (b - 0x30) * 10 + (c - 0x30),
    isLast: separator !== 0x2d,
    text: decodeText(octets, from + 4, end)
  }
}

const nothing = new Uint8Array(0)

class ReplyDecoder implements Decoder {
  private held = nothing
  private heldLength = 0
  private lines: Array<string> = []
  private code = 0
  private replyLength = 0
  private failure: DecodeError | undefined

  isPartial(): boolean {
    return this.heldLength > 0 || this.lines.length > 0
  }

  push(octets: Uint8Array, onReply: (reply: SmtpReply) => void): Result.Result<void, DecodeError> {
    let from = 0
    while (this.failure === undefined && from < octets.length) {
      const lf = octets.indexOf(LF, from)
      const end = lf < 0 ? octets.length : lf
      this.take(octets, from, end, lf >= 0, onReply)
      from = end + 1
    }
    return this.failure === undefined ? Result.void : Result.fail(this.failure)
  }

  private fail(detail: string): void {
    this.failure = { _tag: "DecodeError", detail }
    this.held = nothing
    this.heldLength = 0
    this.lines = []
  }

  private take(
    octets: Uint8Array,
    from: number,
    end: number,
    isWhole: boolean,
    onReply: (reply: SmtpReply) => void
  ): void {
    const length = this.heldLength + end - from
    if (length > maxLineLength + 1) return this.fail(`a line is longer than ${maxLineLength} octets`)
    const octetsOfReply = this.replyLength + length + (isWhole ? 1 : 0)
    if (octetsOfReply > maxReplyLength) return this.fail(`a reply is longer than ${maxReplyLength} octets`)
    if (!isWhole) return this.hold(octets, from, end, length)
    if (this.heldLength === 0) return this.whole(octets, from, end, octetsOfReply, onReply)
    this.hold(octets, from, end, length)
    this.heldLength = 0
    this.whole(this.held, 0, length, octetsOfReply, onReply)
  }

  private whole(
    octets: Uint8Array,
    from: number,
    end: number,
    octetsOfReply: number,
    onReply: (reply: SmtpReply) => void
  ): void {
    if (end === from || octets[end - 1] !== CR) return this.fail("a line ends in a bare LF")
    this.replyLength = octetsOfReply
    this.line(decodeLine(octets, from, end - 1), onReply)
  }

  private hold(octets: Uint8Array, from: number, end: number, length: number): void {
    if (length > this.held.length) {
      const grown = new Uint8Array(Math.max(length, this.held.length * 2, 256))
      grown.set(this.held.subarray(0, this.heldLength))
      this.held = grown
    }
    this.held.set(octets.subarray(from, end), this.heldLength)
    this.heldLength = length
    // A code that cannot become one is refused at once: no waiting for a line end that may never come.
    const octet = this.held[0]
    if (octet !== undefined && (octet < 0x32 || octet > 0x35)) this.fail("a line has no reply code 2yz to 5yz")
  }

  private line(line: Line | string, onReply: (reply: SmtpReply) => void): void {
    if (typeof line === "string") return this.fail(line)
    if (this.lines.length > 0 && line.code !== this.code) return this.fail("the lines of a reply differ in their code")
    if (this.lines.length >= maxLines) return this.fail(`a reply has more than ${maxLines} lines`)
    this.code = line.code
    if (!line.isLast) return void this.lines.push(line.text)
    // Mostly it is the only one; an array that was pushed to has room for sixteen more.
    const lines = this.lines.length === 0 ? [line.text] : this.lines.concat(line.text)
    if (lines.length > 1) this.lines = []
    this.replyLength = 0
    onReply(new Bare(this.code, lines))
  }
}

/**
 * Makes an incremental decoder.
 *
 * **Details**
 *
 * The work is linear in the octets pushed, whatever their split. A line that ends in a bare LF, a malformed code, codes
 * that differ within a reply, and a line, a reply or a number of lines over the limits are a `DecodeError`.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { SmtpReply } from "effect-smtp"
 *
 * const decoder = SmtpReply.makeDecoder()
 * const replies: Array<SmtpReply.SmtpReply> = []
 * for (const part of ["250-mx.te", "st\r\n250 SIZE 1000\r", "\n"]) {
 *   decoder.push(new TextEncoder().encode(part), (reply) => replies.push(reply))
 * }
 * assert.deepStrictEqual(replies, [SmtpReply.make(250, "mx.test", "SIZE 1000")])
 * ```
 *
 * @category decoding
 * @since 0.1.0
 */
export const makeDecoder = (): Decoder => new ReplyDecoder()
