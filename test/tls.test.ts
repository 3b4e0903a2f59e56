import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { X509Certificate } from "node:crypto"
import { createServer, type Server, Socket } from "node:net"
import * as tls from "node:tls"
import { codeOf } from "../src/internal/errorCause.ts"
import { type CertificateAndKey, makeCertificate } from "../src/node/certificate.ts"
import * as NodeConnector from "../src/node/NodeConnector.ts"
import * as NodeSmtpServer from "../src/node/NodeSmtpServer.ts"
import * as Sasl from "../src/Sasl.ts"
import * as SmtpConnection from "../src/SmtpConnection.ts"
import type { SmtpConnector, TlsOptions } from "../src/SmtpConnector.ts"
import type { SmtpError } from "../src/SmtpError.ts"
import { SmtpServer } from "../src/testing/index.ts"
import * as certificates from "./node/certificates.ts"
import { keyPin } from "./node/certificates.ts"
import { listen } from "./node/loopback.ts"

type Services = SmtpConnector | NodeSmtpServer.NodeSmtpServer | Scope.Scope

/** Runs a test against the fake server on a real port, with this certificate or one of its own. */
const withServer = <A, E>(
  { certificate, ...options }: NodeSmtpServer.Options & { readonly certificate?: CertificateAndKey },
  test: Effect.Effect<A, E, Services>
) => {
  const own = certificate === undefined ? {} : { tls: { ...certificate, key: Redacted.make(certificate.key) } }
  const layer = Layer.merge(NodeSmtpServer.layerLoopback({ ...options, ...own }), NodeConnector.layer)
  return Effect.provide(test, layer)
}

const server = NodeSmtpServer.NodeSmtpServer
const trusting: TlsOptions = { ca: certificates.ca.cert }

/** A connection to the fake server, in the name of mx.test. */
const make = (options: SmtpConnection.Options = {}) =>
  Effect.flatMap(
    server,
    ({ port }) => SmtpConnection.make({ host: "127.0.0.1", port, name: "me.test", servername: "mx.test", ...options })
  )
const refusal = (options?: SmtpConnection.Options) => Effect.flip(make(options))

const facts = (error: SmtpError) => [error._tag, error.command, error.isTemporary, codeOf(error.cause)]
const connections = Effect.flatMap(server, ({ connections }) => connections)
const mail = { from: "ann@me.test", to: "bob@mx.test" }
const auth = Sasl.password({ username: "ann", password: Redacted.make("canary-password") })
const accounts = { ann: "canary-password", bob: "canary-token" }

/** As much of a server as EHLO, AUTH and QUIT ask for, over a server of node's own. */
const small = (socket: Socket) => {
  socket.on("error", () => {}).write("220 small.test\r\n")
  socket.on("data", (octets) => {
    const line = octets.toString()
    socket.write(line.startsWith("EHLO") ? "250-small.test\r\n250 AUTH EXTERNAL PLAIN\r\n" : "235 OK\r\n")
    if (line.startsWith("QUIT")) socket.end()
  })
}

/** A connection to a server of node's own. */
const open = Effect.fnUntraced(function*(node: Server, options: SmtpConnection.Options) {
  const { port } = yield* listen(node)
  const named = { host: "127.0.0.1", port, name: "me.test", servername: "mx.test" }
  return yield* SmtpConnection.make({ ...named, ...options }).pipe(Effect.provide(NodeConnector.layer))
})

/** STARTTLS on a plain server, or TLS from the first octet. */
const ways = [
  { tls: "starttls", command: "STARTTLS", implicitTls: false },
  { tls: "implicit", command: "CONN", implicitTls: true }
] as const

