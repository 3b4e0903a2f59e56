import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { inspect } from "node:util"
import * as SmtpReply from "../src/SmtpReply.ts"

const octets = (text: string): Uint8Array => new TextEncoder().encode(text)

interface Decoded {
  readonly replies: ReadonlyArray<SmtpReply.SmtpReply>
  readonly failure: string | undefined
  readonly isPartial: boolean
}

const decodeParts = (parts: ReadonlyArray<Uint8Array>): Decoded => {
  const decoder = SmtpReply.makeDecoder()
  const replies: Array<SmtpReply.SmtpReply> = []
  const outcomes = new Set<string | undefined>()
  for (const part of parts) {
    const result = decoder.push(part, (reply) => replies.push(reply))
    outcomes.delete(undefined)
    outcomes.add(Result.isFailure(result) ? result.failure.detail : undefined)
  }
  assert.isAtMost(outcomes.size, 1, "a failed decoder stays failed, for the same reason")
  return { replies, failure: [...outcomes][0], isPartial: decoder.isPartial() }
}

const decode = (...parts: ReadonlyArray<Uint8Array>): Decoded => decodeParts(parts)

const split = (input: Uint8Array, at: number): ReadonlyArray<Uint8Array> => [input.subarray(0, at), input.subarray(at)]
const single = (input: Uint8Array): ReadonlyArray<Uint8Array> => Array.from(input, (octet) => Uint8Array.of(octet))

/** Decodes whole, split at every octet, and octet by octet; all have to agree. */
const decodeAnyhow = (input: string | Uint8Array): Decoded => {
  const given = typeof input === "string" ? octets(input) : input
  const whole = decode(given)
  for (let at = 0; at <= given.length; at++) {
    assert.deepStrictEqual(decodeParts(split(given, at)), whole, `split at ${at}`)
  }
  assert.deepStrictEqual(decodeParts(single(given)), whole, "octet by octet")
  return whole
}

const repliesOf = (input: string | Uint8Array): ReadonlyArray<SmtpReply.SmtpReply> => {
  const { failure, isPartial, replies } = decodeAnyhow(input)
  assert.deepStrictEqual([failure, isPartial], [undefined, false])
  return replies
}

describe("replies", () => {
  it.each<[string, ReadonlyArray<SmtpReply.SmtpReply>]>([
    ["220 mx.test ESMTP\r\n", [SmtpReply.make(220, "mx.test ESMTP")]],
    ["250-mx.test\r\n250-SIZE 1000\r\n250 HELP\r\n", [SmtpReply.make(250, "mx.test", "SIZE 1000", "HELP")]],
    ["250\r\n", [SmtpReply.make(250, "")]],
    ["250 \r\n", [SmtpReply.make(250, "")]],
    ["250-\r\n250\r\n", [SmtpReply.make(250, "", "")]],
    ["354  go  ahead \r\n", [SmtpReply.make(354, " go  ahead ")]],
    ["250 -dash\r\n", [SmtpReply.make(250, "-dash")]],
    ["200 a\r\n599 b\r\n", [SmtpReply.make(200, "a"), SmtpReply.make(599, "b")]],
    ["250 a\r\n550-b\r\n550 c\r\n354\r\n", [
      SmtpReply.make(250, "a"),
      SmtpReply.make(550, "b", "c"),
      SmtpReply.make(354, "")
    ]],
    ["250 grüße \u{1f4e7}\r\n", [SmtpReply.make(250, "grüße \u{1f4e7}")]],
    ["250 \ufeffmark\r\n", [SmtpReply.make(250, "\ufeffmark")]],
    ["", []]
  ])("reads %j however it is split", (input, expected) => {
    assert.deepStrictEqual(repliesOf(input), expected)
  })

  it("keeps a bare CR within the text, and escapes it where it is shown", () => {
    const [reply] = repliesOf("550 a\rb\r\r\n")
    assert.deepStrictEqual(reply, SmtpReply.make(550, "a\rb\r"))
    assert.strictEqual(reply === undefined ? "" : SmtpReply.render(reply), "550 a\\u{d}b\\u{d}")
  })

  it("reads octets that are no UTF-8 as replacement characters", () => {
    const latin1 = Uint8Array.of(0x35, 0x35, 0x30, 0x20, 0xe9, 0x74, 0xe9, 0x0d, 0x0a)
    assert.deepStrictEqual(repliesOf(latin1), [SmtpReply.make(550, "\ufffdt\ufffd")])
  })

  it("does not keep the caller's octets: they may be used again", () => {
    const decoder = SmtpReply.makeDecoder()
    const replies: Array<SmtpReply.SmtpReply> = []
    const buffer = octets("250-first\r\n250 sec")
    decoder.push(buffer, (reply) => replies.push(reply))
    buffer.fill(0x2e)
    decoder.push(octets("ond\r\n"), (reply) => replies.push(reply))
    assert.deepStrictEqual(replies, [SmtpReply.make(250, "first", "second")])
  })

  it("says whether an unfinished reply is held", () => {
    for (
      const [input, expected] of [["", false], ["2", true], ["250-a\r\n", true], ["250 a\r", true], [
        "250 a\r\n",
        false
      ]]
    ) {
      assert.strictEqual(decode(octets(String(input))).isPartial, expected, String(input))
    }
  })

  const pieces = [..."az5-. \t\\", "\u00e4", "\ufeff", "\u{1f4e7}", "\ufffd", "\r", "\0", "250 ok"] as const
  const line = Arbitrary.array(Arbitrary.schema(Schema.Literals(pieces)), { maxLength: 8 }).pipe(
    Arbitrary.map((parts) => parts.join(""))
  )
  const reply = Arbitrary.schema(Schema.Literals([200, 220, 250, 334, 354, 421, 530, 599])).pipe(
    Arbitrary.flatMap((code) =>
      Arbitrary.array(line, { minLength: 1, maxLength: 5 }).pipe(
        Arbitrary.map((lines) => SmtpReply.make(code, ...lines))
      )
    )
  )
  const replies = Arbitrary.array(reply, { maxLength: 6 })
  const cuts = Arbitrary.array(Arbitrary.schema(Schema.Int), { maxLength: 12 })

  const encode = ({ code, lines }: SmtpReply.SmtpReply): string =>
    lines.map((text, index) => `${code}${index === lines.length - 1 ? " " : "-"}${text}\r\n`).join("")

  it.prop(
    "come back whatever they are and wherever they are split",
    [replies, cuts],
    ([given, points]) => {
      const input = octets(given.map(encode).join(""))
      const at = [0, ...points.map((n) => Math.abs(n * 7) % (input.length + 1)), input.length].toSorted((a, b) => a - b)
      const parts = at.slice(1).map((to, index) => input.subarray(at[index], to))
      assert.deepStrictEqual(decodeParts(parts), { replies: given, failure: undefined, isPartial: false })
    },
    { arbitrary: { runs: 300 } }
  )
})

