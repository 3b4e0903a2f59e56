/**
 * What the fake server says: the script, its defaults, and the lines of EHLO that follow from them.
 *
 * What it is: values. What it is not: it runs nothing (`session.ts`), and what goes wrong on purpose is in `faults.ts`.
 *
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"
import { type Answer, reply } from "./answer.ts"
import type { PlacedFault } from "./faults.ts"
import type { Received, TranscriptLine } from "./records.ts"

/**
 * A command as the server read it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Command {
  /** In upper case, e.g. "MAIL". */
  readonly verb: string
  /** What follows the verb and a space. */
  readonly argument: string
  /** The whole line without CRLF. */
  readonly line: string
  /** The path of MAIL or RCPT without `<` and `>`, when the syntax is right. */
  readonly path?: string | undefined
  /** The parameters of MAIL or RCPT as they were sent. */
  readonly parameters?: ReadonlyArray<string> | undefined
  /** The recipient whose final reply is due (LMTP). */
  readonly recipient?: string | undefined
  /** The message whose final reply is due. */
  readonly message?: Received | undefined
}

/**
 * What a handler may know of the connection.
 *
 * @category models
 * @since 0.1.0
 */
export interface SessionView {
  /** Number of the connection, from 1. */
  readonly connection: number
  readonly secure: boolean
  /** The client's name from EHLO, HELO or LHLO. */
  readonly helo: string | undefined
  /** Who logged in. */
  readonly username: string | undefined
  /** The sender of the open transaction. */
  readonly from: string | undefined
  /** The recipients accepted in the open transaction. */
  readonly to: ReadonlyArray<string>
}

/**
 * Answers a command; undefined leaves it to the default behaviour. One that throws ends the connection; the transcript
 * and the log say so.
 *
 * @category models
 * @since 0.1.0
 */
export type Handler = (command: Command, session: SessionView) => Answer | undefined

/**
 * The handlers, by verb. `greeting` is asked before any command; `message` gives the final reply of a message (over LMTP once per recipient); `auth` is asked
 * for the AUTH command and for each line the client sends in answer to a 334.
 *
 * @category models
 * @since 0.1.0
 */
export interface Respond {
  readonly greeting?: Handler | undefined
  readonly ehlo?: Handler | undefined
  readonly helo?: Handler | undefined
  readonly lhlo?: Handler | undefined
  readonly starttls?: Handler | undefined
  readonly auth?: Handler | undefined
  readonly mail?: Handler | undefined
  readonly rcpt?: Handler | undefined
  readonly data?: Handler | undefined
  readonly message?: Handler | undefined
  readonly bdat?: Handler | undefined
  readonly rset?: Handler | undefined
  readonly noop?: Handler | undefined
  readonly vrfy?: Handler | undefined
  readonly expn?: Handler | undefined
  readonly help?: Handler | undefined
  readonly quit?: Handler | undefined
  readonly unknown?: Handler | undefined
}

/**
 * What handlers made for one connection know of it.
 *
 * @category models
 * @since 0.1.0
 */
export interface ScriptedConnection {
  /** Number of the connection, from 1. */
  readonly id: number
  /** Puts an event into the transcript. */
  readonly note: (text: string) => void
}

/**
 * The extensions that EHLO and LHLO offer; what is not offered is refused as well.
 *
 * @category models
 * @since 0.1.0
 */
