import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Base64 from "effect/encoding/Base64"
import * as Hex from "effect/encoding/Hex"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as References from "effect/References"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import { createHmac } from "node:crypto"
import { inspect } from "node:util"
import * as Sasl from "../src/Sasl.ts"
import * as SmtpClient from "../src/SmtpClient.ts"
import * as SmtpConnection from "../src/SmtpConnection.ts"
import type { SmtpConnector } from "../src/SmtpConnector.ts"
import { type EAUTH, EOAUTH2, SmtpError } from "../src/SmtpError.ts"
import { SmtpServer } from "../src/testing/index.ts"
import { modes } from "./support/modes.ts"
import { assertHidden } from "./support/secrets.ts"
import { makeTracer } from "./support/spans.ts"

const { answer, at, reply } = SmtpServer

/** Runs a test against a fake server with this script. */
const withServer = <A, E>(
  script: SmtpServer.Script,
  test: Effect.Effect<A, E, SmtpConnector | SmtpServer.SmtpServer | Scope.Scope>
) => test.pipe(Effect.provide(SmtpServer.layer(script)))

const make = (options: SmtpConnection.Options = {}) =>
  SmtpConnection.make({ host: "mx.test", name: "me.test", ...options })
const refusal = (options: SmtpConnection.Options) => Effect.flip(make(options))

const base64 = (text: string): string => Buffer.from(text).toString("base64")
const accounts = { ann: "canary-password", bob: "canary-token" }
const ann = Sasl.password({ username: "ann", password: Redacted.make("canary-password") })
const wrong = Sasl.password({ username: "ann", password: Redacted.make("canary-mistake") })
const bob = Sasl.oauth2({ username: "bob", token: Redacted.make("canary-token") })
const revoked = Sasl.oauth2({ username: "bob", token: Redacted.make("canary-revoked") })
const mail = { from: "ann@me.test", to: "bob@mx.test" }

const server = SmtpServer.SmtpServer
const connections = Effect.flatMap(server, ({ connections }) => connections)

/** The client's lines of all connections, but EHLO and STARTTLS. */
const lines = Effect.map(
  connections,
  (all) =>
    all.flatMap(({ bytes }) => Buffer.from(bytes ?? []).toString("latin1").split("\r\n"))
      .filter((line) => !/^(EHLO|HELO|STARTTLS|$)/.test(line))
)

const facts = (error: SmtpError) => [error._tag, error.command, error.responseCode, error.isTemporary, error.attempted]
const tried = (error: SmtpError) => error._tag === "EAUTH" ? error.tried : undefined

/** The exchanges of a server of the test's own, line by line; undefined leaves the line to the fake. */
const exchange = (...answers: ReadonlyArray<SmtpServer.Answer | undefined>): SmtpServer.Script => {
  let next = 0
  return { respond: { auth: () => answers[next++] } }
}
const forEver = (given: SmtpServer.Answer): SmtpServer.Script => ({ respond: { auth: () => given } })

/** Everything a person or a program can get out of an error. */
const shown = (error: unknown): string => {
  const json = Schema.encodeUnknownResult(SmtpError)(error)
  return [String(error), JSON.stringify(error), inspect(error, { depth: 20, showHidden: true }), inspect(json)].join(
    "\n"
  )
}

describe("a login", () => {
  const cramDigest = /^ann [0-9a-f]{32}$/
  const table: ReadonlyArray<
    readonly [name: string, Sasl.Credentials, lines: ReadonlyArray<string | RegExp>, username: string]
  > = [
    ["PLAIN", ann, [`AUTH PLAIN ${base64("\0ann\0canary-password")}`], "ann"],
    ["LOGIN", ann, ["AUTH LOGIN", base64("ann"), base64("canary-password")], "ann"],
    ["CRAM-MD5", ann, ["AUTH CRAM-MD5", cramDigest], "ann"],
    ["XOAUTH2", bob, [`AUTH XOAUTH2 ${base64("user=bob\u0001auth=Bearer canary-token\u0001\u0001")}`], "bob"],
    ["EXTERNAL", Sasl.external({ authorizationId: "bob" }), [`AUTH EXTERNAL ${base64("bob")}`], "bob"],
    [
      "OAUTHBEARER",
      bob,
      [`AUTH OAUTHBEARER ${
        base64("n,a=bob,\u0001host=mx.test\u0001port=25\u0001auth=Bearer canary-token\u0001\u0001")
      }`],
      "bob"
    ],
    ["ANONYMOUS", Sasl.anonymous({ trace: "sirhc" }), ["AUTH ANONYMOUS c2lyaGM="], "anonymous"],
    ["ANONYMOUS", Sasl.anonymous(), ["AUTH ANONYMOUS ="], "anonymous"],
    ["SCRAM-SHA-256", ann, [/^AUTH SCRAM-SHA-256 eSwsbj1hbm4scj/, /^c=eSws,r=.{24,},p=/], "ann"],
    ["SCRAM-SHA-1-PLUS", ann, [/^AUTH SCRAM-SHA-1-PLUS cD10bHMtZXhwb3J0ZXIs/, /^c=cD10bHMt.*,p=/], "ann"],
    ["EXTERNAL", Sasl.external(), ["AUTH EXTERNAL ="], ""],
    [
      "PLAIN",
      Sasl.password({ username: "ann", password: Redacted.make("canary-password"), authorizationId: "carol" }),
      [`AUTH PLAIN ${base64("carol\0ann\0canary-password")}`],
      "ann"
    ]
  ]
  for (const [name, auth, expected, username] of table) {
    it.effect(`by ${name} says ${expected.length} lines, and the server knows ${username || "the certificate"}`, () =>
      withServer(
        { accounts, requireAuth: true, extensions: { auth: [name.toLowerCase(), "X-OTHER"] } },
        Effect.gen(function*() {
          const connection = yield* make({ auth })
          const said = yield* lines
          assert.strictEqual(said.length, expected.length)
          for (const [i, line] of expected.entries()) {
            if (typeof line === "string") assert.strictEqual(said[i], line)
            else assert.match(i === 0 ? said[i] ?? "" : Buffer.from(said[i] ?? "", "base64").toString(), line)
          }
          assert.strictEqual((yield* connections)[0]?.username, username)
          assert.deepStrictEqual((yield* connection.send(mail, "x")).accepted, ["bob@mx.test"])
        })
      ))
  }

  it.effect("whose initial response does not fit into a command line sends it after the empty challenge", () =>
    withServer(
      { extensions: { auth: ["XOAUTH2"] } },
      Effect.gen(function*() {
        const others = "user=bob\u0001auth=Bearer \u0001\u0001".length
        // Lengths of the response: with 496 the line has 511 octets, with 500 it would have 515.
        for (const [length, isDeferred] of [[496, false], [500, true], [4_000, true]] as const) {
          const token = "t".repeat(length / 4 * 3 - others)
          const response = base64(`user=bob\u0001auth=Bearer ${token}\u0001\u0001`)
          yield* Effect.scoped(make({ auth: Sasl.oauth2({ username: "bob", token: Redacted.make(token) }) }))
          const said = (yield* lines).slice(0, -1)
          assert.deepStrictEqual(
            said.slice(isDeferred ? -2 : -1),
            isDeferred ? ["AUTH XOAUTH2", response] : [`AUTH XOAUTH2 ${response}`],
            String(length)
          )
        }
      })
    ))

  it.effect.each(modes)(
    "after a refused transaction says RSET first, $name",
    ({ isGrouped, options, via }) =>
      withServer(
        { accounts, respond: { rcpt: () => reply(550, "no") } },
        Effect.gen(function*() {
          const connection = yield* make(options)
          yield* Effect.flip(connection.send(mail, ""))
          yield* connection.login(ann)
          const said = (yield* lines).map((line) => line.split(" ", 1)[0])
          // No chunk goes before it is known whether a login is waited for.
          const isAhead = isGrouped && via === "DATA"
          assert.deepStrictEqual(said, ["MAIL", "RCPT", ...(isAhead ? [via] : []), "RSET", "AUTH"])
        })
      )
  )

  it.effect("by CRAM-MD5 answers the challenge of this connection", () =>
    withServer(
      { ...exchange(reply(334, base64("<1896.697170952@postoffice.test>"))), accounts },
      Effect.gen(function*() {
        yield* Effect.result(make({ auth: ann, mechanisms: ["CRAM-MD5"] }))
        const digest = createHmac("md5", "canary-password").update("<1896.697170952@postoffice.test>").digest("hex")
        assert.strictEqual((yield* lines)[1], base64(`ann ${digest}`))
      })
    ))

  it.effect("that is wrong is EAUTH with what was tried, and the reply", () =>
    withServer(
      { accounts },
      Effect.gen(function*() {
        for (const mechanism of ["PLAIN", "LOGIN", "CRAM-MD5"]) {
          const error = yield* refusal({ auth: wrong, mechanisms: [mechanism] })
          assert.deepStrictEqual(facts(error), ["EAUTH", `AUTH ${mechanism}`, 535, false, true])
          assert.deepStrictEqual(tried(error), [mechanism])
          assert.strictEqual(error.enhancedCode, "5.7.8")
        }
        assert.strictEqual((yield* refusal({ auth: revoked })).responseCode, 535)
        assert.strictEqual((yield* refusal({ auth: Sasl.external({ authorizationId: "eve" }) })).responseCode, 535)
        yield* (yield* server).awaitClosed
      })
    ))

  it.effect("may come later, on an open connection", () =>
    withServer(
      { accounts, requireAuth: true },
      Effect.gen(function*() {
        const connection = yield* make()
        assert.strictEqual((yield* Effect.flip(connection.send(mail, "x")))._tag, "ENOAUTH")
        yield* connection.login(ann)
        assert.deepStrictEqual((yield* connection.send(mail, "x")).accepted, ["bob@mx.test"])
      })
    ))

  it.effect("that is refused leaves the connection usable, for a send and for another login", () =>
    withServer(
      { accounts },
      Effect.gen(function*() {
        const connection = yield* make()
        assert.strictEqual((yield* Effect.flip(connection.login(wrong))).responseCode, 535)
        assert.deepStrictEqual((yield* connection.send(mail, "x")).accepted, ["bob@mx.test"])
        assert.strictEqual((yield* Effect.flip(connection.login(revoked))).responseCode, 535)
        yield* connection.login(ann)
        assert.strictEqual((yield* connections)[0]?.username, "ann")
      })
    ))

  it.effect("that comes a second time is the server's to refuse, and the connection stays usable", () =>
    withServer(
      { accounts },
      Effect.gen(function*() {
        const connection = yield* make({ auth: ann })
        assert.deepStrictEqual(facts(yield* Effect.flip(connection.login(ann))), [
          "EAUTH",
          "AUTH PLAIN",
          503,
          false,
          true
        ])
        yield* connection.noop
      })
    ))

  it.effect("that fails in make says QUIT and leaves nothing open", () =>
    withServer(
      { accounts },
      Effect.gen(function*() {
        yield* refusal({ auth: wrong })
        yield* (yield* server).awaitClosed
        assert.strictEqual((yield* lines).at(-1), "QUIT")
      })
    ))

  it.effect("after quit is refused without a byte", () =>
    withServer(
      { accounts },
      Effect.gen(function*() {
        const connection = yield* make()
        yield* connection.quit
        const error = yield* Effect.flip(connection.login(ann))
        assert.deepStrictEqual(facts(error), ["ECONNECTION", "API", undefined, true, false])
        assert.deepStrictEqual(yield* lines, ["QUIT"])
      })
    ))
})

