/** Dovecot: submission and LMTP, TLS, SASL, OAuth tokens that it validates itself. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { chownSync, mkdirSync, readdirSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import * as Certificates from "./certificates.ts"
import { makeDaemon, run } from "./daemon.ts"
import * as configuration from "./dovecotConfiguration.ts"
import { accounts, type Daemon, type Server, type Store, type Stored } from "./model.ts"
import { makeFolder, makePorts } from "./place.ts"
import * as SmtpServerNpm from "./SmtpServerNpm.ts"
import { endOfTrace, makeStore, readFolders } from "./store.ts"

/**
 * The ports.
 *
 * - `submission`: STARTTLS, AUTH after it, required (530); `submissions`: TLS from the first octet
 * - `lmtp`: STARTTLS offered; `lmtps`: TLS from the first octet
 */
export type Port = configuration.Port

/**
 * Dovecot.
 *
 * LMTP delivers to the accounts alone, each recipient a copy, named without its +detail. Submission relays everything to a smtp-server in the
 * test's own process, which stores a message once; `stored` gives the delivered ones, then the relayed ones.
 */
export interface Service extends Server<Port>, Daemon, Store {
  /** A JWT for OAUTHBEARER and XOAUTH2, valid for `seconds` (an hour; negative: expired). */
  readonly token: (username: string, seconds?: number) => string
  /** Here Dovecot takes the client for local and offers AUTH before STARTTLS too; at `host` it does not. */
  readonly trustedHost: string
  /** A client certificate for EXTERNAL as alice, and one of a CA that Dovecot does not know. */
  readonly client: Certificates.CertificateAndKey
  readonly otherClient: Certificates.CertificateAndKey
}

/** Dovecot. */
export class Dovecot extends Context.Service<Dovecot, Service>()("test/integration/Dovecot") {}

/** A client whose own address is the server's counts as local; from 127.0.0.1 to 127.0.0.2 it is not. */
const [trustedHost, host] = ["127.0.0.1", "127.0.0.2"] as const

const withoutTrace = (octets: Buffer, names: ReadonlyArray<string>) => {
  const end = endOfTrace(octets, names)
  return { trace: octets.subarray(0, end).toString("latin1"), bytes: octets.subarray(end) }
}

/** The path is .../mail/USER/Maildir/new/NAME. */
const parseDelivered = (octets: Buffer, path: string): Stored => {
  const { bytes, trace } = withoutTrace(octets, ["Return-Path", "Delivered-To", "Received"])
  const [user = "", , , name] = path.split("/").slice(-4)
  return {
    id: `${name} ${user}`,
    sender: /^Return-Path: <(.*)>/i.exec(trace)?.[1] ?? "",
    recipients: [user],
    username: undefined,
    trace,
    bytes
  }
}

const relayed = (mail: Stored): Stored => ({
  ...mail,
  id: `relayed ${mail.id}`,
  ...withoutTrace(Buffer.from(mail.bytes), ["Received"])
})

const makeFiles = (folder: string, options: configuration.Input, certificates: Certificates.Certificates): void => {
  for (const [name, text] of Object.entries(configuration.files(options))) {
    mkdirSync(dirname(join(folder, name)), { recursive: true })
    writeFileSync(join(folder, name), text)
  }
  writeFileSync(join(folder, "ca.pem"), certificates.ca.cert)
  writeFileSync(join(folder, "server.pem"), certificates.server.good.cert)
  writeFileSync(join(folder, "server.key"), certificates.server.good.key, { mode: 0o600 })
  mkdirSync(join(folder, "mail"))
  chownSync(join(folder, "mail"), Number(run("id", ["-u", "nobody"])), 0)
}

const inboxes = (mail: string) => (): ReadonlyArray<string> =>
  readdirSync(mail).map((user) => join(mail, user, "Maildir", "new"))

const make = Effect.gen(function*() {
  const folder = yield* makeFolder("dovecot")
  const ports = yield* makePorts(configuration.ports, [trustedHost, host])
  const mails: Array<Stored> = []
  const relayPort = yield* SmtpServerNpm.listen(mails, { hideSTARTTLS: true, disabledCommands: ["AUTH", "STARTTLS"] })
  const certificates = Certificates.make()
  yield* Effect.sync(() =>
    makeFiles(folder.path, { folder: folder.path, hosts: [trustedHost, host], ports, relayPort }, certificates)
  )
  const daemon = yield* makeDaemon({
    folder,
    command: "dovecot",
    args: ["-F", "-c", join(folder.path, "dovecot.conf")],
    host,
    ports: Object.values(ports),
    log: join(folder.path, "dovecot.log")
  })
  const delivered = readFolders(inboxes(join(folder.path, "mail")), parseDelivered)
  return Dovecot.of({
    describe: { name: "Dovecot", version: run("dovecot", ["--version"]).split(" ")[0]?.trim() ?? "unknown" },
    host,
    trustedHost,
    ports,
    ca: certificates.ca.cert,
    accounts,
    client: certificates.client,
    otherClient: certificates.otherClient,
    token: configuration.token,
    ...makeStore(() => [...delivered(), ...mails.map(relayed)]),
    ...daemon
  })
})

/** A Dovecot of its own for the layer's life. */
export const layer: Layer.Layer<Dovecot> = Layer.effect(Dovecot, Effect.orDie(Effect.retry(make, { times: 2 })))
