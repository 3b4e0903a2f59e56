/**
 * The octets of a composed message: what Nodemailer wrote, with the content in the place of the markers.
 */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as DotStuffing from "../../DotStuffing.ts"
import { EMESSAGE } from "../../SmtpError.ts"
import { isChunk, makeJoiner } from "../message.ts"
import * as base64 from "./base64.ts"
import { type Part, withLineEnds } from "./content.ts"

/** A piece of the message: octets as they are sent, octets to encode, or a stream. */
export type Segment<E, R> =
  | { readonly _tag: "Text"; readonly octets: Uint8Array }
  | { readonly _tag: "Octets"; readonly octets: Uint8Array }
  | {
    readonly _tag: "Stream"
    readonly stream: Stream.Stream<Uint8Array | string, E, R>
    readonly isEncoded: boolean
  }

const LF = 0x0a
const CR = 0x0d
const utf8 = new TextEncoder()
const decoder = new TextDecoder("utf-8", { ignoreBOM: true })

/** Canonical line ends, and nothing after the last one: the message goes on behind the part. */
const asItIs = (): base64.Transfer => {
  const encoder = DotStuffing.makeEncoder({ stuffing: false })
  return {
    push: encoder.push,
    end: () => {
      const missing = encoder.end()
      return missing.length === 1 ? missing : missing.subarray(0, 0)
    }
  }
}

const join = (...octets: ReadonlyArray<Uint8Array>): Uint8Array => {
  const joined = new Uint8Array(octets.reduce((sum, { length }) => sum + length, 0))
  let at = 0
  for (const one of octets) {
    joined.set(one, at)
    at += one.length
  }
  return joined
}

const segmentOf = <E, R>({ content, isEncoded }: Part<E, R>): Segment<E, R> => {
  if (!(content instanceof Uint8Array)) return { _tag: "Stream", stream: content, isEncoded }
  if (isEncoded) return { _tag: "Octets", octets: content }
  const transfer = asItIs()
  const octets = transfer.push(content)
  return { _tag: "Text", octets: join(octets, transfer.end()) }
}

const escape = (text: string): string => text.replace(/[+/.]/g, "\\$&")

const lost = new EMESSAGE({
  message: "fields: Nodemailer did not lay out every part once; report it with its version",
  command: "API",
  attempted: false,
  field: "fields"
})

/** Puts the parts in their places. */
export const segmentsOf = <E, R>(
  written: Uint8Array,
  parts: ReadonlyArray<Part<E, R>>
): Effect.Effect<ReadonlyArray<Segment<E, R>>, EMESSAGE> => {
  const text = withLineEnds(decoder.decode(written))
  if (parts.length === 0) return Effect.succeed([{ _tag: "Text", octets: utf8.encode(text) }])
  const byMarker = new Map(parts.map((part) => [part.marker, part]))
  const pieces = text.split(new RegExp(`(${[...byMarker.keys()].map(escape).join("|")})`))
  const found = pieces.filter((_, index) => index % 2 === 1)
  if (found.length !== parts.length || new Set(found).size !== parts.length) return Effect.fail(lost)
  return Effect.succeed(
    pieces.map((piece, index): Segment<E, R> =>
      index % 2 === 1 ? segmentOf(byMarker.get(piece)!) : { _tag: "Text", octets: utf8.encode(piece) }
    )
  )
}

/** The index behind the first empty line. */
const endOfHead = (octets: Uint8Array): number => {
  for (let at = octets.indexOf(LF); at >= 0; at = octets.indexOf(LF, at + 1)) {
    if (octets[at + 1] === CR && octets[at + 2] === LF) return at + 3
  }
  return octets.length
}

/** Cuts the header off; the empty line stays with it. No part stands in front of it. */
export const split = <E, R>([first, ...rest]: ReadonlyArray<Segment<E, R>>): {
  readonly head: Uint8Array
  readonly body: ReadonlyArray<Segment<E, R>>
} => {
  const octets = first?._tag === "Text" ? first.octets : new Uint8Array(0)
  const at = endOfHead(octets)
  return { head: octets.subarray(0, at), body: [{ _tag: "Text", octets: octets.subarray(at) }, ...rest] }
}

const sizeOf = <E, R>(segment: Segment<E, R>): number => {
  if (segment._tag === "Stream") return Number.NaN
  return segment._tag === "Text" ? segment.octets.length : base64.encodedLength(segment.octets.length)
}

/** What is known of the message before a stream in it is read. */
export const measure = <E, R>(segments: ReadonlyArray<Segment<E, R>>): {
  readonly size: number | undefined
  readonly hasEightBit: boolean | undefined
} => {
  const size = segments.reduce((sum, segment) => sum + sizeOf(segment), 0)
  const hasEightBit = segments.some((one) => one._tag === "Text" && DotStuffing.measure(one.octets).hasEightBit)
  const isUnknown = segments.some((one) => one._tag === "Stream" && !one.isEncoded)
  return {
    size: Number.isNaN(size) ? undefined : size,
    hasEightBit: isUnknown && !hasEightBit ? undefined : hasEightBit
  }
}

/** Octets encoded together: whole lines of Base64, 77 KiB of them. */
const slice = 57 * 1024

function* encoded(octets: Uint8Array): Generator<Uint8Array> {
  const transfer = base64.make()
  for (let from = 0; from < octets.length; from += slice) yield transfer.push(octets.subarray(from, from + slice))
  yield transfer.end()
}

const noOctets = new EMESSAGE({
  message: "message: a stream of an attachment or alternative gave something that is neither octets nor a string",
  command: "DATA",
  field: "attachments"
})

const ofStream = <E, R>(
  stream: Stream.Stream<Uint8Array | string, E, R>,
  isEncoded: boolean
): Stream.Stream<Uint8Array, E | EMESSAGE, R> =>
  stream.pipe(
    Stream.mapArrayEffect((chunks) => chunks.every(isChunk) ? Effect.succeed(chunks) : Effect.fail(noOctets)),
    Stream.mapAccumArray(
      () => ({ joiner: makeJoiner(), transfer: isEncoded ? base64.make() : asItIs() }),
      (state, chunks) => [state, chunks.map((chunk) => state.transfer.push(state.joiner.push(chunk)))],
      { onHalt: ({ joiner, transfer }) => [transfer.push(joiner.end()), transfer.end()] }
    )
  )

const ofSegment = <E, R>(segment: Segment<E, R>): Stream.Stream<Uint8Array, E | EMESSAGE, R> => {
  switch (segment._tag) {
    case "Text":
      return Stream.succeed(segment.octets)
    case "Octets":
      return Stream.suspend(() => Stream.fromIterable(encoded(segment.octets), { chunkSize: 1 }))
    case "Stream":
      return ofStream(segment.stream, segment.isEncoded)
  }
}

/** The octets of the segments, anew for each run. */
export const toStream = <E, R>(
  segments: ReadonlyArray<Segment<E, R>>
): Stream.Stream<Uint8Array, E | EMESSAGE, R> =>
  Stream.filter(Stream.flatMap(Stream.fromIterable(segments), ofSegment), (octets) => octets.length > 0)
