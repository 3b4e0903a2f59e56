/** What each server needs of the machine, and what of that is missing. */
import { existsSync } from "node:fs"
import { delimiter, join } from "node:path"

export type ServerName = "Postfix" | "SmtpSink" | "Dovecot" | "SmtpServerNpm" | "DnsServer"

interface Requirement {
  /** A file or folder of the package, or a program on the path. */
  readonly file: string
  readonly debianPackage: string
}

interface Requirements {
  readonly needsRoot: boolean
  readonly files: ReadonlyArray<Requirement>
}

const master = { file: "/usr/lib/postfix/sbin/master", debianPackage: "postfix" }

export const requirements: { readonly [N in ServerName]: Requirements } = {
  Postfix: {
    needsRoot: true,
    files: [
      master,
      { file: "saslpasswd2", debianPackage: "sasl2-bin" },
      { file: "/usr/share/doc/libsasl2-modules", debianPackage: "libsasl2-modules" }
    ]
  },
  SmtpSink: { needsRoot: false, files: [{ file: "smtp-sink", debianPackage: "postfix" }] },
  Dovecot: {
    needsRoot: true,
    files: [
      { file: "dovecot", debianPackage: "dovecot-core" },
      { file: "/usr/lib/dovecot/lmtp", debianPackage: "dovecot-lmtpd" },
      { file: "/usr/lib/dovecot/submission", debianPackage: "dovecot-submissiond" }
    ]
  },
  SmtpServerNpm: { needsRoot: false, files: [] },
  DnsServer: { needsRoot: false, files: [{ file: "knotd", debianPackage: "knot" }] }
}

export const serverNames = Object.keys(requirements) as ReadonlyArray<ServerName>

/** The folders of daemons are on the path of root alone. */
export const searchPath = [...new Set([...(process.env["PATH"] ?? "").split(delimiter), "/usr/sbin", "/usr/bin"])]

export const isRoot = process.getuid?.() === 0

const isThere = (file: string): boolean =>
  file.startsWith("/") ? existsSync(file) : searchPath.some((folder) => existsSync(join(folder, file)))

const packagesOf = (files: ReadonlyArray<Requirement>): ReadonlyArray<string> => [
  ...new Set(files.filter(({ file }) => !isThere(file)).map((one) => one.debianPackage))
]

/** The Debian packages that a server lacks. */
export const missingPackages = (name: ServerName): ReadonlyArray<string> => packagesOf(requirements[name].files)

/** The Debian packages that the tests of slow and broken networks lack. */
export const missingNetworkPackages = (): ReadonlyArray<string> =>
  packagesOf([{ file: "ip", debianPackage: "iproute2" }, { file: "iptables", debianPackage: "iptables" }])

/** What keeps a server from running here, in words; undefined when it can. */
export const missing = (name: ServerName): string | undefined => {
  const packages = missingPackages(name)
  const words = [
    ...requirements[name].needsRoot && !isRoot ? ["root"] : [],
    ...packages.length === 0 ? [] : [`the Debian package${packages.length > 1 ? "s" : ""} ${packages.join(", ")}`]
  ]
  return words.length === 0 ? undefined : `needs ${words.join(" and ")}`
}
