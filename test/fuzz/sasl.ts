/**
 * SASL exchanges with a server that says anything: bounded answers of the right shape, no text of the server and no
 * secret in an error, and no success believed that was not proved.
 */
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as hash from "../../src/internal/hash.ts"
import { digestsOf } from "../../src/internal/sasl/digestMd5.ts"
import { type Algorithm, lengthOf, signaturesOf } from "../../src/internal/sasl/scram.ts"
import * as Sasl from "../../src/Sasl.ts"
import { formsOf } from "../support/secrets.ts"
import { text } from "./hostile.ts"
import { check, fromLatin1, latin1, type Random, shown, utf8 } from "./random.ts"
import type { Target } from "./run.ts"

const nonce = "fyko+d2lbbFgONRv9qkxdawL"
const echo = "server-canary"
const secretCanary = "hunter2-canary"
const secretForms = formsOf(secretCanary)
const isSecret = (text: string): boolean => secretForms.some((form) => text.includes(form))

const words = [
  ["r=", `r=${nonce}`, `r=${nonce}3rfcNHYJY1ZVvWVs7j`, ",s=QSXCR+Q6sek8bf92", ",s=", ",i=4096", ",i=1", ",i=600000"],
  [",i=2147483648"],
  ["m=x,", ",m=x", "e=", "e=other-error", "e=invalid-proof,x=y", "v=", "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=", ",", "="],
  ["x=y"],
  ["realm=\"x\"", "nonce=\"OA6MG9tEQGm2hh\"", "qop=\"auth\"", "qop=\"auth-int\"", "algorithm=md5-sess"],
  ["charset=utf-8"],
  ["rspauth=", "\"", "\\", " ", "\t", "{\"status\":\"400\"", ",\"schemes\":\"Bearer\",\"scope\":\"x\"}", "{", "}"],
  ["[", "null"],
  ["\0", "\x01", "\n", "\xff", "\xc3\xa9", "<1896.697170952@postoffice.test>", "Username:", echo, secretCanary]
].flat()

/** What a server may well say, and what it may not. */
const challengeOf = (random: Random, honest: (random: Random) => string): Uint8Array => {
  switch (random.below(7)) {
    case 0:
      return random.octets(60)
    case 1:
      return fromLatin1(random.text(words, 8))
    case 2:
      return random.oneIn(40) ? fromLatin1(random.pick(words).repeat(random.below(3000))) : new Uint8Array(0)
    case 3:
      return random.mutated(fromLatin1(honest(random)))
    default:
      return fromLatin1(honest(random))
  }
}

interface Credentials {
  readonly username: string
  readonly secret: string
  readonly authorizationId: string | undefined
}

const credentialsOf = (random: Random): Credentials => {
  const isTame = !random.oneIn(3)
  return {
    username: isTame ? random.pick(["ann", "a,b=c", "é", "tim"]) : text(random),
    secret: isTame ? secretCanary : random.pick([text(random), `${secretCanary}${text(random)}`]),
    authorizationId: random.oneIn(3) ? random.pick(["bob", "", "a,b", text(random)]) : undefined
  }
}

const bindings = [undefined, { type: "tls-exporter", data: utf8("exporter") }] as const

const begin = (random: Random, mechanism: Sasl.Mechanism, { authorizationId, secret, username }: Credentials) =>
  mechanism.start({
    username,
    secret: Redacted.make(secret),
    authorizationId,
    host: random.oneIn(20) ? text(random) : "mx.test",
    port: 587,
    nonce: random.oneIn(20) ? text(random) : nonce,
    channelBinding: random.pick(bindings),
    offered: random.pick([undefined, ["PLAIN"], ["scram-sha-256-plus"]])
  })

/** A key as PBKDF2 would give it, which would take a thousand times as long as all the rest. */
const keyFor = (length: number): Uint8Array => new Uint8Array(length).fill(7)

