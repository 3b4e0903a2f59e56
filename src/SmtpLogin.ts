/**
 * AUTH on an open dialogue: RFC 4954, one mechanism after the other as `Sasl.select` orders them.
 *
 * What it is: the only place that resolves a secret and lets it go towards the server, after the policy was asked. What
 * it is not: the mechanisms themselves (`Sasl`).
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as keys from "./internal/keys.ts"
import type { Resolved } from "./internal/options.ts"
import * as Sasl from "./Sasl.ts"
import type * as SmtpCommand from "./SmtpCommand.ts"
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

/** One exchange in progress. */
interface Exchange {
  readonly session: Session
  readonly mechanism: Sasl.Mechanism
  readonly command: string
  readonly tried: ReadonlyArray<string>
}

const fault = (command: string, detail: string, more: Partial<SmtpError.EAUTH> = {}): SmtpError.EAUTH =>
  new SmtpError.EAUTH({ ...more, command, message: `${command}: ${detail}` })

const local = (detail: string, field = "options.auth"): SmtpError.EAUTH =>
  new SmtpError.EAUTH({ command: "API", message: detail, attempted: false, field })

const resolveSecret = (
  credentials: Sasl.Credentials
): Effect.Effect<Redacted.Redacted<string> | undefined, SmtpError.EOAUTH2> => {
  const secret = Sasl.secretOf(credentials)
  return secret === undefined || Redacted.isRedacted(secret) ? Effect.succeed(secret) : secret
}

/** Gives up an exchange (RFC 4954 §4: "*"), so that the connection stays usable, and says why. */
const cancel = Effect.fnUntraced(function*(exchange: Exchange, error: Sasl.SaslError) {
  const { command, session, tried } = exchange
  const reply = yield* session.wire.command({ _tag: "AuthCancel" }, { stage: "AUTH", command })
  if (!SmtpReply.isRefusal(reply) || reply.code === 421) return yield* refusal(exchange, reply, undefined)
  return yield* fault(command, error.detail, { tried, ...(error.field === undefined ? {} : { field: error.field }) })
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

/** Runs `Derive` steps until there is something to say. */
const settle = (
  step: Result.Result<Sasl.Step, Sasl.SaslError>
): Effect.Effect<Result.Result<Exclude<Sasl.Step, { readonly _tag: "Derive" }>, Sasl.SaslError>> =>
  Effect.gen(function*() {
    let current = step
    while (Result.isSuccess(current) && current.success._tag === "Derive") {
      const { resume, ...parameters } = current.success
      current = resume(yield* keys.derive(parameters))
    }
    return current as Result.Result<Exclude<Sasl.Step, { readonly _tag: "Derive" }>, Sasl.SaslError>
  })

/** Challenges and responses until the server decides. */
const converse = Effect.fnUntraced(function*(
  exchange: Exchange,
  first: SmtpCommand.SmtpCommand,
  start: Sasl.Session
) {
  const { command, session: { wire } } = exchange
  const where = { stage: "AUTH", command } as const
  let reply = yield* wire.command(first, where)
  let state = start
  for (let challenges = 0; reply.code === 334; challenges++) {
    if (challenges === maxChallenges) {
      return yield* cancel(exchange, {
        _tag: "SaslError",
        detail: `the server sent more than ${maxChallenges} challenges`
      })
    }
    const step = yield* settle(Result.flatMap(Sasl.decodeChallenge(reply.lines[0] ?? ""), state.step))
    if (Result.isFailure(step)) return yield* cancel(exchange, step.failure)
    if (step.success._tag === "Done") {
      return yield* cancel(exchange, {
        _tag: "SaslError",
        detail: "the server asks for more than the mechanism has to say"
      })
    }
    reply = yield* wire.command({ _tag: "AuthResponse", response: step.success.response }, {
      ...where,
      attempted: true
    })
    state = step.success.next
  }
  return { reply, state }
})

/** One mechanism: true = logged in, false = the server refused the mechanism itself. */
const attempt = Effect.fnUntraced(function*(
  exchange: Exchange,
  credentials: Sasl.Credentials,
  secret: Redacted.Redacted<string> | undefined,
  context: Sasl.StartContext
) {
  const { command, mechanism, tried } = exchange
  const started = Sasl.start(mechanism, credentials, secret, context)
  if (Result.isFailure(started)) return yield* local(started.failure.detail, started.failure.field)
  let state = started.success
  let first: SmtpCommand.SmtpCommand = { _tag: "Auth", mechanism: mechanism.name }
  if (mechanism.clientFirst) {
    const step = yield* settle(state.step(undefined))
    if (Result.isFailure(step)) return yield* local(step.failure.detail, step.failure.field)
    if (step.success._tag === "Respond") {
      first = { ...first, initialResponse: step.success.response }
      state = step.success.next
    }
  }
  const end = yield* converse(exchange, first, state)
  if (end.reply.code !== 235) {
    if (mechanismRefusals.includes(end.reply.code)) return end.reply
    return yield* refusal(exchange, end.reply, end.state.failure)
  }
  const believed = end.state.finish()
  if (Result.isSuccess(believed)) return undefined
  // The server claims success that it did not prove: nothing more goes to it.
  exchange.session.wire.fail({ _tag: "Released" })
  return yield* fault(command, believed.failure.detail, { tried })
})

/**
 * Logs in on an open dialogue.
 *
 * **Details**
 *
 * The secret is asked for once per login. A refused mechanism (504, 534, 538) is followed by the next one; refused
 * credentials are not tried again. After an `EAUTH` that the server answered with 4yz or 5yz the connection is usable.
 *
 * @category constructors
 * @since 0.1.0
 */
export const login = Effect.fnUntraced(function*(
  session: Session,
  credentials: Sasl.Credentials,
  options: Resolved
): Effect.fn.Return<void, SmtpError.LoginError> {
  const selected = Sasl.select({
    offered: session.capabilities.auth,
    credentials,
    mechanisms: options.mechanisms,
    minimumMechanism: options.minimumMechanism,
    secure: session.trusted,
    allowInsecureAuth: options.allowInsecureAuth
  })
  if (Result.isFailure(selected)) return yield* local(selected.failure.detail)
  const secret = yield* resolveSecret(credentials)
  const context = {
    host: options.endpoint.host,
    port: options.endpoint.port,
    nonce: yield* keys.nonce,
    offered: session.capabilities.auth
  }
  const tried: Array<string> = []
  let reply: SmtpReply.SmtpReply | undefined
  for (const mechanism of selected.success) {
    tried.push(mechanism.name)
    const exchange = { session, mechanism, command: `AUTH ${mechanism.name}`, tried: [...tried] }
    reply = yield* attempt(exchange, credentials, secret, context)
    if (reply === undefined) return
  }
  return yield* fault("AUTH", `the server refused every mechanism it offered: ${SmtpReply.render(reply!)}`, {
    reply,
    tried
  })
})
