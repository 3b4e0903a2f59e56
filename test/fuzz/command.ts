/** The command encoder: one line, whatever the fields hold, and what it says can be read back. */
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Envelope from "../../src/Envelope.ts"
import * as SmtpCapabilities from "../../src/SmtpCapabilities.ts"
import * as SmtpCommand from "../../src/SmtpCommand.ts"
import { isSmtpError } from "../../src/SmtpError.ts"
import * as SmtpReply from "../../src/SmtpReply.ts"
import { plan } from "../../src/SmtpTransaction.ts"
import { formsOf } from "../support/secrets.ts"
import { address, fields, junk, maybe, text } from "./hostile.ts"
import { check, latin1, type Random, shown } from "./random.ts"
import type { Target } from "./run.ts"

const canary = "hunter2-canary"
const canaryForms = formsOf(canary)
const secretOctets = (random: Random): Uint8Array =>
  new Uint8Array(Buffer.concat([random.octets(20), Buffer.from(canary)].slice(random.below(2))))

const secret = (random: Random): Redacted.Redacted<Uint8Array> => {
  if (random.oneIn(40)) return Redacted.make(new Uint8Array(9000 + random.below(300)))
  const made = Redacted.make(secretOctets(random))
  if (random.oneIn(30)) Redacted.wipeUnsafe(made)
  return made
}

const size = (random: Random): unknown => random.pick([0, 1, 1000, 2 ** 53 - 1, 2 ** 53, -1, 0.5])
const notify = (random: Random): unknown =>
  random.list(random.below(4), () => random.pick(["NEVER", "SUCCESS", "FAILURE", "DELAY", "DELAY\r\n", "delay"]))
const orcpt = (random: Random): unknown => ({
  type: maybe(random, () => random.pick(["rfc822", "utf-8", "UTF-8", "x-400", "-", "a b", "rfc822\r\n"])),
  address: random.oneIn(2) ? address(random) : maybe(random, text)
})
const flag = (random: Random): unknown => random.oneIn(2)

const parameters = (random: Random): unknown =>
  random.oneIn(60) ? junk(random) : fields(random, {
    size,
    body: () => random.pick(["7BIT", "8BITMIME", "BINARYMIME", "8bitmime"]),
    smtpUtf8: flag,
    ret: () => random.pick(["FULL", "HDRS", "full"]),
    envid: text,
    requireTls: flag,
    auth: () => random.oneIn(4) ? "<>" : address(random),
    notify,
    orcpt
  })

/** Any command; nothing holds the caller to its type. */
const commandOf = (random: Random): { readonly _tag: string; readonly [field: string]: unknown } => {
  const tag = random.pick([
    "Ehlo",
    "Helo",
    "Lhlo",
    "Auth",
    "AuthResponse",
    "Mail",
    "Mail",
    "Rcpt",
    "Rcpt",
    "Bdat",
    "Vrfy"
  ])
  const path = () => random.oneIn(20) ? junk(random) : random.oneIn(20) ? "" : address(random)
  switch (tag) {
    case "Ehlo":
    case "Helo":
    case "Lhlo":
      return { _tag: tag, name: random.oneIn(2) ? address(random).split("@").at(-1) : maybe(random, text) }
    case "Auth":
      return {
        _tag: tag,
        mechanism: random.oneIn(3)
          ? maybe(random, text)
          : random.pick(["PLAIN", "X-a", "SCRAM-SHA-256-PLUS", "A".repeat(21)]),
        initialResponse: maybe(random, secret)
      }
    case "AuthResponse":
      return { _tag: tag, response: maybe(random, secret) }
    case "Mail":
      return { _tag: tag, from: path(), parameters: parameters(random) }
    case "Rcpt":
      return { _tag: tag, to: path(), parameters: parameters(random) }
    case "Bdat":
      return { _tag: tag, size: maybe(random, size), last: maybe(random, flag) }
    default: {
      const tags = ["Vrfy", "Expn", "Noop", "Help", "StartTls", "AuthCancel", "Data", "Rset", "Quit"]
      return { _tag: random.pick([...tags, "toString", "__proto__", ""]), text: maybe(random, text) }
    }
  }
}

/** The most octets of a line, CRLF included: RFC 5321, 1870, 6152, 6531, 3461, 8689, 4954. */
const most: { readonly [tag: string]: number } = { Mail: 1192, Rcpt: 1048, Auth: 12_288, AuthResponse: 12_288 }

