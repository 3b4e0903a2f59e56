import { assert, describe, it } from "@effect/vitest"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { resolve, type TlsMode } from "../src/internal/options.ts"
import { textOptions } from "../src/internal/textOptions.ts"
import * as Sasl from "../src/Sasl.ts"
import * as SmtpClient from "../src/SmtpClient.ts"
import * as SmtpServer from "../src/testing/SmtpServer.ts"
import { assertHidden } from "./support/secrets.ts"

type Env = Readonly<Record<string, string>>

const read = (env: Env) =>
  SmtpClient.config.pipe(Effect.provide(ConfigProvider.layer(ConfigProvider.fromEnv({ env: { ...env } }))))

/** User and password as plain text. */
const loginOf = ({ auth }: SmtpClient.Options): readonly [string, unknown] | undefined =>
  auth?._tag === "Password"
    ? [auth.username, Redacted.isRedacted(auth.password) ? Redacted.value(auth.password) : auth.password]
    : undefined

const given = (env: Env) =>
  Effect.map(read(env), (options) => options.auth === undefined ? options : { ...options, auth: loginOf(options) })

const told = (env: Env) => Effect.map(Effect.flip(read(env)), ({ message }) => message.replace(/^SourceError: /, ""))

const pin = "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="

const elsewhere =
  "SMTP_PRESET: it is smtp.gmail.com, but SMTP_HOST or SMTP_URL names another host; remove SMTP_PRESET or the host"

const halfOf = (port: number, tls: string): string =>
  `SMTP_PRESET: it is port ${port} with tls "${tls}", and the port or the tls that is given does not go with that; ` +
  "set SMTP_PORT and SMTP_TLS both, or neither"

