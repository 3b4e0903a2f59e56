/**
 * Options as a URL: smtp://, smtps:// or lmtp://, credentials as user info, everything else as query parameters.
 */
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Sasl from "../Sasl.ts"
import * as SmtpError from "../SmtpError.ts"
import type { Options } from "./options.ts"

const schemes: { readonly [scheme: string]: Options } = {
  "smtp:": {},
  "smtps:": { tls: "implicit" },
  "lmtp:": { protocol: "lmtp" }
}

const texts = [
  "tls",
  "servername",
  "name",
  "localAddress",
  "minimumMechanism",
  "channelBinding",
  "transcript",
  "path"
] as const
/** Those of `tlsOptions` that are one text. */
const tlsTexts = ["minVersion", "maxVersion", "ciphers"] as const
const timeouts = ["dns", "connect", "greeting", "tls", "command", "data", "final", "idle", "quit", "total"] as const

const refuse = (message: string) =>
  Result.fail(new SmtpError.ECONFIG({ command: "API", attempted: false, field: "url", message: `url: ${message}` }))

const parse = (text: string): URL | undefined => URL.canParse(text) ? new URL(text) : undefined

/** Percent-decoding that is total: undefined for a stray "%" (the URL parser lets it be) and for what is not UTF-8. */
const decoded = (text: string): string | undefined => {
  if (/%(?![0-9a-f]{2})/i.test(text)) return undefined
  const [value = ""] = new URLSearchParams(text.replace(/[+&=]/g, encodeURIComponent)).keys()
  return value.includes("\ufffd") ? undefined : value
}

type Read = { -readonly [K in keyof Options]: Options[K] }

const parameter = (options: Read, key: string, value: string): boolean => {
  if ((texts as ReadonlyArray<string>).includes(key)) return Reflect.set(options, key, value)
  if ((tlsTexts as ReadonlyArray<string>).includes(key)) {
    options.tlsOptions = { ...options.tlsOptions, [key]: value }
    return true
  }
  switch (key) {
    case "pins":
      options.tlsOptions = { ...options.tlsOptions, pins: value.split(",") }
      return true
    case "mechanisms":
      options.mechanisms = value.split(",")
      return true
    case "family":
      return Reflect.set(options, key, Number(value))
    case "allowInsecureAuth":
      return Reflect.set(options, key, value === "true" ? true : value === "false" ? false : value)
    case "rejectUnauthorized":
      options.tlsOptions = { ...options.tlsOptions, rejectUnauthorized: value !== "false" }
      return value === "true" || value === "false"
    default: {
      const name = timeouts.find((timeout) => key === `timeouts.${timeout}`)
      if (name === undefined) return false
      options.timeouts = { ...options.timeouts, [name]: /^\d+$/.test(value) ? Number(value) : value }
      return true
    }
  }
}

const known = [
  ...texts,
  ...tlsTexts,
  "pins",
  "mechanisms",
  "family",
  "allowInsecureAuth",
  "rejectUnauthorized",
  "timeouts.NAME"
].join(", ")

/** Puts the query into the options; says what is wrong with it. */
const readQuery = (options: Read, query: URLSearchParams): string | undefined => {
  const { tls } = options
  const seen = new Set<string>()
  for (const [key, value] of query) {
    if (seen.has(key)) return "a query parameter is given twice; leave one out"
    seen.add(key)
    if (!parameter(options, key, value)) return `a query parameter is unknown or has no such value; known are ${known}`
  }
  return tls === undefined || options.tls === tls
    ? undefined
    : "smtps: is implicit TLS; for another mode write smtp: with the parameter tls"
}

/** What a URL cannot hold here; most often a character of the password that was not percent-encoded. */
const misplaced = (url: URL): string | undefined => {
  if (schemes[url.protocol] === undefined) return "the scheme must be smtp:, smtps: or lmtp:"
  if (url.hash !== "") return `a fragment has no meaning here; "#" in user or password must be written %23`
  return url.pathname === "" || url.pathname === "/"
    ? undefined
    : `a path has no meaning here; a unix socket is ?path=/run/lmtp.sock, "/" in user or password is %2F`
}

/** Reads options from a URL. No part of the URL is in an error: it may hold a password. */
export const fromUrl = (input: string | URL | Redacted.Redacted<string>): Result.Result<Options, SmtpError.ECONFIG> => {
  const url = input instanceof URL ? input : parse(Redacted.isRedacted(input) ? Redacted.value(input) : input)
  if (url === undefined) {
    return refuse("not a URL; write smtp://user:password@host:port, percent-encoding what is special")
  }
  const wrong = misplaced(url)
  if (wrong !== undefined) return refuse(wrong)
  const [username, password, host] = [url.username, url.password, url.hostname].map(decoded)
  if (username === undefined || password === undefined || host === undefined) {
    return refuse(`"%" in user, password or host must be written %25, other characters as %XX of their UTF-8`)
  }
  if ((username === "") !== (password === "")) return refuse("user and password go together")
  const options: Read = { ...schemes[url.protocol] }
  if (host !== "") options.host = host.replace(/^\[(.*)\]$/, "$1")
  if (username !== "") options.auth = Sasl.password({ username, password: Redacted.make(password) })
  const problem = readQuery(options, url.searchParams)
  if (problem !== undefined) return refuse(problem)
  if (url.port !== "") options.port = Number(url.port)
  // RFC 6409: with credentials it is a submission.
  else if (url.protocol === "smtp:" && username !== "" && options.tls !== "implicit") options.port = 587
  return Result.succeed(options)
}
