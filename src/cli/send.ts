/**
 * `effect-smtp send`: one message, once or many times.
 */
import * as Cause from "effect/Cause"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Stream from "effect/Stream"
import * as Terminal from "effect/Terminal"
import type * as Envelope from "../Envelope.ts"
import { replayableLike } from "../internal/message.ts"
import * as SmtpClient from "../SmtpClient.ts"
import type { SecurityReport, SendResult } from "../SmtpConnection.ts"
import * as SmtpError from "../SmtpError.ts"
import * as SmtpReply from "../SmtpReply.ts"
import { endWith, errorJson, escape, ExitCode, inFlags, Output, type Paint, run } from "./frame.ts"
import { authFlags, connectionFlags, hostFlag, jsonFlag, overConnections, resolveOptions } from "./frameConnection.ts"
import { showOctets, withProgress } from "./progress.ts"
import { doneOf, emptyTally, exitCodeOfTally, outcomeOf, sendMany, type Tally, tallyJson } from "./sendMany.ts"
import { type Content, envelopeFlags, messageFlags, outgoing } from "./sendMessage.ts"

const counted = (name: string, description: string) =>
  Flag.Int(name).pipe(
    Flag.filter((n) => n > 0, () => "expected a whole number from 1"),
    Flag.withDescription(description),
    Flag.withDefault(1)
  )

const flags = {
  ...messageFlags,
  envelope: envelopeFlags,
  host: hostFlag,
  connection: connectionFlags,
  login: authFlags,
  repeat: counted("repeat", "Send it this many times").pipe(Flag.withAlias("n")),
  concurrency: counted("concurrency", "Over this many connections at once").pipe(Flag.withAlias("c")),
  json: jsonFlag
} as const

/** What secured a connection, in one line. */
const securityLine = (report: SecurityReport, paint: Paint): string => {
  const { cipher, identity, mechanism, protocol, verifiedBy } = report
  const who = identity === undefined ? "" : ` for ${escape(identity)}`
  const verified = verifiedBy === "nothing" ? paint.yellow("not verified") : `verified by ${verifiedBy}${who}`
  const tls = protocol === undefined ? paint.yellow("no TLS") : `${protocol} ${cipher}, ${verified}`
  return mechanism === undefined ? tls : `${tls}; login by ${mechanism}`
}

const tellSent = Effect.fnUntraced(function*(result: SendResult) {
  const { json, line, paint } = yield* Output
  const verdict = result.rejected.length === 0 ? paint.green("sent") : paint.yellow("sent in part")
  yield* line(`${verdict}: ${SmtpReply.render(result.reply)}`)
  for (const address of result.accepted) yield* line(`  to        ${escape(address)}`)
  for (const error of result.rejectedErrors) {
    yield* line(`  ${paint.red("refused")}   ${escape(error.recipient ?? "")}: ${error.message}`)
  }
  yield* line(`  size      ${showOctets(result.messageSize)}`)
  yield* line(`  over      ${securityLine(result.security, paint)}`)
  if (result.omitted.length > 0) yield* line(`  ${paint.yellow("without")}   ${result.omitted.join(", ")}`)
  const { rejectedErrors, reply, ...rest } = result
  yield* json({
    ...rest,
    response: escape(result.response),
    reply: reply.toJSON(),
    rejectedErrors: rejectedErrors.map(errorJson)
  })
  return rejectedErrors.length === 0 ? ExitCode.ok : ExitCode.unavailable
})

/** What to say of a send that was broken off. */
const tellBrokenOff = Effect.fnUntraced(function*(cause: Cause.Cause<unknown>) {
  if (!Cause.hasInterruptsOnly(cause) && !Terminal.isQuitError(Cause.squash(cause))) return
  const { json, note, paintNote } = yield* Output
  const { inDoubt, reply } = outcomeOf(cause)
  const isTaken = reply !== undefined && SmtpReply.severity(reply) === 2
  const outcome = isTaken ? "sent" : inDoubt ? "in doubt" : "not sent"
  const more = inDoubt ? ": the server may have taken the message" : ""
  yield* note(
    `${paintNote.yellow("interrupted:")} ${outcome}${reply === undefined ? more : `: ${SmtpReply.render(reply)}`}`
  )
  yield* json({ interrupted: true, outcome, inDoubt, ...(reply === undefined ? {} : { reply: reply.toJSON() }) })
})

