import { assert, describe, it, vi } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import dns from "node:dns"
import * as http from "node:http"
import * as https from "node:https"
import * as net from "node:net"
import { codeOf } from "../../src/internal/errorCause.ts"
import type { CertificateAndKey } from "../../src/node/certificate.ts"
import * as NodeConnector from "../../src/node/NodeConnector.ts"
import * as NodeSmtpServer from "../../src/node/NodeSmtpServer.ts"
import * as proxyConnector from "../../src/node/proxyConnector.ts"
import * as proxyProtocol from "../../src/node/proxyProtocol.ts"
import * as proxyUrl from "../../src/node/proxyUrl.ts"
import * as tlsSessions from "../../src/node/tlsSessions.ts"
import * as Sasl from "../../src/Sasl.ts"
import * as SmtpConnection from "../../src/SmtpConnection.ts"
import { type Endpoint, SmtpConnector } from "../../src/SmtpConnector.ts"
import * as SmtpError from "../../src/SmtpError.ts"
import { assertHidden } from "../support/secrets.ts"
import * as certificates from "./certificates.ts"
import { bytes, listen, open, record, until, watch } from "./loopback.ts"

const canary = "s3cr:t/é%@"
const userInfo = `ann:${encodeURIComponent(canary)}`
const basic = `Basic ${Buffer.from(`ann:${canary}`).toString("base64")}`

/** No form of the canary is in what a person or a log could see of an error. */
const keepsSecret = (error: SmtpError.SmtpError) => {
  const shown = JSON.stringify(Schema.encodeSync(SmtpError.SmtpError)(error)) + String(error) +
    String(error.stack) + Cause.pretty(Cause.fail(error))
  assertHidden(shown, canary)
  for (const form of ["s3cr", basic.slice(8, 20)]) assert.notInclude(shown, form)
}

const facts = (error: SmtpError.SmtpError) => {
  keepsSecret(error)
  return { tag: error._tag, command: error.command, isTemporary: error.isTemporary, attempted: error.attempted }
}
const eproxy = (isTemporary: boolean) => ({ tag: "EPROXY", command: "CONN", isTemporary, attempted: false } as const)

const at = (host: string, rest: Partial<Endpoint> = {}): Endpoint => ({ host, port: 25, ...rest })

/** Resolves and connects through the proxy of the URL. */
const dial = (
  url: string | URL | Redacted.Redacted<string>,
  endpoint: Endpoint = at("mx.test"),
  options?: NodeConnector.ProxyOptions
) => Effect.provide(open(endpoint), NodeConnector.layerProxy(url, options))

// The proxies -----------------------------------------------------------------------------------------------------

/** What a proxy saw of one client. */
interface Seen {
  readonly host: string
  readonly port: number
  readonly login: string | undefined
  readonly from: string | undefined
  /** What the client said inside the tunnel. */
  said: string
  readonly isClosed: () => boolean
}

interface Running {
  readonly port: number
  readonly seen: Array<Seen>
}

/** Pipes client and server into each other, and keeps what the client says. */
const join = (client: net.Socket, server: net.Socket, seen: Seen) => {
  client.on("data", (octets: Buffer) => {
    seen.said += octets.toString("latin1")
  })
  client.on("error", () => server.destroy()).on("close", () => server.destroy()).pipe(server)
  server.on("error", () => client.destroy()).on("close", () => client.destroy()).pipe(client)
}

/** An HTTP CONNECT proxy over node:http or node:https, which leads every name to one port. */
const httpProxy = Effect.fnUntraced(function*(
  to: number,
  options: { readonly login?: boolean; readonly certificate?: CertificateAndKey } = {}
): Effect.fn.Return<Running, never, Scope.Scope> {
  const seen: Array<Seen> = []
  const { certificate } = options
  const server = certificate === undefined ? http.createServer() : https.createServer(certificate)
  server.on("connect", (request: http.IncomingMessage, client: net.Socket) => {
    const [, host = "", port] = /^(.*):(\d+)$/.exec(request.url ?? "") ?? []
    const login = request.headers["proxy-authorization"]
    assert.strictEqual(request.headers.host, request.url)
    const one = { host, port: Number(port), login, from: client.remoteAddress, said: "", isClosed: watch(client) }
    seen.push(one)
    if (options.login === true && login !== basic) {
      return void client.end("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 2\r\n\r\nno")
    }
    const upstream = net.connect(to, "127.0.0.1", () => {
      client.write("HTTP/1.1 200 Connection established\r\nVia: 1.1 proxy.test\r\n\r\n")
      join(client, upstream, one)
    })
  })
  const { port } = yield* listen(server)
  return { port, seen }
})

/** Reads a socket by lengths. */
const reader = (socket: net.Socket) => {
  const take = (length: number): Promise<Buffer> => {
    const octets: Buffer | null = socket.read(length)
    return octets === null
      ? new Promise<void>((resolve) => socket.once("readable", resolve)).then(() => take(length))
      : Promise.resolve(octets)
  }
  const upTo0 = async (): Promise<string> => {
    const octet = await take(1)
    return octet[0] === 0 ? "" : octet.toString("latin1") + await upTo0()
  }
  return { take, upTo0 }
}

/** A SOCKS server for versions 4, 4a and 5, which leads every host to one port. */
const socksProxy = Effect.fnUntraced(function*(
  to: number,
  options: { readonly login?: boolean; readonly bound?: ReadonlyArray<number> } = {}
): Effect.fn.Return<Running, never, Scope.Scope> {
  const seen: Array<Seen> = []
  const { bound = [1, 127, 0, 0, 1] } = options
  const serve = (client: net.Socket, host: string, port: number, login: string | undefined, answer: Buffer) => {
    const one = { host, port, login, from: client.remoteAddress, said: "", isClosed: watch(client) }
    seen.push(one)
    const upstream = net.connect(to, "127.0.0.1", () => {
      client.write(answer)
      join(client, upstream, one)
    })
  }
  const version5 = async (client: net.Socket) => {
    const { take } = reader(client)
    const methods = await take((await take(1))[0]!)
    let login: string | undefined
    const method = options.login === true ? 2 : 0
    if (!methods.includes(method)) return void client.end(Buffer.of(5, 0xff))
    client.write(Buffer.of(5, method))
    if (method === 2) {
      assert.strictEqual((await take(1))[0], 1)
      const user = await take((await take(1))[0]!)
      const secret = await take((await take(1))[0]!)
      login = `${user.toString()}:${secret.toString()}`
      if (login !== `ann:${canary}`) return void client.end(Buffer.of(1, 1))
      client.write(Buffer.of(1, 0))
    }
    const [version, command, , type] = await take(4)
    assert.deepStrictEqual([version, command], [5, 1])
    const host = type === 1
      ? (await take(4)).join(".")
      : type === 4
      ? (await take(16)).toString("hex")
      : (await take((await take(1))[0]!)).toString("latin1")
    serve(client, host, (await take(2)).readUInt16BE(), login, Buffer.of(5, 0, 0, ...bound, 0, 25))
  }
  const version4 = async (client: net.Socket) => {
    const { take, upTo0 } = reader(client)
    assert.strictEqual((await take(1))[0], 1)
    const port = (await take(2)).readUInt16BE()
    const address = await take(4)
    const login = await upTo0()
    const host = address.readUInt32BE() < 256 ? await upTo0() : address.join(".")
    serve(client, host, port, login, Buffer.of(0, 90, 0, 0, 0, 0, 0, 0))
  }
  const { port } = yield* listen(net.createServer((client) => {
    void reader(client).take(1).then(([version]) => version === 5 ? version5(client) : version4(client))
  }))
  return { port, seen }
})

