/**
 * A small reader of MIME messages, written from RFC 2045 to 2047 and 2231 for the tests, with nothing of what composes
 * them.
 */

export interface Part {
  /** In order; names in lower case, values unfolded and still encoded. */
  readonly headers: ReadonlyArray<readonly [name: string, value: string]>
  readonly type: string
  readonly parameters: ReadonlyMap<string, string>
  readonly disposition: string | undefined
  readonly filename: string | undefined
  /** Decoded octets; empty for a multipart. */
  readonly content: Buffer
  readonly parts: ReadonlyArray<Part>
}

export const header = (part: Part, name: string): string | undefined =>
  part.headers.find(([key]) => key === name.toLowerCase())?.[1]

export const text = (part: Part): string => part.content.toString("utf8")

/** Encoded words; spaces between two of them vanish (RFC 2047 section 6.2). */
export const decodeWords = (value: string): string =>
  value.replace(/(\?=)\s+(?==\?)/g, "$1").replace(
    /=\?utf-8\?([bq])\?([^?]*)\?=/gi,
    (_, kind: string, body: string) =>
      kind.toLowerCase() === "b"
        ? Buffer.from(body, "base64").toString("latin1")
        : body.replaceAll("_", " ").replace(
          /=([\dA-F]{2})/g,
          (_, hex: string) => String.fromCharCode(parseInt(hex, 16))
        )
  ).replace(/[\x80-\xff]+/g, (octets) => Buffer.from(octets, "latin1").toString("utf8"))

/** `value; name=x; name*0*=utf-8''…` into value and parameters. */
const structured = (value: string): { readonly value: string; readonly parameters: ReadonlyMap<string, string> } => {
  const pieces = value.match(/(?:"(?:[^"\\]|\\.)*"|[^;"])+/g) ?? []
  const found = new Map<string, string>()
  for (const piece of pieces.slice(1)) {
    const at = piece.indexOf("=")
    const key = piece.slice(0, at).trim().toLowerCase()
    const raw = piece.slice(at + 1).trim()
    const plain = raw.startsWith("\"") ? raw.slice(1, -1).replace(/\\(.)/g, "$1") : raw
    const extended = /^([^*]+)(?:\*\d+)?(\*)?$/.exec(key)!
    const name = extended[1]!
    const part = extended[2] === undefined ? plain : decodeURIComponent(plain.replace(/^utf-8''/i, ""))
    found.set(name, (key === name ? "" : found.get(name) ?? "") + part)
  }
  return { value: (pieces[0] ?? "").trim().toLowerCase(), parameters: found }
}

const decoded = (body: string, encoding: string | undefined): Buffer => {
  if (encoding === "base64") return Buffer.from(body, "base64")
  if (encoding !== "quoted-printable") return Buffer.from(body, "latin1")
  const joined = body.replace(/[ \t]+\r\n/g, "\r\n").replace(/=\r\n/g, "")
  return Buffer.from(
    joined.replace(/=([\dA-F]{2})/g, (_, hex: string) => String.fromCharCode(parseInt(hex, 16))),
    "latin1"
  )
}

const divide = (body: string, boundary: string): ReadonlyArray<string> => {
  const pieces = `\r\n${body}`.split(`\r\n--${boundary}`)
  if (!pieces.at(-1)!.startsWith("--")) throw new Error("the last boundary is missing")
  return pieces.slice(1, -1).map((piece) => piece.replace(/^[ \t]*\r\n/, ""))
}

const read = (message: string): Part => {
  const end = message.startsWith("\r\n") ? 0 : message.indexOf("\r\n\r\n") + 2
  const head = message.slice(0, end)
  const body = message.slice(end + 2)
  const headers = head.split(/\r\n(?![ \t])/).filter((line) => line !== "").map((line) => {
    const at = line.indexOf(":")
    return [line.slice(0, at).toLowerCase(), line.slice(at + 1).replaceAll("\r\n", "").trim()] as const
  })
  const get = (name: string): string | undefined => headers.find(([key]) => key === name)?.[1]
  const { parameters, value: type } = structured(get("content-type") ?? "text/plain")
  const disposition = structured(get("content-disposition") ?? "")
  const isMultipart = type.startsWith("multipart/")
  return {
    headers,
    type,
    parameters,
    disposition: disposition.value === "" ? undefined : disposition.value,
    filename: disposition.parameters.get("filename"),
    content: isMultipart ? Buffer.alloc(0) : decoded(body, get("content-transfer-encoding")),
    parts: isMultipart ? divide(body, parameters.get("boundary") ?? "").map(read) : []
  }
}

export const parse = (message: Uint8Array): Part => read(Buffer.from(message).toString("latin1"))

/** The leaves, from the first to the last. */
export const leaves = (part: Part): ReadonlyArray<Part> => part.parts.length === 0 ? [part] : part.parts.flatMap(leaves)

/** The tree as types: `multipart/mixed(text/plain application/pdf)`. */
export const outline = (part: Part): string =>
  part.parts.length === 0 ? part.type : `${part.type}(${part.parts.map(outline).join(" ")})`
