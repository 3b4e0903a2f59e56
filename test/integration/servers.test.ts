import { assert, describe, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Dns from "effect/net/Dns"
import * as NetAddress from "effect/net/NetAddress"
import * as Redacted from "effect/Redacted"
import * as NodeConnector from "../../src/node/NodeConnector.ts"
import * as NodeSmtpServer from "../../src/node/NodeSmtpServer.ts"
import * as Sasl from "../../src/Sasl.ts"
import * as SmtpServer from "../../src/testing/SmtpServer.ts"
import { accounts, describeServer, DnsServer, recipients, SmtpServerNpm, SmtpSink } from "./servers/index.ts"
import {
  alice,
  codeOf,
  connect,
  fate,
  goesDown,
  inClear,
  leavesNothing,
  live,
  messageFor,
  password,
  roundTrip,
  to,
  valuesOf
} from "./servers/probe.ts"

describeServer("SmtpSink", () => {
  layer(Layer.mergeAll(SmtpSink.layer, NodeConnector.layer), live)("a running smtp-sink", (it) => {
    it.effect("keeps what comes to its dump ports, over SMTP and over LMTP", () =>
      Effect.gen(function*() {
        const server = yield* SmtpSink.SmtpSink
        assert.match(server.describe.version, /^3\.\d/)
        yield* roundTrip(server, inClear(server, server.ports.dump))
        yield* roundTrip(server, { ...inClear(server, server.ports.lmtpDump), protocol: "lmtp" })
      }))

    it.effect("answers AUTH with a code that is no answer to it", () =>
      Effect.gen(function*() {
        const server = yield* SmtpSink.SmtpSink
        const options = { ...inClear(server, server.ports.plain), auth: password(alice), allowInsecureAuth: true }
        assert.deepStrictEqual(codeOf(yield* Effect.flip(connect(options))), ["EPROTOCOL", 250])
      }))

    for (
      const [port, expected] of [
        ["refuseRcpt", ["EENVELOPE", 500]],
        ["deferDot", ["EMESSAGE", 450]],
        ["abort", ["EMESSAGE", 550]],
        ["dropData", ["ECONNECTION", undefined]],
        ["close421", ["ECONNECTION", 421]],
        ["busy", ["ECONNECTION", 421]]
      ] as const
    ) {
      it.effect(`has the fault of port ${port}`, () =>
        Effect.gen(function*() {
          const server = yield* SmtpSink.SmtpSink
          const error = yield* Effect.flip(
            Effect.flatMap(connect(inClear(server, server.ports[port])), (connection) =>
              connection.send({ from: "ann@client.test", to: "bob@mx.test" }, "x"))
          )
          assert.deepStrictEqual(codeOf(error), expected)
        }))
    }

    it.effect("has ports that take mail with less", () =>
      Effect.gen(function*() {
        const server = yield* SmtpSink.SmtpSink
        for (const port of ["plain", "noPipelining", "heloOnly", "pix", "slowDot"] as const) {
          const connection = yield* connect(inClear(server, server.ports[port]))
          assert.strictEqual(connection.capabilities.extended, !["heloOnly", "pix"].includes(port))
          assert.strictEqual(connection.capabilities.pipelining, ["plain", "slowDot"].includes(port))
          yield* connection.send({ from: "ann@client.test", to: "bob@mx.test" }, "x")
        }
      }))

    it.effect("has a port that keeps a client waiting", () =>
      Effect.gen(function*() {
        const server = yield* SmtpSink.SmtpSink
        const options = { ...inClear(server, server.ports.tarpit), timeouts: { command: "100 millis" } } as const
        assert.strictEqual((yield* Effect.flip(connect(options)))._tag, "ETIMEDOUT")
      }))
  })

  it.live("leaves no process, port or file behind", () => leavesNothing(SmtpSink.SmtpSink, SmtpSink.layer, valuesOf))
})

describeServer("SmtpServerNpm", () => {
  layer(Layer.mergeAll(SmtpServerNpm.layer, NodeConnector.layer), live)("a running smtp-server", (it) => {
    it.effect("stores a message over STARTTLS, implicit TLS, AUTH PLAIN and LMTP", () =>
      Effect.gen(function*() {
        const server = yield* SmtpServerNpm.SmtpServerNpm
        assert.deepStrictEqual(server.describe, { name: "smtp-server", version: "3.21.6" })
        const { lmtp, lmtps, smtp, smtps, submission } = server.ports
        yield* roundTrip(server, to(server, smtp))
        yield* roundTrip(server, { ...to(server, smtps), tls: "implicit" })
        yield* roundTrip(server, { ...to(server, submission), auth: password(alice), mechanisms: ["PLAIN"] })
        yield* roundTrip(server, { ...to(server, lmtp), protocol: "lmtp" })
        yield* roundTrip(server, { ...to(server, lmtps), protocol: "lmtp", tls: "implicit" })
        const [mail] = yield* server.awaitStored((one) => one.username === "alice")
        assert.deepStrictEqual(mail?.recipients, ["alice@mx.test"])
      }))

    for (
      const [name, expected] of [
        ["reject", ["EENVELOPE", 550]],
        ["defer", ["EENVELOPE", 450]],
        ["full", ["EENVELOPE", 452]],
        ["disc421", ["ECONNECTION", 421]],
        ["bigData", ["EMESSAGE", 552]]
      ] as const
    ) {
      it.effect(`has the fate for the recipient ${name}`, () =>
        Effect.gen(function*() {
          const server = yield* SmtpServerNpm.SmtpServerNpm
          assert.deepStrictEqual(codeOf(yield* fate(to(server, server.ports.smtp), recipients[name])), expected)
        }))
    }

    it.effect("knows accounts and tokens, and wants a login for a submission", () =>
      Effect.gen(function*() {
        const server = yield* SmtpServerNpm.SmtpServerNpm
        const options = to(server, server.ports.submission)
        for (const account of accounts) yield* connect({ ...options, auth: password(account), mechanisms: ["LOGIN"] })
        const login = (token: string) =>
          connect({ ...options, auth: Sasl.oauth2({ username: "alice", token: Redacted.make(token) }) })
        yield* login(server.token("alice"))
        assert.strictEqual((yield* Effect.flip(login(server.token("bob"))))._tag, "EAUTH")
        assert.deepStrictEqual(codeOf(yield* fate(options, "alice@mx.test")), ["ENOAUTH", 530])
      }))
  })

  it.live("closes its ports", () => goesDown(SmtpServerNpm.SmtpServerNpm, SmtpServerNpm.layer, valuesOf))
})

describeServer("DnsServer", () => {
  layer(Layer.mergeAll(DnsServer.layer, SmtpServerNpm.layer), live)("a running Knot", (it) => {
    it.effect("answers for its zone", () =>
      Effect.gen(function*() {
        const { describe, dns } = yield* DnsServer.DnsServer
        assert.strictEqual(describe.name, "Knot DNS")
        assert.match(describe.version, /^\d+\./)
        const addresses = (name: string) =>
          Effect.map(dns.lookup(`${name}.test`), (found) => found.map(NetAddress.formatIp))
        assert.deepStrictEqual(yield* addresses("mx"), ["127.0.0.1"])
        assert.deepStrictEqual(yield* addresses("alias"), ["127.0.0.1"])
        assert.deepStrictEqual(yield* addresses("two"), ["127.0.0.1", "127.0.0.3"])
        assert.deepStrictEqual(yield* addresses("dual"), ["127.0.0.1", "::1"])
        assert.deepStrictEqual(yield* addresses("six"), ["::1"])
        assert.deepStrictEqual(yield* addresses("firstdead"), ["127.0.0.2", "127.0.0.3"])
        const mx = yield* dns.resolve("good.test", "MX")
        assert.sameMembers(mx.map((one) => `${one.priority} ${one.exchange}`), [
          "10 mx.test.",
          "20 mx2.test.",
          "20 mx3.test."
        ])
      }))

    for (
      const [name, reason, isTemporary] of [
        ["nothere.test", "NotFound", false],
        ["textonly.test", "NotFound", false],
        ["mx.servfail.test", "ServerFailure", true]
      ] as const
    ) {
      it.effect(`is why a connection to ${name} fails with EDNS: ${reason}`, () =>
        Effect.gen(function*() {
          const { dns } = yield* DnsServer.DnsServer
          const connector = NodeConnector.layerWith({}).pipe(Layer.provide(Layer.succeed(Dns.Dns, dns)))
          const error = yield* connect({ host: name }).pipe(Effect.provide(connector), Effect.flip)
          assert.strictEqual(error._tag, "EDNS")
          assert.strictEqual(error.isTemporary, isTemporary)
          assert.include(error.message, reason)
        }))
    }

    it.effect("has a port that never answers", () =>
      Effect.gen(function*() {
        const { silentNameServer } = yield* DnsServer.DnsServer
        const dns = yield* DnsServer.dnsOf([silentNameServer], { timeout: "50 millis", tries: 1 })
        assert.strictEqual((yield* Effect.flip(dns.lookup("mx.test"))).reason, "Timeout")
      }))

    it.effect("leads the client to a server by name, and by the second of two addresses", () =>
      Effect.gen(function*() {
        const { dns } = yield* DnsServer.DnsServer
        const server = yield* SmtpServerNpm.SmtpServerNpm
        const connector = NodeConnector.layerWith({}).pipe(Layer.provide(Layer.succeed(Dns.Dns, dns)))
        const options = to({ ...server, host: "mx.test" }, server.ports.smtp)
        yield* roundTrip(server, options).pipe(Effect.provide(connector))
        const second = NodeSmtpServer.layerLoopback({ host: "127.0.0.3" })
        yield* Effect.gen(function*() {
          const { awaitReceived, ca, port } = yield* NodeSmtpServer.NodeSmtpServer
          const connection = yield* connect({ ...to({ host: "firstdead.test", ca }, port), servername: "localhost" })
          yield* connection.send({ from: "ann@client.test", to: "bob@mx.test" }, "x")
          assert.strictEqual((yield* awaitReceived(1)).length, 1)
        }).pipe(Effect.provide([connector, second]))
      }))
  })

  it.live("leaves no process, port or file behind", () =>
    leavesNothing(DnsServer.DnsServer, DnsServer.layer, ({ port }) => [port]))
})

describe("the fake server takes the same calls", () => {
  layer(SmtpServer.layer(), live)("in memory", (it) => {
    it.effect("with STARTTLS and AUTH PLAIN", () =>
      Effect.gen(function*() {
        const { awaitReceived } = yield* SmtpServer.SmtpServer
        const connection = yield* connect({ host: "mx.test", auth: password(alice), mechanisms: ["PLAIN"] })
        yield* connection.send({ from: "ann@client.test", to: "alice@mx.test" }, messageFor("1"))
        assert.strictEqual((yield* awaitReceived(1))[0]?.text, messageFor("1"))
      }))
  })

  layer(Layer.mergeAll(NodeSmtpServer.layerLoopback(), NodeConnector.layer), live)("on loopback", (it) => {
    it.effect("with STARTTLS and AUTH PLAIN", () =>
      Effect.gen(function*() {
        const server = yield* NodeSmtpServer.NodeSmtpServer
        const options = { ...to(server, server.port), auth: password(alice), mechanisms: ["PLAIN"] }
        yield* (yield* connect(options)).send({ from: "ann@client.test", to: "alice@mx.test" }, messageFor("1"))
        assert.strictEqual((yield* server.awaitReceived(1))[0]?.text, messageFor("1"))
      }))
  })
})
