import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { runInNewContext } from "node:vm"
import { codeOf } from "../src/internal/errorCause.ts"
import * as SmtpError from "../src/SmtpError.ts"
import * as SmtpReply from "../src/SmtpReply.ts"
import { assertHidden } from "./support/secrets.ts"

const said = { message: "DATA: something happened", command: "DATA" }
const tags = SmtpError.SmtpError.members.map((member) => member.identifier)

/** One error of every class, with no more than it needs. */
const plain: { readonly [K in SmtpError.Tag]: Extract<SmtpError.SmtpError, { readonly _tag: K }> } = {
  EDNS: new SmtpError.EDNS({ ...said, host: "mx.test" }),
  ECONNECTION: new SmtpError.ECONNECTION(said),
  ESOCKET: new SmtpError.ESOCKET(said),
  ETIMEDOUT: new SmtpError.ETIMEDOUT({ ...said, timeout: "command" }),
  EPROXY: new SmtpError.EPROXY(said),
  ETLS: new SmtpError.ETLS(said),
  EREQUIRETLS: new SmtpError.EREQUIRETLS(said),
  EPROTOCOL: new SmtpError.EPROTOCOL(said),
  EAUTH: new SmtpError.EAUTH(said),
  ENOAUTH: new SmtpError.ENOAUTH(said),
  EOAUTH2: new SmtpError.EOAUTH2(said),
  EENVELOPE: new SmtpError.EENVELOPE(said),
  EMESSAGE: new SmtpError.EMESSAGE(said),
  ESTREAM: new SmtpError.ESTREAM(said),
  ECONFIG: new SmtpError.ECONFIG(said)
}
const everyTag = Object.keys(plain) as ReadonlyArray<SmtpError.Tag>

/** The same class with other fields on top. */
const withFields = (error: SmtpError.SmtpError, fields: Partial<SmtpError.EENVELOPE>): SmtpError.SmtpError => {
  const make = error.constructor as new(fields: object) => SmtpError.SmtpError
  return new make({ ...error, message: error.message, ...fields })
}

/** Everything that an error answers, the prototype's getters included. */
const answers = (error: SmtpError.SmtpError): Record<string, unknown> => ({
  ...error,
  name: error.name,
  message: error.message,
  code: error.code,
  response: error.response,
  responseCode: error.responseCode,
  enhancedCode: error.enhancedCode,
  isTemporary: error.isTemporary,
  isRetryable: SmtpError.isRetryable(error),
  reply: error.reply && [error.reply.code, error.reply.lines],
  cause: error.cause instanceof Error
    ? { ...error.cause, name: error.cause.name, message: error.cause.message }
    : error.cause,
  rejectedErrors: "rejectedErrors" in error ? error.rejectedErrors?.map(answers) : undefined
})

const codec = Schema.toCodecJson(SmtpError.SmtpError)
const throughJson = (error: SmtpError.SmtpError): SmtpError.SmtpError =>
  Schema.decodeUnknownSync(codec)(JSON.parse(JSON.stringify(Schema.encodeSync(codec)(error))))

describe("the classes", () => {
  it("are what design and code call them", () => {
    assert.deepStrictEqual(tags, [...everyTag])
    for (const [tag, error] of Object.entries(plain)) {
      assert.deepStrictEqual([error._tag, error.code, error.name], [tag, tag, tag])
      assert.instanceOf(error, Error)
      assert.strictEqual(String(error), `${tag}: DATA: something happened`)
    }
  })

  it("say by default: attempted, not in doubt, nothing handed over", () => {
    for (const { attempted, handedOver, inDoubt } of Object.values(plain)) {
      assert.deepStrictEqual({ attempted, handedOver, inDoubt }, { attempted: true, handedOver: false, inDoubt: false })
    }
  })

  it("answer for their reply, and undefined without one", () => {
    const reply = SmtpReply.make(550, "5.1.1 no", "such user")
    for (const error of Object.values(plain)) {
      assert.deepStrictEqual([error.response, error.responseCode, error.enhancedCode], [
        undefined,
        undefined,
        undefined
      ])
      const told = withFields(error, { reply })
      assert.deepStrictEqual([told.response, told.responseCode, told.enhancedCode], [
        "5.1.1 no\nsuch user",
        550,
        "5.1.1"
      ])
    }
  })

  it.effect("are caught by their tag, and other tags go on", () =>
    Effect.gen(function*() {
      const failing = (tag: SmtpError.Tag): Effect.Effect<never, SmtpError.SmtpError> => Effect.fail(plain[tag])
      const caught = (tag: SmtpError.Tag) =>
        failing(tag).pipe(
          Effect.catchTag("EAUTH", (e) => Effect.succeed(`auth ${e.tried?.join() ?? "nothing"}`)),
          Effect.map((text) => text.toUpperCase()),
          Effect.catchTag("ETIMEDOUT", (e) => Effect.succeed(`late ${e.timeout}`)),
          Effect.catch((e) => Effect.succeed(`other ${e.code}`))
        )
      assert.deepStrictEqual(
        yield* Effect.forEach(everyTag, caught),
        everyTag.map((tag) => tag === "EAUTH" ? "AUTH NOTHING" : tag === "ETIMEDOUT" ? "late command" : `other ${tag}`)
      )
      const yielded = Effect.gen(function*() {
        yield* Effect.void
        return yield* plain.ETLS
      })
      assert.strictEqual((yield* Effect.flip(yielded))._tag, "ETLS")
    }))
})