describe("the secret", () => {
  it.effect("that is an Effect is asked for once per login, at each login", () =>
    withServer(
      { accounts, extensions: { auth: ["LOGIN", "PLAIN"] }, faults: [at("auth", answer(504, "no"))] },
      Effect.gen(function*() {
        let asked = 0
        const password = Effect.sync(() => Redacted.make(++asked === 1 ? "canary-mistake" : "canary-password"))
        const credentials = Sasl.password({ username: "ann", password })
        assert.strictEqual(asked, 0)
        const connection = yield* make()
        const error = yield* Effect.flip(connection.login(credentials))
        assert.deepStrictEqual(tried(error), ["PLAIN", "LOGIN"])
        assert.strictEqual(asked, 1)
        yield* connection.login(credentials)
        assert.strictEqual(asked, 2)
      })
    ))

  it.effect("whose provider fails is that EOAUTH2, and nothing was said", () =>
    withServer(
      {},
      Effect.gen(function*() {
        const failure = new EOAUTH2({ command: "API", message: "no token", temporary: true })
        const connection = yield* make()
        const credentials = Sasl.oauth2({ username: "bob", token: Effect.fail(failure) })
        assert.strictEqual(yield* Effect.flip(connection.login(credentials)), failure)
        assert.deepStrictEqual(yield* lines, [])
        yield* connection.login(bob)
      })
    ))

  it.effect("is not asked for when nothing can be sent", () =>
    withServer(
      { extensions: { auth: ["PLAIN"], authBeforeTls: ["XOAUTH2"] } },
      Effect.gen(function*() {
        const token = Effect.sync(() => assert.fail("asked"))
        const credentials = Sasl.oauth2({ username: "bob", token })
        const failures = [
          refusal({ auth: credentials }),
          refusal({ auth: credentials, tls: "opportunistic" }),
          Effect.gen(function*() {
            const connection = yield* make({ tls: "opportunistic" })
            return yield* Effect.flip(connection.login(credentials))
          })
        ]
        for (const failure of failures) assert.strictEqual((yield* failure)._tag, "EAUTH")
        const connection = yield* make({ tls: "off", allowInsecureAuth: true })
        yield* connection.quit
        assert.strictEqual((yield* Effect.flip(connection.login(credentials)))._tag, "ECONNECTION")
      })
    ))

  it.effect("is not asked for after the connection was lost, nor waited for when it is lost meanwhile", () =>
    withServer(
      { faults: [at("noop", SmtpServer.drop, { connection: 1 })] },
      Effect.gen(function*() {
        const first = yield* make()
        assert.strictEqual((yield* Effect.flip(first.noop))._tag, "ECONNECTION")
        const asked = Sasl.oauth2({ username: "bob", token: Effect.sync(() => assert.fail("asked")) })
        assert.deepStrictEqual(facts(yield* Effect.flip(first.login(asked))), [
          "ECONNECTION",
          "AUTH",
          undefined,
          true,
          false
        ])
        const second = yield* make({ timeouts: { idle: "1 minute" } })
        let isInterrupted = false
        const token = Effect.onInterrupt(Effect.never, () =>
          Effect.sync(() => {
            isInterrupted = true
          }))
        const login = second.login(Sasl.oauth2({ username: "bob", token }))
        const fiber = yield* Effect.forkChild(Effect.flip(login), { startImmediately: true })
        yield* TestClock.adjust("1 minute")
        const error = yield* Fiber.join(fiber)
        assert.deepStrictEqual(facts(error), ["ETIMEDOUT", "AUTH", undefined, true, false])
        assert.strictEqual(isInterrupted, true)
      })
    ))

  it.effect("that is being waited for may be given up: the connection stays usable", () =>
    withServer(
      {},
      Effect.gen(function*() {
        const connection = yield* make()
        const gate = yield* Deferred.make<Redacted.Redacted<string>>()
        const login = connection.login(Sasl.oauth2({ username: "bob", token: Deferred.await(gate) }))
        const fiber = yield* Effect.forkChild(login, { startImmediately: true })
        yield* Fiber.interrupt(fiber)
        yield* connection.noop
      })
    ))

  for (
    const [field, credentials] of [
      ["credentials.username", Sasl.password({ username: "a\0b", password: Redacted.make("canary-password") })],
      ["credentials.password", Sasl.password({ username: "ann", password: Redacted.make("") })],
      ["credentials.token", Sasl.oauth2({ username: "ann", token: Redacted.make("canary token") })]
    ] as const
  ) {
    it.effect(`that cannot be said is EAUTH that names ${field}, and nothing was said`, () =>
      withServer(
        {},
        Effect.gen(function*() {
          const connection = yield* make()
          const error = yield* Effect.flip(connection.login(credentials))
          assert.deepStrictEqual(facts(error), ["EAUTH", "API", undefined, false, false])
          assert.strictEqual(error.field, field)
          assert.deepStrictEqual(yield* lines, [])
          yield* connection.noop
        })
      ))
  }

  it.effect("that makes a line too long is EAUTH, and the connection stays usable", () =>
    withServer(
      { accounts },
      Effect.gen(function*() {
        const connection = yield* make()
        const long = Sasl.password({ username: "ann", password: Redacted.make("x".repeat(9300)) })
        const error = yield* Effect.flip(connection.login(long))
        assert.deepStrictEqual(facts(error), ["EAUTH", "API", undefined, false, false])
        assert.match(error.message, /^AUTH PLAIN: command has \d+ octets; 12288 are allowed$/)
        assert.deepStrictEqual(yield* lines, [])
        yield* connection.noop
      })
    ))

  it.effect("that makes a later line too long cancels the exchange", () =>
    withServer(
      { accounts },
      Effect.gen(function*() {
        const connection = yield* make({ mechanisms: ["LOGIN"] })
        const long = Sasl.password({ username: "ann", password: Redacted.make("x".repeat(9300)) })
        const error = yield* Effect.flip(connection.login(long))
        assert.deepStrictEqual(facts(error), ["EAUTH", "AUTH LOGIN", undefined, false, true])
        assert.strictEqual(error.field, "options.auth")
        assert.deepStrictEqual(yield* lines, ["AUTH LOGIN", base64("ann"), "*"])
        yield* connection.login(ann)
      })
    ))
})

