/**
 * The session engine: one SMTP or LMTP dialogue over a transport, by a script.
 *
 * What it is: the order of the commands, their default replies and what they change. What it is not: it knows neither
 * sockets (`transport.ts`) nor how a fault strikes (`conversation.ts`).
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { type Answer, reply } from "./answer.ts"
import { auth } from "./auth.ts"
import type { Over } from "./conversation.ts"
import { bdat, data } from "./message.ts"
import type { Recorder } from "./records.ts"
import * as Script from "./script.ts"
import { isPositive, Session } from "./state.ts"
import { handshake, startTls } from "./tls.ts"
import { mail, rcpt, rset } from "./transaction.ts"
import type { Transport } from "./transport.ts"

type Command = Script.Command

const nothing: Command = { verb: "", argument: "", line: "" }

const greet = Effect.fnUntraced(function*(session: Session): Effect.fn.Return<void, Over> {
  const opening = yield* session.conversation.transport.opening
  if (opening === "tls") yield* handshake(session)
  const answer = () => session.answer("greeting", nothing, () => session.script.greeting)
  yield* session.reply(["greeting"], answer, (given) => {
    session.isRefused = given.code >= 400
  })
})

const hello = (session: Session, command: Command, verb: "ehlo" | "lhlo" | "helo") => {
  const { script } = session
  const isFitting = (script.protocol === "lmtp") === (verb === "lhlo")
  const byDefault = () =>
    !isFitting
      ? session.say(500, "5.5.1", `this is ${script.protocol.toUpperCase()}`)
      : command.argument === ""
      ? session.say(501, "5.5.4", `${command.verb} needs a name`)
      : verb === "helo"
      ? reply(250, script.name)
      : Script.ehlo(script, session.secure, command.argument)
  return session.reply(
    [session.hasUpgraded ? "ehlo2" : "ehlo"],
    () => session.answer(verb, command, byDefault),
    (given) => {
      if (isPositive(given)) session.setHelo(command.argument, verb !== "helo")
    }
  )
}

const quit = Effect.fnUntraced(function*(session: Session, command: Command): Effect.fn.Return<void, Over> {
  const answer = yield* session.reply(["quit"], () => session.answer("quit", command, () => session.usual("quit")))
  if (isPositive(answer)) return yield* session.conversation.stop("Drop")
})

/** The commands that change nothing. */
const simple = (session: Session, verb: "noop" | "vrfy" | "expn" | "help", command: Command) => {
  const replies = {
    noop: () => session.usual("noop"),
    vrfy: () => session.say(252, "2.1.5", "try to send something"),
    expn: () => session.say(502, "5.5.1", "EXPN is not implemented"),
    help: () => session.say(214, "2.0.0", "see RFC 5321")
  }
  return session.reply([verb], () => session.answer(verb, command, replies[verb]))
}

const unknown = (session: Session, command: Command, byDefault: () => Answer) =>
  session.reply([], () => session.answer("unknown", command, byDefault))

const commands: { readonly [verb: string]: (session: Session, command: Command) => Effect.Effect<unknown, Over> } = {
  EHLO: (session, command) => hello(session, command, "ehlo"),
  HELO: (session, command) => hello(session, command, "helo"),
  LHLO: (session, command) => hello(session, command, "lhlo"),
  STARTTLS: startTls,
  AUTH: auth,
  MAIL: mail,
  RCPT: rcpt,
  DATA: data,
  BDAT: bdat,
  RSET: rset,
  NOOP: (session, command) => simple(session, "noop", command),
  VRFY: (session, command) => simple(session, "vrfy", command),
  EXPN: (session, command) => simple(session, "expn", command),
  HELP: (session, command) => simple(session, "help", command),
  QUIT: quit
}

/** The commands after which a client has to wait for the reply (RFC 2920 §3.1; RFC 3207 §4; RFC 4954 §4). */
const endsGroup = new Set(["EHLO", "HELO", "LHLO", "DATA", "VRFY", "EXPN", "NOOP", "QUIT", "STARTTLS", "AUTH"])

/** Notes a client that spoke ahead where it must not. */
const noteSpeakingAhead = (session: Session, verb: string): void => {
  if (session.conversation.buffered === 0 || verb === "BDAT") return
  const { pipelining } = session.script.extensions
  if (!pipelining) session.connection.line("event", `octets behind ${verb} without PIPELINING`)
  else if (endsGroup.has(verb)) session.connection.line("event", `octets behind ${verb}, which ends a group`)
}

const step = Effect.fnUntraced(function*(session: Session): Effect.fn.Return<void, Over> {
  const { text, isTooLong } = yield* session.conversation.line
  session.connection.line("client", text)
  const space = text.indexOf(" ")
  const verb = (space < 0 ? text : text.slice(0, space)).toUpperCase()
  const command = { verb, argument: space < 0 ? "" : text.slice(space + 1), line: text }
  noteSpeakingAhead(session, verb)
  if (isTooLong) yield* unknown(session, command, () => session.say(500, "5.5.2", "line too long"))
  // oxlint-disable-next-line no-control-regex -- matching control characters is what this is for
  else if (/[\u0000-\u001f\u007f]/.test(text)) {
    yield* unknown(session, command, () => session.say(500, "5.5.2", "control character in a command"))
  } else if (session.isRefused && verb !== "QUIT") {
    yield* unknown(session, command, () => session.say(503, "5.5.1", "only QUIT is taken here"))
  } else {
    const run = commands[verb]
    yield* run === undefined
      ? unknown(session, command, () => session.say(500, "5.5.1", "command not recognised"))
      : run(session, command)
  }
})

/**
 * Runs one connection to its end, whoever ends it. Never fails: a handler that throws ends the connection and is
 * logged. Ends the transport also when interrupted.
 *
 * @category running
 * @since 0.1.0
 */
export const run = (script: Script.Resolved, recorder: Recorder, transport: Transport): Effect.Effect<void> =>
  Effect.suspend(() => {
    const session = new Session(script, recorder, transport)
    return Effect.andThen(greet(session), Effect.forever(step(session), { disableYield: true })).pipe(
      Effect.ignore,
      Effect.catchDefect((defect) => {
        session.connection.line("event", `the script threw: ${String(defect)}`)
        return Effect.logError("the script of the fake server threw", defect)
      }),
      Effect.ensuring(Effect.andThen(transport.end, Effect.sync(() => session.connection.close())))
    )
  })
