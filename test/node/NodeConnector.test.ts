import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Dns from "effect/net/Dns"
import * as fs from "node:fs"
import { createServer, Socket } from "node:net"
import * as os from "node:os"
import * as path from "node:path"
import { Duplex, duplexPair } from "node:stream"
import { TLSSocket } from "node:tls"
import { codeOf } from "../../src/internal/errorCause.ts"
import { fullyQualified } from "../../src/node/hostName.ts"
import * as NodeConnector from "../../src/node/NodeConnector.ts"
import { type Endpoint, SmtpConnector, type Target } from "../../src/SmtpConnector.ts"
import * as SmtpError from "../../src/SmtpError.ts"
import * as certificates from "./certificates.ts"
import { bytes, listen, local, open, record, Recorder, until, watch } from "./loopback.ts"

const zone = Dns.layerStatic({
  hosts: {
    "mx.test": ["127.0.0.1", "::1", "127.0.0.2"],
    "inside.test": ["127.0.0.1", "::ffff:127.0.0.1", "64:ff9b::127.0.0.1"],
    "mixed.test": ["10.0.0.1", "8.8.8.8"],
    "four.test": ["127.0.0.1"]
  }
})
const connector = (options: NodeConnector.Options = {}, dns: Layer.Layer<Dns.Dns> = Layer.orDie(zone)) =>
  NodeConnector.layerWith(options).pipe(Layer.provide(dns))

const at = (host: string, rest: Partial<Endpoint> = {}): Endpoint => ({ host, port: 25, ...rest })
const resolve = (endpoint: Endpoint, options?: NodeConnector.Options) =>
  SmtpConnector.use((c) => c.resolve(endpoint)).pipe(Effect.provide(connector(options)))
const addresses = (endpoint: Endpoint, options?: NodeConnector.Options) =>
  Effect.map(resolve(endpoint, options), (targets) => targets.map((target) => target.address))
const facts = (error: SmtpError.SmtpError) => ({
  tag: String(error._tag),
  command: error.command,
  field: error.field,
  isTemporary: error.isTemporary,
  attempted: error.attempted
})
const misconfigured = (field: string) => ({
  tag: "ECONFIG",
  command: "API",
  field,
  isTemporary: false,
  attempted: false
})

