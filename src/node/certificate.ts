/**
 * X.509 certificates made on the spot, for loopback servers and tests: ECDSA P-256, signed with SHA-256.
 *
 * What it is: enough DER (RFC 5280) for a chain that `node:tls` verifies, so that a test of TLS needs neither files nor
 * the `openssl` program. What it is not: a certification authority; nothing here belongs in production.
 *
 * @since 0.1.0
 */
import * as NetAddress from "effect/net/NetAddress"
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
  X509Certificate
} from "node:crypto"

/**
 * A certificate and its private key, both in PEM.
 *
 * @category models
 * @since 0.1.0
 */
export interface CertificateAndKey {
  readonly cert: string
  readonly key: string
}

/**
 * What the certificate says.
 *
 * @category models
 * @since 0.1.0
 */
interface Options {
  /** The CN of the subject; clients look at `altNames` alone. */
  readonly commonName: string
  /** Subject alternative names, e.g. `"DNS:localhost"` and `"IP:127.0.0.1"`. */
  readonly altNames?: ReadonlyArray<string> | undefined
  /** Default: 2020-01-01. */
  readonly notBefore?: Date | undefined
  /** Default: 2049-12-31. */
  readonly notAfter?: Date | undefined
  /** Who signs; by default the certificate is self-signed. */
  readonly issuer?: CertificateAndKey | undefined
  /** Whether it may sign others; by default a self-signed one may. */
  readonly isCa?: boolean | undefined
}

const tlv = (tag: number, ...parts: ReadonlyArray<Uint8Array>): Buffer => {
  const body = Buffer.concat(parts)
  const size = body.length
  const length = size < 0x80 ? [size] : size < 0x100 ? [0x81, size] : [0x82, size >> 8, size & 0xff]
  return Buffer.concat([Buffer.from([tag, ...length]), body])
}
const sequence = (...parts: ReadonlyArray<Uint8Array>) => tlv(0x30, ...parts)
const explicit = (n: number, ...parts: ReadonlyArray<Uint8Array>) => tlv(0xa0 + n, ...parts)
const octets = (...parts: ReadonlyArray<Uint8Array>) => tlv(0x04, ...parts)
const oid = (hex: string) => tlv(0x06, Buffer.from(hex, "hex"))
const isTrue = tlv(0x01, Buffer.from([0xff]))

const ecdsaWithSha256 = sequence(oid("2a8648ce3d040302"))

const name = (commonName: string) =>
  sequence(tlv(0x31, sequence(oid("550403"), tlv(0x0c, Buffer.from(commonName, "utf8")))))

/** UTCTime until 2049, GeneralizedTime after (RFC 5280 §4.1.2.5). */
const time = (date: Date) => {
  const digits = `${date.toISOString().replace(/\D/g, "").slice(0, 14)}Z`
  return date.getUTCFullYear() < 2050 ? tlv(0x17, Buffer.from(digits.slice(2))) : tlv(0x18, Buffer.from(digits))
}

const addressOctets = (address: string): Uint8Array => {
  const ip = NetAddress.ipFromStringUnsafe(address)
  return Buffer.from(NetAddress.isIpv4Address(ip) ? NetAddress.ipv4ToOctets(ip) : NetAddress.ipv6ToOctets(ip))
}

const generalName = (altName: string): Buffer =>
  altName.startsWith("IP:")
    ? tlv(0x87, addressOctets(altName.slice(3)))
    : tlv(0x82, Buffer.from(altName.slice(altName.indexOf(":") + 1), "latin1"))

const spki = (key: KeyObject) => key.export({ type: "spki", format: "der" })
const keyId = (key: KeyObject) => createHash("sha1").update(spki(key)).digest()

const extension = (id: string, critical: boolean, value: Uint8Array) =>
  sequence(oid(id), ...critical ? [isTrue] : [], octets(value))

