import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientError from "effect/http/HttpClientError"
import type * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as References from "effect/References"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import * as Tracer from "effect/Tracer"
import { createPublicKey, generateKeyPairSync, verify } from "node:crypto"
import { createServer, type IncomingMessage } from "node:http"
import type { AddressInfo } from "node:net"
import { inspect } from "node:util"
import * as OAuth2 from "../src/OAuth2.ts"
import * as Sasl from "../src/Sasl.ts"
import * as SmtpConnection from "../src/SmtpConnection.ts"
import { type ECONFIG, EOAUTH2 } from "../src/SmtpError.ts"
import { SmtpServer } from "../src/testing/index.ts"
import { assertHidden } from "./support/secrets.ts"

const tokenUrl = "https://login.test/token?tenant=a+b"
const options: OAuth2.RefreshingOptions = {
  username: "bob@mx.test",
  clientId: "app",
  clientSecret: Redacted.make("canary-secret"),
  refreshToken: Redacted.make("canary/refresh+1"),
  tokenUrl
}

type Respond = (
  request: HttpClientRequest.HttpClientRequest,
  n: number
) => Response | Effect.Effect<Response, HttpClientError.HttpClientError>

/** An endpoint in memory that remembers the requests it got. */
const endpoint = (respond: Respond) => {
  const requests: Array<HttpClientRequest.HttpClientRequest> = []
  const client = HttpClient.make((request) => {
    const answer = respond(request, requests.push(request))
    return Effect.map(
      Effect.isEffect(answer) ? answer : Effect.succeed(answer),
      (response) => HttpClientResponse.fromWeb(request, response)
    )
  })
  return { client, requests }
}

const grant = (n: number, more: Readonly<Record<string, unknown>> = {}): Response =>
  Response.json({ access_token: `t-${n}`, token_type: "Bearer", expires_in: 3600, ...more })
const granting = () => endpoint((_, n) => grant(n))

const provide = (client: HttpClient.HttpClient) => Effect.provideService(HttpClient.HttpClient, client)
const refreshing = (client: HttpClient.HttpClient, more: Partial<OAuth2.RefreshingOptions> = {}) =>
  OAuth2.refreshing({ ...options, ...more }).pipe(provide(client))
/** What a provider over this endpoint fails with. */
const failure = (respond: Respond) =>
  Effect.flatMap(refreshing(endpoint(respond).client), (token) => Effect.flip(token))

/** What building a provider is refused with. */
const refusal = <E, R>(build: Effect.Effect<OAuth2.Provider, E, R>) => Effect.flip(Effect.asVoid(build))

const read = (token: OAuth2.Provider) => Effect.map(token, Redacted.value)
const refused = (token: string) => Effect.provideService(Sasl.RefusedToken, Redacted.make(token))

const formOf = (request: HttpClientRequest.HttpClientRequest | undefined): Readonly<Record<string, string>> => {
  assert(request?.body._tag === "Uint8Array")
  assert.strictEqual(request.body.contentType.split(";")[0], "application/x-www-form-urlencoded")
  return Object.fromEntries(new URLSearchParams(new TextDecoder().decode(request.body.body)))
}

const redirection = (status: number, location: string) => new Response(null, { status, headers: { location } })
const transportError = (request: HttpClientRequest.HttpClientRequest, cause: unknown) =>
  Effect.fail(
    new HttpClientError.HttpClientError({ reason: new HttpClientError.TransportError({ request, cause }) })
  )

