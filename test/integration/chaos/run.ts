/** The run: workers that send, a proxy that cuts, a server that goes and comes back, and the ledger at the end. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as SmtpClient from "../../../src/SmtpClient.ts"
import * as SmtpConnection from "../../../src/SmtpConnection.ts"
import { SmtpConnector } from "../../../src/SmtpConnector.ts"
import { chunked, flights, grouped, inTurn, type Mode } from "../../support/modes.ts"
import type { Backend } from "./backend.ts"
import * as Connector from "./connector.ts"
import * as Ledger from "./ledger.ts"
import * as Plan from "./plan.ts"
import * as Proxy from "./proxy.ts"
import * as Random from "./random.ts"

export interface Options {
  readonly backend: Backend
  readonly seed: string
  readonly messages: number
  readonly concurrency: number
  /** How often the server is stopped and started. */
  readonly stops: number
  /** Whether the transport takes no more than the proxy has received; see connector.ts. */
  readonly isWindowed: boolean
}

export interface Report extends Ledger.Verdict {
  readonly sent: number
  readonly attempts: number
  readonly connections: number
  readonly stops: number
}

interface Job {
  readonly message: number
  readonly attempt: number
}

/** Longer than any deadline of the client: what takes longer hangs. */
const patience = 60_000

const pause = (milliseconds: number): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const timer = setTimeout(() => resume(Effect.void), milliseconds)
    return Effect.sync(() => clearTimeout(timer))
  })

class Run {
  readonly options: Options
  readonly proxy: Proxy.Proxy
  readonly handed: Set<string>
  readonly queue: Array<Job>
  readonly entries: Array<
    { readonly attempt: Plan.Attempt; readonly ending: Ledger.Ending; readonly link: Proxy.Link }
  > = []
  readonly up = Latch.makeUnsafe(true)
  sent = 0
  settled = 0
  connections = 0

  constructor(options: Options, proxy: Proxy.Proxy, handed: Set<string>) {
    this.options = options
    this.proxy = proxy
    this.handed = handed
    this.queue = Array.from({ length: options.messages }, (_, message) => ({ message, attempt: 1 }))
  }

  plan({ attempt, message }: Job): Plan.Attempt {
    return Plan.make(this.options.seed, this.options.backend, message, attempt)
  }

  /** The next attempt, and others that may share its connection. */
  take(): ReadonlyArray<Plan.Attempt> {
    const [job] = this.queue.splice(0, 1)
    if (job === undefined) return []
    const taken = [this.plan(job)]
    const random = Random.make(this.options.seed, "session", job.message, job.attempt)
    for (let room = random.chance(0.5) ? random.int(1, 9) : 0; room > 0 && !needsOwn(taken.at(-1)); room--) {
      const [more] = this.queue
      if (more === undefined) break
      const plan = this.plan(more)
      if (needsOwn(plan)) break
      this.queue.shift()
      taken.push(plan)
    }
    return taken
  }

  untried(attempts: ReadonlyArray<Plan.Attempt>): void {
    this.queue.unshift(...attempts)
  }

  readonly record = (attempt: Plan.Attempt, ending: Ledger.Ending, link: Proxy.Link): void => {
    this.entries.push({ attempt, ending, link })
    const next = Ledger.next(ending)
    if (next === "again" && attempt.attempt < Plan.maxAttempts) {
      this.queue.push({ message: attempt.message, attempt: attempt.attempt + 1 })
      return
    }
    this.settled++
    if (next === "sent") this.sent++
  }
}

const needsOwn = (attempt: Plan.Attempt | undefined): boolean =>
  attempt?.timeouts !== undefined || attempt?.within !== undefined

const guards: SmtpConnection.Timeouts = {
  greeting: "20 seconds",
  command: "20 seconds",
  data: "20 seconds",
  final: "20 seconds",
  quit: "1 second"
}

/** How a connection talks; the default as often as the others together. */
const modeOf = ({ options: { seed } }: Run, { attempt, message }: Plan.Attempt): Mode =>
  Random.make(seed, "mode", message, attempt).pick([flights, flights, flights, inTurn, grouped, chunked])

