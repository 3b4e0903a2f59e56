import { assert, describe, it } from "@effect/vitest"
import { boundsOf, duration, histogram } from "../../src/cli/chart.ts"
import { Durations } from "../../src/cli/percentiles.ts"

const of = (...millis: ReadonlyArray<number>): Durations => {
  const durations = new Durations()
  for (const one of millis) durations.add(one)
  return durations
}

const times = (count: number, millis: number): ReadonlyArray<number> => Array.from({ length: count }, () => millis)

describe("durations for a person", () => {
  it("have three digits and a unit", () => {
    const rendered = [0, 0.0123, 0.5, 1, 1.2345, 12.34, 999.4, 1000, 61_234].map(duration)
    assert.deepStrictEqual(rendered, [
      "0 us",
      "12.3 us",
      "500 us",
      "1 ms",
      "1.23 ms",
      "12.3 ms",
      "999 ms",
      "1 s",
      "61.2 s"
    ])
  })
})

describe("the rows of a histogram", () => {
  it("go by 1, 2, 5 from the least to the greatest", () => {
    assert.deepStrictEqual(boundsOf(0.3, 13), [0.5, 1, 2, 5, 10, 20])
  })

  it("are one row where all durations are alike", () => {
    assert.deepStrictEqual(boundsOf(5, 5), [5])
  })

  it("are twelve at most, the greatest kept", () => {
    const bounds = boundsOf(0.001, 100_000)
    assert.strictEqual(bounds.length, 12)
    assert.strictEqual(bounds.at(-1), 100_000)
  })

  it("begin at a microsecond where the clock saw no time pass", () => {
    assert.deepStrictEqual(boundsOf(0, 0), [0.001])
  })
})

describe("a histogram", () => {
  const durations = of(...times(8, 0.9), ...times(4, 1.8), 4.5)

  it("is nothing where nothing was counted", () => {
    assert.deepStrictEqual(histogram(of(), { columns: 80, blocks: false }), [])
  })

  it("has plain bars as long as their share", () => {
    assert.deepStrictEqual(histogram(durations, { columns: 40, blocks: false }), [
      "  <= 1 ms  8   61.5 %  #################",
      "  <= 2 ms  4   30.8 %  #########",
      "  <= 5 ms  1    7.7 %  ##"
    ])
  })

  it("has bars an eighth of a column fine in block characters", () => {
    assert.deepStrictEqual(histogram(of(...times(16, 0.9), ...times(5, 1.8), 4.5), { columns: 32, blocks: true }), [
      "  <= 1 ms  16   72.7 %  \u2588\u2588\u2588\u2588\u2588\u2588\u2588\u2588",
      "  <= 2 ms   5   22.7 %  \u2588\u2588\u258c",
      "  <= 5 ms   1    4.5 %  \u258c"
    ])
  })

  it("has an empty bar only where nothing is", () => {
    const lines = histogram(of(...times(10_000, 0.9), 4.5), { columns: 40, blocks: false })
    assert.deepStrictEqual(lines.map((line) => line.endsWith("#")), [true, false, true])
  })

  it("fits into narrow and wide terminals", () => {
    for (const columns of [40, 80, 200]) {
      for (const blocks of [false, true]) {
        const widths = histogram(durations, { columns, blocks }).map((line) => [...line].length)
        assert.isAtMost(Math.max(...widths), columns)
      }
    }
    assert.isAtMost(Math.max(...histogram(durations, { columns: 500, blocks: false }).map((line) => line.length)), 84)
  })
})
