import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type { OriginalRecipient } from "../src/Envelope.ts"
import * as SmtpCommand from "../src/SmtpCommand.ts"

type Command = SmtpCommand.SmtpCommand

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })
const secret = (text: string) => Redacted.make(new TextEncoder().encode(text))
const octets = (length: number) => Redacted.make(new Uint8Array(length))

const line = (command: Command): string => {
  const text = decoder.decode(Result.getOrThrow(SmtpCommand.encode(command)))
  assert.isTrue(text.endsWith("\r\n"))
  return text.slice(0, -2)
}

/** Takes what a caller in JavaScript may give. */
const refusal = (command: unknown): SmtpCommand.EncodeError => {
  const result = SmtpCommand.encode(command as Command)
  assert.isTrue(Result.isFailure(result), "it should have been refused")
  const error = Result.getOrThrow(Result.flip(result))
  assert.strictEqual(error._tag, "EncodeError")
  return error
}

const mail = (parameters: SmtpCommand.MailParameters, from = "a@x"): Command => ({ _tag: "Mail", from, parameters })
const rcpt = (parameters: SmtpCommand.RcptParameters, to = "b@y"): Command => ({ _tag: "Rcpt", to, parameters })

describe("encode", () => {
  it.each<[string, Command]>([
    ["EHLO client.example.com", { _tag: "Ehlo", name: "client.example.com" }],
    ["EHLO my_host", { _tag: "Ehlo", name: "my_host" }],
    ["EHLO [192.0.2.1]", { _tag: "Ehlo", name: "[192.0.2.1]" }],
    ["HELO [IPv6:::1]", { _tag: "Helo", name: "[ipv6:::1]" }],
    ["LHLO 123", { _tag: "Lhlo", name: "123" }],
    ["STARTTLS", { _tag: "StartTls" }],
    ["AUTH SCRAM-SHA-256-PLUS", { _tag: "Auth", mechanism: "SCRAM-SHA-256-PLUS" }],
    ["AUTH PLAIN AGFubgBwdw==", { _tag: "Auth", mechanism: "PLAIN", initialResponse: secret("\0ann\0pw") }],
    ["AUTH EXTERNAL =", { _tag: "Auth", mechanism: "EXTERNAL", initialResponse: secret("") }],
    ["YW5u", { _tag: "AuthResponse", response: secret("ann") }],
    ["", { _tag: "AuthResponse", response: secret("") }],
    ["*", { _tag: "AuthCancel" }],
    ["MAIL FROM:<>", mail({}, "")],
    ["MAIL FROM:<ann@example.com>", mail({}, "ann@example.com")],
    ["MAIL FROM:<a@xn--9ca.example>", mail({}, "a@é.example")],
    ["MAIL FROM:<\"a >b\"@example.com>", mail({}, "\"a >b\"@example.com")],
    ["MAIL FROM:<é@example.com> SMTPUTF8", mail({ smtpUtf8: true }, "é@example.com")],
    ["MAIL FROM:<a@x> SIZE=0", mail({ size: -0 })],
    ["MAIL FROM:<a@x> SIZE=9007199254740991", mail({ size: Number.MAX_SAFE_INTEGER })],
    ["MAIL FROM:<a@x>", mail({ smtpUtf8: false, requireTls: false, size: undefined })],
    ["MAIL FROM:<a@x> AUTH=<>", mail({ auth: "<>" })],
    ["MAIL FROM:<a@x> AUTH=e+3Dmc2@example.com", mail({ auth: "e=mc2@example.com" })],
    [
      "MAIL FROM:<a@x> SIZE=10 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=QQ314159 REQUIRETLS AUTH=a@x",
      mail({
        auth: "a@x",
        requireTls: true,
        envid: "QQ314159",
        ret: "HDRS",
        smtpUtf8: true,
        body: "8BITMIME",
        size: 10
      })
    ],
    ["RCPT TO:<Postmaster>", rcpt({}, "Postmaster")],
    ["RCPT TO:<é@y>", rcpt({ smtpUtf8: true }, "é@y")],
    ["RCPT TO:<b@y> NOTIFY=NEVER", rcpt({ notify: ["NEVER"] })],
    [
      "RCPT TO:<b@y> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;Bob@Example.COM",
      rcpt({ notify: ["SUCCESS", "FAILURE", "DELAY"], orcpt: { type: "rfc822", address: "Bob@Example.COM" } })
    ],
    ["DATA", { _tag: "Data" }],
    ["BDAT 86", { _tag: "Bdat", size: 86, last: false }],
    ["BDAT 0 LAST", { _tag: "Bdat", size: 0, last: true }],
    ["RSET", { _tag: "Rset" }],
    ["NOOP", { _tag: "Noop" }],
    ["NOOP still here", { _tag: "Noop", text: "still here" }],
    ["VRFY Crispin", { _tag: "Vrfy", text: "Crispin" }],
    ["EXPN Example-People", { _tag: "Expn", text: "Example-People" }],
    ["HELP", { _tag: "Help" }],
    ["HELP MAIL", { _tag: "Help", text: "MAIL" }],
    ["QUIT", { _tag: "Quit" }]
  ])("%s", (expected, command) => {
    assert.strictEqual(line(command), expected)
    assert.strictEqual(line(command), expected)
  })

  const text = { toString: () => "x" }
  const number = { valueOf: () => 1, toString: () => "1" }
  it.each<[string, unknown]>([
    ["_tag", { _tag: "Raw", text: "XCMD" }],
    ["_tag", { _tag: "toString" }],
    ["_tag", {}],
    ["name", { _tag: "Ehlo", name: "" }],
    ["name", { _tag: "Ehlo", name: "a b" }],
    ["name", { _tag: "Ehlo", name: "a\r\nRSET" }],
    ["name", { _tag: "Ehlo", name: "ann@example.com" }],
    ["name", { _tag: "Ehlo", name: "bücher.example" }],
    ["name", { _tag: "Ehlo", name: "\u212a.example" }],
    ["name", { _tag: "Ehlo", name: "::1" }],
    ["name", { _tag: "Ehlo", name: "[::1]" }],
    ["name", { _tag: "Ehlo", name: "[192.0.2.1" }],
    ["name", { _tag: "Ehlo", name: "example.com." }],
    ["name", { _tag: "Ehlo", name: `${"a.".repeat(127)}ab` }],
    ["name", { _tag: "Helo", name: text }],
    ["name", { _tag: "Lhlo" }],
    ["mechanism", { _tag: "Auth", mechanism: "" }],
    ["mechanism", { _tag: "Auth", mechanism: "plain" }],
    ["mechanism", { _tag: "Auth", mechanism: "PLAIN =" }],
    ["mechanism", { _tag: "Auth", mechanism: "A".repeat(21) }],
    ["mechanism", { _tag: "Auth", mechanism: text }],
    ["initialResponse", { _tag: "Auth", mechanism: "PLAIN", initialResponse: "AGFubgBwdw==" }],
    ["initialResponse", { _tag: "Auth", mechanism: "PLAIN", initialResponse: new Uint8Array(1) }],
    ["initialResponse", { _tag: "Auth", mechanism: "PLAIN", initialResponse: Redacted.make("pw") }],
    ["response", { _tag: "AuthResponse" }],
    ["from", { _tag: "Mail", from: "ann", parameters: {} }],
    ["from", { _tag: "Mail", from: "<a@x>", parameters: {} }],
    ["from", { _tag: "Mail", from: "<>", parameters: {} }],
    ["from", { _tag: "Mail", from: "a@x> SIZE=1", parameters: {} }],
    ["from", { _tag: "Mail", from: "a@x>\r\nRCPT TO:<b@y", parameters: {} }],
    ["from", { _tag: "Mail", from: "Postmaster", parameters: {} }],
    ["from", { _tag: "Mail", from: "é@x", parameters: { smtpUtf8: false } }],
    ["from", { _tag: "Mail", from: text, parameters: {} }],
    ["parameters", { _tag: "Mail", from: "a@x" }],
    ["parameters", { _tag: "Mail", from: "a@x", parameters: null }],
    ["parameters.size", mail({ size: NaN })],
    ["parameters.size", mail({ size: Infinity })],
    ["parameters.size", mail({ size: 1.5 })],
    ["parameters.size", mail({ size: -1 })],
    ["parameters.size", mail({ size: 2 ** 53 })],
    ["parameters.size", { _tag: "Mail", from: "a@x", parameters: { size: 1n } }],
    ["parameters.size", { _tag: "Mail", from: "a@x", parameters: { size: "1 BODY=8BITMIME" } }],
    ["parameters.size", { _tag: "Mail", from: "a@x", parameters: { size: number } }],
    ["parameters.size", { _tag: "Mail", from: "a@x", parameters: { size: null } }],
    ["parameters.body", { _tag: "Mail", from: "a@x", parameters: { body: "8bitmime" } }],
    ["parameters.body", { _tag: "Mail", from: "a@x", parameters: { body: { toString: () => "7BIT" } } }],
    ["parameters.smtpUtf8", { _tag: "Mail", from: "a@x", parameters: { smtpUtf8: "true" } }],
    ["parameters.ret", { _tag: "Mail", from: "a@x", parameters: { ret: "FULL ENVID=x" } }],
    ["parameters.envid", mail({ envid: "" })],
    ["parameters.envid", mail({ envid: "a\nb" })],
    ["parameters.envid", mail({ envid: "é" })],
    ["parameters.envid", mail({ envid: "a".repeat(101) })],
    ["parameters.envid", mail({ envid: " ".repeat(34) })],
    ["parameters.envid", { _tag: "Mail", from: "a@x", parameters: { envid: text } }],
    ["parameters.requireTls", { _tag: "Mail", from: "a@x", parameters: { requireTls: 1 } }],
    ["parameters.auth", mail({ auth: "" })],
    ["parameters.auth", mail({ auth: "a@x BODY=7BIT" })],
    ["parameters.auth", mail({ auth: "é@x", smtpUtf8: true })],
    ["parameters.auth", { _tag: "Mail", from: "a@x", parameters: { auth: text } }],
    ["to", rcpt({}, "")],
    ["to", rcpt({}, "é@y")],
    ["to", rcpt({}, "b@y> NOTIFY=NEVER")],
    ["to", { _tag: "Rcpt", to: ["b@y"], parameters: {} }],
    ["parameters", { _tag: "Rcpt", to: "b@y", parameters: "NOTIFY=NEVER" }],
    ["parameters.notify", rcpt({ notify: [] })],
    ["parameters.notify", rcpt({ notify: ["NEVER", "DELAY"] })],
    ["parameters.notify", rcpt({ notify: ["DELAY", "DELAY"] })],
    ["parameters.notify", { _tag: "Rcpt", to: "b@y", parameters: { notify: "NEVER" } }],
    ["parameters.notify", { _tag: "Rcpt", to: "b@y", parameters: { notify: ["success"] } }],
    ["parameters.notify", { _tag: "Rcpt", to: "b@y", parameters: { notify: [text] } }],
    ["parameters.notify", { _tag: "Rcpt", to: "b@y", parameters: { notify: Array(1) } }],
    ["parameters.orcpt", { _tag: "Rcpt", to: "b@y", parameters: { orcpt: "rfc822;b@y" } }],
    ["parameters.orcpt", { _tag: "Rcpt", to: "b@y", parameters: { orcpt: null } }],
    ["parameters.orcpt", { _tag: "Rcpt", to: "b@y", parameters: { orcpt: { type: text, address: "b@y" } } }],
    ["parameters.orcpt", { _tag: "Rcpt", to: "b@y", parameters: { orcpt: { type: "rfc822", address: text } } }],
    ["parameters.orcpt", rcpt({ orcpt: { type: "", address: "b@y" } })],
    ["parameters.orcpt", rcpt({ orcpt: { type: "rfc822 x", address: "b@y" } })],
    ["parameters.orcpt", rcpt({ orcpt: { type: "rfc822", address: "" } })],
    ["parameters.orcpt", rcpt({ orcpt: { type: "rfc822", address: "é@y" } })],
    ["parameters.orcpt", rcpt({ orcpt: { type: "utf-8", address: "é\n@y" }, smtpUtf8: true })],
    ["parameters.orcpt", rcpt({ orcpt: { type: "rfc822", address: "a".repeat(494) } })],
    ["parameters.orcpt", rcpt({ orcpt: { type: "rfc822", address: "=".repeat(165) } })],
    ["parameters.orcpt", rcpt({ orcpt: { type: "utf-8", address: "é".repeat(83) }, smtpUtf8: true })],
    ["parameters.smtpUtf8", { _tag: "Rcpt", to: "b@y", parameters: { smtpUtf8: "" } }],
    ["size", { _tag: "Bdat", size: -1, last: false }],
    ["size", { _tag: "Bdat", size: NaN, last: false }],
    ["size", { _tag: "Bdat", size: "86 LAST", last: false }],
    ["last", { _tag: "Bdat", size: 1, last: "LAST" }],
    ["last", { _tag: "Bdat", size: 1 }],
    ["text", { _tag: "Noop", text: "" }],
    ["text", { _tag: "Noop", text: "a\tb" }],
    ["text", { _tag: "Help", text }],
    ["text", { _tag: "Vrfy", text: "é" }],
    ["text", { _tag: "Vrfy" }],
    ["text", { _tag: "Expn", text: "a\rb" }]
  ])("%s is named when it is at fault (%#)", (field, command) => {
    assert.strictEqual(refusal(command).field, field)
  })

  it("a wiped secret is refused, without a throw", () => {
    const response = secret("pw")
    Redacted.wipeUnsafe(response)
    assert.strictEqual(refusal({ _tag: "AuthResponse", response }).field, "response")
  })

  it("an ordinary line is at most 512 octets long, a line of an AUTH exchange 12288", () => {
    const size = (command: Command) => Result.getOrThrow(SmtpCommand.encode(command)).length
    assert.strictEqual(size({ _tag: "Vrfy", text: "a".repeat(505) }), SmtpCommand.maxLineLength)
    assert.deepStrictEqual(refusal({ _tag: "Vrfy", text: "a".repeat(506) }), {
      _tag: "EncodeError",
      field: "command",
      detail: "has 513 octets; 512 are allowed"
    })
    assert.strictEqual(size({ _tag: "AuthResponse", response: octets(9213) }), SmtpCommand.maxAuthLineLength - 2)
    assert.strictEqual(refusal({ _tag: "AuthResponse", response: octets(9214) }).field, "command")
    assert.strictEqual(size({ _tag: "Auth", mechanism: "A".repeat(9), initialResponse: octets(9201) }), 12_285)
    assert.strictEqual(refusal({ _tag: "Auth", mechanism: "PLAIN", initialResponse: octets(9213) }).field, "command")
  })

  it("the longest MAIL and RCPT that have a meaning fit", () => {
    const label = "d".repeat(63)
    const longest = `${"l".repeat(62)}@${label}.${label}.${label}`
    const most = mail({
      size: Number.MAX_SAFE_INTEGER,
      body: "BINARYMIME",
      smtpUtf8: true,
      ret: "FULL",
      envid: "e".repeat(100),
      requireTls: true,
      auth: longest.replaceAll("l", "+")
    }, longest)
    assert.isAbove(line(most).length, 800)
    const orcpt = { type: "utf-8", address: `${"é".repeat(82)}aa` }
    assert.include(line(rcpt({ notify: ["SUCCESS", "FAILURE", "DELAY"], orcpt }, longest)), "\\x{E9}aa")
  })
})

