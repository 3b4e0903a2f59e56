import { printTable, suite } from "./SmtpClientTest.ts"
import * as fakes from "./support/contract/fakes.ts"

suite("fake server in memory", fakes.memory("smtp"))
suite("fake server in memory, LMTP", fakes.memory("lmtp"))
suite("fake server in memory, HELO only", fakes.bare)
suite("fake server on loopback", fakes.loopback("smtp"))
suite("fake server on loopback, LMTP", fakes.loopback("lmtp"))
printTable()
