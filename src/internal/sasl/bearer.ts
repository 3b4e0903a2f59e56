/**
 * The bearer-token mechanisms: OAUTHBEARER (RFC 7628), and XOAUTH2 of Google and Microsoft.
 */
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { escapeText } from "../../SmtpReply.ts"
import * as model from "./model.ts"

const notBearer = {
  refused: /[^\u0021-\u007e]/,
  named:
    "a character that no bearer token holds (RFC 6750 section 2.1): give the token alone, without \"Bearer\" and line ends"
}

/** Longest error, in octets: 4 KiB of base64. */
const maxError = 3072
/** Most characters kept of each of its fields. */
const maxField = 200

const decoder = new TextDecoder()

const shown = (value: unknown, token: string): string | undefined =>
  typeof value === "string" || typeof value === "number"
    ? escapeText(String(value).replaceAll(token, "<redacted>").slice(0, maxField))
    : undefined

/** Reads the error JSON of a server; undefined when it is none. A server that echoes the token is not repeated. */
const parseFailure = (challenge: Uint8Array, token: string): model.OAuth2Failure | undefined => {
  if (challenge.length > maxError) return undefined
  const json = Result.getOrUndefined(Result.try(() => JSON.parse(decoder.decode(challenge)) as unknown))
  if (typeof json !== "object" || json === null) return undefined
  const { schemes, scope, status } = json as { readonly [K in keyof model.OAuth2Failure]?: unknown }
  const said = shown(status, token)
  return said === undefined ? undefined : { status: said, schemes: shown(schemes, token), scope: shown(scope, token) }
}

const refused = (failure: model.OAuth2Failure | undefined): model.Session => ({
  step: model.ended.step,
  finish: () => model.fail("the server reported success after it had refused the token"),
  failure
})

/** A challenge after the token is an error; an answer lets the server end with its 535. */
const sent = (token: string, answer: string): model.Session => ({
  step: (challenge) =>
    model.respond(
      model.utf8(answer),
      refused(challenge === undefined ? undefined : parseFailure(challenge, token))
    ),
  finish: model.ended.finish
})

/** One message with the token; `answer` is what an error is answered with. */
const bearer = (
  name: string,
  answer: string,
  message: (input: model.Start, token: string) => string,
  more: (input: model.Start) => ReadonlyArray<model.Text>
): model.Mechanism => ({
  name,
  kind: "oauth2",
  isPlaintext: true,
  clientFirst: true,
  start: (input) => {
    const token = Redacted.value(input.secret)
    return model.checked([
      { field: "credentials.username", text: input.username, ...model.controls },
      { field: "credentials.token", text: token, ...notBearer },
      ...more(input)
    ], () => ({
      step: () => model.respond(model.utf8(message(input, token)), sent(token, answer)),
      finish: model.early
    }))
  }
})

export const oauthBearer = bearer(
  "OAUTHBEARER",
  "\u0001",
  ({ host, port, username }, token) =>
    `n,a=${model.saslName(username)},\u0001host=${host}\u0001port=${port}\u0001auth=Bearer ${token}\u0001\u0001`,
  ({ host }) => [{ field: "context.host", text: host, ...model.controls }]
)

export const xoauth2 = bearer(
  "XOAUTH2",
  "",
  ({ username }, token) => `user=${username}\u0001auth=Bearer ${token}\u0001\u0001`,
  () => []
)
