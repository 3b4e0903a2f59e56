/**
 * The dialogue as it is told: line by line, "C: …" and "S: …", through Effect's Logger, or entry by entry to a recorder.
 * Secrets never reach either: commands are rendered redacted, and what a server says inside an AUTH exchange is left out.
 */
import * as Effect from "effect/Effect"
import * as SmtpCommand from "../SmtpCommand.ts"
import * as SmtpReply from "../SmtpReply.ts"
import type * as SmtpTranscript from "../SmtpTranscript.ts"
import * as entries from "./entries.ts"
import type { Resolved } from "./options.ts"

export interface Transcript {
  readonly isOn: boolean
  readonly client: (command: SmtpCommand.SmtpCommand) => Effect.Effect<void>
  readonly server: (reply: SmtpReply.SmtpReply, isAuth: boolean) => Effect.Effect<void>
  /** What is neither command nor reply, e.g. that TLS is up. */
  readonly event: (text: string) => Effect.Effect<void>
  readonly body: (chunks: ReadonlyArray<Uint8Array>) => Effect.Effect<void>
}

type Annotations = Readonly<Record<string, unknown>>

const nothing = () => Effect.void
const off: Transcript = { isOn: false, client: nothing, server: nothing, event: nothing, body: nothing }

/** Most octets of message content in one log line: all of it is shown, in as many lines as it takes. */
const maxContent = 4096

const pieces = (octets: Uint8Array): ReadonlyArray<Uint8Array> =>
  Array.from(
    { length: Math.ceil(octets.length / maxContent) },
    (_, i) => octets.subarray(i * maxContent, (i + 1) * maxContent)
  )

/** A reply inside an AUTH exchange, without its text: servers echo what they do not understand. */
const bare = (reply: SmtpReply.SmtpReply): string =>
  reply.enhancedCode === undefined ? `${reply.code} ***` : `${reply.code} ${reply.enhancedCode} ***`

const logging = (level: "commands" | "full", annotations: Annotations): Transcript => {
  const log = (line: string): Effect.Effect<void> => Effect.annotateLogs(Effect.logInfo(line), annotations)
  return {
    isOn: true,
    client: (command) => log(`C: ${SmtpCommand.render(command)}`),
    server: (reply, isAuth) => log(`S: ${isAuth ? bare(reply) : SmtpReply.render(reply)}`),
    event: (text) => log(`* ${text}`),
    body: (chunks) => {
      if (level === "commands") return Effect.void
      const decoder = new TextDecoder()
      return Effect.forEach(
        chunks.flatMap(pieces),
        (piece) => log(`C: ${SmtpReply.escapeText(decoder.decode(piece, { stream: true }), maxContent)}`),
        { discard: true }
      )
    }
  }
}

type Unplaced<E> = E extends unknown ? Omit<E, "connection" | "at"> : never

/** As in a log, but only the code and the enhanced code are left of a reply to AUTH. */
const recording = ({ level, record }: SmtpTranscript.Recorder, annotations: Annotations): Transcript => {
  const connection = String(annotations["connection"] ?? "")
  const write = (entry: Unplaced<SmtpTranscript.Entry>): Effect.Effect<void> =>
    Effect.catchDefect(
      Effect.flatMap(entries.now, (at) => record({ ...entry, connection, at })),
      () => Effect.void
    )
  return {
    isOn: true,
    client: (command) => write({ kind: "command", from: "client", text: SmtpCommand.render(command) }),
    server: (reply, isAuth) => {
      const lines = isAuth ? [reply.enhancedCode ?? ""] : reply.lines
      return write({ kind: "reply", from: "server", code: reply.code, lines })
    },
    event: (text) => write({ kind: "event", from: "event", text }),
    body: (chunks) =>
      Effect.suspend(() => {
        const size = entries.sizeOf(chunks)
        return write({ kind: "content", from: "client", size, ...(level === "full" ? entries.write(chunks) : {}) })
      })
  }
}

export const make = (transcript: Resolved["transcript"], annotations: Annotations): Transcript =>
  transcript === "off"
    ? off
    : typeof transcript === "string"
    ? logging(transcript, annotations)
    : recording(transcript, annotations)
