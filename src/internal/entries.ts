/**
 * What the entries of a transcript are made of: their time, and message content as text that survives JSON.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Base64 from "effect/encoding/Base64"
import * as Result from "effect/Result"

/** Milliseconds of the clock that no adjustment of the wall clock moves. */
export const now: Effect.Effect<number> = Effect.map(Clock.monotonicTimeNanos, (nanos) => Number(nanos) / 1e6)

/** Octets as text, or in base64 where they are not UTF-8. */
export interface Written {
  readonly text?: string
  readonly base64?: string
}

const encoder = new TextEncoder()
const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

export const sizeOf = (chunks: ReadonlyArray<Uint8Array>): number =>
  chunks.reduce((size, chunk) => size + chunk.length, 0)

const joined = (chunks: ReadonlyArray<Uint8Array>): Uint8Array => {
  const whole = new Uint8Array(sizeOf(chunks))
  let at = 0
  for (const chunk of chunks) {
    whole.set(chunk, at)
    at += chunk.length
  }
  return whole
}

export const write = (chunks: ReadonlyArray<Uint8Array>): Written => {
  const octets = joined(chunks)
  try {
    return { text: strict.decode(octets) }
  } catch {
    return { base64: Base64.encode(octets) }
  }
}

/** What {@link write} wrote; nothing for what is not base64. */
export const read = ({ base64 = "", text }: Written): Uint8Array =>
  text === undefined ? Result.getOrElse(Base64.decode(base64), () => new Uint8Array(0)) : encoder.encode(text)
