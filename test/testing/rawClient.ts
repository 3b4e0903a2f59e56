/** A client that talks lines to a connector's duplex: no protocol, for tests of the fake server. */
import * as Effect from "effect/Effect"
import { type Duplex, type Ended, SmtpConnector, type TlsUpgrade } from "../../src/SmtpConnector.ts"
import * as SmtpReply from "../../src/SmtpReply.ts"

const utf8 = new TextEncoder()
const text = new TextDecoder()

export const tls: TlsUpgrade = { servername: "mx.test", verify: true, options: {} }

type Event = { readonly reply: string } | { readonly ended: Ended }

export interface RawClient {
  readonly duplex: Duplex
  /** Lines, each with CRLF, in one write. */
  readonly send: (...lines: ReadonlyArray<string>) => boolean
  /** The next reply: code, then its lines joined by " / "; "FIN" or the errno at the end. */
  readonly next: Effect.Effect<string>
  readonly say: (line: string) => Effect.Effect<string>
  readonly all: (n: number) => Effect.Effect<ReadonlyArray<string>>
  /** Every call of onData as text. */
  readonly writes: ReadonlyArray<string>
  /** Everything that came, in order. */
  readonly events: ReadonlyArray<string>
  readonly drains: () => number
  readonly listen: () => void
}

const shown = (event: Event): string =>
  "reply" in event ? event.reply : event.ended._tag === "Closed" ? "FIN" : String((event.ended.cause as Error).message)

export const dial = Effect.fnUntraced(
  function*(options?: { readonly port?: number; readonly path?: string; readonly silent?: boolean }) {
    const connector = yield* SmtpConnector
    const [target] = yield* connector.resolve({ host: "mx.test", port: options?.port ?? 25, path: options?.path })
    const duplex = yield* connector.connect(target)
    const writes: Array<string> = []
    const seen: Array<string> = []
    let read = 0
    let waiting: (() => void) | undefined
    let drains = 0
    const offer = (event: Event) => {
      seen.push(shown(event))
      waiting?.()
    }
    const decoder = SmtpReply.makeDecoder()
    const listen = () =>
      duplex.listen({
        onData: (octets) => {
          writes.push(text.decode(octets))
          decoder.push(octets, (reply) => offer({ reply: `${reply.code} ${reply.lines.join(" / ")}` }))
        },
        onDrain: () => {
          drains++
        },
        onEnd: (ended) => offer({ ended })
      })
    const send = (...lines: ReadonlyArray<string>) =>
      duplex.write([utf8.encode(
        lines.map((line) => `${line}\r\n`).join("")
      )])
    const next = Effect.callback<string>((resume) => {
      const look = () => {
        const event = seen[read]
        waiting = event === undefined ? look : undefined
        if (event === undefined) return
        read++
        resume(Effect.succeed(event))
      }
      look()
    })
    const client: RawClient = {
      duplex,
      send,
      next,
      say: (line) => Effect.suspend(() => (send(line), next)),
      all: (n) => Effect.forEach(Array.from({ length: n }), () => next),
      writes,
      events: seen,
      drains: () => drains,
      listen
    }
    if (options?.silent !== true) listen()
    return client
  }
)

/** Lets everything that is under way happen. */
export const settle = Effect.andThen(Effect.yieldNow, Effect.yieldNow)

/** Dials, reads the greeting, says EHLO. */
export const greeted = Effect.gen(function*() {
  const client = yield* dial()
  yield* client.next
  yield* client.say("EHLO me.test")
  return client
})

/** As greeted, then STARTTLS and EHLO again. */
export const secured = Effect.gen(function*() {
  const client = yield* greeted
  yield* client.say("STARTTLS")
  yield* client.duplex.upgrade(tls)
  yield* client.say("EHLO me.test")
  return client
})

export const base64 = (plain: string) => Buffer.from(plain).toString("base64")
