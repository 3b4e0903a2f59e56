/**
 * Waiting until something is true: whoever changes it says so, and those whose condition holds then go on.
 */
import * as Effect from "effect/Effect"

export class Changes {
  readonly #watchers = new Set<() => void>()

  /** Something has changed: everybody who waits looks again. */
  tell(): void {
    for (const watcher of this.#watchers) watcher()
  }

  /** Waits until a condition holds; what makes it hold has to be told. */
  until(isTrue: () => boolean): Effect.Effect<void> {
    return Effect.callback((resume) => {
      if (isTrue()) return resume(Effect.void)
      const watcher = () => {
        if (!isTrue()) return
        this.#watchers.delete(watcher)
        resume(Effect.void)
      }
      this.#watchers.add(watcher)
      return Effect.sync(() => this.#watchers.delete(watcher))
    })
  }
}
