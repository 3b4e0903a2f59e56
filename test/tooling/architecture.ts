/**
 * The rules of the house, checked on the sources: which file may import which, how long things may be, and what is
 * not written in an Effect library.
 */
import { posix } from "node:path"
import {
  child,
  childrenOf,
  isPrivate,
  lineAt,
  nameOf,
  type Node,
  parse,
  type Sources,
  type Violation,
  walk
} from "./source.ts"

/**
 * The layers, from the bottom. A file imports files of lower layers, or files before it in its layer; files in one
 * inner list stand beside each other and import neither way. A name with a slash is a folder.
 */
export const house: ReadonlyArray<ReadonlyArray<ReadonlyArray<string>>> = [
  [["SmtpReply"], ["SmtpError"], ["SmtpCapabilities"], ["Envelope"], ["SmtpCommand"], ["DotStuffing"], ["Sasl"]],
  [["SmtpConnector"], ["SmtpTranscript"], ["SmtpWire"]],
  [["SmtpHandshake"], ["SmtpLogin", "OAuth2"], ["SmtpTransaction"], ["SmtpConnection"]],
  [["SmtpMetrics", "SmtpPool"], ["SmtpClient"]],
  [["Message"], ["testing/"], ["node/"], ["promise"], ["cli/"]]
]

const maxFileLines = 450
const maxFunctionLines = 40

/** Modules that layer 0 may import as types only. */
const effectful = ["Effect", "Clock", "Fiber", "Layer", "Random", "Stream"].map((name) => `effect/${name}`)
/** Modules that not even an internal file below layer 0 may import. */
const ambient = ["effect/Clock", "effect/Random"]
/** Public files that are an entry point of their own, and so not in the barrel. */
const ownEntry = ["promise", "Message"]
/** The optional peer, and the one file that may load it: by a dynamic import, or as types. */
const optionalPeer = { pattern: /^nodemailer(\/|$)/, home: "internal/compose/peer.ts" }

const forbiddenMembers: Readonly<Record<string, string>> = {
  "Date.now": "take the time from effect/Clock",
  "performance.now": "take the time from effect/Clock",
  "Math.random": "take random values from effect/Random, or let the caller pass them"
}
const forbiddenGlobals: Readonly<Record<string, string>> = {
  console: "log through Effect.log",
  setTimeout: "wait with Effect.sleep, so that TestClock governs it",
  setInterval: "repeat with a Schedule, so that TestClock governs it"
}

interface Import {
  readonly specifier: string
  readonly isType: boolean
  /** A dynamic import. */
  readonly isLazy: boolean
  readonly line: number
}

interface File {
  readonly path: string
  readonly text: string
  readonly body: ReadonlyArray<Node>
  readonly imports: ReadonlyArray<Import>
}

type Report = (line: number, rule: string, message: string) => void

const isBarrel = (path: string): boolean => posix.basename(path) === "index.ts"
const isInternal = (path: string): boolean => path.startsWith("internal/")
const mayUseNode = (path: string): boolean => /^(node|cli)\//.test(path) || path === "internal/hash.ts"

/** The name under which a file has a place in the house. */
const placeOf = (path: string): string => (path.includes("/") ? path.replace(/\/.*/, "/") : path.replace(/\.ts$/, ""))

const rankOf = (path: string): number | undefined => {
  for (const [layer, groups] of house.entries()) {
    const index = groups.findIndex((group) => group.includes(placeOf(path)))
    if (index >= 0) return layer * 100 + index
  }
  return undefined
}

const isPureLayer = (path: string): boolean => (rankOf(path) ?? 100) < 100

const importsOf = (text: string, body: ReadonlyArray<Node>): ReadonlyArray<Import> => {
  const found: Array<Import> = []
  walk(body, (node) => {
    if (!/^(Import(Declaration|Expression)|Export(Named|All)Declaration|TSImportType)$/.test(node.type)) return
    const specifier = nameOf(child(node, "source"))
    const specifiers = childrenOf(node).filter((one) => /^(Import|Export)Specifier$/.test(one.type))
    const isTypeKind = (one: Node) => one["importKind"] === "type" || one["exportKind"] === "type"
    const isType = node.type === "TSImportType" || isTypeKind(node) ||
      (specifiers.length > 0 && specifiers.every(isTypeKind))
    const isLazy = node.type === "ImportExpression"
    if (specifier !== undefined) found.push({ specifier, isType, isLazy, line: lineAt(text, node.start) })
  })
  return found
}

