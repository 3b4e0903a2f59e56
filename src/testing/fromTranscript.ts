/**
 * A recorded dialogue as a script: the server says again what it said.
 *
 * @since 0.1.0
 */
import { escapeText } from "../SmtpReply.ts"
import type { Transcript } from "../SmtpTranscript.ts"
import { type Answer, reply } from "./answer.ts"
import { at, drop, type PlacedFault, type Step, tlsFailure } from "./faults.ts"
import { type Exchange, isSame, read, type Recorded, refusalOf } from "./recorded.ts"
import type { Command, Handler, Respond, Script, ScriptedConnection, SessionView } from "./script.ts"

/**
 * How a recording is played.
 *
 * @category models
 * @since 0.1.0
 */
interface ReplayOptions {
  /** Usernames and their passwords or tokens. Absent: any credentials are taken, and SCRAM and DIGEST-MD5 are not offered. */
  readonly accounts?: Readonly<Record<string, string>> | undefined
}

const anyCredentials = ["PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2", "OAUTHBEARER", "EXTERNAL", "ANONYMOUS"]
const knownSecrets = [
  ...["SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512"].flatMap((name) => [name, `${name}-PLUS`]),
  "DIGEST-MD5"
]

/** The offer of mechanisms without those that need the password; PLAIN takes their place where nothing else can. */
const offer = (line: string): string => {
  if (!/^AUTH[ =]/i.test(line)) return line
  const names = line.slice(5).split(" ")
  const left = names.filter((name) => !knownSecrets.includes(name.toUpperCase()))
  const takesPassword = left.some((name) => /^(PLAIN|LOGIN|CRAM-MD5)$/i.test(name))
  if (left.length < names.length && !takesPassword) left.push("PLAIN")
  return line.slice(0, 5) + left.join(" ")
}

/** The mechanisms that the server offered, in upper case. */
const offered = ({ exchanges }: Recorded): ReadonlyArray<string> =>
  exchanges.filter(({ verb }) => verb === "EHLO" || verb === "LHLO")
    .flatMap(({ replies }) => replies.flatMap(({ lines }) => lines))
    .filter((line) => /^AUTH[ =]/i.test(line))
    .flatMap((line) => line.slice(5).toUpperCase().split(" "))

/** What is said where the recording ends. */
const lost = (): Answer => reply(421, "4.4.2 the recording ends here")

/** One connection that is played. */
class Player {
  private readonly exchanges: ReadonlyArray<Exchange>
  private readonly connection: ScriptedConnection
  private readonly knowsSecrets: boolean
  private next = 0
  /** The message that is being taken, and which of its final replies is next. */
  private body: Exchange | undefined
  private final = 0

  constructor(recorded: Recorded, connection: ScriptedConnection, knowsSecrets: boolean) {
    this.exchanges = recorded.exchanges
    this.connection = connection
    this.knowsSecrets = knowsSecrets
  }

  /** The next exchange, if it is of this kind; what may be left out is passed over. */
  private take(verb: string, matches: (recorded: string) => boolean = () => true): Exchange | undefined {
    for (let i = this.next; i < this.exchanges.length; i++) {
      const exchange = this.exchanges[i]!
      if (exchange.verb === verb && matches(exchange.line)) {
        this.next = i + 1
        return exchange
      }
      if (!exchange.isOptional) return undefined
    }
    return undefined
  }

  /** What the recording has next that must come, in words. */
  private get expected(): string {
    const next = this.exchanges.slice(this.next).find(({ isOptional }) => !isOptional)
    return next === undefined ? "nothing more" : escapeText(next.line, 200)
  }

  private deviates(said: string): Answer {
    this.connection.note(`not as recorded: ${escapeText(said, 200)} in place of ${this.expected}`)
    return reply(503, `5.5.1 not as recorded: expected ${this.expected}`)
  }

  /** Answers a command that is compared whole, or by its verb alone. */
  private readonly plain = (isWhole: boolean): Handler => (command) => {
    const line = escapeText(command.line, 2000)
    const exchange = this.take(command.verb, (recorded) => !isWhole || isSame(recorded, line))
    return exchange === undefined ? this.deviates(command.line) : exchange.replies[0] ?? lost()
  }

  private readonly hello: Handler = (command, session) => {
    const answer = this.plain(false)(command, session)
    return answer === undefined || this.knowsSecrets
      ? answer
      : reply(answer.code, ...answer.lines.map(offer))
  }

