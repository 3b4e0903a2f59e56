import { assert, describe, it } from "@effect/vitest"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { type Options, resolve } from "../src/internal/options.ts"
import { fromUrl } from "../src/internal/url.ts"
import * as SmtpClient from "../src/SmtpClient.ts"
import * as SmtpError from "../src/SmtpError.ts"
import * as SmtpServer from "../src/testing/SmtpServer.ts"

const ok = (url: string | URL | Redacted.Redacted<string>): Options => Result.getOrThrow(fromUrl(url))

/** User and password as plain text. */
const loginOf = ({ auth }: Options): readonly [string, unknown] | undefined =>
  auth?._tag === "Password"
    ? [auth.username, Redacted.isRedacted(auth.password) ? Redacted.value(auth.password) : auth.password]
    : undefined

const plain = (options: Options): Omit<Options, "auth"> & { readonly auth?: unknown } =>
  options.auth === undefined ? options : { ...options, auth: loginOf(options) }

const refusal = (url: string): SmtpError.ECONFIG => {
  const result = fromUrl(url)
  assert.isTrue(Result.isFailure(result), `accepted: ${url}`)
  const error = Result.getOrThrow(Result.flip(result))
  assert.instanceOf(error, SmtpError.ECONFIG)
  assert.deepStrictEqual([error.command, error.attempted, error.field], ["API", false, "url"])
  return error
}

const told = (url: string): string => refusal(url).message

const pin = "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="

