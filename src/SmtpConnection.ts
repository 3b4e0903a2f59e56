/**
 * One SMTP or LMTP connection as a scoped resource: the object of Nodemailer's `SMTPConnection`, as Effects.
 *
 * What it is: dial, greeting, EHLO, TLS and login in `make`; `send`, `login`, `reset` and the other commands as methods
 * that take turns. What it is not: it is never reopened; a service that opens connections is `SmtpClient`.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Envelope from "./Envelope.ts"
import { withTotal } from "./internal/deadline.ts"
import * as message from "./internal/message.ts"
import * as metrics from "./internal/metrics.ts"
import * as options from "./internal/options.ts"
import type * as outcome from "./internal/outcome.ts"
import * as outOfStep from "./internal/outOfStep.ts"
import * as securityReport from "./internal/securityReport.ts"
import { opening } from "./internal/telemetry/observe.ts"
import { timed } from "./internal/telemetry/phases.ts"
import { type Mail, Sender } from "./internal/transaction/sender.ts"
import type * as Sasl from "./Sasl.ts"
import type { SmtpCapabilities } from "./SmtpCapabilities.ts"
import * as SmtpCommand from "./SmtpCommand.ts"
import * as SmtpConnector from "./SmtpConnector.ts"
import * as SmtpError from "./SmtpError.ts"
import * as SmtpHandshake from "./SmtpHandshake.ts"
import * as SmtpLogin from "./SmtpLogin.ts"
import * as SmtpReply from "./SmtpReply.ts"
import * as SmtpTransaction from "./SmtpTransaction.ts"

export type {
  /** @since 0.1.0 */
  Message
} from "./internal/message.ts"
export type {
  /** @since 0.1.0 */
  Options,
  /** @since 0.1.0 */
  Timeouts,
  /** @since 0.1.0 */
  TlsMode
} from "./internal/options.ts"
export type {
  /** @since 0.1.0 */
  SendResult
} from "./internal/outcome.ts"
export type {
  /** @since 0.1.0 */
  SecurityReport
} from "./internal/securityReport.ts"
export type {
  /** @since 0.1.0 */
  Mail
} from "./internal/transaction/sender.ts"

/**
 * An open connection.
 *
 * **Details**
 *
 * Calls take turns: a call waits until the one before it has ended. After a failure the connection is usable only if
 * nothing of the transaction was sent, or the server refused with a well-formed 4yz or 5yz (421 apart) at AUTH, MAIL,
 * RCPT, DATA or as the final reply; else it is closed, and every later call fails with `attempted: false`.
 *
 * @category models
 * @since 0.1.0
 */
export interface SmtpConnection {
  readonly greeting: SmtpReply.SmtpReply
  /** Of the last EHLO or LHLO. */
  readonly capabilities: SmtpCapabilities
  /** Whether the connection is over TLS, or was declared secured by its maker. */
  readonly secure: boolean
  /** What is known of the TLS layer; none without one of ours. */
  readonly security: Option.Option<SmtpConnector.TlsInfo>
  /** False once the connection is closed, by either side: a FIN or 421 that came while idle is noticed without asking. */
  readonly isUsable: boolean
  /** What secures the connection now, the last login included, and which options asked for it. */
  readonly securityReport: securityReport.SecurityReport
  /** Logs in, later than `options.auth` would. */
  readonly login: (credentials: Sasl.Credentials) => Effect.Effect<void, SmtpError.LoginError>
  /** Sends one message. */
  readonly send: <E = never, R = never>(
    envelope: Envelope.Input,
    message: message.Message<E, R>
  ) => Effect.Effect<outcome.SendResult, SmtpError.SendError | E, R>
  /**
   * Sends one mail after the other; each pulled mail gives exactly one Result, in order. Once a Result has told of a lost
   * connection, nothing more is pulled.
   */
  readonly sendAll: <E, R, E2 = never, R2 = never>(
    mails: Stream.Stream<Mail<E2, R2>, E, R>
  ) => Stream.Stream<Result.Result<outcome.SendResult, SmtpError.SendError | E2>, E, R | R2>
  /** RSET. */
  readonly reset: Effect.Effect<void, SmtpError.WireError>
  /** NOOP. */
  readonly noop: Effect.Effect<void, SmtpError.WireError>
  /** VRFY; the reply is data, a refusal too. */
  readonly vrfy: (mailbox: string) => Effect.Effect<SmtpReply.SmtpReply, SmtpError.WireError | SmtpError.EENVELOPE>
  /** EXPN; the reply is data, a refusal too. */
  readonly expn: (list: string) => Effect.Effect<SmtpReply.SmtpReply, SmtpError.WireError | SmtpError.EENVELOPE>
  /** HELP; the reply is data, a refusal too. */
  readonly help: (topic?: string) => Effect.Effect<SmtpReply.SmtpReply, SmtpError.WireError | SmtpError.EENVELOPE>
  /** QUIT within its deadline, then close. Always succeeds; closing the scope does it too. */
  readonly quit: Effect.Effect<void>
}

