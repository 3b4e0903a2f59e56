/** S14 to S17, S19 to S21: what comes from the server, and who gets to see what. */
import type { Mutants } from "./model.ts"

const reply = "test/SmtpReply.test.ts"
const wire = "test/SmtpWire.test.ts"
const interruption = "test/interruption.test.ts"
const logging = "test/logging.test.ts"
const login = "test/SmtpLogin.test.ts"
const command = "test/SmtpCommand.test.ts"
const handshake = "test/SmtpHandshake.test.ts"
const connector = "test/node/NodeConnector.test.ts"
const nodeTls = "test/node/nodeTls.test.ts"
const tls = "test/tls.test.ts"
const client = "test/SmtpClient.test.ts"

export const received: Mutants = {
  S14: [
    {
      name: "a line may be as long as a reply",
      file: "src/SmtpReply.ts",
      search: "if (length > maxLineLength + 1)",
      replace: "if (length > maxReplyLength)",
      test: reply
    },
    {
      name: "a reply may have any number of lines",
      file: "src/SmtpReply.ts",
      search: "if (this.lines.length >= maxLines)",
      replace: "if (this.lines.length >= maxReplyLength)",
      test: reply
    },
    {
      name: "a reply may have any length",
      file: "src/SmtpReply.ts",
      search: "if (octetsOfReply > maxReplyLength)",
      replace: "if (octetsOfReply > maxReplyLength * 100)",
      test: reply
    },
    {
      name: "what is held is copied for each octet",
      file: "src/SmtpReply.ts",
      search: "new Uint8Array(Math.max(length, this.held.length * 2))",
      replace: "new Uint8Array(length)",
      test: reply
    },
    {
      name: "the codes of a reply may differ",
      file: "src/SmtpReply.ts",
      search: "if (this.lines.length > 0 && line.code !== this.code)",
      replace: "if (this.lines.length > maxLines && line.code !== this.code)",
      test: reply
    },
    {
      name: "a code may have more digits",
      file: "src/SmtpReply.ts",
      search: "if (separator !== undefined && separator !== 0x20 && separator !== 0x2d) {",
      replace: "if (separator !== undefined && separator !== 0x20 && separator !== 0x2d && !isDigit(separator)) {",
      test: reply
    },
    {
      name: "a challenge may be as long as a line",
      file: "src/Sasl.ts",
      search: "if (text.length > maxChallengeLength)",
      replace: "if (text.length > maxChallengeLength * 100)",
      test: "test/Sasl.test.ts"
    }
  ],
  S15: [
    {
      name: "a reply that answers nothing waits for a command",
      file: "src/SmtpWire.ts",
      search: "return this.fail({ _tag: this.#inBody || this.#isBodyDue ? \"Refused\" : \"Unsolicited\", reply })",
      replace: "return void this.#arrived.push(reply)",
      test: wire
    },
    {
      name: "half a reply answers the next command",
      file: "src/SmtpWire.ts",
      search: "if (this.#owed === 0 && this.#decoder.isPartial())",
      replace: "if (this.#owed === 0 && this.#decoder.isPartial() && this.#inBody)",
      test: wire
    },
    {
      name: "a call that is interrupted leaves the connection open",
      file: "src/SmtpConnection.ts",
      search: "if (!this.#wire.isReady) this.#wire.fail",
      replace: "if (!this.#wire.isReady && Exit.isSuccess(exit)) this.#wire.fail",
      test: interruption
    },
    {
      name: "a reply of the wrong class leaves the connection open",
      file: "src/SmtpTransaction.ts",
      search: "if (!state.isSettled) dialogue",
      replace: "if (!state.isSettled && !dialogue.session.wire.isReady) dialogue",
      test: "test/SmtpTransaction.test.ts"
    },
    {
      name: "a deadline leaves the connection open",
      file: "src/SmtpWire.ts",
      search: "    this.fail({ _tag: \"Deadline\",",
      replace:
        "    const reader = this.#reader\n    this.#due = Infinity\n    this.#owed = 0\n    if (isOurs && reader !== undefined) return reader.resume(Effect.fail(SmtpError.classify({ _tag: \"Deadline\", timeout: this.#timeout }, reader.where)))\n    this.fail({ _tag: \"Deadline\",",
      test: wire
    }
  ],
  S16: [
    {
      name: "the TLS policy of the first connection is that of all",
      file: "src/SmtpHandshake.ts",
      search: "const upgradeOf = (options: Resolved): SmtpConnector.TlsUpgrade => ({\n",
      replace:
        "let first: Resolved | undefined\nconst upgradeOf = (given: Resolved, options = first ??= given): SmtpConnector.TlsUpgrade => ({\n",
      test: tls
    },
    {
      name: "the options of the first connection are those of all",
      file: "src/SmtpConnection.ts",
      search: "Effect.fromResult(options.resolve(input))",
      replace:
        "Effect.fromResult((options as { first?: ReturnType<typeof options.resolve> }).first ??= options.resolve(input))",
      test: client
    },
    {
      name: "the store of TLS sessions knows servers alone",
      file: "src/node/tlsSessions.ts",
      search: "[server.host, server.port, server.path, name, policyOf(options)]",
      replace: "[server.host, server.port, server.path, options.minVersion]",
      test: tls
    }
  ],
  S17: [
    {
      name: "the transcript has the text of replies to AUTH",
      file: "src/internal/transcript.ts",
      search: "isAuth ? bare(reply) : SmtpReply.render(reply)",
      replace: "isAuth && reply.code === 235 ? bare(reply) : SmtpReply.render(reply)",
      test: login
    },
    {
      name: "the transcript has the responses of AUTH",
      file: "src/SmtpCommand.ts",
      search: "if (command._tag === \"AuthResponse\") return \"***\"",
      replace: "if (command._tag === \"AuthResponse\") return String(lineOf(command))",
      test: logging
    },
    {
      name: "the transcript has the initial response of AUTH",
      file: "src/SmtpCommand.ts",
      search: "command.initialResponse === undefined ? verb(command) : `${verb(command)} ***`",
      replace: "String(lineOf(command))",
      test: command
    },
    {
      name: "an error repeats the secret that the server echoes",
      file: "src/internal/echo.ts",
      search: "if (!parts.some((part) => shows(part, text, runs)))",
      replace: "if (!parts.some((part) => shows(part, text, runs) && text === \"\"))",
      test: login
    },
    {
      name: "the endpoint's echo of a secret is in the error",
      file: "src/internal/oauth2/endpoint.ts",
      search: "reduce((text, secret) => text.replaceAll(secret, \"***\"), said)",
      replace: "reduce((text, secret) => text.replace(secret, secret), said)",
      test: "test/OAuth2.test.ts"
    },
    {
      name: "an error shows the URL that holds the password",
      file: "src/internal/url.ts",
      search: "refuse(\"user and password go together\")",
      replace: "refuse(`user and password go together: ${url.href}`)",
      test: "test/url.test.ts"
    }
  ],
  S19: [
    {
      name: "any positive reply is a greeting",
      file: "src/SmtpHandshake.ts",
      search: "if (greeting.code !== 220)",
      replace: "if (greeting.code >= 300)",
      test: handshake
    },
    {
      name: "EHLO goes out before the greeting",
      file: "src/SmtpHandshake.ts",
      search: "return { wire, id, ...yield* greet(wire, options) }",
      replace:
        "wire.hand([Uint8Array.of(69, 72, 76, 79, 13, 10)], 0, \"command\")\n  return { wire, id, ...yield* greet(wire, options) }",
      test: handshake
    },
    {
      name: "a line without a code is text of the next",
      file: "src/SmtpReply.ts",
      search: "if (typeof line === \"string\") return this.fail(line)",
      replace: "if (typeof line === \"string\") return this.lines.length === 0 ? this.fail(line) : undefined",
      test: reply
    },
    {
      name: "TLS names no host",
      file: "src/node/nodeTls.ts",
      search: "net.isIP(name) === 0 ? { servername: name } : {}",
      replace: "net.isIP(name) === 0 && name === \"localhost\" ? { servername: name } : {}",
      test: nodeTls
    }
  ],
  S20: [
    {
      name: "IP literals are not asked about",
      file: "src/node/NodeConnector.ts",
      search: "const allowed = addresses.filter(allow)",
      replace: "const allowed = addresses.filter((address) => address === host || allow(address))",
      test: connector
    },
    {
      name: "what is dialled is resolved once more",
      file: "src/node/NodeConnector.ts",
      search: "return { host: address, port, autoSelectFamily: false",
      replace: "return { host: target.host, port, autoSelectFamily: false",
      test: connector
    },
    {
      name: "a name in place of an address is resolved",
      file: "src/node/NodeConnector.ts",
      search: "if (address === undefined || net.isIP(address) === 0) return undefined",
      replace: "if (address === undefined) return undefined",
      test: connector
    },
    {
      name: "an IPv4 address inside IPv6 is not looked at",
      file: "src/node/ipAddress.ts",
      search: "return !special4.check(embedded.join(\".\"), \"ipv4\")",
      replace: "return embedded.length === 4 || !special4.check(embedded.join(\".\"), \"ipv4\")",
      test: "test/node/ipAddress.test.ts"
    },
    {
      name: "a proxy resolves past the filter",
      file: "src/node/NodeConnector.ts",
      search: "proxy.resolves && allowAddress === undefined",
      replace: "proxy.resolves",
      test: "test/node/proxy.test.ts"
    }
  ],
  S21: [
    {
      name: "C1 controls are shown",
      file: "src/SmtpReply.ts",
      search: String.raw`\u007f-\u009f\u061c`,
      replace: String.raw`\u007f\u061c`,
      test: reply
    },
    {
      name: "bidirectional controls are shown",
      file: "src/SmtpReply.ts",
      search: String.raw`\u2028-\u202e\u2060-\u2069`,
      replace: String.raw`\u2028\u2029`,
      test: reply
    },
    {
      name: "text of any length is shown",
      file: "src/SmtpReply.ts",
      search: "const shown = text.length > limit ?",
      replace: "const shown = text.length > limit * 1000 ?",
      test: reply
    },
    {
      name: "a reply is shown as it came",
      file: "src/SmtpReply.ts",
      search: "const text = escapeText(reply.lines.join(\" / \"))",
      replace: "const text = reply.lines.join(\" / \")",
      test: logging
    },
    {
      name: "what a proxy answers is shown as it came",
      file: "src/node/proxyProtocol.ts",
      search: "words = escapeText(found[2] ?? \"\", 200)",
      replace: "words = found[2] ?? \"\"",
      test: "test/node/proxy.test.ts"
    }
  ]
}
