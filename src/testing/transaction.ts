/**
 * MAIL, RCPT and RSET: the envelope of a transaction.
 *
 * @since 0.1.0
 */
import * as Mail from "./mail.ts"
import type { Command } from "./script.ts"
import { isPositive, type Session } from "./state.ts"

/** MAIL (RFC 5321 §4.1.1.2). */
export const mail = (session: Session, command: Command) => {
  const { script } = session
  const address = Mail.parse("FROM", command.argument)
  const byDefault = () => {
    if (session.helo === undefined) {
      return session.say(503, "5.5.1", `say ${script.protocol === "lmtp" ? "LHLO" : "EHLO"} first`)
    }
    if (session.transaction !== undefined) return session.say(503, "5.5.1", "a transaction is open")
    if (script.requireAuth && session.username === undefined) return session.say(530, "5.7.0", "log in first")
    if (address === undefined) return session.say(501, "5.1.7", "MAIL FROM:<path> is expected")
    const refusal = Mail.check("FROM", address, session.allowed)
    if (refusal !== undefined) return session.refuse(refusal)
    const limit = script.extensions.size
    return limit !== false && Number(Mail.valueOf(address, "SIZE") ?? 0) > limit
      ? session.say(552, "5.3.4", `the limit is ${limit} octets`)
      : session.say(250, "2.1.0", "sender OK")
  }
  const answer = () => session.answer("mail", { ...command, ...address }, byDefault)
  return session.reply(["mail"], answer, (given) => {
    if (isPositive(given)) {
      session.transaction = {
        sender: address ?? { path: command.argument, parameters: [] },
        recipients: [],
        sink: undefined
      }
    }
  })
}

/** RCPT (RFC 5321 §4.1.1.3). */
export const rcpt = (session: Session, command: Command) => {
  const address = Mail.parse("TO", command.argument)
  const byDefault = () => {
    if (session.transaction === undefined) return session.say(503, "5.5.1", "say MAIL first")
    if (session.transaction.sink !== undefined) return session.say(503, "5.5.1", "BDAT has begun")
    if (address === undefined) return session.say(501, "5.1.3", "RCPT TO:<path> is expected")
    const refusal = Mail.check("TO", address, session.allowed)
    return refusal === undefined ? session.say(250, "2.1.5", "recipient OK") : session.refuse(refusal)
  }
  return session.reply(["rcpt"], () => session.answer("rcpt", { ...command, ...address }, byDefault), (given) => {
    if (isPositive(given)) session.transaction?.recipients.push(address ?? { path: command.argument, parameters: [] })
  })
}

/** RSET (RFC 5321 §4.1.1.5). */
export const rset = (session: Session, command: Command) => {
  const byDefault = () =>
    command.argument === "" ? session.usual("rset") : session.say(501, "5.5.4", "RSET takes no argument")
  return session.reply(["rset"], () => session.answer("rset", command, byDefault), (given) => {
    if (isPositive(given)) session.transaction = undefined
  })
}