for (const { command, implicitTls, tls: mode } of ways) {
  describe(`tls: "${mode}" over a socket`, () => {
    it.effect("sends a mail over a connection that is verified, and reports it", () =>
      withServer(
        { certificate: certificates.good, implicitTls },
        Effect.gen(function*() {
          const connection = yield* make({ tls: mode, tlsOptions: trusting })
          assert.strictEqual(connection.secure, true)
          const info = Option.getOrThrow(connection.security)
          const certificate = new X509Certificate(certificates.good.cert)
          assert.deepInclude(info, {
            protocol: "TLSv1.3",
            authorized: true,
            authorizationError: undefined,
            servername: "mx.test"
          })
          assert.match(info.cipher, /^TLS_[A-Z0-9_]+$/)
          assert.deepInclude(info.peerCertificate, {
            subject: "CN=mx.test",
            issuer: "CN=Test CA",
            fingerprint256: certificate.fingerprint256,
            validTo: certificate.validTo
          })
          assert.deepStrictEqual((yield* connection.send(mail, "Subject: Hi\n\nHello\n")).accepted, ["bob@mx.test"])
          const [message] = yield* (yield* server).received
          assert.deepInclude(message, { secure: true, text: "Subject: Hi\r\n\r\nHello\r\n" })
          const [info1] = yield* connections
          const inClear = implicitTls ? "" : "EHLO me.test\r\nSTARTTLS\r\n"
          assert.strictEqual(info1?.bytesInClear, inClear.length)
        })
      ))

    it.effect("trusts the server's own certificate once it is named as ca", () =>
      withServer(
        { implicitTls },
        Effect.gen(function*() {
          const { ca } = yield* server
          const { security } = yield* make({ tls: mode, servername: "localhost", tlsOptions: { ca } })
          assert.strictEqual(Option.getOrThrow(security).authorized, true)
        })
      ))

    const refused: ReadonlyArray<
      readonly [name: string, CertificateAndKey, SmtpConnection.Options, code: string, hint: RegExp]
    > = [
      [
        "a CA that nobody here trusts",
        certificates.good,
        {},
        "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
        /options\.tlsOptions\.ca/
      ],
      [
        "another CA",
        certificates.otherIssuer,
        { tlsOptions: trusting },
        "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
        /options\.tlsOptions\.ca/
      ],
      [
        "nobody but itself",
        certificates.selfSigned,
        { tlsOptions: trusting },
        "DEPTH_ZERO_SELF_SIGNED_CERT",
        /options\.tlsOptions\.ca/
      ],
      [
        "another name",
        certificates.wrongName,
        { tlsOptions: trusting },
        "ERR_TLS_CERT_ALTNAME_INVALID",
        /options\.servername/
      ],
      [
        "a name where an address is expected",
        certificates.namesOnly,
        { tlsOptions: trusting, servername: "127.0.0.1" },
        "ERR_TLS_CERT_ALTNAME_INVALID",
        /options\.servername/
      ],
      [
        "nobody but a CN",
        makeCertificate({ commonName: "mx.test", issuer: certificates.ca }),
        { tlsOptions: trusting },
        "ERR_TLS_CERT_ALTNAME_INVALID",
        /the CN counts for nothing/
      ],
      [
        "a key that is not pinned",
        certificates.good,
        { tlsOptions: { ...trusting, pins: [keyPin(certificates.selfSigned)] } },
        "ERR_TLS_PIN_MISMATCH",
        /options\.tlsOptions\.pins/
      ],
      [
        "a key that is not pinned, where nothing else is verified",
        certificates.good,
        { tlsOptions: { rejectUnauthorized: false, pins: [keyPin(certificates.selfSigned)] } },
        "ERR_TLS_PIN_MISMATCH",
        /options\.tlsOptions\.pins/
      ],
      ["the past", certificates.expired, { tlsOptions: trusting }, "CERT_HAS_EXPIRED", /validity/],
      ["the future", certificates.notYetValid, { tlsOptions: trusting }, "CERT_NOT_YET_VALID", /not valid yet/]
    ]
    for (const [name, certificate, options, code, hint] of refused) {
      it.effect(`is ETLS for a certificate of ${name}, before any credential or mail`, () =>
        withServer(
          { certificate, implicitTls },
          Effect.gen(function*() {
            const error = yield* refusal({ ...options, tls: mode, auth })
            assert.deepStrictEqual(facts(error), ["ETLS", command, false, code])
            assert.match(error.message, hint)
            yield* (yield* server).awaitClosed
            const [info] = yield* connections
            assert.strictEqual(
              Buffer.from(info?.bytes ?? []).toString(),
              implicitTls ? "" : "EHLO me.test\r\nSTARTTLS\r\n"
            )
          })
        ))
    }

    it.effect("verifies an address by its SAN", () =>
      withServer(
        { certificate: certificates.good, implicitTls },
        Effect.gen(function*() {
          const { port } = yield* server
          const options = { host: "127.0.0.1", port, name: "me.test", tls: mode, tlsOptions: trusting }
          const { security } = yield* SmtpConnection.make(options)
          assert.deepInclude(Option.getOrThrow(security), { authorized: true, servername: "127.0.0.1" })
        })
      ))

    it.effect("keeps to the policy of each connection: one that verified lets no other in", () =>
      withServer(
        { certificate: certificates.good, implicitTls },
        Effect.gen(function*() {
          const verified = { tls: mode, tlsOptions: trusting }
          yield* make(verified)
          assert.strictEqual((yield* refusal({ ...verified, servername: "other.test" }))._tag, "ETLS")
          assert.strictEqual((yield* refusal({ tls: mode }))._tag, "ETLS")
          yield* make(verified)
        })
      ))

    it.effect("is verified by a pin alone, and gives it credentials", () =>
      withServer(
        { certificate: certificates.selfSigned, implicitTls, script: { accounts } },
        Effect.gen(function*() {
          const pins = [keyPin(certificates.good), keyPin(certificates.selfSigned)]
          const { security } = yield* make({ tls: mode, tlsOptions: { pins }, auth })
          assert.deepInclude(Option.getOrThrow(security), { authorized: true, pin: pins[1], identity: pins[1] })
          assert.deepStrictEqual((yield* connections).map(({ username }) => username), ["ann"])
        })
      ))

    it.effect("resumes sessions of the same policy and name alone, and logs in over them", () =>
      withServer(
        { certificate: certificates.good, implicitTls, script: { accounts } },
        Effect.gen(function*() {
          const verified = { tls: mode, tlsOptions: trusting, auth }
          const seen: Array<readonly [boolean, string | undefined]> = []
          for (
            const options of [
              verified,
              { ...verified, servername: "127.0.0.1" },
              { ...verified, tlsOptions: { ...trusting, minVersion: "TLSv1.3" } },
              { ...verified, tlsOptions: { ...trusting, pins: [keyPin(certificates.good)] } },
              { ...verified, tlsOptions: { ...trusting, rejectUnauthorized: false } },
              verified
            ] as const
          ) {
            const { resumed, identity } = Option.getOrThrow((yield* Effect.scoped(make(options))).security)
            seen.push([resumed, identity])
          }
          assert.deepStrictEqual(seen, [
            [false, "mx.test"],
            [false, "127.0.0.1"],
            [false, "mx.test"],
            [false, keyPin(certificates.good)],
            [false, "mx.test"],
            [true, "mx.test"]
          ])
          assert.strictEqual((yield* connections).every(({ username }) => username === "ann"), true)
        })
      ))

    it.effect("with rejectUnauthorized: false goes on, reports it, and sends no credentials", () =>
      withServer(
        { certificate: certificates.wrongName, implicitTls, script: { accounts } },
        Effect.gen(function*() {
          const lax = { tls: mode, tlsOptions: { ...trusting, rejectUnauthorized: false } }
          const { secure, security } = yield* make(lax)
          assert.strictEqual(secure, true)
          const info = Option.getOrThrow(security)
          assert.strictEqual(info.authorized, false)
          assert.match(info.authorizationError ?? "", /ERR_TLS_CERT_ALTNAME_INVALID|Hostname\/IP does not match/)
          const error = yield* refusal({ ...lax, auth })
          assert.deepStrictEqual([error._tag, error.command, error.attempted], ["EAUTH", "API", false])
          yield* make({ ...lax, auth, allowInsecureAuth: true })
          assert.deepStrictEqual((yield* connections).map(({ username }) => username), [undefined, undefined, "ann"])
        })
      ))

    it.effect("logs in by each mechanism, with the accounts of the server", () =>
      withServer(
        { certificate: certificates.good, implicitTls, script: { accounts } },
        Effect.gen(function*() {
          const verified = { tls: mode, tlsOptions: trusting }
          for (const mechanism of ["PLAIN", "LOGIN", "CRAM-MD5"]) {
            yield* make({ ...verified, auth, mechanisms: [mechanism] })
          }
          const token = (text: string) => Sasl.oauth2({ username: "bob", token: Redacted.make(text) })
          const connection = yield* make(verified)
          assert.strictEqual((yield* Effect.flip(connection.login(token("canary-revoked")))).responseCode, 535)
          yield* connection.login(token("canary-token"))
          assert.deepStrictEqual((yield* connections).map(({ username }) => username), ["ann", "ann", "ann", "bob"])
        })
      ))

    it.effect("is ETLS that may pass when the connection is lost in the handshake", () =>
      withServer(
        { implicitTls, script: { faults: [SmtpServer.at("tls", SmtpServer.drop)] } },
        Effect.gen(function*() {
          const error = yield* refusal({ tls: mode })
          assert.deepStrictEqual(facts(error).slice(0, 3), ["ETLS", command, true])
        })
      ))

    it.effect("is ETLS when the server refuses the handshake", () =>
      withServer(
        { implicitTls, script: { tls: { fail: true } } },
        Effect.gen(function*() {
          const error = yield* refusal({ tls: mode })
          assert.deepStrictEqual(facts(error).slice(0, 3), ["ETLS", command, false])
          assert.match(codeOf(error.cause), /^ERR_SSL_.*ALERT/)
        })
      ))
  })
}