describe("a URL", () => {
  it.each<[string, unknown]>([
    ["smtp://mx.test", { host: "mx.test" }],
    ["smtp://mx.test/", { host: "mx.test" }],
    ["smtp://mx.test:2525", { host: "mx.test", port: 2525 }],
    ["SMTP://mx.test", { host: "mx.test" }],
    [" smtp://mx.test\n", { host: "mx.test" }],
    ["smtp://", {}],
    ["smtps://mx.test", { host: "mx.test", tls: "implicit" }],
    ["smtps://mx.test:4465", { host: "mx.test", port: 4465, tls: "implicit" }],
    ["lmtp://mx.test", { host: "mx.test", protocol: "lmtp" }],
    ["lmtp://mx.test:2424", { host: "mx.test", port: 2424, protocol: "lmtp" }],
    ["smtp://ann:pw@mx.test", { host: "mx.test", port: 587, auth: ["ann", "pw"] }],
    ["smtp://ann:pw@mx.test:25", { host: "mx.test", port: 25, auth: ["ann", "pw"] }],
    ["smtps://ann:pw@mx.test", { host: "mx.test", tls: "implicit", auth: ["ann", "pw"] }],
    ["lmtp://ann:pw@mx.test", { host: "mx.test", protocol: "lmtp", auth: ["ann", "pw"] }],
    ["smtp://ann:pw@mx.test?tls=implicit", { host: "mx.test", tls: "implicit", auth: ["ann", "pw"] }],
    ["smtp://ann:pw@mx.test?tls=starttls", { host: "mx.test", port: 587, tls: "starttls", auth: ["ann", "pw"] }],
    ["smtp://192.0.2.1", { host: "192.0.2.1" }],
    ["smtp://[2001:db8::1]", { host: "2001:db8::1" }],
    ["smtps://ann:pw@[::1]:4465", { host: "::1", port: 4465, tls: "implicit", auth: ["ann", "pw"] }],
    ["smtp://münchen.test", { host: "münchen.test" }],
    ["smtp://xn--mnchen-3ya.test", { host: "xn--mnchen-3ya.test" }],
    ["smtp:///?path=/run/smtp.sock", { path: "/run/smtp.sock" }],
    ["lmtp://?path=%2Frun%2Flmtp.sock", { path: "/run/lmtp.sock", protocol: "lmtp" }],
    ["lmtp:?path=/run/lmtp.sock", { path: "/run/lmtp.sock", protocol: "lmtp" }]
  ])("%s is %j", (url, options) => {
    assert.deepStrictEqual<unknown>(plain(ok(url)), options)
    assert.deepStrictEqual<unknown>(plain(ok(Redacted.make(url))), options)
    assert.deepStrictEqual<unknown>(plain(ok(new URL(url))), options)
  })

  it.each([
    ["smtp://mx.test", 25, "starttls"],
    ["smtp://ann:pw@mx.test", 587, "starttls"],
    ["smtp://ann:pw@mx.test?tls=implicit", 465, "implicit"],
    ["smtp://mx.test:465", 465, "implicit"],
    ["smtps://mx.test", 465, "implicit"],
    ["smtps://ann:pw@mx.test", 465, "implicit"],
    ["smtps://mx.test:587", 587, "implicit"],
    ["lmtp://mx.test", 24, "starttls"],
    ["lmtp://ann:pw@mx.test", 24, "starttls"]
  ])("%s means port %d, %s", (url, port, tls) => {
    const resolved = Result.getOrThrow(resolve(ok(url)))
    assert.deepStrictEqual([resolved.endpoint.port, resolved.tls], [port, tls])
  })

  it.each([
    ["ann%40me.test", "p%40ss%3Aw%2Frd%3F%23%25", "ann@me.test", "p@ss:w/rd?#%"],
    ["a+b", "c+d", "a+b", "c+d"],
    ["a%20b", "c%2Bd", "a b", "c+d"],
    ["a&b=c", "d&e=f;g", "a&b=c", "d&e=f;g"],
    ["%C3%A9", "%e6%bc%a2", "é", "漢"],
    ["é", "漢", "é", "漢"],
    ["%EF%BB%BFa", "b%00c", "\ufeffa", "b\0c"],
    ["!$'()*,~", "~_-.", "!$'()*,~", "~_-."]
  ])("has user %j and password %j percent-decoded, and a plus stays a plus", (user, password, username, secret) => {
    assert.deepStrictEqual(loginOf(ok(`smtp://${user}:${password}@mx.test`)), [username, secret])
  })

  it("has any text as user and password once it is percent-encoded", () => {
    const all = Array.from({ length: 0x250 }, (_, code) => String.fromCharCode(code)).join("") + "\u{1f4e7}"
    assert.deepStrictEqual(loginOf(ok(`smtp://${encodeURIComponent(all)}:${encodeURIComponent(all)}@mx.test`)), [
      all,
      all
    ])
  })

  it("keeps the password Redacted", () => {
    const { auth } = ok("smtp://ann:CANARY@mx.test")
    assert.strictEqual(auth?._tag, "Password")
    assert.notInclude(JSON.stringify(auth), "CANARY")
  })
})

