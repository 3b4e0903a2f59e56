/** The npm package smtp-server, in the test's own process: runs wherever the tests run. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { readFileSync } from "node:fs"
import { createRequire } from "node:module"
import type * as net from "node:net"
import {
  SMTPServer,
  type SMTPServerAuthentication,
  type SMTPServerDataStream,
  type SMTPServerOptions,
  type SMTPServerSession
} from "smtp-server"
import * as Certificates from "./certificates.ts"
import { accounts, blockedSender, domain, recipients, type Server, type Store, type Stored } from "./model.ts"
import { makeStore } from "./store.ts"

/**
 * The ports.
 *
 * - `smtp`: STARTTLS offered, AUTH after it, and not required
 * - `submission`: AUTH required (530), and offered after STARTTLS alone
 * - `smtps`: TLS from the first octet, AUTH
 * - `lmtp`: STARTTLS offered; `lmtps`: TLS from the first octet
 * - `small`: as `smtp` with SIZE 100000
 */
export type Port = "smtp" | "submission" | "smtps" | "lmtp" | "lmtps" | "small"

/** smtp-server: takes mail for every domain; a message is stored once, whatever the number of its recipients. */
export interface Service extends Server<Port>, Store {
  /** An XOAUTH2 access token that the server takes for the user. */
  readonly token: (username: string) => string
}

/** smtp-server. */
export class SmtpServerNpm extends Context.Service<SmtpServerNpm, Service>()("test/integration/SmtpServerNpm") {}

const host = "127.0.0.1"

const variants: { readonly [P in Port]: SMTPServerOptions } = {
  smtp: {},
  submission: { authOptional: false },
  smtps: { secure: true },
  lmtp: { lmtp: true },
  lmtps: { lmtp: true, secure: true },
  small: { size: 100_000, rejectOversized: true }
}

const refusal = (responseCode: number, message: string): Error => Object.assign(new Error(message), { responseCode })

/** What happens to a recipient at RCPT; undefined: nothing. */
export const recipientRefusal = (address: string): Error | undefined => {
  switch (address.toLowerCase()) {
    case recipients.reject:
      return refusal(550, "mailbox is not here")
    case recipients.defer:
      return refusal(450, "mailbox is busy, try again")
    case recipients.full:
      return refusal(452, "mailbox is full")
    case recipients.disc421:
      return refusal(421, "go away for now")
    default:
      return undefined
  }
}

const token = (username: string): string => `token-${username}`

const isKnown = (auth: SMTPServerAuthentication): boolean => {
  const account = accounts.find(({ username }) =>
    auth.username === username || auth.username === `${username}@${domain}`
  )
  if (account === undefined) return false
  if (auth.method === "XOAUTH2") return auth.accessToken === token(account.username)
  return auth.method === "CRAM-MD5" ? auth.validatePassword(account.password) : auth.password === account.password
}

const mailOf = (session: SMTPServerSession, id: string, bytes: Buffer): Stored => ({
  id,
  sender: session.envelope.mailFrom === false ? "" : session.envelope.mailFrom.address,
  recipients: session.envelope.rcptTo.map((one) => one.address),
  username: typeof session.user === "string" ? session.user : undefined,
  trace: "",
  bytes
})

const receive = (mails: Array<Stored>): NonNullable<SMTPServerOptions["onData"]> => (stream, session, done) => {
  const chunks: Array<Buffer> = []
  const finish = (stream: SMTPServerDataStream) => {
    if (stream.sizeExceeded) return done(refusal(552, "message is too large"))
    const mail = mailOf(session, `${mails.length + 1}`, Buffer.concat(chunks))
    if (mail.recipients.includes(recipients.bigData)) return done(refusal(552, "message refused after DATA"))
    mails.push(mail)
    done(null, `queued as ${mail.id}`)
  }
  stream.on("data", (chunk: Buffer) => chunks.push(chunk)).on("end", () => finish(stream)).on("error", () => {})
}

const behaviour = (mails: Array<Stored>): SMTPServerOptions => ({
  name: "smtp-server.mx.test",
  authOptional: true,
  authMethods: ["PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2"],
  size: 52_428_800,
  disableReverseLookup: true,
  closeTimeout: 1,
  onAuth: (auth, _session, done) =>
    isKnown(auth) ? done(null, { user: auth.username }) : done(refusal(535, "those credentials are not known")),
  onMailFrom: ({ address }, _session, done) =>
    address === blockedSender ? done(refusal(553, "sender blocked")) : done(),
  onRcptTo: ({ address }, _session, done) => {
    const refused = recipientRefusal(address)
    if (address === recipients.slow) setTimeout(done, 1000)
    else done(refused)
  },
  onData: receive(mails)
})

/** Listens on a free port until the scope closes; what is stored goes to the array. */
export const listen = (mails: Array<Stored>, options: SMTPServerOptions) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.callback<SMTPServer>((resume) => {
        const server = new SMTPServer({ ...behaviour(mails), ...options })
        server.on("error", () => {})
        server.listen(0, host, () => resume(Effect.succeed(server)))
      }),
      (server) =>
        Effect.callback<void>((resume) => {
          server.close(() => resume(Effect.void))
        })
    ),
    ({ server }) => (server.address() as net.AddressInfo).port
  )

const versionOf = (name: string): string => {
  const path = createRequire(import.meta.url).resolve(`${name}/package.json`)
  return String(JSON.parse(readFileSync(path, "utf8")).version)
}

const make = Effect.gen(function*() {
  const { ca, server: { good: { cert, key } } } = Certificates.make()
  const mails: Array<Stored> = []
  const open = (port: Port) => listen(mails, { cert, key, ...variants[port] })
  return SmtpServerNpm.of({
    describe: { name: "smtp-server", version: versionOf("smtp-server") },
    host,
    ports: {
      smtp: yield* open("smtp"),
      submission: yield* open("submission"),
      smtps: yield* open("smtps"),
      lmtp: yield* open("lmtp"),
      lmtps: yield* open("lmtps"),
      small: yield* open("small")
    },
    ca: ca.cert,
    accounts,
    token,
    ...makeStore(() => mails)
  })
})

/** An smtp-server of its own for the layer's life. */
export const layer: Layer.Layer<SmtpServerNpm> = Layer.effect(SmtpServerNpm, make)