/** A proxy that does with its clients what the test says. */
const raw = (onClient: (client: net.Socket) => void) => listen(net.createServer(onClient))

/** A proxy that waits for each question and then gives the next answer. */
const answering = (...answers: ReadonlyArray<string | Uint8Array>) =>
  raw((client) => {
    const left = answers.map((answer) => typeof answer === "string" ? bytes(answer) : answer)
    client.on("data", () => {
      const answer = left.shift()
      if (answer !== undefined) client.write(answer)
    })
  })

// End to end ------------------------------------------------------------------------------------------------------

const server = NodeSmtpServer.NodeSmtpServer
const withServer = <A, E>(
  implicitTls: boolean,
  certificate: CertificateAndKey,
  test: Effect.Effect<A, E, NodeSmtpServer.NodeSmtpServer | Scope.Scope>
) =>
  Effect.provide(
    test,
    NodeSmtpServer.layerLoopback({
      implicitTls,
      tls: { cert: certificate.cert, key: Redacted.make(certificate.key) },
      script: { accounts: { ann: "canary-password" } }
    })
  )

type Kind = readonly [
  name: string,
  start: (to: number, login: boolean) => Effect.Effect<Running, never, Scope.Scope>,
  url: (port: number) => string,
  login: string
]
const kinds: ReadonlyArray<Kind> = [
  ["http:", (to, login) => httpProxy(to, { login }), (port) => `http://${userInfo}@127.0.0.1:${port}`, basic],
  [
    "https:",
    (to, login) => httpProxy(to, { login, certificate: certificates.good }),
    (port) => `https://${userInfo}@127.0.0.1:${port}/`,
    basic
  ],
  [
    "socks5:",
    (to, login) => socksProxy(to, { login }),
    (port) => `socks5://${userInfo}@127.0.0.1:${port}`,
    `ann:${canary}`
  ],
  [
    "socks5h:",
    (to, login) => socksProxy(to, { login, bound: [4, ...Array.from({ length: 16 }, () => 7)] }),
    (port) => `socks5h://${userInfo}@127.0.0.1:${port}`,
    `ann:${canary}`
  ],
  ["socks4a:", (to) => socksProxy(to), (port) => `socks4a://ann@127.0.0.1:${port}`, "ann"]
]
const proxyTls = { tlsOptions: { ca: certificates.ca.cert } }
const auth = Sasl.password({ username: "ann", password: Redacted.make("canary-password") })

/** An SMTP connection through the proxy, in the name of mx.test. */
const connection = (url: string, options: SmtpConnection.Options = {}) =>
  Effect.provide(
    SmtpConnection.make({
      host: "MX.test",
      port: 2525,
      name: "me.test",
      tlsOptions: { ca: certificates.ca.cert },
      ...options
    }),
    NodeConnector.layerProxy(url, proxyTls)
  )

describe.each(kinds)("through a proxy of %s", (_, start, url, login) => {
  it.effect.each(["starttls", "implicit"] as const)(
    "logs in and sends over TLS with the server, %s",
    (tls) =>
      withServer(
        tls === "implicit",
        certificates.good,
        Effect.gen(function*() {
          const smtp = yield* server
          const { port, seen } = yield* start(smtp.port, true)
          const closed = yield* Effect.scoped(Effect.gen(function*() {
            const client = yield* connection(url(port), { tls, auth })
            assert.strictEqual(Option.getOrThrow(client.security).authorized, true)
            const sent = yield* client.send({ from: "ann@me.test", to: "bob@mx.test" }, "Subject: Hi\n\nHello\n")
            assert.deepStrictEqual(sent.accepted, ["bob@mx.test"])
            return seen[0]!.isClosed
          }))
          yield* until(closed)
          const [message] = yield* smtp.received
          assert.deepInclude(message, { secure: true, text: "Subject: Hi\r\n\r\nHello\r\n", username: "ann" })
          assert.strictEqual(seen.length, 1)
          const { said, ...rest } = seen[0]!
          assert.deepInclude(rest, { host: "mx.test", port: 2525, login })
          assert.strictEqual(said.startsWith("EHLO me.test\r\nSTARTTLS\r\n\u0016"), tls === "starttls")
          assert.notMatch(said, /AUTH|canary|MAIL/)
        })
      )
  )

  it.effect.each(["starttls", "implicit"] as const)(
    "does not take another's certificate for the server's, %s",
    (tls) =>
      withServer(
        tls === "implicit",
        certificates.wrongName,
        Effect.gen(function*() {
          const { port, seen } = yield* start((yield* server).port, true)
          const error = yield* Effect.flip(connection(url(port), { tls, auth }))
          assert.strictEqual(error._tag, "ETLS")
          assert.strictEqual(codeOf(error.cause), "ERR_TLS_CERT_ALTNAME_INVALID")
          assert.notMatch(seen[0]!.said, /AUTH/)
          yield* until(seen[0]!.isClosed)
        })
      )
  )

  it.effect("is no secured connection by itself, and names the server and the proxy", () =>
    withServer(
      false,
      certificates.good,
      Effect.gen(function*() {
        const { port, seen } = yield* start((yield* server).port, true)
        const duplex = yield* dial(url(port), at("bücher.test"), proxyTls)
        assert.strictEqual(seen[0]?.host, "xn--bcher-kva.test")
        assert.strictEqual(duplex.secured, false)
        assert.strictEqual(duplex.localAddress, "127.0.0.1")
        assert.strictEqual(duplex.remoteAddress, `xn--bcher-kva.test:25 via the proxy 127.0.0.1:${port}`)
        const recorder = record(duplex)
        yield* until(() => recorder.text.includes("220 "))
        duplex.destroy()
        yield* until(seen[0]!.isClosed)
      })
    ))

  it.effect("is EPROXY when nobody listens there", () =>
    Effect.gen(function*() {
      const { port } = yield* Effect.scoped(listen(net.createServer()))
      const error = yield* Effect.flip(dial(url(port), undefined, proxyTls))
      assert.deepStrictEqual(facts(error), eproxy(true))
      assert.strictEqual(codeOf(error.cause), "ECONNREFUSED")
      assert.strictEqual(error.message, `CONN: cannot connect to the proxy 127.0.0.1:${port}: ECONNREFUSED`)
    }))

  it.effect("is EPROXY when the proxy leaves without a word, or resets", () =>
    Effect.gen(function*() {
      for (const leave of ["destroy", "resetAndDestroy"] as const) {
        const { port } = yield* raw((client) => client.once("data", () => client[leave]()))
        const error = yield* Effect.flip(dial(url(port), undefined, proxyTls))
        assert.deepStrictEqual(
          facts(error),
          url(0).startsWith("https") ? { ...eproxy(true), tag: "ETLS" } : eproxy(true)
        )
      }
    }))
})

