/**
 * What the callers of the promise face give and get, in the words of plain JavaScript.
 */
import type * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import type * as Stream from "effect/Stream"
import type * as Envelope from "../../Envelope.ts"
import type * as Sasl from "../../Sasl.ts"
import type * as SmtpClient from "../../SmtpClient.ts"
import type * as SmtpConnector from "../../SmtpConnector.ts"
import type { ECONFIG } from "../../SmtpError.ts"
import type { SendResult } from "../outcome.ts"

/**
 * A password or a token: a string, or a function that gives one, called at each login.
 *
 * **Details**
 *
 * The function is told the token that the server has just refused, if any, so that it can give up what it cached. When
 * it throws, or gives no string, the call ends in `EOAUTH2`; of its error only the name is kept. An `EOAUTH2` of its own
 * is kept as it is.
 *
 * @category models
 * @since 0.1.0
 */
export type Secret =
  | string
  | Redacted.Redacted<string>
  | ((refused: string | undefined) => string | PromiseLike<string>)

/**
 * What to log in with: a user and a password, a user and an OAuth2 token, or the credentials of `Sasl`.
 *
 * @category models
 * @since 0.1.0
 */
export type Auth =
  | { readonly username: string; readonly password: Secret; readonly authorizationId?: string | undefined }
  | { readonly username: string; readonly token: Secret }
  | Sasl.Credentials

/**
 * The TLS settings; `key` and `passphrase` may be plain.
 *
 * @category models
 * @since 0.1.0
 */
export interface TlsOptions extends Omit<SmtpConnector.TlsOptions, "key" | "passphrase"> {
  /** Private key of the client certificate in PEM. */
  readonly key?: string | Uint8Array | Redacted.Redacted<string | Uint8Array> | undefined
  /** Passphrase of `key`. */
  readonly passphrase?: string | Redacted.Redacted<string> | undefined
}

/**
 * The options towards one server: those of `SmtpClient`, with plain secrets. Durations are milliseconds or text such as
 * "30 seconds".
 *
 * @category models
 * @since 0.1.0
 */
export interface ServerOptions extends Omit<SmtpClient.Options, "auth" | "tlsOptions">, SmtpClient.ServerPolicies {
  /** `smtp:`, `smtps:` or `lmtp:`, with every option as `SmtpClient.fromUrl` reads it; what stands beside it wins. */
  readonly url?: string | URL | undefined
  /** Log in with these. */
  readonly auth?: Auth | undefined
  readonly tlsOptions?: TlsOptions | undefined
}

/**
 * The options of a transport.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options extends ServerOptions, Omit<SmtpClient.Policies, "fallback"> {
  /** Other servers, in order, for when this one fails. */
  readonly fallback?: ReadonlyArray<ServerOptions> | undefined
  /**
   * How to connect. Default `NodeConnector.layer`; `SmtpServer.layer()` in a test. What else the layer provides, such as
   * a Logger, holds for each call.
   */
  readonly connector?: Layer.Layer<SmtpConnector.SmtpConnector, ECONFIG> | undefined
}

/**
 * The message: RFC 5322 text as a string, as octets, or as a source of either.
 *
 * **Details**
 *
 * A Node stream belongs to the call from then on: it is destroyed when the call settles, sent or not, and its errors are
 * the call's. An error of a source is an `ESTREAM`, with the error in `cause`; a stream that was read before is an
 * `ESTREAM` too. An Effect `Stream` fails with its own errors.
 *
 * @category models
 * @since 0.1.0
 */
export type Message =
  | string
  | Uint8Array
  | NodeJS.ReadableStream
  | ReadableStream<Uint8Array>
  | ReadableStream<string>
  | AsyncIterable<Uint8Array | string>
  | Stream.Stream<Uint8Array | string, unknown>

/**
 * One mail of `sendAll`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Mail {
  readonly envelope: Envelope.Input
  readonly message: Message
}

/**
 * What every call takes.
 *
 * @category models
 * @since 0.1.0
 */
export interface CallOptions {
  /** Ends the call when it is aborted. */
  readonly signal?: AbortSignal | undefined
}

/**
 * What `sendAll` takes.
 *
 * @category models
 * @since 0.1.0
 */
export interface SendAllOptions extends CallOptions {
  /** How many mails may be on their way at once. Default 1. */
  readonly concurrency?: number | undefined
}

/**
 * What one mail of `sendAll` ended in; `reason` is what `send` would have rejected with.
 *
 * @category models
 * @since 0.1.0
 */
export type Settled =
  | { readonly status: "fulfilled"; readonly value: SendResult }
  | { readonly status: "rejected"; readonly reason: unknown }
