/**
 * Messages composed from fields: text, HTML, attachments, inline images, calendar events, a DKIM signature.
 *
 * What it is: a checked and lazy face of Nodemailer's MailComposer, which knows MIME and is well kept; Nodemailer is an
 * optional peer, loaded when the first message is composed. What it is not: a second MIME library, or a reader of files
 * and URLs: content is given as strings, octets and Streams, and nothing else is taken.
 *
 * **Details**
 *
 * An entry of its own, `effect-smtp/Message`, not in the barrel: a bundler would else look for Nodemailer in programs
 * that compose nothing.
 *
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"
import { makeCompose } from "./internal/compose/compose.ts"
import type { Composed, Fields } from "./internal/compose/model.ts"
import { load } from "./internal/compose/peer.ts"
import type { ECONFIG, EENVELOPE, EMESSAGE } from "./SmtpError.ts"

export type {
  /** @since 0.1.0 */
  Address,
  /** @since 0.1.0 */
  Addresses,
  /** @since 0.1.0 */
  Alternative,
  /** @since 0.1.0 */
  Attachment,
  /** @since 0.1.0 */
  CalendarEvent,
  /** @since 0.1.0 */
  Composed,
  /** @since 0.1.0 */
  Content,
  /** @since 0.1.0 */
  Dkim,
  /** @since 0.1.0 */
  EnvelopeFields,
  /** @since 0.1.0 */
  Fields,
  /** @since 0.1.0 */
  ListFields
} from "./internal/compose/model.ts"

/**
 * Composes a message: its envelope, and a stream of its octets.
 *
 * **Details**
 *
 * The result is what `send` takes, and, as a whole, a mail of `sendAll`. Each run of `message` gives the same octets,
 * with the same boundaries, date and Message-ID, if the Streams in it do; they are opened when the message is read,
 * one after the other, and never held. Their errors and requirements become those of the message.
 *
 * The envelope's sender is `sender`, else the first `from`; its recipients are `to`, `cc` and `bcc`, each mailbox once.
 * `bcc` never becomes a header field. `envelope` overrides that field by field.
 *
 * Failures, all before a byte is sent, name the field and say how to mend it: `EENVELOPE` for a mailbox that cannot be
 * read in one way only, `EMESSAGE` for other fields (a line break in a header field, a key that is not known, such as
 * Nodemailer's `path`, `href` and `raw`), `ECONFIG` for `dkim` and when Nodemailer is not installed (field
 * "nodemailer").
 *
 * **Gotchas**
 *
 * With `dkim` the body is read twice, hashed and then sent, so it is never held: a Stream in it has to give the same
 * octets twice. One that does not fails the message with `EMESSAGE` before its end; a one-shot Node stream fails with
 * `ESTREAM`. While a slow source is hashed, `timeouts.data` runs.
 *
 * Several Streams with errors of different types: bring them to one type, or write it, `compose<A | B>(…)`.
 *
 * **Example**
 *
 * ```ts
 * import { Effect, Stream } from "effect"
 * import { SmtpClient } from "effect-smtp"
 * import * as Message from "effect-smtp/Message"
 * import { SmtpServer } from "effect-smtp/testing"
 * import * as assert from "node:assert"
 *
 * const rows = Stream.range(1, 1000).pipe(Stream.map((n) => `${n};${n * n}\r\n`))
 *
 * const program = Effect.gen(function*() {
 *   const { envelope, message } = yield* Message.compose({
 *     from: "Reports <reports@example.test>",
 *     to: ["Ann <ann@example.test>"],
 *     bcc: "audit@example.test",
 *     subject: "Squares – now in colour",
 *     html: "<p>Here they are. <img src=\"cid:dot\"></p>",
 *     attachments: [
 *       { filename: "squares.csv", content: rows },
 *       { filename: "dot.png", cid: "dot", content: "iVBORw0KGgo=", encoding: "base64" }
 *     ]
 *   })
 *   const smtp = yield* SmtpClient.make({ host: "mx.example.test" })
 *   return (yield* smtp.send(envelope, message)).accepted
 * })
 * const accepted = await Effect.runPromise(program.pipe(Effect.provide(SmtpServer.layer())))
 * assert.deepStrictEqual(accepted, ["ann@example.test", "audit@example.test"])
 *
 * const refused = await Effect.runPromise(Effect.flip(Message.compose({
 *   from: "reports@example.test",
 *   to: "ann@example.test",
 *   subject: "Hello\r\nBcc: everyone@example.test"
 * })))
 * assert.strictEqual(refused.message, "subject holds the control character U+000D; remove it")
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const compose: <E = never, R = never>(
  fields: Fields<E, R>
) => Effect.Effect<Composed<E, R>, EMESSAGE | EENVELOPE | ECONFIG> = makeCompose(load)
