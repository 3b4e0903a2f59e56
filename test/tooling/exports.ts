/** What files export for nobody: names that no other file takes. */
import { posix } from "node:path"
import { child, childrenOf, lineAt, nameOf, type Node, parse, type Sources, type Violation } from "./source.ts"

const isNamed = (node: Node): boolean => node.type === "ExportNamedDeclaration"

/** The nodes that give the names of an export. */
const namesIn = (node: Node): ReadonlyArray<Node> => {
  const declaration = child(node, "declaration")
  const ids = (declaration?.type === "VariableDeclaration" ? childrenOf(declaration) : [declaration]).flatMap((one) =>
    one === undefined ? [] : child(one, "id") ?? []
  )
  return [...ids, ...childrenOf(node).flatMap((one) => child(one, "exported") ?? [])]
}

/** What a file takes of others, as "path#name"; "path#*" is all of it. */
const taken = (path: string, text: string): ReadonlyArray<string> =>
  parse(path, text).flatMap((node) => {
    const specifier = nameOf(child(node, "source"))
    if (specifier === undefined || !specifier.startsWith(".")) return []
    const target = posix.join(posix.dirname(path), specifier)
    if (node.type === "ExportAllDeclaration") return [`${target}#*`]
    return childrenOf(node).flatMap((one) => {
      const local = nameOf(child(one, "local"))
      if (one.type !== "ImportNamespaceSpecifier") {
        return [`${target}#${nameOf(child(one, isNamed(node) ? "local" : "imported"))}`]
      }
      // Whatever else is done with the module itself, e.g. f(Module), takes all of it.
      const use = new RegExp(`(?<![\\w$]|(?<!\\.\\.)\\.)${local}(?:\\.(\\w+)|(?=[),;]|\\n\\s*[)}]))`, "g")
      const uses = [...text.slice(one.end).matchAll(use)]
      return uses.map(([, name = "*"]) => `${target}#${name}`)
    })
  })

/** The exports of the files that `isMeant` and that no file takes; paths are those below the root of the project. */
export const unused = (sources: Sources, isMeant: (path: string) => boolean): ReadonlyArray<Violation> => {
  const uses = new Set([...sources].flatMap(([path, text]) => taken(path, text)))
  return [...sources].filter(([path]) => isMeant(path) && !uses.has(`${path}#*`)).flatMap(([file, text]) =>
    parse(file, text).filter(isNamed).flatMap(namesIn)
      .filter((node) => !uses.has(`${file}#${nameOf(node)}`))
      .map((node) => ({
        file,
        line: lineAt(text, node.start),
        rule: "unused",
        message: `nobody imports ${nameOf(node)}: do not export it`
      }))
  )
}