describe("a reply like one before it", () => {
  const texts = ["aaaaaaaa", "abaaaaaa", "aaabaaaa", "aaaaaaba", "aaaaaaaaa", "\u00e9aaaaaa", "a\ufffdaaaa", ""]

  it("has its own text, however alike, in whatever order they come", () => {
    for (const one of texts) {
      for (const other of texts) {
        const both = repliesOf(`250 ${one}\r\n250 ${other}\r\n`)
        assert.deepStrictEqual(both.map(({ text }) => text), [one, other])
      }
    }
  })

  it("keeps none of the octets that were pushed: a connector may write over them", () => {
    const decoder = SmtpReply.makeDecoder()
    const seen: Array<string> = []
    const buffer = Buffer.from("250 zzaaaaaa\r\n")
    decoder.push(buffer, ({ text }) => seen.push(text))
    buffer.write("250 zbaaaaaa\r\n")
    decoder.push(buffer, ({ text }) => seen.push(text))
    assert.deepStrictEqual(seen, ["zzaaaaaa", "zbaaaaaa"])
  })
})

describe("what is no reply", () => {
  const noCode = "a line has no reply code 2yz to 5yz"
  const noSeparator = "the reply code is followed by neither a space nor a hyphen"
  it.each([
    ["25\r\n", noCode],
    ["25 ok\r\n", noCode],
    ["2a0 ok\r\n", noCode],
    ["25x ok\r\n", noCode],
    ["\r\n", noCode],
    [" 250 ok\r\n", noCode],
    ["150 ok\r\n", noCode],
    ["650 ok\r\n", noCode],
    ["HTTP/1.1 400 Bad Request\r\n", noCode],
    ["* OK IMAP4rev1\r\n", noCode],
    ["+OK POP3\r\n", noCode],
    ["\u0664\u0665\u0660 ok\r\n", noCode],
    ["2500 ok\r\n", noSeparator],
    ["250\tok\r\n", noSeparator],
    ["250=ok\r\n", noSeparator],
    ["250 ok\n", "a line ends in a bare LF"],
    ["\n", "a line ends in a bare LF"],
    ["250 a\r\n250 b\n", "a line ends in a bare LF"],
    ["250-a\r\n251 b\r\n", "the lines of a reply differ in their code"],
    ["250-a\r\nHTTP/1.1 400\r\n250 c\r\n", noCode],
    ["250-a\r\n550-b\r\n250 c\r\n", "the lines of a reply differ in their code"]
  ])("%j is a failure however it is split", (input, expected) => {
    // A reply that comes before is handed over whole; the detail of a line that starts wrongly may be known sooner.
    const { failure } = decode(octets(input))
    assert.strictEqual(failure, expected)
    for (let at = 0; at <= input.length; at++) assert.isDefined(decodeParts(split(octets(input), at)).failure)
    assert.isDefined(decodeParts(single(octets(input))).failure)
  })

  it("hands over the replies before the failure, and none after it", () => {
    const { failure, replies } = decodeAnyhow("250 a\r\n250 b\r\nxyz\r\n250 c\r\n")
    assert.deepStrictEqual(replies, [SmtpReply.make(250, "a"), SmtpReply.make(250, "b")])
    assert.strictEqual(failure, noCode)
    assert.deepStrictEqual(decode(octets("oops\r\n"), octets("250 c\r\n")).replies, [])
  })

  it("is known at the first octet, without waiting for a line end that may never come", () => {
    assert.strictEqual(decode(octets("H")).failure, noCode)
    assert.strictEqual(decode(octets("250 a\r\n1")).failure, noCode)
    assert.isFalse(decode(octets("H")).isPartial)
  })

  it("is told without the server's text", () => {
    for (const input of ["CANARY\r\n", "250-CANARY\r\n251 CANARY\r\n", "250CANARY\r\n", "250 CANARY\n"]) {
      assert.notInclude(decode(octets(input)).failure ?? "CANARY", "CANARY")
    }
  })
})

