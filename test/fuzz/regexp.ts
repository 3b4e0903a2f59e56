/**
 * A backtracking matcher that counts its steps: what V8 does with a pattern cannot be counted from outside. It knows the
 * syntax that this library uses, and says so where it does not.
 */

/** Goes on behind a part of a pattern; gives the end of the match, or -1. */
type Next = (at: number) => number
type Matcher = (at: number, next: Next) => number

const limit = 50_000_000

class Pattern {
  readonly #source: string
  readonly #flags: string
  readonly #exec: RegExp["exec"]
  #at = 0
  steps = 0
  input = ""
  readonly match: Matcher

  constructor({ flags, source }: RegExp, exec: RegExp["exec"]) {
    this.#source = source
    this.#flags = flags.replace(/[gyd]/g, "")
    this.#exec = exec
    this.match = this.#alternatives()
    if (this.#at < source.length) throw new Error(`not known in a pattern: ${source.slice(this.#at)}`)
  }

  #eat(text: string): boolean {
    const isHere = this.#source.startsWith(text, this.#at)
    if (isHere) this.#at += text.length
    return isHere
  }

  #eatAll(pattern: RegExp): string | undefined {
    const found = this.#exec.call(pattern, this.#source.slice(this.#at))
    if (found === null) return undefined
    this.#at += found[0].length
    return found[0]
  }

  #alternatives(): Matcher {
    const all = [this.#sequence()]
    while (this.#eat("|")) all.push(this.#sequence())
    return all.length === 1 ? all[0]! : (at, next) => {
      for (const one of all) {
        const end = one(at, next)
        if (end >= 0) return end
      }
      return -1
    }
  }

  #sequence(): Matcher {
    const parts: Array<Matcher> = []
    while (this.#at < this.#source.length && !/^[|)]/.test(this.#source.slice(this.#at))) parts.push(this.#quantified())
    return parts.reduceRight<Matcher>(
      (rest, part) => (at, next) => part(at, (end) => rest(end, next)),
      (at, next) => next(at)
    )
  }

  #quantified(): Matcher {
    const isOne = { width: undefined as ((at: number) => number) | undefined }
    const atom = this.#atom(isOne)
    const sign = this.#eatAll(/^(?:[*+?]|\{\d+(?:,\d*)?\})/)
    if (sign === undefined) return atom
    if (this.#eat("?")) throw new Error("a lazy quantifier is not known")
    const [least, most = least] = sign === "*"
      ? [0, Infinity]
      : sign === "+"
      ? [1, Infinity]
      : sign === "?"
      ? [0, 1]
      : sign.slice(1, -1).split(",").map((text) => text === "" ? Infinity : Number(text)) as [number, number?]
    return isOne.width === undefined ? this.#loop(atom, least, most) : this.#run(isOne.width, least, most)
  }

  /** A loop over single characters, without recursion. */
  #run(width: (at: number) => number, least: number, most: number): Matcher {
    return (at, next) => {
      const ends = [at]
      while (ends.length <= most) {
        const last = ends[ends.length - 1]!
        const step = width(last)
        if (step === 0) break
        ends.push(last + step)
      }
      while (ends.length > least) {
        this.#step()
        const end = next(ends.pop()!)
        if (end >= 0) return end
      }
      return -1
    }
  }

  #loop(atom: Matcher, least: number, most: number): Matcher {
    const times = (count: number): Matcher => (at, next) => {
      const more = count < most
        ? atom(at, (end) => end === at && count >= least ? -1 : times(count + 1)(end, next))
        : -1
      return more >= 0 || count < least ? more : next(at)
    }
    return times(0)
  }

  #step(): void {
    if (++this.steps > limit) throw new Error(`a pattern took more than ${limit} steps: ${this.#source}`)
  }

  #atom(isOne: { width: ((at: number) => number) | undefined }): Matcher {
    if (this.#eat("^")) return (at, next) => at === 0 || this.#isLineEnd(at - 1) ? next(at) : -1
    if (this.#eat("$")) return (at, next) => at === this.input.length || this.#isLineEnd(at) ? next(at) : -1
    const look = this.#eatAll(/^\(\?<?[=!]/)
    if (look !== undefined) return this.#around(look)
    if (this.#eatAll(/^\((?:\?:|\?<[a-z]+>)?/i) !== undefined) {
      const inside = this.#alternatives()
      this.#eat(")")
      return inside
    }
    const source = this.#eatAll(
      /^(?:\[(?:\\[^]|[^\]\\])*\]|\\(?:u\{[^}]*\}|u[^]{4}|x[^]{2}|p\{[^}]*\}|[^])|[^()[\]*+?|])/i
    )
    if (source === undefined || /^\\[b1-9k]/.test(source)) throw new Error(`not known in a pattern: ${this.#source}`)
    const width = this.#single(source)
    isOne.width = width
    return (at, next) => {
      const step = width(at)
      return step === 0 ? -1 : next(at + step)
    }
  }

  #isLineEnd(at: number): boolean {
    return this.#flags.includes("m") && /[\r\n]/.test(this.input[at] ?? "")
  }

  #around(look: string): Matcher {
    const inside = this.#alternatives()
    this.#eat(")")
    const isWanted = look.endsWith("=")
    const isHere = look.includes("<")
      ? (at: number) =>
        Array.from({ length: at + 1 }, (_, from) => from).some((from) =>
          inside(from, (end) => end === at ? end : -1) >= 0
        )
      : (at: number) => inside(at, (end) => end) >= 0
    return (at, next) => isHere(at) === isWanted ? next(at) : -1
  }

  /** One character; the pattern itself says which. */
  #single(source: string): (at: number) => number {
    const one = new RegExp(`^${source}$`, this.#flags)
    const known = new Map<string, boolean>()
    const isUnicode = this.#flags.includes("u")
    return (at) => {
      this.#step()
      if (at >= this.input.length) return 0
      const character = isUnicode ? String.fromCodePoint(this.input.codePointAt(at)!) : this.input[at]!
      let matches = known.get(character)
      if (matches === undefined) known.set(character, matches = this.#exec.call(one, character) !== null)
      return matches ? character.length : 0
    }
  }
}

const patterns = new Map<string, Pattern>()

/** Steps that a search takes from here on, and where it finds something. */
export const search = (
  regexp: RegExp,
  input: string,
  from: number,
  exec: RegExp["exec"]
): { readonly steps: number; readonly at: number } => {
  const key = `${regexp.flags} ${regexp.source}`
  const pattern = patterns.get(key) ?? new Pattern(regexp, exec)
  patterns.set(key, pattern)
  pattern.steps = 0
  pattern.input = input
  const last = regexp.sticky ? from : input.length
  for (let at = from; at <= last; at++) {
    if (pattern.match(at, (end) => end) >= 0) return { steps: pattern.steps, at }
  }
  return { steps: pattern.steps, at: -1 }
}
