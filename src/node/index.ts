export * as NodeConnector from "./NodeConnector.ts"
export * as NodeMessage from "./NodeMessage.ts"
export * as NodeSmtpServer from "./NodeSmtpServer.ts"
