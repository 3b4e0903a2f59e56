/** What every real server of the harness shows to a test: where it is, who may log in, and what it stored. */
import type * as Effect from "effect/Effect"

/** An account that the server knows; `username` and `username@mx.test` both log in. */
export interface Account {
  readonly username: string
  readonly password: string
}

/** The accounts of every server: a plain one, another, non-ASCII, and all that a mechanism might have to quote. */
export const accounts: readonly [Account, ...ReadonlyArray<Account>] = [
  { username: "alice", password: "secret" },
  { username: "bob", password: "secret" },
  { username: "carol", password: "pässwörd€" },
  { username: "dave", password: "p=a,s\"s\\w ord:%" }
]

/** The domain that every server takes mail for; each account has an address there, also as `name+detail`. */
export const domain = "mx.test"

/** Recipients with a fate. `reject` and `defer` have it on every server, the others on Postfix and smtp-server. */
export const recipients = {
  /** 550 to RCPT. */
  reject: `reject@${domain}`,
  /** 4yz to RCPT; on Dovecot's LMTP in the place of its final reply. */
  defer: `defer@${domain}`,
  /** 452 to RCPT. */
  full: `full@${domain}`,
  /** RCPT is answered after a second. */
  slow: `slow@${domain}`,
  /** 421 to RCPT, then the server closes. */
  disc421: `disc421@${domain}`,
  /** 451 to DATA; Postfix alone. */
  notNow: `notnow@${domain}`,
  /** 552 to the final dot. */
  bigData: `bigdata@${domain}`
} as const

/** MAIL FROM this one is refused by Postfix and smtp-server with 553. */
export const blockedSender = "blocked@bad.test"

/** One delivery: a message to two recipients is two of them, except on smtp-sink and smtp-server. */
export interface Stored {
  /** The server's id of the delivery. */
  readonly id: string
  readonly sender: string
  readonly recipients: ReadonlyArray<string>
  /** Who was logged in, as far as the server keeps that with the message. */
  readonly username: string | undefined
  /** The header fields that the server put in front, with CRLF line ends. */
  readonly trace: string
  /** The message as it was stored, without `trace`. */
  readonly bytes: Uint8Array
}

export interface Store {
  /** What is stored now, oldest first. */
  readonly stored: Effect.Effect<ReadonlyArray<Stored>>
  /**
   * Waits (in real time, at most 20 s, then it dies) until `count` (1) stored messages satisfy the predicate, and gives
   * them.
   */
  readonly awaitStored: (
    predicate: (mail: Stored) => boolean,
    count?: number
  ) => Effect.Effect<ReadonlyArray<Stored>>
}

/** What a server says it is. */
export interface Description {
  readonly name: string
  readonly version: string
}

/** A running server. */
export interface Server<Port extends string> {
  readonly describe: Description
  /** The address to dial. */
  readonly host: string
  readonly ports: { readonly [P in Port]: number }
  /** The CA to trust, in PEM. */
  readonly ca: string
  readonly accounts: typeof accounts
}

/** A server that is a program of its own. */
export interface Daemon {
  /** Its configuration, logs and mail; removed with the layer. */
  readonly folder: string
  /** The ids of its processes that run now. */
  readonly processes: Effect.Effect<ReadonlyArray<number>>
  /** Ends it; files and ports stay its own. */
  readonly stop: Effect.Effect<void>
  /** Starts it anew on the same ports and files. */
  readonly start: Effect.Effect<void>
}
