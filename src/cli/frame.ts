/**
 * What the commands of the command line have in common: how they write, and with what exit code they end.
 *
 * What it is: the `Output` of one run, the exit codes of sysexits.h for each error, and `run`, which reports a failure
 * once. What it is not: the flags of a connection; they are in `frameConnection`.
 */
import * as Cause from "effect/Cause"
import * as TerminalCapabilities from "effect/cli/TerminalCapabilities"
import * as Console from "effect/Console"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import { PlatformError } from "effect/PlatformError"
import * as Runtime from "effect/Runtime"
import * as Schema from "effect/Schema"
import * as Stdio from "effect/Stdio"
import * as Terminal from "effect/Terminal"
import * as SmtpError from "../SmtpError.ts"
import { escapeText } from "../SmtpReply.ts"

/** The exit codes, as sysexits.h names them. */
export const ExitCode = {
  ok: 0,
  usage: 64,
  data: 65,
  noInput: 66,
  noHost: 68,
  unavailable: 69,
  software: 70,
  io: 74,
  temporary: 75,
  protocol: 76,
  noPermission: 77,
  config: 78,
  interrupted: 130
} as const
export type ExitCode = typeof ExitCode[keyof typeof ExitCode]

/** What a command ends in when it is not what was asked for: a message for a person and an exit code. */
export class Failure extends Data.TaggedError("Failure")<{
  readonly code: number
  readonly message: string
  /** More for `--json`. */
  readonly details?: Readonly<Record<string, unknown>> | undefined
}> {}

/** The end of a run that was reported: nothing is left but to leave with the code. */
export class Ended extends Data.TaggedError("Ended")<{ readonly code: number }> {
  override readonly [Runtime.errorExitCode] = this.code
  override readonly [Runtime.errorReported] = false
}

const codeByTag: { readonly [K in SmtpError.Tag]: ExitCode } = {
  EDNS: ExitCode.noHost,
  ECONNECTION: ExitCode.unavailable,
  ESOCKET: ExitCode.unavailable,
  ETIMEDOUT: ExitCode.unavailable,
  EPROXY: ExitCode.unavailable,
  ETLS: ExitCode.protocol,
  EREQUIRETLS: ExitCode.protocol,
  EPROTOCOL: ExitCode.protocol,
  EAUTH: ExitCode.noPermission,
  ENOAUTH: ExitCode.noPermission,
  EOAUTH2: ExitCode.noPermission,
  EENVELOPE: ExitCode.unavailable,
  EMESSAGE: ExitCode.data,
  ESTREAM: ExitCode.io,
  ECONFIG: ExitCode.config
}

/**
 * The exit code of an error. 75 exactly when the same command may be run again; 74 when it is in doubt whether the
 * message was taken.
 */
export const exitCodeOf = (error: SmtpError.SmtpError): ExitCode => {
  if (error.inDoubt) return ExitCode.io
  if (error.isTemporary) return ExitCode.temporary
  return error._tag === "EENVELOPE" && error.command === "API" ? ExitCode.data : codeByTag[error._tag]
}

/** Paint for one stream: each gives its text back as it is where there are no colours. */
export interface Paint {
  readonly bold: (text: string) => string
  readonly dim: (text: string) => string
  readonly red: (text: string) => string
  readonly green: (text: string) => string
  readonly yellow: (text: string) => string
  readonly cyan: (text: string) => string
}

const painter = (isOn: boolean): Paint => {
  const paint = (on: number, off: number) => (text: string) => isOn ? `\u001b[${on}m${text}\u001b[${off}m` : text
  return {
    bold: paint(1, 22),
    dim: paint(2, 22),
    red: paint(31, 39),
    green: paint(32, 39),
    yellow: paint(33, 39),
    cyan: paint(36, 39)
  }
}

/** Where a command writes. Text of a server is escaped by the caller, with {@link escape}. */
export class Output extends Context.Service<Output, {
  /** Whether the result is wanted as JSON. */
  readonly isJson: boolean
  /** Whether standard output is a terminal that can draw over itself, and nobody wants JSON. */
  readonly canAnimate: boolean
  /** For standard output. */
  readonly paint: Paint
  /** For standard error. */
  readonly paintNote: Paint
  /** A line for a person, on standard output; nothing with `--json`. */
  readonly line: (text: string) => Effect.Effect<void>
  /** A line for a person, on standard error, with `--json` too. */
  readonly note: (text: string) => Effect.Effect<void>
  /** A value as one line of JSON, on standard output; nothing without `--json`. */
  readonly json: (value: unknown) => Effect.Effect<void>
}>()("effect-smtp/cli/Output") {}

/** Text of a server, or of a file, made safe for a terminal. */
export const escape = escapeText

