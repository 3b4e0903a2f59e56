import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import { parse, syntax } from "../../src/cli/faultFlag.ts"
import { SmtpServer } from "../../src/testing/index.ts"

const read = (text: string) => Option.getOrUndefined(parse(text))

describe("a fault as an argument", () => {
  it("is a reply at a step, every time", () => {
    const { at, answer } = SmtpServer
    assert.deepStrictEqual(
      read("rcpt=550 5.1.1 no such user"),
      at("rcpt", answer(550, "5.1.1 no such user"), { occurrence: "every" })
    )
    assert.deepStrictEqual(
      read("data=451"),
      at("data", answer(451, "4.0.0 asked for with --fault"), { occurrence: "every" })
    )
  })

  it("strikes the N-th time with #N, whatever the case of the step", () => {
    assert.deepStrictEqual(read("EHLO2#3=drop"), SmtpServer.at("ehlo2", SmtpServer.drop, { occurrence: 3 }))
    assert.strictEqual(read("authcontinue=reset")?.step, "authContinue")
  })

  it("is one of the named ones, all of which the help names", () => {
    for (const name of ["drop", "reset", "silence", "stall", "garbage", "slow", "tls-failure"]) {
      assert.isDefined(read(`mail=${name}`), name)
      assert.include(syntax, name)
    }
  })

  it("is a delay in words or in seconds", () => {
    const millis = ["data=delay:1.5", "data=delay:1500 millis"].map((text) => {
      const fault = read(text)?.fault
      return fault?._tag === "Delay" ? Duration.toMillis(Duration.fromInputUnsafe(fault.duration)) : undefined
    })
    assert.deepStrictEqual(millis, [1500, 1500])
  })

  it("is none otherwise", () => {
    const wrong = [
      "rcpt",
      "rcpt=",
      "=451",
      "connect=drop",
      "nostep=drop",
      "rcpt=199",
      "rcpt=4511",
      "rcpt#0=drop",
      "rcpt=delay:soon",
      "rcpt=toString",
      "constructor=drop"
    ]
    for (const text of wrong) assert.isUndefined(read(text), text)
  })
})
