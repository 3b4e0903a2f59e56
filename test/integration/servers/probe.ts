/** How a test talks to a server of the harness: connects, sends and reads back, and looks at what a closed layer left. */
import { assert } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import { randomUUID } from "node:crypto"
import { existsSync } from "node:fs"
import * as Sasl from "../../../src/Sasl.ts"
import * as SmtpConnection from "../../../src/SmtpConnection.ts"
import type * as SmtpError from "../../../src/SmtpError.ts"
import { isRunning } from "./daemon.ts"
import { type Account, accounts, type Daemon, type Server, type Store } from "./model.ts"
import { answers, until } from "./place.ts"

export const live = { excludeTestServices: true } as const

export const [alice] = accounts

export const password = ({ password, username }: Account) =>
  Sasl.password({ username, password: Redacted.make(password) })

export const connect = (options: SmtpConnection.Options) =>
  SmtpConnection.make({ name: "client.test", timeouts: { total: "20 seconds" }, ...options })

/** Over STARTTLS, verified. */
export const to = (
  { ca, host }: { readonly host: string; readonly ca: string },
  port: number
): SmtpConnection.Options => ({
  host,
  port,
  tlsOptions: { ca }
})

export const inClear = ({ host }: { readonly host: string }, port: number): SmtpConnection.Options => ({
  host,
  port,
  tls: "off"
})

/** What a transparent server gives back as it is: dots, a long line, an empty line at the end. */
export const messageFor = (id: string): string =>
  `Subject: ${id}\r\nFrom: <ann@client.test>\r\n\r\n.\r\n..two\r\n${"x".repeat(900)}\r\n.dot last\r\n\r\n`

/** Sends a message and reads it back. */
export const roundTrip = Effect.fnUntraced(function*(
  store: Store,
  options: SmtpConnection.Options,
  recipient = "alice@mx.test"
) {
  const connection = yield* connect(options)
  const id = randomUUID()
  yield* connection.send({ from: "ann@client.test", to: recipient }, messageFor(id))
  const [mail] = yield* store.awaitStored((one) => Buffer.from(one.bytes).includes(id))
  assert.strictEqual(Buffer.from(mail?.bytes ?? []).toString("latin1"), messageFor(id))
  assert.strictEqual(mail?.sender, "ann@client.test")
  assert.deepStrictEqual(mail?.recipients, [recipient])
  return connection
})

export const fate = (options: SmtpConnection.Options, recipient: string) =>
  Effect.flatMap(
    connect(options),
    (connection) => Effect.flip(connection.send({ from: "ann@client.test", to: recipient }, "x"))
  )

export const codeOf = (
  error: SmtpError.SmtpError
): readonly [string, number | undefined] => [error._tag, error.responseCode]

/** Builds the layer, looks at it, closes it, and looks at what is left. */
export const goesDown = <I, S extends { readonly host: string }>(
  tag: Context.Key<I, S>,
  layer: Layer.Layer<I>,
  ports: (server: S) => ReadonlyArray<number>
) =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    const server = Context.get(yield* Layer.buildWithScope(layer, scope), tag)
    const reached = () => Effect.forEach(ports(server), (port) => answers(server.host, port))
    assert.isTrue((yield* reached()).every((one) => one), "every port answers")
    yield* Scope.close(scope, Exit.void)
    assert.isTrue((yield* reached()).every((one) => !one), "every port refuses")
    return server
  })

/** The same of a daemon, with its processes and files. */
export const leavesNothing = <I, S extends Daemon & { readonly host: string }>(
  tag: Context.Key<I, S>,
  layer: Layer.Layer<I>,
  ports: (server: S) => ReadonlyArray<number>
) =>
  Effect.gen(function*() {
    let ids: ReadonlyArray<number> = []
    const watched = Layer.tap(layer, (context) =>
      Effect.map(Context.get(context, tag).processes, (found) => {
        ids = found
      }))
    const server = yield* goesDown(tag, watched, ports)
    assert.isAbove(ids.length, 0)
    assert.isTrue(yield* until(() => !ids.some(isRunning), 2000), "its processes are gone")
    assert.isFalse(existsSync(server.folder), "its folder is gone")
  })

export const valuesOf = (server: Pick<Server<string>, "ports">): ReadonlyArray<number> => Object.values(server.ports)
