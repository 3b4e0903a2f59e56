/**
 * The API reference: one page for each entry of the package, from what the compiler declares and JSDoc says.
 */
import * as Arr from "effect/Array"
import { posix } from "node:path"
import type { Export, Module } from "./declarations.ts"

const fence = "```"

/** As GitHub makes an anchor of a heading. */
const anchor = (heading: string): string => heading.toLowerCase().replace(/[^\w -]/g, "").replaceAll(" ", "-")

const titleOf = ({ path }: Module): string => posix.basename(path)

const importOf = ({ path }: Module): string => {
  const name = posix.basename(path)
  if (/^[a-z]/.test(name)) return `From \`"effect-smtp/${path}"\`.`
  const folder = posix.dirname(path)
  const barrel = folder === "." ? "effect-smtp" : `effect-smtp/${folder}`
  return `\`import { ${name} } from "${barrel}"\`, or its names from \`"effect-smtp/${path}"\`.`
}

/** The anchors of names; a heading that comes again gets a number. */
const anchorsOf = (title: string, categories: ReadonlyArray<Category>): ReadonlyMap<string, string> => {
  const seen = new Map<string, number>()
  const next = (heading: string): string => {
    const plain = anchor(heading)
    const count = seen.get(plain) ?? 0
    seen.set(plain, count + 1)
    return count === 0 ? plain : `${plain}-${count}`
  }
  next(title)
  return new Map(categories.flatMap(([category, all]) => {
    next(category)
    return all.map(({ name }) => [name, next(name)] as const)
  }))
}

type Category = readonly [name: string, exports: ReadonlyArray<Export>]

/** {@link X} as a link on this page, or as code. */
const linked = (words: string, anchors: ReadonlyMap<string, string>): string =>
  words.replace(/\{@link ([^}\s]+)\}/g, (_, name: string) => {
    const to = anchors.get(name)
    return to === undefined ? `\`${name}\`` : `[\`${name}\`](#${to})`
  })

const section = (one: Export, anchors: ReadonlyMap<string, string>): string =>
  [
    `### ${one.name}`,
    `${fence}ts signature\n${one.signatures.join("\n\n")}\n${fence}`,
    linked(one.words, anchors),
    ...(one.since === undefined ? [] : [`Since ${one.since}.`])
  ].filter((part) => part !== "").join("\n\n")

const page = (module: Module): string => {
  const categories: ReadonlyArray<Category> = Object
    .entries(Arr.groupBy(module.exports, ({ category = "others" }) => category))
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
  const anchors = anchorsOf(titleOf(module), categories)
  const contents = categories.map(([category, all]) =>
    `- ${category}: ${all.map(({ name }) => `[\`${name}\`](#${anchors.get(name)})`).join(", ")}`
  )
  return [
    `<!-- Written by \`npm run docs\` from src/${module.path}.ts. Change that, and run it again. -->`,
    `# ${titleOf(module)}`,
    linked(module.words, anchors),
    importOf(module),
    contents.join("\n"),
    ...categories.flatMap(([category, all]) => [`## ${category}`, ...all.map((one) => section(one, anchors))])
  ].join("\n\n") + "\n"
}

/** The first sentence of a module's words. */
export const summaryOf = ({ words }: Module): string => {
  const [paragraph = ""] = words.split("\n\n")
  const [sentence = ""] = paragraph.replaceAll("\n", " ").split(/(?<=\.)\s/)
  return linked(sentence, new Map())
}

export const fileOf = (module: Module): string => `docs/api/${titleOf(module)}.md`

/** The pages by their path in the repository, not yet formatted. */
export const apiPages = (modules: ReadonlyArray<Module>): ReadonlyMap<string, string> =>
  new Map(modules.map((module) => [fileOf(module), page(module)]))
