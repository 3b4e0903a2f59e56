/**
 * AUTH on an open dialogue: RFC 4954, one mechanism after the other as `Sasl.select` orders them.
 *
 * What it is: the only place that resolves a secret and lets it go towards the server, after the policy was asked. What
 * it is not: the mechanisms themselves (`Sasl`).
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { withoutEcho } from "./internal/echo.ts"
import * as keys from "./internal/keys.ts"
import type { Resolved } from "./internal/options.ts"
import * as Sasl from "./Sasl.ts"
import * as SmtpCommand from "./SmtpCommand.ts"
import * as SmtpError from "./SmtpError.ts"
import type { Session } from "./SmtpHandshake.ts"
import * as SmtpReply from "./SmtpReply.ts"

/**
 * Most challenges answered in one exchange. The longest known mechanism (SCRAM) has three.
 *
 * @category limits
 * @since 0.1.0
 */
export const maxChallenges = 8

/** Replies that refuse the mechanism, not the credentials: the next one is tried (RFC 4954 §4 and §6). */
const mechanismRefusals: ReadonlyArray<number> = [504, 534, 538]

/**
 * How a login was made.
 *
 * @category models
 * @since 0.1.0
 */
export interface LoggedIn {
  readonly mechanism: string
  /** What it binds the login to; undefined when the mechanism binds to nothing. */
  readonly channelBinding: Sasl.ChannelBinding["type"] | undefined
}

type AuthCommand = Extract<SmtpCommand.SmtpCommand, { readonly _tag: "Auth" }>

/** One exchange in progress. */
interface Exchange {
  readonly session: Session
  readonly mechanism: Sasl.Mechanism
  readonly command: string
  readonly tried: ReadonlyArray<string>
  readonly secret: Redacted.Redacted<string> | undefined
  readonly username: string
  /** The responses so far. */
  readonly sent: Array<Redacted.Redacted<Uint8Array>>
}

const failed = (command: string, detail: string, more: Partial<SmtpError.EAUTH> = {}): SmtpError.EAUTH =>
  new SmtpError.EAUTH({ ...more, command, message: `${command}: ${detail}` })

const local = (detail: string, field = "options.auth", tried: ReadonlyArray<string> = []): SmtpError.EAUTH => {
  const attempted = tried.length > 0
  return new SmtpError.EAUTH({ command: "API", message: detail, attempted, field, ...(attempted ? { tried } : {}) })
}

/** The secret; a provider is not asked when the connection is lost, and not waited for once it is. */
const resolveSecret = (
  credentials: Sasl.Credentials,
  wire: Session["wire"]
): Effect.Effect<Redacted.Redacted<string> | undefined, SmtpError.LoginError> => {
  const lost = () => wire.failed({ stage: "AUTH", attempted: false }) as Effect.Effect<never, SmtpError.LoginError>
  if (wire.failure !== undefined) return lost()
  const secret = Sasl.secretOf(credentials)
  return secret === undefined || Redacted.isRedacted(secret) ? Effect.succeed(secret) : Effect.raceFirst(secret, lost())
}

/** Gives up an exchange (RFC 4954 §4: "*"), so that the connection stays usable, and says why. */
const cancel = Effect.fnUntraced(function*(exchange: Exchange, error: Sasl.SaslError) {
  const { command, session, tried } = exchange
  const said = yield* session.wire.command({ _tag: "AuthCancel" }, { stage: "AUTH", command, attempted: true })
  const reply = withoutEcho(said, exchange)
  if (!SmtpReply.isRefusal(reply) || reply.code === 421) return yield* refusal(exchange, reply, undefined)
  return yield* failed(command, error.detail, { tried, ...(error.field === undefined ? {} : { field: error.field }) })
})

