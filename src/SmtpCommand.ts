/**
 * The commands of SMTP and LMTP, and the one encoder that turns them into octets.
 *
 * What it is: a union of plain values and `encode`, pure. Every command comes out as one line; whatever could make it two
 * is refused, field by field, at run time too. What it is not: it knows nothing of the order of commands, nor of what a
 * server offers.
 *
 * @since 0.1.0
 */
import * as Base64 from "effect/encoding/Base64"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import type { Notify, OriginalRecipient, Ret } from "./Envelope.ts"
import * as mailbox from "./internal/mailbox.ts"
import * as checks from "./internal/parameters.ts"
import * as slab from "./internal/slab.ts"
import { encodeUnitext, encodeUtf8Xtext, encodeXtext } from "./internal/xtext.ts"
import { escapeText } from "./SmtpReply.ts"

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
 * A command, or a line of the client inside an AUTH exchange.
 *
 * **Details**
 *
 * Paths (`from`, `to`) are without angle brackets; `from: ""` is the null sender. A secret is `Redacted` octets, not yet
 * base64; an empty initial response is sent as `=` (RFC 4954 §4).
 *
 * @category models
 * @since 0.1.0
 */
export type SmtpCommand =
  | { readonly _tag: "Ehlo"; readonly name: string }
  | { readonly _tag: "Helo"; readonly name: string }
  | { readonly _tag: "Lhlo"; readonly name: string }
  | { readonly _tag: "StartTls" }
  | {
    readonly _tag: "Auth"
    readonly mechanism: string
    readonly initialResponse?: Redacted.Redacted<Uint8Array> | undefined
  }
  | { readonly _tag: "AuthResponse"; readonly response: Redacted.Redacted<Uint8Array> }
  | { readonly _tag: "AuthCancel" }
  | { readonly _tag: "Mail"; readonly from: string; readonly parameters: MailParameters }
  | { readonly _tag: "Rcpt"; readonly to: string; readonly parameters: RcptParameters }
  | { readonly _tag: "Data" }
  | { readonly _tag: "Bdat"; readonly size: number; readonly last: boolean }
  | { readonly _tag: "Rset" }
  | { readonly _tag: "Noop"; readonly text?: string | undefined }
  | { readonly _tag: "Vrfy"; readonly text: string }
  | { readonly _tag: "Expn"; readonly text: string }
  | { readonly _tag: "Help"; readonly text?: string | undefined }
  | { readonly _tag: "Quit" }

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

type Line = string | EncodeError

const refuse = (field: string, detail: string): EncodeError => ({ _tag: "EncodeError", field, detail })

const nameLine = (verb: string, name: unknown): Line => {
  if (typeof name !== "string") return refuse("name", "must be a string")
  if (mailbox.isHostName(name)) return `${verb} ${name}`
  const literal = mailbox.addressLiteral(name)
  return literal === undefined
    ? refuse("name", "must be a host name of letters, digits and hyphens, or an address in brackets: [192.0.2.1]")
    : `${verb} ${literal}`
}

const textLine = (verb: string, text: unknown): Line => {
  const problem = checks.textProblem(text)
  return problem === undefined ? `${verb} ${String(text)}` : refuse("text", problem)
}

const optionalTextLine = (verb: string, text: unknown): Line => text === undefined ? verb : textLine(verb, text)

const isMechanism = (u: unknown): u is string => typeof u === "string" && /^[A-Z\d_-]{1,20}$/.test(u)

const base64 = (field: string, secret: unknown): Line => {
  const detail = "must be Redacted octets that have not been wiped"
  if (!Redacted.isRedacted(secret)) return refuse(field, detail)
  try {
    const octets = Redacted.value(secret)
    return octets instanceof Uint8Array ? Base64.encode(octets) : refuse(field, detail)
  } catch {
    return refuse(field, detail)
  }
}

