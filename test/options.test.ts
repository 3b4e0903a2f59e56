import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { type Options, resolve, type Resolved } from "../src/internal/options.ts"
import { canonicalPin } from "../src/internal/tlsOptions.ts"
import * as Sasl from "../src/Sasl.ts"
import * as SmtpClient from "../src/SmtpClient.ts"
import * as SmtpError from "../src/SmtpError.ts"
import * as SmtpTranscript from "../src/SmtpTranscript.ts"
import * as SmtpServer from "../src/testing/SmtpServer.ts"
import { assertHidden } from "./support/secrets.ts"

const auth = Sasl.password({ username: "ann", password: Redacted.make("CANARY") })

const ok = (options: Options): Resolved => Result.getOrThrow(resolve(options))

/** The error of options that no caller in TypeScript could write, or that contradict each other. */
const refusal = (options: unknown): SmtpError.ECONFIG => {
  const result = resolve(options as Options)
  assert.isTrue(Result.isFailure(result), `accepted: ${String(options)}`)
  const error = Result.getOrThrow(Result.flip(result))
  assert.instanceOf(error, SmtpError.ECONFIG)
  assert.deepStrictEqual([error.command, error.attempted, error.inDoubt, error.isTemporary], [
    "API",
    false,
    false,
    false
  ])
  assert.isTrue(error.message.startsWith(`${error.field}: `), error.message)
  return error
}

const told = (options: unknown): string => refusal(options).message

describe("the defaults", () => {
  it("are those of the documentation", () => {
    assert.deepStrictEqual(ok({}), {
      endpoint: { host: "localhost", port: 25, path: undefined, localAddress: undefined, family: undefined },
      tls: "starttls",
      tlsIsExplicit: false,
      tlsOptions: {},
      servername: "localhost",
      name: undefined,
      deadlines: {
        dns: 30_000,
        connect: 120_000,
        greeting: 30_000,
        tls: 30_000,
        command: 300_000,
        data: 180_000,
        final: 600_000,
        idle: 600_000,
        quit: 2000,
        total: Infinity
      },
      protocol: "smtp",
      auth: undefined,
      mechanisms: undefined,
      minimumMechanism: undefined,
      channelBinding: "preferred",
      allowInsecureAuth: false,
      pipelining: true,
      chunking: true,
      transcript: "off"
    })
  })

  it("are the same for a field that is undefined as for one that is absent", () => {
    const nothing: Options = {
      host: undefined,
      port: undefined,
      path: undefined,
      tls: undefined,
      tlsOptions: undefined,
      servername: undefined,
      name: undefined,
      localAddress: undefined,
      family: undefined,
      timeouts: undefined,
      protocol: undefined,
      auth: undefined,
      mechanisms: undefined,
      minimumMechanism: undefined,
      channelBinding: "preferred",
      allowInsecureAuth: undefined,
      pipelining: undefined,
      chunking: undefined,
      transcript: undefined
    }
    assert.deepStrictEqual(ok(nothing), ok({}))
    assert.deepStrictEqual(ok({ timeouts: { dns: undefined, total: undefined } }), ok({}))
  })

  it.each<[Options, number, Resolved["tls"]]>([
    [{}, 25, "starttls"],
    [{ tls: "implicit" }, 465, "implicit"],
    [{ tls: "starttls" }, 25, "starttls"],
    [{ tls: "opportunistic" }, 25, "opportunistic"],
    [{ tls: "off" }, 25, "off"],
    [{ port: 465 }, 465, "implicit"],
    [{ port: 587 }, 587, "starttls"],
    [{ port: 465, tls: "starttls" }, 465, "starttls"],
    [{ port: 2525, tls: "implicit" }, 2525, "implicit"],
    [{ protocol: "lmtp" }, 24, "starttls"],
    [{ protocol: "lmtp", tls: "implicit" }, 465, "implicit"],
    [{ protocol: "lmtp", port: 2424 }, 2424, "starttls"],
    [{ protocol: "smtp", port: 1 }, 1, "starttls"],
    [{ port: 65_535 }, 65_535, "starttls"]
  ])("of port and TLS follow from each other: %j is port %d, %s", (options, port, tls) => {
    const resolved = ok(options)
    assert.deepStrictEqual([resolved.endpoint.port, resolved.tls], [port, tls])
    assert.strictEqual(resolved.tlsIsExplicit, options.tls !== undefined)
  })

  it("of a unix socket: no TLS, and credentials may go over it", () => {
    const resolved = ok({ path: "/run/lmtp.sock", protocol: "lmtp", auth })
    assert.deepStrictEqual([resolved.endpoint.path, resolved.tls, resolved.auth], ["/run/lmtp.sock", "off", auth])
    assert.strictEqual(ok({ path: "/run/s", tls: "starttls", servername: "mx.test" }).tls, "starttls")
  })

  it("of the name to expect: the host, an address without its brackets, unless another is given", () => {
    assert.strictEqual(ok({ host: "mx.test" }).servername, "mx.test")
    assert.strictEqual(ok({ host: "192.0.2.1" }).servername, "192.0.2.1")
    assert.strictEqual(ok({ host: "[2001:db8::1]" }).servername, "2001:db8::1")
    assert.strictEqual(ok({ host: "192.0.2.1", servername: "mx.test" }).servername, "mx.test")
  })
})

