/**
 * The one retry that a pool makes by itself: a message on a connection that had gone stale costs no message.
 */
import * as Stream from "effect/Stream"
import * as SmtpError from "../SmtpError.ts"
import { isReplayable, type Message } from "./message.ts"

/** A message, and whether its stream was pulled: then it cannot be read again. */
export interface Source<E, R> {
  readonly message: Message<E, R>
  isPulled: boolean
}

/** Watches whether a stream is pulled; strings, octets and what was marked as replayable can always be read again. */
export const watched = <E, R>(message: Message<E, R>): Source<E, R> => {
  if (!Stream.isStream(message) || isReplayable(message)) return { message, isPulled: false }
  const source: { message: Message<E, R>; isPulled: boolean } = { message, isPulled: false }
  source.message = Stream.suspend(() => {
    source.isPulled = true
    return message
  })
  return source
}

/**
 * Whether a send that failed on a connection that was not dialled for it is made again on a fresh one. Only a loss is:
 * ECONNECTION or ESOCKET that is temporary and not in doubt, no part of the terminator handed over, and a message that
 * can be read again.
 */
export const mayRenew = (error: unknown, source: { readonly isPulled: boolean }): boolean =>
  !source.isPulled && (error instanceof SmtpError.ECONNECTION || error instanceof SmtpError.ESOCKET) &&
  SmtpError.isRetryable(error) && !error.handedOver
