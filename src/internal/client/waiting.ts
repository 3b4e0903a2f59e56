/**
 * How many wait for their turn.
 */
export class Waiting {
  count = 0
  /** One more waits, until what comes back is called; calling it again does nothing. */
  enter(): () => void {
    let isWaiting = true
    this.count++
    return () => {
      if (isWaiting) this.count--
      isWaiting = false
    }
  }
}
