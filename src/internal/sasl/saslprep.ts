/**
 * SASLprep (RFC 4013): a username or password in the one form that both ends hash.
 */
import * as Result from "effect/Result"
import * as tables from "./saslprepTables.ts"

/** Whether a code point is in a table: the number of steps up to it is odd. */
const memberOf = (steps: string): (code: number) => boolean => {
  let edges: ReadonlyArray<number> | undefined
  const read = (): ReadonlyArray<number> => {
    let at = 0
    return steps.split(" ").map((step) => at += Number.parseInt(step, 36))
  }
  return (code) => {
    edges ??= read()
    let [low, high] = [0, edges.length]
    while (low < high) {
      const middle = (low + high) >> 1
      if (edges[middle]! <= code) low = middle + 1
      else high = middle
    }
    return low % 2 === 1
  }
}

const isSpace = memberOf(tables.spaces)
const isNothing = memberOf(tables.nothing)
const isProhibited = memberOf(tables.prohibited)
const isUnassigned = memberOf(tables.unassigned)
const isRightToLeft = memberOf(tables.rightToLeft)
const isLeftToRight = memberOf(tables.leftToRight)

const codesOf = (text: string): Array<number> => Array.from(text, (character) => character.codePointAt(0)!)

/** RFC 3454 §6: right-to-left text begins and ends right-to-left, and has no left-to-right letter. */
const isMixed = (codes: ReadonlyArray<number>): boolean =>
  codes.some(isRightToLeft) &&
  !(isRightToLeft(codes[0]!) && isRightToLeft(codes.at(-1)!) && !codes.some(isLeftToRight))

/**
 * Prepares a text; fails with what is wrong, which names no character of it.
 *
 * A "stored" string (a password, RFC 5802 §2.2) may not hold what Unicode 3.2 had not assigned; a "query" (a username,
 * §5.1) may.
 */
export const saslprep = (text: string, kind: "stored" | "query"): Result.Result<string, string> => {
  if (/^[ -~]+$/.test(text)) return Result.succeed(text)
  const codes = codesOf(text)
  // Before NFKC: it is that of a later Unicode, which may turn an unassigned character into assigned ones.
  if (kind === "stored" && codes.some(isUnassigned)) {
    return Result.fail("holds a character that Unicode 3.2 does not know, so SASLprep (RFC 4013) refuses it")
  }
  const mapped = codes.map((code) => isSpace(code) ? 0x20 : code).filter((code) => !isNothing(code))
  const prepared = mapped.map((code) => String.fromCodePoint(code)).join("").normalize("NFKC")
  const output = codesOf(prepared)
  if (output.length === 0) return Result.fail("is empty once prepared (SASLprep, RFC 4013)")
  if (output.some(isProhibited)) {
    return Result.fail("holds a control, private-use or other character that SASLprep (RFC 4013) prohibits")
  }
  return isMixed(output)
    ? Result.fail("mixes right-to-left with other characters as SASLprep (RFC 4013) prohibits")
    : Result.succeed(prepared)
}
