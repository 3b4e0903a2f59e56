/** The library as it is published, compiled for the rows that import it, and what of Effect it imports. */
import * as Effect from "effect/Effect"
import { execFile } from "node:child_process"
import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { BenchError } from "../model.ts"

const root = fileURLToPath(new URL("../../../", import.meta.url))
/** Below node_modules, so that `effect` is found from there. */
const folder = join(root, "node_modules/.cache/effect-smtp-bench")

const options = ["--outDir", folder, "--noCheck", "--declaration", "false", "--declarationMap", "false"]

/** Compiles src; gives the folder. */
export const build: Effect.Effect<string, BenchError> = Effect.callback<string, BenchError>((resume) => {
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, "package.json"), `{"type":"module"}`)
  const tsc = join(root, "node_modules/typescript/bin/tsc")
  execFile(process.execPath, [tsc, "-p", join(root, "tsconfig.build.json"), ...options], (error, stdout) => {
    resume(error === null ? Effect.succeed(folder) : Effect.fail(new BenchError({ message: `tsc: ${stdout}` })))
  })
})

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
