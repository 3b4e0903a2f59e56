import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as net from "node:net"
import * as tls from "node:tls"
import { makeCertificate } from "../../src/node/certificate.ts"
import * as NodeSmtpServer from "../../src/node/NodeSmtpServer.ts"
import { SmtpServer } from "../../src/testing/index.ts"

const { NodeSmtpServer: server } = NodeSmtpServer

const withServer = <A, E>(
  options: NodeSmtpServer.Options,
  test: Effect.Effect<A, E, NodeSmtpServer.NodeSmtpServer | Scope.Scope>
) => test.pipe(Effect.provide(NodeSmtpServer.layerLoopback(options)))

const withFault = (step: SmtpServer.Step, fault: SmtpServer.Fault): NodeSmtpServer.Options => ({
  script: { faults: [SmtpServer.at(step, fault)] }
})

/** A client over a socket of node: what came, as text, and how it ended. */
class Client {
  socket: net.Socket
  text = ""
  ended: string | undefined
  private waiting: (() => void) | undefined
  constructor(socket: net.Socket) {
    this.socket = socket
    this.attach(socket)
  }
  private attach(socket: net.Socket): void {
    socket.on("data", (octets) => this.change(() => this.text += octets.toString()))
    socket.on("end", () => this.change(() => this.ended ??= "FIN"))
    socket.on("close", () => this.change(() => this.ended ??= "closed"))
    socket.on(
      "error",
      (error) => this.change(() => this.ended ??= (error as NodeJS.ErrnoException).code ?? error.message)
    )
  }
  private change(f: () => void): void {
    f()
    this.waiting?.()
  }
  private until(isTrue: () => boolean): Effect.Effect<void> {
    return Effect.callback((resume) => {
      this.waiting = () => isTrue() ? resume(Effect.void) : undefined
      this.waiting()
    })
  }
  /** Waits for text; what came up to its end is taken. */
  expect(text: string): Effect.Effect<void> {
    return Effect.andThen(
      this.until(() => this.text.includes(text) || this.ended !== undefined),
      Effect.sync(() => {
        assert.include(this.text, text)
        this.text = this.text.slice(this.text.indexOf(text) + text.length)
      })
    )
  }
  say(line: string, reply: string): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.socket.write(`${line}\r\n`)
      return this.expect(reply)
    })
  }
  get end(): Effect.Effect<string | undefined> {
    return Effect.map(this.until(() => this.ended !== undefined), () => this.ended)
  }
  /** TLS over the socket; the error's code when it fails. */
  upgrade(ca: string, servername = "localhost"): Effect.Effect<string> {
    return Effect.callback((resume) => {
      this.socket.removeAllListeners("data")
      const secure = tls.connect({ socket: this.socket, ca, servername })
      secure.once("secureConnect", () => {
        this.socket = secure
        this.attach(secure)
        resume(Effect.succeed("secure"))
      })
      secure.on("error", (error) => resume(Effect.succeed((error as NodeJS.ErrnoException).code ?? error.message)))
    })
  }
}

const dial = Effect.gen(function*() {
  const { host, port } = yield* server
  // Half-open: it does not answer a FIN, so that the server has to close by itself.
  const socket = net.connect({ host, port, noDelay: true, allowHalfOpen: true })
  yield* Effect.addFinalizer(() => Effect.sync(() => socket.destroy()))
  return new Client(socket)
})

const greeted = Effect.gen(function*() {
  const client = yield* dial
  yield* client.expect("220 fake.test ESMTP ready\r\n")
  yield* client.say("EHLO me.test", "250 HELP\r\n")
  return client
})

const secured = Effect.gen(function*() {
  const client = yield* greeted
  yield* client.say("STARTTLS", "220 2.0.0 go ahead\r\n")
  assert.strictEqual(yield* client.upgrade((yield* server).ca), "secure")
  yield* client.say("EHLO me.test", "AUTH PLAIN LOGIN")
  return client
})

/** Some turns of the event loop. */
const turns = (n: number) =>
  Effect.callback<void>((resume) => {
    const turn = (left: number): unknown => left === 0 ? resume(Effect.void) : setImmediate(() => turn(left - 1))
    turn(n)
  })

/** Waits for what the operating system does in its own time. */
const eventually = (isTrue: () => boolean): Effect.Effect<void> =>
  Effect.suspend(() => isTrue() ? Effect.void : Effect.andThen(turns(1), eventually(isTrue)))

const open = () => process.getActiveResourcesInfo().filter((name) => name.startsWith("TCP")).length

