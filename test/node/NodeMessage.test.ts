import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import { createReadStream, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Readable } from "node:stream"
import { codeOf } from "../../src/internal/errorCause.ts"
import * as NodeMessage from "../../src/node/NodeMessage.ts"
import * as SmtpClient from "../../src/SmtpClient.ts"
import * as SmtpError from "../../src/SmtpError.ts"
import * as SmtpServer from "../../src/testing/SmtpServer.ts"

const text = <E>(stream: Stream.Stream<Uint8Array, E>): Effect.Effect<string, E> =>
  Effect.map(Stream.runCollect(stream), (chunks) => Buffer.concat(chunks).toString())

/** The ESTREAM of a source that cannot be read. */
const failure = Effect.fnUntraced(function*(stream: Stream.Stream<Uint8Array, SmtpError.ESTREAM>) {
  const error = yield* Effect.flip(Stream.runDrain(stream))
  assert.instanceOf(error, SmtpError.ESTREAM)
  assert.deepStrictEqual([error.field, error.command, error.temporary, error.isTemporary], [
    "message",
    "DATA",
    false,
    false
  ])
  return error
})

const bytes = (...parts: ReadonlyArray<string>): Readable =>
  Readable.from(parts.map((part) => Buffer.from(part)), { objectMode: false })

/** A stream that gives one chunk and then nothing more. */
const open = (): Readable => {
  const readable = new Readable({ read: () => {} })
  readable.push("first\r\n")
  return readable
}

/** Until a Node stream has got round to it; I/O is not governed by TestClock. */
const until = Effect.fnUntraced(function*(holds: () => boolean) {
  while (!holds()) yield* Effect.promise(() => new Promise<void>((resolve) => void setImmediate(resolve)))
})

const temporary = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "node-message-"))),
  (folder) => Effect.sync(() => rmSync(folder, { recursive: true }))
)

const oneShot = "message: one-shot source: this Node stream was read or destroyed before; open a new one for each run"

