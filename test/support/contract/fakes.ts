/** The fake servers as subjects of the contract suite: in memory, and on loopback with real sockets and real TLS. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { makeCertificate } from "../../../src/node/certificate.ts"
import * as NodeConnector from "../../../src/node/NodeConnector.ts"
import * as NodeSmtpServer from "../../../src/node/NodeSmtpServer.ts"
import * as Sasl from "../../../src/Sasl.ts"
import { SmtpConnector } from "../../../src/SmtpConnector.ts"
import { ESOCKET } from "../../../src/SmtpError.ts"
import * as SmtpServer from "../../../src/testing/SmtpServer.ts"
import {
  accounts,
  alice,
  assertOctets,
  type Described,
  type Login,
  passwordOf,
  type Profile,
  type Store,
  Subject
} from "./subject.ts"

/** What the special recipients of the fake get, by local part: at RCPT, at DATA or BDAT, as the final reply. */
const fates = {
  refused: SmtpServer.reply(550, "5.1.1 no such mailbox"),
  deferred: SmtpServer.reply(450, "4.2.1 mailbox busy"),
  closing: SmtpServer.reply(421, "4.3.2 going down"),
  atData: SmtpServer.reply(451, "4.3.0 not now"),
  afterData: SmtpServer.reply(552, "5.3.4 not that")
}

const fateOf = (path: string, ...among: ReadonlyArray<string>) => {
  const local = path.split("@", 1)[0]
  return Object.entries(fates).find(([name]) => name === local && among.includes(name))?.[1]
}

const firstFate = (paths: ReadonlyArray<string>, ...among: ReadonlyArray<string>) =>
  paths.map((path) => fateOf(path, ...among)).find((answer) => answer !== undefined)

const respond = (protocol: "smtp" | "lmtp"): SmtpServer.Respond => ({
  rcpt: ({ path = "" }) => fateOf(path, "refused", "deferred", "closing"),
  data: (_, { to }) => firstFate(to, "atData"),
  message: ({ message, recipient }) =>
    firstFate(protocol === "lmtp" ? [recipient ?? ""] : message?.to ?? [], "atData", "afterData")
})

const sizeLimit = 52_428_800
const smallLimit = 100_000
const token = "token-of-alice"
const special = (name: keyof typeof fates) => ({ address: `${name}@fake.test`, code: fates[name].code })

const everything = ["8BITMIME", "AUTH", "CHUNKING", "DSN", "ENHANCEDSTATUSCODES", "HELP", "PIPELINING", "REQUIRETLS"]

/** The fake speaks whatever the client does. */
const mechanisms = Sasl.mechanisms.map(({ name }) => name)

const profile = (protocol: "smtp" | "lmtp"): Profile => ({
  protocol,
  extended: true,
  offers: {
    clear: [...everything.filter((word) => word !== "AUTH" && word !== "REQUIRETLS"), "SIZE", "SMTPUTF8", "STARTTLS"],
    secure: [...everything, "SIZE", "SMTPUTF8"]
  },
  sizeLimit,
  mechanisms: { clear: [], secure: mechanisms.toSorted() },
  withoutLogin: { tag: "ENOAUTH", code: 530 },
  judgesCredentials: true,
  replies: { vrfy: 252, expn: 502, help: 214 }
})

const recipients: Described["recipients"] = {
  refused: special("refused"),
  deferred: special("deferred"),
  closing: special("closing"),
  atData: special("atData"),
  afterData: special("afterData")
}

const script = (protocol: "smtp" | "lmtp"): SmtpServer.Script => ({
  protocol,
  accounts: { ...accounts, oauth: token },
  requireAuth: true,
  extensions: { auth: mechanisms },
  respond: respond(protocol)
})

const small = (protocol: "smtp" | "lmtp"): SmtpServer.Script => ({
  ...script(protocol),
  extensions: { auth: mechanisms, size: smallLimit }
})

const closing = (protocol: "smtp" | "lmtp"): SmtpServer.Script => ({
  ...script(protocol),
  faults: [SmtpServer.at("data", SmtpServer.drop), SmtpServer.at("bdat", SmtpServer.drop)]
})

