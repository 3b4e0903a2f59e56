/**
 * The token endpoint: RFC 6749 sections 3.2, 5 and 6 over an `HttpClient`, with everything bounded that the other side
 * controls, and nothing kept of it but status, `error` and `error_description`.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import type { ECONFIG, EOAUTH2 } from "../../SmtpError.ts"
import { escapeText } from "../../SmtpReply.ts"
import { codeOf } from "../errorCause.ts"
import * as model from "./model.ts"

/** Most octets read of an answer: real ones have some thousands. */
export const maxAnswer = 65_536
/** Most characters kept of `error` and of `error_description`. */
const maxError = 100
const maxDescription = 400
/** Longest lifetime believed, in seconds: a year. */
const maxLifetime = 31_536_000

const isLoopback = (hostname: string): boolean =>
  hostname === "localhost" || hostname === "[::1]" || /^127\.\d+\.\d+\.\d+$/.test(hostname)

/** https, or http to this machine where it was asked for. */
export const parseUrl = (
  tokenUrl: string | URL,
  allowInsecureLoopback: boolean | undefined
): Result.Result<URL, ECONFIG> => {
  const url = Result.getOrUndefined(Result.try(() => new URL(tokenUrl)))
  if (url === undefined) return model.config("tokenUrl", "it is no absolute URL; give one such as https://host/token")
  if (url.username !== "" || url.password !== "" || url.hash !== "") {
    return model.config("tokenUrl", "it holds a user, a password or a fragment; remove them (RFC 6749 section 3.2)")
  }
  if (url.protocol === "https:") return Result.succeed(url)
  if (url.protocol !== "http:" || !isLoopback(url.hostname)) {
    return model.config("tokenUrl", "secrets go to https alone; give an https URL")
  }
  return allowInsecureLoopback === true
    ? Result.succeed(url)
    : model.config("tokenUrl", "it is http; give an https URL, or set allowInsecureLoopback: true for a test")
}

/** One request to the endpoint. */
export interface Grant {
  readonly url: URL
  readonly username: string
  readonly parameters: Readonly<Record<string, string | Redacted.Redacted<string> | undefined>>
  readonly timeout: Duration.Duration
}

/** What the endpoint gave. */
export interface Granted extends model.Held {
  readonly refreshToken: Redacted.Redacted<string> | undefined
}

/** What a client or an endpoint may have made of the request; where it went is all that counts. */
const placeOf = (url: URL): string => url.origin + url.pathname

const redirected = (grant: Grant, status?: number): EOAUTH2 =>
  model.failed(grant.username, "the token endpoint redirects, and no redirect is followed; give its final tokenUrl", {
    temporary: false,
    ...(status === undefined ? {} : { status })
  })

/** The code of the system or of TLS beneath an error, all that is kept of it. */
const codeIn = (error: unknown, depth = 4): string => {
  if (depth === 0 || typeof error !== "object" || error === null) return ""
  const code = codeOf(error)
  return /^[A-Z0-9_]{2,60}$/.test(code)
    ? ` (${code})`
    : codeIn((error as { readonly cause?: unknown }).cause, depth - 1)
}

const unreachable = (grant: Grant, error?: unknown): EOAUTH2 =>
  model.failed(grant.username, `the request to ${grant.url.host} failed${codeIn(error)}`, { temporary: true })

/** The endpoint may repeat what it was sent: plain, or as it stood in the form. */
const withoutSecrets = ({ parameters }: Grant, said: string): string => {
  const secrets = Object.values(parameters).flatMap((value) =>
    Redacted.isRedacted(value) ? [Redacted.value(value)] : []
  )
  return secrets
    .flatMap((secret) => [secret, new URLSearchParams([["", secret]]).toString().slice(1)])
    .reduce((text, secret) => text.replaceAll(secret, "***"), said)
}

const shown = (grant: Grant, said: unknown, limit: number): string | undefined =>
  typeof said === "string" && said !== "" ? escapeText(withoutSecrets(grant, said).slice(0, limit)) : undefined

/** The answer as text, up to the limit. */
const read = (response: HttpClientResponse.HttpClientResponse) =>
  Effect.suspend(() => {
    const decoder = new TextDecoder()
    let octets = 0
    let text = ""
    return response.stream.pipe(
      Stream.runForEach((part) => {
        octets += part.length
        if (octets > maxAnswer) return Effect.fail("too long" as const)
        text += decoder.decode(part, { stream: true })
        return Effect.void
      }),
      Effect.map(() => text)
    )
  })

const parseObject = (text: string): Readonly<Record<string, unknown>> => {
  const json = Result.getOrUndefined(Result.try(() => JSON.parse(text) as unknown))
  return typeof json === "object" && json !== null ? json as Readonly<Record<string, unknown>> : {}
}

