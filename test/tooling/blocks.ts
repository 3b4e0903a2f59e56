/**
 * The blocks of Markdown that are not TypeScript: commands that must exist, output that must come, data that must parse.
 */
import { existsSync, readFileSync } from "node:fs"
import type { Block } from "./docs.ts"
import { fileNameOf } from "./sessions.ts"
import { root, type Violation } from "./source.ts"

/** What a command may name. */
export interface Known {
  readonly scripts: ReadonlyArray<string>
  readonly bins: ReadonlyArray<string>
  readonly packages: ReadonlyArray<string>
  readonly isFile: (path: string) => boolean
}

interface Manifest {
  readonly name: string
  readonly scripts?: Readonly<Record<string, string>>
  readonly bin?: Readonly<Record<string, string>>
  readonly devDependencies?: Readonly<Record<string, string>>
  readonly peerDependencies?: Readonly<Record<string, string>>
}

/** What this repository has. */
export const readKnown = (): Known => {
  const manifest = JSON.parse(readFileSync(`${root}package.json`, "utf8")) as Manifest
  const dependencies = { ...manifest.devDependencies, ...manifest.peerDependencies }
  return {
    scripts: Object.keys(manifest.scripts ?? {}),
    bins: [...Object.keys(manifest.bin ?? {}), "tsc", "vitest", "dprint", "oxlint"],
    packages: [manifest.name, ...Object.keys(dependencies)],
    isFile: (path) => existsSync(root + path)
  }
}

/** Commands of every machine, of which nothing more is asked. */
const ordinary = [
  "cat",
  "cd",
  "docker",
  "echo",
  "export",
  "git",
  "mkdir",
  "openssl",
  "printf",
  "sudo",
  "swaks",
  "unset"
]

const languages = ["sh", "console", "text", "json", "eml", "diff", "ini"]

/** The commands of one line, without what the shell itself understands. */
const commandsOf = (line: string): ReadonlyArray<ReadonlyArray<string>> =>
  line.replace(/"[^"]*"|'[^']*'/g, "QUOTED").replace(/(^|\s)#.*$/, "").split(/&&|\|\||[;|]|(?<=\s)&\s*$/)
    .map((command) => command.trim().split(/\s+/).filter((word) => !/^(\w+=\S*|\d?[<>]+\S*|)$/.test(word)))
    .filter((words) => words.length > 0)

const isOption = (word: string): boolean => word.startsWith("-")

/** "@scope/name@1.2.3" without its version. */
const packageOf = (word: string): string => word.replace(/(?<=.)@[^@/]*$/, "")

const npmProblem = ([verb = "", ...rest]: ReadonlyArray<string>, known: Known): string | undefined => {
  const names = rest.filter((word) => !isOption(word))
  switch (verb) {
    case "ci":
    case "init":
    case "pack":
    case "pkg":
      return undefined
    case "test":
    case "run": {
      const script = verb === "test" ? "test" : names[0] ?? ""
      return known.scripts.includes(script) ? undefined : `package.json has no script "${script}"`
    }
    case "exec":
      return programProblem(rest.slice(rest.indexOf("--") + 1), known)
    case "i":
    case "install": {
      const strange = names.find((name) => !known.packages.includes(packageOf(name)))
      return strange === undefined ? undefined : `"${strange}" is no dependency of this project`
    }
    default:
      return `npm ${verb} is not known here`
  }
}

const programProblem = ([program = "", ...rest]: ReadonlyArray<string>, known: Known): string | undefined => {
  if (program === "npm") return npmProblem(rest, known)
  if (program === "npx") return programProblem(rest.filter((word) => word !== "--yes" && word !== "-y"), known)
  if (program === "node") {
    const file = rest.find((word) => !isOption(word))
    return file === undefined || known.isFile(file) ? undefined : `there is no file ${file}`
  }
  if (known.bins.includes(program) || ordinary.includes(program)) return undefined
  if (program.includes("/")) return known.isFile(program) ? undefined : `there is no file ${program}`
  return `"${program}" is not known: a script or program of package.json, or add it to \`ordinary\` in test/tooling/blocks.ts`
}

/** Lines that a backslash joins. */
const joined = (lines: ReadonlyArray<string>): ReadonlyArray<string> =>
  lines.join("\n").replace(/\\\n\s*/g, " ").split("\n")

/** What is wrong with the commands of an `sh` block, or those behind `$ ` in a `console` block. */
const commandProblems = ({ info, lines }: Block, known: Known): ReadonlyArray<string> => {
  const typed = info.startsWith("console")
    ? joined(lines).filter((line) => line.startsWith("$ ")).map((line) => line.slice(2))
    : joined(lines)
  if (info.startsWith("console") && typed.length === 0) return ["a console block shows a command: \"$ npm test\""]
  return typed.flatMap((line) =>
    commandsOf(line).flatMap((words) => {
      const problem = programProblem(words, known)
      return problem === undefined ? [] : [`${words.join(" ")}: ${problem}`]
    })
  )
}

const problemsOf = (block: Block, known: Known): ReadonlyArray<string> => {
  const [language = "", ...marks] = block.info.split(" ")
  if (/^(ts|typescript|tsx|js|javascript)$/.test(language)) return []
  if (!languages.includes(language)) return [`say what the block is: ts, ${languages.join(", ")}`]
  if (language === "json") {
    try {
      JSON.parse(block.lines.join("\n"))
    } catch (error) {
      return [(error as Error).message]
    }
  }
  if (language === "text" && marks[0] !== undefined && !known.isFile(marks[0])) return [`there is no file ${marks[0]}`]
  return language === "sh" || language === "console" ? commandProblems(block, known) : []
}

/** What is wrong with the blocks that are not TypeScript. A page knows the files that its own blocks hold. */
export const checkBlocks = (blocks: ReadonlyArray<Block>, known: Known): ReadonlyArray<Violation> =>
  blocks.flatMap((block) => {
    const own = blocks.filter(({ file }) => file === block.file).map(fileNameOf)
    const isFile = (path: string): boolean => own.includes(path) || known.isFile(path)
    return problemsOf(block, { ...known, isFile }).map((message) => ({
      file: block.file,
      line: block.line,
      rule: "block",
      message
    }))
  })

/** A `text` block marked with a program: ```text scratchpad/demo.ts */
export const programOf = ({ info }: Block): string | undefined => /^text (\S+\.ts)$/.exec(info)?.[1]

/** Whether the lines stand in the output, one below the other; "…" stands for whatever else is in its line. */
export const isShown = (lines: ReadonlyArray<string>, output: string): boolean => {
  const patterns = lines.map((line) =>
    new RegExp(`^${line.trimEnd().split("…").map((part) => escaped(part)).join(".*")}$`)
  )
  const said = output.split("\n").map((line) => line.trimEnd())
  return said.some((_, from) =>
    patterns.every((pattern, index) => from + index < said.length && pattern.test(said[from + index]!))
  )
}

const escaped = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")
