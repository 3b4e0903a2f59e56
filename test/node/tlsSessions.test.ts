import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { TestClock } from "effect/testing"
import { EventEmitter } from "node:events"
import * as net from "node:net"
import * as tls from "node:tls"
import { codeOf } from "../../src/internal/errorCause.ts"
import { type CertificateAndKey, makeCertificate } from "../../src/node/certificate.ts"
import * as NodeConnector from "../../src/node/NodeConnector.ts"
import * as nodeDuplex from "../../src/node/nodeDuplex.ts"
import { settingsOf } from "../../src/node/nodeTls.ts"
import * as tlsSessions from "../../src/node/tlsSessions.ts"
import { type Endpoint, SmtpConnector, type TlsOptions, type TlsUpgrade } from "../../src/SmtpConnector.ts"
import * as certificates from "./certificates.ts"
import { keyPin } from "./certificates.ts"
import { bytes, listen, open, record, until } from "./loopback.ts"

const trusting: TlsOptions = { ca: certificates.ca.cert }
/** A server that answers the first octets it hears with its own: what a client waits for, tickets come before. */
const server = (certificate: CertificateAndKey = certificates.good, options: tls.TlsOptions = {}) =>
  tls.createServer({ ...certificate, ...options }, (socket) => {
    socket.on("error", () => {}).on("data", (octets) => socket.write(octets))
  })

/** A connector that lives as long as the test, as a program has it. */
const connector = Effect.map(Layer.build(NodeConnector.layer), Context.get(SmtpConnector))

const expecting = (options: TlsOptions = trusting, servername = "mx.test", verify = true): TlsUpgrade => ({
  servername,
  verify,
  options
})

/** Upgrades, and listens until what the server says behind its tickets was read. */
const visit = Effect.fnUntraced(function*(endpoint: Endpoint, upgrade: TlsUpgrade) {
  const duplex = yield* open(endpoint)
  const info = yield* duplex.upgrade(upgrade)
  const recorder = record(duplex)
  duplex.write([bytes("x")])
  yield* until(() => recorder.text === "x")
  duplex.destroy()
  return info
})

/** Visits one after the other over one connector; whether each resumed a session, or failed. */
const visits = Effect.fnUntraced(function*(endpoint: Endpoint, ...upgrades: ReadonlyArray<TlsUpgrade>) {
  const service = yield* connector
  return yield* Effect.forEach(upgrades, (upgrade) =>
    visit(endpoint, upgrade).pipe(
      Effect.map(({ resumed }): boolean | string => resumed),
      Effect.catchTag("ETLS", (error) => Effect.succeed(codeOf(error.cause))),
      Effect.provideService(SmtpConnector, service)
    ))
})

const local = (port: number): Endpoint => ({ host: "127.0.0.1", port })
const listening = (node: net.Server) => Effect.map(listen(node), ({ port }) => local(port))