describe("resolve", () => {
  it.effect("gives both families in the resolver's order, with the name in lower case", () =>
    Effect.gen(function*() {
      const endpoint = at("MX.Test", { port: 587 })
      const targets: ReadonlyArray<Target> = yield* resolve(endpoint)
      assert.deepStrictEqual(targets, [
        { host: "mx.test", port: 587, address: "127.0.0.1" },
        { host: "mx.test", port: 587, address: "::1" },
        { host: "mx.test", port: 587, address: "127.0.0.2" }
      ])
    }))

  it.effect("keeps to the family that is asked for", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* addresses(at("mx.test", { family: 4 })), ["127.0.0.1", "127.0.0.2"])
      assert.deepStrictEqual(yield* addresses(at("mx.test", { family: 6 })), ["::1"])
      const error = yield* Effect.flip(resolve(at("four.test", { family: 6 })))
      assert.strictEqual(error._tag, "EDNS")
    }))

  it.effect("takes IP literals as they are, without DNS", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* addresses(at("192.0.2.1")), ["192.0.2.1"])
      assert.deepStrictEqual(yield* addresses(at("2001:DB8::1")), ["2001:db8::1"])
      assert.deepStrictEqual(yield* addresses(at("[::1]", { family: 6 })), ["::1"])
      assert.deepStrictEqual(
        facts(yield* Effect.flip(resolve(at("::1", { family: 4 })))),
        misconfigured("options.family")
      )
    }))

  it.effect("gives one target without an address for a unix socket", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* resolve(at("ignored", { path: "/run/smtp" })), [
        { host: "ignored", port: 25, path: "/run/smtp", address: undefined }
      ])
    }))

  it.effect("fails with EDNS for a name that nobody knows", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(resolve(at("nowhere.test")))
      assert.deepStrictEqual(facts(error), {
        tag: "EDNS",
        command: "CONN",
        field: undefined,
        isTemporary: false,
        attempted: false
      })
      assert.isTrue(error._tag === "EDNS" && error.host === "nowhere.test" && error.cause instanceof Dns.DnsError)
      assert.strictEqual(error.message, "CONN: cannot resolve nowhere.test: NotFound")
    }))

  it.effect("says what the resolver says of a failure that may pass", () =>
    Effect.gen(function*() {
      const failing = Dns.make({
        lookup: (hostname) => Effect.fail(new Dns.DnsError({ reason: "Temporary", method: "lookup", hostname }))
      })
      const error = yield* SmtpConnector.use((c) => c.resolve(at("mx.test"))).pipe(
        Effect.provide(connector({}, Layer.succeed(Dns.Dns, failing))),
        Effect.flip
      )
      assert.strictEqual(error._tag, "EDNS")
      assert.strictEqual(error.isTemporary, true)
    }))

  const faults: ReadonlyArray<readonly [Endpoint, string]> = [
    [at(""), "options.host"],
    [at("mx.test\r\nQUIT"), "options.host"],
    [at("mx .test"), "options.host"],
    [at("mx\u202e.test"), "options.host"],
    [at("mx.test", { port: 0 }), "options.port"],
    [at("mx.test", { port: 65_536 }), "options.port"],
    [at("mx.test", { port: 25.5 }), "options.port"],
    [at("mx.test", { localAddress: "eth0" }), "options.localAddress"],
    [at("mx.test", { path: "" }), "options.path"]
  ]
  it.effect.each(faults)("refuses %j with the field %s", ([endpoint, field]) =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(resolve(endpoint))
      assert.deepStrictEqual(facts(error), misconfigured(field))
      assert.notMatch(error.message, /[\r\n\u202e]/)
    }))

  it.effect("skips the targets that localAddress cannot reach", () =>
    Effect.gen(function*() {
      const localAddress = "127.0.0.1"
      assert.deepStrictEqual(yield* addresses(at("mx.test", { localAddress })), ["127.0.0.1", "127.0.0.2"])
      const error = yield* Effect.flip(resolve(at("four.test", { localAddress: "::1" })))
      assert.deepStrictEqual(facts(error), misconfigured("options.localAddress"))
      assert.include(error.message, "127.0.0.1")
    }))

  it.effect("drops what allowAddress refuses, after resolution and for literals too", () =>
    Effect.gen(function*() {
      const filter = { allowAddress: NodeConnector.isPublicAddress }
      assert.deepStrictEqual(yield* addresses(at("mixed.test"), filter), ["8.8.8.8"])
      assert.deepStrictEqual(yield* addresses(at("8.8.8.8"), filter), ["8.8.8.8"])
      for (
        const host of ["inside.test", "127.0.0.1", "::ffff:127.0.0.1", "[::ffff:127.0.0.1]", "64:ff9b::7f00:1", "::1"]
      ) {
        const error = yield* Effect.flip(resolve(at(host), filter))
        assert.deepStrictEqual(facts(error), {
          tag: "EDNS",
          command: "CONN",
          field: "options.host",
          isTemporary: false,
          attempted: false
        })
        assert.match(error.message, /127\.0\.0\.1|::1|7f00:1/)
      }
    }))

  it.effect("reads the hosts file of the operating system", () =>
    Effect.gen(function*() {
      const targets = yield* SmtpConnector.use((c) => c.resolve(at("localhost"))).pipe(
        Effect.provide(NodeConnector.layer)
      )
      for (const target of targets) assert.include(["127.0.0.1", "::1"], target.address)
    }))
})

describe("localName", () => {
  const nameOf = (options: NodeConnector.Options) =>
    SmtpConnector.useSync((c) => c.localName).pipe(Effect.provide(connector(options)))

  it.effect("is what the options say", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* nameOf({ localName: "client.test" }), "client.test")
    }))

  it.effect("is this host's name, when that is fully qualified", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* nameOf({}), fullyQualified(os.hostname()))
    }))
})

