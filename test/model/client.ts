/**
 * What a client says, one generator for each call: it asks for a reply, and gets it. Written from the RFCs and the
 * contract alone, without deadlines, splits and losses, which `wire.ts` adds to all of them alike.
 */
export interface Reply {
  readonly id: string
  readonly code: number
  /** The lines behind the first. */
  readonly offers: ReadonlyArray<string>
}

export interface Where {
  /** As errors name it. */
  readonly command: string
  readonly stage: "CONN" | "EHLO" | "STARTTLS" | "AUTH" | "MAIL" | "RCPT" | "DATA" | "BDAT" | "BODY" | "FINAL" | "OTHER"
  /** False when this is the first that the call says. */
  readonly attempted?: boolean
  readonly recipient?: string
  /** Default: at the final reply. */
  readonly inDoubt?: boolean
  readonly handedOver?: boolean
}

export interface Refused {
  readonly recipient: string
  readonly failed: string
  readonly reply: string | undefined
  readonly code: number | undefined
  readonly inDoubt: boolean
}

/** How a call ends, in what can be compared. */
export type Ending =
  | {
    readonly ok: true
    readonly reply?: string
    readonly accepted?: ReadonlyArray<string>
    readonly refused?: ReadonlyArray<Refused>
  }
  | {
    readonly failed: string
    readonly command?: string
    readonly reply: string | undefined
    readonly code: number | undefined
    readonly inDoubt: boolean
    readonly attempted: boolean
    readonly handedOver: boolean
    readonly refused?: ReadonlyArray<Refused>
  }
  | { readonly interrupted: true; readonly outcome?: { readonly inDoubt: boolean; readonly reply: string | undefined } }

/** An ending, and whether it leaves a usable connection. */
export interface End {
  readonly ending: Ending
  readonly usable: boolean
  /** It tells of the end of the connection although it is none of its own: some recipients were accepted before. */
  readonly hasTold?: boolean
}

export interface Message {
  /** What there is of it so far; all of it when it is whole. */
  text: string
  readonly isWhole: boolean
}

/** Whoever waits behind a terminator: he may be told to leave, and says in the end what he knows. */
export interface Leaver {
  readonly leave: () => void
  readonly known: () => Known
}

/** What is known of a message whose terminator was handed over. */
export interface Known {
  readonly inDoubt: boolean
  readonly reply: string | undefined
}

/** A question that the server has to answer: what it was, and which deadline runs for it. */
export interface Owed {
  readonly verb: string
  readonly deadline: "greeting" | "command" | "final" | "quit"
}

export type Ask =
  | { readonly _tag: "Dial" }
  | { readonly _tag: "Greeting" }
  /** A command and its reply. One that is optional goes unsaid on a connection that is over. */
  | { readonly _tag: "Command"; readonly line: string; readonly where: Where; readonly isOptional?: boolean }
  | { readonly _tag: "GiveUp" }
  /** Octets in one write; the replies to them are waited for later. */
  | { readonly _tag: "Say"; readonly octets: string; readonly owes: ReadonlyArray<Owed> }
  /** The next reply. With `leaver` the message was handed over: an interruption waits for what is still said. */
  | { readonly _tag: "Reply"; readonly where: Where; readonly leaver: Leaver | undefined }
  /** A reply that is there already. */
  | { readonly _tag: "Take" }
  /** A body begins, or ends without a terminator; it waits for replies and for nothing else, or goes on. */
  | { readonly _tag: "Begin" | "Cease" | "Pause" | "Proceed"; readonly where: Where }
  /** The next piece of the message's own stream. */
  | { readonly _tag: "Pull"; readonly where: Where }
  | {
    readonly _tag: "Write"
    readonly where: Where
    readonly writes: ReadonlyArray<string>
    /** Its reply is due from the last of the writes on. */
    readonly owes?: Owed
  }
  /** The last octets of a body, unless the connection is over. */
  | { readonly _tag: "Terminate"; readonly where: Where; readonly octets: string; readonly owes: ReadonlyArray<Owed> }
  | { readonly _tag: "Upgrade" }

/** What comes back: `failed` stands for the wire's failure, as the ending that it makes here. */
export interface Answer {
  readonly reply?: Reply
  readonly failed?: (where: Where) => Ending
  readonly piece?: string
  readonly upgrade?: "done" | "plaintext" | "failed" | "late"
}

export type Call = Generator<Ask, End, Answer>

export const isPositive = ({ code }: Reply): boolean => code < 300
export const isRefusal = ({ code }: Reply): boolean => code >= 400
/** A refusal that leaves the connection usable. */
export const isPolite = (reply: Reply): boolean => isRefusal(reply) && reply.code !== 421