describe("what is given", () => {
  it("is kept as it is", () => {
    const tlsOptions = { minVersion: "TLSv1.3", rejectUnauthorized: false } as const
    const given: Options = {
      host: "mx.test",
      port: 587,
      tls: "starttls",
      tlsOptions,
      servername: "other.test",
      name: "me.test",
      localAddress: "192.0.2.9",
      family: 6,
      protocol: "lmtp",
      auth,
      mechanisms: ["PLAIN", "LOGIN"],
      minimumMechanism: "PLAIN",
      channelBinding: "required",
      allowInsecureAuth: true,
      pipelining: false,
      chunking: "always",
      transcript: "full"
    }
    const { deadlines, ...resolved } = ok(given)
    assert.strictEqual(deadlines.command, 300_000)
    assert.deepStrictEqual(resolved, {
      endpoint: { host: "mx.test", port: 587, path: undefined, localAddress: "192.0.2.9", family: 6 },
      tls: "starttls",
      tlsIsExplicit: true,
      tlsOptions,
      servername: "other.test",
      name: "me.test",
      protocol: "lmtp",
      auth,
      mechanisms: ["PLAIN", "LOGIN"],
      minimumMechanism: "PLAIN",
      channelBinding: "required",
      allowInsecureAuth: true,
      pipelining: false,
      chunking: "always",
      transcript: "full"
    })
  })

  it.each([
    ["10 seconds", 10_000],
    [1500, 1500],
    [0.5, 0.5],
    [Duration.minutes(2), 120_000],
    [Duration.infinity, Infinity],
    [Infinity, Infinity]
  ])("a deadline may be %s", (input, millis) => {
    for (const name of Object.keys(ok({}).deadlines)) {
      assert.deepStrictEqual(ok({ timeouts: { [name]: input as Duration.Input } }).deadlines, {
        ...ok({}).deadlines,
        [name]: millis
      })
    }
  })

  it.each(["me.test", "localhost", "[192.0.2.1]", "[IPv6:2001:db8::1]"])("%s is a name for EHLO", (name) => {
    assert.strictEqual(ok({ name }).name, name)
  })

  it.effect("a recorder is a transcript", () =>
    Effect.gen(function*() {
      const recording = yield* SmtpTranscript.make()
      assert.strictEqual(ok({ transcript: recording }).transcript, recording)
      const own = { level: "full", record: () => Effect.void } as const
      assert.strictEqual(ok({ transcript: own }).transcript, own)
    }))

  it.each(Sasl.strength.flatMap((name) => [name, name.toLowerCase()]))("%s is a minimum of mechanisms", (name) => {
    assert.strictEqual(ok({ minimumMechanism: name }).minimumMechanism, name)
  })

  it("credentials go out in clear only where that was said", () => {
    assert.strictEqual(ok({ auth, tls: "off", allowInsecureAuth: true }).auth, auth)
    for (const tls of ["implicit", "starttls", "opportunistic"] as const) {
      assert.strictEqual(ok({ auth, tls }).auth, auth)
    }
    const others = [Sasl.oauth2({ username: "ann", token: Effect.succeed(Redacted.make("x")) }), Sasl.external()]
    for (const credentials of others) assert.strictEqual(ok({ auth: credentials }).auth, credentials)
  })
})

