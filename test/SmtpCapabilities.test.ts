import { assert, describe, it } from "@effect/vitest"
import * as SmtpCapabilities from "../src/SmtpCapabilities.ts"
import * as SmtpReply from "../src/SmtpReply.ts"

/** What a server with these lines after the first offers. */
const offering = (...lines: ReadonlyArray<string>): SmtpCapabilities.SmtpCapabilities =>
  SmtpCapabilities.fromReply(SmtpReply.make(250, "mx.test Hello", ...lines))

/** Through the decoder, as it comes from the socket. */
const read = (text: string): SmtpCapabilities.SmtpCapabilities => {
  const replies: Array<SmtpReply.SmtpReply> = []
  const decoder = SmtpReply.makeDecoder()
  decoder.push(new TextEncoder().encode(text.replaceAll("\n", "\r\n")), (reply) => replies.push(reply))
  const [reply] = replies
  assert.isDefined(reply)
  return SmtpCapabilities.fromReply(reply ?? SmtpReply.make(250))
}

const flags = {
  startTls: "STARTTLS",
  pipelining: "PIPELINING",
  eightBitMime: "8BITMIME",
  smtpUtf8: "SMTPUTF8",
  dsn: "DSN",
  enhancedStatusCodes: "ENHANCEDSTATUSCODES",
  chunking: "CHUNKING",
  binaryMime: "BINARYMIME",
  requireTls: "REQUIRETLS",
  size: "SIZE"
} as const
const everyFlag = Object.keys(flags) as ReadonlyArray<keyof typeof flags>

const offered = (capabilities: SmtpCapabilities.SmtpCapabilities): ReadonlyArray<string> =>
  everyFlag.filter((flag) => capabilities[flag])

