import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { createHash, X509Certificate } from "node:crypto"
import * as net from "node:net"
import * as tls from "node:tls"
import * as channelBinding from "../../src/node/channelBinding.ts"
import * as NodeConnector from "../../src/node/NodeConnector.ts"
import * as NodeSmtpServer from "../../src/node/NodeSmtpServer.ts"
import * as Sasl from "../../src/Sasl.ts"
import * as SmtpConnection from "../../src/SmtpConnection.ts"
import * as certificates from "./certificates.ts"
import { listen } from "./loopback.ts"

const { raw } = new X509Certificate(certificates.good.cert)
const hex = (bindings: ReadonlyArray<Sasl.ChannelBinding>) =>
  bindings.map(({ data, type }) => [type, Buffer.from(data).toString("hex")])

interface Ends {
  readonly client: tls.TLSSocket
  readonly server: tls.TLSSocket
}

/** Both ends of a connection after the handshake. */
const connect = (maxVersion: tls.SecureVersion, session?: Buffer) =>
  Effect.gen(function*() {
    let accept: (socket: tls.TLSSocket) => void = () => {}
    const accepted = new Promise<tls.TLSSocket>((resolve) => accept = resolve)
    // One key for all servers here, so that a session of one is resumed by the next.
    const server = tls.createServer(
      { ...certificates.good, maxVersion, ticketKeys: Buffer.alloc(48, 1), sessionIdContext: "test" },
      (socket) => accept(socket)
    )
    const { port } = yield* listen(server as net.Server)
    const options = { port, host: "127.0.0.1", servername: "mx.test", ca: certificates.ca.cert }
    const client = tls.connect({ ...options, ...(session === undefined ? {} : { session }) })
    yield* Effect.addFinalizer(() => Effect.sync(() => client.destroy()))
    yield* Effect.promise(() => new Promise((resolve) => client.on("error", () => {}).once("secureConnect", resolve)))
    return { client, server: yield* Effect.promise(() => accepted) } satisfies Ends
  })

const ofEnds = ({ client, server }: Ends) => [
  hex(channelBinding.make(client, "client", raw)),
  hex(channelBinding.make(server, "server", raw))
]

describe("the channel bindings of a TLS socket", () => {
  it.effect("are the same at both ends: tls-exporter first under TLS 1.3", () =>
    Effect.gen(function*() {
      const [client, server] = ofEnds(yield* connect("TLSv1.3"))
      assert.deepStrictEqual(client, server)
      assert.deepStrictEqual(client?.map(([type]) => type), ["tls-exporter", "tls-server-end-point"])
      assert.strictEqual(client?.[0]?.[1]?.length, 64)
      const [other] = ofEnds(yield* connect("TLSv1.3"))
      assert.notStrictEqual(other?.[0]?.[1], client?.[0]?.[1])
      assert.strictEqual(other?.[1]?.[1], client?.[1]?.[1])
    }))

  it.effect("are tls-unique, the client's Finished, and tls-server-end-point under TLS 1.2", () =>
    Effect.gen(function*() {
      const ends = yield* connect("TLSv1.2")
      const [client, server] = ofEnds(ends)
      assert.deepStrictEqual(client, server)
      assert.deepStrictEqual(client?.map(([type]) => type), ["tls-unique", "tls-server-end-point"])
      assert.strictEqual(client?.[0]?.[1], ends.server.getPeerFinished()?.toString("hex"))
      assert.strictEqual(client?.[1]?.[1], createHash("sha256").update(raw).digest("hex"))
    }))

  it.effect("are not tls-unique on a session that was resumed", () =>
    Effect.gen(function*() {
      const { client } = yield* connect("TLSv1.2")
      const ends = yield* connect("TLSv1.2", client.getSession())
      assert.isTrue(ends.client.isSessionReused())
      for (const bindings of ofEnds(ends)) {
        assert.deepStrictEqual(bindings.map(([type]) => type), ["tls-server-end-point"])
      }
      assert.deepStrictEqual(channelBinding.make(ends.client, "client", undefined), [])
    }))
})

/** As much of a certificate as names its signature algorithm; its length takes two octets, as real ones do. */
const signedBy = (algorithm: string): Buffer => {
  const body = Buffer.concat([Buffer.from("3003020101", "hex"), Buffer.from(algorithm, "hex"), Buffer.alloc(300)])
  return Buffer.concat([Buffer.of(0x30, 0x82, body.length >> 8, body.length & 0xff), body])
}
const sequence = (hexes: string) => `30${(hexes.length / 2).toString(16).padStart(2, "0")}${hexes}`

