/** The real servers of the harness as subjects of the contract suite, each with what it is declared to be. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as NodeConnector from "../../src/node/NodeConnector.ts"
import * as Sasl from "../../src/Sasl.ts"
import type { SmtpConnector } from "../../src/SmtpConnector.ts"
import {
  alice,
  assertOctets,
  type Described,
  type Doors,
  type Lacks,
  type Login,
  type Options,
  passwordOf,
  type Profile,
  type Store,
  Subject
} from "../support/contract/subject.ts"
import {
  Dovecot,
  Postfix,
  recipients as fates,
  type Server,
  SmtpServerNpm,
  SmtpSink,
  type Store as Kept
} from "./servers/index.ts"

export type Target = Layer.Layer<Subject | SmtpConnector>

const target = <R, E>(make: Effect.Effect<Described, E, R>, server: Layer.Layer<R>): Target =>
  Layer.mergeAll(Layer.effect(Subject, Effect.orDie(make)).pipe(Layer.provide(server)), NodeConnector.layer)

const isFor = (recipient: string) => (mail: { readonly recipients: ReadonlyArray<string> }) =>
  mail.recipients.includes(recipient)

const storeOf = ({ awaitStored, stored }: Kept): Store => ({
  check: (recipient, expected) =>
    Effect.map(awaitStored(isFor(recipient)), ([mail]) => {
      assertOctets(mail?.bytes ?? new Uint8Array(0), expected)
    }),
  has: (recipient) => Effect.map(stored, (mails) => mails.some(isFor(recipient)))
})

const equals = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0

/** A store that does not tell +details apart and has a message before its reply: each is taken once, by its octets. */
const storeByOctets = ({ stored }: Kept): Store => {
  const taken = new Set<string>()
  return {
    check: (_, expected) =>
      Effect.map(stored, (mails) => {
        const left = mails.filter(({ id }) => !taken.has(id))
        const mail = left.find(({ bytes }) => equals(bytes, expected))
        if (mail === undefined) assertOctets(left.at(-1)?.bytes ?? new Uint8Array(0), expected)
        else taken.add(mail.id)
      }),
    has: (_, message) => Effect.map(stored, (mails) => mails.some(({ bytes }) => equals(bytes, message)))
  }
}

const makeMailbox = () => {
  let count = 0
  return (tag: string) => `alice+${tag}-${++count}@mx.test`
}

const passwords = ({ accounts }: Pick<Server<string>, "accounts">): ReadonlyArray<Login> => [
  { credentials: passwordOf("alice@mx.test", "secret") },
  ...accounts.map(({ password, username }) => ({ credentials: passwordOf(username, password) }))
]

const common = (server: Kept & Pick<Server<string>, "accounts" | "describe">) => ({
  version: `${server.describe.name} ${server.describe.version}`,
  account: alice,
  mailbox: makeMailbox(),
  stored: storeOf(server),
  logins: () => passwords(server)
})

const noSuchPort: Lacks = { lacks: "not on this port: ETLS" }
const greetsAll: Lacks = { lacks: "greets everybody" }
const stays: Lacks = { lacks: "stays" }
const noTls: Lacks = { lacks: "no TLS" }

const postfixKeywords = [
  "8BITMIME",
  "CHUNKING",
  "DSN",
  "ENHANCEDSTATUSCODES",
  "ETRN",
  "PIPELINING",
  "SIZE",
  "SMTPUTF8",
  "VRFY"
]
const cyrusMechanisms = [
  "CRAM-MD5",
  "DIGEST-MD5",
  "LOGIN",
  "PLAIN",
  "SCRAM-SHA-1",
  "SCRAM-SHA-224",
  "SCRAM-SHA-256",
  "SCRAM-SHA-384",
  "SCRAM-SHA-512"
]

const sorted = (...words: ReadonlyArray<string>): ReadonlyArray<string> => words.toSorted()

const postfixProfile: Profile = {
  protocol: "smtp",
  extended: true,
  offers: { clear: sorted(...postfixKeywords, "STARTTLS"), secure: postfixKeywords },
  sizeLimit: 52_428_800,
  mechanisms: { clear: [], secure: [] },
  withoutLogin: "accepted",
  judgesCredentials: true,
  replies: { vrfy: 252, expn: 500, help: 500 }
}

const postfixRecipients: Described["recipients"] = {
  refused: { address: fates.reject, code: 550 },
  deferred: { address: fates.defer, code: 450 },
  closing: { address: fates.disc421, code: 421 },
  atData: { address: fates.notNow, code: 451 },
  afterData: { address: fates.bigData, code: 552 }
}

const secured = (server: Pick<Server<string>, "ca" | "host">, port: number): Options => ({
  host: server.host,
  servername: "mx.test",
  port,
  tls: "starttls",
  tlsOptions: { ca: server.ca }
})

