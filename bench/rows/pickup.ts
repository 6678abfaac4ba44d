import { setTimeout as sleep } from 'node:timers/promises'
import { withSql } from '../adapters/ask.ts'
import { fillReady } from '../adapters/fleet-q.sql.ts'
import { machineNow } from '../process/clock.ts'
import type { Offered, Seen } from '../process/calls.ts'
import { WARM_UP_JOBS } from '../process/offer.ts'
import { withChildren, type Spawned } from '../process/spawn.ts'
import { fillFresh, withFilled } from '../server/copy.ts'
import { quantile } from './quantile.ts'
import { expectSettled } from './settled.ts'
import {
  entries,
  NoFigure,
  type Bench,
  type Case,
  type Contender,
  type Metric,
  type Row,
  type Run,
} from './row.ts'

/** How long a step that nobody waits behind takes from the answer to its submit to the start of its handler. */

const PER_SECOND = 100
/** What is offered and not started then is counted as having waited that long. */
const PATIENCE_MS = 3000
const SETTLE_MS = 1500

const metric = (key: string, unit: string): Metric => ({ key, unit, better: 'less' })
const METRICS = [
  metric('p50', 'ms, p50'),
  metric('p95', 'ms, p95'),
  metric('p99', 'ms, p99'),
  metric('max', 'ms, longest'),
  metric('call', 'ms, p50 from the call of submit'),
]

const PEERS = [
  ...entries(['graphile-worker', 'bullmq-pg', 'bullmq-redis'], 'default', 1),
  ...entries(['graphile-worker', 'pg-boss', 'dbos', 'absurd'], 'latency', 1),
]
const OURS = entries(['fleet-q'], 'default', 1)

export const pickup: Row = {
  name: 'pickup',
  about: `${PER_SECOND} a second offered to one idle worker process`,
  cases: ({ backlogJobs }) => [
    {
      row: 'pickup',
      title: `pickup at ${PER_SECOND}/s, submitted in another process`,
      metrics: METRICS,
      contenders: [...OURS, ...PEERS],
      measure: (contender, bench) => pickUpOnce(contender, bench, { samePod: false, waiting: 0 }),
    },
    ...[0, backlogJobs].flatMap((waiting) =>
      [true, false]
        .filter((samePod) => samePod || waiting > 0)
        .map((samePod): Case => ({
          row: 'pickup',
          title: `pickup at ${PER_SECOND}/s, submitted to ${samePod ? 'the same pod' : 'another pod'}${
            waiting > 0 ? `, ${waiting.toLocaleString('en')} waiting in other lanes` : ''
          }`,
          metrics: METRICS,
          contenders: OURS,
          measure: (contender, bench) => pickUpOnce(contender, bench, { samePod, waiting }),
        })),
    ),
  ],
}

interface Situation {
  samePod: boolean
  waiting: number
}

async function pickUpOnce(contender: Contender, bench: Bench, situation: Situation): Promise<Run> {
  const { adapter, profile } = contender
  const jobs = bench.size.pickupSeconds * PER_SECOND
  return withWaiting(contender, bench, situation.waiting, (url) =>
    withChildren([adapter.name, adapter.name, adapter.name], async ([worker, producer, door]) => {
      if (!worker || !producer || !door) throw new Error('no process was started')
      const work = { adapter: adapter.name, url, profile, jobs }
      const own = await worker.ask('work', work)
      // Only ours are submitted to over HTTP; each of the others has a producer of its own in the other process.
      const other =
        adapter.name === 'fleet-q' && !situation.samePod
          ? await door.ask('work', { ...work, handlesNothing: true })
          : own
      await sleep(SETTLE_MS)
      const offered = await producer.ask('offer', {
        adapter: adapter.name,
        url,
        profile,
        perSecond: PER_SECOND,
        jobs,
        ...(other.address === undefined ? {} : { address: other.address }),
      })
      await untilStarted(worker, jobs)
      // What waits elsewhere has no end.
      if (situation.waiting === 0) await expectSettled(adapter, url, jobs + WARM_UP_JOBS)
      return { figures: figuresOf(offered, await worker.ask('seen', undefined), jobs) }
    }),
  )
}

async function withWaiting<T>(
  contender: Contender,
  { copies }: Bench,
  waiting: number,
  work: (url: string) => Promise<T>,
): Promise<T> {
  if (waiting === 0) return withFilled(copies, contender, 0, work)
  const { adapter, profile } = contender
  const template = await copies.template(`${adapter.name}_others_${waiting}`, async (url) => {
    await fillFresh(adapter, url, profile, 0)
    await withSql(url, (sql) => fillReady(sql, { jobs: waiting, type: 'other', lanes: 100 }))
  })
  return copies.withCopy(template, work)
}

async function untilStarted(worker: Spawned, jobs: number) {
  const until = machineNow() + PATIENCE_MS
  while (machineNow() < until) {
    const { runs } = await worker.ask('seen', undefined)
    if (runs.filter((count) => count > 0).length >= jobs) return
    await sleep(50)
  }
}

function figuresOf({ calledAt, ackedAt }: Offered, { startedAt, runs }: Seen, jobs: number) {
  if (runs.some((count) => count > 1)) throw new NoFigure('jobs ran more than once')
  const never = runs.filter((count) => count === 0).length
  if (never > 0)
    throw new NoFigure(`${never} of ${jobs} jobs had not started ${PATIENCE_MS / 1000} s after the last`)
  const waits = ackedAt.map((at, n) => Math.max(0, (startedAt[n] ?? 0) - at)).toSorted()
  const fromCall = calledAt.map((at, n) => (startedAt[n] ?? 0) - at).toSorted()
  return {
    p50: quantile(waits, 0.5),
    p95: quantile(waits, 0.95),
    p99: quantile(waits, 0.99),
    max: quantile(waits, 1),
    call: quantile(fromCall, 0.5),
  }
}
