import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Adapter, Job, Profile, Remember } from './adapter.ts'
import { fillByBatches } from './adapter.ts'
import { inspectSql, withSql } from './ask.ts'
import { loadPeer, peersFolder } from './peers.ts'

/** absurd-sdk 0.5. Settings: the options of startWorker in its README; its own defaults claim 1 task each 250 ms. */

interface Client {
  createQueue(name: string): Promise<void>
  registerTask(options: object, work: (job: Job, ctx: { step: Remember }) => Promise<unknown>): void
  startWorker(options: object): Promise<{ close(): Promise<void> }>
  spawn(name: string, job: Job, options: object): Promise<unknown>
  close(): Promise<void>
}

interface Library {
  Absurd: new (options: object) => Client
}

const load = () => loadPeer<Library>('absurd-sdk')

const OF_WORK: Partial<Record<Profile, object>> = {
  throughput: { concurrency: 100, batchSize: 100, pollInterval: 0.005 },
  eight: { concurrency: 8, batchSize: 8, pollInterval: 0.005 },
  hundred: { concurrency: 100, batchSize: 100, pollInterval: 0.005 },
  latency: { concurrency: 10, pollInterval: 0.005 },
  default: {},
}

interface Pools {
  default: { Pool: new (options: object) => object }
}

/** A pool of its own has 10 connections; one of ours is documented with its options, and as big as that of DBOS. */
async function open(url: string, profile?: Profile): Promise<Client> {
  const { Absurd } = await load()
  if (profile !== 'hundred') return new Absurd({ db: url, queueName: 'job' })
  const { Pool } = (await loadPeer<Pools>('pg')).default
  return new Absurd({ db: new Pool({ connectionString: url, max: 20 }), queueName: 'job' })
}

/** Its tables are not in the npm package: they come with its command line tool, a package of PyPI. */
const TOOL = 'absurdctl==0.5.0'
const WHEEL = join(peersFolder, 'absurdctl-0.5.0-py3-none-any.whl')
const PRINT_SQL =
  'import sys; sys.path.insert(0, sys.argv[1]); import absurdctl; print(absurdctl.BUNDLED_SCHEMA_SQL)'

function schema(): string {
  if (!existsSync(WHEEL))
    execFileSync('python3', ['-m', 'pip', 'download', '--quiet', '--no-deps', '--dest', peersFolder, TOOL], {
      stdio: ['ignore', 'ignore', 'pipe'],
    })
  return execFileSync('python3', ['-c', PRINT_SQL, WHEEL], { encoding: 'utf8', maxBuffer: 10_000_000 })
}

const AT_ONCE = 50

export const absurd: Adapter = {
  name: 'absurd',
  store: 'postgres',
  less: '',
  profiles: {
    throughput: 'concurrency 100, batchSize 100, pollInterval 5 ms',
    eight: 'concurrency 8, batchSize 8, pollInterval 5 ms',
    hundred: 'concurrency 100, batchSize 100, pollInterval 5 ms, pool 20',
    latency: 'concurrency 10, pollInterval 5 ms',
    default: 'nothing set: one task at a time, polls every 250 ms',
  },
  drainJobs: 3000,
  unavailable() {
    try {
      schema()
      return Promise.resolve(undefined)
    } catch {
      return Promise.resolve(`its SQL is not in its npm package, and python3 -m pip could not fetch ${TOOL}`)
    }
  },
  load,
  async prepare(url) {
    await withSql(url, (sql) => sql.unsafe(schema()))
    const client = await open(url)
    await client.createQueue('job')
    await client.close()
  },
  async fill(url, jobs, pad) {
    await fillByBatches(await absurd.produce(url, 'throughput'), jobs, pad)
  },
  async work({ url, profile, onJob }) {
    const client = await open(url, profile)
    client.registerTask({ name: 'job' }, async ({ n }, ctx) => {
      await onJob(n, (name, body) => ctx.step(name, body))
      return { n }
    })
    const worker = await client.startWorker({ ...OF_WORK[profile], onError: () => {} })
    return { stop: () => worker.close() }
  },
  async produce(url) {
    const client = await open(url)
    const spawn = (job: Job) => client.spawn('job', job, { queue: 'job' })
    return {
      submit: spawn,
      async submitMany(jobs) {
        for (let i = 0; i < jobs.length; i += AT_ONCE)
          await Promise.all(jobs.slice(i, i + AT_ONCE).map(spawn))
      },
      close: () => client.close(),
    }
  },
  inspect: (url) =>
    inspectSql(url, {
      settled: "select count(*)::int as ended from absurd.t_job where state = 'completed'",
      tally: `
        select count(*) filter (where state = 'completed')::int as ended,
          count(*) filter (where state in ('pending', 'running', 'sleeping'))::int as left,
          count(*) filter (where state in ('failed', 'cancelled')
            or (state = 'completed' and completed_payload -> 'n' is distinct from params -> 'n'))::int as wrong
        from absurd.t_job`,
      kept: `
        select task_id as execution, checkpoint_name as name,
          case when status = 'committed' then state end as result
        from absurd.c_job`,
    }),
}
