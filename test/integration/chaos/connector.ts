/**
 * The connector of production, watched: which terminators were handed to the transport. With a window it takes no octet
 * more until the proxy has received those before, as over a network with small buffers: the kernel's on loopback take
 * megabytes, and a connection that is cut would always have been handed everything.
 */
import * as Effect from "effect/Effect"
import type { Duplex, Listener, SmtpConnector } from "../../../src/SmtpConnector.ts"
import { Dialogue } from "./dialogue.ts"
import type { Link, Proxy } from "./proxy.ts"

const watched = (duplex: Duplex, link: Link, isWindowed: boolean, handed: Set<string>): Duplex => {
  const dialogue = new Dialogue()
  let listener: Listener | undefined
  const mustWait = () => isWindowed && dialogue.client > link.dialogue.client
  let isWaiting = false
  const drain = () => {
    if (!isWaiting || mustWait()) return
    isWaiting = false
    listener?.onDrain()
  }
  link.onReceived = drain
  return {
    secured: duplex.secured,
    localAddress: duplex.localAddress,
    remoteAddress: duplex.remoteAddress,
    upgrade: duplex.upgrade,
    end: duplex.end,
    destroy: duplex.destroy,
    listen: (next) => {
      listener = next
      duplex.listen({
        onData: (octets) => {
          dialogue.answered(octets)
          next.onData(octets)
        },
        onDrain: () => isWindowed ? drain() : next.onDrain(),
        onEnd: (ended) => next.onEnd(ended)
      })
    },
    write: (chunks) => {
      for (const chunk of chunks) dialogue.sent(chunk)
      for (const [sender, body] of dialogue.bodies) if (body.isComplete) handed.add(sender)
      const isTaken = duplex.write(chunks)
      isWaiting = mustWait()
      return isWindowed ? !isWaiting : isTaken
    }
  }
}

/** `handed` gets the senders of the messages whose terminator was handed over. */
export const watch = (
  inner: SmtpConnector["Service"],
  proxy: Proxy,
  isWindowed: boolean,
  handed: Set<string>
): SmtpConnector["Service"] => ({
  ...inner,
  connect: (target) =>
    Effect.map(inner.connect(target), (duplex) => {
      const link = proxy.linkFrom(target.localAddress)
      return link === undefined ? duplex : watched(duplex, link, isWindowed, handed)
    })
})