  /** How the login ended counts, not by which mechanism it was made. */
  private readonly auth: Handler = (command) => {
    // Inside an exchange the whole line is the argument.
    if (command.argument === command.line) return undefined
    const exchange = this.take("AUTH")
    if (exchange === undefined) return this.deviates("AUTH")
    const end = exchange.replies.find(({ code }) => code !== 334)
    if (end?.code !== 235) return end ?? lost()
    const [mechanism = ""] = command.argument.split(" ")
    return [...anyCredentials, ...knownSecrets].includes(mechanism.toUpperCase()) ? undefined : end
  }

  private readonly mail: Handler = (command, session) => {
    this.body = undefined
    return this.plain(true)(command, session)
  }

  /** Without a transaction the usual refusal does: a client that pipelines cannot know. */
  private readonly rcpt: Handler = (command, session) => {
    const isOpen = session.from !== undefined
    const line = escapeText(command.line, 2000)
    const exchange = this.take("RCPT", (recorded) => isSame(recorded, line))
    if (exchange === undefined) return isOpen ? this.deviates(command.line) : undefined
    return exchange.replies[0] ?? lost()
  }

  /** Without recipients the usual refusal does, as at RCPT. */
  private missing(command: Command, session: SessionView): Answer | undefined {
    return session.to.length > 0 ? this.deviates(command.line) : undefined
  }

  private begin(): Exchange | undefined {
    this.final = 0
    this.body = this.take("BODY")
    return this.body
  }

  private readonly data: Handler = (command, session) => {
    const body = this.begin()
    if (body === undefined) return this.missing(command, session)
    const [first] = body.replies
    return refusalOf(body) ?? (first?.code === 354 ? first : reply(354, "go ahead"))
  }

  /** A chunk that is not the last, or one without recipients. */
  private readonly bdat: Handler = (command, session) => {
    const body = this.body ?? this.begin()
    if (body === undefined) return this.missing(command, session)
    return session.to.length === 0 ? refusalOf(body) ?? body.finals[0] : refusalOf(body)
  }

  private readonly message: Handler = (command) => {
    const body = this.body ?? (command.verb === "BDAT" ? this.begin() : undefined)
    if (body === undefined) return this.deviates("a message")
    return refusalOf(body) ?? body.finals[this.final++] ?? lost()
  }

  /** RSET and NOOP may come at any time; a reply that was recorded is said. */
  private readonly idle: Handler = (command) => {
    const exchange = this.take(command.verb)
    return exchange?.replies[0]
  }

  private readonly quit: Handler = () => {
    const exchange = this.take("QUIT")
    if (exchange === undefined && this.expected !== "nothing more") this.deviates("QUIT")
    return exchange?.replies[0]
  }

  get respond(): Omit<Respond, "greeting"> {
    const whole = this.plain(true)
    return {
      ehlo: this.hello,
      helo: this.plain(false),
      lhlo: this.hello,
      starttls: this.plain(false),
      auth: this.auth,
      mail: this.mail,
      rcpt: this.rcpt,
      data: this.data,
      message: this.message,
      bdat: this.bdat,
      rset: this.idle,
      noop: this.idle,
      vrfy: whole,
      expn: whole,
      help: whole,
      quit: this.quit,
      unknown: (command) => this.deviates(command.line)
    }
  }
}

const steps: { readonly [verb: string]: Step } = {
  STARTTLS: "starttls",
  AUTH: "auth",
  MAIL: "mail",
  RCPT: "rcpt",
  RSET: "rset",
  NOOP: "noop",
  VRFY: "vrfy",
  EXPN: "expn",
  HELP: "help",
  QUIT: "quit"
}

const stepOf = ({ line, replies, verb }: Exchange, isUpgraded: boolean): Step =>
  verb === "BODY"
    ? line === "DATA" && replies.length === 0 ? "data" : "message"
    : steps[verb] ?? (isUpgraded ? "ehlo2" : "ehlo")

