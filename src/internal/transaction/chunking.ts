/**
 * A stream as a series of BDAT chunks (RFC 3030 §2): counted, written without waiting for the reply to the one before, a
 * few at most.
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as SmtpCommand from "../../SmtpCommand.ts"
import type * as SmtpError from "../../SmtpError.ts"
import { writesOf } from "../message.ts"
import { sizeOf } from "../octets.ts"
import { converse } from "./converse.ts"
import type { Run } from "./model.ts"
import * as state from "./run.ts"

const inBody = { stage: "BODY", command: "BDAT" } as const

/** Octets gathered before they are worth a chunk: servers answer each. It doubles, up to the most, while they come fast. */
const enough = 65_536
const most = 1_048_576

/** Milliseconds after which what is gathered is worth a chunk all the same: the server waits for it. */
const patience = 1_000

/** Most chunks without a reply, where the server takes groups. */
const maxUnread = 8

/** The command that announces a chunk; its octets follow at once. */
export const header = (size: number, last: boolean): Uint8Array =>
  Result.getOrThrow(SmtpCommand.encode({ _tag: "Bdat", size, last }))

/** Octets to write, and how the transcript tells them. */
export interface Written {
  readonly octets: ReadonlyArray<Uint8Array>
  readonly told: Effect.Effect<void>
}

/** Writes the last chunk, all but what is given back. */
export const last = Effect.fnUntraced(function*<E, R>({ dialogue }: Run<E, R>, octets: ReadonlyArray<Uint8Array>) {
  const { wire } = dialogue.session
  const size = sizeOf(octets)
  const writes = writesOf(octets).map((one): Written => ({ octets: one, told: wire.transcript.body(one) }))
  const [first = { octets: [], told: Effect.void }, ...rest] = writes
  const told = Effect.andThen(wire.transcript.client({ _tag: "Bdat", size, last: true }), first.told)
  const all: ReadonlyArray<Written> = [{ octets: [header(size, true), ...first.octets], told }, ...rest]
  for (const write of all.slice(0, -1)) yield* wire.body(write.octets, inBody, write.told)
  return all.at(-1)!
})

interface Framer {
  readonly push: (octets: ReadonlyArray<Uint8Array>) => Effect.Effect<void, SmtpError.SmtpError>
  /** Ends in a refusal that has come: nothing more is worth saying. */
  readonly settle: Effect.Effect<void, SmtpError.SmtpError>
  /** What is held, with this behind it: the last chunk. */
  readonly last: (octets: ReadonlyArray<Uint8Array>) => ReadonlyArray<Uint8Array>
}

/** Reads what has come, and waits where too much is unread. A refused chunk ends the body: the rest is for nobody. */
const settle = Effect.fnUntraced(function*<E, R>(run: Run<E, R>, most: number) {
  const { wire } = run.dialogue.session
  for (let reply = wire.take(); reply !== undefined; reply = wire.take()) {
    const error = state.note(run, reply)
    if (wire.transcript.isOn) yield* wire.transcript.server(reply, false)
    if (error !== undefined) return yield* error
  }
  if (run.written - run.answered >= most || run.refusal !== undefined) {
    wire.disarmData()
    yield* converse(run)
    wire.arm("data")
  }
  if (run.refusal !== undefined) {
    wire.endBody([], 0)
    run.isSettled = true
    return yield* run.refusal
  }
})

/** One chunk that is not the last. Its command goes with the first of its octets: alone it would cost as much as they do. */
const write = Effect.fnUntraced(function*<E, R>(
  run: Run<E, R>,
  octets: ReadonlyArray<Uint8Array>,
  size: number,
  unread: number
) {
  const { wire } = run.dialogue.session
  const command = { _tag: "Bdat", size, last: false } as const
  if (wire.transcript.isOn) yield* wire.transcript.client(command)
  run.steps.push({ stage: "BDAT", command })
  state.wrote(run, 1)
  const [first = [], ...rest] = writesOf(octets)
  wire.hand([], 1, "command")
  yield* wire.body([header(size, false), ...first], inBody, wire.transcript.body(first))
  for (const one of rest) {
    // The reply is due from the last octet on.
    if (run.written - run.answered > wire.arrived) wire.arm("command")
    yield* wire.body(one, inBody)
  }
  yield* settle(run, unread)
})

export const make = <E, R>(run: Run<E, R>): Framer => {
  let held: Array<Uint8Array> = []
  let size = 0
  let worth = enough
  const { wire } = run.dialogue.session
  let before = wire.now
  const unread = state.budgetOf(run) > 1 ? maxUnread : 1
  return {
    push: (octets) => {
      for (const one of octets) held.push(one)
      size += sizeOf(octets)
      const isLate = wire.now - before > patience
      if (size < (isLate ? enough : worth)) {
        // The source has given something: the next wait on it begins.
        wire.arm("data")
        return Effect.void
      }
      const [all, length] = [held, size]
      held = []
      size = 0
      before = wire.now
      worth = isLate ? enough : Math.min(most, worth * 2)
      return write(run, all, length, unread)
    },
    settle: Effect.suspend(() => settle(run, unread)),
    last: (octets) => [...held, ...octets]
  }
}
