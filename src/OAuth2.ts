/**
 * OAuth2 tokens for a login: by a refresh token, by the key of a service account, or from an Effect of your own.
 *
 * What it is: three ways to make the `token` of `Sasl.oauth2`. Each keeps its token until shortly before its end, has
 * one request in flight however many connections ask, and gets another token when the server refused the one that is
 * kept. What it is not: the flow in which a person consents (it starts from what that flow gave), and no store: see
 * `onRefresh`.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as cache from "./internal/oauth2/cache.ts"
import * as endpoint from "./internal/oauth2/endpoint.ts"
import * as jwt from "./internal/oauth2/jwt.ts"
import * as model from "./internal/oauth2/model.ts"
import { type ECONFIG, EOAUTH2 } from "./SmtpError.ts"
import { escapeText } from "./SmtpReply.ts"

/**
 * A `Sasl.Secret` that gives the token of now; it reads `Sasl.RefusedToken`.
 *
 * @category models
 * @since 0.1.0
 */
export type Provider = Effect.Effect<Redacted.Redacted<string>, EOAUTH2>

/**
 * What every provider can be told.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** How long before its end a token is no longer used. Default 1 minute. */
  readonly skew?: Duration.Input | undefined
}

/**
 * What the providers that speak to a token endpoint have in common.
 *
 * @category models
 * @since 0.1.0
 */
export interface EndpointOptions extends Options {
  /** The user of the mailbox; in `serviceAccount` the user to act for. Errors name it. */
  readonly username: string
  /** The token endpoint: https, without a fragment. It is asked itself: no redirect is followed. */
  readonly tokenUrl: string | URL
  /** Scopes, separated by spaces. */
  readonly scope?: string | undefined
  /** How long one request may take, its answer included. Default 30 seconds. */
  readonly timeout?: Duration.Input | undefined
  /** Allows http to localhost, 127.0.0.0/8 and ::1, for tests. Default false. */
  readonly allowInsecureLoopback?: boolean | undefined
}

/**
 * What {@link refreshing} needs.
 *
 * @category models
 * @since 0.1.0
 */
export interface RefreshingOptions extends EndpointOptions {
  readonly clientId: string
  /** Left out by public clients, which have none. */
  readonly clientSecret?: Redacted.Redacted<string> | undefined
  readonly refreshToken: Redacted.Redacted<string>
  /** A token to begin with; without `expires` it is used until the server refuses it. */
  readonly accessToken?: Redacted.Redacted<string> | undefined
  /** When `accessToken` ends: a `DateTime`, a `Date`, milliseconds since the epoch, or an ISO date. */
  readonly expires?: DateTime.DateTime.Input | undefined
  /** Told of each new token, before it is used: for a store, where the endpoint gives a new refresh token each time. */
  readonly onRefresh?: ((tokens: Tokens) => Effect.Effect<void>) | undefined
}

/**
 * What a refresh gave.
 *
 * @category models
 * @since 0.1.0
 */
export interface Tokens {
  readonly accessToken: Redacted.Redacted<string>
  /** The one to use from now on: new when the endpoint gave a new one. */
  readonly refreshToken: Redacted.Redacted<string>
  /** When the access token ends, if the endpoint said so. */
  readonly expires: DateTime.Utc | undefined
}

/**
 * What {@link serviceAccount} needs.
 *
 * @category models
 * @since 0.1.0
 */
export interface ServiceAccountOptions extends EndpointOptions {
  /** The account that signs: `client_email` of Google's key file. */
  readonly serviceClient: string
  /** Its RSA key, a PEM in PKCS#8: `private_key` of Google's key file. */
  readonly privateKey: Redacted.Redacted<string>
  /** The name of the key: `private_key_id` of Google's key file. */
  readonly privateKeyId?: string | undefined
}

/**
 * A token with its end, as the Effect of {@link fromEffect} may give it; without an end it is used until the server
 * refuses it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Token {
  readonly token: Redacted.Redacted<string>
  /** When it ends: a `DateTime`, a `Date`, milliseconds since the epoch, or an ISO date. */
  readonly expires?: DateTime.DateTime.Input | undefined
  /** Or how long it lives, from now. */
  readonly expiresIn?: Duration.Input | undefined
}

const duration = (field: string, given: Duration.Input, least: number): Result.Result<Duration.Duration, ECONFIG> => {
  const parsed = Duration.fromInput(given)
  return Option.isSome(parsed) && Duration.toMillis(parsed.value) >= least
    ? Result.succeed(parsed.value)
    : model.config(field, "expected a duration, such as \"30 seconds\"")
}

const skewOf = ({ skew = "1 minute" }: Options): Result.Result<number, ECONFIG> =>
  Result.map(duration("skew", skew, 0), Duration.toMillis)

const millisOf = (at: DateTime.DateTime.Input): number | undefined =>
  Option.getOrUndefined(Option.map(DateTime.make(at), DateTime.toEpochMillis))

