/**
 * Fields to a message: checked, laid out by Nodemailer once, and read as often as wanted.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import * as DotStuffing from "../../DotStuffing.ts"
import type * as Envelope from "../../Envelope.ts"
import { type ECONFIG, type EENVELOPE, EMESSAGE } from "../../SmtpError.ts"
import { escapeText } from "../../SmtpReply.ts"
import { replayableLike } from "../message.ts"
import { envelopeOf, type Named, type People, peopleOf } from "./addresses.ts"
import { measure, type Segment, segmentsOf, split, toStream } from "./body.ts"
import { type Checked, guarded, list, optional, record } from "./checks.ts"
import { alternative, attachment, event, type Part, type Places, text } from "./content.ts"
import * as dkim from "./dkim.ts"
import { headersOf } from "./headers.ts"
import type { Composed, Dkim, Fields } from "./model.ts"
import type { Peer } from "./peer.ts"

type Mail = NonNullable<ConstructorParameters<Peer["MailComposer"]>[0]>

/** All that is known before Nodemailer is asked. */
interface Plan<E, R> {
  readonly mail: Mail
  readonly parts: ReadonlyArray<Part<E, R>>
  readonly envelope: Envelope.Input
  readonly dkim: Dkim | undefined
}

const known: ReadonlyArray<keyof Fields> = [
  "from",
  "sender",
  "to",
  "cc",
  "bcc",
  "replyTo",
  "subject",
  "text",
  "html",
  "amp",
  "attachments",
  "alternatives",
  "icalEvent",
  "headers",
  "messageId",
  "date",
  "inReplyTo",
  "references",
  "priority",
  "list",
  "envelope",
  "dkim"
]

const mailboxes = (people: ReadonlyArray<Named>): Array<{ name: string; address: string }> =>
  people.map(({ address, name }) => ({ name, address }))

/** Bcc is not among them: Nodemailer never hears of it. */
const peopleFields = (people: People): Mail => ({
  from: mailboxes(people.from),
  ...(people.sender === undefined ? {} : { sender: mailboxes([people.sender]) }),
  ...(people.to.length === 0 ? {} : { to: mailboxes(people.to) }),
  ...(people.cc.length === 0 ? {} : { cc: mailboxes(people.cc) }),
  ...(people.replyTo.length === 0 ? {} : { replyTo: mailboxes(people.replyTo) })
})

const planOf = <E, R>(input: Fields<E, R>, places: Places<E, R>, now: number): Checked<Plan<E, R>> =>
  Result.gen(function*() {
    const fields = yield* guarded("fields", () => record("", input, known))
    const read = <A>(field: keyof Fields, check: (u: unknown) => Checked<A>): Checked<A> =>
      guarded(field, () => check(fields[field]))
    const people = yield* peopleOf(fields)
    const headers = yield* headersOf(fields, now)
    const mail: Mail = {
      ...peopleFields(people),
      ...headers,
      headers: [...headers.headers],
      references: [...headers.references],
      text: yield* read("text", (u) => text("text", u)),
      html: yield* read("html", (u) => text("html", u)),
      amp: yield* read("amp", (u) => text("amp", u)),
      icalEvent: yield* read("icalEvent", (u) => optional(u, event)),
      attachments: [...(yield* read("attachments", (u) => list("attachments", u ?? [], attachment(places))))],
      alternatives: [...(yield* read("alternatives", (u) => list("alternatives", u ?? [], alternative(places))))],
      disableFileAccess: true,
      disableUrlAccess: true
    }
    return {
      mail,
      parts: places.parts,
      envelope: yield* read("envelope", (u) => envelopeOf(people, u)),
      dkim: yield* read("dkim", (u) => optional(u, dkim.parse))
    }
  })

interface Written {
  readonly octets: Uint8Array
  readonly messageId: string
}

const write = ({ MailComposer }: Peer, mail: Mail): Effect.Effect<Written, EMESSAGE> =>
  Effect.tryPromise({
    try: () => {
      const message = new MailComposer(mail).compile()
      const messageId = message.messageId()
      return message.build().then((octets) => ({ octets, messageId }))
    },
    catch: (cause) =>
      new EMESSAGE({
        message: `fields: Nodemailer could not compose the message: ${
          escapeText(cause instanceof Error ? cause.message : String(cause), 200)
        }`,
        command: "API",
        attempted: false,
        field: "fields",
        cause
      })
  })

type Message<E, R> = Stream.Stream<Uint8Array, E | EMESSAGE, R>

/** As long as the hash of any body, so that the signature's length is known before the body is read. */
const someHash = `${"A".repeat(43)}=`

/** The body is hashed when the message is read; the key is tried at once. */
const signed = <E, R>(
  peer: Peer,
  key: Dkim,
  segments: ReadonlyArray<Segment<E, R>>
): Effect.Effect<{ readonly size: number; readonly message: Message<E, R> }, ECONFIG> => {
  const { body, head } = split(segments)
  const octets = toStream(body)
  return Effect.map(dkim.sign(peer, key, head, someHash), (trial) => {
    const prefix = Effect.flatMap(
      dkim.hash(peer, octets),
      (hash) => Effect.map(Effect.orDie(dkim.sign(peer, key, head, hash)), (signature) => ({ hash, signature }))
    )
    return {
      size: trial.length,
      message: Stream.unwrap(
        Effect.map(
          prefix,
          ({ hash, signature }) => Stream.concat(Stream.make(signature, head), dkim.verified(peer, octets, hash))
        )
      )
    }
  })
}

const nonce = Effect.sync(() => globalThis.crypto.randomUUID())

/** What the envelope says of the message, unless the caller says it. */
const described = <E, R>(
  envelope: Envelope.Input,
  segments: ReadonlyArray<Segment<E, R>>,
  added: number
): Envelope.Input => {
  const { hasEightBit, size } = measure(segments)
  const hasUtf8 = DotStuffing.measure(split(segments).head).hasEightBit
  return {
    ...(size === undefined ? {} : { size: size + added }),
    ...(hasEightBit === undefined ? {} : { use8BitMime: hasEightBit }),
    ...(hasUtf8 ? { smtpUtf8: true } : {}),
    ...envelope
  }
}

/** `Message.compose`, with the peer as a parameter. */
export const makeCompose =
  (load: Effect.Effect<Peer, ECONFIG>) =>
  <E = never, R = never>(fields: Fields<E, R>): Effect.Effect<Composed<E, R>, EMESSAGE | EENVELOPE | ECONFIG> =>
    Effect.gen(function*() {
      const peer = yield* load
      const now = yield* Clock.currentTimeMillis
      const places: Places<E, R> = { nonce: yield* nonce, types: peer, parts: [] }
      const plan = yield* Effect.fromResult(planOf(fields, places, now))
      const { messageId, octets } = yield* write(peer, plan.mail)
      const segments = yield* segmentsOf(octets, plan.parts)
      const { message, size } = plan.dkim === undefined
        ? { message: toStream(segments), size: 0 }
        : yield* signed(peer, plan.dkim, segments)
      return {
        envelope: described(plan.envelope, segments, size),
        message: replayableLike(message, plan.parts.map(({ content }) => content)),
        messageId
      }
    })
