/**
 * SCRAM-SHA-1, SCRAM-SHA-256 and SCRAM-SHA-512 and their -PLUS forms (RFC 5802, RFC 7677), the client's side.
 */
import * as Base64 from "effect/encoding/Base64"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as hash from "../hash.ts"
import * as model from "./model.ts"
import { saslprep } from "./saslprep.ts"

export type Algorithm = "SHA-1" | "SHA-256" | "SHA-512"

/** RFC 7677 §4: with fewer, whoever hears the exchange guesses the password cheaply. */
export const minIterations = 4096
/** More would let a server keep this machine busy at will. */
export const maxIterations = 600_000
/** Longest message of a server, in octets; real ones have some hundreds. */
const maxMessage = 4096

/** Octets of a key. */
export const lengthOf: { readonly [K in Algorithm]: number } = { "SHA-1": 20, "SHA-256": 32, "SHA-512": 64 }

const known: ReadonlyArray<Algorithm> = ["SHA-512", "SHA-256", "SHA-1"]
const plusNames = known.map((algorithm) => `SCRAM-${algorithm}-PLUS`)

/** What both ends compute of the salted password and the words of the exchange (RFC 5802 §3). */
export const signaturesOf = (algorithm: Algorithm, salted: Uint8Array, authMessage: string) => {
  const said = model.utf8(authMessage)
  const clientKey = hash.hmac(algorithm, salted, model.utf8("Client Key"))
  const clientSignature = hash.hmac(algorithm, hash.hash(algorithm, clientKey), said)
  const serverKey = hash.hmac(algorithm, salted, model.utf8("Server Key"))
  return {
    /** ClientKey XOR ClientSignature. */
    proof: clientKey.map((octet, at) => octet ^ clientSignature[at]!),
    signature: hash.hmac(algorithm, serverKey, said)
  }
}

/** The errors of RFC 5802 §7; others are not repeated. */
const errors: ReadonlyArray<string> = [
  "invalid-encoding",
  "extensions-not-supported",
  "invalid-proof",
  "channel-bindings-dont-match",
  "server-does-support-channel-binding",
  "channel-binding-not-supported",
  "unsupported-channel-binding-type",
  "unknown-user",
  "invalid-username-encoding",
  "no-resources",
  "other-error"
]

/** One exchange: what does not change in it. */
interface Exchange {
  readonly algorithm: Algorithm
  readonly password: Redacted.Redacted<string>
  readonly nonce: string
  /** client-first-message-bare. */
  readonly bare: string
  /** The GS2 header, and the channel binding behind it. */
  readonly header: string
  readonly binding: Uint8Array
}

const read = (challenge: Uint8Array | undefined): Result.Result<string, model.SaslError> => {
  if (challenge === undefined) return model.fail("SCRAM has no second initial response")
  if (challenge.length > maxMessage) return model.fail(`the server's message is longer than ${maxMessage} octets`)
  const text = model.textOf(challenge)
  if (text === undefined) return model.fail("the server's message is not UTF-8")
  if (!text.startsWith("e=")) return Result.succeed(text)
  const error = errors.find((name) => text === `e=${name}` || text.startsWith(`e=${name},`))
  return model.fail(`the server ended SCRAM with ${error === undefined ? "an unknown error" : `the error ${error}`}`)
}

interface ServerFirst {
  readonly text: string
  readonly nonce: string
  readonly salt: Uint8Array
  readonly iterations: number
}

const readFirst = (text: string, clientNonce: string): Result.Result<ServerFirst, model.SaslError> => {
  const [r = "", s = "", i = "", ...extensions] = text.split(",")
  if (text.startsWith("m=") || extensions.some((extension) => extension.startsWith("m="))) {
    return model.fail("the server wants an extension of SCRAM that is not known here")
  }
  const isWellFormed = /^r=[!-+\x2d-~]+$/.test(r) && /^s=./.test(s) && /^i=[1-9][0-9]*$/.test(i) &&
    extensions.every((extension) => /^[A-Za-z]=./.test(extension))
  const salt = isWellFormed ? model.fromBase64(s.slice(2)) : undefined
  if (salt === undefined) return model.fail("the server's first message of SCRAM is malformed")
  const [nonce, iterations] = [r.slice(2), Number(i.slice(2))]
  if (!nonce.startsWith(clientNonce) || nonce.length === clientNonce.length) {
    return model.fail("the server's nonce does not extend ours")
  }
  if (iterations < minIterations) {
    return model.fail(`the server asks for ${iterations} iterations; fewer than ${minIterations} protect no password`)
  }
  return iterations > maxIterations
    ? model.fail(`the server asks for ${iterations} iterations; more than ${maxIterations} are not run`)
    : Result.succeed({ text, nonce, salt, iterations })
}

