export * as SmtpServer from "./SmtpServer.ts"
