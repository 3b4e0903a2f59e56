/** Dot-stuffing against the same written with three replacements over the whole message, and against three receivers. */
import * as DotStuffing from "../../src/DotStuffing.ts"
import { check, fromLatin1, latin1, type Random, shown } from "./random.ts"
import type { Target } from "./run.ts"

const canonicalOf = (text: string): string => {
  const lines = text.replace(/\r\n|\r|\n/g, "\r\n")
  return lines === "" || lines.endsWith("\r\n") ? lines : `${lines}\r\n`
}
const stuffedOf = (canonical: string): string => `${canonical.replace(/^\./gm, "..")}.\r\n`

const words = [
  "\r",
  "\n",
  "\r\n",
  ".",
  ".",
  "..",
  "\r\n.\r\n",
  "\n.\n",
  "\r.\r",
  "\r\n.",
  "a",
  "\0",
  "\t",
  "\x80",
  "\xff"
]

const messageOf = (random: Random): Uint8Array => {
  if (random.oneIn(4)) return random.octets(120)
  // Runs of text around the length where the encoder goes over to words of eight octets.
  const run = () => (random.oneIn(3) ? "\xe9" : "x").repeat(random.below(70))
  return fromLatin1(random.list(random.below(9), () => random.oneIn(4) ? run() : random.pick(words)).join(""))
}

const join = (parts: ReadonlyArray<Uint8Array>): string => parts.map(latin1).join("")

interface Received {
  readonly text: string
  readonly rest: string
  readonly isDone: boolean
}

const decode = (parts: ReadonlyArray<Uint8Array>): Received => {
  const decoder = DotStuffing.makeDecoder()
  const pushed = parts.map((part) => ({ part, ...decoder.push(part) }))
  const end = pushed.findIndex(({ done }) => done)
  const isSteady = pushed.every(({ bytes, done, part, rest }, at) =>
    done === (end >= 0 && at >= end) && (done || rest.length === 0) &&
    (at <= end || end < 0 || bytes.length === 0 && rest.length === part.length)
  )
  check(isSteady, () => "after its end the decoder takes more")
  return { text: join(pushed.map(({ bytes }) => bytes)), rest: join(pushed.map(({ rest }) => rest)), isDone: end >= 0 }
}

/** What a strict receiver makes of any octets. */
const received = (text: string): Received => {
  const end = text.startsWith(".\r\n") ? 0 : text.indexOf("\r\n.\r\n") + 2
  const isDone = text.startsWith(".\r\n") || end > 1
  const unfinished = /(?:^|\r\n)\.(\r?)$/.exec(text)
  const body = isDone ? text.slice(0, end) : unfinished === null ? text : text.slice(0, -1 - unfinished[1]!.length)
  return { text: body.replace(/(^|\r\n)\./g, "$1"), rest: isDone ? text.slice(end + 3) : "", isDone }
}

const encode = (parts: ReadonlyArray<Uint8Array>, stuffing: boolean) => {
  const encoder = DotStuffing.makeEncoder({ stuffing })
  const out = [...parts.map((part) => encoder.push(part)), encoder.end()]
  return { text: join(out), size: encoder.size, hasEightBit: encoder.hasEightBit }
}

const judgeBody = (message: Uint8Array, body: string, canonical: string): void => {
  check(body === stuffedOf(canonical), () => `${shown(message)} goes out as ${shown(body)}`)
  check(!/\r(?!\n)|(?<!\r)\n/.test(body), () => `a bare CR or LF in ${shown(body)}`)
  // Receivers that take LF or CR for a line end, too: one end of the message for each, and it is the last.
  for (const lineEnd of [/\r\n/, /\r?\n/, /\r\n?|\n/]) {
    const lines = body.split(lineEnd)
    check(lines.indexOf(".") === lines.length - 2, () => `a second message in ${shown(body)} for ${String(lineEnd)}`)
  }
}

export const dotStuffing: Target = {
  name: "dot-stuffing",
  share: 150,
  run: (random) => {
    const message = messageOf(random)
    const text = latin1(message)
    const canonical = canonicalOf(text)
    const measure = { size: canonical.length, hasEightBit: /[\x80-\xff]/.test(text) }
    const parts = random.parts(message)
    const whole = DotStuffing.encodeAll(message)
    judgeBody(message, latin1(whole.body), canonical)
    const results = [
      { ...whole, text: stuffedOf(canonical) },
      { ...DotStuffing.measure(message), text: stuffedOf(canonical) },
      encode(parts, true),
      { ...encode(parts, false), text: stuffedOf(encode(parts, false).text) }
    ]
    for (const [at, one] of results.entries()) {
      check(
        one.text === stuffedOf(canonical) && one.size === measure.size && one.hasEightBit === measure.hasEightBit,
        () => `${shown(message)} in parts of ${parts.map(({ length }) => length).join(", ")}, ${at}: ${shown(one)}`
      )
    }
    check(latin1(DotStuffing.canonical(message)) === canonical, () => `canonical form of ${shown(message)}`)
    const after = random.text(["QUIT\r\n", ".", "\r\n", "x"], 3)
    const sent = random.parts(fromLatin1(stuffedOf(canonical) + after))
    const got = decode(sent)
    check(
      got.isDone && got.text === canonical && got.rest === after,
      () => `${shown(message)} arrives as ${shown(got)}`
    )
    const raw = decode(parts)
    const strict = received(text)
    check(
      JSON.stringify(raw) === JSON.stringify(strict),
      () =>
        `${shown(message)} in parts of ${parts.map(({ length }) => length).join(", ")} is read as ${shown(raw)}, ` +
        `not ${shown(strict)}`
    )
    check(latin1(message) === text, () => "the message was written to")
  }
}
