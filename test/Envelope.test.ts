import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Envelope from "../src/Envelope.ts"
import * as SmtpError from "../src/SmtpError.ts"

const ok = (input: Envelope.Input): Envelope.Envelope => Result.getOrThrow(Envelope.parse(input))

const refusal = (input: unknown): SmtpError.EENVELOPE => {
  const result = Envelope.parse(input as Envelope.Input)
  assert.isTrue(Result.isFailure(result))
  const error = Result.getOrThrow(Result.flip(result))
  assert.instanceOf(error, SmtpError.EENVELOPE)
  assert.deepStrictEqual([error.command, error.attempted, error.inDoubt], ["API", false, false])
  assert.isTrue(error.message.startsWith(`${error.field} `), error.message)
  return error
}

const base = { from: "ann@example.com", to: "bob@example.com" }
const pathOf = (address: string): string => ok({ ...base, to: address }).recipients[0].path
const problemOf = (address: string): string => refusal({ ...base, to: address }).message

const control = /[\0-\x1f\x7f-\x9f\u2028\u2029\p{Surrogate}]/u // oxlint-disable-line no-control-regex

/** Characters that mean something to one grammar or another, and some that mean nothing anywhere. */
const pieces = [
  ..."ab1-_.@<>\"\\ ()[],:;=+?%!",
  ..."\0\t\r\n\x7f\x85\u00a0\u00e9\u0130\u200b\u2028\u3002\uff0e\uff20\ufeff\u{1f4e7}",
  "\ud800",
  "\r\n",
  "ann@example.com",
  "xn--",
  "[IPv6:",
  "=?utf-8?q?",
  "RCPT TO:<x@y>"
] as const
const nasty = Arbitrary.array(Arbitrary.schema(Schema.Literals(pieces)), { maxLength: 12 }).pipe(
  Arbitrary.map((parts) => parts.join(""))
)
const local = Arbitrary.array(Arbitrary.schema(Schema.Literals(["a", "B", "1", ".", " ", "\"", "\\", ">", "@", "é"])), {
  minLength: 1,
  maxLength: 10
}).pipe(Arbitrary.map((parts) => parts.join("")))

