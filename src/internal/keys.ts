/**
 * What SASL needs and pure code has not: fresh nonces, and PBKDF2 that does not block the event loop. Both are
 * Web Crypto's, which every runtime has.
 */
import * as Effect from "effect/Effect"
import * as Base64 from "effect/encoding/Base64"
import * as Redacted from "effect/Redacted"

/** 144 bits of randomness, printable, without comma. */
export const nonce: Effect.Effect<string> = Effect.sync(() =>
  Base64.encode(globalThis.crypto.getRandomValues(new Uint8Array(18)))
)

/** PBKDF2-HMAC (RFC 8018). The inputs were bounded by the mechanism; a refusal by Web Crypto is a defect. */
export const derive = (parameters: {
  readonly hash: "SHA-1" | "SHA-256" | "SHA-512"
  readonly password: Redacted.Redacted<string>
  readonly salt: Uint8Array
  readonly iterations: number
  readonly length: number
}): Effect.Effect<Redacted.Redacted<Uint8Array>> =>
  Effect.promise(() => {
    const password = new TextEncoder().encode(Redacted.value(parameters.password))
    const algorithm = {
      name: "PBKDF2",
      hash: parameters.hash,
      salt: Uint8Array.from(parameters.salt),
      iterations: parameters.iterations
    }
    const { subtle } = globalThis.crypto
    return subtle.importKey("raw", password, "PBKDF2", false, ["deriveBits"])
      .then((key) => subtle.deriveBits(algorithm, key, parameters.length * 8))
      .then((bits) => Redacted.make(new Uint8Array(bits)))
  })
