import { assert, describe, it } from "@effect/vitest"
import { Effect, Redacted, Result, Schema } from "effect"
import { Base64, Hex } from "effect/encoding"
import { createHash, createHmac } from "node:crypto"
import { inspect } from "node:util"
import * as hash from "../src/internal/hash.ts"
import { digestsOf } from "../src/internal/sasl/digestMd5.ts"
import * as saslServer from "../src/internal/saslServer.ts"
import * as Sasl from "../src/Sasl.ts"
import { EOAUTH2 } from "../src/SmtpError.ts"
import { leaksIn } from "./support/secrets.ts"

const channelBinding = { type: "tls-exporter", data: new Uint8Array(32) } as const
const context: Sasl.StartContext = { host: "mx.test", port: 587, nonce: "0123456789abcdef01234567", channelBinding }
const utf8 = (text: string) => new TextEncoder().encode(text)
const text = (octets: Uint8Array) => new TextDecoder("utf-8", { ignoreBOM: true }).decode(octets)
const empty = new Uint8Array(0)

const mechanism = (name: string): Sasl.Mechanism => {
  const found = Sasl.mechanisms.find((one) => one.name === name)
  assert.isDefined(found)
  return found!
}

const begin = (name: string, fields: Partial<Sasl.Start>) =>
  mechanism(name).start({
    ...context,
    username: "tim",
    secret: Redacted.make("tanstaaftanstaaf"),
    authorizationId: undefined,
    ...fields
  })

const respond = (step: Result.Result<Sasl.Step, Sasl.SaslError>) => {
  const value = Result.getOrThrow(step)
  assert.strictEqual(value._tag, "Respond")
  if (value._tag !== "Respond") throw new Error("unreachable")
  return { text: text(Redacted.value(value.response)), value, next: value.next }
}

const base64 = (step: Sasl.Step & { readonly _tag: "Respond" }) => Redacted.value(Sasl.encodeResponse(step.response))

const failed = <A, E>(result: Result.Result<A, E>): E => {
  assert.isTrue(Result.isFailure(result))
  if (Result.isSuccess(result)) throw new Error("unreachable")
  return result.failure
}

/** Every way a person or a log may look at a value. */
const looks = (value: unknown): string =>
  [
    String(value),
    JSON.stringify(value) ?? "",
    inspect(value, { depth: 20, showHidden: true, getters: true }),
    typeof value === "object" && value !== null
      ? Object.entries(value).map(([key, one]) => `${key}: ${String(one)}`).join()
      : ""
  ].join("\n")

const assertHidden = (value: unknown, ...secrets: ReadonlyArray<string>) => {
  const seen = looks(value)
  assert.deepStrictEqual(leaksIn(seen, ...secrets), [], seen)
}

describe("PLAIN", () => {
  it("says the messages of RFC 4616 section 4", () => {
    const own = respond(Result.getOrThrow(begin("PLAIN", {})).step(undefined))
    assert.strictEqual(own.text, "\0tim\0tanstaaftanstaaf")
    assert.strictEqual(base64(own.value), "AHRpbQB0YW5zdGFhZnRhbnN0YWFm")
    const other = respond(
      Result.getOrThrow(
        begin("PLAIN", { authorizationId: "Ursel", username: "Kurt", secret: Redacted.make("xipj3plmq") })
      ).step(undefined)
    )
    assert.strictEqual(other.text, "Ursel\0Kurt\0xipj3plmq")
  })

  it("believes success after its one response, and not before", () => {
    const session = Result.getOrThrow(begin("PLAIN", {}))
    assert.match(failed(session.finish()).detail, /before the exchange was complete/)
    const { next } = respond(session.step(undefined))
    assert.isTrue(Result.isSuccess(next.finish()))
    assert.deepStrictEqual(next.step(empty), Result.succeed({ _tag: "Done" as const }))
    assert.isUndefined(next.failure)
  })

  it("is immutable: the same state answers the same", () => {
    const session = Result.getOrThrow(begin("PLAIN", {}))
    assert.strictEqual(respond(session.step(undefined)).text, respond(session.step(empty)).text)
  })

  it("sends a password as UTF-8, unchanged", () => {
    const { value } = respond(
      Result.getOrThrow(begin("PLAIN", { secret: Redacted.make("p\u00e4\u0308ß\u2126 🔑 ") })).step(undefined)
    )
    assert.deepStrictEqual([...Redacted.value(value.response)], [...utf8("\0tim\0p\u00e4\u0308ß\u2126 🔑 ")])
  })
})

describe("LOGIN", () => {
  it("says username and password, whatever the prompts are, and no third time", () => {
    for (const prompts of [["Username:", "Password:"], ["Password:", "User Name\0"], ["", "\u00ff"]]) {
      const [one = "", two = ""] = prompts
      const session = Result.getOrThrow(begin("LOGIN", {}))
      const user = respond(session.step(utf8(one)))
      assert.strictEqual(user.text, "tim")
      assert.isTrue(Result.isFailure(user.next.finish()))
      const pass = respond(user.next.step(utf8(two)))
      assert.strictEqual(pass.text, "tanstaaftanstaaf")
      assert.isTrue(Result.isSuccess(pass.next.finish()))
      assert.strictEqual(
        Result.getOrThrow(pass.next.step(utf8("again")))
          ._tag,
        "Done"
      )
    }
  })

  it("has no initial response", () => {
    const session = Result.getOrThrow(begin("LOGIN", {}))
    assert.isFalse(mechanism("LOGIN").clientFirst)
    assert.match(failed(session.step(undefined)).detail, /no initial response/)
    assert.isTrue(Result.isFailure(session.finish()))
  })

  it("refuses to lose an authorization identity", () => {
    for (const name of ["LOGIN", "CRAM-MD5"]) {
      const error = failed(begin(name, { authorizationId: "boss" }))
      assert.strictEqual(error.field, "credentials.authorizationId")
      assert.include(error.detail, name)
      assert.isTrue(Result.isSuccess(begin(name, { authorizationId: "" })))
    }
  })
})