/** RFC 6749 section 5.2; 429 and 5xx are the endpoint's own trouble. */
const refusal = (grant: Grant, status: number, body: string): EOAUTH2 => {
  const json = parseObject(body)
  const error = shown(grant, json["error"], maxError)
  const errorDescription = shown(grant, json["error_description"], maxDescription)
  const because = error === undefined
    ? ""
    : `: ${error}${errorDescription === undefined ? "" : ` (${errorDescription})`}`
  return model.failed(grant.username, `the token endpoint answered ${status}${because}`, {
    status,
    temporary: status === 429 || status >= 500,
    ...(error === undefined ? {} : { error }),
    ...(errorDescription === undefined ? {} : { errorDescription })
  })
}

/** RFC 6749 section 5.1: seconds; some endpoints write them as a string. */
const lifetimeOf = (value: unknown): number => {
  const seconds = typeof value === "string" && /^\d{1,9}$/.test(value) ? Number(value) : value
  return typeof seconds === "number" && seconds >= 0 ? Math.min(seconds, maxLifetime) * 1000 : Infinity
}

const isText = (value: unknown): value is string => typeof value === "string" && value !== ""

/** The moment before the request counts: the token may have lived while the answer travelled. */
const grantedBy = (grant: Grant, status: number, body: string, asked: number): Result.Result<Granted, EOAUTH2> => {
  const { access_token, expires_in, refresh_token, token_type } = parseObject(body)
  if (!isText(access_token)) {
    return Result.fail(model.failed(grant.username, "the answer holds no access_token", { status, temporary: false }))
  }
  if (token_type !== undefined && String(token_type).toLowerCase() !== "bearer") {
    return Result.fail(model.failed(grant.username, "the token is no bearer token", { status, temporary: false }))
  }
  return Result.succeed({
    token: Redacted.make(access_token),
    ends: asked + lifetimeOf(expires_in),
    refreshToken: isText(refresh_token) ? Redacted.make(refresh_token) : undefined
  })
}

const requestOf = ({ parameters, url }: Grant): HttpClientRequest.HttpClientRequest => {
  const form = Object.entries(parameters).flatMap(([name, value]) =>
    value === undefined ? [] : [[name, Redacted.isRedacted(value) ? Redacted.value(value) : value] as const]
  )
  return HttpClientRequest.post(url).pipe(HttpClientRequest.acceptJson, HttpClientRequest.bodyUrlParams(form))
}

const isElsewhere = (grant: Grant, response: HttpClientResponse.HttpClientResponse): boolean =>
  response.url !== "" && placeOf(new URL(response.url)) !== placeOf(grant.url)

const judge = Effect.fnUntraced(function*(
  grant: Grant,
  response: HttpClientResponse.HttpClientResponse,
  asked: number
): Effect.fn.Return<Granted, EOAUTH2> {
  const { status } = response
  // A fetch that is told to follow no redirect shows one as status 0 in browsers.
  if ((status >= 300 && status < 400) || status === 0 || isElsewhere(grant, response)) {
    return yield* redirected(grant, status)
  }
  const isGranted = status >= 200 && status < 300
  const body = yield* Effect.result(read(response))
  if (!isGranted) return yield* refusal(grant, status, Result.getOrElse(body, () => ""))
  if (Result.isSuccess(body)) return yield* Effect.fromResult(grantedBy(grant, status, body.success, asked))
  if (body.failure !== "too long") return yield* unreachable(grant)
  const detail = `the answer is longer than ${maxAnswer} octets`
  return yield* model.failed(grant.username, detail, { status, temporary: false })
})

/**
 * Sends a grant. The span of the client would hold what the request holds, so there is none; the predicate that says so
 * sees each request on its way out, also one that a client which follows redirects would make: that one never leaves.
 */
export const ask = Effect.fnUntraced(function*(client: HttpClient.HttpClient, grant: Grant) {
  let isRedirected = false
  const withoutSpan = (request: HttpClientRequest.HttpClientRequest): boolean => {
    const url = Option.getOrUndefined(HttpClientRequest.toUrl(request))
    isRedirected ||= url === undefined || placeOf(url) !== placeOf(grant.url)
    if (isRedirected) throw new Error("the request was led elsewhere")
    return true
  }
  const asked = yield* Clock.currentTimeMillis
  const init = Context.getOrUndefined(yield* Effect.context<never>(), FetchHttpClient.RequestInit)
  return yield* HttpClient.withScope(client).execute(requestOf(grant)).pipe(
    // A client that fails on a status has the answer in its error.
    Effect.catch((error) =>
      error.response === undefined ? Effect.fail(unreachable(grant, error)) : Effect.succeed(error.response)
    ),
    Effect.provideService(FetchHttpClient.RequestInit, { ...init, redirect: "manual" }),
    Effect.provideService(HttpClient.TracerDisabledWhen, withoutSpan),
    Effect.flatMap((response) => judge(grant, response, asked)),
    Effect.catchDefect(() => Effect.fail(isRedirected ? redirected(grant) : unreachable(grant))),
    Effect.scoped,
    Effect.timeoutOrElse({
      duration: grant.timeout,
      orElse: () =>
        Effect.fail(
          model.failed(
            grant.username,
            `${grant.url.host} gave no answer within ${Duration.format(grant.timeout)}`,
            { temporary: true }
          )
        )
    })
  )
})
