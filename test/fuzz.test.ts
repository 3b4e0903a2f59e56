/**
 * What comes from outside, generated: nothing throws, the invariants hold, and the work is linear. A failure names the
 * seed; FUZZ_SEED runs the same cases again.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { capabilities } from "./fuzz/capabilities.ts"
import { command, envelope } from "./fuzz/command.ts"
import { dotStuffing } from "./fuzz/dotStuffing.ts"
import * as linear from "./fuzz/linear.ts"
import { proxy, proxyUrl } from "./fuzz/proxy.ts"
import { reply } from "./fuzz/reply.ts"
import { cases, isLong, run, seed } from "./fuzz/run.ts"
import { sasl, selection } from "./fuzz/sasl.ts"
import { counted, measured } from "./fuzz/work.ts"

const targets = [reply, capabilities, command, envelope, dotStuffing, sasl, selection, proxy, proxyUrl]
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

/** The work of three sizes, each twice the one before. */
const workOf = ({ make, size }: linear.Family): ReadonlyArray<number> =>
  [1, 2, 4].map((times) => measured(make(size * times)))

const ratiosOf = ([small = 0, middle = 0, large = 0]: ReadonlyArray<number>): ReadonlyArray<number> => [
  middle / small,
  large / middle
]

describe("work", () => {
  const suspects: ReadonlyArray<linear.Family> = [
    {
      name: "octets gathered by copying all of them again",
      size: 200,
      make: (size) => {
        const parts = Array.from({ length: size }, () => Uint8Array.of(1))
        return () => {
          let held = new Uint8Array(0)
          for (const part of parts) {
            const longer = new Uint8Array(held.length + part.length)
            longer.set(held)
            longer.set(part, held.length)
            held = longer
          }
        }
      }
    },
    {
      name: "octets looked at again with each part",
      size: 200,
      make: (size) => {
        const octets = counted(new Uint8Array(size))
        return () => {
          for (let end = 1; end <= size; end++) octets.subarray(0, end).indexOf(10)
        }
      }
    },
    {
      name: "a pattern that begins anywhere",
      size: 200,
      make: (size) => () => void /\s+$/.test(`${" ".repeat(size)}x`)
    },
    {
      name: "a pattern with two ways to match",
      size: 5,
      make: (size) => () => void /^(?:a|a)*$/.test(`${"a".repeat(size)}x`)
    },
    {
      name: "an array copied for each element",
      size: 200,
      make: (size) => () => {
        let all: ReadonlyArray<number> = []
        for (let at = 0; at < size; at++) all = [...all, at]
      }
    }
  ]
  for (const suspect of suspects) {
    it(`more than linear is seen: ${suspect.name}`, () => {
      assert.isAtLeast(Math.max(...ratiosOf(workOf(suspect))), 3)
    }, limit)
  }

  for (const family of linear.all) {
    it(`less than triples when the input doubles: ${family.name}`, () => {
      const work = workOf(family)
      assert.isAtLeast(work[2]!, family.size, "the input was looked at")
      for (const ratio of ratiosOf(work)) assert.isBelow(ratio, 3, `work ${work.join(", ")}`)
    }, limit)
  }
})
