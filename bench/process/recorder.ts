import type { Seen } from './calls.ts'
import { machineNow } from './clock.ts'

/** What the handlers of a process write down: an increment and two stores, the same for everybody. */
export interface Recorder {
  onJob(n: number): Promise<void> | undefined
  seen(): Seen
  readonly handled: number
}

export function createRecorder(jobs: number, holdMs = 0): Recorder {
  const hold =
    holdMs > 0 ? () => new Promise<void>((resolve) => void setTimeout(resolve, holdMs)) : () => undefined
  const startedAt = new Float64Array(jobs)
  const runs = new Uint8Array(jobs)
  let handled = 0
  return {
    onJob(n) {
      handled++
      // A row without an end does not know its numbers beforehand.
      if (n >= jobs) return hold()
      runs[n] = (runs[n] ?? 0) + 1
      startedAt[n] = machineNow()
      return hold()
    },
    seen: () => ({ handled, startedAt, runs }),
    get handled() {
      return handled
    },
  }
}
