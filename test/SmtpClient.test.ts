import { assert, describe, it } from "@effect/vitest"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as Tracer from "effect/Tracer"
import type * as Envelope from "../src/Envelope.ts"
import * as Sasl from "../src/Sasl.ts"
import * as SmtpClient from "../src/SmtpClient.ts"
import * as SmtpConnection from "../src/SmtpConnection.ts"
import * as SmtpConnector from "../src/SmtpConnector.ts"
import * as SmtpError from "../src/SmtpError.ts"
import { SmtpServer } from "../src/testing/index.ts"
import { flights, grouped, inTurn, type Mode, open } from "./support/modes.ts"
import { assertHidden } from "./support/secrets.ts"
import { makeTracer } from "./support/spans.ts"

const { SmtpClient: Client } = SmtpClient
const options: SmtpClient.Options = { host: "mx.test", name: "me.test" }
const envelope: Envelope.Input = { from: "ann@me.test", to: "bob@mx.test" }
const server = SmtpServer.SmtpServer

/** As a program in production has them: submission, STARTTLS, and a login. */
const production: SmtpClient.Options = {
  host: "smtp.example.com",
  port: 587,
  tls: "starttls",
  auth: Sasl.password({ username: "app", password: Redacted.make("hunter2") })
}

/** Runs a test with a client and the fake server that it leads to; afterwards no connection is left open. */
const withClient = <A, E>(
  script: SmtpServer.Script,
  test: Effect.Effect<
    A,
    E,
    SmtpClient.SmtpClient | SmtpServer.SmtpServer | SmtpConnector.SmtpConnector | Scope.Scope
  >,
  given: SmtpClient.Options = options
) =>
  Effect.gen(function*() {
    const result = yield* test.pipe(Effect.provide(SmtpClient.layer(given)), Effect.scoped)
    yield* (yield* server).awaitClosed
    return result
  }).pipe(Effect.provide(SmtpServer.layer(script)))

/** How many connections there were. */
const connections = Effect.gen(function*() {
  return (yield* (yield* server).connections).length
})

const verbs = Effect.gen(function*() {
  const lines = (yield* (yield* server).transcript).filter(({ from }) => from === "client")
  return lines.map(({ text }) => text.split(" ", 1)[0])
})

class Source extends Context.Service<Source, string>()("test/Source") {}
class Broken {
  readonly _tag = "Broken"
}

describe("send", () => {
  it.effect.each([inTurn, flights])(
    "opens a connection, which the next goes over, and which says QUIT when the layer ends, $name",
    ({ options: given, via }) =>
      Effect.gen(function*() {
        yield* Effect.provide(
          Effect.gen(function*() {
            const smtp = yield* Client
            const result = yield* smtp.send(envelope, "hi\n")
            assert.deepStrictEqual(result.accepted, ["bob@mx.test"])
            assert.strictEqual(result.messageSize, 4)
            yield* smtp.send(envelope, "hi\n")
          }),
          SmtpClient.layer({ ...options, ...given })
        )
        yield* (yield* server).awaitClosed
        const one = ["MAIL", "RCPT", via]
        assert.deepStrictEqual(yield* verbs, ["EHLO", "STARTTLS", "EHLO", ...one, ...one, "QUIT"])
        assert.strictEqual(yield* connections, 1)
      }).pipe(Effect.provide(SmtpServer.layer()))
  )

  it.effect("that is refused leaves the connection to the next, which says RSET first", () =>
    withClient(
      { faults: [SmtpServer.at("rcpt", SmtpServer.answer(550, "5.1.1 no"))] },
      Effect.gen(function*() {
        const smtp = yield* Client
        const error = yield* Effect.flip(smtp.send(envelope, "hi"))
        assert.strictEqual(error._tag, "EENVELOPE")
        yield* smtp.send(envelope, "hi")
        assert.strictEqual(yield* connections, 1)
        assert.include(yield* verbs, "RSET")
      })
    ))

  it.effect("that fails in its stream closes the connection and gives the stream's error", () =>
    withClient(
      {},
      Effect.gen(function*() {
        const broken = new Broken()
        assert.strictEqual(yield* Effect.flip((yield* Client).send(envelope, Stream.fail(broken))), broken)
        assert.strictEqual(yield* connections, 1)
        assert.strictEqual((yield* verbs).at(-1), "DATA")
      })
    ))

  it.effect("takes the production options unchanged against the fake server: STARTTLS, then the login", () =>
    withClient(
      { requireAuth: true, accounts: { app: "hunter2" } },
      Effect.gen(function*() {
        yield* (yield* Client).send(envelope, "hi\n")
        const [message] = yield* (yield* server).received
        assert.deepInclude(message, { secure: true, username: "app", from: "ann@me.test" })
      }),
      production
    ))

  it.effect("several at once have a connection each, as far as the pool allows", () =>
    withClient(
      {},
      Effect.gen(function*() {
        const smtp = yield* Client
        yield* Effect.forEach([1, 2, 3], (n) => smtp.send(envelope, `${n}`), { concurrency: "unbounded" })
        assert.strictEqual(yield* connections, 3)
        assert.strictEqual((yield* (yield* server).received).length, 3)
      })
    ))

  it.effect("never goes over the connection of another client: each has its own name, TLS policy and login", () =>
    withClient(
      { tls: { authorized: false }, accounts: { ann: "canary-ann", bob: "canary-bob" } },
      Effect.gen(function*() {
        const login = (username: string) => Sasl.password({ username, password: Redacted.make(`canary-${username}`) })
        const lax = { host: "mx.test", allowInsecureAuth: true, tls: "opportunistic" } as const
        const ann = yield* SmtpClient.make({ ...lax, name: "ann.test", auth: login("ann") })
        const bob = yield* SmtpClient.make({ ...lax, name: "bob.test", auth: login("bob") })
        const strict = yield* Client
        yield* ann.send(envelope, "1")
        yield* bob.send(envelope, "2")
        yield* bob.use((connection) =>
          Effect.gen(function*() {
            const error = yield* Effect.flip(connection.send({ ...envelope, requireTls: true }, "3"))
            assert.strictEqual(error._tag, "EREQUIRETLS")
            assert.strictEqual((yield* Effect.flip(strict.send(envelope, "4")))._tag, "ETLS")
            yield* ann.send(envelope, "5")
          })
        )
        const seen = (yield* (yield* server).connections).map(({ helo, username }) => [helo, username])
        assert.deepStrictEqual(seen, [["ann.test", "ann"], ["bob.test", "bob"], [undefined, undefined]])
        const received = (yield* (yield* server).received).map(({ text, username }) => [text, username])
        assert.deepStrictEqual(received, [["1\r\n", "ann"], ["2\r\n", "bob"], ["5\r\n", "ann"]])
      })
    ))

  it.effect("without a login where one is demanded is ENOAUTH, with a wrong one EAUTH", () =>
    withClient(
      { requireAuth: true, accounts: { app: "other" } },
      Effect.gen(function*() {
        assert.strictEqual((yield* Effect.flip((yield* Client).send(envelope, "hi")))._tag, "ENOAUTH")
        const smtp = yield* SmtpClient.make(production)
        assert.strictEqual((yield* Effect.flip(smtp.send(envelope, "hi")))._tag, "EAUTH")
        assert.strictEqual(yield* connections, 2)
      })
    ))
})

