import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import type * as LogLevel from "effect/LogLevel"
import * as Metric from "effect/Metric"
import * as Otlp from "effect/observability/Otlp"
import * as Redacted from "effect/Redacted"
import * as References from "effect/References"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as Tracer from "effect/Tracer"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { json } from "node:stream/consumers"
import type * as Envelope from "../src/Envelope.ts"
import { noting, withEpilogue } from "../src/internal/deadline.ts"
import { resolve } from "../src/internal/options.ts"
import * as observe from "../src/internal/telemetry/observe.ts"
import * as Sasl from "../src/Sasl.ts"
import * as SmtpClient from "../src/SmtpClient.ts"
import * as SmtpConnection from "../src/SmtpConnection.ts"
import { SmtpConnector } from "../src/SmtpConnector.ts"
import * as SmtpMetrics from "../src/SmtpMetrics.ts"
import * as SmtpPool from "../src/SmtpPool.ts"
import { SmtpServer } from "../src/testing/index.ts"
import { open } from "./support/modes.ts"
import { assertHidden } from "./support/secrets.ts"
import { attributesOf, connected, makeTracer } from "./support/spans.ts"

const envelope: Envelope.Input = { from: "ann@me.test", to: "bob@mx.test" }
const three: Envelope.Input = { from: "ann@me.test", to: ["a@mx.test", "b@mx.test", "c@mx.test"] }
/** With DATA the end of a message is not out before the replies to its envelope are in. */
const options: SmtpClient.Options = { host: "mx.test", name: "me.test", chunking: false }

interface Seen<A, E> {
  readonly exit: Exit.Exit<A, E>
  readonly spans: ReadonlyArray<Tracer.NativeSpan>
  readonly metrics: ReadonlyArray<Metric.Metric.Snapshot>
}

type Needs = SmtpConnector | SmtpServer.SmtpServer | Scope.Scope

/** Runs a program with a tracer and metrics of its own; the metrics are read before its scope closes. */
const seen = Effect.fnUntraced(function*<A, E>(
  script: SmtpServer.Script,
  program: Effect.Effect<A, E, Needs>,
  level: LogLevel.LogLevel = "Info"
) {
  const { spans, tracer } = makeTracer()
  const registry: Metric.MetricRegistry = new Map()
  let metrics: ReadonlyArray<Metric.Metric.Snapshot> = []
  const exit = yield* program.pipe(
    Effect.exit,
    Effect.tap(Effect.map(Metric.snapshot, (snapshot) => {
      metrics = snapshot
    })),
    Effect.scoped,
    Effect.provide(Layer.mergeAll(
      SmtpServer.layer(script),
      Layer.succeed(Tracer.Tracer, tracer),
      Layer.succeed(Metric.MetricRegistry, registry),
      Layer.succeed(References.MinimumLogLevel, level)
    ))
  )
  return { exit, spans, metrics } satisfies Seen<A, E>
})

const sending = (given: SmtpClient.Options = options, to = envelope, message = "Subject: x\r\n\r\nhi\r\n") =>
  Effect.flatMap(SmtpClient.make(given), (smtp) => smtp.send(to, message))

const named = ({ spans }: { readonly spans: ReadonlyArray<Tracer.NativeSpan> }, name: string) =>
  spans.filter((span) => span.name === name)
const sends = (run: { readonly spans: ReadonlyArray<Tracer.NativeSpan> }) => named(run, "smtp.send").map(attributesOf)

/** The series of a metric: the values of its attributes, and its state as one number. */
const series = (
  { metrics }: { readonly metrics: ReadonlyArray<Metric.Metric.Snapshot> },
  definition: SmtpMetrics.Definition
) =>
  Object.fromEntries(
    metrics.filter(({ id }) => id === definition.name).map((one) => {
      const labels = definition.attributes.flatMap((name) => one.attributes?.[name] ?? [])
      if (one.type === "Counter") return [labels.join(" "), Number(one.state.count)]
      if (one.type === "Gauge") return [labels.join(" "), Number(one.state.value)]
      return one.type === "Histogram" ? [labels.join(" "), one.state.count] : assert.fail(one.type)
    })
  )

const sums = (run: { readonly metrics: ReadonlyArray<Metric.Metric.Snapshot> }, definition: SmtpMetrics.Definition) =>
  Object.fromEntries(
    run.metrics.flatMap((one) =>
      one.id === definition.name && one.type === "Histogram"
        ? [[definition.attributes.flatMap((name) => one.attributes?.[name] ?? []).join(" "), one.state.sum]]
        : []
    )
  )

const refusing = (...refused: ReadonlyArray<string>): SmtpServer.Script => ({
  respond: {
    rcpt: ({ path }) => refused.includes(path ?? "") ? SmtpServer.reply(550, "5.1.1 no such user") : undefined
  }
})

