import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { execFile } from "node:child_process"
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

const folder = fileURLToPath(new URL("../scratchpad/", import.meta.url))

const run = (file: string, ...args: ReadonlyArray<string>) =>
  Effect.callback<string>((resume) => {
    const child = execFile(
      process.execPath,
      [join(folder, file), ...args],
      { env: { PATH: process.env["PATH"] } },
      (error, stdout, stderr) => resume(error === null ? Effect.succeed(stdout) : Effect.die(stdout + stderr))
    )
    return Effect.sync(() => child.kill())
  })

/** What each file of the tour has to say. */
const tour: { readonly [file: string]: ReadonlyArray<string> } = {
  "10-send.ts": ["accepted: new.user@example.test (96 octets): 2.0.0 queued as 1"],
  "20-errors.ts": [
    "all is well: sent: 2.0.0 queued as 1",
    "a mailbox that is not there: refused: 550 5.1.1",
    "a server without STARTTLS: not sent, because not private: STARTTLS",
    "a connection lost before the message: ESOCKET: try again later",
    "a connection lost after the message: ECONNECTION: in doubt, do not send again blindly"
  ],
  "30-fake-server.ts": [
    "accepted ann@example.test; RCPT TO: the server answered 452 4.2.2 mailbox full",
    String.raw`stored "Subject: Hi\r\n\r\n.dots are safe\r\n" for ann@example.test, over TLS: true`
  ],
  "40-lmtp.ts": [
    "accepted: ann@example.test, bob@example.test",
    "full@example.test: EMESSAGE 5.2.2 over quota (temporary: false)"
  ],
  "50-streaming.ts": [
    "sent 20200019 octets",
    "not sent: the report broke at row 3001",
    "messages at the server: 1"
  ],
  "60-custom-connector.ts": [
    "mx.example.test: fake.test ESMTP ready",
    "legacy.example.test: fake.test ESMTP ready",
    "dialled: mx.example.test:25, relay.example.test:25"
  ],
  "70-oauth2.ts": [
    "POST https://login.example.test/token",
    "One: 2.0.0 queued as 1",
    "Two: 2.0.0 queued as 2"
  ]
}

describe("the scratchpad tour", () => {
  it("has a test for each of its files, and none is longer than 40 lines", () => {
    const files = readdirSync(folder).filter((file) => /^\d/.test(file))
    assert.deepStrictEqual(files.toSorted(), Object.keys(tour))
    for (const file of files) {
      assert.isAtMost(readFileSync(join(folder, file), "utf8").trimEnd().split("\n").length, 40, file)
    }
  })

  it.live.each(Object.keys(tour))("%s runs offline and says what it shows", (file) =>
    Effect.gen(function*() {
      assert.deepStrictEqual((yield* run(file)).trimEnd().split("\n"), tour[file])
    }), 30_000)
})

describe("the demo", () => {
  const steps = [
    "S: 220",
    "C: EHLO",
    "C: STARTTLS",
    "* TLSv1.3",
    "C: EHLO",
    "C: AUTH PLAIN ***",
    "S: 235",
    "C: MAIL FROM",
    "C: RCPT TO",
    "C: DATA",
    "S: 354",
    "S: 250",
    "C: QUIT",
    "S: 221"
  ]

  const inOrder = (text: string): string | undefined => {
    let from = 0
    return steps.find((step) => {
      from = text.indexOf(step, from)
      return from++ < 0
    })
  }

  it.live("sends a message through the whole dialogue and proves what was stored", () =>
    Effect.gen(function*() {
      const said = yield* run("demo.ts")
      assert.isUndefined(inOrder(said), said)
      assert.include(said, "The stored octets are the canonical form of the message.")
      assert.notInclude(said, "correct horse")
      assert.notInclude(said, Buffer.from("\0ann\0correct horse").toString("base64"))
    }), 30_000)

  it.live("sends any file", () =>
    Effect.gen(function*() {
      const temporary = mkdtempSync(join(tmpdir(), "effect-smtp-"))
      yield* Effect.addFinalizer(() => Effect.sync(() => rmSync(temporary, { recursive: true })))
      const file = join(temporary, "message.eml")
      writeFileSync(file, "Subject: file\n\n.\n..\nx")
      const said = yield* run("demo.ts", file)
      assert.include(said, "27 octets")
      assert.include(said, "The stored octets are the canonical form of the message.")
    }), 30_000)
})
