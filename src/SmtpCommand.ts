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
import * as mailbox from "./internal/mailbox.ts"
import * as checks from "./internal/parameters.ts"
import {
  type EncodeError,
  type Line,
  mailLine,
  type MailParameters,
  rcptLine,
  type RcptParameters,
  refuse
} from "./internal/pathLine.ts"
import * as slab from "./internal/slab.ts"
import { escapeText } from "./SmtpReply.ts"

export type { EncodeError, MailParameters, RcptParameters }

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

const boundedLine = (command: SmtpCommand): Line => {
  const line = lineOf(command)
  if (typeof line !== "string") return line
  const most = maxLength[command._tag] ?? maxLineLength
  // No character takes more than three octets.
  if (line.length * 3 + 2 <= most) return line
  const octets = encoder.encode(line).length + 2
  return octets > most ? refuse("command", `has ${octets} octets; ${most} are allowed`) : line
}

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
  const line = boundedLine(command)
  if (typeof line !== "string") return Result.fail(line)
  return Result.succeed(isSecret(command) ? octetsOf(line) : slab.encode(`${line}\r\n`))
}

/**
 * Encodes a group of commands (RFC 2920) as one array of octets: the lines that {@link encode} gives, one after another.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { Result } from "effect"
 * import { SmtpCommand } from "effect-smtp"
 *
 * const group = SmtpCommand.encodeAll([{ _tag: "Rset" }, { _tag: "Noop" }])
 * assert.strictEqual(new TextDecoder().decode(Result.getOrThrow(group)), "RSET\r\nNOOP\r\n")
 * ```
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeAll = (commands: ReadonlyArray<SmtpCommand>): Result.Result<Uint8Array, EncodeError> => {
  const [only] = commands
  if (only !== undefined && commands.length === 1) return encode(only)
  let text = ""
  for (const command of commands) {
    const line = boundedLine(command)
    if (typeof line !== "string") return Result.fail(line)
    text += `${line}\r\n`
  }
  return Result.succeed(commands.some(isSecret) ? encoder.encode(text) : slab.encode(text))
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
