import { assert, describe, it } from "@effect/vitest"
import { readFileSync } from "node:fs"
import { mutants } from "./mutants/list.ts"
import { type Mutant, occurrences, partsOf, root, type Row, rows, security, shown } from "./mutants/model.ts"

const read = (file: string): string => readFileSync(root + file, "utf8")

const all = Object.entries(mutants) as ReadonlyArray<[Row, ReadonlyArray<Mutant>]>

describe("SECURITY.md", () => {
  it("has each row once, with a guarantee and what it refers to", () => {
    const table = [...security.matchAll(/^\| (S\d+) +\| ([^|]+) \| ([^|]+) \|$/gm)].filter(([, , cell]) =>
      !cell!.startsWith("[test/")
    )
    assert.deepStrictEqual(table.map(([, row = ""]) => row), [...rows])
    for (const [, row, guarantee, references] of table) {
      assert.isAbove(guarantee!.trim().length, 60, row)
      assert.isAbove(references!.trim().length, 6, row)
    }
  })

  it("names for each row tests that exist, in the order of the rows", () => {
    assert.deepStrictEqual([...new Set(shown.map(({ row }) => row))], [...rows])
    const lines = security.split("\n").filter((line) => line.includes("](test/"))
    assert.strictEqual(lines.length, shown.length)
    const missing = shown.filter((test) => {
      const source = read(test.file)
      return !partsOf(test).every((part) => [`"${part}"`, `\`${part}\``].some((quoted) => source.includes(quoted)))
    })
    assert.deepStrictEqual(missing, [])
  })
})

describe("the mutants", () => {
  it("break each row in two places or more", () => {
    assert.deepStrictEqual(rows.filter((row) => mutants[row] === undefined), [])
    for (const [row, broken] of all) {
      assert.isAtLeast(new Set(broken.map(({ file, search }) => `${file}: ${search}`)).size, 2, row)
      assert.strictEqual(new Set(broken.map(({ name }) => name)).size, broken.length, row)
    }
  })

  it("are each told apart by a test file of their row", () => {
    const strays = all.flatMap(([row, broken]) =>
      broken.filter(({ test }) => !shown.some((named) => named.row === row && named.file === test))
    )
    assert.deepStrictEqual(strays, [])
  })

  it("find their place in the source exactly once: whoever moves it moves their search text too", () => {
    const lost = all.flatMap(([row, broken]) =>
      broken.filter(({ file, replace, search }) => search === replace || occurrences(read(file), search) !== 1)
        .map(({ file, name, search }) => ({ row, name, file, search }))
    )
    assert.deepStrictEqual(lost, [])
  })
})
