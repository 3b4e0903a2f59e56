import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync
} from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fromPage } from "./tooling/docs.ts"
import { type Difference, inSection, Terminal } from "./tooling/sessions.ts"
import { root } from "./tooling/source.ts"

const folder = realpathSync(mkdtempSync(join(tmpdir(), "effect-smtp-package-")))
const stage = join(folder, "stage")
const consumer = join(folder, "consumer")
const modules = join(root, "node_modules")
const tsc = join(modules, "typescript", "bin", "tsc")
let packed: ReadonlyArray<string> = []

const run = (cwd: string, command: string, ...args: ReadonlyArray<string>): Promise<string> =>
  new Promise((resolve, reject) => {
    execFile(command, args, { cwd, maxBuffer: 1 << 26 }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout)
      else reject(new Error(`${command} ${args.join(" ")}\n${stdout}${stderr}`))
    })
  })

/** A copy of the project, so that dist/ is nobody else's. */
const copyProject = (): void => {
  for (const name of readdirSync(root)) {
    if (/^(\.|node_modules$|dist$|coverage$)/.test(name)) continue
    cpSync(join(root, name), join(stage, name), { recursive: true })
  }
  symlinkSync(modules, join(stage, "node_modules"), "junction")
}

/** What `npm install` would do, without the network: the tarball unpacked beside links to our peers. */
const installPackage = async (): Promise<void> => {
  const home = join(consumer, "node_modules", "effect-smtp")
  mkdirSync(home, { recursive: true })
  await run(folder, "tar", "-xzf", await packTarball(), "-C", home, "--strip-components=1")
  for (const scope of ["@effect", "@types"]) mkdirSync(join(consumer, "node_modules", scope))
  for (const name of ["effect", "@effect/platform-node", "@types/node"]) {
    symlinkSync(join(modules, name), join(consumer, "node_modules", name), "junction")
  }
  const command = join(home, "dist", "cli", "main.js")
  chmodSync(command, 0o755)
  mkdirSync(join(consumer, "node_modules", ".bin"))
  symlinkSync(command, join(consumer, "node_modules", ".bin", "effect-smtp"))
}

/** An npm whose `install` takes what is here in place of the registry: each package that is named, or none. */
const layOfflineNpm = (bin: string): void => {
  const npm = `#!/bin/sh
PATH=\${PATH#*:}
[ "$1" = install ] || exec npm "$@"
shift
for one in "$@"; do
  [ -e '${consumer}/node_modules/'"\${one%@^*}" ] || exit 1
done
cp -R '${consumer}/node_modules' node_modules
`
  mkdirSync(bin)
  writeFileSync(join(bin, "npm"), npm, { mode: 0o755 })
}

