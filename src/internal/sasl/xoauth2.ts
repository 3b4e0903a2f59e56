/**
 * XOAUTH2, the bearer-token mechanism of Google and Microsoft.
 */
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { escapeText } from "../../SmtpReply.ts"
import * as model from "./model.ts"

// oxlint-disable-next-line no-control-regex -- ^A delimits the fields; no other control belongs into a name
const controls = { refused: /[\u0000-\u001f\u007f-\u009f]/, named: "a control character" }
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
export const parseFailure = (challenge: Uint8Array, token: string): model.OAuth2Failure | undefined => {
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

/** A challenge after the token is an error; an empty response lets the server end with its 535. */
const sent = (token: string): model.Session => ({
  step: (challenge) =>
    model.respond(new Uint8Array(0), refused(challenge === undefined ? undefined : parseFailure(challenge, token))),
  finish: model.ended.finish
})

export const xoauth2: model.Mechanism = {
  name: "XOAUTH2",
  kind: "oauth2",
  isPlaintext: true,
  clientFirst: true,
  start: ({ secret, username }) => {
    const token = Redacted.value(secret)
    return model.checked([
      { field: "credentials.username", text: username, ...controls },
      { field: "credentials.token", text: token, ...notBearer }
    ], () => ({
      step: () => model.respond(model.utf8(`user=${username}\u0001auth=Bearer ${token}\u0001\u0001`), sent(token)),
      finish: model.early
    }))
  }
}