describe("sendAll", () => {
  it.effect("gives one result for each mail, in order, whatever became of the others", () =>
    withClient(
      { respond: { rcpt: ({ path }) => path === "bad@mx.test" ? SmtpServer.reply(550, "5.1.1 no") : undefined } },
      Effect.gen(function*() {
        const mails = Stream.make("a", "bad", "c").pipe(
          Stream.map((message) => ({ envelope: { ...envelope, to: `${message}@mx.test` }, message }))
        )
        const results = yield* Stream.runCollect((yield* Client).sendAll(mails))
        assert.deepStrictEqual(
          results.map((r) => Result.isSuccess(r) ? r.success.messageSize : r.failure._tag),
          [3, "EENVELOPE", 3]
        )
        const texts = (yield* (yield* server).received).map(({ text }) => text)
        assert.sameMembers(texts, ["a\r\n", "c\r\n"])
      })
    ))
})

describe("the spans of sendAll", () => {
  it.effect("are one smtp.send for each mail, which says what became of it", () =>
    Effect.suspend(() => {
      const { spans, tracer } = makeTracer()
      return withClient(
        { faults: [SmtpServer.at("rcpt", SmtpServer.answer(550, "5.1.1 no"), { occurrence: 2 })] },
        Effect.gen(function*() {
          const mails = Stream.make("a", "b", "c").pipe(Stream.map((message) => ({ envelope, message })))
          yield* Stream.runDrain((yield* Client).sendAll(mails)).pipe(Effect.withSpan("mine"))
          const sent = spans.filter(({ name }) => name === "smtp.send")
          assert.deepStrictEqual(sent.map(({ kind }) => kind), ["client", "client", "client"])
          const mine = spans.find(({ name }) => name === "mine")
          for (const span of sent) {
            assert.strictEqual(Option.getOrUndefined(span.parent)?.spanId, mine?.spanId)
            assert.strictEqual(span.attributes.get("server.address"), "mx.test")
          }
          assert.deepStrictEqual(
            sent.map(({ attributes, status }) => [
              attributes.get("smtp.response.code"),
              attributes.get("error.type"),
              status._tag === "Ended" && status.exit._tag
            ]),
            [[250, undefined, "Success"], [550, "EENVELOPE", "Failure"], [250, undefined, "Success"]]
          )
        }).pipe(Effect.provideService(Tracer.Tracer, tracer)),
        { ...options, pool: { max: 1 } }
      )
    }))
})

describe("use", () => {
  it.effect("gives one connection for as long as the effect runs", () =>
    withClient(
      {},
      Effect.gen(function*() {
        const smtp = yield* Client
        const sizes = yield* smtp.use((connection) =>
          Effect.gen(function*() {
            yield* connection.noop
            const one = yield* connection.send(envelope, "1")
            const two = yield* connection.send(envelope, "22")
            return [one.messageSize, two.messageSize]
          })
        )
        assert.deepStrictEqual(sizes, [3, 4])
        assert.strictEqual(yield* connections, 1)
      })
    ))

  it.effect("passes the failure of the effect, and gives the connection back", () =>
    withClient(
      {},
      Effect.gen(function*() {
        const smtp = yield* Client
        assert.strictEqual(yield* Effect.flip(smtp.use(() => Effect.fail("mine"))), "mine")
        yield* smtp.send(envelope, "hi")
        assert.strictEqual(yield* connections, 1)
      })
    ))
})

describe("verify", () => {
  it.effect("connects, logs in, and tells what it saw", () =>
    withClient(
      {},
      Effect.gen(function*() {
        const report = yield* (yield* Client).verify
        assert.isTrue(report.secure)
        assert.isTrue(report.authenticated)
        assert.strictEqual(report.greeting.text, "fake.test ESMTP ready")
        assert.strictEqual(report.security._tag === "Some" && report.security.value.servername, "smtp.example.com")
        assert.strictEqual(report.capabilities.sizeLimit, 52_428_800)
        assert.strictEqual(yield* connections, 1)
        assert.deepStrictEqual(yield* verbs, ["EHLO", "STARTTLS", "EHLO", "AUTH", "QUIT"])
      }),
      production
    ))

  it.effect("fails as a send would", () =>
    withClient(
      { accounts: { app: "other" } },
      Effect.gen(function*() {
        assert.strictEqual((yield* Effect.flip((yield* Client).verify))._tag, "EAUTH")
        assert.isFalse((yield* (yield* SmtpClient.make(options)).verify).authenticated)
      }),
      production
    ))
})

