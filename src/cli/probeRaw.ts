/**
 * What the library itself never does, for `probe` alone: a command slipped in behind STARTTLS, an old TLS, and the whole
 * chain of certificates of a server that does not verify.
 *
 * What it is: a few lines of dialogue over `node:net` and `node:tls`, in which nothing is trusted and nothing is sent.
 */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as net from "node:net"
import * as tls from "node:tls"
import * as SmtpReply from "../SmtpReply.ts"

/** Where to look, and how. */
export interface Place {
  readonly host: string
  readonly port: number
  readonly path: string | undefined
  readonly servername: string
  readonly implicit: boolean
  /** The first command: "EHLO me.test". */
  readonly hello: string
}

/** A line of dialogue that did not come about: why. */
type Broken = { readonly _tag: "Broken"; readonly why: string }
const broken = (why: string): Broken => ({ _tag: "Broken", why })

const codeOf = (error: unknown): string =>
  error instanceof Error && "code" in error ? String(error.code) : error instanceof Error ? error.name : "unknown"

type Replies = Queue.Queue<SmtpReply.SmtpReply, Cause.Done>

class Dialogue {
  socket: net.Socket
  readonly replies: Replies
  constructor(socket: net.Socket, replies: Replies) {
    this.socket = socket
    this.replies = replies
    this.listen()
  }
  listen(): void {
    const decoder = SmtpReply.makeDecoder()
    const end = () => Queue.endUnsafe(this.replies)
    this.socket.on("data", (octets: Uint8Array) => {
      const read = decoder.push(octets, (reply) => Queue.offerUnsafe(this.replies, reply))
      if (Result.isFailure(read)) end()
    }).on("error", end).on("close", end)
  }
  readonly next: Effect.Effect<SmtpReply.SmtpReply, Broken> = Effect.suspend(() =>
    Effect.mapError(Queue.take(this.replies), () => broken("the server closed the connection"))
  )
  ask(line: string): Effect.Effect<SmtpReply.SmtpReply, Broken> {
    return Effect.suspend(() => {
      this.socket.write(`${line}\r\n`)
      return this.next
    })
  }
  secure(servername: string, options: tls.ConnectionOptions): Effect.Effect<tls.TLSSocket, Broken> {
    return Effect.callback((resume) => {
      this.socket.removeAllListeners("data").removeAllListeners("close").removeAllListeners("error").on(
        "error",
        () => {}
      )
      const fail = (error?: unknown) =>
        resume(Effect.fail(broken(error === undefined ? "the connection was closed" : codeOf(error))))
      const secured = tls.connect({ ...options, ...sni(servername), socket: this.socket, rejectUnauthorized: false })
      this.socket = secured.on("error", fail).on("close", () => fail()).once("secureConnect", () => {
        this.listen()
        resume(Effect.succeed(secured))
      })
    })
  }
}

const sni = (servername: string): tls.ConnectionOptions => net.isIP(servername) === 0 ? { servername } : {}

const dial = (place: Place): Effect.Effect<net.Socket, Broken, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<net.Socket, Broken>((resume) => {
      const socket = place.path === undefined ? net.connect(place.port, place.host) : net.connect(place.path)
      socket.on("error", (error) => resume(Effect.fail(broken(codeOf(error)))))
      socket.once("connect", () => resume(Effect.succeed(socket)))
      return Effect.sync(() => socket.destroy())
    }),
    (socket) => Effect.sync(() => socket.destroy()),
    { interruptible: true }
  )

/** Over TLS, by STARTTLS with `behind` in the same write, or from the first octet. */
const secured = Effect.fnUntraced(function*(place: Place, behind: string, options: tls.ConnectionOptions) {
  const socket = yield* dial(place)
  const replies: Replies = yield* Queue.make<SmtpReply.SmtpReply, Cause.Done>()
  const dialogue = new Dialogue(socket, replies)
  if (!place.implicit) {
    yield* dialogue.next
    yield* dialogue.ask(place.hello)
    const reply = yield* dialogue.ask(`STARTTLS${behind}`)
    if (reply.code !== 220) return yield* Effect.fail(broken(`STARTTLS: ${SmtpReply.render(reply)}`))
  }
  const over = yield* dialogue.secure(place.servername, options)
  return { dialogue, over }
})

const bounded = <A>(self: Effect.Effect<A, Broken, Scope.Scope>): Effect.Effect<Result.Result<A, Broken>> =>
  self.pipe(
    Effect.timeoutOrElse({ duration: "15 seconds", orElse: () => Effect.fail(broken("no answer in 15 seconds")) }),
    Effect.scoped,
    Effect.result
  )

/** The DER forms of the chain, the server's own certificate first. */
export const chain = (place: Place): Effect.Effect<ReadonlyArray<Uint8Array>> =>
  secured(place, "", { minVersion: "TLSv1.2" }).pipe(
    Effect.map(({ over }) => {
      const found: Array<Uint8Array> = []
      const seen = new Set<string>()
      let one: tls.DetailedPeerCertificate | undefined = over.getPeerCertificate(true)
      while (one?.raw !== undefined && !seen.has(one.fingerprint256)) {
        seen.add(one.fingerprint256)
        found.push(one.raw)
        one = one.issuerCertificate
      }
      return found
    }),
    bounded,
    Effect.map(Result.getOrElse(() => []))
  )

/** What a check found out; "untested": why not. */
export type Check = { readonly _tag: "Passed" | "Failed" | "Untested"; readonly detail: string }

/** Whether a command that came in clear behind STARTTLS is answered over TLS (CVE-2011-0411 and its kin). */
export const injection = (place: Place): Effect.Effect<Check> =>
  secured(place, "\r\nNOOP", { minVersion: "TLSv1.2" }).pipe(
    Effect.flatMap(({ dialogue }) => dialogue.ask("QUIT")),
    Effect.map((reply): Check =>
      reply.code === 221
        ? { _tag: "Passed", detail: "a command slipped in behind STARTTLS is dropped" }
        : { _tag: "Failed", detail: "a command slipped in behind STARTTLS is executed over TLS" }
    ),
    bounded,
    Effect.map(Result.getOrElse(({ why }): Check =>
      why.startsWith("no answer")
        ? { _tag: "Untested", detail: why }
        : { _tag: "Passed", detail: `a command slipped in behind STARTTLS ends the connection (${why})` }
    ))
  )

const unsupported = /NO_PROTOCOLS|UNSUPPORTED|INVALID_ARG|no answer|ECONN|ETIMEDOUT|STARTTLS:/

/** Whether TLS below 1.2 is refused (RFC 8996). */
export const oldTls = (place: Place): Effect.Effect<Check> =>
  secured(place, "", { minVersion: "TLSv1", maxVersion: "TLSv1.1", ciphers: "DEFAULT@SECLEVEL=0" }).pipe(
    Effect.map(({ over }): Check => ({ _tag: "Failed", detail: `${over.getProtocol()} is still accepted` })),
    bounded,
    Effect.map(Result.getOrElse(({ why }): Check =>
      unsupported.test(why) && why !== "ECONNRESET"
        ? { _tag: "Untested", detail: `TLS 1.1 could not be tried: ${why}` }
        : { _tag: "Passed", detail: "TLS 1.1 and older are refused" }
    ))
  )
