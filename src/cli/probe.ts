/**
 * `effect-smtp probe`: what a server offers, and which guarantees hold there. It sends no mail.
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { SmtpCapabilities } from "../SmtpCapabilities.ts"
import * as SmtpReply from "../SmtpReply.ts"
import { endWith, errorJson, escape, ExitCode, Failure, Output, type Paint, run } from "./frame.ts"
import { connectionFlags, jsonFlag, optionsOf } from "./frameConnection.ts"
import { type Facts, gather } from "./probeFacts.ts"
import { exitCodeOfLevel, judge, type Level, type Verdict, worstOf } from "./probeVerdicts.ts"
import { showOctets } from "./progress.ts"

const extensionsOf = ({ extended, extensions }: SmtpCapabilities): ReadonlyArray<string> =>
  extended ? [...extensions].map(([name, parameters]) => escape([name, ...parameters].join(" "))) : ["none: HELO only"]

/** SIZE, and LIMITS as RFC 9422 has it. */
const limitsOf = ({ extensions, sizeLimit }: SmtpCapabilities): Readonly<Record<string, number>> => {
  const limits: Record<string, number> = sizeLimit === undefined ? {} : { SIZE: sizeLimit }
  for (const limit of extensions.get("LIMITS") ?? []) {
    const found = /^([A-Z0-9-]{1,40})=(\d{1,15})$/i.exec(limit)
    if (found !== null) limits[found[1]!.toUpperCase()] = Number(found[2])
  }
  return limits
}

const currentOf = ({ after, before }: Facts): SmtpCapabilities | undefined => after ?? before

const certificateLines = ({ certificates }: Facts): ReadonlyArray<string> =>
  certificates.flatMap((one, index) => [
    `${one.subject} (${one.key}), until ${one.validTo.slice(0, 10)} (${one.daysLeft} days)`,
    ...(index > 0
      ? []
      : [...(one.names.length === 0 ? [] : [`  names  ${one.names.join(", ")}`]), `  pin    ${one.pin}`]),
    ...(index === certificates.length - 1 ? [`  issuer ${one.issuer}`] : [])
  ])

const limitLines = (capabilities: SmtpCapabilities | undefined): ReadonlyArray<string> =>
  capabilities === undefined ?
    [] :
    Object.entries(limitsOf(capabilities)).map(([name, limit]) =>
      name === "SIZE" ? `SIZE ${limit} (${showOctets(limit)})` : `${name} ${limit}`
    )

const section = (paint: Paint, title: string, lines: ReadonlyArray<string>): ReadonlyArray<string> =>
  lines.map((line, index) => `${paint.bold((index === 0 ? title : "").padEnd(13))}${line}`)

const words = (paint: Paint): { readonly [K in Level]: string } => ({
  ok: paint.green("ok  "),
  note: paint.dim("note"),
  weak: paint.yellow("weak"),
  fail: paint.red("FAIL")
})

/** The findings and verdicts for a person. */
export const render = (facts: Facts, verdicts: ReadonlyArray<Verdict>, paint: Paint): ReadonlyArray<string> => {
  const { after, before, greeting, security } = facts
  const tls = security === undefined ? [] : [`${security.protocol} ${security.cipher}`]
  const word = words(paint)
  return [
    ...section(paint, "server", [
      facts.port === undefined ? escape(facts.host) : `${escape(facts.host)}:${facts.port}`
    ]),
    ...section(paint, "greeting", [SmtpReply.render(greeting)]),
    ...(before === undefined ? [] : section(paint, "in clear", [extensionsOf(before).join(", ")])),
    ...section(paint, "TLS", tls),
    ...section(paint, "certificate", certificateLines(facts)),
    ...(after === undefined ? [] : section(paint, "over TLS", [extensionsOf(after).join(", ")])),
    ...section(
      paint,
      "mechanisms",
      (currentOf(facts)?.auth ?? []).length === 0 ? [] : [escape(currentOf(facts)!.auth.join(", "))]
    ),
    ...section(paint, "limits", limitLines(currentOf(facts))),
    "",
    ...verdicts.map(({ detail, level, title }) => `  ${word[level]}  ${title.padEnd(38)} ${detail}`)
  ]
}

const capabilitiesJson = (capabilities: SmtpCapabilities | undefined) =>
  capabilities === undefined ? null : { name: escape(capabilities.name), extensions: extensionsOf(capabilities) }

const toJson = (facts: Facts, verdicts: ReadonlyArray<Verdict>) => {
  const current = currentOf(facts)
  const { peerCertificate: _, channelBindings: _bindings, ...security } = facts.security ?? { protocol: null }
  return {
    host: facts.host,
    port: facts.port ?? null,
    greeting: facts.greeting.toJSON(),
    inClear: capabilitiesJson(facts.before),
    overTls: capabilitiesJson(facts.after),
    tls: facts.security === undefined ? null : security,
    tlsError: facts.tlsError === undefined ? null : errorJson(facts.tlsError),
    certificates: facts.certificates,
    mechanisms: (current?.auth ?? []).map((name) => escape(name)),
    limits: current === undefined ? {} : limitsOf(current),
    verdicts,
    worst: worstOf(verdicts)
  }
}

const tellInterrupted = Output.use(({ note }) => note("interrupted: the probe is not complete"))

/** The command. */
export const probe = Command.make(
  "probe",
  {
    host: Argument.String("host").pipe(
      Argument.withDescription("The server; may be left out with --socket"),
      Argument.optional
    ),
    connection: connectionFlags,
    json: jsonFlag
  },
  Effect.fnUntraced(function*(given) {
    const work = Effect.gen(function*() {
      if (Option.isNone(given.host) && Option.isNone(given.connection.socket)) {
        return yield* new Failure({ code: ExitCode.usage, message: "no server: give its name" })
      }
      const options = yield* optionsOf(Option.getOrUndefined(given.host), given.connection)
      const total = Option.getOrElse(given.connection.timeout, () => Duration.seconds(30))
      const facts = yield* gather({ ...options, timeouts: { total } })
      const verdicts = judge(facts)
      const { json, line, paint } = yield* Output
      for (const text of render(facts, verdicts, paint)) yield* line(text)
      yield* json(toJson(facts, verdicts))
      yield* endWith(exitCodeOfLevel(worstOf(verdicts)))
    })
    yield* run(given, Effect.onInterrupt(work, () => tellInterrupted))
  })
).pipe(
  Command.withDescription(
    "Look at a mail server: greeting, capabilities before and after TLS, certificates, mechanisms, limits, and a " +
      "verdict for each guarantee. It sends no mail and logs in nowhere.\n\n" +
      "Exit code: 0 all guarantees hold, 1 something is weak, 76 a guarantee does not hold; 68, 69, 75 where the " +
      "server is not reached."
  ),
  Command.withShortDescription("Look at a mail server"),
  Command.withExamples([
    { command: "effect-smtp probe mx.example.com", description: "A mail exchanger, on port 25" },
    { command: "effect-smtp probe smtp.example.org --port 465", description: "A submission server with implicit TLS" },
    { command: "effect-smtp probe localhost --port 24 --lmtp --tls off", description: "An LMTP server in clear" },
    {
      command: "effect-smtp probe mx.example.com --json | jq '.certificates[0].daysLeft'",
      description: "When does the certificate expire?"
    }
  ])
)
