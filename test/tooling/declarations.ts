/**
 * The public API as the compiler declares it: each export of each entry of the package, with its words and signature.
 */
import * as Arr from "effect/Array"
import { execFile } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, posix } from "node:path"
import { child, childrenOf, nameOf, type Node, parse, readSources, root, type Sources } from "./source.ts"

/** One public name: a type and a value that share it are one. */
export interface Export {
  readonly name: string
  readonly signatures: ReadonlyArray<string>
  /** The words of its JSDoc, without tags. */
  readonly words: string
  readonly category: string | undefined
  readonly since: string | undefined
}

/** One entry of the package that is not a barrel. */
export interface Module {
  /** "node/NodeConnector" */
  readonly path: string
  readonly words: string
  readonly exports: ReadonlyArray<Export>
}

/** The declarations of src as `tsc` writes them, by their path below src. They come out despite type errors. */
export const readDeclarations = (): Promise<Sources> => {
  const folder = mkdtempSync(join(tmpdir(), "effect-smtp-declarations-"))
  const options = ["--emitDeclarationOnly", "--declarationMap", "false", "--sourceMap", "false", "--outDir", folder]
  const args = [`${root}node_modules/typescript/bin/tsc`, "-p", `${root}tsconfig.build.json`, ...options]
  return new Promise<Sources>((resolve) => {
    execFile(process.execPath, args, { cwd: root }, () => {
      const read = readSources("", folder)
      resolve(new Map([...read].map(([path, text]) => [path.replace(/\.d\.ts$/, ".ts"), text])))
    })
  }).finally(() => rmSync(folder, { recursive: true, force: true }))
}

/** The entries of the package that are modules, by their path below src. */
export const entries = (): ReadonlyArray<string> => {
  const { exports } = JSON.parse(readFileSync(`${root}package.json`, "utf8")) as {
    readonly exports: Readonly<Record<string, string | null>>
  }
  return Object.values(exports).flatMap((target) => {
    const [, path] = /^\.\/dist\/(.+)\.js$/.exec(target ?? "") ?? []
    return path === undefined || /(^|\/)index$/.test(path) ? [] : [path]
  })
}

interface Found {
  readonly name: string
  readonly jsdoc: string
  readonly signature: string
}

const jsdocBefore = (text: string, offset: number): string => {
  const before = text.slice(0, offset).trimEnd()
  return before.endsWith("*/") ? before.slice(before.lastIndexOf("/**")) : ""
}

const headerOf = (source: string): string => /^\/\*\*[\s\S]*?\*\//.exec(source)?.[0] ?? ""

const bodyOf = (jsdoc: string): string =>
  jsdoc.slice(3, -2).split("\n").map((line) => line.replace(/^\s*\* ?/, "").trimEnd()).join("\n").trim()

const tagOf = (body: string, tag: string): string | undefined =>
  new RegExp(`(?:^|\\s)@${tag} +([^@\\n]+)`).exec(body.replace(/^```[\s\S]*?^```$/gm, ""))?.[1]?.trim()

/** The words before the first tag; an @ inside a code block is none. */
const wordsOf = (body: string): string => {
  let isCode = false
  const lines: Array<string> = []
  for (const line of body.split("\n")) {
    if (line.startsWith("```")) isCode = !isCode
    const at = isCode ? -1 : line.search(/(^|\s)@[a-z]+( |$)/)
    lines.push(at < 0 ? line : line.slice(0, at))
    if (at >= 0) break
  }
  return lines.join("\n").trim()
}

/** Names of namespaces that stand for internal files: they say nothing to a reader. */
const internalAliases = (body: ReadonlyArray<Node>): ReadonlyArray<string> =>
  body.filter((node) => node.type === "ImportDeclaration").flatMap((node) => {
    const file = nameOf(child(node, "source")) ?? ""
    const alias = childrenOf(node).find((one) => one.type === "ImportNamespaceSpecifier")
    const isInternal = /^\.\.?\//.test(file) && /^[a-z]/.test(posix.basename(file))
    return isInternal && alias !== undefined ? [nameOf(child(alias, "local")) ?? ""] : []
  })

