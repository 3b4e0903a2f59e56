import { assert, describe, it } from "@effect/vitest"
import { fullyQualified, hasUnsafe, unbracket } from "../../src/node/hostName.ts"

describe("unbracket", () => {
  it("takes the brackets off IPv6 literals alone", () => {
    const hosts = ["[::1]", "[mx.test]", "[127.0.0.1]", "::1", "[::1", "mx.test"]
    assert.deepStrictEqual(hosts.map(unbracket), ["::1", "[mx.test]", "[127.0.0.1]", "::1", "[::1", "mx.test"])
  })
})

describe("hasUnsafe", () => {
  it("finds controls, separators and format characters", () => {
    const hosts = ["a b", "a\r\n", "a\u0000", "a\u0085", "a\u2028", "a\u202e", "mx.test", "bücher.test"]
    assert.deepStrictEqual(hosts.map(hasUnsafe), [true, true, true, true, true, true, false, false])
  })
})

describe("fullyQualified", () => {
  const names: ReadonlyArray<readonly [string, boolean]> = [
    ["mail.example.test", true],
    ["laptop", false],
    ["bad_name.test", false],
    ["-x.test", false],
    ["x-.test", false],
    ["a..test", false],
    ["10.0.0.1", false],
    [`${"a".repeat(64)}.test`, false],
    [`${"a.".repeat(130)}test`, false]
  ]
  it.each(names)("%s is fully qualified: %s", (name, isQualified) => {
    assert.strictEqual(fullyQualified(name), isQualified ? name : undefined)
  })
})
