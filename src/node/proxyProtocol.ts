/**
 * The dialogues with a proxy before the dialogue through it: HTTP CONNECT (RFC 9110 §9.3.6), SOCKS5 (RFC 1928, 1929),
 * SOCKS4 and SOCKS4a.
 *
 * What it is: step functions over octets, pure and bounded; each octet is looked at once. What it is not: it opens no
 * socket (`proxyTunnel`).
 *
 * @since 0.1.0
 */
import * as NetAddress from "effect/net/NetAddress"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { domainToASCII } from "node:url"
import { escapeText } from "../SmtpReply.ts"
import { hasUnsafe, unbracket } from "./hostName.ts"

/**
 * User and password for a proxy; the user's name counts as secret too, for some hold a token in it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Credentials {
  readonly username: Redacted.Redacted<string>
  readonly password: Redacted.Redacted<string>
}

/**
 * How to reach a proxy, and what to speak with it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Proxy {
  readonly protocol: "http" | "socks5" | "socks4"
  /** Whether the proxy is spoken to over TLS. */
  readonly secure: boolean
  /** Whether names are left to the proxy. */
  readonly resolves: boolean
  readonly host: string
  readonly port: number
  readonly credentials: Credentials | undefined
}

/**
 * A host that a request can hold as it is: a name of letters, digits, hyphens, dots and underscores, or an IP address.
 *
 * @category models
 * @since 0.1.0
 */
export interface Destination {
  readonly text: string
  /** The octets of an IP address; undefined for a name. */
  readonly octets: ReadonlyArray<number> | undefined
}

const isName = (text: string): boolean =>
  text.length <= 254 && /^(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?$/.test(text)

/**
 * Reads a host: lower case, A-labels, IPv6 without brackets. Undefined for what is neither a name nor an address.
 *
 * @category constructors
 * @since 0.1.0
 */
export const destinationOf = (host: string): Destination | undefined => {
  // domainToASCII would drop CR and LF.
  if (hasUnsafe(host)) return undefined
  const ascii = unbracket(/[^ -~]/.test(host) ? domainToASCII(host) : host).toLowerCase()
  const address = NetAddress.ipFromString(ascii)
  if (Result.isFailure(address)) return isName(ascii) ? { text: ascii, octets: undefined } : undefined
  const octets = NetAddress.isIpv4Address(address.success)
    ? NetAddress.ipv4ToOctets(address.success)
    : NetAddress.ipv6ToOctets(address.success)
  return { text: ascii, octets }
}

/**
 * Host and port as one text, IPv6 in brackets.
 *
 * @category rendering
 * @since 0.1.0
 */
export const authority = ({ octets, text }: Destination, port: number): string =>
  octets?.length === 16 ? `[${text}]:${port}` : `${text}:${port}`

/**
 * Where a dialogue stands: write this and wait for octets; connected, and the octets after the proxy's answer are the
 * server's; or failed, and `detail` says how, in words that fit behind "the proxy …".
 *
 * @category models
 * @since 0.1.0
 */
export type Progress =
  | { readonly _tag: "Waiting"; readonly write: Uint8Array }
  | { readonly _tag: "Connected"; readonly rest: Uint8Array }
  | { readonly _tag: "Failed"; readonly detail: string; readonly temporary: boolean }

type Failed = Extract<Progress, { readonly _tag: "Failed" }>
const failed = (detail: string, temporary: boolean): Failed => ({ _tag: "Failed", detail, temporary })

/** Yields octets to write, or nothing where it wants the next octet of the proxy. */
type Dialogue<A = Failed | undefined> = Generator<Uint8Array | undefined, A, number>

/**
 * One dialogue: write `opening`, then push what comes, in any split.
 *
 * @category models
 * @since 0.1.0
 */
export interface Exchange {
  readonly opening: Uint8Array
  readonly push: (octets: Uint8Array) => Progress
}

const nothing = new Uint8Array(0)
const early = failed("answered before it was asked", false)

class Pump implements Exchange {
  readonly opening: Uint8Array
  private readonly dialogue: Dialogue
  private step: IteratorResult<Uint8Array | undefined, Failed | undefined>

  constructor(dialogue: Dialogue) {
    this.dialogue = dialogue
    this.step = dialogue.next(0)
    this.opening = this.written()
  }

  /** What the dialogue writes here; it goes on to where it wants an octet. */
  private written(): Uint8Array {
    const write = this.step.done === true ? undefined : this.step.value
    if (write === undefined) return nothing
    this.step = this.dialogue.next(0)
    return write
  }

  private settled(rest: Uint8Array): Progress | undefined {
    return this.step.done === true ? this.step.value ?? { _tag: "Connected", rest } : undefined
  }

  readonly push = (octets: Uint8Array): Progress => {
    for (const [index, octet] of octets.entries()) {
      const settled = this.settled(octets.subarray(index))
      if (settled !== undefined) return settled
      this.step = this.dialogue.next(octet)
      const write = this.written()
      if (write.length === 0) continue
      if (index + 1 === octets.length) return { _tag: "Waiting", write }
      this.step = { done: true, value: early }
    }
    return this.settled(nothing) ?? { _tag: "Waiting", write: nothing }
  }
}

interface Request {
  readonly destination: Destination
  readonly port: number
  readonly credentials: Credentials | undefined
}

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text)
const notSpoken = (protocol: string): Failed =>
  failed(`does not speak ${protocol}; check scheme and port of its URL`, false)