describe("connect", () => {
  it.effect("dials exactly the address of the target", () =>
    Effect.gen(function*() {
      const { port, sockets } = yield* listen(createServer((socket) => socket.write("220 hi\r\n")))
      const duplex = yield* SmtpConnector.use((c) => c.connect({ host: "mx.invalid", port, address: "127.0.0.1" }))
        .pipe(Effect.provide(connector()))
      const recorder = record(duplex)
      yield* until(() => recorder.text === "220 hi\r\n")
      assert.strictEqual(duplex.secured, false)
      assert.strictEqual(duplex.localAddress, "127.0.0.1")
      assert.strictEqual(duplex.remoteAddress, `127.0.0.1:${port}`)
      assert.strictEqual(sockets.length, 1)
    }))

  it.effect("fails with ESOCKET when the port refuses", () =>
    Effect.gen(function*() {
      const { port } = yield* Effect.scoped(listen(createServer()))
      const error = yield* Effect.flip(open(local(port)).pipe(Effect.provide(connector())))
      assert.deepStrictEqual(facts(error), {
        tag: "ESOCKET",
        command: "CONN",
        field: undefined,
        isTemporary: true,
        attempted: false
      })
      assert.strictEqual(codeOf(error.cause), "ECONNREFUSED")
      assert.strictEqual(error.message, `CONN: cannot connect to 127.0.0.1:${port}: ECONNREFUSED`)
    }))

  it.effect("names IPv6 targets with brackets", () =>
    Effect.gen(function*() {
      const target = { host: "::1", port: 1, address: "::1" }
      const error = yield* Effect.flip(SmtpConnector.use((c) => c.connect(target)).pipe(Effect.provide(connector())))
      assert.match(error.message, /^CONN: cannot connect to \[::1\]:1: E[A-Z]+$/)
    }))

  const bad: ReadonlyArray<readonly [Target, string]> = [
    [{ host: "mx.test", port: 25, address: "localhost" }, "target.address"],
    [{ host: "mx.test", port: 25, address: undefined }, "target.address"],
    [{ host: "mx.test", port: 70_000, address: "127.0.0.1" }, "options.port"]
  ]
  it.effect.each(bad)("never resolves again: %j is ECONFIG for %s", ([target, field]) =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(SmtpConnector.use((c) => c.connect(target)).pipe(Effect.provide(connector())))
      assert.deepStrictEqual(facts(error), misconfigured(field))
    }))

  it.effect("binds to localAddress", () =>
    Effect.gen(function*() {
      const { port, sockets } = yield* listen(createServer())
      const localAddress = process.platform === "linux" ? "127.0.0.2" : "127.0.0.1"
      const duplex = yield* open({ ...local(port), localAddress }).pipe(Effect.provide(connector()))
      yield* until(() => sockets.length === 1)
      assert.strictEqual(sockets[0]?.remoteAddress, localAddress)
      assert.strictEqual(duplex.localAddress, localAddress)
    }))

  it.effect("reaches a unix socket, which counts as trusted", () =>
    Effect.gen(function*() {
      const folder = yield* Effect.acquireRelease(
        Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "smtp-"))),
        (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true }))
      )
      const file = path.join(folder, "s")
      yield* listen(createServer((socket) => socket.write("220 lmtp\r\n")), { path: file })
      const duplex = yield* open(at("localhost", { path: file })).pipe(Effect.provide(connector()))
      const recorder = record(duplex)
      yield* until(() => recorder.text === "220 lmtp\r\n")
      assert.strictEqual(duplex.secured, true)
      assert.strictEqual(duplex.remoteAddress, file)
      const error = yield* Effect.flip(open(at("localhost", { path: `${file}x` })).pipe(Effect.provide(connector())))
      assert.strictEqual(error.message, `CONN: cannot connect to ${file}x: ENOENT`)
    }))

  it.effect("closes the socket with the scope", () =>
    Effect.gen(function*() {
      const { port, sockets } = yield* listen(createServer())
      const socket = new Socket()
      const isClosed = watch(socket)
      const recorder = new Recorder()
      yield* Effect.scoped(
        Effect.gen(function*() {
          const duplex = yield* open(local(port))
          duplex.listen(recorder)
          yield* until(() => sockets.length === 1)
          assert.strictEqual(socket.destroyed, false)
          assert.deepStrictEqual([socket.listenerCount("connect"), socket.listenerCount("close")], [0, 2])
        })
      ).pipe(Effect.provide(NodeConnector.fromSocket(socket)))
      assert.strictEqual(socket.destroyed, true)
      const [peer] = sockets
      yield* until(() => peer?.destroyed === true && isClosed())
      assert.deepStrictEqual(recorder.ends, [])
      for (const event of ["data", "drain", "connect", "close"]) {
        assert.strictEqual(socket.listenerCount(event), 0, event)
      }
    }))
})

