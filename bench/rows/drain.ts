import { entries, type Bench, type Case, type Contender, type Row, type Run } from './row.ts'
import { runDrain } from './run-drain.ts'

/** Jobs that wait, from the moment the workers start until the last one has its final state in the database. */

export const STEPS_A_SECOND = { key: 'rate', unit: 'steps/s', better: 'more' } as const
const STEADY = { key: 'steady', unit: 'steps/s, first and last tenth left out', better: 'more' } as const

const FAST = ['fleet-q', 'graphile-worker', 'pg-boss']
/** They do one to two thousand a second: a round says enough. */
const SLOW = ['bullmq-pg', 'bullmq-redis', 'dbos', 'absurd']
/** Of the jobs of a drain, where 8 at a time are slower for everybody. */
const SHARE_OF_EIGHT = 0.1

export const drain: Row = {
  name: 'drain',
  about: 'steps that do nothing, already there; throughput settings',
  cases: () =>
    [1, 2, 4].map((pods) => ({
      row: 'drain',
      title: `drain, ${pods} ${pods === 1 ? 'pod' : 'pods'}`,
      metrics: [STEPS_A_SECOND, STEADY],
      contenders: [
        ...entries([...FAST, 'bare'], 'throughput', pods === 1 ? 3 : 2),
        ...(pods === 1 ? entries(['pg-boss'], 'results') : []),
        ...(pods === 1 ? entries(SLOW, 'throughput', 1) : []),
      ],
      measure: (contender, bench) => drainOnce(contender, bench, pods),
    })),
}

export const drain8: Row = {
  name: 'drain8',
  about: 'the same where each process runs at most 8 at a time',
  cases: (): Case[] => [
    {
      row: 'drain8',
      title: 'drain, 8 at a time',
      metrics: [STEPS_A_SECOND, STEADY],
      contenders: [
        ...entries(FAST, 'eight'),
        ...entries(['graphile-worker'], 'ahead'),
        ...entries(SLOW, 'eight', 1),
      ],
      measure: (contender, bench) => drainOnce(contender, bench, 1, SHARE_OF_EIGHT),
    },
  ],
}

export const defaults: Row = {
  name: 'defaults',
  about: 'drain with nothing set at all',
  cases: (): Case[] => [
    {
      row: 'defaults',
      title: 'drain, everybody as installed',
      metrics: [STEPS_A_SECOND],
      contenders: entries([...FAST, ...SLOW], 'default', 1),
      measure: (contender, bench) => drainOnce(contender, bench, 1, SHARE_OF_EIGHT),
    },
  ],
}

async function drainOnce(contender: Contender, bench: Bench, pods: number, share = 1): Promise<Run> {
  const jobs = Math.min(contender.adapter.drainJobs, bench.size.drainJobs * share)
  const { rate, steady } = await runDrain(contender, bench, { pods, jobs })
  return { figures: { rate, steady } }
}
