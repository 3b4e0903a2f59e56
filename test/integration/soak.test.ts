/** Many messages in a row: the client's heap does not grow, and no handle or listener is left. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { type Backend, makeDovecot, makeOwn, makeSink } from "./chaos/backend.ts"
import { run, slopeOf, type Target } from "./chaos/soak.ts"
import { describeServer, Dovecot, SmtpSink } from "./servers/index.ts"

const isLong = process.env["LONG"] === "1" || process.env["EFFECT_SMTP_LONG"] === "1"
const messages = isLong ? 20_000 : 2000
const limit = isLong ? 900_000 : 120_000
const megabyte = 1024 * 1024

const targetOf = ({ address, mailboxes, protocol }: Backend): Target => ({ ...address(), mailboxes, protocol })

const check = Effect.fnUntraced(function*(name: string, backends: ReadonlyArray<Backend>, share: number) {
  const report = yield* run(backends.map(targetOf), messages * share)
  const { after, before, heap, sent } = report
  const slope = slopeOf(report)
  const shown = (octets: number) => (octets / megabyte).toFixed(2)
  process.stdout.write(
    `\nsoak on ${name}: ${sent} messages, heap ${shown(heap[0] ?? 0)} to ${shown(heap.at(-1) ?? 0)} MB, slope of the ` +
      `last half ${shown(slope)} MB per 10 000 messages; ${after.resources.length} resources before and after\n`
  )
  assert.isAtLeast(sent, messages * share)
  assert.isBelow(slope, megabyte, `heap: ${heap.join(" ")}`)
  assert.deepStrictEqual(after, before)
})

describe("soak on our server", () => {
  it.live(
    "over SMTP and LMTP leaves heap, handles and listeners as they were",
    () =>
      Effect.scoped(Effect.gen(function*() {
        yield* check("our server, smtp and lmtp", [yield* makeOwn("smtp"), yield* makeOwn("lmtp")], 1)
      })),
    limit
  )
})

describeServer("SmtpSink", () => {
  it.live("soak over SMTP and LMTP leaves heap, handles and listeners as they were", () =>
    Effect.gen(function*() {
      const server = yield* SmtpSink.SmtpSink
      const { host, ports: { lmtp, plain } } = server
      const backends = [
        makeSink(server, { name: "smtp", host, port: plain }),
        makeSink(server, { name: "lmtp", host, port: lmtp, protocol: "lmtp" })
      ]
      yield* check("smtp-sink, smtp and lmtp", backends, 1)
    }).pipe(Effect.provide(SmtpSink.layer)), limit)
})

describeServer("Dovecot", () => {
  it.live("soak over LMTP leaves heap, handles and listeners as they were", () =>
    Effect.gen(function*() {
      const server = yield* Dovecot.Dovecot
      const place = { name: "lmtp", host: server.host, port: server.ports.lmtp, protocol: "lmtp" } as const
      yield* check("Dovecot, lmtp", [makeDovecot(server, place)], 0.2)
    }).pipe(Effect.provide(Dovecot.layer)), limit)
})