describe("the bounds", () => {
  const line = (length: number, start = "250 "): string => start + "x".repeat(length - start.length)
  const tooLongLine = `a line is longer than ${SmtpReply.maxLineLength} octets`
  const tooLongReply = `a reply is longer than ${SmtpReply.maxReplyLength} octets`
  const tooManyLines = `a reply has more than ${SmtpReply.maxLines} lines`

  /** Whole, and in parts of one octet, of a prime, and of a power of two. */
  const anyhow = (input: string): Decoded => {
    const given = octets(input)
    const whole = decode(given)
    for (const size of [1, 251, 4096]) {
      const parts: Array<Uint8Array> = []
      for (let from = 0; from < given.length; from += size) parts.push(given.subarray(from, from + size))
      assert.deepStrictEqual(decodeParts(parts), whole, `in parts of ${size}`)
    }
    return whole
  }

  it("take a line of the longest length, and refuse one octet more", () => {
    assert.strictEqual(anyhow(`${line(SmtpReply.maxLineLength)}\r\n`).replies.length, 1)
    assert.strictEqual(anyhow(`${line(SmtpReply.maxLineLength + 1)}\r\n`).failure, tooLongLine)
  })

  it("take as many lines as are allowed, and refuse one more", () => {
    const lines = "250-\r\n".repeat(SmtpReply.maxLines - 1)
    assert.strictEqual(anyhow(`${lines}250 \r\n`).replies[0]?.lines.length, SmtpReply.maxLines)
    assert.strictEqual(anyhow(`${lines}250-\r\n250 \r\n`).failure, tooManyLines)
  })

  it("take a reply of the longest length, line ends included, and refuse one octet more; the count starts anew", () => {
    const quarter = SmtpReply.maxReplyLength / 4
    const three = `${line(quarter - 2, "250-")}\r\n`.repeat(3)
    const longest = `${three}${line(quarter - 2)}\r\n`
    assert.strictEqual(longest.length, SmtpReply.maxReplyLength)
    assert.strictEqual(anyhow(longest + longest).replies.length, 2)
    assert.strictEqual(anyhow(`${three}${line(quarter - 1)}\r\n`).failure, tooLongReply)
  })

  it("end a line without end, replies without end, and a word with a megabyte of spaces behind it", () => {
    const cases = [
      [`250 ${"x".repeat(1_000_000)}`, tooLongLine],
      ["250-\r\n".repeat(200_000), tooManyLines],
      [`250-${"x".repeat(1000)}\r\n`.repeat(1000), tooLongReply],
      [`250-mx\r\n250-AUTH${" ".repeat(1_000_000)}PLAIN\r\n`, tooLongLine],
      ["2".repeat(1_000_000), tooLongLine]
    ] as const
    for (const [input, expected] of cases) {
      const { failure, isPartial, replies } = decodeParts(single(octets(input)))
      assert.deepStrictEqual([failure, isPartial, replies], [expected, false, []])
      assert.deepStrictEqual(decode(octets(input)), { failure, isPartial, replies })
    }
  })
})

