/**
 * What a server offers: an EHLO or LHLO reply, parsed.
 *
 * What it is: RFC 5321 section 4.1.1.1, pure, one pass over lines whose length is already bounded. What it is not: a
 * judgement; what to do about a missing extension is decided where it is needed.
 *
 * @since 0.1.0
 */
import type { SmtpReply } from "./SmtpReply.ts"

/**
 * The limits of the LIMITS extension (RFC 9422 §4) that this library obeys.
 *
 * @category models
 * @since 0.1.0
 */
export interface Limits {
  /** MAILMAX: transactions in one connection. */
  readonly mailMax: number | undefined
  /** RCPTMAX: recipients in one transaction. */
  readonly rcptMax: number | undefined
  /** RCPTDOMAINMAX: different domains among the recipients of one transaction. */
  readonly rcptDomainMax: number | undefined
}

/**
 * The extensions of one server, as its last EHLO or LHLO named them.
 *
 * **Details**
 *
 * The flags are the extensions that this library knows; `extensions` has every keyword (upper case) with its parameters
 * as the server wrote them. All text is untrusted.
 *
 * @category models
 * @since 0.1.0
 */
export interface SmtpCapabilities {
  /** The name the server gives itself. */
  readonly name: string
  /** False after HELO: the server speaks no extensions at all. */
  readonly extended: boolean
  readonly extensions: ReadonlyMap<string, ReadonlyArray<string>>
  /** RFC 3207 */
  readonly startTls: boolean
  /** RFC 2920 */
  readonly pipelining: boolean
  /** RFC 6152 */
  readonly eightBitMime: boolean
  /** RFC 6531 */
  readonly smtpUtf8: boolean
  /** RFC 3461 */
  readonly dsn: boolean
  /** RFC 2034 */
  readonly enhancedStatusCodes: boolean
  /** RFC 3030 */
  readonly chunking: boolean
  /** RFC 3030 */
  readonly binaryMime: boolean
  /** RFC 8689 */
  readonly requireTls: boolean
  /** RFC 1870: whether SIZE may be declared. */
  readonly size: boolean
  /** The largest message in octets; undefined when SIZE is absent or names no limit. */
  readonly sizeLimit: number | undefined
  /** How much the server takes of what (RFC 9422); undefined = it does not say. */
  readonly limits: Limits
  /** SASL mechanisms, upper case, in the server's order (RFC 4954). */
  readonly auth: ReadonlyArray<string>
}

const keyword = /^[A-Za-z0-9][A-Za-z0-9-]*$/

const add = (extensions: Map<string, Array<string>>, line: string): void => {
  const words = line.split(" ").filter((word) => word !== "")
  let [name = "", ...parameters] = words
  // "AUTH=PLAIN LOGIN" is how servers spoke to clients of the time before RFC 2554.
  if (/^AUTH=/i.test(name)) {
    parameters = [name.slice(5), ...parameters].filter((word) => word !== "")
    name = "AUTH"
  }
  if (!keyword.test(name)) return
  const key = name.toUpperCase()
  const known = extensions.get(key)
  if (known === undefined) extensions.set(key, parameters)
  else known.push(...parameters)
}

const sizeLimit = (parameters: ReadonlyArray<string> | undefined): number | undefined => {
  const limit = parameters?.[0]
  if (limit === undefined || !/^\d{1,20}$/.test(limit)) return undefined
  const octets = Number(limit)
  return octets > 0 && Number.isSafeInteger(octets) ? octets : undefined
}

/** A limit is 1 to 6 digits without a leading zero (RFC 9422 §3); what is not is passed over. */
const limit = (parameters: ReadonlyArray<string>, name: string): number | undefined => {
  const found = parameters.find((parameter) => parameter.slice(0, name.length + 1).toUpperCase() === `${name}=`)
  const value = found?.slice(name.length + 1)
  return value !== undefined && /^[1-9]\d{0,5}$/.test(value) ? Number(value) : undefined
}

const limits = (parameters: ReadonlyArray<string> = []): Limits => ({
  mailMax: limit(parameters, "MAILMAX"),
  rcptMax: limit(parameters, "RCPTMAX"),
  rcptDomainMax: limit(parameters, "RCPTDOMAINMAX")
})

/**
 * Reads the capabilities from a positive reply to EHLO or LHLO.
 *
 * **Details**
 *
 * The first line names the server; each further line is one keyword with parameters. A line that is not of this form
 * is passed over. "SIZE 0" and a SIZE that is no number mean: no limit known.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { SmtpCapabilities, SmtpReply } from "effect-smtp"
 *
 * const capabilities = SmtpCapabilities.fromReply(
 *   SmtpReply.make(250, "mx.test Hello", "SIZE 1000000", "AUTH PLAIN LOGIN", "8BITMIME")
 * )
 * assert.strictEqual(capabilities.name, "mx.test")
 * assert.strictEqual(capabilities.sizeLimit, 1_000_000)
 * assert.deepStrictEqual(capabilities.auth, ["PLAIN", "LOGIN"])
 * assert.strictEqual(capabilities.startTls, false)
 * ```
 *
 * @category decoding
 * @since 0.1.0
 */
export const fromReply = (reply: SmtpReply): SmtpCapabilities => {
  const extensions = new Map<string, Array<string>>()
  for (const line of reply.lines.slice(1)) add(extensions, line)
  return make(reply, true, extensions)
}

/**
 * The capabilities of a server that was greeted with HELO: none.
 *
 * @category constructors
 * @since 0.1.0
 */
export const none = (reply: SmtpReply): SmtpCapabilities => make(reply, false, new Map())

const make = (
  reply: SmtpReply,
  extended: boolean,
  extensions: ReadonlyMap<string, ReadonlyArray<string>>
): SmtpCapabilities => ({
  name: reply.lines[0]?.split(" ", 1)[0] ?? "",
  extended,
  extensions,
  startTls: extensions.has("STARTTLS"),
  pipelining: extensions.has("PIPELINING"),
  eightBitMime: extensions.has("8BITMIME"),
  smtpUtf8: extensions.has("SMTPUTF8"),
  dsn: extensions.has("DSN"),
  enhancedStatusCodes: extensions.has("ENHANCEDSTATUSCODES"),
  chunking: extensions.has("CHUNKING"),
  binaryMime: extensions.has("BINARYMIME"),
  requireTls: extensions.has("REQUIRETLS"),
  size: extensions.has("SIZE"),
  sizeLimit: sizeLimit(extensions.get("SIZE")),
  limits: limits(extensions.get("LIMITS")),
  auth: [...new Set((extensions.get("AUTH") ?? []).map((name) => name.toUpperCase()))]
})
