/**
 * A connection under every order of calls, replies, deadlines, interruptions and losses, against a model of it. A failure
 * is shrunk and printed; MODEL_SEED runs the same sequences again, MODEL_CHOICES one of them.
 */
import { describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { seedOf } from "./fuzz/random.ts"
import { Choices, isSimpler, simpler, trimmed } from "./model/choices.ts"
import { run } from "./model/run.ts"

const isLong = process.env["EFFECT_SMTP_LONG"] === "1"
const given = process.env["MODEL_SEED"]
const seed = given === undefined ? Math.floor(Math.random() * 2 ** 32) : Number(given)
const list = process.env["MODEL_CHOICES"]
const sequences = Number(process.env["MODEL_SEQUENCES"] ?? (isLong ? 100_000 : 2000))
const limit = isLong ? 900_000 : 120_000
/** Runs spent on making a failure simpler. */
const patience = Number(process.env["MODEL_PATIENCE"] ?? 400)

process.stdout.write(`\nmodel: ${sequences} sequences, MODEL_SEED=${seed}\n`)

const failureOf = Effect.fnUntraced(function*(from: number | ReadonlyArray<number>) {
  const choices = new Choices(from)
  const exit = yield* Effect.exit(run(choices))
  if (Exit.isSuccess(exit)) return undefined
  const error = Cause.squash(exit.cause)
  return { made: trimmed(choices.made), why: error instanceof Error ? error.stack ?? error.message : String(error) }
})

type Failure = NonNullable<Effect.Success<ReturnType<typeof failureOf>>>

const shrunk = Effect.fnUntraced(function*(failure: Failure) {
  let best = failure
  let left = patience
  for (let isBetter = true; isBetter && left > 0;) {
    isBetter = false
    for (const candidate of simpler(best.made)) {
      if (left-- <= 0) break
      const next = yield* failureOf(candidate)
      if (next === undefined || !isSimpler(next.made, best.made)) continue
      best = next
      isBetter = true
      break
    }
  }
  return best
})

const report = (index: number, { made, why }: Failure): string =>
  `sequence ${index} of MODEL_SEED=${seed}; run it again with MODEL_CHOICES=${made.join(",")}\n${why}`

describe("a connection", () => {
  it.effect("is what the model says after every step of every sequence", () =>
    Effect.gen(function*() {
      if (list !== undefined) {
        const failure = yield* failureOf(list.split(",").map(Number))
        if (failure !== undefined) throw new Error(report(0, failure))
        return
      }
      for (let index = 0; index < sequences; index++) {
        const failure = yield* failureOf(seedOf(seed, "model", index))
        if (failure !== undefined) throw new Error(report(index, yield* shrunk(failure)))
      }
    }), limit)
})
