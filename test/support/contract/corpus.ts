/**
 * Awkward messages, and what becomes of them on a server.
 *
 * Everything is text of octets: one character from U+0000 to U+00FF for each.
 */
import { Buffer } from "node:buffer"

export const octetsOf = (text: string): Uint8Array => Buffer.from(text, "latin1")
const textOf = (octets: Uint8Array): string =>
  Buffer.from(octets.buffer, octets.byteOffset, octets.byteLength).toString("latin1")

/** The canonical form in the words of the design, and not by the library's encoder. */
export const canonical = (text: string): string => {
  const lines = text.replaceAll("\r\n", "\n").replaceAll("\r", "\n").replaceAll("\n", "\r\n")
  return lines === "" || lines.endsWith("\r\n") ? lines : `${lines}\r\n`
}

const head = "Subject: awkward\r\nX-Empty:\r\n\r\n"
const range = (from: number, to: number): string =>
  Array.from({ length: to - from + 1 }, (_, i) => String.fromCharCode(from + i)).join("")
const utf8 = (text: string): string => textOf(new TextEncoder().encode(text))

const megabytes = (count: number): string => {
  const line = `${".".repeat(3)}${"0123456789".repeat(7)}\r\n`
  return head + line.repeat(Math.floor((count * 1024 * 1024) / line.length))
}

/** The messages by name, as they are given to `send`. */
export const corpus = {
  "empty": "",
  "only a line end": "\n",
  "only header fields": "Subject: x\r\nX-Last: y\r\n",
  "only header fields, no line end": "Subject: x",
  "no final line end": `${head}last`,
  "only dots": `${head}.\r\n..\r\n...\r\n.\r\n`,
  "dots at line starts": `${head}.a\r\n..b\r\n.\r\nc\r\n. \r\n.`,
  "a dot first, without header fields": ".\r\n",
  "text first, without header fields": "Hello\r\nthere: no fields\r\n",
  "a space first": " Hello\r\n",
  "an empty line first": "\r\nHello\r\n",
  "a From line first":
    "From ann@client.test Thu Jan  1 00:00:00 1970\r\nSubject: x\r\n\r\nFrom here\r\n>From there\r\n",
  "LF alone": "Subject: x\n\na\n.\nb\n",
  "CR alone": "Subject: x\r\ra\r.\rb\r",
  "CR, LF and CRLF mixed": "Subject: x\n\na\rb\nc\r\nd\n\re\r\r\nf\n\n\r.\r\rg\n.\r\nh\r\n.\n.\r",
  "a second message smuggled behind LF . LF":
    `${head}a\n.\nMAIL FROM:<x@client.test>\nRCPT TO:<y@mx.test>\nDATA\nb\n.\n`,
  "control characters but CR, LF and NUL": `${head}${range(1, 9)}|\x0b\x0c|${range(14, 31)}|\x7f\r\n`,
  "NUL": `${head}a\0b\r\n\0\r\nc\0\r\n`,
  "spaces and tabs at line ends": `${head}a \r\nb\t\r\n \r\n\t\r\nc\r\n \r\n`,
  "a line of 998 octets": `${head}${"a".repeat(998)}\r\nz\r\n`,
  "a line of 1000 octets": `${head}${"b".repeat(1000)}\r\nz\r\n`,
  "a line of 4096 octets": `${head}${"c".repeat(4096)}\r\nz\r\n`,
  "a line of 100 kB": `${head}${"d".repeat(100_000)}\r\nz\r\n`,
  "a line of 100 kB of dots": `${head}${".".repeat(100_000)}\r\n.z\r\n`,
  "a header field of 4096 octets": `X-Long: ${"e".repeat(4088)}\r\nSubject: x\r\n\r\nz\r\n`,
  "a header field of 120 kB": `X-Long: ${"f".repeat(120_000)}\r\nSubject: x\r\n\r\nz\r\n`,
  "8-bit octets": `${head}${range(0x80, 0xff)}\r\n`,
  "UTF-8 in the body": `${head}${utf8("grüße, 用户, 🦊\u2028\u0085")}\r\n`,
  "UTF-8 addresses and header fields": utf8("Subject: grüße\r\n\r\nan 用户\r\n"),
  "25 MB": megabytes(25)
} as const satisfies Readonly<Record<string, string>>

export type Name = keyof typeof corpus
export const names = Object.keys(corpus) as ReadonlyArray<Name>

/** What a server makes of a message: another one, or an error. It has a name, and the server to thank for it. */
export interface Difference {
  readonly name: string
  readonly stores: ((canonical: string) => string) | { readonly tag: "EENVELOPE" | "EMESSAGE"; readonly code?: number }
}

export type Differences = { readonly [N in Name]?: Difference }
