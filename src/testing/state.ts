/**
 * The state of a session of the fake server, and how it makes its replies.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { type Answer, reply } from "./answer.ts"
import { Conversation, type Over, type Peer } from "./conversation.ts"
import type { Step } from "./faults.ts"
import * as Mail from "./mail.ts"
import type { Connection, Recorder } from "./records.ts"
import * as Script from "./script.ts"
import type { Sink } from "./sink.ts"
import type { Transport } from "./transport.ts"

type Command = Script.Command

/** A mail transaction: what MAIL opened. */
export interface Transaction {
  readonly sender: Mail.Address
  readonly recipients: Array<Mail.Address>
  /** Where the chunks of BDAT go. */
  sink: Sink | undefined
}

/** Whether a reply says yes. */
export const isPositive = (answer: Answer): boolean => answer.code >= 200 && answer.code < 300

/** The state of a session. */
export class Session implements Peer {
  readonly script: Script.Resolved
  readonly recorder: Recorder
  readonly connection: Connection
  readonly conversation: Conversation
  private respond: Script.Respond | undefined
  helo: string | undefined
  /** The client said EHLO or LHLO, not HELO. */
  isExtended = false
  username: string | undefined
  isRefused = false
  hasUpgraded = false
  transaction: Transaction | undefined

  constructor(script: Script.Resolved, recorder: Recorder, transport: Transport) {
    this.script = script
    this.recorder = recorder
    this.connection = recorder.connection()
    this.conversation = new Conversation(transport, this.connection, script, this)
  }

  get secure(): boolean {
    return this.connection.secure
  }

  /** A reply with its enhanced code, where those are offered. */
  say(code: number, enhanced: string, text: string): Answer {
    return reply(code, this.script.extensions.enhancedStatusCodes ? `${enhanced} ${text}` : text)
  }

  refuse(refusal: Mail.Refusal): Answer {
    return this.say(...refusal)
  }

  private get view(): Script.SessionView {
    return {
      connection: this.connection.id,
      secure: this.secure,
      helo: this.helo,
      username: this.username,
      from: this.transaction?.sender.path,
      to: this.transaction?.recipients.map(({ path }) => path) ?? []
    }
  }

  /** What the script answers, else the default. */
  answer(verb: keyof Script.Respond, command: Command, byDefault: () => Answer): Answer {
    this.respond ??= this.handlers()
    return this.respond[verb]?.(command, this.view) ?? byDefault()
  }

  private handlers(): Script.Respond {
    const { respond } = this.script
    const { connection } = this
    const note = (text: string) => connection.line("event", text)
    return typeof respond === "function" ? respond({ id: connection.id, note }) : respond
  }

  /** Answers a command at a step: what the reply says happens, then it is sent. */
  readonly reply = Effect.fnUntraced(function*(
    this: Session,
    steps: ReadonlyArray<Step>,
    answer: () => Answer,
    commit?: (answer: Answer) => void
  ): Effect.fn.Return<Answer, Over> {
    const plan = this.conversation.plan(steps, answer)
    commit?.(plan.answer)
    yield* this.conversation.emit(plan)
    return plan.answer
  }.bind(this))

  setHelo(name: string | undefined, isExtended: boolean): void {
    this.helo = this.connection.helo = name
    this.isExtended = isExtended
    this.transaction = undefined
  }

  setUsername(name: string | undefined): void {
    this.username = this.connection.username = name
  }

  get allowed(): Mail.Allowed {
    return {
      script: this.script,
      secure: this.secure,
      isExtended: this.isExtended,
      hasAuth: Script.mechanisms(this.script, this.secure).length > 0,
      smtpUtf8: this.transaction !== undefined && Mail.valueOf(this.transaction.sender, "SMTPUTF8") !== undefined
    }
  }

  usual(step: Step): Answer {
    switch (step) {
      case "ehlo":
      case "ehlo2":
        return Script.ehlo(this.script, this.secure, this.helo ?? "you")
      case "starttls":
      case "tls":
        return this.say(220, "2.0.0", "go ahead")
      case "auth":
      case "authContinue":
        return this.say(235, "2.7.0", "authenticated")
      case "data":
        return reply(354, "go ahead")
      case "idle":
        return this.say(421, "4.4.2", `${this.script.name} closing`)
      case "quit":
        return this.say(221, "2.0.0", "bye")
      default:
        return this.say(250, "2.0.0", "OK")
    }
  }

  follows(step: Step, behind: Step): boolean {
    const isMessageEnd = behind === "message" || behind === "bdat"
    switch (step) {
      case "auth":
        return Script.mechanisms(this.script, this.secure).length > 0 && behind.startsWith("ehlo")
      case "mail":
        return this.isReadyAt(behind) || behind === "message" || behind === "rset"
      case "rset":
      case "noop":
      case "vrfy":
      case "expn":
      case "help":
        return this.isReadyAt(behind)
      case "quit":
        return isMessageEnd
      default:
        return (before[step] ?? []).includes(behind)
    }
  }

  /** Whether the reply to `behind` is the last before the client may send mail. */
  private isReadyAt(behind: Step): boolean {
    if (this.script.requireAuth || this.script.accounts !== undefined) {
      return behind.startsWith("auth") && this.username !== undefined
    }
    return behind.startsWith("ehlo") && (this.secure || !this.script.extensions.startTls)
  }
}

/** The step before, where the order of a dialogue leaves no doubt. */
const before: { readonly [K in Step]?: ReadonlyArray<Step> } = {
  ehlo: ["greeting"],
  starttls: ["ehlo"],
  tls: ["starttls"],
  ehlo2: ["tls"],
  authContinue: ["auth"],
  rcpt: ["mail", "rcpt"],
  data: ["rcpt"],
  message: ["data"],
  bdat: ["rcpt", "bdat"]
}
