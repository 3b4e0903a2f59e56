/** S7 to S13 and S18: TLS, and what may be said only inside it. */
import type { Mutants } from "./model.ts"

const handshake = "test/SmtpHandshake.test.ts"
const wire = "test/SmtpWire.test.ts"
const login = "test/SmtpLogin.test.ts"
const tls = "test/tls.test.ts"
const proxy = "test/node/proxy.test.ts"
const sessions = "test/node/tlsSessions.test.ts"
const options = "test/options.test.ts"
const scram = "test/SaslScram.test.ts"
const sasl = "test/Sasl.test.ts"
const oauth2 = "test/OAuth2.test.ts"

export const secured: Mutants = {
  S7: [
    {
      name: "a server without STARTTLS is spoken to in clear",
      file: "src/SmtpHandshake.ts",
      search: "return isRequired ? yield* withoutTls(\"the server does not offer it\")",
      replace:
        "return isRequired && capabilities.extensions.size === 0 ? yield* withoutTls(\"the server does not offer it\")",
      test: handshake
    },
    {
      name: "a refusal of STARTTLS is passed over",
      file: "src/SmtpHandshake.ts",
      search: "return isRequired || error._tag !== \"ETLS\"",
      replace: "return error._tag !== \"ETLS\"",
      test: handshake
    },
    {
      name: "TLS is opportunistic by default",
      file: "src/internal/options.ts",
      search: "port === 465 ? \"implicit\" : \"starttls\"",
      replace: "port === 465 ? \"implicit\" : \"opportunistic\"",
      test: options
    },
    {
      name: "HELO does without TLS",
      file: "src/SmtpHandshake.ts",
      search: "if (options.tls === \"starttls\" && !wire.isSecuredByMaker) {",
      replace: "if (options.tls === \"implicit\" && !wire.isSecuredByMaker) {",
      test: handshake
    },
    {
      name: "XSTARTTLS is taken for STARTTLS",
      file: "src/SmtpCapabilities.ts",
      search: "startTls: extensions.has(\"STARTTLS\")",
      replace: "startTls: [...extensions.keys()].some((key) => key.endsWith(\"STARTTLS\"))",
      test: handshake
    },
    {
      name: "a failed handshake is always followed by a dialogue in clear",
      file: "src/SmtpHandshake.ts",
      search: "!isRequired && mayRedial(error)",
      replace: "mayRedial(error)",
      test: handshake
    }
  ],
  S8: [
    {
      name: "half a reply behind the 220 is passed over",
      file: "src/SmtpWire.ts",
      search: "return this.#decoder.isPartial() || failure === \"Unsolicited\"",
      replace: "return failure === \"Unsolicited\"",
      test: wire
    },
    {
      name: "a reply behind the 220 is thrown away",
      file: "src/SmtpWire.ts",
      search: "upgrade(this, this.#duplex",
      replace:
        "(this.#failure = this.#failure?._tag === \"Unsolicited\" ? undefined : this.#failure, upgrade)(this, this.#duplex",
      test: wire
    },
    {
      name: "plaintext in place of the handshake leads to a dialogue in clear",
      file: "src/SmtpHandshake.ts",
      search: "return error.command !== \"API\" && !isPlaintext",
      replace: "return error.command !== \"API\" && (!isPlaintext || isPlaintext)",
      test: handshake
    },
    {
      name: "plaintext that the stream holds back goes into the handshake",
      file: "src/node/nodeDuplex.ts",
      search: "if (this.stream.readableLength > 0)",
      replace: "if (this.stream.readableLength > 65536)",
      test: "test/node/nodeDuplex.test.ts"
    }
  ],
  S9: [
    {
      name: "a command is written behind STARTTLS",
      file: "src/SmtpWire.ts",
      search: "this.hand([octets], 1,",
      replace:
        "this.hand(command._tag === \"StartTls\" ? [octets, Uint8Array.of(78, 79, 79, 80, 13, 10)] : [octets], 1,",
      test: handshake
    },
    {
      name: "a command is written behind AUTH",
      file: "src/SmtpWire.ts",
      search: "this.hand([octets], 1,",
      replace: "this.hand(command._tag === \"Auth\" ? [octets, Uint8Array.of(78, 79, 79, 80, 13, 10)] : [octets], 1,",
      test: "test/pipelining.test.ts"
    },
    {
      name: "something is written between the 220 and the handshake",
      file: "src/SmtpHandshake.ts",
      search: "return yield* wire.upgrade(upgradeOf(options), \"STARTTLS\").pipe(",
      replace:
        "wire.hand([Uint8Array.of(13, 10)], 0, \"command\")\n  return yield* wire.upgrade(upgradeOf(options), \"STARTTLS\").pipe(",
      test: tls
    }
  ],
  S10: [
    {
      name: "EHLO is not said again",
      file: "src/SmtpHandshake.ts",
      search: "if (Option.isSome(security)) capabilities =",
      replace: "if (options.protocol === \"lmtp\") capabilities =",
      test: handshake
    },
    {
      name: "the mechanisms of the first EHLO are kept",
      file: "src/SmtpHandshake.ts",
      search: "capabilities = yield* hello(wire, options, name, false)",
      replace: "capabilities = { ...yield* hello(wire, options, name, false), auth: capabilities.auth }",
      test: handshake
    },
    {
      name: "HELO may follow the second EHLO",
      file: "src/SmtpHandshake.ts",
      search: "if (isLmtp || !isFirst ||",
      replace: "if (isLmtp ||",
      test: handshake
    },
    {
      name: "what was offered adds up over several EHLOs",
      file: "src/SmtpCapabilities.ts",
      search:
        "export const fromReply = (reply: SmtpReply): SmtpCapabilities => {\n  const extensions = new Map<string, Array<string>>()",
      replace:
        "const seen = new Map<string, Array<string>>()\nexport const fromReply = (reply: SmtpReply): SmtpCapabilities => {\n  const extensions = seen",
      test: handshake
    }
  ],
  S11: [
    {
      name: "any name in the certificate will do",
      file: "src/node/tlsIdentity.ts",
      search: "isIP(name) === 0 ? certificate.checkHost(name, noPartialWildcards)",
      replace: "isIP(name) === 0 ? certificate.subjectAltName ?? certificate.checkHost(name, noPartialWildcards)",
      test: tls
    },
    {
      name: "an address is not looked for in the certificate",
      file: "src/node/tlsIdentity.ts",
      search: ": certificate.checkIP(name)",
      replace: ": certificate.checkIP(name) ?? name",
      test: tls
    },
    {
      name: "the chain may lead to nobody",
      file: "src/node/tlsIdentity.ts",
      search: "code === undefined ? Result.void",
      replace: "code === undefined || untrusted.includes(code) ? Result.void",
      test: tls
    },
    {
      name: "a certificate may be out of date",
      file: "src/node/tlsIdentity.ts",
      search: "code === undefined ? Result.void",
      replace: "code === undefined || /^CERT_/.test(code) ? Result.void",
      test: tls
    },
    {
      name: "only pins are enforced",
      file: "src/node/nodeTls.ts",
      search: "if (Result.isFailure(found) && settings.isEnforced)",
      replace: "if (Result.isFailure(found) && settings.isEnforced && settings.pins.length > 0)",
      test: proxy
    },
    {
      name: "only implicit TLS is verified",
      file: "src/SmtpHandshake.ts",
      search: "options.tls !== \"opportunistic\" &&",
      replace: "options.tls === \"implicit\" &&",
      test: handshake
    },
    {
      name: "any key of a chain that is shown matches a pin",
      file: "src/node/tlsIdentity.ts",
      search: "if (!isIssuer(issuer, chain[index]!)) return undefined",
      replace: "if (!issuer.ca) return undefined",
      test: "test/node/tlsIdentity.test.ts"
    },
    {
      name: "a session is resumed under another policy",
      file: "src/node/tlsSessions.ts",
      search: "[server.host, server.port, server.path, name, policyOf(options)]",
      replace: "[server.host, server.port, server.path, name, options.minVersion]",
      test: sessions
    },
    {
      name: "a session is resumed under another name",
      file: "src/node/tlsSessions.ts",
      search: "[server.host, server.port, server.path, name, policyOf(options)]",
      replace: "[server.host, server.port, server.path, policyOf(options)]",
      test: sessions
    },
    {
      name: "a session of an unverified connection is kept",
      file: "src/node/tlsSessions.ts",
      search: "if (source === undefined || !settings.isEnforced)",
      replace: "if (source === undefined)",
      test: sessions
    },
    {
      name: "a resumed session is believed without its peer",
      file: "src/node/nodeTls.ts",
      search: "const peer = resumed && kept !== undefined ? kept :",
      replace: "const peer = resumed && kept !== undefined && settings.name === \"\" ? kept :",
      test: sessions
    },
    {
      name: "an https: proxy is not verified",
      file: "src/node/proxyTunnel.ts",
      search: "verify: true",
      replace: "verify: false",
      test: proxy
    }
  ],
  S12: [
    {
      name: "credentials go over any connection",
      file: "src/internal/sasl/select.ts",
      search: "if (!options.secure && !options.allowInsecureAuth) {",
      replace: "if (!options.secure && !options.allowInsecureAuth && options.offered.length === 0) {",
      test: login
    },
    {
      name: "TLS without verification is enough for credentials",
      file: "src/SmtpLogin.ts",
      search: "secure: session.trusted,",
      replace: "secure: session.secure,",
      test: handshake
    },
    {
      name: "TLS counts as trusted whether it verified or not",
      file: "src/SmtpHandshake.ts",
      search: "trusted: isAuthorized ||",
      replace: "trusted: isAuthorized || Option.isSome(security) ||",
      test: handshake
    },
    {
      name: "loopback counts as trusted",
      file: "src/internal/options.ts",
      search: "allowInsecureAuth: o.allowInsecureAuth ?? false",
      replace: "allowInsecureAuth: o.allowInsecureAuth ?? host === \"127.0.0.1\"",
      test: login
    },
    {
      name: "any known mechanism is strong enough",
      file: "src/internal/sasl/select.ts",
      search: "rank(name) >= 0 && rank(name) <= rank(minimum)",
      replace: "rank(name) >= 0 && rank(name) <= rank(minimum) + strength.length",
      test: sasl
    }
  ],
  S13: [
    {
      name: "any signature is taken",
      file: "src/internal/sasl/scram.ts",
      search: "return hash.timingSafeEqual(given, signature)",
      replace: "return given.length === signature.length || hash.timingSafeEqual(given, signature)",
      test: scram
    },
    {
      name: "success without a signature is believed",
      file: "src/internal/sasl/scram.ts",
      search: "finish: () => model.fail(\"the server reported success without its SCRAM signature",
      replace:
        "finish: () => signature.length > 0 ? Result.void : model.fail(\"the server reported success without its SCRAM signature",
      test: scram
    },
    {
      name: "a login believes every 235",
      file: "src/SmtpLogin.ts",
      search: "if (Result.isSuccess(believed)) return undefined",
      replace: "if (Result.isSuccess(believed) || tried.length > 0) return undefined",
      test: login
    },
    {
      name: "one iteration is enough",
      file: "src/internal/sasl/scram.ts",
      search: "export const minIterations = 4096",
      replace: "export const minIterations = 1",
      test: scram
    },
    {
      name: "any number of iterations is run",
      file: "src/internal/sasl/scram.ts",
      search: "return iterations > maxIterations",
      replace: "return iterations > maxIterations ** 2",
      test: scram
    },
    {
      name: "the nonce need not extend ours",
      file: "src/internal/sasl/scram.ts",
      search: "!nonce.startsWith(clientNonce) ||",
      replace: "",
      test: scram
    },
    {
      name: "nothing tells that binding was possible",
      file: "src/internal/sasl/scram.ts",
      search: "? \"n\" : \"y\"",
      replace: "? \"n\" : \"n\"",
      test: scram
    },
    {
      name: "the password is hashed as it is",
      file: "src/internal/sasl/saslprep.ts",
      search: "if (/^[ -~]+$/.test(text)) return",
      replace: "if (text !== \"\") return",
      test: scram
    }
  ],
  S18: [
    {
      name: "the token endpoint may be http",
      file: "src/internal/oauth2/endpoint.ts",
      search: "if (url.protocol === \"https:\") return",
      replace: "if (url.protocol === \"https:\" || !isLoopback(url.hostname)) return",
      test: oauth2
    },
    {
      name: "fetch follows redirects",
      file: "src/internal/oauth2/endpoint.ts",
      search: "redirect: \"manual\"",
      replace: "redirect: \"follow\"",
      test: oauth2
    },
    {
      name: "an answer from elsewhere is taken",
      file: "src/internal/oauth2/endpoint.ts",
      search: "placeOf(new URL(response.url)) !== placeOf(grant.url)",
      replace: "placeOf(new URL(response.url)) === \"\"",
      test: oauth2
    },
    {
      name: "an answer may have any length",
      file: "src/internal/oauth2/endpoint.ts",
      search: "if (octets > maxAnswer)",
      replace: "if (octets > maxAnswer * 1000)",
      test: oauth2
    },
    {
      name: "an error of any length is parsed",
      file: "src/internal/sasl/bearer.ts",
      search: "if (challenge.length > maxError) return undefined",
      replace: "if (challenge.length > maxError * 1000) return undefined",
      test: sasl
    },
    {
      name: "the error of XOAUTH2 is answered with text",
      file: "src/internal/sasl/bearer.ts",
      search: "\"XOAUTH2\",\n  \"\",",
      replace: "\"XOAUTH2\",\n  \"*\",",
      test: sasl
    },
    {
      name: "a token goes over any connection",
      file: "src/internal/sasl/select.ts",
      search: "if (!options.secure && !options.allowInsecureAuth) {",
      replace: "if (!options.secure && !options.allowInsecureAuth && options.credentials._tag !== \"OAuth2\") {",
      test: login
    }
  ]
}
