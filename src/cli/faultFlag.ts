/**
 * A fault of the fake server as an argument: `rcpt=451`, `data#2=drop`, `greeting=delay:5 seconds`.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as SmtpServer from "../testing/SmtpServer.ts"

/** Those that need nothing more said. */
const simple: { readonly [name: string]: SmtpServer.Fault } = {
  drop: SmtpServer.drop,
  reset: SmtpServer.reset,
  silence: SmtpServer.silence,
  stall: SmtpServer.stall,
  garbage: SmtpServer.garbage(),
  slow: SmtpServer.byteAtATime("20 millis"),
  "tls-failure": SmtpServer.tlsFailure
}

/** Those of a server on a real port: the dialling itself is not its own. */
const steps: ReadonlyArray<string> = SmtpServer.steps.filter((step) => step !== "connect")
const isStep = (name: string): name is SmtpServer.Step => steps.includes(name)

/**
 * What a fault looks like, for help and errors.
 *
 * @category rendering
 * @since 0.1.0
 */
export const syntax = `STEP=FAULT or STEP#N=FAULT (the N-th time on a connection). STEP: ${steps.join(", ")}. ` +
  `FAULT: a reply such as 451 or "550 5.1.1 no such user", delay:DURATION, ${Object.keys(simple).join(", ")}`

const faultOf = (text: string): SmtpServer.Fault | undefined => {
  const reply = /^([2-5]\d\d)(?: (.*))?$/.exec(text)
  if (reply !== null) {
    const code = Number(reply[1])
    return SmtpServer.answer(code, reply[2] ?? `${Math.trunc(code / 100)}.0.0 asked for with --fault`)
  }
  if (text.startsWith("delay:")) {
    const given = text.slice("delay:".length)
    const input = /^\d+(\.\d+)?$/.test(given) ? `${given} seconds` : given
    return Option.getOrUndefined(Option.map(Duration.fromInput(input as Duration.Input), SmtpServer.delay))
  }
  return Object.hasOwn(simple, text) ? simple[text] : undefined
}

/**
 * Reads a fault; undefined when it is none. It strikes every time its step comes, unless `#N` says which.
 *
 * @category constructors
 * @since 0.1.0
 */
export const parse = (text: string): Option.Option<SmtpServer.PlacedFault> => {
  const [, step, occurrence, what] = /^([a-z0-9]+)(?:#([1-9]\d{0,8}))?=(.+)$/i.exec(text) ?? []
  const named = steps.find((one) => one.toLowerCase() === step?.toLowerCase())
  const fault = faultOf(what ?? "")
  if (named === undefined || !isStep(named) || fault === undefined) return Option.none()
  return Option.some(
    SmtpServer.at(named, fault, { occurrence: occurrence === undefined ? "every" : Number(occurrence) })
  )
}
