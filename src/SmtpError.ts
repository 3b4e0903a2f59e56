/**
 * The errors of the client: one flat union of tagged classes, named after Nodemailer's codes, and the one table that
 * decides which of them a failure is.
 *
 * **Details**
 *
 * Tag = class name = code, so `Effect.catchTag("EAUTH", …)` works directly. Every class is a Schema class: a failure
 * can be stored as JSON and read back with every answer (`isTemporary`, `inDoubt`, `reply`, …) intact.
 *
 * @since 0.1.0
 */
import type * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Schema from "effect/Schema"
import { commandOf, describe, type Failure, refusalTag, type Where } from "./internal/classification.ts"
import * as errorCause from "./internal/errorCause.ts"
import * as SmtpReply from "./SmtpReply.ts"

/**
 * What every error answers, beside its stored fields.
 *
 * @category models
 * @since 0.1.0
 */
export interface Answers {
  /** The tag again, under the name Nodemailer's users know. */
  readonly code: Tag
  /** The text of the server's reply, when the error holds one. Untrusted. */
  readonly response: string | undefined
  /** The three-digit code of the server's reply, when the error holds one. */
  readonly responseCode: number | undefined
  /** The enhanced status code of the server's reply (RFC 3463). */
  readonly enhancedCode: string | undefined
  /** Whether trying again later may help: what is stored, else the reply's first digit (4yz), else the tag. */
  readonly isTemporary: boolean
}

/**
 * The deadlines that an `ETIMEDOUT` can name.
 *
 * @category models
 * @since 0.1.0
 */
export const TimeoutName = Schema.Literals([
  "dns",
  "connect",
  "greeting",
  "tls",
  "command",
  "data",
  "final",
  "idle",
  "quit",
  "total"
])
/** @since 0.1.0 */
export type TimeoutName = typeof TimeoutName.Type

const common = {
  /** One sentence for a person; server text in it is escaped. */
  message: Schema.String,
  /** The step: "CONN", "EHLO", "STARTTLS", "AUTH PLAIN", "MAIL FROM", "RCPT TO", "DATA", …; "API" = refused on our side before a byte was sent. */
  command: Schema.String,
  /** The server's reply, when it was one that caused the failure. */
  reply: Schema.optional(SmtpReply.SmtpReply),
  /** What lies beneath, e.g. the operating system's or OpenSSL's error; its `code` survives JSON. */
  cause: Schema.optional(errorCause.ErrorCause),
  /** Whether trying again may help, where that is not what the reply or else the tag says: it wins over both. */
  temporary: Schema.optional(Schema.Boolean),
  /** Whether the server may have accepted the message although no final reply was read. */
  inDoubt: errorCause.defaultTo(false),
  /** False when nothing of this call reached the server. */
  attempted: errorCause.defaultTo(true),
  /** True when the terminator, or a part of it, was handed to the transport: nothing tries again by itself then. */
  handedOver: errorCause.defaultTo(false),
  /** The recipient that the error is about, as the caller wrote it. */
  recipient: Schema.optional(Schema.String),
  /** The input that is at fault, e.g. "envelope.to[1]" or "options.tls". */
  field: Schema.optional(Schema.String)
}

/** Name not resolved; `temporary` is what the resolver says. @category errors @since 0.1.0 */
export class EDNS extends Schema.TaggedError<EDNS, Answers>()("EDNS", {
  ...common,
  host: Schema.String
}) {}

/** Refused in the greeting or EHLO, 421, or closed by the peer. @category errors @since 0.1.0 */
export class ECONNECTION extends Schema.TaggedError<ECONNECTION, Answers>()("ECONNECTION", common) {}

/** An operating-system socket error; see `cause.code`. @category errors @since 0.1.0 */
export class ESOCKET extends Schema.TaggedError<ESOCKET, Answers>()("ESOCKET", common) {}

/** A deadline of ours passed; `timeout` says which. @category errors @since 0.1.0 */
export class ETIMEDOUT extends Schema.TaggedError<ETIMEDOUT, Answers>()("ETIMEDOUT", {
  ...common,
  timeout: TimeoutName
}) {}