const authLine = (mechanism: unknown, initialResponse: unknown): Line => {
  if (!isMechanism(mechanism)) {
    return refuse("mechanism", "must be 1 to 20 of A to Z, digits, hyphen and underscore, e.g. PLAIN")
  }
  if (initialResponse === undefined) return `AUTH ${mechanism}`
  const response = base64("initialResponse", initialResponse)
  return typeof response === "string" ? `AUTH ${mechanism} ${response === "" ? "=" : response}` : response
}

const bdatLine = (size: unknown, last: unknown): Line => {
  const ofSize = checks.sizeProblem(size)
  if (ofSize !== undefined) return refuse("size", ofSize)
  const ofLast = checks.flagProblem(last)
  if (ofLast !== undefined) return refuse("last", ofLast)
  return `BDAT ${String(size)}${last === true ? " LAST" : ""}`
}

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

const mailLine = (from: unknown, parameters: MailParameters): Line =>
  isObject(parameters)
    ? pathLine("from", "MAIL FROM", from, parameters, mailParameters, parameters.smtpUtf8 === true)
    : refuse("parameters", "must be an object")

const rcptLine = (to: unknown, parameters: RcptParameters): Line =>
  isObject(parameters)
    ? pathLine("to", "RCPT TO", to, parameters, rcptParameters, parameters.smtpUtf8 === true)
    : refuse("parameters", "must be an object")

const lineOf = (command: SmtpCommand): Line => {
  switch (command._tag) {
    case "Ehlo":
    case "Helo":
    case "Lhlo":
      return nameLine(verbs[command._tag], command.name)
    case "Auth":
      return authLine(command.mechanism, command.initialResponse)
    case "AuthResponse":
      return base64("response", command.response)
    case "AuthCancel":
      return "*"
    case "Mail":
      return mailLine(command.from, command.parameters)
    case "Rcpt":
      return rcptLine(command.to, command.parameters)
    case "Bdat":
      return bdatLine(command.size, command.last)
    case "Vrfy":
    case "Expn":
      return textLine(verbs[command._tag], command.text)
    case "Noop":
    case "Help":
      return optionalTextLine(verbs[command._tag], command.text)
    case "StartTls":
    case "Data":
    case "Rset":
    case "Quit":
      return verbs[command._tag]
    default:
      return refuse("_tag", "must be the tag of a command")
  }
}

const verbs: { readonly [K in SmtpCommand["_tag"]]: string } = {
  Ehlo: "EHLO",
  Helo: "HELO",
  Lhlo: "LHLO",
  StartTls: "STARTTLS",
  Auth: "AUTH",
  AuthResponse: "AUTH",
  AuthCancel: "AUTH",
  Mail: "MAIL FROM",
  Rcpt: "RCPT TO",
  Data: "DATA",
  Bdat: "BDAT",
  Rset: "RSET",
  Noop: "NOOP",
  Vrfy: "VRFY",
  Expn: "EXPN",
  Help: "HELP",
  Quit: "QUIT"
}

/**
 * Most octets of an ordinary command line, CRLF included (RFC 5321 §4.5.3.1.4).
 *
 * @category limits
 * @since 0.1.0
 */
export const maxLineLength = 512

/**
 * Most octets of a line of an AUTH exchange, CRLF included (RFC 4954 §4).
 *
 * @category limits
 * @since 0.1.0
 */
export const maxAuthLineLength = 12_288

const maxLength: { readonly [K in SmtpCommand["_tag"]]?: number } = {
  Auth: maxAuthLineLength,
  AuthResponse: maxAuthLineLength,
  // What SIZE, BODY, SMTPUTF8, RET with ENVID, REQUIRETLS and AUTH add.
  Mail: maxLineLength + 26 + 17 + 10 + 116 + 11 + 500,
  // What NOTIFY with ORCPT adds.
  Rcpt: maxLineLength + 36 + 500
}

const encoder = new TextEncoder()

