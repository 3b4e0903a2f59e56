/**
 * The settings of one TLS handshake over `node:tls`, what it reports, and the `ETLS` that a failure of it is.
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
import type { Ended, TlsInfo, TlsOptions, TlsUpgrade } from "../SmtpConnector.ts"
import { ETLS } from "../SmtpError.ts"
import { escapeText } from "../SmtpReply.ts"
import * as channelBinding from "./channelBinding.ts"
import { hasUnsafe, unbracket } from "./hostName.ts"

/** The name as certificates and SNI have it: no brackets, no final dot, A-labels. */
const expectedName = (servername: string): string => {
  const name = unbracket(servername).replace(/\.$/, "")
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

const versions: ReadonlyArray<unknown> = ["TLSv1.2", "TLSv1.3", undefined]

const faultOf = (options: TlsOptions): string | undefined => {
  for (const field of ["minVersion", "maxVersion"] as const) {
    if (!versions.includes(options[field])) return `${field} must be "TLSv1.2" or "TLSv1.3"`
  }
  if (options.minVersion === "TLSv1.3" && options.maxVersion === "TLSv1.2") return "minVersion is above maxVersion"
  for (const field of ["key", "passphrase"] as const) {
    if (options[field] !== undefined && !Redacted.isRedacted(options[field])) {
      return `${field} must be Redacted; wrap it in Redacted.make`
    }
  }
  return undefined
}

type Pem = string | Uint8Array
const buffer = (pem: Pem): string | Buffer => typeof pem === "string" ? pem : Buffer.from(pem)

/** Node takes any text as `ca` and then trusts nobody: read it first. */
const authority = (pem: Pem): string | Buffer => {
  const read = buffer(pem)
  void new X509Certificate(read)
  return read
}

const contextOf = (options: TlsOptions): tls.SecureContext => {
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

/**
 * What `tls.connect` takes for an upgrade, beside the socket. Settings that cannot be are an `ETLS` with command "API".
 *
 * @category constructors
 * @since 0.1.0
 */
export const settingsOf = (upgrade: TlsUpgrade): Result.Result<tls.ConnectionOptions, ETLS> => {
  const name = expectedName(upgrade.servername)
  // domainToASCII would drop CR and LF.
  if (name === "" || hasUnsafe(upgrade.servername)) {
    return Result.fail(refused("options.servername", "servername is not a host name or IP address"))
  }
  const fault = faultOf(upgrade.options)
  if (fault !== undefined) return Result.fail(refused("options.tlsOptions", `tlsOptions: ${fault}`))
  const context = Result.try({
    try: () => contextOf(upgrade.options),
    catch: (cause) =>
      refused(
        "options.tlsOptions",
        `tlsOptions: OpenSSL does not take them: ${
          codeOf(cause)
        }; check ca, cert, key and passphrase (PEM), and ciphers`,
        withoutValues(cause)
      )
  })
  return Result.map(context, (secureContext) => ({
    secureContext,
    host: name,
    ...(net.isIP(name) === 0 ? { servername: name } : {}),
    rejectUnauthorized: upgrade.verify && upgrade.options.rejectUnauthorized !== false,
    // Node would take the name from elsewhere (SNI, the socket, "localhost") when it thinks that it has none.
    checkServerIdentity: (_: string, certificate: tls.PeerCertificate) => tls.checkServerIdentity(name, certificate)
  }))
}

/**
 * What is known of a TLS socket after its handshake.
 *
 * @category getters
 * @since 0.1.0
 */
export const infoOf = (socket: tls.TLSSocket, servername: string): TlsInfo => {
  const certificate = socket.getPeerX509Certificate()
  return {
    protocol: String(socket.getProtocol()),
    cipher: socket.getCipher().name,
    authorized: socket.authorized,
    authorizationError: socket.authorized ? undefined : String(socket.authorizationError),
    servername,
    peerCertificate: certificate === undefined ? undefined : {
      subject: certificate.subject,
      issuer: certificate.issuer,
      subjectAltName: certificate.subjectAltName ?? "",
      fingerprint256: certificate.fingerprint256,
      validFrom: certificate.validFrom,
      validTo: certificate.validTo,
      raw: certificate.raw
    },
    channelBindings: channelBinding.make(socket, "client", certificate?.raw)
  }
}

/** A loss is an errno, or an EOF, and says nothing of TLS. EPROTO is libuv's word for an error of OpenSSL. */
const isLoss = (code: string): boolean =>
  /^(?!EPROTO$)(?:E[A-Z0-9]+|ERR_STREAM_.*|ERR_SSL_UNEXPECTED_EOF.*)$/.test(code)

const untrusted = "its certificate comes from nobody trusted here; name the CA in options.tlsOptions.ca"
const tooOld = "it has no TLS version or cipher in common with options.tlsOptions (TLSv1.2 is the lowest)"
const hints: { readonly [code: string]: string } = {
  ERR_TLS_CERT_ALTNAME_INVALID: "its certificate is for another name; check options.host or set options.servername",
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
const notTls = "ERR_SSL_WRONG_VERSION_NUMBER"

/**
 * The failures of one handshake.
 *
 * @category models
 * @since 0.1.0
 */
export interface Failures {
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
      const hint = hints[code]
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