describe("the layer", () => {
  it.effect("is not built from options that contradict each other, and nothing is dialled", () =>
    Effect.gen(function*() {
      const build = Layer.build(SmtpClient.layer({ ...production, tls: "off" }))
      const error = yield* Effect.flip(Effect.scoped(build))
      assert.deepInclude(error, { _tag: "ECONFIG", field: "options.auth", command: "API" } as never)
      assert.strictEqual(yield* connections, 0)
    }).pipe(Effect.provide(SmtpServer.layer())))

  const env = (variables: Readonly<Record<string, string>>) =>
    ConfigProvider.layer(ConfigProvider.fromEnv({ env: { ...variables } }))

  it.effect("may come from configuration", () =>
    Effect.gen(function*() {
      const report = yield* Client.use((smtp) => smtp.verify)
      assert.isTrue(report.authenticated)
      assert.strictEqual(report.security._tag === "Some" && report.security.value.servername, "mail.test")
    }).pipe(
      Effect.provide(
        SmtpClient.layerConfig({
          host: Config.String("MAIL_HOST"),
          auth: Config.map(
            Config.Redacted("MAIL_PASSWORD"),
            (password) => Sasl.password({ username: "app", password })
          )
        }).pipe(Layer.provide([SmtpServer.layer(), env({ MAIL_HOST: "mail.test", MAIL_PASSWORD: "x" })]))
      )
    ))

  it.effect("from configuration that is missing fails with ConfigError, from a contradiction with ECONFIG", () =>
    Effect.gen(function*() {
      const tag = (layer: ReturnType<typeof SmtpClient.layerConfig>, variables: Readonly<Record<string, string>>) =>
        Effect.map(
          Effect.flip(Effect.scoped(Layer.build(layer.pipe(Layer.provide([SmtpServer.layer(), env(variables)]))))),
          (error) => error._tag
        )
      const layer = SmtpClient.layerConfig({ host: Config.String("MAIL_HOST"), port: Config.Int("MAIL_PORT") })
      assert.strictEqual(yield* tag(layer, {}), "ConfigError")
      assert.strictEqual(yield* tag(layer, { MAIL_HOST: "x", MAIL_PORT: "99999" }), "ECONFIG")
    }))

  const read = (variables: Readonly<Record<string, string>>) => SmtpClient.config.pipe(Effect.provide(env(variables)))
  const known = (given: SmtpClient.Options) =>
    Object.fromEntries(
      Object.entries(given).flatMap(([key, value]) => value === undefined || key === "auth" ? [] : [[key, value]])
    )
  const login = ({ auth }: SmtpClient.Options): string =>
    auth?._tag === "Password" && Redacted.isRedacted(auth.password)
      ? `${auth.username}:${Redacted.value(auth.password)}`
      : "none"

  it.effect("config reads the environment", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(known(yield* read({})), {})
      assert.deepStrictEqual(
        known(
          yield* read({ SMTP_HOST: "mx.test", SMTP_PORT: "2525", SMTP_TLS: "opportunistic", SMTP_NAME: "me.test" })
        ),
        { host: "mx.test", port: 2525, tls: "opportunistic", name: "me.test" }
      )
      const submission = yield* read({ SMTP_HOST: "mx.test", SMTP_USER: "ann", SMTP_PASSWORD: "pw" })
      assert.deepStrictEqual([known(submission), login(submission)], [{ host: "mx.test", port: 587 }, "ann:pw"])
      const implicit = yield* read({ SMTP_USER: "ann", SMTP_PASSWORD: "pw", SMTP_TLS: "implicit" })
      assert.deepStrictEqual([known(implicit), login(implicit)], [{ tls: "implicit" }, "ann:pw"])
    }))

  it.effect("config lets the single variables win over the URL", () =>
    Effect.gen(function*() {
      const url = yield* read({ SMTP_URL: "smtps://ann:pw@mx.test:4650?name=me.test" })
      assert.deepStrictEqual(
        [known(url), login(url)],
        [{ host: "mx.test", port: 4650, tls: "implicit", name: "me.test" }, "ann:pw"]
      )
      const both = yield* read({
        SMTP_URL: "smtp://ann:pw@mx.test?name=me.test",
        SMTP_HOST: "other.test",
        SMTP_PORT: "25",
        SMTP_TLS: "opportunistic",
        SMTP_NAME: "you.test",
        SMTP_PASSWORD: "new"
      })
      assert.deepStrictEqual(
        [known(both), login(both)],
        [{ host: "other.test", port: 25, tls: "opportunistic", name: "you.test" }, "ann:new"]
      )
      const split = yield* read({ SMTP_URL: "smtp://mx.test", SMTP_USER: "ann", SMTP_PASSWORD: "pw" })
      assert.deepStrictEqual([known(split), login(split)], [{ host: "mx.test", port: 587 }, "ann:pw"])
      const lmtp = yield* read({ SMTP_URL: "lmtp://mx.test", SMTP_USER: "ann", SMTP_PASSWORD: "pw" })
      assert.deepStrictEqual(known(lmtp), { host: "mx.test", protocol: "lmtp" })
    }))

  it.effect("config refuses half a login and a bad URL, and shows no secret", () =>
    Effect.gen(function*() {
      for (
        const [variables, says] of [
          [{ SMTP_USER: "ann" }, /SMTP_USER and SMTP_PASSWORD go together/],
          [{ SMTP_PASSWORD: "canary" }, /SMTP_USER and SMTP_PASSWORD go together/],
          [{ SMTP_URL: "http://ann:canary@mx.test" }, /SMTP_URL: the scheme/],
          [{ SMTP_URL: "canary" }, /SMTP_URL: not a URL/],
          [{ SMTP_PORT: "0" }, /./],
          [{ SMTP_TLS: "yes" }, /./]
        ] as const
      ) {
        const error = yield* Effect.flip(read(variables))
        assert.strictEqual(error._tag, "ConfigError")
        assert.match(error.message, says)
        assertHidden(JSON.stringify(error) + String(error), "canary")
      }
    }))
})

