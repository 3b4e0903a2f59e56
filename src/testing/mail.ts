/**
 * MAIL and RCPT as a strict server reads them: path, parameters, and what is wrong with them. Pure.
 *
 * @since 0.1.0
 */
import type { Resolved } from "./script.ts"

/** A path and its parameters. */
export interface Address {
  readonly path: string
  readonly parameters: ReadonlyArray<string>
}

/** A refusal: reply code, enhanced code, text. */
export type Refusal = readonly [code: number, enhanced: string, text: string]

/** What the open transaction and the session allow. */
export interface Allowed {
  readonly script: Resolved
  readonly secure: boolean
  /** The client said EHLO or LHLO. */
  readonly isExtended: boolean
  readonly hasAuth: boolean
  /** The transaction has SMTPUTF8. */
  readonly smtpUtf8: boolean
}

/** "FROM:<" path ">" [ SP parameters ] (RFC 5321 §4.1.1.2); no space after the colon. */
const syntax = /^(FROM|TO):<((?:[^<>"\\\s]|"(?:[^"\\]|\\.)*")*)>(?: (.*))?$/is

/** Parses the argument of MAIL or RCPT. */
export const parse = (keyword: "FROM" | "TO", argument: string): Address | undefined => {
  const [, found = "", path = "", parameters] = syntax.exec(argument) ?? []
  if (found.toUpperCase() !== keyword) return undefined
  if (path === "" ? keyword === "TO" : !/.@./s.test(path) && !/^postmaster$/i.test(path)) return undefined
  return { path, parameters: parameters === undefined ? [] : parameters.split(" ") }
}

const keywordOf = (parameter: string): string => parameter.split("=", 1)[0]?.toUpperCase() ?? ""

/** Which extension of `extra` a parameter belongs to, where the names differ. */
const extensionOf: { readonly [keyword: string]: string } = {
  HOLDFOR: "FUTURERELEASE",
  HOLDUNTIL: "FUTURERELEASE",
  BY: "DELIVERBY"
}

interface Known {
  readonly isOffered: (allowed: Allowed) => boolean
  readonly form: RegExp
}

const notify = /^(NEVER|(SUCCESS|FAILURE|DELAY)(,(SUCCESS|FAILURE|DELAY))*)$/i

const known: { readonly [K in "FROM" | "TO"]: { readonly [keyword: string]: Known } } = {
  FROM: {
    SIZE: { isOffered: ({ script }) => script.extensions.size !== false, form: /^\d{1,20}$/ },
    BODY: { isOffered: ({ script }) => script.extensions.eightBitMime, form: /^(7BIT|8BITMIME|BINARYMIME)$/i },
    SMTPUTF8: { isOffered: ({ script }) => script.extensions.smtpUtf8, form: /^$/ },
    RET: { isOffered: ({ script }) => script.extensions.dsn, form: /^(FULL|HDRS)$/i },
    ENVID: { isOffered: ({ script }) => script.extensions.dsn, form: /^.{1,100}$/ },
    AUTH: { isOffered: ({ hasAuth }) => hasAuth, form: /^.+$/ },
    REQUIRETLS: { isOffered: ({ script, secure }) => script.extensions.requireTls && secure, form: /^$/ }
  },
  TO: {
    NOTIFY: { isOffered: ({ script }) => script.extensions.dsn, form: notify },
    ORCPT: { isOffered: ({ script }) => script.extensions.dsn, form: /^[^;]+;.+$/ }
  }
}

const isExtra = (keyword: string, { script }: Allowed): boolean => {
  const name = extensionOf[keyword] ?? keyword
  return script.extensions.extra.some((line) => line.split(" ", 1)[0]?.toUpperCase() === name)
}

const checkOne = (kind: "FROM" | "TO", parameter: string, allowed: Allowed): Refusal | undefined => {
  if (!/^[a-z0-9][a-z0-9-]*(=[^\s=]+)?$/i.test(parameter)) return [501, "5.5.4", `malformed parameter ${parameter}`]
  const keyword = keywordOf(parameter)
  const rule = known[kind][keyword]
  if (!allowed.isExtended || (!rule?.isOffered(allowed) && !isExtra(keyword, allowed))) {
    return [555, "5.5.4", `parameter ${keyword} is not offered`]
  }
  const value = parameter.slice(keyword.length + 1)
  if (rule !== undefined && !rule.form.test(value)) return [501, "5.5.4", `malformed value of ${keyword}`]
  return keyword === "BODY" && /^BINARYMIME$/i.test(value) && !allowed.script.extensions.binaryMime
    ? [555, "5.5.4", "BINARYMIME is not offered"]
    : undefined
}

/** What is wrong with a path and its parameters, if anything. */
export const check = (kind: "FROM" | "TO", address: Address, allowed: Allowed): Refusal | undefined => {
  const keywords = address.parameters.map(keywordOf)
  const twice = keywords.find((keyword, i) => keywords.indexOf(keyword) !== i)
  if (twice !== undefined) return [501, "5.5.4", `parameter ${twice} is given twice`]
  for (const parameter of address.parameters) {
    const refusal = checkOne(kind, parameter, allowed)
    if (refusal !== undefined) return refusal
  }
  const smtpUtf8 = allowed.smtpUtf8 || keywords.includes("SMTPUTF8")
  // oxlint-disable-next-line no-control-regex -- anything but ASCII
  return smtpUtf8 || /^[\u0000-\u007f]*$/.test(address.path) ? undefined : [553, "5.6.7", "SMTPUTF8 is required"]
}

/** The value of a parameter, "" for one without a value, undefined when absent. */
export const valueOf = (address: Address, keyword: string): string | undefined =>
  address.parameters.find((parameter) => keywordOf(parameter) === keyword)?.slice(keyword.length + 1)
