import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as DotStuffing from "../src/DotStuffing.ts"

const bytes = (latin1: string): Uint8Array => Uint8Array.from(latin1, (c) => c.charCodeAt(0))
const text = (octets: Uint8Array): string => Buffer.from(octets).toString("latin1")

// The reference, written without regard to speed and without the source under test.

const naiveCanonical = (message: string): string => {
  const lines = message.replace(/\r\n|\r|\n/g, "\r\n")
  return lines === "" || lines.endsWith("\r\n") ? lines : `${lines}\r\n`
}

const naiveStuffed = (message: string): string => `${naiveCanonical(message).replace(/^\./gm, "..")}.\r\n`

/** What a receiver that takes `lineEnd` for the end of a line finds: the messages, and what is left over. */
const receive = (wire: string, lineEnd: RegExp) => {
  const lines = wire.split(lineEnd)
  const unfinished = lines.pop()
  const messages: Array<string> = []
  let current: Array<string> = []
  for (const line of lines) {
    if (line === ".") {
      messages.push(current.map((line) => `${line}\r\n`).join(""))
      current = []
    } else current.push(line.startsWith(".") ? line.slice(1) : line)
  }
  return { messages, left: current.join("|") + unfinished }
}

const receivers = { strict: /\r\n/, lfLenient: /\r?\n/, crLenient: /\r\n?/, lenient: /\r\n|\r|\n/ }

/** The message that a strict receiver decodes, and what follows it; undefined while there is no terminator. */
const naiveDecode = (wire: string) => {
  const at = `\r\n${wire}`.indexOf("\r\n.\r\n")
  if (at < 0) return undefined
  return { message: `\r\n${wire}`.slice(0, at + 2).replace(/\r\n\./g, "\r\n").slice(2), rest: wire.slice(at + 3) }
}

const strings = (alphabet: ReadonlyArray<string>, longest: number): ReadonlyArray<string> => {
  const all = [""]
  for (let from = 0, length = 1; length <= longest; length++) {
    const until = all.length
    for (; from < until; from++) for (const c of alphabet) all.push(all[from] + c)
  }
  return all
}

const alphabet = ["\r", "\n", ".", "a", "\0"]

const singly = (octets: Uint8Array): ReadonlyArray<Uint8Array> =>
  Array.from(octets, (_, i) => octets.subarray(i, i + 1))

const encode = (parts: Iterable<Uint8Array>, options?: DotStuffing.EncoderOptions) => {
  const encoder = DotStuffing.makeEncoder(options)
  const out: Array<Uint8Array> = []
  for (const part of parts) out.push(encoder.push(part))
  out.push(encoder.end())
  return { wire: text(Buffer.concat(out)), size: encoder.size, hasEightBit: encoder.hasEightBit }
}

const decode = (parts: Iterable<Uint8Array>) => {
  const decoder = DotStuffing.makeDecoder()
  const out: Array<Uint8Array> = []
  const rest: Array<Uint8Array> = []
  let done = false
  for (const part of parts) {
    const decoded = decoder.push(part)
    out.push(decoded.bytes)
    rest.push(decoded.rest)
    assert.isTrue(decoded.done || (!done && decoded.rest.length === 0))
    done = decoded.done
  }
  return { message: text(Buffer.concat(out)), done, rest: text(Buffer.concat(rest)) }
}

const same = (actual: string, expected: string, what: string) => {
  if (actual !== expected) assert.strictEqual(JSON.stringify(actual), JSON.stringify(expected), what)
}

/** Every split of the octets, without allocating for each: `visit` must not keep the parts. */
const forEverySplit = (octets: Uint8Array, visit: (parts: ReadonlyArray<Uint8Array>) => void) => {
  const pieces = Array.from(octets, (_, from) => Array.from(octets, (_, last) => octets.subarray(from, last + 1)))
  const parts: Array<Uint8Array> = []
  for (let cuts = 0; cuts < 1 << Math.max(0, octets.length - 1); cuts++) {
    parts.length = 0
    for (let from = 0, last = 0; last < octets.length; last++) {
      if (last < octets.length - 1 && (cuts & (1 << last)) === 0) continue
      parts.push(pieces[from]![last]!)
      from = last + 1
    }
    visit(parts)
  }
}