describe("fromUrl", () => {
  const shown = Effect.fnUntraced(function*(url: Parameters<typeof SmtpClient.fromUrl>[0]) {
    const { auth, ...rest } = yield* SmtpClient.fromUrl(url)
    return auth?._tag === "Password" && Redacted.isRedacted(auth.password)
      ? { ...rest, login: [auth.username, Redacted.value(auth.password)] }
      : rest
  })

  const rows: ReadonlyArray<readonly [string, object]> = [
    ["smtp://mx.test", { host: "mx.test" }],
    ["smtp://mx.test/", { host: "mx.test" }],
    ["smtp://mx.test:2525", { host: "mx.test", port: 2525 }],
    ["smtp://ann:pw@mx.test", { host: "mx.test", port: 587, login: ["ann", "pw"] }],
    ["smtp://ann:pw@mx.test?tls=implicit", { host: "mx.test", tls: "implicit", login: ["ann", "pw"] }],
    ["smtp://ann:pw@mx.test:25", { host: "mx.test", port: 25, login: ["ann", "pw"] }],
    ["smtps://mx.test", { host: "mx.test", tls: "implicit" }],
    ["smtps://ann:pw@mx.test?tls=implicit", { host: "mx.test", tls: "implicit", login: ["ann", "pw"] }],
    ["lmtp://mx.test", { host: "mx.test", protocol: "lmtp" }],
    ["lmtp://ann:pw@mx.test", { host: "mx.test", protocol: "lmtp", login: ["ann", "pw"] }],
    ["lmtp:?path=/run/lmtp.sock", { protocol: "lmtp", path: "/run/lmtp.sock" }],
    ["smtp://[::1]:25", { host: "::1", port: 25 }],
    ["smtp://ann%40me.test:p%40%3a%2F%25+%26%3D%C3%BC@mx.test", {
      host: "mx.test",
      port: 587,
      login: ["ann@me.test", "p@:/%+&=ü"]
    }],
    ["smtp://mx.test?name=me.test&servername=x.test&localAddress=::1&minimumMechanism=PLAIN&transcript=commands", {
      host: "mx.test",
      name: "me.test",
      servername: "x.test",
      localAddress: "::1",
      minimumMechanism: "PLAIN",
      transcript: "commands"
    }],
    ["smtp://mx.test?mechanisms=PLAIN,LOGIN&family=6&allowInsecureAuth=true", {
      host: "mx.test",
      mechanisms: ["PLAIN", "LOGIN"],
      family: 6,
      allowInsecureAuth: true
    }],
    ["smtp://mx.test?allowInsecureAuth=false&rejectUnauthorized=false", {
      host: "mx.test",
      allowInsecureAuth: false,
      tlsOptions: { rejectUnauthorized: false }
    }],
    ["smtp://mx.test?rejectUnauthorized=true&timeouts.command=10+seconds&timeouts.total=1500", {
      host: "mx.test",
      tlsOptions: { rejectUnauthorized: true },
      timeouts: { command: "10 seconds", total: 1500 }
    }]
  ]
  for (const [url, expected] of rows) {
    it.effect(`reads ${url}`, () =>
      Effect.gen(function*() {
        assert.deepStrictEqual(yield* shown(url), expected as never)
        assert.deepStrictEqual(yield* shown(new URL(url)), expected as never)
        assert.deepStrictEqual(yield* shown(Redacted.make(url)), expected as never)
        assert.isTrue(
          Exit.isSuccess(
            yield* Effect.exit(Effect.provide(SmtpClient.make(yield* SmtpClient.fromUrl(url)), SmtpServer.layer()))
          )
        )
      }))
  }

  const wrong: ReadonlyArray<readonly [string, RegExp]> = [
    ["mx.test", /not a URL/],
    ["canary@mx.test:25", /not a URL|scheme/],
    ["http://ann:canary@mx.test", /scheme must be/],
    ["smtp://ann:can#ary@mx.test", /%23|not a URL/],
    ["smtp://mx.test#canary", /%23/],
    ["smtp://mx.test/canary", /%2F/],
    ["smtp://ann:canary%@mx.test", /%25/],
    ["smtp://ann:canary%zz@mx.test", /%25/],
    ["smtp://ann:canary%ff@mx.test", /UTF-8/],
    ["smtp://%@mx.test", /%25/],
    ["smtp://ann@mx.test", /go together/],
    ["smtp://:canary@mx.test", /go together/],
    ["smtp://mx.test?canary=1", /unknown/],
    ["smtp://mx.test?auth=canary", /unknown/],
    ["smtp://mx.test?timeouts.canary=1", /unknown/],
    ["smtp://mx.test?rejectUnauthorized=canary", /no such value/],
    ["smtp://mx.test?name=canary&name=canary", /twice/],
    ["smtps://mx.test?tls=off", /implicit TLS/]
  ]
  for (const [url, says] of wrong) {
    it.effect(`refuses ${url}, and shows no part of it`, () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(SmtpClient.fromUrl(url))
        assert.deepInclude(error, { _tag: "ECONFIG", field: "url", command: "API", attempted: false } as never)
        assert.match(error.message, says)
        assertHidden(JSON.stringify(error) + error.message, "canary")
      }))
  }

  it.effect("a value that no option takes is refused when the client is made", () =>
    Effect.forEach(
      [
        "tls=x",
        "family=5",
        "allowInsecureAuth=maybe",
        "transcript=all",
        "timeouts.command=soon",
        "name=a%20b",
        "mechanisms="
      ],
      (query) =>
        Effect.gen(function*() {
          const given = yield* SmtpClient.fromUrl(`smtp://mx.test?${query}`)
          const error = yield* Effect.flip(Effect.provide(SmtpClient.make(given), SmtpServer.layer()))
          assert.strictEqual(error._tag, "ECONFIG")
          assert.include(error.field, `options.${query.split("=", 1)[0]!.split(".", 1)[0]}`)
        })
    ))
})

