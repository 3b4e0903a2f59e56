/**
 * `npm run test:mutants [-- S5 S13 …]`: breaks each guarantee of SECURITY.md in a copy of the source, and expects its tests
 * to go red.
 *
 * First the copy as it is: every test that SECURITY.md names has to be there and to pass. Then each mutant: it has to be
 * found, to type-check, to load, and to fail a test of its row.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import { spawn } from "node:child_process"
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { mutants } from "./list.ts"
import { type Mutant, occurrences, patternOf, root, type Row, type Shown, shown } from "./model.ts"

const workers = 2
/** Seconds that one run of a tool may take. */
const limit = 180
/** Milliseconds for one test; the machine may be busy, and a slow test is no mutant killed. */
const testTimeout = { baseline: 60_000, mutant: 15_000 }

interface Numbered extends Mutant {
  readonly row: Row
  readonly id: number
}

interface Verdict {
  readonly mutant: Numbered
  readonly kind: "killed" | "survived" | "invalid"
  readonly why: string
  readonly seconds: number
}

const say = (text: string): void => void process.stdout.write(`${text}\n`)

interface Ended {
  readonly code: number | null
  readonly output: string
}

/** Runs a tool of node_modules to its end, and ends it and its children when it takes too long. */
const tool = (cwd: string, file: string, args: ReadonlyArray<string>): Effect.Effect<Ended> =>
  Effect.callback<Ended>((resume) => {
    const env = { ...process.env, NO_COLOR: "1", CI_RESULTS: undefined }
    const child = spawn(process.execPath, [join(root, "node_modules", file), ...args], { cwd, env, detached: true })
    let output = ""
    const note = (part: unknown) => output += String(part)
    child.stdout.on("data", note)
    child.stderr.on("data", note)
    child.once("error", note)
    child.once("close", (code) => resume(Effect.succeed({ code, output })))
    return Effect.sync(() => {
      if (child.pid !== undefined && child.exitCode === null) process.kill(-child.pid, "SIGKILL")
    })
  }).pipe(Effect.timeoutOrElse({
    duration: `${limit} seconds`,
    orElse: () => Effect.succeed({ code: null, output: `did not end within ${limit} seconds` })
  }))

interface Test {
  readonly fullName: string
  readonly title: string
  readonly status: string
  readonly failureMessages: ReadonlyArray<string>
}

interface Results {
  readonly tests: ReadonlyArray<Test & { readonly file: string }>
  /** Why the run is worth nothing. */
  readonly broken: string | undefined
}

interface Json {
  readonly testResults: ReadonlyArray<
    { readonly name: string; readonly message: string; readonly status: string; readonly assertionResults: Array<Test> }
  >
}

/** Runs the tests that SECURITY.md names, some of them, in a copy. */
const vitest = Effect.fnUntraced(function*(copy: string, tests: ReadonlyArray<Shown>, kind: keyof typeof testTimeout) {
  const file = join(copy, "results.json")
  const files = [...new Set(tests.map((test) => test.file))]
  const pattern = [...new Set(tests.map(patternOf))].join("|")
  const limits = [`--testTimeout=${testTimeout[kind]}`, `--bail=${kind === "mutant" ? 1 : 0}`, "--maxWorkers=1"]
  rmSync(file, { force: true })
  const args = ["run", ...files, "-t", pattern, "--reporter=json", `--outputFile=${file}`, ...limits]
  const { code, output } = yield* tool(copy, "vitest/vitest.mjs", args)
  return read(file, copy, code, output)
})

const read = (file: string, copy: string, code: number | null, output: string): Results => {
  const text = code === null ? "" : readText(file)
  if (text === "") return { tests: [], broken: output.trim().slice(-600) }
  const { testResults } = JSON.parse(text) as Json
  const tests = testResults.flatMap(({ assertionResults, name }) =>
    assertionResults.map((test) => ({ ...test, file: name.slice(copy.length + 1) }))
  )
  const failed = tests.some(({ status }) => status === "failed")
  const unloaded = testResults.find(({ assertionResults, status }) =>
    status === "failed" && !assertionResults.some((test) => test.status === "failed")
  )
  const broken = unloaded?.message ?? (code !== 0 && !failed ? output.trim().slice(-600) : undefined)
  return { tests, broken: broken?.slice(0, 600) }
}

