import type { Job, Producer } from './adapter.ts'
import { loadBuilt } from './fleet-q.ts'

type Connect = typeof import('../../src/db/connect.ts')
type Hints = typeof import('../../src/pod/hints.ts')
type Submit = typeof import('../../src/step/submit.ts')

/** No pod has this number: a call goes to all of them. */
const NO_POD = '0'
/** Of the pool that a pod's door has by default. */
const CONNECTIONS = 5
const DEADLINE_MS = 30_000

/** The submit of a pod's door, built from the same parts and pools as in a pod, without HTTP before it. */
export async function createProducer(url: string): Promise<Producer> {
  const { connect } = await loadBuilt<Connect>('db/connect.js')
  const { createHints } = await loadBuilt<Hints>('pod/hints.js')
  const { createSubmitter } = await loadBuilt<Submit>('step/submit.js')
  const pool = (max: number) =>
    connect({ url, name: 'fleet-q bench', max, pooler: false, deadlineMs: DEADLINE_MS })
  const door = pool(CONNECTIONS)
  const work = pool(CONNECTIONS)
  const shared = pool(1)
  const { say, sayBehind } = createHints(work, NO_POD)
  const submitter = createSubmitter({
    database: door,
    shared,
    callBehind: (sql, _, inserted) => sayBehind(sql, 'ready', inserted),
    onSubmitted: (_, called) => called || say('ready'),
    onReplaced: () => say('cancel'),
  })
  const wish = ({ n, pad }: Job) => ({
    type: 'job',
    args: pad === undefined ? { n } : { n, pad },
    priority: 0,
    max_retries: 3,
  })
  return {
    submit: (job) => submitter.submit([wish(job)]),
    submitMany: (jobs) => submitter.submit(jobs.map(wish)),
    async close() {
      await Promise.all([door, shared, work].map((each) => each.close()))
    },
  }
}
