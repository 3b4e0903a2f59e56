/**
 * The options as the environment gives them.
 */
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Sasl from "../../Sasl.ts"
import * as SmtpError from "../../SmtpError.ts"
import * as url from "../url.ts"
import type { Options } from "./model.ts"

const fromResult = <A>(result: Result.Result<A, SmtpError.ECONFIG>): Config.Config<A> =>
  Result.isSuccess(result)
    ? Config.succeed(result.success)
    : Config.fail(new ConfigProvider.SourceError({ message: `SMTP_*: ${result.failure.message}` }))

const environment = Config.all({
  url: Config.option(Config.Redacted("URL")),
  host: Config.option(Config.NonEmptyString("HOST")),
  port: Config.option(Config.Port("PORT")),
  user: Config.option(Config.NonEmptyString("USER")),
  password: Config.option(Config.Redacted("PASSWORD")),
  tls: Config.option(Config.Literals(["implicit", "starttls", "opportunistic", "off"], "TLS")),
  name: Config.option(Config.NonEmptyString("NAME"))
})

/** User and password, each from its variable or else from the URL. */
const credentials = (
  from: Sasl.Credentials | undefined,
  user: Option.Option<string>,
  password: Option.Option<Redacted.Redacted<string>>
): Result.Result<Sasl.Credentials | undefined, SmtpError.ECONFIG> => {
  const known = from?._tag === "Password" ? from : undefined
  const username = Option.getOrElse(user, () => known?.username)
  const secret = Option.getOrElse(password, () => known?.password)
  if (username !== undefined && secret !== undefined) {
    return Result.succeed(Sasl.password({ username, password: secret }))
  }
  return username === undefined && secret === undefined
    ? Result.succeed(undefined)
    : Result.fail(
      new SmtpError.ECONFIG({
        command: "API",
        attempted: false,
        field: "options.auth",
        message: "options.auth: SMTP_USER and SMTP_PASSWORD go together; set both or neither"
      })
    )
}

/** The single variables over the options of the URL. */
const over = (
  from: Options,
  { host, name, password, port, tls, user }: Omit<Config.Success<typeof environment>, "url">
): Result.Result<Options, SmtpError.ECONFIG> =>
  Result.map(credentials(from.auth, user, password), (auth) => {
    const mode = Option.getOrElse(tls, () => from.tls)
    // RFC 6409: with credentials it is a submission.
    const isSubmission = auth !== undefined && mode !== "implicit" && from.protocol === undefined &&
      from.path === undefined
    return {
      ...from,
      host: Option.getOrElse(host, () => from.host),
      port: Option.getOrElse(port, () => from.port ?? (isSubmission ? 587 : undefined)),
      tls: mode,
      name: Option.getOrElse(name, () => from.name),
      auth
    }
  })

/**
 * The options as the environment gives them: SMTP_URL, or SMTP_HOST, SMTP_PORT, SMTP_USER, SMTP_PASSWORD, SMTP_TLS and
 * SMTP_NAME; the single variables win over the URL.
 *
 * **Details**
 *
 * Without a port it is 465 with implicit TLS, 587 (submission) with credentials, else 25.
 *
 * @category configuration
 * @since 0.1.0
 */
export const config: Config.Config<Options> = environment.pipe(
  Config.nested("SMTP"),
  Config.flatMap((variables) => {
    const base: Result.Result<Options, SmtpError.ECONFIG> = Option.isSome(variables.url)
      ? url.fromUrl(variables.url.value)
      : Result.succeed({})
    return fromResult(Result.flatMap(base, (from) => over(from, variables)))
  })
)
