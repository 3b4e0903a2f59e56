/**
 * TLS on a wire that has spoken in the clear.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { TlsInfo } from "../SmtpConnector.ts"
import * as SmtpError from "../SmtpError.ts"
import type { Transcript } from "./transcript.ts"
import { unless } from "./within.ts"

/** What an upgrade asks of its wire. */
interface Upgradable {
  readonly failure: SmtpError.Failure | undefined
  readonly hasSurplus: boolean
  readonly transcript: Transcript
  readonly fail: (failure: SmtpError.Failure) => void
  readonly arm: (timeout: SmtpError.TimeoutName) => void
  readonly disarm: () => void
  readonly onFailure: (
    where: SmtpError.Where,
    told: (error: Effect.Effect<never, SmtpError.SmtpError>) => void
  ) => () => void
}

const surplus = (command: string): SmtpError.ETLS =>
  new SmtpError.ETLS({
    message: `${command}: the server sent plaintext before the TLS handshake; the connection is not trusted`,
    command
  })

const lost = (failure: SmtpError.Failure, command: string): SmtpError.ETLS =>
  new SmtpError.ETLS({
    message: `${command}: the connection was lost before the TLS handshake`,
    command,
    temporary: true,
    ...(failure._tag === "Errno" ? { cause: failure.cause } : {})
  })

/** The handshake, unless octets are held that came before it: there the wire is closed. */
export const upgrade = (
  wire: Upgradable,
  handshake: Effect.Effect<TlsInfo, SmtpError.ETLS>,
  command: string
): Effect.Effect<TlsInfo, SmtpError.ETLS | SmtpError.ETIMEDOUT> =>
  Effect.suspend(() => {
    if (wire.hasSurplus) {
      wire.fail({ _tag: "Released" })
      return Effect.fail(surplus(command))
    }
    if (wire.failure !== undefined) return Effect.fail(lost(wire.failure, command))
    wire.arm("tls")
    // A deadline may do away with the wire in the middle of the handshake, and with it the socket.
    const expired = (end: (error: Effect.Effect<never, SmtpError.ETIMEDOUT>) => void) =>
      wire.onFailure({ stage: "TLS", command }, (error) => {
        if (wire.failure?._tag === "Deadline") end(error as Effect.Effect<never, SmtpError.ETIMEDOUT>)
      })
    const secured = Effect.onExitPrimitive(unless(handshake, expired), (exit) => {
      wire.disarm()
      if (Exit.isFailure(exit)) wire.fail({ _tag: "Released" })
      return undefined
    })
    return Effect.tap(secured, ({ authorized, cipher, protocol }) =>
      wire.transcript.event(`${protocol} ${cipher}, certificate ${authorized ? "verified" : "not verified"}`))
  })
