import { assert, describe, it } from "@effect/vitest"
import { Effect, Redacted, Result, Schema } from "effect"
import { createHash, createHmac, pbkdf2Sync } from "node:crypto"
import { inspect } from "node:util"
import * as keys from "../src/internal/keys.ts"
import { serverStart } from "../src/internal/saslServer.ts"
import * as Sasl from "../src/Sasl.ts"
import { assertHidden } from "./support/secrets.ts"

const utf8 = (text: string) => new TextEncoder().encode(text)
const base64 = (octets: Uint8Array | string) => Buffer.from(octets).toString("base64")
const empty = new Uint8Array(0)

const context: Sasl.StartContext = { host: "mx.test", port: 587, nonce: "fyko+d2lbbFgONRv9qkxdawL" }
const binding: Sasl.ChannelBinding = { type: "tls-exporter", data: utf8("the binding of this channel, ok?") }
const plusNames = ["SCRAM-SHA-512-PLUS", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS"]
const names = [...plusNames, "SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1"]

const begin = (name: string, more: Partial<Sasl.Start> = {}) => {
  const mechanism = Sasl.mechanisms.find((one) => one.name === name)
  assert.isDefined(mechanism, name)
  const input = { ...context, username: "user", secret: Redacted.make("pencil"), authorizationId: undefined, ...more }
  return mechanism!.start(input)
}

const failure = <A, E>(result: Result.Result<A, E>): E => {
  assert.isTrue(Result.isFailure(result))
  if (Result.isSuccess(result)) throw new Error("unreachable")
  return result.failure
}

/** What is said, once the keys are derived. */
const respond = (result: Result.Result<Sasl.Step, Sasl.SaslError>) =>
  Effect.gen(function*() {
    let step = Result.getOrThrow(result)
    while (step._tag === "Derive") step = Result.getOrThrow(step.resume(yield* keys.derive(step)))
    if (step._tag !== "Respond") throw new Error("nothing is said")
    return { said: new TextDecoder().decode(Redacted.value(step.response)), next: step.next }
  })

const after = (name: string, more: Partial<Sasl.Start> = {}) =>
  respond(Result.getOrThrow(begin(name, more)).step(undefined))

/** The state that waits for the server's last message, and what was said before it. */
const atFinal = Effect.fnUntraced(function*(name: string, serverFirst: string, more: Partial<Sasl.Start> = {}) {
  const first = yield* after(name, more)
  const final = yield* respond(first.next.step(utf8(serverFirst)))
  return { first: first.said, final: final.said, next: final.next }
})

const vectors = [
  {
    source: "RFC 5802 section 5",
    name: "SCRAM-SHA-1",
    nonce: "fyko+d2lbbFgONRv9qkxdawL",
    serverFirst: "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
    clientFinal: "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
    serverFinal: "v=rmF9pqV8S7suAoZWja4dJRkFsKQ="
  },
  {
    source: "RFC 7677 section 3",
    name: "SCRAM-SHA-256",
    nonce: "rOprNGfwEbeRWgbNEkqO",
    serverFirst: "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
    clientFinal:
      "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
    serverFinal: "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
  },
  {
    source: "the XMPP community",
    name: "SCRAM-SHA-512",
    nonce: "rOprNGfwEbeRWgbNEkqO",
    serverFirst:
      "r=rOprNGfwEbeRWgbNEkqO02431b08-2f89-4bad-a4e6-80c0564ec865,s=Yin2FuHTt/M0kJWb0t9OI32n2VmOGi3m+JfjOvuDF88=,i=4096",
    clientFinal: "c=biws,r=rOprNGfwEbeRWgbNEkqO02431b08-2f89-4bad-a4e6-80c0564ec865," +
      "p=Hc5yec3NmCD7t+kFRw4/3yD6/F3SQHc7AVYschRja+Bc3sbdjlA0eH1OjJc0DD4ghn1tnXN5/Wr6qm9xmaHt4A==",
    serverFinal: "v=BQuhnKHqYDwQWS5jAw4sZed+C9KFUALsbrq81bB0mh+bcUUbbMPNNmBIupnS2AmyyDnG5CTBQtkjJ9kyY4kzmw=="
  }
] as const

const [sha1] = vectors

describe("SCRAM", () => {
  for (const { clientFinal, name, nonce, serverFinal, serverFirst, source } of vectors) {
    it.effect(`${name} says the example of ${source}`, () =>
      Effect.gen(function*() {
        const { final, first, next } = yield* atFinal(name, serverFirst, { nonce })
        assert.strictEqual(first, `n,,n=user,r=${nonce}`)
        assert.strictEqual(final, clientFinal)
        const last = yield* respond(next.step(utf8(serverFinal)))
        assert.strictEqual(last.said, "")
        assert.isTrue(Result.isSuccess(last.next.finish()))
        assert.strictEqual(Result.getOrThrow(last.next.step(empty))._tag, "Done")
      }))
  }

  it.effect("with a channel binding agrees with a reference of its own", () =>
    Effect.gen(function*() {
      const salt = "QSXCR+Q6sek8bf92"
      const nonce = `${context.nonce}3rfcNHYJY1ZVvWVs7j`
      const serverFirst = `r=${nonce},s=${salt},i=5000`
      for (
        const [name, hash, length] of [["SHA-1", "sha1", 20], ["SHA-256", "sha256", 32], ["SHA-512", "sha512", 64]]
      ) {
        const { final, first, next } = yield* atFinal(`SCRAM-${name}-PLUS`, serverFirst, {
          channelBinding: binding,
          offered: names
        })
        assert.strictEqual(first, `p=tls-exporter,,n=user,r=${context.nonce}`)
        const hmac = (key: Uint8Array, text: string) => createHmac(String(hash), key).update(text).digest()
        const salted = pbkdf2Sync("pencil", Buffer.from(salt, "base64"), 5000, Number(length), String(hash))
        const clientKey = hmac(salted, "Client Key")
        const withoutProof = `c=${base64(Buffer.concat([utf8("p=tls-exporter,,"), binding.data]))},r=${nonce}`
        const message = `n=user,r=${context.nonce},${serverFirst},${withoutProof}`
        const signature = hmac(createHash(String(hash)).update(clientKey).digest(), message)
        const proof = clientKey.map((octet, at) => octet ^ signature.readUInt8(at))
        assert.strictEqual(final, `${withoutProof},p=${base64(proof)}`)
        const last = yield* respond(next.step(utf8(`v=${base64(hmac(hmac(salted, "Server Key"), message))}`)))
        assert.isTrue(Result.isSuccess(last.next.finish()))
      }
    }))

  it.effect("says whether it could have been bound to the channel", () =>
    Effect.gen(function*() {
      const first = (name: string, more: Partial<Sasl.Start>) => Effect.map(after(name, more), ({ said }) => said)
      const flag = (more: Partial<Sasl.Start>) => Effect.map(first("SCRAM-SHA-256", more), (said) => said.slice(0, 3))
      assert.strictEqual(yield* flag({}), "n,,")
      assert.strictEqual(yield* flag({ offered: ["SCRAM-SHA-256"] }), "n,,")
      assert.strictEqual(yield* flag({ channelBinding: binding }), "n,,")
      assert.strictEqual(yield* flag({ channelBinding: binding, offered: ["SCRAM-SHA-256"] }), "y,,")
      assert.strictEqual(
        yield* flag({ channelBinding: binding, offered: ["scram-sha-1-plus", "SCRAM-SHA-256"] }),
        "n,,"
      )
      assert.strictEqual(yield* flag({ channelBinding: binding, offered: ["SCRAM-SHA-3-PLUS"] }), "y,,")
      for (const type of ["tls-exporter", "tls-server-end-point", "tls-unique"] as const) {
        const said = yield* first("SCRAM-SHA-256-PLUS", { channelBinding: { ...binding, type } })
        assert.include(said, `p=${type},,n=`)
      }
      for (const name of plusNames) assert.include(failure(begin(name)).detail, "needs a channel binding")
    }))

  it.effect("writes = and , in names as =3D and =2C, and names whom to act as", () =>
    Effect.gen(function*() {
      const more = { username: "a,b=c", authorizationId: "=2C,x" }
      const { final, first } = yield* atFinal("SCRAM-SHA-1", sha1.serverFirst, more)
      assert.strictEqual(first, `n,a==3D2C=2Cx,n=a=2Cb=3Dc,r=${context.nonce}`)
      assert.isTrue(final.startsWith(`c=${base64("n,a==3D2C=2Cx,")},`))
      assert.strictEqual((yield* after("SCRAM-SHA-1", { authorizationId: "" })).said, `n,,n=user,r=${context.nonce}`)
    }))

  it.effect("prepares username and password by SASLprep", () =>
    Effect.gen(function*() {
      const odd = { username: "\u2168\u00ad", secret: Redacted.make("p\u00ade\uff4e\u00aacil") }
      const plain = { username: "IX", secret: Redacted.make("penacil") }
      assert.deepStrictEqual(
        (yield* atFinal("SCRAM-SHA-1", sha1.serverFirst, odd)).final,
        (yield* atFinal("SCRAM-SHA-1", sha1.serverFirst, plain)).final
      )
      const unassigned = "x\u{1f511}"
      assert.include((yield* after("SCRAM-SHA-1", { username: unassigned })).said, `n=${unassigned},`)
      const fields: ReadonlyArray<readonly [Partial<Sasl.Start>, string, RegExp]> = [
        [{ secret: Redacted.make(unassigned) }, "credentials.password", /Unicode 3\.2/],
        [{ secret: Redacted.make("\u0627x") }, "credentials.password", /right-to-left/],
        [{ username: "a\u0007" }, "credentials.username", /prohibits/],
        [{ username: "\u00ad" }, "credentials.username", /empty/],
        [{ username: "" }, "credentials.username", /is empty/],
        [{ secret: Redacted.make("") }, "credentials.password", /is empty/],
        [{ secret: Redacted.make("a\0") }, "credentials.password", /NUL/],
        [{ authorizationId: "a\0" }, "credentials.authorizationId", /NUL/],
        [{ username: "\ud800" }, "credentials.username", /lone surrogate/],
        [{ nonce: "a,b" }, "context.nonce", /without comma/],
        [{ nonce: "" }, "context.nonce", /printable/]
      ]
      for (const [more, field, detail] of fields) {
        const error = failure(begin("SCRAM-SHA-256", more))
        assert.strictEqual(error.field, field)
        assert.match(error.detail, detail)
      }
    }))

  const r = `r=${context.nonce}more`
  const rest = "s=QSXCR+Q6sek8bf92,i=4096"
  const firsts: ReadonlyArray<readonly [string, RegExp]> = [
    [`r=${context.nonce},${rest}`, /does not extend/],
    [`r=other,${rest}`, /does not extend/],
    [`r=X${context.nonce}more,${rest}`, /does not extend/],
    [`${r},s=QSXCR+Q6sek8bf92,i=1`, /asks for 1 iterations; fewer than 4096/],
    [`${r},s=QSXCR+Q6sek8bf92,i=4095`, /fewer than 4096/],
    [`${r},s=QSXCR+Q6sek8bf92,i=600001`, /more than 600000/],
    [`${r},s=QSXCR+Q6sek8bf92,i=2147483648`, /more than 600000/],
    [`${r},s=QSXCR+Q6sek8bf92,i=${"9".repeat(400)}`, /more than 600000/],
    [`m=x,${r},${rest}`, /extension/],
    [`${r},${rest},m=x`, /extension/],
    ["e=unknown-user", /ended SCRAM with the error unknown-user/],
    ["e=other-error,x=y", /the error other-error/],
    ["e=<script>", /an unknown error/],
    ["", /malformed/],
    [`${r},i=4096,s=QSXCR+Q6sek8bf92`, /malformed/],
    [`${r},s=,i=4096`, /malformed/],
    [`${r},s=QQ,i=4096`, /malformed/],
    [`${r},s=QR==,i=4096`, /malformed/],
    [`${r},s=QSXCR+Q6sek8bf92,i=0`, /malformed/],
    [`${r},s=QSXCR+Q6sek8bf92,i=04096`, /malformed/],
    [`${r},s=QSXCR+Q6sek8bf92,i=-4096`, /malformed/],
    [`${r},s=QSXCR+Q6sek8bf92,i=4e3`, /malformed/],
    [`${r},s=QSXCR+Q6sek8bf92`, /malformed/],
    [`${r},${rest},`, /malformed/],
    [`${r},${rest},1=x`, /malformed/],
    [`${r} ,${rest}`, /malformed/],
    [`${r}\u00e9,${rest}`, /malformed/],
    [`${r}${"x".repeat(5000)},${rest}`, /longer than 4096 octets/]
  ]
  for (const [text, detail] of firsts) {
    it.effect(`refuses a first message like ${text.slice(-40)}`, () =>
      Effect.gen(function*() {
        const { next } = yield* after("SCRAM-SHA-1")
        assert.match(failure(next.step(utf8(text))).detail, detail)
        assert.match(failure(next.finish()).detail, /before the exchange was complete/)
      }))
  }

  it.effect("refuses what is not UTF-8, and has no second initial response", () =>
    Effect.gen(function*() {
      const { next } = yield* after("SCRAM-SHA-1")
      assert.match(failure(next.step(Uint8Array.of(0xff))).detail, /not UTF-8/)
      assert.match(failure(next.step(undefined)).detail, /no second initial response/)
    }))

  it.effect("runs what is within the bounds, extensions that may be passed over included", () =>
    Effect.gen(function*() {
      for (const iterations of [Sasl.minIterations, Sasl.maxIterations]) {
        const { next } = yield* after("SCRAM-SHA-256")
        const step = Result.getOrThrow(next.step(utf8(`${r},s=QSXCR+Q6sek8bf92,i=${iterations},x=y`)))
        assert.deepInclude(step, { _tag: "Derive", hash: "SHA-256", iterations, length: 32 })
      }
    }))

  const finals: ReadonlyArray<readonly [string, RegExp]> = [
    ["v=rmF9pqV8S7suAoZWja4dJRkFsKR=", /malformed/],
    ["v=smF9pqV8S7suAoZWja4dJRkFsKQ=", /signature is wrong/],
    ["v=rmF9pqV8S7suAoZWja4dJRkFsA==", /signature is wrong/],
    ["v=", /signature is wrong/],
    ["", /holds no signature/],
    ["rmF9pqV8S7suAoZWja4dJRkFsKQ=", /holds no signature/],
    ["v=rmF9pqV8S7suAoZWja4dJRkFsKQ=,", /malformed/],
    ["e=invalid-proof", /the error invalid-proof/]
  ]
  for (const [text, detail] of finals) {
    it.effect(`believes no success after a last message like "${text}"`, () =>
      Effect.gen(function*() {
        const { next } = yield* atFinal("SCRAM-SHA-1", sha1.serverFirst)
        assert.match(failure(next.step(utf8(text))).detail, detail)
        assert.match(failure(next.finish()).detail, /without its SCRAM signature/)
      }))
  }

  it.effect("takes a last message with extensions", () =>
    Effect.gen(function*() {
      const { next } = yield* atFinal("SCRAM-SHA-1", sha1.serverFirst)
      assert.isTrue(Result.isSuccess(next.step(utf8(`${sha1.serverFinal},x=y`))))
    }))

  it.effect("shows the password in no state and no step", () =>
    Effect.gen(function*() {
      const secret = Redacted.make("canary-password")
      const started = Result.getOrThrow(begin("SCRAM-SHA-1", { secret }))
      const { next } = yield* respond(started.step(undefined))
      const derive = Result.getOrThrow(next.step(utf8(sha1.serverFirst)))
      const last = yield* respond(Result.succeed(derive))
      const seen = inspect([started, next, derive, last.next], { depth: 20, showHidden: true, getters: true })
      assertHidden(seen, "canary")
      assertHidden(JSON.stringify([started, next, derive, last.next]), "canary")
    }))
})

describe("SCRAM with the fake server", () => {
  const challenge = "<1.20@fake.test>"

  /** A whole exchange; gives what the server decided and whether the client believes it. */
  const converse = Effect.fnUntraced(function*(
    name: string,
    more: Partial<Sasl.Start>,
    server: Partial<Parameters<typeof serverStart>[1]> = {}
  ) {
    const accounts: Record<string, string> = { user: "pencil", "a,b=c": "päss\u00ad\u2126" }
    const session = serverStart(name, {
      lookup: (who) => accounts[who],
      acceptAny: false,
      challenge,
      offered: names,
      channelBindings: [binding],
      ...server
    })
    let { next, said } = yield* after(name, { channelBinding: binding, offered: names, ...more })
    const heard = [said]
    let step = session.step(utf8(said))
    while (step._tag === "Challenge") {
      const data = step.data
      const answer = next.step(data)
      if (Result.isFailure(answer)) return { heard, step: session.step(utf8("*")), error: answer.failure.detail }
      ;({ next, said } = yield* respond(answer))
      heard.push(said)
      step = session.step(utf8(said))
    }
    return { heard, step, error: Result.isFailure(next.finish()) ? "not believed" : undefined }
  })

  for (const name of names) {
    it.effect(`${name}: both prove that they know the password`, () =>
      Effect.gen(function*() {
        for (
          const more of [{}, { authorizationId: "boss" }, {
            username: "a,b=c",
            secret: Redacted.make("pa\u0308ss\u03a9")
          }]
        ) {
          const { error, heard, step } = yield* converse(name, more)
          assert.deepStrictEqual(step, { _tag: "Accept", username: more.username ?? "user" })
          assert.isUndefined(error)
          assert.deepStrictEqual([heard.length, heard[2]], [3, ""])
        }
        for (const more of [{ username: "nobody" }, { secret: Redacted.make("Pencil") }]) {
          assert.deepInclude((yield* converse(name, more)).step, { reason: "wrong username or secret" })
        }
        const any = yield* converse(name, {}, { acceptAny: true })
        assert.match(any.step._tag === "Reject" ? any.step.reason : "", /needs `accounts`/)
      }))
  }

  it.effect("a -PLUS login over another channel, or by a type that the server lacks, fails", () =>
    Effect.gen(function*() {
      const relayed = { channelBindings: [{ ...binding, data: utf8("another channel") }] }
      const name = "SCRAM-SHA-256-PLUS"
      assert.include((yield* converse(name, {}, relayed)).error, "channel-bindings-dont-match")
      assert.include((yield* converse(name, {}, { channelBindings: [] })).error, "unsupported-channel-binding-type")
    }))

  it.effect("a server that binds learns that its offer was taken out, and refuses", () =>
    Effect.gen(function*() {
      const stripped = { offered: names.filter((name) => !plusNames.includes(name)) }
      const { error, step } = yield* converse("SCRAM-SHA-256", stripped)
      assert.include(error, "server-does-support-channel-binding")
      assert.strictEqual(step._tag, "Reject")
      assert.strictEqual((yield* converse("SCRAM-SHA-256", stripped, stripped)).step._tag, "Accept")
    }))

  it("a server refuses what no client may say", () => {
    const server = (name: string) =>
      serverStart(name, { lookup: () => "pencil", acceptAny: false, challenge, channelBindings: [binding] })
    const steps = (name: string, ...said: ReadonlyArray<string | Uint8Array>) => {
      const session = server(name)
      return said.map((one) => {
        const step = session.step(typeof one === "string" ? utf8(one) : one)
        return step._tag === "Challenge" ? new TextDecoder().decode(step.data) : step._tag
      })
    }
    for (
      const bad of ["", "n,n=user,r=x", "n,,n=user", "n,,n=,r=x", "n,,n=a=b,r=x", "x,,n=a,r=x", Uint8Array.of(255)]
    ) {
      assert.deepStrictEqual(steps("SCRAM-SHA-1", bad, ""), ["Reject", "Reject"])
    }
    assert.deepStrictEqual(steps("SCRAM-SHA-1-PLUS", "n,,n=user,r=x", ""), [
      "e=channel-binding-not-supported",
      "Reject"
    ])
    assert.deepStrictEqual(steps("SCRAM-SHA-1", "p=tls-exporter,,n=user,r=x", ""), ["e=other-error", "Reject"])
    const first = "n,,n=user,r=x"
    assert.strictEqual(steps("SCRAM-SHA-1", first, Uint8Array.of(255))[1], "e=channel-bindings-dont-match")
    assert.strictEqual(steps("SCRAM-SHA-1", first, "c=biws,r=other,p=AA==")[1], "e=other-error")
    assert.strictEqual(steps("SCRAM-SHA-1", first, "c=eSws,r=other,p=AA==")[1], "e=channel-bindings-dont-match")
    assert.deepStrictEqual(server("SCRAM-SHA-1").step(undefined), { _tag: "Challenge", data: empty })
    assert.strictEqual(
      serverStart("SCRAM-SHA-384", { lookup: () => "", acceptAny: true, challenge }).step(empty)._tag,
      "Reject"
    )
  })

  it.effect("a server that has proved itself waits for an empty response", () =>
    Effect.gen(function*() {
      const session = serverStart("SCRAM-SHA-1", { lookup: () => "pencil", acceptAny: false, challenge })
      const first = yield* after("SCRAM-SHA-1")
      const said = session.step(utf8(first.said))
      if (said._tag !== "Challenge") return assert.fail(said._tag)
      const final = yield* respond(first.next.step(said.data))
      assert.strictEqual(session.step(utf8(final.said))._tag, "Challenge")
      assert.deepStrictEqual(session.step(utf8("x")), { _tag: "Reject", reason: "an empty response was expected" })
    }))

  const Part = Schema.Literals([
    "a",
    "=",
    ",",
    "=2C",
    "=3D",
    " ",
    "ä",
    "\u00ad",
    "\u2168",
    "n=",
    ",r=",
    "\0",
    "\ud800",
    "\u0007",
    "א",
    "\u{1f511}"
  ])
  const Field = Schema.NonEmptyArray(Part)
  it.effect.prop(
    "whatever the names and the password are, the server reads them back, or nothing is sent",
    [Field, Field, Field],
    ([user, pass, identity]) =>
      Effect.gen(function*() {
        const [username, secret, authorizationId] = [user.join(""), pass.join(""), identity.join("")]
        const more = { username, secret: Redacted.make(secret), authorizationId }
        const started = begin("SCRAM-SHA-1", more)
        if (Result.isFailure(started)) return assert.match(started.failure.field ?? "", /^credentials\./)
        const seen: Array<string> = []
        const lookup = (who: string) => {
          seen.push(who)
          return secret
        }
        const { error, heard, step } = yield* converse("SCRAM-SHA-1", more, { lookup })
        assert.isUndefined(error)
        assert.strictEqual(step._tag, "Accept")
        assert.strictEqual(heard[0]?.split(",").length, 4)
        assert.deepStrictEqual(new Set(seen).size, 1)
      }),
    { arbitrary: { runs: 100, seed: 5 } }
  )
})
