/**
 * Who waits on a wire: for a reply, until the transport takes more, or for its failure alone; and who is told of it.
 */
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as SmtpError from "../SmtpError.ts"

/** What is waited for. */
type For = "reply" | "drain" | "failure"

interface Waiter {
  readonly kind: For
  readonly resume: (effect: Effect.Effect<never, SmtpError.SmtpError>) => void
  readonly wake: () => void
  /** Where he stands, for the error that the wait may end in. */
  readonly where: SmtpError.Where
}

/** Is told that the server broke the grammar or the order of replies, and before the scope frees the wire. */
export interface Witness {
  readonly onViolation: () => void
  readonly onRelease: (exit: Exit.Exit<unknown, unknown>) => Effect.Effect<void>
}

export class Waiters {
  readonly #all: Array<Waiter> = []

  /** Takes one in; what it gives takes him out. */
  add(waiter: Waiter): () => void {
    this.#all.push(waiter)
    return () => {
      const at = this.#all.indexOf(waiter)
      if (at >= 0) this.#all.splice(at, 1)
    }
  }

  /** Waits until `now` gives something; it is asked at first, and when he is woken. */
  wait<A, E extends SmtpError.SmtpError>(
    kind: For,
    where: SmtpError.Where,
    now: () => Effect.Effect<A, E> | undefined
  ): Effect.Effect<A, E> {
    return Effect.callback((resume) => {
      const known = now()
      if (known !== undefined) return resume(known)
      const wake = () => resume(now()!)
      return Effect.sync(this.add({ kind, resume: resume as unknown as Waiter["resume"], wake, where }))
    })
  }

  /** Wakes him who waits for this. */
  wake(kind: "reply" | "drain"): void {
    const at = this.#all.findIndex((waiter) => waiter.kind === kind)
    if (at >= 0) this.#all.splice(at, 1)[0]!.wake()
  }

  /** All waits end in an error. */
  end(error: (where: SmtpError.Where) => SmtpError.SmtpError): void {
    for (const { resume, where } of this.#all.splice(0)) resume(Effect.fail(error(where)))
  }
}
