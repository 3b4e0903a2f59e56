/**
 * Trying again after temporary failures.
 */
import * as Effect from "effect/Effect"
import { dual } from "effect/Function"
import type * as Schedule from "effect/Schedule"
import { watched } from "../poolRetry.ts"
import { again } from "../telemetry/observe.ts"
import { mayRepeat } from "./again.ts"
import { type Client, type ClientError, withSendAll } from "./model.ts"

/**
 * A client whose `send` tries again after temporary failures, as the schedule says.
 *
 * **Details**
 *
 * It tries again only where that cannot send a message twice: the failure is temporary and not in doubt, no part of
 * the terminator was handed to the transport, and the message can be read again: a string, octets, or a stream that was
 * not pulled yet or is marked with `SmtpConnection.replayable`. `use` and `verify` are left alone.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { Effect, Schedule } from "effect"
 * import { SmtpClient } from "effect-smtp"
 * import { SmtpServer } from "effect-smtp/testing"
 *
 * const busyOnce = SmtpServer.layer({
 *   faults: [SmtpServer.at("mail", SmtpServer.answer(451, "4.3.2 busy"), { connection: 1 })]
 * })
 * const program = Effect.gen(function*() {
 *   const smtp = SmtpClient.retryTemporary(yield* SmtpClient.make({ host: "mx.test" }), Schedule.recurs(3))
 *   return yield* smtp.send({ from: "a@me.test", to: "b@mx.test" }, "Subject: x\r\n\r\nx\r\n")
 * })
 * const result = await Effect.runPromise(program.pipe(Effect.provide(busyOnce)))
 * assert.deepStrictEqual(result.accepted, ["b@mx.test"])
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const retryTemporary: {
  <Output>(schedule: Schedule.Schedule<Output, ClientError>): (self: Client) => Client
  <Output>(self: Client, schedule: Schedule.Schedule<Output, ClientError>): Client
} = dual(2, <Output>(self: Client, schedule: Schedule.Schedule<Output, ClientError>): Client =>
  withSendAll({
    ...self,
    send: (envelope, message) =>
      Effect.suspend(() => {
        const source = watched(message)
        const send = self.send(envelope, source.message)
        let resends = -1
        const attempt = Effect.suspend(() => ++resends === 0 ? send : again(send, "temporary", resends))
        return Effect.retry(attempt, {
          schedule: schedule as Schedule.Schedule<Output, unknown>,
          while: (error) => !source.isPulled && mayRepeat(error)
        })
      })
  }))
