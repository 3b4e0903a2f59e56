/** Messages through connections that are cut at any octet, and a server that goes and comes back: nothing is lost. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as NodeConnector from "../../src/node/NodeConnector.ts"
import { type Backend, makeDovecot, makeOwn, makePostfix, makeSink } from "./chaos/backend.ts"
import { run } from "./chaos/run.ts"
import { describeServer, Dovecot, Postfix, SmtpSink } from "./servers/index.ts"

const isLong = process.env["LONG"] === "1" || process.env["EFFECT_SMTP_LONG"] === "1"
const seed = process.env["CHAOS_SEED"] ?? String(Math.floor(Math.random() * 2 ** 32))
const messages = isLong ? 5000 : 1000

const check = (backend: Backend, share: number, isWindowed: boolean) =>
  Effect.gen(function*() {
    const count = Math.round(messages * share)
    const options = { backend, seed, messages: count, concurrency: 8, stops: isLong ? 12 : 4, isWindowed }
    const { attempts, connections, sent, stops, table, violations } = yield* run(options)
    process.stdout.write(
      `\nchaos on ${backend.name}, CHAOS_SEED=${seed}: ${sent} of ${count} messages sent in ${attempts} attempts on ` +
        `${connections} connections, ${stops} stops of the server, ${violations.length} violations\n${table}\n`
    )
    assert.deepStrictEqual(violations.slice(0, 10), [], `replay with CHAOS_SEED=${seed}`)
    assert.isAtLeast(sent, count * 0.8, `replay with CHAOS_SEED=${seed}`)
  }).pipe(Effect.scoped, Effect.provide(NodeConnector.layer))

const limit = isLong ? 900_000 : 240_000

describe("chaos on our server", () => {
  it.live(
    "each message is stored once, or known not to be, or in doubt for a reason",
    () => Effect.scoped(Effect.flatMap(makeOwn("smtp"), (backend) => check(backend, 1, true))),
    limit
  )

  it.live(
    "the same holds for each recipient over LMTP",
    () => Effect.scoped(Effect.flatMap(makeOwn("lmtp"), (backend) => check(backend, 0.5, true))),
    limit
  )

  it.live(
    "the same holds over TLS, and with the large buffers of the kernel",
    () => Effect.scoped(Effect.flatMap(makeOwn("smtp", true), (backend) => check(backend, 0.3, false))),
    limit
  )
})

describeServer("Postfix", () => {
  it.live(
    "chaos: each message is stored once, or known not to be, or in doubt for a reason",
    () =>
      Effect.gen(function*() {
        const server = yield* Postfix.Postfix
        yield* check(makePostfix(server, { name: "Postfix", host: server.host, port: server.ports.smtp }), 1, true)
      }).pipe(Effect.provide(Postfix.layer)),
    limit
  )
})

describeServer("SmtpSink", () => {
  it.live(
    "chaos: each message is stored once, or known not to be, or in doubt for a reason",
    () =>
      Effect.gen(function*() {
        const server = yield* SmtpSink.SmtpSink
        yield* check(makeSink(server, { name: "smtp-sink", host: server.host, port: server.ports.dump }), 0.3, true)
      }).pipe(Effect.provide(SmtpSink.layer)),
    limit
  )
})

describeServer("Dovecot", () => {
  it.live(
    "chaos over LMTP: each recipient has it once, or is known not to, or it is in doubt for a reason",
    () =>
      Effect.gen(function*() {
        const { host, ports, ...server } = yield* Dovecot.Dovecot
        const place = { name: "Dovecot, lmtp", host, port: ports.lmtp, protocol: "lmtp" } as const
        yield* check(makeDovecot(server, place), 0.3, true)
      }).pipe(Effect.provide(Dovecot.layer)),
    limit
  )
})
