/** What is done in a network that is slow, lossy or broken. Each runs in a process and a namespace of its own. */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Dns from "effect/net/Dns"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { createHash, randomBytes, randomUUID } from "node:crypto"
import { codeOf } from "../../../src/internal/errorCause.ts"
import * as NodeConnector from "../../../src/node/NodeConnector.ts"
import * as NodeSmtpServer from "../../../src/node/NodeSmtpServer.ts"
import * as Sasl from "../../../src/Sasl.ts"
import * as SmtpConnection from "../../../src/SmtpConnection.ts"
import type * as SmtpError from "../../../src/SmtpError.ts"
import { accounts, domain } from "../servers/model.ts"
import * as Postfix from "../servers/Postfix.ts"
import * as delayProxy from "./delayProxy.ts"
import * as rules from "./rules.ts"

/** How a call came out. */
export interface Outcome {
  /** "sent", "open" or the tag of the error. */
  readonly tag: string
  readonly command?: string | undefined
  readonly timeout?: string | undefined
  /** The errno beneath. */
  readonly errno?: string | undefined
  readonly inDoubt?: boolean | undefined
  /** Whether the call had ended when its deadline and a grace for a busy machine were over. */
  readonly inTime: boolean
}

export interface Report {
  readonly outcomes: ReadonlyArray<Outcome>
  /** SHA-256 of what was sent and accepted, and of what the server stored. */
  readonly sent: ReadonlyArray<string>
  readonly stored: ReadonlyArray<string>
  /** Packets that the network dropped. */
  readonly dropped: number
}

const sha256 = (octets: Uint8Array | string): string => createHash("sha256").update(octets).digest("hex")

/** For a machine that has other things to do. */
const grace = Duration.seconds(10)

const failed = (error: SmtpError.SmtpError) => ({
  tag: error._tag,
  command: error.command,
  timeout: error._tag === "ETIMEDOUT" ? error.timeout : undefined,
  errno: "cause" in error ? codeOf(error.cause) || undefined : undefined,
  inDoubt: error.inDoubt
})

/** Runs a call that has to end by its deadline. */
const by = <A, E extends SmtpError.SmtpError, R>(
  deadline: Duration.Input,
  tag: string,
  call: Effect.Effect<A, E, R>
): Effect.Effect<Outcome, never, R> =>
  call.pipe(
    Effect.match({ onSuccess: () => ({ tag }), onFailure: failed }),
    Effect.timeoutOption(Duration.sum(Duration.fromInputUnsafe(deadline), grace)),
    Effect.map(Option.match({
      onNone: () => ({ tag: "none", inTime: false }),
      onSome: (outcome) => ({ ...outcome, inTime: true })
    }))
  )

interface Server {
  readonly host: string
  readonly port: number
  readonly ca: string
  /** Digests of what it stored, once there are as many. */
  readonly stored: (count: number) => Effect.Effect<ReadonlyArray<string>>
}

const fake = Effect.gen(function*() {
  const context = yield* Layer.build(Layer.fresh(NodeSmtpServer.layerLoopback()))
  const { awaitReceived, ca, host, port } = Context.get(context, NodeSmtpServer.NodeSmtpServer)
  return { ca, host, port, stored: (count) => Effect.map(awaitReceived(count), (all) => all.map((one) => one.sha256)) }
}) satisfies Effect.Effect<Server, never, Scope.Scope>

const good = "127.0.0.1"

/** Opens a connection to a name with these addresses. */
const open = (server: Server, addresses: ReadonlyArray<string>, options: SmtpConnection.Options = {}) =>
  SmtpConnection.make({
    host: "mx.test",
    port: server.port,
    servername: "localhost",
    name: "client.test",
    tlsOptions: { ca: server.ca },
    ...options
  }).pipe(
    Effect.provide(
      NodeConnector.layerWith({}).pipe(
        Layer.provide(Dns.layerStatic({ hosts: { "mx.test": addresses } })),
        Layer.orDie
      )
    )
  )

/** A message of so many octets that no other has, in canonical form. */
const makeMessage = (size: number): string =>
  `Subject: ${randomUUID()}\r\n\r\n${randomBytes(size / 2).toString("hex").replace(/.{70}/g, "$&\r\n")}\r\n`

/** Sends a message of its own on the connection, and remembers it in `sent`. */
const send = Effect.fnUntraced(function*(connection: SmtpConnection.SmtpConnection, size: number, sent: Array<string>) {
  const message = makeMessage(size)
  yield* connection.send({ from: "ann@client.test", to: `bob@${domain}` }, message)
  sent.push(sha256(message))
})

const report = Effect.fnUntraced(function*(
  server: Server,
  outcomes: ReadonlyArray<Outcome>,
  sent: ReadonlyArray<string>
): Effect.fn.Return<Report> {
  const stored = yield* server.stored(sent.length)
  return { outcomes, sent: sent.toSorted(), stored: stored.toSorted(), dropped: rules.dropped() }
})

const sizes = [100, 1_000_000, 10_000, 0, 100_000]

const roundTrip = Effect.gen(function*() {
  const server = yield* fake
  const distant = { ...server, ...yield* delayProxy.make(server, 50) }
  const sent: Array<string> = []
  const all = Effect.flatMap(
    open(distant, [good], { timeouts: { total: "20 seconds" } }),
    (connection) => Effect.forEach(sizes, (size) => send(connection, size, sent))
  )
  const impatient = open(distant, [good], { timeouts: { command: "30 millis" } })
  return yield* report(server, [
    yield* by("60 seconds", "sent", Effect.scoped(all)),
    yield* by("30 millis", "open", Effect.scoped(impatient))
  ], sent)
})

