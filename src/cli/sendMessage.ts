/**
 * What `send` sends, and to whom: the message of a file, of standard input or of flags, and the envelope of the flags.
 */
import * as Argument from "effect/cli/Argument"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import type { PlatformError } from "effect/PlatformError"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"
import { basename } from "node:path"
import * as Envelope from "../Envelope.ts"
import { replayableLike } from "../internal/message.ts"
import * as Message from "../Message.ts"
import type * as SmtpConnection from "../SmtpConnection.ts"
import type { EMESSAGE } from "../SmtpError.ts"
import { escape, ExitCode, Failure } from "./frame.ts"
import { readFile } from "./frameConnection.ts"

const texts = (name: string, metavar: string, description: string): Flag.Flag<ReadonlyArray<string>> =>
  Flag.String(name).pipe(Flag.withMetavar(metavar), Flag.withDescription(description), Flag.atLeast(0))

const text = (name: string, metavar: string, description: string): Flag.Flag<Option.Option<string>> =>
  Flag.String(name).pipe(Flag.withMetavar(metavar), Flag.withDescription(description), Flag.optional)

const toggle = (name: string, description: string): Flag.Flag<boolean> =>
  Flag.Boolean(name).pipe(Flag.withDescription(description), Flag.withDefault(false))

/** Where the message comes from. */
export const messageFlags = {
  message: Argument.String("message").pipe(
    Argument.withDescription("File with the message, header fields and all; \"-\" or none: standard input"),
    Argument.optional
  ),
  file: text("file", "file", "The same as a flag"),
  subject: text("subject", "text", "Compose: the subject"),
  text: text("text", "text", "Compose: the plain text"),
  html: text("html", "text", "Compose: the HTML"),
  attach: texts("attach", "file", "Compose: attach this file; may be repeated")
} as const

/** From whom, to whom, and with which wishes. */
export const envelopeFlags = {
  from: Flag.String("from").pipe(
    Flag.withAlias("f"),
    Flag.withMetavar("address"),
    Flag.withDescription("The sender; \"\" is the null sender")
  ),
  to: texts("to", "address", "A recipient; may be repeated").pipe(Flag.withAlias("t")),
  cc: texts("cc", "address", "A recipient; a composed message says so in Cc:"),
  bcc: texts("bcc", "address", "A recipient that no header field names"),
  dsnNotify: Flag.Literals("dsn-notify", ["never", "success", "failure", "delay"]).pipe(
    Flag.withDescription("When to be notified of the delivery; may be repeated"),
    Flag.atLeast(0)
  ),
  dsnRet: Flag.Literals("dsn-ret", ["full", "hdrs"]).pipe(
    Flag.withDescription("What a notification returns of the message"),
    Flag.optional
  ),
  dsnEnvid: text("dsn-envid", "text", "The identifier that notifications repeat"),
  dsnOptional: toggle("dsn-optional", "Send without these wishes where the server cannot notify"),
  requireTls: toggle("require-tls", "Ask for verified TLS on every hop (RFC 8689)"),
  requireAll: toggle("require-all", "Send to nobody if any recipient is refused"),
  smtputf8: toggle("smtputf8", "The header fields hold UTF-8 (RFC 6531)")
} as const

type Values<F> = {
  readonly [K in keyof F]: F[K] extends Flag.Flag<infer A> ? A : F[K] extends Argument.Argument<infer B> ? B : never
}
type MessageFlags = Values<typeof messageFlags>
type EnvelopeFlags = Values<typeof envelopeFlags>

/** What is sent: each call of `open` gives the message anew. */
export interface Content {
  readonly open: () => SmtpConnection.Message<PlatformError | EMESSAGE>
  /** Octets, where they are known before. */
  readonly size: number | undefined
}

/** A message and its envelope. */
interface Outgoing {
  readonly envelope: Envelope.Input
  readonly content: Content
}

const usage = (message: string): Failure => new Failure({ code: ExitCode.usage, message })

const dsnOf = (flags: EnvelopeFlags): Envelope.Dsn | undefined => {
  const ret = Option.getOrUndefined(flags.dsnRet)
  const envid = Option.getOrUndefined(flags.dsnEnvid)
  const notify = flags.dsnNotify
  if (notify.length === 0 && ret === undefined && envid === undefined) return undefined
  return { notify: notify.length === 0 ? undefined : notify, ret, envid, optional: flags.dsnOptional }
}

