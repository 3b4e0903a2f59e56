/**
 * What the fake server remembers: messages, transcript, connections.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"

/**
 * A message that the server accepted.
 *
 * @category models
 * @since 0.1.0
 */
export interface Received {
  /** Number of the connection, from 1. */
  readonly connection: number
  /** The sender's path as sent, without `<` and `>`; "" = null sender. */
  readonly from: string
  /** The recipients' paths as sent, without `<` and `>`. Over LMTP those with a positive final reply. */
  readonly to: ReadonlyArray<string>
  /** The parameters of MAIL as sent, e.g. "SIZE=12". */
  readonly mailParameters: ReadonlyArray<string>
  /** The parameters of each RCPT as sent, in the order of `to`. */
  readonly rcptParameters: ReadonlyArray<ReadonlyArray<string>>
  /** The message, un-stuffed; empty in digest mode. */
  readonly body: Uint8Array
  /** `body` as text. */
  readonly text: string
  /** Octets of the message, un-stuffed. */
  readonly size: number
  /** SHA-256 of the message in hex. */
  readonly sha256: string
  readonly secure: boolean
  readonly username: string | undefined
  readonly protocol: "smtp" | "lmtp"
  readonly via: "DATA" | "BDAT"
}

/**
 * One line of the dialogue, without CRLF, or an event beside it.
 *
 * **Gotchas**
 *
 * The client's lines are here as they came, passwords and tokens included.
 *
 * @category models
 * @since 0.1.0
 */
export interface TranscriptLine {
  readonly connection: number
  readonly from: "client" | "server" | "event"
  readonly text: string
}

/**
 * What is known of a connection.
 *
 * @category models
 * @since 0.1.0
 */
export interface ConnectionInfo {
  /** Number of the connection, from 1. */
  readonly id: number
  readonly open: boolean
  readonly secure: boolean
  /** The client's name from EHLO, HELO or LHLO. */
  readonly helo: string | undefined
  /** Who logged in. */
  readonly username: string | undefined
  /** Octets that came from the client, TLS removed. */
  readonly bytesReceived: number
  /** How many of them came in the clear. */
  readonly bytesInClear: number
  /** All that came from the client; undefined in digest mode, and for a server that forgets. */
  readonly bytes: Uint8Array | undefined
}

/**
 * What a test asks of the fake server.
 *
 * @category models
 * @since 0.1.0
 */
export interface Records {
  /** The messages accepted so far. */
  readonly received: Effect.Effect<ReadonlyArray<Received>>
  /** All lines and events so far, of all connections. */
  readonly transcript: Effect.Effect<ReadonlyArray<TranscriptLine>>
  /** All connections so far. */
  readonly connections: Effect.Effect<ReadonlyArray<ConnectionInfo>>
  /** Waits until at least `n` messages were accepted, and gives them. */
  readonly awaitReceived: (n: number) => Effect.Effect<ReadonlyArray<Received>>
  /** Waits until no connection is open. */
  readonly awaitClosed: Effect.Effect<void>
}

/** Chunks as one. */
export const concat = (chunks: ReadonlyArray<Uint8Array>): Uint8Array => {
  const first = chunks[0]
  if (first !== undefined && chunks.length === 1) return first
  const whole = new Uint8Array(chunks.reduce((size, chunk) => size + chunk.length, 0))
  let at = 0
  for (const chunk of chunks) {
    whole.set(chunk, at)
    at += chunk.length
  }
  return whole
}

const utf8 = new TextDecoder("utf-8", { ignoreBOM: true })

/** A message as it is remembered; `text` is decoded when asked for. */
export const makeReceived = (fields: Omit<Received, "text">): Received => ({
  ...fields,
  get text() {
    return utf8.decode(fields.body)
  }
})

/** A connection while it lasts. */
export class Connection {
  readonly id: number
  readonly recorder: Recorder
  open = true
  secure = false
  helo: string | undefined
  username: string | undefined
  bytesReceived = 0
  bytesInClear = 0
  readonly chunks: Array<Uint8Array> = []

  constructor(id: number, recorder: Recorder) {
    this.id = id
    this.recorder = recorder
  }

  took(octets: Uint8Array): void {
    this.bytesReceived += octets.length
    if (!this.secure) this.bytesInClear += octets.length
    if (this.recorder.keepsOctets) this.chunks.push(octets)
  }

  line(from: TranscriptLine["from"], text: string): void {
    this.recorder.line({ connection: this.id, from, text })
  }

  /** Every line of octets that go out. */
  sent(octets: Uint8Array): void {
    for (const text of utf8.decode(octets).replace(/\r\n$/, "").split("\r\n")) this.line("server", text)
  }

  close(): void {
    this.open = false
    this.line("event", "closed")
    this.recorder.closed(this)
  }

  info(): ConnectionInfo {
    return {
      id: this.id,
      open: this.open,
      secure: this.secure,
      helo: this.helo,
      username: this.username,
      bytesReceived: this.bytesReceived,
      bytesInClear: this.bytesInClear,
      bytes: this.recorder.keepsOctets ? concat(this.chunks) : undefined
    }
  }
}

/** What a server remembers: three fields of its script. */
interface Remembers {
  readonly digest: boolean
  readonly forget: boolean
  readonly watch: ((line: TranscriptLine) => void) | undefined
}

/** The memory of one server. */
export class Recorder {
  readonly keepsOctets: boolean
  private readonly forgets: boolean
  private readonly watch: Remembers["watch"]
  /** How many messages were accepted. */
  accepted = 0
  private connected = 0
  readonly messages: Array<Received> = []
  readonly lines: Array<TranscriptLine> = []
  private readonly all = new Set<Connection>()
  private readonly watchers = new Set<() => void>()

  constructor({ digest, forget, watch }: Remembers) {
    this.keepsOctets = !digest && !forget
    this.forgets = forget
    this.watch = watch
  }

  connection(): Connection {
    const connection = new Connection(++this.connected, this)
    this.all.add(connection)
    connection.line("event", "connected")
    return connection
  }

  line(line: TranscriptLine): void {
    if (!this.forgets) this.lines.push(line)
    this.watch?.(line)
  }

  accept(message: Received): void {
    this.accepted++
    if (!this.forgets) this.messages.push(message)
    this.changed()
  }

  closed(connection: Connection): void {
    if (this.forgets) this.all.delete(connection)
    this.changed()
  }

  changed(): void {
    for (const watcher of this.watchers) watcher()
  }

  private until(isTrue: () => boolean): Effect.Effect<void> {
    return Effect.callback((resume) => {
      const watcher = () => {
        if (!isTrue()) return
        this.watchers.delete(watcher)
        resume(Effect.void)
      }
      this.watchers.add(watcher)
      watcher()
      return Effect.sync(() => this.watchers.delete(watcher))
    })
  }

  readonly records: Records = {
    received: Effect.sync(() => this.messages.slice()),
    transcript: Effect.sync(() => this.lines.slice()),
    connections: Effect.sync(() => Array.from(this.all, (connection) => connection.info())),
    awaitReceived: (n) => Effect.map(this.until(() => this.accepted >= n), () => this.messages.slice()),
    awaitClosed: this.until(() => [...this.all].every((connection) => !connection.open))
  }
}
