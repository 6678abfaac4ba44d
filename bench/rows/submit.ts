import { withChildren } from '../process/spawn.ts'
import type { Submitted } from '../process/calls.ts'
import { withFilled } from '../server/copy.ts'
import { STEPS_A_SECOND } from './drain.ts'
import { entries, NoFigure, type Bench, type Case, type Contender, type Row, type Run } from './row.ts'

/** Submits, until they are committed. */

const FAST = ['fleet-q', 'graphile-worker', 'pg-boss', 'bare']
const SLOW = ['bullmq-pg', 'bullmq-redis', 'dbos', 'absurd']
const CALLERS = 16
const BATCH = 1000
const CONNECTIONS = 64

const producers = () => [...entries(FAST, 'throughput', 2), ...entries(SLOW, 'throughput', 1)]

export const submit: Row = {
  name: 'submit',
  about: `${CALLERS} callers in one process, a step each time`,
  cases: (): Case[] => [
    {
      row: 'submit',
      title: `submit, ${CALLERS} callers in one process`,
      metrics: [STEPS_A_SECOND],
      contenders: producers(),
      measure: (contender, bench) => submitOnce(contender, bench, CALLERS, 1),
    },
  ],
}

export const bulk: Row = {
  name: 'bulk',
  about: `one caller, ${BATCH} steps each time`,
  cases: (): Case[] => [
    {
      row: 'bulk',
      title: `submit, batches of ${BATCH}`,
      metrics: [STEPS_A_SECOND],
      contenders: producers(),
      measure: (contender, bench) => submitOnce(contender, bench, 1, BATCH),
    },
  ],
}

/** A server of either is compiled within that time; in its first second it answers half as many. */
const WARM_UP_MS = 3000

export const http: Row = {
  name: 'http',
  about: `POST /submit over ${CONNECTIONS} connections that are kept`,
  cases: (): Case[] => [
    {
      row: 'http',
      title: `POST /submit, ${CONNECTIONS} connections`,
      metrics: [{ key: 'rate', unit: 'requests/s', better: 'more' }],
      contenders: entries(['fleet-q', 'hono'], 'default', 2),
      measure: requestOnce,
    },
  ],
}

async function submitOnce(contender: Contender, bench: Bench, callers: number, batch: number): Promise<Run> {
  const { adapter, profile } = contender
  return withFilled(bench.copies, contender, 0, (url) =>
    withChildren([adapter.name], async ([child]) => {
      if (!child) throw new Error('no process was started')
      const ms = bench.size.submitMs
      const submitted = await child.ask('submit', { adapter: adapter.name, url, profile, callers, ms, batch })
      await countAgain(contender, url, submitted)
      return { figures: { rate: (submitted.jobs / submitted.ms) * 1000 } }
    }),
  )
}

async function requestOnce(contender: Contender, bench: Bench): Promise<Run> {
  const { adapter, profile } = contender
  return withFilled(bench.copies, contender, 0, (url) =>
    withChildren([adapter.name, adapter.name], async ([pod, client]) => {
      if (!pod || !client) throw new Error('no process was started')
      const { address } = await pod.ask('work', {
        adapter: adapter.name,
        url,
        profile,
        jobs: 0,
        handlesNothing: true,
      })
      if (address === undefined) throw new Error(`${adapter.name} serves no HTTP`)
      const body = { type: 'job', args: { n: 1 } }
      const ask = (ms: number) => client.ask('request', { address, body, connections: CONNECTIONS, ms })
      const warmUp = await ask(WARM_UP_MS)
      const submitted = await ask(bench.size.submitMs)
      if (adapter.store !== 'none')
        await countAgain(contender, url, { ...submitted, jobs: warmUp.jobs + submitted.jobs })
      return { figures: { rate: (submitted.jobs / submitted.ms) * 1000 } }
    }),
  )
}

/** What was answered is there: no more and no less. */
async function countAgain({ adapter }: Contender, url: string, { jobs }: Submitted): Promise<void> {
  const inspector = adapter.inspect(url)
  const { left, ended } = await inspector.tally()
  await inspector.close()
  if (left + ended !== jobs)
    throw new NoFigure(`${jobs} submits were answered, ${left + ended} jobs are there`)
}
