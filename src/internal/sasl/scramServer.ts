/**
 * The server's side of SCRAM (RFC 5802), for the fake server: real salts and keys, and the channel binding checked.
 */
import * as Base64 from "effect/encoding/Base64"
import * as Result from "effect/Result"
import * as hash from "../hash.ts"
import * as model from "./model.ts"
import { saslprep } from "./saslprep.ts"
import { type Algorithm, lengthOf, minIterations, signaturesOf } from "./scram.ts"
import {
  acknowledged,
  challenge,
  ends,
  reject,
  type Said,
  type ServerInput,
  type ServerSession,
  session
} from "./server.ts"

/** The errors of RFC 5802 §7; whatever the client says next, the exchange is over. */
const fail = (error: string): Said => ({ said: challenge(`e=${error}`), next: () => ends(reject(error)) })

/** client-first-message. */
const parseFirst = (response: Uint8Array) => {
  const pattern = /^((?:n|y|p=([A-Za-z0-9.-]+)),(?:a=[^,]*)?,)(n=([^,]+),r=[!-+\x2d-~]+)$/
  const [whole, header = "", type, bare = "", name = ""] = pattern.exec(model.textOf(response) ?? "") ?? []
  const username = model.fromSaslName(name)
  return whole === undefined || username === undefined ? undefined : { header, type, bare, username }
}

type First = Exclude<ReturnType<typeof parseFirst>, undefined>

/** What the client binds to, or the error that it makes. */
const bindingOf = ({ header, type }: First, isPlus: boolean, input: ServerInput): Uint8Array | string => {
  if (isPlus !== (type !== undefined)) return isPlus ? "channel-binding-not-supported" : "other-error"
  if (type !== undefined) {
    const found = input.channelBindings?.find((binding) => binding.type === type)
    return found?.data ?? "unsupported-channel-binding-type"
  }
  const doesBind = input.offered?.some((name) => /^SCRAM-.*-PLUS$/i.test(name)) === true
  return header.startsWith("y") && doesBind ? "server-does-support-channel-binding" : new Uint8Array(0)
}

const takeFinal = (
  response: Uint8Array,
  first: First,
  expected: string,
  signatures: (withoutProof: string) => ReturnType<typeof signaturesOf>
): Said => {
  const [, withoutProof = "", binding = "", proof = ""] =
    /^(c=([^,]+),r=[^,]+),p=([^,]+)$/.exec(model.textOf(response) ?? "") ?? []
  if (withoutProof !== expected) {
    return fail(expected.startsWith(`c=${binding},`) ? "other-error" : "channel-bindings-dont-match")
  }
  const right = signatures(withoutProof)
  if (Base64.encode(right.proof) !== proof) return ends(reject("wrong username or secret"))
  return { said: challenge(`v=${Base64.encode(right.signature)}`), next: acknowledged(first.username) }
}

/** Starts the server's side of SCRAM. */
export const scramServer = (algorithm: Algorithm, isPlus: boolean, input: ServerInput): ServerSession =>
  session(challenge(""), (response) => {
    if (input.acceptAny) {
      return ends(reject("SCRAM needs `accounts` in the script: the server has to know the password"))
    }
    const first = parseFirst(response)
    if (first === undefined) return ends(reject("malformed SCRAM message"))
    const binding = bindingOf(first, isPlus, input)
    if (typeof binding === "string") return fail(binding)
    const password = input.lookup(first.username)
    if (password === undefined) return ends(reject("wrong username or secret"))
    const prepared = Result.getOrElse(saslprep(password, "stored"), () => password)
    const salt = hash.hash("SHA-256", model.utf8(`${first.username}@${input.challenge}`)).subarray(0, 16)
    const salted = hash.pbkdf2(algorithm, model.utf8(prepared), salt, minIterations, lengthOf[algorithm])
    const nonce = first.bare.slice(first.bare.indexOf(",r=") + 3) + Base64.encode(input.challenge)
    const said = `r=${nonce},s=${Base64.encode(salt)},i=${minIterations}`
    const expected = `c=${Base64.encode(model.concat(model.utf8(first.header), binding))},r=${nonce}`
    return {
      said: challenge(said),
      next: (final) =>
        takeFinal(
          final,
          first,
          expected,
          (withoutProof) => signaturesOf(algorithm, salted, `${first.bare},${said},${withoutProof}`)
        )
    }
  })
