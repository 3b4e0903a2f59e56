import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { readdirSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import * as SmtpCapabilities from "../src/SmtpCapabilities.ts"
import { SmtpConnector } from "../src/SmtpConnector.ts"
import * as SmtpReply from "../src/SmtpReply.ts"
import { type Dialogue, type Fixture, parse, placeholder } from "./fixtures/dialogue.ts"
import { type Cut, cuts, make } from "./fixtures/replay.ts"
import { isScenario, run } from "./fixtures/scenarios.ts"
import { accounts } from "./integration/servers/model.ts"

const folder = new URL("fixtures/dialogues/", import.meta.url)
const texts = readdirSync(folder).toSorted()
  .map((name) => [name, readFileSync(fileURLToPath(new URL(name, folder)), "utf8")] as const)
const fixtures = texts.map(([, text]) => JSON.parse(text) as Fixture)
const allCuts = Object.keys(cuts) as Array<Cut>

/** "logins by PLAIN" and "send in clear" are scenarios with another setup. */
const scenarioOf = (name: string) => {
  const scenario = name.split(" ", 1)[0]!
  return isScenario(scenario) ? scenario : assert.fail(`no scenario is called ${scenario}`)
}

const replay = Effect.fnUntraced(function*(name: string, dialogue: Dialogue, cut: Cut) {
  const { connector, difference } = make(dialogue, cut)
  const place = { host: "mx.test", port: 25, secret: placeholder }
  const outcome = yield* run(scenarioOf(name), dialogue.setup, place).pipe(
    Effect.provideService(SmtpConnector, connector)
  )
  return { difference: yield* difference, outcome }
})

describe.each(fixtures)("$server.name $server.version, port $server.port", ({ dialogues }) => {
  describe.each(Object.entries(dialogues))("%s", (name, dialogue) => {
    it.effect.each(allCuts)("the client says the same and comes to the same outcome when answers come %s", (cut) =>
      Effect.gen(function*() {
        assert.deepStrictEqual(yield* replay(name, dialogue, cut), {
          difference: undefined,
          outcome: dialogue.outcome
        })
      }))
  })
})

describe("the goldens", () => {
  const servers = [...new Set(fixtures.map(({ server }) => server.name))]

  it("are of all four servers", () => {
    assert.deepStrictEqual(servers, ["Dovecot", "Postfix", "smtp-server", "smtp-sink"])
  })

  it("hold no password, neither in the clear nor encoded", () => {
    for (const [file, text] of texts) {
      const lines = Object.values((JSON.parse(text) as Fixture).dialogues).flatMap((dialogue) => dialogue.lines)
      const decoded = lines.flatMap((line) => line.trim().split(" ")).map((word) => Buffer.from(word, "base64"))
      for (const { password } of accounts) {
        assert.isFalse(lines.some((line) => line.includes(password)), file)
        assert.isFalse(decoded.some((octets) => octets.includes(password)), file)
      }
    }
  })

  const goldenOf = (server: string, port: string, name: string): Dialogue => {
    const fixture = fixtures.find((one) => one.server.name === server && one.server.port === port)
    return fixture?.dialogues[name] ?? assert.fail(`no golden ${server} ${port} ${name}`)
  }
  const golden = goldenOf("smtp-server", "submission", "logins by PLAIN")
  const alter = (line: number, text: string) => ({ ...golden, lines: golden.lines.with(line, text) })
  const lineOf = (start: string) => golden.lines.findIndex((line) => line.startsWith(start))

  it.effect("tell of a client that says something else", () =>
    Effect.gen(function*() {
      const other = alter(lineOf("C: MAIL"), "C: MAIL FROM:<other@client.test>\r\n")
      const { difference } = yield* replay("logins by PLAIN", other, "whole")
      assert.include(difference, "expected \"MAIL FROM:<other@client.test>")
      assert.include(difference, "the client said \"MAIL FROM:<sender@client.test>")
    }))

  it.effect("tell of a client that says more, and of one that stops too soon", () =>
    Effect.gen(function*() {
      const shorter = { ...golden, lines: golden.lines.slice(0, lineOf("C: QUIT")) }
      const more = yield* replay("logins by PLAIN", { ...shorter, lines: [...shorter.lines, "* closed"] }, "whole")
      assert.include(more.difference, "the client went on: \"QUIT")
      const longer = { ...golden, lines: [...golden.lines, "C: NOOP\r\n"] }
      const less = yield* replay("logins by PLAIN", longer, "whole")
      assert.include(less.difference, "not played: ")
    }))

  it.effect("come to another outcome when the server says something else", () =>
    Effect.gen(function*() {
      const refused = alter(lineOf("S: 354"), "S: 451 4.3.0 not now\r\n")
      const { outcome } = yield* replay("logins by PLAIN", { ...refused, lines: refused.lines }, "line by line")
      assert.notDeepEqual(outcome, golden.outcome)
    }))
})
