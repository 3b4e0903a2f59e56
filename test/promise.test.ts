import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { createReadStream } from "node:fs"
import { Readable } from "node:stream"
import * as settings from "../src/internal/promise/settings.ts"
import * as NodeSmtpServer from "../src/node/NodeSmtpServer.ts"
import { createTransport, type Mail, type Options, SendAborted, type Settled, type Transport } from "../src/promise.ts"
import * as Sasl from "../src/Sasl.ts"
import * as SmtpConnector from "../src/SmtpConnector.ts"
import * as SmtpError from "../src/SmtpError.ts"
import { SmtpServer } from "../src/testing/index.ts"
import { assertHidden } from "./support/secrets.ts"

const envelope = { from: "ann@me.test", to: "bob@mx.test" }
const host = "mx.test"

interface Place {
  readonly transport: Transport
  readonly server: SmtpServer.SmtpServer["Service"]
}

/** One command at a time: an abort between two of them finds the message still here. */
const extensions = { chunking: false, pipelining: false }

/** A transport to a fake server, on the clock of the test. */
const withTransport = <A, E, R>(
  script: SmtpServer.Script,
  options: Options,
  test: (place: Place) => Effect.Effect<A, E, R>
) =>
  Effect.gen(function*() {
    const services = yield* Layer.build(SmtpServer.layer({ extensions, ...script }))
    const clock = yield* Effect.context<never>()
    const connector = Layer.succeedContext(Context.merge(clock, services))
    const transport = yield* Effect.acquireRelease(
      Effect.sync(() => createTransport({ host, connector, ...options })),
      (one) => Effect.promise(() => one.close({ signal: AbortSignal.abort() }))
    )
    return yield* test({ transport, server: Context.get(services, SmtpServer.SmtpServer) })
  })

/** What a promise rejects with. */
const rejection = (promise: Promise<unknown>): Effect.Effect<unknown> =>
  Effect.promise(() =>
    promise.then(
      () => {
        throw new Error("it did not reject")
      },
      (reason: unknown) => reason
    )
  )

const aborter = () => new AbortController()

const thrown = (call: () => unknown): unknown => {
  const exit = Effect.runSyncExit(Effect.sync(call))
  return Exit.isFailure(exit) ? (exit.cause.reasons[0] as { readonly defect: unknown }).defect : undefined
}

const collect = async (results: AsyncIterable<Settled>): Promise<ReadonlyArray<Settled>> => {
  const all: Array<Settled> = []
  for await (const one of results) all.push(one)
  return all
}

/** A list of mails of which the test sees how much was pulled. */
const mailsOf = (...texts: ReadonlyArray<string>) => {
  const pulled: Array<string> = []
  const mails = function*(): Generator<Mail> {
    for (const text of texts) {
      pulled.push(text)
      yield { envelope, message: text }
    }
  }
  return { pulled, mails: mails() }
}

/** Until a step of the dialogue was reached. */
const reached = (server: Place["server"], verb: string): Effect.Effect<void> =>
  Effect.gen(function*() {
    while (!(yield* server.transcript).some(({ from, text }) => from === "client" && text.startsWith(verb))) {
      yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
    }
  })

/** Lets the clock of the test pass until a promise has settled. */
const driving = <A>(promise: Promise<A>) =>
  Effect.gen(function*() {
    const fiber = yield* Effect.forkChild(Effect.promise(() => promise), { startImmediately: true })
    while (fiber.pollUnsafe() === undefined) {
      yield* TestClock.adjust("100 millis")
      yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
    }
    return yield* Fiber.join(fiber)
  })

