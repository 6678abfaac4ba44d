import { setTimeout as sleep } from 'node:timers/promises'
import type postgres from 'postgres'
import { withSql } from '../adapters/ask.ts'
import { dieSoon, fillOrphans, fillReady, readCycles, type CycleSpan } from '../adapters/fleet-q.sql.ts'
import { machineNow } from '../process/clock.ts'
import { withChildren } from '../process/spawn.ts'
import { fillFresh } from '../server/copy.ts'
import { entries, NoFigure, type Bench, type Contender, type Row, type Run } from './row.ts'

/** A pod that dies under very many steps: how long until they are back, and what the others notice of it. */

const ORPHANS = 100_000
const STEPS_PER_CLAIM = 500
const DIES_AFTER_MS = 4000
const WITHIN_MS = 40_000
/** What another pod drains meanwhile: more than it can. */
const JOBS = 600_000

const SETTINGS = {
  FLEET_Q_HEARTBEAT_SECONDS: '1',
  FLEET_Q_DEAD_AFTER_SECONDS: '3',
  FLEET_Q_RECOVERY_SECONDS: '1',
}

export const recovery: Row = {
  name: 'recovery',
  about: `${ORPHANS.toLocaleString('en')} steps of a dead pod put back while another pod drains`,
  cases: () => [
    {
      row: 'recovery',
      title: `${ORPHANS.toLocaleString('en')} orphaned steps put back`,
      metrics: [
        { key: 'seconds', unit: 's', better: 'less' },
        { key: 'slower', unit: 'times slower is another pod meanwhile', better: 'less' },
      ],
      contenders: entries(['fleet-q'], 'throughput', 1),
      measure: recoverOnce,
    },
  ],
}

async function recoverOnce(contender: Contender, bench: Bench): Promise<Run> {
  const { adapter, profile } = contender
  const template = await bench.copies.template('fleet_q_orphans', async (url) => {
    await fillFresh(adapter, url, profile, 0)
    await withSql(url, async (sql) => {
      await fillOrphans(sql, { jobs: ORPHANS, perClaim: STEPS_PER_CLAIM, type: 'lost' })
      await fillReady(sql, { jobs: JOBS })
    })
  })
  return bench.copies.withCopy(template, (url) =>
    withSql(url, (sql) =>
      withChildren([adapter.name, adapter.name], async ([leader, worker]) => {
        if (!leader || !worker) throw new Error('no process was started')
        await dieSoon(sql, DIES_AFTER_MS)
        const work = { adapter: adapter.name, url, profile, settings: SETTINGS }
        await leader.ask('work', { ...work, jobs: 0, handlesNothing: true })
        await worker.ask('work', { ...work, jobs: JOBS })
        const span = await untilRecovered(sql)
        await sleep(500)
        const { startedAt } = await worker.ask('seen', undefined)
        const rate = (fromMs: number, toMs: number) =>
          startedAt.filter((at) => at >= fromMs && at < toMs).length / (toMs - fromMs)
        const before = rate(span.fromMs - 1500, span.fromMs)
        return {
          figures: {
            seconds: (span.toMs - span.fromMs) / 1000,
            slower: before / rate(span.fromMs, Math.max(span.toMs, span.fromMs + 100)),
          },
        }
      }),
    ),
  )
}

/** On the clock of the machine, as the handlers' starts are. */
async function untilRecovered(sql: postgres.Sql): Promise<CycleSpan> {
  const until = machineNow() + WITHIN_MS
  for (;;) {
    const asked = machineNow()
    const { requeued, agoFromMs, agoToMs } = await readCycles(sql)
    if (requeued > ORPHANS) throw new NoFigure(`${requeued} were put back, of ${ORPHANS}`)
    if (requeued === ORPHANS) return { fromMs: asked - agoFromMs, toMs: asked - agoToMs }
    if (machineNow() > until)
      throw new NoFigure(`${requeued} of ${ORPHANS} were put back in ${WITHIN_MS / 1000} s`)
    await sleep(100)
  }
}
