import type { Service } from './service.ts'

export interface LoopOptions {
  name: string
  /** How long to rest after a run; a run may ask for another rest by returning milliseconds. */
  everyMs: number
  /** Rest after a failed run: grows from here to `failedMaxMs`, with jitter, until a run succeeds. */
  failedMs?: number
  failedMaxMs?: number
  run(signal: AbortSignal): Promise<number | void>
  onError?(error: unknown): void
}

export interface Loop extends Service {
  start(): void
  stop(): Promise<void>
  /** Run now, or again at once if a run is under way. */
  ring(): void
  /** Milliseconds since the last run that succeeded, on the monotonic clock; undefined before the first. */
  lastSuccessAgeMs(): number | undefined
}

/** The one loop of the house: now, after a rest, or when rung; never overlapping itself. */
export function loop(options: LoopOptions): Loop {
  const { name, everyMs, run, onError, failedMs = 250, failedMaxMs = 5000 } = options
  let stop: AbortController | undefined
  let done: Promise<void> = Promise.resolve()
  let rung = false
  let wake: (() => void) | undefined
  let succeededAt: number | undefined

  const rest = (ms: number, signal: AbortSignal) =>
    new Promise<void>((resolve) => {
      if (rung || signal.aborted) return resolve()
      const finish = () => {
        clearTimeout(timer)
        wake = undefined
        resolve()
      }
      const timer = setTimeout(finish, ms)
      wake = finish
    })

  async function turn(signal: AbortSignal) {
    let failures = 0
    while (!signal.aborted) {
      rung = false
      let restMs = everyMs
      try {
        restMs = (await run(signal)) ?? everyMs
        succeededAt = performance.now()
        failures = 0
      } catch (error) {
        if (signal.aborted) break
        onError?.(error)
        restMs = Math.min(failedMs * 2 ** failures, failedMaxMs) * (0.5 + Math.random())
        failures = Math.min(failures + 1, 20)
        // A ring must not turn the back-off into a hot loop.
        rung = false
      }
      await rest(restMs, signal)
    }
  }

  return {
    name,
    start() {
      stop = new AbortController()
      done = turn(stop.signal)
    },
    async stop() {
      stop?.abort()
      wake?.()
      await done
    },
    ring() {
      rung = true
      wake?.()
    },
    lastSuccessAgeMs: () => (succeededAt === undefined ? undefined : performance.now() - succeededAt),
  }
}