describe("createTransport", () => {
  it("reads a URL, and connects to nothing", () => {
    assert.isFunction(createTransport("smtps://ann:secret@mx.test?name=me.test").send)
    assert.isFunction(createTransport(new URL("smtp://mx.test")).close)
  })

  const rows: ReadonlyArray<readonly [name: string, input: unknown, field: string]> = [
    ["nothing", undefined, "options"],
    ["no object", 7, "options"],
    ["no URL", "mx.test", "url"],
    ["options that contradict each other", { host, tls: "off", tlsOptions: {} }, "options.tlsOptions"],
    ["an option out of range", { host, port: 0 }, "options.port"],
    ["credentials in clear", { host, tls: "off", auth: { username: "ann", password: "x" } }, "options.auth"],
    ["Nodemailer's user and pass", { host, auth: { user: "ann", pass: "x" } }, "options.auth"],
    ["a user alone", { host, auth: { username: "ann" } }, "options.auth"],
    ["a password and a token", { host, auth: { username: "ann", password: "x", token: "y" } }, "options.auth"],
    ["no credentials at all", { host, auth: null }, "options.auth"],
    ["an empty password", { host, auth: { username: "ann", password: "" } }, "options.auth.password"],
    ["a token that is no text", { host, auth: { username: "ann", token: 7 } }, "options.auth.token"],
    ["TLS options that are none", { host, tlsOptions: "strict" }, "options.tlsOptions"],
    ["a fallback that is no list", { host, fallback: { host } }, "options.fallback"],
    ["a fallback that is no object", { host, fallback: ["mx2.test"] }, "options.fallback[0]"],
    ["a fallback's credentials", { host, fallback: [{}, { auth: {} }] }, "options.fallback[1].auth"],
    ["another option beside a bad URL", { url: "smtp://u@mx.test", port: 25 }, "url"]
  ]
  it.each(rows)("throws an ECONFIG for %s", (_, input, field) => {
    const error = thrown(() => createTransport(input as Options))
    assert.instanceOf(error, SmtpError.ECONFIG)
    assert.deepInclude(error, { field, command: "API", attempted: false })
  })

  it("puts no secret into its error", () => {
    const error = thrown(() => createTransport({ host, auth: { username: "ann", password: "hunter2" }, tls: "off" }))
    assertHidden(JSON.stringify(error), "hunter2")
  })

  it.effect("lets an option win over its URL, and leaves out what is undefined", () =>
    withTransport(
      {},
      { host: undefined, url: "smtp://mx.test?name=url.test", name: "own.test" },
      (place) =>
        Effect.gen(function*() {
          const { security } = yield* Effect.promise(() => place.transport.verify())
          assert.strictEqual(Option.getOrThrow(security).identity, "mx.test")
          assert.deepStrictEqual((yield* place.server.connections).map(({ helo }) => helo), ["own.test"])
        })
    ))

  it("decides the port by the URL and what stands beside it together", () => {
    const port = (options: Options) => Result.getOrThrow(settings.resolve(options)).options.port
    const auth = { username: "ann", password: "secret" }
    assert.strictEqual(port({ url: "smtp://ann:pw@mx.test" }), 587)
    assert.strictEqual(port({ url: "smtp://mx.test", auth }), 587)
    assert.isUndefined(port({ url: "smtp://ann:pw@mx.test", tls: "implicit" }))
    assert.isUndefined(port({ host, auth }))
  })

  it.effect("lets what else the connector provides hold for each call", () =>
    Effect.gen(function*() {
      const lines: Array<string> = []
      const logger = Logger.make<unknown, void>(({ message }) => {
        lines.push(String(message))
      })
      const connector = Layer.merge(SmtpServer.layer(), Logger.layer([logger]))
      const transport = createTransport({ host, connector, transcript: "commands" })
      yield* Effect.promise(() => transport.verify())
      yield* Effect.promise(() => transport.close())
      assert.isTrue(lines.some((line) => line.includes("EHLO")))
    }))
})

