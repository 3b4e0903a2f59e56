import { afterAll, assert, describe, it } from "@effect/vitest"
import * as Command from "effect/cli/Command"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as PlatformError from "effect/PlatformError"
import * as Redacted from "effect/Redacted"
import * as Runtime from "effect/Runtime"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as frame from "../../src/cli/frame.ts"
import * as frameConnection from "../../src/cli/frameConnection.ts"
import type { Credentials } from "../../src/Sasl.ts"
import type * as SmtpClient from "../../src/SmtpClient.ts"
import * as SmtpError from "../../src/SmtpError.ts"
import * as SmtpReply from "../../src/SmtpReply.ts"
import * as SmtpServer from "../../src/testing/SmtpServer.ts"
import { assertHidden } from "../support/secrets.ts"
import { cli, inProcess, type Setting } from "./command.ts"

const folder = mkdtempSync(join(tmpdir(), "effect-smtp-frame-"))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
const file = (name: string, content: string): string => {
  writeFileSync(join(folder, name), content)
  return join(folder, name)
}

const at = { message: "it failed", command: "CONN" }
const reply = (code: number) => ({ ...at, reply: SmtpReply.make(code, "no") })

describe("exit codes", () => {
  const cases: ReadonlyArray<readonly [number, SmtpError.SmtpError]> = [
    [68, new SmtpError.EDNS({ ...at, host: "nowhere.test" })],
    [75, new SmtpError.EDNS({ ...at, host: "nowhere.test", temporary: true })],
    [75, new SmtpError.ECONNECTION(at)],
    [75, new SmtpError.ECONNECTION(reply(421))],
    [69, new SmtpError.ECONNECTION(reply(554))],
    [75, new SmtpError.ESOCKET(at)],
    [69, new SmtpError.ESOCKET({ ...at, temporary: false })],
    [75, new SmtpError.ETIMEDOUT({ ...at, timeout: "connect" })],
    [74, new SmtpError.ETIMEDOUT({ ...at, timeout: "final", inDoubt: true })],
    [69, new SmtpError.ETIMEDOUT({ ...at, timeout: "total", temporary: false })],
    [75, new SmtpError.EPROXY(at)],
    [69, new SmtpError.EPROXY({ ...at, temporary: false })],
    [76, new SmtpError.ETLS(at)],
    [75, new SmtpError.ETLS({ ...at, temporary: true })],
    [76, new SmtpError.EREQUIRETLS(at)],
    [76, new SmtpError.EPROTOCOL(at)],
    [77, new SmtpError.EAUTH(reply(535))],
    [75, new SmtpError.EAUTH(reply(454))],
    [77, new SmtpError.ENOAUTH(reply(530))],
    [77, new SmtpError.EOAUTH2(at)],
    [69, new SmtpError.EENVELOPE({ ...reply(550), command: "RCPT TO" })],
    [75, new SmtpError.EENVELOPE({ ...reply(451), command: "RCPT TO" })],
    [65, new SmtpError.EENVELOPE({ ...at, command: "API" })],
    [65, new SmtpError.EMESSAGE(reply(552))],
    [75, new SmtpError.EMESSAGE(reply(452))],
    [74, new SmtpError.ESTREAM(at)],
    [78, new SmtpError.ECONFIG(at)]
  ]
  for (const [code, error] of cases) {
    const how = error.reply?.code ?? (error.inDoubt ? "in doubt" : error.isTemporary ? "temporary" : "permanent")
    it(`of ${error._tag}, ${how}, from ${error.command}, is ${code}`, () => {
      assert.strictEqual(frame.exitCodeOf(error), code)
      assert.strictEqual(code === 75, SmtpError.isRetryable(error))
    })
  }
  it("has a case for each class", () => {
    assert.strictEqual(new Set(cases.map(([, error]) => error._tag)).size, SmtpError.SmtpError.members.length)
  })
})

class Odd extends Data.TaggedError("Odd")<{ readonly message: string }> {}

