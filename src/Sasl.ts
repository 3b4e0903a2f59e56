/**
 * SASL: credentials, mechanisms, and which mechanism to use.
 *
 * What it is: PLAIN (RFC 4616), LOGIN, CRAM-MD5 (RFC 2195), XOAUTH2, EXTERNAL (RFC 4422 appendix A) and mechanisms of
 * your own, as pure steps over octets. What it is not: it opens nothing, draws no random numbers and asks no provider
 * for a token; `SmtpLogin` resolves secrets, passes the nonce and speaks AUTH (RFC 4954).
 *
 * @since 0.1.0
 */
import type * as Arr from "effect/Array"
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Base64 from "effect/encoding/Base64"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as builtIn from "./internal/sasl/mechanisms.ts"
import * as model from "./internal/sasl/model.ts"
import * as internalXoauth2 from "./internal/sasl/xoauth2.ts"
import type { EOAUTH2 } from "./SmtpError.ts"
import { escapeText } from "./SmtpReply.ts"

export type {
  ChannelBinding,
  Mechanism,
  OAuth2Failure,
  SaslError,
  Session,
  Start,
  StartContext,
  Step
} from "./internal/sasl/model.ts"

/**
 * A password or a token: redacted, or an Effect that provides it, run anew at each login.
 *
 * @category models
 * @since 0.1.0
 */
export type Secret = Redacted.Redacted<string> | Effect.Effect<Redacted.Redacted<string>, EOAUTH2>

/**
 * The token that the server has just refused, for the provider that gave it.
 *
 * **Details**
 *
 * After a refused OAuth2 token (535, or an error in a 334) a login asks an Effect that is its token once more, with this
 * set, and tries again when the token it gets is another. `OAuth2` refreshes then; a provider of your own may read it,
 * and give up what it has cached.
 *
 * @category models
 * @since 0.1.0
 */
export const RefusedToken: Context.Reference<Redacted.Redacted<string> | undefined> = Context.Reference<
  Redacted.Redacted<string> | undefined
>("effect-smtp/Sasl/RefusedToken", { defaultValue: () => undefined })

/**
 * A user and a password: PLAIN, LOGIN, CRAM-MD5.
 *
 * @category models
 * @since 0.1.0
 */
export interface Password {
  readonly _tag: "Password"
  readonly username: string
  readonly password: Secret
  readonly authorizationId?: string | undefined
}

/**
 * A user and a bearer token: XOAUTH2.
 *
 * @category models
 * @since 0.1.0
 */
export interface OAuth2 {
  readonly _tag: "OAuth2"
  readonly username: string
  readonly token: Secret
}

/**
 * The identity that the connection already proved, such as by a client certificate: EXTERNAL.
 *
 * @category models
 * @since 0.1.0
 */
export interface External {
  readonly _tag: "External"
  readonly authorizationId?: string | undefined
}

/**
 * A mechanism of your own, with what it needs.
 *
 * @category models
 * @since 0.1.0
 */
export interface Custom {
  readonly _tag: "Custom"
  readonly mechanism: model.Mechanism
  readonly username?: string | undefined
  readonly secret?: Secret | undefined
}

/**
 * What a login is made with.
 *
 * @category models
 * @since 0.1.0
 */
export type Credentials = Password | OAuth2 | External | Custom

/**
 * Credentials of a user with a password.
 *
 * **Details**
 *
 * The password goes out as UTF-8, unchanged. `authorizationId` is the identity to act as, when it is not the user's
 * own; LOGIN and CRAM-MD5 cannot carry it.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { Redacted } from "effect"
 * import { Sasl } from "effect-smtp"
 *
 * const credentials = Sasl.password({ username: "tim", password: Redacted.make("tanstaaf") })
 * assert.strictEqual(credentials.username, "tim")
 * assert.ok(!JSON.stringify(credentials).includes("tanstaaf"))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const password = (options: Omit<Password, "_tag">): Password => ({ ...options, _tag: "Password" })

/**
 * Credentials of a user with an OAuth2 access token, without the word "Bearer".
 *
 * @category constructors
 * @since 0.1.0
 */
export const oauth2 = (options: Omit<OAuth2, "_tag">): OAuth2 => ({ ...options, _tag: "OAuth2" })

/**
 * Credentials that the connection itself carries; without `authorizationId` the server derives the identity.
 *
 * @category constructors
 * @since 0.1.0
 */
export const external = (options?: Omit<External, "_tag">): External => ({ ...options, _tag: "External" })

/**
 * Credentials for a mechanism of your own.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { Redacted, Result } from "effect"
 * import { Sasl } from "effect-smtp"
 *
 * const ticket: Sasl.Mechanism = {
 *   name: "X-TICKET",
 *   kind: "custom",
 *   isPlaintext: true,
 *   clientFirst: true,
 *   start: ({ secret }) => Result.succeed(Sasl.sequence([`ticket=${Redacted.value(secret)}`]))
 * }
 * const credentials = Sasl.custom({ mechanism: ticket, secret: Redacted.make("t-1") })
 * const chosen = Sasl.select({ offered: ["PLAIN", "x-ticket"], credentials, secure: true, allowInsecureAuth: false })
 * assert.deepStrictEqual(Result.getOrThrow(chosen), [ticket])
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const custom = (options: Omit<Custom, "_tag">): Custom => ({ ...options, _tag: "Custom" })

/**
 * The secret of credentials, still to be resolved when it is an Effect; EXTERNAL has none.
 *
 * @category getters
 * @since 0.1.0
 */
