import { quantile } from './quantile.ts'
import { entries, type Bench, type Case, type Contender, type Row, type Run } from './row.ts'
import { runExecutions } from './run-executions.ts'

/** Code that survives: handlers that remember five results, one after the other, each written before the next begins. */

const CHECKPOINTS = 5
/** How many times as good as the best of its peers Fleet-Q means to be. */
const TARGET = 3
const PEERS = ['dbos', 'absurd']
/** Of the jobs of a drain: a peer needs several statements for each checkpoint. */
const SHARE = 0.5
const JOBS_MAX_SHARE = 0.1
/** Of those again, where 8 at a time are slower for everybody. */
const SHARE_OF_EIGHT = 0.3

const RATE = { key: 'rate', unit: 'executions/s', better: 'more', target: TARGET } as const
const METRICS = [
  RATE,
  { key: 'steady', unit: 'executions/s, first and last tenth left out', better: 'more' },
  { key: 'p50', unit: 'ms for a checkpoint, p50', better: 'less' },
  { key: 'p99', unit: 'ms for a checkpoint, p99', better: 'less' },
] as const

export const executions: Row = {
  name: 'executions',
  about: `executions of ${CHECKPOINTS} checkpoints each, already there, one worker process`,
  cases: (): Case[] => [
    {
      row: 'executions',
      title: `executions of ${CHECKPOINTS} checkpoints, 100 at a time`,
      metrics: [...METRICS],
      contenders: [...entries(['fleet-q'], 'hundred', 3), ...entries(PEERS, 'hundred', 2)],
      measure: (contender, bench) => executeOnce(contender, bench),
    },
    {
      row: 'executions',
      title: `executions of ${CHECKPOINTS} checkpoints, 8 at a time`,
      metrics: [...METRICS],
      contenders: [...entries(['fleet-q'], 'eight', 2), ...entries(PEERS, 'eight', 1)],
      measure: (contender, bench) => executeOnce(contender, bench, SHARE_OF_EIGHT),
    },
  ],
}

async function executeOnce(contender: Contender, bench: Bench, share = 1): Promise<Run> {
  const jobs = Math.min(contender.adapter.drainJobs * SHARE, bench.size.drainJobs * JOBS_MAX_SHARE) * share
  const { rate, steady, tookMs } = await runExecutions(contender, bench, {
    jobs: Math.round(jobs),
    checkpoints: CHECKPOINTS,
  })
  const ordered = tookMs.toSorted()
  return { figures: { rate, steady, p50: quantile(ordered, 0.5), p99: quantile(ordered, 0.99) } }
}

/** The same for all: half-empty pages and what a worker does by the clock weigh on each alike. */
const WEIGHED = 1500
/** One execution with nothing beside it; connections and plans are made by the first of its checkpoints. */
const ALONE = { jobs: 1, checkpoints: 1000 }
const WARM_UP = 100

export const checkpoint: Row = {
  name: 'checkpoint',
  about: 'what one checkpoint costs: alone in milliseconds, under load in log, statements and CPU',
  cases: (): Case[] => [
    {
      row: 'checkpoint',
      title: 'what a checkpoint costs',
      metrics: [
        { key: 'p50', unit: 'ms, p50, nothing beside it', better: 'less' },
        { key: 'p99', unit: 'ms, p99, nothing beside it', better: 'less' },
        { key: 'wal', unit: 'bytes of WAL, 100 executions at a time', better: 'less' },
        { key: 'statements', unit: 'statements, the same', better: 'less' },
        { key: 'server', unit: 'ms of server CPU for 1000, the same', better: 'less' },
      ],
      contenders: entries(['fleet-q', ...PEERS], 'hundred', 2),
      measure: weigh,
    },
  ],
}

/** With checkpoints, less the same without them. What polls by the clock goes on for longer meanwhile, and is counted. */
async function weigh(contender: Contender, bench: Bench): Promise<Run> {
  const jobs = Math.min(WEIGHED, bench.size.drainJobs * JOBS_MAX_SHARE)
  const without = await runExecutions(contender, bench, { jobs, checkpoints: 0 })
  const having = await runExecutions(contender, bench, { jobs, checkpoints: CHECKPOINTS })
  const alone = await runExecutions(contender, bench, ALONE)
  const ordered = alone.tookMs.slice(WARM_UP).toSorted()
  const each = (more: number, less: number) => (more - less) / (jobs * CHECKPOINTS)
  return {
    figures: {
      p50: quantile(ordered, 0.5),
      p99: quantile(ordered, 0.99),
      wal: each(having.cost.walBytes, without.cost.walBytes),
      statements: each(having.cost.statements, without.cost.statements),
      server: each(having.cost.cpuSeconds ?? 0, without.cost.cpuSeconds ?? 0) * 1_000_000,
    },
  }
}