/** The proxy refused or is unreachable. @category errors @since 0.1.0 */
export class EPROXY extends Schema.TaggedError<EPROXY, Answers>()("EPROXY", common) {}

/** Handshake, certificate or name; STARTTLS missing or refused while required; plaintext after the 220. @category errors @since 0.1.0 */
export class ETLS extends Schema.TaggedError<ETLS, Answers>()("ETLS", common) {}

/** REQUIRETLS asked for and not possible here (RFC 8689). @category errors @since 0.1.0 */
export class EREQUIRETLS extends Schema.TaggedError<EREQUIRETLS, Answers>()("EREQUIRETLS", common) {}

/** The server broke the grammar or the order of replies. @category errors @since 0.1.0 */
export class EPROTOCOL extends Schema.TaggedError<EPROTOCOL, Answers>()("EPROTOCOL", common) {}

/** Credentials refused, no common mechanism, or the exchange broke. `tried` lists the mechanisms. @category errors @since 0.1.0 */
export class EAUTH extends Schema.TaggedError<EAUTH, Answers>()("EAUTH", {
  ...common,
  tried: Schema.optional(Schema.Array(Schema.String)),
  /** What the server says of a refused OAuth2 token (XOAUTH2 and OAUTHBEARER), bounded and escaped. */
  oauth2: Schema.optional(
    Schema.Struct({
      status: Schema.String,
      schemes: Schema.optional(Schema.String),
      scope: Schema.optional(Schema.String)
    })
  )
}) {}

/** The server wants AUTH and none is configured. @category errors @since 0.1.0 */
export class ENOAUTH extends Schema.TaggedError<ENOAUTH, Answers>()("ENOAUTH", common) {}

/** The token provider failed; the request and its cause are not kept. @category errors @since 0.1.0 */
export class EOAUTH2 extends Schema.TaggedError<EOAUTH2, Answers>()("EOAUTH2", {
  ...common,
  status: Schema.optional(Schema.Int),
  error: Schema.optional(Schema.String),
  errorDescription: Schema.optional(Schema.String)
}) {}

/**
 * Sender, every recipient, or DATA refused; or ours: a bad address, none given, an extension needed and not offered.
 * When recipients were refused, `rejectedErrors` has one error for each.
 *
 * @category errors
 * @since 0.1.0
 */
export class EENVELOPE extends Schema.TaggedError<EENVELOPE, Answers>()("EENVELOPE", {
  ...common,
  rejectedErrors: Schema.optional(
    Schema.Array(Schema.suspend((): Schema.Codec<RecipientError, unknown> => RecipientError))
  )
}) {}

/**
 * Too large, refused in or after the body; or ours: 8-bit octets that the server cannot take. Over LMTP, when every
 * recipient was refused after the body, `rejectedErrors` has one error for each.
 *
 * @category errors
 * @since 0.1.0
 */
export class EMESSAGE extends Schema.TaggedError<EMESSAGE, Answers>()("EMESSAGE", {
  ...common,
  rejectedErrors: Schema.optional(
    Schema.Array(Schema.suspend((): Schema.Codec<RecipientError, unknown> => RecipientError))
  )
}) {}

/** An untyped source failed, or a one-shot source was asked to run twice. @category errors @since 0.1.0 */
export class ESTREAM extends Schema.TaggedError<ESTREAM, Answers>()("ESTREAM", common) {}

/** Options contradict each other; `field` names the one to change. @category errors @since 0.1.0 */
export class ECONFIG extends Schema.TaggedError<ECONFIG, Answers>()("ECONFIG", common) {}

/** The schema of every error: store a failure as JSON and read it back. @category models @since 0.1.0 */
export const SmtpError = Schema.Union([
  EDNS,
  ECONNECTION,
  ESOCKET,
  ETIMEDOUT,
  EPROXY,
  ETLS,
  EREQUIRETLS,
  EPROTOCOL,
  EAUTH,
  ENOAUTH,
  EOAUTH2,
  EENVELOPE,
  EMESSAGE,
  ESTREAM,
  ECONFIG
])
/** Every error. @category models @since 0.1.0 */
export type SmtpError = typeof SmtpError.Type
/** The tag of any error. @category models @since 0.1.0 */
export type Tag = SmtpError["_tag"]

