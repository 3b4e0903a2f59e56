/** A backend: `POST /mail` sends through the pooled client that the layer holds, and says how it went. */
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Schema from "effect/Schema"
import { SmtpClient, SmtpError } from "../src/index.ts"

const Mail = Schema.Struct({ to: Schema.String, subject: Schema.String, text: Schema.String })

/** 202 sent; 503 try again; 504 in doubt: look before you send again; 422 refused for good. */
const statusOf = (error: SmtpError.SmtpError): number => error.inDoubt ? 504 : SmtpError.isRetryable(error) ? 503 : 422

const send = Effect.gen(function*() {
  const { subject, text, to } = yield* HttpServerRequest.schemaBodyJson(Mail)
  const smtp = yield* SmtpClient.SmtpClient
  const { response } = yield* smtp.send({ from: "app@example.test", to }, `Subject: ${subject}\r\n\r\n${text}\r\n`)
  return HttpServerResponse.jsonUnsafe({ response }, { status: 202 })
}).pipe(
  Effect.catchIf(SmtpError.isSmtpError, (error) =>
    Effect.succeed(HttpServerResponse.jsonUnsafe(
      { tag: error._tag, message: error.message, inDoubt: error.inDoubt },
      { status: statusOf(error) }
    ))),
  Effect.catchTag(
    "SchemaError",
    (error) =>
      Effect.succeed(HttpServerResponse.jsonUnsafe({ tag: error._tag, message: error.message }, { status: 400 }))
  )
)

/** The routes; whoever serves them provides the client. */
export const routes = HttpRouter.add("POST", "/mail", send)

/** What a caller of the backend does, and what it is told. */
export const post = (to: string) =>
  HttpClientRequest.post("/mail").pipe(
    HttpClientRequest.bodyJsonUnsafe({ to, subject: "Welcome", text: "Hello" }),
    HttpClient.execute,
    Effect.flatMap((answer) => Effect.map(answer.text, (text) => `${answer.status} ${text}`))
  )
