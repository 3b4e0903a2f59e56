/**
 * One token for all who ask: kept until shortly before its end, one request in flight, and a new one when the server
 * refused the token that is kept.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberSet from "effect/FiberSet"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as Sasl from "../../Sasl.ts"
import type { EOAUTH2 } from "../../SmtpError.ts"
import * as model from "./model.ts"

type Token = Redacted.Redacted<string>

const same = (a: Token | undefined, b: Token): boolean => a !== undefined && Redacted.value(a) === Redacted.value(b)

/** The scope ended, or the request interrupted itself: to those who wait that is a failure, not an interruption. */
const ended = (): EOAUTH2 =>
  model.failed(undefined, "the request was interrupted; keep the scope of the provider open while it is used")

interface Options {
  readonly skewMillis: number
  readonly initial?: model.Held | undefined
}

/** Requests run in the context of the builder, beside those who ask: whoever gives up leaves his to the others. */
export const make = <R>(
  request: Effect.Effect<model.Held, EOAUTH2, R>,
  options: Options
): Effect.Effect<Effect.Effect<Token, EOAUTH2>, never, R | Scope.Scope> =>
  Effect.map(FiberSet.makeRuntime<R>(), (fork) => {
    let held = options.initial
    let flight: Fiber.Fiber<Token, EOAUTH2> | undefined
    const refresh = Effect.map(request, (next) => {
      held = next
      return next.token
    })
    const join = (): Fiber.Fiber<Token, EOAUTH2> => {
      if (flight !== undefined) return flight
      const fiber = fork(refresh)
      flight = fiber
      fiber.addObserver(() => {
        flight = undefined
      })
      return fiber
    }
    return Effect.gen(function*() {
      const refused = yield* Sasl.RefusedToken
      const now = yield* Clock.currentTimeMillis
      if (held !== undefined && now < held.ends - options.skewMillis && !same(refused, held.token)) return held.token
      const exit = yield* Fiber.await(join())
      return yield* Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause) ? Effect.fail(ended()) : exit
    })
  })