describe("a session of a verified connection", () => {
  it.effect("is resumed, and reports what the full handshake showed", () =>
    Effect.gen(function*() {
      const service = yield* connector
      const endpoint = yield* listening(server())
      const again = Effect.provideService(visit(endpoint, expecting()), SmtpConnector, service)
      const [first, second] = [yield* again, yield* again]
      assert.deepInclude(second, { resumed: true, authorized: true, identity: "mx.test", pin: undefined })
      assert.deepStrictEqual(
        { ...second, channelBindings: [] },
        { ...first, resumed: true, channelBindings: [] }
      )
      assert.strictEqual(second.peerCertificate?.subject, "CN=mx.test")
    }))

  it.effect("serves once in TLS 1.3, and again in TLS 1.2", () =>
    Effect.gen(function*() {
      const once = yield* listening(server())
      const upgrades = Array.from({ length: 4 }, () => expecting())
      // The server sends two tickets in a full handshake, and none in a resumed one.
      assert.deepStrictEqual(yield* visits(once, ...upgrades), [false, true, true, false])
      const often = yield* listening(server(certificates.good, { maxVersion: "TLSv1.2" }))
      assert.deepStrictEqual(yield* visits(often, ...upgrades), [false, true, true, true])
    }))

  it.effect("is one more full handshake where the server has forgotten it", () =>
    Effect.gen(function*() {
      for (const maxVersion of ["TLSv1.2", "TLSv1.3"] as const) {
        const node = server(certificates.good, { maxVersion })
        const endpoint = yield* listening(node)
        const service = yield* connector
        const again = Effect.provideService(visit(endpoint, expecting()), SmtpConnector, service)
        yield* again
        node.setTicketKeys(Buffer.alloc(48, 7))
        assert.deepStrictEqual([(yield* again).resumed, (yield* again).resumed], [false, true])
      }
    }))

  it.effect("is resumed for an hour after the full handshake, however often it was", () =>
    Effect.gen(function*() {
      const endpoint = yield* listening(server(certificates.good, { maxVersion: "TLSv1.2" }))
      const service = yield* connector
      const again = Effect.provideService(visit(endpoint, expecting()), SmtpConnector, service)
      const seen = [yield* again]
      for (const pause of ["30 minutes", "29 minutes", "1 minute", "59 minutes"] as const) {
        yield* TestClock.adjust(pause)
        seen.push(yield* again)
      }
      assert.deepStrictEqual(seen.map(({ resumed }) => resumed), [false, true, true, false, true])
    }))

  it.effect("of a server with a private authority is resumed under the pin that verified it", () =>
    Effect.gen(function*() {
      const endpoint = yield* listening(server(certificates.selfSigned))
      const pinned = expecting({ pins: [keyPin(certificates.selfSigned)] })
      assert.deepStrictEqual(yield* visits(endpoint, pinned, pinned), [false, true])
    }))

  it.effect("serves STARTTLS on a listener that was there before", () =>
    Effect.gen(function*() {
      const context = tls.createSecureContext(certificates.good)
      const node = net.createServer((socket) => {
        socket.on("error", () => {})
        const upgraded = new tls.TLSSocket(socket, { isServer: true, secureContext: context })
        upgraded.on("error", () => {}).on("data", (octets) => upgraded.write(octets))
      })
      assert.deepStrictEqual(yield* visits(yield* listening(node), expecting(), expecting()), [false, true])
    }))

  it.effect("stays within its connector layer", () =>
    Effect.gen(function*() {
      const endpoint = yield* listening(server())
      assert.deepStrictEqual([
        ...yield* visits(endpoint, expecting()),
        ...yield* visits(endpoint, expecting())
      ], [false, false])
    }).pipe(Effect.provide(Layer.fresh(NodeConnector.layer))))
})

describe("no session is resumed", () => {
  const { cert, key } = certificates.client
  const client = { ...trusting, cert, key: Redacted.make(key) }
  const otherClient = makeCertificate({ commonName: "client", issuer: certificates.ca })
  const twoNames = makeCertificate({
    commonName: "x",
    altNames: ["DNS:mx.test", "DNS:other.test", "IP:127.0.0.1"],
    issuer: certificates.ca
  })
  const policies: ReadonlyArray<readonly [string, TlsOptions, TlsOptions]> = [
    ["another authority", trusting, { ca: [certificates.ca.cert, certificates.otherCa.cert] }],
    ["a pin", trusting, { ...trusting, pins: [keyPin(twoNames)] }],
    ["another pin", { pins: [keyPin(twoNames)] }, { pins: [keyPin(twoNames), keyPin(certificates.good)] }],
    ["a client certificate", trusting, client],
    ["another client certificate", client, { ...client, ...otherClient, key: Redacted.make(otherClient.key) }],
    ["a higher minVersion", trusting, { ...trusting, minVersion: "TLSv1.3" }],
    ["another maxVersion", trusting, { ...trusting, maxVersion: "TLSv1.3" }],
    ["other ciphers", trusting, { ...trusting, ciphers: "TLS_AES_128_GCM_SHA256" }],
    ["a passphrase", client, { ...client, passphrase: Redacted.make("x") }]
  ]
  it.effect.each(policies)("under %s", ([, one, another]) =>
    Effect.gen(function*() {
      const endpoint = yield* listening(server(twoNames))
      const [a, b] = [expecting(one), expecting(another)]
      assert.deepStrictEqual(yield* visits(endpoint, a, b, a, b), [false, false, true, true])
    }))

  it.effect("under another name that the same certificate holds", () =>
    Effect.gen(function*() {
      const endpoint = yield* listening(server(twoNames))
      const upgrades = ["mx.test", "other.test", "127.0.0.1", "mx.test"].map((name) => expecting(trusting, name))
      assert.deepStrictEqual(yield* visits(endpoint, ...upgrades), [false, false, false, true])
    }))

  it.effect("by a policy that would not have verified it", () =>
    Effect.gen(function*() {
      const endpoint = yield* listening(server())
      const code = "UNABLE_TO_VERIFY_LEAF_SIGNATURE"
      assert.deepStrictEqual(
        yield* visits(
          endpoint,
          expecting(),
          expecting({}),
          expecting({ ca: certificates.otherCa.cert }),
          expecting(trusting, "other.test"),
          expecting({ ...trusting, pins: [keyPin(certificates.selfSigned)] }),
          expecting()
        ),
        [false, code, code, "ERR_TLS_CERT_ALTNAME_INVALID", "ERR_TLS_PIN_MISMATCH", true]
      )
    }))

  it.effect("on another port or host", () =>
    Effect.gen(function*() {
      const ticketKeys = Buffer.alloc(48, 1)
      const [one, another] = [
        yield* listening(server(twoNames, { ticketKeys })),
        yield* listening(server(twoNames, { ticketKeys }))
      ]
      const service = yield* connector
      const seen = yield* Effect.forEach(
        [one, another, { ...one, host: "localhost", family: 4 } as const, one],
        (endpoint) => Effect.provideService(visit(endpoint, expecting()), SmtpConnector, service)
      )
      assert.deepStrictEqual(seen.map(({ resumed }) => resumed), [false, false, false, true])
    }))

  it.effect("to or from a connection that does not verify", () =>
    Effect.gen(function*() {
      const endpoint = yield* listening(server())
      const lax = { ...trusting, rejectUnauthorized: false }
      const opportunistic = expecting(trusting, "mx.test", false)
      assert.deepStrictEqual(
        yield* visits(
          endpoint,
          opportunistic,
          opportunistic,
          expecting(lax),
          expecting(lax),
          expecting(),
          opportunistic
        ),
        [false, false, false, false, false, false]
      )
    }))

  it.effect("from a connection whose certificate was refused", () =>
    Effect.gen(function*() {
      const endpoint = yield* listening(server(certificates.expired))
      const twice = [expecting(), expecting()]
      assert.deepStrictEqual(yield* visits(endpoint, ...twice), ["CERT_HAS_EXPIRED", "CERT_HAS_EXPIRED"])
    }))
})

