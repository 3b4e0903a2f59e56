import { afterAll, assert, describe, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import { mkdirSync, rmSync, writeFileSync } from "node:fs"
import { checkBlocks, isShown, programOf, readKnown } from "./tooling/blocks.ts"
import {
  type Example,
  fromMarkdown,
  fromPage,
  fromSource,
  readPages,
  toModule,
  undocumented,
  withoutRepeats
} from "./tooling/docs.ts"
import { isPrivate, readSources, render, root } from "./tooling/source.ts"

const sources = readSources("src")
const pages = readPages()
const examples = withoutRepeats([
  ...[...sources].flatMap(([path, text]) => fromSource(`src/${path}`, text)),
  ...[...pages].flatMap(([page, text]) => fromMarkdown(page, text))
])

// Below the root and outside node_modules, so that vite transforms the modules and resolves "effect-smtp" to src.
const cache = `${root}.docs-cache/`
const folder = `${cache}${process.pid}/`
const fileOf = (example: Example): string => `${folder}${example.file.replaceAll("/", "__")}.L${example.line}.ts`

const config = {
  extends: "../../tsconfig.json",
  compilerOptions: {
    noUnusedLocals: false,
    paths: {
      "effect-smtp": ["../../src/index.ts"],
      "effect-smtp/node": ["../../src/node/index.ts"],
      "effect-smtp/testing": ["../../src/testing/index.ts"],
      "effect-smtp/*": ["../../src/*.ts"]
    }
  },
  include: ["*.ts"]
}

const writeExamples = (): void => {
  mkdirSync(folder, { recursive: true })
  writeFileSync(`${cache}.gitignore`, "*\n")
  writeFileSync(`${folder}tsconfig.json`, JSON.stringify(config))
  for (const example of examples) writeFileSync(fileOf(example), toModule(example))
}

/** What the compiler says of a project: "" when it is content. */
const compile = (project: string): Promise<string> =>
  new Promise((resolve) => {
    const args = [`${root}node_modules/typescript/bin/tsc`, "-p", project, "--pretty", "false"]
    execFile(process.execPath, args, { cwd: root }, (error, stdout, stderr) => {
      resolve(error === null ? "" : `${stdout}${stderr}` || error.message)
    })
  })

describe("the examples", () => {
  writeExamples()
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  it("have types that check", { timeout: 120_000 }, async () => {
    assert.strictEqual(await compile(`${folder}tsconfig.json`), "")
  })

  const declaresTests = (example: Example): boolean => /\bit\.effect\(/.test(example.code)

  for (const example of examples.filter((one) => one.isRun && !declaresTests(one))) {
    it(`${example.file}:${example.line} runs`, { timeout: 30_000 }, async () => {
      await import(/* @vite-ignore */ fileOf(example))
    })
  }

  for (const example of examples.filter((one) => one.isRun && declaresTests(one))) {
    describe(`${example.file}:${example.line}`, async () => {
      await import(/* @vite-ignore */ fileOf(example))
    })
  }
})

/** What a program of this repository prints. */
const run = (file: string): Promise<string> =>
  new Promise((resolve, reject) => {
    execFile(process.execPath, [root + file], { env: { PATH: process.env["PATH"] } }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout)
      else reject(new Error(`${file}: ${error.message}\n${stdout}${stderr}`))
    })
  })

describe("the other blocks", () => {
  const blocks = [...pages].flatMap(([page, text]) => fromPage(page, text))

  it("name commands that exist, hold data that parses, and say what they are", () => {
    assert.deepStrictEqual(render(checkBlocks(blocks, readKnown())), [])
  })

  for (const block of blocks) {
    const program = programOf(block)
    if (program === undefined) continue
    it(`${block.file}:${block.line} is what ${program} prints`, { timeout: 60_000 }, async () => {
      const output = await run(program)
      assert.isTrue(isShown(block.lines, output), output)
    })
  }
})

describe("the exports", () => {
  it("each have a sentence, a category and a version", () => {
    const files = [...sources.keys()].filter((path) => !isPrivate(path) && path !== "index.ts")
    const found = files.flatMap((path) => undocumented(sources, path))
    assert.deepStrictEqual(render(found), [])
  })
})

