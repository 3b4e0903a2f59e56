/**
 * DATA or BDAT: which a message goes by.
 */
import type { Envelope } from "../../Envelope.ts"
import type { SmtpCapabilities } from "../../SmtpCapabilities.ts"
import { isChunk } from "../message.ts"
import { maxFlight } from "./deliver.ts"

/**
 * BDAT saves a message that goes with its envelope a round trip, and an octet of work in ten. To a large one it gives
 * nothing: DATA is what every server does well.
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
