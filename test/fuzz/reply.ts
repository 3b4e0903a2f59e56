/** The reply decoder against the grammar read once more, line by line over the whole input. */
import * as Result from "effect/Result"
import * as SmtpReply from "../../src/SmtpReply.ts"
import { check, fromLatin1, latin1, type Random, shown, utf8 } from "./random.ts"
import type { Target } from "./run.ts"

interface Outcome {
  readonly replies: ReadonlyArray<SmtpReply.SmtpReply>
  readonly isFailed: boolean
  readonly isPartial: boolean
}

const text = (line: string): string => new TextDecoder("utf-8", { ignoreBOM: true }).decode(fromLatin1(line))

/** What the octets say; `input` one character for each. */
const expected = (input: string): Outcome => {
  const replies: Array<SmtpReply.SmtpReply> = []
  const failed = { replies, isFailed: true, isPartial: false }
  const lines = input.split("\n")
  const rest = lines.pop()!
  let code = ""
  let size = 0
  let texts: Array<string> = []
  for (const line of lines) {
    size += line.length + 1
    const found = /^([2-5][0-9][0-9])(?:([ -])([^]*))?\r$/.exec(line)
    if (found === null || line.length > SmtpReply.maxLineLength + 1 || size > SmtpReply.maxReplyLength) return failed
    if (texts.length > 0 && found[1] !== code || texts.length === SmtpReply.maxLines) return failed
    code = found[1]!
    texts.push(text(found[3] ?? ""))
    if (found[2] === "-") continue
    replies.push(SmtpReply.make(Number(code), ...texts))
    texts = []
    size = 0
  }
  const isTooLong = rest.length > SmtpReply.maxLineLength + 1 || size + rest.length > SmtpReply.maxReplyLength
  if (isTooLong || /^[^2-5]/.test(rest)) return failed
  return { replies, isFailed: false, isPartial: texts.length > 0 || rest !== "" }
}

const decode = (parts: ReadonlyArray<Uint8Array>): Outcome => {
  const decoder = SmtpReply.makeDecoder()
  const replies: Array<SmtpReply.SmtpReply> = []
  let detail: string | undefined
  for (const part of parts) {
    const before = replies.length
    const pushed = decoder.push(part, (reply) => replies.push(reply))
    if (detail !== undefined) {
      check(Result.isFailure(pushed) && pushed.failure.detail === detail, () => "a failed decoder fails otherwise")
      check(replies.length === before, () => "a failed decoder gives a reply")
    }
    if (Result.isFailure(pushed)) detail = pushed.failure.detail
  }
  check(detail === undefined || /^[\x20-\x7e]{1,100}$/.test(detail), () => `a detail of the server's: ${shown(detail)}`)
  return { replies, isFailed: detail !== undefined, isPartial: decoder.isPartial() }
}

const same = (a: Outcome, b: Outcome): boolean =>
  a.isFailed === b.isFailed && a.isPartial === b.isPartial && a.replies.length === b.replies.length &&
  a.replies.every((reply, index) => {
    const other = b.replies[index]!
    return reply.code === other.code && reply.lines.length === other.lines.length &&
      reply.lines.every((line, at) => line === other.lines[at])
  })

const words = [
  ["250 ", "250-", "250", "220 mx.test ESMTP", "354 ", "421 ", "550-5.1.1 ", "550 5.1.1 no", "535-", "2", "25"],
  ["600 "],
  ["\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r", "\n", "-", " ", "  ", "\t", "\0", "\x1b[2J", "\x7f", "\x85", "\xe2"],
  ["\xe2\x80\xae", "\xef\xbb\xbf", "\xff", "SIZE 1000", "AUTH PLAIN", "STARTTLS", "2.0.0 ok", "4.2.2 full", "0", "9"]
].flat()

const line = (random: Random): string => random.text(words.filter((word) => !/[\r\n]/.test(word)), 4)

/** A reply as a server may well send it. */
const wellFormed = (random: Random): string => {
  const code = 200 + random.below(400)
  const lines = random.list(1 + random.below(4), () => line(random))
  return lines.map((one, at) => `${code}${at < lines.length - 1 ? "-" : " "}${one}\r\n`).join("")
}

/** At one of the limits, or one octet or line beyond it. */
const extreme = (random: Random): string => {
  const by = random.below(4) - 2
  switch (random.below(3)) {
    case 0:
      return `250 ${"x".repeat(SmtpReply.maxLineLength - 4 + by)}${random.pick(["\r\n", "\r", "", "\n"])}`
    case 1:
      return `${"250-a\r\n".repeat(SmtpReply.maxLines - 1 + by)}250 b\r\n`
    default: {
      const line = `250-${"x".repeat(8186)}\r\n`
      return `${line.repeat(7)}250 ${"x".repeat(8186 + by)}\r\n`
    }
  }
}

const inputOf = (random: Random): Uint8Array => {
  if (random.oneIn(400)) return fromLatin1(extreme(random) + wellFormed(random))
  switch (random.below(4)) {
    case 0:
      return random.octets(60)
    case 1:
      return fromLatin1(random.text(words, 14))
    case 2:
      return random.mutated(fromLatin1(random.list(1 + random.below(3), () => wellFormed(random)).join("")))
    default:
      return fromLatin1(random.list(1 + random.below(3), () => wellFormed(random)).join(""))
  }
}

// oxlint-disable-next-line no-control-regex -- what no person may be shown
const unsafe = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]|\p{Cs}/u

/** What holds of any reply, whoever sent it. */
const judge = (reply: SmtpReply.SmtpReply): void => {
  const rendered = SmtpReply.render(reply)
  check(!unsafe.test(rendered) && rendered.length <= 10_100, () => `shown as ${shown(rendered)}`)
  check(reply.code >= 200 && reply.code <= 599 && reply.lines.length <= SmtpReply.maxLines, () => "out of bounds")
  const digits = reply.enhancedCode?.split(".") ?? []
  check(
    digits.length === 0 || digits.length === 3 && digits.every((one) => /^\d{1,3}$/.test(one)) &&
        digits[0] === String(SmtpReply.severity(reply)) && reply.text.startsWith(digits.join(".")),
    () => `enhanced code ${shown(reply.enhancedCode)}`
  )
  // decode(encode) gives it back, unless its own octets were no UTF-8.
  const last = reply.lines.length - 1
  const lines = reply.lines.map((one, at) => `${reply.code}${at < last ? "-" : " "}${one}\r\n`)
  const again = utf8(lines.join(""))
  if (again.length > SmtpReply.maxReplyLength || lines.some((one) => one.length > 5000)) return
  const outcome = decode([again])
  check(same(outcome, { replies: [reply], isFailed: false, isPartial: false }), () => `encoded anew: ${shown(outcome)}`)
}

export const reply: Target = {
  name: "reply decoder",
  share: 250,
  run: (random) => {
    const input = inputOf(random)
    const before = latin1(input)
    const outcome = expected(before)
    const parts = input.length > 1000 && random.oneIn(2) ? [input] : random.parts(input)
    for (const split of [[input], parts]) {
      const decoded = decode(split)
      check(
        same(decoded, outcome),
        () =>
          `${shown(input)} in parts of ${split.map(({ length }) => length).join(", ")}: ${shown(decoded)}, ` +
          `not ${shown(outcome)}`
      )
    }
    check(latin1(input) === before, () => "the input was written to")
    for (const one of outcome.replies) judge(one)
  }
}