/** Where the connection was lost, or TLS failed. */
const faults = ({ exchanges, greeting }: Recorded, id: number): ReadonlyArray<PlacedFault> => {
  if (greeting === undefined) return [at("greeting", drop, { connection: id })]
  const counts = new Map<Step, number>()
  const count = (step: Step, times: number): number => {
    const all = (counts.get(step) ?? 0) + times
    counts.set(step, all)
    return all
  }
  let isUpgraded = false
  for (const exchange of exchanges) {
    const { finals, isAnswered, line, verb } = exchange
    const step = stepOf(exchange, isUpgraded)
    if (line === "DATA") count("data", 1)
    const occurrence = count(step, verb === "BODY" ? finals.length : 1)
    if (!isAnswered) {
      return [at(step, drop, { connection: id, occurrence: step === "message" ? occurrence + 1 : occurrence })]
    }
    const isGranted = exchange.verb === "STARTTLS" && exchange.replies[0]?.code === 220
    if (isGranted && !exchange.isSecured) return [at("tls", tlsFailure, { connection: id })]
    isUpgraded ||= exchange.isSecured
  }
  return []
}

/**
 * A script that plays the server's side of a recording (`SmtpTranscript`), for `SmtpServer.layer` or
 * `NodeSmtpServer.layerLoopback`: the n-th connection hears what the n-th recorded one heard.
 *
 * **Details**
 *
 * Each command is compared with the recorded one, in their order, and gets the recorded reply; how commands are
 * pipelined, and whether a message goes by DATA or BDAT, makes no difference. Not compared are the client's name, the
 * message with its SIZE and BODY, credentials and mechanism, and what the recording has as `***`. RSET and NOOP may come
 * or stay away. Another command gets 503 and leaves the recording where it is; the transcript has an event "not as
 * recorded". Where the recording ends without a reply, the connection drops.
 *
 * **Gotchas**
 *
 * Secrets are not in a recording: any credentials are taken, unless `accounts` has them. Without it the offer of SCRAM
 * and DIGEST-MD5, which cannot be played, is withdrawn. Replies inside an AUTH exchange have lost their text.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { Effect } from "effect"
 * import { SmtpClient, SmtpTranscript } from "effect-smtp"
 * import { SmtpServer } from "effect-smtp/testing"
 *
 * const send = Effect.gen(function*() {
 *   const transcript = yield* SmtpTranscript.make()
 *   const smtp = yield* SmtpClient.make({ host: "mx.test", transcript })
 *   const mail = { from: "ann@me.test", to: ["bob@mx.test", "eve@mx.test"] }
 *   const { accepted, response } = yield* smtp.send(mail, "Subject: Hi\n\nHello\n")
 *   return { outcome: { accepted, response }, transcript: yield* transcript.transcript }
 * })
 * const production = SmtpServer.layer({
 *   respond: { rcpt: ({ path }) => path === "eve@mx.test" ? SmtpServer.reply(550, "5.1.1 no Eve here") : undefined }
 * })
 * const recorded = await Effect.runPromise(Effect.provide(send, production))
 * const replayed = SmtpServer.layer(SmtpServer.fromTranscript(recorded.transcript))
 * const again = await Effect.runPromise(Effect.provide(send, replayed))
 * assert.deepStrictEqual(again.outcome, recorded.outcome)
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromTranscript = (transcript: Transcript, { accounts }: ReplayOptions = {}): Script => {
  const connections = read(transcript.entries)
  const offers = connections.flatMap(offered)
  const mechanisms = [...anyCredentials, ...knownSecrets.filter((name) => offers.includes(name))]
  const isLmtp = connections.some(({ exchanges }) => exchanges.some(({ verb }) => verb === "LHLO"))
  const isImplicit = connections[0]?.isImplicitTls === true
  return {
    protocol: isLmtp ? "lmtp" : "smtp",
    extensions: { auth: mechanisms, authBeforeTls: mechanisms },
    ...(accounts === undefined ? {} : { accounts }),
    ...(isImplicit ? { implicitTls: true } : {}),
    tls: { authorized: !connections.some(({ isUnverified }) => isUnverified) },
    faults: connections.flatMap((recorded, i) => faults(recorded, i + 1)),
    respond: (connection) => {
      const recorded = connections[connection.id - 1]
      if (recorded === undefined) {
        const text = "the recording has no further connection"
        return {
          greeting: () => {
            connection.note(`not as recorded: ${text}`)
            return reply(421, `4.3.2 ${text}`)
          }
        }
      }
      return {
        ...new Player(recorded, connection, accounts !== undefined).respond,
        greeting: () => recorded.greeting ?? lost()
      }
    }
  }
}
