import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as net from "node:net"
import * as NodeConnector from "../src/node/NodeConnector.ts"
import * as NodeSmtpServer from "../src/node/NodeSmtpServer.ts"
import * as Sasl from "../src/Sasl.ts"
import * as SmtpClient from "../src/SmtpClient.ts"
import * as SmtpConnection from "../src/SmtpConnection.ts"
import { SmtpConnector } from "../src/SmtpConnector.ts"
import { SmtpServer } from "../src/testing/index.ts"
import * as certificates from "./node/certificates.ts"
import { keyPin } from "./node/certificates.ts"
import { assertHidden } from "./support/secrets.ts"
import { makeTracer, secured } from "./support/spans.ts"

const mail = { from: "ann@me.test", to: "bob@mx.test" }
const accounts = { ann: "canary-password" }
const auth = Sasl.password({ username: "ann", password: Redacted.make("canary-password") })
const scram = ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN"]

/** Reports of a connection to a fake server with this script. */
const reported = (options: SmtpConnection.Options, script: SmtpServer.Script = {}) =>
  Effect.scoped(Effect.map(
    SmtpConnection.make({ name: "me.test", ...options }),
    ({ securityReport }) => securityReport
  )).pipe(Effect.provide(SmtpServer.layer({ accounts, ...script })))

const offering = (...mechanisms: ReadonlyArray<string>): SmtpServer.Script => ({ extensions: { auth: mechanisms } })
const pins = [`cert-sha256/${"0f".repeat(32)}`]

