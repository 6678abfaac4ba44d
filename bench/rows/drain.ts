import type { Contender, Bench, Case, Row, Run, Size } from './row.ts'
import { runDrain } from './run-drain.ts'

/** Jobs that wait, from the moment the workers start until the last one has its final state in the database. */

export const STEPS_A_SECOND = { key: 'rate', unit: 'steps/s', better: 'more' } as const
const STEADY = { key: 'steady', unit: 'steps/s, first and last tenth left out', better: 'more' } as const

const FAST = ['fleet-q', 'graphile-worker', 'pg-boss', 'bare']
const SLOW = ['bullmq-pg', 'dbos', 'absurd']

export const drain: Row = {
  name: 'drain',
  about: 'steps that do nothing, already there; throughput settings',
  cases: () =>
    [1, 2, 4].map((pods) => ({
      row: 'drain',
      title: `drain, ${pods} ${pods === 1 ? 'pod' : 'pods'}`,
      metrics: [STEPS_A_SECOND, STEADY],
      contenders: [
        ...FAST.map((name) => ({ name, profile: 'throughput' as const })),
        { name: 'pg-boss', profile: 'results' as const },
        ...SLOW.map((name) => ({ name, profile: 'throughput' as const })),
      ],
      measure: (contender, bench) => drainOnce(contender, bench, pods),
    })),
}

/** A tenth of the jobs is enough: 8 at a time are slower for everybody. */
export const drain8: Row = {
  name: 'drain8',
  about: 'the same where each process holds at most 8 at a time',
  cases: (): Case[] => [
    {
      row: 'drain8',
      title: 'drain, 8 at a time',
      metrics: [STEPS_A_SECOND, STEADY],
      contenders: ['fleet-q', 'graphile-worker', 'pg-boss', ...SLOW].map((name) => ({
        name,
        profile: 'eight' as const,
      })),
      measure: (contender, bench) => drainOnce(contender, bench, 1, 5),
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
      rounds: 1,
      metrics: [STEPS_A_SECOND],
      contenders: ['fleet-q', 'graphile-worker', 'pg-boss', ...SLOW].map((name) => ({
        name,
        profile: 'default' as const,
      })),
      measure: (contender, bench) => drainOnce(contender, bench, 1, 5),
    },
  ],
}

async function drainOnce(contender: Contender, bench: Bench, pods: number, share = 1): Promise<Run> {
  const jobs = jobsFor(contender, bench.size) / share
  const { rate, steady } = await runDrain(contender, bench, { pods, jobs })
  return { figures: { rate, steady } }
}

const jobsFor = ({ adapter }: Contender, size: Size) => Math.min(adapter.drainJobs, size.drainJobs)
