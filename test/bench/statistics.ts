/** From samples to ratios, and from ratios to judgements. Pure. */
import type { Sample } from "./clients/model.ts"
import type { Comparison, Judgement, Medians, Metric, Spread, Target } from "./model.ts"

export interface Pair {
  readonly ours: Sample
  readonly peer: Sample
  readonly extra: Sample | undefined
}

export const median = (values: ReadonlyArray<number>): number => {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  if (sorted.length === 0) return Number.NaN
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

export const spread = (values: ReadonlyArray<number>): Spread => ({
  median: median(values),
  min: Math.min(...values),
  max: Math.max(...values)
})

/** Sessions that only connect count as one message. */
const each = (sample: Sample, value: "cpu" | "wall"): number => sample[value] / Math.max(1, sample.messages)

/** Seconds of a round trip: a bare socket takes two for a message by DATA. */
const tripOf = (bare: Sample): number => each(bare, "wall") / 2

const metrics: { readonly [M in Metric]: (pair: Pair, roundTrip: number | undefined) => number | undefined } = {
  cpu: ({ ours, peer }) => each(ours, "cpu") / each(peer, "cpu"),
  speed: ({ ours, peer }) => each(peer, "wall") / each(ours, "wall"),
  roundTrips: ({ extra, ours }, roundTrip) =>
    roundTrip === undefined ? undefined : each(ours, "wall") / (extra === undefined ? roundTrip / 1000 : tripOf(extra)),
  growth: ({ ours }) => ours.growth / 1e6,
  heap: ({ ours, peer }) => ratio(ours.perConnection?.heap, peer.perConnection?.heap),
  resident: ({ ours, peer }) => ratio(ours.perConnection?.resident, peer.perConnection?.resident)
}

const ratio = (a: number | undefined, b: number | undefined): number | undefined =>
  a === undefined || b === undefined ? undefined : a / b

/** Every metric that these pairs have. */
export const metricsOf = (
  { roundTrip }: Pick<Comparison, "roundTrip">,
  pairs: ReadonlyArray<Pair>
): Partial<Record<Metric, Spread>> => {
  const found: Partial<Record<Metric, Spread>> = {}
  for (const metric of Object.keys(metrics) as ReadonlyArray<Metric>) {
    const values = pairs.map((pair) => metrics[metric](pair, roundTrip)).filter((value) => value !== undefined)
    if (values.length > 0) found[metric] = spread(values)
  }
  return found
}

/** The medians decide. */
export const judge = (targets: ReadonlyArray<Target>, found: Partial<Record<Metric, Spread>>): Array<Judgement> =>
  targets.map((target) => {
    const measured = found[target.metric]?.median ?? Number.NaN
    return {
      ...target,
      measured,
      reached: target.is === "atMost" ? measured <= target.value : measured >= target.value
    }
  })

const medianSample = (samples: ReadonlyArray<Sample>): Sample => {
  const of = (value: (sample: Sample) => number) => median(samples.map(value))
  const memories = samples.map((sample) => sample.perConnection).filter((memory) => memory !== undefined)
  return {
    cpu: of((sample) => sample.cpu),
    wall: of((sample) => sample.wall),
    messages: of((sample) => sample.messages),
    octets: of((sample) => sample.octets),
    growth: of((sample) => sample.growth),
    ...(memories.length === 0 ? {} : {
      perConnection: {
        heap: median(memories.map(({ heap }) => heap)),
        resident: median(memories.map(({ resident }) => resident))
      }
    })
  }
}

/** The middle of each figure by itself. */
export const mediansOf = (pairs: ReadonlyArray<Pair>): Medians => {
  const extras = pairs.map(({ extra }) => extra).filter((extra) => extra !== undefined)
  return {
    ours: medianSample(pairs.map(({ ours }) => ours)),
    peer: medianSample(pairs.map(({ peer }) => peer)),
    extra: extras.length === 0 ? undefined : medianSample(extras)
  }
}
