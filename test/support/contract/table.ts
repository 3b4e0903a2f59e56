/** The result of the contract suite as Markdown: servers × capabilities × mechanisms × checks. */
import { type Described, type Finding, mechanismsOf, offered, spoken } from "./subject.ts"

export interface Row {
  readonly name: string
  /** Undefined: it did not start. */
  subject: Described | undefined
  readonly findings: Map<string, Finding>
}

export const makeRow = (name: string): Row => ({ name, subject: undefined, findings: new Map() })

const line = (cells: ReadonlyArray<string>): string =>
  `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`

const table = (head: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>): string =>
  [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n")

const tlsOf = ({ doors, profile }: Described): string => {
  const modes = [
    ...(profile.offers.clear.includes("STARTTLS") ? ["STARTTLS"] : []),
    ...("lacks" in doors.implicit ? [] : ["implicit"])
  ]
  return modes.join(", ") || "–"
}

/** Mechanisms that the suite logged in with are bold. */
const loginsOf = (subject: Described): string => {
  const names = new Set(spoken(subject).map(({ name }) => name))
  return mechanismsOf(subject).map((name) => names.has(name) ? `**${name}**` : name).join(" ") || "–"
}

const capabilitiesOf = (subject: Described): string =>
  offered(subject).filter((keyword) => keyword !== "AUTH" && keyword !== "STARTTLS").join(" ") ||
  (subject.profile.extended ? "–" : "HELO only")

const countOf = (row: Row, titles: ReadonlyArray<string>): string => {
  const found = titles.flatMap((title) => row.findings.get(title) ?? [])
  const count = found.filter((finding) => finding === "shown").length
  const missing = titles.length - found.length
  return `${count} shown, ${found.length - count} declared${missing === 0 ? "" : `, ${missing} FAILED`}`
}

const serverRow = (titles: ReadonlyArray<string>) => (row: Row): ReadonlyArray<string> =>
  row.subject === undefined ? [row.name, "did not run", "", "", "", ""] : [
    row.name,
    row.subject.version,
    tlsOf(row.subject),
    capabilitiesOf(row.subject),
    loginsOf(row.subject),
    countOf(row, titles)
  ]

const cell = (finding: Finding | undefined): string =>
  finding === undefined ? "FAILED" : finding === "shown" ? "yes" : finding.instead

/** All that was found, ready to be pasted into the README. */
export const render = (rows: ReadonlyArray<Row>, titles: ReadonlyArray<string>): string => {
  const ran = rows.filter(({ subject }) => subject !== undefined)
  const servers = table(
    ["Server", "Version", "TLS", "Capabilities", "Mechanisms", "Checks"],
    rows.map(serverRow(titles))
  )
  const checks = table(
    ["Check", ...ran.map(({ name }) => name)],
    titles.map((title) => [title, ...ran.map(({ findings }) => cell(findings.get(title)))])
  )
  return `${servers}\n\n${checks}\n`
}
