/** Observability: traces and metrics over OTLP; the collector, on loopback, prints what it was sent. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Console, Effect, Layer } from "effect"
import { FetchHttpClient } from "effect/http"
import { Otlp } from "effect/observability"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { json } from "node:stream/consumers"
import { SmtpClient } from "../src/index.ts"
import { SmtpServer } from "../src/testing/index.ts"

const faults = [SmtpServer.at("rcpt", SmtpServer.answer(550, "5.1.1 who?"), { occurrence: 2 })]
const relay = SmtpClient.layer({ host: "relay.example.test" }).pipe(Layer.provide(SmtpServer.layer({ faults })))
const backend = SmtpClient.SmtpClient.use((smtp) => {
  const send = (to: string) => Effect.ignore(smtp.send({ from: "", to }, "Subject: Hi\n\nHello\n"))
  return Effect.forEach(["ann@example.test", "nobody@example.test"], send)
}).pipe(Effect.withSpan("signup"))

type Told = { readonly [part: string]: Told } & ReadonlyArray<Told>
const said: Array<string> = []
const shown = /^(smtp.(outcome|phase|response.enhanced)|error|tls.protocol.version)/
const say = (of: Told | undefined, ...words: Array<unknown>) => {
  const about = of?.["attributes"]?.filter(({ key }) => shown.test(`${key}`)) ?? []
  said.push([...words, ...about.flatMap(({ value }) => Object.values(value ?? {}))].join(" "))
}
const read = ({ resourceMetrics, resourceSpans }: Told): void => {
  resourceSpans?.[0]?.["scopeSpans"]?.[0]?.["spans"]?.forEach((span) => say(span, span["name"]))
  resourceMetrics?.[0]?.["scopeMetrics"]?.[0]?.["metrics"]?.forEach(({ gauge, histogram, name, sum, unit }) => {
    for (const one of (sum ?? gauge ?? histogram)!["dataPoints"]!) say(one, name, one["count"] ?? one["asDouble"], unit)
  })
}
const collector = createServer((request, response) => {
  const answer = () => response.setHeader("connection", "close").end("{}")
  void json(request).then((body) => read(body as Told)).then(answer)
}).listen(0, "127.0.0.1", () => {
  const baseUrl = `http://127.0.0.1:${(collector.address() as AddressInfo).port}`
  const exporter = Otlp.layerJson({ baseUrl, resource: { serviceName: "backend" } })
  const layer = exporter.pipe(Layer.provide(FetchHttpClient.layer), Layer.provideMerge(relay))
  Effect.provide(backend, layer).pipe(Effect.andThen(() => Console.log(said.join("\n"))), NodeRuntime.runMain)
}).unref()
