/**
 * Where the octets of one message go: counted, hashed, and kept unless only a digest is wanted.
 *
 * @since 0.1.0
 */
import { createSha256 } from "../internal/hash.ts"
import { concat } from "./records.ts"

/** What is left of a message in the end. */
export interface Sunk {
  readonly body: Uint8Array
  readonly size: number
  readonly sha256: string
}

/** Where the octets of one message go. */
export class Sink {
  size = 0
  private readonly limit: number
  private readonly keepsOctets: boolean
  private readonly hash = createSha256()
  private readonly chunks: Array<Uint8Array> = []

  /** @param limit octets after which nothing more is kept. */
  constructor(limit: number, keepsOctets: boolean) {
    this.limit = limit
    this.keepsOctets = keepsOctets
  }

  get isOverLimit(): boolean {
    return this.size > this.limit
  }

  push(octets: Uint8Array): void {
    this.size += octets.length
    if (this.isOverLimit) return
    this.hash.update(octets)
    if (this.keepsOctets) this.chunks.push(octets)
  }

  /** Once, at the end. */
  sunk(): Sunk {
    return { body: concat(this.chunks), size: this.size, sha256: this.hash.digest() }
  }
}
