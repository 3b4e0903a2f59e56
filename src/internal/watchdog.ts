/**
 * The deadlines of one wire: which are in force, and when the next of them may have passed.
 */
import type { Alarm, Sleeper } from "./alarm.ts"
import type { TimeoutName } from "./classification.ts"
import type { Deadlines } from "./options.ts"

export interface Expired {
  readonly timeout: TimeoutName
  readonly hint: string | undefined
}

/** Whom a deadline that passed ends. */
interface Watched {
  readonly expire: (expired: Expired) => void
}

/**
 * A reply that is owed and a body that is fed may each have a deadline at the same time; the idle deadline runs beside
 * them from the last octet.
 */
export class Watchdog implements Sleeper {
  readonly #alarm: Alarm
  readonly #deadlines: Deadlines
  readonly #watched: Watched
  #replyDue = Infinity
  #dataDue = Infinity
  #timeout: TimeoutName = "command"
  #hint: string | undefined
  #lastOctet: number
  wakeAt: number

  constructor(alarm: Alarm, deadlines: Deadlines, watched: Watched) {
    this.#alarm = alarm
    this.#deadlines = deadlines
    this.#watched = watched
    this.#lastOctet = this.now()
    this.wakeAt = this.#nextDue()
  }

  /** Deadlines count from here on, until `stop`. */
  start(): void {
    this.#alarm.add(this)
  }

  /** Milliseconds of the clock that no adjustment of the wall clock moves. */
  now(): number {
    return this.#alarm.now()
  }

  /** An octet went or came. */
  touch(now: number): void {
    this.#lastOctet = now
  }

  /** Puts a deadline in force, counted from now; it replaces the one before of its kind. */
  arm(timeout: TimeoutName, hint?: string, now = this.now()): void {
    const due = now + this.#deadlines[timeout]
    if (timeout === "data") this.#dataDue = due
    else {
      this.#timeout = timeout
      this.#hint = hint
      this.#replyDue = due
    }
    if (due >= this.wakeAt) return
    this.wakeAt = due
    this.#alarm.advance(this)
  }

  /** No reply is owed. */
  disarmReply(): void {
    this.#replyDue = Infinity
  }

  /** No body is fed. */
  disarmData(): void {
    this.#dataDue = Infinity
  }

  /** No deadline counts any more. */
  stop(): void {
    this.#alarm.remove(this)
  }

  #nextDue(): number {
    return Math.min(this.#replyDue, this.#dataDue, this.#lastOctet + this.#deadlines.idle)
  }

  #expired(now: number): Expired {
    if (this.#replyDue <= now) return { timeout: this.#timeout, hint: this.#hint }
    return { timeout: this.#dataDue <= now ? "data" : "idle", hint: undefined }
  }

  look(now: number): void {
    const due = this.#nextDue()
    if (due > now) this.wakeAt = due
    else {
      // What ends has no other end.
      this.stop()
      this.#watched.expire(this.#expired(now))
    }
  }
}
