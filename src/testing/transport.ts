/**
 * The server's end of one connection, as the session sees it: in memory (`memory.ts`) or on a socket
 * (`node/nodeTransport.ts`).
 *
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"
import type { ChannelBinding } from "../Sasl.ts"

/** The server's end of one connection. For one fiber at a time. */
export interface Transport {
  /** Whether the client starts with TLS. */
  readonly opening: Effect.Effect<"plain" | "tls">
  /** The next octets, at least one; undefined after the client's end. */
  readonly read: Effect.Effect<Uint8Array | undefined>
  /** Hands octets over; does nothing once the connection has ended. */
  readonly write: (octets: Uint8Array) => Effect.Effect<void>
  /** Waits for the client to begin a handshake; false: it did something else. */
  readonly hello: Effect.Effect<boolean>
  /** Completes the handshake and sends `first` as the first octets inside; false: it failed. */
  readonly startTls: (first: Uint8Array) => Effect.Effect<boolean>
  /** What a login can be bound to, once TLS is up. */
  readonly channelBindings: () => ReadonlyArray<ChannelBinding>
  /** Refuses the handshake with an alert. */
  readonly failTls: Effect.Effect<void>
  /** FIN after what was written. */
  readonly end: Effect.Effect<void>
  /** RST. */
  readonly reset: Effect.Effect<void>
  /** Waits until the client can take nothing more. */
  readonly closed: Effect.Effect<void>
}