export const secretOf = (credentials: Credentials): Secret | undefined => {
  switch (credentials._tag) {
    case "Password":
      return credentials.password
    case "OAuth2":
      return credentials.token
    case "External":
      return undefined
    case "Custom":
      return credentials.secret
  }
}

/**
 * The mechanisms of this library, strongest first within each kind.
 *
 * @category mechanisms
 * @since 0.1.0
 */
export const mechanisms: ReadonlyArray<model.Mechanism> = [
  builtIn.plain,
  builtIn.login,
  builtIn.cramMd5,
  internalXoauth2.xoauth2,
  builtIn.external
]

/**
 * A session that says one text after the other (as UTF-8), whatever the challenges are: enough for most mechanisms of
 * your own. Success is believed once all were said.
 *
 * @category mechanisms
 * @since 0.1.0
 */
export const sequence: (texts: ReadonlyArray<string>) => model.Session = model.sequence

/**
 * Starts an exchange: checks the credentials against the mechanism and gives its first session.
 *
 * **Details**
 *
 * `secret` is the resolved {@link secretOf} the credentials. Where the mechanism is `clientFirst`, call
 * `step(undefined)` before AUTH for the initial response; else send AUTH and step with the first challenge.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { Redacted, Result } from "effect"
 * import { Sasl } from "effect-smtp"
 *
 * const secret = Redacted.make("tanstaaftanstaaf")
 * const credentials = Sasl.password({ username: "tim", password: secret })
 * const [plain] = Result.getOrThrow(
 *   Sasl.select({ offered: ["PLAIN", "LOGIN"], credentials, secure: true, allowInsecureAuth: false })
 * )
 * const context = { host: "mx.test", port: 587, nonce: "fyko+d2lbbFgONRv9qkxdawL" }
 * const session = Result.getOrThrow(Sasl.start(plain, credentials, secret, context))
 * const step = Result.getOrThrow(session.step(undefined))
 * assert.ok(step._tag === "Respond")
 * assert.strictEqual(Redacted.value(Sasl.encodeResponse(step.response)), "AHRpbQB0YW5zdGFhZnRhbnN0YWFm")
 * ```
 *
 * @category mechanisms
 * @since 0.1.0
 */
export const start = (
  mechanism: model.Mechanism,
  credentials: Credentials,
  secret: Redacted.Redacted<string> | undefined,
  context: model.StartContext
): Result.Result<model.Session, model.SaslError> =>
  mechanism.start({
    ...context,
    username: ("username" in credentials ? credentials.username : undefined) ?? "",
    secret: secret ?? Redacted.make(""),
    authorizationId: "authorizationId" in credentials ? credentials.authorizationId : undefined
  })

/**
 * Longest challenge line, in characters of base64 (RFC 4954 §4).
 *
 * @category limits
 * @since 0.1.0
 */
export const maxChallengeLength = 12_288

/**
 * Decodes the text of a 334 reply: strict base64 of at most {@link maxChallengeLength} characters; empty is empty.
 *
 * @category encoding
 * @since 0.1.0
 */
export const decodeChallenge = (text: string): Result.Result<Uint8Array, model.SaslError> => {
  if (text.length > maxChallengeLength) {
    return model.fail(`the server's challenge is longer than ${maxChallengeLength} characters`)
  }
  const decoded = Base64.decode(text)
  // The decoder skips line ends and ignores stray bits: only canonical text comes back the same.
  return Result.isSuccess(decoded) && Base64.encode(decoded.success) === text
    ? Result.succeed(decoded.success)
    : model.fail("the server's challenge is not base64")
}

/**
 * Encodes a response in base64; empty is empty (RFC 4954 writes "=" for an empty initial response: `SmtpCommand` does).
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeResponse = (response: Redacted.Redacted<Uint8Array>): Redacted.Redacted<string> =>
  Redacted.make(Base64.encode(Redacted.value(response)))

/**
 * What {@link select} decides from.
 *
 * @category models
 * @since 0.1.0
 */
export interface SelectOptions {
  /** The mechanisms of the AUTH line of the last EHLO; untrusted. */
  readonly offered: ReadonlyArray<string>
  readonly credentials: Credentials
  /** Only these, in this order. */
  readonly mechanisms?: ReadonlyArray<string> | undefined
  /** For passwords: nothing weaker than this in {@link strength}. */
  readonly minimumMechanism?: string | undefined
  /** Whether the connection is verified TLS, or trusted (a unix socket, or declared so). */
  readonly secure: boolean
  readonly allowInsecureAuth: boolean
}

/**
 * Why no mechanism can be used.
 *
 * @category models
 * @since 0.1.0
 */