describe("retryTemporary", () => {
  const retrying = <E>(
    script: SmtpServer.Script,
    test: (smtp: SmtpClient.Client) => Effect.Effect<unknown, E, SmtpServer.SmtpServer | Scope.Scope>,
    schedule: Schedule.Schedule<unknown, SmtpClient.ClientError> = Schedule.recurs(3),
    mode = flights
  ) =>
    withClient(
      script,
      Effect.scoped(Effect.flatMap(Client, (smtp) => test(SmtpClient.retryTemporary(smtp, schedule)))),
      { ...options, ...mode.options }
    )
  const once = (step: SmtpServer.Step, fault: SmtpServer.Fault) => ({
    faults: [SmtpServer.at(step, fault, { connection: 1 })]
  })
  const text = "hi\r\n"

  /** The number is that of the connections the server saw: a refused message does not end one. */
  const retried: ReadonlyArray<readonly [string, SmtpServer.Step, SmtpServer.Fault, number]> = [
    ["a refused connection", "connect", SmtpServer.reset, 1],
    ["a greeting that says 421", "greeting", SmtpServer.answer(421, "busy"), 2],
    ["a FIN at the greeting", "greeting", SmtpServer.drop, 2],
    ["451 to EHLO", "ehlo", SmtpServer.answer(451, "busy"), 2],
    ["4yz to MAIL", "mail", SmtpServer.answer(451, "busy"), 1],
    ["4yz to the only recipient", "rcpt", SmtpServer.answer(450, "greylisted"), 1],
    ["4yz to DATA", "data", SmtpServer.answer(451, "busy"), 1],
    ["421 to RCPT", "rcpt", SmtpServer.answer(421, "bye"), 2],
    ["a loss at DATA", "data", SmtpServer.drop, 2],
    ["a reset at MAIL", "mail", SmtpServer.reset, 2]
  ]
  /** A message that is whole is handed over with its envelope: what is lost then may have been delivered. */
  const isHandedOver = (step: SmtpServer.Step, fault: SmtpServer.Fault, kind: "string" | "stream", mode: Mode) =>
    kind === "string" && mode.isFlight && (step === "mail" || step === "rcpt") && fault._tag !== "Answer"
  for (const mode of [inTurn, grouped, flights]) {
    for (const [name, step, fault, count] of retried) {
      for (const kind of ["string", "stream"] as const) {
        if (step === "data" && kind === "string" && mode.via === "BDAT") continue
        if (isHandedOver(step, fault, kind, mode)) continue
        it.effect(`tries a ${kind} again after ${name}, ${mode.name}`, () =>
          retrying(
            once(step, fault),
            (smtp) =>
              Effect.gen(function*() {
                yield* smtp.send(envelope, kind === "string" ? text : Stream.make(text))
                assert.strictEqual((yield* (yield* server).received)[0]?.text, text)
                assert.strictEqual((yield* (yield* server).received).length, 1)
                assert.strictEqual(yield* connections, count)
              }),
            undefined,
            mode
          ))
      }
    }
  }

  it.effect("tries octets again after a loss in the middle of the body, but not a stream that was pulled", () =>
    retrying(once("body", SmtpServer.drop), (smtp) =>
      Effect.gen(function*() {
        const big = new Uint8Array(300_000).fill(0x61)
        yield* smtp.send(envelope, big)
        assert.strictEqual(yield* connections, 2)
      })).pipe(Effect.andThen(
        retrying(once("body", SmtpServer.drop), (smtp) =>
          Effect.gen(function*() {
            let runs = 0
            const stream = Stream.unwrap(Effect.sync(() => {
              runs++
              return Stream.forever(Stream.make("more\r\n"))
            }))
            const error = yield* Effect.flip(smtp.send(envelope, stream))
            assert.isTrue(SmtpError.isRetryable(error))
            assert.isFalse(error.handedOver)
            assert.deepStrictEqual([runs, yield* connections], [1, 1])
          }))
      )))

  it.effect("tries a stream that is marked again, although it was pulled and the policies are several", () =>
    retrying(once("body", SmtpServer.drop), (smtp) =>
      Effect.gen(function*() {
        let runs = 0
        const lines = Array.from({ length: 40_000 }, () => "more\r\n")
        const stream = SmtpConnection.replayable(Stream.unwrap(Effect.sync(() => {
          runs++
          return Stream.fromIterable(lines)
        })))
        const around = SmtpClient.withFallback([SmtpClient.withTimeout(smtp, "1 hour"), smtp])
        assert.strictEqual((yield* around.send(envelope, stream)).messageSize, 240_000)
        assert.deepStrictEqual([runs, yield* connections], [2, 2])
        assert.strictEqual((yield* (yield* server).received).length, 1)
      })))

  it.effect("does not try a marked stream again once the message is in doubt, nor for its own error", () =>
    retrying({ faults: [SmtpServer.at("message", SmtpServer.drop)] }, (smtp) =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(smtp.send(envelope, SmtpConnection.replayable(Stream.make(text))))
        assert.isTrue(error.inDoubt)
        const broken = new Broken()
        const failing = SmtpConnection.replayable(Stream.concat(Stream.make(text), Stream.fail(broken)))
        assert.strictEqual(yield* Effect.flip(smtp.send(envelope, failing)), broken)
        assert.strictEqual(yield* connections, 2)
      })))

  it.effect("each send of a stream has its own right to be tried again", () =>
    retrying(
      { faults: [SmtpServer.at("mail", SmtpServer.answer(451, "busy"), { occurrence: 2 })] },
      (smtp) =>
        Effect.gen(function*() {
          const sending = smtp.send(envelope, Stream.make(text))
          yield* sending
          yield* sending
          assert.strictEqual((yield* (yield* server).received).length, 2)
          assert.strictEqual((yield* verbs).filter((verb) => verb === "MAIL").length, 3)
        })
    ))

  const left: ReadonlyArray<readonly [string, SmtpServer.Step, SmtpServer.Fault, SmtpError.Tag, boolean]> = [
    ["5yz to MAIL", "mail", SmtpServer.answer(550, "no"), "EENVELOPE", false],
    ["5yz to DATA", "data", SmtpServer.answer(554, "no"), "EENVELOPE", false],
    ["4yz as the final reply", "message", SmtpServer.answer(451, "busy"), "EMESSAGE", false],
    ["421 as the final reply", "message", SmtpServer.answer(421, "busy"), "ECONNECTION", false],
    ["a loss after the dot", "message", SmtpServer.drop, "ECONNECTION", true],
    ["a reset after the dot", "message", SmtpServer.reset, "ESOCKET", true],
    ["a reply that is none", "mail", SmtpServer.garbage(), "EPROTOCOL", false]
  ]
  const flown: typeof left = [
    ["a loss behind a flight, at MAIL", "mail", SmtpServer.drop, "ECONNECTION", true],
    ["a reset behind a flight, at RCPT", "rcpt", SmtpServer.reset, "ESOCKET", true],
    ["a reply that is none, behind a flight", "mail", SmtpServer.garbage(), "EPROTOCOL", true]
  ]
  const remaining = [inTurn, grouped, flights].flatMap((mode) => {
    const rows = mode.isFlight ? [...left.slice(0, -1).filter(([, step]) => step !== "data"), ...flown] : left
    return rows.map((row) => [mode, ...row] as const)
  })
  for (const [mode, name, step, fault, tag, inDoubt] of remaining) {
    it.effect(`does not try again after ${name}, ${mode.name}`, () =>
      retrying(
        { extensions: open, faults: [SmtpServer.at(step, fault)] },
        (smtp) =>
          Effect.gen(function*() {
            const error = yield* Effect.flip(smtp.send(envelope, text))
            assert.deepInclude(error, { _tag: tag, inDoubt } as never)
            assert.strictEqual(yield* connections, 1)
          }),
        undefined,
        mode
      ))
  }

  it.effect("does not try again what is refused on this side", () =>
    retrying({ extensions: { smtpUtf8: false } }, (smtp) =>
      Effect.gen(function*() {
        assert.strictEqual((yield* Effect.flip(smtp.send({ ...envelope, from: "é@me.test" }, text)))._tag, "EENVELOPE")
        assert.strictEqual(yield* connections, 1)
      })))

  it.effect("gives the last error when the schedule is exhausted", () =>
    retrying(
      {
        faults: [1, 2, 3].map((occurrence) =>
          SmtpServer.at("mail", SmtpServer.answer(451, `try ${occurrence}`), { occurrence })
        )
      },
      (smtp) =>
        Effect.gen(function*() {
          const error = yield* Effect.flip(smtp.send(envelope, text))
          assert.strictEqual(error.response, "try 3")
          assert.strictEqual((yield* verbs).filter((verb) => verb === "MAIL").length, 3)
        }),
      Schedule.recurs(2)
    ))

  it.effect("waits as the schedule says, and holds no connection meanwhile", () =>
    retrying(once("mail", SmtpServer.answer(451, "busy")), (smtp) =>
      Effect.gen(function*() {
        const fiber = yield* Effect.forkChild(smtp.send(envelope, text))
        yield* TestClock.adjust("59 seconds")
        yield* (yield* server).awaitClosed
        assert.strictEqual(yield* connections, 1)
        yield* TestClock.adjust("1 second")
        yield* Fiber.join(fiber)
        assert.strictEqual(yield* connections, 2)
      }), Schedule.spaced("1 minute")))

  it.effect("shows the schedule each error", () =>
    Effect.suspend(() => {
      const seen: Array<SmtpError.Tag> = []
      const schedule = Schedule.recurs(1).pipe(
        Schedule.setInputType<SmtpClient.ClientError>(),
        Schedule.tap(({ input }) => Effect.sync(() => seen.push(input._tag)))
      )
      return retrying(once("greeting", SmtpServer.drop), (smtp) =>
        Effect.gen(function*() {
          yield* smtp.send(envelope, text)
          assert.deepStrictEqual(seen, ["ECONNECTION"])
        }), schedule)
    }))

  it.effect("covers sendAll, and leaves use and verify alone", () =>
    retrying({
      faults: [
        SmtpServer.at("greeting", SmtpServer.answer(421, "busy"), { connection: 1 }),
        SmtpServer.at("greeting", SmtpServer.answer(421, "busy"), { connection: 2 }),
        SmtpServer.at("mail", SmtpServer.answer(451, "busy"), { connection: 3 })
      ]
    }, (smtp) =>
      Effect.gen(function*() {
        assert.strictEqual((yield* Effect.flip(smtp.verify))._tag, "ECONNECTION")
        assert.strictEqual((yield* Effect.flip(smtp.use(() => Effect.void)))._tag, "ECONNECTION")
        const results = yield* Stream.runCollect(smtp.sendAll(Stream.make({ envelope, message: text })))
        assert.deepStrictEqual(results.map(Result.isSuccess), [true])
        assert.strictEqual(yield* connections, 3)
      })))

  it.effect("may come last in a pipe", () =>
    withClient(
      once("mail", SmtpServer.answer(451, "busy")),
      Effect.gen(function*() {
        const smtp = SmtpClient.retryTemporary(Schedule.recurs(1))(yield* Client)
        yield* smtp.send(envelope, text)
      })
    ))
})

