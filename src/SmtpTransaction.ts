/**
 * One mail transaction: MAIL, RCPT for each recipient, DATA, the body, the final reply or replies.
 *
 * What it is: RFC 5321 section 3.3 as a pure plan and an effectful run, with LMTP's replies per recipient (RFC 2033).
 * What it is not: it opens no connection, and it never tries again.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type { Source } from "./internal/message.ts"
import type * as outcome from "./internal/outcome.ts"
import { deliver } from "./internal/transaction/deliver.ts"
import type { Dialogue, Plan, PlanInput } from "./internal/transaction/model.ts"
import * as state from "./internal/transaction/run.ts"
import * as SmtpError from "./SmtpError.ts"

export type {
  /** @since 0.1.0 */
  Dialogue,
  /** @since 0.1.0 */
  Plan,
  /** @since 0.1.0 */
  PlanInput
} from "./internal/transaction/model.ts"

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
  if (envelope.binaryMime && !(capabilities.binaryMime && capabilities.chunking)) {
    const why = lacks(capabilities.binaryMime ? "CHUNKING" : "BINARYMIME", "binaryMime")
    return new SmtpError.EMESSAGE(api("envelope.binaryMime", `${why}; encode the message as text, and leave it out`))
  }
  const mustBeEightBit = content === undefined ? envelope.use8BitMime === true : content.hasEightBit
  if (mustBeEightBit && !envelope.binaryMime && !capabilities.eightBitMime) {
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
        body: envelope.binaryMime ? "BINARYMIME" : eightBit ? "8BITMIME" : undefined,
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
        parameters: {
          smtpUtf8: envelope.needsSmtpUtf8,
          notify: usesDsn ? notify : undefined,
          orcpt: usesDsn ? orcpt : undefined
        }
      }
    })),
    omitted: envelope.needsDsn && !usesDsn ? ["DSN"] : [],
    allowsEightBit: eightBit || envelope.binaryMime,
    via: envelope.binaryMime ? "BDAT" : input.via ?? "DATA",
    isVerbatim: envelope.binaryMime
  })
}

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
  if (!state.isPositive(reply)) {
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
 * Where the server offers PIPELINING, MAIL, RCPT and DATA go as one group (RFC 2920); a message that goes by BDAT and is
 * small goes with them (RFC 3030), if the server has answered within the last 5 seconds and may not wait for a login or TLS
 * (`takesMail`). Whatever it ends in, the wire is either usable afterwards or failed: it is left open only after success and
 * after a well-formed refusal. An interruption after the terminator waits at most 500 ms for the reply, fails the wire, and
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
): Effect.Effect<outcome.Sent, SmtpError.SendError | E, R> =>
  Effect.suspend(() => deliver(state.make(dialogue, plan, source, requireAllRecipients)))
