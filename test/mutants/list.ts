/** All mutants. */
import type { Mutants } from "./model.ts"
import { received } from "./received.ts"
import { secured } from "./secured.ts"
import { written } from "./written.ts"

export const mutants: Mutants = { ...written, ...secured, ...received }
