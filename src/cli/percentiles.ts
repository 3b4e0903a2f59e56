/**
 * Durations counted in buckets, so that a run of any length takes the same memory.
 *
 * What it is: a counter that answers percentiles to within one percent, and exact extremes and mean. What it is not: it
 * keeps no single duration, and knows no clock.
 *
 * @since 0.1.0
 */

/** Each bucket is one percent wider than the one before: the error of a percentile. */
const growth = Math.log(1.01)

/** Milliseconds below which all are equal: one microsecond. */
const floor = 0.001

const bucketOf = (millis: number): number => millis <= floor ? 0 : Math.ceil(Math.log(millis / floor) / growth)
const upperBoundOf = (bucket: number): number => floor * Math.exp(bucket * growth)

/**
 * What is known of some durations, in milliseconds; all zero when there are none.
 *
 * @category models
 * @since 0.1.0
 */
interface Summary {
  readonly count: number
  readonly min: number
  readonly mean: number
  readonly p50: number
  readonly p90: number
  readonly p99: number
  readonly max: number
}

/**
 * Counts durations.
 *
 * @category models
 * @since 0.1.0
 */
export class Durations {
  private readonly buckets = new Map<number, number>()
  private sum = 0
  private least = Infinity
  private greatest = 0
  count = 0

  /** @param millis one more duration, in milliseconds. */
  add(millis: number): void {
    const bucket = bucketOf(millis)
    this.buckets.set(bucket, (this.buckets.get(bucket) ?? 0) + 1)
    this.count++
    this.sum += millis
    this.least = Math.min(this.least, millis)
    this.greatest = Math.max(this.greatest, millis)
  }

  private get sorted(): ReadonlyArray<readonly [number, number]> {
    return [...this.buckets].toSorted(([a], [b]) => a - b)
  }

  /** The least duration that `percent` of all do not exceed (nearest rank), to within one percent. */
  percentile(percent: number): number {
    const rank = Math.max(1, Math.ceil(this.count * percent / 100))
    let seen = 0
    for (const [bucket, count] of this.sorted) {
      seen += count
      if (seen >= rank) return Math.max(this.least, Math.min(this.greatest, upperBoundOf(bucket)))
    }
    return 0
  }

  summary(): Summary {
    const { count } = this
    return {
      count,
      min: count === 0 ? 0 : this.least,
      mean: count === 0 ? 0 : this.sum / count,
      p50: this.percentile(50),
      p90: this.percentile(90),
      p99: this.percentile(99),
      max: this.greatest
    }
  }

  /** How many fall under each of the rising `bounds`, and not under the one before. What is above the last is dropped. */
  under(bounds: ReadonlyArray<number>): ReadonlyArray<number> {
    const counts = bounds.map(() => 0)
    for (const [bucket, count] of this.buckets) {
      const at = bounds.findIndex((bound) => Math.min(this.greatest, upperBoundOf(bucket)) <= bound)
      if (at >= 0) counts[at] = (counts[at] ?? 0) + count
    }
    return counts
  }
}
