/**
 * What comes from outside, generated: nothing throws, the invariants hold, and the work is linear. A failure names the
 * seed; FUZZ_SEED runs the same cases again.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { capabilities } from "./fuzz/capabilities.ts"
import { dotStuffing } from "./fuzz/dotStuffing.ts"
import { reply } from "./fuzz/reply.ts"
import { cases, isLong, run, seed } from "./fuzz/run.ts"

const targets = [reply, capabilities, dotStuffing]
const limit = isLong ? 900_000 : 120_000

process.stdout.write(`\nfuzz: ${cases} cases, FUZZ_SEED=${seed}\n`)

describe("generated input", () => {
  for (const target of targets) {
    it.live(`never throws and keeps every invariant: ${target.name}`, () =>
      Effect.gen(function*() {
        assert.isAbove(yield* run(target), 0)
      }), limit)
  }
})