/** What can happen on an open connection whatever is asked of it. @category models @since 0.1.0 */
export type WireError = ECONNECTION | ESOCKET | ETIMEDOUT | EPROTOCOL
/** What can happen until a connection is ready. @category models @since 0.1.0 */
export type ConnectError = EDNS | WireError | EPROXY | ETLS | ECONFIG
/** What a login can end in. @category models @since 0.1.0 */
export type LoginError = EAUTH | EOAUTH2 | ECONFIG | WireError
/** What `send` can end in, beside the errors of the message's own stream. @category models @since 0.1.0 */
export type SendError = EENVELOPE | EMESSAGE | EREQUIRETLS | ENOAUTH | ETLS | ESTREAM | WireError
/** The schema of {@link RecipientError}. @category models @since 0.1.0 */
export const RecipientError = Schema.Union([EENVELOPE, EMESSAGE, ECONNECTION, ESOCKET, ETIMEDOUT, EPROTOCOL])
/** Why one recipient did not get the message; `recipient` names it. @category models @since 0.1.0 */
export type RecipientError = EENVELOPE | EMESSAGE | WireError

const temporaryByTag: { readonly [K in Tag]: boolean } = {
  EDNS: false,
  ECONNECTION: true,
  ESOCKET: true,
  ETIMEDOUT: true,
  EPROXY: true,
  ETLS: false,
  EREQUIRETLS: false,
  EPROTOCOL: false,
  EAUTH: false,
  ENOAUTH: false,
  EOAUTH2: false,
  EENVELOPE: false,
  EMESSAGE: false,
  ESTREAM: false,
  ECONFIG: false
}

const getters: { readonly [K in keyof Answers]: (this: SmtpError) => Answers[K] } = {
  code() {
    return this._tag
  },
  response() {
    return this.reply?.text
  },
  responseCode() {
    return this.reply?.code
  },
  enhancedCode() {
    return this.reply?.enhancedCode
  },
  isTemporary() {
    if (this.temporary !== undefined) return this.temporary
    return this.reply !== undefined && SmtpReply.isRefusal(this.reply)
      ? SmtpReply.isTransient(this.reply)
      : temporaryByTag[this._tag]
  }
}
for (const member of SmtpError.members) {
  for (const [name, get] of Object.entries(getters)) {
    Object.defineProperty(member.prototype, name, { get, configurable: true })
  }
}

/**
 * Whether a value is one of this module's errors.
 *
 * @category guards
 * @since 0.1.0
 */
export const isSmtpError = (u: unknown): u is SmtpError => SmtpError.members.some((member) => u instanceof member)

/**
 * Whether a failure may be tried again as it is: an `SmtpError`, temporary, and not in doubt.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { SmtpError } from "effect-smtp"
 *
 * const lost = { message: "closed by the peer", command: "DATA" }
 * assert.strictEqual(SmtpError.isRetryable(new SmtpError.ECONNECTION(lost)), true)
 * assert.strictEqual(SmtpError.isRetryable(new SmtpError.ECONNECTION({ ...lost, inDoubt: true })), false)
 * assert.strictEqual(SmtpError.isRetryable("boom"), false)
 * ```
 *
 * @category guards
 * @since 0.1.0
 */
export const isRetryable = (e: unknown): boolean => isSmtpError(e) && e.isTemporary && !e.inDoubt

/**
 * What is known of a send that was interrupted: the annotation of its `Cause` (`Cause.annotations`).
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { Cause, Context } from "effect"
 * import { SmtpError } from "effect-smtp"
 *
 * const cause = Cause.annotate(Cause.interrupt(), Context.make(SmtpError.Outcome, { inDoubt: true }))
 * assert.strictEqual(Context.getOrUndefined(Cause.annotations(cause), SmtpError.Outcome)?.inDoubt, true)
 * ```
 *
 * @category models
 * @since 0.1.0
 */