/** A server of before 1995: HELO, no TLS, and every recipient is right. */
const bareProfile: Profile = {
  protocol: "smtp",
  extended: false,
  offers: { clear: [], secure: undefined },
  sizeLimit: undefined,
  mechanisms: { clear: [], secure: [] },
  withoutLogin: "accepted",
  judgesCredentials: { lacks: "no AUTH" },
  replies: { vrfy: 252, expn: 502, help: 214 }
}

const nobodyRefused: Described["recipients"] = {
  refused: { lacks: "accepts every recipient", address: special("refused").address },
  deferred: { lacks: "accepts every recipient", address: special("deferred").address },
  closing: { lacks: "accepts every recipient", address: special("closing").address },
  atData: { lacks: "accepts every recipient", address: special("atData").address },
  afterData: { lacks: "accepts every message", address: special("afterData").address }
}

const bareScript: SmtpServer.Script = {
  implicitTls: false,
  extensions: { startTls: false, size: false },
  respond: { ehlo: () => SmtpServer.reply(502, "5.5.1 what is EHLO?") }
}

const logins = (mechanism: string): ReadonlyArray<Login> => {
  if (mechanism === "ANONYMOUS") return [{ credentials: Sasl.anonymous({ trace: "contract" }) }]
  if (mechanism === "XOAUTH2" || mechanism === "OAUTHBEARER") {
    return [{ credentials: Sasl.oauth2({ username: "oauth", token: Redacted.make(token) }) }]
  }
  return mechanism === "EXTERNAL"
    ? [{ credentials: Sasl.external({ authorizationId: "alice" }) }, { credentials: Sasl.external() }]
    : Object.entries(accounts).map(([username, password]) => ({ credentials: passwordOf(username, password) }))
}

const storeOf = ({ awaitReceived, received }: Pick<SmtpServer.Records, "awaitReceived" | "received">): Store => {
  const check = (recipient: string, expected: Uint8Array): Effect.Effect<void> =>
    Effect.flatMap(received, (messages) => {
      const found = messages.find(({ to }) => to.includes(recipient))
      return found === undefined
        ? Effect.andThen(awaitReceived(messages.length + 1), check(recipient, expected))
        : Effect.sync(() => assertOctets(found.body, expected))
    })
  return {
    check,
    has: (recipient) => Effect.map(received, (messages) => messages.some(({ to }) => to.includes(recipient)))
  }
}

type Records = Parameters<typeof storeOf>[0]

const common = (records: Records): Pick<Described, "account" | "logins" | "mailbox" | "stored"> => {
  let count = 0
  return {
    account: alice,
    logins,
    mailbox: (tag) => `${tag}-${++count}@fake.test`,
    stored: storeOf(records)
  }
}

const noImplicit = { lacks: "no such port: ETLS" }
const busy: SmtpServer.Script = { greeting: SmtpServer.reply(421, "4.3.2 too busy") }

/** Several fakes in memory, by port: a connector that dials the one meant. */
const network = Effect.fnUntraced(function*(scripts: Readonly<Record<number, SmtpServer.Script>>) {
  const servers = new Map<number, Context.Context<SmtpConnector | SmtpServer.SmtpServer>>()
  for (const [port, one] of Object.entries(scripts)) {
    servers.set(Number(port), yield* Layer.build(SmtpServer.layer(one)))
  }
  const connector = SmtpConnector.of({
    resolve: (endpoint) => Effect.succeed([{ ...endpoint, address: "127.0.0.1" }]),
    connect: (target) => {
      const server = servers.get(target.port)
      return server === undefined
        ? Effect.fail(new ESOCKET({ message: `CONN: nobody listens on ${target.port}`, command: "CONN" }))
        : Context.get(server, SmtpConnector).connect(target)
    },
    localName: "client.test"
  })
  return { connector, records: Context.get(servers.get(25)!, SmtpServer.SmtpServer) }
})

const inMemory = (protocol: "smtp" | "lmtp") =>
  Effect.gen(function*() {
    const { connector, records } = yield* network({
      25: script(protocol),
      465: script(protocol),
      2501: { ...script(protocol), tls: { authorized: false } },
      2502: { ...busy, protocol },
      2503: small(protocol),
      2504: closing(protocol)
    })
    const main = { host: "mx.test", port: 25, tls: "starttls", protocol } as const
    const because = "DEPTH_ZERO_SELF_SIGNED_CERT"
    const subject = Subject.of({
      ...common(records),
      profile: profile(protocol),
      recipients,
      version: "in memory",
      doors: {
        main,
        implicit: { ...main, port: 465, tls: "implicit" },
        badCertificates: [{ door: { ...main, port: 2501 }, because }],
        refusesInGreeting: { ...main, port: 2502 },
        closesAtData: { ...main, port: 2504, auth: alice },
        limited: { door: { ...main, port: 2503, auth: alice }, limit: smallLimit, then: 552 }
      }
    })
    return Context.make(Subject, subject).pipe(Context.add(SmtpConnector, connector))
  })

