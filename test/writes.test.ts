/** How the octets of a batch become writes: each with its own deadline, so none is large, and few are small. */
import { assert, describe, it } from "@effect/vitest"
import { writesOf } from "../src/internal/message.ts"

const kibibyte = 1024
const chunksOf = (lengths: ReadonlyArray<number>) => lengths.map((length, n) => new Uint8Array(length).fill(n + 1))
const lengthsOf = (writes: ReadonlyArray<ReadonlyArray<Uint8Array>>) =>
  writes.map((write) => write.map(({ length }) => length))

describe("the writes of a batch", () => {
  const cases: ReadonlyArray<readonly [string, ReadonlyArray<number>, ReadonlyArray<ReadonlyArray<number>>]> = [
    ["nothing", [], [[]]],
    ["what fits in one", [1, 65_000, 535], [[1, 65_000, 535]]],
    ["small ones in front of a large one", [1, 20_000, 65_536, 3], [[1, 20_000], [65_536], [3]]],
    ["many small ones", Array(9).fill(20_000), [Array(3).fill(20_000), Array(3).fill(20_000), Array(3).fill(20_000)]],
    ["a large one behind one that is empty", [0, 150_000], [[0, 65_536], [65_536], [18_928]]],
    ["the rest of a large one with what follows", [70_000, 10, 61_062, 10], [[65_536], [4464, 10, 61_062], [10]]],
    ["one that is larger by a terminator", [65_541, 20_000], [[65_541], [20_000]]]
  ]
  it.each(cases)("of %s hold each octet once, in order", (_, lengths, expected) => {
    const chunks = chunksOf(lengths)
    const writes = writesOf(chunks)
    assert.deepStrictEqual(lengthsOf(writes), expected)
    assert.isTrue(Buffer.concat(writes.flat()).equals(Buffer.concat(chunks)))
  })

  it("are one for a chunk that grew a little while it was encoded", () => {
    const grown = chunksOf([70_000, 11_920])
    assert.deepStrictEqual(lengthsOf(writesOf(grown, true)), [[70_000, 11_920]])
    assert.deepStrictEqual(lengthsOf(writesOf(grown)), [[65_536], [4464, 11_920]])
    assert.deepStrictEqual(lengthsOf(writesOf([...grown, new Uint8Array(1)], true)), [[65_536], [4464, 11_920, 1]])
  })

  it("copy nothing", () => {
    const chunks = chunksOf([kibibyte, 200 * kibibyte])
    for (const part of writesOf(chunks).flat()) assert.isTrue(chunks.some(({ buffer }) => buffer === part.buffer))
    assert.strictEqual(writesOf(chunks.slice(0, 1))[0]?.[0], chunks[0])
  })
})
