/**
 * Acquisition in steps that can be interrupted and frees what it holds as soon as it fails.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"

/** Runs in a scope of its own that lives in the outer one, and is closed at once when the effect fails. */
export const scopedOnFailure = <A, E, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E, Exclude<R, Scope.Scope> | Scope.Scope> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(Scope.Scope, (outer) => {
      const scope = Scope.forkUnsafe(outer)
      return Effect.onExit(
        restore(Scope.provide(effect, scope)),
        (exit) => Exit.isFailure(exit) ? Scope.close(scope, exit) : Effect.void
      )
    })
  )
