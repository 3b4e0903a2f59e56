/** Runs the command line in this process: arguments in; standard output, standard error and exit code out. */
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodePath from "@effect/platform-node/NodePath"
import * as TerminalCapabilities from "effect/cli/TerminalCapabilities"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as ChildProcessSpawner from "effect/process/ChildProcessSpawner"
import * as Queue from "effect/Queue"
import * as Runtime from "effect/Runtime"
import * as Sink from "effect/Sink"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"
import * as Terminal from "effect/Terminal"
import { execute } from "../../src/cli/program.ts"
import type { SmtpConnector } from "../../src/SmtpConnector.ts"

export interface Setting {
  readonly env?: Readonly<Record<string, string>> | undefined
  readonly stdin?: string | undefined
  /** Standard input, output and error are terminals. */
  readonly terminal?: boolean | undefined
  /** Standard error is a terminal; default: as `terminal` says. */
  readonly errorTerminal?: boolean | undefined
  /** Keys typed on the terminal. */
  readonly typed?: string | undefined
  /** Is told each line of standard output when it is printed. */
  readonly onStdout?: ((line: string) => void) | undefined
  /** Interrupts it, as SIGINT does, when this has ended. */
  readonly interruptAfter?: Effect.Effect<unknown> | undefined
}

export interface Ran {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
  /** What was drawn on the terminal past Console. */
  readonly drawn: string
  /** Standard output as JSON. */
  readonly json: () => Record<string, unknown>
}

interface Written {
  stdout: string
  stderr: string
  drawn: string
}

const consoleOf = (written: Written, onStdout: Setting["onStdout"]): Console.Console =>
  ({
    ...globalThis.console,
    log: (...words: ReadonlyArray<unknown>) => {
      written.stdout += `${words.join(" ")}\n`
      onStdout?.(words.join(" "))
    },
    error: (...words: ReadonlyArray<unknown>) => {
      written.stderr += `${words.join(" ")}\n`
    }
  }) as Console.Console

const keysOf = (typed: string): ReadonlyArray<Terminal.UserInput> =>
  [...typed].map((input) => ({
    input: Option.some(input),
    key: { name: input === "\n" ? "enter" : input, ctrl: false, meta: false, shift: false }
  }))

const terminalOf = (written: Written, typed: string): Terminal.Terminal =>
  Terminal.make({
    columns: Effect.succeed(80),
    rows: Effect.succeed(24),
    size: Effect.die("unused"),
    readInput: Effect.gen(function*() {
      const queue = yield* Queue.make<Terminal.UserInput>()
      yield* Queue.offerAll(queue, keysOf(typed))
      return queue as never
    }),
    readLine: Effect.die("unused"),
    display: (text) =>
      Effect.sync(() => {
        written.drawn += text
      })
  })

const stdioOf = (written: Written, args: ReadonlyArray<string>, setting: Setting): Stdio.Stdio => {
  const sink = (name: "stdout" | "stderr") => () =>
    Sink.forEach((chunk: string | Uint8Array) =>
      Effect.sync(() => {
        written[name] += typeof chunk === "string" ? chunk : new TextDecoder().decode(chunk)
      })
    )
  const isTerminal = Effect.succeed(setting.terminal === true)
  let unread = setting.stdin ?? ""
  return Stdio.make({
    args: Effect.succeed(args),
    stdin: Stream.suspend(() => {
      const left = unread
      unread = ""
      return Stream.make(new TextEncoder().encode(left))
    }),
    stdout: sink("stdout"),
    stderr: sink("stderr"),
    stdinIsTerminal: isTerminal,
    stdoutIsTerminal: isTerminal,
    stderrIsTerminal: Effect.succeed(setting.errorTerminal ?? setting.terminal === true)
  })
}

const servicesOf = (written: Written, args: ReadonlyArray<string>, setting: Setting) => {
  const services = Layer.mergeAll(
    NodeFileSystem.layer,
    NodePath.layer,
    Layer.succeed(Terminal.Terminal, terminalOf(written, setting.typed ?? "")),
    Layer.succeed(
      ChildProcessSpawner.ChildProcessSpawner,
      ChildProcessSpawner.make(() => Effect.die("unused"))
    ),
    Layer.provideMerge(
      TerminalCapabilities.layer,
      Layer.succeed(Stdio.Stdio, stdioOf(written, args, setting))
    )
  )
  const env = ConfigProvider.layer(ConfigProvider.fromEnv({ env: { ...setting.env } }))
  return Layer.provideMerge(services, env)
}

/** Runs a program of the command line with these arguments. */
export const inProcess = Effect.fnUntraced(function*<E, R>(
  program: Effect.Effect<void, E, R>,
  args: ReadonlyArray<string>,
  setting: Setting = {}
) {
  const written: Written = { stdout: "", stderr: "", drawn: "" }
  const running = program.pipe(
    Effect.provide(servicesOf(written, args, setting)),
    Effect.provideService(Console.Console, consoleOf(written, setting.onStdout))
  )
  const exit = yield* (setting.interruptAfter === undefined
    ? Effect.exit(running)
    : Effect.flatMap(
      Effect.forkChild(running),
      (fiber) =>
        setting.interruptAfter!.pipe(Effect.andThen(Fiber.interrupt(fiber)), Effect.andThen(Fiber.await(fiber)))
    ))
  let code = -1
  Runtime.defaultTeardown(exit, (ended) => {
    code = ended
  })
  return { code, ...written, json: () => JSON.parse(written.stdout) as Record<string, unknown> } satisfies Ran as Ran
})

/** Runs `effect-smtp` with these arguments, over the connector of the context. */
export const cli = (
  args: ReadonlyArray<string>,
  setting: Setting = {}
): Effect.Effect<Ran, never, SmtpConnector> => inProcess(execute, args, setting)