// The answers -----------------------------------------------------------------------------------------------------

const target = proxyProtocol.destinationOf("mx.test")!
const proxyOf = (url: string) => Result.getOrThrow(proxyUrl.parse(url))

/** Pushes each part as far as the exchange wants it; what was written, and how it stands. */
const converse = (url: string, parts: ReadonlyArray<Uint8Array>) => {
  const exchange = proxyProtocol.begin(proxyOf(url), target, 25)
  const written = [Buffer.from(exchange.opening).toString("hex")]
  let progress: proxyProtocol.Progress | undefined
  let rest = ""
  for (const part of parts) {
    progress = exchange.push(part)
    if (progress._tag === "Waiting" && progress.write.length > 0) {
      written.push(Buffer.from(progress.write).toString("hex"))
    }
    if (progress._tag === "Connected") rest += Buffer.from(progress.rest).toString("latin1")
  }
  return { written, rest, tag: progress?._tag }
}

const answers: ReadonlyArray<readonly [url: string, answers: ReadonlyArray<Uint8Array>]> = [
  ["http://127.0.0.1", [bytes("HTTP/1.1 200 OK\r\nVia: a\r\nX: \r\n\r\n")]],
  ["http://127.0.0.1", [bytes("HTTP/1.0 200 \r\n\r\n")]],
  ["http://127.0.0.1", [bytes("HTTP/1.1 200\r\n\r\n")]],
  ["http://127.0.0.1", [bytes("HTTP/1.1 204 fine\r\nContent-Length: 5\r\n\r\n")]],
  ["http://127.0.0.1", [
    bytes("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 C\r\n\r\nHTTP/1.1 200 OK\r\n\r\n")
  ]],
  ["socks5://127.0.0.1", [bytes("\x05\0"), bytes("\x05\0\0\x01\x7f\0\0\x01\0\x19")]],
  ["socks5://127.0.0.1", [bytes("\x05\0"), bytes("\x05\0\x07\x03\x02ab\0\x19")]],
  ["socks5://127.0.0.1", [bytes("\x05\0"), bytes("\x05\0\0\x03\0\0\x19")]],
  ["socks5://127.0.0.1", [bytes("\x05\0"), bytes("\x05\0\0\x04aaaabbbbccccdddd\0\x19")]],
  ["socks5://u:p@127.0.0.1", [bytes("\x05\x02"), bytes("\x01\0"), bytes("\x05\0\0\x01\x7f\0\0\x01\0\x19")]],
  ["socks4a://127.0.0.1", [bytes("\0Z\0\0\0\0\0\0")]]
]

const split = (octets: Uint8Array, i: number) => [octets.subarray(0, i), octets.subarray(i)]
const greeting = bytes("220 mx.test\r\n250\r\n")

