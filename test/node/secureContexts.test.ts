import { assert, describe, it } from "@effect/vitest"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as tls from "node:tls"
import { contextFor } from "../../src/node/secureContexts.ts"
import type { TlsOptions } from "../../src/SmtpConnector.ts"
import * as certificates from "./certificates.ts"

/** Whether the context for some options is that for the others. */
const isShared = (options: TlsOptions, others: TlsOptions): boolean => {
  const make = () => Result.succeed(tls.createSecureContext())
  return Result.getOrThrow(contextFor(options, make)) === Result.getOrThrow(contextFor(others, make))
}

const ca = certificates.ca.cert
const key = Redacted.make<string>(certificates.good.key)

describe("contexts", () => {
  it("are shared by options that are alike", () => {
    assert.isTrue(isShared({}, {}))
    assert.isTrue(isShared({ ca, minVersion: "TLSv1.3" }, { minVersion: "TLSv1.3", ca: [ca].join("") }))
    assert.isTrue(isShared({ ca: [ca, ca] }, { ca: [ca, ca] }))
  })

  const differing: ReadonlyArray<TlsOptions> = [
    { ca },
    { ca: [ca] },
    { ca: [ca, ca] },
    { cert: ca },
    { minVersion: "TLSv1.3" },
    { maxVersion: "TLSv1.2" },
    { ciphers: "AES128" },
    { ciphers: "AES256" }
  ]
  it("are not shared by options that differ in anything", () => {
    for (const [index, options] of differing.entries()) {
      for (const others of [{}, ...differing.slice(index + 1)]) assert.isFalse(isShared(options, others))
    }
  })

  it("with a secret or octets are of one object of options alone", () => {
    const secret: TlsOptions = { cert: certificates.good.cert, key }
    assert.isTrue(isShared(secret, secret))
    assert.isFalse(isShared(secret, { ...secret }))
    const octets: TlsOptions = { ca: Buffer.from(ca) }
    assert.isTrue(isShared(octets, octets))
    assert.isFalse(isShared(octets, { ...octets }))
  })

  it("are made anew when a caller has put another key into his options", () => {
    const options: { -readonly [K in keyof TlsOptions]: TlsOptions[K] } = { cert: certificates.good.cert, key }
    const make = () => Result.succeed(tls.createSecureContext())
    const first = Result.getOrThrow(contextFor(options, make))
    options.key = Redacted.make<string>(certificates.good.key)
    assert.notStrictEqual(Result.getOrThrow(contextFor(options, make)), first)
  })

  it("that cannot be made are asked for again", () => {
    let asked = 0
    const fail = () => {
      asked++
      return Result.fail("no")
    }
    for (let i = 0; i < 2; i++) contextFor({ ciphers: "NOTHING" }, fail)
    assert.strictEqual(asked, 2)
  })

  it("are forgotten in the order of their use, beyond sixteen", () => {
    const kept: TlsOptions = { ciphers: "kept" }
    const make = () => Result.succeed(tls.createSecureContext())
    const first = Result.getOrThrow(contextFor(kept, make))
    const forgotten = Result.getOrThrow(contextFor({ ciphers: "forgotten" }, make))
    for (let n = 0; n < 15; n++) {
      contextFor({ ciphers: `other${n}` }, make)
      assert.strictEqual(Result.getOrThrow(contextFor({ ...kept }, make)), first)
    }
    assert.notStrictEqual(Result.getOrThrow(contextFor({ ciphers: "forgotten" }, make)), forgotten)
  })
})
