/**
 * Fast walks over text octets, many at a time: the inner loops of `DotStuffing`.
 *
 * A walk stops at the next octet below {@link controlLimit}, which CR and LF are.
 */

/** Octets below it stop a walk. CR and LF are the ones looked for; NUL, TAB and the others stop it needlessly. */
const controlLimit = 0x0e

const limits = 0x0e0e0e0e
const highBits = 0x80808080 | 0

/** Below this many octets a view costs more than it saves. */
const fewOctets = 48

/** How many octets there are in all. */
export const sizeOf = (chunks: ReadonlyArray<Uint8Array>): number => {
  let size = 0
  for (let n = 0; n < chunks.length; n++) size += chunks[n]!.length
  return size
}

/** Octets with a `DataView` of them: it reads words at any alignment, and V8 turns the reads into plain loads. */
interface Text {
  readonly octets: Uint8Array
  readonly words: DataView | undefined
}

export const textOf = (octets: Uint8Array): Text => ({
  octets,
  words: octets.length < fewOctets ? undefined : new DataView(octets.buffer, octets.byteOffset, octets.byteLength)
})

/** The place of the first octet of a word whose high bit is set. */
const firstHigh = (word: number): number => {
  const bits = word & highBits
  return (31 - Math.clz32(bits & -bits)) >> 3
}

/** The same in four words that follow each other. */
const firstHighOf = (a: number, b: number, c: number, d: number): number => {
  if ((a & highBits) !== 0) return firstHigh(a)
  if ((b & highBits) !== 0) return 4 + firstHigh(b)
  return (c & highBits) !== 0 ? 8 + firstHigh(c) : 12 + firstHigh(d)
}

/** The index of the first octet below the limit or above 0x7f, from `from` on; else the length. */
export const skipAscii = ({ octets, words }: Text, from: number): number => {
  const end = octets.length
  let at = from
  if (words !== undefined) {
    for (const last = end - 16; at <= last; at += 16) {
      const a = words.getInt32(at, true)
      const b = words.getInt32(at + 4, true)
      const c = words.getInt32(at + 8, true)
      const d = words.getInt32(at + 12, true)
      // A borrow out of an octet below the limit sets its high bit, and may set those above it: the lowest is right. An
      // octet above 0x7f has it set already.
      const e = (a - limits) | a
      const f = (b - limits) | b
      const g = (c - limits) | c
      const h = (d - limits) | d
      if (((e | f | g | h) & highBits) !== 0) return at + firstHighOf(e, f, g, h)
    }
  }
  for (; at < end; at++) {
    const octet = octets[at]!
    if (octet < controlLimit || octet > 0x7f) break
  }
  return at
}

/** The index of the first octet below the limit, from `from` on; else the length. */
export const skipText = ({ octets, words }: Text, from: number): number => {
  const end = octets.length
  let at = from
  if (words !== undefined) {
    for (const last = end - 16; at <= last; at += 16) {
      const a = words.getInt32(at, true)
      const b = words.getInt32(at + 4, true)
      const c = words.getInt32(at + 8, true)
      const d = words.getInt32(at + 12, true)
      const e = (a - limits) & ~a
      const f = (b - limits) & ~b
      const g = (c - limits) & ~c
      const h = (d - limits) & ~d
      if (((e | f | g | h) & highBits) !== 0) return at + firstHighOf(e, f, g, h)
    }
  }
  while (at < end && octets[at]! >= controlLimit) at++
  return at
}

/** As {@link skipText}, and copies what it walks over to `target`, from `start` on. */
export const copyText = ({ octets, words }: Text, from: number, target: Text, start: number): number => {
  const end = octets.length
  const shift = start - from
  let at = from
  if (words !== undefined && target.words !== undefined) {
    for (const last = end - 8; at <= last; at += 8) {
      const a = words.getInt32(at, true)
      const b = words.getInt32(at + 4, true)
      if (((((a - limits) & ~a) | ((b - limits) & ~b)) & highBits) !== 0) break
      target.words.setInt32(at + shift, a, true)
      target.words.setInt32(at + shift + 4, b, true)
    }
  }
  for (; at < end; at++) {
    const octet = octets[at]!
    if (octet < controlLimit) break
    target.octets[at + shift] = octet
  }
  return at
}
