/**
 * One call at a time, first come first served; and whether anybody waits. A call that finds nobody takes its turn at once.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"

const ignore = () => {}

export class Turn {
  #isTaken = false
  /** Mostly nobody waits. */
  #waiting: Array<() => void> | undefined
  /** Called when somebody begins to wait. */
  onWanted: () => void = ignore

  /** Whether somebody waits for the turn. */
  get isWanted(): boolean {
    return this.#waiting !== undefined && this.#waiting.length > 0
  }

  /** Takes the turn if nobody has it. */
  tryTake(): boolean {
    const isFree = !this.#isTaken
    this.#isTaken = true
    return isFree
  }

  /**
   * Waits for the turn, in an uninterruptible region of which `restore` is; whoever has it gives it back by `release`. One
   * who is interrupted just when it is given to him gives it back himself.
   */
  take(restore: <A>(self: Effect.Effect<A>) => Effect.Effect<A>): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.tryTake()) return Effect.void
      let isOurs = false
      const wait = this.#wait(() => {
        isOurs = true
      })
      return Effect.onExit(restore(wait), (exit) =>
        Effect.sync(() => {
          if (isOurs && Exit.isFailure(exit)) this.release()
        }))
    })
  }

  #wait(given: () => void): Effect.Effect<void> {
    return Effect.callback((resume) => {
      const begin = () => {
        given()
        resume(Effect.void)
      }
      const waiting = this.#waiting ??= []
      waiting.push(begin)
      this.onWanted()
      return Effect.sync(() => {
        const at = waiting.indexOf(begin)
        if (at >= 0) waiting.splice(at, 1)
      })
    })
  }

  release(): void {
    const next = this.#waiting?.shift()
    if (next === undefined) this.#isTaken = false
    else next()
  }

  /** Runs an effect when its turn has come. */
  within<A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(
        this.tryTake() ? Effect.void : this.take(restore),
        () => Effect.onExit(restore(self), () => Effect.sync(() => this.release()))
      )
    )
  }

  /** Runs an effect if nobody has the turn. */
  ifFree<A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<void, E, R> {
    return Effect.suspend(() => this.#isTaken ? Effect.void : Effect.asVoid(this.within(self)))
  }
}
