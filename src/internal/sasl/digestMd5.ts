/**
 * DIGEST-MD5 (RFC 2831), which RFC 6331 retired: for old servers, and only where the list of mechanisms names it.
 */
import * as Hex from "effect/encoding/Hex"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as hash from "../hash.ts"
import * as model from "./model.ts"

/** Longest challenge, in octets (RFC 2831 §2.1.1). */
const maxChallenge = 2048

/** name=value or name="value" with the commas around it; linear, for no part can match in two ways. */
const directive = /[\s,]*([^\s,="]+)\s*=\s*(?:"((?:[^"\\]|\\[^])*)"|([^\s,"]+))\s*(?:,[\s,]*|$)/y

/** Reads directives, the values of each name in order; undefined when they are malformed. */
export const parseDirectives = (text: string): ReadonlyMap<string, ReadonlyArray<string>> | undefined => {
  const found = new Map<string, Array<string>>()
  directive.lastIndex = 0
  while (directive.lastIndex < text.length) {
    const one = directive.exec(text)
    if (one === null) return undefined
    const [, name = "", quoted, plain = ""] = one
    const values = found.get(name.toLowerCase()) ?? []
    values.push(quoted?.replace(/\\([^])/g, "$1") ?? plain)
    found.set(name.toLowerCase(), values)
  }
  return found
}

/** What the digests are made of. */
interface Input {
  readonly username: string
  readonly realm: string
  readonly password: string
  readonly nonce: string
  readonly cnonce: string
  /** Service and host, e.g. "smtp/mx.test". */
  readonly uri: string
  readonly authorizationId: string
}

/** RFC 2831 §2.1.2.1: what fits into ISO 8859-1 is hashed in it, though it is sent as UTF-8. */
const hashed = (text: string): Uint8Array =>
  // oxlint-disable-next-line no-control-regex -- all of ISO 8859-1
  /^[\u0000-\u00ff]*$/.test(text) ? Uint8Array.from(text, (character) => character.charCodeAt(0)) : model.utf8(text)

const md5 = (...parts: ReadonlyArray<string | Uint8Array>): Uint8Array =>
  hash.hash("MD5", model.concat(...parts.map((part) => typeof part === "string" ? model.utf8(part) : part)))

/** The client's and the server's digest (RFC 2831 §2.1.2.1 and §2.1.3), in hex. */
export const digestsOf = (input: Input): { readonly response: string; readonly rspauth: string } => {
  const { authorizationId, cnonce, nonce, password, realm, uri, username } = input
  const secret = md5(hashed(username), ":", hashed(realm), ":", hashed(password))
  const a1 = Hex.encode(md5(secret, `:${nonce}:${cnonce}${authorizationId === "" ? "" : `:${authorizationId}`}`))
  const digest = (a2: string) => Hex.encode(md5(`${a1}:${nonce}:00000001:${cnonce}:auth:${Hex.encode(md5(a2))}`))
  return { response: digest(`AUTHENTICATE:${uri}`), rspauth: digest(`:${uri}`) }
}

const quoted = (text: string): string => `"${text.replace(/["\\]/g, "\\$&")}"`

const read = (challenge: Uint8Array | undefined) => {
  if (challenge === undefined) return model.fail("DIGEST-MD5 has no second initial response")
  if (challenge.length > maxChallenge) {
    return model.fail(`the challenge of DIGEST-MD5 is longer than ${maxChallenge} octets`)
  }
  const text = model.textOf(challenge)
  const directives = text === undefined ? undefined : parseDirectives(text)
  return directives === undefined ? model.fail("the challenge of DIGEST-MD5 is malformed") : Result.succeed(directives)
}

type Directives = ReadonlyMap<string, ReadonlyArray<string>>

/** RFC 2831 §2.1.1: what has to be there once, and what this client can do. */
const faultOf = (said: Directives): string | undefined => {
  const isOnce = ["nonce", "algorithm"].every((name) => said.get(name)?.length === 1)
  if (!isOnce || said.get("nonce")?.[0] === "") return "the challenge of DIGEST-MD5 lacks nonce or algorithm"
  if (said.get("algorithm")?.[0]?.toLowerCase() !== "md5-sess") return "the server's algorithm is not md5-sess"
  const qop = said.get("qop")?.join(",").toLowerCase().split(/[\s,]+/) ?? ["auth"]
  return qop.includes("auth") ? undefined : "the server wants a security layer, which DIGEST-MD5 has none of here"
}

/** Without charset=utf-8 the server reads ISO 8859-1; ASCII alone is the same in both. */
const isSayable = (said: Directives, { authorizationId = "", secret, username }: model.Start): boolean =>
  said.get("charset")?.[0]?.toLowerCase() === "utf-8" ||
  !/[^ -~]/.test(username + authorizationId + Redacted.value(secret))

const proven = (rspauth: string): model.Session => ({
  step: (challenge) =>
    Result.flatMap(
      read(challenge),
      (said) =>
        hash.timingSafeEqual(model.utf8(said.get("rspauth")?.[0] ?? ""), model.utf8(rspauth))
          ? model.respond(new Uint8Array(0), model.ended)
          : model.fail("the server's rspauth is wrong: it does not know the password, or somebody stands between")
    ),
  finish: () => model.fail("the server reported success without its rspauth: it may not know the password")
})

const answer = (input: model.Start, said: Directives): Result.Result<model.Step, model.SaslError> => {
  const fault = faultOf(said)
  if (fault !== undefined) return model.fail(fault)
  if (!isSayable(said, input)) {
    return model.fail(
      "the server reads no UTF-8 in DIGEST-MD5, and the credentials are not ASCII; use another mechanism"
    )
  }
  const { authorizationId = "", nonce: cnonce, username } = input
  const [realm = "", nonce = ""] = [said.get("realm")?.[0], said.get("nonce")?.[0]]
  const uri = `smtp/${input.host}`
  const password = Redacted.value(input.secret)
  const { response, rspauth } = digestsOf({ username, realm, password, nonce, cnonce, uri, authorizationId })
  const words = [
    ...(said.has("charset") ? ["charset=utf-8"] : []),
    `username=${quoted(username)}`,
    ...(said.has("realm") ? [`realm=${quoted(realm)}`] : []),
    `nonce=${quoted(nonce)},nc=00000001,cnonce=${quoted(cnonce)},digest-uri=${quoted(uri)}`,
    `response=${response},qop=auth`,
    ...(authorizationId === "" ? [] : [`authzid=${quoted(authorizationId)}`])
  ]
  return model.respond(model.utf8(words.join(",")), proven(rspauth))
}

export const digestMd5: model.Mechanism = {
  name: "DIGEST-MD5",
  kind: "password",
  isPlaintext: false,
  clientFirst: false,
  isObsolete: true,
  start: (input) =>
    model.checked(
      [...model.authorizationTexts(input), ...model.passwordTexts(input)],
      () => model.serverFirst((challenge) => Result.flatMap(read(challenge), (said) => answer(input, said)))
    )
}
