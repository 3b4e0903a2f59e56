/**
 * One mail transaction: MAIL, RCPT for each recipient, DATA, the body, the final reply or replies.
 *
 * What it is: RFC 5321 section 3.3 as a pure plan and an effectful run, with LMTP's replies per recipient (RFC 2033).
 * What it is not: it opens no connection, and it never tries again.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import * as DotStuffing from "./DotStuffing.ts"
import type { Envelope } from "./Envelope.ts"
import { isChunk, makeJoiner, slices, type Source, writesOf } from "./internal/message.ts"
import * as outcome from "./internal/outcome.ts"
import type { SmtpCapabilities } from "./SmtpCapabilities.ts"
import type * as SmtpCommand from "./SmtpCommand.ts"
import * as SmtpError from "./SmtpError.ts"
import type { Session } from "./SmtpHandshake.ts"
import * as SmtpReply from "./SmtpReply.ts"

/**
 * What a transaction will say, decided before the first octet.
 *
 * @category models
 * @since 0.1.0
 */
export interface Plan {
  readonly mail: SmtpCommand.SmtpCommand
  readonly recipients: ReadonlyArray<{ readonly address: string; readonly command: SmtpCommand.SmtpCommand }>
  /** Optional wishes that the server cannot take. */
  readonly omitted: ReadonlyArray<string>
  /** Whether octets of 0x80 and above may be sent: the server was told, or offers BINARYMIME. */
  readonly allowsEightBit: boolean
}

/**
 * What a plan is made from.
 *
 * @category models
 * @since 0.1.0
 */
export interface PlanInput {
  readonly envelope: Envelope
  readonly capabilities: SmtpCapabilities
  /** Verified TLS, or secured by its maker. */
  readonly trusted: boolean
  /** What is known of the message; undefined for a stream. */
  readonly content: { readonly size: number; readonly hasEightBit: boolean } | undefined
}

const lacks = (extension: string, because: string): string =>
  `the server does not offer ${extension}, which ${because} needs`

const api = (field: string, message: string) => ({
  command: "API",
  attempted: false,
  field,
  message: `${field}: ${message}`
})

const checkExtensions = (
  { capabilities, content, envelope, trusted }: PlanInput
): SmtpError.EENVELOPE | SmtpError.EMESSAGE | SmtpError.EREQUIRETLS | undefined => {
  if (envelope.requireTls && !(capabilities.requireTls && trusted)) {
    const why = trusted
      ? lacks("REQUIRETLS", "requireTls")
      : "REQUIRETLS needs a connection over verified TLS (RFC 8689)"
    return new SmtpError.EREQUIRETLS(api("envelope.requireTls", why))
  }
  if (envelope.needsSmtpUtf8 && !capabilities.smtpUtf8) {
    return new SmtpError.EENVELOPE(api("envelope.smtpUtf8", lacks("SMTPUTF8", "a non-ASCII address or smtpUtf8: true")))
  }
  if (envelope.needsDsn && !capabilities.dsn && !envelope.dsn.optional) {
    return new SmtpError.EENVELOPE(api("envelope.dsn", `${lacks("DSN", "dsn")}; set dsn.optional to send without`))
  }
  if (envelope.auth !== undefined && capabilities.auth.length === 0) {
    return new SmtpError.EENVELOPE(api("envelope.auth", `${lacks("AUTH", "auth")}; leave it out`))
  }
  const mustBeEightBit = content === undefined ? envelope.use8BitMime === true : content.hasEightBit
  if (mustBeEightBit && !capabilities.eightBitMime) {
    return new SmtpError.EMESSAGE(
      api(
        "message",
        `${lacks("8BITMIME", "a message with octets above 0x7f")}; encode it as 7-bit (quoted-printable, base64)`
      )
    )
  }
  return undefined
}

const checkSize = ({ capabilities, content, envelope }: PlanInput): SmtpError.EMESSAGE | undefined => {
  const size = content?.size ?? envelope.size
  const limit = capabilities.sizeLimit
  return size === undefined || limit === undefined || size <= limit
    ? undefined
    : new SmtpError.EMESSAGE(api("message", `${size} octets are more than the ${limit} that the server takes (SIZE)`))
}

