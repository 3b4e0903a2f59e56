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

const texts = ["tls", "servername", "name", "localAddress", "minimumMechanism", "transcript", "path"] as const
const timeouts = ["dns", "connect", "greeting", "tls", "command", "data", "final", "idle", "quit", "total"] as const

const refuse = (field: string, message: string) =>
  Result.fail(new SmtpError.ECONFIG({ command: "API", attempted: false, field, message: `${field}: ${message}` }))

const parse = (text: string): URL | undefined => URL.canParse(text) ? new URL(text) : undefined

const decoded = (text: string): string | undefined => {
  // The URL parser leaves a stray "%" alone; there is no total decoder in the language.
  return /%(?![0-9a-f]{2})/i.test(text) ? undefined : new URLSearchParams(`v=${text.replaceAll("+", "%2B")}`).get("v") ?? undefined
}

type Read = { -readonly [K in keyof Options]: Options[K] }

const parameter = (options: Read, key: string, value: string): boolean => {
  if ((texts as ReadonlyArray<string>).includes(key)) return Reflect.set(options, key, value)
  switch (key) {
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

const known = [...texts, "mechanisms", "family", "allowInsecureAuth", "rejectUnauthorized", "timeouts.NAME"].join(", ")

/** Reads options from a URL. No part of the URL is in an error: it may hold a password. */
export const fromUrl = (input: string | URL | Redacted.Redacted<string>): Result.Result<Options, SmtpError.ECONFIG> => {
  const url = input instanceof URL ? input : parse(Redacted.isRedacted(input) ? Redacted.value(input) : input)
  if (url === undefined) return refuse("url", "not a URL; write smtp://user:password@host:port, percent-encoding what is special")
  const scheme = schemes[url.protocol]
  if (scheme === undefined) return refuse("url", "the scheme must be smtp:, smtps: or lmtp:")
  if (url.pathname !== "" && url.pathname !== "/") return refuse("url", "a path has no meaning here; a unix socket is ?path=/run/lmtp.sock")
  const username = decoded(url.username)
  const password = decoded(url.password)
  if (username === undefined || password === undefined) return refuse("url", `"%" in user or password must be written %25`)
  if ((username === "") !== (password === "")) return refuse("url", "user and password go together")
  const options: Read = { ...scheme }
  if (url.hostname !== "") options.host = url.hostname.replace(/^\[(.*)\]$/, "$1")
  if (url.port !== "") options.port = Number(url.port)
  // RFC 6409: with credentials it is a submission.
  else if (url.protocol === "smtp:" && username !== "") options.port = 587
  if (username !== "") options.auth = Sasl.password({ username, password: Redacted.make(password) })
  for (const [key, value] of url.searchParams) {
    if (!parameter(options, key, value)) {
      return refuse("url", `a query parameter is unknown or has no such value; known are ${known}`)
    }
  }
  if (options.path !== undefined && options.host === undefined) delete options.port
  return Result.succeed(options)
}
