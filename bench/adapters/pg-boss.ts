import { loadPeer } from './peers.ts'
import type { Adapter, Job, Profile } from './adapter.ts'
import { fillByBatches } from './adapter.ts'
import { inspectSql } from './ask.ts'

/** pg-boss 12. Settings: https://pgboss.io/api/workers and https://pgboss.io/api/constructor */

type Batch = { id: string; data: Job }[]

interface Boss {
  start(): Promise<unknown>
  stop(options: object): Promise<void>
  on(event: 'error', listener: (error: Error) => void): void
  createQueue(name: string, options?: object): Promise<void>
  send(name: string, data: Job): Promise<unknown>
  insert(name: string, jobs: { data: Job }[]): Promise<unknown>
  work(name: string, options: object, handler: (jobs: Batch) => Promise<unknown>): Promise<string>
}

interface Library {
  PgBoss: new (options: object) => Boss
}

const load = () => loadPeer<Library>('pg-boss')

const BATCHES = { batchSize: 500, localConcurrency: 2, burstWhenBatchFull: true, pollingIntervalSeconds: 0.5 }

const OF_WORK: Partial<Record<Profile, object>> = {
  throughput: BATCHES,
  // Without it a job that was handled in a batch has no output.
  results: { ...BATCHES, perJobResults: true },
  eight: { batchSize: 8, localConcurrency: 1, burstWhenBatchFull: true, pollingIntervalSeconds: 0.5 },
  latency: { localConcurrency: 10 },
  default: {},
}

const isCalled = (profile: Profile) => profile === 'latency'

async function start(url: string, options: object): Promise<Boss> {
  const { PgBoss } = await load()
  const boss = new PgBoss({ connectionString: url, ...options })
  boss.on('error', () => {})
  await boss.start()
  return boss
}

const stop = (boss: Boss) => boss.stop({ graceful: false, close: true, timeout: 1000 })

export const pgBoss: Adapter = {
  name: 'pg-boss',
  store: 'postgres',
  less: '',
  profiles: {
    throughput: 'batchSize 500, localConcurrency 2, burstWhenBatchFull, max 10; keeps the status, no result',
    results: 'the same with perJobResults: keeps status and result',
    eight: 'batchSize 8, localConcurrency 1, burstWhenBatchFull; keeps the status, no result',
    latency: 'useListenNotify, queue with notify, localConcurrency 10',
    default: 'nothing set: polls every 2 s, one job each',
  },
  drainJobs: 100_000,
  load,
  async prepare(url) {
    const boss = await start(url, { supervise: false, schedule: false })
    await boss.createQueue('job')
    await boss.createQueue('called', { notify: true })
    await stop(boss)
  },
  async fill(url, jobs, pad) {
    await fillByBatches(await pgBoss.produce(url, 'throughput'), jobs, pad)
  },
  async work({ url, profile, onJob }) {
    const boss = await start(url, { max: 10, ...(isCalled(profile) ? { useListenNotify: true } : {}) })
    await boss.work(isCalled(profile) ? 'called' : 'job', OF_WORK[profile] ?? {}, async (jobs) => {
      const held = jobs.flatMap(({ data }) => onJob(data.n) ?? [])
      if (held.length > 0) await Promise.all(held)
      const results = jobs.map(({ id, data: { n } }) => ({ id, status: 'completed', output: { n } }))
      return profile === 'results' ? results : { ok: true }
    })
    return { stop: () => stop(boss) }
  },
  async produce(url, profile) {
    const boss = await start(url, { supervise: false, schedule: false, max: 16 })
    const queue = isCalled(profile) ? 'called' : 'job'
    return {
      submit: (job) => boss.send(queue, job),
      submitMany: (jobs) =>
        boss.insert(
          queue,
          jobs.map((data) => ({ data })),
        ),
      close: () => stop(boss),
    }
  },
  inspect: (url) =>
    inspectSql(url, {
      settled:
        "select count(*)::int as ended from pgboss.job where name in ('job', 'called') and state = 'completed'",
      tally: `
        select count(*) filter (where state = 'completed')::int as ended,
          count(*) filter (where state in ('created', 'retry', 'active'))::int as left,
          count(*) filter (where state in ('failed', 'cancelled') or (state = 'completed' and output -> 'n' <> data -> 'n'))::int as wrong
        from pgboss.job where name in ('job', 'called')`,
    }),
}