describe("what servers say", () => {
  it("Postfix", () => {
    const postfix = read(
      "250-mail.example.com\n250-PIPELINING\n250-SIZE 10240000\n250-VRFY\n250-ETRN\n250-STARTTLS\n" +
        "250-AUTH PLAIN LOGIN\n250-AUTH=PLAIN LOGIN\n250-ENHANCEDSTATUSCODES\n250-8BITMIME\n250-DSN\n250-SMTPUTF8\n250 CHUNKING\n"
    )
    assert.deepStrictEqual(offered(postfix), [
      "startTls",
      "pipelining",
      "eightBitMime",
      "smtpUtf8",
      "dsn",
      "enhancedStatusCodes",
      "chunking",
      "size"
    ])
    assert.deepStrictEqual([postfix.name, postfix.extended, postfix.sizeLimit], ["mail.example.com", true, 10_240_000])
    assert.deepStrictEqual(postfix.auth, ["PLAIN", "LOGIN"])
    assert.deepStrictEqual([...postfix.extensions.keys()].slice(0, 4), ["PIPELINING", "SIZE", "VRFY", "ETRN"])
  })

  it("Exim", () => {
    const exim = read(
      "250-mx.example.net Hello client.example.org [192.0.2.7]\n250-SIZE 52428800\n250-LIMITS MAILMAX=1000 RCPTMAX=50000\n" +
        "250-8BITMIME\n250-PIPELINING\n250-PIPECONNECT\n250-CHUNKING\n250-STARTTLS\n250-PRDR\n250 HELP\n"
    )
    assert.deepStrictEqual(offered(exim), ["startTls", "pipelining", "eightBitMime", "chunking", "size"])
    assert.deepStrictEqual([exim.name, exim.sizeLimit, exim.auth], ["mx.example.net", 52_428_800, []])
    assert.deepStrictEqual(exim.extensions.get("LIMITS"), ["MAILMAX=1000", "RCPTMAX=50000"])
    assert.deepStrictEqual(exim.extensions.get("HELP"), [])
  })

  it("Gmail", () => {
    const gmail = read(
      "250-smtp.gmail.com at your service, [192.0.2.7]\n250-SIZE 35882577\n250-8BITMIME\n" +
        "250-AUTH LOGIN PLAIN XOAUTH2 PLAIN-CLIENTTOKEN OAUTHBEARER XOAUTH\n250-ENHANCEDSTATUSCODES\n250-PIPELINING\n" +
        "250-CHUNKING\n250 SMTPUTF8\n"
    )
    assert.deepStrictEqual(gmail.auth, ["LOGIN", "PLAIN", "XOAUTH2", "PLAIN-CLIENTTOKEN", "OAUTHBEARER", "XOAUTH"])
    assert.deepStrictEqual([gmail.name, gmail.startTls, gmail.dsn, gmail.smtpUtf8], [
      "smtp.gmail.com",
      false,
      false,
      true
    ])
  })

  it("Exchange, old and new", () => {
    const old = read(
      "250-ex1.corp.example Hello [10.1.2.3]\n250-TURN\n250-SIZE\n250-ETRN\n250-PIPELINING\n250-DSN\n250-8bitmime\n" +
        "250-BINARYMIME\n250-CHUNKING\n250-VRFY\n250-X-EXPS GSSAPI NTLM LOGIN\n250-X-EXPS=LOGIN\n250-AUTH GSSAPI NTLM LOGIN\n" +
        "250-AUTH=LOGIN\n250-X-LINK2STATE\n250-XEXCH50\n250 OK\n"
    )
    assert.deepStrictEqual(old.auth, ["GSSAPI", "NTLM", "LOGIN"])
    assert.deepStrictEqual(offered(old), ["pipelining", "eightBitMime", "dsn", "chunking", "binaryMime", "size"])
    assert.isUndefined(old.sizeLimit)
    assert.deepStrictEqual(old.extensions.get("X-EXPS"), ["GSSAPI", "NTLM", "LOGIN"])
    const current = read(
      "250-EX01.corp.example Hello [10.1.2.3]\n250-SIZE 157286400\n250-PIPELINING\n250-DSN\n250-ENHANCEDSTATUSCODES\n" +
        "250-STARTTLS\n250-X-ANONYMOUSTLS\n250-AUTH NTLM LOGIN\n250-8BITMIME\n250-BINARYMIME\n250-CHUNKING\n250-SMTPUTF8\n250 XRDST\n"
    )
    assert.deepStrictEqual([current.sizeLimit, current.startTls, current.requireTls], [157_286_400, true, false])
  })

  it("Dovecot's LMTP", () => {
    const dovecot = read(
      "250-mail.example.com\n250-8BITMIME\n250-CHUNKING\n250-ENHANCEDSTATUSCODES\n250-PIPELINING\n250 XCLIENT ADDR PORT PROTO\n"
    )
    assert.deepStrictEqual(offered(dovecot), ["pipelining", "eightBitMime", "enhancedStatusCodes", "chunking"])
    assert.deepStrictEqual([dovecot.size, dovecot.sizeLimit, dovecot.auth], [false, undefined, []])
  })

  it("nothing but a greeting, not even that, and HELO", () => {
    const bare = SmtpCapabilities.fromReply(SmtpReply.make(250, "mx.test Hello"))
    assert.deepStrictEqual([bare.name, bare.extended, bare.extensions.size, offered(bare)], ["mx.test", true, 0, []])
    assert.strictEqual(SmtpCapabilities.fromReply(SmtpReply.make(250)).name, "")
    assert.strictEqual(SmtpCapabilities.fromReply(SmtpReply.make(250, "")).name, "")
    const helo = SmtpCapabilities.none(SmtpReply.make(250, "old.test pleased to meet you", "STARTTLS"))
    assert.deepStrictEqual([helo.name, helo.extended, helo.extensions.size, offered(helo), helo.auth, helo.sizeLimit], [
      "old.test",
      false,
      0,
      [],
      [],
      undefined
    ])
  })
})