/** Most replies that are owed at once by one transaction: servers may stop reading while nobody reads theirs. */
const maxUnread = 100

/** Where a connection comes from, and who counts what it does. */
type Origin = Context.Context<SmtpConnector.SmtpConnector>

const connectorOf = (origin: Origin) => Context.get(origin, SmtpConnector.SmtpConnector)

/** A dialogue that remembers, for the connections after it, what its server cannot do. */
class Conversation implements SmtpTransaction.Dialogue {
  readonly session: SmtpHandshake.Session
  readonly options: options.Resolved
  readonly budget: number
  readonly origin: Origin
  needsReset = false
  takesMail: boolean
  transactions = 0
  hasGrouped = false

  constructor(session: SmtpHandshake.Session, resolved: options.Resolved, origin: Origin) {
    this.session = session
    this.options = resolved
    this.origin = origin
    this.takesMail = session.capabilities.auth.length === 0 && !session.capabilities.startTls
    const isOutOfStep = outOfStep.isKnown(connectorOf(origin), resolved.endpoint)
    this.budget = isOutOfStep || !resolved.pipelining ? 1 : maxUnread
  }

  get protocol(): "smtp" | "lmtp" {
    return this.options.protocol
  }

  onOutOfStep(): void {
    outOfStep.remember(connectorOf(this.origin), this.options.endpoint)
  }

  onFinal(millis: number): void {
    metrics.passed(this.origin, "final", millis, undefined)
  }
}

/** Thousands of these may be idle: each holds as little as it can, and makes its effects when they are asked for. */
class Connection implements SmtpConnection {
  readonly #dialogue: Conversation
  readonly #sender: Sender
  #login: SmtpLogin.LoggedIn | undefined
  #report: securityReport.SecurityReport | undefined

  constructor(dialogue: Conversation) {
    this.#dialogue = dialogue
    this.#sender = new Sender(dialogue, dialogue.options, this)
    dialogue.session.wire.witness = this
  }

  get greeting(): SmtpReply.SmtpReply {
    return this.#dialogue.session.greeting
  }

  get capabilities(): SmtpCapabilities {
    return this.#dialogue.session.capabilities
  }

  get secure(): boolean {
    return this.#dialogue.session.secure
  }

  get security(): Option.Option<SmtpConnector.TlsInfo> {
    return this.#dialogue.session.security
  }

  get securityReport(): securityReport.SecurityReport {
    const { options, session } = this.#dialogue
    return this.#report ??= securityReport.make(session, options, this.#login)
  }

  get isUsable(): boolean {
    return this.#wire.failure === undefined && !this.#sender.isUsedUp
  }

