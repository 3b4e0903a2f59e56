/** What a message looks like on the wire, written with replacements over the whole of it. */

const dotted = (lines: string): string => lines.replace(/(^|\r\n)\./g, "$1..")

/** The octets that are due once this much of a message is known: all but what its end may still change. */
export const canonicalSoFar = (text: string): string => text.replace(/\r\n|\r(?!$)|\n/g, "\r\n")

export const stuffedSoFar = (text: string): string => dotted(canonicalSoFar(text))

export const canonical = (text: string): string => {
  const lines = text.replace(/\r\n|\r|\n/g, "\r\n")
  return lines === "" || lines.endsWith("\r\n") ? lines : `${lines}\r\n`
}

/** The whole of it, with the terminator. */
export const stuffed = (text: string): string => `${dotted(canonical(text))}.\r\n`