describe("the mechanism", () => {
  const first = (script: SmtpServer.Script, options: SmtpConnection.Options) =>
    withServer(script, Effect.andThen(make({ auth: ann, ...options }), Effect.map(lines, ([line]) => line)))
  const offering = (...auth: ReadonlyArray<string>): SmtpServer.Script => ({ extensions: { auth } })

  it.effect("is the strongest that is offered, or the first that mechanisms lists", () =>
    Effect.gen(function*() {
      const all = offering("CRAM-MD5", "LOGIN", "PLAIN")
      assert.match((yield* first(all, {})) ?? "", /^AUTH PLAIN /)
      assert.strictEqual(yield* first(offering("CRAM-MD5", "LOGIN"), {}), "AUTH LOGIN")
      assert.strictEqual(yield* first(offering("CRAM-MD5"), {}), "AUTH CRAM-MD5")
      assert.strictEqual(yield* first(all, { mechanisms: ["CRAM-MD5", "PLAIN"] }), "AUTH CRAM-MD5")
      assert.strictEqual(yield* first(all, { mechanisms: ["SCRAM-SHA-1", "login"] }), "AUTH LOGIN")
    }))

  it.effect("is bound to the channel where both sides can, else SCRAM before PLAIN", () =>
    Effect.gen(function*() {
      const word = (offered: ReadonlyArray<string>, options: SmtpConnection.Options = {}) =>
        first({ accounts, ...offering(...offered) }, options)
      const scram = ["PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512"]
      assert.match((yield* word(scram)) ?? "", /^AUTH SCRAM-SHA-512 /)
      assert.match((yield* word([...scram, "SCRAM-SHA-1-PLUS"])) ?? "", /^AUTH SCRAM-SHA-1-PLUS /)
      const listed = yield* word([...scram, "SCRAM-SHA-1-PLUS"], { mechanisms: ["SCRAM-SHA-256"] })
      assert.match(listed ?? "", /^AUTH SCRAM-SHA-256 biws/)
    }))

  it.effect("is none that does not bind to the channel where that is required", () =>
    Effect.gen(function*() {
      const required = { channelBinding: "required" } as const
      const everything = ["SCRAM-SHA-256", "PLAIN", "XOAUTH2", "EXTERNAL"]
      yield* withServer(
        { accounts, extensions: { auth: everything, authBeforeTls: ["SCRAM-SHA-256-PLUS"] } },
        Effect.gen(function*() {
          for (const auth of [ann, bob, Sasl.external()]) {
            const error = yield* refusal({ ...required, auth })
            assert.deepStrictEqual(facts(error), ["EAUTH", "API", undefined, false, false])
            assert.include(error.message, `channelBinding is "required"`)
          }
          const error = yield* refusal({ ...required, auth: ann, tls: "off", allowInsecureAuth: true })
          assert.deepStrictEqual(facts(error), ["EAUTH", "API", undefined, false, false])
          assert.include(error.message, `channelBinding: "required" needs TLS`)
          assert.deepStrictEqual((yield* lines).filter((line) => line !== "QUIT"), [])
        })
      )
      const bound = { accounts, ...offering(...everything, "SCRAM-SHA-256-PLUS") }
      assert.match((yield* first(bound, required)) ?? "", /^AUTH SCRAM-SHA-256-PLUS /)
    }))

  it.effect("that is refused gives way to the next, with a nonce of its own", () =>
    withServer(
      { accounts, ...offering("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"), faults: [at("auth", answer(504, "5.5.4 no"))] },
      Effect.gen(function*() {
        yield* make({ auth: ann })
        const [plus = "", scram = ""] = (yield* lines).filter((line) => line.startsWith("AUTH"))
        const said = [plus, scram].map((line) => Buffer.from(line.split(" ")[2] ?? "", "base64").toString())
        assert.match(said[0] ?? "", /^p=tls-exporter,,n=ann,r=/)
        assert.match(said[1] ?? "", /^n,,n=ann,r=/)
        assert.notStrictEqual(said[0]?.split("r=")[1], said[1]?.split("r=")[1])
        assert.strictEqual((yield* connections)[0]?.username, "ann")
      })
    ))

  it.effect("that cannot carry the credentials says nothing, and the next is tried", () =>
    withServer(
      { accounts: { ann: "canary\u{1f511}" }, ...offering("SCRAM-SHA-256", "PLAIN") },
      Effect.gen(function*() {
        const auth = Sasl.password({ username: "ann", password: Redacted.make("canary\u{1f511}") })
        yield* Effect.scoped(make({ auth }))
        const said = (yield* lines).map((line) => line.split(" ").slice(0, 2).join(" "))
        assert.deepStrictEqual(said, ["AUTH PLAIN", "QUIT"])
        const error = yield* refusal({ auth, minimumMechanism: "SCRAM-SHA-256" })
        assert.deepStrictEqual(facts(error), ["EAUTH", "API", undefined, false, false])
        assert.strictEqual(error.field, "credentials.password")
        assertHidden(error.message, "canary")
      })
    ))

  it.effect("is none but those that mechanisms lists and minimumMechanism allows", () =>
    withServer(
      { accounts, ...offering("LOGIN", "CRAM-MD5") },
      Effect.gen(function*() {
        for (const options of [{ mechanisms: ["PLAIN"] }, { minimumMechanism: "PLAIN" }]) {
          const error = yield* refusal({ auth: ann, ...options })
          assert.deepStrictEqual(facts(error), ["EAUTH", "API", undefined, false, false])
          assert.strictEqual(error.field, "options.auth")
          assert.include(error.message, "LOGIN, CRAM-MD5")
        }
        yield* make({ auth: ann, minimumMechanism: "LOGIN" })
        assert.deepStrictEqual((yield* lines).filter((line) => line.startsWith("AUTH")), ["AUTH LOGIN"])
      })
    ))

  for (const code of [504, 534, 538]) {
    it.effect(`that is refused with ${code} is followed by the next`, () =>
      withServer(
        { accounts, faults: [at("auth", answer(code, "5.7.9 too weak"))] },
        Effect.gen(function*() {
          yield* make({ auth: ann })
          assert.deepStrictEqual((yield* lines).slice(1), ["AUTH LOGIN", base64("ann"), base64("canary-password")])
        })
      ))
  }

  it.effect("is EAUTH when every one is refused, with the last reply and all that were tried", () =>
    withServer(
      forEver(reply(504, "5.5.4 no")),
      Effect.gen(function*() {
        const connection = yield* make()
        const error = yield* Effect.flip(connection.login(ann))
        assert.deepStrictEqual(facts(error), ["EAUTH", "AUTH", 504, false, true])
        assert.deepStrictEqual(tried(error), ["PLAIN", "LOGIN", "CRAM-MD5"])
        yield* connection.noop
      })
    ))

  it.effect("that cannot carry the credentials, after one that was refused, says that something was sent", () =>
    withServer(
      { faults: [at("auth", answer(504, "no"))] },
      Effect.gen(function*() {
        const auth = Sasl.password({ ...ann, authorizationId: "carol" })
        const error = yield* refusal({ auth })
        assert.deepStrictEqual(facts(error), ["EAUTH", "API", undefined, false, true])
        assert.strictEqual(error.field, "credentials.authorizationId")
      })
    ))

  for (const [code, isTemporary] of [[454, true], [432, true], [535, false], [530, false], [500, false]] as const) {
    it.effect(`that is answered with ${code} is EAUTH at once: no other is tried`, () =>
      withServer(
        forEver(reply(code, "no")),
        Effect.gen(function*() {
          const connection = yield* make()
          const error = yield* Effect.flip(connection.login(ann))
          assert.deepStrictEqual(facts(error), ["EAUTH", "AUTH PLAIN", code, isTemporary, true])
          assert.deepStrictEqual(tried(error), ["PLAIN"])
          assert.strictEqual((yield* lines).length, 1)
          yield* connection.noop
        })
      ))
  }

  for (
    const [code, tag] of [[421, "ECONNECTION"], [250, "EPROTOCOL"], [220, "EPROTOCOL"], [354, "EPROTOCOL"]] as const
  ) {
    it.effect(`that is answered with ${code} is ${tag}, and the connection is closed`, () =>
      withServer(
        forEver(reply(code, "hm")),
        Effect.gen(function*() {
          const connection = yield* make()
          assert.deepStrictEqual(facts(yield* Effect.flip(connection.login(ann))).slice(0, 3), [
            tag,
            "AUTH PLAIN",
            code
          ])
          yield* (yield* server).awaitClosed
          assert.strictEqual((yield* Effect.flip(connection.noop)).attempted, false)
        })
      ))
  }

  it.effect("that the server has none of is EAUTH before any AUTH", () =>
    withServer(
      { extensions: { auth: false } },
      Effect.gen(function*() {
        const error = yield* refusal({ auth: ann })
        assert.deepStrictEqual(facts(error), ["EAUTH", "API", undefined, false, false])
        assert.deepStrictEqual(yield* lines, ["QUIT"])
      })
    ))

  it.effect("that the server names with controls in it shows them escaped", () =>
    withServer(
      { extensions: { auth: ["X\u001b[2J"] } },
      Effect.map(refusal({ auth: ann }), ({ message }) => assert.notInclude(message, "\u001b"))
    ))
})

