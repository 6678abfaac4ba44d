import type { WorkOptions } from '../adapters/adapter.ts'
import type { Seen } from './calls.ts'
import { machineNow } from './clock.ts'
import { createExecutions } from './execution.ts'

/** What the handlers of a process write down: an increment and two stores, the same for everybody. */
export interface Recorder {
  onJob: WorkOptions['onJob']
  seen(): Seen
  readonly handled: number
}

export interface RecorderOptions {
  /** How long each handler runs. */
  holdMs?: number
  /** Each job is an execution of so many; it counts as handled when it has the last of them. */
  checkpoints?: number
}

export function createRecorder(
  jobs: number,
  { holdMs = 0, checkpoints = 0 }: RecorderOptions = {},
): Recorder {
  const hold =
    holdMs > 0 ? () => new Promise<void>((resolve) => void setTimeout(resolve, holdMs)) : () => undefined
  const startedAt = new Float64Array(jobs)
  const runs = new Uint8Array(jobs)
  const executions = createExecutions(jobs, checkpoints)
  let handled = 0
  return {
    onJob(n, remember) {
      if (checkpoints === 0) handled++
      // A row without an end does not know its numbers beforehand.
      if (n >= jobs) return hold()
      runs[n] = (runs[n] ?? 0) + 1
      startedAt[n] = machineNow()
      if (checkpoints === 0) return hold()
      if (!remember) throw new Error('this contender has no checkpoints')
      return executions.run(n, remember).then(() => void handled++)
    },
    seen: () => ({ handled, startedAt, runs, executions: executions.seen() }),
    get handled() {
      return handled
    },
  }
}
