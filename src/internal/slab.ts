/**
 * Small arrays cut from larger ones: an allocation of its own costs an array of a few octets far more than its octets. No
 * part is ever cut twice. Not for secrets: whoever holds one part can see its neighbours.
 */

const size = 65_536

/** Longest array that is cut from a slab. */
const longest = 8_192

const utf8 = new TextEncoder()
let slab = new Uint8Array(size)
let used = 0

const reserve = (length: number): void => {
  if (used + length <= size) return
  slab = new Uint8Array(size)
  used = 0
}

/** An array of so many octets. */
export const allocate = (length: number): Uint8Array => {
  if (length > longest) return new Uint8Array(length)
  reserve(length)
  const part = slab.subarray(used, used + length)
  used += length
  return part
}

/** A string in UTF-8. */
export const encode = (text: string): Uint8Array => {
  const most = text.length * 3
  if (most > longest * 3) return utf8.encode(text)
  reserve(most)
  const { written } = utf8.encodeInto(text, slab.subarray(used))
  const part = slab.subarray(used, used + written)
  used += written
  return part
}
