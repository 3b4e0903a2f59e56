/**
 * The settings of one TLS handshake over `node:tls`, whether its peer is the one expected, what it reports, and the
 * `ETLS` that a failure of it is.
 *
 * What it is: plain functions for `nodeDuplex`. What it is not: it opens and holds no socket.
 *
 * @since 0.1.0
 */
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { X509Certificate } from "node:crypto"
import * as net from "node:net"
import * as tls from "node:tls"
import { domainToASCII } from "node:url"
import { codeOf } from "../internal/errorCause.ts"
import * as tlsOptions from "../internal/tlsOptions.ts"
import type { Ended, PeerCertificate, TlsInfo, TlsOptions, TlsUpgrade } from "../SmtpConnector.ts"
import { ETLS } from "../SmtpError.ts"
import { escapeText } from "../SmtpReply.ts"
import * as channelBinding from "./channelBinding.ts"
import { hasUnsafe, unbracket } from "./hostName.ts"
import { contextFor } from "./secureContexts.ts"
import { type Expected, identify, type Peer, peerOf, pinMismatch } from "./tlsIdentity.ts"

/** The name as certificates and SNI have it: no brackets, no zone, no final dot, A-labels. */
const expectedName = (servername: string): string => {
  const bare = unbracket(servername)
  if (net.isIPv6(bare)) return bare.replace(/%.*$/, "")
  const name = bare.replace(/\.$/, "")
  return /[^ -~]/.test(name) ? domainToASCII(name) : name
}

const refused = (field: string, message: string, cause?: unknown): ETLS =>
  new ETLS({
    message: `API: ${message}`,
    command: "API",
    field,
    temporary: false,
    attempted: false,
    ...(cause === undefined ? {} : { cause })
  })

type Pem = string | Uint8Array
const buffer = (pem: Pem): string | Buffer => typeof pem === "string" ? pem : Buffer.from(pem)

/** Node takes any text as `ca` and then trusts nobody: read it first. */
const authority = (pem: Pem): string | Buffer => {
  const read = buffer(pem)
  void new X509Certificate(read)
  return read
}

const createContext = (options: TlsOptions): tls.SecureContext => {
  const { ca, cert, key, passphrase, ciphers } = options
  return tls.createSecureContext({
    minVersion: options.minVersion ?? "TLSv1.2",
    maxVersion: options.maxVersion ?? "TLSv1.3",
    ...(ca === undefined ? {} : { ca: isMany(ca) ? ca.map(authority) : authority(ca) }),
    ...(cert === undefined ? {} : { cert: buffer(cert) }),
    ...(key === undefined ? {} : { key: buffer(Redacted.value(key)) }),
    ...(passphrase === undefined ? {} : { passphrase: Redacted.value(passphrase) }),
    ...(ciphers === undefined ? {} : { ciphers })
  })
}
const isMany = (ca: Pem | ReadonlyArray<Pem>): ca is ReadonlyArray<Pem> => Array.isArray(ca)

/** Node quotes a value of the wrong type in its message, and that value may be the key or the passphrase. */
const withoutValues = (cause: unknown): unknown =>
  codeOf(cause).startsWith("ERR_INVALID_ARG")
    ? Object.assign(new Error("a value has the wrong type"), { code: codeOf(cause) })
    : cause

const contextOf = (options: TlsOptions): Result.Result<tls.SecureContext, ETLS> =>
  Result.try({
    try: () => createContext(options),
    catch: (cause) =>
      refused(
        "options.tlsOptions",
        `tlsOptions: OpenSSL does not take them: ${
          codeOf(cause)
        }; check ca, cert, key and passphrase (PEM), and ciphers`,
        withoutValues(cause)
      )
  })

/**
 * What one handshake goes by.
 *
 * @category models
 * @since 0.1.0
 */
