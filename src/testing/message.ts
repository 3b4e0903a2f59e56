/**
 * DATA and BDAT: the message, its final replies, and what comes unsolicited after them.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as DotStuffing from "../DotStuffing.ts"
import type { Answer } from "./answer.ts"
import type { Over, Plan } from "./conversation.ts"
import type { Step } from "./faults.ts"
import * as Mail from "./mail.ts"
import { makeReceived, type Received } from "./records.ts"
import type { Command } from "./script.ts"
import { Sink, type Sunk } from "./sink.ts"
import { isPositive, type Session, type Transaction } from "./state.ts"

const makeSink = (session: Session): Sink => {
  const { digest, extensions } = session.script
  return new Sink(extensions.size === false ? Infinity : extensions.size, !digest)
}

/** The faults in the middle of a message; the reply, when it came already. */
const midBody = Effect.fnUntraced(function*(session: Session): Effect.fn.Return<Answer | undefined, Over> {
  const plan = session.conversation.plan(["body"], () => undefined)
  if (plan.faults.length === 0) return undefined
  const isEarly = plan.faults.some((fault) => fault._tag === "EarlyReply")
  const answer = plan.answer ?? (isEarly ? session.usual("message") : undefined)
  yield* session.conversation.emit({ ...plan, answer })
  yield* session.conversation.flush
  return answer
})

/** Reads until the lone dot. The first octet goes alone, so that faults can strike behind it. */
const readData = Effect.fnUntraced(function*(session: Session, sink: Sink): Effect.fn.Return<Answer | undefined, Over> {
  const { conversation } = session
  const decoder = DotStuffing.makeDecoder()
  let replied: Answer | undefined
  for (let isFirst = true;; isFirst = false) {
    const chunk = yield* conversation.chunk
    const { bytes, done, rest } = decoder.push(isFirst ? chunk.subarray(0, 1) : chunk)
    sink.push(bytes)
    if (done) {
      conversation.unread(rest)
      return replied
    }
    if (isFirst) {
      conversation.unread(chunk.subarray(1))
      replied = yield* midBody(session)
    }
  }
})

/** Reads the octets of one BDAT. */
const readChunk = Effect.fnUntraced(
  function*(session: Session, sink: Sink, size: number): Effect.fn.Return<Answer | undefined, Over> {
    const { conversation } = session
    let replied: Answer | undefined
    let isFirst = sink.size === 0
    for (let missing = size; missing > 0;) {
      const chunk = yield* conversation.chunk
      const taken = Math.min(isFirst ? 1 : missing, chunk.length)
      sink.push(chunk.subarray(0, taken))
      conversation.unread(chunk.subarray(taken))
      missing -= taken
      if (isFirst) replied = yield* midBody(session)
      isFirst = false
    }
    return replied
  }
)

const receivedBy = (
  session: Session,
  transaction: Transaction,
  sunk: Sunk,
  via: "DATA" | "BDAT"
) =>
(recipients: ReadonlyArray<Mail.Address>): Received =>
  makeReceived({
    ...sunk,
    connection: session.connection.id,
    from: transaction.sender.path,
    to: recipients.map(({ path }) => path),
    mailParameters: transaction.sender.parameters,
    rcptParameters: recipients.map(({ parameters }) => parameters),
    secure: session.secure,
    username: session.username,
    protocol: session.script.protocol,
    via
  })

/** The final reply of a message, or one for each recipient (RFC 2033 §4.2). */
const finalPlans = (
  session: Session,
  transaction: Transaction,
  sink: Sink,
  message: Received,
  steps: ReadonlyArray<Step>
): ReadonlyArray<Plan & { readonly answer: Answer }> => {
  const { conversation, script } = session
  const { recipients } = transaction
  const byDefault = () =>
    recipients.length === 0
      ? session.say(554, "5.5.1", "no valid recipients")
      : sink.isOverLimit
      ? session.say(552, "5.3.4", "the message is too large")
      : session.say(250, "2.0.0", `queued as ${session.recorder.accepted + 1}`)
  const plan = (recipient: Mail.Address | undefined) => {
    const command = { verb: message.via, argument: "", line: message.via, recipient: recipient?.path, message }
    return conversation.plan(steps, () => session.answer("message", command, byDefault))
  }
  return script.protocol === "lmtp" && recipients.length > 0 ? recipients.map(plan) : [plan(undefined)]
}

/** What comes unsolicited after a message: at once, or after a delay in which the client said nothing. */
const idle = Effect.fnUntraced(function*(session: Session): Effect.fn.Return<void, Over> {
  const { connection, conversation } = session
  const plan = conversation.plan(["idle"], () => undefined)
  if (plan.faults.length === 0) return
  const saysNothing = plan.faults.every(({ _tag }) =>
    _tag === "Delay" || _tag === "ByteAtATime" || _tag === "EarlyReply"
  )
  const answer = plan.answer ?? (saysNothing ? session.usual("idle") : undefined)
  const delay = plan.faults.find((fault) => fault._tag === "Delay")
  const rest = { ...plan, answer, faults: plan.faults.filter(({ _tag }) => _tag !== "Delay") }
  if (delay === undefined) return yield* conversation.emit(rest)
  const before = connection.bytesReceived
  const later = Effect.gen(function*() {
    yield* conversation.sleep(delay.duration)
    if (connection.bytesReceived > before) return
    yield* conversation.emit(rest)
    yield* conversation.flush
  })
  yield* Effect.forkChild(Effect.ignore(later))
})

