/**
 * A dialogue written down: what was said on one or more connections, as values that survive JSON.
 *
 * What it is: entries, recorders that take them in bounded memory, and their rendering. `make` gives a recorder for the
 * option `transcript`, and `SmtpServer.fromTranscript` plays the server's side of what it recorded. What it is not: a
 * capture of octets. Secrets are never in it: commands are rendered redacted, and a reply inside an AUTH exchange is
 * without its text.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as entries from "./internal/entries.ts"
import * as SmtpReply from "./SmtpReply.ts"

const common = {
  /** Which connection, as the log's annotation `connection` names it. */
  connection: Schema.String,
  /** Milliseconds of the monotonic clock; in a `Transcript` counted from when its recorder was made. */
  at: Schema.Finite
}

/**
 * One thing that was said, or that happened beside it.
 *
 * **Details**
 *
 * `command`: the line without CRLF, `***` for a secret. `reply`: code and text as the server sent it, untrusted; inside
 * an AUTH exchange only the enhanced code is left of the text. `content`: octets of a message as they went out, so
 * dot-stuffed after DATA; `size` counts them, and at level "full" they are in `text`, or in `base64` where they are not
 * UTF-8. `event`: TLS.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Entry = Schema.Union([
  Schema.Struct({
    kind: Schema.Literal("command"),
    from: Schema.Literal("client"),
    ...common,
    text: Schema.String
  }),
  Schema.Struct({
    kind: Schema.Literal("reply"),
    from: Schema.Literal("server"),
    ...common,
    code: Schema.Int,
    lines: Schema.Array(Schema.String)
  }),
  Schema.Struct({
    kind: Schema.Literal("content"),
    from: Schema.Literal("client"),
    ...common,
    size: Schema.Int,
    text: Schema.optionalKey(Schema.String),
    base64: Schema.optionalKey(Schema.String)
  }),
  Schema.Struct({
    kind: Schema.Literal("event"),
    from: Schema.Literal("event"),
    ...common,
    text: Schema.String
  })
])

/**
 * What {@link Entry} describes.
 *
 * @category models
 * @since 0.1.0
 */
export type Entry = typeof Entry.Type

/**
 * What was recorded, in the order of time: plain data, which `JSON.stringify` writes and this schema reads.
 *
 * **Details**
 *
 * `omitted` says how many entries, and how many octets of content, were left out for want of room.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Transcript = Schema.Struct({
  entries: Schema.Array(Entry),
  omitted: Schema.Struct({ entries: Schema.Int, octets: Schema.Int })
})

/**
 * What {@link Transcript} describes.
 *
 * @category models
 * @since 0.1.0
 */
export type Transcript = typeof Transcript.Type

/**
 * Takes the entries of every connection that has it as its option `transcript`, at once and in order.
 *
 * **Details**
 *
 * `level` "commands" asks for no more than the size of message content, "full" for all of it. The dialogue waits for
 * `record`; a defect of it is dropped.
 *
 * @category models
 * @since 0.1.0
 */
export interface Recorder {
  readonly level: "commands" | "full"
  readonly record: (entry: Entry) => Effect.Effect<void>
}

/**
 * A recorder that keeps what it takes.
 *
 * @category models
 * @since 0.1.0
 */
export interface Recording extends Recorder {
  /** What was recorded so far. */
  readonly transcript: Effect.Effect<Transcript>
}

/**
 * Most characters of commands, replies and events in one recording, each entry counted with 100 more for its other
 * fields. What comes after that is left out, so that what is there has no gap.
 *
 * @category limits
 * @since 0.1.0
 */
export const maxText = 4_194_304

/**
 * Most octets of message content in one recording.
 *
 * @category limits
 * @since 0.1.0
 */
export const maxContent = 4_194_304

type Content = Extract<Entry, { readonly kind: "content" }>

/** Content as it is kept: what comes in many writes is one entry. */
interface Kept {
  readonly first: Content
  size: number
  readonly chunks: Array<Uint8Array>
}

const textOf = (entry: Exclude<Entry, Content>): string => entry.kind === "reply" ? entry.lines.join("\n") : entry.text

class Store {
  readonly #level: Recorder["level"]
  readonly #start: number
  readonly #entries: Array<Exclude<Entry, Content> | Kept> = []
  /** The content that each connection is in the middle of. */
  readonly #open = new Map<string, Kept>()
  #text = 0
  #octets = 0
  #omitted = { entries: 0, octets: 0 }

  constructor(level: Recorder["level"], start: number) {
    this.#level = level
    this.#start = start
  }

  add(entry: Entry): void {
    if (entry.kind === "content") return this.#addContent(entry)
    this.#open.delete(entry.connection)
    if (this.#hasRoom(textOf(entry).length)) this.#entries.push(entry)
  }

  #hasRoom(length: number): boolean {
    const text = this.#text + length + 100
    const hasRoom = text <= maxText && this.#omitted.entries === 0
    if (hasRoom) this.#text = text
    else this.#omitted.entries++
    return hasRoom
  }