describe("fromReadable", () => {
  it.effect("gives the octets of the source, and opens it anew for each run", () =>
    Effect.gen(function*() {
      let opened = 0
      const message = NodeMessage.fromReadable(() => {
        opened++
        return bytes("Subject: x\r\n", "\r\n", "ä\r\n")
      })
      assert.strictEqual(opened, 0)
      assert.strictEqual(yield* text(message), "Subject: x\r\n\r\nä\r\n")
      assert.strictEqual(yield* text(message), "Subject: x\r\n\r\nä\r\n")
      assert.strictEqual(opened, 2)
    }))

  it.effect("keeps octets that are no UTF-8 as they are", () =>
    Effect.gen(function*() {
      const octets = Uint8Array.from({ length: 256 }, (_, index) => index)
      const read = yield* Stream.runCollect(NodeMessage.fromReadable(() => Readable.from([octets])))
      assert.deepStrictEqual(Array.from(Buffer.concat(read)), Array.from(octets))
    }))

  it.effect("reads a file, however long, and an empty one", () =>
    Effect.gen(function*() {
      const path = join(yield* temporary, "mail.eml")
      const long = "0123456789abcde\n".repeat(20_000)
      writeFileSync(path, long)
      assert.strictEqual(yield* text(NodeMessage.fromReadable(() => createReadStream(path))), long)
      writeFileSync(path, "")
      assert.strictEqual(yield* text(NodeMessage.fromReadable(() => createReadStream(path))), "")
    }))

  it.effect("takes strings as octets: in the encoding of the source, else as UTF-8", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* text(NodeMessage.fromReadable(() => Readable.from(["ä\r\n", "b"]))), "ä\r\nb")
      assert.strictEqual(yield* text(NodeMessage.fromReadable(() => bytes("ä\r\n").setEncoding("latin1"))), "ä\r\n")
      assert.strictEqual(yield* text(NodeMessage.fromReadable(() => bytes("ä\r\n").setEncoding("hex"))), "ä\r\n")
    }))

  it.effect("is an ESTREAM with the cause when the source fails, and keeps what came before", () =>
    Effect.gen(function*() {
      const cause = Object.assign(new Error("disk \u001b[2J on fire"), { code: "EIO" })
      const message = NodeMessage.fromReadable(() =>
        Readable.from(
          (async function*() {
            yield Buffer.from("before")
            throw cause
          })(),
          { objectMode: false }
        )
      )
      const seen: Array<string> = []
      const error = yield* failure(Stream.tap(message, (chunk) => Effect.sync(() => seen.push(String(chunk)))))
      assert.strictEqual(error.cause, cause)
      assert.strictEqual(error.message, "message: the Node stream failed: disk \\u{1b}[2J on fire")
      assert.deepStrictEqual(seen, ["before"])
    }))

  it.effect("is an ESTREAM with the errno when the file is not there", () =>
    Effect.gen(function*() {
      const error = yield* failure(NodeMessage.fromReadable(() => createReadStream("/nonexistent/mail.eml")))
      assert.strictEqual(codeOf(error.cause), "ENOENT")
      assert.isFalse(SmtpError.isRetryable(error))
    }))

  it.effect("is an ESTREAM when opening throws, whatever it throws", () =>
    Effect.gen(function*() {
      const cause = new TypeError("no such path")
      const thrown = yield* failure(NodeMessage.fromReadable(() => {
        throw cause
      }))
      assert.strictEqual(thrown.cause, cause)
      assert.include(thrown.message, "no such path")
      const odd = yield* failure(NodeMessage.fromReadable(() => {
        // oxlint-disable-next-line no-throw-literal -- what a library may do
        throw "odd"
      }))
      assert.strictEqual(odd.cause, "odd")
    }))

  it.effect("is an ESTREAM when the source closes before its end", () =>
    Effect.gen(function*() {
      const readable = open()
      const fiber = yield* Effect.forkChild(failure(NodeMessage.fromReadable(() => readable)))
      yield* until(() => readable.readableDidRead)
      readable.destroy()
      assert.strictEqual(codeOf((yield* Fiber.join(fiber)).cause), "ERR_STREAM_PREMATURE_CLOSE")
    }))

  it.effect("is an ESTREAM when the source gives objects", () =>
    Effect.gen(function*() {
      const readable = Readable.from([{ a: 1 }])
      const error = yield* failure(NodeMessage.fromReadable(() => readable))
      assert.strictEqual(error.message, "message: the Node stream gave something that is neither octets nor a string")
      assert.isTrue(readable.destroyed)
    }))

  it.effect("is never an empty or a torn message when the same source is given again", () =>
    Effect.gen(function*() {
      const same = bytes("once")
      const message = NodeMessage.fromReadable(() => same)
      assert.strictEqual(yield* text(message), "once")
      assert.strictEqual((yield* failure(message)).message, oneShot)

      const busy = open()
      const fiber = yield* Effect.forkChild(Stream.runDrain(NodeMessage.fromReadable(() => busy)))
      yield* until(() => busy.readableDidRead)
      assert.strictEqual((yield* failure(NodeMessage.fromReadable(() => busy))).message, oneShot)
      assert.isFalse(busy.destroyed, "the first run goes on")
      yield* Fiber.interrupt(fiber)
    }))

  it.effect("is never an empty message when somebody else read or destroyed the source", () =>
    Effect.gen(function*() {
      const read = bytes("x")
      read.resume()
      yield* until(() => read.readableEnded)
      assert.strictEqual((yield* failure(NodeMessage.fromReadable(() => read))).message, oneShot)
      const kept = new Readable({ autoDestroy: false, read: () => {} })
      kept.push(null)
      kept.resume()
      yield* until(() => kept.readableEnded)
      assert.strictEqual((yield* failure(NodeMessage.fromReadable(() => kept))).message, oneShot)
      const destroyed = open().destroy()
      assert.strictEqual((yield* failure(NodeMessage.fromReadable(() => destroyed))).message, oneShot)
      const cause = new Error("broken before")
      const broken = open().on("error", () => {}).destroy(cause)
      yield* until(() => broken.closed)
      assert.strictEqual((yield* failure(NodeMessage.fromReadable(() => broken))).cause, cause)
    }))

  it.effect("destroys the source at the end, on an early end and on interruption, and leaves no listener", () =>
    Effect.gen(function*() {
      const whole = bytes("a", "b")
      yield* Stream.runDrain(NodeMessage.fromReadable(() => whole))
      assert.isTrue(whole.destroyed)

      const early = open()
      yield* Stream.runDrain(Stream.take(NodeMessage.fromReadable(() => early), 1))
      assert.isTrue(early.destroyed)

      const waiting = open()
      const fiber = yield* Effect.forkChild(Stream.runDrain(NodeMessage.fromReadable(() => waiting)))
      yield* until(() => waiting.readableDidRead)
      assert.isFalse(waiting.destroyed)
      yield* Fiber.interrupt(fiber)
      assert.isTrue(waiting.destroyed)
      for (const readable of [whole, early, waiting]) {
        yield* until(() => readable.closed && readable.listenerCount("error") === 0)
        assert.strictEqual(readable.listenerCount("readable"), 0)
      }
    }))

  it.effect("is pulled no faster than it is taken", () =>
    Effect.gen(function*() {
      let made = 0
      const readable = new Readable({
        highWaterMark: 1024,
        read(size) {
          made += size
          this.push(Buffer.alloc(size))
        }
      })
      yield* Stream.runDrain(Stream.take(NodeMessage.fromReadable(() => readable), 1))
      assert.isBelow(made, 32 * 1024)
    }))
})