/** A socket whose connect never settles. */
class Stuck extends Socket {
  readonly asked = Deferred.makeUnsafe<void>()
  override connect(): this {
    Deferred.doneUnsafe(this.asked, Effect.void)
    return this
  }
}

describe("fromSocket", () => {
  it.effect("is interruptible while it connects, and frees the socket", () =>
    Effect.gen(function*() {
      const socket = new Stuck()
      const fiber = yield* Effect.forkChild(open(local(25)).pipe(Effect.provide(NodeConnector.fromSocket(socket))))
      yield* Deferred.await(socket.asked)
      yield* Fiber.interrupt(fiber)
      assert.strictEqual(socket.destroyed, true)
      assert.strictEqual(socket.listenerCount("connect"), 0)
    }))

  it.effect("fails when somebody destroys the socket while it connects", () =>
    Effect.gen(function*() {
      const socket = new Stuck()
      const fiber = yield* Effect.forkChild(
        open(local(25)).pipe(Effect.provide(NodeConnector.fromSocket(socket)), Effect.flip)
      )
      yield* Deferred.await(socket.asked)
      socket.destroy()
      const error = yield* Fiber.join(fiber)
      assert.strictEqual(error._tag, "ESOCKET")
      assert.strictEqual(error.message, "CONN: cannot connect to 127.0.0.1:25: the socket was closed")
    }))

  it.effect("hears every error of a socket that did not connect, and frees it", () =>
    Effect.gen(function*() {
      const socket = new Stuck()
      const connecting = Effect.scoped(open(local(25))).pipe(Effect.provide(NodeConnector.fromSocket(socket)))
      const fiber = yield* Effect.forkChild(Effect.flip(connecting))
      yield* Deferred.await(socket.asked)
      socket.emit("error", new Error("first"))
      assert.strictEqual((yield* Fiber.join(fiber))._tag, "ESOCKET")
      socket.emit("error", new Error("second"))
      assert.strictEqual(socket.destroyed, true)
    }))

  it.effect("sends small writes at once", () =>
    Effect.gen(function*() {
      const { port } = yield* listen(createServer())
      const wishes: Array<boolean | undefined> = []
      const socket = new Socket()
      socket.setNoDelay = (noDelay) => {
        wishes.push(noDelay)
        return socket
      }
      yield* open(local(port)).pipe(Effect.provide(NodeConnector.fromSocket(socket)))
      assert.deepStrictEqual(wishes, [true])
    }))

  it.effect("serves one connection, to the first address", () =>
    Effect.gen(function*() {
      const { port } = yield* listen(createServer())
      const c = yield* SmtpConnector
      const targets: ReadonlyArray<Target> = yield* c.resolve(at("localhost", { port }))
      assert.strictEqual(targets.length, 1)
      const target = { ...local(port), address: "127.0.0.1" }
      yield* c.connect(target)
      const error = yield* Effect.flip(c.connect(target))
      assert.deepStrictEqual(facts(error), misconfigured("socket"))
      assert.include(error.message, "was used before")
    }).pipe(Effect.provide(NodeConnector.fromSocket(new Socket()))))

  it.effect("refuses a socket that is connected, connecting or destroyed", () =>
    Effect.gen(function*() {
      const { port, sockets } = yield* listen(createServer())
      const connecting = new Socket().connect(port, "127.0.0.1")
      const refuse = (socket: Socket) =>
        Effect.flip(open(local(port)).pipe(Effect.provide(NodeConnector.fromSocket(socket)), Effect.scoped))
      assert.include((yield* refuse(connecting)).message, "is connected already")
      yield* until(() => sockets.length === 1 && !connecting.pending)
      assert.deepStrictEqual(facts(yield* refuse(connecting)), misconfigured("socket"))
      connecting.destroy()
      assert.include((yield* refuse(connecting)).message, "is destroyed")
    }))
})