describe("the work", () => {
  /**
   * The octets that were looked at, copied or decoded while `run` ran: counted, not timed. Everything the decoder does
   * with more than one octet goes through these three methods.
   */
  const workOf = (run: () => void): number => {
    let work = 0
    const typed: Uint8Array = Object.getPrototypeOf(Uint8Array.prototype)
    const text = TextDecoder.prototype
    const { indexOf, set } = typed
    const { decode: decodeText } = text
    const length = (input: unknown): number => ArrayBuffer.isView(input) ? input.byteLength : 0
    typed.indexOf = function(this: Uint8Array, wanted: number, from = 0) {
      const found = indexOf.call(this, wanted, from)
      work += 1 + (found < 0 ? this.length : found) - from
      return found
    }
    typed.set = function(this: Uint8Array, source: ArrayLike<number>, offset = 0) {
      work += 1 + source.length
      set.call(this, source, offset)
    }
    text.decode = function(this: TextDecoder, input, options) {
      work += 1 + length(input)
      return decodeText.call(this, input, options)
    }
    try {
      run()
    } finally {
      Object.assign(typed, { indexOf, set })
      text.decode = decodeText
    }
    return work
  }

  const workPerOctet = (input: string, size: number): number => {
    const given = octets(input)
    const decoder = SmtpReply.makeDecoder()
    const work = workOf(() => {
      for (let from = 0; from < given.length; from += size) decoder.push(given.subarray(from, from + size), () => {})
    })
    return work / given.length
  }

  const replies = (length: number): string => `250-${"x".repeat(length)}\r\n250 ok\r\n`

  it("is counted at all", () => {
    assert.isAtLeast(workPerOctet(replies(100), 1000), 1)
  })

  it("is a few steps per octet of a megabyte, octet by octet, in one piece, and in between", () => {
    for (const length of [10, 1000, 16_000]) {
      const megabyte = replies(length).repeat(Math.ceil(1_000_000 / replies(length).length))
      for (const size of [...(length === 16_000 ? [1] : []), 7, 1000, 16_384, 1_048_576]) {
        assert.isBelow(workPerOctet(megabyte, size), 10, `lines of ${length} in parts of ${size}`)
      }
    }
  })

  it("is nothing after a failure", () => {
    const decoder = SmtpReply.makeDecoder()
    decoder.push(octets("nonsense\r\n"), () => {})
    const more = octets(replies(10_000))
    assert.strictEqual(workOf(() => void decoder.push(more, () => {})), 0)
  })
})

describe("a reply", () => {
  it("has the text of its lines", () => {
    assert.strictEqual(SmtpReply.make(250, "one").text, "one")
    assert.strictEqual(SmtpReply.make(250, "one", "", "three").text, "one\n\nthree")
    assert.strictEqual(SmtpReply.make(250).text, "")
  })

  it.each([
    [550, ["5.1.1 No such user"], "5.1.1"],
    [250, ["2.0.0"], "2.0.0"],
    [451, ["4.7.100 later", "5.1.1 not this"], "4.7.100"],
    [421, ["4.123.456 x"], "4.123.456"],
    [550, ["4.1.1 the class is another"], undefined],
    [354, ["3.0.0 there is no such class"], undefined],
    [550, ["5.1.1234 too long"], undefined],
    [550, ["5.1 too short"], undefined],
    [550, ["5.1.1: colon"], undefined],
    [550, ["5.1.1\ttab"], undefined],
    [550, ["5.1.1\n"], undefined],
    [550, [" 5.1.1 space before"], undefined],
    [550, ["plain", "5.1.1 second line"], undefined],
    [550, [""], undefined],
    [550, [], undefined]
  ])("%d %j has the enhanced status code %s", (code, lines, expected) => {
    assert.strictEqual(SmtpReply.make(code, ...lines).enhancedCode, expected)
  })

  it("has a severity, and knows refusals", () => {
    const told = [250, 354, 421, 450, 500, 599].map((code) => {
      const reply = SmtpReply.make(code, "")
      return [code, SmtpReply.severity(reply), SmtpReply.isTransient(reply), SmtpReply.isRefusal(reply)]
    })
    assert.deepStrictEqual(told, [
      [250, 2, false, false],
      [354, 3, false, false],
      [421, 4, true, true],
      [450, 4, true, true],
      [500, 5, false, true],
      [599, 5, false, true]
    ])
  })

  it("survives JSON", () => {
    const reply = SmtpReply.make(550, "5.1.1 \u001b[2J", "zweite Zeile ä")
    const codec = Schema.toCodecJson(SmtpReply.SmtpReply)
    const json = JSON.stringify(Schema.encodeSync(codec)(reply))
    const back = Schema.decodeUnknownSync(codec)(JSON.parse(json))
    assert.instanceOf(back, SmtpReply.SmtpReply)
    assert.deepStrictEqual([back.code, back.lines, back.enhancedCode], [550, reply.lines, "5.1.1"])
  })
})

