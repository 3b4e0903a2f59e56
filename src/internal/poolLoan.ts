/**
 * A connection as `use` lends it: the same commands, until the loan ends.
 */
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import type * as Envelope from "../Envelope.ts"
import type * as Sasl from "../Sasl.ts"
import type { SmtpCapabilities } from "../SmtpCapabilities.ts"
import type { Mail, SmtpConnection } from "../SmtpConnection.ts"
import type { TlsInfo } from "../SmtpConnector.ts"
import type * as SmtpError from "../SmtpError.ts"
import type { SmtpReply } from "../SmtpReply.ts"
import type { Message } from "./message.ts"
import type { SendResult } from "./outcome.ts"
import * as poolErrors from "./poolErrors.ts"
import type { SecurityReport } from "./securityReport.ts"

/** What a loan did to its connection. */
export interface Marks {
  /** Messages it began. */
  served: number
  /** The connection is for nobody else: it has another identity now, said QUIT, or is still at work. */
  isSpent: boolean
}

export class Loan implements SmtpConnection {
  readonly #connection: SmtpConnection
  readonly #marks: Marks
  #running = 0
  #hasEnded = false

  constructor(connection: SmtpConnection, marks: Marks) {
    this.#connection = connection
    this.#marks = marks
  }

  get greeting(): SmtpReply {
    return this.#connection.greeting
  }
  get capabilities(): SmtpCapabilities {
    return this.#connection.capabilities
  }
  get secure(): boolean {
    return this.#connection.secure
  }
  get security(): Option.Option<TlsInfo> {
    return this.#connection.security
  }
  get securityReport(): SecurityReport {
    return this.#connection.securityReport
  }
  get isUsable(): boolean {
    return !this.#hasEnded && this.#connection.isUsable
  }

  /** The loan is over: what goes on with the connection beyond it spoils it for others. */
  end(): void {
    this.#hasEnded = true
    if (this.#running > 0) this.#marks.isSpent = true
  }

  readonly #done = Effect.sync(() => {
    this.#running--
  })

  #call<A, E, R>(call: () => Effect.Effect<A, E, R>): Effect.Effect<A, E | SmtpError.ECONNECTION, R> {
    return Effect.suspend((): Effect.Effect<A, E | SmtpError.ECONNECTION, R> => {
      if (this.#hasEnded) return Effect.fail(poolErrors.givenBack())
      this.#running++
      return Effect.ensuring(call(), this.#done)
    })
  }

  readonly login = (credentials: Sasl.Credentials): Effect.Effect<void, SmtpError.LoginError> =>
    this.#call(() => {
      this.#marks.isSpent = true
      return this.#connection.login(credentials)
    })

  readonly send = <E = never, R = never>(
    envelope: Envelope.Input,
    message: Message<E, R>
  ): Effect.Effect<SendResult, SmtpError.SendError | E, R> =>
    this.#call(() => {
      this.#marks.served++
      return this.#connection.send(envelope, message)
    })

  readonly sendAll = <E, R, E2 = never, R2 = never>(
    mails: Stream.Stream<Mail<E2, R2>, E, R>
  ): Stream.Stream<Result.Result<SendResult, SmtpError.SendError | E2>, E, R | R2> =>
    Stream.suspend((): Stream.Stream<Result.Result<SendResult, SmtpError.SendError | E2>, E, R | R2> => {
      if (this.#hasEnded) return Stream.map(Stream.take(mails, 1), () => Result.fail(poolErrors.givenBack()))
      this.#running++
      const counted = Stream.map(mails, (mail) => {
        this.#marks.served++
        return mail
      })
      return Stream.ensuring(this.#connection.sendAll(counted), this.#done)
    })

  readonly reset: Effect.Effect<void, SmtpError.WireError> = this.#call(() => this.#connection.reset)
  readonly noop: Effect.Effect<void, SmtpError.WireError> = this.#call(() => this.#connection.noop)
  readonly vrfy = (mailbox: string) => this.#call(() => this.#connection.vrfy(mailbox))
  readonly expn = (list: string) => this.#call(() => this.#connection.expn(list))
  readonly help = (topic?: string) => this.#call(() => this.#connection.help(topic))

  readonly quit: Effect.Effect<void> = Effect.suspend(() => {
    if (this.#hasEnded) return Effect.void
    this.#marks.isSpent = true
    return this.#connection.quit
  })
}
