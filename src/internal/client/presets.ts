/**
 * Where well-known providers take mail for submission: data, and the function that makes options of it.
 */
import * as Effect from "effect/Effect"
import * as SmtpError from "../../SmtpError.ts"
import { escapeText } from "../../SmtpReply.ts"
import type { Options } from "./model.ts"

/**
 * Where a provider takes mail: over TLS from the first octet, or after a STARTTLS that is required.
 *
 * @category models
 * @since 0.1.0
 */
export interface Preset {
  readonly host: string
  readonly port: number
  readonly tls: "implicit" | "starttls"
}

const implicit = (host: string): Preset => ({ host, port: 465, tls: "implicit" })
const starttls = (host: string): Preset => ({ host, port: 587, tls: "starttls" })

const sesRegions = [
  "af-south-1",
  "ap-northeast-1",
  "ap-northeast-2",
  "ap-northeast-3",
  "ap-south-1",
  "ap-southeast-1",
  "ap-southeast-2",
  "ap-southeast-3",
  "ca-central-1",
  "eu-central-1",
  "eu-north-1",
  "eu-south-1",
  "eu-west-1",
  "eu-west-2",
  "eu-west-3",
  "il-central-1",
  "me-south-1",
  "sa-east-1",
  "us-east-1",
  "us-east-2",
  "us-gov-west-1",
  "us-west-1",
  "us-west-2"
] as const

const ses = Object.fromEntries(
  sesRegions.map((region) => [`ses-${region}`, implicit(`email-smtp.${region}.amazonaws.com`)])
) as { readonly [K in `ses-${(typeof sesRegions)[number]}`]: Preset }

/**
 * Host, port and TLS of well-known providers, by name; Amazon SES by region. Implicit TLS where it is offered
 * (RFC 8314), else STARTTLS, required.
 *
 * **Details**
 *
 * What a provider wants for a login differs: Gmail, Yahoo, iCloud, Fastmail and others an app password or OAuth2,
 * SendGrid the username `apikey`, Resend `resend`. Where a provider has moved, give `host` and `port` yourself.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { Effect } from "effect"
 * import { SmtpClient } from "effect-smtp"
 * import { SmtpServer } from "effect-smtp/testing"
 *
 * const layer = SmtpClient.layer({ ...SmtpClient.presets.postmark, name: "me.test" })
 * assert.deepStrictEqual(SmtpClient.presets.postmark, { host: "smtp.postmarkapp.com", port: 587, tls: "starttls" })
 * const report = SmtpClient.SmtpClient.use((smtp) => smtp.verify)
 * await Effect.runPromise(report.pipe(Effect.provide(layer), Effect.provide(SmtpServer.layer())))
 * ```
 *
 * @category configuration
 * @since 0.1.0
 */
export const presets = {
  aliyun: implicit("smtpdm.aliyun.com"),
  aol: implicit("smtp.aol.com"),
  brevo: implicit("smtp-relay.brevo.com"),
  elasticemail: implicit("smtp.elasticemail.com"),
  fastmail: implicit("smtp.fastmail.com"),
  gandi: implicit("mail.gandi.net"),
  gmail: implicit("smtp.gmail.com"),
  "gmail-relay": implicit("smtp-relay.gmail.com"),
  gmx: implicit("mail.gmx.net"),
  icloud: starttls("smtp.mail.me.com"),
  infomaniak: implicit("mail.infomaniak.com"),
  ionos: implicit("smtp.ionos.com"),
  "mailbox.org": implicit("smtp.mailbox.org"),
  mailersend: starttls("smtp.mailersend.net"),
  mailgun: implicit("smtp.mailgun.org"),
  "mailgun-eu": implicit("smtp.eu.mailgun.org"),
  mailjet: starttls("in-v3.mailjet.com"),
  "mail.ru": implicit("smtp.mail.ru"),
  mailtrap: starttls("live.smtp.mailtrap.io"),
  "mailtrap-sandbox": starttls("sandbox.smtp.mailtrap.io"),
  mandrill: implicit("smtp.mandrillapp.com"),
  migadu: implicit("smtp.migadu.com"),
  office365: starttls("smtp.office365.com"),
  outlook: starttls("smtp-mail.outlook.com"),
  ovh: implicit("ssl0.ovh.net"),
  posteo: implicit("posteo.de"),
  postmark: starttls("smtp.postmarkapp.com"),
  proton: starttls("smtp.protonmail.ch"),
  qq: implicit("smtp.qq.com"),
  resend: implicit("smtp.resend.com"),
  runbox: implicit("mail.runbox.com"),
  scaleway: implicit("smtp.tem.scaleway.com"),
  sendgrid: implicit("smtp.sendgrid.net"),
  ...ses,
  seznam: implicit("smtp.seznam.cz"),
  smtp2go: implicit("mail.smtp2go.com"),
  sparkpost: starttls("smtp.sparkpostmail.com"),
  "sparkpost-eu": starttls("smtp.eu.sparkpostmail.com"),
  "t-online": implicit("securesmtp.t-online.de"),
  "web.de": starttls("smtp.web.de"),
  yahoo: implicit("smtp.mail.yahoo.com"),
  yandex: implicit("smtp.yandex.com"),
  zoho: implicit("smtp.zoho.com"),
  "zoho-eu": implicit("smtp.zoho.eu")
} as const satisfies Readonly<Record<string, Preset>>