describe("the span of a send", () => {
  it.effect("that succeeds has all that is known, and the span of its connection inside", () =>
    Effect.gen(function*() {
      const run = yield* seen({}, Effect.withSpan(sending(), "caller"))
      const [caller, sent, connect] = run.spans
      assert.deepStrictEqual(run.spans.map(({ kind, name }) => `${name} ${kind}`), [
        "caller internal",
        "smtp.send client",
        "smtp.connect client"
      ])
      assert.strictEqual(sent?.parent._tag === "Some" && sent.parent.value, caller)
      assert.strictEqual(connect?.parent._tag === "Some" && connect.parent.value, sent)
      assert.deepStrictEqual(attributesOf(connect), connected)
      assert.deepStrictEqual(attributesOf(sent), {
        ...connected,
        "smtp.outcome": "sent",
        "smtp.in_doubt": false,
        "smtp.response.code": 250,
        "smtp.response.enhanced_code": "2.0.0",
        "smtp.recipients.accepted": 1,
        "smtp.recipients.rejected": 0,
        "smtp.message.size": 18
      })
      for (const { status } of run.spans) assert.isTrue(status._tag === "Ended" && Exit.isSuccess(status.exit))
    }))

  it.effect("that some recipients were refused in counts them", () =>
    Effect.gen(function*() {
      const run = yield* seen(refusing("b@mx.test"), sending(options, three))
      assert.deepInclude(sends(run)[0], {
        "smtp.outcome": "partial",
        "smtp.in_doubt": false,
        "smtp.recipients.accepted": 2,
        "smtp.recipients.rejected": 1
      })
      assert.notProperty(sends(run)[0], "error.type")
    }))

  it.effect("that all recipients were refused in has the error, the codes and the connection", () =>
    Effect.gen(function*() {
      const run = yield* seen(refusing("a@mx.test", "b@mx.test", "c@mx.test"), sending(options, three))
      assert.deepStrictEqual(sends(run)[0], {
        ...connected,
        "smtp.outcome": "refused",
        "smtp.in_doubt": false,
        "error.type": "EENVELOPE",
        "smtp.response.code": 550,
        "smtp.response.enhanced_code": "5.1.1",
        "smtp.recipients.accepted": 0,
        "smtp.recipients.rejected": 3
      })
      const [sent] = named(run, "smtp.send")
      assert.isTrue(sent?.status._tag === "Ended" && Exit.isFailure(sent.status.exit))
    }))

  it.effect("in doubt says so, with the connection that was lost and no code that never came", () =>
    Effect.gen(function*() {
      const run = yield* seen({ faults: [SmtpServer.at("message", SmtpServer.drop)] }, sending())
      assert.deepStrictEqual(sends(run)[0], {
        ...connected,
        "smtp.outcome": "in_doubt",
        "smtp.in_doubt": true,
        "error.type": "ECONNECTION"
      })
    }))

  it.effect("that some recipients are in doubt in is partial and in doubt", () =>
    Effect.gen(function*() {
      const script: SmtpServer.Script = {
        protocol: "lmtp",
        faults: [SmtpServer.at("message", SmtpServer.drop, { occurrence: 2 })]
      }
      const run = yield* seen(script, sending({ ...options, protocol: "lmtp" }, three))
      assert.deepInclude(sends(run)[0], {
        "network.protocol.name": "lmtp",
        "server.port": 24,
        "smtp.outcome": "partial",
        "smtp.in_doubt": true,
        "smtp.recipients.accepted": 1,
        "smtp.recipients.rejected": 2
      })
      assert.deepStrictEqual(series(run, SmtpMetrics.messages), { partial: 1 })
      assert.deepStrictEqual(series(run, SmtpMetrics.inDoubt), { "": 1 })
    }))

  it.effect("whose connection cannot be opened has the error, as has that of the connection", () =>
    Effect.gen(function*() {
      const run = yield* seen({ greeting: SmtpServer.reply(554, "5.3.2 closed") }, sending())
      const { "network.peer.address": _, ...failed } = {
        "network.peer.address": undefined,
        "error.type": "ECONNECTION",
        "smtp.response.code": 554,
        "smtp.response.enhanced_code": "5.3.2"
      }
      assert.deepInclude(sends(run)[0], { ...failed, "smtp.outcome": "refused", "smtp.in_doubt": false })
      assert.deepInclude(attributesOf(named(run, "smtp.connect")[0]), failed)
      assert.notProperty(sends(run)[0], "tls.established")
    }))

  it.effect("whose message fails by itself has no tag of ours", () =>
    Effect.gen(function*() {
      const message = Stream.fail({ _tag: "MyOwn", id: 17 })
      const run = yield* seen({}, Effect.flatMap(SmtpClient.make(options), (smtp) => smtp.send(envelope, message)))
      assert.deepInclude(sends(run)[0], { "smtp.outcome": "failed", "error.type": "_OTHER" })
      assert.deepStrictEqual(series(run, SmtpMetrics.messages), { "failed _OTHER": 1 })
    }))

  it.effect("that ends in a reply out of place has failed, though it was a positive one", () =>
    Effect.gen(function*() {
      const run = yield* seen({ faults: [SmtpServer.at("data", SmtpServer.answer(250, "2.0.0 ok"))] }, sending())
      assert.deepInclude(sends(run)[0], {
        "smtp.outcome": "failed",
        "error.type": "EPROTOCOL",
        "smtp.response.code": 250
      })
    }))

  it.effect("over a unix socket names the path, and no port", () =>
    Effect.gen(function*() {
      const run = yield* seen({}, sending({ path: "/run/mail.sock", name: "me.test" }))
      const sent = sends(run)[0]
      assert.deepInclude(sent, {
        "server.address": "/run/mail.sock",
        "network.transport": "unix",
        "network.peer.address": "/run/mail.sock",
        "tls.established": false
      })
      assert.notProperty(sent, "server.port")
      assert.notProperty(sent, "network.peer.port")
    }))

  const peers: ReadonlyArray<readonly [text: string | undefined, address: string | undefined, port?: number]> = [
    ["192.0.2.7:2525", "192.0.2.7", 2525],
    ["[2001:db8::1]:25", "2001:db8::1", 25],
    ["[fe80::1%eth0]:587", "fe80::1%eth0", 587],
    ["mx.test:25 via socks5://proxy.test:1080", undefined],
    [undefined, undefined]
  ]
  for (const [text, address, port] of peers) {
    it.effect(`to the peer ${text} has ${address === undefined ? "no address" : "its address and port"}`, () =>
      Effect.gen(function*() {
        const program = Effect.gen(function*() {
          const connector = yield* SmtpConnector
          const connect = (target: Parameters<typeof connector.connect>[0]) =>
            Effect.map(connector.connect(target), (duplex) =>
              new Proxy(duplex, {
                get: (from, name) => name === "remoteAddress" ? text : Reflect.get(from, name, from) as unknown
              }))
          return yield* Effect.provideService(sending(), SmtpConnector, { ...connector, connect })
        })
        const [sent] = sends(yield* seen({}, program))
        assert.strictEqual(sent?.["network.peer.address"], address)
        assert.strictEqual(sent?.["network.peer.port"], port)
        assert.strictEqual(sent?.["smtp.outcome"], "sent")
      }))
  }
})