const optionsOf = (run: Run, link: Proxy.Link, attempt: Plan.Attempt): SmtpConnection.Options => ({
  ...modeOf(run, attempt).options,
  host: run.proxy.host,
  port: run.proxy.port,
  localAddress: link.address,
  name: "client.chaos.test",
  protocol: run.options.backend.protocol,
  ...run.options.backend.tls ? { tls: "starttls", tlsOptions: { rejectUnauthorized: false } } : { tls: "off" },
  timeouts: { ...guards, ...attempt.timeouts }
})

const envelopeOf = ({ recipients, sender }: Plan.Attempt) => ({ from: sender, to: recipients })

/** Runs a send so that the proxy may interrupt it; whatever it ends in is a value. */
const interruptible = <A, E, R>(
  link: Proxy.Link,
  send: Effect.Effect<A, E, R>
): Effect.Effect<Exit.Exit<A, E>, never, R> =>
  Effect.gen(function*() {
    const fiber = yield* Effect.forkChild(send)
    link.onInterrupt = () => fiber.interruptUnsafe()
    return yield* Fiber.await(fiber)
  })

const hangs = (what: string) => ({
  duration: patience,
  orElse: () => Effect.die(new Error(`${what} does not settle`))
})

/** One call of a client, on a connection of its own. */
const alone = Effect.fnUntraced(function*(run: Run, attempt: Plan.Attempt) {
  const link = run.proxy.link()
  run.connections++
  link.arm(attempt.fault)
  const made = yield* SmtpClient.make(optionsOf(run, link, attempt))
  const client = attempt.within === undefined ? made : SmtpClient.withTimeout(made, attempt.within)
  const send = client.send(envelopeOf(attempt), attempt.source)
  const ending = yield* Effect.timeoutOrElse(interruptible(link, send), hangs(attempt.sender))
  run.record(attempt, ending, link)
  link.close()
})

/** Several sends on one connection; those that it did not come to are tried elsewhere. */
const together = Effect.fnUntraced(function*(run: Run, attempts: ReadonlyArray<Plan.Attempt>) {
  const [first] = attempts
  if (first === undefined) return
  const way = Random.make(run.options.seed, "way", first.message, first.attempt).chance(0.4) ? inOneStream : oneByOne
  const link = run.proxy.link()
  run.connections++
  way.arm(link, first)
  const scope = yield* Scope.make()
  const make = Scope.provide(SmtpConnection.make(optionsOf(run, link, first)), scope)
  const opened = yield* interruptible(link, make)
  if (Exit.isFailure(opened)) run.record(first, Exit.failCause(opened.cause), link)
  const tried = Exit.isFailure(opened) ? 1 : yield* way.send(run, link, opened.value, attempts)
  run.untried(attempts.slice(tried))
  yield* Scope.close(scope, Exit.void)
  link.close()
})

interface Way {
  readonly arm: (link: Proxy.Link, attempt: Plan.Attempt) => void
  /** Gives how many were tried; the first is armed. */
  readonly send: (
    run: Run,
    link: Proxy.Link,
    connection: SmtpConnection.SmtpConnection,
    attempts: ReadonlyArray<Plan.Attempt>
  ) => Effect.Effect<number>
}

const oneByOne: Way = {
  arm: (link, { fault }) => link.arm(fault),
  send: Effect.fnUntraced(function*(run, link, connection, attempts) {
    for (const [n, attempt] of attempts.entries()) {
      if (n > 0) oneByOne.arm(link, attempt)
      const ending = yield* interruptible(link, connection.send(envelopeOf(attempt), attempt.source))
      run.record(attempt, ending, link)
      if (Exit.isFailure(ending) && !link.isOpen) return n + 1
    }
    return attempts.length
  })
}

