/**
 * The dialogue as log lines, "C: …" and "S: …", through Effect's Logger. Secrets never reach it: commands are rendered
 * redacted, and what a server says inside an AUTH exchange is left out.
 */
import * as Effect from "effect/Effect"
import * as SmtpCommand from "../SmtpCommand.ts"
import * as SmtpReply from "../SmtpReply.ts"

export interface Transcript {
  readonly isOn: boolean
  readonly client: (command: SmtpCommand.SmtpCommand) => Effect.Effect<void>
  readonly server: (reply: SmtpReply.SmtpReply, isAuth: boolean) => Effect.Effect<void>
  /** What is neither command nor reply, e.g. that TLS is up. */
  readonly event: (text: string) => Effect.Effect<void>
  readonly body: (chunks: ReadonlyArray<Uint8Array>) => Effect.Effect<void>
}

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

export const make = (
  level: "off" | "commands" | "full",
  annotations: Readonly<Record<string, unknown>>
): Transcript => {
  if (level === "off") return off
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