describe("contradictions", () => {
  it.each<[Options, string]>([
    [
      { auth, tls: "off" },
      `options.auth: no credential leaves without verified TLS; choose tls: "starttls", or set allowInsecureAuth: true`
    ],
    [
      { auth, tls: "off", allowInsecureAuth: false, host: "127.0.0.1" },
      `options.auth: no credential leaves without verified TLS; choose tls: "starttls", or set allowInsecureAuth: true`
    ],
    [{ path: "/run/s", host: "mx.test" }, "options.path: a unix socket has no host and port; leave them out"],
    [{ path: "/run/s", port: 25 }, "options.path: a unix socket has no host and port; leave them out"],
    [
      { path: "/run/s", tls: "starttls" },
      "options.servername: TLS over a unix socket needs the name that the certificate must hold"
    ],
    [
      { tls: "off", tlsOptions: {} },
      `options.tlsOptions: they have no effect with tls: "off"; remove them, or choose tls: "starttls"`
    ],
    [
      { path: "/run/s", tlsOptions: {} },
      `options.tlsOptions: they have no effect with tls: "off"; remove them, or choose tls: "starttls"`
    ],
    [
      { tls: "opportunistic", tlsOptions: { pins: [`cert-sha256/${"0f".repeat(32)}`] } },
      `options.tlsOptions.pins: tls: "opportunistic" goes on without TLS; choose tls: "starttls", or remove them`
    ],
    [
      { tlsOptions: { minVersion: "TLSv1.3", maxVersion: "TLSv1.2" } },
      "options.tlsOptions.minVersion: is above maxVersion"
    ]
  ])("%j is refused, and the message says how to mend it", (options, message) => {
    assert.strictEqual(told(options), message)
  })
})

