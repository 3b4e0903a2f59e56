import { afterAll, assert, layer as testLayer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type { SmtpConnector } from "../../src/SmtpConnector.ts"
import { canonical, corpus, type Difference, type Differences, names, octetsOf } from "../support/contract/corpus.ts"
import * as fakes from "../support/contract/fakes.ts"
import { assertOctets, doesLack, fails, ready, sender, Subject } from "../support/contract/subject.ts"

const found: Array<string> = []

/** What has to be stored, or the code of the refusal; a difference that makes none is a mistake of the declaration. */
const expected = (text: string, difference: Difference | undefined): Uint8Array | number => {
  const whole = canonical(text)
  if (difference === undefined) return octetsOf(whole)
  if (typeof difference.stores !== "function") return difference.stores.code
  const stored = difference.stores(whole)
  assert.notStrictEqual(stored, whole, `${difference.name}: this makes no difference`)
  return octetsOf(stored)
}

/** Sends each message of the corpus and compares what the server stored, octet by octet. */
const truth = <E>(
  name: string,
  layer: Layer.Layer<Subject | SmtpConnector, E>,
  differences: Differences = {}
): void => {
  testLayer(layer, { excludeTestServices: true, timeout: "60 seconds" })(`bytes on ${name}`, (it) => {
    for (const message of names) {
      const difference = differences[message]
      const title = `${message}: ${difference?.name ?? "stored as sent, in canonical form"}`
      it.effect(title, () =>
        Effect.gen(function*() {
          const subject = yield* Subject
          if (doesLack(subject.stored)) return assert.fail(subject.stored.lacks)
          const connection = yield* ready(subject)
          const to = subject.mailbox("bytes")
          const send = connection.send({ from: sender, to }, octetsOf(corpus[message]))
          const wanted = expected(corpus[message], difference)
          if (typeof wanted === "number") {
            yield* fails(send, { tag: "EMESSAGE", code: wanted })
          } else {
            assert.strictEqual((yield* send).messageSize, canonical(corpus[message]).length)
            assertOctets(yield* subject.stored.read(to), wanted)
          }
          found.push(`| ${name} | ${message} | ${difference?.name ?? "as sent"} |`)
        }), 60_000)
    }
  })
}

truth("the fake server in memory", fakes.memory("smtp"))
truth("the fake server on loopback", fakes.loopback("smtp"))
truth("the fake server on loopback, LMTP", fakes.loopback("lmtp"))

afterAll(() => {
  const differing = found.filter((line) => !line.endsWith("as sent |"))
  const lines = ["| Server | Message | What it makes of it |", "| --- | --- | --- |", ...differing]
  process.stdout.write(
    `\n${found.length - differing.length} of ${found.length} stored as sent\n\n${lines.join("\n")}\n`
  )
})
