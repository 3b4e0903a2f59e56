/**
 * DATA or BDAT: which a message goes by.
 */
import type { Envelope } from "../../Envelope.ts"
import type { SmtpCapabilities } from "../../SmtpCapabilities.ts"
import { isChunk } from "../message.ts"
import { maxFlight } from "./deliver.ts"

/**
 * A message that goes by BDAT with its envelope saves a round trip, and the work of dot-stuffing. A large one gains nothing
 * from it: DATA is what every server does well.
 */
export const chooseVia = (
  { binaryMime }: Envelope,
  message: unknown,
  { chunking }: SmtpCapabilities,
  wish: boolean | "always"
): "DATA" | "BDAT" => {
  if (binaryMime) return "BDAT"
  if (!chunking || wish === false) return "DATA"
  return wish === "always" || (isChunk(message) && message.length <= maxFlight) ? "BDAT" : "DATA"
}
