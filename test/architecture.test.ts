import { assert, describe, it } from "@effect/vitest"
import { check } from "./tooling/architecture.ts"
import { readSources, render } from "./tooling/source.ts"

/** The rules that a small house breaks, one file per path. */
const broken = (files: Readonly<Record<string, string>>): ReadonlyArray<string> =>
  check(new Map(Object.entries(files))).map((violation) => violation.rule)

const lines = (count: number): string => "0\n".repeat(count)

describe("architecture", () => {
  it("src keeps the rules of the house", () => {
    assert.deepStrictEqual(render(check(readSources("src"))), [])
  })
})

describe("the rules pass", () => {
  it("arrows that point down, also through internal files", () => {
    const files = {
      "SmtpReply.ts": "export const a = 1",
      "SmtpError.ts":
        "import { a } from \"./SmtpReply.ts\"\nimport { b } from \"./internal/b.ts\"\nexport const c = a + b",
      "internal/b.ts": "import { a } from \"../SmtpReply.ts\"\nexport const b = a",
      "SmtpWire.ts":
        "import * as Effect from \"effect/Effect\"\nimport { c } from \"./SmtpError.ts\"\nexport const d = Effect.succeed(c)",
      "node/NodeX.ts": "import * as net from \"node:net\"\nimport { b } from \"../internal/b.ts\"\nexport { net, b }",
      "internal/hash.ts": "import * as crypto from \"node:crypto\"\nexport { crypto }"
    }
    assert.deepStrictEqual(broken(files), [])
  })

  it("files of one folder that import each other without a cycle", () => {
    assert.deepStrictEqual(
      broken({ "node/A.ts": "export const a = 1", "node/B.ts": "export { a } from \"./A.ts\"" }),
      []
    )
  })

  it("an effectful module in layer 0 when only its types are imported", () => {
    const text = "import type * as Effect from \"effect/Effect\"\nimport { type Stream } from \"effect/Stream\"\n" +
      "export type T = Effect.Effect<Stream<1>>"
    assert.deepStrictEqual(broken({ "Sasl.ts": text }), [])
  })

  it("the optional peer, loaded when it is needed", () => {
    const text =
      "export type T = typeof import(\"nodemailer/lib/a\")\nexport const a = () => import(\"nodemailer/lib/a\")"
    assert.deepStrictEqual(broken({ "internal/compose/peer.ts": text }), [])
  })

  it("forbidden words in strings, comments and regular expressions", () => {
    const text = "// Date.now() async console.log\nexport const a = [\"Math.random()\", `await x`, /console\\.log(x)/]"
    assert.deepStrictEqual(broken({ "SmtpReply.ts": text }), [])
  })

  it("a try around a call that throws and holds no Effect", () => {
    const text =
      "export const a = () => {\n  try {\n    return new URL(\"x:\")\n  } catch {\n    return undefined\n  }\n}"
    assert.deepStrictEqual(broken({ "SmtpReply.ts": text }), [])
  })

  it("a class longer than a function may be, made of short methods", () => {
    const text = `export class A {\n${
      Array.from({ length: 30 }, (_, i) => `  m${i}() {\n    return 1\n  }`).join("\n")
    }\n}`
    assert.deepStrictEqual(broken({ "SmtpReply.ts": text }), [])
  })
})

