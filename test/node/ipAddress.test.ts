import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import { isPublicAddress } from "../../src/node/ipAddress.ts"

const inside = [
  "0.0.0.0",
  "10.1.2.3",
  "100.64.0.1",
  "127.0.0.1",
  "127.255.255.254",
  "169.254.169.254",
  "172.16.0.1",
  "172.31.255.255",
  "192.0.0.8",
  "192.0.2.1",
  "192.88.99.1",
  "192.168.1.1",
  "198.18.0.1",
  "198.51.100.1",
  "203.0.113.1",
  "224.0.0.1",
  "240.0.0.1",
  "255.255.255.255",
  "::",
  "::1",
  "::127.0.0.1",
  "::ffff:127.0.0.1",
  "::ffff:7f00:1",
  "::ffff:10.0.0.1",
  "64:ff9b::",
  "64:ff9b::127.0.0.1",
  "64:ff9b::10.0.0.1",
  "64:ff9b:1::8.8.8.8",
  "100::1",
  "2001::1",
  "2001:0:4136:e378:8000:63bf:3fff:fdd2",
  "2001:2::1",
  "2001:db8::1",
  "2002:7f00:1::",
  "2002:c0a8:101::1",
  "3fff::1",
  "5f00::1",
  "fc00::1",
  "fd12:3456::1",
  "fe80::1",
  "fe80::1%eth0",
  "fec0::1",
  "ff02::1"
]

const outside = [
  "1.1.1.1",
  "8.8.8.8",
  "100.63.255.255",
  "100.128.0.1",
  "172.15.255.255",
  "172.32.0.1",
  "192.167.255.255",
  "223.255.255.255",
  "::ffff:8.8.8.8",
  "64:ff9b::8.8.8.8",
  "2002:808:808::1",
  "2001:4860:4860::8888",
  "2606:4700::1111",
  "2a00:1450:4001::1"
]

describe("isPublicAddress", () => {
  it.each(inside)("%s is not public", (ip) => {
    assert.strictEqual(isPublicAddress(ip), false)
  })

  it.each(outside)("%s is public", (ip) => {
    assert.strictEqual(isPublicAddress(ip), true)
  })

  it.each(["", "mx.test", "127.1", "0x7f.1", "1.2.3", "[::1]", "::1::"])("%j is no address, so not public", (text) => {
    assert.strictEqual(isPublicAddress(text), false)
  })

  const octet = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 255 }))
  it.prop(
    "an embedded IPv4 address is as public as the address itself",
    [octet, octet, octet, octet],
    ([a, b, c, d]) => {
      const ip = `${a}.${b}.${c}.${d}`
      const hex = `${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`
      const forms = [`::ffff:${ip}`, `64:ff9b::${ip}`, `2002:${hex}::`, `::ffff:${hex}`]
      assert.deepStrictEqual(forms.map(isPublicAddress), forms.map(() => isPublicAddress(ip)))
    }
  )
})
