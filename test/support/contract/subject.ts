/**
 * A server under the contract suite: what it is declared to be (`Profile`), how to reach it, and what it stored.
 */
import { assert } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Sasl from "../../../src/Sasl.ts"
import * as SmtpConnection from "../../../src/SmtpConnection.ts"
import type { SmtpConnector } from "../../../src/SmtpConnector.ts"
import type * as SmtpError from "../../../src/SmtpError.ts"
import type { Mode } from "../modes.ts"

export type Options = SmtpConnection.Options

/** A behaviour that a server cannot show. The suite checks that this is true; the table says why. */
export interface Lacks {
  readonly lacks: string
  /** The address that shows it: one that other servers treat in that way. Default: a mailbox. */
  readonly address?: string | undefined
}
type Or<A> = A | Lacks

export const doesLack = <A>(value: Or<A>): value is Lacks =>
  typeof value === "object" && value !== null && "lacks" in value

/** A recipient that gets something else than 250, and what. */
export interface Special {
  readonly address: string
  readonly code: number
  /** It decides for all recipients of a message. */
  readonly forAll?: boolean | undefined
  /** By this door everybody gets it. */
  readonly door?: Options | undefined
}

/** The addresses that the suite sends to where a server is said to treat no address in a special way. */
export const specials = ["refused", "deferred", "closing", "atData", "afterData"] as const

/** What a server is declared to be. */
export interface Profile {
  readonly protocol: "smtp" | "lmtp"
  /** False: it knows HELO alone. */
  readonly extended: boolean
  /** The keywords of EHLO in the order of the alphabet, AUTH among them; `secure`: undefined = it has no TLS. */
  readonly offers: { readonly clear: ReadonlyArray<string>; readonly secure: ReadonlyArray<string> | undefined }
  /** The parameter of SIZE; undefined = none, or no limit. */
  readonly sizeLimit: number | undefined
  /** The SASL mechanisms in the order of the alphabet. */
  readonly mechanisms: { readonly clear: ReadonlyArray<string>; readonly secure: ReadonlyArray<string> }
  /** What a send without a login ends in. */
  readonly withoutLogin: "accepted" | { readonly tag: "ENOAUTH" | "EENVELOPE"; readonly code: number }
  /** Whether right credentials get 235 and wrong ones are refused. */
  readonly judgesCredentials: Or<true>
  /** The codes of the replies that are data. */
  readonly replies: { readonly vrfy: number; readonly expn: number; readonly help: number }
  /** The most recipients of one transaction; undefined = at least 100. */
  readonly recipientLimit?: number | undefined
}

/** How to log in by a mechanism; `door` = other options of the connection. */
export interface Login {
  readonly credentials: Sasl.Credentials
  readonly door?: Options | undefined
}

/** A door with a limit on the size of messages. */
interface Limited {
  readonly door: Options
  readonly limit: number
  /** What a message gets that grows beyond the limit. */
  readonly then: number
  /** The code for a message that is announced to be as large as the limit; undefined = it is taken (RFC 1870 §4). */
  readonly atLimit?: number | undefined
}

/** Where a server is reached. None has `auth`, but `limited` where it is needed. */
export interface Doors {
  /** With TLS if the server has any. */
  readonly main: Options
  readonly implicit: Or<Options>
  /** Doors whose certificate does not verify, and the code of why not. */
  readonly badCertificates: Or<ReadonlyArray<{ readonly door: Options; readonly because: string }>>
  readonly refusesInGreeting: Or<Options>
  /** Where the connection is closed in place of the reply to DATA. */
  readonly closesAtData: Or<Options>
  readonly limited: Or<Limited>
}

/** What a server stored. */
export interface Store {
  /** Waits for a message to an address, and asserts that what the server kept of it are these octets. */
  readonly check: (recipient: string, expected: Uint8Array) => Effect.Effect<void>
  /** Whether such a message is there now. */
  readonly has: (recipient: string, message: Uint8Array) => Effect.Effect<boolean>
}

/** A server as it is declared. */
export interface Described {
  readonly profile: Profile
  /** As the server or its package states it. */
  readonly version: string
  readonly doors: Doors
  /** Recipients by what becomes of them: at RCPT 5yz, at RCPT 4yz, 421 and the end, at DATA, as the final reply. */
  readonly recipients: { readonly [K in typeof specials[number]]: Or<Special> }
  /** The logins that must succeed by a mechanism. */
  readonly logins: (mechanism: string) => ReadonlyArray<Login>
  /** A login that opens the way; used where `withoutLogin` is no success. */
  readonly account: Sasl.Credentials
  /** An address that takes mail, and a fresh one for each call. */
  readonly mailbox: (tag: string) => string
  readonly stored: Or<Store>
}

export class Subject extends Context.Service<Subject, Described>()("test/contract/Subject") {}

/** A server under test, and how the client talks to it. */
export interface Service extends Described {
  readonly mode: Mode
}

const changed = <A>(value: Or<A>, change: (value: A) => A): Or<A> => doesLack(value) ? value : change(value)