describe("text to be shown", () => {
  it("leaves ordinary text alone, in any script", () => {
    for (const text of ["No such user <a@b.test>!", "grüße \u{1f4e7} 漢字 עברית", "\\ \"", ""]) {
      assert.strictEqual(SmtpReply.escapeText(text), text)
    }
  })

  it.each([
    ["ESC [2J", "\u001b[2J", "\\u{1b}[2J"],
    ["line ends", "a\r\nb", "a\\u{d}\\u{a}b"],
    ["NUL, tab, bell", "\0\t\u0007", "\\u{0}\\u{9}\\u{7}"],
    ["DEL", "\u007f", "\\u{7f}"],
    ["C1, the one-octet CSI and NEL", "\u009b2J\u0085", "\\u{9b}2J\\u{85}"],
    ["bidirectional overrides", "\u202egpj.exe\u202c", "\\u{202e}gpj.exe\\u{202c}"],
    [
      "bidirectional isolates and marks",
      "\u2066\u2069\u200e\u200f\u061c",
      "\\u{2066}\\u{2069}\\u{200e}\\u{200f}\\u{61c}"
    ],
    ["line and paragraph separators", "\u2028\u2029", "\\u{2028}\\u{2029}"],
    ["what has no width", "\u200b\u2060\ufeff", "\\u{200b}\\u{2060}\\u{feff}"],
    ["lone surrogates", "a\ud800b\udfff", "a\\u{d800}b\\u{dfff}"]
  ])("has %s escaped", (_, text, expected) => {
    assert.strictEqual(SmtpReply.escapeText(text), expected)
  })

  it("holds no control character, whatever the text", () => {
    const all = Array.from({ length: 0x3000 }, (_, code) => String.fromCharCode(code)).join("")
    const shown = SmtpReply.escapeText(all, all.length)
    assert.notMatch(shown, /[\p{Cc}\p{Bidi_Control}\p{Zl}\p{Zp}]/u)
  })

  it("is bounded, and says how long it was", () => {
    const shown = SmtpReply.escapeText("x".repeat(100_000))
    assert.strictEqual(shown, `${"x".repeat(1000)}… (100000 characters)`)
    assert.strictEqual(SmtpReply.escapeText("x".repeat(1000)), "x".repeat(1000))
    assert.strictEqual(SmtpReply.escapeText("abcdef", 3), "abc… (6 characters)")
    assert.isBelow(SmtpReply.escapeText("\u202e".repeat(100_000)).length, 10_000)
  })

  it("does not end in half a character", () => {
    assert.strictEqual(SmtpReply.escapeText("ab\u{1f4e7}", 3), "ab\\u{d83d}… (4 characters)")
  })

  it("is a reply on one line", () => {
    assert.strictEqual(SmtpReply.render(SmtpReply.make(250)), "250")
    assert.strictEqual(SmtpReply.render(SmtpReply.make(250, "")), "250")
    assert.strictEqual(SmtpReply.render(SmtpReply.make(250, "a", "b")), "250 a / b")
    assert.strictEqual(
      SmtpReply.render(SmtpReply.make(550, "5.1.1 \u001b[2J\u009b\u202e")),
      "550 5.1.1 \\u{1b}[2J\\u{9b}\\u{202e}"
    )
    assert.isBelow(SmtpReply.render(SmtpReply.make(550, ...Array(512).fill("x".repeat(200)))).length, 1100)
  })
})

describe("a reply in a log", () => {
  it("shows no control character, in JSON and in Node's inspect, and keeps its text", () => {
    const reply = SmtpReply.make(550, "\u001b[2J\u009b\u202egpj.exe", "x")
    const hasControls = (text: string) => ["\u001b", "\u009b", "\u202e"].some((control) => text.includes(control))
    for (const shown of [inspect(reply), inspect({ reply }, { depth: 5 }), JSON.stringify({ reply })]) {
      assert.isFalse(hasControls(shown))
      assert.include(shown, "u{202e}gpj.exe")
    }
    assert.isTrue(hasControls(reply.text))
  })
})
