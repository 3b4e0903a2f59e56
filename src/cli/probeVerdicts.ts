/**
 * What the findings of `probe` mean: one verdict for each guarantee. Pure.
 */
import type { SmtpCapabilities } from "../SmtpCapabilities.ts"
import { escape, ExitCode } from "./frame.ts"
import type { Facts } from "./probeFacts.ts"
import type { Check } from "./probeRaw.ts"

/** "note": nothing is wrong; "weak": worth mending; "fail": a guarantee does not hold. */
export type Level = "ok" | "note" | "weak" | "fail"

/** One verdict. */
export interface Verdict {
  readonly id: string
  readonly level: Level
  readonly title: string
  readonly detail: string
}

const verdict = (id: string, title: string) => (level: Level, detail: string): Verdict => ({ id, level, title, detail })

const required = ({ tlsError, way }: Facts): Verdict => {
  const say = verdict("tls.required", "TLS can be required")
  if (way === "implicit") return say("ok", "TLS from the first octet")
  if (way === "unwanted") return say("note", "not looked at: TLS is off")
  if (way === "none") return say("fail", "STARTTLS is not offered")
  return tlsError === undefined ? say("ok", "STARTTLS is offered, and works") : say("fail", tlsError.message)
}

const verified = ({ security, tlsError, way }: Facts): ReadonlyArray<Verdict> => {
  const say = verdict("tls.verified", "the server can be verified")
  if (way === "unwanted" || way === "none") return []
  if (security === undefined) return [say("fail", tlsError?.message ?? "no TLS")]
  if (!security.authorized) {
    return [
      say("fail", `${security.authorizationError ?? "not verified"}, for the name ${escape(security.servername)}`)
    ]
  }
  return [say("ok", `${security.pin === undefined ? "certificate" : "pin"} for ${escape(security.identity ?? "")}`)]
}

/** So many days before the end, renewal has had its chance. */
const soon = 14

const expiry = ({ certificates }: Facts): ReadonlyArray<Verdict> => {
  const [first, ...rest] = certificates
  if (first === undefined) return []
  const next = rest.reduce((least, one) => one.daysLeft < least.daysLeft ? one : least, first)
  const say = verdict("tls.expiry", "the certificates are valid for a while")
  const until = `${next === first ? "" : `${next.subject}: `}until ${next.validTo.slice(0, 10)}`
  if (next.daysLeft < 0) return [say("fail", `expired ${-next.daysLeft} days ago`)]
  return [say(next.daysLeft < soon ? "weak" : "ok", `${next.daysLeft} days, ${until}`)]
}

const checked = (id: string, title: string, check: Check | undefined, failure: Level): ReadonlyArray<Verdict> => {
  if (check === undefined) return []
  const level = { Passed: "ok", Failed: failure, Untested: "note" } as const
  return [verdict(id, title)(level[check._tag], check.detail)]
}

const version = ({ security }: Facts): ReadonlyArray<Verdict> => {
  if (security === undefined) return []
  const level = security.protocol === "TLSv1.2" ? "note" : "ok"
  return [verdict("tls.version", "TLS 1.3 is spoken")(level, `${security.protocol} ${security.cipher}`)]
}

const inClear = ({ before, way }: Facts): ReadonlyArray<Verdict> => {
  if (before === undefined) return []
  const say = verdict("auth.clear", "no password goes in clear")
  const naked = before.auth.filter((name) => name === "PLAIN" || name === "LOGIN")
  if (naked.length > 0 && way !== "unwanted") {
    return [say("weak", `before TLS, AUTH ${escape(naked.join(" "))} is offered`)]
  }
  return [say(before.auth.length === 0 ? "ok" : "note", `AUTH before TLS: ${list(before.auth)}`)]
}

const list = (words: ReadonlyArray<string>): string => words.length === 0 ? "none" : escape(words.join(" "))

const login = (facts: Facts): Verdict => {
  const say = verdict("auth.mechanisms", "logins are strong")
  const auth = (facts.after ?? facts.before)?.auth ?? []
  if (auth.length === 0) return say("note", "no login is offered")
  if (auth.some((name) => /^SCRAM-.*-PLUS$/.test(name))) return say("ok", "SCRAM, bound to the TLS channel")
  return auth.some((name) => name.startsWith("SCRAM-"))
    ? say("ok", "SCRAM: the server never sees the password")
    : say("note", `no SCRAM: ${list(auth)}`)
}

const extensions: ReadonlyArray<readonly [keyof SmtpCapabilities, string, string]> = [
  ["pipelining", "PIPELINING", "commands in one round trip"],
  ["chunking", "CHUNKING", "messages without dot-stuffing"],
  ["eightBitMime", "8BITMIME", "8-bit messages as they are"],
  ["smtpUtf8", "SMTPUTF8", "addresses that are not ASCII"],
  ["dsn", "DSN", "notifications of the delivery"],
  ["enhancedStatusCodes", "ENHANCEDSTATUSCODES", "exact reasons in refusals"],
  ["requireTls", "REQUIRETLS", "verified TLS on every hop"]
]

const offered = (facts: Facts): ReadonlyArray<Verdict> => {
  const capabilities = facts.after ?? facts.before
  return extensions.map(([key, name, use]) => ({
    id: `extension.${name.toLowerCase()}`,
    level: capabilities?.[key] === true ? "ok" : "note",
    title: name,
    detail: capabilities?.[key] === true ? use : `not offered: no ${use}`
  }))
}

/** All verdicts, the gravest matters first. */
export const judge = (facts: Facts): ReadonlyArray<Verdict> => [
  required(facts),
  ...verified(facts),
  ...expiry(facts),
  ...checked("tls.injection", "nothing slips in behind STARTTLS", facts.injection, "fail"),
  ...checked("tls.minimum", "TLS below 1.2 is refused", facts.oldTls, "weak"),
  ...version(facts),
  ...inClear(facts),
  login(facts),
  ...offered(facts)
]

const ranks: ReadonlyArray<Level> = ["ok", "note", "weak", "fail"]

/** The worst of the verdicts. */
export const worstOf = (verdicts: ReadonlyArray<Verdict>): Level =>
  ranks[Math.max(0, ...verdicts.map(({ level }) => ranks.indexOf(level)))]!

/** 0: all guarantees hold; 1: something is worth mending; 76: one does not hold. */
export const exitCodeOfLevel = (level: Level): number =>
  level === "fail" ? ExitCode.protocol : level === "weak" ? 1 : ExitCode.ok
