import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { withSql } from '../adapters/ask.ts'
import { countOutcomes, fillReady } from '../adapters/fleet-q.sql.ts'
import { fillFresh, filledTemplate } from '../server/copy.ts'
import { processMegabytes } from '../server/watch.ts'
import { entries, NoFigure, type Bench, type Contender, type Row, type Run } from './row.ts'

/** A pod as `npm start` and the image run it: what it takes of memory, and how soon it works. */

const SETTLE_MS = 5000
const WITHIN_MS = 20_000
const MAIN = join(import.meta.dirname, '../../dist/main.js')

const OURS = (rounds: number) => entries(['fleet-q'], 'default', rounds)

export const memory: Row = {
  name: 'memory',
  about: 'a pod with nothing to do',
  cases: () => [
    {
      row: 'memory',
      title: 'an idle pod',
      metrics: [{ key: 'megabytes', unit: 'MB of resident memory', better: 'less' }],
      contenders: OURS(1),
      measure: measureMemory,
    },
  ],
}

export const start: Row = {
  name: 'start',
  about: 'from the start of the process until it has run a step that was waiting',
  cases: () => [
    {
      row: 'start',
      title: 'start of a pod on an existing database, to its first outcome',
      metrics: [{ key: 'ms', unit: 'ms', better: 'less' }],
      contenders: OURS(5),
      measure: measureStart,
    },
  ],
}

async function withPod<T>(url: string, work: (pod: ChildProcess) => Promise<T>): Promise<T> {
  const { PATH, HOME } = process.env
  const pod = spawn(process.execPath, [MAIN], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: {
      PATH,
      HOME,
      DATABASE_URL: url,
      FLEET_Q_API_PORT: '0',
      FLEET_Q_DEMO: '1',
      FLEET_Q_LOG_FORMAT: 'json',
    },
  })
  let said = ''
  pod.stderr?.on('data', (text: Buffer) => {
    said = (said + String(text)).slice(-2000)
  })
  const gone = once(pod, 'exit')
  const ended = gone.then(([code]) =>
    Promise.reject(new Error(`the pod ended with ${String(code)}: ${said}`)),
  )
  try {
    return await Promise.race([work(pod), ended])
  } finally {
    ended.catch(() => {})
    pod.kill('SIGKILL')
    await gone
  }
}

async function measureMemory({ adapter, profile }: Contender, bench: Bench): Promise<Run> {
  const template = await filledTemplate(bench.copies, adapter, profile, 0)
  return bench.copies.withCopy(template, (url) =>
    withPod(url, async ({ pid = 0 }) => {
      await sleep(SETTLE_MS)
      return { figures: { megabytes: processMegabytes(pid) } }
    }),
  )
}

async function measureStart({ adapter, profile }: Contender, bench: Bench): Promise<Run> {
  const template = await bench.copies.template('fleet_q_start', async (url) => {
    await fillFresh(adapter, url, profile, 0)
    await withSql(url, (sql) => fillReady(sql, { jobs: 1, type: 'hello_world' }))
  })
  return bench.copies.withCopy(template, (url) =>
    withSql(url, async (sql) => {
      await countOutcomes(sql)
      const begun = performance.now()
      return withPod(url, async () => {
        while ((await countOutcomes(sql)) === 0) {
          if (performance.now() - begun > WITHIN_MS)
            throw new NoFigure(`nothing ran within ${WITHIN_MS / 1000} s`)
          await sleep(2)
        }
        return { figures: { ms: performance.now() - begun } }
      })
    }),
  )
}