describe("an exchange", () => {
  const cancelled = (script: SmtpServer.Script, credentials: Sasl.Credentials, options: SmtpConnection.Options = {}) =>
    withServer(
      script,
      Effect.gen(function*() {
        const connection = yield* make(options)
        const error = yield* Effect.flip(connection.login(credentials))
        assert.strictEqual((yield* lines).at(-1), "*")
        yield* connection.noop
        return error
      })
    )
  const challenge = reply(334, base64("more"))

  it.effect("that goes on after all was said is cancelled with *", () =>
    Effect.gen(function*() {
      const cases: ReadonlyArray<readonly [Sasl.Credentials, string, number]> = [
        [ann, "PLAIN", 1],
        [ann, "LOGIN", 3],
        [ann, "CRAM-MD5", 2],
        [Sasl.external(), "EXTERNAL", 1]
      ]
      for (const [credentials, mechanism, challenges] of cases) {
        const script = exchange(...Array.from({ length: challenges }, () => challenge), reply(501, "cancelled"))
        const error = yield* cancelled(script, credentials, { mechanisms: [mechanism] })
        assert.deepStrictEqual(facts(error), ["EAUTH", `AUTH ${mechanism}`, undefined, false, true])
        assert.include(error.message, "more than the mechanism has to say")
        assert.deepStrictEqual(tried(error), [mechanism])
      }
    }))

  it.effect("that never ends is ended: a server that challenges for ever loses the connection", () =>
    withServer(
      forEver(challenge),
      Effect.gen(function*() {
        for (const auth of [ann, bob, Sasl.external()]) {
          const error = yield* refusal({ auth })
          assert.deepStrictEqual(error._tag, "EPROTOCOL")
        }
        yield* (yield* server).awaitClosed
        assert.isBelow((yield* lines).length, 12)
      })
    ))

  const talker = (said: number): Sasl.Session => ({
    step: () =>
      Result.succeed({
        _tag: "Respond",
        response: Redacted.make(new TextEncoder().encode(`line ${said}`)),
        next: talker(said + 1)
      }),
    finish: () => Result.void
  })
  const endless: Sasl.Mechanism = {
    name: "X-ENDLESS",
    kind: "custom",
    isPlaintext: false,
    clientFirst: false,
    start: () => Result.succeed(talker(1))
  }

  it.effect("of a mechanism that never ends either is bounded", () =>
    Effect.gen(function*() {
      const answers = Array.from({ length: 9 }, () => challenge)
      const script = { ...exchange(...answers, reply(501, "cancelled")), extensions: { auth: ["X-ENDLESS"] } }
      const error = yield* cancelled(script, Sasl.custom({ mechanism: endless }))
      assert.strictEqual(error.message, "AUTH X-ENDLESS: the server sent more than 8 challenges")
    }))

  for (const [name, code] of [["a challenge too many", 334], ["the refusal of a mechanism", 504]] as const) {
    it.effect(`says that it was attempted when the connection is lost with ${name}`, () =>
      withServer(
        { ...forEver(reply(code, "no")), faults: [at("auth", SmtpServer.surplus())] },
        Effect.gen(function*() {
          const error = yield* refusal({ auth: ann, mechanisms: ["PLAIN", "LOGIN"] })
          assert.deepStrictEqual([error._tag, error.attempted], ["EPROTOCOL", true])
        })
      ))
  }

  it.effect("whose challenge is not base64 is cancelled with *", () =>
    Effect.gen(function*() {
      for (const text of ["Username:", "YQ", "YQ==YQ==", "Y Q==", "YR==", "*", "é"]) {
        const script = exchange(reply(334, text), reply(501, "cancelled"))
        const error = yield* cancelled(script, ann, { mechanisms: ["CRAM-MD5"] })
        assert.strictEqual(error.message, "AUTH CRAM-MD5: the server's challenge is not base64")
      }
      const script = exchange(reply(334, "A".repeat(12_292)), reply(501, "cancelled"))
      assert.include((yield* cancelled(script, ann, { mechanisms: ["CRAM-MD5"] })).message, "longer than 12288")
    }))

  it.effect("by LOGIN takes prompts in plain text, as some servers send them", () =>
    Effect.gen(function*() {
      for (const [username, password] of [["Username:", "Password:"], ["", ""], ["VXNlcm5hbWU6", "é"]] as const) {
        const script = exchange(reply(334, username), reply(334, password), reply(235, "welcome"))
        yield* withServer(
          script,
          Effect.gen(function*() {
            yield* make({ auth: ann, mechanisms: ["LOGIN"] })
            assert.deepStrictEqual(yield* lines, ["AUTH LOGIN", base64("ann"), base64("canary-password")])
          })
        )
      }
    }))

  for (
    const [mechanism, answers] of [
      ["CRAM-MD5", [reply(235, "welcome")]],
      ["LOGIN", [reply(235, "welcome")]],
      ["LOGIN", [reply(334, "VXNlcm5hbWU6"), reply(235, "welcome")]]
    ] as const
  ) {
    it.effect(`by ${mechanism} that succeeds after ${answers.length - 1} challenges is not believed`, () =>
      withServer(
        exchange(...answers),
        Effect.gen(function*() {
          const connection = yield* make({ mechanisms: [mechanism] })
          const error = yield* Effect.flip(connection.login(ann))
          assert.deepStrictEqual(facts(error), ["EAUTH", `AUTH ${mechanism}`, undefined, false, true])
          assert.include(error.message, "before the exchange was complete")
          yield* (yield* server).awaitClosed
        })
      ))
  }

  it.effect("whose cancellation is not answered with a refusal closes the connection", () =>
    withServer(
      forEver(reply(334, "?")),
      Effect.gen(function*() {
        const error = yield* refusal({ auth: ann, mechanisms: ["CRAM-MD5"] })
        assert.deepStrictEqual(facts(error).slice(0, 3), ["EPROTOCOL", "AUTH CRAM-MD5", 334])
        yield* (yield* server).awaitClosed
      })
    ))

  it.effect("whose cancellation is answered with 421 is ECONNECTION", () =>
    withServer(
      exchange(reply(334, "?"), reply(421, "bye")),
      Effect.gen(function*() {
        assert.strictEqual((yield* refusal({ auth: ann, mechanisms: ["CRAM-MD5"] }))._tag, "ECONNECTION")
      })
    ))

  it.effect("in which the server says 421, drops or falls silent ends the connection", () =>
    withServer(
      {
        faults: [
          at("authContinue", answer(421, "bye"), { connection: 1 }),
          at("authContinue", SmtpServer.drop, { connection: 2 }),
          at("authContinue", SmtpServer.reset, { connection: 3 }),
          at("authContinue", SmtpServer.garbage(), { connection: 4 }),
          at("authContinue", SmtpServer.silence, { connection: 5 })
        ]
      },
      Effect.gen(function*() {
        for (const tag of ["ECONNECTION", "ECONNECTION", "ESOCKET", "EPROTOCOL", "ETIMEDOUT"]) {
          const failing = refusal({ auth: ann, mechanisms: ["LOGIN"] })
          const fiber = yield* Effect.forkChild(failing, { startImmediately: true })
          if (tag === "ETIMEDOUT") yield* TestClock.adjust("5 minutes")
          const error = yield* Fiber.join(fiber)
          assert.deepStrictEqual([error._tag, error.command, error.attempted], [tag, "AUTH LOGIN", true])
          yield* (yield* server).awaitClosed
        }
      })
    ))
})