const declaresEightBit = ({ capabilities, content, envelope }: PlanInput): boolean =>
  capabilities.eightBitMime &&
  (content === undefined ? envelope.use8BitMime !== false : content.hasEightBit || envelope.use8BitMime === true)

/**
 * Decides what a transaction will say, or why it cannot be said to this server: an extension that the envelope or the
 * message needs and the server lacks is an error here, before MAIL, never a silent downgrade.
 *
 * @category constructors
 * @since 0.1.0
 */
export const plan = (
  input: PlanInput
): Result.Result<Plan, SmtpError.EENVELOPE | SmtpError.EMESSAGE | SmtpError.EREQUIRETLS> => {
  const wrong = checkExtensions(input) ?? checkSize(input)
  if (wrong !== undefined) return Result.fail(wrong)
  const { capabilities, content, envelope } = input
  const usesDsn = envelope.needsDsn && capabilities.dsn
  const eightBit = declaresEightBit(input)
  return Result.succeed({
    mail: {
      _tag: "Mail",
      from: envelope.from,
      parameters: {
        size: capabilities.size ? content?.size ?? envelope.size : undefined,
        body: eightBit ? "8BITMIME" : undefined,
        smtpUtf8: envelope.needsSmtpUtf8,
        ret: usesDsn ? envelope.dsn.ret : undefined,
        envid: usesDsn ? envelope.dsn.envid : undefined,
        requireTls: envelope.requireTls,
        auth: envelope.auth
      }
    },
    recipients: envelope.recipients.map(({ address, notify, orcpt, path }) => ({
      address,
      command: {
        _tag: "Rcpt",
        to: path,
        parameters: { smtpUtf8: envelope.needsSmtpUtf8, ...(usesDsn ? { notify, orcpt } : {}) }
      }
    })),
    omitted: envelope.needsDsn && !usesDsn ? ["DSN"] : [],
    allowsEightBit: eightBit
  })
}

/**
 * A dialogue between transactions, and what the server may still hold of the last one.
 *
 * @category models
 * @since 0.1.0
 */
export interface Dialogue {
  readonly session: Session
  readonly protocol: "smtp" | "lmtp"
  /** A MAIL was accepted and no final reply ended it: RSET before the next. */
  needsReset: boolean
}

/** The state of one run. `isSettled`: what it ended in leaves the connection usable. */
interface Run<E, R> {
  readonly dialogue: Dialogue
  readonly plan: Plan
  readonly source: Source<E, R>
  readonly requireAllRecipients: boolean
  isSettled: boolean
}

/** The error of a refusal; a well-formed 4yz or 5yz other than 421 leaves the connection usable. */
const refuse = <E, R>(run: Run<E, R>, reply: SmtpReply.SmtpReply, where: SmtpError.Where): SmtpError.SendError => {
  run.isSettled = SmtpReply.isRefusal(reply) && reply.code !== 421
  const { secure } = run.dialogue.session
  return SmtpError.classify({ _tag: "Refused", reply, secure }, where) as SmtpError.SendError
}

const isPositive = (reply: SmtpReply.SmtpReply): boolean => SmtpReply.severity(reply) === 2

/** Whether a reply decides over a message; a 3yz leaves it in doubt. */
const isFinal = (reply: SmtpReply.SmtpReply): boolean => isPositive(reply) || SmtpReply.isRefusal(reply)

const mail = Effect.fnUntraced(function*<E, R>(run: Run<E, R>) {
  const { wire } = run.dialogue.session
  const reply = yield* wire.command(run.plan.mail, { stage: "MAIL" })
  if (!isPositive(reply)) return yield* refuse(run, reply, { stage: "MAIL" })
  run.dialogue.needsReset = true
})

/** RCPT for each; what was refused is an outcome, 421 and a reply of the wrong class end the transaction. */
const recipients = Effect.fnUntraced(function*<E, R>(run: Run<E, R>) {
  const { wire } = run.dialogue.session
  const outcomes: Array<outcome.Outcome> = []
  for (const { address, command } of run.plan.recipients) {
    const where = { stage: "RCPT", recipient: address, attempted: true } as const
    const reply = yield* wire.command(command, where)
    if (isPositive(reply)) {
      outcomes.push({ address, error: undefined })
      continue
    }
    const error = refuse(run, reply, where)
    if (error._tag !== "EENVELOPE") return yield* error
    run.isSettled = false
    outcomes.push({ address, error })
  }
  const isRefused = run.requireAllRecipients
    ? outcomes.some(({ error }) => error !== undefined)
    : outcomes.every(({ error }) => error !== undefined)
  run.isSettled = isRefused
  return isRefused ? yield* outcome.refusedRecipients(outcomes) : outcomes
})