describe.each([inTurn, grouped, flights])("withTimeout, $name", (mode) => {
  const timed = <A, E>(
    script: SmtpServer.Script,
    call: (smtp: SmtpClient.Client) => Effect.Effect<A, E>,
    time: Duration.Input
  ) =>
    withClient(
      script,
      Effect.gen(function*() {
        const fiber = yield* Effect.forkChild(Effect.flip(call(SmtpClient.withTimeout(yield* Client, "5 seconds"))))
        yield* TestClock.adjust(time)
        assert.isDefined(fiber.pollUnsafe(), "the call has ended")
        assert.strictEqual(yield* connections, 1)
        return yield* Fiber.join(fiber)
      }),
      { ...options, ...mode.options }
    )
  const grace = mode.isFlight ? "5500 millis" : "5 seconds"
  const send = (smtp: SmtpClient.Client) => smtp.send(envelope, "hi\r\n")
  const silent = (step: SmtpServer.Step) => ({
    extensions: open,
    faults: [SmtpServer.at(step, SmtpServer.silence)]
  })

  for (const step of mode.isFlight ? ["greeting", "mail"] as const : ["greeting", "mail", "data"] as const) {
    const inDoubt = mode.isFlight && step === "mail"
    it.effect(`ends a send at ${step} in ETIMEDOUT, ${inDoubt ? "" : "not "}in doubt`, () =>
      Effect.gen(function*() {
        const error = yield* timed(silent(step), send, inDoubt ? grace : "5 seconds")
        assert.deepInclude(
          error,
          { _tag: "ETIMEDOUT", timeout: "total", inDoubt, handedOver: inDoubt, isTemporary: true } as never
        )
      }))
  }

  it.effect("after the dot waits half a second more, and then is in doubt", () =>
    Effect.gen(function*() {
      const error = yield* timed(silent("message"), send, "5500 millis")
      assert.deepInclude(error, { _tag: "ETIMEDOUT", timeout: "total", inDoubt: true, handedOver: true } as never)
    }))

  it.effect("after the dot, an acceptance that comes just in time is told, and is not to be repeated", () =>
    Effect.gen(function*() {
      const late = { faults: [SmtpServer.at("message", SmtpServer.delay("5300 millis"))] }
      const error = yield* timed(late, send, "5300 millis")
      assert.deepInclude(
        error,
        { _tag: "ETIMEDOUT", inDoubt: false, isTemporary: false, responseCode: 250, handedOver: true } as never
      )
    }))

  it.effect("covers use, verify and sendAll", () =>
    Effect.gen(function*() {
      const use = yield* timed(silent("noop"), (smtp) => smtp.use((connection) => connection.noop), "5 seconds")
      assert.deepInclude(use, { _tag: "ETIMEDOUT", timeout: "total" } as never)
      const verify = yield* timed(silent("ehlo"), (smtp) => smtp.verify, "5 seconds")
      assert.deepInclude(verify, { _tag: "ETIMEDOUT", timeout: "total" } as never)
      const all = yield* timed(silent("rcpt"), (smtp) =>
        Stream.runCollect(smtp.sendAll(Stream.make({ envelope, message: "x" }))).pipe(
          Effect.flatMap(([first]) =>
            Effect.fromResult(first!)
          )
        ), grace)
      assert.deepInclude(all, { _tag: "ETIMEDOUT", timeout: "total" } as never)
    }))

  it.effect("leaves a call that is fast enough as it is, and may come last in a pipe", () =>
    withClient(
      {},
      Effect.gen(function*() {
        const smtp = SmtpClient.withTimeout("5 seconds")(yield* Client)
        assert.deepStrictEqual((yield* smtp.send(envelope, "hi")).accepted, ["bob@mx.test"])
      })
    ))

  it.effect("around retryTemporary bounds all the tries together", () =>
    withClient(
      { respond: { mail: () => SmtpServer.reply(451, "busy") } },
      Effect.gen(function*() {
        const smtp = SmtpClient.withTimeout(
          SmtpClient.retryTemporary(yield* Client, Schedule.spaced("2 seconds")),
          "5 seconds"
        )
        const fiber = yield* Effect.forkChild(Effect.flip(smtp.send(envelope, "hi")))
        yield* TestClock.adjust("1 minute")
        assert.deepInclude(yield* Fiber.join(fiber), { _tag: "ETIMEDOUT", timeout: "total", inDoubt: false } as never)
        assert.strictEqual((yield* verbs).filter((verb) => verb === "MAIL").length, 3)
      })
    ))
})