describe("refreshing", () => {
  it.effect("asks the endpoint by RFC 6749 section 6, when the token is first needed", () =>
    Effect.gen(function*() {
      const { client, requests } = granting()
      const token = yield* refreshing(client, { scope: "https://mail.test/ offline" })
      assert.strictEqual(requests.length, 0)
      assert.strictEqual(yield* read(token), "t-1")
      const [request] = requests
      assert.strictEqual(request?.method, "POST")
      assert.strictEqual(request?.url, "https://login.test/token")
      assert.deepStrictEqual(request?.urlParams.params, [["tenant", "a b"]])
      assert.strictEqual(request?.headers["accept"], "application/json")
      assert.deepStrictEqual(formOf(request), {
        grant_type: "refresh_token",
        client_id: "app",
        client_secret: "canary-secret",
        refresh_token: "canary/refresh+1",
        scope: "https://mail.test/ offline"
      })
    }))

  it.effect("of a public client sends no secret", () =>
    Effect.gen(function*() {
      const { client, requests } = granting()
      yield* yield* refreshing(client, { clientSecret: undefined })
      assert.deepStrictEqual(Object.keys(formOf(requests[0])), ["grant_type", "client_id", "refresh_token"])
    }))

  it.effect("keeps the token until the skew before its end", () =>
    Effect.gen(function*() {
      const { client } = granting()
      const token = yield* refreshing(client)
      const patient = yield* refreshing(granting().client, { skew: "10 minutes" })
      const seen: Array<ReadonlyArray<string>> = []
      const look = Effect.gen(function*() {
        seen.push([yield* read(token), yield* read(patient)])
      })
      yield* look
      yield* TestClock.adjust("50 minutes")
      yield* look
      yield* TestClock.adjust(9 * 60_000 - 1)
      yield* look
      yield* TestClock.adjust(1)
      yield* look
      assert.deepStrictEqual(seen, [["t-1", "t-1"], ["t-1", "t-2"], ["t-1", "t-2"], ["t-2", "t-2"]])
    }))

  it.effect("counts the life of a token from the request, not from the answer", () =>
    Effect.gen(function*() {
      const { client, requests } = endpoint((_, n) => Effect.as(Effect.sleep("20 seconds"), grant(n)))
      const token = yield* refreshing(client, { skew: 0 })
      const first = yield* Effect.forkChild(token)
      yield* TestClock.adjust("20 seconds")
      yield* Fiber.join(first)
      yield* TestClock.adjust(3_600_000 - 20_000 - 1)
      assert.strictEqual(yield* read(token), "t-1")
      yield* TestClock.adjust(1)
      yield* Effect.forkChild(token, { startImmediately: true })
      yield* Effect.yieldNow
      assert.strictEqual(requests.length, 2)
    }))

  const lives: ReadonlyArray<readonly [unknown, seconds: number]> = [
    [120, 120],
    ["120", 120],
    [0, 0],
    [1e12, 31_536_000],
    [undefined, Infinity],
    [-1, Infinity],
    ["soon", Infinity],
    [null, Infinity]
  ]
  for (const [expires_in, seconds] of lives) {
    it.effect(`takes expires_in ${JSON.stringify(expires_in)} as ${seconds} seconds`, () =>
      Effect.gen(function*() {
        const { client } = endpoint((_, n) => grant(n, { expires_in }))
        const token = yield* refreshing(client, { skew: 0 })
        assert.strictEqual(yield* read(token), "t-1")
        yield* TestClock.adjust(Number.isFinite(seconds) ? Math.max(seconds * 1000 - 1, 0) : "1000 days")
        assert.strictEqual(yield* read(token), seconds === 0 ? "t-2" : "t-1")
        if (seconds === 0 || seconds === Infinity) return
        yield* TestClock.adjust(1)
        assert.strictEqual(yield* read(token), "t-2")
      }))
  }

  it.effect("begins with the accessToken that is given, until it expires", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(1_000_000_000_000)
      const at = 1_000_000_120_000
      const accessToken = Redacted.make("given")
      for (const expires of [at, new Date(at), DateTime.makeUnsafe(at), new Date(at).toISOString()]) {
        yield* TestClock.setTime(1_000_000_000_000)
        const token = yield* refreshing(granting().client, { accessToken, expires })
        assert.strictEqual(yield* read(token), "given")
        yield* TestClock.setTime(at - 60_000)
        assert.strictEqual(yield* read(token), "t-1")
      }
      const endless = yield* refreshing(granting().client, { accessToken })
      yield* TestClock.adjust("1000 days")
      assert.strictEqual(yield* read(endless), "given")
    }))

  it.effect("uses the refresh token that the endpoint gives, and tells of it", () =>
    Effect.gen(function*() {
      const { client, requests } = endpoint((_, n) =>
        grant(n, n === 1 ? { refresh_token: "rotated" } : { expires_in: null })
      )
      const told: Array<unknown> = []
      const onRefresh = ({ accessToken, expires, refreshToken }: OAuth2.Tokens) =>
        Effect.sync(() => {
          told.push([
            Redacted.value(accessToken),
            Redacted.value(refreshToken),
            expires && DateTime.toEpochMillis(expires)
          ])
        })
      const token = yield* refreshing(client, { onRefresh })
      yield* token
      yield* TestClock.adjust("1 hour")
      yield* token
      assert.deepStrictEqual(requests.map((request) => formOf(request)["refresh_token"]), [
        "canary/refresh+1",
        "rotated"
      ])
      assert.deepStrictEqual(told, [["t-1", "rotated", 3_600_000], ["t-2", "rotated", undefined]])
    }))

  it.effect("does not keep a failure", () =>
    Effect.gen(function*() {
      const { client } = endpoint((_, n) => n === 1 ? new Response("busy", { status: 503 }) : grant(n))
      const token = yield* refreshing(client)
      assert.isTrue((yield* Effect.flip(token)).isTemporary)
      assert.strictEqual(yield* read(token), "t-2")
    }))
})