const targetOf = (from: string, specifier: string): string | undefined =>
  specifier.startsWith(".") ? posix.join(posix.dirname(from), specifier) : undefined

const checkPlace = (file: File, report: Report): void => {
  if (isInternal(file.path)) {
    if (!/^internal(\/[a-z][a-zA-Z0-9]*)+\.ts$/.test(file.path)) {
      report(1, "place", "internal files have camelCase names")
    }
  } else if (file.path !== "index.ts" && rankOf(file.path) === undefined) {
    report(
      1,
      "place",
      `has no place in the house: add "${placeOf(file.path)}" to \`house\` in test/tooling/architecture.ts`
    )
  }
}

const mayLoadPeer = (file: File, { isLazy, isType, specifier }: Import): boolean =>
  optionalPeer.pattern.test(specifier) && file.path === optionalPeer.home && (isLazy || isType)

const checkExternal = (file: File, one: Import, report: Report): void => {
  const { isType, line, specifier } = one
  if (/^(effect|@effect\/platform-node|effect-smtp)$/.test(specifier)) {
    report(line, "barrel", `"${specifier}" is a barrel: import the submodule`)
  } else if (/^(node:|@effect\/platform-node\/)/.test(specifier)) {
    if (!mayUseNode(file.path)) report(line, "node", `"${specifier}" belongs in node/, cli/ or internal/hash.ts`)
  } else if (!specifier.startsWith("effect/") && !mayLoadPeer(file, one)) {
    report(line, "dependency", `"${specifier}" is not a dependency of the library`)
  }
  if (!isType && isPureLayer(file.path) && effectful.includes(specifier)) {
    report(line, "pure", `layer 0 is pure: import "${specifier}" as a type, or move the code up`)
  }
}

const checkArrow = (from: File, to: string, via: string, line: number, report: Report): void => {
  const here = rankOf(from.path)
  const there = rankOf(to)
  if (here === undefined || there === undefined || there < here || placeOf(from.path) === placeOf(to)) return
  report(line, "arrow", `${via}${to} stands above or beside ${from.path}: arrows point down`)
}

/** Arrows through internal files count as arrows of the file that imports them. */
const followInternal = (files: ReadonlyMap<string, File>, from: File, start: Import, report: Report): void => {
  const seen = new Set<string>()
  const visit = (path: string): void => {
    const file = files.get(path)
    if (file === undefined || seen.has(path)) return
    seen.add(path)
    for (const { specifier } of file.imports) {
      if (isPureLayer(from.path) && ambient.includes(specifier)) {
        report(start.line, "pure", `layer 0 is pure, and ${path} imports "${specifier}"`)
      }
      const target = targetOf(path, specifier)
      if (target === undefined) continue
      if (isInternal(target)) visit(target)
      else checkArrow(from, target, `through ${path}: `, start.line, report)
    }
  }
  visit(posix.join(posix.dirname(from.path), start.specifier))
}

const checkImports = (files: ReadonlyMap<string, File>, file: File, report: Report): void => {
  for (const one of file.imports) {
    const target = targetOf(file.path, one.specifier)
    if (target === undefined) checkExternal(file, one, report)
    else if (!files.has(target)) report(one.line, "arrow", `"${one.specifier}" is no file of src (write the .ts)`)
    else if (isBarrel(file.path)) continue
    else if (isBarrel(target)) report(one.line, "barrel", `"${one.specifier}" is a barrel: import the file behind it`)
    else if (isInternal(target)) {
      if (!isInternal(file.path)) followInternal(files, file, one, report)
    } else if (!isInternal(file.path)) checkArrow(file, target, "", one.line, report)
  }
}

const checkBarrel = (files: ReadonlyMap<string, File>, file: File, report: Report): void => {
  const exported = new Set<string>()
  for (const node of file.body) {
    const line = lineAt(file.text, node.start)
    const name = nameOf(child(node, "exported"))
    const source = nameOf(child(node, "source"))
    if (node.type !== "ExportAllDeclaration" || name === undefined || source !== `./${name}.ts`) {
      report(line, "index", "an index holds nothing but `export * as X from \"./X.ts\"`")
    } else exported.add(name)
  }
  const folder = file.path.replace(/index\.ts$/, "")
  for (const path of files.keys()) {
    const name = posix.basename(path, ".ts")
    if (path !== `${folder}${name}.ts` || isBarrel(path) || isPrivate(path)) continue
    if (exported.has(name) || ownEntry.includes(name)) continue
    report(1, "index", `${path} is missing: add \`export * as ${name} from "./${name}.ts"\``)
  }
}