describe("isTemporary", () => {
  const withoutReply: { readonly [K in SmtpError.Tag]: boolean } = {
    EDNS: false,
    ECONNECTION: true,
    ESOCKET: true,
    ETIMEDOUT: true,
    EPROXY: true,
    ETLS: false,
    EREQUIRETLS: false,
    EPROTOCOL: false,
    EAUTH: false,
    ENOAUTH: false,
    EOAUTH2: false,
    EENVELOPE: false,
    EMESSAGE: false,
    ESTREAM: false,
    ECONFIG: false
  }

  it.each(everyTag)("of %s: the tag says without a reply, the first digit of a refusal with one", (tag) => {
    const error = plain[tag]
    assert.strictEqual(error.isTemporary, withoutReply[tag])
    const withReply = (code: number) => withFields(error, { reply: SmtpReply.make(code, "x") }).isTemporary
    assert.deepStrictEqual([400, 421, 451, 499].map(withReply), [true, true, true, true])
    assert.deepStrictEqual([500, 530, 554, 599].map(withReply), [false, false, false, false])
    assert.deepStrictEqual(
      [220, 250, 354].map(withReply),
      Array(3).fill(withoutReply[tag]),
      "no refusal decides nothing"
    )
  })

  it.each(everyTag)("of %s is what is stored, over the reply and the tag", (tag) => {
    for (const temporary of [true, false]) {
      for (const reply of [undefined, SmtpReply.make(451, ""), SmtpReply.make(550, "")]) {
        assert.strictEqual(withFields(plain[tag], { temporary, reply }).isTemporary, temporary)
      }
    }
  })
})

describe("isRetryable", () => {
  it("is true of an error that is temporary and not in doubt, and of nothing else", () => {
    for (const error of Object.values(plain)) {
      assert.strictEqual(SmtpError.isRetryable(error), error.isTemporary)
      assert.isTrue(SmtpError.isRetryable(withFields(error, { temporary: true })))
      assert.isFalse(SmtpError.isRetryable(withFields(error, { temporary: true, inDoubt: true })))
      assert.isFalse(SmtpError.isRetryable(withFields(error, { temporary: false })))
    }
    const lookalike = { _tag: "ECONNECTION", code: "ECONNECTION", isTemporary: true, inDoubt: false }
    for (const odd of [undefined, null, 0, "", "ECONNECTION", new Error("x"), lookalike, [], () => {}, Symbol("x")]) {
      assert.isFalse(SmtpError.isRetryable(odd))
      assert.isFalse(SmtpError.isSmtpError(odd))
    }
    for (const error of Object.values(plain)) assert.isTrue(SmtpError.isSmtpError(error))
  })
})

