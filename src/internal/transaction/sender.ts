/**
 * The sends of one connection: they take turns, and one mail becomes as many transactions as it needs.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { identity } from "effect/Function"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import * as Envelope from "../../Envelope.ts"
import type { Limits, SmtpCapabilities } from "../../SmtpCapabilities.ts"
import * as SmtpError from "../../SmtpError.ts"
import { plan } from "../../SmtpTransaction.ts"
import { withTotal } from "../deadline.ts"
import * as message from "../message.ts"
import type { Resolved } from "../options.ts"
import * as outcome from "../outcome.ts"
import type { SecurityReport } from "../securityReport.ts"
import { type Steps, stepsOf } from "../telemetry/phases.ts"
import { Turn } from "../turn.ts"
import { advance, isPlain, waiting } from "./advance.ts"
import { conclude, deliver, nothingBehind, type Restore } from "./deliver.ts"
import type { Dialogue, Run } from "./model.ts"
import { budgetOf, make as makeRun } from "./run.ts"
import { type Desk, sendAll } from "./sendAll.ts"
import * as spread from "./spread.ts"
import { chooseVia } from "./via.ts"

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

/** What can be known of a mail without a connection. */
const parse = (
  { envelope, message: content }: Mail<unknown, unknown>
): Result.Result<Envelope.Envelope, SmtpError.EENVELOPE | SmtpError.EMESSAGE> => {
  const parsed = Envelope.parse(envelope)
  const problem = Result.isSuccess(parsed) ? message.problemOf(content) : undefined
  return problem === undefined ? parsed : Result.fail(problem)
}

const usedUp = ({ mailMax }: Limits): SmtpError.ECONNECTION =>
  new SmtpError.ECONNECTION({
    command: "API",
    attempted: false,
    temporary: true,
    message: `API: the server takes ${mailMax} transactions in one connection (LIMITS); open another`
  })

/** Who knows what secures the connection. */
interface Secured {
  readonly securityReport: SecurityReport
}

export class Sender {
  readonly turn = new Turn()
  readonly #dialogue: Dialogue
  readonly #options: Resolved
  readonly #secures: Secured

  constructor(dialogue: Dialogue, options: Resolved, secures: Secured) {
    this.#dialogue = dialogue
    this.#options = options
    this.#secures = secures
  }

