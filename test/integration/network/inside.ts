/**
 * Runs the scenario of its argument in the network namespace it was started in, and prints the report as JSON. The end of
 * its input, which is the death of the test process, ends it.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import * as rules from "./rules.ts"
import { isScenario, scenarios } from "./scenarios.ts"

const name = process.argv[2] ?? ""

process.stdin.once("end", () => process.kill(process.pid, "SIGTERM")).resume().unref()

Effect.suspend(() => {
  if (!isScenario(name)) return Effect.die(new Error(`no scenario is called "${name}"`))
  rules.up()
  return scenarios[name]
}).pipe(
  Effect.scoped,
  Effect.map((report) => process.stdout.write(`${JSON.stringify(report)}\n`)),
  NodeRuntime.runMain
)