describe("JSON", () => {
  const errno = Object.assign(new Error("connect ECONNREFUSED 127.0.0.1:25"), {
    code: "ECONNREFUSED",
    errno: -111,
    syscall: "connect",
    address: "127.0.0.1",
    port: 25
  })
  const filled: Partial<SmtpError.EENVELOPE> = {
    reply: SmtpReply.make(451, "4.7.1 \u001b[2J later", "zweite Zeile ä"),
    cause: errno,
    temporary: false,
    inDoubt: true,
    attempted: false,
    handedOver: true,
    recipient: "bob@mx.test",
    field: "envelope.to[1]"
  }

  it.each(everyTag)("keeps every answer of %s, without and with every field", (tag) => {
    for (const error of [plain[tag], withFields(plain[tag], filled)]) {
      const back = throughJson(error)
      assert.strictEqual(back.constructor, error.constructor)
      assert.instanceOf(back, Error)
      assert.deepStrictEqual(answers(back), answers(error))
      assert.deepStrictEqual(answers(throughJson(back)), answers(error), "a second time")
    }
  })

  it("is the same for one class as for the union", () => {
    const own = Schema.toCodecJson(SmtpError.EENVELOPE)
    const error = new SmtpError.EENVELOPE({ ...said, reply: SmtpReply.make(550, "no") })
    const json = Schema.encodeSync(own)(error)
    assert.deepStrictEqual(json, Schema.encodeSync(codec)(error))
    assert.deepStrictEqual(answers(Schema.decodeSync(own)(json)), answers(error))
  })

  it("keeps what single classes have", () => {
    const oauth2 = { status: "401", schemes: "Bearer", scope: "mail" }
    const errors: ReadonlyArray<SmtpError.SmtpError> = [
      new SmtpError.EDNS({ ...said, host: "mx.test", temporary: true }),
      ...SmtpError.TimeoutName.literals.map((timeout) => new SmtpError.ETIMEDOUT({ ...said, timeout, inDoubt: true })),
      new SmtpError.EAUTH({ ...said, tried: ["PLAIN", "LOGIN"], oauth2 }),
      new SmtpError.EOAUTH2({ ...said, status: 400, error: "invalid_grant", errorDescription: "gone", temporary: true })
    ]
    for (const error of errors) assert.deepStrictEqual(answers(throughJson(error)), answers(error))
    const [edns] = errors
    assert.strictEqual(edns?.isTemporary, true)
  })

  it("keeps the errors of single recipients, each with its class and answers", () => {
    const rejectedErrors: ReadonlyArray<SmtpError.RecipientError> = [
      new SmtpError.EENVELOPE({ ...said, recipient: "a@x.test", reply: SmtpReply.make(550, "5.1.1 no") }),
      new SmtpError.EMESSAGE({ ...said, recipient: "b@x.test", reply: SmtpReply.make(452, "4.2.2 full") }),
      new SmtpError.ECONNECTION({ ...said, recipient: "c@x.test", inDoubt: true, handedOver: true }),
      new SmtpError.ESOCKET({ ...said, recipient: "d@x.test", cause: errno }),
      new SmtpError.ETIMEDOUT({ ...said, recipient: "e@x.test", timeout: "final" }),
      new SmtpError.EPROTOCOL({ ...said, recipient: "f@x.test", attempted: false })
    ]
    for (
      const error of [
        new SmtpError.EENVELOPE({ ...said, rejectedErrors }),
        new SmtpError.EMESSAGE({ ...said, rejectedErrors })
      ]
    ) {
      const back = throughJson(error)
      assert.deepStrictEqual(answers(back), answers(error))
      const inner = "rejectedErrors" in back ? back.rejectedErrors ?? [] : []
      assert.deepStrictEqual(inner.map((one) => one.constructor), rejectedErrors.map((one) => one.constructor))
      assert.deepStrictEqual(inner.map((one) => one.isTemporary), [false, true, true, true, true, false])
      assert.strictEqual(codeOf(inner[3]?.cause), "ECONNREFUSED")
    }
  })

  it("keeps of a cause its name, message, code and OpenSSL's reason, and leaves its stack and all else behind", () => {
    const cause = Object.assign(new TypeError("alert"), {
      code: "ERR_SSL_X",
      reason: "certificate unknown",
      library: "SSL routines",
      secret: "CANARY",
      cause: new Error("CANARY")
    })
    const json = JSON.stringify(Schema.encodeSync(codec)(new SmtpError.ETLS({ ...said, cause })))
    assertHidden(json, "CANARY")
    assert.notInclude(json, "SmtpError.test.ts", "no stack")
    const back = throughJson(new SmtpError.ETLS({ ...said, cause })).cause
    assert.instanceOf(back, Error)
    assert.strictEqual(String(back), "TypeError: alert")
    assert.strictEqual(codeOf(back), "ERR_SSL_X")
    assert.deepStrictEqual({ ...(back as object) }, {
      code: "ERR_SSL_X",
      reason: "certificate unknown",
      library: "SSL routines"
    })
  })

  it("takes any cause: of another realm, no Error at all, none", () => {
    const causeOf = (cause: unknown): unknown => throughJson(new SmtpError.ESOCKET({ ...said, cause })).cause
    const foreign: unknown = runInNewContext(`Object.assign(new Error("reset"), { code: "ECONNRESET" })`)
    assert.notInstanceOf(foreign, Error)
    const back = causeOf(foreign)
    assert.strictEqual(String(back), "Error: reset")
    assert.strictEqual(codeOf(back), "ECONNRESET")
    assert.strictEqual(codeOf(causeOf({ code: "EPIPE" })), "EPIPE")
    assert.instanceOf(causeOf(Object.create(null)), Error)
    assert.strictEqual(causeOf("text"), "text")
    assert.strictEqual(causeOf(42), "42")
    assert.strictEqual(causeOf(null), "null")
    assert.strictEqual(causeOf(Symbol("s")), "Symbol(s)")
    assert.isUndefined(causeOf(undefined))
    assert.deepStrictEqual(["x", null, 1, { code: 1 }, {}].map(codeOf), ["", "", "", "", ""])
  })

  it("reads a cause that something else wrote", () => {
    const written = { _tag: "ESOCKET" as const, ...said, cause: ["not", "ours"] }
    assert.deepStrictEqual(Schema.decodeSync(codec)(written).cause, ["not", "ours"])
  })

  it("reads what an older version wrote: the flags have defaults", () => {
    const { attempted, handedOver, inDoubt } = Schema.decodeSync(codec)({ _tag: "EMESSAGE", ...said })
    assert.deepStrictEqual({ attempted, handedOver, inDoubt }, { attempted: true, handedOver: false, inDoubt: false })
  })

  it("is refused where it is no error of ours", () => {
    const odds: ReadonlyArray<unknown> = [null, {}, { _tag: "EWHAT", ...said }, {
      _tag: "ETIMEDOUT",
      ...said,
      timeout: "lunch"
    }]
    for (const odd of odds) assert.throws(() => Schema.decodeUnknownSync(codec)(odd))
  })
})

