/**
 * Nodemailer, the optional peer: loaded when a message is composed, never before. It is the only file that names it.
 */
import * as Effect from "effect/Effect"
import { ECONFIG } from "../../SmtpError.ts"

/** What is taken from it. */
export interface Peer {
  readonly MailComposer: typeof import("nodemailer/lib/mail-composer").default
  readonly detectMimeType: typeof import("nodemailer/lib/mime-funcs").detectMimeType
  readonly detectExtension: typeof import("nodemailer/lib/mime-funcs").detectExtension
  readonly RelaxedBody: typeof import("nodemailer/lib/dkim/relaxed-body").default
  readonly sign: typeof import("nodemailer/lib/dkim/sign").default
}

const modules = () =>
  Promise.all([
    import("nodemailer/lib/mail-composer"),
    import("nodemailer/lib/mime-funcs"),
    import("nodemailer/lib/dkim/relaxed-body"),
    import("nodemailer/lib/dkim/sign")
  ])

/** Loads it. `load` is what a test puts in its place. */
export const loadWith = (load: typeof modules): Effect.Effect<Peer, ECONFIG> =>
  Effect.map(
    Effect.tryPromise({
      try: load,
      catch: (cause) =>
        new ECONFIG({
          message: "composing needs the optional peer nodemailer, 10.6 or later: npm install nodemailer@^10.6.0",
          command: "API",
          attempted: false,
          field: "nodemailer",
          cause
        })
    }),
    ([composer, { detectExtension, detectMimeType }, relaxedBody, sign]) => ({
      MailComposer: composer.default,
      detectMimeType,
      detectExtension,
      RelaxedBody: relaxedBody.default,
      sign: sign.default
    })
  )

export const load: Effect.Effect<Peer, ECONFIG> = loadWith(modules)