describe("reading the documentation", () => {
  const jsdoc = ["/**", " * Adds one.", " *", " * ```ts", " * const a = 1", " *   + 1", " * ```", " */"].join("\n")

  it("finds an example in JSDoc, with its line and without the asterisks", () => {
    const found = fromSource("src/A.ts", `import "x"\n${jsdoc}\nexport const a = 1`)
    assert.deepStrictEqual(found, [{ file: "src/A.ts", line: 5, isRun: true, code: "const a = 1\n  + 1" }])
  })

  it("keeps the line numbers of the file in the module", () => {
    const [example] = fromSource("src/A.ts", jsdoc)
    assert.strictEqual(example === undefined ? "" : toModule(example).split("\n")[4], "const a = 1")
  })

  it("finds examples in Markdown, also those that are not to run, and leaves other languages alone", () => {
    const text = "```sh\nls\n```\n\n```ts no-run\na\n```\n- x\n  ```ts\n  b\n  ```\n"
    assert.deepStrictEqual(fromMarkdown("README.md", text), [
      { file: "README.md", line: 5, isRun: false, code: "a" },
      { file: "README.md", line: 9, isRun: true, code: "b" }
    ])
  })

  it("leaves signatures alone in the API reference, and nowhere else", () => {
    const text = "```ts signature\nconst a: 1\n```"
    assert.deepStrictEqual(fromMarkdown("docs/api/A.md", text), [])
    assert.throws(() => fromMarkdown("README.md", text), "README.md:1: mark the example `ts`")
  })

  it("finds the pages of the repository, also in folders", () => {
    assert.includeMembers([...pages.keys()], ["README.md", "AGENTS.md", "docs/README.md", "docs/guides/send.md"])
    assert.isFalse([...pages.keys()].some((page) => page.includes("node_modules")))
  })

  it("runs an example once that says the same in two places", () => {
    const example = (code: string, isRun = true): Example => ({ file: "A.md", line: 1, isRun, code })
    const first = example("const a = f(1,\n  2)")
    assert.deepStrictEqual(withoutRepeats([first, example("const a = f(1, 2)")]), [first])
    const others = [example("const a = f(1, 3)"), example("const a = f(1, 2)", false)]
    assert.deepStrictEqual(withoutRepeats([first, ...others]), [first, ...others])
  })

  it("refuses a mark that would leave an example unchecked, and a block that is not closed", () => {
    assert.throws(() => fromMarkdown("README.md", "```typescript\na\n```"), "README.md:1: mark the example `ts`")
    assert.throws(
      () => fromSource("src/A.ts", "/**\n * ```ts no-run\n * ```\n */"),
      "src/A.ts:2: mark the example `ts`"
    )
    assert.throws(() => fromMarkdown("README.md", "\n```ts\na"), "README.md:2: the code block is not closed")
  })

  const header = "/**\n * What it is.\n *\n * @since 0.1.0\n */\n"
  const doc = "/** Adds one. @category math @since 0.1.0 */\n"
  const saidOf = (text: string) => undocumented(new Map([["A.ts", text]]), "A.ts").map((violation) => violation.message)

  it("is content with documented values, overloads, and types without words", () => {
    const text = `${header}${doc}export const a = 1\n${doc}export function b(): void\nexport function b(x?: 1) {}\n` +
      `${doc}export class C {}\nexport type T = 1\nexport interface I {}\nexport type { X } from "./x.ts"\n` +
      `export {\n  ${doc}  a as catch\n}\n`
    assert.deepStrictEqual(saidOf(text), [])
  })

  it("names what an export lacks", () => {
    assert.deepStrictEqual(saidOf("export const a = 1"), [
      "the module header lacks a sentence, @since",
      "a lacks a sentence, @category, @since"
    ])
    assert.deepStrictEqual(saidOf(`${header}\n/** @category x @since 0.1.0 */\nexport class A {}`), [
      "A lacks a sentence"
    ])
    assert.deepStrictEqual(saidOf(`${header}\n/** Adds one. @since 0.1.0 */\nexport function f() {}`), [
      "f lacks @category"
    ])
    assert.deepStrictEqual(saidOf(`${header}\n/** Adds one. @category x */\nexport { a as b }`), ["b lacks @since"])
    assert.deepStrictEqual(saidOf(`${header}export * from "./x.ts"`), ["* lacks a sentence, @category, @since"])
  })

  it("takes the words of a re-exported value from where it is declared", () => {
    const files = new Map([
      ["testing/A.ts", `${header}import { d } from "./b.ts"\nexport { a, b as c } from "./b.ts"\nexport { d }`],
      ["testing/b.ts", `${header}${doc}export const a = 1\nexport const b = 2\n${doc}export const d = 3`]
    ])
    assert.deepStrictEqual(undocumented(files, "testing/A.ts").map((violation) => violation.message), [
      "c lacks a sentence, @category, @since"
    ])
  })
})

