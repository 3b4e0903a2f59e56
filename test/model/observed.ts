/** The client as it is: the source of a message, and how a call ended, in the model's terms. */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Stream from "effect/Stream"
import type * as SmtpConnection from "../../src/SmtpConnection.ts"
import * as SmtpError from "../../src/SmtpError.ts"
import { SmtpReply } from "../../src/SmtpReply.ts"

export class SourceFailed extends Data.TaggedError("SourceFailed") {}

/** The stream of a message, pulled by the client and fed by the sequence. */
export class Source {
  waiting: ((effect: Effect.Effect<string | undefined, SourceFailed>) => void) | undefined

  readonly #pull = Effect.callback<string | undefined, SourceFailed>((resume) => {
    this.waiting = resume
    return Effect.sync(() => {
      this.waiting = undefined
    })
  })
  readonly stream: Stream.Stream<string, SourceFailed> = Stream.unfold(
    0,
    () => Effect.map(this.#pull, (chunk) => chunk === undefined ? undefined : [chunk, 0] as const)
  )

  #resume(effect: Effect.Effect<string | undefined, SourceFailed>): void {
    const { waiting } = this
    this.waiting = undefined
    waiting?.(effect)
  }

  /** Gives a chunk; undefined ends the stream. */
  give(chunk: string | undefined): void {
    this.#resume(Effect.succeed(chunk))
  }

  fail(): void {
    this.#resume(Effect.fail(new SourceFailed()))
  }
}

const idOf = (reply: SmtpReply | undefined): string | undefined => reply?.lines[0]?.split(" ")[0]

const refusedOf = (errors: ReadonlyArray<SmtpError.RecipientError> | undefined) =>
  errors?.map(({ _tag, inDoubt, recipient, reply }) => ({ recipient, failed: _tag, reply: idOf(reply), inDoubt }))

/** What the client said in the end, in the model's terms. */
export const observed = (exit: Exit.Exit<unknown, unknown>): unknown => {
  if (Exit.isSuccess(exit)) {
    if (exit.value instanceof SmtpReply) return { ok: true, reply: idOf(exit.value) }
    if (typeof exit.value !== "object" || exit.value === null || !("accepted" in exit.value)) return { ok: true }
    const { accepted, rejectedErrors, reply } = exit.value as SmtpConnection.SendResult
    return { ok: true, reply: idOf(reply), accepted, refused: refusedOf(rejectedErrors) }
  }
  if (Cause.hasInterruptsOnly(exit.cause)) {
    const outcome = Context.getOrUndefined(Cause.annotations(exit.cause), SmtpError.Outcome)
    return outcome === undefined
      ? { interrupted: true }
      : { interrupted: true, outcome: { inDoubt: outcome.inDoubt, reply: idOf(outcome.reply) } }
  }
  if (exit.cause.reasons.some((reason) => reason._tag === "Fail" && reason.error instanceof SourceFailed)) {
    return { failed: "source" }
  }
  const error = SmtpError.fromCause(exit.cause)
  if (error === undefined) throw new Error(`a defect: ${Cause.pretty(exit.cause)}`)
  const { _tag, attempted, command, handedOver, inDoubt, reply } = error
  const refused = "rejectedErrors" in error ? refusedOf(error.rejectedErrors) : undefined
  return { failed: _tag, command, reply: idOf(reply), inDoubt, attempted, handedOver, ...(refused && { refused }) }
}

/** As text that is the same for what is the same; the code of a reply is in its words. */
export const text = (value: unknown): string =>
  JSON.stringify(value, (key, field: unknown) => {
    if (key === "code") return undefined
    const isSource = typeof field === "object" && field !== null && "failed" in field && field.failed === "source"
    return isSource ? { failed: "source" } : sorted(field)
  })

const sorted = (value: unknown): unknown =>
  typeof value !== "object" || value === null || Array.isArray(value)
    ? value
    : Object.fromEntries(Object.entries(value).toSorted(([a], [b]) => a < b ? -1 : 1))
