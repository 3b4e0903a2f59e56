/**
 * There is more than one way through a transaction: with effects and without, alone and behind others. What comes of a mail,
 * and each octet of it, is the same on all of them.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import type * as SmtpConnection from "../src/SmtpConnection.ts"
import { Random, seedOf } from "./fuzz/random.ts"
import { all, noChunking, noPipelining } from "./support/raw.ts"
import { type Mailing, mailingOf, tellOf, type Told } from "./support/scripts.ts"
import { type Script, type Stored, talking } from "./support/talker.ts"

const limited = (limits: string) => [...all, `LIMITS ${limits}`]

const settingOf = (seed: number) => {
  const random = new Random(seedOf(seed, "setting", 0))
  const offers = random.pick([all, noChunking, noPipelining, limited("RCPTMAX=2"), limited("RCPTDOMAINMAX=1")])
  const protocol = random.oneIn(4) ? "lmtp" as const : "smtp" as const
  const pace = random.pick(["together", "each"] as const)
  const options: SmtpConnection.Options = {
    pipelining: !random.oneIn(6),
    chunking: random.pick([true, "always", false] as const)
  }
  return { script: { offers, protocol, pace, swift: true } satisfies Script, options, size: random.pick([1, 2, 100]) }
}

const recorder = { level: "full" as const, record: () => Effect.void }

interface Way {
  readonly together: boolean
  readonly options?: SmtpConnection.Options
}

/** Sends a mailing, and tells what came of it. */
const go = ({ options: own = {}, together }: Way, seed: number, odd: number, countable = false) => {
  const { options, script, size } = settingOf(seed)
  const { answer, mails } = mailingOf(seed, odd, countable)
  // How many mails are asked for before a loss depends on when it comes.
  const source = Stream.rechunk(Stream.fromIterable(mails), odd > 0 ? mails.length : size)
  return talking({ ...script, answer: answer() }, (connection, talker) =>
    Effect.gen(function*() {
      const results = together
        ? yield* Stream.runCollect(connection.sendAll(source))
        : yield* Effect.forEach(mails, ({ envelope, message }) => Effect.result(connection.send(envelope, message)))
      assert.strictEqual(talker.peer.isOpen, connection.isUsable)
      return {
        told: results,
        results: results.map(tellOf),
        // A transaction for the rest of the recipients comes behind those that are under way.
        stored: talker.stored.toSorted((one, other) => one.from.localeCompare(other.from)),
        // Whether a mail finds another under way depends on when it is asked for; only then RSET goes before it.
        written: together ? talker.peer.writes.join("").replaceAll("RSET\r\n", "") : talker.peer.writes.join(""),
        isUsable: connection.isUsable
      }
    }), { ...options, ...own })
}

const seeds = (count: number) => Array.from({ length: count }, (_, i) => i + 1)

const slow: ReadonlyArray<SmtpConnection.Options> = [{ transcript: recorder }, { timeouts: { total: "1 hour" } }]

describe("with effects and without", () => {
  for (const together of [false, true]) {
    for (const odd of [0, 60]) {
      it.effect(`${together ? "sendAll" : "send"} gives the same, ${odd === 0 ? "refusals" : "oddities"} and all`, () =>
        Effect.forEach(seeds(200), (seed) =>
          Effect.gen(function*() {
            const { told: _, ...expected } = yield* go({ together }, seed, odd)
            for (const options of slow) {
              const { told: __, ...same } = yield* go({ together, options }, seed, odd)
              assert.deepStrictEqual(same, expected, `seed ${seed}`)
            }
          }), { discard: true }))
    }
  }
})

/** For each mail and recipient: what was said of it, against what the server has. */
const audit = (results: ReadonlyArray<Told>, { mails }: Mailing, stored: ReadonlyArray<Stored>, seed: number): void => {
  for (const [i, result] of results.entries()) {
    const recipients = [mails[i]!.envelope.to].flat() as ReadonlyArray<string>
    for (const recipient of new Set(recipients)) {
      const copies = stored.filter(({ from, to }) => from === `m${i}@me.test` && to.includes(recipient)).length
      assert.isAtMost(copies, 1, `seed ${seed}: m${i} twice for ${recipient}`)
      const error = Result.isFailure(result)
        ? result.failure
        : result.success.rejectedErrors.find((each) => each.recipient === recipient)
      if (error === undefined) assert.strictEqual(copies, 1, `seed ${seed}: m${i} is not there for ${recipient}`)
      else if (copies === 1) {
        assert.isTrue(error.inDoubt, `seed ${seed}: m${i} is there for ${recipient}, and nobody knows`)
      }
    }
  }
}

describe("what is said of a mail is true", () => {
  for (const together of [false, true]) {
    it.effect(`of ${together ? "sendAll" : "send"}, whatever the server says`, () =>
      Effect.forEach(seeds(600), (seed) =>
        Effect.gen(function*() {
          const { stored, told } = yield* go({ together }, seed, 100, true)
          audit(told, mailingOf(seed, 100, true), stored, seed)
        }), { discard: true }))
  }
})

describe("together and one by one", () => {
  it.effect("each mail has the same result, and the server the same messages", () =>
    Effect.forEach(seeds(600), (seed) =>
      Effect.gen(function*() {
        const one = yield* go({ together: false }, seed, 0)
        const many = yield* go({ together: true }, seed, 0)
        assert.deepStrictEqual(many.results, one.results, `seed ${seed}`)
        assert.deepStrictEqual(many.stored, one.stored, `seed ${seed}`)
      }), { discard: true }))
})