const stages: { readonly [K in SmtpError.Stage]: readonly [refused: SmtpError.Tag, command: string] } = {
  CONN: ["ECONNECTION", "CONN"],
  GREETING: ["ECONNECTION", "CONN"],
  EHLO: ["ECONNECTION", "EHLO"],
  HELO: ["ECONNECTION", "HELO"],
  LHLO: ["ECONNECTION", "LHLO"],
  STARTTLS: ["ETLS", "STARTTLS"],
  TLS: ["ETLS", "CONN"],
  AUTH: ["EAUTH", "AUTH"],
  MAIL: ["EENVELOPE", "MAIL FROM"],
  RCPT: ["EENVELOPE", "RCPT TO"],
  DATA: ["EENVELOPE", "DATA"],
  BDAT: ["EMESSAGE", "BDAT"],
  BODY: ["EMESSAGE", "DATA"],
  FINAL: ["EMESSAGE", "DATA"],
  RSET: ["EPROTOCOL", "RSET"],
  NOOP: ["EPROTOCOL", "NOOP"],
  VRFY: ["EPROTOCOL", "VRFY"],
  EXPN: ["EPROTOCOL", "EXPN"],
  HELP: ["EPROTOCOL", "HELP"],
  QUIT: ["EPROTOCOL", "QUIT"],
  IDLE: ["ECONNECTION", "CONN"]
}
const everyStage = Object.keys(stages) as ReadonlyArray<SmtpError.Stage>