describe("a report", () => {
  it.effect("says what secures a connection by default", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* reported({ host: "mx.test" }), {
        protocol: "in-memory",
        cipher: "none",
        resumed: false,
        verifiedBy: "certificate",
        identity: "mx.test",
        mechanism: undefined,
        channelBinding: undefined,
        askedBy: { tls: "default", verification: "default", mechanism: undefined }
      })
    }))

  it.effect("of a unix socket knows of no TLS", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* reported({ path: "/run/s", auth }, { extensions: { authBeforeTls: ["PLAIN"] } }), {
        protocol: undefined,
        cipher: undefined,
        resumed: false,
        verifiedBy: "connector",
        identity: undefined,
        mechanism: "PLAIN",
        channelBinding: undefined,
        askedBy: { tls: "options.path", verification: "options.path", mechanism: "default" }
      })
    }))

  const askers: ReadonlyArray<
    readonly [SmtpConnection.Options, tls: string, verification: string, SmtpConnection.SecurityReport["verifiedBy"]]
  > = [
    [{ port: 465 }, "options.port = 465", "default", "certificate"],
    [{ port: 465, tls: "implicit" }, `options.tls = "implicit"`, "default", "certificate"],
    [{ port: 587 }, "default", "default", "certificate"],
    [{ tls: "starttls", tlsOptions: { ca: "x" } }, `options.tls = "starttls"`, "options.tlsOptions.ca", "certificate"],
    [{ tlsOptions: { ca: "x", pins } }, "default", "options.tlsOptions.pins", "certificate"],
    [
      { tlsOptions: { rejectUnauthorized: false } },
      "default",
      "options.tlsOptions.rejectUnauthorized = false",
      "certificate"
    ],
    [{ tls: "opportunistic" }, `options.tls = "opportunistic"`, `options.tls = "opportunistic"`, "certificate"],
    [{ tls: "off" }, `options.tls = "off"`, `options.tls = "off"`, "nothing"],
    [
      { path: "/run/s", tls: "starttls", servername: "mx.test" },
      `options.tls = "starttls"`,
      "default",
      "certificate"
    ]
  ]
  it.effect.each(askers)(
    "of %j names the options that asked for it",
    ([options, tls, verification, verifiedBy]) =>
      Effect.gen(function*() {
        const { askedBy, ...report } = yield* reported(options)
        assert.deepStrictEqual(askedBy, { tls, verification, mechanism: undefined })
        assert.strictEqual(report.verifiedBy, verifiedBy)
      })
  )

  it.effect("says so when the certificate did not verify", () =>
    Effect.gen(function*() {
      const script = { tls: { authorized: false } }
      const report = yield* reported({ tls: "opportunistic" }, script)
      assert.deepInclude(report, { protocol: "in-memory", verifiedBy: "nothing", identity: undefined })
      const allowed = yield* reported({ tls: "opportunistic", auth, allowInsecureAuth: true }, script)
      assert.strictEqual(allowed.askedBy.mechanism, "options.allowInsecureAuth = true")
      const onSocket = { path: "/run/s", servername: "mx.test", tls: "opportunistic" } as const
      assert.strictEqual((yield* reported(onSocket, script)).verifiedBy, "connector")
    }))

  it.effect("says so when opportunistic TLS ended in clear", () =>
    Effect.gen(function*() {
      for (const script of [{ extensions: { startTls: false } }, { tls: { fail: true } }]) {
        const report = yield* reported({ tls: "opportunistic" }, script)
        assert.deepInclude(report, { protocol: undefined, cipher: undefined, verifiedBy: "nothing" })
        assert.strictEqual(report.askedBy.tls, `options.tls = "opportunistic"`)
      }
    }))

  const logins: ReadonlyArray<readonly [SmtpConnection.Options, mechanism: string, binding: unknown, asker: string]> = [
    [{}, "SCRAM-SHA-256-PLUS", "tls-exporter", "default"],
    [{ channelBinding: "required" }, "SCRAM-SHA-256-PLUS", "tls-exporter", `options.channelBinding = "required"`],
    [{ mechanisms: ["SCRAM-SHA-256"] }, "SCRAM-SHA-256", undefined, "options.mechanisms"],
    [{ mechanisms: ["LOGIN"], minimumMechanism: "LOGIN" }, "LOGIN", undefined, "options.mechanisms"],
    [{ minimumMechanism: "PLAIN" }, "SCRAM-SHA-256-PLUS", "tls-exporter", "options.minimumMechanism"]
  ]
  it.effect.each(logins)(
    "of a login with %j names mechanism and binding",
    ([options, mechanism, binding, asker]) =>
      Effect.gen(function*() {
        const report = yield* reported({ auth, ...options }, offering(...scram))
        assert.deepStrictEqual([report.mechanism, report.channelBinding], [mechanism, binding])
        assert.strictEqual(report.askedBy.mechanism, asker)
      })
  )

  it.effect("names the mechanism that succeeded, and the last login", () =>
    Effect.gen(function*() {
      const connection = yield* SmtpConnection.make({ host: "mx.test" })
      assert.strictEqual(connection.securityReport.mechanism, undefined)
      yield* Effect.flip(connection.login(Sasl.password({ username: "ann", password: Redacted.make("wrong") })))
      assert.strictEqual(connection.securityReport.mechanism, undefined)
      yield* connection.login(auth)
      assert.strictEqual(connection.securityReport.mechanism, "LOGIN")
    }).pipe(Effect.provide(SmtpServer.layer({
      accounts,
      ...offering("PLAIN", "LOGIN"),
      respond: { auth: ({ argument }) => argument.startsWith("PLAIN") ? SmtpServer.reply(504, "not that") : undefined }
    }))))

  it.effect("of a token that was refused and fetched anew names its mechanism", () =>
    Effect.gen(function*() {
      const tokens = ["stale", "canary-password"]
      const token = Effect.sync(() => Redacted.make(tokens.shift() ?? "none"))
      const report = yield* reported({ auth: Sasl.oauth2({ username: "ann", token }) }, offering("XOAUTH2"))
      assert.strictEqual(report.mechanism, "XOAUTH2")
    }))

  it.effect("holds no secret", () =>
    Effect.gen(function*() {
      const key = Redacted.make("canary-key")
      const report = yield* reported({ auth, tlsOptions: { cert: "x", key, passphrase: Redacted.make("canary") } })
      assertHidden(JSON.stringify(report), "canary")
    }))
})

describe("a result", () => {
  it.effect("has the report of the connection that it went over", () =>
    Effect.gen(function*() {
      const connection = yield* SmtpConnection.make({ host: "mx.test" })
      const before = yield* connection.send(mail, "x")
      assert.strictEqual(before.security, connection.securityReport)
      yield* connection.login(auth)
      const after = yield* connection.send(mail, "x")
      assert.deepStrictEqual([before.security.mechanism, after.security.mechanism], [undefined, "PLAIN"])
    }).pipe(Effect.provide(SmtpServer.layer({ accounts }))))

  it.effect("of a client has it too, and so does verify", () =>
    Effect.gen(function*() {
      const client = yield* SmtpClient.make({ host: "mx.test", auth })
      const { security } = yield* client.send(mail, "x")
      assert.deepInclude(security, { verifiedBy: "certificate", mechanism: "PLAIN" })
      assert.deepStrictEqual((yield* client.verify).securityReport, security)
    }).pipe(Effect.provide(SmtpServer.layer({ accounts }))))
})

