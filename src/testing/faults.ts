/**
 * What goes wrong on purpose: the faults of the fake server, and where in a dialogue they strike.
 *
 * What it is: values; `conversation.ts` and `session.ts` act on them.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import { type Answer as Reply, reply } from "./answer.ts"

/**
 * The steps of a dialogue at which a fault can strike, in the order of a dialogue.
 *
 * **Details**
 *
 * `connect` is the dialling itself (in memory only); `tls` the handshake; `ehlo2` the EHLO after STARTTLS; `auth` the
 * reply to the AUTH command and `authContinue` the reply to each further line of the exchange; `body` comes after the
 * first octet of a message; `message` is its final reply (LMTP: each of them); `bdat` the reply to each BDAT; `idle`
 * strikes unsolicited, after a message's last reply.
 *
 * @category models
 * @since 0.1.0
 */
export const steps = [
  "connect",
  "greeting",
  "ehlo",
  "starttls",
  "tls",
  "ehlo2",
  "auth",
  "authContinue",
  "mail",
  "rcpt",
  "data",
  "body",
  "message",
  "bdat",
  "rset",
  "noop",
  "vrfy",
  "expn",
  "help",
  "idle",
  "quit"
] as const

/**
 * One of {@link steps}.
 *
 * @category models
 * @since 0.1.0
 */
export type Step = (typeof steps)[number]

/**
 * What goes wrong. Made by the functions of this module.
 *
 * @category models
 * @since 0.1.0
 */
export type Fault =
  | { readonly _tag: "Delay"; readonly duration: Duration.Input }
  | { readonly _tag: "Silence" }
  | { readonly _tag: "Stall" }
  | { readonly _tag: "Drop" }
  | { readonly _tag: "Reset" }
  | { readonly _tag: "Garbage"; readonly octets: Uint8Array }
  | { readonly _tag: "ByteAtATime"; readonly interval: Duration.Input }
  | { readonly _tag: "EarlyReply"; readonly behind: Step | undefined }
  | { readonly _tag: "Surplus"; readonly octets: Uint8Array }
  | { readonly _tag: "Answer"; readonly answer: Reply }
  | { readonly _tag: "TlsFailure" }
  | { readonly _tag: "CutAfter"; readonly octets: number; readonly how: "Drop" | "Reset" }
  | { readonly _tag: "PlaintextAfterStartTls"; readonly octets: Uint8Array; readonly sameSegment: boolean }

/**
 * A fault at its place. Made by {@link at}.
 *
 * @category models
 * @since 0.1.0
 */
export interface PlacedFault {
  readonly step: Step
  readonly fault: Fault
  /** Which time the step comes on its connection, from 1, or "every". */
  readonly occurrence: number | "every"
  /** Number of the connection, from 1; undefined = every one. */
  readonly connection: number | undefined
}

/**
 * Puts a fault at a step: by default the first time it comes, on every connection.
 *
 * **Details**
 *
 * Several faults at one place add up, e.g. a delay and an answer.
 *
 * **Example**
 *
 * ```ts
 * import { SmtpServer } from "effect-smtp/testing"
 *
 * const greylisting = { faults: [SmtpServer.at("rcpt", SmtpServer.answer(451, "4.7.1 try again later"))] }
 * const second = { faults: [SmtpServer.at("data", SmtpServer.drop, { connection: 2, occurrence: 1 })] }
 * SmtpServer.layer(greylisting)
 * SmtpServer.layer(second)
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const at = (
  step: Step,
  fault: Fault,
  options?: { readonly occurrence?: number | "every" | undefined; readonly connection?: number | undefined }
): PlacedFault => ({ step, fault, occurrence: options?.occurrence ?? 1, connection: options?.connection })

const utf8 = new TextEncoder()
const octetsOf = (octets: Uint8Array | string): Uint8Array => typeof octets === "string" ? utf8.encode(octets) : octets

/** The normal reply, but later. At `body` the server takes nothing meanwhile; at `idle` it goes on. @category faults @since 0.1.0 */
export const delay = (duration: Duration.Input): Fault => ({ _tag: "Delay", duration })