describe("classify", () => {
  const refused = (code: number, secure?: boolean): SmtpError.Failure => ({
    _tag: "Refused",
    reply: SmtpReply.make(code, "text"),
    ...(secure === undefined ? {} : { secure })
  })

  it.each(everyStage)("at %s gives each failure its tag", (stage) => {
    const [byStage] = stages[stage]
    const tagOf = (failure: SmtpError.Failure) => SmtpError.classify(failure, { stage })._tag
    const cause = Object.assign(new Error("read ECONNRESET"), { code: "ECONNRESET" })
    assert.strictEqual(tagOf({ _tag: "Deadline", timeout: "command" }), "ETIMEDOUT")
    // Inside the handshake the connector makes an ETLS of both; they do not come here.
    if (stage !== "TLS") {
      assert.strictEqual(tagOf({ _tag: "Errno", cause }), "ESOCKET")
      assert.strictEqual(tagOf({ _tag: "Closed" }), "ECONNECTION")
    }
    assert.strictEqual(tagOf({ _tag: "Grammar", detail: "a line ends in a bare LF" }), "EPROTOCOL")
    assert.strictEqual(tagOf({ _tag: "Unsolicited", reply: SmtpReply.make(250, "early") }), "EPROTOCOL")
    assert.strictEqual(tagOf({ _tag: "Unsolicited", reply: SmtpReply.make(554, "surplus") }), "EPROTOCOL")
    assert.strictEqual(tagOf({ _tag: "Unsolicited", reply: SmtpReply.make(421, "bye") }), "ECONNECTION")
    assert.strictEqual(tagOf({ _tag: "Quit" }), "ECONNECTION")
    assert.strictEqual(tagOf({ _tag: "Released" }), "ECONNECTION")
    for (const secure of [true, false, undefined]) {
      assert.strictEqual(tagOf(refused(421, secure)), "ECONNECTION")
      for (const code of [200, 220, 250, 251, 334, 354]) {
        assert.strictEqual(tagOf(refused(code, secure)), "EPROTOCOL", `${code} is of the wrong class`)
      }
      for (const code of [420, 422, 450, 452, 500, 503, 535, 554]) {
        assert.strictEqual(tagOf(refused(code, secure)), byStage, String(code))
      }
    }
    const authRequired = [refused(530, true), refused(530, false), refused(530)].map(tagOf)
    assert.deepStrictEqual(authRequired, stage === "MAIL" ? ["ENOAUTH", "ETLS", "ETLS"] : Array(3).fill(byStage))
  })

  const failures: ReadonlyArray<SmtpError.Failure> = [
    { _tag: "Deadline", timeout: "final" },
    { _tag: "Errno", cause: new Error("x") },
    { _tag: "Closed" },
    { _tag: "Grammar", detail: "x" },
    { _tag: "Unsolicited", reply: SmtpReply.make(250, "x") },
    { _tag: "Unsolicited", reply: SmtpReply.make(421, "x") },
    { _tag: "Refused", reply: SmtpReply.make(550, "x") },
    { _tag: "Quit" },
    { _tag: "Released" }
  ]

  it.each(everyStage)("at %s names the step in command and message", (stage) => {
    for (const failure of failures) {
      const error = SmtpError.classify(failure, { stage })
      assert.strictEqual(error.command, failure._tag === "Quit" ? "API" : stages[stage][1])
      assert.isTrue(error.message.startsWith(`${error.command}: `), error.message)
      if (failure._tag !== "Quit") {
        assert.strictEqual(SmtpError.classify(failure, { stage, command: "AUTH PLAIN" }).command, "AUTH PLAIN")
      }
    }
  })

  it("carries what is known of the message", () => {
    for (const failure of failures) {
      for (const stage of everyStage) {
        const error = SmtpError.classify(failure, { stage })
        assert.deepStrictEqual([error.inDoubt, error.attempted, error.handedOver, error.recipient], [
          false,
          failure._tag !== "Quit",
          stage === "FINAL",
          undefined
        ])
        const other = SmtpError.classify(failure, { stage, inDoubt: true, attempted: false, recipient: "bob@mx.test" })
        assert.deepStrictEqual([other.inDoubt, other.attempted, other.recipient], [true, false, "bob@mx.test"])
      }
    }
  })

  it("keeps the reply, the cause and the name of the deadline", () => {
    const cause = Object.assign(new Error("x"), { code: "EPIPE" })
    const reply = SmtpReply.make(450, "4.2.1 x")
    const [errno, unsolicited, leaving, denied, late] = [
      SmtpError.classify({ _tag: "Errno", cause }, { stage: "RCPT" }),
      SmtpError.classify({ _tag: "Unsolicited", reply }, { stage: "RCPT" }),
      SmtpError.classify({ _tag: "Unsolicited", reply: SmtpReply.make(421, "bye") }, { stage: "IDLE" }),
      SmtpError.classify({ _tag: "Refused", reply }, { stage: "RCPT" }),
      SmtpError.classify({ _tag: "Deadline", timeout: "data" }, { stage: "BODY" })
    ]
    assert.strictEqual(errno.cause, cause)
    assert.strictEqual(errno.message, "RCPT TO: the socket failed: EPIPE")
    assert.deepStrictEqual([unsolicited.reply, leaving.responseCode, denied.reply], [reply, 421, reply])
    assert.isTrue(denied.isTemporary)
    assert.strictEqual(late._tag === "ETIMEDOUT" ? late.timeout : undefined, "data")
  })

  it("says what happened, and how to mend it where that is known", () => {
    const messageOf = (failure: SmtpError.Failure) => SmtpError.classify(failure, { stage: "RCPT" }).message
    assert.strictEqual(messageOf({ _tag: "Errno", cause: "no code" }), "RCPT TO: the socket failed")
    assert.strictEqual(messageOf({ _tag: "Deadline", timeout: "command" }), "RCPT TO: the command deadline passed")
    assert.strictEqual(
      messageOf({ _tag: "Deadline", timeout: "greeting", hint: "is this port TLS?" }),
      "RCPT TO: the greeting deadline passed; is this port TLS?"
    )
    assert.strictEqual(messageOf({ _tag: "Closed" }), "RCPT TO: the server closed the connection")
    assert.strictEqual(
      messageOf({ _tag: "Grammar", detail: "a line ends in a bare LF" }),
      "RCPT TO: the server broke the protocol: a line ends in a bare LF"
    )
    assert.strictEqual(
      messageOf({ _tag: "Refused", reply: SmtpReply.make(550, "no", "such user") }),
      "RCPT TO: the server answered 550 no / such user"
    )
    assert.strictEqual(
      messageOf({ _tag: "Unsolicited", reply: SmtpReply.make(250, "early") }),
      "RCPT TO: the server sent a reply that answers no command: 250 early"
    )
    assert.include(messageOf({ _tag: "Quit" }), "open another")
    assert.include(messageOf({ _tag: "Released" }), "closed on this side")
  })

  it("shows the server's text escaped and bounded, and keeps it as it is in response", () => {
    const nasty = `\u001b[2J\u009b31m\u202egpj.exe\r\u2028${"x".repeat(100_000)}`
    for (const _tag of ["Refused", "Unsolicited"] as const) {
      for (const stage of everyStage) {
        for (const code of [250, 421, 550]) {
          const error = SmtpError.classify({ _tag, reply: SmtpReply.make(code, nasty) }, { stage })
          assert.notMatch(error.message, /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u)
          assert.isBelow(error.message.length, 1500)
          // A server may echo there what it was sent in secret.
          if (_tag === "Unsolicited" && stage === "AUTH") {
            assert.strictEqual(error.response, "")
            continue
          }
          assert.include(error.message, "\\u{1b}[2J\\u{9b}31m\\u{202e}gpj.exe\\u{d}\\u{2028}")
          assert.notMatch(Cause.pretty(Cause.fail(error)).split("\n")[0] ?? "", /[\p{Cc}\p{Cf}]/u)
          assert.strictEqual(error.response, nasty)
        }
      }
    }
  })

  it("is a WireError where nothing was refused by stage", () => {
    const error: SmtpError.WireError = SmtpError.classifyWire({ _tag: "Closed" }, { stage: "NOOP" })
    assert.deepStrictEqual([error._tag, error.command], ["ECONNECTION", "NOOP"])
  })
})