describe("the query", () => {
  it.each<[string, Options]>([
    ["tls=off", { tls: "off" }],
    ["tls=opportunistic", { tls: "opportunistic" }],
    ["servername=other.test", { servername: "other.test" }],
    ["name=me.test", { name: "me.test" }],
    ["name=%5B192.0.2.1%5D", { name: "[192.0.2.1]" }],
    ["localAddress=192.0.2.9", { localAddress: "192.0.2.9" }],
    ["minimumMechanism=PLAIN", { minimumMechanism: "PLAIN" }],
    ["transcript=commands", { transcript: "commands" }],
    ["mechanisms=PLAIN", { mechanisms: ["PLAIN"] }],
    ["mechanisms=SCRAM-SHA-256,PLAIN", { mechanisms: ["SCRAM-SHA-256", "PLAIN"] }],
    ["family=4", { family: 4 }],
    ["family=6", { family: 6 }],
    ["allowInsecureAuth=true", { allowInsecureAuth: true }],
    ["allowInsecureAuth=false", { allowInsecureAuth: false }],
    ["rejectUnauthorized=false", { tlsOptions: { rejectUnauthorized: false } }],
    ["rejectUnauthorized=true", { tlsOptions: { rejectUnauthorized: true } }],
    ["channelBinding=required", { channelBinding: "required" }],
    ["minVersion=TLSv1.3&ciphers=HIGH", { tlsOptions: { minVersion: "TLSv1.3", ciphers: "HIGH" } }],
    [`pins=${encodeURIComponent(pin)},${encodeURIComponent(pin)}`, { tlsOptions: { pins: [pin, pin] } }],
    ["timeouts.command=10+seconds", { timeouts: { command: "10 seconds" } }],
    ["timeouts.command=10%20seconds&timeouts.total=5000", { timeouts: { command: "10 seconds", total: 5000 } }],
    ["name=me.test&family=4&timeouts.quit=1", { name: "me.test", family: 4, timeouts: { quit: 1 } }]
  ])("%s is %j", (query, options) => {
    const read = ok(`smtp://mx.test?${query}`)
    assert.deepStrictEqual(read, { host: "mx.test", ...options })
    assert.isTrue(Result.isSuccess(resolve(read)))
  })

  it.each(["dns", "connect", "greeting", "tls", "command", "data", "final", "idle", "quit", "total"])(
    "takes the deadline timeouts.%s",
    (name) => {
      const { deadlines } = Result.getOrThrow(resolve(ok(`smtp://mx.test?timeouts.${name}=7+seconds`)))
      assert.deepStrictEqual(Object.entries(deadlines).filter(([, millis]) => millis === 7000), [[name, 7000]])
    }
  )

  it.each([
    ["tls=CANARY", "options.tls"],
    ["family=5", "options.family"],
    ["family=CANARY", "options.family"],
    ["family=", "options.family"],
    ["allowInsecureAuth=CANARY", "options.allowInsecureAuth"],
    ["allowInsecureAuth=1", "options.allowInsecureAuth"],
    ["transcript=CANARY", "options.transcript"],
    ["name=CANARY%0D%0ARSET", "options.name"],
    ["name=", "options.name"],
    ["servername=", "options.servername"],
    ["mechanisms=", "options.mechanisms"],
    ["mechanisms=PLAIN,", "options.mechanisms"],
    ["timeouts.command=CANARY", "options.timeouts.command"],
    ["timeouts.command=0", "options.timeouts.command"],
    ["timeouts.command=", "options.timeouts.command"],
    ["path=/CANARY", "options.path"],
    ["tls=off&rejectUnauthorized=true", "options.tlsOptions"]
  ])("%s is refused by the options, which name the field", (query, field) => {
    const error = Result.getOrThrow(Result.flip(resolve(ok(`smtp://mx.test?${query}`))))
    assert.strictEqual(error.field, field)
    assert.notInclude(error.message, "CANARY")
  })

  it.each([
    "host=CANARY",
    "port=25",
    "protocol=lmtp",
    "auth=CANARY",
    "user=CANARY",
    "password=CANARY",
    "secure=true",
    "timeouts=5",
    "timeouts.lunch=5",
    "timeouts.=5",
    "TLS=off",
    "__proto__=CANARY",
    "constructor=CANARY",
    "CANARY",
    "=",
    "rejectUnauthorized=no",
    "rejectUnauthorized="
  ])("%s is refused, and the message lists what there is", (query) => {
    const message = told(`smtp://mx.test?${query}`)
    assert.include(message, "a query parameter is unknown or has no such value; known are tls, servername, name, ")
    for (const known of ["path", "mechanisms", "family", "allowInsecureAuth", "rejectUnauthorized", "timeouts.NAME"]) {
      assert.include(message, known)
    }
  })

  it("is refused when it says a thing twice, lest the second undoes the first", () => {
    for (const query of ["tls=starttls&tls=off", "tls=off&tls=off", "timeouts.tls=1&timeouts.tls=2"]) {
      assert.strictEqual(told(`smtp://mx.test?${query}`), "url: a query parameter is given twice; leave one out")
    }
  })

  it("cannot take from smtps: what its name says", () => {
    for (const tls of ["off", "starttls", "opportunistic", "CANARY"]) {
      assert.strictEqual(
        told(`smtps://mx.test?tls=${tls}`),
        "url: smtps: is implicit TLS; for another mode write smtp: with the parameter tls"
      )
    }
    assert.strictEqual(ok("smtps://mx.test?tls=implicit").tls, "implicit")
  })
})

