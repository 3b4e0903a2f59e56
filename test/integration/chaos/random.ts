/** Choices that replay: each is drawn from a generator that is seeded by what it is for, whatever happens meanwhile. */

export interface Random {
  /** From 0 up to 1, 1 excluded. */
  readonly real: () => number
  /** A whole number between both, both included. */
  readonly int: (low: number, high: number) => number
  readonly chance: (probability: number) => boolean
  readonly pick: <const A>(items: readonly [A, ...ReadonlyArray<A>]) => A
}

const hash = (text: string): number => {
  let h = 0x811c9dc5
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193)
  return h
}

/** The generator for a purpose, e.g. `make(seed, message, attempt)`. */
export const make = (...purpose: ReadonlyArray<string | number>): Random => {
  let state = hash(purpose.join("/"))
  const real = () => {
    state = (state + 0x9e3779b9) | 0
    let z = Math.imul(state ^ (state >>> 16), 0x21f0aaad)
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97)
    return ((z ^ (z >>> 15)) >>> 0) / 2 ** 32
  }
  return {
    real,
    int: (low, high) => low + Math.floor(real() * (high - low + 1)),
    chance: (probability) => real() < probability,
    pick: (items) => items[Math.floor(real() * items.length)] ?? items[0]
  }
}
