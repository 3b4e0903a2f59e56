export * as SmtpConnector from "./SmtpConnector.ts"
export * as SmtpError from "./SmtpError.ts"
export * as SmtpReply from "./SmtpReply.ts"
