/**
 * Messages and lists of mails from plain JavaScript, as what the client takes. No finalizer here waits for foreign code,
 * and none dies of it.
 */
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import * as NodeMessage from "../../node/NodeMessage.ts"
import type * as SmtpConnection from "../../SmtpConnection.ts"
import { EMESSAGE, ESTREAM } from "../../SmtpError.ts"
import { escapeText } from "../../SmtpReply.ts"
import type { Message } from "./model.ts"

const refuse = (message: string, cause?: unknown): ESTREAM =>
  new ESTREAM({ message: `message: ${message}`, command: "DATA", field: "message", temporary: false, cause })

const failed = (cause: unknown): ESTREAM =>
  cause instanceof ESTREAM
    ? cause
    : refuse(`its source failed: ${cause instanceof Error ? escapeText(cause.message) : "see cause"}`, cause)

type NodeStream = NodeJS.ReadableStream & { readonly destroy?: () => unknown }

const has = (u: object, key: PropertyKey): boolean => typeof Reflect.get(u, key) === "function"

const isObject = (u: unknown): u is object => typeof u === "object" && u !== null

const isNodeStream = (u: unknown): u is NodeStream => isObject(u) && has(u, "pipe") && has(u, "on")

const isAsyncIterable = (u: unknown): u is AsyncIterable<unknown> => isObject(u) && has(u, Symbol.asyncIterator)

const nothing = (): void => {}

/** An iterator whose end is asked for, and not waited for: foreign code may never give it, or throw. */
const detached = <A>(iterator: AsyncIterator<A>, next = () => iterator.next()): AsyncIterator<A> => ({
  next,
  return: () => {
    void new Promise((resolve) => resolve(iterator.return?.())).catch(nothing)
    return Promise.resolve({ done: true, value: undefined })
  }
})

/** One-shot sources that were handed out: a second run would find the rest, or nothing, and take that for the message. */
const taken = new WeakSet<object>()

const open = <A>(source: AsyncIterable<A>): AsyncIterator<A> => {
  const iterator = source[Symbol.asyncIterator]()
  if (Object.is(iterator, source) || has(source, "getReader")) {
    if (taken.has(source)) throw refuse("one-shot source: it was read before; open a new one for each send")
    taken.add(source)
  }
  return detached(iterator)
}

const octets = (source: AsyncIterable<unknown>): Stream.Stream<Uint8Array | string, ESTREAM> =>
  Stream.suspend(() => {
    const iterator = Result.try(() => open(source))
    if (Result.isFailure(iterator)) return Stream.fail(failed(iterator.failure))
    return Stream.fromAsyncIterable({ [Symbol.asyncIterator]: () => iterator.success }, failed)
  }) as Stream.Stream<Uint8Array | string, ESTREAM>

/** A message as the client takes it. */
export const toMessage = (message: Message): Result.Result<SmtpConnection.Message<unknown>, EMESSAGE> => {
  if (typeof message === "string" || message instanceof Uint8Array || Stream.isStream(message)) {
    return Result.succeed(message)
  }
  if (isNodeStream(message)) return Result.succeed(NodeMessage.fromReadable(() => message))
  if (isAsyncIterable(message)) return Result.succeed(octets(message))
  return Result.fail(
    new EMESSAGE({
      message: "message: expected a string, octets, a Node stream, a web stream, or an async iterable of them",
      command: "API",
      attempted: false,
      field: "message"
    })
  )
}

/** Takes a Node stream over: an error that comes before anybody reads must not end the process. */
export const adopt = (message: Message): void => {
  if (isNodeStream(message)) message.on("error", nothing)
}

/** Frees a Node stream, whether it was read or not. */
export const release = (message: Message): void => {
  if (isNodeStream(message)) message.destroy?.()
}

const iteratorOf = <A>(items: AsyncIterable<A> | Iterable<A>): AsyncIterator<A> => {
  if (isAsyncIterable(items)) return items[Symbol.asyncIterator]() as AsyncIterator<A>
  const iterator = (items as Iterable<A>)[Symbol.iterator]()
  const settled = (step: () => IteratorResult<A>) => new Promise<IteratorResult<A>>((resolve) => resolve(step()))
  return {
    next: () => settled(() => iterator.next()),
    return: () => settled(() => iterator.return?.() ?? { done: true, value: undefined })
  }
}

/** One item more; when the signal comes first, a failure with its reason. */
const nextBefore = <A>(signal: AbortSignal, iterator: AsyncIterator<A>) => (): Promise<IteratorResult<A>> =>
  new Promise((resolve, reject) => {
    const stop = () => reject(signal.reason)
    if (signal.aborted) return stop()
    signal.addEventListener("abort", stop, { once: true })
    const settled = new Promise<IteratorResult<A>>((next) => next(iterator.next()))
    settled.then(resolve, reject).finally(() => signal.removeEventListener("abort", stop))
  })

/** The items of a list until the signal comes, which is a failure with its reason, as is an error of the list. */
export const until = <A>(items: AsyncIterable<A> | Iterable<A>, signal: AbortSignal): Stream.Stream<A, unknown> =>
  Stream.suspend(() => {
    const iterator = Result.try(() => iteratorOf(items))
    if (Result.isFailure(iterator)) return Stream.fail(iterator.failure)
    const { success } = iterator
    const iterable = { [Symbol.asyncIterator]: () => detached(success, nextBefore(signal, success)) }
    return Stream.fromAsyncIterable(iterable, (error) => error)
  })
