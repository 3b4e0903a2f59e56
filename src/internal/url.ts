/**
 * Options as a URL: smtp://, smtps:// or lmtp://, credentials as user info, everything else as query parameters.
 */
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Sasl from "../Sasl.ts"
import * as SmtpError from "../SmtpError.ts"
import { type Given as Options, put, type TextOption, textOptions, withSubmissionPort } from "./textOptions.ts"

const schemes: { readonly [scheme: string]: Options } = {
  "smtp:": {},
  "smtps:": { tls: "implicit" },
  "lmtp:": { protocol: "lmtp" }
}

/** The scheme says which protocol it is. */
const parameters: ReadonlyMap<string, TextOption> = new Map(
  textOptions.filter(({ parameter }) => parameter !== "protocol").map((option) => [option.parameter, option])
)

/** The parameters as messages list them. */
const known = [...new Set([...parameters.keys()].map((name) => name.replace(/^(.*)\..*/, "$1.NAME")))].join(", ")

const refuse = (message: string) =>
  Result.fail(new SmtpError.ECONFIG({ command: "API", attempted: false, field: "url", message: `url: ${message}` }))

const parse = (text: string): URL | undefined => URL.canParse(text) ? new URL(text) : undefined

/** Percent-decoding that is total: undefined for a stray "%" (the URL parser lets it be) and for what is not UTF-8. */
const decoded = (text: string): string | undefined => {
  if (/%(?![0-9a-f]{2})/i.test(text)) return undefined
  const [value = ""] = new URLSearchParams(text.replace(/[+&=]/g, encodeURIComponent)).keys()
  return value.includes("\ufffd") ? undefined : value
}

/** The options with those of the query; or what is wrong with it. */
const readQuery = (given: Options, query: URLSearchParams): Options | string => {
  let options = given
  const seen = new Set<string>()
  for (const [key, text] of query) {
    if (seen.has(key)) return "a query parameter is given twice; leave one out"
    seen.add(key)
    const option = parameters.get(key)
    const value = option?.read(text)
    if (option === undefined || (value === text && !option.isLenient)) {
      return `a query parameter is unknown or has no such value; known are ${known}`
    }
    options = put(options, option.path, value)
  }
  return given.tls === undefined || options.tls === given.tls
    ? options
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

/** What a URL says, without a port if it names none. No part of the URL is in an error: it may hold a password. */
export const read = (input: string | URL | Redacted.Redacted<string>): Result.Result<Options, SmtpError.ECONFIG> => {
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
  const address: Options = {
    ...schemes[url.protocol],
    ...(host === "" ? {} : { host: host.replace(/^\[(.*)\]$/, "$1") }),
    ...(username === "" ? {} : { auth: Sasl.password({ username, password: Redacted.make(password) }) })
  }
  const options = readQuery(address, url.searchParams)
  if (typeof options === "string") return refuse(options)
  return Result.succeed(url.port === "" ? options : { ...options, port: Number(url.port) })
}

/** The options of a URL that stands alone. */
export const fromUrl = (input: string | URL | Redacted.Redacted<string>): Result.Result<Options, SmtpError.ECONFIG> =>
  Result.map(read(input), withSubmissionPort)
