/**
 * `npm run bench`: measures every row and prints one table; writes results/latest.md and latest.json.
 *
 * - `--row NAME[,NAME…]`: these rows, by the beginning of their names; nothing is written
 * - `--pairs N`: default 7
 * - `--profile NAME`: ours alone, with the functions that took the most CPU
 * - `--ours JSON`: what ours is told otherwise (clients/model.ts), e.g. `{"options":{"pipelining":false}}`; nothing is written
 * - `--list`: the names
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import { execFileSync } from "node:child_process"
import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { availableParallelism, cpus, tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { find } from "../integration/network/rules.ts"
import type { Args } from "./clients/model.ts"
import { measure, profile, skipped } from "./measure.ts"
import { BenchError, type Comparison, type Outcome } from "./model.ts"
import { warnings } from "./processes.ts"
import { type Profile, show } from "./profile.ts"
import { rows } from "./rows/index.ts"
import { type About, document, figure, render } from "./table.ts"

const say = (text: string): void => void process.stdout.write(`${text}\n`)
const mention = (text: string): void => void process.stderr.write(`${text}\n`)

const root = fileURLToPath(new URL("../../", import.meta.url))
const results = fileURLToPath(new URL("results/", import.meta.url))

const chosen = (names: string | undefined): ReadonlyArray<Comparison> => {
  if (names === undefined) return rows
  const wanted = names.split(",")
  // A name that is whole means that row alone.
  return wanted.flatMap((name) => {
    const exact = rows.filter(({ id }) => id === name)
    return exact.length > 0 ? exact : rows.filter(({ id }) => id.startsWith(name))
  })
}

const versionOf = (name: string): string => {
  const { version } = JSON.parse(readFileSync(join(root, name, "package.json"), "utf8")) as { readonly version: string }
  return version
}

const about = (): About => ({
  date: new Date().toISOString().slice(0, 10),
  command: ["npm run bench", ...process.argv.slice(2).length === 0 ? [] : ["--", ...process.argv.slice(2)]].join(" "),
  machine: `${availableParallelism()} CPUs (${cpus()[0]?.model ?? "unknown"})`,
  versions: {
    "effect-smtp": versionOf("."),
    Node: process.versions.node,
    effect: versionOf("node_modules/effect"),
    Nodemailer: versionOf("node_modules/nodemailer"),
    ...find("postconf") === undefined
      ? {}
      : { Postfix: execFileSync(find("postconf")!, ["-dh", "mail_version"], { encoding: "utf8" }).trim() }
  },
  warnings: warnings()
})

const write = (outcomes: ReadonlyArray<Outcome>): void => {
  const facts = about()
  mkdirSync(results, { recursive: true })
  writeFileSync(join(results, "latest.md"), document(facts, outcomes))
  writeFileSync(join(results, "latest.json"), `${JSON.stringify({ ...facts, rows: outcomes }, undefined, 2)}\n`)
}

const summary = ({ metrics, skipped }: Outcome): string =>
  skipped === undefined
    ? `CPU ${figure(metrics.cpu?.median ?? Number.NaN)}, speed ${figure(metrics.speed?.median ?? Number.NaN)}`
    : `not measured: ${skipped}`

interface Attempt {
  readonly outcome: Outcome
  readonly isError: boolean
}

const attempt = (comparison: Comparison, pairs: number): Effect.Effect<Attempt> =>
  Effect.sync(() => process.stderr.write(`${comparison.id} … `)).pipe(
    Effect.andThen(measure(comparison, pairs)),
    Effect.match({
      onSuccess: (outcome) => ({ outcome, isError: false }),
      onFailure: ({ message }) => ({ outcome: skipped(comparison, message), isError: true })
    }),
    Effect.tap(({ outcome }) => Effect.sync(() => mention(summary(outcome))))
  )

const bench = Effect.fnUntraced(function*(all: ReadonlyArray<Comparison>, pairs: number, isWritten: boolean) {
  const attempts = yield* Effect.forEach(all, (comparison) => attempt(comparison, pairs))
  const outcomes = attempts.map(({ outcome }) => outcome)
  say(render(outcomes))
  if (isWritten) write(outcomes)
  // A target that is missed is a result; a row that could not be run is an error.
  if (attempts.some(({ isError }) => isError)) process.exitCode = 1
})

const showProfile = Effect.fnUntraced(function*(comparison: Comparison) {
  const file = join(tmpdir(), `effect-smtp-${comparison.id}.cpuprofile`)
  const { cpu, messages, wall } = yield* profile(comparison, file)
  say(`${comparison.id}: ${messages} messages, ${figure(cpu)} s CPU, ${figure(wall)} s; the profile is ${file}\n`)
  say(show(JSON.parse(readFileSync(file, "utf8")) as Profile))
})

const unknown = (name: string) =>
  Effect.fail(
    new BenchError({ message: `no row is called "${name}"; there are ${rows.map(({ id }) => id).join(", ")}` })
  )

const main = Effect.suspend(() => {
  const { values } = parseArgs({
    options: {
      row: { type: "string" },
      pairs: { type: "string", default: "7" },
      profile: { type: "string" },
      ours: { type: "string", default: "{}" },
      list: { type: "boolean", default: false }
    }
  })
  if (values.list) return Effect.sync(() => say(rows.map(({ id }) => id).join("\n")))
  const name = values.profile ?? values.row
  const told = JSON.parse(values.ours) as Partial<Args>
  const all = chosen(name).map((row) => ({ ...row, ours: { ...row.ours, args: { ...row.ours.args, ...told } } }))
  if (all[0] === undefined) return unknown(name ?? "")
  if (values.profile !== undefined) return showProfile(all[0])
  return bench(all, Math.max(1, Math.floor(Number(values.pairs)) || 1), name === undefined && values.ours === "{}")
})

NodeRuntime.runMain(main)
