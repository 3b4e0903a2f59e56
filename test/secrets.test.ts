import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import { inspect } from "node:util"
import { assertHidden, formsOf, leaksIn } from "./support/secrets.ts"

const secret = "canary-Sup3r~secret/x?>\"ü\u0001"
const octets = Buffer.from(secret)
const wrapped = (text: string, end: string) => text.replaceAll(/.{7}/g, `$&${end}`)

describe("a secret is found", () => {
  /** By what stands before it, 0 to 5 octets, and behind it. */
  const surrounded = Array.from(
    { length: 6 },
    (_, before) =>
      ["", "y", "yy", "yyy"].map((behind) => Buffer.concat([Buffer.alloc(before, "\0a,"), octets, Buffer.from(behind)]))
  ).flat()

  const writings: Readonly<Record<string, (bytes: Buffer) => string>> = {
    "in clear": (bytes) => bytes.toString(),
    "as octets read one by one": (bytes) => bytes.toString("latin1"),
    "in base64": (bytes) => bytes.toString("base64"),
    "in base64url": (bytes) => bytes.toString("base64url"),
    "in base64 of many lines": (bytes) => wrapped(bytes.toString("base64"), "\r\n "),
    "in base64 of many lines, inspected": (bytes) => inspect(wrapped(bytes.toString("base64"), "\r\n")),
    "in base64 that goes on in another string": (bytes) =>
      inspect(wrapped(bytes.toString("base64"), "\n").split("\n"), { compact: false }),
    "in hex": (bytes) => bytes.toString("hex"),
    "in capital hex": (bytes) => bytes.toString("hex").toUpperCase(),
    "percent-encoded": (bytes) => encodeURIComponent(bytes.toString()),
    "percent-encoded in small letters": (bytes) =>
      encodeURIComponent(bytes.toString()).replaceAll(/%../g, (one) => one.toLowerCase()),
    "percent-encoded, octet by octet": (bytes) => bytes.toString("hex").replaceAll(/../g, "%$&"),
    "as a field of a form": (bytes) => new URLSearchParams({ token: bytes.toString() }).toString(),
    "in JSON": (bytes) => JSON.stringify({ secret: bytes.toString() }),
    "inspected": (bytes) => inspect([bytes.toString()], { maxStringLength: null }),
    "as a Buffer in JSON": (bytes) => JSON.stringify(bytes),
    "as an array of octets in JSON": (bytes) => JSON.stringify(new Uint8Array(bytes)),
    "as a Buffer, inspected": (bytes) => inspect(bytes),
    "as an array of octets, inspected": (bytes) => inspect({ response: new Uint8Array(bytes) })
  }
  for (const [name, write] of Object.entries(writings)) {
    it(`${name}, whatever stands around it`, () => {
      for (const bytes of surrounded) {
        const text = `535 5.7.8 what is ${write(bytes)}, please`
        assert.isNotEmpty(leaksIn(text, "another secret", secret), text)
        assert.throws(() => assertHidden(text, secret), "secrets in")
      }
    })
  }

  it.prop(
    "inside any octets that were encoded at once",
    [Schema.Uint8Array, Schema.Uint8Array],
    ([before, behind]) => {
      const bytes = Buffer.concat([before, octets, behind])
      for (const encoding of ["base64", "base64url", "hex"] as const) {
        assert.isNotEmpty(leaksIn(bytes.toString(encoding), secret))
      }
    }
  )
})

describe("the forms of a secret", () => {
  it("hold nothing of what stands around it, and nearly all of it", () => {
    assert.includeMembers([...formsOf("canary")], ["canary", "Y2FuYXJ5", "NhbmFye", "jYW5hcn", "63616e617279"])
  })

  it("are not in a text that has only a part of it", () => {
    assert.deepStrictEqual(leaksIn(`canar ${btoa("canar")} ${btoa("anary")} ${btoa("xcanar!")} anary`, "canary"), [])
    assertHidden("", "canary")
  })

  it("are those of a secret that is long enough to be told from other words", () => {
    assert.throws(() => formsOf("pw"), "so short")
  })
})