describe("auth", () => {
  const accounts = { ann: "secret" }
  const loginWith = (auth: Options["auth"], script: SmtpServer.Script = { accounts }) =>
    withTransport(script, { auth }, ({ server, transport }) =>
      Effect.gen(function*() {
        const report = yield* Effect.promise(() => transport.verify())
        assert.isTrue(report.authenticated)
        return (yield* server.connections)[0]?.username
      }))

  const forms: ReadonlyArray<readonly [string, Options["auth"]]> = [
    ["a plain password", { username: "ann", password: "secret" }],
    ["a redacted one", { username: "ann", password: Redacted.make("secret") }],
    ["a function", { username: "ann", password: () => "secret" }],
    ["a function that promises", { username: "ann", password: () => Promise.resolve("secret") }],
    ["credentials of Sasl", Sasl.password({ username: "ann", password: Redacted.make("secret") })],
    ["a token", { username: "ann", token: "secret" }]
  ]
  it.effect.each(forms)("takes %s", ([, auth]) =>
    Effect.gen(function*() {
      assert.strictEqual(yield* loginWith(auth), "ann")
    }))

  it.effect("carries an authorization identity", () =>
    withTransport(
      {},
      { auth: { username: "ann", password: "x", authorizationId: "bob" }, mechanisms: ["PLAIN"] },
      (place) =>
        Effect.gen(function*() {
          yield* Effect.promise(() => place.transport.verify())
          const line = (yield* place.server.transcript).find(({ text }) => text.startsWith("AUTH PLAIN "))
          assert.strictEqual(Buffer.from(line!.text.slice(11), "base64").toString(), "bob\0ann\0x")
        })
    ))

  it.effect("asks a function at each login, and tells it the token that was refused", () =>
    Effect.gen(function*() {
      const asked: Array<string | undefined> = []
      const token = (refused: string | undefined) => {
        asked.push(refused)
        return refused === undefined ? "stale" : "secret"
      }
      assert.strictEqual(yield* loginWith({ username: "ann", token }), "ann")
      assert.deepStrictEqual(asked, [undefined, "stale"])
    }))

  const broken: ReadonlyArray<readonly [string, () => string | Promise<string>, string]> = [
    ["throws", () => {
      throw new TypeError("hunter2")
    }, "(TypeError)"],
    ["rejects", () => Promise.reject(new Error("hunter2")), "(Error)"],
    ["rejects with no error", () => Promise.reject("hunter2"), "failed"],
    ["gives nothing", () => "", "gave no string"]
  ]
  it.effect.each(broken)(
    "that %s ends in EOAUTH2 without what was said",
    ([, token, words]) =>
      withTransport({}, { auth: { username: "ann", token } }, ({ transport }) =>
        Effect.gen(function*() {
          const error = yield* rejection(transport.verify())
          assert.instanceOf(error, SmtpError.EOAUTH2)
          assert.include(error.message, words)
          assertHidden(JSON.stringify(error), "hunter2")
        }))
  )

  it.effect("keeps an EOAUTH2 that the function rejects with", () =>
    Effect.gen(function*() {
      const own = new SmtpError.EOAUTH2({ message: "no token", command: "AUTH", temporary: true })
      const auth = { username: "ann", token: () => Promise.reject(own) }
      const error = yield* withTransport({}, { auth }, ({ transport }) => rejection(transport.verify()))
      assert.strictEqual(error, own)
    }))
})

describe("policies", () => {
  it.effect("hold for every call, with the plain secrets of each server", () =>
    withTransport(
      {
        accounts: { ann: "secret", eve: "other" },
        faults: [SmtpServer.at("greeting", SmtpServer.answer(421, "4.3.2 busy"), { connection: 1 })]
      },
      {
        auth: { username: "ann", password: "secret" },
        fallback: [{ host: "mx2.test", auth: { username: "eve", password: "other" } }]
      },
      ({ server, transport }) =>
        Effect.gen(function*() {
          yield* Effect.promise(() => transport.send(envelope, "Subject: x\n\n"))
          assert.deepStrictEqual((yield* server.connections).map(({ username }) => username), [undefined, "eve"])
        })
    ))

  it.effect("that are wrong reject each call with ECONFIG", () =>
    withTransport({}, { timeout: "soon" as "1 second" }, ({ transport }) =>
      Effect.gen(function*() {
        for (const call of [() => transport.verify(), () => transport.send(envelope, "x")]) {
          const error = yield* rejection(call())
          assert.instanceOf(error, SmtpError.ECONFIG)
          assert.strictEqual(error.field, "options.timeout")
        }
      })))
})

describe("tlsOptions", () => {
  it.effect("reach the connector with a key and a passphrase that are redacted", () =>
    Effect.gen(function*() {
      const seen: Array<SmtpConnector.TlsOptions> = []
      const connector = Layer.effect(
        SmtpConnector.SmtpConnector,
        Effect.map(SmtpConnector.SmtpConnector, (inner) =>
          SmtpConnector.SmtpConnector.of({
            ...inner,
            connect: (target) =>
              Effect.map(inner.connect(target), (duplex) => ({
                ...duplex,
                upgrade: (tls) => {
                  seen.push(tls.options)
                  return duplex.upgrade(tls)
                }
              }))
          }))
      ).pipe(Layer.provide(SmtpServer.layer()))
      const tlsOptions = { key: "a key", passphrase: Redacted.make("words") }
      const transport = createTransport({ host, connector, tlsOptions })
      yield* Effect.promise(() => transport.verify())
      yield* Effect.promise(() => transport.close())
      assert.deepStrictEqual(seen.map(({ key, passphrase }) => [Redacted.value(key!), Redacted.value(passphrase!)]), [
        ["a key", "words"]
      ])
    }))
})

const octets = (text: string) => new TextEncoder().encode(text)

const generator = async function*(...chunks: ReadonlyArray<Uint8Array | string>) {
  yield* chunks
}

