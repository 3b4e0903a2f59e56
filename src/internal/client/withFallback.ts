/**
 * Another server where one fails.
 */
import * as Effect from "effect/Effect"
import type * as SmtpConnection from "../../SmtpConnection.ts"
import * as SmtpError from "../../SmtpError.ts"
import { watched } from "../poolRetry.ts"
import { again } from "../telemetry/observe.ts"
import { mayGoElsewhere } from "./again.ts"
import { type Client, withSendAll } from "./model.ts"
import { none, policiesOf } from "./spread.ts"

const nameOf = (error: SmtpError.SmtpError): string => `${error._tag}: ${error.message}`

/** Says that the next one is tried, and why: the error of the last one alone reaches the caller. */
const note = (index: number, count: number, error: SmtpError.SmtpError): Effect.Effect<void> =>
  Effect.logWarning(`smtp: server ${index + 1} of ${count} failed, trying the next: ${nameOf(error)}`).pipe(
    Effect.annotateLogs({ "error.type": error._tag, "smtp.fallback.from": index })
  )

/** Runs a call with one client after the other, while its failure is one that another server may mend. */
const inTurn = Effect.fnUntraced(function*<A, E, R>(
  clients: ReadonlyArray<Client>,
  call: (client: Client) => Effect.Effect<A, E, R>,
  mayGoOn: (error: unknown) => error is SmtpError.SmtpError
): Effect.fn.Return<A, E | SmtpError.ECONFIG, R> {
  const failures: Array<string> = []
  const last = clients.length - 1
  for (const [index, client] of clients.entries()) {
    const result = yield* Effect.result(index === 0 ? call(client) : again(call(client), "fallback", index))
    if (result._tag === "Success") return result.success
    const error = result.failure
    if (index === last || !mayGoOn(error)) {
      if (failures.length > 0) yield* Effect.annotateCurrentSpan({ "smtp.fallback.failures": failures })
      return yield* Effect.fail(error)
    }
    failures.push(nameOf(error))
    yield* note(index, clients.length, error)
  }
  return yield* none("withFallback")
})

/**
 * A client that sends with the first of several, and with the next one where a server fails rather than the message.
 *
 * **Details**
 *
 * It goes on after a fault of the connection (`EDNS`, `ECONNECTION`, `ESOCKET`, `ETIMEDOUT`, `EPROXY`, `ETLS`,
 * `EPROTOCOL`, an open circuit among them), a login that failed (`EAUTH`, `ENOAUTH`, `EOAUTH2`) and any temporary
 * failure (4yz). It does not after a refusal of the message (5yz), nor where sending again could send twice: a failure
 * in doubt, or after a part of the terminator was handed over, or of a stream that was pulled already, unless it is
 * marked with `SmtpConnection.replayable`. A send that some recipients accepted is a success, and ends there.
 *
 * The error is that of the last client that was tried; each failure before it is logged as a warning, and all stand in
 * the span's "smtp.fallback.failures". `use` goes on only while no connection could be had, and so does `verify`.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { Effect } from "effect"
 * import { SmtpClient } from "effect-smtp"
 * import { SmtpServer } from "effect-smtp/testing"
 *
 * const busy = SmtpServer.layer({
 *   faults: [SmtpServer.at("mail", SmtpServer.answer(451, "4.3.2 busy"), { connection: 1 })]
 * })
 * const program = Effect.gen(function*() {
 *   const smtp = SmtpClient.withFallback([
 *     yield* SmtpClient.make({ host: "mx1.test" }),
 *     yield* SmtpClient.make({ host: "mx2.test" })
 *   ])
 *   return yield* smtp.send({ from: "a@me.test", to: "b@mx.test" }, "Subject: x\n\nx\n")
 * })
 * const result = await Effect.runPromise(program.pipe(Effect.provide(busy)))
 * assert.deepStrictEqual(result.accepted, ["b@mx.test"])
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const withFallback = (clients: readonly [Client, ...ReadonlyArray<Client>]): Client =>
  withSendAll({
    send: (envelope, message) =>
      Effect.suspend(() => {
        const source = watched(message)
        return inTurn(
          clients,
          (client) => client.send(envelope, source.message),
          (error): error is SmtpError.SmtpError => !source.isPulled && mayGoElsewhere(error)
        )
      }),
    use: <A, E, R>(f: (connection: SmtpConnection.SmtpConnection) => Effect.Effect<A, E, R>) =>
      Effect.suspend(() => {
        let isBegun = false
        const begin = (connection: SmtpConnection.SmtpConnection) => {
          isBegun = true
          return f(connection)
        }
        return inTurn(
          clients,
          (client) => client.use(begin),
          (error): error is SmtpError.SmtpError => !isBegun && mayGoElsewhere(error)
        )
      }),
    verify: inTurn(clients, ({ verify }) => verify, mayGoElsewhere),
    policies: policiesOf(clients),
    concurrency: clients[0]?.concurrency
  })
