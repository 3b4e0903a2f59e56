/** This library as a client of the bench: `node ours.ts ARGS`, with the JSON of model.ts. */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as NodeConnector from "../../../src/node/NodeConnector.ts"
import * as Sasl from "../../../src/Sasl.ts"
import * as SmtpClient from "../../../src/SmtpClient.ts"
import * as SmtpConnection from "../../../src/SmtpConnection.ts"
import type { SmtpConnector } from "../../../src/SmtpConnector.ts"
import * as content from "./content.ts"
import { begin, memory, perOne } from "./measure.ts"
import {
  type Args,
  clientName,
  fromProcess,
  password,
  print,
  recipients,
  type Sample,
  sender,
  split,
  username,
  warmupOf
} from "./model.ts"

type Connection = SmtpConnection.SmtpConnection

const optionsOf = (args: Args): SmtpConnection.Options => ({
  host: "127.0.0.1",
  port: args.port,
  name: clientName,
  tls: args.tls,
  ...(args.ca === undefined ? {} : { tlsOptions: { ca: args.ca } }),
  ...(args.auth ? { auth: Sasl.password({ username, password: Redacted.make(password) }) } : {}),
  ...args.options as SmtpConnection.Options
})

/** The mail that is sent again and again. */
const mailOf = (args: Args): SmtpConnection.Mail => {
  const to = recipients(args.recipients)
  const envelope = { from: sender, to, ...args.envelope }
  if (args.source === "stream") {
    // One chunk in each pull, as a file gives them.
    const message = Stream.suspend(() => Stream.fromIterable(content.chunks(args.content, args.size), { chunkSize: 1 }))
    return { envelope, message }
  }
  const text = content.text(args.content, args.size)
  return { envelope, message: args.source === "text" ? text : Buffer.from(text) }
}

const repeated = function*<A>(value: A, count: number): Generator<A> {
  for (let n = 0; n < count; n++) yield value
}

/** Sends so many over one connection. */
const sendOn = (connection: Connection, args: Args, mail: SmtpConnection.Mail, count: number) =>
  args.task === "sendAll"
    ? connection.sendAll(Stream.fromIterable(repeated(mail, count))).pipe(
      Stream.runForEach((result) => Result.isSuccess(result) ? Effect.void : Effect.die(result.failure))
    )
    : Effect.gen(function*() {
      for (let n = 0; n < count; n++) yield* connection.send(mail.envelope, mail.message)
    })

const sendOver = (connections: ReadonlyArray<Connection>, args: Args, mail: SmtpConnection.Mail, total: number) =>
  Effect.forEach(
    split(total, connections.length),
    (count, n) => sendOn(connections[n]!, args, mail, count),
    { concurrency: "unbounded", discard: true }
  )

const open = (args: Args, count: number) =>
  Effect.forEach(repeated(optionsOf(args), count), SmtpConnection.make, { concurrency: 16 })

type Task = (args: Args) => Effect.Effect<Sample, unknown, Scope.Scope | SmtpConnector>

/** Over connections that are open; with no warm-up, opening them is measured too. */
const send: Task = Effect.fnUntraced(function*(args) {
  const mail = mailOf(args)
  const early = args.warmup === 0 ? begin(args) : undefined
  const connections = yield* open(args, args.connections)
  yield* sendOver(connections, args, mailOf(warmupOf(args)), args.warmup)
  const end = early ?? begin(args)
  yield* sendOver(connections, args, mail, args.messages)
  return end(args.messages, args.messages * args.size)
})

const pool: Task = Effect.fnUntraced(function*(args) {
  const options = { ...optionsOf(args), pool: { max: args.connections } }
  const client = yield* SmtpClient.make(options)
  const mail = mailOf(args)
  const sendSome = (count: number) =>
    Effect.forEach(repeated(mail, count), ({ envelope, message }) => client.send(envelope, message), {
      concurrency: args.callers,
      discard: true
    })
  yield* sendSome(args.warmup)
  const end = begin(args)
  yield* sendSome(args.messages)
  return end(args.messages, args.messages * args.size)
})

const sessions: Task = Effect.fnUntraced(function*(args) {
  const mail = mailOf(args)
  const session = Effect.scoped(Effect.gen(function*() {
    const connection = yield* SmtpConnection.make(optionsOf(args))
    yield* connection.send(mail.envelope, mail.message)
    yield* connection.quit
  }))
  for (let n = 0; n < args.warmup; n++) yield* session
  const end = begin(args)
  for (let n = 0; n < args.messages; n++) yield* session
  return end(args.messages, args.messages * args.size)
})

const idle: Task = Effect.fnUntraced(function*(args) {
  yield* Effect.scoped(open(args, args.warmup))
  const before = memory()
  const end = begin(args)
  const connections = yield* open(args, args.connections)
  const sample = end(0, 0)
  return { ...sample, perConnection: perOne(before, memory(), connections.length) }
})

const tasks: Partial<Record<Args["task"], Task>> = { send, sendAll: send, pool, sessions, idle }

/** Does the task and gives what it took. */
export const run = (args: Args): Effect.Effect<Sample, unknown> =>
  Effect.suspend(() => {
    const task = tasks[args.task]
    return task === undefined
      ? Effect.die(new Error(`ours has no task "${args.task}"`))
      : Effect.scoped(task(args))
  }).pipe(Effect.provide(NodeConnector.layer))

if (import.meta.main) {
  Effect.runPromise(run(fromProcess())).then(print)
}