describe("one request in flight", () => {
  const slow = () => {
    const gate = Deferred.makeUnsafe<void>()
    return { gate, ...endpoint((_, n) => Effect.as(Deferred.await(gate), grant(n))) }
  }
  const ask = (token: OAuth2.Provider) => Effect.forkChild(read(token), { startImmediately: true })

  it.effect("serves however many ask", () =>
    Effect.gen(function*() {
      const { client, gate, requests } = slow()
      const token = yield* refreshing(client)
      const fibers = yield* Effect.forEach(Array.from({ length: 50 }), () => ask(token))
      yield* Deferred.succeed(gate, undefined)
      assert.deepStrictEqual([...new Set(yield* Fiber.joinAll(fibers))], ["t-1"])
      assert.strictEqual(requests.length, 1)
    }))

  it.effect("survives the one who began it, and even all who wait", () =>
    Effect.gen(function*() {
      const { client, gate, requests } = slow()
      const token = yield* refreshing(client)
      const [first, second] = [yield* ask(token), yield* ask(token)]
      yield* Fiber.interrupt(first)
      assert.isUndefined(second.pollUnsafe())
      yield* Fiber.interrupt(second)
      yield* Deferred.succeed(gate, undefined)
      assert.strictEqual(yield* read(token), "t-1")
      assert.strictEqual(requests.length, 1)
    }))

  it.effect("fails all alike, and the next who asks begins anew", () =>
    Effect.gen(function*() {
      const { client, requests } = endpoint((_, n) =>
        n === 1 ? Effect.as(Effect.yieldNow, new Response("", { status: 500 })) : grant(n)
      )
      const token = yield* refreshing(client)
      const both = yield* Effect.all([Effect.flip(token), Effect.flip(token)], { concurrency: 2 })
      assert.deepStrictEqual(both.map((error) => error.status), [500, 500])
      assert.strictEqual(requests.length, 1)
      assert.strictEqual(yield* read(token), "t-2")
    }))

  it.effect("ends with the scope, and who asks then or waits is told", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { client, requests } = slow()
      const token = yield* refreshing(client).pipe(Scope.provide(scope))
      const waiting = yield* ask(token)
      yield* Scope.close(scope, Exit.void)
      for (const error of [yield* Effect.flip(Fiber.join(waiting)), yield* Effect.flip(token)]) {
        assert.strictEqual(error._tag, "EOAUTH2")
        assert.include(error.message, "keep the scope of the provider open")
      }
      assert.strictEqual(requests.length, 1)
    }))

  it.effect("is made for a refused token, and only for the one that is kept", () =>
    Effect.gen(function*() {
      const { client, requests } = granting()
      const token = yield* refreshing(client)
      assert.strictEqual(yield* read(token), "t-1")
      assert.deepStrictEqual(
        yield* Effect.all(Array.from({ length: 9 }, () => read(token).pipe(refused("t-1"))), { concurrency: 9 }),
        Array.from({ length: 9 }, () => "t-2")
      )
      // One that used the old token for longer finds the new one there.
      assert.strictEqual(yield* read(token).pipe(refused("t-1")), "t-2")
      assert.strictEqual(requests.length, 2)
    }))
})

describe("a failure of the endpoint", () => {
  const table: ReadonlyArray<readonly [name: string, Response, facts: ReadonlyArray<unknown>, says: string]> = [
    [
      "a refusal",
      Response.json({ error: "invalid_grant", error_description: "expired" }, { status: 400 }),
      [400, "invalid_grant", "expired", false],
      "no OAuth2 token for bob@mx.test: the token endpoint answered 400: invalid_grant (expired)"
    ],
    [
      "a refusal without a reason",
      Response.json({ error: "invalid_client", error_description: "" }, { status: 401 }),
      [401, "invalid_client", undefined, false],
      "answered 401: invalid_client"
    ],
    ["a page", new Response("<html>", { status: 403 }), [403, undefined, undefined, false], "answered 403"],
    ["no body", new Response(null, { status: 404 }), [404, undefined, undefined, false], "answered 404"],
    [
      "an error that is no text",
      Response.json({ error: { code: 1 } }, { status: 400 }),
      [400, undefined, undefined, false],
      "answered 400"
    ],
    ["too many requests", new Response("[]", { status: 429 }), [429, undefined, undefined, true], "answered 429"],
    [
      "a server in trouble",
      Response.json({ error: "oops" }, { status: 503 }),
      [503, "oops", undefined, true],
      "answered 503: oops"
    ],
    ["no JSON", new Response("ok"), [200, undefined, undefined, false], "no access_token"],
    ["JSON null", Response.json(null), [200, undefined, undefined, false], "no access_token"],
    ["an empty token", grant(1, { access_token: "" }), [200, undefined, undefined, false], "no access_token"],
    ["a token of another type", grant(1, { token_type: "mac" }), [200, undefined, undefined, false], "no bearer token"],
    [
      "a body that breaks off",
      new Response(
        new ReadableStream({ start: (controller) => controller.error(new Error("reset")) })
      ),
      [undefined, undefined, undefined, true],
      "the request to login.test failed"
    ]
  ]
  for (const [name, response, facts, says] of table) {
    it.effect(`is EOAUTH2: ${name}`, () =>
      Effect.gen(function*() {
        const error = yield* failure(() => response)
        assert.deepStrictEqual([error.status, error.error, error.errorDescription, error.isTemporary], facts)
        assert.include(error.message, says)
        assert.strictEqual(error.command, "AUTH")
        assert.isUndefined(error.cause)
      }))
  }

  it.effect("takes a token without a type, or with its name in other letters", () =>
    Effect.gen(function*() {
      for (const token_type of [undefined, "bearer", "BEARER"]) {
        const { client } = endpoint((_, n) => grant(n, { token_type }))
        assert.strictEqual(yield* read(yield* refreshing(client)), "t-1")
      }
    }))

  it.effect("of the transport is temporary, and tells the code of the system alone", () =>
    Effect.gen(function*() {
      const beneath = Object.assign(new Error("canary-secret"), { code: "ECONNREFUSED" })
      const error = yield* failure((request) =>
        transportError(request, new TypeError("fetch failed", { cause: beneath }))
      )
      assert.strictEqual(
        error.message,
        "no OAuth2 token for bob@mx.test: the request to login.test failed (ECONNREFUSED)"
      )
      assert.isTrue(error.isTemporary)
      const odd = yield* failure((request) => transportError(request, { code: "canary secret\n" }))
      assert.match(odd.message, /failed$/)
      assert.match((yield* failure(() => Effect.die(new Error("canary-secret")))).message, /failed$/)
    }))

  it.effect("is read from the error of a client that fails on a status", () =>
    Effect.gen(function*() {
      const { client } = endpoint(() => Response.json({ error: "invalid_grant" }, { status: 400 }))
      const error = yield* Effect.flip(yield* refreshing(HttpClient.filterStatusOk(client)))
      assert.deepStrictEqual([error.status, error.error], [400, "invalid_grant"])
    }))

  it.effect("shows what the endpoint says bounded and escaped", () =>
    Effect.gen(function*() {
      const body = { error: "\u001b[2J".padEnd(5000, "e"), error_description: "\u202e".padEnd(50_000, "d") }
      const error = yield* failure(() => Response.json(body, { status: 400 }))
      assert.strictEqual(error.error, "\\u{1b}[2J".padEnd(100 + 5, "e"))
      assert.strictEqual(error.errorDescription, "\\u{202e}".padEnd(400 + 7, "d"))
      assert.isBelow(error.message.length, 700)
    }))

  it.effect("does not read an answer of more than 64 KiB", () =>
    Effect.gen(function*() {
      const text = JSON.stringify({ access_token: "t-1" })
      const { client } = endpoint(() => new Response(text.padEnd(65_536)))
      assert.strictEqual(yield* read(yield* refreshing(client)), "t-1")
      const over = yield* failure(() => new Response(text.padEnd(65_537)))
      assert.deepStrictEqual([over.status, over.isTemporary], [200, false])
      assert.include(over.message, "longer than 65536 octets")
      let pulled = 0
      const endless = () =>
        new ReadableStream<Uint8Array>({
          pull: (controller) => {
            pulled++
            controller.enqueue(new Uint8Array(1024).fill(32))
          }
        })
      assert.include((yield* failure(() => new Response(endless()))).message, "longer than")
      assert.strictEqual((yield* failure(() => new Response(endless(), { status: 400 }))).status, 400)
      assert.isBelow(pulled, 200)
    }))

  it.effect("is ETIMEDOUT in all but name when no answer comes in time", () =>
    Effect.gen(function*() {
      const half = () => new ReadableStream({ start: (controller) => controller.enqueue(new Uint8Array([0x7b])) })
      for (const respond of [() => Effect.never, () => new Response(half())]) {
        const token = yield* refreshing(endpoint(respond).client, { timeout: "10 seconds" })
        const fiber = yield* Effect.forkChild(Effect.flip(token))
        yield* TestClock.adjust(9_999)
        assert.isUndefined(fiber.pollUnsafe())
        yield* TestClock.adjust(1)
        const error = yield* Fiber.join(fiber)
        assert.isTrue(error.isTemporary)
        assert.include(error.message, "login.test gave no answer within 10s")
      }
    }))
})

