import type { Inspector } from '../adapters/adapter.ts'
import type { Seen } from '../process/calls.ts'
import { machineNow } from '../process/clock.ts'
import { withChildren } from '../process/spawn.ts'
import { withFilled } from '../server/copy.ts'
import { watchCost, type Cost } from '../server/watch.ts'
import { NoFigure, type Bench, type Contender } from './row.ts'
import { steadyRate, untilHandled } from './run-drain.ts'
import { checkTally, untilSettled } from './settled.ts'

export interface Executed {
  /** Executions a second from the start of the worker to the last final state. */
  rate: number
  /** Executions a second between the first and the last tenth of their ends; 0 where they have no checkpoints. */
  steady: number
  /** How long each checkpoint took: those of the first execution, then those of the second. */
  tookMs: Float64Array
  cost: Cost
}

/** Who needs longer has no figure: the cost of a part of them would be somebody's guess. */
const LIMIT_MS = 60_000

/** So many executions of so many checkpoints, there beforehand and run by one process, to the last final state. */
export async function runExecutions(
  contender: Contender,
  bench: Bench,
  { jobs, checkpoints }: { jobs: number; checkpoints: number },
): Promise<Executed> {
  const { adapter, profile } = contender
  return withFilled(bench.copies, contender, jobs, (url, database) =>
    withChildren([adapter.name], async ([child]) => {
      if (!child) throw new Error('no process was started')
      const inspector = adapter.inspect(url)
      try {
        await inspector.settled(jobs)
        const spent = await watchCost(bench.server, database)
        const begun = machineNow()
        await child.ask('work', { adapter: adapter.name, url, profile, jobs, checkpoints })
        if (!(await untilHandled([child], jobs, begun + LIMIT_MS)))
          throw new NoFigure(`${child.handled} of ${jobs} executions had ended after ${LIMIT_MS / 1000} s`)
        await untilSettled(inspector, jobs)
        const ms = machineNow() - begun
        const cost = await spent()
        const seen = await child.ask('seen', undefined)
        checkRuns(seen)
        checkTally(await inspector.tally(), jobs, adapter.forgets)
        await checkKept(inspector, jobs, checkpoints)
        const { endedAt, tookMs } = seen.executions
        return { rate: (jobs / ms) * 1000, steady: steadyRate(endedAt), tookMs, cost }
      } finally {
        await inspector.close()
      }
    }),
  )
}

/** Nothing died, so each execution ran once, and so did each of its bodies. */
function checkRuns({ runs, executions }: Seen) {
  for (const [what, counts] of [
    ['executions', runs],
    ['bodies', executions.bodies],
  ] as const) {
    const twice = counts.filter((count) => count > 1).length
    if (twice > 0) throw new NoFigure(`${twice} ${what} ran more than once, though nothing died`)
    const never = counts.filter((count) => count === 0).length
    if (never > 0) throw new NoFigure(`${never} ${what} never ran`)
  }
}

/** What was acknowledged lies in the tables: all checkpoints of each execution, with its own results, and no others. */
async function checkKept(inspector: Inspector, jobs: number, checkpoints: number) {
  if (!inspector.kept) throw new NoFigure('its checkpoints cannot be read back')
  const { whole, others } = await inspector.kept(checkpoints)
  const wanted = checkpoints === 0 ? 0 : jobs
  if (whole !== wanted || others > 0)
    throw new NoFigure(
      `${wanted} executions should have ${checkpoints} checkpoints each: ${whole} have, ${others} have others`,
    )
}