describe("keywords", () => {
  it.each(everyFlag)("%s comes from its keyword alone, in any case, with or without parameters", (flag) => {
    const word = flags[flag]
    for (const line of [word, word.toLowerCase(), ` ${word}`, `${word} `, `${word} x y`]) {
      assert.deepStrictEqual(offered(offering(line)), [flag], line)
    }
    const lookalikes = [`X${word}`, `${word}X`, `X-${word}`, `${word}=x`, `${word}:`, `use ${word} please`, `"${word}"`]
    for (const line of lookalikes) assert.deepStrictEqual(offered(offering(line)), [], line)
  })

  it("are not read from the line that names the server, nor from prose", () => {
    const prose = SmtpCapabilities.fromReply(
      SmtpReply.make(250, "STARTTLS AUTH PLAIN", "we love STARTTLS", "see: AUTH PLAIN", "XSTARTTLS", "no-STARTTLS")
    )
    assert.deepStrictEqual([offered(prose), prose.auth], [[], []])
    assert.deepStrictEqual([...prose.extensions.keys()], ["WE", "XSTARTTLS", "NO-STARTTLS"])
  })

  it("that are none are passed over", () => {
    const odd = offering(
      "",
      " ",
      "-A",
      "ä",
      "A_B",
      "\u001b[2J",
      "STARTTLS\u0000",
      "STARTTLS\tx",
      "__proto__",
      "a\rb",
      "OK"
    )
    assert.deepStrictEqual([...odd.extensions.keys()], ["OK"])
    assert.deepStrictEqual(offering("constructor x").extensions.get("CONSTRUCTOR"), ["x"])
  })

  it("that come twice add up", () => {
    const twice = offering("X-A 1", "x-a 2 3", "X-A", "STARTTLS", "STARTTLS")
    assert.deepStrictEqual(twice.extensions.get("X-A"), ["1", "2", "3"])
    assert.isTrue(twice.startTls)
  })
})

describe("SIZE", () => {
  it.each([
    ["SIZE 1000", 1000],
    ["size 1", 1],
    ["SIZE  1000  2000", 1000],
    ["SIZE 0001000", 1000],
    ["SIZE 9007199254740991", 9_007_199_254_740_991],
    ["SIZE", undefined],
    ["SIZE 0", undefined],
    ["SIZE 00", undefined],
    ["SIZE -1", undefined],
    ["SIZE +1", undefined],
    ["SIZE 1e3", undefined],
    ["SIZE 0x10", undefined],
    ["SIZE 1.5", undefined],
    ["SIZE 10MB", undefined],
    ["SIZE unlimited", undefined],
    ["SIZE \u0661\u0662", undefined],
    ["SIZE 9007199254740992", undefined],
    ["SIZE 99999999999999999999", undefined],
    [`SIZE ${"9".repeat(400)}`, undefined]
  ])("%j is offered, with the limit %s", (line, limit) => {
    const { size, sizeLimit } = offering(line)
    assert.deepStrictEqual([size, sizeLimit], [true, limit])
  })

  it("takes the first of several", () => {
    assert.strictEqual(offering("SIZE 10", "SIZE 20").sizeLimit, 10)
    assert.strictEqual(offering("SIZE", "SIZE 20").sizeLimit, 20)
  })
})

describe("AUTH", () => {
  it.each([
    [["AUTH PLAIN LOGIN"], ["PLAIN", "LOGIN"]],
    [["auth plain Login"], ["PLAIN", "LOGIN"]],
    [["AUTH=PLAIN LOGIN"], ["PLAIN", "LOGIN"]],
    [["auth=login"], ["LOGIN"]],
    [["AUTH= PLAIN"], ["PLAIN"]],
    [["AUTH PLAIN plain PLAIN"], ["PLAIN"]],
    [["AUTH LOGIN", "AUTH=PLAIN LOGIN", "AUTH CRAM-MD5"], ["LOGIN", "PLAIN", "CRAM-MD5"]],
    [["AUTH"], []],
    [["AUTH="], []],
    [["XAUTH PLAIN", "AUTHX PLAIN", "AUTH:PLAIN", "PLAIN AUTH"], []]
  ])("%j offers %j", (lines, mechanisms) => {
    assert.deepStrictEqual(offering(...lines).auth, mechanisms)
  })
})

describe("the longest that the decoder lets through", () => {
  it("is read: one line of spaces, one line of words, and as many lines as there may be", () => {
    const spaces = offering(`AUTH${" ".repeat(SmtpReply.maxLineLength)}PLAIN`)
    assert.deepStrictEqual(spaces.auth, ["PLAIN"])
    const words = offering(`AUTH ${"A ".repeat(8000)}PLAIN`)
    assert.deepStrictEqual(words.auth, ["A", "PLAIN"])
    const lines = offering(
      ...Array.from({ length: SmtpReply.maxLines - 1 }, (_, index) => `AUTH M${index} ${"x ".repeat(55)}`)
    )
    assert.strictEqual(lines.auth.length, SmtpReply.maxLines)
    assert.strictEqual(lines.extensions.get("AUTH")?.length, 511 * 56)
  })
})
