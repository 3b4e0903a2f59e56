import { assert, describe, it } from "@effect/vitest"
import { createPrivateKey, X509Certificate } from "node:crypto"
import { makeCertificate } from "../../src/node/certificate.ts"

describe("makeCertificate", () => {
  const ca = makeCertificate({ commonName: "CA" })

  it("makes a self-signed certificate that may sign others", () => {
    const cert = new X509Certificate(ca.cert)
    assert.strictEqual(cert.ca, true)
    assert.strictEqual(cert.subject, "CN=CA")
    assert.strictEqual(cert.subjectAltName, undefined)
    assert.strictEqual(cert.verify(cert.publicKey), true)
  })

  it("signs with the issuer's key and takes the issuer's name", () => {
    const leaf = makeCertificate({ commonName: "mx.test", altNames: ["DNS:mx.test", "IP:::1"], issuer: ca })
    const cert = new X509Certificate(leaf.cert)
    assert.strictEqual(cert.ca, false)
    assert.strictEqual(cert.checkIssued(new X509Certificate(ca.cert)), true)
    assert.strictEqual(cert.verify(new X509Certificate(ca.cert).publicKey), true)
    assert.strictEqual(cert.checkPrivateKey(createPrivateKey(leaf.key)), true)
    assert.strictEqual(cert.subjectAltName, "DNS:mx.test, IP Address:0:0:0:0:0:0:0:1")
    assert.strictEqual(cert.checkIP("::1"), "::1")
  })

  it("writes years on both sides of 2050", () => {
    const [notBefore, notAfter] = [new Date("2049-06-01T01:02:03Z"), new Date("2051-06-01T01:02:03Z")]
    const cert = new X509Certificate(makeCertificate({ commonName: "x", notBefore, notAfter }).cert)
    assert.deepStrictEqual([new Date(cert.validFrom), new Date(cert.validTo)], [notBefore, notAfter])
  })

  it("makes an intermediate authority when asked, and many names", () => {
    const between = makeCertificate({ commonName: "Between", isCa: true, issuer: ca })
    assert.strictEqual(new X509Certificate(between.cert).ca, true)
    const altNames = Array.from({ length: 40 }, (_, n) => `DNS:host-${n}.example.test`)
    const many = new X509Certificate(makeCertificate({ commonName: "many", altNames, issuer: between }).cert)
    assert.strictEqual(many.subjectAltName, altNames.join(", "))
    assert.strictEqual(many.checkIssued(new X509Certificate(between.cert)), true)
  })

  it("gives every certificate its own serial number, 16 octets and positive", () => {
    const serials = Array.from(
      { length: 20 },
      () => new X509Certificate(makeCertificate({ commonName: "x" }).cert).serialNumber
    )
    assert.strictEqual(new Set(serials).size, 20)
    for (const serial of serials) assert.match(serial, /^[4-7][0-9A-F]{31}$/)
  })
})
