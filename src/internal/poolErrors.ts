/**
 * What a pool itself says no with. All of it comes before a byte is sent, and may be tried again.
 */
import * as Duration from "effect/Duration"
import * as SmtpError from "../SmtpError.ts"

const api = { command: "API", attempted: false } as const

/** The scope of the pool has ended, or ends. Temporary: a later run of the program may send it. */
export const closed = (): SmtpError.ECONNECTION =>
  new SmtpError.ECONNECTION({ ...api, message: "API: the pool is closed, for its scope has ended", temporary: true })

/** Nobody more may wait. */
export const full = (maxWaiting: number, max: number): SmtpError.ECONNECTION => {
  const field = "options.pool.maxWaiting"
  const who = maxWaiting === 1 ? "1 call waits" : `${maxWaiting} calls wait`
  return new SmtpError.ECONNECTION({
    ...api,
    field,
    message: `${field}: ${who} for one of ${max} connections already; send slower, or raise max or maxWaiting`,
    temporary: true
  })
}

const acquireField = "options.pool.acquireTimeout"

/** Nobody gave a connection back in time. */
export const late = (millis: number): SmtpError.ECONNECTION =>
  new SmtpError.ECONNECTION({
    ...api,
    field: acquireField,
    message: `${acquireField}: no connection was free for ${Duration.format(Duration.millis(millis))}; raise max or ` +
      "acquireTimeout, and call the client nowhere inside its own `use`",
    temporary: true
  })

/** Whether it waited too long for a connection; there may be one later. */
export const isLate = (error: unknown): boolean =>
  error instanceof SmtpError.ECONNECTION && error.field === acquireField

/** Somebody kept a connection of `use` after its end. */
export const givenBack = (): SmtpError.ECONNECTION =>
  new SmtpError.ECONNECTION({
    ...api,
    message: "API: this connection went back to its pool when `use` ended; do all of it inside",
    temporary: false
  })