/** A server that knows the password, and asks for what it should or not; it reads what it needs in the client's words. */
const honestServer = (
  random: Random,
  mechanism: Sasl.Mechanism,
  { authorizationId = "", secret, username }: Credentials
) => {
  const said: Array<string> = []
  const algorithm = /^SCRAM-(SHA-\d+)/.exec(mechanism.name)?.[1] as Algorithm | undefined
  const iterations = random.oneIn(4) ? random.pick([1, 4095, 600_000, 600_001, 2 ** 31]) : 4096
  const scramFirst = () => `r=${/r=([^,]*)/.exec(said[0] ?? "")?.[1] ?? ""}xyz,s=QSXCR+Q6sek8bf92,i=${iterations}`
  const scramFinal = () => {
    const bare = (said[0] ?? "").split(",").slice(2).join(",")
    const withoutProof = (said[1] ?? "").replace(/,p=.*$/, "")
    const key = keyFor(lengthOf[algorithm!])
    const { signature } = signaturesOf(algorithm!, key, `${bare},${scramFirst()},${withoutProof}`)
    return `v=${Buffer.from(signature).toString("base64")}`
  }
  const digest = `realm="r",nonce="n",qop="auth",algorithm=md5-sess,charset=utf-8`
  const rspauth = () => {
    const cnonce = /cnonce="((?:[^"\\]|\\.)*)"/.exec(said[0] ?? "")?.[1]?.replace(/\\(.)/g, "$1") ?? ""
    const uri = /digest-uri="((?:[^"\\]|\\.)*)"/.exec(said[0] ?? "")?.[1]?.replace(/\\(.)/g, "$1") ?? ""
    const input = { username, realm: "r", password: secret, nonce: "n", cnonce, uri, authorizationId }
    return `rspauth=${digestsOf(input).rspauth}`
  }
  const next = (): string => {
    if (algorithm !== undefined) return said.length < 2 ? scramFirst() : scramFinal()
    if (mechanism.name === "DIGEST-MD5") return said.length < 1 ? digest : rspauth()
    return mechanism.name === "CRAM-MD5"
      ? "<1896@mx.test>"
      : JSON.stringify({ status: "401", schemes: echo, scope: secret })
  }
  return { said, next }
}

// oxlint-disable-next-line no-control-regex -- what no person may be shown
const unsafe = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]|\p{Cs}/u

const judgeError = ({ _tag, detail, field }: Sasl.SaslError): void => {
  check(_tag === "SaslError" && detail.length > 5 && detail.length <= 250 && !unsafe.test(detail), () => shown(detail))
  check(!detail.includes(echo) && !isSecret(detail), () => `not ours, or secret: ${shown(detail)}`)
  check(field === undefined || /^(?:credentials|context)\.[A-Za-z]+$/.test(field), () => shown(field))
}

const judgeFailure = (failure: Sasl.OAuth2Failure | undefined, secret: string): void => {
  for (const value of [failure?.status, failure?.schemes, failure?.scope]) {
    check(value === undefined || value.length <= 2000 && !unsafe.test(value), () => `oauth2: ${shown(value)}`)
    check(!secret.includes(secretCanary) || value?.includes(secret) !== true, () => `the token in ${shown(value)}`)
  }
}

const kinds = { "SHA-1": 20, "SHA-256": 32, "SHA-512": 64 }

type Settled = Exclude<Sasl.Step, { readonly _tag: "Derive" }>

/** Runs a step to what it says, and judges the key derivations on the way. */
const settled = (step: Result.Result<Sasl.Step, Sasl.SaslError>, challenge: number): Settled | undefined => {
  let current = step
  for (let derivations = 0; Result.isSuccess(current) && current.success._tag === "Derive"; derivations++) {
    const { hash: name, iterations, length, resume, salt } = current.success
    const isBounded = iterations >= Sasl.minIterations && iterations <= Sasl.maxIterations && salt.length <= challenge
    check(isBounded && kinds[name] === length && derivations === 0, () => `${name}, ${iterations} times, ${length}`)
    current = resume(Redacted.make(keyFor(length)))
  }
  if (Result.isSuccess(current)) return current.success as Settled
  judgeError(current.failure)
  return undefined
}

const textOf = (step: Settled | undefined): string | undefined =>
  step?._tag === "Respond" ? latin1(Redacted.value(step.response)) : step?._tag

