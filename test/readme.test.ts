import { assert, describe, it } from "@effect/vitest"
import { existsSync, readFileSync } from "node:fs"
import { posix } from "node:path"
import { fileURLToPath } from "node:url"
import { readPages } from "./tooling/docs.ts"

const root = fileURLToPath(new URL("../", import.meta.url))
const readme = readFileSync(`${root}README.md`, "utf8")

/** The rows of the tables that name a test: its file and its title, or the title of its group. */
const rows = [...readme.matchAll(/\| \[[^\]]+\]\((test\/\S+\.test\.ts)\): (.+?) +\|$/gm)].map(([, file, title]) => ({
  file: file!,
  title: title!.replaceAll("\\", "")
}))

describe("README", () => {
  it("names for each part of the seed a test that exists", () => {
    assert.isAbove(rows.length, 40)
    const missing = rows.filter(({ file, title }) => !readFileSync(root + file, "utf8").includes(title))
    assert.deepStrictEqual(missing, [])
  })

  it("has each option, method and field of the seed in its tables", () => {
    const seed = [
      ["host", "port", "secure", "ignoreTLS", "requireTLS", "opportunisticTLS", "name", "localAddress"],
      ["connectionTimeout", "greetingTimeout", "socketTimeout", "dnsTimeout", "logger", "transactionLog", "debug"],
      ["authMethod", "tls", "socket", "connection", "connect", "login", "credentials", "oauth2", "clientId"],
      ["clientSecret", "refreshToken", "accessToken", "send", "from", "to", "size", "use8BitMime", "ret", "envid"],
      ["notify", "orcpt", "accepted", "rejected", "rejectedErrors", "response", "responseCode", "quit", "close"],
      ["reset", "error", "end"]
    ].flat()
    const left = [...readme.matchAll(/^\| (.+?) \| .* \| \[[^\]]+\]\(test\//gm)].map(([, cell]) => cell!).join(" ")
    assert.deepStrictEqual(seed.filter((word) => !new RegExp(`\\b${word}\\b`).test(left)), [])
  })

  it("has each option of a connection in its table", () => {
    const source = readFileSync(`${root}src/internal/options.ts`, "utf8")
    const fields = (name: string): ReadonlyArray<string> => {
      const start = source.indexOf(`export interface ${name} {`)
      const body = source.slice(start, source.indexOf("\n}", start))
      return [...body.matchAll(/^ {2}readonly (\w+)\?:/gm)].map(([, field]) => field!)
    }
    const timeouts = fields("Timeouts").map((field) => `timeouts.${field}`)
    const options = fields("Options").filter((field) => field !== "timeouts")
    assert.isAbove(timeouts.length + options.length, 25)
    assert.deepStrictEqual([...options, ...timeouts].filter((field) => !readme.includes(`\`${field}\``)), [])
  })

  it("is short enough to be read: what is long has a page of its own", () => {
    assert.isAtMost(readme.split("\n").length, 680)
  })
})

describe("the links of the documentation", () => {
  const withoutCode = (text: string): string => text.replace(/^( *)```[\s\S]*?^\1```$/gm, "").replace(/`[^`\n]*`/g, "`")

  /** As GitHub makes an anchor of a heading. */
  const anchorsOf = (text: string): ReadonlyArray<string> =>
    [...text.replace(/^( *)```[\s\S]*?^\1```$/gm, "").matchAll(/^#+ (.+)$/gm)]
      .map(([, heading]) => heading!.toLowerCase().replace(/[^\w -]/g, "").replaceAll(" ", "-"))

  it("lead to files and headings that exist", () => {
    const pages = readPages()
    const broken = [...pages].filter(([page]) => !page.startsWith("docs/api/")).flatMap(([page, text]) =>
      [...withoutCode(text).matchAll(/\]\(([^)\s]+)\)/g)].map(([, link]) => link!).filter((link) => {
        if (/^[a-z]+:/.test(link)) return false
        const [path = "", anchor] = link.split("#")
        const target = path === "" ? page : posix.join(posix.dirname(page), path)
        if (!existsSync(root + target)) return true
        return anchor !== undefined && !anchorsOf(pages.get(target) ?? "").includes(anchor)
      }).map((link) => `${page}: ${link}`)
    )
    assert.deepStrictEqual(broken, [])
  })
})
