import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Schema from "effect/Schema"
import { Durations } from "../../src/cli/percentiles.ts"

const of = (...millis: ReadonlyArray<number>): Durations => {
  const durations = new Durations()
  for (const one of millis) durations.add(one)
  return durations
}

describe("durations in buckets", () => {
  it("say nothing but zero when there are none", () => {
    assert.deepStrictEqual(of().summary(), { count: 0, min: 0, mean: 0, p50: 0, p90: 0, p99: 0, max: 0 })
  })

  it("know the extremes and the mean exactly", () => {
    const { count, max, mean, min } = of(0.3, 7, 1.7).summary()
    assert.deepStrictEqual({ count, max, mean, min }, { count: 3, max: 7, mean: 3, min: 0.3 })
  })

  it("give the one duration there is as every percentile", () => {
    const { p50, p90, p99 } = of(12.34).summary()
    assert.deepStrictEqual([p50, p90, p99], [12.34, 12.34, 12.34])
  })

  it.prop(
    "give percentiles by nearest rank to within one percent",
    [Arbitrary.schema(Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 10_000_000 }))))],
    ([micros]) => {
      const millis = micros.map((one) => one / 1000)
      const sorted = millis.toSorted((a, b) => a - b)
      const durations = of(...millis)
      return sorted.length === 0 || [1, 50, 90, 99, 100].every((percent) => {
        const exact = sorted[Math.max(1, Math.ceil(sorted.length * percent / 100)) - 1]!
        return Math.abs(durations.percentile(percent) - exact) <= 0.0101 * exact
      })
    }
  )

  it("take what is below a microsecond as one bucket", () => {
    assert.deepStrictEqual(of(0, 0.0001, 0.001).under([0.001, 1]), [3, 0])
  })

  it("fall under the first bound that is not below them", () => {
    assert.deepStrictEqual(of(0.4, 0.9, 1.5, 4, 10).under([1, 2, 5]), [2, 1, 1])
  })

  it("count the greatest under a bound that equals it", () => {
    assert.deepStrictEqual(of(3, 5).under([5]), [2])
  })
})
