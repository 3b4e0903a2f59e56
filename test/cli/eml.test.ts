import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodePath from "@effect/platform-node/NodePath"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import { systemError } from "effect/PlatformError"
import { fileName, subjectOf, write } from "../../src/cli/eml.ts"

const utf8 = new TextEncoder()
const subject = (message: string): string | undefined => subjectOf(utf8.encode(message.replaceAll("\n", "\r\n")))

describe("the name of an .eml file", () => {
  it("has the time, the number and chance", () => {
    assert.strictEqual(fileName(1_763_814_475_186, 7, 0.5), "20251122T122755.186Z-000007-800000.eml")
  })

  it("sorts by time, then by number", () => {
    const names = [fileName(999, 12, 0.9), fileName(1000, 2, 0.9), fileName(1000, 10, 0), fileName(1001, 1, 0)]
    assert.deepStrictEqual(names.toSorted(), names)
  })

  it("has six digits of chance, however small", () => {
    assert.match(fileName(0, 1, 0), /-000000\.eml$/)
    assert.match(fileName(0, 1, 1 - Number.EPSILON), /-ffffff\.eml$/)
  })
})

describe("writing an .eml file", () => {
  it.effect("leaves nothing but the file, whole", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const folder = yield* fs.makeTempDirectoryScoped()
      const path = yield* write(folder, "a.eml", utf8.encode("one\r\n"))
      assert.deepStrictEqual(yield* fs.readDirectory(folder), ["a.eml"])
      assert.strictEqual(yield* fs.readFileString(path), "one\r\n")
    }).pipe(Effect.scoped, Effect.provide([NodeFileSystem.layer, NodePath.layer])))

  it.effect("never shows under its name what is not whole, and removes what a failure left", () =>
    Effect.gen(function*() {
      const calls: Array<string> = []
      const fails = Effect.fail(
        systemError({ _tag: "PermissionDenied", module: "FileSystem", method: "rename", pathOrDescriptor: "x" })
      )
      const fs = FileSystem.layerNoop({
        writeFile: (path, _, options) => Effect.sync(() => void calls.push(`write ${path} ${options?.flag}`)),
        rename: (from, to) => Effect.andThen(Effect.sync(() => void calls.push(`rename ${from} ${to}`)), fails),
        remove: (path) => Effect.sync(() => void calls.push(`remove ${path}`))
      })
      const error = yield* Effect.flip(write("mail", "a.eml", utf8.encode("x"))).pipe(
        Effect.provide(Layer.merge(fs, NodePath.layer))
      )
      assert.strictEqual(error.reason._tag, "PermissionDenied")
      assert.deepStrictEqual(calls, [
        "write mail/.a.eml.tmp wx",
        "rename mail/.a.eml.tmp mail/a.eml",
        "remove mail/.a.eml.tmp"
      ])
    }))
})

describe("the subject of a message", () => {
  it("is that of the header, whatever the body says", () => {
    assert.strictEqual(subject("From: a\nSubject: Hi there \nTo: b\n\nSubject: no\n"), "Hi there")
    assert.strictEqual(subject("subject:first\nSUBJECT: second\n\n"), "first")
    assert.strictEqual(subject("X-Subject: no\n\nSubject: no\n"), undefined)
    assert.strictEqual(subject("\nSubject: no\n"), undefined)
    assert.strictEqual(subject(""), undefined)
    assert.strictEqual(subject("Subject:\n\n"), "")
  })

  it("is unfolded", () => {
    assert.strictEqual(subject("Subject: one\n two\n\tthree\nTo: x\n\n"), "one two\tthree")
  })

  it("has its encoded words decoded, the space between them left out", () => {
    assert.strictEqual(subject("Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe_an?= =?UTF-8?B?IEFubg==?= !\n\n"), "Grüße an Ann !")
    assert.strictEqual(subject("Subject: =?iso-8859-1*de?Q?=E4?=\n\n"), "ä")
  })

  it("keeps a word of an unknown charset, and text that is no word", () => {
    assert.strictEqual(subject("Subject: =?x-none?q?a?= =?utf-8?z?a?=\n\n"), "=?x-none?q?a?==?utf-8?z?a?=")
  })

  it("is read as UTF-8 where nothing is encoded", () => {
    assert.strictEqual(subject("Subject: Grüße\n\n"), "Grüße")
  })

  it("is looked for in the first 64 KiB alone", () => {
    assert.strictEqual(subject(`X: ${"x".repeat(65_536)}\nSubject: late\n\n`), undefined)
    assert.strictEqual(subject(`Subject: early\nX: ${"x".repeat(70_000)}\n\n`), "early")
  })

  it("is found in linear time", () => {
    const spaces = "=?utf-8?q?a?= \t".repeat(4000)
    assert.include(subject(`Subject: ${spaces}x\n\n`), "aaaa")
    assert.isDefined(subject(`Subject: ${"?=".padEnd(60_000, " ")}x\n\n`))
  })
})
