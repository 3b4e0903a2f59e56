/**
 * What the token providers have in common: a token with its end, and the two errors. Nothing here holds a secret that
 * is not redacted, and no error keeps a request or a cause.
 */
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as SmtpError from "../../SmtpError.ts"
import { escapeText } from "../../SmtpReply.ts"

/** A token and when it ends, in milliseconds since the epoch; Infinity where nobody said. */
export interface Held {
  readonly token: Redacted.Redacted<string>
  readonly ends: number
}

export const config = (field: string, message: string): Result.Result<never, SmtpError.ECONFIG> =>
  Result.fail(
    new SmtpError.ECONFIG({ command: "API", attempted: false, field, message: `${field}: ${message}` })
  )

/** The provider failed for this user; `detail` is escaped by whoever holds foreign text. */
export const failed = (
  username: string | undefined,
  detail: string,
  more: Pick<Partial<SmtpError.EOAUTH2>, "status" | "error" | "errorDescription" | "temporary"> = {}
): SmtpError.EOAUTH2 => {
  const whose = username === undefined ? "" : ` for ${escapeText(username, 254)}`
  return new SmtpError.EOAUTH2({ ...more, command: "AUTH", message: `no OAuth2 token${whose}: ${detail}` })
}

/** A field that must be a text with something in it. */
export const text = (field: string, value: unknown): Result.Result<void, SmtpError.ECONFIG> =>
  typeof value === "string" && value !== "" ? Result.void : config(field, "expected a non-empty string")

/** A field that must be redacted; callers in JavaScript forget it. */
export const secret = (field: string, value: unknown): Result.Result<void, SmtpError.ECONFIG> =>
  Redacted.isRedacted(value) && typeof Redacted.value(value) === "string" && Redacted.value(value) !== ""
    ? Result.void
    : config(field, "expected Redacted.make(...) of a non-empty string")
