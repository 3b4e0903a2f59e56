/**
 * The only word for dialling: a service that turns an endpoint into a duplex of octets that can be upgraded to TLS.
 *
 * What it is: the seam between the dialogue and the world. `NodeConnector.layer` implements it over `node:net` and
 * `node:tls`; `SmtpServer.layer` (the fake server) in memory. What it is not: it knows nothing of SMTP.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import type { ChannelBinding } from "./Sasl.ts"
import type { ECONFIG, EDNS, EPROXY, ESOCKET, ETLS } from "./SmtpError.ts"

/**
 * Where to connect to: a host and a port, or the path of a unix socket.
 *
 * @category models
 * @since 0.1.0
 */
export interface Endpoint {
  /** Host name or IP literal (IPv6 without brackets). */
  readonly host: string
  readonly port: number
  /** Path of a unix socket; host and port are not used then. */
  readonly path?: string | undefined
  /** Local address to bind to. */
  readonly localAddress?: string | undefined
  /** Only addresses of this family. */
  readonly family?: 4 | 6 | undefined
}

/**
 * One address of an endpoint: what `connect` takes.
 *
 * @category models
 * @since 0.1.0
 */
export interface Target extends Endpoint {
  /** The IP address to dial; undefined when the connector leaves the name to somebody else (unix socket, proxy). */
  readonly address: string | undefined
}

/**
 * The TLS settings of a connection: the library's own type, a subset of what Node takes under the same names.
 *
 * **Details**
 *
 * Verification of chain and name is on unless `rejectUnauthorized` is false; a connection that is not verified reports
 * `authorized: false` and gets no credentials. TLS below 1.2 cannot be asked for. Names and IP addresses are looked for in
 * the subject alternative names alone (RFC 9525): a certificate with nothing but a CN is for nobody.
 *
 * With `pins`, a server that matches none is `ETLS`, whoever signed its certificate; one that matches is verified although
 * its authority is private. A pin of the server's own key or certificate is its identity, and neither name nor validity
 * count beside it. With the pin of an authority, the name, the signatures up to it and the validity still have to be right.
 *
 * @category models
 * @since 0.1.0
 */
export interface TlsOptions {
  /** Trusted CA certificates in PEM, in place of the system's well-known ones. */
  readonly ca?: string | Uint8Array | ReadonlyArray<string | Uint8Array> | undefined
  /** Client certificate chain in PEM. */
  readonly cert?: string | Uint8Array | undefined
  /** Private key of the client certificate in PEM. */
  readonly key?: Redacted.Redacted<string | Uint8Array> | undefined
  /** Passphrase of `key`. */
  readonly passphrase?: Redacted.Redacted<string> | undefined
  /** Lowest version, default TLSv1.2. */
  readonly minVersion?: "TLSv1.2" | "TLSv1.3" | undefined
  /** Highest version, default TLSv1.3. */
  readonly maxVersion?: "TLSv1.2" | "TLSv1.3" | undefined
  /** OpenSSL cipher list. */
  readonly ciphers?: string | undefined
  /** False: go on although chain or name do not verify. Default true. It does not weaken `pins`. */
  readonly rejectUnauthorized?: boolean | undefined
  /**
   * The server has to show one of these: `sha256/BASE64`, the SHA-256 of a public key (its SPKI, as in RFC 7469 §2.4), or
   * `cert-sha256/HEX`, of a whole certificate in DER (colons allowed). Either of the server's own certificate, or of an
   * authority above it.
   */
  readonly pins?: ReadonlyArray<string> | undefined
}

/**
 * One upgrade to TLS: whom to expect, and under which settings.
 *
 * @category models
 * @since 0.1.0
 */
export interface TlsUpgrade {
  /** The name or IP address that the certificate has to hold; sent as SNI unless it is an IP literal. */
  readonly servername: string
  /** Whether a chain or name that does not verify ends the handshake; one without the pins asked for always does. */
  readonly verify: boolean
  readonly options: TlsOptions
}

/**
 * A certificate as TLS reports it.
 *
 * @category models
 * @since 0.1.0
 */
export interface PeerCertificate {
  /** Distinguished name, e.g. "CN=mx.test". */
  readonly subject: string
  readonly issuer: string
  /** Subject alternative names as OpenSSL writes them. */
  readonly subjectAltName: string
  /** SHA-256 over the DER form, as hex pairs with colons. */
  readonly fingerprint256: string
  readonly validFrom: string
  readonly validTo: string
  /** The DER form. */
  readonly raw: Uint8Array
}

