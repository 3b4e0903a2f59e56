/**
 * A reply as the fake server says it.
 *
 * @since 0.1.0
 */

/**
 * A reply of the fake server: three-digit code and the text of each line. A `SmtpReply` is one too.
 *
 * @category models
 * @since 0.1.0
 */
export interface Answer {
  readonly code: number
  readonly lines: ReadonlyArray<string>
}

/**
 * Makes a reply from a code and the text of one or more lines.
 *
 * **Details**
 *
 * Nothing is checked: a fake server may say what no server should.
 *
 * **Example**
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { SmtpServer } from "effect-smtp/testing"
 *
 * assert.deepStrictEqual(SmtpServer.reply(550, "5.1.1 no such user"), { code: 550, lines: ["5.1.1 no such user"] })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const reply = (code: number, ...lines: ReadonlyArray<string>): Answer => ({
  code,
  lines: lines.length === 0 ? [""] : lines
})