describe("the loopback server", () => {
  it.live("takes a message over STARTTLS after a login that it checks", () =>
    withServer(
      { script: { accounts: { ann: "s3cret" }, requireAuth: true } },
      Effect.gen(function*() {
        const client = yield* secured
        yield* client.say(`AUTH PLAIN ${Buffer.from("\0ann\0wrong").toString("base64")}`, "535 5.7.8")
        yield* client.say("MAIL FROM:<ann@a.test>", "530")
        yield* client.say(`AUTH PLAIN ${Buffer.from("\0ann\0s3cret").toString("base64")}`, "235")
        yield* client.say("MAIL FROM:<ann@a.test>\r\nRCPT TO:<bob@b.test>\r\nDATA", "354")
        yield* client.say("Hello\r\n..\r\n.\r\nQUIT", "221 2.0.0 bye\r\n")
        assert.strictEqual(yield* client.end, "FIN")
        const { awaitClosed, connections, host, received } = yield* server
        yield* awaitClosed
        assert.strictEqual(host, "127.0.0.1")
        assert.deepInclude((yield* received)[0], { text: "Hello\r\n.\r\n", secure: true, username: "ann" })
        assert.deepInclude((yield* connections)[0], { open: false, secure: true, username: "ann" })
      })
    ))

  it.live("speaks TLS from the first octet, by option or script, with a certificate of one's own", () =>
    Effect.gen(function*() {
      const ca = makeCertificate({ commonName: "CA" })
      const { cert, key } = makeCertificate({ commonName: "mx", altNames: ["DNS:mx.test"], issuer: ca })
      const own = { cert, key: Redacted.make(key) }
      for (const options of [{ implicitTls: true, tls: own }, { script: { implicitTls: true }, tls: own }]) {
        yield* withServer(
          options,
          Effect.gen(function*() {
            assert.strictEqual((yield* server).ca, cert)
            const client = yield* dial
            assert.strictEqual(yield* client.upgrade(ca.cert, "mx.test"), "secure")
            yield* client.expect("220 fake.test")
            yield* client.say("EHLO me.test", "REQUIRETLS")
          })
        )
      }
    }))

  it.live("ends a handshake that the client gives up, and a client that speaks plaintext in its place", () =>
    withServer(
      {},
      Effect.gen(function*() {
        const client = yield* greeted
        yield* client.say("STARTTLS", "220 2.0.0 go ahead\r\n")
        assert.strictEqual(yield* client.upgrade((yield* server).ca, "evil.test"), "ERR_TLS_CERT_ALTNAME_INVALID")
        const other = yield* greeted
        yield* other.say("STARTTLS", "220 2.0.0 go ahead\r\n")
        other.socket.write("EHLO me.test\r\n")
        assert.strictEqual(yield* other.end, "FIN")
        const third = yield* greeted
        yield* third.say("STARTTLS", "220 2.0.0 go ahead\r\n")
        third.socket.end()
        const { awaitClosed } = yield* server
        yield* awaitClosed
      })
    ))

  it.live("a port that is taken is a defect", () =>
    withServer(
      {},
      Effect.gen(function*() {
        const { port } = yield* server
        const exit = yield* Effect.exit(Effect.scoped(Layer.build(NodeSmtpServer.layerLoopback({ port }))))
        assert.strictEqual(Exit.isFailure(exit) && exit.cause.reasons[0]?._tag, "Die")
      })
    ))

  it.live("leaves nothing open", () =>
    Effect.gen(function*() {
      yield* eventually(() => open() === 0)
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(NodeSmtpServer.layerLoopback(), scope)
      yield* Effect.scoped(Effect.gen(function*() {
        const idle = yield* secured
        const stalled = yield* greeted
        const gone = yield* greeted
        gone.socket.destroy()
        assert.isAtLeast(open(), 3)
        yield* Scope.close(scope, Exit.void)
        yield* idle.end
        yield* stalled.end
      })).pipe(Effect.provideContext(context))
      assert.deepStrictEqual(
        (yield* server.pipe(Effect.provideContext(context), Effect.flatMap((_) => _.connections)))
          .map((connection) => connection.open),
        [false, false, false]
      )
      yield* eventually(() => open() === 0)
    }))
})