describe("the span of a send that is cut short", () => {
  const cut = (
    fault: SmtpServer.PlacedFault,
    end: (send: ReturnType<typeof sending>) => Effect.Effect<unknown, unknown, Needs>
  ) => seen({ faults: [fault] }, end(sending()))

  const interrupted = (send: ReturnType<typeof sending>) =>
    Effect.gen(function*() {
      const fiber = yield* Effect.forkChild(send, { startImmediately: true })
      yield* TestClock.adjust("1 second")
      const interruption = yield* Effect.forkChild(Fiber.interrupt(fiber), { startImmediately: true })
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(interruption)
    })

  it.effect("before its end is interrupted, without an error", () =>
    Effect.gen(function*() {
      const run = yield* cut(SmtpServer.at("mail", SmtpServer.silence), interrupted)
      assert.deepInclude(sends(run)[0], { "smtp.outcome": "interrupted", "smtp.in_doubt": false })
      assert.notProperty(sends(run)[0], "error.type")
      assert.deepStrictEqual(series(run, SmtpMetrics.messages), { interrupted: 1 })
      assert.deepStrictEqual(series(run, SmtpMetrics.inDoubt), {})
    }))

  it.effect("behind its end is in doubt", () =>
    Effect.gen(function*() {
      const run = yield* cut(SmtpServer.at("message", SmtpServer.silence), interrupted)
      assert.deepInclude(sends(run)[0], { "smtp.outcome": "in_doubt", "smtp.in_doubt": true })
      assert.deepStrictEqual(series(run, SmtpMetrics.messages), { in_doubt: 1 })
      assert.deepStrictEqual(series(run, SmtpMetrics.inDoubt), { "": 1 })
    }))

  for (const [code, outcome] of [[250, "sent"], [554, "refused"]] as const) {
    it.effect(`behind its end, and then answered ${code}, is ${outcome}`, () =>
      Effect.gen(function*() {
        const script: SmtpServer.Script = {
          respond: { message: () => SmtpServer.reply(code, "as the test says") },
          faults: [SmtpServer.at("message", SmtpServer.delay("1300 millis"))]
        }
        const run = yield* seen(script, interrupted(sending()))
        assert.deepInclude(sends(run)[0], { "smtp.outcome": outcome, "smtp.response.code": code })
        const total = { ...options, timeouts: { total: "1 second" } } as const
        const late = yield* seen(
          script,
          Effect.gen(function*() {
            const fiber = yield* Effect.forkChild(sending(total), { startImmediately: true })
            yield* TestClock.adjust("2 seconds")
            yield* Fiber.await(fiber)
          })
        )
        assert.deepInclude(sends(late)[0], { "smtp.outcome": outcome, "error.type": "ETIMEDOUT" })
      }))
  }
})

describe("a send that is interrupted when it is over", () => {
  it.effect("counts as what it was", () =>
    Effect.gen(function*() {
      const run = yield* seen(
        {},
        Effect.gen(function*() {
          const connection = yield* SmtpConnection.make(options)
          const target = observe.target(Result.getOrThrow(resolve(options)))
          const lingering = observe.send(target, () =>
            withEpilogue((note) => Effect.andThen(noting(connection.send(envelope, "x"), note), Effect.never)))
          const fiber = yield* Effect.forkChild(lingering, { startImmediately: true })
          yield* TestClock.adjust("1 second")
          yield* Fiber.interrupt(fiber)
        })
      )
      assert.deepInclude(sends(run)[0], { "smtp.outcome": "sent", "smtp.recipients.accepted": 1 })
      assert.deepStrictEqual(series(run, SmtpMetrics.messages), { sent: 1 })
    }))
})

