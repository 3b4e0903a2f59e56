/**
 * From an endpoint to a dialogue that is ready: dial, greeting, EHLO, TLS, EHLO again.
 *
 * What it is: RFC 5321 section 3.1, 3.2 and RFC 3207, with the policy of the `tls` option. What it is not: it sends no
 * credential (`SmtpLogin`) and no mail.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import { codeOf } from "./internal/errorCause.ts"
import * as eyeballs from "./internal/eyeballs.ts"
import type { Resolved } from "./internal/options.ts"
import { scopedOnFailure } from "./internal/scoped.ts"
import { timed } from "./internal/telemetry/phases.ts"
import { within as bounded } from "./internal/within.ts"
import * as SmtpCapabilities from "./SmtpCapabilities.ts"
import * as SmtpCommand from "./SmtpCommand.ts"
import * as SmtpConnector from "./SmtpConnector.ts"
import * as SmtpError from "./SmtpError.ts"
import * as SmtpReply from "./SmtpReply.ts"
import * as SmtpWire from "./SmtpWire.ts"

/**
 * A dialogue after EHLO.
 *
 * @category models
 * @since 0.1.0
 */
export interface Session {
  readonly wire: SmtpWire.SmtpWire
  readonly greeting: SmtpReply.SmtpReply
  readonly capabilities: SmtpCapabilities.SmtpCapabilities
  /** What is known of the TLS layer, when there is one of ours. */
  readonly security: Option.Option<SmtpConnector.TlsInfo>
  /** Over TLS, ours or its maker's. */
  readonly secure: boolean
  /** Fit for credentials: TLS whose chain and name verified, or a connection that its maker declared secured. */
  readonly trusted: boolean
  readonly id: string
}

let opened = 0

const message = (command: string, text: string) => ({ command, message: `${command}: ${text}` })

/** STARTTLS is required and cannot be had. */
const withoutTls = (text: string, reply?: SmtpReply.SmtpReply): SmtpError.ETLS =>
  new SmtpError.ETLS({
    ...message("STARTTLS", `${text}; tls: "starttls" requires it`),
    ...(reply === undefined ? {} : { reply })
  })

const refused = (reply: SmtpReply.SmtpReply, where: SmtpError.Where): SmtpError.ConnectError =>
  SmtpError.classify({ _tag: "Refused", reply }, where) as SmtpError.ConnectError

const isVerified = (options: Resolved): boolean =>
  options.tls !== "opportunistic" && options.tlsOptions.rejectUnauthorized !== false

const upgradeOf = (options: Resolved): SmtpConnector.TlsUpgrade => ({
  servername: options.servername,
  verify: isVerified(options),
  options: options.tlsOptions
})

/** Most EHLO replies that are kept read, and the longest of them in characters. */
const maxRead = 32
const maxReadLength = 2_048
const read = new Map<string, SmtpCapabilities.SmtpCapabilities>()

/** Servers say the same to each of many connections: those share what it means. */
const capabilitiesOf = (reply: SmtpReply.SmtpReply): SmtpCapabilities.SmtpCapabilities => {
  const { text } = reply
  const known = read.get(text)
  if (known !== undefined) return known
  const capabilities = SmtpCapabilities.fromReply(reply)
  if (read.size >= maxRead) read.clear()
  if (text.length <= maxReadLength) read.set(text, capabilities)
  return capabilities
}

/** EHLO or LHLO; HELO only where RFC 5321 §3.2 allows it: at first, and when the server does not know EHLO. */
const hello = Effect.fnUntraced(function*(
  wire: SmtpWire.SmtpWire,
  options: Resolved,
  name: string,
  isFirst: boolean
) {
  const isLmtp = options.protocol === "lmtp"
  const stage = isLmtp ? "LHLO" : "EHLO"
  const reply = yield* wire.command({ _tag: isLmtp ? "Lhlo" : "Ehlo", name }, { stage })
  if (reply.code === 250) return capabilitiesOf(reply)
  if (isLmtp || !isFirst || ![500, 501, 502, 504].includes(reply.code)) return yield* refused(reply, { stage })
  if (options.tls === "starttls" && !wire.isSecuredByMaker) {
    return yield* withoutTls("the server does not speak EHLO, so it offers no STARTTLS", reply)
  }
  const second = yield* wire.command({ _tag: "Helo", name }, { stage: "HELO" })
  return second.code === 250 ? SmtpCapabilities.none(second) : yield* refused(second, { stage: "HELO" })
})