const wanted = (credentials: Credentials | undefined): string =>
  credentials === undefined
    ? "it wants credentials; put user and password into its URL"
    : "it does not take the credentials of its URL"

/**
 * Most octets in the head of an HTTP answer, interim answers included: what Node's own HTTP client takes.
 *
 * @category limits
 * @since 0.1.0
 */
export const maxHeadLength = 16_384

const LF = 0x0a
const CR = 0x0d

/** One line without its CRLF; undefined at the first octet that breaks it, so that nobody waits for a line end in vain. */
function* line(budget: { left: number }, prefix: string): Dialogue<string | undefined> {
  const octets: Array<number> = []
  for (;;) {
    const octet = yield
    if (--budget.left < 0) return undefined
    if (octet === LF) return octets.pop() === CR ? Buffer.from(octets).toString("latin1") : undefined
    octets.push(octet)
    if (octets.length <= prefix.length && octet !== prefix.charCodeAt(octets.length - 1)) return undefined
  }
}

/** The status line of an answer after its whole head; undefined for what is not HTTP/1 or too long. */
function* head(budget: { left: number }): Dialogue<string | undefined> {
  const status = yield* line(budget, "HTTP/1.")
  if (status === undefined) return undefined
  let field: string | undefined
  do field = yield* line(budget, "")
  while (field !== undefined && field !== "")
  return field === undefined ? undefined : status
}

const connectRequest = ({ credentials, destination, port }: Request): Uint8Array => {
  const at = authority(destination, port)
  const lines = [`CONNECT ${at} HTTP/1.1`, `Host: ${at}`]
  if (credentials !== undefined) {
    const secret = utf8(`${Redacted.value(credentials.username)}:${Redacted.value(credentials.password)}`)
    lines.push(`Proxy-Authorization: Basic ${Buffer.from(secret).toString("base64")}`)
  }
  return utf8(`${lines.join("\r\n")}\r\n\r\n`)
}

function* http(request: Request): Dialogue {
  yield connectRequest(request)
  const budget = { left: maxHeadLength }
  let code: number
  let words: string
  do {
    const found = /^HTTP\/1\.[01] ([1-5]\d\d)(?: ([^]*))?$/.exec((yield* head(budget)) ?? "")
    if (found === null) {
      return budget.left < 0 ? failed(`answered with a head of more than ${maxHeadLength} octets`, false) : notSpoken(
        "HTTP"
      )
    }
    code = Number(found[1])
    words = escapeText(found[2] ?? "", 200)
    // RFC 9110 §15.2: any number of interim answers comes first.
  } while (code < 200 && code !== 101)
  if (code >= 200 && code < 300) return undefined
  const hint = code === 407 ? `: ${wanted(request.credentials)}` : ""
  return failed(`answered ${`${code} ${words}`.trimEnd()}${hint}`, code >= 500)
}

