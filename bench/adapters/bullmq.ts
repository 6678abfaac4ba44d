import type { Adapter, Job, Profile, WorkOptions } from './adapter.ts'
import { fillByBatches } from './adapter.ts'
import { inspectSql } from './ask.ts'
import { loadPeer } from './peers.ts'

/** BullMQ 6 on Postgres. Settings: https://docs.bullmq.io/guide/workers/concurrency, and its Postgres pages */

interface Queue {
  add(name: string, data: Job): Promise<unknown>
  addBulk(jobs: { name: string; data: Job }[]): Promise<unknown>
  waitUntilReady(): Promise<unknown>
  obliterate(options: object): Promise<void>
  getJobCounts(...states: string[]): Promise<Record<string, number>>
  close(): Promise<void>
}

interface Worker {
  on(event: 'error', listener: (error: Error) => void): void
  waitUntilReady(): Promise<unknown>
  close(force: boolean): Promise<void>
}

interface Library {
  Queue: new (name: string, options: object, backend?: unknown) => Queue
  Worker: new (
    name: string,
    work: (job: { data: Job }) => Promise<unknown>,
    options: object,
    backend?: unknown,
  ) => Worker
  createPostgresBackend: unknown
}

export const load = () => loadPeer<Library>('bullmq')

/** 100 was the best of our own tries; 1, 10, 25, 50, 100, 200 (PERF.md). */
export const OF_WORK: Partial<Record<Profile, object>> = {
  throughput: { concurrency: 100 },
  eight: { concurrency: 8 },
  latency: { concurrency: 10 },
  default: {},
}

export const PROFILES = {
  throughput: 'concurrency 100',
  eight: 'concurrency 8',
  latency: 'concurrency 10',
  default: 'nothing set: one job at a time',
}

const POOL_MAX = 20

/** Its backend decides what `connection` is. */
export async function createWorker(
  connection: object,
  profile: Profile,
  onJob: WorkOptions['onJob'],
  settings: Record<string, string>,
  backend?: unknown,
) {
  const { Worker } = await load()
  const worker = new Worker(
    'job',
    async ({ data: { n } }) => {
      await onJob(n)
      return { n }
    },
    { connection, ...OF_WORK[profile], ...numbers(settings) },
    backend,
  )
  worker.on('error', () => {})
  await worker.waitUntilReady()
  return { stop: () => worker.close(true) }
}

export async function createProducer(connection: object, backend?: unknown) {
  const { Queue } = await load()
  const queue = new Queue('job', { connection }, backend)
  await queue.waitUntilReady()
  return {
    submit: (job: Job) => queue.add('job', job),
    submitMany: (jobs: Job[]) => queue.addBulk(jobs.map((data) => ({ name: 'job', data }))),
    close: () => queue.close(),
  }
}

const numbers = (settings: Record<string, string>) =>
  Object.fromEntries(Object.entries(settings).map(([name, value]) => [name, Number(value)]))

const connectionTo = (url: string) => ({ connectionString: url, max: POOL_MAX })

export const bullmqPg: Adapter = {
  name: 'bullmq-pg',
  store: 'postgres',
  less: '',
  profiles: PROFILES,
  drainJobs: 3000,
  load,
  async prepare(url) {
    const { createPostgresBackend } = await load()
    const producer = await createProducer({ ...connectionTo(url), migrate: true }, createPostgresBackend)
    await producer.close()
  },
  async fill(url, jobs, pad) {
    await fillByBatches(await bullmqPg.produce(url, 'throughput'), jobs, pad)
  },
  async work({ url, profile, onJob, settings = {} }) {
    const { createPostgresBackend } = await load()
    return createWorker(connectionTo(url), profile, onJob, settings, createPostgresBackend)
  },
  async produce(url) {
    const { createPostgresBackend } = await load()
    return createProducer(connectionTo(url), createPostgresBackend)
  },
  inspect: (url) =>
    inspectSql(url, {
      settled: "select count(*)::int as ended from bullmq.job where state = 'completed'",
      tally: `
        select count(*) filter (where state = 'completed')::int as ended,
          count(*) filter (where state not in ('completed', 'failed'))::int as left,
          count(*) filter (where state = 'failed')::int as wrong
        from bullmq.job`,
    }),
}
