import { setTimeout as sleep } from 'node:timers/promises'
import postgres from 'postgres'
import { withChildren, type Spawned } from '../process/spawn.ts'
import { expectSettled } from './settled.ts'
import { withFilled } from '../server/copy.ts'
import {
  entries,
  NoFigure,
  type Bench,
  type Case,
  type Contender,
  type Entry,
  type Row,
  type Run,
} from './row.ts'

/**
 * Somebody forgets a transaction: while it is open no vacuum removes what was deleted since. A producer keeps a number
 * of jobs ahead of one worker, for minutes.
 */

const AHEAD = 5000
const BATCH = 500
const WINDOWS = 10
const ASK_MS = 20
/** For what is still waiting at the end. */
const DRAIN_MS = 60_000

const METRICS: Case['metrics'] = [
  { key: 'all', unit: 'steps/s over all', better: 'more' },
  { key: 'first', unit: 'steps/s in the first tenth', better: 'more' },
  { key: 'last', unit: 'steps/s in the last tenth', better: 'more' },
]

const OURS = entries(['fleet-q'], 'throughput', 1)
const PEERS = entries(['graphile-worker', 'pg-boss', 'bullmq-pg', 'dbos', 'absurd'], 'throughput', 1)

/** Holds something in the database until its answer is called. */
type Hold = (url: string) => Promise<() => Promise<void>>

const none: Hold = () => Promise.resolve(() => Promise.resolve())

const LOCK_ALL = `do $$ declare each regclass; begin
  for each in select oid from pg_class where relkind in ('r', 'p') and relnamespace::regnamespace::text !~ '^pg_|^inf'
  loop execute format('lock table %s in access share mode', each); end loop;
end $$`

export const pinned: Row = {
  name: 'pinned',
  about: 'a session holds a snapshot open while a producer keeps steps ahead of one pod',
  byNameOnly: true,
  cases: ({ minutes }) => [
    toCase(minutes, 'a snapshot held open', [...OURS, ...PEERS], pin),
    toCase(minutes, 'nobody holds a snapshot', OURS, none),
    toCase(minutes, 'a snapshot and a lock on every table, as pg_dump', OURS, (url) => pin(url, LOCK_ALL)),
  ],
}

const toCase = (minutes: number, what: string, contenders: Entry[], hold: Hold): Case => ({
  row: 'pinned',
  title: `${minutes} minutes at full load, ${what}`,
  metrics: METRICS,
  contenders,
  measure: (contender, bench) => runPinned(contender, bench, hold),
})

async function runPinned(contender: Contender, bench: Bench, hold: Hold): Promise<Run> {
  const { adapter, profile } = contender
  return withFilled(bench.copies, contender, 0, (url) =>
    withChildren([adapter.name, adapter.name], async ([worker, producer]) => {
      if (!worker || !producer) throw new Error('no process was started')
      const release = await hold(url)
      await worker.ask('work', { adapter: adapter.name, url, profile, jobs: 0 })
      await producer.ask('keepAhead', { adapter: adapter.name, url, profile, ahead: AHEAD, batch: BATCH })
      const windowMs = (bench.size.minutes * 60_000) / WINDOWS
      const series: number[] = []
      let before = worker.handled
      for (let window = 0; window < WINDOWS; window++) {
        const begun = performance.now()
        while (performance.now() - begun < windowMs) {
          await producer.ask('handledElsewhere', { handled: worker.handled })
          await sleep(ASK_MS)
        }
        series.push(((worker.handled - before) / (performance.now() - begun)) * 1000)
        before = worker.handled
      }
      const { submitted } = await producer.ask('stopAhead', undefined)
      await release()
      await untilHandled(worker, submitted)
      await expectSettled(adapter, url, submitted)
      return {
        figures: {
          all: series.reduce((sum, rate) => sum + rate, 0) / WINDOWS,
          first: series[0] ?? 0,
          last: series.at(-1) ?? 0,
        },
        series,
      }
    }),
  )
}

async function untilHandled(worker: Spawned, submitted: number) {
  const until = performance.now() + DRAIN_MS
  while (worker.handled < submitted && performance.now() < until) await sleep(ASK_MS)
  if (worker.handled !== submitted)
    throw new NoFigure(`${submitted} jobs were submitted, ${worker.handled} ran`)
}

/** A snapshot that is taken and kept, as by a forgotten psql or a long report. */
async function pin(url: string, statement = 'select count(*) from pg_class'): Promise<() => Promise<void>> {
  const sql = postgres(url, { max: 1, onnotice: () => {} })
  let release = () => {}
  const released = new Promise<void>((resolve) => {
    release = resolve
  })
  const taken = new Promise<void>((resolve, reject) => {
    sql
      .begin('isolation level repeatable read', async (tx) => {
        await tx.unsafe(statement)
        resolve()
        await released
      })
      .catch(reject)
  })
  await taken
  return async () => {
    release()
    await sql.end()
  }
}