describe("CRAM-MD5", () => {
  const challenge = utf8("<1896.697170952@postoffice.reston.mci.net>")

  it("gives the digest of RFC 2195 section 2", () => {
    const { next, text: said, value } = respond(Result.getOrThrow(begin("CRAM-MD5", {})).step(challenge))
    assert.strictEqual(said, "tim b913a602c7eda7a495b4e6e7334d3890")
    assert.strictEqual(base64(value), "dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw")
    assert.isTrue(Result.isSuccess(next.finish()))
    assert.strictEqual(Result.getOrThrow(next.step(challenge))._tag, "Done")
  })

  it("takes a username with spaces", () => {
    const { text: said } = respond(Result.getOrThrow(begin("CRAM-MD5", { username: "a b" })).step(challenge))
    assert.strictEqual(said, "a b b913a602c7eda7a495b4e6e7334d3890")
  })

  it("bounds the challenge and wants one", () => {
    const session = Result.getOrThrow(begin("CRAM-MD5", {}))
    assert.match(failed(session.step(undefined)).detail, /no initial response/)
    assert.match(failed(session.step(empty)).detail, /empty/)
    assert.match(failed(session.step(new Uint8Array(1025))).detail, /longer than 1024/)
    assert.isTrue(Result.isSuccess(session.step(new Uint8Array(1024))))
    assert.isTrue(Result.isFailure(session.finish()))
  })
})

describe("XOAUTH2", () => {
  const token = "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg"
  const google = { username: "someuser@example.com", secret: Redacted.make(token) }
  const afterToken = () => respond(Result.getOrThrow(begin("XOAUTH2", google)).step(undefined)).next
  const failureOf = (challenge: string) => respond(afterToken().step(utf8(challenge))).next.failure

  it("says what Google documents", () => {
    const { next, value } = respond(Result.getOrThrow(begin("XOAUTH2", google)).step(undefined))
    assert.strictEqual(
      base64(value),
      "dXNlcj1zb21ldXNlckBleGFtcGxlLmNvbQFhdXRoPUJlYXJlciB5YTI5LnZGOWRmdDRxbVRjMk52YjNSbGNrQmhkSFJoZG1semRHRXVZMjl0Q2cBAQ=="
    )
    assert.isTrue(Result.isSuccess(next.finish()))
  })

  it("answers Google's error with an empty response and keeps what it says", () => {
    const challenge = Sasl.decodeChallenge(
      "eyJzdGF0dXMiOiI0MDEiLCJzY2hlbWVzIjoiYmVhcmVyIG1hYyIsInNjb3BlIjoiaHR0cHM6Ly9tYWlsLmdvb2dsZS5jb20vIn0K"
    )
    const { next, text: said } = respond(afterToken().step(Result.getOrThrow(challenge)))
    assert.strictEqual(said, "")
    assert.deepStrictEqual(next.failure, {
      status: "401",
      schemes: "bearer mac",
      scope: "https://mail.google.com/"
    })
    assert.match(failed(next.finish()).detail, /after it had refused/)
    assert.strictEqual(Result.getOrThrow(next.step(utf8("{}")))._tag, "Done")
  })

  it("answers anything else with an empty response too, and keeps nothing", () => {
    const nested = `${"[".repeat(1500)}${"]".repeat(1500)}`
    for (const said of ["", "no json", "null", "7", "[]", "{}", nested, `{"status":{}}`, `{"status":null}`]) {
      assert.isUndefined(failureOf(said), said)
    }
    assert.isUndefined(failureOf(`{"status":"400"${" ".repeat(3072)}}`))
    const noChallenge = respond(afterToken().step(undefined))
    assert.strictEqual(noChallenge.text, "")
    assert.isTrue(Result.isFailure(noChallenge.next.finish()))
  })

  it("bounds, escapes and picks the fields of the error, and does not repeat the token", () => {
    assert.deepStrictEqual(failureOf(`{"status":400,"schemes":["x"],"scope":true,"more":"x"}`), {
      status: "400",
      schemes: undefined,
      scope: undefined
    })
    assert.strictEqual(failureOf(`{"status":"\\u001b[2J\\u202e"}`)?.status, "\\u{1b}[2J\\u{202e}")
    assert.strictEqual(failureOf(JSON.stringify({ status: "s".repeat(2000) }))?.status, "s".repeat(200))
    const echoed = failureOf(JSON.stringify({ status: "400", scope: `for ${"x".repeat(180)}${token}!` }))
    assert.strictEqual(echoed?.scope, `for ${"x".repeat(180)}<redacted>!`)
  })
})

describe("OAUTHBEARER", () => {
  const token = "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="
  const fields = { username: "user@example.com", secret: Redacted.make(token), host: "server.example.com" }
  const say = (more: Partial<Sasl.Start>) =>
    respond(Result.getOrThrow(begin("OAUTHBEARER", { ...fields, ...more })).step(undefined))

  it("says the examples of RFC 7628 section 4", () => {
    const { next, text: said, value } = say({ port: 143 })
    assert.strictEqual(
      said,
      `n,a=user@example.com,\u0001host=server.example.com\u0001port=143\u0001auth=Bearer ${token}\u0001\u0001`
    )
    assert.strictEqual(
      base64(value),
      "bixhPXVzZXJAZXhhbXBsZS5jb20sAWhvc3Q9c2VydmVyLmV4YW1wbGUuY29tAXBvcnQ9MTQzAWF1dGg9QmVhcmVyIHZGOWRmdDRxbVRjMk52YjNSbGNrQmhiSFJoZG1semRHRXVZMjl0Q2c9PQEB"
    )
    assert.isTrue(Result.isSuccess(next.finish()))
    const { next: refused, text: answer, value: sent } = respond(next.step(Result.getOrThrow(Sasl.decodeChallenge(
      "eyJzdGF0dXMiOiJpbnZhbGlkX3Rva2VuIiwic2NvcGUiOiJleGFtcGxlX3Njb3BlIiwib3BlbmlkLWNvbmZpZ3VyYXRpb24iOiJodHRwczovL2V4YW1wbGUuY29tLy53ZWxsLWtub3duL29wZW5pZC1jb25maWd1cmF0aW9uIn0="
    ))))
    assert.deepStrictEqual([answer, base64(sent)], ["\u0001", "AQ=="])
    assert.deepStrictEqual(refused.failure, {
      status: "invalid_token",
      schemes: undefined,
      scope: "example_scope"
    })
    assert.match(failed(refused.finish()).detail, /after it had refused/)
  })

  it("escapes the name, and refuses a host that would break the message", () => {
    assert.include(say({ username: "a,b=c" }).text, "n,a=a=2Cb=3Dc,\u0001host=")
    assert.strictEqual(failed(begin("OAUTHBEARER", { ...fields, host: "a\u0001auth=x" })).field, "context.host")
  })

  it("bounds what the server says, and repeats no token", () => {
    const failureOf = (said: string) => respond(say({}).next.step(utf8(said))).next.failure
    assert.isUndefined(failureOf(`{"status":"400"${" ".repeat(3072)}}`))
    assert.strictEqual(failureOf(JSON.stringify({ status: token }))?.status, "<redacted>")
    assert.strictEqual(respond(say({}).next.step(utf8("no JSON"))).text, "\u0001")
  })
})

