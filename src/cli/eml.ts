/**
 * Messages as .eml files: how a file is named, how it is written, and the subject of what is in it.
 *
 * What it is: names made of the time, a number and chance, never of anything that a stranger sent. What it is not: a
 * parser of messages; only the subject is looked for.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Path from "effect/Path"
import type { PlatformError } from "effect/PlatformError"

/**
 * The name of a file: sorts by time, then by number; `random` (0 to 1) keeps two runs in one folder apart.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fileName = (millis: number, number: number, random: number): string => {
  const time = new Date(millis).toISOString().replaceAll(/[-:]/g, "")
  const chance = Math.floor(random * 0x1000000).toString(16).padStart(6, "0")
  return `${time}-${String(number).padStart(6, "0")}-${chance}.eml`
}

/**
 * Writes a file so that nobody sees it unfinished: under a hidden name in the same folder, then renamed.
 *
 * **Details**
 *
 * An interruption waits until the file is whole. What a failure leaves of the hidden file is removed.
 *
 * @category files
 * @since 0.1.0
 */
export const write: (
  folder: string,
  name: string,
  octets: Uint8Array
) => Effect.Effect<string, PlatformError, FileSystem.FileSystem | Path.Path> = Effect.fnUntraced(
  function*(folder, name, octets) {
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    const unfinished = path.join(folder, `.${name}.tmp`)
    const finished = path.join(folder, name)
    yield* fs.writeFile(unfinished, octets, { flag: "wx" }).pipe(
      Effect.andThen(fs.rename(unfinished, finished)),
      Effect.tapError(() => Effect.ignore(fs.remove(unfinished, { force: true })))
    )
    return finished
  },
  Effect.uninterruptible
)

/** A header longer than this is not looked through. */
const maxHeader = 65_536

const latin1 = new TextDecoder("latin1")
const utf8 = new TextDecoder()

/** The octets of a Q or B encoded word (RFC 2047 §4). */
const wordOctets = (encoding: string, text: string): Uint8Array =>
  /b/i.test(encoding)
    ? Buffer.from(text, "base64")
    : Buffer.from(
      text.replaceAll("_", " ").replaceAll(/=([0-9a-f]{2})/gi, (_, hex: string) =>
        String.fromCharCode(Number.parseInt(hex, 16))),
      "latin1"
    )

const decoderOf = (charset: string): TextDecoder | undefined => {
  try {
    return new TextDecoder(charset)
  } catch {
    return undefined
  }
}

const encodedWord = /=\?([\w-]{1,40})(?:\*[\w-]*)?\?([bq])\?([^?\s]*)\?=/gi

/** The words of a header field as a person reads them; one in an unknown charset stays as it is. */
const decodeWords = (text: string): string =>
  text
    // RFC 2047 §6.2: the space between two encoded words is not part of the text.
    .replaceAll(/(\?=)[ \t]+(?==\?)/g, "$1")
    .replaceAll(
      encodedWord,
      (word, charset: string, encoding: string, encoded: string) =>
        decoderOf(charset)?.decode(wordOctets(encoding, encoded)) ?? word
    )

/**
 * The subject of a message; undefined when it has none. It is untrusted: escape it before a person reads it.
 *
 * @category getters
 * @since 0.1.0
 */
export const subjectOf = (message: Uint8Array): string | undefined => {
  const start = message.subarray(0, maxHeader)
  const end = latin1.decode(start).search(/\r\n\r\n|^\r\n/)
  const header = utf8.decode(end < 0 ? start : start.subarray(0, end))
  const field = /(?:^|\r\n)subject[ \t]*:((?:[^\r\n]|\r\n[ \t])*)/i.exec(header)
  return field === null ? undefined : decodeWords(field[1]!.replaceAll(/\r\n(?=[ \t])/g, "")).trim()
}
