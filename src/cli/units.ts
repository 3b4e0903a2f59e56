/**
 * Numbers for a person.
 */

const grouped = (whole: string): string => whole.replaceAll(/\B(?=(?:\d{3})+$)/g, " ")

/** A whole number in groups of three digits: "12 345". */
export const number = (value: number): string => grouped(String(Math.round(value)))

/** A count and what is counted: "1 message", "2 messages". */
export const count = (value: number, singular: string): string =>
  `${number(value)} ${singular}${value === 1 ? "" : "s"}`
