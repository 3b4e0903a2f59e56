/**
 * A server that takes everything, keeps nothing and does as little as it can: `node sink.cjs '{"offer":["PIPELINING"]}'`
 * prints its port and listens on 127.0.0.1 until its input ends. In-process: `require("./sink.cjs").start(options)`.
 *
 * Options: `offer`, EHLO keywords; `tls`, "off", "starttls" or "implicit" with `cert` and `key`; `scan`, "full" finds the
 * final dot wherever it stands, "end" only where a read ends (for large messages with nothing behind them).
 */
const net = require("node:net")
const tls = require("node:tls")

const dot = Buffer.from("\r\n.\r\n")

/** What each verb is answered with; those that do more are in Session. */
const answers = {
  EHLO: "",
  HELO: "250 sink\r\n",
  MAIL: "250 2.1.0 Ok\r\n",
  RCPT: "250 2.1.5 Ok\r\n",
  RSET: "250 2.0.0 Ok\r\n",
  NOOP: "250 2.0.0 Ok\r\n"
}

const reading = 0
const data = 1
const chunk = 2
const login = 3

class Session {
  constructor(socket, options, stats) {
    this.socket = socket
    this.options = options
    this.stats = stats
    this.state = reading
    this.rest = undefined
    this.tail = dot.subarray(0, 2)
    this.left = 0
    this.isLast = false
    this.out = ""
    this.isSecure = options.tls === "implicit"
  }

  greet() {
    this.listen(this.socket)
    this.socket.write("220 sink ESMTP\r\n")
  }

  listen(socket) {
    this.socket = socket
    socket.on("data", (octets) => this.take(octets))
    socket.on("error", () => socket.destroy())
  }

  take(octets) {
    this.stats.octets += octets.length
    if (this.rest !== undefined) {
      octets = Buffer.concat([this.rest, octets])
      this.rest = undefined
    }
    let at = 0
    while (at < octets.length) {
      if (this.state === data) at = this.body(octets, at)
      else if (this.state === chunk) at = this.counted(octets, at)
      else {
        const end = octets.indexOf(10, at)
        if (end < 0) {
          this.rest = octets.subarray(at)
          break
        }
        this.line(octets.latin1Slice(at, octets[end - 1] === 13 ? end - 1 : end))
        at = end + 1
      }
    }
    this.flush()
  }

  flush() {
    if (this.out === "") return
    this.socket.write(this.out, "latin1")
    this.out = ""
  }

  line(text) {
    if (this.state === login) {
      this.state = reading
      this.out += "235 2.7.0 Ok\r\n"
      return
    }
    const verb = text.slice(0, 4).toUpperCase()
    if (verb === "DATA") {
      this.state = data
      this.tail = dot.subarray(0, 2)
      this.out += "354 Go on\r\n"
    } else if (verb === "BDAT") this.bdat(text)
    else if (verb === "EHLO" || verb === "LHLO") this.out += this.offers()
    else if (verb === "AUTH") this.auth(text)
    else if (verb === "STAR") this.upgrade()
    else if (verb === "QUIT") {
      this.out += "221 2.0.0 Bye\r\n"
      this.flush()
      this.socket.end()
    } else this.out += answers[verb] ?? "500 5.5.2 What?\r\n"
  }

  offers() {
    const { offer = [], tls: mode } = this.options
    const words = mode === "starttls" && !this.isSecure ? ["STARTTLS"] : offer
    return ["sink", ...words].map((word, n) => `250${n === words.length ? " " : "-"}${word}\r\n`).join("")
  }

  auth(text) {
    if (text.trim().split(/ +/).length > 2) this.out += "235 2.7.0 Ok\r\n"
    else {
      this.state = login
      this.out += "334 \r\n"
    }
  }

  upgrade() {
    this.out += "220 2.0.0 Go on\r\n"
    this.flush()
    this.socket.removeAllListeners("data")
    this.isSecure = true
    this.listen(new tls.TLSSocket(this.socket, { isServer: true, secureContext: this.options.secureContext }))
  }

  bdat(text) {
    const [, size, last] = text.split(" ")
    this.left = Number(size)
    this.isLast = last !== undefined
    this.state = chunk
    if (this.left === 0) this.counted(dot, 0)
  }

  counted(octets, at) {
    const taken = Math.min(this.left, octets.length - at)
    this.left -= taken
    if (this.left === 0) {
      this.state = reading
      if (this.isLast) this.stats.messages++
      this.out += "250 2.0.0 Ok\r\n"
    }
    return at + taken
  }

  done(at) {
    this.state = reading
    this.stats.messages++
    this.out += "250 2.0.0 Ok\r\n"
    return at
  }

  /** The index behind the final dot, or the end of the octets. */
  body(octets, at) {
    const head = Buffer.concat([this.tail, octets.subarray(at, at + 4)])
    const split = head.indexOf(dot)
    if (split >= 0) return this.done(at + split + dot.length - this.tail.length)
    if (this.options.scan === "end") {
      const last = octets.length - dot.length
      if (last >= at && octets.compare(dot, 0, dot.length, last) === 0) return this.done(octets.length)
    } else {
      const found = octets.indexOf(dot, at)
      if (found >= 0) return this.done(found + dot.length)
    }
    this.tail = octets.length - at >= 4 ? octets.subarray(octets.length - 4) : head.subarray(-4)
    return octets.length
  }
}

/** Listens; gives the port, what was counted so far, and `stop`. */
const start = (options) => {
  const stats = { connections: 0, messages: 0, octets: 0 }
  const { cert, key } = options
  const secureContext = cert === undefined ? undefined : tls.createSecureContext({ cert, key })
  const accept = (socket) => {
    stats.connections++
    new Session(socket, { ...options, secureContext }, stats).greet()
  }
  const server = options.tls === "implicit"
    ? tls.createServer({ cert, key, noDelay: true }, accept)
    : net.createServer({ noDelay: true }, accept)
  return new Promise((resolve, reject) => {
    server.once("error", reject)
    server.listen({ port: options.port ?? 0, host: "127.0.0.1", backlog: 2048 }, () => {
      resolve({ port: server.address().port, stats, stop: () => server.close() })
    })
  })
}

module.exports = { Session, start }

if (require.main === module) {
  process.stdin.on("end", () => process.exit(0)).resume()
  start(JSON.parse(process.argv[2] ?? "{}")).then(({ port }) => process.stdout.write(`${port}\n`))
}
