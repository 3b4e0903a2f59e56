/**
 * What a field may hold: checked at run time whatever the types say, so that nothing reaches Nodemailer that could
 * start a header line, open a file or fetch a URL.
 */
import * as Result from "effect/Result"
import { type ECONFIG, type EENVELOPE, EMESSAGE } from "../../SmtpError.ts"
import { escapeText } from "../../SmtpReply.ts"
import { controlIn } from "../xtext.ts"

export type Checked<A> = Result.Result<A, EMESSAGE | EENVELOPE | ECONFIG>
export type Loose = { readonly [key: string]: unknown }

export const refuse = (field: string, problem: string): Result.Result<never, EMESSAGE> =>
  Result.fail(new EMESSAGE({ message: `${field} ${problem}`, command: "API", attempted: false, field }))

/** A getter, a Proxy or an object that only looks like what it should be may throw when it is read. */
export const guarded = <A>(field: string, check: () => Checked<A>): Checked<A> =>
  Result.getOrElse(
    Result.try(check),
    () => refuse(field, "cannot be read: a getter, a Proxy or a method of it throws; give plain values")
  )

/** A name that the caller chose, as a part of a field's name. */
export const shown = (text: string): string => escapeText(text, 60)

/** RFC 5322 §2.1.1 allows 998 octets in a line, and lines are folded at spaces only; quoting may double a word. */
const maxWord = 400
const longWord = new RegExp(`[!-~]{${maxWord + 1}}`)

/** Text for a header field: no control character, and words that a folded line can hold. */
export const headerText = (field: string, u: unknown): Checked<string> => {
  if (typeof u !== "string") return refuse(field, "must be a string")
  const control = controlIn(u)
  if (control !== undefined) return refuse(field, `holds the control character ${control}; remove it`)
  return longWord.test(u)
    ? refuse(field, `has a word of more than ${maxWord} characters; a header line cannot be folded inside a word`)
    : Result.succeed(u)
}

/** Ways of Nodemailer to name content instead of giving it. */
const sources = ["path", "href", "raw"]

const unknownKey = (record: Loose, known: ReadonlyArray<string>): string | undefined =>
  sources.find((key) => !known.includes(key) && record[key] !== undefined) ??
    Object.keys(record).find((key) => !known.includes(key) && record[key] !== undefined)

const keyProblem = (prefix: string, key: string, known: ReadonlyArray<string>): Result.Result<never, EMESSAGE> =>
  refuse(
    `${prefix}${shown(key)}`,
    sources.includes(key)
      ? "is not taken: no file is opened and no URL is fetched here; give the content itself, e.g. as a Stream"
      : `is not a field; the fields are ${known.join(", ")}`
  )

/** An object with no other keys than these. `field` is "" for the outermost. */
export const record = (field: string, u: unknown, known: ReadonlyArray<string>): Checked<Loose> => {
  if (typeof u !== "object" || u === null || Array.isArray(u) || u instanceof Uint8Array) {
    return refuse(field === "" ? "fields" : field, "must be an object")
  }
  const found = unknownKey(u as Loose, known)
  return found === undefined
    ? Result.succeed(u as Loose)
    : keyProblem(field === "" ? "" : `${field}.`, found, known)
}

/** A value that may be left out. */
export const optional = <A>(u: unknown, check: (u: unknown) => Checked<A>): Checked<A | undefined> =>
  u === undefined ? Result.succeed(undefined) : check(u)

/** A list, each element checked under its own name. */
export const list = <A>(
  field: string,
  u: unknown,
  check: (field: string, u: unknown) => Checked<A>
): Checked<ReadonlyArray<A>> => {
  if (!Array.isArray(u)) return refuse(field, "must be an array")
  const checked: Array<A> = []
  for (let index = 0; index < u.length; index++) {
    const one = check(`${field}[${index}]`, u[index])
    if (Result.isFailure(one)) return Result.fail(one.failure)
    checked.push(one.success)
  }
  return Result.succeed(checked)
}

/** One value, or a list of them. */
export const oneOrMany = <A>(
  field: string,
  u: unknown,
  check: (field: string, u: unknown) => Checked<A>
): Checked<ReadonlyArray<A>> =>
  u === undefined
    ? Result.succeed([])
    : Array.isArray(u)
    ? list(field, u, check)
    : Result.map(check(field, u), (one) => [one])
