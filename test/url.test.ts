import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { readFileSync } from "node:fs"
import { resolve, timeoutNames } from "../src/internal/options.ts"
import type { Given as Options } from "../src/internal/textOptions.ts"
import { fromUrl } from "../src/internal/url.ts"
import * as SmtpClient from "../src/SmtpClient.ts"
import type { TlsOptions } from "../src/SmtpConnector.ts"
import * as SmtpError from "../src/SmtpError.ts"
import * as SmtpServer from "../src/testing/SmtpServer.ts"
import { assertHidden } from "./support/secrets.ts"

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
    assertHidden(JSON.stringify(auth), "CANARY")
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
    ["channelBinding=preferred", { channelBinding: "preferred" }],
    ["pipelining=false", { pipelining: false }],
    ["pipelining=true", { pipelining: true }],
    ["chunking=false", { chunking: false }],
    ["chunking=true", { chunking: true }],
    ["chunking=always", { chunking: "always" }],
    ["mechanisms=PLAIN,%20LOGIN", { mechanisms: ["PLAIN", "LOGIN"] }],
    ["timeouts.idle=Infinity", { timeouts: { idle: "Infinity" } }],
    ["maxVersion=TLSv1.2", { tlsOptions: { maxVersion: "TLSv1.2" } }],
    ["minVersion=TLSv1.3&ciphers=HIGH", { tlsOptions: { minVersion: "TLSv1.3", ciphers: "HIGH" } }],
    [`pins=${encodeURIComponent(pin)},${encodeURIComponent(pin)}`, { tlsOptions: { pins: [pin, pin] } }],
    ["timeouts.command=10+seconds", { timeouts: { command: "10 seconds" } }],
    ["timeouts.command=10%20seconds&timeouts.total=5000", { timeouts: { command: "10 seconds", total: 5000 } }],
    ["name=me.test&family=4&timeouts.quit=1", { name: "me.test", family: 4, timeouts: { quit: 1 } }],
    ["pool.max=8&pool.min=2", { pool: { max: 8, min: 2 } }],
    ["pool.maxMessages=Infinity&pool.maxWaiting=0", { pool: { maxMessages: Infinity, maxWaiting: 0 } }],
    ["pool.idleTimeout=1+minute&pool.drain=500&pool.maxAge=Infinity", {
      pool: { idleTimeout: "1 minute", drain: 500, maxAge: "Infinity" }
    }],
    ["pool.acquireTimeout=90+seconds", { pool: { acquireTimeout: "90 seconds" } }],
    ["rateLimit.limit=20&rateLimit.window=1+second", { rateLimit: { limit: 20, window: "1 second" } }],
    ["timeout=1+minute&timeouts.total=5000", { timeout: "1 minute", timeouts: { total: 5000 } }]
  ])("%s is %j", (query, options) => {
    const read = ok(`smtp://mx.test?${query}`)
    assert.deepStrictEqual(read, { host: "mx.test", ...options })
    assert.isTrue(Result.isSuccess(resolve(read)))
  })

  it.each(timeoutNames)("takes the deadline timeouts.%s", (name) => {
    const { deadlines } = Result.getOrThrow(resolve(ok(`smtp://mx.test?timeouts.${name}=7+seconds`)))
    assert.deepStrictEqual(Object.entries(deadlines).filter(([, millis]) => millis === 7000), [[name, 7000]])
  })

  it.each([
    ["tls=CANARY", "options.tls"],
    ["family=5", "options.family"],
    ["family=CANARY", "options.family"],
    ["family=", "options.family"],
    ["allowInsecureAuth=CANARY", "options.allowInsecureAuth"],
    ["allowInsecureAuth=1", "options.allowInsecureAuth"],
    ["pipelining=no", "options.pipelining"],
    ["chunking=no", "options.chunking"],
    ["channelBinding=CANARY", "options.channelBinding"],
    ["minimumMechanism=CANARY", "options.minimumMechanism"],
    ["family=4.0", "options.family"],
    ["family=0x4", "options.family"],
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
    assertHidden(error.message, "CANARY")
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

interface Row<A> {
  readonly query: string
  readonly value: A
}
/** What a parameter may be: a query and what it gives, or why there is none. */
type Rows<O> = { readonly [K in keyof Required<O>]: string | Row<O[K]> }
type AnyRows = Readonly<Record<string, string | Row<unknown>>>

describe("each option", () => {
  /** A new option needs a line here. */
  const rows: Rows<Options> = {
    host: "it is the host of the URL",
    port: "it is the port of the URL",
    auth: "user and password of the URL; other credentials have no text",
    protocol: "it is the scheme of the URL",
    path: { query: "path=/run/s", value: "/run/s" },
    tls: { query: "tls=off", value: "off" },
    tlsOptions: { query: "ciphers=HIGH&rejectUnauthorized=true", value: { ciphers: "HIGH", rejectUnauthorized: true } },
    servername: { query: "servername=x.test", value: "x.test" },
    name: { query: "name=me.test", value: "me.test" },
    localAddress: { query: "localAddress=127.0.0.1", value: "127.0.0.1" },
    family: { query: "family=6", value: 6 },
    timeouts: { query: "timeouts.dns=1&timeouts.quit=2+seconds", value: { dns: 1, quit: "2 seconds" } },
    mechanisms: { query: "mechanisms=PLAIN", value: ["PLAIN"] },
    minimumMechanism: { query: "minimumMechanism=PLAIN", value: "PLAIN" },
    channelBinding: { query: "channelBinding=required", value: "required" },
    allowInsecureAuth: { query: "allowInsecureAuth=true", value: true },
    pipelining: { query: "pipelining=false", value: false },
    chunking: { query: "chunking=always", value: "always" },
    transcript: { query: "transcript=full", value: "full" },
    pool: { query: "pool.max=8&pool.drain=0", value: { max: 8, drain: 0 } },
    rateLimit: {
      query: "rateLimit.limit=20&rateLimit.window=1+second",
      value: { limit: 20, window: "1 second" }
    },
    adaptiveConcurrency: { query: "adaptiveConcurrency.max=20", value: { max: 20 } },
    circuitBreaker: { query: "circuitBreaker.failures=3", value: { failures: 3 } },
    fallback: "other servers have options of their own, credentials among them",
    retry: "a Schedule is a program",
    timeout: { query: "timeout=1+minute", value: "1 minute" }
  }

  /** What is declared in the sources: no type can name it twice, nor forget it. */
  const declared = (file: string, name: string): ReadonlyArray<string> => {
    const source = readFileSync(new URL(`../src/internal/${file}.ts`, import.meta.url), "utf8")
    const [, body = ""] = new RegExp(`export interface ${name}[^{]*\\{\\n(.*?)\\n\\}`, "s").exec(source) ?? []
    return [...body.matchAll(/^ {2}readonly (\w+)\??:/gm)].map(([, key = ""]) => key)
  }

  const check = (rows: AnyRows, inside: string): void => {
    for (const [key, row] of Object.entries(rows)) {
      const path = inside === "" ? key : `${inside}.${key}`
      if (typeof row === "string") {
        assert.isNotEmpty(row)
        assert.match(told(`smtp:?${path}=x`), /a query parameter is unknown/, path)
        continue
      }
      const options = ok(`smtp:?${row.query}`)
      const held: unknown = inside === "" ? options : Reflect.get(options, inside)
      assert.deepStrictEqual<unknown>(Reflect.get(held as object, key), row.value)
    }
  }

  it("has a parameter, or a reason to have none", () => {
    const all = [
      ["options", "Options"],
      ["poolOptions", "PooledOptions"],
      ["client/policies", "ServerPolicies"],
      ["client/policies", "Policies"]
    ] as const
    const keys = all.flatMap(([file, name]) => declared(file, name))
    assert.isAbove(keys.length, 24)
    assert.deepStrictEqual(Object.keys(rows).toSorted(), keys.toSorted())
    check(rows, "")
  })

  it("of the deadlines has a parameter", () => {
    assert.isAbove(timeoutNames.length, 9)
    assert.deepStrictEqual<ReadonlyArray<string>>(timeoutNames, declared("options", "Timeouts"))
    for (const key of declared("options", "Timeouts")) {
      assert.deepStrictEqual<unknown>(ok(`smtp:?timeouts.${key}=5`), { timeouts: { [key]: 5 } })
    }
  })

  const ofPool: Rows<NonNullable<Options["pool"]>> = {
    max: { query: "pool.max=8", value: 8 },
    min: { query: "pool.min=2", value: 2 },
    idleTimeout: { query: "pool.idleTimeout=1+minute", value: "1 minute" },
    maxMessages: { query: "pool.maxMessages=Infinity", value: Infinity },
    maxAge: { query: "pool.maxAge=60000", value: 60_000 },
    maxWaiting: { query: "pool.maxWaiting=0", value: 0 },
    acquireTimeout: { query: "pool.acquireTimeout=Infinity", value: "Infinity" },
    drain: { query: "pool.drain=2+seconds", value: "2 seconds" }
  }
  const ofRateLimit: Rows<NonNullable<Options["rateLimit"]>> = {
    limit: { query: "rateLimit.limit=20", value: 20 },
    window: { query: "rateLimit.window=1+second", value: "1 second" },
    onExceeded: { query: "rateLimit.onExceeded=fail", value: "fail" },
    countFrom: { query: "rateLimit.countFrom=start", value: "start" },
    limiter: "a service: a RateLimiter over a store",
    key: { query: "rateLimit.key=mail", value: "mail" }
  }
  const ofCircuitBreaker: Rows<NonNullable<Options["circuitBreaker"]>> = {
    failures: { query: "circuitBreaker.failures=3", value: 3 },
    openFor: { query: "circuitBreaker.openFor=5+seconds", value: "5 seconds" }
  }
  const ofAdaptiveConcurrency: Rows<NonNullable<Options["adaptiveConcurrency"]>> = {
    max: { query: "adaptiveConcurrency.max=20", value: 20 },
    min: { query: "adaptiveConcurrency.min=2", value: 2 },
    initial: { query: "adaptiveConcurrency.initial=4", value: 4 }
  }
  it.each<readonly [string, AnyRows, string, string]>([
    ["pool", ofPool, "poolOptions", "Options"],
    ["rateLimit", ofRateLimit, "client/withRateLimit", "RateLimitOptions"],
    ["circuitBreaker", ofCircuitBreaker, "client/withCircuitBreaker", "CircuitBreakerOptions"],
    ["adaptiveConcurrency", ofAdaptiveConcurrency, "client/withAdaptiveConcurrency", "AdaptiveConcurrencyOptions"]
  ])("of %s has a parameter, or a reason to have none", (name, rows, file, type) => {
    assert.deepStrictEqual(Object.keys(rows).toSorted(), [...declared(file, type)].toSorted())
    check(rows, name)
  })

  it.effect.each([
    ["pool.max=0", "options.pool.max"],
    ["pool.max=many", "options.pool.max"],
    ["pool.max=Infinity", "options.pool.max"],
    ["pool.min=9", "options.pool.min"],
    ["pool.idleTimeout=soon", "options.pool.idleTimeout"],
    ["pool.maxMessages=0", "options.pool.maxMessages"],
    ["pool.acquireTimeout=0", "options.pool.acquireTimeout"],
    ["rateLimit.limit=20", "options.rateLimit.window"],
    ["rateLimit.window=1+second", "options.rateLimit.limit"],
    ["rateLimit.limit=20&rateLimit.window=1+second&rateLimit.onExceeded=wait", "options.rateLimit.onExceeded"],
    ["circuitBreaker.openFor=Infinity", "options.circuitBreaker.openFor"],
    ["adaptiveConcurrency.min=2", "options.adaptiveConcurrency.max"],
    ["timeout=soon", "options.timeout"]
  ])("of a client is checked by the client: %s", ([query, field]) =>
    Effect.gen(function*() {
      const options = yield* SmtpClient.fromUrl(`smtp://mx.test?${query}`)
      const error = yield* Effect.flip(SmtpClient.make(options))
      assert.deepInclude(error, { _tag: "ECONFIG", field } as never)
      assert.isTrue(error.message.startsWith(`${field}: `))
    }).pipe(Effect.provide(SmtpServer.layer())))

  const ofTls: { readonly [K in keyof Required<TlsOptions>]: string } = {
    ca: "a file's content",
    cert: "a file's content",
    key: "a file's content, and secret",
    passphrase: "of no use without the key",
    minVersion: "minVersion=TLSv1.3",
    maxVersion: "maxVersion=TLSv1.3",
    ciphers: "ciphers=HIGH",
    rejectUnauthorized: "rejectUnauthorized=false",
    pins: `pins=${encodeURIComponent(pin)}`
  }
  it("of TLS has a parameter, or a reason to have none", () => {
    for (const [key, query] of Object.entries(ofTls)) {
      if (query.includes("=")) assert.property(ok(`smtp:?${query}`).tlsOptions, key)
      else assert.match(told(`smtp:?${key}=x`), /a query parameter is unknown/)
    }
  })
})
