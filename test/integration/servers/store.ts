/** Reading back what a server stored. */
import * as Effect from "effect/Effect"
import { readdirSync, readFileSync, statSync } from "node:fs"
import { join } from "node:path"
import type { Store, Stored } from "./model.ts"
import { pause } from "./place.ts"

const patience = 20_000

/** A store over a way to list what is there. */
export const makeStore = (list: () => ReadonlyArray<Stored>): Store => ({
  stored: Effect.sync(list),
  awaitStored: Effect.fnUntraced(function*(predicate, count = 1) {
    const deadline = performance.now() + patience
    for (;;) {
      const found = list().filter(predicate)
      if (found.length >= count) return found
      if (performance.now() > deadline) {
        return yield* Effect.die(
          new Error(`${found.length} of ${count} expected messages were stored within ${patience / 1000} s`)
        )
      }
      yield* pause(10)
    }
  })
})

const namesIn = (folder: string): ReadonlyArray<string> => {
  try {
    return readdirSync(folder).filter((name) => !name.startsWith("."))
  } catch {
    return []
  }
}

/** Lists the files of folders, oldest first, each read once: none of these servers changes a message it stored. */
export const readFolders = (
  folders: () => ReadonlyArray<string>,
  parse: (octets: Buffer, path: string) => Stored
): () => ReadonlyArray<Stored> => {
  const known = new Map<string, { readonly mail: Stored; readonly at: bigint }>()
  return () => {
    for (const folder of folders()) {
      for (const name of namesIn(folder)) {
        const path = join(folder, name)
        if (known.has(path)) continue
        known.set(path, { mail: parse(readFileSync(path), path), at: statSync(path, { bigint: true }).mtimeNs })
      }
    }
    return [...known.values()].toSorted((a, b) => Number(a.at - b.at)).map(({ mail }) => mail)
  }
}

/** Where the header fields of these names end that come first, each once, in this order; fields may be absent. */
export const endOfTrace = (octets: Buffer, names: ReadonlyArray<string>): number => {
  let at = 0
  for (const name of names) {
    if (octets.subarray(at, at + name.length + 1).toString("latin1").toLowerCase() !== `${name.toLowerCase()}:`) {
      continue
    }
    do {
      const lf = octets.indexOf(0x0a, at)
      at = lf < 0 ? octets.length : lf + 1
    } while (octets[at] === 0x20 || octets[at] === 0x09)
  }
  return at
}
