/**
 * The header fields that hold no mailboxes.
 */
import * as Result from "effect/Result"
import { type Checked, guarded, headerText, type Loose, oneOrMany, optional, record, refuse, shown } from "./checks.ts"

/** A field as Nodemailer takes it; `prepared` is written as it is, folded. */
interface Header {
  readonly key: string
  readonly value: string | { readonly prepared: true; readonly foldLines: true; readonly value: string }
}

/** What is written from fields of its own, or never. */
const reserved: { readonly [name: string]: string } = {
  from: "use the field from",
  sender: "use the field sender",
  to: "use the field to",
  cc: "use the field cc",
  bcc: "use the field bcc; it never becomes a header field",
  "resent-bcc": "leave it out; it would tell every recipient of the others",
  "reply-to": "use the field replyTo",
  subject: "use the field subject",
  date: "use the field date",
  "message-id": "use the field messageId",
  "in-reply-to": "use the field inReplyTo",
  references: "use the field references",
  "mime-version": "leave it out; it is written always",
  "dkim-signature": "use the field dkim",
  "return-path": "leave it out; the last server writes it"
}

const nameProblem = (name: string): string | undefined => {
  if (!/^[!-9;-~]{1,76}$/.test(name)) return "is no field name: printable ASCII without colon, at most 76 characters"
  const key = name.toLowerCase()
  if (key.startsWith("content-")) return "is not taken: MIME's own fields follow from the content"
  return Object.hasOwn(reserved, key) ? `is not taken: ${reserved[key]!}` : undefined
}

const value = (field: string, u: unknown): Checked<string> => {
  const text = headerText(field, u)
  return Result.isSuccess(text) && text.success.trim() === "" ? refuse(field, "is empty; leave it out") : text
}

const extra = (u: unknown): Checked<ReadonlyArray<Header>> =>
  Result.gen(function*() {
    if (u === undefined) return []
    if (typeof u !== "object" || u === null || Array.isArray(u)) return yield* refuse("headers", "must be an object")
    const found: Array<Header> = []
    for (const [key, given] of Object.entries(u)) {
      const field = `headers.${shown(key)}`
      const problem = nameProblem(key)
      if (problem !== undefined) return yield* refuse(field, problem)
      for (const one of yield* oneOrMany(field, given, value)) found.push({ key, value: one })
    }
    return found
  })

const importance: { readonly [priority: string]: ReadonlyArray<Header> } = {
  high: [
    { key: "X-Priority", value: "1 (Highest)" },
    { key: "X-MSMail-Priority", value: "High" },
    { key: "Importance", value: "High" }
  ],
  normal: [],
  low: [
    { key: "X-Priority", value: "5 (Lowest)" },
    { key: "X-MSMail-Priority", value: "Low" },
    { key: "Importance", value: "Low" }
  ]
}

const priority = (u: unknown): Checked<ReadonlyArray<Header>> => {
  if (u === undefined) return Result.succeed([])
  return typeof u === "string" && Object.hasOwn(importance, u)
    ? Result.succeed(importance[u]!)
    : refuse("priority", "must be high, normal or low")
}

const listNames = ["help", "unsubscribe", "subscribe", "post", "owner", "archive"] as const
const listUrl = /^(?:https?:\/\/|mailto:|ftp:\/\/)[!-;=?-~]{1,900}$/i

const url = (field: string, u: unknown): Checked<string> =>
  typeof u === "string" && listUrl.test(u)
    ? Result.succeed(`<${u}>`)
    : refuse(field, "must be an absolute URL (https:, http:, mailto:, ftp:) in printable ASCII, at most 900 characters")

const listField = (name: string, text: string): Header => ({
  key: `List-${name.charAt(0).toUpperCase()}${name.slice(1)}`,
  value: { prepared: true, foldLines: true, value: text }
})

