import { afterAll, assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { SmtpServer } from "../../src/testing/index.ts"
import { cli, type Setting } from "./command.ts"
import { hasPty, startOnTerminal, startPiped } from "./pty.ts"

const folder = mkdtempSync(join(tmpdir(), "effect-smtp-bench-"))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** Runs `bench` against the server in memory while time passes. */
const bench = (args: ReadonlyArray<string>, script: SmtpServer.Script = {}, setting: Setting = {}) =>
  Effect.gen(function*() {
    const fiber = yield* Effect.forkChild(cli(["bench", ...args], setting))
    for (let i = 0; i < 200; i++) yield* TestClock.adjust("20 millis")
    return yield* Fiber.join(fiber)
  }).pipe(Effect.provide(SmtpServer.layer(script)))

const slow = { faults: [SmtpServer.at("message", SmtpServer.delay("20 millis"), { occurrence: "every" })] }

describe("bench", () => {
  it.effect("prints rate, latencies and a histogram, in plain characters", () =>
    Effect.gen(function*() {
      const { code, stderr, stdout } = yield* bench(["-n", "1000", "-c", "10", "--size", "200"], slow)
      assert.deepStrictEqual({ code, stderr }, { code: 0, stderr: "" })
      assert.deepStrictEqual(stdout.split("\n"), [
        "1 000 messages of 200 octets by send to localhost:25, 10 connections",
        "accepted  1 000 in 2 s: 500 messages/s, 100.0 kB/s",
        "",
        "latency  p50 20 ms   p90 20 ms   p99 20 ms   max 20 ms",
        `  <= 20 ms  1000  100.0 %  ${"#".repeat(53)}`,
        ""
      ])
    }))

  it.effect("has colours and block characters on a terminal, and wipes its progress out", () =>
    Effect.gen(function*() {
      const setting = { terminal: true, env: { TERM: "xterm" } }
      const { drawn, stdout } = yield* bench(["-n", "50", "-c", "1"], slow, setting)
      assert.include(stdout, "\u001b[32maccepted\u001b[39m  50 in 1 s: ")
      assert.include(stdout, `100.0 %  ${"\u2588".repeat(20)}`)
      assert.match(drawn, /\d+ of 50 {2}/)
      assert.isTrue(drawn.endsWith("\r\u001b[K"))
    }))

  it.effect("tells all of it in JSON", () =>
    Effect.gen(function*() {
      const args = ["--json", "-n", "3", "-c", "1", "--mode", "sendAll", "--host", "127.0.0.1", "--port", "2525"]
      const ran = yield* bench([...args, "--size", "300", "--to", "ann@x.test"])
      const { latencyMillis, ...rest } = ran.json()
      assert.deepStrictEqual(rest, {
        target: "127.0.0.1:2525",
        mode: "sendAll",
        concurrency: 1,
        size: 300,
        begun: 3,
        accepted: 3,
        failed: 0,
        inDoubt: 0,
        connections: 1,
        octets: 900,
        millis: 0,
        messagesPerSecond: 0,
        errors: {}
      })
      assert.deepStrictEqual(latencyMillis, { count: 3, min: 0, mean: 0, p50: 0, p90: 0, p99: 0, max: 0 })
    }))

  it.effect("sends at a rate, for a time", () =>
    Effect.gen(function*() {
      const ran = yield* bench(["--json", "--rate", "10", "--duration", "2", "-c", "1"])
      const { accepted, millis } = ran.json()
      assert.deepStrictEqual({ accepted, millis }, { accepted: 20, millis: 1900 })
    }))

  it.effect("has a thousand messages and four connections where nothing is said", () =>
    Effect.gen(function*() {
      const { begun, connections } = (yield* bench(["--json"])).json()
      assert.deepStrictEqual({ begun, connections }, { begun: 1000, connections: 4 })
    }))
})

describe("the outcome of bench", () => {
  const failing = (fault: SmtpServer.Fault, step: SmtpServer.Step = "message") => ({
    faults: [SmtpServer.at(step, fault, { connection: 1, occurrence: 1 })]
  })
  const few = ["-n", "3", "-c", "1"]

  it.effect("counts failures by tag, and says one of them", () =>
    Effect.gen(function*() {
      const { code, stdout } = yield* bench(few, failing(SmtpServer.answer(554, "5.7.1 not\u001b[2J here"), "rcpt"))
      assert.strictEqual(code, 69)
      assert.include(stdout, "failed    1: EENVELOPE 1\n")
      assert.match(stdout, /\n {10}e\.g\. RCPT TO: .*: 554 5\.7\.1 not\\u\{1b\}\[2J here\n/)
    }))

  it.effect("is 75 when all that failed may be tried again", () =>
    Effect.gen(function*() {
      const { code, json } = yield* bench([...few, "--json"], failing(SmtpServer.answer(451, "4.3.0 later")))
      assert.strictEqual(code, 75)
      const { errors, failed, firstError } = json()
      assert.deepStrictEqual({ errors, failed }, { errors: { EMESSAGE: 1 }, failed: 1 })
      assert.strictEqual((firstError as { readonly code: string }).code, "EMESSAGE")
    }))

  it.effect("is 74 when a message is in doubt", () =>
    Effect.gen(function*() {
      const { code, stdout } = yield* bench(few, failing(SmtpServer.drop))
      assert.strictEqual(code, 74)
      assert.match(stdout, /failed {4}1, 1 in doubt: ECONNECTION 1/)
    }))

  it.effect("is 74 for one in doubt, beside others that were refused for good", () =>
    Effect.gen(function*() {
      const faults = [
        SmtpServer.at("mail", SmtpServer.answer(550, "5.7.1 no"), { connection: 1 }),
        SmtpServer.at("message", SmtpServer.drop, { connection: 1 })
      ]
      const { code, json } = yield* bench([...few, "--json"], { faults })
      assert.strictEqual(code, 74)
      const { errors, inDoubt } = json()
      assert.deepStrictEqual({ errors, inDoubt }, { errors: { EENVELOPE: 1, ECONNECTION: 1 }, inDoubt: 1 })
    }))

  it.effect("is told where no connection came about", () =>
    Effect.gen(function*() {
      const faults = [SmtpServer.at("connect", SmtpServer.reset, { occurrence: "every" })]
      const { code, stdout } = yield* bench(few, { faults })
      assert.strictEqual(code, 75)
      assert.deepStrictEqual(stdout.split("\n").slice(0, 3), [
        "0 messages of 1.0 kB by send to localhost:25, 0 connections",
        "accepted  0 in 0 us: 0 messages/s, 0 octets/s",
        "failed    0: ESOCKET 3"
      ])
    }))
})

describe("bench refuses", () => {
  it.effect("a server that is not on this host, unless it is said to be one's own", () =>
    Effect.gen(function*() {
      const args = ["-n", "1"]
      for (const [more, env] of [[["--host", "mx.example.test"], {}], [[], { SMTP_HOST: "192.0.2.1" }]] as const) {
        const { code, stderr, stdout } = yield* bench([...args, ...more], {}, { env })
        assert.deepStrictEqual({ code, stdout }, { code: 64, stdout: "" })
        assert.include(stderr, "--i-own-this-server")
        assert.strictEqual((yield* bench([...args, ...more, "--i-own-this-server"], {}, { env })).code, 0)
      }
    }))

  it.effect("what it cannot do, before it dials", () =>
    Effect.gen(function*() {
      const wrong: ReadonlyArray<readonly [ReadonlyArray<string>, number]> = [
        [["--size", "10"], 64],
        [["--size", "1073741825"], 64],
        [["--concurrency", "1001"], 64],
        [["--messages", "0"], 64],
        [["--rate", "0"], 64],
        [["--duration", "soon"], 64],
        [["--from", "a@b\nc"], 65],
        [["--tls", "off", "--user", "ann", "--servername", "x"], 78]
      ]
      for (const [args, code] of wrong) assert.strictEqual((yield* bench(args)).code, code, args.join(" "))
    }))
})

describe("bench that is broken off", () => {
  it.effect("tells of what was done", () =>
    Effect.gen(function*() {
      const lines: Array<string> = []
      const onStdout = (line: string): void => void lines.push(line)
      const fiber = yield* Effect.forkChild(cli(["bench", "--duration", "60", "-c", "1"], { onStdout }))
      for (let i = 0; i < 20; i++) yield* TestClock.adjust("20 millis")
      // The send that is under way gets its 500 ms for a reply.
      const ending = yield* Effect.forkChild(Fiber.interrupt(fiber), { startImmediately: true })
      yield* TestClock.adjust("500 millis")
      yield* Fiber.join(ending)
      assert.match(
        lines.join("\n"),
        /^\d+ messages of 1\.0 kB by send to localhost:25, 1 connection\naccepted {2}20 in/
      )
    }).pipe(Effect.provide(SmtpServer.layer(slow))))
})

describe("bench as a process", () => {
  it.live("puts load on a serve, which ends with 0 on SIGTERM", () =>
    Effect.scoped(Effect.gen(function*() {
      const serve = yield* startPiped(["serve", "--port", "0", "--dir", folder, "--json"])
      const [, port = ""] = yield* serve.shows(/"port":(\d+)/)
      const args = ["bench", "--host", "127.0.0.1", "--port", port, "--tls", "off", "-n", "100"]
      const bench = yield* startPiped(args)
      const { code, stderr, stdout } = yield* bench.ended
      assert.deepStrictEqual({ code, stderr }, { code: 0, stderr: "" })
      assert.match(stdout, /^100 messages of 1\.0 kB by send to 127\.0\.0\.1:\d+, 4 connections\naccepted {2}100 in /)
      assert.match(stdout, /latency {2}p50 .* p90 .* p99 .* max .*\n( +<= .* %.*\n)+$/)
      assert.notMatch(stdout, /[^\n -~]/, "plain ASCII in a pipe")
      yield* serve.signal("SIGTERM")
      const ended = yield* serve.ended
      assert.strictEqual(ended.code, 0)
      assert.include(ended.stdout, `{"event":"end","messages":100,"octets":102400}`)
    })))

  it.live.skipIf(!hasPty)(
    "on a pseudo-terminal ends on Ctrl-C with what was done, and 130 (needs script)",
    () =>
      Effect.scoped(Effect.gen(function*() {
        const serve = yield* startPiped(["serve", "--port", "0", "--dir", folder, "--json"])
        const [, port = ""] = yield* serve.shows(/"port":(\d+)/)
        const args = ["--host", "127.0.0.1", "--port", port, "--tls", "off", "--duration", "60", "--rate", "200"]
        const bench = yield* startOnTerminal(["bench", ...args])
        yield* bench.shows(/\d {2}[\d ]+\/s/)
        yield* bench.type("\u0003")
        const { code, stdout } = yield* bench.ended
        assert.strictEqual(code, 130)
        assert.include(stdout, "\u001b[32maccepted\u001b[39m  ")
        assert.match(stdout, /<= .* %.*\u2588/)
      }))
  )
})