/** The tag that a refusal gets, by where it comes. */
const tagOf = (reply: Reply, { stage }: Where, isSecure = false): string => {
  if (reply.code === 421) return "ECONNECTION"
  if (!isRefusal(reply)) return "EPROTOCOL"
  if (stage === "MAIL" && reply.code === 530) return isSecure ? "ENOAUTH" : "ETLS"
  const tags = {
    CONN: "ECONNECTION",
    EHLO: "ECONNECTION",
    STARTTLS: "ETLS",
    AUTH: "EAUTH",
    MAIL: "EENVELOPE",
    RCPT: "EENVELOPE"
  }
  const later = { DATA: "EENVELOPE", BDAT: "EMESSAGE", BODY: "EMESSAGE", FINAL: "EMESSAGE", OTHER: "EPROTOCOL" }
  return { ...tags, ...later }[stage]
}

export const failure = (
  failed: string,
  where: Where,
  more: Partial<Extract<Ending, { failed: string }>> = {}
): Ending => ({
  failed,
  command: where.command,
  reply: undefined,
  code: undefined,
  inDoubt: where.inDoubt ?? where.stage === "FINAL",
  attempted: where.attempted ?? true,
  handedOver: where.handedOver ?? where.stage === "FINAL",
  ...more
})

export const refusal = (reply: Reply, where: Where, isSecure?: boolean): Ending =>
  failure(tagOf(reply, where, isSecure), where, {
    reply: reply.id,
    code: reply.code,
    inDoubt: where.stage === "FINAL" ? !isRefusal(reply) : where.inDoubt ?? false
  })

function* say(line: string, where: Where): Generator<Ask, Reply, Answer> {
  return (yield { _tag: "Command", line, where }).reply!
}

const ok: End = { ending: { ok: true }, usable: true }

/** NOOP and RSET: anything but 2yz ends the connection. */
export function* simple(verb: "NOOP" | "RSET", state: { needsReset: boolean }, where: Partial<Where> = {}): Call {
  const at: Where = { command: verb, stage: "OTHER", ...where }
  const reply = yield* say(verb, at)
  if (!isPositive(reply)) return { ending: refusal(reply, at), usable: false }
  if (verb === "RSET") state.needsReset = false
  return ok
}

export function* vrfy(text: string): Call {
  const where: Where = { command: "VRFY", stage: "OTHER" }
  const reply = yield* say(`VRFY ${text}`, where)
  return reply.code === 421 || Math.floor(reply.code / 100) === 3
    ? { ending: refusal(reply, where), usable: false }
    : { ending: { ok: true, reply: reply.id }, usable: true }
}

export interface Mail {
  readonly from: string
  readonly to: ReadonlyArray<string>
  readonly requireAll: boolean
  readonly message: Message
}

export interface State {
  needsReset: boolean
  /** Somebody logged in, or MAIL was accepted: no login or TLS is waited for. */
  isAdmitted: boolean
  isSecure: boolean
  /** Whether a secret may be sent: verified TLS, or allowed without. */
  isTrusted: boolean
  isLmtp: boolean
  offers: ReadonlyArray<string>
  readonly pipelining: boolean
  readonly chunking: boolean | "always"
}

export const username = "ann"
export const password = "hunter2-canary"
const base64 = (text: string): string => btoa(text)

const auth = (name: string, isFirst: boolean): Where => ({
  command: `AUTH ${name}`,
  stage: "AUTH",
  ...(isFirst ? {} : { attempted: true })
})

const refusedLogin = (reply: Reply, where: Where): End => ({ ending: refusal(reply, where), usable: isPolite(reply) })

/** One mechanism; a reply when it was the mechanism that the server refused. */
function* attempt(name: string, isFirst: boolean): Generator<Ask, End | Reply, Answer> {
  const where = auth(name, isFirst)
  const answers = name === "PLAIN" ? [] : [username, password]
  let reply = yield* say(name === "PLAIN" ? `AUTH PLAIN ${base64(`\0${username}\0${password}`)}` : "AUTH LOGIN", where)
  while (reply.code === 334) {
    const next = answers.shift()
    if (next === undefined) {
      const said = yield* say("*", { ...where, attempted: true })
      return isPolite(said) ? { ending: failure("EAUTH", where), usable: true } : refusedLogin(said, where)
    }
    reply = yield* say(base64(next), { ...where, attempted: true })
  }
  if (reply.code === 235) return answers.length === 0 ? ok : { ending: failure("EAUTH", where), usable: false }
  return [504, 534, 538].includes(reply.code) ? reply : refusedLogin(reply, where)
}

/** What a connection that is over ends a call in. */
export type Lost = (where: Where) => Ending

