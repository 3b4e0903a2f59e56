/** Inputs that grow, chosen to be as bad as they can be: each has to cost in proportion to its length. */
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as DotStuffing from "../../src/DotStuffing.ts"
import * as Envelope from "../../src/Envelope.ts"
import { withoutEcho } from "../../src/internal/echo.ts"
import * as protocol from "../../src/node/proxyProtocol.ts"
import * as Sasl from "../../src/Sasl.ts"
import * as SmtpCapabilities from "../../src/SmtpCapabilities.ts"
import * as SmtpCommand from "../../src/SmtpCommand.ts"
import { classify } from "../../src/SmtpError.ts"
import * as SmtpReply from "../../src/SmtpReply.ts"
import { fromLatin1, utf8 } from "./random.ts"
import { counted } from "./work.ts"

/** Makes the input of a size, outside the measurement, and gives what is measured. */
export type Growing = (size: number) => () => void

export interface Family {
  readonly name: string
  /** The first of three sizes, each twice the one before. */
  readonly size: number
  readonly make: Growing
}

const whole = (octets: Uint8Array): ReadonlyArray<Uint8Array> => [octets]
const single = (octets: Uint8Array): ReadonlyArray<Uint8Array> => Array.from(octets, (octet) => Uint8Array.of(octet))
const cuts = { whole, "octet by octet": single }

const families = (
  names: { readonly [name: string]: readonly [size: number, make: Growing] }
): ReadonlyArray<Family> => Object.entries(names).map(([name, [size, make]]) => ({ name, size, make }))

const replies = Object.entries(cuts).flatMap(([how, cut]) => {
  const decode = (textOf: (size: number) => string): Growing => (size) => {
    const parts = cut(fromLatin1(textOf(size))).map(counted)
    return () => {
      const decoder = SmtpReply.makeDecoder()
      for (const part of parts) decoder.push(part, (reply) => SmtpReply.render(reply))
    }
  }
  return families({
    [`a reply of one line, ${how}`]: [4000, decode((size) => `250 ${"x".repeat(size - 4)}\r\n`)],
    [`a line without an end, ${how}`]: [10_000, decode((size) => `250 ${"x".repeat(size)}`)],
    [`a reply of many lines, ${how}`]: [120, decode((size) => "250-x\r\n".repeat(size))],
    [`many replies, ${how}`]: [500, decode((size) => "250 ok\r\n".repeat(size))],
    [`CRs, ${how}`]: [4000, decode((size) => `250 ${"\r".repeat(size)}\r\n`)],
    [`controls to escape, ${how}`]: [4000, decode((size) => `250 ${"\x1b".repeat(size)}\r\n`)]
  })
})

const capabilities = (lines: (size: number) => ReadonlyArray<string>): Growing => (size) => {
  const reply = SmtpReply.make(250, "mx.test", ...lines(size))
  return () => void SmtpCapabilities.fromReply(reply)
}

const encode = (command: (text: string) => unknown, text: (size: number) => string): Growing => (size) => {
  const made = command(text(size)) as SmtpCommand.SmtpCommand
  return () => {
    SmtpCommand.encode(made)
    SmtpCommand.render(made)
  }
}
const path = (from: string) => ({ _tag: "Mail", from, parameters: {} })
const word = (text: string) => ({ _tag: "Vrfy", text })
const secret = (text: string) => ({ _tag: "AuthResponse", response: Redacted.make(utf8(text)) })
const envid = (text: string) => ({ _tag: "Mail", from: "", parameters: { envid: text } })
const orcpt = (address: string) => ({ _tag: "Rcpt", to: "a@b.c", parameters: { orcpt: { type: "utf-8", address } } })

