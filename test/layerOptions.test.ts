/**
 * Every option of the layer: with it, and without it, the fake server or the caller sees something else.
 *
 * The table has a row for each key of the types, so a new option does not compile without one.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as Sasl from "../src/Sasl.ts"
import * as SmtpClient from "../src/SmtpClient.ts"
import { type Endpoint, SmtpConnector, type TlsUpgrade } from "../src/SmtpConnector.ts"
import * as SmtpError from "../src/SmtpError.ts"
import { SmtpServer } from "../src/testing/index.ts"

type Given = SmtpClient.Options & SmtpClient.Policies

/** What there is to see of a call through the layer. */
interface Seen {
  readonly targets: ReadonlyArray<Endpoint>
  readonly upgrades: ReadonlyArray<TlsUpgrade>
  /** What the client wrote, write by write. */
  readonly writes: ReadonlyArray<string>
  readonly logs: ReadonlyArray<string>
  /** Of the server, as it is when the call is over. */
  readonly connections: ReadonlyArray<SmtpServer.ConnectionInfo>
  readonly received: number
  /** What the call gave; undefined when it failed. */
  readonly value: unknown
  readonly error: SmtpError.SmtpError | undefined
  /** Seconds that the call took, and the end of the scope. */
  readonly seconds: number
  readonly closing: number
  readonly policies: Effect.Success<SmtpClient.Client["policies"]>
}

type Call = (smtp: SmtpClient.Client) => Effect.Effect<unknown, unknown, SmtpServer.SmtpServer>

/** An option, and what is seen with it and without it. */
interface Row {
  readonly given: Given
  readonly without?: Given
  readonly script?: SmtpServer.Script
  readonly call?: Call
  /** In place of the connector's own. */
  readonly resolve?: Effect.Effect<never>
  readonly connect?: Effect.Effect<never>
  readonly see: (seen: Seen) => unknown
  readonly sees: readonly [withIt: unknown, withoutIt: unknown]
}

const envelope = { from: "ann@me.test", to: "bob@mx.test" }
const text = "Subject: x\r\n\r\nx\r\n"
const send: Call = (smtp) => smtp.send(envelope, text)
const sends = (count: number, concurrency: number | "unbounded" = 1): Call => (smtp) =>
  Effect.all(Array.from({ length: count }, () => smtp.send(envelope, text)), { concurrency })

/** The connector of the fake server, watched. */
const watching = ({ connect, resolve, script = {} }: Row, seen: Pick<Seen, "targets" | "upgrades" | "writes">) => {
  const [targets, upgrades, writes] = [seen.targets, seen.upgrades, seen.writes] as unknown as Array<Array<unknown>>
  return Layer.effect(
    SmtpConnector,
    Effect.map(SmtpConnector, (inner) =>
      SmtpConnector.of({
        ...inner,
        resolve: (endpoint) => resolve ?? inner.resolve(endpoint),
        connect: (target) => {
          targets?.push(target)
          return connect ?? Effect.map(inner.connect(target), (duplex) => ({
            ...duplex,
            upgrade: (tls) => {
              upgrades?.push(tls)
              return duplex.upgrade(tls)
            },
            write: (chunks) => {
              writes?.push(Buffer.concat(chunks).toString())
              return duplex.write(chunks)
            }
          }))
        }
      }))
  ).pipe(Layer.provideMerge(SmtpServer.layer(script)))
}

/** Lets time pass, second by second, until a fiber is done; gives the seconds. */
const drive = Effect.fnUntraced(function*(fiber: Fiber.Fiber<unknown, unknown>) {
  yield* TestClock.adjust(0)
  let seconds = 0
  for (; fiber.pollUnsafe() === undefined && seconds < 4000; seconds++) yield* TestClock.adjust("1 second")
  return seconds
})