describe("TLS options", () => {
  const hex = "0123456789abcdef".repeat(4)
  const pairs = hex.match(/../g)?.join(":") ?? ""
  const base64 = `${"Ab+/".repeat(10)}Abc=`
  it.each([
    `sha256/${base64}`,
    `cert-sha256/${hex}`,
    `cert-sha256/${hex.toUpperCase()}`,
    `cert-sha256/${pairs}`,
    `CERT-SHA256/${pairs.toUpperCase()}`
  ])("%s is a pin", (pin) => {
    const pins = [`sha256/${base64}`, pin]
    assert.deepStrictEqual(ok({ tlsOptions: { pins } }).tlsOptions.pins, pins)
    assert.strictEqual(canonicalPin(pin), pin.startsWith("sha256") ? pin : `cert-sha256/${hex}`)
  })

  it.each([
    "",
    base64,
    hex,
    `sha256//${base64}`,
    `SHA256/${base64}`,
    `sha256/${base64.slice(0, -1)}`,
    `sha256/${base64.slice(0, -2)}d=`,
    `sha256/A${base64}`,
    `sha256/${hex}`,
    `cert-sha256/${base64}`,
    `cert-sha256/${hex}0`,
    `cert-sha256/${hex.slice(2)}`,
    `cert-sha256/${pairs.replace(":", "")}`,
    `cert-sha256/${pairs}:`,
    `sha256/${base64}\n`,
    `sha1/${base64}`,
    7,
    null,
    [`sha256/${base64}`]
  ])("%j is no pin", (pin) => {
    assert.strictEqual(
      told({ tlsOptions: { pins: [`sha256/${base64}`, pin] } }),
      "options.tlsOptions.pins[1]: must be sha256/ with the base64 of a public key's SHA-256, or cert-sha256/ with a " +
        "certificate's in hex"
    )
  })

  it.each<[string, unknown, string]>([
    ["pins", [], "must be a non-empty array; leave it out to have no pins"],
    ["pins", `sha256/${base64}`, "must be a non-empty array; leave it out to have no pins"],
    ["minVersion", "TLSv1.1", `must be "TLSv1.2" or "TLSv1.3"`],
    ["maxVersion", 1.3, `must be "TLSv1.2" or "TLSv1.3"`],
    ["key", "CANARY", "must be Redacted; wrap it in Redacted.make"],
    ["passphrase", "CANARY", "must be Redacted; wrap it in Redacted.make"],
    ["rejectUnauthorized", 0, "must be true or false"]
  ])("with another %s (%j) are an ECONFIG", (field, value, message) => {
    assert.strictEqual(told({ tlsOptions: { [field]: value } }), `options.tlsOptions.${field}: ${message}`)
  })
})