describe("a connector of one's own", () => {
  const latin1 = new TextDecoder("latin1")
  const answers: ReadonlyArray<readonly [RegExp, string]> = [
    [/^EHLO /, "250-own.test\r\n250 8BITMIME"],
    [/^DATA$/, "354 go"],
    [/^QUIT$/, "221 bye"],
    [/^(MAIL|RCPT) |^\.$/, "250 ok"]
  ]

  /** Answers each line that is a command; what else comes is message. */
  class Line implements SmtpConnector.Duplex {
    readonly secured = true
    readonly localAddress = "192.0.2.7"
    readonly remoteAddress = "192.0.2.9:25"
    readonly said: Array<string> = []
    isDestroyed = false
    private listener: SmtpConnector.Listener | undefined
    private say(text: string): void {
      queueMicrotask(() => this.listener?.onData(new TextEncoder().encode(`${text}\r\n`)))
    }
    readonly listen = (listener: SmtpConnector.Listener): void => {
      this.listener = listener
      this.say("220 own.test")
    }
    readonly write = (chunks: ReadonlyArray<Uint8Array>): boolean => {
      for (const line of chunks.map((chunk) => latin1.decode(chunk)).join("").trimEnd().split("\r\n")) {
        this.said.push(line)
        const [, answer] = answers.find(([command]) => command.test(line)) ?? []
        if (answer !== undefined) this.say(answer)
      }
      return true
    }
    readonly upgrade = (): Effect.Effect<never, SmtpError.ETLS> => Effect.die("not asked for")
    readonly end = (): void => {}
    readonly destroy = (): void => {
      this.isDestroyed = true
      this.listener = undefined
    }
  }

  it.effect("is asked for the addresses, and for each of them until one answers", () =>
    Effect.suspend(() => {
      const line = new Line()
      const dialled: Array<string | undefined> = []
      const target = (endpoint: SmtpConnector.Endpoint, address: string) => ({ ...endpoint, address })
      const connector = Layer.succeed(SmtpConnector.SmtpConnector, {
        localName: undefined,
        resolve: (endpoint) => Effect.succeed([target(endpoint, "192.0.2.8"), target(endpoint, "192.0.2.9")]),
        connect: ({ address }) =>
          Effect.suspend(() => {
            dialled.push(address)
            return address === "192.0.2.9"
              ? Effect.succeed(line)
              : Effect.fail(new SmtpError.ESOCKET({ command: "CONN", message: "refused" }))
          })
      })
      return Effect.gen(function*() {
        const layer = SmtpClient.layer({ host: "own.test" }).pipe(Layer.provide(connector))
        const result = yield* Client.use((smtp) => smtp.send(envelope, "hi\n")).pipe(Effect.provide(layer))
        assert.strictEqual(result.response, "ok")
        assert.deepStrictEqual(dialled, ["192.0.2.8", "192.0.2.9"])
        assert.deepStrictEqual(line.said, [
          "EHLO [192.0.2.7]",
          "MAIL FROM:<ann@me.test>",
          "RCPT TO:<bob@mx.test>",
          "DATA",
          "hi",
          ".",
          "QUIT"
        ])
        assert.isTrue(line.isDestroyed)
      })
    }))
})