/** Checks what the endpoint's providers have in common, and captures the client. */
const open = Effect.fnUntraced(function*(options: EndpointOptions) {
  const { allowInsecureLoopback, tokenUrl, username } = options
  yield* Effect.fromResult(model.text("username", username))
  const url = yield* Effect.fromResult(endpoint.parseUrl(tokenUrl, allowInsecureLoopback))
  const timeout = yield* Effect.fromResult(duration("timeout", options.timeout ?? "30 seconds", 1))
  const skewMillis = yield* Effect.fromResult(skewOf(options))
  const client = yield* HttpClient.HttpClient
  return {
    skewMillis,
    ask: (parameters: endpoint.Grant["parameters"]) => endpoint.ask(client, { url, username, timeout, parameters })
  }
})

const initialOf = (options: RefreshingOptions): Result.Result<model.Held | undefined, ECONFIG> => {
  const { accessToken: token, expires } = options
  if (token === undefined) return Result.succeed(undefined)
  const ends = expires === undefined ? Infinity : millisOf(expires)
  if (ends === undefined) return model.config("expires", "expected a date, such as milliseconds since the epoch")
  return Result.map(model.secret("accessToken", token), () => ({ token, ends }))
}

/**
 * The token of a user who gave consent once: refreshed by RFC 6749 section 6.
 *
 * **Details**
 *
 * The client is captured when this is built, and the requests run in the Scope given then: an asker that is interrupted
 * leaves its request to the others. A refresh token that the endpoint replaces is used from then on; `onRefresh` tells of
 * it. A failure is an `EOAUTH2` with `status`, `error` and `errorDescription`, bounded, escaped, and without what was
 * sent; it is temporary for 429, 5xx and a request that did not come through, and is not kept: the next login asks again.
 * An answer of more than 64 KiB is refused. No span and no log tells of the request.
 *
 * **Gotchas**
 *
 * Whoever owns the HTTP client owns its TLS: it must verify certificates. With `FetchHttpClient` the request is made with
 * the `RequestInit` of the place where this is built and `redirect: "manual"`: one that was given to the layer alone (a
 * dispatcher, say) has to be provided here too.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { Effect, Redacted } from "effect"
 * import { HttpClient, HttpClientResponse } from "effect/http"
 * import { OAuth2, Sasl } from "effect-smtp"
 *
 * // In production: Effect.provide(FetchHttpClient.layer)
 * const endpoint = HttpClient.make((request) =>
 *   Effect.succeed(HttpClientResponse.fromWeb(request, Response.json({ access_token: "t-1", expires_in: 3600 })))
 * )
 *
 * const program = Effect.gen(function*() {
 *   const token = yield* OAuth2.refreshing({
 *     username: "ann@example.test",
 *     clientId: "app",
 *     clientSecret: Redacted.make("secret"),
 *     refreshToken: Redacted.make("refresh"),
 *     tokenUrl: "https://login.example.test/token"
 *   })
 *   const credentials = Sasl.oauth2({ username: "ann@example.test", token })
 *   assert.strictEqual(credentials.token, token)
 *   assert.strictEqual(Redacted.value(yield* token), "t-1")
 * })
 * await Effect.runPromise(Effect.scoped(program).pipe(Effect.provideService(HttpClient.HttpClient, endpoint)))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const refreshing = Effect.fnUntraced(function*(
  options: RefreshingOptions
): Effect.fn.Return<Provider, ECONFIG, HttpClient.HttpClient | Scope.Scope> {
  const { clientId, clientSecret, onRefresh, scope } = options
  const { ask, skewMillis } = yield* open(options)
  yield* Effect.fromResult(model.text("clientId", clientId))
  yield* Effect.fromResult(model.secret("refreshToken", options.refreshToken))
  if (clientSecret !== undefined) yield* Effect.fromResult(model.secret("clientSecret", clientSecret))
  const initial = yield* Effect.fromResult(initialOf(options))
  let refreshToken = options.refreshToken
  const request = Effect.gen(function*() {
    const granted = yield* ask({
      grant_type: "refresh_token",
      client_id: clientId,
      client_secret: clientSecret,
      refresh_token: refreshToken,
      scope
    })
    refreshToken = granted.refreshToken ?? refreshToken
    if (onRefresh !== undefined) {
      const expires = granted.ends === Infinity ? undefined : DateTime.makeUnsafe(granted.ends)
      yield* onRefresh({ accessToken: granted.token, refreshToken, expires })
    }
    return granted
  })
  return yield* cache.make(request, { skewMillis, initial })
})

/** Longest life of an assertion that endpoints take, in seconds. */
const assertionLifetime = 3600

