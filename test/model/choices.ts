/**
 * The choices that make a sequence: drawn from a seed, or given again as a list. A shorter list with smaller numbers is a
 * simpler sequence, so a failure shrinks without knowing what the choices mean.
 */
import { Random } from "../fuzz/random.ts"

export class Choices {
  readonly made: Array<number> = []
  readonly #random: Random | undefined
  readonly #given: ReadonlyArray<number>

  constructor(from: number | ReadonlyArray<number>) {
    this.#random = typeof from === "number" ? new Random(from) : undefined
    this.#given = typeof from === "number" ? [] : from
  }

  /** A whole number below the limit; 0 when a list has come to its end. */
  below(limit: number): number {
    const drawn = this.#random?.below(limit) ?? (this.#given[this.made.length] ?? 0) % limit
    this.made.push(drawn)
    return drawn
  }

  /** The first is the simplest. */
  pick<A>(list: ReadonlyArray<A>): A {
    return list[this.below(list.length)]!
  }

  /** True once in so many times. */
  oneIn(times: number): boolean {
    return this.below(times) === times - 1
  }
}

/** What matters of a list: at its end, 0 is as good as nothing. */
export const trimmed = (list: ReadonlyArray<number>): ReadonlyArray<number> =>
  list.slice(0, list.findLastIndex((choice) => choice > 0) + 1)

const sum = (list: ReadonlyArray<number>): number => list.reduce((a, b) => a + b, 0)

export const isSimpler = (a: ReadonlyArray<number>, b: ReadonlyArray<number>): boolean =>
  a.length < b.length || a.length === b.length && sum(a) < sum(b)

/** Simpler candidates: parts left out, numbers made smaller. */
export function* simpler(list: ReadonlyArray<number>): Generator<ReadonlyArray<number>> {
  for (const length of [64, 32, 16, 8, 4, 2, 1]) {
    for (let from = Math.max(0, list.length - length); from >= 0 && length <= list.length; from -= length) {
      yield [...list.slice(0, from), ...list.slice(from + length)]
    }
  }
  for (const [at, value] of list.entries()) {
    if (value > 0) yield [...list.slice(0, at), 0, ...list.slice(at + 1)]
    if (value > 1) yield [...list.slice(0, at), value - 1, ...list.slice(at + 1)]
  }
}
