/**
 * Who waits on a wire: for a reply, until the transport takes more, or for its failure alone.
 */
import * as Effect from "effect/Effect"
import type * as SmtpError from "../SmtpError.ts"

/** What is waited for. */
type For = "reply" | "drain" | "failure"

interface Waiter {
  readonly kind: For
  readonly resume: (effect: Effect.Effect<never, SmtpError.SmtpError> | Effect.Effect<void>) => void
  /** Where he stands, for the error that the wait may end in. */
  readonly where: SmtpError.Where
}

export class Waiters {
  readonly #all: Array<Waiter> = []

  /** Waits, unless `now` says that there is nothing to wait for. */
  wait<E extends SmtpError.SmtpError>(
    kind: For,
    where: SmtpError.Where,
    now: () => Effect.Effect<void, E> | undefined
  ): Effect.Effect<void, E> {
    return Effect.callback((resume) => {
      const known = now()
      if (known !== undefined) return resume(known)
      const waiter: Waiter = { kind, resume: resume as Waiter["resume"], where }
      this.#all.push(waiter)
      return Effect.sync(() => {
        const at = this.#all.indexOf(waiter)
        if (at >= 0) this.#all.splice(at, 1)
      })
    })
  }

  /** Wakes him who waits for this. */
  wake(kind: "reply" | "drain"): void {
    const at = this.#all.findIndex((waiter) => waiter.kind === kind)
    if (at >= 0) this.#all.splice(at, 1)[0]!.resume(Effect.void)
  }

  /** All waits end in an error. */
  end(error: (where: SmtpError.Where) => SmtpError.SmtpError): void {
    for (const { resume, where } of this.#all.splice(0)) resume(Effect.fail(error(where)))
  }
}