/**
 * The token of a service account that acts for a user: an assertion signed by RS256 (RFC 7523), as Google Workspace
 * takes it.
 *
 * **Details**
 *
 * The assertion says `iss` = `serviceClient`, `sub` = `username`, `aud` = `tokenUrl` as it is written, and `scope`, and
 * ends after an hour; each request has a new one. A key that cannot be read fails with `ECONFIG` when this is built; the
 * key is imported so that it cannot be read out again. The rest is as in {@link refreshing}.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { generateKeyPairSync } from "node:crypto"
 * import { Effect, Redacted } from "effect"
 * import { HttpClient, HttpClientResponse } from "effect/http"
 * import { OAuth2 } from "effect-smtp"
 *
 * const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 })
 * const endpoint = HttpClient.make((request) =>
 *   Effect.succeed(HttpClientResponse.fromWeb(request, Response.json({ access_token: "t-1", expires_in: 3600 })))
 * )
 *
 * const program = Effect.gen(function*() {
 *   const token = yield* OAuth2.serviceAccount({
 *     username: "ann@example.test",
 *     serviceClient: "mailer@project.iam.gserviceaccount.com",
 *     privateKey: Redacted.make(privateKey.export({ type: "pkcs8", format: "pem" }).toString()),
 *     tokenUrl: "https://oauth2.example.test/token",
 *     scope: "https://mail.google.com/"
 *   })
 *   assert.strictEqual(Redacted.value(yield* token), "t-1")
 * })
 * await Effect.runPromise(Effect.scoped(program).pipe(Effect.provideService(HttpClient.HttpClient, endpoint)))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const serviceAccount = Effect.fnUntraced(function*(
  options: ServiceAccountOptions
): Effect.fn.Return<Provider, ECONFIG, HttpClient.HttpClient | Scope.Scope> {
  const { privateKey, privateKeyId, scope, serviceClient, tokenUrl, username } = options
  const { ask, skewMillis } = yield* open(options)
  yield* Effect.fromResult(model.text("serviceClient", serviceClient))
  yield* Effect.fromResult(model.secret("privateKey", privateKey))
  const key = yield* jwt.importKey(privateKey)
  const request = Effect.gen(function*() {
    const iat = Math.floor((yield* Clock.currentTimeMillis) / 1000)
    const claims = {
      iss: serviceClient,
      sub: username,
      aud: String(tokenUrl),
      scope,
      iat,
      exp: iat + assertionLifetime
    }
    const assertion = yield* jwt.sign(key, privateKeyId, claims)
    return yield* ask({ grant_type: "urn:ietf:params:oauth:grant-type:jwt-bearer", assertion })
  })
  return yield* cache.make(request, { skewMillis })
})

/** An error of somebody else's may hold the request: its name is all that is kept. */
const foreign = (error: unknown): EOAUTH2 => {
  if (error instanceof EOAUTH2) return error
  const named = error as { readonly _tag?: unknown; readonly name?: unknown } | null | undefined
  const name = [named?._tag, named?.name].find((one) => typeof one === "string")
  return model.failed(undefined, `the token provider failed${name === undefined ? "" : ` (${escapeText(name, 100)})`}`)
}

const heldOf = (given: Redacted.Redacted<string> | Token, now: number): Result.Result<model.Held, EOAUTH2> => {
  if (Redacted.isRedacted(given)) return Result.succeed({ token: given, ends: Infinity })
  if (!Redacted.isRedacted(given.token)) {
    return Result.fail(model.failed(undefined, "the token provider gave no Redacted"))
  }
  const lives = given.expiresIn === undefined ? Infinity : Duration.toMillis(given.expiresIn)
  const ends = given.expires === undefined ? now + lives : millisOf(given.expires)
  return ends === undefined
    ? Result.fail(model.failed(undefined, "the expires of the token provider is no date"))
    : Result.succeed({ token: given.token, ends })
}

/**
 * The token that an Effect gives, kept until shortly before its end: for the SDK of a cloud, or a broker of your own.
 *
 * **Details**
 *
 * The Effect runs when a token is needed and none is kept that is good: at first, after its end, and once more after the
 * server refused it. However many ask, it runs once; whoever is interrupted leaves it to the others. Its requirements are
 * captured when this is built. An error that is no `EOAUTH2` becomes one, of which only the name is kept: it may hold the
 * request.
 *
 * **Gotchas**
 *
 * It has no deadline but its own.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { Effect, Redacted } from "effect"
 * import { OAuth2, Sasl } from "effect-smtp"
 *
 * let asked = 0
 * const broker = Effect.sync(() => ({ token: Redacted.make(`t-${++asked}`), expiresIn: "1 hour" as const }))
 *
 * const program = Effect.gen(function*() {
 *   const token = yield* OAuth2.fromEffect(broker)
 *   const [first, second] = yield* Effect.all([token, token], { concurrency: 2 })
 *   assert.strictEqual(Redacted.value(first), "t-1")
 *   assert.strictEqual(Redacted.value(second), "t-1")
 *   const another = yield* Effect.provideService(token, Sasl.RefusedToken, first)
 *   assert.strictEqual(Redacted.value(another), "t-2")
 * })
 * await Effect.runPromise(Effect.scoped(program))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromEffect = Effect.fnUntraced(function*<E, R>(
  effect: Effect.Effect<Redacted.Redacted<string> | Token, E, R>,
  options: Options = {}
): Effect.fn.Return<Provider, ECONFIG, R | Scope.Scope> {
  const skewMillis = yield* Effect.fromResult(skewOf(options))
  const request = Effect.gen(function*() {
    const given = yield* Effect.mapError(effect, foreign)
    return yield* Effect.fromResult(heldOf(given, yield* Clock.currentTimeMillis))
  })
  return yield* cache.make(request, { skewMillis })
})
