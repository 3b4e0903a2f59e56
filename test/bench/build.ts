/** The library as it is published, and the clients, compiled; and what of Effect the library imports. */
import * as Effect from "effect/Effect"
import { execFile } from "node:child_process"
import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { BenchError } from "./model.ts"

const root = fileURLToPath(new URL("../../", import.meta.url))
/** Beside node_modules, so that `effect` is found from there. */
const folder = join(root, ".bench")

const compile = Effect.callback<string, BenchError>((resume) => {
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, "package.json"), `{"type":"module"}`)
  const tsc = join(root, "node_modules/typescript/bin/tsc")
  execFile(process.execPath, [tsc, "-p", join(root, "test/bench")], (error, stdout) => {
    resume(error === null ? Effect.succeed(folder) : Effect.fail(new BenchError({ message: `tsc: ${stdout}` })))
  })
})

/**
 * Compiles them once for this process; gives the folder. Whoever runs TypeScript as it is pays in every process for a
 * compiler that no user of the library has there.
 */
export const build: Effect.Effect<string, BenchError> = Effect.runSync(Effect.cached(compile))

const imports = /^(?:import|export)\s(?:[^"'`=;(]*?\sfrom\s)?"([^"]+)";?$/gm

/** What a compiled module and those behind it import of packages, in the order of evaluation. */
export const packageImports = (entry: string): ReadonlyArray<string> => {
  const seen = new Set<string>()
  const found = new Set<string>()
  const visit = (file: string): void => {
    if (seen.has(file)) return
    seen.add(file)
    for (const [, specifier = ""] of readFileSync(file, "utf8").matchAll(imports)) {
      if (specifier.startsWith(".")) visit(join(dirname(file), specifier))
      else found.add(specifier)
    }
  }
  visit(entry)
  return [...found]
}