const readable = (signature: string, aliases: ReadonlyArray<string>): string => {
  const known = signature
    .replace(/import\("\.[^"]*"\)\./g, "")
    .replace(/import\("effect\/(?:\w+\/)*(\w+)"\)\./g, "$1.")
    .replace(/^\s*(#private;|private .*;)\n/gm, "")
    .replace(/\{\s*\}$/, "{}")
  return aliases.reduce((text, alias) => text.replace(new RegExp(`(?<![.\\w"])${alias}\\.(?=[A-Z])`, "g"), ""), known)
}

/** What a class of a source extends: the declarations have a long type there. */
const heritage = (source: string, file: string, name: string): string | undefined => {
  for (const node of parse(file, source)) {
    const declaration = child(node, "declaration")
    if (declaration?.type !== "ClassDeclaration" || nameOf(child(declaration, "id")) !== name) continue
    const parent = child(declaration, "superClass")
    return parent && source.slice(parent.start, parent.end)
  }
  return undefined
}

class Reader {
  readonly #declarations: Sources
  readonly #sources: Sources

  constructor(declarations: Sources, sources: Sources) {
    this.#declarations = declarations
    this.#sources = sources
  }

  #signature(path: string, text: string, declaration: Node, aliases: ReadonlyArray<string>): string {
    const written = text.slice(declaration.start, declaration.end).replace(/^declare /, "")
    const parent = child(declaration, "superClass")
    const name = nameOf(child(declaration, "id")) ?? ""
    if (declaration.type !== "ClassDeclaration" || parent === undefined) return readable(written, aliases)
    const base = heritage(this.#sources.get(path) ?? "", path, name)
    const head = `class ${name}${written.slice(`class ${name}`.length, written.indexOf("{"))}`
    const body = written.slice(written.indexOf("{"))
    const shown = nameOf(parent) === `${name}_base` && base !== undefined ? base : nameOf(parent) ?? ""
    return readable(`${head.slice(0, head.indexOf(" extends "))} extends ${shown} ${body}`, aliases)
  }

  /** The comment of a declaration; the compiler may leave out the module's, or let it stand right before the first. */
  #jsdoc(path: string, text: string, offset: number): string {
    const jsdoc = jsdocBefore(text, offset)
    return jsdoc === headerOf(this.#sources.get(path) ?? "") ? "" : jsdoc
  }

  #declared(path: string, text: string, node: Node, declaration: Node): ReadonlyArray<Found> {
    const aliases = internalAliases(parse(path, text))
    const declarators = childrenOf(declaration).filter((one) => one.type === "VariableDeclarator")
    return (declarators.length === 0 ? [declaration] : declarators).map((one) => ({
      name: nameOf(child(one, "id")) ?? "",
      jsdoc: this.#jsdoc(path, text, node.start),
      signature: this.#signature(path, text, declaration, aliases)
    }))
  }

  /** What a file exports, those of other files through it included, in the order of the file. */
  read(path: string): ReadonlyArray<Found> {
    const text = this.#declarations.get(path) ?? ""
    const body = parse(path, text)
    return body.flatMap((node): ReadonlyArray<Found> => {
      if (node.type !== "ExportNamedDeclaration") return []
      const declaration = child(node, "declaration")
      return declaration === undefined
        ? this.#through(path, text, node)
        : this.#declared(path, text, node, declaration)
    })
  }

  /** `export { a, b as c } from "./x.ts"`, and the same of names that were imported or declared before. */
  #through(path: string, text: string, node: Node): ReadonlyArray<Found> {
    const body = parse(path, text)
    const specifiers = childrenOf(node).filter((one) => one.type === "ExportSpecifier")
    return specifiers.flatMap((one) => {
      const local = nameOf(child(one, "local")) ?? ""
      const name = nameOf(child(one, "exported")) ?? local
      const file = nameOf(child(node, "source"))
      const origin = file === undefined ? importOf(body, local) : { file, name: local }
      const there = origin === undefined
        ? body.filter((own) => !own.type.startsWith("Export")).flatMap((own) => this.#declared(path, text, own, own))
        : this.read(posix.join(posix.dirname(path), origin.file))
      const wanted = origin?.name ?? local
      const own = jsdocBefore(text, one.start)
      return there.filter((found) => found.name === wanted).map(({ jsdoc, signature }) => ({
        name,
        jsdoc: wordsOf(bodyOf(own)) === "" ? jsdoc : own,
        signature: wanted === name ? signature : signature.replace(new RegExp(`\\b${wanted}\\b`), name)
      }))
    })
  }
}

/** Where an imported name of a file comes from. */
const importOf = (body: ReadonlyArray<Node>, local: string): { file: string; name: string } | undefined => {
  for (const node of body) {
    const found = childrenOf(node).find((one) => nameOf(child(one, "local")) === local)
    const file = nameOf(child(node, "source"))
    if (node.type !== "ImportDeclaration" || found === undefined || file === undefined) continue
    return { file, name: nameOf(child(found, "imported")) ?? local }
  }
  return undefined
}

const merge = (name: string, found: ReadonlyArray<Found>): Export => {
  const bodies = found.map(({ jsdoc }) => bodyOf(jsdoc))
  const first = (read: (body: string) => string | undefined) => bodies.map(read).find((one) => one !== undefined)
  return {
    name,
    signatures: [...new Set(found.map(({ signature }) => signature))],
    words: first((body) => wordsOf(body) || undefined) ?? "",
    category: first((body) => tagOf(body, "category")),
    since: first((body) => tagOf(body, "since"))
  }
}

/** A constant of a source that is spread into a signature, and so part of it. */
const constant = (file: string, source: string, name: string): string | undefined => {
  const found = parse(file, source).find((node) =>
    node.type === "VariableDeclaration" && childrenOf(node).some((one) => nameOf(child(one, "id")) === name)
  )
  return found && source.slice(found.start, found.end)
}

/** The first export that spreads a private constant shows it. */
const withConstants = (exports: ReadonlyArray<Export>, file: string, source: string): ReadonlyArray<Export> => {
  const shown = new Set<string>()
  return exports.map((one) => {
    const spread = one.signatures.flatMap((text) => [...text.matchAll(/\.\.\.(\w+)[,\s}]/g)].map(([, name]) => name!))
    const added = spread.flatMap((name) => {
      const text = shown.has(name) ? undefined : constant(file, source, name)
      shown.add(name)
      return text === undefined ? [] : [text]
    })
    return { ...one, signatures: [...added, ...one.signatures] }
  })
}

/** The public API of these entries. */
export const readModules = (
  paths: ReadonlyArray<string>,
  declarations: Sources,
  sources: Sources
): ReadonlyArray<Module> => {
  const reader = new Reader(declarations, sources)
  return paths.map((path) => {
    const source = sources.get(`${path}.ts`) ?? ""
    const found = Arr.groupBy(reader.read(`${path}.ts`), ({ name }) => name)
    const exports = withConstants(Object.entries(found).map(([name, all]) => merge(name, all)), path, source)
    return { path, words: wordsOf(bodyOf(headerOf(source))), exports }
  })
}

/** What the API lacks, in words. */
export const lacking = (modules: ReadonlyArray<Module>): ReadonlyArray<string> =>
  modules.flatMap(({ exports, path, words }) => [
    ...(words === "" ? [`${path}: the module header lacks a sentence`] : []),
    ...(exports.length === 0 ? [`${path}: nothing is exported`] : []),
    ...exports.flatMap((one) => {
      const missing = [
        ...(/\S\s+\S/.test(one.words) ? [] : ["a sentence"]),
        ...(one.category === undefined ? ["@category"] : []),
        ...(one.since === undefined ? ["@since"] : [])
      ]
      return missing.length === 0 ? [] : [`${path}: ${one.name} lacks ${missing.join(", ")}`]
    })
  ])
