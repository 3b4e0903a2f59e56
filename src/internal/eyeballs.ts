/**
 * Several addresses of one host, dialled a moment apart, the first that connects wins (Happy Eyeballs, RFC 8305): an
 * address that drops packets costs a quarter of a second, not its share of the connect deadline.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"

/** How long an attempt has before the next begins beside it (RFC 8305 §5). */
const attemptDelay = "250 millis"

const familyOf = (address: string | undefined): 4 | 6 => address?.includes(":") === true ? 6 : 4

/** The addresses with the families in turn, beginning with that of the first (RFC 8305 §4). */
export const interleaved = <T extends { readonly address: string | undefined }>(
  targets: ReadonlyArray<T>
): ReadonlyArray<T> => {
  if (targets.length < 2) return targets
  const first = familyOf(targets[0]?.address)
  const [own, other] = [first, first === 4 ? 6 : 4].map((family) =>
    targets.filter(({ address }) => familyOf(address) === family)
  ) as [Array<T>, Array<T>]
  return Array.from({ length: targets.length }, (_, i) => [own[i], other[i]]).flat().filter((t) => t !== undefined)
}

/** Which attempt won, and how those failed that were begun before it. */
interface Won<A, E> {
  readonly index: number
  readonly value: A
  readonly failures: ReadonlyMap<number, E>
}

/** One attempt: when it may begin, when it has, and when it is known to have failed. */
interface Lane {
  readonly begun: Deferred.Deferred<void>
  readonly failed: Deferred.Deferred<void>
}

/**
 * Runs the attempts, each from the moment the one before it has failed or has had its time. What the winner opened is in
 * the scope; what the others did is freed. Fails with all failures, in order.
 */
export const race = Effect.fnUntraced(function*<A, E, R>(
  attempts: ReadonlyArray<Effect.Effect<A, E, R | Scope.Scope>>
): Effect.fn.Return<Won<A, E>, ReadonlyMap<number, E>, R | Scope.Scope> {
  const scope = yield* Scope.Scope
  const failures = new Map<number, E>()
  const scopes: Array<Scope.Closeable> = []
  const lanes: ReadonlyArray<Lane> = attempts.map(() => ({
    begun: Deferred.makeUnsafe(),
    failed: Deferred.makeUnsafe()
  }))
  const run = Effect.fnUntraced(function*(attempt: Effect.Effect<A, E, R | Scope.Scope>, index: number) {
    const before = lanes[index - 1]
    if (before !== undefined) {
      yield* Deferred.await(before.begun)
      yield* Effect.timeoutOption(Deferred.await(before.failed), attemptDelay)
    }
    const own = scopes[index] = yield* Scope.fork(scope)
    yield* Deferred.succeed(lanes[index]!.begun, undefined)
    return yield* Scope.provide(attempt, own).pipe(
      Effect.map((value) => ({ index, value })),
      Effect.tapError((error) => {
        failures.set(index, error)
        return Deferred.succeed(lanes[index]!.failed, undefined)
      })
    )
  })
  const freed = (winner: number | undefined) =>
    Effect.forEach(scopes, (own, index) => index === winner ? Effect.void : Scope.close(own, Exit.void), {
      discard: true
    })
  const won = yield* Effect.raceAll(attempts.map(run)).pipe(
    Effect.onExit((exit) => freed(Exit.isSuccess(exit) ? exit.value.index : undefined)),
    Effect.mapError(() => failures)
  )
  return { ...won, failures }
})
