/**
 * The parts of a message. Text that Nodemailer may look at goes to it as a string. Everything else (octets, streams,
 * attachments) is kept here: Nodemailer gets a marker in its place, lays out the message around it, and the encoded
 * content takes the marker's place when the message is read. So a stream is never opened before that, its errors keep
 * their type, and no content passes through a Node stream.
 */
import * as Base64 from "effect/encoding/Base64"
import * as Hex from "effect/encoding/Hex"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import { type Checked, headerText, type Loose, optional, record, refuse } from "./checks.ts"
import type { Content } from "./model.ts"

/** Content that takes the place of its marker: in Base64, or as it is where MIME allows no encoding (`message/*`). */
export interface Part<E, R> {
  /** As it stands in what Nodemailer wrote. */
  readonly marker: string
  readonly content: Uint8Array | Stream.Stream<Uint8Array | string, E, R>
  readonly isEncoded: boolean
}

/** Collects the parts while the fields are read. */
export interface Places<E, R> {
  /** Not to be guessed, and not in the message otherwise. */
  readonly nonce: string
  readonly types: {
    readonly detectMimeType: (filename: string) => string
    readonly detectExtension: (type: string) => string
  }
  readonly parts: Array<Part<E, R>>
}

/** An element of Nodemailer's `attachments` or `alternatives`. */
interface Element {
  readonly content: string
  readonly contentType: string
  readonly contentTransferEncoding?: string
  readonly filename?: string
  readonly cid?: string
  readonly contentDisposition?: string
}

const utf8 = new TextEncoder()

/** Whether octets can be labelled 7bit: ASCII without NUL, in lines of at most 998. */
const fitsSevenBit = (octets: Uint8Array): boolean => {
  let length = 0
  for (const octet of octets) {
    if (octet === 0 || octet > 0x7f) return false
    length = octet === 0x0a || octet === 0x0d ? 0 : length + 1
    if (length > 998) return false
  }
  return true
}

/** RFC 2046 §5.2.1: a part of type `message/*` is not encoded. */
const isEmbedded = (contentType: string): boolean => /^message\//i.test(contentType)

const place = <E, R>(
  places: Places<E, R>,
  content: Uint8Array | Stream.Stream<Uint8Array | string, E, R>,
  contentType: string
): Element => {
  const token = `${places.nonce}.${places.parts.length}`
  const isEncoded = !isEmbedded(contentType)
  places.parts.push({ marker: isEncoded ? Base64.encode(token) : token, content, isEncoded })
  const asItIs = content instanceof Uint8Array && fitsSevenBit(content) ? "7bit" : "8bit"
  return { content: token, contentType, contentTransferEncoding: isEncoded ? "base64" : asItIs }
}

const mimeType = /^[a-z\d!#$&^_.+-]+\/[a-z\d!#$&^_.+-]+(?:\s*;[ -~]*)?$/i

const contentType = (field: string, u: unknown): Checked<string> => {
  const text = headerText(field, u)
  if (Result.isFailure(text)) return Result.fail(text.failure)
  if (!mimeType.test(text.success)) return refuse(field, "must be type/subtype in ASCII, e.g. application/pdf")
  return /^multipart\//i.test(text.success)
    ? refuse(field, "is a multipart type, which is laid out here; give the parts")
    : Result.succeed(text.success)
}

const withCharset = (type: string): string =>
  /^text\//i.test(type) && !/;\s*charset\s*=/i.test(type) ? `${type}; charset=utf-8` : type

const contentOf = <E, R>(field: string, u: unknown): Checked<Content<E, R>> => {
  if (typeof u === "string" || u instanceof Uint8Array || Stream.isStream(u)) {
    return Result.succeed(u as Content<E, R>)
  }
  return refuse(field, "must be a string, a Uint8Array or a Stream; for a Node stream use NodeMessage.fromReadable")
}

const decoders = { base64: Base64.decode, hex: Hex.decode } as const

const decoded = <E, R>(field: string, content: Content<E, R>, encoding: unknown): Checked<Content<E, R>> => {
  if (encoding === undefined) return Result.succeed(content)
  if (encoding !== "utf-8" && encoding !== "base64" && encoding !== "hex") {
    return refuse(`${field}.encoding`, "must be utf-8, base64 or hex")
  }
  if (typeof content !== "string") return refuse(`${field}.encoding`, "speaks of a string in content; leave it out")
  if (encoding === "utf-8") return Result.succeed(content)
  const octets = decoders[encoding](content)
  return Result.isSuccess(octets) ? Result.succeed(octets.success) : refuse(`${field}.content`, `is not ${encoding}`)
}

const maxFilename = 255

const filename = (field: string, u: unknown): Checked<string> => {
  const text = headerText(field, u)
  if (Result.isFailure(text)) return Result.fail(text.failure)
  return text.success === "" || text.success.length > maxFilename
    ? refuse(field, `must have 1 to ${maxFilename} characters`)
    : text
}

const cid = (field: string, u: unknown): Checked<string> =>
  typeof u === "string" && /^[!-;=?-~]{1,255}$/.test(u)
    ? Result.succeed(u)
    : refuse(field, "must be printable ASCII without spaces and angle brackets, e.g. logo@example.com")

const disposition = (field: string, u: unknown): Checked<string> =>
  u === "attachment" || u === "inline" ? Result.succeed(u) : refuse(field, "must be attachment or inline")

/** The table of endings knows compressed files as multipart types, which a part cannot have. */
const detected = <E, R>(places: Places<E, R>, name: string | undefined): string => {
  const type = places.types.detectMimeType(name ?? "bin")
  return /^multipart\//i.test(type) ? "application/octet-stream" : type
}

/** Of an attachment without a name; embedded messages need none. */
const someName = <E, R>({ parts, types }: Places<E, R>, type: string): string | undefined => {
  if (isEmbedded(type)) return undefined
  const extension = types.detectExtension(type.replace(/;.*/, ""))
  return `attachment-${parts.length + 1}.${/^\w+$/.test(extension) ? extension : "bin"}`
}

const given = (fields: { readonly [K in keyof Element]?: string | undefined }): Partial<Element> =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined))

