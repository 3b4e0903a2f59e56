/**
 * `effect-smtp bench`: load on a server of yours, and what came of it: rate, latencies, failures.
 *
 * What it is: one plain message many times, over several connections. What it is not: a way to send mail to others; a
 * server beyond this host gets load only from those who say that it is theirs.
 */
import * as Cause from "effect/Cause"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Terminal from "effect/Terminal"
import * as Envelope from "../Envelope.ts"
import * as SmtpClient from "../SmtpClient.ts"
import * as chart from "./chart.ts"
import { endWith, errorJson, escape, ExitCode, exitCodeOf, Failure, Output, run } from "./frame.ts"
import {
  authFlags,
  connectionFlags,
  durationFlag,
  hostFlag,
  jsonFlag,
  overConnections,
  resolveOptions
} from "./frameConnection.ts"
import * as load from "./load.ts"
import { authority, isLoopback } from "./loopback.ts"
import { showOctets, withProgress } from "./progress.ts"
import * as units from "./units.ts"

const positive = (name: string, metavar: string): Flag.Flag<number> =>
  Flag.Int(name).pipe(
    Flag.withMetavar(metavar),
    Flag.filter((value) => value > 0, () => "expected a whole number from 1 on")
  )

/** More connections than a server takes from one host are no load, but an outage. */
const maxConcurrency = 1000

/** A message is held in memory once. */
const maxSize = 1_073_741_824

const flags = {
  host: hostFlag,
  ...connectionFlags,
  login: authFlags,
  messages: positive("messages", "count").pipe(
    Flag.withAlias("n"),
    Flag.withDescription("How many messages (default: 1000, or as many as go into --duration)"),
    Flag.optional
  ),
  duration: durationFlag("duration").pipe(
    Flag.withDescription("Begin no message after this long, e.g. \"30 seconds\""),
    Flag.optional
  ),
  concurrency: positive("concurrency", "count").pipe(
    Flag.withAlias("c"),
    Flag.filter((value) => value <= maxConcurrency, () => `expected at most ${maxConcurrency} connections`),
    Flag.withDescription("Connections at a time (default: 4)"),
    Flag.withDefault(4)
  ),
  size: positive("size", "octets").pipe(
    Flag.withAlias("s"),
    Flag.filter((value) => value <= maxSize, () => `expected at most ${maxSize} octets`),
    Flag.withDescription("Octets of a message (default: 1024)"),
    Flag.withDefault(1024)
  ),
  mode: Flag.Literals("mode", ["send", "sendAll"]).pipe(
    Flag.withDescription("send: one after the other on each connection (the default); sendAll: as one stream"),
    Flag.withDefault("send" as const)
  ),
  rate: Flag.Finite("rate").pipe(
    Flag.withMetavar("number"),
    Flag.filter((value) => value > 0, () => "expected a number above 0"),
    Flag.withDescription("Messages a second, over all connections (default: as fast as it goes)"),
    Flag.optional
  ),
  from: Flag.String("from").pipe(
    Flag.withMetavar("address"),
    Flag.withDescription("Sender (default: bench@localhost.localdomain)"),
    Flag.withDefault("bench@localhost.localdomain")
  ),
  to: Flag.String("to").pipe(
    Flag.withMetavar("address"),
    Flag.withDescription("Recipient (default: bench@localhost.localdomain)"),
    Flag.withDefault("bench@localhost.localdomain")
  ),
  isMine: Flag.Boolean("i-own-this-server").pipe(
    Flag.withDescription("Needed for a server that is not on this host"),
    Flag.withDefault(false)
  ),
  json: jsonFlag
} as const

type Flags = {
  readonly [K in Exclude<keyof typeof flags, "login">]: (typeof flags)[K] extends Flag.Flag<infer A> ? A : never
}

/** Where the load goes, as a person writes it. */
const targetOf = (options: SmtpClient.Options): string =>
  escape(options.path ?? authority(options.host ?? "localhost", options.port ?? 25))

const permitted = Effect.fnUntraced(function*(options: SmtpClient.Options, isMine: boolean) {
  const isHere = options.path !== undefined || isLoopback(options.host ?? "localhost")
  if (isHere || isMine) return
  return yield* new Failure({
    code: ExitCode.usage,
    message:
      `${escape(options.host ?? "")} is not this host. A benchmark is an attack on a server that is not yours; ` +
      "if it is, say so with --i-own-this-server"
  })
})

const mailOf = Effect.fnUntraced(function*({ from, size, to }: Flags) {
  const envelope = { from, to }
  yield* Effect.fromResult(Envelope.parse(envelope))
  const least = load.leastSize(from, to)
  return size < least
    ? yield* new Failure({ code: ExitCode.usage, message: `--size: the header alone needs ${least} octets` })
    : { envelope, message: load.makeMessage(from, to, size) }
})

const defaultMessages = 1000

const loadOf = Effect.fnUntraced(function*(given: Flags) {
  const messages = Option.isNone(given.messages) && Option.isNone(given.duration)
    ? defaultMessages
    : Option.getOrUndefined(given.messages)
  const { concurrency, mode, rate } = given
  return {
    messages,
    millis: Option.getOrUndefined(Option.map(given.duration, Duration.toMillis)),
    concurrency: Math.min(concurrency, messages ?? concurrency),
    mode,
    rate: Option.getOrUndefined(rate),
    mail: yield* mailOf(given)
  } satisfies load.Load
})

