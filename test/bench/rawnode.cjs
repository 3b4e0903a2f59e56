// node rawnode.cjs PORT CONNECTIONS MESSAGES BYTES MODE: the least a Node client can do. MODE: seq | pipe | pipe2 (next envelope with the dot)
const net = require("net")
const [port, conns, msgs, len] = process.argv.slice(2, 6).map(Number)
const mode = process.argv[6] || "seq"

const line = "X".repeat(78) + "\r\n"
const body = Buffer.from(
  "From: <foo@x>\r\nTo: <foo@x>\r\nDate: x\r\nMessage-Id: <x@x>\r\n\r\n" +
    line.repeat(Math.ceil(len / 80)).slice(0, Math.max(0, len - 2)) + "\r\n.\r\n"
)
const env = "MAIL FROM:<foo@x>\r\nRCPT TO:<foo@x>\r\nDATA\r\n"
const parts = ["MAIL FROM:<foo@x>\r\n", "RCPT TO:<foo@x>\r\n", "DATA\r\n"]

let left = msgs
const t0 = process.hrtime.bigint()

function one() {
  return new Promise((res, rej) => {
    const s = net.connect(port, "127.0.0.1")
    s.setNoDelay(true)
    s.on("error", rej)
    let st = -2
    let got = 0
    let carry = ""
    const begin = () => {
      if (left-- <= 0) {
        s.end("QUIT\r\n")
        return res()
      }
      if (mode === "seq") {
        st = 0
        s.write(parts[0])
      } else {
        st = 10
        got = 0
        s.write(env)
      }
    }
    const reply = () => {
      if (st === -2) {
        st = -1
        s.write("EHLO x\r\n")
      } else if (st === -1) begin()
      else if (st < 2) {
        st++
        s.write(parts[st])
      } else if (st === 2) {
        st = 3
        s.write(body)
      } else if (st === 3) begin()
      else if (st === 10) {
        if (++got === 3) {
          st = 11
          got = 0
          if (mode === "pipe2" && left-- > 0) {
            st = 12
            s.cork()
            s.write(body)
            s.write(env)
            s.uncork()
          } else {
            if (mode === "pipe2") st = 13
            s.write(body)
          }
        }
      } else if (st === 11) begin()
      else if (st === 12) st = 10
      else if (st === 13) {
        left = 0
        begin()
      }
    }
    s.on("data", (d) => {
      carry += d.latin1Slice()
      let i
      while ((i = carry.indexOf("\r\n")) >= 0) {
        const l = carry.slice(0, i)
        carry = carry.slice(i + 2)
        if (l[3] !== "-") reply()
      }
    })
  })
}

Promise.all(Array.from({ length: conns }, one)).then(() => {
  const s = Number(process.hrtime.bigint() - t0) / 1e9
  const u = process.cpuUsage()
  process.stdout.write(
    `raw node ${mode} ${conns} conn ${msgs} x ${len} B: ${s.toFixed(2)} s  ${(msgs / s).toFixed(0)} msg/s  ` +
      `${(msgs * body.length / s / 1e6).toFixed(1)} MB/s  cpu ${((u.user + u.system) / 1e6).toFixed(2)} s\n`,
    () => process.exit(0)
  )
}).catch((e) => {
  process.stderr.write(`${e}\n`, () => process.exit(1))
})