describe("ANONYMOUS", () => {
  it("says the trace, or nothing", () => {
    const said = (trace?: string) =>
      respond(
        Result.getOrThrow(
          Sasl.start(mechanism("ANONYMOUS"), Sasl.anonymous({ trace }), undefined, context)
        ).step(undefined)
      ).text
    assert.strictEqual(said("sirhc"), "sirhc")
    assert.strictEqual(said(), "")
    assert.strictEqual(said("ä".repeat(255)), "ä".repeat(255))
    for (const trace of ["x".repeat(256), "a\u0001", "a\r\n"]) {
      assert.strictEqual(failed(begin("ANONYMOUS", { username: trace })).field, "credentials.trace")
    }
    assert.isUndefined(Sasl.secretOf(Sasl.anonymous()))
  })
})

describe("DIGEST-MD5", () => {
  const imap = {
    username: "chris",
    realm: "elwood.innosoft.com",
    password: "secret",
    nonce: "OA6MG9tEQGm2hh",
    cnonce: "OA6MHXh6VqTrRk",
    uri: "imap/elwood.innosoft.com",
    authorizationId: ""
  }
  const acap = { ...imap, nonce: "OA9BSXrbuRhWay", cnonce: "OA9BSuZWMSpW8m", uri: "acap/elwood.innosoft.com" }
  const credentials = { username: "chris", secret: Redacted.make("secret"), nonce: "OA6MHXh6VqTrRk", host: "mx.test" }
  const step = (challenge: string | Uint8Array, more: Partial<Sasl.Start> = {}) =>
    Result.getOrThrow(begin("DIGEST-MD5", { ...credentials, ...more }))
      .step(typeof challenge === "string" ? utf8(challenge) : challenge)
  const asked = `realm="elwood.innosoft.com",nonce="OA6MG9tEQGm2hh",qop="auth",algorithm=md5-sess,charset=utf-8`

  it("gives the digests of RFC 2831 section 4", () => {
    assert.deepStrictEqual(digestsOf(imap), {
      response: "d388dad90d4bbd760a152321f2143af7",
      rspauth: "ea40f60335c427b5527b84dbabcdfffd"
    })
    assert.deepStrictEqual(digestsOf(acap), {
      response: "6084c6db3fede7352c551284490fd0fc",
      rspauth: "2f0b3d7c3c2e486600ef710726aa2eae"
    })
  })

  it("answers, and believes the server once it has proved itself", () => {
    const { next, text: said } = respond(step(asked))
    const { response, rspauth } = digestsOf({ ...imap, uri: "smtp/mx.test" })
    assert.strictEqual(
      said,
      `charset=utf-8,username="chris",realm="elwood.innosoft.com",nonce="OA6MG9tEQGm2hh",nc=00000001,` +
        `cnonce="OA6MHXh6VqTrRk",digest-uri="smtp/mx.test",response=${response},qop=auth`
    )
    assert.match(failed(next.finish()).detail, /without its rspauth/)
    for (const wrong of [`rspauth=${response}`, "rspauth=", "nothing=here", "rspauth"]) {
      assert.match(failed(next.step(utf8(wrong))).detail, /rspauth is wrong|malformed/)
    }
    const last = respond(next.step(utf8(`rspauth=${rspauth}`)))
    assert.strictEqual(last.text, "")
    assert.isTrue(Result.isSuccess(last.next.finish()))
    assert.match(failed(next.step(undefined)).detail, /no second initial response/)
  })

  it("quotes, names whom to act as, and hashes in ISO 8859-1 what fits into it", () => {
    const more = { username: `a"\\ü`, secret: Redacted.make("pä"), authorizationId: "boss" }
    const { text: said } = respond(step(asked, more))
    assert.include(said, `username="a\\"\\\\ü",`)
    assert.isTrue(said.endsWith(`,authzid="boss"`))
    const md5 = (...parts: ReadonlyArray<string | Buffer>) =>
      parts.reduce((sum, part) => sum.update(part), createHash("md5")).digest()
    const secret = md5(Buffer.from(`a"\\ü:elwood.innosoft.com:pä`, "latin1"))
    const a1 = md5(secret, ":OA6MG9tEQGm2hh:OA6MHXh6VqTrRk:boss").toString("hex")
    const a2 = md5("AUTHENTICATE:smtp/mx.test").toString("hex")
    const digest = md5(`${a1}:OA6MG9tEQGm2hh:00000001:OA6MHXh6VqTrRk:auth:${a2}`).toString("hex")
    assert.include(said, `response=${digest}`)
    assert.notInclude(respond(step(asked, { secret: Redacted.make("p\u20ac") })).text, digest)
  })

  it("takes a challenge without realm and charset, and with folding and quoted pairs", () => {
    const { text: said } = respond(step(`, nonce = "a\\"b" ,, algorithm=MD5-sess , qop="auth-int, auth",`))
    assert.isTrue(said.startsWith(`username="chris",nonce="a\\"b",nc=`))
    assert.include(respond(step("nonce=x,algorithm=md5-sess")).text, `nonce="x"`)
  })

  it("refuses what it cannot answer", () => {
    const cases: ReadonlyArray<readonly [string | Uint8Array, RegExp, Partial<Sasl.Start>?]> = [
      ["", /lacks nonce or algorithm/],
      [`nonce="",algorithm=md5-sess`, /lacks nonce/],
      [`nonce="a",nonce="b",algorithm=md5-sess`, /lacks nonce/],
      [`nonce="a"`, /lacks nonce or algorithm/],
      [`nonce="a",algorithm=md5`, /not md5-sess/],
      [`nonce="a",algorithm=md5-sess,qop="auth-int"`, /security layer/],
      [`nonce="a`, /malformed/],
      [`nonce`, /malformed/],
      [`nonce="a"b`, /malformed/],
      [Uint8Array.of(0xff), /malformed/],
      ["x".repeat(2049), /longer than 2048/],
      [`nonce="a",algorithm=md5-sess`, /reads no UTF-8/, { username: "ü" }],
      [`nonce="a",algorithm=md5-sess`, /reads no UTF-8/, { secret: Redacted.make("ü") }],
      [`nonce="a",algorithm=md5-sess`, /reads no UTF-8/, { authorizationId: "ü" }]
    ]
    for (const [challenge, detail, more] of cases) assert.match(failed(step(challenge, more)).detail, detail)
    assert.isTrue(mechanism("DIGEST-MD5").isObsolete)
  })
})

