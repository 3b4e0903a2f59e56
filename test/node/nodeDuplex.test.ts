import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { createServer, type Server, Socket } from "node:net"
import { Duplex } from "node:stream"
import * as tls from "node:tls"
import { codeOf } from "../../src/internal/errorCause.ts"
import * as NodeConnector from "../../src/node/NodeConnector.ts"
import * as certificates from "./certificates.ts"
import { bytes, listen, local, open, record, Recorder, until, watch } from "./loopback.ts"

/** A connection to a server, with the client's raw socket and the server's end in view. */
const pair = Effect.fnUntraced(function*(server: Server = createServer()) {
  const { port, sockets } = yield* listen(server)
  const raw = new Socket()
  const duplex = yield* open(local(port)).pipe(Effect.provide(NodeConnector.fromSocket(raw)))
  yield* until(() => sockets.length === 1)
  const peer = sockets[0] ?? new Socket()
  return { duplex, raw, peer, isClosed: watch(raw), isPeerClosed: watch(peer) }
})

const ours = ["data", "drain"]
const isQuiet = (raw: Socket) => ours.every((event) => raw.listenerCount(event) === 0)

describe("the duplex", () => {
  it.effect("hands over what came before listen, and nothing sooner", () =>
    Effect.gen(function*() {
      const { duplex, peer, raw } = yield* pair()
      peer.write("220 hi\r\n")
      yield* until(() => raw.readableLength === 8)
      const recorder = record(duplex)
      peer.write("250 ok\r\n")
      yield* until(() => recorder.text === "220 hi\r\n250 ok\r\n")
      assert.deepStrictEqual(recorder.ends, [])
    }))

  it.effect("hands over a last reply and then the end, even when both came before listen", () =>
    Effect.gen(function*() {
      const { duplex, peer, raw } = yield* pair()
      peer.end("554 no\r\n")
      yield* until(() => raw.readableLength === 8)
      const recorder = record(duplex)
      yield* until(() => recorder.ends.length > 0)
      assert.strictEqual(recorder.text, "554 no\r\n")
      assert.deepStrictEqual(recorder.ends, [{ _tag: "Closed" }])
    }))

  it.effect("goes to the last listener that was named", () =>
    Effect.gen(function*() {
      const { duplex, peer, raw } = yield* pair()
      const first = record(duplex)
      peer.write("a")
      yield* until(() => first.text === "a")
      const second = record(duplex)
      assert.strictEqual(raw.listenerCount("data"), 1)
      peer.write("b")
      yield* until(() => second.text === "b")
      assert.strictEqual(first.text, "a")
    }))

  it.effect("writes chunks in order, in one piece", () =>
    Effect.gen(function*() {
      const pieces: Array<string> = []
      const stream = new Duplex({
        read: () => {},
        writev: (chunks, done) => {
          pieces.push(chunks.map(({ chunk }) => String(chunk)).join(""))
          done()
        }
      })
      const endpoint = { host: "ignored", port: 25 }
      const duplex = yield* open(endpoint).pipe(
        Effect.provide(NodeConnector.fromConnection(stream, { secured: true }))
      )
      assert.strictEqual(duplex.write([bytes("MAIL"), bytes(" FROM"), bytes(":<>\r\n")]), true)
      assert.deepStrictEqual(pieces, ["MAIL FROM:<>\r\n"])
      assert.strictEqual(duplex.write([]), true)
    }))

  /** A system that tells what it is given at once, and takes it when it is told to. */
  const system = Effect.gen(function*() {
    const calls: Array<Buffer> = []
    const waiting: Array<() => void> = []
    const state = { isSlow: false }
    const stream = new Duplex({
      read: () => {},
      writev: (chunks, done) => {
        calls.push(Buffer.concat(chunks.map(({ chunk }) => chunk as Buffer)))
        if (state.isSlow) waiting.push(done)
        else done()
      }
    })
    const duplex = yield* open({ host: "ignored", port: 25 }).pipe(
      Effect.provide(NodeConnector.fromConnection(stream, { secured: true }))
    )
    return { calls, duplex, recorder: record(duplex), state, take: () => waiting.shift()?.() }
  })

  const kibibyte = 1024
  const large = (n: number) => new Uint8Array(32 * kibibyte).fill(n)
  const sizes = (calls: ReadonlyArray<Buffer>) => calls.map(({ length }) => length / kibibyte)
  const nextTick = Effect.callback<void>((resume) => process.nextTick(() => resume(Effect.void)))

  it.effect("gives the system what is written in one tick in calls that grow, and each ends in a drain", () =>
    Effect.gen(function*() {
      const { calls, duplex, recorder } = yield* system
      let written = 0
      for (let n = 0; n < 6; n++) {
        while (duplex.write([large(written++)])) assert.lengthOf(calls, n)
        yield* until(() => recorder.drains === n + 1)
      }
      assert.deepStrictEqual(sizes(calls), [64, 128, 256, 512, 512, 512])
      const octets = Array.from({ length: written }, (_, n) => large(n))
      assert.isTrue(Buffer.concat(calls).equals(Buffer.concat(octets)))
    }))

  it.effect("holds nothing back beyond the tick, nor from what is written behind it, nor from the end", () =>
    Effect.gen(function*() {
      const { calls, duplex } = yield* system
      assert.isTrue(duplex.write([large(1)]))
      assert.lengthOf(calls, 0)
      yield* nextTick
      assert.deepStrictEqual(sizes(calls), [32])
      duplex.write([large(2)])
      duplex.write([bytes(".\r\n")])
      yield* nextTick
      assert.strictEqual(calls[1]?.subarray(-3).toString(), ".\r\n")
      duplex.write([large(3)])
      duplex.end()
      assert.deepStrictEqual(sizes(calls.slice(2)), [32])
    }))

  it.effect("gives a system that does not take all at once a little at a time", () =>
    Effect.gen(function*() {
      const { calls, duplex, recorder, state, take } = yield* system
      for (let n = 0; n < 3; n++) {
        while (duplex.write([large(0)]));
        yield* until(() => recorder.drains === n + 1)
      }
      state.isSlow = true
      let writes = 1
      while (duplex.write([large(0)])) writes++
      assert.strictEqual(writes, 16)
      for (let n = 0; n < 3; n++) {
        assert.isFalse(duplex.write([large(0), large(0)]))
        assert.lengthOf(calls, 4 + n)
        take()
        yield* until(() => calls.length === 5 + n)
      }
      assert.deepStrictEqual(sizes(calls), [64, 128, 256, 512, 64, 64, 64])
      assert.strictEqual(recorder.drains, 3)
      take()
      yield* until(() => recorder.drains === 4)
    }))

  it.effect("answers false when the peer reads slowly, and reports the drain", () =>
    Effect.gen(function*() {
      const { duplex, peer, raw } = yield* pair()
      const recorder = record(duplex)
      const chunk = new Uint8Array(16_384)
      let writes = 0
      // What the kernel takes is limited, so this ends.
      while (duplex.write([chunk])) {
        writes++
        yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
      }
      assert.isBelow(writes, 10_000)
      assert.isAbove(raw.writableLength, 0)
      assert.strictEqual(recorder.drains, 0)
      peer.resume()
      yield* until(() => recorder.drains === 1)
      assert.strictEqual(raw.writableLength, 0)
      assert.strictEqual(duplex.write([bytes("x")]), true)
    }))

  it.effect("reports a FIN once, and ignores writes after it", () =>
    Effect.gen(function*() {
      const { duplex, isClosed, peer, raw } = yield* pair()
      const recorder = record(duplex)
      peer.end()
      yield* until(isClosed)
      assert.deepStrictEqual(recorder.ends, [{ _tag: "Closed" }])
      assert.strictEqual(duplex.write([bytes("NOOP\r\n")]), true)
      assert.isTrue(isQuiet(raw))
    }))

  it.effect("reports a reset as its errno, once, also to a listener that comes later", () =>
    Effect.gen(function*() {
      const { duplex, isClosed, peer } = yield* pair()
      const recorder = record(duplex)
      peer.resetAndDestroy()
      yield* until(isClosed)
      assert.deepStrictEqual(recorder.ends.map((end) => end._tag === "Errno" && codeOf(end.cause)), ["ECONNRESET"])
      assert.strictEqual(recorder.ends.length, 1)
      assert.deepStrictEqual(record(duplex).ends, recorder.ends)
    }))

  it.effect("reports a close without FIN or errno as closed", () =>
    Effect.gen(function*() {
      const { duplex, isClosed, raw } = yield* pair()
      const recorder = record(duplex)
      raw.destroy()
      yield* until(isClosed)
      assert.deepStrictEqual(recorder.ends, [{ _tag: "Closed" }])
    }))

  it.effect("survives an error while nobody listens", () =>
    Effect.gen(function*() {
      const { duplex, isClosed, peer } = yield* pair()
      peer.resetAndDestroy()
      duplex.write([new Uint8Array(1_000_000)])
      yield* until(isClosed)
      assert.strictEqual(record(duplex).ends[0]?._tag, "Errno")
    }))

  it.effect("end sends what was written, then FIN, and reports nothing more", () =>
    Effect.gen(function*() {
      const { duplex, isClosed, isPeerClosed, peer, raw } = yield* pair()
      const recorder = record(duplex)
      let heard = ""
      peer.on("data", (octets) => {
        heard += octets.toString()
      })
      duplex.write([bytes("QUIT\r\n")])
      duplex.end()
      duplex.end()
      duplex.write([bytes("NOOP\r\n")])
      peer.write("221 bye\r\n")
      assert.strictEqual(raw.errored, null)
      yield* until(() => isClosed() && isPeerClosed())
      assert.strictEqual(heard, "QUIT\r\n")
      duplex.listen(recorder)
      assert.deepStrictEqual([recorder.text, recorder.ends], ["", []])
      assert.isTrue(isQuiet(raw))
    }))

  it.effect("end lets the stream close although nobody reads what still comes", () =>
    Effect.gen(function*() {
      const { duplex, isClosed, peer, raw } = yield* pair()
      peer.end("220 hi\r\n")
      yield* until(() => raw.readableLength > 0)
      duplex.end()
      yield* until(isClosed)
      assert.strictEqual(raw.errored, null)
    }))

  it.effect("destroy frees the socket, is silent, and hears every later error", () =>
    Effect.gen(function*() {
      const { duplex, isClosed, isPeerClosed, raw } = yield* pair()
      const recorder = record(duplex)
      duplex.destroy()
      duplex.destroy()
      duplex.end()
      duplex.listen(new Recorder())
      assert.strictEqual(raw.destroyed, true)
      assert.isTrue(isQuiet(raw))
      assert.strictEqual(duplex.write([bytes("x")]), true)
      raw.emit("error", new Error("late"))
      yield* until(() => isClosed() && isPeerClosed())
      raw.emit("error", new Error("later"))
      assert.deepStrictEqual([recorder.text, recorder.ends], ["", []])
      assert.isTrue(isQuiet(raw))
    }))

  it.effect("leaves no socket behind in the process", () =>
    Effect.gen(function*() {
      const count = () => process.getActiveResourcesInfo().filter((name) => name.startsWith("TCP")).length
      const before = count()
      yield* Effect.scoped(Effect.gen(function*() {
        const { duplex, peer } = yield* pair(createServer((socket) => socket.pipe(socket)))
        const recorder = record(duplex)
        duplex.write([bytes("x")])
        yield* until(() => recorder.text === "x" && !peer.destroyed)
        assert.isAbove(count(), before)
      }))
      yield* until(() => count() <= before)
    }))
})

