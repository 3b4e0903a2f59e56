/**
 * The policies as options of a client, and the order in which they are put around it.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as SmtpError from "../../SmtpError.ts"
import { aDuration, refuse } from "./checks.ts"
import type { Client, ClientError, Options } from "./model.ts"
import { retryTemporary } from "./retryTemporary.ts"
import { adaptive, type AdaptiveConcurrencyOptions } from "./withAdaptiveConcurrency.ts"
import { type CircuitBreakerOptions, circuitBroken } from "./withCircuitBreaker.ts"
import { withFallback } from "./withFallback.ts"
import { rateLimited, type RateLimitOptions } from "./withRateLimit.ts"
import { withTimeout } from "./withTimeout.ts"

/**
 * The policies towards one server.
 *
 * @category models
 * @since 0.1.0
 */
export interface ServerPolicies {
  /** At most so many sends in any window of time; see `withRateLimit`. */
  readonly rateLimit?: RateLimitOptions | undefined
  /** As many sends at once as the server likes; see `withAdaptiveConcurrency`. */
  readonly adaptiveConcurrency?: AdaptiveConcurrencyOptions | undefined
  /** Leaves a server alone that cannot be reached; see `withCircuitBreaker`. */
  readonly circuitBreaker?: CircuitBreakerOptions | undefined
}

/**
 * The policies of a client; none is in use unless it is given.
 *
 * **Details**
 *
 * From the inside to the outside: `rateLimit`, `adaptiveConcurrency`, `circuitBreaker`, `fallback`, `retry`, `timeout`.
 * So the rate limit stands next to the wire, and every try counts against it; an open circuit fails at once, before
 * anything waits; another server is asked before the same ones are tried again; and the deadline covers waiting, all
 * servers and all tries. For a deadline over each try there is `timeouts.total`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Policies extends ServerPolicies {
  /** Other servers, in order, for when this one fails; see `withFallback`. Each has its own connections and policies. */
  readonly fallback?: ReadonlyArray<Options & ServerPolicies> | undefined
  /** Tries again after temporary failures; see `retryTemporary`. */
  readonly retry?: Schedule.Schedule<unknown, ClientError> | undefined
  /** A deadline over each call as a whole; see `withTimeout`. */
  readonly timeout?: Duration.Input | undefined
}

const towardsServer = Effect.fnUntraced(function*(
  client: Client,
  { adaptiveConcurrency, circuitBreaker, rateLimit }: ServerPolicies,
  at: string
) {
  const limited = rateLimit === undefined ? client : yield* rateLimited(client, rateLimit, `${at}.rateLimit`)
  const adapting = adaptiveConcurrency === undefined
    ? limited
    : yield* adaptive(limited, adaptiveConcurrency, `${at}.adaptiveConcurrency`)
  return circuitBreaker === undefined
    ? adapting
    : yield* circuitBroken(adapting, circuitBreaker, `${at}.circuitBreaker`)
})

/** A mistake in the options of a fallback, under the name that they have among all options. */
const within = (at: string) => ({ field, message }: SmtpError.ECONFIG): SmtpError.ECONFIG =>
  refuse((field ?? "options").replace(/^options\b/, () => at), message.slice(message.indexOf(": ") + 2))

/**
 * Puts the policies around a client. `make` makes the clients of the other servers, with the means of the first.
 */
export const applyPolicies = Effect.fnUntraced(function*<R>(
  client: Client,
  policies: Policies,
  make: (options: Options) => Effect.Effect<Client, SmtpError.ECONFIG, R>
): Effect.fn.Return<Client, SmtpError.ECONFIG, R> {
  const { fallback = [], retry, timeout } = policies
  if (!Array.isArray(fallback)) {
    return yield* refuse("options.fallback", `expected an array of options, e.g. [{ host: "mx2.example.com" }]`)
  }
  if (retry !== undefined && !Schedule.isSchedule(retry)) {
    return yield* refuse("options.retry", "expected a Schedule, e.g. Schedule.exponential(\"1 second\")")
  }
  if (timeout !== undefined) yield* Effect.fromResult(aDuration("options.timeout", timeout, "1 minute"))
  const first = yield* towardsServer(client, policies, "options")
  const others = yield* Effect.forEach(fallback, (one, index) => {
    const at = `options.fallback[${index}]`
    return Effect.flatMap(Effect.mapError(make(one), within(at)), (other) => towardsServer(other, one, at))
  })
  const servers = others.length === 0 ? first : withFallback([first, ...others])
  const retried = retry === undefined ? servers : retryTemporary(servers, retry)
  return timeout === undefined ? retried : withTimeout(retried, timeout)
})