describe("the token endpoint (S18)", () => {
  const places: ReadonlyArray<readonly [url: string | URL, allowInsecureLoopback: boolean, says: string | undefined]> =
    [
      ["https://login.test/token", false, undefined],
      [new URL("https://login.test/token"), false, undefined],
      ["http://localhost:8080/token", true, undefined],
      ["http://127.0.0.1/token", true, undefined],
      ["http://127.8.9.1/token", true, undefined],
      ["http://[::1]:80/token", true, undefined],
      ["http://127.0.0.1/token", false, "set allowInsecureLoopback"],
      ["http://login.test/token", true, "https alone"],
      ["http://127.0.0.1.login.test/token", true, "https alone"],
      ["http://localhost.login.test/token", true, "https alone"],
      ["ftp://localhost/token", true, "https alone"],
      ["/token", true, "no absolute URL"],
      ["https://canary-secret@login.test/token", false, "remove them"],
      ["https://login.test/token#here", false, "remove them"]
    ]
  for (const [url, allowInsecureLoopback, says] of places) {
    it.effect(`${url}${allowInsecureLoopback ? " with loopback allowed" : ""} is ${says ?? "taken"}`, () =>
      Effect.gen(function*() {
        const { client, requests } = granting()
        const build = refreshing(client, { tokenUrl: url, allowInsecureLoopback })
        if (says === undefined) return assert.strictEqual(yield* read(yield* build), "t-1")
        const error = yield* refusal(build)
        assert.deepStrictEqual([error._tag, error.field, requests.length], ["ECONFIG", "tokenUrl", 0])
        assert.include(error.message, says)
        assertHidden(error.message, "canary")
      }))
  }

  const isRedirect = (error: EOAUTH2, status?: number) => {
    assert.include(error.message, "no redirect is followed")
    assert.deepStrictEqual([error._tag, error.isTemporary, error.status], ["EOAUTH2", false, status])
  }

  for (const status of [301, 302, 303, 307, 308]) {
    it.effect(`that answers ${status} is refused, and a client that follows redirects sends nothing there`, () =>
      Effect.gen(function*() {
        const { client, requests } = endpoint((_, n) =>
          n > 1 ? grant(n) : redirection(status, "https://evil.test/token")
        )
        isRedirect(yield* Effect.flip(yield* refreshing(client)), status)
        const led = endpoint((_, n) => n > 1 ? grant(n) : redirection(status, "https://evil.test/token"))
        isRedirect(yield* Effect.flip(yield* refreshing(HttpClient.followRedirects(led.client, 3))))
        assert.deepStrictEqual([requests.length, led.requests.length], [1, 1])
      }))
  }

  it.effect("is the one that answered: an answer from another place is refused", () =>
    Effect.gen(function*() {
      const from = (url: string) => Object.defineProperty(grant(1), "url", { value: url })
      for (const url of ["https://evil.test/token", "https://login.test/token/x", "http://login.test/token"]) {
        isRedirect(yield* failure(() => from(url)), 200)
      }
      const { client } = endpoint(() => from(tokenUrl))
      assert.strictEqual(yield* read(yield* refreshing(client)), "t-1")
      isRedirect(yield* failure(() => Object.defineProperty(grant(1), "status", { value: 0 })), 0)
    }))

  interface Seen {
    readonly path: string | undefined
    readonly body: string
    readonly headers: IncomingMessage["headers"]
  }

  /** A real endpoint on loopback: /token gives one, any other path leads there by 307. */
  const loopback = Effect.acquireRelease(
    Effect.callback<{ readonly port: number; readonly seen: ReadonlyArray<Seen>; readonly close: () => void }>(
      (resume) => {
        const seen: Array<Seen> = []
        const server = createServer((request, response) => {
          let body = ""
          request.on("data", (part) => body += String(part)).on("end", () => {
            seen.push({ path: request.url, body, headers: request.headers })
            response.statusCode = request.url === "/token" ? 200 : 307
            response.setHeader("location", "/token")
            response.end(JSON.stringify({ access_token: "t-1", expires_in: 60 }))
          })
        })
        server.listen(0, "127.0.0.1", () => {
          const { port } = server.address() as AddressInfo
          const close = () => server.close().closeAllConnections()
          resume(Effect.succeed({ port, seen, close }))
        })
      }
    ),
    ({ close }) => Effect.sync(close)
  )

  const clients = {
    "fetch": FetchHttpClient.layer,
    "undici": NodeHttpClient.layerUndici,
    "node:http": NodeHttpClient.layerNodeHttp
  }
  for (const [name, layer] of Object.entries(clients)) {
    it.live(`is asked by ${name} over a real connection, and no redirect is followed`, () =>
      Effect.gen(function*() {
        const { port, seen } = yield* loopback
        const at = (path: string) => ({
          ...options,
          allowInsecureLoopback: true,
          tokenUrl: `http://127.0.0.1:${port}${path}`
        })
        const token = yield* OAuth2.refreshing(at("/token"))
        assert.strictEqual(yield* read(token), "t-1")
        assert.strictEqual(new URLSearchParams(seen[0]?.body).get("refresh_token"), "canary/refresh+1")
        assert.notProperty(seen[0]?.headers ?? {}, "traceparent")
        isRedirect(yield* Effect.flip(yield* OAuth2.refreshing(at("/elsewhere"))), 307)
        assert.deepStrictEqual(seen.map(({ path }) => path), ["/token", "/elsewhere"])
      }).pipe(Effect.withSpan("caller"), Effect.provide(layer)))
  }

  it.live("is asked with the caller's own RequestInit", () =>
    Effect.gen(function*() {
      const { port, seen } = yield* loopback
      const at = { ...options, allowInsecureLoopback: true, tokenUrl: `http://127.0.0.1:${port}/elsewhere` }
      const build = OAuth2.refreshing(at).pipe(
        Effect.provideService(FetchHttpClient.RequestInit, { redirect: "follow", headers: { "x-mine": "yes" } })
      )
      isRedirect(yield* Effect.flip(yield* build), 307)
      assert.deepStrictEqual(seen.map(({ headers, path }) => [path, headers["x-mine"]]), [["/elsewhere", "yes"]])
    }).pipe(Effect.provide(FetchHttpClient.layer)))
})