/** Compares pieces, as they come, with the octets that they should make up. */
class Comparison {
  private at = 0
  private isEqual = true
  private readonly expected: Uint8Array
  constructor(expected: Uint8Array) {
    this.expected = expected
  }
  add(piece: Uint8Array): void {
    for (let i = 0; i < piece.length; i++) if (piece[i] !== this.expected[this.at++]) this.isEqual = false
  }
  get holds(): boolean {
    return this.isEqual && this.at === this.expected.length
  }
}

const encodesForEverySplit = (message: string, wire: Uint8Array, size: number, stuffing: boolean) =>
  forEverySplit(bytes(message), (parts) => {
    const encoder = DotStuffing.makeEncoder({ stuffing })
    const comparison = new Comparison(wire)
    for (const part of parts) comparison.add(encoder.push(part))
    comparison.add(encoder.end())
    if (comparison.holds && encoder.size === size) return
    assert.deepStrictEqual(encode(parts, { stuffing }), { wire: text(wire), size, hasEightBit: false })
  })

const decodesForEverySplit = (wire: string, expected: { readonly message: string; readonly rest: string }) => {
  const message = bytes(expected.message)
  const rest = bytes(expected.rest)
  forEverySplit(bytes(wire), (parts) => {
    const decoder = DotStuffing.makeDecoder()
    const messageComparison = new Comparison(message)
    const restComparison = new Comparison(rest)
    for (const part of parts) {
      const decoded = decoder.push(part)
      messageComparison.add(decoded.bytes)
      restComparison.add(decoded.rest)
    }
    if (messageComparison.holds && restComparison.holds && decoder.push(rest).done) return
    assert.deepStrictEqual(decode(parts), { done: true, ...expected }, JSON.stringify(parts.map(text)))
  })
}

const checkReceivers = (wire: string, message: string) => {
  for (const lineEnd of Object.values(receivers)) {
    const { messages, left } = receive(wire, lineEnd)
    if (messages.length !== 1 || left !== "") assert.fail(`${JSON.stringify(wire)} is ${JSON.stringify(messages)}`)
    same(messages[0]!, message, wire)
  }
  if (/\r(?!\n)|(?<!\r)\n/.test(wire)) assert.fail(`a bare CR or LF in ${JSON.stringify(wire)}`)
  if (`\r\n${wire}`.indexOf("\r\n.\r\n") !== wire.length - 3) assert.fail(`a terminator inside ${JSON.stringify(wire)}`)
}

