/** Mail servers on loopback with the flaws that `probe` looks for. */
import * as Effect from "effect/Effect"
import * as net from "node:net"
import * as tls from "node:tls"
import type { CertificateAndKey } from "../../src/node/certificate.ts"
import { listen } from "../node/loopback.ts"

export interface Flaws {
  readonly certificate: CertificateAndKey
  /** Certificates of authorities to send with it. */
  readonly chain?: ReadonlyArray<string> | undefined
  /** What came in clear behind STARTTLS is executed over TLS; or it ends the connection. */
  readonly behindStartTls?: "executed" | "closed" | undefined
  readonly tls?: tls.SecureContextOptions | undefined
  /** After how many STARTTLS it refuses them. */
  readonly refusesStartTls?: boolean | undefined
  /** It closes after the greeting and EHLO. */
  readonly extensions?: ReadonlyArray<string> | undefined
}

const answerTo = (line: string, extensions: ReadonlyArray<string>): string => {
  if (/^(?:EHLO|LHLO)/i.test(line)) {
    const lines = ["flawed.test", ...extensions]
    return lines.map((text, index) => `250${index === lines.length - 1 ? " " : "-"}${text}\r\n`).join("")
  }
  return /^QUIT/i.test(line) ? "221 bye\r\n" : "250 ok\r\n"
}

const serve = (socket: net.Socket, flaws: Flaws): void => {
  const context = tls.createSecureContext({
    cert: [flaws.certificate.cert, ...flaws.chain ?? []].join("\n"),
    key: flaws.certificate.key,
    ...flaws.tls
  })
  const overTls = (behind: string): void => {
    const secure = new tls.TLSSocket(socket, { isServer: true, secureContext: context })
    secure.on("error", () => {})
    secure.once("secure", () => {
      if (flaws.behindStartTls === "executed") dialogue(secure, behind, [])
      else dialogue(secure, "", [])
    })
  }
  const dialogue = (over: net.Socket, before: string, extensions: ReadonlyArray<string>): void => {
    let held = before
    const read = (): void => {
      const end = held.indexOf("\r\n")
      if (end < 0) return
      const line = held.slice(0, end)
      held = held.slice(end + 2)
      if (!/^STARTTLS$/i.test(line)) {
        over.write(answerTo(line, extensions))
        return read()
      }
      if (flaws.refusesStartTls === true) return void over.write("454 4.7.0 not now\r\n")
      if (flaws.behindStartTls === "closed" && held !== "") return void over.destroy()
      over.removeAllListeners("data")
      over.write("220 go ahead\r\n", () => overTls(held))
    }
    over.on("error", () => {}).on("data", (octets: Buffer) => {
      held += octets.toString("latin1")
      read()
    })
    read()
  }
  socket.write("220 flawed.test\r\n")
  dialogue(socket, "", flaws.extensions ?? ["STARTTLS"])
}

/** A server with these flaws; its port. */
export const flawed = (flaws: Flaws) =>
  Effect.map(
    listen(net.createServer((socket) => serve(socket, flaws))),
    ({ port }) => port
  )