describe("TLS versions and client certificates", () => {
  it.effect("are refused where the server's highest is below minVersion", () =>
    Effect.gen(function*() {
      const node = () => tls.createServer({ ...certificates.good, maxVersion: "TLSv1.2" }, small)
      const minimum = (minVersion: "TLSv1.2" | "TLSv1.3") => ({
        tls: "implicit",
        tlsOptions: { ...trusting, minVersion }
      } as const)
      const { security } = yield* open(node(), minimum("TLSv1.2"))
      assert.strictEqual(Option.getOrThrow(security).protocol, "TLSv1.2")
      const error = yield* Effect.flip(open(node(), minimum("TLSv1.3")))
      assert.deepStrictEqual(facts(error).slice(0, 3), ["ETLS", "CONN", false])
      assert.match(codeOf(error.cause), /^ERR_SSL_/)
      assert.include(error.message, "no TLS version or cipher in common")
    }))

  it.effect("below 1.2 are refused, though both sides could speak them", () =>
    Effect.gen(function*() {
      const ciphers = "DEFAULT@SECLEVEL=0"
      const old = { ...certificates.good, minVersion: "TLSv1", maxVersion: "TLSv1.1", ciphers } as const
      const tlsOptions = { ...trusting, ciphers }
      const error = yield* Effect.flip(open(tls.createServer(old, small), { tls: "implicit", tlsOptions }))
      assert.deepStrictEqual(facts(error).slice(0, 3), ["ETLS", "CONN", false])
      const weaker = { ...certificates.good, ciphers }
      const connection = yield* open(tls.createServer(weaker, small), { tls: "implicit", tlsOptions })
      assert.strictEqual(Option.getOrThrow(connection.security).authorized, true)
    }))

  it.effect("that are refused after the handshake, as TLS 1.3 does, are ETLS that does not pass", () =>
    Effect.gen(function*() {
      const demanding = { ...certificates.good, ca: certificates.ca.cert, requestCert: true, rejectUnauthorized: true }
      const error = yield* Effect.flip(
        open(tls.createServer(demanding, small), { tls: "implicit", tlsOptions: trusting })
      )
      assert.deepStrictEqual(facts(error).slice(0, 3), ["ETLS", "CONN", false])
      assert.match(codeOf(error.cause), /^ERR_SSL_.*CERTIFICATE_REQUIRED$/)
    }))

  it.effect("are shown to a server that asks for one: EXTERNAL", () =>
    Effect.gen(function*() {
      const subjects: Array<unknown> = []
      const node = tls.createServer(
        { ...certificates.good, ca: certificates.ca.cert, requestCert: true },
        (socket) => {
          subjects.push(socket.getPeerX509Certificate()?.subject)
          small(socket)
        }
      )
      const { cert, key } = certificates.client
      const options = { ...trusting, cert, key: Redacted.make(key) }
      const connection = yield* open(node, { tls: "implicit", tlsOptions: options, auth: Sasl.external() })
      assert.strictEqual(connection.secure, true)
      assert.deepStrictEqual(subjects, ["CN=client"])
    }))

  it.effect("that are missing where the server demands one are ETLS or a loss", () =>
    Effect.gen(function*() {
      const options = {
        ...certificates.good,
        ca: certificates.ca.cert,
        requestCert: true,
        maxVersion: "TLSv1.2"
      } as const
      const error = yield* Effect.flip(
        open(tls.createServer(options, small), { tls: "implicit", tlsOptions: trusting })
      )
      assert.strictEqual(error._tag, "ETLS")
    }))
})