describe("SmtpClient.config", () => {
  it.effect.each<readonly [Env, unknown]>([
    [{}, {}],
    [{ SMTP_HOST: "mx.test" }, { host: "mx.test" }],
    [{ SMTP_HOST: "mx.test", SMTP_PORT: "2525" }, { host: "mx.test", port: 2525 }],
    [{ SMTP_TLS: "implicit" }, { tls: "implicit" }],
    [{ SMTP_TLS: "off" }, { tls: "off" }],
    [{ SMTP_NAME: "me.test" }, { name: "me.test" }],
    [{ SMTP_PROTOCOL: "lmtp", SMTP_PATH: "/run/s" }, { protocol: "lmtp", path: "/run/s" }],
    [{ SMTP_SERVERNAME: "x.test" }, { servername: "x.test" }],
    [{ SMTP_LOCAL_ADDRESS: "127.0.0.1", SMTP_FAMILY: "4" }, { localAddress: "127.0.0.1", family: 4 }],
    [{ SMTP_MECHANISMS: "SCRAM-SHA-256, PLAIN" }, { mechanisms: ["SCRAM-SHA-256", "PLAIN"] }],
    [{ SMTP_MINIMUM_MECHANISM: "plain" }, { minimumMechanism: "plain" }],
    [{ SMTP_CHANNEL_BINDING: "required" }, { channelBinding: "required" }],
    [{ SMTP_ALLOW_INSECURE_AUTH: "true" }, { allowInsecureAuth: true }],
    [{ SMTP_PIPELINING: "false", SMTP_CHUNKING: "always" }, { pipelining: false, chunking: "always" }],
    [{ SMTP_CHUNKING: "false" }, { chunking: false }],
    [{ SMTP_TRANSCRIPT: "commands" }, { transcript: "commands" }],
    [{ SMTP_POOL_MAX: "8", SMTP_POOL_MIN: "8", SMTP_POOL_MAX_MESSAGES: "Infinity", SMTP_POOL_MAX_WAITING: "0" }, {
      pool: { max: 8, min: 8, maxMessages: Infinity, maxWaiting: 0 }
    }],
    [{ SMTP_POOL_IDLE_TIMEOUT: "1 minute", SMTP_POOL_MAX_AGE: "Infinity", SMTP_POOL_ACQUIRE_TIMEOUT: "9" }, {
      pool: { idleTimeout: "1 minute", maxAge: "Infinity", acquireTimeout: 9 }
    }],
    [{ SMTP_POOL_DRAIN: "0" }, {
      pool: { drain: 0 }
    }],
    [{ SMTP_RATE_LIMIT_LIMIT: "20", SMTP_RATE_LIMIT_WINDOW: "1 second", SMTP_RATE_LIMIT_ON_EXCEEDED: "fail" }, {
      rateLimit: { limit: 20, window: "1 second", onExceeded: "fail" }
    }],
    [{ SMTP_URL: "smtp:?rateLimit.limit=20", SMTP_RATE_LIMIT_WINDOW: "1000", SMTP_RATE_LIMIT_COUNT_FROM: "start" }, {
      rateLimit: { limit: 20, window: 1000, countFrom: "start" }
    }],
    [{ SMTP_CIRCUIT_BREAKER_FAILURES: "3", SMTP_CIRCUIT_BREAKER_OPEN_FOR: "5 seconds" }, {
      circuitBreaker: { failures: 3, openFor: "5 seconds" }
    }],
    [
      {
        SMTP_ADAPTIVE_CONCURRENCY_MAX: "50",
        SMTP_ADAPTIVE_CONCURRENCY_MIN: "2",
        SMTP_ADAPTIVE_CONCURRENCY_INITIAL: "4"
      },
      { adaptiveConcurrency: { max: 50, min: 2, initial: 4 } }
    ],
    [{ SMTP_TIMEOUT: "1 minute", SMTP_TIMEOUT_TOTAL: "5 seconds" }, {
      timeout: "1 minute",
      timeouts: { total: "5 seconds" }
    }],
    [{ SMTP_PINS: `${pin},${pin}` }, { tlsOptions: { pins: [pin, pin] } }],
    [{ SMTP_TLS_MIN_VERSION: "TLSv1.3", SMTP_TLS_CIPHERS: "HIGH" }, {
      tlsOptions: { minVersion: "TLSv1.3", ciphers: "HIGH" }
    }],
    [{ SMTP_TLS_MAX_VERSION: "TLSv1.2", SMTP_TLS_REJECT_UNAUTHORIZED: "false" }, {
      tlsOptions: { maxVersion: "TLSv1.2", rejectUnauthorized: false }
    }],
    [{ SMTP_TIMEOUT_COMMAND: "10 seconds", SMTP_TIMEOUT_TOTAL: "5000", SMTP_TIMEOUT_IDLE: "Infinity" }, {
      timeouts: { command: "10 seconds", total: 5000, idle: "Infinity" }
    }],
    [{ SMTP_USER: "ann", SMTP_PASSWORD: "p@:/ %w" }, { port: 587, auth: ["ann", "p@:/ %w"] }],
    [{ SMTP_USER: "ann", SMTP_PASSWORD: "pw", SMTP_PORT: "25" }, { port: 25, auth: ["ann", "pw"] }],
    [{ SMTP_USER: "ann", SMTP_PASSWORD: "pw", SMTP_TLS: "implicit" }, { tls: "implicit", auth: ["ann", "pw"] }],
    [{ SMTP_USER: "ann", SMTP_PASSWORD: "pw", SMTP_PROTOCOL: "lmtp" }, { protocol: "lmtp", auth: ["ann", "pw"] }],
    [{ SMTP_USER: "ann", SMTP_PASSWORD: "pw", SMTP_PATH: "/run/s" }, { path: "/run/s", auth: ["ann", "pw"] }],
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
    [{ SMTP_PRESET: "gmail" }, { host: "smtp.gmail.com", port: 465, tls: "implicit" }],
    [{ SMTP_PRESET: "Office365", SMTP_USER: "ann", SMTP_PASSWORD: "pw" }, {
      host: "smtp.office365.com",
      port: 587,
      tls: "starttls",
      auth: ["ann", "pw"]
    }],
    [{ SMTP_PRESET: "ses-eu-west-1", SMTP_PORT: "2465" }, {
      host: "email-smtp.eu-west-1.amazonaws.com",
      port: 2465,
      tls: "implicit"
    }],
    [{ SMTP_PRESET: "gmail", SMTP_URL: "smtp://ann:pw@SMTP.Gmail.com?name=me.test", SMTP_TRANSCRIPT: "commands" }, {
      host: "SMTP.Gmail.com",
      port: 465,
      tls: "implicit",
      name: "me.test",
      transcript: "commands",
      auth: ["ann", "pw"]
    }],
    [{ SMTP_PRESET: "gmail", SMTP_PORT: "587", SMTP_TLS: "starttls" }, {
      host: "smtp.gmail.com",
      port: 587,
      tls: "starttls"
    }],
    [{ SMTP_PRESET: "office365", SMTP_HOST: "smtp.office365.com", SMTP_TLS: "off" }, {
      host: "smtp.office365.com",
      port: 587,
      tls: "off"
    }],
    [{ SMTP_HOST: "", SMTP_PORT: "", SMTP_URL: "", SMTP_USER: "", SMTP_PASSWORD: "", SMTP_PRESET: "" }, {}],
    [{ HOST: "no.test", smtp_host: "no.test", SMTP_FROM: "me@me.test", SMTP_TIMEOUT_LUNCH: "x" }, {}]
  ])("%j", ([env, options]) =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* given(env), options)
    }))

  it.effect("has a variable for every option that can be text, and each is judged by itself", () =>
    Effect.gen(function*() {
      const limited = { SMTP_RATE_LIMIT_LIMIT: "1", SMTP_RATE_LIMIT_WINDOW: "1" }
      assert.isAbove(textOptions.length, 45)
      for (const { path: [key, inner], variable } of textOptions) {
        const env = { ...(key === "rateLimit" ? limited : {}), [`SMTP_${variable}`]: "\u0000 " }
        const isFree = ["path", "servername", "localAddress", "mechanisms", "ciphers", "key"].includes(inner ?? key)
        if (isFree) {
          const options = yield* read(env)
          const outer: unknown = Reflect.get(options, key)
          assert.isDefined(inner === undefined ? outer : Reflect.get(outer as object, inner), variable)
        } else assert.match(yield* told(env), new RegExp(`^SMTP_${variable}: [^:]+`), variable)
      }
    }))

  it.effect("the single variables win over the URL, field by field", () =>
    Effect.gen(function*() {
      const url = { SMTP_URL: "smtp://ann:pw@mx.test:2525?name=me.test&tls=starttls&family=4&timeouts.dns=1" }
      const all = {
        host: "mx.test",
        port: 2525,
        name: "me.test",
        tls: "starttls",
        family: 4,
        timeouts: { dns: 1 },
        auth: ["ann", "pw"]
      }
      assert.deepStrictEqual<unknown>(yield* given(url), all)
      assert.deepStrictEqual<unknown>(yield* given({ ...url, SMTP_HOST: "other.test" }), { ...all, host: "other.test" })
      assert.deepStrictEqual<unknown>(yield* given({ ...url, SMTP_PORT: "25" }), { ...all, port: 25 })
      assert.deepStrictEqual<unknown>(yield* given({ ...url, SMTP_TLS: "off" }), { ...all, tls: "off" })
      assert.deepStrictEqual<unknown>(yield* given({ ...url, SMTP_TIMEOUT_DATA: "2" }), {
        ...all,
        timeouts: { dns: 1, data: 2 }
      })
      assert.deepStrictEqual<unknown>(yield* given({ ...url, SMTP_USER: "bob" }), { ...all, auth: ["bob", "pw"] })
      assert.deepStrictEqual<unknown>(yield* given({ ...url, SMTP_USER: "bob", SMTP_PASSWORD: "q" }), {
        ...all,
        auth: ["bob", "q"]
      })
    }))

  it.effect.each<readonly [Env, string]>([
    [{ SMTP_PORT: "abc" }, `SMTP_PORT: expected a whole number from 1 to 65535, got "abc"`],
    [{ SMTP_PORT: "0" }, `SMTP_PORT: expected a whole number from 1 to 65535, got "0"`],
    [{ SMTP_PORT: "65536" }, `SMTP_PORT: expected a whole number from 1 to 65535, got "65536"`],
    [{ SMTP_PORT: "0x19" }, `SMTP_PORT: expected a whole number from 1 to 65535, got "0x19"`],
    [{ SMTP_TLS: "ssl" }, `SMTP_TLS: expected one of "implicit", "starttls", "opportunistic", "off", got "ssl"`],
    [{ SMTP_PROTOCOL: "x" }, `SMTP_PROTOCOL: expected one of "smtp", "lmtp", got "x"`],
    [{ SMTP_FAMILY: "5" }, `SMTP_FAMILY: expected one of 4, 6, got "5"`],
    [
      { SMTP_TIMEOUT_TLS: "soon" },
      `SMTP_TIMEOUT_TLS: expected a positive duration, e.g. "30 seconds"; Duration.infinity turns it off, got "soon"`
    ],
    [
      { SMTP_MINIMUM_MECHANISM: "SCRAM" },
      `SMTP_MINIMUM_MECHANISM: expected one of ${Sasl.strength.join(", ")}, got "SCRAM"`
    ],
    [{ SMTP_PIPELINING: "yes" }, `SMTP_PIPELINING: expected one of true, false, got "yes"`],
    [{ SMTP_CHUNKING: "yes" }, `SMTP_CHUNKING: expected one of true, false, "always", got "yes"`],
    [
      { SMTP_TLS_REJECT_UNAUTHORIZED: "0" },
      `SMTP_TLS_REJECT_UNAUTHORIZED: must be true or false, got "0"`
    ],
    [{ SMTP_TLS_MIN_VERSION: "1.3" }, `SMTP_TLS_MIN_VERSION: must be "TLSv1.2" or "TLSv1.3", got "1.3"`],
    [
      { SMTP_PINS: `${pin},x` },
      "SMTP_PINS: must be sha256/ with the base64 of a public key's SHA-256, or cert-sha256/ with a certificate's in " +
      `hex, got "${pin},x"`
    ],
    [
      { SMTP_NAME: "a b\u001b" },
      "SMTP_NAME: must be a host name of letters, digits and hyphens, or an address in brackets: [192.0.2.1]; give a " +
      `domain name or an address literal such as [192.0.2.1], got "a b\\\\u{1b}"`
    ],
    [
      { SMTP_PRESET: "gmial" },
      `SMTP_PRESET: "gmial" is no provider known here; the nearest is "gmail", and SmtpClient.presets has all`
    ],
    [{ SMTP_PRESET: "gmail", SMTP_URL: "smtp://CANARY.test" }, elsewhere],
    [{ SMTP_PRESET: "gmail", SMTP_URL: "smtps://ann:CANARY@mx.test:465" }, elsewhere],
    [{ SMTP_PRESET: "gmail", SMTP_HOST: "mx.test", SMTP_PORT: "25", SMTP_TLS: "starttls" }, elsewhere],
    [{ SMTP_PRESET: "GMail", SMTP_HOST: "mx.test", SMTP_URL: "smtp://smtp.gmail.com" }, elsewhere],
    [
      { SMTP_PRESET: "gmail", SMTP_PATH: "/run/s" },
      "SMTP_PRESET: it is smtp.gmail.com, but a unix socket is given; remove SMTP_PRESET or the path"
    ],
    [{ SMTP_PRESET: "gmail", SMTP_PORT: "587" }, halfOf(465, "implicit")],
    [{ SMTP_PRESET: "gmail", SMTP_TLS: "starttls" }, halfOf(465, "implicit")],
    [{ SMTP_PRESET: "gmail", SMTP_URL: "smtp:?tls=CANARY" }, halfOf(465, "implicit")],
    [{ SMTP_PRESET: "office365", SMTP_PORT: "465" }, halfOf(587, "starttls")],
    [{ SMTP_PRESET: "office365", SMTP_URL: "smtps:?name=me.test" }, halfOf(587, "starttls")],
    [{ SMTP_POOL_MAX: "0" }, `SMTP_POOL_MAX: expected a whole number of 1 or more, got "0"`],
    [{ SMTP_POOL_MAX: "many" }, `SMTP_POOL_MAX: expected a whole number of 1 or more, got "many"`],
    [{ SMTP_POOL_MAX: "Infinity" }, `SMTP_POOL_MAX: expected a whole number of 1 or more, got "Infinity"`],
    [
      { SMTP_POOL_MAX_WAITING: "-1" },
      `SMTP_POOL_MAX_WAITING: expected a whole number of 0 or more, or Infinity, got "-1"`
    ],
    [
      { SMTP_POOL_IDLE_TIMEOUT: "0" },
      `SMTP_POOL_IDLE_TIMEOUT: expected a positive duration, e.g. "30 seconds"; Duration.infinity turns it off, got "0"`
    ],
    [
      { SMTP_POOL_ACQUIRE_TIMEOUT: "soon" },
      `SMTP_POOL_ACQUIRE_TIMEOUT: expected a positive duration, e.g. "30 seconds"; Duration.infinity turns it off, got "soon"`
    ],
    [
      { SMTP_RATE_LIMIT_LIMIT: "0", SMTP_RATE_LIMIT_WINDOW: "1 second" },
      `SMTP_RATE_LIMIT_LIMIT: expected a whole number from 1 to 100000, got "0"`
    ],
    [
      { SMTP_RATE_LIMIT_WINDOW: "Infinity" },
      `SMTP_RATE_LIMIT_WINDOW: expected a finite, positive duration, e.g. "1 second", got "Infinity"`
    ],
    [{ SMTP_RATE_LIMIT_ON_EXCEEDED: "wait" }, `SMTP_RATE_LIMIT_ON_EXCEEDED: expected "delay" or "fail", got "wait"`],
    [
      { SMTP_RATE_LIMIT_LIMIT: "20" },
      "SMTP_RATE_LIMIT_WINDOW: missing; set it too, or leave out the others of SMTP_RATE_LIMIT"
    ],
    [
      { SMTP_RATE_LIMIT_KEY: "mail" },
      "SMTP_RATE_LIMIT_LIMIT: missing; set it too, or leave out the others of SMTP_RATE_LIMIT"
    ],
    [
      { SMTP_ADAPTIVE_CONCURRENCY_INITIAL: "4" },
      "SMTP_ADAPTIVE_CONCURRENCY_MAX: missing; set it too, or leave out the others of SMTP_ADAPTIVE_CONCURRENCY"
    ],
    [
      { SMTP_ADAPTIVE_CONCURRENCY_MAX: "10001" },
      `SMTP_ADAPTIVE_CONCURRENCY_MAX: expected a whole number from 1 to 10000, got "10001"`
    ],
    [
      { SMTP_CIRCUIT_BREAKER_FAILURES: "none" },
      `SMTP_CIRCUIT_BREAKER_FAILURES: expected a whole number from 1 to 1000000, got "none"`
    ],
    [{ SMTP_TIMEOUT: "soon" }, `SMTP_TIMEOUT: expected a finite, positive duration, e.g. "1 minute", got "soon"`],
    [{ SMTP_URL: "http://ann:CANARY@mx.test" }, "SMTP_URL: the scheme must be smtp:, smtps: or lmtp:"],
    [
      { SMTP_URL: "smtp://ann:CAN%ARY@mx.test" },
      `SMTP_URL: "%" in user, password or host must be written %25, other characters as %XX of their UTF-8`
    ],
    [
      { SMTP_USER: "ann" },
      "SMTP_PASSWORD: missing; SMTP_USER and SMTP_PASSWORD go together: set both or neither"
    ],
    [
      { SMTP_PASSWORD: "CANARY" },
      "SMTP_USER: missing; SMTP_USER and SMTP_PASSWORD go together: set both or neither"
    ]
  ])("%j is refused, and the message names the variable and the mend", ([env, message]) =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(read(env))
      assert.strictEqual(error._tag, "ConfigError")
      assert.strictEqual(yield* told(env), message)
      assertHidden(`${String(error)} ${error.message} ${JSON.stringify(error)}`, "CANARY")
    }))

  it.effect("keeps the password and the URL out of its errors", () =>
    Effect.gen(function*() {
      for (const SMTP_URL of ["smtp://ann:CANARY@mx.test:x", "smtp://ann:CANARY%@mx.test", "smtp://CANARY@mx.test"]) {
        const error = yield* Effect.flip(read({ SMTP_URL, SMTP_PASSWORD: "CANARY" }))
        assertHidden(`${String(error)} ${error.message} ${JSON.stringify(error)}`, "CANARY")
      }
      const options = yield* read({ SMTP_USER: "ann", SMTP_PASSWORD: "CANARY" })
      assertHidden(JSON.stringify(options), "CANARY")
    }))

  it.effect("shows no more than a part of a long value", () =>
    Effect.gen(function*() {
      assert.isBelow((yield* told({ SMTP_PORT: "9".repeat(10_000) })).length, 300)
    }))

  it.effect("reads other sources than the environment, and may be nested further", () =>
    Effect.gen(function*() {
      const provider = ConfigProvider.fromUnknown({
        mail: { SMTP: { HOST: "mx.test", PORT: 2525, PIPELINING: false } }
      })
      const options = yield* SmtpClient.config.pipe(
        Config.nested("mail"),
        Effect.provide(ConfigProvider.layer(provider))
      )
      assert.deepStrictEqual(options, { host: "mx.test", port: 2525, pipelining: false })
    }))

  it.effect("leaves contradictions to the client, which may get further options", () =>
    Effect.gen(function*() {
      const env = { SMTP_TLS: "off", SMTP_USER: "ann", SMTP_PASSWORD: "pw" }
      const options = yield* read(env)
      assert.isTrue(Result.isFailure(resolve(options)))
      assert.isTrue(Result.isSuccess(resolve({ ...options, allowInsecureAuth: true })))
      const pooled = yield* read({ SMTP_HOST: "mx.test", SMTP_POOL_MIN: "9" })
      const error = yield* Effect.flip(Effect.provide(SmtpClient.make(pooled), SmtpServer.layer()))
      assert.strictEqual(error.field, "options.pool.min")
    }))

  it.effect("makes a layer with a pool and policies", () =>
    Effect.gen(function*() {
      const env = { SMTP_HOST: "mx.test", SMTP_POOL_MAX: "1", SMTP_RATE_LIMIT_LIMIT: "7", SMTP_RATE_LIMIT_WINDOW: "5" }
      const layer = SmtpClient.layerConfig(SmtpClient.config).pipe(
        Layer.provide(ConfigProvider.layer(ConfigProvider.fromEnv({ env }))),
        Layer.provide(SmtpServer.layer())
      )
      const smtp = yield* SmtpClient.SmtpClient.pipe(Effect.provide(layer))
      assert.strictEqual(smtp.concurrency, 1)
      assert.strictEqual((yield* smtp.policies).rateLimit?.limit, 7)
    }))

  it.effect("makes a layer that sends", () =>
    Effect.gen(function*() {
      const env = { SMTP_HOST: "mx.test", SMTP_USER: "ann", SMTP_PASSWORD: "pw", SMTP_NAME: "me.test" }
      const layer = SmtpClient.layerConfig(SmtpClient.config).pipe(
        Layer.provide(ConfigProvider.layer(ConfigProvider.fromEnv({ env }))),
        Layer.provideMerge(SmtpServer.layer())
      )
      const report = yield* SmtpClient.SmtpClient.use((smtp) => smtp.verify).pipe(Effect.provide(layer))
      assert.deepStrictEqual([report.secure, report.authenticated], [true, true])
    }))
})