/** Calls through a layer of these options, and looks. */
const observe = Effect.fnUntraced(function*(row: Row, given: Given) {
  const logs: Array<string> = []
  const logger = Logger.layer([Logger.make(({ message }) => void logs.push([message].flat().join(" ")))])
  const watched = { targets: [], upgrades: [], writes: [] }
  const scope = yield* Scope.make()
  const layer = SmtpClient.layer({ name: "me.test", ...given }).pipe(Layer.provideMerge(watching(row, watched)))
  const built = yield* Effect.exit(Effect.provide(Layer.buildWithScope(layer, scope), logger))
  if (Exit.isFailure(built)) return { ...watched, error: SmtpError.fromCause(built.cause) } as unknown as Seen
  const smtp = Context.get(built.value, SmtpClient.SmtpClient)
  const server = Context.get(built.value, SmtpServer.SmtpServer)
  const call = (row.call ?? send)(smtp).pipe(Effect.provide(built.value), Effect.provide(logger))
  const fiber = yield* Effect.forkChild(Effect.exit(call))
  const seconds = yield* drive(fiber)
  const exit = yield* Fiber.join(fiber)
  const known = {
    connections: yield* server.connections,
    received: (yield* server.received).length,
    policies: yield* smtp.policies
  }
  const closing = yield* drive(yield* Effect.forkChild(Scope.close(scope, Exit.void)))
  const ended = Exit.isSuccess(exit) ? { value: exit.value, error: undefined } : {
    value: undefined,
    error: SmtpError.fromCause(exit.cause) ?? (yield* Effect.die(Cause.pretty(exit.cause)))
  }
  return { ...watched, ...known, ...ended, logs, seconds, closing } satisfies Seen as Seen
})

const first = ({ connections }: Seen) => connections[0]
const dialled = ({ targets }: Seen) => targets.length
const open = ({ connections }: Seen) => connections.filter((one) => one.open).length
const tagOf = ({ error }: Seen) => error?._tag
const verb = (...verbs: ReadonlyArray<string>) => ({ writes }: Seen) =>
  verbs.find((one) => writes.some((octets) => octets.includes(one)))

const auth = Sasl.password({ username: "ann", password: Redacted.make("geheim") })
const silent = (step: SmtpServer.Step): SmtpServer.Script => ({ faults: [SmtpServer.at(step, SmtpServer.silence)] })
const down = (...connections: ReadonlyArray<number>): SmtpServer.Script => ({
  faults: connections.map((connection) => SmtpServer.at("connect", SmtpServer.reset, { connection }))
})

/** A deadline of 7 seconds in place of the default. */
const deadline = (name: SmtpError.ETIMEDOUT["timeout"], usual: unknown, row: Partial<Row>): Row => ({
  given: { timeouts: { [name]: "7 seconds" } },
  see: ({ error, seconds }) => [error instanceof SmtpError.ETIMEDOUT ? error.timeout : undefined, seconds],
  sees: [[name, 7], usual],
  ...row
})

/** What reaches the connector's handshake unchanged; the real one is tested in `node/`. */
const ofTls = <K extends keyof NonNullable<Given["tlsOptions"]>>(
  key: K,
  value: NonNullable<Given["tlsOptions"]>[K]
): Row => ({
  given: { tlsOptions: { [key]: value } },
  see: ({ upgrades }) => upgrades[0]?.options[key],
  sees: [value, undefined]
})

const pin = "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="

const never: Call = (smtp) => smtp.send(envelope, Stream.never)

/** A call, and then so many seconds in which nothing is sent. */
const idle = (seconds: number, then: Call = () => Effect.void): Call => (smtp) =>
  Effect.andThen(send(smtp), Effect.andThen(Effect.sleep(seconds * 1000), then(smtp)))

const limited = { limit: 1, window: "10 seconds" } as const
const keys = (asked: Array<string>) => ({
  consume: ({ key }: { readonly key: string }) => Effect.sync(() => asked.push(key))
})

type Group = "timeouts" | "tlsOptions" | "pool" | "rateLimit" | "adaptiveConcurrency" | "circuitBreaker"
type Rows<O> = { readonly [K in keyof Required<NonNullable<O>>]: Row }

