/**
 * What the values of MAIL and RCPT parameters have to be, in one place for the envelope and for the encoder. Each check
 * takes whatever a caller in JavaScript may give and says what is wrong, completing a sentence that begins with the
 * field; undefined means that nothing is.
 */
import { controlIn, encodeUtf8Xtext, encodeXtext, isAscii } from "./xtext.ts"

export type Notify = "NEVER" | "SUCCESS" | "FAILURE" | "DELAY"

const conditions: ReadonlyArray<unknown> = ["NEVER", "SUCCESS", "FAILURE", "DELAY"] satisfies ReadonlyArray<Notify>
const isNotify = (u: unknown): u is Notify => conditions.includes(u)

/** RFC 3461 §4.4 and §4.2: as sent. */
const maxEnvid = 100
const maxOrcpt = 500

export const sizeProblem = (u: unknown): string | undefined =>
  typeof u === "number" && Number.isSafeInteger(u) && u >= 0
    ? undefined
    : "must be a whole number of octets, 0 or more and at most 2^53 - 1"

export const flagProblem = (u: unknown): string | undefined =>
  typeof u === "boolean" ? undefined : "must be true or false"

/** Printable ASCII, spaces included; not empty. */
export const textProblem = (u: unknown): string | undefined => {
  if (typeof u !== "string") return "must be a string"
  if (u === "") return "must not be empty; leave it out instead"
  const control = controlIn(u)
  if (control !== undefined) return `holds the control character ${control}; remove it`
  return isAscii(u) ? undefined : "must be printable ASCII"
}

export const envidProblem = (u: unknown): string | undefined =>
  textProblem(u) ?? (encodeXtext(u as string).length > maxEnvid
    ? `must be at most ${maxEnvid} characters as xtext; shorten it`
    : undefined)

/** The conditions, as a list of our own; or the problem. */
export const notifyOf = (u: unknown): ReadonlyArray<Notify> | string => {
  const list: ReadonlyArray<unknown> = Array.isArray(u) ? Array.from(u) : []
  if (list.length === 0 || !list.every(isNotify)) return "must be NEVER alone, or some of SUCCESS, FAILURE and DELAY"
  if (new Set(list).size < list.length) return "names a condition twice; name it once"
  return list.length > 1 && list.includes("NEVER")
    ? "combines NEVER with another condition; NEVER stands alone"
    : list
}

/** The recipient that a notification names (RFC 3461 §4.2), as the caller means it: nothing in it is encoded. */
export interface OriginalRecipient {
  /** Address type, e.g. "rfc822" or "utf-8". */
  readonly type: string
  readonly address: string
}

export const isUtf8Type = (type: string): boolean => type.toLowerCase() === "utf-8"

export const orcptProblem = (type: unknown, address: unknown): string | undefined => {
  if (typeof type !== "string" || !/^[a-z\d](?:[a-z\d-]*[a-z\d])?$/i.test(type)) {
    return "must have an address type of letters, digits and hyphens, e.g. rfc822;user@example.com"
  }
  if (typeof address !== "string" || address === "") return "must have an address, e.g. rfc822;user@example.com"
  const control = controlIn(address)
  if (control !== undefined) return `holds the control character ${control}; remove it`
  if (!isUtf8Type(type) && !isAscii(address)) return "is not ASCII; give it the address type utf-8"
  const encoded = isUtf8Type(type) ? encodeUtf8Xtext(address) : encodeXtext(address)
  return type.length + 1 + encoded.length > maxOrcpt
    ? `must be at most ${maxOrcpt} characters as xtext; shorten it`
    : undefined
}
