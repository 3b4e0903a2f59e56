/**
 * Runs once before the integration tests: installs the Debian packages that the servers need, as root on a machine with
 * apt, and says which servers will be skipped and why. Nothing is started by an installation, and nothing is done when
 * all packages are there. Where .ci/run counts the tests, an installation that fails ends the run: it would pass with
 * fewer tests.
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

const patience = ["-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::Retries=3"]

const apt = (packages: ReadonlyArray<string>): void => {
  system("apt-get", ["update", "-qq", ...patience])
  system("debconf-set-selections", [], "postfix postfix/main_mailer_type select No configuration\n")
  system("apt-get", ["install", "-y", "-qq", "--no-install-recommends", ...patience, ...packages])
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

/** What there was to install, and what came of it. */
export interface Attempt {
  readonly packages: ReadonlyArray<string>
  /** Root on a machine with apt: nothing was tried without it. */
  readonly canInstall: boolean
  /** .ci/run counts the tests. */
  readonly isCounted: boolean
  /** What the installation failed with. */
  readonly failure: string | undefined
  /** The packages that are missing after it. */
  readonly left: ReadonlyArray<string>
}

export type Verdict =
  | { readonly _tag: "Ready" }
  | { readonly _tag: "Fewer"; readonly text: string }
  | { readonly _tag: "Failed"; readonly text: string }

/** Whether the tests may run. */
export const judge = ({ canInstall, failure, isCounted, left, packages }: Attempt): Verdict => {
  if (packages.length === 0) return { _tag: "Ready" }
  if (!canInstall) {
    return {
      _tag: "Fewer",
      text: `not installed, since this is not root on a machine with apt: ${packages.join(", ")}`
    }
  }
  if (failure === undefined && left.length === 0) return { _tag: "Ready" }
  const text = `the installation of ${packages.join(", ")} failed: ${failure ?? `${left.join(", ")} still missing`}`
  return isCounted
    ? { _tag: "Failed", text: `${text}\nCI_RESULTS is set, so nothing is skipped for it: install them, or unset it` }
    : { _tag: "Fewer", text }
}

const lacking = (): ReadonlyArray<string> => [
  ...new Set([...serverNames.flatMap(missingPackages), ...missingNetworkPackages()])
]

const failureOf = (packages: ReadonlyArray<string>): string | undefined => {
  say(`installing ${packages.join(", ")}`)
  try {
    return void withoutServices(() => apt(packages))
  } catch (error) {
    return reason(error)
  }
}

export const setup = (): void => {
  const packages = lacking()
  const canInstall = isRoot && existsSync("/usr/bin/apt-get")
  const failure = canInstall && packages.length > 0 ? failureOf(packages) : undefined
  const isCounted = process.env["CI_RESULTS"] !== undefined
  const verdict = judge({ packages, canInstall, isCounted, failure, left: lacking() })
  if (verdict._tag === "Failed") throw new Error(verdict.text)
  if (verdict._tag === "Fewer") say(verdict.text)
  for (const name of serverNames) {
    const lack = missing(name)
    if (lack !== undefined) say(`${name} is SKIPPED: it ${lack}`)
  }
}
