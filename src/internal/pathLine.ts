/**
 * The lines of MAIL and RCPT with their parameters (RFC 5321 §4.1.2), and what is said of a command that makes no line.
 */
import * as Result from "effect/Result"
import type { Notify, OriginalRecipient, Ret } from "../Envelope.ts"
import * as mailbox from "./mailbox.ts"
import * as checks from "./parameters.ts"
import { encodeUnitext, encodeUtf8Xtext, encodeXtext } from "./xtext.ts"

/**
 * The parameters of MAIL.
 *
 * @category models
 * @since 0.1.0
 */
export interface MailParameters {
  /** Octets of the message (RFC 1870). */
  readonly size?: number | undefined
  /** RFC 6152 and RFC 3030. */
  readonly body?: "7BIT" | "8BITMIME" | "BINARYMIME" | undefined
  /** RFC 6531; without it a path has to be ASCII. */
  readonly smtpUtf8?: boolean | undefined
  /** RFC 3461 §4.3. */
  readonly ret?: Ret | undefined
  /** RFC 3461 §4.4: printable ASCII, not encoded yet; at most 100 characters once it is. */
  readonly envid?: string | undefined
  /** RFC 8689. */
  readonly requireTls?: boolean | undefined
  /** RFC 4954 §5: an ASCII mailbox, not encoded yet, or `"<>"`. */
  readonly auth?: string | undefined
}

/**
 * The parameters of RCPT (RFC 3461).
 *
 * @category models
 * @since 0.1.0
 */
export interface RcptParameters {
  readonly notify?: ReadonlyArray<Notify> | undefined
  /** Not encoded yet; at most 500 characters once it is. */
  readonly orcpt?: OriginalRecipient | undefined
  /**
   * Whether MAIL said SMTPUTF8. Nothing is sent for it: without it the path has to be ASCII, and an `orcpt` of type utf-8
   * goes out in its 7-bit form (RFC 6533 §3).
   */
  readonly smtpUtf8?: boolean | undefined
}

/**
 * Why a command cannot be sent.
 *
 * @category models
 * @since 0.1.0
 */
export interface EncodeError {
  readonly _tag: "EncodeError"
  /** The field at fault, e.g. "name" or "parameters.envid"; "command" when it is the line as a whole. */
  readonly field: string
  /** What is wrong and how to mend it, completing a sentence that begins with the field. No secret is in it. */
  readonly detail: string
}

export type Line = string | EncodeError

export const refuse = (field: string, detail: string): EncodeError => ({ _tag: "EncodeError", field, detail })

type Encoder = (value: unknown, smtpUtf8: boolean) => Line

const checked = (
  key: string,
  problemOf: (u: unknown) => string | undefined,
  encode: (value: unknown) => string
): Encoder =>
(value) => {
  const problem = problemOf(value)
  return problem === undefined ? encode(value) : refuse(`parameters.${key}`, problem)
}

const oneOf = (key: string, keyword: string, allowed: ReadonlyArray<unknown>): Encoder =>
  checked(
    key,
    (u) => allowed.includes(u) ? undefined : `must be one of ${allowed.join(", ")}`,
    (value) => ` ${keyword}=${String(value)}`
  )

const flag = (key: string, keyword: string): Encoder =>
  checked(key, checks.flagProblem, (value) => value === true ? keyword : "")

const auth: Encoder = (value) => {
  if (value === "<>") return " AUTH=<>"
  const parsed = typeof value === "string" ? mailbox.parse(value) : Result.fail("must be a mailbox, or <>")
  if (Result.isFailure(parsed)) return refuse("parameters.auth", parsed.failure)
  return parsed.success.isAscii
    ? ` AUTH=${encodeXtext(parsed.success.path)}`
    : refuse("parameters.auth", "must have an ASCII local part")
}

const mailParameters: ReadonlyArray<readonly [keyof MailParameters, Encoder]> = [
  ["size", checked("size", checks.sizeProblem, (value) => ` SIZE=${String(value)}`)],
  ["body", oneOf("body", "BODY", ["7BIT", "8BITMIME", "BINARYMIME"])],
  ["smtpUtf8", flag("smtpUtf8", " SMTPUTF8")],
  ["ret", oneOf("ret", "RET", ["FULL", "HDRS"])],
  ["envid", checked("envid", checks.envidProblem, (value) => ` ENVID=${encodeXtext(String(value))}`)],
  ["requireTls", flag("requireTls", " REQUIRETLS")],
  ["auth", auth]
]

const notify: Encoder = (value) => {
  const conditions = checks.notifyOf(value)
  return typeof conditions === "string"
    ? refuse("parameters.notify", conditions)
    : ` NOTIFY=${conditions.join(",")}`
}

const orcpt: Encoder = (value, smtpUtf8) => {
  if (typeof value !== "object" || value === null) return refuse("parameters.orcpt", "must be { type, address }")
  const { address, type } = value as { readonly [K in keyof OriginalRecipient]?: unknown }
  const problem = checks.orcptProblem(type, address)
  if (problem !== undefined) return refuse("parameters.orcpt", problem)
  const encode = !checks.isUtf8Type(String(type)) ? encodeXtext : smtpUtf8 ? encodeUnitext : encodeUtf8Xtext
  return ` ORCPT=${String(type)};${encode(String(address))}`
}

const rcptParameters: ReadonlyArray<readonly [keyof RcptParameters, Encoder]> = [
  ["notify", notify],
  ["orcpt", orcpt],
  ["smtpUtf8", flag("smtpUtf8", "")]
]

const pathLine = <K extends string>(
  field: "from" | "to",
  verb: string,
  path: unknown,
  parameters: { readonly [P in K]?: unknown },
  encoders: ReadonlyArray<readonly [K, Encoder]>,
  smtpUtf8: boolean
): Line => {
  if (typeof path !== "string") return refuse(field, "must be a string")
  let line = `${verb}:<>`
  if (path !== "" || field === "to") {
    const parsed = field === "to" ? mailbox.parseRecipient(path) : mailbox.parse(path)
    if (Result.isFailure(parsed)) return refuse(field, parsed.failure)
    if (!parsed.success.isAscii && !smtpUtf8) return refuse(field, "is not ASCII and needs parameters.smtpUtf8")
    line = `${verb}:<${parsed.success.path}>`
  }
  for (const [key, encoder] of encoders) {
    const value = parameters[key]
    if (value === undefined) continue
    const text = encoder(value, smtpUtf8)
    if (typeof text !== "string") return text
    line += text
  }
  return line
}

const isObject = (u: unknown): boolean => typeof u === "object" && u !== null

export const mailLine = (from: unknown, parameters: MailParameters): Line =>
  isObject(parameters)
    ? pathLine("from", "MAIL FROM", from, parameters, mailParameters, parameters.smtpUtf8 === true)
    : refuse("parameters", "must be an object")

export const rcptLine = (to: unknown, parameters: RcptParameters): Line =>
  isObject(parameters)
    ? pathLine("to", "RCPT TO", to, parameters, rcptParameters, parameters.smtpUtf8 === true)
    : refuse("parameters", "must be an object")