describe("options", () => {
  const plain = "canary-plain" as unknown as Redacted.Redacted<string>
  const table: ReadonlyArray<readonly [field: string, Partial<OAuth2.RefreshingOptions>]> = [
    ["username", { username: "" }],
    ["clientId", { clientId: "" }],
    ["refreshToken", { refreshToken: plain }],
    ["refreshToken", { refreshToken: Redacted.make("") }],
    ["clientSecret", { clientSecret: plain }],
    ["accessToken", { accessToken: plain }],
    ["expires", { accessToken: Redacted.make("t"), expires: "soon" }],
    ["skew", { skew: "a while" as "1 second" }],
    ["skew", { skew: -1 }],
    ["timeout", { timeout: 0 }]
  ]
  for (const [field, wrong] of table) {
    it.effect(`that are wrong are ECONFIG that names ${field}: ${inspect(wrong)}`, () =>
      Effect.gen(function*() {
        const error = yield* refusal(refreshing(granting().client, wrong))
        assert.deepStrictEqual([error._tag, error.field, error.attempted], ["ECONFIG", field, false])
        assert.match(error.message, new RegExp(`^${field}: expected `))
        assertHidden(inspect(error, { depth: 9 }), "canary")
      }))
  }
})

describe("secrets (S17)", () => {
  const canaries = ["canary-secret", "canary/refresh+1", "canary-access", "canary-description"]
  const isClean = (shown: string) => assertHidden(shown, ...canaries)
  const everything = (value: unknown) =>
    `${String(value)}\n${JSON.stringify(value)}\n${inspect(value, { depth: 20, showHidden: true })}`

  it.effect("that the endpoint repeats, plain or as they were sent, are not in the error", () =>
    Effect.gen(function*() {
      const error = yield* failure((request) => {
        const body = new URLSearchParams(formOf(request)).toString()
        const error_description = `no canary-secret for canary/refresh+1 in ${body}`
        return Response.json({ error: "canary-secret", error_description, request: body }, { status: 400 })
      })
      isClean(everything(error))
      assert.strictEqual(error.error, "***")
      assert.include(error.errorDescription, "no *** for *** in grant_type=refresh_token")
    }))

  it.effect("are in no error, whatever the client fails with", () =>
    Effect.gen(function*() {
      const causes: ReadonlyArray<Respond> = [
        (request) => transportError(request, new Error(`canary-secret ${JSON.stringify(formOf(request))}`)),
        (request) => Effect.die(request),
        () => grant(1, { access_token: ["canary-access"] }),
        () => grant(1, { token_type: "canary-access" })
      ]
      for (const respond of causes) {
        const exit = yield* Effect.exit(yield* refreshing(endpoint(respond).client))
        isClean(everything(exit))
      }
    }))

  it.effect("are in no span and no log line; the endpoint learns no trace", () =>
    Effect.gen(function*() {
      const spans: Array<string> = []
      const lines: Array<unknown> = []
      const tracer = Tracer.make({
        span: (span) => {
          spans.push(span.name)
          return new Tracer.NativeSpan(span)
        }
      })
      const logger = Logger.make((entry) => void lines.push(entry))
      const { client, requests } = endpoint(() => grant(1, { access_token: "canary-access" }))
      yield* Effect.gen(function*() {
        const token = yield* refreshing(client)
        yield* token
        isClean(everything([token, yield* token]))
      }).pipe(
        Effect.withSpan("caller"),
        Effect.withTracer(tracer),
        Effect.provide(Logger.layer([logger])),
        Effect.provideService(References.MinimumLogLevel, "All")
      )
      assert.deepStrictEqual([spans, lines], [["caller"], []])
      assert.notProperty(requests[0]?.headers ?? {}, "traceparent")
      assert.notProperty(requests[0]?.headers ?? {}, "b3")
    }))
})

