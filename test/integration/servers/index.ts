/**
 * Real servers on loopback, one scoped layer each: `Postfix.layer`, `SmtpSink.layer`, `Dovecot.layer`,
 * `SmtpServerNpm.layer`, `DnsServer.layer`. See model.ts for what all of them share and `describeServer` for a suite
 * that is skipped, with the reason in its name, where a server cannot run.
 */
export * as Certificates from "./certificates.ts"
export * as DnsServer from "./DnsServer.ts"
export * as Dovecot from "./Dovecot.ts"
export * from "./model.ts"
export * as Postfix from "./Postfix.ts"
export * from "./requirements.ts"
export * as SmtpServerNpm from "./SmtpServerNpm.ts"
export * as SmtpSink from "./SmtpSink.ts"
export { describeServer } from "./suite.ts"