  get #wire() {
    return this.#dialogue.session.wire
  }

  get #capabilities(): SmtpCapabilities {
    return this.#dialogue.session.capabilities
  }

  /** Nobody counts the time of a whole call. */
  get #isSwift(): boolean {
    return !Number.isFinite(this.#options.deadlines.total)
  }

  /** The server takes no more transactions on this connection (MAILMAX, RFC 9422). */
  get isUsedUp(): boolean {
    const { mailMax } = this.#capabilities.limits
    return mailMax !== undefined && this.#dialogue.transactions >= mailMax
  }

  /** The end of a turn. One that is left while a reply is owed leaves no usable connection. */
  #leave(exit: Exit.Exit<unknown, unknown>): void {
    if (!this.#wire.isReady) this.#wire.fail({ _tag: "Released" })
    if (Exit.isFailure(exit)) this.#wire.retire()
  }

  /** One call at a time. */
  exclusive<A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return this.turn.within(Effect.onExit(self, (exit) => Effect.sync(() => this.#leave(exit))))
  }

  send<E = never, R = never>(
    envelope: Envelope.Input,
    content: message.Message<E, R>
  ): Effect.Effect<outcome.SendResult, SmtpError.SendError | E, R> {
    return Effect.suspend(() => {
      const parsed = parse({ envelope, message: content })
      if (Result.isFailure(parsed)) return Effect.fail(parsed.failure)
      if (this.#isSwift && spread.fitsOne(parsed.success.recipients, this.#capabilities.limits)) {
        return this.#swiftly(parsed.success, content)
      }
      return this.#inTurn(parsed.success, content)
    })
  }

  #inTurn<E, R>(
    envelope: Envelope.Envelope,
    content: message.Message<E, R>
  ): Effect.Effect<outcome.SendResult, SmtpError.SendError | E, R> {
    return Effect.suspend(() => {
      let hasBegun = false
      const turn = Effect.suspend(() => {
        hasBegun = true
        return this.#transact(envelope, content)
      })
      const step = () => hasBegun ? this.#wire.step : undefined
      return withTotal(this.exclusive(turn), this.#options.deadlines.total, step)
    })
  }

  /** Who finds nobody before him takes as few steps as the dialogue allows. */
  #swiftly<E, R>(
    envelope: Envelope.Envelope,
    content: message.Message<E, R>
  ): Effect.Effect<outcome.SendResult, SmtpError.SendError | E, R> {
    let hasTurn = false
    const turn = Effect.withFiber((fiber) => {
      hasTurn = this.turn.tryTake()
      if (!hasTurn) return this.#inTurn(envelope, content)
      const run = this.#prepare(envelope, content, stepsOf(fiber))
      return Result.isFailure(run) ? Effect.fail(run.failure) : this.#drive(run.success, envelope, content)
    })
    return Effect.onExit(turn, (exit) =>
      Effect.sync(() => {
        if (!hasTurn) return
        this.#leave(exit)
        this.turn.release()
      }))
  }

  #drive<E, R>(
    run: Run<E, R>,
    envelope: Envelope.Envelope,
    content: message.Message<E, R>
  ): Effect.Effect<outcome.SendResult, SmtpError.SendError | E, R> {
    // Between the octets and the wait for their reply nothing may interrupt: it would look like one before the octets.
    return Effect.uninterruptibleMask((restore) => {
      const go: Effect.Effect<outcome.SendResult, SmtpError.SendError | E, R> = Effect.suspend(() => {
        const far = isPlain(run) ? advance(run, nothingBehind) : "left"
        if (far === "done") return Effect.fromResult(this.#concluded(run))
        if (far === "wait") return Effect.andThen(waiting(run, restore), go)
        return this.#finished(deliver(run, nothingBehind, restore), envelope, content, restore)
      })
      return go
    })
  }

  /** Encoded when its turn has come: those who wait hold no copy each. */
  #prepare<E, R>(
    envelope: Envelope.Envelope,
    content: message.Message<E, R>,
    tell?: Steps
  ): Result.Result<Run<E, R>, SmtpError.SendError> {
    if (this.isUsedUp) return Result.fail(usedUp(this.#capabilities.limits))
    const via = chooseVia(envelope, content, this.#capabilities, this.#options.chunking)
    const source = message.fromMessage(content, envelope.binaryMime ? "BINARYMIME" : via)
    const planned = plan({
      envelope,
      capabilities: this.#capabilities,
      trusted: this.#dialogue.session.trusted,
      content: source._tag === "Whole" ? source : undefined,
      via
    })
    return Result.map(planned, (known) => makeRun(this.#dialogue, known, source, envelope.requireAllRecipients, tell))
  }

  /** One transaction. */
  #one<E, R>(
    envelope: Envelope.Envelope,
    content: message.Message<E, R>
  ): Effect.Effect<outcome.Sent, SmtpError.SendError | E, R> {
    return Effect.withFiber((fiber) => {
      const run = this.#prepare(envelope, content, stepsOf(fiber))
      return Result.isFailure(run) ? Effect.fail(run.failure) : deliver(run.success)
    })
  }

  /** One transaction, or as many as it takes for all the recipients. */
  #transact<E, R>(
    envelope: Envelope.Envelope,
    content: message.Message<E, R>
  ): Effect.Effect<outcome.SendResult, SmtpError.SendError | E, R> {
    const { limits } = this.#capabilities
    if (spread.fitsOne(envelope.recipients, limits)) {
      return this.#finished(this.#one(envelope, content), envelope, content)
    }
    const all = spread.spread(envelope, limits, message.isReplayable(content), this.#part(envelope, content))
    return Effect.map(all, (sent) => this.#secured(sent))
  }

  /** A transaction for some of the recipients. */
  #part<E, R>(envelope: Envelope.Envelope, content: message.Message<E, R>) {
    return (recipients: spread.Members) => this.#one({ ...envelope, recipients }, content)
  }

  /** A transaction for all, and others for whom it had no room. */
  #finished<E, R>(
    first: Effect.Effect<outcome.Sent, SmtpError.SendError | E, R>,
    envelope: Envelope.Envelope,
    content: message.Message<E, R>,
    restore: Restore = identity
  ): Effect.Effect<outcome.SendResult, SmtpError.SendError | E, R> {
    const isReplayable = message.isReplayable(content)
    const all = Effect.flatMap(
      first,
      (sent) =>
        spread.hasRest(sent)
          ? restore(spread.spreadRest(envelope, sent, isReplayable, this.#part(envelope, content)))
          : Effect.succeed(sent)
    )
    return Effect.map(all, (sent) => this.#secured(sent))
  }

  /** The result of a run whose replies were all positive. */
  #concluded<E, R>(run: Run<E, R>): Result.Result<outcome.SendResult, SmtpError.SendError> {
    const size = run.source._tag === "Whole" ? run.source.size : 0
    return Result.map(conclude(run, size, undefined), (sent) => this.#secured(sent))
  }

  #secured(sent: outcome.Sent): outcome.SendResult {
    const { accepted, messageSize, omitted, rejected, rejectedErrors, reply, response } = sent
    const security = this.#secures.securityReport
    return { accepted, rejected, rejectedErrors, reply, response, messageSize, omitted, security }
  }

  sendAll<E, R, E2 = never, R2 = never>(
    mails: Stream.Stream<Mail<E2, R2>, E, R>
  ): Stream.Stream<Result.Result<outcome.SendResult, SmtpError.SendError | E2>, E, R | R2> {
    return Stream.transformPull(mails, (pull, scope) => sendAll(this.#desk<E2, R2>(), pull, scope)) as Stream.Stream<
      Result.Result<outcome.SendResult, SmtpError.SendError | E2>,
      E,
      R | R2
    >
  }

  #desk<E, R>(): Desk<Mail<E, R>, E, R> {
    const total = this.#options.deadlines.total
    const step = () => this.#wire.step
    return {
      wire: this.#wire,
      prepare: (mail) => {
        const parsed = parse(mail)
        if (Result.isFailure(parsed)) return { _tag: "Failed", error: parsed.failure }
        if (!spread.fitsOne(parsed.success.recipients, this.#capabilities.limits)) return { _tag: "Alone" }
        const run = this.#prepare(parsed.success, mail.message)
        if (Result.isFailure(run)) return { _tag: "Failed", error: run.failure }
        return { _tag: "Run", run: run.success }
      },
      conclude: (run) => this.#concluded(run),
      isPlain: this.#isSwift,
      deliver: (run, behind) => withTotal(Effect.map(deliver(run, behind), (sent) => this.#secured(sent)), total, step),
      rest: (mail, sent) => {
        if (!spread.hasRest(sent)) return undefined
        const envelope = Result.getOrThrow(parse(mail))
        const isReplayable = message.isReplayable(mail.message)
        const all = spread.spreadRest(envelope, sent, isReplayable, this.#part(envelope, mail.message))
        return withTotal(Effect.map(all, (merged) => this.#secured(merged)), total, step)
      },
      alone: (mail) =>
        withTotal(
          Effect.suspend(() => this.#transact(Result.getOrThrow(parse(mail)), mail.message)),
          total,
          step
        ),
      take: (restore) => this.turn.take(restore),
      release: () => this.turn.release(),
      isWanted: () => this.turn.isWanted,
      onWanted: (listen) => {
        this.turn.onWanted = listen
      },
      overlaps: () => budgetOf({ dialogue: this.#dialogue }) > 1
    }
  }
}