const unxtext = (encoded: string): string =>
  encoded.replace(
    /\+([0-9A-F]{2})|\\x\{([0-9A-F]+)\}/g,
    (_, a: string | undefined, b: string | undefined) => String.fromCodePoint(Number.parseInt(a ?? b ?? "", 16))
  )

/** Path and parameters of a MAIL or RCPT line. */
const read = (line: string) => {
  const found = /^(?:MAIL FROM|RCPT TO):<((?:"(?:[^"\\]|\\.)*"|[^"<>\s])*)>((?: [A-Z0-9]+(?:=[^\s=]+)?)*)$/.exec(line)
  const words = found?.[2]?.split(" ").slice(1) ?? []
  const values = new Map(words.map((word) => [word.split("=")[0], word.split("=")[1]] as const))
  return found === null ? undefined : { path: found[1]!, values, isOnce: values.size === words.length }
}

type Fields = { readonly [field: string]: unknown }

const isSaid = (word: string | undefined, value: unknown): boolean =>
  word === (value === undefined ? value : String(value))

const orcptSaid = (value: unknown): unknown => {
  const { address, type } = value as { readonly [field: string]: string }
  return `${type};${address}`
}

/** What was asked for is what is said, parameter by parameter. */
const judgePath = (line: string, fields: Fields, path: unknown): void => {
  const said = read(line)
  const wrong = () => `${shown(fields)} goes out as ${shown(line)}`
  if (said === undefined || !said.isOnce) throw new Error(wrong())
  const { values } = said
  const isNull = path === "" && said.path === ""
  const again = isNull ? { recipients: [{ path: "" }] } : Result.getOrThrowWith(
    Envelope.parse({ from: "", to: said.path }),
    () => new Error(`a path that is no path: ${wrong()}`)
  )
  check(again.recipients[0]?.path === said.path, () => `not canonical: ${wrong()}`)
  const isTyped = !/^utf-8;/i.test(values.get("ORCPT") ?? "")
  const encoded = [values.get("ENVID"), values.get("AUTH"), isTyped ? values.get("ORCPT") : undefined]
  // RFC 3461 section 4: "+" and "=" stand for nothing but themselves encoded.
  check(encoded.every((word = "") => word === "<>" || /^(?:[!-*,-<>-~]|\+[0-9A-F]{2})*$/.test(word)), wrong)
  if (values.has("AUTH") && values.get("AUTH") !== "<>") {
    const auth = unxtext(values.get("AUTH")!)
    check(Result.isSuccess(Envelope.parse({ from: auth, to: "a@b.c" })), () => `AUTH=${auth}: ${wrong()}`)
  }
  const { body, envid, notify, orcpt, requireTls, ret, size, smtpUtf8 } = fields
  const isMail = line.startsWith("MAIL")
  const expected = isMail
    ? isSaid(values.get("SIZE"), size) && isSaid(values.get("BODY"), body) && isSaid(values.get("RET"), ret) &&
      values.has("SMTPUTF8") === (smtpUtf8 === true) && values.has("REQUIRETLS") === (requireTls === true) &&
      isSaid(values.has("ENVID") ? unxtext(values.get("ENVID")!) : undefined, envid)
    : isSaid(values.get("NOTIFY"), Array.isArray(notify) ? notify.join(",") : undefined) &&
      isSaid(
        values.has("ORCPT") ? unxtext(values.get("ORCPT")!) : undefined,
        orcpt === undefined ? undefined : orcptSaid(orcpt)
      )
  check(expected, wrong)
}

// oxlint-disable-next-line no-control-regex -- what no line may hold
const unsafe = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]|\p{Cs}/u
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

const judgeLine = (octets: Uint8Array, command: Fields): void => {
  const tag = String(command["_tag"])
  check(latin1(octets).endsWith("\r\n"), () => "no line end")
  const line = utf8.decode(octets.subarray(0, -2))
  check(!unsafe.test(line), () => `${shown(command)} goes out as ${shown(line)}`)
  check(octets.length <= (most[tag] ?? 512), () => `${octets.length} octets: ${shown(line)}`)
  const parameters = (command["parameters"] ?? {}) as Fields
  if (tag === "Mail" || tag === "Rcpt") return judgePath(line, parameters, command["from"] ?? command["to"])
  check(/^[\x20-\x7e]*$/.test(line), () => `not ASCII: ${shown(line)}`)
  if (tag === "Auth" || tag === "AuthResponse") {
    const sent = command["initialResponse"] ?? command["response"]
    const word = tag === "Auth" ? line.split(" ")[2] : line
    const plain = sent === undefined ? undefined : Redacted.value(sent as Redacted.Redacted<Uint8Array>)
    const asked = plain === undefined ? undefined : latin1(plain)
    check(
      (word === undefined ? word : Buffer.from(word, "base64").toString("latin1")) === asked,
      () => "another secret"
    )
  } else if (tag === "Bdat") {
    check(line === `BDAT ${String(command["size"])}${command["last"] === true ? " LAST" : ""}`, () => shown(line))
  } else {
    const [verb, ...rest] = line.split(" ")
    const argument = command["name"] ?? command["text"]
    const isBare = ["StartTls", "AuthCancel", "Data", "Rset", "Quit"].includes(tag) || argument === undefined
    check(verb === (tag === "AuthCancel" ? "*" : tag.toUpperCase()), () => shown(line))
    const same = rest.join(" ").toLowerCase() === String(isBare ? "" : argument).toLowerCase()
    check(same, () => `${shown(command)} goes out as ${shown(line)}`)
  }
}

