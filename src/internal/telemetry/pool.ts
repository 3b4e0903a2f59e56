/**
 * What pools hold and do: gauges that are read when somebody looks, so that a send pays nothing for them, and counters.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import type * as Scope from "effect/Scope"
import * as metrics from "../metrics.ts"
import type { Event } from "../poolEvents.ts"

interface PoolState {
  /** Open connections. */
  readonly size: number
  /** Those that nobody uses. */
  readonly idle: number
  /** Sends that wait for one. */
  readonly waiting: number
}

type Read = () => PoolState

/** Pools that share series: those of one registry, under the same attributes of the context. */
interface Group {
  readonly pools: Set<Read>
  readonly registrations: ReadonlyArray<Metric.Registration>
}

const groups = new WeakMap<Metric.MetricRegistry, Map<string, Group>>()

const gauges = [
  { metric: Metric.gauge(metrics.poolSize.name, metrics.settings(metrics.poolSize)), field: "size" },
  { metric: Metric.gauge(metrics.poolIdle.name, metrics.settings(metrics.poolIdle)), field: "idle" },
  { metric: Metric.gauge(metrics.poolWaiting.name, metrics.settings(metrics.poolWaiting)), field: "waiting" }
] as const

const register = (context: Context.Context<never>, pools: ReadonlySet<Read>): Group["registrations"] =>
  gauges.map(({ field, metric }) =>
    Metric.registerUnsafe(metric, context, {
      get: () => ({ value: [...pools].reduce((sum, read) => sum + read()[field], 0) }),
      update: () => {},
      modify: () => {}
    })
  )

const join = (context: Context.Context<never>, read: Read): () => void => {
  const registry = Context.get(context, Metric.MetricRegistry)
  const given = JSON.stringify(Object.entries(Context.get(context, Metric.CurrentMetricAttributes)).toSorted())
  const byAttributes = groups.get(registry) ?? new Map<string, Group>()
  groups.set(registry, byAttributes)
  let group = byAttributes.get(given)
  if (group === undefined) {
    const pools = new Set<Read>()
    group = { pools, registrations: register(context, pools) }
    byAttributes.set(given, group)
  }
  const { pools, registrations } = group
  pools.add(read)
  return () => {
    pools.delete(read)
    if (pools.size > 0) return
    byAttributes.delete(given)
    for (const registration of registrations) registration.remove()
  }
}

/** Counts a pool in the gauges until the scope closes; several pools are summed up. */
export const observed = (read: Read): Effect.Effect<void, never, Scope.Scope> =>
  Effect.asVoid(Effect.acquireRelease(
    Effect.map(Effect.context<never>(), (context) => join(context, read)),
    (leave) => Effect.sync(leave)
  ))

/** Counts retries, and the connections that are opened in place of lost ones. */
export const counting = (context: Context.Context<never>): (event: Event) => void => {
  let lost = 0
  return (event) => {
    if (event._tag === "Retried") metrics.retried(context, "stale")
    else if (event._tag === "Closed" && event.why === "lost") lost++
    else if (event._tag === "Opened" && lost > 0) {
      lost--
      metrics.reconnected(context)
    }
  }
}
