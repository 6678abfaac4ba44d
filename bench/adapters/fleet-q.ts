import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Adapter, Job, Profile, WorkOptions } from './adapter.ts'
import { inspectSql, withSql } from './ask.ts'
import { CLAIMS_LEFT, fillReady, KEPT, TALLY } from './fleet-q.sql.ts'

/** Fleet-Q as users run it: the built package, pods by its public API, real handlers, statuses and results kept. */

const DIST = join(import.meta.dirname, '../../dist')

type Library = typeof import('../../src/index.ts')

export const loadBuilt = async <Module>(path: string) =>
  (await import(pathToFileURL(join(DIST, path)).href)) as Module

const load = () => loadBuilt<Library>('index.js')

/** docs/reference/settings.md. A capacity of 500 is what the peers hold at a time in their best profiles. */
const SETTINGS: Partial<Record<Profile, Record<string, string>>> = {
  throughput: { FLEET_Q_MAX_PARALLELISM: '500', FLEET_Q_CAPACITY_PERCENT: '100' },
  hundred: { FLEET_Q_MAX_PARALLELISM: '100', FLEET_Q_CAPACITY_PERCENT: '100' },
}

/** A pod with one type of step, or with none. */
export async function startPod(
  url: string,
  settings: Record<string, string> = {},
  onJob?: WorkOptions['onJob'],
) {
  const { createPod, defineStep } = await load()
  const job = defineStep('job', {}, (args, ctx) => {
    const { n } = args as Job
    const held = onJob?.(n, (name, body) => ctx.run(name, body))
    return held ? held.then(() => ({ n })) : { n }
  })
  return createPod({
    steps: onJob ? [job] : [],
    silent: true,
    settings: { FLEET_Q_API_PORT: '0', ...settings, DATABASE_URL: url },
  })
}

export const fleetQ: Adapter = {
  name: 'fleet-q',
  store: 'postgres',
  less: '',
  profiles: {
    throughput: 'capacity 500',
    eight: 'nothing set: capacity 8',
    hundred: 'capacity 100',
    latency: 'nothing set: capacity 8',
    default: 'nothing set: capacity 8',
  },
  drainJobs: 100_000,
  load,
  async prepare(url) {
    const pod = await startPod(url)
    await pod.stop()
  },
  fill: (url, jobs, pad = '') => withSql(url, (sql) => fillReady(sql, { jobs, pad })),
  async work({ url, profile, onJob, settings, handlesNothing }) {
    const pod = await startPod(url, { ...SETTINGS[profile], ...settings }, handlesNothing ? undefined : onJob)
    return { address: `http://${pod.address.host}:${pod.address.port}`, stop: () => pod.stop() }
  },
  produce: async (url) => (await import('./fleet-q-submit.ts')).createProducer(url),
  inspect: (url) => inspectSql(url, { settled: CLAIMS_LEFT, tally: TALLY, kept: KEPT }),
}
