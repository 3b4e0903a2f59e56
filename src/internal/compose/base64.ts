/**
 * Base64 as MIME wants it (RFC 2045 section 6.8): lines of 76 characters, from chunks of any size, without a line end
 * after the last one.
 */

const lineOctets = 57
const lineCharacters = 76
const CR = 0x0d
const LF = 0x0a
const PAD = 0x3d

const alphabet = new TextEncoder().encode("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")

/** Encodes octets into `out`, padded; gives the position after them. */
const encode = (octets: Uint8Array, from: number, to: number, out: Uint8Array, start: number): number => {
  let at = start
  let i = from
  for (; i + 2 < to; i += 3) {
    const word = (octets[i]! << 16) | (octets[i + 1]! << 8) | octets[i + 2]!
    out[at++] = alphabet[word >> 18]!
    out[at++] = alphabet[(word >> 12) & 63]!
    out[at++] = alphabet[(word >> 6) & 63]!
    out[at++] = alphabet[word & 63]!
  }
  if (i === to) return at
  const second = i + 1 < to ? octets[i + 1]! : 0
  const word = (octets[i]! << 16) | (second << 8)
  out[at++] = alphabet[word >> 18]!
  out[at++] = alphabet[(word >> 12) & 63]!
  out[at++] = i + 1 < to ? alphabet[(word >> 6) & 63]! : PAD
  out[at++] = PAD
  return at
}

/** How many octets the encoding of so many octets has. */
export const encodedLength = (length: number): number =>
  length === 0 ? 0 : 4 * Math.ceil(length / 3) + 2 * (Math.ceil(length / lineOctets) - 1)

/** Turns the octets of one part into others, chunk by chunk. */
export interface Transfer {
  readonly push: (chunk: Uint8Array) => Uint8Array
  readonly end: () => Uint8Array
}

class Encoder implements Transfer {
  private readonly held = new Uint8Array(lineOctets)
  private count = 0
  private isFirst = true

  readonly push = (chunk: Uint8Array): Uint8Array => {
    const lines = Math.floor((this.count + chunk.length) / lineOctets)
    const out = new Uint8Array(lines * (lineCharacters + 2) - (this.isFirst && lines > 0 ? 2 : 0))
    let at = 0
    let from = 0
    if (lines > 0 && this.count > 0) {
      from = lineOctets - this.count
      this.held.set(chunk.subarray(0, from), this.count)
      at = this.line(this.held, 0, lineOctets, out, at)
      this.count = 0
    }
    for (; from + lineOctets <= chunk.length; from += lineOctets) {
      at = this.line(chunk, from, from + lineOctets, out, at)
    }
    this.held.set(chunk.subarray(from), this.count)
    this.count += chunk.length - from
    return out
  }

  readonly end = (): Uint8Array => {
    const out = new Uint8Array(this.count === 0 ? 0 : 4 * Math.ceil(this.count / 3) + (this.isFirst ? 0 : 2))
    if (this.count > 0) this.line(this.held, 0, this.count, out, 0)
    return out
  }

  private line(octets: Uint8Array, from: number, to: number, out: Uint8Array, start: number): number {
    let at = start
    if (!this.isFirst) {
      out[at++] = CR
      out[at++] = LF
    }
    this.isFirst = false
    return encode(octets, from, to, out, at)
  }
}

/** An encoder for one part. It holds back less than a line. */
export const make = (): Transfer => new Encoder()
