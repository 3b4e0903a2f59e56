/** The answers of a proxy: the same in every split, bounded, and each octet behind them kept. */
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as protocol from "../../src/node/proxyProtocol.ts"
import { parse } from "../../src/node/proxyUrl.ts"
import { formsOf } from "../support/secrets.ts"
import { address, text } from "./hostile.ts"
import { check, fromLatin1, latin1, type Random, shown, utf8 } from "./random.ts"
import type { Target } from "./run.ts"

const words = [
  ["HTTP/1.1 200 Connection established", "HTTP/1.0 200", "HTTP/1.1 100 Continue"],
  ["HTTP/1.1 407 Proxy Authentication Required"],
  ["HTTP/1.1 503 no \x1b[2J", "HTTP/2 200", "HTTP/1.1 101", "\r\n", "\r\n", "\r\n\r\n", "\n", "\r", "Via: x\r\n"],
  ["a: b\r\n\r\n"],
  ["220 mx.test ESMTP\r\n", " ", "\0", "\xff", "\x05\x00", "\x05\x02", "\x05\xff", "\x01\x00", "\x01\x01"],
  ["\x05\x00\x00\x01", "\x05\x05\x00"],
  ["\x7f\x00\x00\x01\x04\x38", "\x00\x5a", "\x00\x5b", "\x00\x5a\x04\x38\x7f\x00\x00\x01", "\x03\x04test\x00\x19"],
  ["\x04", "\x05"]
].flat()

const secretForms = formsOf("canary")
const isSecret = (said: string): boolean => secretForms.some((form) => said.includes(form))

const credentials = { username: Redacted.make("ann"), password: Redacted.make("hunter2-canary") }

const proxyOf = (random: Random): protocol.Proxy => ({
  protocol: random.pick(["http", "socks5", "socks4"]),
  secure: false,
  resolves: true,
  host: "proxy.test",
  port: 1080,
  credentials: random.pick([undefined, credentials])
})

const answerOf = (random: Random, { protocol: spoken }: protocol.Proxy): Uint8Array => {
  if (random.oneIn(5)) return random.octets(40)
  if (random.oneIn(200)) {
    return fromLatin1(`HTTP/1.1 200 ok\r\n${"a".repeat(protocol.maxHeadLength - 30 + random.below(20))}\r\n\r\nrest`)
  }
  const begun = {
    http: ["HTTP/1.1 200 ok\r\n", "HTTP/1.1 502 no\r\n"],
    socks5: ["\x05\x00", "\x05\x02\x01\x00"],
    socks4: ["\x00\x5a"]
  }
  const said = (random.oneIn(2) ? random.pick(begun[spoken]) : "") + random.text(words, 6)
  return random.oneIn(3) ? random.mutated(fromLatin1(said)) : fromLatin1(said)
}

interface Heard {
  readonly tag: string
  readonly detail: string
  readonly writes: string
  readonly rest: string
  /** Octets pushed when it was over, or when it wrote. */
  readonly turns: ReadonlyArray<number>
}

const hear = (exchange: protocol.Exchange, parts: ReadonlyArray<Uint8Array>): Heard => {
  let heard: Heard = { tag: "Waiting", detail: "", writes: latin1(exchange.opening), rest: "", turns: [] }
  let pushed = 0
  for (const part of parts) {
    const progress = exchange.push(part)
    pushed += part.length
    if (progress._tag === "Waiting") {
      check(heard.tag === "Waiting", () => "an answer that is over waits again")
      const isWriting = progress.write.length > 0
      heard = {
        ...heard,
        writes: heard.writes + latin1(progress.write),
        turns: isWriting ? [...heard.turns, pushed] : heard.turns
      }
    } else {
      const rest = progress._tag === "Connected" ? latin1(progress.rest) : ""
      const detail = progress._tag === "Failed" ? progress.detail : ""
      check(heard.tag === "Waiting" || heard.tag === progress._tag && heard.detail === detail, () => "decided twice")
      heard = { ...heard, tag: progress._tag, detail, rest: heard.rest + rest }
    }
  }
  return heard
}

/** The octets cut at least where the client has its turn. */
const cut = (random: Random, octets: Uint8Array, turns: ReadonlyArray<number>): ReadonlyArray<Uint8Array> =>
  [0, ...turns].flatMap((from, index) => random.parts(octets.subarray(from, turns[index] ?? octets.length)))

