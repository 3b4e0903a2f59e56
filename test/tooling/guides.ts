/**
 * A guide for each program of the tour: its first comment as prose, its code as a reader would write it, what it prints.
 */
import { execFile } from "node:child_process"
import { readdirSync, readFileSync } from "node:fs"
import { root } from "./source.ts"

export interface Guide {
  /** "10-send.ts" */
  readonly program: string
  readonly title: string
  readonly prose: string
  readonly code: string
}

const fence = "```"

/** The programs of the tour, in its order. */
export const programs = (): ReadonlyArray<string> =>
  readdirSync(`${root}scratchpad`).filter((file) => /^\d+-.+\.ts$/.test(file)).toSorted()

const importLine = /^import (?:\{ (.+) \}|.+) from "(.+)"$/

/** Code with the code of the file beside it that it imports, so that one block holds all of it. */
const whole = (code: string, read: (file: string) => string): string => {
  const [, file] = /^import .* from "\.\/([\w-]+\.ts)"$/m.exec(code) ?? []
  if (file === undefined) return code
  const beside = read(file).replace(/^\/\*\*[\s\S]*?\*\/\n/, "").replace(/^export (?=const|type|interface)/gm, "")
  const lines = `${beside}\n${code}`.split("\n").filter((line) => !line.endsWith(` from "./${file}"`))
  const imports = new Map<string, Set<string>>()
  for (const line of lines.filter((one) => importLine.test(one))) {
    const [, names, from = ""] = importLine.exec(line) ?? []
    const key = names === undefined ? line : from
    const known = imports.get(key) ?? new Set()
    imports.set(key, known)
    for (const name of names?.split(", ") ?? []) known.add(name)
  }
  const written = [...imports].map(([key, names]) =>
    names.size === 0 ? key : `import { ${[...names].join(", ")} } from "${key}"`
  )
  const body = lines.filter((line) => !importLine.test(line)).join("\n").replace(/\n{3,}/g, "\n\n").trim()
  return `${written.join("\n")}\n\n${body}`
}

/** How a reader imports what the tour imports from the sources. */
const published = (specifier: string): string => `effect-smtp/${specifier.replace(/\.ts$/, "")}`.replace(/\/index$/, "")

/** A file of the tour that is not a program. */
const readBeside = (file: string): string => readFileSync(`${root}scratchpad/${file}`, "utf8")

/** Reads a program: the words of its first comment up to a colon are the title. */
export const readGuide = (program: string, text: string, read = readBeside): Guide => {
  const [comment = "", words = ""] = /^\/\*\*([\s\S]*?)\*\/\n/.exec(text) ?? []
  const said = words.split("\n").map((line) => line.replace(/^\s*\* ?/, "").trim()).join("\n").trim()
  const [, title, prose] = /^([^:.\n]{3,60}): ([\s\S]+)$/.exec(said) ?? []
  if (title === undefined || prose === undefined) {
    throw new Error(`scratchpad/${program}: begin with a comment such as /** Sending: what the program shows. */`)
  }
  const code = whole(text.slice(comment.length).trim(), read).replace(
    /"\.\.\/src\/([^"]+)"/g,
    (_, to: string) => `"${published(to)}"`
  )
  return { program, title, prose: prose[0]!.toUpperCase() + prose.slice(1), code }
}

/** What a program of the tour prints. */
export const outputOf = (program: string): Promise<string> =>
  new Promise((resolve, reject) => {
    const options = { env: { PATH: process.env["PATH"] }, timeout: 60_000, killSignal: "SIGKILL" } as const
    execFile(process.execPath, [`${root}scratchpad/${program}`], options, (error, stdout, stderr) => {
      if (error === null) resolve(stdout.trimEnd())
      else reject(new Error(`scratchpad/${program}: ${error.message}\n${stdout}${stderr}`))
    })
  })

export const fileOf = ({ program }: Guide): string =>
  `docs/guides/${program.replace(/^\d+-/, "").replace(/\.ts$/, ".md")}`

/** The pages of the API that a program uses, by the names that it imports. */
const pagesOf = (code: string, pages: ReadonlySet<string>): ReadonlyArray<string> => {
  const names = [...code.matchAll(/^import (?:type )?\{([^}]+)\} from "effect-smtp([^"]*)"$/gm)]
    .flatMap(([, imported = "", entry = ""]) => [...imported.split(",").map((name) => name.trim()), entry.slice(1)])
  return [...new Set(names)].filter((name) => pages.has(name))
}

/** The page of a guide, not yet formatted; `pages` are the names of the pages of the API. */
export const guidePage = (guide: Guide, output: string, pages: ReadonlySet<string>): string => {
  const source = `scratchpad/${guide.program}`
  const reference = pagesOf(guide.code, pages).map((name) => `[${name}](../api/${name}.md)`).join(", ")
  return [
    `<!-- Written by \`npm run docs\` from ${source}. Change that, and run it again. -->`,
    `# ${guide.title}`,
    guide.prose,
    `${fence}ts no-run\n${guide.code}\n${fence}`,
    "It prints:",
    `${fence}text\n${output}\n${fence}`,
    `The program is [${source}](../../${source}); in a clone, run it with`,
    `${fence}sh\nnpm exec -- node ${source}\n${fence}`,
    ...(reference === "" ? [] : [`Reference: ${reference}.`])
  ].join("\n\n") + "\n"
}
