/** The checks until a connection is ready: greeting, EHLO, TLS, AUTH. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { codeOf } from "../../../src/internal/errorCause.ts"
import * as Sasl from "../../../src/Sasl.ts"
import {
  alice,
  check,
  doesLack,
  fails,
  inClear,
  instead,
  mechanismsOf,
  offered,
  open,
  passwordOf,
  sender,
  type Service,
  shown,
  spoken,
  succeeds
} from "./subject.ts"

const keywords = (connection: { readonly capabilities: { readonly extensions: ReadonlyMap<string, unknown> } }) =>
  [...connection.capabilities.extensions.keys()].toSorted()

const connects = check("connects and is greeted with 220", (subject) =>
  Effect.gen(function*() {
    const connection = yield* open(subject.doors.main)
    assert.strictEqual(connection.greeting.code, 220)
    assert.notStrictEqual(connection.greeting.text, "")
    assert.strictEqual(connection.secure, subject.profile.offers.secure !== undefined)
    assert.strictEqual(Option.isSome(connection.security), connection.secure)
    assert.strictEqual(connection.capabilities.extended, subject.profile.extended)
    assert.notStrictEqual(connection.capabilities.name, "")
    return subject.profile.extended ? shown : instead("HELO only")
  }))

const capabilities = check(
  "offers the declared extensions and no others, before TLS and after",
  (subject) =>
    Effect.gen(function*() {
      const { mechanisms, offers, sizeLimit } = subject.profile
      const clear = yield* open(inClear(subject))
      assert.deepStrictEqual(keywords(clear), offers.clear, "in clear")
      assert.deepStrictEqual(clear.capabilities.auth.toSorted(), mechanisms.clear, "AUTH in clear")
      const main = yield* open(subject.doors.main)
      assert.deepStrictEqual(keywords(main), offered(subject), "by the main door")
      assert.deepStrictEqual(main.capabilities.auth.toSorted(), mechanismsOf(subject), "AUTH by the main door")
      assert.strictEqual(main.capabilities.sizeLimit, sizeLimit)
      return shown
    })
)

const startTls = check("upgrades with STARTTLS to verified TLS", (subject) =>
  Effect.gen(function*() {
    if (!subject.profile.offers.clear.includes("STARTTLS")) {
      yield* fails(open({ ...inClear(subject), tls: "starttls" }), { tag: "ETLS" })
      return instead("not offered: ETLS")
    }
    const connection = yield* open({ ...subject.doors.main, tls: "starttls" })
    const tls = Option.getOrThrow(connection.security)
    assert.strictEqual(tls.authorized, true)
    assert.include(["TLSv1.2", "TLSv1.3", "in-memory"], tls.protocol)
    assert.notInclude(keywords(connection), "STARTTLS", "it is gone once TLS is on")
    return shown
  }))

const opportunistic = check(
  "opportunistic TLS upgrades where it can and goes on in clear where not",
  (subject) =>
    Effect.gen(function*() {
      const connection = yield* open({ ...inClear(subject), tls: "opportunistic" })
      const isOffered = subject.profile.offers.clear.includes("STARTTLS")
      assert.strictEqual(connection.secure, isOffered)
      yield* connection.noop
      return isOffered ? shown : instead("goes on in clear")
    })
)

const implicitTls = check("speaks TLS from the first octet", (subject) =>
  Effect.gen(function*() {
    const { implicit, main } = subject.doors
    if (doesLack(implicit)) {
      yield* fails(open({ ...main, tls: "implicit" }), { tag: "ETLS" })
      return instead(implicit.lacks)
    }
    const connection = yield* open({ ...implicit, tls: "implicit" })
    assert.strictEqual(Option.getOrThrow(connection.security).authorized, true)
    assert.deepStrictEqual(keywords(connection), offered(subject))
    return shown
  }))

const certificates = check("refuses certificates that do not verify", (subject) =>
  Effect.gen(function*() {
    const { badCertificates } = subject.doors
    if (doesLack(badCertificates)) {
      assert.isUndefined(subject.profile.offers.secure, "a server with TLS has to show this")
      return instead(badCertificates.lacks)
    }
    for (const { because, door } of badCertificates) {
      const error = yield* fails(open(door), { tag: "ETLS" }, because)
      assert.strictEqual(codeOf(error.cause), because)
      const options = { ...door, tlsOptions: { ...door.tlsOptions, rejectUnauthorized: false } }
      const connection = yield* open(options)
      assert.strictEqual(Option.getOrThrow(connection.security).authorized, false, because)
      yield* fails(connection.login(alice), { tag: "EAUTH", attempted: false }, `a login in spite of ${because}`)
    }
    return shown
  }))

/** What a server is that nobody can log in to; undefined: one can. */
const noLogin = Effect.fnUntraced(function*(subject: Service) {
  const mechanisms = spoken(subject)
  const { judgesCredentials } = subject.profile
  const options = { ...subject.doors.main, auth: alice, allowInsecureAuth: true }
  if (mechanisms.length === 0) {
    yield* fails(open(options), { tag: "EAUTH", attempted: false })
    return instead("no AUTH: EAUTH, nothing sent")
  }
  if (!doesLack(judgesCredentials)) return undefined
  for (const { name } of mechanisms) yield* fails(open({ ...options, mechanisms: [name] }), { tag: "EPROTOCOL" }, name)
  return instead(judgesCredentials.lacks)
})

