/**
 * What can be seen of a client from outside: the state of the policies around it.
 */
import type * as Duration from "effect/Duration"

/**
 * What a rate limit is doing.
 *
 * @category models
 * @since 0.1.0
 */
export interface RateLimitState {
  readonly limit: number
  readonly window: Duration.Duration
  /** Sends that count against the limit now: under way, or within a window of their end (or start, if so chosen). */
  readonly used: number
  /** Sends that wait for their turn. */
  readonly waiting: number
}

/**
 * What a circuit breaker is doing.
 *
 * @category models
 * @since 0.1.0
 */
export interface CircuitState {
  /** "closed": calls run. "open": they fail at once. "half-open": one call probes the server, the others fail at once. */
  readonly status: "closed" | "open" | "half-open"
  /** How long the circuit stays open; zero unless it is. */
  readonly retryAfter: Duration.Duration
}

/**
 * What an adaptive limit on concurrency is doing.
 *
 * @category models
 * @since 0.1.0
 */
export interface ConcurrencyState {
  /** How many sends may run at once, as of now. */
  readonly limit: number
  readonly running: number
  /** Sends that wait for their turn. */
  readonly waiting: number
}

/**
 * What the policies of a client are doing; a policy that is not in use has no field.
 *
 * @category models
 * @since 0.1.0
 */
export interface PolicyState {
  readonly rateLimit?: RateLimitState | undefined
  readonly circuitBreaker?: CircuitState | undefined
  readonly adaptiveConcurrency?: ConcurrencyState | undefined
  /** Of `withFallback` and `roundRobin`: the state of each of their clients, in their order. */
  readonly clients?: ReadonlyArray<PolicyState> | undefined
}