/** What a reply that is neither 334 nor 235 ends the exchange in; one that is no refusal closes the connection. */
const refusal = (
  { command, session, tried }: Exchange,
  reply: SmtpReply.SmtpReply,
  oauth2: Sasl.OAuth2Failure | undefined
): SmtpError.LoginError => {
  const error = SmtpError.classify({ _tag: "Refused", reply }, { stage: "AUTH", command })
  if (error._tag !== "EAUTH") {
    session.wire.fail({ _tag: "Released" })
    return error as SmtpError.WireError
  }
  const because = oauth2 === undefined ? "" : ` (status ${oauth2.status})`
  return new SmtpError.EAUTH({
    message: error.message + because,
    command,
    reply,
    tried,
    ...(oauth2 === undefined ? {} : { oauth2 })
  })
}

/** A step that says something, or that nothing is left to say. */
type Settled = Result.Result<Exclude<Sasl.Step, { readonly _tag: "Derive" }>, Sasl.SaslError>

/** Runs `Derive` steps until there is something to say. */
const settle = (step: Result.Result<Sasl.Step, Sasl.SaslError>): Effect.Effect<Settled> => {
  if (Result.isFailure(step) || step.success._tag !== "Derive") return Effect.succeed(step as Settled)
  const { resume, ...parameters } = step.success
  return Effect.flatMap(keys.derive(parameters), (key) => settle(resume(key)))
}

const saslError = (detail: string, field?: string): Sasl.SaslError => ({ _tag: "SaslError", detail, field })

/** LOGIN has no standard: some servers do not encode their prompts, and nothing depends on what these say. */
const challengeOf = (mechanism: Sasl.Mechanism, text: string): Result.Result<Uint8Array, Sasl.SaslError> =>
  mechanism.kind === "password" && mechanism.name === "LOGIN"
    ? Result.succeed(new Uint8Array(0))
    : Sasl.decodeChallenge(text)

/** How long a line is, or why it cannot be sent: a mechanism of the caller's that errs, or too long a secret. */
const lengthOf = (command: SmtpCommand.SmtpCommand): Result.Result<number, Sasl.SaslError> =>
  Result.mapBoth(SmtpCommand.encode(command), {
    onSuccess: (octets) => octets.length,
    onFailure: ({ detail, field }) => saslError(`${field} ${detail}`, "options.auth")
  })

/** Says the initial response when the first, empty challenge asks for it. */
const deferred = (session: Sasl.Session): Sasl.Session => ({ ...session, step: () => session.step(undefined) })

/** What a challenge is answered with. */
const answer = (
  mechanism: Sasl.Mechanism,
  state: Sasl.Session,
  text: string
): Effect.Effect<Result.Result<Extract<Sasl.Step, { readonly _tag: "Respond" }>, Sasl.SaslError>> =>
  Effect.map(
    settle(Result.flatMap(challengeOf(mechanism, text), state.step)),
    Result.flatMap((step) => {
      if (step._tag === "Done") {
        return Result.fail(saslError("the server asks for more than the mechanism has to say"))
      }
      return Result.map(lengthOf({ _tag: "AuthResponse", response: step.response }), () => step)
    })
  )

/** Challenges and responses until the server decides. */
const converse = Effect.fnUntraced(function*(
  exchange: Exchange,
  first: AuthCommand,
  start: Sasl.Session
) {
  const { command, mechanism, session: { wire }, tried } = exchange
  // An earlier mechanism has spoken.
  const where = { stage: "AUTH", command, attempted: tried.length > 1 || undefined } as const
  if (first.initialResponse !== undefined) exchange.sent.push(first.initialResponse)
  let reply = yield* wire.command(first, where)
  let state = start
  for (let challenges = 0; reply.code === 334; challenges++) {
    if (challenges === maxChallenges) {
      return yield* cancel(exchange, saslError(`the server sent more than ${maxChallenges} challenges`))
    }
    const step = yield* answer(mechanism, state, reply.lines[0] ?? "")
    if (Result.isFailure(step)) return yield* cancel(exchange, step.failure)
    const { next, response } = step.success
    exchange.sent.push(response)
    reply = yield* wire.command({ _tag: "AuthResponse", response }, { ...where, attempted: true })
    state = next
  }
  // What is said to a login that succeeded is shown to nobody.
  return { reply: reply.code === 235 ? reply : withoutEcho(reply, exchange), state }
})

