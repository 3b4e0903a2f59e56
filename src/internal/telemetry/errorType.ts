/**
 * The type of an error, as metrics and spans know it.
 */
import * as SmtpError from "../../SmtpError.ts"

/** OpenTelemetry's word for an error that has no type here, such as one of the message's own stream. */
export const other = "_OTHER"

/** One of few: the tag of an error of this library, or the word for all others. */
export const errorTypeOf = (error: unknown): string => SmtpError.isSmtpError(error) ? error._tag : other