const packTarball = async (): Promise<string> => {
  const tarball = (await run(stage, "npm", "pack", "--silent", "--ignore-scripts", "--pack-destination", folder)).trim()
  const path = join(folder, tarball.split("\n").at(-1) ?? "")
  packed = (await run(folder, "tar", "-tzf", path)).trim().split("\n").map((file) => file.replace(/^package\//, ""))
  return path
}

const consumerConfig = {
  compilerOptions: {
    target: "ES2023",
    lib: ["ES2023", "ESNext.Disposable", "DOM"],
    module: "NodeNext",
    strict: true,
    exactOptionalPropertyTypes: true,
    noEmit: true,
    types: ["node"],
    skipLibCheck: false
  },
  files: ["main.ts"]
}

const script = `
import * as assert from "node:assert"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { Sasl, SmtpClient, SmtpError, SmtpReply } from "effect-smtp"
import { NodeConnector, NodeSmtpServer } from "effect-smtp/node"
import { createTransport } from "effect-smtp/promise"
import * as Reply from "effect-smtp/SmtpReply"
import { SmtpServer } from "effect-smtp/testing"

const reply: SmtpReply.SmtpReply = Reply.make(550, "5.1.1 No such user")
assert.ok(reply instanceof SmtpReply.SmtpReply)
const refused: SmtpError.SmtpError = new SmtpError.EENVELOPE({ message: "refused", command: "RCPT TO", reply })
assert.strictEqual(refused.enhancedCode, "5.1.1")

const send = (options: SmtpClient.Options) =>
  Effect.gen(function*() {
    const auth = Sasl.password({ username: "ann", password: Redacted.make("secret") })
    const smtp = yield* SmtpClient.make({ ...options, name: "me.test", auth })
    return (yield* smtp.send({ from: "ann@a.test", to: "bob@b.test" }, "Subject: x\\n\\n.x\\n")).messageSize
  })
const inMemory = send({ host: "mx.test" }).pipe(Effect.provide(SmtpServer.layer()))
assert.strictEqual(await Effect.runPromise(inMemory), 18)
const onPort = Effect.flatMap(NodeSmtpServer.NodeSmtpServer, ({ ca, host, port }) =>
  send({ host, port, servername: "localhost", tlsOptions: { ca } })).pipe(
    Effect.provide([NodeConnector.layer, NodeSmtpServer.layerLoopback({ script: { accounts: { ann: "secret" } } })])
  )
assert.strictEqual(await Effect.runPromise(onPort), 18)
await using transport = createTransport({ host: "mx.test", connector: SmtpServer.layer() })
assert.strictEqual((await transport.send({ from: "", to: "bob@b.test" }, new Blob(["x"]).stream())).messageSize, 3)
console.log("served")
`

const refusal = (specifier: string): string => `
import * as assert from "node:assert"
await assert.rejects(import("${specifier}"), { code: "ERR_PACKAGE_PATH_NOT_EXPORTED" })
console.log("refused")
`

describe("the package", () => {
  beforeAll(async () => {
    copyProject()
    await run(stage, process.execPath, tsc, "-p", "tsconfig.build.json")
    mkdirSync(consumer)
    writeFileSync(join(consumer, "package.json"), JSON.stringify({ name: "consumer", private: true, type: "module" }))
    writeFileSync(join(consumer, "tsconfig.json"), JSON.stringify(consumerConfig))
    writeFileSync(join(consumer, "main.ts"), script)
    await installPackage()
  }, 120_000)
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  it("runs its tests on a Node that the library supports", () => {
    const [major = 0, minor = 0] = process.versions.node.split(".").map(Number)
    assert.isTrue(major > 22 || (major === 22 && minor >= 19), `${process.version}: run the tests through npm`)
  })

  it("holds the build, the sources, the documentation and the licence, and nothing else", () => {
    const files = [
      "README.md",
      "docs/README.md",
      "dist/index.js",
      "dist/index.d.ts",
      "dist/cli/main.js",
      "src/index.ts"
    ]
    for (const file of files) {
      assert.include(packed, file)
    }
    for (
      const entry of ["dist/node/index.js", "dist/node/index.d.ts", "dist/testing/index.js", "dist/SmtpReply.js.map"]
    ) {
      assert.include(packed, entry)
    }
    const isExpected = (file: string): boolean => /^(dist\/.+\.(js|d\.ts)(\.map)?|src\/.+\.ts|docs\/.+\.md)$/.test(file)
    const others = packed.filter((file) => !isExpected(file) && !file.endsWith("/"))
    assert.deepStrictEqual(others.toSorted(), ["CHANGELOG.md", "LICENSE", "README.md", "package.json"])
  })

  it("has an entry for each public module, and no other", () => {
    const { exports } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { exports: object }
    const modules = packed
      .map((file) => /^src\/((?:node\/|testing\/)?[A-Z]\w*)\.ts$/.exec(file)?.[1])
      .filter((name) => name !== undefined)
      .map((name) => `./${name}`)
    const fixed = [".", "./package.json", "./node", "./promise", "./testing", "./internal/*"]
    assert.deepStrictEqual(Object.keys(exports).toSorted(), [...fixed, ...modules].toSorted())
  })

  it("type-checks in a project that installs it", { timeout: 60_000 }, async () => {
    assert.strictEqual(await run(consumer, process.execPath, tsc, "-p", "."), "")
  })

  it("runs in a project that installs it", { timeout: 60_000 }, async () => {
    assert.strictEqual(await run(consumer, process.execPath, "main.ts"), "served\n")
  })

  it("has a command that runs, and is no entry", { timeout: 60_000 }, async () => {
    const { bin, version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
      readonly bin: Readonly<Record<string, string>>
      readonly version: string
    }
    assert.deepStrictEqual(Object.keys(bin), ["effect-smtp"])
    const command = join(consumer, "node_modules", "effect-smtp", bin["effect-smtp"] ?? "")
    assert.strictEqual(readFileSync(command, "utf8").split("\n", 1)[0], "#!/usr/bin/env node")
    assert.strictEqual(await run(consumer, process.execPath, command, "--version"), `effect-smtp v${version}\n`)
  })

  it("does in an empty folder what the README's Quick start says", { timeout: 180_000 }, async () => {
    const readme = readFileSync(join(root, "README.md"), "utf8")
    const blocks = inSection(readme, fromPage("README.md", readme), "## Quick start")
    assert.deepStrictEqual(blocks.map(({ info }) => info.split(" ")[0]), ["sh", "console", "ts", "console"])
    const project = join(folder, "hello")
    mkdirSync(project)
    layOfflineNpm(join(folder, "offline"))
    const terminal = await Terminal.open(project, [join(folder, "offline")])
    const differences: Array<Difference> = []
    try {
      for (const block of blocks) differences.push(...await terminal.follow(block))
      differences.push(...await terminal.close())
    } finally {
      terminal.abandon()
    }
    assert.deepStrictEqual(differences.map(({ block, command, said }) => `${block.line}: ${command}\n${said}`), [])
  })

  for (
    const specifier of [
      "effect-smtp/cli/main",
      "effect-smtp/internal/errorCause",
      "effect-smtp/index",
      "effect-smtp/node/certificate",
      "effect-smtp/testing/memory"
    ]
  ) {
    it(`refuses ${specifier}`, async () => {
      const file = join(consumer, `${specifier.replaceAll("/", "-")}.mjs`)
      writeFileSync(file, refusal(specifier))
      assert.strictEqual(await run(consumer, process.execPath, file), "refused\n")
    })
  }
})