describe("a URL that is refused", () => {
  const notUrl = "url: not a URL; write smtp://user:password@host:port, percent-encoding what is special"
  const scheme = "url: the scheme must be smtp:, smtps: or lmtp:"
  const path = `url: a path has no meaning here; a unix socket is ?path=/run/lmtp.sock, "/" in user or password is %2F`
  const fragment = `url: a fragment has no meaning here; "#" in user or password must be written %23`
  const percent = `url: "%" in user, password or host must be written %25, other characters as %XX of their UTF-8`
  const together = "url: user and password go together"

  it.each([
    ["", notUrl],
    ["CANARY", notUrl],
    ["CANARY.test:25", scheme],
    ["//CANARY", notUrl],
    ["smtp://mx.test:CANARY", notUrl],
    ["smtp://mx.test:65536", notUrl],
    ["smtp://CANARY:CANARY@", notUrl],
    ["smtp://CANARY:CAN/ARY@mx.test:25", notUrl],
    ["smtp://[CANARY]", notUrl],
    ["smtp://CAN ARY", notUrl],
    ["http://ann:CANARY@mx.test", scheme],
    ["smtp+starttls://CANARY", scheme],
    ["submission://CANARY", scheme],
    ["file:///CANARY", scheme],
    ["constructor://CANARY", scheme],
    ["smtp://ann:1/CANARY@mx.test", path],
    ["smtp://mx.test/CANARY", path],
    ["lmtp:CANARY", path],
    ["smtp://ann:1#CANARY@mx.test:25", fragment],
    ["smtp://mx.test#CANARY", fragment],
    ["smtp://ann:100%CANARY@mx.test", percent],
    ["smtp://ann%:CANARY@mx.test", percent],
    ["smtp://ann:CANARY%zz@mx.test", percent],
    ["smtp://ann:CANARY%2@mx.test", percent],
    ["smtp://ann:CANARY%FF@mx.test", percent],
    ["smtp://ann:CANARY%C3@mx.test", percent],
    ["smtp://CANARY%FF", percent],
    ["smtp://CANARY@mx.test", together],
    ["smtp://:CANARY@mx.test", together],
    ["smtp://CANARY:@mx.test", together]
  ])("%s is told how to mend it, and nothing of the URL is in the error", (url, message) => {
    const error = refusal(url)
    assert.strictEqual(error.message, message)
    assert.isUndefined(error.cause)
    assert.notMatch(`${JSON.stringify(error)} ${error.stack}`, /CAN|ARY/)
  })

  it("is an ECONFIG whatever a caller in JavaScript gives", () => {
    for (const odd of [undefined, null, 25, {}, ["CANARY"], true, Redacted.make(25)]) {
      assert.strictEqual(told(odd as string), notUrl)
    }
  })

  it("port 0 is refused by the options", () => {
    const error = Result.getOrThrow(Result.flip(resolve(ok("smtp://mx.test:0"))))
    assert.strictEqual(error.field, "options.port")
  })
})

