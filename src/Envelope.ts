/**
 * The envelope of a message: sender, recipients, and the wishes that travel as parameters of MAIL and RCPT.
 *
 * What it is: the strict mailbox grammar of RFC 5321 section 4.1.2 (with the UTF-8 of RFC 6531) and typed values for
 * SIZE (RFC 1870), 8BITMIME (RFC 6152), DSN (RFC 3461), SMTPUTF8, REQUIRETLS (RFC 8689) and AUTH (RFC 4954 section 5),
 * pure. What it is not: it knows no header fields, so nothing here is derived from `To:` or `Cc:`; and it does not
 * know what a server offers.
 *
 * @since 0.1.0
 */
import * as Arr from "effect/Array"
import * as Result from "effect/Result"
import * as mailbox from "./internal/mailbox.ts"
import * as parameters from "./internal/parameters.ts"
import { isAscii } from "./internal/xtext.ts"
import { EENVELOPE } from "./SmtpError.ts"
import { escapeText } from "./SmtpReply.ts"

/**
 * When a delivery status notification is wanted (RFC 3461 §4.1). `NEVER` stands alone.
 *
 * @category models
 * @since 0.1.0
 */
export type Notify = parameters.Notify

/**
 * How much of the message a failure notification returns (RFC 3461 §4.3): all of it, or its header fields.
 *
 * @category models
 * @since 0.1.0
 */
export type Ret = "FULL" | "HDRS"

/**
 * The recipient that a notification names (RFC 3461 §4.2); `address` is as the caller means it, not encoded.
 *
 * @category models
 * @since 0.1.0
 */
export type OriginalRecipient = parameters.OriginalRecipient

/**
 * The wishes for delivery status notifications that can differ from recipient to recipient.
 *
 * @category models
 * @since 0.1.0
 */
export interface RecipientDsn {
  /** A list, or the same as comma-delimited text; in any case. */
  readonly notify?: ReadonlyArray<Notify | Lowercase<Notify>> | string | undefined
  /**
   * The original recipient: a mailbox (sent as `rfc822;…`, or `utf-8;…` when it is not ASCII), or `type;address`. At
   * most 500 characters once encoded.
   */
  readonly orcpt?: string | undefined
}

/**
 * The wishes for delivery status notifications (RFC 3461).
 *
 * @category models
 * @since 0.1.0
 */
export interface Dsn extends RecipientDsn {
  /** What a failure notification returns; in any case. */
  readonly ret?: Ret | Lowercase<Ret> | undefined
  /** The envelope identifier that notifications repeat: printable ASCII, at most 100 characters once encoded. */
  readonly envid?: string | undefined
  /** True: send without these wishes when the server does not offer DSN. Default false: such a server is an error. */
  readonly optional?: boolean | undefined
}

/**
 * A recipient with notification wishes of its own, which override the envelope's one by one.
 *
 * @category models
 * @since 0.1.0
 */
export interface RecipientInput {
  readonly address: string
  readonly dsn?: RecipientDsn | undefined
}

/**
 * The envelope as a caller writes it. {@link parse} checks all of it.
 *
 * **Details**
 *
 * An address is bare: `local@domain`, in angle brackets if you like. Not a display name, not a list in one string.
 *
 * @category models
 * @since 0.1.0
 */
export interface Input {
  /** The sender; `""` or `"<>"` is the null sender of bounces. */
  readonly from: string
  /** One recipient or several; `"Postmaster"` needs no domain. */
  readonly to: string | RecipientInput | ReadonlyArray<string | RecipientInput>
  /** Octets of the message, announced with SIZE. */
  readonly size?: number | undefined
  /**
   * Whether the message holds octets above 127, so that BODY=8BITMIME is announced. Left out: strings and octets are
   * scanned, and a stream may hold some if the server offers it. False holds a stream to 7 bits.
   */
  readonly use8BitMime?: boolean | undefined
  /**
   * True: the octets go as they are, line ends too (BODY=BINARYMIME, RFC 3030 §3); the server has to offer BINARYMIME and
   * CHUNKING.
   */
  readonly binaryMime?: boolean | undefined
  /** True: the message's header fields hold UTF-8. A local part that is not ASCII needs no word here. */
  readonly smtpUtf8?: boolean | undefined
  readonly dsn?: Dsn | undefined
  /** True: every hop has to use verified TLS, or bounce (RFC 8689). It is not about STARTTLS here. */
  readonly requireTls?: boolean | undefined
  /** True: when one recipient is refused, send to none. */
  readonly requireAllRecipients?: boolean | undefined
  /** Who submitted the message (AUTH=, RFC 4954 §5): an ASCII mailbox, or `"<>"` for unknown. */
  readonly auth?: string | undefined
}

