/**
 * The options as the environment gives them.
 */
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Sasl from "../../Sasl.ts"
import { escapeText } from "../../SmtpReply.ts"
import { resolve } from "../options.ts"
import * as poolOptions from "../poolOptions.ts"
import { type Given, put, type TextOption, textOptions, withSubmissionPort } from "../textOptions.ts"
import * as url from "../url.ts"
import { aDuration, type Checked } from "./checks.ts"
import * as presets from "./presets.ts"
import { checkAdaptive } from "./withAdaptiveConcurrency.ts"
import { checkCircuit } from "./withCircuitBreaker.ts"
import { checkRateLimit } from "./withRateLimit.ts"

/** What is wrong, after the name of the variable. */
type Read<A> = Result.Result<A, string>

const text = (name: string) => Config.option(Config.String(name))
const secret = (name: string) => Config.option(Config.Redacted(name))

const port: Pick<TextOption, "path" | "variable" | "read"> = {
  path: ["port"],
  variable: "PORT",
  read: (given) => /^\d{1,9}$/.test(given) ? Number(given) : given
}

const host: Pick<TextOption, "path" | "variable" | "read"> = {
  path: ["host"],
  variable: "HOST",
  read: (given) => given
}

const single = [host, port, ...textOptions]

const environment = Config.all({
  url: secret("URL"),
  preset: text("PRESET"),
  user: text("USER"),
  password: secret("PASSWORD"),
  single: Config.all(single.map(({ variable }) => text(variable)))
})

type Variables = Config.Success<typeof environment>

/** No secret is read by this: a value may be shown. */
const shown = (value: string): string => JSON.stringify(escapeText(value, 100))

/** More than any other limit that it is held against. */
const most = 10_000

/** What one option is held against, beside values that leave it as free as can be. */
const rules: { readonly [key in string]?: (value: object) => Checked<unknown> } = {
  pool: ({ pool }: Given) => poolOptions.resolve({ max: Number.MAX_SAFE_INTEGER, ...pool }),
  rateLimit: ({ rateLimit }: Given) => checkRateLimit({ limit: 1, window: 1, ...rateLimit }, "options.rateLimit"),
  circuitBreaker: ({ circuitBreaker }: Given) => checkCircuit({ ...circuitBreaker }, "options.circuitBreaker"),
  adaptiveConcurrency: ({ adaptiveConcurrency }: Given) =>
    checkAdaptive({ max: most, ...adaptiveConcurrency }, "options.adaptiveConcurrency"),
  timeout: ({ timeout }: Given) => aDuration("options.timeout", timeout ?? 0, "1 minute")
}

/** An option is judged by itself, so that the message can name its variable. */
const judge = (
  { path, variable }: Pick<TextOption, "path" | "variable">,
  value: unknown,
  given: string
): Read<void> => {
  const judged: Checked<unknown> = (rules[path[0]] ?? resolve)(put({}, path, value))
  if (Result.isSuccess(judged)) return Result.void
  const { message } = judged.failure
  return Result.fail(`SMTP_${variable}: ${message.slice(message.indexOf(": ") + 2)}, got ${shown(given)}`)
}

/** The single variables over the options so far. */
const readSingle = (from: Given, values: Variables["single"]): Read<Given> => {
  let options = from
  for (const [index, option] of single.entries()) {
    const given = Option.getOrUndefined(values[index] ?? Option.none())
    if (given === undefined) continue
    const value = option.read(given)
    const judged = judge(option, value, given)
    if (Result.isFailure(judged)) return Result.fail(judged.failure)
    options = put(options, option.path, value)
  }
  return Result.succeed(options)
}

/** User and password, each from its variable or else from the URL. */
const credentials = (from: Sasl.Credentials | undefined, { password, user }: Variables): Read<Given> => {
  const known = from?._tag === "Password" ? from : undefined
  const username = Option.getOrElse(user, () => known?.username)
  const secret = Option.getOrElse(password, () => known?.password)
  if (username !== undefined && secret !== undefined) {
    return Result.succeed({ auth: Sasl.password({ username, password: secret }) })
  }
  if (username === undefined && secret === undefined) return Result.succeed({})
  const missing = username === undefined ? "SMTP_USER" : "SMTP_PASSWORD"
  return Result.fail(`${missing}: missing; SMTP_USER and SMTP_PASSWORD go together: set both or neither`)
}

const readUrl = (variables: Variables): Read<Given> =>
  Option.match(variables.url, {
    onNone: () => Result.succeed({}),
    onSome: (given) => Result.mapError(url.read(given), ({ message }) => `SMTP_URL: ${message.replace(/^url: /, "")}`)
  })

/** RFC 8314 §7.3: on 465 TLS is implicit, on 25 and 587 it is not. */
const isMismatch = ({ port, tls }: Given): boolean => tls === "implicit" ? port === 25 || port === 587 : port === 465

/** A preset is one place: nothing is made of half of it and half of another one. */
const overPreset = (name: string, given: Given): Read<Given> => {
  const preset = presets.find(name)
  if (typeof preset === "string") return Result.fail(`SMTP_PRESET: ${preset}`)
  const elsewhere = presets.elsewhere(preset, given)
  if (elsewhere !== undefined) {
    const other = elsewhere === "host" ? "SMTP_HOST or SMTP_URL names another host" : "a unix socket is given"
    return Result.fail(`SMTP_PRESET: it is ${preset.host}, but ${other}; remove SMTP_PRESET or the ${elsewhere}`)
  }
  const options = { ...preset, ...given }
  return (given.port === undefined || given.tls === undefined) && isMismatch(options)
    ? Result.fail(
      `SMTP_PRESET: it is port ${preset.port} with tls "${preset.tls}", and the port or the tls that is given does ` +
        "not go with that; set SMTP_PORT and SMTP_TLS both, or neither"
    )
    : Result.succeed(options)
}