describe("a session in the wrong place", () => {
  /** A store that gives one session to whoever asks. */
  const leaking = () => {
    const all: Array<tlsSessions.Kept> = []
    return {
      all,
      put: (_: string, kept: tlsSessions.Kept) => void all.push(kept),
      take: () => all.pop(),
      bar: () => {}
    }
  }

  const through = Effect.fnUntraced(function*(
    store: tlsSessions.TlsSessions,
    endpoint: Endpoint,
    upgrade: TlsUpgrade
  ) {
    const socket = yield* Effect.acquireRelease(
      Effect.callback<net.Socket>((resume) => {
        const socket = net.connect(endpoint.port, endpoint.host, () => resume(Effect.succeed(socket)))
      }),
      (socket) => Effect.sync(() => socket.destroy())
    )
    const duplex = nodeDuplex.make(socket, {
      secured: false,
      localAddress: undefined,
      remoteAddress: undefined,
      sessions: { store, server: endpoint }
    })
    const info = yield* duplex.upgrade(upgrade)
    const recorder = record(duplex)
    duplex.write([bytes("x")])
    yield* until(() => recorder.text === "x")
    return info
  })

  it.effect("is judged by the peer it goes back to, not by what Node says of it", () =>
    Effect.gen(function*() {
      const endpoint = yield* listening(server())
      const refused = [
        [expecting(trusting, "other.test"), "ERR_TLS_CERT_ALTNAME_INVALID"],
        [expecting({ ...trusting, pins: [keyPin(certificates.selfSigned)] }), "ERR_TLS_PIN_MISMATCH"]
      ] as const
      for (const [upgrade, code] of refused) {
        const store = leaking()
        yield* through(store, endpoint, expecting())
        yield* until(() => store.all.length > 1)
        const error = yield* Effect.flip(through(store, endpoint, upgrade))
        assert.deepStrictEqual([error._tag, codeOf(error.cause)], ["ETLS", code])
        assert.strictEqual(store.all.length, 1)
      }
    }))

  it.effect("does not break a handshake when it is none", () =>
    Effect.gen(function*() {
      const endpoint = yield* listening(server())
      const store = leaking()
      yield* through(store, endpoint, expecting())
      store.all.splice(0, 8, { ...store.all[0]!, session: Buffer.from("no session") })
      assert.strictEqual((yield* through(store, endpoint, expecting())).resumed, false)
    }))
})