describe("send", () => {
  const text = "Subject: Hi\r\n\r\nHello\r\n"
  const messages: ReadonlyArray<readonly [string, () => Parameters<Transport["send"]>[1]]> = [
    ["a string", () => text],
    ["octets", () => octets(text)],
    ["a Node stream", () => Readable.from([Buffer.from(text.slice(0, 9)), Buffer.from(text.slice(9))])],
    ["a web stream of octets", () => new Blob([text]).stream()],
    ["a web stream of text", () => new Blob([text]).stream().pipeThrough(new TextDecoderStream())],
    ["an async generator", () => generator(text.slice(0, 9), octets(text.slice(9)))],
    ["an Effect stream", () => Stream.make(text.slice(0, 9), octets(text.slice(9)))]
  ]
  it.effect.each(messages)(
    "takes %s",
    ([, message]) =>
      withTransport({}, {}, ({ server, transport }) =>
        Effect.gen(function*() {
          const result = yield* Effect.promise(() => transport.send(envelope, message()))
          assert.deepStrictEqual(result.accepted, ["bob@mx.test"])
          assert.strictEqual((yield* server.received)[0]?.text, text)
        }))
  )

  it.effect("rejects with the error itself", () =>
    withTransport(
      { faults: [SmtpServer.at("rcpt", SmtpServer.answer(550, "5.1.1 no"))] },
      {},
      ({ transport }) =>
        Effect.gen(function*() {
          const error = yield* rejection(transport.send(envelope, text))
          assert.instanceOf(error, SmtpError.EENVELOPE)
          assert.deepInclude(
            { code: error.code, enhanced: error.enhancedCode },
            { code: "EENVELOPE", enhanced: "5.1.1" }
          )
        })
    ))

  it.effect("rejects with the failure of an Effect stream", () =>
    withTransport({}, {}, ({ transport }) =>
      Effect.gen(function*() {
        assert.strictEqual(yield* rejection(transport.send(envelope, Stream.fail("mine"))), "mine")
      })))

  const wrong: ReadonlyArray<readonly [string, unknown]> = [["undefined", undefined], ["null", null], ["an object", {}]]
  it.effect.each(wrong)(
    "refuses %s as a message, by name",
    ([, message]) =>
      withTransport({}, {}, ({ server, transport }) =>
        Effect.gen(function*() {
          const error = yield* rejection(transport.send(envelope, message as string))
          assert.instanceOf(error, SmtpError.EMESSAGE)
          assert.deepInclude(error, { field: "message", attempted: false })
          assert.deepStrictEqual(yield* server.connections, [])
        }))
  )

  const own = new SmtpError.ESTREAM({ message: "mine", command: "DATA" })
  const failing: ReadonlyArray<readonly [string, () => AsyncIterable<string>, string]> = [
    ["throws", async function*() {
      yield "Subject: x\n\n"
      throw new Error("disk\u001b")
    }, "its source failed: disk\\u{1b}"],
    ["throws no error", () => ({ [Symbol.asyncIterator]: () => ({ next: () => Promise.reject(7) }) }), "see cause"],
    ["cannot be opened", () => ({
      [Symbol.asyncIterator]: () => {
        throw new Error("locked")
      }
    }), "locked"],
    ["throws an ESTREAM", async function*() {
      yield "Subject: x\n\n"
      throw own
    }, "mine"]
  ]
  it.effect.each(failing)(
    "ends in ESTREAM when a source %s",
    ([, message, words]) =>
      withTransport({}, {}, ({ server, transport }) =>
        Effect.gen(function*() {
          const error = yield* rejection(transport.send(envelope, message()))
          assert.instanceOf(error, SmtpError.ESTREAM)
          assert.include(error.message, words)
          assert.isFalse(error.isTemporary)
          assert.deepStrictEqual(yield* server.received, [])
        }))
  )

  it.effect("ends in ESTREAM when a file is not there, and the process lives on", () =>
    withTransport({}, {}, ({ transport }) =>
      Effect.gen(function*() {
        const error = yield* rejection(transport.send(envelope, createReadStream("/nowhere/at/all.eml")))
        assert.instanceOf(error, SmtpError.ESTREAM)
        assert.strictEqual((error.cause as NodeJS.ErrnoException).code, "ENOENT")
      })))

  it.effect("ends in ESTREAM when a Node stream fails before anybody reads it", () =>
    withTransport(
      { faults: [SmtpServer.at("connect", SmtpServer.delay("1 second"))] },
      {},
      ({ transport }) =>
        Effect.gen(function*() {
          const message = new Readable({ read: () => {} })
          const sent = transport.send(envelope, message).catch((error: unknown) => error)
          message.destroy(new Error("unplugged"))
          const error = yield* driving(sent)
          assert.instanceOf(error, SmtpError.ESTREAM)
          assert.include(error.message, "unplugged")
        })
    ))

  const once: ReadonlyArray<readonly [string, () => Parameters<Transport["send"]>[1]]> = [
    ["an async generator", () => generator(text)],
    ["a web stream", () => new Blob([text]).stream()],
    ["a Node stream", () => Readable.from([text])]
  ]
  it.effect.each(once)(
    "ends in ESTREAM when %s is sent again",
    ([, open]) =>
      withTransport({}, {}, ({ server, transport }) =>
        Effect.gen(function*() {
          const message = open()
          yield* Effect.promise(() => transport.send(envelope, message))
          const error = yield* rejection(transport.send(envelope, message))
          assert.instanceOf(error, SmtpError.ESTREAM)
          assert.include(error.message, "one-shot source")
          assert.strictEqual((yield* server.received).length, 1)
        }))
  )

  it.effect("takes a source that begins anew each time as often as it comes", () =>
    withTransport({}, {}, ({ server, transport }) =>
      Effect.gen(function*() {
        const message = { [Symbol.asyncIterator]: () => generator(text) }
        yield* Effect.promise(() => transport.send(envelope, message))
        yield* Effect.promise(() => transport.send(envelope, message))
        assert.deepStrictEqual((yield* server.received).map((mail) => mail.text), [text, text])
      })))

  it.effect("frees a Node stream that was never read", () =>
    withTransport({}, {}, ({ transport }) =>
      Effect.gen(function*() {
        const message = Readable.from([text])
        assert.instanceOf(
          yield* rejection(transport.send({ from: "", to: "nobody" }, message)),
          SmtpError.EENVELOPE
        )
        assert.isTrue(message.destroyed)
      })))

  it.live("goes over real sockets by default", () =>
    Effect.gen(function*() {
      const server = yield* NodeSmtpServer.NodeSmtpServer
      const transport = createTransport({
        host: server.host,
        port: server.port,
        servername: "localhost",
        tlsOptions: { ca: server.ca },
        auth: { username: "ann", password: "secret" },
        timeouts: { command: 60_000, total: "1 minute" }
      })
      const result = yield* Effect.promise(() => transport.send(envelope, text))
      yield* Effect.promise(() => transport.close())
      assert.deepStrictEqual(result.accepted, ["bob@mx.test"])
      assert.strictEqual((yield* server.received)[0]?.username, "ann")
    }).pipe(Effect.provide(NodeSmtpServer.layerLoopback({ script: { accounts: { ann: "secret" } } }))))
})

