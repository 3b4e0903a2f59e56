import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { resolve } from "../src/internal/options.ts"
import * as Sasl from "../src/Sasl.ts"
import * as SmtpClient from "../src/SmtpClient.ts"
import { SmtpServer } from "../src/testing/index.ts"

const names = Object.keys(SmtpClient.presets) as ReadonlyArray<SmtpClient.PresetName>
const auth = Sasl.password({ username: "ann", password: Redacted.make("CANARY") })

describe("the presets", () => {
  it("are of many providers, sorted, each under a name in lower case", () => {
    assert.isAbove(names.length, 50)
    for (const name of names) assert.match(name, /^[a-z0-9]+([.-][a-z0-9]+)*$/)
    for (
      const name of ["gmail", "outlook", "yahoo", "icloud", "fastmail", "sendgrid", "mailgun", "mailgun-eu", "postmark"]
    ) assert.include(names, name)
    assert.include(names, "ses-us-east-1")
  })

  it.each(names)("%s: TLS that is required, on its port, at a host of the public net, and nothing else", (name) => {
    const { host, port, tls, ...others } = SmtpClient.presets[name]
    assert.deepStrictEqual(others, {})
    assert.strictEqual(tls, port === 465 ? "implicit" : "starttls")
    assert.include([465, 587], port)
    assert.match(host, /^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*\.[a-z]{2,}$/)
    const resolved = Result.getOrThrow(resolve({ ...SmtpClient.presets[name], auth }))
    assert.deepStrictEqual([resolved.endpoint.host, resolved.endpoint.port, resolved.tls], [host, port, tls])
    assert.strictEqual(resolved.servername, host)
    assert.isUndefined(resolved.tlsOptions.rejectUnauthorized)
  })

  it("of one host are not there twice", () => {
    assert.strictEqual(new Set(names.map((name) => SmtpClient.presets[name].host)).size, names.length)
  })
})

describe("preset", () => {
  it.effect("adds the options given, which cannot weaken it", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* SmtpClient.preset("fastmail"), SmtpClient.presets.fastmail)
      const weaker = { auth, name: "me.test", tls: "off", port: 25 }
      assert.deepStrictEqual(yield* SmtpClient.preset("fastmail", weaker), {
        ...SmtpClient.presets.fastmail,
        auth,
        name: "me.test"
      })
    }))

  it.effect("takes the provider's host in any case, and refuses another place", () =>
    Effect.gen(function*() {
      const link = (host: string) => SmtpClient.fromUrl(`smtp://ann:pw@${host}?name=me.test`)
      const { auth: _, ...options } = yield* SmtpClient.preset("fastmail", yield* link("SMTP.fastmail.com"))
      assert.deepStrictEqual(options, { ...SmtpClient.presets.fastmail, name: "me.test" })
      const error = yield* Effect.flip(SmtpClient.preset("fastmail", yield* link("mx.test")))
      assert.strictEqual(error.field, "options.host")
      assert.strictEqual(
        error.message,
        "options.host: the preset is smtp.fastmail.com; remove the preset or the host"
      )
      const socket = yield* Effect.flip(SmtpClient.preset("fastmail", { path: "/run/s" } as SmtpClient.Options))
      assert.strictEqual(
        socket.message,
        "options.path: the preset is smtp.fastmail.com; remove the preset or the path"
      )
      assert.deepStrictEqual(yield* SmtpClient.preset("fastmail", null as never), SmtpClient.presets.fastmail)
    }))

  it.effect("makes a client that sends", () =>
    Effect.gen(function*() {
      const smtp = yield* SmtpClient.make(yield* SmtpClient.preset("office365", { auth }))
      const { secure, security } = yield* smtp.verify
      assert.isTrue(secure)
      assert.strictEqual(security._tag === "Some" ? security.value.servername : "", "smtp.office365.com")
    }).pipe(Effect.provide(SmtpServer.layer())))

  it.effect("takes a name in any case", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* SmtpClient.preset("GMail" as "gmail"), SmtpClient.presets.gmail)
    }))

  it.effect.each([
    ["gmial", "gmail"],
    ["GMAIL.com", "gmail"],
    ["sendgird", "sendgrid"],
    ["ses", "ses-us-east-1"],
    ["ses-eu-west-9", "ses-eu-west-1"],
    ["mailgun-us", "mailgun"],
    ["office", "office365"],
    ["protonmail", "proton"],
    ["", ""],
    ["__proto__", ""],
    ["constructor", ""]
  ])("%j fails with ECONFIG and names the nearest", ([name, nearest]) =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(SmtpClient.preset(name as SmtpClient.PresetName))
      assert.deepInclude(error, { _tag: "ECONFIG", field: "preset", command: "API", attempted: false } as never)
      assert.isTrue(
        error.message.startsWith(`preset: ${JSON.stringify(name)} is no provider known here; the nearest is "`)
      )
      if (nearest === "ses-us-east-1") assert.match(error.message, /the nearest is "ses-/)
      else if (nearest !== "") assert.include(error.message, `the nearest is "${nearest}"`)
      const [, found = ""] = /the nearest is "(.*?)"/.exec(error.message) ?? []
      assert.include(names, found)
    }))

  it.effect("shows a name that is no name escaped and in part", () =>
    Effect.gen(function*() {
      const evil = `\u001b[2J${"x".repeat(100_000)}`
      const error = yield* Effect.flip(SmtpClient.preset(evil as SmtpClient.PresetName))
      assert.isBelow(error.message.length, 300)
      assert.notInclude(error.message, "\u001b")
      assert.strictEqual((yield* Effect.flip(SmtpClient.preset(undefined as never)))._tag, "ECONFIG")
    }))
})
