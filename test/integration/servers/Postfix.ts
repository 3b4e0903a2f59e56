/** Postfix with its own configuration, queue and master process; one port for each thing that a client may meet. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { chmodSync, chownSync, mkdirSync, readdirSync, statSync, utimesSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import * as Certificates from "./certificates.ts"
import { makeDaemon, run } from "./daemon.ts"
import { accounts, type Daemon, domain, type Server, type Store, type Stored } from "./model.ts"
import { makeFolder, makePorts } from "./place.ts"
import * as configuration from "./postfixConfiguration.ts"
import { endOfTrace, makeStore, readFolders } from "./store.ts"

/**
 * The ports.
 *
 * - `smtp`: STARTTLS offered, no AUTH; also on 127.0.0.3
 * - `insecureAuth`: STARTTLS and AUTH offered side by side
 * - `smtps`: TLS from the first octet, AUTH
 * - `submission`: STARTTLS required before all else, AUTH required for RCPT (554)
 * - `clientCertificate`: TLS from the first octet, a client certificate required, which may relay
 * - `minimal`: EHLO offers SIZE alone
 * - `noPipelining`: as `smtp` without PIPELINING and CHUNKING
 * - `strict`: a bare LF is refused with 550, early pipelining with 503, more than 5 recipients with 452
 * - `small`: SIZE {@link smallSize}
 * - `legacyAuth`: AUTH, and an "AUTH=" line; TLS 1.2 at most
 * - the others: as `smtp` with the certificate of that name
 */
export type Port = configuration.Port

/** The SIZE of port `small`, in octets. */
export const smallSize = configuration.smallSize

/**
 * Postfix.
 *
 * Mail to mx.test is taken from everybody, mail elsewhere (554 5.7.1) from those who are logged in or have a client
 * certificate; all of it is stored, nothing leaves. Mail to discard.test is thrown away. Bounces and delivery reports
 * are stored like any mail, with an empty sender.
 */
export interface Service extends Server<Port>, Daemon, Store {
  /** A client certificate that port `clientCertificate` takes, and one that it refuses. */
  readonly client: Certificates.CertificateAndKey
  readonly otherClient: Certificates.CertificateAndKey
  /** The certificates that it presents. */
  readonly certificates: Certificates.Certificates
}

/** Postfix. */
export class Postfix extends Context.Service<Postfix, Service>()("test/integration/Postfix") {}

const host = "127.0.0.1"

const idOf = (option: "-u" | "-g", name: string): number => Number(run("id", [option, name]))

/** The folders of a queue, as "postfix start" makes them. */
const makeQueue = (folder: string): void => {
  const postfix = idOf("-u", "postfix")
  const postdrop = Number(run("getent", ["group", "postdrop"]).split(":")[2])
  const make = (name: string, mode: number, owner: number, group = 0) => {
    const path = join(folder, name)
    mkdirSync(path)
    chownSync(path, owner, group)
    chmodSync(path, mode)
  }
  make("spool", 0o755, 0)
  make("data", 0o700, postfix)
  make("dump", 0o755, idOf("-u", "nobody"))
  for (const name of configuration.queues) make(join("spool", name), 0o700, postfix)
  make("spool/maildrop", 0o1730, postfix, postdrop)
  make("spool/public", 0o2710, postfix, postdrop)
  make("spool/pid", 0o755, 0)
}

const makePasswords = (folder: string): void => {
  const file = join(folder, "sasldb2")
  for (const { password, username } of accounts) {
    run("saslpasswd2", ["-p", "-c", "-f", file, "-u", domain, username], password)
  }
  chownSync(file, idOf("-u", "postfix"), 0)
}

/** Postfix waits for a configuration file that is younger than a second or two. */
const antedate = (folder: string): void => {
  for (const name of readdirSync(folder, { recursive: true, encoding: "utf8" })) {
    const path = join(folder, name)
    const { mtimeMs } = statSync(path)
    utimesSync(path, mtimeMs / 1000 - 60, mtimeMs / 1000 - 60)
  }
}

const writeConfiguration = (
  folder: string,
  ports: { readonly [P in Port]: number },
  certificates: Certificates.Certificates
): void => {
  const etc = join(folder, "etc")
  mkdirSync(join(etc, "sasl"), { recursive: true })
  const files = configuration.files({ folder, ports, client: certificates.client.cert })
  for (const [name, text] of Object.entries(files)) writeFileSync(join(etc, name), text)
  writeFileSync(join(etc, "ca.pem"), certificates.ca.cert)
  for (const [name, { cert, key }] of Object.entries(certificates.server)) {
    writeFileSync(join(etc, `${name}.pem`), key + cert, { mode: 0o600 })
  }
  chmodSync(join(etc, "dump.sh"), 0o755)
  antedate(etc)
}

/** What dump.sh writes: four lines, then the message. */
const parse = (octets: Buffer): Stored => {
  const lines: Array<string> = []
  let at = 0
  for (let n = 0; n < 4; n++) {
    const lf = octets.indexOf(0x0a, at)
    lines.push(octets.subarray(at, lf).toString("utf8"))
    at = lf + 1
  }
  const [id = "", sender = "", recipient = "", username = ""] = lines
  const message = octets.subarray(at)
  const end = endOfTrace(message, ["Received"])
  return {
    id: `${id} ${recipient}`,
    sender,
    recipients: [recipient],
    username: username === "" ? undefined : username,
    trace: message.subarray(0, end).toString("latin1"),
    bytes: message.subarray(end)
  }
}

const make = Effect.gen(function*() {
  const folder = yield* makeFolder("postfix")
  const ports = yield* makePorts(configuration.ports, [host, "127.0.0.3"])
  const certificates = Certificates.make()
  const log = join(folder.path, "mail.log")
  yield* Effect.sync(() => {
    makeQueue(folder.path)
    makePasswords(folder.path)
    writeConfiguration(folder.path, ports, certificates)
  })
  const daemon = yield* makeDaemon({
    folder,
    command: "/usr/lib/postfix/sbin/master",
    args: ["-c", join(folder.path, "etc")],
    host,
    // It opens its ports in the order of master.cf: this is the last one.
    ports: [ports.cnOnly],
    log
  })
  return Postfix.of({
    describe: {
      name: "Postfix",
      version: run("postconf", ["-c", join(folder.path, "etc"), "-h", "mail_version"]).trim()
    },
    host,
    ports,
    ca: certificates.ca.cert,
    accounts,
    client: certificates.client,
    otherClient: certificates.otherClient,
    certificates,
    ...makeStore(readFolders(() => [join(folder.path, "dump")], parse)),
    ...daemon
  })
})

/** A Postfix of its own for the layer's life. A port that was taken meanwhile is tried again. */
export const layer: Layer.Layer<Postfix> = Layer.effect(Postfix, Effect.orDie(Effect.retry(make, { times: 2 })))
