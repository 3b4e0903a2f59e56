import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { interleaved, race } from "../src/internal/eyeballs.ts"

const of = (...addresses: ReadonlyArray<string>) => addresses.map((address) => ({ address }))

describe("the order of addresses (RFC 8305 §4)", () => {
  const rows: ReadonlyArray<readonly [ReadonlyArray<string>, ReadonlyArray<string>]> = [
    [["::1", "::2", "1.1.1.1", "2.2.2.2"], ["::1", "1.1.1.1", "::2", "2.2.2.2"]],
    [["1.1.1.1", "2.2.2.2", "::1"], ["1.1.1.1", "::1", "2.2.2.2"]],
    [["1.1.1.1", "2.2.2.2"], ["1.1.1.1", "2.2.2.2"]],
    [["::1"], ["::1"]]
  ]
  for (const [given, wanted] of rows) {
    it(`${given.join(" ")} becomes ${wanted.join(" ")}`, () =>
      assert.deepStrictEqual(interleaved(of(...given)), of(...wanted)))
  }
  it("a target without an address stays where it is", () =>
    assert.deepStrictEqual(interleaved([{ address: undefined }]), [{ address: undefined }]))
})

/** Attempts that take so many milliseconds and then connect, or fail; what is done is noted with its time. */
const attempts = (log: Array<string>, ...plans: ReadonlyArray<readonly [millis: number, works: boolean]>) =>
  Effect.map(TestClock.testClockWith(Effect.succeed), (clock) => {
    const note = (text: string) => Effect.sync(() => log.push(`${clock.currentTimeMillisUnsafe()} ${text}`))
    return plans.map(([millis, works], n) =>
      Effect.gen(function*() {
        yield* note(`dial ${n}`)
        yield* Effect.addFinalizer(() => note(`free ${n}`))
        yield* Effect.sleep(millis)
        return works ? n : yield* Effect.fail(`no ${n}`)
      })
    )
  })

describe("the race", () => {
  const rows: ReadonlyArray<
    readonly [string, ReadonlyArray<readonly [number, boolean]>, number | undefined, ReadonlyArray<string>]
  > = [
    ["the first that connects at once is the only one dialled", [[10, true], [10, true]], 0, ["0 dial 0"]],
    [
      "the next begins after a quarter of a second, and whoever is first wins",
      [[1_000, true], [100, true]],
      1,
      ["0 dial 0", "250 dial 1", "350 free 0"]
    ],
    [
      "the next begins as soon as one has failed",
      [[10, false], [10, false], [10, true]],
      2,
      ["0 dial 0", "10 dial 1", "20 dial 2", "30 free 0", "30 free 1"]
    ],
    [
      "an early one may win after all",
      [[400, true], [1_000, true]],
      0,
      ["0 dial 0", "250 dial 1", "400 free 1"]
    ],
    ["all may fail", [[10, false], [10, false]], undefined, ["0 dial 0", "10 dial 1", "20 free 0", "20 free 1"]]
  ]
  for (const [name, plans, winner, log] of rows) {
    it.effect(name, () =>
      Effect.gen(function*() {
        const seen: Array<string> = []
        const scope = yield* Scope.make()
        const racing = Effect.exit(race(yield* attempts(seen, ...plans)))
        const fiber = yield* Effect.forkChild(Scope.provide(racing, scope), { startImmediately: true })
        yield* TestClock.adjust("10 seconds")
        const exit = yield* Fiber.join(fiber)
        assert.strictEqual(Exit.isSuccess(exit) ? exit.value.index : undefined, winner)
        assert.deepStrictEqual(seen, log)
        yield* Scope.close(scope, Exit.void)
        assert.strictEqual(
          seen.filter((line) => line.includes("free")).length,
          seen.filter((l) => l.includes("dial")).length
        )
      }))
  }

  it.effect("frees all it has begun when it is interrupted", () =>
    Effect.gen(function*() {
      const seen: Array<string> = []
      const racing = Effect.scoped(race(yield* attempts(seen, [10_000, true], [10_000, true], [10_000, true])))
      const fiber = yield* Effect.forkChild(racing, { startImmediately: true })
      yield* TestClock.adjust("300 millis")
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(seen, ["0 dial 0", "250 dial 1", "300 free 0", "300 free 1"])
    }))
})