/** What of the messages can be read without the server: no field can be made out of another. */
const judgeMessage = (mechanism: string, credentials: Credentials, message: string): void => {
  const { authorizationId = "", secret, username } = credentials
  const [name, word] = [latin1(utf8(username)), latin1(utf8(secret))]
  const wrong = () => `${mechanism} says ${shown(message)} for ${shown(credentials)}`
  switch (mechanism) {
    case "PLAIN":
      check(message.split("\0").length === 3, wrong)
      return check(message === `${latin1(utf8(authorizationId))}\0${name}\0${word}`, wrong)
    case "XOAUTH2":
      check(message.split("\x01").length === 4, wrong)
      return check(message === `user=${name}\x01auth=Bearer ${word}\x01\x01`, wrong)
    case "OAUTHBEARER": {
      const fields = message.split("\x01").map((field) => field.replace(/=[^]*/, ""))
      check(fields.join(" ") === "n,a host port auth  ", wrong)
      return check(/^n,a=[^,]+,$/.test(message.split("\x01")[0]!), wrong)
    }
    case "EXTERNAL":
      return check(message === latin1(utf8(authorizationId)), wrong)
    case "ANONYMOUS":
      return check(message === name, wrong)
    default:
      return check(
        !mechanism.startsWith("SCRAM") || /^(?:[ny]|p=[a-z-]+),(?:a=[^,]+)?,n=[^,]+,r=[^,]+$/.test(message),
        wrong
      )
  }
}

interface Exchange {
  readonly mechanism: Sasl.Mechanism
  readonly credentials: Credentials
  readonly server: ReturnType<typeof honestServer>
  session: Sasl.Session
  /** Every challenge was the right one, octet by octet. */
  isHonest: boolean
  /** The last challenge held what only a server that knows the password can say. */
  isShown: boolean
}

/** Both ends have proved that they know the password: SCRAM and DIGEST-MD5 alone ask that of a server. */
const isMutual = ({ name }: Sasl.Mechanism): boolean => name.startsWith("SCRAM") || name === "DIGEST-MD5"