/** The server with this mode in the options of each of its doors. */
export const inMode = (described: Described, mode: Mode): Service => {
  const door = (options: Options): Options => ({ ...options, ...mode.options })
  const within = <A extends { readonly door?: Options | undefined }>(value: A): A =>
    value.door === undefined ? value : { ...value, door: door(value.door) }
  const { doors, recipients } = described
  return {
    ...described,
    mode,
    recipients: {
      refused: changed(recipients.refused, within),
      deferred: changed(recipients.deferred, within),
      closing: changed(recipients.closing, within),
      atData: changed(recipients.atData, within),
      afterData: changed(recipients.afterData, within)
    },
    doors: {
      main: door(doors.main),
      implicit: changed(doors.implicit, door),
      badCertificates: changed(doors.badCertificates, (all) => all.map(within)),
      refusesInGreeting: changed(doors.refusesInGreeting, door),
      closesAtData: changed(doors.closesAtData, door),
      limited: changed(doors.limited, within)
    }
  }
}

/** What a check found: the behaviour itself, or the declared difference. */
export type Finding = "shown" | { readonly instead: string }
export const shown: Finding = "shown"
export const instead = (text: string): Finding => ({ instead: text })

export type Needs = Scope.Scope | SmtpConnector

/** One behaviour, as every server is checked for it. */
interface Check {
  readonly title: string
  readonly run: (subject: Service) => Effect.Effect<Finding, unknown, Needs>
}

export const check = <E>(title: string, run: (subject: Service) => Effect.Effect<Finding, E, Needs>): Check => ({
  title,
  run
})

export const sender = "sender@client.test"

/** The name that a client says: FQDN, so that no server objects. */
export const named = (options: Options): Options => ({ name: "client.test", ...options })

/** A connection by any door, not logged in. */
export const open = (options: Options) => SmtpConnection.make(named(options))

/** A connection by the main door on which MAIL is allowed. */
export const ready = (subject: Service, more: Options = {}) =>
  open({
    ...subject.doors.main,
    ...(subject.profile.withoutLogin === "accepted" ? {} : { auth: subject.account }),
    ...more
  })

/** The password of each account, on every server. */
export const accounts: Readonly<Record<string, string>> = {
  alice: "secret",
  carol: "pässwörd€",
  dave: "p=a,s\"s\\w ord:%"
}

export const passwordOf = (username: string, password: string): Sasl.Credentials =>
  Sasl.password({ username, password: Redacted.make(password) })

export const alice = passwordOf("alice", "secret")

/** The keywords of the state that the main door ends in. */
export const offered = ({ profile }: Described): ReadonlyArray<string> => profile.offers.secure ?? profile.offers.clear

/** How a message of a few octets goes to this server. */
export const viaOf = (subject: Service): "DATA" | "BDAT" =>
  offered(subject).includes("CHUNKING") ? subject.mode.via : "DATA"

/** The mechanisms of that state. */
export const mechanismsOf = ({ profile }: Described): ReadonlyArray<string> =>
  profile.offers.secure === undefined ? profile.mechanisms.clear : profile.mechanisms.secure

/** Those of them that this library speaks: what it learns later is checked without a word here. */
export const spoken = (subject: Described): ReadonlyArray<Sasl.Mechanism> =>
  mechanismsOf(subject).flatMap((name) => Sasl.mechanisms.find((mechanism) => mechanism.name === name) ?? [])

/** The main door without TLS. */
export const inClear = ({ doors }: Service): Options => ({ ...doors.main, tls: "off", tlsOptions: undefined })

/** A success; fails the test otherwise, and says in what. */
export const succeeds = <A, R>(effect: Effect.Effect<A, SmtpError.SmtpError, R>, context: string) =>
  Effect.map(
    Effect.result(effect),
    (result) => Result.isSuccess(result) ? result.success : assert.fail(`${context}: ${result.failure.message}`)
  )

/** A failure of this kind; fails the test otherwise. */
export const fails = <A, R>(
  effect: Effect.Effect<A, SmtpError.SmtpError, R>,
  expected: { readonly tag: SmtpError.Tag; readonly code?: number; readonly attempted?: boolean },
  context = ""
) =>
  Effect.map(Effect.result(effect), (result) => {
    if (Result.isSuccess(result)) return assert.fail(`${context}: it succeeded in place of ${expected.tag}`)
    const error = result.failure
    const facts = {
      tag: error._tag,
      ...(expected.code === undefined ? {} : { code: error.responseCode }),
      ...(expected.attempted === undefined ? {} : { attempted: error.attempted })
    }
    assert.deepStrictEqual(facts, expected, `${context} ${error.message}`)
    return error
  })

/** Asserts that these octets were stored for an address, where the server keeps anything. */
export const holds = (subject: Service, recipient: string, expected: Uint8Array): Effect.Effect<void> =>
  doesLack(subject.stored) ? Effect.void : subject.stored.check(recipient, expected)

const text = new TextDecoder("latin1")
const around = (octets: Uint8Array, at: number): string =>
  JSON.stringify(text.decode(octets.subarray(Math.max(0, at - 40), at + 40)))

/** Asserts that octets are those expected; of long ones shows only where they differ. */
export const assertOctets = (found: Uint8Array, expected: Uint8Array): void => {
  const end = Math.max(found.length, expected.length)
  let at = 0
  while (at < end && found[at] === expected[at]) at++
  if (at === end) return
  const sizes = `stored ${found.length} octets, expected ${expected.length}`
  assert.fail(`${sizes}; from octet ${at} on: ${around(found, at)} in place of ${around(expected, at)}`)
}
