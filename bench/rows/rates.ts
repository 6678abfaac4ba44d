import { setTimeout as sleep } from 'node:timers/promises'
import { WARM_UP_JOBS } from '../process/offer.ts'
import { withChildren } from '../process/spawn.ts'
import { withFilled } from '../server/copy.ts'
import { watchCost } from '../server/watch.ts'
import { entries, type Bench, type Case, type Contender, type Row, type Run } from './row.ts'
import { expectSettled } from './settled.ts'

/** What a steady load costs the server: at a low rate each step has statements of its own, at a high one they share. */

const RATES = [10, 100, 1000, 10_000]
const SECONDS = 5
const SETTLE_MS = 1500

export const rates: Row = {
  name: 'rates',
  about: `${RATES.map((rate) => rate.toLocaleString('en')).join(', ')} steps a second for ${SECONDS} s, one pod`,
  byNameOnly: true,
  cases: () =>
    RATES.map((rate): Case => ({
      row: 'rates',
      title: `${rate.toLocaleString('en')} steps a second, submitted one by one and run by one pod`,
      metrics: [
        { key: 'core', unit: '% of a core of the server', better: 'less' },
        { key: 'wal', unit: 'kB of WAL a second', better: 'less' },
        { key: 'statements', unit: 'statements a step', better: 'less' },
      ],
      contenders: entries(['fleet-q'], 'default', 3),
      measure: (contender, bench) => bear(contender, bench, rate),
    })),
}

async function bear(contender: Contender, bench: Bench, perSecond: number): Promise<Run> {
  const { adapter, profile } = contender
  const jobs = perSecond * SECONDS
  return withFilled(bench.copies, contender, 0, (url, database) =>
    withChildren([adapter.name, adapter.name], async ([worker, producer]) => {
      if (!worker || !producer) throw new Error('no process was started')
      await worker.ask('work', { adapter: adapter.name, url, profile, jobs: jobs + WARM_UP_JOBS })
      await sleep(SETTLE_MS)
      const spent = await watchCost(bench.server, database)
      await producer.ask('offer', { adapter: adapter.name, url, profile, perSecond, jobs })
      await expectSettled(adapter, url, jobs + WARM_UP_JOBS)
      const cost = await spent()
      return {
        figures: {
          core: ((cost.cpuSeconds ?? 0) / SECONDS) * 100,
          wal: cost.walBytes / SECONDS / 1000,
          statements: cost.statements / jobs,
        },
      }
    }),
  )
}
