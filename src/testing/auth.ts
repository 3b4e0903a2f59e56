/**
 * AUTH (RFC 4954): one exchange of lines, judged by the mechanisms of `saslServer`.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Base64 from "effect/encoding/Base64"
import * as Result from "effect/Result"
import { type ServerSession, serverStart } from "../internal/saslServer.ts"
import { type Answer, reply } from "./answer.ts"
import type { Over } from "./conversation.ts"
import type { Step } from "./faults.ts"
import { type Command, mechanisms } from "./script.ts"
import { isPositive, type Session } from "./state.ts"

const start = (session: Session, mechanism: string): ServerSession => {
  const { accounts, name } = session.script
  return serverStart(mechanism, {
    lookup: (username) => accounts !== undefined && Object.hasOwn(accounts, username) ? accounts[username] : undefined,
    acceptAny: accounts === undefined,
    challenge: `<${session.connection.id}.${session.connection.bytesReceived}@${name}>`,
    offered: mechanisms(session.script, session.secure),
    channelBindings: session.secure ? session.conversation.transport.channelBindings() : []
  })
}

/** Why AUTH is not in place, if so. */
const misplaced = (session: Session, mechanism: string): Answer | undefined => {
  const offered = mechanisms(session.script, session.secure)
  if (offered.length === 0) {
    return session.secure || !session.script.extensions.startTls
      ? session.say(502, "5.5.1", "AUTH is not offered")
      : session.say(538, "5.7.11", "STARTTLS first")
  }
  if (!session.isExtended) return session.say(503, "5.5.1", "say EHLO first")
  if (session.username !== undefined) return session.say(503, "5.5.1", "logged in already")
  if (session.transaction !== undefined) return session.say(503, "5.5.1", "a transaction is open")
  return offered.some((name) => name.toUpperCase() === mechanism.toUpperCase())
    ? undefined
    : session.say(504, "5.5.4", "mechanism not offered")
}

/** The octets of a response; "=" is an empty initial one. */
const octetsOf = (response: string | undefined): Result.Result<Uint8Array | undefined, unknown> =>
  response === undefined ? Result.succeed(undefined) : Base64.decode(response === "=" ? "" : response)

/** Judges one line of the client; `accepted` is told who logged in. */
const judge = (
  session: Session,
  exchange: ServerSession,
  response: string | undefined,
  accepted: (username: string) => void
): Answer => {
  if (response === "*") return session.say(501, "5.7.0", "cancelled")
  const octets = octetsOf(response)
  if (Result.isFailure(octets)) return session.say(501, "5.5.2", "base64 is expected")
  const step = exchange.step(octets.success)
  if (step._tag === "Challenge") return reply(334, Base64.encode(step.data))
  if (step._tag === "Reject") return session.say(535, "5.7.8", step.reason)
  accepted(step.username)
  return session.say(235, "2.7.0", "authenticated")
}

/** AUTH (RFC 4954 §4). */
export const auth = Effect.fnUntraced(function*(session: Session, first: Command): Effect.fn.Return<void, Over> {
  const [mechanism = "", initial, ...rest] = first.argument.split(" ")
  const refusal = rest.length > 0 || mechanism === ""
    ? session.say(501, "5.5.4", "AUTH mechanism [initial-response] is expected")
    : misplaced(session, mechanism)
  const exchange = start(session, mechanism)
  let username = ""
  const accepted = (name: string) => {
    username = name
  }
  let command = first
  let response = initial
  let step: Step = "auth"
  while (true) {
    const byDefault = () => refusal ?? judge(session, exchange, response, accepted)
    const answer = yield* session.reply([step], () => session.answer("auth", command, byDefault), (given) => {
      if (isPositive(given)) session.setUsername(username)
    })
    if (answer.code !== 334) return
    response = (yield* session.conversation.line).text
    session.connection.line("client", response)
    command = { verb: "AUTH", argument: response, line: response }
    step = "authContinue"
  }
})
