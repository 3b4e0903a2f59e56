/**
 * The client for callers without Effect: promises, abort signals, async iterables and plain strings.
 *
 * What it is: a thin face over `SmtpClient` and `NodeConnector`, with the same options, guarantees, results and errors:
 * a call rejects with an instance of the classes of `SmtpError` (`error.code === "EAUTH"`). What it is not: another
 * client; what it lacks (connections of your own, combinators, streams with requirements) the Effect face has.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import type * as Envelope from "./Envelope.ts"
import { endedSend } from "./internal/deadline.ts"
import type { SendResult } from "./internal/outcome.ts"
import type { CallOptions, Mail, Message, Options, SendAllOptions, Settled } from "./internal/promise/model.ts"
import * as settings from "./internal/promise/settings.ts"
import * as source from "./internal/promise/source.ts"
import * as SmtpClient from "./SmtpClient.ts"
import * as SmtpError from "./SmtpError.ts"
import * as SmtpReply from "./SmtpReply.ts"

export type {
  /** @since 0.1.0 */
  Auth,
  /** @since 0.1.0 */
  CallOptions,
  /** @since 0.1.0 */
  Mail,
  /** @since 0.1.0 */
  Message,
  /** @since 0.1.0 */
  Options,
  /** @since 0.1.0 */
  Secret,
  /** @since 0.1.0 */
  SendAllOptions,
  /** @since 0.1.0 */
  ServerOptions,
  /** @since 0.1.0 */
  Settled,
  /** @since 0.1.0 */
  TlsOptions
} from "./internal/promise/model.ts"

/**
 * What an aborted `send` rejects with when the message, or the end of it, was already handed over: the outcome goes with
 * it.
 *
 * **Details**
 *
 * `name` is "AbortError" and `code` "ABORT_ERR", as in Node; `cause` is the signal's reason. A send that is aborted after
 * the message waits at most 500 ms for the server's answer. `inDoubt: true`: none came, and the server may have the
 * message. Else `reply` is the answer: a code of 2yz says that it was accepted. A send that is aborted before rejects
 * with the signal's reason alone, and nothing was sent.
 *
 * @category errors
 * @since 0.1.0
 */
export class SendAborted extends Error {
  override readonly name = "AbortError"
  readonly code = "ABORT_ERR"
  /** Whether the server may have accepted the message. */
  readonly inDoubt: boolean
  /** The server's final answer, when it came. */
  readonly reply: SmtpReply.SmtpReply | undefined

  constructor(outcome: SmtpError.Outcome["Service"], reason: unknown) {
    const { inDoubt, reply } = outcome
    const known = reply === undefined ? "its outcome is in doubt" : `the server answered ${SmtpReply.render(reply)}`
    super(`aborted after the message was handed over; ${known}`, { cause: reason })
    this.inDoubt = inDoubt
    this.reply = reply
  }
}

/**
 * A client of promises, made by {@link createTransport}.
 *
 * @category models
 * @since 0.1.0
 */
export interface Transport {
  /** Sends one message; resolves when at least one recipient was accepted, with those who were not in `rejectedErrors`. */
  readonly send: (envelope: Envelope.Input, message: Message, options?: CallOptions) => Promise<SendResult>
  /**
   * Sends many mails; each that was pulled gives exactly one result, in order. After an abort or `close` nothing more is
   * pulled, what was begun gives its result, and then the iteration throws; so it does when `mails` itself throws. Leaving
   * the loop early aborts what is on its way.
   */
  readonly sendAll: (mails: AsyncIterable<Mail> | Iterable<Mail>, options?: SendAllOptions) => AsyncIterable<Settled>
  /** Connects, logs in, says QUIT, and tells what it saw; sends nothing. */
  readonly verify: (options?: CallOptions) => Promise<SmtpClient.Report>
  /**
   * Takes no more calls, waits for those that run, and frees every connection. When the signal is aborted, the calls that
   * still run are ended as if they had been aborted.
   */
  readonly close: (options?: CallOptions) => Promise<void>
  readonly [Symbol.asyncDispose]: () => Promise<void>
}

const closed = (attempted: boolean): SmtpError.ECONNECTION =>
  new SmtpError.ECONNECTION({
    message: attempted ? "the transport was closed before the call ended" : "the transport is closed; create a new one",
    command: "API",
    attempted
  })

/** What a call ended in; `reason` speaks for an interruption, unless more is known. */
const settle = <A>(exit: Exit.Exit<A, unknown>, reason: () => unknown): Promise<A> => {
  if (Exit.isSuccess(exit)) return Promise.resolve(exit.value)
  if (!Cause.hasInterruptsOnly(exit.cause)) return Promise.reject(Cause.squash(exit.cause))
  const ended = endedSend(exit.cause) as Exit.Exit<A, unknown> | undefined
  if (ended !== undefined) return settle(ended, reason)
  const outcome = Context.getOrUndefined(Cause.annotations(exit.cause), SmtpError.Outcome)
  return Promise.reject(outcome === undefined ? reason() : new SendAborted(outcome, reason()))
}

