import { afterAll, assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { X509Certificate } from "node:crypto"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { render } from "../../src/cli/probe.ts"
import { describe as describeCertificate } from "../../src/cli/probeCertificate.ts"
import type { Facts } from "../../src/cli/probeFacts.ts"
import * as probeVerdicts from "../../src/cli/probeVerdicts.ts"
import { makeCertificate } from "../../src/node/certificate.ts"
import * as NodeConnector from "../../src/node/NodeConnector.ts"
import * as NodeSmtpServer from "../../src/node/NodeSmtpServer.ts"
import * as SmtpCapabilities from "../../src/SmtpCapabilities.ts"
import * as SmtpError from "../../src/SmtpError.ts"
import * as SmtpReply from "../../src/SmtpReply.ts"
import * as SmtpServer from "../../src/testing/SmtpServer.ts"
import { keyPin } from "../node/certificates.ts"
import { cli, type Ran } from "./command.ts"
import { flawed } from "./probeServer.ts"
import { hasPty, onPty, startOnTerminal, startPiped } from "./pty.ts"

const folder = mkdtempSync(join(tmpdir(), "effect-smtp-probe-"))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
const file = (name: string, content: string): string => {
  writeFileSync(join(folder, name), content)
  return join(folder, name)
}

const levelsOf = (ran: Ran): Readonly<Record<string, string>> => {
  const verdicts = ran.json()["verdicts"] as ReadonlyArray<probeVerdicts.Verdict>
  return Object.fromEntries(verdicts.map(({ id, level }) => [id, level]))
}

/** `probe` of a fake server on a real port. */
const probe = Effect.fnUntraced(function*(options: NodeSmtpServer.Options, ...args: ReadonlyArray<string>) {
  return yield* Effect.gen(function*() {
    const { ca, connections, port, received } = yield* NodeSmtpServer.NodeSmtpServer
    const ran = yield* cli(["probe", "localhost", "-p", String(port), "--ca", file("ca.pem", ca), ...args])
    assert.deepStrictEqual(yield* received, [])
    return { ...ran, port, connections: yield* connections }
  }).pipe(Effect.provide(Layer.mergeAll(NodeSmtpServer.layerLoopback(options), NodeConnector.layer)))
})

const probeFlawed = (flaws: Parameters<typeof flawed>[0], ...args: ReadonlyArray<string>) =>
  Effect.scoped(Effect.flatMap(
    flawed(flaws),
    (port) => cli(["probe", "localhost", "-p", String(port), "--json", ...args])
  )).pipe(Effect.provide(NodeConnector.layer))

describe("probe", () => {
  it.live("of a server where all is well ends with 0, and sends no mail", () =>
    Effect.gen(function*() {
      const ran = yield* probe({ script: { accounts: { ann: "x" } } }, "--json")
      assert.deepStrictEqual([ran.code, ran.stderr], [0, ""])
      const told = ran.json()
      assert.deepInclude(told["greeting"] as object, { code: 220 })
      assert.include(JSON.stringify(told["inClear"]), "STARTTLS")
      assert.notInclude(JSON.stringify(told["inClear"]), "AUTH")
      assert.include(JSON.stringify(told["overTls"]), "AUTH PLAIN")
      assert.include(told["mechanisms"] as ReadonlyArray<string>, "PLAIN")
      assert.deepStrictEqual(told["limits"], { SIZE: 52_428_800 })
      assert.deepInclude(told["tls"] as object, { protocol: "TLSv1.3", authorized: true, identity: "localhost" })
      assert.strictEqual(told["worst"], "note")
      const levels = levelsOf(ran)
      for (const id of ["tls.required", "tls.verified", "tls.expiry", "tls.injection", "tls.minimum", "auth.clear"]) {
        assert.strictEqual(levels[id], "ok", id)
      }
      const helos = ran.connections.map(({ helo }) => helo)
      assert.strictEqual(helos.length, 5)
    }))

  it.live("shows it to a person", () =>
    Effect.gen(function*() {
      const ran = yield* probe({ script: { name: "mx.test" } }, "--name", "me.test")
      assert.strictEqual(ran.code, 0, ran.stderr)
      assert.match(
        ran.stdout,
        /^server {7}localhost:\d+\ngreeting {5}220 mx\.test ESMTP ready\nin clear {5}PIPELINING, SIZE/
      )
      assert.match(ran.stdout, /\nTLS {10}TLSv1\.3 TLS_/)
      assert.match(ran.stdout, /\ncertificate {2}CN=mx\.test \(ec prime256v1\), until 2049-12-31 \(\d+ days\)\n/)
      assert.match(ran.stdout, /\n {15}pin {4}sha256\/[\w+/]{43}=\n/)
      assert.match(ran.stdout, /\n\n {2}ok {4}TLS can be required {20}STARTTLS is offered, and works\n/)
      assert.notInclude(ran.stdout, "\u001b")
      assert.isTrue(ran.connections.every(({ helo }) => (helo ?? "me.test") === "me.test"))
    }))

  it.live("of implicit TLS has nothing in clear", () =>
    Effect.gen(function*() {
      const ran = yield* probe({ implicitTls: true }, "--tls", "implicit", "--json")
      assert.strictEqual(ran.code, 0, ran.stderr)
      assert.strictEqual(ran.json()["inClear"], null)
      const levels = levelsOf(ran)
      assert.notProperty(levels, "tls.injection")
      assert.notProperty(levels, "auth.clear")
      assert.deepInclude(levels, { "tls.required": "ok", "tls.verified": "ok", "tls.minimum": "ok" })
    }))

  it.live("of a certificate that does not verify ends with 76, and still shows it; a pin verifies it", () =>
    Effect.gen(function*() {
      const own = makeCertificate({ commonName: "mx.test", altNames: ["DNS:mx.test"] })
      const ran = yield* probeFlawed({ certificate: own })
      assert.strictEqual(ran.code, 76)
      assert.deepInclude(levelsOf(ran), { "tls.required": "ok", "tls.verified": "fail" })
      assert.deepInclude(ran.json()["tls"] as object, { authorized: false, protocol: "TLSv1.3" })
      const [certificate] = ran.json()["certificates"] as ReadonlyArray<{ readonly pin: string }>
      assert.strictEqual(certificate?.pin, keyPin(own))
      const pinned = yield* probeFlawed({ certificate: own }, "--pin", keyPin(own))
      assert.strictEqual(pinned.code, 0, pinned.stdout)
      assert.strictEqual(levelsOf(pinned)["tls.verified"], "ok")
      const other = yield* probeFlawed({ certificate: own }, "--pin", `sha256/${Buffer.alloc(32).toString("base64")}`)
      assert.strictEqual(other.code, 76)
      assert.deepInclude(levelsOf(other), { "tls.required": "fail", "tls.verified": "fail" })
      assert.match(JSON.stringify(other.json()["tlsError"]), /ETLS/)
      assert.strictEqual((other.json()["certificates"] as ReadonlyArray<unknown>).length, 1)
    }))

  it.live("finds the flaws of a server: injection, old TLS, a certificate that ends soon, passwords in clear", () =>
    Effect.gen(function*() {
      const ca = makeCertificate({ commonName: "Some CA" })
      const inDays = (days: number) => new Date(Date.now() + days * 86_400_000 + 60_000)
      const altNames = ["DNS:localhost"]
      const soon = makeCertificate({ commonName: "mx.test", altNames, issuer: ca, notAfter: inDays(5) })
      const ran = yield* probeFlawed(
        {
          certificate: soon,
          chain: [ca.cert],
          behindStartTls: "executed",
          tls: { minVersion: "TLSv1", maxVersion: "TLSv1.2", ciphers: "DEFAULT@SECLEVEL=0" },
          extensions: ["STARTTLS", "AUTH PLAIN SCRAM-SHA-256", "LIMITS MAILMAX=100 RCPTMAX=20 junk", "SIZE 1000"]
        },
        "--ca",
        file("ca.pem", ca.cert)
      )
      assert.strictEqual(ran.code, 76, ran.stdout)
      assert.deepInclude(levelsOf(ran), {
        "tls.verified": "ok",
        "tls.expiry": "weak",
        "tls.injection": "fail",
        "tls.minimum": "weak",
        "tls.version": "note",
        "auth.clear": "weak",
        "extension.pipelining": "note"
      })
      const names = (ran.json()["certificates"] as ReadonlyArray<{ subject: string }>).map(({ subject }) => subject)
      assert.deepStrictEqual(names, ["CN=mx.test", "CN=Some CA"])
    }))

  it.live("takes a server for safe that closes when something is slipped in, and ends with 1 at a weakness", () =>
    Effect.gen(function*() {
      const certificate = makeCertificate({ commonName: "mx.test", altNames: ["DNS:localhost"] })
      const ran = yield* probeFlawed(
        {
          certificate,
          behindStartTls: "closed",
          extensions: ["STARTTLS", "AUTH LOGIN"]
        },
        "--ca",
        file("ca.pem", certificate.cert)
      )
      assert.strictEqual(ran.code, 1, ran.stdout)
      assert.deepInclude(levelsOf(ran), { "tls.injection": "ok", "auth.clear": "weak" })
    }))

  it.live("of a server that refuses STARTTLS, or does not offer it, ends with 76", () =>
    Effect.gen(function*() {
      const certificate = makeCertificate({ commonName: "mx.test", altNames: ["DNS:localhost"] })
      const refused = yield* probeFlawed({ certificate, refusesStartTls: true })
      assert.strictEqual(refused.code, 76)
      assert.deepInclude(levelsOf(refused), { "tls.required": "fail", "tls.verified": "fail", "tls.minimum": "note" })
      const none = yield* probeFlawed({ certificate, extensions: ["LIMITS MAILMAX=100 RCPTMAX=20 junk", "SIZE 1000"] })
      assert.strictEqual(none.code, 76)
      assert.deepStrictEqual(none.json()["limits"], { SIZE: 1000, MAILMAX: 100, RCPTMAX: 20 })
      assert.notProperty(levelsOf(none), "tls.verified")
    }))

  it.live("in clear and over LMTP, when asked, does not look at TLS", () =>
    Effect.gen(function*() {
      const ran = yield* Effect.gen(function*() {
        const { port } = yield* NodeSmtpServer.NodeSmtpServer
        return yield* cli(["probe", "127.0.0.1", "-p", String(port), "--tls", "off", "--lmtp"])
      }).pipe(Effect.provide(
        Layer.mergeAll(NodeSmtpServer.layerLoopback({ script: { protocol: "lmtp" } }), NodeConnector.layer)
      ))
      assert.strictEqual(ran.code, 0, ran.stderr)
      assert.match(ran.stdout, /note {2}TLS can be required {20}not looked at: TLS is off/)
    }))

  it.effect("fails as a connection does", () =>
    Effect.gen(function*() {
      const busy = { faults: [SmtpServer.at("greeting", SmtpServer.answer(421, "4.3.2 busy\u001b[2J"))] }
      const ran = yield* Effect.provide(cli(["probe", "mx.test", "--json"]), SmtpServer.layer(busy))
      assert.strictEqual(ran.code, 75)
      assert.include(ran.stderr, "421 4.3.2 busy\\u{1b}[2J")
      const implicit = cli(["probe", "mx.test", "--port", "465", "--tls", "implicit"])
      const tls = yield* Effect.provide(implicit, SmtpServer.layer({ tls: { fail: true } }))
      assert.strictEqual(tls.code, 76, tls.stderr)
      assert.strictEqual((yield* Effect.provide(cli(["probe"]), SmtpServer.layer())).code, 64)
      const interruptAfter = Effect.yieldNow
      const silent = { faults: [SmtpServer.at("greeting", SmtpServer.silence)] }
      const cut = yield* Effect.provide(cli(["probe", "mx.test"], { interruptAfter }), SmtpServer.layer(silent))
      assert.deepStrictEqual([cut.code, cut.stderr], [130, "interrupted: the probe is not complete\n"])
    }))
})

describe("verdicts", () => {
  const plain = SmtpCapabilities.fromReply(SmtpReply.make(250, "mx.test"))
  const offering = (...lines: ReadonlyArray<string>) =>
    SmtpCapabilities.fromReply(SmtpReply.make(250, "mx.test", ...lines))
  const facts: Facts = {
    host: "mx.test",
    port: 25,
    greeting: SmtpReply.make(220, "mx.test \u001b[2J"),
    way: "starttls",
    before: plain,
    after: plain,
    security: {
      protocol: "TLSv1.3",
      cipher: "X",
      resumed: false,
      authorized: true,
      servername: "mx.test",
      identity: "mx.test"
    },
    tlsError: undefined,
    certificates: [],
    injection: undefined,
    oldTls: undefined
  }
  const levelOf = (some: Partial<Facts>, id: string) =>
    probeVerdicts.judge({ ...facts, ...some }).find((one) => one.id === id)?.level
  const certificate = (daysLeft: number) => ({
    subject: "CN=mx.test",
    issuer: "CN=ca",
    names: [],
    validFrom: "2020-01-01T00:00:00.000Z",
    validTo: "2030-01-01T00:00:00.000Z",
    daysLeft,
    key: "rsa 2048",
    pin: "sha256/x",
    fingerprint256: "x"
  })

  it("of the certificates are those of the one that ends first", () => {
    const level = (...days: ReadonlyArray<number>) => levelOf({ certificates: days.map(certificate) }, "tls.expiry")
    assert.deepStrictEqual([level(14), level(13), level(0), level(-1)], ["ok", "weak", "weak", "fail"])
    assert.deepStrictEqual([level(300, 3), level(300, 400)], ["weak", "ok"])
    assert.isUndefined(level())
  })

  it("of logins are good with SCRAM, and notes without", () => {
    const level = (...lines: ReadonlyArray<string>) => levelOf({ after: offering(...lines) }, "auth.mechanisms")
    assert.deepStrictEqual(
      [level("AUTH SCRAM-SHA-256-PLUS"), level("AUTH SCRAM-SHA-1"), level("AUTH PLAIN"), level()],
      ["ok", "ok", "note", "note"]
    )
    assert.strictEqual(levelOf({ before: offering("AUTH CRAM-MD5") }, "auth.clear"), "note")
    assert.strictEqual(levelOf({ before: offering("AUTH PLAIN"), way: "unwanted" }, "auth.clear"), "note")
  })

  it("of checks that were not possible are notes", () => {
    const detail = "no answer in 15 seconds"
    assert.strictEqual(levelOf({ injection: { _tag: "Untested", detail } }, "tls.injection"), "note")
    assert.strictEqual(levelOf({ security: undefined }, "tls.verified"), "fail")
    const tlsError = new SmtpError.ETLS({ message: "no", command: "STARTTLS" })
    assert.strictEqual(levelOf({ tlsError }, "tls.required"), "fail")
  })

  it("together are as bad as the worst", () => {
    const of = (...levels: ReadonlyArray<probeVerdicts.Level>) =>
      probeVerdicts.worstOf(levels.map((level) => ({ id: "", level, title: "", detail: "" })))
    assert.deepStrictEqual([of(), of("ok", "note"), of("weak", "ok"), of("fail", "weak")], [
      "ok",
      "note",
      "weak",
      "fail"
    ])
    assert.deepStrictEqual((["ok", "note", "weak", "fail"] as const).map(probeVerdicts.exitCodeOfLevel), [0, 0, 1, 76])
  })

  it("are shown with all server text escaped", () => {
    const paint = { bold: String, dim: String, red: String, green: String, yellow: String, cyan: String }
    const shown = render(
      {
        ...facts,
        host: "/run/\u0007sock",
        port: undefined,
        before: SmtpCapabilities.none(SmtpReply.make(250, "mx")),
        after: offering("X-EVIL \u001b[31m\u202e", "AUTH \u001bX"),
        security: { ...facts.security!, authorized: false, servername: "\u001b" },
        certificates: [{ ...certificate(20), names: ["DNS:a"] }, certificate(30)]
      },
      probeVerdicts.judge({ ...facts, after: offering("AUTH \u001bX") }),
      paint
    ).join("\n")
    // oxlint-disable-next-line no-control-regex -- what must not be there
    assert.notMatch(shown, /[\u0000-\u0009\u000b-\u001f\u202e]/)
    assert.include(shown, "none: HELO only")
    assert.include(shown, "/run/\\u{7}sock")
  })
})

describe("a certificate", () => {
  it("is described, whatever is in its names", () => {
    const own = makeCertificate({
      commonName: "a\u001b[2J",
      altNames: ["DNS:mx.test"],
      notAfter: new Date(10 * 86_400_000)
    })
    const found = describeCertificate(new X509Certificate(own.cert).raw, 86_400_000)
    assert.deepInclude(found, { daysLeft: 9, key: "ec prime256v1", pin: keyPin(own), names: ["DNS:mx.test"] })
    assert.notInclude(found?.subject, "\u001b")
    assert.isUndefined(describeCertificate(new Uint8Array([1, 2, 3]), 0))
  })
})

describe("the process", () => {
  const onServer = Effect.provide(NodeSmtpServer.layerLoopback())
  const common = Effect.map(NodeSmtpServer.NodeSmtpServer, ({ ca, port }) => [
    "probe",
    "localhost",
    `--port=${port}`,
    `--ca=${file("ca.pem", ca)}`
  ])

  it.live("prints JSON into a pipe", () =>
    Effect.gen(function*() {
      const child = yield* startPiped([...(yield* common), "--json"])
      const ended = yield* child.ended
      assert.deepStrictEqual([ended.code, ended.stderr], [0, ""])
      assert.strictEqual((JSON.parse(ended.stdout) as Record<string, unknown>)["worst"], "note")
    }).pipe(Effect.scoped, onServer))

  it.live.skipIf(!hasPty)(
    onPty("has colours on a terminal, and none where NO_COLOR is set"),
    () =>
      Effect.gen(function*() {
        const coloured = yield* (yield* startOnTerminal(yield* common)).ended
        assert.include(coloured.stdout, "\u001b[32mok  \u001b[39m")
        const plain = yield* (yield* startOnTerminal(yield* common, { env: { NO_COLOR: "1" } })).ended
        assert.include(plain.stdout, "  ok    TLS can be required")
        assert.notInclude(plain.stdout, "\u001b")
      }).pipe(Effect.scoped, onServer)
  )
})