describe("a Cause", () => {
  it("gives its first SmtpError", () => {
    const other = Cause.fail("other")
    const first = Cause.fail(plain.EAUTH)
    assert.strictEqual(SmtpError.fromCause(first), plain.EAUTH)
    assert.strictEqual(
      SmtpError.fromCause(Cause.combine(Cause.combine(other, first), Cause.fail(plain.ETLS))),
      plain.EAUTH
    )
    assert.isUndefined(SmtpError.fromCause(Cause.combine(other, Cause.die(plain.EAUTH))))
    assert.isUndefined(SmtpError.fromCause(Cause.interrupt(1)))
  })

  it.effect("of an interruption can say what became of the message", () =>
    Effect.gen(function*() {
      const reply = SmtpReply.make(250, "queued")
      const outcome = Context.make(SmtpError.Outcome, { inDoubt: false, reply })
      const exit = yield* Effect.exit(Effect.failCause(Cause.annotate(Cause.interrupt(1), outcome)))
      const cause = exit._tag === "Failure" ? exit.cause : Cause.empty
      assert.isTrue(Cause.hasInterruptsOnly(cause))
      assert.deepStrictEqual(Context.getOrUndefined(Cause.annotations(cause), SmtpError.Outcome), {
        inDoubt: false,
        reply
      })
      assert.isUndefined(Context.getOrUndefined(Cause.annotations(Cause.interrupt(1)), SmtpError.Outcome))
    }))
})