  get #wire() {
    return this.#dialogue.session.wire
  }

  #exclusive<A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return this.#sender.exclusive(self)
  }

  get login(): SmtpConnection["login"] {
    return (credentials) =>
      this.#exclusive(Effect.suspend(() => {
        const { options, session } = this.#dialogue
        const login = Effect.map(timed("auth", SmtpLogin.login(session, credentials, options)), (loggedIn) => {
          this.#login = loggedIn
          this.#dialogue.takesMail = true
          this.#report = undefined
        })
        // RFC 4954 §4: no AUTH inside a mail transaction.
        return this.#dialogue.needsReset ? Effect.andThen(SmtpTransaction.reset(this.#dialogue), login) : login
      }))
  }

  get send(): SmtpConnection["send"] {
    return (envelope, content) => this.#sender.send(envelope, content)
  }

  get sendAll(): SmtpConnection["sendAll"] {
    return (mails) => this.#sender.sendAll(mails)
  }

  get reset(): Effect.Effect<void, SmtpError.WireError> {
    return Effect.suspend(() => this.#exclusive(SmtpTransaction.reset(this.#dialogue)))
  }

  get noop(): Effect.Effect<void, SmtpError.WireError> {
    return Effect.suspend(() =>
      this.#exclusive(Effect.flatMap(
        this.#wire.command({ _tag: "Noop" }, { stage: "NOOP" }),
        (reply): Effect.Effect<void, SmtpError.WireError> => {
          if (reply.code >= 200 && reply.code < 300) return Effect.void
          this.#wire.fail({ _tag: "Released" })
          return Effect.fail(SmtpError.classify({ _tag: "Refused", reply }, { stage: "NOOP" }) as SmtpError.WireError)
        }
      ))
    )
  }

  /** A command whose reply is data; 421 and 3yz are none. */
  #ask(
    field: string,
    command: Extract<SmtpCommand.SmtpCommand, { readonly _tag: "Vrfy" | "Expn" | "Help" }>
  ): Effect.Effect<SmtpReply.SmtpReply, SmtpError.WireError | SmtpError.EENVELOPE> {
    const octets = SmtpCommand.encode(command)
    if (Result.isFailure(octets)) {
      const text = `${field}: ${octets.failure.detail}`
      return Effect.fail(new SmtpError.EENVELOPE({ command: "API", attempted: false, field, message: text }))
    }
    const where = { stage: field.split(".", 1)[0]!.toUpperCase() as "VRFY" | "EXPN" | "HELP" }
    return this.#exclusive(
      Effect.flatMap(
        this.#wire.command(command, where),
        (reply) =>
          reply.code === 421 || SmtpReply.severity(reply) === 3
            ? Effect.fail(SmtpError.classify({ _tag: "Refused", reply }, where) as SmtpError.WireError)
            : Effect.succeed(reply)
      )
    )
  }

  get vrfy(): SmtpConnection["vrfy"] {
    return (mailbox) => this.#ask("vrfy.mailbox", { _tag: "Vrfy", text: mailbox })
  }

  get expn(): SmtpConnection["expn"] {
    return (list) => this.#ask("expn.list", { _tag: "Expn", text: list })
  }

  get help(): SmtpConnection["help"] {
    return (topic) => this.#ask("help.topic", { _tag: "Help", text: topic })
  }

  /** A wire that has failed writes nothing; one that nobody uses and that has not is ready. */
  get #goodbye(): Effect.Effect<void> {
    return this.#wire.command({ _tag: "Quit" }, { stage: "QUIT" }).pipe(
      Effect.exit,
      Effect.asVoid,
      Effect.ensuring(Effect.sync(() => this.#wire.fail({ _tag: "Quit" })))
    )
  }

  get quit(): Effect.Effect<void> {
    return Effect.suspend(() => this.#sender.turn.within(this.#goodbye))
  }

  onViolation(): void {
    if (this.#dialogue.hasGrouped) this.#dialogue.onOutOfStep()
  }

  /** What the scope does before it frees the wire: QUIT, when nobody is in the middle of something. */
  onRelease(exit: Exit.Exit<unknown, unknown>): Effect.Effect<void> {
    if (this.#wire.failure !== undefined) return Effect.void
    const isInterrupted = Exit.isFailure(exit) && Cause.hasInterrupts(exit.cause)
    const goodbye = isInterrupted ? Effect.sync(() => this.#wire.leave()) : Effect.interruptible(this.#goodbye)
    return this.#sender.turn.ifFree(goodbye).pipe(Effect.ignoreCause, Effect.provideContext(this.#dialogue.origin))
  }
}

const begin = (session: SmtpHandshake.Session, resolved: options.Resolved, origin: Origin) => {
  const connection: SmtpConnection = new Connection(new Conversation(session, resolved, origin))
  return resolved.auth === undefined
    ? Effect.succeed(connection)
    : Effect.as(connection.login(resolved.auth), connection)
}

/**
 * Opens a connection: dial, greeting, EHLO, TLS as `options.tls` asks, and login when `options.auth` is given.
 *
 * **Details**
 *
 * The scope owns the connection. When it closes, QUIT is said if the dialogue is healthy and nobody is in the middle of
 * a call (`timeouts.quit`; after an interruption its answer is not waited for), and the socket is freed. When `make`
 * fails, all it opened is freed at once. Options that contradict each other fail with `ECONFIG` before anything is dialled.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { Effect } from "effect"
 * import { SmtpConnection } from "effect-smtp"
 * import { SmtpServer } from "effect-smtp/testing"
 *
 * const program = Effect.gen(function*() {
 *   const connection = yield* SmtpConnection.make({ host: "mx.test", name: "me.test" })
 *   assert.strictEqual(connection.secure, true)
 *   return yield* connection.send({ from: "ann@me.test", to: "bob@mx.test" }, "Subject: Hi\n\nHello Bob\n")
 * })
 * const result = await Effect.runPromise(Effect.scoped(program).pipe(Effect.provide(SmtpServer.layer())))
 * assert.deepStrictEqual(result.accepted, ["bob@mx.test"])
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  input: options.Options
): Effect.Effect<
  SmtpConnection,
  SmtpError.ConnectError | SmtpError.LoginError,
  Scope.Scope | SmtpConnector.SmtpConnector
> =>
  Effect.contextWith((origin: Origin) => {
    const resolved = options.resolve(input)
    if (Result.isFailure(resolved)) return Effect.fail(resolved.failure)
    const opened = SmtpHandshake.openWith(resolved.success, (session) => begin(session, resolved.success, origin))
    return opening(withTotal(opened, resolved.success.deadlines.total))
  })

/**
 * Says of a stream that it gives the same octets each time it is run, as a file does: where a message has to be read again,
 * it may be.
 *
 * **Details**
 *
 * That is so where the server takes fewer recipients in one transaction than the envelope has (LIMITS, or 452 to RCPT), and
 * where a combinator sends again. Strings and octets need no mark; any other stream is read once.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { Effect, Stream } from "effect"
 * import { SmtpConnection } from "effect-smtp"
 * import { SmtpServer } from "effect-smtp/testing"
 *
 * const two = SmtpServer.layer({ respond: { ehlo: (_, { secure }) => SmtpServer.reply(
 *   250, "mx.test", ...(secure ? [] : ["STARTTLS"]), "LIMITS RCPTMAX=2"
 * ) } })
 * const program = Effect.gen(function*() {
 *   const connection = yield* SmtpConnection.make({ host: "mx.test", name: "me.test" })
 *   const message = SmtpConnection.replayable(Stream.make("Subject: Hi\r\n", "\r\nHello\r\n"))
 *   return yield* connection.send({ from: "ann@me.test", to: ["a@mx.test", "b@mx.test", "c@mx.test"] }, message)
 * })
 * const result = await Effect.runPromise(Effect.scoped(program).pipe(Effect.provide(two)))
 * assert.strictEqual(result.accepted.length, 3)
 * ```
 *
 * @category messages
 * @since 0.1.0
 */
export const replayable = <E, R>(
  stream: Stream.Stream<Uint8Array | string, E, R>
): Stream.Stream<Uint8Array | string, E, R> => {
  message.markReplayable(stream)
  return stream
}
