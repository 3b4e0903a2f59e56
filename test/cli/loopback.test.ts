import { assert, describe, it } from "@effect/vitest"
import { X509Certificate } from "node:crypto"
import { authority, isLoopback, makeMask, pinsOf } from "../../src/cli/loopback.ts"
import { count, number } from "../../src/cli/units.ts"
import { makeCertificate } from "../../src/node/certificate.ts"
import type { TranscriptLine } from "../../src/testing/SmtpServer.ts"

const masked = (lines: ReadonlyArray<readonly [TranscriptLine["from"], string]>): ReadonlyArray<string> => {
  const mask = makeMask()
  return lines.map(([from, text]) => mask({ connection: 1, from, text }))
}

describe("the dialogue as it is printed", () => {
  it("has nothing that is said in a login", () => {
    assert.deepStrictEqual(
      masked([
        ["client", "auth login c2VjcmV0"],
        ["server", "334 UGFzc3dvcmQ6"],
        ["client", "c2VjcmV0"],
        ["server", "235-2.7.0 go"],
        ["client", "c2VjcmV0"],
        ["server", "235 2.7.0 on"],
        ["client", "MAIL FROM:<a@b.test>"]
      ]),
      [
        "[1] C: auth login ***",
        "[1] S: 334 ***",
        "[1] C: ***",
        "[1] S: 235-2.7.0 go",
        "[1] C: ***",
        "[1] S: 235 2.7.0 on",
        "[1] C: MAIL FROM:<a@b.test>"
      ]
    )
  })

  it("has no response of a client that went on after a refusal", () => {
    assert.deepStrictEqual(
      masked([["client", "AUTH LOGIN"], ["server", "504 no"], ["client", "c2VjcmV0"], ["client", "QUIT"]]),
      ["[1] C: AUTH LOGIN", "[1] S: 504 no", "[1] C: ***", "[1] C: QUIT"]
    )
  })

  it("has an unknown command where no login was tried, escaped", () => {
    assert.deepStrictEqual(masked([["client", "WHAT\u001b[2J"], ["event", "closed"]]), [
      "[1] C: WHAT\\u{1b}[2J",
      "[1] * closed"
    ])
  })

  it("keeps the connections apart, and forgets those that closed", () => {
    const mask = makeMask()
    mask({ connection: 1, from: "client", text: "AUTH PLAIN x" })
    assert.strictEqual(mask({ connection: 2, from: "client", text: "c2VjcmV0" }), "[2] C: c2VjcmV0")
    mask({ connection: 1, from: "event", text: "closed" })
    assert.strictEqual(mask({ connection: 1, from: "client", text: "WHAT" }), "[1] C: WHAT")
  })
})

describe("addresses", () => {
  it("are loopback where only this host reaches them", () => {
    for (const host of ["127.0.0.1", "127.8.9.10", "::1", "localhost", "app.localhost"]) assert.isTrue(isLoopback(host))
    for (const host of ["0.0.0.0", "::", "10.0.0.1", "127.example.test", "localhost.test", ""]) {
      assert.isFalse(isLoopback(host), host)
    }
  })

  it("have brackets where they have colons", () => {
    assert.deepStrictEqual([authority("::1", 25), authority("127.0.0.1", 25)], ["[::1]:25", "127.0.0.1:25"])
  })
})

describe("the pins of a certificate", () => {
  it("are those that TLS options take", () => {
    const { cert } = makeCertificate({ commonName: "mx.test" })
    const pins = pinsOf(cert)
    assert.match(pins.key, /^sha256\/[A-Za-z0-9+/]{43}=$/)
    const fingerprint = new X509Certificate(cert).fingerprint256.replaceAll(":", "").toLowerCase()
    assert.strictEqual(pins.certificate, `cert-sha256/${fingerprint}`)
  })
})

describe("numbers for a person", () => {
  it("are in groups of three", () => {
    assert.deepStrictEqual([0, 999, 1000, 1_234_567.4].map(number), ["0", "999", "1 000", "1 234 567"])
    assert.deepStrictEqual([count(1, "message"), count(2000, "message")], ["1 message", "2 000 messages"])
  })
})
