import { afterAll, assert, layer as testLayer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type { SmtpConnector } from "../../src/SmtpConnector.ts"
import { canonical, corpus, type Difference, type Differences, names, octetsOf } from "../support/contract/corpus.ts"
import * as fakes from "../support/contract/fakes.ts"
import { doesLack, fails, ready, sender, Subject } from "../support/contract/subject.ts"
import { describeServer, type ServerName } from "./servers/index.ts"
import * as subjects from "./subjects.ts"

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
            yield* subject.stored.check(to, wanted)
          }
          found.push(`| ${name} | ${message} | ${difference?.name ?? "as sent"} |`)
        }), 60_000)
    }
  })
}

const real = (
  server: ServerName,
  targets: Readonly<Record<string, subjects.Target>>,
  differences: Readonly<Record<string, Differences>>
): void =>
  describeServer(server, () => {
    for (const [name, known] of Object.entries(differences)) {
      const layer = targets[name]
      if (layer === undefined) throw new Error(`no subject is named ${name}`)
      truth(name, layer, known)
    }
  })

truth("the fake server in memory", fakes.memory("smtp"))
truth("the fake server on loopback", fakes.loopback("smtp"))
truth("the fake server on loopback, LMTP", fakes.loopback("lmtp"))
real("SmtpServerNpm", subjects.npms, { "smtp-server (npm)": {}, "smtp-server (npm), LMTP": {} })
real("SmtpSink", subjects.sinks, { "smtp-sink": {}, "smtp-sink, LMTP": {} })
real("Postfix", subjects.postfixes, { "Postfix, submission": {}, "Postfix, strict": {}, "Postfix, no PIPELINING": {} })
real("Dovecot", subjects.dovecots, { "Dovecot, submission": {}, "Dovecot, LMTP": {} })

afterAll(() => {
  const differing = found.filter((line) => !line.endsWith("as sent |"))
  const lines = ["| Server | Message | What it makes of it |", "| --- | --- | --- |", ...differing]
  process.stdout.write(
    `\n${found.length - differing.length} of ${found.length} stored as sent\n\n${lines.join("\n")}\n`
  )
})