describe("a send that is aborted", () => {
  const text = "Subject: Hi\n\nHello\n"
  const reason = new Error("the request is over")

  it.effect("before it begins says and dials nothing, and frees its stream", () =>
    withTransport({}, {}, ({ server, transport }) =>
      Effect.gen(function*() {
        const message = Readable.from([text])
        const sent = transport.send(envelope, message, { signal: AbortSignal.abort(reason) })
        assert.strictEqual(yield* rejection(sent), reason)
        assert.isTrue(message.destroyed)
        assert.deepStrictEqual(yield* server.connections, [])
      })))

  const early: ReadonlyArray<readonly [SmtpServer.Step, string]> = [
    ["ehlo", "EHLO"],
    ["mail", "MAIL"],
    ["rcpt", "RCPT"],
    ["data", "DATA"]
  ]
  it.effect.each(early)(
    "at %s rejects with the signal's reason",
    ([step, verb]) =>
      withTransport(
        { faults: [SmtpServer.at(step, SmtpServer.silence)] },
        {},
        ({ server, transport }) =>
          Effect.gen(function*() {
            const controller = aborter()
            const sent = rejection(transport.send(envelope, text, { signal: controller.signal }))
            const fiber = yield* Effect.forkChild(sent, { startImmediately: true })
            yield* reached(server, verb)
            controller.abort(reason)
            assert.strictEqual(yield* Fiber.join(fiber), reason)
            yield* server.awaitClosed
            assert.deepStrictEqual(yield* server.received, [])
          })
      )
  )

  it.effect("while a source gives nothing rejects with the reason, and waits for no end of the source", () =>
    withTransport({}, {}, ({ server, transport }) =>
      Effect.gen(function*() {
        const controller = aborter()
        let isEnded = false
        const message: AsyncIterable<string> = {
          [Symbol.asyncIterator]: () => ({
            next: () => new Promise(() => {}),
            return: () => {
              isEnded = true
              return new Promise(() => {})
            }
          })
        }
        const sent = rejection(transport.send(envelope, message, { signal: controller.signal }))
        const fiber = yield* Effect.forkChild(sent, { startImmediately: true })
        yield* reached(server, "DATA")
        controller.abort(reason)
        assert.strictEqual(yield* Fiber.join(fiber), reason)
        assert.isTrue(isEnded)
      })))

  const after = Effect.fnUntraced(function*(place: Place) {
    const controller = aborter()
    const sent = place.transport.send(envelope, text, { signal: controller.signal })
    yield* place.server.awaitReceived(1)
    controller.abort(reason)
    return yield* driving(sent.then((value) => ({ value }), (error: unknown) => ({ error })))
  })

  it.effect("after the message is in doubt when no answer comes", () =>
    withTransport({ faults: [SmtpServer.at("message", SmtpServer.silence)] }, {}, (place) =>
      Effect.gen(function*() {
        const { error } = (yield* after(place)) as { readonly error: unknown }
        assert.instanceOf(error, SendAborted)
        assert.deepInclude(error, { name: "AbortError", code: "ABORT_ERR", inDoubt: true, reply: undefined })
        assert.strictEqual(error.cause, reason)
        assert.include(error.message, "in doubt")
        assert.isFalse(SmtpError.isRetryable(error))
      })))

  it.effect("after the message has the answer that came in time", () =>
    withTransport(
      { faults: [SmtpServer.at("message", SmtpServer.delay("200 millis"))] },
      {},
      (place) =>
        Effect.gen(function*() {
          const { error } = (yield* after(place)) as { readonly error: unknown }
          assert.instanceOf(error, SendAborted)
          assert.isFalse(error.inDoubt)
          assert.strictEqual(error.reply?.code, 250)
          assert.include(error.message, "the server answered 250")
        })
    ))

  it.effect("after the answer is too late: nobody waits for QUIT", () =>
    withTransport(
      { faults: [SmtpServer.at("quit", SmtpServer.silence)] },
      { pool: { maxMessages: 1 } },
      ({ server, transport }) =>
        Effect.gen(function*() {
          assert.deepStrictEqual((yield* Effect.promise(() => transport.send(envelope, text))).accepted, [
            "bob@mx.test"
          ])
          yield* reached(server, "QUIT")
          yield* driving(transport.close())
        })
    ))
})

