import { assert, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import { spawn } from "node:child_process"
import { existsSync } from "node:fs"
import { fileURLToPath } from "node:url"
import * as NodeConnector from "../../src/node/NodeConnector.ts"
import type * as SmtpConnection from "../../src/SmtpConnection.ts"
import { isRunning } from "./servers/daemon.ts"
import { accounts, describeServer, Postfix, recipients } from "./servers/index.ts"
import { answers, until } from "./servers/place.ts"
import {
  alice,
  codeOf,
  connect,
  fate,
  inClear,
  leavesNothing,
  live,
  password,
  roundTrip,
  to,
  valuesOf
} from "./servers/probe.ts"

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
        const error = yield* Effect.flip(
          connect({ ...to(server, server.ports.submission), auth, mechanisms: ["PLAIN"] })
        )
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
        // Refused at the end of the envelope: of a message that goes with it, that is the reply to BDAT.
        ["notNow", ["EMESSAGE", 451]],
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
        const strict = yield* connect(to(server, server.ports.strict))
        const many = Array.from({ length: 6 }, (_, n) => `user${n}@mx.test`)
        // 452 to the sixth: another transaction takes it, where the message can be read again.
        const { accepted } = yield* strict.send({ from: "ann@client.test", to: many }, "x")
        assert.deepStrictEqual(accepted, many)
        const { rejected, rejectedErrors } = yield* strict.send({ from: "ann@client.test", to: many }, Stream.make("x"))
        assert.deepStrictEqual(rejected, ["user5@mx.test"])
        assert.deepStrictEqual(rejectedErrors.map((one) => one.responseCode), [452])
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
