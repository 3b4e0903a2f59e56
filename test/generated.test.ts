/**
 * The pages that `npm run docs` writes: they are what the sources and the tour say now, and the sources say enough.
 */
import { assert, beforeAll, describe, it } from "@effect/vitest"
import { apiPages } from "./tooling/apiReference.ts"
import { lacking, type Module, readModules } from "./tooling/declarations.ts"
import { generate, present, readApi } from "./tooling/generate.ts"
import { guidePage, readGuide } from "./tooling/guides.ts"

let modules: ReadonlyArray<Module> = []
beforeAll(async () => {
  modules = await readApi()
}, 120_000)

describe("the API", () => {
  it("says what each export is, in which category, and since when", () => {
    assert.isAbove(modules.length, 15)
    assert.deepStrictEqual(lacking(modules), [])
  })
})

describe("the generated pages", () => {
  it("are what `npm run docs` writes now", { timeout: 300_000 }, async () => {
    const made = await generate(modules)
    const there = present()
    const stale = [...new Set([...made.keys(), ...there.keys()])].filter((file) => made.get(file) !== there.get(file))
    assert.deepStrictEqual(stale, [], "run `npm run docs`")
  })
})

const header = "/**\n * What it is.\n *\n * @since 0.1.0\n */\n"
const doc = (words: string, category = "models"): string =>
  `/**\n * ${words}\n *\n * @category ${category}\n * @since 0.1.0\n */\n`

/** A module from its declarations, by file, and from its source. */
const moduleOf = (declarations: Readonly<Record<string, string>>, source = header): Module => {
  const files = Object.entries(declarations).map(([file, text]) => [file, `${header}${text}`] as const)
  return readModules(["A"], new Map(files), new Map([["A.ts", source]]))[0]!
}

const shown = (module: Module): string => apiPages([module]).get("docs/api/A.md") ?? ""

describe("reading declarations", () => {
  it("gives each name its signature, words, category and version", () => {
    const [found] = moduleOf({ "A.ts": `${doc("Adds one.")}export declare const a: (n: number) => number;` }).exports
    assert.deepStrictEqual(found, {
      name: "a",
      signatures: ["const a: (n: number) => number;"],
      words: "Adds one.",
      category: "models",
      since: "0.1.0"
    })
  })

  it("reads words and tags on one line, and no tag in an example", () => {
    const { exports } = moduleOf({
      "A.ts":
        "/** Adds one. @category x @since 0.1.0 */\nexport type A = 1\n/**\n * Two.\n *\n * ```ts\n * @since 9\n * ```\n *\n" +
        " * @since 0.2.0\n */\nexport type B = 2"
    })
    assert.deepStrictEqual(exports.map(({ category, since, words }) => [words, category, since]), [
      ["Adds one.", "x", "0.1.0"],
      ["Two.\n\n```ts\n@since 9\n```", undefined, "0.2.0"]
    ])
  })

  it("makes one of a value and a type with the same name", () => {
    const text = `${doc("Both.")}export declare const T: 1;\n/** @since 0.1.0 */\nexport type T = typeof T;`
    const { exports } = moduleOf({ "A.ts": text })
    assert.deepStrictEqual(exports.map(({ name, signatures }) => [name, signatures]), [
      ["T", ["const T: 1;", "type T = typeof T;"]]
    ])
  })

  it("follows names to the files that they come from, under the name that they get", () => {
    const there = `${doc("Made.")}export declare const made: x.X;\n${doc("Kind.")}export interface Kind {}`
    const { exports } = moduleOf({
      "A.ts": "import { made as own } from \"./internal/b.ts\"\nexport { type Kind } from \"./internal/b.ts\"\n" +
        `export { own }\n${doc("Here.")}declare const catch_: 2;\nexport { catch_ as catch }\nexport {\n  ${
          doc("Else.")
        }  made as other\n} from "./internal/b.ts"`,
      "internal/b.ts": `import * as x from "./x.ts"\n${there}`
    })
    assert.deepStrictEqual(exports.map(({ name, signatures, words }) => [name, signatures[0], words]), [
      ["Kind", "interface Kind {}", "Kind."],
      ["own", "const own: X;", "Made."],
      ["catch", "const catch: 2;", "Here."],
      ["other", "const other: X;", "Else."]
    ])
  })

  it("shows what a class extends as its source does, with the constant that it spreads, and no private member", () => {
    const declared = "declare const E_base: Long<E, { a: 1 }>;\n" +
      `${doc("Fails.")}export declare class E extends E_base {\n    #private;\n    private x;\n    readonly y: 1;\n}`
    const source =
      `${header}const common = { a: 1 }\nexport class E extends Tagged<E>()("E", { ...common }) { readonly y = 1 }`
    const [found] = moduleOf({ "A.ts": declared }, source).exports
    assert.deepStrictEqual(found?.signatures, [
      "const common = { a: 1 }",
      "class E extends Tagged<E>()(\"E\", { ...common }) {\n    readonly y: 1;\n}"
    ])
  })

  it("takes names of internal files and inline imports for what they name", () => {
    const text =
      `import * as model from "./internal/model.ts"\nimport * as SmtpError from "./SmtpError.ts"\n${doc("Is.")}` +
      "export declare const a: model.Model | SmtpError.EAUTH | import(\"./internal/x.ts\").X | import(\"effect/net/Dns\").Dns | y.model.Z;"
    assert.deepStrictEqual(moduleOf({ "A.ts": text }).exports[0]?.signatures, [
      "const a: Model | SmtpError.EAUTH | X | Dns.Dns | y.model.Z;"
    ])
  })

  it("names what is lacking, also of types", () => {
    const text =
      "export type A = 1\n/** Says it. @since 0.1.0 */\nexport declare const b: 1\n/** @category x @since 0.1.0 */\nexport interface C {}"
    assert.deepStrictEqual(lacking([moduleOf({ "A.ts": text })]), [
      "A: A lacks a sentence, @category, @since",
      "A: b lacks @category",
      "A: C lacks a sentence"
    ])
    const empty = ["A: the module header lacks a sentence", "A: nothing is exported"]
    assert.deepStrictEqual(lacking([moduleOf({ "B.ts": "" }, "export const a = 1")]), empty)
  })
})