describe("EXTERNAL", () => {
  it("says the identity to act as, or nothing", () => {
    const said = (authorizationId: string | undefined) =>
      respond(
        Result.getOrThrow(begin("EXTERNAL", { authorizationId, username: "", secret: Redacted.make("") }))
          .step(undefined)
      )
    assert.strictEqual(said(undefined).text, "")
    assert.strictEqual(said("fred@example.com").text, "fred@example.com")
    assert.isTrue(Result.isSuccess(said(undefined).next.finish()))
    assert.strictEqual(failed(begin("EXTERNAL", { authorizationId: "a\0b" })).field, "credentials.authorizationId")
  })
})

describe("finish", () => {
  it("believes no success before anything was said", () => {
    for (const { name } of Sasl.mechanisms) {
      assert.match(failed(Result.getOrThrow(begin(name, {})).finish()).detail, /before the exchange was complete/, name)
    }
  })
})

describe("fields", () => {
  const cases: ReadonlyArray<readonly [string, Partial<Sasl.Start>, string, RegExp]> = [
    ["PLAIN", { username: "" }, "credentials.username", /is empty/],
    ["PLAIN", { username: "a\0b" }, "credentials.username", /NUL/],
    ["PLAIN", { secret: Redacted.make("") }, "credentials.password", /is empty/],
    ["PLAIN", { secret: Redacted.make("a\0b") }, "credentials.password", /NUL/],
    ["PLAIN", { authorizationId: "a\0b" }, "credentials.authorizationId", /NUL/],
    ["PLAIN", { username: "\ud800" }, "credentials.username", /lone surrogate/],
    ["LOGIN", { username: "" }, "credentials.username", /is empty/],
    ["LOGIN", { secret: Redacted.make("\udc00") }, "credentials.password", /lone surrogate/],
    ["CRAM-MD5", { username: "" }, "credentials.username", /is empty/],
    ["CRAM-MD5", { secret: Redacted.make("") }, "credentials.password", /is empty/],
    ["XOAUTH2", { username: "" }, "credentials.username", /is empty/],
    ["XOAUTH2", { username: "a\u0001auth=b" }, "credentials.username", /control/],
    ["XOAUTH2", { username: "a\u0085" }, "credentials.username", /control/],
    ["XOAUTH2", { secret: Redacted.make("t\u0001") }, "credentials.token", /bearer/],
    ["XOAUTH2", { secret: Redacted.make("t\n") }, "credentials.token", /line ends/],
    ["XOAUTH2", { secret: Redacted.make("Bearer t") }, "credentials.token", /without "Bearer"/],
    ["XOAUTH2", { secret: Redacted.make("") }, "credentials.token", /is empty/],
    ["OAUTHBEARER", { username: "" }, "credentials.username", /is empty/],
    ["OAUTHBEARER", { username: "a\u0001host=b" }, "credentials.username", /control/],
    ["OAUTHBEARER", { secret: Redacted.make("Bearer t") }, "credentials.token", /without "Bearer"/],
    ["DIGEST-MD5", { username: "a\0" }, "credentials.username", /NUL/],
    ["DIGEST-MD5", { secret: Redacted.make("") }, "credentials.password", /is empty/]
  ]

  it("are refused with their name and a way to mend them", () => {
    for (const [name, fields, field, detail] of cases) {
      const error = failed(begin(name, fields))
      assert.strictEqual(error._tag, "SaslError")
      assert.strictEqual(error.field, field, name)
      assert.match(error.detail, detail)
      assert.include(error.detail, field)
    }
  })

  it("that are no strings at run time are refused", () => {
    for (const odd of [7, null, { toString: () => "tim" }]) {
      for (const name of ["SCRAM-SHA-256", "PLAIN", "LOGIN", "CRAM-MD5", "DIGEST-MD5", "OAUTHBEARER", "XOAUTH2"]) {
        assert.match(failed(begin(name, { username: odd as unknown as string })).detail, /not a string/)
      }
    }
  })

  const bad = ["\0", "\u0001", "\r\n", "\ud800", "auth=Bearer ", "ä"]
  const good = ["a", "B", "7", "@", ".", ",", "=", "+", "-", "_", "~", "user=", "=2C"]
  const Part = Schema.Literals([...good, ...good.map((part) => part + part), ...bad])
  const Field = Schema.Union([
    Schema.NonEmptyArray(Part),
    Schema.NonEmptyArray(Schema.Literals(good)),
    Schema.Tuple([Schema.String])
  ])
  const join = (field: typeof Field.Type) => field.join("")

  for (const name of ["PLAIN", "LOGIN", "CRAM-MD5", "DIGEST-MD5", "OAUTHBEARER", "XOAUTH2", "EXTERNAL"]) {
    it.effect.prop(
      `${name}: a server reads back exactly the fields, or nothing is sent`,
      [Field, Field, Field],
      ([user, pass, identity]) =>
        Effect.sync(() => {
          const [username, secret, authorizationId] = [join(user), join(pass), join(identity)]
          const started = begin(name, {
            username,
            secret: Redacted.make(secret),
            authorizationId: name === "PLAIN" || name === "EXTERNAL" ? authorizationId : undefined
          })
          if (Result.isFailure(started)) return assert.match(started.failure.field ?? "", /^credentials\./)
          const server = saslServer.serverStart(name, {
            lookup: (who) => name === "EXTERNAL" ? "" : who === username ? secret : undefined,
            acceptAny: false,
            challenge: "<1@fake.test>"
          })
          const { said, session } = converse(name, started.success, server)
          assert.deepStrictEqual(said, { _tag: "Accept", username: name === "EXTERNAL" ? authorizationId : username })
          assert.isTrue(Result.isSuccess(session.finish()))
        }),
      { arbitrary: { runs: 300, seed: 4 } }
    )
  }
})