/** RFC 1928 §6, and whether it may pass. */
const socks5Codes: { readonly [code: number]: readonly [words: string, temporary: boolean] } = {
  1: ["general failure", true],
  2: ["not allowed by its rules", false],
  3: ["network unreachable", true],
  4: ["host unreachable", true],
  5: ["connection refused", true],
  6: ["TTL expired", true],
  7: ["command not supported", false],
  8: ["address type not supported", false]
}

const socks5Address = ({ octets, text }: Destination): ReadonlyArray<number> =>
  octets === undefined ? [3, text.length, ...utf8(text)] : [octets.length === 4 ? 1 : 4, ...octets]

const portOctets = (port: number): ReadonlyArray<number> => [port >> 8, port & 0xff]

/** RFC 1929. */
const socks5Login = ({ password, username }: Credentials): Uint8Array => {
  const [user, secret] = [utf8(Redacted.value(username)), utf8(Redacted.value(password))]
  return Uint8Array.of(1, user.length, ...user, secret.length, ...secret)
}

function* socks5({ credentials, destination, port }: Request): Dialogue {
  const broken = notSpoken("SOCKS5")
  yield credentials === undefined ? Uint8Array.of(5, 1, 0) : Uint8Array.of(5, 2, 0, 2)
  if ((yield) !== 5) return broken
  const method = yield
  if (method === 0xff) return failed(`takes no login of ours: ${wanted(credentials)}`, false)
  if (method === 2 && credentials !== undefined) {
    yield socks5Login(credentials)
    if ((yield) !== 1) return broken
    if ((yield) !== 0) return failed(`refused the login: ${wanted(credentials)}`, false)
  } else if (method !== 0) return broken
  yield Uint8Array.of(5, 1, 0, ...socks5Address(destination), ...portOctets(port))
  if ((yield) !== 5) return broken
  const code = yield
  if (code !== 0) {
    const [words, temporary] = socks5Codes[code] ?? ["unknown code", true]
    return failed(`answered: ${words} (SOCKS5 code ${code})`, temporary)
  }
  yield
  const type = yield
  if (type !== 1 && type !== 3 && type !== 4) return broken
  // The address it connects from: its length hangs on its type.
  const length = type === 1 ? 4 : type === 4 ? 16 : yield
  for (let i = 0; i < length + 2; i++) yield
  return undefined
}

/** Names after an address 0.0.0.x are SOCKS4a. */
const socks4Request = ({ credentials, destination, port }: Request): Uint8Array => {
  const user = credentials === undefined ? nothing : utf8(Redacted.value(credentials.username))
  const name = destination.octets === undefined ? [...utf8(destination.text), 0] : []
  return Uint8Array.of(4, 1, ...portOctets(port), ...destination.octets ?? [0, 0, 0, 1], ...user, 0, ...name)
}

const socks4Codes: { readonly [code: number]: readonly [words: string, temporary: boolean] } = {
  91: ["rejected or failed", true],
  92: ["no identd on this host", false],
  93: ["identd names another user", false]
}

function* socks4(request: Request): Dialogue {
  yield socks4Request(request)
  if ((yield) !== 0) return notSpoken("SOCKS4")
  const code = yield
  if (code !== 90) {
    const known = socks4Codes[code]
    return known === undefined
      ? notSpoken("SOCKS4")
      : failed(`answered: ${known[0]} (SOCKS4 code ${code})`, known[1])
  }
  for (let i = 0; i < 6; i++) yield
  return undefined
}

const dialogues = { http, socks5, socks4 }

/**
 * Begins a dialogue that asks the proxy for a connection to a port of the destination.
 *
 * @category constructors
 * @since 0.1.0
 */
export const begin = (proxy: Proxy, destination: Destination, port: number): Exchange =>
  new Pump(dialogues[proxy.protocol]({ destination, port, credentials: proxy.credentials }))