const postfixCertificates = (server: Postfix.Service): Doors["badCertificates"] => [
  { door: secured(server, server.ports.expired), because: "CERT_HAS_EXPIRED" },
  { door: secured(server, server.ports.notYet), because: "CERT_NOT_YET_VALID" },
  { door: secured(server, server.ports.wrongHost), because: "ERR_TLS_CERT_ALTNAME_INVALID" },
  { door: secured(server, server.ports.selfSigned), because: "DEPTH_ZERO_SELF_SIGNED_CERT" },
  { door: secured(server, server.ports.untrusted), because: "UNABLE_TO_VERIFY_LEAF_SIGNATURE" },
  { door: secured(server, server.ports.noChain), because: "UNABLE_TO_VERIFY_LEAF_SIGNATURE" },
  {
    door: { ...secured(server, server.ports.cnOnly), servername: "127.0.0.1" },
    because: "ERR_TLS_CERT_ALTNAME_INVALID"
  },
  {
    door: { ...secured(server, server.ports.chain), servername: "other.example" },
    because: "ERR_TLS_CERT_ALTNAME_INVALID"
  },
  { door: { ...secured(server, server.ports.smtp), tlsOptions: {} }, because: "SELF_SIGNED_CERT_IN_CHAIN" }
]

/** One port of Postfix, with what differs from port 25. */
const postfix = (
  port: Postfix.Port,
  profile: Partial<Profile> = {},
  doors: (server: Postfix.Service) => Partial<Doors> = () => ({})
): Target =>
  target(
    Effect.map(Postfix.Postfix, (server): Described => ({
      ...common(server),
      profile: { ...postfixProfile, ...profile },
      recipients: postfixRecipients,
      doors: {
        main: secured(server, server.ports[port]),
        implicit: noSuchPort,
        badCertificates: postfixCertificates(server),
        refusesInGreeting: greetsAll,
        closesAtData: stays,
        limited: { door: secured(server, server.ports.small), limit: Postfix.smallSize, then: 552 },
        ...doors(server)
      }
    })),
    Postfix.layer
  )

const withAuth: Partial<Profile> = {
  offers: { clear: sorted(...postfixKeywords, "STARTTLS"), secure: sorted(...postfixKeywords, "AUTH") },
  mechanisms: { clear: [], secure: cyrusMechanisms }
}

/** The ports of Postfix, by what they are. */
export const postfixes: Readonly<Record<string, Target>> = {
  "Postfix, submission": postfix(
    "submission",
    { ...withAuth, withoutLogin: { tag: "EENVELOPE", code: 554 } },
    (server) => ({ implicit: { ...secured(server, server.ports.smtps), tls: "implicit" } })
  ),
  "Postfix, port 25": postfix("smtp"),
  "Postfix, AUTH= and TLS 1.2": postfix("legacyAuth", {
    ...withAuth,
    offers: { clear: sorted(...postfixKeywords, "AUTH", "STARTTLS"), secure: sorted(...postfixKeywords, "AUTH") },
    mechanisms: { clear: cyrusMechanisms, secure: cyrusMechanisms }
  }),
  "Postfix, no PIPELINING": postfix("noPipelining", {
    offers: {
      clear: sorted("8BITMIME", "DSN", "ENHANCEDSTATUSCODES", "ETRN", "SIZE", "SMTPUTF8", "STARTTLS", "VRFY"),
      secure: ["8BITMIME", "DSN", "ENHANCEDSTATUSCODES", "ETRN", "SIZE", "SMTPUTF8", "VRFY"]
    }
  }),
  "Postfix, strict": postfix("strict", { recipientLimit: 5 }),
  "Postfix, SIZE alone": postfix("minimal", { offers: { clear: ["SIZE"], secure: undefined } }, (server) => ({
    main: { host: server.host, port: server.ports.minimal, tls: "off" },
    badCertificates: noTls
  }))
}

const sinkKeywords = ["8BITMIME", "AUTH", "DSN", "ENHANCEDSTATUSCODES", "PIPELINING", "XCLIENT", "XFORWARD"]
const sinkMechanisms = ["LOGIN", "PLAIN"]

const sinkProfile = (protocol: "smtp" | "lmtp"): Profile => ({
  protocol,
  extended: true,
  offers: { clear: sinkKeywords, secure: undefined },
  sizeLimit: undefined,
  mechanisms: { clear: sinkMechanisms, secure: [] },
  withoutLogin: "accepted",
  judgesCredentials: { lacks: "answers 250 in place of 235: EPROTOCOL" },
  replies: { vrfy: 250, expn: 500, help: 500 }
})

