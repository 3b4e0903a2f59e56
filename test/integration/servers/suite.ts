import { describe } from "@effect/vitest"
import { missing, type ServerName } from "./requirements.ts"

/** `describe` for a server: where it cannot run, every test of the body is skipped, under a name that says why. */
export const describeServer = (name: ServerName, body: () => void): void => {
  const reason = missing(name)
  if (reason === undefined) describe(name, body)
  else describe.skip(`${name}: skipped, ${reason}`, body)
}