const data = Effect.fnUntraced(function*<E, R>(run: Run<E, R>, outcomes: ReadonlyArray<outcome.Outcome>) {
  const reply = yield* run.dialogue.session.wire.command({ _tag: "Data" }, { stage: "DATA", attempted: true })
  if (reply.code === 354) return
  return yield* outcome.refusedData(refuse(run, reply, { stage: "DATA" }), outcomes)
})

const inBody = { stage: "BODY" } as const

const badStream = (problem: string): SmtpError.EMESSAGE =>
  new SmtpError.EMESSAGE({ command: "DATA", field: "message", message: `message: the stream holds ${problem}` })

const notChunks = "something else than strings and Uint8Arrays; convert it first"
const eightBit = "octets above 0x7f, and 8BITMIME was not declared or is not offered by the server; encode it as 7-bit"

/** All of the body but what goes with the terminator; gives that, and the size of the message. */
const body = Effect.fnUntraced(function*<E, R>(run: Run<E, R>) {
  const { source } = run
  const { wire } = run.dialogue.session
  wire.beginBody()
  if (source._tag === "Whole") {
    const writes = slices(source.body)
    for (const write of writes.slice(0, -1)) yield* wire.body([write], inBody)
    return { last: writes.slice(-1), size: source.size }
  }
  const encoder = DotStuffing.makeEncoder()
  const joiner = makeJoiner()
  const encode = (chunk: Uint8Array | string): Uint8Array => encoder.push(joiner.push(chunk))
  yield* Stream.runForEachArray(
    source.stream,
    (chunks) =>
      Effect.suspend((): Effect.Effect<void, SmtpError.SmtpError> => {
        if (!chunks.every(isChunk)) return Effect.fail(badStream(notChunks))
        const octets = chunks.map(encode)
        return encoder.hasEightBit && !run.plan.allowsEightBit
          ? Effect.fail(badStream(eightBit))
          : Effect.forEach(writesOf(octets), (write) => wire.body(write, inBody), { discard: true })
      })
  ).pipe(Effect.raceFirst(wire.failed(inBody)))
  const held = encoder.push(joiner.end())
  if (encoder.hasEightBit && !run.plan.allowsEightBit) return yield* badStream(eightBit)
  return { last: [held, encoder.end()], size: encoder.size }
})

/** How long an interrupted send waits for the reply to its terminator. */
const linger = "500 millis"

/** Reads the final replies into `replies`; may be called again to go on where it was interrupted. */
const readFinal = (run: Run<never, never>, count: number, replies: Array<SmtpReply.SmtpReply>) =>
  Effect.gen(function*() {
    const { wire } = run.dialogue.session
    while (replies.length < count) {
      wire.rearm("final")
      replies.push(yield* wire.receive({ stage: "FINAL", inDoubt: true }))
    }
  })

/** The terminator, and the replies to it. From here on the message may be accepted whatever happens to us. */
const finish = (run: Run<never, never>, last: ReadonlyArray<Uint8Array>, count: number) =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      const { wire } = run.dialogue.session
      if (!wire.isQuiet()) return yield* wire.error(inBody)
      const replies: Array<SmtpReply.SmtpReply> = []
      yield* wire.endBody(last, count)
      const exit = yield* Effect.exit(restore(readFinal(run, count, replies)))
      if (Exit.isSuccess(exit)) return { replies, error: undefined }
      const error = SmtpError.fromCause(exit.cause)
      if (error !== undefined) return { replies, error: error as SmtpError.WireError }
      yield* Effect.exit(Effect.timeoutOption(Effect.interruptible(readFinal(run, count, replies)), linger))
      // Over LMTP one acceptance tells more than a refusal behind it: to send again would deliver twice.
      const reply = replies.find(isPositive) ?? replies.at(-1)
      const known = { inDoubt: replies.length < count || !replies.every(isFinal), reply }
      return yield* Effect.failCause(Cause.annotate(exit.cause, Context.make(SmtpError.Outcome, known)))
    })
  )