export interface Extensions {
  /** STARTTLS, in the clear. Default true. */
  readonly startTls?: boolean | undefined
  /** Default true. */
  readonly pipelining?: boolean | undefined
  /** Largest message in octets. Default 52 428 800. */
  readonly size?: number | false | undefined
  /** Default true. */
  readonly eightBitMime?: boolean | undefined
  /** Default true. */
  readonly smtpUtf8?: boolean | undefined
  /** Default true. */
  readonly dsn?: boolean | undefined
  /** BDAT. Default true. */
  readonly chunking?: boolean | undefined
  /** Default false. */
  readonly binaryMime?: boolean | undefined
  /** Offered over TLS only (RFC 8689 §2). Default true. */
  readonly requireTls?: boolean | undefined
  /** Default true. */
  readonly enhancedStatusCodes?: boolean | undefined
  /**
   * Mechanisms offered over TLS. Default PLAIN, LOGIN, CRAM-MD5, XOAUTH2, EXTERNAL. It knows OAUTHBEARER, ANONYMOUS,
   * SCRAM-SHA-1, -256 and -512 with their -PLUS forms, and DIGEST-MD5 too; SCRAM and DIGEST-MD5 need `accounts`.
   */
  readonly auth?: ReadonlyArray<string> | false | undefined
  /** Mechanisms offered in the clear. Default false. */
  readonly authBeforeTls?: ReadonlyArray<string> | false | undefined
  /** Default true. */
  readonly help?: boolean | undefined
  /** Further lines, e.g. "MT-PRIORITY MIXER"; the parameters of that extension are accepted then. */
  readonly extra?: ReadonlyArray<string> | undefined
}

/**
 * What is wrong with the server's TLS.
 *
 * @category models
 * @since 0.1.0
 */
export interface Tls {
  /** In memory: false reports a certificate that does not verify. Default true. */
  readonly authorized?: boolean | undefined
  /** In memory: why it does not verify. Default "DEPTH_ZERO_SELF_SIGNED_CERT". */
  readonly authorizationError?: string | undefined
  /** True: every handshake fails. */
  readonly fail?: boolean | undefined
}

/**
 * What the fake server does; every field has a default that makes a well-behaved server.
 *
 * @category models
 * @since 0.1.0
 */
export interface Script {
  /** The server's own name. Default "fake.test". */
  readonly name?: string | undefined
  /** The greeting. Default 220. After a greeting that refuses, all but QUIT gets 503. */
  readonly greeting?: Answer | undefined
  /** "lmtp" takes LHLO and gives one final reply per recipient. Default "smtp". */
  readonly protocol?: "smtp" | "lmtp" | undefined
  readonly extensions?: Extensions | undefined
  /** Usernames and their passwords or tokens. Absent: any credentials are taken. */
  readonly accounts?: Readonly<Record<string, string>> | undefined
  /** True: MAIL before a login gets 530. */
  readonly requireAuth?: boolean | undefined
  /** True: TLS from the first octet; false: never. Absent: in memory whatever the client does, and on port 465 TLS. */
  readonly implicitTls?: boolean | undefined
  readonly tls?: Tls | undefined
  /** The handlers; or what makes them for each connection anew, so that they may keep a state. */
  readonly respond?: Respond | ((connection: ScriptedConnection) => Respond) | undefined
  readonly faults?: ReadonlyArray<PlacedFault> | undefined
  /** True: keep length and SHA-256 of each message instead of its octets. */
  readonly digest?: boolean | undefined
  /**
   * Takes a message that is about to be accepted; the final reply waits for it. An answer of 4yz or 5yz refuses the
   * message after all, and so does a defect: 451.
   */
  readonly store?: ((message: Received) => Effect.Effect<Answer | undefined>) | undefined
  /** Is told every line and event when it comes, secrets of the client included. */
  readonly watch?: ((line: TranscriptLine) => void) | undefined
  /**
   * True: nothing is remembered of what is over, so that the server can run for long. `received` and `transcript` stay
   * empty, and `awaitReceived` only counts. Default false.
   */
  readonly forget?: boolean | undefined
  /** Longest command line in octets, without CRLF; longer ones get 500. Default 12 288. */
  readonly commandLimit?: number | undefined
  /** In memory: octets that a client may write ahead of the server before `write` returns false. Default 65 536. */
  readonly highWaterMark?: number | undefined
}

