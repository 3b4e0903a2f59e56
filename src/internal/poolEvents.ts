/**
 * What happens in a pool, for those who count: `onEvent` of its core is called with each, at once and in order.
 */

/**
 * Why a connection left: it was found dead, it waited or lived too long, it took its messages, `use` logged in on it or
 * left it at work, or the pool ended.
 */
export type Why = "lost" | "idle" | "age" | "messages" | "spent" | "drained"

export type Event =
  /** A connection was dialled and logged in. */
  | { readonly _tag: "Opened" }
  | { readonly _tag: "Closed"; readonly why: Why }
  /** A call got a connection that was open already. */
  | { readonly _tag: "Reused" }
  /** A message is sent again on a fresh connection, for the one before was lost; `error` is how. */
  | { readonly _tag: "Retried"; readonly error: unknown }
  /** A call was refused, for too many wait. */
  | { readonly _tag: "Refused" }

/**
 * How a pool stands, and what it has done so far.
 *
 * @category models
 * @since 0.1.0
 */
export interface Stats {
  /** Open connections: idle or borrowed. */
  readonly size: number
  readonly idle: number
  /** Calls that wait for a connection. */
  readonly waiting: number
  /** Connections opened so far. */
  readonly opened: number
  /** Connections closed so far, lost ones included. */
  readonly closed: number
  /** Calls that got a connection that was open already. */
  readonly reused: number
  /** Messages sent again on a fresh connection because a kept one had gone stale. */
  readonly retried: number
  /** Calls refused because `maxWaiting` others waited. */
  readonly refused: number
}

type Counter = "opened" | "closed" | "reused" | "retried" | "refused"

const counterOf: { readonly [K in Event["_tag"]]: Counter } = {
  Opened: "opened",
  Closed: "closed",
  Reused: "reused",
  Retried: "retried",
  Refused: "refused"
}

/** Counts events. */
export const makeCounters = (): { readonly [K in Counter]: number } & { readonly count: (event: Event) => void } => {
  const counters = { opened: 0, closed: 0, reused: 0, retried: 0, refused: 0 }
  return Object.assign(counters, {
    count: ({ _tag }: Event) => {
      counters[counterOf[_tag]]++
    }
  })
}
