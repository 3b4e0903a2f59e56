/**
 * Clients that stand for several others.
 */
import * as Effect from "effect/Effect"
import type * as SmtpError from "../../SmtpError.ts"
import { refuse } from "./checks.ts"
import type { Client } from "./model.ts"
import type { PolicyState } from "./state.ts"

/** TypeScript asks for at least one; a caller in JavaScript may have none. */
export const none = (name: string): SmtpError.ECONFIG => refuse("clients", `${name} needs at least one client`)

export const policiesOf = (clients: ReadonlyArray<Client>): Effect.Effect<PolicyState> =>
  Effect.map(Effect.forEach(clients, ({ policies }) => policies), (states) => ({ clients: states }))

/** As many at once as all of them together; undefined when none says. */
export const concurrencyOf = (clients: ReadonlyArray<Client>): number =>
  clients.reduce((sum, { concurrency }) => sum + (concurrency ?? 1), 0)