/** The fake in memory with all it can do, over SMTP or LMTP. */
export const memory = (protocol: "smtp" | "lmtp"): Layer.Layer<Subject | SmtpConnector> =>
  Layer.effectContext(inMemory(protocol))

/** The fake in memory as a server that knows HELO alone. */
export const bare: Layer.Layer<Subject | SmtpConnector> = Layer.effectContext(Effect.gen(function*() {
  const { connector, records } = yield* network({ 25: bareScript })
  const subject = Subject.of({
    ...common(records),
    profile: bareProfile,
    recipients: nobodyRefused,
    version: "in memory",
    doors: {
      main: { host: "mx.test", port: 25, tls: "off" },
      implicit: noImplicit,
      badCertificates: { lacks: "no TLS" },
      refusesInGreeting: { lacks: "greets everybody" },
      closesAtData: { lacks: "stays" },
      limited: { lacks: "no SIZE" }
    }
  })
  return Context.make(Subject, subject).pipe(Context.add(SmtpConnector, connector))
}))

const otherCa = makeCertificate({ commonName: "Other CA" })
const ca = makeCertificate({ commonName: "Contract CA" })
const certificate = (name: string, options: Partial<Parameters<typeof makeCertificate>[0]> = {}) => {
  const { cert, key } = makeCertificate({ commonName: name, altNames: [`DNS:${name}`], issuer: ca, ...options })
  return { cert, key: Redacted.make(key) }
}

const listening = (options: NodeSmtpServer.Options) =>
  Effect.map(Layer.build(NodeSmtpServer.layerLoopback(options)), Context.get(NodeSmtpServer.NodeSmtpServer))

const onLoopback = (protocol: "smtp" | "lmtp") =>
  Effect.gen(function*() {
    const offering = (tls: NodeSmtpServer.Options["tls"], more: NodeSmtpServer.Options = {}) =>
      listening({ script: script(protocol), tls, ...more })
    const good = certificate("localhost")
    const server = yield* offering(good)
    const implicit = yield* offering(good, { implicitTls: true })
    const expired = yield* offering(certificate("localhost", { notAfter: new Date("2021-01-01T00:00:00Z") }))
    const wrongHost = yield* offering(certificate("wrong.test"))
    const untrusted = yield* offering(certificate("localhost", { issuer: otherCa }))
    const refusing = yield* listening({ script: { ...busy, protocol } })
    const cutting = yield* listening({ script: closing(protocol), tls: good })
    const limited = yield* listening({ script: small(protocol), tls: good })
    const main = {
      host: "127.0.0.1",
      servername: "localhost",
      port: server.port,
      tls: "starttls",
      tlsOptions: { ca: ca.cert },
      protocol
    } as const
    return Subject.of({
      ...common(server),
      profile: profile(protocol),
      recipients,
      version: "on a port",
      doors: {
        main,
        implicit: { ...main, port: implicit.port, tls: "implicit" },
        badCertificates: [
          { door: { ...main, port: expired.port }, because: "CERT_HAS_EXPIRED" },
          { door: { ...main, port: wrongHost.port }, because: "ERR_TLS_CERT_ALTNAME_INVALID" },
          { door: { ...main, port: untrusted.port }, because: "UNABLE_TO_VERIFY_LEAF_SIGNATURE" }
        ],
        refusesInGreeting: { ...main, port: refusing.port },
        closesAtData: { ...main, port: cutting.port, auth: alice },
        limited: { door: { ...main, port: limited.port, auth: alice }, limit: smallLimit, then: 552 }
      }
    })
  })

/** The fake on ports of this host, over SMTP or LMTP. */
export const loopback = (protocol: "smtp" | "lmtp"): Layer.Layer<Subject | SmtpConnector> =>
  Layer.mergeAll(Layer.effect(Subject, onLoopback(protocol)), NodeConnector.layer)
