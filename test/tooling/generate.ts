/**
 * `npm run docs`: writes docs/api from the sources and docs/guides from the tour. The tests call `generate` and compare.
 */
import { execFile } from "node:child_process"
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { posix } from "node:path"
import { fileURLToPath } from "node:url"
import { apiPages, fileOf as fileOfModule, summaryOf } from "./apiReference.ts"
import { entries, type Module, readDeclarations, readModules } from "./declarations.ts"
import { fileOf as fileOfGuide, type Guide, guidePage, outputOf, programs, readGuide } from "./guides.ts"
import { readSources, root } from "./source.ts"

/** The folders that hold nothing else than what is generated. */
export const folders = ["docs/api", "docs/guides"]

const index = "docs/README.md"

interface Page {
  readonly file: string
  readonly title: string
  /** The first paragraph. */
  readonly words: string
}

/** The pages that are written by hand. */
const readPages = (): ReadonlyArray<Page> =>
  readdirSync(`${root}docs`, { encoding: "utf8" }).filter((name) => name.endsWith(".md") && name !== "README.md")
    .toSorted().map((name) => {
      const [heading = "", words = ""] = readFileSync(`${root}docs/${name}`, "utf8").split("\n\n")
      const withoutLinks = words.replaceAll("\n", " ").replace(/\[([^\]]+)\]\([^)]+\)/g, "$1")
      return {
        file: `docs/${name}`,
        title: heading.replace(/^# /, ""),
        words: /^.*?\.(?=\s|$)/.exec(withoutLinks)?.[0] ?? withoutLinks
      }
    })

const indexPage = (modules: ReadonlyArray<Module>, guides: ReadonlyArray<Guide>): string => {
  const link = (title: string, file: string) => `[${title}](${file.replace("docs/", "")})`
  return [
    "<!-- Written by `npm run docs`. -->",
    "# effect-smtp",
    "The [README](../README.md) says what it is and how to begin.",
    "## Pages",
    readPages().map(({ file, title, words }) => `- ${link(title, file)}: ${words.replace(/:$/, ".")}`).join("\n"),
    "## Guides",
    "Each is a short program of the [tour](../scratchpad) that runs offline, with what it prints.",
    guides.map((guide) => `- ${link(guide.title, fileOfGuide(guide))}: ${guide.prose.replaceAll("\n", " ")}`).join(
      "\n"
    ),
    "## API",
    modules.map((module) => `- ${link(posix.basename(module.path), fileOfModule(module))}: ${summaryOf(module)}`).join(
      "\n"
    )
  ].join("\n\n") + "\n"
}

/** As `npm run format` leaves it, so that a generated page needs no other pass. */
const formatted = (file: string, text: string): Promise<string> =>
  new Promise((resolve, reject) => {
    const child = execFile(
      `${root}node_modules/dprint/dprint`,
      ["fmt", "--stdin", posix.basename(file)],
      { cwd: root, maxBuffer: 64_000_000 },
      (error, stdout, stderr) => (error === null ? resolve(stdout) : reject(new Error(`${file}: ${stderr}`)))
    )
    child.stdin?.end(text)
  })

/** Two at a time: the programs and the formatter are processes. */
const inPairs = async <A, B>(items: ReadonlyArray<A>, f: (item: A) => Promise<B>): Promise<ReadonlyArray<B>> => {
  const results: Array<B> = []
  for (let at = 0; at < items.length; at += 2) results.push(...await Promise.all(items.slice(at, at + 2).map(f)))
  return results
}

/** The public API as the sources have it now. */
export const readApi = async (): Promise<ReadonlyArray<Module>> =>
  readModules(entries(), await readDeclarations(), readSources("src"))

/** Every generated page by its path in the repository. */
export const generate = async (modules: ReadonlyArray<Module>): Promise<ReadonlyMap<string, string>> => {
  const names = new Set(modules.map(({ path }) => posix.basename(path)))
  const guides = programs().map((file) => readGuide(file, readFileSync(`${root}scratchpad/${file}`, "utf8")))
  const told = await inPairs(guides, async (guide) => {
    const page = guidePage(guide, await outputOf(guide.program), names)
    return [fileOfGuide(guide), page] as const
  })
  const pages = [[index, indexPage(modules, guides)] as const, ...apiPages(modules), ...told]
  return new Map(await inPairs(pages, async ([file, text]) => [file, await formatted(file, text)] as const))
}

/** The pages that stand in the repository. */
export const present = (): ReadonlyMap<string, string> => {
  const files = folders.flatMap((folder) =>
    readdirSync(root + folder, { encoding: "utf8" }).map((name) => `${folder}/${name}`)
  )
  return new Map([index, ...files].map((file) => [file, readFileSync(root + file, "utf8")]))
}

const write = (pages: ReadonlyMap<string, string>): void => {
  for (const folder of folders) {
    rmSync(root + folder, { recursive: true, force: true })
    mkdirSync(root + folder, { recursive: true })
  }
  for (const [file, text] of pages) writeFileSync(root + file, text)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const pages = await generate(await readApi())
  write(pages)
  process.stdout.write(`${pages.size} pages below docs/\n`)
}
