/**
 * The mailboxes of header fields, and the envelope made from them. Nothing is guessed: what could be read in two ways
 * is refused, so the envelope and the header fields always name the same mailboxes.
 */
import * as Result from "effect/Result"
import * as Envelope from "../../Envelope.ts"
import { EENVELOPE } from "../../SmtpError.ts"
import { escapeText } from "../../SmtpReply.ts"
import * as mailbox from "../mailbox.ts"
import { type Checked, guarded, headerText, oneOrMany, optional, record } from "./checks.ts"
import type { EnvelopeFields } from "./model.ts"

/** A mailbox as Nodemailer gets it: in parts, so that it has nothing to parse. */
export interface Named {
  readonly name: string
  /** As it stands in the header field, its domain in A-labels. */
  readonly address: string
  /** As the caller wrote it, for the envelope. */
  readonly written: string
}

const refuse = (field: string, problem: string): Result.Result<never, EENVELOPE> =>
  Result.fail(new EENVELOPE({ message: `${field} ${problem}`, command: "API", attempted: false, field }))

const phrase = /^[^"<>(),:;@[\]\\]*$/
const quoted = /^"(?:[^"\\]|\\.)*"$/

const nameOf = (field: string, text: string): Checked<string> => {
  if (quoted.test(text)) return Result.succeed(text.slice(1, -1).replace(/\\(.)/g, "$1"))
  return phrase.test(text)
    ? Result.succeed(text)
    : refuse(
      field,
      `is not one mailbox: "${escapeText(text, 100)}" is no name; several mailboxes go into an array, and a name ` +
        "with special characters into quotes or into { name, address }"
    )
}

const named = (field: string, name: unknown, address: string): Checked<Named> => {
  const text = headerText(field, name)
  if (Result.isFailure(text)) return refuse(field, text.failure.message.slice(field.length + 1))
  if (text.success.includes("=?")) return refuse(field, "has a name with an encoded word; write the name as it reads")
  const parsed = mailbox.parse(address)
  return Result.isFailure(parsed)
    ? refuse(field, `"${escapeText(address, 100)}" ${parsed.failure}`)
    : Result.succeed({ name: text.success, address: parsed.success.path, written: address })
}

const fromText = (field: string, text: string): Checked<Named> => {
  if (!text.endsWith(">")) {
    return text.includes(",") && Result.isFailure(mailbox.parse(text))
      ? refuse(field, `is not one mailbox: "${escapeText(text, 100)}"; several mailboxes go into an array`)
      : named(field, "", text)
  }
  const open = text.lastIndexOf("<")
  const name = nameOf(field, text.slice(0, Math.max(open, 0)).trim())
  return Result.isFailure(name)
    ? Result.fail(name.failure)
    : named(field, name.success, text.slice(open + 1, -1))
}

const address = (field: string, u: unknown): Checked<Named> => {
  if (typeof u === "string") return fromText(field, u.trim())
  const parts = record(field, u, ["name", "address"])
  if (Result.isFailure(parts)) return refuse(field, "must be a string, name <local@domain>, or { name, address }")
  const { address, name } = parts.success
  return typeof address === "string"
    ? named(field, name ?? "", address)
    : refuse(`${field}.address`, "must be a string: local@domain")
}

/** The mailboxes of all fields. */
export interface People {
  readonly from: readonly [Named, ...ReadonlyArray<Named>]
  readonly sender: Named | undefined
  readonly to: ReadonlyArray<Named>
  readonly cc: ReadonlyArray<Named>
  readonly bcc: ReadonlyArray<Named>
  readonly replyTo: ReadonlyArray<Named>
}

export const peopleOf = (fields: { readonly [K in keyof People]?: unknown }): Checked<People> => {
  const addresses = (field: keyof People) => guarded(field, () => oneOrMany(field, fields[field], address))
  return Result.gen(function*() {
    const [first, ...more] = yield* addresses("from")
    if (first === undefined) return yield* refuse("from", "is missing; a message has an author")
    const sender = yield* guarded("sender", () => optional(fields.sender, (u) => address("sender", u)))
    if (more.length > 0 && sender === undefined) {
      return yield* refuse("sender", "is missing; with several authors it says who sent the message")
    }
    return {
      from: [first, ...more],
      sender,
      to: yield* addresses("to"),
      cc: yield* addresses("cc"),
      bcc: yield* addresses("bcc"),
      replyTo: yield* addresses("replyTo")
    }
  })
}

const keyOf = (path: string): string => {
  const at = path.lastIndexOf("@")
  return path.slice(0, at) + path.slice(at).toLowerCase()
}

/** The same mailbox twice, e.g. in To and in Cc, is one recipient. */
const withoutDuplicates = (
  inputs: ReadonlyArray<string | Envelope.RecipientInput>,
  { recipients }: Envelope.Envelope
): ReadonlyArray<string | Envelope.RecipientInput> => {
  const seen = new Set<string>()
  return inputs.filter((_, index) => {
    const key = keyOf(recipients[index]!.path)
    return seen.size < seen.add(key).size
  })
}

/** The envelope of the header fields and of what overrides it, checked as a whole. */
export const envelopeOf = (people: People, u: unknown): Checked<Envelope.Input> =>
  Result.gen(function*() {
    if (u !== undefined && (typeof u !== "object" || u === null)) return yield* refuse("envelope", "must be an object")
    const given: EnvelopeFields = Object.fromEntries(Object.entries(u ?? {}).filter(([, value]) => value !== undefined))
    const everyone = [...people.to, ...people.cc, ...people.bcc].map((one) => one.written)
    if (given.to === undefined && everyone.length === 0) {
      return yield* refuse("to", "is missing; give at least one recipient as to, cc, bcc or envelope.to")
    }
    const to = given.to ?? everyone
    const envelope = { ...given, from: given.from ?? (people.sender ?? people.from[0]).written, to }
    const parsed = yield* Envelope.parse(envelope)
    return { ...envelope, to: withoutDuplicates(typeof to === "string" || !("length" in to) ? [to] : to, parsed) }
  })
