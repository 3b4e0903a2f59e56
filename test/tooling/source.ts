/**
 * Reading the sources of the project as syntax trees: what the architecture and documentation tests stand on.
 */
import { readdirSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { parseAst } from "vitest/node"

/** The root of the project, with a slash at its end. */
export const root = fileURLToPath(new URL("../../", import.meta.url))

/** Files by path, e.g. "node/index.ts" below src. */
export type Sources = ReadonlyMap<string, string>

/** One broken rule, in words that say how to mend it. */
export interface Violation {
  readonly file: string
  readonly line: number
  readonly rule: string
  readonly message: string
}

/** A node of the syntax tree (ESTree with TypeScript). */
export interface Node {
  readonly type: string
  readonly start: number
  readonly end: number
  readonly [key: string]: unknown
}

const isNode = (u: unknown): u is Node =>
  typeof u === "object" && u !== null && "type" in u && typeof u.type === "string" && "start" in u

/** The TypeScript files below a folder of the project (or of another place), by their path inside it. */
export const readSources = (folder: string, base: string = root): Sources => {
  const paths = readdirSync(base + folder, { recursive: true, encoding: "utf8" })
  const files = paths.map((path) => path.replaceAll("\\", "/")).filter((path) => path.endsWith(".ts")).toSorted()
  return new Map(files.map((path) => [path, readFileSync(`${base}${folder}/${path}`, "utf8")]))
}

/** Whether a file is for the house alone: all of internal/, and what has a camelCase name in another folder. */
export const isPrivate = (path: string): boolean => /^internal\/|\/[a-z][^/]*$/.test(path)

/** The top-level statements of a source file. */
export const parse = (file: string, text: string): ReadonlyArray<Node> =>
  parseAst(text, { lang: "ts" }, file).body as unknown as ReadonlyArray<Node>

/** The nodes right below a node. */
export const childrenOf = (node: Node): ReadonlyArray<Node> =>
  Object.values(node).flatMap((value) => (Array.isArray(value) ? value.filter(isNode) : isNode(value) ? [value] : []))

/** Every node, parents before children. */
export const walk = (nodes: ReadonlyArray<Node>, visit: (node: Node) => void): void => {
  for (const node of nodes) {
    visit(node)
    walk(childrenOf(node), visit)
  }
}

/** The child under a key, when there is one. */
export const child = (node: Node, key: string): Node | undefined => {
  const value = node[key]
  return isNode(value) ? value : undefined
}

/** The name of an identifier, or the value of a string literal. */
export const nameOf = (node: Node | undefined): string | undefined => {
  const name = node?.["name"] ?? node?.["value"]
  return typeof name === "string" ? name : undefined
}

/** The line of an offset, from 1. */
export const lineAt = (text: string, offset: number): number => text.slice(0, offset).split("\n").length

/** The violations as lines for an assertion. */
export const render = (violations: ReadonlyArray<Violation>): ReadonlyArray<string> =>
  violations.map(({ file, line, message, rule }) => `${file}:${line} [${rule}] ${message}`)