/** The line as octets. A loop over so few characters takes a quarter of the time of TextEncoder; that does what is not ASCII. */
const octetsOf = (line: string): Uint8Array => {
  const octets = new Uint8Array(line.length + 2)
  for (let index = 0; index < line.length; index++) {
    const code = line.charCodeAt(index)
    if (code > 0x7f) return encoder.encode(`${line}\r\n`)
    octets[index] = code
  }
  octets[line.length] = 0x0d
  octets[line.length + 1] = 0x0a
  return octets
}

const constants: ReadonlyMap<string, Result.Result<Uint8Array>> = new Map(
  (["StartTls", "AuthCancel", "Data", "Rset", "Quit"] as const).map((_tag) => [
    _tag,
    Result.succeed(octetsOf(String(lineOf({ _tag }))))
  ])
)

const isSecret = ({ _tag }: SmtpCommand): boolean => _tag === "Auth" || _tag === "AuthResponse"

/**
 * Encodes a command as one line.
 *
 * **Details**
 *
 * The octets hold exactly one CRLF, at the end. A field is refused when it is of another type than it should be (nothing
 * is coerced), when it is empty, when it holds C0, DEL, C1, U+2028, U+2029 or a lone surrogate, and when it is not what
 * its place in the grammar asks for. Paths are parsed and written out anew. A line is at most 512 octets long, more with
 * the parameters that allow it, and 12288 in an AUTH exchange.
 *
 * **Gotchas**
 *
 * The octets of a command without arguments are shared: do not write into them.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { Result } from "effect"
 * import { SmtpCommand } from "effect-smtp"
 *
 * const mail = SmtpCommand.encode({
 *   _tag: "Mail",
 *   from: "ann@example.com",
 *   parameters: { size: 1000, envid: "a+b" }
 * })
 * assert.strictEqual(
 *   new TextDecoder().decode(Result.getOrThrow(mail)),
 *   "MAIL FROM:<ann@example.com> SIZE=1000 ENVID=a+2Bb\r\n"
 * )
 *
 * const injected = SmtpCommand.encode({ _tag: "Ehlo", name: "me\r\nRSET" })
 * assert.strictEqual(Result.isFailure(injected) && injected.failure.field, "name")
 * ```
 *
 * @category encoding
 * @since 0.1.0
 */
export const encode = (command: SmtpCommand): Result.Result<Uint8Array, EncodeError> => {
  const constant = constants.get(command._tag)
  if (constant !== undefined) return constant
  const line = lineOf(command)
  if (typeof line !== "string") return Result.fail(line)
  const octets = isSecret(command) ? octetsOf(line) : slab.encode(`${line}\r\n`)
  const most = maxLength[command._tag] ?? maxLineLength
  return octets.length > most
    ? Result.fail(refuse("command", `has ${octets.length} octets; ${most} are allowed`))
    : Result.succeed(octets)
}

/**
 * The command as errors name it: `"EHLO"`, `"AUTH PLAIN"`, `"MAIL FROM"`, …; the lines inside an AUTH exchange are
 * `"AUTH"`.
 *
 * @category rendering
 * @since 0.1.0
 */
export const verb = (command: SmtpCommand): string =>
  command._tag === "Auth" && isMechanism(command.mechanism) ? `AUTH ${command.mechanism}` : verbs[command._tag]

/**
 * The command as one line for a transcript: escaped, and with `***` for a secret, of which not even the length shows.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { Redacted } from "effect"
 * import { SmtpCommand } from "effect-smtp"
 *
 * const secret = Redacted.make(new TextEncoder().encode("\0ann\0hunter2"))
 * assert.strictEqual(
 *   SmtpCommand.render({ _tag: "Auth", mechanism: "PLAIN", initialResponse: secret }),
 *   "AUTH PLAIN ***"
 * )
 * ```
 *
 * @category rendering
 * @since 0.1.0
 */
export const render = (command: SmtpCommand): string => {
  if (command._tag === "AuthResponse") return "***"
  if (command._tag === "Auth") return command.initialResponse === undefined ? verb(command) : `${verb(command)} ***`
  const line = lineOf(command)
  return typeof line === "string" ? escapeText(line, 2000) : `${verb(command)} (not sent: ${line.field} ${line.detail})`
}
