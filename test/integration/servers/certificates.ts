/** A CA and the certificates of the servers, good and bad, made at start. */
import { type CertificateAndKey, makeCertificate } from "../../../src/node/certificate.ts"

export type { CertificateAndKey }

/** The addresses that servers of the harness listen on. */
export const addresses = ["127.0.0.1", "127.0.0.2", "127.0.0.3"] as const

const altNames = [
  "DNS:localhost",
  "DNS:mx.test",
  "DNS:*.test",
  ...addresses.map((address) => `IP:${address}`),
  "IP:::1"
]

export type Name =
  | "good"
  | "expired"
  | "notYet"
  | "wrongHost"
  | "selfSigned"
  | "untrusted"
  | "noChain"
  | "chain"
  | "cnOnly"

export interface Certificates {
  readonly ca: CertificateAndKey
  /** What a server presents, `cert` with the intermediate one where there is one. */
  readonly server: { readonly [N in Name]: CertificateAndKey }
  /** A client's, issued by the CA to alice. */
  readonly client: CertificateAndKey
  /** A client's that the CA has not issued. */
  readonly otherClient: CertificateAndKey
}

/** Makes all of them; 20 ms. */
export const make = (): Certificates => {
  const ca = makeCertificate({ commonName: "Test CA" })
  const otherCa = makeCertificate({ commonName: "Other CA" })
  const intermediate = makeCertificate({ commonName: "Test intermediate CA", issuer: ca, isCa: true })
  const leaf = (options: Partial<Parameters<typeof makeCertificate>[0]>) =>
    makeCertificate({ commonName: "mx.test", altNames, issuer: ca, ...options })
  const noChain = leaf({ issuer: intermediate })
  return {
    ca,
    server: {
      good: leaf({}),
      expired: leaf({ notAfter: new Date("2021-01-01T00:00:00Z") }),
      notYet: leaf({ notBefore: new Date("2120-01-01T00:00:00Z"), notAfter: new Date("2121-01-01T00:00:00Z") }),
      wrongHost: leaf({ commonName: "wrong.example", altNames: ["DNS:wrong.example", "IP:192.0.2.1"] }),
      selfSigned: makeCertificate({ commonName: "mx.test", altNames, isCa: false }),
      untrusted: leaf({ issuer: otherCa }),
      noChain,
      chain: { cert: noChain.cert + intermediate.cert, key: noChain.key },
      cnOnly: leaf({ commonName: "localhost", altNames: [] })
    },
    client: leaf({ commonName: "alice", altNames: ["DNS:alice.test"] }),
    otherClient: leaf({ commonName: "mallory", altNames: ["DNS:mallory.test"], issuer: otherCa })
  }
}
