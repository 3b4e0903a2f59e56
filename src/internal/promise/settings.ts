/**
 * The options of a transport as options of a client: secrets redacted, the URL read, everything checked.
 */
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as NodeConnector from "../../node/NodeConnector.ts"
import * as Sasl from "../../Sasl.ts"
import type * as SmtpClient from "../../SmtpClient.ts"
import type { SmtpConnector } from "../../SmtpConnector.ts"
import { ECONFIG, EOAUTH2 } from "../../SmtpError.ts"
import { escapeText } from "../../SmtpReply.ts"
import { failed } from "../oauth2/model.ts"
import * as options from "../options.ts"
import { withSubmissionPort } from "../textOptions.ts"
import * as url from "../url.ts"
import type { Auth, Options, Secret, ServerOptions, TlsOptions } from "./model.ts"

/** What the client takes. */
type Given = SmtpClient.Options & SmtpClient.Policies

export interface Settings {
  readonly options: Given
  readonly connector: Layer.Layer<SmtpConnector, ECONFIG>
}

const isObject = (u: unknown): u is object => typeof u === "object" && u !== null && !Array.isArray(u)

const refuse = (field: string, message: string): Result.Result<never, ECONFIG> =>
  Result.fail(new ECONFIG({ command: "API", attempted: false, field, message: `${field}: ${message}` }))

/** An error of somebody else's may hold the secret: its name is all that is kept. */
const foreign = (error: unknown): EOAUTH2 => {
  if (error instanceof EOAUTH2) return error
  const name = error instanceof Error ? ` (${escapeText(error.name, 100)})` : ""
  return failed(undefined, `the function that gives the secret failed${name}`)
}

const asked = (give: Extract<Secret, Function>): Sasl.Secret =>
  Effect.gen(function*() {
    const refused = yield* Sasl.RefusedToken
    const given = yield* Effect.tryPromise({
      try: () => Promise.resolve(give(refused && Redacted.value(refused))),
      catch: foreign
    })
    if (typeof given === "string" && given !== "") return Redacted.make(given)
    return yield* failed(undefined, "the function that gives the secret gave no string")
  })

const secret = (field: string, given: Secret): Result.Result<Sasl.Secret, ECONFIG> => {
  if (typeof given === "function") return Result.succeed(asked(given))
  if (Redacted.isRedacted(given)) return Result.succeed(given)
  return typeof given === "string" && given !== ""
    ? Result.succeed(Redacted.make(given))
    : refuse(field, "expected a non-empty string, or a function that gives one at each login")
}

const credentials = (at: string, auth: Auth | undefined): Result.Result<Sasl.Credentials | undefined, ECONFIG> => {
  if (auth === undefined || (typeof auth === "object" && auth !== null && "_tag" in auth)) return Result.succeed(auth)
  const { password, token, username, ...rest } = (auth ?? {}) as {
    readonly [K in "username" | "password" | "token"]?: unknown
  }
  if (typeof username !== "string" || (password === undefined) === (token === undefined)) {
    return refuse(at, "expected { username, password }, { username, token }, or credentials of Sasl")
  }
  return token === undefined
    ? Result.map(
      secret(`${at}.password`, password as Secret),
      (password) => Sasl.password({ ...rest, username, password })
    )
    : Result.map(secret(`${at}.token`, token as Secret), (token) => Sasl.oauth2({ username, token }))
}

const redacted = <A>(given: A | Redacted.Redacted<A>): Redacted.Redacted<A> =>
  Redacted.isRedacted(given) ? given : Redacted.make(given)

const tlsOf = (given: TlsOptions | undefined): SmtpClient.Options["tlsOptions"] =>
  isObject(given)
    ? {
      ...given,
      key: given.key === undefined ? undefined : redacted<string | Uint8Array>(given.key),
      passphrase: given.passphrase === undefined ? undefined : redacted<string>(given.passphrase)
    }
    : given

const given = (input: Options | string | URL): Result.Result<Options, ECONFIG> => {
  if (typeof input === "string" || input instanceof URL) return Result.succeed({ url: input })
  return isObject(input)
    ? Result.succeed(input)
    : refuse("options", "expected an object, e.g. { host: \"mx.example.com\" }, or a URL")
}

const isDefined = ([, value]: readonly [string, unknown]): boolean => value !== undefined

/** What one server is given, under the name that it has among the options. */
const server = (at: string, input: ServerOptions): Result.Result<SmtpClient.Options, ECONFIG> =>
  Result.gen(function*() {
    const { auth, tlsOptions, url: link, ...rest } = input
    const base = link === undefined ? {} : yield* url.read(link)
    const own = { ...rest, auth: yield* credentials(`${at}.auth`, auth), tlsOptions: tlsOf(tlsOptions) }
    const merged = { ...base, ...Object.fromEntries(Object.entries(own).filter(isDefined)) }
    return link === undefined ? merged : withSubmissionPort(merged)
  })

const others = (fallback: Options["fallback"]): Result.Result<Given["fallback"], ECONFIG> => {
  if (!Array.isArray(fallback)) return refuse("options.fallback", "expected an array of options")
  return Result.all(fallback.map((one: ServerOptions, index) => {
    const at = `options.fallback[${index}]`
    return isObject(one) ? server(at, one) : refuse(at, "expected an object, e.g. { host: \"mx2.example.com\" }")
  }))
}

/** Reads and checks what a caller gives; pure. */
export const resolve = (input: Options | string | URL): Result.Result<Settings, ECONFIG> =>
  Result.gen(function*() {
    const { connector = NodeConnector.layer, fallback, ...rest } = yield* given(input)
    const first = yield* server("options", rest)
    yield* options.resolve(first)
    return { options: fallback === undefined ? first : { ...first, fallback: yield* others(fallback) }, connector }
  })