describe("a server that cannot resume a session", () => {
  it.effect("loses one connection to the attempt, and is dialled again at once; none is offered to it after that", () =>
    Effect.gen(function*() {
      const secureContext = tls.createSecureContext(certificates.good)
      const reused: Array<boolean> = []
      let dials = 0
      const node = createServer((raw) => {
        dials++
        raw.on("error", () => {})
        if (dials === 2) return void raw.once("data", () => raw.destroy())
        const secure = new tls.TLSSocket(raw, { isServer: true, secureContext })
        secure.on("secure", () => reused.push(secure.isSessionReused()))
        small(secure)
      })
      const { port } = yield* listen(node)
      const options = { host: "127.0.0.1", port, name: "me.test", servername: "mx.test", tlsOptions: trusting } as const
      for (let visit = 1; visit <= 4; visit++) {
        const { secure } = yield* Effect.scoped(SmtpConnection.make({ ...options, tls: "implicit" }))
        assert.isTrue(secure)
      }
      assert.deepStrictEqual([dials, reused], [5, [false, false, false, false]])
    }).pipe(Effect.provide(NodeConnector.layer)))
})

describe("a mode that does not fit the port", () => {
  it.effect("is told when TLS is spoken to a plain port", () =>
    withServer(
      {},
      Effect.gen(function*() {
        const error = yield* refusal({ tls: "implicit" })
        assert.deepStrictEqual(facts(error), ["ETLS", "CONN", false, "ERR_SSL_WRONG_VERSION_NUMBER"])
        assert.include(error.message, `use tls: "starttls"`)
      })
    ))

  it.live("is told when plaintext is spoken to a TLS port: the greeting does not come", () =>
    withServer(
      { implicitTls: true },
      Effect.gen(function*() {
        for (const mode of ["starttls", "opportunistic", "off"] as const) {
          const error = yield* refusal({ tls: mode, timeouts: { greeting: "50 millis" } })
          assert.strictEqual(error._tag === "ETIMEDOUT" && error.timeout, "greeting")
          assert.include(error.message, `set tls: "implicit"`)
        }
      })
    ))
})

