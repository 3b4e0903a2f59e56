/**
 * A bar for work that takes a while, on a terminal alone.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Terminal from "effect/Terminal"
import { Output, type Paint } from "./frame.ts"

/** How far the work is. */
interface Progress {
  readonly done: number
  /** Undefined: nobody knows. */
  readonly total: number | undefined
  readonly millis: number
  /** The numbers as a person reads them. */
  readonly show: (amount: number) => string
}

/** Octets as a person reads them. */
export const showOctets = (octets: number): string => {
  if (octets < 1000) return `${octets} octets`
  const units = ["kB", "MB", "GB", "TB"]
  const power = Math.min(units.length, Math.floor(Math.log10(octets) / 3))
  return `${(octets / 1000 ** power).toFixed(1)} ${units[power - 1]}`
}

const barWidth = 24

/** One frame: bar, share, amounts, rate and the time that is left; cut to the width of the terminal. */
export const render = ({ done, millis, show, total }: Progress, columns: number, paint: Paint): string => {
  const perSecond = millis > 0 ? done * 1000 / millis : 0
  const rate = `${show(Number(perSecond.toPrecision(3)))}/s`
  if (total === undefined) return `${show(done)}  ${rate}`.slice(0, columns)
  const share = total === 0 ? 1 : Math.min(1, done / total)
  const filled = Math.round(share * barWidth)
  const left = perSecond > 0 ? `  ${Math.ceil((total - done) / perSecond)} s left` : ""
  const figures = `${Math.floor(share * 100)} %  ${show(done)} of ${show(total)}  ${rate}${left}`
  const bar = `[${paint.green("#".repeat(filled))}${paint.dim("-".repeat(barWidth - filled))}] `
  return columns < barWidth + 3 + figures.length ? figures.slice(0, columns) : bar + figures
}

const toStart = "\r\u001b[K"

/** Draws a bar while the work runs, if it runs for longer than a moment, and wipes it out at the end. */
export const withProgress = Effect.fnUntraced(function*<A, E, R>(
  read: () => Omit<Progress, "millis">,
  work: Effect.Effect<A, E, R>
) {
  const output = yield* Output
  if (!output.canAnimate) return yield* work
  const terminal = yield* Terminal.Terminal
  const begun = yield* Clock.currentTimeMillis
  const draw = Effect.gen(function*() {
    const millis = (yield* Clock.currentTimeMillis) - begun
    const columns = (yield* terminal.columns) || 80
    yield* terminal.display(toStart + render({ ...read(), millis }, columns - 1, output.paint))
  }).pipe(Effect.ignore)
  const drawing = draw.pipe(Effect.repeat(Schedule.spaced("100 millis")), Effect.delay("300 millis"))
  return yield* Effect.scoped(Effect.gen(function*() {
    yield* Effect.addFinalizer(() => Effect.ignoreCause(terminal.display(toStart)))
    yield* Effect.forkScoped(drawing)
    return yield* work
  }))
})