const sink = (
  port: SmtpSink.Port,
  protocol: "smtp" | "lmtp",
  profile: Partial<Profile> = {},
  doors: (door: (port: SmtpSink.Port) => Options) => Pick<Doors, "closesAtData" | "refusesInGreeting">,
  recipients: (door: (port: SmtpSink.Port) => Options) => Partial<Described["recipients"]> = () => ({})
): Target =>
  target(
    Effect.map(SmtpSink.SmtpSink, (server): Described => {
      const door = (name: SmtpSink.Port): Options => ({
        host: server.host,
        port: server.ports[name],
        tls: "off",
        protocol,
        allowInsecureAuth: true
      })
      const accepts = (address: string): Lacks => ({ lacks: "accepts every recipient", address })
      return {
        ...common(server),
        stored: port === "dump" || port === "lmtpDump" ? storeOf(server) : { lacks: "keeps nothing" },
        profile: { ...sinkProfile(protocol), ...profile },
        recipients: {
          refused: accepts(fates.reject),
          deferred: accepts(fates.defer),
          closing: accepts(fates.disc421),
          atData: accepts(fates.notNow),
          afterData: accepts(fates.bigData),
          ...recipients(door)
        },
        doors: {
          main: door(port),
          implicit: noSuchPort,
          badCertificates: noTls,
          limited: { lacks: "no SIZE" },
          ...doors(door)
        }
      }
    }),
    SmtpSink.layer
  )

const sinkFaults = {
  doors: (door: (port: SmtpSink.Port) => Options) => ({
    refusesInGreeting: door("busy"),
    closesAtData: door("dropData")
  }),
  recipients: (door: (port: SmtpSink.Port) => Options): Partial<Described["recipients"]> => ({
    refused: { address: "refused@mx.test", code: 500, forAll: true, door: door("refuseRcpt") },
    closing: { address: "closing@mx.test", code: 421, forAll: true, door: door("close421") },
    afterData: { address: "after@mx.test", code: 450, forAll: true, door: door("deferDot") }
  })
}
const sinkPeaceful = () => ({ refusesInGreeting: greetsAll, closesAtData: stays })

/** The ports of smtp-sink, by what they are. */
export const sinks: Readonly<Record<string, Target>> = {
  "smtp-sink": sink("dump", "smtp", {}, sinkFaults.doors, sinkFaults.recipients),
  "smtp-sink, LMTP": sink("lmtpDump", "lmtp", {}, sinkPeaceful),
  "smtp-sink, HELO only": sink(
    "heloOnly",
    "smtp",
    { extended: false, offers: { clear: [], secure: undefined }, mechanisms: { clear: [], secure: [] } },
    sinkPeaceful
  ),
  "smtp-sink, no PIPELINING": sink(
    "noPipelining",
    "smtp",
    { offers: { clear: sinkKeywords.filter((word) => word !== "PIPELINING"), secure: undefined } },
    sinkPeaceful
  )
}

const npmKeywords = ["8BITMIME", "AUTH", "PIPELINING", "SIZE", "SMTPUTF8"]
const npmMechanisms = ["CRAM-MD5", "LOGIN", "PLAIN", "XOAUTH2"]

const npmProfile = (protocol: "smtp" | "lmtp"): Profile => ({
  protocol,
  extended: true,
  offers: { clear: sorted(...npmKeywords, "STARTTLS"), secure: npmKeywords },
  sizeLimit: 52_428_800,
  mechanisms: { clear: npmMechanisms, secure: npmMechanisms },
  withoutLogin: "accepted",
  judgesCredentials: true,
  replies: { vrfy: 252, expn: 500, help: 214 }
})

const npm = (
  protocol: "smtp" | "lmtp",
  port: SmtpServerNpm.Port,
  implicit: SmtpServerNpm.Port,
  profile: Partial<Profile>
) =>
  target(
    Effect.map(SmtpServerNpm.SmtpServerNpm, (server): Described => {
      const door = (name: SmtpServerNpm.Port): Options => ({ ...secured(server, server.ports[name]), protocol })
      return {
        ...common(server),
        logins: (mechanism) =>
          mechanism === "XOAUTH2"
            ? [{ credentials: Sasl.oauth2({ username: "alice", token: Redacted.make(server.token("alice")) }) }]
            : passwords(server),
        profile: { ...npmProfile(protocol), ...profile },
        recipients: {
          ...postfixRecipients,
          atData: { lacks: "refuses earlier or later", address: fates.notNow },
          afterData: { address: fates.bigData, code: 552, forAll: true }
        },
        doors: {
          main: door(port),
          implicit: { ...door(implicit), tls: "implicit" },
          badCertificates: [
            { door: { ...door(port), servername: "other.example" }, because: "ERR_TLS_CERT_ALTNAME_INVALID" },
            { door: { ...door(port), tlsOptions: {} }, because: "UNABLE_TO_VERIFY_LEAF_SIGNATURE" }
          ],
          refusesInGreeting: greetsAll,
          closesAtData: stays,
          limited: protocol === "lmtp"
            ? { door: door("lmtp"), limit: 52_428_800, then: 552 }
            : { door: door("small"), limit: 100_000, then: 552 }
        }
      }
    }),
    SmtpServerNpm.layer
  )