const single: { readonly [K in Exclude<keyof Required<Given>, Group>]: Row } = {
  host: { given: { host: "mx.test" }, see: ({ targets }) => targets[0]?.host, sees: ["mx.test", "localhost"] },
  port: { given: { port: 2525 }, see: ({ targets }) => targets[0]?.port, sees: [2525, 25] },
  path: {
    given: { path: "/run/smtp.sock" },
    see: ({ targets }) => targets[0]?.path,
    sees: ["/run/smtp.sock", undefined]
  },
  tls: { given: { tls: "off" }, see: (seen) => first(seen)?.secure, sees: [false, true] },
  servername: {
    given: { host: "mx.test", servername: "cert.test" },
    without: { host: "mx.test" },
    see: ({ upgrades }) => upgrades[0]?.servername,
    sees: ["cert.test", "mx.test"]
  },
  name: { given: { name: "you.test" }, see: (seen) => first(seen)?.helo, sees: ["you.test", "me.test"] },
  localAddress: {
    given: { localAddress: "192.0.2.9" },
    see: ({ targets }) => targets[0]?.localAddress,
    sees: ["192.0.2.9", undefined]
  },
  family: { given: { family: 6 }, see: ({ targets }) => targets[0]?.family, sees: [6, undefined] },
  protocol: {
    given: { protocol: "lmtp" },
    script: { protocol: "lmtp" },
    see: (seen) => [verb("LHLO", "EHLO")(seen), seen.received],
    sees: [["LHLO", 1], ["EHLO", 0]]
  },
  auth: { given: { auth }, see: (seen) => first(seen)?.username, sees: ["ann", undefined] },
  mechanisms: {
    given: { auth, mechanisms: ["LOGIN"] },
    without: { auth },
    see: verb("AUTH LOGIN", "AUTH PLAIN"),
    sees: ["AUTH LOGIN", "AUTH PLAIN"]
  },
  minimumMechanism: {
    given: { auth, minimumMechanism: "SCRAM-SHA-256" },
    without: { auth },
    see: tagOf,
    sees: ["EAUTH", undefined]
  },
  channelBinding: {
    given: { auth, channelBinding: "required" },
    without: { auth },
    see: tagOf,
    sees: ["EAUTH", undefined]
  },
  allowInsecureAuth: {
    given: { auth, tls: "off", allowInsecureAuth: true },
    without: { auth, tls: "off" },
    script: { extensions: { authBeforeTls: ["PLAIN"] } },
    see: ({ error }) => error?.field,
    sees: [undefined, "options.auth"]
  },
  pipelining: {
    given: { pipelining: false },
    see: ({ writes }) => writes.some((octets) => octets.includes("MAIL") && octets.includes("RCPT")),
    sees: [false, true]
  },
  chunking: {
    given: { chunking: false },
    see: ({ writes }) => writes.some((octets) => octets.includes("BDAT")),
    sees: [false, true]
  },
  transcript: {
    given: { transcript: "commands" },
    see: ({ logs }) => logs.some((line) => line.includes("C: MAIL FROM:<ann@me.test>")),
    sees: [true, false]
  },
  fallback: {
    given: { host: "mx1.test", fallback: [{ host: "mx2.test" }] },
    without: { host: "mx1.test" },
    script: down(1),
    see: (seen) => [seen.targets.map(({ host }) => host), tagOf(seen)],
    sees: [[["mx1.test", "mx2.test"], undefined], [["mx1.test"], "ESOCKET"]]
  },
  retry: {
    given: { retry: Schedule.spaced("2 seconds") },
    script: down(1, 2),
    see: (seen) => [dialled(seen), tagOf(seen), seen.seconds],
    sees: [[3, undefined, 4], [1, "ESOCKET", 0]]
  },
  timeout: {
    given: { timeout: "7 seconds" },
    script: silent("greeting"),
    see: ({ error, seconds }) => [error instanceof SmtpError.ETIMEDOUT ? error.timeout : undefined, seconds],
    sees: [["total", 7], ["greeting", 30]]
  }
}

