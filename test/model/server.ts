/** What a server may say: mostly what fits, sometimes anything else. */
import type { Choices } from "./choices.ts"
import type { Reply } from "./client.ts"
import type { Wire } from "./wire.ts"

/** A reply on its way, and whose question it answers. */
export interface Said extends Reply {
  readonly owner: number | undefined
  readonly verb: string
}

/** A reply and its octets. */
export interface Written {
  readonly text: string
  readonly reply: Said
}

/** What the questions of the client are that are not answered, the oldest first. */
export const verbsOf = ({ owed }: Wire): ReadonlyArray<string> => owed.map(({ verb }) => verb)

const right: { readonly [verb: string]: ReadonlyArray<number> } = {
  Greeting: [220],
  STARTTLS: [220],
  DATA: [354],
  QUIT: [221],
  VRFY: [252],
  AUTH: [235, 334, 334, 504, 535],
  nothing: [250, 354]
}

/** A code; the first is the right one, and it comes more often the calmer it is. */
const codeOf = (choices: Choices, { current }: Wire, verb: string, calm: number): number => {
  const isExchange = current?.ask._tag === "Command" && current.ask.where.stage === "AUTH"
  const good = (isExchange ? right["AUTH"] : right[verb]) ?? [250]
  const often = Array.from({ length: calm + 3 }, () => good).flat()
  return choices.pick([...often, 451, 550, 550, 421, 250, 354, 334, 530, 502, 220])
}

const offersOf = (choices: Choices, isClear: boolean): ReadonlyArray<string> => {
  const tls = isClear && !choices.oneIn(8) ? ["STARTTLS"] : []
  const groups = choices.oneIn(6) ? [] : ["PIPELINING"]
  const chunks = choices.oneIn(4) ? [] : ["CHUNKING"]
  return [...tls, ...groups, ...chunks, ...choices.pick([["AUTH PLAIN LOGIN"], ["AUTH LOGIN"], [], ["AUTH PLAIN"]])]
}

/** A reply to the question of this verb, which the call that runs has asked; "nothing" answers nobody. */
export const newReply = (
  choices: Choices,
  wire: Wire,
  verb: string,
  how: { readonly id: string; readonly calm: number; readonly isClear: boolean }
): Written => {
  const { calm, id, isClear } = how
  const code = codeOf(choices, wire, verb, calm)
  const isHello = (verb === "EHLO" || verb === "LHLO") && code === 250
  const offers = isHello ? offersOf(choices, isClear) : choices.oneIn(8) ? ["more"] : []
  const owner = verb === "nothing" ? undefined : wire.current?.job.id
  const lines = [id, ...offers]
  const text = lines.map((line, at) => `${code}${at < lines.length - 1 ? "-" : " "}${line}\r\n`).join("")
  return { text, reply: { id, code, offers, owner, verb } }
}

/** Octets that are no reply. */
export const garbage = (choices: Choices): string =>
  choices.pick(["250 bare\n", "9", "xyz\r\n", "250-a\r\n251 b\r\n", "2500 x\r\n"])