const wanted = [
  ["rateLimit", "limit", "RATE_LIMIT"],
  ["rateLimit", "window", "RATE_LIMIT"],
  ["adaptiveConcurrency", "max", "ADAPTIVE_CONCURRENCY"]
] as const

/** What a policy cannot be without is told by the name of its variable. */
const whole = (options: Given): Read<Given> => {
  for (const [key, inner, variable] of wanted) {
    const policy: object | undefined = options[key]
    if (policy === undefined || Reflect.get(policy, inner) !== undefined) continue
    const missing = `SMTP_${variable}_${inner.toUpperCase()}`
    return Result.fail(`${missing}: missing; set it too, or leave out the others of SMTP_${variable}`)
  }
  return Result.succeed(options)
}

const readAll = (variables: Variables): Read<Given> =>
  Result.gen(function*() {
    const base = yield* readUrl(variables)
    const given = yield* readSingle(base, variables.single)
    const placed = Option.isNone(variables.preset) ? given : yield* overPreset(variables.preset.value, given)
    const options = yield* whole(placed)
    return withSubmissionPort({ ...options, ...(yield* credentials(base.auth, variables)) })
  })

/**
 * The options as the environment gives them: `SMTP_URL`, or `SMTP_HOST`, `SMTP_PORT`, `SMTP_USER`, `SMTP_PASSWORD`,
 * `SMTP_TLS`, … one by one, or `SMTP_PRESET` for a well-known provider.
 *
 * **Details**
 *
 * Single variables win over `SMTP_URL`. `SMTP_PRESET` is one place: beside another host or a unix socket it is refused,
 * and so is a port or a TLS mode that alone does not go with it (587 with implicit TLS, 465 without).
 *
 * Each option that can be written as text has one: `SMTP_PROTOCOL`, `SMTP_PATH`, `SMTP_SERVERNAME`, `SMTP_NAME`, `SMTP_LOCAL_ADDRESS`, `SMTP_FAMILY`, `SMTP_MECHANISMS` and
 * `SMTP_PINS` (lists with commas), `SMTP_MINIMUM_MECHANISM`, `SMTP_CHANNEL_BINDING`, `SMTP_ALLOW_INSECURE_AUTH`,
 * `SMTP_PIPELINING`, `SMTP_CHUNKING`, `SMTP_TRANSCRIPT`, `SMTP_TLS_MIN_VERSION`, `SMTP_TLS_MAX_VERSION`,
 * `SMTP_TLS_CIPHERS`, `SMTP_TLS_REJECT_UNAUTHORIZED`, and a deadline each: `SMTP_TIMEOUT_COMMAND` and so on, as in
 * "10 seconds", or in milliseconds. Where nothing says the port, what all of them together say decides: 465 with implicit
 * TLS, 24 for LMTP, 587 (submission) with credentials, else 25. A `ConfigError` names the variable, says how to mend it,
 * and shows no secret.
 *
 * The pool and the policies: `SMTP_POOL_MAX`, `_MIN`, `_IDLE_TIMEOUT`, `_MAX_MESSAGES`, `_MAX_AGE`, `_MAX_WAITING`,
 * `_ACQUIRE_TIMEOUT` and `_DRAIN`; `SMTP_RATE_LIMIT_LIMIT` and `_WINDOW` (which go together), `_ON_EXCEEDED`,
 * `_COUNT_FROM` and `_KEY`;
 * `SMTP_CIRCUIT_BREAKER_FAILURES` and `_OPEN_FOR`; `SMTP_ADAPTIVE_CONCURRENCY_MAX`, `_MIN` and `_INITIAL`; and
 * `SMTP_TIMEOUT`, the deadline of a call as a whole. `retry`, `fallback` and `rateLimit.limiter` are no text: add them
 * to the options.
 *
 * **Gotchas**
 *
 * An empty variable counts as absent. Other variables that begin with `SMTP_` are not looked at.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { ConfigProvider, Effect } from "effect"
 * import { SmtpClient } from "effect-smtp"
 *
 * const read = (env: Record<string, string>) =>
 *   SmtpClient.config.pipe(Effect.provide(ConfigProvider.layer(ConfigProvider.fromEnv({ env }))))
 *
 * const options = await Effect.runPromise(read({ SMTP_HOST: "mx.test", SMTP_TIMEOUT_COMMAND: "10 seconds" }))
 * assert.deepStrictEqual(options, { host: "mx.test", timeouts: { command: "10 seconds" } })
 *
 * const error = await Effect.runPromise(Effect.flip(read({ SMTP_PORT: "abc" })))
 * assert.ok(error.message.includes(`SMTP_PORT: expected a whole number from 1 to 65535, got "abc"`))
 * ```
 *
 * @category configuration
 * @since 0.1.0
 */
export const config: Config.Config<Given> = environment.pipe(
  Config.nested("SMTP"),
  Config.flatMap((variables) =>
    Result.match(readAll(variables), {
      onFailure: (message) => Config.fail(new ConfigProvider.SourceError({ message })),
      onSuccess: Config.succeed
    })
  )
)
