/**
 * `effect-smtp replay`: a recorded dialogue as a server, so that a client can be put into it again.
 *
 * What it is: the server's side of a transcript on a real port. What it is not: a capture of octets; what was secret is
 * not in a transcript, so any login is taken unless an account is given.
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as NodeSmtpServer from "../node/NodeSmtpServer.ts"
import * as SmtpTranscript from "../SmtpTranscript.ts"
import * as SmtpServer from "../testing/SmtpServer.ts"
import { endWith, escape, ExitCode, Failure, Output, run } from "./frame.ts"
import { readFile } from "./frameConnection.ts"
import * as loopback from "./loopback.ts"
import * as units from "./units.ts"

const flags = {
  file: Argument.String("file").pipe(
    Argument.withDescription("The transcript: what SmtpTranscript recorded, as JSON")
  ),
  ...loopback.loopbackFlags,
  ...loopback.accountFlags
} as const

interface Flags extends loopback.LoopbackFlags, loopback.AccountFlags {
  readonly file: string
}

const decode = Schema.decodeUnknownEffect(Schema.fromJsonString(SmtpTranscript.Transcript))

const transcriptOf = Effect.fnUntraced(function*(file: string) {
  const text = new TextDecoder().decode(yield* readFile(file))
  return yield* decode(text).pipe(
    Effect.mapError(() =>
      new Failure({
        code: ExitCode.data,
        message: `${escape(file)} is no transcript: expected the JSON of what SmtpTranscript.make recorded`
      })
    )
  )
})

/** What became of the recorded connections; told by the lines of the dialogues. */
class Course {
  private closed = 0
  readonly total: number
  readonly deviations: Array<{ readonly connection: number; readonly text: string }> = []
  readonly over = Deferred.makeUnsafe<void>()

  constructor(total: number) {
    this.total = total
  }

  get played(): number {
    return Math.min(this.closed, this.total)
  }

  see({ connection, from, text }: SmtpServer.TranscriptLine): void {
    if (from !== "event") return
    if (text.startsWith("not as recorded")) this.deviations.push({ connection, text })
    if (text !== "closed") return
    this.closed++
    if (this.closed >= this.total) Deferred.doneUnsafe(this.over, Effect.void)
  }

  readonly summary = Effect.gen({ self: this }, function*() {
    const { json, line, paint } = yield* Output
    const { deviations, played, total } = this
    yield* json({ event: "end", connections: played, recorded: total, deviations })
    yield* line(`${played} of ${units.count(total, "recorded connection")} played`)
    for (const { connection, text } of deviations) {
      yield* line(`${paint.red("deviation")}  [${connection}] ${escape(text)}`)
    }
    if (deviations.length === 0) yield* line(paint.green(played === total ? "all as recorded" : "so far as recorded"))
    yield* endWith(deviations.length === 0 ? ExitCode.ok : ExitCode.protocol)
  })
}

const announce = Effect.fnUntraced(function*(server: NodeSmtpServer.Service, total: number, hasTls: boolean) {
  const { json, line, paint } = yield* Output
  const { host, port } = server
  const pin = hasTls ? loopback.pinsOf(server.ca).key : undefined
  yield* json({ event: "listening", host, port, connections: total, pin })
  yield* line(`Replaying ${units.count(total, "connection")} on ${paint.bold(loopback.authority(host, port))}`)
  if (pin !== undefined) yield* line(`TLS: to trust the certificate, --pin ${pin}`)
})

const work = Effect.fnUntraced(function*(given: Flags) {
  const { entries, omitted } = yield* transcriptOf(given.file)
  const { note, paintNote } = yield* Output
  const total = new Set(entries.map(({ connection }) => connection).filter((name) => name !== "")).size
  if (total === 0) {
    return yield* new Failure({ code: ExitCode.data, message: `${escape(given.file)} has no connection to play` })
  }
  if (omitted.entries > 0) {
    const left = omitted.entries === 1 ? "1 entry was" : `${units.number(omitted.entries)} entries were`
    yield* note(`${paintNote.yellow("warning:")} ${left} left out of the recording`)
  }
  const tls = yield* loopback.certificateOf(given)
  const accounts = yield* loopback.accountsOf(given)
  const course = new Course(total)
  const show = given.transcript ? yield* loopback.watch : undefined
  const watch = (line: SmtpServer.TranscriptLine): void => {
    show?.(line)
    course.see(line)
  }
  const recorded = SmtpServer.fromTranscript({ entries, omitted }, { accounts })
  const playing = Effect.gen(function*() {
    const script = { ...recorded, watch, forget: true }
    const server = yield* loopback.start({ host: given.host, port: given.port, tls, script })
    yield* announce(server, total, recorded.implicitTls === true || speaksTls(entries))
    yield* Deferred.await(course.over)
  })
  yield* loopback.endingWell(Effect.scoped(playing), course.summary)
})

const speaksTls = (entries: ReadonlyArray<SmtpTranscript.Entry>): boolean =>
  entries.some((entry) => entry.kind === "command" && /^STARTTLS\b/i.test(entry.text))

/** `effect-smtp replay` */
export const replay = Command.make("replay", flags, (given) => run(given, work(given))).pipe(
  Command.withDescription(
    "Play the server's side of a recorded transcript on a port of this host: the n-th connection hears what the n-th " +
      "recorded one heard. Ends with 0 when all was said as recorded, with 76 when the client said something else."
  ),
  Command.withShortDescription("Play a recorded transcript as a server"),
  Command.withExamples([
    { command: "effect-smtp replay transcript.json --port 2525", description: "Play it once, then end" },
    { command: "effect-smtp replay transcript.json --transcript", description: "And print the dialogue" }
  ])
)
