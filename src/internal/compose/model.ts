/**
 * What a message is composed from, as `Message` shows it.
 */
import type * as Redacted from "effect/Redacted"
import type * as Stream from "effect/Stream"
import type * as Envelope from "../../Envelope.ts"
import type { EMESSAGE } from "../../SmtpError.ts"

/**
 * A mailbox of a header field: `"ann@example.com"`, `"Ann <ann@example.com>"`, or its parts.
 *
 * **Details**
 *
 * One mailbox each: no list in one string, no group, no comment. A name in a string that holds one of `()<>[]:;@\,"` is
 * quoted, `"\"Smith, Ann\" <ann@example.com>"`; as `name` it is plain text.
 *
 * @category models
 * @since 0.1.0
 */
export type Address = string | { readonly name?: string | undefined; readonly address: string }

/**
 * One mailbox or several.
 *
 * @category models
 * @since 0.1.0
 */
export type Addresses = Address | ReadonlyArray<Address>

/**
 * The content of a part: text (sent as UTF-8), octets, or a stream of either. For a Node stream use
 * `NodeMessage.fromReadable`.
 *
 * @category models
 * @since 0.1.0
 */
export type Content<E = never, R = never> = string | Uint8Array | Stream.Stream<Uint8Array | string, E, R>

/**
 * A file that goes with the message.
 *
 * @category models
 * @since 0.1.0
 */
export interface Attachment<E = never, R = never> {
  readonly content: Content<E, R>
  /** The name shown to the reader, at most 255 characters. Default: `attachment-N` with an extension for the type. */
  readonly filename?: string | undefined
  /** `type/subtype`, with parameters if need be. Default: told from `filename`, else `application/octet-stream`. */
  readonly contentType?: string | undefined
  /** The Content-ID, without angle brackets: HTML shows an image by `<img src="cid:…">`. */
  readonly cid?: string | undefined
  /** Default `"inline"` for images with a `cid` and for `message/*`, else `"attachment"`. */
  readonly contentDisposition?: "attachment" | "inline" | undefined
  /** What a string in `content` is: text (the default), or octets written in Base64 or hexadecimal. */
  readonly encoding?: "utf-8" | "base64" | "hex" | undefined
}

/**
 * The text of the message once more, in another type.
 *
 * @category models
 * @since 0.1.0
 */
export interface Alternative<E = never, R = never> {
  readonly contentType: string
  readonly content: Content<E, R>
}

/**
 * An event or its answer (iCalendar, RFC 5545): sent as an alternative of the text, and as an attachment.
 *
 * @category models
 * @since 0.1.0
 */
export interface CalendarEvent {
  readonly content: string | Uint8Array
  /** `"REQUEST"`, `"REPLY"`, …; in any case. Default: the METHOD in the content, else `"PUBLISH"`. */
  readonly method?: string | undefined
  /** Default `"invite.ics"`. */
  readonly filename?: string | undefined
}

/**
 * The fields of a mailing list (RFC 2369, RFC 2919, RFC 8058). URLs are absolute: `https:`, `http:`, `mailto:` or `ftp:`.
 *
 * @category models
 * @since 0.1.0
 */
export interface ListFields {
  readonly help?: string | ReadonlyArray<string> | undefined
  readonly unsubscribe?: string | ReadonlyArray<string> | undefined
  readonly subscribe?: string | ReadonlyArray<string> | undefined
  readonly post?: string | ReadonlyArray<string> | undefined
  readonly owner?: string | ReadonlyArray<string> | undefined
  readonly archive?: string | ReadonlyArray<string> | undefined
  /** The list's identifier, e.g. `"news.example.com"`. */
  readonly id?: string | undefined
  /** True: one POST to the `https:` URL of `unsubscribe` ends the subscription (RFC 8058). */
  readonly oneClick?: boolean | undefined
}

/**
 * How to sign the message (DKIM, RFC 6376; rsa-sha256, relaxed/relaxed).
 *
 * @category models
 * @since 0.1.0
 */
export interface Dkim {
  /** The signing domain; a name in Unicode as A-labels. */
  readonly domainName: string
  /** The key is at `<keySelector>._domainkey.<domainName>`. */
  readonly keySelector: string
  /** An RSA key in PEM. */
  readonly privateKey: Redacted.Redacted<string>
  /** The header fields to sign, where the message has them. Default: those that RFC 4871 §5.5 lists. It must hold From. */
  readonly headerFieldNames?: ReadonlyArray<string> | undefined
  /** Header fields not to sign, e.g. what a relay is known to rewrite. */
  readonly skipFields?: ReadonlyArray<string> | undefined
}

/**
 * The envelope where it differs from the header fields, and its wishes (`dsn`, `requireTls`, …).
 *
 * @category models
 * @since 0.1.0
 */
export type EnvelopeFields = { readonly [K in keyof Envelope.Input]?: Envelope.Input[K] | undefined }

/**
 * What a message is composed from. Only `from` is required. No field names a file or a URL: those are read by you.
 *
 * @category models
 * @since 0.1.0
 */
export interface Fields<E = never, R = never> {
  /** The author. With several authors, `sender` says who sent it (RFC 5322 §3.6.2). */
  readonly from: Addresses
  readonly sender?: Address | undefined
  readonly to?: Addresses | undefined
  readonly cc?: Addresses | undefined
  /** Recipients of the envelope that no header field names. */
  readonly bcc?: Addresses | undefined
  readonly replyTo?: Addresses | undefined
  readonly subject?: string | undefined
  readonly text?: string | undefined
  readonly html?: string | undefined
  /** AMP4EMAIL, beside `html` and `text`. */
  readonly amp?: string | undefined
  readonly attachments?: ReadonlyArray<Attachment<E, R>> | undefined
  /** Further forms of the text, after `text`, `amp`, `html` and the calendar event. */
  readonly alternatives?: ReadonlyArray<Alternative<E, R>> | undefined
  readonly icalEvent?: string | CalendarEvent | undefined
  /** More header fields. Those with a field of their own here, and `Content-*`, are refused. */
  readonly headers?: { readonly [name: string]: string | ReadonlyArray<string> } | undefined
  /** Default: a fresh one at the domain of `from`. */
  readonly messageId?: string | undefined
  /** Default: now, of Effect's `Clock`. */
  readonly date?: Date | undefined
  readonly inReplyTo?: string | undefined
  readonly references?: string | ReadonlyArray<string> | undefined
  readonly priority?: "high" | "normal" | "low" | undefined
  readonly list?: ListFields | undefined
  /** Overrides the envelope made from the header fields, field by field. */
  readonly envelope?: EnvelopeFields | undefined
  readonly dkim?: Dkim | undefined
}

/**
 * A message ready to be sent: give `envelope` and `message` to `send`, or the whole to `sendAll`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Composed<E = never, R = never> {
  /**
   * Sender and recipients, each once. Its `size`, `use8BitMime` and `smtpUtf8` are what is known of the message.
   */
  readonly envelope: Envelope.Input
  /**
   * The octets. Each run gives the same, if the streams in it do: boundaries, date and Message-ID are fixed. It may be
   * read again (`SmtpConnection.replayable`) if every stream in it is marked so, or there is none.
   */
  readonly message: Stream.Stream<Uint8Array, E | EMESSAGE, R>
  /** The Message-ID, with its angle brackets. */
  readonly messageId: string
}