describe("SmtpClient.fromUrl", () => {
  it.effect("gives the options, or fails with ECONFIG", () =>
    Effect.gen(function*() {
      const options = yield* SmtpClient.fromUrl("smtp://ann:p%40ss@mx.test?name=me.test")
      assert.deepStrictEqual<unknown>(plain(options), {
        host: "mx.test",
        port: 587,
        name: "me.test",
        auth: ["ann", "p@ss"]
      })
      const error = yield* Effect.flip(SmtpClient.fromUrl(Redacted.make("smtp://ann:CAN%ARY@mx.test")))
      assert.strictEqual(error._tag, "ECONFIG")
    }))

  it.effect("makes a client that sends", () =>
    Effect.gen(function*() {
      const smtp = yield* SmtpClient.make(yield* SmtpClient.fromUrl("smtp://ann:pw@mx.test?name=me.test"))
      yield* smtp.send({ from: "ann@me.test", to: "bob@mx.test" }, "Subject: x\r\n\r\n")
      assert.isTrue((yield* smtp.verify).authenticated)
    }).pipe(Effect.provide(SmtpServer.layer())))

  it.effect("cannot combine a unix socket with a host: the layer fails, and nothing is dialled", () =>
    Effect.gen(function*() {
      const server = yield* SmtpServer.SmtpServer
      for (
        const url of [
          "smtp://mx.test?path=/run/s",
          "lmtp://mx.test:24?path=/run/s",
          "smtp://ann:CANARY@mx.test?path=/run/s"
        ]
      ) {
        const options = yield* SmtpClient.fromUrl(url)
        const error = yield* Effect.flip(Effect.scoped(Layer.build(SmtpClient.layer(options))))
        assert.strictEqual(error.message, "options.path: a unix socket has no host and port; leave them out")
      }
      assert.deepStrictEqual(yield* server.connections, [])
    }).pipe(Effect.provide(SmtpServer.layer())))
})

