/**
 * The attributes of spans: OpenTelemetry's registered names where it has some, "smtp." for what is of mail alone. None holds
 * a mail address, a secret, or a text that the server chose.
 */
import { isSmtpError } from "../../SmtpError.ts"
import type { SmtpReply } from "../../SmtpReply.ts"
import * as metrics from "../metrics.ts"
import type { Resolved } from "../options.ts"
import * as securityReport from "../securityReport.ts"
import { errorTypeOf } from "./errorType.ts"
import type { Seen } from "./outcome.ts"

export type Attributes = Readonly<Record<string, unknown>>

/** Of the server that is meant. */
export const ofServer = ({ endpoint, protocol }: Resolved): Attributes => ({
  "server.address": endpoint.path ?? endpoint.host,
  ...(endpoint.path === undefined ? { "server.port": endpoint.port } : {}),
  "network.transport": endpoint.path === undefined ? "tcp" : "unix",
  "network.protocol.name": protocol
})

/** Of the server that was reached; made once for each connection. */
export const ofConnection = (report: securityReport.SecurityReport): Attributes => {
  const known = made.get(report)
  if (known !== undefined) return known
  const attributes = securityReport.attributesOf(report)
  made.set(report, attributes)
  return attributes
}

const made = new WeakMap<securityReport.SecurityReport, Attributes>()

interface Span {
  readonly attribute: (key: string, value: unknown) => void
}

export const annotate = (span: Span, attributes: Attributes): void => {
  for (const key in attributes) span.attribute(key, attributes[key])
}

const annotateReply = (span: Span, errorType: string | undefined, reply: SmtpReply | undefined): void => {
  if (errorType !== undefined) span.attribute(metrics.attributes.errorType, errorType)
  if (reply === undefined) return
  const { code, enhancedCode } = reply
  span.attribute("smtp.response.code", code)
  if (enhancedCode !== undefined) span.attribute("smtp.response.enhanced_code", enhancedCode)
}

/** Of what nothing was sent with, such as a connection that could not be opened. */
export const annotateError = (span: Span, error: unknown): void =>
  annotateReply(span, errorTypeOf(error), isSmtpError(error) ? error.reply : undefined)

/** Of what became of a send. */
export const annotateSeen = (span: Span, seen: Seen): void => {
  span.attribute(metrics.attributes.outcome, seen.outcome)
  span.attribute("smtp.in_doubt", seen.isInDoubt)
  annotateReply(span, seen.errorType, seen.reply)
  if (seen.accepted !== undefined) span.attribute("smtp.recipients.accepted", seen.accepted)
  if (seen.rejected !== undefined) span.attribute("smtp.recipients.rejected", seen.rejected)
  if (seen.size !== undefined) span.attribute("smtp.message.size", seen.size)
}
