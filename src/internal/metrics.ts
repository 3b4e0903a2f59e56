/**
 * The metrics of a client: what each counts, under which name, and with which attributes. None has an address, a host or a
 * text of the server: the number of series has a bound that nobody outside can move.
 */
import type * as Context from "effect/Context"
import * as Metric from "effect/Metric"

/**
 * What became of one send: "partial" when some recipients were refused, "refused" when the server answered 4yz or 5yz,
 * "failed" when it gave no answer, "in_doubt" when it may have accepted the message, "interrupted" when nobody waited.
 *
 * @category models
 * @since 0.1.0
 */
export type Outcome = "sent" | "partial" | "refused" | "failed" | "in_doubt" | "interrupted"

/**
 * What a duration is of: of a connection the look-up of its name, the socket, the greeting, the TLS handshake and the
 * login; of a send the whole of it, and the wait from its last octet to the final reply.
 *
 * @category models
 * @since 0.1.0
 */
export type Phase = "dns" | "connect" | "greeting" | "tls" | "auth" | "send" | "final"

/**
 * Why something was sent again: a pooled connection was lost while idle, the failure was temporary, or another server was
 * asked.
 *
 * @category models
 * @since 0.1.0
 */
export type RetryReason = "stale" | "temporary" | "fallback"

/**
 * One metric, as it is exported.
 *
 * **Details**
 *
 * `unit` is in UCUM; Effect's exporters take it from an attribute of that name.
 *
 * @category models
 * @since 0.1.0
 */
export interface Definition {
  readonly name: string
  readonly type: "Counter" | "Histogram" | "Gauge"
  readonly unit: string
  readonly description: string
  readonly attributes: ReadonlyArray<string>
}

/**
 * The attributes that metrics and spans have in common; OpenTelemetry's registered names where it has some.
 *
 * @category attributes
 * @since 0.1.0
 */
export const attributes = {
  /** An {@link Outcome}. */
  outcome: "smtp.outcome",
  /** A {@link Phase}. */
  phase: "smtp.phase",
  /** A {@link RetryReason}. */
  reason: "smtp.retry.reason",
  /** The tag of the error, `_OTHER` for one that is not of this library; absent without an error. */
  errorType: "error.type",
  /** "1.3", "1.2", …; "none" without TLS. */
  tlsVersion: "tls.protocol.version"
} as const

/**
 * Sends, by what became of them. Each try of a policy (`retryTemporary`, `withFallback`) is one.
 *
 * @category metrics
 * @since 0.1.0
 */
export const messages: Definition = {
  name: "smtp.client.messages",
  type: "Counter",
  unit: "{message}",
  description: "Sends, by what became of them",
  attributes: [attributes.outcome, attributes.errorType]
}

/**
 * Sends that left at least one recipient in doubt, those among them that other recipients accepted too.
 *
 * @category metrics
 * @since 0.1.0
 */
export const inDoubt: Definition = {
  name: "smtp.client.in_doubt",
  type: "Counter",
  unit: "{message}",
  description: "Sends that the server may have accepted for a recipient without saying so",
  attributes: []
}

/**
 * Seconds, by phase; what was interrupted is not in it.
 *
 * @category metrics
 * @since 0.1.0
 */
export const duration: Definition = {
  name: "smtp.client.duration",
  type: "Histogram",
  unit: "s",
  description: "How long each phase of a connection and of a send takes",
  attributes: [attributes.phase, attributes.errorType]
}

/**
 * Octets of the messages that were accepted, in canonical form; the sum is all that was sent.
 *
 * @category metrics
 * @since 0.1.0
 */
export const messageSize: Definition = {
  name: "smtp.client.message.size",
  type: "Histogram",
  unit: "By",
  description: "Size of accepted messages",
  attributes: []
}

/**
 * Connections that were opened, by TLS version; those that could not be, by error.
 *
 * @category metrics
 * @since 0.1.0
 */
export const connections: Definition = {
  name: "smtp.client.connections",
  type: "Counter",
  unit: "{connection}",
  description: "Connections opened, and those that could not be",
  attributes: [attributes.tlsVersion, attributes.errorType]
}

/**
 * Connections of a pool that were opened in place of one that was lost.
 *
 * @category metrics
 * @since 0.1.0
 */
export const reconnects: Definition = {
  name: "smtp.client.reconnects",
  type: "Counter",
  unit: "{connection}",
  description: "Pooled connections opened in place of lost ones",
  attributes: []
}

/**
 * Calls that were tried again, by reason: sends, and with `withFallback` also `use` and `verify`.
 *
 * @category metrics
 * @since 0.1.0
 */