describe("the encoder", () => {
  it("gives strict and lenient receivers one message, the canonical one, for every split of every short string", () => {
    for (const message of strings(alphabet, 7)) {
      const wire = encode([bytes(message)]).wire
      const expected = naiveCanonical(message)
      checkReceivers(wire, expected)
      // Every other split writes the same octets, so every receiver sees the same.
      encodesForEverySplit(message, bytes(wire), expected.length, true)
    }
  }, 60_000)

  it("gives the canonical form alone without stuffing, for every split of every short string", () => {
    for (const message of strings(alphabet, 5)) {
      const expected = naiveCanonical(message)
      encodesForEverySplit(message, bytes(expected), expected.length, false)
    }
  }, 60_000)

  it("treats long lines at any alignment as short ones", () => {
    const runs = { a: `${"a line that is long enough to be read in words. ".repeat(2)}tail`, b: "\x80\xff".repeat(33) }
    for (const pattern of strings(["\r", "\n", ".", "a", "b"], 4)) {
      const message = pattern.replace(/[ab]/g, (run) => runs[run as "a" | "b"])
      const expected = naiveStuffed(message)
      for (let offset = 0; offset < 8; offset++) {
        const shifted = new Uint8Array(message.length + offset)
        shifted.set(bytes(message), offset)
        const { wire, size } = encode([shifted.subarray(offset)])
        same(wire, expected, message)
        assert.strictEqual(size, naiveCanonical(message).length)
      }
      for (let i = 0; i <= message.length; i++) {
        same(encode([bytes(message.slice(0, i)), bytes(message.slice(i))]).wire, expected, message)
      }
      same(encode(singly(bytes(message))).wire, expected, message)
    }
  }, 60_000)

  it("finds any octet at any place of a word", () => {
    for (let octet = 0; octet < 256; octet++) {
      for (let at = 0; at < 20; at++) {
        const message = "x".repeat(at) + String.fromCharCode(octet) + "y".repeat(80 - at)
        for (const before of ["", "\n"]) {
          const { wire, size, hasEightBit } = encode([bytes(before + message)])
          same(wire, naiveStuffed(before + message), message)
          assert.strictEqual(size, naiveCanonical(before + message).length)
          assert.strictEqual(hasEightBit, octet > 127)
        }
        assert.isTrue(encode([bytes(`\xe9${message}`)]).hasEightBit)
      }
    }
  }, 60_000)

  it("hands a chunk that needs no change back uncopied", () => {
    const encoder = DotStuffing.makeEncoder()
    const chunks = ["", "a", ".b\r\nc\xe9\0 d.\r", "\n", "no dot here\r", "\ne\r\n", "Subject: x\r\n\r\nbody"]
    for (const chunk of chunks.map(bytes)) assert.strictEqual(encoder.push(chunk), chunk)
    assert.strictEqual(text(encoder.end()), "\r\n.\r\n")
    const dot = bytes(".")
    assert.strictEqual(DotStuffing.makeEncoder({ stuffing: false }).push(dot), dot)
    const buffer = Buffer.from("a\r\nb\r\n")
    assert.strictEqual(DotStuffing.makeEncoder().push(buffer), buffer)
  })

  it("counts the canonical octets and knows of 8-bit ones as they are pushed", () => {
    const encoder = DotStuffing.makeEncoder()
    const seen = ["", "\n.\n", "a\r", "b", "\xe9"].map((part) => {
      encoder.push(bytes(part))
      return [encoder.size, encoder.hasEightBit]
    })
    assert.deepStrictEqual(seen, [[0, false], [5, false], [7, false], [9, false], [10, true]])
    encoder.end()
    assert.deepStrictEqual([encoder.size, encoder.hasEightBit], [12, true])
  })

  it("makes of an empty message the terminator alone, and nothing without stuffing", () => {
    assert.deepStrictEqual(encode([]), { wire: ".\r\n", size: 0, hasEightBit: false })
    assert.deepStrictEqual(encode([bytes("")], { stuffing: undefined }), { wire: ".\r\n", size: 0, hasEightBit: false })
    assert.deepStrictEqual(encode([], { stuffing: false }), { wire: "", size: 0, hasEightBit: false })
  })

  it("refuses octets after the end", () => {
    const encoder = DotStuffing.makeEncoder()
    encoder.end()
    assert.throws(() => encoder.push(bytes("RSET\r\n")), /make a new encoder/)
    assert.throws(() => encoder.push(bytes("")), /make a new encoder/)
    assert.throws(() => encoder.end(), /make a new encoder/)
  })
})

describe("the one-shot functions", () => {
  it("agree with the incremental encoder on every short string, given as octets or as text", () => {
    for (const message of strings(["\r", "\n", ".", "a", "\0", "é", "\ud800", "\udc00"], 4)) {
      const utf8 = Buffer.from(message)
      const stuffed = encode([utf8])
      const plain = encode([utf8], { stuffing: false })
      for (const input of [message, new Uint8Array(utf8)]) {
        const { body, size, hasEightBit } = DotStuffing.encodeAll(input)
        assert.deepStrictEqual({ wire: text(body), size, hasEightBit }, stuffed)
        same(text(DotStuffing.canonical(input)), plain.wire, message)
        assert.deepStrictEqual(DotStuffing.measure(input), { size: plain.size, hasEightBit: plain.hasEightBit })
      }
    }
  })

  it("hand canonical octets back uncopied where there is no terminator to add", () => {
    for (const message of ["", ".\r\n", "a\r\n.b\xe9\r\n\r\n"].map(bytes)) {
      assert.strictEqual(DotStuffing.canonical(message), message)
    }
  })

  it("measure long texts as the octets that they become", () => {
    for (const unit of ["a", "é", "€", "𝄞", "\ud834", "a𝄞\r", "\n€"]) {
      for (const length of [5461, 5462, 8191, 8192, 16_383, 16_384, 16_385, 40_000]) {
        const message = "x".repeat(length % 5) + unit.repeat(length)
        const { size, hasEightBit } = encode([Buffer.from(message)])
        assert.deepStrictEqual(DotStuffing.measure(message), { size, hasEightBit })
      }
    }
  })
})

