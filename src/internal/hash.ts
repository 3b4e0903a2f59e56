/**
 * Synchronous hashes for SASL: the one file outside `node/` and `cli/` that imports from node.
 *
 * What it is: hash, HMAC and a comparison in constant time. What it is not: a client's key derivation, which runs
 * asynchronously (`keys.ts`).
 */
import * as crypto from "node:crypto"

/** MD5 is here for CRAM-MD5 and DIGEST-MD5 alone. */
type Algorithm = "MD5" | "SHA-1" | "SHA-256" | "SHA-512"

const nameOf: { readonly [K in Algorithm]: string } = {
  MD5: "md5",
  "SHA-1": "sha1",
  "SHA-256": "sha256",
  "SHA-512": "sha512"
}

export const hash = (algorithm: Algorithm, octets: Uint8Array): Uint8Array =>
  crypto.createHash(nameOf[algorithm]).update(octets).digest()

export const hmac = (algorithm: Algorithm, key: Uint8Array, octets: Uint8Array): Uint8Array =>
  crypto.createHmac(nameOf[algorithm], key).update(octets).digest()

/** PBKDF2-HMAC (RFC 8018), which blocks: for the fake server and its few iterations. */
export const pbkdf2 = (
  algorithm: Algorithm,
  password: Uint8Array,
  salt: Uint8Array,
  iterations: number,
  length: number
): Uint8Array => crypto.pbkdf2Sync(password, salt, iterations, length, nameOf[algorithm])

/** Constant time for equal lengths; different lengths are unequal at once. */
export const timingSafeEqual = (a: Uint8Array, b: Uint8Array): boolean =>
  a.length === b.length && crypto.timingSafeEqual(a, b)

/** SHA-256 of octets that come in parts; `digest` gives it in hex, once. */
export const createSha256 = (): { readonly update: (octets: Uint8Array) => void; readonly digest: () => string } => {
  const sha256 = crypto.createHash("sha256")
  return {
    update: (octets) => {
      sha256.update(octets)
    },
    digest: () => sha256.digest("hex")
  }
}
