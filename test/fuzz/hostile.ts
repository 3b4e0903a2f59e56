/** Values that a caller may give where a text, a number or an object belongs. */
import type { Random } from "./random.ts"

const pieces = [
  ["a", "b", "Z", "0", "9", "-", "_", ".", "..", "@", "@", "+", "=", "/", "!", "#", "{", "~", "*", "%", "&"],
  ["\"", "\\", "\\\"", "(", ")", "<", ">", "[", "]", ":", ";", ",", " ", "  ", "\\ ", "\\="],
  ["\r", "\n", "\r\n", "\0", "\x01", "\t", "\x1b", "\x7f", "\x85", "\u2028", "\u2029", "\ud800", "\udc00", "\u202e"],
  ["\ufeff"],
  ["é", "ü", "中", "😀", "\u212a", "\u00ad", "\u3002", "xn--", "=?utf-8?q?a?=", "RCPT TO:<x@y.z>", "postmaster"],
  ["rfc822;"]
].flat()
const domains = [
  ["mx.test", "a.b.example", "[192.0.2.1]", "[IPv6:2001:db8::1]", "bücher.example", "中文.example", "UPPER.test"],
  ["-a.test", "a..test", "1.2.3.4", "[300.1.1.1]", "[IPv6:::::]", "[::1]", "a_b.test", "\u212aelvin.test", "a"]
].flat()
const locals = [
  "ann",
  "ann.b",
  "a+b=c",
  "\"a b\"",
  "\"a\\\"b\"",
  "\"a\"",
  "\"@\"",
  "é",
  "\"é >\"",
  "\"\\ \\ \"",
  ".a",
  "a.",
  "\"\"",
  ""
]

const long = (random: Random): string => random.pick(pieces).repeat(random.below(300))

/** A text that may be an address, or nearly one. */
export const address = (random: Random): string => {
  switch (random.below(8)) {
    case 0:
      return random.text(pieces, 12)
    case 1:
      return `${long(random)}@${random.pick(domains)}`
    case 2: {
      // As long as local parts and domains may be, and longer.
      const local = random.pick(["\\=", "\\ ", "\\\"", "é", "a"]).repeat(1 + random.below(66))
      const labels = random.list(random.below(4), () => random.pick(["中", "é", "a"]).repeat(1 + random.below(66)))
      return `"${local}"@${[...labels, "test"].join(".")}`
    }
    case 3: {
      const text = `${random.pick(locals)}@${random.pick(domains)}`
      const at = random.below(text.length + 1)
      return text.slice(0, at) + random.pick(pieces) + text.slice(at)
    }
    default:
      return `${random.pick(locals)}@${random.pick(domains)}`
  }
}

/** Any text. */
export const text = (random: Random): string => random.oneIn(20) ? long(random) : random.text(pieces, 8)

const never = { toString: () => "x\r\nRSET" }
const throwing = {
  toString: () => {
    throw new Error("a value was coerced")
  }
}

/** Anything but what is wanted. */
export const junk = (random: Random): unknown =>
  random.pick([
    [undefined, null, true, false, 0, -0, -1, 1.5, 1e21, NaN, Infinity, -Infinity, 2 ** 53, 7n, Symbol("s")],
    ["", " ", "\r\n", {}, [], [undefined], [never], never, throwing, new Uint8Array(3), new Date(0), () => "x"],
    [new String("a@b.c"), Object.create(null) as unknown, { address: never }, { length: 3 }, new Map()]
  ])

/** Mostly what `make` gives, sometimes junk or nothing. */
export const maybe = (random: Random, make: (random: Random) => unknown): unknown =>
  random.oneIn(12) ? junk(random) : random.oneIn(3) ? undefined : make(random)

/** An object in which few of the fields are made up; the others are absent. */
export const fields = (
  random: Random,
  makers: { readonly [field: string]: (random: Random) => unknown }
): { readonly [field: string]: unknown } => {
  const names = Object.keys(makers)
  const chosen = random.oneIn(4) ? names : random.list(1 + random.below(3), () => random.pick(names))
  return Object.fromEntries(chosen.map((name) => [name, random.oneIn(20) ? junk(random) : makers[name]!(random)]))
}
