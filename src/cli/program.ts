/**
 * The commands under one name, and the end of a run: usage errors, and a run that was broken off.
 *
 * What it is: everything but the services and the process, so that tests run it too. What it is not: the entry point;
 * that is `main`.
 */
import * as CliConfig from "effect/cli/CliConfig"
import type * as CliError from "effect/cli/CliError"
import * as CliOutput from "effect/cli/CliOutput"
import * as Command from "effect/cli/Command"
import * as GlobalFlag from "effect/cli/GlobalFlag"
import * as TerminalCapabilities from "effect/cli/TerminalCapabilities"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stdio from "effect/Stdio"
import { readFileSync } from "node:fs"
import { bench } from "./bench.ts"
import { Ended, ExitCode } from "./frame.ts"
import { probe } from "./probe.ts"
import { replay } from "./replay.ts"
import { send } from "./send.ts"
import { serve } from "./serve.ts"

const root = Command.make("effect-smtp").pipe(
  Command.withDescription(
    "Send mail, look at a mail server, catch mail while developing.\n\n" +
      "Exit codes are those of sysexits.h: 0 done, 64 usage, 65 bad message or address, 66 no such file, 68 unknown host, " +
      "69 refused or unavailable, 70 a fault of this program, 74 input/output (or in doubt), 75 try again later, " +
      "76 protocol or TLS, 77 login, 78 configuration; 130 interrupted."
  ),
  Command.withSubcommands([send, probe, serve, bench, replay])
)

const version = (JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
  readonly version: string
}).version

const isSecretFlag = (error: CliError.NonShowHelpErrors): boolean =>
  error._tag === "UnrecognizedOption" && /^-*(?:pass|password|pw|secret|token)(?:=|$)/i.test(error.option)

const secretAdvice = "A secret is never an argument: other users see it. Set SMTP_PASSWORD or SMTP_TOKEN, " +
  "give --password-file or --token-file, or answer the prompt."

/** Usage errors in a few lines on standard error: what follows a secret among the arguments is not shown again. */
const layerPresenter: Layer.Layer<never, never, Stdio.Stdio> = Layer.unwrap(Effect.gen(function*() {
  const { canColor } = yield* TerminalCapabilities.TerminalCapabilities
  const colors = canColor && (yield* (yield* Stdio.Stdio).stderrIsTerminal)
  return CliOutput.layerPresenter({
    present: (event) => {
      if (event._tag !== "InvalidInvocation") return CliOutput.defaultPresenter.present(event)
      const told = event.errors.some(isSecretFlag)
        ? secretAdvice
        : CliOutput.defaultFormatter({ colors }).formatErrors(event.errors).trim()
      return Console.error(`${told}\n\nSee: ${event.commandPath.join(" ")} --help`)
    }
  })
}))

const layerHelp = CliConfig.layer({
  builtIns: [GlobalFlag.Help, GlobalFlag.Version, GlobalFlag.Completions]
})

/** Runs the command line with the arguments of `Stdio`. */
export const execute = Command.run(root, { version }).pipe(
  Effect.catchTag("ShowHelp", (help) => new Ended({ code: help.errors.length === 0 ? ExitCode.ok : ExitCode.usage })),
  Effect.provide([layerHelp, layerPresenter])
)
