/**
 * The calls of a pool with their spans and metrics: what a client and `SmtpPool` are made of.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type * as Envelope from "../Envelope.ts"
import * as SmtpConnection from "../SmtpConnection.ts"
import type { SmtpConnector } from "../SmtpConnector.ts"
import { withEpilogue } from "./deadline.ts"
import type { Message } from "./message.ts"
import type * as options from "./options.ts"
import type { SendResult } from "./outcome.ts"
import type { DialError } from "./poolCore.ts"
import * as poolEngine from "./poolEngine.ts"
import type { Resolved as Policy } from "./poolOptions.ts"
import type { Results, Stream } from "./poolSpread.ts"
import * as observe from "./telemetry/observe.ts"
import * as telemetry from "./telemetry/pool.ts"

interface Observed extends Pick<poolEngine.Engine, "use" | "read" | "isClosed"> {
  readonly send: <E = never, R = never>(
    envelope: Envelope.Input,
    message: Message<E, R>
  ) => Effect.Effect<SendResult, poolEngine.PoolError | E, R>
  readonly sendAll: <E, R, E2, R2>(mails: Stream<E, R, E2, R2>) => Results<E, R, E2, R2>
  /** A connection beside the pool. */
  readonly connect: Effect.Effect<SmtpConnection.SmtpConnection, DialError, Scope.Scope | SmtpConnector>
}

/** Makes a pool that the scope owns. */
export const make = Effect.fnUntraced(function*(
  input: SmtpConnection.Options,
  resolved: options.Resolved,
  policy: Policy
): Effect.fn.Return<Observed, never, Scope.Scope | SmtpConnector> {
  const target = observe.target(resolved)
  const connect = observe.connect(target, SmtpConnection.make(input))
  const onEvent = telemetry.counting(yield* Effect.context<never>())
  const pool = yield* poolEngine.make({ policy, connect, onEvent, total: resolved.deadlines.total })
  yield* telemetry.observed(pool.read)
  const each = observe.each(target)
  return {
    send: (envelope, message) =>
      observe.send(target, (reached) => withEpilogue((note) => pool.send(envelope, message, note, reached))),
    sendAll: (mails) => pool.sendAll(mails, each),
    use: pool.use,
    read: pool.read,
    isClosed: pool.isClosed,
    connect
  }
})
