import { findAdapter } from '../adapters/find.ts'
import type { KeepAheadCall } from './calls.ts'

/** A producer that keeps a number of jobs ahead of the worker, for rows that last for minutes. */
export interface Ahead {
  /** The workers have handled so many by now. */
  handled(count: number): number
  stop(): Promise<number>
}

const IDLE_MS = 2

export async function createAhead({ adapter, url, profile, ahead, batch }: KeepAheadCall): Promise<Ahead> {
  const producer = await (await findAdapter(adapter)).produce(url, profile)
  let submitted = 0
  let done = 0
  let stopped = false

  async function run() {
    while (!stopped) {
      if (submitted - done >= ahead) await new Promise((resolve) => setTimeout(resolve, IDLE_MS))
      else {
        const first = submitted
        await producer.submitMany(Array.from({ length: batch }, (_, i) => ({ n: first + i })))
        submitted += batch
      }
    }
    await producer.close()
  }
  const running = run()
  // Its failure is told by stop().
  running.catch(() => {})

  return {
    handled(count) {
      done = count
      return submitted
    },
    async stop() {
      stopped = true
      await running
      return submitted
    },
  }
}
