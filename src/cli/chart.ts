/**
 * A histogram of durations as lines of text.
 *
 * What it is: the choice of the rows, and bars that fit a width, in block characters or plain ASCII. What it is not: it
 * neither measures nor writes.
 *
 * @since 0.1.0
 */
import type { Durations } from "./percentiles.ts"

/**
 * How to draw.
 *
 * @category models
 * @since 0.1.0
 */
interface Style {
  /** Columns that a line may take. */
  readonly columns: number
  /** Bars of block characters, an eighth of a column fine; else of "#". */
  readonly blocks: boolean
}

const steps = [1, 2, 5]
const mostRows = 12

/** The first of 1, 2, 5, 10, 20, … (and 0.5, 0.2, …) that is not below `value`. */
const roundUp = (value: number): number => {
  const power = Math.floor(Math.log10(value))
  for (const exponent of [power, power + 1]) {
    for (const step of steps) {
      const bound = Number((step * 10 ** exponent).toPrecision(1))
      if (bound >= value) return bound
    }
  }
  return value
}

/**
 * The upper bounds of the rows: 1, 2, 5, 10, … from the least duration to the greatest, at most twelve.
 *
 * @category constructors
 * @since 0.1.0
 */
export const boundsOf = (least: number, greatest: number): ReadonlyArray<number> => {
  const last = roundUp(Math.max(greatest, 0.001))
  const bounds = [roundUp(Math.max(least, 0.001))]
  while (bounds.at(-1)! < last) bounds.push(roundUp(bounds.at(-1)! * 1.01))
  return bounds.slice(-mostRows)
}

/**
 * A duration for a person: three digits and a unit, as in "1.25 ms".
 *
 * @category rendering
 * @since 0.1.0
 */
export const duration = (millis: number): string => {
  const [value, unit] = millis < 1 ? [millis * 1000, "us"] : millis < 1000 ? [millis, "ms"] : [millis / 1000, "s"]
  return `${value >= 100 ? Math.round(value) : Number(value.toPrecision(3))} ${unit}`
}

const eighths = ["", "\u258f", "\u258e", "\u258d", "\u258c", "\u258b", "\u258a", "\u2589"]

/** A bar of `share` of `width`; what is not nothing shows. */
const bar = (share: number, width: number, blocks: boolean): string => {
  if (!blocks) return "#".repeat(share === 0 ? 0 : Math.max(1, Math.round(share * width)))
  const total = share === 0 ? 0 : Math.max(1, Math.round(share * width * 8))
  return "\u2588".repeat(Math.floor(total / 8)) + eighths[total % 8]
}

/** Most columns of a bar: wider ones are no easier to compare. */
const widest = 60

/**
 * The histogram: a line for each row, none when nothing was counted.
 *
 * **Details**
 *
 * Each line has the upper bound of its row, how many durations are in it, their share in percent, and the bar. The
 * first row holds all that are below its bound.
 *
 * @category rendering
 * @since 0.1.0
 */
export const histogram = (durations: Durations, style: Style): ReadonlyArray<string> => {
  if (durations.count === 0) return []
  const { max, min } = durations.summary()
  const bounds = boundsOf(min, max)
  const counts = durations.under(bounds)
  const labels = bounds.map((bound) => `<= ${duration(bound)}`)
  const labelWidth = Math.max(...labels.map(({ length }) => length))
  const countWidth = String(Math.max(...counts)).length
  const most = Math.max(...counts)
  // Two spaces, a label, two spaces, a count, two spaces, "100.0 %", two spaces.
  const width = Math.max(4, Math.min(widest, style.columns - labelWidth - countWidth - 15))
  return counts.map((count, i) => {
    const percent = `${(100 * count / durations.count).toFixed(1)} %`.padStart(7)
    const head = `  ${labels[i]!.padStart(labelWidth)}  ${String(count).padStart(countWidth)}  ${percent}`
    return `${head}  ${bar(count / most, width, style.blocks)}`.trimEnd()
  })
}
