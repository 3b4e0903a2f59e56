/**
 * What secures a connection, and which option asked for it, in one value.
 */
import * as Option from "effect/Option"
import type { Session } from "../SmtpHandshake.ts"
import type { LoggedIn } from "../SmtpLogin.ts"
import type { Resolved } from "./options.ts"

/**
 * What secures a connection, for logs and audits: plain data, without secrets.
 *
 * **Details**
 *
 * `askedBy` names the option that decided, as `options.tls = "implicit"`; `"default"` where none was given, and
 * `"connector"` where the connection was secured by its maker (`NodeConnector.fromConnection`).
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { Effect } from "effect"
 * import { SmtpConnection } from "effect-smtp"
 * import { SmtpServer } from "effect-smtp/testing"
 *
 * const program = Effect.gen(function*() {
 *   const connection = yield* SmtpConnection.make({ host: "mx.test", tls: "implicit" })
 *   return connection.securityReport
 * })
 * const report = await Effect.runPromise(Effect.scoped(program).pipe(Effect.provide(SmtpServer.layer())))
 * assert.strictEqual(report.verifiedBy, "certificate")
 * assert.strictEqual(report.identity, "mx.test")
 * assert.strictEqual(report.askedBy.tls, `options.tls = "implicit"`)
 * ```
 *
 * @category models
 * @since 0.1.0
 */
export interface SecurityReport {
  /** "TLSv1.3", …; undefined without TLS of ours, as are the cipher and the identity then. */
  readonly protocol: string | undefined
  /** The IANA name. */
  readonly cipher: string | undefined
  /** Whether a TLS session was resumed. */
  readonly resumed: boolean
  /** What says that the server is the one that was meant; credentials go to one with "nothing" only if `allowInsecureAuth`. */
  readonly verifiedBy: "certificate" | "pin" | "connector" | "nothing"
  /** Who the server is, as its certificate says or its own pin. */
  readonly identity: string | undefined
  /** The SASL mechanism of the login; undefined when there was none. */
  readonly mechanism: string | undefined
  /** What the login is bound to. */
  readonly channelBinding: LoggedIn["channelBinding"]
  readonly askedBy: {
    /** For TLS, or for none. */
    readonly tls: string
    /** For the way the server was verified, or was not. */
    readonly verification: string
    /** For the mechanism; undefined without a login. */
    readonly mechanism: string | undefined
  }
}

const isByMaker = ({ security, wire }: Session): boolean => Option.isNone(security) && wire.isSecuredByMaker

const tlsAsker = (session: Session, { endpoint, tls, tlsIsExplicit }: Resolved): string => {
  if (endpoint.path !== undefined && !tlsIsExplicit) return "options.path"
  if (isByMaker(session)) return "connector"
  if (tlsIsExplicit) return `options.tls = "${tls}"`
  return endpoint.port === 465 ? "options.port = 465" : "default"
}

const verificationAsker = (session: Session, options: Resolved): string => {
  const { tls, tlsOptions } = options
  if (Option.isNone(session.security)) return tlsAsker(session, options)
  if (tlsOptions.pins !== undefined) return "options.tlsOptions.pins"
  if (tls === "opportunistic") return `options.tls = "opportunistic"`
  if (tlsOptions.rejectUnauthorized === false) return "options.tlsOptions.rejectUnauthorized = false"
  return tlsOptions.ca === undefined ? "default" : "options.tlsOptions.ca"
}

const mechanismAsker = ({ trusted }: Session, options: Resolved): string => {
  if (!trusted) return "options.allowInsecureAuth = true"
  if (options.channelBinding === "required") return `options.channelBinding = "required"`
  if (options.mechanisms !== undefined) return "options.mechanisms"
  return options.minimumMechanism === undefined ? "default" : "options.minimumMechanism"
}

const verifierOf = (session: Session): SecurityReport["verifiedBy"] => {
  const info = Option.getOrUndefined(session.security)
  if (info?.pin !== undefined) return "pin"
  if (info?.authorized === true) return "certificate"
  return session.trusted ? "connector" : "nothing"
}

const peers = new WeakMap<SecurityReport, string>()

/** Reports on a dialogue and its last login. */
export const make = (session: Session, options: Resolved, login: LoggedIn | undefined): SecurityReport => {
  const info = Option.getOrUndefined(session.security)
  const { peer } = session.wire
  const report: SecurityReport = {
    protocol: info?.protocol,
    cipher: info?.cipher,
    resumed: info?.resumed ?? false,
    verifiedBy: verifierOf(session),
    identity: info?.identity,
    mechanism: login?.mechanism,
    channelBinding: login?.channelBinding,
    askedBy: {
      tls: tlsAsker(session, options),
      verification: verificationAsker(session, options),
      mechanism: login && mechanismAsker(session, options)
    }
  }
  if (peer !== undefined) peers.set(report, peer)
  return report
}

/** The other end of the socket; behind a proxy it has no address that is known here. */
const peerAttributes = (report: SecurityReport): Record<string, unknown> => {
  const peer = peers.get(report)
  if (peer === undefined) return {}
  if (peer.startsWith("/")) return { "network.peer.address": peer }
  const found = /^\[?([\da-fA-F.:]+(?:%\w+)?)\]?:(\d+)$/.exec(peer)
  return found === null ? {} : { "network.peer.address": found[1], "network.peer.port": Number(found[2]) }
}

/** The report as attributes of a span, and the peer: OpenTelemetry's names where it has some. */
export const attributesOf = (report: SecurityReport): Record<string, unknown> => ({
  ...peerAttributes(report),
  "tls.established": report.protocol !== undefined,
  ...(report.protocol === undefined ? {} : {
    "tls.protocol.name": "tls",
    "tls.protocol.version": report.protocol.replace(/^TLSv/, ""),
    "tls.cipher": report.cipher,
    "tls.resumed": report.resumed
  }),
  "smtp.security.verified_by": report.verifiedBy,
  ...(report.identity === undefined ? {} : { "smtp.security.identity": report.identity }),
  "smtp.security.asked_by": report.askedBy.tls,
  ...(report.mechanism === undefined ? {} : { "smtp.auth.mechanism": report.mechanism }),
  ...(report.channelBinding === undefined ? {} : { "smtp.auth.channel_binding": report.channelBinding })
})