describe("tls-server-end-point", () => {
  const pss = "06092a864886f70d01010a"
  const withHash = (hash: string) => {
    const algorithm = sequence(hash + "0500")
    return sequence(pss + sequence(`a0${(algorithm.length / 2).toString(16).padStart(2, "0")}${algorithm}`))
  }
  const table: ReadonlyArray<readonly [name: string, algorithm: string, hash: string | undefined]> = [
    ["MD5 with RSA", sequence("06092a864886f70d0101040500"), "sha256"],
    ["SHA-1 with RSA", sequence("06092a864886f70d0101050500"), "sha256"],
    ["SHA-224 with RSA", sequence("06092a864886f70d01010e0500"), "sha224"],
    ["SHA-256 with RSA", sequence("06092a864886f70d01010b0500"), "sha256"],
    ["SHA-384 with RSA", sequence("06092a864886f70d01010c0500"), "sha384"],
    ["SHA-512 with RSA", sequence("06092a864886f70d01010d0500"), "sha512"],
    ["SHA-1 with ECDSA", sequence("06072a8648ce3d0401"), "sha256"],
    ["SHA-256 with ECDSA", sequence("06082a8648ce3d040302"), "sha256"],
    ["SHA-384 with ECDSA", sequence("06082a8648ce3d040303"), "sha384"],
    ["SHA-512 with ECDSA", sequence("06082a8648ce3d040304"), "sha512"],
    ["RSASSA-PSS of SHA-1 by default", sequence(`${pss}3000`), "sha256"],
    ["RSASSA-PSS of SHA-256", withHash("0609608648016503040201"), "sha256"],
    ["RSASSA-PSS of SHA-384", withHash("0609608648016503040202"), "sha384"],
    ["RSASSA-PSS of SHA-512", withHash("0609608648016503040203"), "sha512"],
    ["RSASSA-PSS of something else", withHash("0603550403"), undefined],
    ["Ed25519, which has no hash of its own", sequence("06032b6570"), undefined]
  ]
  for (const [name, algorithm, hash] of table) {
    it(`of ${name} is ${hash ?? "none"}`, () => {
      const certificate = signedBy(algorithm)
      const expected = hash === undefined
        ? []
        : [["tls-server-end-point", createHash(hash).update(certificate).digest("hex")]]
      assert.deepStrictEqual(hex(channelBinding.endPoint(certificate)), expected)
    })
  }
})

describe("a login that is bound to the channel", () => {
  const auth = Sasl.password({ username: "ann", password: Redacted.make("secret") })
  const { cert, key } = certificates.good
  const layer = Layer.merge(
    NodeConnector.layer,
    NodeSmtpServer.layerLoopback({
      tls: { cert, key: Redacted.make(key) },
      implicitTls: true,
      script: { accounts: { ann: "secret" }, extensions: { auth: ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"] } }
    })
  )
  const login = (port: number, more: SmtpConnection.Options) =>
    SmtpConnection.make({
      host: "127.0.0.1",
      port,
      name: "me.test",
      servername: "mx.test",
      tls: "implicit",
      auth,
      ...more
    })
  const trusting = { ca: certificates.ca.cert }

  for (const maxVersion of ["TLSv1.2", "TLSv1.3"] as const) {
    it.effect(`succeeds over ${maxVersion}`, () =>
      Effect.gen(function*() {
        const { connections, port } = yield* NodeSmtpServer.NodeSmtpServer
        const { noop } = yield* login(port, { channelBinding: "required", tlsOptions: { ...trusting, maxVersion } })
        yield* noop
        assert.strictEqual((yield* connections)[0]?.username, "ann")
      }).pipe(Effect.provide(layer)))

    it.effect(`fails over ${maxVersion} when somebody with a good certificate stands between`, () =>
      Effect.gen(function*() {
        const { connections, port } = yield* NodeSmtpServer.NodeSmtpServer
        const relay = tls.createServer({ cert, key }, (near) => {
          const far = tls.connect({ host: "127.0.0.1", port, servername: "mx.test", ...trusting })
          for (const socket of [near, far]) socket.on("error", () => {})
          near.pipe(far)
          far.pipe(near)
        })
        const { port: between } = yield* listen(relay as net.Server)
        const tlsOptions = { ...trusting, maxVersion }
        const error = yield* Effect.flip(login(between, { tlsOptions }))
        const expected = maxVersion === "TLSv1.3" ? "channel-bindings-dont-match" : "unsupported-channel-binding-type"
        assert.deepStrictEqual([error._tag, error.command], ["EAUTH", "AUTH SCRAM-SHA-256-PLUS"])
        assert.include(error.message, expected)
        // Without the binding the server cannot tell.
        yield* login(between, { tlsOptions, mechanisms: ["SCRAM-SHA-256"] })
        assert.deepStrictEqual((yield* connections).map(({ username }) => username), [undefined, "ann"])
      }).pipe(Effect.provide(layer)))
  }
})
