/**
 * The calls of a pool: a send with its one retry, a loan, many mails at once.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import type * as Envelope from "../Envelope.ts"
import type { SmtpConnection } from "../SmtpConnection.ts"
import type { SmtpConnector } from "../SmtpConnector.ts"
import type * as SmtpError from "../SmtpError.ts"
import { alarm } from "./alarm.ts"
import { noting, withTotal } from "./deadline.ts"
import type { Message } from "./message.ts"
import type { SendResult } from "./outcome.ts"
import { Core, type DialError, type Member, type Place } from "./poolCore.ts"
import { type Event, makeCounters, type Stats } from "./poolEvents.ts"
import { Loan } from "./poolLoan.ts"
import type { Resolved } from "./poolOptions.ts"
import { mayRenew, type Source, watched } from "./poolRetry.ts"
import { type Results, spread, type Stream as Mails } from "./poolSpread.ts"
import type { Each } from "./telemetry/observe.ts"

/** What a send through a pool ends in, beside the errors of the message's own stream. */
export type PoolError = DialError | SmtpError.SendError

/** Is told what a send ended in, unless it was interrupted. */
type Note = (exit: Exit.Exit<SendResult, unknown>) => void

export interface Engine {
  readonly send: <E = never, R = never>(
    envelope: Envelope.Input,
    message: Message<E, R>,
    note: Note,
    reached?: ((connection: SmtpConnection) => void) | undefined
  ) => Effect.Effect<SendResult, PoolError | E, R>
  readonly sendAll: <E, R, E2 = never, R2 = never>(mails: Mails<E, R, E2, R2>, each?: Each) => Results<E, R, E2, R2>
  readonly use: <A, E, R>(
    f: (connection: SmtpConnection) => Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | DialError, R>
  /** How the pool stands now, for gauges that are read from outside Effect. */
  readonly read: () => Stats
  readonly isClosed: () => boolean
}

/** How far a send has come, as an `ETIMEDOUT` of the total deadline shows it; undefined while it waits for its turn. */
interface Progress {
  step: string | undefined
  readonly reached: ((connection: SmtpConnection) => void) | undefined
}

const begin = <E, R>(
  member: Member,
  progress: Progress,
  envelope: Envelope.Input,
  source: Source<E, R>
): Effect.Effect<SendResult, SmtpError.SendError | E, R> => {
  progress.step = "MAIL FROM"
  member.served++
  progress.reached?.(member.connection)
  return member.connection.send(envelope, source.message)
}

/** On the connection of the place; when that had gone stale, once more on a fresh one. */
const sendOn = <E, R>(
  core: Core,
  place: Place,
  progress: Progress,
  envelope: Envelope.Input,
  source: Source<E, R>
): Effect.Effect<SendResult, PoolError | E, R> => {
  const fresh = Effect.suspend(() => {
    progress.step = "CONN"
    return Effect.flatMap(core.renew(place), (member) => begin(member, progress, envelope, source))
  })
  const member = core.reuse(place)
  if (member === undefined) return fresh
  return Effect.catch(
    begin(member, progress, envelope, source),
    (error): Effect.Effect<SendResult, PoolError | E, R> => {
      if (!mayRenew(error, source)) return Effect.fail(error)
      core.tell({ _tag: "Retried", error })
      return fresh
    }
  )
}

const useOn = <A, E, R>(
  core: Core,
  place: Place,
  f: (connection: SmtpConnection) => Effect.Effect<A, E, R>
): Effect.Effect<A, E | DialError, R> =>
  Effect.flatMap(core.ensure(place), (member) => {
    const loan = new Loan(member.connection, member)
    return Effect.ensuring(Effect.suspend(() => f(loan)), Effect.sync(() => loan.end()))
  })

const statsOf = (
  { idle, size, waiting }: Core,
  { closed, opened, refused, retried, reused }: Omit<Stats, "size" | "idle" | "waiting">
): Stats => ({ size, idle, waiting, opened, closed, reused, retried, refused })

/** What an engine is made from. */
interface Options {
  readonly policy: Resolved
  /** `timeouts.total`, in milliseconds. */
  readonly total: number
  readonly connect: Effect.Effect<SmtpConnection, DialError, Scope.Scope | SmtpConnector>
  readonly onEvent?: ((event: Event) => void) | undefined
}

/** Makes the calls over a pool that the scope owns. */
export const make = Effect.fnUntraced(function*(
  { connect, onEvent, policy, total }: Options
): Effect.fn.Return<Engine, never, Scope.Scope | SmtpConnector> {
  const counters = makeCounters()
  const core = new Core({
    policy,
    connect,
    context: yield* Effect.context<SmtpConnector>(),
    clock: yield* Clock.Clock,
    alarm: yield* alarm,
    onEvent: onEvent === undefined ? counters.count : (event) => {
      counters.count(event)
      onEvent(event)
    }
  })
  yield* Effect.addFinalizer(core.shutdown)
  yield* core.start
  return {
    read: () => statsOf(core, counters),
    isClosed: () => core.isClosed,
    send: (envelope, message, note, reached) =>
      Effect.suspend(() => {
        const progress: Progress = { step: undefined, reached }
        const source = watched(message)
        let ended: Exit.Exit<SendResult, SmtpError.SmtpError> | undefined
        const run = core.borrow((place) =>
          noting(sendOn(core, place, progress, envelope, source), (exit) => {
            ended = exit as typeof ended
            note(exit)
          })
        )
        const step = (isHandedOver: boolean) => isHandedOver ? undefined : progress.step
        return withTotal(run, total, step, () => ended as never)
      }),
    use: (f) => core.borrow((place) => useOn(core, place, f)),
    sendAll: (mails, each) => spread(core, policy, mails, each)
  }
})