describe("mailboxes", () => {
  it.each([
    ["ann@example.com", "ann@example.com"],
    ["<ann@example.com>", "ann@example.com"],
    ["Ann.Other+tag@Example.COM", "Ann.Other+tag@Example.COM"],
    ["!#$%&'*+-/=?^_`{|}~@example.com", "!#$%&'*+-/=?^_`{|}~@example.com"],
    ["a@b", "a@b"],
    ["a@1und1.example", "a@1und1.example"],
    ["a@x_y._z.example", "a@x_y._z.example"],
    ["a@xn--bcher-kva.example", "a@xn--bcher-kva.example"],
    ["\"ann\"@example.com", "ann@example.com"],
    ["\"ann.other\"@example.com", "ann.other@example.com"],
    ["\"a\\nn\"@example.com", "ann@example.com"],
    ["\"ann other\"@example.com", "\"ann other\"@example.com"],
    ["\"a..b\"@example.com", "\"a..b\"@example.com"],
    ["\"\"@example.com", "\"\"@example.com"],
    ["\"a@evil.example\"@good.example", "\"a@evil.example\"@good.example"],
    ["\"a>b\"@example.com", "\"a>b\"@example.com"],
    ["\"a\\\"\\\\\\>b\"@example.com", "\"a\\\"\\\\>b\"@example.com"],
    ["a@[192.0.2.255]", "a@[192.0.2.255]"],
    ["a@[ipv6:2001:DB8::1]", "a@[IPv6:2001:DB8::1]"],
    ["a@[IPv6:1:2:3:4:5:6:7:8]", "a@[IPv6:1:2:3:4:5:6:7:8]"],
    ["a@[IPv6:::ffff:192.0.2.1]", "a@[IPv6:::ffff:192.0.2.1]"],
    ["a@[IPv6:1:2:3:4:5:6:192.0.2.1]", "a@[IPv6:1:2:3:4:5:6:192.0.2.1]"],
    ["a@[IPv6:::]", "a@[IPv6:::]"],
    ["Postmaster", "Postmaster"],
    ["<POSTMASTER>", "POSTMASTER"],
    ["ann@bücher.example", "ann@xn--bcher-kva.example"],
    ["ann@BÜCHER.Example", "ann@xn--bcher-kva.example"],
    ["ann@例え.テスト", "ann@xn--r8jz45g.xn--zckzah"],
    ["ann@straße.example", "ann@xn--strae-oqa.example"],
    ["δοκιμή@παράδειγμα.example", "δοκιμή@xn--hxajbheg2az3al.example"],
    ["\"δ κ\"@example.com", "\"δ κ\"@example.com"]
  ])("%s goes out as %s", (address, path) => {
    assert.strictEqual(pathOf(address), path)
    assert.strictEqual(ok({ ...base, to: [address] }).recipients[0].address, address)
  })

  it.each([
    ["", "has no \"@\""],
    ["ann", "has no \"@\""],
    ["postmaster@", "nothing after"],
    ["@example.com", "nothing before"],
    ["<>", "has no \"@\""],
    ["<<ann@example.com>>", "has \"<\" in its local part"],
    ["<ann@example.com", "has \"<\""],
    ["ann@example.com>", "bad domain"],
    [" ann@example.com", "has \" \""],
    ["ann@example.com ", "bad domain"],
    ["\u00a0ann@example.com", "has U+00A0"],
    ["\ufeffann@example.com", "has U+FEFF"],
    ["Ann <ann@example.com>", "has \" \""],
    ["ann@example.com, bob@example.com", "bad domain"],
    ["ann(comment)@example.com", "has \"(\""],
    ["ann@(comment)example.com", "bad domain"],
    ["friends: ann@example.com;", "has \":\""],
    ["@relay.example:ann@example.com", "nothing before"],
    ["=?utf-8?q?ann=40evil.example=3e?=@example.com", "encoded word"],
    ["\"=?UTF-8?B?YQ==?=\"@example.com", "encoded word"],
    ["a@evil@good", "bad domain"],
    ["a\"b\"@example.com", "has \"\"\""],
    ["\"a@evil\"b@good", "not closed"],
    ["\"ann@example.com", "not closed"],
    ["\"a\\é\"@example.com", "not closed"],
    [".ann@example.com", "dot too many"],
    ["ann.@example.com", "dot too many"],
    ["a..b@example.com", "dot too many"],
    ["a@.example.com", "bad domain"],
    ["a@example.com.", "bad domain"],
    ["a@example..com", "bad domain"],
    ["a@-example.com", "bad domain"],
    ["a@example-.com", "bad domain"],
    ["a@exa mple.com", "bad domain"],
    ["a@example.com:25", "bad domain"],
    ["a@127.0.0.1", "in brackets"],
    ["a@2130706433", "in brackets"],
    ["a@[127.0.0.256]", "bad address literal"],
    ["a@[127.0.0.01]", "bad address literal"],
    ["a@[127.0.0]", "bad address literal"],
    ["a@[127.0.0.1.]", "bad address literal"],
    ["a@[127.0.0.1", "bad address literal"],
    ["a@[2001:db8::1]", "bad address literal"],
    ["a@[IPv6:]", "bad address literal"],
    ["a@[IPv6:1::2::3]", "bad address literal"],
    ["a@[IPv6:1:2:3:4:5:6:7::]", "bad address literal"],
    ["a@[IPv6:1:2:3]", "bad address literal"],
    ["a@[IPv6:192.0.2.1::1]", "bad address literal"],
    ["a@[IPv6:fe80::1%eth0]", "bad address literal"],
    ["a@[IPv6:12345::]", "bad address literal"],
    ["a@[x400:abc]", "bad address literal"],
    ["a\r\nb@example.com", "U+000D"],
    ["\"a\r\nRCPT TO:<b@c>\"@example.com", "U+000D"],
    ["a@example.com\n", "U+000A"],
    ["a\0@example.com", "U+0000"],
    ["a\x7f@example.com", "U+007F"],
    ["a\x85@example.com", "U+0085"],
    ["a\x9f@example.com", "U+009F"],
    ["a\u2028@example.com", "U+2028"],
    ["a@b\u2029.example", "U+2029"],
    ["a\ud800@example.com", "U+D800"],
    ["\udc00@example.com", "U+DC00"]
  ])("%j is refused", (address, problem) => {
    assert.include(problemOf(address), problem)
    const error = refusal({ ...base, to: [base.to, address] })
    assert.strictEqual(error.field, "envelope.to[1]")
    assert.strictEqual(error.recipient, address)
    assert.isFalse(control.test(error.message))
  })

  it.each([
    ["a sign that Unicode maps to a letter", "a@faceboo\u212a.com"],
    ["full-width letters", "a@\uff45xample.com"],
    ["a soft hyphen", "a@exam\u00adple.com"],
    ["a zero-width space", "a@exam\u200bple.com"],
    ["a full stop that is not a dot", "a@evil\u3002example.com"],
    ["another full stop that is not a dot", "a@é\uff0eexample"],
    ["full-width digits of an IP address", "a@\uff11\uff12\uff17.0.0.1"],
    ["a full-width at sign", "a@good\uff20evil.example"],
    ["a percent escape", "a@é%2eexample"],
    ["a full-width solidus", "a@é\uff0f.example"],
    ["a port", "a@é.example:25"],
    ["a userinfo", "a@good@é.example"],
    ["a path", "a@é.example/x"],
    ["a query", "a@é.example?x"],
    ["an empty label", "a@é..example"],
    ["a final dot", "a@é.example."],
    ["a broken A-label", "a@é.xn--a-ä"],
    ["a Unicode space", "a@é\u3000.example"]
  ])("a domain in Unicode with %s is refused", (_, address) => {
    assert.include(problemOf(address), "bad domain")
  })

  it("limits count octets as sent: 64, 255 and 254", () => {
    const label = "d".repeat(63)
    const l64 = "l".repeat(64)
    assert.strictEqual(pathOf(`${l64}@example.com`).length, 76)
    assert.include(problemOf(`${l64}l@example.com`), "local part of 65 octets; 64 are allowed")
    assert.strictEqual(pathOf(`${"é".repeat(32)}@example.com`).length, 44)
    assert.include(problemOf(`${"é".repeat(32)}e@example.com`), "65 octets")
    assert.strictEqual(pathOf(`"${"\\l".repeat(64)}"@example.com`), `${l64}@example.com`)
    assert.include(problemOf(`"${"l ".repeat(32)}"@example.com`), "66 octets")
    assert.strictEqual(pathOf(`${"l".repeat(62)}@${label}.${label}.${label}`).length, 254)
    assert.include(problemOf(`${"l".repeat(63)}@${label}.${label}.${label}`), "255 octets; 254 are allowed")
    assert.include(problemOf(`a@${label}d`), "bad domain")
    assert.include(problemOf(`a@${label}d.example`), "bad domain")
    assert.include(problemOf(`a@${label}.${label}.${label}.${label}.d`), "bad domain")
    assert.include(problemOf(`a@${"ü".repeat(60)}.example`), "bad domain")
    assert.include(problemOf(`${"a".repeat(2000)}@example.com`), "2012 characters")
  })

  it.prop(
    "any string is refused, or goes out as one path without controls that parses to itself",
    [nasty],
    ([text]) => {
      const result = Envelope.parse({ ...base, to: text })
      if (Result.isFailure(result)) return assert.isFalse(control.test(result.failure.message))
      const path = result.success.recipients[0].path
      assert.isFalse(control.test(path))
      assert.match(path.replaceAll(/"(?:[^"\\]|\\.)*"/gu, "q"), /^[^\s<>"(),;\\@]+@[A-Za-z\d._[\]:-]+$|^postmaster$/i)
      assert.strictEqual(pathOf(path), path)
    },
    { arbitrary: { runs: 3000, size: 12 } }
  )

  it.prop("any local part that is quoted keeps its domain and its meaning", [local], ([text]) => {
    const quoted = `"${text.replaceAll(/["\\]/g, "\\$&")}"`
    const path = pathOf(`${quoted}@good.example`)
    assert.isTrue(path.endsWith("@good.example"))
    const sent = path.slice(0, -"@good.example".length)
    assert.strictEqual(sent.startsWith("\"") ? sent.slice(1, -1).replaceAll(/\\(.)/g, "$1") : sent, text)
  }, { arbitrary: { runs: 500, size: 10 } })
})