const loss = Effect.gen(function*() {
  const server = yield* fake
  rules.lose(0.01)
  const sent: Array<string> = []
  const one = Effect.scoped(Effect.flatMap(
    open(server, [good], { timeouts: { connect: "20 seconds", total: "30 seconds" } }),
    (connection) => Effect.forEach(sizes, (size) => send(connection, size, sent))
  ))
  const outcomes = yield* Effect.forEach([1, 2, 3, 4], () => by("60 seconds", "sent", one), { concurrency: 2 })
  return yield* report(server, outcomes, sent)
})

/** One message over a connection of its own. */
const sendOne = (
  server: Server,
  addresses: ReadonlyArray<string>,
  timeouts: SmtpConnection.Timeouts,
  sent: Array<string>
): Effect.Effect<Outcome> =>
  by(
    timeouts.total ?? timeouts.connect ?? "30 seconds",
    "sent",
    Effect.scoped(Effect.flatMap(open(server, addresses, { timeouts }), (connection) => send(connection, 1000, sent)))
  )

const [hole, otherHole, hole6] = ["192.0.2.1", "192.0.2.2", "2001:db8::1"] as const

const blackHole = Effect.gen(function*() {
  const server = yield* fake
  for (const address of [hole, otherHole, hole6]) rules.blackHole(address)
  const sent: Array<string> = []
  return yield* report(server, [
    yield* sendOne(server, [hole, good], { connect: "2 seconds" }, sent),
    yield* sendOne(server, [hole6, hole, good], { connect: "3 seconds" }, sent),
    yield* sendOne(server, [hole, otherHole], { connect: "1 second" }, sent),
    yield* sendOne(server, [hole, otherHole], { connect: "10 seconds", total: "500 millis" }, sent)
  ], sent)
})

const ipv6 = Effect.gen(function*() {
  const server = yield* fake
  rules.unreachable("2001:db8::/32")
  const [unreachable, withoutRoute] = ["2001:db8::1", "3fff::1"]
  const sent: Array<string> = []
  const timeouts = { connect: "10 seconds" } as const
  return yield* report(server, [
    yield* sendOne(server, [unreachable, good], timeouts, sent),
    yield* sendOne(server, [withoutRoute, good], timeouts, sent),
    yield* sendOne(server, [unreachable], timeouts, sent),
    yield* sendOne(server, [withoutRoute], timeouts, sent)
  ], sent)
})

/** A connection whose server falls silent: what `use` does gets the means to make it so. */
const silenced = <A, E extends SmtpError.SmtpError>(
  deadline: Duration.Input,
  timeouts: SmtpConnection.Timeouts,
  use: (connection: SmtpConnection.SmtpConnection, silence: Effect.Effect<void>) => Effect.Effect<A, E>
) =>
  Effect.gen(function*() {
    const server = yield* fake
    const silence = Effect.sync(() => rules.silence(server.port))
    return yield* by(
      deadline,
      "done",
      Effect.scoped(Effect.flatMap(open(server, [good], { timeouts }), (connection) => use(connection, silence)))
    )
  })

/** A first chunk, then the silence, then the rest. */
const interrupted = (silence: Effect.Effect<void>, rest: Stream.Stream<Uint8Array>) =>
  Stream.make(new TextEncoder().encode("Subject: last words\r\n\r\n")).pipe(
    Stream.concat(Stream.drain(Stream.fromEffect(silence))),
    Stream.concat(rest)
  )

const envelope = { from: "ann@client.test", to: `bob@${domain}` }
const block = new Uint8Array(65_536).fill(0x61)

const silence = Effect.gen(function*() {
  const quit = { quit: "500 millis" } as const
  return yield* report(yield* fake, [
    yield* silenced(
      "1 second",
      { command: "500 millis", ...quit },
      (connection, silence) => Effect.andThen(silence, connection.noop)
    ),
    yield* silenced(
      "1 second",
      { data: "500 millis", ...quit },
      (connection, silence) => connection.send(envelope, interrupted(silence, Stream.forever(Stream.make(block))))
    ),
    yield* silenced(
      "1 second",
      { final: "500 millis", ...quit },
      (connection, silence) => connection.send(envelope, interrupted(silence, Stream.make(block)))
    ),
    yield* silenced(
      "1 second",
      { total: "500 millis", ...quit },
      (connection, silence) => connection.send(envelope, interrupted(silence, Stream.never))
    ),
    yield* silenced("500 millis", quit, (_connection, silence) => silence)
  ], [])
})

const [alice] = accounts

/** A real server, far away over a line that loses packets. */
const postfix = Effect.gen(function*() {
  const { awaitStored, ca, host, ports } = Context.get(yield* Layer.build(Postfix.layer), Postfix.Postfix)
  const stored = (count: number) =>
    Effect.map(awaitStored(() => true, count), (all) => all.map((one) => sha256(one.bytes)))
  const server: Server = { ca, host, port: ports.submission, stored }
  const distant = { ...server, ...yield* delayProxy.make(server, 50) }
  rules.lose(0.01)
  const auth = Sasl.password({ ...alice, password: Redacted.make(alice.password) })
  const sent: Array<string> = []
  const all = Effect.flatMap(
    open(distant, [good], { auth, timeouts: { connect: "20 seconds", total: "30 seconds" } }),
    (connection) => Effect.forEach([100, 1_000_000, 10_000], (size) => send(connection, size, sent))
  )
  return yield* report(server, [yield* by("60 seconds", "sent", Effect.scoped(all))], sent)
})

export const scenarios = { roundTrip, loss, blackHole, ipv6, silence, postfix } as const

export type Scenario = keyof typeof scenarios

export const isScenario = (name: string): name is Scenario => Object.hasOwn(scenarios, name)
