import { loadPeer } from './peers.ts'
import type { Adapter, Job, Profile } from './adapter.ts'
import { fillByBatches } from './adapter.ts'
import { inspectSql } from './ask.ts'

/** graphile-worker 0.18. Settings: https://worker.graphile.org/docs/performance, https://worker.graphile.org/docs/config */

interface Library {
  run(options: object): Promise<{ stop(): Promise<void>; promise: Promise<void> }>
  runMigrations(options: object): Promise<void>
  makeWorkerUtils(options: object): Promise<{
    addJob(task: string, payload: Job): Promise<unknown>
    addJobs(jobs: { identifier: string; payload: Job }[]): Promise<unknown>
    release(): Promise<void>
  }>
  Logger: new (factory: () => () => void) => unknown
}

const load = () => loadPeer<Library>('graphile-worker')

/** "Batching" of the performance page; 24 jobs and a queue of 500 were its best in our own tries (PERF.md). */
const PRESETS: Partial<Record<Profile, object>> = {
  throughput: {
    concurrentJobs: 24,
    maxPoolSize: 25,
    localQueue: { size: 500 },
    completeJobBatchDelay: 0,
    failJobBatchDelay: 0,
  },
  // A local queue holds jobs beside those that run: without it, 8 are held at most.
  eight: { concurrentJobs: 8, maxPoolSize: 10, completeJobBatchDelay: 0, failJobBatchDelay: 0 },
  ahead: {
    concurrentJobs: 8,
    maxPoolSize: 10,
    localQueue: { size: 500 },
    completeJobBatchDelay: 0,
    failJobBatchDelay: 0,
  },
  latency: { concurrentJobs: 10 },
  default: {},
}

export const graphileWorker: Adapter = {
  name: 'graphile-worker',
  store: 'postgres',
  less: 'deletes jobs when they are done: no status, no result',
  profiles: {
    throughput: 'concurrentJobs 24, maxPoolSize 25, localQueue 500, batched completions',
    eight: 'concurrentJobs 8, no local queue, batched completions',
    ahead: 'concurrentJobs 8, localQueue 500, batched completions',
    latency: 'concurrentJobs 10',
    default: 'nothing set',
  },
  drainJobs: 100_000,
  forgets: true,
  load,
  async prepare(url) {
    const { runMigrations, Logger } = await load()
    await runMigrations({ connectionString: url, logger: new Logger(() => () => {}) })
  },
  async fill(url, jobs, pad) {
    await fillByBatches(await graphileWorker.produce(url, 'throughput'), jobs, pad)
  },
  async work({ url, profile, onJob }) {
    const { run, Logger } = await load()
    const runner = await run({
      connectionString: url,
      noHandleSignals: true,
      logger: new Logger(() => () => {}),
      preset: { worker: PRESETS[profile] ?? {} },
      taskList: { job: (payload: unknown) => onJob((payload as Job).n) },
    })
    return { stop: () => runner.stop() }
  },
  async produce(url) {
    const { makeWorkerUtils, Logger } = await load()
    const utils = await makeWorkerUtils({
      connectionString: url,
      maxPoolSize: 16,
      logger: new Logger(() => () => {}),
    })
    return {
      submit: (job) => utils.addJob('job', job),
      submitMany: (jobs) => utils.addJobs(jobs.map((payload) => ({ identifier: 'job', payload }))),
      close: () => utils.release(),
    }
  },
  inspect: (url) =>
    inspectSql(url, {
      settled: 'select count(*)::int as left from graphile_worker._private_jobs',
      tally: `
        select count(*)::int as left, count(*) filter (where last_error is not null)::int as wrong
        from graphile_worker._private_jobs`,
    }),
}
