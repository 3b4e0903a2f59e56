/**
 * Counts what a call does, not how long it takes: each octet and character looked at or copied, each element of an array
 * walked over, each step of a regular expression. The built-ins count while a measurement runs, and are then as before.
 */
import { search } from "./regexp.ts"

type Method = (this: unknown, ...given: ReadonlyArray<unknown>) => unknown

interface Long {
  readonly length: number
}
/** What a call costs, by what it is called on, what it is given, and what it gives. */
type Cost = (self: Long, given: ReadonlyArray<Long | undefined>, result: Long & { readonly read: number }) => number

let work = 0
/** The counting itself does not count. */
let isCounting = false

const originals: Array<() => void> = []

/** Octets behind a proxy, for the built-ins that take nothing else. */
const targets = new WeakMap<object, Uint8Array>()
const bare = <A>(value: A): A =>
  (typeof value === "object" && value !== null ? targets.get(value) ?? value : value) as A

const replace = (holder: object, name: PropertyKey, value: unknown): void => {
  const original = Reflect.getOwnPropertyDescriptor(holder, name)!
  Object.defineProperty(holder, name, { ...original, value })
  originals.push(() => Object.defineProperty(holder, name, original))
}

const methodOf = (holder: object, name: PropertyKey): Method => {
  const value = Reflect.getOwnPropertyDescriptor(holder, name)?.value as unknown
  if (typeof value !== "function") throw new Error(`there is no ${String(name)}`)
  return value as Method
}

const patch = (holder: object, name: PropertyKey, cost: Cost): void => {
  const method = methodOf(holder, name)
  const counting = function(this: unknown, ...given: ReadonlyArray<unknown>): unknown {
    const plain = given.map(bare)
    if (!isCounting) return Reflect.apply(method, this, plain)
    isCounting = false
    try {
      const result = Reflect.apply(method, this, plain)
      work += 1 + cost(this as Long, plain as ReadonlyArray<Long>, result as Long & { readonly read: number })
      return result
    } finally {
      isCounting = true
    }
  }
  replace(holder, name, counting)
}

const ofSelf: Cost = (self) => self.length
const ofResult: Cost = (_, __, result) => result.length
const ofGiven: Cost = (_, [given]) => given?.length ?? 0
const one: Cost = () => 1

/** Callbacks run inside the method: their own work has to count. */
const patchWalk = (holder: object, name: PropertyKey): void => {
  const method = methodOf(holder, name)
  const counting = function(this: Long, ...given: ReadonlyArray<unknown>): unknown {
    if (isCounting) work += 1 + this.length
    return Reflect.apply(method, this, given)
  }
  replace(holder, name, counting)
}

const patchRegExp = (): void => {
  const original = RegExp.prototype.exec
  replace(RegExp.prototype, "exec", function(this: RegExp, input: string) {
    if (isCounting) {
      isCounting = false
      try {
        work += 1 + search(this, input, this.global || this.sticky ? this.lastIndex : 0, original).steps
      } finally {
        isCounting = true
      }
    }
    return original.call(this, input)
  })
}

const install = (): void => {
  const inString = ["toUpperCase", "toLowerCase", "includes", "indexOf", "normalize", "trim", "trimEnd", "trimStart"]
  for (const name of [...inString, Symbol.iterator]) patch(String.prototype, name, ofSelf)
  for (const name of ["slice", "substring", "repeat", "padStart"]) patch(String.prototype, name, ofResult)
  for (const name of ["startsWith", "endsWith"]) patch(String.prototype, name, ofGiven)
  for (const name of ["charCodeAt", "codePointAt"]) patch(String.prototype, name, one)
  for (const name of ["split", "replace", "replaceAll"]) patchWalk(String.prototype, name)
  const walks = ["map", "filter", "flatMap", "some", "every", "find", "findIndex", "reduce", "forEach"]
  for (const name of [...walks, Symbol.iterator]) patchWalk(Array.prototype, name)
  for (const name of ["concat", "join", "slice"]) patch(Array.prototype, name, ofResult)
  for (const name of ["includes", "indexOf", "splice"]) patch(Array.prototype, name, ofSelf)
  const typed = Object.getPrototypeOf(Uint8Array.prototype) as object
  patch(typed, "set", ofGiven)
  for (const name of ["slice", "map"]) patch(typed, name, ofResult)
  for (const name of ["indexOf", "fill", "every", "some", Symbol.iterator, "entries"]) patch(typed, name, ofSelf)
  for (const name of ["getInt32", "setInt32"]) patch(DataView.prototype, name, one)
  patch(TextDecoder.prototype, "decode", ofGiven)
  patch(TextEncoder.prototype, "encode", ofResult)
  patch(TextEncoder.prototype, "encodeInto", (_, __, result) => result.read)
  patchRegExp()
}

/** The work of a call. */
export const measured = (run: () => void): number => {
  work = 0
  install()
  isCounting = true
  try {
    run()
    return work
  } finally {
    isCounting = false
    for (const restore of originals.splice(0).toReversed()) restore()
  }
}

/** How far a search went. */
const searched = (target: Uint8Array, [, from = 0]: ReadonlyArray<number>, found: number): number =>
  (found < 0 ? target.length : found + 1) - from

/** Octets that count how often one of them is read. */
export const counted = (target: Uint8Array): Uint8Array => {
  const proxy = new Proxy(target, {
    get: (_, key) => {
      const value = Reflect.get(target, key, target) as unknown
      if (typeof value === "number") {
        if (key !== "length" && key !== "byteOffset" && key !== "byteLength") work++
        return value
      }
      if (typeof value !== "function") return value
      return (...given: ReadonlyArray<unknown>): unknown => {
        const wasCounting = isCounting
        isCounting = false
        const result = Reflect.apply(value, target, given.map(bare)) as unknown
        isCounting = wasCounting
        work += key === "indexOf"
          ? searched(target, given as ReadonlyArray<number>, result as number)
          : key === "subarray"
          ? 1
          : target.length
        return result instanceof Uint8Array ? counted(result) : result
      }
    }
  })
  targets.set(proxy, target)
  return proxy
}
