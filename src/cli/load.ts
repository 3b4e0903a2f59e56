/**
 * Load: one message again and again over several connections, counted.
 *
 * What it is: an Effect over `Client.use`, and the tally that it keeps while it runs. What it is not: it prints nothing,
 * and decides nothing about which server may be put under load.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import type { Client } from "../SmtpClient.ts"
import type { Mail, SendResult, SmtpConnection } from "../SmtpConnection.ts"
import * as SmtpError from "../SmtpError.ts"
import { Durations } from "./percentiles.ts"

/**
 * What to do.
 *
 * @category models
 * @since 0.1.0
 */
export interface Load {
  /** Undefined: as many as go into `millis`. */
  readonly messages: number | undefined
  /** Milliseconds after which no message is begun. Undefined: no end but that of `messages`. */
  readonly millis: number | undefined
  /** Connections. */
  readonly concurrency: number
  readonly mode: "send" | "sendAll"
  /** Messages a second, over all connections. Undefined: as fast as it goes. */
  readonly rate: number | undefined
  readonly mail: Mail
}

/** Connections of one worker in a row that may come to no outcome of any message, before it gives up. */
const maxIdleConnections = 3

/**
 * What came of it so far; read it at any time.
 *
 * @category models
 * @since 0.1.0
 */
export class Tally {
  /** Milliseconds on the clock. */
  startedAt = 0
  /** Of the last outcome. */
  endedAt = 0
  /** Messages begun. */
  begun = 0
  accepted = 0
  failed = 0
  /** How many of the failed the server may have taken. */
  inDoubt = 0
  /** Octets of the accepted messages. */
  octets = 0
  /** Connections that were opened. */
  connections = 0
  /** Failures by tag, those of a connection and a login too. */
  readonly failures = new Map<SmtpError.Tag, number>()
  /** The first failure of each kind that matters: permanent before temporary. */
  private permanent: SmtpError.SmtpError | undefined
  private temporary: SmtpError.SmtpError | undefined
  /** From the moment a message was due to its outcome, accepted ones only. */
  readonly latencies = new Durations()

  accept(result: SendResult, latency: number): void {
    this.accepted++
    this.octets += result.messageSize
    this.latencies.add(latency)
  }

  fail(error: SmtpError.SmtpError): void {
    this.failures.set(error._tag, (this.failures.get(error._tag) ?? 0) + 1)
    if (error.inDoubt) this.inDoubt++
    if (error.isTemporary) this.temporary ??= error
    else this.permanent ??= error
  }

  /** The failure that says most: the first permanent one, else the first temporary one. */
  get worst(): SmtpError.SmtpError | undefined {
    return this.permanent ?? this.temporary
  }

  get millis(): number {
    return Math.max(0, this.endedAt - this.startedAt)
  }

  /** Accepted messages a second. */
  get perSecond(): number {
    return this.millis === 0 ? 0 : 1000 * this.accepted / this.millis
  }
}

/** The moment at which a message is due, in milliseconds on the clock. */
type Ticket = number

class Run {
  readonly load: Load
  readonly tally: Tally
  private readonly clock: Clock.Clock

  constructor(load: Load, tally: Tally, clock: Clock.Clock) {
    this.load = load
    this.tally = tally
    this.clock = clock
    tally.startedAt = tally.endedAt = this.now
  }

  get now(): number {
    return Number(this.clock.currentTimeNanosUnsafe()) / 1e6
  }

  private dueOf(n: number): Ticket {
    const { rate } = this.load
    return rate === undefined ? this.now : this.tally.startedAt + 1000 * n / rate
  }

  get isOver(): boolean {
    const { messages, millis } = this.load
    const { begun, startedAt } = this.tally
    return begun >= (messages ?? Infinity) || Math.max(this.now, this.dueOf(begun)) >= startedAt + (millis ?? Infinity)
  }

