/**
 * The server's side of DIGEST-MD5 (RFC 2831), for the fake server.
 */
import * as Base64 from "effect/encoding/Base64"
import { digestsOf, parseDirectives } from "./digestMd5.ts"
import { textOf } from "./model.ts"
import { acknowledged, challenge, ends, reject, type ServerInput, type ServerSession, session } from "./server.ts"

const realm = "fake.test"

/** Starts the server's side of DIGEST-MD5. */
export const digestMd5Server = (input: ServerInput): ServerSession => {
  const nonce = Base64.encode(input.challenge)
  const asked = `realm="${realm}",nonce="${nonce}",qop="auth",charset=utf-8,algorithm=md5-sess`
  return session(challenge(asked), (response) => {
    if (input.acceptAny) {
      return ends(reject("DIGEST-MD5 needs `accounts` in the script: the server has to know the password"))
    }
    const said = parseDirectives(textOf(response) ?? "")
    const word = (name: string): string => said?.get(name)?.[0] ?? ""
    const isOurs = word("nonce") === nonce && word("realm") === realm && word("qop") === "auth"
    if (!isOurs || !word("digest-uri").startsWith("smtp/")) return ends(reject("malformed DIGEST-MD5 response"))
    const username = word("username")
    const digests = digestsOf({
      username,
      realm,
      password: input.lookup(username) ?? "",
      nonce,
      cnonce: word("cnonce"),
      uri: word("digest-uri"),
      authorizationId: word("authzid")
    })
    return input.lookup(username) === undefined || digests.response !== word("response")
      ? ends(reject("wrong username or secret"))
      : { said: challenge(`rspauth=${digests.rspauth}`), next: acknowledged(username) }
  })
}