const readText = (file: string): string => {
  try {
    return readFileSync(file, "utf8")
  } catch {
    return ""
  }
}

/** The copy as it is: what SECURITY.md names is there and passes. */
const baseline = Effect.fnUntraced(function*(copy: string, tests: ReadonlyArray<Shown>) {
  const results = yield* vitest(copy, tests, "baseline")
  const failed = results.tests.filter(({ status }) => status === "failed").map((test) =>
    `${test.file}: fails without a mutant: ${test.fullName}\n${test.failureMessages.join("\n").slice(0, 400)}`
  )
  const missing = tests.filter((test) => {
    const pattern = new RegExp(patternOf(test))
    return !results.tests.some(({ file, fullName, status }) =>
      file === test.file && status === "passed" && pattern.test(fullName)
    )
  }).map(({ file, row, title }) => `${row}: ${file} has no passing test "${title}"`)
  return [...results.broken === undefined ? [] : [results.broken], ...failed, ...missing]
})

const mutated = (copy: string, { file, replace, search }: Mutant): string =>
  readFileSync(join(copy, file), "utf8").split(search).join(replace)

const besides = ({ file, id }: Numbered): string => file.replace(/\.ts$/, `.mutant${id}.ts`)

/** What is wrong with mutants, by id: not found exactly once, or a type error. All are compiled at once, beside the sources. */
const faults = Effect.fnUntraced(function*(copy: string, all: ReadonlyArray<Numbered>) {
  const found = new Map<number, string>()
  for (const mutant of all) {
    const count = occurrences(readFileSync(join(copy, mutant.file), "utf8"), mutant.search)
    if (count !== 1) found.set(mutant.id, `its search text is found ${count} times; mend it`)
    else writeFileSync(join(copy, besides(mutant)), mutated(copy, mutant))
  }
  const compilerOptions = { noUnusedLocals: false, noUnusedParameters: false }
  const config = { extends: "./tsconfig.json", compilerOptions, include: ["src"] }
  writeFileSync(join(copy, "tsconfig.mutants.json"), JSON.stringify(config))
  const { output } = yield* tool(copy, "typescript/bin/tsc", ["-p", "tsconfig.mutants.json", "--pretty", "false"])
  for (const [, id, message] of output.matchAll(/^src\/\S+\.mutant(\d+)\.ts\(\d+,\d+\): (.*)$/gm)) {
    if (!found.has(Number(id))) found.set(Number(id), `it does not type-check: ${message}`)
  }
  if (/did not end/.test(output)) found.set(-1, output)
  for (const mutant of all) rmSync(join(copy, besides(mutant)), { force: true })
  return found
})

const isTimeout = ({ failureMessages }: Test): boolean => failureMessages.some((text) => /timed out in/.test(text))

const judge = (results: Results): Pick<Verdict, "kind" | "why"> => {
  const failed = results.tests.find(({ status }) => status === "failed")
  if (failed !== undefined) return { kind: "killed", why: failed.title + (isTimeout(failed) ? " (timed out)" : "") }
  if (results.broken !== undefined) return { kind: "invalid", why: results.broken }
  return results.tests.some(({ status }) => status === "passed")
    ? { kind: "survived", why: "all tests of the row pass" }
    : { kind: "invalid", why: "its row names no test in its test file" }
}

const attempt = Effect.fnUntraced(function*(copy: string, mutant: Numbered) {
  const file = join(copy, mutant.file)
  const source = readFileSync(file, "utf8")
  const start = process.hrtime.bigint()
  writeFileSync(file, mutated(copy, mutant))
  const tests = shown.filter((test) => test.row === mutant.row && test.file === mutant.test)
  const results = yield* Effect.ensuring(
    vitest(copy, tests, "mutant"),
    Effect.sync(() => writeFileSync(file, source))
  )
  const seconds = Number(process.hrtime.bigint() - start) / 1e9
  const verdict: Verdict = { mutant, seconds, ...judge(results) }
  if (verdict.kind !== "killed") say(`${mutant.row} ${mutant.name}: ${verdict.kind}: ${verdict.why}`)
  return verdict
})

