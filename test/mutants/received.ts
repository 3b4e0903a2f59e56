/** S14 to S17, S19 to S21: what comes from the server, and who gets to see what. */
import type { Mutants } from "./model.ts"

const reply = "test/SmtpReply.test.ts"
const chunking = "test/chunking.test.ts"
const pipelining = "test/pipelining.test.ts"
const smuggling = "test/smuggling.test.ts"
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
const pool = "test/SmtpPool.test.ts"

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
      search: "new Uint8Array(Math.max(length, this.held.length * 2, 256))",
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
      search: "if (this.#owed.length === 0 && this.#decoder.isPartial())",
      replace: "if (this.#owed.length === 0 && this.#decoder.isPartial() && this.#inBody)",
      test: wire
    },
    {
      name: "a call that is interrupted leaves the connection open",
      file: "src/internal/transaction/sender.ts",
      search: "if (!this.#wire.isReady) this.#wire.fail",
      replace: "if (!this.#wire.isReady && Exit.isSuccess(exit)) this.#wire.fail",
      test: interruption
    },
    {
      name: "a reply of the wrong class leaves the connection open",
      file: "src/internal/transaction/deliver.ts",
      search: "if (!run.isSettled) run.dialogue",
      replace: "if (!run.isSettled && !run.dialogue.session.wire.isReady) run.dialogue",
      test: "test/SmtpTransaction.test.ts"
    },
    {
      name: "replies that lost step answer the next mail",
      file: "src/SmtpWire.ts",
      search: "this.#arrived.length = 0",
      replace: "",
      test: smuggling
    },
    {
      name: "530 to BDAT is a refusal like any other",
      file: "src/internal/transaction/run.ts",
      search: "[500, 502, 530].includes",
      replace: "[500, 502].includes",
      test: smuggling
    },
    {
      name: "a message goes with its MAIL, whether MAIL may be refused with 530 or not",
      file: "src/internal/transaction/deliver.ts",
      search: "dialogue.takesMail && dialogue.protocol",
      replace: "dialogue.protocol",
      test: smuggling
    },
    {
      name: "a server that offers STARTTLS is not taken to wait for it",
      file: "src/SmtpConnection.ts",
      search: "capabilities.auth.length === 0 && !session.capabilities.startTls",
      replace: "capabilities.auth.length === 0",
      test: smuggling
    },
    {
      name: "transactions are said without RSET between them",
      file: "src/internal/transaction/sendAll.ts",
      search: "state.begin(prepared.run, true)",
      replace: "state.begin(prepared.run, prepared.run.dialogue.needsReset)",
      test: "test/sendAll.test.ts"
    },
    {
      name: "a refused BDAT is taken for the end of its transaction",
      file: "src/internal/transaction/run.ts",
      search: "if (run.plan.via === \"BDAT\") dialogue.needsReset = true",
      replace: "if (run.plan.isVerbatim) dialogue.needsReset = true",
      test: smuggling
    },
    {
      name: "MAIL refused and 354: a lone dot",
      file: "src/internal/transaction/deliver.ts",
      search: "dialogue.protocol === \"lmtp\" || run.mailRefusal !== undefined",
      replace: "dialogue.protocol === \"lmtp\"",
      test: pipelining
    },
    {
      name: "every recipient refused and 354: the connection is kept without a dot",
      file: "src/internal/transaction/deliver.ts",
      search: "if (run.isHeld) yield* loneDot(run)",
      replace: "run.isSettled = true",
      test: pipelining
    },
    {
      name: "a deadline leaves the connection open",
      file: "src/SmtpWire.ts",
      search: "    this.fail({ _tag: \"Deadline\", ...expired })",
      replace:
        "    this.#owed.length = 0\n    this.#waiters.end((where) => SmtpError.classify({ _tag: \"Deadline\", ...expired }, where))",
      test: wire
    }
  ],
  S24: [
    {
      name: "a flight is in doubt only once MAIL was answered",
      file: "src/internal/transaction/run.ts",
      search: "if (!run.isHandedOver || run.mailRefusal !== undefined) return false",
      replace: "if (!run.isHandedOver || run.answered === 0 || run.mailRefusal !== undefined) return false",
      test: chunking
    },
    {
      name: "a flight is in doubt though MAIL was refused",
      file: "src/internal/transaction/run.ts",
      search: "if (!run.isHandedOver || run.mailRefusal !== undefined) return false",
      replace: "if (!run.isHandedOver) return false",
      test: chunking
    },
    {
      name: "one refused recipient makes it certain",
      file: "src/internal/transaction/run.ts",
      search: "run.outcomes.length === run.plan.recipients.length && run.accepted === 0\n  return !isEveryoneRefused",
      replace: "run.outcomes.length > run.accepted\n  return !isEveryoneRefused",
      test: chunking
    },
    {
      name: "a message by DATA counts as handed over when its reply comes",
      file: "src/internal/transaction/deliver.ts",
      search: "run.isHandedOver = true\n    for (let i",
      replace: "for (let i",
      test: "test/inDoubt.test.ts"
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
      search: "const resolved = options.resolve(input)",
      replace:
        "const resolved = (options as { first?: ReturnType<typeof options.resolve> }).first ??= options.resolve(input)",
      test: client
    },
    {
      name: "the store of TLS sessions knows servers alone",
      file: "src/node/tlsSessions.ts",
      search: "[server.host, server.port, server.path, name, policyOf(options)]",
      replace: "[server.host, server.port, server.path, options.minVersion]",
      test: tls
    },
    {
      name: "the key of a pool leaves secrets out",
      file: "src/internal/poolKey.ts",
      search: "canonical(Redacted.value(value))",
      replace: "\"***\"",
      test: pool
    },
    {
      name: "a pool keeps a connection whatever `use` did to it",
      file: "src/internal/poolCore.ts",
      search: "if (member.isSpent) return \"spent\"",
      replace: "",
      test: pool
    },
    {
      name: "a connection takes commands after its loan",
      file: "src/internal/poolLoan.ts",
      search: "this.#hasEnded = true",
      replace: "",
      test: pool
    },
    {
      name: "who sends first decides who logs in",
      file: "src/internal/poolCore.ts",
      search: "if (observed.some((prefix) => key.startsWith(prefix))) ",
      replace: "",
      test: pool
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
      file: "src/node/targets.ts",
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
