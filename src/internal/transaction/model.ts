/**
 * What a transaction is made of: the plan, the dialogue it runs on, and the state of one run.
 */
import type { Envelope } from "../../Envelope.ts"
import type { SmtpCapabilities } from "../../SmtpCapabilities.ts"
import type * as SmtpCommand from "../../SmtpCommand.ts"
import type * as SmtpError from "../../SmtpError.ts"
import type { Session } from "../../SmtpHandshake.ts"
import type * as SmtpReply from "../../SmtpReply.ts"
import type { Source } from "../message.ts"
import type * as outcome from "../outcome.ts"
import type { Steps } from "../telemetry/phases.ts"

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
  /** Whether octets of 0x80 and above may be sent: the server was told, or the body is BINARYMIME. */
  readonly allowsEightBit: boolean
  /** How the message goes: after a 354 up to the lone dot, or in counted chunks (RFC 3030). */
  readonly via: "DATA" | "BDAT"
  /** Whether the octets of the message go as they are (BODY=BINARYMIME). */
  readonly isVerbatim: boolean
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
  /** Default "DATA". BINARYMIME goes by BDAT whatever it says. */
  readonly via?: "DATA" | "BDAT" | undefined
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
  /**
   * The server is not one that waits for a login or TLS: it accepted MAIL, or offers neither. Another may answer 530 to BDAT
   * and take the chunk for commands.
   */
  takesMail: boolean
  /** How many transactions were begun. */
  transactions: number
  /** Most replies that may be owed at once; 1 is one command at a time. */
  readonly budget: number
  /** More than one reply has been owed at once. */
  hasGrouped: boolean
  /** The server answered a group of commands out of step: it is to be talked to one command at a time. */
  readonly onOutOfStep: () => void
  /** Told how many milliseconds the final reply to a message took. */
  readonly onFinal?: ((millis: number) => void) | undefined
}

/** A command whose reply is owed, or will be; FINAL is the reply to a terminator. */
export interface Step {
  readonly stage: "RSET" | "MAIL" | "RCPT" | "DATA" | "BDAT" | "FINAL"
  readonly command: SmtpCommand.SmtpCommand | undefined
  readonly recipient?: string | undefined
}

/** The state of one run. What was asked and answered is kept here, so that reading can go on after an interruption. */
export interface Run<E, R> {
  readonly dialogue: Dialogue
  readonly plan: Plan
  readonly source: Source<E, R>
  readonly requireAllRecipients: boolean
  readonly steps: Array<Step>
  /** How many steps were written, and how many were answered. */
  written: number
  answered: number
  /** MAIL was refused. */
  mailRefusal: SmtpError.SendError | undefined
  /** DATA was refused, or a chunk before the last. */
  refusal: SmtpError.SendError | undefined
  readonly outcomes: Array<outcome.Outcome>
  accepted: number
  /** The server waits for a body. */
  isHeld: boolean
  /** The last octet of the terminator may have been handed to the transport. */
  isHandedOver: boolean
  /** When it was, in milliseconds of the wire. */
  handedOverAt: number | undefined
  /** Told of the steps; undefined unless somebody wants to know. */
  readonly tell: Steps | undefined
  readonly finals: Array<SmtpReply.SmtpReply>
  /** What it ends in leaves the connection usable. */
  isSettled: boolean
}
