/**
 * The contract suite: what every server shows to this client, the fake ones and those that people run.
 *
 * What it is: one list of checks, run alike on each `Subject`. Where a server cannot show a behaviour its `Profile` says
 * so, and the check is that this is true; nothing is skipped. What it is not: a test of what only a fake server can be
 * made to do; that is in the tests of each module.
 */
import { afterAll, layer as testLayer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type { SmtpConnector } from "../src/SmtpConnector.ts"
import { dialogue } from "./support/contract/dialogue.ts"
import { opening } from "./support/contract/opening.ts"
import { sending } from "./support/contract/sending.ts"
import { Subject } from "./support/contract/subject.ts"
import { makeRow, render, type Row } from "./support/contract/table.ts"

const checks = [...opening, ...sending, ...dialogue]
const rows: Array<Row> = []

/** Runs every check on a server. The layer is built once, and its time is real. */
export const suite = <E>(name: string, layer: Layer.Layer<Subject | SmtpConnector, E>): void => {
  const row = makeRow(name)
  rows.push(row)
  testLayer(layer, { excludeTestServices: true, timeout: "60 seconds" })(name, (it) => {
    for (const { run, title } of checks) {
      it.effect(title, () =>
        Effect.gen(function*() {
          const subject = yield* Subject
          row.subject = subject
          row.findings.set(title, yield* run(subject))
        }), 60_000)
    }
  })
}

/** Prints what was found of all servers of this file, as Markdown, when its tests are over. */
export const printTable = (): void =>
  afterAll(() => {
    process.stdout.write(`\n${render(rows, checks.map(({ title }) => title))}\n`)
  })
