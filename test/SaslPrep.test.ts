import { assert, describe, it } from "@effect/vitest"
import { Effect, Result, Schema } from "effect"
import { saslprep } from "../src/internal/sasl/saslprep.ts"
import * as tables from "../src/internal/sasl/saslprepTables.ts"

const prepared = (text: string, kind: "stored" | "query" = "stored") => Result.getOrThrow(saslprep(text, kind))
const refused = (text: string, kind: "stored" | "query" = "stored"): string => {
  const result = saslprep(text, kind)
  assert.isTrue(Result.isFailure(result), JSON.stringify(text))
  return Result.isFailure(result) ? result.failure : ""
}

describe("SASLprep", () => {
  it("gives the examples of RFC 4013 section 3", () => {
    assert.strictEqual(prepared("I\u00adX"), "IX")
    assert.strictEqual(prepared("user"), "user")
    assert.strictEqual(prepared("USER"), "USER")
    assert.strictEqual(prepared("\u00aa"), "a")
    assert.strictEqual(prepared("\u2168"), "IX")
    assert.match(refused("\u0007"), /prohibits/)
    assert.match(refused("\u0627\u0031"), /right-to-left/)
  })

  it("maps spaces to the space, others to nothing, and normalises by NFKC", () => {
    for (const space of ["\u00a0", "\u1680", "\u2003", "\u200b", "\u202f", "\u205f", "\u3000"]) {
      assert.strictEqual(prepared(`a${space}b`), "a b")
    }
    for (const none of ["\u00ad", "\u034f", "\u1806", "\u180b", "\u200c", "\u200d", "\u2060", "\ufe00", "\ufeff"]) {
      assert.strictEqual(prepared(`a${none}b`), "ab")
    }
    assert.strictEqual(prepared("pa\u0308\ufb01\u2126"), "päfiΩ")
    assert.strictEqual(prepared(" ~"), " ~")
  })

  it("refuses what RFC 4013 section 2.3 prohibits, at the edges of its ranges", () => {
    const prohibited = [
      "\u0000",
      "\u001f",
      "\u007f",
      "\u0080",
      "\u009f",
      "\u06dd",
      "\u070f",
      "\u180e",
      "\u2028",
      "\u2029",
      "\u2063",
      "\u206a",
      "\u206f",
      "\ufff9",
      "\ufffd",
      "\u{1d173}",
      "\ue000",
      "\uf8ff",
      "\u{f0000}",
      "\u{10fffd}",
      "\ud800",
      "\udfff",
      "\u2ff0",
      "\u2ffb",
      "\u200e",
      "\u202e",
      "\u{e0001}",
      "\u{e0020}",
      "\u{e007f}",
      "\ufdd0",
      "\ufffe",
      "\u{10ffff}"
    ]
    for (const one of prohibited) assert.match(refused(`a${one}`, "query"), /prohibits/, JSON.stringify(one))
    assert.strictEqual(prepared(" ~¡\ud7a3\uf900", "query"), " ~¡\ud7a3\u8c48")
  })

  it("refuses in a stored string, not in a query, what Unicode 3.2 had not assigned", () => {
    for (const one of ["\u0221", "\u0234", "\u{1f511}", "\u{1f600}", "\u20ba"]) {
      assert.match(refused(`a${one}`), /Unicode 3\.2/)
      assert.strictEqual(prepared(`a${one}`, "query"), `a${one}`)
    }
    // Newer than 3.2, though its compatibility form is not.
    assert.match(refused("\u{1f100}"), /Unicode 3\.2/)
    assert.strictEqual(prepared("\u0220\u0222\u20b1"), "\u0220\u0222\u20b1")
  })

  it("keeps right-to-left text whole and to itself", () => {
    assert.strictEqual(prepared("\u05d0"), "\u05d0")
    assert.strictEqual(prepared("\u0627\u0031\u0628"), "\u06271\u0628")
    for (const mixed of ["\u05d0a\u05d0", "1\u05d0", "\u05d01", "a\u05d0"]) {
      assert.match(refused(mixed), /right-to-left/)
    }
  })

  it("leaves nothing empty", () => {
    assert.match(refused(""), /empty/)
    assert.match(refused("\u00ad"), /empty/)
  })

  it("has the tables of RFC 3454: so many code points each", () => {
    const size = (steps: string): number => {
      const edges: Array<number> = []
      for (const step of steps.split(" ")) edges.push((edges.at(-1) ?? 0) + Number.parseInt(step, 36))
      return edges.reduce((sum, edge, at) => at % 2 === 0 ? sum - edge : sum + edge, 0)
    }
    assert.deepStrictEqual(
      [tables.spaces, tables.nothing, tables.unassigned, tables.rightToLeft, tables.leftToRight].map(size),
      [17, 27, 879_309, 1044, 229_973]
    )
  })

  it.effect.prop("prepares once and for all", [Schema.String], ([text]) =>
    Effect.sync(() => {
      const once = saslprep(text, "query")
      if (Result.isSuccess(once)) assert.strictEqual(prepared(once.success, "query"), once.success)
    }), { arbitrary: { runs: 1000, seed: 6 } })
})
