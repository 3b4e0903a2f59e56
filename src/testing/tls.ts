/**
 * STARTTLS, the handshake, and what goes wrong in it.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { encode, type Over, over } from "./conversation.ts"
import { concat } from "./records.ts"
import type { Command } from "./script.ts"
import type { Session } from "./state.ts"

/** Octets in place of a handshake; what the client says then is not read. */
const speakPlain = Effect.fnUntraced(function*(session: Session, octets: Uint8Array): Effect.fn.Return<never, Over> {
  session.conversation.append(octets)
  return yield* session.conversation.stop("Silence")
})

/** The handshake, and the faults in it. */
export const handshake = Effect.fnUntraced(function*(session: Session): Effect.fn.Return<void, Over> {
  const { connection, conversation } = session
  const { transport } = conversation
  yield* conversation.flush
  const { faults } = conversation.begin("tls")
  if (!(yield* transport.hello)) return yield* conversation.stop("Drop")
  const inside: Array<Uint8Array> = []
  for (const fault of faults) {
    if (fault._tag === "Delay") yield* conversation.sleep(fault.duration)
    else if (fault._tag === "Garbage") return yield* speakPlain(session, fault.octets)
    else if (fault._tag === "Answer") return yield* speakPlain(session, encode(fault.answer))
    else if (fault._tag === "Surplus") inside.push(fault.octets)
    else if (fault._tag === "TlsFailure") return yield* failHandshake(session)
    else if (stops(fault)) return yield* conversation.stop(fault._tag)
  }
  if (session.script.tls.fail) return yield* failHandshake(session)
  connection.secure = true
  inside.push(conversation.earlyBehind("tls"))
  const first = concat(inside)
  connection.line("event", "TLS")
  if (first.length > 0) connection.sent(first)
  if (!(yield* transport.startTls(first))) return yield* over
})

type Stop = "Silence" | "Stall" | "Drop" | "Reset"
const stops = (fault: { readonly _tag: string }): fault is { readonly _tag: Stop } =>
  fault._tag === "Silence" || fault._tag === "Stall" || fault._tag === "Drop" || fault._tag === "Reset"

const failHandshake = Effect.fnUntraced(function*(session: Session): Effect.fn.Return<never, Over> {
  session.connection.line("event", "TLS failed")
  yield* session.conversation.transport.failTls
  return yield* session.conversation.stop("Drop")
})

/** STARTTLS (RFC 3207 §4). */
export const startTls = Effect.fnUntraced(function*(session: Session, command: Command): Effect.fn.Return<void, Over> {
  const { connection, conversation, script } = session
  const byDefault = () => {
    if (!script.extensions.startTls || session.secure) return session.say(502, "5.5.1", "STARTTLS is not offered")
    if (command.argument !== "") return session.say(501, "5.5.4", "STARTTLS takes no argument")
    return session.isExtended ? session.usual("starttls") : session.say(503, "5.5.1", "say EHLO first")
  }
  const answer = yield* session.reply(["starttls"], () => session.answer("starttls", command, byDefault))
  if (answer.code !== 220) return
  const dropped = conversation.discard()
  if (dropped > 0) connection.line("event", `${dropped} octets in the clear behind STARTTLS`)
  session.setHelo(undefined, false)
  session.setUsername(undefined)
  session.hasUpgraded = true
  yield* handshake(session)
})
