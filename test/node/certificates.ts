/** The certificates of the TLS tests, made once per test file. */
import { createHash, X509Certificate } from "node:crypto"
import { type CertificateAndKey, makeCertificate } from "../../src/node/certificate.ts"

const past = new Date("2020-01-01T00:00:00Z")

export const ca = makeCertificate({ commonName: "Test CA" })
export const otherCa = makeCertificate({ commonName: "Other CA" })

export const good = makeCertificate({
  commonName: "mx.test",
  altNames: ["DNS:mx.test", "DNS:xn--bcher-kva.test", "IP:127.0.0.1", "IP:::1"],
  issuer: ca
})
export const namesOnly = makeCertificate({ commonName: "127.0.0.1", altNames: ["DNS:mx.test"], issuer: ca })
export const wrongName = makeCertificate({ commonName: "other.test", altNames: ["DNS:other.test"], issuer: ca })
export const selfSigned = makeCertificate({ commonName: "mx.test", altNames: ["DNS:mx.test"] })
export const otherIssuer = makeCertificate({ commonName: "mx.test", altNames: ["DNS:mx.test"], issuer: otherCa })
export const expired = makeCertificate({
  commonName: "mx.test",
  altNames: ["DNS:mx.test"],
  notBefore: past,
  notAfter: new Date("2021-01-01T00:00:00Z"),
  issuer: ca
})
export const notYetValid = makeCertificate({
  commonName: "mx.test",
  altNames: ["DNS:mx.test"],
  notBefore: new Date("2120-01-01T00:00:00Z"),
  notAfter: new Date("2121-01-01T00:00:00Z"),
  issuer: ca
})
export const client = makeCertificate({ commonName: "client", altNames: ["DNS:client.test"], issuer: ca })

/** The pin of a certificate's key: the SHA-256 of its SPKI (RFC 7469). */
export const keyPin = ({ cert }: CertificateAndKey): string => {
  const spki = new X509Certificate(cert).publicKey.export({ type: "spki", format: "der" })
  return `sha256/${createHash("sha256").update(spki).digest("base64")}`
}
