/** The configuration files of the Dovecot of the tests, and the tokens that it takes. */
import { createHmac } from "node:crypto"
import { accounts, domain, recipients } from "./model.ts"

export const ports = ["submission", "submissions", "lmtp", "lmtps"] as const

export type Port = typeof ports[number]

export interface Input {
  readonly folder: string
  readonly hosts: ReadonlyArray<string>
  readonly ports: { readonly [P in Port]: number }
  /** Where submission relays to, on 127.0.0.1. */
  readonly relayPort: number
}

const issuer = "https://issuer.test/"
const tokenKey = "the key of every token of the tests"

const segment = (text: string): string => Buffer.from(text, "utf8").toString("base64url")

/** A JWT (HS256) that says who it is for, valid for some seconds from now. */
export const token = (username: string, seconds = 3600): string => {
  const now = Math.floor(Date.now() / 1000)
  const claims = { iss: issuer, sub: username, iat: now - 10, nbf: now - 10, exp: now + seconds }
  const signed = [{ alg: "HS256", typ: "JWT" }, claims].map((part) => segment(JSON.stringify(part))).join(".")
  return `${signed}.${createHmac("sha256", tokenKey).update(signed).digest("base64url")}`
}

const oauth2 = (folder: string): string =>
  `introspection_mode = local
local_validation_key_dict = fs:posix:prefix=${folder}/keys/
username_attribute = sub
issuers = ${issuer}
`

/** The accounts, with and without the domain; base64, since a password may hold the colon that ends its field. */
const passwords = accounts.flatMap(({ password, username }) =>
  [username, `${username}@${domain}`].map((name) =>
    `${name}:{PLAIN.b64}${Buffer.from(password, "utf8").toString("base64")}\n`
  )
).join("")

/** Who gets mail. A home that cannot be made is a temporary failure at RCPT. */
const users = [
  ...accounts.flatMap(({ username }) => [`${username}::::::\n`, `${username}@${domain}::::::\n`]),
  `${recipients.defer}:::::/dev/null/home::\n`
].join("")

const common = ({ folder, hosts }: Input): string =>
  `base_dir = ${folder}/run
state_dir = ${folder}/state
instance_name = effect-smtp-test
listen = ${hosts.join(", ")}
protocols = submission lmtp
log_path = ${folder}/dovecot.log
hostname = dovecot.mx.test
postmaster_address = postmaster@${domain}
recipient_delimiter = +
first_valid_uid = 100
mail_location = maildir:~/Maildir
mail_save_crlf = yes
mailbox_list_index = no
default_process_limit = 200
ssl = yes
ssl_cert = <${folder}/server.pem
ssl_key = <${folder}/server.key
ssl_ca = <${folder}/ca.pem
ssl_require_crl = no
ssl_verify_client_cert = yes
ssl_min_protocol = TLSv1.2
`

const authentication = ({ folder }: Input): string =>
  `auth_mechanisms = plain login cram-md5 digest-md5 scram-sha-1 scram-sha-256 oauthbearer xoauth2 external
auth_realms = ${domain}
auth_failure_delay = 0
auth_ssl_username_from_cert = yes
disable_plaintext_auth = yes
passdb {
  driver = oauth2
  mechanisms = oauthbearer xoauth2
  args = ${folder}/oauth2.conf
}
passdb {
  driver = static
  mechanisms = external
  args = nopassword=y
}
passdb {
  driver = passwd-file
  mechanisms = plain login cram-md5 digest-md5 scram-sha-1 scram-sha-256
  args = username_format=%u ${folder}/passwords
}
userdb {
  driver = passwd-file
  args = username_format=%u ${folder}/users
  default_fields = uid=nobody gid=nogroup home=${folder}/mail/%u
}
`

const submission = ({ ports: { submission, submissions }, relayPort }: Input): string =>
  `submission_relay_host = 127.0.0.1
submission_relay_port = ${relayPort}
submission_relay_ssl = no
submission_max_mail_size = 50M
submission_max_recipients = 1000
service submission-login {
  inet_listener submission {
    port = ${submission}
  }
  inet_listener submissions {
    port = ${submissions}
    ssl = yes
  }
  service_count = 0
}
service submission {
  service_count = 0
}
`

const lmtp = ({ ports: { lmtp, lmtps } }: Input): string =>
  `service lmtp {
  inet_listener lmtp {
    port = ${lmtp}
  }
  inet_listener lmtps {
    port = ${lmtps}
    ssl = yes
  }
}
`

/** The socket's mode turns off a delay of up to 15 s that a failed login brings to the next ones. */
const limits = `service auth {
  client_limit = 4096
}
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
`

/** The files, name to text. */
export const files = (input: Input): Readonly<Record<string, string>> => ({
  "dovecot.conf": [common, authentication, submission, lmtp].map((part) => part(input)).join("") + limits,
  "oauth2.conf": oauth2(input.folder),
  passwords,
  users,
  "keys/default/HS256/default": Buffer.from(tokenKey).toString("base64")
})