// oxlint-disable-next-line no-control-regex -- what no person may be shown
const unsafe = /[\u0000-\u001f\u007f-\u009f\u202a-\u202e]/

const judgeRequest = (proxy: protocol.Proxy, destination: protocol.Destination, { writes }: Heard): void => {
  if (proxy.protocol !== "http") return check(writes.length < 600, () => shown(writes))
  const at = protocol.authority(destination, 25)
  const lines = [`CONNECT ${at} HTTP/1.1`, `Host: ${at}`]
  if (proxy.credentials !== undefined) lines.push(`Proxy-Authorization: Basic ${btoa("ann:hunter2-canary")}`)
  check(writes === [...lines, "", ""].join("\r\n"), () => shown(writes))
  check(/^[\x21-\x7e]+$/.test(at), () => shown(at))
}

export const proxy: Target = {
  name: "proxy answers",
  share: 90,
  run: (random) => {
    const destination = protocol.destinationOf(random.oneIn(2) ? "mx.test" : address(random).split("@").at(-1)!)
    if (destination === undefined) return
    check(/^[a-z0-9_.:%-]{1,254}$/.test(destination.text), () => `taken for a host: ${shown(destination)}`)
    const given = proxyOf(random)
    const answer = answerOf(random, given)
    const begin = () => protocol.begin(given, destination, 25)
    const heard = hear(begin(), Array.from(answer, (octet) => Uint8Array.of(octet)))
    const { detail, rest, tag } = heard
    check(detail.length < 1600 && !unsafe.test(detail) && !isSecret(detail), () => shown(detail))
    check(latin1(answer).endsWith(rest), () => `${shown(rest)} is not what stands behind ${shown(answer)}`)
    judgeRequest(given, destination, heard)
    const again = hear(begin(), cut(random, answer, heard.turns))
    check(
      JSON.stringify(again) === JSON.stringify(heard),
      () => `${given.protocol}: ${shown(answer)} is ${shown(heard)} octet by octet, else ${shown(again)}`
    )
    // Whoever answers what it was not asked yet has not read the question.
    const whole = hear(begin(), [answer])
    const isEarly = heard.turns.some((turn) => turn < answer.length)
    check(isEarly ? whole.tag === "Failed" : whole.tag === tag && whole.rest === rest, () => `at once: ${shown(whole)}`)
    if (given.protocol === "http" && tag === "Connected") {
      const head = latin1(answer.subarray(0, answer.length - rest.length))
      check(head.length <= protocol.maxHeadLength && /^HTTP\/1\.[01] [^]*\r\n\r\n$/.test(head), () => shown(head))
    }
  }
}

/** The URL of a proxy: taken whole, or refused in words that hold nothing of it. */
export const proxyUrl: Target = {
  name: "proxy URL",
  share: 40,
  run: (random) => {
    const part = (tame: ReadonlyArray<string>) => random.oneIn(3) ? text(random) : random.pick(tame)
    const scheme = part(["http://", "https://", "socks5://", "socks4a://"])
    const user = random.oneIn(2)
      ? ""
      : `${part(["ann", "a%40b", "%zz"])}:${part(["hunter2-canary", "%0d%0a", "x".repeat(300)])}@`
    const url = `${scheme}${user}${part(["proxy.test", "[::1]", "1.2.3.4"])}${part(["", ":8080", ":0", "/"])}`
    const parsed = parse(random.oneIn(2) ? url : Redacted.make(url))
    if (Result.isFailure(parsed)) {
      const { field, message } = parsed.failure
      return check(field === "url" && !unsafe.test(message) && !isSecret(message), () => shown(message))
    }
    const { credentials: said, host, port } = parsed.success
    check(/^[a-z0-9_.:%-]{1,254}$/.test(host) && port > 0 && port < 65_536, () => shown(parsed))
    const secret = said === undefined ? "" : Redacted.value(said.username) + Redacted.value(said.password)
    check(!/\p{Cc}/u.test(secret), () => `taken: ${shown(url)}`)
    const opening = protocol.begin(parsed.success, { text: "mx.test", octets: undefined }, 25).opening
    check(opening.length < 100 + 5 * utf8(secret).length, () => shown(opening))
  }
}