describe("serviceAccount", () => {
  const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 })
  const pem = rsa.privateKey.export({ type: "pkcs8", format: "pem" }).toString()
  const account: OAuth2.ServiceAccountOptions = {
    username: "bob@mx.test",
    serviceClient: "mailer@project.test",
    privateKey: Redacted.make(pem),
    tokenUrl: "https://login.test",
    scope: "https://mail.test/"
  }
  const decode = (part: string | undefined) => JSON.parse(Buffer.from(part ?? "", "base64url").toString()) as unknown

  it.effect("asks by RFC 7523 with an assertion that the account signed, a new one each time", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(1_700_000_000_900)
      const { client, requests } = granting()
      const token = yield* OAuth2.serviceAccount({ ...account, privateKeyId: "k-1" }).pipe(provide(client))
      assert.strictEqual(yield* read(token), "t-1")
      assert.strictEqual(yield* read(token), "t-1")
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(yield* read(token), "t-2")
      for (const [i, iat] of [1_700_000_000, 1_700_003_600].entries()) {
        const { assertion, ...others } = formOf(requests[i])
        assert.deepStrictEqual(others, { grant_type: "urn:ietf:params:oauth:grant-type:jwt-bearer" })
        const [header, claims, signature = ""] = (assertion ?? "").split(".")
        assert.deepStrictEqual(decode(header), { alg: "RS256", typ: "JWT", kid: "k-1" })
        assert.deepStrictEqual(decode(claims), {
          iss: "mailer@project.test",
          sub: "bob@mx.test",
          aud: "https://login.test",
          scope: "https://mail.test/",
          iat,
          exp: iat + 3600
        })
        const signed = Buffer.from(`${header}.${claims}`)
        assert.isTrue(
          verify(
            "RSA-SHA256",
            signed,
            createPublicKey(rsa.publicKey.export({ type: "spki", format: "pem" })),
            Buffer.from(signature, "base64url")
          )
        )
      }
    }))

  it.effect("does not repeat the assertion that the endpoint repeats", () =>
    Effect.gen(function*() {
      const { client, requests } = endpoint((request) =>
        Response.json({ error: "bad", error_description: formOf(request)["assertion"] }, { status: 400 })
      )
      const error = yield* Effect.flip(yield* OAuth2.serviceAccount(account).pipe(provide(client)))
      assert.strictEqual(error.errorDescription, "***")
      assert.deepStrictEqual(decode(formOf(requests[0])["assertion"]?.split(".")[0]), { alg: "RS256", typ: "JWT" })
    }))

  const ec = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey
  const keys: ReadonlyArray<readonly [name: string, string]> = [
    ["PKCS#1", rsa.privateKey.export({ type: "pkcs1", format: "pem" }).toString()],
    ["no RSA key", ec.export({ type: "pkcs8", format: "pem" }).toString()],
    ["line ends written as \\n", pem.replaceAll("\n", "\\n")],
    ["no key", "canary-key"],
    ["cut short", pem.slice(0, 400) + "\n-----END PRIVATE KEY-----\n"],
    ["no base64", "-----BEGIN PRIVATE KEY-----\nabc=d\n-----END PRIVATE KEY-----"]
  ]
  for (const [name, key] of keys) {
    it.effect(`refuses a key that is ${name}`, () =>
      Effect.gen(function*() {
        const build = OAuth2.serviceAccount({ ...account, privateKey: Redacted.make(key) })
        const error: ECONFIG = yield* refusal(build.pipe(provide(granting().client)))
        assert.deepStrictEqual([error._tag, error.field], ["ECONFIG", "privateKey"])
        assert.include(error.message, "openssl pkcs8 -topk8")
        const shown = inspect(error, { depth: 9 })
        for (const line of key.split("\n").filter((line) => !line.startsWith("--") && line !== "")) {
          assert.notInclude(shown, line)
        }
      }))
  }

  it.effect("refuses an account without a name and a key that is not redacted", () =>
    Effect.gen(function*() {
      const wrong = { serviceClient: { serviceClient: "" }, privateKey: { privateKey: pem as never } }
      for (const [field, more] of Object.entries(wrong)) {
        const build = OAuth2.serviceAccount({ ...account, ...more }).pipe(provide(granting().client))
        assert.strictEqual((yield* refusal(build)).field, field)
      }
    }))
})