describe("XOAUTH2", () => {
  it.effect("reads the error of the server, answers it with an empty line, and tells it", () =>
    withServer(
      { accounts },
      Effect.gen(function*() {
        const connection = yield* make()
        const error = yield* Effect.flip(connection.login(revoked))
        assert.deepStrictEqual(facts(error), ["EAUTH", "AUTH XOAUTH2", 535, false, true])
        assert.deepStrictEqual((error as EAUTH).oauth2, {
          status: "400",
          schemes: "Bearer",
          scope: "https://mail.test/"
        })
        assert.include(error.message, "token refused (status 400)")
        const bytes = Buffer.from((yield* connections)[0]?.bytes ?? []).toString()
        assert.match(bytes, /AUTH XOAUTH2 \S+\r\n\r\n$/)
        yield* connection.noop
      })
    ))

  const failure = (text: string) =>
    withServer(
      exchange(reply(334, base64(text)), reply(535, "5.7.8 refused")),
      Effect.map(refusal({ auth: revoked }), (error) => error as EAUTH)
    )

  it.effect("bounds and escapes what the server says of a token, and never repeats the token", () =>
    Effect.gen(function*() {
      const said = { status: "\u001b[2J401", schemes: "x".repeat(2000), scope: "for canary-revoked" }
      const { oauth2 } = yield* failure(JSON.stringify(said))
      assert.deepStrictEqual(oauth2, {
        status: "\\u{1b}[2J401",
        schemes: "x".repeat(200),
        scope: "for <redacted>"
      })
      for (const text of ["", "not JSON", "[]", "null", "{}", `{"status":{}}`, "x".repeat(4000)]) {
        const error = yield* failure(text)
        assert.deepStrictEqual([error._tag, error.responseCode, error.oauth2], ["EAUTH", 535, undefined])
      }
    }))

  it.effect("does not believe success after a refused token", () =>
    withServer(
      exchange(reply(334, base64(`{"status":"401"}`)), reply(235, "welcome")),
      Effect.gen(function*() {
        const error = yield* refusal({ auth: revoked })
        assert.include(error.message, "success after it had refused the token")
        yield* (yield* server).awaitClosed
      })
    ))
})

