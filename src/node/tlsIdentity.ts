/**
 * Whether a TLS peer is who was meant: chain, name and pins, in one pure judgement.
 *
 * What it is: RFC 9525 (names in subject alternative names alone; the CN is never looked at) over what OpenSSL found of
 * the chain, and pins in the form of RFC 7469. What it is not: it holds no socket, and keeps nothing.
 *
 * @since 0.1.0
 */
import * as Result from "effect/Result"
import { createHash, X509Certificate } from "node:crypto"
import { isIP } from "node:net"
import type * as tls from "node:tls"
import { escapeText } from "../SmtpReply.ts"

/**
 * What a peer showed in a full handshake.
 *
 * @category models
 * @since 0.1.0
 */
export interface Peer {
  /** Its certificate, and behind it those of its issuers as far as they are known. Empty: it showed none. */
  readonly chain: ReadonlyArray<X509Certificate>
  /** OpenSSL's code for why the chain does not lead to a trusted authority. */
  readonly chainError: string | undefined
}

/**
 * Whom to expect.
 *
 * @category models
 * @since 0.1.0
 */
export interface Expected {
  /** A host name in A-labels or an IP address. */
  readonly name: string
  /** In canonical form; empty: none are asked for. */
  readonly pins: ReadonlyArray<string>
}

/**
 * Who the peer is.
 *
 * @category models
 * @since 0.1.0
 */
interface Identity {
  /** The name of the certificate that is the one expected, wildcards as they stand; or the pin of the peer itself. */
  readonly identity: string
  readonly pin: string | undefined
}

/**
 * The code of {@link identify}'s error for a peer without a pinned certificate.
 *
 * @category models
 * @since 0.1.0
 */
export const pinMismatch = "ERR_TLS_PIN_MISMATCH"

/** Longest chain that is looked at for pins. */
const maxChain = 16

/**
 * What a socket's peer showed; `isWhole`: with the certificates of its issuers, of which pins can be. `known` is the
 * certificate where Node has told of it already.
 *
 * **Gotchas**
 *
 * Not `getPeerX509Certificate`: after one call of it Node 24 knows of no certificate any more.
 *
 * @category constructors
 * @since 0.1.0
 */
export const peerOf = (socket: tls.TLSSocket, isWhole: boolean, known?: tls.PeerCertificate): Peer => {
  const chain: Array<X509Certificate> = []
  let shown: Partial<tls.DetailedPeerCertificate> | undefined = known ?? socket.getPeerCertificate(isWhole)
  while (shown?.raw !== undefined && chain.length < (isWhole ? maxChain : 1)) {
    chain.push(new X509Certificate(shown.raw))
    // A root is its own issuer.
    shown = shown.issuerCertificate === shown ? undefined : shown.issuerCertificate
  }
  return { chain, chainError: socket.authorized ? undefined : String(socket.authorizationError) }
}

const refused = (code: string, message: string): Result.Result<never, Error> =>
  Result.fail(Object.assign(new Error(message), { code }))

const noPartialWildcards = {
  subject: "never",
  wildcards: true,
  partialWildcards: false,
  multiLabelWildcards: false,
  singleLabelSubdomains: false
} as const

/** The name of the certificate that covers the expected one. */
const nameIn = (certificate: X509Certificate, name: string): string | undefined =>
  isIP(name) === 0 ? certificate.checkHost(name, noPartialWildcards) : certificate.checkIP(name)

const verifyName = (certificate: X509Certificate | undefined, name: string): Result.Result<string, Error> => {
  const found = certificate === undefined ? undefined : nameIn(certificate, name)
  return found === undefined
    ? refused(
      "ERR_TLS_CERT_ALTNAME_INVALID",
      `the certificate is not for ${escapeText(name, 255)}, but for ${
        escapeText(certificate?.subjectAltName ?? "no name", 255)
      }`
    )
    : Result.succeed(found)
}

const keyPinOf = (certificate: X509Certificate): string =>
  `sha256/${
    createHash("sha256").update(certificate.publicKey.export({ type: "spki", format: "der" })).digest("base64")
  }`

/** Which of the pins are of this certificate: of its key, or of itself. */
const pinOf = (certificate: X509Certificate, pins: ReadonlyArray<string>): string | undefined => {
  const own = [
    keyPinOf(certificate),
    `cert-sha256/${createHash("sha256").update(certificate.raw).digest("hex")}`
  ]
  return pins.find((pin) => own.includes(pin))
}

/** A peer can show certificates that signed nothing of its own. */
const isIssuer = (issuer: X509Certificate, certificate: X509Certificate): boolean =>
  issuer.ca && certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey)

/** The pin of an authority that the peer's certificate leads to, signature by signature. */
const pinAbove = (chain: ReadonlyArray<X509Certificate>, pins: ReadonlyArray<string>): string | undefined => {
  for (const [index, issuer] of chain.slice(1).entries()) {
    if (!isIssuer(issuer, chain[index]!)) return undefined
    const pin = pinOf(issuer, pins)
    if (pin !== undefined) return pin
  }
  return undefined
}

/** Codes that say nothing but that the chain ends in nobody who is trusted here: what the pin of an authority makes up for. */
const untrusted: ReadonlyArray<string> = [
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE"
]

const verifyChain = (code: string | undefined): Result.Result<void, Error> =>
  code === undefined ? Result.void : refused(code, "the chain of certificates does not verify")

const named = (peer: Peer, expected: Expected, pin: string | undefined): Result.Result<Identity, Error> =>
  Result.map(verifyName(peer.chain[0], expected.name), (identity) => ({ identity, pin }))

const identifyPinned = (peer: Peer, expected: Expected): Result.Result<Identity, Error> => {
  const [leaf] = peer.chain
  if (leaf === undefined) return refused(pinMismatch, "it showed no certificate")
  const own = pinOf(leaf, expected.pins)
  if (own !== undefined) return Result.succeed({ identity: own, pin: own })
  const above = pinAbove(peer.chain, expected.pins)
  if (above === undefined) return refused(pinMismatch, `its own key is ${keyPinOf(leaf)}`)
  const code = peer.chainError !== undefined && untrusted.includes(peer.chainError) ? undefined : peer.chainError
  return Result.flatMap(verifyChain(code), () => named(peer, expected, above))
}

/**
 * Says who the peer is, or why it is not the one expected: an error with a `code`, OpenSSL's or Node's where they have one.
 *
 * **Details**
 *
 * Without pins the chain has to verify, and the certificate to hold the name. With pins one of them has to match. A pin of
 * the peer's own key or certificate is the identity: neither chain, name nor validity count beside it, as with DANE-EE
 * (RFC 7671 §5.1). The pin of an authority takes the place of trust in the chain's end alone: signatures up to it,
 * validity and name still count (as with DANE-TA, §5.2).
 *
 * @category verification
 * @since 0.1.0
 */
export const identify = (peer: Peer, expected: Expected): Result.Result<Identity, Error> => {
  // A certificate with a key that OpenSSL cannot handle throws.
  const judged = Result.try(() =>
    expected.pins.length > 0
      ? identifyPinned(peer, expected)
      : Result.flatMap(verifyChain(peer.chainError), () => named(peer, expected, undefined))
  )
  return Result.isSuccess(judged) ? judged.success : refused("ERR_TLS_CERT_UNREADABLE", "a certificate cannot be read")
}