/** Whether two types are the same. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true : false
const isTrue = <_ extends true>(): void => {}
type ErrorOf<T> = T extends Effect.Effect<infer _A, infer E, infer _R> ? E : never
type NeedOf<T> = T extends Effect.Effect<infer _A, infer _E, infer R> ? R : never

describe("the types", () => {
  type WireError = SmtpError.ECONNECTION | SmtpError.ESOCKET | SmtpError.ETIMEDOUT | SmtpError.EPROTOCOL
  type Connecting =
    | WireError
    | SmtpError.EDNS
    | SmtpError.EPROXY
    | SmtpError.ETLS
    | SmtpError.ECONFIG
    | SmtpError.EAUTH
    | SmtpError.EOAUTH2
  type Sending =
    | WireError
    | SmtpError.EENVELOPE
    | SmtpError.EMESSAGE
    | SmtpError.EREQUIRETLS
    | SmtpError.ENOAUTH
    | SmtpError.ETLS
    | SmtpError.ESTREAM

  it("the errors of a call are exactly those that it can end in", () => {
    const client = (smtp: SmtpClient.Client) => smtp.send(envelope, "x")
    const stream = (smtp: SmtpClient.Client, message: Stream.Stream<string, Broken, Source>) =>
      smtp.send(envelope, message)
    const connection = (c: SmtpConnection.SmtpConnection) => c.send(envelope, new Uint8Array())
    const use = (smtp: SmtpClient.Client) => smtp.use(() => Effect.fail("mine" as const))
    isTrue<Same<ErrorOf<ReturnType<typeof client>>, Connecting | Sending>>()
    isTrue<Same<NeedOf<ReturnType<typeof client>>, never>>()
    isTrue<Same<ErrorOf<ReturnType<typeof stream>>, Connecting | Sending | Broken>>()
    isTrue<Same<NeedOf<ReturnType<typeof stream>>, Source>>()
    isTrue<Same<ErrorOf<ReturnType<typeof connection>>, Sending>>()
    isTrue<Same<ErrorOf<ReturnType<typeof use>>, Connecting | "mine">>()
    isTrue<Same<ErrorOf<SmtpClient.Client["verify"]>, Connecting>>()
    isTrue<Same<ErrorOf<SmtpConnection.SmtpConnection["noop"]>, WireError>>()
    isTrue<Same<ErrorOf<SmtpConnection.SmtpConnection["quit"]>, never>>()
    isTrue<Same<ErrorOf<ReturnType<typeof SmtpClient.make>>, SmtpError.ECONFIG>>()
    isTrue<
      Same<
        ReturnType<typeof SmtpClient.layer>,
        Layer.Layer<SmtpClient.SmtpClient, SmtpError.ECONFIG, SmtpConnector.SmtpConnector>
      >
    >()
    // @ts-expect-error -- an error that cannot happen is not in the union
    isTrue<Same<ErrorOf<SmtpClient.Client["verify"]>, Connecting | SmtpError.EENVELOPE>>()
  })

  it("catchTag takes one error out, and no other tag", () => {
    const sending = (smtp: SmtpClient.Client) => smtp.send(envelope, "x")
    const handled = (smtp: SmtpClient.Client) => Effect.catchTag(sending(smtp), "EAUTH", (e) => Effect.succeed(e.tried))
    isTrue<Same<ErrorOf<ReturnType<typeof handled>>, Exclude<Connecting | Sending, SmtpError.EAUTH>>>()
    const wrong = (smtp: SmtpClient.Client) =>
      // @ts-expect-error -- there is no such tag
      Effect.catchTag(sending(smtp), "EAUTHENTICATION", () => Effect.void)
    const rest = (smtp: SmtpClient.Client) =>
      // @ts-expect-error -- only ETIMEDOUT says which deadline passed
      Effect.catchTag(sending(smtp), "ESOCKET", (e) => Effect.succeed(e.timeout))
    assert.isFunction(wrong)
    assert.isFunction(rest)
  })

  it("what may be sent is text, octets or a stream of them", () => {
    const calls = (smtp: SmtpClient.Client) => [
      smtp.send(envelope, Stream.make("a", new Uint8Array())),
      smtp.send({ from: "", to: [{ address: "a@b" }, "c@d"], dsn: { notify: ["SUCCESS"], ret: "full" } }, ""),
      // @ts-expect-error -- numbers are no message
      smtp.send(envelope, 5),
      // @ts-expect-error -- nor is a stream of them
      smtp.send(envelope, Stream.make(5)),
      // @ts-expect-error -- an envelope has recipients
      smtp.send({ from: "" }, ""),
      // @ts-expect-error -- in an object they have an address
      smtp.send({ from: "", to: { name: "Bob" } }, "")
    ]
    assert.isFunction(calls)
  })
})