/**
 * One recipient, checked.
 *
 * @category models
 * @since 0.1.0
 */
export interface Recipient {
  /** As the caller wrote it: what `accepted`, `rejected` and errors show. */
  readonly address: string
  /** As it is sent, without angle brackets. */
  readonly path: string
  readonly notify: ReadonlyArray<Notify> | undefined
  readonly orcpt: OriginalRecipient | undefined
}

/**
 * A checked envelope: every field is as it will be sent.
 *
 * @category models
 * @since 0.1.0
 */
export interface Envelope {
  /** The sender's path without angle brackets; `""` is the null sender. */
  readonly from: string
  readonly recipients: readonly [Recipient, ...ReadonlyArray<Recipient>]
  /** A local part is not ASCII, or the caller asks for SMTPUTF8. */
  readonly needsSmtpUtf8: boolean
  readonly size: number | undefined
  /** As the caller wrote it; undefined = found out from the message. */
  readonly use8BitMime: boolean | undefined
  readonly binaryMime: boolean
  readonly dsn: { readonly ret: Ret | undefined; readonly envid: string | undefined; readonly optional: boolean }
  /** Any DSN parameter is wished for, on MAIL or on an RCPT. */
  readonly needsDsn: boolean
  readonly requireTls: boolean
  readonly requireAllRecipients: boolean
  /** A path without angle brackets, or `"<>"`. */
  readonly auth: string | undefined
}

type Checked<A> = Result.Result<A, EENVELOPE>
type Loose<A> = { readonly [K in keyof A]?: unknown }

const refuse = (field: string, problem: string, recipient?: string): Result.Result<never, EENVELOPE> =>
  Result.fail(
    new EENVELOPE({
      message: `${field} ${problem}`,
      command: "API",
      attempted: false,
      field,
      ...(recipient === undefined ? {} : { recipient })
    })
  )

const fieldsOf = <A>(field: string, u: unknown, recipient?: string): Checked<Loose<A>> =>
  typeof u === "object" && u !== null && !Array.isArray(u)
    ? Result.succeed(u as Loose<A>)
    : refuse(field, "must be an object", recipient)

const flag = (field: string, u: unknown): Checked<boolean> => {
  const problem = u === undefined ? undefined : parameters.flagProblem(u)
  return problem === undefined ? Result.succeed(u === true) : refuse(field, problem)
}

const withoutBrackets = (text: string): string =>
  text.length > 1 && text.startsWith("<") && text.endsWith(">") ? text.slice(1, -1) : text

type Grammar = typeof mailbox.parse

const mailboxOf = (field: string, u: unknown, grammar: Grammar, recipient?: string): Checked<mailbox.Mailbox> => {
  if (typeof u !== "string") return refuse(field, "must be a string: local@domain", recipient)
  const parsed = grammar(withoutBrackets(u))
  return Result.isSuccess(parsed)
    ? Result.succeed(parsed.success)
    : refuse(field, `"${escapeText(u, 100)}" ${parsed.failure}`, recipient)
}

const nullSender: mailbox.Mailbox = { path: "", isAscii: true }

const senderOf = (u: unknown): Checked<mailbox.Mailbox> => {
  if (u === "" || u === "<>") return Result.succeed(nullSender)
  return typeof u === "string"
    ? mailboxOf("envelope.from", u, mailbox.parse)
    : refuse("envelope.from", `must be a string: local@domain, or "" for the null sender`)
}

const authOf = (u: unknown): Checked<string | undefined> => {
  if (u === undefined || u === "<>") return Result.succeed(u)
  const parsed = mailboxOf("envelope.auth", u, mailbox.parse)
  if (Result.isFailure(parsed)) return Result.fail(parsed.failure)
  return parsed.success.isAscii
    ? Result.succeed(parsed.success.path)
    : refuse("envelope.auth", `must have an ASCII local part; write "<>" if there is no such mailbox`)
}

const sizeOf = (u: unknown): Checked<number | undefined> => {
  const problem = u === undefined ? undefined : parameters.sizeProblem(u)
  return problem === undefined ? Result.succeed(u as number | undefined) : refuse("envelope.size", problem)
}

const retOf = (u: unknown): Checked<Ret | undefined> => {
  const ret = typeof u === "string" ? u.toUpperCase() : u
  return ret === undefined || ret === "FULL" || ret === "HDRS"
    ? Result.succeed(ret)
    : refuse("envelope.dsn.ret", "must be FULL or HDRS")
}

