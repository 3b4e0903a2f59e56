/**
 * Reading the documentation: the examples in JSDoc and Markdown, and the exports that lack words.
 */
import { readdirSync, readFileSync } from "node:fs"
import { posix } from "node:path"
import { child, childrenOf, lineAt, nameOf, type Node, parse, root, type Sources, type Violation } from "./source.ts"

/** One ```ts block. */
export interface Example {
  readonly file: string
  /** The line of the fence, from 1. */
  readonly line: number
  /** False: only its types are checked (```ts no-run, Markdown alone). */
  readonly isRun: boolean
  readonly code: string
}

/** One fenced block, whatever is in it. */
export interface Block {
  readonly file: string
  /** The line of the fence, from 1. */
  readonly line: number
  /** What stands behind the fence: "sh", "ts no-run". */
  readonly info: string
  readonly lines: ReadonlyArray<string>
}

const comment = /\/\*\*[\s\S]*?\*\//g
const typescript = /^(ts|typescript|tsx|js|javascript)\b/

interface Fence {
  readonly line: number
  readonly indent: number
  readonly info: string
}

/** Signatures in the API reference come from the compiler: they are neither checked nor run as examples. */
const isSignature = ({ file, info }: Block): boolean => info === "ts signature" && file.startsWith("docs/api/")

const makeExample = ({ file, info, line, lines }: Block): Example => {
  const isMarkdown = file.endsWith(".md")
  if (info !== "ts" && !(isMarkdown && info === "ts no-run")) {
    const allowed = isMarkdown ? "`ts` or `ts no-run`" : "`ts`"
    throw new Error(`${file}:${line}: mark the example ${allowed}, not \`${info}\``)
  }
  return { file, line, isRun: info === "ts", code: lines.join("\n") }
}

const blocksOf = (file: string, lines: ReadonlyArray<string>, firstLine: number): ReadonlyArray<Block> => {
  const blocks: Array<Block> = []
  let open: Fence | undefined
  let inside: Array<string> = []
  for (const [index, text] of lines.entries()) {
    const fence = /^(\s*)```(.*)$/.exec(text)
    if (open === undefined) {
      if (fence === null) continue
      open = { line: firstLine + index, indent: fence[1]?.length ?? 0, info: fence[2]?.trim() ?? "" }
      inside = []
    } else if (fence === null) inside.push(text.slice(open.indent))
    else {
      blocks.push({ file, line: open.line, info: open.info, lines: inside })
      open = undefined
    }
  }
  if (open !== undefined) throw new Error(`${file}:${open.line}: the code block is not closed`)
  return blocks
}

const examplesOf = (blocks: ReadonlyArray<Block>): ReadonlyArray<Example> =>
  blocks.filter((block) => typescript.test(block.info) && !isSignature(block)).map(makeExample)

const linesOf = (jsdoc: string): ReadonlyArray<string> =>
  jsdoc.slice(3, -2).split("\n").map((line, index) => (index === 0 ? line : line.replace(/^\s*\* ?/, "")))

/** The examples in the JSDoc of a source file. */
export const fromSource = (file: string, text: string): ReadonlyArray<Example> =>
  [...text.matchAll(comment)].flatMap((found) =>
    examplesOf(blocksOf(file, linesOf(found[0]), lineAt(text, found.index)))
  )

/** Every fenced block of a Markdown file. */
export const fromPage = (file: string, text: string): ReadonlyArray<Block> => blocksOf(file, text.split("\n"), 1)

/** The examples in a Markdown file. */
export const fromMarkdown = (file: string, text: string): ReadonlyArray<Example> => examplesOf(fromPage(file, text))

/** The Markdown files of the repository, by their path in it. */
export const readPages = (): ReadonlyMap<string, string> => {
  const skipped = /^(node_modules|dist|coverage|\.git|\.docs-cache)(\/|$)/
  const below = (folder: string): ReadonlyArray<string> =>
    readdirSync(root + folder, { withFileTypes: true }).flatMap((entry) => {
      const path = `${folder}${entry.name}`
      if (skipped.test(path)) return []
      return entry.isDirectory() ? below(`${path}/`) : path.endsWith(".md") ? [path] : []
    })
  return new Map(below("").toSorted().map((path) => [path, readFileSync(root + path, "utf8")]))
}

/** Examples without those that say the same as an earlier one: the API reference repeats what JSDoc says. */
export const withoutRepeats = (examples: ReadonlyArray<Example>): ReadonlyArray<Example> => {
  const seen = new Set<string>()
  return examples.filter(({ code, isRun }) => {
    const key = `${isRun} ${code.split(/\W+/).toSorted().join(" ")}`
    return !seen.has(key) && seen.add(key)
  })
}

/** The example as a module whose lines have the numbers that they have in its file. */
export const toModule = (example: Example): string => `${"\n".repeat(example.line)}${example.code}\n`

/** The JSDoc right before an offset; the comment that begins the file is the module's. */
const jsdocBefore = (text: string, offset: number): string => {
  const before = text.slice(0, offset).trimEnd()
  const start = before.lastIndexOf("/**")
  return before.endsWith("*/") && start > 0 ? before.slice(start) : ""
}

const lacks = (jsdoc: string, needsCategory: boolean): ReadonlyArray<string> => {
  const body = jsdoc === "" ? "" : linesOf(jsdoc).join("\n")
  const [words = ""] = body.split(/(?:^|\s)@[a-z]/)
  return [
    ...(/\S\s+\S[\s\S]*[.:!?)`]/.test(words.trim()) ? [] : ["a sentence"]),
    ...(!needsCategory || /(^|\s)@category [a-z]/.test(body) ? [] : ["@category"]),
    ...(/(^|\s)@since \d+\.\d+\.\d+/.test(body) ? [] : ["@since"])
  ]
}