describe("spans of several sends", () => {
  it.effect("share the connection, whose span is inside the first", () =>
    Effect.gen(function*() {
      const run = yield* seen(
        {},
        Effect.gen(function*() {
          const smtp = yield* SmtpClient.make(options)
          yield* smtp.send(envelope, "1")
          yield* smtp.send(envelope, "2")
        })
      )
      assert.deepStrictEqual(run.spans.map(({ name }) => name), ["smtp.send", "smtp.connect", "smtp.send"])
      assert.deepStrictEqual(sends(run)[1], sends(run)[0])
    }))

  it.effect("of a sendAll are one for each mail, with what became of it", () =>
    Effect.gen(function*() {
      const mails = Stream.make(
        { envelope, message: "1" },
        { envelope: { from: "", to: "no@mx.test" }, message: "2" },
        { envelope: { from: "", to: "nobody" }, message: "3" },
        { envelope, message: "4" }
      )
      const run = yield* seen(
        refusing("no@mx.test"),
        Effect.withSpan(
          Effect.flatMap(SmtpClient.make(options), (smtp) => Stream.runCollect(smtp.sendAll(mails))),
          "caller"
        )
      )
      const outcomes = sends(run).map((one) => [one["smtp.outcome"], one["error.type"], one["tls.established"]])
      assert.deepStrictEqual(outcomes.toSorted(), [
        ["failed", "EENVELOPE", true],
        ["refused", "EENVELOPE", true],
        ["sent", undefined, true],
        ["sent", undefined, true]
      ])
      for (const { kind, parent, status } of named(run, "smtp.send")) {
        assert.strictEqual(kind, "client")
        assert.strictEqual(parent._tag === "Some" && parent.value._tag === "Span" && parent.value.name, "caller")
        assert.strictEqual(status._tag, "Ended")
      }
      assert.deepStrictEqual(series(run, SmtpMetrics.messages), {
        "failed EENVELOPE": 1,
        "refused EENVELOPE": 1,
        sent: 2
      })
    }))

  it.effect("of a sendAll that nobody reads to its end are ended as interrupted", () =>
    Effect.gen(function*() {
      const script = { faults: [SmtpServer.at("message", SmtpServer.silence, { occurrence: 3 })] }
      const mails = Stream.make(1, 2, 3, 4).pipe(Stream.map((n) => ({ envelope, message: `${n}` })))
      const run = yield* seen(
        script,
        Effect.flatMap(
          SmtpClient.make({ ...options, pool: { max: 1 } }),
          (smtp) => Stream.runDrain(Stream.take(smtp.sendAll(mails), 2))
        )
      )
      const all = named(run, "smtp.send")
      assert.deepStrictEqual(all.slice(0, 3).map((one) => attributesOf(one)["smtp.outcome"]), [
        "sent",
        "sent",
        "interrupted"
      ])
      for (const { status } of all) assert.strictEqual(status._tag, "Ended")
      assert.strictEqual(series(run, SmtpMetrics.messages)["sent"], 2)
    }))

  it.effect("of a sendAll count once, whether their results are read or not", () =>
    Effect.gen(function*() {
      const mails = Stream.range(1, 8).pipe(Stream.map((n) => ({ envelope, message: `${n}` })))
      const run = yield* seen(
        {},
        Effect.gen(function*() {
          const smtp = yield* SmtpClient.make(options)
          const slowly = Stream.tap(Stream.rechunk(smtp.sendAll(mails), 1), () => TestClock.adjust("1 second"))
          yield* Stream.runDrain(Stream.take(slowly, 1))
        })
      )
      const counted = Object.values(series(run, SmtpMetrics.messages)).reduce((sum, count) => sum + count, 0)
      assert.strictEqual(counted, named(run, "smtp.send").length)
      assert.isAbove(series(run, SmtpMetrics.messages)["sent"] ?? 0, 1)
    }))

  it.effect("of tries again are one each, and say how often it was tried before", () =>
    Effect.gen(function*() {
      const busy = [1, 2].map((occurrence) =>
        SmtpServer.at("mail", SmtpServer.answer(451, "4.3.2 busy"), { occurrence })
      )
      const run = yield* seen(
        { faults: busy },
        Effect.flatMap(
          SmtpClient.make(options),
          (smtp) => SmtpClient.retryTemporary(smtp, Schedule.recurs(3)).send(envelope, "x")
        )
      )
      assert.deepStrictEqual(sends(run).map((one) => [one["smtp.outcome"], one["smtp.resend_count"]]), [
        ["refused", undefined],
        ["refused", 1],
        ["sent", 2]
      ])
      assert.deepStrictEqual(series(run, SmtpMetrics.messages), { "refused EENVELOPE": 2, sent: 1 })
      assert.deepStrictEqual(series(run, SmtpMetrics.retries), { temporary: 2 })
    }))

  it.effect("of a fallback are one for each server that is asked", () =>
    Effect.gen(function*() {
      const run = yield* seen(
        { faults: [SmtpServer.at("connect", SmtpServer.reset, { connection: 1 })] },
        Effect.gen(function*() {
          const first = yield* SmtpClient.make({ ...options, host: "mx1.test" })
          const other = yield* SmtpClient.make({ ...options, host: "mx2.test" })
          return yield* SmtpClient.withFallback([first, other]).send(envelope, "x")
        }),
        "Error"
      )
      assert.deepStrictEqual(sends(run).map((one) => [one["server.address"], one["smtp.outcome"], one["error.type"]]), [
        ["mx1.test", "failed", "ESOCKET"],
        ["mx2.test", "sent", undefined]
      ])
      assert.deepStrictEqual(series(run, SmtpMetrics.retries), { fallback: 1 })
      assert.deepStrictEqual(series(run, SmtpMetrics.connections), { ESOCKET: 1, "in-memory": 1 })
    }))

  it.effect("on a stale connection are one, with both connections' spans", () =>
    Effect.gen(function*() {
      const run = yield* seen(
        { faults: [SmtpServer.at("mail", SmtpServer.drop, { connection: 1, occurrence: 2 })] },
        Effect.gen(function*() {
          const smtp = yield* SmtpClient.make(options)
          yield* smtp.send(envelope, "1")
          yield* smtp.send(envelope, "2")
        })
      )
      assert.deepStrictEqual(run.spans.map(({ name }) => name), [
        "smtp.send",
        "smtp.connect",
        "smtp.send",
        "smtp.connect"
      ])
      assert.deepStrictEqual(sends(run).map((one) => one["smtp.outcome"]), ["sent", "sent"])
      assert.deepStrictEqual(series(run, SmtpMetrics.messages), { sent: 2 })
      assert.deepStrictEqual(series(run, SmtpMetrics.retries), { stale: 1 })
      assert.deepStrictEqual(series(run, SmtpMetrics.reconnects), { "": 1 })
      assert.deepStrictEqual(series(run, SmtpMetrics.connections), { "in-memory": 2 })
    }))

  it.effect("through a pool of one's own are the same", () =>
    Effect.gen(function*() {
      const run = yield* seen(
        {},
        Effect.gen(function*() {
          const pool = yield* SmtpPool.make(options)
          yield* pool.send(envelope, "1")
          yield* Stream.runDrain(pool.sendAll(Stream.make({ envelope, message: "2" })))
        })
      )
      assert.deepStrictEqual(run.spans.map(({ name }) => name), ["smtp.send", "smtp.connect", "smtp.send"])
      assert.deepStrictEqual(sends(run)[0], sends(run)[1])
      assert.deepStrictEqual(series(run, SmtpMetrics.messages), { sent: 2 })
    }))

  it.effect("are not made where nobody has given a tracer, nor where tracing is off", () =>
    Effect.gen(function*() {
      const spans: Array<string> = []
      const message = Stream.suspend(() => Stream.make("x")).pipe(
        Stream.onStart(Effect.map(Effect.result(Effect.currentSpan), (span) => {
          spans.push(Result.isSuccess(span) ? span.success.name : "none")
        }))
      )
      const program = Effect.flatMap(SmtpClient.make(options), (smtp) => smtp.send(envelope, message))
      yield* Effect.provide(Effect.scoped(program), SmtpServer.layer())
      assert.deepStrictEqual(spans, ["none"])
      const run = yield* seen({}, Effect.withTracerEnabled(sending(), false))
      assert.deepStrictEqual(run.spans, [])
      assert.deepStrictEqual(series(run, SmtpMetrics.messages), { sent: 1 })
    }))
})

