/** Dovecot: submission and LMTP, TLS, SASL, OAuth tokens that it validates itself. */
import * as Context from "effect/Context"
import type { Daemon, Server, Store } from "./model.ts"

/**
 * - `submission`: STARTTLS, AUTH after it, required; `submissions`: TLS from the first octet
 * - `lmtp`: STARTTLS offered; `lmtps`: TLS from the first octet
 *
 * LMTP delivers to the accounts alone. Submission relays everything to a smtp-server in the test's own process, which
 * refuses `recipients.reject` and `recipients.defer`; `stored` shows both.
 */
export type Port = "submission" | "submissions" | "lmtp" | "lmtps"

export interface Service extends Server<Port>, Daemon, Store {
  /** An OAuth access token (JWT, valid for `seconds`, default an hour) of the user. */
  readonly token: (username: string, seconds?: number) => string
  /** Here Dovecot takes the client for local and offers AUTH before STARTTLS too; at `host` it does not. */
  readonly trustedHost: string
}

/** Dovecot. */
export class Dovecot extends Context.Service<Dovecot, Service>()("test/integration/Dovecot") {}
