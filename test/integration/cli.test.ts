import { afterAll, assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as NodeConnector from "../../src/node/NodeConnector.ts"
import { cli, type Ran } from "../cli/command.ts"
import { describeServer, Dovecot, Postfix, recipients } from "./servers/index.ts"
import { alice, live } from "./servers/probe.ts"

const folder = mkdtempSync(join(tmpdir(), "effect-smtp-cli-"))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const at = (server: { readonly host: string; readonly ca: string }, port: number) => {
  const path = join(folder, "ca.pem")
  writeFileSync(path, server.ca)
  return [server.host, "-p", String(port), "--ca", path, "--name", "client.test"]
}
const message = "Subject: from the command line\r\n\r\n.dot\r\nend\r\n"

const levelsOf = (ran: Ran): Readonly<Record<string, string>> => {
  const verdicts = ran.json()["verdicts"] as ReadonlyArray<{ readonly id: string; readonly level: string }>
  return Object.fromEntries(verdicts.map(({ id, level }) => [id, level]))
}

const send = (where: ReadonlyArray<string>, to: string, ...args: ReadonlyArray<string>) =>
  cli(["send", "--host", ...where, "-f", "ann@client.test", "-t", to, ...args], {
    stdin: message,
    env: { SMTP_PASSWORD: alice.password }
  })

describeServer("Postfix", () => {
  layer(Layer.mergeAll(Postfix.layer, NodeConnector.layer), live)("the command line and Postfix", (it) => {
    it.effect("probe finds nothing wrong with its submission port but, by default, TLS 1.1", () =>
      Effect.gen(function*() {
        const server = yield* Postfix.Postfix
        const ran = yield* cli(["probe", ...at(server, server.ports.submission), "--json"])
        const levels = levelsOf(ran)
        const weak = Object.keys(levels).filter((id) => levels[id] === "weak" || levels[id] === "fail")
        assert.deepStrictEqual([ran.code, weak], [1, ["tls.minimum"]], ran.stderr)
        assert.deepInclude(levels, { "tls.verified": "ok", "tls.injection": "ok", "auth.mechanisms": "ok" })
        assert.match(JSON.stringify(ran.json()["greeting"]), /Postfix/)
        assert.include(ran.json()["mechanisms"] as ReadonlyArray<string>, "PLAIN")
        assert.strictEqual((ran.json()["certificates"] as ReadonlyArray<unknown>).length, 2)
      }))

    it.effect("probe finds implicit TLS, and passwords in clear", () =>
      Effect.gen(function*() {
        const server = yield* Postfix.Postfix
        const implicit = yield* cli(["probe", ...at(server, server.ports.smtps), "--tls", "implicit", "--json"])
        assert.strictEqual(implicit.json()["inClear"], null)
        assert.deepInclude(levelsOf(implicit), { "tls.required": "ok", "tls.verified": "ok" })
        const naked = yield* cli(["probe", ...at(server, server.ports.insecureAuth), "--json"])
        assert.strictEqual(levelsOf(naked)["auth.clear"], "weak")
        assert.notStrictEqual(naked.code, 0)
      }))

    it.effect("send stores a message of a user", () =>
      Effect.gen(function*() {
        const server = yield* Postfix.Postfix
        const where = at(server, server.ports.submission)
        const ran = yield* send(where, "alice@mx.test", "-u", alice.username, "--json")
        assert.strictEqual(ran.code, 0, ran.stderr)
        const [mail] = yield* server.awaitStored(({ bytes }) => Buffer.from(bytes).includes("from the command line"))
        assert.strictEqual(Buffer.from(mail?.bytes ?? []).toString("latin1"), message)
      }))

    it.effect("send repeats over one connection each, and ends with the code of the answer", () =>
      Effect.gen(function*() {
        const server = yield* Postfix.Postfix
        const where = ["--host", ...at(server, server.ports.smtp), "-f", "ann@client.test"]
        const many = yield* cli(["send", ...where, "-t", "bob@mx.test", "-n", "10", "-c", "2", "--json"], {
          stdin: message
        })
        assert.deepInclude(many.json(), { wanted: 10, sent: 10, failed: 0 })
        for (const [to, code] of [[recipients.reject, 69], [recipients.defer, 75], [recipients.bigData, 65]] as const) {
          const ran = yield* cli(["send", ...where, "-t", to], { stdin: message })
          assert.strictEqual(ran.code, code, ran.stderr)
        }
      }))
  })
})

describeServer("Dovecot", () => {
  layer(Layer.mergeAll(Dovecot.layer, NodeConnector.layer), live)("the command line and Dovecot", (it) => {
    it.effect("probe looks at submission and at LMTP", () =>
      Effect.gen(function*() {
        const server = yield* Dovecot.Dovecot
        const submission = yield* cli(["probe", ...at(server, server.ports.submission), "--json"])
        assert.strictEqual(submission.code, 0, submission.stdout + submission.stderr)
        assert.deepInclude(levelsOf(submission), {
          "tls.verified": "ok",
          "tls.injection": "ok",
          "auth.mechanisms": "ok"
        })
        const lmtp = yield* cli(["probe", ...at(server, server.ports.lmtp), "--lmtp", "--json"])
        assert.strictEqual(lmtp.code, 0, lmtp.stdout + lmtp.stderr)
      }))

    it.effect("send submits as a user, with a password and with a token, and delivers over LMTP", () =>
      Effect.gen(function*() {
        const server = yield* Dovecot.Dovecot
        const where = at(server, server.ports.submission)
        const ran = yield* send(where, "alice@mx.test", "-u", alice.username)
        assert.strictEqual(ran.code, 0, ran.stderr)
        assert.match(ran.stdout, /; login by SCRAM/)
        const token = { stdin: message, env: { SMTP_TOKEN: server.token(alice.username) } }
        const args = ["send", "--host", ...where, "-f", "ann@client.test", "-t", "bob@mx.test", "-u", alice.username]
        assert.strictEqual((yield* cli(args, token)).code, 0)
        const lmtp = ["send", "--host", ...at(server, server.ports.lmtp), "--lmtp", "-f", "ann@client.test"]
        const delivered = yield* cli([...lmtp, "-t", "carol@mx.test"], { stdin: message })
        assert.strictEqual(delivered.code, 0, delivered.stderr)
        const wrong = yield* cli(args, { stdin: message, env: { SMTP_PASSWORD: "wrong" } })
        assert.strictEqual(wrong.code, 77, wrong.stderr)
      }))
  })
})
