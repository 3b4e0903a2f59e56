/**
 * One SMTP or LMTP connection as a scoped resource: the object of Nodemailer's `SMTPConnection`, as Effects.
 *
 * What it is: dial, greeting, EHLO, TLS and login in `make`; `send`, `login`, `reset` and the other commands as methods
 * that take turns. What it is not: it is never reopened; a service that opens connections is `SmtpClient`.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import * as Envelope from "./Envelope.ts"
import { withTotal } from "./internal/deadline.ts"
import * as message from "./internal/message.ts"
import * as options from "./internal/options.ts"
import type * as outcome from "./internal/outcome.ts"
import { scopedOnFailure } from "./internal/scoped.ts"
import * as securityReport from "./internal/securityReport.ts"
import type * as Sasl from "./Sasl.ts"
import type { SmtpCapabilities } from "./SmtpCapabilities.ts"
import * as SmtpCommand from "./SmtpCommand.ts"
import type * as SmtpConnector from "./SmtpConnector.ts"
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

/**
 * One mail of `sendAll`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Mail<E = never, R = never> {
  readonly envelope: Envelope.Input
  readonly message: message.Message<E, R>
}

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

class Connection implements SmtpConnection {
  readonly #dialogue: SmtpTransaction.Dialogue
  readonly #options: options.Resolved
  readonly #turn: Semaphore.Semaphore
  readonly greeting: SmtpReply.SmtpReply
  readonly capabilities: SmtpCapabilities
  readonly secure: boolean
  readonly security: Option.Option<SmtpConnector.TlsInfo>
  #report: securityReport.SecurityReport

  constructor(session: SmtpHandshake.Session, resolved: options.Resolved) {
    this.#dialogue = { session, protocol: resolved.protocol, needsReset: false }
    this.#options = resolved
    this.#turn = Semaphore.makeUnsafe(1)
    this.greeting = session.greeting
    this.capabilities = session.capabilities
    this.secure = session.secure
    this.security = session.security
    this.#report = securityReport.make(session, resolved, undefined)
  }

  get securityReport(): securityReport.SecurityReport {
    return this.#report
  }

  get isUsable(): boolean {
    return this.#wire.failure === undefined
  }

  get #wire() {
    return this.#dialogue.session.wire
  }

  /** One call at a time; one that is left while a reply is owed leaves no usable connection. */
  #exclusive<A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return this.#turn.withPermits(1)(Effect.onExit(self, (exit) =>
      Effect.sync(() => {
        if (!this.#wire.isReady) this.#wire.fail({ _tag: "Released" })
        if (Exit.isFailure(exit)) this.#wire.retire()
      })))
  }

  readonly login = (credentials: Sasl.Credentials): Effect.Effect<void, SmtpError.LoginError> =>
    this.#exclusive(Effect.suspend(() => {
      const { session } = this.#dialogue
      const login = Effect.map(SmtpLogin.login(session, credentials, this.#options), (loggedIn) => {
        this.#report = securityReport.make(session, this.#options, loggedIn)
      })
      // RFC 4954 §4: no AUTH inside a mail transaction.
      return this.#dialogue.needsReset ? Effect.andThen(SmtpTransaction.reset(this.#dialogue), login) : login
    }))

  readonly send = <E = never, R = never>(
    input: Envelope.Input,
    content: message.Message<E, R>
  ): Effect.Effect<outcome.SendResult, SmtpError.SendError | E, R> =>
    Effect.suspend(() => {
      const envelope = Envelope.parse(input)
      if (Result.isFailure(envelope)) return Effect.fail(envelope.failure)
      const problem = message.problemOf(content)
      if (problem !== undefined) return Effect.fail(problem)
      let hasBegun = false
      const turn = Effect.suspend(() => {
        hasBegun = true
        // Encoded when its turn has come: those who wait hold no copy each.
        return this.#transact(envelope.success, message.fromMessage(content))
      })
      const step = () => hasBegun ? this.#wire.step : undefined
      return withTotal(this.#exclusive(turn), this.#options.deadlines.total, step)
    })

  #transact<E, R>(
    envelope: Envelope.Envelope,
    source: message.Source<E, R>
  ): Effect.Effect<outcome.SendResult, SmtpError.SendError | E, R> {
    return Effect.suspend(() => {
      const plan = SmtpTransaction.plan({
        envelope,
        capabilities: this.capabilities,
        trusted: this.#dialogue.session.trusted,
        content: source._tag === "Whole" ? source : undefined
      })
      return Result.isFailure(plan)
        ? Effect.fail(plan.failure)
        : Effect.map(
          SmtpTransaction.run(this.#dialogue, plan.success, source, envelope.requireAllRecipients),
          (sent) => ({ ...sent, security: this.#report })
        )
    })
  }

  readonly sendAll = <E, R, E2 = never, R2 = never>(
    mails: Stream.Stream<Mail<E2, R2>, E, R>
  ): Stream.Stream<Result.Result<outcome.SendResult, SmtpError.SendError | E2>, E, R | R2> =>
    Stream.transformPull(mails, (pull) =>
      Effect.sync(() => {
        let pulled: ReadonlyArray<Mail<E2, R2>> = []
        let next = 0
        let isLossTold = false
        return Effect.gen({ self: this }, function*() {
          while (next === pulled.length) {
            // A loss that no Result has told of is told by the next mail: a stream that just ended would hide it.
            if (isLossTold) return yield* Cause.done()
            pulled = yield* pull
            next = 0
          }
          const mail = pulled[next++]!
          const result = yield* Effect.result(this.send(mail.envelope, mail.message))
          isLossTold = this.#wire.failure !== undefined && Result.isFailure(result)
          return [result] as const
        })
      })) as Stream.Stream<Result.Result<outcome.SendResult, SmtpError.SendError | E2>, E, R | R2>

  readonly reset: Effect.Effect<void, SmtpError.WireError> = Effect.suspend(() =>
    this.#exclusive(SmtpTransaction.reset(this.#dialogue))
  )

  readonly noop: Effect.Effect<void, SmtpError.WireError> = Effect.suspend(() =>
    this.#exclusive(Effect.flatMap(
      this.#wire.command({ _tag: "Noop" }, { stage: "NOOP" }),
      (reply): Effect.Effect<void, SmtpError.WireError> => {
        if (reply.code >= 200 && reply.code < 300) return Effect.void
        this.#wire.fail({ _tag: "Released" })
        return Effect.fail(SmtpError.classify({ _tag: "Refused", reply }, { stage: "NOOP" }) as SmtpError.WireError)
      }
    ))
  )

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

  readonly vrfy = (mailbox: string) => this.#ask("vrfy.mailbox", { _tag: "Vrfy", text: mailbox })
  readonly expn = (list: string) => this.#ask("expn.list", { _tag: "Expn", text: list })
  readonly help = (topic?: string) => this.#ask("help.topic", { _tag: "Help", text: topic })

  /** A wire that has failed writes nothing; one that nobody uses and that has not is ready. */
  readonly #goodbye: Effect.Effect<void> = Effect.suspend(() => this.#wire.command({ _tag: "Quit" }, { stage: "QUIT" }))
    .pipe(
      Effect.exit,
      Effect.asVoid,
      Effect.ensuring(Effect.sync(() => this.#wire.fail({ _tag: "Quit" })))
    )

  readonly quit: Effect.Effect<void> = Effect.suspend(() => this.#turn.withPermits(1)(this.#goodbye))

  /** What the scope does before it frees the wire: QUIT, when nobody is in the middle of something. */
  readonly release = (isInterrupted: boolean): Effect.Effect<void> => {
    const goodbye = isInterrupted ? Effect.sync(() => this.#wire.leave()) : Effect.interruptible(this.#goodbye)
    return Effect.ignoreCause(this.#turn.withPermitsIfAvailable(1)(goodbye))
  }
}

const open = Effect.fnUntraced(function*(resolved: options.Resolved) {
  const session = yield* SmtpHandshake.open(resolved)
  const connection = new Connection(session, resolved)
  yield* Effect.addFinalizer((exit) => connection.release(Exit.isFailure(exit) && Cause.hasInterrupts(exit.cause)))
  if (resolved.auth !== undefined) yield* connection.login(resolved.auth)
  return connection as SmtpConnection
})

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
  Effect.flatMap(
    Effect.fromResult(options.resolve(input)),
    (resolved) => withTotal(scopedOnFailure(open(resolved)), resolved.deadlines.total)
  )
