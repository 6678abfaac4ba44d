import { setTimeout as sleep } from 'node:timers/promises'
import postgres from 'postgres'
import { withChildren } from '../process/spawn.ts'
import { filledTemplate } from '../server/copy.ts'
import { NoFigure, type Bench, type Case, type Contender, type Row, type Run } from './row.ts'

/**
 * Somebody forgets a transaction: while it is open no vacuum removes what was deleted since. A producer keeps a number
 * of jobs ahead of one worker, for minutes.
 */

const AHEAD = 5000
const BATCH = 500
const WINDOWS = 10
const ASK_MS = 20

const METRICS: Case['metrics'] = [
  { key: 'all', unit: 'steps/s over all', better: 'more' },
  { key: 'first', unit: 'steps/s in the first tenth', better: 'more' },
  { key: 'last', unit: 'steps/s in the last tenth', better: 'more' },
]

const PEERS = ['graphile-worker', 'pg-boss', 'bullmq-pg', 'dbos', 'absurd']

export const pinned: Row = {
  name: 'pinned',
  about: 'a session holds a snapshot open while a producer keeps steps ahead of one pod',
  byNameOnly: true,
  cases: ({ minutes }) =>
    [true, false].map((isPinned) => ({
      row: 'pinned',
      title: `${minutes} minutes at full load, ${isPinned ? 'a snapshot held open' : 'nobody holds a snapshot'}`,
      metrics: METRICS,
      rounds: 1,
      contenders: ['fleet-q', ...(isPinned ? PEERS : [])].map((name) => ({ name, profile: 'throughput' })),
      measure: (contender, bench) => runPinned(contender, bench, isPinned),
    })),
}

async function runPinned(contender: Contender, bench: Bench, isPinned: boolean): Promise<Run> {
  const { adapter, profile } = contender
  const template = await filledTemplate(bench.copies, adapter, profile, 0)
  return bench.copies.withCopy(template, (url) =>
    withChildren([adapter.name, adapter.name], async ([worker, producer]) => {
      if (!worker || !producer) throw new Error('no process was started')
      const unpin = isPinned ? await pin(url) : undefined
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
      await unpin?.()
      const handled = await worker.ask('handled', undefined)
      if (handled > submitted) throw new NoFigure(`${submitted} jobs were submitted, ${handled} ran`)
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

/** A snapshot that is taken and kept, as by a forgotten psql or a long report. */
async function pin(url: string): Promise<() => Promise<void>> {
  const sql = postgres(url, { max: 1, onnotice: () => {} })
  let release = () => {}
  const released = new Promise<void>((resolve) => {
    release = resolve
  })
  const taken = new Promise<void>((resolve, reject) => {
    sql
      .begin('isolation level repeatable read', async (tx) => {
        await tx`select count(*) from pg_class`
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
