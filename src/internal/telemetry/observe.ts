/**
 * A send and a connection, seen from outside: one span each, and the metrics of what became of them.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type * as Result from "effect/Result"
import * as Tracer from "effect/Tracer"
import * as metrics from "../metrics.ts"
import type { Resolved } from "../options.ts"
import type { SendResult } from "../outcome.ts"
import type { SecurityReport } from "../securityReport.ts"
import { annotate, annotateError, annotateSeen, type Attributes, ofConnection, ofServer } from "./attributes.ts"
import { errorTypeOf } from "./errorType.ts"
import { ofExit } from "./outcome.ts"
import type { AnyFiber } from "./phases.ts"

/** What the spans of one client have in common. */
interface Target {
  readonly kind: "client"
  readonly attributes: Attributes
}

export const target = (resolved: Resolved): Target => ({ kind: "client", attributes: ofServer(resolved) })

/** A connection, as far as spans tell of it. */
interface Reached {
  readonly securityReport: SecurityReport
}

/** How many times the send was tried before; see `again`. */
const Resends = Context.Reference<number>("effect-smtp/internal/Resends", { defaultValue: () => 0 })

/** A send under way. */
export interface Observing {
  readonly span: Tracer.Span | undefined
  readonly clock: Clock.Clock
  readonly context: Context.Context<never>
  /** In nanoseconds of the monotonic clock. */
  readonly begun: bigint
}

const begin = (fiber: AnyFiber, span: Tracer.Span | undefined): Observing => {
  const clock = fiber.getRef(Clock.Clock)
  return { span, clock, context: fiber.context, begun: clock.monotonicTimeNanosUnsafe() }
}

const conclude = ({ begun, clock, context, span }: Observing, exit: Exit.Exit<SendResult, unknown>): void => {
  const seen = ofExit(exit)
  metrics.sent(context, seen, Number(clock.monotonicTimeNanosUnsafe() - begun) / 1e6)
  if (span?.sampled !== true) return
  annotateSeen(span, seen)
  const resends = Context.get(context, Resends)
  if (resends > 0) span.attribute("smtp.resend_count", resends)
}

const reach = (span: Tracer.Span, { securityReport }: Reached): void => {
  if (span.sampled) annotate(span, ofConnection(securityReport))
}

/** A call that tells which connection it got, where somebody wants to know. */
type Run<E, R> = (reached: ((connection: Reached) => void) | undefined) => Effect.Effect<SendResult, E, R>

const concluding = <E, R>(observing: Observing, self: Effect.Effect<SendResult, E, R>) =>
  Effect.onExitPrimitive(self, (exit) => {
    conclude(observing, exit)
    return undefined
  })

/** Without a tracer of somebody's, spans are for nobody: that saves a send two thirds of what it costs to be seen. */
const isTraced = ({ cache }: AnyFiber): boolean => cache.tracer !== undefined

/** One send: a span of kind client, and metrics. */
export const send = <E, R>(target: Target, run: Run<E, R>): Effect.Effect<SendResult, E, R> =>
  Effect.withFiber((fiber) => {
    if (!isTraced(fiber)) return concluding(begin(fiber, undefined), run(undefined))
    return Effect.useSpan("smtp.send", target, (span) => {
      const sending = Effect.provideService(run((connection) => reach(span, connection)), Tracer.ParentSpan, span)
      return concluding(begin(fiber, span), sending)
    })
  })

/** The sends of a `sendAll`, which begin and end inside one effect. */
export interface Each {
  readonly begin: Effect.Effect<Observing>
  readonly reached: (one: Observing, connection: Reached) => void
  /** Undefined: nobody waited for the outcome. */
  readonly end: (one: Observing, outcome: Result.Result<SendResult, unknown> | undefined) => void
}

const exitOf = (outcome: Result.Result<SendResult, unknown> | undefined): Exit.Exit<SendResult, unknown> => {
  if (outcome === undefined) return Exit.interrupt()
  return outcome._tag === "Success" ? Exit.succeed(outcome.success) : Exit.fail(outcome.failure)
}

export const each = (target: Target): Each => ({
  begin: Effect.withFiber((fiber) => {
    if (!isTraced(fiber)) return Effect.succeed(begin(fiber, undefined))
    return Effect.map(Effect.makeSpan("smtp.send", target), (span) => begin(fiber, span))
  }),
  reached: ({ span }, connection) => {
    if (span !== undefined) reach(span, connection)
  },
  end: (one, outcome) => {
    const exit = exitOf(outcome)
    conclude(one, exit)
    one.span?.end(one.clock.currentTimeNanosUnsafe(), exit)
  }
})

/** One connection that is opened: a span of kind client. Its metrics are the connection's own. */
export const connect = <A extends Reached, E, R>(
  target: Target,
  self: Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.useSpan(
    "smtp.connect",
    target,
    (span) =>
      Effect.onExitPrimitive(Effect.provideService(self, Tracer.ParentSpan, span), (exit) => {
        if (Exit.isSuccess(exit)) reach(span, exit.value)
        else if (!Cause.hasInterruptsOnly(exit.cause)) annotateError(span, Cause.squash(exit.cause))
        return undefined
      })
  )

/** What was opened; its report is made for those who ask for it. */
interface Opened {
  readonly security: Option.Option<{ readonly protocol: string }>
}

const tlsVersionOf = ({ security }: Opened): string =>
  Option.isNone(security) ? "none" : security.value.protocol.replace(/^TLSv/, "")

/** The metrics of a connection that is opened, by whomever. */
export const opening = <A extends Opened, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.withFiber((fiber) =>
    Effect.onExitPrimitive(self, (exit) => {
      if (Exit.isSuccess(exit)) metrics.opened(fiber.context, tlsVersionOf(exit.value))
      else if (!Cause.hasInterruptsOnly(exit.cause)) {
        metrics.notOpened(fiber.context, errorTypeOf(Cause.squash(exit.cause)))
      }
      return undefined
    })
  )

/** A send that is done again, for the `count`th time. */
export const again = <A, E, R>(
  self: Effect.Effect<A, E, R>,
  reason: metrics.RetryReason,
  count: number
): Effect.Effect<A, E, R> =>
  Effect.withFiber((fiber) => {
    metrics.retried(fiber.context, reason)
    return Effect.provideService(self, Resends, count)
  })
