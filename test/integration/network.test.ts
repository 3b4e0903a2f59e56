import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as namespace from "./network/namespace.ts"
import type { Outcome, Report, Scenario } from "./network/scenarios.ts"
import { missing } from "./servers/index.ts"

/** As plain data without what is undefined; the outcome has to be there in time. */
const shown = (outcome: Outcome): object => {
  const { inTime, ...rest } = outcome
  assert.isTrue(inTime, `the call had not ended by its deadline: ${JSON.stringify(outcome)}`)
  return rest
}

const check = (scenario: Scenario, judge: (report: Report, outcomes: ReadonlyArray<object>) => void) =>
  Effect.gen(function*() {
    const report = yield* namespace.run(scenario)
    assert.deepStrictEqual(report.stored, report.sent, "what the server stored is not what it accepted, each once")
    judge(report, report.outcomes.map(shown))
  })

const sent = { tag: "sent" }
const late = (timeout: string, command: string, inDoubt = false) => ({ tag: "ETIMEDOUT", command, timeout, inDoubt })
const unreachable = (errno: string) => ({ tag: "ESOCKET", command: "CONN", errno, inDoubt: false })

const reason = namespace.missing()
const name = "a network of its own"

describe.skipIf(reason !== undefined)(reason === undefined ? name : `${name}: skipped, it ${reason}`, () => {
  it.live(
    "with a round trip of 50 ms takes every message, and ends a command that may last 30 ms by that deadline",
    () =>
      check("roundTrip", ({ sent: messages }, outcomes) => {
        assert.deepStrictEqual(outcomes, [sent, late("command", "EHLO")])
        assert.lengthOf(messages, 5)
      }),
    120_000
  )

  it.live(
    "that loses 1 % of the packets takes every message, each once",
    () =>
      check("loss", ({ dropped, sent: messages }, outcomes) => {
        assert.deepStrictEqual(outcomes, [sent, sent, sent, sent])
        assert.lengthOf(messages, 20)
        assert.isAbove(dropped, 0, "no packet was lost")
      }),
    180_000
  )

  it.live(
    "with addresses that swallow everything reaches the one that does not, else ends by its deadline",
    () =>
      check("blackHole", ({ dropped }, outcomes) => {
        assert.deepStrictEqual(outcomes, [sent, sent, late("connect", "CONN"), late("total", "CONN")])
        assert.isAbove(dropped, 0, "no packet was swallowed")
      }),
    120_000
  )

  it.live(
    "without IPv6 reaches a name over IPv4, and says why it does not reach one that has IPv6 alone",
    () =>
      check("ipv6", (_, outcomes) => {
        assert.deepStrictEqual(outcomes, [sent, sent, unreachable("EHOSTUNREACH"), unreachable("ENETUNREACH")])
      }),
    120_000
  )

  it.live(
    "that falls silent ends each step by its deadline, and only a message handed over is in doubt",
    () =>
      check("silence", ({ dropped }, outcomes) => {
        assert.deepStrictEqual(outcomes, [
          late("command", "NOOP"),
          late("data", "DATA"),
          late("final", "DATA", true),
          late("total", "DATA"),
          { tag: "done" }
        ])
        assert.isAbove(dropped, 0, "no packet was swallowed")
      }),
    120_000
  )

  const postfix = missing("Postfix")

  it.live.skipIf(postfix !== undefined)(
    `with a round trip of 50 ms and 1 % loss takes every message to Postfix${
      postfix === undefined ? "" : `: skipped, it ${postfix}`
    }`,
    () =>
      check("postfix", ({ sent: messages }, outcomes) => {
        assert.deepStrictEqual(outcomes, [sent])
        assert.lengthOf(messages, 3)
      }),
    120_000
  )
})