/** Runs a whole exchange between a session and the fake server's side. */
const converse = (name: string, first: Sasl.Session, server: saslServer.ServerSession) => {
  let session = first
  let said: saslServer.ServerStep = { _tag: "Challenge", data: empty }
  let challenge: Uint8Array | undefined
  const answers: Array<string> = []
  if (!mechanism(name).clientFirst) {
    said = server.step(undefined)
    challenge = said._tag === "Challenge" ? said.data : undefined
  }
  while (said._tag === "Challenge") {
    const { next, text: answer, value } = respond(session.step(challenge))
    answers.push(answer)
    session = next
    said = server.step(Redacted.value(value.response))
    challenge = said._tag === "Challenge" ? said.data : undefined
  }
  return { said, session, answers }
}

describe("secrets", () => {
  const canary = "cánary-Sw0rdfish/+?"
  const bearer = "canary.Bearer-T0ken=="
  const digest = createHmac("md5", canary).update("<1@fake.test>").digest("hex")
  const hidden = [
    canary,
    bearer,
    digest,
    `tim ${digest}`,
    `\0tim\0${canary}`,
    `user=tim\u0001auth=Bearer ${bearer}\u0001\u0001`
  ]

  it("show in no credentials, session, step or response", () => {
    for (const name of ["PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2"]) {
      let session = Result.getOrThrow(
        begin(name, { secret: Redacted.make(name === "XOAUTH2" ? bearer : canary) })
      )
      for (let round = 0; round < 3; round++) {
        assertHidden(session, ...hidden)
        const step = session.step(round === 0 && mechanism(name).clientFirst ? undefined : utf8("<1@fake.test>"))
        assertHidden(step, ...hidden)
        assertHidden(session.finish(), ...hidden)
        const value = Result.getOrThrow(step)
        if (value._tag !== "Respond") break
        assertHidden(value, ...hidden)
        assertHidden(value.response, ...hidden)
        assertHidden(Sasl.encodeResponse(value.response), ...hidden)
        session = value.next
      }
    }
    const ready = Redacted.make(canary)
    for (
      const credentials of [
        Sasl.password({ username: "tim", password: ready }),
        Sasl.password({ username: "tim", password: Effect.succeed(ready) }),
        Sasl.oauth2({ username: "tim", token: ready }),
        Sasl.custom({ mechanism: mechanism("PLAIN"), secret: ready })
      ]
    ) assertHidden(credentials, ...hidden)
  })

  it("show in no error of a field", () => {
    for (const name of ["PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2"]) {
      for (const bad of ["\0", "\u0001", "\ud800", "\n"]) {
        const started = begin(name, { secret: Redacted.make(canary + bad) })
        assertHidden(started, canary)
      }
    }
    assertHidden(Sasl.decodeChallenge(`${Base64.encode(canary)}*`), canary)
  })

  it("that are plain strings are refused without being shown", () => {
    const plainText = canary as unknown as Redacted.Redacted<string>
    for (
      const credentials of [
        Sasl.password({ username: "tim", password: plainText }),
        Sasl.oauth2({ username: "tim", token: plainText }),
        Sasl.custom({ mechanism: mechanism("PLAIN"), secret: plainText })
      ]
    ) {
      const selected = Sasl.select({
        offered: ["PLAIN", "XOAUTH2"],
        credentials,
        secure: true,
        allowInsecureAuth: false
      })
      assert.match(failed(selected).detail, /Redacted\.make/)
      assertHidden(selected, canary)
    }
  })
})

const startedWith = (credentials: Sasl.Credentials, secret: Redacted.Redacted<string> | undefined) => {
  let input: Sasl.Start | undefined
  const spy: Sasl.Mechanism = {
    ...mechanism("PLAIN"),
    start: (given) => {
      input = given
      return Result.succeed(Sasl.sequence([]))
    }
  }
  Result.getOrThrow(Sasl.start(spy, credentials, secret, { ...context, offered: ["PLAIN"] }))
  return { ...input, secret: input && Redacted.value(input.secret) }
}

describe("start", () => {
  const secret = Redacted.make("s")

  it("passes on what the credentials hold", () => {
    const given = { ...context, offered: ["PLAIN"] }
    assert.deepStrictEqual(
      startedWith(Sasl.password({ username: "u", password: secret, authorizationId: "z" }), secret),
      { ...given, username: "u", secret: "s", authorizationId: "z" }
    )
    assert.deepStrictEqual(
      startedWith(Sasl.oauth2({ username: "u", token: secret }), secret),
      { ...given, username: "u", secret: "s", authorizationId: undefined }
    )
    assert.deepStrictEqual(
      startedWith(Sasl.external({ authorizationId: "z" }), undefined),
      { ...given, username: "", secret: "", authorizationId: "z" }
    )
    assert.deepStrictEqual(
      startedWith(Sasl.custom({ mechanism: mechanism("PLAIN") }), undefined),
      { ...given, username: "", secret: "", authorizationId: undefined }
    )
  })

  it("finds the secret of credentials, an Effect left as it is", () => {
    const provider = Effect.fail(new EOAUTH2({ message: "down", command: "API" }))
    assert.strictEqual(Sasl.secretOf(Sasl.password({ username: "u", password: secret })), secret)
    assert.strictEqual(Sasl.secretOf(Sasl.oauth2({ username: "u", token: provider })), provider)
    assert.strictEqual(Sasl.secretOf(Sasl.custom({ mechanism: mechanism("PLAIN"), secret })), secret)
    assert.isUndefined(Sasl.secretOf(Sasl.external()))
  })
})

