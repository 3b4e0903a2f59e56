/**
 * Sends MESSAGES messages to TARGETS (JSON) in turn, and prints one line of JSON: the heap after forced collections in
 * the course of it, and the resources and listeners of the process before and after.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { Buffer } from "node:buffer"
import * as NodeConnector from "../../../src/node/NodeConnector.ts"
import * as SmtpClient from "../../../src/SmtpClient.ts"
import * as SmtpConnection from "../../../src/SmtpConnection.ts"
import { type Mode, modes } from "../../support/modes.ts"
import * as Random from "./random.ts"
import type { Target } from "./soak.ts"

const targets = JSON.parse(process.argv[2] ?? "[]") as ReadonlyArray<Target>
const messages = Number(process.argv[3])
const samples = 40
const concurrency = 4
const perConnection = 10

const text = "Subject: soak\r\n\r\n" + "A line of text, and another.\r\n.dots\r\n".repeat(1000)
const random = Random.make("soak")

const mail = (target: Target): SmtpConnection.Mail => {
  const body = text.slice(0, random.int(20, text.length))
  const octets = Buffer.from(body, "latin1")
  return {
    envelope: { from: "soak@chaos.test", to: target.mailboxes.slice(0, random.int(1, target.mailboxes.length)) },
    message: random.pick<SmtpConnection.Message>([
      body,
      octets,
      Stream.fromIterable([octets.subarray(0, 10), octets.subarray(10)])
    ])
  }
}

const ways = 3

/** The default, and each of the others, one after the other. */
const modeOf = (n: number, targets: number) => modes[Math.floor(n / targets / ways) % modes.length]

const optionsOf = ({ host, port, protocol }: Target, mode: Mode | undefined): SmtpConnection.Options => ({
  ...mode?.options,
  host,
  port,
  protocol,
  tls: "off",
  name: "client.soak.test",
  timeouts: { total: "1 minute" }
})

/** Some messages each on a connection of its own, or all of them on one, one by one or as a stream. */
const batch = Effect.fnUntraced(function*(n: number) {
  const target = targets[n % targets.length]
  if (target === undefined) return
  const mails = Array.from({ length: perConnection }, () => mail(target))
  const way = Math.floor(n / targets.length) % ways
  const options = optionsOf(target, modeOf(n, targets.length))
  if (way === 0) {
    const client = yield* SmtpClient.make(options)
    return yield* Effect.forEach(mails, ({ envelope, message }) => client.send(envelope, message), { discard: true })
  }
  const connection = yield* SmtpConnection.make(options)
  if (way === 1) {
    return yield* Effect.forEach(mails, ({ envelope, message }) => connection.send(envelope, message), {
      discard: true
    })
  }
  yield* Stream.runForEach(connection.sendAll(Stream.fromIterable(mails)), Effect.fromResult)
}, Effect.scoped)

const turn = Effect.callback<void>((resume) => {
  setImmediate(() => resume(Effect.void))
})

const collect = Effect.gen(function*() {
  for (let n = 0; n < 3; n++) {
    yield* turn
    globalThis.gc?.()
  }
  return process.memoryUsage().heapUsed
})

const state = () => ({
  resources: process.getActiveResourcesInfo().toSorted(),
  listeners: process.eventNames().map((name) => `${String(name)} ${process.listenerCount(name)}`).toSorted()
})

const send = (from: number, count: number) =>
  Effect.forEach(Array.from({ length: count }, (_, n) => from + n), batch, { concurrency, discard: true })

Effect.gen(function*() {
  const batches = Math.ceil(messages / perConnection / samples)
  yield* send(0, targets.length * ways * modes.length)
  yield* collect
  const before = state()
  const heap: Array<number> = []
  for (let n = 0; n < samples; n++) {
    yield* send(n * batches, batches)
    heap.push(yield* collect)
  }
  let after = state()
  // The last sockets close after their connection's scope: the peer's FIN is on its way.
  for (let n = 0; n < 500 && JSON.stringify(after) !== JSON.stringify(before); n++) {
    yield* Effect.callback<void>((resume) => {
      setTimeout(() => resume(Effect.void), 10)
    })
    after = state()
  }
  process.stdout.write(`${JSON.stringify({ sent: samples * batches * perConnection, heap, before, after })}\n`)
}).pipe(Effect.provide(NodeConnector.layer), NodeRuntime.runMain)