describe("a proxy's answer", () => {
  it.each(answers)(
    "of %s is read whole, in every split, and octet by octet, and what follows is kept: %j",
    (url, parts) => {
      const expected = converse(url, parts)
      assert.strictEqual(expected.tag, "Connected")
      assert.strictEqual(expected.written.length, parts.length)
      assert.strictEqual(expected.rest, "")
      const all = (last: Uint8Array) => [...parts.slice(0, -1), Buffer.concat([last, greeting])]
      const whole = all(parts.at(-1)!)
      const want = { ...expected, rest: "220 mx.test\r\n250\r\n" }
      assert.deepStrictEqual(converse(url, whole), want)
      assert.deepStrictEqual(
        converse(url, whole.flatMap((part) => [...part].map((octet) => Uint8Array.of(octet)))),
        want
      )
      for (const [index, part] of whole.entries()) {
        for (let i = 0; i <= part.length; i++) {
          assert.deepStrictEqual(converse(url, whole.flatMap((one, n) => n === index ? split(one, i) : [one])), want)
        }
      }
      for (let i = 0; i < parts.at(-1)!.length; i++) {
        const short = [...parts.slice(0, -1), parts.at(-1)!.subarray(0, i)]
        assert.strictEqual(converse(url, short).tag, "Waiting")
      }
    }
  )

  it("asks in the words of the protocol", () => {
    const asked = (url: string, host: string) =>
      Buffer.from(proxyProtocol.begin(proxyOf(url), proxyProtocol.destinationOf(host)!, 587).opening).toString("latin1")
    assert.strictEqual(asked("http://a", "MX.test."), "CONNECT mx.test.:587 HTTP/1.1\r\nHost: mx.test.:587\r\n\r\n")
    assert.strictEqual(
      asked("http://a", "[2001:DB8::1]"),
      "CONNECT [2001:db8::1]:587 HTTP/1.1\r\nHost: [2001:db8::1]:587\r\n\r\n"
    )
    assert.strictEqual(asked("http://u:@a", "b").split("\r\n")[2], "Proxy-Authorization: Basic dTo=")
    assert.strictEqual(asked("socks4a://u@a", "b.test"), "\x04\x01\x02\x4b\0\0\0\x01u\0b.test\0")
    assert.strictEqual(asked("socks4://a", "1.2.3.4"), "\x04\x01\x02\x4b\x01\x02\x03\x04\0")
    assert.strictEqual(asked("socks5://a", "b.test"), "\x05\x01\0")
    const written = (host: string) => {
      const exchange = proxyProtocol.begin(proxyOf("socks5://a"), proxyProtocol.destinationOf(host)!, 587)
      const progress = exchange.push(Uint8Array.of(5, 0))
      return progress._tag === "Waiting" ? Buffer.from(progress.write).toString("latin1") : ""
    }
    assert.strictEqual(written("b.test"), "\x05\x01\0\x03\x06b.test\x02\x4b")
    assert.strictEqual(written("1.2.3.4"), "\x05\x01\0\x01\x01\x02\x03\x04\x02\x4b")
    assert.strictEqual(written("::ff"), `\x05\x01\0\x04${"\0".repeat(15)}\xff\x02\x4b`)
  })

  it("to SOCKS5 offers a login only where there is one to offer", () => {
    assert.deepStrictEqual(converse("socks5://u:p@a", [bytes("\x05\x02")]).written, ["05020002", "0101750170"])
    assert.deepStrictEqual(converse("socks5://a", [bytes("\x05\0")]).written[0], "050100")
    assert.strictEqual(converse("socks5://a", [bytes("\x05\x02")]).tag, "Failed")
  })

  const broken: ReadonlyArray<readonly [string, ReadonlyArray<string>, RegExp]> = [
    ["http://127.0.0.1", ["2"], /does not speak HTTP; check scheme and port/],
    ["http://127.0.0.1", ["\x05\xff"], /does not speak HTTP/],
    ["http://127.0.0.1", ["HTTP/2"], /does not speak HTTP/],
    ["http://127.0.0.1", ["\r\nHTTP/1.1 200 OK\r\n\r\n"], /does not speak HTTP/],
    ["http://127.0.0.1", ["HTTP/1.1 200 OK\n"], /does not speak HTTP/],
    ["http://127.0.0.1", ["HTTP/1.1 200 OK\r\nVia: x\n"], /does not speak HTTP/],
    ["http://127.0.0.1", ["HTTP/1.1 2000 OK\r\n\r\n"], /does not speak HTTP/],
    ["http://127.0.0.1", ["HTTP/1.1 20 OK\r\n\r\n"], /does not speak HTTP/],
    ["http://127.0.0.1", ["HTTP/1.1 999 OK\r\n\r\n"], /does not speak HTTP/],
    ["http://127.0.0.1", ["HTTP/1.2 200 OK\r\n\r\n"], /does not speak HTTP/],
    ["http://127.0.0.1", ["HTTP/1.1 101 Switching Protocols\r\n\r\n"], /answered 101 Switching/],
    ["http://127.0.0.1", [`HTTP/1.1 200 ${"a".repeat(16_384)}`], /head of more than 16384 octets/],
    ["http://127.0.0.1", [`HTTP/1.1 200 OK\r\n${"a: b\r\n".repeat(3000)}`], /head of more than 16384 octets/],
    ["http://127.0.0.1", ["HTTP/1.1 100 C\r\n\r\n".repeat(1000)], /head of more than 16384 octets/],
    ["socks5://127.0.0.1", ["H"], /does not speak SOCKS5/],
    ["socks5://127.0.0.1", ["\x05\x01"], /does not speak SOCKS5/],
    ["socks5://127.0.0.1", ["\x05\0", "\x04"], /does not speak SOCKS5/],
    ["socks5://127.0.0.1", ["\x05\0", "\x05\0\0\x02"], /does not speak SOCKS5/],
    ["socks5://127.0.0.1", ["\x05\0\x05"], /answered before it was asked/],
    ["socks5://u:p@127.0.0.1", ["\x05\x02", "\x05"], /does not speak SOCKS5/],
    ["socks4a://127.0.0.1", ["\x04"], /does not speak SOCKS4/],
    ["socks4a://127.0.0.1", ["\0\0"], /does not speak SOCKS4/]
  ]
  it.effect.each(broken)(
    "of %s that is broken, %j, is EPROXY at once, though nothing more comes",
    ([url, parts, message]) =>
      Effect.gen(function*() {
        const { port, sockets } = yield* answering(...parts)
        const error = yield* Effect.flip(dial(`${url}:${port}`))
        assert.deepStrictEqual(facts(error), eproxy(false))
        assert.match(error.message, message)
        const closed = watch(sockets[0]!)
        yield* until(() => closed() || sockets[0]!.closed)
      })
  )

  it("stays what it was", () => {
    const exchange = proxyProtocol.begin(proxyOf("socks5://a"), target, 25)
    const early = exchange.push(Uint8Array.of(5, 0, 5))
    assert.strictEqual(early._tag, "Failed")
    assert.deepStrictEqual(exchange.push(Uint8Array.of(0)), early)
  })

  it("may have a head of 16384 octets, and not one more", () => {
    const head = (length: number) => bytes(`HTTP/1.1 200 OK\r\nX: ${"a".repeat(length - 24)}\r\n\r\n`)
    assert.strictEqual(head(16_384).length, 16_384)
    assert.strictEqual(converse("http://a", [head(16_384)]).tag, "Connected")
    assert.strictEqual(converse("http://a", [head(16_385)]).tag, "Failed")
  })

  const statuses: ReadonlyArray<readonly [status: string, temporary: boolean]> = [
    ["301 Moved", false],
    ["400 Bad Request", false],
    ["403 Forbidden", false],
    ["407 Proxy Authentication Required", false],
    ["429 Too Many Requests", false],
    ["500 Internal Server Error", true],
    ["502 Bad Gateway", true],
    ["503", true],
    ["504 \x1b[2J\x07 " + "x".repeat(500), true]
  ]
  it.effect.each(statuses)(
    "HTTP/1.1 %s is EPROXY with the status, temporary: %s",
    ([status, isTemporary]) =>
      Effect.gen(function*() {
        for (const user of ["", `${userInfo}@`]) {
          const { port } = yield* answering(`HTTP/1.1 ${status}\r\n\r\nsecret body`)
          const error = yield* Effect.flip(dial(`http://${user}127.0.0.1:${port}`))
          assert.deepStrictEqual(facts(error), eproxy(isTemporary))
          assert.include(
            error.message,
            `CONN: the proxy 127.0.0.1:${port}, asked for mx.test:25, answered ${status.slice(0, 7).trim().slice(0, 3)}`
          )
          assert.strictEqual(/wants credentials/.test(error.message), status.startsWith("407") && user === "")
          assert.strictEqual(
            /does not take the credentials/.test(error.message),
            status.startsWith("407") && user !== ""
          )
          // oxlint-disable-next-line no-control-regex -- what must not come through
          assert.notMatch(error.message, /[\x00-\x1f]|body/)
          assert.isBelow(error.message.length, 400)
        }
      })
  )

  const codes: ReadonlyArray<readonly [url: string, code: number, isTemporary: boolean, words: string]> = [
    ["socks5", 1, true, "general failure (SOCKS5 code 1)"],
    ["socks5", 2, false, "not allowed by its rules"],
    ["socks5", 3, true, "network unreachable"],
    ["socks5", 4, true, "host unreachable"],
    ["socks5", 5, true, "connection refused"],
    ["socks5", 6, true, "TTL expired"],
    ["socks5", 7, false, "command not supported"],
    ["socks5", 8, false, "address type not supported"],
    ["socks5", 99, true, "unknown code (SOCKS5 code 99)"],
    ["socks4a", 91, true, "rejected or failed (SOCKS4 code 91)"],
    ["socks4a", 92, false, "no identd"],
    ["socks4a", 93, false, "identd names another user"]
  ]
  it.effect.each(codes)(
    "%s code %i is EPROXY, temporary: %s",
    ([scheme, code, isTemporary, words]) =>
      Effect.gen(function*() {
        const { port } = scheme === "socks5"
          ? yield* answering("\x05\0", Uint8Array.of(5, code))
          : yield* answering(Uint8Array.of(0, code))
        const error = yield* Effect.flip(dial(`${scheme}://127.0.0.1:${port}`))
        assert.deepStrictEqual(facts(error), eproxy(isTemporary))
        assert.include(error.message, words)
      })
  )

  it.effect("that refuses our login, or asks for one we have not, says so and what to do", () =>
    Effect.gen(function*() {
      const { port } = yield* socksProxy(1, { login: true })
      const none = yield* Effect.flip(dial(`socks5://127.0.0.1:${port}`))
      assert.deepStrictEqual(facts(none), eproxy(false))
      assert.include(none.message, "it wants credentials; put user and password into its URL")
      const wrong = yield* Effect.flip(dial(`socks5://ann:s3cr-other@127.0.0.1:${port}`))
      assert.deepStrictEqual(facts(wrong), eproxy(false))
      assert.include(wrong.message, "refused the login: it does not take the credentials of its URL")
      const refused = yield* answering(Uint8Array.of(5, 0xff))
      const method = yield* Effect.flip(dial(`socks5://${userInfo}@127.0.0.1:${refused.port}`))
      assert.deepStrictEqual(facts(method), eproxy(false))
    }))

  it.effect("and what comes with it is read when somebody listens, the end included", () =>
    Effect.gen(function*() {
      const { port, sockets } = yield* raw((client) =>
        client.once("data", () => client.end("HTTP/1.1 200 OK\r\n\r\n220 hi\r\n"))
      )
      const duplex = yield* dial(`http://127.0.0.1:${port}`)
      let turns = 0
      yield* until(() => sockets[0]!.writableFinished && ++turns > 50)
      const recorder = record(duplex)
      yield* until(() => recorder.ends.length > 0)
      assert.strictEqual(recorder.text, "220 hi\r\n")
      assert.deepStrictEqual(recorder.ends, [{ _tag: "Closed" }])
    }))

  it.effect("may trickle over the wire", () =>
    Effect.gen(function*() {
      const { port } = yield* raw((client) => {
        const text = "HTTP/1.1 200 OK\r\nVia: x\r\n\r\n220 hi\r\n"
        const trickle = (i: number) =>
          void (i < text.length && client.write(text[i]!, () => setImmediate(trickle, i + 1)))
        client.setNoDelay(true).once("data", () => trickle(0))
      })
      const recorder = record(yield* dial(`http://127.0.0.1:${port}`))
      yield* until(() => recorder.text === "220 hi\r\n")
    }))

  it.effect("that brings plaintext before implicit TLS is ETLS", () =>
    Effect.gen(function*() {
      const { port } = yield* answering("HTTP/1.1 200 OK\r\n\r\n220 hi\r\n")
      const error = yield* Effect.flip(connection(`http://127.0.0.1:${port}`, { tls: "implicit" }))
      assert.strictEqual(error._tag, "ETLS")
      assert.include(error.message, "does not speak TLS on this port")
    }))

  it.effect("that floods is EPROXY, and is left", () =>
    Effect.gen(function*() {
      const { port, sockets } = yield* raw((client) => {
        const flood = () => void (client.destroyed || (client.write("x".repeat(65_536)) ? setImmediate(flood) : 0))
        client.on("drain", flood).once("data", () => {
          client.write("HTTP/1.1 200 ")
          flood()
        })
      })
      const error = yield* Effect.flip(dial(`http://127.0.0.1:${port}`))
      assert.deepStrictEqual(facts(error), eproxy(false))
      yield* until(() => sockets[0]!.closed)
    }))
})