describe("verify", () => {
  it.effect("tells what it saw, and sends nothing", () =>
    withTransport({}, { auth: { username: "ann", password: "x" } }, ({ server, transport }) =>
      Effect.gen(function*() {
        const report = yield* Effect.promise(() => transport.verify())
        assert.deepInclude(report, { secure: true, authenticated: true })
        assert.deepStrictEqual(yield* server.received, [])
      })))

  it.effect("ends when it is aborted", () =>
    withTransport(
      { faults: [SmtpServer.at("connect", SmtpServer.silence)] },
      {},
      ({ transport }) =>
        Effect.gen(function*() {
          const controller = aborter()
          const report = transport.verify({ signal: controller.signal })
          controller.abort("enough")
          assert.strictEqual(yield* rejection(report), "enough")
        })
    ))
})

describe("close", () => {
  const text = "Subject: Hi\n\nHello\n"
  const refusesEverything = Effect.fnUntraced(function*({ transport }: Place) {
    const calls = [
      transport.send(envelope, text),
      transport.verify(),
      collect(transport.sendAll([{ envelope, message: text }]))
    ]
    for (const call of calls) {
      const error = yield* rejection(call)
      assert.instanceOf(error, SmtpError.ECONNECTION)
      assert.deepInclude(error, { command: "API", attempted: false })
    }
  })

  it.effect("waits for what runs, refuses what comes, and leaves no connection", () =>
    withTransport(
      { faults: [SmtpServer.at("message", SmtpServer.delay("10 seconds"))] },
      {},
      (place) =>
        Effect.gen(function*() {
          const { server, transport } = place
          let isClosed = false
          const sent = transport.send(envelope, text)
          yield* server.awaitReceived(1)
          const closing = transport.close().then(() => {
            isClosed = true
          })
          yield* refusesEverything(place)
          yield* TestClock.adjust("5 seconds")
          assert.isFalse(isClosed)
          assert.deepStrictEqual((yield* driving(sent)).accepted, ["bob@mx.test"])
          yield* driving(closing)
          yield* server.awaitClosed
          yield* refusesEverything(place)
          yield* Effect.promise(() => transport.close())
        })
    ))

  it.effect("is what await using does", () =>
    withTransport({}, {}, (place) =>
      Effect.gen(function*() {
        yield* Effect.promise(async () => {
          await using transport = place.transport
          await transport.verify()
        })
        yield* refusesEverything(place)
      })))

  it.effect("ends what runs when its signal comes, each call with what is known of it", () =>
    withTransport(
      {
        faults: [
          SmtpServer.at("data", SmtpServer.silence, { connection: 1 }),
          SmtpServer.at("message", SmtpServer.silence, { connection: 2 })
        ]
      },
      {},
      ({ server, transport }) =>
        Effect.gen(function*() {
          const first = rejection(transport.send(envelope, text))
          const firstFiber = yield* Effect.forkChild(first, { startImmediately: true })
          yield* reached(server, "DATA")
          const second = rejection(transport.send(envelope, text))
          const secondFiber = yield* Effect.forkChild(second, { startImmediately: true })
          yield* server.awaitReceived(1)
          const controller = aborter()
          const closing = transport.close({ signal: controller.signal })
          controller.abort()
          yield* driving(closing)
          const early = yield* Fiber.join(firstFiber)
          assert.instanceOf(early, SmtpError.ECONNECTION)
          assert.deepInclude(early, { command: "API", attempted: true, inDoubt: false })
          const late = yield* Fiber.join(secondFiber)
          assert.instanceOf(late, SendAborted)
          assert.isTrue(late.inDoubt)
          assert.instanceOf(late.cause, SmtpError.ECONNECTION)
        })
    ))
})

