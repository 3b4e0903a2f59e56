/**
 * What an upgrade to TLS on a wire ends in before or instead of its handshake.
 */
import * as SmtpError from "../SmtpError.ts"

export const surplus = (command: string): SmtpError.ETLS =>
  new SmtpError.ETLS({
    message: `${command}: the server sent plaintext before the TLS handshake; the connection is not trusted`,
    command
  })

export const deadline = (command: string): SmtpError.ETIMEDOUT =>
  SmtpError.classify({ _tag: "Deadline", timeout: "tls" }, { stage: "TLS", command }) as SmtpError.ETIMEDOUT

export const lost = (failure: SmtpError.Failure, command: string): SmtpError.ETLS =>
  new SmtpError.ETLS({
    message: `${command}: the connection was lost before the TLS handshake`,
    command,
    temporary: true,
    ...(failure._tag === "Errno" ? { cause: failure.cause } : {})
  })