describe("OAUTHBEARER", () => {
  it.effect("answers the error of the server with ^A, and tells it", () =>
    withServer(
      { accounts, extensions: { auth: ["XOAUTH2", "OAUTHBEARER"] } },
      Effect.gen(function*() {
        const connection = yield* make()
        const error = yield* Effect.flip(connection.login(revoked))
        assert.deepStrictEqual(facts(error), ["EAUTH", "AUTH OAUTHBEARER", 535, false, true])
        assert.strictEqual((error as EAUTH).oauth2?.status, "400")
        assert.deepStrictEqual(tried(error), ["OAUTHBEARER"])
        assert.strictEqual((yield* lines).at(-1), "AQ==")
        assert.strictEqual(error.response, "5.7.8 token refused")
        yield* connection.login(bob)
        assert.strictEqual((yield* connections)[0]?.username, "bob")
      })
    ))

  it.effect("that is refused as a mechanism is followed by XOAUTH2", () =>
    withServer(
      { accounts, extensions: { auth: ["XOAUTH2", "OAUTHBEARER"] }, faults: [at("auth", answer(504, "no"))] },
      Effect.gen(function*() {
        yield* make({ auth: bob })
        assert.deepStrictEqual((yield* lines).map((line) => line.split(" ")[1]), ["OAUTHBEARER", "XOAUTH2"])
      })
    ))
})

