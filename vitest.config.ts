import { fileURLToPath } from "node:url"
import { defineConfig } from "vitest/config"

const src = (path: string) => fileURLToPath(new URL(`src/${path}`, import.meta.url))

/** .ci/run names a file here, to count what ran. */
const results = process.env["CI_RESULTS"]

export default defineConfig({
  resolve: {
    alias: [
      { find: /^effect-smtp$/, replacement: src("index.ts") },
      { find: /^effect-smtp\/(node|testing)$/, replacement: src("$1/index.ts") },
      { find: /^effect-smtp\/(.+)$/, replacement: src("$1.ts") }
    ]
  },
  test: {
    // Exhaustive tests take their time on a slow or busy machine; none waits for a clock.
    testTimeout: 60_000,
    include: ["test/**/*.test.ts"],
    exclude: ["test/integration/**", "test/bench/**", "**/node_modules/**"],
    reporters: results === undefined ? ["default"] : ["default", ["json", { outputFile: results }]],
    coverage: {
      provider: "v8",
      include: ["src/**/*.ts"],
      reporter: ["text", "json-summary"],
      thresholds: { lines: 95, branches: 90 }
    }
  }
})