/** What opens an exchange. */
interface Opening {
  readonly first: AuthCommand
  readonly state: Sasl.Session
}

/** RFC 4954 §4: AUTH keeps to the length of a command line; a longer initial response waits for the 334. */
const openingOf = (
  { name }: Sasl.Mechanism,
  started: Sasl.Session,
  step: Exclude<Sasl.Step, { readonly _tag: "Derive" }> | undefined
): Result.Result<Opening, Sasl.SaslError> => {
  const bare: AuthCommand = { _tag: "Auth", mechanism: name }
  const isSaying = step?._tag === "Respond"
  const opening = isSaying
    ? { first: { ...bare, initialResponse: step.response }, state: step.next }
    : { first: bare, state: started }
  return Result.flatMap(lengthOf(opening.first), (length) =>
    isSaying && length > SmtpCommand.maxLineLength
      ? Result.map(lengthOf(bare), () => ({ first: bare, state: deferred(started) }))
      : Result.succeed(opening))
}

/** What a mechanism says first; nothing was said when it fails. */
const prepare = (
  { command, mechanism }: Exchange,
  started: Sasl.Session
): Effect.Effect<Result.Result<Opening, Sasl.SaslError>> => {
  const open = (step?: Exclude<Sasl.Step, { readonly _tag: "Derive" }>) =>
    Result.mapError(
      openingOf(mechanism, started, step),
      (fault) => ({ ...fault, detail: `${command}: ${fault.detail}` })
    )
  return mechanism.clientFirst
    ? Effect.map(settle(started.step(undefined)), Result.flatMap(open))
    : Effect.succeed(open())
}

/** One mechanism: undefined = logged in, a reply = the server refused the mechanism itself. */
const attempt = Effect.fnUntraced(function*(exchange: Exchange, { first, state }: Opening) {
  const { command, session, tried } = exchange
  const end = yield* converse(exchange, first, state)
  if (end.reply.code !== 235) {
    if (mechanismRefusals.includes(end.reply.code)) return end.reply
    return yield* refusal(exchange, end.reply, end.state.failure)
  }
  const believed = end.state.finish()
  if (Result.isSuccess(believed)) return undefined
  // The server claims success that it did not prove: nothing more goes to it.
  session.wire.fail({ _tag: "Released" })
  return yield* failed(command, believed.failure.detail, { tried })
})

/** The mechanisms to try on this connection, in order. */
const select = (session: Session, credentials: Sasl.Credentials, options: Resolved, canBind: boolean) =>
  Result.mapError(
    Sasl.select({
      offered: session.capabilities.auth,
      credentials,
      mechanisms: options.mechanisms,
      minimumMechanism: options.minimumMechanism,
      secure: session.trusted,
      allowInsecureAuth: options.allowInsecureAuth,
      canBind,
      channelBinding: options.channelBinding
    }),
    ({ detail }) => local(detail)
  )

const loggedIn = (
  { bindsChannel, name }: Sasl.Mechanism,
  channelBinding: Sasl.ChannelBinding | undefined
): LoggedIn => ({ mechanism: name, channelBinding: bindsChannel === true ? channelBinding?.type : undefined })