/**
 * Marks a handshake after which the caller dials once more: a failed opportunistic one, now without STARTTLS; or one that
 * was lost because the server cannot resume a session, now without offering one.
 */
class HandshakeFailed {
  readonly _tag = "HandshakeFailed"
  readonly tls: Resolved["tls"]
  /** What it ends in where nothing can be dialled once more. */
  readonly error: SmtpError.ConnectError
  constructor(tls: Resolved["tls"], error: SmtpError.ConnectError) {
    this.tls = tls
    this.error = error
  }
}

/** Plaintext in place of the handshake is an attack, and settings of ours that cannot be are a mistake: neither is redialled. */
const mayRedial = (error: SmtpError.ETLS | SmtpError.ETIMEDOUT): boolean => {
  if (error._tag === "ETIMEDOUT" || error.temporary === true) return true
  const isPlaintext = error.cause === undefined || codeOf(error.cause) === "ERR_SSL_WRONG_VERSION_NUMBER"
  return error.command !== "API" && !isPlaintext
}

/** RFC 3207; gives what TLS says, or nothing where the policy lets the dialogue go on in clear. */
const startTls = Effect.fnUntraced(function*(
  wire: SmtpWire.SmtpWire,
  options: Resolved,
  capabilities: SmtpCapabilities.SmtpCapabilities
) {
  const isRequired = options.tls === "starttls"
  if (!capabilities.startTls) {
    return isRequired ? yield* withoutTls("the server does not offer it") : Option.none<SmtpConnector.TlsInfo>()
  }
  const reply = yield* wire.command({ _tag: "StartTls" }, { stage: "STARTTLS" })
  if (reply.code !== 220) {
    const error = refused(reply, { stage: "STARTTLS" })
    return isRequired || error._tag !== "ETLS" ? yield* error : Option.none<SmtpConnector.TlsInfo>()
  }
  return yield* wire.upgrade(upgradeOf(options), "STARTTLS").pipe(
    Effect.asSome,
    Effect.mapError((error) => {
      if (wire.failedToResume) return new HandshakeFailed(options.tls, error)
      return !isRequired && mayRedial(error) ? new HandshakeFailed("off", error) : error
    })
  )
})

/** A connection that is secured by its maker is upgraded once more only where the caller names STARTTLS. */
const usesStartTls = (options: Resolved, wire: SmtpWire.SmtpWire): boolean =>
  (options.tls === "starttls" || options.tls === "opportunistic") && (options.tlsIsExplicit || !wire.isSecuredByMaker)

/** Implicit TLS says that the connection is TLS from its first octet: one that its maker secured is that already. */
const usesImplicitTls = (options: Resolved, wire: SmtpWire.SmtpWire): boolean =>
  options.tls === "implicit" && (options.endpoint.path !== undefined || !wire.isSecuredByMaker)

/** The hint that a greeting deadline carries on a connection without TLS. */
const greetingHint = (options: Resolved): string | undefined =>
  options.tls === "implicit"
    ? undefined
    : `if the server speaks TLS from the first octet on this port, set tls: "implicit"`

/** How an address failed, and how far it got: 0 = connecting, 1 = TLS, 2 = the greeting. */
interface Failed {
  readonly step: 0 | 1 | 2
  readonly error: SmtpError.ConnectError
}

const failingAt = (step: Failed["step"]) => (error: SmtpError.ConnectError): Failed => ({ step, error })

const greet = Effect.fnUntraced(function*(wire: SmtpWire.SmtpWire, options: Resolved) {
  const security = usesImplicitTls(options, wire)
    ? Option.some(
      yield* Effect.mapError(
        wire.upgrade(upgradeOf(options), "CONN"),
        (error) => wire.failedToResume ? new HandshakeFailed(options.tls, error) : failingAt(1)(error)
      )
    )
    : Option.none<SmtpConnector.TlsInfo>()
  const greeting = yield* Effect.mapError(timed("greeting", wire.greeting(greetingHint(options))), failingAt(2))
  if (greeting.code !== 220) return yield* Effect.fail(failingAt(2)(refused(greeting, { stage: "GREETING" })))
  return { greeting, security }
})

