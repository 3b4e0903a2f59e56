/**
 * Servers echo what they do not understand. A reply inside a login keeps its text only where no part of what was sent in
 * secret shows in it, in clear or as base64.
 */
import * as Base64 from "effect/encoding/Base64"
import * as Redacted from "effect/Redacted"
import * as SmtpReply from "../SmtpReply.ts"

/** Texts shorter than this may be words of the server's own. */
const shortest = 8

/** A run this long in common is no chance. */
const run = 12

const latin1 = new TextDecoder("latin1")
const utf8 = new TextDecoder()

/** The parts of a response: SASL separates them by NUL, ^A, comma, equals sign or space. */
const partsOf = (octets: Uint8Array): ReadonlyArray<string> => [
  Base64.encode(octets),
  // oxlint-disable-next-line no-control-regex -- separators of SASL messages
  ...[latin1, utf8].flatMap((decoder) => decoder.decode(octets).split(/[\u0000\u0001,= ]/))
]

const runsOf = (text: string): ReadonlySet<string> => {
  const runs = new Set<string>()
  for (let i = 0; i + run <= text.length; i++) runs.add(text.slice(i, i + run))
  return runs
}

const shows = (part: string, text: string, runs: ReadonlySet<string>): boolean => {
  if (text.includes(part)) return true
  for (let i = 0; i + run <= part.length; i++) if (runs.has(part.slice(i, i + run))) return true
  return false
}

/** What must not show of a login. */
interface Hidden {
  readonly secret: Redacted.Redacted<string> | undefined
  /** The responses so far. */
  readonly sent: ReadonlyArray<Redacted.Redacted<Uint8Array>>
  /** What may show: servers name the account that they refuse. */
  readonly username: string
}

export const withoutEcho = (reply: SmtpReply.SmtpReply, { secret, sent, username }: Hidden): SmtpReply.SmtpReply => {
  const value = secret === undefined ? "" : Redacted.value(secret)
  const parts = [value, Base64.encode(value), ...sent.flatMap((response) => partsOf(Redacted.value(response)))]
    .filter((part) => part.length >= shortest && part !== username)
  const text = reply.lines.join("")
  const runs = runsOf(text)
  if (!parts.some((part) => shows(part, text, runs))) return reply
  return SmtpReply.make(reply.code, reply.enhancedCode === undefined ? "***" : `${reply.enhancedCode} ***`)
}