describe("an https: proxy", () => {
  const toTls = (error: SmtpError.SmtpError) => ({ ...facts(error), code: codeOf(error.cause) })
  const etls = (isTemporary: boolean, code: string) => ({ ...eproxy(isTemporary), tag: "ETLS" as const, code })

  it.effect("is verified, unless its tlsOptions say otherwise", () =>
    Effect.gen(function*() {
      const { port: to } = yield* raw((client) => client.write("220 hi\r\n"))
      const { port, seen } = yield* httpProxy(to, { certificate: certificates.wrongName })
      const url = `https://${userInfo}@127.0.0.1:${port}`
      const error = yield* Effect.flip(dial(url, undefined, proxyTls))
      assert.deepStrictEqual(toTls(error), etls(false, "ERR_TLS_CERT_ALTNAME_INVALID"))
      assert.match(error.message, /^CONN: TLS with the proxy: .*127\.0\.0\.1.*tlsOptions of layerProxy$/)
      const untrusted = yield* Effect.flip(dial(url))
      assert.deepStrictEqual(toTls(untrusted), etls(false, "UNABLE_TO_VERIFY_LEAF_SIGNATURE"))
      assert.deepStrictEqual(seen, [])
      const duplex = yield* dial(url, undefined, { tlsOptions: { rejectUnauthorized: false } })
      const recorder = record(duplex)
      yield* until(() => recorder.text === "220 hi\r\n")
      assert.strictEqual(seen[0]?.login, basic)
    }))

  it.effect("that speaks no TLS is ETLS and says what to write", () =>
    Effect.gen(function*() {
      const { port } = yield* httpProxy(1)
      const error = yield* Effect.flip(dial(`https://127.0.0.1:${port}`))
      assert.deepStrictEqual(toTls(error), etls(false, "ERR_SSL_WRONG_VERSION_NUMBER"))
      assert.include(error.message, `it does not speak TLS on port ${port}; write http: in its URL`)
    }))

  it.effect("with settings that cannot be is ETLS before it is dialled", () =>
    Effect.gen(function*() {
      const { port, sockets } = yield* raw(() => {})
      const error = yield* Effect.flip(dial(`https://127.0.0.1:${port}`, undefined, { tlsOptions: { ca: "none" } }))
      assert.deepStrictEqual([error._tag, error.command], ["ETLS", "API"])
      assert.strictEqual(sockets.length, 0)
    }))

  it.effect("that leaves after its handshake is EPROXY", () =>
    Effect.gen(function*() {
      const server = https.createServer(certificates.good).on("secureConnection", (socket) => socket.end())
      const { port } = yield* listen(server)
      const error = yield* Effect.flip(dial(`https://127.0.0.1:${port}`, undefined, proxyTls))
      assert.deepStrictEqual(facts(error), eproxy(true))
      assert.include(error.message, "gave no whole answer: ")
    }))
})