/** Everything on one wire that has been greeted. */
const converse = Effect.fnUntraced(function*(
  greeted: Greeted,
  options: Resolved,
  localName: string | undefined
) {
  const { greeting, wire } = greeted
  const name = options.name ?? localName ?? wire.addressLiteral
  let capabilities = yield* hello(wire, options, name, true)
  let security = greeted.security
  if (Option.isNone(security) && usesStartTls(options, wire)) {
    security = yield* startTls(wire, options, capabilities)
    // RFC 3207 §4.2: what was known before is forgotten.
    if (Option.isSome(security)) capabilities = yield* hello(wire, options, name, false)
  }
  const isAuthorized = Option.exists(security, (info) => info.authorized)
  return {
    wire,
    greeting,
    capabilities,
    security,
    secure: Option.isSome(security) || wire.isSecuredByMaker,
    trusted: isAuthorized || wire.isSecuredByMaker,
    id: greeted.id
  } satisfies Session
})

interface Greeted {
  readonly wire: SmtpWire.SmtpWire
  readonly greeting: SmtpReply.SmtpReply
  readonly security: Option.Option<SmtpConnector.TlsInfo>
  readonly id: string
}

const within = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  duration: number,
  timeout: SmtpError.TimeoutName
): Effect.Effect<A, E | SmtpError.ETIMEDOUT, R> => {
  const failure = Effect.suspend(() =>
    Effect.fail(
      SmtpError.classify({ _tag: "Deadline", timeout }, { stage: "CONN", attempted: false }) as SmtpError.ETIMEDOUT
    )
  )
  return duration > 0 ? bounded(effect, duration, failure) : failure
}

/** What was connected, up to its greeting. */
const attempt = Effect.fnUntraced(function*(duplex: SmtpConnector.Duplex, options: Resolved) {
  const id = `smtp-${++opened}`
  const wire = yield* SmtpWire.make(duplex, {
    deadlines: options.deadlines,
    transcript: options.transcript,
    annotations: { connection: id, host: options.endpoint.path ?? options.endpoint.host }
  })
  return { wire, id, ...yield* greet(wire, options) } satisfies Greeted
})

/** Milliseconds of the clock that no adjustment of the wall clock moves. */
const now = Effect.map(Clock.monotonicTimeNanos, (nanos) => Number(nanos) / 1e6)

type Connector = SmtpConnector.SmtpConnector["Service"]

/** A target that is connected; and those that are left, should it come to nothing. */
interface Connected {
  readonly duplex: SmtpConnector.Duplex
  readonly rest: ReadonlyArray<SmtpConnector.Target>
}

/** One of the targets, connected. */
const connect = (
  connector: Connector,
  targets: ReadonlyArray<SmtpConnector.Target>,
  deadline: number
): Effect.Effect<Connected, Failed, Scope.Scope> => {
  const [only] = targets
  const one = (target: SmtpConnector.Target) =>
    Effect.flatMap(now, (begun) => {
      const opening = within(Effect.suspend(() => connector.connect(target)), deadline - begun, "connect")
      return Effect.mapError(timed("connect", opening), failingAt(0))
    })
  if (targets.length === 1 && only !== undefined) return Effect.map(one(only), (duplex) => ({ duplex, rest: [] }))
  return Effect.mapBoth(eyeballs.race(targets.map(one)), {
    onFailure: (failures) => failures.get(0)!,
    onSuccess: ({ failures, index, value }) => ({
      duplex: value,
      rest: targets.filter((_, i) => i !== index && !failures.has(i))
    })
  })
}

/**
 * The targets until one greets, in the time that is left: those that do not connect at once side by side, those that
 * connect and then fail one after the other. Fails as the one that got furthest did.
 */
