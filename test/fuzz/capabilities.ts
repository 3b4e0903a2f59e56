/** The capability parser: bounded by what came, keywords well-formed, and no flag without a line of its own. */
import * as SmtpCapabilities from "../../src/SmtpCapabilities.ts"
import * as SmtpReply from "../../src/SmtpReply.ts"
import { check, type Random, shown } from "./random.ts"
import type { Target } from "./run.ts"

const flags = {
  startTls: "STARTTLS",
  pipelining: "PIPELINING",
  eightBitMime: "8BITMIME",
  smtpUtf8: "SMTPUTF8",
  dsn: "DSN",
  enhancedStatusCodes: "ENHANCEDSTATUSCODES",
  chunking: "CHUNKING",
  binaryMime: "BINARYMIME",
  requireTls: "REQUIRETLS",
  size: "SIZE"
} as const

const words = [
  Object.values(flags),
  ["AUTH", "AUTH=", "auth=LOGIN", "AUTH=PLAIN", "PLAIN", "LOGIN", "plain", "SCRAM-SHA-256", "HELP", "X-", "-X"],
  ["XSTARTTLS"],
  ["STARTTLS\t", "STARTTLS=", "size=1", "0", "1000000", "18446744073709551616", "00000000000000000000001", "-1"],
  ["1e9", "0x10"],
  [" ", " ", " ", " ", " ", "  ", "\t", "\0", "\u00a0", "\u202e", "\ufffd", "ß", "é", "constructor", "__proto__"],
  ["a", "="]
].flat()

const lines = (random: Random): ReadonlyArray<string> =>
  random.list(
    random.oneIn(50) ? random.below(SmtpReply.maxLines) : random.below(8),
    () => random.oneIn(200) ? `AUTH${" ".repeat(random.below(16_000))}PLAIN` : random.text(words, 6)
  )

const sum = (numbers: Iterable<number>): number => [...numbers].reduce((a, b) => a + b, 0)

const summary = (capabilities: SmtpCapabilities.SmtpCapabilities): string =>
  JSON.stringify({ ...capabilities, name: "", extensions: [...capabilities.extensions] })

/** The first word of a line, as a keyword; AUTH=X counts as AUTH. */
const keywordOf = (line: string): string => /^ *([^ ]*)/.exec(line)![1]!.replace(/^AUTH=.*$/i, "AUTH").toUpperCase()

const judge = (said: ReadonlyArray<string>, capabilities: SmtpCapabilities.SmtpCapabilities): void => {
  const shownAs = () => `${shown(said)} gives ${summary(capabilities)}`
  const { auth, extensions, sizeLimit } = capabilities
  const offered = new Set(said.slice(1).map(keywordOf).filter((word) => /^[A-Z0-9][A-Z0-9-]*$/.test(word)))
  check(extensions.size <= offered.size && [...extensions.keys()].every((key) => offered.has(key)), shownAs)
  for (const [flag, keyword] of Object.entries(flags)) {
    check(capabilities[flag as keyof typeof flags] === offered.has(keyword), () => `${flag}: ${shownAs()}`)
  }
  const words = [...extensions].flatMap(([, parameters]) => parameters)
  check(words.every((word) => word !== "" && !word.includes(" ")), shownAs)
  const length = sum(words.map((word) => word.length + 1))
  check(length <= sum(said.map((line) => line.length)) + said.length, () => `more out than in: ${shownAs()}`)
  const names = (extensions.get("AUTH") ?? []).map((name) => name.toUpperCase())
  check(auth.length === new Set(names).size && auth.every((name) => names.includes(name)), shownAs)
  const limit = extensions.get("SIZE")?.[0] ?? ""
  const isLimit = /^[0-9]{1,20}$/.test(limit) && BigInt(limit) > 0n && BigInt(limit) <= BigInt(Number.MAX_SAFE_INTEGER)
  check(isLimit ? BigInt(sizeLimit ?? 0) === BigInt(limit) : sizeLimit === undefined, shownAs)
}

export const capabilities: Target = {
  name: "capability parser",
  share: 150,
  run: (random) => {
    const said = lines(random)
    const parsed = SmtpCapabilities.fromReply(SmtpReply.make(250, ...said))
    judge(said, parsed)
    check(parsed.name === (said[0] ?? "").split(" ")[0], () => `the name ${shown(parsed.name)} in ${shown(said)}`)
    const again = [...parsed.extensions].map(([keyword, parameters]) => [keyword, ...parameters].join(" "))
    const reparsed = SmtpCapabilities.fromReply(SmtpReply.make(250, "", ...again))
    check(summary(reparsed) === summary(parsed), () => `parsed again: ${shown(said)}`)
    const none = SmtpCapabilities.none(SmtpReply.make(250, ...said))
    check(none.extensions.size === 0 && !none.startTls && none.auth.length === 0, () => "HELO offers nothing")
  }
}
