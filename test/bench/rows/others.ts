/** Sessions, idle connections, the pool, and the start. */
import * as Effect from "effect/Effect"
import { existsSync } from "node:fs"
import { join } from "node:path"
import { build, packageImports } from "../build.ts"
import { atLeast, atMost, type Comparison } from "../model.ts"

const hasPool = (): boolean => existsSync(new URL("../../../src/SmtpPool.ts", import.meta.url))

const percent = (share: number): string => `${Math.round(share * 100)} %`

const sessions: Comparison = {
  id: "sessions",
  row: "sessions",
  load: "500 × connect, STARTTLS, AUTH, send 1 KiB, QUIT",
  server: { kind: "sink", offer: ["PIPELINING", "8BITMIME", "SIZE", "AUTH PLAIN"], tls: "starttls" },
  unit: "messages",
  args: { task: "sessions", messages: 500, warmup: 500, tls: "starttls", auth: true },
  ours: { program: "ours" },
  peer: { program: "nodemailer" },
  targets: [atMost("cpu", 1)]
}

const many: Comparison = {
  id: "many",
  row: "many",
  load: "1 000 open connections, idle",
  server: { kind: "sink", offer: ["PIPELINING", "8BITMIME"] },
  unit: "connections",
  args: { task: "idle", connections: 1000, messages: 0, warmup: 100 },
  ours: { program: "ours" },
  peer: { program: "nodemailer" },
  targets: [atMost("heap", 1), atMost("resident", 1)]
}

const concurrent: Comparison = {
  id: "concurrent",
  row: "concurrent",
  load: "10 000 × 1 KiB through a pool of 8, 64 callers",
  server: { kind: "smtp-sink" },
  unit: "messages",
  args: { task: "pool", connections: 8, messages: 10_000, warmup: 10_000, callers: 64 },
  ours: { program: "ours", label: "SmtpClient" },
  peer: { program: "nodemailer", label: "Nodemailer's pool" },
  targets: [atMost("cpu", 0.8), atLeast("speed", 1.5)],
  missing: () => hasPool() ? undefined : "there is no SmtpPool yet"
}

const start = (id: string, modules: ReadonlyArray<string>): Comparison => ({
  id,
  row: "import",
  load: `import of ${modules.map((module) => `effect-smtp/${module}`).join(" and ")}`,
  server: { kind: "none" },
  unit: "seconds",
  args: {},
  ours: { program: "import", label: "effect-smtp" },
  peer: { program: "import", label: "nodemailer", args: { modules: ["nodemailer"] } },
  targets: [],
  prepare: Effect.map(build, (folder) => {
    const files = modules.map((module) => join(folder, "src", `${module}.js`))
    const behind = [...new Set(files.flatMap(packageImports))]
    return {
      ours: { program: "import", label: "effect-smtp", args: { modules: files } },
      extra: { contender: { program: "import", args: { modules: behind } }, server: { kind: "none" } }
    }
  }),
  note: ({ extra, ours }) =>
    extra === undefined ? "" : `Effect's modules and Node's are ${percent(extra.cpu / ours.cpu)} of our CPU`
})

export const others: ReadonlyArray<Comparison> = [
  sessions,
  many,
  concurrent,
  start("import", ["SmtpClient"]),
  start("import-node", ["SmtpClient", "node/NodeConnector"])
]
