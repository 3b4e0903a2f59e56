/**
 * The URL of a proxy: scheme, credentials as user info, host and port.
 *
 * What it is: everything that can be wrong with it, found before anything is dialled. What it is not: no part of the URL
 * comes into an error, for it may hold a password.
 *
 * @since 0.1.0
 */
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { ECONFIG } from "../SmtpError.ts"
import { type Credentials, destinationOf, type Proxy } from "./proxyProtocol.ts"

type Scheme = Pick<Proxy, "protocol" | "secure" | "resolves" | "port">

const socks5: Scheme = { protocol: "socks5", secure: false, resolves: true, port: 1080 }
const schemes: { readonly [scheme: string]: Scheme } = {
  "http:": { protocol: "http", secure: false, resolves: true, port: 80 },
  "https:": { protocol: "http", secure: true, resolves: true, port: 443 },
  "socks5:": socks5,
  "socks5h:": socks5,
  "socks4:": { protocol: "socks4", secure: false, resolves: false, port: 1080 },
  "socks4a:": { protocol: "socks4", secure: false, resolves: true, port: 1080 }
}

const refuse = (message: string) =>
  Result.fail(new ECONFIG({ command: "API", attempted: false, field: "url", message: `API: url: ${message}` }))

const urlOf = (input: string | URL | Redacted.Redacted<string>): URL | undefined => {
  if (input instanceof URL) return input
  const text = Redacted.isRedacted(input) ? Redacted.value(input) : input
  return URL.canParse(text) ? new URL(text) : undefined
}

const decoded = (text: string): string | undefined => Result.getOrUndefined(Result.try(() => decodeURIComponent(text)))

const lengthOf = (text: string): number => new TextEncoder().encode(text).length

/** What a proxy's protocol cannot say: RFC 7617 §2, RFC 1929; SOCKS4 ends the user with NUL and has no password. */
const unspeakable = (protocol: Proxy["protocol"], username: string, password: string): string | undefined => {
  if (username === "") return "a password needs a user before it"
  if (/\p{Cc}/u.test(username + password)) return "user and password hold control characters"
  if (protocol === "http" && username.includes(":")) return `":" in the user cannot be said in Basic authentication`
  if (protocol === "socks4" && password !== "") return "SOCKS4 has no password; leave it out, or use SOCKS5"
  return protocol === "socks5" && Math.max(lengthOf(username), lengthOf(password)) > 255
    ? "user and password may have 255 octets each in SOCKS5"
    : undefined
}

const credentialsOf = (
  url: URL,
  protocol: Proxy["protocol"]
): Result.Result<Credentials | undefined, ECONFIG> => {
  if (url.username === "" && url.password === "") return Result.succeed(undefined)
  const [username, password] = [decoded(url.username), decoded(url.password)]
  if (username === undefined || password === undefined) {
    return refuse(`"%" in user or password must be written %25, other characters as %XX of their UTF-8`)
  }
  const fault = unspeakable(protocol, username, password)
  return fault === undefined
    ? Result.succeed({ username: Redacted.make(username), password: Redacted.make(password) })
    : refuse(fault)
}

/**
 * Reads the URL of a proxy.
 *
 * @category constructors
 * @since 0.1.0
 */
export const parse = (input: string | URL | Redacted.Redacted<string>): Result.Result<Proxy, ECONFIG> => {
  const url = urlOf(input)
  if (url === undefined) {
    return refuse("not a URL; write http://user:password@host:port, percent-encoding what is special")
  }
  const scheme = schemes[url.protocol]
  if (scheme === undefined) return refuse(`the scheme must be one of ${Object.keys(schemes).join(", ")}`)
  if (!/^\/?$/.test(url.pathname) || url.search !== "" || url.hash !== "") {
    return refuse(
      `path, query and fragment have no meaning here; "/", "?", "#" in user or password must be %2F, %3F, %23`
    )
  }
  const host = destinationOf(url.hostname)
  if (host === undefined) return refuse("host is not a host name or IP address")
  if (url.port === "0") return refuse("port must be a whole number from 1 to 65535")
  const port = url.port === "" ? scheme.port : Number(url.port)
  return Result.map(
    credentialsOf(url, scheme.protocol),
    (credentials) => ({ ...scheme, host: host.text, port, credentials })
  )
}