describe("run", () => {
  const failing = (error: unknown, args: ReadonlyArray<string> = []) => {
    const work = error === "defect" ? Effect.die(new Error("a bug")) : Effect.fail(error)
    return inProcess(frame.run({ json: args.includes("--json") }, work), args)
  }

  it.effect("tells a failure once, on standard error, and in JSON on standard output", () =>
    Effect.gen(function*() {
      const error = new frame.Failure({ code: 66, message: "no such file", details: { path: "x" } })
      const plain = yield* failing(error)
      assert.deepStrictEqual([plain.code, plain.stdout, plain.stderr], [66, "", "error: no such file\n"])
      const json = yield* failing(error, ["--json"])
      assert.strictEqual(json.stderr, plain.stderr)
      assert.deepStrictEqual(json.json(), { error: { message: "no such file", path: "x", exitCode: 66 } })
    }))

  it.effect("says of a message in doubt that it is", () =>
    Effect.gen(function*() {
      const ran = yield* failing(new SmtpError.ECONNECTION({ ...at, inDoubt: true }), ["--json"])
      assert.strictEqual(ran.code, 74)
      assert.match(ran.stderr, /^error: ECONNECTION it failed; in doubt: the server may have taken the message\n$/)
      assert.deepInclude(ran.json()["error"] as object, { code: "ECONNECTION", inDoubt: true, isTemporary: true })
    }))

  it.effect("gives the server's reply escaped, and no cause", () =>
    Effect.gen(function*() {
      const cause = new Error("inside")
      const error = new SmtpError.EAUTH({ ...at, cause, reply: SmtpReply.make(535, "5.7.8 \u001b[2J\u202eno") })
      const ran = yield* failing(error, ["--json"])
      const told = ran.json()["error"] as Record<string, unknown>
      assert.deepStrictEqual(told["reply"], { code: 535, lines: ["5.7.8 \\u{1b}[2J\\u{202e}no"] })
      assert.strictEqual(told["enhancedCode"], "5.7.8")
      assert.notProperty(told, "cause")
    }))

  it.effect("names the flag where the library names an option", () =>
    Effect.gen(function*() {
      const hint = `options.tlsOptions.ca, options.tls; choose tls: "starttls", or set allowInsecureAuth: true`
      const ran = yield* failing(new SmtpError.ECONFIG({ ...at, message: hint }), ["--json"])
      assert.strictEqual(
        ran.stderr,
        "error: ECONFIG --ca, --tls; choose --tls starttls, or set --allow-insecure-auth\n"
      )
      assert.deepInclude(ran.json()["error"] as object, { message: hint })
    }))

  it.effect("ends with 74 for a file that failed, and 70 for what nobody foresaw", () =>
    Effect.gen(function*() {
      const broken = PlatformError.systemError({ _tag: "Busy", module: "FileSystem", method: "write" })
      assert.strictEqual((yield* failing(broken)).code, 74)
      assert.strictEqual((yield* failing(new Odd({ message: "odd \u0007" }))).stderr, "error: odd \\u{7}\n")
      assert.strictEqual((yield* failing("text")).stderr, "error: an unexpected failure\n")
      assert.strictEqual((yield* failing("defect")).code, 70)
    }))

  it.effect("tells nothing more of a run that has told all itself", () =>
    Effect.gen(function*() {
      const ran = yield* inProcess(frame.run({ json: false }, frame.endWith(69)), [])
      assert.deepStrictEqual([ran.code, ran.stdout, ran.stderr], [69, "", ""])
      assert.strictEqual((yield* inProcess(frame.run({ json: false }, frame.endWith(0)), [])).code, 0)
      assert.strictEqual(Runtime.getErrorReported(new frame.Ended({ code: 1 })), false)
    }))

  it.effect("lets an interruption be one", () =>
    Effect.gen(function*() {
      const ran = yield* inProcess(frame.run({ json: true }, Effect.interrupt), [])
      assert.deepStrictEqual([ran.code, ran.stdout, ran.stderr], [130, "", ""])
    }))
})

