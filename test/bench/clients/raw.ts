/** A socket without a client: the octets written as they are, waiting for `drain`. What is left is the cost of Node. */
import { once } from "node:events"
import * as net from "node:net"
import * as tls from "node:tls"
import * as content from "./content.ts"
import { begin } from "./measure.ts"
import { type Args, clientName, fromProcess, print, recipients, type Sample, sender, warmupOf } from "./model.ts"

const connect = async (args: Args): Promise<net.Socket> => {
  const place = { host: "127.0.0.1", port: args.port, noDelay: true }
  if (args.tls === "off") {
    const socket = net.connect(place)
    await once(socket, "connect")
    return socket
  }
  const socket = tls.connect({ ...place, ...(args.ca === undefined ? {} : { ca: args.ca }) })
  await once(socket, "secureConnect")
  return socket.setNoDelay(true)
}

/** Gives a function that waits for so many replies in all. */
const replies = (socket: net.Socket): (count: number) => Promise<void> => {
  let seen = 0
  let wanted = Number.POSITIVE_INFINITY
  let wake: () => void = () => {}
  let rest = ""
  socket.on("data", (octets) => {
    const lines = (rest + octets.toString("latin1")).split("\r\n")
    rest = lines.pop() ?? ""
    seen += lines.filter((line) => line[3] !== "-").length
    if (seen >= wanted) wake()
  })
  return (count) =>
    new Promise((resolve) => {
      wanted = count
      wake = resolve
      if (seen >= wanted) resolve()
    })
}

const drained = (socket: net.Socket): Promise<void> =>
  new Promise((resolve) => {
    socket.once("drain", resolve)
  })

const message = async (socket: net.Socket, args: Args): Promise<void> => {
  // A small one in one segment: a kernel that paces (BBR) holds a second one back.
  if (args.size <= 65_536) {
    socket.cork()
    process.nextTick(() => socket.uncork())
  }
  if (args.bdat) socket.write(`BDAT ${args.size} LAST\r\n`)
  for (const chunk of content.chunks(args.content, args.size)) {
    if (!socket.write(chunk)) await drained(socket)
  }
  if (!args.bdat) socket.write("\r\n.\r\n")
}

/** Sends the messages one after another over one connection. */
export const run = async (args: Args): Promise<Sample> => {
  const socket = await connect(args)
  const seen = replies(socket)
  socket.write(`EHLO ${clientName}\r\n`)
  let count = 2
  await seen(count)
  const envelope = [`MAIL FROM:<${sender}>`, ...recipients(args.recipients).map((to) => `RCPT TO:<${to}>`)]
  const lines = args.bdat ? envelope : [...envelope, "DATA"]
  const sendSome = async (args: Args, messages: number) => {
    for (let n = 0; n < messages; n++) {
      socket.write(lines.map((line) => `${line}\r\n`).join(""))
      await seen(count += lines.length)
      await message(socket, args)
      await seen(count += 1)
    }
  }
  await sendSome(warmupOf(args), args.warmup)
  const end = begin(args)
  await sendSome(args, args.messages)
  const sample = end(args.messages, args.messages * args.size)
  socket.end("QUIT\r\n")
  return sample
}

if (import.meta.main) {
  await run(fromProcess()).then(print)
}
