/**
 * The text that parameters of MAIL and RCPT are made of: which characters no command may hold, and the encodings of
 * RFC 3461 section 4 (xtext) and RFC 6533 section 3 (UTF-8 addresses).
 */

// oxlint-disable-next-line no-control-regex -- matching control characters is what this is for
const control = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\ud800-\udfff]/u

/** C0, DEL, C1, U+2028, U+2029 or a lone surrogate: the first one in the text, as "U+000A"; undefined if there is none. */
export const controlIn = (text: string): string | undefined => {
  const found = control.exec(text)
  return found === null ? undefined : codePoint(found[0])
}

const hex = (character: string): string => character.codePointAt(0)!.toString(16).toUpperCase()

/** A character as "U+000A". */
export const codePoint = (character: string): string => `U+${hex(character).padStart(4, "0")}`

/** Whether every character is below U+0080. */
export const isAscii = (text: string): boolean => !/[^\0-\x7f]/.test(text)

/** xtext of printable ASCII: all but "!" to "~" without "+" and "=" becomes "+HH". */
export const encodeXtext = (ascii: string): string => ascii.replace(/[ +=]/g, (character) => `+${hex(character)}`)

const embed = (character: string): string => `\\x{${hex(character)}}`

/** utf-8-addr-xtext: 7-bit, for a server without SMTPUTF8. */
export const encodeUtf8Xtext = (text: string): string => text.replace(/[ +=\\]|[^\0-\x7f]/gu, embed)

/** utf-8-addr-unitext: for a server with SMTPUTF8. Other spaces than ASCII's are embedded too. */
export const encodeUnitext = (text: string): string => text.replace(/[\s+=\\]/gu, embed)