describe("fromEffect", () => {
  const counting = (give: (n: number) => Redacted.Redacted<string> | OAuth2.Token) => {
    let n = 0
    return Effect.sync(() => give(++n))
  }
  const named = (n: number) => Redacted.make(`e-${n}`)

  it.effect("keeps a token until its expires, its expiresIn, or for ever", () =>
    Effect.gen(function*() {
      const tokens = yield* Effect.all([
        OAuth2.fromEffect(counting((n) => ({ token: named(n), expires: n * 600_000 }))),
        OAuth2.fromEffect(counting((n) => ({ token: named(n), expiresIn: "20 minutes" }))),
        OAuth2.fromEffect(counting((n) => ({ token: named(n) })), { skew: "1 hour" }),
        OAuth2.fromEffect(counting(named))
      ])
      const look = Effect.map(Effect.all(tokens), (all) => all.map(Redacted.value))
      assert.deepStrictEqual(yield* look, ["e-1", "e-1", "e-1", "e-1"])
      yield* TestClock.adjust("9 minutes")
      assert.deepStrictEqual(yield* look, ["e-2", "e-1", "e-1", "e-1"])
      yield* TestClock.adjust("10 minutes")
      assert.deepStrictEqual(yield* look, ["e-3", "e-2", "e-1", "e-1"])
      yield* TestClock.adjust("1000 days")
      assert.deepStrictEqual((yield* look).slice(2), ["e-1", "e-1"])
      assert.strictEqual(yield* read(tokens[3]).pipe(refused("e-1")), "e-2")
    }))

  it.effect("has what it needs from where it is built", () =>
    Effect.gen(function*() {
      class Broker extends Context.Service<Broker, string>()("test/Broker") {}
      const token = yield* OAuth2.fromEffect(Effect.map(Broker, Redacted.make<string>)).pipe(
        Effect.provideService(Broker, "from the broker")
      )
      assert.strictEqual(yield* read(token), "from the broker")
    }))

  it.effect("keeps of an error that is no EOAUTH2 its name alone", () =>
    Effect.gen(function*() {
      class BrokerDown {
        readonly _tag = "Broker\u001bDown"
        readonly request = "canary-secret"
      }
      const own = new EOAUTH2({ command: "AUTH", message: "mine", temporary: true })
      const errorOf = (error: unknown) => Effect.flatMap(OAuth2.fromEffect(Effect.fail(error)), Effect.flip)
      assert.strictEqual(yield* errorOf(own), own)
      const says = [
        [new BrokerDown(), "no OAuth2 token: the token provider failed (Broker\\u{1b}Down)"],
        [new TypeError("canary-secret"), "no OAuth2 token: the token provider failed (TypeError)"],
        ["canary-secret", "no OAuth2 token: the token provider failed"],
        [undefined, "no OAuth2 token: the token provider failed"]
      ] as const
      for (const [error, message] of says) {
        const failed = yield* errorOf(error)
        assert.deepStrictEqual([failed._tag, failed.message, failed.isTemporary], ["EOAUTH2", message, false])
        assertHidden(inspect(failed, { depth: 9 }), "canary-secret")
      }
    }))

  it.effect("fails when what it got is no token", () =>
    Effect.gen(function*() {
      for (const given of ["plain", { token: "plain" }, { token: named(1), expires: "soon" }]) {
        const token = yield* OAuth2.fromEffect(Effect.succeed(given as OAuth2.Token))
        assert.strictEqual((yield* Effect.flip(token))._tag, "EOAUTH2")
      }
      const error = yield* refusal(OAuth2.fromEffect(Effect.succeed(named(1)), { skew: "x" as "1 second" }))
      assert.strictEqual(error.field, "skew")
    }))
})