const makeCopies = (): { readonly work: string; readonly copies: Array<string> } => {
  const work = mkdtempSync(join(tmpdir(), "effect-smtp-mutants-"))
  const copies = Array.from({ length: workers }, (_, index) => join(work, String(index)))
  for (const copy of copies) {
    for (const path of ["src", "test", "vitest.config.ts", "tsconfig.json", "package.json"]) {
      cpSync(join(root, path), join(copy, path), {
        recursive: true,
        filter: (from) => !from.startsWith(join(root, "test/integration"))
      })
    }
    symlinkSync(join(root, "node_modules"), join(copy, "node_modules"))
  }
  return { work, copies }
}

const row = (cells: ReadonlyArray<string>, widths: ReadonlyArray<number>): string =>
  `| ${cells.map((cell, index) => cell.slice(0, widths[index]).padEnd(widths[index] ?? 0)).join(" | ")} |`

const widths = [4, 64, 36, 100, 7]

const report = (verdicts: ReadonlyArray<Verdict>): void => {
  say(row(["Row", "Mutant", "File", "Killed by", "Seconds"], widths))
  say(row(widths.map((width) => "-".repeat(width)), widths))
  for (const { kind, mutant, seconds, why } of verdicts) {
    const by = kind === "killed" ? why : `${kind.toUpperCase()}: ${why.replaceAll(/\s+/g, " ")}`
    say(row([mutant.row, mutant.name, mutant.file, by, seconds.toFixed(1)], widths))
  }
}

const number = (row: Row): number => Number(row.slice(1))

const chosen = (wanted: ReadonlyArray<string>): ReadonlyArray<Numbered> =>
  (Object.entries(mutants) as Array<[Row, ReadonlyArray<Mutant>]>)
    .filter(([row]) => wanted.length === 0 || wanted.includes(row))
    .toSorted(([a], [b]) => number(a) - number(b))
    .flatMap(([row, all]) => all.map((mutant) => ({ ...mutant, row })))
    .map((mutant, id) => ({ ...mutant, id }))

/** Each copy takes one thing after the other. */
const spread = <A, B>(copies: Array<string>, all: ReadonlyArray<A>, run: (copy: string, a: A) => Effect.Effect<B>) =>
  Effect.forEach(
    all,
    (a) =>
      Effect.acquireUseRelease(
        Effect.sync(() => copies.pop()!),
        (copy) => run(copy, a),
        (copy) => Effect.sync(() => void copies.push(copy))
      ),
    { concurrency: copies.length }
  )

const runAll = Effect.fnUntraced(function*(copies: Array<string>, wanted: ReadonlyArray<string>) {
  const all = chosen(wanted)
  const tests = shown.filter((test) => all.some((mutant) => mutant.row === test.row))
  const files = [...new Set(tests.map((test) => test.file))]
  say(`${tests.length} tests in ${files.length} files without a mutant, then ${all.length} mutants`)
  const wrong = yield* faults(copies[0]!, all)
  const red = (yield* spread(copies, files, (copy, file) => baseline(copy, tests.filter((test) => test.file === file))))
    .flat()
  for (const text of red) say(text)
  if (red.length > 0) return say("the tests have to pass before mutants mean anything")
  const verdicts = yield* spread(copies, all, (copy, mutant): Effect.Effect<Verdict> => {
    const why = wrong.get(mutant.id) ?? wrong.get(-1)
    return why === undefined
      ? attempt(copy, mutant)
      : Effect.succeed({ mutant, kind: "invalid", why, seconds: 0 })
  })
  report(verdicts)
  const count = (kind: Verdict["kind"]) => verdicts.filter((verdict) => verdict.kind === kind).length
  const invalid = count("invalid")
  if (invalid === 0 && count("survived") === 0 && verdicts.length > 0) process.exitCode = 0
  say(`${count("killed")} killed, ${count("survived")} survived${invalid === 0 ? "" : `, ${invalid} invalid`}`)
})

process.exitCode = 1
Effect.acquireUseRelease(
  Effect.sync(makeCopies),
  ({ copies }) => runAll(copies, process.argv.slice(2)),
  ({ work }) => Effect.sync(() => rmSync(work, { recursive: true, force: true }))
).pipe(NodeRuntime.runMain)