const logins = check("logs in by each mechanism that both sides speak", (subject) =>
  Effect.gen(function*() {
    const difference = yield* noLogin(subject)
    if (difference !== undefined) return difference
    for (const { name } of spoken(subject)) {
      const ways = subject.logins(name)
      assert.isNotEmpty(ways, `no login is declared for ${name}`)
      for (const { credentials, door } of ways) {
        const options = { ...door ?? subject.doors.main, auth: credentials, mechanisms: [name] }
        const connection = yield* succeeds(open(options), name)
        yield* connection.noop
      }
    }
    return shown
  }))

const wrongPassword = check("tells a wrong password by EAUTH and stays usable", (subject) =>
  Effect.gen(function*() {
    const difference = yield* noLogin(subject)
    if (difference !== undefined) return difference
    for (const { name } of spoken(subject).filter(({ kind }) => kind === "password")) {
      const connection = yield* open({ ...subject.doors.main, mechanisms: [name] })
      const wrong = connection.login(passwordOf("alice", "not the secret"))
      const error = yield* fails(wrong, { tag: "EAUTH", code: 535, attempted: true }, name)
      assert.deepStrictEqual([error.command, error.isTemporary], [`AUTH ${name}`, false])
      assert.deepStrictEqual([error.code, error.responseCode, error.response], ["EAUTH", 535, error.reply?.text])
      yield* connection.login(alice)
    }
    return shown
  }))

const loginLater = check("logs in later, on an open connection", (subject) =>
  Effect.gen(function*() {
    const difference = yield* noLogin(subject)
    if (difference !== undefined) return difference
    const connection = yield* open(subject.doors.main)
    yield* connection.noop
    yield* connection.login(subject.account)
    const result = yield* connection.send({ from: sender, to: subject.mailbox("later") }, "Subject: later\n\nx\n")
    assert.strictEqual(result.accepted.length, 1)
    return shown
  }))

const missingLogin = check(
  "tells a missing login by ENOAUTH, and the login may follow",
  (subject) =>
    Effect.gen(function*() {
      const connection = yield* open(subject.doors.main)
      const send = connection.send({ from: sender, to: subject.mailbox("nobody") }, "Subject: nobody\n\nx\n")
      const { withoutLogin } = subject.profile
      if (withoutLogin === "accepted") {
        yield* send
        return instead("takes mail without a login")
      }
      const { code, tag } = withoutLogin
      yield* fails(send, { tag, code })
      yield* connection.login(subject.account)
      yield* send
      return tag === "ENOAUTH" ? shown : instead(`${tag}, ${code}`)
    })
)

const unknownMechanism = check(
  "a mechanism that is not offered is EAUTH, and nothing is sent",
  (subject) =>
    Effect.gen(function*() {
      const connection = yield* open({ ...subject.doors.main, allowInsecureAuth: true })
      const mechanism: Sasl.Mechanism = {
        name: "X-NOT-OFFERED",
        kind: "custom",
        isPlaintext: true,
        clientFirst: true,
        start: () => Result.succeed(Sasl.sequence(["secret"]))
      }
      yield* fails(connection.login(Sasl.custom({ mechanism })), { tag: "EAUTH", attempted: false })
      yield* connection.noop
      return shown
    })
)

export const opening = [
  connects,
  capabilities,
  startTls,
  opportunistic,
  implicitTls,
  certificates,
  logins,
  wrongPassword,
  unknownMechanism
]

/** Of a login and a mail. */
export const login = [loginLater, missingLogin]
