/**
 * The mailbox grammar of RFC 5321 section 4.1.2, with the UTF-8 of RFC 6531: parses and writes out anew. It is not the
 * grammar of header fields: no display names, comments, groups, routes or encoded words.
 */
import * as Result from "effect/Result"
import { codePoint, controlIn, isAscii } from "./xtext.ts"

/** A mailbox in wire form. `path` is what stands between the angle brackets. */
export interface Mailbox {
  readonly path: string
  /** False: the local part is not ASCII and needs SMTPUTF8. The domain is always ASCII. */
  readonly isAscii: boolean
}

/** RFC 5321 §4.5.3.1: octets of the local part, of the domain, and of a path without its brackets. */
const maxLocal = 64
const maxDomain = 255
const maxPath = 254

/** In characters, before anything else is looked at: every local part quoted pair by pair and every U-label fits. */
const maxInput = 1024

const encoder = new TextEncoder()
const octets = (text: string): number => encoder.encode(text).length

const dotString = /^[^\s\0-\x20\x7f"(),.:;<>@[\\\]]+(?:\.[^\s\0-\x20\x7f"(),.:;<>@[\\\]]+)*$/u
const quotedString = /^"((?:[^"\\]|\\[\x20-\x7e])*)"@/u
const encodedWord = /=\?[^?]*\?[bq]\?[^?]*\?=/i
const special = /[\s"(),:;<>@[\\\]]/u

const notDotString = (local: string): string => {
  if (local === "") return `has nothing before the "@"`
  const found = special.exec(local)
  return found === null
    ? "has a local part with a dot too many; remove it, or quote the local part"
    : `has ${isAscii(found[0]) ? `"${found[0]}"` : codePoint(found[0])} in its local part; give the bare address alone`
}

interface Split {
  readonly local: string
  readonly domain: string
}

const splitQuoted = (text: string): Result.Result<Split, string> => {
  const found = quotedString.exec(text)
  if (found === null) return Result.fail(`has a quoted local part that is not closed by "@`)
  const content = found[1]!.replace(/\\(.)/gu, "$1")
  const local = dotString.test(content) ? content : `"${content.replace(/["\\]/g, "\\$&")}"`
  return Result.succeed({ local, domain: text.slice(found[0].length) })
}

const split = (text: string): Result.Result<Split, string> => {
  if (text.charCodeAt(0) === 0x22) return splitQuoted(text)
  const at = text.indexOf("@")
  if (at < 0) return Result.fail(`has no "@"; write local@domain`)
  const local = text.slice(0, at)
  return dotString.test(local)
    ? Result.succeed({ local, domain: text.slice(at + 1) })
    : Result.fail(notDotString(local))
}

const ldh = /^[a-z\d_](?:[a-z\d_-]*[a-z\d_])?(?:\.[a-z\d_](?:[a-z\d_-]*[a-z\d_])?)*$/i
const longLabel = /[^.]{64}/

/** Labels of letters, digits, hyphens and underscores, 63 octets each: a host name as ASCII. */
export const isHostName = (text: string): boolean =>
  text.length <= maxDomain && ldh.test(text) && (text.length < 64 || !longLabel.test(text))

const ipv4 = /^(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}$/
const ipv6Group = /^[\da-f]{1,4}$/i

const isIpv6 = (text: string): boolean => {
  const halves = text.split("::")
  if (halves.length > 2) return false
  let groups = 0
  for (const [index, half] of halves.entries()) {
    if (half === "" && halves.length === 2) continue
    const parts = half.split(":")
    for (const [place, part] of parts.entries()) {
      if (ipv6Group.test(part)) groups += 1
      else if (index === halves.length - 1 && place === parts.length - 1 && ipv4.test(part)) groups += 2
      else return false
    }
  }
  return halves.length === 2 ? groups <= 6 : groups === 8
}

/** An address literal (RFC 5321 §4.1.3) written out anew, or undefined. */
export const addressLiteral = (text: string): string | undefined => {
  if (!text.startsWith("[") || !text.endsWith("]")) return undefined
  const inside = text.slice(1, -1)
  if (ipv4.test(inside)) return text
  return /^ipv6:/i.test(inside) && isIpv6(inside.slice(5)) ? `[IPv6:${inside.slice(5)}]` : undefined
}

/** Each label that is not ASCII has to come out as an A-label, each other one as it went in: no mapping to another name. */
const isSameName = (unicode: string, ascii: string): boolean => {
  const before = unicode.split(".")
  const after = ascii.split(".")
  return before.length === after.length &&
    before.every((label, index) =>
      isAscii(label) ? after[index] === label.toLowerCase() : after[index]!.startsWith("xn--")
    )
}

const toALabels = (domain: string): string | undefined => {
  if (!/^(?:[a-z\d_.-]|[^\0-\x7f\s])+$/iu.test(domain)) return undefined
  const ascii = URL.parse(`http://${domain}`)?.hostname
  return ascii !== undefined && isHostName(ascii) && isSameName(domain, ascii) ? ascii : undefined
}

const parseDomain = (domain: string): Result.Result<string, string> => {
  if (domain === "") return Result.fail(`has nothing after the "@"`)
  if (domain.startsWith("[")) {
    const literal = addressLiteral(domain)
    return literal === undefined
      ? Result.fail("has a bad address literal; write [192.0.2.1] or [IPv6:2001:db8::1]")
      : Result.succeed(literal)
  }
  const ascii = isAscii(domain) ? domain : toALabels(domain)
  if (ascii === undefined || !isHostName(ascii)) {
    return Result.fail("has a bad domain; write labels of 1 to 63 letters, digits and hyphens, joined by dots")
  }
  return /(?:^|\.)\d+$/.test(ascii)
    ? Result.fail("has a domain that ends in a number; write an IP address in brackets: [192.0.2.1]")
    : Result.succeed(ascii)
}

const assemble = (local: string, domain: string): Result.Result<Mailbox, string> => {
  const ascii = isAscii(local)
  const length = ascii ? local.length : octets(local)
  if (length > maxLocal) return Result.fail(`has a local part of ${length} octets; ${maxLocal} are allowed`)
  const total = length + 1 + domain.length
  return total > maxPath
    ? Result.fail(`has ${total} octets; ${maxPath} are allowed`)
    : Result.succeed({ path: `${local}@${domain}`, isAscii: ascii })
}

/** What was parsed lately: an address is checked when it is given, and once more when it is said. */
const parsed = new Map<string, Result.Result<Mailbox, string>>()
const mostParsed = 1024

/** Parses a mailbox without angle brackets. The failure completes a sentence that begins with its name. */
export const parse = (text: string): Result.Result<Mailbox, string> => {
  const known = parsed.get(text)
  if (known !== undefined) return known
  const result = parseAnew(text)
  if (Result.isFailure(result)) return result
  if (parsed.size >= mostParsed) parsed.clear()
  parsed.set(text, result)
  return result
}

const parseAnew = (text: string): Result.Result<Mailbox, string> => {
  if (text.length > maxInput) return Result.fail(`has ${text.length} characters; ${maxPath} octets are allowed`)
  const control = controlIn(text)
  if (control !== undefined) return Result.fail(`holds the control character ${control}; remove it`)
  const parts = split(text)
  if (Result.isFailure(parts)) return Result.fail(parts.failure)
  if (encodedWord.test(parts.success.local)) {
    return Result.fail("holds an encoded word, which belongs into header fields; give the bare address")
  }
  const domain = parseDomain(parts.success.domain)
  return Result.isFailure(domain) ? Result.fail(domain.failure) : assemble(parts.success.local, domain.success)
}

/** {@link parse} for a recipient: "Postmaster" needs no domain (RFC 5321 §4.1.1.3). */
export const parseRecipient = (text: string): Result.Result<Mailbox, string> =>
  /^postmaster$/i.test(text) ? Result.succeed({ path: text, isAscii: true }) : parse(text)

/** The address literal of an IP address, which may have a zone (RFC 5321 §4.1.3). */
export const literalOf = (address: string): string =>
  address.includes(":") ? `[IPv6:${address.replace(/%.*$/, "")}]` : `[${address}]`