/** The final replies as outcomes: one for all over SMTP, one for each accepted recipient over LMTP. */
const settle = (
  run: Run<never, never>,
  outcomes: ReadonlyArray<outcome.Outcome>,
  end: { readonly replies: ReadonlyArray<SmtpReply.SmtpReply>; readonly error: SmtpError.WireError | undefined }
): ReadonlyArray<outcome.Outcome> => {
  let next = 0
  return outcomes.map(({ address, error }) => {
    if (error !== undefined) return { address, error }
    const reply = end.replies[run.dialogue.protocol === "lmtp" ? next++ : 0]
    if (reply === undefined) return { address, error: outcome.lost(end.error!, address) }
    if (isPositive(reply)) return { address, error: undefined }
    const where = { stage: "FINAL", recipient: address } as const
    const inDoubt = !isFinal(reply)
    return {
      address,
      error: SmtpError.classify({ _tag: "Refused", reply }, { ...where, inDoubt }) as SmtpError.RecipientError
    }
  })
}

const deliver = Effect.fnUntraced(function*<E, R>(run: Run<E, R>) {
  const { dialogue } = run
  const { wire } = dialogue.session
  if (dialogue.needsReset) yield* reset(dialogue, false)
  yield* mail(run)
  const known = yield* recipients(run)
  yield* data(run, known)
  const { last, size } = yield* body(run)
  const count = dialogue.protocol === "lmtp" ? known.filter(({ error }) => error === undefined).length : 1
  const plain = run as unknown as Run<never, never>
  const end = yield* finish(plain, last, count)
  // RFC 5321 §4.1.1.4 ends a transaction with the final reply, whatever it is; Postfix keeps one that it refused.
  dialogue.needsReset = !end.replies.some(isPositive)
  const isWhole = end.error === undefined && end.replies.every(isFinal)
  run.isSettled = isWhole && wire.failure === undefined
  if (end.error !== undefined && end.replies.length === 0) return yield* end.error
  const outcomes = settle(plain, known, end)
  // Recipients tell of the loss: over LMTP the others may have been accepted, and no later call tells it again.
  if (end.error !== undefined || end.replies.some(({ code }) => code === 421)) wire.retire()
  return yield* Effect.fromResult(
    outcome.result(outcomes, end.replies, end.error === undefined, { size, omitted: run.plan.omitted })
  )
})

/**
 * RSET: the server forgets the transaction. A refusal is against the protocol (RFC 5321 §4.1.1.5) and ends the wire.
 *
 * @category running
 * @since 0.1.0
 */
export const reset = Effect.fnUntraced(function*(
  dialogue: Dialogue,
  attempted?: false
): Effect.fn.Return<void, SmtpError.WireError> {
  const { wire } = dialogue.session
  const where = { stage: "RSET", attempted } as const
  const reply = yield* wire.command({ _tag: "Rset" }, where)
  if (!isPositive(reply)) {
    wire.fail({ _tag: "Released" })
    return yield* (SmtpError.classify({ _tag: "Refused", reply }, where) as SmtpError.WireError)
  }
  dialogue.needsReset = false
})

/**
 * Runs one transaction on a dialogue that nobody else uses meanwhile.
 *
 * **Details**
 *
 * Whatever it ends in, the wire is either usable afterwards or failed: it is left open only after success and after a
 * well-formed refusal. An interruption after the terminator waits at most 500 ms for the reply, fails the wire, and
 * annotates its cause with `SmtpError.Outcome`.
 *
 * @category running
 * @since 0.1.0
 */
export const run = <E, R>(
  dialogue: Dialogue,
  plan: Plan,
  source: Source<E, R>,
  requireAllRecipients: boolean
): Effect.Effect<outcome.Sent, SmtpError.SendError | E, R> => {
  const state: Run<E, R> = { dialogue, plan, source, requireAllRecipients, isSettled: false }
  return deliver(state).pipe(
    Effect.onExit(() =>
      Effect.sync(() => {
        if (!state.isSettled) dialogue.session.wire.fail({ _tag: "Released" })
      })
    )
  ) as Effect.Effect<outcome.Sent, SmtpError.SendError | E, R>
}
