/** S1 to S6, S22, S23: what is written to the server. */
import type { Mutants } from "./model.ts"

const envelope = "test/Envelope.test.ts"
const command = "test/SmtpCommand.test.ts"
const sasl = "test/Sasl.test.ts"
const stuffing = "test/DotStuffing.test.ts"
const proxy = "test/node/proxy.test.ts"
const transaction = "test/SmtpTransaction.test.ts"
const chunking = "test/chunking.test.ts"

export const written: Mutants = {
  S1: [
    {
      name: "an address may hold any control",
      file: "src/internal/mailbox.ts",
      search: "const control = controlIn(text)",
      replace: "const control = controlIn(text.slice(0, 0))",
      test: envelope
    },
    {
      name: "a path is put into the line as it came",
      file: "src/internal/pathLine.ts",
      search: "line = `${verb}:<${parsed.success.path}>`",
      replace: "line = `${verb}:<${path}>`",
      test: command
    },
    {
      name: "NEL and the line separators of Unicode are no controls",
      file: "src/internal/xtext.ts",
      search: String.raw`\u007f-\u009f\u2028\u2029`,
      replace: String.raw`\u007f`,
      test: command
    },
    {
      name: "the local part may be as long as the path",
      file: "src/internal/mailbox.ts",
      search: "if (length > maxLocal)",
      replace: "if (length > maxPath)",
      test: envelope
    },
    {
      name: "a command may have any length",
      file: "src/SmtpCommand.ts",
      search: "return octets > most ?",
      replace: "return octets > most * 1000 ?",
      test: command
    }
  ],
  S2: [
    {
      name: "SIZE takes fractions and Infinity",
      file: "src/internal/parameters.ts",
      search: "Number.isSafeInteger(u) && u >= 0",
      replace: "u >= 0",
      test: command
    },
    {
      name: "EHLO takes any name without a space",
      file: "src/SmtpCommand.ts",
      search: "if (mailbox.isHostName(name)) return",
      replace: "if (!name.includes(\" \")) return",
      test: command
    },
    {
      name: "xtext leaves the plus sign alone",
      file: "src/internal/xtext.ts",
      search: "ascii.replace(/[ +=]/g",
      replace: "ascii.replace(/[ =]/g",
      test: command
    },
    {
      name: "the type of ORCPT may be any text",
      file: "src/internal/parameters.ts",
      search: String.raw`!/^[a-z\d](?:[a-z\d-]*[a-z\d])?$/i.test(type)`,
      replace: "type === \"\"",
      test: command
    },
    {
      name: "a flag is whatever is not nothing",
      file: "src/internal/parameters.ts",
      search: "typeof u === \"boolean\" ? undefined",
      replace: "u !== undefined ? undefined",
      test: command
    },
    {
      name: "VRFY, HELP and NOOP take any text",
      file: "src/SmtpCommand.ts",
      search: "return problem === undefined ? `${verb} ${String(text)}`",
      replace: "return problem !== \"\" ? `${verb} ${String(text)}`",
      test: command
    }
  ],
  S3: [
    {
      name: "line ends drop out of the host that a proxy is asked for",
      file: "src/node/proxyProtocol.ts",
      search: "if (hasUnsafe(host)) return undefined",
      replace: "if (hasUnsafe(host) && host === \"\") return undefined",
      test: proxy
    },
    {
      name: "a proxy is asked for any host",
      file: "src/node/proxyProtocol.ts",
      search: "return isName(ascii) ? { text: ascii, octets: undefined } : undefined",
      replace: "return ascii !== \"\" || isName(ascii) ? { text: ascii, octets: undefined } : undefined",
      test: proxy
    },
    {
      name: "the user of a proxy may hold controls",
      file: "src/node/proxyUrl.ts",
      search: String.raw`/\p{Cc}/u.test(username + password)`,
      replace: String.raw`/\p{Cc}/u.test(username + password) && protocol === "http"`,
      test: proxy
    },
    {
      name: "the fields of PLAIN may hold NUL",
      file: "src/internal/sasl/model.ts",
      search: String.raw`refused: /\u0000/, named: "NUL"`,
      replace: String.raw`refused: /\u0001/, named: "NUL"`,
      test: sasl
    },
    {
      name: "the user of XOAUTH2 may hold U+0001",
      file: "src/internal/sasl/model.ts",
      search: String.raw`refused: /[\u0000-\u001f\u007f-\u009f]/`,
      replace: String.raw`refused: /\u0000/`,
      test: sasl
    },
    {
      name: "a token may hold line ends",
      file: "src/internal/sasl/bearer.ts",
      search: String.raw`refused: /[^\u0021-\u007e]/`,
      replace: "refused: / /",
      test: sasl
    },
    {
      name: "a comma in a name of SCRAM stays",
      file: "src/internal/sasl/model.ts",
      search: "text.replaceAll(\"=\", \"=3D\").replaceAll(\",\", \"=2C\")",
      replace: "text.replaceAll(\"=\", \"=3D\")",
      test: "test/SaslScram.test.ts"
    }
  ],
  S4: [
    {
      name: "the domain begins behind the last at sign",
      file: "src/internal/mailbox.ts",
      search: String.raw`\\[\x20-\x7e])*)"@/u`,
      replace: String.raw`\\[\x20-\x7e])*)".*@/u`,
      test: envelope
    },
    {
      name: "a quoted local part goes out without its quotes",
      file: "src/internal/mailbox.ts",
      search: "dotString.test(content) ? content :",
      replace: "content !== \"\" ? content :",
      test: envelope
    },
    {
      name: "a domain in Unicode may turn into another",
      file: "src/internal/mailbox.ts",
      search: "isHostName(ascii) && isSameName(domain, ascii)",
      replace: "isHostName(ascii) && (isHostName(ascii) || isSameName(domain, ascii))",
      test: envelope
    },
    {
      name: "encoded words pass",
      file: "src/internal/mailbox.ts",
      search: "if (encodedWord.test(parts.success.local))",
      replace: "if (encodedWord.test(parts.success.domain))",
      test: envelope
    },
    {
      name: "a name may stand before the address",
      file: "src/Envelope.ts",
      search: "text.startsWith(\"<\") && text.endsWith(\">\") ? text.slice(1, -1) : text",
      replace: "text.endsWith(\">\") ? text.slice(text.indexOf(\"<\") + 1, -1) : text",
      test: envelope
    }
  ],
  S5: [
    {
      name: "a lone CR inside text passes",
      file: "src/internal/octets.ts",
      search: "const controlLimit = 0x0e",
      replace: "const controlLimit = 0x0d",
      test: stuffing
    },
    {
      name: "a message may end in a lone CR",
      file: "src/DotStuffing.ts",
      search: "this.position === AFTER_CR ? 1 : 0",
      replace: "0",
      test: stuffing
    },
    {
      name: "a lone LF stays one",
      file: "src/DotStuffing.ts",
      search: "if (position !== AFTER_CR) out[to++] = CR",
      replace: "if (position === LINE_START) out[to++] = CR",
      test: stuffing
    },
    {
      name: "the encoder takes octets behind the terminator",
      file: "src/DotStuffing.ts",
      search: "if (this.ended) throw",
      replace: "if (this.ended && this.size < 0) throw",
      test: stuffing
    },
    {
      name: "BDAT counts what is no number of octets",
      file: "src/SmtpCommand.ts",
      search: "if (ofSize !== undefined) return refuse(\"size\", ofSize)",
      replace: "if (ofSize === \"\") return refuse(\"size\", ofSize)",
      test: command
    },
    {
      name: "a chunk is counted without its last octet",
      file: "src/internal/transaction/chunking.ts",
      search: "[header(size, false), ...first]",
      replace: "[header(size - 1, false), ...first]",
      test: chunking
    },
    {
      name: "a flight is counted with an octet that it does not have",
      file: "src/internal/transaction/deliver.ts",
      search: "header(octets.length, true), octets]",
      replace: "header(octets.length + 1, true), octets]",
      test: chunking
    },
    {
      name: "a message that goes by BDAT is stuffed",
      file: "src/internal/message.ts",
      search: "stuffing: form === \"DATA\"",
      replace: "stuffing: form.length > 0",
      test: chunking
    },
    {
      name: "BINARYMIME gets line ends",
      file: "src/internal/transaction/body.ts",
      search: "run.plan.isVerbatim ? makeVerbatim()",
      replace: "run.plan.isVerbatim && run.written < 0 ? makeVerbatim()",
      test: chunking
    }
  ],
  S6: [
    {
      name: "a dot that begins the message is not stuffed",
      file: "src/DotStuffing.ts",
      search: "hasEightBit = false\n  private position = LINE_START",
      replace: "hasEightBit = false\n  private position = MIDDLE",
      test: stuffing
    },
    {
      name: "a line that begins with a chunk is not stuffed",
      file: "src/DotStuffing.ts",
      search: "this.position = position\n    this.hasEightBit",
      replace: "this.position = position === LINE_START ? MIDDLE : position\n    this.hasEightBit",
      test: stuffing
    },
    {
      name: "a dot behind a lone CR is not stuffed",
      file: "src/DotStuffing.ts",
      search: "if (octet === DOT && position === LINE_START && stuffing) out[to++] = DOT",
      replace: "if (octet === DOT && chunk[at - 2] !== CR && position === LINE_START && stuffing) out[to++] = DOT",
      test: stuffing
    }
  ],
  S22: [
    {
      name: "8-bit octets go to a server without 8BITMIME",
      file: "src/SmtpTransaction.ts",
      search: "const mustBeEightBit = content === undefined ? envelope.use8BitMime === true : content.hasEightBit",
      replace: "const mustBeEightBit = content === undefined && envelope.use8BitMime === true",
      test: transaction
    },
    {
      name: "a stream may bring 8-bit octets that were not declared",
      file: "src/internal/transaction/body.ts",
      search: "const isTooWide = () => encoder.hasEightBit && !run.plan.allowsEightBit\n",
      replace: "const isTooWide = () => encoder.size < 0\n",
      test: transaction
    },
    {
      name: "UTF-8 addresses go to a server without SMTPUTF8",
      file: "src/SmtpTransaction.ts",
      search: "if (envelope.needsSmtpUtf8 && !capabilities.smtpUtf8)",
      replace: "if (envelope.needsSmtpUtf8 && !capabilities.extended)",
      test: transaction
    },
    {
      name: "the encoder sees no 8-bit octets",
      file: "src/DotStuffing.ts",
      search: "if (octet > 0x7f) hasEightBit = true",
      replace: "if (octet > 0xff) hasEightBit = true",
      test: transaction
    }
  ],
  S23: [
    {
      name: "unverified TLS is enough for REQUIRETLS",
      file: "src/SmtpTransaction.ts",
      search: "!(capabilities.requireTls && trusted)",
      replace: "!capabilities.requireTls",
      test: transaction
    },
    {
      name: "REQUIRETLS goes to a server that did not offer it",
      file: "src/SmtpTransaction.ts",
      search: "!(capabilities.requireTls && trusted)",
      replace: "!trusted",
      test: transaction
    },
    {
      name: "any TLS counts as trusted",
      file: "src/internal/transaction/sender.ts",
      search: "trusted: this.#dialogue.session.trusted",
      replace: "trusted: this.#dialogue.session.secure",
      test: transaction
    },
    {
      name: "REQUIRETLS is not said",
      file: "src/SmtpTransaction.ts",
      search: "requireTls: envelope.requireTls,",
      replace: "requireTls: undefined,",
      test: transaction
    }
  ]
}