describe("reading the other blocks", () => {
  const known = {
    scripts: ["test", "demo"],
    bins: ["effect-smtp", "tsc"],
    packages: ["effect-smtp", "@effect/platform-node"],
    isFile: (path: string) => path === "scratchpad/a.ts" || path === ".ci/run"
  }
  const saidOf = (info: string, ...lines: ReadonlyArray<string>): ReadonlyArray<string> =>
    checkBlocks([{ file: "A.md", line: 1, info, lines }], known).map(({ message }) => message)

  const good: ReadonlyArray<readonly [info: string, ...lines: ReadonlyArray<string>]> = [
    ["sh", "npm ci && npm test", "npm run demo -- --quiet # a comment; ls"],
    [
      "sh",
      "npm install effect-smtp@0.1.0 @effect/platform-node",
      "npm exec -- tsc -p .",
      "npx --yes effect-smtp --help"
    ],
    [
      "sh",
      "A=1 node scratchpad/a.ts < in > out 2>&1",
      ".ci/run",
      "echo 'rm -rf; ls' | effect-smtp send \\",
      "  --json"
    ],
    ["console", "$ npm test", "rm is no command here"],
    ["json", "{ \"a\": 1 }"],
    ["text", "anything"],
    ["text scratchpad/a.ts", "said"],
    ["ts", "nobody("]
  ]
  it.each(good)("is content with %s %s", (info, ...lines) => assert.deepStrictEqual(saidOf(info, ...lines), []))

  const bad: ReadonlyArray<readonly [words: string, info: string, ...lines: ReadonlyArray<string>]> = [
    ["no script \"start\"", "sh", "npm run start"],
    ["no script \"test:all\"", "sh", "npm ci && npm run  test:all"],
    ["\"left-pad@1\" is no dependency", "sh", "npm i effect-smtp left-pad@1"],
    ["npm publish is not known", "sh", "npm publish"],
    ["\"curl\" is not known", "sh", "npx effect-smtp | curl -d @- example.test"],
    ["no file scratchpad/b.ts", "sh", "npm exec -- node --test scratchpad/b.ts"],
    ["no file bin/run", "sh", "bin/run"],
    ["\"rm\" is not known", "console", "$ rm x"],
    ["shows a command", "console", "npm test"],
    ["JSON", "json", "{"],
    ["no file nowhere.ts", "text nowhere.ts", "x"],
    ["say what the block is", "", "x"],
    ["say what the block is", "python", "x"]
  ]
  it.each(bad)("says %s of %s %s", (words, info, ...lines) => {
    const said = saidOf(info, ...lines)
    assert.strictEqual(said.length, 1)
    assert.include(said[0], words)
  })

  it("finds lines in an output, with a hole where … stands", () => {
    const output = "start\n  S: 220 ready\nport 1234, open\nend\n"
    assert.isTrue(isShown(["  S: 220 ready", "port …, open"], output))
    assert.isTrue(isShown(["…"], output))
    assert.isFalse(isShown(["  S: 220 ready", "end"], output))
    assert.isFalse(isShown(["S: 220 ready"], output))
    assert.isFalse(isShown(["end", "", "…"], output))
    assert.isFalse(isShown(["port .*"], output))
  })
})
