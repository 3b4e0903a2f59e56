/**
 * Which mechanism a login is made with. `Sasl.ts` exports it.
 */
import type * as Arr from "effect/Array"
import * as Result from "effect/Result"
import { escapeText } from "../../SmtpReply.ts"
import { oauthBearer, xoauth2 } from "./bearer.ts"
import { type Credentials, secretOf } from "./credentials.ts"
import { digestMd5 } from "./digestMd5.ts"
import * as builtIn from "./mechanisms.ts"
import type { Mechanism } from "./model.ts"
import * as scram from "./scram.ts"

export const mechanisms: ReadonlyArray<Mechanism> = [
  ...scram.mechanisms,
  builtIn.plain,
  builtIn.login,
  builtIn.cramMd5,
  digestMd5,
  oauthBearer,
  xoauth2,
  builtIn.external,
  builtIn.anonymous
]

export const strength: ReadonlyArray<string> = mechanisms.filter(({ kind }) => kind === "password").map(({ name }) =>
  name
)

/**
 * What `select` decides from.
 *
 * @category models
 * @since 0.1.0
 */
export interface SelectOptions {
  /** The mechanisms of the AUTH line of the last EHLO; untrusted. */
  readonly offered: ReadonlyArray<string>
  readonly credentials: Credentials
  /** Only these, in this order. */
  readonly mechanisms?: ReadonlyArray<string> | undefined
  /** For passwords: nothing weaker than this in `strength`. */
  readonly minimumMechanism?: string | undefined
  /** Whether the connection is verified TLS, or trusted (a unix socket, or declared so). */
  readonly secure: boolean
  readonly allowInsecureAuth: boolean
  /** Whether there is a channel binding to give to a mechanism that wants one. Default false. */
  readonly canBind?: boolean | undefined
  /** "required": nothing but mechanisms that bind to the TLS channel. Default "preferred". */
  readonly channelBinding?: "preferred" | "required" | undefined
}

/**
 * Why no mechanism can be used.
 *
 * @category models
 * @since 0.1.0
 */
export interface SelectError {
  readonly _tag: "SelectError"
  /** What the server offered (escaped, bounded), what was possible, and how to mend it. */
  readonly detail: string
}

const same = (a: string) => (b: string): boolean => a.toUpperCase() === b.toUpperCase()
const rank = (name: string): number => strength.findIndex(same(name))

/** Names for a message: each escaped, none long, not too many. */
const list = (names: ReadonlyArray<string>): string => {
  const shown = names.slice(0, 16).map((name) => escapeText(name, 40)).join(", ")
  return names.length > 16 ? `${shown} and ${names.length - 16} more` : shown || "none"
}

const namesOf = (candidates: ReadonlyArray<Mechanism>): string => list(candidates.map(({ name }) => name))

const refuse = (detail: string): Result.Result<never, SelectError> => Result.fail({ _tag: "SelectError", detail })

/** What the credentials fit on this connection, the list of allowed mechanisms aside. */
const usableWith = ({ canBind, channelBinding, credentials, mechanisms: names = [] }: SelectOptions) => {
  const fitting = credentials._tag === "Custom"
    ? [credentials.mechanism]
    : mechanisms.filter(({ kind }) => kind === credentials._tag.toLowerCase())
  return fitting.filter(({ bindsChannel = false, isObsolete = false, name }) =>
    (bindsChannel ? canBind === true : channelBinding !== "required") && (!isObsolete || names.some(same(name)))
  )
}

const allowed = (
  usable: ReadonlyArray<Mechanism>,
  names: ReadonlyArray<string> | undefined
): ReadonlyArray<Mechanism> =>
  names === undefined
    ? usable
    : [...new Set(names.flatMap((name) => usable.filter((mechanism) => same(name)(mechanism.name))))]

/** The minimum is about passwords: other credentials name their mechanism. A password mechanism it does not know is weaker. */
const isAtLeast = (minimum: string) => ({ kind, name }: Mechanism): boolean =>
  kind !== "password" || (rank(name) >= 0 && rank(name) <= rank(minimum))

/** What no exchange can start with, whatever the server offers. */
const faultOf = (options: SelectOptions): string | undefined => {
  if (!options.secure && !options.allowInsecureAuth) {
    return "no credential leaves without verified TLS; set allowInsecureAuth: true to send credentials over this connection all the same"
  }
  if (typeof secretOf(options.credentials) === "string") {
    return "the secret of the credentials is a plain string; give Redacted.make(...) or an Effect of it"
  }
  if (options.channelBinding === "required" && options.canBind !== true) {
    return `channelBinding: "required" needs TLS with something to bind to, and this connection has none; use TLS of the connector's own, or channelBinding: "preferred"`
  }
  return options.minimumMechanism !== undefined && rank(options.minimumMechanism) < 0
    ? `minimumMechanism ${list([options.minimumMechanism])} is not known; give one of ${list(strength)}`
    : undefined
}

export const select = (options: SelectOptions): Result.Result<Arr.NonEmptyReadonlyArray<Mechanism>, SelectError> => {
  const fault = faultOf(options)
  if (fault !== undefined) return refuse(fault)
  const usable = usableWith(options)
  const listed = allowed(usable, options.mechanisms)
  const strong = options.minimumMechanism === undefined ? listed : listed.filter(isAtLeast(options.minimumMechanism))
  const [first, ...others] = strong.filter(({ name }) => options.offered.some(same(name)))
  if (first !== undefined) return Result.succeed([first, ...others])
  const possible = [
    `the server offers ${list(options.offered)}`,
    `these credentials can use ${namesOf(usable)}`,
    ...(options.mechanisms === undefined ? [] : [`mechanisms allows ${list(options.mechanisms)}`]),
    ...(options.minimumMechanism === undefined ? [] : [`minimumMechanism is ${list([options.minimumMechanism])}`]),
    ...(options.channelBinding === "required" ? [`channelBinding is "required"`] : [])
  ]
  return refuse(`no common authentication mechanism: ${possible.join("; ")}`)
}