describe("the rules bite", () => {
  const rows: ReadonlyArray<readonly [name: string, rule: string, files: Readonly<Record<string, string>>]> = [
    ["an arrow to a higher layer", "arrow", { "SmtpReply.ts": "import \"./SmtpWire.ts\"", "SmtpWire.ts": "" }],
    ["an arrow to a later file of its layer", "arrow", {
      "SmtpReply.ts": "export * from \"./Sasl.ts\"",
      "Sasl.ts": ""
    }],
    ["a type arrow that points up", "arrow", {
      "SmtpReply.ts": "import type { A } from \"./Sasl.ts\"\nexport type B = A",
      "Sasl.ts": "export type A = 1"
    }],
    ["an inline type import that points up", "arrow", {
      "SmtpReply.ts": "export type B = import(\"./Sasl.ts\").A",
      "Sasl.ts": "export type A = 1"
    }],
    ["a dynamic import that points up", "arrow", {
      "SmtpReply.ts": "export const a = () => import(\"./Sasl.ts\")",
      "Sasl.ts": ""
    }],
    ["an arrow between files that stand beside each other", "arrow", {
      "OAuth2.ts": "import \"./SmtpLogin.ts\"",
      "SmtpLogin.ts": ""
    }],
    ["an arrow from a folder to a later one", "arrow", { "testing/A.ts": "import \"../node/B.ts\"", "node/B.ts": "" }],
    ["an arrow that points up through two internal files", "arrow", {
      "SmtpReply.ts": "import \"./internal/a.ts\"",
      "internal/a.ts": "import \"./b.ts\"",
      "internal/b.ts": "import \"../SmtpWire.ts\"",
      "SmtpWire.ts": ""
    }],
    ["an import of a file that is not there", "arrow", { "SmtpReply.ts": "import \"./Nowhere.js\"" }],
    ["a cycle among internal files", "cycle", {
      "internal/a.ts": "import \"./b.ts\"",
      "internal/b.ts": "import \"./a.ts\""
    }],
    ["a cycle in a folder", "cycle", { "node/A.ts": "import \"./B.ts\"", "node/B.ts": "import \"./A.ts\"" }],
    ["a public file that comes back through an internal one", "cycle", {
      "SmtpReply.ts": "import \"./internal/a.ts\"",
      "internal/a.ts": "import \"../SmtpReply.ts\""
    }],
    ["a node: module in a layer", "node", { "SmtpWire.ts": "import * as net from \"node:net\"\nexport { net }" }],
    ["a node: type in the fake server", "node", {
      "testing/A.ts": "import type { Socket } from \"node:net\"\nexport type S = Socket"
    }],
    ["a node: module in another internal file", "node", { "internal/other.ts": "import \"node:crypto\"" }],
    ["platform-node in a layer", "node", { "SmtpClient.ts": "import \"@effect/platform-node/NodeRuntime\"" }],
    ["an Effect in layer 0", "pure", { "Sasl.ts": "import * as Effect from \"effect/Effect\"\nexport { Effect }" }],
    ["the clock in layer 0", "pure", { "Envelope.ts": "import * as Clock from \"effect/Clock\"\nexport { Clock }" }],
    ["randomness in layer 0", "pure", { "Sasl.ts": "import { next } from \"effect/Random\"\nexport { next }" }],
    ["randomness in layer 0 through an internal file", "pure", {
      "Sasl.ts": "import \"./internal/nonce.ts\"",
      "internal/nonce.ts": "import * as Random from \"effect/Random\"\nexport { Random }"
    }],
    ["the barrel of effect", "barrel", { "SmtpWire.ts": "import { Effect } from \"effect\"\nexport { Effect }" }],
    ["the barrel of platform-node", "barrel", {
      "node/A.ts": "import type { NodeRuntime } from \"@effect/platform-node\""
    }],
    ["our own barrel", "barrel", { "node/A.ts": "import \"../testing/index.ts\"", "testing/index.ts": "" }],
    ["the optional peer, loaded at once", "dependency", {
      "internal/compose/peer.ts": "import * as a from \"nodemailer/lib/a\"\nexport { a }"
    }],
    ["the optional peer in another file", "dependency", {
      "Message.ts": "export const a = () => import(\"nodemailer/lib/a\")"
    }],
    ["another dependency", "dependency", { "SmtpWire.ts": "import \"nodemailer\"" }],
    ["a node module without its scheme", "dependency", { "node/A.ts": "import \"net\"" }],
    ["a file of 451 lines", "length", { "SmtpReply.ts": lines(451) }],
    ["an arrow function of 41 lines", "length", { "SmtpReply.ts": `export const a = () => {\n${lines(39)}}` }],
    ["a method of 41 lines", "length", { "SmtpReply.ts": `export class A {\n  m() {\n${lines(39)}}\n}` }],
    ["a generator of 41 lines", "length", { "SmtpWire.ts": `export const a = f(function*() {\n${lines(39)}})` }],
    ["Date.now", "forbidden", { "SmtpReply.ts": "export const a = () => Date.now()" }],
    ["new Date()", "forbidden", { "SmtpReply.ts": "export const a = () => new Date()" }],
    ["performance.now", "forbidden", { "SmtpReply.ts": "export const a = () => performance.now()" }],
    ["Math.random", "forbidden", { "SmtpReply.ts": "export const a = Math.random" }],
    ["setTimeout", "forbidden", { "node/A.ts": "setTimeout(() => 1, 1)" }],
    ["console", "forbidden", { "cli/main.ts": "console.log(1)" }],
    ["an async function", "forbidden", { "promise.ts": "export const a = async () => 1" }],
    ["a top-level await", "forbidden", { "promise.ts": "await 1" }],
    ["a try around a yield", "forbidden", {
      "SmtpWire.ts": "export function* a() {\n  try {\n    yield 1\n  } catch {}\n}"
    }],
    ["a try around an Effect", "forbidden", { "SmtpWire.ts": "try {\n  Effect.runSync(a)\n} finally {\n}" }],
    ["export default", "default", { "SmtpReply.ts": "export default 1" }],
    ["a value in an index", "index", { "index.ts": "export const a = 1" }],
    ["a flat re-export in an index", "index", { "node/index.ts": "export * from \"./A.ts\"", "node/A.ts": "" }],
    ["an index that reaches into another folder", "index", {
      "index.ts": "export * as A from \"./node/A.ts\"",
      "node/A.ts": ""
    }],
    ["an index that forgets a file", "index", { "index.ts": "", "SmtpReply.ts": "" }],
    ["a file without a place", "place", { "SmtpMagic.ts": "" }],
    ["a folder without a place", "place", { "magic/Wand.ts": "" }],
    ["an internal file in PascalCase", "place", { "internal/Wand.ts": "" }]
  ]
  for (const [name, rule, files] of rows) {
    it(`on ${name}`, () => assert.deepStrictEqual([...new Set(broken(files))], [rule]))
  }

  it("and say where to add a file that has no place", () => {
    const [violation] = check(new Map([["SmtpMagic.ts", ""]]))
    assert.include(violation?.message, "add \"SmtpMagic\" to `house` in test/tooling/architecture.ts")
  })
})