/**
 * What is known of the TLS layer of a connection.
 *
 * @category models
 * @since 0.1.0
 */
export interface TlsInfo {
  /** "TLSv1.3", …; "in-memory" on the fake server. */
  readonly protocol: string
  /** The IANA name, e.g. "TLS_AES_256_GCM_SHA384". */
  readonly cipher: string
  /** Whether a session of an earlier connection was resumed: what follows is of its full handshake then. */
  readonly resumed: boolean
  /** Whether chain and name verified, or a pin matched. */
  readonly authorized: boolean
  /** OpenSSL's or Node's code for why not. */
  readonly authorizationError?: string | undefined
  /** The name or address that was expected. */
  readonly servername: string
  /** Who the server is, when verified: the name in its certificate that is the expected one, or its own pin. */
  readonly identity?: string | undefined
  /** The pin that matched. */
  readonly pin?: string | undefined
  readonly peerCertificate?: PeerCertificate | undefined
  /** What a login can be bound to (RFC 5929, RFC 9266); the first is used. Absent or empty: nothing. */
  readonly channelBindings?: ReadonlyArray<ChannelBinding> | undefined
}

/**
 * How a duplex ended: an orderly FIN, an error of the operating system, or one of the TLS layer after its handshake, such
 * as an alert.
 *
 * @category models
 * @since 0.1.0
 */
export type Ended = { readonly _tag: "Closed" } | { readonly _tag: "Errno" | "Tls"; readonly cause: unknown }

/**
 * The reader of a duplex. All three are called synchronously from the transport; none may throw.
 *
 * @category models
 * @since 0.1.0
 */
export interface Listener {
  /** The octets are the listener's until it returns: the next read may be into the same array. What is kept is copied. */
  readonly onData: (octets: Uint8Array) => void
  /** What `write` refused to buffer further has been taken. */
  readonly onDrain: () => void
  /** The end, once; nothing is called after it. */
  readonly onEnd: (ended: Ended) => void
}

/**
 * One connected stream of octets.
 *
 * **Details**
 *
 * It is owned by the scope it was connected in; closing the scope destroys it. Reading starts with `listen`; octets
 * that came before are handed over then.
 *
 * @category models
 * @since 0.1.0
 */
export interface Duplex {
  /** Whether it counts as trusted without TLS of ours: a unix socket, or a connection that its maker declared so. */
  readonly secured: boolean
  /** The local IP address, when there is one. */
  readonly localAddress: string | undefined
  /** The address of the peer as text for logs, e.g. "127.0.0.1:25" or a path. */
  readonly remoteAddress: string | undefined
  /** Names the one listener; another call replaces it. */
  readonly listen: (listener: Listener) => void
  /** Hands the chunks over in one corked write, in order. False: wait for `onDrain` before the next. After the end, does nothing. */
  readonly write: (chunks: ReadonlyArray<Uint8Array>) => boolean
  /**
   * Starts TLS on the stream and reports it. From the call on, the listener gets decrypted octets only; plaintext that
   * is already held back is a failure. Interruption destroys the stream. Any failure inside, FIN and errno included, is ETLS.
   */
  readonly upgrade: (tls: TlsUpgrade) => Effect.Effect<TlsInfo, ETLS>
  /**
   * Whether a handshake that offered a session of an earlier connection was lost: some servers cannot resume. The
   * connector offers that server none again, so dialling once more makes a full handshake. Default false.
   */
  readonly failedToResume?: boolean | undefined
  /** Sends FIN after what was written. */
  readonly end: () => void
  /** Frees the socket at once. */
  readonly destroy: () => void
}

/**
 * The service that dials.
 *
 * **Details**
 *
 * A dialogue calls `resolve` once and then `connect` for one target after the other until one answers.
 *
 * @category services
 * @since 0.1.0
 */
export class SmtpConnector extends Context.Service<SmtpConnector, {
  /** The addresses of an endpoint, in the order to try them; at least one. */
  readonly resolve: (endpoint: Endpoint) => Effect.Effect<readonly [Target, ...ReadonlyArray<Target>], EDNS | ECONFIG>
  /** Opens a stream to one address; the scope owns it. */
  readonly connect: (target: Target) => Effect.Effect<Duplex, ESOCKET | EPROXY | ETLS | ECONFIG, Scope.Scope>
  /** The fully qualified name of this host, when it has one: the default of EHLO's argument. */
  readonly localName: string | undefined
}>()("effect-smtp/SmtpConnector") {}
