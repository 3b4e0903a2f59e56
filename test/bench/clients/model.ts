/** What the client processes are told, and what they print. */

/**
 * - `lines`: 78 octets and CRLF; `base64`: 76 octets and CRLF
 * - `dots`: lines of one dot, so that each is stuffed; `bareLf`: `lines` with LF alone; `lfOnly`: empty lines that end in LF
 */
export type Content = "lines" | "base64" | "dots" | "bareLf" | "lfOnly"

/** How a client is given the message. */
export type Source = "text" | "octets" | "stream"

/**
 * What is measured.
 *
 * - `send`: one after another on each connection; `sendAll`: as one stream on each
 * - `pool`: `callers` at a time through a pool of `connections`
 * - `sessions`: connect, log in, send, QUIT, as often as there are messages
 * - `idle`: open connections and measure the memory that they hold
 */
export type Task = "send" | "sendAll" | "pool" | "sessions" | "idle"

export interface Args {
  readonly task: Task
  readonly port: number
  readonly connections: number
  readonly messages: number
  /** Messages before the measurement, on the same connections. */
  readonly warmup: number
  /** The size of a message of the warm-up; default: `size`. */
  readonly warmupSize?: number | undefined
  readonly size: number
  readonly content: Content
  readonly source: Source
  readonly recipients: number
  readonly callers: number
  readonly tls: "off" | "starttls" | "implicit"
  /** The certificate to trust, in PEM. */
  readonly ca?: string | undefined
  readonly auth: boolean
  /** Of our connections: `pipelining`, `chunking`, … */
  readonly options: Readonly<Record<string, unknown>>
  /** More of our envelopes. */
  readonly envelope: Readonly<Record<string, unknown>>
  /** The raw client: BDAT in place of DATA. */
  readonly bdat: boolean
  /** What import.ts imports. */
  readonly modules: ReadonlyArray<string>
  /** The file for a CPU profile of the load. */
  readonly profile?: string | undefined
}

export const defaults: Args = {
  task: "send",
  port: 0,
  connections: 1,
  messages: 1,
  warmup: 0,
  size: 1024,
  content: "lines",
  source: "text",
  recipients: 1,
  callers: 64,
  tls: "off",
  auth: false,
  options: {},
  envelope: {},
  bdat: false,
  modules: []
}

/** The warm-up as a load of its own. */
export const warmupOf = (args: Args): Args => ({ ...args, size: args.warmupSize ?? args.size })

export interface Sample {
  /** Seconds. */
  readonly cpu: number
  /** Seconds. */
  readonly wall: number
  readonly messages: number
  /** Octets of the messages, as they were given. */
  readonly octets: number
  /** The peak of the resident memory over where it stood at the start, in octets. */
  readonly growth: number
  /** The memory that each connection holds, in octets: the heap with what hangs on it, and the whole process. */
  readonly perConnection?: { readonly heap: number; readonly resident: number } | undefined
}

export const username = "bench"
export const password = "bench"
export const sender = "sender@example.com"
export const clientName = "client.example.com"

export const recipients = (count: number): ReadonlyArray<string> =>
  Array.from({ length: count }, (_, n) => `recipient${n}@example.com`)

/** Splits a number into parts that differ by at most one. */
export const split = (total: number, parts: number): ReadonlyArray<number> =>
  Array.from({ length: parts }, (_, n) => Math.floor((total + n) / parts))

/** The arguments of this process. */
export const fromProcess = (): Args => ({ ...defaults, ...JSON.parse(process.argv[2] ?? "{}") as Partial<Args> })

export const print = (sample: Sample): void => void process.stdout.write(`${JSON.stringify(sample)}\n`)