export interface Settings extends Expected {
  /** What `tls.connect` takes, beside the socket and a session. It lets every peer pass: {@link judge} decides. */
  readonly options: tls.ConnectionOptions
  /** The certificate that Node has told of: only of a full handshake, and when the chain verified. */
  readonly shown: () => tls.PeerCertificate | undefined
  /** Whether a peer that is not the one expected ends the handshake. Pins are always enforced. */
  readonly isEnforced: boolean
  readonly servername: string
  readonly policy: TlsOptions
}

const isHostName = (name: string): boolean => /^[a-z0-9_-]+(?:\.[a-z0-9_-]+)*$/i.test(name)

/**
 * The settings of an upgrade. Options that cannot be are an `ETLS` with command "API".
 *
 * @category constructors
 * @since 0.1.0
 */
export const settingsOf = (upgrade: TlsUpgrade): Result.Result<Settings, ETLS> => {
  const { options: policy, servername } = upgrade
  const name = expectedName(servername)
  // domainToASCII would drop CR and LF; OpenSSL takes a name with a dot in front for any name below it.
  if ((net.isIP(name) === 0 && !isHostName(name)) || hasUnsafe(servername)) {
    return Result.fail(refused("options.servername", "servername is not a host name or IP address"))
  }
  const fault = tlsOptions.faultOf(policy)
  if (fault !== undefined) {
    return Result.fail(refused("options.tlsOptions", `tlsOptions: ${fault.field} ${fault.message}`))
  }
  const pins = (policy.pins ?? []).flatMap((pin) => tlsOptions.canonicalPin(pin) ?? [])
  let shown: tls.PeerCertificate | undefined
  return Result.map(contextFor(policy, contextOf), (secureContext) => ({
    shown: () => shown,
    name,
    pins,
    policy,
    servername,
    isEnforced: pins.length > 0 || (upgrade.verify && policy.rejectUnauthorized !== false),
    options: {
      secureContext,
      host: name,
      ...(net.isIP(name) === 0 ? { servername: name } : {}),
      rejectUnauthorized: false,
      checkServerIdentity: (_, certificate) => void (shown = certificate)
    }
  }))
}

const certificateOf = (certificate: X509Certificate): PeerCertificate => ({
  subject: certificate.subject,
  issuer: certificate.issuer,
  subjectAltName: certificate.subjectAltName ?? "",
  fingerprint256: certificate.fingerprint256,
  validFrom: certificate.validFrom,
  validTo: certificate.validTo,
  raw: certificate.raw
})

/**
 * A peer that may be spoken to.
 *
 * @category models
 * @since 0.1.0
 */
interface Judged {
  readonly info: TlsInfo
  readonly peer: Peer
}

/**
 * Decides over a socket after its handshake, and says what is known of it: an error when the peer is not the one expected
 * and that is enforced. `kept` is the peer of the session that was offered.
 *
 * **Gotchas**
 *
 * Until this has succeeded nothing was verified: the settings let every peer pass.
 *
 * @category verification
 * @since 0.1.0
 */
export const judge = (
  socket: tls.TLSSocket,
  settings: Settings,
  kept: Peer | undefined
): Result.Result<Judged, Error> => {
  const resumed = socket.isSessionReused()
  // Node calls every resumed TLS 1.3 connection authorized: what counts is what the full handshake showed.
  const peer = resumed && kept !== undefined ? kept : peerOf(socket, settings.pins.length > 0, settings.shown())
  const found = identify(peer, settings)
  if (Result.isFailure(found) && settings.isEnforced) return Result.fail(found.failure)
  const [certificate] = peer.chain
  const info = {
    protocol: String(socket.getProtocol()),
    cipher: socket.getCipher().standardName,
    resumed,
    authorized: Result.isSuccess(found),
    authorizationError: Result.isSuccess(found) ? undefined : codeOf(found.failure),
    identity: Result.isSuccess(found) ? found.success.identity : undefined,
    pin: Result.isSuccess(found) ? found.success.pin : undefined,
    servername: settings.servername,
    peerCertificate: certificate === undefined ? undefined : certificateOf(certificate),
    channelBindings: channelBinding.make(socket, "client", certificate?.raw)
  }
  return Result.succeed({ info, peer })
}