export const attachment = <E, R>(places: Places<E, R>) => (field: string, u: unknown): Checked<Element> =>
  Result.gen(function*() {
    const fields = yield* record(field, u, [
      "content",
      "filename",
      "contentType",
      "cid",
      "contentDisposition",
      "encoding"
    ])
    const content = yield* decoded(
      field,
      yield* contentOf<E, R>(`${field}.content`, fields["content"]),
      fields["encoding"]
    )
    const name = yield* optional(fields["filename"], (u) => filename(`${field}.filename`, u))
    const type = (yield* optional(fields["contentType"], (u) => contentType(`${field}.contentType`, u))) ??
      detected(places, name)
    const shownName = name ?? someName(places, type)
    const placed = typeof content === "string"
      ? place(places, utf8.encode(content), withCharset(type))
      : place(places, content, type)
    return {
      ...placed,
      ...given({
        filename: shownName,
        cid: yield* optional(fields["cid"], (u) => cid(`${field}.cid`, u)),
        contentDisposition: yield* optional(
          fields["contentDisposition"],
          (u) => disposition(`${field}.contentDisposition`, u)
        )
      })
    }
  })

export const alternative = <E, R>(places: Places<E, R>) => (field: string, u: unknown): Checked<Element> =>
  Result.gen(function*() {
    const fields = yield* record(field, u, ["contentType", "content"])
    const type = yield* contentType(`${field}.contentType`, fields["contentType"])
    const content = yield* contentOf<E, R>(`${field}.content`, fields["content"])
    if (typeof content !== "string") return place(places, content, type)
    return /^text\//i.test(type)
      ? { content: withLineEnds(content), contentType: withCharset(type) }
      : place(places, utf8.encode(content), type)
  })

/** Text lines end in CRLF. */
export const withLineEnds = (text: string): string => text.replace(/\r\n|\r|\n/g, "\r\n")

export const text = (field: string, u: unknown): Checked<string | undefined> =>
  optional(
    u,
    (given) => typeof given === "string" ? Result.succeed(withLineEnds(given)) : refuse(field, textProblem(given))
  )

const textProblem = (u: unknown): string =>
  typeof u === "object" && u !== null && ("path" in u || "href" in u || "raw" in u)
    ? "must be a string: no file is opened and no URL is fetched here"
    : "must be a string"

/** A calendar event as Nodemailer takes it. */
interface Event {
  readonly content: string
  readonly method: string
  readonly filename?: string
}

const methodOf = (content: string, u: unknown): Checked<string> => {
  const method = u ?? /^METHOD:(.*)$/im.exec(content)?.[1]?.trim() ?? "PUBLISH"
  return typeof method === "string" && /^[a-z-]{1,40}$/i.test(method)
    ? Result.succeed(method.toUpperCase())
    : refuse("icalEvent.method", "must be a method of iTIP, e.g. REQUEST")
}

export const event = (u: unknown): Checked<Event> =>
  Result.gen(function*() {
    const fields: Loose = typeof u === "string"
      ? { content: u }
      : yield* record("icalEvent", u, ["content", "method", "filename"])
    const content = fields["content"] instanceof Uint8Array
      ? new TextDecoder().decode(fields["content"])
      : fields["content"]
    if (typeof content !== "string" || content === "") {
      return yield* refuse("icalEvent.content", "must be text, as a string or a Uint8Array, and not empty")
    }
    const name = yield* optional(fields["filename"], (u) => filename("icalEvent.filename", u))
    const method = yield* methodOf(content, fields["method"])
    return { content: withLineEnds(content), method, ...(name === undefined ? {} : { filename: name }) }
  })