const commands = families({
  "a local part of dots": [200, encode(path, (size) => `${"a.".repeat(size / 2)}@b.c`)],
  "a quoted local part": [200, encode(path, (size) => `"${"\\=".repeat(size / 2)}@b.c`)],
  "a quoted local part that ends": [200, encode(path, (size) => `"${"\\a".repeat(size / 2)}"@b.c`)],
  "beginnings of encoded words": [200, encode(path, (size) => `${"=?".repeat(size / 2)}@b.c`)],
  "halves of encoded words": [200, encode(path, (size) => `${"=?b?".repeat(size / 4)}@b.c`)],
  "a domain of hyphens": [50, encode(path, (size) => `a@b${"-".repeat(size)}`)],
  "a domain of labels": [50, encode(path, (size) => `a@${"b.".repeat(size / 2)}!`)],
  "a domain of digits": [50, encode(path, (size) => `a@${"1.".repeat(size / 2)}1`)],
  "an address literal": [200, encode(path, (size) => `a@[IPv6:${"1:".repeat(size / 2)}]`)],
  "a literal of dots": [200, encode(path, (size) => `a@[${"1.".repeat(size / 2)}]`)],
  "at signs": [200, encode(path, (size) => "@".repeat(size))],
  "a text": [4000, encode(word, (size) => "x".repeat(size))],
  "a text of controls": [4000, encode(word, (size) => `${"x".repeat(size)}\n`)],
  "a text of signs": [4000, encode(word, (size) => "é".repeat(size))],
  "a secret": [4000, encode(secret, (size) => "x".repeat(size))],
  "an envelope identifier": [4000, encode(envid, (size) => "+".repeat(size))],
  "an original recipient": [4000, encode(orcpt, (size) => "é".repeat(size))],
  "many recipients": [100, (size) => () => {
    Envelope.parse({ from: "", to: Array.from({ length: size }, (_, at) => `user${at}@b.c`) })
  }],
  "many notifications": [500, (size) => () => {
    Envelope.parse({ from: "", to: "a@b.c", dsn: { notify: "DELAY,".repeat(size) } })
  }]
})

const offers = families({
  "one keyword on many lines": [120, capabilities((size) => Array.from({ length: size }, () => "AUTH PLAIN"))],
  "many keywords": [120, capabilities((size) => Array.from({ length: size }, (_, at) => `X${at} a b c`))],
  "many mechanisms": [2000, capabilities((size) => [`AUTH ${"PLAIN LOGIN ".repeat(size)}`])],
  "many different mechanisms": [
    500,
    capabilities((size) => [`AUTH ${Array.from({ length: size }, (_, at) => `M${at}`).join(" ")}`])
  ],
  "AUTH and spaces": [4000, capabilities((size) => [`AUTH${" ".repeat(size)}PLAIN`])],
  "a keyword that nearly ends": [4000, capabilities((size) => [`${"A-".repeat(size)}!`])],
  "digits of a size": [4000, capabilities((size) => [`SIZE ${"1".repeat(size)}x`])]
})

const messages = Object.entries({
  dots: ".",
  CRs: "\r",
  LFs: "\n",
  "dotted lines": "\r\n.x",
  text: "x",
  "8-bit text": "\xe9"
})
  .flatMap(([what, unit]) =>
    Object.entries(cuts).flatMap(([how, cut]) => {
      const make = (run: (parts: ReadonlyArray<Uint8Array>) => void): Growing => (size) => {
        const parts = cut(fromLatin1(unit.repeat(size))).map(counted)
        return () => run(parts)
      }
      return families({
        [`encoding ${what}, ${how}`]: [
          how === "whole" ? 3000 : 500,
          make((parts) => {
            const encoder = DotStuffing.makeEncoder()
            for (const part of parts) encoder.push(part)
            encoder.end()
          })
        ],
        [`decoding ${what}, ${how}`]: [
          how === "whole" ? 3000 : 500,
          make((parts) => {
            const decoder = DotStuffing.makeDecoder()
            for (const part of parts) decoder.push(part)
          })
        ]
      })
    })
  )

const nonce = "fyko+d2lbbFgONRv9qkxdawL"
const password = Redacted.make("pencil")
const given = { host: "mx.test", port: 587, nonce, authorizationId: undefined }

/** A mechanism up to the challenge that is of interest. */
const challenged = (name: string, said: number, challenge: (size: number) => string): Growing => (size) => {
  const mechanism = Sasl.mechanisms.find((one) => one.name === name)!
  let session = Result.getOrThrow(mechanism.start({ ...given, username: "tim", secret: password }))
  for (let at = 0; at < said; at++) {
    const step = Result.getOrThrow(session.step(at === 0 ? undefined : new Uint8Array(0)))
    if (step._tag === "Respond") session = step.next
  }
  const octets = utf8(challenge(size))
  return () => void session.step(octets)
}

const started = (name: string, username: (size: number) => string): Growing => (size) => {
  const mechanism = Sasl.mechanisms.find((one) => one.name === name)!
  const text = username(size)
  return () =>
    void Result.flatMap(
      mechanism.start({ ...given, username: text, secret: Redacted.make(text) }),
      (session) => session.step(undefined)
    )
}

