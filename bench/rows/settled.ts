import { setTimeout as sleep } from 'node:timers/promises'
import type { Adapter, Inspector, Tally } from '../adapters/adapter.ts'
import { NoFigure } from './row.ts'

/** Every job has its final state, once: what each row ends with. */

/** Batched completions come after their handlers. */
const SETTLE_MS = 15_000

/** Asks only when every handler has run, so that the question costs the run nothing. */
export async function untilSettled(inspector: Inspector, jobs: number): Promise<void> {
  const until = performance.now() + SETTLE_MS
  while (performance.now() < until) {
    if (await inspector.settled(jobs)) return
    await sleep(5)
  }
}

export function checkTally(tally: Tally, jobs: number, forgets = false): void {
  if (tally.left > 0) throw new NoFigure(`${tally.left} jobs had no final state after every handler had run`)
  if (tally.wrong > 0) throw new NoFigure(`${tally.wrong} jobs ended otherwise than they should have`)
  if (!forgets && tally.ended !== jobs)
    throw new NoFigure(`${jobs} jobs were there, ${tally.ended} final states are`)
}

/** Both, where no clock is running any more. */
export async function expectSettled(adapter: Adapter, url: string, jobs: number): Promise<void> {
  const inspector = adapter.inspect(url)
  try {
    await untilSettled(inspector, jobs)
    checkTally(await inspector.tally(), jobs, adapter.forgets)
  } finally {
    await inspector.close()
  }
}
