/**
 * Checks of the values that policies are made of.
 */
import * as Duration from "effect/Duration"
import * as Result from "effect/Result"
import * as SmtpError from "../../SmtpError.ts"

/** What a check makes of a value. */
export type Checked<A> = Result.Result<A, SmtpError.ECONFIG>

export const refuse = (field: string, message: string): SmtpError.ECONFIG =>
  new SmtpError.ECONFIG({ message: `${field}: ${message}`, command: "API", field, attempted: false })

export const refused = (field: string, message: string): Checked<never> => Result.fail(refuse(field, message))

export const aRecord = (field: string, value: unknown, example: string): Checked<void> =>
  typeof value === "object" && value !== null ? Result.void : refused(field, `expected an object, e.g. ${example}`)

export const aCount = (field: string, value: number, most: number): Checked<number> =>
  Number.isInteger(value) && value >= 1 && value <= most
    ? Result.succeed(value)
    : refused(field, `expected a whole number from 1 to ${most}`)

/** Milliseconds. */
export const aDuration = (field: string, value: Duration.Input, example: string): Checked<number> => {
  const duration = Duration.fromInput(value)
  const millis = duration._tag === "None" ? NaN : Duration.toMillis(duration.value)
  return millis > 0 && Number.isFinite(millis)
    ? Result.succeed(millis)
    : refused(field, `expected a finite, positive duration, e.g. "${example}"`)
}

export const oneOf = <A>(field: string, value: unknown, allowed: ReadonlyArray<A>): Checked<void> =>
  allowed.includes(value as A)
    ? Result.void
    : refused(field, `expected ${allowed.map((a) => JSON.stringify(a)).join(" or ")}`)
