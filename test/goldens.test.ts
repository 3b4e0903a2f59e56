import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { readdirSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import * as SmtpCapabilities from "../src/SmtpCapabilities.ts"
import { SmtpConnector } from "../src/SmtpConnector.ts"
import * as SmtpReply from "../src/SmtpReply.ts"
import { type Dialogue, type Fixture, parse, placeholder } from "./fixtures/dialogue.ts"
import { type Cut, cuts, make } from "./fixtures/replay.ts"
import { isScenario, run } from "./fixtures/scenarios.ts"
import { accounts } from "./integration/servers/model.ts"
import { leaksIn } from "./support/secrets.ts"

const textsOf = (folder: string) =>
  readdirSync(new URL(folder, import.meta.url)).toSorted()
    .map((name) => [name, readFileSync(fileURLToPath(new URL(folder + name, import.meta.url)), "utf8")] as const)
const parseAll = (texts: ReadonlyArray<readonly [string, string]>) =>
  texts.map(([, text]) => JSON.parse(text) as Fixture)

/** One command at a time. */
const texts = textsOf("fixtures/dialogues/")
const fixtures = parseAll(texts)

/** With the default options, where that is another dialogue, and by BDAT alone. */
const groupedTexts = textsOf("fixtures/flights/")
const grouped = parseAll(groupedTexts)
const allCuts = Object.keys(cuts) as Array<Cut>

/** "logins by PLAIN" and "send in clear" are scenarios with another setup. */
const scenarioOf = (name: string) => {
  const scenario = name.split(" ", 1)[0]!
  return isScenario(scenario) ? scenario : assert.fail(`no scenario is called ${scenario}`)
}

const goldenOf = (server: string, port: string, name: string, among = fixtures): Dialogue => {
  const fixture = among.find((one) => one.server.name === server && one.server.port === port)
  return fixture?.dialogues[name] ?? assert.fail(`no golden ${server} ${port} ${name}`)
}

const replay = Effect.fnUntraced(function*(name: string, dialogue: Dialogue, cut: Cut) {
  const { connector, difference } = make(dialogue, cut)
  const place = { host: "mx.test", port: 25, secret: placeholder }
  const outcome = yield* run(scenarioOf(name), dialogue.setup, place).pipe(
    Effect.provideService(SmtpConnector, connector)
  )
  return { difference: yield* difference, outcome }
})

const replays = ({ dialogues }: Fixture): void => {
  describe.each(Object.entries(dialogues))("%s", (name, dialogue) => {
    it.effect.each(allCuts)(
      "the client says the same and comes to the same outcome when answers come %s",
      (cut) =>
        Effect.gen(function*() {
          assert.deepStrictEqual(yield* replay(name, dialogue, cut), {
            difference: undefined,
            outcome: dialogue.outcome
          })
        })
    )
  })
}

describe("one command at a time", () => {
  describe.each(fixtures)("$server.name $server.version, port $server.port", replays)
})

describe("in groups", () => {
  describe.each(grouped)("$server.name $server.version, port $server.port", replays)
})

/** The flags of capabilities, in the order of their declaration. */
const flags = [
  "startTls",
  "pipelining",
  "eightBitMime",
  "smtpUtf8",
  "dsn",
  "enhancedStatusCodes",
  "chunking",
  "binaryMime",
  "requireTls",
  "size"
] as const

/** The replies to EHLO or LHLO of a dialogue, in the clear and then over TLS. */
const helloReplies = ({ lines }: Dialogue): ReadonlyArray<string> => {
  const acts = parse(lines)
  return acts.flatMap((act, index) => {
    const before = acts[index - 1]
    const isAnswer = act._tag === "Server" && before?._tag === "Client" && /^[EL]HLO /.test(before.octets)
    return isAnswer ? [act.octets] : []
  })
}

const decode = (chunks: ReadonlyArray<string>): ReadonlyArray<SmtpReply.SmtpReply> => {
  const decoder = SmtpReply.makeDecoder()
  const replies: Array<SmtpReply.SmtpReply> = []
  for (const chunk of chunks) {
    assert.isTrue(Result.isSuccess(decoder.push(Buffer.from(chunk, "latin1"), (reply) => replies.push(reply))))
  }
  assert.isFalse(decoder.isPartial())
  return replies
}

const postfixAuth =
  "PLAIN LOGIN CRAM-MD5 DIGEST-MD5 SCRAM-SHA-1 SCRAM-SHA-224 SCRAM-SHA-256 SCRAM-SHA-384 SCRAM-SHA-512"
const postfixKeywords = "PIPELINING SIZE VRFY ETRN ENHANCEDSTATUSCODES 8BITMIME DSN SMTPUTF8 CHUNKING"
const postfixFlags = "pipelining eightBitMime smtpUtf8 dsn enhancedStatusCodes chunking size"

interface Offer {
  readonly name: string
  readonly flags: string
  readonly keywords: string
  readonly auth: string
  readonly sizeLimit: number | undefined
}

/** What each kind of EHLO reply is read as: the server, its port, a dialogue, which of its replies. */
const offers: ReadonlyArray<readonly [string, string, string, 0 | 1, Offer]> = [
  ["Postfix", "smtp", "visit", 0, {
    name: "postfix.mx.test",
    flags: `startTls ${postfixFlags}`,
    keywords: "PIPELINING SIZE VRFY ETRN STARTTLS ENHANCEDSTATUSCODES 8BITMIME DSN SMTPUTF8 CHUNKING",
    auth: "",
    sizeLimit: 52_428_800
  }],
  ["Postfix", "smtp", "visit", 1, {
    name: "postfix.mx.test",
    flags: postfixFlags,
    keywords: postfixKeywords,
    auth: "",
    sizeLimit: 52_428_800
  }],
  ["Postfix", "smtps", "visit", 0, {
    name: "postfix.mx.test",
    flags: postfixFlags,
    keywords: "PIPELINING SIZE VRFY ETRN AUTH ENHANCEDSTATUSCODES 8BITMIME DSN SMTPUTF8 CHUNKING",
    auth: postfixAuth,
    sizeLimit: 52_428_800
  }],
  ["Postfix", "legacyAuth", "visit", 1, {
    name: "postfix.mx.test",
    flags: postfixFlags,
    keywords: "PIPELINING SIZE VRFY ETRN AUTH ENHANCEDSTATUSCODES 8BITMIME DSN SMTPUTF8 CHUNKING",
    auth: postfixAuth,
    sizeLimit: 52_428_800
  }],
  ["Postfix", "minimal", "visit", 0, {
    name: "postfix.mx.test",
    flags: "size",
    keywords: "SIZE",
    auth: "",
    sizeLimit: 52_428_800
  }],
  ["Postfix", "noPipelining", "visit", 1, {
    name: "postfix.mx.test",
    flags: "eightBitMime smtpUtf8 dsn enhancedStatusCodes size",
    keywords: "SIZE VRFY ETRN ENHANCEDSTATUSCODES 8BITMIME DSN SMTPUTF8",
    auth: "",
    sizeLimit: 52_428_800
  }],
  ["Postfix", "small", "visit", 1, {
    name: "postfix.mx.test",
    flags: postfixFlags,
    keywords: postfixKeywords,
    auth: "",
    sizeLimit: 100_000
  }],
  ["Dovecot", "submission", "send", 0, {
    name: "dovecot.mx.test",
    flags: "startTls pipelining eightBitMime enhancedStatusCodes chunking size",
    keywords: "8BITMIME AUTH BURL CHUNKING ENHANCEDSTATUSCODES SIZE STARTTLS PIPELINING",
    auth: "CRAM-MD5 DIGEST-MD5 SCRAM-SHA-1 SCRAM-SHA-256 EXTERNAL",
    sizeLimit: 52_428_800
  }],
  ["Dovecot", "submission", "send", 1, {
    name: "dovecot.mx.test",
    flags: "pipelining eightBitMime enhancedStatusCodes chunking size",
    keywords: "8BITMIME AUTH BURL CHUNKING ENHANCEDSTATUSCODES SIZE PIPELINING",
    auth: "PLAIN LOGIN CRAM-MD5 DIGEST-MD5 SCRAM-SHA-1 SCRAM-SHA-256 OAUTHBEARER XOAUTH2 EXTERNAL",
    sizeLimit: 52_428_800
  }],
  ["Dovecot", "lmtp", "visit", 0, {
    name: "dovecot.mx.test",
    flags: "startTls pipelining eightBitMime enhancedStatusCodes chunking",
    keywords: "8BITMIME CHUNKING ENHANCEDSTATUSCODES PIPELINING STARTTLS",
    auth: "",
    sizeLimit: undefined
  }],
  ["smtp-server", "smtp", "visit", 1, {
    name: "smtp-server.mx.test",
    flags: "pipelining eightBitMime smtpUtf8 size",
    keywords: "PIPELINING 8BITMIME SMTPUTF8 AUTH SIZE",
    auth: "PLAIN LOGIN CRAM-MD5 XOAUTH2",
    sizeLimit: 52_428_800
  }],
  // Its last line is empty.
  ["smtp-sink", "plain", "visit", 0, {
    name: "sink.mx.test",
    flags: "pipelining eightBitMime dsn enhancedStatusCodes",
    keywords: "PIPELINING 8BITMIME AUTH XCLIENT XFORWARD ENHANCEDSTATUSCODES DSN",
    auth: "PLAIN LOGIN",
    sizeLimit: undefined
  }],
  ["smtp-sink", "lmtp", "visit", 0, {
    name: "sink.mx.test",
    flags: "pipelining eightBitMime dsn enhancedStatusCodes",
    keywords: "PIPELINING 8BITMIME AUTH XCLIENT XFORWARD ENHANCEDSTATUSCODES DSN",
    auth: "PLAIN LOGIN",
    sizeLimit: undefined
  }]
]

describe("an EHLO reply", () => {
  const all = fixtures.flatMap(({ dialogues }) => Object.values(dialogues).flatMap(helloReplies))

  it("of every captured dialogue is one and the same reply, whatever split it comes in", () => {
    assert.isAbove(all.length, 80)
    for (const octets of new Set(all)) {
      const whole = decode([octets])
      assert.lengthOf(whole, 1)
      for (const cut of Object.values(cuts)) assert.deepStrictEqual(decode(cut(octets)), whole)
      for (let at = 1; at < octets.length; at++) {
        assert.deepStrictEqual(decode([octets.slice(0, at), octets.slice(at)]), whole)
      }
    }
  })

  it.each(offers)("of %s, port %s (%s, %s) is read as what it offers", (server, port, dialogue, which, offer) => {
    const octets = helloReplies(goldenOf(server, port, dialogue))[which]
    const [reply] = decode([octets ?? assert.fail("there is no such reply")])
    const read = SmtpCapabilities.fromReply(reply ?? assert.fail("it is no reply"))
    assert.deepStrictEqual({
      name: read.name,
      flags: flags.filter((flag) => read[flag]).join(" "),
      keywords: [...read.extensions.keys()].join(" "),
      auth: read.auth.join(" "),
      sizeLimit: read.sizeLimit
    }, offer)
    assert.isTrue(read.extended)
  })

  it("keeps the parameters as the server wrote them", () => {
    const [octets] = helloReplies(goldenOf("smtp-sink", "plain", "visit"))
    const [reply] = decode([octets!])
    assert.deepStrictEqual([...SmtpCapabilities.fromReply(reply!).extensions], [
      ["PIPELINING", []],
      ["8BITMIME", []],
      ["AUTH", ["PLAIN", "LOGIN"]],
      ["XCLIENT", ["NAME", "HELO"]],
      ["XFORWARD", ["NAME", "ADDR", "PROTO", "HELO"]],
      ["ENHANCEDSTATUSCODES", []],
      ["DSN", []]
    ])
  })
})

describe("the goldens", () => {
  const servers = [...new Set(fixtures.map(({ server }) => server.name))]

  it("are of all four servers", () => {
    assert.deepStrictEqual(servers, ["Dovecot", "Postfix", "smtp-server", "smtp-sink"])
  })

  it("hold no password, neither in the clear nor encoded", () => {
    for (const [file, text] of [...texts, ...groupedTexts]) {
      const lines = Object.values((JSON.parse(text) as Fixture).dialogues).flatMap((dialogue) => dialogue.lines)
      const decoded = lines.flatMap((line) => line.trim().split(" ")).map((word) => Buffer.from(word, "base64"))
      for (const { password } of accounts) {
        assert.deepStrictEqual(leaksIn(lines.join("\n"), password), [], file)
        assert.isFalse(decoded.some((octets) => octets.includes(password)), file)
      }
    }
  })

  it("hold no chunk for a server that refused MAIL with 530", () => {
    const refusing = grouped.flatMap(({ dialogues }) => Object.values(dialogues)).filter(({ lines }) =>
      lines.some((line) => line.startsWith("S: 530"))
    )
    assert.isAtLeast(refusing.length, 4)
    for (const { lines } of refusing) assert.isFalse(lines.some((line) => line.startsWith("C: BDAT")))
  })

  const golden = goldenOf("smtp-server", "submission", "logins by PLAIN")
  const alter = (line: number, text: string) => ({ ...golden, lines: golden.lines.with(line, text) })
  const lineOf = (start: string) => golden.lines.findIndex((line) => line.startsWith(start))

  it.effect("tell of a client that says something else", () =>
    Effect.gen(function*() {
      const other = alter(lineOf("C: MAIL"), "C: MAIL FROM:<other@client.test>\r\n")
      const { difference } = yield* replay("logins by PLAIN", other, "whole")
      assert.include(difference, "expected \"MAIL FROM:<other@client.test>")
      assert.include(difference, "the client said \"MAIL FROM:<sender@client.test>")
    }))

  it.effect("tell of a client that counts another octet, and of one that does not wait", () =>
    Effect.gen(function*() {
      const flight = goldenOf("Postfix", "smtp", "send", grouped)
      const at = flight.lines.findIndex((line) => line.startsWith("C: BDAT 47 LAST"))
      const counted = { ...flight, lines: flight.lines.with(at, "C: BDAT 46 LAST\r\n") }
      assert.include((yield* replay("send", counted, "whole")).difference, "expected \"MAIL FROM:<sender@client.test>")
      const mail = flight.lines.findIndex((line) => line.startsWith("C: MAIL"))
      const reply = flight.lines.findIndex((line) => line.startsWith("S: 250 2.1.0"))
      const without = flight.lines.toSpliced(reply, 1)
      const waiting = { ...flight, lines: without.toSpliced(mail + 1, 0, flight.lines[reply]!) }
      assert.include((yield* replay("send", waiting, "byte by byte")).difference, "did not wait for an answer: \"RCPT")
    }))

  it.effect("tell of a client that says more, and of one that stops too soon", () =>
    Effect.gen(function*() {
      const shorter = { ...golden, lines: golden.lines.slice(0, lineOf("C: QUIT")) }
      const more = yield* replay("logins by PLAIN", { ...shorter, lines: [...shorter.lines, "* closed"] }, "whole")
      assert.include(more.difference, "the client went on: \"QUIT")
      const longer = { ...golden, lines: [...golden.lines, "C: NOOP\r\n"] }
      const less = yield* replay("logins by PLAIN", longer, "whole")
      assert.include(less.difference, "not played: ")
    }))

  it.effect("come to another outcome when the server says something else", () =>
    Effect.gen(function*() {
      const refused = alter(lineOf("S: 354"), "S: 451 4.3.0 not now\r\n")
      const { outcome } = yield* replay("logins by PLAIN", { ...refused, lines: refused.lines }, "line by line")
      assert.notDeepEqual(outcome, golden.outcome)
    }))
})
