/**
 * The TLS settings of a caller as values: what is wrong with them before anything is dialled, and the form of a pin.
 */
import * as Redacted from "effect/Redacted"
import type { TlsOptions } from "../SmtpConnector.ts"

/** What cannot be, by the field of `TlsOptions`. */
interface Fault {
  readonly field: string
  /** What the field must be. */
  readonly message: string
}

/** 32 octets in base64: the last character has two bits that count for nothing, and are zero. */
const keyPin = /^sha256\/[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$/
const certificatePin = /^cert-sha256\/(?:[0-9a-f]{64}|[0-9a-f]{2}(?::[0-9a-f]{2}){31})$/i

/** A pin as digests are written here: hex in lower case, without colons. Undefined when it is none. */
export const canonicalPin = (pin: unknown): string | undefined => {
  if (typeof pin !== "string") return undefined
  if (certificatePin.test(pin)) return pin.toLowerCase().replaceAll(":", "")
  return keyPin.test(pin) ? pin : undefined
}

const versions: ReadonlyArray<unknown> = ["TLSv1.2", "TLSv1.3", undefined]

const faultOfPins = (pins: unknown): Fault | undefined => {
  if (pins === undefined) return undefined
  if (!Array.isArray(pins) || pins.length === 0) {
    return { field: "pins", message: "must be a non-empty array; leave it out to have no pins" }
  }
  const index = pins.findIndex((pin) => canonicalPin(pin) === undefined)
  return index < 0 ? undefined : {
    field: `pins[${index}]`,
    message: "must be sha256/ with the base64 of a public key's SHA-256, or cert-sha256/ with a certificate's in hex"
  }
}

/** The first fault; what only OpenSSL can judge (PEM, the cipher list) is left to it. */
export const faultOf = (options: TlsOptions): Fault | undefined => {
  for (const field of ["minVersion", "maxVersion"] as const) {
    if (!versions.includes(options[field])) return { field, message: `must be "TLSv1.2" or "TLSv1.3"` }
  }
  if (options.minVersion === "TLSv1.3" && options.maxVersion === "TLSv1.2") {
    return { field: "minVersion", message: "is above maxVersion" }
  }
  for (const field of ["key", "passphrase"] as const) {
    if (options[field] !== undefined && !Redacted.isRedacted(options[field])) {
      return { field, message: "must be Redacted; wrap it in Redacted.make" }
    }
  }
  if (![true, false, undefined].includes(options.rejectUnauthorized)) {
    return { field: "rejectUnauthorized", message: "must be true or false" }
  }
  return faultOfPins(options.pins)
}
