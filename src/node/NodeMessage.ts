/**
 * Messages from Node's streams: a `Readable` as the `Stream` that `send` takes.
 *
 * What it is: the errors, the backpressure and the end of a Node stream, told in Effect's words. What it is not: an
 * encoder; the octets are the message, and `send` brings them into canonical form.
 *
 * @since 0.1.0
 */
import * as NodeStream from "@effect/platform-node/NodeStream"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import { Buffer } from "node:buffer"
import { Readable } from "node:stream"
import { ESTREAM } from "../SmtpError.ts"
import { escapeText } from "../SmtpReply.ts"

/** A source that is never empty would else fill the memory in one pull; a read gives up to its highWaterMark, 64 KiB. */
const readsPerPull = 16

type Source = Readable | NodeJS.ReadableStream

const refuse = (message: string, cause?: unknown): ESTREAM =>
  new ESTREAM({ message: `message: ${message}`, command: "DATA", field: "message", temporary: false, cause })

const failed = (cause: unknown): ESTREAM =>
  cause instanceof ESTREAM
    ? cause
    : refuse(`the Node stream failed: ${cause instanceof Error ? escapeText(cause.message) : "see cause"}`, cause)

/** What was handed out for a run. A second run would find the rest of it, or nothing, and take that for the message. */
const taken = new WeakSet<Source>()

const isSpent = (source: Source): boolean =>
  taken.has(source) ||
  (source instanceof Readable && (source.readableEnded || (source.destroyed && source.errored === null)))

/** Opens the source; a failure becomes a stream that fails, so that nothing lies between opening and listening. */
const open = (evaluate: () => Source): Source => {
  const source = Result.try(evaluate)
  if (Result.isFailure(source)) return new Readable().destroy(failed(source.failure))
  if (isSpent(source.success)) {
    return new Readable().destroy(
      refuse("one-shot source: this Node stream was read or destroyed before; open a new one for each run")
    )
  }
  taken.add(source.success)
  return source.success
}

const octetsOf = (encoding: BufferEncoding) => (chunk: unknown): Effect.Effect<Uint8Array, ESTREAM> => {
  if (chunk instanceof Uint8Array) return Effect.succeed(chunk)
  return typeof chunk === "string"
    ? Effect.succeed(Buffer.from(chunk, encoding))
    : Effect.fail(refuse("the Node stream gave something that is neither octets nor a string"))
}

/**
 * The octets of a Node stream that is opened anew for each run.
 *
 * **Details**
 *
 * `evaluate` is called when the stream is run, once per run; so the message can be sent again, and nothing is opened
 * for a send that fails before the body. An error of the source, or one that `evaluate` throws, is an `ESTREAM` that is
 * not temporary, with the error in `cause`. At the end, after a failure and on interruption the source is destroyed.
 * Strings, of a source with an encoding or in object mode, are octets in that encoding, else in UTF-8.
 *
 * **Gotchas**
 *
 * A source that was read or destroyed before is an `ESTREAM` too, never an empty message.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { Readable } from "node:stream"
 * import { Effect } from "effect"
 * import { SmtpClient } from "effect-smtp"
 * import { NodeMessage } from "effect-smtp/node"
 * import { SmtpServer } from "effect-smtp/testing"
 *
 * // In a program: () => createReadStream("mail.eml")
 * const message = NodeMessage.fromReadable(() => Readable.from([Buffer.from("Subject: Hi\r\n\r\n"), Buffer.from("Hello\r\n")]))
 *
 * const program = Effect.gen(function*() {
 *   const smtp = yield* SmtpClient.make({ host: "mx.test" })
 *   return yield* smtp.send({ from: "ann@me.test", to: "bob@mx.test" }, message)
 * })
 * const result = await Effect.runPromise(program.pipe(Effect.provide(SmtpServer.layer())))
 * assert.strictEqual(result.messageSize, 22)
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromReadable = (evaluate: () => Readable | NodeJS.ReadableStream): Stream.Stream<Uint8Array, ESTREAM> =>
  Stream.suspend(() => {
    let encoding: BufferEncoding = "utf8"
    const source = NodeStream.fromReadable<unknown, ESTREAM>({
      evaluate: () => {
        const readable = open(evaluate)
        encoding = (readable as Partial<Readable>).readableEncoding ?? encoding
        return readable
      },
      onError: failed,
      chunkSize: readsPerPull
    })
    return Stream.mapArrayEffect(source, (chunks) => Effect.forEach(chunks, octetsOf(encoding)))
  })

/**
 * The octets of a Node stream that exists already: for one run.
 *
 * **Details**
 *
 * Like {@link fromReadable}; a second run is an `ESTREAM` ("one-shot source"), whose `field` is "message".
 *
 * **Gotchas**
 *
 * A send that fails before the body never touches the stream: destroy it yourself then, and listen for its errors.
 * {@link fromReadable} opens it only when it is needed.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { Readable } from "node:stream"
 * import { Effect, Stream } from "effect"
 * import { NodeMessage } from "effect-smtp/node"
 *
 * const message = NodeMessage.fromReadableOnce(Readable.from([Buffer.from("Subject: Hi\r\n\r\n")]))
 * assert.strictEqual(await Effect.runPromise(Stream.mkString(Stream.decodeText(message))), "Subject: Hi\r\n\r\n")
 *
 * const error = await Effect.runPromise(Effect.flip(Stream.runDrain(message)))
 * assert.strictEqual(error.code, "ESTREAM")
 * assert.strictEqual(error.field, "message")
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromReadableOnce = (readable: Readable): Stream.Stream<Uint8Array, ESTREAM> => fromReadable(() => readable)
