/** The configuration files of the Postfix of the tests: main.cf, master.cf and their tables. */
import { X509Certificate } from "node:crypto"
import { join } from "node:path"
import { blockedSender, domain, recipients } from "./model.ts"

/** The services of master.cf that listen, each with what it says otherwise than main.cf. */
const services = {
  smtp: {},
  insecureAuth: { smtpd_sasl_auth_enable: "yes" },
  smtps: { smtpd_tls_wrappermode: "yes", smtpd_sasl_auth_enable: "yes" },
  submission: {
    smtpd_tls_security_level: "encrypt",
    smtpd_tls_auth_only: "yes",
    smtpd_sasl_auth_enable: "yes",
    smtpd_client_restrictions: "permit_sasl_authenticated,reject"
  },
  clientCertificate: {
    smtpd_tls_wrappermode: "yes",
    smtpd_tls_security_level: "encrypt",
    smtpd_tls_ask_ccert: "yes",
    smtpd_tls_req_ccert: "yes",
    smtpd_client_restrictions: "permit_tls_clientcerts,reject"
  },
  minimal: {
    smtpd_discard_ehlo_keywords: "pipelining,etrn,starttls,auth,enhancedstatuscodes,8bitmime,dsn,smtputf8,chunking,vrfy"
  },
  noPipelining: { smtpd_discard_ehlo_keywords: "pipelining,chunking" },
  strict: {
    smtpd_forbid_bare_newline: "reject",
    smtpd_forbid_unauth_pipelining: "yes",
    smtpd_recipient_limit: "5",
    smtpd_recipient_overshoot_limit: "2"
  },
  small: { message_size_limit: "100000" },
  legacyAuth: {
    smtpd_sasl_auth_enable: "yes",
    broken_sasl_auth_clients: "yes",
    smtpd_tls_protocols: "<=TLSv1.2"
  },
  expired: {},
  notYet: {},
  wrongHost: {},
  selfSigned: {},
  untrusted: {},
  noChain: {},
  chain: {},
  cnOnly: {}
} as const satisfies Readonly<Record<string, Readonly<Record<string, string>>>>

export type Port = keyof typeof services

export const ports = Object.keys(services) as ReadonlyArray<Port>

export const smallSize = 100_000

const certificateOf: { readonly [P in Port]?: string } = Object.fromEntries(
  ports.slice(ports.indexOf("expired")).map((name) => [name, name])
)

export const queues = [
  "active",
  "bounce",
  "corrupt",
  "defer",
  "deferred",
  "flush",
  "hold",
  "incoming",
  "private",
  "saved",
  "trace"
] as const

export interface Input {
  readonly folder: string
  readonly ports: { readonly [P in Port]: number }
  /** The client certificate that may relay, in PEM. */
  readonly client: string
}

const places = (folder: string) => ({
  queue_directory: join(folder, "spool"),
  data_directory: join(folder, "data"),
  command_directory: "/usr/sbin",
  daemon_directory: "/usr/lib/postfix/sbin",
  shlib_directory: "/usr/lib/postfix",
  meta_directory: "/etc/postfix",
  mail_owner: "postfix",
  setgid_group: "postdrop",
  maillog_file: join(folder, "mail.log"),
  maillog_file_prefixes: folder
})

/** Every message ends in transport "dump"; nothing leaves, and nobody is asked for a name. */
const routing = {
  compatibility_level: "3.6",
  myhostname: "postfix.mx.test",
  mydomain: domain,
  myorigin: domain,
  mydestination: "",
  mynetworks: "192.0.2.255/32",
  inet_interfaces: "127.0.0.1",
  inet_protocols: "ipv4",
  disable_dns_lookups: "yes",
  smtpd_peername_lookup: "no",
  alias_maps: "",
  alias_database: "",
  local_recipient_maps: "",
  local_transport: "error:5.1.1 no local mail",
  relay_domains: `${domain}, discard.test`,
  relay_recipient_maps: "",
  relay_transport: "dump:",
  default_transport: "dump:",
  dump_destination_recipient_limit: "1",
  transport_maps: "inline:{ { discard.test = discard: } }",
  recipient_delimiter: "+",
  message_size_limit: "52428800",
  mailbox_size_limit: "0",
  virtual_mailbox_limit: "0",
  local_header_rewrite_clients: "",
  notify_classes: "",
  smtputf8_enable: "yes",
  strict_smtputf8: "no"
}

