/**
 * What a client tells of itself: the names of its metrics, its spans and their attributes.
 *
 * What it is: the catalogue, as data, for dashboards and tests. What it is not: an exporter; that is the application's,
 * such as `Otlp` or `PrometheusMetrics` of `effect/observability`.
 *
 * **Details**
 *
 * Spans, of kind client: `smtp.send` for each send of a client or a pool, of `sendAll` too; `smtp.connect` for each
 * connection that is opened, inside the send that needed it. They are made only where a `Tracer` is given. At debug level
 * (`References.MinimumLogLevel`) the span has an event for each step: `smtp.dns`, `smtp.connect`, `smtp.greeting`,
 * `smtp.tls`, `smtp.auth`, then `smtp.mail`, `smtp.data` or `smtp.bdat`, `smtp.final`; each says how many seconds it took
 * (`smtp.phase.duration`). The last four are of single sends, for in a `sendAll` mails overlap.
 *
 * Metrics are counted where the effect runs that is counted: `Metric.CurrentMetricAttributes` adds attributes, and
 * `Metric.MetricRegistry` keeps them apart. A send through `use`, or on an `SmtpConnection` of one's own, has neither span
 * nor outcome; its connection and its final reply are counted.
 *
 * **Gotchas**
 *
 * Names of hosts stand in spans, never in metrics; mail addresses and texts of the server stand in neither. But a span that
 * fails ends with the error, whose message has what the server said, escaped.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { Effect, Metric } from "effect"
 * import { SmtpClient, SmtpMetrics } from "effect-smtp"
 * import { SmtpServer } from "effect-smtp/testing"
 *
 * const program = Effect.gen(function*() {
 *   const smtp = yield* SmtpClient.make({ host: "mx.test" })
 *   yield* smtp.send({ from: "ann@me.test", to: "bob@mx.test" }, "Subject: Hi\r\n\r\nHello\r\n")
 *   return yield* Metric.snapshot
 * })
 * const snapshot = await Effect.runPromise(program.pipe(
 *   Effect.scoped,
 *   Effect.provide(SmtpServer.layer()),
 *   Effect.provideService(Metric.MetricRegistry, new Map())
 * ))
 * const found = snapshot.filter(({ id }) => id === SmtpMetrics.messages.name)
 * assert.deepStrictEqual(found.map(({ attributes }) => attributes?.[SmtpMetrics.attributes.outcome]), ["sent"])
 * ```
 *
 * @since 0.1.0
 */
export {
  /** @since 0.1.0 */
  all,
  /** @since 0.1.0 */
  attributes,
  /** @since 0.1.0 */
  connections,
  /** @since 0.1.0 */
  type Definition,
  /** @since 0.1.0 */
  duration,
  /** @since 0.1.0 */
  inDoubt,
  /** @since 0.1.0 */
  messages,
  /** @since 0.1.0 */
  messageSize,
  /** @since 0.1.0 */
  type Outcome,
  /** @since 0.1.0 */
  type Phase,
  /** @since 0.1.0 */
  poolIdle,
  /** @since 0.1.0 */
  poolSize,
  /** @since 0.1.0 */
  poolWaiting,
  /** @since 0.1.0 */
  reconnects,
  /** @since 0.1.0 */
  retries,
  /** @since 0.1.0 */
  type RetryReason
} from "./internal/metrics.ts"
