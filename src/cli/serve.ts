/**
 * `effect-smtp serve`: a server that takes every mail, stores it as a file, and says what came.
 *
 * What it is: the fake server on a real port, for people who write programs that send mail. What it is not: a mail
 * server; it delivers nothing.
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import type { PlatformError } from "effect/PlatformError"
import * as Random from "effect/Random"
import type * as NodeSmtpServer from "../node/NodeSmtpServer.ts"
import * as SmtpServer from "../testing/SmtpServer.ts"
import * as eml from "./eml.ts"
import * as faultFlag from "./faultFlag.ts"
import { escape, ExitCode, Failure, Output, run } from "./frame.ts"
import * as loopback from "./loopback.ts"
import { showOctets } from "./progress.ts"
import * as units from "./units.ts"

const flags = {
  ...loopback.loopbackFlags,
  ...loopback.accountFlags,
  tls: Flag.Literals("tls", ["off", "starttls", "implicit"]).pipe(
    Flag.withDescription("off (the default), starttls (offered) or implicit"),
    Flag.withDefault("off" as const)
  ),
  dir: Flag.String("dir").pipe(
    Flag.withAlias("d"),
    Flag.withMetavar("folder"),
    Flag.withDescription("Where messages are stored, one .eml file each (default: mail)"),
    Flag.withDefault("mail")
  ),
  name: Flag.String("name").pipe(
    Flag.withMetavar("name"),
    Flag.withDescription("The server's own name (default: localhost)"),
    Flag.withDefault("localhost")
  ),
  lmtp: Flag.Boolean("lmtp").pipe(Flag.withDescription("Speak LMTP"), Flag.withDefault(false)),
  max: Flag.Int("max").pipe(
    Flag.withMetavar("count"),
    Flag.filter((count) => count > 0, () => "expected a number from 1 on"),
    Flag.withDescription("End after so many messages (default: never)"),
    Flag.optional
  ),
  faults: Flag.String("fault").pipe(
    Flag.withMetavar("step=fault"),
    Flag.filterMap(faultFlag.parse, (text) => `"${escape(text)}" is no fault. ${faultFlag.syntax}`),
    Flag.withDescription("Do this wrong on purpose, e.g. rcpt=451 or data#2=drop; may be repeated"),
    Flag.atLeast(0)
  )
} as const

type Flags = { readonly [K in keyof typeof flags]: (typeof flags)[K] extends Flag.Flag<infer A> ? A : never }

const scriptOf = (given: Flags, accounts: Readonly<Record<string, string>> | undefined): SmtpServer.Script => {
  const mechanisms = accounts === undefined
    ? ["PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2"]
    : ["SCRAM-SHA-256", "PLAIN", "LOGIN", "CRAM-MD5"]
  return {
    name: given.name,
    protocol: given.lmtp ? "lmtp" : "smtp",
    accounts,
    requireAuth: accounts !== undefined,
    implicitTls: given.tls === "implicit",
    faults: given.faults,
    forget: true,
    extensions: {
      startTls: given.tls === "starttls",
      auth: mechanisms,
      authBeforeTls: given.tls === "off" ? mechanisms : false
    }
  }
}

/** How many recipients are named in a line. */
const maxNamed = 3

const recipientsOf = (to: ReadonlyArray<string>): string => {
  const named = to.slice(0, maxNamed).map((path) => escape(path, 100)).join(", ")
  return to.length > maxNamed ? `${named} and ${to.length - maxNamed} more` : named
}

class Catcher {
  stored = 0
  octets = 0
  private begun = 0
  private readonly folder: string
  private readonly most: number
  readonly full = Deferred.makeUnsafe<void>()

  constructor(folder: string, most: number) {
    this.folder = folder
    this.most = most
  }

  /** Stores a message, tells of it, and answers for it. */
  readonly take = Effect.fnUntraced(function*(this: Catcher, message: SmtpServer.Received) {
    if (this.begun >= this.most) return SmtpServer.reply(421, "4.3.2 enough messages, closing")
    const number = ++this.begun
    const time = yield* Clock.currentTimeMillis
    const name = eml.fileName(time, number, yield* Random.next)
    return yield* eml.write(this.folder, name, message.body).pipe(
      Effect.flatMap((file) => this.tell(message, file, number, time)),
      Effect.as(SmtpServer.reply(250, `2.0.0 stored as ${name}`)),
      Effect.catch((error) => this.lament(error))
    )
  }.bind(this))

  private readonly tell = Effect.fnUntraced(function*(
    this: Catcher,
    message: SmtpServer.Received,
    file: string,
    number: number,
    time: number
  ) {
    const { isJson, json, line, paint } = yield* Output
    const { body: _, from, secure, sha256, size, to, username } = message
    const subject = eml.subjectOf(message.body)
    this.stored++
    this.octets += size
    if (isJson) {
      yield* json({
        event: "message",
        number,
        time: new Date(time).toISOString(),
        file,
        from,
        to,
        subject,
        size,
        sha256,
        secure,
        username
      })
    } else {
      const who = [secure ? paint.green("TLS") : "no TLS", username === undefined ? "" : `as ${escape(username, 100)}`]
      const about = subject === undefined ? paint.dim("(no subject)") : paint.bold(escape(subject, 80))
      yield* line(
        `${number}  ${escape(from === "" ? "<>" : from, 100)} -> ${recipientsOf(to)}  ${about}  ` +
          `${showOctets(size)}, ${who.filter((part) => part !== "").join(", ")}  ${paint.dim(escape(file))}`
      )
    }
    if (this.stored >= this.most) yield* Deferred.succeed(this.full, undefined)
  }.bind(this))

