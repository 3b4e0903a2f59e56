/**
 * The contract suite: what every server shows to this client, the fake ones and those that people run.
 *
 * What it is: one list of checks, run alike on each `Subject`. Where a server cannot show a behaviour its `Profile` says
 * so, and the check is that this is true; nothing is skipped. What it is not: a test of what only a fake server can be
 * made to do; that is in the tests of each module.
 */
import { afterAll, describe, layer as testLayer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type { SmtpConnector } from "../src/SmtpConnector.ts"
import { dialogue } from "./support/contract/dialogue.ts"
import { login, opening } from "./support/contract/opening.ts"
import { sending } from "./support/contract/sending.ts"
import { inMode, Subject } from "./support/contract/subject.ts"
import { makeRow, render, type Row } from "./support/contract/table.ts"
import { flights, type Mode } from "./support/modes.ts"

const inEachMode = [...login, ...sending, ...dialogue]
const checks = [...opening, ...inEachMode]
const rows: Array<Row> = []

/**
 * Runs every check on a server, those of its mails in each mode; the first is the default. The layer is built once, and
 * its time is real.
 */
export const suite = <E>(
  name: string,
  layer: Layer.Layer<Subject | SmtpConnector, E>,
  modes: readonly [typeof flights, ...ReadonlyArray<Mode>]
): void => {
  const row = makeRow(name)
  rows.push(row)
  testLayer(layer, { excludeTestServices: true, timeout: "60 seconds" })(name, (it) => {
    describe.each(modes)("$name", (mode) => {
      for (const { run, title } of mode === flights ? checks : inEachMode) {
        it.effect(title, () =>
          Effect.gen(function*() {
            const subject = inMode(yield* Subject, mode)
            const finding = yield* run(subject)
            if (mode !== flights) return
            row.subject = subject
            row.findings.set(title, finding)
          }), 60_000)
      }
    })
  })
}

/** Prints what the default mode found of all servers of this file, as Markdown, when its tests are over. */
export const printTable = (): void =>
  afterAll(() => {
    process.stdout.write(`\n${render(rows, checks.map(({ title }) => title))}\n`)
  })
