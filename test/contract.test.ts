import { printTable, suite } from "./SmtpClientTest.ts"
import * as fakes from "./support/contract/fakes.ts"
import { chunked, chunkedInTurn, flights, grouped, inTurn } from "./support/modes.ts"

const modes = [flights, inTurn, grouped, chunked, chunkedInTurn] as const

suite("fake server in memory", fakes.memory("smtp"), modes)
suite("fake server in memory, LMTP", fakes.memory("lmtp"), modes)
suite("fake server in memory, HELO only", fakes.bare, modes)
suite("fake server on loopback", fakes.loopback("smtp"), modes)
suite("fake server on loopback, LMTP", fakes.loopback("lmtp"), modes)
printTable()