/** A loss is an errno, or an EOF, and says nothing of TLS. EPROTO is libuv's word for an error of OpenSSL. */
const isLoss = (code: string): boolean =>
  /^(?!EPROTO$)(?:E[A-Z0-9]+|ERR_STREAM_.*|ERR_SSL_UNEXPECTED_EOF.*)$/.test(code)

const untrusted = "its certificate comes from nobody trusted here; name the CA in options.tlsOptions.ca"
const tooOld = "it has no TLS version or cipher in common with options.tlsOptions (TLSv1.2 is the lowest)"
const hints: { readonly [code: string]: string } = {
  ERR_TLS_CERT_ALTNAME_INVALID:
    "its certificate is for another name (the CN counts for nothing); check options.host or set options.servername",
  ERR_TLS_CERT_UNREADABLE: "its certificate has a key of a kind that is not known here",
  DEPTH_ZERO_SELF_SIGNED_CERT: untrusted,
  SELF_SIGNED_CERT_IN_CHAIN: untrusted,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: untrusted,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: untrusted,
  CERT_HAS_EXPIRED: "its certificate is past its validity; check this machine's clock too",
  CERT_NOT_YET_VALID: "its certificate is not valid yet; check this machine's clock too",
  ERR_SSL_UNSUPPORTED_PROTOCOL: tooOld,
  ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION: tooOld,
  "ERR_SSL_SSL/TLS_ALERT_HANDSHAKE_FAILURE": tooOld
}
const notPinned =
  "no pin of options.tlsOptions.pins matches its certificates; add one if the server is known to have changed"
const notTls = "ERR_SSL_WRONG_VERSION_NUMBER"

/**
 * The failures of one handshake.
 *
 * @category models
 * @since 0.1.0
 */
interface Failures {
  /** An 'error' event of the TLS socket. */
  readonly of: (cause: unknown) => ETLS
  /** The stream ended before the handshake did. */
  readonly lost: (ended: Ended | undefined) => ETLS
  /** Plaintext is held back on the stream. */
  readonly surplus: () => ETLS
}

/**
 * Words the failures of one handshake. `hasSpoken`: whether there was a dialogue in clear before, i.e. STARTTLS.
 *
 * @category constructors
 * @since 0.1.0
 */
export const failuresOf = (servername: string, hasSpoken: boolean): Failures => {
  const command = hasSpoken ? "STARTTLS" : "CONN"
  const fail = (temporary: boolean, message: string, cause?: unknown): ETLS =>
    new ETLS({
      message: `${command}: ${message}`,
      command,
      temporary,
      ...(cause === undefined ? {} : { cause })
    })
  const plain = hasSpoken
    ? "the server answered the TLS handshake with something that is not TLS"
    : "the server does not speak TLS on this port; use tls: \"starttls\" (or another port)"
  const server = escapeText(servername, 255)
  const lost = (cause?: unknown) =>
    fail(true, `the connection to ${server} was lost in the TLS handshake ${codeOf(cause)}`.trimEnd(), cause)
  return {
    of: (cause) => {
      const code = codeOf(cause)
      if (isLoss(code)) return lost(cause)
      if (code === notTls) return fail(false, plain, cause)
      const hint = code === pinMismatch && cause instanceof Error ? `${cause.message}; ${notPinned}` : hints[code]
      return fail(
        false,
        `the TLS handshake with ${server} failed: ${code}${hint === undefined ? "" : `; ${hint}`}`,
        cause
      )
    },
    lost: (ended) => lost(ended?._tag === "Errno" ? ended.cause : undefined),
    surplus: () => fail(false, hasSpoken ? "the server sent plaintext after its answer to STARTTLS" : plain)
  }
}
