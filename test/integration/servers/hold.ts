/** A process that holds a Postfix and tells of it, for the test that kills it. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import * as Postfix from "./Postfix.ts"

Effect.gen(function*() {
  const { folder, processes } = yield* Postfix.Postfix
  const ids = yield* processes
  yield* Effect.sync(() => process.stdout.write(`${JSON.stringify({ folder, ids })}\n`))
  return yield* Effect.never
}).pipe(Effect.provide(Postfix.layer), NodeRuntime.runMain)
