/**
 * One message many times over the connections of a pool, and a tally of what became of it.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { PlatformError } from "effect/PlatformError"
import type * as Envelope from "../Envelope.ts"
import type * as SmtpClient from "../SmtpClient.ts"
import type * as SmtpConnection from "../SmtpConnection.ts"
import * as SmtpError from "../SmtpError.ts"
import { errorJson, ExitCode, exitCodeOf } from "./frame.ts"
import type { Content } from "./sendMessage.ts"

/** What became of the messages. */
export interface Tally {
  readonly wanted: number
  /** Taken for every recipient. */
  sent: number
  /** Taken for some. */
  partial: number
  failed: number
  /** Of those that failed or were broken off. */
  inDoubt: number
  octets: number
  /** One error of each kind, and how many there were. */
  readonly errors: Map<string, { count: number; readonly error: SmtpError.SmtpError | PlatformError }>
}

export const emptyTally = (wanted: number): Tally => ({
  wanted,
  sent: 0,
  partial: 0,
  failed: 0,
  inDoubt: 0,
  octets: 0,
  errors: new Map()
})

/** How many are told of. */
export const doneOf = ({ failed, partial, sent }: Tally): number => sent + partial + failed

const countError = (tally: Tally, error: SmtpError.SmtpError | PlatformError): void => {
  const kind = SmtpError.isSmtpError(error) ? `${error._tag} ${error.command} ${error.responseCode ?? ""}` : error._tag
  const known = tally.errors.get(kind)
  if (known === undefined) tally.errors.set(kind, { count: 1, error })
  else known.count++
}

/** What is known of a send that was broken off. */
export const outcomeOf = (cause: Cause.Cause<unknown>): Context.Service.Shape<typeof SmtpError.Outcome> =>
  Context.getOrUndefined(Cause.annotations(cause), SmtpError.Outcome) ?? { inDoubt: false }

type Failed = SmtpError.SmtpError | PlatformError

const count = (tally: Tally, exit: Exit.Exit<SmtpConnection.SendResult, Failed>): void => {
  if (Exit.isSuccess(exit)) {
    tally.octets += exit.value.messageSize
    if (exit.value.rejected.length === 0) tally.sent++
    else tally.partial++
    for (const error of exit.value.rejectedErrors) countError(tally, error)
    return
  }
  const error = Cause.findErrorOption(exit.cause)
  if (error._tag === "None") {
    if (outcomeOf(exit.cause).inDoubt) tally.inDoubt++
    return
  }
  tally.failed++
  if (SmtpError.isSmtpError(error.value) && error.value.inDoubt) tally.inDoubt++
  countError(tally, error.value)
}

/** What fails elsewhere concerns the connection, and so every message. */
const commandsOfMessage: ReadonlySet<string> = new Set(["API", "MAIL FROM", "RCPT TO", "DATA", "BDAT", "RSET"])

const isOfMessage = (error: Failed): boolean =>
  !SmtpError.isSmtpError(error) ||
  (commandsOfMessage.has(error.command) && (error.attempted || error._tag !== "ECONNECTION"))

/** Sends until all are told of. What cannot connect at all is told once, and its worker gives up. */
export const sendMany = Effect.fnUntraced(function*(
  client: SmtpClient.Client,
  envelope: Envelope.Input,
  content: Content,
  tally: Tally,
  concurrency: number
) {
  const begun = yield* Clock.currentTimeMillis
  const queue = { left: tally.wanted }
  const note = (exit: Exit.Exit<SmtpConnection.SendResult, Failed>): void => {
    const error = Exit.findErrorOption(exit)
    if (error._tag === "None" || isOfMessage(error.value)) return count(tally, exit)
    queue.left++
    countError(tally, error.value)
  }
  const one = Effect.suspend(() => {
    queue.left--
    return client.send(envelope, content.open()).pipe(
      Effect.onExit((exit) => Effect.sync(() => note(exit))),
      Effect.match({ onFailure: isOfMessage, onSuccess: () => true })
    )
  })
  const worker = Effect.gen(function*() {
    while (queue.left > 0 && (yield* one)) yield* Effect.yieldNow
  })
  yield* Effect.all(Array.from({ length: Math.min(concurrency, tally.wanted) }, () => worker), {
    concurrency: "unbounded",
    discard: true
  })
  return (yield* Clock.currentTimeMillis) - begun
})

/** The tally as `--json` shows it. */
export const tallyJson = (tally: Tally, millis: number): Readonly<Record<string, unknown>> => ({
  wanted: tally.wanted,
  sent: tally.sent,
  partial: tally.partial,
  failed: tally.failed,
  inDoubt: tally.inDoubt,
  notAttempted: tally.wanted - doneOf(tally),
  octets: tally.octets,
  millis,
  errors: [...tally.errors.values()].map(({ count, error }) => ({
    count,
    error: SmtpError.isSmtpError(error) ? errorJson(error) : { message: error.message }
  }))
})

/** 75 only when none was taken and all may be sent again. */
export const exitCodeOfTally = (tally: Tally): number => {
  if (tally.sent === tally.wanted) return ExitCode.ok
  if (tally.inDoubt > 0) return ExitCode.io
  const [first] = tally.errors.values()
  if (tally.sent + tally.partial > 0 || first === undefined) return ExitCode.unavailable
  return SmtpError.isSmtpError(first.error) ? exitCodeOf(first.error) : ExitCode.io
}
