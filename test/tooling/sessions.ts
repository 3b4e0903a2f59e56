/**
 * Terminal sessions in Markdown, run again: the commands are typed into a shell in an empty folder, and what they print
 * is compared with what the page shows.
 *
 * A ```console session block is run to its end, and so is ```sh, whose output the page leaves out. One marked `background` runs beside those that follow, until the next of
 * its kind or the end of the page; a line that begins with ^C says that it is interrupted then. In one marked `figures`
 * every number stands for any number. A block with the name of a file is that file: ```json incident.json, or ```ts with
 * "// hello.ts" in its first line. In what is shown, "…" stands for the rest of a word or a line; a line of "…" stands
 * for any lines. The port 2525 stands for one that is free.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { chmodSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { dirname, join } from "node:path"
import type { Block } from "./docs.ts"
import { root } from "./source.ts"

/** A command that was typed, and the lines that the page shows below it. */
export interface Typed {
  readonly command: string
  readonly shown: ReadonlyArray<string>
}

/** What differs from the page. */
export interface Difference {
  readonly block: Block
  readonly command: string
  readonly said: string
}

const marksOf = ({ info }: Block): ReadonlyArray<string> => info.split(" ").slice(1)

/** Whether a block is a session that can be run again. */
export const isSession = ({ info }: Block): boolean => /^console session( (background|figures))?$/.test(info)

/** The name of the file that a block holds. */
export const fileNameOf = ({ info, lines }: Block): string | undefined => {
  if (/^ts( no-run)?$/.test(info)) return /^\/\/ ([\w-]+\.ts)$/.exec(lines[0] ?? "")?.[1]
  return /^(?:json|eml) ([\w-]+\.\w+)$/.exec(info)?.[1]
}

/** The commands of a session, each with what is shown below it. A backslash continues a command. */
export const typedIn = ({ lines }: Block): ReadonlyArray<Typed> => {
  const typed: Array<{ command: string; shown: Array<string> }> = []
  for (const line of lines) {
    const last = typed.at(-1)
    if (line.startsWith("$ ")) typed.push({ command: line.slice(2), shown: [] })
    else if (last?.command.endsWith("\\") && last.shown.length === 0) last.command += `\n${line}`
    else last?.shown.push(line)
  }
  return typed
}

const escaped = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")

/** A line without its figures: numbers, their units and the bars that draw them. */
const blurred = (line: string): string =>
  line.replace(/\d[\d. ]*/g, "0 ").replace(/0 (µs|ms|s)\b/g, "0 t").replace(/0 (octets|k?B|MB)/g, "0 B")
    .replace(/[#\u2580-\u259f]+/g, "").replace(/ +/g, " ").trim()

const withoutRepeats = (lines: ReadonlyArray<string>): ReadonlyArray<string> =>
  lines.filter((line, index) => line !== lines[index - 1])

/** Whether this output is what the page shows. */
export const isSame = (shown: ReadonlyArray<string>, output: string, isFigures = false): boolean => {
  const pattern = shown.map((line) =>
    line.trim() === "…" ? "(?:[^\n]*\n)*" : `${line.trimEnd().split("…").map(escaped).join("[^\n]*")}\n`
  )
  const said = output.replace(/[ \t]+$/gm, "").replace(/\n+$/, "").split("\n")
  if (isFigures) {
    const left = withoutRepeats(shown.map(blurred)).filter((line) => line !== "")
    const right = withoutRepeats(said.map(blurred)).filter((line) => line !== "")
    return left.join("\n") === right.join("\n")
  }
  const text = said.join("\n") === "" ? "" : `${said.join("\n")}\n`
  return new RegExp(`^${pattern.join("")}$`).test(text)
}

const shownPort = 2525

const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = createServer().on("error", reject)
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { readonly port: number }
      server.close(() => resolve(port))
    })
  })

/** A folder with `effect-smtp`, as `npm install --global` would give it, and a Node that runs it. */
export const installCommand = (folder: string): string => {
  const file = join(folder, "effect-smtp")
  writeFileSync(file, `#!/bin/sh\nexec '${process.execPath}' '${root}src/cli/main.ts' "$@"\n`)
  chmodSync(file, 0o755)
  return folder
}

const environment = (path: ReadonlyArray<string>): NodeJS.ProcessEnv => {
  const kept = Object.entries(process.env).filter(([name]) =>
    !/^(SMTP_|npm_|NODE_|FORCE_COLOR|NO_COLOR|VITEST)/.test(name)
  )
  const PATH = [...path, dirname(process.execPath), process.env["PATH"]].join(":")
  return {
    ...Object.fromEntries(kept),
    PATH,
    TZ: "UTC",
    npm_config_update_notifier: "false",
    npm_config_loglevel: "error"
  }
}

/** A page that shows something else than what comes must not hang the tests. */
const patience = 30_000

/** One shell in a process group of its own, as a terminal would start it. */
class Shell {
  output = ""
  private readonly ended: Promise<number>
  private readonly child: ChildProcess
  private isOver = false
  private watch: () => void = () => {}

