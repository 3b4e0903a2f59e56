/**
 * SASL: credentials, mechanisms, and which mechanism to use.
 *
 * What it is: SCRAM with SHA-1, SHA-256 and SHA-512, with and without channel binding (RFC 5802, RFC 7677), PLAIN
 * (RFC 4616), LOGIN, CRAM-MD5 (RFC 2195), DIGEST-MD5 (RFC 2831), OAUTHBEARER (RFC 7628), XOAUTH2, EXTERNAL (RFC 4422
 * appendix A), ANONYMOUS (RFC 4505) and mechanisms of your own, as pure steps over octets. What it is not: it opens
 * nothing, draws no random numbers, derives no keys and asks no provider for a token; `SmtpLogin` resolves secrets,
 * passes the nonce, runs PBKDF2 and speaks AUTH (RFC 4954).
 *
 * @since 0.1.0
 */
import type * as Arr from "effect/Array"
import * as Context from "effect/Context"
import * as Base64 from "effect/encoding/Base64"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as given from "./internal/sasl/credentials.ts"
import * as model from "./internal/sasl/model.ts"
import * as internalScram from "./internal/sasl/scram.ts"
import * as internalSelect from "./internal/sasl/select.ts"

export type { Anonymous, Credentials, Custom, External, OAuth2, Password, Secret } from "./internal/sasl/credentials.ts"
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
export type { SelectError, SelectOptions } from "./internal/sasl/select.ts"

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
 * Credentials of a user with a password.
 *
 * **Details**
 *
 * By SCRAM the password itself never goes out; both ends prepare it by SASLprep (RFC 4013). By PLAIN and LOGIN it goes
 * out as UTF-8, unchanged. `authorizationId` is the identity to act as, when it is not the user's own; LOGIN and CRAM-MD5
 * cannot carry it.
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
export const password = (options: Omit<given.Password, "_tag">): given.Password => ({ ...options, _tag: "Password" })

/**
 * Credentials of a user with an OAuth2 access token, without the word "Bearer".
 *
 * @category constructors
 * @since 0.1.0
 */
export const oauth2 = (options: Omit<given.OAuth2, "_tag">): given.OAuth2 => ({ ...options, _tag: "OAuth2" })

/**
 * Credentials that the connection itself carries; without `authorizationId` the server derives the identity.
 *
 * @category constructors
 * @since 0.1.0
 */
export const external = (options?: Omit<given.External, "_tag">): given.External => ({ ...options, _tag: "External" })

/**
 * No credentials: ANONYMOUS, for servers that take mail from anybody who says so.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { Result } from "effect"
 * import { Sasl } from "effect-smtp"
 *
 * const credentials = Sasl.anonymous({ trace: "ann@example.test" })
 * const options = { credentials, secure: true, allowInsecureAuth: false }
 * const [chosen] = Result.getOrThrow(Sasl.select({ ...options, offered: ["PLAIN", "ANONYMOUS"] }))
 * assert.strictEqual(chosen.name, "ANONYMOUS")
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const anonymous = (options?: Omit<given.Anonymous, "_tag">): given.Anonymous => ({
  ...options,
  _tag: "Anonymous"
})

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
export const custom = (options: Omit<given.Custom, "_tag">): given.Custom => ({ ...options, _tag: "Custom" })

/**
 * The secret of credentials, still to be resolved when it is an Effect; EXTERNAL and ANONYMOUS have none.
 *
 * @category getters
 * @since 0.1.0
 */
export const secretOf: (credentials: given.Credentials) => given.Secret | undefined = given.secretOf

/**
 * The mechanisms of this library, strongest first within each kind.
 *
 * @category mechanisms
 * @since 0.1.0
 */
export const mechanisms: ReadonlyArray<model.Mechanism> = internalSelect.mechanisms

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
  credentials: given.Credentials,
  secret: Redacted.Redacted<string> | undefined,
  context: model.StartContext
): Result.Result<model.Session, model.SaslError> =>
  mechanism.start({
    ...context,
    username: given.nameOf(credentials),
    secret: secret ?? Redacted.make(""),
    authorizationId: "authorizationId" in credentials ? credentials.authorizationId : undefined
  })

/**
 * Fewest iterations of PBKDF2 that SCRAM runs (RFC 7677 §4); a server that asks for fewer is refused.
 *
 * @category limits
 * @since 0.1.0
 */
export const minIterations: number = internalScram.minIterations

/**
 * Most iterations of PBKDF2 that SCRAM runs; a server that asks for more is refused.
 *
 * @category limits
 * @since 0.1.0
 */
export const maxIterations: number = internalScram.maxIterations

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
  const decoded = model.fromBase64(text)
  return decoded === undefined ? model.fail("the server's challenge is not base64") : Result.succeed(decoded)
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
 * The password mechanisms from strong to weak, as `minimumMechanism` sees them.
 *
 * **Details**
 *
 * SCRAM bound to the TLS channel, SCRAM, then PLAIN before LOGIN: inside verified TLS both hand the password to the
 * server, and PLAIN is the standard. CRAM-MD5 makes the server keep the password itself, and its digest can be guessed
 * against by whoever sees it; DIGEST-MD5, last, is retired (RFC 6331) and needs `mechanisms` to name it.
 *
 * @category mechanisms
 * @since 0.1.0
 */
export const strength: ReadonlyArray<string> = internalSelect.strength

/**
 * The mechanisms to try, in order: those the server offers, the credentials fit, and the options allow.
 *
 * **Details**
 *
 * Without `mechanisms` the strongest comes first, as in {@link strength}, and OAUTHBEARER before XOAUTH2; with it, its own
 * order. Names are compared without case. OAUTHBEARER and XOAUTH2 go with OAuth2 credentials alone, EXTERNAL with external
 * ones, ANONYMOUS with anonymous ones, a custom mechanism with its own. The -PLUS mechanisms need `canBind`; with
 * `channelBinding: "required"` there are no others. Nothing is selected on a connection that is not `secure`, unless
 * `allowInsecureAuth`.
 *
 * **Gotchas**
 *
 * Go on to the next after a refused mechanism (504, 534, 538), not after refused credentials (535): each try shows the
 * secret again and counts against the account.
 *
 * @category mechanisms
 * @since 0.1.0
 */
export const select: (
  options: internalSelect.SelectOptions
) => Result.Result<Arr.NonEmptyReadonlyArray<model.Mechanism>, internalSelect.SelectError> = internalSelect.select
