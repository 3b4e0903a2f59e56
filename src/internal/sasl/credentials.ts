/**
 * What a login is made with. `Sasl.ts` exports the types.
 */
import type * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import type { EOAUTH2 } from "../../SmtpError.ts"
import type { Mechanism } from "./model.ts"

/**
 * A password or a token: redacted, or an Effect that provides it, run anew at each login.
 *
 * @category models
 * @since 0.1.0
 */
export type Secret = Redacted.Redacted<string> | Effect.Effect<Redacted.Redacted<string>, EOAUTH2>

/**
 * A user and a password: SCRAM, PLAIN, LOGIN, CRAM-MD5, DIGEST-MD5.
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
 * A user and a bearer token: OAUTHBEARER, XOAUTH2.
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
 * Nobody in particular: ANONYMOUS.
 *
 * @category models
 * @since 0.1.0
 */
export interface Anonymous {
  readonly _tag: "Anonymous"
  /** Whom to ask about the login, such as an address; it proves nothing. */
  readonly trace?: string | undefined
}

/**
 * A mechanism of your own, with what it needs.
 *
 * @category models
 * @since 0.1.0
 */
export interface Custom {
  readonly _tag: "Custom"
  readonly mechanism: Mechanism
  readonly username?: string | undefined
  readonly secret?: Secret | undefined
}

/**
 * What a login is made with.
 *
 * @category models
 * @since 0.1.0
 */
export type Credentials = Password | OAuth2 | External | Anonymous | Custom

/** The secret of credentials, still to be resolved when it is an Effect. */
export const secretOf = (credentials: Credentials): Secret | undefined => {
  switch (credentials._tag) {
    case "Password":
      return credentials.password
    case "OAuth2":
      return credentials.token
    case "Custom":
      return credentials.secret
    default:
      return undefined
  }
}

/** The name that a mechanism starts with; empty where there is none. */
export const nameOf = (credentials: Credentials): string => {
  switch (credentials._tag) {
    case "External":
      return ""
    case "Anonymous":
      return credentials.trace ?? ""
    default:
      return credentials.username ?? ""
  }
}