const timeouts: Rows<Given["timeouts"]> = {
  dns: deadline("dns", ["dns", 30], { resolve: Effect.never }),
  connect: deadline("connect", ["connect", 120], { connect: Effect.never }),
  greeting: deadline("greeting", ["greeting", 30], { script: silent("greeting") }),
  tls: deadline("tls", ["tls", 30], { script: silent("tls") }),
  command: deadline("command", ["command", 300], { script: silent("ehlo") }),
  data: deadline("data", ["data", 180], { call: never }),
  final: deadline("final", ["final", 600], { script: silent("message") }),
  idle: deadline("idle", ["command", 300], { script: silent("ehlo") }),
  quit: {
    given: { timeouts: { quit: "7 seconds" } },
    script: silent("quit"),
    see: ({ closing }) => closing,
    sees: [7, 2]
  },
  total: deadline("total", ["command", 300], { script: silent("ehlo") })
}

const tlsOptions: Rows<Given["tlsOptions"]> = {
  ca: ofTls("ca", "-----BEGIN CERTIFICATE-----"),
  cert: ofTls("cert", "-----BEGIN CERTIFICATE-----"),
  key: ofTls("key", Redacted.make("-----BEGIN PRIVATE KEY-----")),
  passphrase: ofTls("passphrase", Redacted.make("geheim")),
  minVersion: ofTls("minVersion", "TLSv1.3"),
  maxVersion: ofTls("maxVersion", "TLSv1.2"),
  ciphers: ofTls("ciphers", "HIGH"),
  rejectUnauthorized: {
    given: { tlsOptions: { rejectUnauthorized: false } },
    script: { tls: { authorized: false } },
    see: (seen) => [seen.upgrades[0]?.verify, tagOf(seen)],
    sees: [[false, undefined], [true, "ETLS"]]
  },
  pins: ofTls("pins", [pin])
}

const pool: Rows<Given["pool"]> = {
  max: { given: { pool: { max: 2 } }, call: sends(9, "unbounded"), see: dialled, sees: [2, 5] },
  min: { given: { pool: { min: 2 } }, call: () => Effect.sleep("1 second"), see: open, sees: [2, 0] },
  idleTimeout: { given: { pool: { idleTimeout: "5 seconds" } }, call: idle(10), see: open, sees: [0, 1] },
  maxMessages: { given: { pool: { maxMessages: 2 } }, call: sends(6), see: dialled, sees: [3, 1] },
  maxAge: {
    given: { pool: { idleTimeout: Duration.infinity, maxAge: "10 seconds" } },
    without: { pool: { idleTimeout: Duration.infinity } },
    call: idle(15, send),
    see: dialled,
    sees: [2, 1]
  },
  maxWaiting: {
    given: { pool: { max: 1, maxWaiting: 1 } },
    without: { pool: { max: 1 } },
    call: sends(3, "unbounded"),
    see: ({ error }) => error?.field,
    sees: ["options.pool.maxWaiting", undefined]
  },
  acquireTimeout: {
    given: { pool: { max: 1, acquireTimeout: "3 seconds" } },
    without: { pool: { max: 1 } },
    call: (smtp) => smtp.use(() => send(smtp)),
    see: ({ error, seconds }) => [error?.field, seconds],
    sees: [["options.pool.acquireTimeout", 3], ["options.pool.acquireTimeout", 300]]
  },
  drain: {
    given: { pool: { drain: "3 seconds" } },
    script: silent("message"),
    call: (smtp) => Effect.andThen(Effect.forkDetach(send(smtp)), Effect.sleep("1 second")),
    see: ({ closing }) => closing,
    sees: [3, 10]
  }
}