describe("faults on a socket", () => {
  it.live("FIN and RST", () =>
    Effect.gen(function*() {
      const cases = [[SmtpServer.drop, "FIN"], [SmtpServer.reset, "ECONNRESET"], [
        SmtpServer.resetAfter(3),
        "ECONNRESET"
      ]] as const
      for (const [fault, ended] of cases) {
        yield* withServer(
          withFault("noop", fault),
          Effect.gen(function*() {
            const client = yield* secured
            client.socket.write("NOOP\r\nNOOP\r\n")
            assert.strictEqual(yield* client.end, ended)
            yield* (yield* server).awaitClosed
          })
        )
      }
    }))

  it.live("FIN reaches a client that is still writing", () =>
    withServer(
      withFault("body", SmtpServer.drop),
      Effect.gen(function*() {
        const client = yield* greeted
        yield* client.say("MAIL FROM:<ann@a.test>\r\nRCPT TO:<bob@b.test>\r\nDATA", "354")
        client.socket.write("x".repeat(1_000_000))
        assert.strictEqual(yield* client.end, "FIN")
        // The server's end is closed too, although it was still being written to.
        const before = open()
        client.socket.destroy()
        yield* eventually(() => open() === before - 2)
      })
    ))

  it.live("a stalled server takes nothing more", () =>
    withServer(
      withFault("body", SmtpServer.stall),
      Effect.gen(function*() {
        const client = yield* greeted
        yield* client.say("MAIL FROM:<ann@a.test>\r\nRCPT TO:<bob@b.test>\r\nDATA", "354")
        const size = 50_000_000
        client.socket.write(Buffer.alloc(size, "x"))
        yield* turns(100)
        assert.isAbove(client.socket.writableLength, 0)
        const [info] = yield* (yield* server).connections
        assert.isBelow(info?.bytesReceived ?? size, 1_000_000)
        client.socket.resetAndDestroy()
      })
    ))

  it.live("a reply that the client does not read waits", () =>
    withServer(
      { script: { respond: { help: () => SmtpServer.reply(214, "x".repeat(5_000_000)) } } },
      Effect.gen(function*() {
        const client = yield* greeted
        yield* client.say("HELP", "x")
        client.socket.write("QUIT\r\n")
        yield* client.expect("221 2.0.0 bye")
        const other = yield* greeted
        yield* other.say("HELP", "214 xx")
        other.socket.destroy()
        yield* (yield* server).awaitClosed
      })
    ))

  it.live("of the handshake", () =>
    Effect.gen(function*() {
      const cases = [
        [SmtpServer.tlsFailure, /ALERT_HANDSHAKE_FAILURE/],
        [SmtpServer.garbage("454 4.7.0 no\r\n"), /WRONG_VERSION|PACKET_LENGTH/],
        [SmtpServer.drop, /ECONNRESET/],
        [SmtpServer.reset, /ECONNRESET/]
      ] as const
      for (const [fault, code] of cases) {
        yield* withServer(
          withFault("tls", fault),
          Effect.gen(function*() {
            const client = yield* greeted
            yield* client.say("STARTTLS", "220 2.0.0 go ahead\r\n")
            assert.match(yield* client.upgrade((yield* server).ca), code)
          })
        )
      }
      yield* withServer(
        withFault("tls", SmtpServer.surplus("250 inside")),
        Effect.gen(function*() {
          const client = yield* greeted
          yield* client.say("STARTTLS", "220 2.0.0 go ahead\r\n")
          assert.strictEqual(yield* client.upgrade((yield* server).ca), "secure")
          yield* client.expect("250 inside\r\n")
        })
      )
    }))

  it.live("a delay and one octet at a time", () =>
    withServer(
      {
        script: {
          faults: [SmtpServer.at("noop", SmtpServer.delay(1)), SmtpServer.at("noop", SmtpServer.byteAtATime(0))]
        }
      },
      Effect.gen(function*() {
        const client = yield* greeted
        yield* client.say("NOOP", "250 2.0.0 OK\r\n")
        const other = yield* greeted
        other.socket.write("NOOP\r\n")
        other.socket.resetAndDestroy()
        yield* client.say("QUIT", "221")
        yield* (yield* server).awaitClosed
      })
    ))
})

describe("digest mode on a socket", () => {
  it.live("takes 50 MB through TLS and keeps their hash", () =>
    withServer(
      { script: { digest: true } },
      Effect.gen(function*() {
        const client = yield* secured
        yield* client.say("MAIL FROM:<ann@a.test>\r\nRCPT TO:<bob@b.test>\r\nDATA", "354")
        const line = `${"x".repeat(78)}\r\n`
        client.socket.write(line.repeat(655_000))
        yield* client.say(".", "250 2.0.0 queued as 1")
        const [message] = yield* (yield* server).received
        assert.strictEqual(message?.size, 655_000 * 80)
      })
    ))
})
