import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import {
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

  it("holds the build, the sources, the README and the licence, and nothing else", () => {
    for (const file of ["package.json", "README.md", "LICENSE", "dist/index.js", "dist/index.d.ts", "src/index.ts"]) {
      assert.include(packed, file)
    }
    for (
      const entry of ["dist/node/index.js", "dist/node/index.d.ts", "dist/testing/index.js", "dist/SmtpReply.js.map"]
    ) {
      assert.include(packed, entry)
    }
    const isExpected = (file: string): boolean => /^(dist\/.+\.(js|d\.ts)(\.map)?|src\/.+\.ts)$/.test(file)
    const others = packed.filter((file) => !isExpected(file) && !file.endsWith("/"))
    assert.deepStrictEqual(others.toSorted(), ["LICENSE", "README.md", "package.json"])
  })

  it("has an entry for each public module, and no other", () => {
    const { exports } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { exports: object }
    const modules = packed
      .map((file) => /^src\/((?:node\/|testing\/)?[A-Z]\w*)\.ts$/.exec(file)?.[1])
      .filter((name) => name !== undefined)
      .map((name) => `./${name}`)
    const fixed = [".", "./package.json", "./node", "./testing", "./internal/*"]
    assert.deepStrictEqual(Object.keys(exports).toSorted(), [...fixed, ...modules].toSorted())
  })

  it("type-checks in a project that installs it", { timeout: 60_000 }, async () => {
    assert.strictEqual(await run(consumer, process.execPath, tsc, "-p", "."), "")
  })

  it("runs in a project that installs it", { timeout: 60_000 }, async () => {
    assert.strictEqual(await run(consumer, process.execPath, "main.ts"), "served\n")
  })

  for (
    const specifier of [
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
