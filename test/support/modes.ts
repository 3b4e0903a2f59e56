/**
 * The ways in which a connection talks to a server that offers PIPELINING and CHUNKING. What a send comes to is the same
 * in each, but for what was handed over when something goes wrong.
 */
import type * as SmtpConnection from "../../src/SmtpConnection.ts"
import type * as SmtpServer from "../../src/testing/SmtpServer.ts"

export interface Mode {
  readonly name: string
  readonly options: Pick<SmtpConnection.Options, "pipelining" | "chunking">
  /** More than one command goes at once. */
  readonly isGrouped: boolean
  /** How a message of a few octets goes that is whole, and how one that is a stream or large. */
  readonly via: "DATA" | "BDAT"
  readonly streamVia: "DATA" | "BDAT"
  /** The small message goes in one write with its envelope. */
  readonly isFlight: boolean
}

const mode = (name: string, options: Mode["options"]): Mode => {
  const { chunking, pipelining } = options
  const isGrouped = pipelining !== false
  const via = chunking === false ? "DATA" : "BDAT"
  const streamVia = chunking === "always" ? "BDAT" : "DATA"
  return { name, options, isGrouped, via, streamVia, isFlight: isGrouped && via === "BDAT" }
}

/** What RFC 5321 alone has. */
export const inTurn = mode("one command at a time", { pipelining: false, chunking: false })

/** RFC 2920 alone. */
export const grouped = mode("in groups", { chunking: false })

/** The default. */
export const flights = mode("in flights", {})

/** RFC 2920 and 3030, whatever the message. */
export const chunked = mode("in chunks", { chunking: "always" })

/** RFC 3030 alone. */
export const chunkedInTurn = mode("one chunk at a time", { pipelining: false, chunking: "always" })

export const modes: ReadonlyArray<Mode> = [inTurn, grouped, flights, chunked, chunkedInTurn]

export const byData = modes.filter(({ via }) => via === "DATA")

/** One for each way of the body, where it does not matter how its envelope goes. */
export const bodies: ReadonlyArray<Mode> = [inTurn, chunked]

/** Of a server that waits for no login: to another no flight goes before it has accepted MAIL. */
export const open = { auth: false } satisfies SmtpServer.Extensions
