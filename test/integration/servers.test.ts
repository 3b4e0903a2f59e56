import { assert, describe, it, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Dns from "effect/net/Dns"
import * as NetAddress from "effect/net/NetAddress"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import { spawn } from "node:child_process"
import { randomUUID } from "node:crypto"
import { existsSync } from "node:fs"
import { fileURLToPath } from "node:url"
import * as NodeConnector from "../../src/node/NodeConnector.ts"
import * as NodeSmtpServer from "../../src/node/NodeSmtpServer.ts"
import * as Sasl from "../../src/Sasl.ts"
import * as SmtpConnection from "../../src/SmtpConnection.ts"
import type * as SmtpError from "../../src/SmtpError.ts"
import * as SmtpServer from "../../src/testing/SmtpServer.ts"
import {
  type Account,
  accounts,
  type Daemon,
  describeServer,
  DnsServer,
  Dovecot,
  Postfix,
  recipients,
  type Server,
  SmtpServerNpm,
  SmtpSink,
  type Store
} from "./servers/index.ts"
import { isRunning } from "./servers/daemon.ts"
import { answers, until } from "./servers/place.ts"

const live = { excludeTestServices: true } as const

const [alice] = accounts

const password = ({ password, username }: Account) => Sasl.password({ username, password: Redacted.make(password) })

const connect = (options: SmtpConnection.Options) =>
  SmtpConnection.make({ name: "client.test", timeouts: { total: "20 seconds" }, ...options })

/** Over STARTTLS, verified. */
const to = ({ ca, host }: { readonly host: string; readonly ca: string }, port: number): SmtpConnection.Options => ({
  host,
  port,
  tlsOptions: { ca }
})

const inClear = ({ host }: { readonly host: string }, port: number): SmtpConnection.Options => ({
  host,
  port,
  tls: "off"
})

/** What a transparent server gives back as it is: dots, a long line, an empty line at the end. */
const messageFor = (id: string): string =>
  `Subject: ${id}\r\nFrom: <ann@client.test>\r\n\r\n.\r\n..two\r\n${"x".repeat(900)}\r\n.dot last\r\n\r\n`

/** Sends a message and reads it back. */
const roundTrip = Effect.fnUntraced(function*(
  store: Store,
  options: SmtpConnection.Options,
  recipient = "alice@mx.test"
) {
  const connection = yield* connect(options)
  const id = randomUUID()
  yield* connection.send({ from: "ann@client.test", to: recipient }, messageFor(id))
  const [mail] = yield* store.awaitStored((one) => Buffer.from(one.bytes).includes(id))
  assert.strictEqual(Buffer.from(mail?.bytes ?? []).toString("latin1"), messageFor(id))
  assert.strictEqual(mail?.sender, "ann@client.test")
  assert.deepStrictEqual(mail?.recipients, [recipient])
  return connection
})

const fate = (options: SmtpConnection.Options, recipient: string) =>
  Effect.flatMap(connect(options), (connection) =>
    Effect.flip(connection.send({ from: "ann@client.test", to: recipient }, "x")))

const codeOf = (error: SmtpError.SmtpError): readonly [string, number | undefined] => [error._tag, error.responseCode]

/** Builds the layer, looks at it, closes it, and looks at what is left. */
const goesDown = <I, S extends { readonly host: string }>(
  tag: Context.Key<I, S>,
  layer: Layer.Layer<I>,
  ports: (server: S) => ReadonlyArray<number>
) =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    const server = Context.get(yield* Layer.buildWithScope(layer, scope), tag)
    const reached = () => Effect.forEach(ports(server), (port) => answers(server.host, port))
    assert.isTrue((yield* reached()).every((one) => one), "every port answers")
    yield* Scope.close(scope, Exit.void)
    assert.isTrue((yield* reached()).every((one) => !one), "every port refuses")
    return server
  })

/** The same of a daemon, with its processes and files. */
const leavesNothing = <I, S extends Daemon & { readonly host: string }>(
  tag: Context.Key<I, S>,
  layer: Layer.Layer<I>,
  ports: (server: S) => ReadonlyArray<number>
) =>
  Effect.gen(function*() {
    let ids: ReadonlyArray<number> = []
    const watched = Layer.tap(layer, (context) =>
      Effect.map(Context.get(context, tag).processes, (found) => {
        ids = found
      }))
    const server = yield* goesDown(tag, watched, ports)
    assert.isAbove(ids.length, 0)
    assert.isTrue(yield* until(() => !ids.some(isRunning), 2000), "its processes are gone")
    assert.isFalse(existsSync(server.folder), "its folder is gone")
  })