/** smtp-server, the npm package. */
export const npms: Readonly<Record<string, Target>> = {
  "smtp-server (npm)": npm("smtp", "submission", "smtps", { withoutLogin: { tag: "ENOAUTH", code: 530 } }),
  "smtp-server (npm), LMTP": npm("lmtp", "lmtp", "lmtps", {})
}

const dovecotKeywords = ["8BITMIME", "AUTH", "BURL", "CHUNKING", "ENHANCEDSTATUSCODES", "PIPELINING", "SIZE"]
const dovecotMechanisms = {
  clear: ["CRAM-MD5", "DIGEST-MD5", "EXTERNAL", "SCRAM-SHA-1", "SCRAM-SHA-256"],
  secure: [
    "CRAM-MD5",
    "DIGEST-MD5",
    "EXTERNAL",
    "LOGIN",
    "OAUTHBEARER",
    "PLAIN",
    "SCRAM-SHA-1",
    "SCRAM-SHA-256",
    "XOAUTH2"
  ]
}
const lmtpKeywords = ["8BITMIME", "CHUNKING", "ENHANCEDSTATUSCODES", "PIPELINING"]

const dovecotSubmission: Profile = {
  protocol: "smtp",
  extended: true,
  offers: { clear: sorted(...dovecotKeywords, "STARTTLS"), secure: dovecotKeywords },
  sizeLimit: 52_428_800,
  mechanisms: dovecotMechanisms,
  withoutLogin: { tag: "ENOAUTH", code: 530 },
  judgesCredentials: true,
  replies: { vrfy: 501, expn: 500, help: 500 }
}

const dovecotLmtp: Profile = {
  ...dovecotSubmission,
  protocol: "lmtp",
  offers: { clear: sorted(...lmtpKeywords, "STARTTLS"), secure: lmtpKeywords },
  sizeLimit: undefined,
  mechanisms: { clear: [], secure: [] },
  withoutLogin: "accepted"
}

const dovecotLogins = (server: Dovecot.Service, door: Options) => (mechanism: string): ReadonlyArray<Login> => {
  if (mechanism === "XOAUTH2" || mechanism === "OAUTHBEARER") {
    return [{ credentials: Sasl.oauth2({ username: "alice", token: Redacted.make(server.token("alice")) }) }]
  }
  if (mechanism !== "EXTERNAL") return passwords(server)
  const { cert, key } = server.client
  const shown = { ...door, tlsOptions: { ...door.tlsOptions, cert, key: Redacted.make(key) } }
  return [{ credentials: Sasl.external(), door: shown }]
}

const dovecotRecipients: Described["recipients"] = {
  refused: { address: fates.reject, code: 550 },
  deferred: { lacks: "defers as the final reply" },
  closing: { lacks: "does not" },
  atData: { lacks: "refuses earlier or later" },
  afterData: { address: fates.defer, code: 451 }
}

const dovecot = (protocol: "smtp" | "lmtp", port: Dovecot.Port, implicit: Dovecot.Port): Target =>
  target(
    Effect.map(Dovecot.Dovecot, (server): Described => {
      const door = (name: Dovecot.Port): Options => ({ ...secured(server, server.ports[name]), protocol })
      const main = door(port)
      return {
        ...common(server),
        ...(protocol === "lmtp" ? { stored: storeByOctets(server) } : {}),
        logins: dovecotLogins(server, main),
        profile: protocol === "lmtp" ? dovecotLmtp : dovecotSubmission,
        recipients: protocol === "lmtp"
          ? dovecotRecipients
          : { ...postfixRecipients, atData: { lacks: "refuses earlier or later", address: fates.notNow } },
        doors: {
          main,
          implicit: { ...door(implicit), tls: "implicit" },
          badCertificates: [
            { door: { ...main, servername: "other.example" }, because: "ERR_TLS_CERT_ALTNAME_INVALID" },
            { door: { ...main, tlsOptions: {} }, because: "SELF_SIGNED_CERT_IN_CHAIN" }
          ],
          refusesInGreeting: greetsAll,
          closesAtData: stays,
          limited: protocol === "lmtp"
            ? { lacks: "no SIZE" }
            : { door: { ...main, auth: alice }, limit: 52_428_800, then: 552, atLimit: 552 }
        }
      }
    }),
    Dovecot.layer
  )

/** Dovecot, by protocol. */
export const dovecots: Readonly<Record<string, Target>> = {
  "Dovecot, submission": dovecot("smtp", "submission", "submissions"),
  "Dovecot, LMTP": dovecot("lmtp", "lmtp", "lmtps")
}
