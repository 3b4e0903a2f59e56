import { afterAll, assert, describe, layer as testLayer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as SmtpConnection from "../../src/SmtpConnection.ts"
import type { SmtpConnector } from "../../src/SmtpConnector.ts"
import * as SmtpServer from "../../src/testing/SmtpServer.ts"
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
import {
  assertOctets,
  doesLack,
  fails,
  inMode,
  ready,
  sender,
  type Service,
  Subject
} from "../support/contract/subject.ts"
import { chunked, flights, inTurn, type Mode } from "../support/modes.ts"
import { describeServer, type ServerName } from "./servers/index.ts"
import * as subjects from "./subjects.ts"

const found: Array<string> = []

/** The messages that a server stores as others, by the way in which they come; undefined: it does not offer CHUNKING. */
interface Ways {
  readonly DATA: Differences
  readonly BDAT: Differences | undefined
}

const none: Ways = { DATA: {}, BDAT: {} }

/** Small messages by BDAT and large ones by DATA; all by DATA; all by BDAT. */
const modesOf = ({ BDAT }: Ways): ReadonlyArray<Mode> =>
  BDAT === undefined ? [flights, inTurn] : [flights, inTurn, chunked]

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
const compare = Effect.fnUntraced(function*(mode: Mode, message: Name, difference: Difference | undefined) {
  const subject = inMode(yield* Subject, mode)
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
  ways: Ways = none
): void => {
  testLayer(layer, { excludeTestServices: true, timeout: "60 seconds" })(`bytes on ${name}`, (it) => {
    describe.each(modesOf(ways))("$name", (mode) => {
      const { [mode.via]: differences = ways.DATA } = ways
      for (const message of names) {
        const difference = differences[message]
        it.effect(
          `${message}: ${difference?.name ?? "stored as sent, in canonical form"}`,
          () =>
            Effect.map(compare(mode, message, difference), () => {
              if (mode !== chunked) {
                found.push(`| ${name} | ${mode.via} | ${message} | ${difference?.name ?? "as sent"} |`)
              }
            }),
          60_000
        )
      }
    })
  })
}

const real = (
  server: ServerName,
  targets: Readonly<Record<string, subjects.Target>>,
  ways: Readonly<Record<string, Ways>>
): void =>
  describeServer(server, () => {
    for (const [name, known] of Object.entries(ways)) {
      const layer = targets[name]
      if (layer === undefined) throw new Error(`no subject is named ${name}`)
      truth(name, layer, known)
    }
  })

/** None of the servers offers BINARYMIME: this is the fake alone. */
testLayer(SmtpServer.layer({ extensions: { binaryMime: true } }))("bytes by BINARYMIME on the fake server", (it) => {
  it.effect.each(names)("%s: stored as sent, octet by octet", (message) =>
    Effect.gen(function*() {
      const server = yield* SmtpServer.SmtpServer
      const connection = yield* SmtpConnection.make({ host: "mx.test", name: "client.test" })
      const octets = octetsOf(corpus[message])
      yield* connection.send({ from: sender, to: "bytes@mx.test", binaryMime: true }, octets)
      const stored = (yield* server.received).at(-1)
      if (stored === undefined) return assert.fail("nothing was stored")
      assert.strictEqual(stored.via, "BDAT")
      assert.deepStrictEqual(stored.mailParameters.filter((word) => word.startsWith("BODY=")), ["BODY=BINARYMIME"])
      assertOctets(stored.body, octets)
    }))
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

const joinsReceived: Difference = {
  name: "the line becomes part of the Received field put in front",
  stores: () => ""
}

const postfixByBdat: Differences = {
  "a dot first, without header fields": emptyLineFirst,
  "text first, without header fields": emptyLineFirst,
  "a space first": joinsReceived,
  "a From line first": emptyLineFirst,
  "a header field of 120 kB": {
    name: "the field is cut at 102400 octets (header_size_limit)",
    stores: (message) => message.slice(0, 102_400) + message.slice(message.indexOf("\r\n"))
  }
}

/** What it looks for in the first line, it looks for after DATA alone. */
const postfix: Ways = {
  BDAT: postfixByBdat,
  DATA: {
    ...postfixByBdat,
    "a space first": emptyLineFirst,
    "a From line first": {
      name: "the mbox line becomes the field X-Mailbox-Line",
      stores: (message) => `X-Mailbox-Line: ${message}`
    }
  }
}

const dovecot: Differences = { ...addressRefused, "a space first": joinsReceived }
const byBoth = { DATA: dovecot, BDAT: dovecot }
const byData = (DATA: Differences): Ways => ({ DATA, BDAT: undefined })

real("SmtpServerNpm", subjects.npms, { "smtp-server (npm)": byData({}), "smtp-server (npm), LMTP": byData({}) })
real("SmtpSink", subjects.sinks, { "smtp-sink": byData(addressRefused), "smtp-sink, LMTP": byData(addressRefused) })
real("Postfix", subjects.postfixes, { "Postfix, submission": postfix, "Postfix, strict": postfix })
real("Dovecot", subjects.dovecots, { "Dovecot, submission": byBoth, "Dovecot, LMTP": byBoth })

afterAll(() => {
  const differing = found.filter((line) => !line.endsWith("as sent |"))
  const lines = ["| Server | By | Message | What it makes of it |", "| --- | --- | --- | --- |", ...differing]
  process.stdout.write(
    `\n${found.length - differing.length} of ${found.length} stored as sent\n\n${lines.join("\n")}\n`
  )
})
