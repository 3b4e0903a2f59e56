/**
 * The octets of a message on the wire: all but what goes with the terminator.
 */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as DotStuffing from "../../DotStuffing.ts"
import * as SmtpError from "../../SmtpError.ts"
import { isChunk, makeJoiner, slices, writesOf } from "../message.ts"
import * as chunking from "./chunking.ts"
import type { Run } from "./model.ts"

/** What is left to write with the terminator, and the size of the message. */
export interface Rest {
  readonly last: chunking.Written
  readonly size: number
}

const inBody = { stage: "BODY" } as const

const badStream = (command: string, problem: string): SmtpError.EMESSAGE =>
  new SmtpError.EMESSAGE({ command, field: "message", message: `message: the stream holds ${problem}` })

const notChunks = "something else than strings and Uint8Arrays; convert it first"
const eightBit = "octets above 0x7f, and 8BITMIME was not declared or is not offered by the server; encode it as 7-bit"

/** The chunks of a stream, checked and encoded, one batch after the other. */
const encoded = <E, R>(
  run: Run<E, R>,
  encoder: DotStuffing.Encoder,
  stream: Stream.Stream<Uint8Array | string, E, R>,
  write: (octets: ReadonlyArray<Uint8Array>) => Effect.Effect<void, SmtpError.SmtpError>
) =>
  Effect.gen(function*() {
    const { via } = run.plan
    const joiner = makeJoiner()
    const where = { ...inBody, command: via }
    const isTooWide = () => encoder.hasEightBit && !run.plan.allowsEightBit
    yield* Stream.runForEachArray(stream, (chunks): Effect.Effect<void, SmtpError.SmtpError> => {
      if (!chunks.every(isChunk)) return Effect.fail(badStream(via, notChunks))
      const octets = chunks.map((chunk) => encoder.push(joiner.push(chunk)))
      return isTooWide() ? Effect.fail(badStream(via, eightBit)) : write(octets)
    }).pipe(Effect.raceFirst(run.dialogue.session.wire.failed(where)))
    const held = encoder.push(joiner.end())
    if (isTooWide()) return yield* badStream(via, eightBit)
    return [held, encoder.end()]
  })

/** DATA: canonical, dots stuffed (RFC 5321 §4.5.2). */
const data = Effect.fnUntraced(function*<E, R>(run: Run<E, R>) {
  const { source } = run
  const { wire } = run.dialogue.session
  wire.beginBody()
  const plain = (octets: ReadonlyArray<Uint8Array>) => ({ octets, told: wire.transcript.body(octets) })
  if (source._tag === "Whole") {
    const writes = slices(source.body)
    for (const write of writes.slice(0, -1)) yield* wire.body([write], inBody)
    return { last: plain(writes.slice(-1)), size: source.size }
  }
  const encoder = DotStuffing.makeEncoder()
  const write = (octets: ReadonlyArray<Uint8Array>) => {
    const writes = writesOf(octets, true)
    return writes.length === 1
      ? wire.body(writes[0]!, inBody)
      : Effect.forEach(writes, (one) => wire.body(one, inBody), { discard: true })
  }
  const last = yield* encoded(run, encoder, source.stream, write)
  return { last: plain(last), size: encoder.size }
})

/** Octets as they are (BODY=BINARYMIME). */
const makeVerbatim = (): DotStuffing.Encoder => {
  let size = 0
  return {
    get size() {
      return size
    },
    hasEightBit: false,
    push: (chunk) => {
      size += chunk.length
      return chunk
    },
    end: () => new Uint8Array(0)
  }
}

/** BDAT: counted chunks, nothing stuffed (RFC 3030). */
const bdat = Effect.fnUntraced(function*<E, R>(run: Run<E, R>) {
  const { source } = run
  const { wire } = run.dialogue.session
  wire.beginBody()
  if (source._tag === "Whole") return { last: yield* chunking.last(run, [source.body]), size: source.size }
  const encoder = run.plan.isVerbatim ? makeVerbatim() : DotStuffing.makeEncoder({ stuffing: false })
  const framer = chunking.make(run)
  const held = yield* encoded(run, encoder, source.stream, framer.push)
  yield* framer.settle
  return { last: yield* chunking.last(run, framer.last(held)), size: encoder.size }
})

/** Writes the body; what is left goes with the terminator. */
export const body = <E, R>(run: Run<E, R>): Effect.Effect<Rest, SmtpError.SmtpError | E, R> =>
  Effect.suspend(() => {
    run.dialogue.session.wire.step = run.plan.via
    return run.plan.via === "BDAT" ? bdat(run) : data(run)
  })