describe("xtext", () => {
  const orcpt = (original: OriginalRecipient, smtpUtf8 = false) =>
    line(rcpt({ orcpt: original, smtpUtf8 })).slice("RCPT TO:<b@y> ORCPT=".length)

  it("all of printable ASCII but plus, equals sign and space goes out as it is (RFC 3461 §4)", () => {
    const printable = Array.from({ length: 95 }, (_, index) => String.fromCharCode(0x20 + index)).join("")
    const encoded = printable.replace(" ", "+20").replace("+,", "+2B,").replace("=", "+3D")
    assert.strictEqual(orcpt({ type: "x", address: printable }), `x;${encoded}`)
    assert.strictEqual(
      line(mail({ envid: printable.slice(0, 48) })),
      `MAIL FROM:<a@x> ENVID=${encoded.slice(0, 54)}`
    )
  })

  it.each([
    ["rfc822", "Carol@Ivory.EDU", "rfc822;Carol@Ivory.EDU"],
    ["rfc822", "George+tag@Tax-ME.GOV", "rfc822;George+2Btag@Tax-ME.GOV"],
    ["rfc822", "\"a =b\"@example.com", "rfc822;\"a+20+3Db\"@example.com"],
    ["utf-8", "é+a b=c\\@example.com", "utf-8;\\x{E9}\\x{2B}a\\x{20}b\\x{3D}c\\x{5C}@example.com"],
    ["UTF-8", "用户@例え.テスト", "UTF-8;\\x{7528}\\x{6237}@\\x{4F8B}\\x{3048}.\\x{30C6}\\x{30B9}\\x{30C8}"],
    ["utf-8", "\u{1f4e7}\u{10ffff}@x", "utf-8;\\x{1F4E7}\\x{10FFFF}@x"]
  ])("the address type %s and %s are sent in 7 bits without SMTPUTF8", (type, address, expected) => {
    assert.strictEqual(orcpt({ type, address }), expected)
  })

  it.each([
    ["rfc822", "a+b@x", "rfc822;a+2Bb@x"],
    ["utf-8", "é+a b=c\\@例え.x", "utf-8;é\\x{2B}a\\x{20}b\\x{3D}c\\x{5C}@例え.x"]
  ])("the address type %s and %s are sent in UTF-8 with SMTPUTF8 (RFC 6533 §3)", (type, address, expected) => {
    assert.strictEqual(orcpt({ type, address }, true), expected)
  })
})

