/**
 * JSON Web Tokens signed by RS256 (RFC 7515, RFC 7518 section 3.3), over Web Crypto, which every runtime has.
 */
import * as Effect from "effect/Effect"
import * as Base64 from "effect/encoding/Base64"
import * as Base64Url from "effect/encoding/Base64Url"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import type { ECONFIG } from "../../SmtpError.ts"
import * as model from "./model.ts"

const algorithm = { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" } as const
const advice = "give a PEM of an RSA key in PKCS#8 (-----BEGIN PRIVATE KEY-----), with its line ends; " +
  "`openssl pkcs8 -topk8 -nocrypt` makes one of other forms"

/** An RSA key that signs and cannot be read out again. Nothing of the key is in the error. */
export const importKey = (pem: Redacted.Redacted<string>): Effect.Effect<CryptoKey, ECONFIG> => {
  const found = /^\s*-----BEGIN PRIVATE KEY-----\s([A-Za-z0-9+/=\s]+)-----END PRIVATE KEY-----\s*$/.exec(
    Redacted.value(pem)
  )
  const octets = Base64.decode(found?.[1]?.replace(/\s/g, "") ?? "")
  const refuse = Effect.fromResult(model.config("privateKey", `it cannot be read; ${advice}`))
  if (Result.isFailure(octets)) return refuse
  return Effect.tryPromise(() =>
    globalThis.crypto.subtle.importKey("pkcs8", Uint8Array.from(octets.success), algorithm, false, ["sign"])
  ).pipe(Effect.catch(() => refuse))
}

const encoder = new TextEncoder()

const part = (value: Readonly<Record<string, unknown>>): string => Base64Url.encode(JSON.stringify(value))

/** Header and claims, signed. A key that was imported signs: a refusal is a defect. */
export const sign = (
  key: CryptoKey,
  keyId: string | undefined,
  claims: Readonly<Record<string, unknown>>
): Effect.Effect<Redacted.Redacted<string>> => {
  const text = `${part({ alg: "RS256", typ: "JWT", ...(keyId === undefined ? {} : { kid: keyId }) })}.${part(claims)}`
  return Effect.promise(() => globalThis.crypto.subtle.sign(algorithm.name, key, encoder.encode(text))).pipe(
    Effect.map((signature) => Redacted.make(`${text}.${Base64Url.encode(new Uint8Array(signature))}`))
  )
}
