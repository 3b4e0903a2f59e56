/** The one table: from outcomes to Markdown. Pure. */
import type { Sample } from "./clients/model.ts"
import type { Judgement, Metric, Outcome, Spread, Unit } from "./model.ts"

/** Three significant digits, never an exponent. */
export const figure = (value: number): string => {
  if (!Number.isFinite(value)) return "–"
  if (value === 0) return "0"
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))))
  return value.toFixed(Math.min(digits, 6))
}

const perSecond = (unit: Unit, sample: Sample): string => {
  switch (unit) {
    case "messages":
      return `${figure(sample.messages / sample.wall)} msg/s`
    case "octets":
      return `${figure(sample.octets / sample.wall / 1e6)} MB/s`
    default:
      return `${figure(sample.wall)} s`
  }
}

const cpuOf = (sample: Sample): string => {
  const each = sample.cpu / sample.messages
  if (sample.messages < 2) return `${figure(sample.cpu)} s CPU`
  return each < 0.001 ? `${figure(each * 1e6)} µs CPU/msg` : `${figure(each * 1e3)} ms CPU/msg`
}

const memoryOf = ({ perConnection }: Sample): ReadonlyArray<string> =>
  perConnection === undefined
    ? []
    : [`${figure(perConnection.heap / 1024)} KiB heap and ${figure(perConnection.resident / 1024)} KiB resident each`]

const contender = (unit: Unit, of: Outcome["ours"]): string =>
  of === undefined
    ? "–"
    : `${of.label}: ${
      [...unit === "connections" ? memoryOf(of.sample) : [], cpuOf(of.sample), perSecond(unit, of.sample)].join(", ")
    }`

const spreadOf = (spread: Spread | undefined): string =>
  spread === undefined
    ? "–"
    : spread.min === spread.max
    ? figure(spread.median)
    : `${figure(spread.median)} (${figure(spread.min)}–${figure(spread.max)})`

const words: { readonly [M in Metric]: readonly [name: string, unit: string] } = {
  cpu: ["CPU", ""],
  speed: ["speed", ""],
  roundTrips: ["round trips", ""],
  growth: ["memory growth", " MB"],
  heap: ["heap", ""],
  resident: ["resident", ""]
}

const targetOf = ({ is, metric, value }: Judgement): string => {
  const [name, unit] = words[metric]
  return `${name} ${is === "atMost" ? "≤" : "≥"} ${value}${unit}`
}

/** Those that stand in no column of their own say what was measured. */
const verdictOf = ({ measured, metric, reached }: Judgement): string => {
  const [name, unit] = words[metric]
  return metric === "cpu" || metric === "speed"
    ? `${name} ${reached ? "yes" : "no"}`
    : `${name} ${figure(measured)}${unit}: ${reached ? "yes" : "no"}`
}

const reachedOf = ({ judgements }: Outcome): string => {
  if (judgements.length === 0) return "–"
  const isReached = judgements.every(({ reached }) => reached)
  const each = judgements.map(verdictOf).join(", ")
  return judgements.length === 1 && (isReached || !/\d/.test(each)) ? (isReached ? "yes" : "no") : each
}

const loadOf = ({ load, note, pairs, server }: Outcome): string =>
  `${load}; ${server}${pairs === 0 ? "" : `; ${pairs} pair${pairs === 1 ? "" : "s"}`}${note === "" ? "" : `; ${note}`}`

const header = ["Row", "Load", "Ours", "Peer", "CPU ratio", "Speed ratio", "Target", "Reached"]

const cellsOf = (outcome: Outcome): ReadonlyArray<string> =>
  outcome.skipped === undefined
    ? [
      outcome.row,
      loadOf(outcome),
      contender(outcome.unit, outcome.ours),
      contender(outcome.unit, outcome.peer),
      spreadOf(outcome.metrics.cpu),
      spreadOf(outcome.metrics.speed),
      outcome.judgements.length === 0 ? "reported" : outcome.judgements.map(targetOf).join(", "),
      reachedOf(outcome)
    ]
    : [outcome.row, outcome.load, `not measured: ${outcome.skipped.slice(0, 160)}`, "–", "–", "–", "–", "–"]

const line = (cells: ReadonlyArray<string>, widths: ReadonlyArray<number>): string =>
  `| ${cells.map((cell, n) => cell.padEnd(widths[n] ?? 0)).join(" | ")} |`

/** Nothing in a cell may end it. */
const escape = (cell: string): string => cell.replaceAll(/\s+/g, " ").replaceAll("|", "\\|")

/** A Markdown table, its columns aligned. */
export const render = (outcomes: ReadonlyArray<Outcome>): string => {
  const rows = [header, ...outcomes.map(cellsOf)].map((cells) => cells.map(escape))
  const widths = header.map((_, n) => Math.max(...rows.map((cells) => cells[n]!.length)))
  const [first, ...rest] = rows.map((cells) => line(cells, widths))
  return [first, line(widths.map((width) => "-".repeat(width)), widths), ...rest].join("\n")
}

export interface About {
  readonly date: string
  readonly command: string
  readonly machine: string
  readonly versions: Readonly<Record<string, string>>
  /** What kept the run from being as it should. */
  readonly warnings: ReadonlyArray<string>
}

/** The file with the table and what it was made of. */
export const document = (about: About, outcomes: ReadonlyArray<Outcome>): string => {
  const versions = Object.entries(about.versions).map(([name, version]) => `${name} ${version}`).join(", ")
  return [
    "# Benchmarks",
    `\`${about.command}\` on ${about.date}, ${about.machine}.`,
    `Versions: ${versions}.`,
    [
      "Each row alternates ours and the peer in one run; server on CPU 0, client on CPU 1. Ratios are ours over the peer's,",
      "the median of the pairs with the lowest and the highest: CPU seconds of the client process for a message (less is",
      "better), and messages a second (more is better)."
    ].join("\n"),
    ...about.warnings.map((warning) => `Note: ${warning}.`),
    render(outcomes)
  ].join("\n\n") + "\n"
}