/** A script with its defaults filled in. */
export interface Resolved {
  readonly name: string
  readonly greeting: Answer
  readonly protocol: "smtp" | "lmtp"
  readonly extensions: { readonly [K in keyof Extensions]-?: Exclude<Extensions[K], undefined> }
  readonly accounts: Readonly<Record<string, string>> | undefined
  readonly requireAuth: boolean
  readonly implicitTls: boolean | undefined
  readonly tls: { readonly [K in keyof Tls]-?: Exclude<Tls[K], undefined> }
  readonly respond: Exclude<Script["respond"], undefined>
  readonly faults: ReadonlyArray<PlacedFault>
  readonly digest: boolean
  readonly store: Script["store"]
  readonly watch: Script["watch"]
  readonly forget: boolean
  readonly commandLimit: number
  readonly highWaterMark: number
}

const extensionDefaults: Resolved["extensions"] = {
  startTls: true,
  pipelining: true,
  size: 52_428_800,
  eightBitMime: true,
  smtpUtf8: true,
  dsn: true,
  chunking: true,
  binaryMime: false,
  requireTls: true,
  enhancedStatusCodes: true,
  auth: ["PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2", "EXTERNAL"],
  authBeforeTls: false,
  help: true,
  extra: []
}

const tlsDefaults: Resolved["tls"] = {
  authorized: true,
  authorizationError: "DEPTH_ZERO_SELF_SIGNED_CERT",
  fail: false
}

/** `given` over `defaults`; what is given as undefined counts as absent. */
const over = <A extends object>(defaults: A, given: { readonly [K in keyof A]?: A[K] | undefined } | undefined): A => {
  const filled = { ...defaults }
  for (const key in given) {
    const value = given[key]
    if (value !== undefined) filled[key] = value
  }
  return filled
}

/** Fills in the defaults. */
export const resolve = (script: Script): Resolved => {
  const name = script.name ?? "fake.test"
  const defaults: Resolved = {
    name,
    greeting: reply(220, `${name} ${script.protocol === "lmtp" ? "LMTP" : "ESMTP"} ready`),
    protocol: "smtp",
    extensions: extensionDefaults,
    accounts: undefined,
    requireAuth: false,
    implicitTls: undefined,
    tls: tlsDefaults,
    respond: {},
    faults: [],
    digest: false,
    store: undefined,
    watch: undefined,
    forget: false,
    commandLimit: 12_288,
    highWaterMark: 65_536
  }
  const { extensions, tls, ...rest } = script
  return { ...over(defaults, rest), extensions: over(extensionDefaults, extensions), tls: over(tlsDefaults, tls) }
}

/** The mechanisms that the server offers now. */
export const mechanisms = (script: Resolved, secure: boolean): ReadonlyArray<string> =>
  (secure ? script.extensions.auth : script.extensions.authBeforeTls) || []

/** The lines of the reply to EHLO or LHLO. */
export const ehlo = (script: Resolved, secure: boolean, client: string): Answer => {
  const on = script.extensions
  const auth = mechanisms(script, secure)
  const offers: ReadonlyArray<readonly [boolean, string]> = [
    [on.pipelining, "PIPELINING"],
    [on.size !== false, `SIZE ${on.size}`],
    [on.startTls && !secure, "STARTTLS"],
    [auth.length > 0, `AUTH ${auth.join(" ")}`],
    [on.enhancedStatusCodes, "ENHANCEDSTATUSCODES"],
    [on.eightBitMime, "8BITMIME"],
    [on.smtpUtf8, "SMTPUTF8"],
    [on.dsn, "DSN"],
    [on.chunking, "CHUNKING"],
    [on.binaryMime, "BINARYMIME"],
    [on.requireTls && secure, "REQUIRETLS"],
    [on.help, "HELP"]
  ]
  const lines = offers.filter(([offered]) => offered).map(([, line]) => line)
  return reply(250, `${script.name} greets ${client}`, ...lines, ...on.extra)
}