describe("the decoder", () => {
  it("reads what a strict receiver reads, for every split of every short string with a terminator after it", () => {
    for (const start of strings(["\r", "\n", ".", "a"], 5)) {
      const wire = `${start}\r\n.\r\n`
      decodesForEverySplit(wire, naiveDecode(wire)!)
    }
  }, 60_000)

  it("takes the end for the end only when it is whole, and holds back nothing but what may belong to it", () => {
    for (const wire of strings(["\r", "\n", ".", "a"], 6)) {
      const expected = naiveDecode(wire)
      const actual = decode(singly(bytes(wire)))
      if (expected !== undefined) assert.deepStrictEqual(actual, { done: true, ...expected })
      else {
        const sure = `\r\n${wire}`.replace(/(\r\n)\.\r?$/, "$1").replace(/\r\n\./g, "\r\n").slice(2)
        assert.deepStrictEqual(actual, { message: sure, done: false, rest: "" })
      }
    }
  })

  it("gives back the canonical form for every split of what the encoder writes", () => {
    for (const message of strings(alphabet, 4)) {
      decodesForEverySplit(naiveStuffed(message), { message: naiveCanonical(message), rest: "" })
    }
  }, 60_000)

  it("copies nothing when there is no dot to take out", () => {
    const decoder = DotStuffing.makeDecoder()
    for (const chunk of ["a.b\r", "\n", "\r\nlong enough to be read in words\r\n", ""].map(bytes)) {
      const { bytes } = decoder.push(chunk)
      assert.strictEqual(bytes, chunk)
    }
    const last = bytes("end\r\n.\r\nQUIT\r\n")
    const decoded = decoder.push(last)
    assert.strictEqual(decoded.bytes.buffer, last.buffer)
    assert.strictEqual(text(decoded.bytes), "end\r\n")
    assert.strictEqual(text(decoded.rest), "QUIT\r\n")
    assert.deepStrictEqual(decode([bytes(".\r\n"), bytes("a"), bytes("")]), { message: "", done: true, rest: "a" })
  })

  it("takes dots out of short and long lines alike", () => {
    const lines = [1, 63, 64, 65, 66, 300].map((length) => `.${"z".repeat(length)}\r\n`)
    const message = [...lines, ...lines.toReversed(), ".", ".."].join("")
    assert.deepStrictEqual(decode([bytes(naiveStuffed(message))]), {
      message: naiveCanonical(message),
      done: true,
      rest: ""
    })
  })
})

/** Pieces that make line ends, dots, words and 8-bit octets meet in every way. */
const pieces = ["\r", "\n", "\r\n", ".", "\0", "\t", "\x80", "\xff", "word", "a line of some length, with a dot. "]
const Piece = Arbitrary.schema(Schema.Literals([...pieces, "=".repeat(76), "x".repeat(1000)]))

describe("any message in any split", () => {
  it.effect.prop(
    "is one message for every receiver, and comes back canonical",
    [Arbitrary.array(Arbitrary.array(Piece, { maxLength: 40 }), { maxLength: 12 })],
    ([chunks]) =>
      Effect.sync(() => {
        const parts = chunks.map((chunk) => chunk.join(""))
        const message = parts.join("")
        const { wire, size, hasEightBit } = encode(parts.map(bytes))
        same(wire, naiveStuffed(message), message)
        checkReceivers(wire, naiveCanonical(message))
        assert.strictEqual(size, naiveCanonical(message).length)
        assert.strictEqual(hasEightBit, /[\x80-\xff]/.test(message))
        const whole = DotStuffing.encodeAll(bytes(message))
        same(text(whole.body), wire, message)
        const step = 1 + wire.length % 97
        const octets = bytes(wire)
        const received = Array.from({ length: Math.ceil(wire.length / step) }, (_, i) => {
          return octets.subarray(i * step, (i + 1) * step)
        })
        assert.deepStrictEqual(decode(received), { message: naiveCanonical(message), done: true, rest: "" })
      }),
    { timeout: 60_000, arbitrary: { runs: 300, size: 40 } }
  )
})
