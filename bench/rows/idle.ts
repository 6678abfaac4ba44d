import { setTimeout as sleep } from 'node:timers/promises'
import { withChildren } from '../process/spawn.ts'
import { withFilled } from '../server/copy.ts'
import { watchCost } from '../server/watch.ts'
import { entries, type Bench, type Case, type Contender, type Row, type Run } from './row.ts'

/** What workers cost that have nothing to do. */

/** The slowest rhythms of those compared are five seconds; what a start leaves to do is done by then. */
const SETTLE_MS = 6000
const WATCH_MS = 15_000
const WORKERS = 4
const PODS = 200
const PROCESSES = 4

export const idle: Row = {
  name: 'idle',
  about: 'workers that have nothing to do, with default settings',
  cases: (): Case[] => [
    {
      row: 'idle',
      title: `an idle worker, of ${WORKERS}`,
      metrics: [
        { key: 'statements', unit: 'statements/s', better: 'less' },
        { key: 'wal', unit: 'bytes of WAL/s', better: 'less' },
      ],
      contenders: entries(
        ['fleet-q', 'graphile-worker', 'pg-boss', 'bullmq-pg', 'dbos', 'absurd'],
        'default',
        1,
      ),
      async measure(contender, bench) {
        const { statements, wal } = await watchIdle(contender, bench, WORKERS, 1)
        return { figures: { statements: statements / WORKERS, wal: wal / WORKERS } }
      },
    },
  ],
}

export const fleet: Row = {
  name: 'fleet',
  about: `${PODS} idle pods on one server`,
  byNameOnly: true,
  cases: (): Case[] => [
    {
      row: 'fleet',
      title: `${PODS} idle pods together`,
      metrics: [
        { key: 'cpu', unit: '% of a core of the server', better: 'less' },
        { key: 'statements', unit: 'statements/s', better: 'less' },
      ],
      contenders: entries(['fleet-q'], 'default', 1),
      async measure(contender, bench): Promise<Run> {
        const { cpu, statements } = await watchIdle(contender, bench, PROCESSES, PODS / PROCESSES)
        return { figures: { cpu, statements } }
      },
    },
  ],
}

async function watchIdle(contender: Contender, bench: Bench, processes: number, times: number) {
  const { adapter, profile } = contender
  return withFilled(bench.copies, contender, 0, (url, database) =>
    withChildren(
      Array.from({ length: processes }, () => adapter.name),
      async (children) => {
        const work = { adapter: adapter.name, url, profile, jobs: 0, times }
        await Promise.all(children.map((child) => child.ask('work', work)))
        await sleep(SETTLE_MS)
        const spent = await watchCost(bench.server, database)
        const begun = performance.now()
        await sleep(WATCH_MS)
        const { statements, cpuSeconds = 0, walBytes } = await spent()
        const seconds = (performance.now() - begun) / 1000
        return {
          statements: statements / seconds,
          cpu: (cpuSeconds / seconds) * 100,
          wal: walBytes / seconds,
        }
      },
    ),
  )
}