describe("fromConnection", () => {
  const secured = { secured: true }
  const none = at("ignored")

  it.effect("carries octets both ways over a stream of one's own, once", () =>
    Effect.gen(function*() {
      const [near, far] = duplexPair()
      const c = yield* Effect.provide(SmtpConnector, NodeConnector.fromConnection(near, secured))
      const targets: ReadonlyArray<Target> = yield* c.resolve(none)
      assert.deepStrictEqual(targets, [{ ...none, address: undefined }])
      yield* Effect.scoped(Effect.gen(function*() {
        const duplex = yield* c.connect({ ...none, address: undefined })
        assert.deepStrictEqual([duplex.secured, duplex.localAddress, duplex.remoteAddress], [
          true,
          undefined,
          undefined
        ])
        const recorder = record(duplex)
        let heard = ""
        far.on("data", (octets: Buffer) => {
          heard += octets.toString()
        })
        far.write("220 hi\r\n")
        duplex.write([bytes("EHLO "), bytes("x\r\n")])
        yield* until(() => recorder.text === "220 hi\r\n" && heard === "EHLO x\r\n")
      }))
      assert.strictEqual(near.destroyed, true)
      const error = yield* Effect.flip(Effect.scoped(c.connect({ ...none, address: undefined })))
      assert.deepStrictEqual(facts(error), misconfigured("connection"))
    }))

  it.effect("reports the addresses when it is a socket", () =>
    Effect.gen(function*() {
      const { port, sockets } = yield* listen(createServer())
      const socket = new Socket().connect(port, "127.0.0.1")
      yield* until(() => sockets.length === 1 && !socket.pending)
      const duplex = yield* open(none).pipe(Effect.provide(NodeConnector.fromConnection(socket, { secured: false })))
      assert.deepStrictEqual([duplex.secured, duplex.localAddress, duplex.remoteAddress], [
        false,
        "127.0.0.1",
        `127.0.0.1:${port}`
      ])
    }))

  const [text] = duplexPair()
  text.setEncoding("utf8")
  const bad: ReadonlyArray<readonly [string, () => Duplex]> = [
    ["is closed", () => duplexPair()[0].destroy()],
    ["is closed", () => duplexPair()[0].end()],
    ["is not connected yet", () => new Socket()],
    ["does not give octets", () => text],
    ["does not give octets", () => duplexPair({ objectMode: true })[0]]
  ]
  it.effect.each(bad)("refuses a stream that %s", ([message, make]) =>
    Effect.gen(function*() {
      const layer = NodeConnector.fromConnection(make(), secured)
      const error = yield* Effect.flip(open(none).pipe(Effect.provide(layer), Effect.scoped))
      assert.deepStrictEqual(facts(error), misconfigured("connection"))
      assert.include(error.message, message)
    }))

  it.effect("does TLS over a stream that is no socket", () =>
    Effect.gen(function*() {
      const [near, far] = duplexPair()
      const server = new TLSSocket(far, { isServer: true, ...certificates.good })
      server.on("data", (octets) => server.write(octets))
      const duplex = yield* open(none).pipe(Effect.provide(NodeConnector.fromConnection(near, { secured: false })))
      const info = yield* duplex.upgrade({
        servername: "mx.test",
        verify: true,
        options: { ca: certificates.ca.cert }
      })
      assert.strictEqual(info.authorized, true)
      const recorder = record(duplex)
      duplex.write([bytes("secret")])
      yield* until(() => recorder.text === "secret")
    }))
})
