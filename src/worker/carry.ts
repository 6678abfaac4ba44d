import type { Service } from '../kernel/service.ts'

export interface CarrierOptions {
  name: string
  /** Round trips at once. */
  tripsMax: number
  /** Whether one should leave now; asked again after each that left. */
  hasCargo(): boolean
  /** What it carries is taken before its first await. */
  trip(): Promise<void>
  onError(error: unknown): void
}

export interface Carrier extends Service {
  start(): void
  /** Returns when those under way are back. */
  stop(): Promise<void>
  /** There may be something to carry. */
  ring(): void
  readonly underWay: number
  lastSuccessAgeMs(): number | undefined
}

const FAILED_MS = 250
const FAILED_MS_MAX = 5000

/**
 * Round trips to the database, a few at once: one is at the server while what another has brought is run here. Batches
 * grow by themselves, never by waiting: whatever comes while all are under way leaves with the first that is back. At
 * low load each result leaves at once.
 */
export function carrier(options: CarrierOptions): Carrier {
  const { name, tripsMax, hasCargo, trip, onError } = options
  let running = false
  let leaving = false
  let failures = 0
  let failedTimer: NodeJS.Timeout | undefined
  let succeededAt: number | undefined
  const underWay = new Set<Promise<void>>()

  function ring() {
    if (!running || leaving || failedTimer) return
    leaving = true
    // After everything that ends in this turn of the event loop: it goes together.
    setImmediate(leave)
  }

  function leave() {
    leaving = false
    while (running && !failedTimer && underWay.size < tripsMax && hasCargo()) {
      const going = go().finally(() => {
        underWay.delete(going)
        ring()
      })
      underWay.add(going)
    }
  }

  async function go() {
    try {
      await trip()
      succeededAt = performance.now()
      failures = 0
    } catch (error) {
      onError(error)
      if (!running || failedTimer) return
      const restMs = Math.min(FAILED_MS * 2 ** failures, FAILED_MS_MAX) * (0.5 + Math.random())
      failures = Math.min(failures + 1, 20)
      // A ring must not turn the back-off into a hot loop.
      failedTimer = setTimeout(() => {
        failedTimer = undefined
        ring()
      }, restMs)
    }
  }

  return {
    name,
    start() {
      running = true
      ring()
    },
    async stop() {
      running = false
      clearTimeout(failedTimer)
      failedTimer = undefined
      await Promise.all(underWay)
    },
    ring,
    get underWay() {
      return underWay.size
    },
    lastSuccessAgeMs: () => (succeededAt === undefined ? undefined : performance.now() - succeededAt),
  }
}
