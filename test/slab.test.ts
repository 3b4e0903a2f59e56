/** Small arrays that are cut from larger ones: no part is ever cut twice, and each holds what it should. */
import { assert, describe, it } from "@effect/vitest"
import * as slab from "../src/internal/slab.ts"
import { Random } from "./fuzz/random.ts"

const utf8 = new TextEncoder()

const span = (part: Uint8Array) => ({
  buffer: part.buffer,
  from: part.byteOffset,
  to: part.byteOffset + part.length
})

const assertApart = (parts: ReadonlyArray<Uint8Array>): void => {
  const byBuffer = new Map<ArrayBufferLike, Array<{ readonly from: number; readonly to: number }>>()
  for (const { buffer, from, to } of parts.filter(({ length }) => length > 0).map(span)) {
    const known = byBuffer.get(buffer) ?? []
    byBuffer.set(buffer, [...known, { from, to }])
  }
  for (const spans of byBuffer.values()) {
    const sorted = spans.toSorted((a, b) => a.from - b.from)
    for (const [i, { from }] of sorted.entries()) assert.isTrue(i === 0 || sorted[i - 1]!.to <= from)
  }
}

const words = ["a", "é", "€", "😀", "\ud83d", "\ude00", "\0", "\r\n", "x".repeat(100)]

describe("parts of a slab", () => {
  it("never overlap, and keep what was written to them", () => {
    const random = new Random(1)
    const parts: Array<readonly [Uint8Array, Uint8Array]> = []
    for (let i = 0; i < 5_000; i++) {
      if (random.oneIn(2)) {
        const part = slab.allocate(random.pick([0, 1, 7, 100, 1_000, 8_192]))
        part.fill(i % 256)
        parts.push([part, part.slice()])
      } else {
        const text = random.text(words, 30)
        const part = slab.encode(text)
        assert.deepStrictEqual(part, utf8.encode(text))
        parts.push([part, part.slice()])
      }
    }
    assertApart(parts.map(([part]) => part))
    for (const [part, copy] of parts) assert.deepStrictEqual(part, copy)
  })

  it("are of the length asked for, at every border", () => {
    for (const length of [0, 1, 8_191, 8_192, 8_193, 65_535, 65_536, 65_537, 1_000_000]) {
      assert.strictEqual(slab.allocate(length).length, length)
      for (const letter of ["a", "é", "€"]) {
        const text = letter.repeat(length)
        assert.strictEqual(slab.encode(text).length, utf8.encode(text).length)
      }
    }
  })

  it("a large array holds on to nothing but itself", () => {
    assert.strictEqual(slab.allocate(8_193).buffer.byteLength, 8_193)
    assert.isAtMost(slab.allocate(10).buffer.byteLength, 65_536)
    assert.isAtMost(slab.encode("x".repeat(8_000)).buffer.byteLength, 65_536)
  })
})
