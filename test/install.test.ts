import { assert, describe, it } from "@effect/vitest"
import { type Attempt, judge, type Verdict } from "./integration/servers/install.ts"

const attempt: Attempt = {
  packages: ["postfix", "knot"],
  canInstall: true,
  isCounted: true,
  failure: undefined,
  left: []
}
const failure = "apt-get: no such host"

describe("an integration run", () => {
  const rows: ReadonlyArray<readonly [name: string, given: Partial<Attempt>, tag: Verdict["_tag"], says: string]> = [
    ["starts when nothing was missing", { packages: [], canInstall: false }, "Ready", ""],
    ["starts when all was installed", {}, "Ready", ""],
    ["that is counted fails with the installation", { failure, left: ["knot"] }, "Failed", failure],
    ["that is counted fails when a package is still missing", { left: ["knot"] }, "Failed", "knot still missing"],
    ["that is not counted skips what could not be installed", { failure, isCounted: false }, "Fewer", failure],
    ["that is not counted skips what is still missing", { left: ["knot"], isCounted: false }, "Fewer", "knot still"],
    ["skips what it may not install, counted", { canInstall: false, left: ["knot"] }, "Fewer", "not root"],
    ["skips what it may not install, not counted", { canInstall: false, isCounted: false }, "Fewer", "not root"]
  ]
  it.each(rows)("%s", (_, given, tag, says) => {
    const verdict = judge({ ...attempt, ...given })
    assert.strictEqual(verdict._tag, tag)
    const text = "text" in verdict ? verdict.text : ""
    assert.include(text, says)
    if (tag !== "Ready") assert.include(text, "postfix, knot")
    if (tag === "Failed") assert.include(text, "CI_RESULTS is set")
  })
})
