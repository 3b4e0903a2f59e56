/**
 * The shapes of a SASL exchange and the few functions every mechanism is made of. `Sasl.ts` exports the types.
 */
import * as Base64 from "effect/encoding/Base64"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"

/**
 * Why a mechanism cannot go on. It holds no secret and no text of the server.
 *
 * @category models
 * @since 0.1.0
 */
export interface SaslError {
  readonly _tag: "SaslError"
  /** What is wrong and how to mend it. */
  readonly detail: string
  /** The input at fault, e.g. "credentials.username"; absent when it is the server. */
  readonly field?: string | undefined
}

/**
 * What a server says of a refused OAuth2 token: bounded, escaped, ready for the `oauth2` field of `EAUTH`.
 *
 * @category models
 * @since 0.1.0
 */
export interface OAuth2Failure {
  readonly status: string
  readonly schemes?: string | undefined
  readonly scope?: string | undefined
}

/**
 * What a channel-binding mechanism ties the login to (RFC 5929, RFC 9266).
 *
 * @category models
 * @since 0.1.0
 */
export interface ChannelBinding {
  readonly type: "tls-exporter" | "tls-server-end-point" | "tls-unique"
  readonly data: Uint8Array
}

/**
 * What is known of the connection when an exchange starts.
 *
 * @category models
 * @since 0.1.0
 */
export interface StartContext {
  readonly host: string
  readonly port: number
  /** Fresh printable randomness of at least 128 bits, without comma: the module makes none itself. */
  readonly nonce: string
  /** What the client binds to where the mechanism does; absent without TLS. */
  readonly channelBinding?: ChannelBinding | undefined
  /** The mechanisms that the server offered. */
  readonly offered?: ReadonlyArray<string> | undefined
}

/**
 * All a mechanism gets to start with.
 *
 * @category models
 * @since 0.1.0
 */
export interface Start extends StartContext {
  /** Empty where the credentials have none. */
  readonly username: string
  /** Empty where the credentials have none. */
  readonly secret: Redacted.Redacted<string>
  readonly authorizationId: string | undefined
}

/**
 * What to do next in an exchange.
 *
 * **Details**
 *
 * - `Respond`: send the octets (as base64; as the initial response when there was no challenge yet) and go on with `next`.
 * - `Derive`: run PBKDF2 with these parameters, off the event loop, and give the key to `resume`.
 * - `Done`: nothing is left to say. A challenge that is answered with `Done` is surplus: cancel with `*` and fail.
 *
 * @category models
 * @since 0.1.0
 */
export type Step =
  | { readonly _tag: "Respond"; readonly response: Redacted.Redacted<Uint8Array>; readonly next: Session }
  | {
    readonly _tag: "Derive"
    readonly hash: "SHA-1" | "SHA-256" | "SHA-512"
    readonly password: Redacted.Redacted<string>
    readonly salt: Uint8Array
    readonly iterations: number
    /** Octets of key wanted. */
    readonly length: number
    readonly resume: (key: Redacted.Redacted<Uint8Array>) => Result.Result<Step, SaslError>
  }
  | { readonly _tag: "Done" }

/**
 * One state of one exchange. It is immutable: a step gives the next session.
 *
 * @category models
 * @since 0.1.0
 */
export interface Session {
  /**
   * Answers a challenge (decoded from base64). Undefined stands for "before any challenge" and asks for the initial
   * response: only where the mechanism is `clientFirst`.
   */
  readonly step: (challenge: Uint8Array | undefined) => Result.Result<Step, SaslError>
  /** Whether success (235) may be believed in this state. */
  readonly finish: () => Result.Result<void, SaslError>
  /** What the server said of a refused token, once it did. */
  readonly failure?: OAuth2Failure | undefined
}

/**
 * One SASL mechanism.
 *
 * @category models
 * @since 0.1.0
 */
export interface Mechanism {
  /** As in AUTH, upper case. */
  readonly name: string
  /** The credentials it takes. */
  readonly kind: "password" | "oauth2" | "external" | "anonymous" | "custom"
  /** Whether the secret itself is sent: whoever listens, the server included, learns it. */
  readonly isPlaintext: boolean
  /** Whether it may send an initial response with AUTH. */
  readonly clientFirst: boolean
  /** Whether it ties the login to the TLS channel: only for connections with a channel binding. Default false. */
  readonly bindsChannel?: boolean | undefined
  /** Whether it is used only where the list of allowed mechanisms names it. Default false. */
  readonly isObsolete?: boolean | undefined
  readonly start: (input: Start) => Result.Result<Session, SaslError>
}