describe("Output", () => {
  const painted = frame.Output.use(({ json, line, note, paint, paintNote }) =>
    line(paint.green("a")).pipe(Effect.andThen(note(paintNote.red("b"))), Effect.andThen(json({ c: "\u202eé" })))
  )
  const print = (json: boolean, setting?: Setting) => inProcess(frame.run({ json }, painted), [], setting)

  it.effect("has no colours in a pipe", () =>
    Effect.gen(function*() {
      const ran = yield* print(false)
      assert.deepStrictEqual([ran.stdout, ran.stderr], ["a\n", "b\n"])
    }))

  it.effect("has colours on a terminal", () =>
    Effect.gen(function*() {
      const ran = yield* print(false, { terminal: true })
      assert.deepStrictEqual([ran.stdout, ran.stderr], ["\u001b[32ma\u001b[39m\n", "\u001b[31mb\u001b[39m\n"])
    }))

  it.effect("has none on standard error where that is a file", () =>
    Effect.gen(function*() {
      const ran = yield* print(false, { terminal: true, errorTerminal: false })
      assert.deepStrictEqual([ran.stdout, ran.stderr], ["\u001b[32ma\u001b[39m\n", "b\n"])
    }))

  it.effect("has none where NO_COLOR is set, and on a dumb terminal", () =>
    Effect.gen(function*() {
      for (const env of [{ NO_COLOR: "1" }, { TERM: "dumb" }]) {
        const ran = yield* print(false, { terminal: true, env })
        assert.deepStrictEqual([ran.stdout, ran.stderr], ["a\n", "b\n"])
      }
    }))

  it.effect("is one line of ASCII as JSON, and no line for a person", () =>
    Effect.gen(function*() {
      const ran = yield* print(true, { terminal: true })
      assert.strictEqual(ran.stdout, `{"c":"\\u202e\\u00e9"}\n`)
      assert.deepStrictEqual(ran.json(), { c: "\u202eé" })
    }))

  it.effect("has what is logged on standard error", () =>
    Effect.gen(function*() {
      const ran = yield* inProcess(frame.run({ json: true }, Effect.logInfo("C: QUIT", "again", 3)), [])
      assert.deepStrictEqual([ran.stdout, ran.stderr], ["", "C: QUIT again \n"])
    }))
})

describe("usage", () => {
  const run = (...args: ReadonlyArray<string>) => Effect.provide(cli(args), SmtpServer.layer())

  it.effect("ends with 64, tells on standard error, and leads to the help", () =>
    Effect.gen(function*() {
      for (
        const args of [["nope"], ["send", "--nope"], ["send", "-f", "a@b", "--port", "0"], ["probe", "h", "-p", "x"]]
      ) {
        const ran = yield* run(...args)
        assert.deepStrictEqual([ran.code, ran.stdout], [64, ""], args.join(" "))
        assert.match(ran.stderr, /See: effect-smtp( send| probe)? --help\n$/)
      }
      assert.match((yield* run("send", "-f", "a@b", "--timeout", "soon")).stderr, /expected a duration/)
      assert.match((yield* run("send", "-f", "a@b", "--timeout", "0")).stderr, /expected a duration/)
    }))

  it.effect("shows no secret that was an argument again", () =>
    Effect.gen(function*() {
      for (const given of [["--password", "geheim"], ["--password=geheim"], ["--token", "geheim"], ["--pass=geheim"]]) {
        const ran = yield* run("send", ...given, "-f", "a@b.test", "-t", "c@d.test")
        assert.strictEqual(ran.code, 64)
        assert.match(ran.stderr, /^A secret is never an argument/)
        assertHidden(ran.stderr + ran.stdout, "geheim")
      }
    }))

  it.effect("has help with examples for each command, and a version", () =>
    Effect.gen(function*() {
      const top = yield* run("--help")
      assert.strictEqual(top.code, 0)
      for (const name of ["send", "probe", "serve", "bench", "replay"]) {
        assert.match(top.stdout, new RegExp(`^ {2}${name} +\\w`, "m"))
        const help = yield* run(name, "--help")
        assert.strictEqual(help.code, 0)
        assert.match(help.stdout, new RegExp(`EXAMPLES\\n {2}# .*\\n.*effect-smtp ${name}\\b`))
        assert.notInclude(help.stdout, "\u001b")
      }
      assert.match((yield* run("--version")).stdout, /^effect-smtp v\d+\.\d+\.\d+\n$/)
      assert.strictEqual((yield* run()).code, 0)
    }))
})

