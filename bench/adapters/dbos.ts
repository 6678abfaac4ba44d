import type { Adapter, Profile, WorkOptions } from './adapter.ts'
import { fillByBatches } from './adapter.ts'
import { inspectSql } from './ask.ts'
import { loadPeer } from './peers.ts'

/** DBOS Transact 5. Settings: https://docs.dbos.dev/typescript/reference/queues and .../reference/configuration */

interface Library {
  DBOS: {
    setConfig(config: object): void
    launch(): Promise<void>
    shutdown(): Promise<void>
    registerQueue(name: string, options: object): Promise<unknown>
    registerWorkflow(work: (n: number) => Promise<unknown>, options: object): unknown
    runStep<T>(body: () => Promise<T>, options: object): Promise<T>
  }
  DBOSClient: { create(options: object): Promise<Client> }
}

interface Client {
  enqueue(options: object, n: number, pad: string | undefined): Promise<unknown>
  destroy(): Promise<void>
}

const load = () => loadPeer<Library>('@dbos-inc/dbos-sdk')

const NAME = 'bench'
const VERSION = 'bench'

const OF_QUEUE: Partial<Record<Profile, object>> = {
  throughput: { workerConcurrency: 500, minPollingIntervalMs: 5 },
  eight: { workerConcurrency: 8, minPollingIntervalMs: 5 },
  hundred: { workerConcurrency: 100, minPollingIntervalMs: 5 },
  latency: { minPollingIntervalMs: 5 },
  default: {},
}

const silent = { info() {}, debug() {}, warn() {}, error() {} }

async function launch(url: string, profile: Profile, onJob: WorkOptions['onJob']) {
  const { DBOS } = await load()
  DBOS.setConfig({
    name: NAME,
    systemDatabaseUrl: url,
    applicationVersion: VERSION,
    executorID: `${NAME}-${process.pid}`,
    logger: silent,
    ...(profile === 'default' ? {} : { systemDatabasePoolSize: 20 }),
  })
  DBOS.registerWorkflow(
    async (n) => {
      await onJob(n, (name, body) => DBOS.runStep(body, { name }))
      return { n }
    },
    { name: 'job' },
  )
  await DBOS.launch()
  await DBOS.registerQueue('job', { ...OF_QUEUE[profile], onConflict: 'always_update' })
  return { stop: () => DBOS.shutdown() }
}

/** It has no call for many: they go side by side, so many at once. */
const AT_ONCE = 50

export const dbos: Adapter = {
  name: 'dbos',
  store: 'postgres',
  less: '',
  profiles: {
    throughput: 'workerConcurrency 500, minPollingIntervalMs 5, pool 20',
    eight: 'workerConcurrency 8, minPollingIntervalMs 5, pool 20',
    hundred: 'workerConcurrency 100, minPollingIntervalMs 5, pool 20',
    latency: 'minPollingIntervalMs 5, pool 20',
    default: 'nothing set: polls every second',
  },
  drainJobs: 3000,
  load,
  // A queue that is changed after its first poll keeps the old interval: 1 s instead of 5 ms.
  storesProfile: true,
  async prepare(url, profile) {
    const { stop } = await launch(url, profile, () => undefined)
    await stop()
  },
  async fill(url, jobs, pad) {
    await fillByBatches(await dbos.produce(url, 'throughput'), jobs, pad)
  },
  work: ({ url, profile, onJob }) => launch(url, profile, onJob),
  async produce(url) {
    const { DBOSClient } = await load()
    const client = await DBOSClient.create({
      systemDatabaseUrl: url,
      systemDatabasePoolSize: 16,
      applicationName: NAME,
      logger: silent,
    })
    const wish = { queueName: 'job', workflowName: 'job', appVersion: VERSION }
    return {
      submit: ({ n, pad }) => client.enqueue(wish, n, pad),
      async submitMany(jobs) {
        for (let i = 0; i < jobs.length; i += AT_ONCE)
          await Promise.all(jobs.slice(i, i + AT_ONCE).map(({ n, pad }) => client.enqueue(wish, n, pad)))
      },
      close: () => client.destroy(),
    }
  },
  inspect: (url) =>
    inspectSql(url, {
      settled: "select count(*)::int as ended from dbos.workflow_status where status = 'SUCCESS'",
      tally: `
        select count(*) filter (where status = 'SUCCESS')::int as ended,
          count(*) filter (where status in ('ENQUEUED', 'PENDING', 'DELAYED'))::int as left,
          count(*) filter (where status not in ('SUCCESS', 'ENQUEUED', 'PENDING', 'DELAYED'))::int as wrong
        from dbos.workflow_status`,
      kept: `
        select workflow_uuid as execution, function_name as name, output::jsonb -> 'json' as result
        from dbos.operation_outputs`,
    }),
}
