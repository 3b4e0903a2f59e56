/**
 * What is done to the network: addresses, black holes, loss. Every function changes the network namespace of this
 * process, so each refuses to act in the one that the tests themselves run in.
 */
import { execFileSync } from "node:child_process"
import { existsSync, readFileSync, readlinkSync } from "node:fs"
import { isIPv6 } from "node:net"
import { delimiter, join } from "node:path"
import { searchPath } from "../servers/requirements.ts"

/** The variable that names the namespace which is to be left alone. */
export const outside = "EFFECT_SMTP_OUTSIDE"

/** The network namespace of this process. */
export const namespace = (): string => readlinkSync("/proc/self/ns/net")

export const find = (program: string): string | undefined =>
  searchPath.map((folder) => join(folder, program)).find((path) => existsSync(path))

/** The legacy variant needs no nf_tables in the kernel. */
const filter = (name: "iptables" | "ip6tables"): string => find(`${name}-legacy`) ?? name

const onlyLoopback = (): boolean =>
  readFileSync("/proc/self/net/dev", "utf8").trimEnd().split("\n").slice(2).every((line) => /^\s*lo:/.test(line))

const run = (program: string, ...args: ReadonlyArray<string>): string => {
  if (process.env[outside] === undefined || process.env[outside] === namespace() || !onlyLoopback()) {
    throw new Error("this is not a network namespace of the test's own")
  }
  return execFileSync(program, args, { encoding: "utf8", env: { PATH: searchPath.join(delimiter) } })
}

const input = (address: string, ...rule: ReadonlyArray<string>): string =>
  run(filter(isIPv6(address) ? "ip6tables" : "iptables"), "-w", "5", "-I", "INPUT", ...rule)

/** Brings loopback up, with packets as small as those of Ethernet, so that loss hits more than once. */
export const up = (): void => {
  run("ip", "link", "set", "lo", "up", "mtu", "1500")
}

/** An address of this host that no packet reaches: neither answer nor error. */
export const blackHole = (address: string): void => {
  run("ip", "address", "add", `${address}/${isIPv6(address) ? 128 : 32}`, "dev", "lo")
  input(address, "-d", address, "-j", "DROP")
}

/** An address that a router says cannot be reached. */
export const unreachable = (address: string): void => {
  run("ip", "route", "add", "unreachable", address)
}

/** From now on nothing that is sent to the port arrives. */
export const silence = (port: number): void => {
  input("127.0.0.1", "-p", "tcp", "--dport", String(port), "-j", "DROP")
}

/** From now on this share of the TCP packets is lost. */
export const lose = (probability: number): void => {
  input(
    "127.0.0.1",
    "-p",
    "tcp",
    "-m",
    "statistic",
    // Every n-th, not at random: a run never happens to lose none.
    "--mode",
    "nth",
    "--every",
    String(Math.round(1 / probability)),
    "--packet",
    "0",
    "-j",
    "DROP"
  )
}

/** How many packets were dropped so far. */
export const dropped = (): number => {
  const rows = run(filter("iptables"), "-w", "5", "-L", "INPUT", "-v", "-x", "-n").split("\n")
  return rows.filter((row) => row.includes("DROP")).reduce((sum, row) => sum + Number(row.trim().split(/\s+/)[0]), 0)
}
