/**
 * Leaving a server alone that cannot be reached.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { dual } from "effect/Function"
import * as CircuitBreaker from "effect/persistence/CircuitBreaker"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as SmtpError from "../../SmtpError.ts"
import { held, isConnectionFault, isThrottled } from "./again.ts"
import { aCount, aDuration, aRecord, type Checked } from "./checks.ts"
import { type Client, withSendAll } from "./model.ts"
import type { CircuitState } from "./state.ts"

/**
 * The options of {@link withCircuitBreaker}.
 *
 * @category models
 * @since 0.1.0
 */
export interface CircuitBreakerOptions {
  /** How many failures in a row open the circuit. Default 5. */
  readonly failures?: number | undefined
  /** How long it then stays open before one call may probe the server. Default 30 seconds. */
  readonly openFor?: Duration.Input | undefined
}

const most = 1_000_000

/** One client is one circuit. */
const key = "smtp"

/** What the end of a call says of the server: that it is well, that it is not, or nothing. */
const outcomeOf = (exit: Exit.Exit<unknown, unknown>): CircuitBreaker.Outcome => {
  if (Exit.isSuccess(exit)) return CircuitBreaker.success
  const error = SmtpError.fromCause(exit.cause)
  if (error === undefined || error.command === "API") return CircuitBreaker.ignored
  // At RCPT TO 4.7.x is greylisting: it concerns one recipient.
  const isTurnedAway = isThrottled(error) && (error.command !== "RCPT TO" || error.responseCode === 421)
  if (isConnectionFault(error) || isTurnedAway) return CircuitBreaker.failure()
  const isAnswered = error._tag === "EENVELOPE" || error._tag === "EMESSAGE"
  return isAnswered && !error.isTemporary ? CircuitBreaker.success : CircuitBreaker.ignored
}

const rejected = ({ reason }: CircuitBreaker.CircuitBreakerError): SmtpError.ECONNECTION =>
  held(
    reason._tag === "CircuitOpen"
      ? `the circuit is open after failures in a row; nothing is tried for ${
        Duration.format(reason.retryAfter)
      }: send again then, or by another server (withFallback)`
      : "the circuit is half open, and another call probes the server; send again shortly, or by another server (withFallback)"
  )

const statuses = { Closed: "closed", Open: "open", HalfOpen: "half-open" } as const

const visible = (state: CircuitBreaker.State): CircuitState => ({
  status: statuses[state._tag],
  retryAfter: state._tag === "Open" ? state.retryAfter : Duration.zero
})

/** The scope would end the stream of transitions, which nobody listens to: the breaker holds nothing else. */
const own = Effect.fnUntraced(function*(failures: number, openFor: number) {
  const scope = yield* Scope.make()
  return yield* CircuitBreaker.make({
    tripPolicy: CircuitBreaker.consecutive(failures),
    openDuration: Duration.millis(openFor)
  }).pipe(
    Effect.provide(CircuitBreaker.layerStoreMemory(), { local: true }),
    Effect.provideService(Scope.Scope, scope)
  )
})

/** Logs when the circuit opened or closed since it was last looked at. */
const makeWatch = (state: Effect.Effect<CircuitBreaker.State>): Effect.Effect<void> => {
  let openings = 0
  return Effect.flatMap(state, (now) => {
    const before = openings
    openings = now._tag === "Closed" ? 0 : now.consecutiveOpenings
    if (now._tag === "Open" && openings > before) {
      return Effect.logWarning(`smtp: the circuit opens for ${Duration.format(now.retryAfter)}`)
    }
    return now._tag === "Closed" && before > 0 ? Effect.logInfo("smtp: the circuit is closed again") : Effect.void
  })
}

/** Checks the options, and puts the defaults in place; `openFor` in milliseconds. */
export const checkCircuit = (
  options: CircuitBreakerOptions,
  at: string
): Checked<{ readonly failures: number; readonly openFor: number }> =>
  Result.gen(function*() {
    yield* aRecord(at, options, `{ failures: 5, openFor: "30 seconds" }`)
    return {
      failures: yield* aCount(`${at}.failures`, options.failures ?? 5, most),
      openFor: yield* aDuration(`${at}.openFor`, options.openFor ?? "30 seconds", "30 seconds")
    }
  })

