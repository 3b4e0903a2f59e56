/**
 * The shapes of the server's side of an exchange, for the fake server. `saslServer.ts` runs them.
 */
import type { ChannelBinding } from "./model.ts"
import { utf8 } from "./model.ts"

/** The secret of a user: password, or token for OAUTHBEARER and XOAUTH2; undefined = no such user. */
export type Lookup = (username: string) => string | undefined

export interface ServerInput {
  readonly lookup: Lookup
  /** Takes every well-formed credential, whatever `lookup` says; where the server has to know the password, none. */
  readonly acceptAny: boolean
  /** What CRAM-MD5 challenges with, e.g. "<1896.697170952@postoffice.test>"; the nonce of SCRAM and DIGEST-MD5 too. */
  readonly challenge: string
  /** What the server offers. Default: nothing. */
  readonly offered?: ReadonlyArray<string> | undefined
  /** What a login can be bound to. Default: nothing. */
  readonly channelBindings?: ReadonlyArray<ChannelBinding> | undefined
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

export const challenge = (text: string): ServerStep => ({ _tag: "Challenge", data: utf8(text) })
export const accept = (username: string): ServerStep => ({ _tag: "Accept", username })
export const reject = (reason: string): ServerStep => ({ _tag: "Reject", reason })
export const judge = (isRight: boolean, username: string): ServerStep =>
  isRight ? accept(username) : reject("wrong username or secret")

/** What a state says, and how it takes the next response. */
export interface Said {
  readonly said: ServerStep
  readonly next?: ((response: Uint8Array) => Said) | undefined
}

export const ends = (said: ServerStep): Said => ({ said })

/** The last state of a server that has proved something: the client has nothing to add. */
export const acknowledged = (username: string) => (response: Uint8Array): Said =>
  ends(response.length === 0 ? accept(username) : reject("an empty response was expected"))

/** A session of states; `empty` is what AUTH without an initial response is answered with. */
export const session = (empty: ServerStep, first: (response: Uint8Array) => Said): ServerSession => {
  let state: Said["next"] = first
  return {
    step: (response) => {
      if (response === undefined) return empty
      const { next, said } = state?.(response) ?? ends(reject("the exchange is over"))
      state = next
      return said
    }
  }
}