describe("whatever is in a field", () => {
  const pieces = [
    ..."aB1-_.@<>\"\\ ()[],:;=+?%",
    ..."\0\t\r\n\x1b\x7f\x85\x9b\u00a0\u00e9\u200b\u2028\u2029\u202e\ufeff\u{1f4e7}",
    "\ud800",
    "\udc00",
    "\r\n",
    "ann@example.com",
    "[IPv6:",
    "NEVER",
    " SIZE=1"
  ] as const
  const text = Arbitrary.array(Arbitrary.schema(Schema.Literals(pieces)), { minLength: 1, maxLength: 12 }).pipe(
    Arbitrary.map((parts) => parts.join(""))
  )

  const commands = (s: string): ReadonlyArray<unknown> => [
    { _tag: s },
    ...["Ehlo", "Helo", "Lhlo"].map((_tag) => ({ _tag, name: s })),
    { _tag: "Auth", mechanism: s },
    { _tag: "Auth", mechanism: "PLAIN", initialResponse: s },
    { _tag: "Auth", mechanism: "PLAIN", initialResponse: secret(s) },
    { _tag: "AuthResponse", response: secret(s) },
    ...["Noop", "Vrfy", "Expn", "Help"].map((_tag) => ({ _tag, text: s })),
    { _tag: "Bdat", size: s, last: true },
    { _tag: "Bdat", size: 1, last: s },
    ...[s, `"${s}"@x`, `a@${s}`, `a@[${s}]`].flatMap((path) => [
      mail({}, path),
      mail({ smtpUtf8: true }, path),
      rcpt({ smtpUtf8: true }, path),
      mail({ auth: path })
    ]),
    ...["size", "body", "smtpUtf8", "ret", "envid", "requireTls"].map((key) => ({
      _tag: "Mail",
      from: "a@x",
      parameters: { [key]: s }
    })),
    ...["notify", "orcpt", "smtpUtf8"].map((key) => ({ _tag: "Rcpt", to: "b@y", parameters: { [key]: s } })),
    ...[[s, "b@y"], ["rfc822", s], ["utf-8", s]].flatMap(([type, address]) => [
      { _tag: "Rcpt", to: "b@y", parameters: { orcpt: { type, address }, notify: ["DELAY"] } },
      { _tag: "Rcpt", to: "b@y", parameters: { orcpt: { type, address }, smtpUtf8: true } }
    ]),
    { _tag: "Rcpt", to: "b@y", parameters: { notify: [s] } }
  ]

  const control = /[\0-\x1f\x7f-\x9f\u2028\u2029\p{Surrogate}]/u // oxlint-disable-line no-control-regex
  const quoted = /"(?:[^"\\]|\\.)*"/gu
  const path = /^(?:MAIL FROM:|RCPT TO:)<[^<>\s]*>(?: [A-Z\d]+(?:=[^=\s]+)?)*$/u

  it.prop("the octets hold one CRLF, at the end, and no other control; a path stays a path", [text], ([s]) => {
    for (const command of commands(s) as ReadonlyArray<Command>) {
      assert.isFalse(control.test(SmtpCommand.render(command)))
      const result = SmtpCommand.encode(command)
      if (Result.isFailure(result)) {
        assert.isFalse(control.test(result.failure.detail))
        continue
      }
      const sent = decoder.decode(result.success)
      assert.isTrue(sent.endsWith("\r\n"))
      assert.isFalse(control.test(sent.slice(0, -2)), JSON.stringify(sent))
      if (/^(?:MAIL|RCPT)/.test(sent)) assert.match(sent.slice(0, -2).replaceAll(quoted, "q"), path)
    }
  }, { arbitrary: { runs: 1500, size: 12 } })
})