describe("sender and recipients", () => {
  it("the null sender is written as nothing or as empty brackets", () => {
    assert.strictEqual(ok({ ...base, from: "" }).from, "")
    assert.strictEqual(ok({ ...base, from: "<>" }).from, "")
    assert.strictEqual(ok({ ...base, from: "<ann@example.com>" }).from, "ann@example.com")
    assert.strictEqual(refusal({ ...base, from: "postmaster" }).field, "envelope.from")
  })

  it("one recipient or many, as text or as objects", () => {
    const many = ok({ ...base, to: ["b@x", { address: "<c@y>" }, { address: "b@x", dsn: undefined }] })
    assert.deepStrictEqual(many.recipients.map((one) => [one.address, one.path]), [
      ["b@x", "b@x"],
      ["<c@y>", "c@y"],
      ["b@x", "b@x"]
    ])
    assert.strictEqual(ok({ ...base, to: { address: "b@x" } }).recipients.length, 1)
  })

  it("nothing is wished for unless it is asked for, and the input stays as it was", () => {
    const input = Object.freeze({ from: "<ann@example.com>", to: Object.freeze(["bob@example.com"]) })
    assert.deepStrictEqual(ok(input), {
      from: "ann@example.com",
      recipients: [{ address: "bob@example.com", path: "bob@example.com", notify: undefined, orcpt: undefined }],
      needsSmtpUtf8: false,
      size: undefined,
      use8BitMime: undefined,
      dsn: { ret: undefined, envid: undefined, optional: false },
      needsDsn: false,
      requireTls: false,
      requireAllRecipients: false,
      binaryMime: false,
      auth: undefined
    })
  })

  it("SMTPUTF8 is needed for a local part that is not ASCII, or when asked for, not for a domain", () => {
    assert.isFalse(ok({ from: "a@é.example", to: "b@é.example" }).needsSmtpUtf8)
    assert.isTrue(ok({ ...base, from: "é@x" }).needsSmtpUtf8)
    assert.isTrue(ok({ ...base, to: ["é@x", "b@x"] }).needsSmtpUtf8)
    assert.isTrue(ok({ ...base, smtpUtf8: true }).needsSmtpUtf8)
  })

  const text = { toString: () => "ann@example.com" }
  it.each<[string, unknown]>([
    ["envelope", undefined],
    ["envelope", null],
    ["envelope", "ann@example.com"],
    ["envelope", []],
    ["envelope.from", { to: base.to }],
    ["envelope.from", { ...base, from: null }],
    ["envelope.from", { ...base, from: text }],
    ["envelope.from", { ...base, from: ["ann@example.com"] }],
    ["envelope.to", { from: base.from }],
    ["envelope.to", { ...base, to: [] }],
    ["envelope.to", { ...base, to: 1 }],
    ["envelope.to.address", { ...base, to: new Set(["b@x"]) }],
    ["envelope.to.address", { ...base, to: text }],
    ["envelope.to[0]", { ...base, to: Array(1) }],
    ["envelope.to[1]", { ...base, to: ["b@x", null] }],
    ["envelope.to[1]", { ...base, to: ["b@x", ["c@x"]] }],
    ["envelope.to[0].address", { ...base, to: [{ address: text }] }],
    ["envelope.to[0].dsn", { ...base, to: [{ address: "b@x", dsn: "NEVER" }] }],
    ["envelope.size", { ...base, size: -1 }],
    ["envelope.size", { ...base, size: 1.5 }],
    ["envelope.size", { ...base, size: NaN }],
    ["envelope.size", { ...base, size: Infinity }],
    ["envelope.size", { ...base, size: 2 ** 53 }],
    ["envelope.size", { ...base, size: "1" }],
    ["envelope.size", { ...base, size: 1n }],
    ["envelope.size", { ...base, size: null }],
    ["envelope.size", { ...base, size: { valueOf: () => 1 } }],
    ["envelope.use8BitMime", { ...base, use8BitMime: "yes" }],
    ["envelope.smtpUtf8", { ...base, smtpUtf8: 1 }],
    ["envelope.requireTls", { ...base, requireTls: "true" }],
    ["envelope.requireAllRecipients", { ...base, requireAllRecipients: null }],
    ["envelope.auth", { ...base, auth: "" }],
    ["envelope.auth", { ...base, auth: text }],
    ["envelope.auth", { ...base, auth: "ann@x SIZE=1" }],
    ["envelope.auth", { ...base, auth: "é@x" }],
    ["envelope.dsn", { ...base, dsn: "NEVER" }],
    ["envelope.dsn", { ...base, dsn: null }],
    ["envelope.dsn.ret", { ...base, dsn: { ret: "BODY" } }],
    ["envelope.dsn.ret", { ...base, dsn: { ret: { toString: () => "FULL" } } }],
    ["envelope.dsn.envid", { ...base, dsn: { envid: "" } }],
    ["envelope.dsn.envid", { ...base, dsn: { envid: 1 } }],
    ["envelope.dsn.envid", { ...base, dsn: { envid: "a\r\nb" } }],
    ["envelope.dsn.envid", { ...base, dsn: { envid: "é" } }],
    ["envelope.dsn.envid", { ...base, dsn: { envid: "a".repeat(101) } }],
    ["envelope.dsn.envid", { ...base, dsn: { envid: "+".repeat(34) } }],
    ["envelope.dsn.optional", { ...base, dsn: { optional: "no" } }],
    ["envelope.dsn.notify", { ...base, dsn: { notify: [] } }],
    ["envelope.dsn.notify", { ...base, dsn: { notify: "" } }],
    ["envelope.dsn.notify", { ...base, dsn: { notify: "SUCCESS," } }],
    ["envelope.dsn.notify", { ...base, dsn: { notify: "ALWAYS" } }],
    ["envelope.dsn.notify", { ...base, dsn: { notify: "SUCCESS ORCPT=x" } }],
    ["envelope.dsn.notify", { ...base, dsn: { notify: ["SUCCESS,FAILURE"] } }],
    ["envelope.dsn.notify", { ...base, dsn: { notify: "never,success" } }],
    ["envelope.dsn.notify", { ...base, dsn: { notify: "DELAY,DELAY" } }],
    ["envelope.dsn.notify", { ...base, dsn: { notify: [{ toString: () => "DELAY" }] } }],
    ["envelope.dsn.notify", { ...base, dsn: { notify: Array(1) } }],
    ["envelope.dsn.notify", { ...base, dsn: { notify: 1 } }],
    ["envelope.dsn.orcpt", { ...base, dsn: { orcpt: "nobody" } }],
    ["envelope.dsn.orcpt", { ...base, dsn: { orcpt: 1 } }],
    ["envelope.dsn.orcpt", { ...base, dsn: { orcpt: "rfc822;" } }],
    ["envelope.dsn.orcpt", { ...base, dsn: { orcpt: ";b@x" } }],
    ["envelope.dsn.orcpt", { ...base, dsn: { orcpt: "rfc822;é@x" } }],
    ["envelope.dsn.orcpt", { ...base, dsn: { orcpt: "rfc822;a\r\nb@x" } }],
    ["envelope.dsn.orcpt", { ...base, dsn: { orcpt: `x400;${"a".repeat(496)}` } }],
    ["envelope.dsn.orcpt", { ...base, dsn: { orcpt: `utf-8;${"é".repeat(83)}` } }],
    // A mailbox within its own limits: quoted, and spelt out as xtext, it is too long for ORCPT.
    ["envelope.dsn.orcpt", { ...base, dsn: { orcpt: `"${"\\=".repeat(62)}"@b\u00fccher.example` } }],
    ["envelope.dsn.orcpt", { ...base, to: ["b@x", "c@x"], dsn: { orcpt: "b@x" } }],
    ["envelope.to[0].dsn.notify", { ...base, to: [{ address: "b@x", dsn: { notify: "x" } }] }],
    ["envelope.to[0].dsn.orcpt", { ...base, to: [{ address: "b@x", dsn: { orcpt: "x" } }] }],
    ["envelope.to.dsn.orcpt", { ...base, to: { address: "b@x", dsn: { orcpt: "rfc822;" } } }]
  ])("%s is named when it is at fault (%#)", (field, input) => {
    const error = refusal(input)
    assert.strictEqual(error.field, field)
    assert.strictEqual(error.recipient, field.includes("].dsn") || field.includes("to.dsn") ? "b@x" : undefined)
  })

  it("an own number, flag and AUTH are kept", () => {
    const envelope = ok({
      ...base,
      size: 0,
      use8BitMime: true,
      requireTls: true,
      requireAllRecipients: true,
      auth: "<ann@é.example>"
    })
    assert.deepStrictEqual(
      [envelope.size, envelope.use8BitMime, envelope.requireTls, envelope.requireAllRecipients, envelope.auth],
      [0, true, true, true, "ann@xn--9ca.example"]
    )
    assert.strictEqual(ok({ ...base, auth: "<>" }).auth, "<>")
    assert.strictEqual(ok({ ...base, size: Number.MAX_SAFE_INTEGER }).size, Number.MAX_SAFE_INTEGER)
  })
})

