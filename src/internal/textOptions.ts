/**
 * The options that can be written as text: their names in a URL and in the environment, and how the text is read.
 *
 * What it is: one table for both. What it is not: it does not say what is allowed; `options.resolve` does, for a text that
 * is no number or no boolean too.
 */
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as SchemaTransformation from "effect/SchemaTransformation"
import type { Options } from "./client/model.ts"
import type { Policies } from "./client/policies.ts"
import { timeoutNames } from "./options.ts"
import type * as poolOptions from "./poolOptions.ts"

/** The options of a client, and its policies. */
export type Given = Options & Policies

const text = Schema.String
const number = Schema.String.check(Schema.isPattern(/^\d{1,15}$/)).pipe(Schema.decodeTo(Schema.FiniteFromString))
const truth = Schema.String.check(Schema.isPattern(/^(?:true|false)$/)).pipe(
  Schema.decodeTo(
    Schema.Boolean,
    SchemaTransformation.transform({ decode: (word) => word === "true", encode: String })
  )
)
const list = Schema.NonEmptyString.pipe(
  Schema.decodeTo(
    Schema.Array(Schema.String),
    SchemaTransformation.transform({
      decode: (words): ReadonlyArray<string> => words.split(",").map((word) => word.trim()),
      encode: String
    })
  )
)
/** Milliseconds, or a text such as "10 seconds" as it is. */
const duration = Schema.Union([number, text])
const infinity = Schema.Literal("Infinity").pipe(
  Schema.decodeTo(
    Schema.Unknown,
    SchemaTransformation.transform({ decode: (): unknown => Infinity, encode: () => "Infinity" as const })
  )
)
const bound = Schema.Union([number, infinity])

/** An option that can be written as text. */
export interface TextOption {
  /** Its place in the options, e.g. `["timeouts", "command"]`. */
  readonly path: readonly [key: string, inner?: string]
  /** Its name in the query of a URL. */
  readonly parameter: string
  /** Its name in the environment, without `SMTP_`. */
  readonly variable: string
  /** What the text stands for; one that stands for nothing is left as it is. */
  readonly read: (text: string) => unknown
  /** False: a text that stands for nothing must not get as far as `resolve`. */
  readonly isLenient: boolean
}

const constantCase = (name: string): string => name.replace(/[A-Z]/g, "_$&").toUpperCase()

const option = (
  path: TextOption["path"],
  codec: Schema.ConstraintCodec<unknown, string>,
  names: { readonly parameter?: string; readonly variable?: string; readonly isLenient?: boolean } = {}
): TextOption => {
  const decode = Schema.decodeUnknownOption(codec)
  return {
    path,
    parameter: names.parameter ?? path.join("."),
    variable: names.variable ?? path.map((name) => constantCase(name ?? "")).join("_"),
    read: (given) => Option.getOrElse(decode(given), () => given),
    isLenient: names.isLenient ?? true
  }
}

const inTls = (name: string, codec: Schema.ConstraintCodec<unknown, string>, isLenient = true): TextOption =>
  option(["tlsOptions", name], codec, { parameter: name, variable: `TLS_${constantCase(name)}`, isLenient })

type Codec = Schema.ConstraintCodec<unknown, string>

/** Each of a group in its place. */
const group = (name: string, codecs: { readonly [inner: string]: Codec | undefined }): ReadonlyArray<TextOption> =>
  Object.entries(codecs).flatMap(([inner, codec]) => codec === undefined ? [] : [option([name, inner], codec)])

const pool: { readonly [K in keyof Required<poolOptions.Options>]: Codec } = {
  max: number,
  min: number,
  idleTimeout: duration,
  maxMessages: bound,
  maxAge: duration,
  maxWaiting: bound,
  acquireTimeout: duration,
  drain: duration
}

/** Not: the store of a limiter. */
const rateLimit: { readonly [K in keyof Required<NonNullable<Policies["rateLimit"]>>]: Codec | undefined } = {
  limit: number,
  window: duration,
  onExceeded: text,
  countFrom: text,
  key: text,
  limiter: undefined
}

const circuitBreaker: { readonly [K in keyof Required<NonNullable<Policies["circuitBreaker"]>>]: Codec } = {
  failures: number,
  openFor: duration
}

const adaptiveConcurrency: { readonly [K in keyof Required<NonNullable<Policies["adaptiveConcurrency"]>>]: Codec } = {
  max: number,
  min: number,
  initial: number
}

/**
 * All but host, port and credentials, which have places of their own in a URL and in the environment, and what is no
 * text: a schedule, and other servers.
 */
export const textOptions: ReadonlyArray<TextOption> = [
  option(["tls"], text),
  option(["servername"], text),
  option(["name"], text),
  option(["localAddress"], text),
  option(["family"], number),
  option(["protocol"], text),
  option(["mechanisms"], list),
  option(["minimumMechanism"], text),
  option(["channelBinding"], text),
  option(["allowInsecureAuth"], truth),
  option(["pipelining"], truth),
  option(["chunking"], Schema.Union([truth, text])),
  option(["transcript"], text),
  option(["path"], text),
  option(["tlsOptions", "pins"], list, { parameter: "pins", variable: "PINS" }),
  inTls("minVersion", text),
  inTls("maxVersion", text),
  inTls("ciphers", text),
  inTls("rejectUnauthorized", truth, false),
  ...timeoutNames.map((name) => option(["timeouts", name], duration, { variable: `TIMEOUT_${name.toUpperCase()}` })),
  ...group("pool", pool),
  option(["timeout"], duration),
  ...group("rateLimit", rateLimit),
  ...group("circuitBreaker", circuitBreaker),
  ...group("adaptiveConcurrency", adaptiveConcurrency)
]

/** The options with one more in its place. */
export const put = (options: Given, [key, inner]: TextOption["path"], value: unknown): Given => {
  const outer: unknown = Reflect.get(options, key)
  const held = typeof outer === "object" && outer !== null ? outer : {}
  return { ...options, [key]: inner === undefined ? value : { ...held, [inner]: value } }
}

/** RFC 6409: without a port of its own, SMTP with credentials is a submission; of all sources, once they are merged. */
export const withSubmissionPort = (options: Given): Given => {
  const { auth, path, port, protocol, tls } = options
  const isSubmission = auth !== undefined && port === undefined && path === undefined && protocol !== "lmtp" &&
    tls !== "implicit"
  return isSubmission ? { ...options, port: 587 } : options
}
