import { describe, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SmtpConnection from "../../src/SmtpConnection.ts"
import * as NodeConnector from "../../src/node/NodeConnector.ts"
import { Postfix } from "./servers/index.ts"

describe("x", () => {
  layer(Layer.mergeAll(Postfix.layer, NodeConnector.layer), { excludeTestServices: true, timeout: "60 seconds" })("p", (it) => {
    it.effect("a", () => Effect.gen(function*() {
      const p = yield* Postfix.Postfix
      console.log(p.describe, p.ports)
      for (const port of Object.keys(p.ports) as Array<Postfix.Port>) {
        const tls = ["smtps", "clientCertificate"].includes(port) ? "implicit" as const : "opportunistic" as const
        const c = yield* Effect.result(SmtpConnection.make({ host: "127.0.0.1", port: p.ports[port], name: "client.test", tls, tlsOptions: { ca: p.ca } }))
        if (c._tag === "Failure") { console.log(port, c.failure.message); continue }
        const s = c.success
        console.log(port, s.secure, JSON.stringify([...s.capabilities.extensions.entries()].map(([k, v]) => k + " " + v.join(" "))), s.capabilities.sizeLimit)
        const c2 = yield* Effect.result(SmtpConnection.make({ host: "127.0.0.1", port: p.ports[port], name: "client.test", tls: "off" }))
        if (c2._tag === "Success") console.log("   clear", JSON.stringify([...c2.success.capabilities.extensions.keys()].toSorted()))
        const v = yield* Effect.result(Effect.all([s.vrfy("alice+x@mx.test"), s.expn("staff"), s.help()]))
        console.log("   ", v._tag === "Success" ? v.success.map((r) => r.code + r.text) : v.failure.message)
      }
    }), 60000)
  })
})
