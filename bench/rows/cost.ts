import { withChildren } from '../process/spawn.ts'
import { withFilled } from '../server/copy.ts'
import { watchCost } from '../server/watch.ts'
import { drainDatabase } from './run-drain.ts'
import { entries, NoFigure, type Bench, type Case, type Contender, type Row, type Run } from './row.ts'

/** What a step costs from its submit to its end: in the log, on the server, and in round trips. */

const JOBS = 20_000
const BATCH = 1000
const SUBMIT_MS_MAX = 20_000
/** With its number around it, an argument of 150 bytes. */
const PAD = 'x'.repeat(130)

export const cost: Row = {
  name: 'cost',
  about: 'submitted in batches, drained by one pod; args of 150 bytes',
  cases: (): Case[] => [
    {
      row: 'cost',
      title: 'what a step costs, submitted in batches of 1000 and run by one pod',
      metrics: [
        { key: 'wal', unit: 'bytes of WAL', better: 'less' },
        { key: 'server', unit: 'ms of server CPU for 1000 steps', better: 'less' },
        { key: 'worker', unit: 'ms of worker CPU for 1000 steps', better: 'less' },
        { key: 'statements', unit: 'statements from workers and producers', better: 'less' },
      ],
      contenders: [
        ...entries(['fleet-q', 'graphile-worker', 'pg-boss'], 'throughput', 1),
        ...entries(['pg-boss'], 'results', 1),
        ...entries(['bullmq-pg', 'dbos', 'absurd', 'bare'], 'throughput', 1),
      ],
      measure: weigh,
    },
  ],
}

async function weigh(contender: Contender, bench: Bench): Promise<Run> {
  const { adapter, profile } = contender
  const jobs = Math.min(JOBS, adapter.drainJobs)
  return withFilled(bench.copies, contender, 0, async (url, database) => {
    const submitted = await withChildren([adapter.name], async ([child]) => {
      const spent = await watchCost(bench.server, database)
      await child?.ask('submit', {
        adapter: adapter.name,
        url,
        profile,
        callers: 1,
        batch: BATCH,
        pad: PAD,
        jobsMax: jobs,
        ms: SUBMIT_MS_MAX,
      })
      return spent()
    })
    const drained = await drainDatabase(contender, bench, { pods: 1, jobs, url, database })
    if (drained.jobs < jobs) throw new NoFigure(`only ${drained.jobs} of ${jobs} were handled in time`)
    const each = (total: number) => total / jobs
    return {
      figures: {
        wal: each(submitted.walBytes + drained.cost.walBytes),
        server: each((submitted.cpuSeconds ?? 0) + (drained.cost.cpuSeconds ?? 0)) * 1_000_000,
        worker: each(drained.workerCpuSeconds) * 1_000_000,
        statements: each(submitted.statements + drained.cost.statements),
      },
    }
  })
}
