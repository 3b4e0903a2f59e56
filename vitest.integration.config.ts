import { fileURLToPath } from "node:url"
import { defineConfig } from "vitest/config"

const src = (path: string) => fileURLToPath(new URL(`src/${path}`, import.meta.url))

/** .ci/run names a file here, to count what ran. */
const results = process.env["CI_RESULTS"]

/** The tests against real servers: `--mode long` (npm run test:long) runs the full figures. */
export default defineConfig(({ mode }) => ({
  resolve: {
    alias: [
      { find: /^effect-smtp$/, replacement: src("index.ts") },
      { find: /^effect-smtp\/(node|testing)$/, replacement: src("$1/index.ts") },
      { find: /^effect-smtp\/(.+)$/, replacement: src("$1.ts") }
    ]
  },
  test: {
    // The long run has the fuzz and model tests at full size too; at their usual size they are part of npm test.
    include: ["test/integration/**/*.test.ts", ...(mode === "long" ? ["test/fuzz.test.ts", "test/model.test.ts"] : [])],
    globalSetup: ["test/integration/servers/install.ts"],
    // One file at a time: chaos and soak measure, and two cores serve client and servers.
    fileParallelism: false,
    testTimeout: mode === "long" ? 900_000 : 60_000,
    hookTimeout: 60_000,
    env: mode === "long" ? { EFFECT_SMTP_LONG: "1" } : {},
    reporters: results === undefined ? ["verbose"] : ["verbose", ["json", { outputFile: results }]]
  }
}))
