import { assert, describe, it } from "@effect/vitest"
import { unused } from "./tooling/exports.ts"
import { isPrivate, readSources, render } from "./tooling/source.ts"

/** Private files of src, and what the tests share. */
const isMeant = (path: string): boolean =>
  path.startsWith("test/support/") || path.startsWith("src/") && isPrivate(path.slice("src/".length))

const namesIn = (files: Readonly<Record<string, string>>): ReadonlyArray<string> =>
  unused(new Map(Object.entries(files)), isMeant).map(({ line, message }) => `${line} ${message.split(" ")[2]}`)

describe("an export of a private file", () => {
  it("is imported by somebody", () => {
    const folders = ["src", "test", "scratchpad"]
    const sources = folders.flatMap((folder) =>
      [...readSources(folder)].map(([path, text]) => [`${folder}/${path}`, text] as const)
    )
    assert.deepStrictEqual(render(unused(new Map(sources), isMeant)), [])
  })

  const file = "export const a = 1, b = 2\n" +
    "export interface E {}\nexport type F = 1\nexport class G {}\nexport function h() {}\nexport { i, j as k }"

  it("is found by its name and line when nobody imports it", () => {
    const files = { "src/internal/a.ts": file, "src/B.ts": "export const b = 1", "src/node/C.ts": "export const c = 1" }
    assert.deepStrictEqual(namesIn(files), ["1 a:", "1 b:", "2 E:", "3 F:", "4 G:", "5 h:", "6 i:", "6 k:"])
  })

  const importers: ReadonlyArray<readonly [text: string, left: ReadonlyArray<string>]> = [
    ["import { a, type b } from \"../internal/a.ts\"", []],
    ["import { a as b } from \"../internal/a.ts\"", ["1 b:"]],
    ["import { a } from \"../internal/other.ts\"\nimport { b } from \"effect/a\"", ["1 a:", "1 b:"]],
    ["import * as it from \"../internal/a.ts\"\nf(it.a, { ...it.b })", []],
    ["import type * as it from \"../internal/a.ts\"\ntype A = it.a\nthis.it.b // it: b", ["1 b:"]],
    ["import * as it from \"../internal/a.ts\"\nf(it)", []],
    ["import * as it from \"../internal/a.ts\"\nf({\n  it\n})", []],
    ["export { b as a } from \"../internal/a.ts\"", ["1 a:"]],
    ["export * as it from \"../internal/a.ts\"", []]
  ]
  it.each(importers)("counts as imported by %j, but for %j", (text, left) => {
    assert.deepStrictEqual(namesIn({ "src/internal/a.ts": "export const a = 1, b = 2", "src/node/A.ts": text }), left)
  })
})