describe("what people read", () => {
  it.each<[string, string, Command]>([
    ["EHLO", "EHLO x", { _tag: "Ehlo", name: "x" }],
    ["STARTTLS", "STARTTLS", { _tag: "StartTls" }],
    ["AUTH PLAIN", "AUTH PLAIN ***", { _tag: "Auth", mechanism: "PLAIN", initialResponse: secret("canary") }],
    ["AUTH PLAIN", "AUTH PLAIN ***", { _tag: "Auth", mechanism: "PLAIN", initialResponse: secret("") }],
    ["AUTH LOGIN", "AUTH LOGIN", { _tag: "Auth", mechanism: "LOGIN" }],
    ["AUTH", "AUTH", { _tag: "Auth", mechanism: "A\nB" }],
    ["AUTH", "***", { _tag: "AuthResponse", response: secret("canary") }],
    ["AUTH", "*", { _tag: "AuthCancel" }],
    ["MAIL FROM", "MAIL FROM:<a@x> SIZE=1", mail({ size: 1 })],
    ["RCPT TO", "RCPT TO:<b@y>", rcpt({})],
    ["RCPT TO", "RCPT TO:<\"\\u{202e} b\"@y>", rcpt({ smtpUtf8: true }, "\"\u202e b\"@y")],
    ["DATA", "DATA", { _tag: "Data" }],
    ["BDAT", "BDAT 5 LAST", { _tag: "Bdat", size: 5, last: true }],
    ["RSET", "RSET", { _tag: "Rset" }],
    ["NOOP", "NOOP", { _tag: "Noop" }],
    ["VRFY", "VRFY a", { _tag: "Vrfy", text: "a" }],
    ["EXPN", "EXPN a", { _tag: "Expn", text: "a" }],
    ["HELP", "HELP", { _tag: "Help" }],
    ["QUIT", "QUIT", { _tag: "Quit" }]
  ])("the verb is %s, the transcript says %s", (verb, rendered, command) => {
    assert.strictEqual(SmtpCommand.verb(command), verb)
    assert.strictEqual(SmtpCommand.render(command), rendered)
  })

  it("a command that cannot be sent is shown as such, without its value", () => {
    assert.strictEqual(
      SmtpCommand.render({ _tag: "Noop", text: "a\r\nb" }),
      "NOOP (not sent: text holds the control character U+000D; remove it)"
    )
  })
})