/** No limits but those that a port is for. */
const server = (etc: string) => ({
  smtpd_helo_required: "yes",
  disable_vrfy_command: "no",
  smtpd_error_sleep_time: "0",
  smtpd_soft_error_limit: "1000",
  smtpd_hard_error_limit: "1000",
  smtpd_junk_command_limit: "100000",
  smtpd_recipient_limit: "1000",
  smtpd_client_connection_count_limit: "0",
  smtpd_client_connection_rate_limit: "0",
  smtpd_timeout: "60",
  in_flow_delay: "0",
  default_process_limit: "200",
  smtpd_forbid_bare_newline: "normalize",
  smtpd_forbid_bare_newline_exclusions: "",
  smtpd_sender_restrictions: `check_sender_access texthash:${etc}/sender`,
  smtpd_relay_restrictions: "permit_sasl_authenticated, permit_tls_clientcerts, reject_unauth_destination",
  smtpd_recipient_restrictions: `check_recipient_access texthash:${etc}/recipient`,
  smtpd_data_restrictions: `check_recipient_access texthash:${etc}/data`,
  smtpd_end_of_data_restrictions: `check_recipient_access texthash:${etc}/end`
})

const security = (etc: string, client: string) => ({
  smtpd_sasl_type: "cyrus",
  smtpd_sasl_path: "smtpd",
  cyrus_sasl_config_path: `${etc}/sasl`,
  smtpd_sasl_local_domain: domain,
  smtpd_sasl_security_options: "noanonymous",
  smtpd_sasl_tls_security_options: "noanonymous",
  smtpd_sasl_response_limit: "12288",
  smtpd_tls_security_level: "may",
  smtpd_tls_auth_only: "no",
  smtpd_tls_chain_files: `${etc}/good.pem`,
  smtpd_tls_CAfile: `${etc}/ca.pem`,
  smtpd_tls_loglevel: "1",
  smtpd_tls_received_header: "yes",
  smtpd_tls_fingerprint_digest: "sha256",
  relay_clientcerts: `inline:{ ${new X509Certificate(client).fingerprint256}=alice }`
})

const mainCf = ({ client, folder }: Input): string => {
  const etc = join(folder, "etc")
  const settings = { ...places(folder), ...routing, ...server(etc), ...security(etc, client) }
  return Object.entries(settings).map(([name, value]) => `${name} = ${value}\n`).join("")
}

const listener = (folder: string, name: Port, address: string): string => {
  const certificate = certificateOf[name]
  const options = {
    ...services[name],
    ...certificate === undefined ? {} : { smtpd_tls_chain_files: join(folder, "etc", `${certificate}.pem`) }
  }
  return [
    `${address} inet n - n - - smtpd`,
    `  -o syslog_name=postfix/${name}`,
    ...Object.entries(options).map(([key, value]) => `  -o ${key}=${value}`),
    ""
  ].join("\n")
}

/** The services that do not listen: name, type, private, unprivileged, chroot, wake-up, processes, program. */
const inside = `
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
`

const masterCf = ({ folder, ports: numbers }: Input): string =>
  [
    listener(folder, "smtp", `127.0.0.3:${numbers.smtp}`),
    ...ports.map((name) => listener(folder, name, `127.0.0.1:${numbers[name]}`)),
    inside,
    "dump unix - n n - 8 pipe",
    `  flags= user=nobody eol=\\r\\n null_sender= argv=${folder}/etc/dump.sh ${folder}/dump`,
    "  ${queue_id} ${sender} ${recipient} ${sasl_username}",
    ""
  ].join("\n")

/** Exit status 75 asks Postfix to try again later. */
const dumpScript = `#!/bin/sh
folder=$1
shift
part="$folder/.$1.$$"
{ printf '%s\\n' "$@" && cat; } >"$part" && mv "$part" "$folder/$1.$$" || exit 75
`

const saslConf = (folder: string): string =>
  `pwcheck_method: auxprop
auxprop_plugin: sasldb
sasldb_path: ${folder}/sasldb2
mech_list: PLAIN LOGIN CRAM-MD5 DIGEST-MD5 SCRAM-SHA-1 SCRAM-SHA-224 SCRAM-SHA-256 SCRAM-SHA-384 SCRAM-SHA-512
`

const table = (rows: Readonly<Record<string, string>>): string =>
  Object.entries(rows).map(([key, value]) => `${key} ${value}\n`).join("")

/** The files of the configuration folder, name to text. */
export const files = (input: Input): Readonly<Record<string, string>> => ({
  "main.cf": mainCf(input),
  "master.cf": masterCf(input),
  "dump.sh": dumpScript,
  "sasl/smtpd.conf": saslConf(input.folder),
  recipient: table({
    [recipients.reject]: "550 5.1.1 mailbox is not here",
    [recipients.defer]: "450 4.2.1 mailbox is busy, try again",
    [recipients.full]: "452 4.2.2 mailbox is full",
    [recipients.disc421]: "421 4.7.0 go away for now",
    [recipients.slow]: "sleep 1"
  }),
  data: table({ [recipients.notNow]: "451 4.3.0 not at this time" }),
  end: table({ [recipients.bigData]: "552 5.3.4 message refused after DATA" }),
  sender: table({ [blockedSender]: "553 5.1.8 sender blocked" })
})
