/**
 * The guarantees of SECURITY.md, the tests that show them, and what a mutant is: one guarantee broken in one place.
 */
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"

export const root = fileURLToPath(new URL("../../", import.meta.url))

export type Row = `S${number}`

/** What breaks a guarantee in a copy of the source, and the test file of its row that has to go red. */
export interface Mutant {
  readonly name: string
  readonly file: string
  /** Occurs exactly once in the file. */
  readonly search: string
  readonly replace: string
  readonly test: string
}

export type Mutants = { readonly [K in Row]?: ReadonlyArray<Mutant> }

/** A test that SECURITY.md names for a row: its title as the source has it, or "group > title". */
export interface Shown {
  readonly row: Row
  readonly file: string
  readonly title: string
}

export const security: string = readFileSync(`${root}SECURITY.md`, "utf8")

export const rows: ReadonlyArray<Row> = Array.from({ length: 24 }, (_, index): Row => `S${index + 1}`)

export const shown: ReadonlyArray<Shown> = [
  ...security.matchAll(/^\| (S\d+) +\| \[(test\/\S+\.test\.ts)\]\(\2\) +\| `(.+?)` +\|$/gm)
].map(([, row, file, title]) => ({ row: row as Row, file: file!, title: title! }))

/** The group, where there is one, and the title. */
export const partsOf = ({ title }: Shown): ReadonlyArray<string> => title.split(" > ")

const escaped = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&")

const partPattern = (part: string): string => part.split(/\$\{[^{}]*\}|%[sjd#]/).map(escaped).join("[^]*")

/**
 * What a title may come out as: ${…} and %s stand for anything. Vitest joins groups and title by " > " for its `-t`, and by
 * a space in its reports.
 */
export const patternOf = (test: Shown): string => `^(?:[^]* )?${partsOf(test).map(partPattern).join(" (?:> )?")}$`

export const occurrences = (text: string, part: string): number => text.split(part).length - 1
