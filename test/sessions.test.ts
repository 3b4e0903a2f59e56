/**
 * The terminal sessions of the documentation: each command is run again, and prints what the page shows.
 */
import { assert, describe, it } from "@effect/vitest"
import { mkdirSync, mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { type Block, fromPage, readPages } from "./tooling/docs.ts"
import {
  type Difference,
  fileNameOf,
  inSection,
  installCommand,
  isSame,
  isSession,
  Terminal,
  typedIn
} from "./tooling/sessions.ts"

/** The sessions of the README's Quick start need the package installed: test/package.test.ts follows them. */
const sessionsOf = (page: string, text: string): ReadonlyArray<Block> => {
  const blocks = fromPage(page, text)
  const own = page === "README.md" ? inSection(text, blocks, "## Quick start", false) : blocks
  return own.filter((block) => isSession(block) || (!block.info.startsWith("ts") && fileNameOf(block) !== undefined))
}

const told = ({ block, command, said }: Difference): string =>
  `${block.file}:${block.line} $ ${command}\n${said.slice(0, 4_000)}`

describe("the terminal sessions of the documentation", () => {
  const pages = [...readPages()].map(([page, text]) => [page, sessionsOf(page, text)] as const)
  const withSessions = pages.filter(([, blocks]) => blocks.some(isSession))

  for (const [page, blocks] of withSessions) {
    it(`${page} shows what its commands print`, { timeout: 120_000 }, async () => {
      const folder = mkdtempSync(join(tmpdir(), "effect-smtp-sessions-"))
      const bin = join(folder, "bin")
      const home = join(folder, "home")
      for (const one of [bin, home]) mkdirSync(one)
      const terminal = await Terminal.open(home, [installCommand(bin)])
      const differences: Array<Difference> = []
      try {
        for (const block of blocks) differences.push(...await terminal.follow(block))
        differences.push(...await terminal.close())
      } finally {
        terminal.abandon()
        rmSync(folder, { recursive: true, force: true })
      }
      assert.deepStrictEqual(differences.map(told), [])
    })
  }

  it("show each command of the command line, in the README and in its guide", () => {
    for (const page of ["README.md", "docs/command-line.md"]) {
      const blocks = withSessions.find(([name]) => name === page)?.[1] ?? []
      const typed = blocks.filter(isSession).flatMap(typedIn).map(({ command }) => command).join("\n")
      const missing = ["send", "probe", "serve", "bench", "replay"].filter((name) =>
        !typed.includes(`effect-smtp ${name}`)
      )
      assert.deepStrictEqual(missing, [], page)
    }
  })

  it("are all marked, so that none is left out", () => {
    const unmarked = [...readPages()].flatMap(([page, text]) => fromPage(page, text)).filter(({ info, lines }) =>
      info === "console" && lines.some((line) => line.includes("effect-smtp "))
    )
    assert.deepStrictEqual(unmarked.map(({ file, line }) => `${file}:${line}`), [])
  })
})

describe("reading a session", () => {
  const block = (info: string, ...lines: ReadonlyArray<string>): Block => ({ file: "A.md", line: 1, info, lines })

  it("knows its commands, also over several lines, and what is shown below each", () => {
    assert.deepStrictEqual(typedIn(block("console session", "$ a \\", "  b", "one", "two", "$ echo $?", "0")), [
      { command: "a \\\n  b", shown: ["one", "two"] },
      { command: "echo $?", shown: ["0"] }
    ])
  })

  it("knows the name of a file", () => {
    assert.strictEqual(fileNameOf(block("eml message.eml", "Subject: Hi")), "message.eml")
    assert.strictEqual(fileNameOf(block("ts no-run", "// hello.ts", "f()")), "hello.ts")
    for (
      const other of [block("ts", "f()"), block("json", "{}"), block("text a.ts", "x"), block("console session", "")]
    ) {
      assert.isUndefined(fileNameOf(other))
    }
  })

  it("takes … for the rest of a word or line, and a line of it for any lines, and nothing else for anything", () => {
    const output = "one 1\n  two 2\n\nthree\n"
    for (const shown of [["one …", "  two 2", "", "three"], ["…"], ["one 1", "…"], ["…", "three", "…"]]) {
      assert.isTrue(isSame(shown, output), shown.join("|"))
    }
    for (const shown of [["one …", "three"], ["one 1", "two 2", "", "three"], [], ["one .", "…"], ["one 1"]]) {
      assert.isFalse(isSame(shown, output), shown.join("|"))
    }
    assert.isTrue(isSame([], ""))
  })

  it("takes any figures, any number of rows and any bars for others, but no other words", () => {
    const shown = ["accepted  100 in 1.9 s: 51 messages/s", "", "  <= 5 ms  95   9.5 %  ██▍", " <= 20 ms  5  90.5 %  #"]
    assert.isTrue(isSame(shown, "accepted  1 000 in 544 ms: 9 messages/s\n  <= 200 µs   54   10.8 %  ####\n", true))
    assert.isFalse(isSame(shown, "failed  1 000 in 544 ms: 9 messages/s\n  <= 2 ms   54   10.8 %  ####\n", true))
  })

  it(
    "sees a difference in what is printed, in the exit code, and in what runs beside",
    { timeout: 60_000 },
    async () => {
      const folder = mkdtempSync(join(tmpdir(), "effect-smtp-sessions-"))
      const home = join(folder, "home")
      mkdirSync(home)
      const terminal = await Terminal.open(home, [])
      const seen = async (info: string, ...lines: ReadonlyArray<string>) =>
        (await terminal.follow(block(info, ...lines))).map(({ command, said }) => [command, said])
      try {
        assert.deepStrictEqual(await seen("console session", "$ (exit 3)", "$ echo $? >&2", "3"), [])
        assert.deepStrictEqual(await seen("console session", "$ echo 2525", "2525", "$ echo b", "a"), [[
          "echo b",
          "b\n"
        ]])
        assert.deepStrictEqual(await seen("eml a.eml", "to 2525"), [])
        assert.deepStrictEqual(await seen("console session", "$ cat a.eml", "to 2525"), [])
        const beside = [
          "console session background",
          "$ trap 'kill $! 2>/dev/null; echo end; exit 0' INT; tail -f /dev/null & echo up; wait",
          "up",
          "^Cend"
        ] as const
        assert.deepStrictEqual(await seen("console session background", "$ echo x; exit 1", "x"), [])
        assert.deepStrictEqual(await seen(...beside), [["echo x; exit 1", "x\n(exit code 1)"]])
        assert.deepStrictEqual(await terminal.close(), [])
      } finally {
        terminal.abandon()
        rmSync(folder, { recursive: true, force: true })
      }
    }
  )

  it("finds the blocks below a heading, and the others", () => {
    const text = "```sh\na\n```\n## Two\n```sh\nb\n```\n### More\n```sh\nc\n```\n## Three\n```sh\nd\n```\n"
    const blocks = fromPage("A.md", text)
    const said = (isBelow: boolean) => inSection(text, blocks, "## Two", isBelow).map(({ lines }) => lines[0])
    assert.deepStrictEqual([said(true), said(false)], [["b", "c"], ["a", "d"]])
    assert.throws(() => inSection(text, blocks, "## Four"), "there is no heading")
  })
})