  #addContent(entry: Content): void {
    let kept = this.#open.get(entry.connection)
    if (kept === undefined) {
      kept = { first: entry, size: 0, chunks: [] }
      this.#open.set(entry.connection, kept)
      if (this.#hasRoom(0)) this.#entries.push(kept)
    }
    kept.size += entry.size
    if (this.#level === "commands") return
    const octets = entries.read(entry).subarray(0, this.#omitted.entries === 0 ? maxContent - this.#octets : 0)
    this.#octets += octets.length
    this.#omitted.octets += entry.size - octets.length
    if (octets.length > 0) kept.chunks.push(octets)
  }

  get transcript(): Transcript {
    return {
      entries: this.#entries.map((entry) => {
        const { at, ...rest } = "first" in entry ? this.#whole(entry) : entry
        return { ...rest, at: at - this.#start }
      }),
      omitted: { ...this.#omitted }
    }
  }

  #whole({ chunks, first: { at, connection, from, kind }, size }: Kept): Content {
    return { kind, from, connection, at, size, ...(this.#level === "full" ? entries.write(chunks) : {}) }
  }
}

/**
 * Makes a recorder that keeps what it takes, in bounded memory. One may serve any number of connections.
 *
 * **Details**
 *
 * `level` is "commands" by default: of message content only the size. "full" keeps the content too.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { Effect } from "effect"
 * import { SmtpClient, SmtpTranscript } from "effect-smtp"
 * import { SmtpServer } from "effect-smtp/testing"
 *
 * const program = Effect.gen(function*() {
 *   const transcript = yield* SmtpTranscript.make()
 *   const smtp = yield* SmtpClient.make({ host: "mx.test", transcript })
 *   yield* smtp.send({ from: "ann@me.test", to: "bob@mx.test" }, "Subject: Hi\n\nHello Bob\n")
 *   return yield* transcript.transcript
 * })
 * const transcript = await Effect.runPromise(program.pipe(Effect.provide(SmtpServer.layer())))
 * assert.ok(transcript.entries.some((entry) => entry.kind === "command" && entry.text === "RCPT TO:<bob@mx.test>"))
 * assert.deepStrictEqual(JSON.parse(JSON.stringify(transcript)), transcript)
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  options: { readonly level?: Recorder["level"] | undefined } = {}
): Effect.fn.Return<Recording> {
  const level = options.level ?? "commands"
  const store = new Store(level, yield* entries.now)
  return {
    level,
    record: (entry) => Effect.sync(() => store.add(entry)),
    transcript: Effect.sync(() => store.transcript)
  }
})

/** What an entry says, behind the mark of who says it. */
const said = (entry: Entry): string => {
  switch (entry.kind) {
    case "command":
      return `C: ${SmtpReply.escapeText(entry.text, 2000)}`
    case "reply":
      return `S: ${SmtpReply.render(SmtpReply.make(entry.code, ...entry.lines))}`
    case "content":
      return entry.text === undefined
        ? `C: (${entry.size} octets of content)`
        : `C: ${SmtpReply.escapeText(entry.text, 4096)}`
    case "event":
      return `* ${SmtpReply.escapeText(entry.text)}`
  }
}

/**
 * The transcript as text for a person, one line for each entry: time, connection, and what was said. What comes from
 * the server is escaped and bounded.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { SmtpTranscript } from "effect-smtp"
 *
 * const transcript: SmtpTranscript.Transcript = {
 *   entries: [
 *     { kind: "reply", from: "server", connection: "smtp-1", at: 3.25, code: 220, lines: ["mx.test\u001b[2J"] },
 *     { kind: "command", from: "client", connection: "smtp-1", at: 4, text: "EHLO me.test" }
 *   ],
 *   omitted: { entries: 2, octets: 0 }
 * }
 * assert.deepStrictEqual(SmtpTranscript.render(transcript).split("\n"), [
 *   "3.3 ms smtp-1 S: 220 mx.test\\u{1b}[2J",
 *   "4.0 ms smtp-1 C: EHLO me.test",
 *   "(2 entries and 0 octets of content left out)"
 * ])
 * ```
 *
 * @category rendering
 * @since 0.1.0
 */
export const render = ({ entries: all, omitted }: Transcript): string => {
  const lines = all.map((entry) =>
    `${entry.at.toFixed(1)} ms ${SmtpReply.escapeText(entry.connection, 40)} ${said(entry)}`
  )
  return omitted.entries === 0 && omitted.octets === 0
    ? lines.join("\n")
    : [...lines, `(${omitted.entries} entries and ${omitted.octets} octets of content left out)`].join("\n")
}