describe("a page of the API", () => {
  it("has the categories in order, the signature before the words, and links to what is on it", () => {
    const text = `${doc("Uses {@link b} and {@link Else}.", "two")}export declare const c: 1;\n${
      doc("Is.", "one")
    }export declare const b: 2;`
    const page = shown(moduleOf({ "A.ts": text }))
    const order = ["# A", "What it is.", "`import { A } from \"effect-smtp\"`", "- one: [`b`](#b)", "- two: [`c`](#c)"]
    const rest = [
      "## one",
      "### b",
      "const b: 2;",
      "Is.",
      "## two",
      "### c",
      "const c: 1;",
      "Uses [`b`](#b) and `Else`."
    ]
    const at = [...order, ...rest].map((part) => page.indexOf(part))
    assert.deepStrictEqual(at, at.toSorted((a, b) => a - b))
    assert.notInclude(at, -1)
  })

  it("counts headings that are alike, as GitHub does", () => {
    const text = `${doc("One.")}export type Answer = 1\n${doc("Two.")}export declare const answer: 2\n${
      doc("Three.")
    }export type A = 3`
    const page = shown(moduleOf({ "A.ts": text }))
    assert.include(page, "[`Answer`](#answer), [`answer`](#answer-1), [`A`](#a-1)")
  })
})

describe("a guide", () => {
  const program = "/** Sending: it goes\n * out. */\nimport { SmtpClient } from \"../src/index.ts\"\n" +
    "import { SmtpServer } from \"../src/testing/index.ts\"\nimport { make } from \"../src/promise.ts\"\n\nmake()\n"

  it("has the title and the words of the first comment, and the code with the imports of a reader", () => {
    const guide = readGuide("10-send.ts", program)
    assert.deepStrictEqual([guide.title, guide.prose], ["Sending", "It goes\nout."])
    assert.strictEqual(
      guide.code,
      "import { SmtpClient } from \"effect-smtp\"\nimport { SmtpServer } from \"effect-smtp/testing\"\n" +
        "import { make } from \"effect-smtp/promise\"\n\nmake()"
    )
  })

  it("shows the output, and links to the pages of what it imports", () => {
    const page = guidePage(readGuide("10-send.ts", program), "sent", new Set(["SmtpClient", "promise", "Sasl"]))
    assert.include(page, "```text\nsent\n```")
    assert.include(page, "Reference: [SmtpClient](../api/SmtpClient.md), [promise](../api/promise.md).")
  })

  it("holds the code of the file beside it that it imports", () => {
    const main =
      "/** Two: parts. */\nimport * as A from \"a\"\nimport { B } from \"b\"\nimport { f } from \"./part.ts\"\n\nf(B)\n"
    const part =
      "/** A part. */\nimport * as A from \"a\"\nimport { B, C } from \"b\"\n\n/** Does it. */\nexport const f = A.g(C)\n"
    const read = (file: string): string => file === "part.ts" ? part : ""
    assert.strictEqual(
      readGuide("10-two.ts", main, read).code,
      "import * as A from \"a\"\nimport { B, C } from \"b\"\n\n/** Does it. */\nconst f = A.g(C)\n\nf(B)"
    )
  })

  it("needs a title", () => {
    assert.throws(
      () => readGuide("10-send.ts", "/** No title here. */\n"),
      "scratchpad/10-send.ts: begin with a comment"
    )
  })
})