  private readonly lament = Effect.fnUntraced(function*(this: Catcher, { reason }: PlatformError) {
    const { note, paintNote } = yield* Output
    this.begun--
    yield* note(`${paintNote.red("error:")} cannot write to ${escape(this.folder)}: ${reason._tag}`)
    return SmtpServer.reply(452, "4.3.1 the message could not be stored")
  }.bind(this))

  readonly summary = Effect.gen({ self: this }, function*() {
    const { json, line } = yield* Output
    yield* json({ event: "end", messages: this.stored, octets: this.octets })
    yield* line(`${units.count(this.stored, "message")}, ${showOctets(this.octets)}, in ${escape(this.folder)}`)
  })
}

/** Where the certificate is put, so that other programs can be told to trust it. */
const certificateFile = "certificate.pem"

const announce = Effect.fnUntraced(function*(given: Flags, server: NodeSmtpServer.Service) {
  const { json, line, note, paint, paintNote } = yield* Output
  const path = yield* Path.Path
  const { dir: folder, host, tls } = given
  const where = loopback.authority(server.host, server.port)
  const file = path.join(folder, certificateFile)
  const pins = loopback.pinsOf(server.ca)
  const trust = tls === "off" ? undefined : { certificate: file, pin: pins.key, certificatePin: pins.certificate }
  if (trust !== undefined) {
    yield* FileSystem.FileSystem.use((fs) => fs.writeFileString(file, server.ca)).pipe(
      Effect.mapError(notWritable(folder))
    )
  }
  if (!loopback.isLoopback(host)) {
    yield* note(`${paintNote.yellow("warning:")} other hosts can reach ${escape(host)}, and store mail here`)
  }
  yield* json({ event: "listening", host: server.host, port: server.port, tls, folder, ...trust })
  yield* line(`${paint.bold(given.lmtp ? "LMTP" : "SMTP")} on ${paint.bold(where)}, messages go to ${escape(folder)}`)
  if (trust !== undefined) {
    yield* line(`${tls === "implicit" ? "TLS" : "STARTTLS"}. To trust the certificate, one of`)
    yield* line(`  --ca ${escape(file)}   NODE_EXTRA_CA_CERTS=${escape(file)}`)
    yield* line(`  --pin ${trust.pin}`)
  }
})

const notWritable = (folder: string) => ({ reason }: PlatformError): Failure =>
  new Failure({ code: ExitCode.io, message: `cannot write to ${escape(folder)}: ${reason._tag}` })

/** How long connections may stay after the last message of `--max`. */
const farewell = "2 seconds"

const work = Effect.fnUntraced(function*(given: Flags) {
  yield* FileSystem.FileSystem.use((fs) => fs.makeDirectory(given.dir, { recursive: true })).pipe(
    Effect.mapError(notWritable(given.dir))
  )
  const tls = yield* loopback.certificateOf(given)
  const script = scriptOf(given, yield* loopback.accountsOf(given))
  const context = yield* Effect.context<Output | FileSystem.FileSystem | Path.Path>()
  const watch = given.transcript ? yield* loopback.watch : undefined
  const catcher = new Catcher(given.dir, Option.getOrElse(given.max, () => Infinity))
  const store = (message: SmtpServer.Received) => Effect.provideContext(catcher.take(message), context)
  const { host, port } = given
  const serving = Effect.gen(function*() {
    const server = yield* loopback.start({ host, port, tls, script: { ...script, store, watch } })
    yield* announce(given, server)
    yield* Deferred.await(catcher.full)
    yield* Effect.timeoutOption(server.awaitClosed, farewell)
  })
  yield* loopback.endingWell(Effect.scoped(serving), catcher.summary)
})

/** `effect-smtp serve` */
export const serve = Command.make("serve", flags, (given) => run(given, work(given))).pipe(
  Command.withDescription(
    "Catch mail while developing: listen, store each message as an .eml file, and say what came. Ctrl-C ends it.\n\n" +
      `A --fault is ${faultFlag.syntax}`
  ),
  Command.withShortDescription("Catch mail while developing"),
  Command.withExamples([
    { command: "effect-smtp serve", description: "Take any mail on 127.0.0.1:1025 and store it in ./mail" },
    {
      command: "SMTP_PASSWORD=secret effect-smtp serve --tls starttls --user app",
      description: "With TLS and a login, as a provider has them"
    },
    { command: "effect-smtp serve --max 1 --json", description: "Wait for one message and tell of it in JSON" },
    {
      command: "effect-smtp serve --fault 'rcpt#2=550 5.1.1 no such user' --fault data=delay:5",
      description: "Refuse the second recipient of each connection, and take 5 seconds at DATA"
    }
  ])
)
