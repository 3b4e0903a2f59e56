/**
 * TLS sessions for resumption: those of verified connections, each with what its peer showed when it was verified.
 *
 * What it is: a bounded store in memory, one per connector layer. What it is not: it verifies nothing; who resumes a
 * session judges the kept peer again (`nodeTls.judge`), for neither Node nor OpenSSL looks at names on resumption.
 *
 * @since 0.1.0
 */
import * as Redacted from "effect/Redacted"
import { createHash } from "node:crypto"
import type * as tls from "node:tls"
import type { Endpoint, TlsOptions } from "../SmtpConnector.ts"
import type { Settings } from "./nodeTls.ts"
import type { Peer } from "./tlsIdentity.ts"

/**
 * Most servers and policies that sessions are kept of; those used longest ago are forgotten.
 *
 * @category limits
 * @since 0.1.0
 */
export const maxKeys = 128

/**
 * Most sessions of one server and policy. A ticket of TLS 1.3 serves once (RFC 8446 appendix C.4), and servers send some.
 *
 * @category limits
 * @since 0.1.0
 */
export const maxPerKey = 4

/**
 * Longest session that is kept, in octets: the server decides over the length of its tickets.
 *
 * @category limits
 * @since 0.1.0
 */
export const maxSessionLength = 16_384

/**
 * How long after the full handshake, in nanoseconds, its sessions and those that follow from them are resumed: one hour.
 * The certificate is not seen anew before, so this bounds how long one counts that has expired or was withdrawn.
 *
 * @category limits
 * @since 0.1.0
 */
export const maxAge = 3_600_000_000_000n

/**
 * One session, and what it goes back to.
 *
 * @category models
 * @since 0.1.0
 */
export interface Kept {
  readonly session: Buffer
  /** What the peer showed in the full handshake. */
  readonly peer: Peer
  /** When that was, by the monotonic clock. */
  readonly verifiedAt: bigint
}

/**
 * The store.
 *
 * @category models
 * @since 0.1.0
 */
export interface TlsSessions {
  /** The latest session under this key, which is forgotten thereby. */
  readonly take: (key: string, now: bigint) => Kept | undefined
  readonly put: (key: string, kept: Kept) => void
  /** From now on none is kept under this key: its server lost a connection to which one was offered. */
  readonly bar: (key: string) => void
}

class Store implements TlsSessions {
  private readonly byKey = new Map<string, Array<Kept>>()
  private readonly barred = new Set<string>()

  readonly take = (key: string, now: bigint): Kept | undefined => {
    const kept = this.byKey.get(key)?.pop()
    if (kept === undefined || now - kept.verifiedAt < maxAge) return kept
    // What lies under it is older still.
    this.byKey.delete(key)
    return undefined
  }

  readonly put = (key: string, kept: Kept): void => {
    if (kept.session.length > maxSessionLength || this.barred.has(key)) return
    const all = [...this.byKey.get(key) ?? [], kept].slice(-maxPerKey)
    // Behind all others: the order of the map is the order of use.
    this.byKey.delete(key)
    this.byKey.set(key, all)
    for (const [oldest] of this.byKey) {
      if (this.byKey.size <= maxKeys) return
      this.byKey.delete(oldest)
    }
  }

  readonly bar = (key: string): void => {
    this.byKey.delete(key)
    this.barred.add(key)
    const [oldest] = this.barred
    if (this.barred.size > maxKeys && oldest !== undefined) this.barred.delete(oldest)
  }
}

/**
 * Makes an empty store.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (): TlsSessions => new Store()

type Server = Pick<Endpoint, "host" | "port" | "path">

const digest = (octets: string | Uint8Array): string => createHash("sha256").update(octets).digest("hex")

/** Most texts whose digests are kept. */
const maxTexts = 16
const texts = new Map<string, string>()

/** The digest of a certificate, which is no secret: kept, as it is the same one for most connections. */
const certificateDigest = (pem: string | Uint8Array): string => {
  if (typeof pem !== "string") return digest(pem)
  const found = texts.get(pem) ?? digest(pem)
  if (texts.size >= maxTexts) texts.clear()
  texts.set(pem, found)
  return found
}
const digests = (pem: TlsOptions["ca"]): ReadonlyArray<string> =>
  pem === undefined
    ? []
    : typeof pem === "string" || pem instanceof Uint8Array
    ? [certificateDigest(pem)]
    : pem.map(certificateDigest)
const secretDigest = (secret: Redacted.Redacted<string | Uint8Array> | undefined): ReadonlyArray<string> =>
  secret === undefined ? [] : [digest(Redacted.value(secret))]

/** Every option counts: one that is forgotten here does not compile. */
const policyOf = (options: TlsOptions): { readonly [K in keyof Required<TlsOptions>]: unknown } => ({
  ca: options.ca === undefined ? "system" : digests(options.ca),
  cert: digests(options.cert),
  key: secretDigest(options.key),
  passphrase: secretDigest(options.passphrase),
  minVersion: options.minVersion,
  maxVersion: options.maxVersion,
  ciphers: options.ciphers,
  rejectUnauthorized: options.rejectUnauthorized,
  pins: options.pins
})

/**
 * The key of a server under a policy: host, port, path, the name to verify, and every TLS option, secrets as digests.
 *
 * @category getters
 * @since 0.1.0
 */
export const keyOf = (server: Server, name: string, options: TlsOptions): string =>
  JSON.stringify([server.host, server.port, server.path, name, policyOf(options)])

/**
 * Where the handshakes of one connection find sessions.
 *
 * @category models
 * @since 0.1.0
 */
export interface Source {
  readonly store: TlsSessions
  readonly server: Server
}

/**
 * The part of a store that one handshake has to do with.
 *
 * @category models
 * @since 0.1.0
 */
interface Slot {
  /** The session to offer. */
  readonly kept: Kept | undefined
  /** The handshake that offered a session was lost. */
  readonly bar: () => void
  /** Looks out for the sessions of a socket; before its handshake, for Node tells of those of TLS 1.2 nobody later. */
  readonly watch: (socket: tls.TLSSocket) => void
  /** The peer of the socket was verified: its sessions are kept, those included that come later. */
  readonly keep: (socket: tls.TLSSocket, peer: Peer) => void
}

const none: Slot = { kept: undefined, bar: () => {}, watch: () => {}, keep: () => {} }

/**
 * Takes a session for a handshake. Where nothing is verified, and without a source, none is read and none is written.
 *
 * @category constructors
 * @since 0.1.0
 */
export const slotOf = (source: Source | undefined, settings: Settings, now: bigint): Slot => {
  if (source === undefined || !settings.isEnforced) return none
  const { server, store } = source
  const key = keyOf(server, settings.name, settings.policy)
  const kept = store.take(key, now)
  let verified: Omit<Kept, "session"> | undefined
  return {
    kept,
    bar: () => store.bar(key),
    watch: (socket) => {
      socket.on("session", (session) => {
        if (verified !== undefined) store.put(key, { ...verified, session })
      })
    },
    keep: (socket, peer) => {
      const resumed = socket.isSessionReused() ? kept : undefined
      verified = { peer, verifiedAt: resumed?.verifiedAt ?? now }
      // Unlike a ticket of TLS 1.3, a session of TLS 1.2 may be resumed more than once.
      if (resumed !== undefined && socket.getProtocol() === "TLSv1.2") store.put(key, resumed)
    }
  }
}