const asked: Array<string> = []
const rateLimit: Rows<Given["rateLimit"]> = {
  limit: {
    given: { rateLimit: { ...limited, limit: 3 } },
    without: { rateLimit: limited },
    call: sends(3),
    see: ({ seconds }) => seconds,
    sees: [0, 20]
  },
  window: {
    given: { rateLimit: { ...limited, window: "4 seconds" } },
    without: { rateLimit: limited },
    call: sends(3),
    see: ({ seconds }) => seconds,
    sees: [8, 20]
  },
  onExceeded: {
    given: { rateLimit: { ...limited, onExceeded: "fail" } },
    without: { rateLimit: limited },
    call: sends(2),
    see: (seen) => [seen.seconds, tagOf(seen)],
    sees: [[0, "ECONNECTION"], [10, undefined]]
  },
  countFrom: {
    given: { rateLimit: { ...limited, countFrom: "start" } },
    without: { rateLimit: limited },
    script: { faults: [SmtpServer.at("message", SmtpServer.delay("5 seconds"), { occurrence: 1 })] },
    call: sends(2),
    see: ({ seconds }) => seconds,
    sees: [10, 15]
  },
  limiter: {
    given: { rateLimit: { ...limited, limiter: keys(asked) } },
    without: { rateLimit: limited },
    see: ({ received }) => [received, asked.splice(0)],
    sees: [[1, ["smtp/0"]], [1, []]]
  },
  key: {
    given: { rateLimit: { ...limited, limiter: keys(asked), key: "mail" } },
    without: { rateLimit: { ...limited, limiter: keys(asked) } },
    see: () => asked.splice(0),
    sees: [["mail/0"], ["smtp/0"]]
  }
}

const limitNow = ({ policies }: Seen) => policies.adaptiveConcurrency?.limit
const adaptiveConcurrency: Rows<Given["adaptiveConcurrency"]> = {
  max: {
    given: { adaptiveConcurrency: { max: 3 } },
    without: { adaptiveConcurrency: { max: 50 } },
    call: sends(20, "unbounded"),
    see: (seen) => Math.min(limitNow(seen) ?? 0, 4),
    sees: [3, 4]
  },
  min: {
    given: { adaptiveConcurrency: { max: 50, min: 4 } },
    without: { adaptiveConcurrency: { max: 50 } },
    call: () => Effect.void,
    see: limitNow,
    sees: [4, 1]
  },
  initial: {
    given: { adaptiveConcurrency: { max: 50, initial: 9 } },
    without: { adaptiveConcurrency: { max: 50 } },
    call: () => Effect.void,
    see: limitNow,
    sees: [9, 1]
  }
}

const failures = (count: number, then: Call = () => Effect.void): Call => (smtp) =>
  Effect.andThen(Effect.repeat(Effect.flip(send(smtp)), { times: count - 1 }), then(smtp))
const circuitBreaker: Rows<Given["circuitBreaker"]> = {
  failures: {
    given: { circuitBreaker: { failures: 2 } },
    without: { circuitBreaker: {} },
    script: down(1, 2, 3),
    call: failures(3),
    see: (seen) => [seen.policies.circuitBreaker?.status, dialled(seen)],
    sees: [["open", 2], ["closed", 3]]
  },
  openFor: {
    given: { circuitBreaker: { failures: 1, openFor: "5 seconds" } },
    without: { circuitBreaker: { failures: 1 } },
    script: down(1),
    call: failures(1, (smtp) => Effect.andThen(Effect.sleep("6 seconds"), send(smtp))),
    see: tagOf,
    sees: [undefined, "ECONNECTION"]
  }
}

const all: { readonly [K in keyof Required<Given>]: Row | Readonly<Record<string, Row>> } = {
  ...single,
  timeouts,
  tlsOptions,
  pool,
  rateLimit,
  adaptiveConcurrency,
  circuitBreaker
}

const isRow = (row: Row | Readonly<Record<string, Row>>): row is Row => typeof row["see"] === "function"

const rows = Object.entries(all).flatMap(([key, row]): ReadonlyArray<readonly [string, Row]> =>
  isRow(row) ? [[key, row]] : Object.entries(row).map(([inner, one]) => [`${key}.${inner}`, one])
)

describe("an option of the layer makes a difference:", () => {
  it.effect.each(rows)("%s", ([, row]) =>
    Effect.gen(function*() {
      const withIt = row.see(yield* observe(row, row.given))
      const withoutIt = row.see(yield* observe(row, row.without ?? {}))
      assert.deepStrictEqual([withIt, withoutIt], [...row.sees])
      assert.notDeepEqual(withIt, withoutIt)
    }))
})