const envidOf = (u: unknown): Checked<string | undefined> => {
  const problem = u === undefined ? undefined : parameters.envidProblem(u)
  return problem === undefined ? Result.succeed(u as string | undefined) : refuse("envelope.dsn.envid", problem)
}

const upper = (u: unknown): unknown => typeof u === "string" ? u.trim().toUpperCase() : u

const notifyOf = (field: string, u: unknown, recipient?: string): Checked<ReadonlyArray<Notify> | undefined> => {
  if (u === undefined) return Result.succeed(undefined)
  const list: unknown = typeof u === "string" ? u.split(",") : u
  const notify = parameters.notifyOf(Array.isArray(list) ? Array.from(list, upper) : list)
  return typeof notify === "string" ? refuse(field, notify, recipient) : Result.succeed(notify)
}

const orcptOf = (field: string, u: unknown, recipient?: string): Checked<OriginalRecipient | undefined> => {
  if (u === undefined) return Result.succeed(undefined)
  let [, type, address = ""] = (typeof u === "string" ? /^([a-z\d-]*);(.*)$/is.exec(u) : null) ?? []
  if (type === undefined) {
    const parsed = mailboxOf(field, u, mailbox.parseRecipient, recipient)
    if (Result.isFailure(parsed)) return Result.fail(parsed.failure)
    address = withoutBrackets(u as string)
    type = isAscii(address) ? "rfc822" : "utf-8"
  }
  const problem = parameters.orcptProblem(type, address)
  return problem === undefined ? Result.succeed({ type, address }) : refuse(field, problem, recipient)
}

interface Wishes {
  readonly notify: ReadonlyArray<Notify> | undefined
  readonly orcpt: OriginalRecipient | undefined
}
const noWishes: Wishes = { notify: undefined, orcpt: undefined }

const wishesOf = (field: string, u: unknown, recipient?: string): Checked<Wishes> =>
  u === undefined ? Result.succeed(noWishes) : Result.gen(function*() {
    const dsn = yield* fieldsOf<RecipientDsn>(field, u, recipient)
    return {
      notify: yield* notifyOf(`${field}.notify`, dsn.notify, recipient),
      orcpt: yield* orcptOf(`${field}.orcpt`, dsn.orcpt, recipient)
    }
  })

interface CheckedRecipient {
  readonly recipient: Recipient
  readonly isAscii: boolean
}

const recipientOf = (field: string, u: unknown, shared: Wishes): Checked<CheckedRecipient> => {
  const isBare = typeof u === "string"
  const fields = isBare ? Result.succeed({ address: u, dsn: undefined }) : fieldsOf<RecipientInput>(field, u)
  if (Result.isFailure(fields)) return refuse(field, "must be a string, local@domain, or an object with one as address")
  const { address, dsn } = fields.success
  if (typeof address !== "string") return refuse(`${field}.address`, "must be a string: local@domain")
  const parsed = mailboxOf(field, address, mailbox.parseRecipient, address)
  if (Result.isFailure(parsed)) return Result.fail(parsed.failure)
  const own = wishesOf(`${field}.dsn`, dsn, address)
  if (Result.isFailure(own)) return Result.fail(own.failure)
  return Result.succeed({
    recipient: {
      address,
      path: parsed.success.path,
      notify: own.success.notify ?? shared.notify,
      orcpt: own.success.orcpt ?? shared.orcpt
    },
    isAscii: parsed.success.isAscii
  })
}

interface CheckedRecipients {
  readonly recipients: Envelope["recipients"]
  readonly isAscii: boolean
}

const recipientsOf = (to: unknown, shared: Wishes): Checked<CheckedRecipients> => {
  const isList = Array.isArray(to)
  const inputs: ReadonlyArray<unknown> = isList ? to : [to]
  if (inputs.length > 1 && shared.orcpt !== undefined) {
    return refuse("envelope.dsn.orcpt", "names one recipient, but there are several; give each its own dsn.orcpt")
  }
  const recipients: Array<Recipient> = []
  let allAscii = true
  for (let index = 0; index < inputs.length; index++) {
    const one = recipientOf(isList ? `envelope.to[${index}]` : "envelope.to", inputs[index], shared)
    if (Result.isFailure(one)) return Result.fail(one.failure)
    recipients.push(one.success.recipient)
    allAscii = allAscii && one.success.isAscii
  }
  return Arr.isArrayNonEmpty(recipients)
    ? Result.succeed({ recipients, isAscii: allAscii })
    : refuse("envelope.to", "has no recipients; give at least one address")
}