/** One challenge and its answer; false when the exchange is over. */
const advance = (random: Random, exchange: Exchange, at: number): boolean => {
  const { credentials, mechanism, server, session } = exchange
  const isFirst = at === 0 && mechanism.clientFirst
  const right = server.next()
  const challenge = isFirst ? undefined : challengeOf(random, server.next)
  const given = challenge === undefined ? "" : latin1(challenge)
  if (challenge !== undefined && given !== right) exchange.isHonest = false
  const proof = /^(?:v|rspauth)=(.*)$/.exec(right)?.[1]
  exchange.isShown ||= proof !== undefined && given.replace(/["\\]/g, "").includes(proof)
  const step = settled(session.step(challenge), challenge?.length ?? 0)
  const again = settled(session.step(challenge), challenge?.length ?? 0)
  check(textOf(step) === textOf(again), () => `${mechanism.name}: a session is not the same when stepped again`)
  if (step?._tag !== "Respond") return false
  const message = latin1(Redacted.value(step.response))
  const most = 8 * (JSON.stringify(credentials).length + (challenge?.length ?? 0)) + 12_000
  check(message.length <= most, () => `${mechanism.name} says ${message.length} octets`)
  if (isFirst) judgeMessage(mechanism.name, credentials, message)
  if (mechanism.name.startsWith("SCRAM") && server.said.length === 1) {
    const own = /,r=([^,]*)$/.exec(server.said[0]!)?.[1] ?? ""
    check(given.startsWith(`r=${own}`) && !given.startsWith(`r=${own},`), () => `a nonce taken from ${shown(given)}`)
  }
  server.said.push(message)
  exchange.session = step.next
  return true
}

const judgeEnd = ({ credentials, isHonest, isShown, mechanism, server, session }: Exchange): void => {
  const believed = session.finish()
  if (Result.isFailure(believed)) judgeError(believed.failure)
  judgeFailure(session.failure, credentials.secret)
  const enough = isMutual(mechanism) ? (mechanism.clientFirst ? 3 : 2) : mechanism.name === "LOGIN" ? 2 : 1
  const isProved = server.said.length >= enough && (isShown || !isMutual(mechanism))
  check(Result.isFailure(believed) || isProved, () => `${mechanism.name}: success believed after ${shown(server.said)}`)
  const isDue = isHonest && isMutual(mechanism) && server.said.length === enough
  check(Result.isSuccess(believed) || !isDue, () => `${mechanism.name}: proof not believed after ${shown(server.said)}`)
}

/** Base64 of a server: strict, bounded, and nothing else comes out than went in. */
const judgeChallenge = (random: Random): void => {
  const pieces = ["QQ==", "QUI=", "QUJD", "=", " ", "\n", "\0", "A", "-", "_", "é", "\ud800", "R0lG", "A".repeat(4096)]
  const line = random.oneIn(3) ? Buffer.from(random.octets(30)).toString("base64") : random.text(pieces, 5)
  const decoded = Sasl.decodeChallenge(line)
  if (Result.isFailure(decoded)) {
    const isRight = Buffer.from(line, "base64").toString("base64") !== line || line.length > Sasl.maxChallengeLength
    check(isRight, () => `not taken: ${shown(line)}`)
    return judgeError(decoded.failure)
  }
  const again = Redacted.value(Sasl.encodeResponse(Redacted.make(decoded.success)))
  check(again === line && line.length <= Sasl.maxChallengeLength, () => `taken for base64: ${shown(line)}`)
}

export const sasl: Target = {
  name: "SASL steps",
  share: 60,
  run: (random) => {
    judgeChallenge(random)
    const mechanism = random.pick(Sasl.mechanisms)
    const credentials = credentialsOf(random)
    const started = begin(random, mechanism, credentials)
    if (Result.isFailure(started)) return judgeError(started.failure)
    const server = honestServer(random, mechanism, credentials)
    const exchange = { mechanism, credentials, server, session: started.success, isHonest: true, isShown: false }
    judgeEnd(exchange)
    for (let at = 0; at < 8 && advance(random, exchange, at); at++) judgeEnd(exchange)
  }
}

/** Names of mechanisms as a server may offer them, against the policy. */
export const selection: Target = {
  name: "SASL selection",
  share: 10,
  run: (random) => {
    const names = [
      "PLAIN",
      "plain",
      "LOGIN",
      "XOAUTH2",
      "SCRAM-SHA-256",
      "SCRAM-SHA-256-PLUS",
      "CRAM-MD5",
      "DIGEST-MD5"
    ]
    const list = () => random.list(random.below(5), () => random.oneIn(5) ? text(random) : random.pick(names))
    const options: Sasl.SelectOptions = {
      offered: random.oneIn(50) ? random.list(3000, () => echo) : list(),
      credentials: Sasl.password({ username: "ann", password: Redacted.make(secretCanary) }),
      mechanisms: random.oneIn(2) ? undefined : list(),
      minimumMechanism: random.oneIn(4) ? random.pick([...names, text(random)]) : undefined,
      secure: !random.oneIn(3),
      allowInsecureAuth: random.oneIn(3),
      canBind: random.oneIn(2),
      channelBinding: random.pick([undefined, "preferred", "required"])
    }
    const selected = Sasl.select(options)
    const shownAs = () => `${shown(options)} gives ${shown(selected)}`
    if (Result.isFailure(selected)) {
      const { detail } = selected.failure
      return check(detail.length < 5000 && !unsafe.test(detail) && !isSecret(detail), () => shown(detail))
    }
    const has = (among: ReadonlyArray<string>, name: string) => among.some((one) => one.toUpperCase() === name)
    for (const { bindsChannel, isObsolete, kind, name } of selected.success) {
      check(kind === "password" && has(options.offered, name) && has(options.mechanisms ?? [name], name), shownAs)
      check(options.secure || options.allowInsecureAuth, shownAs)
      check(bindsChannel === true ? options.canBind === true : options.channelBinding !== "required", shownAs)
      check(isObsolete !== true || has(options.mechanisms ?? [], name), shownAs)
      const minimum = Sasl.strength.indexOf(options.minimumMechanism?.toUpperCase() ?? "")
      check(options.minimumMechanism === undefined || Sasl.strength.indexOf(name) <= minimum, shownAs)
    }
  }
}

/** The hash of the library is that of Node: a server of the test's own would otherwise prove nothing. */
export const isHashTrue = (): boolean =>
  Buffer.from(hash.hmac("SHA-256", utf8("key"), utf8("The quick brown fox jumps over the lazy dog"))).toString(
    "hex"
  ) ===
    "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8"