const dial = Effect.fnUntraced(function*(
  connector: Connector,
  targets: ReadonlyArray<SmtpConnector.Target>,
  options: Resolved,
  deadline: number
) {
  let furthest: Failed | undefined
  let left = eyeballs.interleaved(targets)
  while (left.length > 0) {
    const tried = left
    left = []
    const opening = Effect.flatMap(connect(connector, tried, deadline), ({ duplex, rest }) => {
      left = rest
      return attempt(duplex, options)
    })
    // The last one ends the call when it fails, and that frees it.
    const exit = yield* Effect.result(tried.length > 1 ? scopedOnFailure(opening) : opening)
    if (exit._tag === "Success") return exit.success
    if ("tls" in exit.failure) return yield* Effect.fail(exit.failure)
    if (furthest === undefined || exit.failure.step > furthest.step) furthest = exit.failure
  }
  return yield* furthest!.error
})

/** The name of this host comes from the connector: one that EHLO cannot say is a mistake in its options. */
const checkLocalName = (options: Resolved, localName: string | undefined): Effect.Effect<void, SmtpError.ECONFIG> => {
  if (options.name !== undefined || localName === undefined) return Effect.void
  const encoded = SmtpCommand.encode({ _tag: "Ehlo", name: localName })
  return Result.isSuccess(encoded) ? Effect.void : Effect.fail(
    new SmtpError.ECONFIG({
      message: `options.name: the connector's localName ${encoded.failure.detail}; mend it, or set options.name`,
      command: "API",
      field: "options.name",
      attempted: false
    })
  )
}

/**
 * Opens a dialogue: resolves the name, tries its addresses (RFC 8305) until one greets, says EHLO (or LHLO), and brings
 * up TLS as the options ask.
 *
 * **Details**
 *
 * The scope owns the connection. Each wait has its deadline (`options.deadlines`). With `tls: "opportunistic"`, a failed
 * handshake is followed by one redial without STARTTLS, within the same connect deadline.
 *
 * @category constructors
 * @since 0.1.0
 */
export const open = (
  options: Resolved
): Effect.Effect<Session, SmtpError.ConnectError, Scope.Scope | SmtpConnector.SmtpConnector> =>
  openWith<Session, never>(options, Effect.succeed)

const lostHandshake = (cause: Cause.Cause<unknown>): HandshakeFailed | undefined =>
  cause.reasons.flatMap((reason) =>
    Cause.isFailReason(reason) && reason.error instanceof HandshakeFailed ? [reason.error] : []
  )[0]

/**
 * The same, with what else has to succeed, such as a login: when that fails, all that was opened is freed at once too.
 *
 * @category constructors
 * @since 0.1.0
 */
export const openWith = Effect.fnUntraced(
  function*<A, E>(
    options: Resolved,
    next: (session: Session) => Effect.Effect<A, E, Scope.Scope>
  ): Effect.fn.Return<A, SmtpError.ConnectError | E, Scope.Scope | SmtpConnector.SmtpConnector> {
    const connector = yield* SmtpConnector.SmtpConnector
    yield* checkLocalName(options, connector.localName)
    const targets = yield* timed("dns", within(connector.resolve(options.endpoint), options.deadlines.dns, "dns"))
    const deadline = (yield* now) + options.deadlines.connect
    const once = (o: Resolved) =>
      Effect.flatMap(dial(connector, targets, o, deadline), (greeted) => converse(greeted, o, connector.localName))
    const again = (failure: HandshakeFailed) =>
      once({ ...options, tls: failure.tls }).pipe(Effect.catchTags({
        // A connector of one connection, such as one from a socket, has none to dial.
        ECONFIG: () => Effect.fail(failure.error),
        HandshakeFailed: (again) => Effect.fail(again.error)
      }))
    // Any other failure passes as it is: an interruption while it says QUIT does not hide what it ended in.
    return yield* Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(Effect.exit(restore(scopedOnFailure(Effect.flatMap(once(options), next)))), (exit) => {
        const failure = Exit.isFailure(exit) ? lostHandshake(exit.cause) : undefined
        return failure === undefined
          ? exit as Exit.Exit<A, SmtpError.ConnectError | E>
          : restore(scopedOnFailure(Effect.flatMap(again(failure), next)))
      })
    )
  }
)
