/**
 * How many steps a pod claims beyond its free slots, so that a slot that falls free has its next step at hand: as many
 * as its slots end in the time of a round trip or two. For steps of a second that is none; for steps of microseconds it
 * is what makes 8 slots as fast as 500.
 */
export interface LookAhead {
  /** A step ran this long. */
  ran(ms: number): void
  /** An exchange has brought all it asked for. */
  grow(): void
  /** What was claimed ahead had to wait: steps have become slower. */
  shrink(): void
  readonly steps: number
}

const AHEAD_MS = 20
const AHEAD_MAX = 1000
/** Weight of the last step in the mean. */
const SHARE = 1 / 32

export function createLookAhead(capacity: number): LookAhead {
  let meanMs: number | undefined
  let allowed = 0
  return {
    ran(ms) {
      meanMs = meanMs === undefined ? ms : meanMs + (ms - meanMs) * SHARE
    },
    // Twice as many at most from one exchange to the next: a few quick steps say little about what comes.
    grow() {
      allowed = Math.min(AHEAD_MAX, Math.max(capacity, allowed * 2))
    },
    shrink() {
      allowed = 0
    },
    get steps() {
      if (meanMs === undefined) return 0
      return Math.floor(Math.min(allowed, (capacity * AHEAD_MS) / Math.max(meanMs, 0.001)))
    },
  }
}
