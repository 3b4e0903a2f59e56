/** Runs a target for so many cases. A failure names the seed and the case, and both can be given again. */
import * as Effect from "effect/Effect"
import { Random, seedOf } from "./random.ts"

/** One kind of input: makes it, runs it, and throws when an invariant does not hold. */
export interface Target {
  readonly name: string
  /** Cases of each thousand. */
  readonly share: number
  readonly run: (random: Random) => void
}

const numberIn = (name: string): number | undefined => {
  const text = process.env[name]
  if (text === undefined || text === "") return undefined
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 0) throw new Error(`${name} must be a whole number, not ${text}`)
  return value
}

export const isLong = process.env["EFFECT_SMTP_LONG"] === "1"
/** FUZZ_SEED runs the same cases again; FUZZ_CASE only one of each target. */
export const seed = numberIn("FUZZ_SEED") ?? Math.floor(Math.random() * 2 ** 32)
const only = numberIn("FUZZ_CASE")
/** Of all targets together. */
export const cases = isLong ? 5_000_000 : 200_000

/** So many cases in a row, before the test runner gets a turn. */
const batch = 2000

const runOne = (target: Target, index: number): void => {
  try {
    target.run(new Random(seedOf(seed, target.name, index)))
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    const again = `${target.name}: run it again with FUZZ_SEED=${seed} FUZZ_CASE=${index}`
    throw new Error(`${again}\n${why}`, { cause: error })
  }
}

const pause = Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))

/** Gives the number of cases that ran. */
export const run = Effect.fnUntraced(function*(target: Target) {
  const count = cases * target.share / 1000
  if (only !== undefined) return yield* Effect.as(Effect.sync(() => runOne(target, only)), 1)
  for (let index = 0; index < count; index++) {
    runOne(target, index)
    if (index % batch === batch - 1) yield* pause
  }
  return count
})
