import { printTable, suite } from "../SmtpClientTest.ts"
import * as fakes from "../support/contract/fakes.ts"
import { flights, inTurn } from "../support/modes.ts"
import { describeServer, type ServerName } from "./servers/index.ts"
import * as subjects from "./subjects.ts"

/** The default, and what every server has. */
const modes = [flights, inTurn] as const

const real = (server: ServerName, targets: Readonly<Record<string, subjects.Target>>): void =>
  describeServer(server, () => {
    for (const [name, layer] of Object.entries(targets)) suite(name, layer, modes)
  })

suite("fake server in memory", fakes.memory("smtp"), modes)
suite("fake server in memory, LMTP", fakes.memory("lmtp"), modes)
suite("fake server in memory, HELO only", fakes.bare, modes)
suite("fake server on loopback", fakes.loopback("smtp"), modes)
suite("fake server on loopback, LMTP", fakes.loopback("lmtp"), modes)
real("SmtpServerNpm", subjects.npms)
real("SmtpSink", subjects.sinks)
real("Postfix", subjects.postfixes)
real("Dovecot", subjects.dovecots)
printTable()
