/** All rows, in the order of the table. */
import type { Comparison } from "../model.ts"
import { growth } from "./growth.ts"
import * as large from "./large.ts"
import { others } from "./others.ts"
import { policy } from "./policy.ts"
import { slowLink } from "./slowLink.ts"
import { small } from "./small.ts"

export const rows: ReadonlyArray<Comparison> = [...small, ...slowLink, ...large.rows, ...others, ...policy, ...growth]