export function* login(state: State, isFailed: () => Lost | undefined): Call {
  if (state.needsReset) {
    const reset = yield* simple("RSET", state)
    if (!("ok" in reset.ending)) return reset
  }
  const names = ["PLAIN", "LOGIN"].filter((name) => state.offers.includes(name))
  if (!state.isTrusted || names.length === 0) {
    return { ending: failure("EAUTH", { command: "API", stage: "AUTH", attempted: false }), usable: true }
  }
  const lost = isFailed()
  if (lost !== undefined) return { ending: lost({ command: "AUTH", stage: "AUTH", attempted: false }), usable: false }
  let last: Reply | undefined
  for (const name of names) {
    const end = yield* attempt(name, last === undefined)
    if (!("id" in end)) {
      state.isAdmitted ||= "ok" in end.ending
      return end
    }
    last = end
  }
  return {
    ending: failure("EAUTH", { command: "AUTH", stage: "AUTH" }, { reply: last!.id, code: last!.code }),
    usable: true
  }
}

export function* quit(): Call {
  yield* say("QUIT", { command: "QUIT", stage: "OTHER" })
  return ok
}

export type Tls = "off" | "starttls" | "opportunistic" | "implicit"

export const offersOf = ({ offers }: Reply): ReadonlyArray<string> => offers.flatMap((line) => line.split(" "))

/** EHLO or LHLO, and HELO for those who know neither; undefined = went well. */
function* hello(state: State, tls: Tls, isFirst: boolean): Generator<Ask, Ending | undefined, Answer> {
  const where: Where = { command: state.isLmtp ? "LHLO" : "EHLO", stage: "EHLO" }
  const reply = yield* say(`${where.command} me.test`, where)
  state.offers = reply.code === 250 ? offersOf(reply) : []
  if (reply.code === 250) return undefined
  if (state.isLmtp || !isFirst || ![500, 501, 502, 504].includes(reply.code)) return refusal(reply, where)
  if (tls === "starttls") {
    return failure("ETLS", { command: "STARTTLS", stage: "STARTTLS" }, { reply: reply.id, code: reply.code })
  }
  const second = yield* say("HELO me.test", { ...where, command: "HELO" })
  return second.code === 250 ? undefined : refusal(second, { ...where, command: "HELO" })
}

const tlsFailure = (command: string): Ending => failure("ETLS", { command, stage: "STARTTLS" })

/** A connection, logged in when that is asked for; after a failed login it says QUIT, if it still can. */
export function* make(tls: Tls, state: State, isLoggingIn: boolean, isFailed: () => Lost | undefined): Call {
  const opened = yield* open(tls, state)
  if (!("ok" in opened.ending) || !isLoggingIn) return opened
  const { ending, usable } = yield* login(state, isFailed)
  if ("ok" in ending) return ok
  if (!usable) yield { _tag: "GiveUp" }
  yield { _tag: "Command", line: "QUIT", where: { command: "QUIT", stage: "OTHER" }, isOptional: true }
  return { ending, usable: false }
}

/** From the socket to a dialogue. A failed opportunistic handshake is followed by one dialogue in clear. */
function* open(tls: Tls, state: State): Call {
  yield { _tag: "Dial" }
  if (tls === "implicit") {
    const { upgrade } = yield { _tag: "Upgrade" }
    if (upgrade === "late") return { ending: failure("ETIMEDOUT", { command: "CONN", stage: "CONN" }), usable: false }
    if (upgrade !== "done") return { ending: tlsFailure("CONN"), usable: false }
    state.isSecure = state.isTrusted = true
  }
  const { reply: greeting } = yield { _tag: "Greeting" }
  if (greeting!.code !== 220) return { ending: refusal(greeting!, { command: "CONN", stage: "CONN" }), usable: false }
  const failed = yield* hello(state, tls, true)
  if (failed !== undefined) return { ending: failed, usable: false }
  if (tls === "off" || tls === "implicit") return ok
  if (!state.offers.includes("STARTTLS")) {
    return tls === "starttls"
      ? { ending: tlsFailure("STARTTLS"), usable: false }
      : ok
  }
  const where: Where = { command: "STARTTLS", stage: "STARTTLS" }
  const reply = yield* say("STARTTLS", where)
  if (reply.code !== 220) {
    return isPolite(reply) && tls === "opportunistic" ? ok : { ending: refusal(reply, where), usable: false }
  }
  const { upgrade } = yield { _tag: "Upgrade" }
  if (upgrade !== "done") {
    if (tls === "opportunistic" && upgrade !== "plaintext") return yield* open("off", state)
    return { ending: upgrade === "late" ? failure("ETIMEDOUT", where) : tlsFailure("STARTTLS"), usable: false }
  }
  state.isSecure = true
  state.isTrusted ||= tls === "starttls"
  const again = yield* hello(state, tls, false)
  return again === undefined ? ok : { ending: again, usable: false }
}