const recipientsOf = ({ bcc, cc, to }: EnvelopeFlags): ReadonlyArray<string> => [...to, ...cc, ...bcc]

const wishesOf = (flags: EnvelopeFlags): Omit<Envelope.Input, "from" | "to"> => ({
  ...(dsnOf(flags) === undefined ? {} : { dsn: dsnOf(flags) }),
  ...(flags.requireTls ? { requireTls: true } : {}),
  ...(flags.requireAll ? { requireAllRecipients: true } : {}),
  ...(flags.smtputf8 ? { smtpUtf8: true } : {})
})

interface FileContent extends Content {
  readonly open: () => Uint8Array | Stream.Stream<Uint8Array, PlatformError>
}

const whole = (octets: Uint8Array): FileContent => ({ open: () => octets, size: octets.length })

/** Longer files are read as they are sent. */
const maxWhole = 8 * 1024 * 1024

const fromFile = Effect.fnUntraced(function*(path: string) {
  const fs = yield* FileSystem.FileSystem
  const info = yield* Effect.option(fs.stat(path))
  const size = Option.match(info, { onNone: () => 0, onSome: (one) => Number(one.size) })
  const content: FileContent = size <= maxWhole
    ? whole(yield* readFile(path))
    : { open: () => replayableLike(fs.stream(path), []), size }
  return content
})

const fromInput = Effect.fnUntraced(function*(repeats: boolean) {
  const stdio = yield* Stdio.Stdio
  if (yield* stdio.stdinIsTerminal) {
    return yield* usage("no message: name a file, pipe one in, or compose it with --subject and --text")
  }
  if (!repeats) return { open: () => stdio.stdin, size: undefined } satisfies Content
  return whole(Buffer.concat(yield* Stream.runCollect(stdio.stdin)))
})

/** Where a message comes from a file or standard input, the addresses of the envelope are all that is known of it. */
const plain = Effect.fnUntraced(function*(flags: EnvelopeFlags, path: string | undefined, repeats: boolean) {
  const content = yield* (path === undefined || path === "-" ? fromInput(repeats) : fromFile(path))
  return { envelope: { ...wishesOf(flags), from: flags.from, to: recipientsOf(flags) }, content } satisfies Outgoing
})

const composed = Effect.fnUntraced(function*(flags: MessageFlags, envelopeFlags: EnvelopeFlags) {
  const { bcc, cc, from, to } = envelopeFlags
  const attachments = yield* Effect.forEach(
    flags.attach,
    (path) => Effect.map(fromFile(path), ({ open }) => ({ filename: basename(path), content: open() }))
  )
  const { envelope, message } = yield* Message.compose<PlatformError>({
    from,
    to,
    cc,
    bcc,
    subject: Option.getOrUndefined(flags.subject),
    text: Option.getOrUndefined(flags.text),
    html: Option.getOrUndefined(flags.html),
    attachments,
    envelope: wishesOf(envelopeFlags)
  })
  return { envelope, content: { open: () => message, size: envelope.size } } satisfies Outgoing
})

/** The message and its envelope: from a file, standard input or the flags. */
export const outgoing = Effect.fnUntraced(function*(
  flags: MessageFlags,
  envelope: EnvelopeFlags,
  repeats: boolean
) {
  if (recipientsOf(envelope).length === 0) return yield* usage("nobody to send to: give --to")
  if (Option.isSome(flags.message) && Option.isSome(flags.file)) {
    return yield* usage("the message is named twice: leave out --file")
  }
  const path = Option.getOrUndefined(Option.orElse(flags.message, () => flags.file))
  const parts = [flags.subject, flags.text, flags.html].some(Option.isSome) || flags.attach.length > 0
  if (parts && path !== undefined) {
    return yield* usage(`${escape(path)} is a whole message: leave out --subject, --text, --html and --attach`)
  }
  const made: Outgoing = parts ? yield* composed(flags, envelope) : yield* plain(envelope, path, repeats)
  // What is wrong with it is told before anything is dialled.
  yield* Effect.fromResult(Envelope.parse(made.envelope))
  return made
})