/** One login with one secret. */
const loginOnce = Effect.fnUntraced(function*(
  session: Session,
  credentials: Sasl.Credentials,
  options: Resolved
): Effect.fn.Return<LoggedIn, SmtpError.LoginError> {
  const [channelBinding] = Option.getOrUndefined(session.security)?.channelBindings ?? []
  const selected = select(session, credentials, options, channelBinding !== undefined)
  if (Result.isFailure(selected)) return yield* selected.failure
  const secret = yield* resolveSecret(credentials, session.wire)
  const { host, port } = options.endpoint
  const offered = session.capabilities.auth
  const tried: Array<string> = []
  let reply: SmtpReply.SmtpReply | undefined
  let unfit: Sasl.SaslError | undefined
  for (const mechanism of selected.success) {
    const command = `AUTH ${mechanism.name}`
    const username = ("username" in credentials ? credentials.username : undefined) ?? ""
    const exchange = { session, mechanism, command, tried: [...tried, mechanism.name], secret, username, sent: [] }
    // Of ours, those that send the secret as it is need no randomness.
    const nonce = mechanism.isPlaintext && mechanism.kind !== "custom" ? "" : yield* keys.nonce
    const context = { host, port, nonce, offered, channelBinding }
    const started = Sasl.start(mechanism, credentials, secret, context)
    if (Result.isFailure(started)) {
      unfit ??= started.failure
      continue
    }
    const opening = yield* prepare(exchange, started.success)
    if (Result.isFailure(opening)) return yield* local(opening.failure.detail, opening.failure.field, tried)
    tried.push(mechanism.name)
    reply = yield* attempt(exchange, opening.success)
    if (reply === undefined) return loggedIn(mechanism, channelBinding)
  }
  if (unfit !== undefined) return yield* local(unfit.detail, unfit.field, tried)
  return yield* failed("AUTH", `the server refused every mechanism it offered: ${SmtpReply.render(reply!)}`, {
    reply,
    tried
  })
})

/** The server refuses the token itself: 535, or the error of XOAUTH2 and OAUTHBEARER before whatever reply. */
const isTokenRefused = (error: SmtpError.EAUTH): boolean => error.oauth2 !== undefined || error.responseCode === 535

/** A login whose token may be stale: what its provider gives after a refusal is tried once, when it is another. */
const loginAgain = Effect.fnUntraced(function*(
  session: Session,
  credentials: Sasl.OAuth2,
  provider: Exclude<Sasl.Secret, Redacted.Redacted<string>>,
  options: Resolved
): Effect.fn.Return<LoggedIn, SmtpError.LoginError> {
  let given: Redacted.Redacted<string> | undefined
  const token = Effect.tap(provider, (token) => Effect.sync(() => given = token))
  const first = yield* Effect.result(loginOnce(session, { ...credentials, token }, options))
  if (Result.isSuccess(first)) return first.success
  const error = first.failure
  if (given === undefined || error._tag !== "EAUTH" || !isTokenRefused(error)) return yield* error
  const again = Effect.provideService(provider, Sasl.RefusedToken, given)
  const lost = session.wire.failed({ stage: "AUTH", attempted: true }) as Effect.Effect<never, SmtpError.LoginError>
  // Asked even when the server closed after its refusal: the next connection needs another token too.
  const next = yield* Effect.raceFirst(again, lost)
  if (Redacted.value(next) === Redacted.value(given)) return yield* error
  return yield* loginOnce(session, { ...credentials, token: next }, options)
})

/**
 * Logs in on an open dialogue.
 *
 * **Details**
 *
 * The secret is asked for once per login. A refused mechanism (504, 534, 538) is followed by the next one, and so is one
 * that cannot carry the credentials, such as SCRAM a password that SASLprep prohibits; it says nothing. Refused
 * credentials are not tried again, but for an OAuth2 token that is an Effect: its provider learns of the refusal
 * (`Sasl.RefusedToken`), is asked once more, and a token that differs is tried once. After an `EAUTH` that the server
 * answered with 4yz or 5yz the connection is usable. Gives the mechanism that succeeded, and what it is bound to.
 *
 * @category constructors
 * @since 0.1.0
 */
export const login = (
  session: Session,
  credentials: Sasl.Credentials,
  options: Resolved
): Effect.Effect<LoggedIn, SmtpError.LoginError> =>
  credentials._tag === "OAuth2" && !Redacted.isRedacted(credentials.token)
    ? loginAgain(session, credentials, credentials.token, options)
    : loginOnce(session, credentials, options)