describe("the port", () => {
  /** What a connection would be made with. */
  const place = (env: Env) =>
    Effect.map(read(env), (options) => {
      const { endpoint, tls } = Result.getOrThrow(resolve({ ...options, allowInsecureAuth: true }))
      return [endpoint.port, tls] as const
    })

  const login = { SMTP_USER: "ann", SMTP_PASSWORD: "pw" }

  it.effect.each<readonly [Env, readonly [number, TlsMode]]>([
    [{ SMTP_URL: "smtp://u:p@h.test" }, [587, "starttls"]],
    [{ SMTP_URL: "smtp://u:p@h.test", SMTP_TLS: "implicit" }, [465, "implicit"]],
    [{ SMTP_URL: "smtp://u:p@h.test", SMTP_TLS: "opportunistic" }, [587, "opportunistic"]],
    [{ SMTP_URL: "smtp://u:p@h.test", SMTP_PORT: "465" }, [465, "implicit"]],
    [{ SMTP_URL: "smtp://u:p@h.test", SMTP_PORT: "25" }, [25, "starttls"]],
    [{ SMTP_URL: "smtp://u:p@h.test:2525", SMTP_TLS: "implicit" }, [2525, "implicit"]],
    [{ SMTP_URL: "smtp://u:p@h.test", SMTP_PROTOCOL: "lmtp" }, [24, "starttls"]],
    [{ SMTP_URL: "smtps://u:p@h.test", SMTP_TLS: "starttls" }, [587, "starttls"]],
    [{ SMTP_URL: "smtps://h.test", SMTP_TLS: "starttls" }, [25, "starttls"]],
    [{ SMTP_URL: "lmtp://u:p@h.test" }, [24, "starttls"]],
    [{ SMTP_URL: "lmtp://u:p@h.test", SMTP_PROTOCOL: "smtp" }, [587, "starttls"]],
    [{ SMTP_HOST: "h.test", SMTP_PROTOCOL: "smtp", ...login }, [587, "starttls"]],
    [{ SMTP_PRESET: "gmail", ...login }, [465, "implicit"]],
    [{ SMTP_PRESET: "gmail", SMTP_URL: "smtp://u:p@smtp.gmail.com" }, [465, "implicit"]],
    [{ SMTP_PRESET: "office365", SMTP_URL: "smtp://u:p@smtp.office365.com:2525" }, [2525, "starttls"]]
  ])("of %j is %j", ([env, expected]) =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* place(env), expected)
    }))

  const or = (name: string, values: ReadonlyArray<string>): ReadonlyArray<Env> => [
    {},
    ...values.map((value) => ({ [name]: value }))
  ]
  const times = (some: ReadonlyArray<Env>, others: ReadonlyArray<Env>): ReadonlyArray<Env> =>
    some.flatMap((one) => others.map((other) => ({ ...one, ...other })))

  /** What all sources say together: the first that speaks, else what follows from the others; undefined: it is refused. */
  const expected = (env: Env): readonly [number, string] | undefined => {
    const link = env["SMTP_URL"] ?? ""
    const own = env["SMTP_PORT"] ?? /:(\d+)$/.exec(link)?.[1]
    const mode = env["SMTP_TLS"] ?? (link.startsWith("smtps:") ? "implicit" : undefined)
    const ofPreset = env["SMTP_PRESET"] === "gmail" ? [465, "implicit"] as const : undefined
    const bare = mode === "implicit"
      ? 465
      : link.startsWith("lmtp:")
      ? 24
      : link.includes("@") || env["SMTP_USER"]
      ? 587
      : 25
    const port = own === undefined ? ofPreset?.[0] ?? bare : Number(own)
    const tls = mode ?? ofPreset?.[1] ?? (port === 465 ? "implicit" : "starttls")
    const isHalf = ofPreset !== undefined && (own === undefined || mode === undefined) &&
      (tls === "implicit" ? [25, 587].includes(port) : port === 465)
    return isHalf ? undefined : [port, tls]
  }

  it.effect("is decided once, by all sources together", () =>
    Effect.gen(function*() {
      const links = ["smtp", "smtps", "lmtp"].flatMap((scheme) =>
        ["", "ann:pw@"].flatMap((user) =>
          ["", ":25", ":2525"].map((port) => `${scheme}://${user}smtp.gmail.com${port}`)
        )
      )
      const all = [
        or("SMTP_URL", links),
        or("SMTP_TLS", ["implicit", "starttls", "opportunistic", "off"]),
        or("SMTP_PORT", ["25", "465", "587", "2525"]),
        or("SMTP_PRESET", ["gmail"]),
        [{}, login]
      ].reduce(times)
      assert.strictEqual(all.length, 19 * 5 * 5 * 2 * 2)
      for (const env of all) {
        const wanted = expected(env)
        if (wanted === undefined) assert.strictEqual(yield* told(env), halfOf(465, "implicit"), JSON.stringify(env))
        else assert.deepStrictEqual<unknown>(yield* place(env), wanted, JSON.stringify(env))
      }
    }))
})

describe("SmtpClient.layerConfig", () => {
  it.effect("takes a Config for each option, and for parts of one", () =>
    Effect.gen(function*() {
      const env = { MAIL_HOST: "mx.test", MAIL_WAIT: "3 seconds", MAIL_PASSWORD: "pw" }
      const layer = SmtpClient.layerConfig({
        host: Config.String("MAIL_HOST"),
        timeouts: { command: Config.Duration("MAIL_WAIT") },
        auth: Config.map(
          Config.Redacted("MAIL_PASSWORD"),
          (password): Sasl.Credentials => Sasl.password({ username: "app", password })
        )
      }).pipe(
        Layer.provide(ConfigProvider.layer(ConfigProvider.fromEnv({ env }))),
        Layer.provideMerge(SmtpServer.layer())
      )
      yield* Effect.gen(function*() {
        const report = yield* SmtpClient.SmtpClient.use((smtp) => smtp.verify)
        assert.isTrue(report.authenticated)
        const [connection] = yield* (yield* SmtpServer.SmtpServer).connections
        assert.strictEqual(connection?.username, "app")
      }).pipe(Effect.provide(layer))
    }))
})
