/**
 * The `cause` of an error as a schema: whatever it is at run time, and a JSON form that keeps what people ask of it
 * (name, message, and the `code` of the operating system or OpenSSL).
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SchemaTransformation from "effect/SchemaTransformation"

const kept = ["name", "message", "code", "errno", "syscall", "address", "port", "reason", "library"] as const

const encode = (cause: unknown): Schema.Json => {
  if (cause === undefined) return null
  // Not instanceof: an Error of another realm (node:vm, test runners) is none of ours.
  if (typeof cause !== "object" || cause === null) return String(cause)
  const json: Record<string, string | number> = {}
  for (const key of kept) {
    const value = (cause as unknown as Record<string, unknown>)[key]
    if (typeof value === "string" || typeof value === "number") json[key] = value
  }
  return json
}

const decode = (json: Schema.Json): unknown => {
  if (json === null) return undefined
  if (typeof json !== "object" || Array.isArray(json)) return json
  const error = new Error()
  for (const [key, value] of Object.entries(json)) {
    Object.defineProperty(error, key, {
      value,
      enumerable: key !== "name" && key !== "message",
      configurable: true,
      writable: true
    })
  }
  return error
}

export const ErrorCause = Schema.Json.pipe(
  Schema.decodeTo(Schema.Unknown, SchemaTransformation.transform({ decode, encode }))
)

/** The `code` of an error, e.g. ECONNREFUSED, or "". */
export const codeOf = (cause: unknown): string =>
  typeof cause === "object" && cause !== null && "code" in cause && typeof cause.code === "string" ? cause.code : ""

/** A Boolean field that may be left out when constructing and when decoding. */
export const defaultTo = (value: boolean) =>
  Schema.Boolean.pipe(
    Schema.withDecodingDefaultKey(Effect.succeed(value)),
    Schema.withConstructorDefault(Effect.succeed(value))
  )