const extensions = (options: Options, key: KeyObject, issuerKey: KeyObject) => {
  const isCa = options.isCa ?? options.issuer === undefined
  // digitalSignature; for a CA keyCertSign and cRLSign too. The first octet counts the unused bits.
  const keyUsage = tlv(0x03, Buffer.from(isCa ? [0x01, 0x86] : [0x07, 0x80]))
  const serverAndClientAuth = sequence(oid("2b06010505070301"), oid("2b06010505070302"))
  const altNames = options.altNames ?? []
  return sequence(
    extension("551d13", true, isCa ? sequence(isTrue) : sequence()),
    extension("551d0f", true, keyUsage),
    extension("551d25", false, serverAndClientAuth),
    extension("551d0e", false, octets(keyId(key))),
    extension("551d23", false, sequence(tlv(0x80, keyId(issuerKey)))),
    ...altNames.length === 0 ? [] : [extension("551d11", false, sequence(...altNames.map(generalName)))]
  )
}

/** The elements of a DER SEQUENCE, whole. */
const elements = (der: Buffer): Array<Buffer> => {
  const header = (at: number) => {
    const first = der.readUInt8(at + 1)
    const width = first < 0x80 ? 0 : first & 0x7f
    return { from: at + 2 + width, size: width === 0 ? first : der.readUIntBE(at + 2, width) }
  }
  const found: Array<Buffer> = []
  for (let at = header(0).from; at < der.length;) {
    const { from, size } = header(at)
    found.push(der.subarray(at, from + size))
    at = from + size
  }
  return found
}

/** TBSCertificate is version, serialNumber, signature, issuer, validity, subject, … (RFC 5280 §4.1). */
const subjectOf = (cert: string): Uint8Array =>
  elements(elements(new X509Certificate(cert).raw)[0] ?? Buffer.alloc(0))[5] ?? Buffer.alloc(0)

const pem = (der: Uint8Array) =>
  `-----BEGIN CERTIFICATE-----\n${
    Buffer.from(der).toString("base64").replace(/.{1,64}/g, "$&\n")
  }-----END CERTIFICATE-----\n`

/**
 * Makes a key pair and a certificate for it.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { X509Certificate } from "node:crypto"
 * import { makeCertificate } from "effect-smtp/node/certificate"
 *
 * const ca = makeCertificate({ commonName: "Test CA" })
 * const server = makeCertificate({ commonName: "mx.test", altNames: ["DNS:mx.test", "IP:127.0.0.1"], issuer: ca })
 * const cert = new X509Certificate(server.cert)
 * assert.strictEqual(cert.verify(new X509Certificate(ca.cert).publicKey), true)
 * assert.strictEqual(cert.checkHost("mx.test"), "mx.test")
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeCertificate = (options: Options): CertificateAndKey => {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" })
  const { issuer } = options
  const signingKey = issuer === undefined ? privateKey : createPrivateKey(issuer.key)
  const subject = name(options.commonName)
  const serial = randomBytes(16)
  serial.writeUInt8((serial.readUInt8(0) & 0x7f) | 0x40, 0)
  const toBeSigned = sequence(
    explicit(0, tlv(0x02, Buffer.from([2]))),
    tlv(0x02, serial),
    ecdsaWithSha256,
    issuer === undefined ? subject : subjectOf(issuer.cert),
    sequence(
      time(options.notBefore ?? new Date("2020-01-01T00:00:00Z")),
      time(options.notAfter ?? new Date("2049-12-31T00:00:00Z"))
    ),
    subject,
    spki(publicKey),
    explicit(3, extensions(options, publicKey, createPublicKey(signingKey)))
  )
  const signature = sign("sha256", toBeSigned, signingKey)
  return {
    cert: pem(sequence(toBeSigned, ecdsaWithSha256, tlv(0x03, Buffer.from([0]), signature))),
    key: privateKey.export({ type: "pkcs8", format: "pem" }).toString()
  }
}
