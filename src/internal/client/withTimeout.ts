/**
 * A deadline over each call of a client.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import { dual } from "effect/Function"
import type * as SmtpConnection from "../../SmtpConnection.ts"
import { endedSend, noting, withTotal } from "../deadline.ts"
import { type Client, withSendAll } from "./model.ts"

/**
 * A client whose calls each end within a deadline: `ETIMEDOUT` with `timeout: "total"`.
 *
 * **Details**
 *
 * Prefer it to `Effect.timeout` around a send: the error says whether the message is in doubt. When the deadline passes
 * after the terminator, the send waits at most 500 ms more for the reply; an acceptance that comes then is in `reply`,
 * and the error is not temporary.
 *
 * @category combinators
 * @since 0.1.0
 */
export const withTimeout: {
  (duration: Duration.Input): (self: Client) => Client
  (self: Client, duration: Duration.Input): Client
} = dual(2, (self: Client, duration: Duration.Input): Client => {
  const millis = Duration.toMillis(Duration.fromInputUnsafe(duration))
  return withSendAll({
    ...self,
    send: (envelope, message) => withTotal(self.send(envelope, message), millis, undefined, endedSend),
    use: <A, E, R>(f: (connection: SmtpConnection.SmtpConnection) => Effect.Effect<A, E, R>) =>
      Effect.suspend(() => {
        let ended: Exit.Exit<A, E> | undefined
        const note = (exit: Exit.Exit<A, E>) => {
          ended = exit
        }
        return withTotal(self.use((connection) => noting(f(connection), note)), millis, undefined, () => ended)
      }),
    verify: withTotal(self.verify, millis)
  })
})