const valuesOf = (server: Pick<Server<string>, "ports">): ReadonlyArray<number> => Object.values(server.ports)

describeServer("Postfix", () => {
  layer(Layer.mergeAll(Postfix.layer, NodeConnector.layer), live)("a running Postfix", (it) => {
    it.effect("says who it is", () =>
      Effect.gen(function*() {
        const { describe } = yield* Postfix.Postfix
        assert.strictEqual(describe.name, "Postfix")
        assert.match(describe.version, /^3\.\d/)
      }))

    it.effect("stores a message that came over STARTTLS", () =>
      Effect.gen(function*() {
        const server = yield* Postfix.Postfix
        const connection = yield* roundTrip(server, to(server, server.ports.smtp))
        assert.isTrue(connection.secure)
        assert.deepStrictEqual(connection.capabilities.auth, [])
      }))

    it.effect("stores a message that came over implicit TLS from a user", () =>
      Effect.gen(function*() {
        const server = yield* Postfix.Postfix
        const options = { ...to(server, server.ports.smtps), tls: "implicit", auth: password(alice) } as const
        yield* roundTrip(server, options, "somebody@elsewhere.example")
        const [mail] = yield* server.awaitStored((one) => one.username === "alice@mx.test")
        assert.match(mail?.trace ?? "", /^Received: from client\.test .*with ESMTPSA/s)
      }))

    for (const account of accounts) {
      for (const mechanism of ["PLAIN", "LOGIN"]) {
        it.effect(`logs ${account.username} in by ${mechanism} on the submission port`, () =>
          Effect.gen(function*() {
            const server = yield* Postfix.Postfix
            const options = { ...to(server, server.ports.submission), auth: password(account), mechanisms: [mechanism] }
            const connection = yield* connect(options)
            assert.isTrue(connection.secure)
            yield* connection.send({ from: "ann@client.test", to: "bob@mx.test" }, "x")
          }))
      }
    }

    it.effect("refuses a wrong password", () =>
      Effect.gen(function*() {
        const server = yield* Postfix.Postfix
        const auth = password({ username: "alice", password: "wrong" })
        const error = yield* Effect.flip(connect({ ...to(server, server.ports.submission), auth, mechanisms: ["PLAIN"] }))
        assert.deepStrictEqual(codeOf(error), ["EAUTH", 535])
      }))

    it.effect("refuses to relay for nobody, and to submit without a login", () =>
      Effect.gen(function*() {
        const server = yield* Postfix.Postfix
        const relay = yield* fate(to(server, server.ports.smtp), "somebody@elsewhere.example")
        assert.deepStrictEqual(codeOf(relay), ["EENVELOPE", 554])
        const submission = yield* fate(to(server, server.ports.submission), "alice@mx.test")
        assert.deepStrictEqual(codeOf(submission), ["EENVELOPE", 554])
      }))

    for (
      const [name, expected] of [
        ["reject", ["EENVELOPE", 550]],
        ["defer", ["EENVELOPE", 450]],
        ["full", ["EENVELOPE", 452]],
        ["disc421", ["ECONNECTION", 421]],
        ["notNow", ["EENVELOPE", 451]],
        ["bigData", ["EMESSAGE", 552]]
      ] as const
    ) {
      it.effect(`has the fate for the recipient ${name}`, () =>
        Effect.gen(function*() {
          const server = yield* Postfix.Postfix
          assert.deepStrictEqual(codeOf(yield* fate(to(server, server.ports.smtp), recipients[name])), expected)
        }))
    }

    it.effect("has ports that offer less", () =>
      Effect.gen(function*() {
        const server = yield* Postfix.Postfix
        const offered = (port: number) =>
          Effect.map(
            connect({ ...to(server, port), tls: "opportunistic" }),
            ({ capabilities }) => [...capabilities.extensions.keys()]
          )
        assert.deepStrictEqual(yield* offered(server.ports.minimal), ["SIZE"])
        const bare = yield* offered(server.ports.noPipelining)
        assert.notIncludeMembers(bare, ["PIPELINING", "CHUNKING"])
        assert.includeMembers(bare, ["DSN", "SMTPUTF8"])
        const small = yield* connect(to(server, server.ports.small))
        assert.strictEqual(small.capabilities.sizeLimit, Postfix.smallSize)
      }))

    it.effect("has a port with an AUTH= line and TLS 1.2, and one that offers AUTH in clear", () =>
      Effect.gen(function*() {
        const server = yield* Postfix.Postfix
        const legacy = yield* connect({ ...to(server, server.ports.legacyAuth), auth: password(alice) })
        assert.strictEqual((yield* Effect.fromOption(legacy.security)).protocol, "TLSv1.2")
        const clear = yield* connect(inClear(server, server.ports.insecureAuth))
        assert.include(clear.capabilities.auth, "PLAIN")
      }))

    it.effect("takes the client certificate of its CA alone", () =>
      Effect.gen(function*() {
        const server = yield* Postfix.Postfix
        const options = ({ cert, key }: typeof server.client): SmtpConnection.Options => ({
          host: server.host,
          port: server.ports.clientCertificate,
          tls: "implicit",
          tlsOptions: { ca: server.ca, cert, key: Redacted.make(key) }
        })
        yield* roundTrip(server, options(server.client), "somebody@elsewhere.example")
        const refused = yield* Effect.flip(connect(options(server.otherClient)))
        assert.deepStrictEqual(codeOf(refused), ["ECONNECTION", 421])
      }))

    for (
      const name of ["expired", "notYet", "wrongHost", "selfSigned", "untrusted", "noChain"] as const
    ) {
      it.effect(`presents a certificate that does not verify: ${name}`, () =>
        Effect.gen(function*() {
          const server = yield* Postfix.Postfix
          const error = yield* Effect.flip(connect({ ...to(server, server.ports[name]), servername: "localhost" }))
          assert.strictEqual(error._tag, "ETLS")
        }))
    }

    it.effect("presents a chain that does, and a certificate that names its host in the subject alone", () =>
      Effect.gen(function*() {
        const server = yield* Postfix.Postfix
        assert.isTrue((yield* connect(to(server, server.ports.chain))).secure)
        const tlsOptions = { ca: server.ca, rejectUnauthorized: false }
        const connection = yield* connect({ ...to(server, server.ports.cnOnly), tlsOptions })
        const { peerCertificate } = yield* Effect.fromOption(connection.security)
        assert.deepStrictEqual([peerCertificate?.subject, peerCertificate?.subjectAltName], ["CN=localhost", ""])
      }))

    it.effect("comes back on its ports after a stop, with what it stored", () =>
      Effect.gen(function*() {
        const server = yield* Postfix.Postfix
        yield* roundTrip(server, to(server, server.ports.smtp))
        yield* server.stop
        assert.deepStrictEqual(yield* server.processes, [])
        assert.isFalse(yield* answers(server.host, server.ports.smtp))
        const before = (yield* server.stored).length
        yield* server.start
        yield* roundTrip(server, to(server, server.ports.smtp))
        assert.isAbove((yield* server.stored).length, before)
      }))
  })

  it.live("leaves no process, port or file behind", () => leavesNothing(Postfix.Postfix, Postfix.layer, valuesOf))

  it.live("goes with the process that started it, even by SIGKILL", () =>
    Effect.gen(function*() {
      const child = spawn(process.execPath, [fileURLToPath(new URL("servers/hold.ts", import.meta.url))])
      const { folder, ids } = yield* Effect.callback<{ readonly folder: string; readonly ids: ReadonlyArray<number> }>(
        (resume) => {
          child.stdout.once("data", (text: Buffer) => resume(Effect.succeed(JSON.parse(text.toString()))))
          child.once("close", () => resume(Effect.die(new Error("the process ended by itself"))))
        }
      )
      assert.isTrue(ids.every(isRunning))
      child.kill("SIGKILL")
      assert.isTrue(yield* until(() => !ids.some(isRunning) && !existsSync(folder), 10_000))
    }))
})

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