describe("sendAll", () => {
  const refusing: SmtpServer.Script = {
    respond: { rcpt: ({ path }) => (path === "no@mx.test" ? SmtpServer.reply(550, "5.1.1 no") : undefined) }
  }
  const said = (settled: Settled): string =>
    settled.status === "fulfilled"
      ? settled.value.response
      : String((settled.reason as Error).message ?? settled.reason)

  it.effect("gives one result for each mail, in order, whatever it was", () =>
    withTransport(refusing, {}, ({ transport }) =>
      Effect.gen(function*() {
        const mails = [
          { envelope, message: "one" },
          { envelope: { from: "", to: "no@mx.test" }, message: "two" },
          null as unknown as Mail,
          { envelope, message: generator("four") }
        ]
        const results = yield* Effect.promise(() => collect(transport.sendAll(mails)))
        assert.deepStrictEqual(results.map(({ status }) => status), ["fulfilled", "rejected", "rejected", "fulfilled"])
        const reasons = results.flatMap((one) => (one.status === "rejected" ? [one.reason] : []))
        assert.deepStrictEqual(reasons.map((error) => (error as SmtpError.SmtpError).code), ["EENVELOPE", "EMESSAGE"])
      })))

  it.effect("takes an async iterable, and pulls a mail when it is asked for one", () =>
    withTransport({}, {}, ({ transport }) =>
      Effect.gen(function*() {
        const { mails, pulled } = mailsOf("one", "two", "three")
        const list = async function*() {
          yield* mails
        }
        const results = transport.sendAll(list())[Symbol.asyncIterator]()
        assert.deepStrictEqual(pulled, [])
        yield* Effect.promise(() => results.next())
        assert.deepStrictEqual(pulled, ["one"])
        yield* Effect.promise(() => results.next())
        yield* Effect.promise(() => results.next())
        assert.isTrue((yield* Effect.promise(() => results.next())).done)
      })))

  it.effect("keeps the order of mails that are on their way together", () =>
    withTransport(
      { faults: [SmtpServer.at("message", SmtpServer.delay("1 second"), { connection: 1 })] },
      {},
      (place) =>
        Effect.gen(function*() {
          const { mails } = mailsOf("one", "two", "three")
          const all = collect(place.transport.sendAll(mails, { concurrency: 2 }))
          yield* place.server.awaitReceived(2)
          assert.strictEqual((yield* place.server.connections).length, 2)
          const results = yield* driving(all)
          assert.deepStrictEqual(results.map(({ status }) => status), ["fulfilled", "fulfilled", "fulfilled"])
          const stored = (yield* place.server.received).map(({ text }) => text.trim())
          assert.deepStrictEqual(stored.toSorted(), ["one", "three", "two"])
        })
    ))

  it.effect.each([0, 1.5, Infinity, Number.NaN])(
    "refuses a concurrency of %s",
    (concurrency) =>
      withTransport({}, {}, ({ transport }) =>
        Effect.sync(() => {
          const error = thrown(() => transport.sendAll([], { concurrency }))
          assert.instanceOf(error, SmtpError.ECONFIG)
          assert.strictEqual(error.field, "concurrency")
        }))
  )

  /** The results until the iteration throws, and what it throws. */
  const both = async (iterable: AsyncIterable<Settled>) => {
    const results: Array<Settled> = []
    const error: unknown = await (async () => {
      for await (const one of iterable) results.push(one)
    })().then(() => undefined, (reason: unknown) => reason)
    return { error, results }
  }

  it.effect("gives what was begun before the error of its list", () =>
    withTransport({}, {}, ({ transport }) =>
      Effect.gen(function*() {
        const broken = new Error("the database is gone")
        const list = function*() {
          yield { envelope, message: "one" }
          yield { envelope, message: "two" }
          throw broken
        }
        const { error, results } = yield* Effect.promise(() => both(transport.sendAll(list(), { concurrency: 2 })))
        assert.strictEqual(error, broken)
        assert.deepStrictEqual(results.map(said), ["2.0.0 queued as 1", "2.0.0 queued as 2"])
      })))

  it.effect("throws what opening its list throws", () =>
    withTransport({}, {}, ({ transport }) =>
      Effect.gen(function*() {
        const { error } = yield* Effect.promise(() => both(transport.sendAll(7 as unknown as Iterable<Mail>)))
        assert.instanceOf(error, TypeError)
      })))

  it.effect("that is aborted pulls no more, tells of each mail that was begun, and throws the reason", () =>
    withTransport(
      { faults: [SmtpServer.at("message", SmtpServer.silence, { connection: 2 })] },
      {},
      (place) =>
        Effect.gen(function*() {
          const controller = aborter()
          const { mails, pulled } = mailsOf("one", "two", "three")
          const all = both(place.transport.sendAll(mails, { signal: controller.signal }))
          yield* place.server.awaitReceived(2)
          controller.abort("enough")
          const { error, results } = yield* driving(all)
          assert.strictEqual(error, "enough")
          assert.deepStrictEqual(results.map(({ status }) => status), ["fulfilled", "rejected"])
          assert.instanceOf((results[1] as { readonly reason: unknown }).reason, SendAborted)
          assert.deepStrictEqual(pulled, ["one", "two"])
        })
    ))

  it.effect("that is aborted does not wait for a list that gives nothing", () =>
    withTransport({}, {}, ({ transport }) =>
      Effect.gen(function*() {
        const controller = aborter()
        const list: AsyncIterable<Mail> = {
          [Symbol.asyncIterator]: () => ({ next: () => new Promise(() => {}) })
        }
        const all = both(transport.sendAll(list, { signal: controller.signal }))
        controller.abort("enough")
        assert.deepStrictEqual(yield* Effect.promise(() => all), { error: "enough", results: [] })
      })))

  it.effect("that is left early aborts what is on its way, and ends its list", () =>
    withTransport(
      { faults: [SmtpServer.at("data", SmtpServer.silence, { connection: 2 })] },
      {},
      (place) =>
        Effect.gen(function*() {
          let isEnded = false
          const list = function*() {
            try {
              yield* mailsOf("one", "two", "three").mails
            } finally {
              isEnded = true
            }
          }
          const results = place.transport.sendAll(list(), { concurrency: 2 })[Symbol.asyncIterator]()
          yield* Effect.promise(() => results.next())
          // No time passes: nothing waits for what the server owes.
          yield* Effect.promise(() => results.return!())
          assert.isTrue(isEnded)
          yield* Effect.promise(() => place.transport.close())
          yield* place.server.awaitClosed
          assert.notInclude((yield* place.server.received).map(({ text }) => text.trim()), "two")
        })
    ))

  it.effect("ends when the transport is closed, with what was begun", () =>
    withTransport(
      { faults: [SmtpServer.at("message", SmtpServer.delay("1 second"))] },
      {},
      (place) =>
        Effect.gen(function*() {
          const { mails, pulled } = mailsOf("one", "two")
          const all = both(place.transport.sendAll(mails, { signal: aborter().signal }))
          yield* place.server.awaitReceived(1)
          const closing = place.transport.close()
          const { error, results } = yield* driving(all)
          yield* driving(closing)
          assert.instanceOf(error, SmtpError.ECONNECTION)
          assert.deepInclude(error, { command: "API", attempted: false })
          assert.deepStrictEqual(results.map(said), ["2.0.0 queued as 1"])
          assert.deepStrictEqual(pulled, ["one"])
        })
    ))
})
