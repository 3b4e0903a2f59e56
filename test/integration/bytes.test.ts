import { afterAll, assert, layer as testLayer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type { SmtpConnector } from "../../src/SmtpConnector.ts"
import {
  canonical,
  corpus,
  type Difference,
  type Differences,
  type Name,
  names,
  octetsOf
} from "../support/contract/corpus.ts"
import * as fakes from "../support/contract/fakes.ts"
import { doesLack, fails, ready, sender, type Service, Subject } from "../support/contract/subject.ts"
import { describeServer, type ServerName } from "./servers/index.ts"
import * as subjects from "./subjects.ts"

const found: Array<string> = []

/** What has to be stored, or the error; a difference that makes none is a mistake of the declaration. */
const expected = (text: string, difference: Difference | undefined) => {
  const whole = canonical(text)
  if (difference === undefined) return octetsOf(whole)
  if (typeof difference.stores !== "function") return difference.stores
  const stored = difference.stores(whole)
  assert.notStrictEqual(stored, whole, `${difference.name}: this makes no difference`)
  return octetsOf(stored)
}

const envelopeOf = (subject: Service, message: Name) =>
  message === "UTF-8 addresses and header fields"
    ? { from: "用户@client.test", to: subject.mailbox("jörg") }
    : { from: sender, to: subject.mailbox("bytes") }

/** Sends one message of the corpus and compares what the server stored, octet by octet. */
const compare = Effect.fnUntraced(function*(message: Name, difference: Difference | undefined) {
  const subject = yield* Subject
  if (doesLack(subject.stored)) return assert.fail(subject.stored.lacks)
  const connection = yield* ready(subject)
  const envelope = envelopeOf(subject, message)
  const send = connection.send(envelope, octetsOf(corpus[message]))
  const wanted = expected(corpus[message], difference)
  if (!(wanted instanceof Uint8Array)) return yield* fails(send, wanted)
  assert.strictEqual((yield* send).messageSize, canonical(corpus[message]).length)
  yield* subject.stored.check(envelope.to, wanted)
})

const truth = <E>(
  name: string,
  layer: Layer.Layer<Subject | SmtpConnector, E>,
  differences: Differences = {}
): void => {
  testLayer(layer, { excludeTestServices: true, timeout: "60 seconds" })(`bytes on ${name}`, (it) => {
    for (const message of names) {
      const difference = differences[message]
      it.effect(
        `${message}: ${difference?.name ?? "stored as sent, in canonical form"}`,
        () =>
          Effect.map(compare(message, difference), () => {
            found.push(`| ${name} | ${message} | ${difference?.name ?? "as sent"} |`)
          }),
        60_000
      )
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
const addressRefused: Differences = {
  "UTF-8 addresses and header fields": { name: "not offered: EENVELOPE before MAIL", stores: { tag: "EENVELOPE" } }
}

const emptyLineFirst: Difference = {
  name: "an empty line is put in front, since no header field begins the message",
  stores: (message) => `\r\n${message}`
}

const postfix: Differences = {
  "a dot first, without header fields": emptyLineFirst,
  "text first, without header fields": emptyLineFirst,
  "a space first": emptyLineFirst,
  "a header field of 120 kB": {
    name: "the field is cut at 102400 octets (header_size_limit)",
    stores: (message) => message.slice(0, 102_400) + message.slice(message.indexOf("\r\n"))
  },
  "a From line first": {
    name: "the mbox line becomes the field X-Mailbox-Line",
    stores: (message) => `X-Mailbox-Line: ${message}`
  }
}

const dovecot: Differences = {
  ...addressRefused,
  "a space first": { name: "the line becomes part of the Received field put in front", stores: () => "" }
}

real("SmtpServerNpm", subjects.npms, { "smtp-server (npm)": {}, "smtp-server (npm), LMTP": {} })
real("SmtpSink", subjects.sinks, { "smtp-sink": addressRefused, "smtp-sink, LMTP": addressRefused })
real("Postfix", subjects.postfixes, { "Postfix, submission": postfix, "Postfix, strict": postfix })
real("Dovecot", subjects.dovecots, { "Dovecot, submission": dovecot, "Dovecot, LMTP": dovecot })

afterAll(() => {
  const differing = found.filter((line) => !line.endsWith("as sent |"))
  const lines = ["| Server | Message | What it makes of it |", "| --- | --- | --- |", ...differing]
  process.stdout.write(
    `\n${found.length - differing.length} of ${found.length} stored as sent\n\n${lines.join("\n")}\n`
  )
})