describeServer("Dovecot", () => {
  layer(Layer.mergeAll(Dovecot.layer, NodeConnector.layer), live)("a running Dovecot", (it) => {
    it.effect("says who it is", () =>
      Effect.gen(function*() {
        const { describe } = yield* Dovecot.Dovecot
        assert.strictEqual(describe.name, "Dovecot")
        assert.match(describe.version, /^2\.\d/)
      }))

    it.effect("relays a submission over STARTTLS with AUTH PLAIN", () =>
      Effect.gen(function*() {
        const server = yield* Dovecot.Dovecot
        const options = { ...to(server, server.ports.submission), auth: password(alice), mechanisms: ["PLAIN"] }
        assert.isTrue((yield* roundTrip(server, options)).secure)
      }))

    for (const account of accounts) {
      it.effect(`logs ${account.username} in over implicit TLS`, () =>
        Effect.gen(function*() {
          const server = yield* Dovecot.Dovecot
          const options = { ...to(server, server.ports.submissions), tls: "implicit", mechanisms: ["PLAIN"] } as const
          yield* connect({ ...options, auth: password(account) })
          const wrong = password({ ...account, password: "wrong" })
          assert.strictEqual((yield* Effect.flip(connect({ ...options, auth: wrong })))._tag, "EAUTH")
        }))
    }

    it.effect("offers AUTH before STARTTLS to a client it trusts, and to no other", () =>
      Effect.gen(function*() {
        const server = yield* Dovecot.Dovecot
        const offered = (host: string) =>
          Effect.map(connect({ host, port: server.ports.submission, tls: "off" }), (one) => one.capabilities.auth)
        assert.include(yield* offered(server.trustedHost), "PLAIN")
        assert.notInclude(yield* offered(server.host), "PLAIN")
      }))

    it.effect("takes a token of its issuer, and none that has expired", () =>
      Effect.gen(function*() {
        const server = yield* Dovecot.Dovecot
        const login = (token: string) =>
          connect({
            ...to(server, server.ports.submission),
            auth: Sasl.oauth2({ username: "alice", token: Redacted.make(token) })
          })
        yield* login(server.token("alice"))
        assert.strictEqual((yield* Effect.flip(login(server.token("alice", -60))))._tag, "EAUTH")
        assert.strictEqual((yield* Effect.flip(login(`${server.token("alice")}x`)))._tag, "EAUTH")
      }))

    it.effect("takes a client certificate for EXTERNAL", () =>
      Effect.gen(function*() {
        const server = yield* Dovecot.Dovecot
        const { cert, key } = server.client
        yield* connect({
          host: server.host,
          port: server.ports.submission,
          tlsOptions: { ca: server.ca, cert, key: Redacted.make(key) },
          auth: Sasl.external()
        })
      }))

    it.effect("refuses to submit without a login", () =>
      Effect.gen(function*() {
        const server = yield* Dovecot.Dovecot
        const error = yield* fate(to(server, server.ports.submission), "alice@mx.test")
        assert.deepStrictEqual(codeOf(error), ["ENOAUTH", 530])
      }))

    it.effect("delivers over LMTP, with STARTTLS and over TLS", () =>
      Effect.gen(function*() {
        const server = yield* Dovecot.Dovecot
        yield* roundTrip(server, { ...to(server, server.ports.lmtp), protocol: "lmtp" })
        yield* roundTrip(server, { ...to(server, server.ports.lmtps), protocol: "lmtp", tls: "implicit" })
      }))

    it.effect("refuses some recipients of an LMTP message and delivers to the others", () =>
      Effect.gen(function*() {
        const server = yield* Dovecot.Dovecot
        const connection = yield* connect({ ...to(server, server.ports.lmtp), protocol: "lmtp" })
        const id = randomUUID()
        const result = yield* connection.send(
          { from: "", to: ["dave+detail@mx.test", recipients.reject, recipients.defer, "bob@mx.test"] },
          messageFor(id)
        )
        assert.deepStrictEqual(result.accepted, ["dave+detail@mx.test", "bob@mx.test"])
        assert.deepStrictEqual(result.rejectedErrors.map((one) => one.responseCode), [550, 451])
        const mails = yield* server.awaitStored((one) => Buffer.from(one.bytes).includes(id), 2)
        assert.sameMembers(mails.flatMap((one) => one.recipients), ["dave@mx.test", "bob@mx.test"])
        assert.deepStrictEqual(mails.map((one) => one.sender), ["", ""])
      }))

    it.effect("comes back on its ports after a stop", () =>
      Effect.gen(function*() {
        const server = yield* Dovecot.Dovecot
        yield* server.stop
        assert.isFalse(yield* answers(server.host, server.ports.lmtp))
        yield* server.start
        yield* roundTrip(server, { ...to(server, server.ports.lmtp), protocol: "lmtp" })
      }))
  })

  it.live("leaves no process, port or file behind", () => leavesNothing(Dovecot.Dovecot, Dovecot.layer, valuesOf))
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
        assert.sameMembers(mx.map((one) => `${one.priority} ${one.exchange}`), ["10 mx.test.", "20 mx2.test.", "20 mx3.test."])
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
