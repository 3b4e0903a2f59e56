import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { createPrivateKey, X509Certificate } from "node:crypto"
import { createServer, type Server, Socket } from "node:net"
import * as tls from "node:tls"
import { codeOf } from "../../src/internal/errorCause.ts"
import { canonicalPin } from "../../src/internal/tlsOptions.ts"
import { type CertificateAndKey, makeCertificate } from "../../src/node/certificate.ts"
import * as NodeConnector from "../../src/node/NodeConnector.ts"
import type { TlsOptions, TlsUpgrade } from "../../src/SmtpConnector.ts"
import * as SmtpError from "../../src/SmtpError.ts"
import { assertHidden } from "../support/secrets.ts"
import * as certificates from "./certificates.ts"
import { keyPin } from "./certificates.ts"
import { bytes, listen, local, open, record, until } from "./loopback.ts"

const trusting: TlsOptions = { ca: certificates.ca.cert }
const expecting = (servername: string, options: TlsOptions = trusting, verify = true): TlsUpgrade => ({
  servername,
  verify,
  options
})

/** TLS from the first octet, to a server on the loopback interface. */
const implicit = Effect.fnUntraced(function*(server: Server, upgrade: TlsUpgrade) {
  const { port } = yield* listen(server)
  const duplex = yield* open(local(port)).pipe(Effect.provide(NodeConnector.layer))
  return { duplex, info: yield* duplex.upgrade(upgrade) }
})
const secure = (certificate: CertificateAndKey, options: tls.TlsOptions = {}) =>
  tls.createServer({ ...certificate, ...options }, (socket) => {
    socket.on("error", () => {}).pipe(socket)
  })
const refusal = (server: Server, upgrade: TlsUpgrade) => Effect.flip(implicit(server, upgrade))

const facts = (error: SmtpError.SmtpError) => [
  error._tag,
  error.command,
  error.field,
  error.isTemporary,
  codeOf(error.cause)
]