describe("SCRAM (S13)", () => {
  /** A server that says what the test says, with the client's nonce in place of NONCE. */
  const scripted = (...answers: ReadonlyArray<string | SmtpServer.Answer>): SmtpServer.Script => {
    let nonce = ""
    let next = 0
    return {
      extensions: { auth: ["SCRAM-SHA-256", "PLAIN"] },
      respond: {
        auth: ({ argument, verb }) => {
          const word = Buffer.from(argument.split(" ").at(-1) ?? "", "base64").toString()
          if (verb === "AUTH" && argument.startsWith("SCRAM")) nonce = word.split(",r=")[1] ?? ""
          const said = answers[next++] ?? reply(501, "cancelled")
          return typeof said === "string" ? reply(334, base64(said.replaceAll("NONCE", nonce))) : said
        }
      }
    }
  }
  const serverFirst = "r=NONCEmore,s=QSXCR+Q6sek8bf92,i=4096"
  const welcome = reply(235, "welcome")

  const early: ReadonlyArray<readonly [string, ReadonlyArray<string | SmtpServer.Answer>]> = [
    ["right after AUTH", [welcome]],
    ["in place of its signature", [serverFirst, welcome]]
  ]
  for (const [when, answers] of early) {
    it.effect(`does not believe a success ${when}, and closes`, () =>
      withServer(
        scripted(...answers),
        Effect.gen(function*() {
          const connection = yield* make()
          const error = yield* Effect.flip(connection.login(ann))
          assert.deepStrictEqual(facts(error), ["EAUTH", "AUTH SCRAM-SHA-256", undefined, false, true])
          assert.match(error.message, /reported success (before|without)/)
          assert.deepStrictEqual(tried(error), ["SCRAM-SHA-256"])
          yield* (yield* server).awaitClosed
        })
      ))
  }

  const broken: ReadonlyArray<readonly [string, ReadonlyArray<string>, RegExp]> = [
    ["a nonce that is not extended", ["r=NONCE,s=QSXCR+Q6sek8bf92,i=4096"], /does not extend/],
    ["another nonce", ["r=xNONCE,s=QSXCR+Q6sek8bf92,i=4096"], /does not extend/],
    ["one iteration", ["r=NONCEmore,s=QSXCR+Q6sek8bf92,i=1"], /fewer than 4096/],
    ["two to the 31st iterations", ["r=NONCEmore,s=QSXCR+Q6sek8bf92,i=2147483648"], /more than 600000/],
    ["an extension that must be known", ["m=x,r=NONCEmore,s=QSXCR+Q6sek8bf92,i=4096"], /extension/],
    ["an error", ["e=unknown-user"], /the error unknown-user/],
    ["an error at the end", [serverFirst, "e=invalid-proof"], /the error invalid-proof/],
    ["a wrong signature", [serverFirst, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="], /signature is wrong/],
    ["a signature that is cut", [serverFirst, "v=6rri"], /signature is wrong/],
    ["no signature", [serverFirst, ""], /no signature/]
  ]
  for (const [what, answers, detail] of broken) {
    it.effect(`cancels the exchange on ${what}, and falls back to nothing weaker`, () =>
      withServer(
        scripted(...answers),
        Effect.gen(function*() {
          const connection = yield* make()
          const error = yield* Effect.flip(connection.login(ann))
          assert.deepStrictEqual(facts(error), ["EAUTH", "AUTH SCRAM-SHA-256", undefined, false, true])
          assert.match(error.message, detail)
          assert.strictEqual((yield* lines).length, answers.length + 1)
          assert.strictEqual((yield* lines).at(-1), "*")
          yield* connection.noop
        })
      ))
  }

  it.effect("tells a server that binds of an offer that was taken out", () =>
    withServer(
      {
        accounts,
        extensions: { auth: ["SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"] },
        // Somebody in the middle shortens the offer.
        respond: { ehlo: (_, { secure }) => secure ? reply(250, "fake.test", "AUTH SCRAM-SHA-256") : undefined }
      },
      Effect.gen(function*() {
        const error = yield* refusal({ auth: ann })
        assert.include(error.message, "the error server-does-support-channel-binding")
        assert.strictEqual((yield* connections)[0]?.username, undefined)
      })
    ))

  it.effect("of a server that goes away while the keys are derived is ECONNECTION", () =>
    withServer(
      {
        accounts,
        extensions: { auth: ["SCRAM-SHA-256"] },
        faults: [at("authContinue", SmtpServer.drop)]
      },
      Effect.map(refusal({ auth: ann }), (error) => assert.strictEqual(error._tag, "ECONNECTION"))
    ))

  it.effect("that is left between a challenge and its response leaves no usable connection", () =>
    withServer(
      { accounts, extensions: { auth: ["X-SLOW"] }, respond: { auth: () => reply(334, "") } },
      Effect.gen(function*() {
        const isDeriving = yield* Deferred.make<void>()
        const slow: Sasl.Mechanism = {
          ...Sasl.mechanisms[0]!,
          name: "X-SLOW",
          kind: "custom",
          clientFirst: false,
          bindsChannel: false,
          start: ({ secret }) =>
            Result.succeed({
              step: () => {
                Deferred.doneUnsafe(isDeriving, Effect.void)
                const parameters = { password: secret, salt: new Uint8Array(16), iterations: 200_000, length: 64 }
                const resume = () => Result.fail({ _tag: "SaslError", detail: "too late" } as const)
                return Result.succeed({ _tag: "Derive", hash: "SHA-512", ...parameters, resume } as const)
              },
              finish: () => Result.void
            })
        }
        const connection = yield* make()
        const credentials = Sasl.custom({ mechanism: slow, secret: Redacted.make("x") })
        const login = yield* Effect.forkChild(connection.login(credentials), { startImmediately: true })
        yield* Deferred.await(isDeriving)
        yield* Fiber.interrupt(login)
        const error = yield* Effect.flip(connection.noop)
        assert.deepStrictEqual([error._tag, error.attempted], ["ECONNECTION", false])
        yield* (yield* server).awaitClosed
        assert.deepStrictEqual(yield* lines, ["AUTH X-SLOW"])
      })
    ))
})

describe("a mechanism of the caller's", () => {
  const sha1 = "4b007901b765489abead49d926f721d065a429c1"
  const sha256 = "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc" +
    "49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783"
  const utf8 = new TextEncoder()

  const derived = (
    parameters: Omit<Extract<Sasl.Step, { readonly _tag: "Derive" }>, "_tag" | "resume">,
    next: Sasl.Session
  ): Sasl.Step => ({
    ...parameters,
    _tag: "Derive",
    resume: (key) => {
      const response = Redacted.make(utf8.encode(Hex.encode(Redacted.value(key))))
      return Result.succeed({ _tag: "Respond", response, next })
    }
  })
  const ended: Sasl.Session = { step: () => Result.succeed({ _tag: "Done" }), finish: () => Result.void }
  const second: Sasl.Session = {
    step: () => {
      const salt = utf8.encode("salt")
      const parameters = {
        hash: "SHA-256",
        password: Redacted.make("passwd"),
        salt,
        iterations: 1,
        length: 64
      } as const
      return Result.succeed(derived(parameters, ended))
    },
    finish: () => Result.fail({ _tag: "SaslError", detail: "too early" })
  }
  const kdf: Sasl.Mechanism = {
    name: "X-KDF",
    kind: "custom",
    isPlaintext: false,
    clientFirst: true,
    start: ({ nonce, secret, username }) => {
      assert.strictEqual(username, "ann")
      assert.match(nonce, /^[!-+\x2d-~]{24}$/)
      const salt = utf8.encode("salt")
      return Result.succeed({
        step: () =>
          Result.succeed(derived({ hash: "SHA-1", password: secret, salt, iterations: 4096, length: 20 }, second)),
        finish: second.finish
      })
    }
  }
  const offering = { extensions: { auth: ["X-KDF"] } }
  const credentials = Sasl.custom({ mechanism: kdf, username: "ann", secret: Redacted.make("password") })

  it.effect("derives keys by PBKDF2 (vectors of RFC 6070 and RFC 7914)", () =>
    withServer(
      { ...offering, ...exchange(reply(334, ""), reply(235, "welcome")) },
      Effect.gen(function*() {
        yield* make({ auth: credentials })
        assert.deepStrictEqual(yield* lines, [`AUTH X-KDF ${base64(sha1)}`, base64(sha256)])
      })
    ))

  it.effect("gets another nonce at each login", () =>
    withServer(
      { extensions: { auth: ["X-NONCE"] }, ...forEver(reply(535, "no")) },
      Effect.gen(function*() {
        const nonces = new Set<string>()
        const mechanism: Sasl.Mechanism = {
          ...kdf,
          name: "X-NONCE",
          start: ({ nonce }) => {
            nonces.add(nonce)
            return Result.succeed(Sasl.sequence([nonce]))
          }
        }
        const connection = yield* make()
        for (const _ of [1, 2, 3]) yield* Effect.flip(connection.login(Sasl.custom({ mechanism })))
        assert.strictEqual(nonces.size, 3)
      })
    ))

  it.effect("may have nothing to say at first, and may refuse its input or its first step", () =>
    withServer(
      { extensions: { auth: ["X-KDF"] } },
      Effect.gen(function*() {
        const failing = (session: Partial<Sasl.Session>): Sasl.Credentials =>
          Sasl.custom({ mechanism: { ...kdf, start: () => Result.succeed({ ...ended, ...session }) } })
        const connection = yield* make()
        assert.strictEqual((yield* Effect.flip(connection.login(failing({})))).responseCode, 535)
        assert.strictEqual((yield* lines).at(-1), "AUTH X-KDF")
        const step = () => Result.fail({ _tag: "SaslError", detail: "no ticket", field: "ticket" } as const)
        const error = yield* Effect.flip(connection.login(failing({ step })))
        assert.deepStrictEqual([...facts(error), error.field, error.message], [
          "EAUTH",
          "API",
          undefined,
          false,
          false,
          "ticket",
          "no ticket"
        ])
        yield* connection.noop
      })
    ))

  it.effect("is EAUTH, not a defect, when it has no proper name or says what is not octets", () =>
    withServer(
      { extensions: { auth: ["x y", "X-KDF"] } },
      Effect.gen(function*() {
        const connection = yield* make()
        const unnamed = Sasl.custom({ mechanism: { ...kdf, name: "X Y" } })
        const named = { extensions: { auth: ["X-A-NAME-OF-MORE-THAN-20"] } }
        assert.strictEqual((yield* Effect.flip(connection.login(unnamed)))._tag, "EAUTH")
        yield* withServer(
          named,
          Effect.gen(function*() {
            const auth = Sasl.custom({ ...credentials, mechanism: { ...kdf, name: "X-A-NAME-OF-MORE-THAN-20" } })
            const error = yield* refusal({ auth })
            assert.deepStrictEqual([...facts(error).slice(0, 2), error.field], ["EAUTH", "API", "options.auth"])
            assert.include(error.message, "mechanism must be 1 to 20")
          })
        )
        const response = "text" as unknown as Redacted.Redacted<Uint8Array>
        const step = () => Result.succeed({ _tag: "Respond", response, next: ended } as const)
        const wordy = Sasl.custom({ mechanism: { ...kdf, start: () => Result.succeed({ ...ended, step }) } })
        const error = yield* Effect.flip(connection.login(wordy))
        assert.include(error.message, "initialResponse must be Redacted octets")
        yield* connection.noop
      })
    ))
})

describe("credentials in the clear", () => {
  const insecure = { extensions: { startTls: false, auth: ["PLAIN"], authBeforeTls: ["PLAIN", "LOGIN", "XOAUTH2"] } }

  it.effect("never leave without allowInsecureAuth, loopback included", () =>
    withServer(
      insecure,
      Effect.gen(function*() {
        for (const host of ["mx.test", "localhost", "127.0.0.1", "::1"]) {
          for (const auth of [ann, bob]) {
            const error = yield* refusal({ host, auth, tls: "opportunistic" })
            assert.deepStrictEqual(facts(error), ["EAUTH", "API", undefined, false, false])
            assert.include(error.message, "allowInsecureAuth: true")
            const config = yield* refusal({ host, auth, tls: "off" })
            assert.deepStrictEqual([config._tag, config.field], ["ECONFIG", "options.auth"])
            const connection = yield* make({ host, tls: "off" })
            assert.strictEqual((yield* Effect.flip(connection.login(auth)))._tag, "EAUTH")
          }
        }
        const bytes = (yield* connections).map(({ bytes }) => Buffer.from(bytes ?? []).toString("latin1")).join()
        assertHidden(bytes, "canary-password", "canary-token")
        assert.notInclude(bytes, "AUTH")
      })
    ))

  it.effect("leave with allowInsecureAuth", () =>
    withServer(
      { ...insecure, accounts },
      Effect.gen(function*() {
        yield* make({ auth: ann, tls: "off", allowInsecureAuth: true })
        yield* make({ auth: bob, tls: "opportunistic", allowInsecureAuth: true })
        assert.deepStrictEqual((yield* connections).map(({ username }) => username), ["ann", "bob"])
      })
    ))
})

describe("secrets (S17)", () => {
  const secrets = ["canary-password", "canary-mistake", "canary-token", "canary-revoked"]

  /** Runs an effect with every sink collected: log lines with annotations and cause, spans, failures. */
  const sinks = Effect.fnUntraced(function*<A, E, R>(effect: Effect.Effect<A, E, R>) {
    const seen: Array<unknown> = []
    const logger = Logger.make(({ cause, fiber, message }) => {
      const annotations = fiber.getRef(References.CurrentLogAnnotations)
      seen.push(message, annotations, Cause.pretty(cause), cause)
    })
    const { spans, tracer } = makeTracer()
    const exit = yield* effect.pipe(
      Effect.exit,
      Effect.withTracer(tracer),
      Effect.provide(Logger.layer([logger])),
      Effect.provideService(References.MinimumLogLevel, "All")
    )
    const all = inspect([seen, spans, exit], {
      depth: 30,
      showHidden: true,
      maxStringLength: null,
      maxArrayLength: null
    })
    const errors = exit._tag === "Failure" ? exit.cause.reasons.map((r) => r._tag === "Fail" ? shown(r.error) : "") : []
    return { text: [all, ...errors].join("\n"), lines: seen.length, spans: spans.length, exit }
  })

  /** What the client sent inside AUTH: the digests of CRAM-MD5 too. */
  const sent = Effect.map(
    lines,
    (all) => all.flatMap((line) => line.split(" ").slice(-1)).filter((word) => /^[A-Za-z0-9+/]{12,}=*$/.test(word))
  )

  for (
    const [mechanism, right, mistaken] of [
      ["PLAIN", ann, wrong],
      ["LOGIN", ann, wrong],
      ["CRAM-MD5", ann, wrong],
      ["DIGEST-MD5", ann, wrong],
      ["SCRAM-SHA-1", ann, wrong],
      ["SCRAM-SHA-256-PLUS", ann, wrong],
      ["OAUTHBEARER", bob, revoked],
      ["XOAUTH2", bob, revoked]
    ] as const
  ) {
    it.effect(`of ${mechanism} are in no log line, span or error`, () =>
      withServer(
        { accounts, extensions: { auth: [mechanism] } },
        Effect.gen(function*() {
          for (const auth of [right, mistaken]) {
            const options = { host: "mx.test", auth, mechanisms: [mechanism], transcript: "full" } as const
            const client = yield* SmtpClient.make(options)
            const { exit, lines, spans, text } = yield* sinks(client.send(mail, "x"))
            assert.strictEqual(exit._tag, auth === right ? "Success" : "Failure")
            assert.isAbove(lines, 8)
            assert.isAbove(spans, 1)
            assert.include(text, `C: AUTH ${mechanism}`)
            const digests = (yield* sent).map((word) => Buffer.from(word, "base64").toString().split(" ").at(-1) ?? "")
            assertHidden(text, ...secrets, ...yield* sent, ...digests.filter((d) => d.length > 31))
          }
        })
      ))
  }

  let isCancelled = false
  const echoing: SmtpServer.Script = {
    respond: {
      auth: ({ argument, line, verb }) => {
        if (argument.startsWith("LOGIN")) return reply(334, "")
        const words = argument.split(" ").at(-1) ?? ""
        const decoded = Buffer.from(words, "base64").toString()
        return verb === "AUTH" && decoded === "ann"
          ? reply(334, "")
          : reply(535, `5.7.8 what is "${line}", i.e. ${decoded.replaceAll("\0", " ")}`, base64("canary-mistake"))
      }
    }
  }

  it.effect("that a server echoes, in clear or as they were sent, are not in the error", () =>
    withServer(
      echoing,
      Effect.gen(function*() {
        for (const mechanism of ["PLAIN", "LOGIN"]) {
          const error = yield* refusal({ auth: wrong, mechanisms: [mechanism] })
          assert.strictEqual(error.responseCode, 535)
          assert.include(error.message, "***")
          assertHidden(shown(error), ...secrets)
        }
      })
    ))

  const digests: SmtpServer.Script = {
    ...echoing,
    respond: {
      auth: ({ line }) =>
        line.startsWith("AUTH")
          ? reply(334, base64("<1@fake.test>"))
          : reply(535, `5.7.8 bad response: ${Buffer.from(line, "base64").toString()}`)
    }
  }

  it.effect("that a server echoes as a digest are not in the error", () =>
    withServer(
      digests,
      Effect.gen(function*() {
        const error = yield* refusal({ auth: wrong, mechanisms: ["CRAM-MD5"] })
        const digest = createHmac("md5", "canary-mistake").update("<1@fake.test>").digest("hex")
        assert.strictEqual(error.response, "5.7.8 ***")
        assertHidden(shown(error), digest)
      })
    ))

  it.effect("that a server echoes over two lines, or in answer to the cancellation, are not in the error", () =>
    withServer(
      {
        respond: {
          auth: ({ argument, line }) => {
            const response = argument.split(" ").at(-1) ?? ""
            if (line === "*") return reply(421, `4.7.0 cannot parse ${base64("\0ann\0canary-mistake")}`)
            return argument.startsWith("PLAIN") && line.endsWith("x")
              ? undefined
              : isCancelled
              ? reply(334, "no base64")
              : reply(535, `5.7.8 bad: ${response.slice(0, 14)}`, response.slice(14))
          }
        }
      },
      Effect.gen(function*() {
        for (const cancelled of [false, true]) {
          isCancelled = cancelled
          const error = yield* refusal({ auth: wrong, mechanisms: ["PLAIN"] })
          assert.strictEqual(error.responseCode, cancelled ? 421 : 535)
          assertHidden(shown(error), ...secrets)
        }
      })
    ))

  it.effect("that a server echoes before it is asked are not in the error", () =>
    withServer(
      {
        respond: { auth: ({ argument }) => reply(334, "", argument) },
        faults: [at("auth", SmtpServer.surplus(`250 you said ${base64("\0ann\0canary-mistake")}`))]
      },
      Effect.gen(function*() {
        const error = yield* refusal({ auth: wrong, mechanisms: ["PLAIN"] })
        assertHidden(shown(error), ...secrets)
      })
    ))

  it.effect("that a server echoes are in no line of the transcript", () =>
    withServer(
      echoing,
      Effect.gen(function*() {
        for (const mechanism of ["PLAIN", "LOGIN"]) {
          const login = Effect.scoped(make({ auth: wrong, mechanisms: [mechanism], transcript: "full" }))
          const { text } = yield* sinks(login)
          assert.include(text, "S: 535 5.7.8 ***")
          assertHidden(text, ...secrets)
        }
      })
    ))

  it.effect("that are short words leave the server's words alone", () =>
    withServer(
      { accounts },
      Effect.gen(function*() {
        const auth = Sasl.password({ username: "ann", password: Redacted.make("secret") })
        assert.strictEqual((yield* refusal({ auth })).response, "5.7.8 wrong username or secret")
      })
    ))

  it.effect("of a failed provider are not kept", () =>
    withServer(
      {},
      Effect.gen(function*() {
        const token = Effect.fail(new EOAUTH2({ command: "API", message: "the provider refused" }))
        const client = yield* SmtpClient.make({ auth: Sasl.oauth2({ username: "bob", token }), transcript: "full" })
        const { text } = yield* sinks(client.verify)
        assertHidden(text, ...secrets)
      })
    ))

  it.effect("are in no shown form of credentials", () =>
    Effect.sync(() => {
      for (const credentials of [ann, bob, Sasl.custom({ mechanism: Sasl.mechanisms[0]!, secret: ann.password })]) {
        const text = inspect(credentials, { depth: 20 }) + JSON.stringify(credentials)
        assertHidden(text, ...secrets)
      }
      assert.strictEqual(Base64.encode("x"), base64("x"))
    }))
})

describe("a login that is refused", () => {
  it.effect("is told, though the deadline of the whole call passes while it says QUIT", () =>
    withServer(
      { accounts, faults: [at("quit", SmtpServer.silence)] },
      Effect.gen(function*() {
        const auth = Sasl.password({ username: "ann", password: Redacted.make("wrong") })
        const timeouts = { total: "30 seconds", quit: "40 seconds" } as const
        const fiber = yield* Effect.forkChild(refusal({ auth, timeouts }), { startImmediately: true })
        yield* TestClock.adjust("30 seconds")
        assert.strictEqual((yield* Fiber.join(fiber))._tag, "EAUTH")
      })
    ))
})
