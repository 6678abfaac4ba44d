export interface Backoff {
  strategy: 'exponential' | 'linear' | 'fixed'
  base_ms: number
  max_ms: number
  /** Share of the delay that is drawn at random, 0 to 1: attempts that failed together return apart. */
  jitter: number
}

export const DEFAULT_BACKOFF: Backoff = {
  strategy: 'exponential',
  base_ms: 1000,
  max_ms: 300_000,
  jitter: 0.2,
}

/** How long to wait before the attempt that follows `attempt` (1 is the first). Pure: chance is an argument. */
export function backoffMs(backoff: Backoff, attempt: number, chance: number): number {
  const { strategy, base_ms, max_ms, jitter } = backoff
  const grown =
    strategy === 'fixed'
      ? base_ms
      : strategy === 'linear'
        ? base_ms * attempt
        : base_ms * 2 ** Math.min(attempt - 1, 52)
  const capped = Math.min(grown, max_ms)
  return Math.round(capped * (1 - jitter) + capped * jitter * chance)
}