describe("a login whose token is refused", () => {
  const { at, reply } = SmtpServer
  const login = (token: Sasl.Secret) =>
    SmtpConnection.make({ host: "mx.test", name: "me.test", auth: Sasl.oauth2({ username: "bob", token }) })
  const tokensOf = Effect.gen(function*() {
    const { connections } = yield* SmtpServer.SmtpServer
    const text = (yield* connections).map(({ bytes }) => Buffer.from(bytes ?? []).toString()).join("\r\n")
    return [...text.matchAll(/^AUTH XOAUTH2 (\S+)/gm)].map(([, response = ""]) =>
      Buffer.from(response, "base64").toString().split("\u0001")[1]?.replace("auth=Bearer ", "")
    )
  })
  const withServer = (script: SmtpServer.Script) =>
    Effect.provide(SmtpServer.layer({ extensions: { auth: ["PLAIN", "XOAUTH2"] }, ...script }))

  it.effect("is made again with a token that was refreshed, on the same connection", () =>
    Effect.gen(function*() {
      const { client, requests } = granting()
      const token = yield* refreshing(client, { accessToken: Redacted.make("stale") })
      const connection = yield* login(token)
      assert.deepStrictEqual((yield* connection.send({ from: "", to: "bob@mx.test" }, "x")).accepted, ["bob@mx.test"])
      assert.deepStrictEqual(yield* tokensOf, ["stale", "t-1"])
      yield* login(token)
      assert.deepStrictEqual(yield* tokensOf, ["stale", "t-1", "t-1"])
      assert.strictEqual(requests.length, 1)
    }).pipe(withServer({ accounts: { bob: "t-1" }, requireAuth: true })))

  it.effect("is EAUTH when the second is refused too: one refresh, two tries", () =>
    Effect.gen(function*() {
      const { client, requests } = granting()
      const error = yield* Effect.flip(login(yield* refreshing(client)))
      assert.deepStrictEqual([error._tag, error.responseCode, requests.length], ["EAUTH", 535, 2])
      assert.deepStrictEqual(yield* tokensOf, ["t-1", "t-2"])
    }).pipe(withServer({ accounts: { bob: "other" } })))

  it.effect("is EAUTH without a second try when the provider has no other token", () =>
    Effect.gen(function*() {
      let asked = 0
      const token = Effect.sync(() => Redacted.make(`same-${Math.min(++asked, 0)}`))
      assert.strictEqual((yield* Effect.flip(login(token)))._tag, "EAUTH")
      assert.deepStrictEqual([asked, yield* tokensOf], [2, ["same-0"]])
      assert.strictEqual((yield* Effect.flip(login(Redacted.make("fixed"))))._tag, "EAUTH")
      assert.deepStrictEqual(yield* tokensOf, ["same-0", "fixed"])
    }).pipe(withServer({ accounts: { bob: "other" } })))

  it.effect("is EOAUTH2 when no other token is to be had", () =>
    Effect.gen(function*() {
      const { client } = endpoint(() => Response.json({ error: "invalid_grant" }, { status: 400 }))
      const error = yield* Effect.flip(login(yield* refreshing(client, { accessToken: Redacted.make("stale") })))
      assert(error._tag === "EOAUTH2")
      assert.strictEqual(error.error, "invalid_grant")
    }).pipe(withServer({ accounts: { bob: "t-1" } })))

  it.effect("has its token refreshed even when the server closes, for the next connection", () =>
    Effect.gen(function*() {
      const { client, requests } = granting()
      const token = yield* refreshing(client, { accessToken: Redacted.make("stale") })
      const error = yield* Effect.flip(login(token))
      assert.strictEqual(error._tag, "ECONNECTION")
      assert.isTrue(error.isTemporary)
      yield* login(token)
      assert.deepStrictEqual([requests.length, yield* tokensOf], [1, ["stale", "t-1"]])
    }).pipe(withServer({
      accounts: { bob: "t-1" },
      faults: [at("authContinue", SmtpServer.surplus("421 4.7.0 too many errors"), { connection: 1 })]
    })))

  const judged: ReadonlyArray<readonly [code: number, isJson: boolean, requests: number]> = [
    [535, false, 1],
    [535, true, 1],
    [554, true, 1],
    [454, true, 1],
    [454, false, 0],
    [554, false, 0]
  ]
  for (const [code, isJson, expected] of judged) {
    it.effect(`by ${code} ${isJson ? "after an error in a 334" : "alone"} leads to ${expected} refreshes`, () => {
      let said = 0
      const auth = () => ++said === 1 && isJson ? reply(334, "eyJzdGF0dXMiOiI0MDEifQ==") : reply(code, "no")
      return Effect.gen(function*() {
        const { client, requests } = granting()
        const token = yield* refreshing(client, { accessToken: Redacted.make("stale") })
        assert.strictEqual((yield* Effect.flip(login(token))).responseCode, code)
        assert.strictEqual(requests.length, expected)
      }).pipe(withServer({ respond: { auth } }))
    })
  }

  it.effect("is not made again for a password", () =>
    Effect.gen(function*() {
      let asked = 0
      const password = Effect.sync(() => Redacted.make(`p-${++asked}`))
      const auth = Sasl.password({ username: "bob", password })
      const error = yield* Effect.flip(SmtpConnection.make({ host: "mx.test", name: "me.test", auth }))
      assert.deepStrictEqual([error._tag, asked], ["EAUTH", 1])
    }).pipe(withServer({ accounts: { bob: "p-2" } })))
})