/** Hands an accepted message to the script's `store`, whose answer takes the place of each acceptance. */
const stored = Effect.fnUntraced(function*<A extends { readonly answer: Answer }>(
  session: Session,
  message: Received,
  plans: ReadonlyArray<A>
): Effect.fn.Return<ReadonlyArray<A>> {
  const { store } = session.script
  if (store === undefined || message.to.length === 0) return plans
  const failed = (defect: unknown) => {
    session.connection.line("event", `store failed: ${defect}`)
    return Effect.succeed(session.say(451, "4.3.0", "the message could not be stored"))
  }
  const answer = yield* Effect.catchDefect(Effect.suspend(() => store(message)), failed)
  return answer === undefined ? plans : plans.map((plan) => isPositive(plan.answer) ? { ...plan, answer } : plan)
})

/** The recipients whose plan says yes; one plan may be for all. */
const acceptedBy = (
  plans: ReadonlyArray<{ readonly answer: Answer }>,
  recipients: ReadonlyArray<Mail.Address>
): ReadonlyArray<Mail.Address> =>
  recipients.filter((_, i) => {
    const plan = plans[i] ?? plans[0]
    return plan !== undefined && isPositive(plan.answer)
  })

const finish = Effect.fnUntraced(function*(
  session: Session,
  sink: Sink,
  via: "DATA" | "BDAT",
  replied: Answer | undefined
): Effect.fn.Return<void, Over> {
  const transaction = session.transaction ?? { sender: { path: "", parameters: [] }, recipients: [], sink: undefined }
  const { recipients } = transaction
  const received = receivedBy(session, transaction, sink.sunk(), via)
  session.connection.line("event", `message of ${sink.size} octets by ${via}`)
  session.transaction = undefined
  const steps: ReadonlyArray<Step> = via === "DATA" ? ["message"] : ["bdat", "message"]
  const planned: ReadonlyArray<(Plan & { readonly answer: Answer }) | { readonly answer: Answer }> =
    replied === undefined
      ? finalPlans(session, transaction, sink, received(recipients), steps)
      : [{ answer: replied }]
  const plans = yield* stored(session, received(acceptedBy(planned, recipients)), planned)
  const accepted = acceptedBy(plans, recipients)
  if (accepted.length > 0) session.recorder.accept(received(accepted))
  for (const plan of plans) if ("step" in plan) yield* session.conversation.emit(plan)
  yield* idle(session)
})

/** Why neither DATA nor BDAT is in place, if so. */
const misplaced = (session: Session): Answer | undefined => {
  const { transaction } = session
  if (transaction === undefined) return session.say(503, "5.5.1", "say MAIL first")
  return transaction.recipients.length === 0 ? session.say(554, "5.5.1", "no valid recipients") : undefined
}

/** DATA (RFC 5321 §4.1.1.4). */
export const data = Effect.fnUntraced(function*(session: Session, command: Command): Effect.fn.Return<void, Over> {
  const { transaction } = session
  const byDefault = () => {
    if (command.argument !== "") return session.say(501, "5.5.4", "DATA takes no argument")
    const wrong = misplaced(session)
    if (wrong !== undefined || transaction === undefined) return wrong ?? session.usual("data")
    const isBinary = /^BINARYMIME$/i.test(Mail.valueOf(transaction.sender, "BODY") ?? "")
    return transaction.sink !== undefined || isBinary
      ? session.say(503, "5.5.1", "this transaction takes BDAT")
      : session.usual("data")
  }
  const answer = yield* session.reply(["data"], () => session.answer("data", command, byDefault))
  if (answer.code !== 354) return
  const sink = makeSink(session)
  yield* finish(session, sink, "DATA", yield* readData(session, sink))
})

/** BDAT (RFC 3030 §2). */
export const bdat = Effect.fnUntraced(function*(session: Session, command: Command): Effect.fn.Return<void, Over> {
  const [, size, last] = /^(\d{1,15})( LAST)?$/i.exec(command.argument) ?? []
  const refusal = !session.script.extensions.chunking
    ? session.say(502, "5.5.1", "BDAT is not offered")
    : size === undefined
    ? session.say(501, "5.5.4", "BDAT size [LAST] is expected")
    : misplaced(session)
  const sink = session.transaction?.sink ?? makeSink(session)
  const isReadable = size !== undefined && session.script.extensions.chunking
  // A chunk is read before it is refused (RFC 3030 §2).
  const replied = isReadable ? yield* readChunk(session, sink, Number(size)) : undefined
  if (refusal === undefined && last !== undefined) return yield* finish(session, sink, "BDAT", replied)
  if (session.transaction !== undefined) session.transaction.sink = sink
  const byDefault = () => refusal ?? session.say(250, "2.0.0", `${size} octets`)
  const answer = replied ?? (yield* session.reply(["bdat"], () => session.answer("bdat", command, byDefault)))
  if (!isPositive(answer)) session.transaction = undefined
})