export const command: Target = {
  name: "command encoder",
  share: 150,
  run: (random) => {
    const given = commandOf(random)
    const typed = given as unknown as SmtpCommand.SmtpCommand
    const encoded = SmtpCommand.encode(typed)
    const rendered = SmtpCommand.render(typed)
    check(typeof SmtpCommand.verb(typed) === "string" || !/^[A-Z]/.test(given._tag), () => "no verb")
    check(!unsafe.test(rendered) && rendered.length <= 2100, () => `${shown(given)} is shown as ${shown(rendered)}`)
    const fault = Result.isFailure(encoded) ? `${encoded.failure.field} ${encoded.failure.detail}` : ""
    for (const word of [rendered, fault]) {
      check(!canaryForms.some((form) => word.includes(form)), () => `a secret in ${shown(word)}`)
    }
    if (Result.isSuccess(encoded)) return judgeLine(encoded.success, given)
    check(fault.length > 3 && !unsafe.test(fault) && fault.length < 400, () => `${shown(given)}: ${shown(fault)}`)
  }
}

const dsn = (random: Random): unknown =>
  random.oneIn(20) ? junk(random) : fields(random, {
    notify: () => random.oneIn(2) ? notify(random) : random.pick(["never", "success, DELAY", "a,b", ","]),
    orcpt: () => random.oneIn(2) ? address(random) : `${random.pick(["rfc822", "utf-8", "x"])};${text(random)}`,
    ret: () => random.pick(["FULL", "hdrs", "x"]),
    envid: text,
    optional: flag
  })

const recipient = (random: Random): unknown =>
  random.oneIn(40)
    ? junk(random)
    : random.oneIn(2)
    ? address(random)
    : { address: address(random), dsn: maybe(random, dsn) }

const inputOf = (random: Random): unknown =>
  random.oneIn(100) ? junk(random) : {
    from: "",
    to: "bob@mx.test",
    ...fields(random, {
      from: address,
      to: () => random.oneIn(2) ? recipient(random) : random.list(1 + random.below(2), () => recipient(random)),
      size,
      use8BitMime: flag,
      smtpUtf8: flag,
      dsn,
      requireTls: flag,
      requireAllRecipients: flag,
      auth: () => random.oneIn(4) ? "<>" : address(random)
    })
  }

const offers = ["8BITMIME", "SMTPUTF8", "DSN", "SIZE", "REQUIRETLS", "AUTH PLAIN", "BINARYMIME", "CHUNKING"]
const everything = SmtpCapabilities.fromReply(SmtpReply.make(250, "mx.test", ...offers))

export const envelope: Target = {
  name: "envelope",
  share: 100,
  run: (random) => {
    const input = inputOf(random)
    const parsed = Envelope.parse(input as Envelope.Input)
    if (Result.isFailure(parsed)) {
      const { attempted, field, message } = parsed.failure
      check(isSmtpError(parsed.failure) && !attempted && field !== undefined, () => shown(message))
      return check(!unsafe.test(message) && message.length < 1000, () => shown(message))
    }
    const made = plan({ envelope: parsed.success, capabilities: everything, trusted: true, content: undefined })
    const { mail, recipients } = Result.getOrThrowWith(made, (error) => new Error(error.message))
    for (const said of [mail, ...recipients.map(({ command }) => command)]) {
      // What was checked once is never refused on the way: there is nobody left to tell.
      const octets = Result.getOrThrowWith(
        SmtpCommand.encode(said),
        ({ detail, field }) => new Error(`${shown(input)} is taken, but not ${shown(said)}: ${field} ${detail}`)
      )
      judgeLine(octets, said as unknown as Fields)
    }
  }
}