const encoder = new TextEncoder()

export const utf8 = (text: string): Uint8Array => encoder.encode(text)

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

/** UTF-8 as text; undefined when it is none. */
export const textOf = (octets: Uint8Array): string | undefined =>
  Result.getOrUndefined(Result.try(() => decoder.decode(octets)))

/** Strict base64; undefined when it is none. The decoder skips line ends and ignores stray bits: only canonical text comes back the same. */
export const fromBase64 = (text: string): Uint8Array | undefined => {
  const decoded = Result.getOrUndefined(Base64.decode(text))
  return decoded !== undefined && Base64.encode(decoded) === text ? decoded : undefined
}

export const concat = (...parts: ReadonlyArray<Uint8Array>): Uint8Array => {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0))
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.length
  }
  return whole
}

/** A name in a GS2 header or in SCRAM (RFC 5802 §5.1): "," and "=" are written "=2C" and "=3D". */
export const saslName = (text: string): string => text.replaceAll("=", "=3D").replaceAll(",", "=2C")

/** Reads a {@link saslName}; undefined when a "=" begins no such escape. */
export const fromSaslName = (text: string): string | undefined =>
  /=(?!2C|3D)/.test(text) ? undefined : text.replaceAll("=2C", ",").replaceAll("=3D", "=")

export const fail = (detail: string, field?: string): Result.Result<never, SaslError> =>
  Result.fail({ _tag: "SaslError", detail, field })

export const respond = (response: Uint8Array, next: Session): Result.Result<Step> =>
  Result.succeed({ _tag: "Respond", response: Redacted.make(response), next })

/** Nothing left to say; success may be believed. */
export const ended: Session = {
  step: () => Result.succeed({ _tag: "Done" }),
  finish: () => Result.void
}

/** Success comes too early in every state but the last. */
export const early = (): Result.Result<never, SaslError> =>
  fail("the server reported success before the exchange was complete")

/** Says one text after the other, whatever the challenges are. */
export const sequence = (texts: ReadonlyArray<string>): Session => {
  const [text, ...rest] = texts
  return text === undefined ? ended : { step: () => respond(utf8(text), sequence(rest)), finish: early }
}

/** The first state of a mechanism in which the server speaks first. */
export const serverFirst = (answer: (challenge: Uint8Array) => Result.Result<Step, SaslError>): Session => ({
  step: (challenge) => challenge === undefined ? fail("the mechanism has no initial response") : answer(challenge),
  finish: early
})

/** One text of the credentials, and what it must not hold. */
export interface Text {
  readonly field: string
  readonly text: string
  readonly refused: RegExp
  /** The refused characters in words. */
  readonly named: string
}

const faultOf = ({ field, named, refused, text }: Text): string | undefined => {
  if (typeof text !== "string") return `${field} is not a string`
  if (text === "") return `${field} is empty; give one`
  if (/[\ud800-\udfff]/u.test(text)) {
    return `${field} is not well-formed Unicode (lone surrogate); it cannot be sent as UTF-8`
  }
  return refused.test(text) ? `${field} holds ${named}; remove it` : undefined
}

// oxlint-disable-next-line no-control-regex -- NUL delimits the fields of PLAIN, and SCRAM and DIGEST-MD5 forbid it
const nul = { refused: /\u0000/, named: "NUL" }
// oxlint-disable-next-line no-control-regex -- ^A delimits the fields of the bearer mechanisms; no other control belongs into a name
export const controls = { refused: /[\u0000-\u001f\u007f-\u009f]/, named: "a control character" }

/** The identity to act as, where there is one; an empty one is none. */
export const authorizationTexts = ({ authorizationId = "" }: Start): ReadonlyArray<Text> =>
  authorizationId === "" ? [] : [{ field: "credentials.authorizationId", text: authorizationId, ...nul }]

export const passwordTexts = (input: Start): ReadonlyArray<Text> => [
  { field: "credentials.username", text: input.username, ...nul },
  { field: "credentials.password", text: Redacted.value(input.secret), ...nul }
]

/** Starts a session once no text has a fault. */
export const checked = (texts: ReadonlyArray<Text>, session: () => Session): Result.Result<Session, SaslError> => {
  for (const text of texts) {
    const fault = faultOf(text)
    if (fault !== undefined) return fail(fault, text.field)
  }
  return Result.succeed(session())
}
