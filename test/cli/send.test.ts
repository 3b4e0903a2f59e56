import { afterAll, assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { pathToFileURL } from "node:url"
import * as frame from "../../src/cli/frame.ts"
import * as progress from "../../src/cli/progress.ts"
import * as NodeSmtpServer from "../../src/node/NodeSmtpServer.ts"
import * as SmtpServer from "../../src/testing/SmtpServer.ts"
import { assertHidden } from "../support/secrets.ts"
import { cli, inProcess, type Setting } from "./command.ts"
import { hasPty, onPty, startOnTerminal, startPiped } from "./pty.ts"

const folder = mkdtempSync(join(tmpdir(), "effect-smtp-send-"))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
const file = (name: string, content: string | Uint8Array): string => {
  writeFileSync(join(folder, name), content)
  return join(folder, name)
}

const busy = { faults: [SmtpServer.at("greeting", SmtpServer.answer(421, "4.3.2 busy"))] }
const hello = "Subject: Hi\r\n\r\nHello Bob\r\n"
const to = ["--host", "mx.test", "--name", "me.test", "-f", "ann@me.test", "-t", "bob@mx.test"]

/** Runs `send` over a fake server in memory, and gives what that received. */
const send = Effect.fnUntraced(function*(
  script: Parameters<typeof SmtpServer.layer>[0],
  args: ReadonlyArray<string>,
  setting: Setting = { stdin: hello }
) {
  return yield* Effect.gen(function*() {
    const ran = yield* cli(["send", ...args], setting)
    const server = yield* SmtpServer.SmtpServer
    return { ...ran, received: yield* server.received, connections: yield* server.connections }
  }).pipe(Effect.provide(SmtpServer.layer(script)))
})

describe("send takes the message", () => {
  it.effect("of standard input, octet by octet", () =>
    Effect.gen(function*() {
      for (const more of [[], ["-"], ["--file", "-"]]) {
        const ran = yield* send({}, [...to, ...more])
        assert.strictEqual(ran.code, 0, ran.stderr)
        assert.match(
          ran.stdout,
          /^sent: 250 2\.0\.0 .*\n {2}to {8}bob@mx\.test\n {2}size {6}26 octets\n {2}over .*mx\.test\n$/
        )
        assert.strictEqual(ran.received[0]?.text, hello)
        assert.deepStrictEqual(ran.received[0]?.to, ["bob@mx.test"])
        assert.isTrue(ran.received[0]?.secure)
      }
    }))

  it.effect("to each recipient, whatever header field would name it", () =>
    Effect.gen(function*() {
      const ran = yield* send({}, [...to, "-t", "cy@mx.test", "--cc", "dee@mx.test", "--bcc", "eve@mx.test"])
      assert.deepStrictEqual(ran.received[0]?.to, ["bob@mx.test", "cy@mx.test", "dee@mx.test", "eve@mx.test"])
      assert.strictEqual(ran.received[0]?.text, hello)
    }))

  it.effect("of a file, named by an argument or a flag", () =>
    Effect.gen(function*() {
      const path = file("m.eml", hello)
      for (const more of [[path], ["--file", path]]) {
        const ran = yield* send({}, [...to, ...more], {})
        assert.strictEqual(ran.code, 0, ran.stderr)
        assert.strictEqual(ran.received[0]?.text, hello)
      }
    }))

  it.effect("of a file that is too long to hold, as it reads it", () =>
    Effect.gen(function*() {
      const path = file("long.eml", `Subject: long\r\n\r\n${"0123456789abcdef\r\n".repeat(480_000)}`)
      const ran = yield* send({ digest: true }, [...to, path, "--json"], {})
      assert.strictEqual(ran.code, 0, ran.stderr)
      assert.strictEqual(ran.json()["messageSize"], 17 + 480_000 * 18)
    }))

  it.effect("of flags, composed, and keeps Bcc out of it", () =>
    Effect.gen(function*() {
      const attached = file("report.csv", "a;b\r\n")
      const more = [
        "--cc",
        "Cy <cy@mx.test>",
        "--bcc",
        "dee@mx.test",
        "--subject",
        "Grüße",
        "--text",
        "Hällo",
        "--attach"
      ]
      const ran = yield* send({}, [...to, ...more, attached, "--html", "<p>Hi</p>", "--dsn-ret", "hdrs"], {})
      assert.strictEqual(ran.code, 0, ran.stderr)
      const [mail] = ran.received
      assert.deepStrictEqual(mail?.to, ["bob@mx.test", "cy@mx.test", "dee@mx.test"])
      assert.match(mail?.text ?? "", /^Cc: Cy <cy@mx\.test>\r$/m)
      assert.match(mail?.text ?? "", /filename="?report\.csv/)
      assert.match(mail?.text ?? "", /YTtiDQo=/)
      assert.notInclude(mail?.text, "dee@mx.test")
    }))

  const refused: ReadonlyArray<readonly [string, ReadonlyArray<string>, Setting, number, RegExp]> = [
    ["a file that is not there", [...to, "/nowhere"], {}, 66, /cannot read \/nowhere: NotFound/],
    ["an attachment that is not there", [...to, "--text", "x", "--attach", "/nowhere"], {}, 66, /cannot read/],
    ["nobody to send to", ["-f", "ann@me.test"], {}, 64, /nobody to send to: give --to/],
    ["a message named twice", [...to, "a", "--file", "b"], {}, 64, /named twice/],
    [
      "a whole message and parts of one",
      [...to, "a", "--text", "b"],
      {},
      64,
      /a is a whole message: leave out --subject/
    ],
    ["nothing but a terminal", to, { terminal: true }, 64, /no message: name a file/],
    [
      "an address that is none",
      ["--host", "mx.test", "-f", "a b@c", "-t", "d@e"],
      { stdin: hello },
      65,
      /envelope\.from/
    ],
    ["a header field with a line break", [...to, "--subject", "a\nBcc: b@c"], {}, 65, /subject holds the control/],
    ["a repetition of no times", [...to, "-n", "0"], {}, 64, /whole number from 1/]
  ]
  for (const [name, args, setting, code, message] of refused) {
    it.effect(`but not ${name}`, () =>
      Effect.gen(function*() {
        const ran = yield* send({}, args, setting)
        assert.strictEqual(ran.code, code, ran.stderr)
        assert.match(ran.stderr, message)
        assert.deepStrictEqual(ran.connections, [])
      }))
  }
})

describe("send tells", () => {
  it.effect("in JSON what came of it", () =>
    Effect.gen(function*() {
      const ran = yield* send({}, [...to, "--json"])
      assert.strictEqual(ran.stderr, "")
      const { accepted, messageSize, rejected, rejectedErrors, reply, security } = ran.json()
      assert.deepStrictEqual([accepted, rejected, rejectedErrors, messageSize], [["bob@mx.test"], [], [], 26])
      assert.deepInclude(reply as object, { code: 250 })
      assert.deepInclude(security as object, { verifiedBy: "certificate", identity: "mx.test" })
    }))

  it.effect("of recipients that were refused, escaped, and ends with 69", () =>
    Effect.gen(function*() {
      const script: Parameters<typeof SmtpServer.layer>[0] = {
        respond: {
          rcpt: ({ path }) => path === "eve@mx.test" ? SmtpServer.reply(451, "4.1.1 no \u001b[31m\u202eeve") : undefined
        }
      }
      const ran = yield* send(script, [...to, "--to", "eve@mx.test"])
      assert.strictEqual(ran.code, 69)
      assert.match(ran.stdout, /^sent in part: 250/)
      assert.include(
        ran.stdout,
        "  refused   eve@mx.test: RCPT TO: the server answered 451 4.1.1 no \\u{1b}[31m\\u{202e}eve\n"
      )
      const json = yield* send(script, [...to, "--to", "eve@mx.test", "--json"])
      assert.deepStrictEqual(json.json()["rejected"], ["eve@mx.test"])
      assert.notMatch(json.stdout, /[^ -~\n]/)
      assert.strictEqual((yield* send(script, [...to, "--to", "eve@mx.test", "--require-all"])).code, 75)
    }))

  it.effect("of wishes that could not be met, and that nothing secured it", () =>
    Effect.gen(function*() {
      const more = ["--tls", "off", "--dsn-notify", "success", "--dsn-envid", "x", "--dsn-optional"]
      const ran = yield* send({ extensions: { dsn: false } }, [...to, ...more], { stdin: hello, terminal: false })
      assert.strictEqual(ran.code, 0, ran.stderr)
      assert.match(ran.stdout, /over {6}no TLS\n {2}without {3}DSN\n$/)
      const insecure = yield* send({ tls: { authorized: false } }, [...to, "--insecure"])
      assert.match(insecure.stdout, /, not verified\n$/)
    }))

  it.effect("the dialogue when asked, without secrets", () =>
    Effect.gen(function*() {
      const setting = { stdin: hello, env: { SMTP_PASSWORD: "geheim" } }
      const ran = yield* send(
        { accounts: { ann: "geheim" } },
        [...to, "-u", "ann", "--auth", "plain", "--transcript"],
        setting
      )
      assert.strictEqual(ran.code, 0, ran.stderr)
      assert.match(ran.stderr, /^S: 220 /)
      assert.include(ran.stderr, "C: AUTH PLAIN ***\n")
      assert.include(ran.stderr, "C: MAIL FROM:<ann@me.test>")
      assertHidden(ran.stderr + ran.stdout, "geheim")
      assert.match(ran.stdout, /; login by PLAIN\n$/)
      assert.strictEqual(ran.received[0]?.username, "ann")
    }))

  const ends: ReadonlyArray<readonly [number, string, Parameters<typeof SmtpServer.layer>[0], ReadonlyArray<string>]> =
    [
      [69, "EENVELOPE", { respond: { mail: () => SmtpServer.reply(550, "5.1.8 not you") } }, []],
      [75, "EENVELOPE", { respond: { rcpt: () => SmtpServer.reply(451, "4.7.1 greylisted") } }, []],
      [65, "EMESSAGE", { respond: { message: () => SmtpServer.reply(554, "5.6.0 no") } }, []],
      [74, "ECONNECTION", { faults: [SmtpServer.at("message", SmtpServer.drop)] }, []],
      [75, "ECONNECTION", busy, []],
      [76, "ETLS", { extensions: { startTls: false } }, []],
      [76, "ETLS", { tls: { authorized: false } }, []],
      [76, "EPROTOCOL", { faults: [SmtpServer.at("greeting", SmtpServer.garbage("hello\r\n"))] }, []],
      [77, "ENOAUTH", { requireAuth: true, accounts: { ann: "x" } }, []],
      [77, "EAUTH", { accounts: { ann: "x" } }, ["-u", "ann"]],
      [78, "ECONFIG", {}, ["--tls", "off", "-u", "ann"]]
    ]
  for (const [code, tag, script, more] of ends) {
    it.effect(`with exit code ${code} of ${tag}: ${JSON.stringify(script)} ${more.join(" ")}`, () =>
      Effect.gen(function*() {
        const ran = yield* send(script, [...to, ...more, "--json"], {
          stdin: hello,
          env: more.includes("-u") ? { SMTP_PASSWORD: "wrong" } : {}
        })
        assert.strictEqual(ran.code, code)
        assert.match(ran.stderr, new RegExp(`^error: ${tag} `))
        assert.deepInclude(ran.json()["error"] as object, { code: tag, exitCode: code, inDoubt: code === 74 })
      }))
  }
})

describe("send --repeat", () => {
  it.effect("sends so many times, over so many connections", () =>
    Effect.gen(function*() {
      const ran = yield* send({}, [...to, "-n", "25", "-c", "3"])
      assert.strictEqual(ran.code, 0, ran.stderr)
      assert.match(ran.stdout, /^sent 25 of 25 in 0\.0 s, 650 octets\n$/)
      assert.strictEqual(ran.received.length, 25)
      assert.isTrue(ran.received.every(({ text }) => text === hello))
      assert.isAtMost(ran.connections.length, 3)
    }))

  it.effect("opens as many as it is told to, whatever the environment says of the pool", () =>
    Effect.gen(function*() {
      const script = { faults: [SmtpServer.at("message", SmtpServer.delay("1 second"), { occurrence: "every" })] }
      const env = { SMTP_POOL_MAX: "1", SMTP_POOL_MIN: "1" }
      const fiber = yield* Effect.forkChild(send(script, [...to, "-n", "24", "-c", "8"], { stdin: hello, env }))
      while (fiber.pollUnsafe() === undefined) yield* TestClock.adjust("100 millis")
      const ran = yield* Fiber.join(fiber)
      assert.strictEqual(ran.code, 0, ran.stderr)
      assert.match(ran.stdout, /^sent 24 of 24 in 3\.0 s/)
      assert.strictEqual(ran.connections.length, 8)
    }))

  it.effect("keeps the rate limit of the environment", () =>
    Effect.gen(function*() {
      const env = { SMTP_RATE_LIMIT_LIMIT: "5", SMTP_RATE_LIMIT_WINDOW: "10 seconds" }
      const fiber = yield* Effect.forkChild(send({}, [...to, "-n", "15", "-c", "2"], { stdin: hello, env }))
      while (fiber.pollUnsafe() === undefined) yield* TestClock.adjust("100 millis")
      const ran = yield* Fiber.join(fiber)
      assert.match(ran.stdout, /^sent 15 of 15 in 20\.\d s/)
    }))

  it.effect("goes on with the connections it has when the server takes no more", () =>
    Effect.gen(function*() {
      const faults = [3, 4].map((connection) =>
        SmtpServer.at("greeting", SmtpServer.answer(421, "4.7.0 too many"), { connection })
      )
      const ran = yield* send({ faults }, [...to, "-n", "40", "-c", "4"])
      assert.match(ran.stdout, /^sent 40 of 40 /)
      assert.match(ran.stderr, /^2 x ECONNECTION .*too many\n$/)
      assert.strictEqual(ran.code, 0)
    }))

  it.effect("goes on after a failure over another connection, and counts", () =>
    Effect.gen(function*() {
      let mails = 0
      const ran = yield* send({
        respond: {
          rcpt: ({ path }) => path === "eve@mx.test" ? SmtpServer.reply(550, "5.1.1 no") : undefined,
          message: () => ++mails === 2 ? SmtpServer.reply(421, "4.3.2 going down") : undefined
        }
      }, [...to, "--to", "eve@mx.test", "-n", "4", "--json"])
      assert.strictEqual(ran.code, 69)
      const { errors, ...counts } = ran.json()
      assert.deepInclude(counts, { wanted: 4, sent: 0, partial: 3, failed: 1, inDoubt: 0, notAttempted: 0, octets: 78 })
      assert.deepStrictEqual((errors as ReadonlyArray<{ count: number }>).map(({ count }) => count), [3, 1])
      assert.strictEqual(ran.connections.length, 2)
    }))

  it.effect("gives up when nothing connects, and tells so once", () =>
    Effect.gen(function*() {
      const ran = yield* send(busy, [...to, "-n", "100"])
      assert.strictEqual(ran.code, 75)
      assert.match(ran.stdout, /^sent 0 of 100 .*\n {2}not attempted 100\n$/)
      assert.match(ran.stderr, /^1 x ECONNECTION .*busy\n$/)
      assert.strictEqual(ran.connections.length, 1)
    }))

  it.effect("ends with 74 when one is in doubt", () =>
    Effect.gen(function*() {
      const fault = SmtpServer.at("message", SmtpServer.drop, { connection: 1 })
      const ran = yield* send({ faults: [fault] }, [...to, "-n", "2"])
      assert.strictEqual(ran.code, 74)
      assert.match(ran.stdout, /^sent 1 of 2 .*\n {2}failed {8}1\n {2}in doubt {6}1\n$/)
    }))

  it.effect("ends with the code of the refusal when all were refused", () =>
    Effect.gen(function*() {
      const script = { respond: { mail: () => SmtpServer.reply(451, "4.3.2 later") } }
      assert.strictEqual((yield* send(script, [...to, "-n", "3"])).code, 75)
      const gone = join(folder, "gone.eml")
      writeFileSync(gone, new Uint8Array(9_000_000).fill(0x61))
      const vanishing = {
        respond: {
          data: () => {
            rmSync(gone, { force: true })
            return undefined
          }
        }
      }
      const ran = yield* send(vanishing, [...to, gone, "-n", "2", "--json"], {})
      assert.strictEqual(ran.code, 74)
      assert.strictEqual(ran.json()["failed"], 2)
    }))
})

describe("send that is interrupted", () => {
  const after = (
    step: "rcpt" | "message",
    script: Parameters<typeof SmtpServer.layer>[0],
    more: ReadonlyArray<string>
  ) =>
    Effect.gen(function*() {
      const server = yield* SmtpServer.SmtpServer
      const seen = step === "rcpt" ? "RCPT TO" : "."
      const reached = Effect.suspend(() => server.transcript).pipe(
        Effect.repeat({ until: (lines) => lines.some(({ from, text }) => from === "client" && text.startsWith(seen)) })
      )
      const clock = yield* Effect.forkChild(
        Effect.forever(Effect.andThen(TestClock.adjust("100 millis"), Effect.yieldNow))
      )
      const interruptAfter = step === "rcpt" ? reached : server.awaitReceived(1)
      const ran = yield* cli(["send", ...to, ...more], { stdin: hello, interruptAfter })
      yield* Fiber.interrupt(clock)
      yield* server.awaitClosed
      return ran
    }).pipe(Effect.provide(SmtpServer.layer(script)))

  const silent = (step: "rcpt" | "message") => ({ faults: [SmtpServer.at(step, SmtpServer.silence)] })

  it.effect("before the end of the message says: not sent", () =>
    Effect.gen(function*() {
      const ran = yield* after("rcpt", silent("rcpt"), [])
      assert.deepStrictEqual([ran.code, ran.stdout, ran.stderr], [130, "", "interrupted: not sent\n"])
      const json = yield* after("rcpt", silent("rcpt"), ["--json"])
      assert.deepStrictEqual(json.json(), { interrupted: true, outcome: "not sent", inDoubt: false })
    }))

  it.effect("after it says: in doubt", () =>
    Effect.gen(function*() {
      const ran = yield* after("message", silent("message"), ["--json"])
      assert.strictEqual(ran.code, 130)
      assert.strictEqual(ran.stderr, "interrupted: in doubt: the server may have taken the message\n")
      assert.deepStrictEqual(ran.json(), { interrupted: true, outcome: "in doubt", inDoubt: true })
      const many = yield* after("message", silent("message"), ["--json", "-n", "5"])
      assert.strictEqual(many.code, 130)
      assert.deepInclude(many.json(), { wanted: 5, sent: 0, failed: 0, inDoubt: 1 })
    }))

  it.effect("at the prompt for the password says: not sent", () =>
    Effect.gen(function*() {
      const ran = yield* send({}, [...to, "--text", "x", "-u", "ann"], {
        terminal: true,
        interruptAfter: Effect.yieldNow
      })
      assert.strictEqual(ran.code, 130)
      assert.include(ran.stderr, "not sent\n")
    }))
})

describe("the progress bar", () => {
  const plain = { bold: String, dim: String, red: String, green: String, yellow: String, cyan: String }
  const at = (done: number, total: number | undefined, millis = 2000) =>
    progress.render({ done, total, millis, show: String }, 79, plain)

  it("shows share, amounts, rate and what is left", () => {
    assert.strictEqual(at(50, 100), "[############------------] 50 %  50 of 100  25/s  2 s left")
    assert.strictEqual(at(100, 100), "[########################] 100 %  100 of 100  50/s  0 s left")
    assert.strictEqual(at(0, 100, 0), "[------------------------] 0 %  0 of 100  0/s")
    assert.strictEqual(at(120, undefined), "120  60/s")
    assert.strictEqual(at(0, 0), "[########################] 100 %  0 of 0  0/s")
  })

  it("is no wider than the terminal", () => {
    assert.strictEqual(
      progress.render({ done: 1, total: 3, millis: 1000, show: String }, 20, plain),
      "33 %  1 of 3  1/s  2"
    )
  })

  it("has octets as a person reads them", () => {
    assert.deepStrictEqual([0, 999, 1000, 52_428_800, 2e12, 3e16].map(progress.showOctets), [
      "0 octets",
      "999 octets",
      "1.0 kB",
      "52.4 MB",
      "2.0 TB",
      "30000.0 TB"
    ])
  })

  it.effect("is drawn on a terminal when it takes long, and wiped out", () =>
    Effect.gen(function*() {
      let done = 0
      const work = Effect.sleep("450 millis").pipe(Effect.tap(() =>
        Effect.sync(() => {
          done = 3
        })
      ))
      const program = frame.run(
        { json: false },
        progress.withProgress(() => ({ done: done + 1, total: 4, show: String }), work)
      )
      const drawn = (terminal: boolean) =>
        Effect.gen(function*() {
          const fiber = yield* Effect.forkChild(inProcess(program, [], { terminal }))
          yield* TestClock.adjust("1 second")
          return (yield* Fiber.join(fiber)).drawn
        })
      const bar = (yield* drawn(true)).replaceAll("\u001b", "^")
      assert.match(bar, /^\r\^\[K\[\^\[32m######\^\[39m\^\[2m-{18}\^\[22m\] 25 % {2}1 of 4/)
      assert.match(bar, /\r\^\[K$/)
      assert.strictEqual(bar.split("\r").length, 4)
      assert.strictEqual(yield* drawn(false), "")
    }))
})

describe("the process", () => {
  const server = { name: "mx.test", accounts: { ann: "geheim" } }
  const onServer = (script: Parameters<typeof SmtpServer.layer>[0]) =>
    Effect.provide(NodeSmtpServer.layerLoopback({ script: { ...server, ...script } }))
  const common = Effect.map(NodeSmtpServer.NodeSmtpServer, ({ ca, port }) => [
    "send",
    `--host=localhost`,
    `--port=${port}`,
    `--ca=${file("ca.pem", ca)}`,
    "--from=ann@me.test",
    "--to=bob@mx.test"
  ])

  it.live("sends what is piped in, with a password of the environment, and prints JSON without colours", () =>
    Effect.gen(function*() {
      const child = yield* startPiped([...(yield* common), "-u", "ann", "--json"], { env: { SMTP_PASSWORD: "geheim" } })
      yield* child.type(hello)
      yield* child.endInput
      const ended = yield* child.ended
      assert.deepStrictEqual([ended.code, ended.stderr], [0, ""])
      assert.deepInclude(JSON.parse(ended.stdout), { accepted: ["bob@mx.test"], messageSize: 26 })
      assert.notInclude(ended.stdout, "\u001b")
      assertHidden(ended.stdout, "geheim")
      const [mail] = yield* (yield* NodeSmtpServer.NodeSmtpServer).received
      assert.deepStrictEqual([mail?.text, mail?.username], [hello, "ann"])
    }).pipe(Effect.scoped, onServer({})))

  it.live("without Nodemailer composes nothing, says how to get it, and ends with 78", () =>
    Effect.gen(function*() {
      const hook = file(
        "without.mjs",
        `import { registerHooks } from "node:module"
        registerHooks({
          resolve: (name, context, next) => {
            if (name.startsWith("nodemailer")) throw Object.assign(new Error(name), { code: "ERR_MODULE_NOT_FOUND" })
            return next(name, context)
          }
        })`
      )
      const env = { NODE_OPTIONS: `--import=${pathToFileURL(hook).href}` }
      const child = yield* startPiped([...(yield* common), "--text", "Hello", "--json"], { env })
      const ended = yield* child.ended
      assert.strictEqual(ended.code, 78, ended.stderr)
      assert.strictEqual(
        ended.stderr,
        "error: ECONFIG composing needs the optional peer nodemailer, 10.6 or later: npm install nodemailer@^10.6.0\n"
      )
      const { error } = JSON.parse(ended.stdout) as { readonly error: object }
      assert.deepInclude(error, { field: "nodemailer", exitCode: 78 })
      const whole = yield* startPiped([...(yield* common), file("m.eml", hello)], { env })
      assert.strictEqual((yield* whole.ended).code, 0)
      assert.strictEqual((yield* (yield* NodeSmtpServer.NodeSmtpServer).received).length, 1)
    }).pipe(Effect.scoped, onServer({})))

  it.live("ends at SIGINT with 130, closes the connection and says: in doubt", () =>
    Effect.gen(function*() {
      const { awaitClosed, awaitReceived } = yield* NodeSmtpServer.NodeSmtpServer
      const child = yield* startPiped([...(yield* common), file("m.eml", hello)])
      yield* awaitReceived(1)
      yield* child.signal("SIGINT")
      const ended = yield* child.ended
      yield* awaitClosed
      assert.deepStrictEqual([ended.code, ended.stdout], [130, ""])
      assert.strictEqual(ended.stderr, "interrupted: in doubt: the server may have taken the message\n")
    }).pipe(Effect.scoped, onServer({ faults: [SmtpServer.at("message", SmtpServer.silence)] })))

  it.live.skipIf(!hasPty)(
    onPty("asks for the password on a terminal without showing it, and has colours there"),
    () =>
      Effect.gen(function*() {
        const child = yield* startOnTerminal([...(yield* common), "-u", "ann", file("m.eml", hello)])
        yield* child.shows(/Password of ann/)
        yield* child.type("geheim\r")
        const ended = yield* child.ended
        assert.strictEqual(ended.code, 0, ended.stdout)
        assert.include(ended.stdout, "\u001b[32msent\u001b[39m: 250 ")
        assertHidden(ended.stdout, "geheim")
        const [mail] = yield* (yield* NodeSmtpServer.NodeSmtpServer).received
        assert.strictEqual(mail?.username, "ann")
      }).pipe(Effect.scoped, onServer({}))
  )

  it.live.skipIf(!hasPty)(
    onPty("ends at Ctrl-C on a terminal, at the prompt and under the progress bar"),
    () =>
      Effect.gen(function*() {
        const args = [...(yield* common), file("m.eml", hello)]
        const asked = yield* startOnTerminal([...args, "-u", "ann"])
        yield* asked.shows(/Password of ann/)
        yield* asked.type("\u0003")
        const first = yield* asked.ended
        assert.strictEqual(first.code, 130)
        assert.match(first.stdout, /interrupted:.* not sent/)
        const drawn = yield* startOnTerminal([...args, "-n", "1000"], { env: { NO_COLOR: "1" } })
        yield* drawn.shows(/\[#*-*\] \d+ % {2}\d+ of 1000/)
        yield* drawn.type("\u0003")
        const second = yield* drawn.ended
        assert.strictEqual(second.code, 130)
        assert.match(second.stdout, /sent \d+ of 1000/)
        assert.notInclude(second.stdout, "\u001b[3")
      }).pipe(
        Effect.scoped,
        onServer({ faults: [SmtpServer.at("mail", SmtpServer.delay("10 millis"), { occurrence: "every" })] })
      )
  )
})