describe("options", () => {
  /** The options that these arguments and this environment make. */
  const options = Effect.fnUntraced(function*(args: ReadonlyArray<string>, setting: Setting = {}) {
    let made: SmtpClient.Options | undefined
    const command = Command.make(
      "x",
      { host: frameConnection.hostFlag, connection: frameConnection.connectionFlags, login: frameConnection.authFlags },
      ({ connection, host, login }) =>
        frame.run(
          { json: false },
          Effect.map(frameConnection.resolveOptions(host, connection, login), (one) => {
            made = one
          })
        )
    )
    const ran = yield* inProcess(Command.run(command, { version: "0" }), args, setting)
    return { ...ran, options: made }
  })
  const password = (auth: Credentials | undefined) =>
    auth?._tag === "Password" && Redacted.isRedacted(auth.password)
      ? [auth.username, Redacted.value(auth.password)]
      : undefined

  it.effect("are those of the environment where no flag is given", () =>
    Effect.gen(function*() {
      const env = { SMTP_URL: "smtps://ann:p%40ss@mx.test:4650?name=me.test" }
      const made = (yield* options([], { env })).options
      assert.deepInclude(made, { host: "mx.test", port: 4650, tls: "implicit", name: "me.test" })
      assert.deepStrictEqual(password(made?.auth), ["ann", "p@ss"])
    }))

  it.effect("are those of the flags before the environment's", () =>
    Effect.gen(function*() {
      const env = { SMTP_HOST: "mx.test", SMTP_PORT: "26", SMTP_TLS: "off", SMTP_NAME: "me.test" }
      const made = (yield* options(["--port", "27", "--tls", "starttls", "--name", "you.test"], { env })).options
      assert.deepInclude(made, { host: "mx.test", port: 27, tls: "starttls", name: "you.test" })
    }))

  it.effect("of a host that is named are not those that the environment has for another", () =>
    Effect.gen(function*() {
      const env = { SMTP_URL: "smtps://ann:p@mx.test:4650", SMTP_HOST: "mx.test", SMTP_PORT: "26", SMTP_TLS: "off" }
      const made = (yield* options(["--host", "other.test"], { env })).options
      assert.deepStrictEqual([made?.host, made?.port, made?.tls, made?.auth], [
        "other.test",
        undefined,
        undefined,
        undefined
      ])
      const socket = (yield* options(["--socket", "/run/a b"], { env })).options
      assert.deepStrictEqual([socket?.host, socket?.path, socket?.port], [undefined, "/run/a b", undefined])
    }))

  it.effect("hold each flag", () =>
    Effect.gen(function*() {
      const ca = file("ca.pem", "CA")
      const key = file("key.pem", "KEY")
      const pin = `cert-sha256/${"0".repeat(64)}`
      const tlsFlags = ["--ca", ca, "--cert", ca, "--key", key, "--pin", pin, "--insecure", "--servername", "s.test"]
      const loginFlags = ["--auth", "scram-sha-256", "--auth", "PLAIN", "--allow-insecure-auth"]
      const others = ["--host", "mx.test", "--timeout", "1.5", "--transcript"]
      const made = (yield* options([...others, ...tlsFlags, ...loginFlags])).options
      assert.deepInclude(made, {
        servername: "s.test",
        transcript: "commands",
        mechanisms: ["SCRAM-SHA-256", "PLAIN"],
        allowInsecureAuth: true
      })
      const { tlsOptions } = made ?? {}
      assert.deepInclude(tlsOptions, { pins: [pin], rejectUnauthorized: false })
      assert.strictEqual(new TextDecoder().decode(tlsOptions?.ca as Uint8Array), "CA")
      assert.strictEqual(new TextDecoder().decode(Redacted.value(tlsOptions!.key!) as Uint8Array), "KEY")
      assert.match(JSON.stringify(made?.timeouts), /1500/)
      const lmtp = (yield* options(["--host", "mx.test", "--lmtp", "--timeout", "2 minutes", "--tls", "off"])).options
      assert.deepInclude(lmtp, { protocol: "lmtp", tls: "off", host: "mx.test" })
      assert.strictEqual(lmtp?.port, undefined)
    }))

  it.effect("name a host that sets aside the provider of the environment", () =>
    Effect.gen(function*() {
      const env = { SMTP_PRESET: "gmail" }
      const made = (yield* options(["--host", "mx.test"], { env })).options
      assert.deepStrictEqual([made?.host, made?.port, made?.tls], ["mx.test", undefined, undefined])
      assert.strictEqual((yield* options([], { env })).options?.host, "smtp.gmail.com")
    }))

  it.effect("have the password of a file, else of the environment", () =>
    Effect.gen(function*() {
      const args = ["--host", "mx.test", "--user", "ann"]
      const env = { SMTP_PASSWORD: "of the environment" }
      assert.deepStrictEqual(password((yield* options(args, { env })).options?.auth), ["ann", "of the environment"])
      const path = file("password", "of the file\r\nsecond line\n")
      const filed = yield* options([...args, "--password-file", path], { env })
      assert.deepStrictEqual(password(filed.options?.auth), ["ann", "of the file"])
      assert.strictEqual(filed.options?.port, 587)
      const named = yield* options(["--password-file", path], { env: { SMTP_USER: "bob" } })
      assert.deepStrictEqual(password(named.options?.auth), ["bob", "of the file"])
    }))

  it.effect("have the password that is typed, which is not shown; what asks is on standard error", () =>
    Effect.gen(function*() {
      const ran = yield* options(["--host", "mx.test", "-u", "a\u001bn"], { terminal: true, typed: "geheim\n" })
      assert.deepStrictEqual(password(ran.options?.auth), ["a\u001bn", "geheim"])
      assert.include(ran.stderr, "Password of a\\u{1b}n")
      assertHidden(ran.stderr + ran.stdout + ran.drawn, "geheim")
      assert.strictEqual(ran.stdout + ran.drawn, "")
    }))

  it.effect("have a token, the user's own certificate, or nobody", () =>
    Effect.gen(function*() {
      const args = ["--host", "mx.test", "--user", "ann"]
      const token = file("token", "ya29.token\n")
      for (const [more, env] of [[["--token-file", token], {}], [[], { SMTP_TOKEN: "ya29.token" }]] as const) {
        const made = (yield* options([...args, ...more], { env })).options
        assert.strictEqual(made?.auth?._tag, "OAuth2")
        assert.strictEqual(made?.port, 587)
        if (made?.auth?._tag !== "OAuth2" || !Redacted.isRedacted(made.auth.token)) return assert.fail("no token")
        assert.strictEqual(Redacted.value(made.auth.token), "ya29.token")
      }
      assert.deepInclude((yield* options([...args, "--auth", "external"])).options?.auth, {
        _tag: "External",
        authorizationId: "ann"
      })
      assert.strictEqual((yield* options(["--auth", "anonymous"])).options?.auth?._tag, "Anonymous")
    }))

  const refused: ReadonlyArray<readonly [string, ReadonlyArray<string>, Setting, number, RegExp]> = [
    ["a password without a terminal", ["-u", "ann"], {}, 78, /no terminal to ask on; set SMTP_PASSWORD/],
    ["a password file without a user", ["--password-file", "x"], {}, 78, /a password needs a user: give --user/],
    ["a token without a user", [], { env: { SMTP_TOKEN: "t" } }, 78, /an OAuth2 token needs a user: give --user/],
    [
      "a file that is not there",
      ["-u", "ann", "--password-file", "/nowhere"],
      {},
      66,
      /cannot read \/nowhere: NotFound/
    ],
    ["an empty password file", ["-u", "a", "--password-file", file("empty", "\nx")], {}, 66, /has an empty first line/],
    ["an environment that is none", [], { env: { SMTP_URL: "http://user:geheim@x" } }, 78, /the environment: .*scheme/]
  ]
  for (const [name, args, setting, code, message] of refused) {
    it.effect(`refuse ${name}`, () =>
      Effect.gen(function*() {
        const ran = yield* options(args, setting)
        assert.strictEqual(ran.code, code)
        assert.match(ran.stderr, message)
        assertHidden(ran.stderr, "geheim")
      }))
  }

  it.effect("of flags alone leave the environment aside", () =>
    Effect.gen(function*() {
      let made: SmtpClient.Options | undefined
      const command = Command.make("x", { connection: frameConnection.connectionFlags }, ({ connection }) =>
        Effect.map(frameConnection.optionsOf(undefined, connection), (one) => {
          made = one
        }))
      const env = { SMTP_URL: "smtp://ann:p@mx.test" }
      yield* inProcess(Command.run(command, { version: "0" }), ["--socket", "/run/lmtp", "--lmtp"], { env })
      assert.deepStrictEqual(made, { path: "/run/lmtp", protocol: "lmtp" })
      yield* inProcess(Command.run(command, { version: "0" }), ["--port", "26", "--tls", "off"], { env })
      assert.deepStrictEqual(made, { port: 26, tls: "off" })
    }))
})
