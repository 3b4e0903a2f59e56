/** The messages that are sent: their octets whole, or in chunks as a file would give them. */
import { Readable } from "node:stream"
import type { Content } from "./model.ts"

const chunkSize = 65_536

/** Printable characters without a pattern, the same in every run. */
const noise = (length: number): string => {
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
  let state = 1
  return Array.from({ length }, () => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648
    return alphabet[state >>> 16 & 63]
  }).join("")
}

/** What a content repeats; its length has few factors with the chunk's, so chunks end in the middle of lines. */
const unitOf = (content: Content): string => {
  switch (content) {
    case "lines":
      return `${"X".repeat(78)}\r\n`
    case "base64":
      return Array.from({ length: 50 }, () => `${noise(76)}\r\n`).join("")
    case "dots":
      return ".\r\n"
    case "bareLf":
      return `${"X".repeat(78)}\n`
    case "lfOnly":
      return "\n"
  }
}

const header = "From: <sender@example.com>\r\nTo: <recipient0@example.com>\r\nSubject: x\r\nMessage-Id: <x@x>\r\n\r\n"

/** A message of this size with a header, that ends in a line end. */
export const text = (content: Content, size: number): string => {
  const unit = unitOf(content)
  const end = unit.endsWith("\r\n") ? "\r\n" : "\n"
  const room = Math.max(0, size - header.length - end.length)
  // A dot alone before the end would be another line than the rest.
  return header + unit.repeat(Math.ceil(room / unit.length)).slice(0, room).replace(/\r$/, "X") + end
}

/** The chunks of a message without a header: `size` octets, from a few buffers again and again. */
export const chunks = function*(content: Content, size: number): Generator<Buffer> {
  const unit = unitOf(content)
  const cycle = Buffer.from(unit.repeat(Math.ceil(chunkSize * 16 / unit.length)))
  let at = 0
  for (let left = size; left > 0;) {
    const length = Math.min(left, chunkSize, cycle.length - at)
    yield cycle.subarray(at, at + length)
    left -= length
    at = (at + length) % cycle.length
  }
}

/** The same as a Node stream; each gives its chunks once. */
export const readable = (content: Content, size: number): Readable => {
  const source = chunks(content, size)
  return new Readable({
    highWaterMark: chunkSize,
    read() {
      const next = source.next()
      this.push(next.done === true ? null : next.value)
    }
  })
}