describe("events of a span", () => {
  const auth = Sasl.password({ username: "ann", password: Redacted.make("CANARY") })
  const events = (span: Tracer.NativeSpan | undefined) => span?.events.map(([name]) => name)

  it.effect("tell of each step at debug level", () =>
    Effect.gen(function*() {
      const run = yield* seen({ accounts: { ann: "CANARY" } }, sending({ ...options, auth }), "Debug")
      const [sent] = named(run, "smtp.send")
      const [connect] = named(run, "smtp.connect")
      assert.deepStrictEqual(events(connect), ["smtp.dns", "smtp.connect", "smtp.greeting", "smtp.tls", "smtp.auth"])
      assert.deepStrictEqual(events(sent), ["smtp.mail", "smtp.data", "smtp.final"])
      assert.deepStrictEqual(sent?.events.map(([, , about]) => about["smtp.response.code"]), [250, undefined, 250])
    }))

  it.effect("tell of a message that goes with its envelope in the order of the wire", () =>
    Effect.gen(function*() {
      const run = yield* seen({ extensions: open }, sending({ ...options, chunking: true }), "All")
      assert.deepStrictEqual(events(named(run, "smtp.send")[0]), ["smtp.bdat", "smtp.mail", "smtp.final"])
    }))

  it.effect("tell of a send with a deadline over all of it too", () =>
    Effect.gen(function*() {
      const run = yield* seen({}, sending({ ...options, timeouts: { total: "1 minute" } }), "Debug")
      assert.deepStrictEqual(events(named(run, "smtp.send")[0]), ["smtp.mail", "smtp.data", "smtp.final"])
    }))

  it.effect("say how long each took, and when it was", () =>
    Effect.gen(function*() {
      const faults = [
        SmtpServer.at("greeting", SmtpServer.delay("2 seconds")),
        SmtpServer.at("mail", SmtpServer.delay("3 seconds")),
        SmtpServer.at("message", SmtpServer.delay("5 seconds"))
      ]
      const run = yield* seen(
        { faults },
        Effect.gen(function*() {
          const fiber = yield* Effect.forkChild(sending(), { startImmediately: true })
          yield* TestClock.adjust("1 minute")
          return yield* Fiber.join(fiber)
        }),
        "Debug"
      )
      const told = run.spans.flatMap((span) => span.events.map(([name, at, about]) => [name, at, about] as const))
      const took = Object.fromEntries(told.map(([name, , about]) => [name, about["smtp.phase.duration"]]))
      assert.deepInclude(took, { "smtp.greeting": 2, "smtp.mail": 3, "smtp.data": 0, "smtp.final": 5 })
      const at = Object.fromEntries(told.map(([name, time]) => [name, Number(time) / 1e9]))
      assert.deepInclude(at, { "smtp.greeting": 2, "smtp.mail": 5, "smtp.data": 5, "smtp.final": 10 })
    }))

  it.effect("say what a step failed with", () =>
    Effect.gen(function*() {
      const run = yield* seen({ tls: { fail: true } }, sending(), "Debug")
      const tls = named(run, "smtp.connect")[0]?.events.find(([name]) => name === "smtp.tls")
      assert.strictEqual(tls?.[2]["error.type"], "ETLS")
    }))

  for (const level of ["Info", "Warn", "None"] as const) {
    it.effect(`are not made at level ${level}`, () =>
      Effect.gen(function*() {
        const { spans } = yield* seen({}, sending(), level)
        for (const span of spans) assert.isUndefined(span._events)
      }))
  }
})

