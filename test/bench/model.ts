/** What a row of the bench is, and what becomes of it. */
import * as Data from "effect/Data"
import type * as Effect from "effect/Effect"
import type { Args, Sample } from "./clients/model.ts"

/** A row could not be measured. */
export class BenchError extends Data.TaggedError("BenchError")<{ readonly message: string }> {}

export type Offer = "PIPELINING" | "8BITMIME" | "SMTPUTF8" | "SIZE" | "CHUNKING" | "BINARYMIME" | "AUTH PLAIN"

export type Server =
  | { readonly kind: "smtp-sink" }
  | {
    readonly kind: "sink"
    readonly offer: ReadonlyArray<Offer>
    readonly tls?: Args["tls"]
    readonly scan?: "full" | "end"
  }
  | { readonly kind: "none" }

/**
 * - `ours`, `nodemailer`, `raw`, `import`: scripts of clients/
 * - `rawnode`: rawnode.cjs, the least that a Node client can do; `smtp-source`: Postfix's client in C
 */
export type Program = "ours" | "nodemailer" | "raw" | "import" | "rawnode" | "smtp-source"

export interface Contender {
  readonly program: Program
  /** Its name in the table, when that of the program does not say enough. */
  readonly label?: string | undefined
  readonly args?: Partial<Args> | undefined
}

/**
 * - `cpu`: our CPU seconds for a message over the peer's; `speed`: our messages a second over the peer's
 * - `roundTrips`: ours for a message; `growth`: of our resident memory, in MB
 * - `heap`, `resident`: our memory for a connection over the peer's
 */
export type Metric = "cpu" | "speed" | "roundTrips" | "growth" | "heap" | "resident"

export interface Target {
  readonly metric: Metric
  readonly is: "atMost" | "atLeast"
  readonly value: number
}

/** What the samples of a row are told in. */
export type Unit = "messages" | "octets" | "connections" | "seconds"

export interface Comparison {
  readonly id: string
  readonly row: string
  readonly load: string
  readonly server: Server
  readonly unit: Unit
  /** What both are told; each contender may say otherwise. */
  readonly args: Partial<Args>
  readonly ours: Contender
  readonly peer: Contender
  readonly targets: ReadonlyArray<Target>
  /** In milliseconds: server and clients stand in a network with this round trip. */
  readonly roundTrip?: number | undefined
  /** A third that is measured with each pair, and the server it needs; with `roundTrip`, a bare socket on the same server. */
  readonly extra?: { readonly contender: Contender; readonly server: Server } | undefined
  readonly note?: ((samples: Medians) => string) | undefined
  /** Why it cannot be measured here; undefined when it can. */
  readonly missing?: (() => string | undefined) | undefined
  /** Done once, before the first pair; what it gives takes the place of what stands here. */
  readonly prepare?: Effect.Effect<Partial<Comparison>, BenchError> | undefined
}

export interface Medians {
  readonly ours: Sample
  readonly peer: Sample
  readonly extra: Sample | undefined
}

/** The median of the pairs, and between what they lie. */
export interface Spread {
  readonly median: number
  readonly min: number
  readonly max: number
}

export interface Judgement extends Target {
  readonly measured: number
  readonly reached: boolean
}

export interface Outcome {
  readonly id: string
  readonly row: string
  readonly load: string
  readonly unit: Unit
  readonly pairs: number
  readonly server: string
  readonly ours: { readonly label: string; readonly sample: Sample } | undefined
  readonly peer: { readonly label: string; readonly sample: Sample } | undefined
  readonly metrics: Partial<Record<Metric, Spread>>
  readonly judgements: ReadonlyArray<Judgement>
  readonly note: string
  /** Why there are no figures. */
  readonly skipped: string | undefined
}

export const atMost = (metric: Metric, value: number): Target => ({ metric, is: "atMost", value })
export const atLeast = (metric: Metric, value: number): Target => ({ metric, is: "atLeast", value })
