/**
 * A send that is interrupted at each operation of its fiber, one after the other: what is said of the message is true
 * wherever it stopped, and nothing is left behind.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"
import * as Scheduler from "effect/Scheduler"
import * as Stream from "effect/Stream"
import * as SmtpConnection from "../src/SmtpConnection.ts"
import * as SmtpError from "../src/SmtpError.ts"
import { all, noChunking } from "./support/raw.ts"
import { type Script, talking } from "./support/talker.ts"

/** Makes whoever comes to this operation yield, and interrupts the fiber meanwhile: it can be interrupted nowhere else. */
class Stopper extends Scheduler.MixedScheduler {
  count = 0
  readonly at: number
  target: Fiber.Fiber<unknown, unknown> | undefined

  constructor(at: number) {
    super()
    this.at = at
  }

  override shouldYield(fiber: Fiber.Fiber<unknown, unknown>): boolean {
    if (++this.count !== this.at) return super.shouldYield(fiber)
    queueMicrotask(() => this.target?.interruptUnsafe())
    return true
  }
}

const envelope = { from: "ann@me.test", to: ["a@mx.test", "b@mx.test"] }
const text = "hello\r\n"

/** Whether the last octet of a message was written. */
const isHanded = (written: string): boolean => /\r\n\.\r\n/.test(written) || / LAST\r\n/.test(written)

/** What the server saw. */
interface Seen {
  readonly written: string
  readonly stored: number
  /** Whether the connection may be used again: the call had come to its end. */
  readonly isOver: boolean
}

type Send = (connection: SmtpConnection.SmtpConnection) => Effect.Effect<unknown, unknown>

/** Runs a call, interrupted at this operation; gives whether there were so many. */
const stopped = (
  at: number,
  script: Script,
  options: SmtpConnection.Options,
  call: Send,
  judge: (exit: Exit.Exit<unknown, unknown>, seen: Seen) => void
) =>
  talking(script, (connection, talker, probe) =>
    Effect.gen(function*() {
      const stopper = new Stopper(at)
      const fiber = yield* Effect.forkDetach(
        Effect.suspend(() => call(connection)).pipe(Effect.provideService(Scheduler.Scheduler, stopper))
      )
      stopper.target = fiber
      const { exit } = yield* probe.drive(fiber)
      yield* probe.quiet
      const written = talker.peer.writes.slice(1).join("")
      judge(yield* Effect.exit(exit), { written, stored: talker.stored.length, isOver: connection.isUsable })
      assert.strictEqual(connection.isUsable, talker.peer.isOpen)
      // Whoever comes next gets his own replies, or none.
      const before = talker.stored.length
      const next = yield* Effect.exit(connection.send(envelope, "next"))
      assert.strictEqual(Exit.isSuccess(next), talker.stored.length > before)
      if (Exit.isSuccess(next)) assert.strictEqual(talker.stored.at(-1)?.body, "next\r\n")
      else assert.deepInclude(SmtpError.fromCause(next.cause), { attempted: false } as never)
      return stopper.count >= at
    }), options)

const outcomeOf = (exit: Exit.Exit<unknown, unknown>): SmtpError.Outcome["Service"] | undefined =>
  Exit.isSuccess(exit) ? undefined : Context.getOrUndefined(Cause.annotations(exit.cause), SmtpError.Outcome)

/** At every operation that there is. */
const sweep = (
  script: Script,
  options: SmtpConnection.Options,
  call: Send,
  judge: Parameters<typeof stopped>[4],
  mostLate = 15
) =>
  Effect.gen(function*() {
    let at = 1
    let late = 0
    const counting: typeof judge = (exit, seen) => {
      // It had come to its end when it was stopped, and its result was on the way out: that is for a few operations only.
      const hasEnded = seen.isOver && isHanded(seen.written)
      if (hasEnded && Exit.isFailure(exit) && outcomeOf(exit) === undefined && Cause.hasInterrupts(exit.cause)) late++
      else judge(exit, seen)
    }
    while (yield* stopped(at, script, options, call, counting)) at++
    assert.isAbove(at, 10)
    assert.isBelow(late, mostLate)
  })

const judge: Parameters<typeof stopped>[4] = (exit, { stored, written }) => {
  if (Exit.isSuccess(exit)) return assert.strictEqual(stored, 1)
  const error = SmtpError.fromCause(exit.cause)
  if (error !== undefined) return assert.strictEqual(error.responseCode, 552)
  assert.isTrue(Cause.hasInterruptsOnly(exit.cause), Cause.pretty(exit.cause))
  const known = outcomeOf(exit)
  if (!isHanded(written)) {
    assert.isUndefined(known)
    return assert.strictEqual(stored, 0)
  }
  assert.isDefined(known, "it was handed over, and nobody says so")
  if (!known!.inDoubt) assert.strictEqual(stored > 0, known!.reply!.code === 250)
}

const messages: { readonly [name: string]: SmtpConnection.Message } = {
  "a string": text,
  "a stream": Stream.make("hel", "lo\r\n")
}

const ways: ReadonlyArray<readonly [string, Script, SmtpConnection.Options]> = [
  ["by DATA", { offers: noChunking }, {}],
  ["by DATA, one command at a time", { offers: noChunking }, { pipelining: false }],
  ["by BDAT", { offers: all }, { chunking: "always" }],
  ["over LMTP", { offers: all, protocol: "lmtp" }, {}],
  ["refused at last", { offers: all, answer: ({ body }) => body === text ? "552 no" : undefined }, {}],
  ["with a transcript", { offers: all }, { transcript: { level: "full", record: () => Effect.void } }],
  ["in two transactions", { offers: [...all, "LIMITS RCPTMAX=1"] }, {}]
]

describe("a send that is interrupted at any operation", () => {
  for (const [name, script, options] of ways) {
    for (const [form, message] of Object.entries(messages)) {
      it.effect(`tells the truth of ${form}, ${name}`, () =>
        sweep(script, options, (connection) => connection.send(envelope, message), (exit, seen) => {
          const { stored, written } = seen
          if (name !== "in two transactions") return judge(exit, seen)
          if (Exit.isSuccess(exit)) return assert.isAtLeast(stored, 1)
          const known = outcomeOf(exit)
          if (stored > 0 || isHanded(written)) {
            assert.isDefined(known)
            if (stored > 0) assert.isTrue(known!.inDoubt || known!.reply?.code === 250, "a part was accepted")
          }
        }))
    }
  }
})

describe("sendAll that is interrupted at any operation", () => {
  const mails = Array.from({ length: 3 }, (_, i) => ({ envelope, message: `m${i}\r\n` }))
  const sources: { readonly [name: string]: Stream.Stream<SmtpConnection.Mail> } = {
    "all at once": Stream.fromIterable(mails),
    "one by one": Stream.rechunk(Stream.fromIterable(mails), 1)
  }
  for (const [name, script, options] of ways.slice(0, 4)) {
    for (const [how, source] of Object.entries(sources)) {
      it.effect(`leaves nothing behind, ${name}, ${how}`, () =>
        sweep(script, options, (connection) => Stream.runCollect(connection.sendAll(source)), (exit, { stored }) => {
          if (!Exit.isSuccess(exit)) return assert.isTrue(Cause.hasInterruptsOnly(exit.cause), Cause.pretty(exit.cause))
          const results = exit.value as ReadonlyArray<Result.Result<unknown, unknown>>
          assert.strictEqual(results.filter(Result.isSuccess).length, stored)
        }, Infinity))
    }
  }
})
