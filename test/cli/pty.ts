/**
 * Starts the command line as a process of its own: through pipes, or on a pseudo-terminal that `script` makes.
 */
import * as Effect from "effect/Effect"
import { type ChildProcess, spawn, spawnSync } from "node:child_process"
import { fileURLToPath } from "node:url"

const main = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url))

/** Whether `script` of util-linux is here, which makes a pseudo-terminal. */
export const hasPty = spawnSync("script", ["-qec", "exit 3", "/dev/null"], { stdio: "ignore" }).status === 3

/** The name of a test that needs one: where there is none it is skipped, and says why. */
export const onPty = (name: string): string => hasPty ? name : `${name}: skipped, \`script\` of util-linux is missing`

export interface Setting {
  readonly env?: Readonly<Record<string, string>> | undefined
  readonly cwd?: string | undefined
}

export interface Ended {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** A running command. */
export class Running {
  stdout = ""
  stderr = ""
  private readonly child: ChildProcess
  private readonly watchers = new Set<() => void>()
  private code: number | undefined

  constructor(child: ChildProcess) {
    this.child = child
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      this.stdout += text
      this.changed()
    })
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.stderr += text
      this.changed()
    })
    child.on("close", (code, signal) => {
      this.code = code ?? (signal === null ? -1 : 128)
      this.changed()
    })
  }

  private changed(): void {
    for (const watcher of this.watchers) watcher()
  }

  private until<A>(find: () => A | undefined, what: string): Effect.Effect<A> {
    return Effect.callback((resume) => {
      const watcher = (): void => {
        const found = find()
        if (found === undefined && this.code === undefined) return
        this.watchers.delete(watcher)
        const lost = `it ended with ${this.code} before ${what}:\n${this.stdout}${this.stderr}`
        resume(found === undefined ? Effect.die(new Error(lost)) : Effect.succeed(found))
      }
      this.watchers.add(watcher)
      watcher()
      return Effect.sync(() => this.watchers.delete(watcher))
    })
  }

  /** Waits until it has printed this, on standard output or on standard error; on a terminal both are one. */
  shows(what: RegExp | string): Effect.Effect<RegExpExecArray> {
    const pattern = typeof what === "string" ? new RegExp(what.replaceAll(/[\\^$.*+?()[\]{}|]/g, "\\$&")) : what
    return this.until(() => pattern.exec(this.stdout) ?? pattern.exec(this.stderr) ?? undefined, `it showed ${pattern}`)
  }

  /** Waits until it has ended. */
  get ended(): Effect.Effect<Ended> {
    return this.until(
      () => this.code === undefined ? undefined : { code: this.code, stdout: this.stdout, stderr: this.stderr },
      "its end"
    )
  }

  /** Writes to standard input; on a terminal these are keys: "\u0003" is Ctrl-C. */
  type(keys: string): Effect.Effect<void> {
    return Effect.sync(() => this.child.stdin?.write(keys))
  }

  /** Ends standard input. */
  get endInput(): Effect.Effect<void> {
    return Effect.sync(() => this.child.stdin?.end())
  }

  signal(signal: NodeJS.Signals): Effect.Effect<void> {
    return Effect.sync(() => this.child.kill(signal))
  }

  get stop(): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.code !== undefined) return Effect.void
      this.child.kill("SIGKILL")
      return Effect.asVoid(this.ended)
    })
  }
}

const environment = (setting: Setting): NodeJS.ProcessEnv => {
  const { NO_COLOR: _, FORCE_COLOR: __, ...inherited } = process.env
  const kept = Object.entries(inherited).filter(([name]) => !name.startsWith("SMTP_"))
  return { ...Object.fromEntries(kept), TERM: "xterm-256color", ...setting.env }
}

const start = (command: string, args: ReadonlyArray<string>, setting: Setting) =>
  Effect.acquireRelease(
    Effect.sync(() => new Running(spawn(command, args, { cwd: setting.cwd, env: environment(setting) }))),
    (running) => running.stop
  )

/** Starts `effect-smtp` with pipes for input and output. It is killed when the scope closes. */
export const startPiped = (args: ReadonlyArray<string>, setting: Setting = {}) =>
  start(process.execPath, [main, ...args], setting)

const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`

/** Starts `effect-smtp` on a pseudo-terminal of 80 columns. What it prints, on both outputs, is in `stdout`. */
export const startOnTerminal = (args: ReadonlyArray<string>, setting: Setting = {}) => {
  const command = [process.execPath, main, ...args].map(quoted).join(" ")
  return start("script", ["-qec", `stty cols 80 rows 24; exec ${command}`, "/dev/null"], setting)
}