describe("the duplex over TLS", () => {
  it.effect("can be interrupted in the handshake, and closes then", () =>
    Effect.gen(function*() {
      const { duplex, isPeerClosed, peer, raw } = yield* pair()
      const fiber = yield* Effect.forkChild(duplex.upgrade({ servername: "mx.test", verify: true, options: {} }))
      let hello = 0
      peer.on("data", (octets: Buffer) => {
        hello += octets.length
      })
      yield* until(() => hello > 0)
      yield* Fiber.interrupt(fiber)
      assert.strictEqual(raw.destroyed, true)
      yield* until(isPeerClosed)
      assert.isTrue(isQuiet(raw))
    }))

  it.effect("refuses to upgrade a connection that has ended", () =>
    Effect.gen(function*() {
      const { duplex, isClosed, peer } = yield* pair()
      record(duplex)
      peer.resetAndDestroy()
      yield* until(isClosed)
      const upgrade = Effect.flip(duplex.upgrade({ servername: "mx.test", verify: true, options: {} }))
      const error = yield* upgrade
      assert.deepStrictEqual([error._tag, error.isTemporary, codeOf(error.cause)], ["ETLS", true, "ECONNRESET"])
      duplex.destroy()
      assert.strictEqual((yield* upgrade)._tag, "ETLS")
    }))

  it.effect("refuses plaintext that is held back", () =>
    Effect.gen(function*() {
      const { duplex, peer, raw } = yield* pair()
      const recorder = record(duplex)
      peer.write("220 go ahead\r\n")
      yield* until(() => recorder.text === "220 go ahead\r\n")
      raw.pause()
      peer.write("250 injected\r\n")
      yield* until(() => raw.readableLength > 0)
      const error = yield* Effect.flip(duplex.upgrade({ servername: "mx.test", verify: false, options: {} }))
      assert.deepStrictEqual([error._tag, error.command, error.isTemporary], ["ETLS", "STARTTLS", false])
      assert.strictEqual(error.message, "STARTTLS: the server sent plaintext after its answer to STARTTLS")
      assert.strictEqual(raw.destroyed, true)
      assert.strictEqual(recorder.text, "220 go ahead\r\n")
      assert.deepStrictEqual(recorder.ends, [])
    }))

  it.effect("reports the end of the encrypted stream once, and not that of the one below", () =>
    Effect.gen(function*() {
      const server = tls.createServer(certificates.good, (socket) => socket.on("error", () => {}).end("221 bye\r\n"))
      const { duplex, isClosed } = yield* pair(server)
      const recorder = record(duplex)
      yield* duplex.upgrade({ servername: "mx.test", verify: true, options: { ca: certificates.ca.cert } })
      yield* until(isClosed)
      assert.strictEqual(recorder.text, "221 bye\r\n")
      assert.deepStrictEqual(recorder.ends, [{ _tag: "Closed" }])
    }))

  it.effect("frees both layers, which hear every later error", () =>
    Effect.gen(function*() {
      const { duplex, isClosed, raw } = yield* pair(
        tls.createServer(certificates.good, (socket) => socket.on("error", () => {}))
      )
      yield* duplex.upgrade({ servername: "mx.test", verify: true, options: { ca: certificates.ca.cert } })
      const recorder = record(duplex)
      duplex.destroy()
      raw.emit("error", new Error("late"))
      yield* until(isClosed)
      assert.deepStrictEqual(recorder.ends, [])
    }))
})
