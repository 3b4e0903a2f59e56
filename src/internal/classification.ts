/**
 * What a failure is called: the stages of a dialogue, the failures of a wire, and the tables that `SmtpError.classify`
 * reads.
 */
import * as SmtpReply from "../SmtpReply.ts"
import * as errorCause from "./errorCause.ts"

/**
 * The deadlines, by name.
 */
export type TimeoutName =
  | "dns"
  | "connect"
  | "greeting"
  | "tls"
  | "command"
  | "data"
  | "final"
  | "idle"
  | "quit"
  | "total"

/**
 * The steps of a dialogue; they decide, after the precedence of the failures below, which tag a refusal gets.
 *
 * @category models
 * @since 0.1.0
 */
export type Stage =
  | "CONN"
  | "GREETING"
  | "EHLO"
  | "HELO"
  | "LHLO"
  | "STARTTLS"
  | "TLS"
  | "AUTH"
  | "MAIL"
  | "RCPT"
  | "DATA"
  | "BDAT"
  | "BODY"
  | "FINAL"
  | "RSET"
  | "NOOP"
  | "VRFY"
  | "EXPN"
  | "HELP"
  | "QUIT"
  | "IDLE"

/**
 * A failure as the wire sees it, before it has a tag.
 *
 * @category models
 * @since 0.1.0
 */
export type Failure =
  | { readonly _tag: "Deadline"; readonly timeout: TimeoutName; readonly hint?: string | undefined }
  | { readonly _tag: "Errno"; readonly cause: unknown }
  | { readonly _tag: "Tls"; readonly cause: unknown }
  | { readonly _tag: "Closed" }
  | { readonly _tag: "Grammar"; readonly detail: string }
  | { readonly _tag: "Unsolicited"; readonly reply: SmtpReply.SmtpReply }
  | { readonly _tag: "Refused"; readonly reply: SmtpReply.SmtpReply; readonly secure?: boolean }
  | { readonly _tag: "Quit" }
  | { readonly _tag: "Released" }

/**
 * Where a failure happened and what is known of the message.
 *
 * @category models
 * @since 0.1.0
 */
export interface Where {
  readonly stage: Stage
  /** The command as errors show it; from the stage where absent. */
  readonly command?: string | undefined
  readonly inDoubt?: boolean | undefined
  /** Whether a part of the terminator was handed to the transport; by default that is so in the stage FINAL. */
  readonly handedOver?: boolean | undefined
  readonly attempted?: boolean | undefined
  readonly recipient?: string | undefined
}

export const commandOf: { readonly [K in Stage]?: string } = {
  GREETING: "CONN",
  TLS: "CONN",
  MAIL: "MAIL FROM",
  RCPT: "RCPT TO",
  BODY: "DATA",
  FINAL: "DATA",
  IDLE: "CONN"
}

type RefusalTag = "ECONNECTION" | "ETLS" | "EAUTH" | "EENVELOPE" | "EMESSAGE" | "EPROTOCOL"

/** Rule 7: a well-formed refusal, by stage. */
const refusalByStage: { readonly [K in Stage]: RefusalTag } = {
  CONN: "ECONNECTION",
  GREETING: "ECONNECTION",
  EHLO: "ECONNECTION",
  HELO: "ECONNECTION",
  LHLO: "ECONNECTION",
  STARTTLS: "ETLS",
  TLS: "ETLS",
  AUTH: "EAUTH",
  MAIL: "EENVELOPE",
  RCPT: "EENVELOPE",
  DATA: "EENVELOPE",
  BDAT: "EMESSAGE",
  BODY: "EMESSAGE",
  FINAL: "EMESSAGE",
  RSET: "EPROTOCOL",
  NOOP: "EPROTOCOL",
  VRFY: "EPROTOCOL",
  EXPN: "EPROTOCOL",
  HELP: "EPROTOCOL",
  QUIT: "EPROTOCOL",
  IDLE: "ECONNECTION"
}

export const refusalTag = (stage: Stage, reply: SmtpReply.SmtpReply, secure: boolean): RefusalTag | "ENOAUTH" => {
  if (reply.code === 421) return "ECONNECTION"
  if (!SmtpReply.isRefusal(reply)) return "EPROTOCOL"
  return stage === "MAIL" && reply.code === 530 ? (secure ? "ENOAUTH" : "ETLS") : refusalByStage[stage]
}

export const describe = (failure: Failure, command: string): string => {
  switch (failure._tag) {
    case "Deadline":
      return `${command}: the ${failure.timeout} deadline passed${
        failure.hint === undefined ? "" : `; ${failure.hint}`
      }`
    case "Errno":
      return `${command}: the socket failed${errorCause.codeOf(failure.cause).replace(/^(?=.)/, ": ")}`
    case "Tls":
      return `${command}: TLS ended with ${errorCause.codeOf(failure.cause) || "an error"}`
    case "Closed":
      return `${command}: the server closed the connection`
    case "Grammar":
      return `${command}: the server broke the protocol: ${failure.detail}`
    case "Unsolicited":
      return `${command}: the server sent a reply that answers no command: ${SmtpReply.render(failure.reply)}`
    case "Refused":
      return `${command}: the server answered ${SmtpReply.render(failure.reply)}`
    case "Quit":
      return `${command}: the connection was closed by quit; open another`
    case "Released":
      return `${command}: the connection was closed on this side: its scope ended, or a call on it was interrupted or failed`
  }
}
