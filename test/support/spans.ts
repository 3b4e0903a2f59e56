/** The spans that a test collects, and what those of a connection to the fake server "mx.test" say of it. */
import * as Tracer from "effect/Tracer"

/** A tracer that keeps its spans, in the order of their start. */
export const makeTracer = () => {
  const spans: Array<Tracer.NativeSpan> = []
  const tracer = Tracer.make({
    span: (given) => {
      const span = new Tracer.NativeSpan(given)
      spans.push(span)
      return span
    }
  })
  return { spans, tracer }
}

export const attributesOf = (span: Tracer.NativeSpan | undefined): Readonly<Record<string, unknown>> =>
  Object.fromEntries(span?.attributes ?? [])

/** What it says of its security. */
export const secured = {
  "tls.established": true,
  "tls.protocol.name": "tls",
  "tls.protocol.version": "in-memory",
  "tls.cipher": "none",
  "tls.resumed": false,
  "smtp.security.verified_by": "certificate",
  "smtp.security.identity": "mx.test",
  "smtp.security.asked_by": "default"
}

/** All that it says of a connection with the default options, without a login. */
export const connected = {
  "server.address": "mx.test",
  "server.port": 25,
  "network.transport": "tcp",
  "network.protocol.name": "smtp",
  "network.peer.address": "127.0.0.1",
  "network.peer.port": 25,
  ...secured
}
