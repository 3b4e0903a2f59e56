/**
 * What `probe` finds out of a server: by the library's own connections, and by the three looks of `probeRaw`.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type { SmtpCapabilities } from "../SmtpCapabilities.ts"
import * as SmtpConnection from "../SmtpConnection.ts"
import * as SmtpConnector from "../SmtpConnector.ts"
import type * as SmtpError from "../SmtpError.ts"
import type { SmtpReply } from "../SmtpReply.ts"
import { type Certificate, describe } from "./probeCertificate.ts"
import * as probeRaw from "./probeRaw.ts"

/** How TLS comes about here; "none": the server does not offer it; "unwanted": nobody asked for it. */
type TlsWay = "implicit" | "starttls" | "none" | "unwanted"

/** The findings. */
export interface Facts {
  readonly host: string
  readonly port: number | undefined
  readonly greeting: SmtpReply
  readonly way: TlsWay
  /** In clear; undefined where TLS comes first. */
  readonly before: SmtpCapabilities | undefined
  /** Over TLS; undefined where there is none. */
  readonly after: SmtpCapabilities | undefined
  readonly security: SmtpConnector.TlsInfo | undefined
  /** Why there is no TLS although it is offered. */
  readonly tlsError: SmtpError.SmtpError | undefined
  /** The server's own certificate first. */
  readonly certificates: ReadonlyArray<Certificate>
  readonly injection: probeRaw.Check | undefined
  readonly oldTls: probeRaw.Check | undefined
}

interface Seen {
  readonly greeting: SmtpReply
  readonly capabilities: SmtpCapabilities
  readonly security: SmtpConnector.TlsInfo | undefined
}

const look = (options: SmtpConnection.Options) =>
  Effect.scoped(Effect.map(SmtpConnection.make(options), ({ capabilities, greeting, security }): Seen => ({
    capabilities,
    greeting,
    security: Option.getOrUndefined(security)
  })))

const withoutTls = (options: SmtpConnection.Options) =>
  look({ ...options, servername: undefined, tlsOptions: undefined, tls: "off" })

/** Verification is on in the report, but does not end the handshake: then there is more to see. */
const overTls = (options: SmtpConnection.Options, tls: "implicit" | "starttls") =>
  look({ ...options, tls, tlsOptions: { ...options.tlsOptions, rejectUnauthorized: false } })

const isImplicit = ({ port, tls }: SmtpConnection.Options): boolean =>
  tls === "implicit" || (tls === undefined && port === 465)

const placeOf = (options: SmtpConnection.Options, localName: string | undefined): probeRaw.Place => {
  const implicit = isImplicit(options)
  const host = options.host ?? "localhost"
  return {
    host,
    port: options.port ?? (implicit ? 465 : options.protocol === "lmtp" ? 24 : 25),
    path: options.path,
    servername: options.servername ?? host,
    implicit,
    hello: `${options.protocol === "lmtp" ? "LHLO" : "EHLO"} ${options.name ?? localName ?? "localhost"}`
  }
}

const certificatesOf = Effect.fnUntraced(function*(place: probeRaw.Place, seen: Seen | undefined) {
  const now = yield* Clock.currentTimeMillis
  const own = seen?.security?.peerCertificate?.raw
  const chain = yield* probeRaw.chain(place)
  return (chain.length > 0 ? chain : own === undefined ? [] : [own]).flatMap((der) => describe(der, now) ?? [])
})

/** Looks at TLS from all sides. */
const secureFacts = Effect.fnUntraced(function*(options: SmtpConnection.Options, place: probeRaw.Place) {
  const tried = yield* Effect.result(overTls(options, place.implicit ? "implicit" : "starttls"))
  const seen = Result.getOrUndefined(tried)
  return {
    seen,
    after: seen?.capabilities,
    security: seen?.security,
    tlsError: Result.isFailure(tried) ? tried.failure : undefined,
    certificates: yield* certificatesOf(place, seen),
    injection: place.implicit ? undefined : yield* probeRaw.injection(place),
    oldTls: yield* probeRaw.oldTls(place)
  }
})

const noTls = {
  after: undefined,
  security: undefined,
  tlsError: undefined,
  certificates: [],
  injection: undefined,
  oldTls: undefined
}

/** Finds out; fails when the server cannot be reached or does not greet. */
export const gather = Effect.fnUntraced(function*(options: SmtpConnection.Options) {
  const { localName } = yield* SmtpConnector.SmtpConnector
  const place = placeOf(options, localName)
  const base = { host: place.path ?? place.host, port: place.path === undefined ? place.port : undefined }
  if (place.implicit) {
    const { seen, ...facts } = yield* secureFacts(options, place)
    if (seen === undefined) return yield* facts.tlsError!
    return { ...base, ...facts, way: "implicit", greeting: seen.greeting, before: undefined } satisfies Facts as Facts
  }
  const clear = yield* withoutTls(options)
  const way: TlsWay = options.tls === "off" || options.path !== undefined && options.tls === undefined
    ? "unwanted"
    : clear.capabilities.startTls
    ? "starttls"
    : "none"
  const common = { ...base, way, greeting: clear.greeting, before: clear.capabilities }
  if (way !== "starttls") return { ...common, ...noTls } satisfies Facts as Facts
  const { seen: _, ...facts } = yield* secureFacts(options, place)
  return { ...common, ...facts } satisfies Facts as Facts
})