describe("opportunistic TLS over a socket", () => {
  const opportunistic = { tls: "opportunistic" } as const

  it.effect("does not verify, says so, and keeps credentials back", () =>
    withServer(
      { certificate: certificates.expired, script: { accounts } },
      Effect.gen(function*() {
        const { secure, security } = yield* make(opportunistic)
        assert.strictEqual(secure, true)
        assert.deepInclude(Option.getOrThrow(security), { authorized: false, protocol: "TLSv1.3" })
        assert.strictEqual((yield* refusal({ ...opportunistic, auth }))._tag, "EAUTH")
      })
    ))

  it.effect("resumes no session, and leaves none", () =>
    withServer(
      { certificate: certificates.good },
      Effect.gen(function*() {
        const verified = { tlsOptions: trusting }
        const seen: Array<boolean> = []
        for (
          const options of [{ ...opportunistic, ...verified }, verified, { ...opportunistic, ...verified }, verified]
        ) {
          seen.push((yield* Effect.scoped(make(options))).securityReport.resumed)
        }
        assert.deepStrictEqual(seen, [false, false, false, true])
      })
    ))

  it.effect("reports a certificate that verifies, and gives it credentials", () =>
    withServer(
      { certificate: certificates.good, script: { accounts } },
      Effect.gen(function*() {
        const { security } = yield* make({ ...opportunistic, tlsOptions: trusting, auth })
        assert.strictEqual(Option.getOrThrow(security).authorized, true)
      })
    ))

  it.effect("over a socket that cannot be dialled twice ends in the failure of the handshake", () =>
    withServer(
      { script: { faults: [SmtpServer.at("tls", SmtpServer.drop)] } },
      Effect.gen(function*() {
        const { port } = yield* server
        const options = { host: "127.0.0.1", port, name: "me.test", ...opportunistic }
        const error = yield* Effect.flip(SmtpConnection.make(options)).pipe(
          Effect.provide(NodeConnector.fromSocket(new Socket()))
        )
        assert.strictEqual(error._tag, "ETLS")
      })
    ))

  it.effect("dials once more in clear after a handshake that failed", () =>
    withServer(
      { script: { tls: { fail: true } } },
      Effect.gen(function*() {
        const connection = yield* make(opportunistic)
        assert.strictEqual(connection.secure, false)
        yield* connection.send(mail, "x")
        const texts = (yield* connections).map(({ bytes }) => Buffer.from(bytes ?? []).toString())
        assert.strictEqual(texts.length, 2)
        assert.match(texts[1] ?? "", /^EHLO me.test\r\nMAIL FROM/)
      })
    ))

  for (const sameSegment of [true, false]) {
    for (const octets of ["250 2.0.0 injected\r\n", "2", "hello\r\n"]) {
      it.effect(`is ETLS for ${JSON.stringify(octets)} after the 220, in ${sameSegment ? "its" : "another"} segment`, () =>
        withServer(
          {
            script: {
              faults: [
                SmtpServer.at("starttls", SmtpServer.plaintextAfterStartTls(octets, sameSegment)),
                SmtpServer.at("tls", SmtpServer.garbage("a line that is not TLS\r\n"))
              ]
            }
          },
          Effect.gen(function*() {
            for (const mode of ["opportunistic", "starttls"] as const) {
              const error = yield* refusal({ tls: mode, auth })
              assert.deepStrictEqual(facts(error).slice(0, 3), ["ETLS", "STARTTLS", false])
            }
            assert.strictEqual((yield* connections).length, 2)
          })
        ))
    }
  }

  it.effect("does not hide tlsOptions that OpenSSL does not take", () =>
    withServer(
      {},
      Effect.gen(function*() {
        const error = yield* refusal({ ...opportunistic, tlsOptions: { ca: "no certificate" } })
        assert.deepStrictEqual([error._tag, error.command, error.field], ["ETLS", "API", "options.tlsOptions"])
        assert.strictEqual((yield* connections).length, 1)
      })
    ))
})

