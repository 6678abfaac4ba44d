import type { Remember } from '../adapters/adapter.ts'
import type { SeenExecutions } from './calls.ts'
import { machineNow } from './clock.ts'

/** Executions of so many checkpoints, one after the other, and what their bodies write down: the same for everybody. */
export interface Executions {
  run(n: number, remember: Remember): Promise<void>
  seen(): SeenExecutions
}

export function createExecutions(jobs: number, checkpoints: number): Executions {
  const endedAt = new Float64Array(checkpoints > 0 ? jobs : 0)
  const bodies = new Uint8Array(jobs * checkpoints)
  const tookMs = new Float64Array(jobs * checkpoints)
  return {
    async run(n, remember) {
      for (let i = 0; i < checkpoints; i++) {
        const at = n * checkpoints + i
        const body = async () => {
          bodies[at] = (bodies[at] ?? 0) + 1
          return { n, i }
        }
        const begun = performance.now()
        const got = await remember(`c${i}`, body)
        tookMs[at] = performance.now() - begun
        if (got.n !== n || got.i !== i)
          throw new Error(`checkpoint ${i} of execution ${n} was answered with ${JSON.stringify(got)}`)
      }
      endedAt[n] = machineNow()
    },
    seen: () => ({ endedAt, bodies, tookMs }),
  }
}