/** Three digits, as a whole number where it is one. */
const rounded = (value: number): number => Number(value.toPrecision(3))

const perSecond = (value: number): string => value >= 100 ? units.number(value) : String(rounded(value))

/** Microseconds are as fine as it is. */
const latenciesOf = ({ latencies }: load.Tally) =>
  Object.fromEntries(
    Object.entries(latencies.summary()).map(([name, value]) => [name, Math.round(value * 1000) / 1000])
  )

const reportJson = (target: string, given: load.Load, size: number, tally: load.Tally) => ({
  target,
  mode: given.mode,
  concurrency: given.concurrency,
  size,
  begun: tally.begun,
  accepted: tally.accepted,
  failed: tally.failed,
  inDoubt: tally.inDoubt,
  connections: tally.connections,
  octets: tally.octets,
  millis: rounded(tally.millis),
  messagesPerSecond: rounded(tally.perSecond),
  latencyMillis: latenciesOf(tally),
  errors: Object.fromEntries(tally.failures),
  ...(tally.worst === undefined ? {} : { firstError: errorJson(tally.worst) })
})

const tellLatencies = Effect.fnUntraced(function*({ latencies }: load.Tally) {
  const { canAnimate, line, paint } = yield* Output
  if (latencies.count === 0) return
  const terminal = yield* Terminal.Terminal
  const columns = canAnimate ? yield* terminal.columns : 80
  const { max, p50, p90, p99 } = latencies.summary()
  const figures = Object.entries({ p50, p90, p99, max }).map(([name, value]) =>
    `${paint.dim(name)} ${chart.duration(value)}`
  )
  yield* line("")
  yield* line(`latency  ${figures.join("   ")}`)
  for (const row of chart.histogram(latencies, { columns: columns || 80, blocks: canAnimate })) yield* line(row)
})

const report = Effect.fnUntraced(function*(target: string, given: load.Load, size: number, tally: load.Tally) {
  const { json, line, paint } = yield* Output
  const { accepted, begun, connections, failed, failures, inDoubt, millis, octets } = tally
  yield* json(reportJson(target, given, size, tally))
  yield* line(
    `${units.count(begun, "message")} of ${showOctets(size)} by ${given.mode} to ${target}, ` +
      `${units.count(connections, "connection")}`
  )
  const rate = `${perSecond(tally.perSecond)} messages/s, ${showOctets(millis === 0 ? 0 : 1000 * octets / millis)}/s`
  yield* line(`${paint.green("accepted")}  ${units.number(accepted)} in ${chart.duration(millis)}: ${paint.bold(rate)}`)
  if (failures.size > 0) {
    const tags = [...failures].map(([tag, count]) => `${tag} ${units.number(count)}`).join(", ")
    yield* line(
      `${paint.red("failed")}    ${units.number(failed)}${inDoubt > 0 ? `, ${inDoubt} in doubt` : ""}: ${tags}`
    )
    if (tally.worst !== undefined) yield* line(`          e.g. ${tally.worst.message}`)
  }
  yield* tellLatencies(tally)
})

/** 0 when every message was accepted; 74 when one is in doubt; else the code of the failure that says most. */
const exitCodeOfLoad = ({ inDoubt, worst }: load.Tally): number =>
  worst === undefined ? ExitCode.ok : inDoubt > 0 ? ExitCode.io : exitCodeOf(worst)

const work = Effect.fnUntraced(function*(given: Flags, options: SmtpClient.Options) {
  yield* permitted(options, given.isMine)
  const wanted = yield* loadOf(given)
  const client = yield* SmtpClient.make(overConnections(options, wanted.concurrency))
  const tally = new load.Tally()
  const progress = () => ({
    done: tally.accepted + tally.failed,
    total: wanted.messages,
    show: units.number
  })
  const telling = report(targetOf(options), wanted, given.size, tally)
  yield* withProgress(progress, load.run(client, wanted, tally)).pipe(
    Effect.onExit((exit) =>
      Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause) ? Effect.ignore(telling) : Effect.void
    )
  )
  return exitCodeOfLoad(tally)
}, Effect.scoped)

/** `effect-smtp bench` */
export const bench = Command.make(
  "bench",
  flags,
  ({ login, ...given }) =>
    run(
      given,
      resolveOptions(given.host, given, login).pipe(
        Effect.flatMap((options) => work(given, options)),
        Effect.flatMap(endWith)
      )
    )
).pipe(
  Command.withDescription(
    "Put load on a mail server of yours: the same message again and again. Prints the rate, the latencies (from the moment " +
      "a message is due to its outcome) with a histogram, and the failures by kind. Ctrl-C ends it, and tells of what was done."
  ),
  Command.withShortDescription("Put load on a mail server of yours"),
  Command.withExamples([
    {
      command: "effect-smtp bench --host 127.0.0.1 --port 1025 --tls off -n 10000 -c 8",
      description: "10 000 messages over 8 connections"
    },
    {
      command: "effect-smtp bench --port 1025 --tls off --mode sendAll --duration \"10 seconds\" --size 100000",
      description: "As many as go into 10 seconds, as one stream for each connection"
    },
    {
      command: "effect-smtp bench --port 1025 --tls off --rate 50 --duration 60 --json",
      description: "50 a second for a minute, and the outcome in JSON"
    }
  ])
)
