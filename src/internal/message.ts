/**
 * A message as the transaction takes it: whole, already encoded and measured, or a stream of octets.
 */
import * as Stream from "effect/Stream"
import * as DotStuffing from "../DotStuffing.ts"
import * as SmtpError from "../SmtpError.ts"
import { sizeOf } from "./octets.ts"

/**
 * The message of a send: RFC 5322 text, as a string, as octets, or as a stream of either.
 *
 * **Details**
 *
 * It is sent in canonical form: CRLF, lone CR and lone LF each become CRLF, and a CRLF is appended if it is missing.
 * Strings are encoded as UTF-8. The errors and requirements of a stream flow into the type of the send.
 *
 * @category models
 * @since 0.1.0
 */
export type Message<E = never, R = never> = string | Uint8Array | Stream.Stream<Uint8Array | string, E, R>

export type Source<E, R> =
  | { readonly _tag: "Whole"; readonly body: Uint8Array; readonly size: number; readonly hasEightBit: boolean }
  | { readonly _tag: "Stream"; readonly stream: Stream.Stream<Uint8Array | string, E, R> }

/** Why something cannot be a message at all. */
export const problemOf = (message: unknown): SmtpError.EMESSAGE | undefined =>
  isChunk(message) || Stream.isStream(message) ? undefined : new SmtpError.EMESSAGE({
    message:
      "message: expected a string, a Uint8Array or a Stream of them; for a Node stream use NodeMessage.fromReadable",
    command: "API",
    attempted: false,
    field: "message"
  })

/** Octets as they are. */
const verbatim = (message: string | Uint8Array) => {
  const body = typeof message === "string" ? new TextEncoder().encode(message) : message
  return { body, size: body.length, hasEightBit: false }
}

/** How the octets go: stuffed up to the lone dot, counted, or counted and as they are. */
export type Form = "DATA" | "BDAT" | "BINARYMIME"

/** Encodes a message, unless it is a stream. */
export const fromMessage = <E, R>(message: Message<E, R>, form: Form): Source<E, R> => {
  if (!isChunk(message)) return { _tag: "Stream", stream: message }
  return form === "BINARYMIME"
    ? { _tag: "Whole", ...verbatim(message) }
    : { _tag: "Whole", ...DotStuffing.encodeAll(message, { stuffing: form === "DATA" }) }
}

const replayables = new WeakSet<object>()

/** Notes that a stream gives the same octets each time it runs. */
export const markReplayable = (stream: object): void => void replayables.add(stream)

/** Whether a message may be read more than once. */
export const isReplayable = (message: unknown): boolean => isChunk(message) || replayables.has(message as object)

/** A stream made of others keeps their mark, if all of them have it; so does one made of strings and octets. */
export const replayableLike = <S extends object>(stream: S, sources: Iterable<unknown>): S => {
  if ([...sources].every(isReplayable)) markReplayable(stream)
  return stream
}

/** The most octets handed to the socket in one write. */
const slice = 65_536

/** What that may become when its lines get CRs and dots. */
const grown = 81_920

/** CRLF "." CRLF, in octets. */
const terminator = 5

/** Cuts octets into writes, without copying. The terminator is never cut: it goes whole, with the last write. */
export const slices = (octets: Uint8Array): Array<Uint8Array> => {
  if (octets.length <= slice + terminator) return [octets]
  const cut: Array<Uint8Array> = []
  let from = 0
  for (; octets.length - from > slice + terminator; from += slice) cut.push(octets.subarray(from, from + slice))
  cut.push(octets.subarray(from))
  return cut
}

/** Whether a stream may hold it; a caller in JavaScript may give anything. */
export const isChunk = (u: unknown): u is Uint8Array | string => typeof u === "string" || u instanceof Uint8Array

/** The octets of a batch as writes: small ones together, large ones cut, so that each write has its own deadline. */
export const writesOf = (
  octets: ReadonlyArray<Uint8Array>,
  mayHaveGrown = false
): ReadonlyArray<ReadonlyArray<Uint8Array>> => {
  if (sizeOf(octets) <= (mayHaveGrown ? grown : slice)) return [octets]
  const writes: Array<Array<Uint8Array>> = []
  let room = 0
  for (const chunk of octets) {
    for (const part of slices(chunk)) {
      const last = writes.at(-1)
      if (last !== undefined && part.length <= room) last.push(part)
      else {
        writes.push([part])
        room = slice
      }
      room -= part.length
    }
  }
  return writes
}

/** Chunks of text and octets as octets; a surrogate pair may be split between two strings. */
export const makeJoiner = (): {
  readonly push: (chunk: Uint8Array | string) => Uint8Array
  readonly end: () => Uint8Array
} => {
  const encoder = new TextEncoder()
  let held = ""
  const release = (): string => {
    const text = held
    held = ""
    return text
  }
  return {
    push: (chunk) => {
      if (typeof chunk !== "string") {
        if (held === "") return chunk
        const before = encoder.encode(release())
        const joined = new Uint8Array(before.length + chunk.length)
        joined.set(before)
        joined.set(chunk, before.length)
        return joined
      }
      const text = release() + chunk
      const last = text.charCodeAt(text.length - 1)
      if (last < 0xd800 || last > 0xdbff) return encoder.encode(text)
      held = text.slice(-1)
      return encoder.encode(text.slice(0, -1))
    },
    end: () => encoder.encode(release())
  }
}
