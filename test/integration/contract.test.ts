import { printTable, suite } from "../SmtpClientTest.ts"
import * as fakes from "../support/contract/fakes.ts"
import { describeServer, type ServerName } from "./servers/index.ts"
import * as subjects from "./subjects.ts"

const real = (server: ServerName, targets: Readonly<Record<string, subjects.Target>>): void =>
  describeServer(server, () => {
    for (const [name, layer] of Object.entries(targets)) suite(name, layer)
  })

suite("fake server in memory", fakes.memory("smtp"))
suite("fake server in memory, LMTP", fakes.memory("lmtp"))
suite("fake server in memory, HELO only", fakes.bare)
suite("fake server on loopback", fakes.loopback("smtp"))
suite("fake server on loopback, LMTP", fakes.loopback("lmtp"))
real("SmtpServerNpm", subjects.npms)
real("SmtpSink", subjects.sinks)
real("Postfix", subjects.postfixes)
real("Dovecot", subjects.dovecots)
printTable()
