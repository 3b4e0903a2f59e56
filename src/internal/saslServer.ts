/**
 * The server's side of the SASL mechanisms, for the fake server.
 *
 * What it is: strict parsers of what a client sends, and one session per exchange over octets (base64 is the caller's).
 * What it is not: a defence; it compares with what the test's `lookup` says.
 */
import * as Hex from "effect/encoding/Hex"
import * as Result from "effect/Result"
import * as hash from "./hash.ts"

/** The secret of a user: password, or token for XOAUTH2; undefined = no such user. */
export type Lookup = (username: string) => string | undefined

export interface ServerInput {
  readonly lookup: Lookup
  /** Takes every well-formed credential, whatever `lookup` says. */
  readonly acceptAny: boolean
  /** What CRAM-MD5 challenges with, e.g. "<1896.697170952@postoffice.test>". */
  readonly challenge: string
}

export type ServerStep =
  | { readonly _tag: "Challenge"; readonly data: Uint8Array }
  | { readonly _tag: "Accept"; readonly username: string }
  | { readonly _tag: "Reject"; readonly reason: string }

/** One exchange. It keeps its state: make one for each AUTH command. */
export interface ServerSession {
  /** Takes the client's decoded response; undefined = AUTH came without an initial response. */
  readonly step: (response: Uint8Array | undefined) => ServerStep
}

const encoder = new TextEncoder()
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

const decode = (octets: Uint8Array): string | undefined =>
  Result.getOrUndefined(Result.try(() => decoder.decode(octets)))

const challenge = (text: string): ServerStep => ({ _tag: "Challenge", data: encoder.encode(text) })
const accept = (username: string): ServerStep => ({ _tag: "Accept", username })
const reject = (reason: string): ServerStep => ({ _tag: "Reject", reason })
const judge = (isRight: boolean, username: string): ServerStep =>
  isRight ? accept(username) : reject("wrong username or secret")

/** What a client says in PLAIN. */
export interface Plain {
  readonly authorizationId: string
  readonly username: string
  readonly password: string
}

/** message = [authzid] NUL authcid NUL passwd (RFC 4616 §2). */
export const parsePlain = (response: Uint8Array): Plain | undefined => {
  const parts = decode(response)?.split("\0") ?? []
  const [authorizationId, username, password] = parts
  if (parts.length !== 3 || authorizationId === undefined || !username || !password) return undefined
  return { authorizationId, username, password }
}

/** Judges a PLAIN message; undefined `lookup` takes any. */
export const verifyPlain = (response: Uint8Array, lookup: Lookup | undefined): ServerStep => {
  const plain = parsePlain(response)
  if (plain === undefined) return reject("malformed PLAIN message")
  return judge(lookup === undefined || lookup(plain.username) === plain.password, plain.username)
}

/** The digest of CRAM-MD5 in lower-case hex (RFC 2195 §2). */
export const cramMd5 = (password: string, text: string): string =>
  Hex.encode(hash.hmac("MD5", encoder.encode(password), encoder.encode(text)))

/** Judges a CRAM-MD5 response; undefined `lookup` takes any. The username may hold spaces. */
export const verifyCramMd5 = (response: Uint8Array, text: string, lookup: Lookup | undefined): ServerStep => {
  const found = /^(.+) ([0-9a-f]{32})$/s.exec(decode(response) ?? "")
  if (found === null) return reject("malformed CRAM-MD5 response")
  const [, username = "", digest] = found
  if (lookup === undefined) return accept(username)
  const password = lookup(username)
  return judge(password !== undefined && cramMd5(password, text) === digest, username)
}

/** What a client says in XOAUTH2. */
export interface XOAuth2 {
  readonly username: string
  readonly token: string
}

/** "user=" NAME ^A "auth=Bearer " TOKEN ^A ^A. */
export const parseXOAuth2 = (response: Uint8Array): XOAuth2 | undefined => {
  const [user = "", auth = "", ...rest] = (decode(response) ?? "").split("\u0001")
  if (!user.startsWith("user=") || !auth.startsWith("auth=Bearer ") || rest.join("^") !== "^") return undefined
  const [username, token] = [user.slice(5), auth.slice(12)]
  return username === "" || token === "" ? undefined : { username, token }
}

/** The error that Google and Microsoft send as a 334 challenge before they refuse. */
export const oauth2Failure = `{"status":"400","schemes":"Bearer","scope":"https://mail.test/"}`

/** A mechanism in which the client speaks once, after an empty challenge if AUTH brought no initial response. */
const clientFirst = (judgeOnce: (response: Uint8Array) => ServerStep): ServerSession => ({
  step: (response) => response === undefined ? challenge("") : judgeOnce(response)
})

const loginSession = (lookup: Lookup | undefined): ServerSession => {
  let username: string | undefined
  return {
    step: (response) => {
      if (response === undefined) return challenge("Username:")
      const text = decode(response)
      if (text === undefined || text === "") return reject("malformed LOGIN response")
      if (username !== undefined) return judge(lookup === undefined || lookup(username) === text, username)
      username = text
      return challenge("Password:")
    }
  }
}

const xoauth2Session = (lookup: Lookup | undefined): ServerSession => {
  let isRefused = false
  return {
    step: (response) => {
      if (response === undefined) return challenge("")
      if (isRefused) {
        return reject(response.length === 0 ? "token refused" : "the error was not answered with an empty line")
      }
      const said = parseXOAuth2(response)
      if (said === undefined) return reject("malformed XOAUTH2 message")
      if (lookup === undefined || lookup(said.username) === said.token) return accept(said.username)
      isRefused = true
      return challenge(oauth2Failure)
    }
  }
}

const cramMd5Session = (text: string, lookup: Lookup | undefined): ServerSession => {
  let isChallenged = false
  return {
    step: (response) => {
      if (response === undefined) {
        isChallenged = true
        return challenge(text)
      }
      return isChallenged ? verifyCramMd5(response, text, lookup) : reject("CRAM-MD5 takes no initial response")
    }
  }
}

/** An empty identity means that of the certificate: accepted as "". */
const external = (lookup: Lookup | undefined) => (response: Uint8Array): ServerStep => {
  const identity = decode(response)
  if (identity === undefined || identity.includes("\0")) return reject("malformed EXTERNAL message")
  return judge(lookup === undefined || identity === "" || lookup(identity) !== undefined, identity)
}

/**
 * Starts the server's side of an exchange; the name is compared without case. A name other than PLAIN, LOGIN, CRAM-MD5,
 * XOAUTH2 and EXTERNAL is rejected at its first step.
 */
export const serverStart = (mechanism: string, input: ServerInput): ServerSession => {
  const lookup = input.acceptAny ? undefined : input.lookup
  switch (mechanism.toUpperCase()) {
    case "PLAIN":
      return clientFirst((response) => verifyPlain(response, lookup))
    case "LOGIN":
      return loginSession(lookup)
    case "CRAM-MD5":
      return cramMd5Session(input.challenge, lookup)
    case "XOAUTH2":
      return xoauth2Session(lookup)
    case "EXTERNAL":
      return clientFirst(external(lookup))
    default:
      return { step: () => reject("mechanism not supported") }
  }
}