// Waiting ---------------------------------------------------------------------------------------------------------

describe("a proxy that never answers", () => {
  const silent: ReadonlyArray<readonly [url: string, answers: ReadonlyArray<string>]> = [
    ["http://", []],
    ["http://", ["HTTP/1.1 200 OK\r\n"]],
    ["https://", []],
    ["socks5://", []],
    ["socks5://", ["\x05\0"]],
    ["socks5://u:p@", ["\x05\x02", "\x01\0", "\x05\0\0\x01"]],
    ["socks4a://", ["\0"]]
  ]
  it.effect.each(silent)(
    "of %s, after %j, is ETIMEDOUT by the connect deadline, and freed",
    ([url, parts]) =>
      Effect.gen(function*() {
        const { port, sockets } = yield* answering(...parts)
        const fiber = yield* Effect.forkChild(Effect.exit(connection(`${url}127.0.0.1:${port}`)), {
          startImmediately: true
        })
        yield* until(() => sockets.length === 1 && sockets[0]!.bytesRead > 0)
        const before = sockets[0]!
        yield* TestClock.adjust("119 seconds")
        assert.strictEqual(fiber.pollUnsafe(), undefined)
        assert.strictEqual(before.destroyed, false)
        yield* TestClock.adjust("1 second")
        const exit = yield* Fiber.join(fiber)
        const error = Exit.isFailure(exit) ? SmtpError.fromCause(exit.cause) : undefined
        assert.strictEqual(error?._tag === "ETIMEDOUT" && error.timeout, "connect")
        yield* until(() => before.closed)
      })
  )

  it.effect.each(silent)("of %s, after %j, is freed by an interruption", ([url, parts]) =>
    Effect.gen(function*() {
      const { port, sockets } = yield* answering(...parts)
      const fiber = yield* Effect.forkChild(dial(`${url}127.0.0.1:${port}`), { startImmediately: true })
      yield* until(() => sockets.length === 1 && sockets[0]!.bytesRead > 0)
      yield* Fiber.interrupt(fiber)
      yield* until(() => sockets[0]!.closed)
    }))
})

// Who resolves, and what is refused before anything is dialled ------------------------------------------------------

const resolve = (url: string, endpoint: Endpoint, options?: NodeConnector.ProxyOptions) =>
  SmtpConnector.use((connector) => connector.resolve(endpoint)).pipe(
    Effect.provide(NodeConnector.layerProxy(url, options))
  )

describe("resolve", () => {
  it.effect.each(["http", "https", "socks5", "socks5h", "socks4a"])(
    "leaves names to a proxy of %s:",
    (scheme) =>
      Effect.gen(function*() {
        const endpoint = at("Nowhere.Invalid", { localAddress: "127.0.0.1" })
        assert.deepStrictEqual(yield* resolve(`${scheme}://proxy.test`, endpoint), [
          { ...endpoint, host: "nowhere.invalid", address: undefined }
        ])
      })
  )

  it.effect("resolves here for socks4:, to IPv4", () =>
    Effect.gen(function*() {
      const targets = yield* resolve("socks4://proxy.test", at("localhost", { localAddress: "::1" }))
      for (const { address, localAddress } of targets) {
        assert.deepStrictEqual([address, localAddress], ["127.0.0.1", "::1"])
      }
      const { port: to } = yield* raw((client) => client.write("220 hi\r\n"))
      const { port, seen } = yield* socksProxy(to)
      yield* dial(`socks4://127.0.0.1:${port}`, at("localhost"))
      assert.deepInclude(seen[0], { host: "127.0.0.1", login: "" })
    }))

  it.effect("asks for IPv4 where SOCKS4 has to carry the address, and for any family elsewhere", () =>
    Effect.gen(function*() {
      const asked: Array<Endpoint> = []
      const parts: proxyConnector.Parts = {
        faultOf: () => undefined,
        resolveHere: (endpoint) => {
          asked.push(endpoint)
          const targets = ["192.0.2.1", "192.0.2.2"].map((address) => ({ ...endpoint, address }))
          return Effect.succeed([targets[0]!, ...targets.slice(1)])
        },
        tlsOptions: {},
        sessions: tlsSessions.make()
      }
      for (const scheme of ["socks4", "socks4a", "socks5", "http"]) {
        const { resolve } = proxyConnector.make(proxyOf(`${scheme}://proxy.test`), parts)
        const targets = yield* resolve(at("MX.test", { localAddress: "::1" }))
        assert.deepStrictEqual(targets.map(({ address, localAddress }) => [address, localAddress]), [
          ["192.0.2.1", "::1"],
          ["192.0.2.2", "::1"]
        ])
        assert.deepInclude(asked.pop(), {
          host: "mx.test",
          family: scheme.startsWith("socks4") ? 4 : undefined,
          localAddress: undefined
        })
      }
    }))

  it.effect("resolves here with allowAddress, and tells the proxy an address that passed", () =>
    Effect.gen(function*() {
      const { port: to } = yield* raw((client) => client.write("220 hi\r\n"))
      const { port, seen } = yield* httpProxy(to)
      const asked: Array<string> = []
      const allowAddress = (ip: string) => asked.push(ip) > 0
      yield* dial(`http://127.0.0.1:${port}`, at("localhost", { family: 4 }), { allowAddress })
      assert.strictEqual(seen[0]?.host, "127.0.0.1")
      assert.deepStrictEqual([...new Set(asked)], ["127.0.0.1"])
    }))

  it.effect("is EDNS where allowAddress refuses, literals in disguise included", () =>
    Effect.gen(function*() {
      const filter = { allowAddress: NodeConnector.isPublicAddress }
      for (const host of ["localhost", "127.0.0.1", "[::1]", "::ffff:127.0.0.1", "１２７.0.0.1"]) {
        const error = yield* Effect.flip(resolve("http://proxy.test", at(host), filter))
        assert.strictEqual(error._tag, "EDNS", host)
      }
    }))

  it.effect("gives the options' name of this host", () =>
    Effect.gen(function*() {
      const name = SmtpConnector.useSync((connector) => connector.localName)
      const of = (options: NodeConnector.ProxyOptions) =>
        Effect.provide(name, NodeConnector.layerProxy("http://proxy.test", options))
      assert.strictEqual(yield* of({ localName: "me.test" }), "me.test")
      assert.strictEqual(yield* of({}), yield* Effect.provide(name, NodeConnector.layer))
    }))

  it.effect("of an address that SOCKS4 cannot carry is ECONFIG", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(resolve("socks4a://proxy.test", at("2001:db8::1")))
      assert.deepStrictEqual([error._tag, error.message], [
        "ECONFIG",
        "API: SOCKS4 cannot carry an IPv6 address; use socks5:"
      ])
    }))

  const faults: ReadonlyArray<readonly [Endpoint, string]> = [
    [at(""), "options.host"],
    [at("mx.test\r\nX: y"), "options.host"],
    [at("mx.test:25 HTTP/1.1"), "options.host"],
    [at("user@mx.test"), "options.host"],
    [at("mx.test:80"), "options.host"],
    [at("mx.test/x"), "options.host"],
    [at("mx%2etest"), "options.host"],
    [at("mx..test"), "options.host"],
    [at("mx\ud800.test"), "options.host"],
    [at("fe80::1%eth0"), "options.host"],
    [at("a".repeat(64)), "options.host"],
    [at("a.".repeat(128)), "options.host"],
    [at("mx.test", { port: 0 }), "options.port"],
    [at("mx.test", { port: 65_536 }), "options.port"],
    [at("mx.test", { localAddress: "eth0" }), "options.localAddress"],
    [at("mx.test", { path: "/run/smtp" }), "options.path"]
  ]
  it.effect.each(faults)("and connect refuse %j with the field %s", ([endpoint, field]) =>
    Effect.gen(function*() {
      const connect = SmtpConnector.use((connector) => connector.connect({ ...endpoint, address: undefined }))
      const { port, sockets } = yield* raw(() => {})
      const url = `http://127.0.0.1:${port}`
      const errors = [
        yield* Effect.flip(resolve(url, endpoint)),
        yield* Effect.flip(Effect.provide(connect, NodeConnector.layerProxy(url)))
      ]
      for (const error of errors) {
        assert.deepStrictEqual([error._tag, error.command, error.field], ["ECONFIG", "API", field])
        assert.notMatch(error.message, /[\r\n]/)
      }
      assert.strictEqual(sockets.length, 0)
    }))
})

