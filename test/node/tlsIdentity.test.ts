import { assert, describe, it } from "@effect/vitest"
import * as Result from "effect/Result"
import { X509Certificate } from "node:crypto"
import { canonicalPin } from "../../src/internal/tlsOptions.ts"
import { type CertificateAndKey, makeCertificate } from "../../src/node/certificate.ts"
import { type Expected, identify } from "../../src/node/tlsIdentity.ts"
import { keyPin } from "./certificates.ts"

const root = makeCertificate({ commonName: "Root" })
const intermediate = makeCertificate({ commonName: "Intermediate", issuer: root, isCa: true })
const other = makeCertificate({ commonName: "Root" })
const named = (...altNames: ReadonlyArray<string>) =>
  makeCertificate({ commonName: "cn.test", altNames, issuer: intermediate })
const leaf = named(
  "DNS:mx.test",
  "DNS:*.wild.test",
  "DNS:p*.part.test",
  "DNS:192.0.2.9",
  "IP:192.0.2.1",
  "IP:2001:db8::1"
)

const read = ({ cert }: CertificateAndKey) => new X509Certificate(cert)
const chainOf = (...certificates: ReadonlyArray<CertificateAndKey>) => certificates.map(read)
const certificatePin = (certificate: CertificateAndKey) =>
  canonicalPin(`cert-sha256/${read(certificate).fingerprint256}`) ?? "none"

const whole = chainOf(leaf, intermediate, root)
const strange = keyPin(other)

/** The identity and the pin, or the code of the error. */
const judged = (
  chain: ReadonlyArray<X509Certificate>,
  chainError: string | undefined,
  expected: Partial<Expected> = {}
) =>
  Result.match(identify({ chain, chainError }, { name: "mx.test", pins: [], ...expected }), {
    onSuccess: ({ identity, pin }) => [identity, pin],
    onFailure: (error) => "code" in error ? error.code : error
  })

describe("a name", () => {
  it.each([
    ["mx.test", "mx.test"],
    ["MX.TEST", "mx.test"],
    ["any.wild.test", "*.wild.test"],
    ["192.0.2.1", "192.0.2.1"],
    ["2001:db8::1", "2001:db8::1"],
    ["2001:DB8:0::1", "2001:DB8:0::1"]
  ])("%s is verified by a subject alternative name", (name, identity) => {
    assert.deepStrictEqual(judged(whole, undefined, { name }), [identity, undefined])
  })

  it.each([
    ["another name", "other.test"],
    ["the CN", "cn.test"],
    ["a wildcard over two labels", "a.b.wild.test"],
    ["a wildcard without its label", "wild.test"],
    ["a wildcard for a part of a label", "pa.part.test"],
    ["a name that ends the same", "xmx.test"],
    ["a name below", "a.mx.test"],
    ["another address", "192.0.2.2"],
    ["an address that stands as a name", "192.0.2.9"]
  ])("is not verified by %s", (_, name) => {
    assert.strictEqual(judged(whole, undefined, { name }), "ERR_TLS_CERT_ALTNAME_INVALID")
  })

  it("is never looked for in the CN of a certificate that has no other", () => {
    for (const altNames of [undefined, ["IP:192.0.2.1"]]) {
      const certificate = makeCertificate({ commonName: "mx.test", altNames, issuer: root })
      assert.strictEqual(judged(chainOf(certificate), undefined), "ERR_TLS_CERT_ALTNAME_INVALID")
    }
  })

  it("counts for nothing where the chain does not verify, or there is no certificate", () => {
    assert.strictEqual(judged(whole, "CERT_HAS_EXPIRED"), "CERT_HAS_EXPIRED")
    assert.strictEqual(judged([], undefined), "ERR_TLS_CERT_ALTNAME_INVALID")
  })

  it("of the certificate is escaped where the error tells it", () => {
    const certificate = makeCertificate({ commonName: "x", altNames: ["DNS:a\u001b[2J.test"], issuer: root })
    const error = Result.getOrThrow(Result.flip(identify({ chain: chainOf(certificate), chainError: undefined }, {
      name: "mx.test",
      pins: []
    })))
    assert.notInclude(error.message, "\u001b")
    assert.include(error.message, "not for mx.test, but for ")
  })
})