describe("metrics", () => {
  it.effect("of sends are by what became of them", () =>
    Effect.gen(function*() {
      const faults = [
        SmtpServer.at("message", SmtpServer.drop, { connection: 1, occurrence: 4 }),
        SmtpServer.at("greeting", SmtpServer.drop, { connection: 3 })
      ]
      const run = yield* seen(
        { ...refusing("no@mx.test"), faults },
        Effect.gen(function*() {
          const smtp = yield* SmtpClient.make(options)
          yield* smtp.send(envelope, "12345")
          yield* smtp.send(envelope, "12345")
          yield* smtp.send({ from: "", to: ["no@mx.test", "yes@mx.test"] }, "1234567\r\n")
          yield* Effect.ignore(smtp.send({ from: "", to: "no@mx.test" }, "refused"))
          yield* Effect.ignore(smtp.send(envelope, "in doubt"))
          yield* Effect.ignore(smtp.send({ from: "", to: "nobody" }, "no address"))
          yield* smtp.use((connection) => connection.quit)
          yield* Effect.ignore(smtp.send(envelope, "no connection"))
        })
      )
      assert.deepStrictEqual(series(run, SmtpMetrics.messages), {
        sent: 2,
        partial: 1,
        "refused EENVELOPE": 1,
        "in_doubt ECONNECTION": 1,
        "failed EENVELOPE": 1,
        "failed ECONNECTION": 1
      })
      assert.deepStrictEqual(series(run, SmtpMetrics.inDoubt), { "": 1 })
      assert.deepStrictEqual(sums(run, SmtpMetrics.messageSize), { "": 7 + 7 + 9 })
      assert.deepStrictEqual(series(run, SmtpMetrics.messageSize), { "": 3 })
      assert.deepStrictEqual(series(run, SmtpMetrics.connections), { "in-memory": 2, ECONNECTION: 1 })
    }))

  it.effect("have a duration in seconds for each phase", () =>
    Effect.gen(function*() {
      const slow = (step: SmtpServer.Step, duration: number) => SmtpServer.at(step, SmtpServer.delay(duration * 1000))
      const faults = [slow("greeting", 2), slow("starttls", 3), slow("auth", 5), slow("mail", 7), slow("message", 11)]
      const auth = Sasl.password({ username: "ann", password: Redacted.make("CANARY") })
      const run = yield* seen(
        { faults, accounts: { ann: "CANARY" } },
        Effect.gen(function*() {
          const fiber = yield* Effect.forkChild(sending({ ...options, auth }), { startImmediately: true })
          yield* TestClock.adjust("10 minutes")
          return yield* Fiber.join(fiber)
        })
      )
      const phases = { dns: 1, connect: 1, greeting: 1, tls: 1, auth: 1, final: 1, send: 1 }
      assert.deepStrictEqual(series(run, SmtpMetrics.duration), phases)
      const took = { dns: 0, connect: 0, greeting: 2, tls: 0, auth: 5, final: 11, send: 28 }
      assert.deepStrictEqual(sums(run, SmtpMetrics.duration), took)
    }))

  it.effect("have the durations of failures apart", () =>
    Effect.gen(function*() {
      const run = yield* seen({ faults: [SmtpServer.at("connect", SmtpServer.reset)] }, sending())
      const failed = { dns: 1, "connect ESOCKET": 1, "send ESOCKET": 1 }
      assert.deepStrictEqual(series(run, SmtpMetrics.duration), failed)
      const late = yield* seen(
        { faults: [SmtpServer.at("greeting", SmtpServer.silence)] },
        Effect.gen(function*() {
          const fiber = yield* Effect.forkChild(sending(), { startImmediately: true })
          yield* TestClock.adjust("1 second")
          yield* Fiber.interrupt(fiber)
        })
      )
      assert.deepStrictEqual(series(late, SmtpMetrics.duration), { dns: 1, connect: 1 })
      assert.deepStrictEqual(series(late, SmtpMetrics.connections), {})
    }))

  it.effect("count each final reply, of overlapping mails and on connections by themselves too", () =>
    Effect.gen(function*() {
      const mails = Stream.range(1, 20).pipe(Stream.map((n) => ({ envelope, message: `${n}` })))
      const run = yield* seen(
        {},
        Effect.gen(function*() {
          const connection = yield* SmtpConnection.make(options)
          yield* Stream.runDrain(connection.sendAll(mails))
          yield* connection.send(envelope, Stream.make("streamed"))
        })
      )
      assert.strictEqual(series(run, SmtpMetrics.duration)["final"], 21)
      assert.deepStrictEqual(series(run, SmtpMetrics.messages), {})
      assert.deepStrictEqual(run.spans, [])
    }))

  it.effect("know a connector that dies from a server that fails", () =>
    Effect.gen(function*() {
      const program = Effect.flatMap(SmtpConnector, (connector) =>
        Effect.provideService(sending(), SmtpConnector, {
          ...connector,
          connect: () => Effect.die({ _tag: "Mine" })
        }))
      const run = yield* seen({}, program)
      assert.deepStrictEqual(series(run, SmtpMetrics.connections), { _OTHER: 1 })
      assert.deepStrictEqual(attributesOf(named(run, "smtp.connect")[0])["error.type"], "_OTHER")
    }))

  it.effect("count as reconnections no more connections than were lost", () =>
    Effect.gen(function*() {
      const faults = [SmtpServer.at("idle", SmtpServer.drop, { connection: 1 })]
      const run = yield* seen(
        { faults },
        Effect.gen(function*() {
          const smtp = yield* SmtpClient.make(options)
          yield* smtp.send(envelope, "x")
          yield* TestClock.adjust("1 second")
          yield* Effect.all([smtp.send(envelope, "x"), smtp.send(envelope, "x")], { concurrency: 2 })
        })
      )
      assert.deepStrictEqual(series(run, SmtpMetrics.connections), { "in-memory": 3 })
      assert.deepStrictEqual(series(run, SmtpMetrics.reconnects), { "": 1 })
      assert.deepStrictEqual(series(run, SmtpMetrics.retries), {})
    }))

  it.effect("tell the version of TLS, and that there is none", () =>
    Effect.gen(function*() {
      const program = Effect.gen(function*() {
        yield* SmtpConnection.make({ ...options, tls: "off" })
        yield* SmtpConnection.make(options)
        yield* Effect.ignore(SmtpConnection.make({ ...options, name: "not a name" }))
      })
      const run = yield* seen({}, program)
      assert.deepStrictEqual(series(run, SmtpMetrics.connections), { none: 1, "in-memory": 1 })
    }))

  it.effect("take the attributes of the context, and each registry its own", () =>
    Effect.gen(function*() {
      const program = Effect.gen(function*() {
        const smtp = yield* SmtpClient.make(options)
        yield* Effect.provideService(smtp.send(envelope, "x"), Metric.CurrentMetricAttributes, { tenant: "a" })
        yield* smtp.send(envelope, "x")
      })
      const { metrics } = yield* seen({}, program)
      const found = metrics.filter(({ id }) => id === SmtpMetrics.messages.name).map((one) =>
        one.attributes?.["tenant"]
      )
      assert.deepStrictEqual(found, ["a", undefined])
    }))
})