/**
 * The name of a provider in {@link presets}.
 *
 * @category models
 * @since 0.1.0
 */
export type PresetName = keyof typeof presets

const isPresetName = (name: string): name is PresetName => Object.hasOwn(presets, name)

/** How many letters to add, to drop or to change (Levenshtein). */
const distance = (a: string, b: string): number => {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1))
    }
    row = next
  }
  return row[b.length]!
}

/** The name that is most like it: first those that begin alike. */
const nearest = (name: string): string => {
  const far = (other: string) => distance(name, other) + (other.startsWith(name) || name.startsWith(other) ? 0 : 100)
  const [first = ""] = Object.keys(presets).toSorted((a, b) => far(a) - far(b))
  return first
}

/** Long names are no names of providers: they cost nothing. */
const maxNameLength = 64

/** The preset of a name in any case; or what to say of it. */
export const find = (name: string): Preset | string => {
  const key = name.toLowerCase()
  if (isPresetName(key)) return presets[key]
  return `${JSON.stringify(escapeText(name, maxNameLength))} is no provider known here; the nearest is ${
    JSON.stringify(nearest(key.slice(0, maxNameLength)))
  }, and SmtpClient.presets has all`
}

/** What of the options names another place than the preset. */
export const elsewhere = (preset: Preset, { host, path }: Options): "host" | "path" | undefined => {
  if (path !== undefined) return "path"
  return host === undefined || String(host).toLowerCase() === preset.host ? undefined : "host"
}

const refuse = (field: string, message: string): Effect.Effect<never, SmtpError.ECONFIG> =>
  Effect.fail(new SmtpError.ECONFIG({ command: "API", attempted: false, field, message: `${field}: ${message}` }))

/**
 * The options for a well-known provider: host, port and TLS from {@link presets}, the others as given.
 *
 * **Details**
 *
 * A name that is not known at run time fails with `ECONFIG`, and the message has the nearest one.
 *
 * **Gotchas**
 *
 * The types keep out `host`, `port`, `tls` and `path`, but not those of a wider object, such as what `fromUrl` gives.
 * Port and TLS are the provider's anyway; another host or a path is `ECONFIG`. To change one of them, spread the data:
 * `{ ...SmtpClient.presets["ses-eu-west-1"], port: 2465, auth }`.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { Effect, Redacted } from "effect"
 * import { Sasl, SmtpClient } from "effect-smtp"
 *
 * const auth = Sasl.password({ username: "me@gmail.com", password: Redacted.make("app password") })
 * const options = await Effect.runPromise(SmtpClient.preset("gmail", { auth }))
 * assert.deepStrictEqual([options.host, options.port, options.tls], ["smtp.gmail.com", 465, "implicit"])
 *
 * const error = await Effect.runPromise(Effect.flip(SmtpClient.preset("gmial" as "gmail")))
 * assert.ok(error.message.includes(`the nearest is "gmail"`))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const preset = (
  name: PresetName,
  options: Omit<Options, "host" | "port" | "tls" | "path"> = {}
): Effect.Effect<Options, SmtpError.ECONFIG> =>
  Effect.suspend(() => {
    const found = find(String(name))
    if (typeof found === "string") return refuse("preset", found)
    const other = elsewhere(found, { ...options })
    return other === undefined
      ? Effect.succeed({ ...options, ...found })
      : refuse(`options.${other}`, `the preset is ${found.host}; remove the preset or the ${other}`)
  })