interface Origin {
  readonly specifier: string
  readonly name: string
}

interface Value {
  readonly name: string
  readonly jsdoc: string
  readonly start: number
  /** Where a re-exported value comes from: the words may stand there. */
  readonly origin?: Origin | undefined
}

const namesOf = (declaration: Node): ReadonlyArray<string> => {
  const declarators = childrenOf(declaration).filter((node) => node.type === "VariableDeclarator")
  const named = declarators.length === 0 ? [declaration] : declarators
  return named.map((node) => nameOf(child(node, "id")) ?? "(pattern)")
}

const valuesOf = (text: string, node: Node): ReadonlyArray<Value> => {
  const declaration = child(node, "declaration")
  const jsdoc = jsdocBefore(text, node.start)
  if (!/^Export(Named|All)Declaration$/.test(node.type) || node["exportKind"] === "type") return []
  if (declaration !== undefined) {
    if (/^TS(Interface|TypeAlias)Declaration$/.test(declaration.type)) return []
    return namesOf(declaration).map((name) => ({ name, jsdoc, start: node.start }))
  }
  if (node.type === "ExportAllDeclaration") {
    return [{ name: nameOf(child(node, "exported")) ?? "*", jsdoc, start: node.start }]
  }
  const specifier = nameOf(child(node, "source"))
  const specifiers = childrenOf(node).filter((one) => one.type === "ExportSpecifier" && one["exportKind"] !== "type")
  return specifiers.map((one) => ({
    name: nameOf(child(one, "exported")) ?? "(unnamed)",
    jsdoc: jsdocBefore(text, one.start) || jsdoc,
    start: one.start,
    origin: specifier === undefined ? undefined : { specifier, name: nameOf(child(one, "local")) ?? "(unnamed)" }
  }))
}

/** Where the imported names of a file come from. */
const importsOf = (body: ReadonlyArray<Node>): ReadonlyMap<string, Origin> => {
  const statements = body.filter((node) => node.type === "ImportDeclaration")
  return new Map(
    statements.flatMap((node) =>
      childrenOf(node).filter((one) => one.type === "ImportSpecifier").map((one) => {
        const origin = { specifier: nameOf(child(node, "source")) ?? "", name: nameOf(child(one, "imported")) ?? "" }
        return [nameOf(child(one, "local")) ?? "", origin] as const
      })
    )
  )
}

const exportsOf = (file: string, text: string): ReadonlyArray<Value> => {
  const body = parse(file, text)
  const imports = importsOf(body)
  return body.flatMap((node) => valuesOf(text, node)).map((value) => ({
    ...value,
    origin: value.origin ?? imports.get(value.name)
  }))
}

const isDocumented = (sources: Sources, file: string, { jsdoc, origin }: Value): boolean => {
  if (lacks(jsdoc, true).length === 0) return true
  if (origin === undefined) return false
  const path = posix.join(posix.dirname(file), origin.specifier)
  const there = exportsOf(path, sources.get(path) ?? "").filter((value) => value.name === origin.name)
  return there.some((value) => isDocumented(sources, path, value))
}

/**
 * The exported values of a file that lack a sentence, a category or a version, and a missing module header. The words of
 * a re-exported value may stand where it is declared.
 */
export const undocumented = (sources: Sources, file: string): ReadonlyArray<Violation> => {
  const text = sources.get(file) ?? ""
  const violations: Array<Violation> = []
  const report = (offset: number, message: string): void => {
    violations.push({ file, line: lineAt(text, offset), rule: "docs", message })
  }
  const header = /^\/\*\*[\s\S]*?\*\//.exec(text)?.[0] ?? ""
  const missing = lacks(header, false)
  if (missing.length > 0) report(0, `the module header lacks ${missing.join(", ")}`)
  const values = exportsOf(file, text)
  const documented = new Set(values.filter((one) => isDocumented(sources, file, one)).map((one) => one.name))
  for (const value of values) {
    if (documented.has(value.name)) continue
    report(value.start, `${value.name} lacks ${lacks(value.jsdoc, true).join(", ")}`)
  }
  return violations
}