  constructor(script: string, cwd: string, env: NodeJS.ProcessEnv) {
    const stdio = ["ignore", "pipe", "pipe"] as const
    this.child = spawn("bash", ["-c", script], { cwd, env, detached: true, stdio: [...stdio] })
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream?.setEncoding("utf8").on("data", (text: string) => {
        this.output += text
        this.watch()
      })
    }
    this.ended = new Promise((resolve) => {
      this.child.on("close", (code) => {
        this.isOver = true
        this.watch()
        resolve(code ?? -1)
      })
    })
  }

  /** Waits until its output is such, or it has ended. */
  until(isSuch: (output: string) => boolean): Promise<void> {
    return new Promise((resolve) => {
      const limit = setTimeout(resolve, patience)
      this.watch = () => {
        if (!isSuch(this.output) && !this.isOver) return
        clearTimeout(limit)
        resolve()
      }
      this.watch()
    })
  }

  /** Its exit code; where it does not end, it is killed. */
  async end(): Promise<number> {
    const limit = setTimeout(() => this.signal("SIGKILL"), patience)
    const code = await this.ended
    clearTimeout(limit)
    return code
  }

  signal(signal: NodeJS.Signals): void {
    if (!this.isOver && this.child.pid !== undefined) process.kill(-this.child.pid, signal)
  }
}

interface Background {
  readonly block: Block
  readonly typed: Typed
  readonly shell: Shell
}

/** The one place of a reader: a folder, a port that is free, and what runs beside. */
export class Terminal {
  private readonly folder: string
  private readonly env: NodeJS.ProcessEnv
  private readonly port: number
  private readonly exported: string
  private beside: Background | undefined

  private constructor(folder: string, env: NodeJS.ProcessEnv, port: number) {
    this.folder = folder
    this.env = env
    this.port = port
    this.exported = `${folder}.exported`
  }

  static async open(folder: string, path: ReadonlyArray<string>): Promise<Terminal> {
    return new Terminal(folder, environment(path), await freePort())
  }

  private here(text: string): string {
    return text.replaceAll(String(shownPort), String(this.port))
  }

  /** What was exported before is there. */
  private script(lines: ReadonlyArray<string>): string {
    return ["exec 2>&1", `[ ! -f '${this.exported}' ] || . '${this.exported}'`, ...lines].join("\n")
  }

  private there(text: string): string {
    return text.replaceAll(String(this.port), String(shownPort))
  }

  /** Does what one block says: writes the file, or types the commands. */
  async follow(block: Block): Promise<ReadonlyArray<Difference>> {
    const name = fileNameOf(block)
    if (name !== undefined) {
      writeFileSync(join(this.folder, name), this.here(`${block.lines.join("\n")}\n`))
      return []
    }
    if (block.info === "sh") return await this.run(block)
    if (!isSession(block)) return []
    return marksOf(block).includes("background") ? await this.startBeside(block) : await this.type(block)
  }

  private async run(block: Block): Promise<ReadonlyArray<Difference>> {
    const command = block.lines.join("\n")
    const shell = new Shell(this.script(["set -e", this.here(command)]), this.folder, this.env)
    const code = await shell.end()
    return code === 0 ? [] : [{ block, command, said: `${shell.output}(exit code ${code})` }]
  }

  private async type(block: Block): Promise<ReadonlyArray<Difference>> {
    const typed = typedIn(block)
    // The exit status of a command is there for the next one, and its output ends at a separator.
    const script = typed.map(({ command }) => `${this.here(command)}\n__ended=$?; printf '\\036'; (exit $__ended)`)
    const shell = new Shell(this.script([...script, `export -p > '${this.exported}'`]), this.folder, this.env)
    await shell.end()
    const outputs = this.there(shell.output).split("\u001e")
    return typed.flatMap(({ command, shown }, index) => {
      const said = outputs[index] ?? ""
      return isSame(shown, said, marksOf(block).includes("figures")) ? [] : [{ block, command, said }]
    })
  }

  private async startBeside(block: Block): Promise<ReadonlyArray<Difference>> {
    const differences = await this.close()
    const [typed] = typedIn(block)
    if (typed === undefined) return differences
    const shell = new Shell(this.script([this.here(typed.command)]), this.folder, this.env)
    this.beside = { block, shell, typed }
    await shell.until((output) => isSame([typed.shown[0] ?? "…", "…"], this.there(output)))
    return differences
  }

  /** Ends what runs beside, once it has shown what the page shows. */
  async close(): Promise<ReadonlyArray<Difference>> {
    if (this.beside === undefined) return []
    const { block, shell, typed } = this.beside
    const before = typed.shown.findIndex((line) => line.startsWith("^C"))
    if (before >= 0) {
      await shell.until((output) => isSame([...typed.shown.slice(0, before), "…"], this.there(output)))
      shell.signal("SIGINT")
    }
    const code = await shell.end()
    this.beside = undefined
    const said = this.there(shell.output)
    // What ^C ends may end with the signal: npx does.
    const isRight = (before >= 0 || code === 0) && isSame(typed.shown.map((line) => line.replace(/^\^C/, "")), said)
    return isRight ? [] : [{ block, command: typed.command, said: `${said}(exit code ${code})` }]
  }

  /** Ends what still runs, whatever it showed. */
  abandon(): void {
    this.beside?.shell.signal("SIGKILL")
    this.beside = undefined
  }
}

/** The blocks of a page that stand below a heading, or (`isBelow` false) below all others. */
export const inSection = (
  text: string,
  blocks: ReadonlyArray<Block>,
  heading: string,
  isBelow = true
): ReadonlyArray<Block> => {
  const lines = text.split("\n")
  const from = lines.indexOf(heading) + 1
  if (from === 0) throw new Error(`there is no heading "${heading}"`)
  const next = lines.findIndex((line, index) => index >= from && line.startsWith("## "))
  const to = next < 0 ? lines.length : next
  return blocks.filter(({ line }) => (line > from && line <= to) === isBelow)
}