export interface SelectError {
  readonly _tag: "SelectError"
  /** What the server offered (escaped, bounded), what was possible, and how to mend it. */
  readonly detail: string
}

/**
 * The password mechanisms from strong to weak, as `minimumMechanism` sees them.
 *
 * **Details**
 *
 * SCRAM bound to the TLS channel, SCRAM, then PLAIN before LOGIN: inside verified TLS both hand the password to the
 * server, and PLAIN is the standard. CRAM-MD5 is last: it makes the server keep the password itself, and its digest
 * can be guessed against by whoever sees it.
 *
 * @category mechanisms
 * @since 0.1.0
 */
export const strength: ReadonlyArray<string> = [
  "SCRAM-SHA-512-PLUS",
  "SCRAM-SHA-256-PLUS",
  "SCRAM-SHA-1-PLUS",
  "SCRAM-SHA-512",
  "SCRAM-SHA-256",
  "SCRAM-SHA-1",
  "PLAIN",
  "LOGIN",
  "CRAM-MD5"
]

const same = (a: string) => (b: string): boolean => a.toUpperCase() === b.toUpperCase()
const rank = (name: string): number => strength.findIndex(same(name))

/** Names for a message: each escaped, none long, not too many. */
const list = (names: ReadonlyArray<string>): string => {
  const shown = names.slice(0, 16).map((name) => escapeText(name, 40)).join(", ")
  return names.length > 16 ? `${shown} and ${names.length - 16} more` : shown || "none"
}

const namesOf = (candidates: ReadonlyArray<model.Mechanism>): string => list(candidates.map(({ name }) => name))

const refuse = (detail: string): Result.Result<never, SelectError> => Result.fail({ _tag: "SelectError", detail })

const usableWith = (credentials: Credentials): ReadonlyArray<model.Mechanism> =>
  credentials._tag === "Custom"
    ? [credentials.mechanism]
    : mechanisms.filter(({ kind }) => kind === credentials._tag.toLowerCase())

const allowed = (
  usable: ReadonlyArray<model.Mechanism>,
  names: ReadonlyArray<string> | undefined
): ReadonlyArray<model.Mechanism> =>
  names === undefined
    ? usable
    : [...new Set(names.flatMap((name) => usable.filter((mechanism) => same(name)(mechanism.name))))]

/** The minimum is about passwords: other credentials name their mechanism. A password mechanism it does not know is weaker. */
const isAtLeast = (minimum: string) => ({ kind, name }: model.Mechanism): boolean =>
  kind !== "password" || (rank(name) >= 0 && rank(name) <= rank(minimum))

/** What no exchange can start with, whatever the server offers. */
const faultOf = (options: SelectOptions): string | undefined => {
  if (!options.secure && !options.allowInsecureAuth) {
    return "no credential leaves without verified TLS; set allowInsecureAuth: true to send credentials over this connection all the same"
  }
  if (typeof secretOf(options.credentials) === "string") {
    return "the secret of the credentials is a plain string; give Redacted.make(...) or an Effect of it"
  }
  return options.minimumMechanism !== undefined && rank(options.minimumMechanism) < 0
    ? `minimumMechanism ${list([options.minimumMechanism])} is not known; give one of ${list(strength)}`
    : undefined
}

/**
 * The mechanisms to try, in order: those the server offers, the credentials fit, and the options allow.
 *
 * **Details**
 *
 * Without `mechanisms` the strongest comes first: PLAIN, LOGIN, and CRAM-MD5 last; with it, its own order. Names are
 * compared without case. XOAUTH2 goes with OAuth2 credentials alone, EXTERNAL with external ones, a custom mechanism
 * with its own. Nothing is selected on a connection that is not `secure`, unless `allowInsecureAuth`.
 *
 * **Gotchas**
 *
 * Go on to the next after a refused mechanism (504, 534, 538), not after refused credentials (535): each try shows the
 * secret again and counts against the account.
 *
 * @category mechanisms
 * @since 0.1.0
 */
export const select = (
  options: SelectOptions
): Result.Result<Arr.NonEmptyReadonlyArray<model.Mechanism>, SelectError> => {
  const fault = faultOf(options)
  if (fault !== undefined) return refuse(fault)
  const usable = usableWith(options.credentials)
  const listed = allowed(usable, options.mechanisms)
  const strong = options.minimumMechanism === undefined ? listed : listed.filter(isAtLeast(options.minimumMechanism))
  const [first, ...others] = strong.filter(({ name }) => options.offered.some(same(name)))
  if (first !== undefined) return Result.succeed([first, ...others])
  const possible = [
    `the server offers ${list(options.offered)}`,
    `these credentials can use ${namesOf(usable)}`,
    ...(options.mechanisms === undefined ? [] : [`mechanisms allows ${list(options.mechanisms)}`]),
    ...(options.minimumMechanism === undefined ? [] : [`minimumMechanism is ${list([options.minimumMechanism])}`])
  ]
  return refuse(`no common authentication mechanism: ${possible.join("; ")}`)
}
