/**
 * Several servers in turn.
 */
import * as Effect from "effect/Effect"
import type * as SmtpError from "../../SmtpError.ts"
import { type Client, withSendAll } from "./model.ts"
import { concurrencyOf, none, policiesOf } from "./spread.ts"

/**
 * A client that uses several others in strict turn, one call each.
 *
 * **Details**
 *
 * It does not look at how they fare. For failover put one around each: `roundRobin([withFallback([a, b]),
 * withFallback([b, a])])`.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { Effect } from "effect"
 * import { SmtpClient } from "effect-smtp"
 * import { SmtpServer } from "effect-smtp/testing"
 *
 * const program = Effect.gen(function*() {
 *   const one = yield* SmtpClient.make({ host: "mx1.test", name: "one.me.test" })
 *   const other = yield* SmtpClient.make({ host: "mx2.test", name: "other.me.test" })
 *   const smtp = SmtpClient.roundRobin([one, other])
 *   const send = smtp.send({ from: "a@me.test", to: "b@mx.test" }, "Subject: x\n\nx\n")
 *   yield* Effect.repeat(send, { times: 3 })
 *   return (yield* (yield* SmtpServer.SmtpServer).connections).map(({ helo }) => helo)
 * })
 * const names = await Effect.runPromise(program.pipe(Effect.provide(SmtpServer.layer())))
 * assert.deepStrictEqual(names, ["one.me.test", "other.me.test", "one.me.test", "other.me.test"])
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const roundRobin = (clients: readonly [Client, ...ReadonlyArray<Client>]): Client => {
  let turn = 0
  const next = <A, E, R>(call: (client: Client) => Effect.Effect<A, E, R>) =>
    Effect.suspend((): Effect.Effect<A, E | SmtpError.ECONFIG, R> => {
      const client = clients[turn]
      turn = (turn + 1) % clients.length
      return client === undefined ? Effect.fail(none("roundRobin")) : call(client)
    })
  return withSendAll({
    send: (envelope, message) => next((client) => client.send(envelope, message)),
    use: (f) => next((client) => client.use(f)),
    verify: next(({ verify }) => verify),
    policies: policiesOf(clients),
    concurrency: concurrencyOf(clients)
  })
}
