/** Looks for a secret in a text, in whatever form something may have written it there. */
import { assert } from "@effect/vitest"
import { inspect } from "node:util"

const shortest = 4

const octetsOf = (secret: string): Buffer => {
  assert.isAtLeast(secret.length, shortest, "a secret so short stands in any text")
  return Buffer.from(secret)
}

/**
 * What base64 makes of the octets when `before` octets, of any value, stand in front of them: the characters that hold
 * nothing of what stands before or behind.
 */
const coreOf = (octets: Buffer, before: number): string =>
  Buffer.concat([Buffer.alloc(before), octets]).toString("base64")
    .slice(Math.ceil(before * 8 / 6), Math.floor((before + octets.length) * 8 / 6))

const base64FormsOf = (octets: Buffer): ReadonlyArray<string> =>
  [0, 1, 2].map((before) => coreOf(octets, before)).flatMap((core) => [
    core,
    core.replaceAll("+", "-").replaceAll("/", "_")
  ])

/** The forms of secrets to look for: each is found inside a longer text that was encoded as a whole, too. */
export const formsOf = (...secrets: ReadonlyArray<string>): ReadonlyArray<string> => [
  ...new Set(secrets.flatMap((secret) => {
    const octets = octetsOf(secret)
    const hex = octets.toString("hex")
    const percent = [encodeURIComponent(secret), hex.replaceAll(/../g, "%$&")]
    return [
      secret,
      octets.toString("latin1"),
      JSON.stringify(secret).slice(1, -1),
      inspect(secret).slice(1, -1),
      new URLSearchParams([["", secret]]).toString().slice(1),
      ...percent,
      ...percent.map((form) => form.replaceAll(/%../g, (one) => one.toUpperCase())),
      ...percent.map((form) => form.replaceAll(/%../g, (one) => one.toLowerCase())),
      hex,
      hex.toUpperCase(),
      [...octets].join(","),
      ...base64FormsOf(octets)
    ]
  }))
]

/** A text as it is, without its spaces and the keys of its octets, and as one word of base64. */
const looksAt = (text: string): ReadonlyArray<string> => {
  const unbroken = text.replaceAll(/\\[rn]/g, "")
  return [text, unbroken.replaceAll(/\s|"\d+":/g, ""), unbroken.replaceAll(/[^\w+/=-]/g, "")]
}

/** The forms of secrets that a text holds, also where a form is broken over lines, or an array of octets over columns. */
export const leaksIn = (text: string, ...secrets: ReadonlyArray<string>): ReadonlyArray<string> => {
  const looks = looksAt(text)
  return formsOf(...secrets).filter((form) => looks.some((look) => look.includes(form)))
}

/** Fails when a text holds a secret in any form. */
export const assertHidden = (text: string, ...secrets: ReadonlyArray<string>): void =>
  assert.deepStrictEqual(leaksIn(text, ...secrets), [], `secrets in: ${text.slice(0, 10_000)}`)
