/**
 * Runs once before the integration tests: installs the Debian packages that the servers need, as root on a machine with
 * apt, and says which servers will be skipped and why. Nothing is started by an installation, and nothing is done when
 * all packages are there.
 */
import { execFileSync } from "node:child_process"
import { existsSync, rmSync, writeFileSync } from "node:fs"
import { isRoot, missing, missingNetworkPackages, missingPackages, serverNames } from "./requirements.ts"

const policy = "/usr/sbin/policy-rc.d"

const say = (text: string): void => {
  process.stdout.write(`integration: ${text}\n`)
}

const system = (command: string, args: ReadonlyArray<string>, input = ""): void => {
  execFileSync(command, args, {
    env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
    input,
    stdio: ["pipe", "pipe", "pipe"],
    timeout: 300_000
  })
}

const lock = ["-o", "DPkg::Lock::Timeout=120"]

const apt = (packages: ReadonlyArray<string>): void => {
  system("apt-get", ["update", "-qq", ...lock])
  system("debconf-set-selections", [], "postfix postfix/main_mailer_type select No configuration\n")
  system("apt-get", ["install", "-y", "-qq", "--no-install-recommends", ...lock, ...packages])
}

/** While policy-rc.d answers 101, maintainer scripts start no service. */
const withoutServices = (act: () => void): void => {
  const isOurs = !existsSync(policy)
  if (isOurs) writeFileSync(policy, "#!/bin/sh\nexit 101\n", { mode: 0o755 })
  try {
    act()
  } finally {
    if (isOurs) rmSync(policy)
  }
}

const reason = (error: unknown): string =>
  error instanceof Error && "stderr" in error ? `${error.message}\n${String(error.stderr)}` : String(error)

const install = (): void => {
  const packages = [...new Set([...serverNames.flatMap(missingPackages), ...missingNetworkPackages()])]
  if (packages.length === 0) return
  if (!isRoot || !existsSync("/usr/bin/apt-get")) {
    return say(`not installed, since this is not root on a machine with apt: ${packages.join(", ")}`)
  }
  say(`installing ${packages.join(", ")}`)
  try {
    withoutServices(() => apt(packages))
  } catch (error) {
    say(`the installation failed: ${reason(error)}`)
  }
}

export const setup = (): void => {
  install()
  for (const name of serverNames) {
    const lack = missing(name)
    if (lack !== undefined) say(`${name} is SKIPPED: it ${lack}`)
  }
}
