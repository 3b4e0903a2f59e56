/** The messages of a run: text in canonical form that knows its sender and where it ends. */
import * as Stream from "effect/Stream"
import { Buffer } from "node:buffer"
import type { Message } from "../../../src/SmtpConnection.ts"
import * as Random from "./random.ts"

/** The error of a source that breaks. */
export const broken = "broken"

/** The last line of every message. */
export const mark = "-- the end\r\n"

/** Text in canonical form, some lines with dots, to cut messages from. */
const makeCorpus = (seed: string): string => {
  const random = Random.make(seed, "corpus")
  const lines: Array<string> = []
  for (let size = 0; size < 400_000;) {
    const dots = random.chance(0.1) ? ".".repeat(random.int(1, 3)) : ""
    const line = dots + "abcdefghij klmnopqrstuvwxyz 0123456789 ".repeat(25).slice(0, random.int(0, 120) ** 1.4)
    lines.push(line)
    size += line.length + 2
  }
  return lines.join("\r\n")
}

const corpora = new Map<string, string>()
const corpusOf = (seed: string): string => {
  const corpus = corpora.get(seed) ?? makeCorpus(seed)
  corpora.set(seed, corpus)
  return corpus
}

/** From 100 octets to 300 kB, small ones as often as large ones. */
export const textOf = (seed: string, sender: string, random: Random.Random): string => {
  const size = Math.round(100 * 3000 ** random.real())
  const corpus = corpusOf(seed)
  const from = random.int(0, corpus.length - size)
  const head = `X-Chaos: ${sender}\r\nSubject: chaos\r\n\r\n`
  const room = Math.max(0, size - head.length - mark.length - 2)
  const text = corpus.slice(from, from + room).replace(/^\n|\r$/g, "")
  return `${head}${text}\r\n${mark}`
}

/** Octets of its body on the wire, with dots stuffed and the terminator. */
export const wireOf = (text: string): number => text.length + text.split("\r\n.").length - 1 + ".\r\n".length

/** The same text as a string, as octets, or as a stream of pieces, which may break. */
export const sourceOf = (text: string, random: Random.Random, breaks: boolean): Message<typeof broken> => {
  const kind = breaks ? "stream" : random.pick(["string", "octets", "stream"])
  if (kind === "string") return random.chance(0.3) ? text.replaceAll("\r\n", "\n") : text
  const octets = Buffer.from(text, "latin1")
  if (kind === "octets") return octets
  const size = random.pick([1000, 16_384, 65_536, 200_000])
  const pieces: Array<Uint8Array> = []
  for (let at = 0; at < octets.length; at += size) pieces.push(octets.subarray(at, at + size))
  const end = random.int(0, pieces.length)
  const stream = Stream.fromIterable(breaks ? pieces.slice(0, end) : pieces).pipe(
    Stream.rechunk(random.pick([1, 4]))
  )
  return breaks ? Stream.concat(stream, Stream.fail(broken)) : stream
}
