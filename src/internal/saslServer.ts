/**
 * The server's side of the SASL mechanisms, for the fake server.
 *
 * What it is: strict parsers of what a client sends, and one session per exchange over octets (base64 is the caller's).
 * What it is not: a defence; it compares with what the test's `lookup` says.
 */
import * as Hex from "effect/encoding/Hex"
import * as hash from "./hash.ts"
import { digestMd5Server } from "./sasl/digestMd5Server.ts"
import { fromSaslName, textOf as decode, utf8 } from "./sasl/model.ts"
import type { Algorithm } from "./sasl/scram.ts"
import { scramServer } from "./sasl/scramServer.ts"
import {
  accept,
  challenge,
  judge,
  type Lookup,
  reject,
  type ServerInput,
  type ServerSession,
  type ServerStep
} from "./sasl/server.ts"

export type { ServerInput, ServerSession, ServerStep } from "./sasl/server.ts"

/** What a client says in PLAIN. */
interface Plain {
  readonly authorizationId: string
  readonly username: string
  readonly password: string
}

/** message = [authzid] NUL authcid NUL passwd (RFC 4616 §2). */
const parsePlain = (response: Uint8Array): Plain | undefined => {
  const parts = decode(response)?.split("\0") ?? []
  const [authorizationId, username, password] = parts
  if (parts.length !== 3 || authorizationId === undefined || !username || !password) return undefined
  return { authorizationId, username, password }
}

/** Judges a PLAIN message; undefined `lookup` takes any. */
const verifyPlain = (response: Uint8Array, lookup: Lookup | undefined): ServerStep => {
  const plain = parsePlain(response)
  if (plain === undefined) return reject("malformed PLAIN message")
  return judge(lookup === undefined || lookup(plain.username) === plain.password, plain.username)
}

/** The digest of CRAM-MD5 in lower-case hex (RFC 2195 §2). */
export const cramMd5 = (password: string, text: string): string =>
  Hex.encode(hash.hmac("MD5", utf8(password), utf8(text)))

/** Judges a CRAM-MD5 response; undefined `lookup` takes any. The username may hold spaces. */
const verifyCramMd5 = (response: Uint8Array, text: string, lookup: Lookup | undefined): ServerStep => {
  const found = /^(.+) ([0-9a-f]{32})$/s.exec(decode(response) ?? "")
  if (found === null) return reject("malformed CRAM-MD5 response")
  const [, username = "", digest] = found
  if (lookup === undefined) return accept(username)
  const password = lookup(username)
  return judge(password !== undefined && cramMd5(password, text) === digest, username)
}

/** What a client says in XOAUTH2 and OAUTHBEARER. */
interface Bearer {
  readonly username: string
  readonly token: string
}

/** "user=" NAME ^A "auth=Bearer " TOKEN ^A ^A. */
const parseXOAuth2 = (response: Uint8Array): Bearer | undefined => {
  const [user = "", auth = "", ...rest] = (decode(response) ?? "").split("\u0001")
  if (!user.startsWith("user=") || !auth.startsWith("auth=Bearer ") || rest.join("^") !== "^") return undefined
  const [username, token] = [user.slice(5), auth.slice(12)]
  return username === "" || token === "" ? undefined : { username, token }
}

/** GS2 header with the name, then ^A "key=value" pairs, "auth" among them, ^A ^A (RFC 7628 §3.1). */
const parseOAuthBearer = (response: Uint8Array): Bearer | undefined => {
  const parts = (decode(response) ?? "").split("\u0001")
  const [, name = ""] = /^n,a=([^,]+),$/.exec(parts[0] ?? "") ?? []
  const pairs = parts.slice(1, -2)
  const isWellFormed = parts.slice(-2).join("^") === "^" && pairs.every((pair) => /^[A-Za-z]+=/.test(pair))
  const auth = pairs.find((pair) => pair.startsWith("auth=Bearer ")) ?? ""
  const [username = "", token] = [fromSaslName(name), auth.slice("auth=Bearer ".length)]
  return isWellFormed && username !== "" && token !== "" ? { username, token } : undefined
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

/** `answer` is what the client says to an error. */
const bearerSession = (
  name: string,
  answer: string,
  parse: (response: Uint8Array) => Bearer | undefined,
  lookup: Lookup | undefined
): ServerSession => {
  let isRefused = false
  return {
    step: (response) => {
      if (response === undefined) return challenge("")
      if (isRefused) {
        return reject(decode(response) === answer ? "token refused" : `the error was not answered as ${name} wants it`)
      }
      const said = parse(response)
      if (said === undefined) return reject(`malformed ${name} message`)
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

/** SCRAM by its name. */
const scramSession = (mechanism: string, input: ServerInput): ServerSession | undefined => {
  const [, algorithm, plus] = /^SCRAM-(SHA-1|SHA-256|SHA-512)(-PLUS)?$/.exec(mechanism) ?? []
  return algorithm === undefined ? undefined : scramServer(algorithm as Algorithm, plus !== undefined, input)
}

/**
 * Starts the server's side of an exchange; the name is compared without case. One that is not known is rejected at its
 * first step.
 */
export const serverStart = (mechanism: string, input: ServerInput): ServerSession => {
  const lookup = input.acceptAny ? undefined : input.lookup
  const name = mechanism.toUpperCase()
  switch (name) {
    case "PLAIN":
      return clientFirst((response) => verifyPlain(response, lookup))
    case "LOGIN":
      return loginSession(lookup)
    case "CRAM-MD5":
      return cramMd5Session(input.challenge, lookup)
    case "DIGEST-MD5":
      return digestMd5Server(input)
    case "OAUTHBEARER":
      return bearerSession(name, "\u0001", parseOAuthBearer, lookup)
    case "XOAUTH2":
      return bearerSession(name, "", parseXOAuth2, lookup)
    case "EXTERNAL":
      return clientFirst(external(lookup))
    case "ANONYMOUS":
      return clientFirst((response) => decode(response) === undefined ? reject("malformed trace") : accept("anonymous"))
    default:
      return scramSession(name, input) ?? { step: () => reject("mechanism not supported") }
  }
}
