/** Runs a row: its servers, its pairs, and what follows from them. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Args, Sample } from "./clients/model.ts"
import type { BenchError, Comparison, Contender, Outcome, Server } from "./model.ts"
import { slow } from "./network.ts"
import { home, type Place, sample, serve, type Serving } from "./processes.ts"
import { judge, mediansOf, metricsOf, type Pair } from "./statistics.ts"

const names: { readonly [P in Contender["program"]]: string } = {
  ours: "effect-smtp",
  nodemailer: "Nodemailer",
  raw: "bare socket",
  import: "import",
  rawnode: "rawnode",
  "smtp-source": "smtp-source"
}

const labelOf = ({ label, program }: Contender): string => {
  const name = names[program]
  if (label === undefined) return name
  return (program === "ours" || program === "rawnode") && !label.startsWith(name) ? `${name} ${label}` : label
}

type Run = (contender: Contender) => Effect.Effect<Sample, BenchError>

const runOn = (place: Place, { args }: Comparison, { ca, port }: Serving): Run => (contender) => {
  const own: Partial<Args> = { ...args, ...contender.args }
  return sample(place, contender, { ...own, port, ...own.tls === undefined || own.tls === "off" ? {} : { ca } })
}

/** Whoever is first has neither luck nor bad luck with the machine twice in a row. */
const pairOf = (comparison: Comparison, run: Run, runExtra: Run | undefined, n: number) =>
  Effect.gen(function*() {
    const { extra, ours, peer } = comparison
    const isOursFirst = n % 2 === 0
    const first = yield* run(isOursFirst ? ours : peer)
    const second = yield* run(isOursFirst ? peer : ours)
    return {
      ours: isOursFirst ? first : second,
      peer: isOursFirst ? second : first,
      extra: extra === undefined || runExtra === undefined ? undefined : yield* runExtra(extra.contender)
    }
  })

interface Measured {
  readonly server: string
  readonly pairs: ReadonlyArray<Pair>
}

const nearby = Effect.fnUntraced(function*(comparison: Comparison, pairs: number) {
  const open = (server: Server) =>
    Effect.map(serve(home, server), (serving) => ({ serving, run: runOn(home, comparison, serving) }))
  const { run, serving } = yield* open(comparison.server)
  const extra = comparison.extra === undefined ? undefined : yield* open(comparison.extra.server)
  const measured: Array<Pair> = []
  for (let n = 0; n < pairs; n++) measured.push(yield* pairOf(comparison, run, extra?.run, n))
  return { server: serving.name, pairs: measured }
})

/** Nearly all of it is waiting, so that the pairs can wait at the same time, each in a network of its own. */
const faraway = Effect.fnUntraced(function*(comparison: Comparison, roundTrip: number, pairs: number) {
  const one = (n: number) =>
    Effect.scoped(Effect.gen(function*() {
      const { name, place } = yield* slow(roundTrip)
      const serving = yield* serve(place, comparison.server)
      const run = runOn(place, comparison, serving)
      const pair = yield* pairOf(comparison, run, run, n)
      return { pair, server: `${serving.name}, ${name}` }
    }))
  const all = yield* Effect.forEach(Array.from({ length: pairs }, (_, n) => n), one, { concurrency: 8 })
  return { server: all[0]?.server ?? "", pairs: all.map(({ pair }) => pair) }
})

const measured = (comparison: Comparison, pairs: number): Effect.Effect<Measured, BenchError, Scope.Scope> =>
  comparison.roundTrip === undefined
    ? nearby(comparison, pairs)
    : faraway(comparison, comparison.roundTrip, pairs)

const outcomeOf = (comparison: Comparison, { pairs, server }: Measured): Outcome => {
  const { id, load, note, ours, peer, row, targets, unit } = comparison
  const metrics = metricsOf(comparison, pairs)
  const medians = mediansOf(pairs)
  return {
    id,
    row,
    load,
    unit,
    server,
    pairs: pairs.length,
    ours: { label: labelOf(ours), sample: medians.ours },
    peer: { label: labelOf(peer), sample: medians.peer },
    metrics,
    judgements: judge(targets, metrics),
    note: note?.(medians) ?? "",
    skipped: undefined
  }
}

/** A row without figures, and why. */
export const skipped = ({ id, load, row, unit }: Comparison, why: string): Outcome => ({
  id,
  row,
  load,
  unit,
  server: "",
  pairs: 0,
  ours: undefined,
  peer: undefined,
  metrics: {},
  judgements: [],
  note: "",
  skipped: why
})

/** Measures a row with so many pairs. */
export const measure = Effect.fnUntraced(function*(comparison: Comparison, pairs: number) {
  const why = comparison.missing?.()
  if (why !== undefined) return skipped(comparison, why)
  const prepared = { ...comparison, ...yield* comparison.prepare ?? Effect.succeed({}) }
  return outcomeOf(prepared, yield* Effect.scoped(measured(prepared, pairs)))
})

/** Runs ours alone, once, with a CPU profile of its load. */
export const profile = Effect.fnUntraced(function*(comparison: Comparison, file: string) {
  const prepared = { ...comparison, ...yield* comparison.prepare ?? Effect.succeed({}) }
  return yield* Effect.scoped(Effect.gen(function*() {
    const place = prepared.roundTrip === undefined ? home : (yield* slow(prepared.roundTrip)).place
    const run = runOn(place, prepared, yield* serve(place, prepared.server))
    return yield* run({ ...prepared.ours, args: { ...prepared.ours.args, profile: file } })
  }))
})