/** No reply to this and to anything after it; the client's octets are taken. @category faults @since 0.1.0 */
export const silence: Fault = { _tag: "Silence" }

/** No reply to this, and nothing more is taken from the client, so that its writes back up. @category faults @since 0.1.0 */
export const stall: Fault = { _tag: "Stall" }

/** FIN in place of the reply. What the command asked for has happened: a message is recorded. @category faults @since 0.1.0 */
export const drop: Fault = { _tag: "Drop" }

/** RST in place of the reply: `ECONNRESET`. At `connect` the dialling is refused. @category faults @since 0.1.0 */
export const reset: Fault = { _tag: "Reset" }

/** Octets that are no reply in place of the reply; the dialogue goes on. @category faults @since 0.1.0 */
export const garbage = (octets: Uint8Array | string = "\u0000\u0007 no reply\r\n"): Fault => ({
  _tag: "Garbage",
  octets: octetsOf(octets)
})

/** The reply in writes of one octet, `interval` apart (default: no time between). @category faults @since 0.1.0 */
export const byteAtATime = (interval: Duration.Input = 0): Fault => ({ _tag: "ByteAtATime", interval })

/**
 * The reply to this step before its command, in one write with the reply before it; when the command comes it gets no
 * other.
 *
 * **Details**
 *
 * The reply before it is found from the usual order of a dialogue. MAIL, RSET, NOOP, VRFY, EXPN and HELP follow the
 * login if the script demands one (`requireAuth`, `accounts`), else the EHLO after which no STARTTLS is offered; MAIL
 * also follows a final reply, and QUIT a final reply alone. Name the step in `behind` where a test goes another way.
 * At `tls` a plaintext reply follows the 220; at `ehlo2` the reply follows the handshake; at `body` the final reply
 * comes in the middle of the message. A command that was pipelined is there already: its reply is not early then.
 *
 * @category faults
 * @since 0.1.0
 */
export const earlyReply = (behind?: Step): Fault => ({ _tag: "EarlyReply", behind })

/** One more reply behind the normal one. @category faults @since 0.1.0 */
export const surplus = (text = "250 2.0.0 surplus"): Fault => ({ _tag: "Surplus", octets: octetsOf(`${text}\r\n`) })

/** This reply in place of the normal one. After 421 the server closes. @category faults @since 0.1.0 */
export const answer = (code: number, ...lines: ReadonlyArray<string>): Fault => ({
  _tag: "Answer",
  answer: reply(code, ...lines)
})

/** The handshake fails with an alert; at another step than `tls` the connection drops. @category faults @since 0.1.0 */
export const tlsFailure: Fault = { _tag: "TlsFailure" }

/**
 * FIN at the moment the n-th octet of the client arrives; what came before it was answered.
 *
 * **Details**
 *
 * Octets are counted from the step on: at `greeting` from the connection's first, at `body` from the message's first.
 * Octets of TLS records do not count, only what they carry.
 *
 * @category faults
 * @since 0.1.0
 */
export const dropAfter = (octets: number): Fault => ({ _tag: "CutAfter", octets, how: "Drop" })

/** As {@link dropAfter}, but RST. @category faults @since 0.1.0 */
export const resetAfter = (octets: number): Fault => ({ _tag: "CutAfter", octets, how: "Reset" })

/**
 * Octets in the clear behind the reply to STARTTLS: in the same write, or in one of their own. For step `starttls`.
 *
 * @category faults
 * @since 0.1.0
 */
export const plaintextAfterStartTls = (
  octets: Uint8Array | string = "250 2.0.0 injected\r\n",
  sameSegment = true
): Fault => ({ _tag: "PlaintextAfterStartTls", octets: octetsOf(octets), sameSegment })