describe("STARTTLS over a socket", () => {
  it.effect("is ETLS when it is not offered, refused, or nothing but plaintext follows", () =>
    Effect.gen(function*() {
      const servers: ReadonlyArray<SmtpServer.Script> = [
        { extensions: { startTls: false } },
        { faults: [SmtpServer.at("starttls", SmtpServer.answer(454, "not now"))] },
        { faults: [SmtpServer.at("tls", SmtpServer.garbage("250 no TLS here\r\n"))] }
      ]
      for (const script of servers) {
        const error = yield* withServer({ script }, refusal({ auth }))
        assert.deepStrictEqual([error._tag, error.command], ["ETLS", "STARTTLS"])
      }
    }))

  it.effect("says nothing between the command and the handshake", () =>
    Effect.gen(function*() {
      const chunks: Array<string> = []
      const node = createServer((socket) => {
        socket.on("error", () => {}).write("220 raw.test\r\n")
        socket.on("data", (octets) => {
          chunks.push(octets.toString("latin1"))
          const line = chunks.at(-1) ?? ""
          if (line.startsWith("EHLO")) socket.write("250-raw.test\r\n250 STARTTLS\r\n")
          else if (line.startsWith("STARTTLS")) socket.write("220 go\r\n")
          else socket.destroy()
        })
      })
      const error = yield* Effect.flip(open(node, { auth }))
      assert.deepStrictEqual([error._tag, error.isTemporary], ["ETLS", true])
      assert.deepStrictEqual(chunks.slice(0, 2), ["EHLO me.test\r\n", "STARTTLS\r\n"])
      assert.strictEqual(chunks[2]?.charCodeAt(0), 0x16)
      assert.strictEqual(chunks.length, 3)
    }))
})