describe("the gauges of pools", () => {
  const gauges = (run: { readonly metrics: ReadonlyArray<Metric.Metric.Snapshot> }) => ({
    size: series(run, SmtpMetrics.poolSize)[""],
    idle: series(run, SmtpMetrics.poolIdle)[""],
    waiting: series(run, SmtpMetrics.poolWaiting)[""]
  })
  const now = Effect.map(Metric.snapshot, (metrics) => gauges({ metrics }))

  it.effect("tell how many connections there are, idle ones, and who waits", () =>
    Effect.gen(function*() {
      const faults = [SmtpServer.at("message", SmtpServer.delay("1 second"), { occurrence: "every" })]
      const run = yield* seen(
        { faults },
        Effect.gen(function*() {
          const smtp = yield* SmtpClient.make({ ...options, pool: { max: 2 } })
          const states = [yield* now]
          const send = Effect.forEach([1, 2, 3, 4, 5], (n) => smtp.send(envelope, `${n}`), { concurrency: 5 })
          const fiber = yield* Effect.forkChild(send, { startImmediately: true })
          for (let i = 0; i < 3; i++) {
            yield* TestClock.adjust("500 millis")
            states.push(yield* now)
            yield* TestClock.adjust("500 millis")
          }
          yield* Fiber.join(fiber)
          return [...states, yield* now]
        })
      )
      assert.deepStrictEqual(Exit.isSuccess(run.exit) && run.exit.value, [
        { size: 0, idle: 0, waiting: 0 },
        { size: 2, idle: 0, waiting: 3 },
        { size: 2, idle: 0, waiting: 1 },
        { size: 2, idle: 1, waiting: 0 },
        { size: 2, idle: 2, waiting: 0 }
      ])
    }))

  it.effect("sum up what pools hold, and go with the last of them", () =>
    Effect.gen(function*() {
      const run = yield* seen(
        {},
        Effect.gen(function*() {
          const one = Effect.flatMap(SmtpClient.make(options), (smtp) => smtp.send(envelope, "x"))
          const states = yield* Effect.scoped(Effect.gen(function*() {
            yield* one
            const first = yield* now
            const both = yield* Effect.scoped(Effect.andThen(one, now))
            return [first, both, yield* now]
          }))
          return [...states, yield* now]
        })
      )
      assert.deepStrictEqual(Exit.isSuccess(run.exit) && run.exit.value, [
        { size: 1, idle: 1, waiting: 0 },
        { size: 2, idle: 2, waiting: 0 },
        { size: 1, idle: 1, waiting: 0 },
        { size: undefined, idle: undefined, waiting: undefined }
      ])
    }))

  it.effect("stand apart for pools with attributes of their own", () =>
    Effect.gen(function*() {
      const of = (relay: string) => Effect.provideService(sending(), Metric.CurrentMetricAttributes, { relay })
      const run = yield* seen({}, Effect.all([of("a"), of("b"), of("b")]))
      const sizes = run.metrics.flatMap((one) =>
        one.id === SmtpMetrics.poolSize.name && one.type === "Gauge"
          ? [[one.attributes?.["relay"], one.state.value]]
          : []
      )
      assert.deepStrictEqual(sizes, [["a", 1], ["b", 2]])
    }))
})

describe("what is told", () => {
  /** Each text is from outside, or secret. */
  const canary = "CANARY\u001b[31m"
  const hostile: SmtpServer.Script = {
    accounts: { ann: "CANARY" },
    greeting: SmtpServer.reply(220, `mx.test ${canary}`),
    respond: {
      rcpt: ({ path }) => path === "no@mx.test" ? SmtpServer.reply(550, `5.1.1 ${canary}`) : undefined,
      message: () => SmtpServer.reply(250, `2.0.0 ${canary}`)
    },
    faults: [SmtpServer.at("mail", SmtpServer.answer(451, `4.3.2 ${canary}`), { occurrence: 4 })]
  }
  const program = Effect.gen(function*() {
    const auth = Sasl.password({ username: "ann", password: Redacted.make("CANARY") })
    const smtp = yield* SmtpClient.make({ ...options, auth })
    const from = "CANARY@me.test"
    yield* smtp.send({ from, to: ["CANARY@mx.test", "no@mx.test"] }, "CANARY")
    yield* Effect.ignore(smtp.send({ from, to: "no@mx.test" }, "CANARY"))
    yield* Effect.ignore(smtp.send({ from, to: "CANARY\r\n@mx.test" }, "CANARY"))
    yield* smtp.send({ from, to: "CANARY@mx.test" }, Stream.make("CANARY"))
    const retrying = SmtpClient.retryTemporary(smtp, Schedule.recurs(1))
    yield* retrying.send({ from, to: "CANARY@mx.test" }, "CANARY")
    yield* Effect.ignore(
      sending({ ...options, auth: Sasl.password({ username: "CANARY", password: Redacted.make("x") }) })
    )
    yield* Effect.ignore(sending({ ...options, host: "mx.test", tls: "off" }))
  })

  it.effect("holds no secret, no address and no text of the server", () =>
    Effect.gen(function*() {
      const run = yield* seen(hostile, program, "All")
      const told = JSON.stringify([
        run.spans.map((span) => [span.name, [...span.attributes], span.events.map(([name, , about]) => [name, about])]),
        run.metrics.map(({ attributes: given, id }) => [id, given])
      ])
      assertHidden(told, "CANARY")
      assert.notInclude(told, "\\u001b")
      assert.notMatch(told, /[\w-]+@[\w-]+\.test/)
      assert.isAtLeast(run.spans.length, 9)
    }))

  it.effect("of metrics is in the catalogue, with few values for each attribute and no host among them", () =>
    Effect.gen(function*() {
      const { metrics } = yield* seen(hostile, program, "All")
      const found = new Set<string>()
      for (const { attributes: given = {}, description, id, type } of metrics) {
        const definition = SmtpMetrics.all.find(({ name }) => name === id) ?? assert.fail(id)
        found.add(id)
        assert.deepStrictEqual([type, description, given["unit"]], [
          definition.type,
          definition.description,
          definition.unit
        ])
        for (const [name, value] of Object.entries(given)) {
          if (name !== "unit") assert.include(definition.attributes, name, id)
          assert.notInclude(value, "mx.test")
        }
      }
      const unseen = SmtpMetrics.all.filter(({ name }) => !found.has(name)).map(({ name }) => name)
      assert.deepStrictEqual(unseen, ["smtp.client.in_doubt", "smtp.client.reconnects"])
    }))
})

