/**
 * DKIM (RFC 6376) over Nodemailer's signer. The signature stands in front of the body that it covers, so a body made of
 * streams is read twice: hashed, then sent. It is never held, neither in memory nor in a file. The second reading is
 * hashed too: a source that gave something else fails the message before its end is sent.
 */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import { ECONFIG, EMESSAGE } from "../../SmtpError.ts"
import { isHostName } from "../mailbox.ts"
import { type Checked, list, type Loose, record } from "./checks.ts"
import type { Dkim } from "./model.ts"
import type { Peer } from "./peer.ts"

type Key = Pick<Dkim, "domainName" | "keySelector" | "privateKey" | "headerFieldNames" | "skipFields">

const problem = (field: string, text: string): ECONFIG =>
  new ECONFIG({ message: `dkim.${field} ${text}`, command: "API", attempted: false, field: `dkim.${field}` })

const refuse = (field: string, text: string): Result.Result<never, ECONFIG> => Result.fail(problem(field, text))

const hostName = (fields: Loose, field: string): Checked<string> => {
  const value = fields[field]
  return typeof value === "string" && isHostName(value)
    ? Result.succeed(value)
    : refuse(field, "must be a DNS name in ASCII")
}

const names = (fields: Loose, field: string): Checked<ReadonlyArray<string> | undefined> =>
  fields[field] === undefined
    ? Result.succeed(undefined)
    : list(`dkim.${field}`, fields[field], (_, u) =>
      typeof u === "string" && /^[!-9<-~]+$/.test(u)
        ? Result.succeed(u.toLowerCase())
        : refuse(field, "must hold names of header fields"))

/** Checks the options. RFC 6376 §5.4: From has to be signed. */
export const parse = (u: unknown): Checked<Key> =>
  Result.gen(function*() {
    const fields = yield* record("dkim", u, [
      "domainName",
      "keySelector",
      "privateKey",
      "headerFieldNames",
      "skipFields"
    ])
    const { privateKey } = fields
    if (!Redacted.isRedacted(privateKey) || typeof Redacted.value(privateKey) !== "string") {
      return yield* refuse("privateKey", "must be Redacted.make(pem)")
    }
    const headerFieldNames = yield* names(fields, "headerFieldNames")
    const skipFields = yield* names(fields, "skipFields")
    if (headerFieldNames?.includes("from") === false) return yield* refuse("headerFieldNames", "must hold From")
    if (skipFields?.includes("from") === true) return yield* refuse("skipFields", "must not hold From")
    return {
      domainName: yield* hostName(fields, "domainName"),
      keySelector: yield* hostName(fields, "keySelector"),
      privateKey: privateKey as Redacted.Redacted<string>,
      headerFieldNames,
      skipFields
    }
  })

/** One character per octet. */
const binary = (octets: Uint8Array): string => Array.from(octets, (octet) => String.fromCharCode(octet)).join("")

/** The fields of a header, unfolded as the signer wants them: with their line breaks. */
const linesOf = (head: Uint8Array): Array<{ key: string; line: string }> =>
  binary(head).trimEnd().split(/\r\n(?![ \t])/).map((line) => ({
    key: line.slice(0, line.indexOf(":")).trim().toLowerCase(),
    line
  }))

/** The signature's header field, with its line end. A key that cannot sign is an `ECONFIG`. */
export const sign = (peer: Peer, key: Key, head: Uint8Array, bodyHash: string): Effect.Effect<Uint8Array, ECONFIG> =>
  Effect.suspend(() => {
    const field = peer.sign(linesOf(head), "sha256", bodyHash, {
      domainName: key.domainName,
      keySelector: key.keySelector,
      privateKey: Redacted.value(key.privateKey),
      headerFieldNames: key.headerFieldNames?.join(":"),
      skipFields: key.skipFields?.join(":")
    })
    return field === false
      ? Effect.fail(problem("privateKey", "cannot sign: it must be an RSA private key in PEM, without a passphrase"))
      : Effect.succeed(new TextEncoder().encode(`${field}\r\n`))
  })

interface Hasher {
  readonly write: (chunk: Uint8Array) => Effect.Effect<void>
  readonly end: Effect.Effect<string>
}

const makeHasher = (peer: Peer): Hasher => {
  const body = new peer.RelaxedBody({ hashAlgo: "sha256" })
  let hash = ""
  body.on("hash", (value: string) => {
    hash = value
  })
  body.resume()
  return {
    write: (chunk) =>
      Effect.callback<void>((resume) => {
        body.write(chunk, () => resume(Effect.void))
      }),
    end: Effect.callback<string>((resume) => {
      body.end(() => resume(Effect.succeed(hash)))
    })
  }
}

/** The hash of a body, relaxed. */
export const hash = <E, R>(peer: Peer, body: Stream.Stream<Uint8Array, E, R>): Effect.Effect<string, E, R> =>
  Effect.suspend(() => {
    const hasher = makeHasher(peer)
    return Effect.andThen(Stream.runForEach(body, hasher.write), hasher.end)
  })

const changed = new EMESSAGE({
  message: "message: a stream in it gave other octets than when it was hashed, so its DKIM signature is wrong; " +
    "a message that is signed is read twice, and has to be the same twice",
  command: "DATA",
  field: "dkim"
})

/** The body once more: it fails at its end unless it has the hash. */
export const verified = <E, R>(
  peer: Peer,
  body: Stream.Stream<Uint8Array, E, R>,
  expected: string
): Stream.Stream<Uint8Array, E | EMESSAGE, R> =>
  Stream.suspend(() => {
    const hasher = makeHasher(peer)
    const check = Effect.flatMap(hasher.end, (found) => found === expected ? Effect.void : Effect.fail(changed))
    return Stream.concat(Stream.tap(body, hasher.write), Stream.fromEffectDrain(check))
  })
