import { assert, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { randomUUID } from "node:crypto"
import * as NodeConnector from "../../src/node/NodeConnector.ts"
import * as Sasl from "../../src/Sasl.ts"
import { accounts, describeServer, Dovecot, recipients } from "./servers/index.ts"
import { answers } from "./servers/place.ts"
import {
  alice,
  codeOf,
  connect,
  fate,
  leavesNothing,
  live,
  messageFor,
  password,
  roundTrip,
  to,
  valuesOf
} from "./servers/probe.ts"

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