/** Waits for the server to prove that it knows the password too. */
const proven = (signature: Uint8Array): model.Session => ({
  step: (challenge) =>
    Result.flatMap(read(challenge), (text) => {
      const [verifier = "", ...extensions] = text.split(",")
      const given = verifier.startsWith("v=") ? model.fromBase64(verifier.slice(2)) : undefined
      if (given === undefined || extensions.some((extension) => !/^[A-Za-z]=./.test(extension))) {
        return model.fail("the server's last message of SCRAM is malformed: it holds no signature")
      }
      return hash.timingSafeEqual(given, signature)
        ? model.respond(new Uint8Array(0), model.ended)
        : model.fail("the server's signature is wrong: it does not know the password, or somebody stands between")
    }),
  finish: () => model.fail("the server reported success without its SCRAM signature: it may not know the password")
})

const final = (exchange: Exchange, first: ServerFirst, key: Redacted.Redacted<Uint8Array>) => {
  const binding = Base64.encode(model.concat(model.utf8(exchange.header), exchange.binding))
  const withoutProof = `c=${binding},r=${first.nonce}`
  const authMessage = `${exchange.bare},${first.text},${withoutProof}`
  const { proof, signature } = signaturesOf(exchange.algorithm, Redacted.value(key), authMessage)
  return model.respond(model.utf8(`${withoutProof},p=${Base64.encode(proof)}`), proven(signature))
}

const challenged = (exchange: Exchange): model.Session => ({
  step: (challenge) =>
    Result.map(
      Result.flatMap(read(challenge), (text) => readFirst(text, exchange.nonce)),
      (first): model.Step => ({
        _tag: "Derive",
        hash: exchange.algorithm,
        password: exchange.password,
        salt: first.salt,
        iterations: first.iterations,
        length: lengthOf[exchange.algorithm],
        resume: (key) => final(exchange, first, key)
      })
    ),
  finish: model.early
})

const begin = (exchange: Exchange): model.Session => ({
  step: () => model.respond(model.utf8(exchange.header + exchange.bare), challenged(exchange)),
  finish: model.early
})

/** RFC 5802 §6: "y" tells a server that does bind, and whose offer was taken out on the way, that something is wrong. */
const flagOf = ({ channelBinding, offered }: model.Start, bound: model.ChannelBinding | undefined): string => {
  if (bound !== undefined) return `p=${bound.type}`
  if (channelBinding === undefined || offered === undefined) return "n"
  return offered.some((name) => plusNames.includes(name.toUpperCase())) ? "n" : "y"
}

const prepare = (field: string, text: string, kind: "query" | "stored") =>
  Result.mapError(
    saslprep(text, kind),
    (detail): model.SaslError => ({ _tag: "SaslError", detail: `${field} ${detail}`, field })
  )

const start = (algorithm: Algorithm, isPlus: boolean) => (input: model.Start) => {
  const bound = isPlus ? input.channelBinding : undefined
  if (isPlus && bound === undefined) {
    return model.fail(`SCRAM-${algorithm}-PLUS needs a channel binding; give context.channelBinding`)
  }
  if (!/^[!-+\x2d-~]+$/.test(input.nonce)) {
    return model.fail("context.nonce must be printable ASCII without comma and space", "context.nonce")
  }
  return Result.gen(function*() {
    yield* model.checked([...model.authorizationTexts(input), ...model.passwordTexts(input)], () => model.ended)
    const username = yield* prepare("credentials.username", input.username, "query")
    const password = yield* prepare("credentials.password", Redacted.value(input.secret), "stored")
    const identity = input.authorizationId ? `a=${model.saslName(input.authorizationId)}` : ""
    return begin({
      algorithm,
      password: Redacted.make(password),
      nonce: input.nonce,
      bare: `n=${model.saslName(username)},r=${input.nonce}`,
      header: `${flagOf(input, bound)},${identity},`,
      binding: bound?.data ?? new Uint8Array(0)
    })
  })
}

const make = (algorithm: Algorithm, isPlus: boolean): model.Mechanism => ({
  name: `SCRAM-${algorithm}${isPlus ? "-PLUS" : ""}`,
  kind: "password",
  isPlaintext: false,
  clientFirst: true,
  bindsChannel: isPlus,
  start: start(algorithm, isPlus)
})

/** The strongest first: bound to the channel, then by hash. */
export const mechanisms: ReadonlyArray<model.Mechanism> = [true, false].flatMap((isPlus) =>
  known.map((algorithm) => make(algorithm, isPlus))
)