/** `at`: what the options are called where they were given. */
export const circuitBroken = Effect.fnUntraced(function*(
  self: Client,
  options: CircuitBreakerOptions,
  at: string
): Effect.fn.Return<Client, SmtpError.ECONFIG> {
  const { failures, openFor } = yield* Effect.fromResult(checkCircuit(options, at))
  const breaker = yield* own(failures, openFor)
  // A store in memory does not fail.
  const state = Effect.orDie(breaker.state(key))
  const watch = makeWatch(state)

  const guarded = <A, E, R>(call: Effect.Effect<A, E, R>): Effect.Effect<A, E | SmtpError.ECONNECTION, R> =>
    Effect.suspend(() => {
      let isAdmitted = false
      const admitted = Effect.suspend(() => {
        isAdmitted = true
        return call
      })
      // Not by its type: the message's own stream may fail with the error of another breaker.
      return breaker.execute<A, E, R>(admitted, { key, classify: outcomeOf }).pipe(
        Effect.mapError((error) => isAdmitted ? error as E : rejected(error as CircuitBreaker.CircuitBreakerError)),
        Effect.ensuring(watch)
      )
    })

  return withSendAll({
    ...self,
    send: (envelope, message) => guarded(self.send(envelope, message)),
    use: (f) => guarded(self.use(f)),
    verify: guarded(self.verify),
    policies: Effect.zipWith(self.policies, state, (inner, now) => ({ ...inner, circuitBreaker: visible(now) }))
  })
})

/**
 * A client that leaves the server alone after some failures of the connection in a row.
 *
 * **Details**
 *
 * What counts: `EDNS`, `ECONNECTION`, `ESOCKET`, `ETIMEDOUT`, `EPROXY`, `ETLS`, `EPROTOCOL`, and replies that say 421 or
 * 4.7.x (except greylisting at RCPT TO). A success, or a message refused for good, begins the count anew; anything else,
 * interruption among it, changes nothing.
 *
 * After `failures` of them every `send`, `use` and `verify` fails at once with `ECONNECTION` (temporary, not attempted,
 * command "API") for `openFor`; then one call goes through as a probe, and its end closes the circuit or opens it again.
 * Put retries outside, so that each try counts; a deadline inside, since a call that is interrupted tells nothing.
 * `client.policies` shows the state, and changes are logged.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { Effect } from "effect"
 * import { SmtpClient } from "effect-smtp"
 * import { SmtpServer } from "effect-smtp/testing"
 *
 * const program = Effect.gen(function*() {
 *   const down = yield* SmtpClient.make({ host: "mx.test" })
 *   const smtp = yield* SmtpClient.withCircuitBreaker(down, { failures: 2, openFor: "1 minute" })
 *   const send = smtp.send({ from: "a@me.test", to: "b@mx.test" }, "Subject: x\n\nx\n")
 *   yield* Effect.flip(send)
 *   yield* Effect.flip(send)
 *   return [yield* Effect.flip(send), (yield* smtp.policies).circuitBreaker?.status] as const
 * })
 * const refusing = SmtpServer.layer({ faults: [SmtpServer.at("connect", SmtpServer.reset, { occurrence: "every" })] })
 * const [error, status] = await Effect.runPromise(program.pipe(Effect.provide(refusing)))
 * assert.deepStrictEqual([error._tag, error.attempted, status], ["ECONNECTION", false, "open"])
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const withCircuitBreaker: {
  (options: CircuitBreakerOptions): (self: Client) => Effect.Effect<Client, SmtpError.ECONFIG>
  (self: Client, options: CircuitBreakerOptions): Effect.Effect<Client, SmtpError.ECONFIG>
} = dual(2, (self: Client, options: CircuitBreakerOptions) => circuitBroken(self, options, "options"))