const sendOne = Effect.fnUntraced(function*(client: SmtpClient.Client, envelope: Envelope.Input, content: Content) {
  let done = 0
  const counting = <E>(octets: Stream.Stream<Uint8Array | string, E>) =>
    Stream.suspend(() => {
      done = 0
      return Stream.tap(octets, ({ length }) =>
        Effect.sync(() => {
          done += length
        }))
    })
  const opened = content.open()
  const message = Stream.isStream(opened) ? replayableLike(counting(opened), [opened]) : opened
  const sent = withProgress(() => ({ done, total: content.size, show: showOctets }), client.send(envelope, message))
  return yield* tellSent(yield* sent)
})

const tellTally = Effect.fnUntraced(function*(tally: Tally, millis: number) {
  const { json, line, note, paint, paintNote } = yield* Output
  const rate = millis > 0 ? ` (${Number((doneOf(tally) * 1000 / millis).toPrecision(3))}/s)` : ""
  const verdict = tally.sent === tally.wanted ? paint.green("sent") : paint.yellow("sent")
  yield* line(
    `${verdict} ${tally.sent} of ${tally.wanted} in ${(millis / 1000).toFixed(1)} s${rate}, ${showOctets(tally.octets)}`
  )
  if (tally.partial > 0) yield* line(`  in part       ${tally.partial}`)
  if (tally.failed > 0) yield* line(`  failed        ${tally.failed}`)
  if (tally.inDoubt > 0) yield* line(`  in doubt      ${tally.inDoubt}`)
  const untried = tally.wanted - doneOf(tally)
  if (untried > 0) yield* line(`  not attempted ${untried}`)
  for (const { count, error } of tally.errors.values()) {
    const told = SmtpError.isSmtpError(error) ? `${error._tag} ${inFlags(error.message)}` : escape(error.message)
    yield* note(`${paintNote.red(`${count} x`)} ${told}`)
  }
  yield* json(tallyJson(tally, millis))
})

const repeat = Effect.fnUntraced(function*(
  client: SmtpClient.Client,
  envelope: Envelope.Input,
  content: Content,
  options: { readonly repeat: number; readonly concurrency: number }
) {
  const tally = emptyTally(options.repeat)
  const millis = yield* withProgress(
    () => ({ done: doneOf(tally), total: tally.wanted, show: String }),
    sendMany(client, envelope, content, tally, options.concurrency)
  ).pipe(Effect.onInterrupt(() => tellTally(tally, 0)))
  yield* tellTally(tally, millis)
  return exitCodeOfTally(tally)
})

/** The command. */
export const send = Command.make(
  "send",
  flags,
  Effect.fnUntraced(function*(given) {
    let hasBegunMany = false
    const work = Effect.gen(function*() {
      const isMany = given.repeat > 1
      const { content, envelope } = yield* outgoing(given, given.envelope, isMany)
      const options = yield* resolveOptions(given.host, given.connection, given.login)
      const client = yield* SmtpClient.make(overConnections(options, given.concurrency))
      hasBegunMany = isMany
      return isMany
        ? yield* repeat(client, envelope, content, given)
        : yield* sendOne(client, envelope, content)
    })
    const told = Effect.onExit(
      Effect.scoped(work),
      (exit) => Exit.isFailure(exit) && !hasBegunMany ? tellBrokenOff(exit.cause) : Effect.void
    )
    yield* run(given, Effect.flatMap(told, endWith))
  })
).pipe(
  Command.withDescription(
    "Send a message: a file, standard input, or one composed of flags.\n\n" +
      "The server comes from --host, or from SMTP_URL or SMTP_HOST, SMTP_PORT, SMTP_TLS. A password comes from " +
      "SMTP_PASSWORD, --password-file or a prompt, never from an argument. TLS is required and verified unless --tls " +
      "says otherwise."
  ),
  Command.withShortDescription("Send a message"),
  Command.withExamples([
    {
      command: "effect-smtp send --host mx.example.com --from ann@example.org --to bob@example.com message.eml",
      description: "Send a file as it is"
    },
    {
      command:
        "effect-smtp send -H smtp.example.org -u ann -f ann@example.org -t bob@example.com --subject Hi --text Hello",
      description: "Compose a message, log in, and be asked for the password"
    },
    {
      command:
        "SMTP_URL=smtps://smtp.example.org effect-smtp send -f a@example.org -t b@example.com --json < message.eml",
      description: "In a script: message on standard input, result as JSON"
    },
    {
      command: "effect-smtp send -H localhost -p 2525 --tls off -f a@test -t b@test -n 1000 -c 4 message.eml",
      description: "A thousand times over four connections"
    }
  ])
)
