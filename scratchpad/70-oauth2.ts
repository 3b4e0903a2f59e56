/** OAuth2: a token that is refreshed when it is needed, and once more when the server refuses it; the endpoint is fake. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Redacted from "effect/Redacted"
import { OAuth2, Sasl, SmtpClient } from "../src/index.ts"
import { SmtpServer } from "../src/testing/index.ts"

// With a real endpoint: Effect.provide(FetchHttpClient.layer) instead.
const endpoint = HttpClient.make((request, url) =>
  Effect.as(
    Console.log(`${request.method} ${url.href}`),
    HttpClientResponse.fromWeb(request, Response.json({ access_token: "fresh", expires_in: 3600 }))
  )
)

Effect.gen(function*() {
  const token = yield* OAuth2.refreshing({
    username: "ann@example.test",
    clientId: "my-app",
    clientSecret: Redacted.make("client secret"),
    refreshToken: Redacted.make("refresh token"),
    accessToken: Redacted.make("revoked-meanwhile"),
    tokenUrl: "https://login.example.test/token"
  })
  const auth = Sasl.oauth2({ username: "ann@example.test", token })
  const smtp = yield* SmtpClient.make({ host: "mx.example.test", auth })
  for (const subject of ["One", "Two"]) {
    const { response } = yield* smtp.send({ from: "", to: "bob@example.test" }, `Subject: ${subject}\n\nHi\n`)
    yield* Console.log(`${subject}: ${response}`)
  }
}).pipe(
  Effect.scoped,
  Effect.provideService(HttpClient.HttpClient, endpoint),
  Effect.provide(SmtpServer.layer({ accounts: { "ann@example.test": "fresh" }, requireAuth: true })),
  NodeRuntime.runMain
)
