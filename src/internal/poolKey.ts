/**
 * The security context of a connection as one string: two options have the same key if and only if they may share
 * connections.
 */
import * as Hex from "effect/encoding/Hex"
import * as Redacted from "effect/Redacted"
import { hmac } from "./hash.ts"
import type { Resolved } from "./options.ts"

/** Of this process: a key tells nothing of the secrets in it, and means nothing elsewhere. */
const salt = globalThis.crypto.getRandomValues(new Uint8Array(32))

const identities = new WeakMap<object, number>()
let known = 0

/** What cannot be looked into, such as the Effect that provides a token, is the same only if it is the same object. */
const identityOf = (value: object): number => {
  const number = identities.get(value) ?? ++known
  identities.set(value, number)
  return number
}

const isPlain = (value: object): boolean => {
  const prototype = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}

/** Every field of every option, its type included; what is undefined counts as left out. */
const canonical = (value: unknown): unknown => {
  if (typeof value === "function") return ["object", identityOf(value)]
  if (typeof value !== "object" || value === null) return [typeof value, String(value)]
  if (Redacted.isRedacted(value)) return ["redacted", canonical(Redacted.value(value))]
  if (value instanceof Uint8Array) return ["octets", Hex.encode(value)]
  if (Array.isArray(value)) return ["array", value.map(canonical)]
  if (!isPlain(value)) return ["object", identityOf(value)]
  const fields = Object.entries(value).filter(([, field]) => field !== undefined)
  return ["fields", fields.toSorted(([a], [b]) => a < b ? -1 : 1).map(([name, field]) => [name, canonical(field)])]
}

const utf8 = new TextEncoder()

/**
 * The key: a keyed digest of all that was resolved: endpoint, local address and family, TLS mode and options, name to verify,
 * EHLO name, protocol, credentials with their secret, deadlines, transcript. The connector is not in it: one pool has one.
 */
export const keyOf = (resolved: Resolved): string =>
  Hex.encode(hmac("SHA-256", salt, utf8.encode(JSON.stringify(canonical(resolved)))))
