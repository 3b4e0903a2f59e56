/**
 * OpenSSL's contexts, which cost more than the handshake of a resumed session: one for each set of TLS options, not one
 * for each connection.
 *
 * What it is: two bounded or weak stores in memory. What it is not: it holds no session, and a context decides over no
 * peer (`nodeTls.judge`).
 *
 * @since 0.1.0
 */
import * as Result from "effect/Result"
import type * as tls from "node:tls"
import type { TlsOptions } from "../SmtpConnector.ts"

/** What of the options is in a context. */
const fields = ["ca", "cert", "key", "passphrase", "ciphers", "minVersion", "maxVersion"] as const

type Values = ReadonlyArray<unknown>

interface Known {
  readonly values: Values
  readonly context: tls.SecureContext
}

/** Most contexts that are kept of options without secrets; the one used longest ago is forgotten. */
const maxShared = 16

const shared = new Map<string, tls.SecureContext>()
const known = new WeakMap<TlsOptions, Known>()

const valuesOf = (options: TlsOptions): Values => fields.flatMap((field): Values => [field, options[field]].flat())

const isText = (value: unknown): boolean =>
  value === undefined || typeof value === "string" || (Array.isArray(value) && value.every(isText))

/** The key under which options are shared; none for those with octets or a secret. */
const keyOf = (options: TlsOptions): string | undefined => {
  const values = fields.map((field) => options[field])
  return values.every(isText) ? JSON.stringify(values) : undefined
}

const share = (key: string, context: tls.SecureContext): void => {
  // Behind all others: the order of the map is the order of use.
  shared.delete(key)
  shared.set(key, context)
  for (const [oldest] of shared) {
    if (shared.size <= maxShared) return
    shared.delete(oldest)
  }
}

type Make<E> = (options: TlsOptions) => Result.Result<tls.SecureContext, E>

const sharedFor = <E>(key: string, options: TlsOptions, make: Make<E>): Result.Result<tls.SecureContext, E> => {
  const alike = shared.get(key)
  return Result.map(alike === undefined ? make(options) : Result.succeed(alike), (context) => {
    share(key, context)
    return context
  })
}

const ownFor = <E>(options: TlsOptions, make: Make<E>): Result.Result<tls.SecureContext, E> => {
  const values = valuesOf(options)
  const before = known.get(options)
  if (before?.values.length === values.length && values.every((value, i) => value === before.values[i])) {
    return Result.succeed(before.context)
  }
  return Result.map(make(options), (context) => {
    known.set(options, { values, context })
    return context
  })
}

/**
 * The context of some options, made once for all that are alike. Those that hold octets or a secret are known by their
 * identity, and theirs goes with them.
 *
 * @category constructors
 * @since 0.1.0
 */
export const contextFor = <E>(options: TlsOptions, make: Make<E>): Result.Result<tls.SecureContext, E> => {
  const key = keyOf(options)
  return key === undefined ? ownFor(options, make) : sharedFor(key, options, make)
}