  /** The next message's turn; undefined when there is none. */
  readonly ticket: Effect.Effect<Ticket | undefined> = Effect.suspend(() => {
    if (this.isOver) return Effect.undefined
    const due = this.dueOf(this.tally.begun++)
    const wait = due - this.now
    return wait > 0 ? Effect.as(Effect.sleep(wait), due) : Effect.succeed(due)
  })

  count(due: Ticket, outcome: Result.Result<SendResult, SmtpError.SmtpError>): void {
    this.tally.endedAt = this.now
    if (Result.isSuccess(outcome)) return this.tally.accept(outcome.success, this.tally.endedAt - due)
    this.tally.failed++
    this.tally.fail(outcome.failure)
  }

  readonly one = Effect.fnUntraced(function*(this: Run, connection: SmtpConnection, counted: () => void) {
    const { envelope, message } = this.load.mail
    while (connection.isUsable) {
      const due = yield* this.ticket
      if (due === undefined) return
      this.count(due, yield* Effect.result(connection.send(envelope, message)))
      counted()
    }
  }.bind(this))

  readonly all = (connection: SmtpConnection, counted: () => void): Effect.Effect<void> => {
    const pulled: Array<Ticket> = []
    const mails = Stream.unfold(
      undefined,
      () =>
        Effect.map(this.ticket, (due): readonly [Mail, undefined] | undefined => {
          if (due === undefined) return undefined
          pulled.push(due)
          return [this.load.mail, undefined]
        })
    )
    return Stream.runForEach(
      connection.sendAll(mails),
      (outcome) =>
        Effect.sync(() => {
          this.count(pulled.shift() ?? this.now, outcome)
          counted()
        })
    )
  }

  /** One connection after the other, until there is nothing more to do, or connecting is of no use. */
  readonly worker = Effect.fnUntraced(function*(this: Run, client: Pick<Client, "use">) {
    const work = this.load.mode === "send" ? this.one : this.all
    let idle = 0
    const counted = () => {
      idle = 0
    }
    while (!this.isOver && idle < maxIdleConnections) {
      idle++
      const session = client.use((connection) => {
        this.tally.connections++
        return work(connection, counted)
      })
      const ended = yield* Effect.result(session)
      if (Result.isSuccess(ended)) continue
      this.tally.endedAt = this.now
      this.tally.fail(ended.failure)
    }
  }.bind(this))
}

/**
 * Puts the load on, and keeps the tally.
 *
 * **Details**
 *
 * Each of `concurrency` workers has a connection of its own, and opens another when it was lost; three in
 * a row that come to no outcome end the worker. With a rate, a latency counts from the moment at which the message was due, so that a server
 * which stalls cannot hide it.
 *
 * @category running
 * @since 0.1.0
 */
export const run = (client: Pick<Client, "use">, load: Load, tally: Tally): Effect.Effect<void> =>
  Clock.clockWith((clock) => {
    const running = new Run(load, tally, clock)
    const workers = Array.from({ length: load.concurrency }, () => running.worker(client))
    return Effect.all(workers, { concurrency: "unbounded", discard: true })
  })

const utf8 = new TextEncoder()

const head = (from: string, to: string): string =>
  `From: <${from}>\r\nTo: <${to}>\r\nSubject: effect-smtp bench\r\nContent-Type: text/plain\r\n\r\n`

/**
 * The octets of the fewest that a message can have.
 *
 * @category constructors
 * @since 0.1.0
 */
export const leastSize = (from: string, to: string): number => utf8.encode(head(from, to)).length + 2

const line = `${"The quick brown fox jumps over the lazy dog. ".repeat(2).slice(0, 76)}\r\n`

/**
 * A plain message of `size` octets: a header, and lines of 76 characters.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeMessage = (from: string, to: string, size: number): Uint8Array => {
  const header = head(from, to)
  const room = Math.max(2, size - utf8.encode(header).length)
  const body = line.repeat(Math.ceil(room / line.length)).slice(0, room - 2)
  // A cut inside CRLF would leave a lone CR.
  return utf8.encode(`${header}${body.replace(/\r$/, ".")}\r\n`)
}
