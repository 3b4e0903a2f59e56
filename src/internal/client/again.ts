/**
 * When a send may be done again by itself, here or elsewhere, and what its failure says of the server.
 */
import * as SmtpError from "../../SmtpError.ts"

/** Whether a send may be repeated by itself: a temporary failure, no part of the terminator handed over. */
export const mayRepeat = (error: unknown): boolean =>
  SmtpError.isRetryable(error) && !(error as SmtpError.SmtpError).handedOver

/** The server could not be reached, secured, or understood. */
const connection: ReadonlySet<SmtpError.Tag> = new Set([
  "EDNS",
  "ECONNECTION",
  "ESOCKET",
  "ETIMEDOUT",
  "EPROXY",
  "ETLS",
  "EPROTOCOL"
])

/** The server was reached and did not let us in. */
const login: ReadonlySet<SmtpError.Tag> = new Set(["EAUTH", "ENOAUTH", "EOAUTH2"])

export const isConnectionFault = (error: SmtpError.SmtpError): boolean => connection.has(error._tag)

/** 421, or a status that speaks of a policy (RFC 3463 4.7.x): what servers say to those who send too much at once. */
export const isThrottled = (error: SmtpError.SmtpError): boolean =>
  error.responseCode === 421 || error.enhancedCode?.startsWith("4.7.") === true

/** Whether another server may be asked: this one failed, not the message, and it has nothing of the message. */
export const mayGoElsewhere = (error: unknown): error is SmtpError.SmtpError =>
  SmtpError.isSmtpError(error) && !error.inDoubt && !error.handedOver &&
  (isConnectionFault(error) || login.has(error._tag) || error.isTemporary)

/** A send that a policy does not let through. */
export const held = (message: string, cause?: unknown): SmtpError.ECONNECTION =>
  new SmtpError.ECONNECTION({
    message,
    command: "API",
    attempted: false,
    ...(cause === undefined ? {} : { cause })
  })
