/** Turns on a connection: nobody is overtaken, and a turn is never lost. */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scheduler from "effect/Scheduler"
import { Turn } from "../src/internal/turn.ts"

const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

/** Whoever asks now gets it at once. */
const isFree = (turn: Turn): boolean => {
  const free = turn.tryTake()
  if (free) turn.release()
  return free
}

describe("a turn", () => {
  it.effect("is taken by those who wait in the order in which they came", () =>
    Effect.gen(function*() {
      const turn = new Turn()
      const order: Array<number> = []
      const go = yield* Deferred.make<void>()
      const holder = yield* fork(turn.within(Deferred.await(go)))
      assert.isFalse(turn.isWanted)
      const others = yield* Effect.forEach([1, 2, 3, 4], (i) => fork(turn.within(Effect.sync(() => order.push(i)))))
      assert.isTrue(turn.isWanted)
      assert.isFalse(turn.tryTake())
      yield* Fiber.interrupt(others[1]!)
      yield* Deferred.succeed(go, undefined)
      yield* Fiber.join(holder)
      for (const i of [0, 2, 3]) yield* Fiber.join(others[i]!)
      assert.deepStrictEqual(order, [1, 3, 4])
      assert.isFalse(turn.isWanted)
      assert.isTrue(isFree(turn))
    }))

  it.effect("is given back whatever its user ends in", () =>
    Effect.gen(function*() {
      const turn = new Turn()
      for (const end of [Effect.void, Effect.fail("no"), Effect.die("no"), Effect.interrupt]) {
        yield* Effect.exit(turn.within(end))
        assert.isTrue(isFree(turn))
      }
      const fiber = yield* fork(turn.within(Effect.never))
      assert.isFalse(isFree(turn))
      yield* Fiber.interrupt(fiber)
      assert.isTrue(isFree(turn))
    }))

  it.effect("tells its holder that somebody began to wait", () =>
    Effect.gen(function*() {
      const turn = new Turn()
      let told = 0
      turn.onWanted = () => {
        told++
      }
      assert.isTrue(turn.tryTake())
      const fiber = yield* fork(turn.within(Effect.void))
      assert.deepStrictEqual([told, turn.isWanted], [1, true])
      turn.release()
      yield* Fiber.join(fiber)
      assert.deepStrictEqual([told, turn.isWanted], [1, false])
    }))

  it.effect("is not waited for by who wants it only if it is free", () =>
    Effect.gen(function*() {
      const turn = new Turn()
      let ran = 0
      const run = turn.ifFree(Effect.sync(() => ran++))
      yield* run
      assert.isTrue(turn.tryTake())
      yield* run
      assert.strictEqual(ran, 1)
      turn.release()
      yield* run
      assert.strictEqual(ran, 2)
    }))

  it.effect("is not lost when it is given to somebody who is interrupted at that moment", () =>
    Effect.gen(function*() {
      for (let at = 1; at < 30; at++) {
        const turn = new Turn()
        assert.isTrue(turn.tryTake())
        let count = 0
        let waiter: Fiber.Fiber<unknown, unknown> | undefined
        class Stopper extends Scheduler.MixedScheduler {
          override shouldYield(): boolean {
            if (++count !== at) return false
            queueMicrotask(() => waiter?.interruptUnsafe())
            return true
          }
        }
        waiter = yield* Effect.forkDetach(
          turn.within(Effect.yieldNow).pipe(Effect.provideService(Scheduler.Scheduler, new Stopper()))
        )
        const next = yield* Effect.forkDetach(Effect.andThen(Effect.yieldNow, turn.within(Effect.succeed("next"))))
        yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
        turn.release()
        assert.strictEqual(yield* Fiber.join(next), "next")
        const exit = yield* Fiber.await(waiter)
        assert.isTrue(Exit.isSuccess(exit) || count >= at)
        assert.isTrue(isFree(turn), `lost at operation ${at}`)
      }
    }))
})