const exchanges = families({
  "SCRAM extensions": [
    500,
    challenged("SCRAM-SHA-256", 1, (size) => `r=${nonce}x,s=QSXC,i=4096${",x=y".repeat(size / 2)}`)
  ],
  "a salt": [800, challenged("SCRAM-SHA-256", 1, (size) => `r=${nonce}x,s=${"QUJD".repeat(size / 4)},i=4096`)],
  "a nonce": [800, challenged("SCRAM-SHA-256", 1, (size) => `r=${nonce}${"x".repeat(size)},s=QSXC,i=4096`)],
  "commas": [800, challenged("SCRAM-SHA-256", 1, (size) => ",".repeat(size))],
  "digits of iterations": [800, challenged("SCRAM-SHA-256", 1, (size) => `r=${nonce}x,s=QSXC,i=${"1".repeat(size)}x`)],
  "directives": [400, challenged("DIGEST-MD5", 0, (size) => "a=b,".repeat(size / 4))],
  "one directive again and again": [300, challenged("DIGEST-MD5", 0, (size) => "qop=\"auth\",".repeat(size / 8))],
  "spaces between directives": [400, challenged("DIGEST-MD5", 0, (size) => `${" ".repeat(size)}a`)],
  "spaces behind a directive": [400, challenged("DIGEST-MD5", 0, (size) => `a=b${" ".repeat(size)}x`)],
  "spaces around =": [400, challenged("DIGEST-MD5", 0, (size) => `a${" ".repeat(size / 2)}=${" ".repeat(size / 2)}`)],
  "a name without value": [400, challenged("DIGEST-MD5", 0, (size) => "a".repeat(size))],
  "a quoted value without end": [400, challenged("DIGEST-MD5", 0, (size) => `a="${"\\\"".repeat(size / 2)}`)],
  "an error of OAuth": [700, challenged("XOAUTH2", 1, (size) => `{"status":"${"x".repeat(size)}","scope":"\u202e"}`)],
  "base64": [3000, (size) => () => void Sasl.decodeChallenge("QUJD".repeat(size / 4))],
  "a name to prepare": [500, started("SCRAM-SHA-256", (size) => "é".repeat(size))],
  "a name to escape": [500, started("SCRAM-SHA-256", (size) => "=,".repeat(size))],
  "a name that mixes directions": [500, started("SCRAM-SHA-256", (size) => `\u05d0${"é".repeat(size)}`)],
  "a name in PLAIN": [500, started("PLAIN", (size) => "é".repeat(size))],
  "names offered": [500, (size) => () => {
    const offered = Array.from({ length: size }, (_, at) => `MECHANISM-${at}`)
    const credentials = Sasl.password({ username: "tim", password })
    Sasl.select({ offered, credentials, secure: true, allowInsecureAuth: false })
  }]
})

const proxies = Object.entries(cuts).flatMap(([how, cut]) => {
  const hear = (answer: (size: number) => string): Growing => (size) => {
    const parts = cut(fromLatin1(answer(size))).map(counted)
    const http = {
      protocol: "http",
      secure: false,
      resolves: true,
      host: "p",
      port: 80,
      credentials: undefined
    } as const
    return () => {
      const exchange = protocol.begin(http, { text: "mx.test", octets: undefined }, 25)
      for (const part of parts) exchange.push(part)
    }
  }
  return families({
    [`a status line, ${how}`]: [2000, hear((size) => `HTTP/1.1 200 ${"x".repeat(size)}\r\n\r\n`)],
    [`a field, ${how}`]: [2000, hear((size) => `HTTP/1.1 200 ok\r\n${"x".repeat(size)}`)],
    [`many fields, ${how}`]: [1000, hear((size) => `HTTP/1.1 200 ok\r\n${"a\r\n".repeat(size)}`)],
    [`interim answers, ${how}`]: [100, hear((size) => "HTTP/1.1 100 go on\r\n\r\n".repeat(size))],
    [`octets behind the head, ${how}`]: [3000, hear((size) => `HTTP/1.1 200 ok\r\n\r\n${"x".repeat(size)}`)]
  })
})

const echoes = families({
  "a reply that may echo a secret": [3000, (size) => {
    const reply = SmtpReply.make(535, "hunter".repeat(size / 6))
    const sent = [Redacted.make(utf8("\0ann\0hunter2-and-some-more-of-it"))]
    return () =>
      void withoutEcho(reply, { secret: Redacted.make("hunter2-and-some-more-of-it"), sent, username: "ann" })
  }],
  "a reply in a message": [3000, (size) => {
    const reply = SmtpReply.make(550, "\u202e".repeat(size))
    return () => void classify({ _tag: "Refused", reply }, { stage: "MAIL" })
  }]
})

export const all: ReadonlyArray<Family> = [replies, echoes, offers, commands, messages, exchanges, proxies].flat()