/** JSON in ASCII: no control and no direction mark of a server reaches the terminal. */
const safeJson = (value: unknown): string =>
  JSON.stringify(value).replace(/[^ -~]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`)

/** The output of one run. Colours need a terminal, and no NO_COLOR. */
const layerOutput = (options: { readonly json: boolean }): Layer.Layer<Output, never, Stdio.Stdio> =>
  Layer.effect(
    Output,
    Effect.gen(function*() {
      const stdio = yield* Stdio.Stdio
      const { canAnimate, canColor } = yield* TerminalCapabilities.TerminalCapabilities
      const isErrTerminal = yield* stdio.stderrIsTerminal
      return Output.of({
        isJson: options.json,
        canAnimate: canAnimate && !options.json,
        paint: painter(canColor),
        paintNote: painter(canColor && isErrTerminal),
        line: (text) => options.json ? Effect.void : Console.log(text),
        note: (text) => Console.error(text),
        json: (value) => options.json ? Console.log(safeJson(value)) : Effect.void
      })
    })
  )

/** What is logged goes to standard error, line by line: the transcript, most of all. */
const layerLog: Layer.Layer<never, never, Output> = Layer.unwrap(
  Effect.map(Output, ({ paintNote }) =>
    Logger.layer([
      Logger.make<unknown, void>(({ fiber, message }) => {
        const words = (Array.isArray(message) ? message : [message]).map((word) => typeof word === "string" ? word : "")
        Context.get(fiber.context, Console.Console).error(paintNote.dim(words.join(" ")))
      })
    ]))
)

const encodeError = Schema.encodeUnknownOption(SmtpError.SmtpError)

/** An error as `--json` shows it: its schema form and its answers, server text escaped. */
export const errorJson = (error: SmtpError.SmtpError): Readonly<Record<string, unknown>> => {
  const { cause: _, ...stored } = Option.getOrElse(encodeError(error), () => ({})) as Record<string, unknown>
  return {
    ...stored,
    code: error.code,
    isTemporary: error.isTemporary,
    inDoubt: error.inDoubt,
    ...(error.reply === undefined ? {} : { reply: error.reply.toJSON() }),
    ...(error.enhancedCode === undefined ? {} : { enhancedCode: error.enhancedCode })
  }
}

/** What the library calls an option, the command line calls a flag. */
const flagOf: ReadonlyArray<readonly [RegExp, string]> = [
  [/\boptions\.tlsOptions\.(ca|cert|key)\b/g, "--$1"],
  [/\boptions\.tlsOptions\.pins\b/g, "--pin"],
  [/\boptions\.tlsOptions\b/g, "--ca, --cert, --key, --pin, --insecure"],
  [/\boptions\.(host|port|tls|servername|name)\b/g, "--$1"],
  [/\boptions\.path\b/g, "--socket"],
  [/\boptions\.mechanisms\b/g, "--auth"],
  [/\boptions\.auth\b/g, "--user"],
  [/\ballowInsecureAuth: true/g, "--allow-insecure-auth"],
  [/\btls: "(\w+)"/g, "--tls $1"]
]

/** An error's message with the flags in place of the options it names. */
export const inFlags = (message: string): string =>
  flagOf.reduce((text, [option, flag]) => text.replace(option, flag), message)

interface Report {
  readonly code: number
  readonly message: string
  readonly error: Readonly<Record<string, unknown>>
}

const inDoubtAdvice = "; in doubt: the server may have taken the message"

const reportOf = (error: unknown): Report => {
  if (error instanceof Failure) {
    return { code: error.code, message: error.message, error: { message: error.message, ...error.details } }
  }
  if (SmtpError.isSmtpError(error)) {
    const doubt = error.inDoubt ? inDoubtAdvice : ""
    return {
      code: exitCodeOf(error),
      message: `${error._tag} ${inFlags(error.message)}${doubt}`,
      error: errorJson(error)
    }
  }
  const message = error instanceof Error ? escape(error.message) : "an unexpected failure"
  const code = error instanceof PlatformError ? ExitCode.io : ExitCode.software
  return { code, message, error: { message } }
}

const report = Effect.fnUntraced(function*(cause: Cause.Cause<unknown>) {
  const output = yield* Output
  const error = Cause.squash(cause)
  if (error instanceof Ended) return yield* error
  const { code, ...told } = reportOf(error)
  yield* output.note(`${output.paintNote.red("error:")} ${told.message}`)
  yield* output.json({ error: { ...told.error, exitCode: code } })
  return yield* new Ended({ code })
})

/**
 * Runs the work of a command with its `Output`. A failure is told once: on standard error, and as `{"error": …}` with
 * `--json`; the run then ends in `Ended`. An interruption goes on as it is.
 */
export const run = <A, E, R>(
  options: { readonly json: boolean },
  work: Effect.Effect<A, E, R>
): Effect.Effect<void, Ended | Terminal.QuitError, Exclude<R, Output> | Stdio.Stdio> =>
  work.pipe(
    Effect.exit,
    Effect.flatMap((exit): Effect.Effect<void, Ended | Terminal.QuitError, Output> => {
      if (Exit.isSuccess(exit)) return Effect.void
      const error = Cause.squash(exit.cause)
      if (Terminal.isQuitError(error)) return Effect.fail(error)
      return Cause.hasInterruptsOnly(exit.cause)
        ? Effect.failCause(exit.cause as Cause.Cause<never>)
        : report(exit.cause)
    }),
    Effect.provide(Layer.provideMerge(layerLog, layerOutput(options)))
  ) as Effect.Effect<void, Ended | Terminal.QuitError, Exclude<R, Output> | Stdio.Stdio>

/** A clean end with a code other than 0, after everything was told. */
export const endWith = (code: number): Effect.Effect<void, Ended> =>
  code === ExitCode.ok ? Effect.void : Effect.fail(new Ended({ code }))