/** Nobody is interrupted here: the connection is cut instead. */
const inOneStream: Way = {
  arm: (link, { fault }) =>
    link.arm(fault?.act === "interrupt" || fault?.act === "strand" ? { ...fault, act: "FIN" } : fault),
  send: Effect.fnUntraced(function*(run, link, connection, attempts) {
    const mails = Stream.fromIterable(attempts.entries()).pipe(
      Stream.rechunk(1),
      Stream.map(([n, attempt]) => {
        if (n > 0) inOneStream.arm(link, attempt)
        return { envelope: envelopeOf(attempt), message: attempt.source }
      })
    )
    let n = 0
    yield* Stream.runForEach(connection.sendAll(mails), (result) =>
      Effect.sync(() => {
        const attempt = attempts[n++]
        if (attempt === undefined) throw new Error("sendAll gave more results than mails")
        run.record(attempt, Result.isSuccess(result) ? Exit.succeed(result.success) : Exit.fail(result.failure), link)
      }))
    return n
  })
}

const work = (run: Run) =>
  Effect.gen(function*() {
    while (run.settled < run.options.messages) {
      const attempts = run.take()
      const [first] = attempts
      if (first === undefined) {
        yield* pause(5)
        continue
      }
      if (!first.isReckless) yield* run.up.await
      const needed = attempts.length === 1 && (needsOwn(first) || first.message % 2 === 0)
      yield* needed ? alone(run, first) : Effect.timeoutOrElse(together(run, attempts), hangs(first.sender))
    }
  })

/** Stops the server, in order or at once, and starts it again, so many times in the course of the run. */
const disturb = Effect.fnUntraced(function*(run: Run) {
  const { backend, messages, seed, stops } = run.options
  for (let n = 1; n <= stops; n++) {
    const random = Random.make(seed, "stop", n)
    const due = Math.floor(messages * (n - 0.5 + (random.real() - 0.5) / 2) / stops)
    while (run.settled < due) yield* pause(2)
    yield* run.up.close
    yield* random.chance(0.5) ? backend.kill : backend.stop
    yield* pause(random.int(10, 200))
    yield* backend.start
    yield* run.up.open
  }
})

/** What is stored, once all is stored that was accepted; waits for servers that deliver later. */
const settledStore = Effect.fnUntraced(function*(run: Run) {
  const { backend } = run.options
  const accepted = run.entries.flatMap(({ attempt, ending }) =>
    Exit.isSuccess(ending) ? ending.value.accepted.map((recipient) => `${attempt.sender} ${recipient}`) : []
  )
  const deadline = performance.now() + 30_000
  for (;;) {
    const kept = yield* backend.kept
    const there = new Set(kept.flatMap(({ recipients, sender }) => recipients.map((one) => `${sender} ${one}`)))
    if (accepted.every((one) => there.has(one)) || performance.now() > deadline) break
    yield* pause(100)
  }
  yield* backend.stop
  return yield* backend.kept
})

/** Sends so many messages through all this. Dies when a call does not settle. */
export const run = Effect.fnUntraced(function*(options: Options) {
  const handed = new Set<string>()
  const proxy = yield* Proxy.make(options.backend.address)
  const inner = yield* SmtpConnector
  const connector = Connector.watch(inner, proxy, options.isWindowed, handed)
  const run = new Run(options, proxy, handed)
  const sending = Effect.forEach(Array.from({ length: options.concurrency }), () => work(run), {
    concurrency: options.concurrency,
    discard: true
  })
  const disturbing = yield* Effect.forkChild(disturb(run))
  yield* Effect.provideService(sending, SmtpConnector, connector)
  yield* Fiber.join(disturbing)
  const kept = yield* settledStore(run)
  const entries = run.entries.map((entry) => ({ ...entry, isHanded: handed.has(entry.attempt.sender) }))
  const verdict = Ledger.judge(entries, kept, {
    isWindowed: options.isWindowed,
    deniesWhenStopped: options.backend.deniesWhenStopped
  })
  const report: Report = {
    ...verdict,
    sent: run.sent,
    attempts: entries.length,
    connections: run.connections,
    stops: options.stops
  }
  return report
})
