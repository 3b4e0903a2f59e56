import { afterAll, assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as NodeConnector from "../../src/node/NodeConnector.ts"
import * as Sasl from "../../src/Sasl.ts"
import * as SmtpClient from "../../src/SmtpClient.ts"
import type { SmtpConnector } from "../../src/SmtpConnector.ts"
import * as SmtpTranscript from "../../src/SmtpTranscript.ts"
import { SmtpServer } from "../../src/testing/index.ts"
import { cli, type Setting } from "./command.ts"
import { hasPty, startOnTerminal } from "./pty.ts"

const root = mkdtempSync(join(tmpdir(), "effect-smtp-replay-"))
afterAll(() => rmSync(root, { recursive: true, force: true }))

const mail = { from: "ann@example.test", to: ["bob@example.test", "eve@example.test"] }
const hello = "Subject: Hello\r\n\r\nHello Bob\r\n"
const auth = (password: string) => Sasl.password({ username: "ann", password: Redacted.make(password) })

/** A connection for each message. */
const pool = { maxMessages: 1 }

/** Records what a client and a server in memory say, and puts it into a file. */
const record = (name: string, options: SmtpClient.Options, connections = 1) =>
  Effect.gen(function*() {
    const transcript = yield* SmtpTranscript.make()
    const smtp = yield* SmtpClient.make({ host: "mx.test", pool, ...options, transcript })
    for (let i = 0; i < connections; i++) yield* smtp.send(mail, hello)
    const file = join(root, name)
    writeFileSync(file, JSON.stringify(yield* transcript.transcript))
    return file
  }).pipe(Effect.provide(SmtpServer.layer({
    respond: { rcpt: ({ path }) => path?.startsWith("eve") ? SmtpServer.reply(550, "5.1.1 no Eve here") : undefined }
  })))

/** A `replay` of this process. */
const replaying = Effect.fnUntraced(function*(args: ReadonlyArray<string>, setting: Setting = {}) {
  const events = yield* Queue.make<Record<string, unknown>>()
  const onStdout = (line: string): void => {
    Queue.offerUnsafe(events, JSON.parse(line) as Record<string, unknown>)
  }
  const command = cli(["replay", "--port", "0", "--json", ...args], { ...setting, onStdout })
  const fiber = yield* Effect.forkScoped(command)
  const listening = yield* Queue.take(events)
  return { listening, port: Number(listening["port"]), event: Queue.take(events), end: Fiber.join(fiber), fiber }
})

const test = (name: string, body: () => Effect.Effect<void, unknown, Scope.Scope | SmtpConnector>) =>
  it.effect(name, () => Effect.scoped(body().pipe(Effect.provide(NodeConnector.layer))))

const clientOf = (port: number, options: SmtpClient.Options) =>
  SmtpClient.make({ host: "127.0.0.1", port, name: "me.test", pool, ...options })

describe("replay", () => {
  test("says again what was recorded, over TLS and with a login, and ends with 0", () =>
    Effect.gen(function*() {
      const file = yield* record("login.json", { auth: auth("s3cret"), mechanisms: ["PLAIN"] }, 2)
      const { end, event, listening, port } = yield* replaying([file])
      assert.strictEqual(listening["connections"], 2)
      const tlsOptions = { pins: [String(listening["pin"])] }
      const smtp = yield* clientOf(port, { tls: "starttls", tlsOptions, auth: auth("another") })
      for (const text of [hello, "another\r\n"]) {
        const { accepted, rejectedErrors } = yield* smtp.send(mail, text)
        assert.deepStrictEqual(accepted, ["bob@example.test"])
        assert.strictEqual(rejectedErrors[0]?.response, "5.1.1 no Eve here")
      }
      assert.deepStrictEqual(yield* event, { event: "end", connections: 2, recorded: 2, deviations: [] })
      const { code, stderr } = yield* end
      assert.deepStrictEqual({ code, stderr }, { code: 0, stderr: "" })
    }))

  test("tells of a client that says something else, and ends with 76", () =>
    Effect.gen(function*() {
      const file = yield* record("plain.json", { tls: "off" })
      const { end, event, listening, port } = yield* replaying([file, "--transcript"])
      assert.isUndefined(listening["pin"])
      const smtp = yield* clientOf(port, { tls: "off" })
      const error = yield* Effect.flip(smtp.send({ ...mail, from: "eve@example.test" }, hello))
      assert.strictEqual(error.responseCode, 503)
      const { deviations } = yield* event
      const [first] = deviations as ReadonlyArray<{ readonly connection: number; readonly text: string }>
      assert.strictEqual(first?.connection, 1)
      assert.match(first?.text ?? "", /^not as recorded: MAIL FROM:<eve@example.test>.* in place of MAIL FROM:<ann/)
      const { code, stderr } = yield* end
      assert.strictEqual(code, 76)
      assert.include(stderr, "[1] C: MAIL FROM:<eve@example.test>")
    }))

  test("takes the login of the account it is given alone", () =>
    Effect.gen(function*() {
      const file = yield* record("account.json", { auth: auth("s3cret"), mechanisms: ["PLAIN"] })
      const env = { SMTP_PASSWORD: "n3w" }
      const { end, listening, port } = yield* replaying([file, "--user", "ann"], { env })
      const tlsOptions = { pins: [String(listening["pin"])] }
      const smtp = yield* clientOf(port, { tlsOptions, auth: auth("n3w") })
      assert.strictEqual((yield* smtp.send(mail, hello)).accepted.length, 1)
      assert.strictEqual((yield* end).code, 0)
    }))

  test("prints for a person, deviations escaped", () =>
    Effect.gen(function*() {
      const file = yield* record("person.json", { tls: "off" })
      const lines = yield* Queue.make<string>()
      const onStdout = (line: string): void => void Queue.offerUnsafe(lines, line)
      const fiber = yield* Effect.forkScoped(cli(["replay", file, "--port", "0"], { onStdout }))
      const [, port] = /:(\d+)$/.exec(yield* Queue.take(lines)) ?? []
      yield* (yield* clientOf(Number(port), { tls: "off" })).send(mail, hello)
      const { stdout } = yield* Fiber.join(fiber)
      assert.deepStrictEqual(stdout.replace(/:\d+/, ":PORT").split("\n"), [
        "Replaying 1 connection on 127.0.0.1:PORT",
        "1 of 1 recorded connection played",
        "all as recorded",
        ""
      ])
    }))
})

describe("replay that cannot begin", () => {
  test("says that the file is none, or no transcript, or has nothing to play", () =>
    Effect.gen(function*() {
      const text = join(root, "text")
      writeFileSync(text, "{")
      const other = join(root, "other.json")
      writeFileSync(other, `{"entries":[{"kind":"command"}]}`)
      const empty = join(root, "empty.json")
      writeFileSync(empty, JSON.stringify({ entries: [], omitted: { entries: 0, octets: 0 } }))
      const cases: ReadonlyArray<readonly [string, number, string]> = [
        [join(root, "missing"), 66, "cannot read"],
        [text, 65, "is no transcript"],
        [other, 65, "is no transcript"],
        [empty, 65, "has no connection to play"]
      ]
      for (const [file, code, message] of cases) {
        const ran = yield* cli(["replay", file])
        assert.strictEqual(ran.code, code)
        assert.include(ran.stderr, message)
      }
    }))

  test("warns of what was left out of the recording", () =>
    Effect.gen(function*() {
      const file = join(root, "short.json")
      const entry = { kind: "reply", from: "server", connection: "smtp-1", at: 0, code: 554, lines: ["5.3.2 closed"] }
      writeFileSync(file, JSON.stringify({ entries: [entry], omitted: { entries: 2, octets: 0 } }))
      const { end, port } = yield* replaying([file])
      const error = yield* Effect.flip((yield* clientOf(port, { tls: "off" })).send(mail, hello))
      assert.strictEqual(error.responseCode, 554)
      const { stderr } = yield* end
      assert.include(stderr, "warning: 2 entries were left out of the recording")
    }))
})

describe("replay as a process", () => {
  it.live.skipIf(!hasPty)(
    "on a pseudo-terminal ends with 0 on Ctrl-C, and says how far it came (needs script)",
    () =>
      Effect.scoped(
        Effect.gen(function*() {
          const file = yield* record("process.json", { tls: "off" }, 2)
          const replay = yield* startOnTerminal(["replay", file, "--port", "0"])
          const [, port] = yield* replay.shows(/127\.0\.0\.1:(\d+)/)
          yield* (yield* clientOf(Number(port), { tls: "off" })).send(mail, hello)
          yield* replay.type("\u0003")
          const { code, stdout } = yield* replay.ended
          assert.strictEqual(code, 0)
          assert.include(stdout, "1 of 2 recorded connections played")
          assert.notInclude(stdout, "deviation")
        }).pipe(Effect.provide(NodeConnector.layer))
      )
  )
})
