/**
 * A certificate as `probe` shows it.
 */
import { createHash, X509Certificate } from "node:crypto"
import { escape } from "./frame.ts"

/** What is worth knowing of a certificate. All text in it is escaped. */
export interface Certificate {
  readonly subject: string
  readonly issuer: string
  readonly names: ReadonlyArray<string>
  /** ISO 8601. */
  readonly validFrom: string
  readonly validTo: string
  /** Whole days until it expires; below 0 when it has. */
  readonly daysLeft: number
  /** E.g. "rsa 2048" or "ec prime256v1". */
  readonly key: string
  /** The pin of its key, as `--pin` takes it. */
  readonly pin: string
  readonly fingerprint256: string
}

const oneLine = (name: string | undefined): string => escape((name ?? "").split("\n").join(", "))

const keyOf = ({ publicKey }: X509Certificate): string => {
  const details = publicKey.asymmetricKeyDetails
  return [publicKey.asymmetricKeyType, details?.modulusLength ?? details?.namedCurve]
    .filter((word) => word !== undefined)
    .join(" ")
}

const millisInDay = 86_400_000

/** Reads the DER form; undefined when it is none. */
export const describe = (der: Uint8Array, nowMillis: number): Certificate | undefined => {
  try {
    const read = new X509Certificate(der)
    const spki = read.publicKey.export({ type: "spki", format: "der" })
    return {
      subject: oneLine(read.subject),
      issuer: oneLine(read.issuer),
      names: (read.subjectAltName ?? "").split(", ").filter((name) => name !== "").map((name) => escape(name)),
      validFrom: new Date(read.validFrom).toISOString(),
      validTo: new Date(read.validTo).toISOString(),
      daysLeft: Math.floor((Date.parse(read.validTo) - nowMillis) / millisInDay),
      key: keyOf(read),
      pin: `sha256/${createHash("sha256").update(spki).digest("base64")}`,
      fingerprint256: read.fingerprint256
    }
  } catch {
    return undefined
  }
}