describe("delivery status notifications", () => {
  it("conditions come as a list or as text, in any case", () => {
    const notify = (value: Envelope.Dsn["notify"]) => ok({ ...base, dsn: { notify: value } }).recipients[0].notify
    assert.deepStrictEqual(notify(["SUCCESS", "failure"]), ["SUCCESS", "FAILURE"])
    assert.deepStrictEqual(notify("success, Failure,DELAY"), ["SUCCESS", "FAILURE", "DELAY"])
    assert.deepStrictEqual(notify("Never"), ["NEVER"])
  })

  it("a recipient's own wishes override the envelope's, one by one", () => {
    const { recipients } = ok({
      from: "",
      to: ["a@x", { address: "b@x", dsn: { notify: "NEVER" } }, { address: "c@x", dsn: { orcpt: "d@x" } }],
      dsn: { notify: "FAILURE" }
    })
    assert.deepStrictEqual(recipients.map((one) => [one.notify, one.orcpt]), [
      [["FAILURE"], undefined],
      [["NEVER"], undefined],
      [["FAILURE"], { type: "rfc822", address: "d@x" }]
    ])
  })

  it.each([
    ["bob@example.com", { type: "rfc822", address: "bob@example.com" }],
    ["<bob@example.com>", { type: "rfc822", address: "bob@example.com" }],
    ["\"a;b\"@example.com", { type: "rfc822", address: "\"a;b\"@example.com" }],
    ["Postmaster", { type: "rfc822", address: "Postmaster" }],
    ["é@example.com", { type: "utf-8", address: "é@example.com" }],
    ["bob@é.example", { type: "utf-8", address: "bob@é.example" }],
    ["X400;/S=bob/O=example/", { type: "X400", address: "/S=bob/O=example/" }],
    ["UTF-8;é@example.com", { type: "UTF-8", address: "é@example.com" }],
    ["rfc822;a;b", { type: "rfc822", address: "a;b" }]
  ])("the original recipient %s has its type", (orcpt, expected) => {
    assert.deepStrictEqual(ok({ ...base, dsn: { orcpt } }).recipients[0].orcpt, expected)
  })

  it("any of the four parameters is a wish; optional alone is none", () => {
    const needs = (dsn: Envelope.Dsn) => ok({ ...base, dsn }).needsDsn
    assert.deepStrictEqual(
      [{ ret: "full" }, { envid: "x" }, { notify: "NEVER" }, { orcpt: "b@x" }, { optional: true }, {}].map((dsn) =>
        needs(dsn as Envelope.Dsn)
      ),
      [true, true, true, true, false, false]
    )
    assert.isTrue(ok({ ...base, to: ["a@x", { address: "b@x", dsn: { notify: "DELAY" } }] }).needsDsn)
    assert.deepStrictEqual(ok({ ...base, dsn: { ret: "hdrs", envid: "a b+c", optional: true } }).dsn, {
      ret: "HDRS",
      envid: "a b+c",
      optional: true
    })
  })
})