describe("connect", () => {
  it.effect("gives a stream that its scope frees without a word", () =>
    Effect.gen(function*() {
      for (const secure of [false, true]) {
        const { port: to } = yield* raw((client) => client.write("220 hi\r\n"))
        const { port, seen } = yield* httpProxy(to, secure ? { certificate: certificates.good } : {})
        const recorder = yield* Effect.scoped(Effect.gen(function*() {
          const recorder = record(yield* dial(`http${secure ? "s" : ""}://127.0.0.1:${port}`, undefined, proxyTls))
          yield* until(() => recorder.text === "220 hi\r\n")
          return recorder
        }))
        yield* until(seen[0]!.isClosed)
        assert.deepStrictEqual(recorder.ends, [])
      }
    }))

  it.effect("dials the proxy from the local address", () =>
    Effect.gen(function*() {
      const { port: to } = yield* raw((client) => client.write("220 hi\r\n"))
      const { port, seen } = yield* httpProxy(to)
      const duplex = yield* dial(`http://localhost:${port}`, at("mx.test", { localAddress: "127.0.0.2" }))
      assert.strictEqual(seen[0]?.from, "127.0.0.2")
      assert.strictEqual(duplex.localAddress, "127.0.0.2")
    }))

  it.effect.each([["ENOTFOUND", false], ["EAI_AGAIN", true]] as const)(
    "is EPROXY when the proxy's name does not resolve: %s, temporary: %s",
    ([code, isTemporary]) =>
      Effect.gen(function*() {
        yield* Effect.acquireRelease(
          Effect.sync(() =>
            vi.spyOn(dns, "lookup").mockImplementation(
              ((_: string, __: dns.LookupOptions, answer: (error: Error) => void) =>
                answer(Object.assign(new Error(code), { code }))) as typeof dns.lookup
            )
          ),
          (spy) => Effect.sync(() => spy.mockRestore())
        )
        const error = yield* Effect.flip(dial(`http://${userInfo}@proxy.test:3128`))
        assert.deepStrictEqual(facts(error), eproxy(isTemporary))
        assert.strictEqual(error.message, `CONN: cannot connect to the proxy proxy.test:3128: ${code}`)
      })
  )
})

// The URL ---------------------------------------------------------------------------------------------------------

describe("the URL", () => {
  it("may be text, a URL, or Redacted, with default ports", () => {
    const parsed = (input: string | URL | Redacted.Redacted<string>) => {
      const { credentials, ...rest } = Result.getOrThrow(proxyUrl.parse(input))
      const login = credentials && [Redacted.value(credentials.username), Redacted.value(credentials.password)]
      return [rest.protocol, rest.secure, rest.host, rest.port, login]
    }
    assert.deepStrictEqual(parsed("http://Proxy.test"), ["http", false, "proxy.test", 80, undefined])
    assert.deepStrictEqual(parsed(new URL("https://[::1]/")), ["http", true, "::1", 443, undefined])
    const secret = Redacted.make(`socks5://${userInfo}@10.0.0.1`)
    assert.deepStrictEqual(parsed(secret), ["socks5", false, "10.0.0.1", 1080, ["ann", canary]])
    assert.deepStrictEqual(parsed("socks5h://ann@[::1]:9"), ["socks5", false, "::1", 9, ["ann", ""]])
    assert.deepStrictEqual(parsed("socks4a://PROXY.test"), ["socks4", false, "proxy.test", 1080, undefined])
    assert.deepStrictEqual(parsed("socks4://a:65535"), ["socks4", false, "a", 65_535, undefined])
  })

  it("keeps its credentials Redacted", () => {
    const proxy = proxyOf(`http://${userInfo}@proxy.test`)
    assert.notMatch(JSON.stringify(proxy) + String(proxy.credentials?.username), /ann|s3cr/)
  })

  const faults: ReadonlyArray<readonly [url: string, message: RegExp]> = [
    ["proxy.test s3cr", /not a URL/],
    ["", /not a URL/],
    ["ftp://ann:s3cr@proxy.test", /scheme must be one of http:, https:, socks5:, socks5h:, socks4:, socks4a:/],
    ["smtp://proxy.test", /scheme/],
    ["http://ann:s3cr@proxy.test/path", /path, query and fragment/],
    ["http://ann:s3cr@proxy.test?s3cr", /path, query and fragment/],
    ["socks5://ann:x@proxy.test#s3cr", /path, query and fragment/],
    ["http://ann:s3cr%@proxy.test", /must be written %25/],
    ["http://ann:s3cr%ff@proxy.test", /must be written %25/],
    ["socks5://:s3cr@proxy.test", /needs a user/],
    ["http://ann:s3cr%0d%0aX:y@proxy.test", /control characters/],
    ["socks4a://ann%00@proxy.test", /control characters/],
    ["http://an%3An:s3cr@proxy.test", /Basic authentication/],
    ["socks4a://ann:s3cr@proxy.test", /SOCKS4 has no password/],
    [`socks5://ann:s3cr${"é".repeat(126)}@proxy.test`, /255 octets each/],
    ["socks5://pro%78y.test", /host is not/],
    ["socks5://:0", /not a URL/],
    ["socks5:proxy.test", /host is not|path/],
    ["http://proxy.test:0", /port must be/]
  ]
  it.effect.each(faults)("%s is ECONFIG that holds nothing of it", ([url, message]) =>
    Effect.gen(function*() {
      for (const input of [url, Redacted.make(url)]) {
        const error = yield* Effect.flip(Effect.provide(Effect.void, NodeConnector.layerProxy(input)))
        assert.deepStrictEqual([error._tag, error.command, error.field, error.attempted], [
          "ECONFIG",
          "API",
          "url",
          false
        ])
        assert.match(error.message, message)
        assert.notMatch(JSON.stringify(error) + error.message, /\bann\b|s3cr/)
      }
    }))
})