const isGlobal = (node: Node | undefined, name: string): boolean => node?.type === "Identifier" && nameOf(node) === name

const isFunction = (node: Node): boolean =>
  /^(FunctionDeclaration|FunctionExpression|ArrowFunctionExpression)$/.test(node.type)

const holdsEffects = (block: Node): boolean => {
  let found = false
  walk([block], (node) => {
    found ||= node.type === "YieldExpression" ||
      (node.type === "MemberExpression" && isGlobal(child(node, "object"), "Effect"))
  })
  return found
}

const checkMember = (node: Node, line: number, report: Report): void => {
  const member = `${nameOf(child(node, "object"))}.${nameOf(child(node, "property"))}`
  const advice = node["computed"] === true ? undefined : forbiddenMembers[member]
  if (advice !== undefined) report(line, "forbidden", `${member}: ${advice}`)
  if (isGlobal(child(node, "object"), "console")) report(line, "forbidden", `console: ${forbiddenGlobals["console"]}`)
}

const checkCall = (node: Node, line: number, report: Report): void => {
  const callee = child(node, "callee")
  const name = callee?.type === "Identifier" ? nameOf(callee) : undefined
  if (name !== undefined && Object.hasOwn(forbiddenGlobals, name)) {
    report(line, "forbidden", `${name}: ${forbiddenGlobals[name]}`)
  }
  const takesNoArguments = Array.isArray(node["arguments"]) && node["arguments"].length === 0
  if (node.type === "NewExpression" && name === "Date" && takesNoArguments) {
    report(line, "forbidden", "new Date(): take the time from effect/Clock")
  }
}

const checkStyle = (file: File, report: Report): void => {
  const lines = file.text.replace(/\n$/, "").split("\n").length
  if (lines > maxFileLines) report(1, "length", `the file has ${lines} lines; at most ${maxFileLines}`)
  walk(file.body, (node) => {
    const line = lineAt(file.text, node.start)
    const length = lineAt(file.text, node.end) - line + 1
    if (isFunction(node) && length > maxFunctionLines) {
      report(line, "length", `the function has ${length} lines; at most ${maxFunctionLines}`)
    }
    if (node["async"] === true || node.type === "AwaitExpression") {
      report(line, "forbidden", "async: write an Effect (Effect.tryPromise at the edge)")
    }
    if (node.type === "ExportDefaultDeclaration") report(line, "default", "export by name")
    if (node.type === "MemberExpression") checkMember(node, line, report)
    if (node.type === "CallExpression" || node.type === "NewExpression") checkCall(node, line, report)
    if (node.type === "TryStatement" && holdsEffects(child(node, "block") ?? node)) {
      report(line, "forbidden", "try around Effects: use Effect.catch, Effect.ensuring or a scope")
    }
  })
}

const checkCycles = (files: ReadonlyMap<string, File>, report: (file: string) => Report): void => {
  const done = new Set<string>()
  const visit = (path: string, trail: ReadonlyArray<string>): void => {
    const at = trail.indexOf(path)
    if (at >= 0) return report(path)(1, "cycle", `imports itself: ${[...trail.slice(at), path].join(" -> ")}`)
    if (done.has(path)) return
    for (const { specifier } of files.get(path)?.imports ?? []) {
      const target = targetOf(path, specifier)
      if (target !== undefined && files.has(target)) visit(target, [...trail, path])
    }
    done.add(path)
  }
  for (const path of files.keys()) visit(path, [])
}

/** Checks every rule on the files of src, given by their path inside it. */
export const check = (sources: Sources): ReadonlyArray<Violation> => {
  const violations: Array<Violation> = []
  const reportOn = (file: string): Report => (line, rule, message) => violations.push({ file, line, rule, message })
  const files = new Map<string, File>()
  for (const [path, text] of sources) {
    const body = parse(path, text)
    files.set(path, { path, text, body, imports: importsOf(text, body) })
  }
  for (const file of files.values()) {
    const report = reportOn(file.path)
    checkPlace(file, report)
    checkImports(files, file, report)
    checkStyle(file, report)
    if (isBarrel(file.path)) checkBarrel(files, file, report)
  }
  checkCycles(files, reportOn)
  return violations
}
