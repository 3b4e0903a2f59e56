/**
 * Mails and the answers to them, at random: what a server says of a mail depends on the mail alone, so it can be sent in
 * more ways than one.
 */
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import * as SmtpConnection from "../../src/SmtpConnection.ts"
import type * as SmtpError from "../../src/SmtpError.ts"
import { Random, seedOf } from "../fuzz/random.ts"
import type { Heard } from "./talker.ts"

export interface Mailing {
  readonly mails: ReadonlyArray<SmtpConnection.Mail>
  /** For one connection. */
  readonly answer: () => (heard: Heard) => string | undefined
}

const bodies = ["", "a", "a\n.b\r", ".\r\n..\r\n", "é\n", "line\n".repeat(20)]
const large = "x".repeat(70_000)

const messageOf = (random: Random): SmtpConnection.Message => {
  const body = random.oneIn(20) ? large : random.pick(bodies)
  if (random.oneIn(3)) return new TextEncoder().encode(body)
  if (!random.oneIn(4)) return body
  const stream = Stream.fromIterable([body, random.pick(bodies), "end"])
  return random.oneIn(2) ? SmtpConnection.replayable(stream) : stream
}

const mailOf = (random: Random, index: number): SmtpConnection.Mail => {
  const from = `m${index}@me.test`
  if (random.oneIn(12)) return { envelope: { from, to: ["no address"] }, message: "x" }
  const count = random.oneIn(3) ? random.below(5) + 1 : 1
  const to = random.list(count, (i) => `r${i}@d${random.below(3)}.test`)
  return { envelope: { from, to, requireAllRecipients: random.oneIn(10) }, message: messageOf(random) }
}

/** What a server may say and leave the connection usable. */
const refusals: { readonly [verb: string]: ReadonlyArray<string> } = {
  MAIL: ["451 4.7.1 later", "550 5.7.1 no", "503 what"],
  RCPT: ["451 4.2.0 later", "550 5.1.1 nobody", "452 no more", "452 4.5.3 no more", "552 5.5.3 no more", "251 moved"],
  DATA: ["451 later", "554 5.5.1 nobody"],
  BDAT: ["451 later", "552 5.3.4 too much", "503 5.5.1 bad", "250 2.0.0 other words"],
  ".": ["451 later", "552 5.3.4 too much", "250 2.0.0 other words"]
}

/** What it may not. One reply too many shifts all that are behind it: whoever says it can say anything of a mail. */
const oddities: ReadonlyArray<string> = [
  "250 one\r\n250 two",
  "550 no\r\n250 two",
  "421 4.3.2 bye",
  "354 go",
  "354 go on",
  "200",
  "what?",
  "334 more",
  "500 what?",
  "502 what?",
  "530 5.7.0 log in"
]

/**
 * A mailing of up to eight mails. `odd`: about so many of a thousand answers are such that no server may give; `countable`:
 * but one for each command.
 */
export const mailingOf = (seed: number, odd = 0, countable = false): Mailing => {
  const random = new Random(seedOf(seed, "mails", 0))
  const mails = random.list(random.below(8) + 1, (i) => mailOf(random, i))
  const rate = random.pick([2, 4, 8, 20])
  const odds = countable ? oddities.slice(2) : oddities
  const answer = () => {
    const times = new Map<string, number>()
    let current = ""
    return ({ line, verb }: Heard): string | undefined => {
      if (verb === "MAIL") current = /<m(\d+)@/.exec(line)?.[1] ?? ""
      const key = `${current} ${verb === "RCPT" ? line : verb}`
      const time = times.get(key) ?? 0
      times.set(key, time + 1)
      const said = new Random(seedOf(seed, key, time))
      if (verb === "RSET" ? said.below(4_000) < odd : said.below(1_000) < odd) return said.pick(odds)
      const choices = refusals[verb]
      return choices === undefined || !said.oneIn(rate) ? undefined : said.pick(choices)
    }
  }
  return { mails, answer }
}

export type Told = Result.Result<SmtpConnection.SendResult, SmtpError.SendError>

const errorOf = (error: SmtpError.SmtpError): unknown => ({
  tag: error._tag,
  command: error.command,
  message: error.message,
  code: error.responseCode,
  inDoubt: error.inDoubt,
  handedOver: error.handedOver,
  attempted: error.attempted,
  isTemporary: error.isTemporary,
  recipient: "recipient" in error ? error.recipient : undefined,
  rejected: "rejectedErrors" in error ? error.rejectedErrors?.map(errorOf) : undefined
})

/** All that a result says. */
export const tellOf = (result: Told): unknown =>
  Result.match(result, {
    onFailure: errorOf,
    onSuccess: ({ accepted, messageSize, omitted, rejected, rejectedErrors, reply, response }) => ({
      accepted,
      rejected,
      rejectedErrors: rejectedErrors.map(errorOf),
      code: reply.code,
      response,
      messageSize,
      omitted
    })
  })