const listId = (u: unknown): Checked<string> =>
  typeof u === "string" && /^[!-;=?-~]{1,255}$/.test(u)
    ? Result.succeed(`<${u}>`)
    : refuse("list.id", "must be a dotted name without angle brackets, e.g. news.example.com")

const oneClick = (fields: Loose): Checked<ReadonlyArray<Header>> => {
  if (fields["oneClick"] === undefined || fields["oneClick"] === false) return Result.succeed([])
  if (fields["oneClick"] !== true) return refuse("list.oneClick", "must be true or false")
  return [fields["unsubscribe"]].flat().some((one) => typeof one === "string" && /^https:/i.test(one))
    ? Result.succeed([listField("unsubscribe-Post", "List-Unsubscribe=One-Click")])
    : refuse("list.oneClick", "needs an https: URL in list.unsubscribe (RFC 8058)")
}

const mailingList = (u: unknown): Checked<ReadonlyArray<Header>> =>
  Result.gen(function*() {
    if (u === undefined) return []
    const fields = yield* record("list", u, [...listNames, "id", "oneClick"])
    const found: Array<Header> = []
    for (const name of listNames) {
      const urls = yield* oneOrMany(`list.${name}`, fields[name], url)
      if (urls.length > 0) found.push(listField(name, urls.join(", ")))
    }
    const id = yield* optional(fields["id"], listId)
    if (id !== undefined) found.push({ ...listField("id", id), key: "List-ID" })
    return [...found, ...(yield* oneClick(fields))]
  })

const messageId = (field: string, u: unknown): Checked<string> => {
  const text = headerText(field, u)
  if (Result.isFailure(text)) return Result.fail(text.failure)
  const id = text.success.trim().replace(/^<(.*)>$/, "$1")
  return /^[!-;=?A-~]+@[!-;=?A-~]+$/.test(id)
    ? Result.succeed(`<${id}>`)
    : refuse(field, "is no Message-ID; write <something@domain> in printable ASCII")
}

const references = (u: unknown): Checked<ReadonlyArray<string>> =>
  oneOrMany("references", typeof u === "string" ? u.trim().split(/\s+/) : u, messageId)

/** RFC 5322 §3.3: years have four digits, from 1900 on. */
const firstYear = 1900
const lastYear = 9999

const date = (now: number, u: unknown): Checked<Date> => {
  if (u === undefined) return Result.succeed(new Date(now))
  // Not the object's own method, which may say something else each time.
  const time = u instanceof Date ? Result.getOrElse(Result.try(() => Date.prototype.getTime.call(u)), () => NaN) : NaN
  if (Number.isNaN(time)) return refuse("date", "must be a valid Date")
  const copy = new Date(time)
  const year = copy.getUTCFullYear()
  return year >= firstYear && year <= lastYear
    ? Result.succeed(copy)
    : refuse("date", `must lie between the years ${firstYear} and ${lastYear}`)
}

/** What Nodemailer gets for the fields of this page. */
interface Headers {
  readonly headers: ReadonlyArray<Header>
  readonly date: Date
  readonly subject: string | undefined
  readonly messageId: string | undefined
  readonly inReplyTo: string | undefined
  readonly references: ReadonlyArray<string>
}

export const headersOf = (fields: Loose, now: number): Checked<Headers> => {
  const read = <A>(field: string, check: (u: unknown) => Checked<A>): Checked<A> =>
    guarded(field, () => check(fields[field]))
  return Result.gen(function*() {
    return {
      headers: [
        ...(yield* read("headers", extra)),
        ...(yield* read("priority", priority)),
        ...(yield* read("list", mailingList))
      ],
      date: yield* read("date", (u) => date(now, u)),
      subject: yield* read("subject", (given) => optional(given, (u) => headerText("subject", u))),
      messageId: yield* read("messageId", (given) => optional(given, (u) => messageId("messageId", u))),
      inReplyTo: yield* read("inReplyTo", (given) => optional(given, (u) => messageId("inReplyTo", u))),
      references: yield* read("references", references)
    }
  })
}