describe("values of another shape", () => {
  const odd: ReadonlyArray<unknown> = [null, 0, 25, "", true, {}, [], () => "x", Symbol("x"), {
    toString: () => "mx.test"
  }]
  const not = (...allowed: ReadonlyArray<unknown>) => odd.filter((value) => !allowed.includes(value))

  const fields: Readonly<Record<string, readonly [values: ReadonlyArray<unknown>, mend: string]>> = {
    host: [odd, "expected a non-empty string"],
    path: [odd, "expected a non-empty string"],
    servername: [odd, "expected a non-empty string"],
    name: [odd, "expected a non-empty string"],
    localAddress: [odd, "expected a non-empty string"],
    minimumMechanism: [odd.filter((value) => typeof value !== "string"), "expected a non-empty string"],
    port: [[...not(25), "25", -1, 65_536, 25.5, NaN, Infinity, 25n], "expected a whole number from 1 to 65535"],
    tls: [[...odd, "STARTTLS", "ssl"], `expected one of "implicit", "starttls", "opportunistic", "off"`],
    family: [[...odd, 5, "4"], "expected one of 4, 6"],
    channelBinding: [[...odd, "none"], `expected one of "preferred", "required"`],
    protocol: [[...odd, "esmtp"], `expected one of "smtp", "lmtp"`],
    allowInsecureAuth: [[...not(true), "true", 1], "expected one of true, false"],
    pipelining: [[...not(true), "true", 1], "expected one of true, false"],
    chunking: [[...not(true), "true", "never", 1], `expected one of true, false, "always"`],
    transcript: [
      [...odd, "all", { level: "all", record: () => Effect.void }, { level: "full" }, { record: () => Effect.void }],
      `expected one of "off", "commands", "full", or a recorder: yield* SmtpTranscript.make()`
    ],
    mechanisms: [
      [...odd, "PLAIN", [""], ["PLAIN", 1], [undefined]],
      "expected a non-empty array of SASL mechanism names"
    ],
    tlsOptions: [
      odd.filter((value) => typeof value !== "object" || value === null || Array.isArray(value)),
      "expected an object"
    ],
    timeouts: [[
      ...odd.filter((value) => typeof value !== "object" || value === null || Array.isArray(value)),
      "30 seconds"
    ], "expected an object"],
    auth: [
      [...odd, "ann:CANARY", { user: "ann", pass: "CANARY" }, { _tag: "Basic" }, [auth]],
      "expected credentials, e.g. Sasl.password({ username, password: Redacted.make(secret) })"
    ]
  }

  it.each(Object.keys(fields))("of %s are an ECONFIG that names the field and what it takes", (field) => {
    const [values, mend] = fields[field] ?? [[], ""]
    assert.isAbove(values.length, 3)
    for (const value of values) {
      const error = refusal({ [field]: value })
      assert.strictEqual(error.field, `options.${field}`)
      assert.include(error.message, mend)
      assertHidden(error.message, "CANARY")
    }
  })

  it.each(["dns", "connect", "greeting", "tls", "command", "data", "final", "idle", "quit", "total"])(
    "of the deadline %s are an ECONFIG that names it",
    (name) => {
      for (
        const value of [0, -1, NaN, "", "soon", "0 seconds", "-5 seconds", true, [], {}, "Infinity seconds and more"]
      ) {
        const error = refusal({ timeouts: { [name]: value } })
        assert.strictEqual(error.field, `options.timeouts.${name}`)
        assert.include(error.message, `expected a positive duration, e.g. "30 seconds"; Duration.infinity turns it off`)
      }
    }
  )

  it.each([
    "",
    "a b",
    "me.test\r\nMAIL FROM:<x@y>",
    "\u0000",
    "a\u2028b",
    "x".repeat(600),
    "[not an address",
    "mé.test\u0085"
  ])(
    "%j is no name for EHLO",
    (name) => {
      const error = refusal({ name })
      assert.strictEqual(error.field, "options.name")
      assert.match(
        error.message,
        /give a domain name or an address literal such as \[192\.0\.2\.1\]|expected a non-empty string/
      )
      assert.notMatch(error.message, /[\p{Cc}\u2028]/u)
    }
  )

  it.each(["SCRAM", "XOAUTH2", "EXTERNAL", "X-OWN", "PLAIN ", "plain\u0000"])(
    "%j is no minimum of mechanisms: the message has those that there are",
    (name) => {
      const error = refusal({ minimumMechanism: name })
      assert.strictEqual(error.field, "options.minimumMechanism")
      assert.strictEqual(error.message, `options.minimumMechanism: expected one of ${Sasl.strength.join(", ")}`)
    }
  )

  it.effect("a minimum leaves the mechanism of one's own alone", () =>
    Effect.gen(function*() {
      const mechanism = { ...Sasl.mechanisms.find(({ name }) => name === "EXTERNAL")!, name: "X-OWN" }
      const auth = Sasl.custom({ username: "ann", secret: Redacted.make("x"), mechanism })
      const server = SmtpServer.layer({
        extensions: { auth: ["X-OWN"] },
        respond: { auth: () => SmtpServer.reply(235) }
      })
      const made = SmtpClient.make({ auth, minimumMechanism: "SCRAM-SHA-256" })
      const report = yield* Effect.flatMap(made, ({ verify }) => verify).pipe(Effect.provide(server))
      assert.strictEqual(report.securityReport.mechanism, "X-OWN")
    }))

  it("of the whole are an ECONFIG", () => {
    for (const value of [undefined, null, "smtp://mx.test", 25, [], () => {}]) {
      const error = refusal(value)
      assert.strictEqual(error.field, "options")
      assert.strictEqual(error.message, `options: expected an object, e.g. { host: "mx.example.com" }`)
    }
  })

  it.effect("reach the caller as a failure of the layer, before anything is dialled", () =>
    Effect.gen(function*() {
      const server = yield* SmtpServer.SmtpServer
      for (const options of [{ port: 0 }, { auth: { user: "ann" } }, null, { timeouts: "30 seconds" }]) {
        const error = yield* Effect.flip(SmtpClient.make(options as Options))
        assert.strictEqual(error._tag, "ECONFIG")
      }
      assert.deepStrictEqual(yield* server.connections, [])
    }).pipe(Effect.provide(SmtpServer.layer())))
})