class PromiseTransport implements Transport {
  readonly #runtime: ManagedRuntime.ManagedRuntime<SmtpClient.SmtpClient, SmtpError.ECONFIG>
  readonly #running = new Set<Promise<unknown>>()
  readonly #closing = new AbortController()

  constructor({ connector, options }: settings.Settings) {
    this.#runtime = ManagedRuntime.make(SmtpClient.layer(options).pipe(Layer.provideMerge(connector)))
  }

  #run<A>(
    call: (client: SmtpClient.Client) => Effect.Effect<A, unknown>,
    signal: AbortSignal | undefined
  ): Promise<A> {
    if (this.#closing.signal.aborted) return Promise.reject(this.#closing.signal.reason)
    if (signal?.aborted === true) return Promise.reject(signal.reason)
    const reason = () => (signal?.aborted === true ? signal.reason : closed(true))
    const running = this.#runtime.runPromiseExit(SmtpClient.SmtpClient.use(call), { signal })
    this.#running.add(running)
    return running.finally(() => this.#running.delete(running)).then((exit) => settle(exit, reason))
  }

  readonly send: Transport["send"] = (envelope, message, { signal } = {}) => {
    source.adopt(message)
    const sent = this.#run(
      (client) =>
        Effect.flatMap(Effect.fromResult(source.toMessage(message)), (content) => client.send(envelope, content)),
      signal
    )
    return sent.finally(() => source.release(message))
  }

  readonly sendAll: Transport["sendAll"] = (mails, { concurrency = 1, signal } = {}) => {
    if (!Number.isInteger(concurrency) || concurrency < 1) {
      const message = "concurrency: expected a whole number, at least 1"
      throw new SmtpError.ECONFIG({ message, command: "API", attempted: false, field: "concurrency" })
    }
    const both = (other: AbortSignal) => (signal === undefined ? other : AbortSignal.any([other, signal]))
    const one = (mail: Mail) =>
      Effect.promise<Settled>((left) =>
        this.send(mail?.envelope, mail?.message, { signal: both(left) }).then(
          (value) => ({ status: "fulfilled", value }),
          (reason) => ({ status: "rejected", reason })
        )
      )
    const results = Stream.suspend(() => {
      let end: Effect.Effect<never, unknown> | undefined
      const pulled = Stream.catch(source.until(mails, both(this.#closing.signal)), (error) => {
        end = Effect.fail(error)
        return Stream.empty
      })
      const last = Stream.suspend(() => (end === undefined ? Stream.empty : Stream.fromEffect(end)))
      return Stream.concat(Stream.mapEffect(pulled, one, { concurrency }), last)
    })
    return Stream.toAsyncIterable(results)
  }

  readonly verify: Transport["verify"] = ({ signal } = {}) => this.#run((client) => client.verify, signal)

  readonly close: Transport["close"] = ({ signal } = {}) => {
    this.#closing.abort(closed(false))
    const drained = Promise.allSettled(this.#running)
    const enough = new Promise<void>((resolve) => {
      if (signal?.aborted === true) resolve()
      signal?.addEventListener("abort", () => resolve(), { once: true })
    })
    return Promise.race([drained, enough]).then(() => this.#runtime.dispose())
  }

  readonly [Symbol.asyncDispose] = (): Promise<void> => this.close()
}

/**
 * Makes a transport from options, or from a URL. It connects when it is first used.
 *
 * **Details**
 *
 * Options are checked here: what contradicts itself throws an `ECONFIG` that names the field (in a policy or a fallback,
 * the first call rejects with it). Nothing weaker than
 * verified TLS is used unless the options say so. Every call settles within its deadlines (`timeouts`), resolves with a
 * result, or rejects with an error of `SmtpError`; with the signal's reason when it is aborted, or {@link SendAborted}
 * where the message may be at the server. After `close` a call rejects with `ECONNECTION`, whose `command` is "API".
 *
 * **Gotchas**
 *
 * Close it: connections that are kept may keep the process alive. `await using` does so by itself.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { SmtpError } from "effect-smtp"
 * import { createTransport } from "effect-smtp/promise"
 * import { SmtpServer } from "effect-smtp/testing"
 *
 * await using transport = createTransport({
 *   host: "smtp.example.test",
 *   port: 587,
 *   auth: { username: "app", password: "a secret" },
 *   connector: SmtpServer.layer() // leave it out in production
 * })
 * const result = await transport.send(
 *   { from: "app@example.test", to: ["ann@example.test"] },
 *   "Subject: Hello\n\nGood to have you.\n",
 *   { signal: AbortSignal.timeout(30_000) }
 * )
 * assert.deepStrictEqual(result.accepted, ["ann@example.test"])
 *
 * await assert.rejects(
 *   transport.send({ from: "app@example.test", to: "no address" }, "Subject: Hello\n\n"),
 *   (error) => error instanceof SmtpError.EENVELOPE && error.field === "envelope.to"
 * )
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const createTransport = (options: Options | string | URL): Transport =>
  new PromiseTransport(Result.getOrThrow(settings.resolve(options)))