describe("SmtpClient.config", () => {
  const read = (env: Record<string, string>) =>
    SmtpClient.config.pipe(Effect.provide(ConfigProvider.layer(ConfigProvider.fromEnv({ env }))))

  /** What the environment gives, without the fields it leaves open. */
  const given = (env: Record<string, string>) =>
    Effect.map(
      read(env),
      (options) => Object.fromEntries(Object.entries(plain(options)).filter(([, value]) => value !== undefined))
    )

  it.effect.each<[Record<string, string>, unknown]>([
    [{}, {}],
    [{ SMTP_HOST: "mx.test" }, { host: "mx.test" }],
    [{ SMTP_HOST: "mx.test", SMTP_PORT: "2525" }, { host: "mx.test", port: 2525 }],
    [{ SMTP_TLS: "implicit" }, { tls: "implicit" }],
    [{ SMTP_TLS: "off" }, { tls: "off" }],
    [{ SMTP_NAME: "me.test" }, { name: "me.test" }],
    [{ SMTP_USER: "ann", SMTP_PASSWORD: "p@:/ %w" }, { port: 587, auth: ["ann", "p@:/ %w"] }],
    [{ SMTP_USER: "ann", SMTP_PASSWORD: "pw", SMTP_PORT: "25" }, { port: 25, auth: ["ann", "pw"] }],
    [{ SMTP_USER: "ann", SMTP_PASSWORD: "pw", SMTP_TLS: "implicit" }, { tls: "implicit", auth: ["ann", "pw"] }],
    [{ SMTP_USER: "ann", SMTP_PASSWORD: "pw", SMTP_URL: "smtp://mx.test" }, {
      host: "mx.test",
      port: 587,
      auth: ["ann", "pw"]
    }],
    [{ SMTP_USER: "ann", SMTP_PASSWORD: "pw", SMTP_URL: "lmtp:?path=/run/s" }, {
      path: "/run/s",
      protocol: "lmtp",
      auth: ["ann", "pw"]
    }],
    [{ SMTP_URL: "smtps://ann:p%40@mx.test" }, { host: "mx.test", tls: "implicit", auth: ["ann", "p@"] }],
    [{ SMTP_URL: "smtp://mx.test?timeouts.command=9&family=4" }, {
      host: "mx.test",
      family: 4,
      timeouts: { command: 9 }
    }],
    [{ SMTP_URL: "lmtp:///?path=/run/s" }, { path: "/run/s", protocol: "lmtp" }],
    [{ SMTP_HOST: "", SMTP_PORT: "", SMTP_URL: "" }, {}],
    [{ HOST: "no.test", smtp_host: "no.test" }, {}]
  ])("%j", ([env, options]) =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* given(env), options)
    }))

  it.effect("the single variables win over the URL", () =>
    Effect.gen(function*() {
      const url = { SMTP_URL: "smtp://ann:pw@mx.test:2525?name=me.test&tls=starttls&family=4" }
      const all = { host: "mx.test", port: 2525, name: "me.test", tls: "starttls", family: 4, auth: ["ann", "pw"] }
      assert.deepStrictEqual(yield* given(url), all)
      assert.deepStrictEqual(yield* given({ ...url, SMTP_HOST: "other.test" }), { ...all, host: "other.test" })
      assert.deepStrictEqual(yield* given({ ...url, SMTP_PORT: "25" }), { ...all, port: 25 })
      assert.deepStrictEqual(yield* given({ ...url, SMTP_TLS: "off" }), { ...all, tls: "off" })
      assert.deepStrictEqual(yield* given({ ...url, SMTP_NAME: "x.test" }), { ...all, name: "x.test" })
      assert.deepStrictEqual(yield* given({ ...url, SMTP_USER: "bob" }), { ...all, auth: ["bob", "pw"] })
      assert.deepStrictEqual(yield* given({ ...url, SMTP_USER: "bob", SMTP_PASSWORD: "q" }), {
        ...all,
        auth: ["bob", "q"]
      })
    }))

  it.effect.each<readonly [Record<string, string>, RegExp]>([
    [{ SMTP_PORT: "CANARY" }, /SMTP_PORT/],
    [{ SMTP_PORT: "0" }, /SMTP_PORT/],
    [{ SMTP_PORT: "65536" }, /SMTP_PORT/],
    [{ SMTP_TLS: "ssl" }, /SMTP_TLS/],
    [{ SMTP_URL: "http://ann:CANARY@mx.test" }, /SMTP_.*url: the scheme must be smtp:/],
    [{ SMTP_URL: "smtp://ann:CAN%ARY@mx.test" }, /SMTP_.*url: "%" in user, password or host must be written %25/],
    [{ SMTP_USER: "ann" }, /SMTP_USER and SMTP_PASSWORD go together/],
    [{ SMTP_PASSWORD: "CANARY" }, /SMTP_USER and SMTP_PASSWORD go together/]
  ])("%j is refused with the name of the variable", ([env, message]) =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(read(env))
      assert.strictEqual(error._tag, "ConfigError")
      assert.match(error.message.replaceAll(`["SMTP"]["`, "SMTP_"), message)
    }))

  it.effect("keeps the password and the URL out of its errors", () =>
    Effect.gen(function*() {
      for (const SMTP_URL of ["smtp://ann:CANARY@mx.test:x", "smtp://ann:CANARY%@mx.test", "smtp://CANARY@mx.test"]) {
        const error = yield* Effect.flip(read({ SMTP_URL, SMTP_PASSWORD: "CANARY" }))
        assert.notInclude(`${String(error)} ${error.message} ${JSON.stringify(error)}`, "CANARY")
      }
    }))

  it.effect("makes a layer that sends", () =>
    Effect.gen(function*() {
      const env = { SMTP_HOST: "mx.test", SMTP_USER: "ann", SMTP_PASSWORD: "pw", SMTP_NAME: "me.test" }
      const layer = Layer.unwrap(Effect.map(SmtpClient.config, SmtpClient.layer)).pipe(
        Layer.provide(ConfigProvider.layer(ConfigProvider.fromEnv({ env }))),
        Layer.provideMerge(SmtpServer.layer())
      )
      const report = yield* SmtpClient.SmtpClient.use((smtp) => smtp.verify).pipe(Effect.provide(layer))
      assert.deepStrictEqual([report.secure, report.authenticated], [true, true])
    }))
})