export const retries: Definition = {
  name: "smtp.client.retries",
  type: "Counter",
  unit: "{retry}",
  description: "Calls tried again",
  attributes: [attributes.reason]
}

/**
 * Connections that pools hold now.
 *
 * @category metrics
 * @since 0.1.0
 */
export const poolSize: Definition = {
  name: "smtp.client.pool.size",
  type: "Gauge",
  unit: "{connection}",
  description: "Connections in the pools",
  attributes: []
}

/**
 * Connections in pools that nobody uses now.
 *
 * @category metrics
 * @since 0.1.0
 */
export const poolIdle: Definition = {
  name: "smtp.client.pool.idle",
  type: "Gauge",
  unit: "{connection}",
  description: "Idle connections in the pools",
  attributes: []
}

/**
 * Sends that wait for a connection of a pool now.
 *
 * @category metrics
 * @since 0.1.0
 */
export const poolWaiting: Definition = {
  name: "smtp.client.pool.waiting",
  type: "Gauge",
  unit: "{message}",
  description: "Sends waiting for a pooled connection",
  attributes: []
}

/**
 * All metrics of this library.
 *
 * @category metrics
 * @since 0.1.0
 */
export const all: ReadonlyArray<Definition> = [
  messages,
  inDoubt,
  duration,
  messageSize,
  connections,
  reconnects,
  retries,
  poolSize,
  poolIdle,
  poolWaiting
]

/** From a local relay to a server that scans before it answers (RFC 5321 §4.5.3.2.6 allows 10 minutes). */
const seconds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600]
const octets = [1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216, 67_108_864]

type Env = Context.Context<never>

/** What Effect's constructors of metrics take. */
export const settings = ({ description, unit }: Definition, given: Readonly<Record<string, string>> = {}) => ({
  description,
  attributes: { unit, ...given }
})

/** One series for each pair of values: there are few, and each is made once. */
const family = <M>(definition: Definition, make: (given: ReturnType<typeof settings>) => M) => {
  const made = new Map<string | undefined, Map<string | undefined, M>>()
  const [firstName, secondName] = definition.attributes
  return (first: string | undefined, second?: string): M => {
    let row = made.get(first)
    if (row === undefined) made.set(first, row = new Map())
    let metric = row.get(second)
    if (metric === undefined) {
      const given: Record<string, string> = {}
      if (firstName !== undefined && first !== undefined) given[firstName] = first
      if (secondName !== undefined && second !== undefined) given[secondName] = second
      row.set(second, metric = make(settings(definition, given)))
    }
    return metric
  }
}

const counters = (definition: Definition) =>
  family(definition, (given) => Metric.counter(definition.name, { ...given, incremental: true }))

const messageCounters = counters(messages)
const doubts = counters(inDoubt)(undefined)
const connectionCounters = counters(connections)
const reconnectCounter = counters(reconnects)(undefined)
const retryCounters = counters(retries)
const durations = family(duration, (given) => Metric.histogram(duration.name, { ...given, boundaries: seconds }))
const sizes = Metric.histogram(messageSize.name, { ...settings(messageSize), boundaries: octets })

/** A send has ended. `size` is of an accepted message. */
export const sent = (
  env: Env,
  seen: {
    readonly outcome: Outcome
    readonly errorType: string | undefined
    readonly isInDoubt: boolean
    readonly size: number | undefined
  },
  millis: number
): void => {
  messageCounters(seen.outcome, seen.errorType).updateUnsafe(1, env)
  // How long somebody waited before he left says nothing of a server.
  const hasEnded = seen.size !== undefined || seen.errorType !== undefined
  if (hasEnded) durations("send", seen.errorType).updateUnsafe(millis / 1000, env)
  if (seen.isInDoubt) doubts.updateUnsafe(1, env)
  if (seen.size !== undefined) sizes.updateUnsafe(seen.size, env)
}

/** A phase has ended. */
export const passed = (env: Env, phase: Phase, millis: number, errorType: string | undefined): void =>
  durations(phase, errorType).updateUnsafe(millis / 1000, env)

/** A connection was opened. */
export const opened = (env: Env, tlsVersion: string): void => connectionCounters(tlsVersion).updateUnsafe(1, env)

/** A connection could not be opened. */
export const notOpened = (env: Env, errorType: string): void =>
  connectionCounters(undefined, errorType).updateUnsafe(1, env)

/** A pool opens a connection in place of a lost one. */
export const reconnected = (env: Env): void => reconnectCounter.updateUnsafe(1, env)

/** A send is tried again. */
export const retried = (env: Env, reason: RetryReason): void => retryCounters(reason).updateUnsafe(1, env)
