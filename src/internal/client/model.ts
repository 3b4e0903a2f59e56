/**
 * What a client is: the value that the service holds, and that combinators take and give.
 */
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import type * as Envelope from "../../Envelope.ts"
import type { SmtpCapabilities } from "../../SmtpCapabilities.ts"
import type * as SmtpConnection from "../../SmtpConnection.ts"
import type * as SmtpConnector from "../../SmtpConnector.ts"
import type * as SmtpError from "../../SmtpError.ts"
import type { SmtpReply } from "../../SmtpReply.ts"
import type { Message } from "../message.ts"
import type { SendResult } from "../outcome.ts"
import type { PooledOptions } from "../poolOptions.ts"
import type { PolicyState } from "./state.ts"

/**
 * The options of a client: those of its connections, and `pool`, the policy of the pool that keeps them.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options extends PooledOptions {}

/**
 * What a send through a client can end in, beside the errors of the message's own stream.
 *
 * @category models
 * @since 0.1.0
 */
export type ClientError = SmtpError.ConnectError | SmtpError.LoginError | SmtpError.SendError

/**
 * What `verify` found.
 *
 * @category models
 * @since 0.1.0
 */
export interface Report {
  readonly greeting: SmtpReply
  readonly capabilities: SmtpCapabilities
  readonly secure: boolean
  readonly security: Option.Option<SmtpConnector.TlsInfo>
  readonly securityReport: SmtpConnection.SecurityReport
  /** Whether a login was asked for, and so succeeded. */
  readonly authenticated: boolean
}

/**
 * A client value: what the service {@link SmtpClient} holds, and what the combinators take and give.
 *
 * @category models
 * @since 0.1.0
 */
export interface Client {
  /** Sends one message, over a connection of the pool. */
  readonly send: <E = never, R = never>(
    envelope: Envelope.Input,
    message: Message<E, R>
  ) => Effect.Effect<SendResult, ClientError | E, R>
  /**
   * Sends mails over as many connections as the pool may open; each pulled mail gives exactly one Result, in the order of
   * the mails. A lost connection fails the mails it had begun, and the others go over the next one. Mails are sent ahead
   * of the Results that are read: at most 16 for each connection that the pool may open, however large the chunks of the
   * stream are; the Results of one chunk count as read when the next one is asked for.
   */
  readonly sendAll: <E, R, E2 = never, R2 = never>(
    mails: Stream.Stream<SmtpConnection.Mail<E2, R2>, E, R>
  ) => Stream.Stream<Result.Result<SendResult, ClientError | E2>, E, R | R2>
  /**
   * One connection of the pool, exclusively, for as long as the effect runs. Afterwards the connection that was given is
   * no more to be used, and the pool keeps it only if it is healthy, at rest, and still logged in as the pool did it.
   *
   * **Gotchas**
   *
   * Inside, use the connection that is given. A call of the client itself needs another one: when all are lent to such
   * effects they wait for each other, until `pool.acquireTimeout` fails those calls with `ECONNECTION`.
   */
  readonly use: <A, E, R>(
    f: (connection: SmtpConnection.SmtpConnection) => Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | SmtpError.ConnectError | SmtpError.LoginError, R>
  /** Connects beside the pool and logs in, says QUIT, and tells what it saw; sends nothing. */
  readonly verify: Effect.Effect<Report, SmtpError.ConnectError | SmtpError.LoginError>
  /** What the policies around this client are doing; it stays visible through all combinators. */
  readonly policies: Effect.Effect<PolicyState>
  /** How many mails a `sendAll` that combinators derive from `send` has under way at once. Default 1. */
  readonly concurrency?: number | undefined
}

/** A client whose `sendAll` follows from its `send`; without `policies` it has none. */
export const withSendAll = (
  client: Omit<Client, "sendAll" | "policies"> & Partial<Pick<Client, "policies">>
): Client => ({
  policies: Effect.succeed({}),
  ...client,
  sendAll: (mails) =>
    Stream.mapEffect(
      mails,
      ({ envelope, message }) => Effect.result(client.send(envelope, message)),
      { concurrency: client.concurrency ?? 1 }
    )
})
