/** What it costs to import modules, one after another: `node import.ts '{"modules":["effect/Effect"]}'`. */
import { begin } from "./measure.ts"
import { type Args, fromProcess, print, type Sample } from "./model.ts"

export const run = async (args: Args): Promise<Sample> => {
  const end = begin(args)
  for (const module of args.modules) await import(module)
  return end(1, 0)
}

if (import.meta.main) {
  await run(fromProcess()).then(print)
}
