/** A client without a server: what its sends end in is the test's to say. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { type Client, type ClientError, withSendAll } from "../../src/internal/client/model.ts"
import type { SendResult } from "../../src/internal/outcome.ts"
import * as SmtpError from "../../src/SmtpError.ts"
import * as SmtpReply from "../../src/SmtpReply.ts"

export const envelope = { from: "ann@me.test", to: "bob@mx.test" }

const reply = SmtpReply.make(250, "2.0.0 ok")

const security = { _tag: "the report of the stub" } as never as SendResult["security"]

export const sent: SendResult = {
  accepted: ["bob@mx.test"],
  rejected: [],
  rejectedErrors: [],
  reply,
  response: reply.text,
  messageSize: 4,
  omitted: [],
  security
}

/** What a call does before it ends in success. */
export type Behaviour = (message: unknown) => Effect.Effect<unknown, ClientError>

export const make = (behaviour: Behaviour = () => Effect.void): Client =>
  withSendAll({
    send: (_, message) => Effect.as(Effect.suspend(() => behaviour(message)), sent),
    use: (f) =>
      Effect.andThen(
        Effect.suspend(() => behaviour("use")) as Effect.Effect<void>,
        Effect.suspend(() => f({ isStub: true } as never))
      ),
    verify: Effect.as(Effect.suspend(() => behaviour("verify")) as Effect.Effect<void>, {
      greeting: SmtpReply.make(220, "stub"),
      secure: false,
      security: Option.none(),
      securityReport: security,
      authenticated: false
    } as never)
  })

/** Fails with each of the errors in turn, then succeeds. */
export const failing = (...errors: ReadonlyArray<ClientError | undefined>): Behaviour => {
  let calls = 0
  return () =>
    Effect.suspend(() => {
      const error = errors[calls++]
      return error === undefined ? Effect.void : Effect.fail(error)
    })
}

const fields = { message: "as the test says", command: "CONN" }

export const refused = (code: number, enhanced: string, command = "MAIL FROM") => ({
  message: `${command}: the server answered ${code} ${enhanced}`,
  command,
  reply: SmtpReply.make(code, `${enhanced} as the test says`)
})

export const errors = {
  EDNS: new SmtpError.EDNS({ ...fields, host: "mx.test" }),
  ECONNECTION: new SmtpError.ECONNECTION(fields),
  ESOCKET: new SmtpError.ESOCKET(fields),
  ETIMEDOUT: new SmtpError.ETIMEDOUT({ ...fields, timeout: "connect" }),
  EPROXY: new SmtpError.EPROXY(fields),
  ETLS: new SmtpError.ETLS(fields),
  EPROTOCOL: new SmtpError.EPROTOCOL(fields),
  EAUTH: new SmtpError.EAUTH(refused(535, "5.7.8", "AUTH PLAIN")),
  ENOAUTH: new SmtpError.ENOAUTH(refused(530, "5.7.0")),
  EOAUTH2: new SmtpError.EOAUTH2(fields),
  "421 to MAIL": new SmtpError.ECONNECTION(refused(421, "4.3.2")),
  "451 to MAIL": new SmtpError.EENVELOPE(refused(451, "4.3.0")),
  "451 4.7.0 to MAIL": new SmtpError.EENVELOPE(refused(451, "4.7.0")),
  "451 4.7.1 to RCPT": new SmtpError.EENVELOPE(refused(451, "4.7.1", "RCPT TO")),
  "550 to RCPT": new SmtpError.EENVELOPE(refused(550, "5.1.1", "RCPT TO")),
  "554 to DATA": new SmtpError.EENVELOPE(refused(554, "5.6.0", "DATA")),
  "552 after the message": new SmtpError.EMESSAGE({ ...refused(552, "5.3.4", "DATA"), handedOver: true }),
  "451 after the message": new SmtpError.EMESSAGE({ ...refused(451, "4.3.0", "DATA"), handedOver: true }),
  "a loss in doubt": new SmtpError.ECONNECTION({ ...fields, command: "DATA", inDoubt: true, handedOver: true }),
  "whatever is in doubt": new SmtpError.ECONNECTION({ ...fields, inDoubt: true }),
  "a wait of ours": new SmtpError.ETIMEDOUT({ ...fields, command: "API", attempted: false, timeout: "total" }),
  "a bad address": new SmtpError.EENVELOPE({ ...fields, command: "API", attempted: false }),
  EREQUIRETLS: new SmtpError.EREQUIRETLS(fields),
  ESTREAM: new SmtpError.ESTREAM(fields),
  ECONFIG: new SmtpError.ECONFIG({ ...fields, command: "API" })
} as const