// Any input -------------------------------------------------------------------------------------------------------

const Piece = Schema.Literals([
  "a",
  "mx.test",
  ".",
  "-",
  ":",
  "@",
  "/",
  "%0d%0a",
  " ",
  "\r",
  "\n",
  "\r\n",
  "\0",
  "\t",
  "\x7f",
  "\x85",
  "\u2028",
  "\u202e",
  "\ud800",
  "é",
  "１",
  "::1",
  "[::1]",
  "127.0.0.1",
  "X: y",
  " HTTP/1.1",
  "a".repeat(63)
])
const Text = Arbitrary.schema(Schema.Union([Schema.Array(Piece), Schema.Tuple([Schema.String])]))

describe("any host and any credentials", () => {
  it("that hold line ends are no host, though IDNA would drop them", () => {
    for (const host of ["bü\r\ncher.test", "bücher\u00ad.test", "mx.test\n"]) {
      assert.strictEqual(proxyProtocol.destinationOf(host), undefined)
    }
  })

  it.effect.prop(
    "make one request that says exactly them, or none",
    [Text, Text, Text],
    ([a, b, c]) =>
      Effect.sync(() => {
        const wellFormed = (text: string) => Buffer.from(text).toString()
        const [host, user, password] = [a.join(""), wellFormed(b.join("")), wellFormed(c.join(""))]
        const destination = proxyProtocol.destinationOf(host)
        if (destination === undefined) return
        assert.match(destination.text, /^(?:[a-z0-9_.-]{1,254}|[0-9a-f:.]+)$/)
        for (const scheme of ["http", "socks5", "socks4a"]) {
          const parsed = proxyUrl.parse(
            `${scheme}://${encodeURIComponent(user)}:${encodeURIComponent(password)}@p.test`
          )
          if (Result.isFailure(parsed)) {
            assert.strictEqual(parsed.failure.field, "url")
            continue
          }
          const exchange = proxyProtocol.begin(parsed.success, destination, 25)
          const opening = Buffer.from(exchange.opening)
          if (scheme === "http") {
            const text = opening.toString("latin1")
            const to = net.isIPv6(destination.text) ? `[${destination.text}]:25` : `${destination.text}:25`
            const login = Buffer.from(`${user}:${password}`).toString("base64")
            const lines = [`CONNECT ${to} HTTP/1.1`, `Host: ${to}`]
            if (parsed.success.credentials !== undefined) lines.push(`Proxy-Authorization: Basic ${login}`)
            assert.deepStrictEqual(text.split(/\r\n|\r|\n/), [...lines, "", ""])
          } else if (scheme === "socks4a") {
            // The connector sends no IPv6 address this way.
            if (destination.octets?.length === 16) continue
            const [name, host] = opening.subarray(8).toString().split("\0")
            assert.strictEqual(name, user)
            if (destination.octets === undefined) assert.strictEqual(host, destination.text)
          } else if (parsed.success.credentials !== undefined) {
            const progress = exchange.push(Uint8Array.of(5, 2))
            const octets = Buffer.from(progress._tag === "Waiting" ? progress.write : [])
            const end = 2 + octets[1]!
            assert.strictEqual(octets.subarray(2, end).toString(), user)
            assert.strictEqual(octets[end], Buffer.from(password).length)
            assert.strictEqual(octets.subarray(end + 1).toString(), password)
          }
        }
      })
  )
})

const words = [
  "HTTP/1.1 200 OK\r\n",
  "HTTP/1.1 100 \r\n",
  "HTTP/1.",
  "407",
  "\r\n",
  "\r",
  "\n",
  "a: b",
  "\0",
  "\x01",
  "\x02"
]
const Octets = Arbitrary.array(
  Arbitrary.schema(
    Schema.Literals([...words, "\x03", "\x04", "\x05", "Z", "\xff", "x".repeat(300), "\x05\0", "\x01\0"])
  ),
  { maxLength: 200 }
)
const urls = ["http://u:p@a", "socks5://a", "socks5://u:p@a", "socks4a://a"]

describe("any answer", () => {
  it.effect.prop(
    "settles or waits, alike in any split, and what follows is kept",
    [Octets],
    ([parts]) =>
      Effect.sync(() => {
        const answer = bytes(parts.join(""))
        for (const url of urls) {
          // Octet by octet nothing is "before it was asked".
          let tail = ""
          const single = proxyProtocol.begin(proxyOf(url), target, 25)
          let progress: proxyProtocol.Progress | undefined
          for (const octet of answer) {
            progress = single.push(Uint8Array.of(octet))
            if (progress._tag === "Connected") tail += Buffer.from(progress.rest).toString("latin1")
          }
          if (url.startsWith("socks5")) continue
          const whole = proxyProtocol.begin(proxyOf(url), target, 25).push(answer)
          assert.strictEqual(whole._tag, progress?._tag ?? "Waiting")
          if (whole._tag === "Connected") assert.strictEqual(Buffer.from(whole.rest).toString("latin1"), tail)
          if (whole._tag === "Failed") assert.deepStrictEqual(whole, progress)
        }
      })
  )

  it("of HTTP is looked at octet by octet, once", () => {
    let looked = 0
    const counting = (octets: Uint8Array) =>
      new Proxy(octets, {
        get: (of, key) =>
          key === "entries"
            ? function*() {
              for (const entry of of.entries()) {
                looked++
                yield entry
              }
            }
            : key === "subarray"
            ? of.subarray.bind(of)
            : Reflect.get(of, key, of)
      })
    const exchange = proxyProtocol.begin(proxyOf("http://a"), target, 25)
    const head = bytes("HTTP/1.1 200 OK\r\n" + "a: b\r\n".repeat(2000))
    for (let i = 0; i < head.length; i += 7) exchange.push(counting(head.subarray(i, i + 7)))
    assert.strictEqual(looked, head.length)
  })
})
