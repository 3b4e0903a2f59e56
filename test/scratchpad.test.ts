import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { execFile } from "node:child_process"
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { assertHidden } from "./support/secrets.ts"

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
  ],
  "80-policies.ts": [
    "1: ESOCKET, attempted: true",
    "2: ESOCKET, attempted: true",
    "3: ESOCKET, attempted: true",
    "4: ECONNECTION, attempted: false",
    "by the second server: 2.0.0 queued as 1",
    "after 0 s: 20 sent",
    "after 1 s: 40 sent",
    "after 2 s: 60 sent"
  ],
  "85-observability.ts": [
    "smtp.connect in-memory",
    "smtp.send in-memory sent 2.0.0",
    "smtp.send in-memory refused EENVELOPE 5.1.1",
    "signup",
    "smtp.client.pool.size 1 {connection}",
    "smtp.client.pool.idle 1 {connection}",
    "smtp.client.pool.waiting 0 {message}",
    "smtp.client.duration 1 s dns",
    "smtp.client.duration 1 s connect",
    "smtp.client.duration 1 s greeting",
    "smtp.client.duration 1 s tls",
    "smtp.client.duration 2 s final",
    "smtp.client.duration 1 s send",
    "smtp.client.duration 1 s send EENVELOPE",
    "smtp.client.connections 1 {connection} in-memory",
    "smtp.client.messages 1 {message} sent",
    "smtp.client.messages 1 {message} refused EENVELOPE",
    "smtp.client.message.size 1 By"
  ],
  "90-compose.ts": [
    "accepted: ann@example.test, audit@example.test",
    "Subject: =?UTF-8?Q?Squares_=E2=80=93_in_colour?=",
    "Content-Type: multipart/mixed; Content-Type: multipart/related; Content-Type: text/html; charset=utf-8; " +
    "Content-Type: image/png; name=dot.png; Content-Type: text/csv; charset=utf-8; name=squares.csv",
    "bcc in the header: false",
    "refused: attachments[0].path is not taken: no file is opened and no URL is fetched here; " +
    "give the content itself, e.g. as a Stream"
  ],
  "95-promise.ts": [
    "accepted: 2.0.0 queued as 1",
    "sent: 2.0.0 queued as 2",
    "not sent: EENVELOPE 5.1.1 no such user",
    "sent: 2.0.0 queued as 3",
    "aborted; in doubt: true"
  ],
  "96-backend.ts": [
    String.raw`202 {"response":"2.0.0 queued as 1"}`,
    String
      .raw`422 {"tag":"EENVELOPE","message":"RCPT TO: every recipient was refused: 550 5.1.1 no such user","inDoubt":false}`,
    String
      .raw`422 {"tag":"EENVELOPE","message":"envelope.to \"no address\" has no \"@\"; write local@domain","inDoubt":false}`,
    "21 mails over 4 connections"
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
    "C: BDAT",
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
      assertHidden(said, "correct horse")
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
