import { assert, describe, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as SmtpConnection from "../../src/SmtpConnection.ts"
import * as NodeConnector from "../../src/node/NodeConnector.ts"
import * as Sasl from "../../src/Sasl.ts"
import * as Redacted from "effect/Redacted"
import * as Postfix from "./servers/Postfix.ts"

layer(Postfix.layer, { excludeTestServices: true })("postfix", (it) => {
  it.effect("x", () => Effect.gen(function*() {
    const p = yield* Postfix.Postfix
    console.log(p.describe, p.ports, yield* p.processes)
    const c = yield* SmtpConnection.make({ host: p.host, port: p.ports.submission, name: "client.test", tlsOptions: { ca: p.ca }, auth: Sasl.password({ username: "carol", password: Redacted.make("pässwörd€") }) })
    console.log(c.capabilities)
    console.log(yield* c.send({ from: "a@b.test", to: ["x@mx.test", "slow@mx.test", "y@elsewhere.example"] }, "Subject: x\r\n\r\n.hi\r\n"))
    console.log(yield* p.awaitStored(() => true, 3))
    console.log(yield* p.processes)
    yield* Effect.sync(() => console.log(String(process.getBuiltinModule("node:child_process").execSync("ps axo pid,ppid,pgid,sid,args | grep -E 'postfix|smtpd|qmgr' "))))
  }).pipe(Effect.provide(NodeConnector.layer), Effect.scoped))
})
