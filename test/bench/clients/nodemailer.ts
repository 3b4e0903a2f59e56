/** Nodemailer as a client of the bench: its SMTPConnection as its documentation uses it, and its pooled transport. */
import { createTransport } from "nodemailer"
import SMTPConnection from "nodemailer/lib/smtp-connection"
import * as content from "./content.ts"
import { begin, memory, perOne } from "./measure.ts"
import {
  type Args,
  clientName,
  fromProcess,
  password,
  print,
  recipients,
  type Sample,
  sender,
  split,
  username,
  warmupOf
} from "./model.ts"

const optionsOf = (args: Args) => ({
  host: "127.0.0.1",
  port: args.port,
  name: clientName,
  secure: args.tls === "implicit",
  requireTLS: args.tls === "starttls",
  ignoreTLS: args.tls === "off",
  tls: args.ca === undefined ? {} : { ca: args.ca },
  logger: false
})

const connect = (args: Args): Promise<SMTPConnection> =>
  new Promise((resolve, reject) => {
    const connection = new SMTPConnection(optionsOf(args))
    connection.on("error", reject)
    connection.connect((error) => {
      if (error) reject(error)
      else if (!args.auth) resolve(connection)
      else {
        connection.login({ user: username, pass: password }, (error) => {
          if (error) reject(error)
          else resolve(connection)
        })
      }
    })
  })

/** Connections, at most 16 at once in the making. */
const open = async (args: Args, count: number): Promise<ReadonlyArray<SMTPConnection>> => {
  const connections: Array<SMTPConnection> = []
  await Promise.all(
    split(count, 16).map(async (part) => {
      for (let n = 0; n < part; n++) connections.push(await connect(args))
    })
  )
  return connections
}

interface Mail {
  readonly envelope: () => { readonly from: string; readonly to: Array<string> }
  readonly message: () => Parameters<SMTPConnection["send"]>[1]
}

const mailOf = (args: Args): Mail => {
  const to = [...recipients(args.recipients)]
  // Nodemailer keeps its notes in the envelope that it is given: a new one for each message.
  const envelope = () => ({ from: sender, to })
  if (args.source === "stream") return { envelope, message: () => content.readable(args.content, args.size) }
  const text = content.text(args.content, args.size)
  const message = args.source === "text" ? text : Buffer.from(text)
  return { envelope, message: () => message }
}

const sendOn = (connection: SMTPConnection, mail: Mail, count: number): Promise<void> =>
  new Promise((resolve, reject) => {
    let left = count
    const next = () => {
      if (left-- === 0) return resolve()
      connection.send(mail.envelope(), mail.message(), (error) => {
        if (error) reject(error)
        else next()
      })
    }
    next()
  })

const sendOver = (connections: ReadonlyArray<SMTPConnection>, mail: Mail, total: number) =>
  Promise.all(split(total, connections.length).map((count, n) => sendOn(connections[n]!, mail, count)))

/** Says QUIT, and waits until the connection is closed. */
const quit = (connection: SMTPConnection): Promise<void> =>
  new Promise((resolve) => {
    connection.once("end", resolve)
    connection.quit()
  })

type Task = (args: Args) => Promise<Sample>

/** Over connections that are open; with no warm-up, opening them is measured too. */
const send: Task = async (args) => {
  const mail = mailOf(args)
  const early = args.warmup === 0 ? begin(args) : undefined
  const connections = await open(args, args.connections)
  await sendOver(connections, mailOf(warmupOf(args)), args.warmup)
  const end = early ?? begin(args)
  await sendOver(connections, mail, args.messages)
  const sample = end(args.messages, args.messages * args.size)
  await Promise.all(connections.map(quit))
  return sample
}

const pool: Task = async (args) => {
  const transport = createTransport({
    ...optionsOf(args),
    pool: true,
    maxConnections: args.connections,
    maxMessages: Number.POSITIVE_INFINITY
  })
  const { envelope } = mailOf(args)
  const raw = content.text(args.content, args.size)
  const sendSome = (count: number) =>
    Promise.all(
      split(count, args.callers).map(async (part) => {
        for (let n = 0; n < part; n++) await transport.sendMail({ envelope: envelope(), raw })
      })
    )
  await sendSome(args.warmup)
  const end = begin(args)
  await sendSome(args.messages)
  const sample = end(args.messages, args.messages * args.size)
  transport.close()
  return sample
}

const sessions: Task = async (args) => {
  const mail = mailOf(args)
  const some = async (count: number) => {
    for (let n = 0; n < count; n++) {
      const connection = await connect(args)
      await sendOn(connection, mail, 1)
      await quit(connection)
    }
  }
  await some(args.warmup)
  const end = begin(args)
  await some(args.messages)
  return end(args.messages, args.messages * args.size)
}

const idle: Task = async (args) => {
  await Promise.all((await open(args, args.warmup)).map(quit))
  const before = memory()
  const end = begin(args)
  const connections = await open(args, args.connections)
  const sample = end(0, 0)
  const perConnection = perOne(before, memory(), connections.length)
  await Promise.all(connections.map(quit))
  return { ...sample, perConnection }
}

const tasks: Partial<Record<Args["task"], Task>> = { send, pool, sessions, idle }

/** Does the task and gives what it took. */
export const run = (args: Args): Promise<Sample> => {
  const task = tasks[args.task]
  return task === undefined ? Promise.reject(new Error(`Nodemailer has no task "${args.task}"`)) : task(args)
}

if (import.meta.main) {
  await run(fromProcess()).then(print)
}
