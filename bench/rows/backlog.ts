import type postgres from 'postgres'
import { withSql } from '../adapters/ask.ts'
import { fillLater, fillOutcomes, fillReady } from '../adapters/fleet-q.sql.ts'
import { fillFresh, filledTemplate } from '../server/copy.ts'
import { STEPS_A_SECOND } from './drain.ts'
import { runDrain } from './run-drain.ts'
import { entries, type Bench, type Case, type Contender, type Row, type Run, type Size } from './row.ts'

/** A drain that has more around it than what it drains. To be read beside the first of these lines, the empty case. */

const JOBS = 60_000
const LANES = 10_000
const OUTCOMES = 5_000_000

const OURS = entries(['fleet-q'], 'throughput', 2)
const PEERS = entries(['graphile-worker', 'pg-boss'], 'throughput', 2)

interface Surroundings {
  name: string
  title: string
  /** Made beside the jobs that are drained; undefined for jobs of more than are drained. */
  add?: (sql: postgres.Sql) => Promise<void>
  /** How many of the jobs themselves. */
  jobs?: number
  lanes?: number
}

const count = (jobs: number) => jobs.toLocaleString('en')

const usual = ({ backlogJobs }: Size): Surroundings[] => [
  { name: 'empty', title: 'nothing else', jobs: JOBS },
  { name: 'pending', title: `${count(backlogJobs)} of them pending`, jobs: backlogJobs },
  { name: 'later', title: `${count(backlogJobs)} due in a year`, add: (sql) => fillLater(sql, backlogJobs) },
  {
    name: 'unhandled',
    title: `${count(backlogJobs)} of a type nobody handles`,
    add: (sql) => fillReady(sql, { jobs: backlogJobs, type: 'other' }),
  },
  { name: 'lanes', title: `in ${count(LANES)} lanes`, lanes: LANES },
]

export const backlog: Row = {
  name: 'backlog',
  about: `the first ${count(JOBS)} of a drain by one pod, with much around them`,
  cases: (size) => usual(size).map((each) => toCase('backlog', each)),
}

export const pending: Row = {
  name: 'pending',
  about: 'of these the first two, with peers beside them',
  byNameOnly: true,
  cases: (size) =>
    usual(size)
      .slice(0, 2)
      .map((each) => toCase('pending', each)),
}

export const kept: Row = {
  name: 'kept',
  about: `the same beside ${count(OUTCOMES)} outcomes that are kept`,
  byNameOnly: true,
  cases: (size) =>
    [
      ...usual(size).slice(0, 1),
      {
        name: 'kept',
        title: `${count(OUTCOMES)} outcomes kept`,
        add: (sql: postgres.Sql) => fillOutcomes(sql, OUTCOMES),
      },
    ].map((each) => toCase('kept', each)),
}

const toCase = (row: string, surroundings: Surroundings): Case => ({
  row,
  title: `drain, first and last tenth left out, ${surroundings.title}`,
  metrics: [STEPS_A_SECOND],
  contenders: row === 'pending' ? [...OURS, ...PEERS] : OURS,
  measure: (contender, bench) => drainAmid(contender, bench, surroundings),
})

async function drainAmid(contender: Contender, bench: Bench, surroundings: Surroundings): Promise<Run> {
  const { adapter, profile } = contender
  const { name, jobs = JOBS, lanes = 1, add } = surroundings
  const isPlain = lanes === 1 && add === undefined
  const template = isPlain
    ? await filledTemplate(bench.copies, adapter, profile, jobs)
    : await bench.copies.template(`fleet_q_${name}`, async (url) => {
        await fillFresh(adapter, url, profile, 0)
        await withSql(url, async (sql) => {
          await add?.(sql)
          await fillReady(sql, { jobs, lanes })
        })
      })
  const { steady } = await runDrain(contender, bench, {
    pods: 1,
    jobs: JOBS,
    template,
    others: jobs > JOBS || add !== undefined,
  })
  return { figures: { rate: steady } }
}
