/** A bucket for each key that fills by the second: so much at once, and then so much a second. */
export interface Rate {
  /** Takes one out. Zero, or in how many seconds there is one again; then nothing was taken. */
  take(key: string): number
  /** Whether one could be taken. */
  has(key: string): boolean
}

interface Bucket {
  left: number
  /** By performance.now(). */
  at: number
}

/** Who comes from so many addresses at once pushes out the bucket that was asked for the longest ago. */
const KEYS_MAX = 10_000

export function createRate({ perSecond, burst }: { perSecond: number; burst: number }): Rate {
  const buckets = new Map<string, Bucket>()

  function filled(key: string): Bucket {
    const now = performance.now()
    const bucket = buckets.get(key)
    if (!bucket) {
      const [oldest] = buckets.size < KEYS_MAX ? [] : buckets.keys()
      if (oldest !== undefined) buckets.delete(oldest)
      const full = { left: burst, at: now }
      buckets.set(key, full)
      return full
    }
    bucket.left = Math.min(burst, bucket.left + ((now - bucket.at) / 1000) * perSecond)
    bucket.at = now
    // The last in line again: who is pushed out is who was away for the longest.
    buckets.delete(key)
    buckets.set(key, bucket)
    return bucket
  }

  return {
    has: (key) => !buckets.has(key) || filled(key).left >= 1,
    take(key) {
      const bucket = filled(key)
      if (bucket.left < 1) return (1 - bucket.left) / perSecond
      bucket.left--
      return 0
    },
  }
}