describe("challenges", () => {
  it("are strict base64, bounded", () => {
    assert.deepStrictEqual(Sasl.decodeChallenge(""), Result.succeed(empty))
    assert.strictEqual(text(Result.getOrThrow(Sasl.decodeChallenge("VXNlcm5hbWU6"))), "Username:")
    assert.isTrue(Result.isSuccess(Sasl.decodeChallenge("A".repeat(12_288))))
    assert.match(failed(Sasl.decodeChallenge("A".repeat(12_292))).detail, /12288/)
    for (const bad of ["A", "AA", "AA=", "=", "AA==AA==", "AB==", "A-_=", "QQ==\r\n", " QQ==", "Username:", "QÄ=="]) {
      assert.match(failed(Sasl.decodeChallenge(bad)).detail, /not base64/, bad)
    }
  })

  it.effect.prop("come back from what is encoded", [Schema.Array(Schema.Int)], ([numbers]) =>
    Effect.sync(() => {
      const octets = Uint8Array.from(numbers)
      const encoded = Redacted.value(Sasl.encodeResponse(Redacted.make(octets)))
      assert.deepStrictEqual(Result.getOrThrow(Sasl.decodeChallenge(encoded)), octets)
    }))
})

describe("select", () => {
  const secret = Redacted.make("s")
  const password = Sasl.password({ username: "u", password: secret })
  const oauth2 = Sasl.oauth2({ username: "u", token: secret })
  const own: Sasl.Mechanism = { ...mechanism("PLAIN"), name: "X-OWN", kind: "custom" }
  const ownPassword: Sasl.Mechanism = { ...own, kind: "password" }
  const custom = Sasl.custom({ mechanism: own })
  const select = (options: Partial<Sasl.SelectOptions>) =>
    Result.map(
      Sasl.select({ offered: [], credentials: password, secure: true, allowInsecureAuth: false, ...options }),
      (found) => found.map(({ name }) => name)
    )
  const all = ["XOAUTH2", "CRAM-MD5", "DIGEST-MD5", "EXTERNAL", "LOGIN", "X-OWN", "PLAIN", "GSSAPI", "ANONYMOUS"]
  const scram = ["SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512"]
  const plus = ["SCRAM-SHA-512-PLUS", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS"]

  const table: ReadonlyArray<readonly [string, Partial<Sasl.SelectOptions>, ReadonlyArray<string>]> = [
    ["strongest first", { offered: all }, ["PLAIN", "LOGIN", "CRAM-MD5"]],
    ["in any case", { offered: ["login", "Plain"] }, ["PLAIN", "LOGIN"]],
    ["only what is offered", { offered: ["LOGIN"] }, ["LOGIN"]],
    ["CRAM-MD5 when there is nothing else", { offered: ["CRAM-MD5"] }, ["CRAM-MD5"]],
    ["the order of the list", { offered: all, mechanisms: ["cram-md5", "PLAIN"] }, ["CRAM-MD5", "PLAIN"]],
    ["each once", { offered: ["PLAIN", "PLAIN"], mechanisms: ["PLAIN", "plain"] }, ["PLAIN"]],
    ["names we lack are passed over", { offered: all, mechanisms: ["GSSAPI", "LOGIN"] }, ["LOGIN"]],
    ["a minimum", { offered: all, minimumMechanism: "login" }, ["PLAIN", "LOGIN"]],
    ["the weakest minimum", { offered: all, minimumMechanism: "CRAM-MD5" }, ["PLAIN", "LOGIN", "CRAM-MD5"]],
    [
      "a minimum over a list",
      { offered: all, mechanisms: ["CRAM-MD5", "PLAIN"], minimumMechanism: "PLAIN" },
      ["PLAIN"]
    ],
    ["a token", { offered: all, credentials: oauth2 }, ["XOAUTH2"]],
    ["a token, whatever the minimum for passwords", {
      offered: all,
      credentials: oauth2,
      minimumMechanism: "SCRAM-SHA-256"
    }, ["XOAUTH2"]],
    ["a certificate", { offered: all, credentials: Sasl.external() }, ["EXTERNAL"]],
    ["OAUTHBEARER before XOAUTH2", { offered: [...all, "OAUTHBEARER"], credentials: oauth2 }, [
      "OAUTHBEARER",
      "XOAUTH2"
    ]],
    ["the token mechanisms in the order of the list", {
      offered: [...all, "OAUTHBEARER"],
      credentials: oauth2,
      mechanisms: ["XOAUTH2", "OAUTHBEARER"]
    }, ["XOAUTH2", "OAUTHBEARER"]],
    ["SCRAM before PLAIN", { offered: [...all, ...scram], canBind: true }, [
      "SCRAM-SHA-512",
      "SCRAM-SHA-256",
      "SCRAM-SHA-1",
      "PLAIN",
      "LOGIN",
      "CRAM-MD5"
    ]],
    ["SCRAM-PLUS before SCRAM, whatever the hash", { offered: ["SCRAM-SHA-512", "SCRAM-SHA-1-PLUS"], canBind: true }, [
      "SCRAM-SHA-1-PLUS",
      "SCRAM-SHA-512"
    ]],
    ["no SCRAM-PLUS where there is nothing to bind to", { offered: [...plus, "SCRAM-SHA-1"] }, ["SCRAM-SHA-1"]],
    ["SCRAM-PLUS alone where it is required", {
      offered: [...all, ...scram, ...plus],
      canBind: true,
      channelBinding: "required"
    }, plus],
    ["the same as ever where it is preferred", { offered: ["PLAIN"], channelBinding: "preferred" }, ["PLAIN"]],
    ["one of the user's own that binds where that is required", {
      offered: all,
      credentials: Sasl.custom({ mechanism: { ...own, bindsChannel: true } }),
      canBind: true,
      channelBinding: "required"
    }, ["X-OWN"]],
    ["DIGEST-MD5 when it is listed", { offered: all, mechanisms: ["digest-md5", "PLAIN"] }, ["DIGEST-MD5", "PLAIN"]],
    ["the SCRAM of the minimum and better", {
      offered: [...all, ...scram, ...plus],
      canBind: true,
      minimumMechanism: "SCRAM-SHA-256"
    }, [...plus, "SCRAM-SHA-512", "SCRAM-SHA-256"]],
    ["nobody in particular", { offered: all, credentials: Sasl.anonymous() }, ["ANONYMOUS"]],
    ["one of the user's own", { offered: ["x-own", "PLAIN"], credentials: custom }, ["X-OWN"]],
    ["clear text when asked for", { offered: all, secure: false, allowInsecureAuth: true }, [
      "PLAIN",
      "LOGIN",
      "CRAM-MD5"
    ]]
  ]
  for (const [name, options, expected] of table) {
    it(`gives ${name}`, () => assert.deepStrictEqual(select(options), Result.succeed([...expected])))
  }

  it("gives nothing without verified TLS, whatever the credentials", () => {
    for (const credentials of [password, oauth2, Sasl.external(), custom]) {
      const { _tag, detail } = failed(select({ offered: all, credentials, secure: false }))
      assert.strictEqual(_tag, "SelectError")
      assert.include(detail, "no credential leaves without verified TLS; set allowInsecureAuth: true")
    }
  })

  it("says what was offered and what was possible when nothing is common", () => {
    assert.strictEqual(
      failed(select({ offered: ["GSSAPI", "NTLM"] })).detail,
      "no common authentication mechanism: the server offers GSSAPI, NTLM; these credentials can use SCRAM-SHA-512, SCRAM-SHA-256, SCRAM-SHA-1, PLAIN, LOGIN, CRAM-MD5"
    )
    const detail = failed(select({ offered: [], mechanisms: ["GSSAPI"], minimumMechanism: "plain" })).detail
    assert.include(detail, "the server offers none; ")
    assert.include(detail, "mechanisms allows GSSAPI; minimumMechanism is plain")
    assert.include(failed(select({ offered: all, mechanisms: [] })).detail, "mechanisms allows none")
  })

  it("gives nothing where a channel binding is required and cannot be had", () => {
    const required = { channelBinding: "required", offered: [...all, ...scram, ...plus] } as const
    assert.include(failed(select(required)).detail, `channelBinding: "required" needs TLS`)
    const lacking = failed(select({ ...required, canBind: true, offered: [...all, ...scram] })).detail
    assert.include(
      lacking,
      "these credentials can use SCRAM-SHA-512-PLUS, SCRAM-SHA-256-PLUS, SCRAM-SHA-1-PLUS; channel"
    )
    assert.isTrue(lacking.endsWith(`channelBinding is "required"`))
    for (const credentials of [oauth2, Sasl.external(), Sasl.anonymous(), custom]) {
      const { detail } = failed(select({ ...required, canBind: true, credentials }))
      assert.include(detail, "these credentials can use none")
    }
  })

  it("falls below no minimum", () => {
    assert.include(failed(select({ offered: all, minimumMechanism: "SCRAM-SHA-1" })).detail, "SCRAM-SHA-1")
    const unranked = Sasl.custom({ mechanism: ownPassword })
    assert.isTrue(Result.isSuccess(select({ offered: all, credentials: unranked })))
    assert.isTrue(Result.isFailure(select({ offered: all, credentials: unranked, minimumMechanism: "CRAM-MD5" })))
    assert.match(failed(select({ offered: all, minimumMechanism: "SCRAM" })).detail, /SCRAM is not known; give one of/)
  })

  it("escapes and bounds what the server offered", () => {
    const { detail } = failed(select({ offered: ["\u001b[2J", "X".repeat(10_000), ...Array(1000).fill("Y")] }))
    assert.include(detail, "\\u{1b}[2J")
    assert.include(detail, "and 986 more")
    assert.isBelow(detail.length, 500)
  })
})

const serverInput = (more?: Partial<saslServer.ServerInput>): saslServer.ServerInput => ({
  lookup: (who) => who === "tim" ? "pw" : undefined,
  acceptAny: false,
  challenge: "<1@fake.test>",
  ...more
})

const bearerMessage = (token: string) => `user=tim\u0001auth=Bearer ${token}\u0001\u0001`

describe("the server's side", () => {
  const run = (name: string, responses: ReadonlyArray<string | undefined>, more?: Partial<saslServer.ServerInput>) => {
    const session = saslServer.serverStart(name, serverInput(more))
    return responses.map((response) => {
      const step = session.step(response === undefined ? undefined : utf8(response))
      return step._tag === "Challenge" ? `? ${text(step.data)}` : step._tag === "Accept" ? `+ ${step.username}` : "-"
    })
  }
  const md5 = saslServer.cramMd5("pw", "<1@fake.test>")
  const error = `? ${saslServer.oauth2Failure}`
  const gs2 = (token: string) => `n,a=tim,\u0001host=mx.test\u0001port=25\u0001auth=Bearer ${token}\u0001\u0001`
  const nonce = Base64.encode("<1@fake.test>")
  const asked = `? realm="fake.test",nonce="${nonce}",qop="auth",charset=utf-8,algorithm=md5-sess`
  const digests = (password: string) =>
    digestsOf({ username: "tim", realm: "fake.test", password, nonce, cnonce: "c", uri: "smtp/x", authorizationId: "" })
  const digest = (password: string) =>
    `username="tim",realm="fake.test",nonce="${nonce}",cnonce="c",nc=00000001,qop=auth,digest-uri="smtp/x",` +
    `response=${digests(password).response}`
  const { rspauth } = digests("pw")

  it("judges each mechanism", () => {
    const table: ReadonlyArray<readonly [string, ReadonlyArray<string | undefined>, ReadonlyArray<string>]> = [
      ["plain", [undefined, "\0tim\0pw"], ["? ", "+ tim"]],
      ["PLAIN", ["zed\0tim\0pw"], ["+ tim"]],
      ["PLAIN", ["\0tim\0no"], ["-"]],
      ["PLAIN", ["tim\0pw"], ["-"]],
      ["PLAIN", ["\0\0pw"], ["-"]],
      ["PLAIN", ["\0tim\0"], ["-"]],
      ["LOGIN", [undefined, "tim", "pw"], ["? Username:", "? Password:", "+ tim"]],
      ["LOGIN", ["tim", "no"], ["? Password:", "-"]],
      ["LOGIN", [undefined, ""], ["? Username:", "-"]],
      ["CRAM-MD5", [undefined, `tim ${md5}`], ["? <1@fake.test>", "+ tim"]],
      ["CRAM-MD5", [undefined, `zed ${md5}`], ["? <1@fake.test>", "-"]],
      ["CRAM-MD5", [undefined, `tim ${md5.toUpperCase()}`], ["? <1@fake.test>", "-"]],
      ["CRAM-MD5", [`tim ${md5}`], ["-"]],
      ["XOAUTH2", [undefined, bearerMessage("pw")], ["? ", "+ tim"]],
      ["XOAUTH2", [bearerMessage("no"), ""], [error, "-"]],
      ["XOAUTH2", [bearerMessage("no"), "x"], [error, "-"]],
      ["XOAUTH2", [bearerMessage("")], ["-"]],
      ["XOAUTH2", ["user=tim\u0001auth=Bearer pw\u0001"], ["-"]],
      ["XOAUTH2", ["user=tim\u0001auth=pw\u0001\u0001"], ["-"]],
      ["EXTERNAL", [undefined, ""], ["? ", "+ "]],
      ["EXTERNAL", ["tim"], ["+ tim"]],
      ["EXTERNAL", ["zed"], ["-"]],
      ["EXTERNAL", ["a\0"], ["-"]],
      ["OAUTHBEARER", [undefined, gs2("pw")], ["? ", "+ tim"]],
      ["OAUTHBEARER", ["n,a=t=69m,\u0001auth=Bearer pw\u0001\u0001"], ["-"]],
      ["OAUTHBEARER", [gs2("no"), "\u0001"], [error, "-"]],
      ["OAUTHBEARER", [gs2("no"), ""], [error, "-"]],
      ["OAUTHBEARER", [gs2("")], ["-"]],
      ["OAUTHBEARER", [bearerMessage("pw")], ["-"]],
      ["OAUTHBEARER", [gs2("pw").slice(0, -1)], ["-"]],
      ["OAUTHBEARER", [gs2("pw").replace("port=25", "port")], ["-"]],
      ["OAUTHBEARER", ["n,a=tim,\u0001host=x\u0001\u0001"], ["-"]],
      ["ANONYMOUS", [undefined, "who"], ["? ", "+ anonymous"]],
      ["DIGEST-MD5", [undefined, ""], [asked, "-"]],
      ["DIGEST-MD5", [undefined, `nonce="${nonce}",realm="fake.test",qop=auth,digest-uri="imap/x"`], [asked, "-"]],
      ["DIGEST-MD5", [undefined, digest("no")], [asked, "-"]],
      ["DIGEST-MD5", [undefined, digest("pw"), "x"], [asked, `? rspauth=${rspauth}`, "-"]],
      ["DIGEST-MD5", [undefined, digest("pw"), ""], [asked, `? rspauth=${rspauth}`, "+ tim"]],
      ["GSSAPI", [undefined], ["-"]]
    ]
    for (const [name, responses, expected] of table) {
      assert.deepStrictEqual(run(name, responses), expected, `${name} ${responses.join("|")}`)
    }
  })

  it("takes any well-formed credentials when told to, and none that are malformed", () => {
    const any = { acceptAny: true }
    assert.deepStrictEqual(run("PLAIN", ["\0zed\0x"], any), ["+ zed"])
    assert.deepStrictEqual(run("LOGIN", ["zed", "x"], any), ["? Password:", "+ zed"])
    assert.deepStrictEqual(run("CRAM-MD5", [undefined, `z d ${"0".repeat(32)}`], any), ["? <1@fake.test>", "+ z d"])
    assert.deepStrictEqual(run("XOAUTH2", ["user=zed\u0001auth=Bearer x\u0001\u0001"], any), ["+ zed"])
    assert.deepStrictEqual(run("EXTERNAL", ["zed"], any), ["+ zed"])
    assert.match(run("OAUTHBEARER", [gs2("x")], any)[0] ?? "", /^\+ tim$/)
    assert.deepStrictEqual(run("DIGEST-MD5", [undefined, digest("pw")], any), [asked, "-"])
    for (const name of ["PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2", "EXTERNAL", "ANONYMOUS"]) {
      assert.strictEqual(saslServer.serverStart(name, serverInput(any)).step(Uint8Array.of(0xff, 0xfe))._tag, "Reject")
    }
    assert.deepStrictEqual(run("CRAM-MD5", [undefined, "zed"], any), ["? <1@fake.test>", "-"])
  })

  it("sends a token's refusal that the client reads and ends", () => {
    const started = begin("XOAUTH2", { secret: Redacted.make("stale") })
    const server = saslServer.serverStart("XOAUTH2", serverInput())
    const { answers, said, session } = converse("XOAUTH2", Result.getOrThrow(started), server)
    assert.deepStrictEqual(answers, ["user=tim\u0001auth=Bearer stale\u0001\u0001", ""])
    assert.strictEqual(said._tag, "Reject")
    assert.deepStrictEqual(session.failure, { status: "400", schemes: "Bearer", scope: "https://mail.test/" })
  })
})

describe("hashes", () => {
  it("agree with the vectors of FIPS 180 and RFC 2202", () => {
    const abc = utf8("abc")
    assert.strictEqual(Hex.encode(hash.hash("MD5", abc)), "900150983cd24fb0d6963f7d28e17f72")
    assert.strictEqual(Hex.encode(hash.hash("SHA-1", abc)), "a9993e364706816aba3e25717850c26c9cd0d89d")
    assert.match(Hex.encode(hash.hash("SHA-256", abc)), /^ba7816bf.*f20015ad$/)
    assert.match(Hex.encode(hash.hash("SHA-512", abc)), /^ddaf35a1.*a54ca49f$/)
    const data = utf8("what do ya want for nothing?")
    assert.strictEqual(Hex.encode(hash.hmac("MD5", utf8("Jefe"), data)), "750c783e6ab0b503eaa86e310a5db738")
    assert.strictEqual(Hex.encode(hash.hmac("SHA-1", utf8("Jefe"), data)), "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79")
  })

  it("are compared octet for octet, and unequal lengths are unequal", () => {
    assert.isTrue(hash.timingSafeEqual(utf8("ab"), utf8("ab")))
    assert.isFalse(hash.timingSafeEqual(utf8("ab"), utf8("ac")))
    assert.isFalse(hash.timingSafeEqual(utf8("ab"), utf8("abc")))
  })
})