describe("a pin of the server itself", () => {
  const errors = [undefined, "DEPTH_ZERO_SELF_SIGNED_CERT", "CERT_HAS_EXPIRED"]

  it("is its identity, whatever chain and name say", () => {
    for (const pin of [keyPin(leaf), certificatePin(leaf)]) {
      for (const chainError of errors) {
        for (const name of ["mx.test", "other.test", "192.0.2.2"]) {
          assert.deepStrictEqual(judged(whole, chainError, { name, pins: [strange, pin] }), [pin, pin])
        }
      }
    }
  })

  it("that does not match is refused, whatever chain and name say", () => {
    for (const chainError of errors) {
      for (const pins of [[strange], [strange, certificatePin(other)]]) {
        assert.strictEqual(judged(whole, chainError, { pins }), "ERR_TLS_PIN_MISMATCH")
      }
    }
    assert.strictEqual(judged([], undefined, { pins: [keyPin(leaf)] }), "ERR_TLS_PIN_MISMATCH")
  })

  it("is told apart from one of another certificate with the same key", () => {
    const pins = [certificatePin(named("DNS:mx.test"))]
    assert.strictEqual(judged(whole, undefined, { pins }), "ERR_TLS_PIN_MISMATCH")
  })

  it("cannot be told of a key that OpenSSL does not know", () => {
    const der = Buffer.from(whole[0]!.raw)
    const ecPublicKey = Buffer.from("2a8648ce3d0201", "hex")
    der[der.indexOf(ecPublicKey) + ecPublicKey.length - 1] = 0x7f
    const chain = [new X509Certificate(der)]
    assert.strictEqual(judged(chain, undefined, { pins: [keyPin(leaf)] }), "ERR_TLS_CERT_UNREADABLE")
  })
})

describe("a pin of an authority", () => {
  const above = [keyPin(intermediate), certificatePin(intermediate), keyPin(root), certificatePin(root)]
  const untrusted = [
    "DEPTH_ZERO_SELF_SIGNED_CERT",
    "SELF_SIGNED_CERT_IN_CHAIN",
    "UNABLE_TO_GET_ISSUER_CERT",
    "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
    "UNABLE_TO_VERIFY_LEAF_SIGNATURE"
  ]

  it("stands in for trust in it, and for nothing else", () => {
    for (const pin of above) {
      const pins = [strange, pin]
      for (const chainError of [undefined, ...untrusted]) {
        assert.deepStrictEqual(judged(whole, chainError, { pins }), ["mx.test", pin])
        assert.strictEqual(judged(whole, chainError, { pins, name: "other.test" }), "ERR_TLS_CERT_ALTNAME_INVALID")
      }
      for (const chainError of ["CERT_HAS_EXPIRED", "INVALID_PURPOSE", "CERT_REVOKED", "CERT_SIGNATURE_FAILURE"]) {
        assert.strictEqual(judged(whole, chainError, { pins }), chainError)
      }
    }
  })

  it("does not match where the authority is shown, and has not signed", () => {
    const damaged = Buffer.from(whole[0]!.raw)
    damaged.writeUInt8(damaged.readUInt8(damaged.length - 1) ^ 1, damaged.length - 1)
    const forged = [new X509Certificate(damaged), ...whole.slice(1)]
    const ofAnother = makeCertificate({ commonName: "mx.test", altNames: ["DNS:mx.test"], issuer: other })
    const belowLeaf = makeCertificate({ commonName: "mx.test", altNames: ["DNS:mx.test"], issuer: leaf })
    for (const chainError of [undefined, ...untrusted]) {
      for (
        const chain of [
          forged,
          chainOf(ofAnother, root),
          chainOf(ofAnother, intermediate, root),
          chainOf(belowLeaf, leaf, intermediate, root),
          chainOf(leaf, root)
        ]
      ) {
        assert.strictEqual(judged(chain, chainError, { pins: above }), "ERR_TLS_PIN_MISMATCH")
      }
    }
  })

  it("does not match a chain that ends below it", () => {
    assert.strictEqual(judged(chainOf(leaf), undefined, { pins: above }), "ERR_TLS_PIN_MISMATCH")
    const pins = [keyPin(root)]
    assert.strictEqual(judged(chainOf(leaf, intermediate), undefined, { pins }), "ERR_TLS_PIN_MISMATCH")
  })
})
