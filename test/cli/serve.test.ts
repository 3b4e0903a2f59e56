import { afterAll, assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { createHash } from "node:crypto"
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type * as Envelope from "../../src/Envelope.ts"
import { makeCertificate } from "../../src/node/certificate.ts"
import * as NodeConnector from "../../src/node/NodeConnector.ts"
import * as Sasl from "../../src/Sasl.ts"
import * as SmtpClient from "../../src/SmtpClient.ts"
import type { SmtpConnector } from "../../src/SmtpConnector.ts"
import { assertHidden } from "../support/secrets.ts"
import { cli, type Ran, type Setting } from "./command.ts"
import { hasPty, startOnTerminal, startPiped } from "./pty.ts"

const root = mkdtempSync(join(tmpdir(), "effect-smtp-serve-"))
afterAll(() => rmSync(root, { recursive: true, force: true }))
const makeFolder = (): string => mkdtempSync(join(root, "mail-"))

interface Listening {
  readonly port: number
  readonly pin: string
  readonly certificatePin: string
  readonly certificate: string
}

/** A `serve` of this process: its folder, its events, and its end. */
const serving = Effect.fnUntraced(function*(args: ReadonlyArray<string>, setting: Setting = {}) {
  const folder = makeFolder()
  const events = yield* Queue.make<Record<string, unknown>>()
  const onStdout = (line: string): void => {
    Queue.offerUnsafe(events, JSON.parse(line) as Record<string, unknown>)
  }
  const command = cli(["serve", "--port", "0", "--json", "--dir", folder, ...args], { ...setting, onStdout })
  const fiber = yield* Effect.forkScoped(command)
  const listening = (yield* Queue.take(events)) as unknown as Listening
  return { folder, listening, event: Queue.take(events), fiber, end: Fiber.join(fiber) }
})

/** It has a connection for each message: `serve` ends when its clients are gone. */
const clientOf = (port: number, options: SmtpClient.Options = {}) =>
  SmtpClient.make({ host: "127.0.0.1", port, name: "me.test", tls: "off", pool: { maxMessages: 1 }, ...options })

const ann = { from: "ann@example.test", to: "bob@example.test" }
const hello = "Subject: Hello\r\n\r\nHello Bob\r\n"

const emlsIn = (folder: string): ReadonlyArray<string> =>
  readdirSync(folder).filter((name) => name.endsWith(".eml")).toSorted()
const textIn = (folder: string): ReadonlyArray<string> =>
  emlsIn(folder).map((name) => readFileSync(join(folder, name), "utf8"))

const withNode = Effect.provide(NodeConnector.layer)
const test = (name: string, body: () => Effect.Effect<void, unknown, Scope.Scope | SmtpConnector>) =>
  it.effect(name, () => Effect.scoped(withNode(body())))

describe("serve stores what comes", () => {
  test("octet by octet in a file of its own, and tells of it", () =>
    Effect.gen(function*() {
      const { end, event, folder, listening } = yield* serving(["--max", "2"])
      const smtp = yield* clientOf(listening.port)
      const first = yield* smtp.send(ann, hello)
      const { file, time: _, ...told } = yield* event
      assert.deepStrictEqual(told, {
        event: "message",
        number: 1,
        from: "ann@example.test",
        to: ["bob@example.test"],
        subject: "Hello",
        size: 29,
        sha256: createHash("sha256").update(hello).digest("hex"),
        secure: false
      })
      assert.deepStrictEqual(textIn(folder), [hello])
      assert.strictEqual(file, join(folder, emlsIn(folder)[0]!))
      assert.strictEqual(first.response, `2.0.0 stored as ${emlsIn(folder)[0]}`)
      yield* smtp.send({ from: "", to: ["x@y.test", "z@y.test"] }, "..\r\n")
      assert.deepStrictEqual((yield* event)["to"], ["x@y.test", "z@y.test"])
      const { code, stderr } = yield* end
      assert.deepStrictEqual({ code, stderr }, { code: 0, stderr: "" })
      assert.deepStrictEqual(yield* event, { event: "end", messages: 2, octets: 33 })
      assert.deepStrictEqual(textIn(folder), [hello, "..\r\n"])
      assert.deepStrictEqual(readdirSync(folder).toSorted(), emlsIn(folder), "nothing else is in the folder")
    }))

  test("over LMTP once, with a reply for each recipient", () =>
    Effect.gen(function*() {
      const { end, folder, listening } = yield* serving(["--lmtp", "--max", "1"])
      const smtp = yield* clientOf(listening.port, { protocol: "lmtp" })
      const { accepted } = yield* smtp.send({ from: "a@b.test", to: ["x@y.test", "z@y.test"] }, hello)
      assert.deepStrictEqual(accepted, ["x@y.test", "z@y.test"])
      assert.strictEqual((yield* end).code, 0)
      assert.deepStrictEqual(textIn(folder), [hello])
    }))

  test("with names that sort as the messages came, whatever these say", () =>
    Effect.gen(function*() {
      const { end, folder, listening } = yield* serving(["--max", "12"])
      const smtp = yield* clientOf(listening.port)
      const bodies = Array.from({ length: 12 }, (_, i) => `Subject: ../../${i}/etc\r\n\r\n${i}\r\n`)
      yield* smtp.use((connection) => Effect.forEach(bodies, (body) => connection.send(ann, body)))
      yield* end
      assert.deepStrictEqual(textIn(folder), bodies)
      for (const name of emlsIn(folder)) assert.match(name, /^\d{8}T\d{6}\.\d{3}Z-\d{6}-[0-9a-f]{6}\.eml$/)
    }))

  test("and refuses for now what it cannot write", () =>
    Effect.gen(function*() {
      const { end, event, folder, listening } = yield* serving(["--max", "1"])
      const smtp = yield* clientOf(listening.port)
      rmSync(folder, { recursive: true })
      const error = yield* Effect.flip(smtp.send(ann, hello))
      assert.strictEqual(error.responseCode, 452)
      mkdirSync(folder)
      yield* smtp.send(ann, hello)
      assert.strictEqual((yield* event)["number"], 1)
      const { code, stderr } = yield* end
      assert.strictEqual(code, 0)
      assert.strictEqual(stderr, `error: cannot write to ${folder}: NotFound\n`)
    }))

  test("and takes no more than --max", () =>
    Effect.gen(function*() {
      const { end, folder, listening } = yield* serving(["--max", "1"])
      const smtp = yield* clientOf(listening.port)
      const error = yield* smtp.use((connection) =>
        Effect.andThen(connection.send(ann, hello), Effect.flip(connection.send(ann, "too much\r\n")))
      )
      assert.strictEqual(error.responseCode, 421)
      assert.strictEqual((yield* end).code, 0)
      assert.deepStrictEqual(textIn(folder), [hello])
    }))
})

describe("serve for a person", () => {
  /** What is printed for one message, without the folder. */
  const printed = (args: ReadonlyArray<string>, setting: Setting, mail: readonly [Envelope.Input, string]) =>
    Effect.gen(function*() {
      const folder = makeFolder()
      const lines = yield* Queue.make<string>()
      const onStdout = (line: string): void => void Queue.offerUnsafe(lines, line)
      const command = ["serve", "--port", "0", "--dir", folder, "--max", "1", ...args]
      const fiber = yield* Effect.forkScoped(cli(command, { ...setting, onStdout }))
      const [, port] = /:(\d+)\b/.exec(yield* Queue.take(lines)) ?? []
      yield* (yield* clientOf(Number(port))).send(...mail)
      const ran: Ran = yield* Fiber.join(fiber)
      return ran.stdout.replaceAll(folder, "FOLDER").replaceAll(/\d{8}T\S+\.eml/g, "FILE").replaceAll(/:\d+/g, ":PORT")
    })

  test("prints a line for each message, and the sum", () =>
    Effect.gen(function*() {
      const text = yield* printed([], {}, [{ from: "", to: ["a@x.test", "b@x.test", "c@x.test", "d@x.test"] }, hello])
      assert.deepStrictEqual(text.split("\n"), [
        "SMTP on 127.0.0.1:PORT, messages go to FOLDER",
        "1  <> -> a@x.test, b@x.test, c@x.test and 1 more  Hello  29 octets, no TLS  FOLDER/FILE",
        "1 message, 29 octets, in FOLDER",
        ""
      ])
    }))

  test("escapes what strangers wrote", () =>
    Effect.gen(function*() {
      const text = yield* printed([], {}, [ann, "Subject: =?utf-8?q?a=1B[2Jb?=\r\n\r\n"])
      assert.include(text, "a\\u{1b}[2Jb")
      assert.notInclude(text, "\u001b")
    }))

  test("has colours on a terminal alone, and says so when there is no subject", () =>
    Effect.gen(function*() {
      const text = yield* printed([], { terminal: true, env: { TERM: "xterm" } }, [ann, "no header\r\n"])
      assert.include(text, "\u001b[2m(no subject)\u001b[22m")
    }))
})

describe("serve with TLS", () => {
  for (const tls of ["starttls", "implicit"] as const) {
    test(`${tls}: its certificate is in the folder, and its pins are told`, () =>
      Effect.gen(function*() {
        const { end, event, folder, listening } = yield* serving(["--tls", tls, "--max", "3"])
        const { certificate, certificatePin, pin, port } = listening
        assert.strictEqual(certificate, join(folder, "certificate.pem"))
        for (const tlsOptions of [{ ca: readFileSync(certificate) }, { pins: [pin] }, { pins: [certificatePin] }]) {
          const smtp = yield* clientOf(port, { tls, tlsOptions })
          yield* smtp.send(ann, hello)
          assert.strictEqual((yield* event)["secure"], true)
        }
        assert.strictEqual((yield* end).code, 0)
      }))
  }

  test("shows the certificate it is given", () =>
    Effect.gen(function*() {
      const given = makeCertificate({ commonName: "mail.test", altNames: ["IP:127.0.0.1"] })
      const [cert, key] = [join(root, "given.pem"), join(root, "given.key")]
      writeFileSync(cert, given.cert)
      writeFileSync(key, given.key)
      const { end, listening } = yield* serving(["--tls", "implicit", "--cert", cert, "--key", key, "--max", "1"])
      const smtp = yield* clientOf(listening.port, { tls: "implicit", tlsOptions: { ca: given.cert } })
      yield* smtp.send(ann, hello)
      assert.strictEqual((yield* end).code, 0)
      const half = yield* cli(["serve", "--cert", cert])
      assert.strictEqual(half.code, 64)
      assert.include(half.stderr, "--cert and --key go together")
      const swapped = yield* cli(["serve", "--port", "0", "--cert", key, "--key", cert, "--dir", makeFolder()])
      assert.strictEqual(swapped.code, 78)
    }))
})

describe("serve with a login", () => {
  const auth = (password: string, username = "app") => Sasl.password({ username, password: Redacted.make(password) })

  test("takes mail from the one user, and says who it was", () =>
    Effect.gen(function*() {
      const env = { SMTP_PASSWORD: "s3cret" }
      const { end, event, listening } = yield* serving(["--user", "app", "--max", "1"], { env })
      const options = { allowInsecureAuth: true }
      const wrong = yield* clientOf(listening.port, { ...options, auth: auth("guess") })
      assert.strictEqual((yield* Effect.flip(wrong.send(ann, hello)))._tag, "EAUTH")
      const none = yield* clientOf(listening.port)
      assert.strictEqual((yield* Effect.flip(none.send(ann, hello))).responseCode, 530)
      const right = yield* clientOf(listening.port, { ...options, auth: auth("s3cret") })
      yield* right.send(ann, hello)
      assert.strictEqual((yield* event)["username"], "app")
      const { code, stderr, stdout } = yield* end
      assert.strictEqual(code, 0)
      assertHidden(stdout + stderr, "s3cret")
    }))

  test("has the password from a file, or asks for it on a terminal", () =>
    Effect.gen(function*() {
      const file = join(root, "password")
      writeFileSync(file, "s3cret\nsecond line\n")
      const setting = { terminal: true, typed: "s3cret\n" }
      for (const [args, given] of [[["--password-file", file], {}], [[], setting]] as const) {
        const { end, listening } = yield* serving(["--tls", "starttls", "--user", "app", "--max", "1", ...args], given)
        const tlsOptions = { pins: [listening.pin] }
        const clear = yield* clientOf(listening.port, { allowInsecureAuth: true, auth: auth("s3cret") })
        assert.strictEqual((yield* Effect.flip(clear.verify)).responseCode, undefined, "not offered before TLS")
        yield* (yield* clientOf(listening.port, { tls: "starttls", tlsOptions, auth: auth("s3cret") })).send(ann, hello)
        assert.strictEqual((yield* end).code, 0)
      }
      assert.strictEqual((yield* cli(["serve", "--password-file", file])).code, 64)
      assert.strictEqual((yield* cli(["serve", "--user", "app", "--dir", makeFolder()])).code, 78)
    }))

  test("without --user takes any", () =>
    Effect.gen(function*() {
      const { end, event, listening } = yield* serving(["--max", "1"])
      const any = auth("whatever", "whoever")
      yield* (yield* clientOf(listening.port, { allowInsecureAuth: true, auth: any })).send(ann, hello)
      assert.strictEqual((yield* event)["username"], "whoever")
      yield* end
    }))
})

describe("serve does wrong what it is told to", () => {
  test("at the step, every time or the one", () =>
    Effect.gen(function*() {
      const faults = ["--fault", "mail#2=451 4.7.1 grey", "--fault", "rcpt=550 5.1.1 nobody"]
      const { fiber, listening } = yield* serving(faults)
      const smtp = yield* clientOf(listening.port)
      const errors = yield* smtp.use((connection) =>
        Effect.forEach([1, 2, 3], () => Effect.flip(connection.send(ann, hello)))
      )
      assert.deepStrictEqual(errors.map(({ response }) => response), ["5.1.1 nobody", "4.7.1 grey", "5.1.1 nobody"])
      yield* Fiber.interrupt(fiber)
    }))

  test("and says what a fault is when it is given none", () =>
    Effect.gen(function*() {
      const { code, stderr } = yield* cli(["serve", "--fault", "rcpt=maybe"])
      assert.strictEqual(code, 64)
      assert.include(stderr, "\"rcpt=maybe\" is no fault")
    }))
})

describe("serve that cannot begin", () => {
  test("says which port is taken, and what to do", () =>
    Effect.gen(function*() {
      const { fiber, listening } = yield* serving([])
      const second = yield* cli(["serve", "--port", String(listening.port), "--dir", makeFolder()])
      assert.strictEqual(second.code, 69)
      assert.match(second.stderr, /^error: port \d+ of 127\.0\.0\.1 is taken; choose another with --port/)
      yield* Fiber.interrupt(fiber)
    }))

  test("says that the folder is none", () =>
    Effect.gen(function*() {
      const file = join(root, "file")
      writeFileSync(file, "")
      const { code, stderr } = yield* cli(["serve", "--dir", join(file, "mail")])
      assert.strictEqual(code, 74)
      assert.include(stderr, `cannot write to ${file}/mail`)
    }))

  test("refuses ports that are none", () =>
    Effect.gen(function*() {
      for (const args of [["--port", "65536"], ["--max", "0"]]) {
        assert.strictEqual((yield* cli(["serve", ...args])).code, 64)
      }
    }))
})

describe("serve --transcript", () => {
  test("prints the dialogue without secrets and content", () =>
    Effect.gen(function*() {
      const { end, listening } = yield* serving(["--max", "1", "--transcript"])
      const auth = Sasl.password({ username: "app", password: Redacted.make("s3cret") })
      const options = { allowInsecureAuth: true, auth, mechanisms: ["PLAIN"] }
      yield* (yield* clientOf(listening.port, options)).send(ann, hello)
      const lines = (yield* end).stderr.split("\n")
      assert.include(lines, "[1] S: 220 localhost ESMTP ready")
      assert.include(lines, "[1] C: AUTH PLAIN ***")
      assert.include(lines, "[1] C: MAIL FROM:<ann@example.test> SIZE=29")
      assert.include(lines, "[1] * closed")
      assert.notInclude(lines.join(), "Hello Bob")
    }))
})

describe("serve as a process", () => {
  it.live("says what came while it comes, and ends with 0 on SIGINT", () =>
    Effect.scoped(withNode(Effect.gen(function*() {
      const folder = makeFolder()
      const serve = yield* startPiped(["serve", "--port", "0", "--json", "--dir", folder])
      const [, port] = yield* serve.shows(/"port":(\d+)/)
      const smtp = yield* clientOf(Number(port))
      yield* smtp.send(ann, hello)
      yield* serve.shows(/"event":"message".*"subject":"Hello"/)
      yield* serve.signal("SIGINT")
      const { code, stderr, stdout } = yield* serve.ended
      assert.deepStrictEqual({ code, stderr }, { code: 0, stderr: "" })
      assert.strictEqual(stdout.trim().split("\n").at(-1), `{"event":"end","messages":1,"octets":29}`)
      assert.deepStrictEqual(textIn(folder), [hello])
    }))))

  it.live.skipIf(!hasPty)(
    "on a pseudo-terminal has colours, and ends with 0 on Ctrl-C (needs script)",
    () =>
      Effect.scoped(withNode(Effect.gen(function*() {
        const folder = makeFolder()
        const serve = yield* startOnTerminal(["serve", "--port", "0", "--tls", "starttls", "--dir", folder])
        const [, port] = yield* serve.shows(/127\.0\.0\.1:(\d+)/)
        const [, pin] = yield* serve.shows(/--pin (\S+)/)
        const smtp = yield* clientOf(Number(port), { tls: "starttls", tlsOptions: { pins: [pin!] } })
        yield* smtp.send(ann, hello)
        yield* serve.shows("\u001b[1mHello\u001b[22m  29 octets, \u001b[32mTLS")
        yield* serve.type("\u0003")
        const { code, stdout } = yield* serve.ended
        assert.strictEqual(code, 0)
        assert.include(stdout, `1 message, 29 octets, in ${folder}`)
      })))
  )
})