interface CheckedDsn {
  readonly dsn: Envelope["dsn"]
  readonly shared: Wishes
}
const noDsn: CheckedDsn = { dsn: { ret: undefined, envid: undefined, optional: false }, shared: noWishes }

const dsnOf = (u: unknown): Checked<CheckedDsn> =>
  u === undefined ? Result.succeed(noDsn) : Result.gen(function*() {
    const dsn = yield* fieldsOf<Dsn>("envelope.dsn", u)
    return {
      dsn: {
        ret: yield* retOf(dsn.ret),
        envid: yield* envidOf(dsn.envid),
        optional: yield* flag("envelope.dsn.optional", dsn.optional)
      },
      shared: yield* wishesOf("envelope.dsn", u)
    }
  })

const hasWish = (one: Recipient): boolean => one.notify !== undefined || one.orcpt !== undefined

const flags = ["use8BitMime", "binaryMime", "smtpUtf8", "requireTls", "requireAllRecipients"] as const

const flagsProblem = (raw: Loose<Input>): EENVELOPE | undefined => {
  for (const name of flags) {
    const checked = flag(`envelope.${name}`, raw[name])
    if (Result.isFailure(checked)) return checked.failure
  }
  return undefined
}

/**
 * Checks an envelope and puts it into wire form.
 *
 * **Details**
 *
 * Everything is checked at run time too, whatever the types say. Addresses are parsed and written out anew: a quoted
 * local part that needs no quotes loses them, a domain in Unicode becomes its A-labels, angle brackets around an address
 * are dropped; nothing else is changed. Limits (RFC 5321 §4.5.3.1, in octets as sent): local part 64, domain 255, path
 * 254. The failure is an `EENVELOPE` with command `"API"`, not attempted, with `field`, and with `recipient` where it is
 * about one.
 *
 * **Gotchas**
 *
 * A domain with a character that Unicode maps to ASCII (a Kelvin sign, a soft hyphen, full-width letters) is refused:
 * it would go out as another name than the one that was written. Underscores in a domain are accepted.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { Result } from "effect"
 * import { Envelope } from "effect-smtp"
 *
 * const envelope = Result.getOrThrow(Envelope.parse({
 *   from: "",
 *   to: ["ann@bücher.example", { address: "<bob@example.com>", dsn: { notify: "success, failure" } }]
 * }))
 * assert.strictEqual(envelope.recipients[0].path, "ann@xn--bcher-kva.example")
 * assert.deepStrictEqual(envelope.recipients[1]?.notify, ["SUCCESS", "FAILURE"])
 * assert.strictEqual(envelope.needsSmtpUtf8, false)
 *
 * const refused = Envelope.parse({ from: "ann@example.com", to: ["Bob <bob@example.com>"] })
 * assert.strictEqual(Result.isFailure(refused) && refused.failure.field, "envelope.to[0]")
 * ```
 *
 * @category decoding
 * @since 0.1.0
 */
export const parse = (input: Input): Result.Result<Envelope, EENVELOPE> => {
  // Without a generator, which would take three times as long as the work.
  const fields = fieldsOf<Input>("envelope", input)
  if (Result.isFailure(fields)) return Result.fail(fields.failure)
  const raw = fields.success
  const from = senderOf(raw.from)
  if (Result.isFailure(from)) return Result.fail(from.failure)
  const wishes = dsnOf(raw.dsn)
  if (Result.isFailure(wishes)) return Result.fail(wishes.failure)
  const to = recipientsOf(raw.to, wishes.success.shared)
  if (Result.isFailure(to)) return Result.fail(to.failure)
  const size = sizeOf(raw.size)
  if (Result.isFailure(size)) return Result.fail(size.failure)
  const auth = authOf(raw.auth)
  if (Result.isFailure(auth)) return Result.fail(auth.failure)
  const problem = flagsProblem(raw)
  if (problem !== undefined) return Result.fail(problem)
  const { dsn } = wishes.success
  const { isAscii, recipients } = to.success
  return Result.succeed({
    from: from.success.path,
    recipients,
    needsSmtpUtf8: raw.smtpUtf8 === true || !from.success.isAscii || !isAscii,
    size: size.success,
    use8BitMime: raw.use8BitMime as boolean | undefined,
    binaryMime: raw.binaryMime === true,
    dsn,
    needsDsn: dsn.ret !== undefined || dsn.envid !== undefined || recipients.some(hasWish),
    requireTls: raw.requireTls === true,
    requireAllRecipients: raw.requireAllRecipients === true,
    auth: auth.success
  })
}