describe("the store", () => {
  const peer = { chain: [], chainError: undefined }
  const kept = (name: string, verifiedAt = 0n, length = 1): tlsSessions.Kept => ({
    session: Buffer.alloc(length, name),
    peer,
    verifiedAt
  })
  const names = (store: tlsSessions.TlsSessions, key: string) => {
    const found: Array<string> = []
    for (let one = store.take(key, 0n); one !== undefined; one = store.take(key, 0n)) found.push(one.session.toString())
    return found
  }

  it("gives the latest first, each once, and keeps no more than some of one key", () => {
    const store = tlsSessions.make()
    for (const name of ["a", "b", "c", "d", "e"]) store.put("key", kept(name))
    assert.deepStrictEqual(names(store, "key"), ["e", "d", "c", "b"])
    assert.strictEqual(tlsSessions.maxPerKey, 4)
    assert.deepStrictEqual(names(store, "other"), [])
  })

  it("forgets the server that was used longest ago", () => {
    const store = tlsSessions.make()
    for (let index = 0; index < tlsSessions.maxKeys; index++) store.put(`${index}`, kept("a"))
    store.put("0", kept("b"))
    store.put("one more", kept("c"))
    assert.deepStrictEqual(["0", "1", "2", "one more"].map((key) => names(store, key)), [["b", "a"], [], ["a"], ["c"]])
  })

  it("takes no session longer than the limit", () => {
    const store = tlsSessions.make()
    store.put("key", kept("a", 0n, tlsSessions.maxSessionLength))
    store.put("key", kept("b", 0n, tlsSessions.maxSessionLength + 1))
    assert.strictEqual(store.take("key", 0n)?.session.length, tlsSessions.maxSessionLength)
    assert.strictEqual(store.take("key", 0n), undefined)
  })

  it("gives nothing that is too old", () => {
    const store = tlsSessions.make()
    for (const at of [0n, 5n]) store.put("key", kept("a", at))
    assert.strictEqual(store.take("key", tlsSessions.maxAge + 4n)?.verifiedAt, 5n)
    assert.strictEqual(store.take("key", tlsSessions.maxAge), undefined)
    store.put("key", kept("b", 5n))
    assert.strictEqual(store.take("key", tlsSessions.maxAge + 5n), undefined)
  })

  it("counts the age of what a resumed connection leaves from the full handshake", () => {
    const store = tlsSessions.make()
    const source = { store, server: { host: "mx.test", port: 25 } }
    const settings = Result.getOrThrow(settingsOf(expecting()))
    const connection = (now: bigint, isReused: boolean) => {
      const socket = Object.assign(new EventEmitter(), {
        isSessionReused: () => isReused,
        getProtocol: () => "TLSv1.3"
      }) as unknown as tls.TLSSocket
      const { keep, kept, watch } = tlsSessions.slotOf(source, settings, now)
      watch(socket)
      keep(socket, peer)
      socket.emit("session", Buffer.from("ticket"))
      return kept?.verifiedAt
    }
    const late = tlsSessions.maxAge - 1n
    assert.deepStrictEqual([connection(0n, false), connection(late, true), connection(late, true)], [undefined, 0n, 0n])
    assert.deepStrictEqual([connection(late + 1n, false), connection(late + 2n, true)], [undefined, late + 1n])
  })

  it("keeps nothing of a connection that was not verified", () => {
    const store = tlsSessions.make()
    const source = { store, server: { host: "mx.test", port: 25 } }
    const settings = Result.getOrThrow(settingsOf(expecting()))
    const socket = new EventEmitter() as unknown as tls.TLSSocket
    tlsSessions.slotOf(source, settings, 0n).watch(socket)
    socket.emit("session", Buffer.from("ticket"))
    assert.strictEqual(tlsSessions.slotOf(source, settings, 0n).kept, undefined)
  })

  it("has a key for each server and policy, and no secret in it", () => {
    const at = { host: "mx.test", port: 25, path: undefined }
    const key = Redacted.make("canary")
    const keys = [
      tlsSessions.keyOf(at, "mx.test", {}),
      tlsSessions.keyOf({ ...at, host: "mx2.test" }, "mx.test", {}),
      tlsSessions.keyOf({ ...at, port: 587 }, "mx.test", {}),
      tlsSessions.keyOf({ ...at, path: "/run/s" }, "mx.test", {}),
      tlsSessions.keyOf(at, "other.test", {}),
      tlsSessions.keyOf(at, "mx.test", { ca: [] }),
      tlsSessions.keyOf(at, "mx.test", { ca: "x" }),
      tlsSessions.keyOf(at, "mx.test", { cert: "x" }),
      tlsSessions.keyOf(at, "mx.test", { key }),
      tlsSessions.keyOf(at, "mx.test", { passphrase: key }),
      tlsSessions.keyOf(at, "mx.test", { rejectUnauthorized: false })
    ]
    assert.strictEqual(new Set(keys).size, keys.length)
    for (const one of keys) assert.notInclude(one, "canary")
    assert.strictEqual(
      tlsSessions.keyOf(at, "mx.test", { ca: [bytes("x")], key: Redacted.make(bytes("y")) }),
      tlsSessions.keyOf(at, "mx.test", { ca: "x", key: Redacted.make("y") })
    )
  })
})
