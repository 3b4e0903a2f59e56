/**
 * PLAIN (RFC 4616), LOGIN, CRAM-MD5 (RFC 2195), EXTERNAL (RFC 4422 appendix A) and ANONYMOUS (RFC 4505).
 */
import * as Hex from "effect/encoding/Hex"
import * as Redacted from "effect/Redacted"
import type * as Result from "effect/Result"
import { hmac } from "../hash.ts"
import * as model from "./model.ts"

const authorizationOf = (input: model.Start): string => input.authorizationId ?? ""

/** LOGIN and CRAM-MD5 cannot say whom to act as; going on would act as somebody else. */
const withoutAuthorization = (
  name: string,
  input: model.Start,
  session: () => model.Session
): Result.Result<model.Session, model.SaslError> =>
  authorizationOf(input) === ""
    ? model.checked(model.passwordTexts(input), session)
    : model.fail(
      `${name} cannot carry credentials.authorizationId; leave it out, or use a server that offers PLAIN`,
      "credentials.authorizationId"
    )

export const plain: model.Mechanism = {
  name: "PLAIN",
  kind: "password",
  isPlaintext: true,
  clientFirst: true,
  start: (input) =>
    model.checked(
      [...model.authorizationTexts(input), ...model.passwordTexts(input)],
      () => model.sequence([`${authorizationOf(input)}\0${input.username}\0${Redacted.value(input.secret)}`])
    )
}

export const login: model.Mechanism = {
  name: "LOGIN",
  kind: "password",
  isPlaintext: true,
  clientFirst: false,
  start: (input) =>
    withoutAuthorization(
      "LOGIN",
      input,
      () => model.serverFirst(model.sequence([input.username, Redacted.value(input.secret)]).step)
    )
}

/** Longest challenge, in octets: real ones are message identifiers of some dozens. */
const maxChallenge = 1024

export const cramMd5: model.Mechanism = {
  name: "CRAM-MD5",
  kind: "password",
  isPlaintext: false,
  clientFirst: false,
  start: (input) =>
    withoutAuthorization("CRAM-MD5", input, () =>
      model.serverFirst((challenge) => {
        if (challenge.length === 0) return model.fail("the challenge of CRAM-MD5 is empty")
        if (challenge.length > maxChallenge) {
          return model.fail(`the challenge of CRAM-MD5 is longer than ${maxChallenge} octets`)
        }
        const digest = Hex.encode(hmac("MD5", model.utf8(Redacted.value(input.secret)), challenge))
        return model.respond(model.utf8(`${input.username} ${digest}`), model.ended)
      }))
}

export const external: model.Mechanism = {
  name: "EXTERNAL",
  kind: "external",
  isPlaintext: false,
  clientFirst: true,
  start: (input) => model.checked(model.authorizationTexts(input), () => model.sequence([authorizationOf(input)]))
}

/** Longest trace, in characters (RFC 4505 §2). */
const maxTrace = 255

export const anonymous: model.Mechanism = {
  name: "ANONYMOUS",
  kind: "anonymous",
  isPlaintext: false,
  clientFirst: true,
  start: ({ username }) => {
    const field = "credentials.trace"
    if (Array.from(username).length > maxTrace) {
      return model.fail(`${field} is longer than ${maxTrace} characters; shorten it`, field)
    }
    const texts = username === "" ? [] : [{ field, text: username, ...model.controls }]
    return model.checked(texts, () => model.sequence([username]))
  }
}