/** What a collector was sent, as OTLP writes it in JSON. */
interface Exported {
  readonly resourceSpans?: ReadonlyArray<
    { readonly scopeSpans: ReadonlyArray<{ readonly spans: ReadonlyArray<Span> }> }
  >
  readonly resourceMetrics?: ReadonlyArray<{
    readonly scopeMetrics: ReadonlyArray<{ readonly metrics: ReadonlyArray<Exportable> }>
  }>
}
type Attributes = ReadonlyArray<{ readonly key: string; readonly value: Readonly<Record<string, unknown>> }>
interface Span {
  readonly name: string
  readonly kind: number
  readonly spanId: string
  readonly parentSpanId?: string
  readonly attributes: Attributes
  readonly events: ReadonlyArray<{ readonly name: string }>
}
interface Exportable {
  readonly name: string
  readonly unit: string
  readonly sum?: {
    readonly isMonotonic: boolean
    readonly dataPoints: ReadonlyArray<{ readonly attributes: Attributes }>
  }
  readonly gauge?: { readonly dataPoints: ReadonlyArray<unknown> }
  readonly histogram?: { readonly dataPoints: ReadonlyArray<{ readonly explicitBounds: ReadonlyArray<number> }> }
}

describe("an export over OTLP", () => {
  const collector = Effect.acquireRelease(
    Effect.callback<{ readonly baseUrl: string; readonly received: Array<Exported>; readonly close: () => void }>(
      (resume) => {
        const received: Array<Exported> = []
        const server = createServer((request, response) => {
          void json(request).then((body) => {
            received.push(body as Exported)
            response.setHeader("connection", "close").end("{}")
          })
        }).listen(0, "127.0.0.1", () => {
          const { port } = server.address() as AddressInfo
          const close = () => server.close()
          resume(Effect.succeed({ baseUrl: `http://127.0.0.1:${port}`, received, close }))
        })
      }
    ),
    ({ close }) => Effect.sync(close)
  )

  const valuesOf = (of: Attributes) => Object.fromEntries(of.map(({ key, value }) => [key, Object.values(value)[0]]))

  it.live("reaches a collector with names, kinds, units and attributes", () =>
    Effect.gen(function*() {
      const { baseUrl, received } = yield* collector
      const program = Effect.gen(function*() {
        const smtp = yield* SmtpClient.make({ ...options, chunking: true })
        const backend = Effect.gen(function*() {
          yield* smtp.send(three, "Subject: x\r\n\r\nhi\r\n")
          yield* Effect.ignore(smtp.send({ from: "", to: "nobody" }, "x"))
        })
        const exporter = Otlp.layerJson({ baseUrl, resource: { serviceName: "backend" } })
        yield* Effect.provide(Effect.withSpan(backend, "signup"), Layer.provide(exporter, FetchHttpClient.layer))
      })
      yield* program.pipe(
        Effect.scoped,
        Effect.provide(SmtpServer.layer(refusing("b@mx.test"))),
        Effect.provideService(Metric.MetricRegistry, new Map()),
        Effect.provideService(References.MinimumLogLevel, "Debug")
      )
      const spans = received.flatMap((one) => one.resourceSpans ?? []).flatMap(({ scopeSpans }) =>
        scopeSpans[0]?.spans ?? []
      )
      const [connect, sent, failed, signup] = spans
      assert.deepStrictEqual(spans.map(({ kind, name }) => [name, kind]), [
        ["smtp.connect", 3],
        ["smtp.send", 3],
        ["smtp.send", 3],
        ["signup", 1]
      ])
      assert.deepStrictEqual([connect?.parentSpanId, sent?.parentSpanId], [sent?.spanId, signup?.spanId])
      assert.deepStrictEqual(valuesOf(connect?.attributes ?? []), connected)
      assert.deepStrictEqual(valuesOf(sent?.attributes ?? []), {
        ...connected,
        "smtp.outcome": "partial",
        "smtp.in_doubt": false,
        "smtp.response.code": 250,
        "smtp.response.enhanced_code": "2.0.0",
        "smtp.recipients.accepted": 2,
        "smtp.recipients.rejected": 1,
        "smtp.message.size": 18
      })
      assert.deepInclude(valuesOf(failed?.attributes ?? []), { "smtp.outcome": "failed", "error.type": "EENVELOPE" })
      assert.deepStrictEqual(sent?.events.map(({ name }) => name), ["smtp.mail", "smtp.bdat", "smtp.final"])

      const metrics = received.flatMap((one) => one.resourceMetrics ?? []).at(-1)?.scopeMetrics[0]?.metrics ?? []
      const shapes = metrics.map(({ gauge, histogram, name, sum, unit }) =>
        `${name} ${unit} ${
          sum?.isMonotonic === true ? "sum" : gauge === undefined ? histogram && "histogram" : "gauge"
        }`
      )
      assert.deepStrictEqual(shapes.toSorted(), [
        "smtp.client.connections {connection} sum",
        "smtp.client.duration s histogram",
        "smtp.client.message.size By histogram",
        "smtp.client.messages {message} sum",
        "smtp.client.pool.idle {connection} gauge",
        "smtp.client.pool.size {connection} gauge",
        "smtp.client.pool.waiting {message} gauge"
      ])
      const messages = metrics.find(({ name }) => name === SmtpMetrics.messages.name)?.sum?.dataPoints ?? []
      assert.deepStrictEqual(messages.map((point) => valuesOf(point.attributes)), [
        { unit: "{message}", "smtp.outcome": "partial" },
        { unit: "{message}", "smtp.outcome": "failed", "error.type": "EENVELOPE" }
      ])
      const bounds = metrics.find(({ name }) => name === SmtpMetrics.duration.name)?.histogram?.dataPoints[0]
        ?.explicitBounds
      assert.deepStrictEqual([bounds?.[0], bounds?.at(-1)], [0.001, 600])
    }))
})
