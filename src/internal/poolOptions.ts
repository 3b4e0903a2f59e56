/**
 * The policy of a pool: its public shape, its defaults, and what is refused.
 */
import * as Duration from "effect/Duration"
import * as Result from "effect/Result"
import * as SmtpError from "../SmtpError.ts"
import type * as options from "./options.ts"

/**
 * The policy of a pool.
 *
 * **Details**
 *
 * Durations are `Duration.Input`. What contradicts itself is `ECONFIG` that names the field, e.g. `options.pool.max`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** Connections kept open while nobody sends, as far as the server lets. Default 0: the first send dials. */
  readonly min?: number | undefined
  /** Most connections at once, those that say QUIT included. Default 5. */
  readonly max?: number | undefined
  /** How long a connection above `min` waits for work before it says QUIT. Default 30 seconds; `Duration.infinity`: for ever. */
  readonly idleTimeout?: Duration.Input | undefined
  /** Messages that one connection takes before it says QUIT; `Infinity`: no bound. Default 100. */
  readonly maxMessages?: number | undefined
  /**
   * How old a connection gets, busy ones to the end of their message. Each lives between 80 and 100 % of it, by chance,
   * so that not all end together. Default 10 minutes.
   */
  readonly maxAge?: Duration.Input | undefined
  /** Calls that may wait for a connection; one more fails at once with `ECONNECTION`, temporary. Default 10 000. */
  readonly maxWaiting?: number | undefined
  /**
   * How long a call waits for a connection while all are lent; then it fails with `ECONNECTION`, temporary. The dial and
   * the send are not in it. Default 5 minutes; `Duration.infinity`: for ever.
   */
  readonly acquireTimeout?: Duration.Input | undefined
  /** How long sends in flight may go on when the scope closes; their connections are closed then. Default 10 seconds. */
  readonly drain?: Duration.Input | undefined
}

/**
 * The options of the connections, and the policy of their pool.
 *
 * @category models
 * @since 0.1.0
 */
export interface PooledOptions extends options.Options {
  readonly pool?: Options | undefined
}

/** The policy with every default in place; durations in milliseconds. */
export type Resolved = { readonly [K in keyof Required<Options>]: number }

const numbers = { min: 0, max: 5, maxMessages: 100, maxWaiting: 10_000 }
const durations = {
  idleTimeout: "30 seconds",
  maxAge: "10 minutes",
  acquireTimeout: "5 minutes",
  drain: "10 seconds"
} as const

const refuse = (field: string, message: string): Result.Result<never, SmtpError.ECONFIG> => {
  const name = field === "" ? "options.pool" : `options.pool.${field}`
  return Result.fail(
    new SmtpError.ECONFIG({ message: `${name}: ${message}`, command: "API", field: name, attempted: false })
  )
}

const isCount = (value: unknown, least: number, mayBeInfinite: boolean): value is number =>
  (Number.isInteger(value) && (value as number) >= least) || (mayBeInfinite && value === Infinity)

/** Checks the policy and puts the defaults in place. */
export const resolve = (pool: Options = {}): Result.Result<Resolved, SmtpError.ECONFIG> => {
  if (typeof pool !== "object" || pool === null) return refuse("", "expected an object, e.g. { max: 5 }")
  const resolved = { ...numbers, idleTimeout: 0, maxAge: 0, acquireTimeout: 0, drain: 0 }
  for (const field of ["max", "min", "maxMessages", "maxWaiting"] as const) {
    const value = pool[field] ?? numbers[field]
    const least = field === "max" || field === "maxMessages" ? 1 : 0
    const mayBeInfinite = field.startsWith("max") && field !== "max"
    if (!isCount(value, least, mayBeInfinite)) {
      return refuse(field, `expected a whole number of ${least} or more${mayBeInfinite ? ", or Infinity" : ""}`)
    }
    resolved[field] = value
  }
  if (resolved.min > resolved.max) {
    return refuse("min", `${resolved.min} is more than max, which is ${resolved.max}; raise max, or lower min`)
  }
  for (const field of ["idleTimeout", "maxAge", "acquireTimeout", "drain"] as const) {
    const duration = Duration.fromInput(pool[field] ?? durations[field])
    const millis = duration._tag === "None" ? NaN : Duration.toMillis(duration.value)
    if (!(field === "drain" ? millis >= 0 : millis > 0)) {
      return refuse(field, "expected a positive duration, e.g. \"30 seconds\"; Duration.infinity turns it off")
    }
    resolved[field] = millis
  }
  return Result.succeed(resolved)
}