describe("a span", () => {
  /** The security attributes of the spans of one send, in the order of their start. */
  const traced = (options: SmtpClient.Options, script: SmtpServer.Script) =>
    Effect.provide(attributesOf(options), SmtpServer.layer({ accounts, ...script }))
  const attributesOf = Effect.fnUntraced(function*(options: SmtpClient.Options) {
    const { spans, tracer } = makeTracer()
    const client = yield* SmtpClient.make(options)
    yield* Effect.withTracer(client.send(mail, "x"), tracer)
    return spans.map(({ attributes }) =>
      Object.fromEntries([...attributes].filter(([name]) => /^(?:tls|smtp\.security|smtp\.auth)\./.test(name)))
    )
  })

  it.effect("of the connection and of the send tell of TLS and login", () =>
    Effect.gen(function*() {
      const expected = {
        ...secured,
        "smtp.auth.mechanism": "SCRAM-SHA-256-PLUS",
        "smtp.auth.channel_binding": "tls-exporter"
      }
      assert.deepStrictEqual(yield* traced({ host: "mx.test", auth }, offering(...scram)), [expected, expected])
    }))

  it.effect("in clear says that there is none", () =>
    Effect.gen(function*() {
      const expected = {
        "tls.established": false,
        "smtp.security.verified_by": "nothing",
        "smtp.security.asked_by": `options.tls = "off"`
      }
      assert.deepStrictEqual(yield* traced({ host: "mx.test", tls: "off" }, {}), [expected, expected])
    }))
})

describe("over a socket", () => {
  type Services = SmtpConnector | NodeSmtpServer.NodeSmtpServer | Scope.Scope
  const key = Redacted.make(certificates.selfSigned.key)
  const serve = <A, E>(test: Effect.Effect<A, E, Services>) =>
    Effect.provide(
      test,
      Layer.merge(
        NodeSmtpServer.layerLoopback({
          tls: { cert: certificates.selfSigned.cert, key },
          script: { accounts, ...offering(...scram) }
        }),
        NodeConnector.layer
      )
    )
  const connect = (options: SmtpConnection.Options) =>
    Effect.flatMap(
      NodeSmtpServer.NodeSmtpServer,
      ({ host, port }) => SmtpConnection.make({ host, port, name: "me.test", auth, ...options })
    )

  it.effect("a pin verifies, and credentials go out", () =>
    serve(Effect.gen(function*() {
      const pin = keyPin(certificates.selfSigned)
      const { securityReport } = yield* connect({ tlsOptions: { pins: [pin] } })
      assert.deepStrictEqual(securityReport, {
        protocol: "TLSv1.3",
        cipher: "TLS_AES_256_GCM_SHA384",
        resumed: false,
        verifiedBy: "pin",
        identity: pin,
        mechanism: "SCRAM-SHA-256-PLUS",
        channelBinding: "tls-exporter",
        askedBy: { tls: "default", verification: "options.tlsOptions.pins", mechanism: "default" }
      })
    })))

  it.effect("the second connection resumes the session of the first, and says so", () =>
    serve(Effect.gen(function*() {
      const connector = yield* SmtpConnector
      const client = yield* Effect.map(NodeSmtpServer.NodeSmtpServer, ({ host, port }) =>
        SmtpClient.make({
          host,
          port,
          name: "me.test",
          tlsOptions: { pins: [keyPin(certificates.selfSigned)] },
          auth,
          pool: { maxMessages: 1 }
        }))
      const { send } = yield* Effect.provideService(client, SmtpConnector, connector)
      const [first, second] = [yield* send(mail, "x"), yield* send(mail, "x")]
      assert.deepStrictEqual(second.security, { ...first.security, resumed: true })
      assert.strictEqual(first.security.resumed, false)
    })))

  it.effect("a connection that its maker secured was asked for by the connector", () =>
    serve(Effect.gen(function*() {
      const { host, port } = yield* NodeSmtpServer.NodeSmtpServer
      const socket = yield* Effect.callback<net.Socket>((resume) => {
        const socket = net.connect(port, host, () => resume(Effect.succeed(socket)))
      })
      const { securityReport } = yield* SmtpConnection.make({ host: "mx.test", name: "me.test" }).pipe(
        Effect.provide(NodeConnector.fromConnection(socket, { secured: true }))
      )
      assert.deepInclude(securityReport, {
        protocol: undefined,
        verifiedBy: "connector",
        askedBy: { tls: "connector", verification: "connector", mechanism: undefined }
      })
    })))
})