describe("fromReadableOnce", () => {
  it.effect("gives the octets once; a second run is refused", () =>
    Effect.gen(function*() {
      const message = NodeMessage.fromReadableOnce(bytes("Subject: x\r\n\r\n"))
      assert.strictEqual(yield* text(message), "Subject: x\r\n\r\n")
      const error = yield* failure(message)
      assert.strictEqual(error.message, oneShot)
      assert.isUndefined(error.cause)
    }))

  it.effect("refuses the second run also when the first was interrupted before its end", () =>
    Effect.gen(function*() {
      const message = NodeMessage.fromReadableOnce(open())
      yield* Stream.runDrain(Stream.take(message, 1))
      assert.strictEqual((yield* failure(message)).message, oneShot)
    }))

  it.effect("refuses the second run also through another stream of the same source", () =>
    Effect.gen(function*() {
      const readable = bytes("x")
      yield* Stream.runDrain(NodeMessage.fromReadableOnce(readable))
      assert.strictEqual((yield* failure(NodeMessage.fromReadableOnce(readable))).message, oneShot)
    }))
})

describe("a send", () => {
  const envelope = { from: "ann@me.test", to: "bob@mx.test" }

  it.effect("delivers a Node stream, and its second send is an ESTREAM, not an empty mail", () =>
    Effect.gen(function*() {
      const smtp = yield* SmtpClient.make({ host: "mx.test" })
      const message = NodeMessage.fromReadableOnce(bytes("Subject: x\r\n\r\n", ".dot\r\n"))
      assert.strictEqual((yield* smtp.send(envelope, message)).messageSize, 20)
      const error = yield* Effect.flip(smtp.send(envelope, message))
      assert.strictEqual(error.code, "ESTREAM")
      assert.isFalse(error.inDoubt)
      const server = yield* SmtpServer.SmtpServer
      const received = yield* server.received
      assert.deepStrictEqual(received.map(({ text }) => text), ["Subject: x\r\n\r\n.dot\r\n"])
    }).pipe(Effect.provide(SmtpServer.layer())))
})