export class Outcome extends Context.Service<Outcome, {
  /** Whether the server may have accepted the message. */
  readonly inDoubt: boolean
  /** The final reply, when it came within the time an interrupted send waits for it; over LMTP a positive one, if any. */
  readonly reply?: SmtpReply.SmtpReply | undefined
}>()("effect-smtp/SmtpError/Outcome") {}

export type {
  /** @since 0.1.0 */
  Failure,
  /** @since 0.1.0 */
  Stage,
  /** @since 0.1.0 */
  Where
} from "./internal/classification.ts"

/** With TLS 1.3 a server judges the client's certificate after the handshake: its alert comes in one of these stages. */
const openings: ReadonlyArray<Where["stage"]> = ["CONN", "TLS", "GREETING", "EHLO", "HELO", "LHLO"]

/** A reply that answers nothing may echo, inside a login, what the server was sent in secret. */
const withoutText = (failure: Failure): Failure =>
  failure._tag === "Unsolicited"
    ? { ...failure, reply: SmtpReply.make(failure.reply.code, failure.reply.enhancedCode ?? "") }
    : failure

const refusals = { ECONNECTION, ETLS, EAUTH, EENVELOPE, EMESSAGE, EPROTOCOL, ENOAUTH }

/**
 * The classification table: which tag a failure gets. First match wins, in the order of the design: a deadline of ours,
 * (a failure inside the TLS handshake is made an `ETLS` by the connector), an errno, a FIN, a well-formed 421, a
 * malformed, early, surplus or wrong-class reply, and else the stage.
 *
 * @category constructors
 * @since 0.1.0
 */
export const classify = (raw: Failure, where: Where): SmtpError => {
  const failure = where.stage === "AUTH" ? withoutText(raw) : raw
  const command = failure._tag === "Quit" ? "API" : where.command ?? commandOf[where.stage] ?? where.stage
  const base = {
    message: describe(failure, command),
    command,
    inDoubt: where.inDoubt ?? false,
    attempted: where.attempted ?? true,
    handedOver: where.handedOver ?? where.stage === "FINAL",
    ...(where.recipient === undefined ? {} : { recipient: where.recipient })
  }
  switch (failure._tag) {
    case "Deadline":
      return new ETIMEDOUT({ ...base, timeout: failure.timeout })
    case "Errno":
      return new ESOCKET({ ...base, cause: failure.cause })
    case "Tls":
      return openings.includes(where.stage)
        ? new ETLS({ ...base, cause: failure.cause })
        : new ESOCKET({ ...base, cause: failure.cause, temporary: false })
    case "Closed":
    case "Released":
      return new ECONNECTION(base)
    case "Quit":
      return new ECONNECTION({ ...base, attempted: false })
    case "Grammar":
      return new EPROTOCOL(base)
    case "Unsolicited":
      return failure.reply.code === 421
        ? new ECONNECTION({ ...base, reply: failure.reply })
        : new EPROTOCOL({ ...base, reply: failure.reply })
    case "Refused":
      return new refusals[refusalTag(where.stage, failure.reply, failure.secure ?? false)]({
        ...base,
        reply: failure.reply
      })
  }
}

/**
 * {@link classify} where only a {@link WireError} can come out: no refusal by stage is among the failures.
 *
 * @category constructors
 * @since 0.1.0
 */
export const classifyWire = (failure: Exclude<Failure, { readonly _tag: "Refused" }>, where: Where): WireError =>
  classify(failure, where) as WireError

/**
 * The first error of a `Cause`, when it is an `SmtpError`.
 *
 * @category getters
 * @since 0.1.0
 */
export const fromCause = (cause: Cause.Cause<unknown>): SmtpError | undefined => {
  for (const reason of cause.reasons) if (reason._tag === "Fail" && isSmtpError(reason.error)) return reason.error
  return undefined
}