describe("a handshake that succeeds", () => {
  it.effect("reports protocol, cipher and certificate, and carries octets", () =>
    Effect.gen(function*() {
      const { duplex, info } = yield* implicit(secure(certificates.good), expecting("mx.test"))
      const certificate = new X509Certificate(certificates.good.cert)
      assert.deepStrictEqual(info, {
        protocol: "TLSv1.3",
        cipher: info.cipher,
        resumed: false,
        authorized: true,
        authorizationError: undefined,
        identity: "mx.test",
        pin: undefined,
        servername: "mx.test",
        peerCertificate: {
          subject: "CN=mx.test",
          issuer: "CN=Test CA",
          subjectAltName: certificate.subjectAltName ?? "",
          fingerprint256: certificate.fingerprint256,
          validFrom: certificate.validFrom,
          validTo: certificate.validTo,
          raw: certificate.raw
        },
        channelBindings: info.channelBindings
      })
      assert.deepStrictEqual(info.channelBindings?.map(({ type }) => type), ["tls-exporter", "tls-server-end-point"])
      assert.match(info.cipher, /^TLS_/)
      const recorder = record(duplex)
      duplex.write([bytes("EHLO "), bytes("x\r\n")])
      yield* until(() => recorder.text === "EHLO x\r\n")
      assert.deepStrictEqual(recorder.ends, [])
    }))

  it.effect("goes on from a dialogue in clear, with the same listener", () =>
    Effect.gen(function*() {
      const context = tls.createSecureContext(certificates.good)
      const server = createServer((socket) => {
        socket.write("220 clear\r\n")
        socket.once("data", () => {
          socket.write("220 go\r\n")
          const upgraded = new tls.TLSSocket(socket, { isServer: true, secureContext: context })
          upgraded.on("error", () => {}).on("data", () => upgraded.end("221 bye\r\n"))
        })
      })
      const { port } = yield* listen(server)
      const duplex = yield* open(local(port)).pipe(Effect.provide(NodeConnector.layer))
      const recorder = record(duplex)
      yield* until(() => recorder.text === "220 clear\r\n")
      duplex.write([bytes("STARTTLS\r\n")])
      yield* until(() => recorder.text.endsWith("220 go\r\n"))
      assert.strictEqual((yield* duplex.upgrade(expecting("mx.test"))).authorized, true)
      duplex.write([bytes("QUIT\r\n")])
      yield* until(() => recorder.ends.length > 0)
      assert.strictEqual(recorder.text, "220 clear\r\n220 go\r\n221 bye\r\n")
      assert.deepStrictEqual(recorder.ends, [{ _tag: "Closed" }])
    }))

  const names: ReadonlyArray<readonly [string, string | false]> = [
    ["mx.test", "mx.test"],
    ["MX.test.", "MX.test"],
    ["bücher.test", "xn--bcher-kva.test"],
    ["127.0.0.1", false],
    ["::1", false],
    ["[::1]", false],
    ["::1%lo", false]
  ]
  it.effect.each(names)("to %s verifies, and sends the SNI %s", ([servername, sni]) =>
    Effect.gen(function*() {
      const sent: Array<string | false> = []
      const server = secure(certificates.good)
      server.on("secureConnection", (socket: tls.TLSSocket) => sent.push(socket.servername ?? false))
      const { info } = yield* implicit(server, expecting(servername))
      assert.strictEqual(info.authorized, true)
      yield* until(() => sent.length > 0)
      assert.deepStrictEqual(sent, [sni])
    }))

  it.effect("keeps to the versions and ciphers that are asked for", () =>
    Effect.gen(function*() {
      const ciphers = "ECDHE-ECDSA-AES256-GCM-SHA384"
      const options: TlsOptions = { ...trusting, maxVersion: "TLSv1.2", ciphers }
      const { info } = yield* implicit(secure(certificates.good), expecting("mx.test", options))
      assert.deepStrictEqual([info.protocol, info.cipher], ["TLSv1.2", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"])
    }))

  it.effect("takes several authorities, as text and as octets", () =>
    Effect.gen(function*() {
      const ca = [certificates.otherCa.cert, bytes(certificates.ca.cert)]
      const { info } = yield* implicit(secure(certificates.good), expecting("mx.test", { ca }))
      assert.strictEqual(info.authorized, true)
    }))

  it.effect("shows the client's certificate", () =>
    Effect.gen(function*() {
      const subjects: Array<string> = []
      const server = secure(certificates.good, { requestCert: true, ca: certificates.ca.cert })
      server.on("secureConnection", (socket: tls.TLSSocket) => {
        subjects.push(`${socket.authorized} ${socket.getPeerX509Certificate()?.subject}`)
      })
      yield* implicit(
        server,
        expecting("mx.test", {
          ...trusting,
          cert: bytes(certificates.client.cert),
          key: Redacted.make(bytes(certificates.client.key))
        })
      )
      yield* until(() => subjects.length > 0)
      assert.deepStrictEqual(subjects, ["true CN=client"])
    }))
})

describe("a certificate that does not verify", () => {
  const onlyCommonName = makeCertificate({ commonName: "mx.test", issuer: certificates.ca })
  const bad: ReadonlyArray<readonly [string, CertificateAndKey, string]> = [
    ["ERR_TLS_CERT_ALTNAME_INVALID", certificates.wrongName, "mx.test"],
    ["ERR_TLS_CERT_ALTNAME_INVALID", certificates.namesOnly, "127.0.0.1"],
    ["ERR_TLS_CERT_ALTNAME_INVALID", certificates.good, "127.0.0.2"],
    ["ERR_TLS_CERT_ALTNAME_INVALID", onlyCommonName, "mx.test"],
    ["DEPTH_ZERO_SELF_SIGNED_CERT", certificates.selfSigned, "mx.test"],
    ["UNABLE_TO_VERIFY_LEAF_SIGNATURE", certificates.otherIssuer, "mx.test"],
    ["CERT_HAS_EXPIRED", certificates.expired, "mx.test"],
    ["CERT_NOT_YET_VALID", certificates.notYetValid, "mx.test"]
  ]
  it.effect.each(bad)(
    "%s is ETLS, and will not pass by itself",
    ([code, certificate, servername]) =>
      Effect.gen(function*() {
        const error = yield* refusal(secure(certificate), expecting(servername))
        assert.deepStrictEqual(facts(error), ["ETLS", "CONN", undefined, false, code])
        assert.isTrue(
          error.message.startsWith(`CONN: the TLS handshake with ${servername} failed: ${code}; its certif`)
        )
      })
  )

  it.effect.each(bad)(
    "%s is reported, and no failure, without verification",
    ([code, certificate, servername]) =>
      Effect.gen(function*() {
        for (
          const upgrade of [
            expecting(servername, trusting, false),
            expecting(servername, { ...trusting, rejectUnauthorized: false })
          ]
        ) {
          const { duplex, info } = yield* implicit(secure(certificate), upgrade)
          assert.deepStrictEqual([info.authorized, info.authorizationError], [false, code])
          const recorder = record(duplex)
          duplex.write([bytes("x")])
          yield* until(() => recorder.text === "x")
        }
      })
  )

  it.effect("is refused whatever NODE_TLS_REJECT_UNAUTHORIZED says", () =>
    Effect.gen(function*() {
      yield* Effect.acquireRelease(
        Effect.sync(() => {
          process.env["NODE_TLS_REJECT_UNAUTHORIZED"] = "0"
        }),
        () =>
          Effect.sync(() => {
            delete process.env["NODE_TLS_REJECT_UNAUTHORIZED"]
          })
      )
      const error = yield* refusal(secure(certificates.selfSigned), expecting("mx.test"))
      assert.strictEqual(codeOf(error.cause), "DEPTH_ZERO_SELF_SIGNED_CERT")
    }))

  it.effect("is not forgiven on a second connection to the same server", () =>
    Effect.gen(function*() {
      const { port } = yield* listen(secure(certificates.wrongName))
      const upgrade = (tls: TlsUpgrade) =>
        open(local(port)).pipe(Effect.flatMap((duplex) => duplex.upgrade(tls)), Effect.provide(NodeConnector.layer))
      assert.strictEqual((yield* upgrade(expecting("mx.test", trusting, false))).authorized, false)
      assert.strictEqual((yield* Effect.flip(upgrade(expecting("mx.test"))))._tag, "ETLS")
    }))
})

describe("a server without a certificate, or without names in it", () => {
  const ciphers = "AECDH-AES128-SHA@SECLEVEL=0"
  const options: TlsOptions = { ...trusting, ciphers, maxVersion: "TLSv1.2" }
  const anonymous = () => tls.createServer({ ciphers, maxVersion: "TLSv1.2" }, (socket) => socket.on("error", () => {}))

  it.effect("does not verify", () =>
    Effect.gen(function*() {
      const error = yield* refusal(anonymous(), expecting("mx.test", options))
      assert.deepStrictEqual(facts(error).slice(0, 4), ["ETLS", "CONN", undefined, false])
      const nameless = makeCertificate({ commonName: "other.test", issuer: certificates.ca })
      const unnamed = yield* refusal(secure(nameless), expecting("mx.test"))
      assert.strictEqual(codeOf(unnamed.cause), "ERR_TLS_CERT_ALTNAME_INVALID")
    }))

  it.effect("is reported as such without verification", () =>
    Effect.gen(function*() {
      const { info } = yield* implicit(anonymous(), expecting("mx.test", options, false))
      assert.deepStrictEqual([info.authorized, info.peerCertificate], [false, undefined])
      const nameless = makeCertificate({ commonName: "other.test", issuer: certificates.ca })
      const unnamed = yield* implicit(secure(nameless), expecting("mx.test", trusting, false))
      assert.strictEqual(unnamed.info.peerCertificate?.subjectAltName, "")
    }))
})

describe("pins", () => {
  const root = makeCertificate({ commonName: "Private root" })
  const intermediate = makeCertificate({ commonName: "Private intermediate", issuer: root, isCa: true })
  const names = { commonName: "mx.test", altNames: ["DNS:mx.test"], issuer: intermediate }
  const leaf = makeCertificate(names)
  const past = { notBefore: new Date("2020-01-01T00:00:00Z"), notAfter: new Date("2021-01-01T00:00:00Z") }
  const expired = makeCertificate({ ...names, ...past })
  const serving = (...chain: ReadonlyArray<CertificateAndKey>) =>
    secure({ cert: chain.map(({ cert }) => cert).join(""), key: chain[0]?.key ?? "" })
  const certificatePin = ({ cert }: CertificateAndKey) => `cert-sha256/${new X509Certificate(cert).fingerprint256}`

  const verified: ReadonlyArray<
    readonly [string, ReadonlyArray<CertificateAndKey>, CertificateAndKey, TlsOptions, string, "pin" | "name"]
  > = [
    ["its key, a private authority", [leaf], leaf, {}, "mx.test", "pin"],
    ["its key, another name", [leaf], leaf, {}, "other.test", "pin"],
    ["its key, signed by itself", [certificates.selfSigned], certificates.selfSigned, {}, "mx.test", "pin"],
    ["its key, a trusted authority", [certificates.good], certificates.good, trusting, "mx.test", "pin"],
    ["an intermediate authority", [leaf, intermediate], intermediate, {}, "mx.test", "name"],
    ["a root that it shows", [leaf, intermediate, root], root, {}, "mx.test", "name"],
    ["a root that it does not show, in ca", [leaf, intermediate], root, { ca: root.cert }, "mx.test", "name"]
  ]
  it.effect.each(verified)(
    "that match verify: %s",
    ([, chain, certificate, options, servername, kind]) =>
      Effect.gen(function*() {
        for (const pin of [keyPin(certificate), certificatePin(certificate)]) {
          for (const rest of [{}, { rejectUnauthorized: false }]) {
            const pins = [keyPin(certificates.client), pin]
            const { info } = yield* implicit(serving(...chain), expecting(servername, { ...options, ...rest, pins }))
            const shown = canonicalPin(pin)
            assert.deepInclude(info, {
              authorized: true,
              authorizationError: undefined,
              pin: shown,
              identity: kind === "pin" ? shown : "mx.test"
            })
          }
        }
      })
  )

  const bad: ReadonlyArray<
    readonly [string, string, ReadonlyArray<CertificateAndKey>, CertificateAndKey, TlsOptions, string]
  > = [
    ["ERR_TLS_PIN_MISMATCH", "a trusted chain", [certificates.good], certificates.client, trusting, "mx.test"],
    ["ERR_TLS_PIN_MISMATCH", "a private chain", [leaf, intermediate], certificates.good, {}, "mx.test"],
    ["ERR_TLS_PIN_MISMATCH", "an authority that did not sign", [leaf, root], root, {}, "mx.test"],
    [
      "ERR_TLS_CERT_ALTNAME_INVALID",
      "a pinned authority, another name",
      [leaf, intermediate],
      intermediate,
      {},
      "x.test"
    ],
    ["CERT_HAS_EXPIRED", "a pinned authority, too late", [expired, intermediate], intermediate, {}, "mx.test"],
    ["CERT_HAS_EXPIRED", "a pinned root, too late", [expired, intermediate, root], root, {}, "mx.test"]
  ]
  it.effect.each(bad)(
    "%s is ETLS, whatever else is asked for: %s",
    ([code, , chain, certificate, options, servername]) =>
      Effect.gen(function*() {
        for (const pin of [keyPin(certificate), certificatePin(certificate)]) {
          for (const [rest, verify] of [[{}, true], [{}, false], [{ rejectUnauthorized: false }, true]] as const) {
            const upgrade = expecting(servername, { ...options, ...rest, pins: [pin] }, verify)
            const error = yield* refusal(serving(...chain), upgrade)
            assert.deepStrictEqual(facts(error), ["ETLS", "CONN", undefined, false, code])
          }
        }
      })
  )

  it.effect("that do not match are told beside the key that was seen", () =>
    Effect.gen(function*() {
      const pins = [keyPin(certificates.client)]
      const error = yield* refusal(serving(certificates.good), expecting("mx.test", { ...trusting, pins }))
      assert.strictEqual(
        error.message,
        "CONN: the TLS handshake with mx.test failed: ERR_TLS_PIN_MISMATCH; its own key is " +
          `${keyPin(certificates.good)}; no pin of options.tlsOptions.pins matches its certificates; add one if the ` +
          "server is known to have changed"
      )
    }))

  it.effect("are not met by a server without a certificate", () =>
    Effect.gen(function*() {
      const ciphers = "AECDH-AES128-SHA@SECLEVEL=0"
      const server = tls.createServer({ ciphers, maxVersion: "TLSv1.2" }, (socket) => socket.on("error", () => {}))
      const options: TlsOptions = { ciphers, maxVersion: "TLSv1.2", pins: [keyPin(leaf)] }
      const error = yield* refusal(server, expecting("mx.test", options, false))
      assert.strictEqual(codeOf(error.cause), "ERR_TLS_PIN_MISMATCH")
    }))
})

describe("a handshake that fails", () => {
  it.effect("with a server that knows only TLS 1.1 is ETLS for good", () =>
    Effect.gen(function*() {
      const old = { minVersion: "TLSv1", maxVersion: "TLSv1.1", ciphers: "DEFAULT@SECLEVEL=0" } as const
      const error = yield* refusal(secure(certificates.good, old), expecting("mx.test"))
      assert.deepStrictEqual(facts(error), [
        "ETLS",
        "CONN",
        undefined,
        false,
        "ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION"
      ])
      assert.include(error.message, "TLSv1.2 is the lowest")
    }))

  it.effect("with a server that speaks first in clear tells the reader to use STARTTLS", () =>
    Effect.gen(function*() {
      const error = yield* refusal(createServer((socket) => socket.write("220 hi\r\n")), expecting("mx.test"))
      assert.deepStrictEqual(facts(error), ["ETLS", "CONN", undefined, false, "ERR_SSL_WRONG_VERSION_NUMBER"])
      assert.include(error.message, "does not speak TLS on this port; use tls: \"starttls\"")
    }))

  it.effect("says the same when the greeting was there before the handshake", () =>
    Effect.gen(function*() {
      const { port } = yield* listen(createServer((socket) => socket.write("220 hi\r\n")))
      const socket = new Socket()
      const duplex = yield* open(local(port)).pipe(Effect.provide(NodeConnector.fromSocket(socket)))
      yield* until(() => socket.readableLength > 0)
      const error = yield* Effect.flip(duplex.upgrade(expecting("mx.test")))
      assert.deepStrictEqual(facts(error), ["ETLS", "CONN", undefined, false, ""])
      assert.include(error.message, "does not speak TLS on this port; use tls: \"starttls\"")
    }))

  it.effect("on plaintext after STARTTLS does not give that advice", () =>
    Effect.gen(function*() {
      const server = createServer((socket) => {
        socket.write("220 go\r\n")
        socket.once("data", () => socket.write("500 what?\r\n"))
      })
      const { port } = yield* listen(server)
      const duplex = yield* open(local(port)).pipe(Effect.provide(NodeConnector.layer))
      const recorder = record(duplex)
      yield* until(() => recorder.text === "220 go\r\n")
      const error = yield* Effect.flip(duplex.upgrade(expecting("mx.test")))
      assert.deepStrictEqual(facts(error), ["ETLS", "STARTTLS", undefined, false, "ERR_SSL_WRONG_VERSION_NUMBER"])
      assert.strictEqual(
        error.message,
        "STARTTLS: the server answered the TLS handshake with something that is not TLS"
      )
      assert.strictEqual(recorder.text, "220 go\r\n")
    }))

  it.effect("because of a loss may pass when tried again", () =>
    Effect.gen(function*() {
      const fin = createServer((socket) => socket.once("data", () => socket.end()))
      assert.deepStrictEqual(facts(yield* refusal(fin, expecting("mx.test"))).slice(0, 4), [
        "ETLS",
        "CONN",
        undefined,
        true
      ])
      const rst = createServer((socket) => socket.once("data", () => socket.resetAndDestroy()))
      const error = yield* refusal(rst, expecting("mx.test"))
      assert.deepStrictEqual(facts(error), ["ETLS", "CONN", undefined, true, "ECONNRESET"])
      assert.strictEqual(error.message, "CONN: the connection to mx.test was lost in the TLS handshake ECONNRESET")
    }))

  it.effect("because the socket closes under it may pass too", () =>
    Effect.gen(function*() {
      const raw = new Socket()
      const { port } = yield* listen(createServer((socket) => socket.once("data", () => raw.destroy())))
      const duplex = yield* open(local(port)).pipe(Effect.provide(NodeConnector.fromSocket(raw)))
      const error = yield* Effect.flip(duplex.upgrade(expecting("mx.test")))
      assert.deepStrictEqual(facts(error), ["ETLS", "CONN", undefined, true, ""])
    }))

  it.effect("because the server demands a certificate ends the connection", () =>
    Effect.gen(function*() {
      const server = secure(certificates.good, { requestCert: true, ca: certificates.ca.cert, maxVersion: "TLSv1.2" })
      const error = yield* refusal(server, expecting("mx.test"))
      assert.deepStrictEqual(facts(error).slice(0, 4), ["ETLS", "CONN", undefined, false])
      assert.match(codeOf(error.cause), /ALERT/)
    }))
})

describe("settings that cannot be", () => {
  const unknown = (options: unknown): TlsOptions => options as TlsOptions
  const secret = "hunter2-canary"
  const numeric = 7_531_902_468
  const { cert } = certificates.client
  const encrypted = createPrivateKey(certificates.client.key).export({
    type: "pkcs8",
    format: "pem",
    cipher: "aes-256-cbc",
    passphrase: "right"
  }).toString()
  const options: ReadonlyArray<readonly [string, TlsOptions]> = [
    ["ca", { ca: "garbage" }],
    ["ca", { ca: [bytes("garbage")] }],
    ["cert", { cert: secret }],
    ["key", { cert, key: Redacted.make(secret) }],
    ["key", { cert, key: Redacted.make(certificates.good.key) }],
    ["key must be Redacted", unknown({ cert, key: secret })],
    ["passphrase must be Redacted", unknown({ passphrase: secret })],
    ["key", unknown({ cert, key: Redacted.make({ secret }) })],
    ["passphrase", { cert, key: Redacted.make(encrypted), passphrase: Redacted.make(secret) }],
    ["passphrase", { cert, key: Redacted.make(encrypted) }],
    ["passphrase", unknown({ cert, key: Redacted.make(encrypted), passphrase: Redacted.make(numeric) })],
    ["ciphers", { ciphers: "hunter2-canary" }],
    ["minVersion must be", unknown({ minVersion: "TLSv1.1" })],
    ["maxVersion must be", unknown({ maxVersion: "TLSv1" })],
    ["minVersion is above maxVersion", { minVersion: "TLSv1.3", maxVersion: "TLSv1.2" }],
    ["rejectUnauthorized must be true or false", unknown({ rejectUnauthorized: "false" })],
    ["pins must be a non-empty array", { pins: [] }],
    ["pins[1] must be sha256/", { pins: [`cert-sha256/${"0".repeat(64)}`, secret] }]
  ]
  it.effect.each(options)("name the field and hold no secret: %s", ([message, tlsOptions]) =>
    Effect.gen(function*() {
      const error = yield* refusal(secure(certificates.good), expecting("mx.test", tlsOptions))
      assert.deepStrictEqual(facts(error).slice(0, 4), ["ETLS", "API", "options.tlsOptions", false])
      assert.include(error.message, message)
      const json = JSON.stringify(yield* Schema.encodeEffect(Schema.toCodecJson(SmtpError.SmtpError))(error))
      for (const text of [json, error.message, String(error.cause), String(error.stack)]) {
        assertHidden(text, secret, String(numeric))
        assert.notInclude(text, "PRIVATE KEY")
      }
    }))

  it.effect("do not include the right passphrase of an encrypted key", () =>
    Effect.gen(function*() {
      const passphrase = Redacted.make("right")
      const tlsOptions = { ...trusting, cert, key: Redacted.make(encrypted), passphrase }
      const { info } = yield* implicit(secure(certificates.good), expecting("mx.test", tlsOptions))
      assert.strictEqual(info.authorized, true)
    }))

  it.effect.each(["", ".", "mx test", "mx\r\n.test", ".mx.test", "*.mx.test", "mx..test", "mx.test:25", "[mx.test]"])(
    "refuse the name %j",
    (servername) =>
      Effect.gen(function*() {
        const error = yield* refusal(secure(certificates.good), expecting(servername))
        assert.deepStrictEqual(facts(error), ["ETLS", "API", "options.servername", false, ""])
      })
  )
})
