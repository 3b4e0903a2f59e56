/**
 * What a login can be bound to on a TLS socket: RFC 9266 (tls-exporter) and RFC 5929 (tls-unique, tls-server-end-point).
 *
 * What it is: plain functions for both ends. What it is not: it decides nothing; `Sasl` does.
 *
 * @since 0.1.0
 */
import { createHash } from "node:crypto"
import type * as tls from "node:tls"
import type { ChannelBinding } from "../Sasl.ts"

/** One element of DER. */
interface Element {
  readonly tag: number
  readonly body: Buffer
  /** What stands behind it. */
  readonly rest: Buffer
}

/** The first element; an empty one where the octets end. OpenSSL has parsed the certificate: its lengths are right. */
const first = (der: Buffer): Element => {
  const [tag = 0, size = 0] = der
  const width = size < 0x80 ? 0 : size & 0x7f
  const length = width === 0 ? size : der.readUIntBE(2, width)
  const end = 2 + width + length
  return { tag, body: der.subarray(2 + width, end), rest: der.subarray(end) }
}

const sha256 = "sha256"

/** The hash of each signature algorithm; RFC 5929 §4.1 puts SHA-256 in place of MD5 and SHA-1. */
const hashes: { readonly [oid: string]: string } = {
  "2a864886f70d010104": sha256,
  "2a864886f70d010105": sha256,
  "2a864886f70d01010b": sha256,
  "2a864886f70d01010c": "sha384",
  "2a864886f70d01010d": "sha512",
  "2a864886f70d01010e": "sha224",
  "2a8648ce3d0401": sha256,
  "2a8648ce3d040301": "sha224",
  "2a8648ce3d040302": sha256,
  "2a8648ce3d040303": "sha384",
  "2a8648ce3d040304": "sha512",
  // The hashes themselves, as the parameters of RSASSA-PSS name them.
  "2b0e03021a": sha256,
  "608648016503040201": sha256,
  "608648016503040202": "sha384",
  "608648016503040203": "sha512",
  "608648016503040204": "sha224"
}
const rsaPss = "2a864886f70d01010a"

/** Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm, signatureValue } (RFC 5280 §4.1). */
const hashOf = (certificate: Buffer): string | undefined => {
  const algorithm = first(first(first(certificate).body).rest)
  const id = first(algorithm.body)
  const oid = id.body.toString("hex")
  if (oid !== rsaPss) return hashes[oid]
  // RFC 4055 §3.1: the hash is in parameter [0]; without one it is SHA-1.
  const parameter = first(first(id.rest).body)
  return parameter.tag === 0xa0 ? hashes[first(first(parameter.body).body).body.toString("hex")] : sha256
}

/** Those of certificates that are seen again, as with each session that is resumed. */
const endPoints = new WeakMap<Uint8Array, ReadonlyArray<ChannelBinding>>()

/**
 * The binding tls-server-end-point; none for a signature without a hash of its own, such as Ed25519.
 *
 * @category constructors
 * @since 0.1.0
 */
export const endPoint = (certificate: Uint8Array): ReadonlyArray<ChannelBinding> => {
  const known = endPoints.get(certificate)
  if (known !== undefined) return known
  const hash = hashOf(Buffer.from(certificate))
  const made: ReadonlyArray<ChannelBinding> = hash === undefined
    ? []
    : [{ type: "tls-server-end-point", data: createHash(hash).update(certificate).digest() }]
  endPoints.set(certificate, made)
  return made
}

/** RFC 5929 §3: the first Finished of the handshake, the client's unless a session was resumed; then it binds too little. */
const unique = (socket: tls.TLSSocket, side: "client" | "server"): ReadonlyArray<ChannelBinding> => {
  const data = side === "client" ? socket.getFinished() : socket.getPeerFinished()
  return socket.isSessionReused() || data === undefined ? [] : [{ type: "tls-unique", data }]
}

const exporter = (socket: tls.TLSSocket): ReadonlyArray<ChannelBinding> => [{
  type: "tls-exporter",
  data: socket.exportKeyingMaterial(32, "EXPORTER-Channel-Binding", Buffer.alloc(0))
}]

/**
 * What both ends of a socket can bind to after its handshake, the best first; `certificate` is the server's, in DER.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  socket: tls.TLSSocket,
  side: "client" | "server",
  certificate: Uint8Array | undefined
): ReadonlyArray<ChannelBinding> => [
  ...(socket.getProtocol() === "TLSv1.3" ? exporter(socket) : unique(socket, side)),
  ...(certificate === undefined ? [] : endPoint(certificate))
]
