/** A seeded generator of pseudo-random numbers, and the material that inputs are made of. */

/** Spreads 32 bits: two inputs that differ in one bit differ in about half of the output. */
const spread = (bits: number): number => {
  let mixed = Math.imul(bits ^ (bits >>> 16), 0x7feb352d)
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x846ca68b)
  return (mixed ^ (mixed >>> 16)) >>> 0
}

/** The seed of one case: any of them can be run again alone. */
export const seedOf = (seed: number, name: string, index: number): number => {
  let mixed = spread(seed)
  for (const character of name) mixed = spread(mixed ^ character.charCodeAt(0))
  return spread(mixed ^ index)
}

export class Random {
  #state: number

  constructor(seed: number) {
    this.#state = seed >>> 0
  }

  /** A whole number from 0 to 2^32 - 1. */
  bits(): number {
    this.#state = (this.#state + 0x9e3779b9) >>> 0
    return spread(this.#state)
  }

  /** A whole number from 0 to `limit` - 1. */
  below(limit: number): number {
    return this.bits() % limit
  }

  /** True once in so many times. */
  oneIn(times: number): boolean {
    return this.below(times) === 0
  }

  pick<A>(list: ReadonlyArray<A>): A {
    return list[this.below(list.length)]!
  }

  list<A>(length: number, make: (index: number) => A): Array<A> {
    return Array.from({ length }, (_, index) => make(index))
  }

  /** Up to `most` pieces of an alphabet, as one text. */
  text(alphabet: ReadonlyArray<string>, most: number): string {
    return this.list(this.below(most + 1), () => this.pick(alphabet)).join("")
  }

  octets(most: number): Uint8Array {
    return Uint8Array.from({ length: this.below(most + 1) }, () => this.below(256))
  }

  /** The octets in a few parts of any length; empty ones too. */
  parts(octets: Uint8Array): ReadonlyArray<Uint8Array> {
    if (this.oneIn(8)) return Array.from(octets, (octet) => Uint8Array.of(octet))
    const cuts = this.list(this.below(5), () => this.below(octets.length + 1)).toSorted((a, b) => a - b)
    return [0, ...cuts].map((from, index) => octets.subarray(from, cuts[index] ?? octets.length))
  }

  /** The octets with some of them changed, lost, doubled or swapped. */
  mutated(octets: Uint8Array): Uint8Array {
    let changed = Array.from(octets)
    for (let times = this.below(4); times > 0; times--) {
      const at = this.below(changed.length + 1)
      switch (this.below(5)) {
        case 0:
          changed.splice(at, 1 + this.below(3))
          break
        case 1:
          changed.splice(at, 0, ...this.octets(3))
          break
        case 2:
          changed.splice(at, 1, this.pick([0, 9, 10, 13, 32, 45, 50, 53, 127, 128, 226, 255]))
          break
        case 3:
          changed.splice(at, 0, ...changed.slice(at, at + this.below(20)))
          break
        default:
          changed = changed.slice(0, at)
      }
    }
    return Uint8Array.from(changed)
  }
}

const encoder = new TextEncoder()
export const utf8 = (text: string): Uint8Array => encoder.encode(text)

/** Octets one to one as characters. */
export const latin1 = (octets: Uint8Array): string =>
  Buffer.from(octets.buffer, octets.byteOffset, octets.length)
    .toString("latin1")

export const fromLatin1 = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, "latin1"))

/** Fails a case; `what` is only called then. */
export const check = (holds: boolean, what: () => string): void => {
  if (!holds) throw new Error(what())
}

/** A value for a message: bounded, and without raw control characters. */
export const shown = (value: unknown): string => {
  const text = value instanceof Uint8Array ? latin1(value) : JSON.stringify(value, printable) ?? String(value)
  return JSON.stringify(text.length > 600 ? `${text.slice(0, 600)}… (${text.length})` : text)
}

const printable = (_: string, value: unknown): unknown =>
  typeof value === "bigint" || typeof value === "symbol" || typeof value === "function"
    ? String(value)
    : value instanceof Uint8Array
    ? latin1(value)
    : value
