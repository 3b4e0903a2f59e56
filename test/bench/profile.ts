/** Where the time of a CPU profile went: self time by function, and by package or folder. Pure. */

interface Node {
  readonly id: number
  readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number }
}

/** What `node --cpu-prof` and the inspector write. */
export interface Profile {
  readonly nodes: ReadonlyArray<Node>
  readonly samples?: ReadonlyArray<number>
  readonly timeDeltas?: ReadonlyArray<number>
}

export interface Share {
  readonly name: string
  /** Milliseconds. */
  readonly self: number
  /** Of all that is not idle, 0 to 1. */
  readonly share: number
}

/** Files as they are known here: src/X.ts, effect/X, node:X. */
const placeOf = (url: string): string =>
  url.replace(/^file:\/\//, "").replace(/^.*\/node_modules\/(?:\.pnpm\/)?/, "").replace(/^.*\/(src|test)\//, "$1/")
    .replace(/^effect\/dist\//, "effect/")

const groupOf = ({ functionName, url }: Node["callFrame"]): string => {
  const place = placeOf(url)
  if (place === "") return functionName.startsWith("(") ? functionName : "(V8 and native)"
  if (place.startsWith("node:")) return "node:"
  return /^(src|test)\//.test(place) ? place : place.replace(/^((?:@[^/]+\/)?[^/]+)\/.*/, "$1")
}

const nameOf = ({ functionName, lineNumber, url }: Node["callFrame"]): string => {
  const place = placeOf(url)
  const name = functionName === "" ? "(anonymous)" : functionName
  return place === "" ? name : `${name} ${place}:${lineNumber + 1}`
}

const sum = (profile: Profile, nameOf: (frame: Node["callFrame"]) => string): ReadonlyArray<Share> => {
  const names = new Map(profile.nodes.map(({ callFrame, id }) => [id, nameOf(callFrame)]))
  const totals = new Map<string, number>()
  let all = 0
  for (const [n, id] of (profile.samples ?? []).entries()) {
    const name = names.get(id) ?? "?"
    if (name === "(idle)") continue
    // The time before the next sample is spent in this one.
    const self = Math.max(0, profile.timeDeltas?.[n + 1] ?? 0) / 1000
    all += self
    totals.set(name, (totals.get(name) ?? 0) + self)
  }
  return [...totals]
    .map(([name, self]) => ({ name, self, share: all === 0 ? 0 : self / all }))
    .toSorted((a, b) => b.self - a.self)
}

/** Self time by function, the most first. */
export const byFunction = (profile: Profile): ReadonlyArray<Share> => sum(profile, nameOf)

/** Self time by file of the project, and by package. */
export const byFile = (profile: Profile): ReadonlyArray<Share> => sum(profile, groupOf)

const row = ({ name, self, share }: Share): string =>
  `${(share * 100).toFixed(1).padStart(5)} % ${self.toFixed(1).padStart(8)} ms  ${name}`

/** The heads of both lists, as text. */
export const show = (profile: Profile, functions = 45, files = 20): string =>
  [
    `${
      Math.round(byFile(profile).reduce((sum, { self }) => sum + self, 0))
    } ms sampled; what libuv reads from sockets counts as`,
    "idle and is left out, as are the threads of the compiler and the collector.",
    "",
    "Self time by function:",
    ...byFunction(profile).slice(0, functions).map(row),
    "",
    "Self time by file and package:",
    ...byFile(profile).slice(0, files).map(row)
  ].join("\n")
